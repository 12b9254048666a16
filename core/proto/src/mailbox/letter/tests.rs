#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::seal::seal_envelope;
use super::*;
use crate::identity::{IdentityKey, MailboxKey, SealKey, SignedCert, TerminalKey};
use crate::mailbox::contacts::TokenSecret;
use crate::mailbox::{MAX_BLOB_BYTES, SIZE_CLASSES};
use crate::proof::tests::{ALICE, BOB, Vector};
use crate::signalling::MAX_ROUTES;
use crate::wire::{self, MAX_CLOCK_AHEAD, domain};

pub(crate) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn terminal(n: u8) -> TerminalKey {
    TerminalKey::from_seed([n; 32])
}

fn mailbox() -> MailboxKey {
    MailboxKey::from_seed([33; 32])
}

fn introduction(of: &Vector, by: &TerminalKey) -> Introduction {
    let seal = SealKey::from_seed([4; 32]).public();
    Introduction {
        number: of.number(),
        proof: of.proof(),
        identity: of.key().public(),
        cert: SignedCert::issue(&of.key(), by.public(), seal, NOW),
        routes: Vec::new(),
        chosen: None,
    }
}

/// A letter of Alice's terminal 1 for Bob.
pub(crate) fn letter(content: Content) -> Letter {
    Letter {
        id: MessageId::from_bytes([9; 16]),
        from: introduction(&ALICE, &terminal(1)),
        to: BOB.key().public(),
        mailbox: mailbox().public(),
        at: NOW,
        after: None,
        grants: Vec::new(),
        content,
    }
}

pub(crate) fn text(body: &str) -> Letter {
    letter(Content::Text { body: body.to_owned() })
}

fn voicemail(bytes: usize) -> Letter {
    let audio = (0..bytes).map(|n| u8::try_from(n % 251).unwrap()).collect();
    letter(Content::Voicemail(Voicemail { duration_ms: 90_000, format: Format::OggOpus, audio }))
}

pub(crate) fn seal(letter: &Letter) -> Vec<u8> {
    letter.seal(0, &terminal(1), [7; 32]).unwrap()
}

pub(crate) fn open_at(blob: &[u8], now: UnixMillis) -> Result<Received, OpenError> {
    open(blob, &[mailbox()], &BOB.key().public(), now)
}

fn pieces(letter: &Letter) -> Vec<Received> {
    let seal = |n: usize| letter.seal(n, &terminal(1), [u8::try_from(n).unwrap(); 32]).unwrap();
    (0..letter.pieces()).map(|n| open_at(&seal(n), NOW).unwrap()).collect()
}

#[test]
fn a_letter_says_who_wrote_what_when() {
    let of = vec![MessageId::from_bytes([1; 16]), MessageId::from_bytes([2; 16])];
    let mut letter = text("나중에 전화해 ☎");
    letter.after = Some(MessageId::from_bytes([8; 16]));
    letter.grants = vec![TokenSecret::from_seed([5; 32]).grant(
        &crate::identity::DirectoryId::from_bytes([1; 32]),
        &letter.to,
        0,
        NOW,
    )];
    let received = open_at(&seal(&letter), NOW).unwrap();
    assert_eq!((received.id, received.at, received.after), (letter.id, NOW, letter.after));
    assert_eq!(
        (received.from.identity, received.from.number.clone()),
        (ALICE.key().public(), ALICE.number())
    );
    assert_eq!(received.from.cert.terminal, terminal(1).public());
    assert!(received.from.proof.run());
    assert_eq!(received.grants, letter.grants);
    assert_eq!(received.part, Part::Text { body: "나중에 전화해 ☎".to_owned() });
    let mark = self::letter(Content::Mark { mark: Mark::Other(9), of: of.clone() });
    assert_eq!(open_at(&seal(&mark), NOW).unwrap().part, Part::Mark { mark: Mark::Other(9), of });
}

