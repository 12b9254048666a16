//! Publishing and looking up among 100 DHT nodes with a round trip of 100 ms between any two.

use std::time::{Duration, Instant};

use offhook::net::LookupEvent;
use offhook_proto::number::RecordKey;
use serde::Serialize;

use super::nodes::Nodes;
use super::terminal::Telephone;
use super::{BenchError, Report, numbers, progress};
use crate::lab::{Host, Impairment, Lab, Nat};
use crate::people::{Person, now};
use crate::score::{median, percentile};

const NODES: usize = 100;
const ROUND_TRIP_MS: f64 = 100.0;
/// A packet passes two access links, a round trip four.
const ACCESS_MS: u64 = 25;
/// Numbers that are published; more look-ups than these take them in turn.
const NUMBERS: u8 = 20;
/// A publication that takes longer, or fails, counts as this long.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Default, Serialize)]
struct Samples {
    publish_ms: Vec<f64>,
    /// Of each publication; 0 of one that failed.
    holders: Vec<usize>,
    found_ms: Vec<f64>,
    missed: u32,
    answered: Vec<usize>,
    node_kb: f64,
}

/// Publishes numbers and looks them up, each time by a terminal behind a NAT of its own that has just come into the network
/// through another node.
///
/// `p50_ms` and `p95_ms` are times to the first verified record, `round_trips` the median of them in round trips of 100 ms,
/// `nodes_asked` how many nodes had answered when a look-up ended, `kb_per_node` what passed a node's access link during
/// all of it.
///
/// # Errors
/// When nodes don't come up or the library's network does not start.
pub fn dht(lookups: u32) -> Result<Report, BenchError> {
    let lab = Lab::new("dht")?;
    let nodes = Nodes::start(&lab, NODES, ACCESS_MS, None)?;
    let known = nodes.settle()?;
    progress(&format!("{NODES} DHT nodes run; each knows {known:.0} others"));
    let people = people();
    let before = nodes.bytes();
    let mut samples = Samples::default();
    for (index, person) in people.iter().enumerate() {
        let host = home(&lab, &format!("p{index}"))?;
        publish(&host, &nodes.address(3 + 5 * index), person, &mut samples)?;
    }
    for (round, person) in (0..lookups as usize).zip(people.iter().cycle()) {
        let host = home(&lab, &format!("l{round}"))?;
        // Somebody else, and each time another one.
        let caller = Person::unproven(100 + (round % 100) as u8);
        look_up(&host, &nodes.address(17 + 7 * round), &caller, person.key(), &mut samples)?;
    }
    samples.node_kb = (nodes.bytes() - before) as f64 / 1024.0 / NODES as f64;
    report(&samples, lookups)
}

fn report(samples: &Samples, lookups: u32) -> Result<Report, BenchError> {
    let answered: Vec<f64> = samples.answered.iter().map(|count| *count as f64).collect();
    let published = samples.holders.iter().filter(|holders| **holders > 0).count();
    Ok(Report {
        name: "dht",
        figures: numbers(vec![
            ("p50_ms", median(&samples.found_ms)),
            ("p95_ms", percentile(&samples.found_ms, 95.0)),
            ("found_pct", 100.0 * samples.found_ms.len() as f64 / f64::from(lookups.max(1))),
            ("publish_p95_ms", percentile(&samples.publish_ms, 95.0)),
            ("published_pct", 100.0 * published as f64 / samples.holders.len().max(1) as f64),
            ("round_trips", median(&samples.found_ms) / ROUND_TRIP_MS),
            ("nodes_asked", median(&answered)),
            ("kb_per_node", samples.node_kb),
        ]),
        table: String::new(),
        samples: serde_json::to_value(samples).map_err(|error| BenchError::Other(error.to_string()))?,
    })
}

/// Working their numbers out takes a second each: two at a time.
fn people() -> Vec<Person> {
    let half = |from: u8| move || (from..=NUMBERS).step_by(2).map(Person::mine).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let threads = [scope.spawn(half(1)), scope.spawn(half(2))];
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// A home of its own for each: nothing is remembered, no mapping of the NAT is left.
fn home(lab: &Lab, name: &str) -> Result<Host, BenchError> {
    let router = lab.router(&format!("nat{name}"), Nat::PortRestricted, Impairment::delay_ms(ACCESS_MS))?;
    Ok(router.host(name)?)
}

/// Publishes a number from its own terminal.
fn publish(host: &Host, entry: &str, person: &Person, samples: &mut Samples) -> Result<(), BenchError> {
    let telephone = Telephone::register(host, entry, person)?;
    let (net, key) = (telephone.net.clone(), person.key());
    let set = person.set(now(), &net.addresses());
    let start = Instant::now();
    let published = telephone.run(async move {
        tokio::time::timeout(PATIENCE, net.publish(key, set)).await.map(|result| result.map(|p| p.holders))
    })?;
    let (holders, took) = match published {
        Ok(Ok(holders)) if holders > 0 => (holders, start.elapsed()),
        Ok(Ok(_) | Err(_)) | Err(_) => (0, PATIENCE),
    };
    progress(&format!("published in {} ms, held by {holders} nodes", took.as_millis()));
    samples.publish_ms.push(took.as_secs_f64() * 1e3);
    samples.holders.push(holders);
    Ok(())
}

/// Looks a number up to the end.
fn look_up(
    host: &Host,
    entry: &str,
    caller: &Person,
    key: RecordKey,
    samples: &mut Samples,
) -> Result<(), BenchError> {
    let telephone = Telephone::register(host, entry, caller)?;
    let net = telephone.net.clone();
    let (found, answered) = telephone.run(async move {
        let start = Instant::now();
        let mut lookup = net.lookup(key, &[]);
        let (mut found, mut nodes) = (None, 0);
        while let Some(event) = lookup.next().await {
            match event {
                LookupEvent::Found { .. } => {
                    found.get_or_insert_with(|| start.elapsed().as_secs_f64() * 1e3);
                }
                LookupEvent::Finished { answered, .. } => nodes = answered,
            }
        }
        (found, nodes)
    })?;
    progress(&format!("found after {found:.0?} ms, {answered} nodes had answered in the end"));
    samples.answered.push(answered);
    match found {
        Some(took) => samples.found_ms.push(took),
        None => samples.missed += 1,
    }
    Ok(())
}
