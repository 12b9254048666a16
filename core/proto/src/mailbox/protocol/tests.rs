#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::identity::{
    CertError, DirectoryId, DirectoryKey, IdentityId, IdentityKey, SealKey, SignedCert, TerminalId,
    TerminalKey,
};
use crate::mailbox::contacts::{MAX_DEPOSIT_KEYS, MAX_REVOKED_SERIALS, Serial, TokenSecret};
use crate::puzzle::{PuzzleKey, Subject};
use crate::wire::domain;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn directory() -> DirectoryId {
    DirectoryId::from_bytes([77; 32])
}

fn owner() -> IdentityKey {
    IdentityKey::from_seed([7; 32])
}

fn terminal(n: u8) -> TerminalKey {
    TerminalKey::from_seed([n; 32])
}

fn peer() -> TerminalId {
    terminal(1).public()
}

fn mailbox() -> MailboxId {
    MailboxId::of(&owner().public())
}

fn entry_key() -> EntryKey {
    EntryKey::from_seed([3; 32])
}

fn entry() -> Entry {
    let cert = SignedCert::issue(&owner(), terminal(1).public(), SealKey::from_seed([4; 32]).public(), NOW);
    Entry { directory: directory(), challenge: entry_key().challenge(&peer(), NOW), cert, open: false }
}

fn verify(signed: &SignedEntry, now: UnixMillis) -> Result<Entered, EntryError> {
    signed.verify(&directory(), &entry_key(), &peer(), |_| Vec::new(), now)
}

fn token() -> Token {
    let contact = IdentityId::from_bytes([8; 32]);
    TokenSecret::from_seed([5; 32]).grant(&directory(), &contact, 0, NOW).token
}

fn challenge() -> Challenge {
    let subject = Subject::deposit(&mailbox(), &crate::knock::Network::V4([203, 0, 113]));
    PuzzleKey::from_seed([6; 32]).challenge(&subject, 6, NOW)
}

fn deposit(len: usize, days: u8) -> Request {
    Request::Deposit { mailbox: mailbox(), days, admission: Admission::Token(token()), blob: vec![1; len] }
}

fn requests() -> Vec<Request> {
    let ids = vec![BlobId::of(b"a"), BlobId::of(b"b")];
    let keys = vec![TokenSecret::from_seed([5; 32]).deposit_key(&directory())];
    let rules = DepositRules { keys, revoked: vec![Serial::from_bytes([1; 16])], strangers: true };
    let work = Solution { challenge: challenge(), nonce: 99 };
    vec![
        Request::Price { mailbox: mailbox() },
        deposit(1024, 30),
        Request::Deposit {
            mailbox: mailbox(),
            days: 1,
            admission: Admission::Work(work),
            blob: vec![2; 1024],
        },
        Request::Challenge,
        Request::Enter { entry: SignedEntry::sign(&terminal(1), &entry()) },
        Request::List { after: 7, max: 256 },
        Request::Get { id: ids[0] },
        Request::Acknowledge { ids: ids.clone() },
        Request::Erase { ids },
        Request::Rules { rules },
        Request::Quota,
        Request::Close,
        Request::Notice(Notice { mailbox: mailbox(), newest: 12 }),
    ]
}

fn item(number: u64, size: u32) -> Item {
    Item { id: BlobId::of(b"a"), number, size, arrived: NOW, contact: true }
}

fn responses() -> Vec<Response> {
    let amount = Amount { bytes: 5, count: 2 };
    let report = QuotaReport {
        contacts: amount,
        strangers: Amount::default(),
        limit: amount,
        stranger_limit: amount,
        terminals: 3,
    };
    vec![
        Response::Price { challenge: challenge() },
        Response::Kept,
        Response::Challenge {
            challenge: entry_key().challenge(&peer(), NOW),
            node: SignedNode::sign(&DirectoryKey::from_seed([1; 32]), &peer()),
        },
        Response::Entered { newest: 4 },
        Response::Listed { items: vec![item(1, 1024), item(9, 4096)], more: true },
        Response::Blob { blob: vec![3; 1024] },
        Response::Done,
        Response::Quota(report),
        Response::Refused { reason: Refusal::Full },
        Response::Refused { reason: Refusal::Other(99) },
    ]
}

#[test]
fn messages_survive_encoding() {
    for request in requests() {
        assert_eq!(Request::from_bytes(&request.to_bytes()), Ok(request));
    }
    for response in responses() {
        assert_eq!(Response::from_bytes(&response.to_bytes()), Ok(response));
    }
}

