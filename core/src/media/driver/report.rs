//! What is due four times a second: statistics, and packets where no voice flows.

use std::time::{Duration, Instant};

use offhook_proto::rtp::{self, Rtcp, VOICE_FLOW};

use super::Driver;
use crate::media::types::{MediaStats, Path};

/// How often a packet is sent on a path without voice. NATs forget after 30 s, QUIC after 15 s.
pub(super) const KEEP_ALIVE_DIRECT: Duration = Duration::from_secs(2);
/// Through the tunnel, where packets are few and dear.
const KEEP_ALIVE_TUNNEL: Duration = Duration::from_secs(5);

impl Driver {
    pub(super) fn on_tick(&mut self) {
        let now = Instant::now();
        let path = self.socket.path();
        let voice = self.voice.stats();
        let (bytes_sent, bytes_received, refused) = self.socket.counters();
        let rtt = self.session.as_ref().map(|session| session.connection.rtt()).or_else(|| self.ice.rtt());
        self.stats.send_replace(MediaStats {
            path,
            rtt: rtt.unwrap_or_default(),
            packets_sent: voice.sent,
            packets_received: voice.received,
            packets_lost: voice.lost,
            remote_loss: voice.remote_loss,
            jitter: voice.jitter,
            buffer_delay: voice.buffer_delay,
            concealed: voice.concealed,
            bytes_sent,
            bytes_received,
            refused,
        });
        if path.carries_voice() && self.session.is_some() {
            // The call's own packets keep the NATs' mappings from now on.
            self.gatherer.stop();
        }
        self.keep_alive(now, path);
    }

    /// An empty report where no voice flows.
    fn keep_alive(&mut self, now: Instant, path: Path) {
        let Some(session) = &self.session else { return };
        let every = if path.carries_voice() { KEEP_ALIVE_DIRECT } else { KEEP_ALIVE_TUNNEL };
        if self.talking && path.carries_voice() {
            self.keep_alive_due = now + every;
        } else if self.keep_alive_due.min(now + every) <= now {
            self.keep_alive_due = now + every;
            let report = Rtcp { ssrc: 0, sender: None, blocks: Vec::new() };
            // A closed connection is noticed by the session's tasks.
            let _ = session.connection.send_datagram(rtp::encode_rtcp(VOICE_FLOW, &report).into());
        }
    }
}
