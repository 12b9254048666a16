//! Opens, starts, replaces and closes the device of one direction without ever waiting for it.
//!
//! A sound server may take seconds for each of these, or never answer. So they happen on a thread of their own: one
//! for each device, from before it is opened until after it is closed, and at most [`MAX_WORKERS`] for each direction
//! of a leg. If so many hang, no other device is opened. Files and silence cannot hang and need no thread.

mod parking;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use super::{Alive, Mic, Speaker};
use crate::audio::{self, AudioError, AudioSink, AudioSource, DeviceSpec};

/// How long after an attempt to open a device the next one is made.
const RETRY: Duration = Duration::from_secs(2);
/// When a device that is being opened is reported missing. It is taken all the same if it comes later.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long what has used a device before may take to let go of it.
const LET_GO: Duration = Duration::from_millis(200);
/// Threads that may be opening or closing devices for one direction.
pub(super) const MAX_WORKERS: usize = 3;

/// A device of either direction.
pub(super) trait Device: Send + Sized + 'static {
    fn open(spec: &DeviceSpec) -> Result<Self, AudioError>;

    /// Opens it before it is needed, if that takes it away from nobody and nothing is recorded.
    fn open_early(spec: &DeviceSpec) -> Option<Self>;

    fn start(&mut self, now: Instant) -> Result<Instant, AudioError>;
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
}

/// A device that runs, and when its first sample is spoken or heard.
pub(super) type Running<D> = (D, Instant);

enum Job<D> {
    OpenEarly(DeviceSpec),
    Start(DeviceSpec),
    Close(D),
}

/// The thread that waits in our place.
struct Worker<D> {
    jobs: Sender<Job<D>>,
    results: Receiver<Result<Running<D>, AudioError>>,
}

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

/// See the module's documentation.
pub(super) struct Keeper<D> {
    spec: DeviceSpec,
    /// Opened beforehand.
    opened: Option<D>,
    state: State<D>,
    /// When it was last begun to open a device.
    tried: Option<Instant>,
    /// Whether it has been told that there is no device.
    told: bool,
    worker: Option<Worker<D>>,
    /// Workers that have not ended.
    workers: Arc<AtomicUsize>,
    alive: Alive,
}

impl<D: Device> Keeper<D> {
    /// Does nothing yet. `opened` is used instead of opening `spec` the first time.
    pub(super) fn new(spec: DeviceSpec, opened: Option<D>, alive: &Alive) -> Keeper<D> {
        let workers = Arc::default();
        Keeper {
            spec,
            opened,
            state: State::Idle,
            tried: None,
            told: false,
            worker: None,
            workers,
            alive: alive.clone(),
        }
    }

    /// Whether a call goes on without the device and another takes its place. A file that cannot be used ends the
    /// voice, since somebody asked for exactly this file, and is never replaced by a microphone that nobody asked
    /// for.
    pub(super) fn is_replaced(&self) -> bool {
        self.replacement().is_some()
    }

    fn replacement(&self) -> Option<DeviceSpec> {
        match &self.spec {
            DeviceSpec::Default | DeviceSpec::Id(_) => Some(DeviceSpec::Default),
            DeviceSpec::Custom(_) => Some(self.spec.clone()),
            DeviceSpec::File(_) | DeviceSpec::None => None,
        }
    }

    /// Opens the device if that may be done before it is needed.
    pub(super) fn prepare(&mut self) {
        let early = match &self.spec {
            DeviceSpec::Default | DeviceSpec::Id(_) => self.tried.is_none() && self.worker.is_none(),
            DeviceSpec::Custom(_) | DeviceSpec::File(_) | DeviceSpec::None => false,
        };
        if early {
            self.give(Job::OpenEarly(self.spec.clone()));
        }
    }

    /// Begins to open and start the device; [`Keeper::poll`] has the result.
    pub(super) fn start(&mut self, now: Instant) {
        if self.is_replaced() {
            self.open(self.spec.clone(), now);
        } else {
            let device = self.opened.take().map_or_else(|| D::open(&self.spec), Ok);
            self.state = State::Ready(device.and_then(|device| started(device, now)));
        }
    }

