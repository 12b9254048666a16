//! The thread itself: it ticks when the devices have or want something, and takes the packets that have come meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc as events;

use super::devices::Keeper;
use super::engine::{Codec, EngineEvent, Start, VoiceEngine};
use super::{INBOX, Input, Mic, Shared, Speaker, VoiceEvent, VoiceLink, Wish, lock};
use crate::audio::{AudioError, BLOCK_TIME, DeviceKind, HoldMusic, Processing, Processor, monotonic_ns};
use crate::media::types::DeviceNews;
use crate::media::urgency;

/// Seconds from 1900, where NTP time begins, to 1970 (RFC 5905 section 6).
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// Time between ticks at least: a device that is a little late is not asked all the time.
const SHORTEST: Duration = Duration::from_micros(700);

pub(super) struct Thread {
    pub(super) mic: Keeper<Mic>,
    pub(super) speaker: Keeper<Speaker>,
    /// What is to be done to the sound of microphones that are no recordings.
    pub(super) processing: Processing,
    /// Whether the devices stay what they are: nobody's choice puts a microphone in an answering machine's place.
    pub(super) fixed: bool,
    pub(super) link: Arc<VoiceLink>,
    pub(super) events: events::Sender<VoiceEvent>,
    pub(super) shared: Arc<Shared>,
    /// What plays while the call is on hold.
    pub(super) music: HoldMusic,
    pub(super) quiet: bool,
    pub(super) input: Receiver<Input>,
}

/// When the first samples are spoken and heard; `None` until the device is there.
#[derive(Default)]
pub(super) struct Epochs {
    pub(super) mic: Option<Instant>,
    pub(super) speaker: Option<Instant>,
    pub(super) told: bool,
}

impl Thread {
    pub(super) fn run(mut self, codec: Codec, processor: Option<Processor>) {
        urgency::raise();
        loop {
            match self.shared.wish() {
                Wish::Nothing => {}
                Wish::Prepare => self.speaker.prepare(),
                Wish::Talk => return self.talk(codec, processor),
                Wish::End => return,
            }
            // Packets that come while nobody listens are dropped.
            if self.input.recv().is_err() {
                return;
            }
        }
    }

    fn talk(mut self, codec: Codec, mut processor: Option<Processor>) {
        if let Some((mic, speaker)) = lock(&self.shared.instead).take() {
            self.mic.use_instead(mic);
            self.speaker.use_instead(speaker);
            (processor, self.processing) = (None, Processing::NONE);
            self.fixed = true;
        }
        let now = Instant::now();
        let mut engine =
            VoiceEngine::start(Start { codec, processor, now, ntp: ntp_now(), seed: rand::random() });
        self.choose_devices(now);
        engine.set_processing(self.mic.chosen().processing(self.processing));
        engine.set_sounds(self.music.clone(), self.quiet);
        self.mic.start(now);
        self.speaker.start(now);
        if let Err(error) = self.keep_talking(&mut engine, now) {
            self.report(VoiceEvent::Failed(error));
        }
        let (source, sink) = engine.take_devices();
        source.into_iter().for_each(|source| self.mic.close(source));
        sink.into_iter().for_each(|sink| self.speaker.close(sink));
    }

