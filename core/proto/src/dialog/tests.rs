//! Tests of the dialog on a virtual clock.

#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "the virtual clock has to begin somewhere")]

use proptest::prelude::*;

use super::*;
use crate::signalling::{CancelReason, MediaOffer, TextId};

const WALL: UnixMillis = UnixMillis(1);

fn hold(on: bool) -> Message {
    Message::Hold { on }
}

fn digit(n: u32) -> Message {
    Message::Dtmf { digit: char::from_digit(n % 10, 10).unwrap(), duration_ms: u16::try_from(n).unwrap() }
}

fn frames(dialog: &mut Dialog) -> Vec<Frame> {
    std::iter::from_fn(|| dialog.poll_frame()).collect()
}

/// What is said when nothing comes that acknowledgements could go along with.
fn acks(dialog: &mut Dialog, now: Instant) -> Vec<Frame> {
    dialog.handle_timeout(now + ACK_DELAY, WALL).unwrap();
    frames(dialog)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn messages_are_numbered_and_acknowledged() {
    let now = Instant::now();
    let (mut a, mut b) = (Dialog::new(), Dialog::new());
    assert_eq!(a.send(now, WALL, hold(true)), Ok(1));
    assert_eq!(a.send(now, UnixMillis(2), hold(false)), Ok(2));
    let sent = frames(&mut a);
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[1], Frame { seq: 2, ack: 0, time: UnixMillis(2), message: Some(hold(false)) });
    for frame in sent {
        let received = b.receive(now, WALL, frame.seq, frame.ack, frame.message);
        assert_eq!(received.messages.len(), 1);
    }
    assert!(frames(&mut b).is_empty() && !b.is_idle(), "something may come that it can go along with");
    assert_eq!(b.poll_timeout(), Some(now + ACK_DELAY));
    assert_eq!(acks(&mut b, now), [Frame { seq: 0, ack: 2, time: WALL, message: None }], "one for both");
    assert!(b.is_idle() && b.poll_timeout().is_none());
    assert!(!a.is_acked() && !a.is_idle());
    assert_eq!(a.receive(now, WALL, 0, 2, None).acked, [1, 2]);
    assert!(a.is_acked() && a.is_idle() && a.poll_timeout().is_none() && frames(&mut a).is_empty());
}

#[test]
fn an_acknowledgement_goes_along_with_an_answer() {
    let now = Instant::now();
    let mut b = Dialog::new();
    b.receive(now, WALL, 1, 0, Some(hold(true)));
    b.send(now, WALL, hold(false)).unwrap();
    let sent = frames(&mut b);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].seq, sent[0].ack), (1, 1));
    assert_eq!(acks(&mut b, now), [], "and not once more by itself");
}

#[test]
fn what_nobody_should_wait_for_is_acknowledged_soon() {
    let now = Instant::now();
    let mut b = Dialog::new();
    b.receive(now, WALL, 2, 0, Some(digit(2)));
    b.receive(now, WALL, 1, 0, Some(digit(1)));
    assert_eq!((frames(&mut b).len(), b.poll_timeout()), (0, Some(now + SHORT_ACK_DELAY)));
    b.handle_timeout(now + SHORT_ACK_DELAY, WALL).unwrap();
    let sent = frames(&mut b);
    assert_eq!((sent.len(), sent[0].ack), (1, 2), "what was overtaken has come: one for both");
    let mut c = Dialog::new();
    c.receive(now, WALL, 1, 0, Some(Message::Confirm { candidates: vec!["c".into()] }));
    assert_eq!(c.poll_timeout(), Some(now + SHORT_ACK_DELAY), "it is repeated soon");
    b.receive(now + COPY, WALL, 1, 0, Some(digit(1)));
    assert_eq!(frames(&mut b)[0].ack, 2, "a repetition: perhaps the acknowledgement is lost");
    b.receive(now, WALL, 3, 0, Some(Message::Bye { reason: None }));
    assert_eq!(frames(&mut b)[0].ack, 3, "the end");
}

