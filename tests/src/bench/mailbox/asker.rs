//! Terminals that ask a directory about mailboxes, without anything around them.

use std::time::Duration;

use futures::stream::{StreamExt as _, TryStreamExt as _};
use offhook::net::{Net, NetConfig, NetEvent, Role};
use offhook_proto::identity::{DirectoryId, TerminalId};
use offhook_proto::mailbox::contacts::{DepositRules, Token, TokenSecret};
use offhook_proto::mailbox::protocol::{Admission, Entry, MAX_IDS, Request, Response, SignedEntry};
use offhook_proto::mailbox::{BlobId, MailboxId};
use offhook_proto::number::NodeAddr;
use tokio::sync::mpsc;

use crate::bench::BenchError;
use crate::people::{Person, ago, now};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn other(error: impl std::fmt::Display) -> BenchError {
    BenchError::Other(error.to_string())
}

/// Another answer than there should be.
fn strange(answer: &Response) -> BenchError {
    other(format!("a directory answers {answer:?}"))
}

/// Something of this length that is no other.
pub(super) fn blob(mailbox: u8, n: u32, length: usize) -> Vec<u8> {
    let mut blob = vec![0x5a; length];
    blob[0] = mailbox;
    blob[1..5].copy_from_slice(&n.to_be_bytes());
    blob
}

/// Does so many of these at a time.
pub(super) async fn at_a_time<T>(
    all: Vec<impl Future<Output = Result<T, BenchError>>>,
    most: usize,
) -> Result<(), BenchError> {
    futures::stream::iter(all).buffer_unordered(most).try_for_each(|_| async { Ok(()) }).await
}

/// One who deposits by a token, and the terminal whose mailbox it is.
pub(super) struct Pair {
    pub sender: Asker,
    pub receiver: Asker,
    pub mailbox: MailboxId,
    pub token: Token,
}

impl Pair {
    /// Opens mailbox number `n`.
    pub async fn start(n: u8, address: &str) -> Result<Self, BenchError> {
        let node: NodeAddr = address.parse().map_err(other)?;
        let receiver = Asker::start(Person::unproven(2 * n + 1), &node).await?;
        let sender = Asker::start(Person::unproven(2 * n + 2), &node).await?;
        let directory = receiver.enter().await?;
        let secret = TokenSecret::from_seed([n; 32]);
        let keys = vec![secret.deposit_key(&directory)];
        receiver
            .done(Request::Rules { rules: DepositRules { keys, revoked: Vec::new(), strangers: true } })
            .await?;
        let token = secret.grant(&directory, &sender.person.identity.public(), 0, now()).token;
        let mailbox = MailboxId::of(&receiver.person.identity.public());
        Ok(Self { sender, receiver, mailbox, token })
    }

    pub async fn deposit(&self, n: u32, length: usize) -> Result<(), BenchError> {
        self.sender.deposit(self.mailbox, self.token, blob(0, n, length)).await
    }
}

pub(super) struct Asker {
    person: Person,
    net: Net,
    events: mpsc::Receiver<NetEvent>,
    node: NodeAddr,
}

impl Asker {
    async fn start(person: Person, node: &NodeAddr) -> Result<Self, BenchError> {
        let mut config = NetConfig::new(*person.terminal.seed(), Role::Terminal);
        config.cert = Some(person.cert(ago(Duration::from_secs(60))));
        config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().map_err(other)?];
        config.entry = vec![node.clone()];
        config.allow_private = Some(true);
        let (net, events) = Net::start(config).await.map_err(other)?;
        Ok(Self { person, net, events, node: node.clone() })
    }

    /// Ends as if it had been killed, and begins anew.
    pub async fn restart(&self) -> Result<Self, BenchError> {
        self.net.shutdown().await;
        Self::start(self.person.clone(), &self.node).await
    }

    async fn ask(&self, request: Request) -> Result<Response, BenchError> {
        let answer = self.net.mail(std::slice::from_ref(&self.node), request).await.map_err(other)?;
        if let Response::Refused { .. } = answer { Err(strange(&answer)) } else { Ok(answer) }
    }

    async fn done(&self, request: Request) -> Result<(), BenchError> {
        let answer = self.ask(request).await?;
        if matches!(answer, Response::Done | Response::Kept) { Ok(()) } else { Err(strange(&answer)) }
    }

    pub async fn enter(&self) -> Result<DirectoryId, BenchError> {
        let Response::Challenge { challenge, node } = self.ask(Request::Challenge).await? else {
            return Err(other("no challenge"));
        };
        let peer = self.node.peer_id().ok_or_else(|| other("no key"))?;
        let peer = TerminalId::from_peer_id(peer).map_err(other)?;
        let directory = node.verify(&peer).map_err(other)?;
        let cert = self.person.cert(ago(Duration::from_secs(60)));
        let entry =
            SignedEntry::sign(&self.person.terminal, &Entry { directory, challenge, cert, open: true });
        let answer = self.ask(Request::Enter { entry }).await?;
        if let Response::Entered { .. } = answer { Ok(directory) } else { Err(strange(&answer)) }
    }

    pub async fn deposit(&self, mailbox: MailboxId, token: Token, blob: Vec<u8>) -> Result<(), BenchError> {
        let admission = Admission::Token(token);
        self.done(Request::Deposit { mailbox, days: 30, admission, blob }).await
    }

    pub async fn list(&self) -> Result<Vec<BlobId>, BenchError> {
        let answer = self.ask(Request::List { after: 0, max: 256 }).await?;
        let Response::Listed { items, .. } = answer else { return Err(strange(&answer)) };
        Ok(items.iter().map(|item| item.id).collect())
    }

    pub async fn get(&self, id: BlobId) -> Result<(), BenchError> {
        let answer = self.ask(Request::Get { id }).await?;
        let is_it = matches!(&answer, Response::Blob { blob } if BlobId::of(blob) == id);
        if is_it { Ok(()) } else { Err(strange(&answer)) }
    }

    pub async fn acknowledge(&self, ids: &[BlobId]) -> Result<(), BenchError> {
        for ids in ids.chunks(MAX_IDS) {
            self.done(Request::Acknowledge { ids: ids.to_vec() }).await?;
        }
        Ok(())
    }

    pub fn forget_notices(&mut self) {
        while self.events.try_recv().is_ok() {}
    }

    pub async fn notice(&mut self) -> Result<(), BenchError> {
        let next = async {
            while let Some(event) = self.events.recv().await {
                if let NetEvent::Mail { .. } = event {
                    return Ok(());
                }
            }
            Err(other("the network has ended"))
        };
        tokio::time::timeout(PATIENCE, next).await.map_err(other)?
    }
}
