//! Tests of encoding, limits and sealing.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::identity::{CertError, IdentityKey, SealKey, SealPublic, TerminalKey};
use crate::number::PlainNumber;
use crate::proof::{PlainProof, ProofError};
use crate::puzzle::{PuzzleKey, Subject};
use crate::wire::Signed;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

struct Sender {
    identity: IdentityKey,
    key: TerminalKey,
    seal: SealKey,
}

impl Sender {
    fn new(n: u8) -> Self {
        Self {
            identity: IdentityKey::from_seed([n; 32]),
            key: TerminalKey::from_seed([n + 1; 32]),
            seal: SealKey::from_seed([n + 2; 32]),
        }
    }

    fn intro(&self) -> Introduction {
        Introduction {
            number: Number::Plain(PlainNumber::from_index(7)),
            proof: NumberProof::Plain(PlainProof { nonce: 3 }),
            identity: self.identity.public(),
            cert: SignedCert::issue(&self.identity, self.key.public(), self.seal.public(), NOW),
            routes: vec!["/ip4/192.0.2.1/udp/4001/quic-v1".parse().unwrap()],
            chosen: None,
        }
    }

    fn packet(&self, to: &Self, message: Option<Message>) -> Packet {
        Packet {
            call: CallId::from_bytes([1; 16]),
            from: self.key.public(),
            to: to.key.public(),
            seq: 1,
            ack: 2,
            time: NOW,
            intro: Some(Arc::new(self.intro())),
            message,
        }
    }
}

fn solution(bits: u8) -> Solution {
    let subject = Subject::call(&IdentityId::from_bytes([1; 32]), &IdentityId::from_bytes([2; 32]));
    let challenge = PuzzleKey::from_seed([3; 32]).challenge(&subject, bits, UnixMillis(1_800_000_000_000));
    Solution { challenge, nonce: u64::MAX }
}

fn offer() -> MediaOffer {
    MediaOffer {
        ice_ufrag: "frag".to_owned(),
        ice_pwd: "p".repeat(22),
        fingerprint: [9; 32],
        codecs: vec![Codec::Opus, Codec::Other(77)],
    }
}

fn transfer(successor: Option<Successor>) -> Message {
    let number = Number::Plain(PlainNumber::from_index(7));
    let key = successor.map(|_| IdentityId::from_bytes([3; 32]).fingerprint());
    Message::Transfer { id: TransferId::from_bytes([5; 16]), number, key, successor }
}

fn presence(note: &str) -> Presence {
    let told = PresenceTold { state: PresenceCode::Other(9), note: note.to_owned(), good_for: 7200 };
    Presence { told: Some(told), ask: false, watch: true }
}

fn messages() -> Vec<Message> {
    let candidates = vec!["candidate:1 1 udp 2 192.0.2.1 9 typ host".to_owned()];
    vec![
        Message::Invite { offer: offer(), candidates: Vec::new(), replaces: None, solution: None },
        Message::Ringing { offer: offer(), candidates: candidates.clone() },
        Message::Accept { invite_hash: [3; 32], candidates: vec!["candidate".into()] },
        Message::Confirm { candidates: Vec::new() },
        Message::reject(RejectReason::Busy),
        Message::reject(RejectReason::Other(200)),
        Message::Cancel { reason: CancelReason::Glare },
        Message::Bye { reason: None },
        Message::Candidates { list: candidates, generation: 3 },
        Message::Text { id: TextId::from_bytes([4; 16]), body: "안녕 ☎".to_owned() },
        Message::Dtmf { digit: '#', duration_ms: 40 },
        Message::Hold { on: true },
        Message::Mute { on: false },
        Message::Bye { reason: Some(ByeReason::NoMediaPath) },
        Message::TextRefused { id: TextId::from_bytes([4; 16]) },
        Message::Recording { state: RecordingState::Wanted },
        Message::Recording { state: RecordingState::Other(9) },
        transfer(None),
        transfer(Some(Successor {
            token: Token::from_bytes([1; 16]),
            terminal: TerminalId::from_bytes([2; 32]),
        })),
        Message::TransferProgress { id: TransferId::from_bytes([5; 16]), step: TransferStep::Ringing },
        Message::TransferProgress { id: TransferId::from_bytes([5; 16]), step: TransferStep::Other(99) },
        Message::Invite {
            offer: offer(),
            candidates: Vec::new(),
            replaces: Some(Token::from_bytes([1; 16])),
            solution: Some(solution(6)),
        },
        Message::reject(RejectReason::Voicemail),
        Message::Reject { reason: RejectReason::Work, challenge: Some(solution(6).challenge) },
        Message::reject(RejectReason::Work),
        Message::Presence(presence("")),
        Message::Presence(Presence { told: None, ask: true, watch: true }),
        Message::Expect { token: Token::from_bytes([1; 16]), identity: IdentityId::from_bytes([3; 32]) },
    ]
}