    /// A device that runs, as soon as there is one, or why there is none; that only once until there is one again.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Result<Running<D>, AudioError>> {
        let result = match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => None,
            State::Ready(result) => Some(result),
            State::Retry(at) if at <= now => {
                self.open(self.replacement()?, now);
                None
            }
            State::Retry(at) => {
                self.state = State::Retry(at);
                None
            }
            State::Opening(tell_at) => self.poll_opening(now, tell_at),
        }?;
        let told = std::mem::replace(&mut self.told, result.is_err());
        (result.is_ok() || !told).then_some(result)
    }

    fn poll_opening(
        &mut self,
        now: Instant,
        tell_at: Option<Instant>,
    ) -> Option<Result<Running<D>, AudioError>> {
        let result = self.worker.as_ref().map_or(Err(TryRecvError::Disconnected), |w| w.results.try_recv());
        let silent =
            || AudioError::Device { name: self.spec.to_string(), reason: "it does not answer".into() };
        match result {
            Ok(Ok(running)) => Some(Ok(running)),
            Ok(Err(error)) => {
                self.state = State::Retry(now + RETRY);
                Some(Err(error))
            }
            Err(TryRecvError::Empty) if tell_at.is_some_and(|at| at <= now) => {
                let error = silent();
                self.state = State::Opening(None);
                Some(Err(error))
            }
            Err(TryRecvError::Empty) => {
                self.state = State::Opening(tell_at);
                None
            }
            // There is no thread: too many hang, or it has panicked in the embedder's code.
            Err(TryRecvError::Disconnected) => {
                let error = silent();
                self.worker = None;
                self.state = State::Retry(now + RETRY);
                Some(Err(error))
            }
        }
    }

    /// Closes a device that does not work any more, as has been told, and opens another: at once, or some time after the
    /// last attempt.
    pub(super) fn replace(&mut self, lost: D, now: Instant) {
        self.close(lost);
        // The worker ends when it has closed the device, which may be never.
        self.worker = None;
        self.told = true;
        if self.is_replaced() {
            self.state = State::Retry(self.tried.map_or(now, |at| at + RETRY));
        }
    }

    /// Closes a device.
    pub(super) fn close(&mut self, device: D) {
        // What has no worker is a file or silence, and ends here.
        if self.worker.is_some() {
            self.give(Job::Close(device));
        }
    }

    fn open(&mut self, spec: DeviceSpec, now: Instant) {
        self.tried = Some(now);
        self.state = State::Opening(Some(now + OPEN_TIMEOUT));
        self.give(Job::Start(spec));
    }

    fn give(&mut self, job: Job<D>) {
        if self.worker.is_none() && self.workers.load(Relaxed) < MAX_WORKERS {
            self.worker = Worker::spawn(self.alive.clone(), &self.workers);
        }
        if let Some(worker) = &self.worker {
            // A worker that is gone is noticed when its result is asked for.
            let _ = worker.jobs.send(job);
        }
    }
}

/// A device that has come too late is closed by the worker, too.
impl<D> Drop for Keeper<D> {
    fn drop(&mut self) {
        let Some(worker) = &self.worker else { return };
        while let Ok(result) = worker.results.try_recv() {
            if let Ok((device, _)) = result {
                let _ = worker.jobs.send(Job::Close(device));
            }
        }
    }
}

fn started<D: Device>(mut device: D, now: Instant) -> Result<Running<D>, AudioError> {
    let at = device.start(now)?;
    Ok((device, at))
}

impl<D: Device> Worker<D> {
    fn spawn(alive: Alive, workers: &Arc<AtomicUsize>) -> Option<Worker<D>> {
        // A keeper asks for one thing at a time, and closes one device for each that it got.
        let (jobs, todo) = mpsc::channel();
        let (sender, results) = mpsc::channel();
        let counted = Counted::new(workers);
        std::thread::Builder::new()
            .name("offhook-device".into())
            .spawn(move || {
                work(&todo, &sender);
                drop((counted, alive));
            })
            .ok()?;
        Some(Worker { jobs, results })
    }
}

/// Counts as one as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Relaxed);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn work<D: Device>(todo: &Receiver<Job<D>>, results: &Sender<Result<Running<D>, AudioError>>) {
    let mut early = None;
    while let Ok(job) = todo.recv() {
        match job {
            Job::OpenEarly(spec) => early = D::open_early(&spec),
            Job::Start(spec) => {
                let ready = early.take().and_then(|device| started(device, Instant::now()).ok());
                let open = || D::open(&spec).and_then(|device| started(device, Instant::now()));
                // What was played or recorded just before may not have let go of it.
                let anew = || {
                    open().or_else(|_| {
                        std::thread::sleep(LET_GO);
                        open()
                    })
                };
                // When the voice is over, the device ends with the result that nobody takes.
                let _ = results.send(ready.map_or_else(anew, Ok));
            }
            Job::Close(device) => drop(device),
        }
    }
}
