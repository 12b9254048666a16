//! Chosen numbers: dialled by telephones whose directory may be up, down, another one than before, or a liar.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at what it is about")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "net/fixture.rs"]
mod fixture;

use fixture::{Party, descriptor, now};
use futures::future::{BoxFuture, FutureExt as _};
use futures::{Stream, StreamExt as _};
use offhook::api::{Command, EndReason, ErrorCode, Event, FailureCode, Reply, TimedEvent};
use offhook::audio::DeviceSpec;
use offhook::net::{Net, NetConfig, NetEvent, Role};
use offhook::phone::{AnswerMode, CallState, Phone, PhoneBuilder};
use offhook::proto::identity::{DirectoryKey, IdentityId};
use offhook::proto::number::{ChosenNumber, Number, RecordKey};
use offhook::proto::proof::{ChosenCert, NumberProof, SignedChosenCert, SignedTransfer};
use offhook::proto::record::RecordSet;
use offhook::proto::wire::UnixMillis;
use offhook::sites::{SiteError, Sites};
use offhook::storage::{Home, NewAccount, NewNumber, Password};
use sqlx::{Connection as _, SqliteConnection};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// More than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The directory that issues the fixture's chosen numbers.
const NAME: &str = "directory.example";
const ADA: &str = "ada@directory.example";

fn issuer() -> DirectoryKey {
    DirectoryKey::from_seed([55; 32])
}

/// A directory's site, as it is at the moment.
#[derive(Clone, Debug)]
struct Site(Arc<Mutex<Result<Vec<u8>, SiteError>>>);

impl Site {
    fn of(key: &DirectoryKey) -> Self {
        Self(Arc::new(Mutex::new(Ok(descriptor(key, now()).to_bytes()))))
    }

    fn says(&self, answer: Result<Vec<u8>, SiteError>) {
        *self.0.lock().unwrap() = answer;
    }
}

impl Sites for Site {
    fn descriptor(&self, name: &str) -> BoxFuture<'static, Result<Vec<u8>, SiteError>> {
        assert_eq!(name, NAME, "nobody else is asked");
        std::future::ready(self.0.lock().unwrap().clone()).boxed()
    }
}

/// A node by which all enter the network. It knows nothing of any chosen number's directory.
struct Entry {
    net: Net,
    _events: mpsc::Receiver<NetEvent>,
    addr: String,
}

async fn entry(seed: u8) -> Entry {
    let mut config = NetConfig::new([seed; 32], Role::Directory);
    config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
    config.allow_private = Some(true);
    let (net, mut events) = Net::start(config).await.unwrap();
    let addr = loop {
        match events.recv().await.unwrap() {
            NetEvent::Listening { addr } => break format!("{addr}/p2p/{}", net.id().to_peer_id()),
            _ => continue,
        }
    };
    Entry { net, _events: events, addr }
}

fn password() -> Password {
    Password::new("a password for tests").unwrap()
}

/// An account in a folder of its own.
struct Person {
    folder: TempDir,
    id: &'static str,
}

impl Person {
    async fn new(id: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let new = NewAccount { id: id.parse().unwrap(), password: password() };
        Home::open(folder.path()).unwrap().create_account(new, |_| {}).await.unwrap();
        Self { folder, id }
    }

    fn home(&self) -> &Path {
        self.folder.path()
    }

    async fn identity(&self) -> IdentityId {
        Home::open(self.home())
            .unwrap()
            .unlock(&self.id.parse().unwrap(), &password())
            .await
            .unwrap()
            .public()
    }

    /// Keeps a certificate, as the account's program does after it was issued.
    async fn holds(&self, cert: SignedChosenCert, transfers: Vec<SignedTransfer>) {
        let home = Home::open(self.home()).unwrap();
        let key = home.unlock(&self.id.parse().unwrap(), &password()).await.unwrap();
        let store = home.open_account(&self.id.parse().unwrap()).await.unwrap();
        store.put_chosen(&key, NewNumber { cert, transfers }).await.unwrap();
        store.close().await;
    }