fn open_by(to: &Sender, blob: &[u8]) -> Result<Opened, OpenError> {
    open(blob, &to.seal, &to.key.public(), &|_, _| false, NOW)
}

/// Signs and seals any envelope, as a hostile sender could.
fn seal_raw(envelope: &[u8], to: &SealPublic) -> Vec<u8> {
    super::seal::seal_bytes(envelope, to, [5; 32]).unwrap()
}

#[test]
fn sealed_packets_open_as_what_they_were() {
    let (alice, bob) = (Sender::new(1), Sender::new(11));
    for message in messages() {
        let packet = alice.packet(&bob, Some(message));
        let blob = seal(&packet, &alice.key, &bob.seal.public(), [6; 32]).unwrap();
        let opened = open_by(&bob, &blob).unwrap();
        assert_eq!(opened.packet, packet);
        assert_eq!(opened.payload_hash, packet.payload_hash());
        let intro = opened.intro.unwrap();
        assert_eq!((intro.identity, intro.cert.terminal), (alice.identity.public(), alice.key.public()));
        assert_eq!(intro.cert.seal, alice.seal.public());
    }
    let mut tunnel = alice.packet(&bob, Some(Message::Tunnel { datagrams: vec![vec![1; 1500].into(); 3] }));
    tunnel.seq = 0;
    let blob = seal(&tunnel, &alice.key, &bob.seal.public(), [6; 32]).unwrap();
    assert_eq!(open_by(&bob, &blob).unwrap().packet, tunnel);
    let same = seal(&tunnel, &alice.key, &bob.seal.public(), [6; 32]).unwrap();
    let other = seal(&tunnel, &alice.key, &bob.seal.public(), [7; 32]).unwrap();
    assert!(blob == same && blob != other, "randomness comes from the seed alone");
}

#[test]
fn everything_at_its_limit_fits() {
    let (alice, bob) = (Sender::new(1), Sender::new(11));
    let candidates = vec!["c".repeat(MAX_CANDIDATE_BYTES); MAX_CANDIDATES];
    let mut packet = alice.packet(&bob, None);
    let mut intro = alice.intro();
    let route = format!("/dns4/{}/udp/4001/quic-v1", "d".repeat(200));
    intro.routes = vec![route.parse().unwrap(); MAX_ROUTES];
    packet.intro = Some(Arc::new(intro));
    let offer = MediaOffer { ice_ufrag: "u".repeat(32), ice_pwd: "p".repeat(64), ..offer() };
    for message in [
        Message::Invite { offer, candidates, replaces: Some(Token::from_bytes([1; 16])), solution: None },
        Message::Text { id: TextId::from_bytes([0; 16]), body: "x".repeat(MAX_TEXT_BYTES) },
        Message::Tunnel { datagrams: vec![vec![0; MAX_TUNNEL_BYTES].into(); MAX_TUNNEL_DATAGRAMS] },
    ] {
        packet.seq = u32::from(!matches!(message, Message::Tunnel { .. }));
        packet.message = Some(message);
        let blob = seal(&packet, &alice.key, &bob.seal.public(), [6; 32]).unwrap();
        assert!(blob.len() <= MAX_BLOB_BYTES, "{}", blob.len());
        assert_eq!(open_by(&bob, &blob).unwrap().packet, packet);
    }
}

#[test]
fn sealing_refuses_what_nobody_would_open() {
    let (alice, bob) = (Sender::new(1), Sender::new(11));
    let packet = alice.packet(&bob, Some(Message::Bye { reason: None }));
    assert_eq!(seal(&packet, &bob.key, &bob.seal.public(), [0; 32]), Err(SealError::NotOurs));
    let zero = SealPublic::from_bytes([0; 32]);
    assert_eq!(seal(&packet, &alice.key, &zero, [0; 32]), Err(SealError::BadKey));
    let dtmf = alice.packet(&bob, Some(Message::Dtmf { digit: 'x', duration_ms: 100 }));
    let refused = seal(&dtmf, &alice.key, &bob.seal.public(), [0; 32]);
    assert_eq!(refused, Err(SealError::Limit(LimitError::Dtmf)));
}

