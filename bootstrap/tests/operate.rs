//! What an operator does, by the built program, on a store that a directory has open meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "operate/copies.rs"]
mod copies;
#[path = "operate/list.rs"]
mod list;
#[path = "store/s3.rs"]
mod s3;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use offhook::clock::wall_clock;
use offhook_bootstrap::store::{
    Append, Appended, Fact, Issue, NewAccount, NewSession, PasswordFile, Store, TokenHash,
};
use offhook_bootstrap::web::opaque::Opaque;
use offhook_proto::identity::{DirectoryKey, IdentityId, IdentityKey};
use offhook_proto::list::{Chain, Change, SignedHead};
use offhook_proto::number::{ChosenNumber, Number, PlainNumber};
use offhook_proto::proof::{PlainProof, SignedChosenCert};
use offhook_proto::wire;
use serde_json::{Value, json};
use tempfile::TempDir;

const SEED: [u8; 32] = [77; 32];

fn identity(n: u8) -> IdentityId {
    IdentityKey::from_seed([n; 32]).public()
}

/// A directory with `ada` and `eve`; ada is logged in, and has `ada@example.org`.
struct Scene {
    folder: TempDir,
    store: Store,
}

struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Outcome {
    /// What was printed, an object a line.
    fn json(&self) -> Vec<Value> {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn refused(&self, code: i32, why: &str) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert!(self.err.starts_with("offhook-directory: ") && self.err.contains(why), "{}", self.err);
    }
}

