//! Who may see where a terminal is.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use offhook_proto::identity::{DirectoryKey, TerminalCert};
use offhook_proto::number::{Number, RecordKey};
use offhook_proto::record;
use offhook_proto::service::Response;
use offhook_proto::signalling::{
    CallId, Codec, Introduction, MediaOffer, Message, Packet, RejectReason, is_relayed, open, seal,
};
use offhook_proto::wire as encoding;
use offhook_tests::call::{STEP, ring};
use offhook_tests::hostile::wire;
use offhook_tests::hostile::{Gang, Node, crawl, in_bytes, seed_near};
use offhook_tests::lab::{Host, Impairment, Lab};
use offhook_tests::people::{Person, now};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};

use crate::{Outcome, until};

type Anyhow<T> = Result<T, Box<dyn std::error::Error>>;

/// Directories, a terminal on a host without NAT, whose address anybody could use who knew it, and a stranger's host.
struct Scene {
    lab: Lab,
    stranger: Host,
    home: Host,
    /// The terminal's own.
    directory: Directory,
    /// Further nodes of the DHT.
    others: Vec<Directory>,
    _hosts: Vec<Host>,
    bob: Terminal,
    key: RecordKey,
}

impl Scene {
    fn start(name: &str, extra: &[&str]) -> Anyhow<Self> {
        Self::among(0, name, extra)
    }

    fn among(others: usize, name: &str, extra: &[&str]) -> Anyhow<Self> {
        let lab = Lab::new(name)?;
        let host = |name: &str| lab.host(name, Impairment::delay_ms(2));
        let (dir, home, stranger) = (host("dir")?, host("home")?, host("stranger")?);
        let directory = Directory::start(Some(&dir), DirectoryPlan::default())?;
        let mut hosts = vec![dir];
        let mut nodes = Vec::new();
        for n in 0..others {
            let host = host(&format!("node{n}"))?;
            let plan = DirectoryPlan { entry: vec![directory.address()], ..DirectoryPlan::default() };
            nodes.push(Directory::start(Some(&host), plan)?);
            hosts.push(host);
        }
        let plan = TerminalPlan {
            entry: vec![directory.address()],
            extra: extra.iter().map(ToString::to_string).collect(),
            ..TerminalPlan::default()
        };
        let bob = Terminal::online(Account::create("bob")?, Some(&home), plan)?;
        let key = bob.number().parse::<Number>()?.record_key(None).unwrap();
        Ok(Self { lab, stranger, home, directory, others: nodes, _hosts: hosts, bob, key })
    }

    /// Nothing has passed between the terminal and the stranger.
    fn assert_no_packets(&self) {
        let (home, stranger) = (self.home.public(), self.stranger.public());
        assert_eq!(self.lab.flow_bytes(home, stranger), 0, "the terminal sent packets to the stranger");
        assert_eq!(self.lab.flow_bytes(stranger, home), 0, "the stranger knew where to send packets");
    }
}

/// Other nodes of the DHT that a crawler goes through.
const OTHERS: usize = 7;

/// What a crawler has met.
#[derive(Debug)]
struct Crawl {
    nodes: Vec<PeerId>,
    /// Nodes that serve the record.
    holders: usize,
    terminals: Vec<PeerId>,
}

/// Walks the whole DHT, meets every node of it, asks each what it has under the number and under other keys, and meets the terminals
/// that the answers name.
fn snoop(node: &Node, scene: &Scene) -> Anyhow<Crawl> {
    let mut keys: Vec<[u8; 32]> = (0..8).map(|n| [n * 32 + 5; 32]).collect();
    keys.push(scene.key.0);
    let mut crawl =
        Crawl { nodes: crawl(node, &scene.directory.addresses, &keys)?, holders: 0, terminals: Vec::new() };
    let mut met = BTreeSet::new();
    for peer in &crawl.nodes {
        node.ask(*peer, wire::hello())?;
        for key in &keys {
            let (by_kad, by_signal) = node.held_by(*peer, key)?;
            crawl.holders += usize::from(by_kad.is_some() && by_signal.is_some());
            for bytes in by_kad.into_iter().chain(by_signal) {
                let set = record::check(&scene.key, &bytes, now())?;
                let addrs = set.terminals.iter().flat_map(|terminal| &terminal.addrs);
                for addr in addrs.filter(|addr| met.insert((*addr).clone())) {
                    // A terminal listens at its relay, for whoever wants to talk to it through that. A relay lets so many
                    // through, so each address is used once.
                    crawl.terminals.push(node.meet(addr.as_str())?);
                }
            }
        }
    }
    // What a terminal answers when asked over the relay.
    for terminal in &crawl.terminals {
        node.ask(*terminal, wire::hello())?;
        node.ask(*terminal, wire::find(&scene.key.0))?;
    }
    Ok(crawl)
}

