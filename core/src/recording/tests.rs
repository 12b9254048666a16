use std::io::{self, Cursor, Write};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use offhook_proto::number::{Number, PlainNumber};
use offhook_proto::wire::UnixMillis;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::head::Tags;
use super::mux::Mux;
use super::reader::Reader;
use super::writer::{Medium, Writer};
use super::*;
use crate::api::RecordingKind;
use crate::audio::{BLOCK_LEN, BLOCK_TIME, Block, CustomDevice, DeviceSpec};

/// A tone of so many Hz; `loud` says at which blocks.
fn tone(hz: f32, block: usize, loud: bool) -> Block {
    let sample = |n: usize| {
        let at = (block * BLOCK_LEN + n) as f32 / 48_000.0;
        0.3 * (at * hz * std::f32::consts::TAU).sin()
    };
    std::array::from_fn(|n| if loud { sample(n) } else { 0.0 })
}

fn power(samples: &[f32]) -> f32 {
    samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32
}

/// How often the sign changes to plus in a second.
fn frequency(samples: &[f32]) -> f32 {
    let rises = samples.windows(2).filter(|pair| pair[0] <= 0.0 && pair[1] > 0.0).count();
    rises as f32 * 48_000.0 / samples.len() as f32
}

fn tags(track: &str) -> Tags {
    Tags(vec![("OFFHOOK_TRACK".into(), track.into())])
}

/// Two tracks: a deep tone in the first half of each second, and a high one in the second.
fn two_tracks(blocks: usize) -> Vec<u8> {
    let mut mux = Mux::new(Vec::new(), &[tags("own"), tags("other")], 7).unwrap();
    for n in 0..blocks {
        let early = n % 100 < 50;
        for (track, block) in [tone(400.0, n, early), tone(1_000.0, n, !early)].into_iter().enumerate() {
            mux.push(track, &block.map(|sample| (sample * 32_767.0) as i16)).unwrap();
        }
    }
    mux.finish().unwrap()
}

/// All that is heard of a file.
fn heard(file: &[u8], track: &str) -> Vec<f32> {
    let mut reader = Reader::new(Cursor::new(file));
    let (mut all, mut block) = (Vec::new(), [0.0; BLOCK_LEN]);
    while reader.next(|tags| track == "both" || tags.get("OFFHOOK_TRACK") == Some(track), &mut block) {
        all.extend_from_slice(&block);
    }
    all
}

#[test]
fn tracks_are_heard_apart_and_mixed_to_their_last_sample() {
    let file = two_tracks(305);
    let (own, other, both) = (heard(&file, "own"), heard(&file, "other"), heard(&file, "both"));
    assert_eq!([own.len(), other.len(), both.len()], [305 * BLOCK_LEN; 3]);
    // The middle of each half: the codec blurs edges.
    let half = |samples: &[f32], n: usize| samples[n * 24_000 + 4_000..n * 24_000 + 20_000].to_vec();
    for n in 0..6 {
        let (mine, yours) = (half(&own, n), half(&other, n));
        let (loud, silent, hz) = if n % 2 == 0 { (mine, yours, 400.0) } else { (yours, mine, 1_000.0) };
        assert!((frequency(&loud) - hz).abs() < 10.0, "{n}: {}", frequency(&loud));
        assert!(power(&loud) > 0.02 && power(&silent) < 1e-4, "{n}: {} {}", power(&loud), power(&silent));
        assert!((frequency(&half(&both, n)) - hz).abs() < 10.0);
    }
}

