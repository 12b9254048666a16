//! Laws that hold for all sets and orders.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::sample::*;
use crate::identity::TerminalId;
use crate::proof::tests::{ALICE, BOB};
use crate::record::*;
use crate::wire::UnixMillis;

/// A recipe for a set: sequences in minutes before now, so that counterexamples can be read.
#[derive(Clone, Debug)]
struct Recipe {
    /// Minutes since Alice's (or Bob's) account record was signed.
    account: Option<u32>,
    by_bob: bool,
    /// Terminal, minutes since its record was signed, and whether that is long.
    terminals: BTreeMap<u8, (u32, bool)>,
}

impl Recipe {
    /// What is revoked only ever grows: the newer an account record is, the more of the last terminals it
    /// revokes.
    fn revoked(account: u32) -> Vec<TerminalId> {
        (account..3).filter_map(|i| u8::try_from(11 - i).ok()).map(terminal_id).collect()
    }

    fn build(&self) -> Option<CheckedSet> {
        let (owner, unsigned) = if self.by_bob { (&BOB, account_of(&BOB)) } else { (&ALICE, account()) };
        let account = self.account.map(|minutes| AccountRecord {
            seq: ago(MINUTE * minutes),
            revoked: Self::revoked(minutes),
            ..unsigned.clone()
        });
        let revoked = account.as_ref().map_or(Vec::new(), |account| account.revoked.clone());
        let mut terminals = Vec::new();
        let mut bytes = 600;
        for (i, (minutes, long)) in &self.terminals {
            let seq = ago(MINUTE * *minutes);
            let record = if *long { bulky(*i, seq) } else { terminal_at(*i, seq) };
            let record = TerminalRecord { cert: cert(&owner.key(), *i), ..record };
            bytes += if *long { MAX_ENVELOPE_BYTES } else { 600 };
            if !revoked.contains(&terminal_id(*i)) && bytes <= MAX_SET_BYTES {
                terminals.push(record.sign(&terminal_key(*i)));
            }
        }
        let set = RecordSet { account: account.map(|account| account.sign(&owner.key())), terminals };
        check_set(&set).ok()
    }
}

fn recipe(terminals: std::ops::Range<u8>, long: bool) -> impl Strategy<Value = Recipe> {
    let entry = (terminals, (0_u32..100, any::<bool>().prop_map(move |random| random && long)));
    let terminals = proptest::collection::btree_map(entry.0, entry.1, 0..=MAX_TERMINALS);
    (proptest::option::weighted(0.7, 0_u32..5), terminals).prop_map(|(account, terminals)| Recipe {
        account,
        by_bob: false,
        terminals,
    })
}

/// Any sets, also of two identities, with many terminals, some of them bulky if `long`.
fn any_sets(long: bool) -> impl Strategy<Value = Vec<CheckedSet>> {
    let recipe = (recipe(1..12, long), proptest::bool::weighted(0.2));
    let recipe = recipe.prop_map(|(recipe, by_bob)| Recipe { by_bob, ..recipe });
    proptest::collection::vec(recipe, 1..6)
        .prop_map(|recipes| recipes.iter().filter_map(Recipe::build).collect())
}

/// Sets of one identity that fit together without any limit being touched; the first one brings the account.
fn small_sets() -> impl Strategy<Value = Vec<CheckedSet>> {
    proptest::collection::vec(recipe(4..12, false), 1..6).prop_map(|mut recipes| {
        recipes.iter_mut().for_each(|recipe| recipe.account = Some(recipe.account.unwrap_or(4)));
        recipes.iter().filter_map(Recipe::build).collect()
    })
}

fn merge_all<'a>(sets: impl IntoIterator<Item = &'a CheckedSet>) -> Option<CheckedSet> {
    sets.into_iter().fold(None, |held, offered| match merge(held.as_ref(), offered, NOW) {
        Ok(merged) => Some(merged.set),
        Err(_) => held,
    })
}

