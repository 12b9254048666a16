use proptest::prelude::*;
use zeroize::ZeroizeOnDrop;

use super::*;
use crate::wire::{self, MAX_CLOCK_AHEAD, UnixMillis, domain};

const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

fn identity() -> IdentityKey {
    IdentityKey::from_seed([7; 32])
}

fn terminal() -> TerminalKey {
    TerminalKey::from_seed([1; 32])
}

fn seal() -> SealPublic {
    SealKey::from_seed([2; 32]).public()
}

fn cert() -> TerminalCert {
    TerminalCert {
        identity: identity().public(),
        terminal: terminal().public(),
        seal: seal(),
        not_before: NOW,
        not_after: NOW.plus(CERT_LIFETIME),
    }
}

#[test]
fn secrets_are_erased_when_dropped() {
    fn erased<T: ZeroizeOnDrop>() {}
    erased::<IdentityKey>();
    erased::<TerminalKey>();
    erased::<DirectoryKey>();
    erased::<SealKey>();
    // The types inside do it, too; the first has it as an option that must stay switched on.
    erased::<ed25519_dalek::SigningKey>();
    erased::<x25519_dalek::StaticSecret>();
}

#[test]
fn keys_follow_from_seeds() {
    // RFC 8032 section 7.1, test 1.
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let seed: IdentityId = seed.parse().unwrap();
    let key = IdentityKey::from_seed(*seed.as_bytes());
    assert_eq!(key.public().to_string(), public);
    assert_eq!(key.seed(), seed.as_bytes());
    // RFC 7748 section 5.2: one iteration from the base point, 9, with the scalar 9.
    let seal = SealKey::from_seed(std::array::from_fn(|i| if i == 0 { 9 } else { 0 }));
    assert_eq!(seal.public().to_string(), "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
}

#[test]
fn fingerprint_and_peer_id_vectors() {
    // Computed a second time with Python's hashlib and base64.
    let id = identity().public();
    assert_eq!(id.to_string(), "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c");
    assert_eq!(id.fingerprint().to_string(), "72asyextvngonlc5w2nmguxzay");
    let peer_id = "12D3KooWRawPbxPtP1eZaJpumGnyWX2DcUyd3RQnydr3eAto4Az7";
    let terminal = TerminalId::from_bytes(*id.as_bytes());
    assert_eq!(terminal.to_peer_id(), peer_id);
    assert_eq!(TerminalId::from_peer_id(peer_id), Ok(terminal));
}

#[test]
fn other_texts_are_no_identifiers() {
    assert_eq!("abc".parse::<IdentityId>(), Err(IdError::Hex));
    assert_eq!("zz".repeat(32).parse::<IdentityId>(), Err(IdError::Hex));
    assert_eq!("72asyextvngonlc5w2nmguxza".parse::<Fingerprint>(), Err(IdError::Fingerprint));
    assert_eq!("72asyextvngonlc5w2nmguxza1".parse::<Fingerprint>(), Err(IdError::Fingerprint));
    for peer_id in ["", "12D3KooW", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "0OIl"] {
        assert_eq!(TerminalId::from_peer_id(peer_id), Err(IdError::PeerId));
    }
}

#[test]
fn debug_shows_four_bytes_of_a_key() {
    let id = identity().public();
    assert_eq!(format!("{id:?}"), "IdentityId(ea4a6c63…)");
    let (full, fingerprint) = (id.to_string(), id.fingerprint().to_string());
    let shown = format!("{:?} {:?} {:?}", cert(), id.fingerprint(), id);
    assert!(!shown.contains(&full) && !shown.contains(&fingerprint), "{shown}");
}

#[test]
fn certificates_last_thirteen_months() {
    let signed = SignedCert::issue(&identity(), terminal().public(), seal(), NOW);
    assert_eq!(signed.verify(NOW), Ok(cert()));
    assert_eq!(signed.verify(NOW.plus(CERT_LIFETIME)), Ok(cert()));
    let after = UnixMillis(NOW.plus(CERT_LIFETIME).0 + 1);
    assert_eq!(signed.verify(after), Err(CertError::Expired));
}

#[test]
fn clocks_may_differ_by_ten_minutes() {
    let signed = SignedCert::issue(&identity(), terminal().public(), seal(), NOW.plus(MAX_CLOCK_AHEAD));
    assert!(signed.verify(NOW).is_ok());
    assert_eq!(signed.verify(UnixMillis(NOW.0 - 1)), Err(CertError::NotYetValid));
}

#[test]
fn unsound_certificates_are_refused() {
    let issue = |cert: &TerminalCert| SignedCert::issue_exact(&identity(), cert).verify(NOW);
    assert_eq!(
        issue(&TerminalCert { not_after: UnixMillis(cert().not_after.0 + 1), ..cert() }),
        Err(CertError::Lifetime)
    );
    assert_eq!(issue(&TerminalCert { not_after: NOW, ..cert() }), Err(CertError::Lifetime));
    let other = IdentityKey::from_seed([9; 32]).public();
    assert_eq!(issue(&TerminalCert { identity: other, ..cert() }), Err(CertError::BadSignature));
    // A key of small order, for which signatures can be made without a secret.
    let weak = IdentityId::from_bytes(std::array::from_fn(|i| u8::from(i == 0)));
    assert_eq!(issue(&TerminalCert { identity: weak, ..cert() }), Err(CertError::BadSignature));
    // The same content signed for another purpose.
    let stray = wire::encode(&identity().sign(domain::ACCOUNT_RECORD, &wire::encode(&cert())));
    let stray: SignedCert = wire::decode(&stray, MAX_CERT_BYTES).unwrap();
    assert_eq!(stray.verify(NOW), Err(CertError::BadSignature));
}

#[test]
fn damaged_certificates_are_refused() {
    let garbage = identity().sign(domain::TERMINAL_CERT, b"garbage");
    let signed: SignedCert = wire::decode(&wire::encode(&garbage), 4096).unwrap();
    assert_eq!(signed.verify(NOW), Err(CertError::Malformed));
    let long = identity().sign(domain::TERMINAL_CERT, &[0; MAX_CERT_BYTES]);
    let signed: SignedCert = wire::decode(&wire::encode(&long), 4096).unwrap();
    assert!(matches!(signed.verify(NOW), Err(CertError::TooLarge(len)) if len > MAX_CERT_BYTES));
}

#[test]
fn fields_of_later_versions_are_passed_over_and_stay_signed() {
    let mut payload = wire::encode(&cert());
    payload[0] += 1; // one more entry in the map
    payload.extend_from_slice(&[0x18, 99, 0x63, b'n', b'e', b'w']);
    let envelope = wire::encode(&identity().sign(domain::TERMINAL_CERT, &payload));
    let signed: SignedCert = wire::decode(&envelope, MAX_CERT_BYTES).unwrap();
    assert_eq!(signed.verify(NOW), Ok(cert()));
    assert_eq!(wire::encode(&signed), envelope);
}

proptest! {
    #[test]
    fn identifiers_survive_their_text_forms(bytes in any::<[u8; 32]>()) {
        let id = TerminalId::from_bytes(bytes);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(TerminalId::from_peer_id(&id.to_peer_id()), Ok(id));
        let fingerprint = IdentityId::from_bytes(bytes).fingerprint();
        prop_assert_eq!(fingerprint.to_string().len(), 26);
        prop_assert_eq!(fingerprint.to_string().to_uppercase().parse(), Ok(fingerprint));
        let json = serde_json::to_string(&id).unwrap();
        prop_assert_eq!(serde_json::from_str::<TerminalId>(&json).unwrap(), id);
    }

    #[test]
    fn a_flipped_bit_spoils_a_certificate(at in any::<usize>(), bit in 0..8_u32) {
        let signed = SignedCert::issue(&identity(), terminal().public(), seal(), NOW);
        let mut bytes = wire::encode(&signed);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(damaged) = wire::decode::<SignedCert>(&bytes, MAX_CERT_BYTES) {
            prop_assert!(damaged.verify(NOW).is_err());
        }
    }

    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(cert) = wire::decode::<SignedCert>(&bytes, MAX_CERT_BYTES) {
            prop_assert!(cert.verify(NOW).is_err());
        }
    }
}
