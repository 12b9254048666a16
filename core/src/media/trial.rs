//! What the benchmark `traces` reaches of this module.

pub use super::voice::trial::{Heard, Passing, speech, talk};
