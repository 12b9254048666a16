//! Texts that arrive are acknowledged when they are on disk, not before.

use std::time::{Duration, Instant};

use super::basics::connect;
use super::chance::Weather;
use super::party::{Party, WALL};
use super::world::{Act, World, call_id, craft, invite};
use crate::call::{
    CallConfig, CallState, Caller, Calls, EndReason, EndedBy, IncomingText, LegId, Now, Output, TextFailure,
    TextKept, TextKey, TunnelBudget,
};
use crate::signalling::{CallId, Message, Packet, RejectReason, TextId};

const ALICE: usize = 0;
const BOB: usize = 1;

fn two() -> World {
    World::new(1, &[(0, 0), (1, 0)], &CallConfig::default())
}

fn text(n: u8) -> Message {
    Message::Text { id: TextId::from_bytes([n; 16]), body: "hi".to_owned() }
}

/// Everything that the machine puts out at once: packets, and what is to be kept.
fn outputs(calls: &mut Calls) -> (Vec<Packet>, Vec<(TextKey, IncomingText)>) {
    let (mut packets, mut texts) = (Vec::new(), Vec::new());
    while let Some(output) = calls.poll_output() {
        match output {
            Output::Transmit { packet, .. } => packets.push(packet),
            Output::KeepText { key, text } => texts.push((key, text)),
            _ => {}
        }
    }
    (packets, texts)
}

fn bob() -> (Calls, Now) {
    let calls = Calls::new(CallConfig::default(), Party::get(1, 0).local.clone());
    (calls, Now { instant: Instant::now(), wall: WALL })
}

#[test]
fn a_text_is_acknowledged_when_it_is_kept() {
    let (mut calls, now) = bob();
    let alice = Party::get(0, 0);
    let packet = craft(alice, Party::get(1, 0), call_id(4), 1, text(1));
    calls.handle_packet(now, alice.opened(packet.clone()), Caller::Stranger);
    let (packets, texts) = outputs(&mut calls);
    assert_eq!(packets.iter().map(|packet| packet.ack).collect::<Vec<_>>(), [0], "we are there, no more");
    let [(key, kept)] = &texts[..] else { panic!("{texts:?}") };
    assert_eq!((&kept.from, kept.identity, kept.call), (&Party::number(0), alice.peer.identity, None));
    assert_eq!((kept.id, kept.body.as_str(), kept.contact), (TextId::from_bytes([1; 16]), "hi", false));

    calls.handle_packet(now, alice.opened(packet.clone()), Caller::Stranger);
    let (packets, texts) = outputs(&mut calls);
    assert!(packets.iter().all(|packet| packet.ack == 0) && texts.is_empty(), "once is enough");

    calls.text_kept(now, *key, TextKept::Kept);
    let (packets, _) = outputs(&mut calls);
    assert_eq!(packets.iter().map(|packet| packet.ack).collect::<Vec<_>>(), [1]);
    assert!(calls.is_idle());
    calls.handle_packet(now, alice.opened(packet), Caller::Stranger);
    let (packets, texts) = outputs(&mut calls);
    assert!(packets[0].ack == 1 && texts.is_empty(), "a repetition is acknowledged again");
    calls.text_kept(now, *key, TextKept::Failed);
    assert!(outputs(&mut calls).0.is_empty(), "one answer counts");
}

#[test]
fn a_text_that_cannot_be_kept_is_refused_and_never_acknowledged() {
    let (mut calls, now) = bob();
    let alice = Party::get(0, 0);
    let packet = craft(alice, Party::get(1, 0), call_id(4), 1, text(1));
    calls.handle_packet(now, alice.opened(packet.clone()), Caller::Contact);
    let (_, texts) = outputs(&mut calls);
    calls.text_kept(now, texts[0].0, TextKept::Failed);
    for _ in 0..3 {
        let (packets, _) = outputs(&mut calls);
        assert_eq!(packets.len(), 1);
        assert_eq!(packets[0].message, Some(Message::reject(RejectReason::Failed)));
        assert_eq!(packets[0].ack, 0);
        calls.handle_packet(now, alice.opened(packet.clone()), Caller::Contact);
    }

    let mut world = two();
    world.weather.no_disk = 1000;
    world.act(ALICE, Act::TextTo { account: 1 });
    world.run_ms(4000);
    let results: Vec<_> = world.terminals[ALICE].seen.text_results.values().collect();
    assert_eq!(results, [&Err(TextFailure::NotKept)]);
    world.assert_idle();
}

