//! The telephone's keys, judged by what is heard and told: dial pad, mute, hold with music, volume, a second call.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at what it is about")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod presence;
mod scene;
mod second;
mod sounds;
mod transfer;
mod unwanted;
