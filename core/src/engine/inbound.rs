//! What arrives: sealed packets are opened and verified, callers classified, and handed to the call machine.

use super::proofs::Unproven;
use super::{Engine, Internal, now};
use crate::api::Event;
use crate::clock::wall_clock;
use crate::net::NetEvent;
use offhook_proto::call::{Caller, LegId};
use offhook_proto::identity::{Fingerprint, TerminalId};
use offhook_proto::number::Number;
use offhook_proto::proof::ProofTask;
use offhook_proto::signalling::{self, Opened, RejectReason, Unverified, VerifiedIntro};
use std::sync::Arc;
use std::time::Instant;

impl Engine {
    pub(super) async fn on_net(&mut self, event: NetEvent) {
        match event {
            NetEvent::Signal { via, blob, .. } => self.screen_signal(&blob, via).await,
            NetEvent::Mail { from, notice } => self.on_notice(from, notice),
            // What they come to is in the status.
            NetEvent::EntryUp { .. } => tracing::debug!("an entry point is up"),
            NetEvent::EntryDown { .. } => tracing::info!("the connection to an entry point is lost"),
            NetEvent::Listening { .. } => {}
        }
    }

    /// A sealed packet that came over a leg's own connection, or by a courier. Nothing but packets of that leg has any business there.
    pub(super) fn on_control(&mut self, leg: LegId, blob: &[u8]) {
        let Some(opened) = self.unseal(blob).and_then(|unverified| self.verified(unverified)) else { return };
        tell(&opened, "a packet has come over the call's own connection or by a courier");
        if leg_of(&opened) == leg && self.calls.knows(&leg.call, &leg.terminal) {
            self.calls.handle_packet(now(), opened, Caller::Stranger);
        }
    }

    /// Unseals a packet; nothing of what it says is verified.
    pub(super) fn unseal(&self, blob: &[u8]) -> Option<Unverified> {
        let me = self.account.terminal_key().public();
        let unsealed = signalling::unseal(blob, self.account.seal_key(), &me);
        unsealed.inspect_err(|error| tracing::debug!(%error, "a packet is refused")).ok()
    }

    /// Verifies all of a packet but its number.
    pub(super) fn verified(&self, unverified: Unverified) -> Option<Opened> {
        let known = |call: &signalling::CallId, from: &TerminalId| self.calls.knows(call, from);
        let opened = unverified.verify(&known, wall_clock());
        opened.inspect_err(|error| tracing::debug!(%error, "a packet is refused")).ok()
    }

    pub(super) async fn take(&mut self, packet: Unproven) {
        let leg = leg_of(&packet.opened);
        if self.calls.knows(&leg.call, &leg.terminal) {
            // Whose terminal that is was settled when the dialog began: what the packet says of itself counts no more.
            self.legs.heard_through(leg, packet.via, packet.opened.packet.seq, Instant::now());
            self.calls.handle_packet(now(), packet.opened, Caller::Stranger);
            return;
        }
        // Without an introduction a packet of an unknown dialog is not even opened.
        let Some(intro) = packet.opened.intro.clone() else { return };
        match intro.number {
            // Anybody can issue chosen numbers in any directory's name. As long as terminals do not know the
            // keys of directories, only one that was pinned says who calls.
            Number::Chosen(_) if !self.is_pinned(&intro).await => {
                tracing::debug!("a packet is refused: a number of an unknown directory");
            }
            Number::Plain(_) if !self.is_pinned(&intro).await => match self.net.verdict(&intro.proof) {
                Some(true) => self.deliver(packet, intro).await,
                Some(false) => tracing::debug!("a packet is refused: its number does not belong to its key"),
                None if self.proofs.add(&intro.proof, intro.identity, packet) => self.run_proof(),
                None => tracing::debug!("too many numbers wait to be proven; a packet is dropped"),
            },
            // A pin is no word on who has the number today: whoever has given it away comes with a plain one, or not at all.
            Number::Chosen(_) if !self.has_number(&intro).await => {
                tracing::debug!("a packet is refused: its number has gone to somebody else");
            }
            Number::Plain(_) | Number::Chosen(_) => self.deliver(packet, intro).await,
        }
    }

    /// Whether the number is known to belong to the identity since an earlier contact.
    pub(super) async fn is_pinned(&self, intro: &VerifiedIntro) -> bool {
        self.account.pinned(&intro.number).await.is_ok_and(|pin| pin == Some(intro.identity))
    }

