//! An account's terminals, the records that its owner publishes, and who would revoke somebody else's terminal.

use std::time::Duration;

use offhook_proto::identity::{IdentityKey, MailboxKey, SealKey, SignedCert, TerminalId, TerminalKey};
use offhook_proto::number::{ChosenNumber, Number};
use offhook_proto::proof::{NumberProof, PlainProof, SignedChosenCert};
use offhook_proto::record::{AccountRecord, RecordSet, TerminalRecord};
use offhook_proto::request::Action;
use offhook_proto::wire::{self, UnixMillis};
use serde_json::{Value, json};

use crate::GOOD;
use crate::client::{Client, NAME, Person, Scene, bytes, hex, identity, text};

const EVE: u8 = 2;

fn key(n: u8) -> IdentityKey {
    IdentityKey::from_seed([n; 32])
}

fn terminal(n: u8) -> TerminalKey {
    TerminalKey::from_seed([n + 200; 32])
}

/// What somebody says of their number, so many milliseconds from now.
fn record(scene: &Scene, n: u8, later: u64, revoked: &[TerminalId]) -> AccountRecord {
    let seq = UnixMillis(scene.now().0 + later);
    let person = Person::new(n);
    AccountRecord {
        number: Number::Plain(person.number),
        proof: NumberProof::Plain(PlainProof { nonce: person.nonce }),
        identity: identity(n),
        mailbox: MailboxKey::from_seed([n + 100; 32]).public(),
        mailboxes: Vec::new(),
        revoked: revoked.to_vec(),
        seq,
        expires: seq.plus(Duration::from_secs(86_400)),
        transfers: Vec::new(),
        backups: vec![offhook_proto::record::BackupAt::new(&key(n), &scene.directory, 1)],
    }
}

fn signed(record: &AccountRecord, by: u8) -> Value {
    json!({ "record": text(&wire::encode(&record.sign(&key(by)))) })
}

/// Publishes a record and says how that went.
async fn publish(client: &mut Client, body: Value) -> (u16, String) {
    let answer = client.post("/account/record", body).await;
    (answer.status, answer.error().to_owned())
}

/// The terminal of an account comes on line, as a terminal does: without the site.
async fn on_line(scene: &Scene, n: u8, account: &AccountRecord) {
    let seal = SealKey::from_seed([9; 32]).public();
    let cert = SignedCert::issue(&key(n), terminal(n).public(), seal, scene.now());
    let addrs = vec!["/ip4/127.0.0.1/udp/4001/quic-v1".parse().unwrap()];
    let expires = scene.now().plus(Duration::from_secs(3_600));
    let record = TerminalRecord { number: account.number.clone(), cert, addrs, seq: scene.now(), expires };
    let set = RecordSet { account: Some(account.sign(&key(n))), terminals: vec![record.sign(&terminal(n))] };
    scene.node().hold(account.number.record_key(None).unwrap(), set).await.unwrap();
}

async fn scene_with(people: &[(u8, &str)]) -> Scene {
    let scene = Scene::with_node().await;
    for (n, id) in people {
        scene.sign_up(*n, id, GOOD).await;
    }
    scene
}

#[tokio::test]
async fn terminals_are_seen_and_revoked_by_what_their_owner_signs() {
    let scene = scene_with(&[(1, "ada")]).await;
    let mut ada = scene.logged_in("ada", GOOD).await;
    assert_eq!(ada.get("/account/terminals").await.json, json!({ "terminals": [], "records": [] }));
    let first = record(&scene, 1, 0, &[]);
    assert_eq!(publish(&mut ada, signed(&first, 1)).await, (204, String::new()));
    on_line(&scene, 1, &first).await;
    let seen = ada.get("/account/terminals").await.json;
    assert_eq!(seen["records"], json!([signed(&first, 1)["record"]]), "the very bytes");
    let [seen] = &seen["terminals"].as_array().unwrap()[..] else { panic!("{seen}") };
    let id = data_encoding::HEXLOWER.encode(terminal(1).public().as_bytes());
    assert_eq!((&seen["terminal"], &seen["online"]), (&json!(id), &json!(true)));
    assert_eq!(seen["certified"], scene.now().0);
    assert!(seen["expires"].as_u64() > Some(scene.now().0));
    let next = record(&scene, 1, 5, &[terminal(1).public()]);
    assert_eq!(publish(&mut ada, signed(&next, 1)).await.0, 204);
    let left = ada.get("/account/terminals").await.json;
    assert_eq!(left, json!({ "terminals": [], "records": [signed(&next, 1)["record"]] }));
    assert_eq!(publish(&mut ada, signed(&next, 1)).await.0, 204, "the answer may have been lost");
    let older = signed(&record(&scene, 1, 4, &[]), 1);
    assert_eq!(publish(&mut ada, older).await, (409, "stale".to_owned()));
    assert_eq!(ada.get("/account/terminals").await.json, left);
}

