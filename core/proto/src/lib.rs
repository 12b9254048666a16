//! The protocol of Offhook, pure: no socket, file, clock or randomness of its own.
//!
//! Time comes in as an argument ([`std::time::Instant`] for timers, [`wire::UnixMillis`] for what is
//! signed), randomness as seeds. Machines take inputs, and are polled for outputs and for the next time-out.

// What they forbid is listed in clippy.toml beside Cargo.toml.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod backup;
pub mod call;
pub mod courier;
pub mod descriptor;
pub mod dialog;
pub mod emodel;
pub mod identity;
pub mod jitter;
pub mod knock;
pub mod list;
pub mod mailbox;
pub mod number;
pub mod opaque;
pub mod proof;
pub mod puzzle;
pub mod rate;
pub mod record;
pub mod recording;
pub mod redundancy;
pub mod relay;
pub mod request;
pub mod rtp;
pub mod screening;
mod sealed;
pub mod service;
pub mod signalling;
pub mod verify;
pub mod wire;
