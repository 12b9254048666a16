//! A directory's front: every way in leads to where it should, with the true address; and what garbage, silence and floods
//! come to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use offhook::net::{Ends, Front, FrontConfig, FrontIdentity, NetConfig, Role};
use offhook::proto::number::NodeAddr;
use sha2::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::common::{Node, PATIENCE, loopback, online, terminal};
use crate::fixture::{Party, now};

/// A directory with a front.
struct Fronted {
    node: Node,
    front: Front,
    identity: FrontIdentity,
    /// Who has come to the TURN server, which echoes what it is sent.
    turned: Arc<Mutex<Vec<Ends>>>,
}

impl Fronted {
    async fn start(config: NetConfig) -> Self {
        Self::with(config, |_| {}).await
    }

    async fn with(mut config: NetConfig, change: impl FnOnce(&mut FrontConfig)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        config.front = Some(listener.local_addr().unwrap());
        let node = Node::start(config).await;
        let pem = FrontIdentity::make_pem().unwrap();
        let identity = FrontIdentity::from_pem(pem.as_bytes(), pem.as_bytes()).unwrap();
        let turned = Arc::new(Mutex::new(Vec::new()));
        let seen = turned.clone();
        let web = offhook::web::service(node.net.entrance());
        let mut config = FrontConfig::new(identity.clone(), web);
        config.turn = Some(Arc::new(move |io, ends| {
            seen.lock().unwrap().push(ends);
            async {
                let (mut reader, mut writer) = tokio::io::split(io);
                // It ends when the client does.
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            }
            .boxed()
        }));
        change(&mut config);
        let front = Front::start(listener, config, node.net.entrance()).unwrap();
        Self { node, front, identity, turned }
    }

    /// The front's address as libp2p's, plain or as a WebSocket.
    fn addr(&self, web: bool) -> NodeAddr {
        let (port, id) = (self.front.addr().port(), self.node.net.id().to_peer_id());
        format!("/ip4/127.0.0.1/tcp/{port}{}/p2p/{id}", if web { "/tls/ws" } else { "" }).parse().unwrap()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.front.addr()).await.unwrap()
    }
}

/// TLS with whatever certificate there is.
async fn tls(front: SocketAddr, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(front).await?;
    TlsConnector::from(Arc::new(config)).connect("front.invalid".try_into().unwrap(), stream).await
}

#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Waits until the other end has closed the connection, and says how long that took.
async fn closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Duration {
    let started = Instant::now();
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed");
    started.elapsed()
}

