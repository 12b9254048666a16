//! As much of an S3-compatible store as backups need: objects are put, got, listed and deleted (Amazon S3 API, path style).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

#[derive(Clone, Default)]
struct Objects {
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
    unsigned: Arc<Mutex<u32>>,
}

pub struct Server {
    addr: std::net::SocketAddr,
    objects: Objects,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let objects = Objects::default();
        let router = Router::new().fallback(serve).with_state(objects.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { addr, objects, task }
    }

    pub fn url(&self) -> String {
        format!("s3://bucket/some/where?endpoint=http://{}&region=x&key=id&secret=s%2Fecret", self.addr)
    }

    pub fn names(&self) -> Vec<String> {
        self.objects.objects.lock().unwrap().keys().cloned().collect()
    }

    pub fn unsigned(&self) -> u32 {
        *self.objects.unsigned.lock().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    State(state): State<Objects>,
    Query(query): Query<BTreeMap<String, String>>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let authorization = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !authorization.is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256 Credential=id/")) {
        *state.unsigned.lock().unwrap() += 1;
    }
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let name = head.uri.path().to_owned();
    let mut objects = state.objects.lock().unwrap();
    if head.method == Method::PUT {
        objects.insert(name, body);
        return [(header::ETAG, "\"1\"")].into_response();
    }
    if head.method == Method::POST && query.contains_key("delete") {
        return deleted(&mut objects, &String::from_utf8_lossy(&body)).into_response();
    }
    if let Some(prefix) = query.get("prefix") {
        return listing(&objects, prefix).into_response();
    }
    match objects.get(&name) {
        Some(found) => {
            let modified = (header::LAST_MODIFIED, "Fri, 27 Nov 2026 00:00:00 GMT");
            ([(header::ETAG, "\"1\""), modified], found.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Several objects are deleted by one request (DeleteObjects).
fn deleted(objects: &mut BTreeMap<String, Bytes>, wanted: &str) -> String {
    let mut text = "<?xml version=\"1.0\"?><DeleteResult>".to_owned();
    for key in wanted.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
        objects.remove(&format!("/bucket/{key}"));
        let _ = write!(text, "<Deleted><Key>{key}</Key></Deleted>");
    }
    text + "</DeleteResult>"
}

fn listing(objects: &BTreeMap<String, Bytes>, prefix: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let date = jiff::Timestamp::from_second(i64::try_from(now.as_secs()).unwrap()).unwrap();
    let mut text = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
    for (name, object) in objects {
        let key = name.trim_start_matches("/bucket/");
        if key.starts_with(prefix) {
            let size = object.len();
            let _ = write!(
                text,
                "<Contents><Key>{key}</Key><LastModified>{date}</LastModified><ETag>\"1\"</ETag><Size>{size}</Size></Contents>"
            );
        }
    }
    text + "</ListBucketResult>"
}