#[test]
fn a_blob_tells_its_size_class_and_nothing_else() {
    let lengths = [0, 1, 100].map(|len| seal(&text(&"x".repeat(len))).len());
    assert_eq!(lengths, [1024; 3]);
    assert_eq!(
        seal(&letter(Content::Mark { mark: Mark::Read, of: vec![MessageId::from_bytes([1; 16])] })).len(),
        1024
    );
    assert_eq!(seal(&text(&"x".repeat(MAX_TEXT_BYTES))).len(), 16 * 1024);
    // Neither names nor keys of anybody are in it.
    let blob = seal(&text("hello"));
    for secret in
        [ALICE.key().public().as_bytes(), BOB.key().public().as_bytes(), terminal(1).public().as_bytes()]
    {
        assert!(!blob.windows(32).any(|window| window == secret));
    }
}

#[test]
fn the_same_seed_gives_the_same_blob_so_a_deposit_can_be_repeated() {
    assert_eq!(seal(&text("hello")), seal(&text("hello")));
    let other = text("hello").seal(0, &terminal(1), [8; 32]).unwrap();
    assert_ne!(seal(&text("hello")), other);
}

/// What a directory that swaps blobs between mailboxes gets: nothing opens, or it names somebody else.
#[test]
fn q2_a_letter_opens_in_the_mailbox_that_it_is_for_and_in_no_other() {
    let blob = seal(&text("hello"));
    let carol = IdentityKey::from_seed([55; 32]).public();
    let other = MailboxKey::from_seed([34; 32]);
    assert_eq!(open(&blob, std::slice::from_ref(&other), &carol, NOW).unwrap_err(), OpenError::Sealed);
    assert_eq!(open(&blob, &[], &carol, NOW).unwrap_err(), OpenError::Sealed);
    // Whoever could read it cannot hand it on as if it were for somebody else.
    assert_eq!(open(&blob, &[mailbox()], &carol, NOW).unwrap_err(), OpenError::NotForUs);
    let envelope = envelope_of(&text("hello"));
    let resealed = seal_envelope(&envelope, &other.public(), [1; 32]).unwrap();
    let bob = BOB.key().public();
    assert_eq!(open(&resealed, std::slice::from_ref(&other), &bob, NOW).unwrap_err(), OpenError::NotForUs);
    // An older key of the same account still opens what was sealed to it.
    assert!(open(&blob, &[other, mailbox()], &bob, NOW).is_ok());
}

fn payload_of(letter: &Letter) -> Vec<u8> {
    wire::decode::<wire::Signed>(&envelope_of(letter), MAX_BLOB_BYTES).unwrap().payload_unverified().to_vec()
}

/// The envelope inside the seal, by whoever may open it.
fn envelope_of(letter: &Letter) -> Vec<u8> {
    let kind = crate::sealed::Kind { info: domain::LETTER, version: 1 };
    let plain = kind.open(&seal(letter), &mailbox()).unwrap();
    let length = u32::from_be_bytes(plain[..4].try_into().unwrap());
    plain[4..4 + usize::try_from(length).unwrap()].to_vec()
}

fn verdict(envelope: &[u8]) -> Option<OpenError> {
    let me = BOB.key().public();
    let opened = open_envelope(envelope, &mailbox().public(), &me, NOW).err();
    // Sealed or not makes no difference.
    let blob = seal_envelope(envelope, &mailbox().public(), [1; 32]).unwrap();
    assert_eq!(open_at(&blob, NOW).err(), opened);
    opened
}

