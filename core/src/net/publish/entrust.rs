//! Publishing through directories.
//!
//! One directory puts the records to the closest nodes; another one, which was not given them, then looks them up. So
//! a directory that only says it has published is found out, and the next one publishes. Where there is just one, it has
//! to be believed: without it the terminal cannot be reached anyway.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use libp2p::PeerId;
use offhook_proto::record::{self, RecordSet};
use tracing::debug;

use super::{ASK_TIME, Copy, ENOUGH, Job, MAX_DIRECTORIES, PublishError, Published, READ_BACK_AFTER};
use crate::clock::wall_clock;
use crate::net::codec::{MAX_SOUGHT, Refusal, Request, Response, SoughtSet, Want};
use crate::net::command::Holder;

/// How long a directory may take to verify, write, find the closest nodes and put.
const PUBLISH_TIME: Duration = Duration::from_secs(4);

/// What became of asking a directory to publish.
enum Answer {
    /// It says that it holds the records and has put them to so many nodes.
    Done {
        nodes: usize,
    },
    /// It does that for nobody.
    Unwilling,
    Refused(Refusal),
    /// It has too much to do.
    Busy,
    /// It did not answer.
    Failed,
}

/// What reading back brought.
#[derive(Clone, Copy, Default)]
struct Reading {
    holders: usize,
    /// Whether anybody answered.
    answered: bool,
}

/// What the directories that were asked to publish said.
#[derive(Default)]
struct Tally {
    unwilling: usize,
    reached: usize,
    incumbent: bool,
}

impl Tally {
    /// Counts an answer; to how many nodes the records were put, if they were.
    fn count(&mut self, answer: &Answer) -> Option<usize> {
        match answer {
            Answer::Failed => return None,
            Answer::Unwilling => self.unwilling += 1,
            Answer::Refused(Refusal::Incumbent) => self.incumbent = true,
            Answer::Done { .. } | Answer::Busy | Answer::Refused(_) => {}
        }
        self.reached += 1;
        match answer {
            Answer::Done { nodes } => Some(*nodes),
            // It holds newer records of ours.
            Answer::Refused(Refusal::Stale) => Some(0),
            Answer::Failed | Answer::Unwilling | Answer::Busy | Answer::Refused(_) => None,
        }
    }

    fn error(&self) -> PublishError {
        match self.reached {
            _ if self.incumbent => PublishError::Incumbent,
            0 => PublishError::Offline,
            reached => PublishError::NotHeld(reached),
        }
    }
}

/// Publishes through the directories; `None` if none of them does that for anybody. That a directory fails is no reason
/// to show this terminal's address to the nodes: it is tried again later.
pub(super) async fn publish(job: &Job, directories: &[Holder]) -> Option<Result<Published, PublishError>> {
    let directories = &directories[..directories.len().min(MAX_DIRECTORIES)];
    let (mut tally, mut done) = (Tally::default(), Vec::new());
    for publisher in directories {
        let Some(nodes) = tally.count(&ask(job, publisher.peer).await) else { continue };
        let others: Vec<Holder> =
            directories.iter().filter(|other| other.peer != publisher.peer).cloned().collect();
        let enough = (nodes as f64 * ENOUGH).ceil() as usize;
        let mut reading = read_back(job, &others, enough).await;
        if !reading.answered {
            reading = read_back(job, std::slice::from_ref(publisher), enough).await;
        }
        if reading.holders > 0 {
            return Some(Ok(with_copies(job, nodes, reading, others).await));
        }
        debug!("a directory has published nothing that others find");
        done.push(publisher.clone());
    }
    if tally.unwilling == directories.len() {
        return None;
    }
    // One side lies: those that say they published, or those that find nothing and did not publish it themselves. The
    // first are believed, or else any directory could keep a terminal off the network.
    let Reading { holders, .. } = read_back(job, &done, 1).await;
    Some(match holders {
        0 => Err(tally.error()),
        holders => Ok(Published { holders, asked: holders, directories: done.len() }),
    })
}

