//! What can be known of a device before a call: whether it is there, and which file a call is written to.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use offhook_proto::number::Number;
use offhook_proto::wire::UnixMillis;

use super::{AudioError, DeviceKind, DeviceSpec, device, wav};

/// In the path of a loudspeaker's file: the time when the call began, UTC.
const TIME: &str = "{time}";
/// In the path of a loudspeaker's file: the other end's number.
const NUMBER: &str = "{number}";

impl DeviceSpec {
    /// Looks whether the device or file can be used as `kind` now. Opens no device; leaves no file. May take some
    /// hundred milliseconds. `default` always passes: a call goes on without a device, and another may be plugged in.
    ///
    /// # Errors
    /// [`AudioError`], as a call would meet it.
    pub fn check(&self, kind: DeviceKind) -> Result<(), AudioError> {
        match (self, kind) {
            (DeviceSpec::Default | DeviceSpec::None | DeviceSpec::Custom(_), _) => Ok(()),
            (DeviceSpec::Id(id), _) => device::check(id, kind),
            (DeviceSpec::File(path), DeviceKind::Mic) => wav::WavSource::open(path).map(drop),
            (DeviceSpec::File(path), DeviceKind::Speaker) => writable(&filled(path, "check", "check")),
        }
    }

    /// The loudspeaker of one call: `{time}` and `{number}` in a file's path become the call's own.
    pub(crate) fn for_call(&self, number: &Number, began: UnixMillis) -> DeviceSpec {
        match self {
            DeviceSpec::File(path) => {
                DeviceSpec::File(filled(path, &utc(began), &file_name(&number.canonical())))
            }
            DeviceSpec::Default | DeviceSpec::Id(_) | DeviceSpec::None | DeviceSpec::Custom(_) => {
                self.clone()
            }
        }
    }
}

fn filled(path: &Path, time: &str, number: &str) -> PathBuf {
    match path.to_str() {
        Some(text) => text.replace(TIME, time).replace(NUMBER, number).into(),
        // No placeholder of ours.
        None => path.to_owned(),
    }
}

/// Without what could lead elsewhere: a number may be chosen by a stranger.
fn file_name(number: &str) -> String {
    number.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect()
}

/// `20260131T101500Z` (ISO 8601, basic format).
pub(crate) fn utc(at: UnixMillis) -> String {
    let seconds = at.0 / 1_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{:02}Z", second % 60)
}

/// Days since 1970 to a date of the Gregorian calendar: years begin in March, so that leap days come last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

/// Whether the file can be written. What it holds stays; one that was not there is not there afterwards.
fn writable(path: &Path) -> Result<(), AudioError> {
    let failed =
        |error: std::io::Error| AudioError::File { path: path.to_owned(), reason: error.to_string() };
    wav::check_kind(path)?;
    let new = !path.exists();
    OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
    if new { std::fs::remove_file(path).map_err(failed) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_proto::number::PlainNumber;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_769_854_500, "20260131T101500Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(utc(UnixMillis(seconds * 1_000)), text);
        }
    }

    #[test]
    fn each_call_is_written_to_a_file_of_its_own() {
        let number = Number::Plain(PlainNumber::from_index(1));
        let spec = DeviceSpec::File("calls/{time}-{number}.wav".into());
        let expected = format!("calls/19700101T000001Z-{}.wav", number.canonical());
        assert_eq!(spec.for_call(&number, UnixMillis(1_000)), DeviceSpec::File(expected.into()));
        assert_eq!(DeviceSpec::None.for_call(&number, UnixMillis(0)), DeviceSpec::None);
        assert_eq!(file_name("../☎7"), "____7");
    }

    #[test]
    fn files_are_checked_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("kept.wav");
        std::fs::write(&there, "kept").unwrap();
        let speaker = |path: PathBuf| DeviceSpec::File(path).check(DeviceKind::Speaker);
        assert_eq!(speaker(there.clone()), Ok(()));
        assert_eq!(speaker(folder.path().join("{time}.wav")), Ok(()));
        assert_eq!(std::fs::read(&there).unwrap(), b"kept");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(matches!(speaker("/nonexistent/x.wav".into()), Err(AudioError::File { .. })));
        let mic = DeviceSpec::File(there).check(DeviceKind::Mic);
        assert!(matches!(mic, Err(AudioError::File { .. })), "no sound: {mic:?}");
        for kind in [DeviceKind::Mic, DeviceKind::Speaker] {
            let unknown = DeviceSpec::Id("nosuch".into()).check(kind);
            assert_eq!(unknown, Err(AudioError::NoDevice("nosuch".into())));
            assert_eq!(DeviceSpec::Default.check(kind), Ok(()));
        }
    }
}
