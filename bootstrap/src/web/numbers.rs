//! Chosen numbers, to anybody: which are free, and the list of those that were issued.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use offhook_proto::number::{Number, WishError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::json::Bytes;
use super::{App, limits, visitor};
use crate::store::MAX_LIST_PAGE;

/// Whether a number is free.
pub(super) async fn look_up(
    State(app): State<App>,
    visitor::From(network): visitor::From,
    typed: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(typed) = typed.map_err(|rejection| ApiError::Malformed(rejection.body_text()))?;
    let Some(directory) = &app.0.config.name else { return Err(ApiError::ChosenOff) };
    let now = app.now();
    app.in_pace()?;
    app.0.store.attempt(limits::look_up(&network), now).await?;
    let wish = match app.0.issuer.judge(&typed)? {
        Ok(wish) => wish,
        Err(error) => {
            let state = if error == WishError::Reserved { "reserved" } else { "invalid" };
            let (number, reason, message) = (full(&typed, directory), error.code(), error.to_string());
            return Ok(Json(
                json!({ "number": number, "state": state, "reason": reason, "message": message }),
            ));
        }
    };
    let name = wish.number.name();
    if app.0.store.is_reserved(&wish.skeleton).await? {
        let (reason, message) = (WishError::Reserved.code(), WishError::Reserved.to_string());
        let number = wish.number.to_string();
        return Ok(Json(
            json!({ "number": number, "state": "reserved", "reason": reason, "message": message }),
        ));
    }
    let like = app.0.store.numbers_like(name, &wish.skeleton).await?;
    let held = like.iter().filter(|like| like.held_until > now).map(|like| like.name == name);
    // The same name goes before one that only looks like it.
    let state = match held.max() {
        Some(true) => "taken",
        Some(false) => "look_alike",
        None => "free",
    };
    Ok(Json(json!({ "number": wish.number.to_string(), "state": state })))
}

/// What was typed in its full form, as far as it has one.
fn full(typed: &str, directory: &str) -> String {
    match typed.parse::<Number>() {
        Ok(Number::Chosen(chosen)) if chosen.directory().is_none() => format!("{chosen}@{directory}"),
        Ok(number) => number.canonical(),
        Err(_) if typed.contains('@') => typed.to_owned(),
        Err(_) => format!("{typed}@{directory}"),
    }
}

/// From which entry on the list is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    #[serde(default)]
    from: u64,
}

/// A page of the list. The head is read first: every entry that it counts can be read then.
pub(super) async fn list(
    State(app): State<App>,
    from: Result<Query<From>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(From { from }) = from.map_err(|rejection| ApiError::Malformed(rejection.body_text()))?;
    app.in_pace()?;
    let head = app.0.store.list_head().await?;
    let entries = app.0.store.list(from, MAX_LIST_PAGE).await?;
    let entries: Vec<Bytes> = entries.into_iter().map(Bytes).collect();
    let length = head.length;
    let head = Bytes(app.0.issuer.head(head, app.now()));
    Ok(Json(json!({ "length": length, "head": head, "entries": entries })).into_response())
}
