use super::*;
use offhook_proto::identity::{IdentityKey, SealKey, TerminalKey};
use offhook_proto::number::PlainNumber;

fn number(n: u8) -> Number {
    Number::Plain(PlainNumber::from_index(n.into()))
}

fn peer(n: u8) -> Arc<Peer> {
    Arc::new(Peer {
        identity: IdentityKey::from_seed([n; 32]).public(),
        terminal: TerminalKey::from_seed([n; 32]).public(),
        seal: SealKey::from_seed([n; 32]).public(),
        routes: Vec::new(),
    })
}

fn known(n: u8) -> Known {
    let fingerprint = peer(n).identity.fingerprint();
    Known { number: number(n), name: format!("contact {n}"), fingerprint, verified: n == 1 }
}

fn info(state: PresenceState) -> PresenceInfo {
    PresenceInfo { state, note: "at my desk".to_owned() }
}

/// A terminal of contact `n` on line, with contacts 1 to `contacts`.
fn book(contacts: u8, visible: Visibility, now: Instant) -> Book {
    let mut book = Book::new(info(PresenceState::Available), visible, now);
    book.set_contacts(now, (1..=contacts).map(known).collect());
    book.set_online(now, true);
    book
}

/// Everything that is sent until `end`.
fn sent(book: &mut Book, now: Instant, end: Instant) -> Vec<(Instant, Send)> {
    let mut all = Vec::new();
    let mut at = now;
    while at <= end {
        while let Some(send) = book.poll(at) {
            all.push((at, send));
        }
        match book.poll_timeout() {
            Some(next) if next <= end => at = next.max(at),
            Some(_) | None => break,
        }
    }
    all
}

fn told(state: PresenceCode, good_for: u32) -> Option<PresenceTold> {
    Some(PresenceTold { state, note: String::new(), good_for })
}

#[test]
fn contacts_are_asked_one_after_another_and_told_at_once() {
    let now = Instant::now();
    let mut book = book(40, Visibility::Contacts, now);
    let asked = sent(&mut book, now, now + Duration::from_secs(3000));
    assert_eq!(asked.len(), 40, "each once, and not again who says nothing");
    for pair in asked.windows(2) {
        assert!(pair[1].0 >= pair[0].0 + PACE);
    }
    for (_, send) in &asked {
        let Send::ToNumber(_, presence) = send else { panic!("{send:?}") };
        assert!(presence.ask && presence.watch && presence.told.is_some());
    }
}

#[test]
fn who_asks_is_answered_and_told_of_changes_in_calm_until_its_time_is_over() {
    let now = Instant::now();
    let mut book = book(1, Visibility::Contacts, now);
    assert_eq!(sent(&mut book, now, now).len(), 1);
    let ask = Presence { told: told(PresenceCode::Away, GOOD_FOR), ask: true, watch: true };
    let (who, news) = book.heard(now, &number(1), &peer(1), ask.clone()).unwrap();
    assert_eq!((who.name.as_str(), news.state), ("contact 1", PresenceState::Away));
    assert!(book.heard(now, &number(1), &peer(1), ask.clone()).is_none(), "no news");
    let answers = sent(&mut book, now, now + CALM);
    let [(_, Send::ToTerminal(_, to, answer))] = &answers[..] else { panic!("{answers:?}") };
    assert!(to.terminal == peer(1).terminal && !answer.ask && answer.watch);

    // What changes quickly is told together.
    let later = now + CALM * 2;
    for state in
        [PresenceState::Away, PresenceState::DoNotDisturb, PresenceState::Away, PresenceState::Available]
    {
        book.choose(later, Some(info(state)), None);
    }
    book.set_in_call(later, true);
    let changes = sent(&mut book, later, later + CALM * 3);
    let states: Vec<PresenceCode> = changes
        .iter()
        .map(|(_, send)| match send {
            Send::ToTerminal(_, _, presence) => presence.told.as_ref().unwrap().state,
            Send::ToNumber(..) => panic!("nobody is looked up"),
        })
        .collect();
    assert_eq!(states, [PresenceCode::Busy]);

    // An hour later the contact is asked again; if it says nothing, it is told nothing after two.
    let hour = now + AGAIN;
    assert!(matches!(sent(&mut book, hour, hour)[..], [(_, Send::ToNumber(..))]));
    let over = now + Duration::from_secs(u64::from(GOOD_FOR) + 1);
    assert_eq!(book.of(&number(1), over), None, "nothing is known of it any more");
    book.set_in_call(over, false);
    assert!(sent(&mut book, over, over + CALM).is_empty());
}

