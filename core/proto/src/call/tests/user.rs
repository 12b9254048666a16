//! What users and their engines' look-ups do in the simulated world.

use std::time::Duration;

use super::party::Party;
use super::world::{Act, Happening, World, ignore};
use crate::call::{CallError, CallEvent, LookupEnd, Source};
use crate::signalling::{CallId, RejectReason, TextId, Token, TransferId};

impl World {
    pub fn user_acts(&mut self, at: usize, act: Act) {
        let now = self.now(at);
        match act {
            Act::Dial { account } => {
                let call = CallId::from_bytes(self.rng.bytes());
                self.dial_as(at, call, account);
            }
            Act::Accept { call } => ignore(self.terminals[at].calls.accept(now, call)),
            Act::Reject { call } => {
                ignore(self.terminals[at].calls.reject(now, call, RejectReason::Declined))
            }
            Act::HangUp { call } => ignore(self.terminals[at].calls.hang_up(now, call)),
            Act::Dtmf { call } => ignore(self.terminals[at].calls.dtmf(now, call, '5', 100)),
            Act::Hold { call } => ignore(self.terminals[at].calls.hold(now, call, true)),
            Act::Transfer { call, account } => {
                let id = TransferId::from_bytes(self.rng.bytes());
                let number = Party::number(u8::try_from(account).unwrap());
                ignore(self.terminals[at].calls.transfer(now, call, id, number, None));
            }
            Act::TransferTo { call, with } => {
                let (id, token) =
                    (TransferId::from_bytes(self.rng.bytes()), Token::from_bytes(self.rng.bytes()));
                ignore(self.terminals[at].calls.transfer_to(now, call, with, id, token));
            }
            Act::Follow { call } => {
                let new = CallId::from_bytes(self.rng.bytes());
                self.follow_as(at, call, new);
            }
            Act::Text { call } => {
                let id = TextId::from_bytes(self.rng.bytes());
                if self.terminals[at].calls.text(now, call, id, "hello".to_owned()).is_ok() {
                    self.terminals[at].seen.texts_sent.insert(id);
                }
            }
            Act::TextTo { account } => {
                let id = TextId::from_bytes(self.rng.bytes());
                let call = CallId::from_bytes(self.rng.bytes());
                let number = Party::number(u8::try_from(account).unwrap());
                if self.terminals[at].calls.text_to(now, call, number, id, "hello".to_owned()).is_ok() {
                    self.terminals[at].seen.texts_sent.insert(id);
                    self.look_up(at, call, account);
                }
            }
        }
    }

    /// Dials under a chosen id, so that tests can decide glare.
    pub fn dial_as(&mut self, at: usize, call: CallId, account: usize) {
        let now = self.now(at);
        let number = Party::number(u8::try_from(account).unwrap());
        match self.terminals[at].calls.dial(now, call, number, self.contacts) {
            Ok(()) => self.look_up(at, call, account),
            Err(error) => assert!(matches!(error, CallError::TooMany), "{error}"),
        }
        self.drain(at);
    }

    /// Does what the other side of a call asks for, under a chosen id.
    pub fn follow_as(&mut self, at: usize, call: CallId, new: CallId) {
        let now = self.now(at);
        let Some(request) = self.terminals[at].calls.transfer_request(call) else { return };
        let account = (0..4).find(|account| Party::number(*account) == request.number).unwrap();
        if self.terminals[at].calls.follow(now, call, new, self.contacts).is_ok() {
            self.look_up(at, new, usize::from(account));
        }
        self.drain(at);
    }