/// The receiver's program dies between writing the text and acknowledging it, or before writing it.
#[test]
fn after_a_restart_a_repeated_text_is_asked_for_again() {
    let alice = Party::get(0, 0);
    let packet = craft(alice, Party::get(1, 0), call_id(4), 1, text(1));
    for _ in 0..2 {
        let (mut calls, now) = bob();
        calls.handle_packet(now, alice.opened(packet.clone()), Caller::Contact);
        let (packets, texts) = outputs(&mut calls);
        assert_eq!((packets[0].ack, texts.len()), (0, 1));
        // The store says whether it was there; either way it is kept.
        calls.text_kept(now, texts[0].0, TextKept::Kept);
        assert_eq!(outputs(&mut calls).0[0].ack, 1);
    }
}

#[test]
fn in_a_call_a_refused_text_is_told_and_the_call_goes_on() {
    let mut world = two();
    connect(&mut world);
    world.weather = Weather { no_disk: 1000, loss: 300, ..Weather::FINE };
    world.record = true;
    world.act(ALICE, Act::Text { call: call_id(1) });
    world.run_ms(3000);
    world.weather = Weather::FINE;
    world.act(ALICE, Act::Text { call: call_id(1) });
    world.act(ALICE, Act::Dtmf { call: call_id(1) });
    world.run_ms(30_000);
    let results: Vec<_> = world.terminals[ALICE].seen.text_results.values().copied().collect();
    assert_eq!(results.len(), 2);
    assert!(results.contains(&Err(TextFailure::NotKept)) && results.contains(&Ok(())), "{results:?}");
    assert!(world.kinds(BOB).contains(&"text_refused"));
    assert_eq!(world.terminals[BOB].seen.texts.len(), 1);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Active));
    assert_eq!(world.state(BOB, call_id(1)), Some(CallState::Active));
    world.act(ALICE, Act::HangUp { call: call_id(1) });
    world.run_ms(12_000);
    world.assert_idle();
}

/// A disk that takes seconds holds up the acknowledgement of texts, not the call.
#[test]
fn a_slow_disk_delays_nothing_else() {
    let (alice, bob_party) = (Party::get(0, 0), Party::get(1, 0));
    let mut world = two();
    connect(&mut world);
    let seq = 10;
    for n in 3..seq {
        let filler = craft(alice, bob_party, call_id(1), n, Message::Mute { on: true });
        world.inject(BOB, alice, filler, Caller::Contact);
    }
    let packet = craft(alice, bob_party, call_id(1), seq, text(9));
    let now = world.now(BOB);
    let calls = &mut world.terminals[BOB].calls;
    calls.handle_packet(now, alice.opened(packet), Caller::Contact);
    let (_, texts) = outputs(calls);
    let [(key, kept)] = &texts[..] else { panic!("{texts:?}") };
    assert_eq!(kept.call, Some(call_id(1)));
    let bye = craft(alice, bob_party, call_id(1), seq + 1, Message::Bye { reason: None });
    world.inject(BOB, alice, bye, Caller::Contact);
    assert_eq!(world.ended(BOB, call_id(1)), Some((EndReason::HungUp, EndedBy::Remote)), "at once");
    let now = world.now(BOB);
    let calls = &mut world.terminals[BOB].calls;
    calls.text_kept(now, *key, TextKept::Kept);
    let acks: Vec<_> = outputs(calls).0.iter().map(|packet| packet.ack).collect();
    assert_eq!(acks, [seq + 1], "and the text is acknowledged after the call");
}

