//! What other processes have kept, told by PostgreSQL (LISTEN, NOTIFY) when it is on disk.

use std::time::Duration;

use data_encoding::HEXLOWER;
use offhook_proto::mailbox::MailboxId;
use sqlx::AnyConnection;
use sqlx::postgres::PgListener;

use crate::store::{SecretUrl, StoreError};

/// The channel. A database is one directory's.
const CHANNEL: &str = "offhook_mail";
/// How long it takes to ask again after an error; the listener connects anew by itself.
const PAUSE: Duration = Duration::from_secs(1);

/// What comes into mailboxes from all processes.
pub struct Heard {
    listener: PgListener,
}

impl Heard {
    pub(super) async fn listen(url: &SecretUrl) -> Result<Self, StoreError> {
        let mut listener = PgListener::connect(url.as_str()).await?;
        listener.listen(CHANNEL).await?;
        Ok(Self { listener })
    }

    /// The next mailbox into which something has come. Of what comes while the database is not there nothing is heard: terminals look
    /// into their mailboxes every so often.
    pub async fn next(&mut self) -> MailboxId {
        loop {
            match self.listener.recv().await {
                Ok(told) => {
                    let bytes = HEXLOWER.decode(told.payload().as_bytes()).ok();
                    if let Some(mailbox) = bytes.and_then(|bytes| bytes.try_into().ok()) {
                        return MailboxId::from_bytes(mailbox);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "what other processes keep in mailboxes is not heard of now");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Tells all processes, once the transaction is on disk.
pub(super) async fn tell(connection: &mut AnyConnection, mailbox: &MailboxId) -> Result<(), StoreError> {
    let told = sqlx::query("SELECT pg_notify($1, $2)");
    told.bind(CHANNEL).bind(HEXLOWER.encode(mailbox.as_bytes())).execute(connection).await?;
    Ok(())
}