#[test]
fn a_copy_that_takes_another_way_is_not_acknowledged_once_more() {
    let now = Instant::now();
    let mut b = Dialog::new();
    b.receive(now, WALL, 1, 0, Some(digit(1)));
    b.receive(now + ms(10), WALL, 1, 0, Some(digit(1)));
    assert_eq!(frames(&mut b), []);
    assert_eq!(acks(&mut b, now).len(), 1, "one for both");
    b.receive(now + ms(100), WALL, 1, 0, Some(digit(1)));
    assert_eq!(acks(&mut b, now + ms(100)), [], "nor later");
    b.receive(now + MIN_RTO, WALL, 1, 0, Some(digit(1)));
    assert_eq!(frames(&mut b).len(), 1, "a repetition");
    b.receive(now + MIN_RTO + ms(20), WALL, 1, 0, Some(digit(1)));
    assert_eq!(frames(&mut b), [], "one of many that have waited for a slow connection");
    // What has not its place yet is no exception.
    b.receive(now + ms(400), WALL, 3, 0, Some(digit(3)));
    assert_eq!(acks(&mut b, now + ms(400)).len(), 1, "one is missing");
    b.receive(now + ms(410), WALL, 3, 0, Some(digit(3)));
    assert_eq!(frames(&mut b), []);
}

#[test]
fn an_unsteady_round_trip_does_not_keep_a_message_waiting() {
    let now = Instant::now();
    for (trips, first) in [([100, 900], 500), ([50, 50], 200), ([800, 800], 1200)] {
        let mut a = Dialog::new();
        for (n, trip) in (1..).zip(trips) {
            a.send(now, WALL, digit(n)).unwrap();
            a.receive(now + ms(trip), WALL, 0, n, None);
        }
        a.send(now, WALL, hold(true)).unwrap();
        assert_eq!(a.poll_timeout(), Some(now + ms(first)), "{trips:?}");
    }
}

#[test]
fn what_somebody_waits_for_is_repeated_sooner_and_acknowledged_before_that() {
    let now = Instant::now();
    let accept = || Message::Accept { invite_hash: [1; 32], candidates: Vec::new() };
    let (mut a, mut b) = (Dialog::new(), Dialog::new());
    a.send(now, WALL, digit(1)).unwrap();
    a.send(now + ms(10), WALL, accept()).unwrap();
    assert_eq!(a.poll_timeout(), Some(now + ms(10) + URGENT_RTO), "not when the first one is repeated");
    frames(&mut a);
    a.handle_timeout(now + ms(10) + URGENT_RTO, WALL).unwrap();
    assert_eq!(frames(&mut a).len(), 2);
    assert_eq!(a.poll_timeout(), Some(now + ms(10) + URGENT_RTO * 3), "and then at doubling pauses");
    b.receive(now, WALL, 1, 0, Some(accept()));
    b.handle_timeout(now + SHORT_ACK_DELAY, WALL).unwrap();
    assert_eq!(frames(&mut b).len(), 1);

    let mut far = Dialog::new();
    far.send(now, WALL, digit(1)).unwrap();
    far.receive(now + ms(380), WALL, 0, 1, None);
    far.send(now + ms(380), WALL, accept()).unwrap();
    assert_eq!(far.poll_timeout(), Some(now + ms(380 + 475)), "not before it can have been acknowledged");

    let mut late = Dialog::new();
    late.send(now, WALL, digit(1)).unwrap();
    late.send(now + ms(300), WALL, accept()).unwrap();
    assert_eq!(late.poll_timeout(), Some(now + INITIAL_RTO), "nor later than without it");
}

