//! Reliable, ordered exchange of messages between two terminals over lossy routes.
