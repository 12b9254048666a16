//! The telephone's microphone, loudspeaker and ringer: which they are, and changing them while it runs.

use super::{Engine, Internal};
use crate::api::{ApiError, CallRef, ChosenDevices, DevicesResult, ErrorCode, Event, Reply};
use crate::audio::{self, AudioError, Changes, DeviceChoice, DeviceInfo, DeviceKind, DeviceSpec, TonePlayer};
use crate::media::DeviceNews;
use crate::phone::PhoneBuilder;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// How long a sound system may take to tell what it has.
const TO_ANSWER: Duration = Duration::from_secs(5);
/// A device comes with several others, and another default: how long after the first of them all are looked for.
const SETTLED: Duration = Duration::from_millis(200);
/// How often devices are looked for while somebody wants to know of changes, if no sound server tells of them.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Where the answer to a command goes.
pub(super) type Answer = oneshot::Sender<Result<Reply, ApiError>>;

/// The devices that are chosen.
#[derive(Debug)]
pub(super) struct Devices {
    pub mic: DeviceSpec,
    pub speaker: DeviceSpec,
    /// `None`: the loudspeaker.
    ringer: Option<DeviceSpec>,
    /// Whether tones are heard from the loudspeaker.
    tones: bool,
    /// Looks for changes while somebody wants to know of them.
    watch: JoinSet<()>,
}

impl Devices {
    /// As a telephone is built with.
    pub fn new(settings: &PhoneBuilder) -> Self {
        Self {
            mic: settings.mic.clone(),
            speaker: settings.speaker.clone(),
            ringer: settings.ringer.clone(),
            tones: settings.tones,
            watch: JoinSet::new(),
        }
    }

    /// What plays tones on them.
    pub fn player(&self, ringtone: Option<PathBuf>) -> TonePlayer {
        let (speaker, ringer) = self.of_tones();
        TonePlayer::new(speaker, ringer, ringtone)
    }

    fn of_tones(&self) -> (DeviceSpec, DeviceSpec) {
        let speaker = if self.tones { self.speaker.clone() } else { DeviceSpec::None };
        (speaker, self.ringer().clone())
    }

    fn ringer(&self) -> &DeviceSpec {
        self.ringer.as_ref().unwrap_or(&self.speaker)
    }

    fn choose(&mut self, choice: &DeviceChoice) {
        let set = |to: &mut DeviceSpec, from: &Option<DeviceSpec>| {
            from.iter().for_each(|from| *to = from.clone());
        };
        set(&mut self.mic, &choice.mic);
        set(&mut self.speaker, &choice.speaker);
        self.ringer = choice.ringer.clone().or(self.ringer.take());
    }

    fn names(&self) -> ChosenDevices {
        let (mic, speaker) = (self.mic.to_string(), self.speaker.to_string());
        ChosenDevices { mic, speaker, ringer: self.ringer().to_string() }
    }
}

impl Engine {
    /// Uses other devices once they have been found, which takes a moment.
    pub(super) fn use_devices(&self, choice: Result<DeviceChoice, AudioError>, answer: Answer) {
        let choice = match choice {
            Ok(choice) => choice,
            Err(error) => {
                // An error means that the asker went away.
                let _ = answer.send(Err(refusal(&error)));
                return;
            }
        };
        let internal = self.internal.clone();
        self.jobs.spawn(async move {
            let checked = choice.clone();
            let result =
                asked(move || checked.check()).await.and_then(|found| found.map_err(|e| refusal(&e)));
            match result {
                // An error means that the engine has ended.
                Ok(()) => drop(internal.send(Internal::DevicesFound(choice, answer)).await),
                Err(error) => drop(answer.send(Err(error))),
            }
        });
    }

    /// Devices that are there are used from now on: by the next call, by those that last, and by what rings.
    pub(super) fn on_devices_found(&mut self, choice: &DeviceChoice, answer: Answer) {
        self.devices.choose(choice);
        let (speaker, ringer) = self.devices.of_tones();
        self.tones.use_devices(speaker, ringer);
        for leg in self.legs.with_media() {
            let speaker = choice.speaker.is_some().then(|| self.audio_of(leg).speaker);
            self.with_media(&leg, |media| media.use_devices(choice.mic.clone(), speaker));
        }
        self.emit(Event::DevicesChosen(self.devices.names()));
        let _ = answer.send(Ok(Reply::Done));
    }

    /// Tells which devices there are.
    pub(super) fn list_devices(&self, answer: Answer) {
        let chosen = self.devices.names();
        self.jobs.spawn(async move {
            let devices = asked(audio::devices).await;
            let _ = answer.send(devices.map(|devices| Reply::Devices(DevicesResult { devices, chosen })));
        });
    }

    /// Tells of changes from now on, or no longer.
    pub(super) fn watch_devices(&mut self, on: bool) -> Reply {
        if !on {
            self.devices.watch.abort_all();
        } else if self.devices.watch.is_empty() || self.devices.watch.try_join_next().is_some() {
            self.devices.watch.spawn(watch(self.internal.clone()));
        }
        Reply::Done
    }

    /// Measures how loud a call is, or no longer.
    pub(super) fn levels(&mut self, call: Option<&CallRef>, on: bool) -> Result<Reply, ApiError> {
        let call = self.views.pick(call, "No call is answered yet.", |v| v.is_active())?;
        self.with_call_media(call, |media| media.set_measured(on));
        Ok(Reply::Done)
    }
}

/// What a sound system says, which may never answer.
async fn asked<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let silent = || ApiError::new(ErrorCode::Audio, "The sound system does not answer.");
    let answer = tokio::time::timeout(TO_ANSWER, tokio::task::spawn_blocking(ask)).await;
    answer.map_err(|_| silent())?.map_err(|_| silent())
}

/// Tells the engine each time that the devices are others than before.
async fn watch(internal: mpsc::Sender<Internal>) {
    let (mut known, mut changes): (Option<Vec<DeviceInfo>>, _) = (None, Changes::new());
    loop {
        // One list at a time, however long it takes: a sound system that hangs is not asked again and again.
        let Ok(devices) = tokio::task::spawn_blocking(audio::devices).await else { return };
        let news = known.as_ref().is_some_and(|known| *known != devices);
        known = Some(devices.clone());
        if news && internal.send(Internal::DevicesChanged(devices)).await.is_err() {
            return;
        }
        changes.wait(LOOK_EVERY).await;
        tokio::time::sleep(SETTLED).await;
    }
}

fn refusal(error: &AudioError) -> ApiError {
    let known = if matches!(error, AudioError::NoDevice(_)) {
        " `offhook devices` lists those there are."
    } else {
        ""
    };
    ApiError::new(ErrorCode::BadInput, format!("{}.{known}", capital(&error.to_string())))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// What has happened to a device of a call, in the API's words.
pub(super) fn device_event(call: CallRef, kind: DeviceKind, news: DeviceNews) -> Event {
    match news {
        DeviceNews::Lost(device) => Event::DeviceLost { call, kind, device },
        DeviceNews::Back(device) => Event::DeviceBack { call, kind, device },
        DeviceNews::Used(device) => Event::DeviceUsed { call, kind, device },
        DeviceNews::Refused(device) => Event::DeviceRefused { call, kind, device },
    }
}
