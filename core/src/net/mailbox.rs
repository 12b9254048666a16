//! The protocol `/offhook/mailbox/1`: a directory keeps what is left for those who are not on line. The messages are in
//! [`offhook_proto::mailbox::protocol`].
//!
//! It is beside signalling, with bounds of its own: a letter has up to 128 KiB, and none of it may keep a call waiting. What is
//! asked of a directory goes to whoever keeps its mailboxes ([`MailRequest`]); everybody else takes nothing but notices, and of
//! those only short messages. Reading and answering at a time, requests of one peer and of one /24 or /64 are bounded; whoever is over
//! a bound is told [`Refusal::Busy`].

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::request_response::{self, OutboundFailure, OutboundRequestId, ProtocolSupport, ResponseChannel};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use offhook_proto::identity::TerminalId;
use offhook_proto::knock::Network;
use offhook_proto::mailbox::protocol::{MAX_MESSAGE, Notice, Refusal, Request, Response};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::debug;

use super::addr::{self, Source};
use super::client::RequestError;
use super::config::NetConfig;
use super::driver::{Driver, Inner};
use super::event::NetEvent;
use super::limit::Limiter;

/// The protocol's name in multistream-select; the number at the end is its version.
pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/offhook/mailbox/1");

/// A request without an answer has failed: 128 KiB at 64 kbit/s, and what a busy disk takes.
pub(super) const MAIL_TIME: Duration = Duration::from_secs(30);

/// Longest message that is taken without further ado: everything but blobs and long lists, bytes.
const SHORT: usize = 4 * 1024;

/// Longer messages that are being read at a time; the others wait. 16 MiB.
const MAX_READING: usize = 128;

/// Requests that are being answered at a time, altogether and of one /24 or /64.
const MAX_ANSWERING: usize = 512;
const MAX_ANSWERING_PER_SOURCE: usize = 128;

/// Requests per second of one peer, and of one /24 or /64 (bursts: ten seconds' worth).
const PER_PEER: u32 = 100;
const PER_SOURCE: u32 = 1_000;

/// Notices per second that a terminal takes of one peer (bursts: ten seconds' worth).
const NOTICES_PER_PEER: u32 = 2;

/// Own requests without an answer at a time; further ones are told so at once.
const MAX_SENT: usize = 256;

/// Streams of the protocol open at a time on one connection, both directions together.
const STREAMS: usize = 16;

/// A request to the mailboxes of this directory.
pub struct MailRequest {
    /// Who asks: the key of the connection, proven.
    pub from: TerminalId,
    /// Where it comes from; of those behind relays it is not known, and they share one.
    pub network: Network,
    /// Whether it has entered since it is connected: see [`MailReply::entered`].
    pub has_entered: bool,
    /// What is asked.
    pub request: Request,
    /// To be used once.
    pub reply: MailReply,
}

/// Answers a [`MailRequest`].
pub struct MailReply {
    /// Until it is answered.
    channel: Option<ResponseChannel<Response>>,
    peer: PeerId,
    source: Source,
    kind: &'static str,
    inner: mpsc::UnboundedSender<Inner>,
}

/// An answer on its way to the driver.
pub(super) struct Answer {
    channel: ResponseChannel<Response>,
    peer: PeerId,
    source: Source,
    kind: &'static str,
    response: Response,
    entered: bool,
}

impl MailReply {
    /// Answers.
    pub fn send(mut self, response: Response) {
        self.answer(response, false);
    }

    /// Answers, and says that whoever asked has entered, for as long as it is connected.
    pub fn entered(mut self, response: Response) {
        self.answer(response, true);
    }

    fn answer(&mut self, response: Response, entered: bool) {
        let Some(channel) = self.channel.take() else { return };
        let (peer, source, kind) = (self.peer, self.source, self.kind);
        let answer = Answer { channel, peer, source, kind, response, entered };
        // The driver may have stopped meanwhile.
        let _ = self.inner.send(Inner::Mail(Box::new(answer)));
    }
}

impl Drop for MailReply {
    /// Whoever asked is answered in any case.
    fn drop(&mut self) {
        self.answer(Response::Refused { reason: Refusal::Busy }, false);
    }
}

/// The network of those behind relays: one that nobody has (RFC 5737).
const RELAYED: Network = Network::V4([192, 0, 2]);