#[test]
fn blobs_for_others_damaged_or_of_other_versions_are_refused() {
    let (alice, bob) = (Sender::new(1), Sender::new(11));
    let packet = alice.packet(&bob, Some(Message::Bye { reason: None }));
    let blob = seal(&packet, &alice.key, &bob.seal.public(), [6; 32]).unwrap();
    assert_eq!(open_by(&alice, &blob).unwrap_err(), OpenError::Sealed);
    for n in 0..blob.len() {
        let mut damaged = blob.clone();
        damaged[n] ^= 1;
        let error = open_by(&bob, &damaged).unwrap_err();
        assert!(matches!(error, OpenError::Sealed | OpenError::Version), "byte {n}: {error}");
        assert!(open_by(&bob, &blob[..n]).is_err());
    }
    assert_eq!(open_by(&bob, &[1; MAX_BLOB_BYTES + 1]).unwrap_err(), OpenError::TooLarge);
    assert_eq!(open_by(&bob, &[]).unwrap_err(), OpenError::Version);
    // Sealed to Bob's key, but meant for another terminal: passed on by a hostile receiver.
    let for_carol = alice.packet(&Sender::new(21), Some(Message::Bye { reason: None }));
    let blob = seal(&for_carol, &alice.key, &bob.seal.public(), [6; 32]).unwrap();
    assert_eq!(open_by(&bob, &blob).unwrap_err(), OpenError::NotForUs);
}

#[test]
fn forged_packets_are_refused() {
    let (alice, bob, mallory) = (Sender::new(1), Sender::new(11), Sender::new(21));
    let open_raw =
        |signed: &Signed| open_envelope(&wire::encode(signed), &bob.key.public(), &|_, _| false, NOW);
    let packet = alice.packet(&bob, Some(Message::Bye { reason: None }));
    let by_mallory = mallory.key.sign(wire::domain::SIGNAL, &packet.payload());
    assert_eq!(open_raw(&by_mallory).unwrap_err(), OpenError::Signature);
    let other_domain = alice.key.sign(wire::domain::TERMINAL_RECORD, &packet.payload());
    assert_eq!(open_raw(&other_domain).unwrap_err(), OpenError::Signature);

    // Mallory's terminal with Alice's introduction, and with Alice's name but her own certificate.
    let mut borrowed = mallory.packet(&bob, Some(Message::Bye { reason: None }));
    borrowed.intro = Some(Arc::new(alice.intro()));
    let signed = mallory.key.sign(wire::domain::SIGNAL, &borrowed.payload());
    assert_eq!(open_raw(&signed).unwrap_err(), OpenError::CertMismatch);
    let mut claimed = mallory.intro();
    claimed.identity = alice.identity.public();
    borrowed.intro = Some(Arc::new(claimed));
    let signed = mallory.key.sign(wire::domain::SIGNAL, &borrowed.payload());
    assert_eq!(open_raw(&signed).unwrap_err(), OpenError::CertMismatch);

    // A chosen number with the proof of a plain one.
    let mut odd = mallory.intro();
    odd.number = "ada@example.org".parse().unwrap();
    borrowed.intro = Some(Arc::new(odd));
    let signed = mallory.key.sign(wire::domain::SIGNAL, &borrowed.payload());
    assert_eq!(open_raw(&signed).unwrap_err(), OpenError::Proof(ProofError::Kind));
}

#[test]
fn the_number_proof_is_left_to_do() {
    let (alice, bob) = (Sender::new(1), Sender::new(11));
    let packet = alice.packet(&bob, Some(Message::Bye { reason: None }));
    let blob = seal(&packet, &alice.key, &bob.seal.public(), [6; 32]).unwrap();
    let proof = &open_by(&bob, &blob).unwrap().intro.unwrap().proof;
    assert!(!proof.run(), "the nonce was made up");
}

