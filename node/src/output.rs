//! Standard output: one line a thing, for people or as JSON.

use crate::control::protocol;
use crate::exit::Failure;
use crate::text;
use offhook::api::{ApiError, CallRef, Event, PathKind, Reply, TimedEvent};
use serde::Serialize;
use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};

/// Prints in the form that the user chose.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    json: bool,
}

impl Printer {
    /// A printer of JSON or of words.
    pub fn new(json: bool) -> Self {
        Self { json }
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
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// A remark for people, on standard error.
    pub fn remark(self, line: &str) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    /// One sentence on standard error.
    pub fn complaint(self, sentence: &str) {
        self.remark(&format!("offhook: {}", text::sentence(sentence)));
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
    paths: HashMap<CallRef, PathKind>,
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
        let bell = matches!(event.event, Event::Incoming { .. }) && std::io::stdout().is_terminal();
        self.printer.line(&format!("{line}{}", if bell { "\u{7}" } else { "" }));
    }

    /// Packets change between equal paths, and find one before the call is connected: only programs care.
    fn is_news(&mut self, event: &Event) -> bool {
        if let Event::Path { call, path } = event {
            let told = self.paths.get_mut(call);
            return told.is_some_and(|told| std::mem::replace(told, *path) != *path);
        }
        if let Event::Connected { call, path } = event {
            self.paths.insert(call.clone(), *path);
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
        let path = |path| Event::Path { call: "c".into(), path };
        assert!(!teller.is_news(&path(PathKind::Direct)), "not connected yet");
        assert!(teller.is_news(&Event::Connected { call: "c".into(), path: PathKind::Relayed }));
        assert!(!teller.is_news(&path(PathKind::Relayed)));
        assert!(teller.is_news(&path(PathKind::Direct)));
        assert!(!teller.is_news(&path(PathKind::Direct)));
    }
}
