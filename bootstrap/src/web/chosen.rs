//! An account's chosen numbers: claimed, renewed, released, given away. Each needs the identity's signature, and all but the gift are
//! written into the list.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use offhook_proto::identity::IdentityId;
use offhook_proto::list::Change;
use offhook_proto::number::{ChosenNumber, Number, Wish};
use offhook_proto::proof::{MAX_TRANSFER_BYTES, SignedTransfer, TRANSFER_LIFETIME, Transfer, TransferError};
use offhook_proto::request::Action;
use offhook_proto::wire;
use serde::Deserialize;
use serde_json::json;

use super::error::ApiError;
use super::json::{Body, Bytes};
use super::limits::Network;
use super::signed::Request;
use super::visitor::{self, Visitor};
use super::{App, limits};
use crate::store::{HeldNumber, Refused, StoreError};

/// A number that somebody wants.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Claim {
    number: String,
    signed: Bytes,
}

/// Gives a number to the account, if it is free or its owner has given it away to just this account.
pub(super) async fn claim(
    State(app): State<App>,
    visitor: Visitor,
    visitor::From(network): visitor::From,
    Body(body): Body<Claim>,
) -> Result<Response, ApiError> {
    let identity = visitor.session.identity;
    let wish = app.0.issuer.judge(&body.number)??;
    let request = Request::of(&app, &body.signed, &identity)?;
    let Action::Claim { number, transfer } = request.action() else { return Err(ApiError::OtherRequest) };
    if *number != Number::Chosen(wish.number.clone()) {
        return Err(ApiError::OtherRequest);
    }
    app.0.store.attempt(limits::change(&identity), app.now()).await?;
    // The answer to the request that gave it may have been lost.
    if let Some(held) = own(&app, &wish.number, &identity).await? {
        // One that has expired is no answer to any request.
        let is_good = app.now() <= held.expires;
        let held = if is_good {
            held.certificate
        } else {
            Some(certify_anew(&app, &wish.number, &held, &request).await?)
        };
        return Ok(certificate(StatusCode::CREATED, held.unwrap_or_default()));
    }
    let issued = match transfer {
        Some(transfer) => take_over(&app, &wish.number, transfer.clone(), &request, &network).await?,
        None => issue(&app, &wish, &request, &network).await?,
    };
    Ok(certificate(StatusCode::CREATED, issued))
}

fn certificate(status: StatusCode, certificate: Vec<u8>) -> Response {
    (status, Json(json!({ "certificate": Bytes(certificate) }))).into_response()
}

/// The number, if it is the account's and it has not given it away.
async fn own(
    app: &App,
    number: &ChosenNumber,
    identity: &IdentityId,
) -> Result<Option<HeldNumber>, ApiError> {
    let held = app.0.store.number(number.name()).await?;
    let now = app.now();
    Ok(held
        .filter(|held| held.identity == *identity && held.certificate.is_some() && held.given_until <= now))
}

async fn issue(app: &App, wish: &Wish, request: &Request, network: &Network) -> Result<Vec<u8>, ApiError> {
    let (identity, now) = (request.verified.request.identity, app.now());
    let certified = app.0.issuer.certify(&wish.number, identity, request.verified.request.at, now)?;
    app.0.store.check_claim(&certified.issue, now).await?;
    // Not for what is refused, such as names that somebody has: those who try several are no squatters.
    app.0.store.attempt(limits::issue(&identity, network), now).await?;
    request.once(app).await?;
    let change =
        Change::Issued { number: Number::Chosen(wish.number.clone()), identity, expires: certified.expires };
    app.0.store.claim_number(certified.issue, app.0.issuer.append(change, now), now).await?;
    Ok(certified.certificate)
}

async fn take_over(
    app: &App,
    number: &ChosenNumber,
    transfer: SignedTransfer,
    request: &Request,
    network: &Network,
) -> Result<Vec<u8>, ApiError> {
    let (identity, now) = (request.verified.request.identity, app.now());
    let told = check_transfer(app, number, &transfer)?;
    if told.to != identity {
        return Err(TransferError::Mismatch.into());
    }
    app.0.store.check_number_count(&identity).await?;
    app.0.store.attempt(limits::issue(&identity, network), now).await?;
    request.once(app).await?;
    let certified = app.0.issuer.certify(number, identity, told.at, now)?;
    let change = Change::Transferred {
        number: Number::Chosen(number.clone()),
        identity,
        expires: certified.expires,
        transfer,
    };
    let append = app.0.issuer.append(change, now);
    app.0.store.transfer_number(told.from, certified.issue, append).await.map_err(taken)?;
    Ok(certified.certificate)
}

/// A number that is not whose it was said to be is somebody's all the same.
fn taken(error: StoreError) -> ApiError {
    match error.refused() {
        Some(Refused::NotYours) => ApiError::NumberTaken,
        Some(_) | None => error.into(),
    }
}

