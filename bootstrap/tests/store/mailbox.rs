//! Mailboxes: what is kept for whom, by however many processes.

use offhook_bootstrap::store::{Entrant, GUEST_IDLE, Mail, MailError, MailLimits, Quota, Store, StoreError};
use offhook_proto::identity::TerminalId;
use offhook_proto::knock::Network;
use offhook_proto::mailbox::contacts::{DepositKey, DepositRules, Serial};
use offhook_proto::mailbox::protocol::Amount;
use offhook_proto::mailbox::quota::{Deposit, Depositor, Limits, QuotaError};
use offhook_proto::mailbox::{BlobId, MailboxId, days};
use offhook_proto::wire::UnixMillis;

use crate::bench::{Bench, NOW, identity, with_accounts};

fn terminal(n: u8) -> TerminalId {
    TerminalId::from_bytes([n; 32])
}

fn mailbox(n: u8) -> MailboxId {
    MailboxId::of(&identity(n))
}

fn contact(n: u8) -> Depositor {
    Depositor::Contact(Serial::from_bytes([n; 16]))
}

fn stranger(n: u8) -> Depositor {
    Depositor::Stranger(Network::V4([203, 0, n]))
}

fn entrant(n: u8, at: u8) -> Entrant {
    Entrant {
        identity: identity(n),
        terminal: terminal(at),
        until: NOW.plus(days(200)),
        open: true,
        guest: None,
    }
}

fn blob(n: u32) -> Vec<u8> {
    let mut blob = vec![7; 1_024];
    blob[..4].copy_from_slice(&n.to_be_bytes());
    blob
}

async fn leave(mail: &Mail, to: u8, by: Depositor, n: u32) -> Result<u64, MailError> {
    let blob = blob(n);
    let deposit = Deposit { mailbox: mailbox(to), id: BlobId::of(&blob), size: 1_024, by, days: 30 };
    mail.deposit(&deposit, blob, NOW).await.map(|kept| kept.number)
}

async fn numbers(mail: &Mail, of: u8) -> Vec<u64> {
    let (items, more) = mail.list(&mailbox(of), 0, 256).await.unwrap();
    assert!(!more);
    items.iter().map(|item| item.number).collect()
}

fn files(bench: &Bench) -> usize {
    let Ok(folders) = std::fs::read_dir(bench.folder.path().join("blobs/mail")) else { return 0 };
    folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
}

async fn opened(bench: &Bench, limits: MailLimits) -> (Store, Mail) {
    let store = bench.open().await;
    let mail = store.mail(limits).await.unwrap();
    (store, mail)
}

pub async fn a_letter_is_kept_until_all_terminals_have_it(bench: &Bench) {
    let (_, mail) = opened(bench, MailLimits::default()).await;
    assert!(matches!(leave(&mail, 1, contact(1), 1).await, Err(MailError::NoMailbox)));
    let closed = Entrant { open: false, ..entrant(1, 1) };
    assert!(matches!(mail.enter(&closed, NOW).await, Err(MailError::NoMailbox)));
    assert_eq!(mail.enter(&entrant(1, 1), NOW).await.unwrap(), 0);
    mail.enter(&entrant(1, 2), NOW).await.unwrap();
    assert_eq!(leave(&mail, 1, contact(1), 1).await.unwrap(), 1);
    assert_eq!(leave(&mail, 1, stranger(1), 2).await.unwrap(), 2);
    assert_eq!(leave(&mail, 1, contact(1), 1).await.unwrap(), 1, "the same again is kept once");
    assert_eq!(files(bench), 2);
    let (items, _) = mail.list(&mailbox(1), 0, 10).await.unwrap();
    assert_eq!(items.iter().map(|item| item.contact).collect::<Vec<_>>(), [true, false]);
    assert_eq!(mail.get(&mailbox(1), &items[0].id).await.unwrap(), Some(blob(1)));
    assert_eq!(mail.get(&mailbox(2), &items[0].id).await.unwrap(), None, "in another mailbox it is not");

    let both: Vec<BlobId> = items.iter().map(|item| item.id).collect();
    mail.acknowledge(mailbox(1), terminal(1), both.clone(), NOW).await.unwrap();
    mail.acknowledge(mailbox(1), terminal(9), both, NOW).await.unwrap();
    assert_eq!(numbers(&mail, 1).await, [1, 2], "a terminal that has not entered counts for nothing");
    mail.acknowledge(mailbox(1), terminal(2), vec![items[0].id], NOW).await.unwrap();
    assert_eq!((numbers(&mail, 1).await, files(bench)), (vec![2], 1));
    mail.revoke(mailbox(1), terminal(2), NOW).await.unwrap();
    assert_eq!((numbers(&mail, 1).await, files(bench)), (vec![], 0), "nobody waits for a revoked terminal");
    assert_eq!(leave(&mail, 1, contact(1), 3).await.unwrap(), 3, "numbers do not come again");
    mail.erase(mailbox(1), vec![BlobId::of(&blob(3))], NOW).await.unwrap();
    assert_eq!(files(bench), 0);
    leave(&mail, 1, contact(1), 4).await.unwrap();
    mail.close(mailbox(1), NOW).await.unwrap();
    assert_eq!(files(bench), 0);
    assert!(matches!(leave(&mail, 1, contact(1), 5).await, Err(MailError::NoMailbox)));
}

