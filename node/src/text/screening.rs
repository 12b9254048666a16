//! Unwanted calls in words.

use super::calls::local_time;
use super::{caller, padded, printable, widest};
use crate::times;
use offhook::api::{BlockedCaller, Named, RefusedCall, Screening, Strangers};
use offhook::proto::screening::Reason;

/// Who is blocked.
pub fn blocked(list: &[BlockedCaller]) -> String {
    if list.is_empty() {
        return "Nobody is blocked.".into();
    }
    let who = |blocked: &BlockedCaller| match &blocked.number {
        Some(number) => caller(blocked.name.as_deref(), number),
        None => "any number".into(),
    };
    let names: Vec<String> = list.iter().map(who).collect();
    let first = widest(&names);
    let line = |(blocked, name): (&BlockedCaller, &String)| match &blocked.key {
        Some(key) => format!("  {}  with the key {key}", padded(name, first)),
        None => format!("  {name}"),
    };
    list.iter().zip(&names).map(line).collect::<Vec<_>>().join("\n")
}

/// When nothing is to ring, and what strangers may.
pub fn screening(state: &Screening) -> String {
    let quiet = match (state.quiet_now, state.quiet, state.until) {
        (_, true, _) => "until you say otherwise".to_owned(),
        (_, false, Some(until)) => format!("until {}", local_time(until)),
        (true, false, None) => "now, by the schedule".into(),
        (false, false, None) => "no".into(),
    };
    let mut except: Vec<String> = Vec::new();
    if state.contacts_ring {
        except.push("all contacts".into());
    }
    if state.again_rings {
        except.push("contacts who call twice within three minutes".into());
    }
    let name = |named: &Named| caller(named.name.as_deref(), &named.number);
    except.extend(state.always.iter().map(|named| format!("{} always", name(named))));
    let except = if except.is_empty() { "nobody".to_owned() } else { except.join(", ") };
    let strangers = match state.strangers {
        Strangers::Ring => "ring, however many call",
        Strangers::Work => "ring; while many of them call, those whose terminals have worked for it",
        Strangers::Voicemail => "may leave a message; only contacts ring",
        Strangers::Refuse => "may not call; only contacts ring",
    };
    format!(
        "  do not disturb  {quiet}\n  schedule        {}\n  except          {except}\n  strangers       {strangers}",
        times::shown(&state.times)
    )
}

/// Why a call did not ring.
fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Welcome | Reason::Exempt | Reason::CalledAgain => "it was welcome",
        Reason::Blocked => "blocked",
        Reason::ContactsOnly => "only contacts ring",
        Reason::DoNotDisturb => "do not disturb",
        Reason::QuietHours => "do not disturb, by the schedule",
        Reason::Unpaid => "a stranger, asked to work first",
        Reason::Flood => "a flood of strangers' calls, not answered",
    }
}

fn who(call: &RefusedCall) -> String {
    match (&call.number, call.contact) {
        (Some(number), true) => caller(call.name.as_deref(), number),
        (Some(number), false) => format!("{} (says the caller)", printable(&number.to_string())),
        (None, _) => "strangers".into(),
    }
}

/// A call that did not ring, as it happens.
pub fn refused_now(call: &RefusedCall) -> String {
    format!("A call of {} did not ring: {}.", who(call), why(call.reason))
}

/// The calls that did not ring.
pub fn refused(list: &[RefusedCall]) -> String {
    if list.is_empty() {
        return "Every call has rung.".into();
    }
    let names: Vec<String> = list.iter().map(who).collect();
    let first = widest(&names);
    let line = |(call, name): (&RefusedCall, &String)| {
        let times = if call.count > 1 { format!(", {} times", call.count) } else { String::new() };
        format!("  {}  {}  {}{times}", local_time(call.last), padded(name, first), why(call.reason))
    };
    list.iter().zip(&names).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: Option<&str>, contact: bool, reason: Reason, count: u64) -> RefusedCall {
        let number = number.map(|number| number.parse().unwrap());
        RefusedCall { number, name: None, contact, reason, first: 0, last: 1_800_000_000_000, count }
    }

    #[test]
    fn q8_why_a_call_did_not_ring_is_said_in_words() {
        let list = [
            call(Some("482109375567"), true, Reason::QuietHours, 2),
            call(Some("482109375567"), false, Reason::Unpaid, 1),
            call(None, false, Reason::Flood, 90_000),
        ];
        let shown = refused(&list);
        assert!(shown.contains("do not disturb, by the schedule, 2 times"), "{shown}");
        assert!(shown.contains("(says the caller)  a stranger, asked to work first"), "{shown}");
        assert!(shown.contains("not answered, 90000 times"), "{shown}");
        assert_eq!(refused(&[]), "Every call has rung.");
    }
}
