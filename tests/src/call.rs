//! A call between two terminals, step by step, with its times and what was heard.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::phone::Terminal;
use crate::program::{Event, Process, ProgramError};
use crate::score::{Score, ScoreError, Track, score};

/// How long any one step of a call may take here; the figures are judged apart from that.
pub const STEP: Duration = Duration::from_secs(20);

/// What went wrong with a call.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// A program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The recordings.
    #[error(transparent)]
    Score(#[from] ScoreError),
}

/// A call that both ends have taken part in; times are CLOCK_MONOTONIC, nanoseconds.
#[derive(Clone, Debug)]
pub struct Call {
    /// When the caller's command was given.
    pub dialled_ns: u64,
    /// When the callee's terminal rang.
    pub rang_ns: u64,
    /// When the callee's command was given.
    pub answered_ns: u64,
    /// When the caller's terminal knew that it was answered.
    pub accepted_ns: u64,
    /// When the caller heard the first sound.
    pub caller_heard_ns: u64,
    /// When the callee heard the first sound.
    pub callee_heard_ns: u64,
    /// The path as the caller saw it last.
    pub path: String,
    /// When the call was direct at both ends.
    pub direct_ns: Option<u64>,
    caller_audio: Event,
    callee_audio: Event,
}

impl Call {
    /// Dials, waits until it rings at the callee and at the caller, answers, and waits until both hear something and
    /// the call runs on the direct path.
    ///
    /// # Errors
    /// [`ProgramError::Missing`] names the step that did not happen.
    pub fn place(caller: &mut Terminal, callee: &mut Terminal) -> Result<Self, ProgramError> {
        let (dialled_ns, rang_ns) = ring(caller, callee)?;
        Self::answer(caller, callee, dialled_ns, rang_ns)
    }

    /// The rest of a call that rings.
    ///
    /// # Errors
    /// As [`Call::place`].
    pub fn answer(
        caller: &mut Terminal,
        callee: &mut Terminal,
        dialled_ns: u64,
        rang_ns: u64,
    ) -> Result<Self, ProgramError> {
        let mut call = Self::begin(caller, callee, dialled_ns, rang_ns)?;
        call.wait_direct(caller, callee, STEP)?;
        Ok(call)
    }

    /// Answers a call that rings, and waits until both hear something, whichever way it comes.
    ///
    /// # Errors
    /// [`ProgramError::Missing`] names the step that did not happen; [`ProgramError::Failed`] when the call ends.
    pub fn begin(
        caller: &mut Terminal,
        callee: &mut Terminal,
        dialled_ns: u64,
        rang_ns: u64,
    ) -> Result<Self, ProgramError> {
        let answered_ns = callee.process.send("answer")?;
        let (caller, callee) = (&caller.process, &callee.process);
        let both = |error| both_ends(error, &[caller, callee]);
        let step = |end: &Process, name: &str| {
            let event =
                end.wait_for(name, STEP, |event| [name, "ended"].contains(&event.name())).map_err(both)?;
            if event.name() == name {
                return Ok(event);
            }
            let message = format!("the call ended before {name}: {}", event.value);
            Err(both(ProgramError::Failed { program: end.name().to_owned(), message }))
        };
        let accepted_ns = step(caller, "accepted")?.t_ns;
        let caller_audio = step(caller, "audio_started")?;
        let callee_audio = step(callee, "audio_started")?;
        let caller_heard_ns = step(caller, "first_audio")?.t_ns;
        let callee_heard_ns = step(callee, "first_audio")?.t_ns;
        Ok(Self {
            dialled_ns,
            rang_ns,
            answered_ns,
            accepted_ns,
            caller_heard_ns,
            callee_heard_ns,
            path: String::new(),
            direct_ns: None,
            caller_audio,
            callee_audio,
        })
    }

