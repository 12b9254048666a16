//! More than anybody should have to bear: garbage, half messages, endless streams, invites by the thousand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use libp2p::PeerId;
use offhook_proto::identity::TerminalCert;
use offhook_proto::number::Number;
use offhook_proto::record;
use offhook_proto::service::{Request, Response};
use offhook_tests::call::{STEP, ring};
use offhook_tests::hostile::invites::{invite, of_a_crowd};
use offhook_tests::hostile::wire::{self, varint};
use offhook_tests::hostile::{Flood, Gang, Manner, Node, Outgoing, Protocol, Tally};
use offhook_tests::people::{Person, now};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use offhook_tests::program::{Process, memory_of};

use crate::{Outcome, nodes, noise, people, until};

type Anyhow<T> = Result<T, Box<dyn std::error::Error>>;

const MIB: u64 = 1 << 20;

/// Hostile nodes connected with the directory, each with as many unfinished messages as it gets through.
const CROWD: usize = 24;

/// How much a directory may grow by one such connection: some hundred streams of signalling and of the DHT, each with
/// up to 16 KiB of a message that is never finished, and what its transport holds for them. MiB.
const PER_CONNECTION: u64 = 3;

/// A directory and two terminals, of which one, the victim, has chosen a hostile node as its second directory.
struct Scene {
    directory: Directory,
    ada: Terminal,
    bob: Terminal,
    /// What the victim takes for a directory.
    evil: Node,
    /// The victim as a peer.
    bob_peer: PeerId,
    /// The victim as a terminal.
    cert: TerminalCert,
    gang: Gang,
}

impl Scene {
    fn start(manner: Option<Manner>) -> Anyhow<Self> {
        let directory = Directory::start(None, DirectoryPlan::default())?;
        let gang = Gang::new(None)?;
        let evil = gang.node_of(&[211; 32], manner)?;
        let [ada, bob] = Account::create_all(["ada", "bob"])?;
        let plan = |entry| TerminalPlan { entry, ..TerminalPlan::default() };
        let mut ada = Terminal::online(ada, None, plan(vec![directory.address()]))?;
        let mut bob =
            Terminal::online(bob, None, plan(vec![directory.address(), evil.addresses[0].clone()]))?;
        let contact = format!("contact add {} Ada", ada.number());
        bob.process.send(&contact)?;
        let seen = evil.evidence.wait(STEP, |seen| seen.connections.first().cloned());
        let (bob_peer, _) = seen.ok_or("the victim does not connect with its second directory")?;
        let cert = cert_of(&evil, &directory, bob.number())?;
        // A first call, so that what a terminal needs for one does not count as growth.
        ring(&mut ada, &mut bob)?;
        end(&mut ada, &mut bob)?;
        Ok(Self { directory, ada, bob, evil, bob_peer, cert, gang })
    }

    /// Watches the memory of the directory and the victim.
    fn watch(&self) -> Watch<2> {
        Watch::start([&self.directory.process, &self.bob.process])
    }
}

/// Sees by how much the memory of some programs grows.
struct Watch<const N: usize> {
    before: [u64; N],
    over: Arc<AtomicBool>,
    thread: JoinHandle<[u64; N]>,
}

impl<const N: usize> Watch<N> {
    fn start(programs: [&Process; N]) -> Self {
        let pids = programs.map(Process::pid);
        let (before, over) = (pids.map(memory_of), Arc::new(AtomicBool::new(false)));
        let end = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut peak = before;
            while !end.load(Ordering::Relaxed) {
                for (peak, pid) in peak.iter_mut().zip(pids) {
                    *peak = memory_of(pid).max(*peak);
                }
                // Between two samples.
                std::thread::sleep(Duration::from_millis(50));
            }
            peak
        });
        Self { before, over, thread }
    }

    /// By how many MiB each has grown at most since the start.
    fn growth(self) -> [u64; N] {
        self.over.store(true, Ordering::Relaxed);
        let peak = self.thread.join().unwrap();
        std::array::from_fn(|at| peak[at].saturating_sub(self.before[at]) / MIB)
    }
}

/// Ends a call that rings.
fn end(caller: &mut Terminal, callee: &mut Terminal) -> Outcome {
    caller.process.send("hangup")?;
    for terminal in [caller, callee] {
        terminal.process.wait("ended", STEP)?;
    }
    Ok(())
}

