//! Plays tones on a thread of its own, which waits for sound systems in the telephone's place.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::{Ringtone, Sounding, Tone};
use crate::audio::{
    AudioError, AudioSink, BLOCK_LEN, BLOCK_TIME, Block, DeviceSpec, Ramp, Volume, limit, open_sink,
};

/// How long what the device holds may take to be heard after the last block.
const TO_HEAR: Duration = Duration::from_millis(200);
/// How long after a failure a tone that is still wanted is tried again: another program, or the call before, may have had the device.
const RETRY: Duration = Duration::from_millis(500);
/// A device that takes nothing for this long has stalled.
const STALL: Duration = Duration::from_secs(1);

/// Which devices tones are played on, and which bell.
#[derive(Debug, Clone)]
struct Devices {
    speaker: DeviceSpec,
    ringer: DeviceSpec,
    ringtone: Option<PathBuf>,
    loudness: Arc<Loudness>,
}

/// Volumes, which may change while a tone sounds.
#[derive(Debug)]
struct Loudness {
    speaker: AtomicU16,
    ringer: AtomicU16,
}

impl Loudness {
    fn of(&self, tone: Tone) -> Volume {
        let percent = match tone {
            Tone::Bell => &self.ringer,
            Tone::CallWaiting | Tone::Ringback | Tone::Busy | Tone::Special | Tone::End => &self.speaker,
        };
        Volume::new(percent.load(Relaxed)).unwrap_or_default()
    }
}

impl Devices {
    fn of(&self, tone: Tone) -> &DeviceSpec {
        match tone {
            Tone::Bell => &self.ringer,
            Tone::CallWaiting | Tone::Ringback | Tone::Busy | Tone::Special | Tone::End => &self.speaker,
        }
    }
}

/// Plays one tone at a time. Ends with its handle.
#[derive(Debug)]
pub(crate) struct TonePlayer {
    devices: Devices,
    wishes: Option<Sender<Option<Tone>>>,
    wished: Option<Tone>,
}

impl TonePlayer {
    /// Nothing is opened before a tone is wanted. The bell rings at `ringer` with the WAV file `ringtone` or like an old telephone,
    /// everything else is heard from `speaker`; nothing is played into files.
    pub(crate) fn new(speaker: DeviceSpec, ringer: DeviceSpec, ringtone: Option<PathBuf>) -> TonePlayer {
        let whole = || AtomicU16::new(Volume::default().percent());
        let loudness = Arc::new(Loudness { speaker: whole(), ringer: whole() });
        TonePlayer { devices: Devices { speaker, ringer, ringtone, loudness }, wishes: None, wished: None }
    }

    /// How loud tones are from now on, at the loudspeaker and at the ringer.
    pub(crate) fn set_volumes(&self, speaker: Volume, ringer: Volume) {
        self.devices.loudness.speaker.store(speaker.percent(), Relaxed);
        self.devices.loudness.ringer.store(ringer.percent(), Relaxed);
    }

    /// Plays on other devices from now on; what sounds at present begins anew there.
    pub(crate) fn use_devices(&mut self, speaker: DeviceSpec, ringer: DeviceSpec) {
        if (&self.devices.speaker, &self.devices.ringer) == (&speaker, &ringer) {
            return;
        }
        (self.devices.speaker, self.devices.ringer) = (speaker, ringer);
        // The thread falls silent and ends.
        self.wishes = None;
        let wished = self.wished.take();
        self.play(wished);
    }

    /// Plays this from now on, or nothing. What is played already goes on.
    pub(crate) fn play(&mut self, tone: Option<Tone>) {
        if std::mem::replace(&mut self.wished, tone) == tone {
            return;
        }
        let audible = tone.filter(|tone| match self.devices.of(*tone) {
            DeviceSpec::Default | DeviceSpec::Id(_) | DeviceSpec::Custom(_) => true,
            DeviceSpec::File(_) | DeviceSpec::None => false,
        });
        if self.wishes.is_none() && audible.is_some() {
            self.wishes = spawn(self.devices.clone());
        }
        if let Some(wishes) = &self.wishes {
            // Without a thread there are no tones.
            let _ = wishes.send(audible);
        }
    }
}

