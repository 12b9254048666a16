//! Sessions, limits, and the operator's log.

use std::time::Duration;

use futures::future::join_all;
use offhook_bootstrap::store::{
    AuditEntry, Limit, MAX_AUDIT_TEXT, MAX_SESSIONS, NewSession, Refused, Subject, TokenHash,
};
use offhook_proto::wire::UnixMillis;

use crate::bench::{Bench, NOW, identity, minutes, new_account, refused, with_accounts};

fn session(token: &[u8]) -> NewSession {
    let token = TokenHash::of(token);
    NewSession {
        token,
        identity: identity(1),
        expires: minutes(60),
        instead_of: None,
        password: None,
        remember: None,
    }
}

pub async fn a_session_lasts_until_it_expires_or_ends(bench: &Bench) {
    let store = with_accounts(bench, 1).await;
    let (one, two) = (session(b"one"), session(b"two"));
    assert_eq!(store.session(&one.token, NOW).await.unwrap(), None);
    store.begin_session(one.clone(), vec![], NOW).await.unwrap();
    let found = bench.open().await.session(&one.token, minutes(59)).await.unwrap().expect("a session");
    assert_eq!((found.identity, found.logged_in, found.expires), (identity(1), NOW, minutes(60)));
    assert_eq!(store.session(&one.token, minutes(60)).await.unwrap(), None);
    store.begin_session(NewSession { instead_of: Some(one.token), ..two }, vec![], NOW).await.unwrap();
    assert_eq!(store.session(&one.token, NOW).await.unwrap(), None);
    assert!(store.session(&two.token, NOW).await.unwrap().is_some());
    store.end_session(&two.token).await.unwrap();
    store.end_session(&two.token).await.unwrap();
    assert_eq!(store.session(&two.token, NOW).await.unwrap(), None);
    for token in [b"1", b"2", b"3"] {
        store.begin_session(session(token), vec![], NOW).await.unwrap();
    }
    assert_eq!(store.end_sessions(&identity(1), None).await.unwrap(), 3);
    assert_eq!(store.end_sessions(&identity(1), None).await.unwrap(), 0);
    let nobody = NewSession { identity: identity(2), ..session(b"nobody") };
    assert_eq!(refused(store.begin_session(nobody, vec![], NOW).await), Refused::NoAccount);
    let with = |password| NewSession { password: Some(password), ..session(b"password") };
    let of_another = with(new_account(2, "other").password_file.hash());
    assert_eq!(refused(store.begin_session(of_another, vec![], NOW).await), Refused::PasswordChanged);
    let own = with(new_account(1, "user1").password_file.hash());
    assert_eq!(store.session(&own.token, NOW).await.unwrap(), None);
    store.begin_session(own.clone(), vec![], NOW).await.unwrap();
    assert!(store.session(&own.token, NOW).await.unwrap().is_some());
}

pub async fn sessions_of_an_account_are_bounded_and_tokens_are_not_stored(bench: &Bench) {
    let store = with_accounts(bench, 1).await;
    for n in 0..u64::from(MAX_SESSIONS) + 3 {
        let at = UnixMillis(NOW.0 + n);
        store.begin_session(session(&n.to_be_bytes()), vec![], at).await.unwrap();
    }
    let is_there =
        async |n: u64| store.session(&TokenHash::of(&n.to_be_bytes()), NOW).await.unwrap().is_some();
    assert!(!is_there(0).await && !is_there(2).await && is_there(3).await);
    assert_eq!(store.session(&TokenHash(*b"0123456789abcdef0123456789abcdef"), NOW).await.unwrap(), None);
    store.sweep(minutes(60)).await.unwrap();
    assert_eq!(store.end_sessions(&identity(1), None).await.unwrap(), 0, "they were swept");
}

fn limit(key: &str, at_once: u32) -> Limit {
    Limit::new(Subject::LoginId, key.as_bytes(), at_once, Duration::from_secs(60))
}

