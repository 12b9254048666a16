//! Over 100,000 generated schedules of two to four terminals that call each other at random over a network that
//! loses, repeats, delays, reorders and refuses packets.
//!
//! What must hold in every one of them, whatever happens:
//!
//! 1. Two ends never disagree for ever: once the network works again, a call stands at both ends of a leg or at
//!    none.
//! 2. No ring without an end: in the end no call is searching, inviting, ringing, alerting or connecting.
//! 3. No audio before the accept: `StartAudio` comes at the callee after its accept was sent, at the caller after
//!    an accept came in; once, and never after `StopMedia`.
//! 4. At most one leg of a fork wins.
//! 5. Every call that an application was told of ends exactly once, with one reason; nothing is told of it
//!    afterwards.
//! 6. Media are stopped exactly once for every time they were prepared.
//! 7. No candidate but relayed ones is shown before `Disclose`.
//! 8. A text is handed out at most once at a terminal; its sender is told one result, and "delivered" only if it is on
//!    the disk of a receiver.
//! 9. What is kept stays within its bounds, one input causes a bounded number of outputs, timers advance.
//! 10. When all calls are over, no timer is left.
//! 11. A terminal says that somebody hung up only if its user did so: failures are told as such.
//!
//! 3 to 9 and 11 are watched with every output by [`World`], the others at the end of a schedule. A schedule is
//! reproduced from its seed, which a failing test prints.

use std::time::Duration;

use super::chance::{Rng, Weather};
use super::world::{Act, Happening, World};
use crate::call::{CallConfig, CallState};

/// Schedules of each of the eight tests below: more than 100,000 together.
const SCHEDULES: u64 = 13_000;
/// Users act, and the network is bad, until then.
const CHAOS: Duration = Duration::from_secs(40);
/// By then every time-out that was running at the end of the chaos has passed.
const QUIET: Duration = Duration::from_secs(40 + 150);

fn weather(rng: &mut Rng) -> Weather {
    let bad = |rng: &mut Rng, most: u64| if rng.chance(500) { rng.below(most) } else { 0 };
    let near = 5 + rng.below(100);
    let spread = bad(rng, 1500);
    Weather {
        loss: bad(rng, 450),
        duplicate: bad(rng, 300),
        delay: (near, near + spread),
        refuse: bad(rng, 60),
        no_media: bad(rng, 200),
        breaks: bad(rng, 200),
        no_device: bad(rng, 60),
        no_disk: bad(rng, 300),
    }
}

fn terminals(rng: &mut Rng) -> &'static [(usize, usize)] {
    match rng.below(4) {
        0 => &[(0, 0), (1, 0)],
        1 => &[(0, 0), (1, 0), (1, 1)],
        2 => &[(0, 0), (0, 1), (1, 0), (1, 1)],
        _ => &[(0, 0), (1, 0), (2, 0)],
    }
}

fn generate(seed: u64) -> World {
    let mut rng = Rng::new(seed);
    let config = CallConfig {
        ring_timeout: Duration::from_secs(10 + rng.below(36)),
        max_calls: 1 + usize::try_from(rng.below(2)).unwrap(),
        call_waiting: rng.chance(800),
        ..CallConfig::default()
    };
    let mut world = World::new(rng.next(), terminals(&mut rng), &config);
    world.weather = weather(&mut rng);
    world.users = true;
    world.contacts = rng.chance(600);
    let count = world.terminals.len();
    for terminal in &mut world.terminals {
        let skew = if rng.chance(30) { 400_000 } else { 20_000 };
        terminal.skew = i64::try_from(rng.below(skew)).unwrap() - i64::try_from(skew / 2).unwrap();
        terminal.dead = rng.chance(30);
    }
    let glare = rng.chance(400);
    for _ in 0..=rng.below(3) {
        let at = usize::try_from(rng.below(count as u64)).unwrap();
        let mine = world.terminals[at].account;
        let to = usize::try_from(rng.below(count as u64)).unwrap();
        let account = world.terminals[to].account;
        if account == mine && rng.chance(900) {
            continue;
        }
        let time = rng.ms(0, 20_000);
        world.schedule(time, Happening::User { at, act: Act::Dial { account } });
        if glare {
            let time = time + rng.ms(0, 600);
            world.schedule(time, Happening::User { at: to, act: Act::Dial { account: mine } });
        }
        if rng.chance(200) {
            let time = rng.ms(0, 20_000);
            world.schedule(time, Happening::User { at, act: Act::TextTo { account } });
        }
    }
    world
}

fn run(seed: u64, trace: bool) -> World {
    let mut world = generate(seed);
    world.trace = trace;
    world.run_until(CHAOS);
    world.weather = Weather::FINE;
    world.users = false;
    world.run_until(QUIET);
    world
}