pub async fn mailboxes_are_as_they_were_when_the_store_is_opened_again(bench: &Bench) {
    let (_, mail) = opened(bench, MailLimits::default()).await;
    let guest = Entrant { guest: Some(Network::V6([1; 8])), ..entrant(2, 3) };
    for who in [entrant(1, 1), entrant(1, 2), guest] {
        mail.enter(&who, NOW).await.unwrap();
    }
    let rules = DepositRules {
        keys: vec![DepositKey::from_bytes([5; 32])],
        revoked: vec![Serial::from_bytes([6; 16])],
        strangers: false,
    };
    mail.set_rules(mailbox(1), rules.clone(), NOW).await.unwrap();
    for n in 1..=3 {
        leave(&mail, 1, contact(1), n).await.unwrap();
    }
    leave(&mail, 2, stranger(1), 4).await.unwrap();
    let ids = vec![BlobId::of(&blob(1)), BlobId::of(&blob(3))];
    mail.acknowledge(mailbox(1), terminal(1), ids.clone(), NOW).await.unwrap();

    let (_, again) = opened(bench, MailLimits::default()).await;
    assert_eq!(again.rules(&mailbox(1)).await.unwrap(), Some(rules));
    assert_eq!(again.held().await, mail.held().await);
    for n in [1, 2] {
        assert_eq!(again.report(&mailbox(n)).await.unwrap(), mail.report(&mailbox(n)).await.unwrap());
    }
    again.acknowledge(mailbox(1), terminal(2), ids, NOW).await.unwrap();
    assert_eq!(numbers(&again, 1).await, [2], "what the one has acknowledged is not forgotten");
    let over = NOW.plus(GUEST_IDLE).plus(days(1));
    again.expire(over).await.unwrap();
    assert_eq!((numbers(&again, 1).await, files(bench)), (vec![], 0), "30 days are over");
    assert!(again.report(&mailbox(2)).await.unwrap().is_none(), "a guest who never comes");
    assert!(again.report(&mailbox(1)).await.unwrap().is_some());
}

pub async fn several_processes_keep_the_same_books(bench: &Bench) {
    let books = Limits { mailbox: Amount { bytes: 1 << 20, count: 40 }, ..Limits::default() };
    let limits = MailLimits { books, ..MailLimits::default() };
    let ((_, one), (_, two)) = (opened(bench, limits).await, opened(bench, limits).await);
    one.enter(&entrant(1, 1), NOW).await.unwrap();
    two.enter(&entrant(1, 2), NOW).await.unwrap();
    let left = (0..60).map(|n| {
        let (mail, by) = (if n % 2 == 0 { &one } else { &two }, contact((n % 3) as u8));
        async move { leave(mail, 1, by, n).await }
    });
    let left = futures::future::join_all(left).await;
    let mut kept: Vec<u64> = left.iter().filter_map(|left| left.as_ref().ok().copied()).collect();
    kept.sort_unstable();
    assert_eq!(kept, (1..=40).collect::<Vec<u64>>(), "each number once, and no more than the limit");
    assert!(
        left.iter()
            .all(|left| left.is_ok() || matches!(left, Err(MailError::Quota(QuotaError::MailboxFull))))
    );
    assert_eq!(files(bench), 40, "what was refused is not left behind");
    two.catch_up().await.unwrap();
    one.catch_up().await.unwrap();
    assert_eq!(numbers(&one, 1).await, numbers(&two, 1).await);

    let (items, _) = one.list(&mailbox(1), 0, 40).await.unwrap();
    let ids: Vec<BlobId> = items.iter().map(|item| item.id).collect();
    let acks =
        [(&one, 1), (&two, 2)].map(|(mail, n)| mail.acknowledge(mailbox(1), terminal(n), ids.clone(), NOW));
    futures::future::try_join_all(acks).await.unwrap();
    for mail in [&one, &two] {
        mail.catch_up().await.unwrap();
        assert_eq!(numbers(mail, 1).await, [0_u64; 0]);
    }
    assert_eq!(files(bench), 0);
    let (_, third) = opened(bench, limits).await;
    assert_eq!(third.held().await, one.held().await);
}

