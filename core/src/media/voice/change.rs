//! Which devices the thread uses: those that were chosen, those that stand in for them, and those that come back.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::devices::News;
use super::engine::VoiceEngine;
use super::thread::{Epochs, Thread};
use super::{Input, Voice, VoiceEvent, lock};
use crate::audio::{AudioError, DeviceKind, DeviceSpec, monotonic_ns};
use crate::media::types::DeviceNews;

/// Devices that were chosen and that the thread has not heard of yet.
#[derive(Debug, Default)]
pub(super) struct Choice {
    mic: Option<DeviceSpec>,
    speaker: Option<DeviceSpec>,
}

impl Voice {
    /// Goes on with other devices, if they can be used. Reports [`VoiceEvent::Device`].
    pub(in crate::media) fn use_devices(&self, mic: Option<DeviceSpec>, speaker: Option<DeviceSpec>) {
        let mut choice = lock(&self.shared.choice);
        choice.mic = mic.or(choice.mic.take());
        choice.speaker = speaker.or(choice.speaker.take());
        drop(choice);
        // If there is no room, the thread is about to look anyway.
        let _ = self.inbox.try_send(Input::Wake);
    }

    /// Reports [`VoiceEvent::Levels`] ten times a second, or not any more.
    pub(in crate::media) fn set_measured(&self, on: bool) {
        self.shared.measured.store(on, Relaxed);
    }
}

impl Thread {
    /// Begins to open what has been chosen meanwhile.
    pub(super) fn choose_devices(&mut self, now: Instant) {
        let (mic, speaker) = {
            let mut choice = lock(&self.shared.choice);
            (choice.mic.take(), choice.speaker.take())
        };
        if self.bound {
            return;
        }
        mic.into_iter().for_each(|spec| self.mic.choose(spec, now));
        speaker.into_iter().for_each(|spec| self.speaker.choose(spec, now));
    }

    /// Gives the engine the devices that have been opened meanwhile.
    pub(super) fn take_devices(
        &mut self,
        engine: &mut VoiceEngine,
        now: Instant,
        epochs: &mut Epochs,
    ) -> Result<(), AudioError> {
        if let Some(news) = self.mic.poll(now) {
            epochs.mic.get_or_insert(self.take_mic(engine, now, news)?);
        }
        if let Some(news) = self.speaker.poll(now) {
            epochs.speaker.get_or_insert(self.take_speaker(engine, now, news)?);
        }
        if let (false, Some(mic), Some(speaker)) = (epochs.told, epochs.mic, epochs.speaker) {
            epochs.told = true;
            let (mic_epoch_ns, speaker_epoch_ns) = (monotonic_ns(mic), monotonic_ns(speaker));
            self.report(VoiceEvent::Started { mic_epoch_ns, speaker_epoch_ns });
        }
        Ok(())
    }

    /// Answers from when on there is a microphone, or silence in its place.
    fn take_mic(
        &mut self,
        engine: &mut VoiceEngine,
        now: Instant,
        news: News<super::Mic>,
    ) -> Result<Instant, AudioError> {
        let kind = DeviceKind::Mic;
        let chosen = self.mic.chosen().to_string();
        let (news, (source, spoken)) = match news {
            News::Running((source, spoken), instead) => {
                instead.into_iter().for_each(|error| self.tell(kind, DeviceNews::Lost(error.to_string())));
                engine.set_source(source);
                return Ok(spoken);
            }
            News::Moved(error) => {
                self.tell(kind, DeviceNews::Lost(error.to_string()));
                return Ok(now);
            }
            News::Missing(error) if self.mic.is_replaced() => {
                self.tell(kind, DeviceNews::Lost(error.to_string()));
                return Ok(now);
            }
            News::Missing(error) => return Err(error),
            News::Refused(error) => {
                self.tell(kind, DeviceNews::Refused(error.to_string()));
                return Ok(now);
            }
            News::Changed(running) => (DeviceNews::Used(chosen), running),
            News::Back(running) => (DeviceNews::Back(chosen), running),
        };
        engine.set_processing(self.mic.chosen().processing(self.processing));
        engine.change_source(source).into_iter().for_each(|before| self.mic.let_go(before));
        self.tell(kind, news);
        Ok(spoken)
    }

    /// The same of a loudspeaker.
    fn take_speaker(
        &mut self,
        engine: &mut VoiceEngine,
        now: Instant,
        news: News<super::Speaker>,
    ) -> Result<Instant, AudioError> {
        let kind = DeviceKind::Speaker;
        let chosen = self.speaker.chosen().to_string();
        let (news, (sink, heard)) = match news {
            News::Running((sink, heard), instead) => {
                instead.into_iter().for_each(|error| self.tell(kind, DeviceNews::Lost(error.to_string())));
                engine.set_sink(sink, heard);
                return Ok(heard);
            }
            News::Moved(error) => {
                self.tell(kind, DeviceNews::Lost(error.to_string()));
                return Ok(now);
            }
            News::Missing(error) if self.speaker.is_replaced() => {
                self.tell(kind, DeviceNews::Lost(error.to_string()));
                return Ok(now);
            }
            News::Missing(error) => return Err(error),
            News::Refused(error) => {
                self.tell(kind, DeviceNews::Refused(error.to_string()));
                return Ok(now);
            }
            News::Changed(running) => (DeviceNews::Used(chosen), running),
            News::Back(running) => (DeviceNews::Back(chosen), running),
        };
        engine.change_sink(sink, heard).into_iter().for_each(|before| self.speaker.let_go(before));
        self.tell(kind, news);
        Ok(heard)
    }

    /// Tells how loud the call is, if somebody wants to know.
    pub(super) fn measure(&self, engine: &mut VoiceEngine) {
        engine.measure(self.shared.measured.load(Relaxed));
        if let Some((mic, speaker)) = engine.poll_levels() {
            self.report(VoiceEvent::Levels { mic, speaker });
        }
    }
}