    fn phone(&self, entry: &Entry, site: &Site) -> PhoneBuilder {
        Phone::builder(self.home())
            .entry([entry.addr.clone()])
            .listen(["/ip4/127.0.0.1/udp/0/quic-v1".to_owned()])
            .allow_private(true)
            .mdns(false)
            .mic(DeviceSpec::None)
            .speaker(DeviceSpec::None)
            .sites(site.clone())
    }

    async fn on_line(&self, entry: &Entry, site: &Site) -> Phone {
        online(self.phone(entry, site).answer(AnswerMode::Auto)).await
    }
}

async fn online(builder: PhoneBuilder) -> Phone {
    let phone = builder.build().await.unwrap();
    tokio::time::timeout(PATIENCE, phone.online()).await.expect("on line in time").unwrap();
    phone
}

fn certificate(key: &DirectoryKey, identity: IdentityId) -> SignedChosenCert {
    let number = ChosenNumber::new("ada", Some(NAME)).unwrap();
    SignedChosenCert::certify(key, &number, identity, now()).unwrap()
}

fn ada_key() -> RecordKey {
    ADA.parse::<Number>().unwrap().record_key(Some(&issuer().public())).unwrap()
}

/// Waits until the network has somebody's terminal under the number.
async fn published(entry: &Entry, identity: IdentityId) {
    let there = async {
        loop {
            let mut lookup = entry.net.lookup(ada_key(), &[]);
            while let Some(event) = lookup.next().await {
                if let offhook::net::LookupEvent::Found { set, .. } = event
                    && set.account.as_ref().is_some_and(|account| account.identity == identity)
                    && set.terminals.iter().any(|terminal| !terminal.addrs.is_empty())
                {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.expect("published under the chosen number");
}

async fn until<T>(
    events: &mut (impl Stream<Item = TimedEvent> + Unpin),
    mut want: impl FnMut(&Event) -> Option<T>,
) -> T {
    let wait = async {
        loop {
            let event = events.next().await.expect("events").event;
            if let Some(found) = want(&event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the event in time")
}

/// The call comes through.
async fn rings(caller: &Phone, typed: &str) {
    let mut call = caller.dial(typed).await.expect("dialled");
    let reached =
        tokio::time::timeout(PATIENCE, call.until(|s| matches!(s, CallState::Active | CallState::Ended(_))));
    assert_eq!(reached.await.expect("in time"), CallState::Active, "{typed}");
    call.hang_up().await.unwrap();
    call.ended().await;
}

/// How a call ends that does not come through.
async fn fails(caller: &Phone, typed: &str) -> EndReason {
    let call = caller.dial(typed).await.expect("dialled");
    tokio::time::timeout(PATIENCE, call.ended()).await.expect("an end in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_chosen_number_rings_though_its_directory_is_off_line_and_who_never_met_it_is_told_so() {
    let (entry, site) = (entry(1).await, Site::of(&issuer()));
    let (ada, bob, carol) = (Person::new("ada").await, Person::new("bob").await, Person::new("carol").await);
    let identity = ada.identity().await;
    ada.holds(certificate(&issuer(), identity), Vec::new()).await;
    let callee = ada.on_line(&entry, &site).await;
    published(&entry, identity).await;
    let (bob, carol) = (bob.on_line(&entry, &site).await, carol.on_line(&entry, &site).await);

    // However it is typed, its full form is shown before it rings.
    let mut seen = bob.events();
    rings(&bob, "Ada@Directory.Example").await;
    let shown =
        until(
            &mut seen,
            |e| if let Event::Searching { number, .. } = e { Some(number.clone()) } else { None },
        );
    assert_eq!(shown.await.to_string(), ADA);

    site.says(Err(SiteError::Unreachable));
    rings(&bob, ADA).await;
    let found = bob.execute(Command::Lookup { number: ADA.into() }).await.unwrap();
    assert!(matches!(found, Reply::Lookup(found) if found.number.to_string() == ADA && found.terminals == 1));

    assert_eq!(carol.dial(ADA).await.unwrap_err().code, ErrorCode::DirectoryUnreachable);
    site.says(Err(SiteError::NoDirectory));
    assert_eq!(carol.dial(ADA).await.unwrap_err().code, ErrorCode::UnknownDirectory);
    site.says(Ok(b"a page".to_vec()));
    assert_eq!(carol.dial(ADA).await.unwrap_err().code, ErrorCode::UnknownDirectory);
    let nowhere = carol.dial("ada").await.unwrap_err();
    assert_eq!(nowhere.code, ErrorCode::UnknownDirectory, "which directory it means is not known: {nowhere}");

    // Its key can be told by somebody else, and numbers without a directory be its.
    let key = issuer().public().to_string();
    carol.execute(Command::DirectoryAdd { name: NAME.into(), key }).await.unwrap();
    carol.execute(Command::DirectoryHome { name: Some(NAME.into()) }).await.unwrap();
    rings(&carol, "ada").await;
    assert_eq!(fails(&carol, "nobody").await, EndReason::WrongNumber);
    let Reply::Directories { directories } = carol.execute(Command::Directories).await.unwrap() else {
        panic!("directories were asked for")
    };
    assert!(directories.len() == 1 && directories[0].home && directories[0].name == NAME);
    for phone in [callee, bob, carol] {
        phone.shutdown().await;
    }
    entry.net.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q3_a_directory_with_another_key_is_told_and_never_believed_by_itself() {
    let (entry, site) = (entry(2).await, Site::of(&issuer()));
    let (ada, bob) = (Person::new("ada").await, Person::new("bob").await);
    let identity = ada.identity().await;
    ada.holds(certificate(&issuer(), identity), Vec::new()).await;
    let callee = ada.on_line(&entry, &site).await;
    published(&entry, identity).await;
    let caller = bob.on_line(&entry, &site).await;
    rings(&caller, ADA).await;

    // Somebody else has the name now, or its site. It is noticed when it is time to look again.
    let other = DirectoryKey::from_seed([66; 32]);
    site.says(Ok(descriptor(&other, now()).to_bytes()));
    let account = std::fs::read_dir(bob.home().join("accounts")).unwrap();
    let folder =
        account.map(|entry| entry.unwrap().path()).find(|path| path.join("account.db").exists()).unwrap();
    let file = format!("sqlite://{}", folder.join("account.db").display());
    let mut raw = SqliteConnection::connect(&file).await.unwrap();
    sqlx::query("UPDATE known_directories SET asked = 0").execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    let mut told = caller.events();
    rings(&caller, ADA).await;
    let changed = until(&mut told, |event| match event {
        Event::DirectoryChanged { name, pinned, offered } => {
            Some((name.clone(), pinned.clone(), offered.clone()))
        }
        _ => None,
    });
    let expected = (NAME.to_owned(), issuer().public().to_string(), other.public().to_string());
    assert_eq!(changed.await, expected);
    rings(&caller, ADA).await;

    // Only the user's word puts the other key in its place, and then the old numbers are nobody's.
    let confirm = || Command::DirectoryConfirm { name: NAME.into() };
    caller.execute(confirm()).await.unwrap();
    assert_eq!(fails(&caller, ADA).await, EndReason::WrongNumber);
    assert_eq!(caller.execute(confirm()).await.unwrap_err().code, ErrorCode::NothingToConfirm);
    callee.shutdown().await;
    caller.shutdown().await;
    entry.net.shutdown().await;
}

/// Records of a number, by a certificate of one's own making.
fn claimed(party: &Party, cert: SignedChosenCert, seq: UnixMillis) -> RecordSet {
    let NumberProof::Chosen(_, plain) = party.proof.clone() else { panic!("a chosen number") };
    let mut account = party.account_record(seq);
    account.proof = NumberProof::Chosen(cert, plain);
    account.expires = seq.plus(Duration::from_secs(86_400 * 100));
    let addrs = ["/ip4/127.0.0.1/udp/9/quic-v1".parse().unwrap()];
    RecordSet { account: Some(account.sign(&party.identity)), terminals: vec![party.record(now(), &addrs)] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q3_forged_and_foreign_certificates_make_nobody_ada_and_one_that_is_over_is_told() {
    let (entry, site) = (entry(3).await, Site::of(&issuer()));
    let bob = Person::new("bob").await;
    let caller = bob.on_line(&entry, &site).await;
    let party = Party::chosen(0);
    let cert = ChosenCert {
        number: party.number.clone(),
        identity: party.identity.public(),
        directory: issuer().public(),
        issued: UnixMillis(now().0 - 86_400_000 * 20),
        expires: now().plus(Duration::from_secs(86_400)),
    };
    // Signed by somebody else in the directory's name: no node takes it.
    let other = DirectoryKey::from_seed([66; 32]);
    let forged = claimed(&party, SignedChosenCert::issue(&other, &cert), now());
    assert!(entry.net.publish(ada_key(), forged).await.is_err());
    // Of a directory of one's own with the same name: it lies elsewhere.
    let own = ChosenCert { directory: other.public(), ..cert.clone() };
    let elsewhere = party.number.record_key(Some(&other.public())).unwrap();
    let foreign = claimed(&party, SignedChosenCert::issue(&other, &own), now());
    assert!(entry.net.publish(ada_key(), foreign.clone()).await.is_err());
    entry.net.hold(elsewhere, foreign).await.unwrap();
    assert_eq!(fails(&caller, ADA).await, EndReason::WrongNumber);
    // By the directory's own word under another directory's name.
    let renamed = ChosenCert { number: "ada@other.example".parse().unwrap(), ..cert.clone() };
    let mut misled = party.account_record(now());
    let NumberProof::Chosen(_, plain) = party.proof.clone() else { panic!("a chosen number") };
    misled.number = renamed.number.clone();
    misled.proof = NumberProof::Chosen(SignedChosenCert::issue(&issuer(), &renamed), plain);
    let misled = RecordSet { account: Some(misled.sign(&party.identity)), terminals: Vec::new() };
    entry.net.hold(ada_key(), misled).await.unwrap();
    assert_eq!(fails(&caller, ADA).await, EndReason::WrongNumber);
    caller.shutdown().await;
    entry.net.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q3_a_number_whose_certificate_has_run_out_does_not_ring_and_that_is_why() {
    let (entry, site) = (entry(4).await, Site::of(&issuer()));
    let bob = Person::new("bob").await;
    let caller = bob.on_line(&entry, &site).await;
    let party = Party::chosen(0);
    // The record was signed while the certificate was good, and outlives it.
    let (issued, expires) = (UnixMillis(now().0 - 86_400_000 * 20), UnixMillis(now().0 - 1_000));
    let cert = ChosenCert {
        number: party.number.clone(),
        identity: party.identity.public(),
        directory: issuer().public(),
        issued,
        expires,
    };
    let set = claimed(&party, SignedChosenCert::issue(&issuer(), &cert), UnixMillis(now().0 - 86_400_000));
    entry.net.hold(ada_key(), set).await.unwrap();
    assert_eq!(fails(&caller, ADA).await, EndReason::Failed(FailureCode::NumberExpired));
    let error = caller.execute(Command::Lookup { number: ADA.into() }).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NumberExpired);
    caller.shutdown().await;
    entry.net.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_caller_is_shown_by_a_chosen_number_only_while_it_is_theirs_and_its_directory_known() {
    let (entry, site) = (entry(5).await, Site::of(&issuer()));
    let (ada, eve) = (Person::new("ada").await, Person::new("eve").await);
    let (bob, carol) = (Person::new("bob").await, Person::new("carol").await);
    let (ada_id, eve_id) = (ada.identity().await, eve.identity().await);
    // Both have certificates that are good: she has given the number away, and not told anybody here.
    ada.holds(certificate(&issuer(), ada_id), Vec::new()).await;
    let former = ada.on_line(&entry, &site).await;
    published(&entry, ada_id).await;
    let (bob, carol) = (bob.on_line(&entry, &site).await, carol.on_line(&entry, &site).await);
    bob.execute(Command::DirectoryAdd { name: NAME.into(), key: issuer().public().to_string() })
        .await
        .unwrap();
    let shown_to = async |callee: &Phone, caller: &Phone| {
        let mut heard = callee.events();
        rings(caller, &callee.number().to_string()).await;
        let number =
            |e: &Event| if let Event::Incoming { number, .. } = e { Some(number.clone()) } else { None };
        until(&mut heard, number).await
    };
    assert_eq!(shown_to(&bob, &former).await.to_string(), ADA);
    let plain = former.number().clone();
    assert_eq!(shown_to(&carol, &former).await, plain, "a stranger's word sends nobody to any site");

    let key = Home::open(ada.home()).unwrap().unlock(&"ada".parse().unwrap(), &password()).await.unwrap();
    let transfer = SignedTransfer::sign(&key, ada_key(), eve_id, now());
    eve.holds(certificate(&issuer(), eve_id), vec![transfer]).await;
    let owner = eve.on_line(&entry, &site).await;
    published(&entry, eve_id).await;
    // Somebody who has not asked lately. The former owner is no longer shown by the number, the owner is.
    let dave = Person::new("dave").await.on_line_with(&entry, &site).await;
    assert_eq!(shown_to(&dave.0, &former).await, plain);
    assert_eq!(shown_to(&dave.0, &owner).await.to_string(), ADA);
    // Who knew her under the number is told that it has moved, and rings nobody before having confirmed that.
    let mut told = bob.events();
    assert_eq!(fails(&bob, ADA).await, EndReason::KeyChanged);
    let moved =
        until(&mut told, |e| if let Event::KeyChanged { moved, .. } = e { Some(*moved) } else { None });
    assert!(moved.await, "a signed transfer says so");
    bob.execute(Command::ContactConfirm { contact: ADA.into() }).await.unwrap();
    rings(&bob, ADA).await;
    for phone in [former, owner, bob, carol, dave.0] {
        phone.shutdown().await;
    }
    entry.net.shutdown().await;
}

impl Person {
    /// Goes on line, and knows the directory.
    async fn on_line_with(self, entry: &Entry, site: &Site) -> (Phone, Self) {
        let phone = self.on_line(entry, site).await;
        let key = issuer().public().to_string();
        phone.execute(Command::DirectoryAdd { name: NAME.into(), key }).await.unwrap();
        (phone, self)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_contacts_texts_and_history_know_a_chosen_number_by_its_full_form() {
    let (entry, site) = (entry(6).await, Site::of(&issuer()));
    let (ada, bob) = (Person::new("ada").await, Person::new("bob").await);
    let identity = ada.identity().await;
    ada.holds(certificate(&issuer(), identity), Vec::new()).await;
    let callee = ada.on_line(&entry, &site).await;
    published(&entry, identity).await;
    let caller = bob.on_line(&entry, &site).await;
    caller.execute(Command::ContactAdd { number: ADA.into(), name: "Countess".into() }).await.unwrap();
    let (mut heard, mut seen) = (callee.events(), caller.events());
    let text = Command::Text { number: "countess".into(), body: "hello".into() };
    caller.execute(text).await.unwrap();
    until(&mut heard, |e| matches!(e, Event::Text { body, .. } if body == "hello").then_some(())).await;
    until(&mut seen, |e| matches!(e, Event::TextDelivered { .. }).then_some(())).await;
    rings(&caller, "Countess").await;
    let history = async {
        loop {
            let reply = caller.execute(Command::History { limit: None }).await.unwrap();
            let Reply::History { calls } = reply else { panic!("a history was asked for") };
            if let Some(call) = calls.first() {
                return (call.number.to_string(), call.name.clone());
            }
        }
    };
    assert_eq!(history.await, (ADA.to_owned(), Some("Countess".to_owned())));
    // And the other way: she calls, and is known.
    let mut heard = caller.events();
    rings(&callee, &caller.number().to_string()).await;
    let known = until(&mut heard, |event| match event {
        Event::Incoming { number, name, contact, .. } => Some((number.to_string(), name.clone(), *contact)),
        _ => None,
    });
    assert_eq!(known.await, (ADA.to_owned(), Some("Countess".to_owned()), true));
    callee.shutdown().await;
    caller.shutdown().await;
    entry.net.shutdown().await;
}
