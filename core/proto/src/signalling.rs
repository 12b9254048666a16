//! Signalling messages, sealed and signed.
