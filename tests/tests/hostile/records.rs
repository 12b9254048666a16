//! Records that are wrong, where they arrive and where they are read.

use std::sync::Arc;
use std::time::Duration;

use offhook_proto::identity::DirectoryKey;
use offhook_proto::number::Number;
use offhook_proto::record::{self, CheckedSet};
use offhook_proto::signalling::{Opened, open};
use offhook_tests::call::{STEP, ring};
use offhook_tests::hostile::wire::{self, Answer};
use offhook_tests::hostile::{
    Flaw, Gang, HostileError, Manner, Node, Outgoing, Protocol, Wrong, crawl, flaws,
};
use offhook_tests::people::{Person, ago, now};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};

use crate::{Outcome, address, nodes, people, until};

/// What fits into a message of either protocol.
const FITS: usize = 15 * 1024;

/// A hostile node connected with a directory.
struct Attack {
    directory: Directory,
    node: Node,
    peer: libp2p::PeerId,
    /// Somebody whose record is stored to learn that everything before it has been dealt with.
    marker: Person,
    _gang: Gang,
}

impl Attack {
    fn start(marker: Person) -> Result<Self, Box<dyn std::error::Error>> {
        let directory = Directory::start(None, DirectoryPlan::default())?;
        let gang = Gang::new(None)?;
        let node = gang.node()?;
        let peer = node.meet(&directory.address())?;
        Ok(Self { directory, node, peer, marker, _gang: gang })
    }

    fn store(&self, key: &[u8; 32], set: &[u8]) -> Result<Answer, HostileError> {
        self.node.ask(self.peer, wire::store(key, set))
    }

    /// Offers a set by Kademlia and by signalling; answers what the latter said.
    fn offer(&self, key: &[u8; 32], bytes: &[u8]) -> Option<Answer> {
        // The answer to a put says nothing; a record beyond the protocol's limit has none.
        let put = self.node.put(self.peer, key, bytes);
        assert!(put.is_ok() || bytes.len() > FITS, "{put:?}");
        let stored = self.store(key, bytes);
        assert!(stored.is_ok() || bytes.len() > FITS, "{stored:?}");
        stored.ok()
    }

    /// Proofs are checked in the order in which they came: when this one is done, all before it are.
    fn settle(&self) -> Outcome {
        let set = self.marker.set(now(), &[address("/ip4/127.0.0.1/tcp/1")]).encode();
        assert_eq!(self.store(&self.marker.key().0, &set)?, Answer::Stored);
        Ok(())
    }

    /// Both protocols serve exactly this.
    fn assert_serves(&self, key: &[u8; 32], set: Option<&[u8]>, after: &str) -> Outcome {
        let (by_kad, by_signal) = self.node.held_by(self.peer, key)?;
        assert!(by_kad.as_deref() == set, "served by Kademlia after: {after}");
        assert!(by_signal.as_deref() == set, "served by signalling after: {after}");
        Ok(())
    }
}

#[test]
fn bad_records_are_refused_where_they_arrive() -> Outcome {
    let [victim, attacker, marker] = people([1, 2, 3]);
    let mut attack = Attack::start(marker)?;
    let key = victim.key().0;
    let (trap, dead) = (address("/ip4/127.0.0.1/tcp/1"), address("/ip4/127.0.0.1/tcp/2"));
    let seq = ago(Duration::from_secs(30));
    let flaws = flaws(&victim, &attacker, seq, &trap, &dead);

    // By a node that knows nothing of the number.
    for flaw in flaws.iter().filter(|flaw| matches!(flaw.wrong, Wrong::Always | Wrong::Alone)) {
        let said = attack.offer(&key, &flaw.bytes);
        assert!(matches!(said, None | Some(Answer::Refused(_) | Answer::Unknown)), "{}: {said:?}", flaw.name);
        attack.settle()?;
        attack.assert_serves(&key, None, flaw.name)?;
    }

    // By one that holds the right records.
    let right = victim.set(seq, &[address("/ip4/127.0.0.1/tcp/3")]).encode();
    assert_eq!(attack.store(&key, &right)?, Answer::Stored);
    for flaw in flaws.iter().filter(|flaw| flaw.wrong != Wrong::Alone) {
        let said = attack.offer(&key, &flaw.bytes);
        let refused = matches!(said, None | Some(Answer::Refused(_) | Answer::Unknown));
        let left_out = flaw.wrong == Wrong::InPart && said == Some(Answer::Stored);
        assert!(refused || left_out, "{}: {said:?}", flaw.name);
        attack.settle()?;
        attack.assert_serves(&key, Some(&right), flaw.name)?;
    }
    incumbents_stay(&attack, &victim, &attacker)?;

    // Not by refusing everything, though; and nothing bad comes to light after a crash.
    let newer = victim.set(now(), &[address("/ip4/127.0.0.1/tcp/4")]).encode();
    assert_eq!(attack.store(&key, &newer)?, Answer::Stored);
    attack.directory.restart(None)?;
    attack.peer = attack.node.meet(&attack.directory.address())?;
    attack.assert_serves(&key, Some(&newer), "a restart")
}

