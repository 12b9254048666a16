//! What the program writes into its log while people use its site.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use data_encoding::HEXLOWER;
use offhook::clock::wall_clock;
use offhook_proto::identity::{DirectoryId, IdentityKey};
use offhook_proto::request::{Action, SignedRequest};
use serde_json::json;

use crate::GOOD;
use crate::client::{Client, Person, hex, identity, sealed, text};

const WRONG: &str = "incorrect horse battery staple";
const ID: &str = "augusta.byron";

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_log_of_the_program_tells_no_secret_and_nobodys_name() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_offhook-directory"));
    command.args(["run", "--name", "directory.example", "--http", "none", "--front", "none"]);
    command.args([
        "--stun",
        "127.0.0.1:0",
        "--site",
        "127.0.0.1:0",
        "--listen",
        "/ip4/127.0.0.1/udp/0/quic-v1",
    ]);
    command.arg("--data").arg(folder.path().join("data")).args(["--log", "trace"]);
    command.stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap());
    let mut running = Running(command.spawn().unwrap());
    let lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let site = lines.map(Result::unwrap).find_map(|line| Some(line.strip_prefix("site ")?.to_owned()));
    let addr = site.expect("a site").trim_start_matches("http://").parse().unwrap();

    let mut client = Client::new(addr);
    "offhook_session".clone_into(&mut client.cookie_name);
    let info = client.get("/info").await.json;
    let directory = HEXLOWER.decode(info["directory"].as_str().unwrap().as_bytes()).unwrap();
    let directory = DirectoryId::from_bytes(directory.try_into().unwrap());
    let made = client.register("/signup/start", "id", ID, GOOD).await;
    let (person, backup) = (Person::new(1), sealed(1, &made.export_key, 1));
    let sign = |action: Action| {
        let signed = SignedRequest::sign(&IdentityKey::from_seed([1; 32]), directory, wall_clock(), action);
        text(&signed.to_bytes())
    };
    let body = json!({
        "id": made.id, "upload": text(&made.upload), "identity": hex(&identity(1)),
        "number": person.number.as_str(), "proof_nonce": person.nonce, "backup": text(&backup),
        "signed": sign(person.sign_up(&made.id, &made.upload, &backup)),
    });
    assert_eq!(client.post("/signup/finish", body).await.status, 201);
    assert!(client.begin(ID, WRONG).await.is_err());
    let begun = client.begin(ID, GOOD).await.expect("the password fits");
    let answer = client.finish(&begun, true).await;
    let token = answer.json["token"].as_str().unwrap().to_owned();
    client.token = Some(token.clone());
    assert_eq!(client.get("/account").await.status, 200);
    assert_eq!(client.get("/numbers/lovelace").await.json["state"], "free");
    assert_eq!(client.post("/logout", json!({})).await.status, 204);

    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    running.0.wait().unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("TRACE offhook"), "everything is logged: {log}");
    let (cookie, csrf) = (client.cookie.unwrap_or_default(), answer.json["csrf"].as_str().unwrap());
    let (upload, finish) = (text(&made.upload), text(&begun.finish));
    let secrets: [&str; 10] =
        [GOOD, WRONG, ID, &token, &cookie, csrf, person.number.as_str(), &begun.login, &upload, &finish];
    for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is in the log");
    }
}
