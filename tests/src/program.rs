//! Built programs as child processes: what they print is collected, and waited for by condition, never by sleeping.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Host, LabError, die_with_parent, monotonic_ns};

/// Lines of each stream that are kept for failure reports.
const KEPT_LINES: usize = 400;

/// What went wrong with a program. Its `Debug` is for people too: that is what a failing test prints.
#[derive(thiserror::Error)]
pub enum ProgramError {
    /// A binary is not there.
    #[error("{} is not built: run `cargo build -p offhook-node -p offhook-bootstrap`", .0.display())]
    NotBuilt(PathBuf),
    /// A program could not be started or spoken to.
    #[error("{program}: {message}")]
    Failed {
        /// Which program.
        program: String,
        /// What happened.
        message: String,
    },
    /// What was waited for did not come.
    #[error("{program} did not say {what} within {after:?}{}\n{transcript}", if *.ended { " (it has ended)" } else { "" })]
    Missing {
        /// Which program.
        program: String,
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
        /// Whether the program had ended by then.
        ended: bool,
        /// Its last output.
        transcript: String,
    },
    /// The network lab failed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A file could not be written or read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl fmt::Debug for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Finds a built binary: in the folder of the environment variable `OFFHOOK_BIN_DIR`, else beside the running
/// executable (tests and benches lie in `target/debug` or a folder in it).
///
/// # Errors
/// [`ProgramError::NotBuilt`].
pub fn binary(name: &str) -> Result<PathBuf, ProgramError> {
    if let Some(folder) = std::env::var_os("OFFHOOK_BIN_DIR") {
        let path = Path::new(&folder).join(name);
        return if path.exists() { Ok(path) } else { Err(ProgramError::NotBuilt(path)) };
    }
    let own = std::env::current_exe()?;
    let candidates = own.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let found = candidates.clone().find(|path| path.exists());
    found.ok_or_else(|| ProgramError::NotBuilt(candidates.last().unwrap_or_else(|| PathBuf::from(name))))
}

/// One line that a program printed on its standard output.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it happened: the program's own time stamp if it has one, else when it was read; CLOCK_MONOTONIC.
    pub t_ns: u64,
    /// The line as JSON, or as a JSON string if it is none.
    pub value: Value,
}

impl Event {
    fn parse(line: &str) -> Self {
        let value = serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.to_owned()));
        let t_ns = value.get("t_ns").and_then(Value::as_u64).unwrap_or_else(monotonic_ns);
        Self { t_ns, value }
    }

    /// The event's name, for lines that are events.
    pub fn name(&self) -> &str {
        self.text("event")
    }

    /// A field's text; empty if it is missing or no text.
    pub fn text(&self, field: &str) -> &str {
        self.value.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// A field's number; 0 if it is missing or no number.
    pub fn number(&self, field: &str) -> u64 {
        self.value.get(field).and_then(Value::as_u64).unwrap_or_default()
    }

    /// Milliseconds from an earlier time to this event.
    pub fn ms_since(&self, t_ns: u64) -> f64 {
        (self.t_ns as f64 - t_ns as f64) / 1e6
    }
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Collected>,
}

