//! The answering machine: answers a call that nobody has answered, says its greeting, and records what the caller says.
//!
//! ```text
//! rings ── for so long ──► greeting at hand ── accept ──► connected: greeting, beep ──► message ──► hang up
//! ```
//!
//! Whoever answers, declines or hangs up meanwhile ends it: each step looks whether the call is still where it was.
//! When there is no room for another message the machine does not answer. The caller's program is asked whether a message may be
//! recorded; if it refuses, or says nothing, there is none.

use super::recording::is_there_room;
use super::{Engine, Internal, now};
use crate::api::{ErrorCode, Event, RecordingKind};
use crate::audio::{BLOCK_LEN, Block, CustomDevice, DeviceSpec, Greeting};
use crate::clock::wall_clock;
use crate::phone::Machine;
use crate::recording::{Order, Whose};
use offhook_proto::call::LegId;
use offhook_proto::signalling::CallId;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A caller that says nothing for this long has finished.
const SILENCE: Duration = Duration::from_secs(8);

/// The machine's calls: those that ring, and those that it has answered.
#[derive(Debug, Default)]
pub(super) struct Machines {
    /// `None` if it is off.
    settings: Option<Machine>,
    calls: BTreeMap<CallId, State>,
}

#[derive(Debug)]
enum State {
    /// It rings; answered at this time.
    Rings(Instant),
    /// The greeting is being read.
    Reads,
    /// It has answered.
    Speaks {
        lines: Arc<Lines>,
        /// The beep was heard.
        greeted: bool,
    },
}

/// What the caller hears of the machine: kept between the engine and the voice thread.
#[derive(Debug)]
struct Lines {
    greeting: Greeting,
    /// Whether there is somebody who hears it.
    go: AtomicBool,
    /// Told when the beep begins. Taken once, by the thread.
    greeted: Mutex<Option<oneshot::Sender<()>>>,
}

/// What a job has found out.
pub(super) enum News {
    /// The greeting, if there is room for a message.
    Ready(CallId, Option<Greeting>),
    /// The greeting is over: the beep is heard.
    Greeted(CallId),
}

impl Machines {
    pub fn new(settings: Option<Machine>) -> Self {
        Self { settings, calls: BTreeMap::new() }
    }

    /// Whether it answers what nobody answers.
    pub fn is_on(&self) -> bool {
        self.settings.is_some()
    }

    /// When it is to answer next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = |state: &State| match state {
            State::Rings(at) => Some(*at),
            State::Reads | State::Speaks { .. } => None,
        };
        self.calls.values().filter_map(due).min()
    }

    /// A call rings.
    pub fn rings(&mut self, call: CallId, at: Instant) {
        if let Some(machine) = &self.settings {
            self.calls.insert(call, State::Rings(at + machine.after));
        }
    }

    /// The call is over.
    pub fn ended(&mut self, call: &CallId) {
        self.calls.remove(call);
    }

    /// Whether the machine has answered this call.
    pub fn answered(&self, call: &CallId) -> bool {
        match self.calls.get(call) {
            Some(State::Speaks { .. }) => true,
            Some(State::Rings(_) | State::Reads) | None => false,
        }
    }

    fn due(&mut self, at: Instant) -> Vec<CallId> {
        let mut due = Vec::new();
        for (call, state) in &mut self.calls {
            if matches!(state, State::Rings(when) if *when <= at) {
                *state = State::Reads;
                due.push(*call);
            }
        }
        due
    }
}

impl Engine {
    /// Answers what has rung for so long.
    pub(super) fn machine_timeouts(&mut self, at: Instant) {
        for call in self.machines.due(at) {
            if self.views.get(&call).is_some_and(|view| view.rings_here()) {
                self.read_greeting(call);
            } else {
                self.machines.ended(&call);
            }
        }
    }

    fn read_greeting(&self, call: CallId) {
        let Some(view) = self.views.get(&call) else { return };
        let whose = Whose { number: view.number.clone(), contact: view.contact };
        let (folder, file) = (self.account.recordings(), self.account.greeting());
        let internal = self.internal.clone();
        self.jobs.spawn(async move {
            let read =
                move || is_there_room(&folder, &whose).then(|| Greeting::open_or_default(file.as_deref()));
            let Ok(ready) = tokio::task::spawn_blocking(read).await else { return };
            // An error means that the engine has ended.
            let _ = internal.send(Internal::Machine(News::Ready(call, ready))).await;
        });
    }

