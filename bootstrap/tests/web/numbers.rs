//! Chosen numbers of an account, the list of them, and who tries to have somebody else's.

use data_encoding::HEXLOWER;
use offhook_bootstrap::web::{Reach, SiteConfig};
use offhook_proto::descriptor::SignedDescriptor;
use offhook_proto::identity::IdentityKey;
use offhook_proto::list::{Audit, Head, SignedHead};
use offhook_proto::number::{ChosenNumber, Number};
use offhook_proto::proof::{ChosenCert, SignedChosenCert, SignedTransfer};
use offhook_proto::request::Action;
use offhook_proto::wire::{self, UnixMillis};
use serde_json::json;
use tokio::sync::watch;

use crate::GOOD;
use crate::client::{Answer, Client, NAME, Scene, bytes, identity, text};

const DAY: u64 = 86_400;

fn full(name: &str) -> ChosenNumber {
    ChosenNumber::new(name, Some(NAME)).unwrap()
}

fn number(name: &str) -> Number {
    Number::Chosen(full(name))
}

async fn ask(
    scene: &Scene,
    client: &mut Client,
    n: u8,
    name: &str,
    transfer: Option<SignedTransfer>,
) -> Answer {
    let signed = scene.sign(n, Action::Claim { number: number(name), transfer });
    client.post("/account/numbers", json!({ "number": name, "signed": signed })).await
}

fn cert(scene: &Scene, answer: &Answer) -> ChosenCert {
    let certificate = bytes(&answer.json["certificate"]);
    let signed: SignedChosenCert = wire::decode(&certificate, 768).unwrap();
    let cert = signed.verify(scene.now()).unwrap();
    assert_eq!(cert.directory, scene.directory);
    cert
}

/// Claims a number that is free.
pub async fn claim(scene: &Scene, client: &mut Client, n: u8, name: &str) -> ChosenCert {
    let answer = ask(scene, client, n, name, None).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let cert = cert(scene, &answer);
    assert_eq!((&cert.number, cert.identity), (&number(name), identity(n)));
    cert
}

async fn renew(scene: &Scene, client: &mut Client, n: u8, name: &str) -> Answer {
    let signed = scene.sign(n, Action::Renew { number: number(name) });
    client.post(&format!("/account/numbers/{name}/renew"), json!({ "signed": signed })).await
}

async fn release(scene: &Scene, client: &mut Client, n: u8, name: &str) -> Answer {
    let signed = scene.sign(n, Action::Release { number: number(name) });
    let body = json!({ "signed": signed }).to_string();
    client.call("DELETE", &format!("/account/numbers/{name}@{NAME}"), Some(body)).await
}

/// Gives a number away: what its new owner gets, and how the directory takes it.
async fn give(scene: &Scene, client: &mut Client, n: u8, name: &str, to: u8) -> (SignedTransfer, Answer) {
    let key = full(name).key(&scene.directory);
    let transfer = SignedTransfer::sign(&IdentityKey::from_seed([n; 32]), key, identity(to), scene.now());
    let body = json!({ "signed": text(&wire::encode(&transfer)) });
    let answer = client.post(&format!("/account/numbers/{name}/transfer"), body).await;
    (transfer, answer)
}

/// Reads the whole list as a stranger does; what has happened, and the head.
async fn audited(scene: &Scene) -> (Vec<&'static str>, Head) {
    let list = scene.client().get("/list").await.json;
    let mut audit = Audit::new(scene.directory, &[]);
    let entries = list["entries"].as_array().unwrap();
    let kinds = entries.iter().map(|entry| audit.take(&bytes(entry)).unwrap().change.kind()).collect();
    let head: SignedHead = wire::decode(&bytes(&list["head"]), 256).unwrap();
    let head = head.verify(&scene.directory, scene.now()).unwrap();
    audit.conclude(&head).unwrap();
    (kinds, head)
}

