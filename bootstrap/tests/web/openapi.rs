//! The description of the API: whether it is served, whether all that it tells of is there, and what comes of inputs that a program makes up
//! from it.

use std::path::Path;
use std::process::Output;

use serde_json::json;

use crate::GOOD;
use crate::client::Scene;
use crate::client::description::DESCRIPTION;
use offhook_bootstrap::web::OPENAPI;

#[tokio::test]
async fn what_the_description_tells_of_is_there_and_no_other_method() {
    let scene = Scene::new().await;
    let (head, body) = scene.client().fetch("/api/v1/openapi.json").await;
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(String::from_utf8(body).unwrap(), OPENAPI);
    for (path, described) in DESCRIPTION["paths"].as_object().unwrap() {
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
            // `call` holds the answer against the description, so that a method that it does not tell of has to be refused.
            let answer = scene.client().call(method, &path.replace("{number}", "ada"), None).await;
            let is_described = described.get(method.to_lowercase()).is_some();
            assert_eq!(answer.status != 405, is_described, "{method} {path}: {answer:?}");
            assert_ne!(answer.status, 404, "{method} {path}");
        }
    }
    assert_eq!(scene.client().get("/accounts").await.error(), "not_found");
}

/// What Schemathesis says after it has tried everything that the description tells of, with many values that are right and more that
/// are not.
async fn fuzz(scene: &Scene, token: Option<&str>) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("api");
    let program = folder.join(".venv/bin/schemathesis");
    assert!(program.exists(), "{} is missing: run `cargo xtask setup`", program.display());
    let url = format!("http://{}/api/v1/openapi.json", scene.site.addr());
    let mut command = tokio::process::Command::new(program);
    command.current_dir(scene.folder()).env("SCHEMATHESIS_HOOKS", folder.join("hooks.py"));
    command.args(["--config-file", folder.join("schemathesis.toml").to_str().unwrap(), "run", &url]);
    if let Some(token) = token {
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
        // What would end the session is tried without it.
        command.args(["--exclude-operation-id", "logOut"]);
    }
    command.kill_on_drop(true).output().await.unwrap()
}

fn says(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// So much passes between two looks at the clock that limits are reached by few requests, milliseconds; a session outlives them all.
const TICK: u64 = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn made_up_requests_are_answered_as_the_description_says() {
    let scene = Scene::with_node().await;
    scene.sign_up(1, "ada", GOOD).await;
    let mut ada = scene.client();
    let begun = ada.begin("ada", GOOD).await.expect("the password fits");
    let token = ada.finish(&begun, true).await.json["token"].as_str().unwrap().to_owned();
    scene.tick(TICK);
    let (strangers, adas) = tokio::join!(fuzz(&scene, None), fuzz(&scene, Some(&token)));
    assert!(strangers.status.success(), "{}", says(&strangers));
    assert!(adas.status.success(), "{}", says(&adas));
    for (said, is_let_in) in [(says(&strangers), false), (says(&adas), true)] {
        assert_eq!(said.contains("- GET /account/backup\n"), !is_let_in, "who is let in has answers: {said}");
    }
    // Nothing of all that has done her any harm.
    ada.token = Some(token);
    ada.network = "203.0.113.77".to_owned();
    let account = ada.get("/account").await;
    assert_eq!((account.status, &account.json["backup_version"]), (200, &json!(1)), "{account:?}");
}
