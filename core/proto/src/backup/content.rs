//! What is in a backup.

use std::collections::BTreeMap;
use std::fmt;

use minicbor::bytes::{ByteArray, ByteSlice};
use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    BackupError, MAX_BACKUP_BYTES, MAX_CONTACT_NAME_BYTES, MAX_CONTACTS, MAX_DIRECTORIES,
    MAX_DIRECTORY_BYTES, MAX_PINS, MAX_PREDECESSORS, MAX_SETTING_BYTES, MAX_SETTING_NAME_BYTES, MAX_SETTINGS,
    MAX_UNKNOWN_FIELDS,
};
use crate::identity::{DirectoryId, Fingerprint, IdentityId, IdentityKey, MailboxKey, TerminalId};
use crate::number::{NodeAddr, Number, PlainNumber};
use crate::proof::{MAX_CHOSEN_NUMBERS, MAX_TRANSFERS, PlainProof, SignedChosenCert, SignedTransfer};
use crate::record::{MAX_MAILBOXES, MAX_REVOKED, Pin};
use crate::request::MAX_ID_BYTES;
use crate::wire::UnixMillis;

/// A chosen number in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BackupChosen {
    /// The directory's certificate.
    #[n(0)]
    pub cert: SignedChosenCert,
    /// How the identity has got the number; account records carry this for as long as it has it.
    #[cbor(n(1), default, skip_if = "Vec::is_empty")]
    pub transfers: Vec<SignedTransfer>,
}

/// A contact in a backup.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BackupContact {
    /// The contact's number.
    #[n(0)]
    pub number: Number,
    /// What the user calls them.
    #[n(1)]
    pub name: String,
}

/// What is remembered of a number's owner.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BackupPin {
    /// The number.
    #[n(0)]
    pub number: Number,
    /// Its owner: 32 bytes are a key, 16 a fingerprint.
    #[cbor(n(1), encode_with = "encode_pin", decode_with = "decode_pin")]
    pub pin: Pin,
    /// Whether the users have compared words.
    #[n(2)]
    pub verified: bool,
}

fn encode_pin<C, W: Write>(pin: &Pin, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
    match pin {
        Pin::Key(key) => e.bytes(key.as_bytes())?.ok(),
        Pin::Fingerprint(fingerprint) => e.bytes(fingerprint.as_bytes())?.ok(),
    }
}

fn decode_pin<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Pin, decode::Error> {
    let start = d.position();
    if d.bytes()?.len() == 32 {
        d.set_position(start);
        return IdentityId::decode(d, ctx).map(Pin::Key);
    }
    d.set_position(start);
    Fingerprint::decode(d, ctx).map(Pin::Fingerprint)
}

/// A directory that the account is with.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BackupDirectory {
    /// Its name, as it stands behind the ID.
    #[n(0)]
    pub name: String,
    /// Where its API is asked.
    #[n(1)]
    pub url: String,
    /// Its key.
    #[n(2)]
    pub directory: DirectoryId,
    /// The account's ID there.
    #[n(3)]
    pub id: String,
    /// Since when the account is with it.
    #[n(4)]
    pub added: UnixMillis,
}

impl BackupDirectory {
    fn is_too_long(&self) -> bool {
        [&self.name, &self.url].iter().any(|text| text.len() > MAX_DIRECTORY_BYTES)
            || self.id.len() > MAX_ID_BYTES
    }
}

/// Everything that an account takes along to another terminal. Its keys are erased when it is dropped.
pub struct Backup {
    /// The identity key.
    pub identity: IdentityKey,
    /// The mailbox key.
    pub mailbox: MailboxKey,
    /// The plain number.
    pub number: PlainNumber,
    /// What proves it.
    pub proof: PlainProof,
    /// Chosen numbers, at most [`MAX_CHOSEN_NUMBERS`].
    pub chosen: Vec<BackupChosen>,
    /// Contacts, at most [`MAX_CONTACTS`].
    pub contacts: Vec<BackupContact>,
    /// Settings by name, at most [`MAX_SETTINGS`].
    pub settings: BTreeMap<String, String>,
    /// Whose keys are remembered, at most [`MAX_PINS`].
    pub pins: Vec<BackupPin>,
    /// When the account was made.
    pub created: UnixMillis,
    /// Terminals that are revoked: every newer account record has to say so again.
    pub revoked: Vec<TerminalId>,
    /// Directories that keep messages for the account.
    pub mailboxes: Vec<NodeAddr>,
    /// [Digests](Self::digest) of what it has replaced, the oldest first, at most [`MAX_PREDECESSORS`]: a higher version alone does not
    /// tell that it knows what another one has.
    pub predecessors: Vec<[u8; 32]>,
    /// Directories that the account is with, at most [`MAX_DIRECTORIES`].
    pub directories: Vec<BackupDirectory>,
    /// Fields of later versions as they were read, by their keys, so that an old program doesn't lose them.
    pub(super) unknown: BTreeMap<u64, Zeroizing<Vec<u8>>>,
}

