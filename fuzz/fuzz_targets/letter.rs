//! Letters: as blobs, as what is inside the seal, and well signed by a hostile terminal; and the pieces put together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_proto::identity::{IdentityId, IdentityKey, MailboxKey, TerminalKey};
use offhook_proto::mailbox::letter::{
    Assembly, MAX_AGE, Part, Received, Seen, Shelf, Sighting, fuzz, open, open_envelope,
};
use offhook_proto::wire::{self, MAX_CLOCK_AHEAD, UnixMillis, domain};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn examine(received: &Received) {
    assert!(NOW.since(received.at) <= MAX_AGE && received.at.since(NOW) <= MAX_CLOCK_AHEAD);
    assert_eq!(received.from.cert.identity, received.from.identity);
    let _ = format!("{received:?}");
    let mut seen = Seen::default();
    let sender = received.from.identity;
    assert_eq!(seen.look(false, &sender, &received.id, received.at), Sighting::New);
    seen.take(false, sender, received.id, received.at, NOW);
    assert_eq!(seen.look(true, &sender, &received.id, received.at), Sighting::Repeated);
    let is_voice = matches!(received.part, Part::Voice { .. });
    assert_eq!(Assembly::of(received).is_ok(), is_voice);
    let mut shelf = Shelf::default();
    let _ = (shelf.add(received, true), shelf.add(received, true));
}

fuzz_target!(|data: &[u8]| {
    // The seeds' letters are sealed to these.
    let (mailbox, me) = (MailboxKey::from_seed([33; 32]), IdentityKey::from_seed([8; 32]).public());
    if let Ok(received) = open(data, std::slice::from_ref(&mailbox), &me, NOW) {
        examine(&received);
    }
    let inside = |envelope: &[u8], me: &IdentityId| open_envelope(envelope, &mailbox.public(), me, NOW);
    if let Ok(received) = inside(data, &me) {
        examine(&received);
        assert!(inside(data, &IdentityId::from_bytes([0; 32])).is_err(), "it is for one account");
    }
    let signed = wire::encode(&TerminalKey::from_seed([1; 32]).sign(domain::LETTER, data));
    if let Ok(received) = inside(&signed, &me) {
        examine(&received);
    }
    if let Some(again) = fuzz::rewritten(data) {
        assert_eq!(fuzz::rewritten(&again).as_ref(), Some(&again), "what was read is written alike");
    }
});
