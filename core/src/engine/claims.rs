//! Who claims a number that is being called, and whom to ring.

use crate::net::Origin;
use offhook_proto::call::{Distrust, LookupEnd};
use offhook_proto::identity::{Fingerprint, IdentityId};
use offhook_proto::proof::{Transfer, supersedes};
use offhook_proto::record::{Candidate, Choice, Pin, choose_identity};
use offhook_proto::wire::UnixMillis;
use std::collections::BTreeMap;

/// What a look-up has brought so far.
#[derive(Debug)]
pub(super) struct Claims {
    pin: Option<Pin>,
    /// Every identity that came with a valid record.
    candidates: BTreeMap<IdentityId, Known>,
    chosen: Option<IdentityId>,
    /// The network served a record. This terminal's cache says nothing about whether the network can be asked.
    fresh: bool,
}

/// What is known of an identity.
#[derive(Debug, Default)]
struct Known {
    /// Since when this terminal's directories know it with the number.
    since: Option<UnixMillis>,
    /// How it has got the number from those who had it before.
    transfers: Vec<Transfer>,
}

/// What a record means for the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ring its terminals.
    Ring,
    /// Wait for what else comes.
    Wait,
    /// It rings already for another key, and that one is not the right one.
    Stop(Distrust),
}

/// What the whole look-up means for the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Tell the call machine.
    Finished(LookupEnd),
    /// The pinned key is not among those that have the number.
    KeyChanged {
        /// The pinned one.
        pinned: Fingerprint,
        /// One that has it.
        offered: Option<Fingerprint>,
        /// The pinned one has given it to that one, and signed that.
        moved: bool,
    },
    /// Several keys have it, and nothing tells which is the right one.
    Disputed,
}

impl Claims {
    /// Nothing is known yet but the key that the user expects, if any.
    pub fn new(pin: Option<Pin>) -> Self {
        Self { pin, candidates: BTreeMap::new(), chosen: None, fresh: false }
    }

    /// The identity that is being rung.
    pub fn chosen(&self) -> Option<IdentityId> {
        self.chosen
    }

    /// A valid record of `identity`. `origin`: who served it, `None` for this terminal's own cache. `since`: since when
    /// that node knows it, which counts if the node is one of this terminal's directories: anybody else could say
    /// anything.
    pub fn learn(&mut self, identity: IdentityId, origin: Option<Origin>, since: Option<UnixMillis>) -> Step {
        let seen = since.filter(|_| origin == Some(Origin::Directory));
        // Whoever keeps records for the network is a part of it: others' equal answers are no news to its look-up.
        self.fresh |= origin.is_some();
        let known = self.candidates.entry(identity).or_default();
        known.since = [known.since, seen].into_iter().flatten().min();
        match self.choose() {
            Choice::Use(chosen) if self.chosen.is_none_or(|earlier| earlier == chosen) => {
                self.chosen = Some(chosen);
                if identity == chosen { Step::Ring } else { Step::Wait }
            }
            Choice::Use(_) => Step::Stop(Distrust::Disputed),
            // The pinned key, or a date that decides, may still come: whoever is first to answer has no say.
            Choice::Conflict(_) | Choice::KeyChanged { .. } | Choice::Nobody => Step::Wait,
        }
    }

    /// How `identity` has got the number, as its record shows; to be told before the record is [learnt](Self::learn). A record
    /// that shows less is an older one.
    pub fn learn_transfers(&mut self, identity: IdentityId, transfers: &[Transfer]) {
        let known = self.candidates.entry(identity).or_default();
        if transfers.last().map(|last| last.at) > known.transfers.last().map(|last| last.at) {
            known.transfers = transfers.to_vec();
        }
    }

    /// The look-up is over. `complete`: whoever should know had a say.
    pub fn finish(&self, complete: bool) -> Outcome {
        match self.choose() {
            Choice::Conflict(_) => Outcome::Disputed,
            Choice::KeyChanged { pinned, offered } => Outcome::KeyChanged {
                moved: offered.first().is_some_and(|offered| self.has_moved(&pinned, offered)),
                pinned: match pinned {
                    Pin::Key(key) => key.fingerprint(),
                    Pin::Fingerprint(fingerprint) => fingerprint,
                },
                offered: offered.first().map(IdentityId::fingerprint),
            },
            Choice::Use(_) | Choice::Nobody => Outcome::Finished(match (self.fresh, complete) {
                (true, _) => LookupEnd::Complete,
                (false, true) => LookupEnd::WrongNumber,
                (false, false) => LookupEnd::Failed,
            }),
        }
    }

    /// Whether the pinned key's owner has signed that the number goes to `offered`, perhaps through others.
    fn has_moved(&self, pinned: &Pin, offered: &IdentityId) -> bool {
        let Some(known) = self.candidates.get(offered) else { return false };
        let mut from = known.transfers.iter().map(|transfer| transfer.from);
        let Some(from) = from.find(|from| pinned.matches(from)) else { return false };
        let theirs = self.candidates.get(&from).map(|known| &known.transfers[..]).unwrap_or_default();
        supersedes(&known.transfers, &from, theirs)
    }