/// Keys of the map below this one are known.
const FIRST_UNKNOWN: u64 = 13;

impl Backup {
    /// A backup of a new account that has nothing but its keys and its number.
    #[must_use]
    pub fn new(
        identity: IdentityKey,
        mailbox: MailboxKey,
        number: PlainNumber,
        proof: PlainProof,
        created: UnixMillis,
    ) -> Self {
        Self {
            identity,
            mailbox,
            number,
            proof,
            chosen: Vec::new(),
            contacts: Vec::new(),
            settings: BTreeMap::new(),
            pins: Vec::new(),
            created,
            revoked: Vec::new(),
            mailboxes: Vec::new(),
            predecessors: Vec::new(),
            directories: Vec::new(),
            unknown: BTreeMap::new(),
        }
    }

    fn check(&self) -> Result<(), BackupError> {
        let too_many = self.chosen.len() > MAX_CHOSEN_NUMBERS
            || self.chosen.iter().any(|chosen| chosen.transfers.len() > MAX_TRANSFERS)
            || self.contacts.len() > MAX_CONTACTS
            || self.contacts.iter().any(|contact| contact.name.len() > MAX_CONTACT_NAME_BYTES)
            || self.settings.len() > MAX_SETTINGS
            || self
                .settings
                .iter()
                .any(|(name, value)| name.len() > MAX_SETTING_NAME_BYTES || value.len() > MAX_SETTING_BYTES)
            || self.pins.len() > MAX_PINS
            || self.revoked.len() > MAX_REVOKED
            || self.mailboxes.len() > MAX_MAILBOXES
            || self.predecessors.len() > MAX_PREDECESSORS
            || self.directories.len() > MAX_DIRECTORIES
            || self.directories.iter().any(BackupDirectory::is_too_long)
            || self.unknown.len() > MAX_UNKNOWN_FIELDS;
        if too_many { Err(BackupError::TooManyEntries) } else { Ok(()) }
    }

    /// The map that is sealed. One allocation holds it, so that no copy of the keys is left behind by a vector that grew.
    pub(super) fn to_plain(&self) -> Result<Zeroizing<Vec<u8>>, BackupError> {
        self.check()?;
        let mut plain = Zeroizing::new(Vec::with_capacity(MAX_BACKUP_BYTES));
        self.encode_fields(&mut Encoder::new(Bounded(&mut plain)))
            .map_err(|_| BackupError::TooLarge(MAX_BACKUP_BYTES))?;
        Ok(plain)
    }

    /// SHA-256 of all that is in it, keys and all: two that have the same are the same backup, however they are sealed.
    ///
    /// # Errors
    /// [`BackupError::TooManyEntries`], [`BackupError::TooLarge`].
    pub fn digest(&self) -> Result<[u8; 32], BackupError> {
        Ok(Sha256::digest(&*self.to_plain()?).into())
    }

    /// It is about to replace the one of this digest.
    pub fn follow(&mut self, digest: [u8; 32]) {
        self.predecessors.push(digest);
        self.predecessors.drain(..self.predecessors.len().saturating_sub(MAX_PREDECESSORS));
    }

    fn encode_fields<W: Write>(&self, e: &mut Encoder<W>) -> Result<(), encode::Error<W::Error>> {
        let (has_predecessors, has_directories) =
            (!self.predecessors.is_empty(), !self.directories.is_empty());
        let absent = u64::from(!has_predecessors) + u64::from(!has_directories);
        e.map(FIRST_UNKNOWN - absent + self.unknown.len() as u64)?;
        e.u8(0)?.bytes(self.identity.seed())?;
        e.u8(1)?.bytes(self.mailbox.seed())?;
        e.u8(2)?.encode(Number::Plain(self.number))?;
        e.u8(3)?.u64(self.proof.nonce)?;
        e.u8(4)?.encode(&self.chosen)?;
        e.u8(5)?.encode(&self.contacts)?;
        e.u8(6)?.encode(&self.settings)?;
        e.u8(7)?.encode(&self.pins)?;
        e.u8(8)?.encode(self.created)?;
        e.u8(9)?.encode(&self.revoked)?;
        e.u8(10)?.encode(&self.mailboxes)?;
        if has_predecessors {
            e.u8(11)?.array(self.predecessors.len() as u64)?;
            for digest in &self.predecessors {
                e.bytes(digest)?;
            }
        }
        if has_directories {
            e.u8(12)?.encode(&self.directories)?;
        }
        for (key, value) in &self.unknown {
            e.u64(*key)?;
            e.writer_mut().write_all(value).map_err(encode::Error::write)?;
        }
        Ok(())
    }

