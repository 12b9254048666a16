use super::*;
use crate::api::{Command, ErrorCode, Reply};
use offhook_proto::number::{Invitation, NodeAddr};

async fn ada() -> (TempDir, AccountStore) {
    let (dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    (dir, store)
}

async fn resolved(store: &AccountStore, typed: &str) -> Number {
    store.resolve(typed).await.unwrap().number
}

async fn refused(store: &AccountStore, typed: &str) -> (ErrorCode, String) {
    let error = store.resolve_to_dial(typed).await.unwrap_err().to_api();
    (error.code, error.message)
}

#[tokio::test]
async fn names_stand_for_numbers() {
    let (_dir, store) = ada().await;
    store.contact_add(&number(1), "2nd office", None).await.unwrap();
    store.contact_add(&number(2), "Ren\u{e9}", None).await.unwrap();
    store.contact_add(&number(3), "홍길동", None).await.unwrap();
    assert_eq!(resolved(&store, " 2ND office ").await, number(1));
    assert_eq!(resolved(&store, "rene\u{301}").await, number(2), "however the accent is typed");
    assert_eq!(resolved(&store, "홍길동").await, number(3));
    let grouped = number(9).to_string();
    assert_eq!(resolved(&store, &grouped).await, number(9), "nobody's, but a number");
    assert_eq!(resolved(&store, &format!("tel:{}", grouped.replace(' ', "-"))).await, number(9));
}

#[tokio::test]
async fn what_names_nobody_is_told_in_its_own_words() {
    let (_dir, store) = ada().await;
    let own = store.number().to_string();
    let mut mistyped = own.clone();
    let last = if mistyped.pop() == Some('0') { '1' } else { '0' };
    mistyped.push(last);
    for (typed, code, word) in [
        ("Bob of the hill", ErrorCode::NoContact, "\"Bob of the hill\""),
        ("Bbo", ErrorCode::UnknownDirectory, "No contact is called \"Bbo\""),
        ("offhook:1004", ErrorCode::UnknownDirectory, "directory"),
        (mistyped.as_str(), ErrorCode::BadInput, "typing mistake"),
        ("4821 0937 556", ErrorCode::BadInput, "12 digits"),
        ("", ErrorCode::BadInput, "No number"),
        ("offhook:", ErrorCode::BadInput, "No number"),
        (own.as_str(), ErrorCode::BadInput, "your own number"),
    ] {
        let (got, sentence) = refused(&store, typed).await;
        assert_eq!(got, code, "{typed}: {sentence}");
        assert!(sentence.contains(word) && sentence.ends_with('.'), "{typed}: {sentence}");
    }
}

#[tokio::test]
async fn no_contact_is_called_like_a_number() {
    let (_dir, store) = ada().await;
    let (right, wrong) = (number(5).to_string(), "4821 0937 5563");
    for name in [right.as_str(), wrong, "offhook:1004", "TEL:1"] {
        let added = store.contact_add(&number(1), name, None).await;
        assert!(matches!(added, Err(StorageError::BadContactName(_))), "{name}: {added:?}");
    }
    store.contact_add(&number(1), "007", None).await.unwrap();
}

#[tokio::test]
async fn an_invitation_is_kept_whole_unless_another_key_is_known() {
    let (_dir, store) = ada().await;
    let via = |n: u8| -> NodeAddr { format!("/ip4/192.0.2.{n}/udp/4001/quic-v1").parse().unwrap() };
    let link =
        |seed, n| Invitation { number: number(1), key: Some(someone(seed).fingerprint()), via: vec![via(n)] };
    assert_eq!(store.add_invitation(&link(1, 1), "Bob").await.unwrap(), PinCheck::New);
    assert_eq!(store.routes(&number(1)).await.unwrap(), [via(1)]);
    let differs = store.add_invitation(&link(2, 2), "Robert").await.unwrap();
    assert_eq!(differs, PinCheck::Differs { pinned: someone(1).fingerprint() });
    assert_eq!(store.find_contact("Robert").await.unwrap().number, number(1));
    assert_eq!(store.routes(&number(1)).await.unwrap(), [via(1)], "what a wrong link says is not kept");

    // The same as a command, as it is typed.
    let add = Command::ContactAdd { number: link(2, 2).to_string(), name: "Bob".into() };
    let error = store.execute(&add).await.unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::KeyChanged);
    let add = Command::ContactAdd { number: link(1, 3).to_string(), name: "Bob".into() };
    assert_eq!(store.execute(&add).await.unwrap(), Ok(Reply::Done));
    assert_eq!(store.routes(&number(1)).await.unwrap(), [via(3)]);
    assert!(store.execute(&Command::Status).await.is_none(), "not the file's affair");
}

#[tokio::test]
async fn a_changed_key_is_confirmed_for_contacts_and_others() {
    let (_dir, store) = ada().await;
    for n in [1, 2] {
        store.pin(&number(n), &someone(10)).await.unwrap();
        store.pin(&number(n), &someone(11)).await.unwrap();
    }
    store.contact_add(&number(1), "Bob", None).await.unwrap();
    let stranger = number(2).to_string();
    for typed in ["Bob", stranger.as_str()] {
        let confirm = Command::ContactConfirm { contact: typed.into() };
        assert_eq!(store.execute(&confirm).await.unwrap(), Ok(Reply::Done), "{typed}");
        let again = store.execute(&confirm).await.unwrap().unwrap_err();
        assert_eq!(again.code, ErrorCode::NothingToConfirm, "{typed}");
    }
    assert_eq!(store.pinned(&number(2)).await.unwrap(), Some(someone(11)));
}
