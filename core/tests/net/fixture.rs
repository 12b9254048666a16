//! Accounts made in advance: mining a number takes seconds, and every test needs some.

use std::time::Duration;

use offhook_proto::descriptor::{DESCRIPTOR_LIFETIME, Descriptor, SignedDescriptor};
use offhook_proto::identity::{DirectoryKey, IdentityKey, SealKey, SignedCert, TerminalKey};
use offhook_proto::number::{NodeAddr, Number, PlainNumber, RecordKey};
use offhook_proto::proof::{ChosenCert, NumberProof, PlainProof, SignedChosenCert};
use offhook_proto::record::{AccountRecord, RecordSet, SignedAccount, SignedTerminal, TerminalRecord};
use offhook_proto::wire::UnixMillis;

/// Nonce and number of the identity with the seed [1; 32], [2; 32] and so on.
const MINED: [(u64, u64); 12] = [
    (22, 923_038_718_324),
    (98, 27_190_285_890),
    (132, 676_531_508_245),
    (697, 190_053_534_541),
    (316, 26_464_980_868),
    (191, 409_214_927_275),
    (78, 387_245_519_274),
    (94, 926_998_291_654),
    (618, 757_783_035_295),
    (669, 497_303_081_163),
    (75, 628_235_251_394),
    (271, 285_633_727_721),
];

/// How many accounts there are.
#[allow(dead_code)]
pub const PARTIES: u8 = 12;

/// An account with one terminal.
pub struct Party {
    pub identity: IdentityKey,
    pub terminal: TerminalKey,
    pub number: Number,
    pub proof: NumberProof,
}

#[allow(dead_code)]
impl Party {
    /// The account number `n`, from 0 to 11.
    pub fn new(n: u8) -> Self {
        let (nonce, number) = MINED[usize::from(n)];
        let digits: Vec<u8> = format!("{number:012}").bytes().map(|digit| digit - b'0').collect();
        Self {
            identity: IdentityKey::from_seed([n + 1; 32]),
            terminal: TerminalKey::from_seed([n + 101; 32]),
            number: Number::Plain(PlainNumber::from_digits(&digits).unwrap()),
            proof: NumberProof::Plain(PlainProof { nonce }),
        }
    }

    /// The same account with another terminal.
    pub fn with_terminal(n: u8, seed: u8) -> Self {
        Self { terminal: TerminalKey::from_seed([seed; 32]), ..Self::new(n) }
    }

    /// The account number `n` with a chosen number, which a careless directory has given to every one of them.
    pub fn chosen(n: u8) -> Self {
        let party = Self::new(n);
        let directory = DirectoryKey::from_seed([55; 32]);
        let number: Number = "ada@directory.example".parse().unwrap();
        let (issued, expires) = (UnixMillis(now().0 - 1_000), now().plus(Duration::from_secs(86_400 * 60)));
        let cert = ChosenCert {
            number: number.clone(),
            identity: party.identity.public(),
            directory: directory.public(),
            issued,
            expires,
        };
        let NumberProof::Plain(plain) = party.proof else { panic!("a plain number") };
        let cert = SignedChosenCert::issue(&directory, &cert);
        Self { number, proof: NumberProof::Chosen(cert, plain), ..party }
    }

    pub fn key(&self) -> RecordKey {
        self.number.record_key(Some(&DirectoryKey::from_seed([55; 32]).public())).unwrap()
    }

    pub fn cert(&self, now: UnixMillis) -> SignedCert {
        let seal = SealKey::from_seed([9; 32]).public();
        SignedCert::issue(&self.identity, self.terminal.public(), seal, now)
    }

    /// The account record before it is signed, to be spoilt.
    pub fn account_record(&self, seq: UnixMillis) -> AccountRecord {
        AccountRecord {
            number: self.number.clone(),
            proof: self.proof.clone(),
            identity: self.identity.public(),
            mailbox: SealKey::from_seed([8; 32]).public(),
            mailboxes: Vec::new(),
            revoked: Vec::new(),
            seq,
            expires: seq.plus(Duration::from_secs(86_400)),
            transfers: Vec::new(),
            backups: Vec::new(),
        }
    }

    pub fn account(&self, seq: UnixMillis) -> SignedAccount {
        self.account_record(seq).sign(&self.identity)
    }

    /// The terminal record before it is signed.
    pub fn terminal_record(&self, seq: UnixMillis, addrs: &[NodeAddr]) -> TerminalRecord {
        TerminalRecord {
            number: self.number.clone(),
            cert: self.cert(UnixMillis(seq.0.saturating_sub(1_000))),
            addrs: addrs.to_vec(),
            seq,
            expires: seq.plus(Duration::from_secs(3_600)),
        }
    }

    pub fn record(&self, seq: UnixMillis, addrs: &[NodeAddr]) -> SignedTerminal {
        self.terminal_record(seq, addrs).sign(&self.terminal)
    }

    pub fn set(&self, seq: UnixMillis, addrs: &[NodeAddr]) -> RecordSet {
        RecordSet { account: Some(self.account(seq)), terminals: vec![self.record(seq, addrs)] }
    }
}

/// What a directory might say of itself.
#[allow(dead_code)]
pub fn descriptor(key: &DirectoryKey, issued: UnixMillis) -> SignedDescriptor {
    let descriptor = Descriptor {
        name: "directory.example".to_owned(),
        directory: key.public(),
        nodes: Vec::new(),
        stun: Vec::new(),
        turn: Vec::new(),
        web: None,
        mailbox: false,
        issued,
        expires: issued.plus(DESCRIPTOR_LIFETIME),
    };
    SignedDescriptor::sign(key, &descriptor).unwrap()
}

/// The time now.
#[allow(dead_code)]
pub fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMillis(since.as_millis() as u64)
}
