//! How a request is refused: a status, a stable word that a page translates, and a sentence in English.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use offhook_proto::number::WishError;
use offhook_proto::proof::TransferError;
use offhook_proto::request::RequestError;
use serde_json::{Value, json};

use super::meters::StoreFailure;
use crate::store::{Refused, StoreError};

/// Why a request is refused.
#[derive(Debug)]
pub(super) enum ApiError {
    /// There is nothing at that path.
    NotFound,
    /// There is, but not for that method.
    MethodNotAllowed,
    /// The body or a parameter is not what it should be.
    Malformed(String),
    /// The body is too large.
    TooLarge,
    /// The body is not JSON.
    NotJson,
    /// The request took too long to come.
    TooSlow,
    /// Too many attempts.
    TooMany(Duration),
    /// ID or password, or both.
    WrongCredentials,
    /// Nobody is logged in.
    NoSession,
    /// The browser was made to ask by a page that is not ours.
    Csrf,
    /// It takes a password that was typed just now.
    LoginAgain,
    /// No ID, and why.
    IdInvalid(String),
    /// Somebody has it.
    IdTaken,
    /// The directory takes nobody.
    SignUpClosed,
    /// It has as many accounts as it may have.
    Full,
    /// The operator lets its owner in no more.
    AccountClosed,
    /// There is an account of this identity.
    IdentityTaken,
    /// The number is not the identity's.
    BadProof,
    /// The backup does not follow the stored one, which has this version.
    Version(u64),
    /// The signed request is refused.
    Request(RequestError),
    /// Something else was signed than was sent.
    OtherRequest,
    /// It was done already.
    Replayed,
    /// The gift of a number is refused.
    Transfer(TransferError),
    /// The directory has no name, and so no chosen numbers.
    ChosenOff,
    /// Nobody gets that number.
    Wish(WishError),
    /// Somebody has it.
    NumberTaken,
    /// Somebody has one that looks like it.
    LookAlike,
    /// The account has so many, and may have no more.
    TooManyNumbers(u64),
    /// Somebody else's record.
    OtherIdentity,
    /// A record that is not later than the one that is held.
    Stale,
    /// The directory's node does not run, yet or any more.
    NoNode,
    /// Whose fault it is stands in the log.
    Store(StoreError),
}

