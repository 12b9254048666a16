//! Addresses: gathering ours, telling them, and the path that comes of it.

use std::time::Instant;

use super::Driver;
use crate::clock::wall_clock;
use crate::media::courier::is_couriers;
use crate::media::ice::IceOutput;
use crate::media::socket::StunIn;
use crate::media::types::{MediaEvent, Path, Role};

/// Candidates told in one event: the signalling message that they become is to fit into a courier's packet.
const CANDIDATES_PER_EVENT: usize = 6;

impl Driver {
    /// Sends what the sans-IO parts have to send and follows what ICE has found.
    pub(super) async fn pump(&mut self) {
        self.drive_relays().await;
        self.repeat_handshake();
        self.watch();
        self.follow_network().await;
        self.spend().await;
        while let Some((server, request)) = self.gatherer.poll(Instant::now()) {
            self.socket.send_aside(None, server, &request);
        }
        while let Some((courier, packet)) = self.courier.poll(Instant::now(), wall_clock()) {
            self.socket.send_aside(None, courier, &packet);
        }
        if let Some(withheld) = self.ice.take_withheld() {
            self.emit(MediaEvent::Withheld(withheld)).await;
        }
        while let Some(output) = self.ice.poll_output(Instant::now()) {
            match output {
                IceOutput::Transmit { local, remote, bytes } => {
                    self.socket.send_aside(Some(local), remote, &bytes)
                }
                IceOutput::Genuine(address) => self.socket.let_in(address),
                IceOutput::Told(addresses) => {
                    self.targets = addresses;
                    self.try_out();
                }
                IceOutput::Path(path) => self.on_path(path).await,
            }
        }
    }

    pub(super) async fn disclose(&mut self) {
        let lines = self.ice.disclose(Instant::now());
        self.candidates.extend(lines);
        self.tell_candidates().await;
    }

    pub(super) async fn tell_candidates(&mut self) {
        while !self.candidates.is_empty() {
            let told = self.next_candidates();
            self.emit(MediaEvent::Candidates(told)).await;
        }
    }

    /// Those of our untold candidates that go into one event.
    pub(super) fn next_candidates(&mut self) -> Vec<String> {
        let rest = self.candidates.split_off(self.candidates.len().min(CANDIDATES_PER_EVENT));
        std::mem::replace(&mut self.candidates, rest)
    }

    pub(super) async fn on_stun(&mut self, message: &StunIn) {
        let now = Instant::now();
        if is_couriers(&message.bytes) {
            if let Some(packet) = self.courier.handle(now, message.source, &message.bytes) {
                self.emit(MediaEvent::Passed(packet)).await;
            }
            return;
        }
        match self.gatherer.handle(now, message.source, &message.bytes) {
            Some(mapped) => {
                self.candidates.extend(self.ice.add_reflexive(mapped, message.local));
                self.tell_candidates().await;
            }
            None => self.ice.handle_stun(now, message),
        }
    }

    /// Voice that has nowhere to go yet is sent where signalling says that the other end is.
    pub(super) fn try_out(&self) {
        if self.talking.is_some() && self.session.is_some() && !self.socket.path().carries_voice() {
            self.socket.try_out(&self.targets);
        }
    }

    async fn on_path(&mut self, path: Path) {
        if path == self.socket.path() {
            return;
        }
        tracing::debug!(role = ?self.config.role, ?path, connected = self.session.is_some(), "media path");
        match &path {
            Path::Direct { .. } => drop(self.direct_since.get_or_insert_with(Instant::now)),
            Path::Tunnel | Path::Relayed { .. } => self.direct_since = None,
        }
        let before = self.socket.path();
        self.socket.set_path(path.clone());
        if self.session.is_some() {
            self.emit(MediaEvent::PathChanged(path)).await;
        } else if self.config.role == Role::Caller && self.pinned.is_some() {
            self.begin_handshake_on(&path, &before);
        }
    }
}