#[test]
fn q3_a_sender_cannot_lie_about_itself() {
    // Mallory has a terminal of her own, and Alice's public introduction.
    let mallory = terminal(66);
    let stolen = wire::encode(&mallory.sign(domain::LETTER, &payload_of(&text("hello"))));
    assert_eq!(verdict(&stolen), Some(OpenError::Signature));
    // Alice's identity over a certificate by somebody else.
    let mut mixed = text("hello");
    mixed.from.cert = introduction(&BOB, &terminal(1)).cert;
    assert_eq!(mixed.seal(0, &terminal(1), [1; 32]), Err(SealError::NotOurs));
    let payload = payload_of(&text("hello"));
    let (good, bad) = (wire::encode(&text("hello").from), wire::encode(&mixed.from));
    let forged = replaced(&payload, &good, &bad);
    assert_eq!(
        verdict(&wire::encode(&terminal(1).sign(domain::LETTER, &forged))),
        Some(OpenError::CertMismatch)
    );
    // A signature of the right key for something else.
    let signal = wire::encode(&terminal(1).sign(domain::SIGNAL, &payload));
    assert_eq!(verdict(&signal), Some(OpenError::Signature));
    // A number that is not hers is refused by its proof, which the receiver runs.
    let mut boast = text("hello");
    boast.from.number = BOB.number();
    assert!(!open_at(&seal(&boast), NOW).unwrap().from.proof.run());
    let chosen = "ada@directory.example".parse().unwrap();
    boast.from.number = chosen;
    assert_eq!(open_at(&seal(&boast), NOW).unwrap_err(), OpenError::Proof(crate::proof::ProofError::Kind));
    // And who seals signs with the key that the certificate names.
    assert_eq!(text("hello").seal(0, &mallory, [1; 32]), Err(SealError::NotOurs));
}

/// `bytes` with the one occurrence of `from` replaced.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn letters_that_are_too_old_or_from_the_future_are_refused() {
    let blob = seal(&text("hello"));
    let (age, ahead) = (NOW.plus(MAX_AGE), UnixMillis(NOW.0 - 600_000));
    assert_eq!(MAX_CLOCK_AHEAD, Duration::from_secs(600));
    assert!(open_at(&blob, age).is_ok() && open_at(&blob, ahead).is_ok());
    assert_eq!(open_at(&blob, UnixMillis(age.0 + 1)).unwrap_err(), OpenError::TooOld);
    assert_eq!(open_at(&blob, UnixMillis(ahead.0 - 1)).unwrap_err(), OpenError::FromTheFuture);
    // A certificate need be good when the letter was written, not when it is read.
    let mut late = text("hello");
    late.at = NOW.plus(crate::identity::CERT_LIFETIME);
    let blob = seal(&late);
    assert!(open_at(&blob, late.at.plus(days(30))).is_ok());
    late.at = UnixMillis(late.at.0 + 1);
    assert_eq!(late.seal(0, &terminal(1), [1; 32]), Err(SealError::NotOurs));
    let expired = OpenError::Cert(crate::identity::CertError::Expired);
    // Field 4; in the certificate the same time is field 3.
    let field = |at: UnixMillis| [&[4], &wire::encode(&at)[..]].concat();
    let payload = replaced(&payload_of(&text("hello")), &field(NOW), &field(late.at));
    let signed = wire::encode(&terminal(1).sign(domain::LETTER, &payload));
    let opened = open_envelope(&signed, &mailbox().public(), &BOB.key().public(), late.at);
    assert_eq!(opened.unwrap_err(), expired);
}

#[test]
fn what_a_later_version_writes_is_left_for_it() {
    let payload = payload_of(&text(""));
    // Variant 0 becomes variant 23.
    let part = wire::encode(&Part::Text { body: String::new() });
    let mut later = part.clone();
    later[1] = 23;
    let payload = replaced(&payload, &part, &later);
    let signed = wire::encode(&terminal(1).sign(domain::LETTER, &payload));
    assert_eq!(verdict(&signed), Some(OpenError::Kind));
    let mut blob = seal(&text(""));
    blob[0] = 2;
    assert_eq!(open_at(&blob, NOW).unwrap_err(), OpenError::Version);
    assert!(OpenError::Kind.may_be_good() && OpenError::Version.may_be_good());
    assert!(!OpenError::Signature.may_be_good() && !OpenError::TooOld.may_be_good());
}

