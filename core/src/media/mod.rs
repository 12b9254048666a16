//! Media between two terminals: one UDP socket, ICE, QUIC, RTP.
