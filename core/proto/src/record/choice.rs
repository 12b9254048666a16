//! Which identity a caller takes for the owner of a number.

use crate::identity::{Fingerprint, IdentityId};
use crate::proof::{Transfer, supersedes};
use crate::wire::UnixMillis;

/// What a caller remembers of a number's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pin {
    /// The key of somebody it spoke to.
    Key(IdentityId),
    /// The fingerprint in an invitation link.
    Fingerprint(Fingerprint),
}

impl Pin {
    /// Whether `identity` is the one remembered.
    #[must_use]
    pub fn matches(&self, identity: &IdentityId) -> bool {
        match self {
            Self::Key(key) => key == identity,
            Self::Fingerprint(fingerprint) => *fingerprint == identity.fingerprint(),
        }
    }
}

/// An identity with a valid account record for the number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// The identity.
    pub identity: IdentityId,
    /// When the caller's own directories first saw it with the number; the earliest if several did, `None` if
    /// none did. What other nodes claim doesn't count.
    pub first_seen: Option<UnixMillis>,
    /// The [transfers](crate::record::Checked::transfers) in its record.
    pub transfers: Vec<Transfer>,
}

/// Whom to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This one.
    Use(IdentityId),
    /// Nobody, until the user confirms: a key is remembered and none of the candidates has it.
    KeyChanged {
        /// What is remembered.
        pinned: Pin,
        /// The candidates, each once, in the order of their keys.
        offered: Vec<IdentityId>,
    },
    /// Nobody: several claim the number and nothing decides between them.
    Conflict(Vec<IdentityId>),
    /// There is no candidate.
    Nobody,
}

/// Chooses among identities with valid account records for one number: who has transferred it to another of them is out;
/// then a pinned key wins; then the one that the caller's directories have known longest; otherwise nothing rings and the caller
/// is told. So the key of a former owner, pinned or not, is never rung again, and the new owner's not before the user has
/// confirmed it in the place of the pinned one: it may well be another person.
#[must_use]
pub fn choose_identity(pinned: Option<&Pin>, candidates: &[Candidate]) -> Choice {
    let has_moved = |candidate: &Candidate| {
        let moved_to =
            |other: &Candidate| supersedes(&other.transfers, &candidate.identity, &candidate.transfers);
        candidates.iter().any(moved_to)
    };
    let candidates: Vec<&Candidate> = candidates.iter().filter(|candidate| !has_moved(candidate)).collect();
    let mut identities: Vec<IdentityId> = candidates.iter().map(|candidate| candidate.identity).collect();
    identities.sort_unstable();
    identities.dedup();
    if identities.is_empty() {
        return Choice::Nobody;
    }
    if let Some(pinned) = pinned {
        return match identities.iter().find(|identity| pinned.matches(identity)) {
            Some(identity) => Choice::Use(*identity),
            None => Choice::KeyChanged { pinned: *pinned, offered: identities },
        };
    }
    match identities[..] {
        [only] => Choice::Use(only),
        _ => oldest(&candidates).map_or(Choice::Conflict(identities), Choice::Use),
    }
}

/// The identity that was seen first, if no other was seen in the same millisecond.
fn oldest(candidates: &[&Candidate]) -> Option<IdentityId> {
    let seen = candidates.iter().filter_map(|candidate| Some((candidate.first_seen?, candidate.identity)));
    let (first, identity) = seen.clone().min()?;
    let tied = seen.filter(|(at, _)| *at == first).any(|(_, other)| other != identity);
    (!tied).then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::RecordKey;

    const A: IdentityId = IdentityId::from_bytes([1; 32]);
    const B: IdentityId = IdentityId::from_bytes([2; 32]);
    const C: IdentityId = IdentityId::from_bytes([3; 32]);

    fn seen(identity: IdentityId, at: u64) -> Candidate {
        Candidate { identity, first_seen: Some(UnixMillis(at)), transfers: Vec::new() }
    }

    fn unseen(identity: IdentityId) -> Candidate {
        Candidate { identity, first_seen: None, transfers: Vec::new() }
    }

    #[test]
    fn a_pinned_key_wins_over_an_older_one() {
        let candidates = [seen(A, 1), unseen(B)];
        assert_eq!(choose_identity(Some(&Pin::Key(B)), &candidates), Choice::Use(B));
        assert_eq!(choose_identity(Some(&Pin::Fingerprint(B.fingerprint())), &candidates), Choice::Use(B));
    }

    #[test]
    fn a_changed_key_is_never_used() {
        let pinned = Pin::Key(C);
        assert_eq!(
            choose_identity(Some(&pinned), &[seen(B, 1), unseen(A), unseen(B)]),
            Choice::KeyChanged { pinned, offered: vec![A, B] }
        );
    }

    #[test]
    fn a_single_candidate_needs_no_date() {
        assert_eq!(choose_identity(None, &[unseen(A)]), Choice::Use(A));
        assert_eq!(choose_identity(None, &[unseen(A), seen(A, 5)]), Choice::Use(A));
    }

    #[test]
    fn of_several_the_one_seen_first_wins() {
        assert_eq!(choose_identity(None, &[seen(A, 7), seen(B, 5), unseen(C)]), Choice::Use(B));
        assert_eq!(choose_identity(None, &[unseen(A), seen(B, 5)]), Choice::Use(B));
    }

    fn step(from: IdentityId, to: IdentityId, at: u64) -> Transfer {
        Transfer { number: RecordKey([9; 32]), from, to, at: UnixMillis(at) }
    }

    #[test]
    fn who_has_handed_the_number_over_is_never_rung_again() {
        let handed = Candidate { transfers: vec![step(A, B, 10)], ..unseen(B) };
        let candidates = [seen(A, 1), handed.clone()];
        assert_eq!(choose_identity(None, &candidates), Choice::Use(B), "although A was seen first");
        let pinned = Pin::Key(A);
        let changed = Choice::KeyChanged { pinned, offered: vec![B] };
        assert_eq!(choose_identity(Some(&pinned), &candidates), changed, "B may be somebody else");
        assert_eq!(choose_identity(Some(&Pin::Key(B)), &candidates), Choice::Use(B));
        let conflict = [seen(A, 1), handed, unseen(C)];
        assert_eq!(choose_identity(None, &conflict), Choice::Conflict(vec![B, C]), "A's date counts no more");
    }

    #[test]
    fn a_number_that_came_back_is_its_owners() {
        let there = Candidate { transfers: vec![step(A, B, 10)], ..seen(B, 1) };
        let back = Candidate { transfers: vec![step(A, B, 10), step(B, A, 20)], ..unseen(A) };
        assert_eq!(choose_identity(None, &[there.clone(), back.clone()]), Choice::Use(A));
        assert_eq!(choose_identity(None, &[back, there]), Choice::Use(A));
    }

    #[test]
    fn without_a_date_that_decides_nobody_is_called() {
        assert_eq!(choose_identity(None, &[unseen(B), unseen(A)]), Choice::Conflict(vec![A, B]));
        assert_eq!(choose_identity(None, &[seen(A, 5), seen(B, 5)]), Choice::Conflict(vec![A, B]));
        assert_eq!(
            choose_identity(None, &[seen(B, 5), seen(A, 5), seen(B, 5)]),
            Choice::Conflict(vec![A, B])
        );
        assert_eq!(choose_identity(None, &[]), Choice::Nobody);
    }
}