/// A directory gives a number to one account and then, corrupted, to another: nodes keep the first.
fn incumbents_stay(attack: &Attack, first: &Person, second: &Person) -> Outcome {
    let issuer = DirectoryKey::from_seed([77; 32]);
    let (first, second) =
        (first.with_chosen("ada@example.org", &issuer), second.with_chosen("ada@example.org", &issuer));
    assert_eq!(first.key(), second.key());
    let there = [address("/ip4/127.0.0.1/tcp/5")];
    let right = first.set(ago(Duration::from_secs(60)), &there).encode();
    assert_eq!(attack.store(&first.key().0, &right)?, Answer::Stored);
    let said = attack.offer(&first.key().0, &second.set(now(), &there).encode());
    assert_eq!(said, Some(Answer::Refused(1)), "a newer record of another account");
    attack.settle()?;
    attack.assert_serves(&first.key().0, Some(&right), "another account's record")?;
    // Alone somewhere else the second account's record would have been as good as the first's.
    let elsewhere = Attack::start(attack.marker.clone())?;
    let said = elsewhere.offer(&first.key().0, &second.set(now(), &there).encode());
    assert_eq!(said, Some(Answer::Stored));
    Ok(())
}

/// A node for each flaw that serves it, and a few that answer nonsense or never; all in the DHT of the directory.
fn liars(
    gang: &Gang,
    directory: &Directory,
    key: &[u8; 32],
    flaws: &[Flaw],
) -> Result<Vec<Node>, HostileError> {
    let rude = |answer: Outgoing| -> Manner {
        Arc::new(move |protocol, _| (protocol == Protocol::Signal).then(|| answer.clone()))
    };
    let mut liars = nodes(gang, flaws.len())?;
    for (node, flaw) in liars.iter().zip(flaws) {
        node.serve(key, &flaw.bytes);
    }
    for (n, answer) in [
        Outgoing::Whole(b"nonsense".to_vec()),
        Outgoing::Half(vec![0x82, 3]),
        Outgoing::Endless(vec![0x5f; 4_096]),
    ]
    .into_iter()
    .enumerate()
    {
        liars.push(gang.node_of(&[u8::try_from(n).unwrap() + 240; 32], Some(rude(answer)))?);
    }
    for node in &liars {
        node.meet(&directory.address())?;
        liars.iter().filter(|other| other.peer != node.peer).for_each(|other| node.recommend(other));
    }
    Ok(liars)
}

/// The terminal of a person made by hand, on line at a directory.
fn terminal_of(
    gang: &Gang,
    person: &Person,
    directory: &Directory,
) -> Result<Node, Box<dyn std::error::Error>> {
    let node = gang.node_of(person.terminal.seed(), None)?;
    let peer = node.meet(&directory.address())?;
    let answer = node.ask(peer, wire::register(&person.cert(now())))?;
    assert_eq!(answer, Answer::Welcome, "the terminal is registered");
    Ok(node)
}

fn opened_by(person: &Person, blob: &[u8]) -> Option<Opened> {
    open(blob, &person.seal, &person.terminal.public(), &|_, _| false, now()).ok()
}

#[test]
fn bad_records_are_ignored_where_they_are_read() -> Outcome {
    let [victim, attacker] = people([1, 2]);
    let directory = Directory::start(None, DirectoryPlan::default())?;
    let gang = Gang::new(None)?;
    let home = terminal_of(&gang, &victim, &directory)?;
    // Nobody but the bad records knows of the trap.
    let trap = gang.node_of(attacker.terminal.seed(), None)?;
    let seq = ago(Duration::from_secs(30));
    let dead = address(&format!("/ip4/127.0.0.1/udp/9/quic-v1/p2p/{}/p2p-circuit", gang.node()?.peer));
    let flaws = flaws(&victim, &attacker, seq, &address(&trap.addresses[0]), &dead);
    let liars = liars(&gang, &directory, &victim.key().0, &flaws)?;
    let relayed = address(&format!("{}/p2p-circuit", directory.address()));
    let right = victim.set(seq, &[relayed]).encode();
    let peer = home.meet(&directory.address())?;
    assert_eq!(home.ask(peer, wire::store(&victim.key().0, &right))?, Answer::Stored);

    // A caller that asks some of the liars as its entry points, and the others as nodes of the DHT.
    let mut entry = vec![directory.address()];
    entry.extend(liars.iter().rev().take(5).map(|liar| liar.addresses[0].clone()));
    let mut caller =
        Terminal::online(Account::create("ada")?, None, TerminalPlan { entry, ..TerminalPlan::default() })?;
    let number: Number = caller.number().parse()?;
    caller.process.send(&format!("dial {}", victim.number))?;
    let invite = home
        .evidence
        .wait(STEP, |seen| seen.packets.iter().find_map(|packet| opened_by(&victim, &packet.blob)));
    let invite = invite.ok_or_else(|| format!("no invite came\n{}", caller.process.transcript()))?;
    assert!(invite.intro.is_some_and(|intro| intro.number == number), "the caller says who it is");
    let asked = liars.iter().filter(|liar| liar.evidence.look().asked_for.contains(&victim.key().0)).count();
    assert!(asked > liars.len() / 2, "only {asked} of {} liars were asked: this shows nothing", liars.len());
    caller.process.send("hangup")?;
    caller.process.wait("ended", STEP)?;
    let trapped = trap.evidence.look();
    assert!(trapped.connections.is_empty() && trapped.packets.is_empty(), "{:?}", trapped.connections);
    Ok(())
}

