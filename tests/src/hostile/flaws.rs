//! Record sets of which each is wrong in one way.

use std::time::Duration;

use offhook_proto::identity::{IdentityKey, SealKey, SignedCert, TerminalKey};
use offhook_proto::number::NodeAddr;
use offhook_proto::record::{
    MAX_ADDRS, MAX_SET_BYTES, MAX_TERMINALS, RecordSet, SignedTerminal, TERMINAL_LIFETIME,
};
use offhook_proto::wire::{Signed, UnixMillis, decode, encode};

use crate::people::{Person, ago, now};

const HOUR: Duration = Duration::from_secs(3_600);

/// A record set that no node should keep and no reader believe.
#[derive(Clone, Debug)]
pub struct Flaw {
    /// What is wrong with it.
    pub name: &'static str,
    /// The encoded set.
    pub bytes: Vec<u8>,
    /// Where it is wrong.
    pub wrong: Wrong,
}

/// In which circumstances a set is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Everywhere, as a whole.
    Always,
    /// Everywhere, but only in part: a node may take the sound rest and leave out the bad part.
    InPart,
    /// Only beside a newer record.
    BesideNewer,
    /// Only where nothing is held.
    Alone,
}

impl Flaw {
    fn new(name: &'static str, set: &RecordSet) -> Self {
        Self { name, bytes: set.encode(), wrong: Wrong::Always }
    }

    fn only(self, wrong: Wrong) -> Self {
        Self { wrong, ..self }
    }
}

/// Every way in which `attacker` may misuse the number of `victim`, whose right records have the time `seq`. The bad records lead
/// to `trap`, except the replayed one, which leads to `dead`.
pub fn flaws(
    victim: &Person,
    attacker: &Person,
    seq: UnixMillis,
    trap: &NodeAddr,
    dead: &NodeAddr,
) -> Vec<Flaw> {
    let mut flaws = forged(victim, attacker, trap);
    flaws.extend(untimely(victim, seq, trap, dead));
    flaws.extend(oversized(victim, trap));
    flaws.extend(broken(victim, trap));
    flaws
}

/// Records that the victim has not signed.
fn forged(victim: &Person, attacker: &Person, trap: &NodeAddr) -> Vec<Flaw> {
    let (now, trap) = (now(), std::slice::from_ref(trap));
    let right = victim.set(now, trap);
    let account = victim.account_record(now);
    // The victim's number in the attacker's name, with a proof that gives another number.
    let mut stolen = attacker.clone();
    stolen.number = victim.number.clone();
    let terminal = |signed: SignedTerminal| RecordSet { terminals: vec![signed], ..right.clone() };
    vec![
        Flaw::new(
            "account record signed by another",
            &RecordSet { account: Some(account.sign(&attacker.identity)), ..right.clone() },
        ),
        Flaw::new(
            "terminal record signed by another",
            &terminal(victim.terminal_record(now, trap).sign(&attacker.terminal)),
        ),
        Flaw::new(
            "terminal of another account",
            &terminal(stolen.terminal_record(now, trap).sign(&attacker.terminal)),
        ),
        Flaw::new("number claimed with another's proof", &stolen.set(now, trap)),
        Flaw::new("records of another number", &attacker.set(now, trap)),
        Flaw::new("certificate made up", &terminal(made_up(victim, attacker, trap))),
        Flaw { bytes: with_flipped_bit(&right), ..Flaw::new("one bit changed", &right) },
    ]
}

/// A terminal record with a certificate in the victim's name that the attacker signed.
fn made_up(victim: &Person, attacker: &Person, trap: &[NodeAddr]) -> SignedTerminal {
    let issued = ago(HOUR);
    let theirs =
        SignedCert::issue(&victim.identity, attacker.terminal.public(), attacker.seal.public(), issued);
    let envelope: Signed = decode(&encode(&theirs), 4_096).expect("just encoded");
    let resigned = attacker.identity.sign("offhook/terminal-cert/1", envelope.payload_unverified());
    let cert: SignedCert = decode(&encode(&resigned), 4_096).expect("an envelope");
    let mut record = victim.terminal_record(now(), trap);
    record.cert = cert;
    record.sign(&attacker.terminal)
}

fn with_flipped_bit(set: &RecordSet) -> Vec<u8> {
    let mut bytes = set.encode();
    let at = bytes.len() - 200;
    bytes[at] ^= 1;
    bytes
}