#[test]
fn a_file_that_is_cut_at_any_byte_plays_up_to_there() {
    let file = two_tracks(120);
    let whole = heard(&file, "both");
    // Where pages begin, and how much was heard up to there.
    let starts: Vec<usize> =
        file.windows(4).enumerate().filter(|(_, w)| w == b"OggS").map(|(at, _)| at).collect();
    assert!(starts.len() >= 10, "{starts:?}");
    let at_start: Vec<usize> = starts.iter().map(|at| heard(&file[..*at], "both").len()).collect();
    // Two pages of half a second each are lost at most.
    for (n, samples) in at_start.iter().enumerate().skip(4) {
        assert!(
            *samples >= ((n / 2).saturating_sub(2) * 24_000).saturating_sub(312),
            "{samples} samples of {n} pages"
        );
    }
    let mut before = 0;
    for cut in 0..file.len() {
        let page = starts.partition_point(|at| *at <= cut).saturating_sub(1);
        // Every byte of two pages, elsewhere the ends of pages: to decode takes its time.
        let edge = starts.iter().any(|at| cut.abs_diff(*at) <= 1);
        if !edge && !(6..8).contains(&page) {
            continue;
        }
        let played = heard(&file[..cut], "both");
        assert!(played.len() >= at_start[page] && played.len() >= before, "cut at {cut}");
        before = played.len();
        // And it is listed, with what it has.
        let said = folder::describe(&mut Cursor::new(&file[..cut]));
        assert!(said.duration_ms <= 1_200 && said.duration_ms * 48 <= played.len() as u64 + 480, "{said:?}");
        // The mix of what is there of both is the same as ever.
        let same = at_start[page].saturating_sub(24_480);
        assert_eq!(played[..same], whole[..same], "cut at {cut}");
    }
    assert_eq!(folder::describe(&mut Cursor::new(&file)).duration_ms, 1_200);
}

#[test]
fn a_damaged_file_plays_up_to_the_damage() {
    let file = two_tracks(220);
    let middle = file.len() / 2;
    for byte in [0, 1, 30, 300] {
        let mut damaged = file.clone();
        damaged[middle + byte] ^= 0x55;
        let played = heard(&damaged, "both").len();
        assert!((24_000..220 * BLOCK_LEN).contains(&played), "{played}");
    }
}

#[test]
fn nothing_that_a_file_may_hold_is_a_reason_to_panic() {
    let file = two_tracks(60);
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..200 {
        let mut odd = file.clone();
        for _ in 0..random.random_range(1..20) {
            let at = random.random_range(0..odd.len());
            odd[at] = random.random();
        }
        odd.truncate(random.random_range(0..=odd.len()));
        fuzz::recording(&odd);
    }
}

fn number() -> Number {
    Number::Plain(PlainNumber::from_index(7))
}

fn order(kind: RecordingKind) -> Order {
    Order {
        kind,
        call: "00".into(),
        whose: Whose { number: number(), contact: true },
        outgoing: true,
        began: UnixMillis(1_769_854_500_000),
        limit: MAX_DURATION,
        silence: None,
    }
}

