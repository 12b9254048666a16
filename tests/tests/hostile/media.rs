//! Media under attack from a network where anybody can send packets in anybody's name.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use offhook_tests::call::{Call, hang_up};
use offhook_tests::lab::{Impairment, Lab};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use offhook_tests::speech;

use crate::{Outcome, noise};

/// How long both speak while packets are forged.
const TALK: Duration = Duration::from_secs(6);

/// UDP ports that are open in a program's network.
fn udp_ports(pid: u32) -> BTreeSet<u16> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/udp")).unwrap_or_default();
    let port = |line: &str| {
        let local = line.split_whitespace().nth(1)?;
        u16::from_str_radix(local.split(':').nth(1)?, 16).ok()
    };
    table.lines().skip(1).filter_map(port).collect()
}

/// A STUN binding request (RFC 8489) that wants to be nominated (RFC 8445) and whose integrity is made up, or missing.
fn stun(n: u64, with_integrity: bool) -> Vec<u8> {
    let mut attributes = Vec::new();
    let mut attribute = |kind: u16, value: &[u8]| {
        attributes.extend(kind.to_be_bytes());
        attributes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        attributes.extend(value);
    };
    attribute(0x0024, &u32::MAX.to_be_bytes()); // PRIORITY
    attribute(0x802a, &n.to_be_bytes()); // ICE-CONTROLLING
    attribute(0x0025, &[]); // USE-CANDIDATE
    if with_integrity {
        attribute(0x0008, &[7; 20]); // MESSAGE-INTEGRITY
    }
    let mut message = vec![0, 1];
    message.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    message.extend(0x2112_a442_u32.to_be_bytes());
    message.extend([&n.to_be_bytes()[..], &[0; 4]].concat());
    message.extend(attributes);
    message
}

/// What an attacker can make up who cannot read the call's packets.
fn forged(n: u64) -> Vec<u8> {
    let quic = |first: u8| [vec![first], vec![0, 0, 0, 1], noise(n, 1_200)].concat();
    match n % 5 {
        0 => stun(n, false),
        1 => stun(n, true),
        2 => quic(0xc3), // a long header: Initial (RFC 9000)
        3 => quic(0x43), // a short header
        _ => noise(n, 1_400),
    }
}

#[test]
fn spoofed_packets_move_no_call() -> Outcome {
    let lab = Lab::new("spoof")?;
    let host = |name| lab.host(name, Impairment::delay_ms(5));
    let (dir, home_a, home_b, thief) = (host("dir")?, host("a")?, host("b")?, host("thief")?);
    let directory = Directory::start(Some(&dir), DirectoryPlan::default())?;
    let folder = tempfile::tempdir()?;
    let plan = |mic: std::path::PathBuf, name| {
        TerminalPlan::speaking(&directory.addresses, &mic, &folder.path().join(name))
    };
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let mut ada = Terminal::online(ada, Some(&home_a), plan(speech::a(), "a.wav"))?;
    let mut bob = Terminal::online(bob, Some(&home_b), plan(speech::b(), "b.wav"))?;
    let before = (udp_ports(ada.process.pid()), udp_ports(bob.process.pid()));
    let call = Call::place(&mut ada, &mut bob)?;
    let ports =
        |pid, before: &BTreeSet<u16>| -> Vec<u16> { udp_ports(pid).difference(before).copied().collect() };
    let (of_ada, of_bob) = (ports(ada.process.pid(), &before.0), ports(bob.process.pid(), &before.1));
    assert!(!of_ada.is_empty() && !of_bob.is_empty(), "the call has sockets of its own");

    let at = |address: Ipv4Addr, ports: &[u16]| -> Vec<SocketAddrV4> {
        ports.iter().map(|port| SocketAddrV4::new(address, *port)).collect()
    };
    let (ada_at, bob_at) = (at(home_a.public(), &of_ada), at(home_b.public(), &of_bob));
    // In the thief's own name, so that the sound might follow, and in the name of the other end.
    let thief_at = at(thief.public(), &[4_444]);
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let until = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for (from, to) in
                    [(&thief_at, &bob_at), (&thief_at, &ada_at), (&ada_at, &bob_at), (&bob_at, &ada_at)]
                {
                    let n = sent.fetch_add(1, Ordering::Relaxed);
                    let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
                    pairs.for_each(|(from, to)| lab.inject_udp(from, to, &forged(n / 4)));
                }
                // As fast as voice goes: enough to be noticed, not to fill the link.
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let until = call.talk(&ada, &bob, TALK);
        over.store(true, Ordering::Relaxed);
        until
    })?;
    assert!(sent.load(Ordering::Relaxed) > 400, "too few forged packets");
    let answered =
        lab.flow_bytes(home_a.public(), thief.public()) + lab.flow_bytes(home_b.public(), thief.public());
    for terminal in [&ada, &bob] {
        terminal.process.never("that the path has changed", Duration::ZERO, |event| {
            ["path", "ended"].contains(&event.name()) && event.text("path") != "direct"
        })?;
    }
    hang_up(&mut ada, &mut bob)?;
    let (by_ada, by_bob) = call.judge(&ada, &bob, until)?;
    println!(
        "heard {:.2} and {:.2} among {} forged packets; {answered} bytes went to the thief",
        by_ada.heard,
        by_bob.heard,
        sent.load(Ordering::Relaxed)
    );
    assert!(by_ada.heard >= 0.7 && by_bob.heard >= 0.7, "{by_ada:?} {by_bob:?}");
    assert_eq!(answered, 0, "nothing goes to a thief, not even an error");
    Ok(())
}
