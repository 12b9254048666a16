use proptest::prelude::*;

use super::*;
use crate::identity::{DirectoryKey, IdentityKey};
use crate::number::NumberError;
use crate::wire::{self, MAX_CLOCK_AHEAD};

/// An identity whose number was mined once, so that no other test has to. The vectors were computed a second
/// time with Python's `cryptography` (OpenSSL's Argon2id).
pub(crate) struct Vector {
    pub(crate) seed: u8,
    pub(crate) nonce: u64,
    pub(crate) number: &'static str,
}

pub(crate) const ALICE: Vector = Vector { seed: 7, nonce: 78, number: "387245519274" };
pub(crate) const BOB: Vector = Vector { seed: 8, nonce: 94, number: "926998291654" };

impl Vector {
    pub(crate) fn key(&self) -> IdentityKey {
        IdentityKey::from_seed([self.seed; 32])
    }

    pub(crate) fn proof(&self) -> NumberProof {
        NumberProof::Plain(PlainProof { nonce: self.nonce })
    }

    pub(crate) fn number(&self) -> Number {
        self.number.parse().unwrap()
    }

    pub(crate) fn plain(&self) -> PlainNumber {
        match self.number() {
            Number::Plain(plain) => plain,
            Number::Chosen(_) => panic!("the vector is a plain number"),
        }
    }
}

/// When the tests' certificates were issued.
pub(crate) const ISSUED: UnixMillis = UnixMillis(1_790_000_000_000);

pub(crate) fn directory_key() -> DirectoryKey {
    DirectoryKey::from_seed([77; 32])
}

/// A certificate of `number` for `owner`, valid for a year.
pub(crate) fn chosen_cert(number: &str, owner: &Vector) -> ChosenCert {
    ChosenCert {
        number: number.parse().unwrap(),
        identity: owner.key().public(),
        directory: directory_key().public(),
        issued: ISSUED,
        expires: ISSUED.plus(std::time::Duration::from_secs(365 * 86_400)),
    }
}

/// The proof of a chosen number with `cert` and the nonce of `owner`.
pub(crate) fn chosen_proof(cert: &ChosenCert, owner: &Vector) -> NumberProof {
    let signed = SignedChosenCert::issue(&directory_key(), cert);
    NumberProof::Chosen(signed, PlainProof { nonce: owner.nonce })
}

#[test]
fn numbers_follow_from_key_and_nonce() {
    let mut miner = Miner::new();
    for vector in [&ALICE, &BOB] {
        let found = miner.mine(&vector.key().public(), 0..vector.nonce + 1);
        assert_eq!(found, Some((PlainProof { nonce: vector.nonce }, vector.plain())));
    }
}

#[test]
fn mining_leaves_off_at_the_end_of_the_range() {
    assert_eq!(Miner::new().mine(&ALICE.key().public(), ALICE.nonce - 2..ALICE.nonce), None);
    assert_eq!(Miner::new().mine(&ALICE.key().public(), 5..5), None);
}

#[test]
fn a_proof_is_good_for_one_identity_and_one_number() {
    let alice = ALICE.key().public();
    let proof = PlainProof { nonce: ALICE.nonce };
    assert!(verify_plain(&alice, &proof, &ALICE.plain()));
    assert!(!verify_plain(&alice, &proof, &BOB.plain()));
    assert!(!verify_plain(&BOB.key().public(), &proof, &ALICE.plain()));
    assert!(!verify_plain(&alice, &PlainProof { nonce: ALICE.nonce + 1 }, &ALICE.plain()));
    assert_eq!(try_nonce(&alice, ALICE.nonce + 1), None);
}

#[test]
fn a_plain_proof_leaves_the_slow_hash_to_do() {
    let (key, task) = ALICE.proof().check(&ALICE.number(), &ALICE.key().public(), ISSUED).unwrap();
    assert_eq!(key, ALICE.plain().key());
    assert!(task.run());
    let (_, forged) = BOB.proof().check(&ALICE.number(), &ALICE.key().public(), ISSUED).unwrap();
    assert!(!forged.run());
    assert_ne!(task, forged);
}

#[test]
fn a_chosen_proof_needs_the_directory_and_a_plain_proof() {
    let cert = chosen_cert("홍길동@directory.example", &ALICE);
    let owner = cert.identity;
    let (key, task) = chosen_proof(&cert, &ALICE).check(&cert.number, &owner, ISSUED).unwrap();
    assert_eq!(cert.number.record_key(Some(&cert.directory)), Some(key));
    assert!(task.run());
    let (_, without_plain) = chosen_proof(&cert, &BOB).check(&cert.number, &owner, ISSUED).unwrap();
    assert!(!without_plain.run());
}

