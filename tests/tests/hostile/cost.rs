//! What strangers cost a directory: memory for messages that never end, for answers that nobody takes, for silence, for
//! handshakes that are never finished; and whether those who mean well still find a place.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libp2p::PeerId;
use offhook_tests::call::ring;
use offhook_tests::hostile::wire::{self, KadMessage, kad};
use offhook_tests::hostile::{Flood, Gang, Node, Outgoing, Protocol};
use offhook_tests::lab::{Impairment, Lab};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};

use crate::{Outcome, nodes, until};

type Anyhow<T> = Result<T, Box<dyn std::error::Error>>;

/// Hostile nodes that a figure is the mean of.
const CROWD: usize = 32;

/// Longer than the memory of a directory takes to stop growing.
const SETTLE: Duration = Duration::from_secs(4);

/// The transports by their place among a directory's addresses.
const TRANSPORTS: [&str; 2] = ["QUIC", "TCP"];

/// By how many kB a directory grows at most for each of `crowd` while all do this, and a while later.
fn growth<T>(directory: &Directory, crowd: usize, work: impl FnOnce() -> Anyhow<T>) -> Anyhow<u64> {
    let before = directory.process.memory();
    let over = AtomicBool::new(false);
    let peak = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = before;
            while !over.load(Ordering::Relaxed) {
                peak = peak.max(directory.process.memory());
                std::thread::sleep(Duration::from_millis(50));
            }
            peak
        });
        let held = work();
        std::thread::sleep(SETTLE);
        over.store(true, Ordering::Relaxed);
        held.map(|_| watch.join().unwrap())
    })?;
    Ok((peak - before) / 1024 / crowd as u64)
}

/// A directory that has had visitors, so that what the first one makes it load does not count as growth.
fn warm() -> Anyhow<(Directory, Gang)> {
    let directory = Directory::start(None, DirectoryPlan::default())?;
    let gang = Gang::new(None)?;
    for node in nodes(&gang, 4)? {
        for address in &directory.addresses {
            let peer = node.meet(address)?;
            node.ask(peer, wire::hello())?;
        }
    }
    Ok((directory, gang))
}

/// What a node of a crowd does to a victim.
type Deed = fn(&Node, PeerId) -> Vec<Flood>;

/// A crowd over each transport in turn; none of its connections may cost more than so many kB.
fn crowds(what: &str, most: [u64; 2], deed: Deed) -> Outcome {
    for (transport, (name, most)) in TRANSPORTS.into_iter().zip(most).enumerate() {
        let (directory, gang) = warm()?;
        let crowd = nodes(&gang, CROWD)?;
        let kb = growth(&directory, CROWD, || {
            let met = crowd.iter().map(|node| Ok((node, node.meet(&directory.addresses[transport])?)));
            let met = met.collect::<Anyhow<Vec<_>>>()?;
            Ok(met.into_iter().flat_map(|(node, peer)| deed(node, peer)).collect::<Vec<_>>())
        })?;
        println!("{what} over {name}: {kb} kB a connection");
        assert!(kb < most, "{what} over {name}: {kb} kB a connection");
    }
    Ok(())
}

/// As many streams as a connection lets through, none of which ends.
fn open(node: &Node, victim: PeerId, protocol: Protocol, bytes: Vec<u8>) -> Flood {
    let (count, time) = (200, Duration::from_secs(30));
    node.flood(protocol, victim, (count, 200, time), move |_| Outgoing::Half(bytes.clone()))
}

#[test]
fn a_message_without_end_costs_little() -> Outcome {
    crowds("messages without end", [600; 2], |node, victim| {
        let mut put = Vec::new();
        wire::varint(&mut put, 16_000);
        put.extend([0; 15_900]);
        let mut store = wire::store(&[7; 32], &[0; 12 * 1024]);
        store.truncate(store.len() - 10);
        vec![open(node, victim, Protocol::Kad, put), open(node, victim, Protocol::Signal, store)]
    })
}

#[test]
fn an_answer_that_nobody_takes_costs_little() -> Outcome {
    // Each of the eight streams of a stranger is answered 20 KiB; yamux can't be told to take less than 256 KiB of questions.
    crowds("answers not taken", [600, 4_300], |node, victim| {
        // More answers (nodes of the crowd, a kilobyte and a half each) than yamux's window of 256 KiB holds, and then
        // as much as that holds the other way.
        let ask = KadMessage::ask(kad::FIND_NODE, &[7; 32]).encode();
        let questions = std::iter::repeat_n(ask, 400).flatten();
        let bytes = questions.chain(std::iter::repeat_n(0, 200 * 1024)).collect();
        vec![open(node, victim, Protocol::Kad, bytes)]
    })
}

#[test]
fn silence_costs_little() -> Outcome {
    crowds("silence", [300; 2], |_, _| Vec::new())
}

/// The socket address in a multiaddr.
fn socket_of(addr: &str) -> Anyhow<SocketAddr> {
    let parts: Vec<&str> = addr.split('/').collect();
    Ok(format!("{}:{}", parts[2], parts[4]).parse()?)
}

/// The first words of a TCP connection, and then nothing.
fn half_a_handshake(target: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(1))?;
    stream.write_all(b"\x13/multistream/1.0.0\n")?;
    Ok(stream)
}

