//! `audit list`: of a directory's own list, and of anybody's, by its site or from a file.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use data_encoding::HEXLOWER;
use offhook_proto::identity::DirectoryKey;
use serde_json::{Value, json};

use crate::{Outcome, SEED, Scene};

/// The built program, serving the site of a scene's directory.
struct Running {
    child: Child,
    url: String,
}

impl Running {
    fn start(scene: &Scene) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offhook-directory"));
        command.args(["run", "--name", "example.org", "--site", "127.0.0.1:0", "--stun", "127.0.0.1:0"]);
        command.args(["--listen", "/ip4/127.0.0.1/tcp/0", "--http", "none", "--front", "none", "--data"]);
        let mut child =
            command.arg(scene.data()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.map(Result::unwrap).find_map(|line| line.strip_prefix("site ").map(str::to_owned));
        Self { child, url: url.expect("a site") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn key() -> String {
    HEXLOWER.encode(DirectoryKey::from_seed(SEED).public().as_bytes())
}

/// An auditor, who has nothing of the directory.
struct Auditor(tempfile::TempDir);

impl Auditor {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn check(&self, args: &[&str]) -> Outcome {
        crate::run(self.0.path(), &[&["audit", "list"], args].concat())
    }

    /// With the key, and remembering.
    fn visit(&self, url: &str) -> Outcome {
        self.check(&["--url", url, "--key", &key(), "--head", &self.at("head")])
    }

    fn remembered(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.at("head")).unwrap()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_checks_the_list_of_a_directory_and_sees_when_it_is_rewritten() {
    let scene = Scene::new().await;
    let (directory, auditor) = (Running::start(&scene), Auditor::new());
    let said = auditor.visit(&directory.url);
    assert_eq!(said.out, format!("1 entries, 1 numbers, 0 problems\ndirectory {}\n", key()), "{}", said.err);
    let remembered = auditor.remembered();
    assert_eq!((&remembered["directory"], &remembered["length"]), (&json!(key()), &json!(1)));
    // It grows, and is the same up to there. The key is remembered, too.
    scene.claim(2, "eve").await;
    let said = auditor.check(&["--url", &directory.url, "--head", &auditor.at("head"), "--json"]).json();
    assert_eq!((&said[0]["entries"], &said[0]["findings"]), (&json!(2), &json!(0)));
    assert_eq!(auditor.remembered()["length"], 2);
    // The list itself is kept beside its end, without a word.
    let kept = auditor.at("head.list");
    let from_file = auditor.check(&["--file", &kept, "--key", &key()]);
    assert!(from_file.out.starts_with("2 entries, 2 numbers, 0 problems\n"), "{}", from_file.out);
    let before = std::fs::read(&kept).unwrap();
    assert!(!Path::new(&auditor.at("directory.sqlite")).exists(), "nothing is made");

    // The same key, and a list that was written anew: as long as before, and longer.
    let other = Scene::new().await;
    let rewritten = Running::start(&other);
    for words in ["eve", "bob"] {
        other.claim(2, words).await;
        let said = auditor.visit(&rewritten.url);
        said.refused(1, "not as it must be");
        assert!(
            said.out.contains("head: the list differs from the one seen earlier, at 2 entries"),
            "{}",
            said.out
        );
        assert!(said.out.contains("signed then: ") && said.out.contains("signed now: "), "{}", said.out);
        assert!(said.out.contains(": entry 0 is the first that differs"), "{}", said.out);
        assert_eq!(std::fs::read(&kept).unwrap(), before, "what proves it stays");
        let wrong = auditor.check(&["--file", &auditor.at("head.list.wrong"), "--key", &key()]);
        assert_eq!(
            wrong.code,
            Some(0),
            "the other half of the proof, which is a list by itself: {}",
            wrong.out
        );
    }
    // And one from which entries were taken.
    let short = Scene::new().await;
    let said = auditor.visit(&Running::start(&short).url);
    said.refused(1, "");
    assert!(said.out.contains("the list once had 2 entries and has 1 now"), "{}", said.out);
    assert_eq!(auditor.remembered()["length"], 2, "what was seen is not forgotten over it");
    // A site that is down leaves what is kept, and nothing else.
    auditor.visit("http://127.0.0.1:9").refused(1, "does not answer");
    assert!(!Path::new(&auditor.at("head.list.part")).exists());
    assert_eq!(std::fs::read(&kept).unwrap(), before);
    let said = auditor.visit(&directory.url);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    // The operator's own check remembers, too.
    let head = auditor.at("own");
    assert_eq!(scene.run(&["audit", "list", "--head", &head]).code, Some(0));
    let said = short.run(&["audit", "list", "--head", &head]);
    said.refused(1, "");
    assert!(said.out.contains("once had 2 entries"), "{}", said.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_of_a_list_can_be_checked_later() {
    let scene = Scene::new().await;
    scene.claim(2, "eve").await;
    let (directory, auditor) = (Running::start(&scene), Auditor::new());
    let (saved, key) = (auditor.at("saved"), key());
    let said = auditor.check(&["--url", &directory.url, "--key", &key, "--save", &saved]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let from_file = |file: &str| auditor.check(&["--file", file, "--key", &key]);
    assert!(from_file(&saved).out.starts_with("2 entries, 2 numbers, 0 problems\n"));
    // In several answers, one after the other.
    let page: Value = serde_json::from_slice(&std::fs::read(&saved).unwrap()).unwrap();
    let write = |name: &str, entries: &[&Value]| {
        let pages =
            entries.iter().map(|entry| json!({ "head": page["head"], "length": 2, "entries": [entry] }));
        let file = auditor.at(name);
        std::fs::write(&file, pages.map(|page| page.to_string()).collect::<Vec<_>>().join("\n")).unwrap();
        file
    };
    let [first, second] = [&page["entries"][0], &page["entries"][1]];
    assert!(from_file(&write("two", &[first, second])).out.starts_with("2 entries, 2 numbers, 0 problems\n"));
    let turned = from_file(&write("turned", &[second, first]));
    assert!(turned.code == Some(1) && turned.out.contains("entry 0: "), "{}", turned.out);
    let half = from_file(&write("half", &[first]));
    assert!(half.code == Some(1) && half.out.contains("its head says 2"), "{}", half.out);
    // What is no list, whose key is unknown, and another directory's.
    std::fs::write(auditor.at("none"), "{}").unwrap();
    from_file(&auditor.at("none")).refused(2, "not what /api/v1/list answers");
    auditor.check(&["--file", &saved]).refused(2, "--key");
    let other = auditor.check(&["--file", &saved, "--key", &"0".repeat(64)]);
    assert!(other.code == Some(1) && other.out.contains("another directory's list"), "{}", other.out);
    auditor.check(&["--file", &auditor.at("nowhere"), "--key", &key]).refused(1, "nowhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_misbehaves_ends_the_check_with_a_sentence() {
    let scene = Scene::new().await;
    scene.claim(2, "eve").await;
    let (directory, auditor) = (Running::start(&scene), Auditor::new());
    let (saved, key) = (auditor.at("saved"), key());
    auditor.check(&["--url", &directory.url, "--key", &key, "--save", &saved]);
    let page: Value = serde_json::from_slice(&std::fs::read(&saved).unwrap()).unwrap();
    let visit = |answer: fn(&Value, usize) -> Vec<u8>| {
        let site = serve(page.clone(), answer);
        auditor.check(&["--url", &format!("http://{site}"), "--key", &key])
    };
    let one = |page: &Value, from: usize| {
        let entries: Vec<&Value> = page["entries"].as_array().unwrap().iter().skip(from).take(1).collect();
        json!({ "length": 2, "head": page["head"], "entries": entries }).to_string().into_bytes()
    };
    assert!(
        visit(one).out.starts_with("2 entries, 2 numbers, 0 problems\n"),
        "an entry at a time is a list, too"
    );
    let held_back =
        visit(|page, _| json!({ "length": 2, "head": page["head"], "entries": [] }).to_string().into_bytes());
    assert!(held_back.code == Some(1) && held_back.out.contains("the list has 0 entries, its head says 2"));
    let again = visit(|page, _| page.to_string().into_bytes());
    assert_eq!(again.code, Some(0), "{}", again.out);
    visit(|_, _| vec![b' '; 3 * 1024 * 1024]).refused(1, "longer than");
    visit(|_, _| b"<html>".to_vec()).refused(1, "is no list");
    // Nothing signed at all, with entries or without.
    for entries in [&page["entries"], &json!([])] {
        let unsigned = json!({ "length": 0, "head": "", "entries": entries });
        let site = serve(unsigned, |page, _| page.to_string().into_bytes());
        let said = auditor.visit(&format!("http://{site}"));
        said.refused(1, "not as it must be");
        assert!(!Path::new(&auditor.at("head")).exists(), "{}", said.out);
    }
    // Elsewhere is another site.
    let away = redirect_to(&directory.url);
    auditor.check(&["--url", &format!("http://{away}"), "--key", &key]).refused(1, "302");
    // Nobody there; nobody vouches; not a site.
    auditor.check(&["--url", "http://127.0.0.1:1", "--key", &key]).refused(1, "does not answer");
    auditor.check(&["--url", &directory.url]).refused(2, "name it by --key");
    assert_eq!(auditor.check(&["--url", &directory.url, "--key", "abc"]).code, Some(2));
    auditor.check(&["--url", "ftp://127.0.0.1", "--key", &key]).refused(2, "https://NAME");
    std::fs::write(auditor.at("head"), "{}").unwrap();
    auditor.visit(&directory.url).refused(2, "is not what was remembered");
}

/// A site that sends everybody elsewhere, until the test ends.
fn redirect_to(url: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (addr, url) = (listener.local_addr().unwrap(), url.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1_024];
            assert!(stream.read(&mut request).unwrap() > 0);
            let head = "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: ";
            // Whoever asks may have had enough.
            let _ = stream.write_all(format!("{head}{url}/api/v1/list?from=0\r\n\r\n").as_bytes());
        }
    });
    addr
}

/// A site that answers so, from the entry that is asked for on; until the test ends.
fn serve(page: Value, answer: fn(&Value, usize) -> Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut request, mut chunk) = (Vec::new(), [0; 1_024]);
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let length = stream.read(&mut chunk).unwrap();
                assert!(length > 0, "half a request");
                request.extend_from_slice(&chunk[..length]);
            }
            let request = String::from_utf8(request).unwrap();
            let from = request.split("from=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
            let body = answer(&page, from.unwrap_or_default());
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            // Whoever asks may have had enough.
            let _ = stream.write_all(&[head.into_bytes(), body].concat());
        }
    });
    addr
}