/// Asks the directories who holds the records.
pub(super) async fn held(job: &Job, directories: &[Holder]) -> Result<Published, PublishError> {
    let reading = read_back(job, directories, 1).await;
    match reading {
        Reading { answered: false, .. } => Err(PublishError::Offline),
        Reading { holders: 0, .. } => Err(PublishError::NotHeld(directories.len())),
        Reading { holders, .. } => Ok(Published { holders, asked: holders, directories: 0 }),
    }
}

async fn ask(job: &Job, directory: PeerId) -> Answer {
    let request = Request::Publish { key: job.key.0, set: job.value.clone() };
    match job.client.request(directory, Vec::new(), request, PUBLISH_TIME).await {
        Ok(Response::Published { nodes }) => Answer::Done { nodes: nodes as usize },
        Ok(Response::Refused { reason: Refusal::NotServing }) => Answer::Unwilling,
        Ok(Response::Refused { reason }) => {
            debug!(?reason, "a directory does not publish the records");
            Answer::Refused(reason)
        }
        Ok(response) => {
            debug!(?response, "a directory does not publish the records");
            Answer::Busy
        }
        Err(error) => {
            debug!(%error, "a directory does not publish the records");
            Answer::Failed
        }
    }
}

/// The other directories hold a copy, too, now that it need not be told from what they found.
async fn with_copies(job: &Job, nodes: usize, reading: Reading, others: Vec<Holder>) -> Published {
    let asked = nodes + 1 + others.len();
    let copies = job.store(others).await;
    let stored = copies.iter().filter(|(_, copy)| matches!(copy, Copy::Stored)).count();
    let directories = stored + 1;
    Published { holders: reading.holders.max(directories), asked, directories }
}

/// Has directories look the records up until enough nodes serve them, or until it is clear that they don't. The best
/// reading counts: that one directory finds nothing is no proof that others don't.
async fn read_back(job: &Job, readers: &[Holder], enough: usize) -> Reading {
    let mut best = Reading::default();
    for pause in READ_BACK_AFTER {
        tokio::time::sleep(pause).await;
        let mut asked: FuturesUnordered<_> = readers.iter().map(|reader| read(job, reader.peer)).collect();
        let mut answered = false;
        while let Some(holders) = asked.next().await {
            answered |= holders.is_some();
            best.holders = best.holders.max(holders.unwrap_or_default());
            if best.holders >= enough.max(1) {
                return Reading { answered: true, ..best };
            }
        }
        best.answered |= answered;
        if !answered {
            break;
        }
    }
    best
}

/// How many nodes hold the records, as a directory has it: the nodes that it asks, and itself. `None` if it holds none and
/// does not ask either.
async fn read(job: &Job, reader: PeerId) -> Option<usize> {
    let (key, client) = (job.key.0, &job.client);
    let find = client.request(reader, Vec::new(), Request::Find { key }, ASK_TIME);
    let seek = client.request(reader, Vec::new(), Request::Seek { key, want: Want::All }, ASK_TIME);
    let (found, sought) = tokio::join!(find, seek);
    let itself = match found {
        Ok(Response::Found { set: Some(bytes), .. }) => usize::from(job.is_in_bytes(&bytes)),
        Ok(_) | Err(_) => 0,
    };
    match sought {
        Ok(Response::Sought(sought)) => {
            let counts = sought.sets.iter().take(MAX_SOUGHT).map(|found| holders(job, found));
            Some(itself + counts.max().unwrap_or_default())
        }
        Ok(_) | Err(_) => (itself > 0).then_some(itself),
    }
}

/// How many nodes serve each of my records, or a newer one of the same signer.
fn holders(job: &Job, found: &SoughtSet) -> usize {
    let (Ok(sent), Ok(served)) =
        (RecordSet::decode(&found.set), record::check(&job.key, &found.set, wall_clock()))
    else {
        return 0;
    };
    if !job.is_in(&served) {
        return 0;
    }
    let mine = served
        .terminals
        .iter()
        .filter(|served| job.mine.terminals.iter().any(|mine| mine.terminal() == served.terminal()));
    // Counted in the order in which they were sent; checking may have sorted them.
    let places = mine.filter_map(|mine| sent.terminals.iter().position(|sent| *sent == mine.signed()));
    let counted = |place: usize| found.holders.get(place).copied().unwrap_or_default();
    let least = places.map(|place| counted(place + 1)).chain([counted(0)]).min();
    least.unwrap_or_default() as usize
}
