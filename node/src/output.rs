//! Standard output: one line a thing, for people or as JSON.

use crate::control::protocol;
use crate::exit::Failure;
use crate::text;
use offhook::api::{ApiError, Event, Reply, TimedEvent};
use serde::Serialize;
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

    /// An event: one line. A ring also rings the bell of a terminal.
    pub fn event(self, event: &TimedEvent) {
        if self.json {
            return self.value(event);
        }
        if let Some(line) = text::event(&event.event) {
            let bell = matches!(event.event, Event::Incoming { .. }) && std::io::stdout().is_terminal();
            self.line(&format!("{line}{}", if bell { "\u{7}" } else { "" }));
        }
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

    /// A refused command of a running terminal, which goes on.
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
        self.remark(&format!("offhook: {sentence}"));
    }

    /// The end of a command that failed.
    pub fn failure(self, failure: &Failure) {
        if failure.message.is_empty() {
            return;
        }
        if self.json {
            self.value(&failure.to_json());
        }
        self.complaint(&failure.message);
    }
}