fn network_of(source: Source) -> Network {
    match source {
        Source::V4(net) => Network::V4(net),
        Source::V6([a, b, c, d]) => {
            let mut net = [0; 8];
            for (two, part) in net.chunks_exact_mut(2).zip([a, b, c, d]) {
                two.copy_from_slice(&part.to_be_bytes());
            }
            Network::V6(net)
        }
        Source::Relayed | Source::Local => RELAYED,
    }
}

/// Who gets the answer of a directory.
pub(super) type MailAnswer = oneshot::Sender<Result<Response, RequestError>>;

/// What the driver knows of mailboxes.
pub(super) struct Mailboxes {
    /// Whoever keeps this directory's.
    keeper: Option<mpsc::Sender<MailRequest>>,
    per_peer: Limiter<PeerId>,
    per_source: Limiter<Source>,
    answering: HashMap<Source, usize>,
    answering_total: usize,
    entered: HashSet<PeerId>,
    sent: HashMap<OutboundRequestId, Option<MailAnswer>>,
}

impl Mailboxes {
    pub(super) fn new(config: &NetConfig) -> Self {
        let keeper = config.mailboxes.clone();
        let rates = if keeper.is_some() { (PER_PEER, PER_SOURCE) } else { (NOTICES_PER_PEER, PER_PEER) };
        Self {
            keeper,
            per_peer: Limiter::new(rates.0),
            per_source: Limiter::new(rates.1),
            answering: HashMap::new(),
            answering_total: 0,
            entered: HashSet::new(),
            sent: HashMap::new(),
        }
    }

    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        self.entered.remove(peer);
    }

    /// Whether a terminal has entered, and is to be told of what comes.
    pub(super) fn has_entered(&self, peer: &PeerId) -> bool {
        self.entered.contains(peer)
    }

    /// Counts a request that is being answered; `false` when too many are.
    fn begin(&mut self, source: Source) -> bool {
        let of_source = self.answering.get(&source).copied().unwrap_or(0);
        if of_source >= MAX_ANSWERING_PER_SOURCE || self.answering_total >= MAX_ANSWERING {
            return false;
        }
        self.answering.insert(source, of_source + 1);
        self.answering_total += 1;
        true
    }

    fn end(&mut self, source: Source) {
        if let Some(count) = self.answering.get_mut(&source) {
            *count -= 1;
            self.answering_total -= 1;
            if *count == 0 {
                self.answering.remove(&source);
            }
        }
    }
}

/// The protocol's behaviour: everybody speaks it, and whoever keeps mailboxes reads long requests.
pub(super) fn behaviour(config: &NetConfig) -> request_response::Behaviour<Codec> {
    let codec = Codec { keeps: config.mailboxes.is_some(), reading: Arc::new(Semaphore::new(MAX_READING)) };
    let requests = request_response::Config::default()
        .with_request_timeout(MAIL_TIME)
        .with_max_concurrent_streams(STREAMS);
    request_response::Behaviour::with_codec(codec, [(PROTOCOL, ProtocolSupport::Full)], requests)
}

