//! A directory that has been met.

use super::answers::{self, Availability, DirectoryInfo, Info, LetIn, LoginStarted, RegistrationStarted};
use super::http::Http;
use super::session::Session;
use super::{DirectoryAddress, DirectoryError};
use crate::clock::wall_clock;
use crate::sites::{self, SiteError};
use crate::storage::{AccountId, Password, StorageError};
use offhook_proto::backup::{Backup, Nonces};
use offhook_proto::descriptor::{Descriptor, DescriptorError, SignedDescriptor};
use offhook_proto::identity::{DirectoryId, IdentityKey};
use offhook_proto::number::Number;
use offhook_proto::opaque::{ExportKey, LoggedIn, Login, Registered, Registration};
use offhook_proto::request::{Action, Digest, SignedRequest};
use rand_core::OsRng;
use reqwest::Method;
use serde_json::{Value, json};

/// The first backup has this version.
const FIRST_VERSION: u64 = 1;

/// A directory that has been met, and is the one that it should be. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Directory {
    http: Http,
    url: String,
    id: DirectoryId,
    info: DirectoryInfo,
    /// What it has said of itself when it was met.
    descriptor: Option<SignedDescriptor>,
}

/// A sign-up of which the last message is not sent yet.
pub(super) struct SignUp {
    /// The ID in the directory's normal form.
    pub(super) id: String,
    pub(super) registered: Registered,
}

impl Directory {
    /// Meets a directory. By its name it is asked where its site is; `known` is its key, if it was met before. One that is met by the
    /// address of its site is called by the name that it has, if it may say so.
    ///
    /// # Errors
    /// [`DirectoryError::OtherDirectory`] if its key has changed, [`DirectoryError::Unreachable`], [`DirectoryError::Answer`].
    pub async fn connect(
        address: &DirectoryAddress,
        known: Option<&DirectoryId>,
    ) -> Result<Self, DirectoryError> {
        let mut address = address.clone();
        let mut signed = None;
        let mut known = known.copied();
        let is_named_by_itself = known.is_none() && !address.is_name();
        let has_name = address.is_name();
        if address.is_name()
            && let Some((descriptor, told)) = descriptor_of(&address, known.as_ref()).await?
        {
            address = address.at_site(descriptor.web.as_deref())?;
            (known, signed) = (Some(descriptor.directory), Some(told));
        }
        let mut http = Http::new(&address)?;
        let info: Info = http.ask(Method::GET, "/info", None, None).await?;
        let id = DirectoryId::from_bytes(info.directory.0);
        if known.is_some_and(|known| known != id) {
            return Err(DirectoryError::OtherDirectory(address.name().to_owned()));
        }
        if has_name && info.name.as_deref().is_some_and(|name| name != address.name()) {
            return Err(http.answer("it says that it has another name"));
        }
        if let Some(name) = info.name.as_deref().filter(|name| is_named_by_itself && address.speaks_for(name))
        {
            signed = own_descriptor(&address, name, &id).await;
            if signed.is_some() {
                http.rename(name);
            }
        }
        let info = DirectoryInfo {
            name: info.name,
            is_open: info.signup == "open",
            has_chosen: info.chosen,
            max_numbers: info.max_numbers,
            version: info.version,
        };
        Ok(Self { http, url: address.url().to_owned(), id, info, descriptor: signed })
    }

    /// What it is called here.
    #[must_use]
    pub fn name(&self) -> &str {
        self.http.name()
    }

    /// Where its API is asked.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its key.
    #[must_use]
    pub fn id(&self) -> DirectoryId {
        self.id
    }

    /// What it says of itself.
    #[must_use]
    pub fn info(&self) -> &DirectoryInfo {
        &self.info
    }

