//! How many streams other nodes may have open here: what bounds the bytes of requests that are being read.
//!
//! A stream that another node opens costs memory until it is done: up to 16 KiB of a message that is being read, about as
//! much again in buffers of the protocols and transports. Every protocol bounds its own messages, but not how many
//! there are at a time; this does, for all protocols together, where streams come in:
//!
//! * one connection may have as many streams open as this node's [`Standing`] with it permits;
//! * the first [`FREE`] of each connection cost nothing more; the others are taken from what its source (/24 or /64) may
//!   have, and from what there is altogether.
//!
//! A connection that has all it may have waits, where its transport can make the other end wait (QUIC's flow control
//! bounds what has come in by then). Yamux can't, at less than 256 KiB a stream; there, and when the source or all
//! together have used up theirs, the stream is reset, and the request fails at the other end. So is a stream of anybody but
//! friends on which nothing comes for [`SILENT`], whose answer is not taken within [`STALLED`], or which has had its
//! [`ANSWERS`] of this minute and asks for more: QUIC takes what is written long before it is sent.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite, FutureExt};
use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use tokio::time::{Instant, Sleep, sleep};

use super::addr::{self, Source};

/// Streams that a friend may have open on one connection.
pub(super) const FRIEND: usize = 32;

/// How a node stands with this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody in particular.
    Stranger,
    /// Its connection is kept while it is idle, which it can bring about by itself.
    Kept,
    /// One of the two is reached through the other.
    Friend,
}

impl Standing {
    /// Streams that the node may have open on one connection.
    pub(super) const fn streams(self) -> usize {
        match self {
            Self::Stranger => 8,
            Self::Kept => 16,
            Self::Friend => FRIEND,
        }
    }
}

/// Streams of each connection that are not counted further: a probe, and a request at a time.
const FREE: usize = 2;

/// A stream on which nothing has come for so long is reset, unless it is a friend's. Longer than a call rings (45 s), should
/// its signalling go through a circuit.
const SILENT: Duration = Duration::from_secs(60);

/// The same for one whose other end does not read: what it has sent meanwhile, up to 256 KiB over yamux, waits here.
const STALLED: Duration = Duration::from_secs(5);

/// What may be written in a minute to a stream that somebody else has opened: the longest message, and its frames. Protocols that
/// stay on a stream (identify's, the probe's) write far less. A circuit has limits of its own.
const ANSWERS: usize = 20 * 1024;
const ANSWERS_TIME: Duration = Duration::from_secs(60);

/// What multistream-select writes first on a stream that the other end has opened as a circuit, and on no other (multiformats,
/// multistream-select; libp2p specifications, relay/circuit-v2.md): lines, each with its length in front.
const CIRCUIT: &[u8] = b"\x13/multistream/1.0.0\n\x20/libp2p/circuit/relay/0.2.0/hop\n";

/// The same on a stream of the mailbox protocol, of a node that keeps mailboxes; others do not agree to more than a notice.
const MAIL: &[u8] = b"\x13/multistream/1.0.0\n\x13/offhook/mailbox/1\n";
/// What may be written there in a minute: a blob.
const MAIL_ANSWERS: usize = offhook_proto::mailbox::protocol::MAX_MESSAGE + 1024;

/// Counts streams. Clones share it.
#[derive(Clone)]
pub(super) struct Budget(Arc<Mutex<Counts>>);

struct Counts {
    max_total: usize,
    max_per_source: usize,
    /// Those that are no strangers.
    standings: HashMap<PeerId, Standing>,
    connections: HashMap<u64, Connection>,
    sources: HashMap<Source, usize>,
    total: usize,
    next: u64,
}

struct Connection {
    peer: PeerId,
    source: Source,
    /// Whether the other end can be made to wait.
    patient: bool,
    open: usize,
    waiting: Option<Waker>,
}

impl Counts {
    fn standing(&self, peer: &PeerId) -> Standing {
        self.standings.get(peer).copied().unwrap_or(Standing::Stranger)
    }

    /// Counts a stream; `false` if there may be none.
    fn open(&mut self, id: u64) -> bool {
        let Some(connection) = self.connections.get(&id) else { return false };
        let (open, source) = (connection.open, connection.source);
        if open >= self.standing(&connection.peer).streams() {
            return false;
        }
        if open >= FREE {
            let of_source = self.sources.entry(source).or_default();
            if *of_source >= self.max_per_source || self.total >= self.max_total {
                return false;
            }
            *of_source += 1;
            self.total += 1;
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.open += 1;
        }
        true
    }

