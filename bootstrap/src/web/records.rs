//! The records of an account's numbers in the DHT: which terminals it has, and what its owner has signed anew. A terminal is revoked
//! by such a record, for which the directory has no key.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use offhook::net::{LookupEvent, Net, PublishError};
use offhook_proto::identity::{IdentityId, TerminalId};
use offhook_proto::number::{ChosenNumber, Number, RecordKey};
use offhook_proto::record::{self, CheckedSet, MAX_ENVELOPE_BYTES, RecordError, RecordSet};
use offhook_proto::wire::{self, UnixMillis};
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::json::{Body, Bytes, Hex};
use super::visitor::{self, Visitor};
use super::{App, limits};

/// How long all of an account's numbers are looked for. One that is found takes a second.
const LOOK_UP_TIME: Duration = Duration::from_secs(5);

/// What the records say.
#[derive(Serialize)]
pub(super) struct View {
    terminals: Vec<TerminalView>,
    /// The account record of each number of which one was found.
    records: Vec<Bytes>,
}

/// A terminal as it is sent.
#[derive(Serialize)]
struct TerminalView {
    terminal: Hex,
    certified: UnixMillis,
    expires: UnixMillis,
    online: bool,
}

/// The account's terminals, as far as they are found.
pub(super) async fn terminals(
    State(app): State<App>,
    visitor: Visitor,
    visitor::From(network): visitor::From,
) -> Result<Json<View>, ApiError> {
    let identity = visitor.session.identity;
    app.0.store.attempt(limits::look_up(&network), app.now()).await?;
    let net = node(&app)?;
    let keys = keys_of(&app, &identity).await?;
    let found = join_all(keys.into_iter().map(|key| look_up(&net, key, identity))).await;
    let sets: Vec<CheckedSet> = found.into_iter().flatten().collect();
    let records = sets.iter().filter_map(|set| Some(Bytes(wire::encode(&set.account.as_ref()?.signed()))));
    Ok(Json(View { records: records.collect(), terminals: terminals_of(&sets, app.now()) }))
}

fn terminals_of(sets: &[CheckedSet], now: UnixMillis) -> Vec<TerminalView> {
    // Of a terminal with several numbers: on line where one of its records says so.
    let mut terminals: BTreeMap<TerminalId, TerminalView> = BTreeMap::new();
    for record in sets.iter().flat_map(|set| &set.terminals) {
        let certificate = record.certificate();
        let online = record.is_live(now) && !record.addrs.is_empty();
        let view = terminals.entry(record.terminal()).or_insert_with(|| TerminalView {
            terminal: Hex(*record.terminal().as_bytes()),
            certified: certificate.not_before,
            expires: certificate.not_after,
            online,
        });
        view.online |= online;
        view.certified = view.certified.max(certificate.not_before);
        view.expires = view.expires.max(certificate.not_after);
    }
    terminals.into_values().collect()
}

/// The newest that is known of the identity under a number.
async fn look_up(net: &Net, key: RecordKey, identity: IdentityId) -> Option<CheckedSet> {
    let mut look_up = net.lookup(key, &[]);
    let mut newest = None;
    let search = async {
        while let Some(event) = look_up.next().await {
            match event {
                LookupEvent::Found { set, .. } if is_of(&set, &identity) => newest = Some(set),
                LookupEvent::Found { .. } => {}
                LookupEvent::Finished { .. } => return,
            }
        }
    };
    // What has been found by then is good all the same.
    let _ = tokio::time::timeout(LOOK_UP_TIME, search).await;
    newest
}

fn is_of(set: &CheckedSet, identity: &IdentityId) -> bool {
    set.account.as_ref().is_some_and(|account| account.identity == *identity)
}