#[test]
fn a_crawler_never_sees_a_terminals_address() -> Outcome {
    let scene = Scene::among(OTHERS, "crawl", &[])?;
    let gang = Gang::new(Some(&scene.stranger))?;
    // A node is in the tables of others some moments after it has come.
    let (crawler, crawl) = until("that every node is met and most hold the record", STEP, || {
        let crawler = gang.client()?;
        let crawl = snoop(&crawler, &scene)?;
        let whole = crawl.nodes.len() == 1 + scene.others.len() && crawl.holders > OTHERS / 2;
        Ok((whole, (crawler, crawl)))
    })?;
    assert!(!crawl.terminals.is_empty(), "the terminal was met through its relay");
    let seen = crawler.evidence.look();
    assert!(seen.identified.iter().any(|identified| crawl.terminals.contains(&identified.peer)));
    assert_eq!(seen.mentions(scene.home.public()), Vec::<String>::new());
    drop(seen);
    scene.assert_no_packets();
    Ok(())
}

/// That the test above would notice: here the user wants the address published.
#[test]
fn a_crawler_sees_an_address_that_its_owner_publishes() -> Outcome {
    let address = "/ip4/0.0.0.0/udp/4001/quic-v1";
    let scene = Scene::start("open", &["--publish-address=true", "--listen", address])?;
    let gang = Gang::new(Some(&scene.stranger))?;
    let crawler = gang.client()?;
    snoop(&crawler, &scene)?;
    let seen = crawler.evidence.look();
    assert!(!seen.mentions(scene.home.public()).is_empty(), "a published address is seen");
    Ok(())
}

/// A stranger who calls by hand, and notes everything that comes back.
struct Stranger {
    person: Person,
    node: Node,
    directory: PeerId,
    to: TerminalCert,
    call: CallId,
    sent: u32,
    seen: usize,
}

impl Stranger {
    fn start(gang: &Gang, scene: &Scene, person: Person) -> Anyhow<Self> {
        let node = gang.client_of(person.terminal.seed())?;
        let directory = node.meet(&scene.directory.address())?;
        let answer = node.ask(directory, wire::register(&person.cert(now())))?;
        assert!(matches!(answer, Response::Welcome { .. }), "{answer:?}");
        let (_, bytes) = node.held_by(directory, &scene.key.0)?;
        let set = record::check(&scene.key, &bytes.ok_or("no record")?, now())?;
        let to = *set.terminals.first().ok_or("no terminal")?.certificate();
        Ok(Self { person, node, directory, to, call: CallId::from_bytes([3; 16]), sent: 0, seen: 0 })
    }

    /// Its own node, as the route through which it wants to be answered.
    fn routes(&self, scene: &Scene) -> Vec<offhook_proto::number::NodeAddr> {
        self.node
            .addresses
            .iter()
            .chain(&scene.directory.addresses)
            .map(|addr| addr.parse().unwrap())
            .collect()
    }

    fn say(&mut self, scene: &Scene, ack: u32, message: Option<Message>) -> Outcome {
        let intro = Introduction {
            number: self.person.number.clone(),
            proof: self.person.proof.clone(),
            identity: self.person.identity.public(),
            cert: self.person.cert(now()),
            routes: self.routes(scene),
            chosen: None,
        };
        self.sent += u32::from(message.is_some());
        let packet = Packet {
            call: self.call,
            from: self.person.terminal.public(),
            to: self.to.terminal,
            seq: if message.is_some() { self.sent } else { 0 },
            ack,
            time: now(),
            intro: Some(Arc::new(intro)),
            message,
        };
        let blob = seal(&packet, &self.person.terminal, &self.to.seal, [u8::try_from(self.sent)?; 32])?;
        assert_eq!(
            self.node.ask(self.directory, wire::forward(&self.to.terminal, &blob, None))?,
            Response::Delivered
        );
        Ok(())
    }

    /// Calls, and offers candidates of its own, unasked, so that the terminal might try them out.
    fn invite(&mut self, scene: &Scene) -> Outcome {
        let offer = MediaOffer {
            ice_ufrag: "evil".to_owned(),
            ice_pwd: "no password is long enough".to_owned(),
            fingerprint: [9; 32],
            codecs: vec![Codec::Opus],
        };
        self.say(
            scene,
            0,
            Some(Message::Invite {
                offer,
                candidates: vec![candidate(scene)],
                replaces: None,
                solution: None,
            }),
        )
    }

