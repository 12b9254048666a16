//! Mailboxes as the database has them.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use offhook_proto::identity::{IdentityId, TerminalId};
use offhook_proto::mailbox::contacts::DepositRules;
use offhook_proto::mailbox::quota::{Holding, Key};
use offhook_proto::mailbox::{BlobId, MailboxId};
use offhook_proto::wire;
use sqlx::AnyConnection;

use super::books::{
    Books, Change, MAX_CHANGE, Made, MailLimits, Owner, depositor_of, network_of, stored_network,
};
use crate::store::{Quota, StoreError, db};

/// So many of the last changes are kept for processes that have not heard of them; one that has missed more reads everything.
const LOG_KEPT: i64 = 10_000;

/// A mailbox, and a piece of a letter, as they are stored.
type MailboxRow = (Vec<u8>, Vec<u8>, Option<Vec<u8>>, i64, i64, Vec<u8>);
type BlobRow = (Vec<u8>, Vec<u8>, i64, i64, Vec<u8>, i64, i64);

/// Holds what all changes go through, until the transaction ends; how many there have been, and the name of the last.
pub(super) async fn hold(connection: &mut AnyConnection) -> Result<(i64, Vec<u8>), StoreError> {
    let tail = sqlx::query_as("UPDATE mail_tail SET length = length WHERE one = 1 RETURNING length, mark");
    Ok(tail.fetch_one(connection).await?)
}

/// Brings the books up to what has been changed elsewhere. The tail is held.
pub(super) async fn catch_up(
    connection: &mut AnyConnection,
    books: &mut Books,
    tail: &(i64, Vec<u8>),
) -> Result<(), StoreError> {
    if (books.position, &books.mark) == (tail.0, &tail.1) {
        return Ok(());
    }
    if !follow(connection, books, tail).await? {
        *books = read_all(connection, books.limits(), tail).await?;
    }
    Ok(())
}

