//! The telephone's keys in the sound of a call: what the other end hears instead of the microphone, and what the user hears
//! beside the other end. Every change takes one block, so that nothing clicks.

use std::time::Instant;

use super::{Mic, Speaker, VoiceEngine};
use crate::audio::{
    AudioSink, AudioSource, BLOCK_LEN, Block, DialTones, HoldMusic, HoldPlayer, Nothing, Ramp, Sounding,
    Tone, Volume, limit,
};

/// Amplitude of each of a key's two sines for the other end: -10 dB of full scale together, which speech reaches, too.
const KEY_LEVEL: f32 = 0.15;
/// The same for the user's own ear.
const OWN_LEVEL: f32 = 0.05;

/// What the keys do.
#[derive(Default)]
pub(super) struct Keys {
    music: HoldMusic,
    playing: Option<(HoldPlayer, Ramp)>,
    /// Of what the microphone gives.
    microphone: Ramp,
    /// Of what the other end says.
    other: Ramp,
    said: DialTones,
    heard: DialTones,
    waiting: Option<Sounding>,
    volume: Volume,
    louder: Ramp,
    /// Nothing is heard beside the other end.
    quiet: bool,
}

impl Keys {
    /// What is said instead of, or beside, what the microphone gave: silence, music, or the tone of a key.
    pub(super) fn say(&mut self, muted: bool, held: bool, block: &mut Block) {
        let mut tone: Block = [0.0; BLOCK_LEN];
        let key = self.said.next(KEY_LEVEL, &mut tone);
        self.microphone.apply(if muted || held || key { 0.0 } else { 1.0 }, block);
        if held && self.playing.is_none() {
            self.playing = Some((self.music.play(), Ramp::at(0.0)));
        }
        if let Some((player, ramp)) = &mut self.playing {
            let mut music: Block = [0.0; BLOCK_LEN];
            player.next(&mut music);
            ramp.apply(if held && !key { 1.0 } else { 0.0 }, &mut music);
            add(&music, block);
        }
        if !held {
            // What was left of it has just faded.
            self.playing = None;
        }
        if key {
            add(&tone, block);
        }
    }

    /// What is heard of, or beside, what the other end says.
    pub(super) fn hear(&mut self, held: bool, block: &mut Block) {
        self.other.apply(if held { 0.0 } else { 1.0 }, block);
        let mut tone: Block = [0.0; BLOCK_LEN];
        if self.heard.next(OWN_LEVEL, &mut tone) {
            add(&tone, block);
        }
        if let Some(waiting) = &mut self.waiting
            && waiting.next(&mut tone)
        {
            add(&tone, block);
        }
        self.louder.apply(self.volume.factor(), block);
        if self.volume > Volume::default() {
            limit(block);
        }
    }
}

fn add(sound: &Block, block: &mut Block) {
    for (sample, more) in block.iter_mut().zip(sound) {
        *sample += more;
    }
}

impl VoiceEngine {
    /// What plays while the call is on hold, and whether the user hears the other end alone.
    pub(in crate::media::voice) fn set_sounds(&mut self, music: HoldMusic, quiet: bool) {
        (self.keys.music, self.keys.quiet) = (music, quiet);
    }

    /// How loud the loudspeaker is.
    pub(in crate::media::voice) fn set_volume(&mut self, volume: Volume) {
        self.keys.volume = volume;
    }

