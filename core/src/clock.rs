//! The wall clock, read in one place. Timers use the monotonic one.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use offhook_proto::screening::LocalTime;
use offhook_proto::wire::UnixMillis;
use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds by the system's clock, wherever a signed time is made or compared. One before 1970 reads as 0:
/// everything signed then looks like something from the future and is refused.
pub fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The time of day where this computer is, by its time zone.
pub(crate) fn local_time() -> LocalTime {
    let now = TimeZone::system().to_datetime(Timestamp::now());
    let weekday = u8::try_from(now.weekday().to_monday_zero_offset()).unwrap_or_default();
    let part = |part: i8| u16::try_from(part).unwrap_or_default();
    let minute = part(now.hour()) * 60 + part(now.minute());
    LocalTime { weekday, minute, at: wall_clock() }
}
