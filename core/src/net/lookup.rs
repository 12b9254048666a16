//! Looking a number up: the directories, the local network and the DHT, all at once.
//!
//! A terminal has its directories ask the DHT, all of them at the same time: its nodes would see the terminal's address
//! otherwise, and the directories are connected with many of them already. It asks the DHT itself only when it has no
//! directory that does so. A serving node always asks the DHT itself.
//!
//! Nobody's word is taken: each answer is checked, its slow proof included, and passed on as soon as it brings something
//! new. One second after the first find the search ends; without a find it ends when everybody has answered.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::Stream;
use offhook_proto::number::RecordKey;
use offhook_proto::record::CheckedSet;
use offhook_proto::wire::UnixMillis;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::client::Client;
use super::command::Holder;
use search::Search;

mod search;

/// Where a record set came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Held here.
    Local,
    /// A directory that this terminal is registered with, or another configured entry point.
    Directory,
    /// Another connected peer, one of the local network, or one named for this number.
    Peer,
    /// A node of the DHT, asked by this node or by one of its directories.
    Dht,
}

/// What a look-up brings.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "events are moved once, and all but the last are finds")]
pub enum LookupEvent {
    /// Verified records: signatures, expiry, certificates and the slow proof. Each event holds all that is known of
    /// that identity so far. Two events may be of different identities: then two keys claim the number.
    Found {
        /// The records; has an account record.
        set: CheckedSet,
        /// Who brought what is new.
        origin: Origin,
        /// When that node first saw this identity under the number. Known of all but the DHT's nodes.
        since: Option<UnixMillis>,
    },
    /// The search is over; the last event.
    Finished {
        /// Whether everybody who should know had a say. If not, "nothing found" does not mean "no such number".
        complete: bool,
        /// How many nodes answered, whatever they answered; of the DHT's as many as a directory says.
        answered: usize,
    },
}

/// A look-up under way. Drop it to end it.
pub struct Lookup {
    events: mpsc::Receiver<LookupEvent>,
}

impl Lookup {
    /// Starts once `permit` comes, and takes no longer than `time`. `named` are nodes that are said to know this number.
    pub(super) fn start(
        client: Client,
        key: RecordKey,
        named: Vec<Holder>,
        time: Duration,
        permit: impl Future<Output = Option<OwnedSemaphorePermit>> + Send + 'static,
    ) -> Self {
        let (sender, events) = mpsc::channel(8);
        tokio::spawn(async move {
            // Waits while too many look-ups run; none of them takes longer than `time`.
            let Some(_permit) = permit.await else { return };
            let gone = sender.clone();
            let search = Search::new(client, key, sender);
            tokio::select! {
                () = search.run(named, time) => {}
                // Nobody listens any more.
                () = gone.closed() => {}
            }
        });
        Self { events }
    }

    /// The next event; `None` after [`LookupEvent::Finished`], or when the network has been shut down.
    pub async fn next(&mut self) -> Option<LookupEvent> {
        self.events.recv().await
    }
}

impl Stream for Lookup {
    type Item = LookupEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LookupEvent>> {
        self.events.poll_recv(cx)
    }
}
