//! Recording calls, and being recorded.
//!
//! What may be is decided by a [`Consent`] for each call; files are made, and their ends waited for, in jobs. A
//! recording is over when the tap at the voice thread is dropped, which the end of a call does by itself.

use super::commands::call_error;
use super::{Engine, Internal, now};
use crate::api::{
    ApiError, CallRef, Command, ErrorCode, Event, Recording, RecordingEnd, RecordingEvent, RecordingKind,
    Reply, TimedEvent, monotonic_ns,
};
use crate::recording::{
    Finished, MAX_DURATION, MAX_LISTED, Order, RecordingError, Recordings, Started, Whose, WriterEnd,
};
use offhook_proto::call::CallError;
use offhook_proto::recording::{Act, Consent, Halt};
use offhook_proto::signalling::{CallId, RecordingState};
use std::collections::BTreeMap;
use std::time::Instant;
use tokio::sync::oneshot;

/// The recordings of all calls, by call.
#[derive(Debug)]
pub(super) struct Recorders {
    /// Whether others may record us.
    may: bool,
    calls: BTreeMap<CallId, Recorder>,
    /// Names runs.
    next: u64,
}

/// What is agreed in a call, and what is under way.
#[derive(Debug)]
struct Recorder {
    consent: Consent,
    /// Recordings whose end has not been told: one that runs, and perhaps one that is being ended.
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    id: u64,
    kind: RecordingKind,
    /// Once there is a file.
    name: Option<String>,
    /// Why it is being ended.
    end: Option<RecordingEnd>,
}

/// What a job has found out.
pub(super) enum News {
    /// There is a file, or why not.
    Begun(CallId, u64, Result<Started, RecordingError>),
    /// It is complete.
    Over(CallId, u64, Finished),
}

impl Recorders {
    pub fn new(may: bool) -> Self {
        Self { may, calls: BTreeMap::new(), next: 0 }
    }

    fn entry(&mut self, call: CallId) -> &mut Recorder {
        let may = self.may;
        self.calls.entry(call).or_insert_with(|| Recorder { consent: Consent::new(may), runs: Vec::new() })
    }

    fn run(&mut self, call: &CallId, id: u64) -> Option<&mut Run> {
        self.calls.get_mut(call)?.runs.iter_mut().find(|run| run.id == id)
    }

    /// When somebody should have answered.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.calls.values().filter_map(|recorder| recorder.consent.poll_timeout()).min()
    }

    /// The call is over: nothing is agreed any more. What runs ends by itself.
    pub fn call_ended(&mut self, call: &CallId) {
        if let Some(recorder) = self.calls.get_mut(call) {
            recorder.consent = Consent::new(self.may);
            self.forget(call);
        }
    }

    /// Whoever was not to record the one call is not to record the one that takes its place.
    pub fn carry_over(&mut self, replaced: &CallId, call: CallId) {
        if self.calls.get(replaced).is_some_and(|recorder| !recorder.consent.is_willing()) {
            // Nobody has asked to record the new call yet: there is nothing to say.
            self.entry(call).consent.allow(false);
        }
    }

    /// Whether a recording of the call is under way here.
    pub fn records(&self, call: &CallId) -> bool {
        let runs = self.calls.get(call).into_iter().flat_map(|recorder| &recorder.runs);
        runs.into_iter().any(|run| run.name.is_some() && run.end.is_none())
    }

    /// Whether the other end records the call.
    pub fn is_recorded(&self, call: &CallId) -> bool {
        self.calls.get(call).is_some_and(|recorder| recorder.consent.is_recorded())
    }

    /// Whether the other end has agreed to be recorded.
    pub fn is_allowed(&self, call: &CallId) -> bool {
        self.calls.get(call).is_some_and(|recorder| recorder.consent.is_allowed())
    }

    fn forget(&mut self, call: &CallId) {
        if self.calls.get(call).is_some_and(|recorder| recorder.runs.is_empty()) {
            self.calls.remove(call);
        }
    }
}

