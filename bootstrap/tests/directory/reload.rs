//! SIGHUP: the front shows the certificate that is in its files by then, and nothing else changes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use offhook::net::{FrontIdentity, Net};
use offhook_proto::relay::{RelayClass, RelayServer, RelayTicket, RelayTransport, TicketIssuer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{Client, Link};
use crate::fixture::{Party, now};
use crate::{PATIENCE, Process, get, registered, terminal};

/// In the certificates that [`FrontIdentity::make_pem`] makes.
const NAME: &str = "offhook-directory";

/// A directory whose front shows the certificate of a file, as `certbot` leaves one.
struct Scene {
    folder: tempfile::TempDir,
    process: Process,
    http: String,
    front: SocketAddr,
}

impl Scene {
    fn start(pem: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("front.crt"), pem).unwrap();
        std::fs::write(at("front.key"), pem).unwrap();
        let mut command = Process::command(&at("data"), "/ip4/127.0.0.1/udp/0/quic-v1");
        command.env("OFFHOOK_DIRECTORY_FRONT_CERT", at("front.crt"));
        command.env("OFFHOOK_DIRECTORY_FRONT_KEY", at("front.key"));
        command.stderr(std::fs::File::create(at("log")).unwrap());
        let mut process = Process::run(command);
        let http = process.line("metrics http://").replace("/metrics", "");
        let front = process.line("front ").parse().unwrap();
        Self { folder, process, http, front }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sends SIGHUP and waits until the log says `word` once more.
    fn reload(&self, word: &str) {
        let said = || std::fs::read_to_string(self.at("log")).unwrap().matches(word).count();
        let (before, begun) = (said(), Instant::now());
        self.process.signal("-HUP");
        while said() == before {
            assert!(begun.elapsed() < PATIENCE, "the log does not say `{word}`");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// TLS with a server that shows the first certificate of `pem`, and no other.
async fn tls(addr: SocketAddr, pem: &[u8], alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(addr).await?;
    TlsConnector::from(Arc::new(config)).connect(NAME.try_into().unwrap(), stream).await
}

/// Whether a browser that trusts this certificate is shown it.
async fn shows(front: SocketAddr, pem: &str) -> bool {
    tls(front, pem.as_bytes(), b"http/1.1").await.is_ok()
}

/// Asks the site for something on a connection that stays open.
async fn ask(connection: &mut TlsStream<TcpStream>) -> String {
    connection.write_all(b"GET /api/v1/info HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let (mut answer, mut chunk) = (Vec::new(), [0; 4_096]);
    while !String::from_utf8_lossy(&answer).contains("\"signup\"") {
        let length = tokio::time::timeout(PATIENCE, connection.read(&mut chunk)).await.unwrap().unwrap();
        assert!(length > 0, "the connection has been closed: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&chunk[..length]);
    }
    String::from_utf8(answer).unwrap()
}

/// The ticket that a terminal has got at its registration.
async fn ticket(net: &Net) -> RelayTicket {
    let begun = Instant::now();
    loop {
        if let Some((_, ticket)) = net.relay_tickets().into_iter().next() {
            return ticket;
        }
        assert!(begun.elapsed() < PATIENCE, "no ticket");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn over_tls(ticket: &RelayTicket) -> RelayServer {
    *ticket.servers.iter().find(|server| server.transport == RelayTransport::Tls).unwrap()
}

/// A way to the relay over TLS, whose certificate has to be the ticket's.
async fn link(server: &RelayServer, made: &Path) -> Link {
    let pem = std::fs::read(made).unwrap();
    let mut secure = tls(server.addr, &pem, b"stun.turn").await.unwrap();
    let shown = secure.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(server.pin, Some(Sha256::digest(&shown).into()), "it shows what the ticket says");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut plain, _) = listener.accept().await.unwrap();
        // It ends with the client.
        let _ = tokio::io::copy_bidirectional(&mut plain, &mut secure).await;
    });
    Link::tcp(here).await
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart_and_connections_and_tickets_stay() {
    let [old, new] = [(); 2].map(|()| FrontIdentity::make_pem().unwrap());
    let mut scene = Scene::start(&old);
    let through = std::iter::repeat_with(|| scene.process.addr());
    let entry = through.into_iter().find(|addr| addr.as_str().contains("/tls/ws")).unwrap();
    assert!(shows(scene.front, &old).await && !shows(scene.front, &new).await);
    // A terminal that has come in by the front, and a browser that keeps its connection.
    let alice = Party::new(0);
    let (net, _events) = terminal(&alice, &entry).await;
    registered(&net).await;
    net.publish(alice.key(), alice.set(now(), &net.addresses())).await.unwrap();
    let ticket = ticket(&net).await;
    let server = over_tls(&ticket);
    let mut browser = tls(scene.front, old.as_bytes(), b"http/1.1").await.unwrap();
    assert!(ask(&mut browser).await.starts_with("HTTP/1.1 200"));

    std::fs::write(scene.at("front.crt"), &new).unwrap();
    std::fs::write(scene.at("front.key"), &new).unwrap();
    scene.reload("the front shows the certificate that is in its files now");
    assert!(shows(scene.front, &new).await && !shows(scene.front, &old).await);
    assert!(ask(&mut browser).await.starts_with("HTTP/1.1 200"), "its connection goes on");
    assert!(get(&scene.http, "/health").contains("\"registered\":1"));
    assert_eq!(net.watch().borrow().routes.len(), 1, "the terminal has not been dropped");

    // A ticket of before is good, and so is one of after: the relay's certificate is another one, which stays.
    let made = scene.at("data").join("front.pem");
    let (mut a, at_a) = Client::allocated(link(&server, &made).await, &ticket).await;
    let secret = std::fs::read(scene.at("data").join("relay.secret")).unwrap().try_into().unwrap();
    let guest = TicketIssuer::new(secret).issue(
        RelayClass::Guest,
        &Party::new(1).terminal.public(),
        Vec::new(),
        now(),
    );
    let (mut b, at_b) = Client::allocated(link(&server, &made).await, &guest).await;
    assert!(a.bind(at_b).await && b.bind(at_a).await);
    a.send(at_b, b"hello").await;
    assert_eq!(b.message().await, (at_a, b"hello".to_vec()));
    // Who comes in by the front from now on is let in as before.
    let (late, _events) = terminal(&Party::new(1), &entry).await;
    registered(&late).await;
}

#[tokio::test]
async fn a_broken_certificate_is_refused_and_the_one_before_is_shown_on() {
    let [old, new] = [(); 2].map(|()| FrontIdentity::make_pem().unwrap());
    let scene = Scene::start(&old);
    let refused = "the certificate could not be read again";
    std::fs::write(scene.at("front.crt"), &new[..new.len() / 3]).unwrap();
    scene.reload(refused);
    assert!(shows(scene.front, &old).await, "cut off");
    // Its key has not come yet.
    std::fs::write(scene.at("front.crt"), &new).unwrap();
    scene.reload(refused);
    assert!(shows(scene.front, &old).await && !shows(scene.front, &new).await, "another's key");
    std::fs::remove_file(scene.at("front.key")).unwrap();
    scene.reload(refused);
    assert!(shows(scene.front, &old).await, "no key at all");
    let log = std::fs::read_to_string(scene.at("log")).unwrap();
    assert!(log.contains("ERROR") && log.contains("front.key: "), "{log}");
    std::fs::write(scene.at("front.key"), &new).unwrap();
    scene.reload("the front shows the certificate");
    assert!(shows(scene.front, &new).await);
}

#[test]
fn a_start_between_a_new_certificate_and_its_key_is_tried_again() {
    let [old, new] = [(); 2].map(|()| FrontIdentity::make_pem().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("front.crt"), new).unwrap();
    std::fs::write(at("front.key"), old).unwrap();
    let mut command = Process::command(&at("data"), "/ip4/127.0.0.1/udp/0/quic-v1");
    command.env("OFFHOOK_DIRECTORY_FRONT_CERT", at("front.crt"));
    command.env("OFFHOOK_DIRECTORY_FRONT_KEY", at("front.key"));
    let output = command.output().unwrap();
    // With 2 systemd would not start it again.
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn without_a_configured_certificate_there_is_nothing_to_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Process::command(&folder.path().join("data"), "/ip4/127.0.0.1/udp/0/quic-v1");
    command.stderr(std::fs::File::create(folder.path().join("log")).unwrap());
    let mut process = Process::run(command);
    let http = process.line("metrics http://").replace("/metrics", "");
    process.line("front ");
    process.signal("-HUP");
    let (begun, log) = (Instant::now(), folder.path().join("log"));
    while !std::fs::read_to_string(&log).unwrap().contains("no certificate is configured") {
        assert!(begun.elapsed() < PATIENCE, "the log does not say so");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(get(&http, "/health").starts_with("HTTP/1.1 200"), "it goes on");
    process.signal("-TERM");
    assert_eq!(process.end(), Some(0));
}
