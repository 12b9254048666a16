//! Somebody who is in at a directory.

use super::answers::{
    self, Account, Certified, ChosenNumber, KeptBackup, LetIn, Published, RegistrationStarted,
};
use super::client::{Directory, escaped, nonces};
use super::{DirectoryError, Refusal};
use crate::clock::wall_clock;
use crate::storage::{AccountId, Password};
use offhook_proto::backup::{Backup, SealedBackup};
use offhook_proto::identity::{IdentityId, IdentityKey};
use offhook_proto::number::{ChosenNumber as Chosen, Number};
use offhook_proto::proof::{MAX_CHOSEN_CERT_BYTES, SignedChosenCert, SignedTransfer};
use offhook_proto::record::{self, MAX_ENVELOPE_BYTES, RecordSet};
use offhook_proto::request::{Action, Digest};
use offhook_proto::wire;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A session at a directory, which ends by itself after hours. [`Session::log_out`] ends it at once.
pub struct Session {
    directory: Directory,
    token: String,
    account: Account,
    backup: KeptBackup,
}

/// Somebody else has put a backup there meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict;

impl Session {
    pub(super) fn new(directory: Directory, answer: LetIn) -> Result<Self, DirectoryError> {
        // It goes into a header.
        let is_token = !answer.token.is_empty() && answer.token.bytes().all(|b| b.is_ascii_graphic());
        if !is_token {
            return Err(directory.http().answer("no session"));
        }
        Ok(Self { directory, token: answer.token, account: answer.account, backup: answer.backup })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The account's ID there.
    ///
    /// # Errors
    /// [`DirectoryError::Storage`] if it is none.
    pub fn id(&self) -> Result<AccountId, DirectoryError> {
        Ok(self.account.id.parse()?)
    }

    /// The account's identity.
    #[must_use]
    pub fn identity(&self) -> IdentityId {
        IdentityId::from_bytes(self.account.identity.0)
    }

    /// The account's chosen numbers at this directory.
    #[must_use]
    pub fn chosen(&self) -> Vec<ChosenNumber> {
        let chosen = self.account.chosen.iter();
        chosen
            .map(|held| ChosenNumber {
                number: held.number.clone(),
                issued: held.issued,
                expires: held.expires,
            })
            .collect()
    }

    /// Their certificates, those that are none left out.
    pub(super) fn certificates(&self) -> Vec<SignedChosenCert> {
        let certificates = self.account.chosen.iter().map(|held| &held.certificate.0);
        certificates.filter_map(|bytes| wire::decode(bytes, MAX_CHOSEN_CERT_BYTES).ok()).collect()
    }

    /// The backup that is there. `known` is the newest version that was seen there.
    ///
    /// # Errors
    /// [`DirectoryError::RolledBack`] if it is older, [`DirectoryError::Backup`] if it is none.
    pub fn backup(&self, known: u64) -> Result<SealedBackup, DirectoryError> {
        let backup = SealedBackup::from_bytes(&self.backup.data.0)?;
        if backup.version() != self.backup.version {
            return Err(self.directory.http().answer("the backup is of another version"));
        }
        let (name, found) = (self.directory.name().to_owned(), backup.version());
        let rolled_back = |_| DirectoryError::RolledBack { name, known, found };
        backup.check_version(known).map_err(rolled_back)?;
        Ok(backup)
    }

    /// The newest version of the backup here that the account has told the network of, as far as the directory finds its record; 0 if it
    /// does not. It cannot make one up, as the account has signed it.
    pub(super) async fn published_version(&self, owner: &IdentityKey, number: &Number) -> u64 {
        let published: Result<Published, _> = self.ask(Method::GET, "/account/terminals", None).await;
        let records = match published {
            Ok(published) => published.records,
            Err(error) => {
                tracing::debug!(%error, "what the network knows of the account is not known");
                return 0;
            }
        };
        let Some(key) = number.record_key(None) else { return 0 };
        let record = |bytes: &answers::Bytes| {
            let account = wire::decode(&bytes.0, MAX_ENVELOPE_BYTES).ok()?;
            let set = RecordSet { account: Some(account), terminals: Vec::new() };
            // Those of chosen numbers lie elsewhere and say the same.
            let account = record::check(&key, &set.encode(), wall_clock()).ok()?.account?;
            (account.identity == owner.public()).then(|| account.record().clone())
        };
        let newest = records.iter().filter_map(record).max_by_key(|record| record.seq);
        newest.and_then(|record| record.backup_at(owner, &self.directory.id())).unwrap_or(0)
    }

    /// Fetches the backup that is there by now.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn fetch_backup(&mut self) -> Result<(), DirectoryError> {
        self.backup = self.ask(Method::GET, "/account/backup", None).await?;
        Ok(())
    }

    /// Puts a backup there. It has to follow the one that is there.
    ///
    /// # Errors
    /// [`DirectoryError`]; that somebody else has put one there is no error.
    pub async fn put_backup(
        &mut self,
        identity: &IdentityKey,
        backup: &SealedBackup,
    ) -> Result<Result<(), Conflict>, DirectoryError> {
        let (version, data) = (backup.version(), backup.to_bytes());
        let action = Action::Backup { version, backup: Digest::of(&data) };
        let body = json!({
            "version": version, "data": answers::text(&data), "signed": self.directory.sign(identity, action),
        });
        match self.tell(Method::PUT, "/account/backup", Some(body)).await {
            Ok(()) => {
                self.backup = KeptBackup { version, data: answers::Bytes(data) };
                Ok(Ok(()))
            }
            Err(error) if error.refusal() == Some(Refusal::Version) => Ok(Err(Conflict)),
            Err(error) => Err(error),
        }
    }

