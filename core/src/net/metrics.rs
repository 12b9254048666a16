//! Counters for Prometheus. One registry per [`Net`](super::Net).

use std::sync::{Mutex, PoisonError};

use offhook_proto::mailbox::protocol::Amount;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What a request of the signalling protocol came to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Outcome {
    /// `register`, `forward`, `deliver`, `find`, `store`, `seek`, `publish`, `relay`, `knock_wanted`, `knock_at`,
    /// `kad_put`.
    pub(super) request: &'static str,
    /// `ok`, `not_found`, `refused`, `busy`, `failed`.
    pub(super) result: &'static str,
}

/// Who has left something in a mailbox: `contacts` or `strangers`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Leaver {
    by: &'static str,
}

/// What the mailboxes of a directory hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailGauges {
    /// How many mailboxes there are.
    pub mailboxes: usize,
    /// What contacts of their owners have left.
    pub contacts: Amount,
    /// What strangers have left.
    pub strangers: Amount,
}

/// The counters and gauges.
pub(super) struct Metrics {
    registry: Mutex<Registry>,
    /// Requests answered.
    pub(super) requests: Family<Outcome, Counter>,
    /// The same of the mailbox protocol.
    mail: Family<Outcome, Counter>,
    /// Bytes of sealed packets passed on.
    pub(super) forwarded_bytes: Counter,
    /// STUN binding requests answered and dropped.
    pub(super) stun_answered: Counter,
    pub(super) stun_dropped: Counter,
    /// Errors of the socket.
    pub(super) stun_failed: Counter,
    pub(super) peers: Gauge,
    pub(super) records: Gauge,
    pub(super) record_bytes: Gauge,
    pub(super) proofs_waiting: Gauge,
    pub(super) registered: Gauge,
    pub(super) dht_nodes: Gauge,
    pub(super) requests_open: Gauge,
    pub(super) warm: Gauge,
    pub(super) mailboxes: Gauge,
    pub(super) mail_bytes: Family<Leaver, Gauge>,
    pub(super) mail_blobs: Family<Leaver, Gauge>,
}

impl Metrics {
    /// Registers everything in `registry`, which may hold more already.
    pub(super) fn new(mut registry: Registry) -> Self {
        let requests = Family::default();
        registry.register("offhook_requests", "Signalling and DHT requests by outcome", requests.clone());
        let mail = Family::default();
        registry.register("offhook_mail_requests", "Requests to mailboxes by outcome", mail.clone());
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let forwarded_bytes =
            counter("offhook_forwarded_bytes", "Bytes of sealed signalling packets passed on");
        let stun_answered = counter("offhook_stun_answered", "STUN binding requests answered");
        let stun_dropped = counter("offhook_stun_dropped", "STUN datagrams dropped: limited or malformed");
        let stun_failed = counter("offhook_stun_failed", "Errors of the STUN socket");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let peers = gauge("offhook_peers", "Peers connected");
        let records = gauge("offhook_records", "Keys held");
        let record_bytes = gauge("offhook_record_bytes", "Bytes of records held for others");
        let proofs_waiting = gauge("offhook_proofs_waiting", "Records waiting to be checked");
        let registered = gauge("offhook_registered", "Terminals registered here");
        let dht_nodes = gauge("offhook_dht_nodes", "Nodes in the routing table");
        let warm = gauge("offhook_warm_peers", "Connections kept with nodes of the DHT");
        let requests_open = gauge("offhook_requests_open", "Requests to other nodes without an answer yet");
        let mailboxes = gauge("offhook_mailboxes", "Mailboxes kept");
        let (mail_bytes, mail_blobs) = (Family::default(), Family::default());
        registry.register("offhook_mail_bytes", "Bytes left in mailboxes", mail_bytes.clone());
        registry.register("offhook_mail_blobs", "Pieces of letters left in mailboxes", mail_blobs.clone());
        Self {
            registry: Mutex::new(registry),
            requests,
            mail,
            forwarded_bytes,
            stun_answered,
            stun_dropped,
            stun_failed,
            peers,
            records,
            record_bytes,
            proofs_waiting,
            registered,
            dht_nodes,
            requests_open,
            warm,
            mailboxes,
            mail_bytes,
            mail_blobs,
        }
    }

    /// Counts an answered request.
    pub(super) fn count(&self, request: &'static str, result: &'static str) {
        self.requests.get_or_create(&Outcome { request, result }).inc();
    }

    /// Counts an answered request of the mailbox protocol.
    pub(super) fn count_mail(&self, request: &'static str, result: &'static str) {
        self.mail.get_or_create(&Outcome { request, result }).inc();
    }

    /// Tells what the mailboxes hold.
    pub(super) fn tell_mail(&self, held: &MailGauges) {
        let int = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.mailboxes.set(int(held.mailboxes as u64));
        for (by, amount) in [("contacts", held.contacts), ("strangers", held.strangers)] {
            self.mail_bytes.get_or_create(&Leaver { by }).set(int(amount.bytes));
            self.mail_blobs.get_or_create(&Leaver { by }).set(int(amount.count));
        }
    }

    /// Enters more.
    pub(super) fn extend(&self, enter: impl FnOnce(&mut Registry)) {
        enter(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Everything in the OpenMetrics text format.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String cannot fail.
        let _ = text::encode(&mut out, &registry);
        out
    }
}
