//! What people read: events, replies, errors in words.

mod calls;
mod letters;
mod network;
mod other_end;
mod recordings;
mod screening;
mod sound;

pub use calls::{local_time, stats};
pub use recordings::duration_of;

use offhook::api::{
    CERTIFICATE_WARNING_DAYS, CallSummary, Command, Contact, EndReason, Event, FailureCode, LineState,
    PathKind, PresenceState, RelayUse, Reply, Serving, Side, Status, TransferFailure, TransferState,
    Unproved, VerifyResult, Visibility,
};
use offhook::proto::number::Number;
use std::fmt::Write as _;
use unicode_width::UnicodeWidthStr as _;

pub use sound::{meter, sound_test};

/// An event as one line; `None` for those that only programs need.
pub fn event(event: &Event) -> Option<String> {
    let line = match event {
        Event::Online { .. }
        | Event::Alone
        | Event::Offline
        | Event::Serving { .. }
        | Event::KeyChanged { .. }
        | Event::DirectoryChanged { .. }
        | Event::CertificateExpires { .. } => return network::event(event),
        Event::Searching { number, .. } => network::searching(number),
        Event::Found { terminals: 1, .. } => "Found. Inviting …".into(),
        Event::Found { terminals, .. } => format!("Found on {terminals} terminals. Inviting …"),
        Event::Working { .. } => "Many strangers call there. Working for the call …".into(),
        Event::Refused(call) => screening::refused_now(call),
        Event::Ringing { .. } => "It rings …".into(),
        Event::Incoming { number, name, replaces, answered, .. } => {
            incoming(&caller(name.as_deref(), number), replaces.is_some(), *answered)
        }
        Event::Accepted { .. } => "Answered.".into(),
        Event::Connected { path: by, relay, .. } => format!("Connected {}.", path(*by, relay.as_ref())),
        Event::Path { path: by, relay, .. } => format!("The call now goes {}.", path(*by, relay.as_ref())),
        Event::Stats { stats: now, .. } => stats(now),
        // What the user mutes is told where it is done. On hold a call is put by the program, too.
        Event::AudioStarted { .. } | Event::FirstAudio { .. } | Event::Mute { .. } => return None,
        Event::Hold { on: true, .. } => "A call is on hold.".into(),
        Event::Hold { on: false, .. } => "That call goes on.".into(),
        Event::Text { from, name, body, .. } => {
            format!("Message from {}: {}", caller(name.as_deref(), from), printable(body))
        }
        Event::TextDelivered { .. } => "Message delivered.".into(),
        Event::TextWaits { left: true, .. } => {
            "Nobody is there; the message was left at the other end's directory.".into()
        }
        Event::TextWaits { left: false, .. } => {
            "Nobody is there; the message is kept here and delivered as soon as somebody is.".into()
        }
        Event::TextRead { .. } => "Message read.".into(),
        Event::Voicemail { voicemail, from, name, duration_ms, .. } => format!(
            "Voice message {voicemail} from {}, {} s.",
            caller(name.as_deref(), from),
            duration_ms.div_ceil(1_000)
        ),
        Event::TextFailed { reason: why, .. } => format!("Message not delivered: {}.", reason(*why)),
        Event::Dtmf { .. }
        | Event::RemoteHold { .. }
        | Event::RemoteMute { .. }
        | Event::RemoteRecording { .. }
        | Event::TransferAsked { .. }
        | Event::TransferLapsed { .. } => return other_end::event(event),
        Event::Recording(event) => recordings::event(event),
        Event::VoiceMessage(message) => recordings::message(message),
        Event::Transfer { state, reason, .. } => transfer(*state, *reason).into(),
        Event::Presence { name, state, note, .. } => {
            format!("{} is {}.", printable(name), presence(*state, note))
        }
        Event::DeviceLost { .. }
        | Event::DeviceBack { .. }
        | Event::DeviceUsed { .. }
        | Event::DeviceRefused { .. }
        | Event::DevicesChosen(_)
        | Event::DevicesChanged { .. }
        | Event::Levels { .. } => return sound::event(event),
        Event::Ended { reason, by, duration_ms, summary, .. } => {
            ended(*reason, *by, *duration_ms, summary.as_deref())
        }
        Event::Error { message, .. } => sentence(message),
    };
    Some(line)
}

