//! Counters of the relay for Prometheus.

use offhook_proto::relay::RelayClass;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Class {
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// See the [module](self).
#[derive(Clone, Default)]
pub(crate) struct RelayMetrics {
    allocations: Family<Class, Gauge>,
    allocated: Family<Class, Counter>,
    relayed_packets: Counter,
    relayed_bytes: Counter,
    refused: Family<Reason, Counter>,
    dropped: Family<Reason, Counter>,
    /// STUN binding requests answered.
    pub(super) bindings: Counter,
    /// Packets of the courier's answered.
    pub(super) couriered: Counter,
}

impl RelayMetrics {
    /// Enters everything in a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "offhook_relay_allocations",
            "Allocations of the media relay",
            self.allocations.clone(),
        );
        registry.register("offhook_relay_allocated", "Allocations made so far", self.allocated.clone());
        registry.register("offhook_relay_packets", "Packets relayed", self.relayed_packets.clone());
        registry.register("offhook_relay_bytes", "Bytes relayed", self.relayed_bytes.clone());
        registry.register("offhook_relay_refused", "Requests refused, by reason", self.refused.clone());
        registry.register("offhook_relay_dropped", "Datagrams dropped, by reason", self.dropped.clone());
        registry.register("offhook_relay_bindings", "STUN binding requests answered", self.bindings.clone());
        registry.register(
            "offhook_courier_packets",
            "Packets that the courier answered",
            self.couriered.clone(),
        );
    }

    pub(super) fn allocated(&self, class: RelayClass) {
        self.allocations.get_or_create(&label(class)).inc();
        self.allocated.get_or_create(&label(class)).inc();
    }

    pub(super) fn ended(&self, class: RelayClass) {
        self.allocations.get_or_create(&label(class)).dec();
    }

    pub(super) fn relayed(&self, bytes: usize) {
        self.relayed_packets.inc();
        self.relayed_bytes.inc_by(bytes as u64);
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn dropped(&self, reason: &'static str) {
        self.dropped.get_or_create(&Reason { reason }).inc();
    }
}

fn label(class: RelayClass) -> Class {
    let class = match class {
        RelayClass::Full => "full",
        RelayClass::Guest => "guest",
    };
    Class { class }
}
