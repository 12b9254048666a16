//! The address book as users work with it: what they mean by what they type, and the commands that need
//! nothing but the account's file, those of the history of calls as well. The engine carries them out while a terminal runs, the command line without
//! one; both do it here.

use super::{AccountStore, CallEntry, Contact, PinCheck, StorageError};
use crate::api::{self, ApiError, Command, ErrorCode, HISTORY_REPLY, MAX_HISTORY_REPLY, Reply};
use offhook_proto::identity::Fingerprint;
use offhook_proto::number::{ChosenNumber, Invitation, InvitationError, Number, NumberError, RecordKey};
use std::collections::BTreeMap;

/// Most characters of what was typed that a sentence repeats.
const QUOTED: usize = 64;

/// Why a typed text names nobody.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// It is neither a number nor a link.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// It can only be a name, and no contact has it.
    #[error("No contact is called \"{0}\".")]
    NoContact(String),
    /// The account's own number.
    #[error("That is your own number.")]
    Own,
    /// It may be a chosen number, but which directory issued it is not known.
    #[error(
        "No contact is called \"{0}\", and as a chosen number it needs its directory, which is not known here."
    )]
    NoDirectory(String),
    /// It is a chosen number of a directory whose key is not known.
    #[error("The directory \"{0}\" is not known here.")]
    UnknownDirectory(String),
    /// The contacts could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ResolveError {
    /// Code and sentence.
    pub fn to_api(&self) -> ApiError {
        let code = match self {
            Self::Invitation(_) | Self::Own => ErrorCode::BadInput,
            Self::NoContact(_) => ErrorCode::NoContact,
            Self::NoDirectory(_) | Self::UnknownDirectory(_) => ErrorCode::UnknownDirectory,
            Self::Storage(error) => error.code(),
        };
        ApiError::new(code, self.to_string())
    }
}

impl AccountStore {
    /// Whom a user means: a number of 12 digits or a link stands for itself, then a contact's name for its number,
    /// then a word for a chosen number.
    ///
    /// # Errors
    /// [`ResolveError`], but nothing about directories.
    pub async fn resolve(&self, typed: &str) -> Result<Invitation, ResolveError> {
        let parsed = typed.parse::<Invitation>();
        let mut invitation = match parsed {
            Ok(link) if matches!(link.number, Number::Plain(_)) || is_uri(typed) => link,
            Ok(_) | Err(_) => match self.named(typed).await? {
                Some(number) => Invitation { number, key: None, via: Vec::new() },
                None => parsed.map_err(|error| unknown(typed, error))?,
            },
        };
        invitation.number = self.in_full(invitation.number).await?;
        if self.is_own(&invitation.number).await? { Err(ResolveError::Own) } else { Ok(invitation) }
    }