/// A call that comes in, and whether there is anything to do about it.
fn incoming(who: &str, in_place: bool, answered: bool) -> String {
    let what = if answered { "" } else { " `answer` or `reject`?" };
    match (in_place, answered) {
        (false, _) => format!("{who} is calling.{what}"),
        (true, true) => {
            format!("{who} takes the place of whom you talk with, who has transferred the call.")
        }
        (true, false) => {
            format!("{who} is to take the place of whom you talk with, who has transferred the call.{what}")
        }
    }
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
                0 => "but not on line".into(),
                1 => "on line".into(),
                many => format!("on line at {many} terminals"),
            },
            found.found_ms
        ),
        Reply::Status(state) => status(state),
        Reply::Verify(result) => verify(result),
        Reply::Contacts { contacts: list } => contacts(list),
        Reply::Directories { directories: list } => network::directories(list),
        Reply::History { calls } => calls::history(calls),
        Reply::Messages { messages } => letters::messages(messages),
        Reply::Voicemails { voicemails } => letters::voicemails(voicemails),
        Reply::Devices(found) => sound::devices(found),
        Reply::Recordings { recordings } => recordings::list(recordings),
        Reply::Volumes(volumes) => {
            format!("  loudspeaker  {} %\n  ringer       {} %", volumes.speaker, volumes.ringer)
        }
        Reply::Presence(told) => {
            let visible = match told.visible {
                Visibility::Contacts => "contacts",
                Visibility::Verified => "verified contacts",
                Visibility::Nobody => "nobody",
            };
            format!("  presence     {}\n  told to      {visible}", presence(told.state, &told.note))
        }
        Reply::Terminals { terminals } => network::terminals(terminals),
        Reply::Blocked { blocked } => screening::blocked(blocked),
        Reply::Screening(state) => screening::screening(state),
        Reply::Refused { calls } => screening::refused(calls),
        Reply::Link { link } => link.clone(),
    }
}

/// How somebody is, in words.
fn presence(state: PresenceState, note: &str) -> String {
    let state = match state {
        PresenceState::Available => "available",
        PresenceState::Away => "away",
        PresenceState::Busy => "in a call",
        PresenceState::DoNotDisturb => "not to be disturbed",
        PresenceState::Offline => "off line",
    };
    if note.is_empty() { state.into() } else { format!("{state}: {}", printable(note)) }
}

/// How the transfer of a call goes.
fn transfer(state: TransferState, reason: Option<TransferFailure>) -> &'static str {
    match (state, reason) {
        (TransferState::Asked, _) => "The other end is being asked …",
        (TransferState::Trying, _) => "The other end agrees and is calling …",
        (TransferState::Ringing, _) => "It rings there …",
        (TransferState::Done, _) => "The call is transferred.",
        (TransferState::Failed, None | Some(TransferFailure::Failed)) => "The call could not be transferred.",
        (TransferState::Failed, Some(TransferFailure::Declined)) => {
            "The call is not transferred: the other end does not want it."
        }
        (TransferState::Failed, Some(TransferFailure::Busy)) => {
            "The call is not transferred: that number is busy."
        }
        (TransferState::Failed, Some(TransferFailure::Rejected)) => {
            "The call is not transferred: declined at that number."
        }
        (TransferState::Failed, Some(TransferFailure::NoAnswer)) => {
            "The call is not transferred: nobody answers at that number."
        }
        (TransferState::Failed, Some(TransferFailure::Unreachable)) => {
            "The call is not transferred: that number is not on line."
        }
        (TransferState::Failed, Some(TransferFailure::WrongNumber)) => {
            "The call is not transferred: nobody has that number."
        }
        (TransferState::Failed, Some(TransferFailure::NotUnderstood)) => {
            "The call is not transferred: the other end's program does not know how."
        }
        (TransferState::Failed, Some(TransferFailure::TimedOut)) => {
            "The call is not transferred: nothing was heard of it any more."
        }
    }
}

