#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "the virtual clock has to begin somewhere")]

use proptest::prelude::*;

use super::*;
use crate::number::PlainNumber;
use crate::wire::UnixMillis;

const AT: UnixMillis = UnixMillis(1_800_000_000_000);
const STRANGER: Standing = Standing::Stranger { paid: None };
const CONTACT: Standing = Standing::Contact { exempt: false };
const EXEMPT: Standing = Standing::Contact { exempt: true };
/// Quiet is wanted at these hours.
const NIGHT: Window = Window { days: Weekdays::ALL, from: 22 * 60, to: 7 * 60 };

fn who(n: u64) -> IdentityId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    IdentityId::from_bytes(bytes)
}

fn number(n: u64) -> Number {
    Number::Plain(PlainNumber::from_index(n))
}

/// Wednesday, at some minute.
fn at(minute: u16) -> LocalTime {
    LocalTime { weekday: 2, minute, at: AT }
}

const NOON: u16 = 12 * 60;

/// A screen, and the time.
struct World {
    screen: Screen,
    now: Instant,
}

impl World {
    fn new(policy: Policy) -> Self {
        Self { screen: Screen::new(policy), now: Instant::now() }
    }

    fn call(&mut self, n: u64, standing: Standing, minute: u16) -> (Decision, Reason) {
        let (identity, number) = (who(n), number(n));
        let incoming = Incoming { identity: &identity, number: &number, standing };
        let verdict = self.screen.call(self.now, at(minute), &incoming);
        (verdict.decision, verdict.reason)
    }

