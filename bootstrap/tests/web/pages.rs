//! What browsers are shown and may download.

use offhook_bootstrap::web::SiteConfig;
use serde_json::json;

use crate::client::{NAME, START, Scene};

#[tokio::test]
async fn visitors_download_what_the_operator_offers_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let offered = folder.path().join("offered");
    std::fs::create_dir(&offered).unwrap();
    std::fs::write(folder.path().join("secret"), "secret").unwrap();
    std::fs::write(offered.join("offhook.deb"), "0123456789").unwrap();
    std::fs::write(offered.join(".hidden"), "secret").unwrap();
    let downloads = Some(offered);
    let scene = Scene::with(SiteConfig { downloads, ..SiteConfig::new(Some(NAME)).unwrap() }).await;
    let info = scene.client().get("/info").await.json;
    let sum = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";
    let file = json!({ "name": "offhook.deb", "size": 10, "sha256": sum, "url": "/downloads/offhook.deb" });
    assert_eq!(info["downloads"], json!([file]));
    let ask = async |method: &str, path: &str, more: &str| scene.client().ask(method, path, more).await;
    let all = ask("GET", "/downloads/offhook.deb", "").await;
    assert_eq!((all.status, &all.body[..]), (200, &b"0123456789"[..]));
    assert_eq!(all.header("content-disposition"), Some("attachment; filename=\"offhook.deb\""));
    assert_eq!(all.header("content-type"), Some("application/octet-stream"));
    assert_eq!((all.header("content-length"), all.header("accept-ranges")), (Some("10"), Some("bytes")));
    let head = ask("HEAD", "/downloads/offhook.deb", "").await;
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, Some("10")));
    let part = ask("GET", "/downloads/offhook.deb", "Range: bytes=7-\r\n").await;
    assert_eq!((part.status, &part.body[..]), (206, &b"789"[..]));
    assert_eq!(part.header("content-range"), Some("bytes 7-9/10"));
    let beyond = ask("GET", "/downloads/offhook.deb", "Range: bytes=10-\r\n").await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */10")));
    let known = format!("If-None-Match: {}\r\n", all.header("etag").unwrap());
    assert_eq!(ask("GET", "/downloads/offhook.deb", &known).await.status, 304);
    for path in
        ["..%2Fsecret", "%2e%2e%2fsecret", "../secret", ".hidden", "%2Fetc%2Fpasswd", "nothing", "%FF", ""]
    {
        let answer = ask("GET", &format!("/downloads/{path}"), "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.body.windows(6).any(|six| six == b"secret"), "{path}");
    }
    assert_eq!(ask("POST", "/downloads/offhook.deb", "").await.status, 405);
}

#[tokio::test]
async fn pages_are_told_apart_from_what_programs_ask_for() {
    let scene = Scene::new().await;
    let ask = async |method: &str, path: &str| scene.client().ask(method, path, "").await;
    for path in ["/", "/signup", "/nobody", "/assets/none.js", "/downloads/none", "/api/v1/none", "/logo.svg"]
    {
        let answer = ask("GET", path).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}"
        );
        assert!(!policy.contains("'unsafe-") && !policy.contains("http"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
        assert!(answer.header("strict-transport-security").is_some(), "{path}");
    }
    let head = ask("HEAD", "/").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(ask("POST", "/signup").await.status, 405);
    for path in ["/assets/none.js", "/downloads/none", "/api/v1/none", "/api/none", "/.well-known/none"] {
        let answer = ask("GET", path).await;
        assert_eq!((answer.status, answer.header("content-type")), (404, Some("application/json")), "{path}");
    }
}

#[tokio::test]
async fn everybody_sees_how_the_directory_does() {
    let scene = Scene::with_node().await;
    let info = scene.client().get("/info").await.json;
    let node = json!({
        "started": START, "accounts": 0, "relay": false, "mailbox": false, "status": "ok",
        "peers": 0, "registered": 0, "dht_nodes": 0, "records": 0,
    });
    assert_eq!((&info["node"], &info["downloads"]), (&node, &json!([])));
    scene.sign_up(1, "ada", crate::GOOD).await;
    assert_eq!(
        scene.client().get("/info").await.json["node"]["accounts"],
        0,
        "they are counted once a minute"
    );
    scene.pass(60);
    assert_eq!(scene.client().get("/info").await.json["node"]["accounts"], 1);
    let without = Scene::new().await.client().get("/info").await.json;
    assert_eq!((&without["node"]["accounts"], &without["node"]["peers"]), (&json!(0), &json!(null)));
}
