//! Lost packets: what the other end tells of them, and the copies that make up for them.

use std::collections::BTreeMap;

use offhook_proto::rtp::{Completer, LossTrace, PAIR_PAYLOAD_TYPE, RED_PAYLOAD_TYPE, RateLimit, red};

use super::*;
use crate::audio::FRAME;

/// Loses `percent` of the packets, in bursts of so many; the same ones in every run.
fn lossy(percent: u32, burst: u32) -> Network {
    let (mut random, mut left) = (StdRng::seed_from_u64(7), 0);
    // What is not lost begins a burst with the probability that makes the whole share right.
    let share = f64::from(percent) / 100.0;
    let begins = share / (share + f64::from(burst) * (1.0 - share));
    Box::new(move |_| {
        if left == 0 && random.random_bool(begins) {
            left = burst;
        }
        let lost = left > 0;
        left = left.saturating_sub(1);
        (!lost).then_some(Duration::from_millis(50))
    })
}

#[test]
fn loss_is_reported_back_and_repaired() {
    let clean = talk(Duration::from_millis(4), lossy(0, 1), every_tick);
    assert_eq!(clean.listener.restored, 0);
    // Share and length of bursts; frames concealed once it is known, delay in ms, and rate against a clean line, at most.
    for (percent, burst, concealed, delay, rate) in [
        (5, 1, 0.01, 135.0, 1.6),
        (10, 1, 0.02, 140.0, 1.6),
        (20, 1, 0.03, 170.0, 2.5),
        (30, 1, 0.06, 170.0, 2.5),
        (10, 5, 0.04, 220.0, 2.5),
    ] {
        let concealed_by = |engines: &[VoiceEngine; 2]| engines[1].incoming.jitter.stats().concealed;
        let mut at = [0; 2];
        let talk = talk(Duration::from_millis(4), lossy(percent, burst), |tick, engines| {
            at[usize::from(tick > SECONDS * 50)] = concealed_by(engines);
        });
        let frames = f64::from(SECONDS) * 25.0;
        let later = (at[1] - at[0]) as f64 / frames;
        let times = talk.bytes as f64 / clean.bytes as f64;
        println!("loss={percent} burst={burst} concealed={later:.3} rate={times:.2} {:?}", talk.score);
        // The last second of few bursts may be without one.
        assert!(talk.talker.remote_loss > 0.0 || burst > 1, "the talker knows: {:?}", talk.talker);
        assert!(later <= concealed, "{later} {:?}", talk.listener);
        assert!(talk.score.correlation > 0.7 && talk.score.delay_ms < delay, "{:?}", talk.score);
        assert!(times < rate, "{times}");
    }
}

/// What both ends count on a network that loses rows of packets, against what it really did.
#[test]
fn q11_loss_bursts_and_what_was_concealed_are_counted_as_they_were() {
    let (mut lossy, mut lost, mut rows, mut before) = (lossy(10, 5), 0u64, 0u64, false);
    let truth = Arc::new(Mutex::new((0, 0)));
    let told = truth.clone();
    let network: Network = Box::new(move |sent| {
        let delay = lossy(sent);
        lost += u64::from(delay.is_none());
        rows += u64::from(delay.is_none() && !before);
        before = delay.is_none();
        *told.lock().unwrap() = (lost, rows);
        delay
    });
    let mut missing = (0, 0);
    let talk = talk_with(Fate::Works, LONGER, Duration::from_millis(4), network, |_, [_, ear]| {
        let jitter = ear.incoming.jitter.stats();
        missing = (jitter.concealed, jitter.gaps);
    });
    let (lost, rows) = *truth.lock().unwrap();
    let heard = talk.listener;
    println!("lost={lost} rows={rows} {heard:?} {:?}", talk.talker);
    // Reports of the listener are among what the network has lost, and the last second is not settled yet.
    let near = |counted: u64, true_count: u64| counted.abs_diff(true_count) * 10 <= true_count;
    assert!(near(heard.bursts.lost, lost) && near(heard.lost as u64, lost), "{:?}", heard.bursts);
    assert!(near(heard.bursts.count, rows) && (5..=15).contains(&heard.bursts.longest), "{:?}", heard.bursts);
    assert!((4.0..8.0).contains(&heard.bursts.mean()), "{:?}", heard.bursts);
    assert!(near(talk.talker.remote_lost as u64, lost), "the talker knows as well");
    assert_eq!((heard.frames_concealed, heard.gaps), missing);
    // Copies have made up for most of it.
    let concealed = heard.frames_concealed as f64 / heard.frames as f64;
    assert!((heard.concealed - concealed).abs() < 1e-9 && concealed < 0.06, "{concealed}");
    assert!(heard.restored as f64 > lost as f64 * 0.4, "{}", heard.restored);
    assert_eq!(talk.talker.plan.distances.iter().max(), Some(5), "{:?}", talk.talker.plan);
    assert!(heard.voice_bytes > 0 && heard.voice_bytes * 8 / u64::from(LONGER) < 40_000);
}

