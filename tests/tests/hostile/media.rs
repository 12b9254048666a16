//! Media under attack from a network where anybody can send packets in anybody's name, and somebody on the way reads along.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use offhook_tests::call::{Call, STEP, hang_up};
use offhook_tests::lab::{Host, Impairment, Lab};
use offhook_tests::phone::{Terminal, two_speakers};
use offhook_tests::program::Event;

use crate::{Outcome, noise, until};

type Anyhow<T> = Result<T, Box<dyn std::error::Error>>;

/// How long both speak while packets are forged.
const TALK: Duration = Duration::from_secs(6);

/// UDP ports that are open in a program's network.
fn udp_ports(terminal: &Terminal) -> BTreeSet<u16> {
    let table = std::fs::read_to_string(format!("/proc/{}/net/udp", terminal.process.pid()));
    let port = |line: &str| {
        let local = line.split_whitespace().nth(1)?;
        u16::from_str_radix(local.split(':').nth(1)?, 16).ok()
    };
    table.unwrap_or_default().lines().skip(1).filter_map(port).collect()
}

/// The cookie of every STUN message (RFC 8489 section 5).
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: u16 = 0x0006;

/// The user name of a connectivity check. It is not secret: whoever is on the way can read it.
fn username(datagram: &[u8]) -> Option<Vec<u8>> {
    if datagram.get(..2)? != [0, 1] || datagram.get(4..8)? != COOKIE {
        return None;
    }
    let mut attributes = &datagram[20..];
    loop {
        let (kind, length) = (attributes.first_chunk::<2>()?, attributes.get(2..4)?.first_chunk::<2>()?);
        let length = usize::from(u16::from_be_bytes(*length));
        if u16::from_be_bytes(*kind) == USERNAME {
            return attributes.get(4..4 + length).map(<[u8]>::to_vec);
        }
        attributes = attributes.get(4 + length.next_multiple_of(4)..)?;
    }
}

/// How a forged check tries to look genuine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seal {
    /// Not at all.
    None,
    /// By a MESSAGE-INTEGRITY that is made up.
    Integrity,
    /// By that and the right FINGERPRINT.
    Fingerprint,
}

/// A check (RFC 8489, RFC 8445) with a user name that was overheard, which wants to be nominated. What it lacks is the
/// password.
fn check(n: u64, username: &[u8], seal: Seal) -> Vec<u8> {
    let mut message = [&[0, 1, 0, 0][..], &COOKIE, &n.to_be_bytes(), &[0; 4]].concat();
    let mut attribute = |kind: u16, value: &[u8]| {
        message.extend(kind.to_be_bytes());
        message.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        message.extend(value);
        message.resize(message.len().next_multiple_of(4), 0);
        // The length counts what follows the header, this attribute included; FINGERPRINT's sum covers it.
        let length = u16::try_from(message.len() - 20).unwrap();
        message[2..4].copy_from_slice(&length.to_be_bytes());
    };
    attribute(USERNAME, username);
    attribute(0x0024, &u32::MAX.to_be_bytes()); // PRIORITY
    attribute(if n.is_multiple_of(2) { 0x802a } else { 0x8029 }, &n.to_be_bytes()); // ICE-CONTROLLING, -CONTROLLED
    attribute(0x0025, &[]); // USE-CANDIDATE
    if seal != Seal::None {
        attribute(0x0008, &[7; 20]); // MESSAGE-INTEGRITY
    }
    if seal == Seal::Fingerprint {
        let before = message.len();
        let length = u16::try_from(before + 8 - 20).unwrap();
        message[2..4].copy_from_slice(&length.to_be_bytes());
        let sum = crc32(&message) ^ 0x5354_554e;
        message.extend([0x80, 0x28, 0, 4]);
        message.extend(sum.to_be_bytes());
    }
    message
}

/// ITU V.42, as FINGERPRINT uses it (RFC 8489 section 14.7).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 * (sum & 1)))
    })
}

#[test]
fn forged_checks_are_what_they_should_be() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    for seal in [Seal::None, Seal::Integrity, Seal::Fingerprint] {
        let check = check(3, b"user:other", seal);
        assert_eq!(username(&check).as_deref(), Some(&b"user:other"[..]));
        assert_eq!(usize::from(u16::from_be_bytes([check[2], check[3]])), check.len() - 20);
    }
}