    pub(super) fn on_machine(&mut self, news: News) {
        match news {
            News::Ready(call, greeting) => self.machine_answers(call, greeting),
            News::Greeted(call) => self.greeted(call),
        }
    }

    fn machine_answers(&mut self, call: CallId, greeting: Option<Greeting>) {
        let Some(greeting) = greeting else {
            self.machines.ended(&call);
            let message = "The answering machine has no room for another message, or not for this caller. Delete some: \
                           `offhook recording delete`."
                .to_owned();
            return self.emit(Event::Error { code: ErrorCode::Full, message });
        };
        if self.views.get(&call).is_none_or(|view| !view.rings_here()) {
            return self.machines.ended(&call);
        }
        let (told, greeted) = oneshot::channel();
        let lines = Lines { greeting, go: AtomicBool::new(false), greeted: Mutex::new(Some(told)) };
        self.machines.calls.insert(call, State::Speaks { lines: Arc::new(lines), greeted: false });
        if let Err(error) = self.calls.accept(now(), call) {
            tracing::debug!(%error, "a call was over before the machine could answer it");
            return self.machines.ended(&call);
        }
        self.calls.leave_to_machine(call);
        if let Some(view) = self.views.get_mut(&call) {
            view.by_machine = true;
        }
        let internal = self.internal.clone();
        self.jobs.spawn(async move {
            // An error means that the call was over before.
            if greeted.await.is_ok() {
                let _ = internal.send(Internal::Machine(News::Greeted(call))).await;
            }
        });
    }

    /// What takes the place of microphone and loudspeaker in a call that the machine has answered.
    pub(super) fn machine_devices(&self, leg: &LegId) -> Option<(DeviceSpec, DeviceSpec)> {
        let call = self.calls.call_of(leg).unwrap_or(leg.call);
        match self.machines.calls.get(&call) {
            Some(State::Speaks { lines, .. }) => {
                let lines = lines.clone();
                let voice = CustomDevice::microphone(move || speaker(lines.clone()));
                Some((DeviceSpec::Custom(voice), DeviceSpec::None))
            }
            Some(State::Rings(_) | State::Reads) | None => None,
        }
    }

    /// The caller hears what is said from now on. That it will be recorded is told in the other way, too.
    pub(super) fn machine_connected(&mut self, call: CallId) {
        if let Some(State::Speaks { lines, .. }) = self.machines.calls.get(&call) {
            lines.go.store(true, Relaxed);
            self.announce_message(call);
        }
    }

    /// The beep is heard: the message begins, or as soon as the caller's program has agreed to it.
    fn greeted(&mut self, call: CallId) {
        if let Some(State::Speaks { greeted, .. }) = self.machines.calls.get_mut(&call) {
            *greeted = true;
        }
        if self.recorders.is_allowed(&call) {
            self.take_message(call);
        }
    }

    /// The caller's program has agreed that a message is recorded.
    pub(super) fn message_allowed(&mut self, call: CallId) {
        if matches!(self.machines.calls.get(&call), Some(State::Speaks { greeted: true, .. })) {
            self.take_message(call);
        }
    }

    fn take_message(&mut self, call: CallId) {
        let (Some(view), Some(machine)) = (self.views.get(&call), &self.machines.settings) else { return };
        if !view.is_active() {
            return;
        }
        let order = Order {
            kind: RecordingKind::Message,
            call: call.to_string(),
            whose: Whose { number: view.number.clone(), contact: view.contact },
            outgoing: false,
            began: wall_clock(),
            limit: machine.limit,
            silence: Some(SILENCE),
        };
        self.begin_recording(call, order);
    }

    /// The machine has nothing more to hear in this call.
    pub(super) fn machine_hangs_up(&mut self, call: CallId) {
        if self.machines.answered(&call)
            && let Err(error) = self.calls.hang_up(now(), call)
        {
            tracing::debug!(%error, "the caller has hung up before the machine");
        }
    }
}

/// Speaks the greeting as soon as somebody hears it, then the beep, then nothing.
fn speaker(lines: Arc<Lines>) -> impl FnMut(&mut Block) + Send + 'static {
    let mut at = 0;
    move |block: &mut Block| {
        block.fill(0.0);
        if !lines.go.load(Relaxed) {
            return;
        }
        if at >= lines.greeting.beep_at()
            && let Ok(mut greeted) = lines.greeted.try_lock()
            && let Some(greeted) = greeted.take()
        {
            // Nobody waits for it when the call is over.
            let _ = greeted.send(());
        }
        lines.greeting.copy(at, block);
        at += BLOCK_LEN;
    }
}
