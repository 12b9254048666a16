//! Chosen numbers of an account: claimed, renewed, given up, given away.

use super::account::Unlocked;
use super::client::Directory;
use super::{DirectoryAddress, DirectoryError, Heard, Older};
use crate::clock::wall_clock;
use crate::storage::{CodeOf, HeldNumber, KnownDirectory, NewNumber, StorageError};
use offhook_proto::identity::IdentityId;
use offhook_proto::number::{ChosenNumber, Number};
use offhook_proto::proof::{SignedTransfer, lengthen};

/// A number that the account has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The number in its full form.
    pub number: Number,
}

impl Unlocked {
    /// Claims a chosen number; `transfers` if somebody has given it to the account, the last one to it.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn claim(
        &self,
        number: &ChosenNumber,
        transfers: Vec<SignedTransfer>,
    ) -> Result<Claimed, DirectoryError> {
        let (known, directory) = self.issuer(number).await?;
        let number = in_full(number, &known, &directory)?;
        let full = Number::Chosen(number.clone());
        // Should the answer be lost, the number is the account's, and how it has come to it must not be lost with it.
        let transfers = if transfers.is_empty() {
            self.store.code(&full, CodeOf::Taken).await?
        } else {
            self.store.put_code(&full, CodeOf::Taken, &transfers).await?;
            transfers
        };
        let session = directory.recover(&self.key).await?;
        let cert = match session.claim(&self.key, &number, transfers.last().cloned()).await {
            Ok(cert) => cert,
            Err(error) => {
                if error.refusal().is_some() {
                    self.store.remove_code(&full, CodeOf::Taken).await?;
                }
                return Err(error);
            }
        };
        let number = self.store.put_chosen(&self.key, NewNumber { cert, transfers }).await?;
        session.log_out().await;
        self.keep_up(&known).await;
        Ok(Claimed { number })
    }

    /// Has the certificates renewed that are due, of all numbers.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn renew_numbers(&self) -> Result<Vec<HeldNumber>, DirectoryError> {
        self.sync(Older::Refuse).await?;
        Ok(self.store.chosen().await?)
    }

    /// Gives a number up.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn release(&self, number: &ChosenNumber) -> Result<(), DirectoryError> {
        let (known, directory) = self.issuer(number).await?;
        let session = directory.recover(&self.key).await?;
        let number = in_full(number, &known, &directory)?;
        session.release(&self.key, &number).await?;
        self.store.remove_chosen(&Number::Chosen(number)).await?;
        session.log_out().await;
        self.keep_up(&known).await;
        Ok(())
    }

    /// Gives a number to somebody else, who claims it with what is answered within a week. Until that is over the same answer is given
    /// again, if it was lost.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn transfer(
        &self,
        number: &ChosenNumber,
        to: IdentityId,
    ) -> Result<Vec<SignedTransfer>, DirectoryError> {
        let (known, directory) = self.issuer(number).await?;
        let number = in_full(number, &known, &directory)?;
        let full = Number::Chosen(number.clone());
        let held = self.store.chosen().await?.into_iter().find(|held| held.number == full);
        let given = self.store.code(&full, CodeOf::Given).await?;
        let is_good = given.last().and_then(|last| last.verify_fresh(wall_clock()).ok());
        let is_given = is_good.is_some_and(|told| told.to == to);
        let transfers = match held {
            None if is_given => return Ok(given),
            None => return Err(StorageError::Number.into()),
            Some(_) if is_given => given,
            Some(held) => {
                let key = number.key(&directory.id());
                let transfers =
                    lengthen(&held.transfers, SignedTransfer::sign(&self.key, key, to, wall_clock()));
                // Before the directory has it: whoever is given a number without the code can do nothing with it.
                self.store.put_code(&full, CodeOf::Given, &transfers).await?;
                transfers
            }
        };
        let session = directory.recover(&self.key).await?;
        if let Some(last) = transfers.last() {
            session.transfer(&number, last).await?;
        }
        self.store.remove_chosen(&full).await?;
        session.log_out().await;
        self.keep_up(&known).await;
        Ok(transfers)
    }

    /// The directory that a number is of: the one that it names, else the account's first.
    async fn issuer(&self, number: &ChosenNumber) -> Result<(KnownDirectory, Directory), DirectoryError> {
        let named = |known: &KnownDirectory| number.directory().is_none_or(|name| name == known.name);
        let Some(known) = self.store.directories().await?.into_iter().find(named) else {
            return Err(DirectoryError::NoDirectory(number.directory().map(str::to_owned)));
        };
        let address = DirectoryAddress::kept(&known.name, &known.url)?;
        let directory = Directory::connect(&address, Some(&known.directory)).await?;
        Ok((known, directory))
    }

    /// The backup is to have what has changed; if that does not succeed now, it will later.
    async fn keep_up(&self, known: &KnownDirectory) {
        if let Err(error) = self.sync_with(known, Older::Refuse, &mut Heard::default()).await {
            tracing::warn!(%error, "the backup is not up to date");
        }
    }
}

/// A number with the name of its directory, which has to be the one that it was met by: no other is proven.
fn in_full(
    number: &ChosenNumber,
    known: &KnownDirectory,
    directory: &Directory,
) -> Result<ChosenNumber, DirectoryError> {
    let name = directory.info().name.as_deref().ok_or_else(|| {
        DirectoryError::refused("chosen_off", "This directory has no chosen numbers.", None)
    })?;
    if name != known.name {
        let what = "it does not prove that it has the name of its numbers: sign up by that name";
        return Err(DirectoryError::Answer { name: known.name.clone(), what });
    }
    number.with_directory(name).map_err(|_| StorageError::Number.into())
}
