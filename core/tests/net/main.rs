//! Several nodes in one process, on loopback: publishing, looking up, passing on, and what hostile nodes try.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod fixture;
mod hostile;
mod privacy;
mod records;
mod restart;
mod signalling;
mod stun;