impl ApiError {
    fn status_and_word(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            Self::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many"),
            Self::WrongCredentials => (StatusCode::UNAUTHORIZED, "wrong_credentials"),
            Self::NoSession => (StatusCode::UNAUTHORIZED, "no_session"),
            Self::Csrf => (StatusCode::FORBIDDEN, "bad_csrf"),
            Self::LoginAgain => (StatusCode::FORBIDDEN, "login_again"),
            Self::IdInvalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "id_invalid"),
            Self::IdTaken => (StatusCode::CONFLICT, "id_taken"),
            Self::SignUpClosed => (StatusCode::FORBIDDEN, "signup_closed"),
            Self::Full => (StatusCode::FORBIDDEN, "directory_full"),
            Self::AccountClosed => (StatusCode::FORBIDDEN, "account_closed"),
            Self::IdentityTaken => (StatusCode::CONFLICT, "identity_taken"),
            Self::Version(_) => (StatusCode::CONFLICT, "version"),
            Self::Request(error) => (status_of(error.code()), error.code()),
            Self::OtherRequest => (StatusCode::FORBIDDEN, "bad_signature"),
            Self::Replayed => (StatusCode::CONFLICT, "replayed"),
            Self::Transfer(error) => (status_of(transfer_word(*error)), transfer_word(*error)),
            Self::ChosenOff => (StatusCode::NOT_FOUND, "chosen_off"),
            Self::Wish(WishError::Reserved) => (StatusCode::UNPROCESSABLE_ENTITY, "reserved"),
            Self::BadProof | Self::Wish(_) => (StatusCode::UNPROCESSABLE_ENTITY, "number_invalid"),
            Self::NumberTaken => (StatusCode::CONFLICT, "number_taken"),
            Self::LookAlike => (StatusCode::UNPROCESSABLE_ENTITY, "look_alike"),
            Self::TooManyNumbers(_) => (StatusCode::FORBIDDEN, "too_many_numbers"),
            Self::OtherIdentity => (StatusCode::FORBIDDEN, "other_identity"),
            Self::Stale => (StatusCode::CONFLICT, "stale"),
            Self::NoNode | Self::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::NotFound => "There is nothing here.".to_owned(),
            Self::MethodNotAllowed => "That cannot be done here.".to_owned(),
            Self::Malformed(what) => format!("The request is malformed: {what}"),
            Self::TooLarge => "The request is too large.".to_owned(),
            Self::NotJson => "The request is not JSON (application/json).".to_owned(),
            Self::TooSlow => "The request took too long.".to_owned(),
            Self::TooMany(wait) => format!("Too many attempts; try again in {} s.", seconds(*wait)),
            Self::WrongCredentials => "ID or password is wrong.".to_owned(),
            Self::NoSession => "Nobody is logged in.".to_owned(),
            Self::Csrf => "The request lacks the word that shows that it comes from this site.".to_owned(),
            Self::LoginAgain => "The password has to be entered again first.".to_owned(),
            Self::IdInvalid(why) => format!("That ID cannot be used: {why}."),
            Self::IdTaken => "That ID is taken.".to_owned(),
            Self::SignUpClosed => "This directory takes no new accounts.".to_owned(),
            Self::Full => "This directory has as many accounts as it can take.".to_owned(),
            Self::AccountClosed => {
                "This account was closed by the operator of the directory; please ask there.".to_owned()
            }
            Self::IdentityTaken => "This identity has an account here already.".to_owned(),
            Self::BadProof => "The number does not follow from this identity.".to_owned(),
            Self::Version(stored) => {
                format!("The stored backup has version {stored}; the next one must follow it.")
            }
            Self::Request(error) => format!("The signed request is refused: {error}."),
            Self::OtherRequest => "Something else was signed than what was sent.".to_owned(),
            Self::Replayed => "That was done already; it has to be signed again.".to_owned(),
            Self::Transfer(error) => format!("The transfer is refused: {error}."),
            Self::ChosenOff => "This directory has no chosen numbers.".to_owned(),
            Self::Wish(error) => error.to_string(),
            Self::NumberTaken => "That number is taken.".to_owned(),
            Self::LookAlike => "That number looks like one that is taken.".to_owned(),
            Self::TooManyNumbers(most) => format!("An account may have {most} chosen numbers here."),
            Self::OtherIdentity => "That is another identity's record.".to_owned(),
            Self::Stale => "A later record is held already.".to_owned(),
            Self::NoNode | Self::Store(_) => {
                "The directory cannot do that now; please try again later.".to_owned()
            }
        }
    }
}

/// What is wrong with a transfer, in the words for requests.
const fn transfer_word(error: TransferError) -> &'static str {
    match error {
        TransferError::TooLarge(_) | TransferError::Malformed | TransferError::Chain => "malformed",
        TransferError::BadSignature => "bad_signature",
        TransferError::Mismatch => "other_identity",
        TransferError::Untimely => "untimely",
    }
}

/// What cannot be read is nobody's; what can be is not for whoever sent it.
fn status_of(word: &str) -> StatusCode {
    if word == "malformed" { StatusCode::BAD_REQUEST } else { StatusCode::FORBIDDEN }
}

