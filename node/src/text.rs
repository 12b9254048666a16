//! What people read: events, replies, errors in words.

use offhook::api::{
    CallStatus, Contact, EndReason, Event, LineState, PathKind, Reply, Side, Status, VerifyResult,
};
use offhook::proto::number::Number;
use std::fmt::Write as _;

/// An event as one line; `None` for those that only programs need.
pub fn event(event: &Event) -> Option<String> {
    let line = match event {
        Event::Online { number } => format!("On line. People can call you at {number}."),
        Event::Alone => {
            "Nobody can call you yet: no entry point into the network is known (`--entry`), and no other \
                         terminal is near. Waiting …"
                .into()
        }
        Event::Offline => "Off line: no entry point into the network is reachable. Trying again …".into(),
        Event::Searching { number, .. } => format!("Looking up {number} …"),
        Event::Found { terminals: 1, .. } => "Found. Inviting …".into(),
        Event::Found { terminals, .. } => format!("Found on {terminals} terminals. Inviting …"),
        Event::Ringing { .. } => "It rings …".into(),
        Event::Incoming { number, name, .. } => {
            format!("{} is calling. `answer` or `reject`?", caller(name.as_deref(), number))
        }
        Event::Accepted { .. } => "Answered.".into(),
        Event::Connected { path: by, .. } => format!("Connected {}.", path(*by)),
        Event::Path { path: by, .. } => format!("The call now goes {}.", path(*by)),
        Event::AudioStarted { .. } | Event::FirstAudio { .. } => return None,
        Event::Text { from, body, .. } => format!("Message from {from}: {}", printable(body)),
        Event::TextDelivered { .. } => "Message delivered.".into(),
        Event::TextFailed { reason: why, .. } => format!("Message not delivered: {}.", reason(why)),
        Event::Dtmf { digit, .. } => format!("The other end pressed {digit}."),
        Event::RemoteHold { on: true, .. } => "The other end put the call on hold.".into(),
        Event::RemoteHold { on: false, .. } => "The other end is back.".into(),
        Event::RemoteMute { on: true, .. } => "The other end muted its microphone.".into(),
        Event::RemoteMute { on: false, .. } => "The other end's microphone is open again.".into(),
        Event::KeyChanged { number, pinned, offered } => format!(
            "WARNING: the key behind {number} has changed (it was {}, it is {}). Somebody may be pretending to be \
             them, or they have a new account. Ask them in another way, then `contact confirm`.",
            fingerprint(pinned),
            fingerprint(offered)
        ),
        Event::DeviceLost { device, .. } => {
            format!("{} The call goes on with another device, or without.", sentence(device))
        }
        Event::Ended { reason, by, duration_ms, .. } => ended(reason, *by, *duration_ms),
        Event::Error { message, .. } => sentence(message),
    };
    Some(line)
}

/// A reply as people read it, perhaps several lines; empty if there is nothing to say.
pub fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Done | Reply::Call { .. } | Reply::Message { .. } => String::new(),
        Reply::Lookup(found) => format!(
            "{} is there (key {}), {}. Found in {} ms.",
            found.number,
            fingerprint(&found.fingerprint),
            match found.terminals {
                0 => "but on line nowhere".into(),
                1 => "on line".into(),
                many => format!("on line at {many} terminals"),
            },
            found.found_ms
        ),
        Reply::Status(state) => status(state),
        Reply::Verify(result) => verify(result),
        Reply::Contacts { contacts: list } => contacts(list),
        Reply::Link { link } => link.clone(),
    }
}

/// Why a call ended, to stand in a sentence.
pub fn reason(reason: &EndReason) -> String {
    match reason {
        EndReason::HungUp => "hung up".into(),
        EndReason::Declined => "declined".into(),
        EndReason::Busy => "the other end is busy".into(),
        EndReason::NoAnswer => "nobody answers".into(),
        EndReason::Unreachable => "the number exists, but is not on line".into(),
        EndReason::WrongNumber => "nobody has this number".into(),
        EndReason::Blocked => "the other end does not take calls from you".into(),
        EndReason::AnsweredElsewhere => "answered at another terminal".into(),
        EndReason::Cancelled => "given up".into(),
        EndReason::Merged => "you called each other, and the call that you dialled goes on".into(),
        EndReason::KeyChanged => "the key behind the number has changed".into(),
        EndReason::Failed(what) => printable(what),
    }
}

