//! Many DHT nodes on the hosts of a lab.

use crate::lab::{Host, Impairment, Lab, LabError};
use crate::phone::{Directory, DirectoryPlan};

use super::BenchError;

/// Ports of the nodes on one host: the first, and up.
const FIRST_PORT: u16 = 4001;

/// Public hosts with DHT nodes on them.
pub(super) struct Nodes {
    pub hosts: Vec<Host>,
    pub nodes: Vec<Directory>,
}

impl Nodes {
    /// `per_host` nodes on each of `hosts` hosts, `access_ms` away from the core. All enter through `entry`, or,
    /// if there is none, through the first of them.
    pub(super) fn start(
        lab: &Lab,
        hosts: usize,
        per_host: u16,
        access_ms: u64,
        entry: Option<String>,
    ) -> Result<Self, BenchError> {
        let hosts = (0..hosts)
            .map(|i| lab.host(&format!("n{i}"), Impairment::delay_ms(access_ms)))
            .collect::<Result<Vec<_>, LabError>>()?;
        let mut nodes: Vec<Directory> = Vec::new();
        for index in 0..per_host {
            for host in &hosts {
                let first = nodes.first().map(Directory::address);
                let entry = entry.clone().or(first).into_iter().collect();
                let plan =
                    DirectoryPlan { port: Some(FIRST_PORT + index), entry, ..DirectoryPlan::default() };
                nodes.push(Directory::start(Some(host), plan)?);
            }
        }
        Ok(Self { hosts, nodes })
    }

    /// Bytes that have passed the access links of all hosts, both directions.
    pub(super) fn bytes(&self) -> u64 {
        self.hosts.iter().map(|host| host.link().counters().bytes()).sum()
    }
}
