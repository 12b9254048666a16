//! Logging in and out.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use offhook::storage::{AccountId, StorageError};
use offhook_proto::identity::IdentityId;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::account::AccountView;
use super::error::ApiError;
use super::json::{Body, Bytes};
use super::limits::Network;
use super::opaque::{BadMessage, LOGIN_TIME};
use super::visitor::{self, SESSION_TIME, Token, Visitor};
use super::{App, limits};
use crate::store::{Account, Limit, Memory, NewSession, Subject};

impl From<BadMessage> for ApiError {
    fn from(BadMessage: BadMessage) -> Self {
        Self::Malformed("that is no message of OPAQUE's".to_owned())
    }
}

/// The first message of a registration or a log-in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    pub(super) id: String,
    pub(super) request: Bytes,
}

/// An ID in its normal form.
pub(super) fn account_id(typed: &str) -> Result<AccountId, ApiError> {
    typed.parse().map_err(|error: StorageError| {
        if let StorageError::BadId(why) = error {
            ApiError::IdInvalid(why.to_owned())
        } else {
            ApiError::IdInvalid(error.to_string())
        }
    })
}

/// Begins a log-in. Unknown IDs are answered like known ones.
pub(super) async fn start(
    State(app): State<App>,
    visitor::From(network): visitor::From,
    headers: HeaderMap,
    Body(start): Body<Start>,
) -> Result<Response, ApiError> {
    let id = account_id(&start.id)?;
    app.in_pace()?;
    let account = app.0.store.account_by_id(&id).await?;
    let is_known = is_known(&app, &headers, account.as_ref(), &network).await?;
    app.0.store.attempt(limits::evaluate(id.as_str(), &network, is_known), app.now()).await?;
    let from = (network, is_known);
    let begun = app.0.opaque.begin(&id, account.as_ref(), &start.request.0, from, app.now())?;
    app.0.meters.evaluated("login");
    Ok(Json(json!({ "login": Bytes(begun.login), "response": Bytes(begun.response) })).into_response())
}

/// Whether the account's owner has lately logged in from there, or is logged in.
async fn is_known(
    app: &App,
    headers: &HeaderMap,
    account: Option<&Account>,
    network: &Network,
) -> Result<bool, ApiError> {
    let nobody = IdentityId::from_bytes([0; 32]);
    let identity = account.map(|account| &account.identity);
    let place = limits::known(identity.unwrap_or(&nobody), app.0.opaque.place(identity, network));
    // Asked for an ID that nobody has as well: the time tells nothing.
    if app.0.store.remembers(&place, app.now()).await? {
        return Ok(true);
    }
    let session = visitor::session_of(app, headers).await?;
    Ok(session.is_some_and(|session| Some(&session.identity) == identity))
}

/// The last message of a log-in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Finish {
    login: Bytes,
    finish: Bytes,
    /// Whether a program asks, which gets the token instead of a cookie.
    #[serde(default)]
    token: bool,
}

/// What whoever has logged in gets.
#[derive(Serialize)]
struct LoggedIn {
    csrf: String,
    account: AccountView,
    backup: BackupView,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// A backup as it is sent.
#[derive(Serialize)]
pub(super) struct BackupView {
    version: u64,
    data: Bytes,
}

impl BackupView {
    pub(super) async fn of(app: &App, identity: &IdentityId) -> Result<Self, ApiError> {
        let backup = app.0.store.backup(identity).await?.ok_or(ApiError::NoSession)?;
        Ok(Self { version: backup.version, data: Bytes(backup.bytes) })
    }
}

/// Ends a log-in with a new session.
pub(super) async fn finish(
    State(app): State<App>,
    headers: HeaderMap,
    Body(body): Body<Finish>,
) -> Result<Response, ApiError> {
    let now = app.now();
    let logged_in = app.0.opaque.finish(&body.login.0, &body.finish.0, now);
    let logged_in = logged_in.ok_or(ApiError::WrongCredentials)?;
    // What somebody has overheard and sends again makes no second session.
    let once = Limit::new(Subject::Login, &body.login.0, 1, 2 * LOGIN_TIME);
    app.0.store.attempt(vec![once], now).await.map_err(|error| match error.refused() {
        Some(_) => ApiError::WrongCredentials,
        None => error.into(),
    })?;
    let paid = limits::evaluate(&logged_in.id, &logged_in.network, logged_in.is_known);
    let place = app.0.opaque.place(Some(&logged_in.identity), &logged_in.network);
    let entry = Entry {
        password: Some(logged_in.password),
        paid,
        place: Some(limits::known(&logged_in.identity, place)),
        status: StatusCode::OK,
    };
    let_in(&app, &headers, &logged_in.identity, entry, body.token).await
}

/// How somebody gets in.
pub(super) struct Entry {
    /// Of the password that the account must still have, if one was asked for.
    pub(super) password: Option<[u8; 32]>,
    /// What the attempt has cost, which is given back.
    pub(super) paid: Vec<Limit>,
    /// From where, to be remembered.
    pub(super) place: Option<Memory>,
    /// Of the answer.
    pub(super) status: StatusCode,
}

/// Begins a session, with a new token always. The browser's old one is no good any more: nobody can have made the browser use one
/// that he knows.
pub(super) async fn let_in(
    app: &App,
    headers: &HeaderMap,
    identity: &IdentityId,
    entry: Entry,
    is_program: bool,
) -> Result<Response, ApiError> {
    let now = app.now();
    let (token, is_https) = (Token::new(), app.0.config.is_https);
    let instead_of = if is_program { None } else { visitor::browsers_token(headers, is_https) };
    let session = NewSession {
        token: token.hash(),
        identity: *identity,
        expires: now.plus(SESSION_TIME),
        instead_of: instead_of.map(|token| token.hash()),
        password: entry.password,
        remember: entry.place,
    };
    let account = AccountView::of(app, identity).await?;
    app.0.store.begin_session(session, entry.paid, now).await?;
    let backup = BackupView::of(app, identity).await?;
    let shown = is_program.then(|| token.text());
    let answer = Json(LoggedIn { csrf: token.csrf(), account, backup, token: shown });
    let mut response = (entry.status, answer).into_response();
    if !is_program {
        response.headers_mut().insert(header::SET_COOKIE, token.cookie(is_https));
    }
    Ok(response)
}

/// Ends the session.
pub(super) async fn log_out(State(app): State<App>, visitor: Visitor) -> Result<Response, ApiError> {
    app.0.store.end_session(&visitor.token.hash()).await?;
    Ok(goodbye(&app))
}

/// Nothing, and no cookie any more.
pub(super) fn goodbye(app: &App) -> Response {
    let cookie = Token::no_cookie(app.0.config.is_https);
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

/// Who is logged in.
pub(super) async fn session(State(app): State<App>, visitor: Visitor) -> Result<Response, ApiError> {
    let account = AccountView::of(&app, &visitor.session.identity).await?;
    Ok(Json(json!({ "csrf": visitor.token.csrf(), "account": account })).into_response())
}
