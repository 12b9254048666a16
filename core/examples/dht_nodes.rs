//! Many nodes of the network in one process, to see what they cost.
//!
//! `dht_nodes dht NODES LOOK-UPS` starts serving nodes on loopback that enter through the first one, then one terminal that publishes a number and
//! one that looks it up again and again. Prints times, the terminals' stream bytes and the process's memory. On
//! loopback there is no delay: what is measured is work, and how many round trips it takes is not.
//!
//! `dht_nodes idle ENTRY TERMINALS SECONDS` starts terminals that register with a directory and do nothing, and prints
//! their stream bytes and memory.

use std::time::{Duration, Instant};

use offhook::net::{LookupEvent, Net, NetConfig, NetEvent, Role};
use offhook::proto::identity::{IdentityKey, SealKey, SignedCert, TerminalKey};
use offhook::proto::number::{NodeAddr, Number};
use offhook::proto::proof::{Miner, NumberProof};
use offhook::proto::record::{AccountRecord, RecordSet, TerminalRecord};
use offhook::proto::wire::UnixMillis;
use tokio::sync::mpsc;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["dht", nodes, lookups] => dht(nodes.parse()?, lookups.parse()?).await,
        ["idle", entry, terminals, seconds] => {
            idle(entry.parse()?, terminals.parse()?, seconds.parse()?).await
        }
        _ => Err("usage: dht_nodes dht NODES LOOK-UPS | idle ENTRY TERMINALS SECONDS".into()),
    }
}

async fn idle(entry: NodeAddr, terminals: u32, seconds: u64) -> Result<(), Failure> {
    let (account, empty) = (Account::make()?, memory_kb());
    let mut running = Vec::new();
    for n in 0..terminals {
        let net =
            start(Role::Terminal, 10_000 + n, Some(account.cert(10_000 + n)), std::slice::from_ref(&entry))
                .await?;
        wait(&net, |status| !status.addresses.is_empty()).await?;
        running.push(net);
    }
    for minute in 0..=seconds / 60 {
        if minute > 0 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let per_terminal = memory_kb().saturating_sub(empty) / u64::from(terminals);
        println!("minute={minute} kb_per_terminal={per_terminal} rss_kb={}", memory_kb());
        for line in running.iter().take(1).map(Net::metrics).collect::<String>().lines() {
            if line.contains("bandwidth_bytes_total") {
                println!("{line}");
            }
        }
    }
    Ok(())
}

async fn dht(nodes: u32, lookups: u32) -> Result<(), Failure> {
    let empty = memory_kb();
    let mut running = Vec::new();
    let mut entry = Vec::new();
    for n in 0..nodes {
        let net = start(Role::Directory, n, None, &entry).await?;
        if entry.is_empty() {
            entry.push(address(&net).await?);
        }
        running.push(net);
    }
    let known = |net: &Net| net.status().dht_nodes;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let table: usize = running.iter().map(known).sum();
    println!(
        "nodes={nodes} kb_per_node={} table={}",
        (memory_kb() - empty) / u64::from(nodes),
        table / nodes as usize
    );

    let account = Account::make()?;
    let publisher = start(Role::Terminal, 10_000, Some(account.cert(10_000)), &entry[..1]).await?;
    wait(&publisher, |status| !status.addresses.is_empty()).await?;
    let started = Instant::now();
    let published = publisher.publish(account.key()?, account.set(publisher.addresses())).await?;
    println!("publish_ms={} {published:?}", started.elapsed().as_millis());

    let mut times = Vec::new();
    for n in 0..lookups {
        let net = start(Role::Terminal, 20_000 + n, None, &entry[..1]).await?;
        wait(&net, |status| status.links.iter().any(|link| link.up)).await?;
        let started = Instant::now();
        let mut lookup = net.lookup(account.key()?, &[]);
        while let Some(event) = lookup.next().await {
            if matches!(event, LookupEvent::Found { .. }) {
                times.push(started.elapsed().as_millis());
                break;
            }
        }
        net.shutdown().await;
    }
    times.sort_unstable();
    println!("lookup_ms={times:?}");
    tokio::time::sleep(Duration::from_secs(30)).await;
    println!("publisher: status={:?}", publisher.status().peers);
    for line in publisher.metrics().lines().filter(|line| line.contains("bandwidth")) {
        println!("{line}");
    }
    Ok(())
}

async fn start(role: Role, n: u32, cert: Option<SignedCert>, entry: &[NodeAddr]) -> Result<Net, Failure> {
    let mut config = NetConfig::new(seed(n), role);
    config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse()?];
    config.entry = entry.to_vec();
    config.cert = cert;
    let (net, events) = Net::start(config).await?;
    tokio::spawn(drain(events));
    Ok(net)
}

fn seed(n: u32) -> [u8; 32] {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    seed
}

async fn drain(mut events: mpsc::Receiver<NetEvent>) {
    while events.recv().await.is_some() {}
}

async fn wait(net: &Net, ready: impl FnMut(&offhook::net::NetStatus) -> bool) -> Result<(), Failure> {
    net.watch().wait_for(ready).await?;
    Ok(())
}

async fn address(net: &Net) -> Result<NodeAddr, Failure> {
    wait(net, |status| !status.addresses.is_empty()).await?;
    Ok(net.addresses().remove(0))
}

/// Resident memory of this process.
fn memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

struct Account {
    identity: IdentityKey,
    terminal: TerminalKey,
    number: Number,
    proof: NumberProof,
}

impl Account {
    fn make() -> Result<Self, Failure> {
        let identity = IdentityKey::from_seed([1; 32]);
        let (proof, number) = Miner::new().mine(&identity.public(), 0..100_000).ok_or("no number")?;
        let terminal = TerminalKey::from_seed(seed(10_000));
        Ok(Self { identity, terminal, number: Number::Plain(number), proof: NumberProof::Plain(proof) })
    }

    fn key(&self) -> Result<offhook::proto::number::RecordKey, Failure> {
        Ok(self.number.record_key(None).ok_or("a plain number has a key")?)
    }

    fn cert(&self, n: u32) -> SignedCert {
        let seal = SealKey::from_seed([2; 32]).public();
        SignedCert::issue(&self.identity, TerminalKey::from_seed(seed(n)).public(), seal, now())
    }

    fn set(&self, addrs: Vec<NodeAddr>) -> RecordSet {
        let seq = now();
        let account = AccountRecord {
            number: self.number.clone(),
            proof: self.proof.clone(),
            identity: self.identity.public(),
            mailbox: SealKey::from_seed([3; 32]).public(),
            mailboxes: Vec::new(),
            revoked: Vec::new(),
            seq,
            expires: seq.plus(Duration::from_secs(86_400)),
        };
        let terminal = TerminalRecord {
            number: self.number.clone(),
            cert: self.cert(10_000),
            addrs,
            seq,
            expires: seq.plus(Duration::from_secs(3_600)),
        };
        RecordSet {
            account: Some(account.sign(&self.identity)),
            terminals: vec![terminal.sign(&self.terminal)],
        }
    }
}

fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}