/// Ada and Eve, logged in.
async fn two() -> (Scene, Client, Client) {
    let scene = Scene::new().await;
    scene.sign_up(1, "ada", GOOD).await;
    scene.sign_up(2, "eve", GOOD).await;
    let (ada, eve) = (scene.logged_in("ada", GOOD).await, scene.logged_in("eve", GOOD).await);
    (scene, ada, eve)
}

async fn log_in_again(scene: &Scene, ada: &mut Client, eve: &mut Client, days: u64) {
    scene.pass(days * DAY);
    assert_eq!(ada.log_in("ada", GOOD).await.status, 200);
    assert_eq!(eve.log_in("eve", GOOD).await.status, 200);
}

#[tokio::test]
async fn a_number_is_issued_renewed_and_released_and_all_of_it_is_in_the_list() {
    let (scene, mut ada, mut eve) = two().await;
    assert_eq!(audited(&scene).await.1.length, 0, "an empty list has a head, too");
    let first = claim(&scene, &mut ada, 1, "Ada").await;
    let account = ada.get("/account").await.json;
    assert_eq!(account["chosen"][0]["number"], "ada@example.org");
    assert_eq!(account["chosen"][0]["expires"], first.expires.0);
    let again = ask(&scene, &mut ada, 1, "ada", None).await;
    assert_eq!((again.status, cert(&scene, &again)), (201, first.clone()), "an answer may get lost");
    assert_eq!(cert(&scene, &renew(&scene, &mut ada, 1, "ada").await), first, "it is too early");
    log_in_again(&scene, &mut ada, &mut eve, 90).await;
    let renewed = cert(&scene, &renew(&scene, &mut ada, 1, "ada").await);
    assert_eq!(renewed.expires.0 - first.expires.0, 90 * DAY * 1_000);
    assert_eq!(release(&scene, &mut ada, 1, "ada").await.status, 204);
    assert_eq!(ada.get("/account").await.json["chosen"], json!([]));
    scene.pass(1);
    assert_eq!(release(&scene, &mut ada, 1, "ada").await.error(), "not_found");
    assert_eq!(renew(&scene, &mut ada, 1, "ada").await.error(), "not_found");
    assert_eq!(ask(&scene, &mut eve, 2, "ada", None).await.error(), "number_taken");
    // It was issued anew a second before it was released.
    scene.pass((180 + 400) * DAY - 1);
    assert_eq!(eve.log_in("eve", GOOD).await.status, 200);
    assert_eq!(ask(&scene, &mut eve, 2, "ada", None).await.error(), "number_taken", "its last moment");
    scene.pass(1);
    claim(&scene, &mut eve, 2, "ada").await;
    let (kinds, head) = audited(&scene).await;
    assert_eq!((kinds, head.length), (vec!["issued", "renewed", "released", "issued"], 4));
}

#[tokio::test]
async fn who_claims_a_number_of_his_own_gets_no_certificate_that_has_expired() {
    let (scene, mut ada, mut eve) = two().await;
    let first = claim(&scene, &mut ada, 1, "ada").await;
    let days = first.expires.since(first.issued).as_secs() / DAY;
    log_in_again(&scene, &mut ada, &mut eve, days).await;
    let last = ask(&scene, &mut ada, 1, "ada", None).await;
    assert_eq!((last.status, cert(&scene, &last)), (201, first.clone()), "its last moment");
    scene.pass(1);
    assert_eq!(cert(&scene, &ask(&scene, &mut ada, 1, "ada", None).await).issued, scene.now());
    assert_eq!(audited(&scene).await.0, ["issued", "renewed"]);
    assert_eq!(ask(&scene, &mut eve, 2, "ada", None).await.error(), "number_taken");
}

