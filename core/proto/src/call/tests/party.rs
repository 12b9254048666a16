//! Accounts and terminals for tests. Made once: signing certificates is what takes time.

use std::sync::{Arc, OnceLock};

use crate::call::{LocalParty, Peer};
use crate::identity::{IdentityKey, SealKey, SignedCert, TerminalKey};
use crate::number::{Number, PlainNumber};
use crate::proof::{NumberProof, PlainProof};
use crate::signalling::{Introduction, Opened, Packet, VerifiedIntro};
use crate::wire::UnixMillis;

/// The wall clock at the beginning of every test.
pub(super) const WALL: UnixMillis = UnixMillis(1_800_000_000_000);

/// A terminal of an account.
#[derive(Clone, Debug)]
pub(super) struct Party {
    pub local: LocalParty,
    pub peer: Peer,
    intro: Arc<Introduction>,
    verified: Arc<VerifiedIntro>,
}

impl Party {
    /// Terminal `terminal` of account `account`.
    pub fn new(account: u8, terminal: u8) -> Self {
        let identity = IdentityKey::from_seed([account; 32]);
        let key = TerminalKey::from_seed([100 + account * 10 + terminal; 32]);
        let seal = SealKey::from_seed([account * 10 + terminal; 32]).public();
        let intro = Introduction {
            number: Self::number(account),
            proof: NumberProof::Plain(PlainProof { nonce: 1 }),
            identity: identity.public(),
            cert: SignedCert::issue(&identity, key.public(), seal, WALL),
            routes: Vec::new(),
            chosen: None,
        };
        let (record_key, proof) = intro.proof.check(&intro.number, &intro.identity, WALL).unwrap();
        let verified = VerifiedIntro {
            number: intro.number.clone(),
            identity: intro.identity,
            cert: intro.cert.verify(WALL).unwrap(),
            routes: Vec::new(),
            record_key,
            proof,
            chosen: None,
        };
        let peer = Peer { identity: intro.identity, terminal: key.public(), seal, routes: Vec::new() };
        Self {
            local: LocalParty { terminal: key.public(), intro: intro.clone() },
            peer,
            intro: Arc::new(intro),
            verified: Arc::new(verified),
        }
    }

    /// Terminals 0 to 2 of accounts 0 to 3.
    pub fn get(account: usize, terminal: usize) -> &'static Self {
        static PARTIES: OnceLock<Vec<Party>> = OnceLock::new();
        let all = PARTIES.get_or_init(|| {
            (0..4).flat_map(|account| (0..3).map(move |terminal| Self::new(account, terminal))).collect()
        });
        &all[account * 3 + terminal]
    }

    pub fn number(account: u8) -> Number {
        Number::Plain(PlainNumber::from_index(u64::from(account) + 1))
    }

    /// What `open` makes of a packet that this terminal sent. Its hash is computed where it matters only.
    pub fn opened(&self, packet: Packet) -> Opened {
        if let Some(intro) = &packet.intro {
            assert!(**intro == *self.intro, "a terminal introduces itself as itself");
        }
        let payload_hash = if packet.seq == 1 { packet.payload_hash() } else { [0; 32] };
        let intro = packet.intro.is_some().then(|| Arc::clone(&self.verified));
        Opened { packet, payload_hash, intro }
    }
}
