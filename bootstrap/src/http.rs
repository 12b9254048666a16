//! `/health` and `/metrics`.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use offhook::net::Net;
use std::future::Future;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Serve on `listener` until `stop` is ready.
pub(crate) async fn serve(
    listener: TcpListener,
    net: Net,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let app = Router::new().route("/health", get(health)).route("/metrics", get(metrics)).with_state(net);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(stop)
        .await
}

/// 200 while the node listens, 503 otherwise; with a few figures for people.
async fn health(State(net): State<Net>) -> impl IntoResponse {
    let status = net.status();
    let up = !status.listen.is_empty();
    let code = if up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({
        "status": if up { "ok" } else { "not listening" },
        "peers": status.peers,
        "terminals": status.registered,
        "records": status.records,
        "dht_nodes": status.dht_nodes,
    });
    (code, Json(body))
}

async fn metrics(State(net): State<Net>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], net.metrics())
}
