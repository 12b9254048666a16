//! The media relay over real sockets on loopback.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod calls;
mod client;
mod courier;
mod raw;
mod refusals;
