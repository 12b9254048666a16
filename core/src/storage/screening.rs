//! What the user wants of unwanted calls, and what did not ring, in the account's file.

use super::{AccountStore, StorageError};
use crate::api::{
    ApiError, BlockedCaller, ErrorCode, Named, QuietTime, RefusedCall, Reply, Screening, ScreeningChange,
    Strangers,
};
use crate::clock::{local_time, wall_clock};
use data_encoding::BASE64;
use offhook_proto::identity::IdentityId;
use offhook_proto::number::Number;
use offhook_proto::record::Pin;
use offhook_proto::screening::{Blocked, Entry, Log, Policy, PolicyError, Reason, Through};
use offhook_proto::wire::UnixMillis;
use serde::{Deserialize, Serialize};

/// The setting in which the policy is kept; it goes along with a backup.
pub(super) const POLICY: &str = "screening";
/// The setting in which what did not ring is kept.
const REFUSED: &str = "refused";
/// Most bytes of that: of very long numbers fewer are kept.
const MAX_REFUSED_BYTES: usize = 60 * 1024;
/// People spoken with that are told from strangers.
const MAX_MET: u32 = 4_096;
/// Longest time for which quiet is asked, minutes: a year.
const MAX_MINUTES: u32 = 366 * 24 * 60;

/// An [`Entry`] as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    identity: Option<String>,
    number: Option<Number>,
    contact: bool,
    reason: Reason,
    first: u64,
    last: u64,
    count: u64,
}

impl Kept {
    fn of(entry: &Entry) -> Self {
        Self {
            identity: entry.identity.map(|id| data_encoding::HEXLOWER.encode(id.as_bytes())),
            number: entry.number.clone(),
            contact: entry.contact,
            reason: entry.reason,
            first: entry.first.0,
            last: entry.last.0,
            count: entry.count,
        }
    }

    fn entry(self) -> Option<Entry> {
        let identity = match self.identity {
            Some(hex) => {
                let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?;
                Some(IdentityId::from_bytes(bytes.try_into().ok()?))
            }
            None => None,
        };
        let (first, last) = (UnixMillis(self.first), UnixMillis(self.last));
        let Self { number, contact, reason, count, .. } = self;
        Some(Entry { identity, number, contact, reason, first, last, count })
    }
}

/// A policy as a setting; `None` for the default, so that nobody's backup grows by it.
fn to_setting(policy: &Policy) -> Result<Option<String>, PolicyError> {
    Ok(if *policy == Policy::default() { None } else { Some(BASE64.encode(&policy.to_bytes()?)) })
}

fn of_setting(value: Option<&String>) -> Option<Policy> {
    let Some(value) = value else { return Some(Policy::default()) };
    Policy::from_bytes(&BASE64.decode(value.as_bytes()).ok()?).ok()
}

/// What two terminals have made of a policy: `None` if one of the settings is none that this version understands, and then one of
/// them is taken whole.
pub(super) fn merged(
    base: Option<&String>,
    own: Option<&String>,
    other: Option<&String>,
) -> Option<Option<String>> {
    let (base, own, other) = (of_setting(base)?, of_setting(own)?, of_setting(other)?);
    to_setting(&own.merged(&other, &base).ok()?).ok()
}

fn refused(error: PolicyError) -> ApiError {
    let sentence = match error {
        PolicyError::TooLarge(_) | PolicyError::TooMany => "There is no room for more.",
        PolicyError::Time => "There is no such time of day.",
        PolicyError::Malformed => "The settings cannot be read.",
    };
    let code = if error == PolicyError::Time { ErrorCode::BadInput } else { ErrorCode::Full };
    ApiError::new(code, sentence)
}

fn change(policy: &mut Policy, asked: &ScreeningChange) -> Result<(), ApiError> {
    let quiet = &mut policy.quiet;
    if let Some(on) = asked.quiet {
        let minutes = asked.minutes.filter(|_| on);
        if minutes.is_some_and(|minutes| minutes == 0 || minutes > MAX_MINUTES) {
            return Err(ApiError::new(ErrorCode::BadInput, "From a minute to a year."));
        }
        quiet.on = on && minutes.is_none();
        quiet.until = minutes.map(|minutes| UnixMillis(wall_clock().0 + u64::from(minutes) * 60_000));
    }
    if let Some(times) = &asked.times {
        quiet.windows = times.iter().map(QuietTime::window).collect();
    }
    if let Some(ring) = asked.contacts_ring {
        quiet.through = if ring { Through::Contacts } else { Through::Nobody };
    }
    quiet.again = asked.again_rings.unwrap_or(quiet.again);
    if let Some(strangers) = asked.strangers {
        (policy.contacts_only, policy.strangers_work, policy.strangers_leave_messages) = match strangers {
            Strangers::Ring => (false, false, true),
            Strangers::Work => (false, true, true),
            Strangers::Voicemail => (true, policy.strangers_work, true),
            Strangers::Refuse => (true, policy.strangers_work, false),
        };
    }
    Ok(())
}

