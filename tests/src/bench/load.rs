//! What direct calls cost their directory: that its load does not grow with what is said through the telephone.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{BenchError, Figure, Report, progress};
use crate::call::{Call, hang_up, ring};
use crate::lab::{Counters, Host, Impairment, Lab, Nat};
use crate::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use crate::program::{Event, ProgramError};

/// Calls at a time.
const CALLS: [usize; 3] = [1, 5, 20];
/// It rings for so long before somebody answers; both ends bring the relayed path up meanwhile.
const RINGS: Duration = Duration::from_millis(700);
/// How long after one call the next is dialled. Forty programs that all connect at once are a test of the machine.
const APART: Duration = Duration::from_millis(400);
/// Who calls whom for how long, from when the last call is direct.
const CALLED: [(Who, Duration); 3] = [
    (Who::Strangers, Duration::from_secs(10)),
    (Who::Strangers, Duration::from_secs(60)),
    (Who::Contacts, Duration::from_secs(10)),
];
/// What passes in this time after the last call has become direct belongs to setting up.
pub(super) const SETTLING: Duration = Duration::from_secs(6);
/// What passes in this time after all have hung up belongs to the end of the calls.
const ENDING: Duration = Duration::from_secs(2);
/// For so long it is watched what the same terminals cost when nobody calls: beside its keep-alives a terminal has something to say
/// for 3 kB once in a while, and one such time more or less is more than a call may cost.
const IDLE: Duration = Duration::from_secs(120);
/// Accounts that are made at a time: each keeps a core busy.
const MADE_AT_A_TIME: usize = 2;
/// Milliseconds from a terminal to the middle of the internet, and from the directory.
const ACCESS_MS: u64 = 25;
const DIRECTORY_MS: u64 = 5;
/// The most that a call may cost, above what its terminals cost anyway.
const SETUP_LIMIT_KB: f64 = 20.0;
const LIMIT_KB_PER_MIN: f64 = 1.0;

/// What the two ends of a call are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Who {
    /// They show each other their addresses when it is answered; until then both are at a relay.
    Strangers,
    /// They show them while it rings.
    Contacts,
}

/// Bytes and packets at the directory's link, both directions.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Passed {
    bytes: f64,
    packets: f64,
}

impl Passed {
    fn by(self, factor: f64) -> Self {
        Self { bytes: self.bytes * factor, packets: self.packets * factor }
    }

    fn less(self, other: Self) -> Self {
        Self { bytes: self.bytes - other.bytes, packets: self.packets - other.packets }
    }
}

/// Some calls at a time; all figures are of one call, above what its two terminals cost anyway.
#[derive(Debug, Serialize)]
struct Load {
    calls: usize,
    who: Who,
    seconds: u64,
    /// What two terminals cost in a minute without a call; taken off from the following.
    idle_per_min: Passed,
    /// From dialling until some seconds after the last call was direct.
    setup: Passed,
    /// From then on until the calls end.
    talking: Passed,
    talking_per_min: Passed,
    /// From hanging up until some seconds later.
    ending: Passed,
}

/// Holds 1, 5 and 20 calls at a time, or only as many as `calls` says, of 10 s and of 60 s each between strangers and of 10 s between contacts, and counts what passes the link of the one directory that all
/// use. What the same terminals cost without a call was measured just before, for two minutes, and is taken off.
///
/// `setup_kb` is of one call between contacts, from dialling until 6 s after it is direct, `stranger_setup_kb` of one between
/// strangers, the greater one of both lengths; `kb_per_min` of one call from then on, in calls of a minute.
///
/// # Errors
/// When a program does not start, or a call does not become direct or ends by itself.
pub fn load(calls: Option<u32>) -> Result<Report, BenchError> {
    let mut scene = Scene::start()?;
    let mut loads = Vec::new();
    let numbers = calls.map_or(CALLS.to_vec(), |calls| vec![calls.max(1) as usize]);
    for &calls in &numbers {
        scene.grow(2 * calls)?;
        progress(&format!("{} terminals are on line", scene.terminals.len()));
        let idle = scene.watch(|_| {
            std::thread::sleep(IDLE);
            Ok(())
        })?;
        let idle = idle.by(1.0 / IDLE.as_secs_f64());
        for (who, lasting) in CALLED {
            if who == Who::Contacts {
                scene.tell_all("contact add {number} Friend")?;
            }
            let load = scene.call(calls, who, lasting, idle)?;
            if who == Who::Contacts {
                scene.tell_all("contact remove {number}")?;
            }
            progress(&row(&load));
            loads.push(load);
        }
    }
    report(&numbers, &loads)
}

