//! How much of the relay each may use. Pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use offhook_proto::identity::TerminalId;
use offhook_proto::relay::RelayClass;
use thiserror::Error;

use crate::net::Source;

/// Bounds on what the relay's users may have. What happens at each bound is said beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayQuotas {
    /// Allocations at a time; further ones are refused with 508 (Insufficient Capacity).
    pub allocations: usize,
    /// Allocations at a time from one /24 or /64; further ones are refused with 486 (Allocation Quota Reached).
    pub per_source: usize,
    /// Allocations at a time of a terminal of this directory: a call that rings at several terminals has one for each.
    /// A further one takes the place of one that the terminal has left behind, or is refused with 486.
    pub per_full: usize,
    /// The same of a guest.
    pub per_guest: usize,
    /// Bits per second that an allocation of a terminal of this directory relays in each direction (bursts: one second's
    /// worth); more are dropped.
    pub full_bits: u64,
    /// The same of a guest's.
    pub guest_bits: u64,
    /// Bits per second that all allocations relay together, both directions (bursts: one second's worth); more are dropped.
    pub total_bits: u64,
    /// An allocation over which nothing has gone for so long ends, however often it is refreshed.
    pub idle: Duration,
    /// Connections over TCP and TLS at a time; further ones are closed at once.
    pub connections: usize,
    /// The same from one /24 or /64.
    pub connections_per_source: usize,
    /// Answers per second to one IPv4 address or IPv6 /64 that has not shown a ticket: STUN, challenges, refusals. More
    /// requests are dropped.
    pub answers_per_host: u32,
}

impl Default for RelayQuotas {
    fn default() -> Self {
        Self {
            allocations: 2_000,
            per_source: 200,
            per_full: 8,
            per_guest: 1,
            full_bits: 3_000_000,
            guest_bits: 256_000,
            total_bits: 200_000_000,
            idle: Duration::from_secs(180),
            connections: 2_048,
            connections_per_source: 128,
            answers_per_host: 100,
        }
    }
}

impl RelayQuotas {
    /// Allocations at a time of one user of a class.
    pub(super) fn per_user(&self, class: RelayClass) -> usize {
        match class {
            RelayClass::Full => self.per_full,
            RelayClass::Guest => self.per_guest,
        }
    }

    /// Bits per second and direction of one allocation of a class.
    pub(super) fn bits(&self, class: RelayClass) -> u64 {
        match class {
            RelayClass::Full => self.full_bits,
            RelayClass::Guest => self.guest_bits,
        }
    }
}

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub(super) enum Full {
    /// The user's own.
    #[error("the user has as many allocations as he may")]
    User,
    /// The /24's or /64's.
    #[error("the network has as many as it may")]
    Source,
    /// The relay's.
    #[error("the relay is full")]
    Total,
}

/// What is counted for one allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) class: RelayClass,
    pub(super) terminal: TerminalId,
    pub(super) source: Source,
}

/// How many allocations there are, and whose.
#[derive(Default)]
pub(super) struct Quotas {
    total: usize,
    users: Counts<(RelayClass, TerminalId)>,
    sources: Counts<Source>,
}

impl Quotas {
    /// Counts an allocation, if there may be one more. It is to be [given back](Self::leave).
    pub(super) fn enter(&mut self, claim: Claim, limits: &RelayQuotas) -> Result<(), Full> {
        if self.users.of(&(claim.class, claim.terminal)) >= limits.per_user(claim.class) {
            return Err(Full::User);
        }
        if self.sources.of(&claim.source) >= limits.per_source {
            return Err(Full::Source);
        }
        if self.total >= limits.allocations {
            return Err(Full::Total);
        }
        self.total += 1;
        self.users.add((claim.class, claim.terminal));
        self.sources.add(claim.source);
        Ok(())
    }

    pub(super) fn leave(&mut self, claim: Claim) {
        self.total -= 1;
        self.users.remove(&(claim.class, claim.terminal));
        self.sources.remove(&claim.source);
    }
}

/// Counts by key. A key that has none takes no room.
pub(super) struct Counts<K>(HashMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Counts<K> {
    pub(super) fn of(&self, key: &K) -> usize {
        self.0.get(key).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, key: K) {
        *self.0.entry(key).or_insert(0) += 1;
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some(count) = self.0.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }
}

/// A token bucket of bytes that holds one second's worth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    bytes_per_second: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(bits_per_second: u64, now: Instant) -> Self {
        let bytes_per_second = bits_per_second as f64 / 8.0;
        Self { bytes_per_second, tokens: bytes_per_second, at: now }
    }

    /// Whether so many bytes may pass now.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.bytes_per_second).min(self.bytes_per_second);
        self.at = now;
        let enough = self.tokens >= bytes as f64;
        if enough {
            self.tokens -= bytes as f64;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(class: RelayClass, terminal: u8, net: u8) -> Claim {
        Claim { class, terminal: TerminalId::from_bytes([terminal; 32]), source: Source::V4([net, 0, 0]) }
    }

    fn limits() -> RelayQuotas {
        RelayQuotas { allocations: 12, per_source: 10, ..RelayQuotas::default() }
    }

    #[test]
    fn a_guest_has_one_allocation_and_a_terminal_eight() {
        let (mut quotas, limits) = (Quotas::default(), limits());
        let (guest, full) = (claim(RelayClass::Guest, 1, 1), claim(RelayClass::Full, 2, 1));
        assert_eq!(quotas.enter(guest, &limits), Ok(()));
        assert_eq!(quotas.enter(guest, &limits), Err(Full::User));
        assert!((0..8).all(|_| quotas.enter(full, &limits).is_ok()));
        assert_eq!(quotas.enter(full, &limits), Err(Full::User));
        quotas.leave(guest);
        assert_eq!(quotas.enter(guest, &limits), Ok(()));
    }

    #[test]
    fn a_network_and_the_relay_have_bounds_of_their_own() {
        let (mut quotas, limits) = (Quotas::default(), limits());
        for terminal in 0..10 {
            assert_eq!(quotas.enter(claim(RelayClass::Guest, terminal, 1), &limits), Ok(()));
        }
        assert_eq!(quotas.enter(claim(RelayClass::Full, 50, 1), &limits), Err(Full::Source));
        for terminal in 10..12 {
            assert_eq!(quotas.enter(claim(RelayClass::Guest, terminal, 2), &limits), Ok(()));
        }
        assert_eq!(quotas.enter(claim(RelayClass::Guest, 51, 3), &limits), Err(Full::Total));
    }

    #[test]
    fn what_has_left_takes_no_room() {
        let (mut quotas, limits) = (Quotas::default(), limits());
        for terminal in 0..100 {
            let claim = claim(RelayClass::Full, terminal, terminal);
            assert_eq!(quotas.enter(claim, &limits), Ok(()));
            quotas.leave(claim);
        }
        assert_eq!(quotas.total, 0);
        assert!(quotas.users.0.is_empty() && quotas.sources.0.is_empty());
    }

    #[test]
    fn a_bucket_passes_its_rate_after_its_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(80_000, start);
        let passed = |bucket: &mut Bucket, now| (0..1_000).filter(|_| bucket.take(100, now)).count();
        assert_eq!(passed(&mut bucket, start), 100);
        assert_eq!(passed(&mut bucket, start + Duration::from_millis(500)), 50);
        assert_eq!(passed(&mut bucket, start + Duration::from_secs(60)), 100);
    }
}
