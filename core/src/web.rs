//! The web server behind a directory's [front](crate::net::Front): what the public sees of a directory, and the WebSocket
//! by which terminals reach it where nothing but the web gets through. Feature `http`.
//!
//! `/metrics` and `/health` are not here: they are for whoever runs the directory ([`Http`](crate::http::Http)).

mod paced;

use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, body::Body};
use futures::FutureExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tracing::debug;

use crate::net::{Ends, Entrance, FrontService, FrontStream, WS_PATH};
pub use paced::{Pace, Paced};

/// A request's header must be there by then, and a connection is closed after this whatever it does, unless it has become
/// a WebSocket.
const HEADER_TIME: Duration = Duration::from_secs(5);
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// The same where there is a site, of which somebody with a slow line may want a large file.
const SITE_TIME: Duration = Duration::from_secs(600);

/// Longest header of a request, bytes.
const MAX_HEADER: usize = 16 * 1024;

/// What somebody sees who looks with a browser.
const LANDING: &str = "This is a directory of the Offhook telephone network. Telephones speak to it; there is nothing to see.\n";

/// The web server as a front wants it.
pub fn service(entrance: Entrance) -> FrontService {
    let router = Router::new().route("/", get(landing)).route(WS_PATH, get(websocket)).with_state(entrance);
    std::sync::Arc::new(move |stream, ends| serve(router.clone(), stream, ends, CONNECTION_TIME).boxed())
}

/// The same with a site at all paths but the WebSocket's. Each of its requests has the [`Ends`] of its connection as an extension.
pub fn service_with_site(entrance: Entrance, site: Router) -> FrontService {
    let router = Router::new().route(WS_PATH, get(websocket)).with_state(entrance).fallback_service(site);
    std::sync::Arc::new(move |stream, ends| serve(router.clone(), stream, ends, SITE_TIME).boxed())
}

async fn serve(router: Router, stream: FrontStream, ends: Ends, time: Duration) {
    let stream = Paced::new(stream);
    let service = TowerToHyperService::new(router.layer(Extension(ends)).layer(Extension(stream.pace())));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    match tokio::time::timeout(time, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => debug!(%error, "a connection to the web server has failed"),
    }
}

async fn landing() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], LANDING).into_response()
}

/// Takes a WebSocket (RFC 6455 section 4.2) and lets it into the swarm.
async fn websocket(
    State(entrance): State<Entrance>,
    Extension(ends): Extension<Ends>,
    Extension(pace): Extension<Pace>,
    mut request: Request,
) -> Response {
    let Ok(response) = create_response_with_body(&request, Body::empty) else {
        return (StatusCode::UPGRADE_REQUIRED, [(header::UPGRADE, "websocket")]).into_response();
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match tokio::time::timeout(HEADER_TIME, upgrade).await {
            Ok(Ok(upgraded)) => {
                pace.end();
                entrance.enter_web(TokioIo::new(upgraded), ends).await;
            }
            Ok(Err(error)) => debug!(%error, "no WebSocket comes about"),
            Err(_) => debug!("no WebSocket comes about in time"),
        }
    });
    response
}