#[test]
fn an_invite_has_the_same_frame_every_time() {
    let now = Instant::now();
    let offer = MediaOffer {
        ice_ufrag: "u".repeat(4),
        ice_pwd: "p".repeat(22),
        fingerprint: [0; 32],
        codecs: vec![crate::signalling::Codec::Opus],
    };
    let mut a = Dialog::new();
    a.send(
        now,
        UnixMillis(5),
        Message::Invite { offer, candidates: Vec::new(), replaces: None, solution: None },
    )
    .unwrap();
    let first = frames(&mut a);
    a.receive(now + ms(300), UnixMillis(300), 1, 0, Some(hold(true)));
    a.handle_timeout(now + ms(400), UnixMillis(400)).unwrap();
    let second = frames(&mut a);
    assert_eq!(first[0], second[0]);
    assert_eq!(second[1], Frame { seq: 0, ack: 1, time: UnixMillis(400), message: None });
    assert_eq!(second.len(), 2);
}

#[test]
fn what_comes_out_of_order_waits_its_turn() {
    let now = Instant::now();
    let mut b = Dialog::new();
    assert_eq!(b.receive(now, WALL, 3, 0, Some(digit(3))).messages, []);
    assert_eq!(b.receive(now, WALL, 2, 0, None).messages, [], "an unknown kind");
    assert_eq!(acks(&mut b, now)[0].ack, 0);
    assert!(!b.is_idle());
    let received = b.receive(now, WALL, 1, 0, Some(digit(1)));
    assert_eq!(received.messages, [(1, digit(1)), (3, digit(3))]);
    assert_eq!(b.ack(), 3);
    for seq in 1..4 {
        let again = b.receive(now + COPY * seq, WALL, seq, 0, Some(digit(9)));
        assert_eq!(again, Received::default(), "a repetition");
        assert_eq!(frames(&mut b)[0].ack, 3, "is acknowledged again");
    }
}

#[test]
fn a_final_message_overtakes() {
    let now = Instant::now();
    let mut b = Dialog::new();
    let cancel = Message::Cancel { reason: CancelReason::Cancelled };
    let received = b.receive(now, WALL, 2, 0, Some(cancel.clone()));
    assert_eq!((received.urgent, received.messages), (Some(cancel.clone()), vec![]));
    assert_eq!(frames(&mut b)[0].ack, 0, "the acknowledgement stays true");
    assert_eq!(b.receive(now, WALL, 2, 0, Some(cancel)), Received::default(), "once");
    assert_eq!(b.receive(now, WALL, 1, 0, Some(digit(1))).messages, [(1, digit(1))]);
    assert_eq!(b.ack(), 2);
}

#[test]
fn repetitions_back_off_until_the_other_side_is_given_up() {
    let start = Instant::now();
    let mut a = Dialog::new();
    a.send(start, WALL, hold(true)).unwrap();
    frames(&mut a);
    let mut times = Vec::new();
    let death = loop {
        let at = a.poll_timeout().unwrap();
        if a.handle_timeout(at, WALL).is_err() {
            break at;
        }
        assert_eq!(frames(&mut a).len(), 1);
        times.push((at - start).as_millis());
    };
    assert_eq!(times, [400, 1200, 2800, 4800, 6800]);
    assert_eq!(death - start, GIVE_UP);
    assert_eq!(a.handle_timeout(death + ms(1), WALL), Err(Dead), "it stays dead");
}

#[test]
fn a_sign_of_life_delays_the_end_but_not_for_ever() {
    let start = Instant::now();
    let mut a = Dialog::new();
    a.send(start, WALL, hold(true)).unwrap();
    let mut now = start;
    let death = loop {
        now += ms(500);
        a.receive(now, WALL, 0, 0, None);
        if a.handle_timeout(now, WALL).is_err() {
            break now;
        }
    };
    assert_eq!(death - start, GIVE_UP_UNACKED);
}

