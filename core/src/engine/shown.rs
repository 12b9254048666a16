//! Callers who show a chosen number: whether it is theirs, now.
//!
//! A certificate says that the directory gave the number to this identity, for up to half a year; whoever has passed the number on
//! still holds it. So the number is shown only if its directory is one that this terminal knows (a stranger's word sends it to no site,
//! which would tell where it is), and if the network knows of nobody else who has it. Otherwise the caller's plain number is
//! shown, which follows from the key.

use super::directories::directory_of;
use super::proofs::Unproven;
use super::{Engine, Internal};
use crate::net::{LookupEvent, Net};
use offhook_proto::identity::{IdentityId, TerminalId};
use offhook_proto::number::RecordKey;
use offhook_proto::record::{AccountRecord, Checked};
use offhook_proto::signalling::{CallId, VerifiedIntro};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a caller may be kept from ringing while the network is asked who has the number.
const CHECK_TIME: Duration = Duration::from_millis(1_000);

/// How long others may still name another owner once one node has named the caller.
const SECOND_THOUGHT: Duration = Duration::from_millis(300);

/// How long an answer is good.
const GOOD_FOR: Duration = Duration::from_secs(600);

/// Answers remembered; the oldest goes.
const MAX_REMEMBERED: usize = 256;

/// Numbers that are looked up at a time. Beyond, callers are shown by their plain numbers.
const MAX_CHECKS: usize = 8;

/// What was found out about callers' chosen numbers.
#[derive(Default)]
pub(super) struct Shown {
    known: BTreeMap<(RecordKey, IdentityId), (bool, Instant)>,
    /// Dialogs whose first packet waits for an answer.
    waiting: BTreeSet<(CallId, TerminalId)>,
}

/// What a look-up of a caller's chosen number came to.
pub(super) struct Judged {
    packet: Unproven,
    number: VerifiedIntro,
    /// Whether it is the caller's. Nothing: nobody could be asked.
    holds: Option<bool>,
}

impl Shown {
    fn verdict(&self, key: &(RecordKey, IdentityId)) -> Option<bool> {
        self.known.get(key).filter(|(_, at)| at.elapsed() < GOOD_FOR).map(|(holds, _)| *holds)
    }

    fn learn(&mut self, key: (RecordKey, IdentityId), holds: bool) {
        if self.known.len() >= MAX_REMEMBERED
            && let Some(oldest) = self.known.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| *key)
        {
            self.known.remove(&oldest);
        }
        self.known.insert(key, (holds, Instant::now()));
    }
}

impl Engine {
    /// By which number the sender of a proven packet is shown. Nothing: that is being found out, and the packet comes back then.
    pub(super) async fn show(
        &mut self,
        packet: Unproven,
        intro: &Arc<VerifiedIntro>,
    ) -> Option<(Unproven, Arc<VerifiedIntro>)> {
        let plain = || intro.clone();
        let Some(number) = intro.by_chosen() else { return Some((packet, plain())) };
        if !self.may_show(intro, &number).await {
            return Some((packet, plain()));
        }
        let key = (number.record_key, number.identity);
        match self.shown.verdict(&key) {
            Some(true) => Some((packet, Arc::new(number))),
            Some(false) => Some((packet, plain())),
            None => self.look_into(packet, number, intro),
        }
    }

    /// Whether there is a reason to look into it: the user does not know the caller by the plain number, knows the number's directory,
    /// and has nobody else under the number.
    async fn may_show(&self, intro: &VerifiedIntro, number: &VerifiedIntro) -> bool {
        // An error means that nothing is known.
        if self.account.contact(&intro.number).await.is_ok_and(|contact| contact.is_some()) {
            return false;
        }
        let Some(cert) = &intro.chosen else { return false };
        let Some(name) = directory_of(&number.number) else { return false };
        let known = self.account.known_directory(name).await.ok().flatten();
        if known.is_none_or(|known| known.directory != cert.directory) {
            return false;
        }
        match self.account.pin_of(&number.number).await {
            Ok(pin) => pin.is_none_or(|pin| pin.expected().matches(&number.identity)),
            Err(_) => false,
        }
    }

    fn look_into(
        &mut self,
        packet: Unproven,
        number: VerifiedIntro,
        intro: &Arc<VerifiedIntro>,
    ) -> Option<(Unproven, Arc<VerifiedIntro>)> {
        let dialog = (packet.opened.packet.call, packet.opened.packet.from);
        if self.shown.waiting.contains(&dialog) {
            // A repetition. The first one is on its way.
            return None;
        }
        if self.shown.waiting.len() >= MAX_CHECKS {
            return Some((packet, intro.clone()));
        }
        self.shown.waiting.insert(dialog);
        let (net, internal) = (self.net.clone(), self.internal.clone());
        self.jobs.spawn(async move {
            let holds = holds(&net, number.record_key, &number.identity).await;
            let checked = Box::new(Judged { packet, number, holds });
            // An error means that the engine has ended.
            let _ = internal.send(Internal::Shown(checked)).await;
        });
        None
    }

    /// The network has said who has a caller's chosen number.
    pub(super) async fn on_shown(&mut self, checked: Judged) {
        let Judged { packet, number, holds } = checked;
        self.shown.waiting.remove(&(packet.opened.packet.call, packet.opened.packet.from));
        if let Some(holds) = holds {
            self.shown.learn((number.record_key, number.identity), holds);
        }
        let Some(intro) = packet.opened.intro.clone() else { return };
        // Somebody met under the number before is believed while nobody can be asked.
        let pinned = holds.is_none() && self.is_pinned(&number).await;
        let shown = if holds == Some(true) || pinned { Arc::new(number) } else { intro };
        self.deliver_shown(packet, shown).await;
    }
}

/// Whether the network has the number as this identity's, and as nobody else's. `None` if it has no records of it, or cannot be asked.
async fn holds(net: &Net, key: RecordKey, identity: &IdentityId) -> Option<bool> {
    let mut lookup = net.lookup(key, &[]);
    let mut until = tokio::time::Instant::now() + CHECK_TIME;
    let mut own: Option<Checked<AccountRecord>> = None;
    while let Ok(Some(event)) = tokio::time::timeout_at(until, lookup.next()).await {
        let LookupEvent::Found { set, .. } = event else { break };
        let Some(account) = set.account else { continue };
        if account.identity != *identity {
            // Two have it, or another one alone: it is not for us to decide between them while it rings.
            return Some(false);
        }
        if own.is_none() {
            until = until.min(tokio::time::Instant::now() + SECOND_THOUGHT);
        }
        own = Some(account);
    }
    own.map(|_| true)
}
