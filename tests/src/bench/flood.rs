//! A flood of strangers' invites, each of an identity that nobody has ever seen, and a contact who calls meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use offhook_proto::identity::TerminalCert;
use offhook_proto::number::Number;
use offhook_proto::record;
use serde_json::json;

use super::{BenchError, Report, numbers, progress};
use crate::call::STEP;
use crate::hostile::invites::of_a_crowd;
use crate::hostile::{Flood, Gang, HostileError, Node, Outgoing, Protocol, wire};
use crate::people::now;
use crate::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use crate::score::median;

/// Invites made beforehand, each of another identity; sent in turn, as nothing of them is remembered.
const INVITES: u64 = 40_000;
/// Invites in a second altogether.
const RATE: u64 = 10_000;
/// Connections' worth of them, and how many of each are under way.
const LANES: usize = 8;
const OPEN: usize = 64;
/// How often it rings, without the flood and with it.
const RINGS: usize = 7;
/// The longest that it may take.
const LONGEST: Duration = Duration::from_secs(120);

impl From<HostileError> for BenchError {
    fn from(error: HostileError) -> Self {
        Self::Other(error.to_string())
    }
}

/// What the flood does.
#[derive(Clone, Debug)]
pub struct Flooded {
    /// By how much the terminal's memory has grown at most, megabytes.
    pub rss_mb: f64,
    /// From dialling to the bell of a contact, milliseconds, while it comes and before.
    pub ring_ms: Vec<f64>,
    /// The same before it.
    pub usual_ms: Vec<f64>,
    /// Invites that came in a second, offered and taken.
    pub offered_s: f64,
    /// Invites that the terminal's network took in a second.
    pub taken_s: f64,
}

/// The flood alone, as a benchmark of its own: `flood: flood_rss_mb=… flood_ring_ms=… usual_ring_ms=… offered_s=… taken_s=…`.
///
/// # Errors
/// When a program does not come up, or nothing rings.
pub fn flood() -> Result<Report, BenchError> {
    let seen = measure()?;
    Ok(Report {
        name: "flood",
        figures: numbers(vec![
            ("flood_rss_mb", seen.rss_mb),
            ("flood_ring_ms", median(&seen.ring_ms)),
            ("usual_ring_ms", median(&seen.usual_ms)),
            ("offered_s", seen.offered_s),
            ("taken_s", seen.taken_s),
        ]),
        table: String::new(),
        samples: json!({ "ring_ms": seen.ring_ms, "usual_ms": seen.usual_ms }),
    })
}

/// Measures it: through a node that the victim has chosen to be reached through, which brings each in another name.
///
/// # Errors
/// When a program does not come up, or nothing rings.
pub fn measure() -> Result<Flooded, BenchError> {
    let directory = Directory::start(None, DirectoryPlan::default())?;
    let gang = Gang::new(None)?;
    let evil = gang.node_of(&[211; 32], None)?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let plan = |entry| TerminalPlan { entry, ..TerminalPlan::default() };
    let mut ada = Terminal::online(ada, None, plan(vec![directory.address()]))?;
    let mut bob = Terminal::online(bob, None, plan(vec![directory.address(), evil.addresses[0].clone()]))?;
    bob.process.send(&format!("contact add {} Ada", ada.number()))?;
    let victim = evil.evidence.wait(STEP, |seen| seen.connections.first().cloned());
    let (victim, _) = victim.ok_or_else(|| BenchError::Other("the victim does not connect".to_owned()))?;
    let cert = cert_of(&evil, &directory, bob.number())?;
    progress("making the invites");
    let crowd = Arc::new(of_a_crowd(&cert, 0, INVITES));
    let usual_ms = rings(&mut ada, &mut bob)?;
    progress("the flood begins");
    let before = bob.process.memory();
    let began = Instant::now();
    let pace = Arc::new(Pace { began, next: AtomicU64::new(0) });
    let lane = |_| {
        let (crowd, pace, wrap) = (Arc::clone(&crowd), Arc::clone(&pace), wire::deliver_in_a_new_name());
        let make = move |_| {
            let n = pace.take();
            Outgoing::Whole(wrap(&crowd[usize::try_from(n % INVITES).unwrap_or_default()]))
        };
        evil.flood(Protocol::Signal, victim, (u64::MAX, OPEN, LONGEST), make)
    };
    let floods: Vec<Flood> = (0..LANES).map(lane).collect();
    let watch = Watch::start(bob.process.pid());
    let ring_ms = rings(&mut ada, &mut bob)?;
    let (peak, took) = (watch.peak(), began.elapsed().as_secs_f64());
    floods.iter().for_each(Flood::stop);
    let mut tally = crate::hostile::Tally::default();
    for flood in floods {
        tally.add(&flood.join()?);
    }
    let taken = tally.of(&offhook_proto::service::Response::Delivered);
    Ok(Flooded {
        rss_mb: peak.saturating_sub(before) as f64 / 1e6,
        ring_ms,
        usual_ms,
        offered_s: tally.sent as f64 / took,
        taken_s: taken as f64 / took,
    })
}

/// Holds a flood at its rate, over all lanes.
struct Pace {
    began: Instant,
    next: AtomicU64,
}

impl Pace {
    /// The number of the next one, when it is its time.
    fn take(&self) -> u64 {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let due = self.began + Duration::from_micros(n * 1_000_000 / RATE);
        // A rate is what is wanted here.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        n
    }
}

/// Sees how much memory a program takes at most.
struct Watch {
    over: Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Watch {
    fn start(pid: u32) -> Self {
        let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let end = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut peak = 0;
            while !end.load(Ordering::Relaxed) {
                peak = peak.max(crate::program::memory_of(pid));
                // Between two samples.
                std::thread::sleep(Duration::from_millis(50));
            }
            peak
        });
        Self { over, thread }
    }

    fn peak(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// How long it takes until it rings, each time.
fn rings(caller: &mut Terminal, callee: &mut Terminal) -> Result<Vec<f64>, BenchError> {
    let number = caller.number().parse::<Number>().map(|number| number.canonical()).unwrap_or_default();
    let mut times = Vec::new();
    for _ in 0..RINGS {
        caller.process.forget();
        callee.process.forget();
        let dialled = caller.process.send(&format!("dial {}", callee.number()))?;
        let incoming = callee.process.wait_for("the contact's ring", STEP, |event| {
            event.name() == "incoming" && event.text("number") == number
        })?;
        caller.process.wait("ringing", STEP)?;
        times.push((incoming.t_ns - dialled) as f64 / 1e6);
        caller.process.send("hangup")?;
        caller.process.wait("ended", STEP)?;
        callee.process.wait_for("the end of it", STEP, |event| {
            event.name() == "ended" && event.text("number") == number
        })?;
    }
    Ok(times)
}

/// The certificate of a terminal, from its record.
fn cert_of(node: &Node, directory: &Directory, number: &str) -> Result<TerminalCert, BenchError> {
    let other = |text: &str| BenchError::Other(text.to_owned());
    let number: Number = number.parse().map_err(|_| other("no number"))?;
    let key = number.record_key(None).ok_or_else(|| other("no plain number"))?;
    let peer = node.connect(&directory.address())?;
    let (_, bytes) = node.held_by(peer, &key.0)?;
    let set = record::check(&key, &bytes.ok_or_else(|| other("no record is held"))?, now())
        .map_err(|error| BenchError::Other(error.to_string()))?;
    Ok(*set.terminals.first().ok_or_else(|| other("no terminal is on line"))?.certificate())
}