fn report(numbers: &[usize], loads: &[Load]) -> Result<Report, BenchError> {
    let of = |calls: usize| loads.iter().filter(move |load| load.calls == calls);
    let kb = |passed: Passed| passed.bytes / 1e3;
    let setup = |who: Who| -> Vec<f64> {
        let most = |calls: &usize| {
            let loads = of(*calls).filter(|load| load.who == who);
            loads.map(|load| kb(load.setup)).fold(f64::MIN, f64::max)
        };
        numbers.iter().map(most).collect()
    };
    let setups = [Who::Contacts, Who::Strangers].map(setup);
    let longest = CALLED.iter().map(|(_, lasting)| lasting.as_secs()).max().unwrap_or_default();
    let in_a_minute = |calls: &usize| {
        let long = of(*calls).filter(|load| load.seconds == longest);
        long.map(|load| kb(load.talking_per_min)).fold(f64::MIN, f64::max)
    };
    let per_min: Vec<f64> = numbers.iter().map(in_a_minute).collect();
    let ok = setups.iter().flatten().all(|kb| *kb <= SETUP_LIMIT_KB)
        && per_min.iter().all(|kb| *kb <= LIMIT_KB_PER_MIN);
    Ok(Report {
        name: "load",
        figures: vec![
            ("calls", Figure::Each(numbers.iter().map(|calls| *calls as f64).collect())),
            ("setup_kb", Figure::Each(setups[0].clone())),
            ("stranger_setup_kb", Figure::Each(setups[1].clone())),
            ("kb_per_min", Figure::Each(per_min)),
            ("ok", Figure::Holds(ok)),
        ],
        table: table(loads),
        samples: serde_json::to_value(loads).map_err(|error| BenchError::Other(error.to_string()))?,
    })
}

fn table(loads: &[Load]) -> String {
    let head = ["calls", "between", "s", "idle/min", "set-up", "talking", "talking/min", "ending"];
    let [calls, who, seconds, rest @ ..] = head;
    let rest: String = rest.iter().map(|name| format!("{name:>18}")).collect();
    let mut lines = vec![
        "one call: kB (packets) at the directory, above what its terminals cost anyway (idle)".to_owned(),
        format!("{calls:>5}{who:>10}{seconds:>4}{rest}"),
    ];
    lines.extend(loads.iter().map(row));
    lines.push(format!("limit: set-up {SETUP_LIMIT_KB:.0} kB, talking {LIMIT_KB_PER_MIN:.0} kB/min"));
    lines.join("\n")
}

fn row(load: &Load) -> String {
    let cells = [load.idle_per_min, load.setup, load.talking, load.talking_per_min, load.ending];
    let cell =
        |passed: &Passed| format!("{:>18}", format!("{:.2} ({:.0})", passed.bytes / 1e3, passed.packets));
    let cells: String = cells.iter().map(cell).collect();
    let who = match load.who {
        Who::Strangers => "strangers",
        Who::Contacts => "contacts",
    };
    format!("{:>5}{who:>10}{:>4}{cells}", load.calls, load.seconds)
}

/// A directory and terminals behind port-restricted NATs, each in a home of its own. They say nothing, which costs
/// as many packets.
struct Scene {
    lab: Lab,
    directory: (Host, Directory),
    terminals: Vec<Terminal>,
    homes: Vec<Host>,
}

impl Scene {
    fn start() -> Result<Self, BenchError> {
        let lab = Lab::new("load")?;
        let host = lab.host("dir", Impairment::delay_ms(DIRECTORY_MS))?;
        let directory = Directory::start(Some(&host), DirectoryPlan::default())?;
        Ok(Self { lab, directory: (host, directory), terminals: Vec::new(), homes: Vec::new() })
    }

    /// Starts further terminals, until there are so many, and waits until they have done what they do once.
    fn grow(&mut self, count: usize) -> Result<(), BenchError> {
        for account in accounts(self.terminals.len()..count)? {
            let access = Impairment::delay_ms(ACCESS_MS);
            let router = self.lab.router(&format!("nat{}", account.id), Nat::PortRestricted, access)?;
            let home = router.host(&account.id)?;
            let entry = self.directory.1.addresses.clone();
            let plan = TerminalPlan { entry, ..TerminalPlan::default() };
            self.terminals.push(Terminal::online(account, Some(&home), plan)?);
            self.homes.push(home);
        }
        self.terminals.iter_mut().try_for_each(Terminal::until_alone)?;
        Ok(())
    }