pub async fn a_change_that_fails_leaves_books_and_database_as_they_were(bench: &Bench) {
    let (_, mail) = opened(bench, MailLimits::default()).await;
    mail.enter(&entrant(1, 1), NOW).await.unwrap();
    leave(&mail, 1, contact(1), 1).await.unwrap();
    bench.execute("ALTER TABLE mail_blobs RENAME TO away").await;
    assert!(matches!(leave(&mail, 1, contact(1), 2).await, Err(MailError::Store(_))));
    bench.execute("ALTER TABLE away RENAME TO mail_blobs").await;
    mail.catch_up().await.unwrap();
    assert_eq!(numbers(&mail, 1).await, [1]);
    assert_eq!(leave(&mail, 1, contact(1), 2).await.unwrap(), 2, "it can be done again");
}

pub async fn letters_without_a_row_are_swept_and_others_are_copied(bench: &Bench) {
    let (store, mail) = opened(bench, MailLimits::default()).await;
    mail.enter(&entrant(1, 1), NOW).await.unwrap();
    for n in 1..=3 {
        leave(&mail, 1, contact(1), n).await.unwrap();
    }
    // As a process that is killed leaves it.
    bench.execute("DELETE FROM mail_blobs WHERE number = 2").await;
    let system = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let later = UnixMillis(u64::try_from(system.as_millis()).unwrap() + 7_200_000);
    store.sweep(later).await.unwrap();
    assert_eq!(files(bench), 2);
    let folder = bench.folder.path().join("copied");
    // What is erased while a copy is made is in it.
    let erase = async |_| {
        mail.erase(mailbox(1), vec![BlobId::of(&blob(1))], NOW).await.unwrap();
        Ok::<_, StoreError>(())
    };
    store.copy_beside(&folder, NOW, erase).await.unwrap();
    let copied = std::fs::read_dir(folder.join("blobs/mail")).unwrap();
    let copied: usize = copied.map(|one| std::fs::read_dir(one.unwrap().path()).unwrap().count()).sum();
    assert_eq!(copied, 2);
    store.sweep(later).await.unwrap();
    assert_eq!(files(bench), 1, "what was kept for the copy is gone");
}

pub async fn a_letter_that_was_changed_is_not_given_out(bench: &Bench) {
    let (_, mail) = opened(bench, MailLimits::default()).await;
    mail.enter(&entrant(1, 1), NOW).await.unwrap();
    leave(&mail, 1, contact(1), 1).await.unwrap();
    let folder = std::fs::read_dir(bench.folder.path().join("blobs/mail")).unwrap().next().unwrap().unwrap();
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::write(file, blob(2)).unwrap();
    let got = mail.get(&mailbox(1), &BlobId::of(&blob(1))).await;
    assert!(matches!(got, Err(StoreError::Damaged(_))), "{got:?}");
}

pub async fn an_operator_grants_a_mailbox_more_or_less(bench: &Bench) {
    let store = with_accounts(bench, 1).await;
    let mail = store.mail(MailLimits::default()).await.unwrap();
    mail.enter(&entrant(1, 1), NOW).await.unwrap();
    let room = async || {
        mail.catch_up().await.unwrap();
        mail.report(&mailbox(1)).await.unwrap().unwrap().limit.bytes
    };
    let usual = room().await;
    // As an operator's command does, beside the directory.
    let desk = bench.open().await;
    desk.set_quota(&identity(1), Quota::MailboxMegabytes, Some(3), None).await.unwrap();
    assert_eq!(room().await, 3 << 20);
    leave(&mail, 1, contact(1), 1).await.unwrap();
    assert_eq!(desk.mailbox_use(&identity(1)).await.unwrap(), Some(Amount { bytes: 1_024, count: 1 }));
    assert_eq!(desk.mailbox_use(&identity(2)).await.unwrap(), None);
    desk.set_quota(&identity(1), Quota::MailboxMegabytes, None, None).await.unwrap();
    assert_eq!(room().await, usual);
    assert_eq!(mail.newest(&[mailbox(1), mailbox(2)]).await.unwrap(), [(mailbox(1), 1)]);
}