/// Whole seconds, rounded up, so that who waits so long has waited long enough.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, word) = self.status_and_word();
        if let Self::Store(error) = &self {
            tracing::error!(%error, "a request could not be served");
        }
        let mut body = json!({ "error": word, "message": self.sentence() });
        let mut retry = None;
        match &self {
            Self::TooMany(wait) => {
                body["retry_after_s"] = Value::from(seconds(*wait));
                retry = HeaderValue::from_str(&seconds(*wait).to_string()).ok();
            }
            Self::IdInvalid(why) => body["reason"] = Value::from(why.clone()),
            Self::Version(stored) => body["stored"] = Value::from(*stored),
            Self::TooManyNumbers(most) => body["max"] = Value::from(*most),
            Self::Wish(error) => body["reason"] = Value::from(error.code()),
            Self::BadProof => body["reason"] = Value::from("proof"),
            Self::NotFound
            | Self::MethodNotAllowed
            | Self::Malformed(_)
            | Self::TooLarge
            | Self::NotJson
            | Self::TooSlow
            | Self::WrongCredentials
            | Self::NoSession
            | Self::Csrf
            | Self::LoginAgain
            | Self::IdTaken
            | Self::SignUpClosed
            | Self::Full
            | Self::AccountClosed
            | Self::IdentityTaken
            | Self::Request(_)
            | Self::OtherRequest
            | Self::Replayed
            | Self::Transfer(_)
            | Self::ChosenOff
            | Self::NumberTaken
            | Self::LookAlike
            | Self::OtherIdentity
            | Self::Stale
            | Self::NoNode
            | Self::Store(_) => {}
        }
        let mut response = (status, Json(body)).into_response();
        if let Self::Store(error) = &self {
            response.extensions_mut().insert(StoreFailure::of(error));
        }
        if let Some(retry) = retry {
            response.headers_mut().insert(header::RETRY_AFTER, retry);
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error.refused() {
            Some(Refused::IdTaken) => Self::IdTaken,
            Some(Refused::NoAccount) => Self::NoSession,
            Some(Refused::TooMany { retry_after }) => Self::TooMany(retry_after),
            Some(Refused::PasswordChanged) => Self::WrongCredentials,
            Some(Refused::Closed) => Self::AccountClosed,
            Some(Refused::Reserved) => Self::Wish(WishError::Reserved),
            Some(Refused::IdentityTaken) => Self::IdentityTaken,
            Some(Refused::Version { stored }) => Self::Version(stored),
            Some(Refused::NumberTaken) => Self::NumberTaken,
            Some(Refused::LookAlike) => Self::LookAlike,
            Some(Refused::TooManyNumbers { most }) => Self::TooManyNumbers(most),
            Some(Refused::NotYours) => Self::NotFound,
            None => Self::Store(error),
        }
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl From<TransferError> for ApiError {
    fn from(error: TransferError) -> Self {
        Self::Transfer(error)
    }
}

impl From<WishError> for ApiError {
    fn from(error: WishError) -> Self {
        Self::Wish(error)
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::NotJson,
            _ => Self::Malformed(rejection.body_text()),
        }
    }
}

pub(super) async fn not_found() -> ApiError {
    ApiError::NotFound
}

pub(super) async fn method_not_allowed() -> ApiError {
    ApiError::MethodNotAllowed
}

#[cfg(test)]
mod tests {
    /// The words that a part of this file gives, which begins and ends with these.
    fn words(from: &str, to: &str) -> Vec<&'static str> {
        let (_, rest) = include_str!("error.rs").split_once(from).expect("it begins");
        let (part, _) = rest.split_once(to).expect("it ends");
        let quoted = part.split('"').skip(1).step_by(2);
        quoted.collect()
    }

    #[test]
    fn every_word_is_said_in_both_languages() {
        let mut words: Vec<_> = [("fn status_and_word", "fn sentence"), ("fn transfer_word", "fn status_of")]
            .into_iter()
            .flat_map(|(from, to)| words(from, to))
            .collect();
        assert!(words.contains(&"too_slow") && words.contains(&"untimely"), "{words:?}");
        words.extend(["malformed", "bad_signature", "other_directory", "other_identity", "clock"]);
        let catalogues =
            [include_str!("../../site/src/lib/i18n/en.ts"), include_str!("../../site/src/lib/i18n/ko.ts")];
        for (catalogue, language) in catalogues.into_iter().zip(["English", "Korean"]) {
            let errors = catalogue.split_once("\n  errors: {").map(|(_, errors)| errors).expect("errors");
            let missing: Vec<_> =
                words.iter().filter(|word| !errors.contains(&format!("\n    {word}:"))).collect();
            assert!(missing.is_empty(), "{language}: {missing:?}");
        }
    }
}