pub async fn attempts_are_limited_and_may_be_given_back(bench: &Bench) {
    let (one, two) = (with_accounts(bench, 1).await, bench.open().await);
    let all = (0..20).map(|n| {
        let store = if n % 2 == 0 { &one } else { &two };
        store.attempt(vec![limit("ada", 5)], NOW)
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(all).await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 5);
    for outcome in lost {
        assert_eq!(refused(outcome), Refused::TooMany { retry_after: Duration::from_secs(60) });
    }
    one.attempt(vec![limit("bob", 5)], NOW).await.unwrap();
    let just_before = UnixMillis(minutes(1).0 - 1);
    let early = one.attempt(vec![limit("ada", 5)], just_before).await;
    assert_eq!(refused(early), Refused::TooMany { retry_after: Duration::from_millis(1) });
    one.attempt(vec![limit("ada", 5)], minutes(1)).await.unwrap();
    assert!(one.attempt(vec![limit("ada", 5)], minutes(1)).await.is_err());
    one.begin_session(session(b"one"), vec![limit("ada", 5)], minutes(1)).await.unwrap();
    two.attempt(vec![limit("ada", 5)], minutes(1)).await.unwrap();
    one.sweep(minutes(3)).await.unwrap();
    assert!(two.attempt(vec![limit("ada", 2)], minutes(3)).await.is_err(), "it is not forgotten too early");
    one.sweep(minutes(60)).await.unwrap();
    for _ in 0..5 {
        two.attempt(vec![limit("ada", 5)], minutes(60)).await.unwrap();
    }
}

pub async fn an_attempt_counts_for_all_limits_or_none(bench: &Bench) {
    let store = bench.open().await;
    let network = |at_once| Limit::new(Subject::LoginNetwork, b"192.0.2.0", at_once, Duration::from_secs(1));
    store.attempt(vec![limit("ada", 1), network(3)], NOW).await.unwrap();
    for _ in 0..5 {
        assert!(store.attempt(vec![limit("ada", 1), network(3)], NOW).await.is_err());
    }
    store.attempt(vec![limit("bob", 1), network(3)], NOW).await.unwrap();
    store.attempt(vec![limit("eve", 1), network(3)], NOW).await.unwrap();
    assert!(store.attempt(vec![limit("joe", 1), network(3)], NOW).await.is_err());
}

pub async fn the_operators_deeds_are_kept_in_order(bench: &Bench) {
    let store = bench.open().await;
    let deed = |n: u64| AuditEntry {
        at: UnixMillis(n),
        actor: "root".to_owned(),
        action: format!("deed{n}"),
        subject: "é".repeat(MAX_AUDIT_TEXT),
        details: String::new(),
    };
    for n in 0..5 {
        store.add_audit(deed(n)).await.unwrap();
    }
    let page = store.audit(None, 3).await.unwrap();
    assert_eq!(page.iter().map(|(_, deed)| &*deed.action).collect::<Vec<_>>(), ["deed4", "deed3", "deed2"]);
    assert_eq!(page[0].1.subject, "é".repeat(MAX_AUDIT_TEXT / 2));
    let rest = store.audit(page.last().map(|(position, _)| *position), 10).await.unwrap();
    assert_eq!(rest.iter().map(|(_, deed)| deed.at.0).collect::<Vec<_>>(), [1, 0]);
}

pub async fn what_was_acknowledged_is_there_when_it_is_opened_again(bench: &Bench) {
    let store = bench.open().await;
    join_all((1..=100).map(async |n| store.sign_up(new_account(n, &format!("user{n}")), NOW).await.unwrap()))
        .await;
    // Without a farewell.
    let again = bench.open().await;
    assert_eq!(again.count_accounts().await.unwrap(), 100);
    store.close().await;
    assert!(store.check().await.is_err());
    for n in 1..=100 {
        assert!(again.backup(&identity(n)).await.unwrap().is_some());
    }
}