impl Driver {
    /// Events of the mailbox protocol.
    pub(super) fn on_mail(&mut self, event: request_response::Event<Request, Response>) {
        use request_response::{Event, Message};
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.swarm.behaviour_mut().gate.used(&peer);
                self.on_mail_request(peer, request, channel);
            }
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                self.mail_answered(request_id, Ok(response));
            }
            Event::OutboundFailure { request_id, error, .. } => {
                debug!(%error, "a request to a mailbox failed");
                let error = match error {
                    OutboundFailure::DialFailure => RequestError::Unreachable,
                    OutboundFailure::Timeout => RequestError::Timeout,
                    OutboundFailure::UnsupportedProtocols => RequestError::Unsupported,
                    OutboundFailure::ConnectionClosed | OutboundFailure::Io(_) => RequestError::Broken,
                };
                self.mail_answered(request_id, Err(error));
            }
            Event::InboundFailure { error, .. } => debug!(%error, "an inbound request to a mailbox failed"),
            Event::ResponseSent { .. } => {}
        }
    }

    fn on_mail_request(&mut self, peer: PeerId, request: Request, channel: ResponseChannel<Response>) {
        let (source, now, kind) = (self.peers.source(&peer), Instant::now(), request.kind());
        let mailboxes = &mut self.mailboxes;
        let permitted = mailboxes.per_peer.permit(peer, now) && mailboxes.per_source.permit(source, now);
        let from = addr::terminal_of(&peer).filter(|_| permitted);
        let Some(from) = from else { return self.refuse_mail(kind, channel, Refusal::Busy) };
        if let Request::Notice(notice) = request {
            return self.on_notice(from, notice, channel);
        }
        let Some(keeper) = self.mailboxes.keeper.clone() else {
            return self.refuse_mail(kind, channel, Refusal::NoMailbox);
        };
        let has_entered = self.mailboxes.entered.contains(&peer);
        if request.needs_entry() && !has_entered {
            return self.refuse_mail(kind, channel, Refusal::NotEntered);
        }
        if !self.mailboxes.begin(source) {
            return self.refuse_mail(kind, channel, Refusal::Busy);
        }
        let reply = MailReply { channel: Some(channel), peer, source, kind, inner: self.inner.clone() };
        let asked = MailRequest { from, network: network_of(source), has_entered, request, reply };
        // Without a place it is dropped, which answers it.
        let _ = keeper.try_send(asked);
    }

    /// A directory says that something has come.
    fn on_notice(&mut self, from: TerminalId, notice: Notice, channel: ResponseChannel<Response>) {
        // If nobody has time for it now: it is looked into every so often anyhow.
        let response = if self.tell(NetEvent::Mail { from, notice }) {
            Response::Done
        } else {
            Response::Refused { reason: Refusal::Busy }
        };
        self.answer_mail("notice", channel, response);
    }

    fn refuse_mail(&mut self, kind: &'static str, channel: ResponseChannel<Response>, reason: Refusal) {
        self.answer_mail(kind, channel, Response::Refused { reason });
    }

    fn answer_mail(&mut self, kind: &'static str, channel: ResponseChannel<Response>, response: Response) {
        self.metrics.count_mail(kind, outcome(&response));
        if self.swarm.behaviour_mut().mailbox.send_response(channel, response).is_err() {
            debug!("the asker has gone");
        }
    }

    /// The keeper has answered.
    pub(super) fn mail_kept(&mut self, answer: Answer) {
        let Answer { channel, peer, source, kind, response, entered } = answer;
        self.mailboxes.end(source);
        if entered && self.peers.contains(&peer) {
            self.mailboxes.entered.insert(peer);
            self.refresh_hold(peer);
        }
        self.answer_mail(kind, channel, response);
    }

    /// Asks a directory, connecting first if need be.
    pub(super) fn ask_mail(
        &mut self,
        to: PeerId,
        addrs: Vec<Multiaddr>,
        request: Request,
        reply: MailAnswer,
    ) {
        if self.mailboxes.sent.len() >= MAX_SENT || to == *self.swarm.local_peer_id() {
            // Whoever asked may have gone.
            let _ = reply.send(Err(RequestError::Busy));
            return;
        }
        let addrs = if self.peers.contains(&to) { Vec::new() } else { self.links.known.to_dial(to, &addrs) };
        let id = self.swarm.behaviour_mut().mailbox.send_request_with_addresses(&to, request, addrs);
        self.mailboxes.sent.insert(id, Some(reply));
    }

    /// Tells a terminal that has entered of what has come; does nothing if it has not, or is not connected any more.
    pub(super) fn tell_of_mail(&mut self, to: &TerminalId, notice: Notice) {
        let peer = addr::peer_of(to).filter(|peer| self.mailboxes.entered.contains(peer));
        let Some(peer) = peer.filter(|peer| self.peers.contains(peer)) else { return };
        if self.mailboxes.sent.len() < MAX_SENT.max(self.mailboxes.entered.len()) {
            let request = Request::Notice(notice);
            let id = self.swarm.behaviour_mut().mailbox.send_request(&peer, request);
            self.mailboxes.sent.insert(id, None);
        }
    }

    fn mail_answered(&mut self, id: OutboundRequestId, result: Result<Response, RequestError>) {
        if let Some(Some(reply)) = self.mailboxes.sent.remove(&id) {
            // Whoever asked may have gone.
            let _ = reply.send(result);
        }
    }
}