#[test]
fn certificates_expire() {
    let (alice, bob) = (Sender::new(1), Sender::new(11));
    let packet = alice.packet(&bob, Some(Message::Bye { reason: None }));
    let blob = seal(&packet, &alice.key, &bob.seal.public(), [6; 32]).unwrap();
    let later = NOW.plus(std::time::Duration::from_secs(400 * 24 * 3600));
    let error = open(&blob, &bob.seal, &bob.key.public(), &|_, _| true, later).unwrap_err();
    assert!(matches!(error, OpenError::Cert(CertError::Expired)), "{error:?}");
}

#[test]
fn without_an_introduction_the_dialog_must_be_known() {
    let (alice, bob) = (Sender::new(1), Sender::new(11));
    let mut packet = alice.packet(&bob, Some(Message::Bye { reason: None }));
    packet.intro = None;
    let blob = seal(&packet, &alice.key, &bob.seal.public(), [6; 32]).unwrap();
    assert_eq!(open_by(&bob, &blob).unwrap_err(), OpenError::UnknownDialog);
    let known = |call: &CallId, terminal: &TerminalId| *call == packet.call && *terminal == packet.from;
    let opened = open(&blob, &bob.seal, &bob.key.public(), &known, NOW).unwrap();
    assert!(opened.intro.is_none());
}

#[test]
fn limits_are_checked_on_receipt() {
    let (alice, bob) = (Sender::new(1), Sender::new(11));
    let many = |n: usize, len: usize| vec!["c".repeat(len); n];
    let tunnelled = |n: usize, len: usize| vec![vec![0; len].into(); n];
    let cases = [
        (1, Message::Candidates { list: many(17, 1), generation: 0 }, LimitError::Candidates),
        (1, Message::Candidates { list: many(1, 257), generation: 0 }, LimitError::Candidates),
        (1, Message::Candidates { list: Vec::new(), generation: 0 }, LimitError::Candidates),
        (1, Message::Candidates { list: many(1, 0), generation: 0 }, LimitError::Candidates),
        (1, Message::Text { id: TextId::from_bytes([0; 16]), body: "x".repeat(4097) }, LimitError::Text),
        (1, Message::Dtmf { digit: 'E', duration_ms: 100 }, LimitError::Dtmf),
        (1, Message::Dtmf { digit: '1', duration_ms: 39 }, LimitError::Dtmf),
        (1, Message::Dtmf { digit: '1', duration_ms: 6001 }, LimitError::Dtmf),
        (0, Message::Tunnel { datagrams: tunnelled(1, 1501) }, LimitError::Tunnel),
        (0, Message::Tunnel { datagrams: tunnelled(1, 0) }, LimitError::Tunnel),
        (0, Message::Tunnel { datagrams: tunnelled(4, 1) }, LimitError::Tunnel),
        (0, Message::Tunnel { datagrams: tunnelled(0, 1) }, LimitError::Tunnel),
        (1, Message::Tunnel { datagrams: tunnelled(1, 1) }, LimitError::Sequence),
        (1, Message::Presence(presence(&"x".repeat(MAX_NOTE_BYTES + 1))), LimitError::Text),
        (0, Message::Bye { reason: None }, LimitError::Sequence),
        (
            1,
            Message::Invite {
                offer: MediaOffer { ice_ufrag: "abc".to_owned(), ..offer() },
                candidates: Vec::new(),
                replaces: None,
                solution: None,
            },
            LimitError::Offer,
        ),
        (
            1,
            Message::Ringing { offer: MediaOffer { codecs: Vec::new(), ..offer() }, candidates: Vec::new() },
            LimitError::Offer,
        ),
    ];
    for (seq, message, error) in cases {
        let mut packet = alice.packet(&bob, Some(message));
        packet.seq = seq;
        let signed = alice.key.sign(wire::domain::SIGNAL, &packet.payload());
        let blob = seal_raw(&wire::encode(&signed), &bob.seal.public());
        assert_eq!(open_by(&bob, &blob).unwrap_err(), OpenError::Limit(error));
    }
}

