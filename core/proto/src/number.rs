//! Numbers: what is dialled.
