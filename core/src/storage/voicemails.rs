//! Voice messages that have come out of the mailboxes, and those of which pieces are still missing.

use super::letters::{Sender, is_taken, take};
use super::{AccountStore, StorageError, db};
use crate::clock::wall_clock;
use offhook_proto::mailbox::letter::MAX_PIECES;
use offhook_proto::number::Number;
use offhook_proto::wire::UnixMillis;
use sha2::{Digest as _, Sha256};

/// Pieces of voice messages that are not whole yet, of all senders; the oldest go and are fetched again. 16 MiB.
const MAX_PARTS: i64 = 128;
/// Voice messages that are kept; the oldest that was heard goes, or else the oldest.
const MAX_VOICEMAILS: i64 = 500;

/// A piece of a voice message that has come.
#[derive(Debug)]
pub(crate) struct VoicePart {
    pub piece: u16,
    pub duration_ms: u32,
    pub total: u32,
    pub digest: [u8; 32],
    pub data: Vec<u8>,
}

/// A voice message, without its sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoicemailEntry {
    /// Its number in the list.
    pub row: i64,
    /// Who has left it.
    pub number: Number,
    /// When.
    pub written: UnixMillis,
    /// How long it sounds, milliseconds.
    pub duration_ms: u32,
    /// Bytes of its sound, Opus in Ogg.
    pub bytes: u64,
    /// Whether it was heard.
    pub heard: bool,
}

impl AccountStore {
    /// Keeps a piece of a voice message; the whole one once all pieces are there, `None` before, and if it was taken already.
    pub(crate) async fn take_voice(
        &self,
        from: Sender<'_>,
        part: VoicePart,
    ) -> Result<Option<VoicemailEntry>, StorageError> {
        let mut tx = db::write(self.pool()).await?;
        if is_taken(&mut tx, from).await? {
            return Ok(None);
        }
        put_part(&mut tx, from, &part).await?;
        let rows: Vec<(Vec<u8>, i64, Vec<u8>)> = sqlx::query_as(
            "SELECT data, total, digest FROM voice_parts WHERE identity = ? AND id = ? ORDER BY piece",
        )
        .bind(from.identity.as_bytes().as_slice())
        .bind(from.id.as_bytes().as_slice())
        .fetch_all(&mut *tx)
        .await?;
        let audio: Vec<u8> = rows.iter().flat_map(|(data, ..)| data).copied().collect();
        // Pieces that do not go together never become whole, and give way.
        let is_whole = audio.len() == part.total as usize && Sha256::digest(&audio)[..] == part.digest[..];
        let entry = if is_whole { Some(put_voicemail(&mut tx, from, &part, &audio).await?) } else { None };
        tx.commit().await?;
        Ok(entry)
    }

    /// Voice messages, the newest first.
    pub async fn voicemails(&self, limit: u32) -> Result<Vec<VoicemailEntry>, StorageError> {
        type Row = (i64, String, i64, i64, i64, bool);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT row, number, written, duration_ms, length(audio), heard FROM voicemails
             ORDER BY row DESC LIMIT ?",
        )
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        let entry = |(row, number, written, duration, bytes, heard): Row| {
            Ok(VoicemailEntry {
                row,
                number: db::number(&number)?,
                written: UnixMillis(db::uint(written)),
                duration_ms: u32::try_from(duration).unwrap_or(u32::MAX),
                bytes: db::uint(bytes),
                heard,
            })
        };
        rows.into_iter().map(entry).collect()
    }

    /// The sound of a voice message, Opus in Ogg; it counts as heard from now on.
    pub async fn voicemail_audio(&self, row: i64) -> Result<Option<Vec<u8>>, StorageError> {
        let audio: Option<(Vec<u8>,)> =
            sqlx::query_as("UPDATE voicemails SET heard = 1 WHERE row = ? RETURNING audio")
                .bind(row)
                .fetch_optional(self.pool())
                .await?;
        Ok(audio.map(|(audio,)| audio))
    }

    /// Deletes a voice message; `false` if there is no such one.
    pub async fn voicemail_delete(&self, row: i64) -> Result<bool, StorageError> {
        let gone = sqlx::query("DELETE FROM voicemails WHERE row = ?").bind(row).execute(self.pool()).await?;
        Ok(gone.rows_affected() > 0)
    }
}

async fn put_part(tx: &mut db::Write, from: Sender<'_>, part: &VoicePart) -> Result<(), StorageError> {
    sqlx::query(
        "INSERT INTO voice_parts (identity, id, piece, number, written, duration_ms, total, digest, data, came)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (identity, id, piece) DO UPDATE SET data = excluded.data, came = excluded.came",
    )
    .bind(from.identity.as_bytes().as_slice())
    .bind(from.id.as_bytes().as_slice())
    .bind(i64::from(part.piece))
    .bind(from.number.canonical())
    .bind(db::int(from.written.0))
    .bind(i64::from(part.duration_ms))
    .bind(i64::from(part.total))
    .bind(part.digest.as_slice())
    .bind(part.data.as_slice())
    .bind(db::int(wall_clock().0))
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "DELETE FROM voice_parts WHERE rowid IN
             (SELECT rowid FROM voice_parts ORDER BY came DESC, piece LIMIT -1 OFFSET ?)",
    )
    .bind(MAX_PARTS)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn put_voicemail(
    tx: &mut db::Write,
    from: Sender<'_>,
    part: &VoicePart,
    audio: &[u8],
) -> Result<VoicemailEntry, StorageError> {
    let (row,): (i64,) = sqlx::query_as(
        "INSERT INTO voicemails (id, identity, number, written, duration_ms, audio)
         VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (identity, id) DO UPDATE SET written = excluded.written RETURNING row",
    )
    .bind(from.id.as_bytes().as_slice())
    .bind(from.identity.as_bytes().as_slice())
    .bind(from.number.canonical())
    .bind(db::int(from.written.0))
    .bind(i64::from(part.duration_ms))
    .bind(audio)
    .fetch_one(&mut **tx)
    .await?;
    sqlx::query("DELETE FROM voice_parts WHERE identity = ? AND id = ?")
        .bind(from.identity.as_bytes().as_slice())
        .bind(from.id.as_bytes().as_slice())
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "DELETE FROM voicemails WHERE row IN
             (SELECT row FROM voicemails ORDER BY heard, row DESC LIMIT -1 OFFSET ?)",
    )
    .bind(MAX_VOICEMAILS)
    .execute(&mut **tx)
    .await?;
    take(tx, from).await?;
    Ok(VoicemailEntry {
        row,
        number: from.number.clone(),
        written: from.written,
        duration_ms: part.duration_ms,
        bytes: audio.len() as u64,
        heard: false,
    })
}

// All pieces of some letters fit, so one of them becomes whole.
const _: () = assert!(MAX_PARTS > 2 * MAX_PIECES as i64);