#[test]
fn sizes_and_padding_are_checked() {
    let blob = seal(&text("hello"));
    assert_eq!(open_at(&blob[1..], NOW).unwrap_err(), OpenError::Size(1023));
    assert_eq!(open_at(&[], NOW).unwrap_err(), OpenError::Size(0));
    assert_eq!(open_at(&vec![1; MAX_BLOB_BYTES * 2], NOW).unwrap_err(), OpenError::Size(MAX_BLOB_BYTES * 2));
    let kind = crate::sealed::Kind { info: domain::LETTER, version: 1 };
    let mut plain = kind.open(&blob, &mailbox()).unwrap().to_vec();
    let last = plain.len() - 1;
    plain[last] = 1;
    let padded = kind.seal(&plain, &mailbox().public(), [1; 32]).unwrap();
    assert_eq!(open_at(&padded, NOW).unwrap_err(), OpenError::Malformed);
    plain[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    let long = kind.seal(&plain, &mailbox().public(), [1; 32]).unwrap();
    assert_eq!(open_at(&long, NOW).unwrap_err(), OpenError::Malformed);
}

#[test]
fn parts_beyond_their_limits_are_refused_at_both_ends() {
    let verdict = |letter: &Letter| match letter.seal(0, &terminal(1), [1; 32]) {
        Err(SealError::Letter(error)) => Some(error),
        _ => None,
    };
    assert_eq!(verdict(&text(&"x".repeat(MAX_TEXT_BYTES + 1))), Some(LetterError::Text));
    assert_eq!(verdict(&voicemail(0)), Some(LetterError::Voicemail));
    assert_eq!(verdict(&voicemail(MAX_VOICEMAIL_BYTES + 1)), Some(LetterError::Voicemail));
    let mark = |n| letter(Content::Mark { mark: Mark::Read, of: vec![MessageId::from_bytes([1; 16]); n] });
    assert_eq!(verdict(&mark(0)), Some(LetterError::Mark));
    assert_eq!(verdict(&mark(MAX_MARKED + 1)), Some(LetterError::Mark));
    let mut many = text("");
    many.from.routes = vec!["/ip4/192.0.2.1/udp/4001/quic-v1".parse().unwrap(); MAX_ROUTES + 1];
    assert_eq!(verdict(&many), Some(LetterError::Routes));
    assert_eq!(text("").seal(1, &terminal(1), [1; 32]), Err(SealError::NoSuchPiece));
    // The same by somebody who does not check what he sends.
    let part = wire::encode(&Part::Text { body: String::new() });
    let long = wire::encode(&Part::Text { body: "x".repeat(MAX_TEXT_BYTES + 1) });
    let payload = replaced(&payload_of(&text("")), &part, &long);
    let signed = wire::encode(&terminal(1).sign(domain::LETTER, &payload));
    assert_eq!(self::verdict(&signed), Some(OpenError::Letter(LetterError::Text)));
}

#[test]
fn the_longest_letters_fit_a_blob() {
    let mut longest = voicemail(MAX_VOICEMAIL_BYTES);
    let label = "d".repeat(63);
    let word = format!("{}@{}", "홍".repeat(32), [&label[..], &label, &label, &label[..61]].join("."));
    let cert = crate::proof::tests::chosen_cert(&word, &ALICE);
    let signed = crate::proof::SignedChosenCert::issue(&crate::proof::tests::directory_key(), &cert);
    longest.from.number = word.parse().unwrap();
    longest.from.proof = crate::proof::tests::chosen_proof(&cert, &ALICE);
    longest.from.chosen = Some(signed);
    let addr = format!("/dns/{}/udp/4001/quic-v1", "x".repeat(256 - "/dns//udp/4001/quic-v1".len()));
    longest.from.routes = vec![addr.parse().unwrap(); MAX_ROUTES];
    longest.after = Some(longest.id);
    let directory = crate::identity::DirectoryId::from_bytes([1; 32]);
    longest.grants = vec![TokenSecret::from_seed([5; 32]).grant(&directory, &longest.to, 0, NOW); MAX_GRANTS];
    longest.at = crate::proof::tests::ISSUED.plus(days(150));
    assert!(longest.at > NOW);
    assert_eq!(longest.pieces(), MAX_PIECES);
    for (index, len) in [(0, MAX_BLOB_BYTES), (MAX_PIECES - 1, 16 * 1024)] {
        let blob = longest.seal(index, &terminal(1), [1; 32]).unwrap();
        assert!(blob.len() == MAX_BLOB_BYTES || index > 0 && blob.len() >= len, "{index}: {}", blob.len());
        assert!(open_at(&blob, longest.at).is_ok());
    }
}

#[test]
fn p14_a_voice_message_is_put_together_in_any_order() {
    let letter = voicemail(2 * PIECE_BYTES + 1);
    let Content::Voicemail(original) = &letter.content else { panic!("it is one") };
    let pieces = pieces(&letter);
    assert_eq!(pieces.len(), 3);
    let mut shelf = Shelf::default();
    for piece in [&pieces[2], &pieces[0], &pieces[0], &pieces[2]] {
        assert_eq!(shelf.add(piece, true), Ok(None));
    }
    assert_eq!(shelf.add(&pieces[1], true), Ok(Some(original.clone())));
    assert!(shelf.is_empty());
    let whole = voicemail(PIECE_BYTES);
    assert_eq!(whole.pieces(), 1);
    assert!(matches!(shelf.add(&self::pieces(&whole)[0], false), Ok(Some(_))));
    assert_eq!(shelf.add(&open_at(&seal(&text("")), NOW).unwrap(), true), Err(AssemblyError::Other));
}

#[test]
fn pieces_that_do_not_go_together_are_thrown_away() {
    let pieces = pieces(&voicemail(2 * PIECE_BYTES));
    let mut longer = voicemail(2 * PIECE_BYTES + 1);
    let mut shelf = Shelf::default();
    assert_eq!(shelf.add(&pieces[0], true), Ok(None));
    let other = self::pieces(&longer);
    assert_eq!(shelf.add(&other[1], true), Err(AssemblyError::Mismatch));
    assert!(shelf.is_empty());
    // Another of the account's terminals under the same id.
    longer.from = introduction(&ALICE, &terminal(2));
    let theirs = open_at(&longer.seal(0, &terminal(2), [1; 32]).unwrap(), NOW).unwrap();
    let mut assembly = Assembly::of(&other[0]).unwrap();
    assert_eq!((assembly.needed(), assembly.missing()), (3, 3));
    assert_eq!(assembly.add(&theirs), Err(AssemblyError::Other));
    // A piece whose bytes are others than those that were hashed.
    let mut changed = pieces[1].clone();
    let Part::Voice { data, .. } = &mut changed.part else { panic!("it is one") };
    data[0] ^= 1;
    assert_eq!(shelf.add(&pieces[0], true), Ok(None));
    assert_eq!(shelf.add(&changed, true), Err(AssemblyError::Digest));
    assert!(shelf.is_empty());
}

#[test]
fn a_shelf_is_bounded_and_strangers_take_no_place_of_contacts() {
    let first = pieces(&voicemail(PIECE_BYTES + 1)).remove(0);
    let with_id = |n: usize| {
        let mut piece = first.clone();
        piece.id = MessageId::from_bytes([u8::try_from(n).unwrap(); 16]);
        piece
    };
    let mut shelf = Shelf::default();
    assert_eq!(shelf.add(&with_id(0), true), Ok(None));
    for n in 1..100 {
        assert_eq!(shelf.add(&with_id(n), false), Ok(None));
    }
    assert_eq!(shelf.len(), 1 + Shelf::MAX_STRANGERS);
    for n in 100..200 {
        assert_eq!(shelf.add(&with_id(n), true), Ok(None));
    }
    assert_eq!(shelf.len(), Shelf::MAX_CONTACTS + Shelf::MAX_STRANGERS);
}

fn sender(n: u32) -> IdentityId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    IdentityId::from_bytes(bytes)
}

