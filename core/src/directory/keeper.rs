//! What a running terminal does by itself for an account that may act without its password: its backup is put to its directories when
//! something has changed, and the certificates of its chosen numbers, its own and its record are renewed from half of their life on.

use super::{DirectoryError, Heard, Older, Unlocked};
use crate::api::{ApiError, Command, Event};
use crate::clock::wall_clock;
use crate::engine::Request;
use crate::storage::{AccountStore, KnownDirectory};
use offhook_proto::wire::UnixMillis;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Who changes one thing changes another: so long nothing more must have come before it is put.
const QUIET: Duration = Duration::from_secs(5);
/// But no change waits longer than this.
const AT_LATEST: Duration = Duration::from_secs(60);
/// How often the directories are asked although nothing has changed here: another terminal may have put something there.
const LOOK: Duration = Duration::from_secs(6 * 3_600);
/// First and longest pause after a failure; it doubles between, and is drawn by lot from half of it on.
const RETRY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3_600));

/// Ends its work when dropped.
pub(crate) struct Keeper(JoinHandle<()>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Keeper {
    /// Begins. `engine` is told when papers have been renewed.
    pub(crate) fn start(account: AccountStore, engine: mpsc::WeakSender<Request>) -> Self {
        Self(tokio::spawn(async move { keep(&account, &engine).await }))
    }
}

async fn keep(account: &AccountStore, engine: &mpsc::WeakSender<Request>) {
    let mut changes = account.changes();
    let mut failures = 0;
    // When the terminal starts, something may have changed since it ran.
    let mut is_due = true;
    loop {
        settle(&mut changes).await;
        changes.mark_unchanged();
        let done = keep_once(account, engine, is_due).await;
        let pause = match done {
            Ok(()) => {
                failures = 0;
                LOOK
            }
            Err(error) => {
                failures += 1;
                tracing::info!(%error, failures, "the account's directories could not be brought up to date");
                pause(failures).max(error.retry_after().unwrap_or_default())
            }
        };
        let next = Instant::now() + pause;
        is_due = if failures == 0 {
            timeout_at(next, changes.changed()).await.is_err()
        } else {
            // More changes do not make it try more often.
            sleep(pause).await;
            is_due
        };
    }
}

/// Until nothing has changed for a while.
async fn settle(changes: &mut watch::Receiver<u64>) {
    let end = Instant::now() + AT_LATEST;
    changes.mark_unchanged();
    while Instant::now() < end {
        match timeout(QUIET, changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

fn pause(failures: u32) -> Duration {
    let longest = RETRY.0.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(RETRY.1);
    longest.mul_f64(rand::random_range(0.5..1.0))
}

/// Does what there is to do; `is_due`: it asks even if nothing has changed here.
async fn keep_once(
    account: &AccountStore,
    engine: &mpsc::WeakSender<Request>,
    is_due: bool,
) -> Result<(), DirectoryError> {
    let Some(unlocked) = Unlocked::unattended(account).await? else { return Ok(()) };
    let now = wall_clock();
    let (mut heard, mut failed) = (Heard::default(), None);
    for known in account.directories().await? {
        if !is_due && !wants(account, &known, now).await? {
            continue;
        }
        match unlocked.sync_with(&known, Older::Refuse, &mut heard).await {
            Ok(synced) => {
                tracing::debug!(version = synced.version, is_new = synced.is_new, "the backup is up to date");
            }
            Err(error) => {
                if matches!(error, DirectoryError::TooLarge(_)) && !known.is_too_large {
                    let ApiError { code, message } = error.to_api();
                    tell(engine, Request::Tell(Event::Error { code, message })).await;
                }
                failed = failed.or(Some(error));
            }
        }
    }
    // After it is known which terminals were revoked elsewhere.
    if account.papers_due(now) {
        unlocked.renew_papers().await?;
        heard.has_signed = true;
    }
    if heard.is_news() {
        let (reply, _) = oneshot::channel();
        // The engine takes papers up that it has not made itself.
        tell(engine, Request::Execute(Command::Renewed, reply)).await;
    }
    for key in heard.offered {
        let (pinned, offered) = (key.pinned.to_string(), key.offered.to_string());
        let changed = Event::KeyChanged { number: key.number, pinned, offered, moved: false };
        tell(engine, Request::Tell(changed)).await;
    }
    failed.map_or(Ok(()), Err)
}

/// Whether there is something here that the directory has not.
async fn wants(
    account: &AccountStore,
    known: &KnownDirectory,
    now: UnixMillis,
) -> Result<bool, DirectoryError> {
    let chosen = account.chosen().await?;
    // Cheap to ask about, and rare: whoever has claimed a number since.
    let is_due = chosen.iter().any(|held| {
        held.certified(now).is_ok_and(|cert| cert.renewal_due(now) || cert.issued > known.backed_up)
    });
    Ok(is_due || account.has_changed(known).await?)
}

async fn tell(engine: &mpsc::WeakSender<Request>, what: Request) {
    let Some(engine) = engine.upgrade() else { return };
    // An error means that it ends.
    let _ = engine.send(what).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        for failures in 1..100 {
            assert!((RETRY.0 / 2..=RETRY.1).contains(&pause(failures)), "{failures}");
        }
        assert!(pause(1) <= RETRY.0 && pause(20) >= RETRY.1 / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_waited_for_until_there_is_quiet_but_not_for_ever() {
        let (changed, mut changes) = watch::channel(0_u64);
        let begun = Instant::now();
        settle(&mut changes).await;
        assert_eq!(begun.elapsed(), QUIET);
        let restless = tokio::spawn(async move {
            loop {
                sleep(QUIET / 2).await;
                changed.send_modify(|count| *count += 1);
            }
        });
        let begun = Instant::now();
        settle(&mut changes).await;
        restless.abort();
        assert!((AT_LATEST..=AT_LATEST + QUIET).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
}
