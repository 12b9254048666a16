//! Opens, starts, replaces and closes the device of one direction without ever waiting for it.
//!
//! A sound server may take seconds for each of these, or never answer. So they happen on a thread of their own: one
//! for each device, from before it is opened until after it is closed, and at most [`MAX_WORKERS`] for each direction
//! of a leg. If so many hang, no other device is opened. Files and silence cannot hang and need no thread.
//!
//! Another device may be chosen at any time, and one that was pulled out may come back: each is opened beside the one that runs,
//! which goes on until the other one works.

mod worker;

mod parking;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant};

use super::{Alive, Mic, Speaker};
use crate::audio::{self, AudioError, AudioSink, AudioSource, Changes, DeviceKind, DeviceSpec};
use worker::{Job, Opened, Worker, started};

/// How long after an attempt to open a device the next one is made; and after a lost device was replaced, until another one that is
/// lost is.
const RETRY: Duration = Duration::from_secs(2);
/// How often the chosen device is looked for while another one stands in for it.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The same where it has come back again and again and did not work.
const LOOK_RARELY: Duration = Duration::from_secs(64);
/// How long a device that has come back must work to be trusted.
const TRUSTED: Duration = Duration::from_secs(10);
/// When a device that is being opened is reported missing. It is taken all the same if it comes later.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// Threads that may be opening or closing devices for one direction.
pub(super) const MAX_WORKERS: usize = 3;

/// A device of either direction.
pub(super) trait Device: Send + Sized + 'static {
    fn open(spec: &DeviceSpec) -> Result<Self, AudioError>;

    /// Opens it before it is needed, if that takes it away from nobody and nothing is recorded.
    fn open_early(spec: &DeviceSpec) -> Option<Self>;

    fn start(&mut self, now: Instant) -> Result<Instant, AudioError>;

    /// What tells that it may be gone although it runs: a sound server has put another one in its place.
    fn changes(spec: &DeviceSpec) -> Option<Changes>;

    /// Whether it is gone. May take its time.
    fn is_gone(spec: &DeviceSpec) -> bool;
}

fn is_gone(spec: &DeviceSpec, kind: DeviceKind) -> bool {
    matches!(spec.check(kind), Err(AudioError::NoDevice(_)))
}

impl Device for Mic {
    fn open(spec: &DeviceSpec) -> Result<Self, AudioError> {
        audio::open_source(spec)
    }

    fn open_early(_spec: &DeviceSpec) -> Option<Self> {
        None
    }

    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        AudioSource::start(self.as_mut(), now)
    }

    fn changes(spec: &DeviceSpec) -> Option<Changes> {
        audio::changes_of(spec)
    }

    fn is_gone(spec: &DeviceSpec) -> bool {
        is_gone(spec, DeviceKind::Mic)
    }
}

impl Device for Speaker {
    fn open(spec: &DeviceSpec) -> Result<Self, AudioError> {
        audio::open_sink(spec)
    }

    fn open_early(spec: &DeviceSpec) -> Option<Self> {
        audio::open_shared_sink(spec)
    }

    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        AudioSink::start(self.as_mut(), now)
    }

    fn changes(spec: &DeviceSpec) -> Option<Changes> {
        audio::changes_of(spec)
    }

    fn is_gone(spec: &DeviceSpec) -> bool {
        is_gone(spec, DeviceKind::Speaker)
    }
}

/// A device that runs, and when its first sample is spoken or heard.
pub(super) type Running<D> = (D, Instant);

/// The same, and why it is not the one that was chosen.
type Found<D> = (Running<D>, Option<AudioError>);

enum State<D> {
    /// Nothing is wanted, or the engine has what was wanted.
    Idle,
    /// There from the beginning.
    Ready(Result<Running<D>, AudioError>),
    /// The worker is at it; told at this time that it takes long, unless that has been done.
    Opening(Option<Instant>),
    /// To be opened again at this time.
    Retry(Instant),
}

/// What a keeper has to tell.
pub(super) enum News<D> {
    /// A device runs from now on. If it is not the one that was chosen, why.
    Running(Running<D>, Option<AudioError>),
    /// It is gone, and a sound server has put another one in its place.
    Moved(AudioError),
    /// There is none. Told only once until there is one again.
    Missing(AudioError),
    /// What was chosen while another one ran takes its place.
    Changed(Running<D>),
    /// The chosen one is there again and takes the place of the one that stood in.
    Back(Running<D>),
    /// What was chosen while another one ran cannot be used; that one goes on.
    Refused(AudioError),
}