fn run(data: &Path, args: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offhook-directory"));
    let output = command.args(args).arg("--data").arg(data).env("SUDO_USER", "olga").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Scene {
    async fn new() -> Self {
        Self::on(None).await
    }

    /// On PostgreSQL, at this URL, or on SQLite.
    async fn on(postgres: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let place = |name: &str| data.join(name).display().to_string();
        let database = postgres.map_or_else(|| place("directory.sqlite"), str::to_owned);
        let (database, blobs) = (database.parse().unwrap(), place("blobs").parse().unwrap());
        let store = Store::open(&database, &blobs).await.unwrap();
        let opaque = Opaque::load_or_make(&data).unwrap();
        let mut key = std::fs::OpenOptions::new();
        let mut key = key.write(true).create_new(true).mode(0o600).open(data.join("signing.key")).unwrap();
        std::io::Write::write_all(&mut key, &SEED).unwrap();
        store.belongs_to(Fact::OpaqueKey, opaque.fingerprint()).await.unwrap();
        let signing = DirectoryKey::from_seed(SEED).public();
        store.belongs_to(Fact::SigningKey, signing.as_bytes()).await.unwrap();
        store.belongs_to(Fact::Name, b"example.org").await.unwrap();
        let scene = Self { folder, store };
        scene.sign_up(1, "ada").await;
        scene.sign_up(2, "eve").await;
        scene.log_in(1).await;
        scene.claim(1, "ada").await;
        scene
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn run(&self, args: &[&str]) -> Outcome {
        run(&self.data(), args)
    }

    async fn sign_up(&self, n: u8, id: &str) {
        let account = NewAccount {
            identity: identity(n),
            id: id.parse().unwrap(),
            number: PlainNumber::from_index(u64::from(n) + 12_345_678_901),
            proof: PlainProof { nonce: u64::from(n) },
            password_file: PasswordFile(vec![n; 192]),
            backup: vec![n; 1_000],
        };
        self.store.sign_up(account, wall_clock()).await.unwrap();
    }

    async fn try_log_in(&self, n: u8) -> bool {
        let (now, identity) = (wall_clock(), identity(n));
        let expires = now.plus(std::time::Duration::from_secs(3_600));
        let token = TokenHash::of(&[n]);
        let new = NewSession { token, identity, expires, instead_of: None, password: None, remember: None };
        self.store.begin_session(new, vec![], now).await.is_ok()
    }

    async fn log_in(&self, n: u8) {
        assert!(self.try_log_in(n).await);
    }

    async fn is_logged_in(&self, n: u8) -> bool {
        self.store.session(&TokenHash::of(&[n]), wall_clock()).await.unwrap().is_some()
    }

    async fn claim(&self, n: u8, word: &str) {
        self.try_claim(n, word).await.unwrap();
    }

    async fn try_claim(&self, n: u8, word: &str) -> Result<(), offhook_bootstrap::store::StoreError> {
        let (key, now) = (DirectoryKey::from_seed(SEED), wall_clock());
        let number = ChosenNumber::new(word, Some("example.org")).unwrap();
        let signed = SignedChosenCert::certify(&key, &number, identity(n), now).unwrap();
        let cert = signed.verify(now).unwrap();
        let issue = Issue {
            name: number.name().to_owned(),
            skeleton: number.skeleton(),
            identity: identity(n),
            certificate: wire::encode(&signed),
            issued: cert.issued,
            expires: cert.expires,
            held_until: cert.held_until(),
            since: now,
        };
        let change =
            Change::Issued { number: Number::Chosen(number), identity: identity(n), expires: cert.expires };
        let append: Append = Box::new(move |tail| {
            let directory = key.public();
            let mut chain = match &tail.last {
                Some(last) => Chain::after(directory, last).unwrap(),
                None => Chain::new(directory),
            };
            let entry = chain.append(now, change);
            let head = wire::encode(&SignedHead::sign(&key, &chain.head(now)));
            Ok(Appended { entry, hash: *chain.hash().as_bytes(), head })
        });
        self.store.claim_number(issue, append, now).await
    }

    /// What operators did, the latest first: who, what, to whom.
    fn log(&self) -> Vec<(String, String, String)> {
        let entries = self.run(&["audit", "log", "--json"]).json();
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
        entries.iter().map(|e| (text(e, "actor"), text(e, "action"), text(e, "subject"))).collect()
    }

    fn last_deed(&self) -> (String, String, String) {
        self.log().into_iter().next().unwrap()
    }
}

fn by_olga(action: &str, subject: &str) -> (String, String, String) {
    ("olga".to_owned(), action.to_owned(), subject.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_who_has_an_account() {
    let scene = Scene::new().await;
    let ids: Vec<_> =
        scene.run(&["users", "list", "--json"]).json().iter().map(|a| a["id"].clone()).collect();
    assert_eq!(ids, ["ada", "eve"]);
    let text = scene.run(&["users", "list"]).out;
    assert_eq!(text.lines().count(), 2);
    assert!(text.starts_with("ada  "), "{text}");
    let ada = &scene.run(&["users", "show", "Ada", "--json"]).json()[0];
    assert_eq!((&ada["sessions"], &ada["chosen"]), (&json!(1), &json!(["ada"])));
    let text = scene.run(&["users", "show", "ada"]).out;
    assert!(text.contains("chosen numbers  ada\n") && text.contains("sessions        1\n"), "{text}");
    scene.run(&["users", "show", "nobody"]).refused(2, "no such account");
    assert_eq!(scene.run(&["users", "show", "a b"]).code, Some(2), "no ID at all");
    assert!(scene.log().is_empty(), "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_sessions_closes_and_deletes_accounts() {
    let scene = Scene::new().await;
    assert_eq!(scene.run(&["users", "end-sessions", "ada"]).out, "1 session ended\n");
    assert!(!scene.is_logged_in(1).await);
    assert_eq!(scene.last_deed(), by_olga("end sessions", "ada"));
    scene.log_in(1).await;
    assert_eq!(scene.run(&["users", "close", "ada"]).code, Some(0));
    assert!(!scene.is_logged_in(1).await && !scene.try_log_in(1).await);
    assert_eq!(scene.last_deed(), by_olga("close account", "ada"));
    assert!(scene.run(&["users", "list"]).out.lines().next().unwrap().contains("  closed "));
    assert_eq!(scene.run(&["users", "reopen", "ada"]).code, Some(0));
    assert!(scene.try_log_in(1).await);
    assert_eq!(scene.last_deed(), by_olga("reopen account", "ada"));
    scene.run(&["users", "delete", "ada"]).refused(2, "--yes");
    assert!(scene.store.account(&identity(1)).await.unwrap().is_some());
    assert_eq!(scene.run(&["users", "delete", "ada", "--yes"]).out, "deleted\n");
    assert_eq!(scene.store.account(&identity(1)).await.unwrap(), None);
    assert_eq!(scene.last_deed(), by_olga("delete account", "ada"));
    let number = &scene.run(&["numbers", "show", "ada", "--json"]).json()[0];
    assert_eq!((&number["id"], &number["released"]), (&Value::Null, &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_numbers_and_keeps_words_back() {
    let scene = Scene::new().await;
    assert_eq!(scene.run(&["numbers", "list", "--json"]).json()[0]["number"], "ada");
    let text = scene.run(&["numbers", "show", "ada@example.org"]).out;
    assert!(text.contains("ID        ada\n") && text.contains("state     until "), "{text}");
    scene.run(&["numbers", "show", "ada@example.com"]).refused(2, "another directory");
    scene.run(&["numbers", "show", "bob"]).refused(2, "nobody has");
    scene.run(&["numbers", "reserve", "mayor", "a b"]).refused(2, "no chosen number");
    assert_eq!(scene.run(&["numbers", "reserved"]).out, "", "all or none");
    let text = scene.run(&["numbers", "reserve", "Mayor", "ada"]).out;
    assert_eq!(text, "mayor  kept back\nada  kept back; somebody has ada and keeps it\n");
    assert_eq!(scene.last_deed(), by_olga("reserve word", "ada"));
    for word in ["mayor", "may0r"] {
        let refused = scene.try_claim(2, word).await.unwrap_err();
        assert!(refused.to_string().contains("kept back"), "{word}: {refused}");
    }
    let words: Vec<_> = scene.run(&["numbers", "reserved", "--json"]).json();
    assert_eq!(words.iter().map(|word| word["word"].clone()).collect::<Vec<_>>(), ["ada", "mayor"]);
    assert_eq!(scene.run(&["numbers", "unreserve", "mayor"]).out, "mayor  free\n");
    scene.run(&["numbers", "unreserve", "mayor"]).refused(2, "not kept back");
    scene.claim(2, "mayor").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_lets_an_account_have_more_numbers_or_fewer() {
    let scene = Scene::new().await;
    assert_eq!(scene.run(&["quotas", "show", "ada"]).out, "ada  1 of 8 chosen numbers, as others\n");
    assert_eq!(scene.run(&["quotas", "set", "ada", "--numbers", "1"]).out, "ada  1 of 1 chosen numbers\n");
    assert_eq!(scene.last_deed(), by_olga("set quota", "ada"));
    assert!(scene.try_claim(1, "lovelace").await.is_err());
    let roomy = "ada  1 of 1 chosen numbers\nada  0 bytes in 0 pieces in the mailbox, room for 256 MB\n";
    assert_eq!(scene.run(&["quotas", "set", "ada", "--mailbox-mb", "256"]).out, roomy);
    assert_eq!(scene.run(&["quotas", "set", "ada"]).code, Some(2), "it says nothing");
    assert_eq!(scene.run(&["quotas", "reset", "ada", "--json"]).json()[0]["numbers"], 8);
    scene.claim(1, "lovelace").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_checks_the_list_of_numbers() {
    let scene = Scene::new().await;
    scene.claim(2, "eve").await;
    assert_eq!(scene.run(&["audit", "list"]).out, "2 entries, 2 numbers, 0 problems\n");
    // Somebody writes into the database himself: what was issued to eve, again, with a head of its own.
    let bent: offhook_bootstrap::store::Append = Box::new(|tail| {
        let last = tail.last.clone().unwrap();
        Ok(Appended { entry: last, hash: tail.hash, head: vec![] })
    });
    let issue = Issue {
        name: "bob".to_owned(),
        skeleton: "bob".to_owned(),
        identity: identity(2),
        certificate: vec![1],
        issued: wall_clock(),
        expires: wall_clock(),
        held_until: wall_clock(),
        since: wall_clock(),
    };
    scene.store.claim_number(issue, bent, wall_clock()).await.unwrap();
    let found = scene.run(&["audit", "list"]);
    found.refused(1, "");
    assert!(found.out.contains("entry 2: ") || found.err.contains("damaged"), "{}{}", found.out, found.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_made_beside_a_running_directory_and_put_back_elsewhere() {
    let scene = Scene::new().await;
    let (copy, other) = (scene.folder.path().join("copy"), scene.folder.path().join("other"));
    let (to, data) = (copy.to_str().unwrap(), scene.data());
    let said = scene.run(&["backup", to, "--json"]).json();
    assert_eq!(said[0]["accounts"], 2);
    assert_eq!(scene.last_deed(), by_olga("backup", to));
    scene.run(&["backup", to]).refused(2, "not a new folder");
    scene.sign_up(3, "late").await;
    run(&data, &["restore", to]).refused(2, "already");
    run(&other, &["restore", data.join("blobs").to_str().unwrap()]).refused(2, "is no copy");
    let said = run(&other, &["restore", to, "--json"]).json();
    assert_eq!((&said[0]["accounts"], &said[0]["damaged"]), (&json!(2), &json!([])));
    for key in ["opaque.key", "signing.key"] {
        assert_eq!(std::fs::read(other.join(key)).unwrap(), std::fs::read(data.join(key)).unwrap());
    }
    let place = |name: &str| other.join(name).display().to_string();
    let (database, blobs) = (place("directory.sqlite").parse().unwrap(), place("blobs").parse().unwrap());
    let restored = Store::open(&database, &blobs).await.unwrap();
    assert_eq!(restored.backup(&identity(2)).await.unwrap().unwrap().bytes, vec![2; 1_000]);
    assert_eq!(restored.account(&identity(3)).await.unwrap(), None, "it came later");
    assert_eq!(restored.session(&TokenHash::of(&[1]), wall_clock()).await.unwrap(), None);
    let log = run(&other, &["audit", "log", "--json"]).json();
    assert_eq!((&log[0]["action"], &log[1]["action"]), (&json!("restore"), &json!("begin backup")));
    // One that fails is in the log as such.
    assert_eq!(scene.run(&["backup", "/proc/nowhere/copy"]).code, Some(1));
    assert_eq!(scene.last_deed(), by_olga("backup failed", "/proc/nowhere/copy"));
    assert_eq!(scene.log()[1], by_olga("begin backup", "/proc/nowhere/copy"));
    assert_eq!(run(&other, &["audit", "list"]).out, "1 entries, 1 numbers, 0 problems\n");
}

#[test]
fn every_command_tells_how_it_is_used_and_makes_no_directory_where_none_is() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["users", "numbers", "quotas", "audit", "backup", "restore"] {
        let help = run(folder.path(), &[command, "--help"]);
        assert_eq!(help.code, Some(0));
        let needed = ["Examples:", "offhook-directory ", "--json", "--data"];
        assert!(needed.iter().all(|needed| help.out.contains(needed)), "{}", help.out);
    }
    for args in [&["users", "list"][..], &["numbers", "list"], &["audit", "list"], &["audit", "log"]] {
        run(folder.path(), args).refused(2, "there is no directory at");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