impl Engine {
    pub(super) fn record(&mut self, call: Option<&CallRef>, on: bool) -> Result<Reply, ApiError> {
        let call = self.views.pick(call, "No call is answered yet.", |v| v.is_active())?;
        if on && self.views.get(&call).is_none_or(|view| view.leg.is_none()) {
            return Err(ApiError::new(ErrorCode::NotConnected, "The call is not connected yet."));
        }
        let consent = &mut self.recorders.entry(call).consent;
        let acts = if on { consent.record(Instant::now()) } else { consent.stop() };
        let told = self.carry_out(call, acts);
        // What has ended has ended, whether the other end knows or not.
        if !on {
            return Ok(Reply::Done);
        }
        // What comes of it is told by events of this call.
        told.map_err(call_error).map(|()| Reply::Call { call: call.to_string() })
    }

    pub(super) fn recordable(&mut self, call: Option<&CallRef>, on: bool) -> Result<Reply, ApiError> {
        let call = self.views.pick(call, "No call is answered yet.", |v| v.is_active())?;
        let acts = self.recorders.entry(call).consent.allow(on);
        // Whoever refuses has to know if the other end has not been told; said once more it is tried once more.
        self.carry_out(call, acts).map_err(call_error)?;
        Ok(Reply::Done)
    }

    /// The other end has said how it stands to a recording.
    pub(super) fn on_recording_state(&mut self, call: CallId, state: RecordingState) {
        let acts = self.recorders.entry(call).consent.heard(state);
        self.carry_out_anyway(call, acts);
    }

    pub(super) fn recording_timeouts(&mut self, at: Instant) {
        let late = |(call, recorder): (&CallId, &mut Recorder)| {
            let acts = recorder.consent.handle_timeout(at);
            (!acts.is_empty()).then_some((*call, acts))
        };
        let late: Vec<_> = self.recorders.calls.iter_mut().filter_map(late).collect();
        late.into_iter().for_each(|(call, acts)| self.carry_out_anyway(call, acts));
    }

    /// The same where nobody waits to hear whether the other end could be told.
    fn carry_out_anyway(&mut self, call: CallId, acts: Vec<Act>) {
        if let Err(error) = self.carry_out(call, acts) {
            tracing::debug!(%error, "nothing can be said of a recording any more");
        }
    }

    /// Does all of it, and answers the first reason why the other end could not be told.
    fn carry_out(&mut self, call: CallId, acts: Vec<Act>) -> Result<(), CallError> {
        let (mut refused, mut told) = (false, Ok(()));
        for act in acts {
            match act {
                Act::Send(state) => told = told.and(self.calls.recording(now(), call, state)),
                // A message is recorded when the greeting is over, and not of a caller who does not agree.
                Act::Start if self.machines.answered(&call) => self.message_allowed(call),
                act if self.machines.answered(&call) && is_unwanted(act) => refused = true,
                Act::Start => self.start_recording(call),
                Act::Stop(why) => self.stop_recording(call, end_of(why)),
                Act::Fail(why) => self.tell_end(call, None, end_of(why), 0),
                Act::Told(on) => self.emit(Event::RemoteRecording { call: call.to_string(), on }),
            }
        }
        if refused {
            // Of a message that is not wanted nothing is kept, see `message_over`.
            self.stop_recording(call, RecordingEnd::Refused);
            self.machine_hangs_up(call);
        }
        told
    }

    /// Tells a caller whom the machine has answered that a message will be recorded.
    pub(super) fn announce_message(&mut self, call: CallId) {
        let acts = self.recorders.entry(call).consent.record(Instant::now());
        self.carry_out_anyway(call, acts);
    }

    /// Makes a file in the background.
    fn start_recording(&mut self, call: CallId) {
        let Some(view) = self.views.get(&call) else { return };
        let order = Order {
            kind: RecordingKind::Call,
            call: call.to_string(),
            whose: Whose { number: view.number.clone(), contact: view.contact },
            outgoing: view.outgoing,
            began: crate::clock::wall_clock(),
            limit: MAX_DURATION,
            silence: None,
        };
        self.begin_recording(call, order);
    }

    pub(super) fn begin_recording(&mut self, call: CallId, order: Order) {
        let id = self.recorders.next;
        self.recorders.next += 1;
        self.recorders.entry(call).runs.push(Run { id, kind: order.kind, name: None, end: None });
        let (folder, internal) = (self.account.recordings(), self.internal.clone());
        self.jobs.spawn(async move {
            let begun = tokio::task::spawn_blocking(move || folder.record(&order)).await;
            let Ok(begun) = begun else { return };
            // An error means that the engine has ended: the tap goes with it, and so the recording.
            let _ = internal.send(Internal::Recorder(News::Begun(call, id, begun))).await;
        });
    }

