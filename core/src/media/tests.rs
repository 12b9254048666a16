//! Two legs on loopback, with the test in the place of signalling.

mod hostile;
mod moving;
mod relayed;
pub(super) mod score;
mod thrift;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::audio::DeviceSpec;

/// Nothing that these tests wait for takes a tenth of it, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const EVENTS: usize = 64;
const GLANCE: Duration = Duration::from_millis(20);

pub(super) fn speech(name: &str) -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(name)
}

fn on_loopback(role: Role) -> MediaConfig {
    MediaConfig {
        bind: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        audio: AudioConfig { mic: DeviceSpec::None, speaker: DeviceSpec::None, ..AudioConfig::default() },
        ..MediaConfig::new(role)
    }
}

/// One end, with what it reported.
struct End {
    leg: MediaLeg,
    events: mpsc::Receiver<MediaEvent>,
    log: Vec<MediaEvent>,
    /// Its user has answered, or heard that the other one has.
    disclosed: bool,
    /// Candidates that wait for that.
    withheld: Vec<String>,
    /// Those that the other end was told.
    told: Vec<String>,
}

impl End {
    fn start(config: MediaConfig) -> End {
        let (sender, events) = mpsc::channel(EVENTS);
        let leg = MediaLeg::start(config, sender.clone()).unwrap();
        let first = leg.candidates();
        if !first.is_empty() {
            sender.try_send(MediaEvent::Candidates(first)).unwrap();
        }
        End { leg, events, log: Vec::new(), disclosed: false, withheld: Vec::new(), told: Vec::new() }
    }

    fn find<T>(&self, pick: impl Fn(&MediaEvent) -> Option<T>) -> Option<T> {
        self.log.iter().find_map(pick)
    }
}

/// Two ends and what is between them.
struct Call {
    ends: [End; 2],
    /// Whether tunnel packets are carried.
    tunnel: bool,
    /// Whether candidates are carried.
    candidates: bool,
    /// Whether only those at relays are.
    only_relayed: bool,
    carried: [usize; 2],
}

impl Call {
    /// Both ends know each other's offer.
    fn new(caller: MediaConfig, callee: MediaConfig) -> Call {
        let ends = [End::start(caller), End::start(callee)];
        let [a, b] = &ends;
        b.leg.set_remote(a.leg.offer());
        a.leg.set_remote(b.leg.offer());
        Call { ends, tunnel: true, candidates: true, only_relayed: false, carried: [0, 0] }
    }

    /// Carries messages until `done`.
    async fn run(&mut self, what: &str, mut done: impl FnMut(&[End; 2]) -> bool) {
        let all = async {
            while !done(&self.ends) {
                let [a, b] = &mut self.ends;
                let (from, event) = tokio::select! {
                    Some(event) = a.events.recv() => (0, event),
                    Some(event) = b.events.recv() => (1, event),
                    () = tokio::time::sleep(GLANCE) => continue, // statistics come without an event
                };
                let to = &self.ends[1 - from].leg;
                if let (true, MediaEvent::Tunnel(packets)) = (self.tunnel, &event) {
                    self.carried[from] += packets.len();
                    packets.iter().for_each(|packet| to.tunnel(packet.clone()));
                }
                if let MediaEvent::Candidates(lines) = &event {
                    self.tell(from, lines.clone());
                }
                if let MediaEvent::Withheld(lines) = &event {
                    self.ends[from].withheld.clone_from(lines);
                }
                self.ends[from].log.push(event);
                self.tell_withheld();
            }
        };
        let in_time = timeout(PATIENCE, all).await.is_ok();
        assert!(in_time, "{what} did not happen; {:?} | {:?}", self.ends[0].log, self.ends[1].log);
    }

    fn tell(&mut self, from: usize, mut lines: Vec<String>) {
        lines.retain(|line| !self.only_relayed || line.contains(" typ relay "));
        if self.candidates && !lines.is_empty() {
            self.ends[from].told.extend(lines.iter().cloned());
            self.ends[1 - from].leg.add_remote_candidates(lines);
        }
    }