    fn close(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.open -= 1;
        let (counted, source) = (usize::from(connection.open >= FREE), connection.source);
        if let Some(waker) = connection.waiting.take() {
            waker.wake();
        }
        self.give_back(source, counted);
    }

    /// The connection has gone, with all its streams.
    fn leave(&mut self, id: u64) {
        if let Some(connection) = self.connections.remove(&id) {
            self.give_back(connection.source, connection.open.saturating_sub(FREE));
        }
    }

    fn give_back(&mut self, source: Source, count: usize) {
        self.total -= count;
        if let Some(of_source) = self.sources.get_mut(&source) {
            *of_source -= count;
            if *of_source == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

impl Budget {
    /// `total` streams beyond the first ones of each connection, of which one source may have `per_source`.
    pub(super) fn new(total: usize, per_source: usize) -> Self {
        Self(Arc::new(Mutex::new(Counts {
            max_total: total,
            max_per_source: per_source,
            standings: HashMap::new(),
            connections: HashMap::new(),
            sources: HashMap::new(),
            total: 0,
            next: 0,
        })))
    }

    /// How this peer stands from now on.
    pub(super) fn regard(&self, peer: PeerId, standing: Standing) {
        let standings = &mut self.lock().standings;
        match standing {
            Standing::Stranger => standings.remove(&peer),
            Standing::Kept | Standing::Friend => standings.insert(peer, standing),
        };
    }

    /// Counts the streams of a new connection.
    pub(super) fn count(&self, peer: PeerId, endpoint: &ConnectedPoint, muxer: StreamMuxerBox) -> Counted {
        let remote = match endpoint {
            ConnectedPoint::Dialer { address, .. } => address,
            ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr,
        };
        let (source, patient) = (Source::of_addr(remote), addr::is_quic(remote) && !addr::is_relayed(remote));
        let mut counts = self.lock();
        counts.next += 1;
        let id = counts.next;
        counts.connections.insert(id, Connection { peer, source, patient, open: 0, waiting: None });
        drop(counts);
        Counted { muxer, share: Share { budget: self.clone(), id } }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's part of the budget.
struct Share {
    budget: Budget,
    id: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.lock().leave(self.id);
    }
}

/// A connection whose streams are counted.
pub(super) struct Counted {
    muxer: StreamMuxerBox,
    share: Share,
}

impl Counted {
    /// Whether the other end has to wait until one of its streams is done.
    fn must_wait(&self, cx: &Context<'_>) -> bool {
        let mut counts = self.share.budget.lock();
        let Some(connection) = counts.connections.get(&self.share.id) else { return false };
        let wait = connection.patient && connection.open >= counts.standing(&connection.peer).streams();
        if wait && let Some(connection) = counts.connections.get_mut(&self.share.id) {
            connection.waiting = Some(cx.waker().clone());
        }
        wait
    }
}

impl StreamMuxer for Counted {
    type Substream = CountedStream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<CountedStream>> {
        if self.must_wait(cx) {
            return Poll::Pending;
        }
        let stream = ready!(Pin::new(&mut self.muxer).poll_inbound(cx))?;
        let (budget, id) = (self.share.budget.clone(), self.share.id);
        if budget.lock().open(id) {
            return Poll::Ready(Ok(CountedStream::new(stream, Some(Permit { budget, id }))));
        }
        // To drop a stream is to reset it. There may be more of them.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<CountedStream>> {
        let stream = ready!(Pin::new(&mut self.muxer).poll_outbound(cx))?;
        Poll::Ready(Ok(CountedStream::new(stream, None)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.muxer).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.muxer).poll(cx)
    }
}

/// The right to one stream.
struct Permit {
    budget: Budget,
    id: u64,
}

impl Permit {
    fn is_friends(&self) -> bool {
        let counts = self.budget.lock();
        let connection = counts.connections.get(&self.id);
        connection.is_some_and(|connection| counts.standing(&connection.peer) == Standing::Friend)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.lock().close(self.id);
    }
}

/// A stream, counted if the other end has opened it.
pub(super) struct CountedStream {
    stream: SubstreamBox,
    permit: Option<Permit>,
    silent: Patience,
    stalled: Patience,
    answers: Answers,
}

/// What has been written to a stream.
struct Answers {
    /// Bytes since when.
    since: Option<Instant>,
    bytes: usize,
    /// What is still to be written before it is known to be a circuit; `None` if it is none.
    awaited: Option<&'static [u8]>,
    /// The same for a stream of the mailbox protocol.
    mail: Option<&'static [u8]>,
}

impl Answers {
    const fn new() -> Self {
        Self { since: None, bytes: 0, awaited: Some(CIRCUIT), mail: Some(MAIL) }
    }

    /// How many bytes may be written now.
    fn room(&mut self, now: Instant) -> usize {
        if self.since.is_none_or(|since| now - since >= ANSWERS_TIME) {
            (self.since, self.bytes) = (Some(now), 0);
        }
        match (self.awaited, self.mail) {
            (Some(&[]), _) => usize::MAX,
            (_, Some(&[])) => MAIL_ANSWERS.saturating_sub(self.bytes),
            (_, _) => ANSWERS.saturating_sub(self.bytes),
        }
    }

    /// Counts what has been written.
    fn wrote(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        for awaited in [&mut self.awaited, &mut self.mail] {
            *awaited = awaited.and_then(|awaited| {
                let head = bytes.len().min(awaited.len());
                awaited.strip_prefix(bytes.get(..head)?)
            });
        }
    }
}

/// When waiting ends; only while somebody waits.
type Patience = Option<Pin<Box<Sleep>>>;

impl CountedStream {
    fn new(stream: SubstreamBox, permit: Option<Permit>) -> Self {
        Self { stream, permit, silent: None, stalled: None, answers: Answers::new() }
    }

    /// Passes on what came of writing, unless it has been waited for too long.
    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        waited(cx, result, self.permit.as_ref(), &mut self.stalled, STALLED)
    }
}

/// Passes on what came of an operation, unless anybody but a friend has let it wait for longer than `most`.
fn waited<T>(
    cx: &mut Context<'_>,
    result: Poll<io::Result<T>>,
    permit: Option<&Permit>,
    patience: &mut Patience,
    most: Duration,
) -> Poll<io::Result<T>> {
    let Some(permit) = permit else { return result };
    if result.is_ready() {
        *patience = None;
        return result;
    }
    let patience = patience.get_or_insert_with(|| Box::pin(sleep(most)));
    while patience.poll_unpin(cx).is_ready() {
        if !permit.is_friends() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        patience.as_mut().reset(Instant::now() + most);
    }
    Poll::Pending
}

impl AsyncRead for CountedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        waited(cx, result, this.permit.as_ref(), &mut this.silent, SILENT)
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let room = match &this.permit {
            Some(permit) if !permit.is_friends() => this.answers.room(Instant::now()),
            Some(_) | None => usize::MAX,
        };
        if room == 0 && !buf.is_empty() {
            // Nothing is asked to wake it when there is room again: it is given up long before.
            return self.written(cx, Poll::Pending);
        }
        let buf = buf.get(..room).unwrap_or(buf);
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(length)) = &result {
            this.answers.wrote(buf.get(..*length).unwrap_or(buf));
        }
        self.written(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, result)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_close(cx);
        self.written(cx, result)
    }
}