    /// Whether another call waits: then a tone says so now and again.
    pub(in crate::media::voice) fn set_waiting(&mut self, waiting: bool) {
        match (waiting && !self.keys.quiet, &self.keys.waiting) {
            (true, None) => self.keys.waiting = Some(Sounding::new(Tone::CallWaiting, None)),
            (false, Some(_)) => self.keys.waiting = None,
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Sounds a key to both ends.
    pub(in crate::media::voice) fn press(&mut self, key: char) {
        self.keys.said.press(key);
        if !self.keys.quiet {
            self.keys.heard.press(key);
        }
    }

    /// Gives the microphone back; silence keeps time in its place.
    pub(in crate::media::voice) fn rest_source(&mut self, now: Instant) -> Option<Mic> {
        let source = self.outgoing.source.take();
        let mut nothing = Nothing::default();
        // It cannot fail.
        let _ = AudioSource::start(&mut nothing, now);
        self.set_source(Box::new(nothing));
        source
    }

    /// Gives the loudspeaker back; nobody hears what takes its place.
    pub(in crate::media::voice) fn rest_sink(&mut self, now: Instant) -> Option<Speaker> {
        let sink = self.incoming.sink.take();
        let mut nothing = Nothing::default();
        // It cannot fail.
        let _ = AudioSink::start(&mut nothing, now);
        self.set_sink(Box::new(nothing), now);
        sink
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::SAMPLE_RATE;

    /// Two seconds of what becomes of a voice that is a constant.
    fn said(keys: &mut Keys, mut state: impl FnMut(usize, &mut Keys) -> (bool, bool)) -> Vec<f32> {
        let mut sound = Vec::new();
        for n in 0..200 {
            let (muted, held) = state(n, keys);
            let mut block = [0.3; BLOCK_LEN];
            keys.say(muted, held, &mut block);
            sound.extend_from_slice(&block);
        }
        sound
    }

    fn steps(sound: &[f32]) -> f32 {
        sound.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn hold_music_begins_and_ends_without_a_click_and_mute_survives_it() {
        let mut keys = Keys::default();
        let sound = said(&mut keys, |n, _| (n >= 20, (50..150).contains(&n)));
        assert!(steps(&sound) < 0.1, "{}", steps(&sound));
        let loudest = |blocks: std::ops::Range<usize>| {
            let piece = &sound[blocks.start * BLOCK_LEN..blocks.end * BLOCK_LEN];
            piece.iter().map(|sample| sample.abs()).fold(0.0, f32::max)
        };
        assert!(loudest(21..50) == 0.0, "muted");
        assert!(loudest(52..70) > 0.05, "music though muted");
        assert!(loudest(151..200) == 0.0, "muted as before");
        assert!(keys.playing.is_none());
    }

    #[test]
    fn a_key_takes_the_place_of_the_microphone_while_it_sounds() {
        let mut keys = Keys::default();
        let sound = said(&mut keys, |n, keys| {
            if n == 10 {
                keys.said.press('5');
            }
            (false, false)
        });
        let tone = &sound[11 * BLOCK_LEN..19 * BLOCK_LEN];
        let mean = tone.iter().sum::<f32>() / tone.len() as f32;
        assert!(mean.abs() < 0.01, "the voice is away: {mean}");
        assert!(tone.iter().any(|sample| sample.abs() > 0.2));
        assert!(sound[30 * BLOCK_LEN..].iter().all(|sample| (sample - 0.3).abs() < 1e-6), "and is back");
        assert!(steps(&sound) < 0.1);
    }

    #[test]
    fn volume_and_the_waiting_tone_are_heard() {
        let mut keys = Keys { volume: Volume::new(200).unwrap(), ..Keys::default() };
        let mut block = [0.3; BLOCK_LEN];
        keys.hear(false, &mut block);
        assert!((block[BLOCK_LEN - 1] - 0.6).abs() < 1e-6);
        keys.waiting = Some(Sounding::new(Tone::CallWaiting, None));
        let (mut sound, blocks) = (Vec::new(), SAMPLE_RATE as usize / BLOCK_LEN);
        for _ in 0..blocks {
            let mut block = [0.0; BLOCK_LEN];
            keys.hear(false, &mut block);
            sound.extend_from_slice(&block);
        }
        let loud = sound.iter().filter(|sample| sample.abs() > 0.05).count() as f32 / sound.len() as f32;
        assert!((0.2..0.45).contains(&loud), "0.4 s of the first second, a sine: {loud}");
        keys.volume = Volume::new(0).unwrap();
        let mut block = [0.3; BLOCK_LEN];
        keys.hear(false, &mut block);
        keys.hear(false, &mut block);
        assert!(block.iter().all(|sample| *sample == 0.0));
    }

    #[test]
    fn whoever_records_what_is_heard_hears_the_other_end_alone() {
        use crate::audio::Processor;
        use crate::media::voice::engine::{Codec, Start};
        let (codec, processor) = (Codec::new().unwrap(), Processor::new(crate::audio::Processing::NONE));
        let start = Start { codec, processor, now: Instant::now(), ntp: 0, seed: 1 };
        let mut engine = VoiceEngine::start(start);
        engine.set_sounds(HoldMusic::default(), true);
        engine.press('5');
        engine.set_waiting(true);
        let mut block = [0.0; BLOCK_LEN];
        engine.keys.hear(false, &mut block);
        assert!(block.iter().all(|sample| *sample == 0.0));
        engine.keys.say(false, false, &mut block);
        assert!(block.iter().any(|sample| sample.abs() > 0.1), "the other end hears the key");
    }
}
