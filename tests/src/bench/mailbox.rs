//! What the mailboxes of one directory carry on one core, and what kills cost.
//!
//! ```text
//! deposits, fetches   letters of 128 KiB, by contacts, into several mailboxes and out of them
//! notice              from the deposit to the terminal that is on line
//! lost                small letters while the directory is killed again and again, and terminals begin anew
//! ```

mod asker;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use offhook_proto::mailbox::BlobId;
use serde_json::json;
use tokio::sync::Mutex;

use super::directory::cores;
use super::{BenchError, Report, numbers, progress};
use crate::draws::Draws;
use crate::phone::{Directory, DirectoryPlan};
use crate::score::median;
use asker::{Asker, Pair};

/// Mailboxes, each with one contact who deposits and one terminal that fetches.
const PAIRS: u8 = 8;
/// Letters of 128 KiB for each: a contact may leave half of a mailbox.
const LETTERS: u32 = 240;
const LETTER_BYTES: usize = 128 << 10;
/// Deposits or fetches of one pair at a time.
const AT_A_TIME: usize = 4;
/// Notices that are timed.
const NOTICES: u32 = 50;
/// Small letters while the directory is killed.
const MESSAGE_BYTES: usize = 1 << 10;
/// How often that is, on average.
const KILL_EVERY: Duration = Duration::from_secs(3);
/// The longest that all of it may take.
const LONGEST: Duration = Duration::from_secs(900);

/// What was found under kills.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    kills: u32,
    deposited: usize,
    lost: usize,
    doubled: usize,
}

/// Measures a directory that has one core: `deposits_s` and `fetches_s` of letters of 128 KiB, `notice_ms` from the beginning of a
/// deposit to the terminal on line, and `lost`, how many of `messages` acknowledged deposits were lost or taken twice while the directory
/// was killed at random and terminals began anew.
///
/// # Errors
/// When programs don't come up or answer something else than they should.
pub fn mailbox(messages: u32) -> Result<Report, BenchError> {
    cores::take_second()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (deposits_s, fetches_s, notice_ms) = speed().await?;
        progress(&format!("{deposits_s:.0} deposits and {fetches_s:.0} fetches a second"));
        let kept = kills(messages).await?;
        let table = format!(
            "{} kills, {} messages kept, {} lost, {} taken twice",
            kept.kills, kept.deposited, kept.lost, kept.doubled
        );
        let figures = vec![
            ("deposits_s", deposits_s),
            ("fetches_s", fetches_s),
            ("notice_ms", notice_ms),
            ("lost", (kept.lost + kept.doubled) as f64),
        ];
        let samples = json!({ "kills": kept.kills, "messages": kept.deposited });
        Ok(Report { name: "mailbox", figures: numbers(figures), table, samples })
    })
}

/// A port that is free now: the directory is to be there again after a kill.
fn plan() -> Result<DirectoryPlan, BenchError> {
    let port = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    Ok(DirectoryPlan { port: Some(port), ..DirectoryPlan::default() })
}