#[test]
fn only_who_may_see_it_is_told() {
    let now = Instant::now();
    let ask = Presence { told: told(PresenceCode::Available, GOOD_FOR), ask: true, watch: true };
    let mut verified = book(2, Visibility::Verified, now);
    for (_, send) in sent(&mut verified, now, now + PACE * 4) {
        let Send::ToNumber(to, presence) = send else { panic!("asks") };
        assert_eq!(presence.told.is_some(), to == number(1), "the verified one");
    }
    for n in [1, 2, 3] {
        verified.heard(now, &number(n), &peer(n), ask.clone());
    }
    let answered = sent(&mut verified, now + PACE * 4, now + PACE * 20);
    assert!(matches!(&answered[..], [(_, Send::ToTerminal(to, ..))] if *to == number(1)), "{answered:?}");
    assert_eq!(verified.of(&number(2), now).map(|info| info.state), Some(PresenceState::Available));
    assert_eq!(verified.of(&number(3), now), None, "no contact");

    let mut hidden = book(2, Visibility::Nobody, now);
    assert!(hidden.heard(now, &number(1), &peer(1), ask.clone()).is_none());
    hidden.set_in_call(now, true);
    assert!(sent(&mut hidden, now, now + CALM * 9).is_empty() && hidden.poll_timeout().is_none());
    assert!(hidden.farewells(now).is_empty());

    // Who is removed is told nothing any more.
    let mut book = book(1, Visibility::Contacts, now);
    book.heard(now, &number(1), &peer(1), ask);
    book.set_contacts(now, Vec::new());
    assert!(sent(&mut book, now, now + CALM * 9).is_empty());
}

#[test]
fn whoever_leaves_says_so_and_another_terminal_of_the_same_contact_counts_more() {
    let now = Instant::now();
    let mut book = book(1, Visibility::Contacts, now);
    let tell = |state, good_for| Presence { told: told(state, good_for), ask: false, watch: true };
    book.heard(now, &number(1), &peer(1), tell(PresenceCode::Available, GOOD_FOR));
    let now = now + Duration::from_millis(1);
    book.heard(now, &number(1), &peer(2), tell(PresenceCode::Away, GOOD_FOR));
    assert_eq!(book.of(&number(1), now).unwrap().state, PresenceState::Away, "the one that told last");
    let (_, news) = book.heard(now, &number(1), &peer(2), tell(PresenceCode::Offline, 0)).unwrap();
    assert_eq!(news.state, PresenceState::Available, "the other one is still there");
    let (_, news) = book.heard(now, &number(1), &peer(1), tell(PresenceCode::Offline, 0)).unwrap();
    assert_eq!(news.state, PresenceState::Offline);
    let farewells = book.farewells(now);
    assert_eq!(farewells.len(), 2);
    for send in farewells {
        let Send::ToTerminal(_, _, presence) = send else { panic!("those who watch") };
        assert_eq!(presence.told.unwrap().good_for, 0);
    }
}

#[test]
fn what_others_can_make_it_keep_is_bounded() {
    let now = Instant::now();
    let mut book = book(255, Visibility::Contacts, now);
    let ask = Presence { told: told(PresenceCode::Available, u32::MAX), ask: true, watch: true };
    for n in 1..=255 {
        for terminal in 0..3 {
            book.heard(now, &number(n), &peer(n.wrapping_mul(3).wrapping_add(terminal)), ask.clone());
        }
    }
    for terminal in 0..100 {
        book.heard(now, &number(1), &peer(terminal), ask.clone());
    }
    assert!(book.watchers.len() <= MAX_WATCHERS && book.answers.len() <= 256);
    let of_one = book.watchers.values().filter(|watcher| watcher.number == number(1)).count();
    assert_eq!(of_one, MAX_TERMINALS, "one contact does not take the places of all others");
    assert_eq!(book.contacts[&number(1).canonical()].seen.len(), MAX_TERMINALS);
    let seen = book.contacts[&number(1).canonical()].seen.values().map(|seen| seen.until).max().unwrap();
    assert!(seen <= now + Duration::from_secs(GOOD_FOR.into()), "no longer than we would tell");
}

