//! The watch over what a terminal says, to others and to its application.

use super::world::World;
use crate::call::{CallEvent, EndReason, EndedBy, LegId};
use crate::signalling::{Message, Packet, is_relayed};

impl World {
    /// No candidate that tells where it is leaves a terminal before its address may be shown.
    pub(super) fn check_privacy(&self, at: usize, leg: LegId, packet: &Packet) {
        let shows = match &packet.message {
            Some(
                Message::Invite { candidates, .. }
                | Message::Ringing { candidates, .. }
                | Message::Accept { candidates, .. }
                | Message::Confirm { candidates },
            ) => candidates.iter().any(|candidate| !is_relayed(candidate)),
            Some(Message::Candidates { list, .. }) => list.iter().any(|candidate| !is_relayed(candidate)),
            Some(_) | None => false,
        };
        let disclosed = self.terminals[at].media.get(&leg).is_some_and(|end| end.disclosed);
        assert!(!shows || disclosed, "a candidate shows our address");
    }

    /// Nobody says that somebody hung up when something failed.
    pub(super) fn check_farewell(&mut self, at: usize, leg: LegId, packet: &Packet) {
        let terminal = &mut self.terminals[at];
        let hangs_up = matches!(packet.message, Some(Message::Bye { reason: None }));
        if hangs_up && terminal.hung_up.insert(leg) {
            let last = terminal.seen.events.iter().rev().find_map(|event| match event {
                CallEvent::Ended { reason, by, .. } => Some((*reason, *by)),
                _ => None,
            });
            let known =
                [EndReason::HungUp, EndReason::Transferred].map(|reason| Some((reason, EndedBy::Local)));
            assert!(known.contains(&last), "nobody hung up: {last:?}");
        }
    }

    pub(super) fn event(&mut self, at: usize, event: CallEvent) {
        let seen = &mut self.terminals[at].seen;
        match &event {
            CallEvent::Searching { call, .. } | CallEvent::Incoming { call, .. } => {
                assert!(!seen.ended.contains_key(call) && seen.live.insert(*call), "announced twice");
            }
            CallEvent::Found { call, .. } | CallEvent::Working { call, .. } | CallEvent::Ringing { call } => {
                assert!(seen.live.contains(call) && !seen.accepted.contains(call), "{event:?}");
            }
            CallEvent::Accepted { call } => {
                assert!(seen.live.contains(call) && seen.accepted.insert(*call), "{event:?}");
            }
            CallEvent::Connected { call, .. } => {
                assert!(seen.accepted.contains(call) && seen.connected.insert(*call), "{event:?}");
            }
            CallEvent::Dtmf { call, .. }
            | CallEvent::TransferAsked { call, .. }
            | CallEvent::Transfer { call, .. }
            | CallEvent::TransferLapsed { call }
            | CallEvent::RemoteHold { call, .. }
            | CallEvent::RemoteMute { call, .. }
            | CallEvent::Recording { call, .. } => {
                assert!(seen.accepted.contains(call) && seen.live.contains(call), "{event:?}");
            }
            CallEvent::Presence { .. } => {}
            CallEvent::TextDelivered { id } => {
                assert!(seen.text_results.insert(*id, Ok(())).is_none(), "two results of a text");
                let id = *id;
                let arrived = self.terminals.iter().any(|terminal| terminal.seen.texts.contains(&id));
                assert!(arrived, "a text was acknowledged that nobody has on disk");
            }
            CallEvent::TextFailed { id, reason } => {
                assert!(seen.text_results.insert(*id, Err(*reason)).is_none(), "two results of a text");
            }
            CallEvent::Ended { call, reason, by, duration, .. } => {
                assert!(seen.live.remove(call), "ended twice, or never begun: {event:?}");
                assert_eq!(duration.is_some(), seen.connected.contains(call));
                seen.ended.insert(*call, (*reason, *by));
            }
        }
        self.terminals[at].seen.events.push(event.clone());
        if self.users {
            self.user_hears(at, &event);
        }
    }
}
