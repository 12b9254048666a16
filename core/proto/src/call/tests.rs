//! Tests of the call machine: on a virtual clock and a virtual network, with plain packets. Sealing is tested in
//! [`crate::signalling`].

#![allow(clippy::unwrap_used, clippy::panic)]

mod basics;
mod bounds;
mod failures;
mod party;
mod races;
mod schedules;
mod user;
mod world;
