//! The commands about messages that need nothing but the account's file.

use super::{AccountStore, MessageEntry, MessageState, StorageError, VoicemailEntry};
use crate::api::{
    ApiError, ErrorCode, MAX_MESSAGES_REPLY, MESSAGES_REPLY, MessageStatus, PastMessage, Reply, Voicemail,
};
use offhook_proto::number::Number;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

impl From<MessageState> for MessageStatus {
    fn from(state: MessageState) -> Self {
        match state {
            MessageState::Received => Self::Received,
            MessageState::Sending => Self::Sending,
            MessageState::Left => Self::Left,
            MessageState::Delivered => Self::Delivered,
            MessageState::Read => Self::Read,
            MessageState::Failed => Self::Failed,
        }
    }
}

impl AccountStore {
    /// The contacts' names.
    pub(super) async fn names(&self) -> Result<BTreeMap<Number, String>, ApiError> {
        let contacts = self.contacts().await.map_err(|error| error.to_api())?;
        Ok(contacts.into_iter().map(|contact| (contact.number, contact.name)).collect())
    }

    pub(super) async fn past_messages(
        &self,
        with: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Reply, ApiError> {
        let limit = limit.unwrap_or(MESSAGES_REPLY).min(MAX_MESSAGES_REPLY);
        let number = match with {
            Some(typed) => Some(self.resolve(typed).await.map_err(|error| error.to_api())?.number),
            None => None,
        };
        let found = self.messages(number.as_ref(), limit).await.map_err(|error| error.to_api())?;
        let names = self.names().await?;
        let told = |MessageEntry { id, number, body, sent, state }: MessageEntry| PastMessage {
            name: names.get(&number).cloned(),
            id,
            number,
            body,
            at: sent.0,
            status: state.into(),
        };
        Ok(Reply::Messages { messages: found.into_iter().map(told).collect() })
    }

    pub(super) async fn list_voicemails(&self) -> Result<Reply, ApiError> {
        let found = self.voicemails(MAX_MESSAGES_REPLY).await.map_err(|error| error.to_api())?;
        let names = self.names().await?;
        let told =
            |VoicemailEntry { row, number, written, duration_ms, heard, .. }: VoicemailEntry| Voicemail {
                voicemail: row,
                name: names.get(&number).cloned(),
                number,
                at: written.0,
                duration_ms,
                heard,
            };
        Ok(Reply::Voicemails { voicemails: found.into_iter().map(told).collect() })
    }

    pub(super) async fn save_voicemail(&self, row: i64, file: &Path) -> Result<Reply, ApiError> {
        let audio = self.voicemail_audio(row).await.map_err(|error| error.to_api())?;
        let audio = audio.ok_or_else(|| none(row))?;
        let file = file.to_owned();
        let written = super::create::run_blocking(move || {
            let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
            let write = made.and_then(|mut made| made.write_all(&audio).and_then(|()| made.sync_all()));
            write.map_err(StorageError::io(&file))
        });
        written.await.map_err(|error| error.to_api())?;
        Ok(Reply::Done)
    }

    pub(super) async fn delete_voicemail(&self, row: i64) -> Result<Reply, ApiError> {
        let was_there = self.voicemail_delete(row).await.map_err(|error| error.to_api())?;
        if was_there { Ok(Reply::Done) } else { Err(none(row)) }
    }
}

fn none(row: i64) -> ApiError {
    ApiError::new(
        ErrorCode::NoRecording,
        format!("There is no voice message {row}. `offhook voicemail list` shows which there are."),
    )
}
