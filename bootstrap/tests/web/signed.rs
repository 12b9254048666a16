//! What takes the identity's signature: sign-up, backups, new passwords, getting in without one; and who tries it without.

use offhook_proto::backup::SealedBackup;
use offhook_proto::identity::{DirectoryId, IdentityKey};
use offhook_proto::request::{Action, Digest, SignedRequest};
use offhook_proto::wire::UnixMillis;
use serde_json::{Value, json};

use crate::client::{Answer, Client, Person, Scene, backup_key, bytes, hex, identity, sealed, text};
use crate::{GOOD, scene_with_ada};

const EVE: u8 = 2;

#[tokio::test]
async fn who_signs_up_is_let_in() {
    let scene = Scene::new().await;
    let (body, export_key) = scene.sign_up_body(1, " Ada", GOOD).await;
    assert_eq!(body["id"], "ada", "the directory has told how it writes the ID");
    let mut browser = scene.client();
    let answer = browser.post("/signup/finish", body).await;
    assert_eq!((answer.status, &answer.json["account"]["id"]), (201, &json!("ada")));
    assert_eq!(answer.json["account"]["number"], Person::new(1).number.as_str());
    browser.keep_word(&answer);
    assert_eq!(browser.get("/account").await.json, answer.json["account"]);
    assert_eq!(browser.post("/logout", json!({})).await.status, 204);
    assert_eq!(browser.begin("ada", GOOD).await.unwrap().export_key, export_key);
    let (mut body, _) = scene.sign_up_body(EVE, "eve", GOOD).await;
    body["token"] = json!(true);
    let mut program = scene.client();
    program.token = program.post("/signup/finish", body).await.json["token"].as_str().map(str::to_owned);
    assert_eq!(program.get("/account").await.json["id"], "eve");
}

#[tokio::test]
async fn nobody_signs_up_somebody_elses_identity_or_number() {
    let scene = Scene::new().await;
    let (good, _) = scene.sign_up_body(1, "ada", GOOD).await;
    let (other, _) = scene.sign_up_body(EVE, "eve", "another").await;
    let mut client = scene.client();
    let mut refused = async |change: &[(&str, Value)]| {
        scene.pass(600 / 10);
        let mut body = good.clone();
        for (field, value) in change {
            body[*field] = value.clone();
        }
        let answer = client.post("/signup/finish", body).await;
        (answer.status, answer.error().to_owned())
    };
    let is = |status: u16, word: &str| (status, word.to_owned());
    let of = |field: &str| other[field].clone();
    assert_eq!(refused(&[("identity", of("identity"))]).await, is(403, "other_identity"));
    assert_eq!(refused(&[("signed", of("signed"))]).await, is(403, "other_identity"));
    for field in ["id", "upload", "number", "proof_nonce", "backup"] {
        assert_eq!(refused(&[(field, of(field))]).await, is(403, "bad_signature"), "{field}");
    }
    let mut bent = bytes(&good["signed"]);
    let last = bent.len() - 1;
    bent[last] ^= 1;
    assert_eq!(refused(&[("signed", json!(text(&bent)))]).await, is(403, "bad_signature"));
    assert_eq!(refused(&[("signed", json!("AAAA"))]).await, is(400, "malformed"));
    assert_eq!(refused(&[("identity", json!("AA"))]).await, is(400, "malformed"));
    assert_eq!(refused(&[("number", json!("ada"))]).await, is(400, "malformed"));
    // A number that does not follow from the identity, and what is no backup, though both are signed.
    let (upload, backup) = (bytes(&good["upload"]), bytes(&good["backup"]));
    let eve = Person::new(EVE);
    let signed = json!(scene.sign(1, eve.sign_up("ada", &upload, &backup)));
    let numbers = [("number", of("number")), ("proof_nonce", of("proof_nonce")), ("signed", signed)];
    assert_eq!(refused(&numbers).await, is(422, "number_invalid"));
    let second = sealed(1, &[1; 64], 2);
    for wrong in [&b"no backup"[..], &second] {
        let signed = json!(scene.sign(1, Person::new(1).sign_up("ada", &upload, wrong)));
        assert_eq!(
            refused(&[("backup", json!(text(wrong))), ("signed", signed)]).await,
            is(400, "malformed")
        );
    }
    let elsewhere = DirectoryId::from_bytes([9; 32]);
    let action = Person::new(1).sign_up("ada", &upload, &backup);
    let key = IdentityKey::from_seed([1; 32]);
    let signed = SignedRequest::sign(&key, elsewhere, scene.now(), action.clone());
    let signed = json!(text(&signed.to_bytes()));
    assert_eq!(refused(&[("signed", signed)]).await, is(403, "other_directory"));
    scene.pass(601);
    assert_eq!(refused(&[]).await, is(403, "clock"));
    assert_eq!(scene.store.count_accounts().await.unwrap(), 0);
    let signed = json!(scene.sign(1, action));
    assert_eq!(refused(&[("signed", signed.clone())]).await, is(201, ""));
    assert_eq!(refused(&[("signed", signed)]).await, is(409, "replayed"));
}