    /// The next packet, opened.
    fn next(&mut self) -> Anyhow<Packet> {
        let blob = self.node.evidence.wait(STEP, |seen| seen.packets.get(self.seen).cloned());
        let blob = blob.ok_or("nothing more was said")?.blob;
        self.seen += 1;
        let me = self.person.terminal.public();
        Ok(open(&blob, &self.person.seal, &me, &|_, _| true, now())?.packet)
    }

    /// Packets up to the first whose message fits, all of them.
    fn until(&mut self, fits: impl Fn(&Message) -> bool) -> Anyhow<Vec<Packet>> {
        self.until_packet(|packet| packet.message.as_ref().is_some_and(&fits))
    }

    /// Packets up to the first that fits, all of them.
    fn until_packet(&mut self, fits: impl Fn(&Packet) -> bool) -> Anyhow<Vec<Packet>> {
        let mut packets = Vec::new();
        loop {
            let packet = self.next()?;
            let found = fits(&packet);
            packets.push(packet);
            if found {
                return Ok(packets);
            }
        }
    }
}

/// The stranger's host as an ICE candidate.
fn candidate(scene: &Scene) -> String {
    format!("candidate:1 1 UDP 2130706431 {} 9 typ host", scene.stranger.public())
}

/// Where the address occurs in what was said.
fn told(packets: &[Packet], address: IpAddr) -> Vec<String> {
    let leaks = packets.iter().filter_map(|packet| {
        in_bytes(&encoding::encode(packet), address).map(|how| format!("{how} in {:?}", packet.message))
    });
    leaks.collect()
}

#[test]
fn a_declined_stranger_never_sees_a_terminals_address() -> Outcome {
    let mut scene = Scene::start("decline", &[])?;
    let gang = Gang::new(Some(&scene.stranger))?;
    let mut stranger = Stranger::start(&gang, &scene, Person::mine(1))?;
    stranger.invite(&scene)?;
    scene.bob.process.wait("incoming", STEP)?;
    let mut packets = stranger.until(|message| matches!(message, Message::Ringing { .. }))?;
    stranger.say(&scene, 1, Some(Message::Candidates { list: vec![candidate(&scene)], generation: 0 }))?;
    // It has seen them; what it says from now on it says knowing them.
    packets.extend(stranger.until_packet(|packet| packet.ack >= 2)?);
    scene.bob.process.send("reject")?;
    let declined = |message: &Message| *message == Message::reject(RejectReason::Declined);
    packets.extend(stranger.until(declined)?);
    stranger.say(&scene, 2, None)?;
    scene.bob.process.wait("ended", STEP)?;
    for packet in &packets {
        if let Some(Message::Ringing { candidates, .. } | Message::Candidates { list: candidates, .. }) =
            &packet.message
        {
            // Its address at the relay of its directory tells nothing of where it is.
            assert!(
                candidates.iter().all(|line| is_relayed(line)),
                "candidates for a stranger: {candidates:?}"
            );
        }
    }
    assert_eq!(told(&packets, scene.home.public()), Vec::<String>::new());
    let seen = stranger.node.evidence.look();
    assert_eq!(seen.mentions(scene.home.public()), Vec::<String>::new());
    drop(seen);
    scene.assert_no_packets();
    Ok(())
}

/// The same with the real program as the stranger, which does all that a call needs while it rings.
#[test]
fn nothing_passes_between_a_caller_and_a_terminal_that_declines() -> Outcome {
    let mut scene = Scene::start("real", &[])?;
    let plan = TerminalPlan { entry: vec![scene.directory.address()], ..TerminalPlan::default() };
    let mut ada = Terminal::online(Account::create("ada")?, Some(&scene.stranger), plan)?;
    ada.process.send(&format!("dial {}", scene.bob.number()))?;
    scene.bob.process.wait("incoming", STEP)?;
    ada.process.wait("ringing", STEP)?;
    // While it rings the two bring up their connection by way of the directory: give that its time.
    ada.process.never("that the call ends", Duration::from_secs(2), |event| event.name() == "ended")?;
    scene.bob.process.send("reject")?;
    ada.process.wait_for("that it was declined", STEP, |event| {
        event.name() == "ended" && event.text("reason") == "declined"
    })?;
    scene.assert_no_packets();
    Ok(())
}

