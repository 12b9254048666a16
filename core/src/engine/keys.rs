//! The telephone's keys in calls: dial pad, mute, hold, volume, and the change between two calls.

use super::calls::{CallView, CallViews};
use super::commands::call_error;
use super::{Engine, now};
use crate::api::{ApiError, CallKeys, CallRef, ErrorCode, Event, Reply, Volumes};
use crate::audio::{DeviceSpec, KEY_MS, MAX_VOLUME, Tone, Volume};
use crate::clock::wall_clock;
use crate::media::MediaLeg;
use crate::storage::{AccountStore, StorageError};
use offhook_proto::call::CallError;
use offhook_proto::number::Number;
use offhook_proto::signalling::CallId;

/// Keys in one [`Command::Dtmf`](crate::api::Command::Dtmf).
const MAX_DTMF: usize = 24;

/// The calls in which this user takes part at a time: one that talks and one on hold, or being dialled.
pub(super) const MAX_CALLS: usize = 2;

/// Settings of the account in which volumes are kept.
const SPEAKER_VOLUME: &str = "volume";
const RINGER_VOLUME: &str = "ringer_volume";

/// How the keys of one call stand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KeyState {
    pub shown: CallKeys,
    /// The how manieth hold of this terminal it is: the call held longest is taken back first.
    pub turn: u64,
    /// Its sound tells of a call that waits.
    waiting: bool,
    /// It was put on hold to be transferred.
    pub held_for_transfer: bool,
    /// It was put on hold since the user went over to this call.
    pub held_for: Option<CallId>,
    /// The call whose place it takes, or was asked to take.
    pub returns_to: Option<CallId>,
}

/// The volumes that were set last.
pub(super) async fn volumes(account: &AccountStore) -> Result<Volumes, StorageError> {
    let read = async |key| -> Result<u16, StorageError> {
        let kept = account.setting(key).await?.and_then(|text| text.parse().ok()).and_then(Volume::new);
        Ok(kept.unwrap_or_default().percent())
    };
    Ok(Volumes { speaker: read(SPEAKER_VOLUME).await?, ringer: read(RINGER_VOLUME).await? })
}

impl Engine {
    pub(super) fn dtmf(&mut self, call: Option<&CallRef>, digits: &str) -> Result<Reply, ApiError> {
        let good = |c: char| matches!(c, '0'..='9' | '*' | '#' | 'A'..='D');
        let keys: Vec<char> = digits.chars().map(|c| c.to_ascii_uppercase()).collect();
        if keys.is_empty() || keys.len() > MAX_DTMF || !keys.iter().all(|c| good(*c)) {
            return Err(ApiError::new(ErrorCode::BadInput, "Keys are 0 to 9, *, # and A to D, at most 24."));
        }
        let call = self.views.pick(call, "No call is answered yet.", CallView::is_users)?;
        for digit in keys {
            self.calls.dtmf(now(), call, digit, KEY_MS).map_err(call_error)?;
            self.with_call_media(call, |media| media.press(digit));
        }
        Ok(Reply::Done)
    }

    pub(super) fn mute(&mut self, call: Option<&CallRef>, on: bool) -> Result<Reply, ApiError> {
        let call = self.views.pick(call, "No call is answered yet.", CallView::is_users)?;
        // Here first: what the user does to the own microphone does not depend on the other side.
        self.mute_here(call, on);
        self.calls.mute(now(), call, on).map_err(call_error)?;
        Ok(Reply::Done)
    }

    pub(super) fn mute_here(&mut self, call: CallId, on: bool) {
        self.with_call_media(call, |media| media.set_mute(on));
        if let Some(view) = self.views.get_mut(&call)
            && std::mem::replace(&mut view.keys.shown.muted, on) != on
        {
            self.emit(Event::Mute { call: call.to_string(), on });
        }
    }

    pub(super) fn hold(&mut self, call: Option<&CallRef>, on: bool) -> Result<Reply, ApiError> {
        const NONE: &str = "No call is answered yet.";
        let call = match (on, self.views.longest_held()) {
            (false, Some(held)) if call.is_none() => held,
            (true | false, _) => self.views.pick(call, NONE, CallView::is_users)?,
        };
        if !on {
            self.hold_others(call);
        }
        self.set_hold(call, on).map_err(call_error)?;
        Ok(Reply::Done)
    }

