//! The built programs against hostile nodes: see `offhook_tests::hostile` for the list of claims.
//!
//! They are found in the target folder (`cargo xtask test` builds them first). On loopback, but for the tests of
//! privacy, which need hosts with addresses of their own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm)]

mod crash;
mod flood;
mod media;
mod privacy;
mod publishing;
mod records;

use std::time::{Duration, Instant};

use offhook_proto::number::NodeAddr;
use offhook_tests::hostile::{Gang, HostileError, Node};
use offhook_tests::people::Person;

/// What every test answers; an error prints its whole story.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// People of these seeds, their numbers found at the same time.
pub fn people<const N: usize>(seeds: [u8; N]) -> [Person; N] {
    std::thread::scope(|scope| {
        seeds.map(|seed| scope.spawn(move || Person::mine(seed))).map(|thread| thread.join().unwrap())
    })
}

/// Several nodes.
pub fn nodes(gang: &Gang, count: usize) -> Result<Vec<Node>, HostileError> {
    (0..count).map(|_| gang.node()).collect()
}

/// An address for a record.
pub fn address(text: &str) -> NodeAddr {
    text.parse().unwrap()
}

/// Asks again until the answer is yes; fails with what was last seen when it does not become so in time.
pub fn until<T: std::fmt::Debug>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<(bool, T), Box<dyn std::error::Error>>,
) -> Result<T, Box<dyn std::error::Error>> {
    let end = Instant::now() + within;
    loop {
        let (yes, seen) = look()?;
        if yes {
            return Ok(seen);
        }
        if Instant::now() > end {
            return Err(format!("not {what} within {within:?}: {seen:?}").into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Bytes that look like nothing.
pub fn noise(seed: u64, longest: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let len = usize::try_from(next()).unwrap_or(0) % longest;
    std::iter::repeat_with(|| next().to_le_bytes()).flatten().take(len).collect()
}
