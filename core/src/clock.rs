//! The wall clock, read in one place. Timers use the monotonic one.

use offhook_proto::wire::UnixMillis;
use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds by the system's clock, wherever a signed time is made or compared. One before 1970 reads as 0:
/// everything signed then looks like something from the future and is refused.
pub fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
