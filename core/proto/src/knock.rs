//! Whether a terminal is publicly reachable: proved by knocks of strangers, never believed.
//!
//! ```text
//!   terminal -- KnockWanted(token) --> helper -- KnockAt(address, token) --> knocker
//!      ^                                                                       |
//!      '--- a connection that the terminal did not ask for, Knock(token) ------'
//! ```
//!
//! A *helper* is a serving node that the terminal is connected with, the *knocker* one that the helper is connected with.
//! What the terminal has sent to an address lets that address in through a firewall or a NAT of almost any kind, so
//! only a knock from a [`Network`] that it has sent nothing to for a while proves that strangers get in. Two
//! such proofs for one address, by knockers of two networks, and the terminal is [`Standing::Proved`] to be reachable there.
//!
//! From then on half of the network is connected with it, so a renewal is content with a knock from an address *and port* that
//! it has sent nothing to: that a port was closed, or a firewall switched on, shows all the same. Only a
//! NAT that turns from letting everybody in to letting in known addresses from any port would go unnoticed.
//!
//! # Contract of [`Proving`]
//!
//! Inputs: [`sent`](Proving::sent) for every address that packets were sent to (dialled, or connected until now),
//! [`answered`](Proving::answered) for each [`Errand`], [`knocked`](Proving::knocked), [`visited`](Proving::visited),
//! [`restart`](Proving::restart), [`hurry`](Proving::hurry), [`doubt`](Proving::doubt), [`test`](Proving::test). Then [`poll`](Proving::poll), until it
//! has no errand; again whenever there is news, and at least once a second or so. `now` never goes back.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};

use crate::wire::canonical;

/// What ties a knock to a request; made at random by the terminal for each.
pub type Token = [u8; 16];

/// Networks that the knocker is not to be in, named in one request.
pub const MAX_EXCEPT: usize = 8;

/// A knock that has not come so long after it was asked for is missing: the helper and the knocker have 3.5 s each to
/// connect, and a knock is given when both have.
pub const KNOCK_TIME: Duration = Duration::from_secs(12);

/// Knockers of so many networks make a proof.
const PROOFS: usize = 2;

/// Proofs kept of an address that is not proved yet; the oldest gives way.
const MAX_PROOFS: usize = 4;

/// Knocks that were promised and did not come, in a row: so many, and a terminal takes itself for unreachable; so
/// many more than for the first time, because a helper may lie, or a knocker fail.
const MISSES: u32 = 2;
const MISSES_WHEN_PROVED: u32 = 3;

/// Addresses kept that something was sent to. If there are more, no knock counts as a stranger's for a while.
const MAX_SENT: usize = 2_048;

/// The same of one network, whose oldest gives way: somebody there could fill all places, and the network is known by one as well.
const MAX_SENT_PER_NETWORK: usize = 16;

/// How long things take. The defaults are meant for everything but tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// What was sent to an address lets it in for so long at most: twice what NATs remember at most in practice
    /// (RFC 4787 REQ-5 recommends five minutes).
    pub open: Duration,
    /// A proved address is tested again after this.
    pub renewal: Duration,
    /// What nobody could test for so long is not proved any more.
    pub untested: Duration,
    /// First and longest pause after knocks that did not come; it doubles between. Each series shows a stranger this
    /// terminal's address, if not its name.
    pub unreachable: (Duration, Duration),
    /// First and longest pause when there is nobody to ask, or nobody who could knock.
    pub nobody: (Duration, Duration),
}

impl Default for Times {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self {
            open: minutes(10),
            renewal: minutes(30),
            untested: minutes(24 * 60),
            unreachable: (minutes(15), minutes(6 * 60)),
            nobody: (Duration::from_secs(10), minutes(60)),
        }
    }
}

/// A /24 of IPv4 or a /64 of IPv6: one customer's usual share of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// A /24.
    V4([u8; 3]),
    /// A /64.
    V6([u8; 8]),
}

