//! Accounts made by hand.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use offhook_proto::identity::{DirectoryKey, IdentityKey, SealKey, SignedCert, TerminalKey};
use offhook_proto::number::{NodeAddr, Number, PlainNumber, RecordKey};
use offhook_proto::proof::{ChosenCert, Miner, NumberProof, PlainProof, SignedChosenCert};
use offhook_proto::record::{ACCOUNT_LIFETIME, AccountRecord, RecordSet, TERMINAL_LIFETIME, TerminalRecord};
use offhook_proto::wire::UnixMillis;

/// The wall clock.
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The time `earlier` before now.
pub fn ago(earlier: Duration) -> UnixMillis {
    UnixMillis(now().0.saturating_sub(u64::try_from(earlier.as_millis()).unwrap_or(u64::MAX)))
}

/// An account with one terminal, all of whose secrets are known.
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
    /// Where its records lie.
    pub key: RecordKey,
}

impl std::fmt::Debug for Person {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Person({:?})", self.identity.public())
    }
}

impl Person {
    /// The account of a seed, with the plain number of its first good nonce: some 256 slow hashes.
    pub fn mine(seed: u8) -> Self {
        let unproven = Self::unproven(seed);
        let mut miner = Miner::new();
        let identity = unproven.identity.public();
        let mined = (0..).step_by(256).find_map(|start| miner.mine(&identity, start..start + 256));
        let (proof, plain) = mined.expect("of 2^64 nonces every 256th gives a number");
        let (number, key) = (Number::Plain(plain), plain.key());
        Self { number, proof: NumberProof::Plain(proof), key, ..unproven }
    }

    /// The account of a seed under a number of its own choice, to which it has no right.
    pub fn unproven(seed: u8) -> Self {
        let plain = PlainNumber::from_index(u64::from(seed) * 7_919);
        Self {
            identity: IdentityKey::from_seed([seed; 32]),
            terminal: TerminalKey::from_seed([seed ^ 0x55; 32]),
            seal: SealKey::from_seed([seed ^ 0xaa; 32]),
            number: Number::Plain(plain),
            proof: NumberProof::Plain(PlainProof { nonce: u64::from(seed) }),
            key: plain.key(),
        }
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

    /// The terminal's certificate, issued an hour ago.
    pub fn cert(&self) -> SignedCert {
        let issued = ago(Duration::from_secs(3_600));
        SignedCert::issue(&self.identity, self.terminal.public(), self.seal.public(), issued)
    }

    /// An account record of this time, as it should be.
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
        }
    }

    /// A terminal record of this time, as it should be.
    pub fn terminal_record(&self, seq: UnixMillis, addrs: &[NodeAddr]) -> TerminalRecord {
        TerminalRecord {
            number: self.number.clone(),
            cert: self.cert(),
            addrs: addrs.to_vec(),
            seq,
            expires: seq.plus(TERMINAL_LIFETIME),
        }
    }

    /// Both records of this time, signed.
    pub fn set(&self, seq: UnixMillis, addrs: &[NodeAddr]) -> RecordSet {
        RecordSet {
            account: Some(self.account_record(seq).sign(&self.identity)),
            terminals: vec![self.terminal_record(seq, addrs).sign(&self.terminal)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_proto::record;

    #[test]
    fn people_made_by_hand_pass_every_check() {
        let addr: NodeAddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let plain = Person::mine(1);
        let chosen = plain.with_chosen("ada@example.org", &DirectoryKey::from_seed([9; 32]));
        for person in [plain, chosen] {
            let bytes = person.set(now(), std::slice::from_ref(&addr)).encode();
            let set = record::check(&person.key, &bytes, now()).unwrap();
            assert!(set.proof_task().unwrap().run());
            assert_eq!(set.terminals[0].addrs, std::slice::from_ref(&addr));
        }
    }
}