    /// Returns when the voice is over, or a file cannot be used that somebody asked for.
    fn keep_talking(&mut self, engine: &mut VoiceEngine, start: Instant) -> Result<(), AudioError> {
        // Ticks fall where the devices have or want something, or else on the ends of the blocks, so that a frame is sent the moment
        // it is complete.
        let mut due = start;
        let (mut epochs, mut parked, mut load) = (Epochs::default(), false, Load::new(start));
        loop {
            let now = Instant::now();
            self.choose_devices(now);
            self.take_devices(engine, now, &mut epochs)?;
            self.measure(engine);
            self.shared.pass_on(engine);
            if let Some(tap) = self.shared.new_tap() {
                engine.tap = tap;
            }
            self.park(engine, &mut parked, now);
            let link = &self.link;
            engine.tick(now, &mut |datagram| link.send(datagram));
            while let Some(event) = engine.poll_event() {
                self.on_event(event, now);
            }
            *lock(&self.shared.stats) = engine.stats();
            if let Some(share) = load.worked(now, Instant::now()) {
                engine.take_load(share);
            }
            due = match engine.next_tick(now) {
                Some(at) => at.clamp(now + SHORTEST, now + BLOCK_TIME),
                None => next_tick(due, now),
            };
            if !self.receive_until(engine, due) {
                return Ok(());
            }
        }
    }

    /// Waits until the next tick is due and takes the packets that have come by then; false if there will be none. They know when
    /// they came, so that nothing is lost by not waking up for each, which cost as much as what is done with it.
    fn receive_until(&mut self, engine: &mut VoiceEngine, due: Instant) -> bool {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A flood must not keep the tick from happening.
        for _ in 0..INBOX {
            match self.input.try_recv() {
                Ok(Input::Packet(at, datagram)) => engine.receive(at, &datagram),
                Ok(Input::Wake) => {}
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        // A full inbox takes no call to wake, so this is what counts.
        self.shared.wish() != Wish::End
    }

    fn on_event(&mut self, event: EngineEvent, now: Instant) {
        match event {
            EngineEvent::FirstAudio(at) => self.report(VoiceEvent::FirstAudio { at_ns: monotonic_ns(at) }),
            EngineEvent::SourceLost(error, source) => {
                self.tell(DeviceKind::Mic, DeviceNews::Lost(error.to_string()));
                self.mic.replace(source, now);
            }
            EngineEvent::SinkLost(error, sink) => {
                self.tell(DeviceKind::Speaker, DeviceNews::Lost(error.to_string()));
                self.speaker.replace(sink, now);
            }
        }
    }

    pub(super) fn tell(&self, kind: DeviceKind, news: DeviceNews) {
        self.report(VoiceEvent::Device(kind, news));
    }

    pub(super) fn report(&self, event: VoiceEvent) {
        // The leg reads these at once; if it is gone there is nobody to tell.
        let _ = self.events.try_send(event);
    }
}

/// How much of a processor the ticks of a second take, waiting for it included.
struct Load {
    since: Instant,
    worked: Duration,
}

impl Load {
    const EVERY: Duration = Duration::from_secs(1);

    fn new(now: Instant) -> Load {
        Load { since: now, worked: Duration::ZERO }
    }

    /// Adds a tick. Answers the share, 0 to 1, once a second.
    fn worked(&mut self, from: Instant, to: Instant) -> Option<f32> {
        self.worked += to.saturating_duration_since(from);
        let lasted = to.saturating_duration_since(self.since);
        (lasted >= Load::EVERY).then(|| {
            let share = self.worked.as_secs_f32() / lasted.as_secs_f32();
            *self = Load::new(to);
            share
        })
    }
}

/// The first end of a block after `now`. One tick makes up for all that a late thread has missed.
fn next_tick(due: Instant, now: Instant) -> Instant {
    let missed = now.saturating_duration_since(due).as_nanos() / BLOCK_TIME.as_nanos();
    due + BLOCK_TIME * (u32::try_from(missed).unwrap_or(u32::MAX - 1) + 1)
}

fn ntp_now() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
    (unix.as_secs().wrapping_add(NTP_TO_UNIX) << 32) | fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_what_ticks_took_of_a_second() {
        let start = Instant::now();
        let ms = |count: u64| start + Duration::from_millis(count);
        let mut load = Load::new(start);
        let told: Vec<f32> = (0..300).filter_map(|n| load.worked(ms(n * 10), ms(n * 10 + 2))).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().all(|share| (0.19..0.21).contains(share)), "{told:?}");
    }
}