fn spawn(devices: Devices) -> Option<Sender<Option<Tone>>> {
    let (wishes, wanted) = mpsc::channel();
    let thread = std::thread::Builder::new().name("offhook-tones".into());
    thread.spawn(move || run(&devices, &wanted)).ok().map(|_| wishes)
}

/// Plays what is wanted until nobody can want anything any more.
fn run(devices: &Devices, wanted: &Receiver<Option<Tone>>) {
    let (mut ringtone, mut failed) = (None, false);
    let mut next = wanted.recv().ok();
    while let Some(wish) = next {
        let Some(tone) = latest(wish, wanted) else {
            next = wanted.recv().ok();
            continue;
        };
        if tone == Tone::Bell && ringtone.is_none() {
            ringtone = Ringtone::open_or_bell(devices.ringtone.as_deref()).ok();
        }
        let loud = || devices.loudness.of(tone);
        let played = sound(Sounding::new(tone, ringtone.clone()), devices.of(tone), loud, wanted);
        next = match played {
            Ok(Some(wish)) => Some(wish),
            Ok(None) => wanted.recv().ok(),
            Err(error) => {
                if !std::mem::replace(&mut failed, true) {
                    tracing::warn!(%error, ?tone, "a tone cannot be played");
                }
                match wanted.recv_timeout(RETRY) {
                    Ok(wish) => Some(wish),
                    Err(RecvTimeoutError::Timeout) => Some(Some(tone)),
                    Err(RecvTimeoutError::Disconnected) => None,
                }
            }
        };
    }
}

/// What is wanted now: a sound system may have kept us busy.
fn latest(wish: Option<Tone>, wanted: &Receiver<Option<Tone>>) -> Option<Tone> {
    wanted.try_iter().last().unwrap_or(wish)
}

/// Opens the device, or the one that stands in for it: a headset that is not there is no reason not to ring.
fn open(device: &DeviceSpec) -> Result<Box<dyn AudioSink>, AudioError> {
    started(device).or_else(|error| device.stand_in().and_then(|other| started(&other).ok()).ok_or(error))
}

fn started(device: &DeviceSpec) -> Result<Box<dyn AudioSink>, AudioError> {
    let mut sink = open_sink(device)?;
    sink.start(Instant::now())?;
    Ok(sink)
}

