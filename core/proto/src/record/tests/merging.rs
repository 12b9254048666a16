use super::sample::*;
use crate::proof::tests::{ALICE, BOB};
use crate::record::*;
use crate::wire::UnixMillis;

fn ids(set: &CheckedSet) -> Vec<crate::identity::TerminalId> {
    set.terminals.iter().map(|terminal| terminal.terminal()).collect()
}

#[test]
fn the_first_set_is_taken_as_it_is() {
    let offered = checked(&set(vec![signed(1)]));
    assert_eq!(merge(None, &offered, NOW), Ok(Merged { set: offered.clone(), changed: true }));
    assert_eq!(merge(Some(&offered), &offered, NOW), Ok(Merged { set: offered, changed: false }));
}

#[test]
fn terminals_join() {
    let held = checked(&set(vec![signed(1)]));
    let merged = merge(Some(&held), &terminals_only(vec![signed(2)]), NOW).unwrap();
    assert!(merged.changed);
    assert_eq!(merged.set.terminals.len(), 2);
    assert_eq!(merged.set.account, held.account);
}

#[test]
fn a_terminal_needs_an_account() {
    let offered = terminals_only(vec![signed(1)]);
    assert_eq!(merge(None, &offered, NOW), Err(RecordError::NoAccount));
    let later = account().expires.plus(MINUTE);
    let held = checked(&set(Vec::new()));
    let fresh = terminal_at(1, later).sign(&terminal_key(1));
    let fresh = RecordSet { account: None, terminals: vec![fresh] };
    let fresh = check(&key(), &fresh.encode(), later).unwrap();
    assert_eq!(merge(Some(&held), &fresh, later), Err(RecordError::NoAccount), "the held account has lapsed");
}

#[test]
fn the_incumbent_stays_until_it_lapses() {
    let held = checked(&set(vec![signed(1)]));
    let thief = AccountRecord { seq: NOW, expires: NOW.plus(DAY * 399), ..account_of(&BOB) };
    let thief = with_account(&thief, &BOB);
    assert_eq!(merge(Some(&held), &thief, NOW), Err(RecordError::Incumbent));
    let lapsed = UnixMillis(account().expires.0 + 1);
    let merged = merge(Some(&held), &thief, lapsed).unwrap();
    assert_eq!(merged.set, thief, "with none of the former owner's terminals");
}

#[test]
fn sets_of_two_keys_do_not_mix() {
    let mut held = checked(&set(Vec::new()));
    held.key = crate::number::RecordKey([1; 32]);
    assert_eq!(merge(Some(&held), &checked(&set(Vec::new())), NOW), Err(RecordError::WrongKey));
}

#[test]
fn the_newer_record_stays() {
    let newer = AccountRecord { seq: NOW, ..account() };
    let (old, new) = (with_account(&account(), &ALICE), with_account(&newer, &ALICE));
    assert_eq!(merge(Some(&old), &new, NOW).map(|merged| merged.set), Ok(new.clone()));
    assert_eq!(merge(Some(&new), &old, NOW), Err(RecordError::Stale));
    let (old, new) = (ago(MINUTE * 2), ago(MINUTE));
    let record = |seq| checked(&set(vec![terminal_at(1, seq).sign(&terminal_key(1))]));
    assert_eq!(merge(Some(&record(old)), &record(new), NOW).map(|merged| merged.set), Ok(record(new)));
    assert_eq!(merge(Some(&record(new)), &record(old), NOW), Err(RecordError::Stale));
}

#[test]
fn an_old_record_does_no_harm_beside_a_new_one() {
    let held = checked(&set(vec![signed(1)]));
    let offered = AccountRecord { seq: ago(DAY * 2), ..account() };
    let offered = RecordSet { account: Some(offered.sign(&ALICE.key())), terminals: vec![signed(2)] };
    let merged = merge(Some(&held), &checked(&offered), NOW).unwrap();
    assert_eq!(merged.set.account, held.account);
    assert_eq!(merged.set.terminals.len(), 2);
}

