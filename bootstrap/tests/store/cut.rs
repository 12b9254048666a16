//! A machine that loses power while SQLite writes: of what it was writing there is a beginning, and perhaps rubbish behind it.

use std::path::{Path, PathBuf};

use offhook_bootstrap::store::Store;
use offhook_tests::draws::Draws;

use crate::bench::{Bench, NOW, identity, new_account};
use crate::numbers::{claim, entry};

/// Accounts that sign up and claim a number each: not so many that SQLite begins its log anew.
const ACCOUNTS: u8 = 25;
/// Random places where the log is cut, besides those where a change ends.
const CUTS: usize = 80;
/// Most bytes of rubbish behind a cut: a page and its header in the log.
const RUBBISH: f64 = 4_120.0;

/// What was acknowledged when the log was so long, bytes.
struct Acknowledged {
    length: usize,
    accounts: u8,
    numbers: u8,
}

pub async fn a_log_that_is_cut_anywhere_keeps_what_was_acknowledged_before() {
    let bench = Bench::sqlite();
    let store = bench.open().await;
    let file = bench.file();
    let log = |file: &Path| std::fs::read(with_suffix(file, "-wal")).unwrap_or_default();
    let base = std::fs::read(&file).unwrap();
    let mut acknowledged = vec![Acknowledged { length: log(&file).len(), accounts: 0, numbers: 0 }];
    for n in 1..=ACCOUNTS {
        store.sign_up(new_account(n, &format!("user{n}")), NOW).await.unwrap();
        acknowledged.push(Acknowledged { length: log(&file).len(), accounts: n, numbers: n - 1 });
        store.claim_number(claim(n, &name(n)), entry(&name(n)), NOW).await.unwrap();
        acknowledged.push(Acknowledged { length: log(&file).len(), accounts: n, numbers: n });
    }
    let written = log(&file);
    assert_eq!(std::fs::read(&file).unwrap(), base, "all of it is in the log, which was not begun anew");
    assert!(acknowledged.is_sorted_by_key(|ack| ack.length), "it only grows");

    let mut draws = Draws::new(7);
    let ends = acknowledged.iter().map(|ack| ack.length);
    let middles: Vec<usize> = (0..CUTS).map(|_| draws.between(0.0, written.len() as f64) as usize).collect();
    for cut in ends.chain(middles).collect::<Vec<_>>() {
        let mut rest = written[..cut].to_vec();
        let rubbish = draws.between(-RUBBISH, RUBBISH).max(0.0) as usize;
        rest.extend((0..rubbish).map(|_| draws.between(0.0, 256.0) as u8));
        let known = acknowledged.iter().rfind(|ack| ack.length <= cut).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("directory.sqlite");
        std::fs::write(&copy, &base).unwrap();
        std::fs::write(with_suffix(&copy, "-wal"), &rest).unwrap();
        let store = bench.open_at(&copy).await;
        is_whole(&store, known).await;
        store.close().await;
    }
}

/// All that was acknowledged is there, perhaps more, and nothing is half there.
async fn is_whole(store: &Store, known: &Acknowledged) {
    store.check().await.unwrap();
    for n in 1..=known.accounts {
        assert!(store.account(&identity(n)).await.unwrap().is_some(), "account {n}");
        assert!(store.backup(&identity(n)).await.unwrap().is_some(), "the backup of {n}");
    }
    let mut listed = store.list(0, u32::from(ACCOUNTS)).await.unwrap().len();
    assert_eq!(store.list_head().await.unwrap().length, listed as u64);
    assert!(listed >= usize::from(known.numbers));
    for n in 1..=ACCOUNTS {
        let held = store.number(&name(n)).await.unwrap();
        assert!(held.is_some() || n > known.numbers, "number {n}");
        listed -= usize::from(held.is_some());
    }
    assert_eq!(listed, 0, "what is on the list is held, and the other way round");
}

fn name(n: u8) -> String {
    format!("name{n}")
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