/// Why a call ended, to stand in a sentence.
pub fn reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::HungUp => "hung up",
        EndReason::Declined => "declined",
        EndReason::Busy => "the other end is busy",
        EndReason::NoAnswer => "nobody answers",
        EndReason::Unreachable => "the number exists, but is not on line",
        EndReason::WrongNumber => "nobody has this number",
        EndReason::Blocked => "the other end does not take calls from you",
        EndReason::Voicemail => "the other end does not want to be disturbed now; leave a message",
        EndReason::Work => {
            "the other end has strangers work before it rings, and too many call; try again later"
        }
        EndReason::AnsweredElsewhere => "answered at another terminal",
        EndReason::Cancelled => "given up",
        EndReason::Transferred => "transferred",
        EndReason::Merged => "you called each other, and the call that you dialled goes on",
        EndReason::KeyChanged => "the key behind the number has changed",
        EndReason::Failed(what) => failure(what),
    }
}

fn failure(what: FailureCode) -> &'static str {
    match what {
        FailureCode::Lookup => "the number could not be looked up; is this computer on line?",
        FailureCode::NumberDisputed => {
            "two keys claim this number, and nothing tells which is the right one; ask for an invitation link"
        }
        FailureCode::NumberExpired => {
            "the directory's certificate of this number has run out; its owner must renew it"
        }
        FailureCode::NoMediaPath => "no way was found for the sound between the two ends",
        FailureCode::MediaLost => "the connection between the two ends broke",
        FailureCode::Media => "the sound could not be prepared here",
        FailureCode::Remote => "the other terminal could not make the call",
        FailureCode::SignallingLost => "the other terminal stopped answering",
        FailureCode::NotConfirmed => "the answer was never confirmed",
        FailureCode::Clock => "the clocks of the two computers differ too much",
        FailureCode::Protocol => "the other end broke the protocol",
        FailureCode::NotKept => "the other terminal could not keep it",
        FailureCode::Unconfirmed => "nobody confirmed it in time; it may have arrived",
        FailureCode::CallEnded => "the call ended before it was confirmed; it may have arrived",
        FailureCode::ShutDown => "the terminal was shut down",
    }
}

fn ended(why: EndReason, by: Side, duration_ms: u64, went: Option<&CallSummary>) -> String {
    if duration_ms == 0 {
        return sentence(&format!("Call ended: {}", reason(why)));
    }
    let who = match (why, by) {
        (EndReason::HungUp, Side::Local) => "you hung up",
        (EndReason::HungUp, Side::Remote) => "the other end hung up",
        _ => reason(why),
    };
    format!(
        "Call ended: {who} after {}.{}",
        duration(duration_ms),
        went.map_or_else(String::new, calls::summary)
    )
}

