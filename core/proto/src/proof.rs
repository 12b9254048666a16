//! The slow hash that makes plain numbers dear.