    fn choose(&self) -> Choice {
        let candidates: Vec<Candidate> = self
            .candidates
            .iter()
            .map(|(identity, known)| Candidate {
                identity: *identity,
                first_seen: known.since,
                transfers: known.transfers.clone(),
            })
            .collect();
        choose_identity(self.pin.as_ref(), &candidates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_proto::number::RecordKey;

    const A: IdentityId = IdentityId::from_bytes([1; 32]);
    const B: IdentityId = IdentityId::from_bytes([2; 32]);
    const DIRECTORY: Option<Origin> = Some(Origin::Directory);
    const PEER: Option<Origin> = Some(Origin::Peer);
    const DHT: Option<Origin> = Some(Origin::Dht);

    fn at(ms: u64) -> Option<UnixMillis> {
        Some(UnixMillis(ms))
    }

    #[test]
    fn the_first_valid_record_rings_at_once() {
        let mut claims = Claims::new(None);
        assert_eq!(claims.learn(A, None, None), Step::Ring, "also one from the cache");
        assert_eq!(claims.learn(A, DHT, None), Step::Ring);
        assert_eq!(claims.finish(true), Outcome::Finished(LookupEnd::Complete));
    }

    /// Anybody who is connected, or on the same LAN, could claim to know a key for ever.
    #[test]
    fn only_the_dates_of_directories_decide() {
        for stranger in [PEER, DHT, Some(Origin::Local), None] {
            let mut claims = Claims::new(None);
            assert_eq!(claims.learn(A, DIRECTORY, at(500)), Step::Ring);
            assert_eq!(claims.learn(B, stranger, at(1)), Step::Wait, "{stranger:?}");
            assert_eq!(claims.chosen(), Some(A));
            assert_eq!(
                claims.finish(true),
                Outcome::Finished(LookupEnd::Complete),
                "A has a date, B has none"
            );
        }
        let mut claims = Claims::new(None);
        assert_eq!(claims.learn(A, DHT, None), Step::Ring);
        assert_eq!(claims.learn(B, PEER, at(1)), Step::Wait);
        assert_eq!(claims.finish(true), Outcome::Disputed);
        assert_eq!(claims.learn(B, DIRECTORY, at(7)), Step::Stop(Distrust::Disputed), "it rings for A");
    }

    #[test]
    fn a_pinned_key_may_come_late() {
        let mut claims = Claims::new(Some(Pin::Key(B)));
        assert_eq!(claims.learn(A, DHT, None), Step::Wait);
        let changed =
            Outcome::KeyChanged { pinned: B.fingerprint(), offered: Some(A.fingerprint()), moved: false };
        assert_eq!(claims.finish(true), changed);
        assert_eq!(claims.learn(B, DHT, None), Step::Ring);
        assert_eq!(claims.finish(true), Outcome::Finished(LookupEnd::Complete));
    }

    #[test]
    fn a_number_that_was_handed_over_rings_at_its_new_owners() {
        let number = RecordKey([9; 32]);
        let handed = [Transfer { number, from: A, to: B, at: UnixMillis(10) }];
        let mut claims = Claims::new(None);
        claims.learn_transfers(B, &handed);
        assert_eq!(claims.learn(B, DHT, None), Step::Ring);
        assert_eq!(claims.learn(A, DIRECTORY, at(1)), Step::Wait, "its date counts no more");
        assert_eq!(claims.finish(true), Outcome::Finished(LookupEnd::Complete));
        let mut pinned = Claims::new(Some(Pin::Key(A)));
        pinned.learn_transfers(B, &handed);
        assert_eq!(pinned.learn(B, DHT, None), Step::Wait);
        assert_eq!(pinned.learn(A, DHT, None), Step::Wait, "the pinned owner has given it away");
        let changed =
            Outcome::KeyChanged { pinned: A.fingerprint(), offered: Some(B.fingerprint()), moved: true };
        assert_eq!(pinned.finish(true), changed);
        let mut late = Claims::new(None);
        assert_eq!(late.learn(A, DHT, None), Step::Ring);
        late.learn_transfers(B, &handed);
        assert_eq!(late.learn(B, DHT, None), Step::Stop(Distrust::Disputed), "it rings for A");
    }

    #[test]
    fn what_is_kept_here_is_no_look_up() {
        let mut claims = Claims::new(None);
        assert_eq!(claims.learn(A, None, None), Step::Ring);
        assert_eq!(claims.finish(false), Outcome::Finished(LookupEnd::Failed));
        assert_eq!(claims.finish(true), Outcome::Finished(LookupEnd::WrongNumber));
        assert_eq!(Claims::new(None).finish(false), Outcome::Finished(LookupEnd::Failed));
        assert_eq!(Claims::new(None).finish(true), Outcome::Finished(LookupEnd::WrongNumber));
    }

    #[test]
    fn the_earliest_date_of_several_directories_counts() {
        let mut claims = Claims::new(None);
        claims.learn(A, DIRECTORY, at(500));
        claims.learn(A, DIRECTORY, at(100));
        claims.learn(A, DIRECTORY, None);
        assert_eq!(claims.learn(B, DIRECTORY, at(300)), Step::Wait);
        assert_eq!(claims.finish(true), Outcome::Finished(LookupEnd::Complete));
    }
}