fn check_transfer(app: &App, number: &ChosenNumber, transfer: &SignedTransfer) -> Result<Transfer, ApiError> {
    let told = transfer.verify_fresh(app.now())?;
    if told.number == app.0.issuer.key_of(number) { Ok(told) } else { Err(TransferError::Mismatch.into()) }
}

/// What is asked for in the account's name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signed {
    signed: Bytes,
}

/// The number in a path, in its full form. What this directory would not issue any more may still be somebody's.
fn named(app: &App, typed: Result<Path<String>, PathRejection>) -> Result<ChosenNumber, ApiError> {
    let Path(typed) = typed.map_err(|rejection| ApiError::Malformed(rejection.body_text()))?;
    let directory = app.0.config.name.as_deref().ok_or(ApiError::ChosenOff)?;
    match typed.parse::<Number>() {
        Ok(Number::Chosen(chosen)) if chosen.directory().is_none_or(|named| named == directory) => {
            chosen.with_directory(directory).map_err(|_| ApiError::NotFound)
        }
        Ok(_) | Err(_) => Err(ApiError::NotFound),
    }
}

/// The number in a path, and that its account has signed what is to be done with it. It costs a change.
async fn asked(
    app: &App,
    visitor: &Visitor,
    typed: Result<Path<String>, PathRejection>,
    body: &Signed,
    action: impl FnOnce(Number) -> Action,
) -> Result<(ChosenNumber, Request), ApiError> {
    let (number, identity) = (named(app, typed)?, visitor.session.identity);
    let request = Request::of(app, &body.signed, &identity)?;
    request.is_for(&action(Number::Chosen(number.clone())))?;
    app.0.store.attempt(limits::change(&identity), app.now()).await?;
    Ok((number, request))
}

/// Certifies a number of the account's for longer, if half of its time is over; else the certificate stays.
pub(super) async fn renew(
    State(app): State<App>,
    visitor: Visitor,
    typed: Result<Path<String>, PathRejection>,
    Body(body): Body<Signed>,
) -> Result<Response, ApiError> {
    let (number, request) = asked(&app, &visitor, typed, &body, |number| Action::Renew { number }).await?;
    let held = own(&app, &number, &visitor.session.identity).await?.ok_or(ApiError::NotFound)?;
    if !app.now().is_past_middle(held.issued, held.expires) {
        return Ok(certificate(StatusCode::OK, held.certificate.unwrap_or_default()));
    }
    Ok(certificate(StatusCode::OK, certify_anew(&app, &number, &held, &request).await?))
}

/// A new certificate of a number for whom has it.
async fn certify_anew(
    app: &App,
    number: &ChosenNumber,
    held: &HeldNumber,
    request: &Request,
) -> Result<Vec<u8>, ApiError> {
    let (identity, now) = (held.identity, app.now());
    request.once(app).await?;
    let certified = app.0.issuer.certify(number, identity, held.since, now)?;
    let (number, expires) = (Number::Chosen(number.clone()), certified.expires);
    let append = app.0.issuer.append(Change::Renewed { number, identity, expires }, now);
    app.0.store.renew_number(certified.issue, append, now).await?;
    Ok(certified.certificate)
}

/// Takes a number of the account's out of use.
pub(super) async fn release(
    State(app): State<App>,
    visitor: Visitor,
    typed: Result<Path<String>, PathRejection>,
    Body(body): Body<Signed>,
) -> Result<Response, ApiError> {
    let (number, request) = asked(&app, &visitor, typed, &body, |number| Action::Release { number }).await?;
    let (identity, now) = (visitor.session.identity, app.now());
    request.once(&app).await?;
    let (name, asked) = (number.name().to_owned(), request.verified.request.at);
    let change = Change::Released { number: Number::Chosen(number), identity, request: request.signed };
    app.0.store.release_number(&name, &identity, asked, app.0.issuer.append(change, now), now).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Keeps a number for whom the account has given it to, who claims it with what was signed here.
pub(super) async fn transfer(
    State(app): State<App>,
    visitor: Visitor,
    typed: Result<Path<String>, PathRejection>,
    Body(body): Body<Signed>,
) -> Result<Response, ApiError> {
    let (number, identity) = (named(&app, typed)?, visitor.session.identity);
    let transfer = wire::decode(&body.signed.0, MAX_TRANSFER_BYTES).map_err(|_| TransferError::Malformed)?;
    let told = check_transfer(&app, &number, &transfer)?;
    if told.from != identity {
        return Err(TransferError::Mismatch.into());
    }
    app.0.store.attempt(limits::change(&identity), app.now()).await?;
    let until = told.at.plus(TRANSFER_LIFETIME);
    app.0.store.give_number(number.name(), &identity, told.at, until).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