impl Network {
    /// The network of an address. IPv4-mapped addresses count as IPv4.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl<C> Encode<C> for Network {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        match self {
            Self::V4(net) => e.bytes(net)?.ok(),
            Self::V6(net) => e.bytes(net)?.ok(),
        }
    }
}

impl<'b, C> Decode<'b, C> for Network {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let bytes = d.bytes()?;
        let v4 = bytes.try_into().map(Self::V4).ok();
        v4.or_else(|| bytes.try_into().map(Self::V6).ok())
            .ok_or_else(|| decode::Error::message("not a /24 or a /64"))
    }
}

/// An IP address and a port: text on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place(pub SocketAddr);

impl fmt::Debug for Place {
    /// Not where.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

impl<C> Encode<C> for Place {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.str(&self.0.to_string())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Place {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let place: SocketAddr =
            d.str()?.parse().map_err(|_| decode::Error::message("no address and port"))?;
        if place.port() == 0 || place.ip().is_unspecified() || place.ip().is_multicast() {
            return Err(decode::Error::message("nobody's address"));
        }
        Ok(Self(canonical(place)))
    }
}

/// A node that may be asked for a knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Helper<N> {
    /// The node.
    pub node: N,
    /// Where it is.
    pub network: Network,
}

/// Somebody is to be asked for a knock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand<N> {
    /// Whom to ask.
    pub helper: N,
    /// Which token to send along.
    pub token: Token,
    /// Networks from which a knock would prove nothing, at most [`MAX_EXCEPT`].
    pub except: Vec<Network>,
}

/// What a helper said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Somebody knocks now.
    Knocking,
    /// It knows nobody who could, has enough to do, or did not answer.
    Nobody,
    /// It does not see this terminal at an address and port that could be knocked at.
    NoAddress,
}

/// A knock that has come.
#[derive(Clone, Copy, Debug)]
pub struct Knock {
    /// Its token.
    pub token: Token,
    /// Where the knocker says that it has knocked.
    pub at: SocketAddr,
    /// Where it came from: the other end of a connection that was made to this terminal.
    pub from: SocketAddr,
    /// When that connection was there.
    pub since: Instant,
}

/// Why a knock proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoProof {
    /// Its token is not the one that is out.
    Unasked,
    /// Its connection was there before it was asked for.
    Old,
    /// It comes from where this terminal is itself.
    Near,
    /// Something was sent there before, or may have been.
    Known,
    /// It was not where this terminal is proved to be.
    Elsewhere,
}

/// Why a terminal is not proved to be reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has just started, or been moved: it is being looked into.
    New,
    /// It is connected with nobody who could help.
    NoHelper,
    /// No stranger is at hand who could knock.
    NoStranger,
    /// Nobody sees it at a port of UDP.
    NoAddress,
    /// Strangers do not get in.
    Unreachable,
}

/// How a terminal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not known to be reachable.
    Unproved(Reason),
    /// Strangers reach it there.
    Proved(SocketAddr),
}

/// The errand that is out.
#[derive(Clone, Copy)]
struct Out {
    token: Token,
    since: Instant,
    until: Instant,
}

#[derive(Clone, Copy)]
struct Proof {
    at: SocketAddr,
    by: Network,
    since: Instant,
}

#[derive(Clone, Copy)]
struct Proved {
    at: SocketAddr,
    tested: Instant,
}

/// See the [module](self).
pub struct Proving<N> {
    times: Times,
    sent: BTreeMap<SocketAddr, Instant>,
    /// When the last address was forgotten before its time.
    crowded: Option<Instant>,
    out: Option<Out>,
    /// Whom it was asked of last, so that they take turns.
    last: Option<N>,
    helpers: usize,
    due: Instant,
    reason: Reason,
    proofs: Vec<Proof>,
    proved: Option<Proved>,
    /// Knocks in a row that did not come, series of them, and answers in a row that there is nobody.
    missed: u32,
    series: u32,
    nobody: u32,
}

