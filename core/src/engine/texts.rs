//! Text messages that arrive: written to disk one after another, then shown, then acknowledged.

use super::{Engine, Internal, now};
use crate::api::{self, Event};
use crate::clock::wall_clock;
use crate::storage::{AccountStore, MessageEntry, MessageState, PinCheck, StorageError};
use offhook_proto::call::{IncomingText, TextKept, TextKey};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Texts that may wait for the disk; further ones are refused. The call machine lets fewer wait of others' free will.
const QUEUE: usize = 256;

/// A text to be kept.
pub(super) struct Arrived {
    key: TextKey,
    text: IncomingText,
}

/// What became of it: on disk, and whether it is new there.
pub(super) struct Written {
    key: TextKey,
    text: IncomingText,
    new: Result<bool, StorageError>,
    /// What the user calls the sender.
    name: Option<String>,
}

/// Where texts are written down in the order in which they came. Ends when the sender is dropped.
pub(super) fn start(
    account: AccountStore,
    jobs: &TaskTracker,
    internal: mpsc::Sender<Internal>,
) -> mpsc::Sender<Arrived> {
    let (sender, mut arrived) = mpsc::channel::<Arrived>(QUEUE);
    jobs.spawn(async move {
        while let Some(Arrived { key, text }) = arrived.recv().await {
            let new = write(&account, &text).await;
            // A text without a name is better than none.
            let name = account.contact(&text.from).await.ok().flatten().map(|contact| contact.name);
            if internal.send(Internal::TextWritten(Written { key, text, new, name })).await.is_err() {
                // The engine has ended: nothing more is acknowledged.
                return;
            }
        }
    });
    sender
}

async fn write(account: &AccountStore, text: &IncomingText) -> Result<bool, StorageError> {
    if let PinCheck::Differs { .. } = account.pin(&text.from, &text.identity).await? {
        // Another key took the number a moment ago; the text must not appear among that one's.
        return Err(StorageError::OtherKey);
    }
    let entry = MessageEntry {
        id: text.id.to_string(),
        number: text.from.clone(),
        body: text.body.clone(),
        sent: wall_clock(),
        state: MessageState::Received,
    };
    account.message_add(&entry).await
}

impl Engine {
    pub(super) fn keep_text(&mut self, key: TextKey, text: IncomingText) {
        if self.texts.try_send(Arrived { key, text }).is_err() {
            tracing::warn!("too many texts wait for the disk; one is refused");
            self.calls.text_kept(now(), key, TextKept::Failed);
        }
    }

    pub(super) fn on_text_written(&mut self, written: Written) {
        let Written { key, text, new, name } = written;
        let IncomingText { call, from, identity, contact, id, body } = text;
        match &new {
            Ok(true) => {
                let silent = call.is_none() && self.is_text_silent(&identity, &from, contact);
                let (call, id) = (call.map(|c| c.to_string()), id.to_string());
                self.emit(Event::Text { from, name, body, call, id, silent });
            }
            Ok(false) => tracing::debug!("a repeated text is not shown again"),
            Err(error) => {
                tracing::error!(%error, "a text could not be kept");
                self.emit(Event::Error { code: api::ErrorCode::Storage, message: error.to_string() });
            }
        }
        let outcome = if new.is_ok() { TextKept::Kept } else { TextKept::Failed };
        self.calls.text_kept(now(), key, outcome);
    }
}
