//! Fetching a directory's descriptor from the network, by its key: while its web site is down, and to learn where it has moved.
//!
//! It is asked for as numbers are: by the terminal's directories, and by the terminal itself only without any that do that. Nobody but
//! the directory can sign one under its key, so the latest that anybody has is taken.

use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use offhook_proto::descriptor::{Descriptor, SignedDescriptor};
use offhook_proto::identity::DirectoryId;
use offhook_proto::number::RecordKey;

use super::client::Client;
use super::codec::{MAX_SOUGHT, Request, Response, Want};
use super::command::DhtAnswer;
use crate::clock::wall_clock;

/// How long everybody may take together.
const FETCH_TIME: Duration = Duration::from_secs(4);

/// How long one node may take.
const ASK_TIME: Duration = Duration::from_secs(3);

/// Directories asked.
const MAX_ASKED: usize = 8;

/// The latest descriptor of a directory that the network has; `None` if nobody who answered has one.
pub(super) async fn fetch(client: &Client, directory: &DirectoryId) -> Option<SignedDescriptor> {
    let key = Descriptor::key(directory);
    let mut latest = Latest { key, best: None };
    latest.offer(client.local_value(key).await);
    let neighbours = client.neighbours().await;
    let delegated = !neighbours.delegates.is_empty();
    let mut asked: FuturesUnordered<BoxFuture<'_, Vec<Vec<u8>>>> = FuturesUnordered::new();
    for holder in neighbours.directories.into_iter().take(MAX_ASKED) {
        asked.push(find(client, holder.peer, key).boxed());
    }
    for holder in neighbours.delegates.into_iter().take(MAX_ASKED) {
        asked.push(seek(client, holder.peer, key).boxed());
    }
    if !delegated {
        asked.push(query(client, key).boxed());
    }
    let all = async {
        while let Some(values) = asked.next().await {
            values.into_iter().for_each(|value| latest.offer(Some(value)));
        }
    };
    // Who is late is not waited for.
    let _ = tokio::time::timeout(FETCH_TIME, all).await;
    latest.best.map(|(_, signed)| signed)
}

/// The latest one so far.
struct Latest {
    key: RecordKey,
    best: Option<(Descriptor, SignedDescriptor)>,
}

impl Latest {
    fn offer(&mut self, value: Option<Vec<u8>>) {
        let Some(signed) = value.and_then(|value| SignedDescriptor::from_bytes(&value).ok()) else { return };
        let Ok(found) = signed.verify_stored(&self.key, wall_clock()) else { return };
        if self.best.as_ref().is_none_or(|(best, _)| found.is_newer_than(best)) {
            self.best = Some((found, signed));
        }
    }
}

async fn find(client: &Client, peer: libp2p::PeerId, key: RecordKey) -> Vec<Vec<u8>> {
    match client.request(peer, Vec::new(), Request::Find { key: key.0 }, ASK_TIME).await {
        Ok(Response::Found { set: Some(value), .. }) => vec![value],
        Ok(_) | Err(_) => Vec::new(),
    }
}

async fn seek(client: &Client, peer: libp2p::PeerId, key: RecordKey) -> Vec<Vec<u8>> {
    match client.request(peer, Vec::new(), Request::Seek { key: key.0, want: Want::All }, ASK_TIME).await {
        Ok(Response::Sought(sought)) => sought.sets.into_iter().take(MAX_SOUGHT).map(|set| set.set).collect(),
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// Asks the DHT from here. The first find is enough: every node keeps the latest that it has seen.
async fn query(client: &Client, key: RecordKey) -> Vec<Vec<u8>> {
    let mut answers = client.get(key, FETCH_TIME).await;
    let (mut values, until) = (Vec::new(), Instant::now() + FETCH_TIME);
    while let Ok(Some(answer)) = tokio::time::timeout_at(until.into(), answers.recv()).await {
        match answer {
            DhtAnswer::Record(value) => values.push(value),
            DhtAnswer::End { .. } => break,
        }
        if values.len() >= MAX_SOUGHT {
            break;
        }
    }
    values
}