/// Where the records of an account's numbers lie.
async fn keys_of(app: &App, identity: &IdentityId) -> Result<Vec<RecordKey>, ApiError> {
    let account = app.0.store.account(identity).await?.ok_or(ApiError::NoSession)?;
    let held =
        app.0.store.numbers_of(identity).await?.into_iter().filter(|held| held.given_until <= app.now());
    let directory = Some(app.0.issuer.directory());
    let name = app.0.config.name.as_deref();
    let chosen = held.filter_map(|held| ChosenNumber::new(&held.name, name).ok()).map(Number::Chosen);
    let numbers = std::iter::once(Number::Plain(account.number)).chain(chosen);
    Ok(numbers.filter_map(|number| number.record_key(directory)).collect())
}

fn node(app: &App) -> Result<Net, ApiError> {
    app.0.config.node.borrow().clone().ok_or(ApiError::NoNode)
}

/// An account record that its owner has signed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signed {
    record: Bytes,
}

/// Publishes a record of the account, which must be later than the one that is held.
pub(super) async fn publish(
    State(app): State<App>,
    visitor: Visitor,
    Body(body): Body<Signed>,
) -> Result<Response, ApiError> {
    let identity = visitor.session.identity;
    app.0.store.attempt(limits::change(&identity), app.now()).await?;
    let net = node(&app)?;
    let malformed = |_| ApiError::Malformed("that is no account record".to_owned());
    let account = wire::decode(&body.record.0, MAX_ENVELOPE_BYTES).map_err(malformed)?;
    let set = RecordSet { account: Some(account), terminals: Vec::new() };
    let (key, checked) = check(&keys_of(&app, &identity).await?, &set, app.now())?;
    if !is_of(&checked, &identity) {
        return Err(ApiError::OtherIdentity);
    }
    match net.publish(key, set).await {
        // It is held here, where everybody asks who knows the directory; those nearer to the number get it from its terminals.
        Ok(_) | Err(PublishError::Offline | PublishError::NotHeld(_) | PublishError::Disk) => {
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Err(error) => Err(refused(error)),
    }
}

/// A record of one of these numbers.
fn check(keys: &[RecordKey], set: &RecordSet, now: UnixMillis) -> Result<(RecordKey, CheckedSet), ApiError> {
    let bytes = set.encode();
    for key in keys {
        match record::check(key, &bytes, now) {
            Ok(checked) => return Ok((*key, checked)),
            Err(RecordError::WrongKey) => {}
            Err(error) => return Err(unfit(error)),
        }
    }
    Err(ApiError::NotFound)
}

fn unfit(error: RecordError) -> ApiError {
    match error {
        RecordError::Stale => ApiError::Stale,
        RecordError::Incumbent => ApiError::NumberTaken,
        RecordError::Proof(_) => ApiError::BadProof,
        // Somebody else's transfers are in it, or the last of them leads to somebody else.
        RecordError::OtherIdentity | RecordError::Transfer(_) => ApiError::OtherIdentity,
        RecordError::BadSignature => ApiError::OtherRequest,
        RecordError::SetTooLarge(_)
        | RecordError::EnvelopeTooLarge(_)
        | RecordError::Malformed
        | RecordError::Empty
        | RecordError::TooManyTerminals
        | RecordError::TooManyEntries
        | RecordError::Duplicate
        | RecordError::WrongKey
        | RecordError::FutureSequence
        | RecordError::Expired
        | RecordError::Lifetime
        | RecordError::Cert(_)
        | RecordError::Revoked
        | RecordError::NoAccount => ApiError::Malformed(error.to_string()),
    }
}

fn refused(error: PublishError) -> ApiError {
    match error {
        PublishError::Invalid(error) => unfit(error),
        PublishError::Proof => ApiError::BadProof,
        PublishError::Incumbent => ApiError::NumberTaken,
        PublishError::Untimely | PublishError::Descriptor(_) => ApiError::Malformed(error.to_string()),
        PublishError::Stopped | PublishError::Disk | PublishError::Offline | PublishError::NotHeld(_) => {
            ApiError::NoNode
        }
    }
}