#[tokio::test]
async fn an_identity_has_one_account_and_an_id_one_owner() {
    let scene = scene_with_ada().await;
    let (again, _) = scene.sign_up_body(1, "adele", GOOD).await;
    let answer = scene.client().post("/signup/finish", again).await;
    assert_eq!((answer.status, answer.error()), (409, "identity_taken"));
    let (one, _) = scene.sign_up_body(EVE, "eve", GOOD).await;
    let (two, _) = scene.sign_up_body(3, "eve", GOOD).await;
    assert_eq!(scene.client().post("/signup/finish", one).await.status, 201);
    let answer = scene.client().post("/signup/finish", two).await;
    assert_eq!((answer.status, answer.error()), (409, "id_taken"), "somebody was quicker");
}

fn backup_of(version: u64, data: &[u8]) -> Action {
    Action::Backup { version, backup: Digest::of(data) }
}

async fn put(client: &mut Client, version: u64, data: &[u8], signed: &str) -> Answer {
    let body = json!({ "version": version, "data": text(data), "signed": signed });
    client.call("PUT", "/account/backup", Some(body.to_string())).await
}

#[tokio::test]
async fn a_backup_is_replaced_by_its_successor_only() {
    let scene = Scene::new().await;
    let export_key = scene.sign_up(1, "ada", GOOD).await;
    let mut ada = scene.logged_in("ada", GOOD).await;
    let first = bytes(&ada.get("/account/backup").await.json["data"]);
    let (second, third) = (sealed(1, &export_key, 2), sealed(1, &export_key, 3));
    let signed = scene.sign(1, backup_of(2, &second));
    assert_eq!(put(&mut ada, 2, &second, &signed).await.status, 204);
    assert_eq!(put(&mut ada, 2, &second, &signed).await.error(), "replayed");
    for (version, data) in [(1, &first), (2, &second), (4, &sealed(1, &export_key, 4))] {
        scene.pass(1);
        let answer = put(&mut ada, version, data, &scene.sign(1, backup_of(version, data))).await;
        assert_eq!((answer.status, answer.error()), (409, "version"), "{version}");
        assert_eq!(answer.json["stored"], 2);
    }
    // An old one under a new version: it would not open, and shows its own.
    let rolled_back = put(&mut ada, 3, &first, &scene.sign(1, backup_of(3, &first))).await;
    assert_eq!(rolled_back.error(), "malformed");
    assert_eq!(put(&mut ada, 3, &third, &scene.sign(1, backup_of(3, &third))).await.status, 204);
    assert_eq!(bytes(&ada.get("/account/backup").await.json["data"]), third);
    assert_eq!(ada.get("/account").await.json["backup_version"], 3);
}

