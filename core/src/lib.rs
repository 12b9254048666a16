//! Offhook, a telephone network without an operator, as a library.
//!
//! Everybody has a number; a DHT knows where it is; voice and text go straight between two computers.
//! Start with [`phone::Phone::builder`]; `examples/caller.rs` and `examples/callee.rs` are whole programs.
//!
//! | module | what it is |
//! |---|---|
//! | [`phone`] | handles: a telephone and its calls |
//! | [`api`] | commands, replies, events and errors, as data |
//! | [`storage`] | accounts and what they keep |
//! | [`directory`] | a directory's accounts: sign up, log in, backups, chosen numbers |
//! | [`audio`] | devices, files, the codec |
//! | [`recording`] | recordings of calls, and messages that callers have left |
//! | [`net`] | the network: also what a directory is made of |
//! | [`media`] | the media of one call |
//! | [`relay`] | a relay for media, which a directory offers |
//! | `http` (feature) | metrics and health of a node or telephone over HTTP |
//! | `web` (feature `http`) | the public web server of a directory, on its front |
//! | [`proto`] | the pure protocol underneath |

pub mod api;
pub mod audio;
pub mod clock;
pub mod directory;
mod engine;
mod fair;
#[cfg(feature = "http")]
pub mod http;
pub mod media;
pub mod net;
pub mod phone;
pub mod recording;
pub mod relay;
pub mod sites;
pub mod storage;
mod tls;
mod turn;
#[cfg(feature = "http")]
pub mod web;

pub use offhook_proto as proto;
pub use turn::{TurnServer, TurnServerError};