/// Two directories, two terminals on hosts without NATs, and a stranger's host with the nodes of the DHT that are closest
/// to their numbers.
struct Ambush {
    lab: Lab,
    stranger: Host,
    homes: [Host; 2],
    spies: Vec<(Node, RecordKey)>,
    terminals: [Terminal; 2],
    _directories: [(Host, Directory); 2],
    _gang: Gang,
}

/// Peer ids that are tried for one close to a number. Among a few nodes a hundred would do.
const TRIES: u32 = 20_000;

impl Ambush {
    fn start() -> Anyhow<Self> {
        let lab = Lab::new("wait")?;
        let host = |name| lab.host(name, Impairment::delay_ms(2));
        let (first_host, second_host, stranger) = (host("dir1")?, host("dir2")?, host("stranger")?);
        let first = Directory::start(Some(&first_host), DirectoryPlan::default())?;
        let plan = DirectoryPlan { entry: vec![first.address()], ..DirectoryPlan::default() };
        let second = Directory::start(Some(&second_host), plan)?;
        let gang = Gang::new(Some(&stranger))?;
        let accounts = Account::create_all(["ada", "bob"])?;
        let mut spies = Vec::new();
        for account in &accounts {
            let key = account.number.parse::<Number>()?.record_key(None).unwrap();
            let spy = gang.node_of(&seed_near(&key.0, TRIES)?, None)?;
            for directory in [&first, &second] {
                spy.meet(&directory.address())?;
                spy.recommend_at(&directory.address())?;
            }
            spies.push((spy, key));
        }
        let homes = [host("home1")?, host("home2")?];
        let [ada, bob] = accounts;
        let at = |account, home, directory: &Directory| {
            let plan = TerminalPlan { entry: vec![directory.address()], ..TerminalPlan::default() };
            Terminal::online(account, Some(home), plan)
        };
        let terminals = [at(ada, &homes[0], &first)?, at(bob, &homes[1], &second)?];
        let directories = [(first_host, first), (second_host, second)];
        Ok(Self { lab, stranger, homes, spies, terminals, _directories: directories, _gang: gang })
    }
}

#[test]
fn nodes_that_lie_in_wait_at_a_number_never_see_its_terminals() -> Outcome {
    let mut scene = Ambush::start()?;
    let [ada, bob] = &mut scene.terminals;
    for (asker, home, number) in
        [(&*ada, &scene.homes[0], bob.number()), (&*bob, &scene.homes[1], ada.number())]
    {
        let output = asker.account.offhook(Some(home), &["lookup", number])?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for _ in 0..2 {
        ring(ada, bob)?;
        ada.process.send("hangup")?;
        ada.process.wait("ended", STEP)?;
        bob.process.wait("ended", STEP)?;
        std::mem::swap(ada, bob);
    }
    for (spy, key) in &scene.spies {
        let met = spy.evidence.wait(STEP, |seen| {
            (seen.given.contains(&key.0) && seen.asked_for.contains(&key.0)).then_some(())
        });
        met.ok_or("a spy was given no record, or not asked for it: this shows nothing")?;
        let seen = spy.evidence.look();
        for home in &scene.homes {
            assert_eq!(seen.mentions(home.public()), Vec::<String>::new());
        }
    }
    let stranger = scene.stranger.public();
    for home in scene.homes.iter().map(Host::public) {
        assert_eq!(scene.lab.flow_bytes(home, stranger), 0, "a terminal sent packets to a spy");
        assert_eq!(scene.lab.flow_bytes(stranger, home), 0, "a spy knew where to send packets");
    }
    Ok(())
}

/// Anybody can issue chosen numbers in any directory's name. Unless a terminal knows that directory's key, such a number
/// says nothing about who calls.
#[test]
fn nobody_rings_under_a_number_of_somebody_elses_directory() -> Outcome {
    let scene = Scene::start("name", &[])?;
    let gang = Gang::new(Some(&scene.stranger))?;
    let plain = Person::mine(1);
    let made_up = DirectoryKey::from_seed([66; 32]);
    let mut impostor = Stranger::start(&gang, &scene, plain.with_chosen("police@example.org", &made_up))?;
    impostor.invite(&scene)?;
    // Whoever calls next in an honest name rings; packets are dealt with in order.
    let mut honest = Stranger::start(&gang, &scene, Person::mine(2))?;
    honest.call = CallId::from_bytes([5; 16]);
    honest.invite(&scene)?;
    let ring = scene.bob.process.wait("incoming", STEP)?;
    assert_eq!(ring.text("number"), honest.person.number.canonical());
    scene.bob.process.never("another ring", Duration::from_secs(1), |event| event.name() == "incoming")?;
    Ok(())
}
