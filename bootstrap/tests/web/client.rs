//! A site to try, and a browser or a program that uses it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use argon2_of_opaque::{Algorithm, Argon2, Params, Version};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use offhook::clock::wall_clock;
use offhook::net::{Net, NetConfig, Role};
use offhook_bootstrap::store::Store;
use offhook_bootstrap::web::opaque::{Opaque, Suite};
use offhook_bootstrap::web::{Site, SiteConfig, router};
use offhook_proto::backup::{Backup, BackupKey, Nonces};
use offhook_proto::identity::{DirectoryId, DirectoryKey, IdentityId, IdentityKey, MailboxKey};
use offhook_proto::number::{Number, PlainNumber};
use offhook_proto::proof::PlainProof;
use offhook_proto::request::{Action, Digest, SignedRequest};
use offhook_proto::wire::UnixMillis;
use opaque_ke::{
    ClientLogin, ClientLoginFinishParameters, ClientRegistration, ClientRegistrationFinishParameters,
    CredentialResponse, Identifiers, RegistrationResponse,
};
use rand_core::OsRng;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

#[path = "description.rs"]
pub mod description;

/// When the site is started.
pub const START: u64 = 1_800_000_000_000;
pub const NAME: &str = "example.org";

pub struct Scene {
    pub site: Site,
    pub store: Store,
    pub directory: DirectoryId,
    time: Arc<AtomicU64>,
    tick: Arc<AtomicU64>,
    node: Option<Net>,
    folder: TempDir,
}

impl Scene {
    pub async fn new() -> Self {
        Self::with(SiteConfig { is_https: true, ..SiteConfig::new(Some(NAME)).unwrap() }).await
    }

    /// One whose node runs, in the time that the node lives in.
    pub async fn with_node() -> Self {
        let mut config = NetConfig::new([66; 32], Role::Directory);
        config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
        let (net, mut events) = Net::start(config).await.unwrap();
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        let node = watch::channel(Some(net.clone())).1;
        let config = SiteConfig { is_https: true, node, ..SiteConfig::new(Some(NAME)).unwrap() };
        let scene = Self { node: Some(net), ..Self::with(config).await };
        scene.time.store(wall_clock().0, Ordering::Relaxed);
        scene
    }

    pub fn node(&self) -> &Net {
        self.node.as_ref().expect("a scene with a node")
    }

    pub async fn with(mut config: SiteConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name).display().to_string();
        let (database, blobs) = (place("directory.sqlite").parse().unwrap(), place("blobs").parse().unwrap());
        let store = Store::open(&database, &blobs).await.unwrap();
        let time = Arc::new(AtomicU64::new(START));
        let clock = Arc::clone(&time);
        // The tests tell from where they come.
        config.proxies = vec!["127.0.0.1".parse().unwrap()];
        let opaque = Opaque::load_or_make(folder.path()).unwrap();
        let tick = Arc::new(AtomicU64::new(0));
        let step = Arc::clone(&tick);
        let clock =
            Arc::new(move || UnixMillis(clock.fetch_add(step.load(Ordering::Relaxed), Ordering::Relaxed)));
        let signing = DirectoryKey::from_seed([77; 32]);
        let directory = signing.public();
        let router = router(config, store.clone(), opaque, signing, clock).unwrap();
        let site = Site::start("127.0.0.1:0".parse().unwrap(), router).await.unwrap();
        Self { site, store, directory, time, tick, node: None, folder }
    }

    pub fn now(&self) -> UnixMillis {
        UnixMillis(self.time.load(Ordering::Relaxed))
    }

    pub fn pass(&self, seconds: u64) {
        self.time.fetch_add(seconds * 1_000, Ordering::Relaxed);
    }

    /// From now on so many milliseconds pass between two looks at the clock.
    #[allow(dead_code, reason = "the browser's tests do without")]
    pub fn tick(&self, milliseconds: u64) {
        self.tick.store(milliseconds, Ordering::Relaxed);
    }

    /// In which all of it lies.
    #[allow(dead_code, reason = "the browser's tests do without")]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub fn client(&self) -> Client {
        Client::new(self.site.addr())
    }

    /// Signs somebody up; the secret that opens the backup.
    pub async fn sign_up(&self, n: u8, id: &str, password: &str) -> Vec<u8> {
        let (body, export_key) = self.sign_up_body(n, id, password).await;
        let answer = self.client().post("/signup/finish", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        export_key
    }

    /// All but the last step of a sign-up: what is to be sent, and the secret that opens the backup.
    pub async fn sign_up_body(&self, n: u8, id: &str, password: &str) -> (Value, Vec<u8>) {
        let made = self.client().register("/signup/start", "id", id, password).await;
        let (person, backup) = (Person::new(n), sealed(n, &made.export_key, 1));
        let signed = self.sign(n, person.sign_up(&made.id, &made.upload, &backup));
        let body = json!({
            "id": made.id, "upload": text(&made.upload), "identity": hex(&identity(n)),
            "number": person.number.as_str(), "proof_nonce": person.nonce, "backup": text(&backup),
            "signed": signed,
        });
        (body, made.export_key)
    }

    /// What somebody asks of this directory now.
    pub fn sign(&self, n: u8, action: Action) -> String {
        self.sign_at(n, action, self.now())
    }

    pub fn sign_at(&self, n: u8, action: Action, at: UnixMillis) -> String {
        let key = IdentityKey::from_seed([n; 32]);
        text(&SignedRequest::sign(&key, self.directory, at, action).to_bytes())
    }

    /// A browser in which somebody has logged in.
    pub async fn logged_in(&self, id: &str, password: &str) -> Client {
        let mut client = self.client();
        let answer = client.log_in(id, password).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        client
    }
}

