//! Accounts made by hand, all of whose secrets are known.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use offhook_proto::identity::{DirectoryKey, IdentityKey, SealKey, SignedCert, TerminalKey};
use offhook_proto::number::{NodeAddr, Number, PlainNumber, RecordKey};
use offhook_proto::proof::{ChosenCert, Miner, NumberProof, PlainProof, SignedChosenCert};
use offhook_proto::record::{
    ACCOUNT_LIFETIME, AccountRecord, RecordSet, SignedAccount, SignedTerminal, TERMINAL_LIFETIME,
    TerminalRecord,
};
use offhook_proto::wire::UnixMillis;

/// Nonces that were found for the identities with the seeds 1, 2 and so on: to find one takes a second.
const MINED: [u64; 12] = [22, 98, 132, 697, 316, 191, 78, 94, 618, 669, 75, 271];

/// People whose numbers cost nothing: seeds 1 to this one.
pub const KNOWN: u8 = 12;

/// The wall clock.
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The time `earlier` before now.
pub fn ago(earlier: Duration) -> UnixMillis {
    UnixMillis(now().0.saturating_sub(u64::try_from(earlier.as_millis()).unwrap_or(u64::MAX)))
}

/// An account with one terminal.
#[derive(Clone)]
pub struct Person {
    /// Signs the account record and the terminal's certificate.
    pub identity: IdentityKey,
    /// Signs terminal records and packets; the libp2p key.
    pub terminal: TerminalKey,
    /// Opens what is sealed to the terminal.
    pub seal: SealKey,
    /// The number.
    pub number: Number,
    /// Shows that it is this identity's.
    pub proof: NumberProof,
    key: RecordKey,
}

impl std::fmt::Debug for Person {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Person({:?})", self.identity.public())
    }
}

impl Person {
    /// The account of a seed, with the plain number of a good nonce: one that is known, or the first, for which it
    /// takes some 256 slow hashes.
    pub fn mine(seed: u8) -> Self {
        let unproven = Self::unproven(seed);
        let identity = unproven.identity.public();
        let known = usize::from(seed).checked_sub(1).and_then(|at| MINED.get(at));
        let mut nonces = known.map_or(0..u64::MAX, |nonce| *nonce..*nonce + 1);
        let mut miner = Miner::new();
        let mined = nonces.find_map(|nonce| miner.mine(&identity, nonce..nonce + 1));
        let (proof, plain) = mined.expect("the table holds good nonces, and of all some are good");
        let (number, key) = (Number::Plain(plain), plain.key());
        Self { number, proof: NumberProof::Plain(proof), key, ..unproven }
    }

    /// The account of a seed under a number of its own choice, to which it has no right.
    pub fn unproven(seed: u8) -> Self {
        let plain = PlainNumber::from_index(u64::from(seed) * 7_919);
        Self {
            identity: IdentityKey::from_seed([seed; 32]),
            terminal: TerminalKey::from_seed([seed.wrapping_add(100); 32]),
            seal: SealKey::from_seed([seed ^ 0xaa; 32]),
            number: Number::Plain(plain),
            proof: NumberProof::Plain(PlainProof { nonce: u64::from(seed) }),
            key: plain.key(),
        }
    }

    /// Somebody whom nobody has ever seen, one of 2^64, under a number to which it has no right.
    pub fn fresh(n: u64) -> Self {
        let seed = |kind: u8| {
            let mut seed = [kind; 32];
            seed[..8].copy_from_slice(&n.to_be_bytes());
            seed
        };
        let plain = PlainNumber::from_index(n.wrapping_mul(7_919).wrapping_add(1_000_003));
        Self {
            identity: IdentityKey::from_seed(seed(0xf1)),
            terminal: TerminalKey::from_seed(seed(0xf2)),
            seal: SealKey::from_seed(seed(0xf3)),
            number: Number::Plain(plain),
            proof: NumberProof::Plain(PlainProof { nonce: n }),
            key: plain.key(),
        }
    }

