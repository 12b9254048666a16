//! Having the network hold the directory's descriptor.

use std::time::Duration;

use offhook::clock::wall_clock;
use offhook::net::Net;
use offhook_proto::descriptor::{Descriptor, SignedDescriptor};
use offhook_proto::identity::DirectoryKey;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error};

use crate::web::{self, Reach};

/// How often it is published though nothing has changed: nodes come and go.
const EVERY: Duration = Duration::from_secs(3_600);

/// First and longest pause after a failure; it doubles between.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// Publishes what a directory says of itself.
pub(crate) struct Announcer {
    pub(crate) net: Net,
    pub(crate) key: DirectoryKey,
    pub(crate) name: String,
    pub(crate) url: Option<String>,
    /// Where it is reached, as it changes.
    pub(crate) reach: watch::Receiver<Reach>,
}

impl Announcer {
    /// Publishes until the site ends.
    pub(crate) async fn run(mut self) {
        let mut last: Option<(Descriptor, SignedDescriptor)> = None;
        let mut pause = RETRY.0;
        // Before its listeners are up it could only say that it is nowhere.
        while self.reach.wait_for(|reach| !reach.nodes.is_empty()).await.is_ok() {
            let Some(signed) = self.sign(&mut last) else { return };
            let next = match self.net.publish_descriptor(&signed).await {
                Ok(published) => {
                    debug!(holders = published.holders, "the directory's descriptor is in the network");
                    pause = RETRY.0;
                    EVERY
                }
                Err(error) => {
                    debug!(%error, "the directory's descriptor is held here alone");
                    let next = pause;
                    pause = pause.saturating_mul(2).min(RETRY.1);
                    next
                }
            };
            let moved = self.reach.changed();
            // Whatever comes first: both mean that it is time.
            let _ = tokio::time::timeout_at(Instant::now() + next, moved).await;
        }
    }

    /// What there is to say now: the same as before, unless something is new or a tenth of its time is over.
    fn sign(&self, last: &mut Option<(Descriptor, SignedDescriptor)>) -> Option<SignedDescriptor> {
        let now = wall_clock();
        let reach = self.reach.borrow().clone();
        let fresh = web::describe(self.name.clone(), self.url.clone(), self.key.public(), reach, now);
        if let Some((said, signed)) = last
            && !said.renewal_due(now)
            && *said == (Descriptor { issued: said.issued, expires: said.expires, ..fresh.clone() })
        {
            return Some(signed.clone());
        }
        match SignedDescriptor::sign(&self.key, &fresh) {
            Ok(signed) => {
                *last = Some((fresh, signed.clone()));
                Some(signed)
            }
            Err(error) => {
                error!(%error, "the directory's descriptor cannot be signed");
                None
            }
        }
    }
}
