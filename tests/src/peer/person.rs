//! Keys and records of somebody who needs no program.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use offhook_proto::identity::{DirectoryKey, IdentityKey, SealKey, SignedCert, TerminalKey};
use offhook_proto::number::{NodeAddr, Number, PlainNumber, RecordKey};
use offhook_proto::proof::{ChosenCert, Miner, NumberProof, PlainProof, SignedChosenCert};
use offhook_proto::record::{AccountRecord, RecordSet, TerminalRecord};
use offhook_proto::wire::UnixMillis;

/// An identity with one terminal and a plain number.
pub struct Person {
    /// Signs account records.
    pub identity: IdentityKey,
    /// Signs terminal records.
    pub terminal: TerminalKey,
    /// What signalling for the terminal is sealed to.
    pub seal: SealKey,
    /// The number.
    pub number: PlainNumber,
    /// What shows that it is theirs.
    pub proof: PlainProof,
}

impl Person {
    /// Makes keys from a seed and works out the number; about a second of computing.
    pub fn new(seed: u8) -> Self {
        let identity = IdentityKey::from_seed([seed; 32]);
        let mut miner = Miner::new();
        let mut from = 0;
        let (proof, number) = loop {
            // The mean is 256 tries; the ranges only keep the loop short.
            if let Some(found) = miner.mine(&identity.public(), from..from + 1024) {
                break found;
            }
            from += 1024;
        };
        let terminal = TerminalKey::from_seed([seed ^ 0xa5; 32]);
        let seal = SealKey::from_seed([seed ^ 0x5a; 32]);
        Self { identity, terminal, seal, number, proof }
    }

    /// Where the records lie.
    pub fn key(&self) -> RecordKey {
        self.number.key()
    }

    /// The account record of now.
    pub fn account(&self, now: UnixMillis) -> AccountRecord {
        AccountRecord {
            number: Number::Plain(self.number),
            proof: NumberProof::Plain(self.proof),
            identity: self.identity.public(),
            mailbox: self.seal.public(),
            mailboxes: Vec::new(),
            revoked: Vec::new(),
            seq: now,
            expires: now.plus(Duration::from_secs(300 * 86_400)),
        }
    }

    /// An account record for a name that a directory has given out.
    pub fn chosen_account(
        &self,
        directory: &DirectoryKey,
        number: &Number,
        now: UnixMillis,
    ) -> AccountRecord {
        let cert = ChosenCert {
            number: number.clone(),
            identity: self.identity.public(),
            directory: directory.public(),
            issued: now,
            expires: now.plus(Duration::from_secs(300 * 86_400)),
        };
        let proof = NumberProof::Chosen(SignedChosenCert::issue(directory, &cert), self.proof);
        AccountRecord { number: number.clone(), proof, ..self.account(now) }
    }

    /// The terminal record of now, for an account record's number.
    pub fn terminal_record(&self, number: &Number, addrs: Vec<NodeAddr>, now: UnixMillis) -> TerminalRecord {
        TerminalRecord {
            number: number.clone(),
            cert: SignedCert::issue(&self.identity, self.terminal.public(), self.seal.public(), now),
            addrs,
            seq: now,
            expires: now.plus(Duration::from_secs(7_000)),
        }
    }

    /// A complete, valid set.
    pub fn records(&self, addrs: Vec<NodeAddr>, now: UnixMillis) -> RecordSet {
        let terminal = self.terminal_record(&Number::Plain(self.number), addrs, now);
        RecordSet {
            account: Some(self.account(now).sign(&self.identity)),
            terminals: vec![terminal.sign(&self.terminal)],
        }
    }

    /// The time of day.
    pub fn now() -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(since.as_millis() as u64)
    }
}
