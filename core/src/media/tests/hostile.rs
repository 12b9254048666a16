//! What an intruder, a cheating peer or a dying network must not achieve.

use std::net::{SocketAddr, UdpSocket};

use super::*;
use crate::audio::DeviceSpec;
use offhook_proto::signalling::{ByeReason, LastWord};

fn pair() -> Call {
    Call::new(on_loopback(Role::Caller), on_loopback(Role::Callee))
}

fn connected(ends: &[End; 2]) -> bool {
    ends.iter().all(|end| exporter(end).is_some())
}

fn addresses(end: &End) -> (SocketAddr, SocketAddr) {
    match end.leg.stats().borrow().path {
        Path::Direct { local, remote } => (local, remote),
        Path::Tunnel | Path::Relayed { .. } => panic!("no direct path"),
    }
}

/// A STUN binding request without MESSAGE-INTEGRITY, and one with a wrong one, as ICE sends them.
fn forged_checks(ufrags: &str) -> Vec<Vec<u8>> {
    let head = |length: u16| {
        let mut bytes = vec![0, 1];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        bytes
    };
    let mut body = vec![0, 6];
    body.extend((ufrags.len() as u16).to_be_bytes());
    body.extend(ufrags.bytes());
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend([0, 0x24, 0, 4, 0x7f, 0, 0, 1]); // PRIORITY
    body.extend([0, 0x25, 0, 0]); // USE-CANDIDATE
    let bare = [head(body.len() as u16), body.clone()].concat();
    body.extend([0, 8, 0, 20]);
    body.extend([0x5a; 20]); // MESSAGE-INTEGRITY
    vec![bare, [head(body.len() as u16), body].concat()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spoofed_packet_moves_nothing() {
    let mut call = pair();
    call.run("connecting", |ends| connected(ends) && ends.iter().all(is_direct)).await;
    let intruder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let victim = &call.ends[1].leg;
    let before = victim.stats().borrow().clone();
    let (address, _) = addresses(&call.ends[1]);
    // A long header that looks like a QUIC Initial, short headers, a tunnel's relative, RTP, and noise.
    let mut initial = vec![0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x44, 0xb0];
    initial.resize(1_200, 0x77);
    let packets = [initial, vec![0x40; 60], vec![0x7f; 1_200], vec![0x80; 100], vec![0x16; 100], vec![0xff]];
    for packet in &packets {
        intruder.send_to(packet, address).unwrap();
    }
    let ufrags = format!("{}:{}", victim.offer().ice_ufrag, call.ends[0].leg.offer().ice_ufrag);
    for check in forged_checks(&ufrags) {
        intruder.send_to(&check, address).unwrap();
    }
    call.run("refusing", |ends| {
        ends[1].leg.stats().borrow().refused >= before.refused + packets.len() as u64
    })
    .await;
    let after = call.ends[1].leg.stats().borrow().clone();
    assert_eq!(after.path, before.path);
    // And the two still talk to each other.
    call.ends[0].leg.send_control(b"still here".to_vec());
    call.run("control", |ends| {
        ends[1].log.iter().any(|e| matches!(e, MediaEvent::Control(f) if f == b"still here"))
    })
    .await;
    intruder.set_nonblocking(true).unwrap();
    assert!(intruder.recv(&mut [0; 2_000]).is_err(), "nobody answers the intruder");
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_disclosure_the_keys_are_agreed_and_no_address_is_shown() {
    let undisclosed = |role| MediaConfig { disclose: false, ..on_loopback(role) };
    let mut call = Call::new(undisclosed(Role::Caller), undisclosed(Role::Callee));
    call.run("keys by tunnel", connected).await;
    for end in &call.ends {
        assert!(!end.log.iter().any(|event| matches!(event, MediaEvent::Candidates(_))));
        assert_eq!(end.leg.stats().borrow().bytes_sent, 0, "not a single UDP packet");
        let path = end.find(|event| {
            let MediaEvent::Connected { path, .. } = event else { return None };
            Some(path.clone())
        });
        assert_eq!(path, Some(Path::Tunnel));
    }
    call.disclose(1);
    call.run("the callee's candidates", |ends| !ends[1].told.is_empty()).await;
    assert_eq!(call.ends[0].leg.stats().borrow().bytes_sent, 0, "the caller has not disclosed yet");
    call.disclose(0);
    call.run("a direct path", |ends| {
        ends.iter()
            .all(|end| end.log.iter().any(|e| matches!(e, MediaEvent::PathChanged(Path::Direct { .. }))))
    })
    .await;
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voice_never_takes_the_tunnel() {
    let mut call = pair();
    call.candidates = false;
    call.run("keys by tunnel", connected).await;
    call.ends.iter().for_each(|end| end.leg.start_audio());
    call.run("a second of talking", |ends| {
        ends.iter().all(|end| end.leg.stats().borrow().packets_sent >= 50)
    })
    .await;
    for (n, end) in call.ends.iter().enumerate() {
        assert_eq!(end.leg.stats().borrow().packets_received, 0);
        assert!(call.carried[n] < 20, "{} packets for the handshake", call.carried[n]);
    }
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_tunnel_the_handshake_takes_the_direct_path() {
    let mut call = pair();
    call.tunnel = false;
    call.run("connecting", connected).await;
    assert_eq!(exporter(&call.ends[0]), exporter(&call.ends[1]));
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_certificate_than_the_announced_one_ends_the_leg() {
    for liar in [0, 1] {
        let ends = [End::start(on_loopback(Role::Caller)), End::start(on_loopback(Role::Callee))];
        let mut offers = ends.each_ref().map(|end| end.leg.offer());
        offers[liar].fingerprint[0] ^= 1;
        let [of_caller, of_callee] = offers;
        ends[1].leg.set_remote(of_caller);
        ends[0].leg.set_remote(of_callee);
        let mut call = Call { ends, tunnel: true, candidates: true, only_relayed: false, carried: [0, 0] };
        call.run("refusal", |ends| {
            ends[1 - liar].log.iter().any(|event| matches!(event, MediaEvent::Failed(MediaError::PeerKey)))
        })
        .await;
        assert!(call.ends.iter().any(|end| exporter(end).is_none()));
        call.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_frames_keep_their_order_and_their_bound() {
    let mut call = pair();
    call.run("connecting", connected).await;
    for end in &call.ends {
        end.leg.send_control(vec![0; 8 * 1024 + 1]);
        (0..20u8).for_each(|n| end.leg.send_control(vec![n; usize::from(n) * 400 + 1]));
    }
    let frames = |end: &End| -> Vec<(u8, usize)> {
        let frame = |event: &MediaEvent| {
            let MediaEvent::Control(frame) = event else { return None };
            Some((frame[0], frame.len()))
        };
        end.log.iter().filter_map(frame).collect()
    };
    call.run("frames", |ends| ends.iter().all(|end| frames(end).len() == 20)).await;
    let expected: Vec<_> = (0..20u8).map(|n| (n, usize::from(n) * 400 + 1)).collect();
    assert_eq!((frames(&call.ends[0]), frames(&call.ends[1])), (expected.clone(), expected));
    call.close().await;
}

fn hasty() -> Call {
    let config = |role| MediaConfig { idle_timeout: Duration::from_millis(1_500), ..on_loopback(role) };
    Call::new(config(Role::Caller), config(Role::Callee))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_noticed() {
    let mut call = hasty();
    call.run("connecting", |ends| connected(ends) && ends.iter().all(is_direct)).await;
    // What the callee sends goes nowhere any more.
    let hole = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (local, _) = addresses(&call.ends[1]);
    call.ends[1].leg.socket().set_path(Path::Direct { local, remote: hole.local_addr().unwrap() });
    call.run("time-out", |ends| {
        ends[0].log.iter().any(|e| matches!(e, MediaEvent::Failed(MediaError::Lost)))
    })
    .await;
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_call_without_a_path_fails_as_such_at_both_ends() {
    let without_path =
        |end: &End| end.log.iter().any(|event| matches!(event, MediaEvent::Failed(MediaError::NoPath)));
    let mut call = hasty();
    call.candidates = false;
    call.run("keys by tunnel", connected).await;
    call.tunnel = false;
    call.ends.iter().for_each(|end| end.leg.start_audio());
    call.run("failure", |ends| ends.iter().all(without_path)).await;
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leg_that_fails_is_not_taken_for_one_that_hung_up() {
    let audio = AudioConfig {
        mic: DeviceSpec::None,
        speaker: DeviceSpec::File("/no/such/x.wav".into()),
        ..AudioConfig::default()
    };
    let broken = MediaConfig { audio, ..on_loopback(Role::Caller) };
    let mut call = Call::new(broken, on_loopback(Role::Callee));
    call.run("connecting", |ends| connected(ends) && ends.iter().all(is_direct)).await;
    call.ends[0].leg.start_audio();
    let reason = LastWord::Bye(Some(ByeReason::Media));
    call.run("failure at both ends", |[a, b]| {
        a.log.iter().any(|event| matches!(event, MediaEvent::Failed(MediaError::Audio(_))))
            && b.log.iter().any(|event| matches!(event, MediaEvent::Closed(Some(last)) if *last == reason))
    })
    .await;
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_long_it_rings_nothing_is_sent_and_nothing_times_out() {
    let mut call = hasty();
    call.candidates = false;
    call.run("keys by tunnel", connected).await;
    let begun = std::time::Instant::now();
    let (mut last, mut quiet_since) = (call.carried, begun);
    while begun.elapsed() < Duration::from_secs(5) {
        let until = std::time::Instant::now() + GLANCE;
        call.run("ringing", |_| std::time::Instant::now() >= until).await;
        if std::mem::replace(&mut last, call.carried) != call.carried {
            quiet_since = std::time::Instant::now();
        }
    }
    assert!(quiet_since.elapsed() > Duration::from_secs(3), "the tunnel is for the keys only: {last:?}");
    call.candidates = true;
    for (n, end) in call.ends.iter().enumerate() {
        let told = end.find(|event| {
            let MediaEvent::Candidates(lines) = event else { return None };
            Some(lines.clone())
        });
        call.ends[1 - n].leg.add_remote_candidates(told.unwrap());
    }
    call.run("a direct path", |ends| ends.iter().all(is_direct)).await;
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voice_tries_an_address_that_signalling_told_but_not_for_long() {
    let mut call = pair();
    call.candidates = false;
    call.run("keys by tunnel", connected).await;
    let told = UdpSocket::bind("127.0.0.1:0").unwrap();
    told.set_nonblocking(true).unwrap();
    let line = format!("candidate:1 1 udp 1 127.0.0.1 {} typ host", told.local_addr().unwrap().port());
    let leg = &call.ends[0].leg;
    leg.add_remote_candidates(vec![line]);
    let mut buffer = [0; 2_000];
    let mut voice = || {
        let packets =
            std::iter::from_fn(|| told.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec()));
        // Anything but STUN.
        packets.filter(|packet| packet[0] > 3).count()
    };
    call.run("a check", |ends| ends[0].leg.stats().borrow().bytes_sent > 0).await;
    assert_eq!(voice(), 0, "not before the answer");
    call.ends[0].leg.start_audio();
    call.run("two seconds of talking", |ends| ends[0].leg.stats().borrow().packets_sent >= 100).await;
    let tried = voice();
    println!("{tried} packets tried");
    assert!((5..=60).contains(&tried), "a moment of voice: {tried}");
    assert_eq!(call.ends[0].leg.stats().borrow().path, Path::Tunnel, "a try is not a path");
    assert!(call.carried[0] < 20, "and voice never takes the tunnel: {:?}", call.carried);
    call.run("another second", |ends| ends[0].leg.stats().borrow().packets_sent >= 150).await;
    assert_eq!(voice(), 0, "that was all");
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_leg_tells_the_other_and_leaves_nothing_behind() {
    let mut call = pair();
    call.run("connecting", |ends| connected(ends) && ends.iter().all(is_direct)).await;
    call.ends.iter().for_each(|end| end.leg.start_audio());
    call.run("talking", |ends| ends.iter().all(|end| epochs(end).is_some())).await;
    let ports = call.ends.each_ref().map(|end| addresses(end).0);
    let [a, mut b] = call.ends;
    let last = LastWord::Bye(Some(ByeReason::NotConfirmed));
    a.leg.last_word(last);
    a.leg.close().await;
    assert!(UdpSocket::bind(ports[0]).is_ok(), "its thread, and with it all of the leg, has ended");
    let closed = async {
        while let Some(event) = b.events.recv().await {
            if let MediaEvent::Closed(said) = event {
                return said;
            }
        }
        panic!("the other end was not told");
    };
    assert_eq!(timeout(PATIENCE, closed).await.unwrap(), Some(last));
    b.leg.close().await;
    assert!(UdpSocket::bind(ports[1]).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_leg_leaves_nothing_behind() {
    let call = pair();
    let ports: Vec<_> =
        call.ends.iter().flat_map(|end| end.leg.socket().bound().collect::<Vec<_>>()).collect();
    drop(call);
    let gone = async {
        while ports.iter().any(|port| UdpSocket::bind(port).is_err()) {
            tokio::time::sleep(GLANCE).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("threads and sockets end");
}

#[test]
fn a_leg_needs_no_runtime_of_its_owner() {
    let (events, mut told) = mpsc::channel(EVENTS);
    let config = MediaConfig { disclose: false, ..on_loopback(Role::Caller) };
    let leg = MediaLeg::start(config, events).unwrap();
    leg.disclose();
    // Which of them depends on who was faster.
    assert!(matches!(told.blocking_recv(), Some(MediaEvent::Candidates(_) | MediaEvent::Withheld(_))));
    drop(leg);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_through_the_tunnel_is_cut_off() {
    let call = pair();
    (0..5_000).for_each(|_| call.ends[1].leg.tunnel(vec![0xc0; 1_200]));
    call.ends[1].leg.tunnel(vec![0xc0; 1_501]);
    call.ends[1].leg.tunnel(Vec::new());
    let mut call = call;
    call.run("counting", |ends| ends[1].leg.stats().borrow().refused >= 5_002 - 64).await;
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_that_a_stun_server_sees_is_told() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = server.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        let mut request = [0; 1_500];
        // The first request is ignored: the client has to repeat it.
        server.recv_from(&mut request).unwrap();
        let (length, from) = server.recv_from(&mut request).unwrap();
        assert_eq!(length, 20, "a plain binding request");
        let mut answer = vec![1, 1, 0, 12];
        answer.extend(&request[4..20]);
        // XOR-MAPPED-ADDRESS 203.0.113.5:4444 (RFC 8489 section 14.2)
        answer.extend([0, 0x20, 0, 8, 0, 1]);
        answer.extend((4444u16 ^ 0x2112).to_be_bytes());
        answer.extend((u32::from_be_bytes([203, 0, 113, 5]) ^ 0x2112_a442).to_be_bytes());
        server.send_to(&answer, from).unwrap();
    });
    let config = MediaConfig { stun_servers: vec![address], ..on_loopback(Role::Caller) };
    let mut end = End::start(config);
    let told = async {
        loop {
            if let Some(MediaEvent::Candidates(lines)) = end.events.recv().await
                && lines.iter().any(|line| line.contains(" 203.0.113.5 4444 typ srflx"))
            {
                return;
            }
        }
    };
    timeout(PATIENCE, told).await.unwrap();
    answering.join().unwrap();
    end.leg.close().await;
}

#[tokio::test]
async fn a_missing_microphone_file_is_told_at_once() {
    let (events, _keep) = mpsc::channel(1);
    let audio = AudioConfig {
        mic: DeviceSpec::File("/no/such/file.wav".into()),
        speaker: DeviceSpec::None,
        ..AudioConfig::default()
    };
    let error = MediaLeg::start(MediaConfig { audio, ..on_loopback(Role::Caller) }, events).err().unwrap();
    assert!(error.to_string().contains("/no/such/file.wav"), "{error}");
}