    /// What it has said of itself when it was met; nothing if it was known, or has no name.
    pub(super) fn descriptor(&self) -> Option<&SignedDescriptor> {
        self.descriptor.as_ref()
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    /// Whether a number can be had.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn look_up(&self, name: &str) -> Result<Availability, DirectoryError> {
        let path = format!("/numbers/{}", escaped(name));
        self.http.ask(Method::GET, &path, None, None).await
    }

    /// Begins to sign somebody up. Whether the ID is taken is known then.
    pub(super) async fn begin_sign_up(
        &self,
        id: &AccountId,
        password: &Password,
    ) -> Result<SignUp, DirectoryError> {
        let (registration, request) = self.registration(password)?;
        let body = json!({ "id": id.as_str(), "request": answers::text(&request) });
        let started: RegistrationStarted =
            self.http.ask(Method::POST, "/signup/start", None, Some(body)).await?;
        let registered = self.registered(registration, started.response.0).await?;
        Ok(SignUp { id: started.id, registered })
    }

    /// Makes the account, with its first backup.
    pub(super) async fn finish_sign_up(
        &self,
        begun: &SignUp,
        backup: &Backup,
    ) -> Result<Session, DirectoryError> {
        let key = begun.registered.export_key.backup_key();
        let sealed = backup.seal(&key, FIRST_VERSION, &nonces())?.to_bytes();
        let action = Action::SignUp {
            id: begun.id.clone(),
            number: Number::Plain(backup.number),
            nonce: backup.proof.nonce,
            upload: Digest::of(&begun.registered.upload),
            backup: Digest::of(&sealed),
        };
        let body = json!({
            "id": begun.id,
            "upload": answers::text(&begun.registered.upload),
            "identity": data_encoding::HEXLOWER.encode(backup.identity.public().as_bytes()),
            "number": backup.number.as_str(),
            "proof_nonce": backup.proof.nonce,
            "backup": answers::text(&sealed),
            "signed": self.sign(&backup.identity, action),
            "token": true,
        });
        let answer: LetIn = self.http.ask(Method::POST, "/signup/finish", None, Some(body)).await?;
        Session::new(self.clone(), answer)
    }

    /// Lets in whoever has ID and password, with what opens the backup.
    ///
    /// # Errors
    /// [`DirectoryError::Refused`] with [`Refusal::WrongCredentials`](super::Refusal::WrongCredentials) for a wrong password and an
    /// unknown ID alike.
    pub async fn log_in(
        &self,
        id: &AccountId,
        password: &Password,
    ) -> Result<(Session, ExportKey), DirectoryError> {
        let started = Login::start(&mut OsRng, password.prepared());
        let (login, request) = started.map_err(|error| DirectoryError::opaque(self.name(), error))?;
        let body = json!({ "id": id.as_str(), "request": answers::text(&request) });
        let started: LoginStarted = self.http.ask(Method::POST, "/login/start", None, Some(body)).await?;
        let (response, name) = (started.response.0, self.name().to_owned());
        let work = move || login.finish(&response).map_err(|error| DirectoryError::opaque(&name, error));
        let LoggedIn { finish, export_key } = slowly(work).await?;
        let body = json!({
            "login": answers::text(&started.login.0), "finish": answers::text(&finish), "token": true,
        });
        let answer: LetIn = self.http.ask(Method::POST, "/login/finish", None, Some(body)).await?;
        Ok((Session::new(self.clone(), answer)?, export_key))
    }

    /// Lets in whoever has the identity key, by the recovery words or by the password of the account here.
    ///
    /// # Errors
    /// [`DirectoryError::Refused`] with [`Refusal::NotFound`](super::Refusal::NotFound) if the identity has no account there.
    pub async fn recover(&self, identity: &IdentityKey) -> Result<Session, DirectoryError> {
        let body = json!({ "signed": self.sign(identity, Action::Recover), "token": true });
        let answer: LetIn = self.http.ask(Method::POST, "/recover", None, Some(body)).await?;
        let session = Session::new(self.clone(), answer)?;
        if session.identity() != identity.public() {
            return Err(self.http.answer("it is of another identity"));
        }
        Ok(session)
    }