fn ask() -> Presence {
    Presence { told: told(PresenceCode::Available, GOOD_FOR), ask: true, watch: true }
}

/// To how many terminals something is sent, and which numbers are looked up.
fn told_and_asked(sent: &[(Instant, Send)]) -> (usize, Vec<Number>) {
    let asked = sent.iter().filter_map(|(_, send)| match send {
        Send::ToNumber(number, _) => Some(number.clone()),
        Send::ToTerminal(..) => None,
    });
    let asked: Vec<Number> = asked.collect();
    (sent.len() - asked.len(), asked)
}

#[test]
fn a_key_that_was_given_up_is_told_nothing_any_more() {
    let now = Instant::now();
    let mut book = book(2, Visibility::Contacts, now);
    for n in [1, 2] {
        book.heard(now, &number(n), &peer(n), ask());
    }
    sent(&mut book, now, now + PACE * 9);
    let now = now + PACE * 9;
    let changed = Known { fingerprint: peer(9).identity.fingerprint(), verified: false, ..known(1) };
    book.set_contacts(now, vec![changed, known(2)]);
    assert_eq!(book.of(&number(1), now), None, "that was somebody else");
    let (told, asked) = told_and_asked(&sent(&mut book, now, now + PACE * 9));
    assert_eq!((told, asked), (0, vec![number(1)]), "the new key is asked, and told");
    let now = now + PACE * 9;
    book.set_in_call(now, true);
    assert_eq!(told_and_asked(&sent(&mut book, now, now + CALM * 2)).0, 1, "the other contact alone");
}

#[test]
fn who_was_verified_is_told_at_once() {
    let now = Instant::now();
    let mut book = book(2, Visibility::Verified, now);
    book.heard(now, &number(2), &peer(2), ask());
    sent(&mut book, now, now + PACE * 9);
    let now = now + PACE * 9;
    book.set_contacts(now, vec![known(1), Known { verified: true, ..known(2) }]);
    let news = sent(&mut book, now, now + PACE * 9);
    let [(at, Send::ToNumber(to, presence))] = &news[..] else { panic!("{news:?}") };
    assert!(*at == now && *to == number(2) && presence.told.is_some());
    assert!(book.of(&number(2), now).is_some(), "the same contact as before");
}

#[test]
fn who_may_see_it_no_longer_hears_a_last_word() {
    let now = Instant::now();
    let mut book = book(2, Visibility::Contacts, now);
    for n in [1, 2] {
        book.heard(now, &number(n), &peer(n), ask());
    }
    sent(&mut book, now, now + PACE * 9);
    let parted = |sent: Vec<(Instant, Send)>| -> Vec<Number> {
        let parted = sent.into_iter().filter_map(|(_, send)| match send {
            Send::ToTerminal(to, _, Presence { told: Some(told), .. }) => {
                assert_eq!((told.good_for, told.note.as_str()), (0, ""));
                Some(to)
            }
            Send::ToTerminal(..) | Send::ToNumber(..) => None,
        });
        parted.collect()
    };
    let now = now + PACE * 9;
    book.choose(now, None, Some(Visibility::Verified));
    assert_eq!(parted(sent(&mut book, now, now + PACE * 9)), [number(2)], "the one who is not verified");
    let now = now + PACE * 9;
    book.heard(now, &number(1), &peer(1), Presence { ask: false, ..ask() });
    book.choose(now, None, Some(Visibility::Nobody));
    assert_eq!(parted(sent(&mut book, now, now + PACE * 9)), [number(1)]);
    assert_eq!(book.poll_timeout(), None, "and that was all");
}
