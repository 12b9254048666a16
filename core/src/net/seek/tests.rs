//! A shared query without a network.

use offhook_proto::record::RecordSet;
use tokio::sync::oneshot;

use super::*;
use crate::net::fixture::{Party, descriptor, now};
use crate::net::store::Verdicts;

/// A query under way, fed by hand.
struct Query {
    dht: mpsc::Sender<DhtAnswer>,
    askers: mpsc::Sender<Asker>,
}

fn asker(want: Want) -> (Asker, oneshot::Receiver<Response>) {
    let (sender, answer) = oneshot::channel();
    let reply = Box::new(move |response| {
        let _ = sender.send(response);
    });
    (Asker { want, reply }, answer)
}

impl Query {
    /// A query for a party's number, and the answer to who had it begun.
    fn start(party: &Party, want: Want, alone: bool) -> (Self, oneshot::Receiver<Response>) {
        let (dht, answers) = mpsc::channel(64);
        let (askers, others) = mpsc::channel(4);
        let (first, answer) = asker(want);
        let finds = Finds::new(party.key(), Verdicts::default());
        tokio::spawn(Seek::new(finds, alone, first).run(answers, others));
        (Self { dht, askers }, answer)
    }

    async fn ask(&self, want: Want) -> oneshot::Receiver<Response> {
        let (asker, answer) = asker(want);
        assert!(self.askers.send(asker).await.is_ok(), "the query is over");
        answer
    }

    async fn serve(&self, set: &RecordSet) {
        let _ = self.dht.send(DhtAnswer::Record(set.encode())).await;
    }

    async fn end(&self, complete: bool) {
        let _ = self.dht.send(DhtAnswer::End { complete, answered: 20 }).await;
    }
}

async fn sought(answer: oneshot::Receiver<Response>) -> Sought {
    match tokio::time::timeout(Duration::from_secs(30), answer).await.expect("an answer in time") {
        Ok(Response::Sought(sought)) => sought,
        Ok(other) => panic!("{other:?}"),
        Err(_) => panic!("no answer at all"),
    }
}

/// A claim to somebody else's number, well signed, but by a key whose proof does not fit.
fn claimed(party: &Party, by: &Party) -> RecordSet {
    let mut record = by.account_record(now());
    record.number = party.number.clone();
    RecordSet { account: Some(record.sign(&by.identity)), terminals: Vec::new() }
}

#[tokio::test]
async fn the_first_find_is_told_at_once_and_everything_at_the_end() {
    let alice = Party::new(0);
    let (query, all) = Query::start(&alice, Want::All, false);
    let (first, proven) = (query.ask(Want::First).await, query.ask(Want::Proven).await);
    let set = alice.set(now(), &[]);
    query.serve(&set).await;
    for answer in [first, proven] {
        let early = sought(answer).await;
        assert_eq!(early.sets, [SoughtSet { set: set.encode(), holders: Vec::new() }]);
        assert!(!early.complete);
    }
    // Whoever comes now gets it without waiting.
    assert_eq!(sought(query.ask(Want::First).await).await.sets.len(), 1);
    query.serve(&set).await;
    query.end(true).await;
    let all = sought(all).await;
    assert_eq!(all.sets, [SoughtSet { set: set.encode(), holders: vec![2, 2] }]);
    assert!(all.complete);
    assert_eq!(all.answered, 20);
}

#[tokio::test]
async fn old_and_new_records_are_merged_and_counted_apart() {
    let (alice, other) = (Party::new(0), Party::with_terminal(0, 77));
    let (query, all) = Query::start(&alice, Want::All, false);
    let (old, new) = (now(), offhook_proto::wire::UnixMillis(now().0 + 1_000));
    for set in [alice.set(old, &[]), alice.set(new, &[]), alice.set(new, &[])] {
        query.serve(&set).await;
    }
    // One node knows another terminal of the account, too.
    let mut both = alice.set(new, &[]);
    both.terminals.push(other.record(old, &[]));
    query.serve(&both).await;
    query.end(true).await;
    let all = sought(all).await;
    assert_eq!(all.sets, [SoughtSet { set: both.encode(), holders: vec![3, 3, 1] }]);
}