    pub(super) fn registration(
        &self,
        password: &Password,
    ) -> Result<(Registration, Vec<u8>), DirectoryError> {
        Registration::start(&mut OsRng, password.prepared())
            .map_err(|error| DirectoryError::opaque(self.name(), error))
    }

    pub(super) async fn registered(
        &self,
        registration: Registration,
        response: Vec<u8>,
    ) -> Result<Registered, DirectoryError> {
        let name = self.name().to_owned();
        slowly(move || {
            let finished = registration.finish(&mut OsRng, &response);
            finished.map_err(|error| DirectoryError::opaque(&name, error))
        })
        .await
    }

    /// What an identity asks of this directory now, as it is sent.
    pub(super) fn sign(&self, identity: &IdentityKey, action: Action) -> Value {
        let signed = SignedRequest::sign(identity, self.id, wall_clock(), action);
        Value::from(answers::text(&signed.to_bytes()))
    }
}

/// Fresh nonces for a seal.
pub(super) fn nonces() -> Nonces {
    Nonces { backup: rand::random(), recovery: rand::random() }
}

/// What a directory says of itself that is known by its name; `None` if there is nothing, as of one without chosen numbers.
async fn descriptor_of(
    address: &DirectoryAddress,
    known: Option<&DirectoryId>,
) -> Result<Option<(Descriptor, SignedDescriptor)>, DirectoryError> {
    let bytes = match sites::fetch(address.url().to_owned()).await {
        Ok(bytes) => bytes,
        Err(SiteError::NoDirectory) => return Ok(None),
        Err(SiteError::Unreachable) => {
            let reason = "its site does not answer, or not with a certificate that is good for it".to_owned();
            return Err(DirectoryError::Unreachable { name: address.name().to_owned(), reason });
        }
    };
    let now = wall_clock();
    let verified = SignedDescriptor::from_bytes(&bytes).and_then(|signed| {
        let descriptor = match known {
            Some(known) => signed.verify_pinned(address.name(), known, now),
            None => signed.verify_named(address.name(), now),
        };
        Ok((descriptor?, signed))
    });
    verified.map(Some).map_err(|error| bad_descriptor(address.name(), error))
}

/// That of a directory that was met by the address of its site and says that it has this name; `None` if it does not prove it.
async fn own_descriptor(
    address: &DirectoryAddress,
    name: &str,
    id: &DirectoryId,
) -> Option<SignedDescriptor> {
    let bytes = sites::fetch(address.url().to_owned()).await.ok()?;
    let signed = SignedDescriptor::from_bytes(&bytes).ok()?;
    signed.verify_pinned(name, id, wall_clock()).ok().map(|_| signed)
}

fn bad_descriptor(name: &str, error: DescriptorError) -> DirectoryError {
    let answer = |what| DirectoryError::Answer { name: name.to_owned(), what };
    match error {
        DescriptorError::OtherDirectory => DirectoryError::OtherDirectory(name.to_owned()),
        DescriptorError::NotYetValid | DescriptorError::Expired => {
            answer("its descriptor is not of this time: is the clock right?")
        }
        DescriptorError::TooLarge(_)
        | DescriptorError::Malformed
        | DescriptorError::Name
        | DescriptorError::TooManyEntries
        | DescriptorError::Web
        | DescriptorError::BadSignature
        | DescriptorError::Lifetime => answer("its descriptor is no good"),
    }
}

/// A part of a path, with everything escaped that could end it.
pub(super) fn escaped(text: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'@');
    let byte = |b: u8| if is_plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(byte).collect()
}

/// Slow work on a thread of its own.
pub(super) async fn slowly<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DirectoryError> + Send + 'static,
) -> Result<T, DirectoryError> {
    let stopped = |_| DirectoryError::Storage(StorageError::Internal("a worker thread stopped"));
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}
