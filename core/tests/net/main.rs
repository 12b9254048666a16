//! Several nodes in one process, on loopback: publishing, looking up, passing on, and what hostile nodes try.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at what it is about")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod delegation;
mod descriptors;
mod fixture;
#[cfg(feature = "http")]
mod front;
mod homes;
mod hostile;
mod liar;
mod privacy;
mod private;
mod records;
mod restart;
mod serving;
mod signalling;
mod stand_ins;
mod stun;
mod tickets;
