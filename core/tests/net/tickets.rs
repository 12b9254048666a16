//! Tickets for media relays: asked for, kept, forgotten, and what a directory may not put into one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use offhook::net::{RelayError, Role};
use offhook::proto::number::Number;
use offhook::proto::proof::NumberProof;
use offhook::proto::relay::{GuestClaim, RelayServer, RelayTicket, RelayTransport};
use offhook::proto::service::{Refusal, Request, Response};

use crate::common::{Node, PATIENCE, loopback, terminal};
use crate::fixture::{Party, now};
use crate::liar::{Act, Liar, Plan, welcome};

fn ticket(servers: &[&str]) -> RelayTicket {
    let server =
        |addr: &&str| RelayServer { transport: RelayTransport::Udp, addr: addr.parse().unwrap(), pin: None };
    RelayTicket {
        servers: servers.iter().map(server).collect(),
        username: "1:f:x".to_owned(),
        password: "secret".to_owned(),
        lifetime_s: 3_600,
        nonce: Some("nonce".to_owned()),
    }
}

fn claim(party: &Party) -> GuestClaim {
    let (number, proof): (Number, NumberProof) = (party.number.clone(), party.proof.clone());
    GuestClaim { number, proof, identity: party.identity.public(), cert: party.cert(now()) }
}

/// A directory that answers requests for tickets so.
async fn directory(seed: u8, mut answer: impl FnMut(&Request) -> Response + Send + 'static) -> Liar {
    let mut plan = Plan::new([seed; 32]);
    let mut others = plan.script;
    plan.script = Box::new(move |request| match request {
        Request::Relay { .. } => Act::Say(answer(request)),
        Request::Publish { .. } => Act::Say(Response::Published { nodes: 1 }),
        other => others(other),
    });
    Liar::start(plan).await
}

fn asked(request: &Request) -> bool {
    matches!(request, Request::Relay { .. })
}