fn id(n: u32) -> MessageId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    MessageId::from_bytes(bytes)
}

#[test]
fn a_letter_is_taken_once_however_often_it_is_repeated() {
    let mut seen = Seen::default();
    assert_eq!(seen.look(true, &sender(1), &id(1), NOW), Sighting::New);
    seen.take(true, sender(1), id(1), NOW, NOW);
    assert_eq!(seen.look(true, &sender(1), &id(1), NOW), Sighting::Repeated);
    assert_eq!(seen.look(false, &sender(1), &id(1), NOW), Sighting::Repeated, "though no contact any more");
    assert_eq!(seen.look(true, &sender(2), &id(1), NOW), Sighting::New, "ids are not taken from others");
    assert!(seen.has(&sender(1), &id(1)) && !seen.has(&sender(1), &id(2)));
    // For as long as it could be opened.
    let later = NOW.plus(MAX_AGE);
    seen.take(true, sender(1), id(2), later, later);
    assert!(seen.has(&sender(1), &id(1)));
    let over = NOW.plus(MAX_AGE + MAX_CLOCK_AHEAD + Duration::from_millis(1));
    seen.take(true, sender(1), id(3), over, over);
    assert!(!seen.has(&sender(1), &id(1)) && seen.has(&sender(1), &id(2)));
}