/// Invariants 1, 2 and 8.
fn check_agreement(world: &World) {
    for (at, terminal) in world.terminals.iter().enumerate() {
        for info in terminal.calls.list() {
            assert_eq!(info.state, CallState::Active, "terminal {at} never comes to an end");
            let leg = info.leg.unwrap();
            let me = terminal.party.local.terminal;
            let other = world.terminals.iter().find(|other| other.party.local.terminal == leg.terminal);
            let stands = other.unwrap().calls.list().any(|there| {
                there.state == CallState::Active
                    && there.leg.is_some_and(|mirror| mirror.call == leg.call && mirror.terminal == me)
            });
            assert!(stands, "a call stands at terminal {at} only");
        }
        assert_eq!(terminal.seen.live.len(), terminal.calls.list().count(), "calls that nobody ends");
        let results: Vec<_> = terminal.seen.text_results.keys().collect();
        assert_eq!(results, terminal.seen.texts_sent.iter().collect::<Vec<_>>(), "texts without a result");
    }
}

/// Invariants 5, 6 and 10.
fn check_end(world: &mut World) {
    for at in 0..world.terminals.len() {
        let now = world.now(at);
        world.terminals[at].calls.hang_up_all(now);
        world.drain(at);
    }
    world.run_for(Duration::from_secs(60));
    for terminal in &world.terminals {
        assert!(terminal.calls.is_idle() && terminal.calls.poll_timeout().is_none(), "timers are left");
        assert!(terminal.seen.live.is_empty(), "a call never ended");
        assert!(terminal.media_all_stopped(), "media were not stopped");
    }
}

fn check(seed: u64, trace: bool) {
    let mut world = run(seed, trace);
    check_agreement(&world);
    check_end(&mut world);
}

fn schedules(test: u64) {
    for seed in test * SCHEDULES..(test + 1) * SCHEDULES {
        if let Err(panic) = std::panic::catch_unwind(|| check(seed, false)) {
            println!("schedule of seed {seed} failed; once more, with everything that happens:");
            // Whatever becomes of the second run, the first one has failed.
            let again = std::panic::catch_unwind(|| check(seed, true));
            println!(
                "schedule of seed {seed} {} again",
                if again.is_err() { "failed" } else { "did not fail" }
            );
            std::panic::resume_unwind(panic);
        }
    }
}

macro_rules! schedule_tests {
    ($($name:ident = $test:literal),*) => {
        $(
            #[test]
            fn $name() {
                schedules($test);
            }
        )*
    };
}

schedule_tests!(
    schedules_0 = 0,
    schedules_1 = 1,
    schedules_2 = 2,
    schedules_3 = 3,
    schedules_4 = 4,
    schedules_5 = 5,
    schedules_6 = 6,
    schedules_7 = 7
);

/// The schedules would prove nothing if no call ever got through, or none ever met trouble.
#[test]
fn schedules_are_worth_their_name() {
    use std::collections::BTreeMap;
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut texts: BTreeMap<String, usize> = BTreeMap::new();
    let mut connected = 0;
    for seed in 0..2000 {
        let world = run(seed, false);
        for terminal in &world.terminals {
            connected += terminal.seen.connected.len();
            for result in terminal.seen.text_results.values() {
                *texts.entry(format!("{result:?}")).or_default() += 1;
            }
            for (reason, by) in terminal.seen.ended.values() {
                *reasons.entry(format!("{reason:?} by {by:?}")).or_default() += 1;
            }
        }
    }
    println!("{connected} ends connected; {reasons:#?}; texts {texts:#?}");
    assert!(connected > 500);
    for result in ["Ok(())", "Err(NotKept)", "Err(TimedOut)", "Err(CallEnded)"] {
        assert!(texts.contains_key(result), "no text ended with {result}");
    }
    for reason in [
        "HungUp by Local",
        "HungUp by Remote",
        "Declined by Remote",
        "Busy by Remote",
        "NoAnswer by Network",
        "Unreachable by Network",
        "WrongNumber by Network",
        "AnsweredElsewhere by Elsewhere",
        "Declined by Elsewhere",
        "Cancelled by Remote",
        "Merged by Local",
        "Transferred by Local",
        "Transferred by Remote",
        "Failed(NoMediaPath) by Network",
        "Failed(MediaLost) by Network",
        "Failed(MediaLost) by Remote",
        "Failed(Clock) by Remote",
        "Failed(Lookup) by Network",
    ] {
        assert!(reasons.contains_key(reason), "no call ended with {reason}");
    }
}