    /// From now on the other end may know where this one is.
    fn disclose(&mut self, n: usize) {
        self.ends[n].disclosed = true;
        self.ends[n].leg.disclose();
        self.tell_withheld();
    }

    fn tell_withheld(&mut self) {
        for n in 0..2 {
            if self.ends[n].disclosed {
                let lines = std::mem::take(&mut self.ends[n].withheld);
                self.tell(n, lines);
            }
        }
    }

    async fn close(self) {
        let [a, b] = self.ends;
        a.leg.close().await;
        b.leg.close().await;
    }
}

fn exporter(end: &End) -> Option<[u8; 32]> {
    end.find(|event| {
        let MediaEvent::Connected { exporter, .. } = event else { return None };
        Some(*exporter)
    })
}

fn is_direct(end: &End) -> bool {
    end.leg.stats().borrow().path.carries_voice()
}

fn epochs(end: &End) -> Option<(u64, u64)> {
    end.find(|event| {
        let MediaEvent::AudioStarted { mic_epoch_ns, speaker_epoch_ns } = event else { return None };
        Some((*mic_epoch_ns, *speaker_epoch_ns))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_ends_talk_over_ipv6() {
    let on_v6 = |role| MediaConfig { bind: Some(Ipv6Addr::LOCALHOST.into()), ..on_loopback(role) };
    let mut call = Call::new(on_v6(Role::Caller), on_v6(Role::Callee));
    call.ends.iter().for_each(|end| end.leg.start_audio());
    call.run("talking", |ends| ends.iter().all(|end| end.leg.stats().borrow().packets_received > 50)).await;
    for end in &call.ends {
        let path = end.leg.stats().borrow().path.clone();
        assert!(matches!(path, Path::Direct { local, remote } if local.is_ipv6() && remote.is_ipv6()));
    }
    call.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speech_from_a_file_arrives_in_a_file_at_the_other_end() {
    let directory = tempfile::tempdir().unwrap();
    let heard = [directory.path().join("a.wav"), directory.path().join("b.wav")];
    let said = [speech("speech-a.wav"), speech("speech-b.wav")];
    let [caller, callee] = [Role::Caller, Role::Callee].map(|role| {
        let n = usize::from(role == Role::Callee);
        let audio = AudioConfig {
            mic: DeviceSpec::File(said[n].clone()),
            speaker: DeviceSpec::File(heard[n].clone()),
            ..AudioConfig::default()
        };
        MediaConfig { audio, ..on_loopback(role) }
    });
    let mut call = Call::new(caller, callee);
    call.run("connecting", |ends| ends.iter().all(|end| exporter(end).is_some() && is_direct(end))).await;
    assert_eq!(exporter(&call.ends[0]), exporter(&call.ends[1]));
    call.ends.iter().for_each(|end| end.leg.start_audio());
    let seconds = 6;
    call.run("talking", |ends| {
        ends.iter().all(|end| end.leg.stats().borrow().packets_received >= seconds * 50)
    })
    .await;
    let epochs = [0, 1].map(|n| epochs(&call.ends[n]).unwrap());
    let stats = [0, 1].map(|n| call.ends[n].leg.stats().borrow().clone());
    call.close().await;
    for n in 0..2 {
        let (mic, speaker) = (epochs[n].0, epochs[1 - n].1);
        let score = score::compare(&said[n], mic, &heard[1 - n], speaker);
        println!("m2e_ms={:.1} correlation={:.3} {:?}", score.delay_ms, score.correlation, stats[1 - n]);
        // In virtual time this is asserted sharply (`voice::engine`). Here other work may hold the threads up where they
        // are not granted a priority: 0.96 to 0.98 and 46 ms with it, beside two programs that take all they get.
        assert!(score.correlation > 0.8, "{score:?}");
        assert!((26.0..290.0).contains(&score.delay_ms), "{score:?}");
        let own = score::compare(&said[1 - n], epochs[1 - n].0, &heard[1 - n], speaker);
        println!("own voice: correlation={:.3}", own.correlation);
        assert!(own.correlation < 0.4, "nobody hears himself: {own:?}");
    }
}
