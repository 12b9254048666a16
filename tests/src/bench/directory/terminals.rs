//! Terminals that connect, register, look up and invite, from a hundred networks.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use offhook_proto::identity::{IdentityKey, SealKey, SignedCert, TerminalId, TerminalKey};
use offhook_proto::service::Response;

use super::{BenchError, Work, cores, other};
use crate::bench::progress;
use crate::hostile::wire;
use crate::hostile::{Gang, Node, Outgoing, Protocol, Tally};
use crate::people::{Person, ago, now};
use crate::phone::{Directory, DirectoryPlan};

/// Networks that they come from: of one a directory takes only so much.
const NETWORKS: u8 = 100;
/// Who registers at a time.
const AT_A_TIME: usize = 8;
/// How long nobody asks anything before memory is read.
const QUIET: Duration = Duration::from_secs(10);
/// Look-ups and invites in all.
const LOOKUPS: u64 = 40_000;
const INVITES: u64 = 24_000;
/// Of one terminal, without an answer at a time.
const OPEN: usize = 2;
/// The longest that they may take.
const LONGEST: Duration = Duration::from_secs(60);
/// An invite with an offer and addresses has about so many bytes.
const INVITE_BYTES: usize = 1_200;

/// What was found.
pub(super) struct Found {
    pub(super) lookups: Work,
    pub(super) registrations: Work,
    pub(super) invites: Work,
    pub(super) kb_per_terminal: f64,
}

/// A terminal of its own, of an identity of its own.
struct Terminal {
    node: Node,
    id: TerminalId,
    cert: SignedCert,
}

/// Connects `count` terminals and has them ask.
pub(super) fn measure(count: u32) -> Result<Found, BenchError> {
    let directory = Directory::start(None, DirectoryPlan::default())?;
    let pid = directory.process.pid();
    cores::give_first(pid)?;
    let gangs = (1..=NETWORKS).map(|network| Gang::at(Ipv4Addr::new(127, 1, network, 1)));
    let gangs = gangs.collect::<Result<Vec<_>, _>>().map_err(other)?;
    let terminals = (0..count).zip(gangs.iter().cycle()).map(|(n, gang)| Terminal::new(n, gang));
    let terminals = terminals.collect::<Result<Vec<_>, _>>()?;
    progress(&format!("{count} terminals are there, in {NETWORKS} networks"));

    // A first one, so that what the directory needs only once is there.
    let (first, rest) = terminals.split_first().ok_or_else(|| other("no terminals"))?;
    let peer = first.register(&directory.address())?;
    let before = directory.process.memory();
    let registrations = register(&directory, rest)?;
    // Time is what is measured here: connections that are quiet.
    std::thread::sleep(QUIET);
    let grown = directory.process.memory().saturating_sub(before);
    let kb_per_terminal = grown as f64 / 1024.0 / rest.len().max(1) as f64;
    let registered = directory.health(None)?["registered"].as_u64().unwrap_or(0);
    if registered != u64::from(count) {
        return Err(other(format!("{registered} of {count} terminals are registered")));
    }
    progress(&format!("all are registered; {kb_per_terminal:.0} KB each"));

    let person = Person::mine(1);
    let set = person.set(now(), &[]).encode();
    let stored = first.node.ask(peer, wire::store(&person.key().0, &set)).map_err(other)?;
    if stored != Response::Stored {
        return Err(other(format!("a record was not stored: {stored:?}")));
    }
    let askers: Vec<&Terminal> = terminals.iter().take(usize::from(NETWORKS)).collect();
    let find = wire::find(&person.key().0);
    let is_found = |answer: &str| answer.starts_with("Found") && !answer.contains("set: None");
    let lookups = ask(&directory, peer, &askers, LOOKUPS, |_| find.clone(), is_found)?;
    // Each invites another one, of another network.
    let called = |at: usize| wire::forward(&askers[(at + 1) % askers.len()].id, &[0x5a; INVITE_BYTES], None);
    let invites = ask(&directory, peer, &askers, INVITES, called, |answer| answer == "Delivered")?;
    Ok(Found { lookups, registrations, invites, kb_per_terminal })
}