impl<N: Copy + Eq> Proving<N> {
    /// Nothing is known yet.
    pub fn new(times: Times, now: Instant) -> Self {
        Self {
            times,
            sent: BTreeMap::new(),
            crowded: None,
            out: None,
            last: None,
            helpers: 0,
            due: now,
            reason: Reason::New,
            proofs: Vec::new(),
            proved: None,
            missed: 0,
            series: 0,
            nobody: 0,
        }
    }

    /// How the terminal stands.
    pub fn standing(&self) -> Standing {
        self.proved.map_or(Standing::Unproved(self.reason), |proved| Standing::Proved(proved.at))
    }

    /// Something was sent to an address, at the latest now.
    pub fn sent(&mut self, to: SocketAddr, now: Instant) {
        let to = canonical(to);
        self.make_room_beside(to);
        if self.sent.len() >= MAX_SENT && !self.sent.contains_key(&to) {
            let open = self.times.open;
            self.sent.retain(|_, at| now.saturating_duration_since(*at) < open);
            if self.sent.len() >= MAX_SENT {
                let first = self.sent.iter().min_by_key(|(_, at)| **at).map(|(addr, _)| *addr);
                first.map(|first| self.sent.remove(&first));
                self.crowded = Some(now);
            }
        }
        self.sent.insert(to, now);
    }

    fn make_room_beside(&mut self, to: SocketAddr) {
        let network = Network::of(to.ip());
        let near = self.sent.iter().filter(|(known, _)| **known != to && Network::of(known.ip()) == network);
        let near: Vec<(Instant, SocketAddr)> = near.map(|(known, at)| (*at, *known)).collect();
        if near.len() >= MAX_SENT_PER_NETWORK
            && let Some((_, first)) = near.iter().min()
        {
            self.sent.remove(first);
        }
    }

    /// Where the terminal listens has changed, or whether: all that was proved is void.
    pub fn restart(&mut self, now: Instant) {
        self.void(Reason::New, now);
    }

    /// A helper has come: if there was nobody before, ask again.
    pub fn hurry(&mut self, now: Instant) {
        match self.reason {
            Reason::New | Reason::NoHelper | Reason::NoStranger | Reason::NoAddress
                if self.proved.is_none() =>
            {
                self.due = self.due.min(now);
                self.nobody = 0;
            }
            Reason::New | Reason::NoHelper | Reason::NoStranger | Reason::NoAddress | Reason::Unreachable => {
            }
        }
    }

    /// Whatever is proved may have become wrong: test it now.
    pub fn test(&mut self, now: Instant) {
        if self.proved.is_some() {
            self.due = self.due.min(now);
        }
    }

    /// Somebody sees this terminal at that address. If it is another than the proved one, test that one now.
    pub fn doubt(&mut self, seen: SocketAddr, now: Instant) {
        let seen = canonical(seen);
        let elsewhere = |proved: &Proved| proved.at.is_ipv4() == seen.is_ipv4() && proved.at != seen;
        if self.proved.as_ref().is_some_and(elsewhere) {
            self.test(now);
        }
    }

    /// Whom to ask for a knock, if it is time. `helpers` are those who could be asked, `token` is random.
    pub fn poll(&mut self, helpers: &[Helper<N>], token: Token, now: Instant) -> Option<Errand<N>> {
        self.helpers = helpers.len();
        if self.out.is_some_and(|out| out.until <= now) {
            self.miss(now);
        }
        let untested = |proved: &Proved| now.saturating_duration_since(proved.tested) >= self.times.untested;
        if self.proved.as_ref().is_some_and(untested) {
            self.void(Reason::NoStranger, now);
        }
        if self.out.is_some() || self.due > now {
            return None;
        }
        let Some(helper) = self.choose(helpers) else {
            self.nobody_there(Reason::NoHelper, now);
            return None;
        };
        self.last = Some(helper.node);
        self.out = Some(Out { token, since: now, until: now + KNOCK_TIME });
        Some(Errand { helper: helper.node, token, except: self.except(helpers) })
    }