/// The certificate of a terminal, from its record.
fn cert_of(node: &Node, directory: &Directory, number: &str) -> Anyhow<TerminalCert> {
    let key = number.parse::<Number>()?.record_key(None).unwrap();
    let peer = node.connect(&directory.address())?;
    let (_, bytes) = node.held_by(peer, &key.0)?;
    let set = record::check(&key, &bytes.ok_or("no record is held")?, now())?;
    Ok(*set.terminals.first().ok_or("no terminal is on line")?.certificate())
}

/// A request that is well-formed as far as it goes, and its end never comes.
fn half_of_a_store() -> Outgoing {
    let mut whole = wire::store(&[7; 32], &[0; 12 * 1024]);
    whole.truncate(whole.len() - 10);
    Outgoing::Half(whole)
}

/// A message of the DHT that promises `promised` bytes and brings a few thousand.
fn half_of_a_put(promised: u64) -> Outgoing {
    let mut bytes = Vec::new();
    varint(&mut bytes, promised);
    bytes.extend([0; 8 * 1024]);
    Outgoing::Half(bytes)
}

/// Four ways to waste somebody's memory, on both protocols.
fn torment(node: &Node, victim: PeerId, streams: usize, time: Duration) -> Vec<Flood> {
    let many = |protocol, make: fn(u64) -> Outgoing, count| {
        node.flood(protocol, victim, (count, streams, time), make)
    };
    vec![
        many(Protocol::Signal, |n| Outgoing::Whole(noise(n, 20_000)), u64::MAX),
        many(Protocol::Kad, |n| Outgoing::Whole(noise(n, 20_000)), u64::MAX),
        many(Protocol::Signal, |_| half_of_a_store(), streams as u64),
        many(Protocol::Kad, |n| half_of_a_put([16_000, 1 << 40][n as usize % 2]), streams as u64),
        many(Protocol::Signal, |_| Outgoing::Endless(vec![0x5f; 32 * 1024]), streams as u64),
        many(Protocol::Kad, |_| Outgoing::Endless(vec![0xff; 32 * 1024]), streams as u64),
    ]
}

fn join(floods: Vec<Flood>) -> Anyhow<Tally> {
    let mut total = Tally::default();
    for flood in floods {
        total.add(&flood.join()?);
    }
    Ok(total)
}

#[test]
fn garbage_and_half_messages_leave_memory_bounded() -> Outcome {
    // Its answers are no better than its questions.
    let turn = std::sync::atomic::AtomicU64::new(0);
    let manner: Manner = Arc::new(move |protocol, bytes| {
        let wanted = protocol == Protocol::Signal && wire::request(bytes) == Some(Request::Hello);
        let n = turn.fetch_add(1, Ordering::Relaxed);
        (!wanted).then(|| match n % 3 {
            0 => Outgoing::Whole(noise(n, 20_000)),
            1 => Outgoing::Half(noise(n, 8_000)),
            _ => Outgoing::Endless(noise(n, 60_000)),
        })
    });
    let mut scene = Scene::start(Some(manner))?;
    let crowd = nodes(&scene.gang, CROWD)?;
    let mut peer = None;
    for node in &crowd {
        peer = Some(node.meet(&scene.directory.address())?);
    }
    let peer = peer.ok_or("a crowd")?;
    let time = Duration::from_secs(8);
    let watch = scene.watch();
    let mut floods: Vec<Flood> = crowd.iter().flat_map(|node| torment(node, peer, 100, time)).collect();
    floods.extend(torment(&scene.evil, scene.bob_peer, 100, time));
    let tally = join(floods)?;
    let [directory, terminal] = watch.growth();
    println!("{} messages; directory +{directory} MiB, terminal +{terminal} MiB", tally.sent);
    assert!(tally.sent > 10_000, "only {} messages: this shows nothing", tally.sent);
    assert!(directory < CROWD as u64 * PER_CONNECTION, "the directory grew by {directory} MiB");
    assert!(terminal < 48, "the terminal grew by {terminal} MiB");
    ring(&mut scene.ada, &mut scene.bob)?;
    end(&mut scene.ada, &mut scene.bob)
}

/// What one attacker sends: its own invites, new ones and repeated ones, and noise in between.
fn barrage(
    from: &Person,
    cert: &TerminalCert,
    wrap: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
) -> impl FnMut(u64) -> Outgoing + Send + 'static {
    let blobs: Vec<Vec<u8>> = (0..64).map(|n| invite(from, cert, n, None)).collect();
    let (from, cert) = (from.clone(), *cert);
    move |n| {
        let blob = match n % 8 {
            0 => invite(&from, &cert, 1_000 + n, None),
            1 => noise(n, 8_000),
            _ => blobs[n as usize % blobs.len()].clone(),
        };
        Outgoing::Whole(wrap(&blob))
    }
}

