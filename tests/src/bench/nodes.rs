//! Many DHT nodes on the hosts of a lab.

use std::time::{Duration, Instant};

use crate::lab::{Host, Impairment, Lab};
use crate::phone::{Directory, DirectoryPlan};

use super::BenchError;

/// Tables that have not grown for so long are as full as they get.
const STILL: Duration = Duration::from_secs(5);
/// How long they may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Public hosts with a DHT node on each: no two nodes are nearer to each other than any others.
pub(super) struct Nodes {
    /// The nodes, with their hosts.
    pub all: Vec<(Host, Directory)>,
}

impl Nodes {
    /// `count` nodes, `access_ms` away from the core. All enter through `entry`, or, if there is none, through the first
    /// of them.
    pub(super) fn start(
        lab: &Lab,
        count: usize,
        access_ms: u64,
        entry: Option<String>,
    ) -> Result<Self, BenchError> {
        let mut all: Vec<(Host, Directory)> = Vec::new();
        for index in 0..count {
            let host = lab.host(&format!("n{index}"), Impairment::delay_ms(access_ms))?;
            let first = all.first().map(|(_, node)| node.address());
            let entry = entry.clone().or(first).into_iter().collect();
            let node = Directory::start(Some(&host), DirectoryPlan { entry, ..DirectoryPlan::default() })?;
            all.push((host, node));
        }
        Ok(Self { all })
    }

    /// Waits until every node knows others and no routing table grows any more; answers how many nodes each knows on average.
    pub(super) fn settle(&self) -> Result<f64, BenchError> {
        let end = Instant::now() + PATIENCE;
        let (mut known, mut since) = (0, Instant::now());
        loop {
            let tables = self.tables()?;
            let sum: u64 = tables.iter().sum();
            if sum != known {
                (known, since) = (sum, Instant::now());
            }
            if tables.iter().all(|table| *table > 0) && since.elapsed() >= STILL {
                return Ok(sum as f64 / tables.len() as f64);
            }
            if Instant::now() > end {
                return Err(BenchError::Other(format!("the routing tables do not settle: {tables:?}")));
            }
            std::thread::sleep(STILL / 5);
        }
    }

    fn tables(&self) -> Result<Vec<u64>, BenchError> {
        let table = |(host, node): &(Host, Directory)| -> Result<u64, BenchError> {
            Ok(node.health(Some(host))?["dht_nodes"].as_u64().unwrap_or(0))
        };
        self.all.iter().map(table).collect()
    }

    /// The address of a node; more than there are begin anew.
    pub(super) fn address(&self, index: usize) -> String {
        self.all.get(index % self.all.len().max(1)).map(|(_, node)| node.address()).unwrap_or_default()
    }

    /// Bytes that have passed the access links of all hosts, both directions.
    pub(super) fn bytes(&self) -> u64 {
        self.all.iter().map(|(host, _)| host.link().counters().bytes()).sum()
    }
}