    /// Puts a call on hold, or takes it back. Why it was on hold before counts no more: what the user does last is what is meant.
    pub(super) fn set_hold(&mut self, call: CallId, on: bool) -> Result<(), CallError> {
        // Here first, as with mute.
        self.with_call_media(call, |media| media.set_hold(on));
        self.holds += 1;
        let turn = self.holds;
        if let Some(view) = self.views.get_mut(&call) {
            (view.keys.held_for, view.keys.held_for_transfer) = (None, false);
            if std::mem::replace(&mut view.keys.shown.held, on) != on {
                view.keys.turn = turn;
                self.emit(Event::Hold { call: call.to_string(), on });
            }
        }
        self.calls.hold(now(), call, on)
    }

    /// One call speaks, and has the devices, at a time: all others are put on hold.
    pub(super) fn hold_others(&mut self, call: CallId) {
        let talks = |(id, view): &(&CallId, &CallView)| **id != call && view.talks();
        let others: Vec<CallId> = self.views.live().filter(talks).map(|(id, _)| *id).collect();
        for other in others {
            if let Err(error) = self.set_hold(other, true) {
                // It is held here; what its other end is told says itself again, or the call is over.
                tracing::debug!(%error, "a call was put on hold, and its other end cannot be told");
            }
            if let Some(view) = self.views.get_mut(&other) {
                view.keys.held_for = Some(call);
            }
        }
    }

    /// From the call in which one talks to the one on hold.
    pub(super) fn swap(&mut self) -> Result<Reply, ApiError> {
        let held = self.views.longest_held();
        let Some(held) = held.filter(|_| self.views.live().filter(|(_, view)| view.is_users()).count() > 1)
        else {
            return Err(ApiError::new(ErrorCode::NoCall, "There are no two calls to change between."));
        };
        self.hold(Some(&held.to_string()), false)
    }

    pub(super) async fn volume(
        &mut self,
        call: Option<&CallRef>,
        percent: Option<u16>,
        ringer: bool,
    ) -> Result<Reply, ApiError> {
        let Some(percent) = percent else { return Ok(Reply::Volumes(self.volumes)) };
        let Some(volume) = Volume::new(percent) else {
            let sentence = format!("The volume is 0 to {MAX_VOLUME} percent.");
            return Err(ApiError::new(ErrorCode::BadInput, sentence));
        };
        let one = call.map(|_| self.views.pick(call, "There is no call.", |_| true)).transpose()?;
        if let Some(one) = one {
            self.set_call_volume(one, volume);
            return Ok(Reply::Volumes(self.volumes));
        }
        let (key, kept) = match ringer {
            true => (RINGER_VOLUME, &mut self.volumes.ringer),
            false => (SPEAKER_VOLUME, &mut self.volumes.speaker),
        };
        *kept = percent;
        self.tones.set_volumes(loudness(self.volumes.speaker), loudness(self.volumes.ringer));
        if !ringer {
            let live: Vec<CallId> = self.views.live().map(|(call, _)| *call).collect();
            live.into_iter().for_each(|call| self.set_call_volume(call, volume));
        }
        self.account.set_setting(key, Some(&percent.to_string())).await.map_err(|e| e.to_api())?;
        Ok(Reply::Volumes(self.volumes))
    }

    fn set_call_volume(&mut self, call: CallId, volume: Volume) {
        if let Some(view) = self.views.get_mut(&call) {
            view.keys.shown.volume = volume.percent();
        }
        self.with_call_media(call, |media| media.set_volume(volume));
    }

    /// A new call, as loud as the last one.
    pub(super) fn begin_view(&mut self, call: CallId, number: Number, outgoing: bool) {
        let shown = CallKeys { volume: self.volumes.speaker, ..CallKeys::default() };
        let keys = KeyState { shown, ..KeyState::default() };
        self.views.begin(call, number, outgoing, wall_clock(), keys);
    }

