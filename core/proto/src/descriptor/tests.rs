use proptest::prelude::*;

use super::*;
use crate::proof::tests::directory_key;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const NAME: &str = "directory.example";

fn addr(text: &str) -> NodeAddr {
    text.parse().unwrap()
}

fn descriptor() -> Descriptor {
    Descriptor {
        name: NAME.to_owned(),
        directory: directory_key().public(),
        nodes: vec![addr("/dns/directory.example/udp/4001/quic-v1"), addr("/dns/directory.example/tcp/4001")],
        stun: vec![addr("/dns/directory.example/udp/3478")],
        turn: vec![addr("/dns/directory.example/udp/3478"), addr("/dns/directory.example/tcp/443/tls")],
        web: Some("https://directory.example".to_owned()),
        mailbox: true,
        issued: NOW,
        expires: NOW.plus(DESCRIPTOR_LIFETIME),
    }
}

fn signed(descriptor: &Descriptor) -> SignedDescriptor {
    SignedDescriptor::sign(&directory_key(), descriptor).unwrap()
}

/// What a reader says of it, whoever has signed it.
fn verdict(descriptor: &Descriptor) -> Option<DescriptorError> {
    let forged = directory_key().sign(domain::DESCRIPTOR, &wire::encode(descriptor));
    let read = SignedDescriptor(forged).verify(NOW).err();
    assert_eq!(read, SignedDescriptor::sign(&directory_key(), descriptor).err(), "the writer says the same");
    read
}

#[test]
fn a_descriptor_says_where_a_directory_is() {
    let read = SignedDescriptor::from_bytes(&signed(&descriptor()).to_bytes()).unwrap();
    assert_eq!(read.verify(NOW), Ok(descriptor()));
    assert_eq!(read.verify_named(NAME, NOW), Ok(descriptor()));
    assert_eq!(read.verify_pinned(NAME, &directory_key().public(), NOW), Ok(descriptor()));
}

#[test]
fn a_descriptor_is_good_for_one_name_and_one_key() {
    let signed = signed(&descriptor());
    assert_eq!(signed.verify_named("other.example", NOW), Err(DescriptorError::Name));
    let other = DirectoryKey::from_seed([1; 32]);
    let pinned = signed.verify_pinned(NAME, &other.public(), NOW);
    assert_eq!(pinned, Err(DescriptorError::OtherDirectory));
    assert_eq!(SignedDescriptor::sign(&other, &descriptor()), Err(DescriptorError::OtherDirectory));
    let forged = SignedDescriptor(other.sign(domain::DESCRIPTOR, &wire::encode(&descriptor())));
    assert_eq!(forged.verify(NOW), Err(DescriptorError::BadSignature));
}

#[test]
fn a_descriptor_has_its_time() {
    let signed = signed(&descriptor());
    let verdict = |now: UnixMillis| signed.verify(now).err();
    let ahead = u64::try_from(MAX_CLOCK_AHEAD.as_millis()).unwrap();
    assert_eq!(verdict(UnixMillis(NOW.0 - ahead)), None);
    assert_eq!(verdict(UnixMillis(NOW.0 - ahead - 1)), Some(DescriptorError::NotYetValid));
    let last = NOW.plus(DESCRIPTOR_LIFETIME);
    assert_eq!((verdict(last), verdict(UnixMillis(last.0 + 1))), (None, Some(DescriptorError::Expired)));
    let month = NOW.plus(Duration::from_secs(31 * 86_400));
    assert_eq!(verdict(month), None, "a directory may be off line for a month");
}

