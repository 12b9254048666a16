//! A directory in the test's own process that answers as it is told to, and therefore may lie. It asks for no password.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use offhook_proto::backup::{Backup, Nonces, SealedBackup};
use offhook_proto::identity::{DirectoryKey, IdentityKey};
use offhook_proto::number::{ChosenNumber, Number};
use offhook_proto::proof::SignedChosenCert;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What it has of its one account.
pub(super) struct State {
    pub(super) key: DirectoryKey,
    /// The name that it says it has.
    pub(super) name: String,
    pub(super) owner: IdentityKey,
    /// The account's ID.
    pub(super) id: String,
    pub(super) version: u64,
    data: Vec<u8>,
    pub(super) chosen: Vec<SignedChosenCert>,
    /// What it says the network has of the account.
    pub(super) records: Vec<Vec<u8>>,
    /// It has no account any more.
    pub(super) is_gone: bool,
    /// Requests to paths that end like this are done, and their answers lost.
    pub(super) loses: Option<&'static str>,
    /// What was asked, with bodies.
    pub(super) heard: Vec<(String, Value)>,
}

/// Ends when dropped.
pub(super) struct StandIn {
    pub(super) url: String,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl StandIn {
    pub(super) async fn start(name: &str, seed: u8, owner: &IdentityKey, backup: &Backup) -> Self {
        let state = State {
            key: DirectoryKey::from_seed([seed; 32]),
            name: name.to_owned(),
            owner: owner.clone(),
            id: "ada".to_owned(),
            version: 1,
            data: sealed(backup, 1),
            chosen: Vec::new(),
            records: Vec::new(),
            is_gone: false,
            loses: None,
            heard: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let told = state.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, told.clone()));
            }
        });
        Self { url, state, serving }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What is in the backup that it has.
    pub(super) fn backup(&self) -> Backup {
        let state = self.state();
        SealedBackup::from_bytes(&state.data).unwrap().open_as_owner(&state.owner).unwrap()
    }

    /// Another terminal's backup, as the next version.
    pub(super) fn put(&self, backup: &Backup) {
        let mut state = self.state();
        state.version += 1;
        state.data = sealed(backup, state.version);
    }

    /// It forgets everything since, as one that was restored from a copy.
    pub(super) fn forget(&self, version: u64, backup: &Backup) {
        let mut state = self.state();
        state.version = version;
        state.data = sealed(backup, version);
    }
}

fn sealed(backup: &Backup, version: u64) -> Vec<u8> {
    let key = offhook_proto::backup::BackupKey::from_export_key(&[5; 64]);
    let nonces = Nonces { backup: [1; 24], recovery: [2; 24] };
    backup.seal(&key, version, &nonces).unwrap().to_bytes()
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut more = [0; 16 * 1024];
        let Ok(len @ 1..) = stream.read(&mut more).await else { return };
        bytes.extend_from_slice(&more[..len]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        if bytes.len() >= end + 4 + length {
            let first = String::from_utf8_lossy(&bytes[..end]).lines().next().unwrap().to_owned();
            break (first, serde_json::from_slice(&bytes[end + 4..]).unwrap_or(Value::Null));
        }
    };
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let (status, answer, is_lost) = {
        let mut state = state.lock().unwrap();
        let asked = format!("{method} {}", path.trim_start_matches("/api/v1"));
        let (status, answer) = state.answer(&asked, &body);
        let is_lost = state.loses.is_some_and(|end| asked.ends_with(end));
        state.heard.push((asked, body));
        (status, answer, is_lost)
    };
    if is_lost {
        return;
    }
    let text = if answer.is_null() { String::new() } else { answer.to_string() };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
    // An error means that the asker went away.
    let _ = stream.write_all(format!("{head}{text}").as_bytes()).await;
}

fn refused(word: &str) -> (u16, Value) {
    (409, json!({ "error": word, "message": "no" }))
}

impl State {
    pub(super) fn certify(&mut self, number: &str) -> SignedChosenCert {
        let Ok(Number::Chosen(number)) = number.parse() else { panic!("no number") };
        let now = crate::clock::wall_clock();
        let cert = SignedChosenCert::certify(&self.key, &number, self.owner.public(), now).unwrap();
        self.drop_number(&number);
        self.chosen.push(cert.clone());
        cert
    }

    fn drop_number(&mut self, number: &ChosenNumber) {
        let now = crate::clock::wall_clock();
        let is_it = |cert: &SignedChosenCert| {
            cert.verify_held(now).is_ok_and(|cert| cert.number == Number::Chosen(number.clone()))
        };
        self.chosen.retain(|cert| !is_it(cert));
    }

    fn answer(&mut self, asked: &str, body: &Value) -> (u16, Value) {
        if let Some(named) = asked.split_once("/account/numbers/") {
            return self.of_number(named.0.trim(), named.1);
        }
        match asked {
            "GET /info" => (
                200,
                json!({ "name": self.name, "directory": HEXLOWER.encode(self.key.public().as_bytes()),
                        "signup": "open", "chosen": true, "max_numbers": 8, "version": "0" }),
            ),
            "POST /signup/start" => refused("identity_taken"),
            "POST /recover" if self.is_gone => refused("not_found"),
            "POST /recover" => (200, self.let_in()),
            "GET /account/backup" => (200, self.kept()),
            "GET /account/terminals" => {
                let records: Vec<_> =
                    self.records.iter().map(|record| BASE64URL_NOPAD.encode(record)).collect();
                (200, json!({ "records": records }))
            }
            "PUT /account/backup" if body["version"] == self.version + 1 => {
                self.version += 1;
                self.data = BASE64URL_NOPAD.decode(body["data"].as_str().unwrap().as_bytes()).unwrap();
                (204, Value::Null)
            }
            "PUT /account/backup" => refused("version"),
            "POST /account/numbers" => {
                let cert = self.certify(body["number"].as_str().unwrap());
                (201, json!({ "certificate": text(&cert) }))
            }
            "DELETE /account" => {
                self.is_gone = true;
                (204, Value::Null)
            }
            "POST /logout" => (204, Value::Null),
            _ => refused("not_found"),
        }
    }

    fn of_number(&mut self, method: &str, path: &str) -> (u16, Value) {
        let (number, what) = path.split_once('/').unwrap_or((path, ""));
        let Ok(Number::Chosen(chosen)) = number.parse() else { return refused("not_found") };
        match (method, what) {
            ("POST", "renew") => (200, json!({ "certificate": text(&self.certify(number)) })),
            ("POST", "transfer") | ("DELETE", "") => {
                self.drop_number(&chosen);
                (204, Value::Null)
            }
            _ => refused("not_found"),
        }
    }

    fn let_in(&self) -> Value {
        let now = crate::clock::wall_clock();
        let certs = self.chosen.iter().filter_map(|cert| Some((cert, cert.verify_held(now).ok()?)));
        let chosen = certs.map(|(cert, said)| {
            json!({ "number": said.number.canonical(), "issued": said.issued, "expires": said.expires,
                    "certificate": text(cert) })
        });
        let identity = HEXLOWER.encode(self.owner.public().as_bytes());
        json!({ "token": "t", "backup": self.kept(),
                "account": { "id": self.id, "identity": identity, "chosen": chosen.collect::<Vec<_>>() } })
    }

    fn kept(&self) -> Value {
        json!({ "version": self.version, "data": BASE64URL_NOPAD.encode(&self.data) })
    }
}

fn text(cert: &SignedChosenCert) -> String {
    BASE64URL_NOPAD.encode(&offhook_proto::wire::encode(cert))
}