/// A later version may send kinds, fields and reasons that we don't know.
#[test]
fn later_versions_are_understood_as_far_as_possible() {
    #[derive(Encode)]
    #[cbor(map)]
    enum Later {
        #[n(900)]
        Hologram {
            #[n(0)]
            depth: u32,
            #[n(1)]
            nested: Vec<Vec<u8>>,
        },
        #[n(4)]
        Reject {
            #[n(0)]
            reason: u8,
            #[n(9)]
            comment: String,
        },
        #[n(6)]
        Bye {
            #[n(0)]
            reason: u8,
            #[n(1)]
            comment: String,
        },
    }
    #[derive(Encode)]
    #[cbor(map)]
    struct LaterPacket {
        #[n(0)]
        call: CallId,
        #[n(1)]
        from: TerminalId,
        #[n(2)]
        to: TerminalId,
        #[n(3)]
        seq: u32,
        #[n(4)]
        ack: u32,
        #[n(5)]
        time: UnixMillis,
        #[n(7)]
        message: Later,
        #[n(40)]
        more: u8,
    }
    let (alice, bob) = (Sender::new(1), Sender::new(11));
    let known = alice.packet(&bob, None);
    let read = |message: Later| -> Packet {
        let later = LaterPacket {
            call: known.call,
            from: known.from,
            to: known.to,
            seq: 1,
            ack: 0,
            time: NOW,
            message,
            more: 1,
        };
        wire::decode(&wire::encode(&later), MAX_BLOB_BYTES).unwrap()
    };
    let unknown = read(Later::Hologram { depth: 3, nested: vec![vec![1, 2, 3]] });
    assert_eq!((unknown.seq, unknown.message), (1, None));
    let reason = read(Later::Reject { reason: 99, comment: "later".to_owned() }).message;
    assert_eq!(reason, Some(Message::reject(RejectReason::Other(99))));
    let bye = read(Later::Bye { reason: 99, comment: "later".to_owned() }).message;
    assert_eq!(bye, Some(Message::Bye { reason: Some(ByeReason::Other(99)) }));
}

/// Before it had a reason a bye was an empty map; such a reader passes over the reason.
#[test]
fn a_bye_without_a_reason_is_the_bye_of_old() {
    #[derive(Encode, Decode, Debug, PartialEq)]
    #[cbor(map)]
    enum Old {
        #[n(6)]
        Bye,
    }
    let old = wire::encode(&Old::Bye);
    assert_eq!(wire::encode(&Message::Bye { reason: None }), old);
    assert_eq!(wire::decode(&old, 9), Ok(Message::Bye { reason: None }));
    let new = wire::encode(&Message::Bye { reason: Some(ByeReason::MediaLost) });
    assert_eq!(wire::decode(&new, 9), Ok(Old::Bye));
}

/// The encoding of version 1, byte for byte. These files are also where the fuzzer begins.
#[test]
fn version_1_of_packets_stays_as_it_is() {
    let seeds: [(&[u8], usize); 4] = [
        (include_bytes!("../../../../fuzz/seeds/packet/invite"), 0),
        (include_bytes!("../../../../fuzz/seeds/packet/ringing"), 1),
        (include_bytes!("../../../../fuzz/seeds/packet/reject"), 4),
        (include_bytes!("../../../../fuzz/seeds/packet/text"), 9),
    ];
    let (alice, bob) = (Sender::new(1), Sender::new(11));
    for (bytes, message) in seeds {
        let packet = alice.packet(&bob, Some(messages().swap_remove(message)));
        assert_eq!(packet.payload(), bytes);
        assert_eq!(wire::decode::<Packet>(bytes, MAX_BLOB_BYTES), Ok(packet));
    }
}

