//! The site's API, by its endpoints and by what somebody might try with them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "web/client.rs"]
mod client;
#[path = "web/numbers.rs"]
mod numbers;
#[path = "web/openapi.rs"]
mod openapi;
#[path = "web/pages.rs"]
mod pages;
#[path = "web/records.rs"]
mod records;
#[path = "web/secrets.rs"]
mod secrets;
#[path = "web/signed.rs"]
mod signed;

use client::{NAME, Scene, backup_key, bytes, hex, identity, text};
use offhook_bootstrap::web::SiteConfig;
use offhook_proto::backup::SealedBackup;
use serde_json::json;

const GOOD: &str = "correct horse battery staple";

async fn scene_with_ada() -> Scene {
    let scene = Scene::new().await;
    scene.sign_up(1, "ada", GOOD).await;
    scene
}

#[tokio::test]
async fn who_logs_in_gets_account_and_backup_back() {
    let scene = Scene::new().await;
    let export_key = scene.sign_up(1, "홍길동", GOOD).await;
    let mut client = scene.client();
    let begun = client.begin("홍길동", GOOD).await.expect("the password fits");
    assert_eq!(begun.export_key, export_key, "it opens the backup");
    let answer = client.finish(&begun, false).await;
    assert_eq!((answer.status, answer.json.get("token")), (200, None));
    let cookie = answer.header("set-cookie").unwrap();
    for attribute in ["; Path=/", "; HttpOnly", "; SameSite=Strict", "; Secure"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let sealed = SealedBackup::from_bytes(&bytes(&answer.json["backup"]["data"])).unwrap();
    let backup = sealed.open(&backup_key(&begun.export_key), &identity(1)).unwrap();
    assert_eq!(backup.identity.public(), identity(1));
    assert_eq!(answer.json["backup"]["version"], 1);
    let account = &answer.json["account"];
    assert_eq!((&account["id"], &account["backup_version"]), (&json!("홍길동"), &json!(1)));
    assert_eq!(account["identity"], hex(&identity(1)));
    assert_eq!((account["number"].as_str().unwrap().len(), &account["chosen"]), (12, &json!([])));
    let session = client.get("/session").await;
    assert_eq!((&session.json["csrf"], &session.json["account"]), (&answer.json["csrf"], account));
    assert_eq!(client.get("/account").await.json, *account);
    assert_eq!(client.get("/account/backup").await.json, answer.json["backup"]);
}

#[tokio::test]
async fn a_program_has_a_token_and_needs_neither_cookie_nor_word() {
    let scene = scene_with_ada().await;
    let mut program = scene.client();
    let begun = program.begin("Ada", GOOD).await.expect("an ID is normalised");
    let answer = program.finish(&begun, true).await;
    assert_eq!((answer.status, answer.header("set-cookie")), (200, None));
    program.token = answer.json["token"].as_str().map(str::to_owned);
    assert_eq!(program.get("/account").await.json["id"], "ada");
    assert_eq!(program.post("/logout", json!({})).await.status, 204);
    assert_eq!(program.get("/account").await.error(), "no_session");
}

#[tokio::test]
async fn unknown_ids_are_answered_like_wrong_passwords() {
    let scene = scene_with_ada().await;
    let mut client = scene.client();
    let mut heard = Vec::new();
    for id in ["ada", "eve"] {
        let Err(answer) = client.begin(id, "wrong").await else { panic!("a wrong password fits") };
        let lengths = ["login", "response"].map(|part| bytes(&answer.json[part]).len());
        let finish = json!({ "login": answer.json["login"], "finish": text(&[7; 64]) });
        let end = client.post("/login/finish", finish).await;
        assert_eq!(end.error(), "wrong_credentials");
        let keys = answer.json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        heard.push((answer.status, lengths, keys, end.status, end.json));
    }
    assert_eq!(heard[0], heard[1]);
    assert_eq!(client.cookie, None);
}

/// Wrong passwords until one is refused: how many there were, and the refusal.
async fn guess(
    client: &mut client::Client,
    id: &str,
    network: impl Fn(u32) -> String,
) -> (u32, client::Answer) {
    let mut tries = 0;
    loop {
        client.network = network(tries);
        match client.begin(id, "wrong").await {
            Err(answer) if answer.status == 200 => tries += 1,
            Err(answer) => return (tries, answer),
            Ok(_) => panic!("a wrong password fits"),
        }
    }
}

#[tokio::test]
async fn one_network_guesses_slowly_and_locks_nobody_out() {
    let scene = scene_with_ada().await;
    let mut client = scene.client();
    for id in ["ada", "nobody"] {
        let (tries, refused) = guess(&mut client, id, |_| "198.51.100.7".to_owned()).await;
        assert_eq!((tries, refused.status, refused.error()), (20, 429, "too_many"));
        assert_eq!(refused.json["retry_after_s"], 60);
        assert_eq!(refused.header("retry-after"), Some("60"));
    }
    assert_eq!(client.log_in("ada", GOOD).await.status, 429, "not from there");
    client.network = "203.0.113.9".to_owned();
    assert_eq!(client.log_in("ada", GOOD).await.status, 200, "the owner, from where he never was");
    client.network = "198.51.100.7".to_owned();
    scene.pass(60);
    assert_eq!(client.log_in("ada", GOOD).await.status, 200);
    assert_eq!(client.log_in("ada", GOOD).await.status, 200, "what succeeds costs nothing");
}

#[tokio::test]
async fn many_networks_guess_slowly_and_the_owner_still_gets_in_from_where_he_was() {
    let scene = scene_with_ada().await;
    let mut owner = scene.client();
    owner.network = "203.0.113.9".to_owned();
    assert_eq!(owner.log_in("ada", GOOD).await.status, 200);
    let mut stranger = scene.client();
    // Her sign-up was one of the 200, too.
    for (id, most) in [("ada", 199), ("nobody", 200)] {
        let many = |tries: u32| format!("198.51.{}.1", tries / 10);
        let (tries, refused) = guess(&mut stranger, id, many).await;
        assert_eq!((tries, refused.status, refused.error()), (most, 429, "too_many"));
    }
    let mut elsewhere = scene.client();
    elsewhere.network = "203.0.113.10".to_owned();
    assert_eq!(elsewhere.log_in("ada", GOOD).await.status, 429);
    let mut again = scene.client();
    again.network = "203.0.113.9".to_owned();
    assert_eq!(again.log_in("ada", GOOD).await.status, 200, "from where he has logged in before");
    owner.network = "203.0.113.11".to_owned();
    assert_eq!(owner.log_in("ada", GOOD).await.status, 200, "with his session, from elsewhere");
    let (tries, _) = guess(&mut again, "ada", |_| "203.0.113.9".to_owned()).await;
    assert_eq!(tries, 20, "there he has the limit of one network only");
}

#[tokio::test]
async fn neighbours_guess_no_faster_than_few_networks_may() {
    let scene = scene_with_ada().await;
    let mut stranger = scene.client();
    for (id, subnet) in [("ada", "2001:db8:1"), ("nobody", "2001:db8:2")] {
        let many = |tries: u32| format!("{subnet}:{}::1", tries / 5);
        let (tries, refused) = guess(&mut stranger, id, many).await;
        assert_eq!((tries, refused.status, refused.error()), (40, 429, "too_many"));
    }
    let mut owner = scene.client();
    owner.network = "2001:db8:3::1".to_owned();
    assert_eq!(owner.log_in("ada", GOOD).await.status, 200);
    stranger.network = "2001:db8:4::1".to_owned();
    let mut tries = 0;
    while stranger.begin(&format!("user{tries}"), "wrong").await.err().unwrap().status == 200 {
        tries += 1;
        stranger.network = format!("2001:db8:4:{}::1", tries / 5);
    }
    assert_eq!(tries, 240, "of whomever");
}

#[tokio::test]
async fn one_network_does_not_ask_faster_than_it_may() {
    let scene = Scene::new().await;
    let mut one = scene.client();
    one.network = "198.51.100.7".to_owned();
    let mut asked = 0;
    let refused = loop {
        let answer = one.get("/nowhere").await;
        if answer.status != 404 {
            break answer;
        }
        asked += 1;
    };
    assert_eq!((asked, refused.status, refused.error()), (800, 429, "too_many"));
    one.network = "198.51.100.8".to_owned();
    assert_eq!(one.get("/info").await.status, 200, "somebody else");
    one.network = "198.51.100.7".to_owned();
    scene.pass(1);
    assert_eq!(one.get("/info").await.status, 200);
}

#[tokio::test]
async fn neighbours_sign_up_no_faster_than_a_network_of_them_may() {
    let scene = scene_with_ada().await;
    let mut client = scene.client();
    let mut tries = 0;
    let refused = loop {
        client.network = format!("198.51.100.{}", tries / 10);
        // No message of OPAQUE's: nothing is evaluated.
        let start = json!({ "id": format!("user{tries}"), "request": text(&[0; 32]) });
        let answer = client.post("/signup/start", start).await;
        if answer.status == 429 {
            break answer;
        }
        assert_eq!(answer.error(), "malformed");
        tries += 1;
    };
    assert_eq!((tries, refused.error()), (100, "too_many"));
    client.network = "198.51.101.1".to_owned();
    let elsewhere = client.post("/signup/start", json!({ "id": "ada", "request": text(&[0; 32]) })).await;
    assert_eq!(elsewhere.error(), "id_taken");
}

#[tokio::test]
async fn a_directory_takes_as_many_accounts_as_it_may() {
    let scene = Scene::with(SiteConfig { accounts: 1, ..SiteConfig::new(None).unwrap() }).await;
    scene.sign_up(1, "ada", GOOD).await;
    let start = json!({ "id": "eve", "request": text(&[0; 32]) });
    let full = scene.client().post("/signup/start", start).await;
    assert_eq!((full.status, full.error()), (403, "directory_full"));
    assert_eq!(scene.client().log_in("ada", GOOD).await.status, 200);
}

#[tokio::test]
async fn one_network_tries_few_passwords_of_whomever() {
    let scene = scene_with_ada().await;
    let mut client = scene.client();
    client.network = "2001:db8::1".to_owned();
    let mut tries = 0;
    while client.begin(&format!("user{tries}"), "wrong").await.err().unwrap().status == 200 {
        tries += 1;
        client.network = format!("2001:db8::{tries}");
    }
    assert_eq!(tries, 60);
    assert_eq!(client.log_in("ada", GOOD).await.status, 429);
    client.network = "2001:db8:0:1::1".to_owned();
    assert_eq!(client.log_in("ada", GOOD).await.status, 200);
}

#[tokio::test]
async fn a_log_in_ends_once_and_soon_and_as_it_was_begun() {
    let scene = scene_with_ada().await;
    let mut client = scene.client();
    let begun = client.begin("ada", GOOD).await.unwrap();
    let wrong =
        |answer: client::Answer| assert_eq!((answer.status, answer.error()), (401, "wrong_credentials"));
    let mut bent = client.begin("ada", GOOD).await.unwrap();
    bent.finish[0] ^= 1;
    wrong(client.finish(&bent, false).await);
    for position in [0, 24, 40, 80] {
        let mut login = bytes(&json!(begun.login));
        login[position] ^= 1;
        let bent = client::Begun { login: text(&login), finish: begun.finish.clone(), export_key: vec![] };
        wrong(client.finish(&bent, false).await);
    }
    assert_eq!(client.finish(&begun, false).await.status, 200);
    wrong(client.finish(&begun, false).await);
    let late = client.begin("ada", GOOD).await.unwrap();
    scene.pass(61);
    wrong(client.finish(&late, false).await);
}

#[tokio::test]
async fn a_session_that_somebody_planted_is_worth_nothing() {
    let scene = scene_with_ada().await;
    scene.sign_up(2, "eve", GOOD).await;
    let mut planted = scene.logged_in("eve", GOOD).await;
    let mut victim = scene.client();
    for cookie in [planted.cookie.clone().unwrap(), text(&[1; 32])] {
        victim.cookie = Some(cookie.clone());
        assert_eq!(victim.log_in("ada", GOOD).await.status, 200);
        assert_ne!(victim.cookie, Some(cookie));
        assert_eq!(victim.get("/account").await.json["id"], "ada");
        assert_eq!(planted.get("/account").await.error(), "no_session", "it ended");
    }
}

#[tokio::test]
async fn a_cookie_that_another_host_of_the_domain_can_set_is_none_of_ours() {
    let scene = scene_with_ada().await;
    let mut ada = scene.client();
    let answer = ada.log_in("ada", GOOD).await;
    assert!(answer.header("set-cookie").unwrap().starts_with("__Host-offhook_session="));
    let mut planted = ada.clone();
    "offhook_session".clone_into(&mut planted.cookie_name);
    assert_eq!(planted.get("/account").await.error(), "no_session");
    assert_eq!(ada.get("/account").await.status, 200);
    let plain = Scene::with(SiteConfig::new(Some(NAME)).unwrap()).await;
    plain.sign_up(1, "ada", GOOD).await;
    let mut ada = plain.client();
    let answer = ada.log_in("ada", GOOD).await;
    assert!(
        answer.header("set-cookie").unwrap().starts_with("offhook_session="),
        "browsers want TLS for that"
    );
    assert_eq!(ada.get("/account").await.status, 200);
}

#[tokio::test]
async fn a_page_of_somebody_elses_changes_nothing() {
    let scene = scene_with_ada().await;
    scene.sign_up(2, "eve", GOOD).await;
    let mut browser = scene.logged_in("ada", GOOD).await;
    let own = browser.csrf.clone();
    let others = scene.logged_in("eve", GOOD).await.csrf;
    for word in [None, Some(String::new()), Some("x".to_owned()), others] {
        browser.csrf = word;
        for (method, path) in [("POST", "/logout"), ("DELETE", "/account")] {
            let answer = browser.call(method, path, None).await;
            assert_eq!((answer.status, answer.error()), (403, "bad_csrf"), "{method} {path}");
        }
        assert_eq!(browser.get("/session").await.status, 200, "reading needs no word");
    }
    browser.csrf = own;
    assert_eq!(browser.call("POST", "/logout", None).await.status, 204);
    assert_eq!(browser.cookie, None);
}

#[tokio::test]
async fn a_session_ends_by_log_out_or_after_half_a_day() {
    let scene = scene_with_ada().await;
    let (mut one, mut two) = (scene.logged_in("ada", GOOD).await, scene.logged_in("ada", GOOD).await);
    let stolen = one.clone();
    assert_eq!(one.post("/logout", json!({})).await.status, 204);
    assert_eq!(stolen.clone().get("/account").await.error(), "no_session");
    assert_eq!(two.get("/account").await.status, 200);
    scene.pass(12 * 3_600 - 1);
    assert_eq!(two.get("/account").await.status, 200);
    scene.pass(1);
    for path in ["/account", "/account/backup", "/session"] {
        assert_eq!(two.get(path).await.error(), "no_session", "{path}");
    }
    let mut nobody = scene.client();
    for nonsense in [None, Some("x"), Some(""), Some("__Host-offhook_session=")] {
        nobody.cookie = nonsense.map(str::to_owned);
        assert_eq!(nobody.get("/account").await.error(), "no_session");
    }
}

#[tokio::test]
async fn an_account_is_deleted_by_who_has_just_entered_its_password() {
    let scene = scene_with_ada().await;
    scene.sign_up(2, "eve", GOOD).await;
    let mut ada = scene.logged_in("ada", GOOD).await;
    let mut eve = scene.logged_in("eve", GOOD).await;
    scene.pass(301);
    assert_eq!(ada.call("DELETE", "/account", None).await.error(), "login_again");
    assert_eq!(ada.log_in("ada", GOOD).await.status, 200);
    assert_eq!(ada.call("DELETE", "/account", None).await.status, 204);
    assert_eq!(scene.store.account(&identity(1)).await.unwrap(), None);
    assert_eq!(ada.get("/account").await.error(), "no_session");
    assert_eq!(eve.get("/account").await.json["id"], "eve", "somebody else's stays");
    assert!(ada.begin("ada", GOOD).await.is_err());
}

#[tokio::test]
async fn a_sign_up_begins_with_an_id_that_is_free() {
    let scene = scene_with_ada().await;
    let mut client = scene.client();
    let start = |id: &str| json!({ "id": id, "request": text(&[0; 32]) });
    assert_eq!(client.post("/signup/start", start("ADA")).await.error(), "id_taken");
    let invalid = client.post("/signup/start", start("a b")).await;
    assert_eq!((invalid.status, invalid.error()), (422, "id_invalid"));
    assert!(invalid.json["reason"].as_str().unwrap().contains("blanks"));
    let malformed = client.post("/signup/start", start("eve")).await;
    assert_eq!((malformed.status, malformed.error()), (400, "malformed"), "the identity element");
    let mut status = 409;
    for _ in 0..20 {
        status = client.post("/signup/start", start("ada")).await.status;
    }
    assert_eq!(status, 429);
    let closed = SiteConfig { is_open: false, ..SiteConfig::new(None).unwrap() };
    let scene = Scene::with(closed).await;
    assert_eq!(scene.client().post("/signup/start", start("eve")).await.error(), "signup_closed");
    assert_eq!(scene.client().get("/info").await.json["signup"], "closed");
}

#[tokio::test]
async fn what_is_not_a_request_is_refused_by_its_fault() {
    let scene = Scene::new().await;
    let mut client = scene.client();
    let mut refused = async |method: &str, path: &str, body: &str| {
        let answer = client.call(method, path, Some(body.to_owned())).await;
        (answer.status, answer.error().to_owned())
    };
    let is = |status: u16, word: &str| (status, word.to_owned());
    assert_eq!(refused("POST", "/login/start", "{").await, is(400, "malformed"));
    assert_eq!(refused("POST", "/login/start", "{}").await, is(400, "malformed"));
    let more = r#"{"id":"a","request":"","more":1}"#;
    assert_eq!(refused("POST", "/login/start", more).await, is(400, "malformed"));
    let padded = r#"{"id":"a","request":"AA=="}"#;
    assert_eq!(refused("POST", "/login/start", padded).await, is(400, "malformed"));
    let large = format!(r#"{{"id":"{}"}}"#, "a".repeat(64 * 1_024));
    assert_eq!(refused("POST", "/login/start", &large).await, is(413, "too_large"));
    let long = format!(r#"{{"id":"{}","request":""}}"#, "a".repeat(1_000));
    assert_eq!(refused("POST", "/login/start", &long).await, is(422, "id_invalid"));
    assert_eq!(refused("GET", "/nowhere", "").await, is(404, "not_found"));
    assert_eq!(refused("PUT", "/login/start", "{}").await, is(405, "method_not_allowed"));
    assert_eq!(refused("GET", "/list?from=x", "").await, is(400, "malformed"));
    assert_eq!(refused("GET", "/numbers/%FF", "").await, is(400, "malformed"));
    // A form of another site's page can send this without asking first.
    client.content_type = "text/plain";
    let answer = client.post("/login/start", json!({ "id": "a", "request": "" })).await;
    assert_eq!((answer.status, answer.error()), (415, "not_json"));
}

#[tokio::test]
async fn browsers_are_told_what_not_to_do() {
    let scene = Scene::new().await;
    for path in ["/info", "/nowhere", "/account"] {
        let answer = scene.client().get(path).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("'unsafe-") && !policy.contains("http"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.header("strict-transport-security").is_some());
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let plain = Scene::with(SiteConfig::new(Some(NAME)).unwrap()).await;
    plain.sign_up(1, "ada", GOOD).await;
    let answer = plain.client().log_in("ada", GOOD).await;
    assert_eq!(answer.header("strict-transport-security"), None);
    assert!(!answer.header("set-cookie").unwrap().contains("Secure"));
}

#[tokio::test]
async fn anybody_sees_which_numbers_are_free_and_which_were_issued() {
    let scene = scene_with_ada().await;
    let mut ada = scene.logged_in("ada", GOOD).await;
    for name in ["ada", "☎7"] {
        numbers::claim(&scene, &mut ada, 1, name).await;
    }
    let mut client = scene.client();
    for (typed, state, found) in [
        ("bob", "free", "bob@example.org"),
        ("BOB", "free", "bob@example.org"),
        ("bob@example.org", "free", "bob@example.org"),
        ("Ada", "taken", "ada@example.org"),
        ("%D0%B0%D4%81%D0%B0", "look_alike", "аԁа@example.org"),
        ("0perator", "reserved", "0perator@example.org"),
        ("%E2%98%8E7", "taken", "☎7@example.org"),
    ] {
        let answer = client.get(&format!("/numbers/{typed}")).await;
        let heard = (answer.json["state"].as_str().unwrap(), answer.json["number"].as_str().unwrap());
        assert_eq!(heard, (state, found), "{typed}");
    }
    for (typed, reason, full) in [
        ("a%20b", "blank", "a b@example.org"),
        ("482109375567", "plain", "482109375567"),
        ("bob@example.com", "other_directory", "bob@example.com"),
        ("a%3Cb", "character", "a<b@example.org"),
        ("123456789", "digits", "123456789@example.org"),
        ("%D0%B0da", "mixed_scripts", "аda@example.org"),
    ] {
        let answer = client.get(&format!("/numbers/{typed}")).await;
        assert_eq!(answer.json["number"], full);
        assert_eq!((&answer.json["state"], &answer.json["reason"]), (&json!("invalid"), &json!(reason)));
    }
    let list = client.get("/list").await.json;
    assert_eq!((&list["length"], list["entries"].as_array().unwrap().len()), (&json!(2), 2));
    assert_eq!(client.get("/list?from=1").await.json["entries"].as_array().unwrap().len(), 1);
    let mut refused = 200;
    for _ in 0..120 {
        refused = client.get("/numbers/bob").await.status;
    }
    assert_eq!(refused, 429);
    let nameless = Scene::with(SiteConfig::new(None).unwrap()).await;
    assert_eq!(nameless.client().get("/numbers/bob").await.error(), "chosen_off");
    assert_eq!(nameless.client().get("/info").await.json["chosen"], false);
}