/// Somebody who does not pause: each packet is sent.
fn talking() -> Arc<Vec<f32>> {
    let samples = score::read(&speech("speech-a.wav"));
    Arc::new(
        samples.chunks(480).filter(|block| block.iter().any(|s| s.abs() > 0.05)).flatten().copied().collect(),
    )
}

/// Whether the next second's packets bring copies, when the other end says this of packets that follow one another.
fn copies_after(begin: u16, received: Vec<bool>) -> bool {
    let start = Instant::now();
    let mut engine = engine(VirtualMic::new(&talking(), Fate::Works), Nothing::default(), start, 0);
    let (mut sent, mut completer) = (Vec::new(), Completer::default());
    let mut run = |engine: &mut VoiceEngine, ticks: std::ops::Range<u32>| {
        sent.clear();
        ticks.for_each(|tick| engine.tick(start + BLOCK_TIME * tick, &mut |datagram| sent.push(datagram)));
        let mut payload_type = |datagram| whole(&mut completer, datagram).map(|packet| packet.payload_type);
        sent.iter().any(|datagram| payload_type(datagram) == Some(RED_PAYLOAD_TYPE))
    };
    assert!(!run(&mut engine, 0..110));
    tell_of_loss(&mut engine, start + BLOCK_TIME * 110, begin, received);
    run(&mut engine, 110..200)
}

/// The other end reports which packets have come.
fn tell_of_loss(engine: &mut VoiceEngine, at: Instant, begin: u16, received: Vec<bool>) {
    let ssrc = engine.outgoing.ssrc;
    tell(engine, at, Some(LossTrace { ssrc, begin, received }), None);
}

/// The same, and what is not to be exceeded.
fn tell(engine: &mut VoiceEngine, at: Instant, trace: Option<LossTrace>, limit: Option<u32>) {
    let ssrc = engine.outgoing.ssrc;
    let mut reception = offhook_proto::rtp::Reception::new(48_000);
    reception.on_packet(Duration::ZERO, 0, 0, 1);
    let blocks = vec![reception.report(ssrc, None)];
    let limit = limit.map(|bits_per_second| RateLimit { ssrc, bits_per_second });
    let sender = Some(SenderInfo { ntp: 1, rtp_timestamp: 1, packets: 1, bytes: 1 });
    engine.receive(at, &rtp::encode_rtcp(VOICE_FLOW, &Rtcp { ssrc: 1, sender, blocks, trace, limit }));
}

/// A packet with all that its header says.
fn whole<'a>(completer: &mut Completer, datagram: &'a [u8]) -> Option<RtpPacket<'a>> {
    match rtp::decode(datagram) {
        Ok((VOICE_FLOW, Frame::Rtp(packet))) => {
            completer.complete(&packet);
            Some(packet)
        }
        Ok((VOICE_FLOW, Frame::Short(short))) => completer.expand(&short),
        Ok(_) | Err(_) => None,
    }
}