    fn stop_recording(&mut self, call: CallId, end: RecordingEnd) {
        let runs = self.recorders.calls.get_mut(&call).map(|recorder| &mut recorder.runs);
        for run in runs.into_iter().flatten() {
            run.end.get_or_insert(end);
        }
        self.with_call_media(call, |media| media.record(None));
    }

    pub(super) fn on_recorder(&mut self, news: News) {
        match news {
            News::Begun(call, id, Ok(started)) => self.on_recording_begun(call, id, started),
            News::Begun(call, id, Err(error)) => {
                tracing::warn!(%error, "a recording could not begin");
                let end = match error {
                    RecordingError::Full => RecordingEnd::Full,
                    RecordingError::None(_)
                    | RecordingError::Several(_)
                    | RecordingError::Recording
                    | RecordingError::Kind
                    | RecordingError::VoiceLength
                    | RecordingError::NoSound(_)
                    | RecordingError::Audio(_)
                    | RecordingError::Io { .. } => RecordingEnd::Disk,
                };
                self.recording_over(call, id, end, None);
            }
            News::Over(call, id, Finished { end, recording }) => {
                let wished = self.recorders.run(&call, id).and_then(|run| run.end);
                let end = match end {
                    // Whatever ended it at the same time.
                    _ if wished == Some(RecordingEnd::Refused) => RecordingEnd::Refused,
                    WriterEnd::Over => wished.unwrap_or(RecordingEnd::CallEnded),
                    WriterEnd::Silent => RecordingEnd::Stopped,
                    WriterEnd::Full => RecordingEnd::Full,
                    WriterEnd::Failed => RecordingEnd::Disk,
                };
                self.recording_over(call, id, end, recording);
            }
        }
    }

    fn on_recording_begun(&mut self, call: CallId, id: u64, started: Started) {
        let Started { name, tap, done } = started;
        if let Some(run) = self.recorders.run(&call, id) {
            run.name = Some(name.clone());
            if run.end.is_none() {
                self.with_call_media(call, |media| media.record(Some(tap)));
                self.emit(Event::Recording(RecordingEvent::Started {
                    call: call.to_string(),
                    recording: name,
                }));
            }
        }
        // If nobody has taken the tap, the recording is over now.
        let internal = self.internal.clone();
        self.jobs.spawn(async move {
            // A writer that ends without a word has panicked, and that was reported.
            let Ok(finished) = done.await else { return };
            let _ = internal.send(Internal::Recorder(News::Over(call, id, finished))).await;
        });
    }

    /// A recording is over, of which this is left.
    fn recording_over(&mut self, call: CallId, id: u64, end: RecordingEnd, left: Option<Recording>) {
        let Some(recorder) = self.recorders.calls.get_mut(&call) else { return };
        let Some(at) = recorder.runs.iter().position(|run| run.id == id) else { return };
        let run = recorder.runs.remove(at);
        if run.end.is_none() {
            // By itself: the other end is told that it is not recorded any more.
            let acts = recorder.consent.ended();
            self.with_call_media(call, |media| media.record(None));
            self.carry_out_anyway(call, acts);
        }
        match run.kind {
            RecordingKind::Call => {
                let length = left.as_ref().map_or(0, |recording| recording.duration_ms);
                self.tell_end(call, run.name.filter(|_| left.is_some()), end, length);
            }
            RecordingKind::Message => self.message_over(call, end, left),
        }
        if self.views.get(&call).is_none_or(|view| !view.is_live()) {
            self.recorders.forget(&call);
        }
    }

    fn message_over(&mut self, call: CallId, end: RecordingEnd, left: Option<Recording>) {
        match left {
            Some(message) if end == RecordingEnd::Refused => self.forget_message(message.recording),
            Some(message) => self.emit(Event::VoiceMessage(message)),
            None => {}
        }
        let trouble = match end {
            RecordingEnd::Disk => {
                Some((ErrorCode::Storage, "A message could not be recorded; is the disk full?"))
            }
            RecordingEnd::Stopped
            | RecordingEnd::Refused
            | RecordingEnd::Unanswered
            | RecordingEnd::Full
            | RecordingEnd::CallEnded => None,
        };
        if let Some((code, message)) = trouble {
            self.emit(Event::Error { code, message: message.to_owned() });
        }
        self.machine_hangs_up(call);
    }