/// The name of a response in the metrics.
fn outcome(response: &Response) -> &'static str {
    match response {
        Response::Refused { reason: Refusal::Busy } => "busy",
        Response::Refused { reason: Refusal::NoBlob | Refusal::NoMailbox } => "not_found",
        Response::Refused { .. } => "refused",
        Response::Price { .. }
        | Response::Kept
        | Response::Challenge { .. }
        | Response::Entered { .. }
        | Response::Listed { .. }
        | Response::Blob { .. }
        | Response::Done
        | Response::Quota(_) => "ok",
    }
}

/// Reads and writes one message per direction of a stream.
#[derive(Clone)]
pub(super) struct Codec {
    /// Whether long requests are of any use here.
    keeps: bool,
    reading: Arc<Semaphore>,
}

impl Codec {
    /// Reads a message: a short one at once, a longer one when there is room.
    async fn read<T>(&self, io: &mut T, most: usize) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut bytes = Vec::new();
        io.take(SHORT as u64 + 1).read_to_end(&mut bytes).await?;
        if bytes.len() > SHORT && most > SHORT {
            // It is never closed.
            let _permit = self.reading.acquire().await.map_err(io::Error::other)?;
            bytes.reserve_exact(most + 1 - bytes.len());
            io.take((most + 1 - bytes.len()) as u64).read_to_end(&mut bytes).await?;
        }
        if bytes.len() > most {
            Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"))
        } else {
            Ok(bytes)
        }
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Response;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        let most = if self.keeps { MAX_MESSAGE } else { SHORT };
        let bytes = self.read(io, most).await?;
        Request::from_bytes(&bytes).map_err(invalid)
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        let bytes = self.read(io, MAX_MESSAGE).await?;
        Response::from_bytes(&bytes).map_err(invalid)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Request) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&request.to_bytes()).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Response,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&response.to_bytes()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use offhook_proto::mailbox::{BlobId, MAX_BLOB_BYTES};

    fn codec(keeps: bool) -> Codec {
        Codec { keeps, reading: Arc::new(Semaphore::new(1)) }
    }

    #[test]
    fn who_keeps_no_mailboxes_reads_nothing_long() {
        let blob = Response::Blob { blob: vec![1; MAX_BLOB_BYTES] }.to_bytes();
        let read = |keeps, bytes: Vec<u8>| {
            let mut io = futures::io::Cursor::new(bytes);
            block_on(request_response::Codec::read_request(&mut codec(keeps), &PROTOCOL, &mut io))
        };
        let ids = vec![BlobId::of(b"a"); 200];
        let long = Request::Acknowledge { ids };
        assert!(long.to_bytes().len() > SHORT);
        assert!(matches!(read(true, long.to_bytes()), Ok(request) if request == long));
        assert!(read(false, long.to_bytes()).is_err());
        assert!(read(false, Request::Quota.to_bytes()).is_ok());
        for bytes in [Vec::new(), vec![0xff, 0, 1], vec![0x5f; MAX_MESSAGE * 2], blob] {
            assert!(read(true, bytes).is_err());
        }
    }

    #[test]
    fn what_is_answered_at_a_time_is_bounded_for_each_source() {
        let mut mailboxes = Mailboxes::new(&NetConfig::new([1; 32], super::super::Role::Directory));
        let (one, two) = (Source::V4([1, 2, 3]), Source::V4([4, 5, 6]));
        assert_eq!((0..1_000).filter(|_| mailboxes.begin(one)).count(), MAX_ANSWERING_PER_SOURCE);
        assert!(mailboxes.begin(two), "others are served");
        mailboxes.end(one);
        assert!(mailboxes.begin(one));
        (0..MAX_ANSWERING_PER_SOURCE).for_each(|_| mailboxes.end(one));
        mailboxes.end(two);
        assert!(mailboxes.answering.is_empty() && mailboxes.answering_total == 0);
    }

    #[test]
    fn networks_of_sources_are_those_of_their_addresses() {
        for ip in ["198.51.100.7", "2001:db8:1:2:3::4"] {
            let ip = ip.parse().unwrap();
            assert_eq!(network_of(Source::of(ip)), Network::of(ip));
        }
    }
}
