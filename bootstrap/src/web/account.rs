//! What an account is, to its owner.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use offhook_proto::identity::IdentityId;
use offhook_proto::wire::UnixMillis;
use serde::Serialize;

use super::App;
use super::error::ApiError;
use super::json::Bytes;
use super::login::{self, BackupView};
use super::visitor::Visitor;

/// An account as it is sent.
#[derive(Serialize)]
pub(super) struct AccountView {
    id: String,
    identity: Bytes,
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
        let held = app.0.store.numbers_of(identity).await?;
        let name = app.0.config.name.as_deref().unwrap_or_default();
        let chosen = held.into_iter().map(|held| ChosenView {
            number: format!("{}@{name}", held.name),
            issued: held.issued,
            expires: held.expires,
            certificate: Bytes(held.certificate.unwrap_or_default()),
        });
        Ok(Self {
            id: account.id.to_string(),
            identity: Bytes(identity.as_bytes().to_vec()),
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
    Ok(Json(BackupView::of(&app, &visitor.session).await?).into_response())
}

/// Erases the account, for good: the password has to have been entered just now.
pub(super) async fn delete(State(app): State<App>, visitor: Visitor) -> Result<Response, ApiError> {
    visitor.check_recent(&app)?;
    app.0.store.delete_account(&visitor.session.identity, app.now()).await?;
    Ok(login::goodbye(&app))
}
