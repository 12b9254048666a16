//! Changing ID and password, and getting in without a password.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use offhook::storage::AccountId;
use offhook_proto::request::{Action, Digest};
use serde::Deserialize;
use serde_json::json;

use super::error::ApiError;
use super::json::{Body, Bytes};
use super::login::{self, Entry};
use super::opaque::Opaque;
use super::signed::{Request, check_backup};
use super::visitor::{self, Visitor};
use super::{App, limits};
use crate::store::NewCredentials;

/// The first message of the new password's registration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    new_id: String,
    request: Bytes,
}

/// Begins to change ID and password; the ID may stay.
pub(super) async fn start(
    State(app): State<App>,
    visitor: Visitor,
    visitor::From(network): visitor::From,
    Body(start): Body<Start>,
) -> Result<Response, ApiError> {
    visitor.check_recent(&app)?;
    let id = free_id(&app, &visitor, &start.new_id).await?;
    let own = app.0.store.account(&visitor.session.identity).await?.is_some_and(|own| own.id == id);
    app.0.store.attempt(limits::evaluate(id.as_str(), &network, own), app.now()).await?;
    app.0.meters.evaluated("register");
    let response = app.0.opaque.register(&id, &start.request.0)?;
    Ok(Json(json!({ "id": id.as_str(), "response": Bytes(response) })).into_response())
}

/// The ID in its normal form, if nobody else has it. It costs a change: otherwise all IDs could be tried.
async fn free_id(app: &App, visitor: &Visitor, typed: &str) -> Result<AccountId, ApiError> {
    let id = login::account_id(typed)?;
    app.0.store.attempt(limits::change(&visitor.session.identity), app.now()).await?;
    let other = app.0.store.account_by_id(&id).await?;
    if other.is_some_and(|other| other.identity != visitor.session.identity) {
        return Err(ApiError::IdTaken);
    }
    Ok(id)
}

/// The last message of the new password's registration, and the backup that the password opens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Finish {
    new_id: String,
    upload: Bytes,
    backup: Bytes,
    version: u64,
    signed: Bytes,
}

/// Changes ID and password. All sessions end, so that whoever has one of them no longer has; the one that asks goes on as a new one.
pub(super) async fn finish(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    Body(body): Body<Finish>,
) -> Result<Response, ApiError> {
    visitor.check_recent(&app)?;
    let identity = visitor.session.identity;
    let id = free_id(&app, &visitor, &body.new_id).await?;
    let request = Request::of(&app, &body.signed, &identity)?;
    request.is_for(&Action::Credentials {
        id: id.as_str().to_owned(),
        upload: Digest::of(&body.upload.0),
        version: body.version,
        backup: Digest::of(&body.backup.0),
    })?;
    check_backup(&body.backup, body.version)?;
    let password_file = Opaque::registered(&body.upload.0)?;
    request.once(&app).await?;
    let password = Some(password_file.hash());
    let new = NewCredentials { id, password_file, version: body.version, backup: body.backup.0 };
    app.0.store.change_credentials(&identity, new, app.now()).await?;
    let entry = Entry { password, paid: Vec::new(), place: None, status: StatusCode::OK };
    login::let_in(&app, &headers, &identity, entry, visitor.is_program).await
}

/// That somebody has the recovery words, which are the identity key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recover {
    signed: Bytes,
    /// Whether a program asks, which gets the token instead of a cookie.
    #[serde(default)]
    token: bool,
}

/// Lets in whoever has the identity key; as good as a password that was typed just now.
pub(super) async fn recover(
    State(app): State<App>,
    visitor::From(network): visitor::From,
    headers: HeaderMap,
    Body(body): Body<Recover>,
) -> Result<Response, ApiError> {
    app.in_pace()?;
    let paid = limits::recover(&network);
    app.0.store.attempt(paid.clone(), app.now()).await?;
    let request = Request::of_anybody(&app, &body.signed)?;
    request.is_for(&Action::Recover)?;
    let identity = request.verified.request.identity;
    if app.0.store.account(&identity).await?.is_none() {
        return Err(ApiError::NotFound);
    }
    request.once(&app).await?;
    let entry = Entry { password: None, paid, place: None, status: StatusCode::OK };
    login::let_in(&app, &headers, &identity, entry, body.token).await
}
