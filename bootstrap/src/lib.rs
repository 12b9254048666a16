//! The directory node as a library: what `offhook-directory` runs.
//!
//! A directory makes the network easier to enter and owns nobody: it serves the DHT, passes signalling on to the
//! terminals registered with it, answers STUN and relays libp2p circuits for signalling. It carries no media.
//!
//! ```text
//!   cli      arguments, logs, signals
//!   config   flag > environment > file > default
//!   node     Directory::{bind, shutdown}: key, network, HTTP
//!   http     /health, /metrics
//! ```

pub mod cli;
pub mod config;
mod http;
pub mod key;
pub mod node;
