//! What happens when the network changes under a call: interfaces come and go, NATs forget, the other end moves.

use std::future::pending;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use if_watch::tokio::IfWatcher;

use super::Driver;
use crate::media::hosts::host_addresses;
use crate::media::types::{MediaConfig, MediaEvent, Path};
use crate::media::watchdog::Heard;

/// An interface that comes has several addresses; they are told together.
const SETTLE: Duration = Duration::from_millis(20);
/// Least time between two changes that the other end is told of.
const PAUSE: Duration = Duration::from_millis(250);
/// A pause between two looks at the clock after which the machine must have slept, or the program been stopped.
const SLEPT: Duration = Duration::from_secs(5);
/// From the answer on until voice must flow: the other end is told of it first, and opens its devices.
const GRACE: Duration = Duration::from_secs(1);

/// The addresses of this machine, and whether they are about to change.
pub(super) struct Network {
    hosts: Vec<SocketAddr>,
    /// None where the system does not tell, or where the address is given.
    watcher: Option<IfWatcher>,
    due: Option<Instant>,
    /// When they changed last.
    changed: Option<Instant>,
    /// When the clock was looked at last.
    looked: SystemTime,
}

impl Network {
    pub(super) fn new(config: &MediaConfig, hosts: Vec<SocketAddr>) -> Network {
        let watcher = match config.bind {
            None => IfWatcher::new()
                .inspect_err(
                    |error| tracing::debug!(kind = %error.kind(), "changes of addresses go unnoticed"),
                )
                .ok(),
            Some(_) => None,
        };
        Network { hosts, watcher, due: None, changed: None, looked: SystemTime::now() }
    }

    pub(super) fn has(&self, host: &SocketAddr) -> bool {
        self.hosts.contains(host)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it is long ago, or never was, that this was asked before. To be asked more often than once a second.
    pub(super) fn has_slept(&mut self, wall: SystemTime) -> bool {
        let before = std::mem::replace(&mut self.looked, wall);
        !wall.duration_since(before).is_ok_and(|passed| passed <= SLEPT)
    }

    /// Waits for a sign of change. Does not come back if there is nothing to watch.
    pub(super) async fn stirs(&mut self) {
        let Some(watcher) = &mut self.watcher else { return pending().await };
        match std::future::poll_fn(|cx| watcher.poll_if_event(cx)).await {
            Ok(_) => {
                let soonest = self.changed.map(|changed| changed + PAUSE);
                let due = Instant::now() + SETTLE;
                self.due.get_or_insert(soonest.map_or(due, |soonest| soonest.max(due)));
            }
            Err(_) => self.watcher = None,
        }
    }
}

impl Driver {
    /// Looks at our addresses if that is due, and tells whoever must know that they have changed.
    pub(super) async fn follow_network(&mut self) {
        let now = Instant::now();
        if self.network.due.take_if(|due| *due <= now).is_none() {
            return;
        }
        let (hosts, _) = host_addresses(&self.config, &self.socket);
        if hosts == self.network.hosts {
            return;
        }
        tracing::debug!(before = self.network.hosts.len(), after = hosts.len(), "our addresses have changed");
        self.network.changed = Some(now);
        self.ask_anew(now);
        let lines = self.ice.set_hosts(&hosts, now);
        self.network.hosts = hosts;
        if let Some(lines) = lines {
            self.candidates = lines;
            let told = self.next_candidates();
            self.emit(MediaEvent::Moved(told)).await;
            self.tell_candidates().await;
        }
    }

    /// When [`Driver::watch`] should look next.
    pub(super) fn watch_due(&self) -> Option<Instant> {
        self.watched().map(|heard| self.watchdog.due(heard))
    }

    /// Acts if voice should come, and nothing does.
    pub(super) fn watch(&mut self) {
        let now = Instant::now();
        let Some(heard) = self.watched() else { return };
        if self.watchdog.barks(now, heard) {
            tracing::debug!("nothing is heard of the other end");
            self.socket.set_silent();
            self.ice.suspect(now);
            self.ask_anew(now);
        }
    }

    /// Looks for all ways anew if the machine has slept: NATs and relays have forgotten it.
    pub(super) fn wake_up(&mut self, now: Instant) {
        if self.network.has_slept(SystemTime::now()) {
            tracing::debug!("the machine has slept");
            self.ice.suspect(now);
            self.ask_anew(now);
        }
    }

    /// When something was heard last, while something should be.
    fn watched(&self) -> Option<Heard> {
        let rtt = self.session.as_ref()?.connection.rtt();
        let since = self.talking? + GRACE;
        match self.socket.path() {
            Path::Tunnel => None,
            Path::Relayed { .. } | Path::Direct { .. } => {
                let (any, on_path) = self.socket.heard();
                Some(Heard { any: any.max(since), on_path: on_path.max(since), rtt })
            }
        }
    }

    /// Asks the servers how others see us now, and for addresses at relays until a direct path has been stable again.
    fn ask_anew(&mut self, now: Instant) {
        self.gatherer.restart(now);
        self.courier.rebind(now);
        self.direct_since = self.direct_since.map(|_| now);
        self.socket.reroute_relays();
        self.socket.want_relays(true);
        self.socket.doubt_relays();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::types::Role;

    #[test]
    fn a_jump_of_the_clock_is_sleep() {
        let config = MediaConfig { bind: Some([127, 0, 0, 1].into()), ..MediaConfig::new(Role::Caller) };
        let mut network = Network::new(&config, Vec::new());
        let start = SystemTime::now();
        let mut slept = |seconds| network.has_slept(start + Duration::from_secs(seconds));
        let asked = [100, 101, 106, 112, 113, 60, 61].map(&mut slept);
        assert_eq!(asked, [true, false, false, true, false, true, false]);
    }
}
