//! A keeper and a sound system of the test's own, with devices that are plugged in and pulled out. Time is the test's.

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use super::*;

/// Nothing that these tests wait for takes a hundredth of it, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a sound system has, and what was asked of it.
#[derive(Default)]
struct World {
    plugged: BTreeSet<String>,
    asked: Vec<String>,
    closed: Vec<String>,
}

/// One for each test.
static WORLDS: [Mutex<World>; 8] =
    [const { Mutex::new(World { plugged: BTreeSet::new(), asked: Vec::new(), closed: Vec::new() }) }; 8];

fn world(number: usize) -> MutexGuard<'static, World> {
    WORLDS[number].lock().unwrap_or_else(PoisonError::into_inner)
}

/// A device of the world of this number.
#[derive(Debug, PartialEq)]
struct Fake<const N: usize>(String);

impl<const N: usize> Device for Fake<N> {
    fn open(spec: &DeviceSpec) -> Result<Self, AudioError> {
        let name = spec.to_string();
        world(N).asked.push(name.clone());
        if world(N).plugged.contains(&name) { Ok(Fake(name)) } else { Err(AudioError::NoDevice(name)) }
    }

    fn open_early(_spec: &DeviceSpec) -> Option<Self> {
        None
    }

    fn start(&mut self, now: Instant) -> Result<Instant, AudioError> {
        Ok(now)
    }

    fn changes(_spec: &DeviceSpec) -> Option<Changes> {
        (N == SERVER).then(|| Changes::told_by(&CHANGES))
    }

    fn is_gone(spec: &DeviceSpec) -> bool {
        world(N).asked.push(format!("{spec}?"));
        !world(N).plugged.contains(&spec.to_string())
    }
}

/// The world whose sound server moves what plays, and tells of changes.
const SERVER: usize = 6;
static CHANGES: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

impl<const N: usize> Drop for Fake<N> {
    fn drop(&mut self) {
        world(N).closed.push(self.0.clone());
    }
}

fn id(name: &str) -> DeviceSpec {
    DeviceSpec::Id(name.into())
}

fn plug<const N: usize>(names: &[&str]) {
    world(N).plugged = names.iter().map(|name| (*name).to_owned()).collect();
}

fn asked<const N: usize>(name: &str) -> usize {
    world(N).asked.iter().filter(|asked| *asked == name).count()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}

fn keeper<const N: usize>(chosen: &str) -> Keeper<Fake<N>> {
    let (alive, _) = mpsc::channel(1);
    Keeper::new(id(chosen), None, &alive)
}

/// What a keeper tells next while its clock stands still, in a word, and the device that runs from then on.
fn told<const N: usize>(keeper: &mut Keeper<Fake<N>>, now: Instant) -> (&'static str, Option<Fake<N>>) {
    let mut news = None;
    until("something is told", || {
        news = keeper.poll(now);
        news.is_some()
    });
    match news.unwrap() {
        News::Running((device, _), None) => ("running", Some(device)),
        News::Running((device, _), Some(_)) => ("instead", Some(device)),
        News::Changed((device, _)) => ("changed", Some(device)),
        News::Back((device, _)) => ("back", Some(device)),
        News::Moved(_) => ("moved", None),
        News::Missing(_) => ("missing", None),
        News::Refused(_) => ("refused", None),
    }
}

/// The same of what is known to run then.
fn runs<const N: usize>(keeper: &mut Keeper<Fake<N>>, now: Instant, how: &str, name: &str) -> Fake<N> {
    let (told, device) = told(keeper, now);
    let device = device.unwrap_or_else(|| panic!("{told}, and nothing runs"));
    assert_eq!((told, device.0.as_str()), (how, name));
    device
}

#[test]
fn q7_a_device_that_is_pulled_out_is_replaced_at_once_and_used_again_when_it_is_back() {
    plug::<0>(&["default", "headset"]);
    let (mut keeper, start) = (keeper::<0>("headset"), Instant::now());
    keeper.start(start);
    let headset = runs(&mut keeper, start, "running", "headset");
    // The call is a second old: nothing waits for its beginning.
    let lost = start + Duration::from_secs(1);
    plug::<0>(&["default"]);
    let clock = Instant::now();
    keeper.replace(headset, lost);
    let default = runs(&mut keeper, lost, "running", "default");
    println!("replaced {:?} after the loss was known", clock.elapsed());
    assert_eq!(asked::<0>("headset"), 1, "what is gone is not looked for first");

    assert!(keeper.poll(lost + LOOK_AGAIN - Duration::from_millis(1)).is_none());
    until("it is looked for", || {
        assert!(keeper.poll(lost + LOOK_AGAIN).is_none());
        asked::<0>("headset") == 2 && keeper.beside.is_none()
    });
    plug::<0>(&["default", "headset"]);
    let back = runs(&mut keeper, lost + LOOK_AGAIN * 2, "back", "headset");
    assert!(!world(0).closed.contains(&"default".to_owned()), "that one goes on until it is given back");
    keeper.let_go(default);
    until("then it is closed", || world(0).closed.contains(&"default".to_owned()));
    assert!(keeper.poll(lost + LOOK_AGAIN * 9).is_none());
    keeper.close(back);
    until("in the end all are closed", || world(0).closed.len() == 3);
    assert_eq!(asked::<0>("headset"), 3, "while it runs nobody looks for it");
}