    /// The engine looks an account's terminals up.
    fn look_up(&mut self, at: usize, call: CallId, account: usize) {
        let terminals: Vec<usize> = (0..self.terminals.len())
            .filter(|to| self.terminals[*to].account == account)
            .map(|to| self.terminal_number(to))
            .collect();
        let slow = if self.users && self.rng.chance(30) { 5000 } else { 300 };
        // The network knows nothing of the number, or cannot be asked.
        let nothing = self.users && self.rng.chance(40);
        let mut last = Duration::ZERO;
        for terminal in terminals {
            if self.users && self.rng.chance(200) {
                let source = Source::Cache;
                self.schedule(Duration::ZERO, Happening::Found { at, call, account, terminal, source });
            }
            if nothing || (self.users && self.rng.chance(50)) {
                continue; // its record is missing
            }
            let source = Source::Network;
            let delay = self.rng.ms(20, slow);
            last = last.max(delay);
            self.schedule(delay, Happening::Found { at, call, account, terminal, source });
        }
        if self.users && self.rng.chance(100) {
            // A record of a terminal that is gone for good.
            let source = if nothing || self.rng.chance(500) { Source::Cache } else { Source::Network };
            let delay = self.rng.ms(20, slow);
            self.schedule(delay, Happening::Found { at, call, account, terminal: 2, source });
        }
        let end = match nothing {
            true => [LookupEnd::WrongNumber, LookupEnd::Failed, LookupEnd::NoTerminal]
                [usize::try_from(self.rng.below(3)).unwrap()],
            false => LookupEnd::Complete,
        };
        if !(self.users && self.rng.chance(30)) {
            let delay = last + self.rng.ms(0, 800);
            self.schedule(delay, Happening::LookupFinished { at, call, end });
        }
    }

    fn terminal_number(&self, to: usize) -> usize {
        let account = self.terminals[to].account;
        let terminal = self.terminals[to].party.local.terminal;
        (0..3).find(|n| Party::get(account, *n).local.terminal == terminal).unwrap()
    }

    /// A user who picks up, declines, waits too long, talks, types and hangs up.
    pub fn user_hears(&mut self, at: usize, event: &CallEvent) {
        match event {
            CallEvent::Incoming { call, .. } => {
                let call = *call;
                let delay = self.rng.ms(0, 4000);
                match self.rng.below(10) {
                    0..=5 => self.schedule(delay, Happening::User { at, act: Act::Accept { call } }),
                    6 => self.schedule(delay, Happening::User { at, act: Act::Reject { call } }),
                    7 => {
                        let late = delay * 15;
                        self.schedule(late, Happening::User { at, act: Act::Accept { call } });
                    }
                    _ => {}
                }
            }
            CallEvent::Searching { call, .. } if self.rng.chance(250) => {
                let call = *call;
                let delay = self.rng.ms(0, 8000);
                self.schedule(delay, Happening::User { at, act: Act::HangUp { call } });
            }
            CallEvent::Accepted { call } => {
                let call = *call;
                let length = if self.rng.chance(500) { 1500 } else { 30_000 };
                if self.rng.chance(700) {
                    let delay = self.rng.ms(0, length);
                    self.schedule(delay, Happening::User { at, act: Act::HangUp { call } });
                }
                let account = usize::try_from(self.rng.below(3)).unwrap();
                let transfer = Act::Transfer { call, account };
                for act in [Act::Text { call }, Act::Dtmf { call }, Act::Hold { call }, transfer] {
                    if self.rng.chance(300) {
                        let delay = self.rng.ms(0, length);
                        self.schedule(delay, Happening::User { at, act });
                    }
                }
            }
            CallEvent::TransferAsked { call, .. } => {
                let call = *call;
                if self.rng.chance(700) {
                    let delay = self.rng.ms(0, 4000);
                    self.schedule(delay, Happening::User { at, act: Act::Follow { call } });
                }
            }
            CallEvent::Connected { call, .. } if self.rng.chance(300) => {
                let with = *call;
                let other = self.terminals[at].seen.live.iter().copied().find(|other| *other != with);
                if let Some(call) = other {
                    let delay = self.rng.ms(0, 2000);
                    self.schedule(delay, Happening::User { at, act: Act::TransferTo { call, with } });
                }
            }
            CallEvent::Searching { .. }
            | CallEvent::Working { .. }
            | CallEvent::Transfer { .. }
            | CallEvent::TransferLapsed { .. }
            | CallEvent::Presence { .. }
            | CallEvent::Found { .. }
            | CallEvent::Ringing { .. }
            | CallEvent::Connected { .. }
            | CallEvent::TextDelivered { .. }
            | CallEvent::TextFailed { .. }
            | CallEvent::Dtmf { .. }
            | CallEvent::RemoteHold { .. }
            | CallEvent::RemoteMute { .. }
            | CallEvent::Recording { .. }
            | CallEvent::Ended { .. } => {}
        }
    }
}
