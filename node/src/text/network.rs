//! What people read of the network, of keys and certificates.

use super::calls::local_time;
use super::{certificate, fingerprint, padded, widest};
use offhook::api::{DirectoryInfo, Event, TerminalInfo};
use offhook::proto::number::Number;

/// The terminals of the account.
pub(super) fn terminals(list: &[TerminalInfo]) -> String {
    let line = |terminal: &TerminalInfo| {
        let state = match (terminal.this, terminal.revoked, terminal.online) {
            (_, true, _) => "put out",
            (true, false, _) => "this one",
            (false, false, true) => "on line",
            (false, false, false) => "not on line",
        };
        let since = terminal.certified.map(|at| format!(", certified {}", local_time(at)));
        // Enough of the key to name it.
        let key: String = terminal.terminal.chars().take(16).collect();
        format!("  {key}  {state}{}", since.unwrap_or_default())
    };
    list.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// An event of the network as one line.
pub(super) fn event(event: &Event) -> Option<String> {
    if let Event::Online { number } = event {
        return Some(format!("On line. People can call you at {number}."));
    }
    if let Event::Serving { serving } = event {
        return Some(match serving.serves() {
            true => "This terminal serves the network, too.".into(),
            false => "This terminal no longer serves the network: strangers do not seem to reach it.".into(),
        });
    }
    if let Event::CertificateExpires { days } = event {
        return Some(format!("This terminal's certificate {}.", certificate(*days)));
    }
    if let Event::DirectoryChanged { name, pinned, offered } = event {
        return Some(format!(
            "WARNING: the site of the directory {name} names another key ({offered}) than it did before ({pinned}). Its numbers are \
             dialled as before. If its operator confirms that the key has changed: `offhook directory confirm {name}`."
        ));
    }
    if let Event::KeyChanged { number, moved: true, offered, .. } = event {
        return Some(format!(
            "{number} has moved: who had it before has given it to somebody else (key {}), and signed that. If that is whom you \
             want to call, `contact confirm`.",
            fingerprint(offered)
        ));
    }
    if let Event::KeyChanged { number, pinned, offered, .. } = event {
        return Some(format!(
            "WARNING: the key behind {number} has changed (it was {}, it is {}). Somebody may be pretending to be \
             them, or they have a new account. Ask them in another way, then `contact confirm`.",
            fingerprint(pinned),
            fingerprint(offered)
        ));
    }
    let alone = "Nobody can call you yet: no entry point into the network is known (`--entry`), and no other terminal is near. \
                 Waiting …";
    let offline = "Off line: no entry point into the network is reachable. Trying again …";
    match event == &Event::Alone {
        true => Some(alone.into()),
        false => (event == &Event::Offline).then(|| offline.into()),
    }
}

/// What is being looked up, in its full form: a word in letters that only look Latin is somebody else's number.
pub(super) fn searching(number: &Number) -> String {
    let disguised = match number {
        Number::Plain(_) => false,
        Number::Chosen(chosen) => chosen.looks_latin(),
    };
    let note = if disguised { " (these letters only look like Latin ones)" } else { "" };
    format!("Looking up {number}{note} …")
}

/// The directories whose keys are remembered.
pub(super) fn directories(list: &[DirectoryInfo]) -> String {
    if list.is_empty() {
        return "No directories yet. The first number of one that you dial brings its key.".into();
    }
    let names: Vec<&str> = list.iter().map(|directory| directory.name.as_str()).collect();
    let width = widest(&names);
    let line = |directory: &DirectoryInfo| {
        let mark = if directory.home { '*' } else { ' ' };
        let offered =
            directory.offered.as_ref().map(|key| format!("\n      its site names another key: {key}"));
        let name = padded(&directory.name, width);
        format!("{mark} {name}  {}{}", directory.key, offered.unwrap_or_default())
    };
    list.iter().map(line).collect::<Vec<_>>().join("\n")
}
