//! Relays: their connections, their addresses, and when they are not needed any more.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offhook_proto::relay::RelayServer;
use tokio::sync::mpsc;

use super::Driver;
use crate::media::relay::{RelayEvent, StreamId, stream};
use crate::media::socket::MediaSocket;
use crate::media::types::Relay;

/// How long a direct path must be in use before the servers that helped to find it are not needed any more. Checks through
/// relays cost a directory 2.5 kB in each second of it; should the path fail after all, a relay is back in a quarter.
const STABLE: Duration = Duration::from_millis(500);

impl Driver {
    pub(super) fn add_relay(&mut self, relay: &Relay) {
        if !self.socket.add_relay(relay) {
            tracing::debug!("a relay more than a leg uses");
            return;
        }
        self.thrift.has_relay = true;
        self.courier.add(relay, Instant::now());
    }

    /// Does what the relays want done.
    pub(super) async fn drive_relays(&mut self) {
        let now = Instant::now();
        for event in self.socket.drive_relays(now) {
            match event {
                RelayEvent::Connect(id, server) => {
                    let queue = self.socket.open_stream(id);
                    self.streams.spawn(connect(self.socket.clone(), id, server, self.config.bind, queue));
                }
                RelayEvent::Disconnect(id) => self.socket.close_stream(id),
                RelayEvent::Opened(relayed) => {
                    tracing::debug!(transport = relayed.transport.name(), "a relay has given an address");
                    self.candidates.extend(self.ice.add_relayed(relayed, now));
                    self.tell_soon(now);
                }
                RelayEvent::Lost(address) => self.ice.remove_relayed(address, now),
            }
        }
        // Those that have ended have told the socket.
        while self.streams.try_join_next().is_some() {}
    }

    /// What a stable direct path has made superfluous is given up: addresses at relays, and asking how others see ours,
    /// which has kept the NATs' mappings until the call's own packets do.
    pub(super) fn spare_servers(&mut self, now: Instant) {
        if self.session.is_some() && self.direct_since.is_some_and(|since| since + STABLE <= now) {
            self.socket.want_relays(false);
            self.ice.leave_relays();
            self.gatherer.stop();
        }
    }

    /// Gives all addresses back and waits until the relays have confirmed it, for as long as the caller likes.
    pub(super) async fn leave_relays(&mut self) {
        self.socket.want_relays(false);
        loop {
            self.drive_relays().await;
            if self.socket.is_rid_of_relays() {
                return;
            }
            let wake = self.socket.relay_timeout().unwrap_or_else(Instant::now);
            tokio::select! {
                () = self.socket.relay_news() => {}
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }
}

/// A connection to a relay, from its beginning to its end.
async fn connect(
    socket: Arc<MediaSocket>,
    id: StreamId,
    server: RelayServer,
    bind: Option<IpAddr>,
    queue: mpsc::Receiver<Vec<u8>>,
) {
    match stream::open(&server, bind).await {
        Ok((io, local)) => {
            socket.stream_connected(id, local);
            stream::carry(io, queue, |message| socket.stream_message(id, message)).await;
        }
        Err(error) => tracing::debug!(kind = %error.kind(), "a relay can't be reached"),
    }
    socket.stream_ended(id);
}