/// The frames that packets bring for the first time, by sequence number and timestamp, and how many pairs there are.
fn frames_of(sent: &[Vec<u8>]) -> (BTreeMap<u16, u32>, usize) {
    let (mut completer, mut frames, mut pairs) = (Completer::default(), BTreeMap::new(), 0);
    for datagram in sent {
        let Some(packet) = whole(&mut completer, datagram) else { continue };
        if packet.payload_type == PAIR_PAYLOAD_TYPE {
            let read = red::decode(packet.payload).unwrap();
            assert_eq!(read.copies.last().map(|copy| copy.offset), Some(FRAME as u32), "a pair has two");
            frames.insert(packet.sequence - 1, packet.timestamp - FRAME as u32);
            pairs += 1;
        }
        assert!(frames.insert(packet.sequence, packet.timestamp).is_none(), "{}", packet.sequence);
    }
    (frames, pairs)
}

/// Somebody talks for four seconds over a link that gets narrow and lossy, and is wide again from a tick on.
fn narrow_until(end: u32, fate: Fate) -> (BTreeMap<u16, u32>, usize) {
    let start = Instant::now();
    let mut engine = engine(VirtualMic::new(&talking(), fate), Nothing::default(), start, 0);
    let mut sent = Vec::new();
    for tick in 0..400 {
        let now = start + BLOCK_TIME * tick;
        if tick == 230 {
            let mut random = StdRng::seed_from_u64(7);
            let received = (0..110).map(|_| random.random_bool(0.6)).collect();
            let trace = LossTrace { ssrc: engine.outgoing.ssrc, begin: 0, received };
            tell(&mut engine, now, Some(trace), Some(36_000));
            assert_eq!(engine.stats().plan.frames, 2);
        } else if tick == end {
            tell(&mut engine, now, None, None);
            assert_eq!((engine.stats().plan.frames, engine.stats().plan.distances.iter().count()), (1, 2));
        }
        engine.tick(now, &mut |datagram| sent.push(datagram));
    }
    frames_of(&sent)
}

#[test]
fn p10_no_frame_is_missing_when_a_narrow_link_becomes_wide_between_two_of_a_pair() {
    for end in 320..324 {
        let (frames, pairs) = narrow_until(end, Fate::Works);
        assert!(pairs > 20, "{pairs}");
        assert!(frames.len() >= 199, "{end}: {}", frames.len());
        let told = frames.iter().all(|(sequence, timestamp)| u32::from(*sequence) * 960 == *timestamp);
        assert!(told, "{end}: {frames:?}");
    }
}

#[test]
fn p10_a_frame_does_not_wait_for_one_that_does_not_come() {
    // The microphone stands still for a while, in the middle of a pair or not.
    for (ms, blocks) in [(60, 260), (60, 261), (60, 262), (60, 263), (250, 260), (250, 262)] {
        let (frames, pairs) = narrow_until(380, Fate::Stalls(blocks, Duration::from_millis(ms)));
        assert!(pairs > 20, "{pairs}");
        let numbers: Vec<u16> = frames.keys().copied().collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ms} ms at {blocks}: {numbers:?}");
    }
}

#[test]
fn a_pair_without_its_first_frame_is_taken_for_what_it_has() {
    let start = Instant::now();
    let mut engine = engine(Nothing::default(), Nothing::default(), start, 0);
    let payload = red::encode(&[1, 2, 3], &[red::Copy { offset: 2 * FRAME as u32, payload: &[4, 5, 6] }]);
    let mut packet = RtpPacket {
        payload_type: PAIR_PAYLOAD_TYPE,
        marker: false,
        sequence: 7,
        timestamp: 960 * 7,
        ssrc: 1,
        payload: &payload,
    };
    engine.receive(start, &rtp::encode_rtp(VOICE_FLOW, &packet));
    assert_eq!(engine.stats().received, 1);
    // What is of no known kind belongs to another stream, and changes nothing of this one.
    packet = RtpPacket { payload_type: 101, ssrc: 2, sequence: 8, ..packet };
    engine.receive(start, &rtp::encode_rtp(VOICE_FLOW, &packet));
    assert_eq!((engine.stats().received, engine.incoming.ssrc), (1, Some(1)));
}

