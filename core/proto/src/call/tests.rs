//! Tests of the call machine: on a virtual clock and a virtual network, with plain packets. Sealing is tested in
//! [`crate::signalling`].

#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm)]
#![allow(clippy::disallowed_methods, reason = "the virtual clock has to begin somewhere")]

mod basics;
mod bounds;
mod chance;
mod crafted;
mod failures;
mod party;
mod presence;
mod races;
mod schedules;
mod search;
mod texts;
mod transfers;
mod user;
mod watch;
mod work;
mod world;
