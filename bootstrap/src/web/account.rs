//! What an account is, to its owner.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use offhook_proto::identity::IdentityId;
use offhook_proto::request::{Action, Digest};
use offhook_proto::wire::UnixMillis;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::json::{Body, Bytes, Hex};
use super::login::{self, BackupView};
use super::signed::{Request, check_backup};
use super::visitor::Visitor;
use super::{App, limits};

/// An account as it is sent.
#[derive(Serialize)]
pub(super) struct AccountView {
    id: String,
    identity: Hex,
    number: String,
    chosen: Vec<ChosenView>,
    backup_version: u64,
    created: UnixMillis,
}

/// A chosen number as it is sent.
#[derive(Serialize)]
struct ChosenView {
    number: String,
    issued: UnixMillis,
    expires: UnixMillis,
    certificate: Bytes,
}

impl AccountView {
    pub(super) async fn of(app: &App, identity: &IdentityId) -> Result<Self, ApiError> {
        let account = app.0.store.account(identity).await?.ok_or(ApiError::NoSession)?;
        let (held, now) = (app.0.store.numbers_of(identity).await?, app.now());
        // What has been given away is kept for somebody else.
        let held = held.into_iter().filter(|held| held.given_until <= now);
        let name = app.0.config.name.as_deref().unwrap_or_default();
        let chosen = held.map(|held| ChosenView {
            number: format!("{}@{name}", held.name),
            issued: held.issued,
            expires: held.expires,
            certificate: Bytes(held.certificate.unwrap_or_default()),
        });
        Ok(Self {
            id: account.id.to_string(),
            identity: Hex(*identity.as_bytes()),
            number: account.number.as_str().to_owned(),
            chosen: chosen.collect(),
            backup_version: account.backup_version,
            created: account.created,
        })
    }
}

pub(super) async fn account(State(app): State<App>, visitor: Visitor) -> Result<Json<AccountView>, ApiError> {
    Ok(Json(AccountView::of(&app, &visitor.session.identity).await?))
}

pub(super) async fn backup(State(app): State<App>, visitor: Visitor) -> Result<Response, ApiError> {
    Ok(Json(BackupView::of(&app, &visitor.session.identity).await?).into_response())
}

/// The next backup.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NextBackup {
    version: u64,
    data: Bytes,
    signed: Bytes,
}

/// Puts a backup in the place of the one before.
pub(super) async fn put_backup(
    State(app): State<App>,
    visitor: Visitor,
    Body(body): Body<NextBackup>,
) -> Result<Response, ApiError> {
    let (identity, version) = (visitor.session.identity, body.version);
    app.0.store.attempt(limits::change(&identity), app.now()).await?;
    let request = Request::of(&app, &body.signed, &identity)?;
    request.is_for(&Action::Backup { version, backup: Digest::of(&body.data.0) })?;
    check_backup(&body.data, version)?;
    request.once(&app).await?;
    app.0.store.put_backup(&identity, version, body.data.0, app.now()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Erases the account, for good: the password has to have been entered just now.
pub(super) async fn delete(State(app): State<App>, visitor: Visitor) -> Result<Response, ApiError> {
    visitor.check_recent(&app)?;
    app.0.store.delete_account(&visitor.session.identity, None, app.now()).await?;
    Ok(login::goodbye(&app))
}
