//! The telephone's state.

use super::Engine;
use crate::api::{self, CallStatus, Event, Serving, Status, Unproved};
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
        let show = |(call, view): (&offhook_proto::signalling::CallId, &super::calls::CallView)| CallStatus {
            call: call.to_string(),
            number: view.number.clone(),
            outgoing: view.outgoing,
            state: view.state.borrow().name().to_owned(),
            keys: view.keys.shown,
            recording: self.recorders.records(call),
            remote_recording: self.recorders.is_recorded(call),
            stats: self.stats_of(view),
        };
        self.views.live().map(show).collect()
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