/// The first packet of a QUIC handshake, sent on in the name of a socket that will never answer.
fn half_a_quic_handshake(node: &Node, target: SocketAddr) -> Anyhow<UdpSocket> {
    let [sink, sender] = [0, 0].map(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)));
    let (sink, sender) = (sink?, sender?);
    sink.set_read_timeout(Some(Duration::from_secs(10)))?;
    let addr = format!("/ip4/127.0.0.1/udp/{}/quic-v1", sink.local_addr()?.port());
    std::thread::scope(|scope| {
        // Nobody answers, so nothing comes of it.
        scope.spawn(|| node.connect(&addr));
        let mut packet = [0; 1500];
        let length = sink.recv(&mut packet)?;
        sender.send_to(&packet[..length], target)?;
        Ok(sender)
    })
}

#[test]
fn an_unfinished_handshake_costs_little() -> Outcome {
    // As many as one network may have under way at a time.
    const MANY: usize = 64;
    let (directory, gang) = warm()?;
    let [quic, tcp] = [0, 1].map(|transport| socket_of(&directory.addresses[transport]));
    let (quic, tcp) = (quic?, tcp?);
    let over_tcp =
        growth(&directory, MANY, || Ok((0..MANY).map(|_| half_a_handshake(tcp)).collect::<Vec<_>>()))?;
    let node = gang.node()?;
    let over_quic = growth(&directory, MANY, || {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..MANY)
                .map(|_| {
                    scope.spawn(|| half_a_quic_handshake(&node, quic).map_err(|error| error.to_string()))
                })
                .collect();
            let sockets = threads.into_iter().map(|thread| thread.join().unwrap());
            Ok(sockets.collect::<Result<Vec<_>, _>>()?)
        })
    })?;
    println!("unfinished handshakes: {over_tcp} kB over TCP, {over_quic} kB over QUIC");
    assert!(over_tcp < 200 && over_quic < 200, "{over_tcp} kB over TCP, {over_quic} kB over QUIC");
    Ok(())
}

/// A directory with few places, on a host of a lab of its own.
fn small(lab: &Lab) -> Anyhow<(Directory, offhook_tests::lab::Host)> {
    let host = lab.host("dir", Impairment::delay_ms(5))?;
    let extra = ["--connections", "64"].map(str::to_owned).to_vec();
    let directory = Directory::start(Some(&host), DirectoryPlan { extra, ..DirectoryPlan::default() })?;
    Ok((directory, host))
}

#[test]
fn handshakes_that_are_never_finished_keep_nobody_out() -> Outcome {
    let lab = Lab::new("stalled")?;
    let (directory, _host) = small(&lab)?;
    let [evil, good] = ["evil", "good"].map(|name| lab.host(name, Impairment::delay_ms(5)));
    let (evil, good) = (evil?, good?);
    let target = socket_of(&directory.addresses[1])?;
    let (over, begun) = (AtomicBool::new(false), AtomicBool::new(false));
    let over = &over;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            evil.run(|| {
                // As fast as they go: whatever place becomes free is taken again.
                let mut held = std::collections::VecDeque::new();
                while !over.load(Ordering::Relaxed) {
                    held.push_back(half_a_handshake(target));
                    if held.len() > 300 {
                        held.pop_front();
                        begun.store(true, Ordering::Relaxed);
                    }
                }
            })
        });
        while !begun.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let plan = TerminalPlan { entry: vec![directory.addresses[1].clone()], ..TerminalPlan::default() };
        let online = Account::create("ada").and_then(|ada| Terminal::online(ada, Some(&good), plan));
        over.store(true, Ordering::Relaxed);
        online.map(drop)
    })?;
    Ok(())
}

/// Each holds its connection by a message that it never ends.
fn squat(crowd: &[Node], address: &str) -> Anyhow<Vec<Flood>> {
    let mut floods = Vec::new();
    for node in crowd {
        // One that is not let in has already done all it can.
        if let Ok(peer) = node.connect(address) {
            let half = wire::find(&[7; 32])[..8].to_vec();
            floods.push(open(node, peer, Protocol::Signal, half));
        }
    }
    Ok(floods)
}

#[test]
fn idle_strangers_keep_nobody_out() -> Outcome {
    let extra = ["--connections", "64"].map(str::to_owned).to_vec();
    let directory = Directory::start(None, DirectoryPlan { extra, ..DirectoryPlan::default() })?;
    let gang = Gang::new(None)?;
    let (first, second) = (nodes(&gang, 80)?, nodes(&gang, 40)?);
    let _first = squat(&first, &directory.address())?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let plan = TerminalPlan { entry: vec![directory.address()], ..TerminalPlan::default() };
    let mut ada = Terminal::online(ada, None, plan.clone())?;
    let mut bob = Terminal::online(bob, None, plan)?;
    // Whoever is registered is no stranger, and stays.
    let _second = squat(&second, &directory.address())?;
    ring(&mut ada, &mut bob)?;
    let fresh = |event: &offhook_tests::program::Event| event.name() == "offline";
    ada.process.never("that it is off line", Duration::ZERO, fresh)?;
    until("the crowd is thinned", Duration::from_secs(10), || {
        let peers = directory.health(None)?["peers"].as_u64();
        Ok((peers.is_some_and(|peers| peers < 40), peers))
    })?;
    Ok(())
}
