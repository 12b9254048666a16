//! Presence: what contacts are told of this user, and what they tell.

mod book;

use super::commands::new_call_id;
use super::{Engine, now};
use crate::api::{
    ApiError, Contact, ContactPresence, ErrorCode, Event, LineState, PresenceInfo, PresenceSettings,
    PresenceState, Reply, Visibility,
};
use crate::storage::{self, AccountStore, StorageError};
use book::{Known, Send};
use offhook_proto::call::{CallError, Peer};
use offhook_proto::number::{Invitation, Number};
use offhook_proto::signalling::{MAX_NOTE_BYTES, Presence};
use std::sync::Arc;
use std::time::Instant;

pub(super) use book::Book;

/// Settings of the account in which it is kept.
const CHOSEN: &str = "presence";
const VISIBLE: &str = "presence_visible";

/// What the user has chosen in an earlier run.
pub(super) async fn kept(account: &AccountStore) -> Result<Book, StorageError> {
    let kept = account.setting(CHOSEN).await?.and_then(|text| serde_json::from_str(&text).ok());
    let mut chosen: PresenceInfo = kept.unwrap_or_default();
    if chosen.state == PresenceState::DoNotDisturb {
        // Of a version in which this was a state of its own.
        chosen.state = PresenceState::Available;
        account.set_quiet(true).await?;
        let text = serde_json::to_string(&chosen).map_err(|_| StorageError::Internal("a setting"))?;
        account.set_setting(CHOSEN, Some(&text)).await?;
    }
    let visible = account.setting(VISIBLE).await?.and_then(|text| serde_json::from_str(&text).ok());
    Ok(Book::new(chosen, visible.unwrap_or_default(), Instant::now()))
}

impl Engine {
    /// Tells or changes what contacts are told.
    pub(super) async fn set_presence(
        &mut self,
        state: Option<PresenceState>,
        note: Option<String>,
        visible: Option<Visibility>,
    ) -> Result<Reply, ApiError> {
        let bad = |sentence: String| ApiError::new(ErrorCode::BadInput, sentence);
        if state == Some(PresenceState::Busy) {
            return Err(bad("Busy is told by itself, during calls.".into()));
        }
        if note.as_ref().is_some_and(|note| note.len() > MAX_NOTE_BYTES) {
            return Err(bad(format!("A presence's text has at most {MAX_NOTE_BYTES} bytes.")));
        }
        if let Some(state) = state {
            self.set_quiet(state == PresenceState::DoNotDisturb).await?;
        }
        // Who does not want to be disturbed is so by the settings about unwanted calls, and nowhere else.
        let state = state
            .map(|state| if state == PresenceState::DoNotDisturb { PresenceState::Available } else { state });
        let chosen = self.presence.chosen();
        let chosen = match (state, note) {
            (None, None) => None,
            // A text belongs to the state that it was given with.
            (Some(state), note) => Some(PresenceInfo { state, note: note.unwrap_or_default() }),
            (None, Some(note)) => Some(PresenceInfo { state: chosen.state, note }),
        };
        let keep = async |key, value: Result<String, serde_json::Error>| {
            let value =
                value.map_err(|_| ApiError::new(ErrorCode::Internal, "A setting could not be written."))?;
            self.account.set_setting(key, Some(&value)).await.map_err(|error| error.to_api())
        };
        if let Some(chosen) = &chosen {
            keep(CHOSEN, serde_json::to_string(chosen)).await?;
        }
        if let Some(visible) = &visible {
            keep(VISIBLE, serde_json::to_string(visible)).await?;
        }
        self.presence.choose(Instant::now(), chosen, visible);
        let PresenceInfo { state, note } = self.presence.own();
        Ok(Reply::Presence(PresenceSettings { state, note, visible: self.presence.visible() }))
    }

    /// Has nothing ring from now on, or whatever rang before.
    async fn set_quiet(&mut self, quiet: bool) -> Result<(), ApiError> {
        self.account.set_quiet(quiet).await.map_err(|error| error.to_api())?;
        self.reload_policy().await;
        Ok(())
    }

    /// Takes up who is told, as another terminal of the account has chosen it: it is in the file.
    pub(super) async fn reload_visibility(&mut self) {
        match self.account.setting(VISIBLE).await {
            Ok(kept) => {
                let visible = kept.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
                if visible != self.presence.visible() {
                    self.presence.choose(Instant::now(), None, Some(visible));
                }
            }
            Err(error) => tracing::error!(%error, "the settings could not be read"),
        }
    }

