//! Voice messages for those who cannot be talked with, and marks that messages have been read.

use super::Engine;
use crate::api::{ApiError, ErrorCode, Reply};
use crate::clock::wall_clock;
use crate::recording::Voice;
use crate::storage::MessageState;
use offhook_proto::mailbox::letter::{Content, Format, MAX_MARKED, Mark, MessageId, Voicemail};
use std::path::PathBuf;

impl Engine {
    /// Leaves a voice message: it is on disk when this returns, and goes on its way behind those before it to the same number.
    pub(super) async fn leave_voicemail(&mut self, typed: &str, file: PathBuf) -> Result<Reply, ApiError> {
        let (link, _) = self.dialled(typed).await?;
        self.expected_key(&link).await?;
        let read = tokio::task::spawn_blocking(move || Voice::read(&file)).await;
        let read = read.map_err(|_| ApiError::new(ErrorCode::Internal, "A worker thread stopped."))?;
        let Voice { audio, duration } = read.map_err(|error| error.to_api())?;
        let duration_ms = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        let content = Content::Voicemail(Voicemail { duration_ms, format: Format::OggOpus, audio });
        let id = MessageId::from_bytes(rand::random());
        let letter = self.account.letter_put(id, &link.number, &content, wall_clock()).await;
        let letter = letter.map_err(|error| error.to_api())?;
        self.outbox_add(id, &link.number, letter.written);
        Ok(Reply::Message { id: id.to_string() })
    }

    /// Lets a contact know that its last messages have been read.
    pub(super) async fn messages_read(&mut self, typed: &str) -> Result<Reply, ApiError> {
        let number = self.account.resolve(typed).await.map_err(|error| error.to_api())?.number;
        if !self.is_contact(&number).await? {
            let sentence = "Only contacts are told that their messages have been read.";
            return Err(ApiError::new(ErrorCode::NoContact, sentence));
        }
        let most = u32::try_from(MAX_MARKED).unwrap_or(u32::MAX);
        let last = self.account.messages(Some(&number), most).await.map_err(|error| error.to_api())?;
        let received = last.iter().filter(|message| message.state == MessageState::Received);
        let of: Vec<MessageId> = received.filter_map(|message| message.id.parse().ok()).collect();
        if of.is_empty() {
            return Ok(Reply::Done);
        }
        let content = Content::Mark { mark: Mark::Read, of };
        let id = MessageId::from_bytes(rand::random());
        let letter = self.account.letter_put(id, &number, &content, wall_clock()).await;
        let letter = letter.map_err(|error| error.to_api())?;
        self.outbox_add(id, &number, letter.written);
        Ok(Reply::Done)
    }
}