#[test]
fn p10_another_device_is_opened_beside_the_one_that_runs() {
    plug::<1>(&["default", "a", "b"]);
    let (mut keeper, now) = (keeper::<1>("a"), Instant::now());
    keeper.start(now);
    let a = runs(&mut keeper, now, "running", "a");
    keeper.choose(id("nonsense"), now);
    assert_eq!(told(&mut keeper, now).0, "refused");
    assert_eq!((keeper.chosen(), world(1).closed.len()), (&id("a"), 0), "it goes on as before");
    keeper.choose(id("b"), now);
    let b = runs(&mut keeper, now, "changed", "b");
    assert_eq!(keeper.chosen(), &id("b"));
    keeper.let_go(a);
    until("the one before is closed", || world(1).closed == ["a"]);
    keeper.choose(id("b"), now);
    assert!(keeper.poll(now + LOOK_AGAIN).is_none() && asked::<1>("b") == 1, "it runs already");
    keeper.replace(b, now + RETRY);
    runs(&mut keeper, now + RETRY, "running", "default");
}

#[test]
fn a_device_that_is_not_there_at_the_beginning_is_replaced_and_told_of() {
    plug::<2>(&["default"]);
    let (mut keeper, now) = (keeper::<2>("headset"), Instant::now());
    keeper.start(now);
    let default = runs(&mut keeper, now, "instead", "default");
    plug::<2>(&["default", "headset"]);
    runs(&mut keeper, now + LOOK_AGAIN, "back", "headset");
    keeper.let_go(default);
}

#[test]
fn without_any_device_it_is_told_once_and_tried_until_there_is_one() {
    plug::<3>(&[]);
    let (mut keeper, now) = (keeper::<3>("headset"), Instant::now());
    keeper.start(now);
    assert_eq!(told(&mut keeper, now).0, "missing");
    let mut later = now;
    until("others are tried", || {
        later += RETRY;
        assert!(keeper.poll(later).is_none(), "nobody is told again");
        asked::<3>("default") > 3
    });
    // What was pulled out last may be all that there is.
    plug::<3>(&["headset"]);
    until("it is found", || {
        later += RETRY;
        matches!(keeper.poll(later), Some(News::Running((device, _), None)) if device.0 == "headset")
    });
}

#[test]
fn devices_that_are_lost_one_after_the_other_are_replaced_slowly() {
    plug::<4>(&["default"]);
    let (mut keeper, start) = (keeper::<4>("default"), Instant::now());
    keeper.chosen = DeviceSpec::Default;
    keeper.start(start);
    let first = runs(&mut keeper, start, "running", "default");
    keeper.replace(first, start);
    let second = runs(&mut keeper, start, "running", "default");
    keeper.replace(second, start);
    assert!(keeper.poll(start + RETRY - Duration::from_millis(1)).is_none());
    assert_eq!(asked::<4>("default"), 2);
    runs(&mut keeper, start + RETRY, "running", "default");
}

#[test]
fn a_device_that_comes_back_and_does_not_work_is_looked_for_ever_less_often() {
    plug::<5>(&["default", "headset"]);
    let (mut keeper, mut now) = (keeper::<5>("headset"), Instant::now());
    keeper.start(now);
    let mut headset = runs(&mut keeper, now, "running", "headset");
    for wait in [2, 4, 8, 16, 32, 64, 64] {
        keeper.replace(headset, now);
        now += RETRY;
        let default = runs(&mut keeper, now, "running", "default");
        now += Duration::from_secs(wait);
        assert!(keeper.poll(now - Duration::from_millis(1)).is_none(), "{wait} s");
        headset = runs(&mut keeper, now, "back", "headset");
        keeper.let_go(default);
        until("that one is closed", || keeper.workers.load(std::sync::atomic::Ordering::Relaxed) == 1);
    }
    // It works for long enough, and is trusted again.
    now += TRUSTED;
    keeper.replace(headset, now);
    runs(&mut keeper, now, "running", "default");
    runs(&mut keeper, now + LOOK_AGAIN, "back", "headset");
}

#[test]
fn q7_what_a_sound_server_has_moved_comes_back_to_the_chosen_device() {
    plug::<SERVER>(&["default", "headset"]);
    let (mut keeper, now) = (keeper::<SERVER>("headset"), Instant::now());
    keeper.start(now);
    let moved = runs(&mut keeper, now, "running", "headset");
    let happen = || CHANGES.send_modify(|count| *count += 1);
    assert!(
        keeper.poll(now).is_none() && asked::<SERVER>("headset?") == 0,
        "nobody looks unless something happens"
    );
    happen();
    until("somebody looks", || {
        assert!(keeper.poll(now).is_none(), "it is still there");
        asked::<SERVER>("headset?") == 1 && keeper.look.is_none()
    });
    plug::<SERVER>(&["default"]);
    happen();
    assert_eq!(told(&mut keeper, now).0, "moved");
    plug::<SERVER>(&["default", "headset"]);
    let headset = runs(&mut keeper, now + LOOK_AGAIN, "back", "headset");
    keeper.let_go(moved);
    happen();
    until("it is looked out for again", || {
        assert!(keeper.poll(now + LOOK_AGAIN).is_none());
        asked::<SERVER>("headset?") == 3 && keeper.look.is_none()
    });
    keeper.close(headset);
}
