//! What two processes do at the same moment, as PostgreSQL alone lets them: one of them is played by a connection of the test's.

use std::time::Duration;

use offhook_bootstrap::store::{NewSession, Refused, TokenHash};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};
use tokio::task::JoinHandle;

use crate::bench::{Bench, NOW, identity, minutes, new_account, refused, with_accounts};
use crate::numbers::{claim, entry};

/// Another process's transaction, in which this has been done.
async fn other(bench: &Bench, sql: &'static str) -> PgConnection {
    let mut other = PgConnection::connect(&bench.postgres_url()).await.unwrap();
    other.execute("BEGIN").await.unwrap();
    other.execute(sql).await.unwrap();
    other
}

/// Waits until a change waits for the other process, or does not.
async fn until_it_waits<T>(other: &mut PgConnection, change: &JoinHandle<T>) {
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while !change.is_finished() {
        // Statistics are of one moment within a transaction, unless it asks anew.
        other.execute("SELECT pg_stat_clear_snapshot()").await.unwrap();
        if sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut *other).await.unwrap() > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn a_session_does_not_slip_past_a_change_of_the_password(bench: &Bench) {
    let store = with_accounts(bench, 1).await;
    let token = TokenHash::of(b"slipped");
    let password = Some(new_account(1, "user1").password_file.hash());
    let new = NewSession {
        token,
        identity: identity(1),
        expires: minutes(60),
        instead_of: None,
        password,
        remember: None,
    };
    let mut other = other(bench, "UPDATE accounts SET password_file = 'new'").await;
    let same = store.clone();
    let begun = tokio::spawn(async move { same.begin_session(new, vec![], NOW).await });
    until_it_waits(&mut other, &begun).await;
    other.execute("DELETE FROM sessions").await.unwrap();
    other.execute("COMMIT").await.unwrap();
    assert_eq!(refused(begun.await.unwrap()), Refused::PasswordChanged);
    assert_eq!(store.session(&token, NOW).await.unwrap(), None);
}

pub async fn a_number_that_is_renewed_as_it_lapses_stays_its_owners(bench: &Bench) {
    let store = with_accounts(bench, 2).await;
    store.claim_number(claim(1, "ada"), entry("ada"), NOW).await.unwrap();
    for (name, word) in [("ada", Refused::NumberTaken), ("аdа", Refused::LookAlike)] {
        let mut other = other(bench, "UPDATE numbers SET held_until = held_until + 3600000").await;
        let (same, wish) = (store.clone(), claim(2, name));
        let held_until = store.number("ada").await.unwrap().unwrap().held_until;
        let claimed = tokio::spawn(async move { same.claim_number(wish, entry("x"), held_until).await });
        until_it_waits(&mut other, &claimed).await;
        other.execute("COMMIT").await.unwrap();
        assert_eq!(refused(claimed.await.unwrap()), word);
        assert_eq!(store.number("ada").await.unwrap().unwrap().identity, identity(1));
    }
}

pub async fn an_account_is_deleted_in_the_order_of_other_changes(bench: &Bench) {
    let store = with_accounts(bench, 1).await;
    let mut other = other(bench, "UPDATE accounts SET password_file = 'new'").await;
    let same = store.clone();
    let deleted = tokio::spawn(async move { same.delete_account(&identity(1), None, NOW).await });
    until_it_waits(&mut other, &deleted).await;
    other.execute("UPDATE backups SET version = 2").await.unwrap();
    other.execute("COMMIT").await.unwrap();
    deleted.await.unwrap().unwrap();
    assert_eq!(store.account(&identity(1)).await.unwrap(), None);
}
