//! What a stranger can learn of a terminal's own address: nothing.

use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, identify, kad, noise, relay, yamux};
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

#[tokio::test]
async fn a_crawler_that_reads_the_dht_and_calls_sees_no_address() {
    let directory = directory(150).await;
    let entry = directory.addr().await;
    let alice = Party::new(0);
    let node = online(&alice, std::slice::from_ref(&entry)).await;
    let ports = ports(&node.net.status().listen);
    assert_eq!(ports.len(), 2);
    let peer = alice.terminal.public().to_peer_id();
    let mut swarm = crawler();
    let relayed: Multiaddr = format!("{entry}/p2p-circuit/p2p/{peer}").parse().unwrap();
    let mut seen = String::new();
    let (mut identified, mut closest, mut found) = (false, false, false);
    swarm.dial(entry.as_str().parse::<Multiaddr>().unwrap()).unwrap();
    let crawl = async {
        while !(identified && closest && found) {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(CrawlerEvent::Identify(identify::Event::Received {
                    peer_id,
                    info,
                    ..
                })) => {
                    if peer_id.to_string() == peer {
                        identified = true;
                        seen += &format!("{:?}", info.listen_addrs);
                        assert!(!info.listen_addrs.is_empty());
                    } else {
                        // The directory is known: read the DHT, and call.
                        for addr in info.listen_addrs {
                            swarm.behaviour_mut().kad.add_address(&peer_id, addr);
                        }
                        let id = libp2p::PeerId::from_bytes(&peer_bytes(&alice.terminal.public())).unwrap();
                        swarm.behaviour_mut().kad.get_closest_peers(id);
                        swarm.behaviour_mut().kad.get_record(kad::RecordKey::new(&alice.key().0));
                        swarm.dial(relayed.clone()).unwrap();
                    }
                }
                SwarmEvent::Behaviour(CrawlerEvent::Kad(kad::Event::OutboundQueryProgressed {
                    result,
                    ..
                })) => match result {
                    kad::QueryResult::GetClosestPeers(result) => {
                        closest = true;
                        seen += &format!("{result:?}");
                    }
                    kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(record))) => {
                        found = true;
                        seen += &String::from_utf8_lossy(&record.record.value);
                    }
                    _ => {}
                },
                SwarmEvent::ConnectionEstablished { endpoint, .. } => seen += &format!("{endpoint:?}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, crawl).await.expect("a crawl that ends");
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