#[test]
fn two_records_of_one_millisecond_are_decided_alike_everywhere() {
    let one = with_account(&account(), &ALICE);
    let other = with_account(&AccountRecord { mailboxes: Vec::new(), ..account() }, &ALICE);
    let merged = |held: &CheckedSet, offered: &CheckedSet| match merge(Some(held), offered, NOW) {
        Ok(merged) => merged.set,
        Err(error) => {
            assert_eq!(error, RecordError::Stale);
            held.clone()
        }
    };
    assert_eq!(merged(&one, &other), merged(&other, &one));
}

#[test]
fn revoking_removes_a_terminal_for_good() {
    let held = checked(&set(vec![signed(1), signed(2)]));
    let revoking = AccountRecord { seq: NOW, revoked: vec![terminal_id(1)], ..account() };
    let merged = merge(Some(&held), &with_account(&revoking, &ALICE), NOW).unwrap();
    assert_eq!(ids(&merged.set), [terminal_id(2)]);
    let again = terminal_at(1, NOW).sign(&terminal_key(1));
    let alone = terminals_only(vec![again.clone()]);
    assert_eq!(merge(Some(&merged.set), &alone, NOW), Err(RecordError::Revoked));
    let with_old_account = checked(&set(vec![again]));
    assert_eq!(merge(Some(&merged.set), &with_old_account, NOW), Err(RecordError::Revoked));
}

#[test]
fn anothers_terminal_is_refused() {
    let held = checked(&set(Vec::new()));
    let others = TerminalRecord { cert: cert(&BOB.key(), 1), ..terminal(1) };
    let others = terminals_only(vec![others.sign(&terminal_key(1))]);
    assert_eq!(merge(Some(&held), &others, NOW), Err(RecordError::OtherIdentity));
}

#[test]
fn of_too_many_terminals_the_newest_stay() {
    let minutes_ago = |i: u8| terminal_at(i, ago(MINUTE * u32::from(i))).sign(&terminal_key(i));
    let held = checked(&set((2..=9).map(minutes_ago).collect()));
    assert_eq!(held.terminals.len(), MAX_TERMINALS);
    let merged = merge(Some(&held), &terminals_only(vec![minutes_ago(1)]), NOW).unwrap();
    assert_eq!(ids(&merged.set), (1..=8).map(terminal_id).collect::<Vec<_>>());
    let oldest = terminals_only(vec![minutes_ago(10)]);
    assert_eq!(merge(Some(&merged.set), &oldest, NOW), Err(RecordError::TooManyTerminals));
}

#[test]
fn bulky_terminals_cannot_make_the_set_too_large() {
    let full = |i: u8| bulky(i, ago(MINUTE * u32::from(i))).sign(&terminal_key(i));
    let mut held = checked(&set(Vec::new()));
    for i in 1..=5 {
        match merge(Some(&held), &terminals_only(vec![full(i)]), NOW) {
            Ok(merged) => held = merged.set,
            Err(error) => assert_eq!(error, RecordError::TooManyTerminals),
        }
        assert!(held.to_set().encode().len() <= MAX_SET_BYTES);
    }
    assert_eq!(ids(&held), [terminal_id(1), terminal_id(2), terminal_id(3)]);
    let short = terminal_at(6, ago(MINUTE * 90)).sign(&terminal_key(6));
    let merged = merge(Some(&held), &terminals_only(vec![short]), NOW).unwrap();
    assert_eq!(merged.set.terminals.len(), 4, "a short one still fits");
}

#[test]
fn what_has_expired_goes() {
    let soon = terminal_at(1, ago(TERMINAL_LIFETIME)).sign(&terminal_key(1));
    let held = checked(&set(vec![soon, signed(2)]));
    let later = UnixMillis(NOW.0 + 1);
    let merged = merge(Some(&held), &with_account(&account(), &ALICE), later).unwrap();
    assert!(merged.changed);
    assert_eq!(ids(&merged.set), [terminal_id(2)]);
    assert_eq!(held.pruned(later), Some(merged.set));
    assert_eq!(held.pruned(account().expires.plus(MINUTE)), None);
    let alone = terminals_only(vec![signed(2)]);
    let much_later = NOW.plus(TERMINAL_LIFETIME);
    assert_eq!(alone.pruned(much_later), None);
    assert_eq!(merge(Some(&held), &alone, much_later), Err(RecordError::Expired));
}