/// Plays until it is over or something else is wanted, which is the answer.
fn sound(
    mut sounding: Sounding,
    device: &DeviceSpec,
    loud: impl Fn() -> Volume,
    wanted: &Receiver<Option<Tone>>,
) -> Result<Option<Option<Tone>>, AudioError> {
    let mut sink = open(device)?;
    let (mut block, mut louder): (Block, _) = ([0.0; BLOCK_LEN], Ramp::default());
    let (mut over, mut taken): (Option<Instant>, _) = (None, Instant::now());
    loop {
        for _ in 0..sink.wanted(Instant::now()) {
            taken = Instant::now();
            if !sounding.next(&mut block) {
                over.get_or_insert(taken);
                block.fill(0.0);
            }
            louder.apply(loud().factor(), &mut block);
            limit(&mut block);
            sink.write(&block)?;
        }
        if over.is_some_and(|at| at.elapsed() >= TO_HEAR) {
            return Ok(None);
        }
        if taken.elapsed() >= STALL {
            return Err(AudioError::Stalled);
        }
        match wanted.recv_timeout(BLOCK_TIME) {
            Ok(wish) => return Ok(Some(wish)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::audio::CustomDevice;

    /// A loudspeaker that keeps what it was given, a list for each time that it was opened.
    fn recorder() -> (DeviceSpec, Arc<Mutex<Vec<Vec<f32>>>>) {
        let heard: Arc<Mutex<Vec<Vec<f32>>>> = Arc::default();
        let opened = heard.clone();
        let device = CustomDevice::loudspeaker(move || {
            let at = {
                let mut all = opened.lock().unwrap();
                all.push(Vec::new());
                all.len() - 1
            };
            let heard = opened.clone();
            move |block: &Block| heard.lock().unwrap()[at].extend_from_slice(block)
        });
        (DeviceSpec::Custom(device), heard)
    }

    /// Waits until something holds, for ten seconds at most.
    fn until(what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(BLOCK_TIME);
        }
    }

    fn loud(heard: &Mutex<Vec<Vec<f32>>>, at: usize) -> bool {
        heard.lock().unwrap().get(at).is_some_and(|heard| heard.iter().any(|sample| sample.abs() > 0.01))
    }

    #[test]
    fn the_bell_rings_at_the_ringer_and_tones_are_heard_from_the_loudspeaker() {
        let ((speaker, at_ear), (ringer, in_room)) = (recorder(), recorder());
        let mut player = TonePlayer::new(speaker, ringer, None);
        player.play(Some(Tone::Bell));
        until("it rings", || loud(&in_room, 0));
        player.play(Some(Tone::Bell));
        player.play(Some(Tone::Ringback));
        until("ringback is heard", || loud(&at_ear, 0));
        assert_eq!(in_room.lock().unwrap().len(), 1, "it went on ringing and did not begin anew");
        let rung = in_room.lock().unwrap()[0].len();
        player.play(None);
        player.play(Some(Tone::End));
        until("the last tone comes and ends", || {
            at_ear.lock().unwrap().get(1).is_some_and(|heard| heard.len() >= 1_200 * 48)
        });
        assert_eq!(in_room.lock().unwrap()[0].len(), rung, "the bell is silent since then");
    }

    /// A loudspeaker that another program has for a while.
    struct Taken(Mutex<usize>, DeviceSpec);

    impl crate::audio::AudioProvider for Taken {
        fn sink(&self) -> Option<Box<dyn crate::audio::AudioSink>> {
            let mut left = self.0.lock().unwrap();
            *left = left.saturating_sub(1);
            if *left > 0 { None } else { open_sink(&self.1).ok() }
        }
    }

    #[test]
    fn a_device_that_is_taken_is_tried_again_while_it_rings() {
        let (ringer, heard) = recorder();
        let taken = CustomDevice::new(Arc::new(Taken(Mutex::new(3), ringer)));
        let mut player = TonePlayer::new(DeviceSpec::None, DeviceSpec::Custom(taken), None);
        player.play(Some(Tone::Bell));
        until("it rings in the end", || loud(&heard, 0));
    }

    #[test]
    fn what_rings_goes_on_at_another_device() {
        let ((ringer, first), (other, then)) = (recorder(), recorder());
        let mut player = TonePlayer::new(DeviceSpec::None, ringer, None);
        player.play(Some(Tone::Bell));
        until("it rings", || loud(&first, 0));
        player.use_devices(DeviceSpec::None, other.clone());
        until("it rings at the other", || loud(&then, 0));
        let rung = first.lock().unwrap()[0].len();
        player.use_devices(DeviceSpec::None, other);
        until("it goes on", || then.lock().unwrap()[0].len() > 100 * BLOCK_LEN);
        assert_eq!(then.lock().unwrap().len(), 1, "the same devices change nothing");
        assert!(first.lock().unwrap()[0].len() <= rung + 2 * BLOCK_LEN, "the first is silent");
    }

    #[test]
    fn a_player_that_is_dropped_falls_silent() {
        let (ringer, heard) = recorder();
        let mut player = TonePlayer::new(DeviceSpec::None, ringer, None);
        player.play(Some(Tone::Ringback));
        assert!(player.wishes.is_none(), "nothing is opened for what nobody hears");
        player.play(Some(Tone::Bell));
        until("it rings", || loud(&heard, 0));
        let alive = Arc::downgrade(&heard);
        drop((player, heard));
        until("the thread has ended", || alive.strong_count() == 0);
    }
}