/// Waits until the terminal has so many tickets.
async fn tickets(node: &Node, n: usize) -> Vec<RelayTicket> {
    let wait = async {
        while node.net.relay_tickets().len() != n {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("as many tickets");
    node.net.relay_tickets().into_iter().map(|(_, ticket)| ticket).collect()
}

#[tokio::test]
async fn a_terminal_has_tickets_of_its_homes_until_they_refuse() {
    let refuses = Arc::new(AtomicU8::new(0));
    let refusing = refuses.clone();
    let liar = directory(1, move |request| {
        assert!(matches!(request, Request::Relay { claim: None }));
        match refusing.load(Ordering::Relaxed) {
            0 => Response::Ticket(ticket(&["8.8.8.8:3478", "127.0.0.1:3478"])),
            _ => Response::Refused { reason: Refusal::NotServing },
        }
    })
    .await;
    let alice = Party::new(0);
    let node = terminal(&alice, std::slice::from_ref(&liar.addr)).await;
    let held = tickets(&node, 1).await;
    assert_eq!((held[0].servers.len(), held[0].username.as_str()), (2, "1:f:x"));
    assert!(held[0].lifetime_s <= 3_600 && held[0].lifetime_s > 3_500);
    assert!(liar.addr.as_str().ends_with(&node.net.relay_tickets()[0].0.to_peer_id()));
    // It registers anew, and is not wanted any more.
    refuses.store(1, Ordering::Relaxed);
    node.net.set_cert(alice.cert(now())).await;
    tickets(&node, 0).await;
}

#[tokio::test]
async fn tickets_outlive_the_connection() {
    let liar = directory(2, |_| Response::Ticket(ticket(&["8.8.8.8:3478"]))).await;
    let node = terminal(&Party::new(0), std::slice::from_ref(&liar.addr)).await;
    tickets(&node, 1).await;
    drop(liar);
    node.until("the loss", |status| status.routes.is_empty()).await;
    assert_eq!(node.net.relay_tickets().len(), 1, "a call that is relayed there may be saved");
}

#[tokio::test]
async fn a_directory_that_did_not_know_the_terminal_is_asked_when_it_holds_its_records() {
    let knows = Arc::new(AtomicU8::new(0));
    let known = knows.clone();
    let liar = directory(3, move |_| match known.fetch_add(1, Ordering::Relaxed) {
        0 => Response::Refused { reason: Refusal::Invalid },
        _ => Response::Ticket(ticket(&["8.8.8.8:3478"])),
    })
    .await;
    let alice = Party::new(0);
    let node = terminal(&alice, std::slice::from_ref(&liar.addr)).await;
    node.registered(1).await;
    liar.until("a question", |seen| seen.requests.iter().any(asked)).await;
    assert_eq!(node.net.relay_tickets(), []);
    // Nobody serves the records, because this directory only says that it holds them.
    let _ = node.net.publish(alice.key(), alice.set(now(), &node.net.addresses())).await;
    tickets(&node, 1).await;
}

#[tokio::test]
async fn what_is_no_sound_ticket_is_not_kept() {
    let unsound = RelayTicket { username: "x".repeat(200), ..ticket(&["8.8.8.8:3478"]) };
    let none = RelayTicket { servers: Vec::new(), ..ticket(&[]) };
    for (seed, answer) in [(4, Response::Ticket(unsound)), (5, Response::Ticket(none)), (6, welcome())] {
        let liar = directory(seed, move |_| answer.clone()).await;
        let node = terminal(&Party::new(0), std::slice::from_ref(&liar.addr)).await;
        liar.until("a question", |seen| seen.requests.iter().any(asked)).await;
        // The answer to the next question comes behind the one to this.
        node.find(Party::new(1).key()).await;
        assert_eq!(node.net.relay_tickets(), []);
    }
}

#[tokio::test]
async fn a_guest_shows_its_claim_and_is_told_why_there_is_no_ticket() {
    let answers = [
        Response::Ticket(ticket(&["8.8.4.4:3478"])),
        Response::Refused { reason: Refusal::Invalid },
        Response::Busy,
        Response::Delivered,
    ];
    let mut answers = answers.into_iter();
    let alice = Party::new(0);
    let claim = claim(&alice);
    let expected = claim.clone();
    let liar = directory(7, move |request| {
        assert!(matches!(request, Request::Relay { claim: Some(claim) } if *claim == expected));
        answers.next().unwrap()
    })
    .await;
    let node = terminal(&alice, &[]).await;
    let ask = || node.net.relay_ticket(std::slice::from_ref(&liar.addr), claim.clone());
    assert_eq!(ask().await.map(|ticket| ticket.servers.len()), Ok(1));
    assert_eq!(ask().await, Err(RelayError::Refused(Refusal::Invalid)));
    assert_eq!(ask().await, Err(RelayError::Busy));
    assert_eq!(ask().await, Err(RelayError::Malformed));
    assert_eq!(node.net.relay_tickets(), [], "a guest's ticket is for one call");
    let nobody = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    assert!(matches!(node.net.relay_ticket(&[nobody], claim.clone()).await, Err(RelayError::Addr(_))));
    let dead = format!("/ip4/127.0.0.1/tcp/1/p2p/{}", Party::new(3).terminal.public().to_peer_id());
    let dead = node.net.relay_ticket(&[dead.parse().unwrap()], claim).await;
    assert!(matches!(dead, Err(RelayError::Request(_))), "{dead:?}");
}

#[tokio::test]
async fn a_strangers_directory_at_a_private_address_is_not_dialled_on_the_internet() {
    let liar = directory(8, |_| Response::Ticket(ticket(&["8.8.4.4:3478"]))).await;
    let alice = Party::new(0);
    let mut config = loopback(100, Role::Terminal);
    config.allow_private = Some(false);
    let node = Node::start(config).await;
    let refused = node.net.relay_ticket(std::slice::from_ref(&liar.addr), claim(&alice)).await;
    assert_eq!(refused, Err(RelayError::Private));
    assert!(liar.seen.lock().unwrap().remotes.is_empty());
}

#[tokio::test]
async fn the_home_is_not_asked_again_for_a_call() {
    let liar = directory(9, |request| {
        assert!(matches!(request, Request::Relay { claim: None }));
        Response::Ticket(ticket(&["8.8.4.4:3478"]))
    })
    .await;
    let alice = Party::new(0);
    let node = terminal(&alice, std::slice::from_ref(&liar.addr)).await;
    let held = tickets(&node, 1).await;
    let for_call = node.net.relay_ticket(std::slice::from_ref(&liar.addr), claim(&alice)).await.unwrap();
    assert_eq!(for_call.username, held[0].username);
    let seen = liar.seen.lock().unwrap();
    assert_eq!(seen.requests.iter().filter(|request| asked(request)).count(), 1);
}