/// An identity with its plain number.
pub struct Person {
    pub number: PlainNumber,
    pub nonce: u64,
}

/// Nonces and numbers of the identities 1 to 4.
const MINED: [(u64, u64); 4] =
    [(22, 923_038_718_324), (98, 27_190_285_890), (132, 676_531_508_245), (697, 190_053_534_541)];

impl Person {
    pub fn new(n: u8) -> Self {
        let (nonce, number) = MINED[usize::from(n) - 1];
        let digits: Vec<u8> = format!("{number:012}").bytes().map(|digit| digit - b'0').collect();
        Self { number: PlainNumber::from_digits(&digits).unwrap(), nonce }
    }

    pub fn sign_up(&self, id: &str, upload: &[u8], backup: &[u8]) -> Action {
        Action::SignUp {
            id: id.to_owned(),
            number: Number::Plain(self.number),
            nonce: self.nonce,
            upload: Digest::of(upload),
            backup: Digest::of(backup),
        }
    }
}

/// A backup of somebody who has just signed up.
pub fn sealed(n: u8, export_key: &[u8], version: u64) -> Vec<u8> {
    let (person, key) = (Person::new(n), IdentityKey::from_seed([n; 32]));
    let proof = PlainProof { nonce: person.nonce };
    let mailbox = MailboxKey::from_seed([n + 100; 32]);
    let backup = Backup::new(key, mailbox, person.number, proof, UnixMillis(START));
    let nonces = Nonces { backup: rand::random(), recovery: rand::random() };
    backup.seal(&backup_key(export_key), version, &nonces).unwrap().to_bytes()
}

pub fn backup_key(export_key: &[u8]) -> BackupKey {
    BackupKey::from_export_key(export_key.try_into().unwrap())
}

pub fn hex(identity: &IdentityId) -> String {
    HEXLOWER.encode(identity.as_bytes())
}

pub fn identity(n: u8) -> IdentityId {
    IdentityKey::from_seed([n; 32]).public()
}

pub fn text(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

pub fn bytes(value: &Value) -> Vec<u8> {
    BASE64URL_NOPAD.decode(value.as_str().expect("bytes").as_bytes()).unwrap()
}

/// The client's slow hash is quick here: memory in KiB, passes, lanes.
const QUICK: (u32, u32, u32) = (8, 1, 1);
/// As browsers stretch a password (RFC 9106's second recommendation).
#[allow(dead_code, reason = "the browser's tests use it")]
const AS_BROWSERS_DO: (u32, u32, u32) = (65_536, 3, 4);

fn hash((memory, passes, lanes): (u32, u32, u32)) -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(memory, passes, lanes, None).unwrap())
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub json: Value,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header_of(&self.head, name)
    }

    /// The word of an error.
    pub fn error(&self) -> &str {
        self.json["error"].as_str().unwrap_or_default()
    }
}

/// An answer that need not be JSON.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Page {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header_of(&self.head, name)
    }
}

fn header_of<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let pairs = head.lines().filter_map(|line| line.split_once(": "));
    pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

/// A browser that keeps a cookie and the page's word, or a program with a token.
#[derive(Clone)]
pub struct Client {
    addr: SocketAddr,
    pub cookie: Option<String>,
    pub cookie_name: String,
    pub csrf: Option<String>,
    pub token: Option<String>,
    pub network: String,
    pub content_type: &'static str,
    stretching: (u32, u32, u32),
}

/// A registration of which the last message is not sent yet.
pub struct Registered {
    /// The ID in its normal form.
    pub id: String,
    pub upload: Vec<u8>,
    pub export_key: Vec<u8>,
}

/// A log-in of which the last message is not sent yet.
#[derive(Debug)]
pub struct Begun {
    pub login: String,
    pub finish: Vec<u8>,
    pub export_key: Vec<u8>,
}

