//! Devices that are changed while both ends talk.

use super::*;

/// A steady tone: what is missing of it, or broken, is seen.
fn hum() -> Arc<Vec<f32>> {
    let tone = |n: u32| 0.3 * (n as f32 * 220.0 * std::f32::consts::TAU / 48_000.0).sin();
    Arc::new((0..48_000 * 8).map(tone).collect())
}

fn largest_step(samples: &[f32]) -> f32 {
    samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
}

#[test]
fn p10_devices_change_in_a_call_without_a_gap_or_a_click() {
    let origin = Instant::now();
    let [first, second, unheard]: [Arc<Mutex<Vec<f32>>>; 3] = Default::default();
    let samples = hum();
    let mic = VirtualMic::new(&samples, Fate::Works);
    let mut talker = engine(mic, VirtualSpeaker::new(&unheard), origin, 1);
    let silence = Arc::new(Vec::new());
    let mut ear = engine(VirtualMic::new(&silence, Fate::Works), VirtualSpeaker::new(&first), origin, 2);
    let mut timestamps = Vec::new();
    for tick in 1..600u32 {
        let now = origin + BLOCK_TIME * tick;
        if tick == 300 {
            let (mut mic, mut speaker) =
                (VirtualMic::new(&samples, Fate::Works), VirtualSpeaker::new(&second));
            // It goes on in the tone where the other one was, but for a part of a period.
            mic.at = 299 * BLOCK_LEN + 100;
            mic.start(now).unwrap();
            assert!(talker.change_source(Box::new(mic)).is_some(), "the one before is given back");
            speaker.start(now).unwrap();
            assert!(ear.change_sink(Box::new(speaker), now).is_some());
        }
        let mut wire = Vec::new();
        talker.tick(now, &mut |datagram| wire.push(datagram));
        for datagram in &wire {
            if let Ok((VOICE_FLOW, Frame::Rtp(packet))) = rtp::decode(datagram) {
                timestamps.push(packet.timestamp);
            }
            ear.receive(now, datagram);
        }
        ear.tick(now, &mut |_| ());
        assert!(
            talker.poll_event().is_none() && !matches!(ear.poll_event(), Some(EngineEvent::SinkLost(..)))
        );
    }
    assert!(timestamps.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == 960), "the stream has no gap");
    assert!(timestamps.len() >= 297, "{}", timestamps.len());
    let (first, second) = (first.lock().unwrap().clone(), second.lock().unwrap().clone());
    // The first has what was heard until then, and a block in which it fades away.
    assert_eq!(first.len() / BLOCK_LEN, 300 + 1);
    assert!(second.len() / BLOCK_LEN >= 299, "{}", second.len() / BLOCK_LEN);
    assert_eq!(first.last(), Some(&0.0));
    let steep = 0.3 * 220.0 * std::f32::consts::TAU / 48_000.0;
    for (which, samples) in [("first", &first[48_000..]), ("second", &second[..])] {
        let step = largest_step(samples);
        assert!(step < steep * 3.0, "the {which} clicks: {step}");
    }
    let loud = |samples: &[f32]| samples.iter().any(|sample| sample.abs() > 0.1);
    let end = first.len() - BLOCK_LEN;
    assert!(first[48_000..end].chunks(480).all(loud), "nothing is missing before");
    let end = second.len().min(280 * BLOCK_LEN);
    assert!(second[480..end].chunks(480).all(loud), "nor after");
}
