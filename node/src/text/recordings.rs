//! Recordings in words.

use super::{caller, duration, padded, widest};
use offhook::api::{Recording, RecordingEnd, RecordingEvent};
use std::time::Duration;

/// What happens to a recording of ours.
pub(super) fn event(event: &RecordingEvent) -> String {
    let (recording, end, length) = match event {
        RecordingEvent::Started { recording, .. } => {
            return format!("The call is being recorded ({recording}); the other end is told.");
        }
        RecordingEvent::Ended { recording, end, duration_ms, .. } => (recording, *end, *duration_ms),
    };
    let why = match end {
        RecordingEnd::Stopped | RecordingEnd::CallEnded => "",
        RecordingEnd::Refused => "The other end does not want to be recorded. ",
        RecordingEnd::Unanswered => {
            "The other end does not say that it may be recorded; it may be an older version. "
        }
        RecordingEnd::Full => "A recording can't be longer, or there can't be more. ",
        RecordingEnd::Disk => "The recording can't be written; is the disk full? ",
    };
    match recording {
        Some(name) => format!("{why}Recorded: {} ({name}).", duration(length)),
        None => format!("{why}Nothing is recorded."),
    }
}

/// A message on the answering machine.
pub(super) fn message(message: &Recording) -> String {
    let from = message.number.as_ref().map_or("an unknown number".into(), |number| caller(None, number));
    format!("{from} has left a message of {} ({}).", duration(message.duration_ms), message.recording)
}

/// The list as a table.
pub(super) fn list(recordings: &[Recording]) -> String {
    if recordings.is_empty() {
        return "No recordings. `offhook record on` records the present call.".into();
    }
    let numbers: Vec<String> = recordings
        .iter()
        .map(|recording| recording.number.as_ref().map_or("?".into(), |number| caller(None, number)))
        .collect();
    let names: Vec<&str> = recordings.iter().map(|recording| recording.recording.as_str()).collect();
    let (first, second) = (widest(&names), widest(&numbers));
    let line = |(recording, number): (&Recording, &String)| {
        let (name, length) = (padded(&recording.recording, first), duration(recording.duration_ms));
        format!("  {name}  {}  {length}", padded(number, second))
    };
    recordings.iter().zip(&numbers).map(line).collect::<Vec<_>>().join("\n")
}

/// A length in words.
pub fn duration_of(length: Duration) -> String {
    duration(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook::api::RecordingKind;
    use offhook::proto::number::{Number, PlainNumber};

    #[test]
    fn recordings_are_told_in_words() {
        let ended = |recording: Option<&str>, end| {
            let recording = recording.map(str::to_owned);
            event(&RecordingEvent::Ended { call: "c".into(), recording, end, duration_ms: 61_000 })
        };
        assert_eq!(ended(Some("call-1"), RecordingEnd::Stopped), "Recorded: 1 min 1 s (call-1).");
        assert!(ended(None, RecordingEnd::Refused).starts_with("The other end does not want"));
        assert!(ended(Some("call-1"), RecordingEnd::Disk).contains("disk full"));
        let recording = |name: &str, number| Recording {
            recording: name.into(),
            kind: RecordingKind::Call,
            number,
            began: 0,
            duration_ms: 3_000,
            bytes: 9,
        };
        let number = Number::Plain(PlainNumber::from_index(1));
        let table = list(&[recording("call-1", Some(number.clone())), recording("message-2", None)]);
        let ends: Vec<usize> = table.lines().map(|line| line.find("3 s").unwrap()).collect();
        assert_eq!(ends[0], ends[1], "{table}");
        assert!(list(&[]).contains("record on"));
        assert_eq!(
            message(&recording("message-2", Some(number.clone()))),
            format!("{number} has left a message of 3 s (message-2).")
        );
    }
}