impl Client {
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            cookie: None,
            cookie_name: "__Host-offhook_session".to_owned(),
            csrf: None,
            token: None,
            network: "192.0.2.1".to_owned(),
            content_type: "application/json",
            stretching: QUICK,
        }
    }

    /// From now on its passwords are those of a browser.
    #[allow(dead_code, reason = "the browser's tests use it")]
    pub fn stretch_like_a_browser(&mut self) {
        self.stretching = AS_BROWSERS_DO;
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    pub async fn post(&mut self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(body.to_string())).await
    }

    pub async fn call(&mut self, method: &str, path: &str, body: Option<String>) -> Answer {
        let answer = self.send(method, &format!("/api/v1{path}"), body, "").await;
        let answer = self.read(&String::from_utf8(answer).unwrap());
        description::check(method, path, answer.status, &answer.json);
        self.keep_cookie(&answer);
        answer
    }

    /// Head and body of what is no JSON.
    pub async fn fetch(&self, path: &str) -> (String, Vec<u8>) {
        let page = self.ask("GET", path, "").await;
        (page.head, page.body)
    }

    /// Asks for anything, with more lines in the head.
    pub async fn ask(&self, method: &str, path: &str, more: &str) -> Page {
        let answer = self.send(method, path, None, more).await;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer");
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Page { status, head, body: answer[end + 4..].to_vec() }
    }

    async fn send(&self, method: &str, path: &str, body: Option<String>, more: &str) -> Vec<u8> {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\nX-Forwarded-For: {}\r\n",
            self.network
        );
        let mut add = |name: &str, value: Option<&String>| {
            if let Some(value) = value {
                head += &format!("{name}{value}\r\n");
            }
        };
        add(&format!("Cookie: a=b; {}=", self.cookie_name), self.cookie.as_ref());
        add("X-Offhook-CSRF: ", self.csrf.as_ref());
        add("Authorization: Bearer ", self.token.as_ref());
        let body = body.unwrap_or_default();
        if !body.is_empty() {
            head += &format!("Content-Type: {}\r\nContent-Length: {}\r\n", self.content_type, body.len());
        }
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(more.as_bytes()).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
        // A server that refuses what is too large need not read it.
        let _ = stream.write_all(body.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }

    fn read(&self, answer: &str) -> Answer {
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let json = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
        Answer { status, head: head.to_owned(), json }
    }

    fn keep_cookie(&mut self, answer: &Answer) {
        if let Some(cookie) = answer.header("set-cookie") {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            name.clone_into(&mut self.cookie_name);
            self.cookie = (!value.is_empty()).then(|| value.to_owned());
        }
    }

    /// All but the last message of a registration: at a sign-up, or for a new password.
    pub async fn register(&mut self, path: &str, field: &str, id: &str, password: &str) -> Registered {
        let started = ClientRegistration::<Suite>::start(&mut OsRng, password.as_bytes()).unwrap();
        let request = json!({ field: id, "request": text(&started.message.serialize()) });
        let answer = self.post(path, request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let response = RegistrationResponse::deserialize(&bytes(&answer.json["response"])).unwrap();
        let hash = hash(self.stretching);
        let parameters = ClientRegistrationFinishParameters::new(Identifiers::default(), Some(&hash));
        let finished = started.state.finish(&mut OsRng, password.as_bytes(), response, parameters).unwrap();
        Registered {
            id: answer.json["id"].as_str().unwrap().to_owned(),
            upload: finished.message.serialize().to_vec(),
            export_key: finished.export_key.to_vec(),
        }
    }

    /// All but the last message of a log-in; `Err` when the directory refuses it, or the client sees that the password is wrong.
    pub async fn begin(&mut self, id: &str, password: &str) -> Result<Begun, Answer> {
        let started = ClientLogin::<Suite>::start(&mut OsRng, password.as_bytes()).unwrap();
        let request = json!({ "id": id, "request": text(&started.message.serialize()) });
        let answer = self.post("/login/start", request).await;
        if answer.status != 200 {
            return Err(answer);
        }
        let response = CredentialResponse::deserialize(&bytes(&answer.json["response"])).unwrap();
        let hash = hash(self.stretching);
        let parameters = ClientLoginFinishParameters::new(None, Identifiers::default(), Some(&hash));
        let Ok(finished) = started.state.finish(password.as_bytes(), response, parameters) else {
            return Err(answer);
        };
        let login = answer.json["login"].as_str().unwrap().to_owned();
        let (finish, export_key) = (finished.message.serialize().to_vec(), finished.export_key.to_vec());
        Ok(Begun { login, finish, export_key })
    }

    pub async fn finish(&mut self, begun: &Begun, token: bool) -> Answer {
        let body = json!({ "login": begun.login, "finish": text(&begun.finish), "token": token });
        self.post("/login/finish", body).await
    }

    pub async fn log_in(&mut self, id: &str, password: &str) -> Answer {
        let begun = match self.begin(id, password).await {
            Ok(begun) => begun,
            Err(answer) => return answer,
        };
        let answer = self.finish(&begun, false).await;
        self.keep_word(&answer);
        answer
    }

    /// Keeps the page's word, as a page does that has let somebody in.
    pub fn keep_word(&mut self, answer: &Answer) {
        self.csrf = answer.json["csrf"].as_str().map(str::to_owned);
    }
}
