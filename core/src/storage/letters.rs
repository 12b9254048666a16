//! Letters: those on their way to people who were not on line, and what has come out of the account's mailboxes.
//!
//! A letter of ours is kept from when it is written until a terminal or a directory of its receiver has it, with all that its seal is
//! made of, so that it is the same after a crash. A letter that has come is on disk, in one transaction with the note that it was taken,
//! before it is acknowledged at a directory.

use super::{AccountStore, MessageEntry, MessageState, StorageError, db};
use offhook_proto::identity::{DirectoryId, IdentityId, MailboxPublic};
use offhook_proto::mailbox::contacts::{Grant, MAX_GRANTS, Token, TokenSecret};
use offhook_proto::mailbox::letter::{Content, Format, MAX_AGE, Mark, MessageId, Voicemail};
use offhook_proto::mailbox::{BlobId, days};
use offhook_proto::number::{NodeAddr, Number};
use offhook_proto::signalling::{Introduction, MAX_TEXT_BYTES};
use offhook_proto::wire::{self, UnixMillis};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// Setting under which the nodes of directories stand that keep the account's mailbox, as JSON.
pub(super) const MAILBOXES_SETTING: &str = "mailboxes";
/// The same of the directories' keys.
const DIRECTORIES_SETTING: &str = "mailbox_directories";
/// Letters of ours that are kept at a time, and of one kind to one number.
const MAX_OUTBOX: i64 = 10_000;
/// Longest encoding of an introduction, bytes.
const MAX_INTRODUCTION: usize = 16 * 1024;
/// For how long it is remembered what was taken and fetched: longer than a letter can be opened.
const REMEMBERED: Duration = Duration::from_secs(MAX_AGE.as_secs() + days(1).as_secs());

/// A letter of ours on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutLetter {
    /// Its id.
    pub id: MessageId,
    /// To whom it goes.
    pub number: Number,
    /// What it says.
    pub content: Content,
    /// When it was written.
    pub written: UnixMillis,
    /// The letter to the same number before.
    pub after: Option<MessageId>,
    /// What its pieces' seals are made with: see [`OutLetter::piece_seed`].
    pub(crate) seed: [u8; 32],
    /// What it was first sealed with.
    pub(crate) sealed: Option<SealedFor>,
}

/// What a letter was first sealed with, and is again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedFor {
    pub identity: IdentityId,
    pub mailbox: MailboxPublic,
    pub from: Introduction,
}

impl OutLetter {
    /// The seed of a piece's seal, another one for each mailbox key.
    pub(crate) fn piece_seed(&self, piece: usize, mailbox: &MailboxPublic) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"offhook/letter-seed/1\0");
        hash.update(self.seed);
        hash.update(u64::try_from(piece).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(mailbox.as_bytes());
        hash.finalize().into()
    }
}

/// A letter that has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender<'a> {
    pub identity: IdentityId,
    pub number: &'a Number,
    pub id: MessageId,
    pub written: UnixMillis,
}

type OutRow = (
    Vec<u8>,
    String,
    String,
    Vec<u8>,
    i64,
    i64,
    Option<Vec<u8>>,
    Vec<u8>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
);

impl AccountStore {
    /// What tokens for deposits in this account's mailboxes are made of: it follows from the mailbox key, which all terminals of the account
    /// have and which is in the backup, so a new key makes all tokens void.
    pub(crate) fn token_secret(&self) -> TokenSecret {
        let mut hash = Sha256::new();
        hash.update(b"offhook/token-secret/1\0");
        hash.update(self.mailbox_key().seed());
        TokenSecret::from_seed(hash.finalize().into())
    }

