//! Publishing without anybody's help.

use futures::stream::{FuturesUnordered, StreamExt};

use super::{ASK_TIME, Copy, ENOUGH, Job, PublishError, Published, READ_BACK_AFTER};
use crate::net::codec::{Refusal, Request, Response};
use crate::net::command::{Command, Holder};

/// Nodes that a record is put to beside the directories: Kademlia's k.
pub(super) const MAX_HOLDERS: usize = 20;

/// Puts the records to the closest nodes and the directories and reads them back.
pub(super) async fn publish(job: &Job, directories: Vec<Holder>) -> Result<Published, PublishError> {
    let dht = async {
        let closest = closest(job).await;
        let to = closest.iter().map(|holder| holder.peer).collect();
        // A stopped driver is noticed when reading back.
        let put = Command::Put { key: job.key, value: job.value.clone(), to };
        let _ = job.client.commands.send(put).await;
        closest
    };
    let (stored, closest) = tokio::join!(job.store(directories), dht);
    let refused = stored.iter().any(|(_, copy)| matches!(copy, Copy::Refused(Refusal::Incumbent)));
    let directories: Vec<_> = stored.into_iter().map(|(holder, _)| holder).collect();
    let result = read_back(job, directories, closest).await;
    match result {
        Err(PublishError::NotHeld(_)) if refused => Err(PublishError::Incumbent),
        Ok(_) | Err(_) => result,
    }
}

/// Asks who would hold the records.
pub(super) async fn held(job: &Job, directories: Vec<Holder>) -> Result<Published, PublishError> {
    read_back(job, directories, closest(job).await).await
}

async fn closest(job: &Job) -> Vec<Holder> {
    let mut closest = job.client.closest(job.key).await;
    closest.truncate(MAX_HOLDERS);
    closest
}

/// Reads back until enough nodes serve the records, or until it is clear that they don't.
async fn read_back(
    job: &Job,
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
            let request = Request::Find { key: job.key.0 };
            let answer = job.client.request(holder.peer, holder.addrs.clone(), request, ASK_TIME).await;
            (holder, answer)
        };
        let mut answers: FuturesUnordered<_> = missing.drain(..).map(ask).collect();
        while let Some((holder, answer)) = answers.next().await {
            match answer {
                Ok(Response::Found { set: Some(bytes), .. }) if job.is_in_bytes(&bytes) => {
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
