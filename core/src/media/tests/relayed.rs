//! Legs with relays: a real TURN server on loopback between them.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use offhook_proto::identity::TerminalKey;
use offhook_proto::relay::{RelayClass, RelayServer, RelayTransport, TicketIssuer};
use offhook_proto::wire::UnixMillis;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::relay::{PeerPolicy, Relay as Server, RelayConfig, RelayError};

fn issuer() -> TicketIssuer {
    TicketIssuer::new([9; 32])
}

async fn serve(listen: &str) -> Server {
    try_serve(listen).await.unwrap()
}

async fn try_serve(listen: &str) -> Result<Server, RelayError> {
    let config = RelayConfig {
        listen: Some(listen.parse().unwrap()),
        relayed_ips: vec![Ipv4Addr::LOCALHOST.into()],
        policy: Some(PeerPolicy { private: true, loopback: true }),
        ..RelayConfig::new(issuer())
    };
    Server::start(config).await
}

pub(super) async fn server() -> Server {
    serve("127.0.0.1:0").await
}

/// A relay at `addr`, with a ticket of the terminal number `n`.
fn relay_at(addr: SocketAddr, transport: RelayTransport, n: u8) -> Relay {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let servers = vec![RelayServer { transport, addr, pin: None }];
    let terminal = TerminalKey::from_seed([n; 32]).public();
    let ticket = issuer().issue(RelayClass::Full, &terminal, servers, UnixMillis(now.as_millis() as u64));
    Relay {
        label: "directory".into(),
        servers: ticket.servers,
        username: ticket.username,
        password: ticket.password,
        nonce: ticket.nonce,
        shared: true,
        courier: true,
        reached_over: RelayTransport::Udp,
    }
}

fn relay_of(server: &Server, transport: RelayTransport, n: u8) -> Relay {
    relay_at(server.addr().unwrap(), transport, n)
}

/// Addresses that the relay has handed out at present, as it reports.
pub(super) fn allocations(server: &Server) -> usize {
    metric(server, "offhook_relay_allocations{class=\"full\"} ")
}

/// The value of the metric whose line begins so; none is 0.
fn metric(server: &Server, line: &str) -> usize {
    let (mut registry, mut text) = (prometheus_client::registry::Registry::default(), String::new());
    server.metrics().register(&mut registry);
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let value = text.lines().find_map(|found| found.strip_prefix(line));
    value.map_or(0, |count| count.parse().unwrap())
}

/// Two ends that have not disclosed their addresses, each with its relay.
fn hidden(relays: [Relay; 2]) -> Call {
    let [a, b] = relays;
    let config = |role, relay| MediaConfig { disclose: false, relays: vec![relay], ..on_loopback(role) };
    Call::new(config(Role::Caller, a), config(Role::Callee, b))
}

pub(super) fn both_at(server: &Server, transport: RelayTransport) -> [Relay; 2] {
    [1, 2].map(|n| relay_of(server, transport, n))
}

fn path(end: &End) -> Path {
    end.leg.stats().borrow().path.clone()
}

pub(super) fn is_relayed(end: &End) -> bool {
    exporter(end).is_some() && matches!(path(end), Path::Relayed { .. })
}

pub(super) fn goes_direct(end: &End) -> bool {
    matches!(path(end), Path::Direct { .. })
}

pub(super) fn received(end: &End) -> u64 {
    end.leg.stats().borrow().packets_received
}