#[tokio::test]
async fn a_thief_of_the_session_replaces_no_backup() {
    let scene = Scene::new().await;
    let export_key = scene.sign_up(1, "ada", GOOD).await;
    let mut thief = scene.logged_in("ada", GOOD).await.clone();
    let (own, forged) = (sealed(1, &export_key, 2), sealed(EVE, &[2; 64], 2));
    let by_eve = scene.sign(EVE, backup_of(2, &forged));
    assert_eq!(put(&mut thief, 2, &forged, &by_eve).await.error(), "other_identity");
    // What the owner has signed, for something else.
    let overheard = scene.sign(1, backup_of(2, &own));
    assert_eq!(put(&mut thief, 2, &forged, &overheard).await.error(), "bad_signature");
    assert_eq!(put(&mut thief, 2, &own, &scene.sign(1, Action::Recover)).await.error(), "bad_signature");
    assert_eq!(scene.client().get("/account/backup").await.error(), "no_session");
    assert_eq!(put(&mut scene.client(), 2, &own, &overheard).await.error(), "no_session");
    thief.csrf = None;
    assert_eq!(put(&mut thief, 2, &own, &overheard).await.error(), "bad_csrf");
    assert_eq!(thief.get("/account").await.json["backup_version"], 1);
}

/// A new ID and password, as far as they are made by the client: what is to be sent, and what opens the backup.
async fn new_credentials(scene: &Scene, client: &mut Client, id: &str, password: &str) -> (Value, Vec<u8>) {
    let made = client.register("/account/credentials/start", "new_id", id, password).await;
    let backup = sealed(1, &made.export_key, 2);
    let action = Action::Credentials {
        id: made.id.clone(),
        upload: Digest::of(&made.upload),
        version: 2,
        backup: Digest::of(&backup),
    };
    let body = json!({
        "new_id": made.id, "upload": text(&made.upload), "backup": text(&backup), "version": 2,
        "signed": scene.sign(1, action),
    });
    (body, made.export_key)
}

#[tokio::test]
async fn new_credentials_end_all_sessions_but_that_which_changes_them() {
    let scene = scene_with_ada().await;
    let (mut own, mut elsewhere) = (scene.logged_in("ada", GOOD).await, scene.logged_in("ada", GOOD).await);
    let mut stolen = own.clone();
    let (body, export_key) = new_credentials(&scene, &mut own, "Adele", "new").await;
    assert_eq!(body["new_id"], "adele");
    let answer = own.post("/account/credentials/finish", body).await;
    assert_eq!((answer.status, &answer.json["account"]["id"]), (200, &json!("adele")));
    own.keep_word(&answer);
    assert_eq!(own.get("/account").await.json["backup_version"], 2);
    for ended in [&mut elsewhere, &mut stolen] {
        assert_eq!(ended.get("/account").await.error(), "no_session");
    }
    assert_eq!(own.post("/logout", json!({})).await.status, 204, "the new word is good");
    assert!(own.begin("ada", GOOD).await.is_err() && own.begin("adele", GOOD).await.is_err());
    let begun = own.begin("adele", "new").await.unwrap();
    assert_eq!(begun.export_key, export_key);
    let data = bytes(&own.finish(&begun, false).await.json["backup"]["data"]);
    let sealed = SealedBackup::from_bytes(&data).unwrap();
    assert!(sealed.open(&backup_key(&export_key), &identity(1)).is_ok());
}

#[tokio::test]
async fn a_log_in_with_a_password_that_has_been_changed_since_begins_no_session() {
    let scene = scene_with_ada().await;
    let (mut ada, mut thief) = (scene.logged_in("ada", GOOD).await, scene.client());
    let begun = thief.begin("ada", GOOD).await.unwrap();
    let (body, _) = new_credentials(&scene, &mut ada, "ada", "new").await;
    assert_eq!(ada.post("/account/credentials/finish", body).await.status, 200);
    let answer = thief.finish(&begun, false).await;
    assert_eq!((answer.status, answer.error()), (401, "wrong_credentials"));
    assert_eq!((thief.cookie, answer.header("set-cookie")), (None, None));
}

