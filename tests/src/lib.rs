//! Network lab, scoring and helpers for the end-to-end tests and benchmarks.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod bare;
#[cfg(feature = "library")]
pub mod bench;
pub mod call;
pub mod coturn;
pub mod draws;
#[cfg(feature = "peer")]
pub mod hostile;
pub mod lab;
pub mod meeting;
#[cfg(feature = "people")]
pub mod people;
pub mod phone;
pub mod postgres;
pub mod program;
pub mod score;
pub mod speech;