async fn speed() -> Result<(f64, f64, f64), BenchError> {
    let directory = Directory::start(None, plan()?)?;
    cores::give_first(directory.process.pid())?;
    let mut pairs = Vec::new();
    for n in 0..PAIRS {
        pairs.push(Pair::start(n, &directory.address()).await?);
    }
    let begun = Instant::now();
    let deposits = pairs.iter().map(|pair| {
        let letters = (0..LETTERS).map(|n| pair.deposit(n, LETTER_BYTES));
        asker::at_a_time(letters.collect(), AT_A_TIME)
    });
    futures::future::try_join_all(deposits).await?;
    let all = f64::from(u32::from(PAIRS) * LETTERS);
    let deposits_s = all / begun.elapsed().as_secs_f64();
    let mut listed = Vec::new();
    for pair in &pairs {
        listed.push(pair.receiver.list().await?);
    }
    let found: usize = listed.iter().map(Vec::len).sum();
    if found != all as usize {
        return Err(asker::other(format!("{found} of {all} letters are there")));
    }
    let begun = Instant::now();
    let fetches = pairs.iter().zip(&listed).map(|(pair, ids)| {
        let fetched = ids.iter().map(|id| pair.receiver.get(*id));
        asker::at_a_time(fetched.collect(), AT_A_TIME)
    });
    futures::future::try_join_all(fetches).await?;
    let fetches_s = all / begun.elapsed().as_secs_f64();
    for (pair, ids) in pairs.iter().zip(&listed) {
        pair.receiver.acknowledge(ids).await?;
    }
    let pair = pairs.first_mut().ok_or_else(|| asker::other("no mailboxes"))?;
    let mut notices = Vec::new();
    for n in 0..NOTICES {
        pair.receiver.forget_notices();
        let begun = Instant::now();
        let (left, noticed) = tokio::join!(
            pair.sender.deposit(pair.mailbox, pair.token, asker::blob(0, LETTERS + n, MESSAGE_BYTES)),
            pair.receiver.notice()
        );
        left?;
        noticed?;
        notices.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok((deposits_s, fetches_s, median(&notices)))
}

/// What several mailboxes have, and what was taken out of them.
#[derive(Default)]
struct Books {
    taken: BTreeSet<BlobId>,
    doubled: usize,
}

async fn kills(messages: u32) -> Result<Kept, BenchError> {
    let mut directory = Directory::start(None, plan()?)?;
    cores::give_first(directory.process.pid())?;
    let address = directory.address();
    let each = messages / u32::from(PAIRS);
    let books = Arc::new(Mutex::new(Books::default()));
    let done = Arc::new(AtomicBool::new(false));
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for n in 0..PAIRS {
        let pair = Pair::start(n + PAIRS, &address).await?;
        let Pair { sender, receiver, mailbox, token } = pair;
        receivers.push(tokio::spawn(receive(receiver, u64::from(n), Arc::clone(&books), Arc::clone(&done))));
        senders.push(tokio::spawn(async move {
            for at in 0..each {
                // Until it is acknowledged, as a terminal does; the same blob again counts once.
                while sender.deposit(mailbox, token, asker::blob(n, at, MESSAGE_BYTES)).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }));
    }
    let wanted = (each * u32::from(PAIRS)) as usize;
    let (begun, mut kills, mut draws) = (Instant::now(), 0, Draws::new(6));
    while senders.iter().any(|sender| !sender.is_finished()) && begun.elapsed() < LONGEST {
        // Time is the input here: the kill has to come at any moment of the work.
        tokio::time::sleep(KILL_EVERY.mul_f64(draws.between(0.2, 1.8))).await;
        tokio::task::block_in_place(|| directory.restart(None))?;
        cores::give_first(directory.process.pid())?;
        kills += 1;
    }
    let patience = Instant::now();
    while books.lock().await.taken.len() < wanted && patience.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    done.store(true, Ordering::Relaxed);
    for receiver in receivers {
        receiver.await.map_err(asker::other)?;
    }
    let books = books.lock().await;
    let lost = wanted.saturating_sub(books.taken.len());
    Ok(Kept { kills, deposited: wanted, lost, doubled: books.doubled })
}

/// Fetches and acknowledges until it is done; now and then the terminal is killed, and begins anew with what was on its disk.
async fn receive(mut receiver: Asker, seed: u64, books: Arc<Mutex<Books>>, done: Arc<AtomicBool>) {
    let (mut disk, mut draws): (BTreeSet<BlobId>, Draws) = (BTreeSet::new(), Draws::new(seed));
    while !done.load(Ordering::Relaxed) {
        if draws.between(0.0, 20.0) < 1.0
            && let Ok(again) = receiver.restart().await
        {
            receiver = again;
        }
        if receiver.enter().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let Ok(listed) = receiver.list().await else { continue };
        for id in &listed {
            if disk.contains(id) || receiver.get(*id).await.is_err() {
                continue;
            }
            disk.insert(*id);
            let mut books = books.lock().await;
            if !books.taken.insert(*id) {
                books.doubled += 1;
            }
        }
        let had: Vec<BlobId> = listed.into_iter().filter(|id| disk.contains(id)).collect();
        // If it gets lost they are listed again, and acknowledged again.
        let _ = receiver.acknowledge(&had).await;
    }
}