#[tokio::test]
async fn a_directory_says_who_it_is_and_where_it_is_reached() {
    let (reach, receiver) = watch::channel(Reach::default());
    let url = Some("https://example.org".to_owned());
    let config = SiteConfig { url: url.clone(), reach: receiver, ..SiteConfig::new(Some(NAME)).unwrap() };
    let scene = Scene::with(config).await;
    let read = async || {
        let (head, body) = scene.client().fetch("/.well-known/offhook").await;
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains("content-type: application/cbor"),
            "{head}"
        );
        let signed = SignedDescriptor::from_bytes(&body).unwrap();
        signed.verify_pinned(NAME, &scene.directory, scene.now()).unwrap()
    };
    assert_eq!((read().await.nodes, read().await.web), (vec![], url));
    let nodes = vec!["/ip4/192.0.2.1/udp/4001/quic-v1".parse().unwrap()];
    let (stun, turn, front) = (Some(3478), Some(3478), Some(443));
    reach.send_replace(Reach { nodes: nodes.clone(), stun, turn, front, mailbox: true });
    let told = read().await;
    assert_eq!((told.nodes, told.stun[0].as_str()), (nodes, "/ip4/192.0.2.1/udp/3478"));
    assert_eq!(told.turn[1].as_str(), "/ip4/192.0.2.1/tcp/443/tls");
    assert!(told.mailbox);
    let info = scene.client().get("/info").await.json;
    assert_eq!(info["directory"], HEXLOWER.encode(scene.directory.as_bytes()));
    let nameless = Scene::with(SiteConfig::new(None).unwrap()).await;
    assert!(nameless.client().fetch("/.well-known/offhook").await.0.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn nobody_gets_hold_of_somebody_elses_number() {
    let (scene, mut ada, mut eve) = two().await;
    claim(&scene, &mut ada, 1, "ada").await;
    assert_eq!(ask(&scene, &mut eve, 2, "ada", None).await.error(), "number_taken");
    assert_eq!(renew(&scene, &mut eve, 2, "ada").await.error(), "not_found");
    assert_eq!(release(&scene, &mut eve, 2, "ada").await.error(), "not_found");
    assert_eq!(give(&scene, &mut eve, 2, "ada", 2).await.1.error(), "malformed");
    assert_eq!(give(&scene, &mut eve, 2, "ada", 3).await.1.error(), "not_found");
    // A thief of Ada's session has no signature of hers, or one for something else.
    let mut thief = ada.clone();
    assert_eq!(release(&scene, &mut thief, 2, "ada").await.error(), "other_identity");
    assert_eq!(renew(&scene, &mut thief, 2, "ada").await.error(), "other_identity");
    assert_eq!(give(&scene, &mut thief, 2, "ada", 3).await.1.error(), "other_identity");
    let other = scene.sign(1, Action::Release { number: number("other") });
    let body = json!({ "signed": other }).to_string();
    let answer = thief.call("DELETE", "/account/numbers/ada", Some(body)).await;
    assert_eq!(answer.error(), "bad_signature");
    for action in
        [Action::Renew { number: number("bob") }, Action::Claim { number: number("eve"), transfer: None }]
    {
        let body = json!({ "number": "bob", "signed": scene.sign(1, action) });
        assert_eq!(thief.post("/account/numbers", body).await.error(), "bad_signature");
    }
    // Eve makes herself a transfer, and shows one that was meant for somebody else or for another number.
    let forge = |from: u8, name: &str, to: u8| {
        let key = full(name).key(&scene.directory);
        Some(SignedTransfer::sign(&IdentityKey::from_seed([from; 32]), key, identity(to), scene.now()))
    };
    for (transfer, word) in [
        (forge(3, "ada", 2), "number_taken"),
        (forge(1, "ada", 3), "other_identity"),
        (forge(1, "other", 2), "other_identity"),
    ] {
        assert_eq!(ask(&scene, &mut eve, 2, "ada", transfer).await.error(), word);
    }
    assert_eq!(audited(&scene).await.0, ["issued"], "nothing has happened");
}

#[tokio::test]
async fn a_request_about_a_number_is_done_once() {
    let (scene, mut ada, _) = two().await;
    claim(&scene, &mut ada, 1, "ada").await;
    let body = json!({ "signed": scene.sign(1, Action::Release { number: number("ada") }) }).to_string();
    let path = "/account/numbers/ada";
    assert_eq!(ada.call("DELETE", path, Some(body.clone())).await.status, 204);
    scene.pass(1);
    let claimed = json!({
        "number": "ada", "signed": scene.sign(1, Action::Claim { number: number("ada"), transfer: None }),
    });
    assert_eq!(ada.post("/account/numbers", claimed.clone()).await.status, 201);
    assert_eq!(ada.call("DELETE", path, Some(body)).await.error(), "replayed");
    scene.pass(1);
    assert_eq!(release(&scene, &mut ada, 1, "ada").await.status, 204);
    assert_eq!(ada.post("/account/numbers", claimed).await.error(), "replayed");
    assert_eq!(audited(&scene).await.0, ["issued", "released", "issued", "released"]);
}

#[tokio::test]
async fn what_was_signed_before_the_last_release_releases_nothing() {
    let (scene, mut ada, _) = two().await;
    claim(&scene, &mut ada, 1, "ada").await;
    scene.pass(1);
    assert_eq!(release(&scene, &mut ada, 1, "ada").await.status, 204);
    // Of a terminal with a clock that is behind.
    let before = |ms: u64, action| scene.sign_at(1, action, UnixMillis(scene.now().0 - ms));
    let signed = before(500, Action::Claim { number: number("ada"), transfer: None });
    let claimed = ada.post("/account/numbers", json!({ "number": "ada", "signed": signed })).await;
    assert_eq!(claimed.status, 201);
    let signed = before(200, Action::Release { number: number("ada") });
    let body = json!({ "signed": signed }).to_string();
    assert_eq!(ada.call("DELETE", "/account/numbers/ada", Some(body)).await.error(), "not_found");
    scene.pass(1);
    assert_eq!(release(&scene, &mut ada, 1, "ada").await.status, 204);
    assert_eq!(audited(&scene).await.0, ["issued", "released", "issued", "released"]);
}

#[tokio::test]
async fn a_number_is_given_away_and_comes_back_and_old_gifts_are_void() {
    let (scene, mut ada, mut eve) = two().await;
    claim(&scene, &mut ada, 1, "ada").await;
    let (at_once, answer) = give(&scene, &mut ada, 1, "ada", 2).await;
    assert_eq!(answer.error(), "not_found", "it has to be later than the claim");
    assert_eq!(ask(&scene, &mut eve, 2, "ada", Some(at_once)).await.error(), "number_taken");
    scene.pass(1);
    let (gift, answer) = give(&scene, &mut ada, 1, "ada", 2).await;
    assert_eq!(answer.status, 204);
    assert_eq!(ada.get("/account").await.json["chosen"], json!([]));
    assert_eq!(release(&scene, &mut ada, 1, "ada").await.error(), "not_found");
    assert_eq!(renew(&scene, &mut ada, 1, "ada").await.error(), "not_found");
    let taken = ask(&scene, &mut eve, 2, "ada", Some(gift.clone())).await;
    assert_eq!((taken.status, cert(&scene, &taken).identity), (201, identity(2)));
    assert_eq!(eve.get("/account").await.json["chosen"][0]["number"], "ada@example.org");
    scene.pass(1);
    let (back, answer) = give(&scene, &mut eve, 2, "ada", 1).await;
    assert_eq!(answer.status, 204);
    assert_eq!(ask(&scene, &mut ada, 1, "ada", Some(back)).await.status, 201);
    assert_eq!(ask(&scene, &mut eve, 2, "ada", Some(gift)).await.error(), "number_taken");
    assert_eq!(audited(&scene).await.0, ["issued", "transferred", "transferred"]);
}

#[tokio::test]
async fn a_gift_that_nobody_takes_in_a_week_stays_its_owners() {
    let (scene, mut ada, mut eve) = two().await;
    claim(&scene, &mut ada, 1, "ada").await;
    scene.pass(1);
    let (gift, _) = give(&scene, &mut ada, 1, "ada", 2).await;
    log_in_again(&scene, &mut ada, &mut eve, 7).await;
    scene.pass(1);
    assert_eq!(ask(&scene, &mut eve, 2, "ada", Some(gift.clone())).await.error(), "untimely");
    let body = json!({ "signed": text(&wire::encode(&gift)) });
    assert_eq!(ada.post("/account/numbers/ada/transfer", body).await.error(), "untimely");
    assert_eq!(ada.get("/account").await.json["chosen"][0]["number"], "ada@example.org");
    assert_eq!(release(&scene, &mut ada, 1, "ada").await.status, 204);
}

#[tokio::test]
async fn what_no_directory_issues_is_refused_with_its_reason() {
    let (scene, mut ada, _) = two().await;
    claim(&scene, &mut ada, 1, "bob").await;
    let mut refused = async |typed: &str| {
        let body = json!({ "number": typed, "signed": scene.sign(1, Action::Recover) });
        let answer = ada.post("/account/numbers", body).await;
        (answer.status, answer.error().to_owned(), answer.json["reason"].as_str().map(str::to_owned))
    };
    for (typed, word, reason) in [
        ("admin", "reserved", "reserved"),
        ("ech0", "reserved", "reserved"),
        ("аda", "number_invalid", "mixed_scripts"),
        ("bob@example.com", "number_invalid", "other_directory"),
        ("387245519274", "number_invalid", "plain"),
        ("a b", "number_invalid", "blank"),
    ] {
        assert_eq!(refused(typed).await, (422, word.to_owned(), Some(reason.to_owned())), "{typed}");
    }
    let alike = ask(&scene, &mut ada, 1, "b0b", None).await;
    assert_eq!((alike.status, alike.error()), (422, "look_alike"));
    let nameless = Scene::with(SiteConfig::new(None).unwrap()).await;
    nameless.sign_up(1, "ada", GOOD).await;
    let mut ada = nameless.logged_in("ada", GOOD).await;
    let answer = ask(&nameless, &mut ada, 1, "ada", None).await;
    assert_eq!((answer.status, answer.error()), (404, "chosen_off"));
}

#[tokio::test]
async fn what_is_refused_uses_up_no_numbers_of_an_account() {
    let (scene, mut ada, mut eve) = two().await;
    for name in ["bob", "eve"] {
        claim(&scene, &mut eve, 2, name).await;
        scene.pass(1);
    }
    for _ in 0..20 {
        assert_eq!(ask(&scene, &mut ada, 1, "b0b", None).await.error(), "look_alike");
        scene.pass(10);
    }
    for n in 0..8 {
        claim(&scene, &mut ada, 1, &format!("x{n}y")).await;
    }
    let (gift, _) = give(&scene, &mut eve, 2, "eve", 1).await;
    for transfer in [None, Some(gift)] {
        let name = if transfer.is_some() { "eve" } else { "more" };
        for _ in 0..10 {
            let answer = ask(&scene, &mut ada, 1, name, transfer.clone()).await;
            assert_eq!(answer.error(), "too_many_numbers", "{name}");
            scene.pass(10);
        }
    }
    assert_eq!(release(&scene, &mut ada, 1, "x0y").await.status, 204);
    claim(&scene, &mut ada, 1, "more").await;
}

#[tokio::test]
async fn an_account_has_so_many_numbers_and_takes_not_all_words_by_releasing_them() {
    let (scene, mut ada, _) = two().await;
    for n in 0..8 {
        claim(&scene, &mut ada, 1, &format!("x{n}y")).await;
    }
    let full = ask(&scene, &mut ada, 1, "more", None).await;
    assert_eq!((full.status, full.error(), &full.json["max"]), (403, "too_many_numbers", &json!(8)));
    scene.pass(600);
    for n in 0..8 {
        assert_eq!(release(&scene, &mut ada, 1, &format!("x{n}y")).await.status, 204);
    }
    scene.pass(600);
    for n in 0..8 {
        claim(&scene, &mut ada, 1, &format!("z{n}y")).await;
    }
    assert_eq!(release(&scene, &mut ada, 1, "z0y").await.status, 204);
    let over = ask(&scene, &mut ada, 1, "more", None).await;
    assert_eq!((over.status, over.error()), (429, "too_many"));
    assert!(audited(&scene).await.1.at <= UnixMillis(scene.now().0));
}