impl Terminal {
    fn new(n: u32, gang: &Gang) -> Result<Self, BenchError> {
        let seed = |purpose: u8| {
            let mut seed = [purpose; 32];
            seed[..4].copy_from_slice(&n.to_be_bytes());
            seed
        };
        let (identity, terminal) = (IdentityKey::from_seed(seed(1)), TerminalKey::from_seed(seed(2)));
        let seal = SealKey::from_seed(seed(3)).public();
        let id = terminal.public();
        let cert = SignedCert::issue(&identity, id, seal, ago(Duration::from_secs(60)));
        let node = gang.client_of(terminal.seed()).map_err(other)?;
        Ok(Self { node, id, cert })
    }

    /// Connects and registers; whose peer id the directory has.
    fn register(&self, address: &str) -> Result<PeerId, BenchError> {
        let peer = self.node.connect(address).map_err(other)?;
        let answer = self.node.ask(peer, wire::register(&self.cert)).map_err(other)?;
        let is_taken = matches!(answer, Response::Welcome { .. });
        is_taken.then_some(peer).ok_or_else(|| other(format!("a terminal is not taken: {answer:?}")))
    }
}

fn register(directory: &Directory, terminals: &[Terminal]) -> Result<Work, BenchError> {
    let address = directory.address();
    let (start, before) = (Instant::now(), cores::seconds_of(directory.process.pid())?);
    let part = terminals.len().div_ceil(AT_A_TIME).max(1);
    let each = std::thread::scope(|scope| {
        let address = &address;
        let threads: Vec<_> = terminals
            .chunks(part)
            .map(|some| scope.spawn(move || some.iter().map(|one| timed(|| one.register(address))).collect()))
            .collect();
        let all = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(other("a panic"))));
        all.collect::<Result<Vec<Vec<f64>>, BenchError>>()
    })?;
    finished(directory, start, before, each.concat())
}

/// Runs it; how long it took, ms.
fn timed<T>(work: impl FnOnce() -> Result<T, BenchError>) -> Result<f64, BenchError> {
    let start = Instant::now();
    work().map(|_| start.elapsed().as_secs_f64() * 1e3)
}

/// Has each terminal ask its part of `total`.
fn ask(
    directory: &Directory,
    peer: PeerId,
    askers: &[&Terminal],
    total: u64,
    request: impl Fn(usize) -> Vec<u8>,
    is_good: impl Fn(&str) -> bool,
) -> Result<Work, BenchError> {
    let each = total / askers.len().max(1) as u64;
    let (start, before) = (Instant::now(), cores::seconds_of(directory.process.pid())?);
    let floods: Vec<_> = (0..)
        .zip(askers)
        .map(|(at, terminal)| {
            let bytes = request(at);
            let make = move |_| Outgoing::Whole(bytes.clone());
            terminal.node.flood(Protocol::Signal, peer, (each, OPEN, LONGEST), make)
        })
        .collect();
    let mut tally = Tally::default();
    for flood in floods {
        tally.add(&flood.join().map_err(other)?);
    }
    let good: u64 = tally.answers.iter().filter(|(answer, _)| is_good(answer)).map(|(_, count)| count).sum();
    if good != each * askers.len() as u64 {
        return Err(other(format!("of {} answers {good} are good: {:?}", tally.answered, tally.answers)));
    }
    finished(directory, start, before, tally.answered_ms)
}

fn finished(
    directory: &Directory,
    start: Instant,
    before: f64,
    each_ms: Vec<f64>,
) -> Result<Work, BenchError> {
    let took = start.elapsed();
    let busy = (cores::seconds_of(directory.process.pid())? - before) / took.as_secs_f64();
    Ok(Work { done: each_ms.len(), took, each_ms, busy })
}
