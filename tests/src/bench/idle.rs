//! What a telephone costs while nobody calls: 3 directories, 100 DHT nodes, terminals behind NATs.

use std::time::Duration;

use serde_json::json;

use super::nodes::Nodes;
use super::{BenchError, Report, progress};
use crate::lab::{Impairment, Lab, Nat};
use crate::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use crate::score::median;

const HOSTS: usize = 10;
const NODES_PER_HOST: u16 = 10;
const ACCESS_MS: u64 = 25;
const TERMINALS: [&str; 8] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"];
/// What a terminal does once when it comes on line (certificates, first publication) has ended by then.
const SETTLE: Duration = Duration::from_secs(20);

/// Watches idle terminals for `seconds`.
///
/// `bytes_per_hour` is what passed a terminal's access link in that time, scaled to an hour, plus everything it needed
/// to come on line and publish: it publishes once an hour, so this is more than it will ever need. `rss_mb` is its
/// resident memory. `directory_kb_per_terminal` is by how much the memory of a directory grew for each terminal
/// registered with it.
///
/// # Errors
/// When a program does not come up.
pub fn idle(seconds: u32) -> Result<Report, BenchError> {
    let lab = Lab::new("idle")?;
    let mut directories: Vec<Directory> = Vec::new();
    let mut hosts = Vec::new();
    for index in 0..3 {
        let host = lab.host(&format!("d{index}"), Impairment::delay_ms(ACCESS_MS))?;
        let entry = directories.first().map(Directory::address).into_iter().collect();
        directories.push(Directory::start(Some(&host), DirectoryPlan { entry, ..DirectoryPlan::default() })?);
        hosts.push(host);
    }
    let first = directories.first().map(Directory::address);
    let _nodes = Nodes::start(&lab, HOSTS, NODES_PER_HOST, ACCESS_MS, first)?;
    progress("3 directories and 100 DHT nodes run");
    std::thread::sleep(SETTLE);

    // All terminals use one directory, so that its growth shows.
    let home = directories.last().ok_or_else(|| BenchError::Other("no directory".to_owned()))?;
    let before = home.process.memory();
    let accounts = Account::create_all(TERMINALS)?;
    let mut terminals = Vec::new();
    for account in accounts {
        let router = lab.router(&account.id, Nat::PortRestricted, Impairment::delay_ms(ACCESS_MS))?;
        let host = router.host(&format!("h{}", account.id))?;
        let plan = TerminalPlan { entry: vec![home.address()], ..TerminalPlan::default() };
        terminals.push((Terminal::online(account, Some(&host), plan)?, host));
    }
    progress("the terminals are on line");
    std::thread::sleep(SETTLE);
    let start: Vec<u64> = terminals.iter().map(|(_, host)| host.link().counters().bytes()).collect();
    std::thread::sleep(Duration::from_secs(u64::from(seconds)));
    let idle: Vec<u64> = terminals
        .iter()
        .zip(&start)
        .map(|((_, host), start)| host.link().counters().bytes() - start)
        .collect();

    let per_hour: Vec<f64> = idle
        .iter()
        .zip(&start)
        .map(|(idle, start)| *idle as f64 * 3600.0 / f64::from(seconds) + *start as f64)
        .collect();
    let memory: Vec<f64> =
        terminals.iter().map(|(terminal, _)| terminal.process.memory() as f64 / 1e6).collect();
    let growth = home.process.memory().saturating_sub(before) as f64 / 1024.0 / TERMINALS.len() as f64;
    Ok(Report {
        name: "idle",
        figures: vec![
            ("bytes_per_hour", median(&per_hour)),
            ("rss_mb", median(&memory)),
            ("directory_kb_per_terminal", growth),
        ],
        samples: json!({
            "seconds": seconds, "idle_bytes": idle, "online_bytes": start, "rss_mb": memory,
            "directory_rss_before": before, "directory_rss_after": home.process.memory(),
        }),
    })
}
