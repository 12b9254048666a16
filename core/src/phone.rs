//! The public handles: [`Phone`](crate::phone) and its calls.
