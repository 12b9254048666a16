//! Text messages and voice messages in words.

use super::{caller, duration_of, padded, printable, widest};
use offhook::api::{MessageStatus, PastMessage, Voicemail};
use std::time::Duration;

/// The text messages, the last one at the bottom.
pub fn messages(list: &[PastMessage]) -> String {
    if list.is_empty() {
        return "No messages.".into();
    }
    let who: Vec<String> = list.iter().map(|one| caller(one.name.as_deref(), &one.number)).collect();
    let width = widest(&who);
    let line = |(one, who): (&PastMessage, &String)| {
        let (way, state) = match one.status {
            MessageStatus::Received => ("from", ""),
            MessageStatus::Sending => ("to  ", "  (on its way)"),
            MessageStatus::Left => ("to  ", "  (left at the directory)"),
            MessageStatus::Delivered => ("to  ", "  (delivered)"),
            MessageStatus::Read => ("to  ", "  (read)"),
            MessageStatus::Failed => ("to  ", "  (not delivered)"),
        };
        format!("  {way} {}  {}{state}", padded(who, width), printable(&one.body))
    };
    list.iter().zip(&who).rev().map(line).collect::<Vec<_>>().join("\n")
}

/// The voice messages, the newest first.
pub fn voicemails(list: &[Voicemail]) -> String {
    if list.is_empty() {
        return "No voice messages.".into();
    }
    let line = |one: &Voicemail| {
        let new = if one.heard { "   " } else { "new" };
        let length = duration_of(Duration::from_millis(one.duration_ms.into()));
        format!("  {:>4}  {new}  {}  {length}", one.voicemail, caller(one.name.as_deref(), &one.number))
    };
    list.iter().map(line).collect::<Vec<_>>().join("\n")
}