#[test]
fn texts_that_wait_for_the_disk_are_bounded() {
    let (mut calls, now) = bob();
    let (alice, carol) = (Party::get(0, 0), Party::get(2, 0));
    let send = |calls: &mut Calls, party: &Party, n: u8, caller: Caller| {
        let packet = craft(party, Party::get(1, 0), CallId::from_bytes([n; 16]), 1, text(n));
        calls.handle_packet(now, party.opened(packet), caller);
        let (packets, texts) = outputs(calls);
        let busy = Message::reject(RejectReason::Busy);
        assert_eq!(packets[0].message == Some(busy), texts.is_empty());
        !texts.is_empty()
    };
    calls.config_mut().stranger_rate = 100;
    let strangers = (0..40).filter(|n| send(&mut calls, carol, *n, Caller::Stranger)).count();
    let contacts = (100..140).filter(|n| send(&mut calls, alice, *n, Caller::Contact)).count();
    assert_eq!((strangers, contacts), (16, 16), "strangers take no place of a contact");
    let timer = calls.poll_timeout().unwrap();
    calls.handle_timeout(Now { instant: timer, ..now });
    assert_eq!(calls.load().legs, 0, "a disk that never answers holds no place for ever");

    // In a call the dialog's window is the bound.
    let mut world = two();
    connect(&mut world);
    let now = world.now(BOB);
    let calls = &mut world.terminals[BOB].calls;
    let mut handed = 0;
    for seq in 3..200 {
        let packet = craft(alice, Party::get(1, 0), call_id(1), seq, text(u8::try_from(seq).unwrap()));
        calls.handle_packet(now, alice.opened(packet), Caller::Contact);
        handed += outputs(calls).1.len();
    }
    assert!(handed <= 32, "{handed}");
}

/// Ringing for as long as can be set, with both ends keeping the connection alive through signalling.
#[test]
fn the_tunnel_lasts_as_long_as_it_rings() {
    let config = CallConfig { ring_timeout: Duration::from_secs(600), ..CallConfig::default() };
    let mut world = World::new(1, &[(0, 0), (1, 0)], &config);
    world.contacts = false;
    world.dial_as(ALICE, call_id(1), 1);
    world.run_ms(2000);
    let legs = [1, 0].map(|other| LegId { call: call_id(1), terminal: Party::get(other, 0).local.terminal });
    let send = |world: &mut World, at: usize, count: usize| {
        let now = world.now(at);
        let calls = &mut world.terminals[at].calls;
        let sent = (0..count).filter(|_| calls.tunnel(now, legs[at], vec![vec![0x40; 40]]).is_ok()).count();
        world.drain(at);
        sent
    };
    // A handshake with losses, then from each end a report every 5 s and an acknowledgement of the other's.
    assert_eq!((send(&mut world, ALICE, 20), send(&mut world, BOB, 20)), (20, 20));
    while world.time < Duration::from_secs(595) {
        world.run_ms(5000);
        assert_eq!((send(&mut world, ALICE, 2), send(&mut world, BOB, 2)), (2, 2), "{:?}", world.time);
    }
    world.run_ms(1000);
    let all = 20 + 2 * 119;
    assert_eq!([ALICE, BOB].map(|at| world.terminals[at].tunnelled), [all, all]);
    assert_eq!(world.state(ALICE, call_id(1)), Some(CallState::Ringing));
    // Ten seconds of voice would be 500.
    let mut voice = 0;
    for _ in 0..500 {
        voice += send(&mut world, ALICE, 1);
        world.run_ms(20);
    }
    assert!(voice <= 64 + 5, "{voice}");
}

#[test]
fn what_comes_through_the_tunnel_is_counted_too() {
    let (mut calls, now) = bob();
    let alice = Party::get(0, 0);
    calls.handle_packet(
        now,
        alice.opened(craft(alice, Party::get(1, 0), call_id(1), 1, invite())),
        Caller::Stranger,
    );
    let mut taken = 0;
    for _ in 0..1000 {
        let packet = craft(
            alice,
            Party::get(1, 0),
            call_id(1),
            0,
            Message::Tunnel { datagrams: vec![vec![1].into()] },
        );
        calls.handle_packet(now, alice.opened(packet), Caller::Stranger);
        taken +=
            std::iter::from_fn(|| calls.poll_output()).filter(|o| matches!(o, Output::Tunnel { .. })).count();
    }
    assert_eq!(taken, usize::try_from(TunnelBudget::BURST).unwrap());
}