    /// Gives the account another ID and password; all other sessions end. `backup` is sealed anew as `version`.
    ///
    /// # Errors
    /// [`DirectoryError`], with [`Refusal::IdTaken`] if somebody has the ID.
    pub async fn change_credentials(
        self,
        new_id: &AccountId,
        new_password: &Password,
        backup: &Backup,
        version: u64,
    ) -> Result<Self, DirectoryError> {
        let (registration, request) = self.directory.registration(new_password)?;
        let body = json!({ "new_id": new_id.as_str(), "request": answers::text(&request) });
        let started: RegistrationStarted =
            self.ask(Method::POST, "/account/credentials/start", Some(body)).await?;
        let registered = self.directory.registered(registration, started.response.0).await?;
        let sealed = backup.seal(&registered.export_key.backup_key(), version, &nonces())?.to_bytes();
        let action = Action::Credentials {
            id: started.id.clone(),
            upload: Digest::of(&registered.upload),
            version,
            backup: Digest::of(&sealed),
        };
        let body = json!({
            "new_id": started.id,
            "upload": answers::text(&registered.upload),
            "backup": answers::text(&sealed),
            "version": version,
            "signed": self.directory.sign(&backup.identity, action),
        });
        let answer: LetIn = self.ask(Method::POST, "/account/credentials/finish", Some(body)).await?;
        Self::new(self.directory, answer)
    }

    /// Claims a number, or takes one over that its owner has given away.
    ///
    /// # Errors
    /// [`DirectoryError`], with [`Refusal::NumberTaken`] and its like.
    pub async fn claim(
        &self,
        identity: &IdentityKey,
        number: &Chosen,
        transfer: Option<SignedTransfer>,
    ) -> Result<SignedChosenCert, DirectoryError> {
        let action = Action::Claim { number: Number::Chosen(number.clone()), transfer };
        let body = json!({ "number": number.to_string(), "signed": self.directory.sign(identity, action) });
        let certified: Certified = self.ask(Method::POST, "/account/numbers", Some(body)).await?;
        self.certificate(&certified, number, identity)
    }

    /// Has a number's certificate renewed, if half of its time is over; else it stays.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn renew(
        &self,
        identity: &IdentityKey,
        number: &Chosen,
    ) -> Result<SignedChosenCert, DirectoryError> {
        let action = Action::Renew { number: Number::Chosen(number.clone()) };
        let (path, body) = self.of_number(number, "/renew", self.directory.sign(identity, action));
        let certified: Certified = self.ask(Method::POST, &path, Some(body)).await?;
        self.certificate(&certified, number, identity)
    }

    /// Gives a number up.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn release(&self, identity: &IdentityKey, number: &Chosen) -> Result<(), DirectoryError> {
        let action = Action::Release { number: Number::Chosen(number.clone()) };
        let (path, body) = self.of_number(number, "", self.directory.sign(identity, action));
        self.tell(Method::DELETE, &path, Some(body)).await
    }

    /// Gives a number to somebody else, who has a week to claim it.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn transfer(&self, number: &Chosen, transfer: &SignedTransfer) -> Result<(), DirectoryError> {
        let signed = Value::from(answers::text(&wire::encode(transfer)));
        let (path, body) = self.of_number(number, "/transfer", signed);
        self.tell(Method::POST, &path, Some(body)).await
    }

    /// Erases the account there, for good.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn delete_account(self) -> Result<(), DirectoryError> {
        self.tell(Method::DELETE, "/account", None).await
    }

    /// Ends the session. If that does not succeed, it ends by itself.
    pub async fn log_out(self) {
        if let Err(error) = self.tell(Method::POST, "/logout", None).await {
            tracing::debug!(%error, "a session was not ended");
        }
    }

    fn of_number(&self, number: &Chosen, what: &str, signed: Value) -> (String, Value) {
        (format!("/account/numbers/{}{what}", escaped(&number.to_string())), json!({ "signed": signed }))
    }

    /// What was issued is for this number, by this directory, to this identity.
    fn certificate(
        &self,
        certified: &Certified,
        number: &Chosen,
        identity: &IdentityKey,
    ) -> Result<SignedChosenCert, DirectoryError> {
        let cert: SignedChosenCert = wire::decode(&certified.certificate.0, MAX_CHOSEN_CERT_BYTES)
            .map_err(|_| DirectoryError::Certificate)?;
        let said = cert.verify(wall_clock()).map_err(|_| DirectoryError::Certificate)?;
        let is_it = said.number == Number::Chosen(number.clone())
            && said.identity == identity.public()
            && said.directory == self.directory.id();
        if is_it { Ok(cert) } else { Err(DirectoryError::Certificate) }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, DirectoryError> {
        self.directory.http().ask(method, path, Some(&self.token), body).await
    }

    async fn tell(&self, method: Method, path: &str, body: Option<Value>) -> Result<(), DirectoryError> {
        self.directory.http().tell(method, path, Some(&self.token), body).await
    }
}