#[test]
fn a_flood_of_one_sender_makes_nobody_elses_letters_uncertain() {
    let mut seen = Seen::default();
    seen.take(false, sender(0), id(0), NOW, NOW);
    let at = |n: u32| UnixMillis(NOW.0 + u64::from(n));
    for n in 1..10_000 {
        seen.take(false, sender(1), id(n), at(n), at(n));
    }
    assert_eq!(seen.len(), Seen::MAX_STRANGERS);
    assert_eq!(seen.look(false, &sender(0), &id(0), NOW), Sighting::Repeated);
    assert_eq!(seen.look(false, &sender(2), &id(0), NOW), Sighting::New);
    assert_eq!(seen.look(false, &sender(1), &id(1), at(1)), Sighting::Uncertain, "it has been forgotten");
    assert_eq!(seen.look(false, &sender(1), &id(10_000), at(10_000)), Sighting::New);
    // Many strangers of one letter each.
    for n in 10..10_000 {
        seen.take(false, sender(n), id(n), at(n), at(n));
    }
    assert!(seen.strangers.senders.len() <= Seen::MAX_STRANGER_SENDERS && seen.len() <= Seen::MAX_STRANGERS);
    assert_eq!(seen.look(true, &sender(20_000), &id(0), NOW), Sighting::New, "contacts notice nothing");
}

/// Bytes as version 1 wrote them; the fuzzer begins with the same ones.
#[test]
fn letters_of_version_1_can_be_read() {
    let mark = letter(Content::Mark { mark: Mark::Read, of: vec![MessageId::from_bytes([1; 16])] });
    let seeds: [(&[u8], Letter); 3] = [
        (include_bytes!("../../../../../fuzz/seeds/letter/text"), text("hello")),
        (include_bytes!("../../../../../fuzz/seeds/letter/voice"), voicemail(300)),
        (include_bytes!("../../../../../fuzz/seeds/letter/mark"), mark.clone()),
    ];
    for (bytes, letter) in seeds {
        assert_eq!(seal(&letter), bytes, "{letter:?}");
        assert_eq!(open_at(bytes, NOW).unwrap().part, letter.part(0).unwrap());
    }
    let envelope = include_bytes!("../../../../../fuzz/seeds/letter/mark_envelope");
    assert_eq!(envelope_of(&mark), envelope);
    let payloads: [(&[u8], Letter); 2] = [
        (include_bytes!("../../../../../fuzz/seeds/letter/text_payload"), text("hello")),
        (include_bytes!("../../../../../fuzz/seeds/letter/voice_payload"), voicemail(300)),
    ];
    for (bytes, letter) in payloads {
        assert_eq!(payload_of(&letter), bytes);
        assert_eq!(fuzz::rewritten(bytes).as_deref(), Some(bytes));
    }
}

