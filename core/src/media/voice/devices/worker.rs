//! The thread that waits for a sound server in the keeper's place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use super::super::Alive;
use super::{Device, MAX_WORKERS, Running};
use crate::audio::{AudioError, DeviceSpec};

/// How long what has used a device before may take to let go of it.
const LET_GO: Duration = Duration::from_millis(200);
/// How long what a loudspeaker holds may take to be heard before it is closed.
const TO_HEAR: Duration = Duration::from_millis(60);

/// What a worker is to do.
pub(super) enum Job<D> {
    OpenEarly(DeviceSpec),
    /// Open and start the first that works.
    Start(DeviceSpec, Option<DeviceSpec>),
    /// Say whether it is gone.
    Look(DeviceSpec, Sender<bool>),
    /// Let it be heard to its end, then close it.
    LetGo(D),
    Close(D),
}

/// A device that was opened.
pub(super) struct Opened<D> {
    pub(super) running: Running<D>,
    /// Which it is.
    pub(super) spec: DeviceSpec,
    /// Why it is not the first one that was named.
    pub(super) instead: Option<AudioError>,
}

/// See the module's documentation. Ends when it is dropped and has done its jobs.
pub(super) struct Worker<D> {
    jobs: Sender<Job<D>>,
    pub(super) results: Receiver<Result<Opened<D>, AudioError>>,
}

impl<D: Device> Worker<D> {
    /// `None` if as many as there may be have not ended.
    pub(super) fn spawn(alive: Alive, workers: &Arc<AtomicUsize>) -> Option<Worker<D>> {
        if workers.load(Relaxed) >= MAX_WORKERS {
            return None;
        }
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

impl<D> Worker<D> {
    pub(super) fn give(&self, job: Job<D>) {
        // A worker that is gone is noticed when its result is asked for.
        let _ = self.jobs.send(job);
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

fn work<D: Device>(todo: &Receiver<Job<D>>, results: &Sender<Result<Opened<D>, AudioError>>) {
    let mut early = None;
    while let Ok(job) = todo.recv() {
        match job {
            Job::OpenEarly(spec) => early = D::open_early(&spec),
            Job::Start(spec, other) => {
                let ready = early.take().and_then(|device| started(device, Instant::now()).ok());
                // When the voice is over, the device ends with the result that nobody takes.
                let _ = results.send(first_that_works(ready, spec, other));
            }
            Job::Look(spec, answer) => {
                // If nobody wants to know any more, so much the better.
                let _ = answer.send(D::is_gone(&spec));
            }
            Job::LetGo(device) => {
                std::thread::sleep(TO_HEAR);
                drop(device);
            }
            Job::Close(device) => drop(device),
        }
    }
}

/// The error is that of the first.
fn first_that_works<D: Device>(
    ready: Option<Running<D>>,
    spec: DeviceSpec,
    other: Option<DeviceSpec>,
) -> Result<Opened<D>, AudioError> {
    let error = match ready.map_or_else(|| open(&spec), Ok) {
        Ok(running) => return Ok(Opened { running, spec, instead: None }),
        Err(error) => error,
    };
    match other.map(|other| (open(&other), other)) {
        Some((Ok(running), spec)) => Ok(Opened { running, spec, instead: Some(error) }),
        Some((Err(_), _)) | None => Err(error),
    }
}

fn open<D: Device>(spec: &DeviceSpec) -> Result<Running<D>, AudioError> {
    let once = || D::open(spec).and_then(|device| started(device, Instant::now()));
    once().or_else(|error| {
        if let (DeviceSpec::Id(_), AudioError::NoDevice(_)) = (spec, &error) {
            return Err(error);
        }
        // What was played or recorded just before may not have let go of it.
        std::thread::sleep(LET_GO);
        once()
    })
}

pub(super) fn started<D: Device>(mut device: D, now: Instant) -> Result<Running<D>, AudioError> {
    let at = device.start(now)?;
    Ok((device, at))
}
