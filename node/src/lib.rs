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
pub mod metrics;
pub mod output;
pub mod own;
pub mod password;
pub mod signals;
pub mod telephone;
pub mod text;

use clap::Parser as _;
use cli::Cli;
use exit::{Exit, Failure};
use output::Printer;
use std::io::IsTerminal as _;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Parses the command line, does what it says, and gives the exit code.
pub fn main() -> Exit {
    // clap prints its own errors and help, and ends the program with 2 or 0.
    let cli = Cli::parse();
    log_to_stderr();
    let printer = Printer::new(cli.global.json);
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(threads()).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                printer.failure(&Failure::failed(format!("No threads can be started: {error}.")));
                return Exit::Failed;
            }
        };
    let outcome = runtime.block_on(commands::execute(cli, printer));
    // A thread that waits for a line on standard input can't be woken: don't wait for it.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match outcome {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            printer.failure(&failure);
            failure.exit
        }
    }
}

/// One thread waits for the network while another computes; more cores don't make a telephone better.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4))
}

/// `OFFHOOK_LOG` says how much, in the syntax of tracing (`debug`, `offhook=trace`). Without it only our own
/// warnings: what the libraries warn of is everyday life on a network.
fn log_to_stderr() {
    let quiet = || EnvFilter::new("error,offhook=warn,offhook_node=warn");
    let filter = EnvFilter::try_from_env("OFFHOOK_LOG").unwrap_or_else(|_| quiet());
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}