    /// Adds to the contact list how they are.
    pub(super) fn with_presence(&self, contacts: &mut [Contact]) {
        let now = Instant::now();
        for contact in contacts {
            contact.presence = self
                .presence
                .of(&contact.number, now)
                .map(|PresenceInfo { state, note }| ContactPresence { state, note });
        }
    }

    /// The contact list, or what is known of keys, may have changed.
    pub(super) async fn reload_contacts(&mut self) {
        self.contacts_changed = false;
        match self.account.contacts().await {
            Ok(contacts) => {
                let met = self.account.met().await.unwrap_or_else(|error| {
                    tracing::error!(%error, "the pinned keys could not be read");
                    Vec::new()
                });
                self.screener.set_known(&contacts, met);
                let known = contacts.into_iter().filter_map(|contact| {
                    let storage::Contact { number, name, fingerprint, verified, offered: _ } = contact;
                    fingerprint.map(|fingerprint| Known { number, name, fingerprint, verified })
                });
                self.presence.set_contacts(Instant::now(), known.collect());
            }
            Err(error) => tracing::error!(%error, "the contacts could not be read"),
        }
    }

    /// A contact has told how it is, or asks.
    pub(super) async fn on_presence(&mut self, from: &Number, peer: &Arc<Peer>, presence: Presence) {
        // A contact whose key nobody knows yet could be anybody.
        match self.account.pin_of(from).await {
            Ok(Some(pin)) if pin.expected().matches(&peer.identity) => {}
            Ok(_) => return,
            Err(error) => return tracing::error!(%error, "the pinned keys could not be read"),
        }
        let news = self.presence.heard(Instant::now(), from, peer, presence);
        if let Some((Known { number, name, .. }, PresenceInfo { state, note })) = news {
            self.emit(Event::Presence { number, name, state, note });
        }
    }

    /// Sends what is due.
    pub(super) async fn tell_presence(&mut self) {
        let at = Instant::now();
        if self.contacts_changed {
            self.reload_contacts().await;
        }
        self.presence.set_online(at, self.publisher.line == LineState::Online);
        let in_call = self.views.live().any(|(_, view)| view.is_users());
        self.presence.set_in_call(at, in_call);
        let mut sent = false;
        while let Some(send) = self.presence.poll(at) {
            sent = true;
            self.send_presence(send).await;
        }
        if sent {
            self.drain().await;
        }
    }

    /// The last word to those who are told of changes.
    pub(super) async fn tell_farewell(&mut self) {
        let farewells = self.presence.farewells(Instant::now());
        // All of them at once, and nothing comes after: the limit was for what goes on.
        self.calls.config_mut().max_texts += farewells.len();
        for send in farewells {
            self.send_presence(send).await;
        }
        self.drain().await;
    }

    async fn send_presence(&mut self, send: Send) {
        let (call, result) = (new_call_id(), now());
        let result = match send {
            Send::ToTerminal(number, peer, presence) => {
                self.legs.set_open(offhook_proto::call::LegId { call, terminal: peer.terminal });
                self.calls.presence_at(result, call, number, (*peer).clone(), presence)
            }
            Send::ToNumber(number, presence) => {
                match self.calls.presence_to(result, call, number.clone(), presence) {
                    Ok(()) => {
                        self.look_for_presence(call, number).await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
        };
        match result {
            Ok(()) | Err(CallError::TooMany) => {}
            Err(error) => tracing::debug!(%error, "presence is not told"),
        }
    }

    async fn look_for_presence(&mut self, call: offhook_proto::signalling::CallId, number: Number) {
        let link = Invitation { number, key: None, via: Vec::new() };
        let place = self.account.place_of(&link.number).await.ok().flatten();
        let found = match (place, self.expected_key(&link).await) {
            (Some(place), Ok(pin)) => Some((place, pin)),
            (_, Ok(_) | Err(_)) => None,
        };
        match found {
            Some((place, pin)) => self.search(call, link, place, pin).await,
            // A number of a directory that is not known here.
            None => {
                let end = offhook_proto::call::LookupEnd::NoTerminal;
                if let Err(error) = self.calls.lookup_finished(now(), call, end) {
                    tracing::debug!(%error, "presence is not told");
                }
            }
        }
    }
}