/// The highest sequence of every terminal in the sets.
fn highest<'a>(sets: impl IntoIterator<Item = &'a CheckedSet>) -> BTreeMap<TerminalId, UnixMillis> {
    let mut highest = BTreeMap::new();
    for terminal in sets.into_iter().flat_map(|set| &set.terminals) {
        let seq = highest.entry(terminal.terminal()).or_insert(terminal.seq);
        *seq = terminal.seq.max(*seq);
    }
    highest
}

proptest! {
    #[test]
    fn what_is_merged_is_itself_a_good_set(sets in any_sets(true)) {
        if let Some(merged) = merge_all(&sets) {
            let bytes = merged.to_set().encode();
            prop_assert!(bytes.len() <= MAX_SET_BYTES);
            prop_assert!(merged.terminals.len() <= MAX_TERMINALS);
            prop_assert_eq!(check(&key(), &bytes, NOW), Ok(merged.clone()));
            prop_assert_eq!(merge(Some(&merged), &merged, NOW), Ok(Merged { set: merged, changed: false }));
        }
    }

    #[test]
    fn merging_again_changes_nothing(sets in any_sets(false)) {
        let mut held: Option<CheckedSet> = None;
        for offered in &sets {
            let Ok(merged) = merge(held.as_ref(), offered, NOW) else { continue };
            let set = merged.set;
            let unchanged = Merged { set: set.clone(), changed: false };
            prop_assert_eq!(merge(Some(&set), &set, NOW), Ok(unchanged.clone()));
            match merge(Some(&set), offered, NOW) {
                Ok(again) => prop_assert_eq!(again, unchanged),
                Err(error) => prop_assert!(matches!(
                    error,
                    RecordError::Stale | RecordError::Revoked | RecordError::TooManyTerminals
                )),
            }
            held = Some(set);
        }
    }

    #[test]
    fn the_order_of_arrival_makes_no_difference(
        (sets, shuffled) in small_sets().prop_flat_map(|sets| (Just(sets.clone()), Just(sets).prop_shuffle())),
    ) {
        prop_assert_eq!(merge_all(&sets), merge_all(&shuffled));
    }

    #[test]
    fn of_every_signer_the_newest_record_stays(sets in small_sets()) {
        let Some(merged) = merge_all(&sets) else { return Ok(()) };
        let account = merged.account.clone().unwrap();
        let newest = sets.iter().filter_map(|set| set.account.as_ref()).map(|account| account.seq).max();
        prop_assert_eq!(Some(account.seq), newest);
        let mut expected = highest(&sets);
        expected.retain(|id, _| !account.revoked.contains(id));
        prop_assert_eq!(highest([&merged]), expected);
    }

    #[test]
    fn nobody_else_ever_gets_a_held_number(sets in any_sets(false)) {
        let mut held: Option<CheckedSet> = None;
        for offered in &sets {
            let Ok(merged) = merge(held.as_ref(), offered, NOW) else { continue };
            let owner = |set: &CheckedSet| set.account.as_ref().map(|account| account.identity);
            if let Some(held) = &held {
                prop_assert_eq!(owner(held), owner(&merged.set));
            }
            held = Some(merged.set);
        }
    }

    #[test]
    fn decoding_and_checking_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(check(&key(), &bytes, NOW).is_err());
    }

    #[test]
    fn damage_never_makes_a_new_record(
        flips in proptest::collection::vec((0_usize..4096, 0_u8..8), 1..4),
        recipe in recipe(1..5, false),
    ) {
        let Some(original) = recipe.build() else { return Ok(()) };
        let mut bytes = original.to_set().encode();
        let len = bytes.len();
        for (at, bit) in flips {
            bytes[at % len] ^= 1 << bit;
        }
        if let Ok(found) = check(&key(), &bytes, NOW) {
            prop_assert!(found.account.is_none() || found.account == original.account);
            prop_assert!(found.terminals.iter().all(|terminal| original.terminals.contains(terminal)));
        }
    }

    #[test]
    fn sets_survive_encoding(recipe in recipe(1..9, true)) {
        let Some(original) = recipe.build() else { return Ok(()) };
        let bytes = original.to_set().encode();
        let decoded = RecordSet::decode(&bytes).unwrap();
        prop_assert_eq!(decoded.encode(), bytes);
        prop_assert_eq!(&decoded, &original.to_set());
    }
}
