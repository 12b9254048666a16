//! Carrying out what the call machine puts out.

use super::calls::{end_reason, parting};
use super::legs::MEDIA_QUEUE;
use super::{Engine, Internal, now};
use crate::api::{self, Event};
use crate::audio::DeviceSpec;
use crate::clock::wall_clock;
use crate::media::{self, AudioConfig, MediaConfig, MediaLeg, Party};
use crate::net::{SignalError, SignalTarget};
use crate::phone::{AnswerMode, CallState};
use crate::storage::{AccountStore, CallEntry, MessageState};
use offhook_proto::call::{CallEvent, Direction, EndedBy, LegId, LocalParty, Output, Peer, Role};
use offhook_proto::identity::IdentityId;
use offhook_proto::number::{NodeAddr, Number};
use offhook_proto::proof::SignedChosenCert;
use offhook_proto::signalling::{self, CallId, Introduction, MAX_ROUTES, Packet, TextId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// How this terminal presents itself to others.
pub(super) fn local_party(
    account: &AccountStore,
    routes: Vec<NodeAddr>,
    chosen: Option<SignedChosenCert>,
) -> LocalParty {
    LocalParty { terminal: account.terminal_key().public(), intro: introduction(account, routes, chosen) }
}

/// What others are told with the first packet.
pub(super) fn introduction(
    account: &AccountStore,
    mut routes: Vec<NodeAddr>,
    chosen: Option<SignedChosenCert>,
) -> Introduction {
    routes.truncate(MAX_ROUTES);
    Introduction {
        number: account.number().clone(),
        proof: account.proof().clone(),
        identity: account.identity(),
        cert: account.cert(),
        routes,
        chosen,
    }
}

impl Engine {
    /// Has the machine introduce this terminal like this from now on.
    pub(super) fn introduce(&mut self, routes: Vec<NodeAddr>) {
        self.calls.set_intro(introduction(&self.account, routes, self.shown_as.clone()));
    }

    /// Carry out everything that the machine has put out.
    pub(super) async fn drain(&mut self) {
        let mut ended = Vec::new();
        while let Some(output) = self.calls.poll_output() {
            match output {
                Output::Transmit { leg, peer, packet } => self.transmit(leg, &peer, packet),
                Output::PrepareMedia { leg, role, disclose } => self.prepare_media(leg, role, disclose),
                Output::RemoteOffer { leg, offer } => self.with_media(&leg, |m| m.set_remote(offer)),
                Output::RemoteCandidates { leg, list, anew: true } => {
                    self.with_media(&leg, |m| m.replace_remote_candidates(list));
                }
                Output::RemoteCandidates { leg, list, anew: false } => {
                    self.with_media(&leg, |m| m.add_remote_candidates(list));
                }
                Output::Disclose { leg } => self.with_media(&leg, MediaLeg::disclose),
                Output::Tunnel { leg, data } => self.with_media(&leg, |m| m.tunnel(data)),
                Output::StartAudio { leg } => {
                    if let Some((mic, speaker)) = self.machine_devices(&leg) {
                        self.with_media(&leg, |m| m.use_instead(mic, speaker));
                    } else {
                        // A sound card may be for one at a time.
                        self.tones.play(None);
                    }
                    self.with_media(&leg, MediaLeg::start_audio);
                }
                Output::StopMedia { leg, last } => ended.push((leg, last)),
                Output::KeepText { key, text } => self.keep_text(key, text),
                Output::Work { call, challenge } => self.work(call, challenge),
                Output::Event(event) => self.on_call_event(event).await,
            }
        }
        // Last: what the machine says with the end of a call is to go over the call's own connection too. When the
        // directories are gone there is no other way.
        for (leg, last) in ended {
            if let Some(media) = self.legs.take_media(&leg) {
                if let Some(last) = last {
                    media.last_word(last);
                }
                self.jobs.spawn(async move { media.close().await });
            }
        }
    }

    pub(super) fn with_media(&self, leg: &LegId, act: impl FnOnce(&MediaLeg)) {
        // Media that failed to start was reported to the machine; what it says meanwhile is moot.
        if let Some(media) = self.legs.media(leg) {
            act(media);
        }
    }

    /// Seal a packet and send it: on the leg's own connection if that is up, otherwise (and for whatever the
    /// connection did not bring across, and for last words) by signalling, and by the couriers of a call in progress.
    fn transmit(&mut self, leg: LegId, peer: &Arc<Peer>, packet: Packet) {
        let seed: [u8; 32] = rand::random();
        let blob = match signalling::seal(&packet, self.account.terminal_key(), &peer.seal, seed) {
            Ok(blob) => blob,
            Err(error) => {
                tracing::warn!(%error, "a packet could not be sealed");
                return;
            }
        };
        let again = self.legs.is_repetition(leg, &packet);
        let on_connection = self.legs.send_on_connection(&leg, &packet, &blob, again);
        tracing::debug!(
            kind = packet.kind(),
            seq = packet.seq,
            ack = packet.ack,
            bytes = blob.len(),
            on_connection,
            "a packet goes out"
        );
        if on_connection {
            return;
        }
        let target = SignalTarget {
            terminal: peer.terminal,
            addrs: peer.routes.clone(),
            via: self.legs.via(&leg),
            reach: self.legs.reach(&leg),
            again,
        };
        let (net, internal, peer) = (self.net.clone(), self.internal.clone(), peer.clone());
        let farewell = packet.message.as_ref().is_some_and(|m| m.is_final());
        self.jobs.spawn(async move {
            let Err(error) = net.signal(target, blob).await else { return };
            tracing::debug!(%error, "a packet could not be delivered");
            // Whoever is busy gets it again later; nobody needs to know of a farewell that found nobody.
            if error == SignalError::NotReachable && !farewell {
                // An error means that the engine has ended.
                let _ = internal.send(Internal::SendFailed(leg, peer)).await;
            }
        });
    }

    /// No route of `tried` leads to the leg's terminal.
    pub(super) fn on_send_failed(&mut self, leg: LegId, tried: &Peer) {
        // While the media connection is up, the other side is there whatever the directories say.
        if !self.legs.is_connected(&leg) {
            self.calls.send_failed(now(), leg, tried);
        }
    }

    fn prepare_media(&mut self, leg: LegId, role: Role, disclose: bool) {
        let config = MediaConfig {
            stun_servers: self.net.stun_servers(),
            disclose,
            relays: self.relays_at_hand(&leg, role),
            party: Some(Party { call: leg.call, terminal: leg.terminal }),
            relay_only: self.relay_only,
            ports: self.ports.clone(),
            allow_loopback: self.allow_loopback,
            audio: self.audio_of(leg),
            ..MediaConfig::new(media_role(role))
        };
        let (tx, rx) = mpsc::channel(MEDIA_QUEUE);
        match MediaLeg::start(config, tx) {
            Ok(media) => {
                let (offer, candidates) = (media.offer(), media.candidates());
                self.legs.set_media(leg, media, ReceiverStream::new(rx));
                let told = self.calls.local_candidates(now(), leg, candidates);
                match told.and_then(|()| self.calls.set_offer(now(), leg, offer)) {
                    Ok(()) => self.find_relays(leg, role),
                    Err(error) => tracing::debug!(%error, "a leg was over before its media were prepared"),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "media could not be prepared");
                self.emit(Event::Error { code: api::ErrorCode::Audio, message: error.to_string() });
                self.calls.media_failed(now(), leg);
            }
        }
    }

    pub(super) fn audio_of(&self, leg: LegId) -> AudioConfig {
        let call = self.calls.call_of(&leg).unwrap_or(leg.call);
        let speaker = self.speaker_of(call);
        // Whoever records what is heard wants the other end alone.
        let quiet = !self.call_tones || matches!(speaker, DeviceSpec::File(_));
        AudioConfig {
            mic: self.devices.mic.clone(),
            speaker,
            processing: self.processing,
            music: self.music.clone(),
            volume: self.volume_of(call),
            quiet,
        }
    }

    async fn on_call_event(&mut self, event: CallEvent) {
        match event {
            CallEvent::Searching { call, number } => {
                self.emit(Event::Searching { call: call.to_string(), number })
            }
            CallEvent::Found { call, terminals } => {
                self.views.set(&call, CallState::Inviting);
                self.emit(Event::Found { call: call.to_string(), terminals });
            }
            CallEvent::Working { call, bits } => self.emit(Event::Working { call: call.to_string(), bits }),
            CallEvent::Ringing { call } => {
                self.screener.stop_work(&call);
                self.views.set(&call, CallState::Ringing);
                self.emit(Event::Ringing { call: call.to_string() });
            }
            CallEvent::Incoming { call, number, contact, replaces, answered, .. } => {
                self.on_incoming(call, number, (contact, answered), replaces).await;
            }
            CallEvent::Accepted { call } => {
                self.screener.stop_work(&call);
                self.pin_peer(call);
                self.views.set(&call, CallState::Connecting);
                if !self.machines.answered(&call) {
                    self.hold_others(call);
                    self.carry_over(call);
                }
                self.emit(Event::Accepted { call: call.to_string() });
            }
            CallEvent::Connected { call, leg } => self.on_call_connected(call, leg),
            CallEvent::TextDelivered { id } => {
                self.on_text_delivered(id);
            }
            CallEvent::TextFailed { id, reason } => self.on_text_failed(id, reason),
            CallEvent::Dtmf { call, digit, .. } => self.emit(Event::Dtmf { call: call.to_string(), digit }),
            CallEvent::RemoteHold { call, on } => {
                self.show_keys(&call, |keys| keys.remote_held = on);
                self.emit(Event::RemoteHold { call: call.to_string(), on });
            }
            CallEvent::RemoteMute { call, on } => {
                self.show_keys(&call, |keys| keys.remote_muted = on);
                self.emit(Event::RemoteMute { call: call.to_string(), on });
            }
            CallEvent::TransferAsked { call, number, attended } => {
                self.on_transfer_asked(call, number, attended).await;
            }
            CallEvent::TransferLapsed { call } => self.emit(Event::TransferLapsed { call: call.to_string() }),
            CallEvent::Transfer { call, state } => self.on_transfer(call, state),
            CallEvent::Presence { from, peer, presence } => {
                self.outbox_wake(&from);
                self.on_presence(&from, &peer, presence).await;
            }
            CallEvent::Recording { call, state } => self.on_recording_state(call, state),
            CallEvent::Ended { call, number, direction, reason, by, duration } => {
                self.on_ended(call, number, direction, end_reason(reason), by, duration);
            }
        }
    }

    async fn on_incoming(
        &mut self,
        call: CallId,
        number: Number,
        (contact, answered): (bool, bool),
        replaces: Option<CallId>,
    ) {
        self.begin_view(call, number.clone(), false);
        if let Some(view) = self.views.get_mut(&call) {
            view.contact = contact;
        }
        let name = match self.account.contact(&number).await {
            Ok(found) => found.map(|c| c.name),
            Err(error) => {
                tracing::error!(%error, "the contacts could not be read");
                None
            }
        };
        match replaces {
            Some(replaced) => self.set_place(call, replaced),
            // Whoever is handed over comes to the user, who talks already.
            None => self.machines.rings(call, std::time::Instant::now()),
        }
        let replaces = replaces.map(|call| call.to_string());
        let (answered, silent) =
            (answered || self.answer == AnswerMode::Auto, self.screener.take_silent(&call));
        if let Some(view) = self.views.get_mut(&call) {
            view.silent = silent;
        }
        let id = call.to_string();
        self.emit(Event::Incoming { call: id, number, name, contact, replaces, answered, silent });
        if self.answer == AnswerMode::Auto
            && let Err(error) = self.calls.accept(now(), call)
        {
            tracing::debug!(%error, "a call was over before it could be answered");
        }
    }

    /// Pin the key of the one who answered, or whose call was answered.
    fn pin_peer(&mut self, call: CallId) {
        let peer = self.calls.leg_of(call).and_then(|leg| self.calls.peer_of(&leg).cloned());
        let number = self.views.get(&call).map(|v| v.number.clone());
        if let (Some(peer), Some(number)) = (peer, number) {
            self.pin(number, peer.identity);
        }
    }

    fn on_call_connected(&mut self, call: CallId, leg: LegId) {
        self.views.set(&call, CallState::Active);
        if let Some(view) = self.views.get_mut(&call) {
            view.leg = Some(leg);
        }
        self.place_taken(call);
        self.machine_connected(call);
        if let Some((path, relay)) = self.legs.path(&leg) {
            self.emit(Event::Connected { call: call.to_string(), path, relay });
        }
    }

    fn on_ended(
        &mut self,
        call: CallId,
        number: Number,
        direction: Direction,
        reason: api::EndReason,
        by: EndedBy,
        duration: Option<Duration>,
    ) {
        let duration_ms = duration.map_or(0, |d| d.as_millis() as u64);
        // What the machine has taken nobody has answered: the user has missed it, and nobody has talked.
        let by_machine = self.machines.answered(&call);
        let talked = duration.filter(|_| !by_machine);
        let outgoing = direction == Direction::Outgoing;
        let view = self.views.get(&call);
        let started = view.map_or_else(wall_clock, |v| v.began);
        let summary = view.filter(|_| duration.is_some()).and_then(|view| self.summary_of(view));
        let kept = if by_machine { api::EndReason::NoAnswer } else { reason };
        let kept_summary = summary.clone().filter(|_| talked.is_some());
        self.tally.count(outgoing, talked, kept, kept_summary.as_ref());
        self.screener.stop_work(&call);
        self.views.set(&call, CallState::Ended(reason));
        self.parting = parting(reason, by, outgoing, talked.is_some());
        self.stop_search(&call);
        self.recorders.call_ended(&call);
        self.machines.ended(&call);
        // Its key may be known from now on.
        self.contacts_changed = true;
        self.give_place_back(call);
        let entry = CallEntry {
            call: call.to_string(),
            number: number.clone(),
            outgoing,
            started,
            duration_ms: talked.map_or(0, |d| d.as_millis() as u64),
            reason: kept,
            summary: kept_summary,
        };
        // Who asks for the history afterwards finds it there.
        let written = self.histories.token();
        self.keep("a finished call", move |account| async move {
            let done = account.history_add(&entry).await;
            drop(written);
            done
        });
        let (call, by, summary) = (call.to_string(), ended_by(by), summary.map(Box::new));
        self.emit(Event::Ended { call, number, reason, by, duration_ms, summary });
    }

    pub(super) fn mark_message(&mut self, id: TextId, state: MessageState) {
        self.keep("a message's state", move |account| async move {
            account.message_state(&id.to_string(), state).await
        });
    }

    /// Pin the key of somebody who was spoken to for the first time.
    pub(super) fn pin(&mut self, number: Number, identity: IdentityId) {
        self.keep("a key", move |account| async move { account.pin(&number, &identity).await.map(drop) });
    }

    /// Write to the account's file in the background.
    pub(super) fn keep<F, W>(&self, what: &'static str, write: W)
    where
        W: FnOnce(AccountStore) -> F,
        F: Future<Output = Result<(), crate::storage::StorageError>> + Send + 'static,
    {
        let job = write(self.account.clone());
        self.jobs.spawn(async move {
            if let Err(error) = job.await {
                tracing::error!(%error, what, "could not be kept");
            }
        });
    }
}

fn media_role(role: Role) -> media::Role {
    match role {
        Role::Caller => media::Role::Caller,
        Role::Callee => media::Role::Callee,
    }
}

fn ended_by(by: EndedBy) -> api::Side {
    match by {
        EndedBy::Local => api::Side::Local,
        EndedBy::Remote => api::Side::Remote,
        EndedBy::Elsewhere => api::Side::Elsewhere,
        EndedBy::Network => api::Side::Network,
    }
}