    /// The same for what is to be dialled: a chosen number has its directory, whose key need not be known yet.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn resolve_in_full(&self, typed: &str) -> Result<Invitation, ResolveError> {
        let invitation = self.resolve(typed).await?;
        match &invitation.number {
            Number::Chosen(chosen) if chosen.directory().is_none() => Err(out_of_reach(typed, chosen)),
            Number::Chosen(_) | Number::Plain(_) => Ok(invitation),
        }
    }

    /// The same, with the key under which the number's records are found.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn resolve_to_dial(&self, typed: &str) -> Result<(Invitation, RecordKey), ResolveError> {
        let invitation = self.resolve_in_full(typed).await?;
        match (self.place_of(&invitation.number).await?, &invitation.number) {
            (Some(key), _) => Ok((invitation, key)),
            (None, Number::Chosen(chosen)) => Err(out_of_reach(typed, chosen)),
            (None, Number::Plain(_)) => Err(ResolveError::NoDirectory(quoted(typed))),
        }
    }

    /// Where the records of a number lie; `None` for a chosen one whose directory's key is not remembered.
    ///
    /// # Errors
    /// [`StorageError::Database`] or [`StorageError::Damaged`].
    pub async fn place_of(&self, number: &Number) -> Result<Option<RecordKey>, StorageError> {
        let directory = match number {
            Number::Plain(_) => None,
            Number::Chosen(chosen) => match chosen.directory() {
                Some(name) => self.known_directory(name).await?.map(|known| known.directory),
                None => None,
            },
        };
        Ok(number.record_key(directory.as_ref()))
    }

    /// Adds a contact with everything that its invitation says, or gives the one with this number another name.
    /// [`PinCheck::Differs`]: another key is pinned for the number; the contact is kept, what the link says is not.
    ///
    /// # Errors
    /// [`StorageError::BadContactName`], [`StorageError::ContactExists`], or a file that cannot be written.
    pub async fn add_invitation(&self, link: &Invitation, name: &str) -> Result<PinCheck, StorageError> {
        let check = self.contact_add(&link.number, name, link.key.as_ref()).await?;
        let trusted = match check {
            PinCheck::New | PinCheck::Matches => true,
            PinCheck::Differs { .. } => false,
        };
        // Only a hint where to look first: without it, after a crash here, the number is found all the same.
        if trusted && !link.via.is_empty() {
            self.set_routes(&link.number, &link.via).await?;
        }
        Ok(check)
    }

    /// Accepts the changed key of a contact, or of anybody else ever spoken to.
    ///
    /// # Errors
    /// [`ResolveError`]; [`StorageError::NothingToConfirm`] if no changed key was met.
    pub async fn confirm(&self, typed: &str) -> Result<Fingerprint, ResolveError> {
        let number = self.resolve(typed).await?.number;
        Ok(self.confirm_key(&number).await?)
    }

    /// Carries out a command that needs nothing but the account's file; `None` for all others.
    pub async fn execute(&self, command: &Command) -> Option<Result<Reply, ApiError>> {
        Some(match command {
            Command::Contacts => self.list().await,
            Command::ContactAdd { number, name } => self.add(number, name).await,
            Command::ContactRemove { contact } => self.remove(contact).await,
            Command::ContactConfirm { contact } => {
                self.confirm(contact).await.map(|_| Reply::Done).map_err(|error| error.to_api())
            }
            Command::Directories => self.list_directories().await,
            Command::DirectoryAdd { name, key } => self.add_directory(name, key).await,
            Command::DirectoryConfirm { name } => self.confirm_other_key(name).await,
            Command::DirectoryHome { name } => self.choose_home(name.as_deref()).await,
            Command::BlockAdd { number } => self.block_typed(number).await,
            Command::BlockRemove { number } => self.unblock_typed(number).await,
            Command::BlockList => self.list_blocked().await,
            Command::Screening(asked) => self.screen(asked).await,
            Command::Refused => self.list_refused().await,
            Command::History { limit } => self.past_calls(*limit).await,
            Command::Messages { with, limit } => self.past_messages(with.as_deref(), *limit).await,
            Command::Voicemails => self.list_voicemails().await,
            Command::VoicemailSave { voicemail, file } => self.save_voicemail(*voicemail, file).await,
            Command::VoicemailDelete { voicemail } => self.delete_voicemail(*voicemail).await,
            Command::HistoryClear => {
                self.history_clear().await.map(|()| Reply::Done).map_err(|error| error.to_api())
            }
            Command::Dial { .. }
            | Command::MessagesRead { .. }
            | Command::VoicemailLeave { .. }
            | Command::Answer { .. }
            | Command::Reject { .. }
            | Command::Hangup { .. }
            | Command::Text { .. }
            | Command::Dtmf { .. }
            | Command::Hold { .. }
            | Command::Mute { .. }
            | Command::Devices
            | Command::UseDevices { .. }
            | Command::WatchDevices { .. }
            | Command::Levels { .. }
            | Command::Record { .. }
            | Command::Recordable { .. }
            | Command::Recordings
            | Command::RecordingDelete { .. }
            | Command::Swap
            | Command::Presence { .. }
            | Command::Transfer { .. }
            | Command::Follow { .. }
            | Command::Volume { .. }
            | Command::Lookup { .. }
            | Command::Status
            | Command::Verify { .. }
            | Command::Terminals
            | Command::Link
            | Command::Renewed
            | Command::Shutdown => return None,
        })
    }

    async fn list(&self) -> Result<Reply, ApiError> {
        let contacts = self.contacts().await.map_err(|error| error.to_api())?;
        Ok(Reply::Contacts { contacts: contacts.into_iter().map(api::Contact::from).collect() })
    }

    async fn past_calls(&self, limit: Option<u32>) -> Result<Reply, ApiError> {
        let limit = limit.unwrap_or(HISTORY_REPLY).min(MAX_HISTORY_REPLY);
        let (calls, contacts) = (self.history(limit).await, self.contacts().await);
        let contacts = contacts.map_err(|error| error.to_api())?;
        let names: BTreeMap<Number, String> = contacts.into_iter().map(|c| (c.number, c.name)).collect();
        let told = |call: CallEntry| {
            let name = names.get(&call.number).cloned();
            call.told(name)
        };
        let calls = calls.map_err(|error| error.to_api())?.into_iter().map(told).collect();
        Ok(Reply::History { calls })
    }

    async fn add(&self, typed: &str, name: &str) -> Result<Reply, ApiError> {
        let link = self.resolve(typed).await.map_err(|error| error.to_api())?;
        match self.add_invitation(&link, name).await.map_err(|error| error.to_api())? {
            PinCheck::New | PinCheck::Matches => Ok(Reply::Done),
            PinCheck::Differs { pinned } => {
                let told =
                    "The contact is kept, but the link names another key than the one known for the number";
                Err(ApiError::new(ErrorCode::KeyChanged, format!("{told} ({pinned}).")))
            }
        }
    }

    async fn remove(&self, typed: &str) -> Result<Reply, ApiError> {
        let found: Contact = self.find_contact(typed).await.map_err(|error| error.to_api())?;
        self.contact_remove(&found.number).await.map_err(|error| error.to_api())?;
        Ok(Reply::Done)
    }
}

/// Whether it says of itself that it is a number.
fn is_uri(typed: &str) -> bool {
    let typed = typed.trim().to_ascii_lowercase();
    typed.starts_with("offhook:") || typed.starts_with("tel:")
}

/// What could not be parsed was meant as a name if it has letters, otherwise as a number.
fn unknown(typed: &str, error: InvitationError) -> ResolveError {
    if typed.contains(char::is_alphabetic) && !is_uri(typed) {
        ResolveError::NoContact(quoted(typed))
    } else {
        error.into()
    }
}

/// Why a chosen number cannot be dialled, in the words for what was most likely meant.
fn out_of_reach(typed: &str, chosen: &ChosenNumber) -> ResolveError {
    let name = chosen.name();
    match chosen.directory() {
        Some(directory) => ResolveError::UnknownDirectory(directory.to_owned()),
        None if name.chars().all(|c| c.is_ascii_digit()) && !is_uri(typed) => {
            InvitationError::Number(NumberError::Length { digits: name.len() }).into()
        }
        None => ResolveError::NoDirectory(quoted(typed)),
    }
}

fn quoted(typed: &str) -> String {
    typed.trim().chars().filter(|c| !c.is_control()).take(QUOTED).collect()
}