    pub(super) fn from_plain(plain: &[u8]) -> Result<Self, BackupError> {
        if plain.len() > MAX_BACKUP_BYTES {
            return Err(BackupError::TooLarge(plain.len()));
        }
        let mut decoder = Decoder::new(plain);
        let backup = Self::decode_fields(&mut decoder, plain).map_err(|_| BackupError::Malformed)?;
        if decoder.position() != plain.len() {
            return Err(BackupError::Malformed);
        }
        backup.check()?;
        Ok(backup)
    }

    /// Fields come in the order of their keys, each once. Those up to the time of making are always there.
    fn decode_fields(d: &mut Decoder<'_>, plain: &[u8]) -> Result<Self, decode::Error> {
        let malformed = || decode::Error::message("malformed backup");
        let fields = d.map()?.ok_or_else(malformed)?;
        let mut next = Fields { left: fields, last: None };
        let mut required = |d: &mut Decoder<'_>, key: u64| match next.take(d)? {
            Some(found) if found == key => Ok(()),
            Some(_) | None => Err(malformed()),
        };
        required(d, 0)?;
        let identity = IdentityKey::from_seed(*d.decode::<Zeroizing32>()?.0);
        required(d, 1)?;
        let mailbox = MailboxKey::from_seed(*d.decode::<Zeroizing32>()?.0);
        required(d, 2)?;
        let Number::Plain(number) = d.decode()? else { return Err(malformed()) };
        required(d, 3)?;
        let proof = PlainProof { nonce: d.u64()? };
        required(d, 4)?;
        let chosen = d.decode()?;
        required(d, 5)?;
        let contacts = d.decode()?;
        required(d, 6)?;
        let settings = d.decode()?;
        required(d, 7)?;
        let pins = d.decode()?;
        required(d, 8)?;
        let created = d.decode()?;
        let mut backup =
            Self { chosen, contacts, settings, pins, ..Self::new(identity, mailbox, number, proof, created) };
        while let Some(key) = next.take(d)? {
            match key {
                9 => backup.revoked = d.decode()?,
                10 => backup.mailboxes = d.decode()?,
                11 => {
                    let digests: Vec<ByteArray<32>> = d.decode()?;
                    backup.predecessors = digests.into_iter().map(Into::into).collect();
                }
                12 => backup.directories = d.decode()?,
                _ => {
                    let start = d.position();
                    d.skip()?;
                    let value = plain.get(start..d.position()).ok_or_else(malformed)?;
                    backup.unknown.insert(key, Zeroizing::new(value.to_vec()));
                }
            }
        }
        Ok(backup)
    }
}

impl fmt::Debug for Backup {
    /// Counts, and nothing that anybody could use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup")
            .field("chosen", &self.chosen.len())
            .field("contacts", &self.contacts.len())
            .field("settings", &self.settings.len())
            .field("pins", &self.pins.len())
            .finish_non_exhaustive()
    }
}

/// Keys of a map, which have to grow.
struct Fields {
    left: u64,
    last: Option<u64>,
}

impl Fields {
    fn take(&mut self, d: &mut Decoder<'_>) -> Result<Option<u64>, decode::Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        let key = d.u64()?;
        if self.last.is_some_and(|last| last >= key) {
            return Err(decode::Error::message("keys of a backup out of order"));
        }
        (self.left, self.last) = (left, Some(key));
        Ok(Some(key))
    }
}

/// 32 secret bytes.
struct Zeroizing32(Zeroizing<[u8; 32]>);

impl<'b, C> Decode<'b, C> for Zeroizing32 {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        let bytes: &ByteSlice = Decode::decode(d, ctx)?;
        let bytes: [u8; 32] =
            (**bytes).try_into().map_err(|_| decode::Error::message("a key has 32 bytes"))?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

/// Writes no more than the vector has room for.
struct Bounded<'a>(&'a mut Vec<u8>);

/// There was no room left.
#[derive(Debug)]
struct Full;

impl Write for Bounded<'_> {
    type Error = Full;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if bytes.len() > self.0.capacity() - self.0.len() {
            return Err(Full);
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}