/// What an attacker can make up who knows no key of the call.
fn forged(n: u64, username: &[u8]) -> Vec<u8> {
    let quic = |first: u8| [vec![first], vec![0, 0, 0, 1], noise(n, 1_200)].concat();
    match n % 6 {
        0 => check(n, username, Seal::None),
        1 => check(n, username, Seal::Integrity),
        2 => check(n, username, Seal::Fingerprint),
        3 => quic(0xc3), // a long header: Initial (RFC 9000)
        4 => quic(0x43), // a short header
        _ => noise(n, 1_400),
    }
}

/// One end of the call as an attacker sees it.
struct Target {
    at: Vec<SocketAddrV4>,
    username: Vec<u8>,
}

impl Target {
    /// The sockets that the terminal has opened since, and the user name of the checks that it gets from the other end.
    fn find(
        lab: &Lab,
        host: &Host,
        terminal: &Terminal,
        before: &BTreeSet<u16>,
        other: &Host,
    ) -> Anyhow<Self> {
        let ports = udp_ports(terminal);
        let at = host.public_addresses().v4.ok_or("no IPv4 address")?;
        let at = ports.difference(before).map(|port| SocketAddrV4::new(at, *port)).collect();
        let (from, to) = (other.public(), host.public());
        let username = until("a check on its way", STEP, || {
            let found = lab.overheard(from, to).iter().find_map(|datagram| username(datagram));
            Ok((found.is_some(), found))
        })?;
        Ok(Self { at, username: username.unwrap_or_default() })
    }
}

/// Sends forged packets to both ends until told to stop, in the thief's own name, so that the sound might follow, and in the name
/// of the other end.
fn forge(lab: &Lab, thief: Ipv4Addr, ends: &[Target; 2], over: &AtomicBool) -> u64 {
    let mut sent = 0;
    let thief = [SocketAddrV4::new(thief, 4_444)];
    for n in (0..).take_while(|_| !over.load(Ordering::Relaxed)) {
        for (end, other) in [(0, 1), (1, 0)] {
            for from in thief.iter().chain(&ends[other].at) {
                for to in &ends[end].at {
                    lab.inject_udp(*from, *to, &forged(n, &ends[end].username));
                    sent += 1;
                }
            }
        }
        // As fast as voice goes: enough to be noticed, not to fill the link.
        std::thread::sleep(Duration::from_millis(10));
    }
    sent
}

#[test]
fn spoofed_packets_move_no_call() -> Outcome {
    let lab = Lab::new("spoof")?;
    let host = |name| lab.host(name, Impairment::delay_ms(5));
    let (dir, home_a, home_b, thief) = (host("dir")?, host("a")?, host("b")?, host("thief")?);
    let thief_v4 = thief.public_addresses().v4.ok_or("no IPv4 address")?;
    let folder = tempfile::tempdir()?;
    let (_directory, mut ada, mut bob) = two_speakers(&dir, [&home_a, &home_b], folder.path())?;
    let before = [udp_ports(&ada), udp_ports(&bob)];
    lab.overhear(home_a.public(), home_b.public());
    lab.overhear(home_b.public(), home_a.public());
    let call = Call::place(&mut ada, &mut bob)?;
    let ends = [
        Target::find(&lab, &home_a, &ada, &before[0], &home_b)?,
        Target::find(&lab, &home_b, &bob, &before[1], &home_a)?,
    ];
    assert!(ends.iter().all(|end| !end.at.is_empty()), "the call has sockets of its own");

    // From here on neither end may change its path, not even for another direct one.
    ada.process.forget();
    bob.process.forget();
    let over = AtomicBool::new(false);
    let (until, sent) = std::thread::scope(|scope| {
        let forger = scope.spawn(|| forge(&lab, thief_v4, &ends, &over));
        let until = call.talk(&ada, &bob, TALK);
        over.store(true, Ordering::Relaxed);
        until.map(|until| (until, forger.join().unwrap()))
    })?;
    assert!(sent > 1_000, "only {sent} forged packets");
    let answered =
        lab.flow_bytes(home_a.public(), thief.public()) + lab.flow_bytes(home_b.public(), thief.public());
    for terminal in [&ada, &bob] {
        let moved = |event: &Event| event.name() == "path";
        terminal.process.never("that the path has changed", Duration::ZERO, moved)?;
    }
    hang_up(&mut ada, &mut bob)?;
    let (by_ada, by_bob) = call.judge(&ada, &bob, until)?;
    println!("heard {:.2} and {:.2} among {sent} forged packets", by_ada.heard, by_bob.heard);
    assert!(by_ada.heard >= 0.7 && by_bob.heard >= 0.7, "{by_ada:?} {by_bob:?}");
    assert_eq!(answered, 0, "nothing goes to a thief, not even an error");
    Ok(())
}