    /// Changes what is shown of a call's keys.
    pub(super) fn show_keys(&mut self, call: &CallId, change: impl FnOnce(&mut CallKeys)) {
        if let Some(view) = self.views.get_mut(call) {
            change(&mut view.keys.shown);
        }
    }

    /// Reads the account's own music for calls on hold, if it has any, in the background. Until then the music box plays.
    pub(super) fn load_music(&self) {
        let Some(path) = self.account.hold_music() else { return };
        let music = self.music.clone();
        self.jobs.spawn_blocking(move || {
            if let Err(error) = music.open(&path) {
                tracing::warn!(%error, "the music for calls on hold cannot be played");
            }
        });
    }

    /// The loudspeaker of a call. A file that another call writes is not written by two.
    pub(super) fn speaker_of(&self, call: CallId) -> DeviceSpec {
        let of = |view: &CallView| self.devices.speaker.for_call(&view.number, view.began);
        let speaker = self.views.get(&call).map_or_else(|| self.devices.speaker.clone(), of);
        let DeviceSpec::File(path) = &speaker else { return speaker };
        let mut others = self.views.live().filter(|(id, view)| **id != call && view.is_users());
        if !others.any(|(_, view)| of(view) == speaker) {
            return speaker;
        }
        let mut name = path.file_stem().unwrap_or_default().to_owned();
        name.push("-2");
        if let Some(kind) = path.extension() {
            name.push(".");
            name.push(kind);
        }
        DeviceSpec::File(path.with_file_name(name))
    }

    /// How loud a call is from its beginning.
    pub(super) fn volume_of(&self, call: CallId) -> Volume {
        let percent = self.views.get(&call).map_or(self.volumes.speaker, |view| view.keys.shown.volume);
        loudness(percent)
    }

    pub(super) fn with_call_media(&self, call: CallId, act: impl FnOnce(&MediaLeg)) {
        if let Some(media) = self.calls.leg_of(call).as_ref().and_then(|leg| self.legs.media(leg)) {
            act(media);
        }
    }

    /// Rings, or tells by a tone how the calls stand. Whoever does not want to be disturbed hears nothing of what comes in.
    pub(super) fn sound(&mut self) {
        let (mut talking, mut rings_here, mut rings_there, mut dialling) = (false, false, false, false);
        for (_, view) in self.views.live() {
            talking |= view.talks();
            rings_here |= view.rings_here() && !view.silent;
            rings_there |= view.rings_there();
            dialling |= view.outgoing && !view.is_active();
        }
        self.tell_of_waiting(talking && rings_here);
        self.parting = self.parting.filter(|_| !talking && !rings_here && !dialling);
        self.tones.play(match (rings_here, talking) {
            (true, false) => Some(Tone::Bell),
            // The call's own sound has the tone for that, and the loudspeaker.
            (_, true) => None,
            (false, false) if rings_there => Some(Tone::Ringback),
            (false, false) => self.parting,
        });
    }

    /// Has the call in which one talks tell of one that waits, or not any more.
    fn tell_of_waiting(&mut self, on: bool) {
        let wanted = |view: &CallView| on && view.talks();
        let changed: Vec<CallId> = self
            .views
            .live()
            .filter(|(_, view)| view.keys.waiting != wanted(view))
            .map(|(call, _)| *call)
            .collect();
        for call in changed {
            let Some(view) = self.views.get_mut(&call) else { continue };
            view.keys.waiting = !view.keys.waiting;
            let on = view.keys.waiting;
            self.with_call_media(call, |media| media.set_waiting(on));
        }
    }
}

/// What was checked when it was set.
pub(super) fn loudness(percent: u16) -> Volume {
    Volume::new(percent).unwrap_or_default()
}

impl CallViews {
    /// The call that has been on hold longest.
    pub(super) fn longest_held(&self) -> Option<CallId> {
        let held = self.live().filter(|(_, view)| view.is_users() && view.keys.shown.held);
        held.min_by_key(|(_, view)| view.keys.turn).map(|(call, _)| *call)
    }
}