/// Records that were right once, or will be.
fn untimely(victim: &Person, seq: UnixMillis, trap: &NodeAddr, dead: &NodeAddr) -> Vec<Flaw> {
    let trap = std::slice::from_ref(trap);
    let (past, future) = (ago(3 * HOUR), now().plus(HOUR));
    let lasting = |seq: UnixMillis, lifetime: Duration| {
        let (mut account, mut terminal) = (victim.account_record(seq), victim.terminal_record(seq, trap));
        (account.expires, terminal.expires) = (seq.plus(lifetime), seq.plus(lifetime));
        (account.sign(&victim.identity), terminal.sign(&victim.terminal))
    };
    let set = |(account, terminal)| RecordSet { account: Some(account), terminals: vec![terminal] };
    let sound = victim.account_record(seq).sign(&victim.identity);
    let replayed = victim.set(UnixMillis(seq.0 - 60_000), std::slice::from_ref(dead));
    vec![
        Flaw::new("replayed", &replayed).only(Wrong::BesideNewer),
        Flaw::new("expired", &set(lasting(past, HOUR))),
        Flaw::new("expired terminal record", &set((sound.clone(), lasting(past, HOUR).1)))
            .only(Wrong::InPart),
        Flaw::new("from the future", &set(lasting(future, HOUR))),
        Flaw::new("terminal record from the future", &set((sound.clone(), lasting(future, HOUR).1)))
            .only(Wrong::InPart),
        Flaw::new("living too long", &set((sound, lasting(now(), TERMINAL_LIFETIME + HOUR).1))),
        Flaw::new("ending before it begins", &set(lasting(now(), Duration::ZERO))),
    ]
}

/// Records with more in them than permitted, each properly signed.
fn oversized(victim: &Person, trap: &NodeAddr) -> Vec<Flaw> {
    let now = now();
    let account = Some(victim.account_record(now).sign(&victim.identity));
    let of = |terminals| RecordSet { account: account.clone(), terminals };
    let long: NodeAddr = format!("/dns/{}/tcp/1", "x".repeat(235)).parse().expect("within 256 bytes");
    let addrs = |count| vec![long.clone(); count];
    let signed = |addrs: &[NodeAddr]| victim.terminal_record(now, addrs).sign(&victim.terminal);
    let many = |count: u8, addrs: &[NodeAddr]| {
        (0..count).map(|n| another_terminal(victim, n, addrs)).collect::<Vec<_>>()
    };
    let padded = [victim.set(now, std::slice::from_ref(trap)).encode(), vec![0; MAX_SET_BYTES]].concat();
    let too_many = u8::try_from(MAX_TERMINALS + 1).unwrap_or(u8::MAX);
    vec![
        Flaw::new("record over 4 KiB", &of(vec![signed(&addrs(16))])),
        Flaw::new("set over 12 KiB", &of(many(4, &addrs(12)))),
        Flaw::new("set over 16 KiB", &of(many(8, &addrs(12)))),
        Flaw::new("too many terminals", &of(many(too_many, std::slice::from_ref(trap)))),
        Flaw::new("too many addresses", &of(vec![signed(&vec![trap.clone(); MAX_ADDRS + 1])])),
        Flaw { bytes: padded, ..Flaw::new("padded", &of(Vec::new())) },
    ]
}

fn another_terminal(victim: &Person, n: u8, addrs: &[NodeAddr]) -> SignedTerminal {
    let (terminal, seal) = (TerminalKey::from_seed([200 + n; 32]), SealKey::from_seed([n; 32]));
    let cert = SignedCert::issue(&victim.identity, terminal.public(), seal.public(), ago(HOUR));
    let mut record = victim.terminal_record(now(), addrs);
    record.cert = cert;
    record.sign(&terminal)
}

/// Bytes that are no set at all.
fn broken(victim: &Person, trap: &NodeAddr) -> Vec<Flaw> {
    let right = victim.set(now(), std::slice::from_ref(trap));
    let whole = right.encode();
    let nobody = IdentityKey::from_seed([99; 32]);
    let flaw = |name, bytes| Flaw { bytes, ..Flaw::new(name, &right) };
    vec![
        flaw("half a set", whole[..whole.len() / 2].to_vec()),
        flaw("garbage", nobody.sign("garbage", &whole).signature().repeat(20)),
        flaw("nothing", Vec::new()),
        Flaw::new("empty set", &RecordSet::default()),
        Flaw::new("terminal record alone", &RecordSet { account: None, ..right.clone() }).only(Wrong::Alone),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_proto::record;

    #[test]
    fn every_flaw_is_one() {
        let (victim, attacker) = (Person::mine(1), Person::mine(2));
        let trap: NodeAddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let seq = ago(Duration::from_secs(10));
        let right = victim.set(seq, std::slice::from_ref(&trap));
        let held = record::check(&victim.key(), &right.encode(), now()).unwrap();
        for flaw in flaws(&victim, &attacker, seq, &trap, &trap) {
            let set = record::check(&victim.key(), &flaw.bytes, now());
            let proven = set.clone().is_ok_and(|set| set.proof_task().is_none_or(|task| task.run()));
            let alone = set.and_then(|set| record::merge(None, &set, now()).map(|_| set));
            let beside = alone.clone().and_then(|set| record::merge(Some(&held), &set, now()));
            let accepted = proven && alone.is_ok();
            let changes = proven && beside.is_ok_and(|merged| merged.changed);
            let expected = match flaw.wrong {
                Wrong::Always | Wrong::Alone => (false, false),
                Wrong::InPart | Wrong::BesideNewer => (true, false),
            };
            assert_eq!((accepted, changes), expected, "{}", flaw.name);
        }
    }
}
