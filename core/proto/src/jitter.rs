//! Jitter buffer and concealment decisions.