#[test]
fn a_chosen_proof_is_refused_for_anything_but_what_was_certified() {
    let cert = chosen_cert("ada@directory.example", &ALICE);
    let refusal = |cert: &ChosenCert, number: &str, owner: &Vector, at: UnixMillis| {
        let number: Number = number.parse().unwrap();
        chosen_proof(cert, &ALICE).check(&number, &owner.key().public(), at).err()
    };
    assert_eq!(refusal(&cert, "ada@directory.example", &ALICE, ISSUED), None);
    assert_eq!(refusal(&cert, "eva@directory.example", &ALICE, ISSUED), Some(ProofError::Mismatch));
    assert_eq!(refusal(&cert, "ada@other.example", &ALICE, ISSUED), Some(ProofError::Mismatch));
    assert_eq!(refusal(&cert, "ada@directory.example", &BOB, ISSUED), Some(ProofError::Mismatch));
    let ahead = u64::try_from(MAX_CLOCK_AHEAD.as_millis()).unwrap();
    let (before, after) = (UnixMillis(ISSUED.0 - ahead - 1), UnixMillis(cert.expires.0 + 1));
    assert_eq!(
        refusal(&cert, "ada@directory.example", &ALICE, UnixMillis(before.0 + 1)),
        None,
        "clocks differ"
    );
    assert_eq!(refusal(&cert, "ada@directory.example", &ALICE, before), Some(ProofError::Untimely));
    assert_eq!(refusal(&cert, "ada@directory.example", &ALICE, after), Some(ProofError::Untimely));
    assert_eq!(refusal(&cert, ALICE.number, &ALICE, ISSUED), Some(ProofError::Kind));
    assert_eq!(
        ALICE.proof().check(&cert.number, &cert.identity, ISSUED).err(),
        Some(ProofError::Kind),
        "a plain proof for a chosen number"
    );
}

/// The account record that was signed with a certificate outlives it, and so does the right to call by the number.
#[test]
fn an_incumbent_may_call_after_the_certificate_has_expired() {
    let cert = chosen_cert("ada@directory.example", &ALICE);
    let proof = chosen_proof(&cert, &ALICE);
    let held =
        |now: UnixMillis| proof.check_held(&cert.number, &cert.identity, now).map(|(key, _)| key).err();
    let last = cert.expires.plus(crate::record::ACCOUNT_LIFETIME);
    assert_eq!((held(ISSUED), held(cert.expires.plus(MAX_CLOCK_AHEAD)), held(last)), (None, None, None));
    assert_eq!(held(UnixMillis(last.0 + 1)), Some(ProofError::Untimely));
    assert_eq!(held(UnixMillis(0)), Some(ProofError::Untimely));
    let (_, task) = ALICE.proof().check_held(&ALICE.number(), &ALICE.key().public(), last).unwrap();
    assert!(task.run(), "plain numbers know no expiry");
}

#[test]
fn certificates_of_chosen_numbers_have_limits() {
    let good = chosen_cert("ada@directory.example", &ALICE);
    let verdict = |cert: &ChosenCert| SignedChosenCert::issue(&directory_key(), cert).verify(ISSUED);
    assert_eq!(verdict(&good), Ok(good.clone()));
    let bare = ChosenCert { number: "ada".parse().unwrap(), ..good.clone() };
    assert_eq!(verdict(&bare), Err(ProofError::Kind), "without the directory's name");
    let plain = ChosenCert { number: ALICE.number(), ..good.clone() };
    assert_eq!(verdict(&plain), Err(ProofError::Kind));
    let for_ever = ChosenCert { expires: UnixMillis(u64::MAX), ..good.clone() };
    assert_eq!(verdict(&for_ever), Err(ProofError::Malformed));
    let never = ChosenCert { expires: ISSUED, ..good.clone() };
    assert_eq!(verdict(&never), Err(ProofError::Malformed));
    let forged = SignedChosenCert::issue(&DirectoryKey::from_seed([78; 32]), &good);
    assert_eq!(forged.verify(ISSUED), Err(ProofError::BadSignature));
}

#[test]
fn the_longest_certificate_fits_its_limit() {
    let label = "d".repeat(63);
    let directory = [&label[..], &label, &label, &label[..61]].join(".");
    let number = format!("{}@{directory}", "홍".repeat(32));
    assert_eq!(
        number.parse::<Number>().map(|number| number.canonical()),
        Ok::<_, NumberError>(number.clone())
    );
    let cert = chosen_cert(&number, &ALICE);
    assert_eq!(SignedChosenCert::issue(&directory_key(), &cert).verify(ISSUED), Ok(cert));
}