#[test]
fn ids_print_and_parse() {
    let id = CallId::from_bytes(std::array::from_fn(|n| u8::try_from(n * 17).unwrap()));
    assert_eq!(id.to_string(), "00112233445566778899aabbccddeeff");
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!(serde_json::from_str::<CallId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
    for bad in [
        "",
        "00",
        "0011223344556677889gaabbccddeeff",
        "00112233445566778899aabbccddeeff00",
        "+0112233445566778899aabbccddeefé",
    ] {
        assert_eq!(bad.parse::<CallId>(), Err(IdSyntax), "{bad}");
    }
}

#[test]
fn reasons_keep_their_codes() {
    for code in 0..=255 {
        assert_eq!(RejectReason::from_code(code).code(), code);
        assert_eq!(CancelReason::from_code(code).code(), code);
        assert_eq!(ByeReason::from_code(code).code(), code);
        assert_eq!(Codec::from_code(code).code(), code);
    }
}

#[test]
fn an_accept_a_move_and_what_comes_last_are_urgent() {
    let candidates = |generation| Message::Candidates { list: vec!["candidate:1".to_owned()], generation };
    assert!(candidates(1).is_urgent() && !candidates(0).is_urgent());
    let others = messages().into_iter().filter(|message| message.is_urgent() && !message.is_final());
    let kinds: std::collections::BTreeSet<_> = others.map(|message| message.kind()).collect();
    assert!(
        kinds.contains("accept") && kinds.iter().all(|kind| ["accept", "candidates"].contains(kind)),
        "{kinds:?}"
    );
}

#[test]
fn last_words_survive_as_codes() {
    let finals = messages().into_iter().filter(Message::is_final);
    let words: Vec<_> = finals.map(|message| LastWord::of(&message).unwrap()).collect();
    assert!(words.len() >= 5);
    for word in words {
        assert_eq!(LastWord::from_code(word.code().into()), Some(word));
    }
    assert_eq!(LastWord::Bye(None).code(), 0, "as connections were closed before");
    for other in [1, 0xff, 0x100, 0x3ff, 0x700, 0x1_0000_0400, u64::MAX] {
        assert_eq!(LastWord::from_code(other), None, "{other:#x}");
    }
    assert!(messages().iter().all(|message| message.is_final() == LastWord::of(message).is_some()));
}

proptest! {
    #[test]
    fn opening_and_decoding_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let bob = Sender::new(11);
        let _ = open_by(&bob, &bytes);
        let _ = wire::decode::<Packet>(&bytes, MAX_BLOB_BYTES);
        // What is inside of a blob that is properly sealed by a hostile sender.
        prop_assert!(open_by(&bob, &seal_raw(&bytes, &bob.seal.public())).is_err());
        let signed = Sender::new(1).key.sign(wire::domain::SIGNAL, &bytes);
        prop_assert!(open_by(&bob, &seal_raw(&wire::encode(&signed), &bob.seal.public())).is_err());
    }

    #[test]
    fn damaged_packets_never_panic(which in 0_usize..15, at in any::<usize>(), to in any::<u8>()) {
        let (alice, bob) = (Sender::new(1), Sender::new(11));
        let mut payload = alice.packet(&bob, Some(messages().swap_remove(which))).payload();
        let at = at % payload.len();
        payload[at] = to;
        if let Ok(packet) = wire::decode::<Packet>(&payload, MAX_BLOB_BYTES) {
            let _ = packet.check();
            let _ = format!("{packet:?}");
        }
    }
}

#[test]
fn q3_a_chosen_number_comes_along_if_its_certificate_is_the_senders() {
    use crate::identity::DirectoryKey;
    use crate::number::ChosenNumber;
    use crate::proof::SignedChosenCert;

    let (ada, eve) = (Sender::new(1), Sender::new(10));
    let directory = DirectoryKey::from_seed([5; 32]);
    let number = ChosenNumber::new("ada", Some("example.org")).unwrap();
    let certify = |of: &Sender, at: u64| {
        SignedChosenCert::certify(&directory, &number, of.identity.public(), UnixMillis(at)).unwrap()
    };
    let opened = |cert: SignedChosenCert| {
        let mut packet = ada.packet(&eve, None);
        packet.intro = Some(Arc::new(Introduction { chosen: Some(cert), ..ada.intro() }));
        let blob = seal(&packet, &ada.key, &eve.seal.public(), [7; 32]).unwrap();
        open(&blob, &eve.seal, &eve.key.public(), &|_, _| false, NOW).map(|opened| opened.intro.unwrap())
    };
    let intro = opened(certify(&ada, NOW.0)).unwrap();
    let shown = intro.by_chosen().unwrap();
    assert_eq!(
        (shown.number.to_string().as_str(), shown.identity),
        ("ada@example.org", ada.identity.public())
    );
    assert_eq!(Some(shown.record_key), shown.number.record_key(Some(&directory.public())));
    assert_ne!(shown.record_key, intro.record_key);
    // One that is over is not shown; the plain number is still good.
    let over = opened(certify(&ada, NOW.0 - 181 * 86_400_000)).unwrap();
    assert!(over.by_chosen().is_none() && over.number == ada.intro().number);
    assert!(matches!(opened(certify(&eve, NOW.0)), Err(OpenError::CertMismatch)));
    let cert = certify(&ada, NOW.0).verify(NOW).unwrap();
    let forged = SignedChosenCert::issue(&DirectoryKey::from_seed([6; 32]), &cert);
    assert!(matches!(opened(forged), Err(OpenError::Proof(ProofError::BadSignature))));
}
