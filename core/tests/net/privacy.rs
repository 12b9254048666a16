//! What a stranger can learn of a terminal's own address: nothing.

use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, kad, noise, relay, yamux};
use offhook::proto::identity::TerminalId;

use crate::common::{PATIENCE, directory, online};
use crate::fixture::Party;

#[derive(NetworkBehaviour)]
struct Crawler {
    identify: identify::Behaviour,
    relay: relay::client::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
}

fn crawler() -> Swarm<Crawler> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key, relay| {
            let id = key.public().to_peer_id();
            let config = kad::Config::new(StreamProtocol::new("/offhook/kad/1"));
            let mut kad = kad::Behaviour::with_config(id, kad::store::MemoryStore::new(id), config);
            kad.set_mode(Some(kad::Mode::Client));
            Crawler {
                identify: identify::Behaviour::new(identify::Config::new("x".to_owned(), key.public())),
                relay,
                kad,
            }
        })
        .unwrap();
    swarm.with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60))).build()
}

/// The ports of the terminal's own sockets: whoever knows one knows its address.
fn ports(listen: &[offhook::proto::number::NodeAddr]) -> Vec<String> {
    let port = |addr: &offhook::proto::number::NodeAddr| addr.as_str().split('/').nth(4).map(str::to_owned);
    listen.iter().filter_map(port).collect()
}

/// A crawl through the DHT of one directory, and what it has seen of a terminal.
struct Crawl<'a> {
    swarm: Swarm<Crawler>,
    victim: &'a Party,
    /// The terminal behind its directory.
    relayed: Multiaddr,
    seen: String,
    identified: bool,
    closest: bool,
    found: bool,
}

impl Crawl<'_> {
    async fn run(&mut self) {
        while !(self.identified && self.closest && self.found) {
            match self.swarm.select_next_some().await {
                SwarmEvent::Behaviour(CrawlerEvent::Identify(identify::Event::Received {
                    peer_id,
                    info,
                    ..
                })) => self.meet(peer_id, info),
                SwarmEvent::Behaviour(CrawlerEvent::Kad(kad::Event::OutboundQueryProgressed {
                    result,
                    ..
                })) => self.read(result),
                SwarmEvent::ConnectionEstablished { endpoint, .. } => {
                    self.seen += &format!("{endpoint:?}");
                }
                _ => {}
            }
        }
    }

    fn meet(&mut self, peer: PeerId, info: identify::Info) {
        let terminal = PeerId::from_bytes(&peer_bytes(&self.victim.terminal.public())).unwrap();
        if peer == terminal {
            self.identified = true;
            self.seen += &format!("{:?}", info.listen_addrs);
            assert!(!info.listen_addrs.is_empty());
            return;
        }
        // The directory is known: read the DHT, and call.
        let kad = &mut self.swarm.behaviour_mut().kad;
        for addr in info.listen_addrs {
            kad.add_address(&peer, addr);
        }
        kad.get_closest_peers(terminal);
        kad.get_record(kad::RecordKey::new(&self.victim.key().0));
        self.swarm.dial(self.relayed.clone()).unwrap();
    }

    fn read(&mut self, result: kad::QueryResult) {
        match result {
            kad::QueryResult::GetClosestPeers(result) => {
                self.closest = true;
                self.seen += &format!("{result:?}");
            }
            kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(record))) => {
                self.found = true;
                self.seen += &String::from_utf8_lossy(&record.record.value);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_crawler_that_reads_the_dht_and_calls_sees_no_address() {
    let directory = directory(150).await;
    let entry = directory.addr().await;
    let alice = Party::new(0);
    let node = online(&alice, std::slice::from_ref(&entry)).await;
    let ports = ports(&node.net.status().listen);
    assert_eq!(ports.len(), 2);
    let relayed = format!("{entry}/p2p-circuit/p2p/{}", alice.terminal.public().to_peer_id());
    let mut crawl = Crawl {
        swarm: crawler(),
        victim: &alice,
        relayed: relayed.parse().unwrap(),
        seen: String::new(),
        identified: false,
        closest: false,
        found: false,
    };
    crawl.swarm.dial(entry.as_str().parse::<Multiaddr>().unwrap()).unwrap();
    tokio::time::timeout(PATIENCE, crawl.run()).await.expect("a crawl that ends");
    let seen = crawl.seen;
    assert!(seen.contains("p2p-circuit"), "the crawler saw the relayed address");
    for port in ports {
        assert!(!seen.contains(&port), "the crawler saw port {port} in {seen}");
    }
}

/// The PeerId of a key.
fn peer_bytes(terminal: &TerminalId) -> Vec<u8> {
    let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(terminal.as_bytes()).unwrap();
    libp2p::identity::PublicKey::from(key).to_peer_id().to_bytes()
}

#[tokio::test]
async fn a_terminals_record_and_status_name_relayed_addresses_only() {
    let directory = directory(151).await;
    let alice = Party::new(0);
    let node = online(&alice, &[directory.addr().await]).await;
    let addresses = node.net.addresses();
    assert!(!addresses.is_empty() && addresses.iter().all(|addr| addr.is_relayed()));
}

#[tokio::test]
async fn a_terminal_whose_directory_is_away_publishes_nothing_instead() {
    let gone = directory(152).await;
    let entry = gone.addr().await;
    let alice = Party::new(0);
    let node = online(&alice, &[entry]).await;
    gone.net.shutdown().await;
    node.until("no address", |status| status.addresses.is_empty()).await;
}
