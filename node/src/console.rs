//! The commands that a running terminal takes on its standard input: one a line, in words or as the JSON
//! of the control socket.

use crate::times;
use offhook::api::{ApiError, Command, ErrorCode, MAX_HISTORY_REPLY, PresenceState, ScreeningChange};

/// What a line means.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// For the telephone.
    Command(Command),
    /// Print [`HELP`].
    Help,
    /// End the program.
    Quit,
    /// Nothing.
    Empty,
}

/// What `help` prints.
pub const HELP: &str = "\
dial NUMBER            call a number, a contact or an invitation link
answer | reject        take or decline the call that rings; `reject voicemail`: it may leave a message,
                       `reject block`: hear of the caller no more
hangup                 end the call
text NUMBER MESSAGE    send a text message (a name with blanks in double quotes)
dtmf KEYS              press keys: 0-9 * # A-D
mute on|off            silence the microphone
hold on|off            hold the call: the other end hears music
swap                   from the call in which you talk to the one on hold
transfer NUMBER        have the other end call that number instead; `transfer` alone: the other call's
follow [no]            do what the other end asks for by a transfer, or don't
presence [STATE] [TEXT] what contacts are told: available, away, dnd or offline, and a word
dnd [on [MINUTES] | off | schedule DAYS TIMES... | schedule none]
                       do not disturb: what holds, or change it
blocked | block NUMBER | unblock NUMBER
                       of whom you do not want to hear
volume [PERCENT]       how loud it is, 0 to 200; `volume ringer PERCENT` for the bell
devices                list the sound devices
use mic|speaker|ringer DEVICE
                       from now on, in the call that lasts as well
record on|off          record the call, if the other end allows it
record allow|refuse    let the other end record, or not
recordings             list the recordings (`offhook recording play` plays them)
verify [ok]            words and digits to compare by voice; `ok` when they were the same
lookup NUMBER          is the number on line?
contacts               list the contacts
contact add NUMBER NAME | remove CONTACT | confirm CONTACT
link                   the invitation link of this account
status                 the state of this terminal, and how its calls go
history [N] | history refused | history clear
                       the last calls, missed ones marked; those that did not ring; forget them
messages [NUMBER]      the last text messages, all or those with one number
voicemails             the voice messages of the mailbox
quit                   go off line and end";

/// Understands a line, or says in a sentence why not.
pub fn parse(line: &str) -> Result<Input, ApiError> {
    understood(line).map_err(|sentence| ApiError::new(ErrorCode::BadInput, sentence))
}

fn understood(line: &str) -> Result<Input, String> {
    let line = line.trim();
    if line.starts_with('{') {
        let command = serde_json::from_str(line).map_err(|error| format!("Not a command: {error}."))?;
        return Ok(Input::Command(command));
    }
    let (word, rest) = split_word(line);
    let command = match word {
        "" => return Ok(Input::Empty),
        "help" | "?" => return Ok(Input::Help),
        "quit" | "exit" => return Ok(Input::Quit),
        "dial" | "call" => Command::Dial { number: needed(rest, "dial NUMBER")? },
        "answer" => Command::Answer { call: call(rest) },
        "reject" | "decline" => reject(rest),
        "dnd" => dnd(rest)?,
        "blocked" => Command::BlockList,
        "block" => Command::BlockAdd { number: needed(rest, "block NUMBER")? },
        "unblock" => Command::BlockRemove { number: needed(rest, "unblock NUMBER")? },
        "hangup" => Command::Hangup { call: call(rest) },
        "text" => {
            let (number, body) = split_number(rest);
            needed(number, "text NUMBER MESSAGE")?;
            if body.is_empty() {
                return Err("Usage: text NUMBER MESSAGE".into());
            }
            Command::Text { number: number.into(), body: body.into() }
        }
        "dtmf" => Command::Dtmf { call: None, digits: needed(rest, "dtmf KEYS")? },
        "mute" => Command::Mute { call: None, on: switch(rest, "mute on|off")? },
        "hold" => Command::Hold { call: None, on: switch(rest, "hold on|off")? },
        "devices" => Command::Devices,
        "use" => use_device(rest)?,
        "record" => record(rest)?,
        "recordings" => Command::Recordings,
        "swap" => Command::Swap,
        "transfer" => {
            let to = Some(unquoted(rest)).filter(|to| !to.is_empty()).map(str::to_owned);
            Command::Transfer { call: None, to }
        }
        "follow" => match rest {
            "" | "yes" => Command::Follow { call: None, yes: true },
            "no" => Command::Follow { call: None, yes: false },
            _ => return Err("Usage: follow [no]".into()),
        },
        "presence" => presence(rest)?,
        "volume" => volume(rest)?,
        "verify" => Command::Verify { call: None, confirm: confirm(rest)? },
        "lookup" => Command::Lookup { number: needed(rest, "lookup NUMBER")? },
        "contacts" => Command::Contacts,
        "contact" => contact(rest)?,
        "link" => Command::Link,
        "status" => Command::Status,
        "history" => history(rest)?,
        "messages" => {
            let with = Some(unquoted(rest)).filter(|with| !with.is_empty()).map(str::to_owned);
            Command::Messages { with, limit: None }
        }
        "voicemails" => Command::Voicemails,
        other => return Err(format!("Unknown command \"{other}\". `help` lists the commands.")),
    };
    Ok(Input::Command(command))
}