#[test]
fn certificates_are_renewed_from_half_of_their_life_on() {
    let number = crate::number::ChosenNumber::new("ada", Some("directory.example")).unwrap();
    let owner = ALICE.key().public();
    let cert = SignedChosenCert::certify(&directory_key(), &number, owner, ISSUED).unwrap();
    let cert = cert.verify(ISSUED).unwrap();
    assert_eq!((cert.number.clone(), cert.identity), (Number::Chosen(number), owner));
    assert_eq!(cert.expires, ISSUED.plus(CHOSEN_LIFETIME));
    let half = ISSUED.plus(CHOSEN_LIFETIME / 2);
    assert_eq!((cert.renewal_due(ISSUED), cert.renewal_due(UnixMillis(half.0 - 1))), (false, false));
    assert_eq!((cert.renewal_due(half), cert.renewal_due(UnixMillis(u64::MAX))), (true, true));
    assert!(!cert.renewal_due(UnixMillis(0)), "a clock that is behind is no reason");
    assert_eq!(cert.held_until(), cert.expires.plus(crate::record::ACCOUNT_LIFETIME));
    let bare = crate::number::ChosenNumber::new("ada", None).unwrap();
    assert_eq!(SignedChosenCert::certify(&directory_key(), &bare, owner, ISSUED), Err(ProofError::Kind));
}

#[test]
fn a_transfer_is_signed_by_who_gives_the_number_away() {
    let (alice, bob) = (ALICE.key(), BOB.key());
    let number = RecordKey([5; 32]);
    let transfer = Transfer { number, from: alice.public(), to: bob.public(), at: ISSUED };
    let signed = SignedTransfer::sign(&alice, number, bob.public(), ISSUED);
    assert_eq!(signed.verify(), Ok(transfer));
    assert!(wire::encode(&signed).len() <= MAX_TRANSFER_BYTES);
    let forge = |transfer: &Transfer, by: &IdentityKey, domain: &str| {
        let bytes = wire::encode(&by.sign(domain, &wire::encode(transfer)));
        wire::decode::<SignedTransfer>(&bytes, 4096).unwrap().verify()
    };
    let domain = wire::domain::NUMBER_TRANSFER;
    assert_eq!(forge(&transfer, &bob, domain), Err(TransferError::BadSignature));
    assert_eq!(forge(&transfer, &alice, wire::domain::DIRECTORY_REQUEST), Err(TransferError::BadSignature));
    let to_oneself = Transfer { to: alice.public(), ..transfer };
    assert_eq!(forge(&to_oneself, &alice, domain), Err(TransferError::Malformed));
    let long = wire::encode(&alice.sign(domain, &[0; 300]));
    let long = wire::decode::<SignedTransfer>(&long, 4096).unwrap();
    assert!(matches!(long.verify(), Err(TransferError::TooLarge(len)) if len > MAX_TRANSFER_BYTES));
}

#[test]
fn a_directory_acts_on_fresh_transfers_only() {
    let signed = SignedTransfer::sign(&ALICE.key(), RecordKey([5; 32]), BOB.key().public(), ISSUED);
    let ahead = UnixMillis(ISSUED.0 - u64::try_from(MAX_CLOCK_AHEAD.as_millis()).unwrap());
    let last = ISSUED.plus(TRANSFER_LIFETIME);
    assert!(signed.verify_fresh(ahead).is_ok() && signed.verify_fresh(last).is_ok());
    assert_eq!(signed.verify_fresh(UnixMillis(ahead.0 - 1)), Err(TransferError::Untimely));
    assert_eq!(signed.verify_fresh(UnixMillis(last.0 + 1)), Err(TransferError::Untimely));
}

#[test]
fn a_chain_of_transfers_forgets_the_oldest() {
    let step =
        |at: u64| SignedTransfer::sign(&ALICE.key(), RecordKey([5; 32]), BOB.key().public(), UnixMillis(at));
    let chain = (0..6).fold(Vec::new(), |chain, at| lengthen(&chain, step(at)));
    assert_eq!(chain, [step(2), step(3), step(4), step(5)]);
}

proptest! {
    #[test]
    fn decoders_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = wire::decode::<NumberProof>(&bytes, 4096);
        if let Ok(cert) = wire::decode::<SignedChosenCert>(&bytes, 4096) {
            prop_assert!(cert.verify(ISSUED).is_err());
        }
        if let Ok(transfer) = wire::decode::<SignedTransfer>(&bytes, 4096) {
            prop_assert!(transfer.verify().is_err());
        }
    }
}

#[test]
fn proofs_survive_encoding() {
    let chosen = chosen_proof(&chosen_cert("☎7@directory.example", &BOB), &BOB);
    for proof in [ALICE.proof(), chosen] {
        let bytes = wire::encode(&proof);
        let decoded: NumberProof = wire::decode(&bytes, bytes.len()).unwrap();
        assert_eq!(decoded, proof);
        assert_eq!(wire::encode(&decoded), bytes);
    }
}
