//! Standard output: one line a thing, for people or as JSON.

use crate::control::protocol;
use crate::exit::Failure;
use crate::text;
use offhook::api::{ApiError, CallRef, Command, Event, PathKind, RelayUse, Reply, TimedEvent};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};

/// Prints in the form that the user chose.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    json: bool,
    /// Whose lines these are, where several accounts are on line in one program.
    account: Option<&'static str>,
}

impl Printer {
    /// A printer of JSON or of words.
    pub fn new(json: bool) -> Self {
        Self { json, account: None }
    }

    /// The same for one of several accounts: every line says whose it is.
    #[must_use]
    pub fn of(self, account: &'static str) -> Self {
        Self { account: Some(account), ..self }
    }

    /// Whether it prints JSON.
    pub fn json(self) -> bool {
        self.json
    }

    /// A reply: the table or sentence that was asked for, or nothing.
    pub fn reply(self, reply: &Reply) {
        if self.json {
            return self.line(&protocol::reply_line(&Ok(reply.clone())));
        }
        let text = text::reply(reply);
        if !text.is_empty() {
            self.line(&text);
        }
    }

    /// What a command has done: its reply, or a word that it is done.
    pub fn result(self, command: &Command, reply: &Reply) {
        self.reply(reply);
        if let (Reply::Done, Some(said), false) = (reply, text::done(command), self.json) {
            self.line(said);
        }
    }

    /// A refused command, in the shape of the control socket. What goes on afterwards says it in one form, see
    /// [`failure`](Self::failure) for what ends with it.
    pub fn refusal(self, error: &ApiError) {
        if self.json {
            return self.line(&protocol::reply_line(&Err(error.clone())));
        }
        self.complaint(&error.message);
    }

    /// Any value as one line of JSON.
    pub fn value(self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(line) => self.line(&line),
            Err(error) => self.complaint(&format!("Internal error: {error}.")),
        }
    }

    /// A line, in either form. Whoever closed the pipe does not want to know more.
    pub fn line(self, line: &str) {
        let line = self.labelled(line);
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    fn labelled(self, line: &str) -> Cow<'_, str> {
        let Some(account) = self.account else { return line.into() };
        match line.strip_prefix('{').filter(|_| self.json) {
            Some(rest) => format!("{{\"account\":{},{rest}", serde_json::Value::from(account)).into(),
            None => format!("{account}: {line}").into(),
        }
    }

    /// A remark for people, on standard error.
    pub fn remark(self, line: &str) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    /// One sentence on standard error.
    pub fn complaint(self, sentence: &str) {
        let whose = self.account.map_or_else(String::new, |account| format!("{account}: "));
        self.remark(&format!("offhook: {whose}{}", text::sentence(sentence)));
    }

    /// The end of a command that failed.
    pub fn failure(self, failure: &Failure) {
        let Some(error) = &failure.told else { return };
        if self.json {
            self.refusal(error);
        }
        self.complaint(&error.message);
    }
}

/// Prints events, for people without those that tell nothing new.
#[derive(Debug)]
pub struct Teller {
    printer: Printer,
    /// How each connected call's packets travel, as last told.
    paths: HashMap<CallRef, (PathKind, Option<RelayUse>)>,
}

impl Teller {
    /// A teller that has told nothing yet.
    pub fn new(printer: Printer) -> Self {
        Self { printer, paths: HashMap::new() }
    }

    /// Tells an event: one line. A ring also rings the bell of a terminal.
    pub fn event(&mut self, event: &TimedEvent) {
        let news = self.is_news(&event.event);
        if self.printer.json() {
            return self.printer.value(event);
        }
        let Some(line) = news.then(|| text::event(&event.event)).flatten() else { return };
        let bell =
            matches!(event.event, Event::Incoming { silent: false, .. }) && std::io::stdout().is_terminal();
        self.printer.line(&format!("{line}{}", if bell { "\u{7}" } else { "" }));
    }

    /// Packets change between equal paths, and find one before the call is connected: only programs care.
    fn is_news(&mut self, event: &Event) -> bool {
        if let Event::Path { call, path, relay } = event {
            let now = (*path, relay.clone());
            let told = self.paths.get_mut(call);
            return told.is_some_and(|told| std::mem::replace(told, now.clone()) != now);
        }
        if let Event::Connected { call, path, relay } = event {
            self.paths.insert(call.clone(), (*path, relay.clone()));
        }
        if let Event::Ended { call, .. } = event {
            self.paths.remove(call);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_when_it_is_another() {
        let mut teller = Teller::new(Printer::new(false));
        let relay = |over: &str| Some(RelayUse { through: "12D3KooW".into(), over: over.into() });
        let path = |path, relay| Event::Path { call: "c".into(), path, relay };
        assert!(!teller.is_news(&path(PathKind::Direct, None)), "not connected yet");
        let connected = Event::Connected { call: "c".into(), path: PathKind::Relayed, relay: relay("udp") };
        assert!(teller.is_news(&connected));
        assert!(!teller.is_news(&path(PathKind::Relayed, relay("udp"))));
        assert!(teller.is_news(&path(PathKind::Relayed, relay("tls"))));
        assert!(teller.is_news(&path(PathKind::Direct, None)));
        assert!(!teller.is_news(&path(PathKind::Direct, None)));
    }
}
