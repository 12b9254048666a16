//! The directory node.
fn main() {}