static THREE_PIECES: std::sync::LazyLock<(Letter, Vec<Received>)> = std::sync::LazyLock::new(|| {
    let letter = voicemail(2 * PIECE_BYTES + 7);
    let pieces = pieces(&letter);
    (letter, pieces)
});

proptest! {
    /// Against a model that forgets nothing: what has been taken is never new again, whatever was forgotten.
    #[test]
    fn what_was_taken_is_never_new(steps in prop::collection::vec((0_u32..6, 0_u32..8, 0_u64..50, any::<bool>()), 1..200)) {
        let mut lane = Seen { strangers: super::seen::lane(10, 3), contacts: super::seen::lane(10, 3) };
        let mut taken = std::collections::BTreeSet::new();
        for (who, what, at, _) in steps {
            let at = UnixMillis(NOW.0 + at);
            let look = lane.look(false, &sender(who), &id(what), at);
            let before = taken.iter().find(|(w, i, _)| (*w, *i) == (who, what)).map(|(_, _, at)| *at);
            if let Some(before) = before {
                // The same letter has the same time.
                prop_assert_ne!(lane.look(false, &sender(who), &id(what), before), Sighting::New);
                continue;
            }
            prop_assert_ne!(look, Sighting::Repeated);
            lane.take(false, sender(who), id(what), at, NOW);
            taken.insert((who, what, at));
            prop_assert!(lane.len() <= 10);
        }
    }

    #[test]
    fn damaged_blobs_never_open(at in 0_usize..1024, bit in 0_u8..8) {
        let mut blob = seal(&text("hello"));
        blob[at] ^= 1 << bit;
        prop_assert!(open_at(&blob, NOW).is_err());
    }

    #[test]
    fn texts_survive_and_sizes_are_classes(body in "\\PC{0,400}") {
        let blob = seal(&text(&body));
        prop_assert!(SIZE_CLASSES.contains(&blob.len()));
        prop_assert_eq!(open_at(&blob, NOW).unwrap().part, Part::Text { body });
    }

    #[test]
    fn opening_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let me = BOB.key().public();
        prop_assert!(open_envelope(&bytes, &mailbox().public(), &me, NOW).is_err());
        let signed = wire::encode(&terminal(1).sign(domain::LETTER, &bytes));
        prop_assert!(open_envelope(&signed, &mailbox().public(), &me, NOW).is_err());
        let sealed = seal_envelope(&bytes, &mailbox().public(), [1; 32]).unwrap();
        prop_assert!(open_at(&sealed, NOW).is_err());
    }

    /// Whatever the order and the repetitions: a voice message comes out whole, once.
    #[test]
    fn voice_messages_survive_any_order(order in prop::collection::vec(0_usize..3, 0..12)) {
        let (letter, pieces) = &*THREE_PIECES;
        let mut assembly = Assembly::of(&pieces[0]).unwrap();
        for n in &order {
            assembly.add(&pieces[*n]).unwrap();
        }
        let all = (0..3).all(|n| order.contains(&n));
        let whole = assembly.whole().unwrap();
        prop_assert_eq!(whole.is_some(), all);
        prop_assert!(whole.is_none_or(|whole| Content::Voicemail(whole) == letter.content));
    }
}
