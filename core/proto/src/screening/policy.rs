//! What the user wants.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use minicbor::{Decode, Encode};
use thiserror::Error;

use super::Reason;
use crate::identity::IdentityId;
use crate::number::Number;
use crate::wire::{self, UnixMillis, WireError};

/// Most entries of the block list.
pub const MAX_BLOCKED: usize = 1_024;
/// Most times of day at which quiet is wanted.
pub const MAX_WINDOWS: usize = 32;
/// Most bytes of an encoded policy: it fits a setting of an account's [backup](crate::backup::MAX_SETTING_BYTES), in base64, too.
pub const MAX_POLICY_BYTES: usize = 48 * 1024;

/// Most contacts who may always disturb.
pub const MAX_EXEMPT: usize = 256;

const MINUTES_OF_DAY: u16 = 24 * 60;

/// Who is not to be heard of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub enum Blocked {
    /// Whoever has this key, whatever the number.
    #[n(0)]
    Identity(#[n(0)] IdentityId),
    /// Whoever shows this number, whatever the key.
    #[n(1)]
    Number(#[n(0)] Number),
}

impl std::fmt::Debug for Blocked {
    /// Not the number.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Identity(id) => write!(f, "{id:?}"),
            Self::Number(_) => f.write_str("Number(..)"),
        }
    }
}

/// Days of the week, a bit each: Monday is bit 0, Sunday bit 6 (ISO 8601).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Weekdays(#[n(0)] pub u8);

impl Weekdays {
    /// Every day.
    pub const ALL: Self = Self(0x7f);

    /// Whether a day, 0 Monday to 6 Sunday, is among them.
    #[must_use]
    pub fn has(self, day: u8) -> bool {
        day < 7 && self.0 >> day & 1 == 1
    }
}

/// A time of day on some days of the week, by the clock on the user's wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Window {
    /// Days on which it begins.
    #[n(0)]
    pub days: Weekdays,
    /// First minute of the day, 0 to 1439.
    #[n(1)]
    pub from: u16,
    /// Minute at which it is over, 0 to 1439. One that is not after `from` is of the next day: 22:00 to 7:00, or all day
    /// from `from` on.
    #[n(2)]
    pub to: u16,
}

impl Window {
    /// Whether it is now.
    #[must_use]
    pub fn holds(&self, local: LocalTime) -> bool {
        let yesterday = (local.weekday % 7 + 6) % 7;
        let minute = local.minute;
        if self.from < self.to {
            return self.days.has(local.weekday) && (self.from..self.to).contains(&minute);
        }
        self.days.has(local.weekday) && minute >= self.from || self.days.has(yesterday) && minute < self.to
    }

    fn is_sound(&self) -> bool {
        self.from < MINUTES_OF_DAY && self.to < MINUTES_OF_DAY && self.days.0 & !Weekdays::ALL.0 == 0
    }
}

/// The time where the user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Day of the week, 0 Monday to 6 Sunday.
    pub weekday: u8,
    /// Minute of the day, 0 to 1439.
    pub minute: u16,
    /// The same moment for everybody.
    pub at: UnixMillis,
}

/// Who comes through when quiet is wanted, beside contacts that are marked as [exempt](super::Standing::Contact).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Through {
    /// Nobody.
    #[default]
    #[n(0)]
    Nobody,
    /// All contacts: strangers only are kept quiet.
    #[n(1)]
    Contacts,
}

/// When nothing is to ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Quiet {
    /// Now, until the user says otherwise.
    #[n(0)]
    pub on: bool,
    /// Now, until this moment.
    #[n(1)]
    pub until: Option<UnixMillis>,
    /// At these times, at most [`MAX_WINDOWS`].
    #[n(2)]
    pub windows: Vec<Window>,
    /// Who comes through all the same.
    #[n(3)]
    pub through: Through,
    /// Whether a contact's second call within [`AGAIN`](super::AGAIN) rings.
    #[n(4)]
    pub again: bool,
}

