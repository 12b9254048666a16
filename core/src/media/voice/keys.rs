//! What the telephone's keys want of the thread, and how it does it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::time::Instant;

use super::engine::VoiceEngine;
use super::thread::Thread;
use super::{Shared, Voice, lock};
use crate::audio::Volume;

/// Keys that may wait for the next tick; one command presses 24.
const MAX_KEYS: usize = 48;

/// What is wanted now.
#[derive(Debug)]
pub(super) struct KeyWishes {
    volume: AtomicU16,
    waiting: AtomicBool,
    keys: Mutex<VecDeque<char>>,
}

impl Default for KeyWishes {
    fn default() -> KeyWishes {
        let volume = AtomicU16::new(Volume::default().percent());
        KeyWishes { volume, waiting: AtomicBool::default(), keys: Mutex::default() }
    }
}

impl Voice {
    /// How loud the loudspeaker is from now on.
    pub(in crate::media) fn set_volume(&self, volume: Volume) {
        self.shared.keys.volume.store(volume.percent(), Relaxed);
    }

    /// Whether a tone tells of a call that waits.
    pub(in crate::media) fn set_waiting(&self, waiting: bool) {
        self.shared.keys.waiting.store(waiting, Relaxed);
    }

    /// Sounds a key to both ends. Those beyond [`MAX_KEYS`] are not heard.
    pub(in crate::media) fn press(&self, key: char) {
        let mut keys = lock(&self.shared.keys.keys);
        if keys.len() < MAX_KEYS {
            keys.push_back(key);
        }
    }
}

impl Shared {
    /// Tells the engine what is wanted.
    pub(super) fn pass_on(&self, engine: &mut VoiceEngine) {
        engine.muted = self.muted.load(Relaxed);
        engine.held = self.held.load(Relaxed);
        engine.set_volume(Volume::new(self.keys.volume.load(Relaxed)).unwrap_or_default());
        engine.set_waiting(self.keys.waiting.load(Relaxed));
        while let Some(key) = lock(&self.keys.keys).pop_front() {
            engine.press(key);
        }
    }
}

impl Thread {
    /// While the call is on hold devices are free for another one. Recordings go on: nobody else wants them, and they would
    /// begin anew.
    pub(super) fn park(&mut self, engine: &mut VoiceEngine, parked: &mut bool, now: Instant) {
        if std::mem::replace(parked, engine.held) == engine.held {
            return;
        }
        let (mic, speaker) = (self.mic.is_replaced(), self.speaker.is_replaced());
        if engine.held {
            if mic {
                self.mic.park(engine.rest_source(now));
            }
            if speaker {
                self.speaker.park(engine.rest_sink(now));
            }
            return;
        }
        if mic {
            self.mic.start(now);
        }
        if speaker {
            self.speaker.start(now);
        }
    }
}