/// What the attackers have to send in all, each as much as any other.
const INVITES: u64 = 1_000_000;

/// How long invites come, as many of them as get through, without a pause: each attacker always has [`OPEN`] under way.
const SIEGE: Duration = Duration::from_secs(30);
const OPEN: usize = 32;

/// Fewer invites than these in all are no flood. A machine with two cores that compiles beside it gets 150,000 through.
const FLOOD: u64 = 50_000;

/// With so many sent the flood is at its height.
const HEIGHT: u64 = 5_000;

/// Attackers at the directory, and what they send.
struct Siege {
    _crowd: Vec<Node>,
    floods: Vec<Flood>,
}

impl Siege {
    /// Four with a right to their numbers, 32 liars: to make a number up costs nothing, to see through it a slow hash. Four of
    /// the liars are also at the victim's second directory, which brings their invites without being asked, each time in another
    /// name.
    fn begin(scene: &Scene) -> Anyhow<Self> {
        let liars: Vec<Person> = (20..52).map(Person::unproven).collect();
        let attackers: Vec<Person> = people([1, 2, 3, 4]).into_iter().chain(liars.iter().cloned()).collect();
        let (to, how) = (scene.cert.terminal, (INVITES / (attackers.len() + 4) as u64, OPEN, SIEGE));
        let mut siege = Self { _crowd: Vec::new(), floods: Vec::new() };
        let mut barrages = Vec::new();
        for person in &attackers {
            let node = scene.gang.node_of(person.terminal.seed(), None)?;
            let peer = node.meet(&scene.directory.address())?;
            let make = barrage(person, &scene.cert, move |blob| wire::forward(&to, blob, None));
            barrages.push((peer, make));
            siege._crowd.push(node);
        }
        for (node, (peer, make)) in siege._crowd.iter().zip(barrages) {
            siege.floods.push(node.flood(Protocol::Signal, peer, how, make));
        }
        for person in liars.iter().take(4) {
            let make = barrage(person, &scene.cert, wire::deliver_in_a_new_name());
            siege.floods.push(scene.evil.flood(Protocol::Signal, scene.bob_peer, how, make));
        }
        Ok(siege)
    }

    fn sent(&self) -> u64 {
        self.floods.iter().map(Flood::sent).sum()
    }

    /// Waits until so many more have been sent.
    fn until_more(&self, more: u64) -> Anyhow<u64> {
        let from = self.sent();
        until("further invites", SIEGE, || Ok((self.sent() >= from + more, self.sent())))
    }
}

#[test]
fn a_flood_of_invites_leaves_room_for_a_proper_call() -> Outcome {
    let mut scene = Scene::start(None)?;
    let siege = Siege::begin(&scene)?;
    let watch = scene.watch();
    // In the middle of it, a contact calls.
    let before = siege.until_more(HEIGHT)?;
    let (dialled, rang) = ring_among_others(&mut scene.ada, &mut scene.bob)?;
    let during = siege.sent() - before;
    end_of(&mut scene.ada)?;
    // Before that the victim's call would be an answer to hers.
    let number = scene.ada.number().parse::<Number>()?.canonical();
    scene
        .bob
        .process
        .wait_for("the end of it", STEP, |event| event.name() == "ended" && event.text("number") == number)?;
    // And the victim itself calls: what strangers claim does not delay the callee's answers.
    let (own_dialled, own_rang) = ring_among_others(&mut scene.bob, &mut scene.ada)?;
    siege.until_more(1).map_err(|error| format!("the flood was over when it rang: {error}"))?;
    end_of(&mut scene.bob)?;
    let tally = join(siege.floods)?;
    let growth = watch.growth();
    println!(
        "{} invites in {:?}, {} delivered, {} busy; a contact's call rang after {} ms, while {during} came; \
         the victim's own after {} ms; directory and terminal +{growth:?} MiB",
        tally.sent,
        tally.took,
        tally.of(&Response::Delivered),
        tally.of(&Response::Busy),
        (rang - dialled) / 1_000_000,
        (own_rang - own_dialled) / 1_000_000,
    );
    assert!(tally.sent >= FLOOD, "only {} in {:?}: this shows nothing", tally.sent, tally.took);
    assert!(tally.of(&Response::Delivered) > 100, "{:?}", tally.answers);
    assert!(growth[0] < 96 && growth[1] < 48, "grew by {growth:?} MiB");

    // It rang for those who called before there was a price; afterwards a stranger is told it again.
    let rings = decline_all(&mut scene.bob)?;
    assert!(rings <= 16, "it rang {rings} times in {SIEGE:?}");
    let entry = vec![scene.directory.address()];
    let mut cy =
        Terminal::online(Account::create("cy")?, None, TerminalPlan { entry, ..TerminalPlan::default() })?;
    cy.process.send(&format!("dial {}", scene.bob.number()))?;
    cy.process.wait("working", STEP)?;
    end_of(&mut cy)?;
    why_it_did_not_ring(&mut scene.bob)
}

