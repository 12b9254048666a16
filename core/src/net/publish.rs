//! Publishing this terminal's records, and finding out who really holds them.
//!
//! A terminal leaves it to one of its directories to put them to the nodes closest to the key ([`entrust`]): those would
//! see its address otherwise, and it is they who know the number. Only a terminal without any directory that does so, and
//! a serving node, turn to the nodes themselves ([`alone`]).
//!
//! A Kademlia node acknowledges a put before it looks at it, and a directory may say what it likes, so nothing but
//! reading back proves anything.

mod alone;
mod descriptor;
mod entrust;

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use offhook_proto::descriptor::DescriptorError;
use offhook_proto::number::RecordKey;
use offhook_proto::record::{self, CheckedSet, RecordError};
use thiserror::Error;
use tracing::debug;

use super::client::Client;
use super::codec::{Refusal, Request, Response};
use super::command::Holder;
use super::store::Refused;
use crate::clock::wall_clock;

/// How long one node may take to answer.
const ASK_TIME: Duration = Duration::from_secs(3);

/// Pauses before reading back: the holders need a moment for the slow proof, more when they are busy.
const READ_BACK_AFTER: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(150), Duration::from_millis(400), Duration::from_millis(1_000)];

/// Directories and servers that publish, one after another until one has, and that a copy is stored with.
const MAX_DIRECTORIES: usize = 8;

/// Enough of the nodes asked hold it: no need to ask the rest again.
const ENOUGH: f64 = 0.8;

/// Who holds the records now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Nodes that serve them, found by reading back.
    pub holders: usize,
    /// Nodes that were given them.
    pub asked: usize,
    /// How many of the holders are directories.
    pub directories: usize,
}

/// Why nobody holds the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The records are not acceptable to anybody.
    #[error("the records are not valid: {0}")]
    Invalid(RecordError),
    /// The descriptor is not acceptable to anybody.
    #[error("the descriptor is not valid: {0}")]
    Descriptor(DescriptorError),
    /// The number's proof does not fit.
    #[error("the number's proof does not fit")]
    Proof,
    /// The terminal's own record, or its certificate, is not valid at this time.
    #[error("the terminal's record or certificate is not valid by this host's clock")]
    Untimely,
    /// They could not be written to this terminal's own disk. They are held in memory.
    #[error("the records could not be written")]
    Disk,
    /// Somebody else holds the number.
    #[error("the number belongs to somebody else")]
    Incumbent,
    /// No node could be reached. They are held here and can be published later.
    #[error("no node could be reached")]
    Offline,
    /// Nodes were reached, but none serves the records.
    #[error("none of {0} nodes holds the records")]
    NotHeld(usize),
    /// This side has been shut down.
    #[error("the network is shut down")]
    Stopped,
}

pub(super) use descriptor::publish as publish_descriptor;

/// A publication under way.
struct Job {
    client: Client,
    key: RecordKey,
    /// What is to be held.
    mine: CheckedSet,
    /// What is sent: the same, and newer records of the account that this node knew already.
    value: Vec<u8>,
}

/// Holds the records here, and nowhere else.
pub(super) async fn hold(client: &Client, key: RecordKey, set: Vec<u8>) -> Result<(), PublishError> {
    client.own(key, set).await.ok_or(PublishError::Stopped)?.map_err(|refused| match refused {
        Refused::Record(RecordError::Incumbent) => PublishError::Incumbent,
        Refused::Record(error) => PublishError::Invalid(error),
        Refused::Descriptor(error) => PublishError::Descriptor(error),
        Refused::Proof => PublishError::Proof,
        // Own records need no room.
        Refused::Full | Refused::Disk => PublishError::Disk,
    })
}

/// Has the records held where they belong and reads them back.
pub(super) async fn publish(
    client: &Client,
    key: RecordKey,
    set: Vec<u8>,
) -> Result<Published, PublishError> {
    let mine = record::check(&key, &set, wall_clock()).map_err(PublishError::Invalid)?;
    match hold(client, key, set).await {
        // It is held all the same, and the others have disks of their own.
        Ok(()) | Err(PublishError::Disk) => {}
        Err(error) => return Err(error),
    }
    // What this terminal holds by now: newer records of its own may have been merged in.
    let (held, _) = client.local(key).await.ok_or(PublishError::Stopped)?;
    let job = Job { client: client.clone(), key, mine, value: held.to_set().encode() };
    let neighbours = client.neighbours().await;
    match entrust::publish(&job, &neighbours.delegates).await {
        Some(result) => result,
        None => alone::publish(&job, neighbours.directories).await,
    }
}

/// Asks who would hold the records whether they do, without giving them anything.
pub(super) async fn held(client: &Client, key: RecordKey, set: &[u8]) -> Result<Published, PublishError> {
    let mine = record::check(&key, set, wall_clock()).map_err(PublishError::Invalid)?;
    let job = Job { client: client.clone(), key, mine, value: Vec::new() };
    let neighbours = client.neighbours().await;
    if neighbours.delegates.is_empty() {
        alone::held(&job, neighbours.directories).await
    } else {
        entrust::held(&job, &neighbours.delegates).await
    }
}

/// What a directory that was asked to hold a copy said.
enum Copy {
    Stored,
    Refused(Refusal),
    Unknown,
}

impl Job {
    /// Has directories store the records. They answer when the records are verified and on disk.
    async fn store(&self, directories: Vec<Holder>) -> Vec<(Holder, Copy)> {
        let ask = |holder: Holder| async move {
            let request = Request::Store { key: self.key.0, set: self.value.clone() };
            let asked = self.client.request(holder.peer, holder.addrs.clone(), request, ASK_TIME);
            let copy = match asked.await {
                Ok(Response::Stored) => Copy::Stored,
                Ok(Response::Refused { reason }) => {
                    debug!(?reason, "a directory does not store the records");
                    Copy::Refused(reason)
                }
                Ok(response) => {
                    debug!(?response, "a directory does not store the records");
                    Copy::Unknown
                }
                Err(error) => {
                    debug!(%error, "a directory does not store the records");
                    Copy::Unknown
                }
            };
            (holder, copy)
        };
        let asked: FuturesUnordered<_> = directories.into_iter().take(MAX_DIRECTORIES).map(ask).collect();
        asked.collect().await
    }

    /// Whether what a node serves contains my records, or newer ones of the same signers.
    fn is_in(&self, served: &CheckedSet) -> bool {
        let account = match (&self.mine.account, &served.account) {
            (Some(mine), Some(served)) => {
                mine.record().identity == served.record().identity && served.record().seq >= mine.record().seq
            }
            (Some(_), None) => false,
            (None, _) => true,
        };
        account
            && self.mine.terminals.iter().all(|mine| {
                served.terminals.iter().any(|served| {
                    served.terminal() == mine.terminal() && served.record().seq >= mine.record().seq
                })
            })
    }

    /// The same of encoded records, unchecked.
    fn is_in_bytes(&self, bytes: &[u8]) -> bool {
        record::check(&self.key, bytes, wall_clock()).is_ok_and(|served| self.is_in(&served))
    }
}
