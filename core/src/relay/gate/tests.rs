//! Who gets in.

use std::time::Duration;

use offhook_proto::identity::TerminalKey;
use offhook_proto::relay::RelayTicket;
use stun_types::message::{MessageWrite, MessageWriteVec};
use stun_types::prelude::MessageWriteExt;
use turn_types::message::ALLOCATE;

use super::*;
use crate::relay::request::Ask;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn issuer() -> TicketIssuer {
    TicketIssuer::new([7; 32])
}

fn gate() -> Gate {
    Gate::new(issuer())
}

fn ticket() -> RelayTicket {
    issuer().issue(RelayClass::Guest, &TerminalKey::from_seed([5; 32]).public(), Vec::new(), NOW)
}

/// A request with these credentials.
fn request(name: &str, password: &str, nonce: &str) -> Vec<u8> {
    let credentials = LongTermKeyCredentials::new(name.to_owned(), password.to_owned(), REALM.to_owned());
    let ask = Ask::Refresh { family: None, lifetime: None };
    ask.write(1.into(), name, REALM, nonce, &credentials.make_key(IntegrityAlgorithm::Sha1))
}

fn admit(bytes: &[u8], known: Option<(&User, &str)>, now: UnixMillis) -> Result<(), No> {
    gate().admit(&Message::from_bytes(bytes).unwrap(), known, now).map(|_| ())
}

#[test]
fn the_holder_of_a_ticket_is_admitted_while_it_and_the_nonce_are_good() {
    let (ticket, nonce) = (ticket(), gate().nonce(NOW));
    let good = request(&ticket.username, &ticket.password, &nonce);
    assert_eq!(admit(&good, None, NOW), Ok(()));
    let over = NOW.plus(RelayClass::Guest.lifetime());
    assert_eq!(admit(&good, None, over), Err(No::Unauthorized));
}

#[test]
fn whoever_has_an_allocation_may_keep_it_when_the_ticket_is_over() {
    let (ticket, over) = (ticket(), NOW.plus(RelayClass::Guest.lifetime()));
    let user = gate().user(&ticket.username, NOW).unwrap();
    let late = request(&ticket.username, &ticket.password, &gate().nonce(over));
    assert_eq!(admit(&late, None, over), Err(No::Unauthorized));
    assert_eq!(admit(&late, Some((&user, "")), over), Ok(()));
    let answered = request(&ticket.username, &ticket.password, "the machine's");
    assert_eq!(admit(&answered, Some((&user, "the machine's")), over), Ok(()));
    assert_eq!(admit(&answered, Some((&user, "another")), over), Err(No::StaleNonce));
}

#[test]
fn a_wrong_password_and_a_made_up_ticket_are_unauthorized() {
    let (ticket, nonce) = (ticket(), gate().nonce(NOW));
    assert_eq!(admit(&request(&ticket.username, "guess", &nonce), None, NOW), Err(No::Unauthorized));
    let better = ticket.username.replace(":g:", ":f:");
    assert_eq!(admit(&request(&better, &ticket.password, &nonce), None, NOW), Err(No::Unauthorized));
    assert_eq!(admit(&request("eve", "x", &nonce), None, NOW), Err(No::Unauthorized));
    let elsewhere = Gate::new(TicketIssuer::new([8; 32]));
    let good = request(&ticket.username, &ticket.password, &nonce);
    let other = elsewhere.admit(&Message::from_bytes(&good).unwrap(), None, NOW).map(|_| ());
    assert_eq!(other, Err(No::Unauthorized));
}

#[test]
fn a_nonce_of_somebody_else_or_none_is_stale() {
    let ticket = ticket();
    let with = |nonce: &str| request(&ticket.username, &ticket.password, nonce);
    let good = ticket.nonce.clone().unwrap();
    assert_eq!(admit(&with(&good), None, NOW), Ok(()), "the ticket brings one");
    let ahead = gate().nonce(NOW.plus(Duration::from_secs(60)));
    let foreign = TicketIssuer::new([8; 32]).nonce(NOW);
    for bad in [&ahead[..], &foreign, "x", &good[1..], &format!("{good}x")] {
        assert_eq!(admit(&with(bad), None, NOW), Err(No::StaleNonce), "{bad}");
    }
}

#[test]
fn a_request_without_a_signature_is_challenged_and_one_without_a_name_malformed() {
    let bare = Message::builder_request(ALLOCATE, MessageWriteVec::new()).finish();
    assert_eq!(admit(&bare, None, NOW), Err(No::Unauthorized));
    let mut nameless = Message::builder_request(ALLOCATE, MessageWriteVec::new());
    let key = gate().user(&ticket().username, NOW).unwrap().key;
    nameless.add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1).unwrap();
    assert_eq!(admit(&nameless.finish(), None, NOW), Err(No::Malformed));
}
