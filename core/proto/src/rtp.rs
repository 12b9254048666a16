//! RTP packets (RFC 3550) and their framing over QUIC datagrams.
