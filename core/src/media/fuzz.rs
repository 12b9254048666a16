//! What the fuzzer reaches of this module. Each function does with its input what a leg does with it, and asserts what
//! must hold of the outcome.
#![allow(clippy::panic, reason = "a panic is what the fuzzer reports")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use bytes::BytesMut;
use offhook_proto::relay::{RelayServer, RelayTransport};

use super::gather::Gatherer;
use super::ice::{Ice, IceOutput, MAX_REMOTE, MAX_TRIAL};
use super::relay::stream::take_message;
use super::relay::{Datagram, RelayEvent, Relays, Wire};
use super::session::{MAX_CONTROL, read_frame};
use super::socket::StunIn;
use super::types::{Relay, Role};

pub use super::voice::fuzz::voice;

const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4_000);
const THERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)), 5_000);

/// A STUN message at a leg: as what its server answers, and as a check of the other end.
pub fn stun(message: &[u8]) {
    let now = Instant::now();
    let mut gatherer = Gatherer::new(&[THERE], now);
    assert_eq!(gatherer.handle(now, THERE, message), None, "nothing was asked yet");
    if let Some((server, request)) = gatherer.poll(now) {
        // An answer repeats the request's transaction (RFC 8489 section 6.3.1), which nobody can guess.
        let mut answer = message.to_vec();
        if let (Some(ours), Some(theirs)) = (answer.get_mut(8..20), request.get(8..20)) {
            ours.copy_from_slice(theirs);
        }
        assert_eq!(gatherer.handle(now, HERE, &answer), None, "only the server may answer");
        let _ = gatherer.handle(now, server, &answer);
    }
    let mut ice = agent(now);
    ice.handle_stun(now, &StunIn { source: THERE, local: HERE, bytes: message.to_vec() });
    assert!(!has_moved(&mut ice, now), "without the password no message moves a call");
}

/// What a relay sends, or somebody in its place: datagrams, and the bytes of a connection.
pub fn relay(input: &[u8]) {
    let now = Instant::now();
    let server = RelayServer { transport: RelayTransport::Udp, addr: THERE, pin: None };
    let (label, username, password) = ("relay".to_owned(), "user".to_owned(), "password".to_owned());
    let mut relays = Relays::new(HERE, |_| None);
    let servers = vec![server];
    let (reached_over, nonce, shared, courier) = (RelayTransport::Udp, Some("nonce".to_owned()), true, true);
    let relay = Relay { label, servers, username, password, nonce, shared, courier, reached_over };
    assert!(relays.add(&relay, now));
    let Some(Wire::Datagram { bytes: request, .. }) = relays.poll_wire() else { panic!("nothing is asked") };
    // An answer repeats the request's transaction, which nobody else can guess.
    let mut answer = input.to_vec();
    if let (Some(theirs), Some(ours)) = (answer.get_mut(8..20), request.get(8..20)) {
        theirs.copy_from_slice(ours);
    }
    for datagram in [input, &answer] {
        assert_eq!(relays.datagram(HERE, datagram, now), Datagram::Other, "it is not the relay's");
        assert!(!matches!(relays.datagram(THERE, datagram, now), Datagram::Data(_)), "no channel is bound");
    }
    let opened =
        std::iter::from_fn(|| relays.poll_event()).any(|event| matches!(event, RelayEvent::Opened(_)));
    assert!(!opened, "without the password nobody opens an address for us");
    relay_stream(input);
}

fn relay_stream(input: &[u8]) {
    let (mut buffer, mut taken) = (BytesMut::from(input), 0);
    while let Ok(Some(message)) = take_message(&mut buffer) {
        assert_eq!(input.get(taken..taken + message.len()), Some(&message[..]));
        taken = input.len() - buffer.len();
    }
}

/// Lines that the other end calls its candidates (RFC 8839 section 5.1).
pub fn candidates(lines: &str) {
    let now = Instant::now();
    let mut ice = agent(now);
    let taken = lines.lines().filter(|line| ice.add_remote(line, now)).count();
    let mut again = agent(now);
    assert_eq!(lines.lines().filter(|line| again.add_remote(line, now)).count(), taken);
    ice.handle_timeout(now);
    let mut targets = Vec::new();
    while let Some(output) = ice.poll_output(now) {
        match output {
            IceOutput::Transmit { remote, .. } if !targets.contains(&remote) => targets.push(remote),
            IceOutput::Transmit { .. } => {}
            IceOutput::Told(addresses) => assert!(addresses.len() <= MAX_TRIAL.min(taken)),
            IceOutput::Genuine(_) | IceOutput::Path(_) => panic!("nobody has answered yet"),
        }
    }
    assert!(targets.len() <= MAX_REMOTE && targets.len() <= taken);
}

/// An agent that looks for a path.
fn agent(now: Instant) -> Ice {
    let mut ice = Ice::new(Role::Caller, false, false);
    ice.disclose(now);
    ice.set_remote("user".to_owned(), "a password that is long enough".to_owned(), now);
    ice.add_host(HERE);
    ice
}

fn has_moved(ice: &mut Ice, now: Instant) -> bool {
    std::iter::from_fn(|| ice.poll_output(now))
        .any(|output| matches!(output, IceOutput::Genuine(_) | IceOutput::Path(_)))
}

/// A control stream, whole.
pub fn control_stream(mut stream: &[u8]) {
    let whole = stream;
    let mut read = 0;
    let frames = async {
        while let Ok(frame) = read_frame(&mut stream).await {
            assert!(frame.len() <= MAX_CONTROL);
            assert_eq!(whole.get(read + 2..read + 2 + frame.len()), Some(&frame[..]));
            read += 2 + frame.len();
        }
    };
    // Nothing here waits.
    futures::executor::block_on(frames);
}