#[derive(Debug, Default)]
struct Collected {
    log: Mutex<Log>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Log {
    /// Events that no wait has taken yet.
    fresh: VecDeque<Event>,
    /// All output, the oldest lines dropped, for reports.
    lines: VecDeque<String>,
    stdout_closed: bool,
}

impl Process {
    /// Starts a program, on a host of a lab or on the machine itself. It dies with the thread that starts it.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(name: &str, mut command: Command, host: Option<&Host>) -> Result<Self, ProgramError> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut command, host, name)?;
        let output = Arc::new(Collected::default());
        if let Some(stdout) = child.stdout.take() {
            let output = Arc::clone(&output);
            std::thread::spawn(move || output.collect_events(stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            let output = Arc::clone(&output);
            std::thread::spawn(move || output.collect_stderr(stderr));
        }
        let stdin = child.stdin.take();
        Ok(Self { name: name.to_owned(), child, stdin, output })
    }

    /// The name given to it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes one line to the program; answers the time just before.
    ///
    /// # Errors
    /// When the program has closed its standard input.
    pub fn send(&mut self, line: &str) -> Result<u64, ProgramError> {
        let now = monotonic_ns();
        let written = match &mut self.stdin {
            Some(stdin) => stdin.write_all(format!("{line}\n").as_bytes()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        match written {
            Ok(()) => Ok(now),
            Err(error) => {
                Err(self.failed(&format!("`{line}` could not be said: {error}\n{}", self.transcript())))
            }
        }
    }

    /// Closes the program's standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for the first event of this name that nobody has waited for yet.
    ///
    /// # Errors
    /// [`ProgramError::Missing`] when it does not come in time or the program ends first.
    pub fn wait(&self, event: &str, timeout: Duration) -> Result<Event, ProgramError> {
        self.wait_for(event, timeout, |found| found.name() == event)
    }

    /// Waits for the first line that fits and that nobody has waited for yet, and takes it; others stay.
    ///
    /// # Errors
    /// [`ProgramError::Missing`] when it does not come in time or the program ends first.
    pub fn wait_for(
        &self,
        what: &str,
        timeout: Duration,
        fits: impl Fn(&Event) -> bool,
    ) -> Result<Event, ProgramError> {
        let end = Instant::now() + timeout;
        let mut log = self.output.lock();
        loop {
            if let Some(at) = log.fresh.iter().position(&fits)
                && let Some(event) = log.fresh.remove(at)
            {
                return Ok(event);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || log.stdout_closed {
                let (ended, transcript) = (log.stdout_closed, log.transcript());
                drop(log);
                let (program, what) = (self.name.clone(), what.to_owned());
                return Err(ProgramError::Missing { program, what, after: timeout, ended, transcript });
            }
            log = self.output.news.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Checks that no line fits during this time: for what must not happen.
    ///
    /// # Errors
    /// [`ProgramError::Failed`] with the line that should not have come.
    pub fn never(
        &self,
        what: &str,
        during: Duration,
        fits: impl Fn(&Event) -> bool,
    ) -> Result<(), ProgramError> {
        match self.wait_for(what, during, fits) {
            Ok(event) => Err(self.failed(&format!("said {what}: {}\n{}", event.value, self.transcript()))),
            Err(ProgramError::Missing { ended: true, .. }) => {
                Err(self.failed(&format!("ended\n{}", self.transcript())))
            }
            Err(ProgramError::Missing { .. }) => Ok(()),
            Err(
                other @ (ProgramError::NotBuilt(_)
                | ProgramError::Failed { .. }
                | ProgramError::Lab(_)
                | ProgramError::Io(_)),
            ) => Err(other),
        }
    }

    /// Forgets the events that nobody has waited for.
    pub fn forget(&self) {
        self.output.lock().fresh.clear();
    }

    /// The last lines of both streams.
    pub fn transcript(&self) -> String {
        self.output.lock().transcript()
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in bytes; 0 once it has ended.
    pub fn memory(&self) -> u64 {
        memory_of(self.pid())
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it at once, as a power cut would (SIGKILL).
    pub fn kill(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// [`ProgramError::Failed`] if it has not ended in time.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus, ProgramError> {
        // SAFETY: no memory involved; the child has not been waited for, so its number is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        self.wait_exit(timeout)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// [`ProgramError::Failed`] if it has not ended in time.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus, ProgramError> {
        let end = Instant::now() + timeout;
        // The end of the output comes with the end of the program; without it there is nothing to wait for.
        let mut log = self.output.lock();
        while !log.stdout_closed {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let message = format!("has not ended within {timeout:?}\n{}", log.transcript());
                drop(log);
                return Err(self.failed(&message));
            }
            log = self.output.news.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(log);
        Ok(self.child.wait()?)
    }

    fn failed(&self, message: &str) -> ProgramError {
        ProgramError::Failed { program: self.name.clone(), message: message.to_owned() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Collected {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn collect_events(&self, stdout: impl Read) {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let mut log = self.lock();
            log.fresh.push_back(Event::parse(&line));
            log.keep(line);
            drop(log);
            self.news.notify_all();
        }
        self.lock().stdout_closed = true;
        self.news.notify_all();
    }

    fn collect_stderr(&self, stderr: impl Read) {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if std::env::var_os("OFFHOOK_TEST_ECHO").is_some() {
                eprintln!("{line}");
            }
            self.lock().keep(format!("  (stderr) {line}"));
        }
    }
}

impl Log {
    fn keep(&mut self, line: String) {
        if self.lines.len() == KEPT_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn transcript(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}

/// Resident memory of a process, in bytes; 0 once it has ended.
pub fn memory_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Runs a program to its end with this standard input.
///
/// # Errors
/// When it can't be started; its exit code is the caller's to judge.
pub fn run(mut command: Command, host: Option<&Host>, stdin: &str) -> Result<Output, ProgramError> {
    let name = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(&mut command, host, &name)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not read its input closes it; what it says then tells why.
        let _ = pipe.write_all(stdin.as_bytes());
    }
    Ok(child.wait_with_output()?)
}

fn spawn(command: &mut Command, host: Option<&Host>, name: &str) -> Result<Child, ProgramError> {
    if let Some(host) = host {
        return Ok(host.spawn(command)?);
    }
    // SAFETY: one async-signal-safe system call between fork and exec.
    unsafe { command.pre_exec(die_with_parent) };
    let failed =
        |error: std::io::Error| ProgramError::Failed { program: name.to_owned(), message: error.to_string() };
    command.spawn().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("sh", command, None).unwrap()
    }

    #[test]
    fn events_are_taken_once_and_in_any_order() {
        let process = shell(
            r#"echo '{"event":"one","t_ns":7}'; echo '{"event":"two"}'; echo '{"event":"one","t_ns":9}'; echo plain; cat"#,
        );
        process.wait("two", SOON).unwrap();
        assert_eq!(process.wait("one", SOON).unwrap().t_ns, 7);
        assert_eq!(process.wait("one", SOON).unwrap().t_ns, 9);
        process.wait_for("plain text", SOON, |event| event.value == "plain").unwrap();
        process.never("another", Duration::from_millis(50), |event| event.name() == "one").unwrap();
    }

    #[test]
    fn what_does_not_come_is_reported_with_the_output() {
        let mut process = shell("echo said; echo complained >&2; read line; echo heard $line; exec cat");
        process.send("you").unwrap();
        process.wait_for("an answer", SOON, |event| event.value == "heard you").unwrap();
        let error = process.wait("ringing", Duration::from_millis(50)).unwrap_err();
        let text = format!("{error:?}");
        assert!(text.contains("sh did not say ringing within 50ms\n"), "{text}");
        assert!(text.contains("said"), "{text}");
        assert!(process.is_running());
        assert!(process.memory() > 0);
        process.close_stdin();
        assert!(process.wait_exit(SOON).unwrap().success());
    }

    #[test]
    fn the_end_of_a_program_ends_every_wait() {
        let mut process = shell("exit 3");
        let error = process.wait("anything", Duration::from_secs(60)).unwrap_err();
        assert!(matches!(error, ProgramError::Missing { ended: true, .. }));
        assert_eq!(process.wait_exit(SOON).unwrap().code(), Some(3));
        let mut process = shell("echo up; exec sleep 600");
        process.wait_for("up", SOON, |event| event.value == "up").unwrap();
        assert!(!process.terminate(SOON).unwrap().success());
    }

    #[test]
    fn a_program_runs_to_its_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "read x; echo got $x; exit 4"]);
        let output = run(command, None, "it\n").unwrap();
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(4), &b"got it\n"[..]));
    }
}