fn reject(rest: &str) -> Command {
    let (voicemail, block) = (split_word(rest).0 == "voicemail", split_word(rest).0 == "block");
    let which = if voicemail || block { split_word(rest).1 } else { rest };
    Command::Reject { call: call(which), voicemail, block }
}

fn dnd(rest: &str) -> Result<Command, String> {
    let usage = "Usage: dnd [on [MINUTES] | off | schedule DAYS TIMES... | schedule none]";
    let mut change = ScreeningChange::default();
    match split_word(rest) {
        ("" | "show", _) => {}
        ("on", "") => change.quiet = Some(true),
        ("on", minutes) => {
            (change.quiet, change.minutes) = (Some(true), Some(minutes.parse().map_err(|_| usage)?));
        }
        ("off", _) => change.quiet = Some(false),
        ("schedule", times) => change.times = Some(times::parse(times)?),
        _ => return Err(usage.into()),
    }
    Ok(Command::Screening(change))
}

fn use_device(rest: &str) -> Result<Command, String> {
    let usage = "use mic|speaker|ringer DEVICE";
    let (which, device) = split_word(rest);
    let device = Some(needed(device, usage)?);
    let (mic, speaker, ringer) = match which {
        "mic" => (device, None, None),
        "speaker" => (None, device, None),
        "ringer" => (None, None, device),
        _ => return Err(format!("Usage: {usage}")),
    };
    Ok(Command::UseDevices { mic, speaker, ringer })
}

fn contact(rest: &str) -> Result<Command, String> {
    let usage = "contact add NUMBER NAME | remove CONTACT | confirm CONTACT | list";
    let (verb, rest) = split_word(rest);
    match verb {
        "add" => {
            let (number, name) = split_number(rest);
            needed(number, usage)?;
            Ok(Command::ContactAdd { number: number.into(), name: needed(name, usage)? })
        }
        "remove" => Ok(Command::ContactRemove { contact: needed(rest, usage)? }),
        "confirm" => Ok(Command::ContactConfirm { contact: needed(rest, usage)? }),
        "list" => Ok(Command::Contacts),
        _ => Err(format!("Usage: {usage}")),
    }
}

fn history(rest: &str) -> Result<Command, String> {
    match rest {
        "" => Ok(Command::History { limit: None }),
        "clear" => Ok(Command::HistoryClear),
        "refused" => Ok(Command::Refused),
        number => match number.parse() {
            Ok(limit @ 1..=MAX_HISTORY_REPLY) => Ok(Command::History { limit: Some(limit) }),
            Ok(_) | Err(_) => Err(format!(
                "Usage: history [N] | history refused | history clear, N from 1 to {MAX_HISTORY_REPLY}"
            )),
        },
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim()),
        None => (text, ""),
    }
}

/// Takes a number or name off the front of a text: a plain number may be typed in groups
/// (`4821 0937 5567 hello`), a name with blanks in quotation marks, everything else ends at the first blank.
pub fn split_number(text: &str) -> (&str, &str) {
    let text = text.trim();
    if let Some((name, rest)) = text.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        return (name.trim(), rest.trim());
    }
    let mut digits = 0;
    for (at, c) in text.char_indices() {
        match c {
            c if c.is_numeric() => digits += 1,
            ' ' | '\t' | '\u{a0}' | '-' | '.' | '(' | ')' => {}
            _ => break,
        }
        let end = at + c.len_utf8();
        let ends = text[end..].chars().next().is_none_or(|next| next.is_whitespace() || next == ')');
        if digits == 12 && ends {
            let end = if text[end..].starts_with(')') { end + 1 } else { end };
            return (&text[..end], text[end..].trim());
        }
    }
    split_word(text)
}