    /// Waits until the call is direct at both ends.
    ///
    /// # Errors
    /// [`ProgramError::Missing`] when it is not in time.
    pub fn wait_direct(
        &mut self,
        caller: &Terminal,
        callee: &Terminal,
        longest: Duration,
    ) -> Result<(), ProgramError> {
        let ends = [&caller.process, &callee.process];
        let end = Instant::now() + longest;
        let mut since = 0;
        for (at, process) in ends.into_iter().enumerate() {
            loop {
                let is_path = |event: &Event| ["connected", "path"].contains(&event.name());
                let left = end.saturating_duration_since(Instant::now());
                let event = process
                    .wait_for("that it is connected directly", left, is_path)
                    .map_err(|error| both_ends(error, &ends))?;
                if at == 0 {
                    self.path = event.text("path").to_owned();
                }
                if event.text("path") == "direct" {
                    since = event.t_ns.max(since);
                    break;
                }
            }
        }
        self.direct_ns = Some(since);
        Ok(())
    }

    /// From the command to dial to the callee's ring.
    pub fn dial_to_ring_ms(&self) -> f64 {
        milliseconds(self.dialled_ns, self.rang_ns)
    }

    /// From the command to answer until the caller's terminal knew.
    pub fn answer_to_accepted_ms(&self) -> f64 {
        milliseconds(self.answered_ns, self.accepted_ns)
    }

    /// From the command to answer to the first sound at the caller.
    pub fn answer_to_audio_ms(&self) -> f64 {
        milliseconds(self.answered_ns, self.caller_heard_ns)
    }

    /// From the command to answer until the call was direct at both ends.
    pub fn answer_to_direct_ms(&self) -> Option<f64> {
        self.direct_ns.map(|direct_ns| milliseconds(self.answered_ns, direct_ns))
    }

    /// Lets both speak for this long after the first sound; fails if either end drops the call meanwhile. Answers the
    /// time when they stopped.
    ///
    /// # Errors
    /// [`ProgramError::Failed`] if the call ends by itself.
    pub fn talk(
        &self,
        caller: &Terminal,
        callee: &Terminal,
        how_long: Duration,
    ) -> Result<u64, ProgramError> {
        let until = self.caller_heard_ns.max(self.callee_heard_ns) + how_long.as_nanos() as u64;
        let left = |now: u64| Duration::from_nanos(until.saturating_sub(now));
        let ended = |event: &Event| event.name() == "ended";
        caller.process.never("that the call ended", left(crate::lab::monotonic_ns()), ended)?;
        callee.process.never("that the call ended", Duration::ZERO, ended)?;
        Ok(until)
    }

    /// What the caller and the callee have heard so far, to within a quarter of a second.
    ///
    /// # Errors
    /// [`ScoreError`] when a recording can't be read, or nothing is recorded.
    pub fn recordings(&self, caller: &Terminal, callee: &Terminal) -> Result<[Track; 2], ScoreError> {
        let read = |terminal: &Terminal, audio: &Event| {
            let file = terminal.plan.speaker.as_deref().unwrap_or(Path::new(""));
            Track::read(file, audio.number("speaker_epoch_ns"))
        };
        Ok([read(caller, &self.caller_audio)?, read(callee, &self.callee_audio)?])
    }

    /// Judges what the caller heard of the callee and what the callee heard of the caller, in this order.
    ///
    /// # Errors
    /// [`ScoreError`] when a recording can't be read.
    pub fn judge(
        &self,
        caller: &Terminal,
        callee: &Terminal,
        until_ns: u64,
    ) -> Result<(Score, Score), CallError> {
        let track = |file: &Option<std::path::PathBuf>, epoch_ns| match file {
            Some(file) => read_until(file, epoch_ns, until_ns),
            None => Ok(Track { epoch_ns, rate: 16_000, samples: Vec::new() }),
        };
        let said =
            |terminal: &Terminal, audio: &Event| track(&terminal.plan.mic, audio.number("mic_epoch_ns"));
        let heard = |terminal: &Terminal, audio: &Event| {
            track(&terminal.plan.speaker, audio.number("speaker_epoch_ns"))
        };
        let by_caller =
            score(&said(callee, &self.callee_audio)?, &heard(caller, &self.caller_audio)?, until_ns)?;
        let by_callee =
            score(&said(caller, &self.caller_audio)?, &heard(callee, &self.callee_audio)?, until_ns)?;
        Ok((by_caller, by_callee))
    }
}

