//! Chosen numbers and the list of them.

use futures::future::join_all;
use offhook_bootstrap::store::{Append, Appended, Issue, MAX_LIST_PAGE, MAX_NUMBERS, Quota, Refused, Tail};
use offhook_proto::number::ChosenNumber;
use sha2::{Digest as _, Sha256};

use crate::bench::{Bench, NOW, identity, minutes, refused, with_accounts};

/// Certificates of these tests are good for an hour, and their numbers are held for two.
pub fn claim(n: u8, name: &str) -> Issue {
    let number = ChosenNumber::new(name, None).unwrap();
    Issue {
        name: number.name().to_owned(),
        skeleton: number.skeleton(),
        identity: identity(n),
        certificate: vec![n, 1],
        issued: NOW,
        expires: minutes(60),
        held_until: minutes(120),
        since: NOW,
    }
}

/// An entry that names the one before it.
pub fn entry(what: &str) -> Append {
    let what = what.to_owned();
    Box::new(move |tail: &Tail| {
        let entry = [&tail.length.to_be_bytes()[..], &tail.hash, what.as_bytes()].concat();
        let hash = Sha256::digest(&entry).into();
        assert_eq!(tail.last.as_deref().map_or([0; 32], |last| Sha256::digest(last).into()), tail.hash);
        let head = [&b"head"[..], &(tail.length + 1).to_be_bytes()].concat();
        Ok(Appended { head, hash, entry })
    })
}

pub async fn a_number_is_one_identitys(bench: &Bench) {
    let (one, two) = (with_accounts(bench, 10).await, bench.open().await);
    let all = (1..=10).map(|n| {
        let store = if n % 2 == 0 { &one } else { &two };
        store.claim_number(claim(n, "ada"), entry("ada"), NOW)
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(all).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), one.list_head().await.unwrap().length), (1, 1));
    lost.into_iter().for_each(|outcome| assert_eq!(refused(outcome), Refused::NumberTaken));
    let held = one.number("ada").await.unwrap().unwrap();
    let mut own = (1..=10).find(|n| identity(*n) == held.identity).unwrap();
    assert_eq!(held.certificate, Some(vec![own, 1]));
    assert_eq!((held.issued, held.expires, held.held_until), (NOW, minutes(60), minutes(120)));
    assert_eq!(two.numbers_of(&held.identity).await.unwrap(), std::slice::from_ref(&held));
    let renewed = Issue { certificate: vec![2], held_until: minutes(200), ..claim(own, "ada") };
    two.renew_number(renewed, entry("ada"), NOW).await.unwrap();
    let renewed = one.number("ada").await.unwrap().unwrap();
    assert_eq!((renewed.certificate, renewed.held_until), (Some(vec![2]), minutes(200)));
    own = own % 10 + 1;
    assert_eq!(refused(one.renew_number(claim(own, "ada"), entry("ada"), NOW).await), Refused::NotYours);
    let outsider = claim(11, "bob");
    assert_eq!(refused(one.claim_number(outsider, entry("bob"), NOW).await), Refused::NoAccount);
    assert_eq!(one.list_head().await.unwrap().length, 2, "what is refused is not listed");
    assert_eq!(one.number("bob").await.unwrap(), None);
}

pub async fn a_look_alike_is_refused(bench: &Bench) {
    let store = with_accounts(bench, 2).await;
    store.claim_number(claim(1, "ada"), entry("ada"), NOW).await.unwrap();
    let cyrillic = claim(2, "аdа");
    assert_ne!(cyrillic.name, "ada");
    let found = store.numbers_like(&cyrillic.name, &cyrillic.skeleton).await.unwrap();
    assert_eq!(found.iter().map(|held| &*held.name).collect::<Vec<_>>(), ["ada"]);
    assert_eq!(refused(store.claim_number(cyrillic.clone(), entry("x"), NOW).await), Refused::LookAlike);
    let own = Issue { identity: identity(1), ..cyrillic.clone() };
    assert_eq!(refused(store.claim_number(own, entry("x"), NOW).await), Refused::LookAlike);
    store.claim_number(cyrillic, entry("x"), minutes(120)).await.unwrap();
    assert_eq!(store.number("ada").await.unwrap(), None, "it had lapsed");
}

pub async fn a_released_number_is_kept_from_others_until_it_has_lapsed(bench: &Bench) {
    let store = with_accounts(bench, 2).await;
    store.claim_number(claim(1, "ada"), entry("ada"), NOW).await.unwrap();
    assert_eq!(
        refused(store.release_number("ada", &identity(2), NOW, entry("x"), NOW).await),
        Refused::NotYours
    );
    store.release_number("ada", &identity(1), NOW, entry("ada"), NOW).await.unwrap();
    assert_eq!(
        refused(store.release_number("ada", &identity(1), NOW, entry("x"), NOW).await),
        Refused::NotYours
    );
    assert_eq!(refused(store.renew_number(claim(1, "ada"), entry("x"), NOW).await), Refused::NotYours);
    assert_eq!(store.numbers_of(&identity(1)).await.unwrap(), []);
    assert_eq!(store.number("ada").await.unwrap().unwrap().certificate, None);
    let other = || store.claim_number(claim(2, "ada"), entry("ada"), minutes(119));
    assert_eq!(refused(other().await), Refused::NumberTaken);
    store.claim_number(claim(1, "ada"), entry("ada"), minutes(1)).await.unwrap();
    let again = store.release_number("ada", &identity(1), NOW, entry("x"), minutes(1)).await;
    assert_eq!(refused(again), Refused::NotYours, "that was done before");
    store.release_number("ada", &identity(1), minutes(1), entry("ada"), minutes(1)).await.unwrap();
    store.claim_number(claim(2, "ada"), entry("ada"), minutes(120)).await.unwrap();
    assert_eq!(store.number("ada").await.unwrap().unwrap().identity, identity(2));
    assert_eq!(store.list_head().await.unwrap().length, 5);
}

