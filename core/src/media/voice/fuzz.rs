//! The voice that a stranger sends, for the fuzzer.
#![allow(clippy::panic, reason = "a panic is what the fuzzer reports")]

use std::time::{Duration, Instant};

use super::engine::{Codec, Start, VoiceEngine};
use crate::audio::{AudioSink, Nothing};

/// Takes datagrams, each after a while, and plays what comes of them. Answers how many it counted as voice.
pub fn voice(datagrams: impl IntoIterator<Item = (Duration, Vec<u8>)>) -> u64 {
    let mut now = Instant::now();
    let Ok(codec) = Codec::new() else { panic!("the codec's settings are right") };
    let mut engine = VoiceEngine::start(Start { codec, processor: None, now, ntp: 0, seed: 0 });
    let mut nothing = Nothing::default();
    let Ok(heard) = AudioSink::start(&mut nothing, now) else { panic!("silence needs no device") };
    engine.set_sink(Box::new(nothing), heard);
    for (later, datagram) in datagrams {
        now += later;
        engine.receive(now, &datagram);
        engine.tick(now, &mut |_| ());
    }
    while engine.poll_event().is_some() {}
    let stats = engine.stats();
    assert!((0.0..=1.0).contains(&stats.concealed) && (0.0..=1.0).contains(&stats.remote_loss), "{stats:?}");
    stats.received
}
