//! The records this node holds: its own, and as a serving node those of others.
//!
//! A record enters by [`Records::offer`]: bounds and signatures first, then what is held already
//! ([`merge`]: per signer the newest, the incumbent of a number stays), then the slow proof, by one worker.
//! Nothing is held, served or written before all of that. Kademlia's inbound puts come the same way
//! (`StoreInserts::FilterBoth`), because only so is the sender of each put known.
//!
//! Bounds and what gives way: see [`Limits`](super::Limits). Own records never give way.

mod disk;
mod proofs;
mod records;
mod shares;
#[cfg(test)]
mod tests;

pub(super) use disk::{Disk, Loaded};
pub(super) use proofs::Verdicts;
pub(super) use records::{Offer, Records, Refused};
