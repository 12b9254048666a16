//! Signing up.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use offhook_proto::identity::IdentityId;
use offhook_proto::number::{Number, PlainNumber};
use offhook_proto::proof::{PlainProof, verify_plain};
use offhook_proto::request::{Action, Digest};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use super::error::ApiError;
use super::json::{Body, Bytes, Hex};
use super::login::{self, Entry, Start};
use super::opaque::Opaque;
use super::signed::{Request, check_backup};
use super::visitor;
use super::{App, info, limits};
use crate::store::NewAccount;

/// The first backup has this version.
const FIRST_VERSION: u64 = 1;

/// Begins a sign-up. That an ID is taken is no secret: whoever wants it has to be told.
pub(super) async fn start(
    State(app): State<App>,
    visitor::From(network): visitor::From,
    Body(start): Body<Start>,
) -> Result<Response, ApiError> {
    check_open(&app)?;
    let id = login::account_id(&start.id)?;
    app.in_pace()?;
    app.0.store.attempt(limits::sign_up(&network), app.now()).await?;
    check_room(&app).await?;
    app.0.store.attempt(limits::evaluate(id.as_str(), &network, false), app.now()).await?;
    if app.0.store.account_by_id(&id).await?.is_some() {
        return Err(ApiError::IdTaken);
    }
    app.0.meters.evaluated("register");
    let response = app.0.opaque.register(&id, &start.request.0)?;
    Ok(Json(json!({ "id": id.as_str(), "response": Bytes(response) })).into_response())
}

fn check_open(app: &App) -> Result<(), ApiError> {
    if app.0.config.is_open { Ok(()) } else { Err(ApiError::SignUpClosed) }
}

/// Whether one more account is within what the operator permits. Those that are made at the same moment, or by other processes within
/// a minute, may be a few too many: to count a hundred thousand takes too long for each step of each visitor.
async fn check_room(app: &App) -> Result<(), ApiError> {
    let most = app.0.config.accounts;
    if info::count(app, &app.0.room).await? < most {
        return Ok(());
    }
    // Nobody is refused for what was so a minute ago.
    *app.0.room.lock().await = None;
    if info::count(app, &app.0.room).await? < most { Ok(()) } else { Err(ApiError::Full) }
}

/// One account more is here.
async fn count_in(app: &App) {
    if let Some((_, count)) = &mut *app.0.room.lock().await {
        *count += 1;
    }
}

/// The last message of a registration, with all that the account is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Finish {
    id: String,
    upload: Bytes,
    identity: Hex,
    number: String,
    proof_nonce: u64,
    backup: Bytes,
    signed: Bytes,
    /// Whether a program asks, which gets the token instead of a cookie.
    #[serde(default)]
    token: bool,
}

/// Makes the account, and lets its owner in.
pub(super) async fn finish(
    State(app): State<App>,
    visitor::From(network): visitor::From,
    headers: HeaderMap,
    Body(body): Body<Finish>,
) -> Result<Response, ApiError> {
    check_open(&app)?;
    let now = app.now();
    let id = login::account_id(&body.id)?;
    app.in_pace()?;
    app.0.store.attempt(limits::sign_up(&network), now).await?;
    check_room(&app).await?;
    let identity = IdentityId::from_bytes(body.identity.0);
    let number = plain(&body.number)?;
    let request = Request::of(&app, &body.signed, &identity)?;
    request.is_for(&Action::SignUp {
        id: id.as_str().to_owned(),
        number: Number::Plain(number),
        nonce: body.proof_nonce,
        upload: Digest::of(&body.upload.0),
        backup: Digest::of(&body.backup.0),
    })?;
    check_backup(&body.backup, FIRST_VERSION)?;
    let password_file = Opaque::registered(&body.upload.0)?;
    let proof = PlainProof { nonce: body.proof_nonce };
    check_proof(&app, identity, proof, number).await?;
    // Last, so that who is refused because too many come at once need not sign again.
    request.once(&app).await?;
    let password = Some(password_file.hash());
    let place = app.0.opaque.place(Some(&identity), &network);
    let account = NewAccount { identity, id, number, proof, password_file, backup: body.backup.0 };
    app.0.store.sign_up(account, now).await?;
    count_in(&app).await;
    let place = Some(limits::known(&identity, place));
    let entry = Entry { password, paid: Vec::new(), place, status: StatusCode::CREATED };
    login::let_in(&app, &headers, &identity, entry, body.token).await
}

fn plain(text: &str) -> Result<PlainNumber, ApiError> {
    let malformed = || ApiError::Malformed("that is no number of twelve digits".to_owned());
    match text.parse::<Number>() {
        Ok(Number::Plain(number)) => Ok(number),
        Ok(Number::Chosen(_)) | Err(_) => Err(malformed()),
    }
}

/// The slow hash that shows whose number it is; few at a time, each takes some megabytes.
async fn check_proof(
    app: &App,
    identity: IdentityId,
    proof: PlainProof,
    number: PlainNumber,
) -> Result<(), ApiError> {
    if in_place(&app.0.proofs, move || verify_plain(&identity, &proof, &number)).await? {
        Ok(())
    } else {
        Err(ApiError::BadProof)
    }
}

/// Its place is taken until it is done, even if nobody waits for it any more.
async fn in_place(
    places: &Arc<Semaphore>,
    check: impl FnOnce() -> bool + Send + 'static,
) -> Result<bool, ApiError> {
    // It is never closed.
    let place = Arc::clone(places).acquire_owned().await.map_err(|_| ApiError::TooSlow)?;
    let checked = tokio::task::spawn_blocking(move || {
        let is_good = check();
        drop(place);
        is_good
    });
    Ok(matches!(checked.await, Ok(true)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_hash_that_nobody_waits_for_any_more_keeps_its_place_until_it_is_done() {
        let places = Arc::new(Semaphore::new(1));
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let check = in_place(&places, move || ended.recv().is_ok());
        assert!(tokio::time::timeout(Duration::from_millis(50), check).await.is_err(), "it goes on");
        assert_eq!(places.available_permits(), 0);
        end.send(()).expect("it waits");
        assert!(matches!(in_place(&places, || true).await, Ok(true)), "it has ended");
        assert!(matches!(in_place(&places, || false).await, Ok(false)));
    }
}
