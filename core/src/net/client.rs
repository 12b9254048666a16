//! The driver as tasks see it.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use offhook_proto::identity::{IdentityId, TerminalId};
use offhook_proto::mailbox;
use offhook_proto::number::RecordKey;
use offhook_proto::record::CheckedSet;
use offhook_proto::wire::UnixMillis;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use super::codec::{Request, Response};
use super::command::{Command, DhtAnswer, Holder, Neighbours};
use super::mailbox::MAIL_TIME;
use super::private::Private;
use super::status::NetStatus;
use super::store::{Refused, Verdicts};

/// Why a request to another node brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// Not connected, and no address led to it.
    #[error("the node cannot be reached")]
    Unreachable,
    /// No answer in time.
    #[error("the node did not answer in time")]
    Timeout,
    /// The connection or the stream broke.
    #[error("the node broke off")]
    Broken,
    /// The node doesn't speak our protocol.
    #[error("the node is none of ours")]
    Unsupported,
    /// Too much is under way.
    #[error("too many requests at once")]
    Busy,
    /// This side has been shut down.
    #[error("the network is shut down")]
    Stopped,
}

/// Answers of a query that may wait to be looked at.
pub(super) const ANSWERS: usize = 64;

/// Sends single steps to the driver.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) verdicts: Verdicts,
    /// Which addresses are worth trying.
    pub(super) private: Private,
    pub(super) status: watch::Receiver<NetStatus>,
}

impl Client {
    /// Sends a request and waits for the answer, at most `time`.
    pub(super) async fn request(
        &self,
        to: PeerId,
        addrs: Vec<Multiaddr>,
        request: Request,
        time: Duration,
    ) -> Result<Response, RequestError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Request { to, addrs, request: Box::new(request), reply };
        let ask = async {
            self.commands.send(command).await.map_err(|_| RequestError::Stopped)?;
            answer.await.map_err(|_| RequestError::Stopped)?
        };
        tokio::time::timeout(time, ask).await.map_err(|_| RequestError::Timeout)?
    }

    /// Asks a directory about a mailbox.
    pub(super) async fn mail(
        &self,
        to: PeerId,
        addrs: Vec<Multiaddr>,
        request: mailbox::protocol::Request,
    ) -> Result<mailbox::protocol::Response, RequestError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Mail { to, addrs, request: Box::new(request), reply };
        let ask = async {
            self.commands.send(command).await.map_err(|_| RequestError::Stopped)?;
            answer.await.map_err(|_| RequestError::Stopped)?
        };
        // Connecting takes its time, too.
        tokio::time::timeout(MAIL_TIME + MAIL_TIME / 2, ask).await.map_err(|_| RequestError::Timeout)?
    }

    /// Terminals that an account revokes, as far as its records are held here.
    pub(super) async fn revoked(&self, identity: IdentityId) -> Option<Vec<TerminalId>> {
        self.ask(|reply| Command::Revoked { identity, reply }).await
    }

    /// Starts a query of the DHT.
    pub(super) async fn get(&self, key: RecordKey, time: Duration) -> mpsc::Receiver<DhtAnswer> {
        let (answers, receiver) = mpsc::channel(ANSWERS);
        // A stopped driver drops the sender, which the receiver sees.
        let _ = self.commands.send(Command::Get { key, answers, until: Instant::now() + time }).await;
        receiver
    }

    /// The nodes closest to a key; none if there is no DHT.
    pub(super) async fn closest(&self, key: RecordKey) -> Vec<Holder> {
        self.ask(|reply| Command::Closest { key, reply }).await.unwrap_or_default()
    }

    /// What is held here.
    pub(super) async fn local(&self, key: RecordKey) -> Option<(CheckedSet, UnixMillis)> {
        self.ask(|reply| Command::Local { key, reply }).await.flatten()
    }

    /// The same in its encoding, a descriptor as well.
    pub(super) async fn local_value(&self, key: RecordKey) -> Option<Vec<u8>> {
        self.ask(|reply| Command::LocalValue { key, reply }).await.flatten()
    }

    /// Holds an own record set, or an own descriptor.
    pub(super) async fn own(&self, key: RecordKey, value: Vec<u8>) -> Option<Result<(), Refused>> {
        self.ask(|reply| Command::Own { key, value, reply }).await
    }

    /// Whom to ask beside the DHT.
    pub(super) async fn neighbours(&self) -> Neighbours {
        self.ask(Command::Neighbours).await.unwrap_or_default()
    }

    /// A command with an answer; `None` once the driver has stopped.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}
