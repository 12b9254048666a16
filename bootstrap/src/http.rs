//! `/metrics` for Prometheus and `/health` for whoever restarts what is sick.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use offhook::net::Net;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::warn;

/// The content type of the OpenMetrics text format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The address is taken, or not ours.
#[derive(Debug, Error)]
#[error(
    "cannot serve /metrics and /health on {addr}: {error}; choose another address with --http, or \"none\""
)]
pub struct HttpError {
    addr: SocketAddr,
    error: std::io::Error,
}

/// The running server.
pub(crate) struct Http {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Http {
    pub(crate) async fn bind(addr: SocketAddr, net: Net) -> Result<Self, HttpError> {
        let failed = |error| HttpError { addr, error };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let router =
            Router::new().route("/metrics", get(metrics)).route("/health", get(health)).with_state(net);
        let serve = axum::serve(listener, router).with_graceful_shutdown(async {
            // A dropped sender stops it too.
            let _ = stopped.await;
        });
        let task = tokio::spawn(async move {
            if let Err(error) = serve.await {
                warn!(%error, "the HTTP server has stopped");
            }
        });
        Ok(Self { addr, stop, task })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        // Connections that are kept open without a request need not be waited for.
        let abort = self.task.abort_handle();
        if tokio::time::timeout(std::time::Duration::from_secs(1), self.task).await.is_err() {
            abort.abort();
        }
    }
}

async fn metrics(State(net): State<Net>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, OPENMETRICS)], net.metrics())
}

/// 200 while the node listens, 503 before and after.
async fn health(State(net): State<Net>) -> impl IntoResponse {
    let status = net.status();
    let healthy = !status.listen.is_empty() && net.is_running();
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({
        "status": if healthy { "ok" } else { "down" },
        "peers": status.peers,
        "dht_nodes": status.dht_nodes,
        "records": status.records,
        "registered": status.registered,
    });
    (code, [(header::CONTENT_TYPE, "application/json")], body.to_string())
}
