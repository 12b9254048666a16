//! Encoding: CBOR, signed envelopes, time stamps.
