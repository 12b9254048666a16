//! The examples as programs: they find each other through a directory, and each hears what the other says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use offhook::net::{Net, NetConfig, Role};
use offhook::storage::{Home, NewAccount, Password};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// More than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Similar enough to be the same speech.
const SAME: f64 = 0.8;
/// Frames of 10 ms that are compared: 4 s.
const COMPARED: usize = 400;

/// A running example. Killed when dropped.
struct Example {
    child: Child,
    lines: Receiver<String>,
}

impl Example {
    fn start(name: &str, args: &[&str]) -> Self {
        // Tests lie in target/debug/deps, examples in target/debug/examples.
        let own = std::env::current_exe().unwrap();
        let path = own.parent().unwrap().with_file_name("examples").join(name);
        let mut command = Command::new(&path);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tx, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tx.send(line)));
        Self { child, lines }
    }

    /// What follows these words in the next line that begins with them.
    #[track_caller]
    fn says(&self, words: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(words) {
                        return rest.trim().to_owned();
                    }
                }
                Err(error) => panic!("\"{words}\" did not come: {error}"),
            }
        }
    }

    /// Ctrl-C, and its exit.
    fn interrupt(mut self) {
        let done = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn directory() -> (Net, String) {
    let mut config = NetConfig::new([9; 32], Role::Directory);
    config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
    config.stun = Some("127.0.0.1:0".parse().unwrap());
    let (net, mut events) = Net::start(config).await.unwrap();
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let mut status = net.watch();
    let ready = status.wait_for(|status| !status.addresses.is_empty()).await.unwrap();
    let addr = ready.addresses[0].to_string();
    drop(ready);
    (net, addr)
}

fn speech(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Loudness of each 10 ms of a recording; what of it is there.
fn loudness(path: &Path) -> Vec<f64> {
    let Ok(mut reader) = hound::WavReader::open(path) else { return Vec::new() };
    let frame = reader.spec().sample_rate as usize / 100;
    let samples: Vec<f64> =
        reader.samples::<i16>().map_while(Result::ok).map(|sample| f64::from(sample) / 32_768.0).collect();
    let power = |part: &[f64]| part.iter().map(|sample| sample * sample).sum::<f64>() / part.len() as f64;
    samples.chunks_exact(frame).map(|part| power(part).sqrt()).collect()
}

/// How alike the first seconds of what was said are to what was heard, at the delay (in frames) at which they are most.
fn alike(said: &[f64], heard: &[f64], delays: std::ops::Range<usize>) -> (f64, usize) {
    let said = &said[..COMPARED];
    let at = |delay: usize| heard.get(delay..delay + COMPARED).map(|heard| (correlation(said, heard), delay));
    delays.filter_map(at).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, 0))
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let product = |x: &[f64], mx: f64, y: &[f64], my: f64| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum()
    };
    let power = product(a, mean_a, a, mean_a) * product(b, mean_b, b, mean_b);
    if power > 0.0 { product(a, mean_a, b, mean_b) / power.sqrt() } else { 0.0 }
}

/// Waits until the speech is in the recording; gives the delay in frames.
fn wait_until_heard(said: &Path, heard: &Path, delays: std::ops::Range<usize>) -> usize {
    let said = loudness(said);
    let end = Instant::now() + PATIENCE;
    loop {
        let (score, delay) = alike(&said, &loudness(heard), delays.clone());
        if score >= SAME {
            return delay;
        }
        assert!(Instant::now() < end, "{} was not heard: {score:.2}", heard.display());
        // The file grows as the call goes on.
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caller_and_callee_hear_each_other() {
    let (net, entry) = directory().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (speech_a, speech_b) = (speech("speech-a.wav"), speech("speech-b.wav"));
    let (a, b) = (loudness(&speech_a), loudness(&speech_b));
    assert!(alike(&a, &b, 0..200).0 < SAME, "one is not taken for the other");

    let (callee_home, callee_heard) = (path("callee"), path("callee.wav"));
    let (caller_home, caller_heard) = (path("caller"), path("caller.wav"));
    let callee =
        Example::start("callee", &[text(&callee_home), &entry, text(&speech_b), text(&callee_heard)]);
    let number = callee.says("my number is ");
    let args = [text(&caller_home), &entry, &number, text(&speech_a), text(&caller_heard)];
    let caller = Example::start("caller", &args);
    callee.says("it rings");
    caller.says("talking");
    assert!(callee.says("").ends_with("writes: hello from the library"));
    wait_until_heard(&speech_a, &callee_heard, 0..200);
    wait_until_heard(&speech_b, &caller_heard, 0..200);
    caller.interrupt();
    callee.says("ended (hung_up) after ");
    callee.interrupt();
    net.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_echo_says_again_what_it_heard() {
    let (net, entry) = directory().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (home, caller_home, heard) = (path("echo"), path("caller"), path("heard.wav"));
    let new = NewAccount { id: "echo".parse().unwrap(), password: Password::new("a password").unwrap() };
    Home::open(&home).unwrap().create_account(new, |_| {}).await.unwrap();
    let echo = Example::start("echo", &[text(&home), &entry]);
    let number = echo.says("my number is ");
    let speech = speech("speech-a.wav");
    let caller =
        Example::start("caller", &[text(&caller_home), &entry, &number, text(&speech), text(&heard)]);
    caller.says("talking");
    let delay = wait_until_heard(&speech, &heard, 0..300);
    assert!(delay >= 100, "a second later at least, not {delay}0 ms");
    caller.interrupt();
    echo.interrupt();
    net.shutdown().await;
}