#[tokio::test]
async fn nobody_revokes_somebody_elses_terminal() {
    let scene = scene_with(&[(1, "ada"), (EVE, "eve")]).await;
    let mut ada = scene.logged_in("ada", GOOD).await;
    let mut eve = scene.logged_in("eve", GOOD).await;
    let first = record(&scene, 1, 0, &[]);
    assert_eq!(publish(&mut ada, signed(&first, 1)).await.0, 204);
    on_line(&scene, 1, &first).await;
    let before = ada.get("/account/terminals").await.json;
    assert_eq!(before["terminals"].as_array().unwrap().len(), 1);
    let revoking = record(&scene, 1, 5, &[terminal(1).public()]);
    let is = |status: u16, word: &str| (status, word.to_owned());
    // In her own session.
    assert_eq!(publish(&mut eve, signed(&revoking, EVE)).await, is(404, "not_found"));
    // Whatever Ada has signed is not Eve's to publish.
    assert_eq!(publish(&mut eve, signed(&revoking, 1)).await, is(404, "not_found"));
    // In the session that she has stolen from Ada: she has no key.
    let mut stolen = ada.clone();
    assert_eq!(publish(&mut stolen, signed(&revoking, EVE)).await, is(403, "bad_signature"));
    let hers = AccountRecord { identity: identity(EVE), ..revoking.clone() };
    assert_eq!(publish(&mut stolen, signed(&hers, EVE)).await, is(403, "other_identity"));
    let own = AccountRecord { number: Number::Plain(Person::new(EVE).number), ..revoking.clone() };
    assert_eq!(publish(&mut stolen, signed(&own, 1)).await, is(404, "not_found"));
    let late = AccountRecord { seq: UnixMillis(scene.now().0 + 86_400_000), ..revoking.clone() };
    assert_eq!(publish(&mut stolen, signed(&late, 1)).await.0, 400, "from tomorrow");
    let unproven = AccountRecord { proof: NumberProof::Plain(PlainProof { nonce: 1 }), ..revoking.clone() };
    assert_eq!(publish(&mut stolen, signed(&unproven, 1)).await.0, 422);
    assert_eq!(publish(&mut stolen, json!({ "record": "AAAA" })).await, is(400, "malformed"));
    // Another site's page makes Ada's browser ask.
    stolen.csrf = None;
    assert_eq!(publish(&mut stolen, signed(&revoking, 1)).await, is(403, "bad_csrf"));
    assert_eq!(publish(&mut scene.client(), signed(&revoking, 1)).await, is(401, "no_session"));
    assert_eq!(scene.client().get("/account/terminals").await.error(), "no_session");
    assert_eq!(ada.get("/account/terminals").await.json, before, "Ada's terminal rings");
    assert_eq!(eve.get("/account/terminals").await.json, json!({ "terminals": [], "records": [] }));
}

#[tokio::test]
async fn chosen_numbers_have_records_of_their_own() {
    let scene = scene_with(&[(1, "ada")]).await;
    let mut ada = scene.logged_in("ada", GOOD).await;
    let number = Number::Chosen(ChosenNumber::new("☎7", Some(NAME)).unwrap());
    let claim = scene.sign(1, Action::Claim { number: number.clone(), transfer: None });
    let answer = ada.post("/account/numbers", json!({ "number": "☎7", "signed": claim })).await;
    let certificate: SignedChosenCert = wire::decode(&bytes(&answer.json["certificate"]), 768).unwrap();
    let plain = record(&scene, 1, 0, &[]);
    let proof = NumberProof::Chosen(certificate, PlainProof { nonce: Person::new(1).nonce });
    let chosen = AccountRecord { number, proof, ..plain.clone() };
    for record in [&plain, &chosen] {
        assert_eq!(publish(&mut ada, signed(record, 1)).await.0, 204);
    }
    let seen = ada.get("/account/terminals").await.json;
    assert_eq!(seen["records"], json!([signed(&plain, 1)["record"], signed(&chosen, 1)["record"]]));
    assert_eq!(hex(&identity(1)), ada.get("/account").await.json["identity"]);
}

#[tokio::test]
async fn without_its_node_a_directory_knows_no_records() {
    let scene = Scene::new().await;
    scene.sign_up(1, "ada", GOOD).await;
    let mut ada = scene.logged_in("ada", GOOD).await;
    let answer = ada.get("/account/terminals").await;
    assert_eq!((answer.status, answer.error()), (503, "unavailable"));
    let body = signed(&record(&scene, 1, 0, &[]), 1);
    assert_eq!(publish(&mut ada, body).await, (503, "unavailable".to_owned()));
}
