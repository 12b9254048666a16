//! What the directory is and how it does, to anybody.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use offhook_proto::wire::UnixMillis;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::App;
use super::error::ApiError;
use super::json::Hex;
use crate::store::MAX_NUMBERS;

/// How long a count of the accounts is good for: the database counts them one by one.
const COUNT_TIME: Duration = Duration::from_secs(60);

/// How many accounts there were, and when they were counted.
pub(super) type Counted = Mutex<Option<(UnixMillis, u64)>>;

pub(super) async fn info(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    app.in_pace()?;
    let config = &app.0.config;
    Ok(Json(json!({
        "name": config.name,
        "directory": Hex(*app.0.issuer.directory().as_bytes()),
        "signup": if config.is_open { "open" } else { "closed" },
        "chosen": config.name.is_some(),
        "max_numbers": MAX_NUMBERS,
        "version": env!("CARGO_PKG_VERSION"),
        "downloads": app.0.downloads.list().await,
        "node": node(&app).await?,
    })))
}

/// How the node does; of the accounts only how many there are.
async fn node(app: &App) -> Result<Value, ApiError> {
    let config = &app.0.config;
    let mut node = json!({
        "started": app.0.started,
        "accounts": accounts(app).await?,
        "relay": config.reach.borrow().turn.is_some(),
        // There is no API for messages yet.
        "mailbox": false,
    });
    // It starts after the site.
    let status = config.node.borrow().as_ref().map(offhook::net::Net::status);
    if let Some(status) = status {
        node["status"] = "ok".into();
        node["peers"] = status.peers.into();
        node["registered"] = status.registered.into();
        node["dht_nodes"] = status.dht_nodes.into();
        node["records"] = status.records.into();
    }
    Ok(node)
}

async fn accounts(app: &App) -> Result<u64, ApiError> {
    count(app, &app.0.accounts).await
}

/// How many accounts there are, as far as was counted in the last minute.
pub(super) async fn count(app: &App, counted: &Counted) -> Result<u64, ApiError> {
    let now = app.now();
    let mut counted = counted.lock().await;
    if let Some((at, count)) = *counted
        && at <= now
        && now.since(at) < COUNT_TIME
    {
        return Ok(count);
    }
    let count = app.0.store.count_accounts().await?;
    *counted = Some((now, count));
    Ok(count)
}
