//! What arrives: sealed packets are opened and verified, callers classified, and handed to the call machine.

use super::{Engine, Internal, now, wall};
use crate::api::Event;
use crate::net::NetEvent;
use offhook_proto::call::{Caller, LegId};
use offhook_proto::identity::{IdentityId, TerminalId};
use offhook_proto::number::Number;
use offhook_proto::signalling::{self, Opened, RejectReason, VerifiedIntro};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Slow proofs that run at a time. One costs some milliseconds of one core and 8 MiB.
const PROOFS_AT_ONCE: usize = 2;

/// Packets that wait for a slow proof; further strangers' first packets are dropped (and repeated by them).
const PROOFS_WAITING: usize = 64;

/// Proofs remembered.
const PROOFS_KNOWN: usize = 1024;

/// The slow proofs of numbers: which are known, and how many may run.
#[derive(Debug)]
pub(super) struct Proofs {
    known: VecDeque<(Number, IdentityId)>,
    running: Arc<Semaphore>,
    waiting: usize,
}

impl Default for Proofs {
    fn default() -> Self {
        Self { known: VecDeque::new(), running: Arc::new(Semaphore::new(PROOFS_AT_ONCE)), waiting: 0 }
    }
}

impl Proofs {
    fn knows(&self, number: &Number, identity: &IdentityId) -> bool {
        self.known.iter().any(|(n, i)| n == number && i == identity)
    }

    fn learn(&mut self, number: Number, identity: IdentityId) {
        if !self.knows(&number, &identity) {
            self.known.push_back((number, identity));
            while self.known.len() > PROOFS_KNOWN {
                self.known.pop_front();
            }
        }
    }
}

/// A packet whose sender's number has been checked.
pub(super) struct Proven {
    opened: Opened,
    via: Option<TerminalId>,
    good: bool,
}

impl Engine {
    pub(super) async fn on_net(&mut self, event: NetEvent) {
        match event {
            NetEvent::Signal { via, blob, .. } => self.on_blob(blob, Some(via)).await,
            // What they come to is in the status.
            NetEvent::EntryUp { .. } => tracing::debug!("an entry point is up"),
            NetEvent::EntryDown { .. } => tracing::info!("the connection to an entry point is lost"),
            NetEvent::Listening { .. } => {}
        }
    }

    /// A sealed packet, from the network (`via` a node) or from the leg's own connection.
    pub(super) async fn on_blob(&mut self, blob: Vec<u8>, via: Option<TerminalId>) {
        let calls = &self.calls;
        let known = |call: &signalling::CallId, from: &TerminalId| calls.knows(call, from);
        let me = self.account.terminal_key().public();
        let opened = match signalling::open(&blob, self.account.seal_key(), &me, &known, wall()) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::debug!(%error, "a packet is refused");
                return;
            }
        };
        match opened.intro.clone() {
            Some(intro) if !self.is_proven(&intro).await => match intro.number {
                Number::Plain(_) => self.prove(opened, intro, via),
                // Anybody can issue chosen numbers in any directory's name. As long as terminals do not know the
                // keys of directories, only one that was pinned says who calls.
                Number::Chosen(_) => tracing::debug!("a packet is refused: a number of an unknown directory"),
            },
            Some(_) | None => self.deliver(opened, via).await,
        }
    }

    /// Whether the number is known to belong to the identity, from an earlier proof or from a pin.
    async fn is_proven(&self, intro: &VerifiedIntro) -> bool {
        self.proofs.knows(&intro.number, &intro.identity)
            || self.account.pinned(&intro.number).await.is_ok_and(|pin| pin == Some(intro.identity))
    }

    /// Run the slow proof in the background.
    fn prove(&mut self, opened: Opened, intro: Arc<VerifiedIntro>, via: Option<TerminalId>) {
        if self.proofs.waiting >= PROOFS_WAITING {
            tracing::debug!("too many numbers wait to be proven; a packet is dropped");
            return;
        }
        self.proofs.waiting += 1;
        let (running, internal) = (self.proofs.running.clone(), self.internal.clone());
        self.jobs.spawn(async move {
            let permit = running.acquire_owned().await;
            let good = tokio::task::spawn_blocking(move || intro.proof.run()).await.unwrap_or(false);
            drop(permit);
            // An error means that the engine has ended.
            let _ = internal.send(Internal::Proven(Proven { opened, via, good })).await;
        });
    }

    pub(super) async fn on_proven(&mut self, proven: Proven) {
        self.proofs.waiting = self.proofs.waiting.saturating_sub(1);
        let Some(intro) = proven.opened.intro.clone() else { return };
        if !proven.good {
            tracing::debug!("a packet is refused: its number does not belong to its key");
            return;
        }
        self.proofs.learn(intro.number.clone(), intro.identity);
        self.deliver(proven.opened, proven.via).await;
    }

    /// Hand a verified packet to the machine.
    async fn deliver(&mut self, opened: Opened, via: Option<TerminalId>) {
        let leg = LegId { call: opened.packet.call, terminal: opened.packet.from };
        let mut caller = Caller::Stranger;
        if let Some(intro) = &opened.intro {
            caller = self.classify(intro).await;
            if caller == Caller::Contact {
                self.legs.set_open(leg);
            }
        }
        if let Some(via) = via {
            self.legs.heard_through(leg, via);
        }
        self.calls.handle_packet(now(), opened, caller);
    }

    /// What the user's books say about a caller.
    async fn classify(&self, intro: &VerifiedIntro) -> Caller {
        let pin = match self.account.pin_of(&intro.number).await {
            Ok(pin) => pin,
            Err(error) => {
                tracing::error!(%error, "the pinned keys could not be read");
                return Caller::Stranger;
            }
        };
        if let Some(pin) = &pin
            && pin.fingerprint != intro.identity.fingerprint()
        {
            self.key_changed(&intro.number, pin.fingerprint, intro.identity);
            return Caller::Refused(RejectReason::KeyChanged);
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

    /// Tell that another key than the pinned one was met, and keep it for the user's word.
    pub(super) fn key_changed(
        &self,
        number: &Number,
        pinned: offhook_proto::identity::Fingerprint,
        offered: IdentityId,
    ) {
        self.emit(Event::KeyChanged {
            number: number.clone(),
            pinned: pinned.to_string(),
            offered: offered.fingerprint().to_string(),
        });
        let (account, number) = (self.account.clone(), number.clone());
        self.jobs.spawn(async move {
            if let Err(error) = account.offered_key(&number, &offered).await {
                tracing::error!(%error, "a changed key could not be kept");
            }
        });
    }
}
