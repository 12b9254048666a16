//! The telephone's state, for people and for Prometheus.

use super::Engine;
use super::wall;
use crate::api::{CallStatus, LineState, Status};
use offhook_proto::identity::SignedCert;

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
            certificate_days: certificate_days(self.account.cert()),
            calls: self.call_statuses(),
        }
    }

    fn call_statuses(&self) -> Vec<CallStatus> {
        let show = |(call, view): (&offhook_proto::signalling::CallId, &super::calls::CallView)| {
            let stats = view.leg.and_then(|leg| self.legs.stats(&leg)).unwrap_or_default();
            CallStatus {
                call: call.to_string(),
                number: view.number.clone(),
                outgoing: view.outgoing,
                state: view.state.borrow().name().to_owned(),
                path: view.leg.and_then(|leg| self.legs.path(&leg)),
                rtt_ms: view.leg.map(|_| stats.rtt.as_secs_f64() * 1000.0),
                packets_sent: stats.packets_sent,
                packets_received: stats.packets_received,
                packets_lost: stats.packets_lost,
                jitter_ms: stats.jitter.as_secs_f64() * 1000.0,
                buffer_ms: stats.buffer_delay.as_secs_f64() * 1000.0,
                concealed: stats.concealed,
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

/// Whole days that a certificate is still valid; 0 if it is not.
pub(super) fn certificate_days(cert: &SignedCert) -> i64 {
    let Ok(cert) = cert.verify(wall()) else { return 0 };
    i64::try_from(cert.not_after.since(wall()).as_secs() / 86_400).unwrap_or(i64::MAX)
}
