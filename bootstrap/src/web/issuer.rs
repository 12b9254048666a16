//! What the directory signs: certificates of chosen numbers, the list of them, and what it says of itself.

use offhook_proto::descriptor::{Descriptor, DescriptorError, SignedDescriptor};
use offhook_proto::identity::{DirectoryId, DirectoryKey, IdentityId};
use offhook_proto::list::{Chain, Change, SignedHead};
use offhook_proto::number::{ChosenNumber, NumberError, RecordKey, Wish, WishError, WishRules};
use offhook_proto::proof::SignedChosenCert;
use offhook_proto::wire::{self, UnixMillis};

use super::SiteError;
use super::error::ApiError;
use crate::store::{Append, Appended, Issue, ListHead, StoreError};

/// Words that this directory keeps back beside those that no directory issues: they are for services.
const RESERVED: [&str; 5] = ["ambulance", "echo", "fire", "sos", "status"];

/// The directory's key, and what it issues with it.
pub(super) struct Issuer {
    key: DirectoryKey,
    directory: DirectoryId,
    /// None without a name.
    rules: Option<WishRules>,
}

/// A certificate, with what the store and the list are told of it.
pub(super) struct Certified {
    pub(super) certificate: Vec<u8>,
    pub(super) expires: UnixMillis,
    pub(super) issue: Issue,
}

impl Issuer {
    pub(super) fn new(key: DirectoryKey, name: Option<&str>) -> Result<Self, SiteError> {
        let rules = |name: &str| {
            let mut rules = WishRules::new(name)?;
            for word in RESERVED {
                rules.reserve(word)?;
            }
            Ok(rules)
        };
        let wrong = |name: &str| SiteError::Name(name.to_owned());
        let rules = name.map(|name| rules(name).map_err(|_: NumberError| wrong(name))).transpose()?;
        Ok(Self { directory: key.public(), key, rules })
    }

    pub(super) fn directory(&self) -> &DirectoryId {
        &self.directory
    }

    /// What may be issued of what somebody typed, as far as its rules say.
    pub(super) fn judge(&self, typed: &str) -> Result<Result<Wish, WishError>, ApiError> {
        Ok(self.rules.as_ref().ok_or(ApiError::ChosenOff)?.judge(typed))
    }

    /// Where the records of a number of this directory lie.
    pub(super) fn key_of(&self, number: &ChosenNumber) -> RecordKey {
        number.key(&self.directory)
    }

    /// Certifies a number in its full form.
    pub(super) fn certify(
        &self,
        number: &ChosenNumber,
        identity: IdentityId,
        since: UnixMillis,
        now: UnixMillis,
    ) -> Result<Certified, ApiError> {
        // Every number that comes here is in its full form.
        let failed = |_| ApiError::NotFound;
        let signed = SignedChosenCert::certify(&self.key, number, identity, now).map_err(failed)?;
        let cert = signed.verify(now).map_err(failed)?;
        let certificate = wire::encode(&signed);
        let issue = Issue {
            name: number.name().to_owned(),
            skeleton: number.skeleton(),
            identity,
            certificate: certificate.clone(),
            issued: cert.issued,
            expires: cert.expires,
            // In the last moment it is still held.
            held_until: UnixMillis(cert.held_until().0.saturating_add(1)),
            since,
        };
        Ok(Certified { certificate, expires: cert.expires, issue })
    }

    /// Signs what the directory says of itself.
    pub(super) fn describe(&self, descriptor: &Descriptor) -> Result<SignedDescriptor, DescriptorError> {
        SignedDescriptor::sign(&self.key, descriptor)
    }

    /// Writes into the list what has happened, and signs the head that it has then.
    pub(super) fn append(&self, change: Change, now: UnixMillis) -> Append {
        let (key, directory) = (self.key.clone(), self.directory);
        Box::new(move |tail| {
            let damaged = || StoreError::Damaged("the list of numbers");
            let chain = tail.last.as_ref().map(|last| Chain::after(directory, last));
            let mut chain =
                chain.transpose().map_err(|_| damaged())?.unwrap_or_else(|| Chain::new(directory));
            if chain.length() != tail.length {
                return Err(damaged());
            }
            let entry = chain.append(now, change);
            let head = SignedHead::sign(&key, &chain.head(now));
            Ok(Appended { entry, hash: *chain.hash().as_bytes(), head: wire::encode(&head) })
        })
    }

    /// The signed head, of the empty list as well.
    pub(super) fn head(&self, stored: ListHead, now: UnixMillis) -> Vec<u8> {
        if stored.length > 0 {
            return stored.head;
        }
        wire::encode(&SignedHead::sign(&self.key, &Chain::new(self.directory).head(now)))
    }
}