fn strangers(policy: &Policy) -> Strangers {
    match (policy.contacts_only, policy.strangers_work, policy.strangers_leave_messages) {
        (true, _, true) => Strangers::Voicemail,
        (true, _, false) => Strangers::Refuse,
        (false, true, _) => Strangers::Work,
        (false, false, _) => Strangers::Ring,
    }
}

impl AccountStore {
    /// What the user wants of unwanted calls. One that cannot be read (of a later version) counts as the default.
    ///
    /// # Errors
    /// [`StorageError::Database`].
    pub async fn policy(&self) -> Result<Policy, StorageError> {
        let kept = self.setting(POLICY).await?;
        Ok(of_setting(kept.as_ref()).unwrap_or_else(|| {
            tracing::warn!("the settings about unwanted calls cannot be read");
            Policy::default()
        }))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// A [`PolicyError`] in the words of the API, or a file that cannot be written.
    pub async fn set_policy(&self, policy: &Policy) -> Result<(), ApiError> {
        let value = to_setting(policy).map_err(refused)?;
        self.set_setting(POLICY, value.as_deref()).await.map_err(|error| error.to_api())
    }

    /// Has nothing ring from now on until somebody says otherwise, or not any more.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub async fn set_quiet(&self, on: bool) -> Result<(), StorageError> {
        let mut policy = self.policy().await?;
        if (policy.quiet.on, policy.quiet.until) == (on, None) {
            return Ok(());
        }
        (policy.quiet.on, policy.quiet.until) = (on, None);
        let value = to_setting(&policy).map_err(|_| StorageError::TooLarge("A setting"))?;
        self.set_setting(POLICY, value.as_deref()).await
    }

    /// Whom the user has spoken with, the last ones first, at most 4,096.
    ///
    /// # Errors
    /// [`StorageError::Database`].
    pub async fn met(&self) -> Result<Vec<IdentityId>, StorageError> {
        let rows: Vec<(Vec<u8>,)> = sqlx::query_as(
            "SELECT identity FROM pins WHERE identity IS NOT NULL ORDER BY last_seen DESC LIMIT ?",
        )
        .bind(MAX_MET)
        .fetch_all(self.pool())
        .await?;
        let keys = rows.into_iter().filter_map(|(key,)| Some(IdentityId::from_bytes(key.try_into().ok()?)));
        Ok(keys.collect())
    }

    /// The calls that did not ring, as they were kept.
    ///
    /// # Errors
    /// [`StorageError::Database`].
    pub async fn refused_log(&self) -> Result<Log, StorageError> {
        let kept = self.setting(REFUSED).await?;
        let entries: Vec<Kept> = kept.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
        Ok(Log::of(entries.into_iter().filter_map(Kept::entry)))
    }

