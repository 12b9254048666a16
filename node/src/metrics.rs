//! Prometheus metrics and a health check over HTTP.

use crate::exit::Failure;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use offhook::api::{Command, Reply};
use offhook::phone::Phone;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Binds `addr` and serves `/metrics` and `/health` until `quit`. Gives the address, whose port is chosen
/// by the system if it was 0.
pub async fn serve(addr: SocketAddr, phone: Phone, quit: CancellationToken) -> Result<SocketAddr, Failure> {
    let failed =
        |error: std::io::Error| Failure::failed(format!("Metrics can't be served at {addr}: {error}."));
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let routes =
        Router::new().route("/metrics", get(metrics)).route("/health", get(health)).with_state(phone);
    tokio::spawn(async move {
        let server = axum::serve(listener, routes).with_graceful_shutdown(quit.cancelled_owned());
        if let Err(error) = server.await {
            tracing::warn!(%error, "metrics");
        }
    });
    Ok(bound)
}

async fn metrics(State(phone): State<Phone>) -> Response {
    match phone.metrics().await {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.message).into_response(),
    }
}

async fn health(State(phone): State<Phone>) -> Response {
    match phone.execute(Command::Status).await {
        Ok(Reply::Status(status)) if status.online => (StatusCode::OK, "on line\n").into_response(),
        Ok(_) => (StatusCode::SERVICE_UNAVAILABLE, "off line\n").into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.message).into_response(),
    }
}
