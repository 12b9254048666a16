//! Publishing and looking up among 100 DHT nodes on 10 hosts, with a round trip of 100 ms between any two hosts.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use offhook::net::{LookupEvent, Net, NetConfig, Role};
use offhook_proto::number::NodeAddr;
use serde::Serialize;

use super::nodes::Nodes;
use super::{BenchError, Report, progress};
use crate::hostile::Person;
use crate::hostile::person::now;
use crate::lab::{Host, Impairment, Lab, Nat};
use crate::phone::Directory;
use crate::score::{median, percentile};

const HOSTS: usize = 10;
const NODES_PER_HOST: u16 = 10;
const ACCESS_MS: u64 = 25;
/// Numbers that are published; more look-ups than these take them in turn.
const NUMBERS: u8 = 20;
/// The nodes fill their routing tables meanwhile.
const SETTLE: Duration = Duration::from_secs(15);
/// A publication that takes longer counts as this long.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Default, Serialize)]
struct Samples {
    publish_ms: Vec<f64>,
    holders: Vec<usize>,
    found_ms: Vec<f64>,
    missed: u32,
    answered: Vec<usize>,
    node_kb: f64,
}

/// Publishes numbers from one terminal behind a NAT and looks them up from others, each of which has just come into
/// the network.
///
/// `p50_ms` and `p95_ms` are times to the first verified record, `hops` is how many nodes had answered when a look-up
/// ended, `kb_per_node` is what passed a node's access link during all of it.
///
/// # Errors
/// When nodes don't come up or the library's network does not start.
pub fn dht(lookups: u32) -> Result<Report, BenchError> {
    let lab = Lab::new("dht")?;
    let nodes = Nodes::start(&lab, HOSTS, NODES_PER_HOST, ACCESS_MS, None)?;
    progress("100 DHT nodes run");
    let people = people();
    std::thread::sleep(SETTLE);
    let before = nodes.bytes();
    let access = Impairment::delay_ms(ACCESS_MS);
    let samples = Mutex::new(Samples::default());
    let publisher = lab.router("natp", Nat::PortRestricted, access.clone())?.host("p")?;
    let entry =
        |index: usize| nodes.nodes.get(index % nodes.nodes.len()).map(Directory::address).unwrap_or_default();
    on(&publisher, publish_all(entry(3), &people, &samples))?;
    for round in 0..lookups {
        // A home of its own for each: nothing is remembered, no mapping of the NAT is left.
        let router = lab.router(&format!("natl{round}"), Nat::PortRestricted, access.clone())?;
        let host = router.host(&format!("l{round}"))?;
        let Some(person) = people.get(round as usize % people.len()) else { break };
        on(&host, look_up(round, entry(17 + 7 * round as usize), person, &samples))?;
    }
    let mut samples = samples.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    samples.node_kb = (nodes.bytes() - before) as f64 / 1024.0 / nodes.nodes.len() as f64;
    report(&samples, lookups)
}

fn report(samples: &Samples, lookups: u32) -> Result<Report, BenchError> {
    let answered: Vec<f64> = samples.answered.iter().map(|count| *count as f64).collect();
    Ok(Report {
        name: "dht",
        figures: vec![
            ("p50_ms", median(&samples.found_ms)),
            ("p95_ms", percentile(&samples.found_ms, 95.0)),
            ("found_pct", 100.0 * samples.found_ms.len() as f64 / f64::from(lookups.max(1))),
            ("publish_p95_ms", percentile(&samples.publish_ms, 95.0)),
            ("hops", median(&answered)),
            ("kb_per_node", samples.node_kb),
        ],
        samples: serde_json::to_value(samples).map_err(|error| BenchError::Other(error.to_string()))?,
    })
}

/// Working their numbers out takes a second each: two at a time.
fn people() -> Vec<Person> {
    let half = |from: u8| move || (from..NUMBERS).step_by(2).map(Person::mine).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let threads = [scope.spawn(half(0)), scope.spawn(half(1))];
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Runs a task of the library on a host.
fn on(host: &Host, task: impl Future<Output = Result<(), BenchError>> + Send) -> Result<(), BenchError> {
    host.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(task)
    })?
}

async fn network(entry: String, seed: u8) -> Result<Net, BenchError> {
    let entry: NodeAddr =
        entry.parse().map_err(|_| BenchError::Other(format!("{entry} is no address of a node")))?;
    let mut config = NetConfig::new([seed; 32], Role::Terminal);
    config.entry = vec![entry];
    let (net, mut events) = Net::start(config).await.map_err(|error| BenchError::Other(error.to_string()))?;
    // Somebody has to read them.
    let wait = async {
        while let Some(event) = events.recv().await {
            if matches!(event, offhook::net::NetEvent::EntryUp { .. }) {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.map_err(|_| BenchError::Other("no entry".to_owned()))?;
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    Ok(net)
}

async fn publish_all(entry: String, people: &[Person], samples: &Mutex<Samples>) -> Result<(), BenchError> {
    let net = network(entry.clone(), 200).await?;
    let addr: Vec<NodeAddr> = entry.parse().into_iter().collect();
    for person in people {
        let set = person.set(now(), &addr);
        let start = Instant::now();
        let published = tokio::time::timeout(PATIENCE, net.publish(person.key, set)).await;
        let took = start.elapsed().as_secs_f64() * 1e3;
        if let Ok(mut samples) = samples.lock() {
            samples.publish_ms.push(took);
            samples
                .holders
                .push(published.map_or(0, |result| result.map_or(0, |published| published.holders)));
            progress(&format!("published in {took:.0} ms, held by {:?} nodes", samples.holders.last()));
        }
    }
    net.shutdown().await;
    Ok(())
}

async fn look_up(
    round: u32,
    entry: String,
    person: &Person,
    samples: &Mutex<Samples>,
) -> Result<(), BenchError> {
    let net = network(entry, (round % 100) as u8).await?;
    let start = Instant::now();
    let mut lookup = net.lookup(person.key, &[]);
    let mut found = None;
    while let Some(event) = lookup.next().await {
        match event {
            LookupEvent::Found { .. } => {
                found.get_or_insert_with(|| start.elapsed().as_secs_f64() * 1e3);
            }
            LookupEvent::Finished { answered, .. } => {
                if let Ok(mut samples) = samples.lock() {
                    samples.answered.push(answered);
                }
            }
        }
    }
    if let Ok(mut samples) = samples.lock() {
        match found {
            Some(took) => samples.found_ms.push(took),
            None => samples.missed += 1,
        }
        progress(&format!("look-up {}: {found:.0?} ms", round + 1));
    }
    net.shutdown().await;
    Ok(())
}