#[test]
fn descriptors_have_limits() {
    let with = |change: &dyn Fn(&mut Descriptor)| {
        let mut changed = descriptor();
        change(&mut changed);
        verdict(&changed)
    };
    assert_eq!(with(&|_| {}), None);
    for bad in ["", "Directory.example", "directory.example.", "a b", "-a.example", "a@b"] {
        assert_eq!(with(&|d| d.name = bad.to_owned()), Some(DescriptorError::Name), "{bad}");
    }
    let full = |len: usize| vec![addr("/dns/a/tcp/1"); len];
    assert_eq!(with(&|d| d.nodes = full(MAX_NODES)), None);
    assert_eq!(with(&|d| d.nodes = full(MAX_NODES + 1)), Some(DescriptorError::TooManyEntries));
    assert_eq!(with(&|d| d.stun = full(MAX_SERVERS + 1)), Some(DescriptorError::TooManyEntries));
    assert_eq!(with(&|d| d.turn = full(MAX_SERVERS + 1)), Some(DescriptorError::TooManyEntries));
    for good in ["http://[2001:db8::1]:8080", "https://xn--p8j9a0d9c9a.example"] {
        assert_eq!(with(&|d| d.web = Some(good.to_owned())), None, "{good}");
    }
    let long = format!("https://{}", "a".repeat(MAX_WEB_BYTES));
    for bad in [
        "",
        "https://",
        "javascript:alert(1)",
        "https://a/b",
        "https://a\"",
        "https://a b",
        "https://u@a",
        &long,
    ] {
        assert_eq!(with(&|d| d.web = Some(bad.to_owned())), Some(DescriptorError::Web), "{bad}");
    }
    assert_eq!(with(&|d| d.web = None), None);
    assert_eq!(with(&|d| d.expires = d.issued), Some(DescriptorError::Lifetime));
    assert_eq!(with(&|d| d.expires = UnixMillis(u64::MAX)), Some(DescriptorError::Lifetime));
    let bulky = vec![addr(&format!("/dns/{}", "x".repeat(250))); MAX_NODES];
    assert!(matches!(with(&|d| d.nodes = bulky.clone()), Some(DescriptorError::TooLarge(_))));
}

#[test]
fn the_later_descriptor_counts() {
    let later = Descriptor { issued: NOW.plus(Duration::from_secs(1)), ..descriptor() };
    assert!(later.is_newer_than(&descriptor()) && !descriptor().is_newer_than(&later));
    let elsewhere = Descriptor { directory: DirectoryId::from_bytes([1; 32]), ..later };
    assert!(!elsewhere.is_newer_than(&descriptor()));
    assert!(!descriptor().renewal_due(NOW));
    assert!(descriptor().renewal_due(NOW.plus(DESCRIPTOR_LIFETIME / 10)));
}

#[test]
fn every_directory_has_its_own_place_in_the_dht() {
    let key = Descriptor::key(&directory_key().public());
    assert_eq!(key, Descriptor::key(&directory_key().public()));
    assert_ne!(key, Descriptor::key(&DirectoryId::from_bytes([1; 32])));
}

/// Bytes as version 1 wrote them; the fuzzer begins with the same ones.
#[test]
fn descriptors_of_version_1_can_be_read() {
    let bytes = include_bytes!("../../../../fuzz/seeds/descriptor/full");
    assert_eq!(signed(&descriptor()).to_bytes(), bytes);
    assert_eq!(SignedDescriptor::from_bytes(bytes).unwrap().verify(NOW), Ok(descriptor()));
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(signed) = SignedDescriptor::from_bytes(&bytes) {
            prop_assert!(signed.verify(NOW).is_err());
        }
        let _ = SignedDescriptor(directory_key().sign(domain::DESCRIPTOR, &bytes)).verify(NOW);
    }

    #[test]
    fn damage_never_makes_another_descriptor(at in 0_usize..4096, bit in 0_u8..8) {
        let mut bytes = signed(&descriptor()).to_bytes();
        let len = bytes.len();
        bytes[at % len] ^= 1 << bit;
        if let Ok(read) = SignedDescriptor::from_bytes(&bytes).and_then(|signed| signed.verify(NOW)) {
            prop_assert_eq!(read, descriptor());
        }
    }
}

#[test]
fn q3_a_descriptor_lies_at_its_own_place_only() {
    let good = signed(&descriptor());
    let (own, other) = (directory_key().public(), DirectoryKey::from_seed([1; 32]).public());
    assert_eq!(good.verify_stored(&Descriptor::key(&own), NOW), Ok(descriptor()));
    let elsewhere = good.verify_stored(&Descriptor::key(&other), NOW);
    assert_eq!(elsewhere, Err(DescriptorError::OtherDirectory));
    let over = NOW.plus(DESCRIPTOR_LIFETIME + Duration::from_secs(1));
    assert_eq!(good.verify_stored(&Descriptor::key(&own), over), Err(DescriptorError::Expired));
    assert_eq!(good.verify_kept(&Descriptor::key(&own)), Ok(descriptor()), "whatever the clock says");
    assert!(descriptor().is_live(NOW) && !descriptor().is_live(over));
}
