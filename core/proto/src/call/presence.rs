//! Presence: small messages between contacts' terminals, each the only one of a dialog of its own, as texts outside of calls are.
//! What is told to whom and when the engine decides; what becomes of a message nobody needs to know.

use super::event::{CallEvent, LegId, Peer};
use super::texts::Content;
use super::{CallError, Calls, Now, Source};
use crate::number::Number;
use crate::signalling::{CallId, Presence, TextId};

impl Calls {
    /// Tells every terminal of `number` how this user is. The engine looks the number up and reports to [`Calls::found`] and
    /// [`Calls::lookup_finished`] under the id `call`, as for a text.
    ///
    /// `call`: 16 new random bytes.
    ///
    /// # Errors
    /// [`CallError::Duplicate`], [`CallError::TooMany`], [`CallError::Limit`].
    pub fn presence_to(
        &mut self,
        now: Now,
        call: CallId,
        number: Number,
        presence: Presence,
    ) -> Result<(), CallError> {
        // It has no id of its own towards anybody.
        let id = TextId::from_bytes(*call.as_bytes());
        self.say_outside(now, call, number, id, Content::Presence(presence))?;
        self.finish(now);
        Ok(())
    }

    /// Tells one terminal that has asked, without a look-up.
    ///
    /// # Errors
    /// As [`Calls::presence_to`].
    pub fn presence_at(
        &mut self,
        now: Now,
        call: CallId,
        number: Number,
        peer: Peer,
        presence: Presence,
    ) -> Result<(), CallError> {
        self.presence_to(now, call, number, presence)?;
        self.found(now, call, peer, Source::Network)?;
        self.lookup_finished(now, call, super::LookupEnd::Complete)
    }

    /// Somebody has told how he is, or asks. Who is no contact is acknowledged and hears nothing.
    pub(super) fn presence_arrived(&mut self, now: Now, id: LegId, presence: Presence) {
        let Some(leg) = self.legs.get(&id) else { return };
        let welcome = leg.contact && leg.refusal.is_none();
        let (from, peer) = (leg.number.clone(), leg.peer.clone());
        if welcome {
            self.event(CallEvent::Presence { from, peer, presence });
        }
        self.close(now, id, None, true);
    }
}
