//! Set-up, demo, tests and benchmarks: `cargo xtask help`.

mod fuzz;
mod package;
mod run;
mod setup;
mod site;
mod test;
mod venv;
mod voice;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use package::{Package, Plan};
use run::{Outcome, Profile};

/// Set-up, demo, tests and benchmarks of the Offhook workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = false)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install the system packages and tools that building and testing need, after saying which; the other tasks do so
    /// for what they need
    Setup,
    /// Build the directory's web site, which the next `cargo build` puts into `offhook-directory`; takes Node
    Site,
    /// A Debian package, `target/package/NAME_VERSION_ARCH.deb`; prints where it is
    Package {
        /// Which one
        #[arg(default_value = "directory")]
        name: Package,
        /// Pack this program instead of building one (with the site, in the release profile)
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
        /// Put the package into this folder [default: target/package]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Pack quickly rather than small: for tests
        #[arg(long)]
        quick: bool,
    },
    /// One telephone call on this machine, from number to speech, step by step with times
    Demo,
    /// Everything that CI runs: format, licences, lints, tests, documentation, a short fuzz run
    Test {
        /// Inputs that each fuzz target is given, the same ones each time
        #[arg(long, default_value_t = 10_000)]
        fuzz_inputs: u32,
    },
    /// Fuzz every decoder
    Fuzz {
        /// Seconds each target runs
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Only the targets whose name contains this
        target: Option<String>,
    },
    /// A benchmark; its last line is `NAME: key=value key=value ...`
    Bench {
        /// Which one
        name: Bench,
        /// Print every sample as JSON before the last line
        #[arg(long)]
        json: bool,
        /// Calls, look-ups, seconds of idling, pairs, changes of a kind, traces or terminals to measure; each benchmark has its own default
        #[arg(long)]
        count: Option<u32>,
        /// Only pairs of networks whose names (`CALLER CALLEE`) hold this (reach), or kinds of change (gap) or network (traces) or
        /// conditions (voice, onset) or parts (directory: terminals, logins, lost) whose names do
        #[arg(long)]
        filter: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Bench {
    /// Call set-up: 20 DHT servers, RTT 100 ms, both terminals behind port-restricted NATs
    Setup,
    /// Publishing and look-up among 100 DHT nodes
    Dht,
    /// An idle terminal and what it costs its directory
    Idle,
    /// Who reaches whom: a call between every two kinds of network, RTT 100 ms
    Reach,
    /// For how long nothing is heard when the network changes under a call, RTT 100 ms
    Gap,
    /// What passes the directory while 1, 5 and 20 calls are direct
    Load,
    /// A call with a fifth of all packets lost, and one to a record with fifteen addresses at which nobody is
    Hardship,
    /// Thousands of made-up networks in virtual time: what of the speech is heard, and when; draws a picture
    Traces,
    /// The voice engine alone over networks that become bad during a call, in virtual time, scored by PESQ (tests/phonebench)
    Onset,
    /// What one directory carries on one core: look-ups, registrations, log-ins, invites, idle terminals; and what is lost when it
    /// is killed 200 times
    Directory,
    /// What the mailboxes of one directory carry on one core, and what of 10,000 messages is lost or doubled by kills
    Mailbox,
    /// How speech sounds and when it is heard, beside other telephones: loss, jitter, a narrow link (tests/phonebench)
    Voice,
}

impl Bench {
    fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Dht => "dht",
            Self::Idle => "idle",
            Self::Reach => "reach",
            Self::Gap => "gap",
            Self::Load => "load",
            Self::Hardship => "hardship",
            Self::Traces => "traces",
            Self::Onset => "onset",
            Self::Directory => "directory",
            Self::Mailbox => "mailbox",
            Self::Voice => "voice",
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Setup => setup::setup(),
        Task::Site => site::build(),
        Task::Package { name, program, out, quick } => {
            let out = out.unwrap_or_else(|| run::target().join("package"));
            package::package(name, &Plan { program, out, quick })
        }
        Task::Demo => demo(),
        Task::Test { fuzz_inputs } => test::test(fuzz_inputs),
        Task::Fuzz { seconds, target } => fuzz::fuzz(fuzz::Length::Seconds(seconds), target.as_deref()),
        Task::Bench { name, json, count, filter } => bench(name, json, count, filter),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Outcome {
    setup::for_building()?;
    run::build_programs(Profile::Dev)?;
    run::run(&mut run::own_program(Profile::Dev, "offhook-demo", &[]))
}

fn bench(name: Bench, json: bool, count: Option<u32>, filter: Option<String>) -> Outcome {
    if matches!(name, Bench::Voice | Bench::Onset) {
        return voice::voice(name.name(), json, count, filter.as_deref());
    }
    setup::for_laboratory()?;
    run::build_programs(Profile::Measured)?;
    let mut arguments = vec![name.name().to_owned()];
    if json {
        arguments.push("--json".to_owned());
    }
    if let Some(count) = count {
        arguments.extend(["--count".to_owned(), count.to_string()]);
    }
    if let Some(filter) = filter {
        arguments.extend(["--filter".to_owned(), filter]);
    }
    run::run(&mut run::as_root(run::own_program(Profile::Measured, "offhook-bench", &arguments)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