/// The words of a command line as one text. What the shell kept together is kept together.
pub fn joined(words: &[String]) -> String {
    match words {
        [first, rest @ ..] if !rest.is_empty() && first.contains(' ') && !first.contains('"') => {
            format!("\"{first}\" {}", rest.join(" "))
        }
        _ => words.join(" "),
    }
}

/// Without quotation marks around it.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}

fn needed(text: &str, usage: &str) -> Result<String, String> {
    let text = unquoted(text).trim();
    if text.is_empty() { Err(format!("Usage: {usage}")) } else { Ok(text.to_owned()) }
}

fn call(rest: &str) -> Option<String> {
    (!rest.is_empty()).then(|| rest.to_owned())
}

fn switch(rest: &str, usage: &str) -> Result<bool, String> {
    match rest {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("Usage: {usage}")),
    }
}

fn record(rest: &str) -> Result<Command, String> {
    match rest {
        "on" => Ok(Command::Record { call: None, on: true }),
        "off" => Ok(Command::Record { call: None, on: false }),
        "allow" => Ok(Command::Recordable { call: None, on: true }),
        "refuse" => Ok(Command::Recordable { call: None, on: false }),
        _ => Err("Usage: record on|off|allow|refuse".into()),
    }
}

fn presence(rest: &str) -> Result<Command, String> {
    let (word, note) = split_word(rest);
    let state = match word {
        "" => None,
        "available" => Some(PresenceState::Available),
        "away" => Some(PresenceState::Away),
        "dnd" => Some(PresenceState::DoNotDisturb),
        "offline" => Some(PresenceState::Offline),
        _ => return Err("Usage: presence [available|away|dnd|offline] [TEXT]".into()),
    };
    let note = (!note.is_empty()).then(|| note.to_owned());
    Ok(Command::Presence { state, note, visible: None })
}

fn volume(rest: &str) -> Result<Command, String> {
    let (ringer, percent) = match split_word(rest) {
        ("ringer", percent) => (true, percent),
        _ => (false, rest),
    };
    let percent = match percent.trim_end_matches('%').trim_end() {
        "" => None,
        digits => Some(digits.parse().map_err(|_| "Usage: volume [ringer] [PERCENT], 0 to 200")?),
    };
    Ok(Command::Volume { call: None, percent, ringer })
}

