//! Chosen numbers: certified, renewed, given away.

use super::*;
use crate::storage::CodeOf;
use offhook_proto::backup::BackupChosen;
use offhook_proto::number::ChosenNumber;
use offhook_proto::proof::{CHOSEN_LIFETIME, ChosenCert, SignedChosenCert, SignedTransfer};
use offhook_proto::wire::UnixMillis;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

fn chosen(name: &str) -> ChosenNumber {
    let Ok(Number::Chosen(chosen)) = name.parse() else { panic!("no chosen number") };
    chosen
}

/// A certificate that was issued some days ago.
fn issued_before(key: &DirectoryKey, number: &str, days: u32) -> SignedChosenCert {
    let ago = u64::try_from((DAY * days).as_millis()).unwrap();
    let issued = UnixMillis(wall_clock().0 - ago);
    let cert = ChosenCert {
        number: Number::Chosen(chosen(number)),
        identity: identity().public(),
        directory: key.public(),
        issued,
        expires: issued.plus(CHOSEN_LIFETIME),
    };
    SignedChosenCert::issue(key, &cert)
}

async fn held(terminal: &Terminal) -> Vec<String> {
    terminal.store().chosen().await.unwrap().iter().map(|held| held.number.canonical()).collect()
}

fn transfer_to_ada(directory: &StandIn, number: &str) -> SignedTransfer {
    let key = chosen(number).key(&directory.state().key.public());
    SignedTransfer::sign(&IdentityKey::from_seed([5; 32]), key, identity().public(), wall_clock())
}

#[tokio::test]
async fn q3_a_directory_certifies_nothing_under_a_name_that_is_not_its_own() {
    let evil = StandIn::start("bank.example", 6, &identity(), &empty()).await;
    let terminal = Terminal::at(&evil, "evil.example", &empty()).await;
    evil.state().certify("x@bank.example");
    terminal.unlocked.sync(Older::Refuse).await.unwrap();
    assert_eq!(held(&terminal).await, Vec::<String>::new());
    assert_eq!(terminal.store().known_directory("bank.example").await.unwrap(), None);
    let claimed = terminal.unlocked.claim(&chosen("y"), Vec::new()).await;
    assert!(matches!(claimed, Err(DirectoryError::Answer { .. })), "{claimed:?}");
    assert!(!evil.state().heard.iter().any(|(asked, _)| asked.starts_with("POST /account/numbers")));
    // Its own name is another matter.
    evil.state().certify("x@evil.example");
    terminal.unlocked.sync(Older::Refuse).await.unwrap();
    assert_eq!(held(&terminal).await, ["x@evil.example"]);
}

#[tokio::test]
async fn p1_certificates_are_renewed_by_themselves_when_half_of_their_life_is_over_and_after_its_end() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let terminal = Terminal::at(&directory, NAME, &empty()).await;
    for (days, is_renewed) in [(1, false), (100, true), (200, true)] {
        let key = directory.state().key.clone();
        let before = issued_before(&key, "ada@directory.example", days);
        directory.state().chosen = vec![before.clone()];
        let kept = BackupChosen { cert: before.clone(), transfers: Vec::new() };
        let mut backup = empty();
        backup.chosen = vec![kept];
        directory.put(&backup);
        terminal.unlocked.sync(Older::Refuse).await.unwrap();
        let now = terminal.store().chosen().await.unwrap().remove(0);
        assert_eq!(now.cert != before, is_renewed, "after {days} days");
        assert!(now.cert.verify(wall_clock()).is_ok(), "after {days} days");
        assert_eq!(directory.backup().chosen[0].cert, now.cert, "the backup has it, too");
    }
}

#[tokio::test]
async fn p1_how_a_number_has_come_to_the_account_is_known_to_all_terminals() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let (desk, pocket) =
        (Terminal::at(&directory, NAME, &empty()).await, Terminal::at(&directory, NAME, &empty()).await);
    let transfer = transfer_to_ada(&directory, "bob@directory.example");
    desk.unlocked.claim(&chosen("bob"), vec![transfer.clone()]).await.unwrap();
    // The other one learns of the number by its certificate, and puts a backup of its own.
    pocket.store().contact_add(&number(1), "carol", None).await.unwrap();
    pocket.unlocked.sync(Older::Refuse).await.unwrap();
    desk.unlocked.sync(Older::Refuse).await.unwrap();
    for terminal in [&desk, &pocket] {
        let held = terminal.store().chosen().await.unwrap();
        assert_eq!(held[0].transfers, std::slice::from_ref(&transfer));
    }
    assert_eq!(directory.backup().chosen[0].transfers, [transfer]);
}

#[tokio::test]
async fn p1_a_claim_whose_answer_is_lost_does_not_lose_how_the_number_came() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let terminal = Terminal::at(&directory, NAME, &empty()).await;
    let transfer = transfer_to_ada(&directory, "bob@directory.example");
    directory.state().loses = Some("POST /account/numbers");
    terminal.unlocked.claim(&chosen("bob"), vec![transfer.clone()]).await.unwrap_err();
    terminal.unlocked.sync(Older::Refuse).await.unwrap();
    assert_eq!(terminal.store().chosen().await.unwrap()[0].transfers, std::slice::from_ref(&transfer));
    assert_eq!(directory.backup().chosen[0].transfers, std::slice::from_ref(&transfer));
    // What is kept with the number is kept once.
    let number = Number::Chosen(chosen("bob@directory.example"));
    terminal.store().put_code(&number, CodeOf::Taken, &[transfer]).await.unwrap();
    terminal.unlocked.sync(Older::Refuse).await.unwrap();
    assert_eq!(terminal.store().code(&number, CodeOf::Taken).await.unwrap(), []);
}

#[tokio::test]
async fn p1_the_code_of_a_number_that_is_given_away_is_told_again_if_the_answer_is_lost() {
    let directory = StandIn::start(NAME, 3, &identity(), &empty()).await;
    let terminal = Terminal::at(&directory, NAME, &empty()).await;
    terminal.unlocked.claim(&chosen("ada"), Vec::new()).await.unwrap();
    let (bob, eve) = (IdentityKey::from_seed([5; 32]).public(), IdentityKey::from_seed([6; 32]).public());
    directory.state().loses = Some("/transfer");
    terminal.unlocked.transfer(&chosen("ada"), bob).await.unwrap_err();
    directory.state().loses = None;
    // It is gone there, and what is certified no more is no more held; the code is had all the same.
    terminal.unlocked.sync(Older::Refuse).await.unwrap();
    assert_eq!(held(&terminal).await, Vec::<String>::new());
    let code = terminal.unlocked.transfer(&chosen("ada"), bob).await.unwrap();
    let told = code.last().unwrap().verify_fresh(wall_clock()).unwrap();
    assert_eq!((told.from, told.to), (identity().public(), bob));
    assert_eq!(terminal.unlocked.transfer(&chosen("ada"), bob).await.unwrap(), code, "the same again");
    let other = terminal.unlocked.transfer(&chosen("ada"), eve).await;
    assert!(matches!(other, Err(DirectoryError::Storage(StorageError::Number))), "{other:?}");
}