    /// Deletes what was recorded of a caller who did not want it.
    fn forget_message(&self, name: String) {
        let (folder, events) = (self.account.recordings(), self.events.clone());
        self.jobs.spawn_blocking(move || {
            if let Err(error) = folder.delete(&name) {
                tracing::error!(%error, "a message that its caller did not want to be recorded is still there");
                let error = error.to_api();
                let event = Event::Error { code: error.code, message: error.message };
                // An error means that nobody listens, which is allowed.
                let _ = events.send(TimedEvent { t_ns: monotonic_ns(), event });
            }
        });
    }

    fn tell_end(&self, call: CallId, recording: Option<String>, end: RecordingEnd, duration_ms: u64) {
        let call = call.to_string();
        self.emit(Event::Recording(RecordingEvent::Ended { call, recording, end, duration_ms }));
    }

    /// Commands about what is on the disk answer by themselves: it may take its time.
    pub(super) fn ask_recordings(&self, command: Command, reply: oneshot::Sender<Result<Reply, ApiError>>) {
        let folder = self.account.recordings();
        self.jobs.spawn(async move {
            let done = tokio::task::spawn_blocking(move || of_folder(&folder, &command)).await;
            let gone = |_| Err(ApiError::new(ErrorCode::Internal, "a worker thread stopped"));
            // An error means that the asker went away.
            let _ = reply.send(done.unwrap_or_else(gone));
        });
    }
}

fn of_folder(folder: &Recordings, command: &Command) -> Result<Reply, ApiError> {
    let failed = |error: RecordingError| error.to_api();
    if let Command::RecordingDelete { recording } = command {
        return folder.delete(recording).map(|_| Reply::Done).map_err(failed);
    }
    let mut recordings = folder.list().map_err(failed)?;
    recordings.truncate(MAX_LISTED);
    Ok(Reply::Recordings { recordings })
}

/// Whether another message of this caller may be kept. What cannot be read takes none.
pub(super) fn is_there_room(folder: &Recordings, whose: &Whose) -> bool {
    folder.has_room(RecordingKind::Message, whose).unwrap_or_else(|error| {
        tracing::error!(%error, "the messages cannot be counted");
        false
    })
}

/// Whether there is to be no message, or none any more: the caller's program has refused it, or does not know what was asked.
fn is_unwanted(act: Act) -> bool {
    match act {
        Act::Fail(Halt::Refused | Halt::Unanswered | Halt::Stopped)
        | Act::Stop(Halt::Refused | Halt::Unanswered) => true,
        // The user of this terminal ends it: what was said so far is kept.
        Act::Stop(Halt::Stopped) => false,
        Act::Send(_) | Act::Start | Act::Told(_) => false,
    }
}

fn end_of(halt: Halt) -> RecordingEnd {
    match halt {
        Halt::Stopped => RecordingEnd::Stopped,
        Halt::Refused => RecordingEnd::Refused,
        Halt::Unanswered => RecordingEnd::Unanswered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_proto::recording::ANSWER_TIMEOUT;
    use offhook_proto::signalling::RecordingState;

    #[test]
    fn the_machine_keeps_nothing_of_a_caller_who_has_not_agreed() {
        let now = Instant::now();
        let unwanted = |acts: Vec<Act>| acts.into_iter().any(is_unwanted);
        let asked = || {
            let mut consent = Consent::new(true);
            consent.record(now);
            consent
        };
        assert!(unwanted(asked().handle_timeout(now + ANSWER_TIMEOUT)), "no answer");
        assert!(unwanted(asked().heard(RecordingState::Refused)));
        let mut agreed = asked();
        assert!(!agreed.is_allowed() && !unwanted(agreed.heard(RecordingState::Allowed)));
        assert!(
            agreed.is_allowed() && unwanted(agreed.heard(RecordingState::Refused)),
            "thought better of it"
        );
        let mut stopped = asked();
        stopped.heard(RecordingState::Allowed);
        assert!(!unwanted(stopped.stop()), "by the one whose machine it is");
    }
}
