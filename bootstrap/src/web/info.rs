//! What the directory is, to anybody.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::App;
use super::json::Hex;
use crate::store::MAX_NUMBERS;

pub(super) async fn info(State(app): State<App>) -> Json<Value> {
    let config = &app.0.config;
    Json(json!({
        "name": config.name,
        "directory": Hex(*app.0.issuer.directory().as_bytes()),
        "signup": if config.is_open { "open" } else { "closed" },
        "chosen": config.name.is_some(),
        "max_numbers": MAX_NUMBERS,
        "version": env!("CARGO_PKG_VERSION"),
    }))
}
