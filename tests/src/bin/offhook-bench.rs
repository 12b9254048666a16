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
    /// Calls, look-ups, seconds of idling, pairs, changes of a kind, traces or terminals to measure
    #[arg(long)]
    count: Option<u32>,
    /// Only pairs of networks whose names (`CALLER CALLEE`) hold this (reach), or kinds of change (gap) or network (traces) or
    /// parts (directory: terminals, logins, lost) whose names do
    #[arg(long)]
    filter: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    Setup,
    Dht,
    Idle,
    Reach,
    Gap,
    Load,
    Hardship,
    Traces,
    Directory,
    /// The flood of `mailbox` alone
    Flood,
    Mailbox,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.name {
        Name::Setup => bench::setup(cli.count.unwrap_or(10)),
        Name::Dht => bench::dht(cli.count.unwrap_or(40)),
        Name::Idle => bench::idle(cli.count.unwrap_or(180)),
        Name::Gap => bench::gap(cli.count.unwrap_or(20), cli.filter.as_deref()),
        Name::Load => bench::load(cli.count),
        Name::Hardship => bench::hardship(cli.count.unwrap_or(20)),
        Name::Traces => bench::traces(cli.count.unwrap_or(2000), cli.filter.as_deref()),
        Name::Directory => bench::directory(cli.count.unwrap_or(2000), cli.filter.as_deref()),
        Name::Flood => bench::flood(),
        Name::Mailbox => bench::mailbox(cli.count.unwrap_or(10_000)),
        Name::Reach => bench::reach(cli.count, cli.filter.as_deref()),
    };
    match result {
        Ok(report) => {
            if cli.json {
                println!("{}", report.json());
            }
            if !report.table.is_empty() {
                println!("{}", report.table);
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
