use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::identity::{DirectoryKey, IdentityKey, MailboxKey, SealKey, TerminalId};
use crate::proof::tests::{ALICE, BOB, ISSUED, chosen_cert, directory_key};
use crate::proof::{PlainProof, SignedChosenCert, SignedTransfer};
use crate::record::Pin;
use crate::wire;

fn key() -> BackupKey {
    BackupKey::from_export_key(&[5; 64])
}

fn nonces() -> Nonces {
    Nonces { backup: [1; 24], recovery: [2; 24] }
}

fn mailbox() -> MailboxKey {
    SealKey::from_seed([99; 32])
}

fn empty() -> Backup {
    Backup::new(ALICE.key(), mailbox(), ALICE.plain(), PlainProof { nonce: ALICE.nonce }, ISSUED)
}

fn full() -> Backup {
    let cert = chosen_cert("ada@directory.example", &ALICE);
    let number = cert.number.record_key(Some(&cert.directory)).unwrap();
    let transfer = SignedTransfer::sign(&BOB.key(), number, ALICE.key().public(), ISSUED);
    let cert = SignedChosenCert::issue(&directory_key(), &cert);
    let bob = BOB.key().public();
    Backup {
        chosen: vec![BackupChosen { cert, transfers: vec![transfer] }],
        contacts: vec![BackupContact { number: BOB.number(), name: "Bob".to_owned() }],
        settings: [("ring".to_owned(), "bell".to_owned())].into(),
        pins: vec![
            BackupPin { number: BOB.number(), pin: Pin::Key(bob), verified: true },
            BackupPin {
                number: "eva@directory.example".parse().unwrap(),
                pin: Pin::Fingerprint(bob.fingerprint()),
                verified: false,
            },
        ],
        revoked: vec![TerminalId::from_bytes([9; 32])],
        mailboxes: vec!["/dns4/mailbox.example/tcp/443".parse().unwrap()],
        ..empty()
    }
}

fn plain(backup: &Backup) -> Zeroizing<Vec<u8>> {
    backup.to_plain().unwrap()
}

#[track_caller]
fn assert_same(a: &Backup, b: &Backup) {
    assert_eq!(plain(a), plain(b));
}

#[test]
fn a_backup_gives_everything_back() {
    for backup in [empty(), full()] {
        let sealed = backup.seal(&key(), 3, &nonces()).unwrap();
        let kept = SealedBackup::from_bytes(&sealed.to_bytes()).unwrap();
        assert_eq!((kept.version(), &kept), (3, &sealed));
        let opened = kept.open(&key(), &ALICE.key().public()).unwrap();
        assert_same(&opened, &backup);
        assert_eq!(opened.identity.public(), ALICE.key().public());
        assert!(opened.pins == backup.pins);
        assert_eq!((opened.chosen, opened.mailbox.public()), (backup.chosen, mailbox().public()));
    }
}

#[test]
fn the_recovery_words_open_it_too() {
    let sealed = full().seal(&key(), 3, &nonces()).unwrap();
    let words = RecoveryWords::of(&ALICE.key()).to_string();
    let identity = words.parse::<RecoveryWords>().unwrap().identity();
    assert_same(&sealed.open_as_owner(&identity).unwrap(), &full());
    assert_eq!(sealed.open_as_owner(&BOB.key()).err(), Some(BackupError::Sealed));
}

#[test]
fn another_key_identity_or_version_opens_nothing() {
    let alice = ALICE.key().public();
    let sealed = full().seal(&key(), 3, &nonces()).unwrap();
    let other = BackupKey::from_export_key(&[6; 64]);
    assert_eq!(sealed.open(&other, &alice).err(), Some(BackupError::Sealed));
    assert_eq!(sealed.open(&key(), &BOB.key().public()).err(), Some(BackupError::Sealed));
    let mut bytes = sealed.to_bytes();
    // The version is the fifth byte: a map of five, 0, 1, 1, 3.
    assert_eq!(bytes[..5], [0xa5, 0, 1, 1, 3]);
    bytes[4] = 4;
    let pretended = SealedBackup::from_bytes(&bytes).unwrap();
    assert_eq!(pretended.version(), 4);
    assert_eq!(pretended.open(&key(), &alice).err(), Some(BackupError::Sealed));
    assert_eq!(pretended.open_as_owner(&ALICE.key()).err(), Some(BackupError::Sealed));
}

