//! Chosen numbers, to anybody: which are free, and the list of those that were issued.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use offhook_proto::number::{ChosenNumber, Number, NumberError, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::json::Bytes;
use super::{App, limits, visitor};
use crate::store::MAX_LIST_PAGE;

/// Words that nobody gets, because whoever has one could be taken for somebody he is not: the operator, or help in need.
const RESERVED: [&str; 34] = [
    "abuse",
    "admin",
    "administrator",
    "ambulance",
    "directory",
    "echo",
    "emergency",
    "fire",
    "help",
    "hostmaster",
    "info",
    "moderator",
    "offhook",
    "operator",
    "police",
    "postmaster",
    "root",
    "security",
    "service",
    "sos",
    "staff",
    "status",
    "support",
    "system",
    "test",
    "voicemail",
    "webmaster",
    "112",
    "110",
    "119",
    "911",
    "999",
    "관리자",
    "운영자",
];

/// Whether a number is free.
pub(super) async fn look_up(
    State(app): State<App>,
    visitor::From(network): visitor::From,
    typed: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(typed) = typed.map_err(|rejection| ApiError::Malformed(rejection.body_text()))?;
    let Some(directory) = &app.0.config.name else { return Err(ApiError::NotFound) };
    app.0.pace.attempt(app.now())?;
    app.0.store.attempt(limits::look_up(&network), app.now()).await?;
    let chosen = match typed.parse::<Number>().and_then(|number| chosen(number, directory)) {
        Ok(chosen) => chosen,
        Err(error) => {
            let (reason, message) = (reason(&error), error.to_string());
            return Ok(Json(json!({ "state": "invalid", "reason": reason, "message": message })));
        }
    };
    let (name, skeleton) = (chosen.name(), chosen.skeleton());
    let now = app.now();
    let state = if is_reserved(&chosen) {
        "reserved"
    } else if app.0.store.number(name).await?.is_some_and(|held| held.held_until > now) {
        "taken"
    } else if app.0.store.number_that_looks_like(&skeleton).await?.is_some_and(|held| held.held_until > now) {
        "look_alike"
    } else {
        "free"
    };
    Ok(Json(json!({ "number": format!("{name}@{directory}"), "state": state })))
}

/// The number, if it is one that this directory could issue.
fn chosen(number: Number, directory: &str) -> Result<ChosenNumber, NumberError> {
    match number {
        Number::Plain(_) => Err(Refusal::LooksPlain.into()),
        Number::Chosen(chosen) if chosen.directory().is_none_or(|named| named == directory) => Ok(chosen),
        Number::Chosen(_) => Err(Refusal::Directory.into()),
    }
}

/// Whether a word is kept back, or looks like one that is.
fn is_reserved(number: &ChosenNumber) -> bool {
    let looks_like = |word: &&str| {
        ChosenNumber::new(word, None).is_ok_and(|reserved| reserved.skeleton() == number.skeleton())
    };
    RESERVED.iter().any(looks_like)
}

/// A stable word for what is wrong with a number, which a page translates.
fn reason(error: &NumberError) -> &'static str {
    match error {
        NumberError::Empty => "empty",
        NumberError::Length { .. } => "length",
        NumberError::CheckDigit => "check_digit",
        NumberError::TooLong => "too_long",
        NumberError::NotCanonical => "not_canonical",
        NumberError::Refused(refusal) => match refusal {
            Refusal::Blank => "blank",
            Refusal::Invisible => "invisible",
            Refusal::Character(_) => "character",
            Refusal::LeadingMark => "leading_mark",
            Refusal::Direction => "direction",
            Refusal::CountryCode => "country_code",
            Refusal::LooksPlain => "looks_plain",
            Refusal::PlainAtDirectory => "plain_at_directory",
            Refusal::Directory => "directory",
            Refusal::Link => "link",
        },
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
    app.0.pace.attempt(app.now())?;
    let head = app.0.store.list_head().await?;
    let entries = app.0.store.list(from, MAX_LIST_PAGE).await?;
    let entries: Vec<Bytes> = entries.into_iter().map(Bytes).collect();
    Ok(Json(json!({ "length": head.length, "head": Bytes(head.head), "entries": entries })).into_response())
}