/// Why a device is opened beside one that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Somebody has chosen it.
    Chosen,
    /// It was chosen before, and may be there again.
    Again,
}

/// A device that is opened beside the one that runs, so that nothing is missed meanwhile.
struct Beside<D> {
    why: Why,
    spec: DeviceSpec,
    /// `None` if as many hang as there may be.
    worker: Option<Worker<D>>,
    /// When it is given up.
    until: Instant,
}

/// See the module's documentation.
pub(super) struct Keeper<D> {
    /// What was chosen.
    chosen: DeviceSpec,
    /// Opened beforehand.
    opened: Option<D>,
    state: State<D>,
    /// Whether a device is wanted: between the start and the end.
    wanted: bool,
    /// Whether the engine has one that works.
    runs: bool,
    /// While another one stands in for the chosen one: when that is looked for again.
    look_again: Option<Instant>,
    look_every: Duration,
    /// When it had come back last.
    back: Option<Instant>,
    beside: Option<Beside<D>>,
    /// While the chosen one runs: what tells that it may be gone, and who looks whether it is.
    changes: Option<Changes>,
    look: Option<(Worker<D>, Receiver<bool>)>,
    /// Whether something has happened for which nobody has looked yet.
    look_due: bool,
    /// When a lost device was last replaced.
    replaced: Option<Instant>,
    /// Whether it has been told that there is no device.
    told: bool,
    worker: Option<Worker<D>>,
    /// That of the device which the engine is about to give back.
    leaving: Option<Worker<D>>,
    /// Workers that have not ended.
    workers: Arc<AtomicUsize>,
    alive: Alive,
}

impl<D: Device> Keeper<D> {
    /// Does nothing yet. `opened` is used instead of opening `spec` the first time.
    pub(super) fn new(spec: DeviceSpec, opened: Option<D>, alive: &Alive) -> Keeper<D> {
        Keeper {
            chosen: spec,
            opened,
            state: State::Idle,
            wanted: false,
            runs: false,
            look_again: None,
            look_every: LOOK_AGAIN,
            back: None,
            beside: None,
            changes: None,
            look: None,
            look_due: false,
            replaced: None,
            told: false,
            worker: None,
            leaving: None,
            workers: Arc::default(),
            alive: alive.clone(),
        }
    }

    /// What was chosen.
    pub(super) fn chosen(&self) -> &DeviceSpec {
        &self.chosen
    }

    /// Whether a call goes on without the device and another takes its place. A file that cannot be used ends the
    /// voice, since somebody asked for exactly this file, and is never replaced by a microphone that nobody asked
    /// for.
    pub(super) fn is_replaced(&self) -> bool {
        match &self.chosen {
            DeviceSpec::Default | DeviceSpec::Id(_) | DeviceSpec::Custom(_) => true,
            DeviceSpec::File(_) | DeviceSpec::None => false,
        }
    }

    /// Which are tried when a device is lost, the first first: the chosen one is probably gone, and to look for it takes time.
    fn replacements(&self) -> Option<(DeviceSpec, Option<DeviceSpec>)> {
        match &self.chosen {
            DeviceSpec::Id(_) => Some((DeviceSpec::Default, Some(self.chosen.clone()))),
            DeviceSpec::Default | DeviceSpec::Custom(_) => Some((self.chosen.clone(), None)),
            DeviceSpec::File(_) | DeviceSpec::None => None,
        }
    }

    /// Forgets the device, opened beforehand or not, and uses another.
    pub(super) fn use_instead(&mut self, spec: DeviceSpec) {
        self.chosen = spec;
        self.opened = None;
        // It ends, and lets go of what it has opened.
        self.worker = None;
    }

    /// Opens the device if that may be done before it is needed.
    pub(super) fn prepare(&mut self) {
        let early = match &self.chosen {
            DeviceSpec::Default | DeviceSpec::Id(_) => !self.wanted && self.worker.is_none(),
            DeviceSpec::Custom(_) | DeviceSpec::File(_) | DeviceSpec::None => false,
        };
        if early {
            self.give(Job::OpenEarly(self.chosen.clone()));
        }
    }