#[test]
fn an_older_version_is_noticed() {
    let sealed = empty().seal(&key(), 3, &nonces()).unwrap();
    assert_eq!((sealed.check_version(0), sealed.check_version(3)), (Ok(()), Ok(())));
    assert_eq!(sealed.check_version(4), Err(BackupError::RolledBack { known: 4, found: 3 }));
}

#[test]
fn fields_of_later_versions_are_kept() {
    let mut bytes = plain(&full()).to_vec();
    assert_eq!(bytes[0], 0xab);
    bytes[0] = 0xad;
    // Two more fields: 13 with a list of a map, and 300 with a text.
    bytes.extend_from_slice(&[13, 0x81, 0xa1, 0x01, 0x02, 0x19, 0x01, 0x2c, 0x62, b'h', b'i']);
    let backup = Backup::from_plain(&bytes).unwrap();
    assert_eq!(*plain(&backup), bytes);
    let sealed = backup.seal(&key(), 1, &nonces()).unwrap();
    assert_same(&sealed.open(&key(), &ALICE.key().public()).unwrap(), &backup);
}

fn directory(n: u8) -> BackupDirectory {
    BackupDirectory {
        name: format!("directory{n}.example"),
        url: format!("https://directory{n}.example"),
        directory: DirectoryKey::from_seed([n; 32]).public(),
        id: "ada".to_owned(),
        added: ISSUED,
    }
}

#[test]
fn p3_a_backup_names_the_directories_that_the_account_is_with() {
    let mut backup = full();
    backup.directories = vec![directory(1), directory(2)];
    backup.follow([7; 32]);
    let sealed = backup.seal(&key(), 3, &nonces()).unwrap();
    let opened = sealed.open(&key(), &ALICE.key().public()).unwrap();
    assert_eq!(opened.directories, backup.directories);
    assert_same(&opened, &backup);
}

#[test]
fn a_backup_names_what_it_has_replaced_and_forgets_the_oldest() {
    let mut backup = full();
    let first = backup.digest().unwrap();
    backup.follow(first);
    let second = backup.digest().unwrap();
    assert_ne!(second, first);
    assert_same(&Backup::from_plain(&plain(&backup)).unwrap(), &backup);
    assert_eq!(Backup::from_plain(&plain(&backup)).unwrap().predecessors, [first]);
    for n in 0..MAX_PREDECESSORS {
        backup.follow([u8::try_from(n).unwrap(); 32]);
    }
    assert_eq!((backup.predecessors.len(), backup.predecessors[0]), (MAX_PREDECESSORS, [0; 32]));
    backup.predecessors.push([7; 32]);
    assert_eq!(backup.digest(), Err(BackupError::TooManyEntries));
    // However it is sealed, it is the same.
    let sealed = full().seal(&BackupKey::from_export_key(&[6; 64]), 9, &nonces()).unwrap();
    assert_eq!(sealed.open_as_owner(&ALICE.key()).unwrap().digest().unwrap(), first);
}

#[test]
fn backups_of_another_format_are_told_apart_from_damaged_ones() {
    let mut bytes = empty().seal(&key(), 3, &nonces()).unwrap().to_bytes();
    bytes[2] = 2;
    assert_eq!(SealedBackup::from_bytes(&bytes), Err(BackupError::Format));
    assert_eq!(SealedBackup::from_bytes(&bytes[1..]), Err(BackupError::Malformed));
    bytes.push(0);
    assert_eq!(SealedBackup::from_bytes(&bytes), Err(BackupError::Malformed));
    let long = vec![0; MAX_BACKUP_BYTES + 1];
    assert_eq!(SealedBackup::from_bytes(&long), Err(BackupError::TooLarge(long.len())));
}

