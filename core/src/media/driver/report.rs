//! What is due four times a second: statistics, packets where no voice flows, and whether the other end is there.

use std::time::{Duration, Instant};

use offhook_proto::rtp::{self, Rtcp, VOICE_FLOW};

use super::{Driver, Flow};
use crate::media::meter::Sample;
use crate::media::types::{MediaError, MediaStats};

/// How often a packet is sent on a path without voice. NATs forget after 30 s. Through the tunnel nothing is sent once
/// the keys are agreed: signalling knows by itself whether the other end is there.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(2);

impl Driver {
    pub(super) async fn on_tick(&mut self) -> Flow {
        let now = Instant::now();
        self.publish_stats(now);
        self.wake_up(now);
        self.spare_servers(now);
        self.keep_alive(now);
        match self.missing(now) {
            Some(error) => self.fail(error).await,
            None => Flow::Go,
        }
    }

    fn publish_stats(&mut self, now: Instant) {
        let voice = self.voice.stats();
        let (bytes_sent, bytes_received, refused) = self.socket.counters();
        let quic = self.session.as_ref().map(|session| session.connection.stats()).unwrap_or_default();
        let rtt = self.session.as_ref().map(|session| session.connection.rtt()).or_else(|| self.ice.rtt());
        let rtt = rtt.unwrap_or_default();
        let reading = self.meter.take(
            now,
            Sample {
                bytes: [bytes_sent, bytes_received],
                packets: [quic.udp_tx.datagrams, quic.udp_rx.datagrams],
                received: voice.received,
                voice_frames: voice.voice_frames,
                voice_bytes: voice.voice_bytes,
                frames: voice.frames,
                concealed: voice.frames_concealed,
                gaps: voice.gaps,
                rtt,
                buffer: voice.buffer_delay,
            },
        );
        self.stats.send_replace(MediaStats {
            path: self.socket.path(),
            rtt,
            packets_sent: voice.sent,
            packets_received: voice.received,
            packets_lost: voice.lost,
            bursts: voice.bursts,
            remote_loss: voice.remote_loss,
            remote_lost: i64::from(voice.remote_lost),
            jitter: voice.jitter,
            buffer_delay: voice.buffer_delay,
            concealed: voice.concealed,
            restored: voice.restored,
            plan: voice.plan,
            remote_bitrate: reading.remote_bitrate,
            sending: reading.rates[0],
            receiving: reading.rates[1],
            rating: reading.now,
            overall: reading.overall,
            mean_rtt: reading.mean_rtt,
            mean_buffer: reading.mean_buffer,
            bytes_sent,
            bytes_received,
            refused,
        });
    }

    /// An empty report where no voice flows.
    fn keep_alive(&mut self, now: Instant) {
        let Some(session) = self.session.as_ref().filter(|_| self.socket.path().carries_voice()) else {
            return;
        };
        if self.talking.is_some() {
            self.keep_alive_due = now + KEEP_ALIVE;
        } else if self.keep_alive_due <= now {
            self.keep_alive_due = now + KEEP_ALIVE;
            let report = Rtcp { ssrc: 0, sender: None, blocks: Vec::new(), trace: None, limit: None };
            // A closed connection is noticed by the session's tasks.
            let _ = session.connection.send_datagram(rtp::encode_rtcp(VOICE_FLOW, &report).into());
        }
    }

    /// What has been missing for too long: an answered call's path for voice, or on a path the other end itself.
    /// Before the answer and without a path there is nothing to miss, however long it rings.
    fn missing(&mut self, now: Instant) -> Option<MediaError> {
        match self.session.as_ref().filter(|_| self.socket.path().carries_voice()) {
            Some(session) => {
                let packets = session.connection.stats().udp_rx.datagrams;
                if std::mem::replace(&mut self.heard.packets, packets) != packets {
                    self.heard.at = now;
                }
                (now >= self.heard.at + self.config.idle_timeout).then_some(MediaError::Lost)
            }
            None => {
                self.heard.at = now;
                let since = self.talking?;
                (now >= since + self.config.idle_timeout).then_some(MediaError::NoPath)
            }
        }
    }
}