    fn letter(&self, n: u64, standing: Standing, minute: u16) -> (LetterDecision, Reason) {
        let (identity, number) = (who(n), number(n));
        let incoming = Incoming { identity: &identity, number: &number, standing };
        let verdict = self.screen.letter(at(minute), &incoming);
        (verdict.decision, verdict.reason)
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

fn free() -> Policy {
    Policy { strangers_work: false, ..Policy::default() }
}

fn night() -> Policy {
    Policy { quiet: Quiet { windows: vec![NIGHT], ..Quiet::default() }, ..free() }
}

#[test]
fn q8_contacts_ring_and_strangers_pay_first() {
    let mut world = World::new(Policy::default());
    assert_eq!(world.call(1, CONTACT, NOON), (Decision::Ring, Reason::Welcome));
    // The first few ring for nothing.
    for n in 0..u64::from(CALL_TARIFF.free) {
        assert_eq!(world.call(10 + n, STRANGER, NOON), (Decision::Ring, Reason::Welcome));
    }
    let price = CALL_TARIFF.base + 1;
    assert_eq!(world.call(2, STRANGER, NOON), (Decision::Work { bits: price }, Reason::Unpaid));
    let paid = Standing::Stranger { paid: Some(price) };
    assert_eq!(world.call(2, paid, NOON), (Decision::Ring, Reason::Welcome));
    let cheap = Standing::Stranger { paid: Some(1) };
    assert_eq!(world.call(2, cheap, NOON).1, Reason::Unpaid);
    assert_eq!(World::new(free()).call(2, STRANGER, NOON), (Decision::Ring, Reason::Welcome));
}

#[test]
fn q8_the_price_rises_with_strangers_calls_and_falls_again() {
    let mut world = World::new(Policy::default());
    for n in 0..10_000 {
        world.call(n, STRANGER, NOON);
    }
    assert_eq!(world.screen.price(world.now), CALL_TARIFF.max);
    let paid = Standing::Stranger { paid: Some(CALL_TARIFF.base) };
    assert_ne!(world.call(1, paid, NOON).0, Decision::Ring, "what was enough before is not now");
    let paid = Standing::Stranger { paid: Some(CALL_TARIFF.max) };
    assert_eq!(world.call(1, paid, NOON).0, Decision::Ring);
    world.pass(3_600);
    assert_eq!(world.screen.price(world.now), CALL_TARIFF.base);
    assert_eq!(world.call(1, STRANGER, NOON).0, Decision::Ring);
}

#[test]
fn q8_who_is_blocked_does_not_ring_whatever_else_holds() {
    let mut policy = free();
    assert_eq!(policy.block(Blocked::Identity(who(1))), Ok(true));
    assert_eq!(policy.block(Blocked::Number(number(2))), Ok(true));
    assert_eq!(policy.block(Blocked::Number(number(2))), Ok(false));
    let mut world = World::new(policy.clone());
    for standing in [STRANGER, CONTACT, EXEMPT, Standing::Stranger { paid: Some(16) }] {
        for n in [1, 2] {
            assert_eq!(world.call(n, standing, NOON), (Decision::Refuse, Reason::Blocked));
            assert_eq!(world.letter(n, standing, NOON), (LetterDecision::Discard, Reason::Blocked));
        }
    }
    assert_eq!(world.call(3, STRANGER, NOON).0, Decision::Ring);
    assert!(policy.unblock(&Blocked::Identity(who(1))) && !policy.unblock(&Blocked::Identity(who(1))));
    world.screen.set_policy(policy);
    assert_eq!(world.call(1, CONTACT, NOON).0, Decision::Ring);
    assert_eq!(world.screen.policy().blocked(), [Blocked::Number(number(2))]);
}

#[test]
fn q8_contacts_only_lets_strangers_leave_a_message_or_nothing() {
    let mut policy = Policy { contacts_only: true, ..free() };
    let mut world = World::new(policy.clone());
    assert_eq!(world.call(1, CONTACT, NOON).0, Decision::Ring);
    assert_eq!(world.call(2, STRANGER, NOON), (Decision::Voicemail, Reason::ContactsOnly));
    assert_eq!(world.letter(2, STRANGER, NOON), (LetterDecision::Keep, Reason::ContactsOnly));
    assert_eq!(world.letter(1, CONTACT, NOON), (LetterDecision::Tell, Reason::Welcome));
    policy.strangers_leave_messages = false;
    world.screen.set_policy(policy);
    assert_eq!(world.call(2, STRANGER, NOON), (Decision::Refuse, Reason::ContactsOnly));
    assert_eq!(world.letter(2, STRANGER, NOON), (LetterDecision::Discard, Reason::ContactsOnly));
}

#[test]
fn q8_at_quiet_hours_only_who_is_exempt_rings() {
    let mut world = World::new(night());
    assert_eq!(world.call(1, CONTACT, 23 * 60), (Decision::Voicemail, Reason::QuietHours));
    assert_eq!(world.call(2, STRANGER, 23 * 60), (Decision::Voicemail, Reason::QuietHours));
    assert_eq!(world.call(3, EXEMPT, 23 * 60), (Decision::Ring, Reason::Exempt));
    assert_eq!(world.letter(1, CONTACT, 23 * 60), (LetterDecision::Keep, Reason::QuietHours));
    assert_eq!(world.letter(3, EXEMPT, 23 * 60), (LetterDecision::Tell, Reason::Exempt));
    assert_eq!(world.call(1, CONTACT, 7 * 60), (Decision::Ring, Reason::Welcome));
    let mut through = night();
    through.quiet.through = Through::Contacts;
    world.screen.set_policy(through);
    assert_eq!(world.call(1, CONTACT, 23 * 60).0, Decision::Ring);
    assert_eq!(world.call(2, STRANGER, 23 * 60).0, Decision::Voicemail);
}

#[test]
fn do_not_disturb_holds_until_it_is_switched_off_or_over() {
    let mut policy = free();
    policy.quiet.on = true;
    let mut world = World::new(policy.clone());
    assert_eq!(world.call(1, CONTACT, NOON), (Decision::Voicemail, Reason::DoNotDisturb));
    policy.quiet.on = false;
    policy.quiet.until = Some(UnixMillis(AT.0 + 1));
    world.screen.set_policy(policy.clone());
    assert_eq!(world.call(2, CONTACT, NOON), (Decision::Voicemail, Reason::DoNotDisturb));
    policy.quiet.until = Some(AT);
    world.screen.set_policy(policy);
    assert_eq!(world.call(2, CONTACT, NOON), (Decision::Ring, Reason::Welcome));
}

#[test]
fn a_contact_who_calls_again_at_once_means_it() {
    let mut policy = night();
    policy.quiet.again = true;
    let mut world = World::new(policy);
    assert_eq!(world.call(1, CONTACT, 0).0, Decision::Voicemail);
    world.pass(AGAIN.as_secs());
    assert_eq!(world.call(1, CONTACT, 0), (Decision::Ring, Reason::CalledAgain));
    world.pass(AGAIN.as_secs() + 1);
    assert_eq!(world.call(1, CONTACT, 0).0, Decision::Voicemail, "too long ago");
    assert_eq!(world.call(2, STRANGER, 0).0, Decision::Voicemail);
    assert_eq!(world.call(2, STRANGER, 0).0, Decision::Voicemail, "strangers may call as often as they like");
    let mut never = World::new(night());
    assert_eq!(never.call(1, CONTACT, 0).0, Decision::Voicemail);
    assert_eq!(never.call(1, CONTACT, 0).0, Decision::Voicemail);
}

#[test]
fn times_of_day_go_over_midnight_and_over_the_week() {
    let holds = |window: Window, weekday, minute| window.holds(LocalTime { weekday, minute, at: AT });
    let sunday_night = Window { days: Weekdays(1 << 6), from: 22 * 60, to: 7 * 60 };
    assert!(
        holds(sunday_night, 6, 22 * 60) && holds(sunday_night, 0, 0) && holds(sunday_night, 0, 7 * 60 - 1)
    );
    assert!(
        !holds(sunday_night, 6, 22 * 60 - 1) && !holds(sunday_night, 0, 7 * 60) && !holds(sunday_night, 6, 0)
    );
    let lunch = Window { days: Weekdays(0b1_1111), from: 12 * 60, to: 13 * 60 };
    assert!(holds(lunch, 0, 12 * 60) && holds(lunch, 4, 13 * 60 - 1));
    assert!(!holds(lunch, 5, 12 * 60) && !holds(lunch, 0, 13 * 60));
    let all_day = Window { days: Weekdays(1), from: 0, to: 0 };
    assert!(holds(all_day, 0, 0) && holds(all_day, 0, 1439) && !holds(all_day, 1, 0));
    assert!(!Weekdays::ALL.has(7) && Weekdays::ALL.has(6));
}

#[test]
fn q8_what_did_not_ring_is_kept_with_its_reason() {
    let mut world = World::new(night());
    for n in [1, 2, 1, 1] {
        world.call(n, CONTACT, 0);
    }
    world.call(9, STRANGER, 0);
    world.call(3, CONTACT, NOON);
    let seen = world.screen.log().entries().map(|e| (e.identity, e.contact, e.reason.code(), e.count));
    let expected = [
        (Some(who(1)), true, "quiet_hours", 3),
        (Some(who(2)), true, "quiet_hours", 1),
        (Some(who(9)), false, "quiet_hours", 1),
    ];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
    assert_eq!(World::new(free()).screen.log().entries().count(), 0);
    assert_eq!(serde_json::to_string(&Reason::QuietHours).unwrap(), "\"quiet_hours\"");
}

/// Ten seconds of 10,000 calls a second, each of an identity that nobody has ever seen.
#[test]
fn q8_a_flood_of_strangers_leaves_memory_bounded_and_contacts_ringing() {
    let mut world = World::new(Policy::default());
    let mut answered = 0_u32;
    for n in 0..100_000_u64 {
        if n % 10_000 == 0 {
            world.pass(1);
        }
        if world.call(1_000 + n, STRANGER, NOON).0 != Decision::Ignore {
            answered += 1;
        }
        if n % 100 == 0 {
            assert_eq!(world.call(1, CONTACT, NOON), (Decision::Ring, Reason::Welcome));
            assert_eq!(world.call(2, EXEMPT, NOON), (Decision::Ring, Reason::Exempt));
        }
    }
    assert_eq!(answered, 10 * ANSWERS_PER_SECOND);
    assert!(world.screen.log.len() <= 2 * MAX_LOGGED && world.screen.callers.is_empty());
    let flood = world.screen.log().entries().find(|entry| entry.reason == Reason::Flood).unwrap();
    assert_eq!((flood.identity, flood.count), (None, u64::from(100_000 - answered)));
    // One who pays the price of the hour gets through.
    let paid = Standing::Stranger { paid: Some(CALL_TARIFF.max) };
    assert_eq!(world.call(5, paid, NOON).0, Decision::Ring);
}

#[test]
fn callers_that_are_remembered_are_few() {
    let mut world = World::new(night());
    for n in 0..1_000 {
        world.call(n, CONTACT, 0);
    }
    assert_eq!(world.screen.callers.len(), MAX_CALLERS);
    assert_eq!(world.screen.log().len(), MAX_LOGGED);
}

#[test]
fn policies_are_bounded_and_survive_encoding() {
    let mut policy = night();
    for n in 0..MAX_BLOCKED as u64 {
        policy.block(Blocked::Identity(who(n))).unwrap();
    }
    assert_eq!(policy.block(Blocked::Identity(who(u64::MAX))), Err(PolicyError::TooMany));
    let bytes = policy.to_bytes().unwrap();
    assert_eq!(Policy::from_bytes(&bytes), Ok(policy.clone()));
    let long = vec![0; MAX_POLICY_BYTES + 1];
    assert_eq!(Policy::from_bytes(&long), Err(PolicyError::TooLarge(long.len())));
    assert_eq!(Policy::from_bytes(&bytes[1..]), Err(PolicyError::Malformed));
    policy.quiet.windows = vec![NIGHT; MAX_WINDOWS + 1];
    assert_eq!(policy.to_bytes(), Err(PolicyError::TooMany));
    for window in [
        Window { from: 1440, ..NIGHT },
        Window { to: 1440, ..NIGHT },
        Window { days: Weekdays(0x80), ..NIGHT },
    ] {
        policy.quiet.windows = vec![window];
        assert_eq!(policy.to_bytes(), Err(PolicyError::Time));
        assert_eq!(Policy::from_bytes(&crate::wire::encode(&policy)), Err(PolicyError::Time));
    }
    // Long numbers reach the limit in bytes first.
    let mut long = Policy::default();
    let label = "d".repeat(63);
    let domain = [&label[..], &label, &label, &label[..61]].join(".");
    let refused = (0..MAX_BLOCKED).find_map(|n| {
        let number = format!("caller{n}@{domain}").parse().unwrap();
        long.block(Blocked::Number(number)).err()
    });
    assert!(matches!(refused, Some(PolicyError::TooLarge(_))));
    assert!(long.to_bytes().is_ok());
}

#[test]
fn debug_shows_no_number() {
    let mut policy = free();
    policy.block(Blocked::Number("482109375567".parse().unwrap())).unwrap();
    let shown = format!("{policy:?}");
    assert!(shown.contains("Number(..)") && !shown.contains("4821"), "{shown}");
}

#[test]
fn two_terminals_that_both_changed_the_policy_lose_nothing() {
    let mut base = free();
    base.block(Blocked::Identity(who(1))).unwrap();
    base.block(Blocked::Identity(who(2))).unwrap();
    let (mut here, mut there) = (base.clone(), base.clone());
    here.block(Blocked::Identity(who(3))).unwrap();
    here.unblock(&Blocked::Identity(who(1)));
    here.contacts_only = true;
    there.block(Blocked::Identity(who(4))).unwrap();
    there.quiet.on = true;
    let merged = here.merged(&there, &base).unwrap();
    assert_eq!(merged, there.merged(&here, &base).unwrap());
    assert_eq!(merged.blocked(), [2, 3, 4].map(|n| Blocked::Identity(who(n))));
    assert!(merged.contacts_only && merged.quiet.on && !merged.strangers_work);
}

#[test]
fn q8_a_challenge_pays_for_one_call_for_as_long_as_it_is_repeated() {
    let mut world = World::new(Policy::default());
    let key = crate::puzzle::PuzzleKey::from_seed([1; 32]);
    let subject = crate::puzzle::Subject::call(&who(1), &who(2));
    let challenge = |n| key.challenge(&subject, 6, UnixMillis(AT.0 + n));
    let call = |n| CallId::from_bytes([n; 16]);
    assert!(world.screen.is_unspent(world.now, &challenge(1), call(1)));
    world.screen.spend(world.now, &challenge(1), call(1));
    assert!(world.screen.is_unspent(world.now, &challenge(1), call(1)), "its repetitions");
    assert!(!world.screen.is_unspent(world.now, &challenge(1), call(2)));
    assert!(world.screen.is_unspent(world.now, &challenge(2), call(2)));
    world.pass(FRESH.as_secs());
    assert!(!world.screen.is_unspent(world.now, &challenge(1), call(1)), "nobody repeats it so long");
    world.screen.spend(world.now, &challenge(1), call(1));
    assert!(!world.screen.is_unspent(world.now, &challenge(1), call(1)), "and it does not begin anew");
    // As long as it would be taken otherwise; and there is a bound.
    world.pass(CHALLENGE_LIFETIME.as_secs());
    assert!(!world.screen.is_unspent(world.now, &challenge(1), call(1)));
    world.pass(MAX_CLOCK_AHEAD.as_secs() + 1);
    for n in 0..MAX_SPENT as u64 + 100 {
        world.screen.spend(world.now, &challenge(10 + n), call(3));
    }
    assert_eq!((world.screen.spent.len(), world.screen.spent_order.len()), (MAX_SPENT, MAX_SPENT));
}

#[test]
fn q8_what_did_not_ring_is_known_after_a_restart_with_the_numbers_that_were_shown() {
    let mut world = World::new(night());
    for n in [1, 2, 1] {
        world.call(n, CONTACT, 0);
    }
    world.call(9, STRANGER, 0);
    let before: Vec<Entry> = world.screen.log().entries().cloned().collect();
    assert_eq!(before[0].number, Some(number(1)));
    let mut again = World::new(night());
    again.screen.remember(Log::of(before.clone()));
    assert_eq!(again.screen.log().entries().cloned().collect::<Vec<_>>(), before);
    again.call(1, CONTACT, 0);
    assert_eq!(again.screen.log().entries().next().unwrap().count, 3);
    assert!(!format!("{before:?}").contains(&number(1).to_string()));
    let many = (0..1_000).map(|_| before[0].clone());
    assert_eq!(Log::of(many).len(), MAX_LOGGED);
}

#[test]
fn q8_who_may_always_disturb_is_a_list_of_its_own_that_is_merged_without_loss() {
    let mut base = free();
    assert_eq!(base.set_exempt(&number(1), true), Ok(true));
    assert_eq!(base.set_exempt(&number(1), true), Ok(false));
    let (mut here, mut there) = (base.clone(), base.clone());
    here.set_exempt(&number(2), true).unwrap();
    here.set_exempt(&number(1), false).unwrap();
    there.set_exempt(&number(3), true).unwrap();
    let merged = here.merged(&there, &base).unwrap();
    assert_eq!(merged.exempt(), [number(2), number(3)]);
    assert!(merged.is_exempt(&number(3)) && !merged.is_exempt(&number(1)));
    let mut many = free();
    for n in 0..MAX_EXEMPT as u64 {
        many.set_exempt(&number(n), true).unwrap();
    }
    assert_eq!(many.set_exempt(&number(9_999), true), Err(PolicyError::TooMany));
}

#[test]
fn q8_strangers_who_have_something_else_to_say_are_heard_no_more_often_than_callers() {
    let mut world = World::new(free());
    let heard = (0..1_000).filter(|_| world.screen.hears(world.now, at(NOON))).count();
    assert_eq!(heard, ANSWERS_PER_SECOND as usize);
    assert_eq!(world.call(1, STRANGER, NOON).0, Decision::Ignore, "of all together");
    assert_eq!(world.call(1, CONTACT, NOON).0, Decision::Ring);
    world.pass(1);
    assert!(world.screen.hears(world.now, at(NOON)));
    // What was judged and turned out to be forged is not noted.
    let (identity, number) = (who(3), number(3));
    let incoming = Incoming { identity: &identity, number: &number, standing: STRANGER };
    let mut blocked = free();
    blocked.block(Blocked::Identity(identity)).unwrap();
    world.screen.set_policy(blocked);
    let verdict = world.screen.judge(world.now, at(NOON), &incoming);
    assert_eq!(verdict.decision, Decision::Refuse);
    let noted = |world: &World| world.screen.log().entries().filter(|e| e.identity == Some(identity)).count();
    assert_eq!(noted(&world), 0);
    world.screen.note(at(NOON), &incoming, verdict);
    assert_eq!(noted(&world), 1);
}

/// Bytes as version 1 wrote them; the fuzzer begins with the same ones.
#[test]
fn policies_of_version_1_can_be_read() {
    let seeds: [(&[u8], Policy); 2] = [
        (include_bytes!("../../../../fuzz/seeds/screening/default"), Policy::default()),
        (include_bytes!("../../../../fuzz/seeds/screening/night"), sample()),
    ];
    for (bytes, policy) in seeds {
        assert_eq!(policy.to_bytes().unwrap(), bytes);
        assert_eq!(Policy::from_bytes(bytes), Ok(policy));
    }
}

fn sample() -> Policy {
    let mut policy = night();
    policy.set_exempt(&number(7), true).unwrap();
    policy.quiet.until = Some(AT);
    policy.block(Blocked::Identity(who(1))).unwrap();
    policy.block(Blocked::Number("ada@directory.example".parse().unwrap())).unwrap();
    policy
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        Just(EXEMPT),
        Just(CONTACT),
        prop::option::of(0_u8..20).prop_map(|paid| Standing::Stranger { paid }),
    ]
}

fn window() -> impl Strategy<Value = Window> {
    (0_u8..128, 0_u16..1440, 0_u16..1440).prop_map(|(days, from, to)| Window {
        days: Weekdays(days),
        from,
        to,
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let quiet = (
        any::<bool>(),
        prop::option::of(any::<bool>()),
        prop::collection::vec(window(), 0..4),
        any::<[bool; 2]>(),
    )
        .prop_map(|(on, until, windows, [contacts, again])| Quiet {
            on,
            until: until.map(|later| UnixMillis(if later { u64::MAX } else { 0 })),
            windows,
            through: if contacts { Through::Contacts } else { Through::Nobody },
            again,
        });
    (quiet, any::<[bool; 3]>(), prop::collection::btree_set(0_u64..20, 0..5)).prop_map(
        |(quiet, flags, blocked)| {
            let [contacts_only, strangers_work, strangers_leave_messages] = flags;
            let mut policy = Policy {
                quiet,
                contacts_only,
                strangers_work,
                strangers_leave_messages,
                ..Policy::default()
            };
            for n in blocked {
                let who = if n % 2 == 0 { Blocked::Identity(who(n)) } else { Blocked::Number(number(n)) };
                policy.block(who).unwrap();
            }
            policy
        },
    )
}

proptest! {
    /// Whatever the user wants and whatever has come before.
    #[test]
    fn q8_who_is_exempt_always_rings_and_who_is_blocked_never(
        policy in policy(),
        calls in prop::collection::vec((0_u64..20, standing(), 0_u8..7, 0_u16..1440, 0_u64..3), 1..120),
    ) {
        let mut world = World::new(policy.clone());
        for (n, standing, weekday, minute, pause) in calls {
            world.pass(pause);
            let (identity, number) = (who(n), number(n));
            let incoming = Incoming { identity: &identity, number: &number, standing };
            let local = LocalTime { weekday, minute, at: AT };
            let price = world.screen.price(world.now);
            let verdict = world.screen.call(world.now, local, &incoming);
            let letter = world.screen.letter(local, &incoming);
            let rings = verdict.decision == Decision::Ring;
            if policy.blocks(&identity, &number) {
                prop_assert!(!rings && verdict.reason == Reason::Blocked);
                prop_assert_eq!(letter.decision, LetterDecision::Discard);
            } else if standing == EXEMPT {
                prop_assert!(rings && letter.decision == LetterDecision::Tell);
            } else if standing == CONTACT {
                prop_assert!(verdict.decision == Decision::Ring || verdict.decision == Decision::Voicemail);
                prop_assert_ne!(letter.decision, LetterDecision::Discard);
                prop_assert!(!rings || policy.quiet(local, true).is_none() || policy.quiet.again);
            } else if rings {
                prop_assert!(!policy.contacts_only && policy.quiet(local, false).is_none());
                prop_assert!(!policy.strangers_work || standing != STRANGER || price == CALL_TARIFF.base);
            }
            prop_assert!(world.screen.log.len() <= 2 * MAX_LOGGED);
            prop_assert!(world.screen.callers.len() <= MAX_CALLERS);
        }
    }

    #[test]
    fn policies_survive_encoding_and_merging(policy in policy(), other in policy()) {
        let bytes = policy.to_bytes().unwrap();
        prop_assert_eq!(Policy::from_bytes(&bytes), Ok(policy.clone()));
        let base = Policy::default();
        prop_assert_eq!(policy.merged(&base, &base), Ok(policy.clone()), "what one has changed stays");
        let merged = policy.merged(&other, &base).unwrap();
        prop_assert!(policy.blocked().iter().chain(other.blocked()).all(|who| merged.blocked().contains(who)));
        prop_assert!(Policy::from_bytes(&merged.to_bytes().unwrap()).is_ok());
    }

    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(policy) = Policy::from_bytes(&bytes) {
            prop_assert!(policy.to_bytes().is_ok());
        }
    }
}
