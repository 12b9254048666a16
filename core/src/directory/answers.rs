//! What a directory answers, typed. Unknown fields are of later versions and passed over.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use offhook_proto::wire::UnixMillis;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer};

/// Reads an answer; why it is none, for the error.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, &'static str> {
    serde_json::from_slice(bytes).map_err(|_| "it is not what was asked for")
}

/// Bytes, as base64url without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes());
        bytes.map(Self).map_err(|_| de::Error::custom("bytes have to be base64url without padding"))
    }
}

/// Bytes as they are sent.
pub(super) fn text(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

/// A key, as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hex(pub(super) [u8; 32]);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("a key has to be 64 hexadecimal digits"))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Failure {
    pub(super) error: String,
    #[serde(default)]
    pub(super) message: String,
    pub(super) retry_after_s: Option<u64>,
}

/// What the network has of an account, as the directory finds it.
#[derive(Debug, Deserialize)]
pub(super) struct Published {
    /// Signed account records.
    #[serde(default)]
    pub(super) records: Vec<Bytes>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) name: Option<String>,
    pub(super) directory: Hex,
    pub(super) signup: String,
    pub(super) chosen: bool,
    pub(super) max_numbers: u64,
    pub(super) version: String,
}

/// What a directory says of itself to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryInfo {
    /// Its DNS name, which stands behind the `@` of its numbers.
    pub name: Option<String>,
    /// Whether it takes new accounts.
    pub is_open: bool,
    /// Whether it has chosen numbers.
    pub has_chosen: bool,
    /// How many an account may have.
    pub max_numbers: u64,
    /// Its program's version.
    pub version: String,
}

/// The answer to the first message of a registration.
#[derive(Debug, Deserialize)]
pub(super) struct RegistrationStarted {
    pub(super) id: String,
    pub(super) response: Bytes,
}

#[derive(Debug, Deserialize)]
pub(super) struct LoginStarted {
    pub(super) login: Bytes,
    pub(super) response: Bytes,
}

/// What whoever was let in gets.
#[derive(Deserialize)]
pub(super) struct LetIn {
    pub(super) token: String,
    pub(super) account: Account,
    pub(super) backup: KeptBackup,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Account {
    pub(super) id: String,
    pub(super) identity: Hex,
    #[serde(default)]
    pub(super) chosen: Vec<Chosen>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Chosen {
    pub(super) number: String,
    pub(super) issued: UnixMillis,
    pub(super) expires: UnixMillis,
    pub(super) certificate: Bytes,
}

/// A chosen number as the directory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenNumber {
    /// In its full form.
    pub number: String,
    /// When its certificate was issued.
    pub issued: UnixMillis,
    /// When it expires.
    pub expires: UnixMillis,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct KeptBackup {
    pub(super) version: u64,
    pub(super) data: Bytes,
}

#[derive(Debug, Deserialize)]
pub(super) struct Certified {
    pub(super) certificate: Bytes,
}

/// How a number stands that somebody wishes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumberState {
    /// It can be had.
    Free,
    /// Somebody has it.
    Taken,
    /// It looks like one that somebody has.
    LookAlike,
    /// Nobody but the operator gets it.
    Reserved,
    /// It is no number.
    Invalid,
}

/// Whether a number can be had.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Availability {
    /// The number in its full form.
    pub number: String,
    /// How it stands.
    pub state: NumberState,
    /// Why it is no number, as a sentence.
    #[serde(default)]
    pub message: Option<String>,
}

/// Reads `bytes` as every answer that there is.
#[doc(hidden)]
pub fn fuzz_answer(bytes: &[u8]) {
    let _ = parse::<Failure>(bytes);
    let _ = parse::<Info>(bytes);
    let _ = parse::<RegistrationStarted>(bytes);
    let _ = parse::<LoginStarted>(bytes);
    let _ = parse::<LetIn>(bytes).map(|in_| (in_.account.id.len(), in_.backup.data.0.len()));
    let _ = parse::<KeptBackup>(bytes);
    let _ = parse::<Certified>(bytes);
    let _ = parse::<Published>(bytes).map(|published| published.records.len());
    let _ = parse::<Availability>(bytes);
}
