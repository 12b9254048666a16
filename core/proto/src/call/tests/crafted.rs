//! Packets made by hand.

use std::sync::Arc;

use super::party::{Party, WALL};
use crate::call::CallError;
use crate::signalling::{CallId, Codec, MediaOffer, Message, Packet};

/// A packet by hand.
pub(super) fn craft(from: &Party, to: &Party, call: CallId, seq: u32, message: Message) -> Packet {
    Packet {
        call,
        from: from.local.terminal,
        to: to.local.terminal,
        seq,
        ack: 0,
        time: WALL,
        intro: Some(Arc::new(from.local.intro.clone())),
        message: Some(message),
    }
}

pub(super) fn invite() -> Message {
    Message::Invite { offer: offer(), candidates: Vec::new(), replaces: None, solution: None }
}

pub(super) fn call_id(byte: u8) -> CallId {
    CallId::from_bytes([byte; 16])
}

/// Inputs may come too late; that they change nothing then is what the invariants show.
pub(super) fn ignore(result: Result<(), CallError>) {
    if let Err(error) = result {
        assert!(!matches!(error, CallError::Limit(_)), "{error}");
    }
}

pub(super) fn offer() -> MediaOffer {
    MediaOffer {
        ice_ufrag: "ufrag".to_owned(),
        ice_pwd: "password-of-22-characters".to_owned(),
        fingerprint: [7; 32],
        codecs: vec![Codec::Opus],
    }
}
