//! The records this node holds: its own, and as a serving node those of others.
//!
//! A record enters by [`Records::offer`], waits its turn, and is looked at by one worker off the swarm's task:
//! signatures first, then what is held already ([`merge`]: per signer the newest, the incumbent of a number stays), then
//! the slow proof. Nothing is held, served or written before all of that. Kademlia's inbound puts come the same way
//! (`StoreInserts::FilterBoth`), because only so is the sender of each put known.
//!
//! Descriptors of directories come the same way, lie beside the records, and have nothing slow to prove.
//!
//! What is acknowledged is on disk. What the disk refused is held, served, and written again until it is there.
//!
//! No clock is trusted to delete: a record that is over stays, unserved, until this node has run for a day with it, or
//! until the room is needed.
//!
//! Bounds and what gives way: see [`Limits`](super::Limits). Own records never give way.

#[cfg(test)]
mod descriptor_tests;
mod descriptors;
mod disk;
mod proofs;
mod records;
mod shares;
#[cfg(test)]
mod tests;

pub(super) use disk::{Disk, Loaded, Met};
pub(super) use proofs::Verdicts;
pub(super) use records::{Offer, Records, Refused, Worked};
