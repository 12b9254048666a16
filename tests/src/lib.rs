//! Network lab, scoring and helpers for the end-to-end tests and benchmarks.

pub mod lab;
