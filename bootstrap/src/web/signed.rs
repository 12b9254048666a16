//! Requests that an identity has signed. A session alone touches nothing of the identity: whoever steals one has no such signature.
//! What was signed has to be what was sent, and is done once.

use std::time::Duration;

use offhook_proto::backup::{BackupError, SealedBackup};
use offhook_proto::identity::IdentityId;
use offhook_proto::request::{Action, REQUEST_WINDOW, SignedRequest, Verified};

use super::App;
use super::error::ApiError;
use super::json::Bytes;
use crate::store::{Limit, Refused, Subject};

/// How long it is remembered what was done: as long as a request is good at most, and a little longer.
const REMEMBERED: Duration = Duration::from_secs(2 * REQUEST_WINDOW.as_secs() + 1);

/// A request that is good, but for whether it was done already.
pub(super) struct Request {
    pub(super) signed: SignedRequest,
    pub(super) verified: Verified,
}

impl Request {
    /// Whoever has signed it.
    pub(super) fn of_anybody(app: &App, signed: &Bytes) -> Result<Self, ApiError> {
        let signed = SignedRequest::from_bytes(&signed.0)?;
        let verified = signed.verify(app.0.issuer.directory(), app.now())?;
        Ok(Self { signed, verified })
    }

    /// Signed by this identity.
    pub(super) fn of(app: &App, signed: &Bytes, identity: &IdentityId) -> Result<Self, ApiError> {
        let signed = SignedRequest::from_bytes(&signed.0)?;
        let verified = signed.verify_from(identity, app.0.issuer.directory(), app.now())?;
        Ok(Self { signed, verified })
    }

    pub(super) fn action(&self) -> &Action {
        &self.verified.request.action
    }

    /// Whether this was signed, and nothing else.
    pub(super) fn is_for(&self, action: &Action) -> Result<(), ApiError> {
        if self.action() == action { Ok(()) } else { Err(ApiError::OtherRequest) }
    }

    /// Counts it as done. What somebody has overheard and sends again is refused.
    pub(super) async fn once(&self, app: &App) -> Result<(), ApiError> {
        let digest = self.verified.digest.as_bytes();
        let limit = Limit::new(Subject::Request, digest, 1, REMEMBERED);
        app.0.store.attempt_for_good(limit, app.now()).await.map_err(|error| match error.refused() {
            Some(Refused::TooMany { .. }) => ApiError::Replayed,
            Some(_) | None => error.into(),
        })
    }
}

/// A backup as far as a directory can see: whether it is one, and which.
pub(super) fn check_backup(backup: &Bytes, version: u64) -> Result<(), ApiError> {
    let sealed = SealedBackup::from_bytes(&backup.0).map_err(|error| match error {
        BackupError::TooLarge(_) => ApiError::TooLarge,
        BackupError::TooManyEntries
        | BackupError::Malformed
        | BackupError::Format
        | BackupError::Sealed
        | BackupError::RolledBack { .. } => ApiError::Malformed(error.to_string()),
    })?;
    let is_it = sealed.version() == version;
    if is_it { Ok(()) } else { Err(ApiError::Malformed("the backup is of another version".to_owned())) }
}