#[tokio::test]
async fn a_bad_proof_may_be_first_but_is_never_proven_nor_merged() {
    let (alice, mallory) = (Party::new(0), Party::new(1));
    let (query, all) = Query::start(&alice, Want::All, false);
    let (first, proven) = (query.ask(Want::First).await, query.ask(Want::Proven).await);
    let bad = claimed(&alice, &mallory);
    query.serve(&bad).await;
    assert_eq!(sought(first).await.sets[0].set, bad.encode());
    let good = alice.set(now(), &[]);
    query.serve(&good).await;
    assert_eq!(sought(proven).await.sets[0].set, good.encode());
    query.serve(&bad).await;
    query.end(true).await;
    let all = sought(all).await;
    assert_eq!(all.sets, [SoughtSet { set: good.encode(), holders: vec![1, 1] }]);
}

#[tokio::test]
async fn forged_sets_and_those_of_other_numbers_are_passed_on_to_nobody() {
    let (alice, mallory) = (Party::new(0), Party::new(1));
    let (query, all) = Query::start(&alice, Want::All, false);
    let first = query.ask(Want::First).await;
    query.serve(&mallory.set(now(), &[])).await;
    let forged = alice.account_record(now()).sign(&mallory.identity);
    query.serve(&RecordSet { account: Some(forged), terminals: Vec::new() }).await;
    let lone = RecordSet { account: None, terminals: vec![alice.record(now(), &[])] };
    query.serve(&lone).await;
    query.end(true).await;
    for answer in [first, all] {
        let nothing = sought(answer).await;
        assert!(nothing.sets.is_empty() && nothing.complete, "{nothing:?}");
    }
}

#[tokio::test]
async fn nothing_found_is_complete_only_if_enough_answered_or_there_is_nobody_else() {
    let alice = Party::new(0);
    for (alone, ended, complete) in [(false, true, true), (false, false, false), (true, false, true)] {
        let (query, all) = Query::start(&alice, Want::All, alone);
        query.end(ended).await;
        assert_eq!(sought(all).await.complete, complete, "alone: {alone}, ended: {ended}");
    }
    // Too many queries run: this one never began.
    let (query, all) = Query::start(&alice, Want::All, false);
    drop(query.dht);
    assert!(!sought(all).await.complete);
}

#[tokio::test]
async fn a_crowd_is_answered_and_the_rest_told_to_come_again() {
    let alice = Party::new(0);
    let (query, all) = Query::start(&alice, Want::All, false);
    let mut crowd = Vec::new();
    let mut turned_away = 0;
    // As many as may wait, as many as the channel takes, and more.
    for _ in 0..20 {
        let (asker, answer) = asker(Want::All);
        match query.askers.try_send(asker) {
            Ok(()) => crowd.push(answer),
            Err(_) => turned_away += 1,
        }
        tokio::task::yield_now().await;
    }
    assert!(turned_away > 0 && crowd.len() <= 8, "{turned_away} turned away, {} wait", crowd.len());
    query.serve(&alice.set(now(), &[])).await;
    query.end(true).await;
    for answer in crowd.into_iter().chain([all]) {
        assert_eq!(sought(answer).await.sets.len(), 1);
    }
}

#[tokio::test]
async fn the_latest_descriptor_of_a_directory_is_told_and_nobody_elses() {
    use offhook_proto::descriptor::Descriptor;
    use offhook_proto::identity::DirectoryKey;

    let key = DirectoryKey::from_seed([4; 32]);
    let signed =
        |key: &DirectoryKey, issued: u64| descriptor(key, offhook_proto::wire::UnixMillis(issued)).to_bytes();
    let (dht, answers) = mpsc::channel(64);
    let (_askers, others) = mpsc::channel(4);
    let (first, answer) = asker(Want::All);
    let finds = Finds::new(Descriptor::key(&key.public()), Verdicts::default());
    tokio::spawn(Seek::new(finds, false, first).run(answers, others));
    let (old, new) = (signed(&key, now().0 - 60_000), signed(&key, now().0));
    let foreign = signed(&DirectoryKey::from_seed([5; 32]), now().0);
    for value in [&foreign, &old, &new, &new, &old] {
        dht.send(DhtAnswer::Record(value.clone())).await.ok().unwrap();
    }
    dht.send(DhtAnswer::End { complete: true, answered: 5 }).await.ok().unwrap();
    assert_eq!(sought(answer).await.sets, [SoughtSet { set: new, holders: vec![2] }]);
}