/// Waits until the ring has room for more: no voice thread is as fast as this.
fn make_room(tap: &Tap) {
    while tap.room() < 100 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Gives the tap seconds of sound at once, as if they had been heard.
fn feed(tap: &mut Tap, blocks: std::ops::Range<usize>, origin: Instant) {
    for n in blocks {
        let at = origin + BLOCK_TIME * n as u32;
        tap.own(at, &mut tone(400.0, n, n % 100 < 50));
        tap.other(at, &tone(1_000.0, n, n % 100 >= 50));
        make_room(tap);
    }
}

#[test]
fn a_call_is_recorded_listed_played_exported_and_deleted() {
    let account = tempfile::tempdir().unwrap();
    let folder = Recordings::of(account.path());
    assert_eq!(folder.list().unwrap(), []);
    let Started { name, mut tap, done } = folder.record(&order(RecordingKind::Call)).unwrap();
    feed(&mut tap, 0..300, Instant::now());
    assert!(matches!(folder.delete(&name), Err(RecordingError::Recording)));
    drop(tap);
    let finished = done.blocking_recv().unwrap();
    assert_eq!(finished.end, WriterEnd::Over);
    let list = folder.list().unwrap();
    assert_eq!(list, [finished.recording.unwrap()]);
    let listed = &list[0];
    assert_eq!((&listed.recording, listed.kind), (&name, RecordingKind::Call));
    assert_eq!((listed.number.clone(), listed.began), (Some(number()), 1_769_854_500_000));
    assert_eq!(listed.duration_ms, 3_000);
    assert!(name.starts_with("call-20260131T101500Z-"), "{name}");
    let path = folder.path("last").unwrap();
    let mode = |path: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
    };
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(listed.bytes, std::fs::metadata(&path).unwrap().len());
    let own = heard(&std::fs::read(&path).unwrap(), "own");
    assert!(
        frequency(&own[4_000..20_000]) > 390.0 && power(&own[28_000..44_000]) < 1e-4,
        "without the warning tone"
    );

    // Its first second is played, and no more when somebody has heard enough.
    let (sound, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let speaker = CustomDevice::loudspeaker({
        let (sound, stop) = (sound.clone(), stop.clone());
        move || {
            let (sound, stop) = (sound.clone(), stop.clone());
            move |block: &Block| {
                let mut sound = sound.lock().unwrap();
                sound.extend_from_slice(block);
                stop.store(sound.len() >= 48_000, std::sync::atomic::Ordering::Relaxed);
            }
        }
    });
    let played = folder.play(&name[..12], Track::Other, &DeviceSpec::Custom(speaker), &stop).unwrap();
    assert!(played >= Duration::from_secs(1) && played < Duration::from_secs(2), "{played:?}");
    let sound = sound.lock().unwrap();
    assert!(
        power(&sound[4_000..20_000]) < 1e-4 && (frequency(&sound[28_000..44_000]) - 1_000.0).abs() < 10.0
    );

    let (wav, opus) = (account.path().join("mixed.wav"), account.path().join("mixed.opus"));
    for to in [&wav, &opus] {
        assert_eq!(folder.export(&name, Track::Both, to).unwrap(), Duration::from_secs(3));
        assert!(folder.export(&name, Track::Both, to).is_err(), "nothing is overwritten");
    }
    assert_eq!(hound::WavReader::open(&wav).unwrap().duration(), 144_000);
    assert_eq!(heard(&std::fs::read(&opus).unwrap(), "both").len(), 144_000);
    assert!(matches!(
        folder.export(&name, Track::Both, &account.path().join("x.mp3")),
        Err(RecordingError::Kind)
    ));

    for unknown in ["", "nosuch", "../account", "call-20260131T101500Z-zz"] {
        assert!(matches!(folder.delete(unknown), Err(RecordingError::None(_))), "{unknown}");
    }
    assert_eq!(folder.delete(&name).unwrap(), name);
    assert_eq!(folder.list().unwrap(), []);
    assert!(matches!(folder.path("last"), Err(RecordingError::None(_))));
}

#[test]
fn a_track_that_nobody_feeds_stays_in_step_as_silence() {
    let account = tempfile::tempdir().unwrap();
    let folder = Recordings::of(account.path());
    let Started { mut tap, done, .. } = folder.record(&order(RecordingKind::Call)).unwrap();
    let origin = Instant::now();
    // The other end is heard after two seconds, and nothing of either for a second after the third.
    for n in 0..200 {
        tap.own(origin + BLOCK_TIME * n, &mut tone(400.0, n as usize, true));
    }
    make_room(&tap);
    feed(&mut tap, 200..300, origin);
    feed(&mut tap, 400..500, origin);
    drop(tap);
    assert_eq!(done.blocking_recv().unwrap().recording.unwrap().duration_ms, 5_000);
    let file = std::fs::read(folder.path("last").unwrap()).unwrap();
    let (own, other) = (heard(&file, "own"), heard(&file, "other"));
    let loud =
        |samples: &[f32], half: usize| power(&samples[half * 24_000 + 4_000..half * 24_000 + 20_000]) > 0.01;
    let halves = |samples: &[f32]| (0..10).map(|half| loud(samples, half)).collect::<Vec<_>>();
    let [y, n] = [true, false];
    assert_eq!(halves(&own), [y, y, y, y, y, n, n, n, y, n]);
    assert_eq!(halves(&other), [n, n, n, n, n, y, n, n, n, y]);
}

#[test]
fn recordings_end_when_they_are_long_enough_or_nobody_speaks_and_empty_ones_are_not_kept() {
    let account = tempfile::tempdir().unwrap();
    let folder = Recordings::of(account.path());
    let short = Order { limit: Duration::from_secs(1), ..order(RecordingKind::Call) };
    let Started { mut tap, done, .. } = folder.record(&short).unwrap();
    feed(&mut tap, 0..200, Instant::now());
    let finished = done.blocking_recv().unwrap();
    assert_eq!((finished.end, finished.recording.unwrap().duration_ms), (WriterEnd::Full, 1_000));

    let patient = Order { silence: Some(Duration::from_millis(500)), ..order(RecordingKind::Message) };
    let Started { mut tap, done, .. } = folder.record(&patient).unwrap();
    let origin = Instant::now();
    for n in 0..200 {
        tap.other(origin + BLOCK_TIME * n, &tone(400.0, n as usize, n < 80));
    }
    let finished = done.blocking_recv().unwrap();
    assert_eq!((finished.end, finished.recording.unwrap().duration_ms), (WriterEnd::Silent, 1_300));

    let Started { tap, done, name } = folder.record(&order(RecordingKind::Call)).unwrap();
    drop(tap);
    assert!(done.blocking_recv().unwrap().recording.is_none());
    assert!(folder.path(&name).is_err());
}

#[test]
fn no_more_messages_are_kept_than_there_may_be() {
    let account = tempfile::tempdir().unwrap();
    let folder = Recordings::of(account.path());
    let whose = |contact| Whose { number: number(), contact };
    let (contact, stranger) = (whose(true), whose(false));
    let room = |whose: &Whose| folder.has_room(RecordingKind::Message, whose).unwrap();
    let create = |whose: &Whose| folder.create(RecordingKind::Message, whose, UnixMillis(0));
    let (file, path, _) = create(&contact).unwrap();
    assert!(room(&contact));
    file.set_len(MAX_MESSAGE_BYTES).unwrap();
    assert!(!room(&contact), "by their size");
    std::fs::remove_file(path).unwrap();
    for _ in 0..MAX_MESSAGES - MESSAGES_OF_CONTACTS {
        create(&stranger).unwrap();
    }
    assert!(room(&contact) && !room(&stranger), "the last places are for contacts");
    for _ in 0..MESSAGES_OF_CONTACTS {
        create(&contact).unwrap();
    }
    assert!(matches!(folder.record(&order(RecordingKind::Message)), Err(RecordingError::Full)));
    let own = folder.has_room(RecordingKind::Call, &stranger).unwrap();
    assert!(own, "the user's own are not crowded out");
    // What is not ours is not looked at.
    for odd in ["call-../x.opus", "call-a b.opus", "other.opus", "call-1.wav"] {
        let _ = std::fs::write(account.path().join("recordings").join(odd), "x");
    }
    assert_eq!(folder.list().unwrap().len(), MAX_MESSAGES);
}

/// A disk with room for so many more bytes.
struct Small {
    file: std::fs::File,
    left: usize,
}

impl Write for Small {
    fn write(&mut self, page: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.file.write(&page[..page.len().min(self.left)])?;
        self.left -= written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Medium for Small {
    fn cut(&self, length: u64) -> io::Result<()> {
        self.file.cut(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

#[test]
fn p17_on_a_full_disk_what_was_written_before_plays() {
    let account = tempfile::tempdir().unwrap();
    let folder = Recordings::of(account.path());
    let order = order(RecordingKind::Call);
    let (file, path, _) = folder.create(order.kind, &order.whose, order.began).unwrap();
    let writer = Writer::new(Box::new(Small { file, left: 20_000 }), &order).unwrap();
    let (mut tap, pieces) = Tap::of_both();
    let finished = std::thread::scope(|scope| {
        let writes = scope.spawn(|| writer.run(pieces, &folder, path.clone()));
        let origin = Instant::now();
        for n in (0..1_000).take_while(|_| !writes.is_finished()) {
            let at = origin + BLOCK_TIME * n as u32;
            tap.own(at, &mut tone(400.0, n, n % 100 < 50));
            tap.other(at, &tone(1_000.0, n, n % 100 >= 50));
            while tap.room() < 100 && !writes.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        drop(tap);
        writes.join().unwrap()
    });
    assert_eq!(finished.end, WriterEnd::Failed);
    let left = finished.recording.unwrap();
    assert!(left.bytes <= 20_000 && left.duration_ms >= 1_000, "{left:?}");
    let own = heard(&std::fs::read(&path).unwrap(), "own");
    assert!(own.len() >= 24_000 && frequency(&own[4_000..20_000]) > 390.0);
}

#[test]
fn one_caller_does_not_take_the_machine_away_from_the_others() {
    let account = tempfile::tempdir().unwrap();
    let folder = Recordings::of(account.path());
    for _ in 0..MAX_MESSAGES_OF_ONE {
        let Started { mut tap, done, .. } = folder.record(&order(RecordingKind::Message)).unwrap();
        tap.other(Instant::now(), &tone(400.0, 0, true));
        drop(tap);
        assert!(done.blocking_recv().unwrap().recording.is_some());
    }
    let room = |number, contact| folder.has_room(RecordingKind::Message, &Whose { number, contact }).unwrap();
    assert!(!room(number(), true), "a contact neither");
    assert!(room(Number::Plain(PlainNumber::from_index(1)), false));
    assert!(matches!(folder.record(&order(RecordingKind::Message)), Err(RecordingError::Full)));
}
