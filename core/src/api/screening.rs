//! Unwanted calls: when nothing is to ring, what strangers may, who is blocked, and what did not ring.

use offhook_proto::number::Number;
use offhook_proto::screening::{self, Reason, Weekdays};
use serde::{Deserialize, Serialize};

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    /// All of them, in their order.
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    /// Its three letters.
    pub fn code(self) -> &'static str {
        match self {
            Self::Mon => "mon",
            Self::Tue => "tue",
            Self::Wed => "wed",
            Self::Thu => "thu",
            Self::Fri => "fri",
            Self::Sat => "sat",
            Self::Sun => "sun",
        }
    }
}

/// A time of day on some days of the week, by the terminal's local time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietTime {
    /// Days on which it begins.
    pub days: Vec<Day>,
    /// First minute of the day, 0 to 1439.
    pub from: u16,
    /// Minute at which it is over, 0 to 1439; one that is not after `from` is of the next day.
    pub to: u16,
}

impl QuietTime {
    pub(crate) fn window(&self) -> screening::Window {
        let bits = Day::ALL.iter().enumerate().filter(|(_, day)| self.days.contains(day));
        let days = Weekdays(bits.fold(0, |bits, (n, _)| bits | 1 << n));
        screening::Window { days, from: self.from, to: self.to }
    }

    pub(crate) fn of(window: &screening::Window) -> Self {
        let days = (0_u8..).zip(Day::ALL).filter(|(n, _)| window.days.has(*n)).map(|(_, day)| day).collect();
        Self { days, from: window.from, to: window.to }
    }
}

/// What strangers may: whoever is no contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strangers {
    /// Ring, however many call.
    Ring,
    /// Ring; while many call, those who have solved a puzzle, which costs more the more of them call.
    Work,
    /// Leave a message: only contacts ring.
    Voicemail,
    /// Nothing: only contacts ring, and strangers leave no message either.
    Refuse,
}

/// What is to be changed of [`Screening`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScreeningChange {
    /// Quiet from now on, until somebody says otherwise; or not any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<bool>,
    /// With `quiet`: for so many minutes only, at most a year.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<u32>,
    /// Times at which quiet is wanted, in the place of all before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<Vec<QuietTime>>,
    /// Whether contacts ring although quiet is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contacts_ring: Option<bool>,
    /// Whether a contact that calls twice within three minutes rings although quiet is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again_rings: Option<bool>,
    /// A contact, by number or name, who always rings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always: Option<String>,
    /// A contact, by number or name, who does not always ring any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_always: Option<String>,
    /// What strangers may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strangers: Option<Strangers>,
}

/// When nothing is to ring, and what strangers may. The same at all terminals of an account that keeps a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screening {
    /// Whether quiet is wanted at this moment, for whatever reason.
    pub quiet_now: bool,
    /// Quiet until somebody says otherwise.
    pub quiet: bool,
    /// Quiet until this moment, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Times at which quiet is wanted.
    pub times: Vec<QuietTime>,
    /// Contacts ring although quiet is wanted.
    pub contacts_ring: bool,
    /// A contact that calls twice within three minutes rings although quiet is wanted.
    pub again_rings: bool,
    /// Who always rings.
    pub always: Vec<Named>,
    /// What strangers may.
    pub strangers: Strangers,
}

/// A number, and its name in the contact list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The number.
    pub number: Number,
    /// Its name, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Somebody of whom one does not want to hear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedCaller {
    /// The number, if one is blocked or the key's is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<Number>,
    /// Its name in the contact list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Fingerprint of the key that is blocked, whatever number it shows; nothing if the number alone is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Calls of somebody that did not ring, of one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedCall {
    /// The caller's number; nothing for a flood. A stranger's is what it has said, without proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<Number>,
    /// Its name in the contact list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it was a contact.
    pub contact: bool,
    /// Why.
    pub reason: Reason,
    /// When it was first, Unix milliseconds.
    pub first: u64,
    /// When it was last.
    pub last: u64,
    /// How often.
    pub count: u64,
}