/// Makes the changes that are new; false if what the books have heard of last is not what was there.
async fn follow(
    connection: &mut AnyConnection,
    books: &mut Books,
    tail: &(i64, Vec<u8>),
) -> Result<bool, StoreError> {
    let rows: Vec<(i64, Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT position, mark, change FROM mail_log WHERE position >= $1 ORDER BY position")
            .bind(books.position)
            .fetch_all(connection)
            .await?;
    let is_whole = rows.len() as i64 == tail.0 - books.position + 1;
    let is_known =
        rows.first().is_some_and(|(position, mark, _)| (*position, mark) == (books.position, &books.mark));
    let ends = rows.last().is_some_and(|(_, mark, _)| *mark == tail.1);
    if !(is_whole && is_known && ends) {
        return Ok(false);
    }
    for (position, mark, change) in rows.into_iter().skip(1) {
        let Ok(change) = wire::decode::<Change>(&change, MAX_CHANGE) else { return Ok(false) };
        if books.make(&change).is_err() {
            return Ok(false);
        }
        (books.position, books.mark) = (position, mark);
    }
    Ok(true)
}

/// Reads the books from the tables.
async fn read_all(
    connection: &mut AnyConnection,
    limits: MailLimits,
    tail: &(i64, Vec<u8>),
) -> Result<Books, StoreError> {
    const DAMAGED: StoreError = StoreError::Damaged("a mailbox");
    let mut books = Books::new(limits);
    let rows: Vec<MailboxRow> = sqlx::query_as(
        "SELECT mailbox, identity, network, newest, entered, rules FROM mailboxes ORDER BY mailbox",
    )
    .fetch_all(&mut *connection)
    .await?;
    for (mailbox, identity, network, newest, entered, rules) in rows {
        let mailbox = mailbox_of(&mailbox)?;
        let identity = IdentityId::from_bytes(db::bytes(&identity, "a mailbox")?);
        let network = network.as_deref().map(|network| network_of(network).ok_or(DAMAGED)).transpose()?;
        let rules: DepositRules = wire::decode(&rules, MAX_CHANGE).map_err(|_| DAMAGED)?;
        let owner = Owner { identity, network, entered: db::at(entered) };
        if books.put_back(mailbox, owner, db::uint(newest), rules).is_err() {
            // The operator keeps fewer than before. What is in it stays where it is until there is room for it again.
            tracing::warn!("there are more mailboxes than the settings allow; some are not served");
            break;
        }
    }
    let rows: Vec<(Vec<u8>, Vec<u8>, i64)> =
        sqlx::query_as("SELECT mailbox, terminal, until FROM mail_terminals ORDER BY mailbox, terminal")
            .fetch_all(&mut *connection)
            .await?;
    for (mailbox, terminal, until) in rows {
        let _ = books.ledger.enter(&mailbox_of(&mailbox)?, terminal_of(&terminal)?, db::at(until));
    }
    read_blobs(connection, &mut books).await?;
    let grants: Vec<(Vec<u8>, i64)> = sqlx::query_as("SELECT identity, value FROM quotas WHERE quota = $1")
        .bind(Quota::MailboxMegabytes.name())
        .fetch_all(&mut *connection)
        .await?;
    for (identity, megabytes) in grants {
        books.grant(&IdentityId::from_bytes(db::bytes(&identity, "a quota")?), db::uint(megabytes));
    }
    (books.position, books.mark) = tail.clone();
    Ok(books)
}

async fn read_blobs(connection: &mut AnyConnection, books: &mut Books) -> Result<(), StoreError> {
    let acks: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT mailbox, id, terminal FROM mail_acks").fetch_all(&mut *connection).await?;
    let mut acknowledged: BTreeMap<Key, Vec<TerminalId>> = BTreeMap::new();
    for (mailbox, id, terminal) in acks {
        let key = (mailbox_of(&mailbox)?, blob_of(&id)?);
        acknowledged.entry(key).or_default().push(terminal_of(&terminal)?);
    }
    let rows: Vec<BlobRow> = sqlx::query_as(
        "SELECT mailbox, id, number, size, depositor, arrived, expires FROM mail_blobs ORDER BY mailbox, number",
    )
    .fetch_all(&mut *connection)
    .await?;
    for (mailbox, id, number, size, by, arrived, expires) in rows {
        let (mailbox, id) = (mailbox_of(&mailbox)?, blob_of(&id)?);
        books.ledger.restore(Holding {
            mailbox,
            id,
            number: db::uint(number),
            size: u32::try_from(size).map_err(|_| StoreError::Damaged("a letter"))?,
            by: depositor_of(&by).ok_or(StoreError::Damaged("a letter"))?,
            arrived: db::at(arrived),
            expires: db::at(expires),
            acknowledged: acknowledged.remove(&(mailbox, id)).unwrap_or_default().into_iter().collect(),
        });
    }
    Ok(())
}

/// Writes down what a change has come to; the names of files that nothing points to any more. `blob` is that of a deposit.
pub(super) async fn write(
    connection: &mut AnyConnection,
    books: &Books,
    change: &Change,
    made: &Made,
    blob: &str,
) -> Result<Vec<String>, StoreError> {
    let freed = erase(connection, &made.gone).await?;
    for mailbox in &made.closed {
        let closed = sqlx::query("DELETE FROM mailboxes WHERE mailbox = $1").bind(raw(mailbox));
        closed.execute(&mut *connection).await?;
    }
    match change {
        Change::Enter { identity, .. } => enter(connection, books, &MailboxId::of(identity), made).await?,
        Change::Revoke { mailbox, .. } => set_terminals(connection, books, mailbox).await?,
        Change::Deposit { mailbox, id, .. } => deposit(connection, books, &(*mailbox, *id), blob).await?,
        Change::Acknowledge { mailbox, terminal, ids } => {
            let has = |id: &&BlobId| {
                let held = books.ledger.get(mailbox, id);
                held.is_some_and(|held| held.acknowledged.contains(terminal))
            };
            for id in ids.iter().filter(has) {
                sqlx::query("INSERT INTO mail_acks (mailbox, id, terminal) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                    .bind(raw(mailbox))
                    .bind(id.as_bytes().to_vec())
                    .bind(terminal.as_bytes().to_vec())
                    .execute(&mut *connection)
                    .await?;
            }
        }
        Change::Rules { mailbox, rules } => {
            let set = sqlx::query("UPDATE mailboxes SET rules = $2 WHERE mailbox = $1");
            set.bind(raw(mailbox)).bind(wire::encode(rules)).execute(&mut *connection).await?;
        }
        Change::Expire { at } => {
            let over = sqlx::query("DELETE FROM mail_terminals WHERE until < $1").bind(db::time(*at));
            if over.execute(&mut *connection).await?.rows_affected() > 0 {
                forget_acks(connection).await?;
            }
        }
        Change::Close { .. } | Change::Erase { .. } => {}
    }
    Ok(freed)
}

/// Writes the change itself to the log, and moves the tail on.
pub(super) async fn log(
    connection: &mut AnyConnection,
    change: &Change,
    position: i64,
    mark: &[u8],
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO mail_log (position, mark, change) VALUES ($1, $2, $3)")
        .bind(position)
        .bind(mark.to_vec())
        .bind(wire::encode(change))
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE mail_tail SET length = $1, mark = $2 WHERE one = 1")
        .bind(position)
        .bind(mark.to_vec())
        .execute(&mut *connection)
        .await?;
    // Not each time: it is the same work for many.
    if position % 256 == 0 {
        let old = sqlx::query("DELETE FROM mail_log WHERE position < $1").bind(position - LOG_KEPT);
        old.execute(connection).await?;
    }
    Ok(())
}

/// Has all processes read the books anew: something was changed that is not in the log.
pub(in crate::store) async fn renew(connection: &mut AnyConnection) -> Result<(), StoreError> {
    sqlx::query("UPDATE mail_tail SET mark = $1 WHERE one = 1")
        .bind(rand::random::<[u8; 16]>().to_vec())
        .execute(connection)
        .await?;
    Ok(())
}

async fn erase(connection: &mut AnyConnection, gone: &[Key]) -> Result<Vec<String>, StoreError> {
    let mut freed = Vec::new();
    for (mailbox, id) in gone {
        let row: Option<String> =
            sqlx::query_scalar("DELETE FROM mail_blobs WHERE mailbox = $1 AND id = $2 RETURNING blob")
                .bind(raw(mailbox))
                .bind(id.as_bytes().to_vec())
                .fetch_optional(&mut *connection)
                .await?;
        freed.extend(row);
    }
    Ok(freed)
}

async fn enter(
    connection: &mut AnyConnection,
    books: &Books,
    mailbox: &MailboxId,
    made: &Made,
) -> Result<(), StoreError> {
    let Some(owner) = books.owners.get(mailbox) else { return Ok(()) };
    let network = owner.network.as_ref().map(stored_network);
    if made.opened {
        let rules = books.rules.get(mailbox).map(wire::encode).unwrap_or_default();
        sqlx::query(
            "INSERT INTO mailboxes (mailbox, identity, network, newest, entered, rules) \
             VALUES ($1, $2, $3, 0, $4, $5)",
        )
        .bind(raw(mailbox))
        .bind(owner.identity.as_bytes().to_vec())
        .bind(network)
        .bind(db::time(owner.entered))
        .bind(rules)
        .execute(&mut *connection)
        .await?;
    } else {
        sqlx::query("UPDATE mailboxes SET entered = $2, network = $3 WHERE mailbox = $1")
            .bind(raw(mailbox))
            .bind(db::time(owner.entered))
            .bind(network)
            .execute(&mut *connection)
            .await?;
    }
    set_terminals(connection, books, mailbox).await
}

/// Writes which terminals there are, and forgets what others have acknowledged.
async fn set_terminals(
    connection: &mut AnyConnection,
    books: &Books,
    mailbox: &MailboxId,
) -> Result<(), StoreError> {
    let terminals = books.ledger.terminals(mailbox);
    for (terminal, until) in &terminals {
        sqlx::query(
            "INSERT INTO mail_terminals (mailbox, terminal, until) VALUES ($1, $2, $3) \
             ON CONFLICT (mailbox, terminal) DO UPDATE SET until = excluded.until",
        )
        .bind(raw(mailbox))
        .bind(terminal.as_bytes().to_vec())
        .bind(db::time(*until))
        .execute(&mut *connection)
        .await?;
    }
    let stored: Vec<Vec<u8>> = sqlx::query_scalar("SELECT terminal FROM mail_terminals WHERE mailbox = $1")
        .bind(raw(mailbox))
        .fetch_all(&mut *connection)
        .await?;
    for gone in
        stored.iter().filter(|stored| !terminals.iter().any(|(id, _)| id.as_bytes()[..] == stored[..]))
    {
        sqlx::query("DELETE FROM mail_terminals WHERE mailbox = $1 AND terminal = $2")
            .bind(raw(mailbox))
            .bind(gone.clone())
            .execute(&mut *connection)
            .await?;
        sqlx::query("DELETE FROM mail_acks WHERE mailbox = $1 AND terminal = $2")
            .bind(raw(mailbox))
            .bind(gone.clone())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Forgets what terminals have acknowledged that are none any more.
async fn forget_acks(connection: &mut AnyConnection) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM mail_acks WHERE NOT EXISTS (SELECT 1 FROM mail_terminals t \
         WHERE t.mailbox = mail_acks.mailbox AND t.terminal = mail_acks.terminal)",
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn deposit(
    connection: &mut AnyConnection,
    books: &Books,
    key: &Key,
    blob: &str,
) -> Result<(), StoreError> {
    let Some(held) = books.ledger.get(&key.0, &key.1) else { return Ok(()) };
    sqlx::query(
        "INSERT INTO mail_blobs (mailbox, id, number, size, depositor, arrived, expires, blob) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(raw(&key.0))
    .bind(key.1.as_bytes().to_vec())
    .bind(db::int(held.number))
    .bind(i64::from(held.size))
    .bind(super::books::stored_depositor(&held.by))
    .bind(db::time(held.arrived))
    .bind(db::time(held.expires))
    .bind(blob.to_owned())
    .execute(&mut *connection)
    .await?;
    let newest = sqlx::query("UPDATE mailboxes SET newest = $2 WHERE mailbox = $1");
    newest.bind(raw(&key.0)).bind(db::int(held.number)).execute(connection).await?;
    Ok(())
}

/// A name for the file of a blob that no file had before.
pub(super) fn new_name(folder: &str, mailbox: &MailboxId) -> String {
    let random = HEXLOWER.encode(&rand::random::<[u8; 16]>());
    format!("{folder}/{}/{random}", HEXLOWER.encode(mailbox.as_bytes()))
}

fn raw(mailbox: &MailboxId) -> Vec<u8> {
    mailbox.as_bytes().to_vec()
}

fn mailbox_of(bytes: &[u8]) -> Result<MailboxId, StoreError> {
    Ok(MailboxId::from_bytes(db::bytes(bytes, "a mailbox")?))
}

fn blob_of(bytes: &[u8]) -> Result<BlobId, StoreError> {
    Ok(BlobId::from_bytes(db::bytes(bytes, "a letter")?))
}

fn terminal_of(bytes: &[u8]) -> Result<TerminalId, StoreError> {
    Ok(TerminalId::from_bytes(db::bytes(bytes, "a terminal")?))
}
