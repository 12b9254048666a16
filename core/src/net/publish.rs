//! Publishing this terminal's records, and finding out who really holds them.
//!
//! A Kademlia node acknowledges a put before it looks at it, so nothing but reading back proves anything.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
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

/// Nodes that a record is put to beside the directories: Kademlia's k.
const MAX_HOLDERS: usize = 20;

/// Directories and servers that a copy is stored with.
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

/// Holds the records here, and nowhere else.
pub(super) async fn hold(client: &Client, key: RecordKey, set: Vec<u8>) -> Result<(), PublishError> {
    client.own(key, set).await.ok_or(PublishError::Stopped)?.map_err(|refused| match refused {
        Refused::Record(RecordError::Incumbent) => PublishError::Incumbent,
        Refused::Record(error) => PublishError::Invalid(error),
        Refused::Proof => PublishError::Proof,
        // Own records need no room.
        Refused::Full | Refused::Disk => PublishError::Disk,
    })
}

/// Puts the records to the closest nodes and the directories and reads them back.
pub(super) async fn publish(
    client: &Client,
    key: RecordKey,
    set: Vec<u8>,
) -> Result<Published, PublishError> {
    let checked = record::check(&key, &set, wall_clock()).map_err(PublishError::Invalid)?;
    match hold(client, key, set).await {
        // It is held all the same, and the others have disks of their own.
        Ok(()) | Err(PublishError::Disk) => {}
        Err(error) => return Err(error),
    }
    // What this terminal holds by now: newer records of its own may have been merged in.
    let (mine, _) = client.local(key).await.ok_or(PublishError::Stopped)?;
    let value = mine.to_set().encode();
    let directories = async {
        let neighbours = client.neighbours().await;
        store(client, key, &value, neighbours.directories).await
    };
    let dht = async {
        let mut closest = client.closest(key).await;
        closest.truncate(MAX_HOLDERS);
        let to = closest.iter().map(|holder| holder.peer).collect();
        // A stopped driver is noticed when reading back.
        let _ = client.commands.send(super::command::Command::Put { key, value: value.clone(), to }).await;
        closest
    };
    let (stored, closest) = tokio::join!(directories, dht);
    let refused = stored.iter().any(|(_, refusal)| *refusal == Some(Refusal::Incumbent));
    let directories: Vec<_> = stored.into_iter().map(|(holder, _)| holder).collect();
    let result = read_back(client, key, &checked, directories, closest).await;
    match result {
        Err(PublishError::NotHeld(_)) if refused => Err(PublishError::Incumbent),
        Ok(_) | Err(_) => result,
    }
}

/// Asks who would hold the records whether they do, without giving them anything.
pub(super) async fn held(client: &Client, key: RecordKey, set: &[u8]) -> Result<Published, PublishError> {
    let checked = record::check(&key, set, wall_clock()).map_err(PublishError::Invalid)?;
    let neighbours = client.neighbours().await;
    let mut closest = client.closest(key).await;
    closest.truncate(MAX_HOLDERS);
    read_back(client, key, &checked, neighbours.directories, closest).await
}

/// Has the directories store the records. They answer when the records are verified and on disk.
async fn store(
    client: &Client,
    key: RecordKey,
    value: &[u8],
    directories: Vec<Holder>,
) -> Vec<(Holder, Option<Refusal>)> {
    let ask = |holder: Holder| async move {
        let request = Request::Store { key: key.0, set: value.to_vec() };
        let answer = client.request(holder.peer, holder.addrs.clone(), request, ASK_TIME).await;
        let refusal = match answer {
            Ok(Response::Refused { reason }) => Some(reason),
            Ok(
                Response::Welcome { .. }
                | Response::Delivered
                | Response::NotConnected
                | Response::Found { .. }
                | Response::Stored
                | Response::Busy,
            )
            | Err(_) => None,
        };
        if let Some(reason) = refusal {
            debug!(?reason, "a directory does not store the records");
        }
        (holder, refusal)
    };
    let asked: FuturesUnordered<_> = directories.into_iter().take(MAX_DIRECTORIES).map(ask).collect();
    asked.collect().await
}

/// Reads back until enough nodes serve the records, or until it is clear that they don't.
async fn read_back(
    client: &Client,
    key: RecordKey,
    mine: &CheckedSet,
    directories: Vec<Holder>,
    closest: Vec<Holder>,
) -> Result<Published, PublishError> {
    let is_directory = |holder: &Holder| directories.iter().any(|known| known.peer == holder.peer);
    let mut missing: Vec<_> = closest.iter().filter(|holder| !is_directory(holder)).cloned().collect();
    missing.extend(directories.iter().cloned());
    let asked = missing.len();
    let (mut published, mut reached) = (Published { holders: 0, asked, directories: 0 }, 0);
    let enough = (asked as f64 * ENOUGH).ceil() as usize;
    for pause in READ_BACK_AFTER {
        tokio::time::sleep(pause).await;
        let ask = |holder: Holder| async move {
            let request = Request::Find { key: key.0 };
            let answer = client.request(holder.peer, holder.addrs.clone(), request, ASK_TIME).await;
            (holder, answer)
        };
        let mut answers: FuturesUnordered<_> = missing.drain(..).map(ask).collect();
        while let Some((holder, answer)) = answers.next().await {
            match answer {
                Ok(Response::Found { set: Some(bytes), .. }) if serves(&key, &bytes, mine) => {
                    published.holders += 1;
                    published.directories += usize::from(is_directory(&holder));
                    reached += 1;
                }
                Ok(_) => {
                    reached += 1;
                    missing.push(holder);
                }
                // Gone: no use in asking it again.
                Err(_) => {}
            }
        }
        if published.holders >= enough || missing.is_empty() {
            break;
        }
    }
    match (published.holders, reached) {
        (0, 0) => Err(PublishError::Offline),
        (0, reached) => Err(PublishError::NotHeld(reached)),
        (_, _) => Ok(published),
    }
}

/// Whether what a node serves contains my records, or newer ones of the same signers.
fn serves(key: &RecordKey, bytes: &[u8], mine: &CheckedSet) -> bool {
    let Ok(served) = record::check(key, bytes, wall_clock()) else { return false };
    let account = match (&mine.account, &served.account) {
        (Some(mine), Some(served)) => {
            mine.record().identity == served.record().identity && served.record().seq >= mine.record().seq
        }
        (Some(_), None) => false,
        (None, _) => true,
    };
    account
        && mine.terminals.iter().all(|mine| {
            served.terminals.iter().any(|served| {
                served.terminal() == mine.terminal() && served.record().seq >= mine.record().seq
            })
        })
}