#[test]
fn headers_are_complete_again_for_who_has_lost_what_they_say() {
    let start = Instant::now();
    let mut engine = engine(VirtualMic::new(&talking(), Fate::Works), Nothing::default(), start, 0);
    let mut versions = Vec::new();
    for tick in 0..300 {
        let now = start + BLOCK_TIME * tick;
        match tick {
            100 => tell(&mut engine, now, None, None),
            200 => {
                let sender = Some(SenderInfo { ntp: 1, rtp_timestamp: 1, packets: 1, bytes: 1 });
                let empty = Rtcp { ssrc: 1, sender, blocks: Vec::new(), trace: None, limit: None };
                engine.receive(now, &rtp::encode_rtcp(VOICE_FLOW, &empty));
            }
            _ => {}
        }
        engine.tick(now, &mut |datagram| versions.extend((tick % 100 > 2).then_some(datagram[1] >> 6)));
    }
    let third = versions.len() / 3;
    let complete = |part: &[u8]| part.iter().filter(|version| **version == 2).count();
    assert_eq!(complete(&versions[..third]), third);
    assert!(complete(&versions[third..2 * third]) <= 2, "{versions:?}");
    assert_eq!(complete(&versions[2 * third + 1..]), versions.len() - 2 * third - 1);
}

#[test]
fn a_machine_that_is_too_slow_has_its_codec_do_less() {
    let mut engine = engine(Nothing::default(), Nothing::default(), Instant::now(), 0);
    assert_eq!(engine.stats().plan.complexity, 9);
    engine.take_load(0.6);
    assert_eq!((engine.stats().plan.complexity, engine.outgoing.complexity()), (5, 5));
}

#[test]
fn what_is_said_of_packets_that_were_never_sent_is_not_believed() {
    let two_in_five = || (0..50).map(|n| n % 5 > 1).collect();
    assert!(copies_after(0, two_in_five()), "fifty have been sent");
    assert!(!copies_after(40, two_in_five()), "ninety have not");
    assert!(!copies_after(65_480, two_in_five()), "nor any before the first");
    assert!(!copies_after(32_750, two_in_five()), "nor those half a turn away");
    assert!(!copies_after(0, Vec::new()));
    assert!(!copies_after(0, vec![true; 50]));
}

#[test]
fn copies_repeat_what_was_said_at_their_time_also_after_a_microphone_stood_still() {
    let samples = talking();
    let start = Instant::now();
    // A quarter of a second, in which it is not taken for lost.
    let mic = VirtualMic::new(&samples, Fate::Stalls(150, Duration::from_millis(250)));
    let mut engine = engine(mic, Nothing::default(), start, 0);
    let mut sent = Vec::new();
    for tick in 0..300 {
        if tick == 110 {
            tell_of_loss(&mut engine, start + BLOCK_TIME * tick, 0, (0..50).map(|n| n % 5 > 1).collect());
        }
        engine.tick(start + BLOCK_TIME * tick, &mut |datagram| sent.push(datagram));
    }
    let (mut frames, mut copies, mut gap) = (BTreeMap::new(), 0, None);
    let mut completer = Completer::default();
    for datagram in &sent {
        let Some(packet) = whole(&mut completer, datagram) else { continue };
        if packet.marker && packet.sequence > 60 {
            gap = Some(copies);
        }
        let primary = match packet.payload_type {
            RED_PAYLOAD_TYPE => {
                let redundant = red::decode(packet.payload).unwrap();
                for copy in &redundant.copies {
                    let said = frames.get(&(packet.timestamp - copy.offset));
                    assert_eq!(said, Some(&copy.payload.to_vec()), "copy of {} before", copy.offset);
                    copies += 1;
                }
                redundant.primary
            }
            _ => packet.payload,
        };
        frames.insert(packet.timestamp, primary.to_vec());
    }
    let before = gap.expect("timestamps leave the gap out");
    assert!(before > 0 && copies > before, "{before} {copies}");
}
