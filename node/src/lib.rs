//! The headless terminal: everything behind the binary `offhook`.
//!
//! [`cli`] has the words and flags, [`config`] joins them with the configuration file, [`commands`] does
//! what they say. A command talks to a [`telephone::Telephone`]: one of its own ([`own`]) or the running
//! one behind the [`control`] socket.

pub mod cli;
pub mod commands;
pub mod config;
pub mod console;
pub mod control;
pub mod exit;
pub mod output;
pub mod own;
pub mod password;
pub mod signals;
pub mod telephone;
pub mod text;
mod times;

use clap::Parser as _;
use cli::Cli;
use exit::{Exit, Failure, Outcome};
use offhook::api::{ApiError, ErrorCode};
use output::Printer;
use std::io::IsTerminal as _;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Parses the command line, does what it says, and gives the exit code.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let printer = Printer::new(cli.global.json);
    let outcome = log_to_stderr().and_then(|()| run(cli, printer));
    match outcome {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            printer.failure(&failure);
            failure.exit
        }
    }
}

fn run(cli: Cli, printer: Printer) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads()).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::system(format!("No threads can be started: {error}.")))?;
    let outcome = runtime.block_on(commands::execute(cli, printer));
    // A thread that waits for a line on standard input can't be woken: don't wait for it.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

/// What clap says of a wrong command line, and of `--help`: in its own words, and to scripts in JSON too.
fn refuse(error: &clap::Error) -> Exit {
    let wrong = error.use_stderr();
    if wrong && std::env::args_os().any(|word| word == "--json") {
        // What is wrong stands before the first empty line, in one line or several.
        let text = error.to_string();
        let said: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let sentence = text::sentence(said.join(" ").trim_start_matches("error: "));
        Printer::new(true).refusal(&ApiError::new(ErrorCode::BadInput, sentence));
    }
    // A reader that has gone does not want to know more.
    let _ = error.print();
    if wrong { Exit::BadInput } else { Exit::Ok }
}

/// One thread waits for the network while another computes; more cores don't make a telephone better.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4))
}

/// `OFFHOOK_LOG` says how much, in the syntax of tracing (`debug`, `offhook=trace`). Without it only our own
/// warnings: what the libraries warn of is everyday life on a network.
fn log_to_stderr() -> Outcome {
    let wanted = std::env::var("OFFHOOK_LOG").unwrap_or_default();
    let wanted = if wanted.is_empty() { "error,offhook=warn,offhook_node=warn" } else { &wanted };
    let filter = EnvFilter::builder().parse(wanted);
    let filter = filter.map_err(|error| {
        Failure::bad_input(format!("OFFHOOK_LOG: \"{wanted}\" is no log filter: {error}."))
    })?;
    // These tell addresses; and every challenge of a relay is an error to the first.
    let filter =
        ["stun_proto=off", "turn_client_proto=off", "portmapper=off", "igd_next=off", "netwatch=off"]
            .into_iter()
            .fold(filter, |filter, silent| filter.add_directive(silent.parse().expect("a directive")));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    Ok(())
}