    /// Keeps a letter that is to be sent, and gives it its place after those before it to the same number. One of the same id is there
    /// already and stays.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] if too many wait, or another [`StorageError`].
    pub(crate) async fn letter_put(
        &self,
        id: MessageId,
        number: &Number,
        content: &Content,
        written: UnixMillis,
    ) -> Result<OutLetter, StorageError> {
        let mut tx = db::write(self.pool()).await?;
        let (waiting,): (i64,) = sqlx::query_as("SELECT count(*) FROM outbox").fetch_one(&mut *tx).await?;
        if waiting >= MAX_OUTBOX {
            return Err(StorageError::TooLarge("The list of messages that wait"));
        }
        let last: Option<(Vec<u8>, i64)> =
            sqlx::query_as("SELECT id, written FROM letter_last WHERE number = ?")
                .bind(number.canonical())
                .fetch_optional(&mut *tx)
                .await?;
        let is_mark = matches!(content, Content::Mark { .. });
        let before = last.as_ref().map_or(0, |(_, at)| db::uint(*at));
        let written = UnixMillis(written.0.max(before.saturating_add(1)));
        // Nobody misses a mark.
        let after = last.filter(|_| !is_mark).map(|(id, _)| message_id(&id)).transpose()?;
        let seed: [u8; 32] = rand::random();
        let (kind, body, duration) = stored(content);
        let put = sqlx::query(
            "INSERT INTO outbox (id, number, kind, body, duration_ms, written, after, seed)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        )
        .bind(id.as_bytes().as_slice())
        .bind(number.canonical())
        .bind(kind)
        .bind(body)
        .bind(i64::from(duration))
        .bind(db::int(written.0))
        .bind(after.map(|id| id.as_bytes().to_vec()))
        .bind(seed.as_slice())
        .execute(&mut *tx)
        .await?;
        if put.rows_affected() > 0 {
            let named = if is_mark { after.unwrap_or(id) } else { id };
            sqlx::query(
                "INSERT INTO letter_last (number, id, written) VALUES (?1, ?2, ?3)
                 ON CONFLICT (number) DO UPDATE SET written = excluded.written,
                     id = CASE WHEN ?4 THEN letter_last.id ELSE excluded.id END",
            )
            .bind(number.canonical())
            .bind(named.as_bytes().as_slice())
            .bind(db::int(written.0))
            .bind(is_mark)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        self.letter(&id).await?.ok_or(StorageError::Internal("a letter is not where it was put"))
    }

    /// A letter that waits.
    pub(crate) async fn letter(&self, id: &MessageId) -> Result<Option<OutLetter>, StorageError> {
        let row: Option<OutRow> = sqlx::query_as(
            "SELECT id, number, kind, body, duration_ms, written, after, seed, identity, mailbox, introduction
             FROM outbox WHERE id = ?",
        )
        .bind(id.as_bytes().as_slice())
        .fetch_optional(self.pool())
        .await?;
        row.map(out_letter).transpose()
    }

    /// All that wait: id, receiver and time, in the order in which they were written.
    pub(crate) async fn letters_waiting(&self) -> Result<Vec<(MessageId, Number, UnixMillis)>, StorageError> {
        let rows: Vec<(Vec<u8>, String, i64)> =
            sqlx::query_as("SELECT id, number, written FROM outbox ORDER BY row")
                .fetch_all(self.pool())
                .await?;
        let waiting = |(id, number, at): (Vec<u8>, String, i64)| {
            Ok((message_id(&id)?, db::number(&number)?, UnixMillis(db::uint(at))))
        };
        rows.into_iter().map(waiting).collect()
    }

    /// Notes with what a letter is sealed: what was noted first counts, unless the receiver's key is another one by now.
    pub(crate) async fn letter_sealed(&self, id: &MessageId, sealed: &SealedFor) -> Result<(), StorageError> {
        let mut tx = db::write(self.pool()).await?;
        sqlx::query("UPDATE outbox SET identity = ?, mailbox = ?, introduction = ? WHERE id = ?")
            .bind(sealed.identity.as_bytes().as_slice())
            .bind(sealed.mailbox.as_bytes().as_slice())
            .bind(wire::encode(&sealed.from))
            .bind(id.as_bytes().as_slice())
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM outbox_pieces WHERE id = ?")
            .bind(id.as_bytes().as_slice())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Pieces of a letter that a node has.
    pub(crate) async fn letter_pieces(&self, id: &MessageId, node: &str) -> Result<Vec<usize>, StorageError> {
        let rows: Vec<(i64,)> = sqlx::query_as("SELECT piece FROM outbox_pieces WHERE id = ? AND node = ?")
            .bind(id.as_bytes().as_slice())
            .bind(node)
            .fetch_all(self.pool())
            .await?;
        Ok(rows.into_iter().filter_map(|(piece,)| usize::try_from(piece).ok()).collect())
    }

    /// Notes that a node has a piece: it is not sent again after a break.
    pub(crate) async fn letter_piece(
        &self,
        id: &MessageId,
        node: &str,
        piece: usize,
    ) -> Result<(), StorageError> {
        sqlx::query("INSERT INTO outbox_pieces (id, node, piece) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(id.as_bytes().as_slice())
            .bind(node)
            .bind(i64::try_from(piece).unwrap_or(i64::MAX))
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// A letter waits no longer; what has become of it is noted with it, if it is a message's.
    pub(crate) async fn letter_done(
        &self,
        id: &MessageId,
        state: Option<MessageState>,
    ) -> Result<(), StorageError> {
        let mut tx = db::write(self.pool()).await?;
        sqlx::query("DELETE FROM outbox WHERE id = ?")
            .bind(id.as_bytes().as_slice())
            .execute(&mut *tx)
            .await?;
        if let Some(state) = state {
            sqlx::query("UPDATE messages SET state = ? WHERE id = ? AND outgoing = 1 AND state = ?")
                .bind(state.code())
                .bind(id.to_string())
                .bind(MessageState::Sending.code())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Takes a text that was left; `false` if it was taken before, from here or from another directory.
    pub(crate) async fn take_text(&self, from: Sender<'_>, body: &str) -> Result<bool, StorageError> {
        if body.len() > MAX_TEXT_BYTES {
            return Err(StorageError::TooLarge("A message"));
        }
        let entry = MessageEntry {
            id: from.id.to_string(),
            number: from.number.clone(),
            body: body.to_owned(),
            sent: from.written,
            state: MessageState::Received,
        };
        // One that came straight, or a kill between the two: it is in the list already.
        let new = self.message_add(&entry).await?;
        let mut tx = db::write(self.pool()).await?;
        take(&mut tx, from).await?;
        tx.commit().await?;
        Ok(new)
    }

    /// Takes a mark: notes what has become of messages to its sender. Says which of them have changed.
    pub(crate) async fn take_mark(
        &self,
        from: Sender<'_>,
        mark: Mark,
        of: &[MessageId],
    ) -> Result<Vec<MessageId>, StorageError> {
        let mut tx = db::write(self.pool()).await?;
        let mut changed = Vec::new();
        let state = match mark {
            Mark::Delivered => MessageState::Delivered,
            Mark::Read => MessageState::Read,
            Mark::Other(_) => return Ok(changed),
        };
        if take(&mut tx, from).await? {
            for id in of {
                let done = sqlx::query(
                    "UPDATE messages SET state = ?1 WHERE id = ?2 AND number = ?3 AND outgoing = 1
                         AND state <> 'read' AND state <> ?1",
                )
                .bind(state.code())
                .bind(id.to_string())
                .bind(from.number.canonical())
                .execute(&mut *tx)
                .await?;
                if done.rows_affected() > 0 {
                    changed.push(*id);
                }
            }
        }
        tx.commit().await?;
        Ok(changed)
    }

    /// Which of these blobs were fetched and taken before.
    pub(crate) async fn mail_had(&self, blob: &BlobId) -> Result<bool, StorageError> {
        let had: Option<(i64,)> = sqlx::query_as("SELECT at FROM mail_have WHERE blob = ?")
            .bind(blob.as_bytes().as_slice())
            .fetch_optional(self.pool())
            .await?;
        Ok(had.is_some())
    }

    /// Notes that a blob need not be fetched again.
    pub(crate) async fn mail_has(&self, blob: &BlobId, now: UnixMillis) -> Result<(), StorageError> {
        let mut tx = db::write(self.pool()).await?;
        sqlx::query("INSERT INTO mail_have (blob, at) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(blob.as_bytes().as_slice())
            .bind(db::int(now.0))
            .execute(&mut *tx)
            .await?;
        let over = db::int(now.0.saturating_sub(u64::try_from(REMEMBERED.as_millis()).unwrap_or(u64::MAX)));
        sqlx::query("DELETE FROM mail_have WHERE at < ?").bind(over).execute(&mut *tx).await?;
        sqlx::query("DELETE FROM letters_taken WHERE written < ?").bind(over).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Keeps the tokens that somebody has given for answers, instead of those before.
    pub(crate) async fn keep_grants(&self, of: &IdentityId, grants: &[Grant]) -> Result<(), StorageError> {
        let mut tx = db::write(self.pool()).await?;
        for grant in grants {
            sqlx::query(
                "INSERT INTO mail_tokens (identity, directory, token) VALUES (?, ?, ?)
                 ON CONFLICT (identity, directory) DO UPDATE SET token = excluded.token",
            )
            .bind(of.as_bytes().as_slice())
            .bind(grant.directory.as_bytes().as_slice())
            .bind(wire::encode(&grant.token))
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The token for deposits in somebody's mailbox at a directory.
    pub(crate) async fn token(
        &self,
        of: &IdentityId,
        at: &DirectoryId,
    ) -> Result<Option<Token>, StorageError> {
        let row: Option<(Vec<u8>,)> =
            sqlx::query_as("SELECT token FROM mail_tokens WHERE identity = ? AND directory = ?")
                .bind(of.as_bytes().as_slice())
                .bind(at.as_bytes().as_slice())
                .fetch_optional(self.pool())
                .await?;
        Ok(row.and_then(|(token,)| wire::decode(&token, 256).ok()))
    }

    /// Forgets a token that is not good any more.
    pub(crate) async fn forget_token(&self, of: &IdentityId, at: &DirectoryId) -> Result<(), StorageError> {
        sqlx::query("DELETE FROM mail_tokens WHERE identity = ? AND directory = ?")
            .bind(of.as_bytes().as_slice())
            .bind(at.as_bytes().as_slice())
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Directories that keep the account's mailbox: contacts are given tokens for them.
    pub(crate) async fn mailbox_directories(&self) -> Result<Vec<DirectoryId>, StorageError> {
        let setting = self.setting(DIRECTORIES_SETTING).await?;
        let list: Vec<DirectoryId> =
            setting.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Ok(list.into_iter().take(MAX_GRANTS).collect())
    }

    /// Sets them.
    pub(crate) async fn set_mailbox_directories(&self, list: &[DirectoryId]) -> Result<(), StorageError> {
        let text = serde_json::to_string(list)
            .map_err(|_| StorageError::Internal("mailboxes could not be written"))?;
        self.set_setting(DIRECTORIES_SETTING, Some(&text)).await
    }

    /// Nodes of directories that keep the account's mailbox, as this terminal has found them.
    pub(crate) async fn own_mailboxes(&self) -> Result<Vec<NodeAddr>, StorageError> {
        let setting = self.setting(MAILBOXES_SETTING).await?;
        Ok(setting.map(|text| parse_mailboxes(&text)).unwrap_or_default())
    }

    /// Sets them: the account's records name them as soon as they are signed anew.
    pub(crate) async fn set_mailboxes(&self, nodes: &[NodeAddr]) -> Result<(), StorageError> {
        let nodes: Vec<&str> = nodes.iter().map(NodeAddr::as_str).collect();
        let text = serde_json::to_string(&nodes)
            .map_err(|_| StorageError::Internal("mailboxes could not be written"))?;
        self.set_setting(MAILBOXES_SETTING, Some(&text)).await
    }
}

/// The nodes in the setting; what is none is left out.
pub(super) fn parse_mailboxes(text: &str) -> Vec<NodeAddr> {
    let list: Vec<String> = serde_json::from_str(text).unwrap_or_default();
    list.iter().filter_map(|addr| addr.parse().ok()).collect()
}

pub(super) async fn is_taken(tx: &mut db::Write, from: Sender<'_>) -> Result<bool, StorageError> {
    let taken: Option<(i64,)> =
        sqlx::query_as("SELECT written FROM letters_taken WHERE identity = ? AND id = ?")
            .bind(from.identity.as_bytes().as_slice())
            .bind(from.id.as_bytes().as_slice())
            .fetch_optional(&mut **tx)
            .await?;
    Ok(taken.is_some())
}

/// Notes that a letter was taken; `false` if it was before.
pub(super) async fn take(tx: &mut db::Write, from: Sender<'_>) -> Result<bool, StorageError> {
    let done = sqlx::query(
        "INSERT INTO letters_taken (identity, id, written) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(from.identity.as_bytes().as_slice())
    .bind(from.id.as_bytes().as_slice())
    .bind(db::int(from.written.0))
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

fn stored(content: &Content) -> (&'static str, Vec<u8>, u32) {
    match content {
        Content::Text { body } => ("text", body.clone().into_bytes(), 0),
        Content::Voicemail(voicemail) => ("voice", voicemail.audio.clone(), voicemail.duration_ms),
        Content::Mark { mark, of } => {
            let code = if *mark == Mark::Read { 1 } else { 0 };
            let ids = of.iter().flat_map(|id| *id.as_bytes());
            ("mark", std::iter::once(code).chain(ids).collect(), 0)
        }
    }
}

fn content_of(kind: &str, body: Vec<u8>, duration_ms: u32) -> Result<Content, StorageError> {
    const DAMAGED: StorageError = StorageError::Damaged("a letter");
    match kind {
        "text" => Ok(Content::Text { body: String::from_utf8(body).map_err(|_| DAMAGED)? }),
        "voice" => Ok(Content::Voicemail(Voicemail { duration_ms, format: Format::OggOpus, audio: body })),
        "mark" => {
            let (code, ids) = body.split_first().ok_or(DAMAGED)?;
            let mark = if *code == 1 { Mark::Read } else { Mark::Delivered };
            let of = ids.chunks(16).map(message_id).collect::<Result<_, _>>()?;
            Ok(Content::Mark { mark, of })
        }
        _ => Err(DAMAGED),
    }
}

fn message_id(bytes: &[u8]) -> Result<MessageId, StorageError> {
    Ok(MessageId::from_bytes(db::bytes(bytes, "a letter's id")?))
}

fn out_letter(row: OutRow) -> Result<OutLetter, StorageError> {
    let (id, number, kind, body, duration, written, after, seed, identity, mailbox, from) = row;
    let sealed = match (identity, mailbox, from) {
        (Some(identity), Some(mailbox), Some(from)) => Some(SealedFor {
            identity: IdentityId::from_bytes(db::bytes(&identity, "a letter")?),
            mailbox: MailboxPublic::from_bytes(db::bytes(&mailbox, "a letter")?),
            from: wire::decode(&from, MAX_INTRODUCTION).map_err(|_| StorageError::Damaged("a letter"))?,
        }),
        (_, _, _) => None,
    };
    Ok(OutLetter {
        id: message_id(&id)?,
        number: db::number(&number)?,
        content: content_of(&kind, body, u32::try_from(duration).unwrap_or(u32::MAX))?,
        written: UnixMillis(db::uint(written)),
        after: after.as_deref().map(message_id).transpose()?,
        seed: db::bytes(&seed, "a letter")?,
        sealed,
    })
}
