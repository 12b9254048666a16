//! `/metrics` for Prometheus and `/health` for whoever restarts what is sick, over HTTP. Feature `http`.
//!
//! Both answer from memory and without a password: serve them where only those who may know can ask.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::api::{Command, LineState, Reply};
use crate::net::Net;
use crate::phone::Phone;

/// The content type of the OpenMetrics text format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long requests under way are waited for at the end.
const TO_END: Duration = Duration::from_secs(1);

/// The address is taken, or not this host's.
#[derive(Debug, Error)]
#[error("cannot serve /metrics and /health on {addr}: {error}")]
pub struct HttpError {
    addr: SocketAddr,
    error: std::io::Error,
}

/// What [`Http`] serves.
pub trait Observed: Clone + Send + Sync + 'static {
    /// Counters and gauges in the OpenMetrics text format; `None` once it has ended.
    fn metrics(&self) -> impl Future<Output = Option<String>> + Send;

    /// How it is.
    fn health(&self) -> impl Future<Output = Health> + Send;
}

/// What `/health` answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// Whether it does what it is there for: status 200, otherwise 503.
    pub good: bool,
    /// More about it: a JSON object.
    pub details: Value,
}

/// A directory is well while it listens.
impl Observed for Net {
    async fn metrics(&self) -> Option<String> {
        self.is_running().then(|| Self::metrics(self))
    }

    async fn health(&self) -> Health {
        let status = self.status();
        let good = !status.listen.is_empty() && self.is_running();
        let details = json!({
            "status": if good { "ok" } else { "down" },
            "peers": status.peers,
            "dht_nodes": status.dht_nodes,
            "records": status.records,
            "descriptors": status.descriptors,
            "registered": status.registered,
        });
        Health { good, details }
    }
}

/// A telephone is well while it can be called.
impl Observed for Phone {
    async fn metrics(&self) -> Option<String> {
        Self::metrics(self).await.ok()
    }

    async fn health(&self) -> Health {
        let Ok(Reply::Status(status)) = self.execute(Command::Status).await else {
            return Health { good: false, details: json!({ "line": "ended" }) };
        };
        let details = json!({
            "line": status.line,
            "directories": status.directories,
            "peers": status.peers,
            "calls": status.calls.len(),
        });
        Health { good: status.line == LineState::Online, details }
    }
}

/// A running server. It ends when it is dropped, or by [`Http::stop`].
#[derive(Debug)]
pub struct Http {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Http {
    /// Binds `addr` (port 0: any free one) and serves.
    ///
    /// # Errors
    /// [`HttpError`]; nothing is served then.
    pub async fn bind<T: Observed>(addr: SocketAddr, observed: T) -> Result<Self, HttpError> {
        let failed = |error| HttpError { addr, error };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let router = Router::new()
            .route("/metrics", get(metrics::<T>))
            .route("/health", get(health::<T>))
            .with_state(observed);
        let serve = axum::serve(listener, router).with_graceful_shutdown(async {
            // A dropped sender stops it too.
            let _ = stopped.await;
        });
        let task = tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::warn!(%error, "the HTTP server has stopped");
            }
        });
        Ok(Self { addr, stop, task })
    }

    /// Where it serves.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends it: requests under way are answered.
    pub async fn stop(self) {
        // A server that has failed does not wait for this.
        let _ = self.stop.send(());
        // Connections that are kept open without a request need not be waited for.
        let abort = self.task.abort_handle();
        if tokio::time::timeout(TO_END, self.task).await.is_err() {
            abort.abort();
        }
    }
}

async fn metrics<T: Observed>(State(observed): State<T>) -> Response {
    match observed.metrics().await {
        Some(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn health<T: Observed>(State(observed): State<T>) -> Response {
    let Health { good, details } = observed.health().await;
    let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, [(header::CONTENT_TYPE, "application/json")], details.to_string()).into_response()
}