    /// Begins to open and start the device; [`Keeper::poll`] has the result.
    pub(super) fn start(&mut self, now: Instant) {
        self.wanted = true;
        if self.is_replaced() {
            self.open(self.chosen.clone(), self.chosen.stand_in(), now);
        } else {
            let device = self.opened.take().map_or_else(|| D::open(&self.chosen), Ok);
            self.state = State::Ready(device.and_then(|device| started(device, now)));
        }
    }

    /// Chooses another device. It is opened beside the one that runs; [`Keeper::poll`] tells whether it takes its place.
    pub(super) fn choose(&mut self, spec: DeviceSpec, now: Instant) {
        self.beside = None;
        let stays = self.chosen == spec && self.look_again.is_none();
        if self.wanted {
            if !(stays && self.runs) {
                self.open_beside(Why::Chosen, spec, now);
            }
            return;
        }
        if !stays {
            // What was prepared is closed by whoever did it.
            (self.worker, self.opened) = (None, None);
            self.chosen = spec;
        }
    }

    /// What there is to tell.
    pub(super) fn poll(&mut self, now: Instant) -> Option<News<D>> {
        self.poll_first(now).or_else(|| self.poll_beside(now)).or_else(|| self.poll_look(now))
    }

    fn poll_first(&mut self, now: Instant) -> Option<News<D>> {
        let result = match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => None,
            State::Ready(result) => Some(result.map(|running| (running, None))),
            State::Retry(at) if at <= now => {
                let (spec, other) = self.replacements()?;
                self.open(spec, other, now);
                None
            }
            State::Retry(at) => {
                self.state = State::Retry(at);
                None
            }
            State::Opening(tell_at) => self.poll_opening(now, tell_at),
        }?;
        let told = std::mem::replace(&mut self.told, result.is_err());
        match result {
            Ok((running, instead)) => {
                self.runs = true;
                self.heed_changes();
                Some(News::Running(running, instead.filter(|_| !told)))
            }
            Err(error) => (!told).then_some(News::Missing(error)),
        }
    }

    fn poll_opening(
        &mut self,
        now: Instant,
        tell_at: Option<Instant>,
    ) -> Option<Result<Found<D>, AudioError>> {
        let result = self.worker.as_ref().map_or(Err(TryRecvError::Disconnected), |w| w.results.try_recv());
        match result {
            Ok(Ok(Opened { running, spec, instead })) => {
                self.look_again = (spec != self.chosen).then_some(now + self.look_every);
                Some(Ok((running, instead)))
            }
            Ok(Err(error)) => {
                self.state = State::Retry(now + RETRY);
                Some(Err(error))
            }
            Err(TryRecvError::Empty) if tell_at.is_some_and(|at| at <= now) => {
                self.state = State::Opening(None);
                Some(Err(silent(&self.chosen)))
            }
            Err(TryRecvError::Empty) => {
                self.state = State::Opening(tell_at);
                None
            }
            // There is no thread: too many hang, or it has panicked in the embedder's code.
            Err(TryRecvError::Disconnected) => {
                self.worker = None;
                self.state = State::Retry(now + RETRY);
                Some(Err(silent(&self.chosen)))
            }
        }
    }

    fn poll_beside(&mut self, now: Instant) -> Option<News<D>> {
        if self.runs && self.beside.is_none() && self.look_again.is_some_and(|at| at <= now) {
            self.open_beside(Why::Again, self.chosen.clone(), now);
        }
        let beside = self.beside.as_mut()?;
        let error =
            match beside.worker.as_ref().map_or(Err(TryRecvError::Disconnected), |w| w.results.try_recv()) {
                Ok(Ok(opened)) => return self.take_beside(opened, now),
                Ok(Err(error)) => error,
                Err(TryRecvError::Empty) if now < beside.until => return None,
                // What comes later is closed by the worker.
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => silent(&beside.spec),
            };
        let why = beside.why;
        self.beside = None;
        self.look_again = self.look_again.map(|_| now + self.look_every);
        (why == Why::Chosen).then_some(News::Refused(error))
    }

    fn take_beside(&mut self, opened: Opened<D>, now: Instant) -> Option<News<D>> {
        let Beside { why, spec, worker, .. } = self.beside.take()?;
        self.leaving = std::mem::replace(&mut self.worker, worker);
        self.chosen = spec;
        (self.state, self.runs, self.told, self.look_again) = (State::Idle, true, false, None);
        self.heed_changes();
        Some(match why {
            Why::Chosen => News::Changed(opened.running),
            Why::Again => {
                self.back = Some(now);
                News::Back(opened.running)
            }
        })
    }

    /// Looks out for the end of the device that runs, if that is the chosen one.
    fn heed_changes(&mut self) {
        (self.look, self.look_due) = (None, false);
        self.changes = self.look_again.is_none().then(|| D::changes(&self.chosen)).flatten();
    }

    /// Whether another device has taken the place of the one that runs, without a word.
    fn poll_look(&mut self, now: Instant) -> Option<News<D>> {
        self.look_due |= self.changes.as_mut().is_some_and(Changes::happened);
        if self.look.is_none() && self.look_due {
            // If all workers are busy, later.
            let worker = Worker::spawn(self.alive.clone(), &self.workers)?;
            self.look_due = false;
            let (answer, gone) = mpsc::channel();
            worker.give(Job::Look(self.chosen.clone(), answer));
            self.look = Some((worker, gone));
        }
        let gone = match self.look.as_ref()?.1.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Ok(gone) => gone,
            Err(TryRecvError::Disconnected) => false,
        };
        self.look = None;
        if !gone || !self.runs {
            return None;
        }
        self.changes = None;
        self.look_again = Some(now + self.look_every);
        let (name, reason) = (self.chosen.to_string(), "it went away".into());
        Some(News::Moved(AudioError::Device { name, reason }))
    }

    /// Lets go of a device in whose place another one runs, when all of it has been heard.
    pub(super) fn let_go(&mut self, device: D) {
        // What has no worker is a file or silence, and ends here.
        if let Some(worker) = self.leaving.take() {
            worker.give(Job::LetGo(device));
        }
    }

    /// Closes a device that does not work any more, as has been told, and opens another: at once, or some time after the
    /// last time.
    pub(super) fn replace(&mut self, lost: D, now: Instant) {
        // A device that comes back and does not work is looked for ever less often: each time is heard.
        let failed = self.back.take().is_some_and(|back| now < back + TRUSTED);
        self.look_every = if failed { (self.look_every * 2).min(LOOK_RARELY) } else { LOOK_AGAIN };
        (self.runs, self.look_again, self.changes, self.look) = (false, None, None, None);
        self.look_due = false;
        self.shut(lost);
        // The worker ends when it has closed the device, which may be never.
        self.worker = None;
        self.told = true;
        if self.is_replaced() {
            let soon = self.replaced.is_none_or(|at| at + RETRY <= now);
            self.replaced = Some(now);
            self.state = State::Retry(if soon { now } else { now + RETRY });
        }
    }

    /// Closes a device; none is wanted any more.
    pub(super) fn close(&mut self, device: D) {
        self.rest();
        self.shut(device);
    }

    /// From now on none is wanted.
    fn rest(&mut self) {
        (self.wanted, self.runs, self.beside, self.changes, self.look) = (false, false, None, None, None);
        (self.look_again, self.look_due) = (None, false);
    }

    fn shut(&mut self, device: D) {
        // What has no worker is a file or silence, and ends here.
        if self.worker.is_some() {
            self.give(Job::Close(device));
        }
    }

    fn open(&mut self, spec: DeviceSpec, other: Option<DeviceSpec>, now: Instant) {
        self.state = State::Opening(Some(now + OPEN_TIMEOUT));
        self.give(Job::Start(spec, other));
    }

    fn open_beside(&mut self, why: Why, spec: DeviceSpec, now: Instant) {
        let worker = Worker::spawn(self.alive.clone(), &self.workers);
        if let Some(worker) = &worker {
            worker.give(Job::Start(spec.clone(), None));
        }
        self.beside = Some(Beside { why, spec, worker, until: now + OPEN_TIMEOUT });
    }

    fn give(&mut self, job: Job<D>) {
        if self.worker.is_none() {
            self.worker = Worker::spawn(self.alive.clone(), &self.workers);
        }
        if let Some(worker) = &self.worker {
            worker.give(job);
        }
    }
}

fn silent(spec: &DeviceSpec) -> AudioError {
    AudioError::Device { name: spec.to_string(), reason: "it does not answer".into() }
}

/// A device that has come too late is closed by the worker, too.
impl<D> Drop for Keeper<D> {
    fn drop(&mut self) {
        let beside = self.beside.take().and_then(|beside| beside.worker);
        for worker in self.worker.iter().chain(&beside) {
            while let Ok(result) = worker.results.try_recv() {
                if let Ok(Opened { running: (device, _), .. }) = result {
                    worker.give(Job::Close(device));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
