//! The control socket of a running terminal: `HOME/control.sock`, a Unix socket that only its owner can
//! open, with one JSON object a line. Terminals beside the first have [sockets] of their own.
//!
//! In: the commands of [`offhook::api::Command`], and `{"command":"subscribe"}`. Out: for each command, in
//! their order, one reply (`{"reply":…}`, errors as `{"reply":"error","exit":…,"code":…,"message":…}`); once
//! subscribed, events (`{"event":…,"t_ns":…}`) in between.

mod client;
pub mod protocol;
mod server;
pub mod sockets;

pub use client::Remote;
pub use server::{ControlSocket, Limits};

#[cfg(test)]
mod tests;
