//! A directory that is killed at any moment.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use offhook_proto::identity::DirectoryKey;
use offhook_proto::record;
use offhook_tests::hostile::wire::{self, Answer};
use offhook_tests::hostile::{Gang, Node};
use offhook_tests::people::{Person, now};
use offhook_tests::phone::{Directory, DirectoryPlan};

use crate::{Outcome, address, people};

/// How often it is killed, and how long at most it may work before.
const ROUNDS: u32 = 10;
const LONGEST: Duration = Duration::from_millis(600);

/// Publishes for everybody in turn until the directory is gone; answers the last sequence of each that was
/// acknowledged.
fn publish(
    node: &Node,
    peer: libp2p::PeerId,
    people: &[Person],
    stop: &AtomicBool,
) -> HashMap<[u8; 32], u64> {
    let mut acknowledged = HashMap::new();
    for person in people.iter().cycle() {
        let seq = now();
        let set = person.set(seq, &[address("/ip4/127.0.0.1/tcp/1")]).encode();
        match node.ask(peer, wire::store(&person.key().0, &set)) {
            Ok(Answer::Stored) => {
                acknowledged.insert(person.key().0, seq.0);
            }
            // Within a millisecond of the one before.
            Ok(Answer::Refused(2)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(_) => break,
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    acknowledged
}

#[test]
fn acknowledged_records_survive_kill_9() -> Outcome {
    let people = people([1, 2, 3]);
    let issuer = DirectoryKey::from_seed([77; 32]);
    let (first, second) = (
        people[0].with_chosen("ada@example.org", &issuer),
        people[1].with_chosen("ada@example.org", &issuer),
    );
    let mut directory = Directory::start(None, DirectoryPlan::default())?;
    let mut acknowledged: HashMap<[u8; 32], u64> = HashMap::new();
    let mut writes = 0;
    for round in 0..ROUNDS {
        let gang = Gang::new(None)?;
        let node = gang.node()?;
        let peer = node.connect(&directory.address())?;
        for person in &people {
            let Some(seq) = acknowledged.get(&person.key().0) else { continue };
            let (by_kad, by_signal) = node.held_by(peer, &person.key().0)?;
            for bytes in [by_kad, by_signal] {
                let bytes = bytes.ok_or_else(|| format!("round {round}: an acknowledged record is gone"))?;
                let set = record::check(&person.key(), &bytes, now())?;
                let kept = set.terminals.iter().map(|terminal| terminal.seq.0).max().unwrap_or_default();
                assert!(kept >= *seq, "round {round}: {kept} is older than what was acknowledged, {seq}");
            }
        }
        // Whose number it is survives too.
        let claim = |person: &Person| wire::store(&person.key().0, &person.set(now(), &[]).encode());
        assert_eq!(node.ask(peer, claim(&first))?, Answer::Stored, "round {round}");
        assert_eq!(node.ask(peer, claim(&second))?, Answer::Refused(1), "round {round}");

        let stop = AtomicBool::new(false);
        let news = std::thread::scope(|scope| {
            let writer = scope.spawn(|| publish(&node, peer, &people, &stop));
            // Time is the input of this test: the kill has to come at any moment of the work.
            std::thread::sleep(LONGEST * round / ROUNDS);
            directory.process.kill();
            stop.store(true, Ordering::Relaxed);
            node.disconnect(peer).ok();
            writer.join().unwrap()
        });
        writes += news.len();
        acknowledged.extend(news);
        directory.restart(None)?;
    }
    assert!(writes >= people.len(), "nothing was ever acknowledged: this shows nothing");
    Ok(())
}
