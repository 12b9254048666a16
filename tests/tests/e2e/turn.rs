//! Calls through a TURN server of the user's own: a real coturn, beside a directory whose own relay is switched off.

use std::path::PathBuf;
use std::time::Duration;

use data_encoding::HEXLOWER;
use offhook_tests::call::{Call, STEP, hang_up, ring};
use offhook_tests::coturn::Coturn;
use offhook_tests::lab::{Host, Impairment, Lab, Nat};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use offhook_tests::program::{Event, ProgramError};
use offhook_tests::speech;
use rcgen::CertifiedKey;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::Outcome;

const TALK: Duration = Duration::from_secs(5);
/// What counts as having been heard.
const HEARD: f64 = 0.7;

/// A directory without a relay, a public host for coturn, and two homes.
struct Scene {
    directory: Directory,
    _place: Host,
    turn: Host,
    homes: [Host; 2],
    folder: TempDir,
    _lab: Lab,
}

impl Scene {
    fn new(name: &str, nats: [Nat; 2]) -> Result<Self, Box<dyn std::error::Error>> {
        let lab = Lab::new(name)?;
        let link = Impairment::delay_ms(5);
        let extra = vec!["--relay=false".to_owned()];
        let place = lab.host("dir", link.clone())?;
        let directory = Directory::start(Some(&place), DirectoryPlan { extra, ..DirectoryPlan::default() })?;
        let turn = lab.host("turn", link.clone())?;
        let home = |name: &str, nat| lab.router(&format!("nat{name}"), nat, link.clone())?.host(name);
        let homes = [home("a", nats[0])?, home("b", nats[1])?];
        Ok(Self { directory, _place: place, turn, homes, folder: tempfile::tempdir()?, _lab: lab })
    }

    /// Two terminals on line, each with what it is told by `--turn`.
    fn terminals(&self, turn: [Option<String>; 2]) -> Result<[Terminal; 2], ProgramError> {
        let [ada, bob] = Account::create_all(["ada", "bob"])?;
        let entry = [self.directory.addresses.clone(), self.directory.front()].concat();
        let start = |account: Account, at: usize, mic: PathBuf| {
            let speaker = self.folder.path().join(format!("{at}.wav"));
            let extra = turn[at].iter().flat_map(|uri| ["--turn".to_owned(), uri.clone()]).collect();
            let plan = TerminalPlan { extra, ..TerminalPlan::speaking(&entry, &mic, &speaker) };
            Terminal::online(account, Some(&self.homes[at]), plan)
        };
        Ok([start(ada, 0, speech::a())?, start(bob, 1, speech::b())?])
    }

    /// A call in which both hear each other through coturn, reached over `over` by all who were told of it.
    fn talk(&self, coturn: &Coturn, turn: [Option<String>; 2], over: &str) -> Outcome {
        let told = turn.clone().map(|uri| uri.is_some());
        let [mut ada, mut bob] = self.terminals(turn)?;
        let (dialled_ns, rang_ns) = ring(&mut ada, &mut bob)?;
        let call = Call::begin(&mut ada, &mut bob, dialled_ns, rang_ns)?;
        let until = call.talk(&ada, &bob, TALK)?;
        let mut through = Vec::new();
        for (terminal, told) in [&mut ada, &mut bob].into_iter().zip(told) {
            if told {
                through.push(relay(&terminal.status()?, over));
            }
        }
        // The other end's relay is coturn as well: there is no other.
        assert!(through.contains(&coturn.name()), "{through:?}");
        hang_up(&mut ada, &mut bob)?;
        let (by_ada, by_bob) = call.judge(&ada, &bob, until)?;
        assert!(by_ada.heard >= HEARD, "{by_ada:?}");
        assert!(by_bob.heard >= HEARD, "{by_bob:?}");
        Ok(())
    }
}

/// Through which relay the only call of a status goes, which is reached so.
fn relay(status: &Event, over: &str) -> String {
    let call = &status.value["calls"][0];
    assert_eq!((&call["path"], &call["relay"]["over"]), (&"relayed".into(), &over.into()), "{status:?}");
    call["relay"]["through"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn two_symmetric_nats_talk_through_a_turn_server_of_their_own() -> Outcome {
    let scene = Scene::new("turnudp", [Nat::Symmetric, Nat::Symmetric])?;
    let coturn = Coturn::start(&scene.turn, None)?;
    scene.talk(&coturn, [Some(coturn.plain("")), Some(coturn.plain("?transport=udp"))], "udp")
}

/// The other end needs no relay of its own.
#[test]
fn a_terminal_without_udp_talks_through_a_turn_server_of_its_own_over_tcp() -> Outcome {
    let scene = Scene::new("turntcp", [Nat::UdpBlocked, Nat::Symmetric])?;
    let coturn = Coturn::start(&scene.turn, None)?;
    scene.talk(&coturn, [Some(coturn.plain("")), None], "tcp")
}

/// Its certificate is its own; the terminals know it, one of them only by having been told to take any.
#[test]
fn terminals_with_nothing_but_port_443_talk_through_a_turn_server_of_their_own_over_tls() -> Outcome {
    let scene = Scene::new("turntls", [Nat::OnlyTcp443, Nat::OnlyTcp443])?;
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["turn.example".to_owned()])?;
    let coturn = Coturn::start(&scene.turn, Some((&cert.pem(), &signing_key.serialize_pem())))?;
    let pinned = coturn.tls(&format!("?pin={}", HEXLOWER.encode(&Sha256::digest(cert.der()))));
    scene.talk(&coturn, [Some(pinned), Some(coturn.tls(""))], "tls")
}

/// Somebody else's server is not asked for anything: as if there were no relay at all.
#[test]
fn a_turn_server_with_another_certificate_than_the_pinned_one_is_not_used() -> Outcome {
    let scene = Scene::new("turnpin", [Nat::OnlyTcp443, Nat::OnlyTcp443])?;
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["turn.example".to_owned()])?;
    let coturn = Coturn::start(&scene.turn, Some((&cert.pem(), &signing_key.serialize_pem())))?;
    let turn = coturn.tls(&format!("?pin={}", HEXLOWER.encode(&[0; 32])));
    let [mut ada, mut bob] = scene.terminals([Some(turn.clone()), Some(turn)])?;
    ring(&mut ada, &mut bob)?;
    bob.process.send("answer")?;
    let ended = ada.process.wait("ended", STEP)?;
    assert_eq!((ended.text("reason"), ended.text("what")), ("failed", "no_media_path"), "{}", ended.value);
    Ok(())
}