    /// Holds so many calls at a time; `idle` is what all terminals cost in a second.
    fn call(&mut self, calls: usize, who: Who, lasting: Duration, idle: Passed) -> Result<Load, BenchError> {
        let mut took = Duration::ZERO;
        let mut watched = |scene: &mut Self, what: &mut dyn FnMut(&mut Self) -> Result<(), ProgramError>| {
            let start = Instant::now();
            let passed = scene.watch(what)?;
            took = start.elapsed();
            Ok::<_, ProgramError>(passed.less(idle.by(took.as_secs_f64())).by(1.0 / calls as f64))
        };
        let setup = watched(self, &mut |scene| {
            scene.each_pair(|turn, ada, bob| {
                std::thread::sleep(APART * turn);
                place(ada, bob)
            })?;
            std::thread::sleep(SETTLING);
            Ok(())
        })?;
        let rest = lasting - SETTLING;
        let talking = watched(self, &mut |scene| scene.goes_on(rest))?;
        let ending = watched(self, &mut |scene| {
            scene.each_pair(|_, ada, bob| hang_up(ada, bob))?;
            std::thread::sleep(ENDING);
            Ok(())
        })?;
        Ok(Load {
            calls,
            who,
            seconds: lasting.as_secs(),
            idle_per_min: idle.by(60.0 / calls as f64),
            setup,
            talking,
            talking_per_min: talking.by(60.0 / rest.as_secs_f64()),
            ending,
        })
    }

    /// Gives each terminal a command, with the number of the other one of its pair in it.
    fn tell_all(&mut self, command: &str) -> Result<(), ProgramError> {
        self.each_pair(|_, ada, bob| {
            ada.process.send(&command.replace("{number}", bob.number()))?;
            bob.process.send(&command.replace("{number}", ada.number()))?;
            Ok(())
        })
    }

    /// Does something with all pairs of terminals at the same time; each is told its number.
    fn each_pair(
        &mut self,
        what: impl Fn(u32, &mut Terminal, &mut Terminal) -> Result<(), ProgramError> + Sync,
    ) -> Result<(), ProgramError> {
        let what = &what;
        std::thread::scope(|scope| {
            let pairs = self.terminals.chunks_exact_mut(2);
            let threads: Vec<_> = (0..)
                .zip(pairs)
                .map(|(turn, pair)| {
                    scope.spawn(move || match pair {
                        [ada, bob] => what(turn, ada, bob),
                        _ => Ok(()),
                    })
                })
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Lets time pass; no call may end by itself.
    fn goes_on(&self, how_long: Duration) -> Result<(), ProgramError> {
        let deadline = Instant::now() + how_long;
        self.terminals.iter().try_for_each(|terminal| {
            let left = deadline.saturating_duration_since(Instant::now());
            terminal.process.never("that the call ended", left, |event: &Event| event.name() == "ended")
        })
    }

    /// What passes the directory while something is done.
    fn watch(
        &mut self,
        what: impl FnOnce(&mut Self) -> Result<(), ProgramError>,
    ) -> Result<Passed, ProgramError> {
        let before = self.directory.0.link().counters();
        what(self)?;
        let counters = self.directory.0.link().counters().since(&before);
        let sum = |of: fn(&Counters) -> u64| (of(&counters.up) + of(&counters.down)) as f64;
        Ok(Passed { bytes: sum(|counters| counters.bytes), packets: sum(|counters| counters.packets) })
    }
}

/// Calls, lets it ring, answers and waits until the call is direct.
fn place(ada: &mut Terminal, bob: &mut Terminal) -> Result<(), ProgramError> {
    let (dialled_ns, rang_ns) = ring(ada, bob)?;
    bob.process.never("that it stopped ringing", RINGS, |event| event.name() == "ended")?;
    Call::answer(ada, bob, dialled_ns, rang_ns)?;
    Ok(())
}

/// Accounts with these numbers in their names.
fn accounts(numbers: std::ops::Range<usize>) -> Result<Vec<Account>, ProgramError> {
    let (first, last) = (numbers.start, numbers.end);
    let share = move |from: usize| (first + from..last).step_by(MADE_AT_A_TIME);
    std::thread::scope(|scope| {
        let make = |from| move || share(from).map(|n| Account::create(&format!("t{n}"))).collect();
        let threads: Vec<_> = (0..MADE_AT_A_TIME).map(|from| scope.spawn(make(from))).collect();
        let made = threads.into_iter().map(|thread| match thread.join() {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        Ok(made.collect::<Result<Vec<Vec<Account>>, ProgramError>>()?.into_iter().flatten().collect())
    })
}