fn ended(why: &EndReason, by: Side, duration_ms: u64) -> String {
    if duration_ms == 0 {
        return format!("Call ended: {}.", reason(why));
    }
    let who = match (why, by) {
        (EndReason::HungUp, Side::Local) => "you hung up".to_owned(),
        (EndReason::HungUp, Side::Remote) => "the other end hung up".to_owned(),
        _ => reason(why),
    };
    format!("Call ended: {who} after {}.", duration(duration_ms))
}

fn duration(ms: u64) -> String {
    match (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

fn path(path: PathKind) -> &'static str {
    match path {
        PathKind::Signalling => "through signalling only",
        PathKind::Direct => "directly",
        PathKind::Relayed => "through a relay, encrypted end to end",
    }
}

fn caller(name: Option<&str>, number: &Number) -> String {
    match name {
        Some(name) => format!("{} ({number})", printable(name)),
        None => number.to_string(),
    }
}

/// A message from anywhere as a sentence: with a capital at its beginning and a stop at its end.
pub fn sentence(message: &str) -> String {
    let message = message.trim();
    let mut letters = message.chars();
    let first = letters.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
    let stop = if message.ends_with(['.', '!', '?', '…']) { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

/// A fingerprint in groups of four, to be compared by eye.
pub fn fingerprint(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(4).map(|four| four.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}

/// Text of somebody else's, safe for a terminal: without control characters and marks that turn the
/// direction of writing.
pub fn printable(text: &str) -> String {
    let unsafe_mark =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || unsafe_mark(c) { '\u{fffd}' } else { c }).collect()
}

fn status(status: &Status) -> String {
    let mut text = String::new();
    let state = match status.line {
        LineState::Starting => "going on line",
        LineState::Publishing => "going on line: the number is being published",
        LineState::Online => "on line",
        LineState::Alone => "alone: no entry point into the network is known, and nobody is near",
        LineState::Offline => "off line",
    };
    let mut row = |name: &str, value: &str| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {name:<13}{value}");
    };
    row("account", &status.account);
    row("number", &status.number.to_string());
    row("key", &fingerprint(&status.fingerprint));
    row("state", state);
    row("directories", &status.directories.to_string());
    row("peers", &status.peers.to_string());
    row("certificate", &certificate(status.certificate_days));
    for call in &status.calls {
        row("call", &call_line(call));
    }
    text.trim_end().to_owned()
}

/// How long the certificate lasts, with what to do when that is not long.
pub fn certificate(days: i64) -> String {
    match days {
        ..=0 => "expired: renew it with `offhook account renew ID`".into(),
        1..=60 => format!("expires in {days} days: renew it with `offhook account renew ID`"),
        _ => format!("good for {days} days"),
    }
}

fn call_line(call: &CallStatus) -> String {
    let direction = if call.outgoing { "to" } else { "from" };
    let mut line = format!("{direction} {}, {}", call.number, call.state);
    if let Some(by) = call.path {
        // Writing to a String can't fail.
        let _ = write!(line, " {}", path(by));
    }
    if let Some(rtt) = call.rtt_ms {
        let _ = write!(line, ", round trip {rtt:.0} ms");
    }
    if call.packets_received > 0 {
        // Duplicates can make the count of lost packets negative (RFC 3550, section 6.4.1).
        let lost = call.packets_lost.max(0) as f64;
        let loss = 100.0 * lost / (call.packets_received as f64 + lost);
        let _ = write!(line, ", loss {loss:.1} %, jitter {:.0} ms", call.jitter_ms);
    }
    let _ = write!(line, " [{}]", call.call);
    line
}

fn verify(result: &VerifyResult) -> String {
    let digits: Vec<char> = result.digits.chars().collect();
    let groups: Vec<String> = digits.chunks(5).map(|group| group.iter().collect()).collect();
    format!(
        "Read these to each other. If they are the same at both ends, nobody is listening in:\n\n  {}\n  {}\n\n\
         Then say so: `offhook verify --confirm`, or `verify ok` in `offhook run`.",
        result.words.join(" "),
        groups.join(" ")
    )
}

/// The contact list as a table.
pub fn contacts(list: &[Contact]) -> String {
    if list.is_empty() {
        return "No contacts yet. Add one with `offhook contact add NUMBER NAME`.".into();
    }
    let numbers: Vec<String> = list.iter().map(|contact| contact.number.to_string()).collect();
    let width = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let names = width(&mut list.iter().map(|contact| contact.name.chars().count()));
    let widest = width(&mut numbers.iter().map(|number| number.chars().count()));
    let line = |(contact, number): (&Contact, &String)| {
        let key = match (&contact.fingerprint, contact.verified) {
            (None, _) => "not called yet",
            (Some(_), false) => "key known",
            (Some(_), true) => "verified",
        };
        format!("  {:<names$}  {number:<widest$}  {key}", printable(&contact.name))
    };
    list.iter().zip(&numbers).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number() -> Number {
        Number::Plain(offhook::proto::number::PlainNumber::from_index(48_210_937_556))
    }

    #[test]
    fn ends_of_calls_are_told_in_words() {
        let end = |reason, by, duration_ms| {
            event(&Event::Ended { call: "c".into(), number: number(), reason, by, duration_ms }).unwrap()
        };
        assert_eq!(end(EndReason::WrongNumber, Side::Local, 0), "Call ended: nobody has this number.");
        assert_eq!(
            end(EndReason::HungUp, Side::Remote, 72_400),
            "Call ended: the other end hung up after 1 min 12 s."
        );
        assert_eq!(
            end(EndReason::HungUp, Side::Local, 3_720_000),
            "Call ended: you hung up after 1 h 2 min."
        );
        let failed = end(EndReason::Failed("no path".into()), Side::Local, 0);
        assert_eq!(failed, "Call ended: no path.");
    }

    #[test]
    fn incoming_calls_show_name_and_number() {
        let incoming = |name: Option<&str>| {
            let name = name.map(str::to_owned);
            event(&Event::Incoming { call: "c".into(), number: number(), name, contact: true }).unwrap()
        };
        let grouped = number().to_string();
        assert_eq!(grouped.len(), 14, "in groups");
        assert!(incoming(Some("Ada")).starts_with(&format!("Ada ({grouped}) is calling")));
        assert!(incoming(None).starts_with(&format!("{grouped} is calling")));
    }

    #[test]
    fn a_strangers_text_can_not_steer_the_terminal() {
        let text =
            Event::Text { from: number(), body: "a\u{1b}[2Jb\n\u{202e}c".into(), call: None, id: "i".into() };
        let line = event(&text).unwrap();
        assert!(!line.contains(['\u{1b}', '\n', '\u{202e}']), "{line:?}");
        assert!(line.ends_with("a\u{fffd}[2Jb\u{fffd}\u{fffd}c"));
    }

    #[test]
    fn messages_become_sentences() {
        assert_eq!(sentence("there is no such call"), "There is no such call.");
        assert_eq!(sentence("Off line!"), "Off line!");
        assert_eq!(sentence("`x` is none"), "`x` is none.");
    }

    #[test]
    fn tables_line_up() {
        let contact = |name: &str, fingerprint: Option<&str>, verified| Contact {
            number: number(),
            name: name.into(),
            fingerprint: fingerprint.map(str::to_owned),
            verified,
        };
        let table = contacts(&[contact("Ada", Some("f"), true), contact("Bartholomew", None, false)]);
        let columns: Vec<_> =
            table.lines().map(|line| line.find("  v").or(line.find("  not")).unwrap()).collect();
        assert_eq!(columns[0], columns[1]);
        assert_eq!(fingerprint("abcdefghij"), "abcd efgh ij");
        assert!(contacts(&[]).contains("contact add"));
    }

    #[test]
    fn a_short_certificate_says_what_to_do() {
        assert!(certificate(-3).contains("account renew"));
        assert!(certificate(59).contains("account renew"));
        assert_eq!(certificate(200), "good for 200 days");
    }
}