    /// The same account with the terminal of another seed.
    #[must_use]
    pub fn with_terminal(&self, seed: u8) -> Self {
        Self { terminal: TerminalKey::from_seed([seed; 32]), ..self.clone() }
    }

    /// The same account under a chosen number, `word@name`, that the directory issues to it now.
    ///
    /// # Panics
    /// When that is no chosen number in its full form.
    #[must_use]
    pub fn with_chosen(&self, full: &str, directory: &DirectoryKey) -> Self {
        let number: Number = full.parse().expect("a chosen number");
        let issued = ago(Duration::from_secs(3_600));
        let expires = issued.plus(Duration::from_secs(365 * 86_400));
        let (identity, directory_id) = (self.identity.public(), directory.public());
        let cert = ChosenCert { number: number.clone(), identity, directory: directory_id, issued, expires };
        let proof = NumberProof::Chosen(SignedChosenCert::issue(directory, &cert), self.plain_proof());
        let key = number.record_key(Some(&directory_id)).expect("the directory is given");
        Self { number, proof, key, ..self.clone() }
    }

    /// Which nonce gives the identity its plain number.
    pub fn plain_proof(&self) -> PlainProof {
        match &self.proof {
            NumberProof::Plain(proof) | NumberProof::Chosen(_, proof) => *proof,
        }
    }

    /// Where its records lie.
    pub fn key(&self) -> RecordKey {
        self.key
    }

    /// The terminal's certificate, valid from this time on.
    pub fn cert(&self, issued: UnixMillis) -> SignedCert {
        SignedCert::issue(&self.identity, self.terminal.public(), self.seal.public(), issued)
    }

    /// An account record of this time, to be spoilt or signed.
    pub fn account_record(&self, seq: UnixMillis) -> AccountRecord {
        AccountRecord {
            number: self.number.clone(),
            proof: self.proof.clone(),
            identity: self.identity.public(),
            mailbox: self.seal.public(),
            mailboxes: Vec::new(),
            revoked: Vec::new(),
            seq,
            expires: seq.plus(ACCOUNT_LIFETIME),
            transfers: Vec::new(),
            backups: Vec::new(),
        }
    }

    /// The same, signed.
    pub fn account(&self, seq: UnixMillis) -> SignedAccount {
        self.account_record(seq).sign(&self.identity)
    }

    /// A terminal record of this time, to be spoilt or signed. The certificate is an hour older.
    pub fn terminal_record(&self, seq: UnixMillis, addrs: &[NodeAddr]) -> TerminalRecord {
        TerminalRecord {
            number: self.number.clone(),
            cert: self.cert(UnixMillis(seq.0.saturating_sub(3_600_000))),
            addrs: addrs.to_vec(),
            seq,
            expires: seq.plus(TERMINAL_LIFETIME),
        }
    }

    /// The same, signed.
    pub fn record(&self, seq: UnixMillis, addrs: &[NodeAddr]) -> SignedTerminal {
        self.terminal_record(seq, addrs).sign(&self.terminal)
    }

    /// Both records of this time.
    pub fn set(&self, seq: UnixMillis, addrs: &[NodeAddr]) -> RecordSet {
        RecordSet { account: Some(self.account(seq)), terminals: vec![self.record(seq, addrs)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_proto::record;

    fn passes_every_check(person: &Person) {
        let addr: NodeAddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let bytes = person.set(now(), std::slice::from_ref(&addr)).encode();
        let set = record::check(&person.key(), &bytes, now()).unwrap();
        assert!(set.proof_task().unwrap().run());
        assert_eq!(set.terminals[0].addrs, std::slice::from_ref(&addr));
    }

    #[test]
    fn people_made_by_hand_pass_every_check() {
        for seed in [0, 1, KNOWN] {
            passes_every_check(&Person::mine(seed));
        }
        passes_every_check(
            &Person::mine(1).with_chosen("ada@example.org", &DirectoryKey::from_seed([9; 32])),
        );
        passes_every_check(&Person::mine(1).with_terminal(77));
    }
}
