//! Passwords by OPAQUE (RFC 9807): the directory checks them without ever seeing one, and what it keeps of them cannot be tried
//! without its secret, `opaque.key`.
//!
//! The credential identifier is the account's ID, so that what an unknown ID is answered looks like what a known one is.
//! Between the two steps of a log-in the directory remembers nothing: what it has to know it hands out, sealed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use offhook::storage::AccountId;
use offhook_proto::identity::IdentityId;
pub use offhook_proto::opaque::Suite;
use offhook_proto::wire::UnixMillis;
use opaque_ke::{
    CredentialFinalization, CredentialRequest, RegistrationRequest, ServerLogin, ServerLoginStartParameters,
    ServerRegistration, ServerSetup,
};
use rand_core::OsRng;
use sha2::{Digest as _, Sha256};

use super::SiteError;
use super::limits::Network;
use crate::key;
use crate::store::{Account, PasswordFile};

/// The secret's file in the data folder. Several processes of one directory have it in common.
const FILE: &str = "opaque.key";

/// How long a client may take between the two steps: its slow hash lasts a second on a slow machine.
pub const LOGIN_TIME: Duration = Duration::from_secs(60);

/// What separates this use of the secret from others.
const LOGIN_DOMAIN: &[u8] = b"offhook/login/1\0";
const PLACE_DOMAIN: &[u8] = b"offhook/login-place/1\0";
const FINGERPRINT_DOMAIN: &[u8] = b"offhook/opaque-key/1\0";

const NONCE: usize = 24;

/// A message of a client's that is none, or does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadMessage;

/// The directory's side.
#[derive(Clone)]
pub struct Opaque(Arc<Secret>);

struct Secret {
    setup: ServerSetup<Suite>,
    login: XChaCha20Poly1305,
    place: [u8; 32],
    fingerprint: [u8; 32],
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opaque")
    }
}

/// A log-in that has been begun.
pub(super) struct Begun {
    /// What the client shows again at the end.
    pub(super) login: Vec<u8>,
    /// The answer to its message.
    pub(super) response: Vec<u8>,
}

/// A log-in that has succeeded.
#[derive(Clone, Debug)]
pub(super) struct LoggedIn {
    pub(super) identity: IdentityId,
    /// Of the password file with which it was begun.
    pub(super) password: [u8; 32],
    /// The ID with which it was begun.
    pub(super) id: String,
    /// From where it was begun.
    pub(super) network: Network,
    /// Whether it was begun where the account was known: see [`Opaque::begin`].
    pub(super) is_known: bool,
}

impl Opaque {
    /// Reads the secret from the data folder; makes one if there is none.
    ///
    /// # Errors
    /// [`SiteError`]. A damaged one is never replaced: no password would fit any more.
    pub fn load_or_make(folder: &Path) -> Result<Self, SiteError> {
        let make = || ServerSetup::<Suite>::new(&mut OsRng).serialize().to_vec();
        let bytes = key::load_or_make_file(folder, FILE, make)?;
        let setup = ServerSetup::deserialize(&bytes).map_err(|_| SiteError::OpaqueKey(folder.join(FILE)))?;
        let derive = |domain: &[u8]| Sha256::new().chain_update(domain).chain_update(&bytes).finalize();
        let login = XChaCha20Poly1305::new(&derive(LOGIN_DOMAIN));
        let (place, fingerprint) = (derive(PLACE_DOMAIN).into(), derive(FINGERPRINT_DOMAIN).into());
        Ok(Self(Arc::new(Secret { setup, login, place, fingerprint })))
    }

