//! The headless terminal.
fn main() {}
