//! Who reaches whom, and which way: a set that stands for the matrix of the benchmark `reach`.

use offhook_tests::call::{STEP, ring};
use offhook_tests::lab::Network::{
    AddressRestricted, CarrierCone, DualStack, Firewall, FullCone, Ipv6Only, OnlyTcp443, PortRestricted,
    Public, Rejecting, Symmetric, UdpBlocked,
};
use offhook_tests::lab::{Host, Impairment, Lab, Nat};
use offhook_tests::meeting::{Meeting, Met, Stage};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use offhook_tests::program::Event;

use crate::Outcome;

/// Both talk and hear each other, and it is on a direct path in the end, or on a relayed one. Two pairs at a time.
fn all_meet(name: &str, meetings: &[Meeting], path: &str) -> Outcome {
    let (left, right) = meetings.split_at(meetings.len() / 2);
    let work = |name: String, meetings: &[Meeting]| -> Result<Vec<Met>, String> {
        let stage = Stage::new(&name).map_err(|error| error.to_string())?;
        meetings.iter().map(|meeting| stage.call(*meeting).map_err(|error| error.to_string())).collect()
    };
    let met = std::thread::scope(|scope| {
        let threads =
            [scope.spawn(|| work(format!("{name}1"), left)), scope.spawn(|| work(format!("{name}2"), right))];
        threads.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let [left, right] = met;
    for met in left?.into_iter().chain(right?) {
        assert!(met.is_ok() && met.path.as_deref() == Some(path), "{met:#?}");
    }
    Ok(())
}

#[test]
fn calls_go_directly_through_pairs_of_nats_that_can_be_pierced() -> Outcome {
    let pairs = [
        (Public, PortRestricted),
        (PortRestricted, Public),
        (Firewall, Firewall),
        (FullCone, Symmetric),
        (Symmetric, AddressRestricted),
        (Rejecting, PortRestricted),
        (PortRestricted, Rejecting),
        (CarrierCone, PortRestricted),
    ];
    all_meet("nats", &pairs.map(|(caller, callee)| Meeting::Apart(caller, callee)), "direct")
}

#[test]
fn calls_go_through_a_relay_where_nothing_can_be_pierced() -> Outcome {
    let pairs = [
        (Symmetric, Symmetric),
        (UdpBlocked, PortRestricted),
        (PortRestricted, OnlyTcp443),
        (OnlyTcp443, UdpBlocked),
    ];
    all_meet("relays", &pairs.map(|(caller, callee)| Meeting::Apart(caller, callee)), "relayed")
}

#[test]
fn calls_go_directly_over_ipv6_alone_and_beside_ipv4() -> Outcome {
    let pairs =
        [(Ipv6Only, Ipv6Only), (Ipv6Only, DualStack), (DualStack, PortRestricted), (DualStack, DualStack)];
    all_meet("six", &pairs.map(|(caller, callee)| Meeting::Apart(caller, callee)), "direct")
}

#[test]
fn neighbours_behind_one_nat_talk_directly() -> Outcome {
    all_meet("near", &[Meeting::OneLan, Meeting::OneCarrier { hairpin: true }], "direct")
}

/// A caller and a callee, each with a directory of its own.
struct TwoHomes {
    lab: Lab,
    home_a: Host,
    home_b: Host,
    directories: [(Host, Directory); 2],
    ada: Terminal,
    bob: Terminal,
}

impl TwoHomes {
    fn start(
        name: &str,
        callee: impl FnOnce(&Lab) -> Result<(Host, Vec<String>), Box<dyn std::error::Error>>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let lab = Lab::new(name)?;
        let link = Impairment::delay_ms(5);
        let (host_1, host_2) = (lab.host("d1", link.clone())?, lab.host("d2", link.clone())?);
        let first = Directory::start(Some(&host_1), DirectoryPlan::default())?;
        let entry = vec![first.address()];
        let second = Directory::start(Some(&host_2), DirectoryPlan { entry, ..DirectoryPlan::default() })?;
        let home_a = lab.router("nata", Nat::PortRestricted, link)?.host("a")?;
        let (home_b, extra) = callee(&lab)?;
        let [ada, bob] = Account::create_all(["ada", "bob"])?;
        let plan = |directory: &Directory, extra| TerminalPlan {
            entry: directory.addresses.clone(),
            extra,
            ..TerminalPlan::default()
        };
        let ada = Terminal::online(ada, Some(&home_a), plan(&first, Vec::new()))?;
        let bob = Terminal::online(bob, Some(&home_b), plan(&second, extra))?;
        Ok(Self { lab, home_a, home_b, directories: [(host_1, first), (host_2, second)], ada, bob })
    }

    /// Bytes from the caller's home to the callee's and back.
    fn between(&self) -> u64 {
        let (a, b) = (self.home_a.public(), self.home_b.public());
        self.lab.flow_bytes(a, b) + self.lab.flow_bytes(b, a)
    }
}

/// The one way of the specification: a directory passes the invite on.
#[test]
fn an_invite_is_passed_on_by_the_directory_of_the_callee() -> Outcome {
    let mut scene = TwoHomes::start("passed", |lab| {
        let host = lab.router("natb", Nat::PortRestricted, Impairment::delay_ms(5))?.host("b")?;
        Ok((host, Vec::new()))
    })?;
    ring(&mut scene.ada, &mut scene.bob)?;
    assert_eq!(scene.between(), 0, "nothing went past the directories");
    scene.bob.process.send("reject")?;
    assert_eq!(scene.ada.process.wait("ended", STEP)?.text("reason"), "declined");
    Ok(())
}

/// The other one: the address is looked up, and the terminal connects by itself.
#[test]
fn an_invite_goes_straight_to_a_published_address_when_the_callees_directory_is_dead() -> Outcome {
    let mut scene = TwoHomes::start("straight", |lab| {
        let host = lab.host("b", Impairment::delay_ms(5))?;
        let address = format!("/ip4/{}/udp/4001/quic-v1", host.address());
        let extra = ["--publish-address", "--listen", &address, "--external", &address];
        Ok((host, extra.map(str::to_owned).to_vec()))
    })?;
    assert_eq!(scene.between(), 0);
    // As if the cable of its data centre were cut: nobody says goodbye, nothing is published anew yet.
    let (host, _) = &scene.directories[1];
    let outage = host.link().cut();
    let to_directory = host.link().counters();
    ring(&mut scene.ada, &mut scene.bob)?;
    assert!(scene.between() > 0, "it went straight");
    scene.bob.process.send("reject")?;
    let is_over = |event: &Event| event.name() == "ended" && event.text("reason") == "declined";
    scene.ada.process.wait_for("that it was declined", STEP, is_over)?;
    let tried = scene.directories[1].0.link().counters().since(&to_directory);
    assert_eq!(tried.up.packets, tried.up.lost, "the directory said nothing to anybody");
    drop(outage);
    Ok(())
}
