//! Signed records of the DHT: account and terminal records as a mergeable set.