pub async fn an_account_has_so_many_numbers(bench: &Bench) {
    let (one, two) = (with_accounts(bench, 1).await, bench.open().await);
    let who = identity(1);
    let names: Vec<String> = (0..MAX_NUMBERS + 4).map(|n| format!("x{n}y")).collect();
    let all = names.iter().enumerate().map(|(n, name)| {
        let store = if n % 2 == 0 { &one } else { &two };
        store.claim_number(claim(1, name), entry(name), NOW)
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(all).await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len() as u64, MAX_NUMBERS);
    lost.into_iter().for_each(|o| assert_eq!(refused(o), Refused::TooManyNumbers { most: MAX_NUMBERS }));
    assert_eq!(two.quota(&who, Quota::Numbers).await.unwrap(), None);
    one.set_quota(&who, Quota::Numbers, Some(MAX_NUMBERS + 1), None).await.unwrap();
    assert_eq!(two.quota(&who, Quota::Numbers).await.unwrap(), Some(MAX_NUMBERS + 1));
    two.claim_number(claim(1, "more"), entry("more"), NOW).await.unwrap();
    one.set_quota(&who, Quota::Numbers, None, None).await.unwrap();
    let most = two.claim_number(claim(1, "evenmore"), entry("x"), NOW).await;
    assert_eq!(refused(most), Refused::TooManyNumbers { most: MAX_NUMBERS });
    let nobody = one.set_quota(&identity(9), Quota::Numbers, Some(1), None).await;
    assert_eq!(refused(nobody), Refused::NoAccount);
    let page = one.numbers("x1", 3).await.unwrap();
    assert_eq!(page.len(), 3);
    assert!(page.windows(2).all(|pair| pair[0].name < pair[1].name) && *page[0].name > *"x1");
}

pub async fn a_number_moves_with_its_certificate(bench: &Bench) {
    let store = with_accounts(bench, 2).await;
    store.claim_number(claim(1, "ada"), entry("ada"), NOW).await.unwrap();
    let to = |n| Issue { since: minutes(1), ..claim(n, "ada") };
    let not_own = store.transfer_number(identity(2), to(2), entry("x")).await;
    assert_eq!(refused(not_own), Refused::NotYours);
    assert_eq!(refused(store.transfer_number(identity(1), to(3), entry("x")).await), Refused::NoAccount);
    store.set_quota(&identity(2), Quota::Numbers, Some(0), None).await.unwrap();
    let full = store.transfer_number(identity(1), to(2), entry("x")).await;
    assert_eq!(refused(full), Refused::TooManyNumbers { most: 0 });
    store.set_quota(&identity(2), Quota::Numbers, None, None).await.unwrap();
    let (one, two) = (identity(1), identity(2));
    let give = |who, at| store.give_number("ada", who, at, minutes(10));
    assert_eq!(refused(give(&two, minutes(1)).await), Refused::NotYours);
    assert_eq!(refused(give(&one, NOW).await), Refused::NotYours, "it had to be its own first");
    give(&one, minutes(1)).await.unwrap();
    let renew = |now| store.renew_number(claim(1, "ada"), entry("x"), now);
    let release = |now| store.release_number("ada", &one, now, entry("x"), now);
    assert_eq!(refused(renew(minutes(9)).await), Refused::NotYours, "it is given away");
    assert_eq!(refused(release(minutes(9)).await), Refused::NotYours);
    renew(minutes(10)).await.unwrap();
    let too_early = Issue { since: NOW, ..to(2) };
    assert_eq!(refused(store.transfer_number(identity(1), too_early, entry("x")).await), Refused::NotYours);
    store.transfer_number(identity(1), to(2), entry("ada")).await.unwrap();
    let moved = store.number("ada").await.unwrap().unwrap();
    assert_eq!((moved.identity, moved.certificate), (identity(2), Some(vec![2, 1])));
    assert_eq!((moved.since, moved.given_until.0), (minutes(1), 0));
    assert_eq!(store.numbers_of(&identity(1)).await.unwrap(), []);
}

pub async fn the_list_is_one_chain_however_many_append(bench: &Bench) {
    let (one, two) = (with_accounts(bench, 12).await, bench.open().await);
    assert_eq!(one.list_head().await.unwrap().head, b"");
    let all = (1..=12).flat_map(|n| (0..4).map(move |k| (n, format!("n{n}k{k}"))));
    let all = all.map(|(n, name)| {
        let store = if n % 2 == 0 { &one } else { &two };
        async move { store.claim_number(claim(n, &name), entry(&name), NOW).await.unwrap() }
    });
    let count = join_all(all).await.len() as u64;
    let head = two.list_head().await.unwrap();
    assert_eq!((head.length, &head.head[4..]), (count, &count.to_be_bytes()[..]));
    let entries = one.list(0, MAX_LIST_PAGE).await.unwrap();
    assert_eq!(entries.len() as u64, count);
    let mut previous = [0; 32];
    for (position, entry) in (0_u64..).zip(&entries) {
        assert_eq!(entry[..8], position.to_be_bytes());
        assert_eq!(entry[8..40], previous);
        previous = Sha256::digest(entry).into();
    }
    assert_eq!(one.list(46, 10).await.unwrap(), entries[46..]);
    assert_eq!(one.list(3, 2).await.unwrap(), entries[3..5]);
    assert!(one.list(u64::MAX, 2).await.unwrap().is_empty());
}
