//! Several nodes in one process, on loopback: publishing, looking up, passing on, and what hostile nodes try.

mod common;
mod fixture;
mod hostile;
mod privacy;
mod records;
mod restart;
mod signalling;
mod stun;