fn lines(end: &End) -> Vec<String> {
    let told = end.log.iter().filter_map(|event| {
        let MediaEvent::Candidates(lines) = event else { return None };
        Some(lines.clone())
    });
    told.flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_disclosure_packets_take_the_relay_only_and_no_address_is_told() {
    let server = server().await;
    let mut call = hidden(both_at(&server, RelayTransport::Udp));
    // An address of the other end at which we see whence packets come.
    let observer = UdpSocket::bind("127.0.0.1:0").unwrap();
    observer.set_nonblocking(true).unwrap();
    let port = observer.local_addr().unwrap().port();
    call.ends[0].leg.add_remote_candidates(vec![format!("candidate:1 1 udp 9 127.0.0.1 {port} typ host")]);
    call.run("a relayed path", |ends| ends.iter().all(is_relayed)).await;
    let mut sources = Vec::new();
    call.run("checks at the observer", |_| {
        let heard = std::iter::from_fn(|| observer.recv_from(&mut [0; 2_000]).ok());
        sources.extend(heard.map(|(_, source)| source.port()));
        sources.len() >= 3
    })
    .await;
    for end in &call.ends {
        let own: Vec<u16> = end.leg.socket().bound().map(|bound| bound.port()).collect();
        assert!(sources.iter().all(|source| !own.contains(source)), "no packet but through the relay");
        let lines = lines(end);
        assert!(!lines.is_empty());
        for line in lines {
            assert!(line.contains(" typ relay raddr 0.0.0.0 rport 9"), "{line}");
            assert!(own.iter().all(|port| !line.contains(&format!(" {port} "))), "{line}");
        }
    }
    assert_eq!(exporter(&call.ends[0]), exporter(&call.ends[1]));
    call.close().await;
}

/// Two ends talk through their relays, and through nothing else.
async fn talk(relays: [Relay; 2], transport: RelayTransport) {
    let mut call = hidden(relays);
    call.ends.iter().for_each(|end| end.leg.start_audio());
    call.run("talking", |ends| ends.iter().all(|end| received(end) > 50)).await;
    for end in &call.ends {
        let path = path(end);
        assert!(
            matches!(&path, Path::Relayed { relay, transport: used, .. } if &**relay == "directory" && *used == transport),
            "{path:?}"
        );
        assert!(path.carries_voice());
    }
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voice_takes_a_relay_over_udp_and_tcp() {
    let server = server().await;
    for transport in [RelayTransport::Udp, RelayTransport::Tcp] {
        talk(both_at(&server, transport), transport).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_spares_its_holder_the_challenge_and_without_a_nonce_that_is_good_he_is_challenged() {
    let server = server().await;
    let challenges = || {
        ["unauthorized", "stale_nonce"]
            .map(|reason| metric(&server, &format!("offhook_relay_refused_total{{reason=\"{reason}\"}} ")))
    };
    let relays = |nonce: Option<&str>| {
        both_at(&server, RelayTransport::Udp).map(|relay| Relay { nonce: nonce.map(str::to_owned), ..relay })
    };
    talk(both_at(&server, RelayTransport::Udp), RelayTransport::Udp).await;
    assert_eq!(challenges(), [0, 0]);
    talk(relays(None), RelayTransport::Udp).await;
    assert!(challenges()[0] >= 2, "without one he is challenged");
    talk(relays(Some("an old one")), RelayTransport::Udp).await;
    assert!(challenges()[1] >= 2, "one that is too old is replaced");
}

/// TURN over TLS with a certificate of its own; its address and the certificate's fingerprint.
async fn serve_tls(server: &Server) -> (SocketAddr, [u8; 32]) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["relay".into()]).unwrap().self_signed(&key).unwrap();
    let pin = Sha256::digest(certificate.der()).into();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = vec![b"stun.turn".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = server.clone();
    tokio::spawn(async move {
        while let Ok((stream, remote)) = listener.accept().await {
            let (server, acceptor) = (server.clone(), acceptor.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"stun.turn"[..]));
                    server.serve_stream(stream, remote, addr).await;
                }
            });
        }
    });
    (addr, pin)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voice_takes_a_relay_over_tls_whose_certificate_is_the_pinned_one() {
    let server = server().await;
    let (addr, pin) = serve_tls(&server).await;
    let relays = |pin| {
        [1, 2].map(|n| {
            let mut relay = relay_at(addr, RelayTransport::Tls, n);
            relay.servers[0].pin = pin;
            relay
        })
    };
    talk(relays(Some(pin)), RelayTransport::Tls).await;
    talk(relays(None), RelayTransport::Tls).await;
    let mut call = hidden(relays(Some([0; 32])));
    call.run("keys by tunnel", |ends| ends.iter().all(|end| exporter(end).is_some())).await;
    assert!(call.ends.iter().all(|end| lines(end).is_empty()), "nothing is asked of another server");
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_moves_from_a_relay_to_the_direct_path_without_a_gap_and_leaves_the_relay_then() {
    let server = server().await;
    let mut call = hidden(both_at(&server, RelayTransport::Udp));
    call.run("a relayed path", |ends| ends.iter().all(is_relayed)).await;
    call.ends.iter().for_each(|end| end.leg.start_audio());
    call.run("talking by relay", |ends| ends.iter().all(|end| received(end) > 50)).await;
    assert!(call.ends.iter().all(is_relayed));
    (0..2).for_each(|n| call.disclose(n));
    call.run("a direct path", |ends| ends.iter().all(goes_direct)).await;
    let direct = Instant::now();
    call.run("leaving the relay", |_| allocations(&server) == 0).await;
    assert!(direct.elapsed() >= Duration::from_millis(250), "not before the path is stable");
    let by_now = call.ends.each_ref().map(received);
    call.run("talking directly", |[a, b]| received(a) > by_now[0] + 100 && received(b) > by_now[1] + 100)
        .await;
    for end in &call.ends {
        let stats = end.leg.stats().borrow().clone();
        println!("{stats:?}");
        assert_eq!(stats.packets_lost, 0, "nothing is lost by the move");
        let told = |event: &MediaEvent| matches!(event, MediaEvent::PathChanged(Path::Direct { .. }));
        assert_eq!(end.log.iter().filter(|event| told(event)).count(), 1, "and once is enough");
    }
    assert!(call.ends.iter().all(goes_direct));
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leg_that_ends_leaves_nothing_at_the_relay() {
    let server = server().await;
    for transport in [RelayTransport::Udp, RelayTransport::Tcp] {
        let mut call = hidden(both_at(&server, transport));
        call.run("a relayed path", |ends| ends.iter().all(is_relayed)).await;
        assert_eq!(allocations(&server), 2);
        let [a, b] = call.ends;
        tokio::join!(a.leg.close(), b.leg.close());
        let gone = async {
            while allocations(&server) > 0 {
                tokio::time::sleep(GLANCE).await;
            }
        };
        timeout(PATIENCE, gone).await.expect("the addresses are given back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_has_forgotten_its_clients_is_asked_again() {
    let old = server().await;
    let addr = old.addr().unwrap().to_string();
    let mut call = hidden(both_at(&old, RelayTransport::Udp));
    call.run("a relayed path", |ends| ends.iter().all(is_relayed)).await;
    call.ends.iter().for_each(|end| end.leg.start_audio());
    call.run("talking", |ends| ends.iter().all(|end| received(end) > 50)).await;

    let by_now = call.ends.each_ref().map(received);
    old.stop();
    drop(old);
    let new = again(&addr).await;
    call.run("talking after the restart", |[a, b]| {
        received(a) > by_now[0] + 100 && received(b) > by_now[1] + 100
    })
    .await;
    assert!(call.ends.iter().all(is_relayed));
    assert_eq!(allocations(&new), 2);
    call.close().await;
}

/// Starts a relay where another has just ended.
async fn again(addr: &str) -> Server {
    let started = async {
        loop {
            match try_serve(addr).await {
                Ok(server) => return server,
                // Its sockets are not closed yet.
                Err(_) => tokio::time::sleep(GLANCE).await,
            }
        }
    };
    timeout(PATIENCE, started).await.expect("the port is free again")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_still_knows_its_client_keeps_its_address() {
    let server = server().await;
    let mut call = hidden(both_at(&server, RelayTransport::Udp));
    call.run("a relayed path", |ends| ends.iter().all(is_relayed)).await;
    let told = call.ends.each_ref().map(lines);
    call.ends[0].leg.socket().doubt_relays();
    let refused = |_: &[End; 2]| metric(&server, "offhook_relay_refused_total{reason=\"mismatch\"} ") > 0;
    call.run("the answer", refused).await;
    call.ends.iter().for_each(|end| end.leg.start_audio());
    call.run("talking", |ends| ends.iter().all(|end| received(end) > 100)).await;
    assert_eq!(call.ends.each_ref().map(lines), told);
    assert_eq!(allocations(&server), 2);
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leg_for_relays_only_never_goes_direct() {
    let server = server().await;
    let [a, b] = both_at(&server, RelayTransport::Udp);
    let shy = MediaConfig { relays: vec![a], relay_only: true, ..on_loopback(Role::Caller) };
    let open = MediaConfig { relays: vec![b], ..on_loopback(Role::Callee) };
    let mut call = Call::new(shy, open);
    call.ends.iter().for_each(|end| end.leg.start_audio());
    call.disclose(0);
    call.run("talking", |ends| ends.iter().all(|end| received(end) > 200)).await;
    assert!(call.ends.iter().all(is_relayed), "{:?} {:?}", path(&call.ends[0]), path(&call.ends[1]));
    assert!(lines(&call.ends[0]).iter().all(|line| line.contains(" typ relay ")));
    assert!(lines(&call.ends[1]).iter().any(|line| line.contains(" typ host")));
    let went = |event: &MediaEvent| {
        matches!(
            event,
            MediaEvent::PathChanged(Path::Direct { .. })
                | MediaEvent::Connected { path: Path::Direct { .. }, .. }
        )
    };
    assert!(!call.ends.iter().any(|end| end.log.iter().any(went)));
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_comes_later_is_used_and_one_end_with_a_relay_is_enough() {
    let server = server().await;
    let hidden = |role| MediaConfig { disclose: false, ..on_loopback(role) };
    let mut call =
        Call::new(hidden(Role::Caller), MediaConfig { disclose: true, ..on_loopback(Role::Callee) });
    call.run("keys by tunnel", |ends| ends.iter().all(|end| exporter(end).is_some())).await;
    call.ends[0].leg.add_relay(relay_of(&server, RelayTransport::Udp, 1));
    call.run("a relayed path", |ends| ends.iter().all(is_relayed)).await;
    let (ours, theirs) = (path(&call.ends[0]), path(&call.ends[1]));
    assert!(matches!(&ours, Path::Relayed { relay, .. } if &**relay == "directory"));
    assert!(matches!(&theirs, Path::Relayed { relay, .. } if &**relay == "the other side's"));
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_refuses_or_does_not_answer_does_no_harm() {
    let server = server().await;
    let mut refused = relay_of(&server, RelayTransport::Udp, 1);
    refused.password = "wrong".into();
    // Nobody listens on the one port, and on the other nobody answers.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut dead = relay_at(silent.local_addr().unwrap(), RelayTransport::Udp, 2);
    dead.servers.push(RelayServer { transport: RelayTransport::Tcp, addr: unused, pin: None });
    let config = |role, relay| MediaConfig { relays: vec![relay], ..on_loopback(role) };
    let mut call = Call::new(config(Role::Caller, refused), config(Role::Callee, dead));
    call.ends.iter().for_each(|end| end.leg.start_audio());
    call.run("talking", |ends| ends.iter().all(|end| goes_direct(end) && received(end) > 100)).await;
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_looks_like_a_relay_s_data_but_comes_from_elsewhere_changes_nothing() {
    let server = server().await;
    let mut call = hidden(both_at(&server, RelayTransport::Udp));
    call.run("a relayed path", |ends| ends.iter().all(is_relayed)).await;
    let before = call.ends.each_ref().map(path);
    let victim = call.ends[1].leg.socket().bound().next().unwrap();
    let refused = call.ends[1].leg.stats().borrow().refused;
    let intruder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut forged = 0;
    for channel in 0x4000u16..0x4010 {
        let data = [0x40; 40];
        let message = [&channel.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), &data].concat();
        intruder.send_to(&message, victim).unwrap();
        forged += 1;
    }
    call.run("refusing", |ends| ends[1].leg.stats().borrow().refused >= refused + forged).await;
    assert_eq!(call.ends.each_ref().map(path), before);
    intruder.set_nonblocking(true).unwrap();
    assert!(intruder.recv(&mut [0; 2_000]).is_err(), "nobody answers the intruder");
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_answers_with_garbage_does_no_harm() {
    let hostile = UdpSocket::bind("127.0.0.1:0").unwrap();
    hostile.set_read_timeout(Some(GLANCE)).unwrap();
    let addr = hostile.local_addr().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let until = over.clone();
    let answering = std::thread::spawn(move || {
        let (mut request, mut answered) = ([0; 2_000], 0);
        while !until.load(Relaxed) {
            let Ok((length, from)) = hostile.recv_from(&mut request) else { continue };
            let mut answer = request[..length].to_vec();
            // Success, an error without a code, and noise with the right transaction.
            for class in [0x03, 0x13, 0x17] {
                (answer[0], answer[1]) = (1, class);
                hostile.send_to(&answer, from).unwrap();
                answered += 1;
            }
            for first in [0x00, 0x40, 0x4f, 0x7f, 0xc0, 0xff] {
                hostile.send_to(&[first; 60], from).unwrap();
            }
        }
        answered
    });
    let config = |role, relays| MediaConfig { relays, ..on_loopback(role) };
    let relay = relay_at(addr, RelayTransport::Udp, 1);
    let mut call = Call::new(config(Role::Caller, vec![relay]), config(Role::Callee, Vec::new()));
    call.ends.iter().for_each(|end| end.leg.start_audio());
    call.run("talking", |ends| ends.iter().all(|end| goes_direct(end) && received(end) > 100)).await;
    assert!(lines(&call.ends[0]).iter().all(|line| !line.contains("typ relay")));
    call.close().await;
    over.store(true, Relaxed);
    assert!(answering.join().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_restarts_under_a_call_is_asked_again() {
    let server = server().await;
    let mut call = hidden(both_at(&server, RelayTransport::Tcp));
    call.run("a relayed path", |ends| ends.iter().all(is_relayed)).await;
    call.ends.iter().for_each(|end| end.leg.start_audio());
    call.run("talking", |ends| ends.iter().all(|end| received(end) > 50)).await;
    let addr = server.addr().unwrap();
    server.stop();
    drop(server);
    let again = loop {
        let config = RelayConfig {
            listen: Some(addr),
            relayed_ips: vec![Ipv4Addr::LOCALHOST.into()],
            policy: Some(PeerPolicy { private: true, loopback: true }),
            ..RelayConfig::new(issuer())
        };
        match Server::start(config).await {
            Ok(server) => break server,
            Err(_) => tokio::time::sleep(GLANCE).await, // the old one's sockets are being closed
        }
    };
    let by_now = call.ends.each_ref().map(received);
    call.run("talking again", |[a, b]| received(a) > by_now[0] + 50 && received(b) > by_now[1] + 50).await;
    call.close().await;
    drop(again);
}