    /// Keeps the calls that did not ring.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub async fn keep_refused(&self, log: &Log) -> Result<(), StorageError> {
        let mut entries: Vec<Kept> = log.entries().map(Kept::of).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.last));
        let json = loop {
            let json = serde_json::to_string(&entries)
                .map_err(|_| StorageError::Internal("what did not ring could not be written"))?;
            if json.len() <= MAX_REFUSED_BYTES {
                break json;
            }
            entries.truncate(entries.len() * 3 / 4);
        };
        self.set_setting(REFUSED, Some(&json)).await
    }

    /// Blocks a number, and the key that is known behind it.
    ///
    /// # Errors
    /// No room, or a file that cannot be read or written.
    pub async fn block(&self, number: &Number, key: Option<IdentityId>) -> Result<(), ApiError> {
        let mut policy = self.policy().await.map_err(|error| error.to_api())?;
        let key = match key {
            Some(key) => Some(key),
            None => self.key_of(number).await?,
        };
        policy.block(Blocked::Number(number.clone())).map_err(refused)?;
        if let Some(key) = key {
            policy.block(Blocked::Identity(key)).map_err(refused)?;
        }
        self.set_policy(&policy).await
    }

    async fn key_of(&self, number: &Number) -> Result<Option<IdentityId>, ApiError> {
        let pin = self.pin_of(number).await.map_err(|error| error.to_api())?;
        Ok(pin.and_then(|pin| match pin.expected() {
            Pin::Key(key) => Some(key),
            Pin::Fingerprint(_) => None,
        }))
    }

    pub(super) async fn block_typed(&self, typed: &str) -> Result<Reply, ApiError> {
        let number = self.resolve(typed).await.map_err(|error| error.to_api())?.number;
        self.block(&number, None).await?;
        Ok(Reply::Done)
    }

    pub(super) async fn unblock_typed(&self, typed: &str) -> Result<Reply, ApiError> {
        let mut policy = self.policy().await.map_err(|error| error.to_api())?;
        let by_key = policy.blocked().iter().find_map(|who| match who {
            Blocked::Identity(key) if key.fingerprint().to_string() == typed.trim() => Some(*key),
            Blocked::Identity(_) | Blocked::Number(_) => None,
        });
        let found = match by_key {
            Some(key) => policy.unblock(&Blocked::Identity(key)),
            None => {
                let number = self.resolve(typed).await.map_err(|error| error.to_api())?.number;
                let key = self.key_of(&number).await?;
                let by_key = key.is_some_and(|key| policy.unblock(&Blocked::Identity(key)));
                policy.unblock(&Blocked::Number(number)) || by_key
            }
        };
        if !found {
            return Err(ApiError::new(ErrorCode::BadInput, "That is nobody who is blocked."));
        }
        self.set_policy(&policy).await?;
        Ok(Reply::Done)
    }

    pub(super) async fn list_blocked(&self) -> Result<Reply, ApiError> {
        let policy = self.policy().await.map_err(|error| error.to_api())?;
        let names = self.names().await?;
        let mut keys: Vec<IdentityId> = Vec::new();
        let mut blocked = Vec::new();
        for who in policy.blocked() {
            match who {
                Blocked::Identity(key) => keys.push(*key),
                Blocked::Number(number) => {
                    let key = self.key_of(number).await?.filter(|key| keys.contains(key));
                    keys.retain(|known| Some(*known) != key);
                    let name = names.get(number).cloned();
                    let key = key.map(|key| key.fingerprint().to_string());
                    blocked.push(BlockedCaller { number: Some(number.clone()), name, key });
                }
            }
        }
        let alone = |key: IdentityId| BlockedCaller {
            number: None,
            name: None,
            key: Some(key.fingerprint().to_string()),
        };
        blocked.extend(keys.into_iter().map(alone));
        Ok(Reply::Blocked { blocked })
    }

    pub(super) async fn screen(&self, asked: &ScreeningChange) -> Result<Reply, ApiError> {
        let mut policy = self.policy().await.map_err(|error| error.to_api())?;
        let before = policy.clone();
        change(&mut policy, asked)?;
        for (typed, always) in [(&asked.always, true), (&asked.not_always, false)] {
            if let Some(typed) = typed {
                let found = self.find_contact(typed).await.map_err(|error| error.to_api())?;
                policy.set_exempt(&found.number, always).map_err(refused)?;
            }
        }
        if policy != before {
            self.set_policy(&policy).await?;
        }
        let names = self.names().await?;
        let named = |number: &Number| Named { number: number.clone(), name: names.get(number).cloned() };
        let now = local_time();
        Ok(Reply::Screening(Screening {
            quiet_now: policy.quiet(now, false).is_some(),
            quiet: policy.quiet.on,
            until: policy.quiet.until.filter(|until| now.at < *until).map(|until| until.0),
            times: policy.quiet.windows.iter().map(QuietTime::of).collect(),
            contacts_ring: policy.quiet.through == Through::Contacts,
            again_rings: policy.quiet.again,
            always: policy.exempt().iter().map(named).collect(),
            strangers: strangers(&policy),
        }))
    }

    pub(super) async fn list_refused(&self) -> Result<Reply, ApiError> {
        let log = self.refused_log().await.map_err(|error| error.to_api())?;
        Ok(Reply::Refused { calls: self.told(&log).await? })
    }

    /// What did not ring, as the API tells it.
    pub(crate) async fn told(&self, log: &Log) -> Result<Vec<RefusedCall>, ApiError> {
        let names = self.names().await?;
        let told = |entry: &Entry| RefusedCall {
            number: entry.number.clone(),
            name: entry.number.as_ref().and_then(|number| names.get(number).cloned()),
            contact: entry.contact,
            reason: entry.reason,
            first: entry.first.0,
            last: entry.last.0,
            count: entry.count,
        };
        let mut calls: Vec<RefusedCall> = log.entries().map(told).collect();
        calls.sort_by_key(|call| std::cmp::Reverse(call.last));
        Ok(calls)
    }
}