    /// Whether what is kept of the number here has it as this identity's, or says nothing of it.
    async fn has_number(&self, intro: &VerifiedIntro) -> bool {
        let cached = self.cached(&intro.number, &intro.record_key).await;
        cached.and_then(|set| set.account).is_none_or(|account| account.identity == intro.identity)
    }

    /// Run the next slow proof in the background, unless one runs.
    fn run_proof(&mut self) {
        let Some(task) = self.proofs.next() else { return };
        let (net, internal) = (self.net.clone(), self.internal.clone());
        self.jobs.spawn(async move {
            // The verdict is kept there.
            net.prove(task.clone()).await;
            // An error means that the engine has ended.
            let _ = internal.send(Internal::Proven(task)).await;
        });
    }

    pub(super) async fn on_proven(&mut self, task: ProofTask) {
        for packet in self.proofs.done(&task) {
            self.take(packet).await;
        }
        self.run_proof();
    }

    /// The first packet of a dialog, whose sender's number is proven: find out by which number the sender is shown.
    async fn deliver(&mut self, packet: Unproven, intro: Arc<VerifiedIntro>) {
        if let Some((packet, shown)) = self.show(packet, &intro).await {
            self.deliver_shown(packet, shown).await;
        }
    }

    /// Hand the first packet of a dialog to the machine, with its sender's number.
    pub(super) async fn deliver_shown(&mut self, mut packet: Unproven, shown: Arc<VerifiedIntro>) {
        packet.opened.intro = Some(shown.clone());
        let intro = &*shown;
        let leg = leg_of(&packet.opened);
        let caller = self.classify(&leg.terminal, intro).await;
        let Some(caller) = self.screened(&packet, intro, caller).await else { return };
        if caller == Caller::Contact {
            self.legs.set_open(leg);
        }
        self.legs.heard_through(leg, packet.via, packet.opened.packet.seq, Instant::now());
        self.calls.handle_packet(now(), packet.opened, caller);
    }

    /// What the user's books say about a caller.
    async fn classify(&self, terminal: &TerminalId, intro: &VerifiedIntro) -> Caller {
        let pin = match self.account.pin_of(&intro.number).await {
            Ok(pin) => pin,
            Err(error) => {
                // It could be the wrong one: nothing rings before that is known.
                tracing::error!(%error, "the pinned keys could not be read");
                return Caller::Refused(RejectReason::Failed);
            }
        };
        if let Some(pin) = pin.filter(|pin| !pin.expected().matches(&intro.identity)) {
            self.key_changed(&intro.number, pin.fingerprint, intro.identity.fingerprint(), false).await;
            return Caller::Refused(RejectReason::KeyChanged);
        }
        if self.is_revoked(terminal, intro).await {
            tracing::info!("a call of a terminal that its account has revoked is refused");
            return Caller::Refused(RejectReason::Blocked);
        }
        match self.account.contact(&intro.number).await {
            Ok(Some(_)) => Caller::Contact,
            Ok(None) => Caller::Stranger,
            Err(error) => {
                tracing::error!(%error, "the contacts could not be read");
                Caller::Stranger
            }
        }
    }

    /// Whether the account record kept here, if there is one, says that the terminal was lost or stolen.
    async fn is_revoked(&self, terminal: &TerminalId, intro: &VerifiedIntro) -> bool {
        let cached = self.cached(&intro.number, &intro.record_key).await;
        let account = cached.and_then(|set| set.account);
        account
            .is_some_and(|account| account.identity == intro.identity && account.revoked.contains(terminal))
    }

    /// Tell that another key than the pinned one was met, and keep it for the user's word.
    /// `moved`: the pinned key's owner has given the number away.
    pub(super) async fn key_changed(
        &self,
        number: &Number,
        pinned: Fingerprint,
        offered: Fingerprint,
        moved: bool,
    ) {
        // First, and awaited: whoever hears the event may confirm the key at once, and the end of the call comes after it.
        if let Err(error) = self.account.offered_key(number, &offered).await {
            tracing::error!(%error, "a changed key could not be kept");
        }
        self.emit(Event::KeyChanged {
            number: number.clone(),
            pinned: pinned.to_string(),
            offered: offered.to_string(),
            moved,
        });
    }
}

/// For whoever looks for the cause of a slow call: what came when, not from whom.
pub(super) fn tell(Opened { packet, .. }: &Opened, how: &'static str) {
    tracing::debug!(kind = packet.kind(), seq = packet.seq, ack = packet.ack, how);
}

fn leg_of(opened: &Opened) -> LegId {
    LegId { call: opened.packet.call, terminal: opened.packet.from }
}
