//! `cargo xtask bench NAME`: the last line is `NAME: key=value key=value ...`.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use offhook_tests::bench;

#[derive(Debug, Parser)]
struct Cli {
    /// Which benchmark
    name: Name,
    /// Print every sample as JSON before the last line
    #[arg(long)]
    json: bool,
    /// Calls, look-ups or seconds of idling to measure
    #[arg(long)]
    count: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    Setup,
    Dht,
    Idle,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.name {
        Name::Setup => bench::setup(cli.count.unwrap_or(10)),
        Name::Dht => bench::dht(cli.count.unwrap_or(40)),
        Name::Idle => bench::idle(cli.count.unwrap_or(180)),
    };
    match result {
        Ok(report) => {
            if cli.json {
                println!("{}", report.json());
            }
            println!("{}", report.line());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