/// What the user wants. The default lets everybody ring, and strangers work for it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Policy {
    /// Who is blocked, at most [`MAX_BLOCKED`], in order.
    #[n(0)]
    pub(super) blocked: Vec<Blocked>,
    /// Whether only contacts may call.
    #[n(1)]
    pub contacts_only: bool,
    /// When nothing is to ring.
    #[n(2)]
    pub quiet: Quiet,
    /// Whether strangers solve a puzzle before it rings, when more of them call than [cost nothing](super::CALL_TARIFF).
    #[n(3)]
    pub strangers_work: bool,
    /// Whether strangers whose call does not ring may leave a message.
    #[n(4)]
    pub strangers_leave_messages: bool,
    /// Numbers of contacts who may always disturb, at most [`MAX_EXEMPT`], in order.
    #[n(5)]
    pub(super) exempt: Vec<Number>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            blocked: Vec::new(),
            contacts_only: false,
            quiet: Quiet::default(),
            strangers_work: true,
            strangers_leave_messages: true,
            exempt: Vec::new(),
        }
    }
}

/// Why a policy is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// Longer than [`MAX_POLICY_BYTES`], or it would be.
    #[error("a policy of {0} bytes")]
    TooLarge(usize),
    /// It cannot be decoded.
    #[error("malformed policy")]
    Malformed,
    /// More entries on the block list than [`MAX_BLOCKED`], or more times than [`MAX_WINDOWS`].
    #[error("too many blocked, or too many times")]
    TooMany,
    /// A time that is none.
    #[error("a time of day that there is not")]
    Time,
}