#[cfg(test)]
mod tests {
    use futures::AsyncWriteExt;

    use super::*;

    impl Budget {
        fn join(&self, peer: PeerId, net: u8) -> u64 {
            let mut counts = self.lock();
            counts.next += 1;
            let id = counts.next;
            let connection =
                Connection { peer, source: Source::V4([192, 0, net]), patient: true, open: 0, waiting: None };
            counts.connections.insert(id, connection);
            id
        }

        fn open_all(&self, id: u64) -> usize {
            (0..100).take_while(|_| self.lock().open(id)).count()
        }

        fn is_empty(&self) -> bool {
            let counts = self.lock();
            counts.total == 0 && counts.sources.is_empty()
        }
    }

    #[test]
    fn a_stranger_has_few_streams_and_a_friend_more() {
        let (budget, peer) = (Budget::new(1_000, 1_000), PeerId::random());
        let id = budget.join(peer, 1);
        assert_eq!(budget.open_all(id), 8);
        budget.lock().close(id);
        assert_eq!(budget.open_all(id), 1);
        budget.regard(peer, Standing::Kept);
        assert_eq!(budget.open_all(id), 8);
        budget.regard(peer, Standing::Friend);
        assert_eq!(budget.open_all(id), 16);
        budget.regard(peer, Standing::Stranger);
        assert_eq!(budget.open_all(id), 0);
        for _ in 0..FRIEND {
            budget.lock().close(id);
        }
        assert!(budget.is_empty());
        assert_eq!(budget.open_all(id), 8);
        budget.lock().leave(id);
        assert!(budget.is_empty());
        budget.lock().close(id);
        assert!(!budget.lock().open(id));
    }