fn duration(ms: u64) -> String {
    match (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

fn path(path: PathKind, relay: Option<&RelayUse>) -> String {
    match (path, relay) {
        (PathKind::Signalling, _) => "through signalling only".into(),
        (PathKind::Direct, _) => "directly".into(),
        (PathKind::Relayed, Some(RelayUse { through, over })) => {
            format!("through a relay ({through}, over {}), encrypted end to end", over.to_uppercase())
        }
        (PathKind::Relayed, None) => "through a relay, encrypted end to end".into(),
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
    row("serves", serving(status.serving));
    row("certificate", &certificate(status.certificate_days));
    for call in &status.calls {
        row("call", &calls::call_line(call));
    }
    text.trim_end().to_owned()
}

/// Whether the terminal serves the network, and why, or why not.
fn serving(serving: Serving) -> &'static str {
    match serving {
        Serving::Off => "no",
        Serving::Proved => "the network (proved: strangers reach this terminal)",
        Serving::Always => "the network (always)",
        Serving::Unproved { reason } => match reason {
            Unproved::New => "not yet: it is being looked into whether strangers reach this terminal",
            Unproved::NoDirectory => "not yet: no directory is connected that could have a stranger try",
            Unproved::NoStranger => "not yet: no stranger is at hand who could try to reach this terminal",
            Unproved::NoUdp => "not yet: no directory is connected over UDP",
            Unproved::Unreachable => "no: strangers do not reach this terminal",
        },
    }
}

/// How long the certificate lasts, with what to do when that is not long.
pub fn certificate(days: i64) -> String {
    match days {
        ..=0 => "expired: renew it with `offhook account renew ID`".into(),
        1..=CERTIFICATE_WARNING_DAYS => {
            format!("expires in {days} days: renew it with `offhook account renew ID`")
        }
        _ => format!("good for {days} days"),
    }
}

fn verify(result: &VerifyResult) -> String {
    let digits: Vec<char> = result.digits.chars().collect();
    let groups: Vec<String> = digits.chunks(5).map(|group| group.iter().collect()).collect();
    let then = match result.verified {
        true => "The other end counts as verified.",
        false => "Then say so: `offhook verify --confirm`, or `verify ok` in `offhook run`.",
    };
    format!(
        "Read these to each other. If they are the same at both ends, nobody is listening in:\n\n  {}\n  {}\n\n{then}",
        result.words.join(" "),
        groups.join(" ")
    )
}

/// What a command has done that neither a reply nor an event tells.
pub fn done(command: &Command) -> Option<&'static str> {
    match command {
        Command::Mute { on: true, .. } => Some("The microphone is muted."),
        Command::Mute { on: false, .. } => Some("The microphone is open."),
        Command::Hold { on: true, .. } => Some("The call is on hold."),
        Command::Hold { on: false, .. } => Some("The call goes on."),
        Command::UseDevices { .. } => Some("From now on."),
        Command::Recordable { on: true, .. } => Some("The other end may record."),
        Command::Recordable { on: false, .. } => Some("The other end may not record."),
        Command::RecordingDelete { .. } => Some("The recording is deleted."),
        Command::ContactAdd { .. } => Some("The contact is kept."),
        Command::ContactRemove { .. } => Some("The contact is removed."),
        Command::HistoryClear => Some("The calls are forgotten."),
        Command::Reject { block: true, .. } => Some("You hear of the caller no more."),
        Command::Reject { voicemail: true, .. } => Some("The caller is told to leave a message."),
        Command::BlockAdd { .. } => Some("Blocked."),
        Command::BlockRemove { .. } => Some("Not blocked any more."),
        Command::MessagesRead { .. } => Some("The other end will be told."),
        Command::VoicemailSave { .. } => Some("The voice message is in the file."),
        Command::VoicemailDelete { .. } => Some("The voice message is deleted."),
        Command::ContactConfirm { .. } => {
            Some("The new key is accepted. Compare words in your next call: `offhook verify`.")
        }
        Command::DirectoryAdd { .. } => Some("The directory's key is remembered."),
        Command::DirectoryConfirm { .. } => Some("The new key is accepted."),
        Command::DirectoryHome { name: Some(_) } => Some("Numbers without a directory are its from now on."),
        Command::DirectoryHome { name: None } => {
            Some("Numbers without a directory are your account's directory's.")
        }
        Command::Dial { .. }
        | Command::Answer { .. }
        | Command::Reject { .. }
        | Command::Hangup { .. }
        | Command::Text { .. }
        | Command::Dtmf { .. }
        | Command::Devices
        | Command::WatchDevices { .. }
        | Command::Levels { .. }
        | Command::Record { .. }
        | Command::Recordings
        | Command::Swap
        | Command::Presence { .. }
        | Command::Transfer { .. }
        | Command::Follow { .. }
        | Command::Volume { .. }
        | Command::Lookup { .. }
        | Command::Status
        | Command::Verify { .. }
        | Command::Contacts
        | Command::Directories
        | Command::History { .. }
        | Command::BlockList
        | Command::Screening(_)
        | Command::Refused
        | Command::Terminals
        | Command::Messages { .. }
        | Command::Voicemails
        | Command::VoicemailLeave { .. }
        | Command::Link
        | Command::Renewed
        | Command::Shutdown => None,
    }
}

/// The contact list as a table.
pub fn contacts(list: &[Contact]) -> String {
    if list.is_empty() {
        return "No contacts yet. Add one with `offhook contact add NUMBER NAME`.".into();
    }
    let numbers: Vec<String> = list.iter().map(|contact| contact.number.to_string()).collect();
    let names: Vec<String> = list.iter().map(|contact| printable(&contact.name)).collect();
    let (first, second) = (widest(&names), widest(&numbers));
    let line = |((contact, name), number): ((&Contact, &String), &String)| {
        let key = match (&contact.fingerprint, contact.verified) {
            (None, _) => "not called yet",
            (Some(_), false) => "key known",
            (Some(_), true) => "verified",
        };
        let state = contact.presence.as_ref().map(|told| format!("  {}", presence(told.state, &told.note)));
        let offered =
            if contact.offered.is_some() { ", but another key waits: `contact confirm`" } else { "" };
        let (name, number) = (padded(name, first), padded(number, second));
        format!("  {name}  {number}  {key}{offered}{}", state.unwrap_or_default())
    };
    list.iter().zip(&names).zip(&numbers).map(line).collect::<Vec<_>>().join("\n")
}

/// Columns that the widest of these takes on a terminal: a Korean letter takes two, an accent none.
pub fn widest<T: AsRef<str>>(texts: &[T]) -> usize {
    texts.iter().map(|text| text.as_ref().width()).max().unwrap_or(0)
}

/// A text with blanks behind it up to so many columns.
pub fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(text.width())))
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
            let (call, summary) = ("c".into(), None);
            event(&Event::Ended { call, number: number(), reason, by, duration_ms, summary }).unwrap()
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
        let failed = end(EndReason::Failed(FailureCode::NoMediaPath), Side::Network, 0);
        assert_eq!(failed, "Call ended: no way was found for the sound between the two ends.");
        let failed = end(EndReason::Failed(FailureCode::Lookup), Side::Network, 0);
        assert_eq!(failed, "Call ended: the number could not be looked up; is this computer on line?");
    }

    #[test]
    fn incoming_calls_show_name_and_number() {
        let incoming = |name: Option<&str>| {
            let name = name.map(str::to_owned);
            let (number, contact, replaces) = (number(), true, None);
            let (answered, silent) = (false, false);
            event(&Event::Incoming { call: "c".into(), number, name, contact, replaces, answered, silent })
                .unwrap()
        };
        let grouped = number().to_string();
        assert_eq!(grouped.len(), 14, "in groups");
        assert!(incoming(Some("Ada")).starts_with(&format!("Ada ({grouped}) is calling")));
        assert!(incoming(None).starts_with(&format!("{grouped} is calling")));
        for in_place in [false, true] {
            assert!(super::incoming("Ada", in_place, false).ends_with("`answer` or `reject`?"), "it rings");
            assert!(!super::incoming("Ada", in_place, true).contains("answer"), "it does not");
        }
    }

    #[test]
    fn a_strangers_text_can_not_steer_the_terminal() {
        let text = Event::Text {
            from: number(),
            name: None,
            body: "a\u{1b}[2Jb\n\u{202e}c".into(),
            call: None,
            id: "i".into(),
            silent: false,
        };
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
            offered: None,
            presence: None,
        };
        let waiting = Contact { offered: Some("g".into()), ..contact("Eve", Some("f"), true) };
        assert!(contacts(&[waiting]).ends_with("verified, but another key waits: `contact confirm`"));
        let table = contacts(&[contact("Ada", Some("f"), true), contact("Bartholomew", None, false)]);
        let columns: Vec<_> =
            table.lines().map(|line| line.find("  v").or(line.find("  not")).unwrap()).collect();
        assert_eq!(columns[0], columns[1]);
        let table = contacts(&[contact("홍길동", None, false), contact("Zoe\u{308}", None, false)]);
        let before: Vec<_> =
            table.lines().map(|line| line.split_once(&number().to_string()).unwrap().0).collect();
        assert_eq!((before[0].width(), before[1].width()), (10, 10), "{table}");
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