    /// They take turns.
    fn choose<'a>(&self, helpers: &'a [Helper<N>]) -> Option<&'a Helper<N>> {
        let last = helpers.iter().position(|helper| Some(helper.node) == self.last);
        helpers.get(last.map_or(0, |last| (last + 1) % helpers.len()))
    }

    /// A knock of a helper's network would prove nothing, nor another one of a network that has knocked.
    fn except(&self, helpers: &[Helper<N>]) -> Vec<Network> {
        let mut except: Vec<Network> = Vec::new();
        if self.proved.is_some() {
            return except;
        }
        let known = self.proofs.iter().map(|proof| proof.by);
        for network in known.chain(helpers.iter().map(|helper| helper.network)) {
            if except.len() < MAX_EXCEPT && !except.contains(&network) {
                except.push(network);
            }
        }
        except
    }

    /// What the helper said.
    pub fn answered(&mut self, token: &Token, answer: Answer, now: Instant) {
        if !self.expects(token) {
            return;
        }
        match answer {
            // It may come in vain, from somebody who is no stranger.
            Answer::Knocking => {}
            Answer::Nobody => self.nobody_there(Reason::NoStranger, now),
            Answer::NoAddress => self.nobody_there(Reason::NoAddress, now),
        }
    }

    /// Whether a knock with this token is expected.
    pub fn expects(&self, token: &Token) -> bool {
        self.out.is_some_and(|out| out.token == *token)
    }

    /// A knock has come. `linked` are the other ends of all connections except the one it came over.
    ///
    /// # Errors
    /// [`NoProof`]; one that was not asked for changes nothing.
    pub fn knocked(&mut self, knock: &Knock, linked: &[SocketAddr], now: Instant) -> Result<(), NoProof> {
        let Some(out) = self.out.filter(|out| out.token == knock.token && now < out.until) else {
            return Err(NoProof::Unasked);
        };
        // The message may have overtaken the connection; it comes again over that.
        if knock.since < out.since {
            return Err(NoProof::Old);
        }
        let judged = match self.proved {
            Some(proved) if proved.at != knock.at => Err(NoProof::Elsewhere),
            Some(_) if self.knows(knock.from, linked, now) => Err(NoProof::Known),
            Some(_) | None if !is_elsewhere(knock.from, knock.at) => Err(NoProof::Near),
            None if self.is_stranger(knock.from, linked, now) => Ok(()),
            None => Err(NoProof::Known),
            Some(_) => Ok(()),
        };
        self.out = None;
        match judged {
            Ok(()) => self.prove(knock, now),
            Err(NoProof::Elsewhere) => self.count_miss(now),
            // Another one may do better.
            Err(NoProof::Known | NoProof::Near | NoProof::Old | NoProof::Unasked) => {
                self.nobody_there(Reason::NoStranger, now);
            }
        }
        judged
    }

    /// Somebody has connected to this terminal unasked. A stranger who gets in says that strangers do.
    pub fn visited(&mut self, from: SocketAddr, linked: &[SocketAddr], now: Instant) {
        let Some(at) = self.proved.map(|proved| proved.at) else { return };
        if is_elsewhere(from, at) && self.is_stranger(from, linked, now) {
            self.renew(now);
        }
    }

    fn prove(&mut self, knock: &Knock, now: Instant) {
        (self.missed, self.nobody) = (0, 0);
        if self.proved.is_some() {
            return self.renew(now);
        }
        let (at, by, open) = (knock.at, Network::of(knock.from.ip()), self.times.open);
        self.proofs.retain(|proof| {
            let lasting = now.saturating_duration_since(proof.since) < open;
            lasting && (proof.at, proof.by) != (at, by)
        });
        if self.proofs.len() >= MAX_PROOFS {
            self.proofs.remove(0);
        }
        self.proofs.push(Proof { at, by, since: now });
        self.due = now;
        if self.proofs.iter().filter(|proof| proof.at == at).count() >= PROOFS {
            self.proofs.clear();
            self.series = 0;
            self.proved = Some(Proved { at, tested: now });
            self.renew(now);
        }
    }

    fn renew(&mut self, now: Instant) {
        if let Some(proved) = &mut self.proved {
            proved.tested = now;
            (self.missed, self.nobody) = (0, 0);
            if self.out.is_none() {
                self.due = now + self.times.renewal;
            }
        }
    }

    fn miss(&mut self, now: Instant) {
        self.out = None;
        self.count_miss(now);
    }

    /// A knock has not come, or came at another address.
    fn count_miss(&mut self, now: Instant) {
        self.missed += 1;
        self.due = now;
        if self.missed < if self.proved.is_some() { MISSES_WHEN_PROVED } else { MISSES } {
            return;
        }
        let (first, longest) = self.times.unreachable;
        let was_proved = self.proved.is_some();
        let series = self.series;
        self.void(Reason::Unreachable, now);
        if !was_proved {
            self.due = now + first.saturating_mul(1 << series.min(16)).min(longest);
            self.series = series.saturating_add(1);
        }
    }

    /// Nobody can be asked, or nobody can knock: the next helper's turn, and a pause when all have had theirs.
    fn nobody_there(&mut self, reason: Reason, now: Instant) {
        self.out = None;
        self.nobody = self.nobody.saturating_add(1);
        self.reason = reason;
        let turn = usize::try_from(self.nobody).unwrap_or(usize::MAX);
        let helpers = self.helpers.max(1);
        self.due = if turn % helpers != 0 {
            now
        } else {
            let (first, longest) = self.times.nobody;
            let rounds = u32::try_from(turn / helpers - 1).unwrap_or(u32::MAX);
            now + first.saturating_mul(1 << rounds.min(16)).min(longest)
        };
    }

    fn void(&mut self, reason: Reason, now: Instant) {
        self.out = None;
        self.proved = None;
        self.proofs.clear();
        (self.missed, self.series, self.nobody) = (0, 0, 0);
        self.reason = reason;
        self.due = now;
    }

    /// Whether something was sent to this address and port lately.
    fn knows(&self, addr: SocketAddr, linked: &[SocketAddr], now: Instant) -> bool {
        let addr = canonical(addr);
        let sent = self.sent.get(&addr).is_some_and(|at| self.is_open(*at, now));
        linked.contains(&addr) || sent || self.is_crowded(now)
    }

    /// Whether not all is known that something was sent to.
    fn is_crowded(&self, now: Instant) -> bool {
        self.crowded.is_some_and(|at| self.is_open(at, now))
    }

    /// Whether nothing was sent to the whole network lately.
    fn is_stranger(&self, addr: SocketAddr, linked: &[SocketAddr], now: Instant) -> bool {
        let network = Network::of(addr.ip());
        let near = |other: &SocketAddr| Network::of(other.ip()) == network;
        let sent = self.sent.iter().any(|(to, at)| near(to) && self.is_open(*at, now));
        !self.is_crowded(now) && !sent && !linked.iter().any(near)
    }

    fn is_open(&self, at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) < self.times.open
    }
}

/// Whether who comes from there comes through whatever is in front of `at`: from another network, by the same IP.
fn is_elsewhere(from: SocketAddr, at: SocketAddr) -> bool {
    let (from, at) = (from.ip().to_canonical(), at.ip().to_canonical());
    from.is_ipv4() == at.is_ipv4() && Network::of(from) != Network::of(at)
}

#[cfg(test)]
mod tests;