    const HEADER: &[u8] = b"\x13/multistream/1.0.0\n";
    const HOP: &[u8] = b"\x20/libp2p/circuit/relay/0.2.0/hop\n";

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_answered_so_much_a_minute_unless_it_is_a_circuit() {
        let now = Instant::now();
        let room = |first: &[&[u8]]| {
            let mut answers = Answers::new();
            assert_eq!(answers.room(now), ANSWERS);
            first.iter().for_each(|bytes| answers.wrote(bytes));
            answers.room(now)
        };
        let mut answers = Answers::new();
        assert_eq!(answers.room(now), ANSWERS);
        answers.wrote(HEADER);
        answers.wrote(&[0; 16 * 1024]);
        assert_eq!(answers.room(now + ANSWERS_TIME / 2), ANSWERS - 16 * 1024 - HEADER.len());
        answers.wrote(&[0; ANSWERS]);
        assert_eq!(answers.room(now + ANSWERS_TIME / 2), 0);
        assert_eq!(answers.room(now + ANSWERS_TIME), ANSWERS);
        answers.wrote(&[0; ANSWERS]);
        answers.wrote(HOP);
        assert_eq!(answers.room(now + ANSWERS_TIME), 0, "the name comes first or not at all");
        let whole = [HEADER, HOP].concat();
        for first in [vec![HEADER, HOP], vec![&whole[..]], whole.chunks(1).collect()] {
            assert_eq!(room(&[&first[..], &[&[0; 2 * ANSWERS]]].concat()), usize::MAX, "a circuit");
        }
        // What is answered to a question for all protocols names the circuits' among others.
        let all = [b"\x32".as_slice(), HOP, b"\x0f/offhook/kad/1\n\n"].concat();
        for first in [vec![HEADER, &all], vec![HEADER, b"\x03na\n", HOP], vec![HOP]] {
            assert_eq!(room(&[&first[..], &[&[0; ANSWERS]]].concat()), 0, "none");
        }
    }

    /// A stream that takes everything.
    struct Sink;

    impl AsyncRead for Sink {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Sink {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_beyond_that_wait_and_the_stream_is_reset_unless_it_is_a_friends_or_ours() {
        let (budget, peer) = (Budget::new(1_000, 1_000), PeerId::random());
        let id = budget.join(peer, 1);
        let stream = |ours: bool| {
            let permit = (!ours).then(|| Permit { budget: budget.clone(), id });
            assert!(ours || budget.lock().open(id));
            CountedStream::new(SubstreamBox::new(Sink), permit)
        };
        let much = [0; 3 * ANSWERS];
        let mut strangers = stream(false);
        let started = Instant::now();
        assert_eq!(strangers.write(&much).await.unwrap(), ANSWERS, "as much as there is room for");
        let refused = strangers.write(&much).await.unwrap_err();
        assert_eq!((refused.kind(), started.elapsed()), (io::ErrorKind::TimedOut, STALLED));
        assert_eq!(stream(true).write(&much).await.unwrap(), much.len(), "own");
        budget.regard(peer, Standing::Friend);
        assert_eq!(stream(false).write(&much).await.unwrap(), much.len(), "a friend's");
    }

    #[test]
    fn a_source_and_all_together_have_so_many() {
        let budget = Budget::new(10, 6);
        let ids = [1, 1, 2, 2].map(|net| budget.join(PeerId::random(), net));
        // The first two of each are free.
        assert_eq!(ids.map(|id| budget.open_all(id)), [8, 2, 6, 2]);
        let late = budget.join(PeerId::random(), 3);
        assert_eq!(budget.open_all(late), FREE, "nobody is kept from asking at all");
        budget.lock().leave(ids[0]);
        assert_eq!(budget.open_all(late), 6);
    }
}
