//! What a store promises, on every database that it runs on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "store/accounts.rs"]
mod accounts;
#[path = "store/bench.rs"]
mod bench;
#[path = "store/cut.rs"]
mod cut;
#[path = "store/mailbox.rs"]
mod mailbox;
#[path = "store/numbers.rs"]
mod numbers;
#[path = "store/processes.rs"]
mod processes;
#[path = "store/races.rs"]
mod races;
#[path = "store/s3.rs"]
mod s3;
#[path = "store/visits.rs"]
mod visits;

use bench::Bench;
use offhook_bootstrap::store::StoreError;
use offhook_tests::postgres::Postgres;

/// Each promise, as a test of its own on SQLite, and all of them in one on PostgreSQL: one server is enough for them, and they
/// have nothing to tell each other, as each has a database of its own.
macro_rules! promises {
    ($($module:ident :: $promise:ident,)*) => {
        mod sqlite {
            use super::*;
            $(
                #[tokio::test]
                async fn $promise() {
                    $module::$promise(&Bench::sqlite()).await;
                }
            )*
        }

        #[tokio::test]
        async fn all_of_it_holds_on_postgresql() {
            let server = Postgres::start().unwrap();
            $(
                println!("{}", stringify!($promise));
                $module::$promise(&Bench::postgres(&server)).await;
            )*
            races::a_session_does_not_slip_past_a_change_of_the_password(&Bench::postgres(&server)).await;
            races::a_number_that_is_renewed_as_it_lapses_stays_its_owners(&Bench::postgres(&server)).await;
            races::an_account_is_deleted_in_the_order_of_other_changes(&Bench::postgres(&server)).await;
        }
    };
}

promises! {
    accounts::an_account_is_kept_as_it_was_signed_up,
    accounts::an_id_and_an_identity_sign_up_once,
    accounts::accounts_are_listed_in_order_and_page_by_page,
    accounts::a_backup_has_one_successor,
    accounts::a_backup_that_is_replaced_while_it_is_read_is_whole,
    accounts::what_was_left_behind_is_swept_and_what_is_new_is_not,
    accounts::a_backup_that_was_changed_is_not_given_out,
    accounts::a_copy_has_what_its_moment_needs_though_another_copy_ends_meanwhile,
    accounts::new_credentials_come_with_their_backup_and_end_all_sessions,
    accounts::a_deleted_account_leaves_nothing_but_its_numbers,
    accounts::a_database_belongs_to_one_directory,
    mailbox::a_letter_is_kept_until_all_terminals_have_it,
    mailbox::mailboxes_are_as_they_were_when_the_store_is_opened_again,
    mailbox::several_processes_keep_the_same_books,
    mailbox::a_change_that_fails_leaves_books_and_database_as_they_were,
    mailbox::letters_without_a_row_are_swept_and_others_are_copied,
    mailbox::a_letter_that_was_changed_is_not_given_out,
    mailbox::an_operator_grants_a_mailbox_more_or_less,
    numbers::a_number_is_one_identitys,
    numbers::a_look_alike_is_refused,
    numbers::a_released_number_is_kept_from_others_until_it_has_lapsed,
    numbers::an_account_has_so_many_numbers,
    numbers::a_number_moves_with_its_certificate,
    numbers::the_list_is_one_chain_however_many_append,
    processes::processes_tell_where_they_are_until_they_end_or_are_silent,
    visits::a_session_lasts_until_it_expires_or_ends,
    visits::sessions_of_an_account_are_bounded_and_tokens_are_not_stored,
    visits::attempts_are_limited_and_may_be_given_back,
    visits::an_attempt_counts_for_all_limits_or_none,
    visits::the_operators_deeds_are_kept_in_order,
    visits::what_was_acknowledged_is_there_when_it_is_opened_again,
}

#[tokio::test]
async fn a_file_is_its_owners_and_is_copied_while_it_is_used() {
    accounts::a_copy_is_a_store_of_one_moment(&Bench::sqlite()).await;
}

#[tokio::test]
async fn a_log_that_is_cut_anywhere_keeps_what_was_acknowledged_before() {
    cut::a_log_that_is_cut_anywhere_keeps_what_was_acknowledged_before().await;
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let bench = Bench::sqlite();
    bench.open().await.close().await;
    bench.execute("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1").await;
    assert!(matches!(bench.try_open().await, Err(StoreError::NewerVersion)));
}

#[tokio::test]
async fn backups_may_be_in_an_s3_store() {
    let server = s3::Server::start().await;
    accounts::a_backup_has_one_successor(&Bench::sqlite_and_s3(&server)).await;
    assert_eq!(server.names().len(), 1);
    assert!(server.names()[0].starts_with("/bucket/some/where/backups/"), "{:?}", server.names());
    accounts::what_was_left_behind_is_swept_and_what_is_new_is_not(&Bench::sqlite_and_s3(&server)).await;
    assert_eq!(server.unsigned(), 0, "requests without a signature");
}