#[test]
fn lists_and_texts_have_limits() {
    let refusal = |change: &dyn Fn(&mut Backup)| {
        let mut backup = full();
        change(&mut backup);
        backup.seal(&key(), 1, &nonces()).err()
    };
    let contact = || full().contacts.remove(0);
    let pin = || full().pins.remove(0);
    assert_eq!(refusal(&|b| b.contacts = vec![contact(); MAX_CONTACTS]), None);
    let too_many = Some(BackupError::TooManyEntries);
    assert_eq!(refusal(&|b| b.contacts = vec![contact(); MAX_CONTACTS + 1]), too_many);
    assert_eq!(refusal(&|b| b.contacts[0].name = "x".repeat(MAX_CONTACT_NAME_BYTES + 1)), too_many);
    assert_eq!(refusal(&|b| b.pins = vec![pin(); MAX_PINS + 1]), too_many);
    assert_eq!(refusal(&|b| b.chosen = vec![b.chosen[0].clone(); 9]), too_many);
    assert_eq!(refusal(&|b| b.revoked = vec![b.revoked[0]; 33]), too_many);
    assert_eq!(refusal(&|b| b.mailboxes = vec![b.mailboxes[0].clone(); 4]), too_many);
    assert_eq!(refusal(&|b| b.directories = vec![directory(1); MAX_DIRECTORIES]), None);
    assert_eq!(refusal(&|b| b.directories = vec![directory(1); MAX_DIRECTORIES + 1]), too_many);
    let named = |name: usize, id: usize| BackupDirectory {
        name: "n".repeat(name),
        id: "i".repeat(id),
        ..directory(1)
    };
    assert_eq!(refusal(&|b| b.directories = vec![named(MAX_DIRECTORY_BYTES, 256)]), None);
    assert_eq!(refusal(&|b| b.directories = vec![named(MAX_DIRECTORY_BYTES + 1, 256)]), too_many);
    assert_eq!(refusal(&|b| b.directories = vec![named(MAX_DIRECTORY_BYTES, 257)]), too_many);
    let setting = |name: usize, value: usize| ("n".repeat(name), "v".repeat(value));
    assert_eq!(refusal(&|b| b.settings = [setting(65, 1)].into()), too_many);
    assert_eq!(refusal(&|b| b.settings = [setting(64, MAX_SETTING_BYTES)].into()), None);
    assert_eq!(refusal(&|b| b.settings = [setting(64, MAX_SETTING_BYTES + 1)].into()), too_many);
    let bulky = |b: &mut Backup| b.settings = (1..=4).map(|i| setting(i, MAX_SETTING_BYTES)).collect();
    assert!(matches!(refusal(&bulky), Some(BackupError::TooLarge(_))));
}

#[test]
fn what_is_inside_is_checked_when_it_is_opened() {
    let bytes = plain(&empty());
    for end in 0..bytes.len() {
        assert_eq!(Backup::from_plain(&bytes[..end]).err(), Some(BackupError::Malformed));
    }
    let mut swapped = bytes.to_vec();
    swapped[1] = 1;
    assert_eq!(Backup::from_plain(&swapped).err(), Some(BackupError::Malformed), "out of order");
    let trailing = [&bytes[..], &[0]].concat();
    assert_eq!(Backup::from_plain(&trailing).err(), Some(BackupError::Malformed));
    let many: Vec<u8> =
        (13..=77).flat_map(|key: u8| if key < 24 { vec![key, 0] } else { vec![24, key, 0] }).collect();
    let fields = u8::try_from(11 + 65).unwrap();
    let many = [&[0xb8, fields], &bytes[1..], &many].concat();
    assert_eq!(Backup::from_plain(&many).err(), Some(BackupError::TooManyEntries));
}

