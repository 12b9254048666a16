//! The telephone's state, for people and for Prometheus.

use super::Engine;
use crate::api::{self, CallStatus, Event, LineState, Serving, Status, Unproved};
use crate::clock::wall_clock;
use crate::net;
use std::time::{Duration, Instant};

/// How often the user is reminded of a certificate that expires soon.
pub(super) const REMIND_EVERY: Duration = Duration::from_secs(24 * 3600);

impl Engine {
    pub(super) fn status(&self) -> Status {
        let net = self.net.status();
        Status {
            account: self.account.id().to_string(),
            number: self.account.number().clone(),
            fingerprint: self.account.identity().fingerprint().to_string(),
            line: self.publisher.line,
            directories: net.links.iter().filter(|l| l.registered).count(),
            peers: net.peers,
            published: self.publisher.published.map(|t| t.0),
            serving: serving(net.serving),
            certificate_days: self.certificate_days(),
            calls: self.call_statuses(),
        }
    }

    /// Tell whether this terminal serves the network, if that has changed.
    pub(super) fn update_serving(&mut self) {
        let serving = serving(self.status.borrow().serving);
        if self.serves != serving.serves() {
            self.serves = serving.serves();
            self.emit(Event::Serving { serving });
        }
    }

    fn certificate_days(&self) -> i64 {
        let left = self.account.cert_until().since(wall_clock()).as_secs() / 86_400;
        i64::try_from(left).unwrap_or(i64::MAX)
    }

    /// Reminds of a certificate that expires soon, if it is time to.
    pub(super) fn remind_if_due(&mut self, now: Instant) {
        if now < self.reminder {
            return;
        }
        self.reminder = now + REMIND_EVERY;
        let days = self.certificate_days();
        if days <= api::CERTIFICATE_WARNING_DAYS {
            self.emit(Event::CertificateExpires { days });
        }
    }

    fn call_statuses(&self) -> Vec<CallStatus> {
        let show = |(call, view): (&offhook_proto::signalling::CallId, &super::calls::CallView)| {
            let path = view.leg.and_then(|leg| self.legs.path(&leg));
            let stats = view.leg.and_then(|leg| self.legs.stats(&leg)).unwrap_or_default();
            CallStatus {
                call: call.to_string(),
                number: view.number.clone(),
                outgoing: view.outgoing,
                state: view.state.borrow().name().to_owned(),
                keys: view.keys.shown,
                path: path.as_ref().map(|(path, _)| *path),
                relay: path.and_then(|(_, relay)| relay),
                rtt_ms: view.leg.map(|_| stats.rtt.as_secs_f64() * 1000.0),
                packets_sent: stats.packets_sent,
                packets_received: stats.packets_received,
                packets_lost: stats.packets_lost,
                jitter_ms: stats.jitter.as_secs_f64() * 1000.0,
                buffer_ms: stats.buffer_delay.as_secs_f64() * 1000.0,
                concealed: stats.concealed,
                restored: stats.restored,
            }
        };
        self.views.live().map(show).collect()
    }

    /// Prometheus text: the network's counters and the telephone's own gauges.
    pub(super) fn metrics(&self) -> String {
        let calls = self.views.live().count();
        let online = u8::from(self.publisher.line == LineState::Online);
        let own = format!(
            "# HELP offhook_calls Calls that have not ended\n# TYPE offhook_calls gauge\noffhook_calls {calls}\n\
             # HELP offhook_online Whether this telephone can be called\n# TYPE offhook_online gauge\n\
             offhook_online {online}\n"
        );
        // OpenMetrics text ends with a marker; our gauges belong before it.
        let net = self.net.metrics();
        match net.strip_suffix("# EOF\n") {
            Some(body) => format!("{body}{own}# EOF\n"),
            None => format!("{net}{own}"),
        }
    }
}

/// The network's word for users.
fn serving(serving: net::Serving) -> Serving {
    match serving {
        net::Serving::Off => Serving::Off,
        net::Serving::Proved => Serving::Proved,
        net::Serving::Always => Serving::Always,
        net::Serving::Unproved(reason) => Serving::Unproved {
            reason: match reason {
                net::Reason::New => Unproved::New,
                net::Reason::NoHelper => Unproved::NoDirectory,
                net::Reason::NoStranger => Unproved::NoStranger,
                net::Reason::NoAddress => Unproved::NoUdp,
                net::Reason::Unreachable => Unproved::Unreachable,
            },
        },
    }
}
