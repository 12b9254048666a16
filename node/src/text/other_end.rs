//! What people read of what the other end of a call does.

use super::caller;
use offhook::api::Event;

/// What the other end does as one line.
pub(super) fn event(event: &Event) -> Option<String> {
    if let Event::Dtmf { digit, .. } = event {
        return Some(format!("The other end pressed {digit}."));
    }
    if let Event::TransferAsked { number, name, .. } = event {
        let who = caller(name.as_deref(), number);
        return Some(format!("The other end asks you to talk with {who} instead. `follow` or `follow no`?"));
    }
    let (on, begins, ends) = if let Event::RemoteHold { on, .. } = event {
        (*on, "The other end put the call on hold.", "The other end is back.")
    } else if let Event::RemoteMute { on, .. } = event {
        (*on, "The other end muted its microphone.", "The other end's microphone is open again.")
    } else if let Event::RemoteRecording { on, .. } = event {
        let begins = "The other end records the call. `record refuse` does not let it.";
        (*on, begins, "The other end no longer records the call.")
    } else {
        let lapsed = "What the other end asked for is declined: you said nothing to it in time.";
        (matches!(event, Event::TransferLapsed { .. }), lapsed, "")
    };
    let said = if on { begins } else { ends };
    (!said.is_empty()).then(|| said.to_owned())
}
