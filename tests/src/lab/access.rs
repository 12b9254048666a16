//! Access links into the internet of a lab.

use super::cloud::{LinkCounters, PortId};
use super::{Impairment, Lab};

/// An access link into the internet of the lab.
#[derive(Clone, Debug)]
pub struct Link {
    pub(super) lab: Lab,
    pub(super) port: PortId,
}

impl Link {
    /// Changes both directions, at once and while packets are under way.
    pub fn set(&self, impairment: &Impairment) {
        self.lab.cloud().impair(self.port, Some(impairment), Some(impairment));
    }

    /// Changes the direction from the host into the internet.
    pub fn set_up(&self, impairment: &Impairment) {
        self.lab.cloud().impair(self.port, Some(impairment), None);
    }

    /// Changes the direction from the internet to the host.
    pub fn set_down(&self, impairment: &Impairment) {
        self.lab.cloud().impair(self.port, None, Some(impairment));
    }

    /// Cuts both directions until what this answers is dropped; then the link is as before.
    pub fn cut(&self) -> Outage {
        self.lab.cloud().cut(self.port, true);
        Outage { link: self.clone() }
    }

    /// What has passed so far.
    pub fn counters(&self) -> LinkCounters {
        self.lab.cloud().counters(self.port)
    }
}

/// An access link is cut as long as this is held.
#[derive(Debug)]
#[must_use = "the outage ends when this is dropped"]
pub struct Outage {
    link: Link,
}

impl Drop for Outage {
    fn drop(&mut self) {
        self.link.lab.cloud().cut(self.link.port, false);
    }
}