#[test]
fn the_pause_follows_the_round_trip() {
    let mut now = Instant::now();
    let mut a = Dialog::new();
    for _ in 0..20 {
        let seq = a.send(now, WALL, hold(true)).unwrap();
        now += ms(100);
        a.receive(now, WALL, 0, seq, None);
    }
    a.send(now, WALL, hold(true)).unwrap();
    assert_eq!(a.poll_timeout().unwrap() - now, MIN_RTO, "100 ms and little variation");

    let mut b = Dialog::new();
    let seq = b.send(now, WALL, hold(true)).unwrap();
    b.receive(now + ms(390), WALL, 0, seq, None);
    b.send(now, WALL, hold(true)).unwrap();
    assert_eq!(b.poll_timeout().unwrap() - now, ms(390 * 3 / 2), "nothing is known of its variation");

    let mut c = Dialog::new();
    let seq = c.send(now, WALL, hold(true)).unwrap();
    c.handle_timeout(now + ms(400), WALL).unwrap();
    c.receive(now + ms(410), WALL, 0, seq, None);
    c.send(now, WALL, hold(true)).unwrap();
    assert_eq!(
        c.poll_timeout().unwrap() - now,
        INITIAL_RTO,
        "Karn's rule: a repeated message measures nothing"
    );
}

#[test]
fn windows_are_bounded() {
    let now = Instant::now();
    let mut a = Dialog::new();
    for _ in 0..SEND_WINDOW {
        a.send(now, WALL, hold(true)).unwrap();
    }
    assert_eq!(a.send(now, WALL, hold(true)), Err(QueueFull));
    for _ in 0..RESERVED {
        a.send(now, WALL, Message::Bye { reason: None }).unwrap();
    }
    assert_eq!(a.send(now, WALL, Message::Bye { reason: None }), Err(QueueFull));
    assert_eq!(frames(&mut a).len(), SEND_WINDOW + RESERVED);
    a.handle_timeout(now + INITIAL_RTO, WALL).unwrap();
    assert_eq!(frames(&mut a).len(), REPEAT_AT_ONCE);

    let mut b = Dialog::new();
    for seq in [RECEIVE_WINDOW + 1, u32::MAX, RECEIVE_WINDOW + 2] {
        b.receive(now, WALL, seq, u32::MAX, Some(hold(true)));
        assert_eq!(frames(&mut b)[0].ack, 0);
        assert!(b.is_idle(), "too far ahead");
    }
    assert!(usize::try_from(RECEIVE_WINDOW).unwrap() >= SEND_WINDOW + RESERVED);
}

fn text() -> Message {
    Message::Text { id: TextId::from_bytes([1; 16]), body: String::new() }
}

#[test]
fn a_text_is_acknowledged_only_when_it_is_released() {
    let now = Instant::now();
    let mut b = Dialog::new();
    // Two at once: nothing that happens between the first and the second may acknowledge the second.
    b.receive(now, WALL, 2, 0, Some(text()));
    assert_eq!(b.receive(now, WALL, 1, 0, Some(digit(1))).messages, [(1, digit(1)), (2, text())]);
    assert_eq!(frames(&mut b)[0].ack, 1);
    assert_eq!(b.receive(now, WALL, 3, 0, Some(digit(3))).messages, [(3, digit(3))], "what follows is heard");
    assert_eq!(acks(&mut b, now)[0].ack, 1, "and not acknowledged either");
    b.send(now, WALL, hold(true)).unwrap();
    assert_eq!(frames(&mut b)[0].ack, 1);
    assert_eq!(b.receive(now + COPY, WALL, 2, 1, Some(text())).messages, [], "a repetition is none");
    assert_eq!(frames(&mut b)[0].ack, 1, "but an occasion to say that we are there");
    assert!(!b.is_idle());
    b.release(2);
    assert_eq!(frames(&mut b)[0].ack, 3);
    assert!(b.is_idle());
    b.release(2);
    assert!(frames(&mut b).is_empty());
}

#[test]
fn what_is_held_takes_places_in_the_window() {
    let now = Instant::now();
    let mut b = Dialog::new();
    b.receive(now, WALL, 1, 0, Some(text()));
    let taken = (2..200).filter(|seq| !b.receive(now, WALL, *seq, 0, Some(digit(*seq))).messages.is_empty());
    assert_eq!(taken.count(), usize::try_from(RECEIVE_WINDOW).unwrap() - 1);
}