/// Dials and waits until it rings at both ends; answers when it was dialled and when the callee rang.
///
/// # Errors
/// [`ProgramError::Missing`] when it does not ring.
pub fn ring(caller: &mut Terminal, callee: &mut Terminal) -> Result<(u64, u64), ProgramError> {
    caller.process.forget();
    callee.process.forget();
    let dialled_ns = caller.process.send(&format!("dial {}", callee.number()))?;
    // What went wrong shows at the other end as often as not.
    let both = |error| both_ends(error, &[&caller.process, &callee.process]);
    let incoming = callee.process.wait("incoming", STEP).map_err(both)?;
    caller.process.wait("ringing", STEP).map_err(both)?;
    Ok((dialled_ns, incoming.t_ns))
}

/// Dials again and again until it rings, as a person does who knows that the other one is there; answers after how
/// long it rang.
///
/// # Errors
/// [`ProgramError::Failed`] when it has not rung by then.
pub fn ring_in_the_end(
    caller: &mut Terminal,
    callee: &mut Terminal,
    longest: Duration,
) -> Result<Duration, ProgramError> {
    let began = Instant::now();
    loop {
        caller.process.forget();
        caller.process.send(&format!("dial {}", callee.number()))?;
        let outcome = caller.process.wait_for("whether it rings", STEP, |event| {
            event.name() == "ringing" || event.name() == "ended"
        })?;
        if outcome.name() == "ringing" {
            println!("it rings after {:?}", began.elapsed());
            return Ok(began.elapsed());
        }
        if began.elapsed() > longest {
            let error = ProgramError::Failed {
                program: caller.process.name().to_owned(),
                message: format!("nothing rang within {longest:?}: {}", outcome.value),
            };
            return Err(both_ends(error, &[&caller.process, &callee.process]));
        }
        // A terminal without a network says so at once.
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The error of one end, with what both said.
fn both_ends(error: ProgramError, ends: &[&Process]) -> ProgramError {
    let said = ends.iter().map(|end| format!("--- {} said\n{}\n", end.name(), end.transcript()));
    let first = error.to_string();
    let headline = first.lines().next().unwrap_or_default();
    let message = format!("{headline}\n{}", said.collect::<String>());
    ProgramError::Failed { program: "call".to_owned(), message }
}

/// One end hangs up; both say that the call is over.
///
/// # Errors
/// [`ProgramError::Missing`] when an end does not notice.
pub fn hang_up(by: &mut Terminal, other: &mut Terminal) -> Result<(), ProgramError> {
    by.process.send("hangup")?;
    let ends = [&by.process, &other.process];
    for end in ends {
        let is_over = |event: &Event| event.name() == "ended" && event.text("reason") == "hung_up";
        end.wait_for("that the call was hung up", STEP, is_over).map_err(|error| both_ends(error, &ends))?;
    }
    Ok(())
}

/// Reads a recording once it reaches up to this time, or has stopped growing.
fn read_until(file: &Path, epoch_ns: u64, until_ns: u64) -> Result<Track, ScoreError> {
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let track = Track::read(file, epoch_ns);
        let complete = track.as_ref().is_ok_and(|track| {
            let seconds = track.samples.len() as f64 / f64::from(track.rate);
            epoch_ns as f64 + seconds * 1e9 >= until_ns as f64
        });
        if complete || Instant::now() >= deadline {
            return track;
        }
        // The program closes the file when its call has ended, a moment after it has said so.
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn milliseconds(from_ns: u64, to_ns: u64) -> f64 {
    (to_ns as f64 - from_ns as f64) / 1e6
}
