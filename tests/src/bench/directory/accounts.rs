//! Accounts at a directory, by the messages that programs send it.

use std::time::Duration;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use offhook_proto::backup::{Backup, BackupKey, Nonces};
use offhook_proto::identity::{DirectoryId, MailboxKey};
use offhook_proto::number::{Number, PlainNumber};
use offhook_proto::request::{Action, Digest, SignedRequest};
use opaque_ke::key_exchange::tripledh::TripleDh;
use opaque_ke::ksf::Identity;
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration,
    ClientRegistrationFinishParameters, CredentialResponse, RegistrationResponse, Ristretto255,
};
use rand_core::OsRng;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use super::{BenchError, other};
use crate::people::{Person, now};
use crate::phone::PASSWORD;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The directory's cipher suite, without the client's slow hash, of which the directory sees nothing.
struct Quick;

impl CipherSuite for Quick {
    type OprfCs = Ristretto255;
    type KeGroup = Ristretto255;
    type KeyExchange = TripleDh;
    type Ksf = Identity;
}

/// A directory's API.
#[derive(Clone)]
pub(super) struct Api {
    client: Client,
    url: String,
    directory: DirectoryId,
}

impl Api {
    /// Asks who it is.
    pub(super) async fn new(site: &str) -> Result<Self, BenchError> {
        // reqwest wants one, though nothing here goes by TLS. Whoever was first has installed the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(PATIENCE).build().map_err(other)?;
        let url = format!("http://{site}/api/v1");
        let info: Value =
            client.get(format!("{url}/info")).send().await.map_err(other)?.json().await.map_err(other)?;
        let id = info["directory"].as_str().and_then(|id| HEXLOWER.decode(id.as_bytes()).ok());
        let id = id
            .and_then(|id| id.try_into().ok())
            .ok_or_else(|| other(format!("no directory's key: {info}")))?;
        Ok(Self { client, url, directory: DirectoryId::from_bytes(id) })
    }

    /// Its key.
    pub(super) const fn directory(&self) -> DirectoryId {
        self.directory
    }

    /// Asks something, in the name of somebody of his own network.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        network: u8,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Result<(StatusCode, Value), BenchError> {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        request = request.header("X-Forwarded-For", format!("198.51.{network}.1"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(other)?;
        let status = answer.status();
        let text = answer.text().await.map_err(other)?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// The same; anything but success is an error.
    async fn post(&self, path: &str, network: u8, body: Value) -> Result<Value, BenchError> {
        let (status, answer) = self.ask(Method::POST, path, network, None, Some(body)).await?;
        if status.is_success() { Ok(answer) } else { Err(other(format!("{path}: {status} {answer}"))) }
    }

    /// Signs somebody up; what he is let in with.
    pub(super) async fn sign_up(&self, account: &Account) -> Result<String, BenchError> {
        let started = ClientRegistration::<Quick>::start(&mut OsRng, PASSWORD.as_bytes()).map_err(other)?;
        let request = json!({ "id": account.id, "request": text(&started.message.serialize()) });
        let answer = self.post("/signup/start", account.network, request).await?;
        let response = RegistrationResponse::deserialize(&bytes(&answer["response"])).map_err(other)?;
        let parameters = ClientRegistrationFinishParameters::default();
        let finished = started.state.finish(&mut OsRng, PASSWORD.as_bytes(), response, parameters);
        let upload = finished.map_err(other)?.message.serialize();
        let backup = account.backup(1)?;
        let action = Action::SignUp {
            id: account.id.clone(),
            number: Number::Plain(account.number),
            nonce: account.person.plain_proof().nonce,
            upload: Digest::of(&upload),
            backup: Digest::of(&backup),
        };
        let body = json!({
            "id": account.id, "upload": text(&upload),
            "identity": HEXLOWER.encode(account.person.identity.public().as_bytes()),
            "number": account.number.as_str(), "proof_nonce": account.person.plain_proof().nonce,
            "backup": text(&backup), "signed": self.sign(account, action), "token": true,
        });
        token(&self.post("/signup/finish", account.network, body).await?)
    }

    /// Logs somebody in; what he is let in with.
    pub(super) async fn log_in(&self, account: &Account) -> Result<String, BenchError> {
        let started = ClientLogin::<Quick>::start(&mut OsRng, PASSWORD.as_bytes()).map_err(other)?;
        let request = json!({ "id": account.id, "request": text(&started.message.serialize()) });
        let answer = self.post("/login/start", account.network, request).await?;
        let response = CredentialResponse::deserialize(&bytes(&answer["response"])).map_err(other)?;
        let parameters = ClientLoginFinishParameters::default();
        let finished = started.state.finish(PASSWORD.as_bytes(), response, parameters).map_err(other)?;
        let finish = text(&finished.message.serialize());
        let body = json!({ "login": answer["login"], "finish": finish, "token": true });
        token(&self.post("/login/finish", account.network, body).await?)
    }

    /// What somebody asks of this directory now.
    pub(super) fn sign(&self, account: &Account, action: Action) -> String {
        let signed = SignedRequest::sign(&account.person.identity, self.directory, now(), action);
        text(&signed.to_bytes())
    }
}

/// An account with the number of one of the people made by hand.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) id: String,
    pub(super) network: u8,
    person: Person,
    number: PlainNumber,
}

impl Account {
    /// The account of somebody whose number is known.
    pub(super) fn new(n: u8) -> Result<Self, BenchError> {
        let person = Person::mine(n);
        let Number::Plain(number) = person.number else { return Err(other("no plain number")) };
        Ok(Self { id: format!("user{n}"), network: n, person, number })
    }

    /// A backup of this version.
    pub(super) fn backup(&self, version: u64) -> Result<Vec<u8>, BenchError> {
        let seed = |byte: u8| [byte; 32];
        let mailbox = MailboxKey::from_seed(seed(self.network));
        let (identity, proof) = (self.person.identity.clone(), self.person.plain_proof());
        let backup = Backup::new(identity, mailbox, self.number, proof, now());
        let mut nonces = Nonces { backup: [0; 24], recovery: [0; 24] };
        nonces.backup[..8].copy_from_slice(&version.to_be_bytes());
        nonces.recovery[..8].copy_from_slice(&version.to_be_bytes());
        let key = BackupKey::from_export_key(&[self.network; 64]);
        Ok(backup.seal(&key, version, &nonces).map_err(other)?.to_bytes())
    }
}

fn token(answer: &Value) -> Result<String, BenchError> {
    answer["token"].as_str().map(str::to_owned).ok_or_else(|| other(format!("no token: {answer}")))
}

/// Bytes as the API writes them.
pub(super) fn text(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

/// Bytes as the API has written them; empty if there are none.
pub(super) fn bytes(value: &Value) -> Vec<u8> {
    value.as_str().and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok()).unwrap_or_default()
}
