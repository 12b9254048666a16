//! Calls of a terminal that can't publish its number, and to one whose directory lies.

use std::sync::Arc;

use offhook_proto::number::Number;
use offhook_proto::service::{Request, Response};
use offhook_proto::wire::encode;
use offhook_tests::call::{STEP, ring};
use offhook_tests::hostile::wire::{self, KadMessage, kad};
use offhook_tests::hostile::{Gang, Manner, Outgoing, Protocol};
use offhook_tests::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};

use crate::Outcome;

/// Takes whatever is to be published and never answers; passes nothing on. Answers everything else as it should.
fn silent_to_publishers() -> Manner {
    Arc::new(|protocol, bytes| {
        let never = Outgoing::Half(Vec::new());
        match protocol {
            Protocol::Signal => match wire::request(bytes)? {
                Request::Store { .. } | Request::Publish { .. } => Some(never),
                Request::Forward { .. } | Request::Deliver { .. } => {
                    Some(Outgoing::Whole(encode(&Response::NotConnected)))
                }
                Request::Hello
                | Request::Register { .. }
                | Request::Find { .. }
                | Request::Seek { .. }
                | Request::Relay { .. }
                | Request::KnockWanted { .. }
                | Request::KnockAt { .. }
                | Request::Knock { .. } => None,
            },
            Protocol::Kad => {
                let message = KadMessage::read(bytes).unwrap_or_default();
                (message.kind == kad::PUT_VALUE).then_some(never)
            }
        }
    })
}

#[test]
fn a_call_waits_for_no_publication() -> Outcome {
    let directory = Directory::start(None, DirectoryPlan::default())?;
    let gang = Gang::new(None)?;
    let silent = gang.node_of(&[212; 32], Some(silent_to_publishers()))?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let plan = |entry: String| TerminalPlan { entry: vec![entry], ..TerminalPlan::default() };
    let mut bob = Terminal::online(bob, None, plan(directory.address()))?;
    let key = bob.number().parse::<Number>()?.record_key(None).unwrap();
    let peer = silent.meet(&directory.address())?;
    let (_, record) = silent.held_by(peer, &key.0)?;
    silent.serve(&key.0, &record.ok_or("the callee has no record")?);

    let mut ada = Terminal::start(ada, None, plan(silent.addresses[0].clone()))?;
    let asked_to_publish = silent.evidence.wait(STEP, |seen| {
        seen.payloads
            .iter()
            .any(|request| matches!(wire::request(request), Some(Request::Publish { .. })))
            .then_some(())
    });
    asked_to_publish.ok_or_else(|| format!("it does not publish\n{}", ada.process.transcript()))?;
    let (dialled, rang) = ring(&mut ada, &mut bob)?;
    let said = ada.process.transcript();
    assert!(!said.contains(r#""event":"online""#), "it was published: this shows nothing\n{said}");
    println!("rang after {} ms, while a publication waited", (rang - dialled) / 1_000_000);
    Ok(())
}

/// Its directory says of every packet that it has brought it, and brings none. It is asked before the honest one.
#[test]
fn a_directory_that_swallows_what_it_should_deliver_stops_no_call() -> Outcome {
    let honest = Directory::start(None, DirectoryPlan::default())?;
    let gang = Gang::new(None)?;
    // Its own answers to packets are that they were delivered.
    let liar = gang.node_of(&[213; 32], None)?;
    let [ada, bob] = Account::create_all(["ada", "bob"])?;
    let entry = vec![liar.addresses[0].clone(), honest.address()];
    let plan = || TerminalPlan { entry: entry.clone(), ..TerminalPlan::default() };
    let mut bob = Terminal::online(bob, None, plan())?;
    let mut ada = Terminal::online(ada, None, plan())?;
    let (dialled, rang) = ring(&mut ada, &mut bob)?;
    let swallowed = liar.evidence.wait(STEP, |seen| {
        seen.payloads
            .iter()
            .any(|request| matches!(wire::request(request), Some(Request::Forward { .. })))
            .then_some(())
    });
    swallowed.ok_or("nothing was entrusted to the liar: this shows nothing")?;
    println!("rang after {} ms", (rang - dialled) / 1_000_000);
    Ok(())
}
