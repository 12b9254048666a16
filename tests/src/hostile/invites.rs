//! Invites made by hand, and those of a crowd that nobody has ever seen.

use std::sync::Arc;

use offhook_proto::identity::TerminalCert;
use offhook_proto::puzzle::Solution;
use offhook_proto::signalling::{CallId, Codec, Introduction, MediaOffer, Message, Packet, seal};

use crate::people::{Person, now};

/// An invite of the call number `n` of somebody, sealed to a terminal; `solution`: what it shows to have worked.
///
/// # Panics
/// Never: it is within its limits.
#[must_use]
pub fn invite(from: &Person, to: &TerminalCert, n: u64, solution: Option<Solution>) -> Vec<u8> {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    id[8..].copy_from_slice(&from.key().0[..8]);
    let intro = Introduction {
        number: from.number.clone(),
        proof: from.proof.clone(),
        identity: from.identity.public(),
        cert: from.cert(now()),
        routes: Vec::new(),
        chosen: None,
    };
    let offer = MediaOffer {
        ice_ufrag: "evil".to_owned(),
        ice_pwd: "no password is long enough".to_owned(),
        fingerprint: [9; 32],
        codecs: vec![Codec::Opus],
    };
    let packet = Packet {
        call: CallId::from_bytes(id),
        from: from.terminal.public(),
        to: to.terminal,
        seq: 1,
        ack: 0,
        time: now(),
        intro: Some(Arc::new(intro)),
        message: Some(Message::Invite { offer, candidates: Vec::new(), replaces: None, solution }),
    };
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(&id);
    seal(&packet, &from.terminal, &to.seal, seed).expect("an invite within its limits")
}

/// So many invites, each of an identity and a terminal that nobody has ever seen, from the `first` one of them on.
#[must_use]
pub fn of_a_crowd(to: &TerminalCert, first: u64, count: u64) -> Vec<Vec<u8>> {
    (first..first + count).map(|n| invite(&Person::fresh(n), to, n, None)).collect()
}