impl Policy {
    /// The encoding that [`Policy::from_bytes`] takes.
    ///
    /// # Errors
    /// A [`PolicyError`] if it is beyond its limits.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PolicyError> {
        self.check()?;
        let bytes = wire::encode(self);
        if bytes.len() > MAX_POLICY_BYTES { Err(PolicyError::TooLarge(bytes.len())) } else { Ok(bytes) }
    }

    /// Decodes, and checks everything.
    ///
    /// # Errors
    /// A [`PolicyError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PolicyError> {
        let policy: Self = wire::decode(bytes, MAX_POLICY_BYTES).map_err(|error| match error {
            WireError::TooLarge { len, .. } => PolicyError::TooLarge(len),
            WireError::Malformed | WireError::Trailing(_) => PolicyError::Malformed,
        })?;
        policy.check()?;
        // It is searched by halves.
        let sorted = policy.blocked.is_sorted_by(|a, b| a < b) && policy.exempt.is_sorted_by(|a, b| a < b);
        if sorted { Ok(policy) } else { Err(PolicyError::Malformed) }
    }

    /// Blocks somebody; false if it was so already.
    ///
    /// # Errors
    /// [`PolicyError::TooMany`] or [`PolicyError::TooLarge`]; nothing has changed then.
    pub fn block(&mut self, who: Blocked) -> Result<bool, PolicyError> {
        let Err(place) = self.blocked.binary_search(&who) else { return Ok(false) };
        if self.blocked.len() >= MAX_BLOCKED {
            return Err(PolicyError::TooMany);
        }
        self.blocked.insert(place, who);
        match self.to_bytes() {
            Ok(_) => Ok(true),
            Err(error) => {
                self.blocked.remove(place);
                Err(error)
            }
        }
    }

    /// Blocks somebody no longer; false if it was so already.
    pub fn unblock(&mut self, who: &Blocked) -> bool {
        let place = self.blocked.binary_search(who);
        place.is_ok_and(|place| {
            self.blocked.remove(place);
            true
        })
    }

    /// Who is blocked, in order.
    #[must_use]
    pub fn blocked(&self) -> &[Blocked] {
        &self.blocked
    }

    /// Takes over what another terminal of the account has blocked since both had `base`, and the other way round: an entry
    /// is in the result if either has added it, and not if either has removed it. Everything else is that of `self` where it
    /// differs from `base`, else the other's.
    ///
    /// # Errors
    /// A [`PolicyError`] if both together are beyond the limits.
    pub fn merged(&self, other: &Self, base: &Self) -> Result<Self, PolicyError> {
        let blocked = merged_lists(&self.blocked, &other.blocked, &base.blocked);
        let exempt = merged_lists(&self.exempt, &other.exempt, &base.exempt);
        let pick = |ours: bool, theirs: bool, base: bool| if ours == base { theirs } else { ours };
        let merged = Self {
            blocked,
            exempt,
            contacts_only: pick(self.contacts_only, other.contacts_only, base.contacts_only),
            quiet: if self.quiet == base.quiet { other.quiet.clone() } else { self.quiet.clone() },
            strangers_work: pick(self.strangers_work, other.strangers_work, base.strangers_work),
            strangers_leave_messages: pick(
                self.strangers_leave_messages,
                other.strangers_leave_messages,
                base.strangers_leave_messages,
            ),
        };
        merged.to_bytes().map(|_| merged)
    }

    /// Has a contact always ring, or not any more; false if it was so already.
    ///
    /// # Errors
    /// [`PolicyError::TooMany`] or [`PolicyError::TooLarge`]; nothing has changed then.
    pub fn set_exempt(&mut self, number: &Number, exempt: bool) -> Result<bool, PolicyError> {
        match (self.exempt.binary_search(number), exempt) {
            (Ok(_), true) | (Err(_), false) => return Ok(false),
            (Ok(place), false) => {
                self.exempt.remove(place);
                return Ok(true);
            }
            (Err(_), true) if self.exempt.len() >= MAX_EXEMPT => return Err(PolicyError::TooMany),
            (Err(place), true) => self.exempt.insert(place, number.clone()),
        }
        match self.to_bytes() {
            Ok(_) => Ok(true),
            Err(error) => {
                self.exempt.retain(|known| known != number);
                Err(error)
            }
        }
    }

    /// Contacts who may always disturb, in order.
    #[must_use]
    pub fn exempt(&self) -> &[Number] {
        &self.exempt
    }

    /// Whether a contact may always disturb.
    #[must_use]
    pub fn is_exempt(&self, number: &Number) -> bool {
        self.exempt.binary_search(number).is_ok()
    }

    /// Whether somebody is blocked.
    #[must_use]
    pub fn blocks(&self, identity: &IdentityId, number: &Number) -> bool {
        // Keys come before numbers. Nothing is copied for each of many calls.
        let by_number = self.blocked.binary_search_by(|who| match who {
            Blocked::Identity(_) => Ordering::Less,
            Blocked::Number(blocked) => blocked.cmp(number),
        });
        by_number.is_ok() || self.blocked.binary_search(&Blocked::Identity(*identity)).is_ok()
    }

    /// Why quiet is wanted of a contact, or of a stranger; `None` if it is not.
    #[must_use]
    pub fn quiet(&self, local: LocalTime, contact: bool) -> Option<Reason> {
        let quiet = &self.quiet;
        if contact && quiet.through == Through::Contacts {
            return None;
        }
        if quiet.on || quiet.until.is_some_and(|until| local.at < until) {
            return Some(Reason::DoNotDisturb);
        }
        quiet.windows.iter().any(|window| window.holds(local)).then_some(Reason::QuietHours)
    }

    fn check(&self) -> Result<(), PolicyError> {
        let lists = self.blocked.len() > MAX_BLOCKED || self.exempt.len() > MAX_EXEMPT;
        if lists || self.quiet.windows.len() > MAX_WINDOWS {
            return Err(PolicyError::TooMany);
        }
        if self.quiet.windows.iter().all(Window::is_sound) { Ok(()) } else { Err(PolicyError::Time) }
    }
}

/// What two have made of a list of `base`, in order.
fn merged_lists<T: Ord + Clone>(ours: &[T], theirs: &[T], base: &[T]) -> Vec<T> {
    let set = |list: &[T]| list.iter().cloned().collect::<BTreeSet<T>>();
    let (ours, theirs, before) = (set(ours), set(theirs), set(base));
    let stays = |who: &&T| !before.contains(*who) || ours.contains(*who) && theirs.contains(*who);
    ours.union(&theirs).filter(stays).cloned().collect()
}