#[tokio::test]
async fn a_thief_of_the_session_changes_no_password() {
    let scene = scene_with_ada().await;
    scene.sign_up(EVE, "eve", GOOD).await;
    let mut ada = scene.logged_in("ada", GOOD).await;
    let (good, _) = new_credentials(&scene, &mut ada, "ada", "new").await;
    let (evil, _) = new_credentials(&scene, &mut ada, "ada", "evil").await;
    let path = "/account/credentials/finish";
    for field in ["upload", "backup"] {
        let mut swapped = good.clone();
        swapped[field] = evil[field].clone();
        assert_eq!(ada.post(path, swapped).await.error(), "bad_signature", "{field}");
    }
    let mut swapped = good.clone();
    swapped["new_id"] = json!("adele");
    assert_eq!(ada.post(path, swapped.clone()).await.error(), "bad_signature");
    swapped["new_id"] = json!("eve");
    assert_eq!(ada.post(path, swapped).await.error(), "id_taken");
    let start = json!({ "new_id": "eve", "request": text(&[0; 32]) });
    assert_eq!(ada.post("/account/credentials/start", start.clone()).await.error(), "id_taken");
    scene.pass(301);
    assert_eq!(ada.post("/account/credentials/start", start).await.error(), "login_again");
    assert_eq!(ada.post(path, good).await.error(), "login_again");
    assert_eq!(scene.client().log_in("ada", GOOD).await.status, 200, "nothing has changed");
}

#[tokio::test]
async fn who_has_the_recovery_words_gets_in_and_sets_a_password() {
    let scene = scene_with_ada().await;
    let mut browser = scene.client();
    let body = json!({ "signed": scene.sign(1, Action::Recover) });
    let answer = browser.post("/recover", body).await;
    assert_eq!((answer.status, &answer.json["account"]["id"]), (200, &json!("ada")));
    browser.keep_word(&answer);
    let sealed = SealedBackup::from_bytes(&bytes(&answer.json["backup"]["data"])).unwrap();
    let opened = sealed.open_as_owner(&IdentityKey::from_seed([1; 32])).unwrap();
    assert_eq!(hex(&opened.identity.public()), answer.json["account"]["identity"].as_str().unwrap());
    let (body, _) = new_credentials(&scene, &mut browser, "ada", "new").await;
    assert_eq!(browser.post("/account/credentials/finish", body).await.status, 200);
    assert_eq!(scene.client().log_in("ada", "new").await.status, 200);
    let of_nobody = json!({ "signed": scene.sign(3, Action::Recover) });
    let answer = browser.post("/recover", of_nobody).await;
    assert_eq!((answer.status, answer.error()), (404, "not_found"));
    let other = json!({ "signed": scene.sign(1, backup_of(1, b"")) });
    assert_eq!(browser.post("/recover", other).await.error(), "bad_signature");
}

#[tokio::test]
async fn what_is_overheard_is_done_once_for_as_long_as_it_is_good() {
    let scene = scene_with_ada().await;
    // A clock that is as far ahead as it may be.
    let ahead = UnixMillis(scene.now().0 + 600_000);
    let body = json!({ "signed": scene.sign_at(1, Action::Recover, ahead) });
    let mut client = scene.client();
    assert_eq!(client.post("/recover", body.clone()).await.status, 200);
    for _ in 0..2 {
        assert_eq!(client.post("/recover", body.clone()).await.error(), "replayed");
        scene.pass(600);
        scene.store.sweep(scene.now()).await.unwrap();
    }
    assert_eq!(client.post("/recover", body.clone()).await.error(), "replayed", "its last moment");
    scene.pass(1);
    assert_eq!(client.post("/recover", body).await.error(), "clock");
}

#[tokio::test]
async fn only_where_a_backup_is_sent_a_body_may_be_large() {
    let scene = scene_with_ada().await;
    let mut ada = scene.logged_in("ada", GOOD).await;
    let data = vec![0; 256 * 1_024];
    let signed = scene.sign(1, backup_of(2, &data));
    assert_eq!(put(&mut ada, 2, &data, &signed).await.error(), "malformed", "it is read");
    let larger = vec![0; 256 * 1_024 + 1];
    let signed = scene.sign(1, backup_of(2, &larger));
    assert_eq!(put(&mut ada, 2, &larger, &signed).await.error(), "too_large");
    let far_larger = vec![0; 400 * 1_024];
    assert_eq!(put(&mut ada, 2, &far_larger, &signed).await.status, 413);
    let body = json!({ "signed": "A".repeat(64 * 1_024) });
    assert_eq!(ada.post("/recover", body).await.error(), "too_large");
}