/// Asks the web server for a page.
async fn get(front: SocketAddr, alpn: &[&[u8]], path: &str) -> String {
    let mut stream = tls(front, alpn).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn terminals_that_know_one_way_in_register_and_signal() {
    let directory = Fronted::start(loopback(240, Role::Directory)).await;
    let (alice, bob) = (Party::new(0), Party::new(1));
    for web in [false, true] {
        let mut alice_node = online(&alice, &[directory.addr(web)]).await;
        let bob_node = terminal(&bob, &[directory.addr(web)]).await;
        bob_node.registered(1).await;
        let found = bob_node.find(alice.key()).await;
        let addrs = found.sets[0].terminals[0].record().addrs.clone();
        let target = offhook::net::SignalTarget {
            terminal: alice.terminal.public(),
            addrs,
            via: None,
            reach: offhook::net::Reach::Discreet,
            again: false,
        };
        bob_node.net.signal(target, b"hello".to_vec()).await.unwrap();
        assert_eq!(alice_node.packet().await.blob, b"hello");
        alice_node.net.shutdown().await;
        bob_node.net.shutdown().await;
        directory.node.until("they have gone", |status| status.registered == 0).await;
    }
}

#[tokio::test]
async fn what_enters_by_the_front_counts_for_its_true_source() {
    let mut config = loopback(241, Role::Directory);
    config.limits.registered_per_source = 1;
    let directory = Fronted::start(config).await;
    let nodes = [
        terminal(&Party::new(0), &[directory.addr(true)]).await,
        terminal(&Party::new(1), &[directory.addr(false)]).await,
    ];
    directory.node.until("both", |status| status.peers == 2).await;
    directory.node.until("one of them", |status| status.registered == 1).await;
    let full = async {
        while nodes.iter().all(|node| node.net.routes().is_empty()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, full).await.expect("one is registered");
    // Both come from 127.0.0.0/24, however they came.
    assert_eq!(directory.node.net.status().registered, 1);
}

#[tokio::test]
async fn a_directory_tells_where_its_front_is() {
    let directory = Fronted::start(loopback(242, Role::Directory)).await;
    let status = directory.node.until("its addresses", |status| status.addresses.len() == 4).await;
    for web in [false, true] {
        assert!(status.addresses.contains(&directory.addr(web)), "{:?}", status.addresses);
    }
}

#[tokio::test]
async fn browsers_are_shown_the_latest_certificate_and_clients_of_turn_always_their_own() {
    let directory = Fronted::start(loopback(239, Role::Directory)).await;
    let front = directory.front.addr();
    let shown = async |alpn: &[&[u8]]| {
        let stream = tls(front, alpn).await.unwrap();
        let first = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        <[u8; 32]>::from(sha2::Sha256::digest(first))
    };
    let own = directory.identity.pin();
    assert_eq!((shown(&[b"http/1.1"]).await, shown(&[b"stun.turn"]).await), (own, own));
    let mut before = tls(front, &[b"stun.turn"]).await.unwrap();
    let pem = FrontIdentity::make_pem().unwrap();
    let renewed = FrontIdentity::from_pem(pem.as_bytes(), pem.as_bytes()).unwrap();
    directory.front.show(renewed.clone());
    for web in [&[][..], &[&b"http/1.1"[..]], &[b"h2", b"http/1.1"]] {
        assert_eq!(shown(web).await, renewed.pin());
    }
    // As the protocol is chosen: TURN goes first.
    for turn in [&[&b"stun.turn"[..]][..], &[b"http/1.1", b"stun.turn"]] {
        assert_eq!(shown(turn).await, own);
    }
    let mut echoed = [0; 4];
    before.write_all(b"\0\0\0\0").await.unwrap();
    before.read_exact(&mut echoed).await.unwrap();
}

/// Terminals are told where a directory's QUIC is. What else they have met is remembered, and of use when QUIC is dead.
#[tokio::test]
async fn a_terminal_finds_a_directory_that_it_has_met_by_its_front_when_quic_is_dead() {
    let only = |addr: &str| {
        let mut config = loopback(249, Role::Directory);
        config.listen = vec![addr.parse().unwrap()];
        config
    };
    let first = Fronted::start(only("/ip4/127.0.0.1/udp/0/quic-v1")).await;
    let (quic, front) = (first.node.addr().await, first.front.addr());
    let (dir, party) = (tempfile::tempdir().unwrap(), Party::new(0));
    let start = || async {
        let mut config = loopback(0, Role::Terminal);
        config.terminal_seed = *party.terminal.seed();
        config.cert = Some(party.cert(now()));
        config.entry = vec![quic.clone()];
        config.data = Some(dir.path().to_owned());
        Node::start(config).await
    };
    let node = start().await;
    node.registered(1).await;
    crate::restart::written(dir.path()).await;
    first.node.net.shutdown().await;
    drop(first);
    // The same directory with nothing but its front; where its QUIC was, nobody answers.
    let mut config = only("/ip4/127.0.0.1/tcp/0");
    let listener = tokio::time::timeout(PATIENCE, async {
        loop {
            match TcpListener::bind(front).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let listener = listener.await.expect("its port is free in the end");
    config.front = Some(front);
    let second = Node::start(config).await;
    let pem = FrontIdentity::make_pem().unwrap();
    let identity = FrontIdentity::from_pem(pem.as_bytes(), pem.as_bytes()).unwrap();
    let config = FrontConfig::new(identity, offhook::web::service(second.net.entrance()));
    let _front = Front::start(listener, config, second.net.entrance()).unwrap();
    // In this run, and in the next one.
    second.until("the terminal", |status| status.registered == 1).await;
    node.net.shutdown().await;
    second.until("it has gone", |status| status.registered == 0).await;
    let again = start().await;
    again.registered(1).await;
    assert_eq!(second.net.status().registered, 1);
}

#[tokio::test]
async fn turn_comes_over_tls_by_its_name_and_over_tcp_by_its_first_byte() {
    let directory = Fronted::start(loopback(243, Role::Directory)).await;
    let front = directory.front.addr();
    // A Binding request's header (RFC 8489 section 5).
    let header = [0_u8, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut echoed = [0; 20];
    let mut plain = directory.connect().await;
    plain.write_all(&header).await.unwrap();
    plain.read_exact(&mut echoed).await.unwrap();
    assert_eq!(echoed, header);
    let mut secure = tls(front, &[b"stun.turn"]).await.unwrap();
    let shown = secure.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    assert_eq!(<[u8; 32]>::from(sha2::Sha256::digest(shown)), directory.identity.pin());
    secure.write_all(&header).await.unwrap();
    secure.read_exact(&mut echoed).await.unwrap();
    assert_eq!(echoed, header);
    let local = [plain.local_addr().unwrap(), secure.get_ref().0.local_addr().unwrap()];
    let turned = directory.turned.lock().unwrap();
    assert_eq!(turned.iter().map(|ends| ends.remote).collect::<Vec<_>>(), local);
    assert!(turned.iter().all(|ends| ends.local == front));
}

#[tokio::test]
async fn a_front_without_turn_closes_such_connections() {
    let directory = Fronted::with(loopback(244, Role::Directory), |config| config.turn = None).await;
    let mut plain = directory.connect().await;
    plain.write_all(&[0, 1]).await.unwrap();
    assert!(closed(&mut plain).await < Duration::from_secs(4));
}

#[tokio::test]
async fn the_public_web_server_shows_no_metrics() {
    let directory = Fronted::start(loopback(245, Role::Directory)).await;
    let front = directory.front.addr();
    let landing = get(front, &[b"h2", b"http/1.1"], "/").await;
    assert!(landing.starts_with("HTTP/1.1 200") && landing.contains("Offhook"), "{landing}");
    assert!(get(front, &[], "/").await.starts_with("HTTP/1.1 200"), "a client without ALPN");
    for hidden in ["/metrics", "/health", "/nothing"] {
        assert!(get(front, &[], hidden).await.starts_with("HTTP/1.1 404"), "{hidden}");
    }
    assert!(get(front, &[], "/libp2p").await.starts_with("HTTP/1.1 426"), "no WebSocket was asked for");
    assert!(tls(front, &[b"h2"]).await.is_err());
}

#[tokio::test]
async fn garbage_and_silence_are_soon_closed() {
    let directory = Fronted::start(loopback(246, Role::Directory)).await;
    let mut garbage = directory.connect().await;
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(closed(&mut garbage).await < Duration::from_secs(4), "at once");
    // Begins as TLS and is none; begins as libp2p and is none.
    for bytes in [&b"\x16nonsense that is no handshake at all"[..], b"\x13/nonsense/1.0.0/....\n"] {
        let mut garbage = directory.connect().await;
        garbage.write_all(bytes).await.unwrap();
        closed(&mut garbage).await;
    }
    // Whoever says nothing, half of a TLS handshake, nothing over TLS, or half of a request: each has some seconds.
    let mut silent = directory.connect().await;
    let mut half_tls = directory.connect().await;
    half_tls.write_all(&[0x16, 3, 1]).await.unwrap();
    let mut silent_web = tls(directory.front.addr(), &[]).await.unwrap();
    let mut half_web = tls(directory.front.addr(), &[]).await.unwrap();
    half_web.write_all(b"GET / HTTP/1.1\r\nHos").await.unwrap();
    let (a, b, c, d) = tokio::join!(
        closed(&mut silent),
        closed(&mut half_tls),
        closed(&mut silent_web),
        closed(&mut half_web)
    );
    let longest = [a, b, c, d].into_iter().max().unwrap();
    assert!(longest < Duration::from_secs(15), "{a:?} {b:?} {c:?} {d:?}");
}

#[tokio::test]
async fn a_flood_of_half_open_connections_keeps_nobody_out() {
    let directory =
        Fronted::with(loopback(247, Role::Directory), |config| config.half_open_per_source = 8).await;
    let mut flood = Vec::new();
    for _ in 0..8 {
        flood.push(directory.connect().await);
    }
    // Newer ones take the places of the oldest, so there is always room for one that goes on.
    let node = terminal(&Party::new(0), &[directory.addr(true)]).await;
    node.registered(1).await;
    assert!(closed(&mut flood[0]).await < Duration::from_secs(4), "the oldest has made room");
    // What has entered the swarm has no place here any more.
    for _ in 0..20 {
        flood.push(directory.connect().await);
    }
    closed(&mut flood[8]).await;
    assert_eq!(directory.node.net.status().registered, 1);
    assert_eq!(node.net.routes().len(), 1);
}

/// Asks for a page, whose answer takes as long as it takes.
async fn ask(front: SocketAddr) -> TlsStream<TcpStream> {
    let mut stream = tls(front, &[b"http/1.1"]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    stream
}

#[tokio::test]
async fn q15_connections_of_the_web_take_no_place_of_a_terminals() {
    let (release, released) = tokio::sync::watch::channel(false);
    let page = move || {
        let mut released = released.clone();
        async move {
            // An error means that the test is over.
            let _ = released.wait_for(|is_released| *is_released).await;
            "here it is"
        }
    };
    let site = axum::Router::new().fallback(axum::routing::get(page));
    let directory = Fronted::start(loopback(249, Role::Directory)).await;
    let entrance = directory.node.net.entrance();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web = offhook::web::service_with_site(entrance.clone(), site);
    let mut config = FrontConfig::new(directory.identity.clone(), web);
    config.half_open_per_source = 2;
    config.web_places_per_source = 6;
    let front = Front::start(listener, config, entrance).unwrap();
    let mut browsers = Vec::new();
    for _ in 0..6 {
        browsers.push(ask(front.addr()).await);
    }
    closed(&mut ask(front.addr()).await).await;
    // Terminals come in while all of the web's places are taken, and end none of its connections.
    let (port, id) = (front.addr().port(), directory.node.net.id().to_peer_id());
    let node =
        terminal(&Party::new(0), &[format!("/ip4/127.0.0.1/tcp/{port}/p2p/{id}").parse().unwrap()]).await;
    node.registered(1).await;
    release.send(true).unwrap();
    for mut browser in browsers {
        let mut answer = Vec::new();
        let _ = browser.read_to_end(&mut answer).await;
        assert!(answer.ends_with(b"here it is"), "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn a_front_ends_when_it_is_dropped() {
    let Fronted { node, front, .. } = Fronted::start(loopback(248, Role::Directory)).await;
    let addr = front.addr();
    let mut half = TcpStream::connect(addr).await.unwrap();
    drop(front);
    assert!(closed(&mut half).await < Duration::from_secs(4));
    let refused = async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("nobody listens");
    assert!(node.net.is_running());
}