#[test]
fn only_who_has_entered_asks_what_is_inside() {
    let kinds = |entered| {
        let requests = requests().into_iter().filter(|request| request.needs_entry() == entered);
        requests.map(|request| request.kind()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(false), ["price", "deposit", "deposit", "challenge", "enter", "notice"]);
    assert_eq!(kinds(true), ["list", "get", "acknowledge", "erase", "rules", "quota", "close"]);
    assert!(Refusal::Full.is_temporary() && !Refusal::Token.is_temporary());
}

#[test]
fn the_longest_messages_fit_and_longer_ones_are_refused() {
    let longest = deposit(MAX_BLOB_BYTES, 30).to_bytes();
    assert!(Request::from_bytes(&longest).is_ok());
    let answer = Response::Blob { blob: vec![1; MAX_BLOB_BYTES] }.to_bytes();
    assert!(Response::from_bytes(&answer).is_ok());
    let items = (1..=u64::from(MAX_LISTED)).map(|number| item(u64::MAX - 256 + number, 1024)).collect();
    let listed = Response::Listed { items, more: true }.to_bytes();
    assert!(listed.len() < 32 * 1024 && Response::from_bytes(&listed).is_ok());
    let long = vec![0; MAX_MESSAGE + 1];
    assert_eq!(Request::from_bytes(&long), Err(WireError::TooLarge { len: long.len(), max: MAX_MESSAGE }));
    let rules = DepositRules {
        keys: vec![TokenSecret::from_seed([5; 32]).deposit_key(&directory()); MAX_DEPOSIT_KEYS],
        revoked: vec![Serial::from_bytes([1; 16]); MAX_REVOKED_SERIALS],
        strangers: false,
    };
    assert!(Request::from_bytes(&Request::Rules { rules }.to_bytes()).is_ok());
}

#[test]
fn what_is_beyond_its_limits_is_refused() {
    let ids = |n| vec![BlobId::of(b"a"); n];
    let mut dear = challenge();
    dear.bits = 17;
    let too_much =
        DepositRules { revoked: vec![Serial::from_bytes([1; 16]); 257], ..DepositRules::default() };
    for request in [
        deposit(1025, 30),
        deposit(0, 30),
        deposit(1024, 0),
        deposit(1024, 31),
        Request::Deposit {
            mailbox: mailbox(),
            days: 1,
            admission: Admission::Work(Solution { challenge: dear, nonce: 1 }),
            blob: vec![1; 1024],
        },
        Request::List { after: 0, max: 0 },
        Request::List { after: 0, max: MAX_LISTED + 1 },
        Request::Acknowledge { ids: ids(0) },
        Request::Acknowledge { ids: ids(MAX_IDS + 1) },
        Request::Erase { ids: ids(MAX_IDS + 1) },
        Request::Rules { rules: too_much },
    ] {
        assert_eq!(Request::from_bytes(&request.to_bytes()), Err(WireError::Malformed), "{request:?}");
    }
    for response in [
        Response::Price { challenge: dear },
        Response::Blob { blob: vec![1; 1000] },
        Response::Listed { items: vec![item(1, 1000)], more: false },
        Response::Listed { items: vec![item(2, 1024), item(2, 1024)], more: false },
        Response::Listed { items: (0..257).map(|n| item(n, 1024)).collect(), more: false },
    ] {
        assert_eq!(Response::from_bytes(&response.to_bytes()), Err(WireError::Malformed), "{response:?}");
    }
}

#[test]
fn debug_shows_neither_blobs_nor_tokens() {
    let shown = format!("{:?} {:?}", requests(), responses());
    for secret in ["[1, 1", "[3, 3", "0x", "Token", "DepositKey"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn a_certified_terminal_enters_its_accounts_mailbox() {
    let entered = verify(&SignedEntry::sign(&terminal(1), &entry()), NOW).unwrap();
    assert_eq!((entered.mailbox, entered.identity), (mailbox(), owner().public()));
    assert_eq!((entered.cert.terminal, entered.open), (terminal(1).public(), false));
}

#[test]
fn nobody_enters_anothers_mailbox() {
    // A terminal of somebody else, with the owner's certificate of his.
    let stolen = SignedEntry::sign(&terminal(2), &entry());
    assert_eq!(verify(&stolen, NOW), Err(EntryError::BadSignature));
    // A certificate that somebody else has made is for his own mailbox.
    let mallory = IdentityKey::from_seed([9; 32]);
    let own = SignedCert::issue(&mallory, terminal(1).public(), SealKey::from_seed([4; 32]).public(), NOW);
    let entered = verify(&SignedEntry::sign(&terminal(1), &Entry { cert: own, ..entry() }), NOW).unwrap();
    assert_eq!(entered.mailbox, MailboxId::of(&mallory.public()));
    // One in the owner's name by another key is none.
    let cert = entry().cert.verify(NOW).unwrap();
    let forged = SignedCert::issue_exact(&mallory, &cert);
    let signed = SignedEntry::sign(&terminal(1), &Entry { cert: forged, ..entry() });
    assert_eq!(verify(&signed, NOW), Err(EntryError::Cert(CertError::BadSignature)));
    // A signature for something else.
    let record = SignedEntry(terminal(1).sign(domain::TERMINAL_RECORD, &wire::encode(&entry())));
    assert_eq!(verify(&record, NOW), Err(EntryError::BadSignature));
}

#[test]
fn q5_a_revoked_terminal_is_out_at_once() {
    let signed = SignedEntry::sign(&terminal(1), &entry());
    let revoked = |id: &IdentityId| {
        assert_eq!(*id, owner().public());
        vec![terminal(1).public()]
    };
    let verdict = signed.verify(&directory(), &entry_key(), &peer(), revoked, NOW);
    assert_eq!(verdict, Err(EntryError::Revoked));
}

/// A directory that is hostile passes another's challenge on to a terminal, to enter there in its name.
#[test]
fn an_entry_is_good_for_one_directory_one_connection_and_a_minute() {
    let signed = SignedEntry::sign(&terminal(1), &entry());
    let other = DirectoryId::from_bytes([78; 32]);
    let at = |directory: &DirectoryId, key: &EntryKey, peer: &TerminalId, now| {
        signed.verify(directory, key, peer, |_| Vec::new(), now).err()
    };
    let (key, peer) = (entry_key(), peer());
    assert_eq!(at(&other, &key, &peer, NOW), Some(EntryError::OtherDirectory));
    assert_eq!(at(&directory(), &key, &terminal(2).public(), NOW), Some(EntryError::NotOurs));
    assert_eq!(at(&directory(), &EntryKey::from_seed([4; 32]), &peer, NOW), Some(EntryError::NotOurs));
    let end = NOW.plus(CHALLENGE_LIFETIME);
    assert_eq!(CHALLENGE_LIFETIME, Duration::from_secs(60));
    assert_eq!(at(&directory(), &key, &peer, end), None);
    assert_eq!(at(&directory(), &key, &peer, UnixMillis(end.0 + 1)), Some(EntryError::Expired));
    assert_eq!(at(&directory(), &key, &peer, UnixMillis(NOW.0 - 600_001)), Some(EntryError::Expired));
    assert_eq!(format!("{key:?}"), "EntryKey(..)");
    let long = SignedEntry(terminal(1).sign(domain::MAILBOX_ENTRY, &[0; MAX_ENTRY_BYTES]));
    assert_eq!(verify(&long, NOW), Err(EntryError::Malformed));
    assert!(Request::from_bytes(&Request::Enter { entry: long }.to_bytes()).is_err());
}

/// Bytes as version 1 wrote them; the fuzzer begins with the same ones.
#[test]
fn messages_of_version_1_can_be_read() {
    let seeds: [&[u8]; 13] = [
        include_bytes!("../../../../../fuzz/seeds/mailbox/request_00_price"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/request_01_deposit"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/request_02_deposit"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/request_03_challenge"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/request_04_enter"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/request_05_list"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/request_06_get"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/request_07_acknowledge"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/request_08_erase"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/request_09_rules"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/request_10_quota"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/request_11_close"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/request_12_notice"),
    ];
    for (bytes, request) in seeds.into_iter().zip(requests()) {
        assert_eq!(request.to_bytes(), bytes, "{request:?}");
        assert_eq!(Request::from_bytes(bytes), Ok(request));
    }
    let seeds: [&[u8]; 10] = [
        include_bytes!("../../../../../fuzz/seeds/mailbox/response_00"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/response_01"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/response_02"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/response_03"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/response_04"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/response_05"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/response_06"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/response_07"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/response_08"),
        include_bytes!("../../../../../fuzz/seeds/mailbox/response_09"),
    ];
    for (bytes, response) in seeds.into_iter().zip(responses()) {
        assert_eq!(response.to_bytes(), bytes, "{response:?}");
        assert_eq!(Response::from_bytes(bytes), Ok(response));
    }
    let payload = include_bytes!("../../../../../fuzz/seeds/mailbox/entry_payload");
    assert_eq!(wire::encode(&entry()), payload);
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = (Request::from_bytes(&bytes), Response::from_bytes(&bytes));
        let signed = SignedEntry(terminal(1).sign(domain::MAILBOX_ENTRY, &bytes));
        prop_assert!(verify(&signed, NOW).is_err());
    }

    #[test]
    fn damage_makes_no_other_entry(at in 0_usize..4096, bit in 0_u8..8) {
        let signed = SignedEntry::sign(&terminal(1), &entry());
        let mut bytes = wire::encode(&signed);
        let len = bytes.len();
        bytes[at % len] ^= 1 << bit;
        if let Ok(damaged) = wire::decode::<SignedEntry>(&bytes, MAX_ENTRY_BYTES) {
            prop_assert!(verify(&damaged, NOW).is_err() || damaged == signed);
        }
    }

    /// What is read is written alike, whatever was damaged on the way.
    #[test]
    fn damaged_messages_are_refused_or_sound(which in 0_usize..13, at in 0_usize..1200, bit in 0_u8..8) {
        let mut bytes = requests()[which].to_bytes();
        let len = bytes.len();
        bytes[at % len] ^= 1 << bit;
        if let Ok(request) = Request::from_bytes(&bytes) {
            prop_assert_eq!(Request::from_bytes(&request.to_bytes()), Ok(request));
        }
    }
}
