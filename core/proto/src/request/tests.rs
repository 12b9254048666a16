use proptest::prelude::*;

use super::*;
use crate::number::RecordKey;
use crate::proof::tests::{ALICE, BOB, directory_key};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn directory() -> DirectoryId {
    directory_key().public()
}

fn number() -> Number {
    "ada@directory.example".parse().unwrap()
}

fn actions() -> Vec<Action> {
    let (upload, backup) = (Digest::of(b"upload"), Digest::of(b"backup"));
    let transfer = SignedTransfer::sign(&BOB.key(), RecordKey([1; 32]), ALICE.key().public(), NOW);
    vec![
        Action::SignUp { id: "ada".to_owned(), number: ALICE.number(), nonce: ALICE.nonce, upload, backup },
        Action::Backup { version: 7, backup },
        Action::Claim { number: number(), transfer: None },
        Action::Claim { number: number(), transfer: Some(transfer) },
        Action::Renew { number: number() },
        Action::Release { number: number() },
        Action::Credentials { id: "홍길동".to_owned(), upload, version: 8, backup },
        Action::Recover,
    ]
}

fn sign(action: Action) -> SignedRequest {
    SignedRequest::sign(&ALICE.key(), directory(), NOW, action)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

#[test]
fn every_request_says_who_asks_whom_for_what_and_when() {
    for action in actions() {
        let signed = SignedRequest::from_bytes(&sign(action.clone()).to_bytes()).unwrap();
        let verified = signed.verify_from(&ALICE.key().public(), &directory(), NOW).unwrap();
        let expected = Request { directory: directory(), identity: ALICE.key().public(), at: NOW, action };
        assert_eq!(verified.request, expected);
        assert_eq!(verified.digest, Digest::of(&signed.to_bytes()));
    }
}

#[test]
fn a_request_is_good_for_one_directory_and_one_identity() {
    let signed = sign(Action::Recover);
    let other = DirectoryId::from_bytes([9; 32]);
    assert_eq!(signed.verify(&other, NOW), Err(RequestError::OtherDirectory));
    let bob = BOB.key().public();
    assert_eq!(signed.verify_from(&bob, &directory(), NOW), Err(RequestError::OtherIdentity));
}

#[test]
fn a_request_is_good_for_ten_minutes_around_its_time() {
    let signed = sign(Action::Recover);
    let verdict = |now: u64| signed.verify(&directory(), UnixMillis(now)).err();
    let window = millis(REQUEST_WINDOW);
    assert_eq!(window, 600_000);
    assert_eq!((verdict(NOW.0 + window), verdict(NOW.0 - window)), (None, None));
    assert_eq!(verdict(NOW.0 + window + 1), Some(RequestError::TooOld));
    assert_eq!(verdict(NOW.0 - window - 1), Some(RequestError::FromTheFuture));
    assert_eq!(verdict(u64::MAX), Some(RequestError::TooOld));
    assert_eq!(verdict(0), Some(RequestError::FromTheFuture));
}

/// `request` under the signature of `key` for `domain`.
fn forged(key: &IdentityKey, domain: &str, request: &Request) -> SignedRequest {
    SignedRequest(key.sign(domain, &wire::encode(request)))
}

#[test]
fn nobody_asks_in_anothers_name() {
    let request =
        Request { directory: directory(), identity: ALICE.key().public(), at: NOW, action: Action::Recover };
    let verdict = |signed: &SignedRequest| signed.verify(&directory(), NOW).err();
    let domain = domain::DIRECTORY_REQUEST;
    assert_eq!(verdict(&forged(&ALICE.key(), domain, &request)), None);
    assert_eq!(verdict(&forged(&BOB.key(), domain, &request)), Some(RequestError::BadSignature));
    let other = forged(&ALICE.key(), domain::NUMBER_TRANSFER, &request);
    assert_eq!(verdict(&other), Some(RequestError::BadSignature));
}

#[test]
fn parts_that_are_not_what_they_should_be_are_refused() {
    let digest = Digest::of(b"");
    let sign_up = |id: &str, number: &str| Action::SignUp {
        id: id.to_owned(),
        number: number.parse().unwrap(),
        nonce: 0,
        upload: digest,
        backup: digest,
    };
    let bare = || "ada".parse().unwrap();
    let long = "x".repeat(MAX_ID_BYTES + 1);
    for action in [
        sign_up("", "387245519274"),
        sign_up("a\nb", "387245519274"),
        sign_up(&long, "387245519274"),
        sign_up("ada", "ada@directory.example"),
        Action::Credentials { id: long.clone(), upload: digest, version: 1, backup: digest },
        Action::Claim { number: bare(), transfer: None },
        Action::Renew { number: bare() },
        Action::Release { number: ALICE.number() },
    ] {
        assert_eq!(sign(action).verify(&directory(), NOW), Err(RequestError::Malformed));
    }
}

#[test]
fn the_longest_requests_fit_their_limit_and_longer_ones_are_refused() {
    let label = "d".repeat(63);
    let long = format!("{}@{}", "홍".repeat(32), [&label[..], &label, &label, &label[..61]].join("."));
    let transfer = SignedTransfer::sign(&BOB.key(), RecordKey([1; 32]), ALICE.key().public(), NOW);
    let claim = sign(Action::Claim { number: long.parse().unwrap(), transfer: Some(transfer) });
    assert!(claim.verify(&directory(), NOW).is_ok());
    let digest = Digest::of(b"");
    let id = "x".repeat(MAX_ID_BYTES);
    let credentials = sign(Action::Credentials { id, upload: digest, version: u64::MAX, backup: digest });
    assert!(credentials.verify(&directory(), NOW).is_ok());
    let bytes = vec![0; MAX_REQUEST_BYTES + 1];
    assert_eq!(SignedRequest::from_bytes(&bytes), Err(RequestError::TooLarge(bytes.len())));
    let inside = SignedRequest(ALICE.key().sign(domain::DIRECTORY_REQUEST, &bytes));
    assert!(matches!(inside.verify(&directory(), NOW), Err(RequestError::TooLarge(_))));
}

#[test]
fn debug_shows_neither_id_nor_number() {
    let shown = format!("{:?}", actions());
    for secret in ["ada", "홍길동", "3872"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    let kinds = actions().iter().map(Action::kind).collect::<Vec<_>>();
    assert_eq!(kinds, ["sign_up", "backup", "claim", "claim", "renew", "release", "credentials", "recover"]);
}

/// Bytes as version 1 wrote them; the fuzzer begins with the same ones, and the site's tests write them again.
#[test]
fn requests_of_version_1_can_be_read() {
    let seeds: [&[u8]; 7] = [
        include_bytes!("../../../../fuzz/seeds/request/sign_up"),
        include_bytes!("../../../../fuzz/seeds/request/backup"),
        include_bytes!("../../../../fuzz/seeds/request/claim"),
        include_bytes!("../../../../fuzz/seeds/request/renew"),
        include_bytes!("../../../../fuzz/seeds/request/release"),
        include_bytes!("../../../../fuzz/seeds/request/credentials"),
        include_bytes!("../../../../fuzz/seeds/request/recover"),
    ];
    let mut expected = actions();
    expected.remove(2);
    for (bytes, action) in seeds.into_iter().zip(expected) {
        assert_eq!(sign(action.clone()).to_bytes(), bytes, "{action:?}");
        let signed = SignedRequest::from_bytes(bytes).unwrap();
        assert_eq!(signed.verify(&directory(), NOW).unwrap().request.action, action);
    }
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(signed) = SignedRequest::from_bytes(&bytes) {
            prop_assert!(signed.verify(&directory(), NOW).is_err());
        }
        let _ = SignedRequest(ALICE.key().sign(domain::DIRECTORY_REQUEST, &bytes)).verify(&directory(), NOW);
    }

    #[test]
    fn damage_never_makes_another_request(at in 0_usize..4096, bit in 0_u8..8, which in 0_usize..8) {
        let original = sign(actions()[which].clone());
        let mut bytes = original.to_bytes();
        let len = bytes.len();
        bytes[at % len] ^= 1 << bit;
        if let Ok(verified) = SignedRequest::from_bytes(&bytes).and_then(|signed| signed.verify(&directory(), NOW)) {
            prop_assert_eq!(verified.request, original.verify(&directory(), NOW).unwrap().request);
        }
    }
}
