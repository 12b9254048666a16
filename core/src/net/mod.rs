//! The network: libp2p swarm, DHT, signalling service.