#[test]
fn a_new_route_is_tried_at_once() {
    let now = Instant::now();
    let mut a = Dialog::new();
    a.repeat(now);
    assert!(frames(&mut a).is_empty() && a.poll_timeout().is_none(), "nothing to repeat");
    a.send(now, WALL, hold(true)).unwrap();
    let first = frames(&mut a);
    a.repeat(now + ms(100));
    assert_eq!(frames(&mut a), first);
    assert_eq!(a.poll_timeout(), Some(now + ms(500)));
}

#[test]
fn acknowledging_what_was_never_sent_changes_nothing() {
    let now = Instant::now();
    let mut a = Dialog::new();
    a.send(now, WALL, hold(true)).unwrap();
    assert!(a.receive(now, WALL, 0, 2, None).acked.is_empty());
    assert_eq!(a.unacked(), 1);
}

#[test]
fn what_nobody_needs_any_more_is_not_repeated() {
    let now = Instant::now();
    let mut a = Dialog::new();
    a.send(now, WALL, hold(true)).unwrap();
    a.receive(now, WALL, 1, 0, Some(Message::Bye { reason: None }));
    a.abandon();
    assert!(a.poll_timeout().is_none());
    assert_eq!(frames(&mut a), [Frame { seq: 0, ack: 1, time: WALL, message: None }]);
    assert!(a.is_idle());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever a lossy, repeating, reordering network does, every message arrives once and in order.
    #[test]
    fn everything_arrives_once_and_in_order(
        fates in proptest::collection::vec((0_u8..10, 0_u64..400), 1..600),
        count in 1_u32..28,
    ) {
        let start = Instant::now();
        let mut ends = [Dialog::new(), Dialog::new()];
        for n in 1..=count {
            for end in &mut ends {
                end.send(start, WALL, digit(n)).unwrap();
            }
        }
        let mut fates = fates.into_iter();
        let mut wire: Vec<(Instant, usize, Frame)> = Vec::new();
        let mut arrived = [Vec::new(), Vec::new()];
        let mut now = start;
        while !ends.iter().all(Dialog::is_idle) {
            for (to, end) in [(1, 0), (0, 1)] {
                while let Some(frame) = ends[end].poll_frame() {
                    // Fate 0-2: lost; 3: twice; then the network is good.
                    let (fate, delay) = fates.next().unwrap_or((9, 1));
                    let copies = match fate { 0..=2 => 0, 3 => 2, _ => 1 };
                    for copy in 0..copies {
                        wire.push((now + ms(delay + copy * 150), to, frame.clone()));
                    }
                }
            }
            wire.sort_by_key(|(at, ..)| *at);
            let timers = ends.iter().filter_map(Dialog::poll_timeout);
            let Some(next) = timers.chain(wire.first().map(|(at, ..)| *at)).min() else { break };
            now = now.max(next);
            if wire.first().is_some_and(|(at, ..)| *at <= now) {
                let (_, to, frame) = wire.remove(0);
                let received = ends[to].receive(now, WALL, frame.seq, frame.ack, frame.message);
                arrived[to].extend(received.messages.into_iter().map(|(_, message)| message));
            } else if ends.iter_mut().any(|end| end.handle_timeout(now, WALL).is_err()) {
                // So many losses in a row that one end gave up: what arrived must still be a beginning.
                break;
            }
        }
        let all: Vec<_> = (1..=count).map(digit).collect();
        for received in &arrived {
            prop_assert!(all.starts_with(received));
        }
        if ends.iter().all(Dialog::is_idle) {
            prop_assert_eq!(&arrived, &[all.clone(), all]);
        }
    }
}

#[test]
fn a_dialog_that_persists_outlasts_silence() {
    let start = Instant::now();
    let mut a = Dialog::new();
    a.send(start, WALL, hold(true)).unwrap();
    a.persist();
    let mut sent = 0;
    let death = loop {
        let at = a.poll_timeout().unwrap();
        if a.handle_timeout(at, WALL).is_err() {
            break at;
        }
        sent += frames(&mut a).len();
    };
    assert_eq!(death - start, GIVE_UP_UNACKED);
    assert!(sent >= 10, "it goes on repeating: {sent}");
}