fn confirm(rest: &str) -> Result<bool, String> {
    match rest {
        "" => Ok(false),
        "ok" => Ok(true),
        _ => Err("Usage: verify [ok]".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        match parse(line) {
            Ok(Input::Command(command)) => command,
            other => unreachable!("{line}: {other:?}"),
        }
    }

    #[test]
    fn words_become_commands() {
        assert_eq!(command(" dial 4821 0937 5567 "), Command::Dial { number: "4821 0937 5567".into() });
        assert_eq!(command("answer"), Command::Answer { call: None });
        assert_eq!(command("hangup 00ff"), Command::Hangup { call: Some("00ff".into()) });
        assert_eq!(command("dtmf 12#"), Command::Dtmf { call: None, digits: "12#".into() });
        assert_eq!(command("mute on"), Command::Mute { call: None, on: true });
        assert_eq!(command("hold off"), Command::Hold { call: None, on: false });
        assert_eq!(command("devices"), Command::Devices);
        let mic = Some("alsa:hw:CARD=0".to_owned());
        assert_eq!(
            command("use mic alsa:hw:CARD=0"),
            Command::UseDevices { mic, speaker: None, ringer: None }
        );
        assert_eq!(command("record on"), Command::Record { call: None, on: true });
        assert_eq!(command("record refuse"), Command::Recordable { call: None, on: false });
        assert_eq!(command("swap"), Command::Swap);
        assert_eq!(command("transfer"), Command::Transfer { call: None, to: None });
        assert_eq!(
            command("transfer 4821 0937 5567"),
            Command::Transfer { call: None, to: Some("4821 0937 5567".into()) }
        );
        assert_eq!(command("follow no"), Command::Follow { call: None, yes: false });
        let presence = |state, note: Option<&str>| Command::Presence {
            state,
            note: note.map(str::to_owned),
            visible: None,
        };
        assert_eq!(command("presence"), presence(None, None));
        assert_eq!(
            command("presence away back at five"),
            presence(Some(PresenceState::Away), Some("back at five"))
        );
        let volume = |percent, ringer| Command::Volume { call: None, percent, ringer };
        assert_eq!(command("volume"), volume(None, false));
        assert_eq!(command("volume 80 %"), volume(Some(80), false));
        assert_eq!(command("volume ringer 20"), volume(Some(20), true));
        assert_eq!(command("verify ok"), Command::Verify { call: None, confirm: true });
        assert_eq!(
            command("contact add 4821-0937-5562 Ada of the hill"),
            Command::ContactAdd { number: "4821-0937-5562".into(), name: "Ada of the hill".into() }
        );
        assert_eq!(command(r#"{"command":"status"}"#), Command::Status);
        assert_eq!(command("dial \"2nd office\""), Command::Dial { number: "2nd office".into() });
        assert_eq!(
            command("text \"2nd office\" said \"hi\""),
            Command::Text { number: "2nd office".into(), body: "said \"hi\"".into() }
        );
        assert_eq!(command("history"), Command::History { limit: None });
        assert_eq!(command("history 5"), Command::History { limit: Some(5) });
        assert_eq!(command("history clear"), Command::HistoryClear);
        assert_eq!(command("history refused"), Command::Refused);
        let rejected = |call: Option<&str>, voicemail, block| Command::Reject {
            call: call.map(str::to_owned),
            voicemail,
            block,
        };
        assert_eq!(command("reject"), rejected(None, false, false));
        assert_eq!(command("reject 00ff"), rejected(Some("00ff"), false, false));
        assert_eq!(command("reject voicemail"), rejected(None, true, false));
        assert_eq!(command("reject block 00ff"), rejected(Some("00ff"), false, true));
        let dnd = |quiet, minutes| ScreeningChange { quiet, minutes, ..ScreeningChange::default() };
        assert_eq!(command("dnd"), Command::Screening(dnd(None, None)));
        assert_eq!(command("dnd on 90"), Command::Screening(dnd(Some(true), Some(90))));
        assert_eq!(command("dnd off"), Command::Screening(dnd(Some(false), None)));
        assert!(parse("dnd schedule mon").is_err() && parse("dnd on x").is_err());
        assert_eq!(command("block 4821 0937 5567"), Command::BlockAdd { number: "4821 0937 5567".into() });
        assert_eq!(parse("quit"), Ok(Input::Quit));
        assert_eq!(parse("   "), Ok(Input::Empty));
    }

    #[test]
    fn numbers_in_groups_are_told_from_the_text_behind_them() {
        assert_eq!(split_number("4821 0937 5567 see  you"), ("4821 0937 5567", "see  you"));
        assert_eq!(split_number("482109375567 5 o'clock"), ("482109375567", "5 o'clock"));
        assert_eq!(split_number("4821 0937 5567 1234"), ("4821 0937 5567", "1234"));
        assert_eq!(split_number("(4821) 0937-5562 hi"), ("(4821) 0937-5562", "hi"));
        assert_eq!(split_number("４８２１ ０９３７ ５５６２ hi"), ("４８２１ ０９３７ ５５６２", "hi"));
        assert_eq!(split_number("ada hello"), ("ada", "hello"));
        assert_eq!(split_number("offhook:482109375567?key=a hello"), ("offhook:482109375567?key=a", "hello"));
        assert_eq!(split_number("1004 hello"), ("1004", "hello"));
        assert_eq!(split_number("4821093755671 hi"), ("4821093755671", "hi"));
        assert_eq!(split_number(""), ("", ""));
        assert_eq!(split_number("\"2nd office\" hi there"), ("2nd office", "hi there"));
        let words = |words: &[&str]| joined(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["2nd office", "hi", "there"]), "\"2nd office\" hi there");
        assert_eq!(words(&["4821", "0937", "5567", "hi"]), "4821 0937 5567 hi");
        assert_eq!(words(&["4821 0937 5567 hi"]), "4821 0937 5567 hi");
    }

    #[test]
    fn what_is_not_understood_is_answered_with_a_sentence() {
        for bad in [
            "history 0",
            "history 1001",
            "history all",
            "dance",
            "record",
            "dial",
            "use mic",
            "use ear x",
            "text ada",
            "text",
            "mute",
            "mute yes",
            "volume loud",
            "presence here",
            "contact",
            "contact add ada",
            "{}",
            "{",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.message.len() > 10 && error.code == ErrorCode::BadInput, "{bad}: {error:?}");
        }
    }
}