    /// A hash by which processes see that they have the same secret.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.0.fingerprint
    }

    /// A hash by which it is remembered that somebody has logged in from a network; without an account, one like it. Without the secret
    /// nobody finds out of whom or which.
    pub(super) fn place(&self, identity: Option<&IdentityId>, network: &Network) -> [u8; 32] {
        let hash = Sha256::new().chain_update(self.0.place).chain_update(network.bytes());
        hash.chain_update(identity.map_or([0; 32], |identity| *identity.as_bytes())).finalize().into()
    }

    /// Answers the first message of a registration.
    ///
    /// # Errors
    /// [`BadMessage`].
    pub fn register(&self, id: &AccountId, request: &[u8]) -> Result<Vec<u8>, BadMessage> {
        let request = RegistrationRequest::deserialize(request).map_err(|_| BadMessage)?;
        let started = ServerRegistration::<Suite>::start(&self.0.setup, request, id.as_str().as_bytes());
        Ok(started.map_err(|_| BadMessage)?.message.serialize().to_vec())
    }

    /// What is kept of the last message of a registration.
    ///
    /// # Errors
    /// [`BadMessage`].
    pub fn registered(upload: &[u8]) -> Result<PasswordFile, BadMessage> {
        let upload = opaque_ke::RegistrationUpload::<Suite>::deserialize(upload).map_err(|_| BadMessage)?;
        Ok(PasswordFile(ServerRegistration::finish(upload).serialize().to_vec()))
    }

    /// Answers the first message of a log-in, with or without an account alike. `from` is where it comes from, and whether the account is
    /// known to log in there.
    pub(super) fn begin(
        &self,
        id: &AccountId,
        account: Option<&Account>,
        request: &[u8],
        from: (Network, bool),
        now: UnixMillis,
    ) -> Result<Begun, BadMessage> {
        let request = CredentialRequest::deserialize(request).map_err(|_| BadMessage)?;
        let file = account.map(|account| ServerRegistration::deserialize(&account.password_file.0));
        let file = file.transpose().map_err(|_| BadMessage)?;
        let (id, setup) = (id.as_str().as_bytes(), &self.0.setup);
        let parameters = ServerLoginStartParameters::default();
        let started = ServerLogin::<Suite>::start(&mut OsRng, setup, file, request, id, parameters);
        let started = started.map_err(|_| BadMessage)?;
        let identity = account.map_or([0; 32], |account| *account.identity.as_bytes());
        let password = account.map_or([0; 32], |account| account.password_file.hash());
        let state = started.state.serialize();
        let length = u16::try_from(id.len()).map_err(|_| BadMessage)?.to_be_bytes();
        let time = now.0.to_be_bytes();
        let (network, is_known) = from;
        let place = [network.bytes(), &[u8::from(is_known)][..]].concat();
        let known = [&time[..], &identity, &password, &place, &length, id, &state].concat();
        let nonce: [u8; NONCE] = rand::random();
        let sealed = self.0.login.encrypt(&XNonce::from(nonce), Payload::from(&known[..]));
        let sealed = sealed.map_err(|_| BadMessage)?;
        let login = [&nonce[..], &sealed].concat();
        Ok(Begun { login, response: started.message.serialize().to_vec() })
    }

    /// Checks the last message of a log-in. `None`: ID or password is wrong, or it took too long.
    pub(super) fn finish(&self, login: &[u8], finish: &[u8], now: UnixMillis) -> Option<LoggedIn> {
        let (nonce, sealed) = login.split_first_chunk::<NONCE>()?;
        let known = self.0.login.decrypt(&XNonce::from(*nonce), Payload::from(sealed)).ok()?;
        let (begun, rest) = known.split_first_chunk::<8>()?;
        let (identity, rest) = rest.split_first_chunk::<32>()?;
        let (password, rest) = rest.split_first_chunk::<32>()?;
        let (network, rest) = rest.split_first_chunk::<16>()?;
        let ([is_known], rest) = rest.split_first_chunk::<1>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (id, state) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        if now.since(UnixMillis(u64::from_be_bytes(*begun))) > LOGIN_TIME {
            return None;
        }
        let state = ServerLogin::<Suite>::deserialize(state).ok()?;
        state.finish(CredentialFinalization::deserialize(finish).ok()?).ok()?;
        // Nobody has shown that he knows the password of an account that there is not; it would take a broken hash.
        (*identity != [0; 32]).then(|| LoggedIn {
            identity: IdentityId::from_bytes(*identity),
            password: *password,
            id: String::from_utf8_lossy(id).into_owned(),
            network: Network::from_bytes(*network),
            is_known: *is_known != 0,
        })
    }
}
