//! Offhook, a telephone network without an operator, as a library.
//!
//! Everybody has a number; a DHT knows where it is; voice and text go straight between two computers.

pub mod api;
pub mod audio;
pub mod media;
pub mod net;
pub mod storage;

pub use offhook_proto as proto;