#[test]
fn debug_tells_no_secret() {
    let shown = format!("{:?} {:?} {:?} {:?}", full(), key(), RecoveryWords::of(&ALICE.key()), full().chosen);
    for secret in ["Bob", "bell", "9269", "ada", "7, 7", "099"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

/// Test vectors of BIP-39 (<https://github.com/trezor/python-mnemonic/blob/master/vectors.json>).
#[test]
fn words_are_those_of_bip_39() {
    let vectors = [
        ([0; 32], format!("{}art", "abandon ".repeat(23))),
        ([0xff; 32], format!("{}vote", "zoo ".repeat(23))),
        (
            [0x7f; 32],
            "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful \
             legal winner thank year wave sausage worth title"
                .to_owned(),
        ),
        (
            [0x80; 32],
            "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor \
             acoustic avoid letter advice cage absurd amount doctor acoustic bless"
                .to_owned(),
        ),
    ];
    for (seed, words) in vectors {
        let identity = IdentityKey::from_seed(seed);
        assert_eq!(RecoveryWords::of(&identity).to_string(), words);
        assert_eq!(words.parse::<RecoveryWords>().unwrap().identity().seed(), &seed);
    }
}

#[test]
fn words_may_be_typed_as_people_write_them() {
    let words = RecoveryWords::of(&ALICE.key());
    let listed: String = words
        .words()
        .iter()
        .enumerate()
        .map(|(i, word)| format!("{}. {},\n", i + 1, word.to_uppercase()))
        .collect();
    assert_eq!(listed.parse(), Ok(words.clone()));
    let short: Vec<&str> = words.words().iter().map(|word| &word[..word.len().min(4)]).collect();
    assert_eq!(short.join("  ").parse(), Ok(words));
}

#[test]
fn mistakes_in_words_are_told() {
    let words = RecoveryWords::of(&ALICE.key()).words();
    let read = |words: &[&str]| words.join(" ").parse::<RecoveryWords>().err();
    assert_eq!(read(&words), None);
    assert_eq!(read(&words[1..]), Some(WordsError::Count(23)));
    assert_eq!(read(&[]), Some(WordsError::Count(0)));
    let mut wrong = words;
    wrong[4] = "telephonist";
    assert_eq!(read(&wrong), Some(WordsError::Unknown { position: 5 }));
    wrong[4] = "zoo";
    assert_eq!(read(&wrong), Some(WordsError::Check));
    assert_eq!("a ".repeat(600).parse::<RecoveryWords>().err(), Some(WordsError::TooLong));
}

/// Bytes as version 1 wrote them; the fuzzer begins with the same ones, and the site's tests write them again.
#[test]
fn backups_of_version_1_can_be_read() {
    let sealed = full().seal(&key(), 7, &nonces()).unwrap();
    assert_eq!(sealed.to_bytes(), include_bytes!("../../../../fuzz/seeds/backup/sealed"));
    assert_eq!(*plain(&full()), include_bytes!("../../../../fuzz/seeds/backup/plain"));
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Backup::from_plain(&bytes);
        if let Ok(sealed) = SealedBackup::from_bytes(&bytes) {
            prop_assert!(sealed.open(&key(), &ALICE.key().public()).is_err());
        }
    }

    #[test]
    fn damage_opens_nothing(at in 0_usize..65536, bit in 0_u8..8) {
        let mut bytes = full().seal(&key(), 3, &nonces()).unwrap().to_bytes();
        let len = bytes.len();
        bytes[at % len] ^= 1 << bit;
        let Ok(sealed) = SealedBackup::from_bytes(&bytes) else { return Ok(()) };
        let (by_password, by_words) = (sealed.open(&key(), &ALICE.key().public()), sealed.open_as_owner(&ALICE.key()));
        // What seals the key for the words is not part of what the password opens.
        prop_assert!(by_words.is_err());
        if let Ok(opened) = by_password {
            prop_assert_eq!(plain(&opened), plain(&full()));
        }
    }

    #[test]
    fn any_seed_survives_its_words(seed in any::<[u8; 32]>()) {
        let words = RecoveryWords::of(&IdentityKey::from_seed(seed));
        let read: RecoveryWords = words.to_string().parse().unwrap();
        let identity = read.identity();
        prop_assert_eq!(identity.seed(), &seed);
    }

    #[test]
    fn reading_words_never_panics(text in "\\PC{0,300}") {
        let _ = text.parse::<RecoveryWords>();
    }

    #[test]
    fn damaged_contents_are_refused_or_stable(at in 0_usize..65536, byte in any::<u8>()) {
        let mut bytes = plain(&full()).to_vec();
        let len = bytes.len();
        bytes[at % len] = byte;
        if let Ok(backup) = Backup::from_plain(&bytes) {
            let again = plain(&backup);
            let reread = Backup::from_plain(&again).map(|backup| plain(&backup));
            prop_assert_eq!(reread.ok(), Some(again));
        }
    }
}

#[test]
fn the_key_follows_from_the_export_key_alone() {
    let sealed = empty().seal(&key(), 1, &nonces()).unwrap();
    let again = empty().seal(&BackupKey::from_export_key(&[5; 64]), 1, &nonces()).unwrap();
    assert_eq!(wire::encode(&sealed), wire::encode(&again));
}
