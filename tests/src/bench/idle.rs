//! What a telephone costs while nobody calls: 3 directories, 100 DHT nodes, terminals behind NATs.

use std::time::Duration;

use serde_json::json;

use super::nodes::Nodes;
use super::terminal::Telephone;
use super::{BenchError, Report, numbers, progress};
use crate::lab::{Host, Impairment, Lab, Nat};
use crate::people::Person;
use crate::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use crate::score::median;

const NODES: usize = 100;
const ACCESS_MS: u64 = 25;
/// Programs that are watched.
const TERMINALS: [&str; 8] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"];
/// Further terminals, made of the library, so that a directory's growth shows: homes, and terminals in each.
const HOMES: u8 = 16;
const IN_A_HOME: u8 = 12;

/// Watches idle terminals for `seconds`.
///
/// `bytes_per_hour` is what passed a terminal's access link in that time, scaled to an hour, plus everything it needed
/// to come on line and publish: it publishes once an hour, so this is more than it will ever need. `rss_mb` is its
/// resident memory. `directory_kb_per_terminal` is by how much the memory of a directory grew for each of the 200 terminals
/// registered with it.
///
/// # Errors
/// When a program does not come up.
pub fn idle(seconds: u32) -> Result<Report, BenchError> {
    let lab = Lab::new("idle")?;
    let (directories, nodes) = network(&lab)?;
    progress(&format!("3 directories and {NODES} DHT nodes run; each knows {:.0} others", nodes.settle()?));

    // All terminals use one directory, so that its growth shows.
    let (host, directory) = directories.last().ok_or_else(|| BenchError::Other("no directory".to_owned()))?;
    let before = directory.process.memory();
    let mut terminals = programs(&lab, &directory.address())?;
    let (_homes, _others) = crowd(&lab, &directory.address())?;
    let registered = directory.health(Some(host))?["registered"].as_u64().unwrap_or(0);
    progress(&format!("{registered} terminals are on line"));
    for (terminal, _) in &mut terminals {
        // What it does once when it comes on line has ended when only the directory is left.
        terminal.until_alone()?;
    }
    let counted = |(_, home): &(Terminal, Host)| home.link().counters().bytes();
    let start: Vec<u64> = terminals.iter().map(counted).collect();
    // Time is what is measured here.
    std::thread::sleep(Duration::from_secs(u64::from(seconds)));
    let idle: Vec<u64> =
        terminals.iter().zip(&start).map(|(terminal, start)| counted(terminal) - start).collect();

    let scale = 3600.0 / f64::from(seconds.max(1));
    let per_hour: Vec<f64> =
        idle.iter().zip(&start).map(|(idle, start)| *idle as f64 * scale + *start as f64).collect();
    let memory: Vec<f64> =
        terminals.iter().map(|(terminal, _)| terminal.process.memory() as f64 / 1e6).collect();
    let after = directory.process.memory();
    let growth = after.saturating_sub(before) as f64 / 1024.0 / registered.max(1) as f64;
    Ok(Report {
        name: "idle",
        figures: numbers(vec![
            ("bytes_per_hour", median(&per_hour)),
            ("rss_mb", median(&memory)),
            ("directory_kb_per_terminal", growth),
        ]),
        table: String::new(),
        samples: json!({
            "seconds": seconds, "idle_bytes": idle, "online_bytes": start, "rss_mb": memory,
            "directory_rss_before": before, "directory_rss_after": after, "registered": registered,
        }),
    })
}

fn network(lab: &Lab) -> Result<(Vec<(Host, Directory)>, Nodes), BenchError> {
    let mut directories: Vec<(Host, Directory)> = Vec::new();
    for index in 0..3 {
        let host = lab.host(&format!("d{index}"), Impairment::delay_ms(ACCESS_MS))?;
        let entry = directories.first().map(|(_, first)| first.address()).into_iter().collect();
        let plan = DirectoryPlan { entry, ..DirectoryPlan::default() };
        let directory = Directory::start(Some(&host), plan)?;
        directories.push((host, directory));
    }
    let first = directories.first().map(|(_, first)| first.address());
    let nodes = Nodes::start(lab, NODES, ACCESS_MS, first)?;
    Ok((directories, nodes))
}

fn home(lab: &Lab, name: &str) -> Result<Host, BenchError> {
    let router = lab.router(&format!("nat{name}"), Nat::PortRestricted, Impairment::delay_ms(ACCESS_MS))?;
    Ok(router.host(name)?)
}

fn programs(lab: &Lab, entry: &str) -> Result<Vec<(Terminal, Host)>, BenchError> {
    let mut terminals = Vec::new();
    for account in Account::create_all(TERMINALS)? {
        let host = home(lab, &account.id)?;
        let plan = TerminalPlan { entry: vec![entry.to_owned()], ..TerminalPlan::default() };
        terminals.push((Terminal::online(account, Some(&host), plan)?, host));
    }
    Ok(terminals)
}

/// Terminals of the library; they last as long as their homes.
fn crowd(lab: &Lab, entry: &str) -> Result<(Vec<Host>, Vec<Telephone>), BenchError> {
    let (mut homes, mut telephones) = (Vec::new(), Vec::new());
    for index in 0..HOMES {
        let host = home(lab, &format!("h{index}"))?;
        for seed in 0..IN_A_HOME {
            let person = Person::unproven(index * IN_A_HOME + seed);
            telephones.push(Telephone::register(&host, entry, &person)?);
        }
        homes.push(host);
    }
    Ok((homes, telephones))
}