/// Sequence of the first terminal record.
fn newest(set: &CheckedSet) -> u64 {
    set.terminals.iter().map(|terminal| terminal.seq.0).max().unwrap_or_default()
}

/// What a node serves under a key, checked.
fn served(node: &Node, by: libp2p::PeerId, number: &Number) -> Result<Option<CheckedSet>, HostileError> {
    let key = number.record_key(None).unwrap();
    let (_, by_signal) = node.held_by(by, &key.0)?;
    Ok(by_signal.and_then(|bytes| record::check(&key, &bytes, now()).ok()))
}

/// A callee whose record is replayed: what it published first, through a directory that is dead by now.
struct Moved {
    terminal: Terminal,
    old: Vec<u8>,
}

impl Moved {
    fn start(scout: &Node, to: &Directory) -> Result<Self, Box<dyn std::error::Error>> {
        let mut first = Directory::start(None, DirectoryPlan::default())?;
        let plan = TerminalPlan { entry: vec![first.address()], ..TerminalPlan::default() };
        let mut terminal = Terminal::online(Account::create("bob")?, None, plan)?;
        let number: Number = terminal.number().parse()?;
        let peer = scout.meet(&first.address())?;
        let set = served(scout, peer, &number)?.ok_or("the first directory holds no record")?;
        let old = set.to_set().encode();
        first.process.kill();
        terminal.plan.entry = vec![to.address()];
        terminal.restart(None)?;
        terminal.process.wait("online", offhook_tests::phone::READY)?;
        Ok(Self { terminal, old })
    }
}

#[test]
fn old_records_at_five_of_twenty_holders_do_not_stop_a_call() -> Outcome {
    let gang = Gang::new(None)?;
    let scout = gang.node()?;
    let first = Directory::start(None, DirectoryPlan::default())?;
    let plan = DirectoryPlan { entry: vec![first.address()], ..DirectoryPlan::default() };
    let mut honest: Vec<Directory> = vec![first];
    for _ in 1..15 {
        honest.push(Directory::start(None, plan.clone())?);
    }
    let hostile = nodes(&gang, 5)?;
    for node in &hostile {
        for directory in &honest {
            node.meet(&directory.address())?;
            node.recommend_at(&directory.address())?;
        }
        hostile.iter().filter(|other| other.peer != node.peer).for_each(|other| node.recommend(other));
    }
    let entry = [honest[0].address()];
    let random: Vec<[u8; 32]> = (0..4).map(|n| [n * 64 + 7; 32]).collect();
    until("twenty nodes in the DHT", STEP, || {
        let met = crawl(&gang.node()?, &entry, &random)?;
        Ok((met.len() >= 20, met.len()))
    })?;

    let mut bob = Moved::start(&scout, &honest[0])?;
    let number: Number = bob.terminal.number().parse()?;
    let key = number.record_key(None).unwrap();
    let old = record::check(&key, &bob.old, now())?;
    let holders = until("the new record at most of the honest nodes", STEP, || {
        let mut holders = 0;
        for directory in &honest {
            let peer = scout.meet(&directory.address())?;
            let set = served(&scout, peer, &number)?;
            holders += usize::from(set.is_some_and(|set| newest(&set) > newest(&old)));
        }
        Ok((holders >= 12, holders))
    })?;
    for node in &hostile {
        node.serve(&key.0, &bob.old);
    }
    // Through an honest node, and through hostile ones, whose word comes first.
    let ways: [(&str, Vec<String>); 2] = [
        ("honest", vec![honest[7].address()]),
        (
            "hostile",
            hostile.iter().map(|node| node.addresses[0].clone()).chain([honest[8].address()]).collect(),
        ),
    ];
    for (name, entry) in ways {
        let plan = TerminalPlan { entry, ..TerminalPlan::default() };
        let mut caller = Terminal::online(Account::create("ada")?, None, plan)?;
        let (dialled, rang) = ring(&mut caller, &mut bob.terminal)
            .map_err(|error| format!("through {name} entry points, {holders} honest holders: {error}"))?;
        println!("through {name} entry points: rings after {} ms", (rang - dialled) / 1_000_000);
        caller.process.send("hangup")?;
        caller.process.wait("ended", STEP)?;
        bob.terminal.process.wait("ended", STEP)?;
    }
    let asked = hostile.iter().filter(|node| node.evidence.look().asked_for.contains(&key.0)).count();
    assert_eq!(asked, 5, "every hostile node was asked for the record");
    Ok(())
}