/// The victim can see what came: of contacts nothing, of strangers few by name, and the flood as one.
fn why_it_did_not_ring(victim: &mut Terminal) -> Outcome {
    victim.process.send(r#"{"command":"refused"}"#)?;
    let reply = victim.process.wait_for("why", STEP, |event| event.text("reply") == "refused")?;
    let calls = reply.value["calls"].as_array().cloned().unwrap_or_default();
    let of = |reason: &str| calls.iter().filter(|call| call["reason"] == reason).count();
    assert!((1..=128).contains(&of("unpaid")), "{reply:?}");
    assert!(of("flood") <= 1 && calls.iter().all(|call| call["contact"] == false), "{reply:?}");
    Ok(())
}

/// Invites of so many identities, each used once by those who have not come to the end of them.
const CROWD_OF_CALLERS: u64 = 12_000;

#[test]
fn q8_a_flood_from_identities_that_nobody_has_seen_leaves_memory_bounded_and_contacts_ringing() -> Outcome {
    let mut scene = Scene::start(None)?;
    let blobs = Arc::new(of_a_crowd(&scene.cert, 0, CROWD_OF_CALLERS));
    let watch = scene.watch();
    // The victim's own second directory brings each in another name, without being asked.
    let floods = (0..4_usize).map(|lane| {
        let (crowd, wrap) = (Arc::clone(&blobs), wire::deliver_in_a_new_name());
        let make = move |n: u64| Outgoing::Whole(wrap(&crowd[(n as usize * 4 + lane) % crowd.len()]));
        scene.evil.flood(Protocol::Signal, scene.bob_peer, (u64::MAX, OPEN, SIEGE), make)
    });
    let floods: Vec<Flood> = floods.collect();
    let sent = || floods.iter().map(Flood::sent).sum::<u64>();
    until("the height of it", SIEGE, || Ok((sent() >= HEIGHT, sent())))?;
    let (dialled, rang) = ring_among_others(&mut scene.ada, &mut scene.bob)?;
    end_of(&mut scene.ada)?;
    for flood in &floods {
        flood.stop();
    }
    let tally = join(floods)?;
    let growth = watch.growth();
    println!(
        "{} invites, {} taken; a contact's call rang after {} ms; the terminal +{} MiB",
        tally.sent,
        tally.of(&Response::Delivered),
        (rang - dialled) / 1_000_000,
        growth[1],
    );
    assert!(tally.of(&Response::Delivered) > 1_000, "{:?}: this shows nothing", tally.answers);
    assert!(growth[1] <= 20, "the terminal grew by {growth:?} MiB");
    let rings = decline_all(&mut scene.bob)?;
    assert!(rings <= 8, "it rang {rings} times");
    Ok(())
}

/// Dials until the callee rings for this caller, whoever else rings there.
fn ring_among_others(caller: &mut Terminal, callee: &mut Terminal) -> Anyhow<(u64, u64)> {
    let dialled = caller.process.send(&format!("dial {}", callee.number()))?;
    let number = caller.number().parse::<Number>()?.canonical();
    let incoming = callee.process.wait_for("the proper caller's ring", STEP, |event| {
        event.name() == "incoming" && event.text("number") == number
    })?;
    caller.process.wait("ringing", STEP)?;
    Ok((dialled, incoming.t_ns))
}

fn end_of(caller: &mut Terminal) -> Outcome {
    caller.process.send("hangup")?;
    caller.process.wait("ended", STEP)?;
    Ok(())
}

/// Declines all calls that ring; answers how many there were altogether.
fn decline_all(terminal: &mut Terminal) -> Anyhow<usize> {
    let mut rings = 0;
    let soon = Duration::from_millis(500);
    while let Ok(event) = terminal.process.wait("incoming", soon) {
        rings += 1;
        let call = event.text("call").to_owned();
        // It may be over: then the program says so, and that is all.
        terminal.process.send(&format!("reject {call}"))?;
    }
    Ok(rings)
}
