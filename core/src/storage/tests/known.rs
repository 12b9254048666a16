use super::*;
use crate::api::{Command, ErrorCode, Reply};
use crate::clock::wall_clock;
use offhook_proto::descriptor::{Descriptor, SignedDescriptor};
use offhook_proto::identity::{DirectoryId, DirectoryKey};
use offhook_proto::number::ChosenNumber;
use offhook_proto::proof::SignedChosenCert;

const NAME: &str = "example.org";

async fn ada() -> (TempDir, Home, AccountStore) {
    let (dir, home) = home_with_ada().await;
    let store = home.open_account(&id("ada")).await.unwrap();
    (dir, home, store)
}

fn key(seed: u8) -> DirectoryKey {
    DirectoryKey::from_seed([seed; 32])
}

fn directory(seed: u8) -> DirectoryId {
    key(seed).public()
}

#[tokio::test]
async fn another_key_of_a_directory_waits_for_the_users_word() {
    let (_dir, _home, store) = ada().await;
    assert_eq!(store.known_directory(NAME).await.unwrap(), None);
    assert_eq!(store.pin_directory(NAME, &directory(1), None).await.unwrap(), DirectoryPin::New);
    assert_eq!(store.pin_directory(NAME, &directory(1), None).await.unwrap(), DirectoryPin::Matches);
    let nothing = store.confirm_directory(NAME).await.unwrap_err();
    assert!(matches!(nothing, StorageError::NothingToConfirm));
    let differs = DirectoryPin::Differs { pinned: directory(1) };
    assert_eq!(store.pin_directory(NAME, &directory(2), None).await.unwrap(), differs);
    let known = store.known_directory(NAME).await.unwrap().unwrap();
    assert_eq!((known.directory, known.offered), (directory(1), Some(directory(2))));
    assert_eq!(store.confirm_directory(NAME).await.unwrap(), directory(2));
    let known = store.known_directory(NAME).await.unwrap().unwrap();
    assert_eq!((known.directory, known.offered), (directory(2), None));
    assert_eq!(
        store.known_directory("example.com").await.unwrap(),
        None,
        "another name is another directory"
    );
}

#[tokio::test]
async fn an_older_descriptor_takes_no_newer_ones_place() {
    let (_dir, _home, store) = ada().await;
    let said = |at: u64| {
        let issued = UnixMillis(at);
        let descriptor = Descriptor {
            name: NAME.to_owned(),
            directory: directory(1),
            nodes: Vec::new(),
            stun: Vec::new(),
            turn: Vec::new(),
            web: None,
            mailbox: false,
            issued,
            expires: issued.plus(std::time::Duration::from_secs(86_400)),
        };
        SignedDescriptor::sign(&key(1), &descriptor).unwrap()
    };
    let now = wall_clock().0;
    // The first two are over by now.
    let [older, old, new] = [now - 900_000_000, now - 800_000_000, now].map(said);
    let kept = async |told: &SignedDescriptor| {
        store.pin_directory(NAME, &directory(1), Some(told)).await.unwrap();
        store.known_directory(NAME).await.unwrap().unwrap().descriptor.unwrap()
    };
    for (told, stays) in [(&old, &old), (&older, &old), (&new, &new), (&old, &new)] {
        assert_eq!(kept(told).await.to_bytes(), stays.to_bytes());
    }
}

#[tokio::test]
async fn a_chosen_number_is_found_where_its_directorys_key_says() {
    let (_dir, _home, store) = ada().await;
    store.pin_directory(NAME, &directory(1), None).await.unwrap();
    let (link, place) = store.resolve_to_dial("\u{ff22}ob@Example.org").await.unwrap();
    assert_eq!(link.number.to_string(), "bob@example.org");
    assert_eq!(Some(place), link.number.record_key(Some(&directory(1))));
    let cyrillic = store.resolve("\u{430}da@example.org").await.unwrap().number;
    assert_ne!(cyrillic.to_string(), "ada@example.org", "letters that look alike are not made the same");
}

#[tokio::test]
async fn a_number_without_a_directory_is_the_home_directorys() {
    let (_dir, home, store) = ada().await;
    let bare = store.resolve_to_dial("bob").await.unwrap_err().to_api();
    assert_eq!(bare.code, ErrorCode::UnknownDirectory);
    store.set_home_directory(Some("example.com")).await.unwrap();
    assert_eq!(store.resolve("bob").await.unwrap().number.to_string(), "bob@example.com");
    store.set_home_directory(None).await.unwrap();
    // That of a number that the account holds is home to it, but for its key it has to be asked: whoever issues a certificate chooses
    // the name in it.
    let identity = home.unlock(&id("ada"), &password("pw one")).await.unwrap();
    let number = ChosenNumber::new("ada", Some(NAME)).unwrap();
    let cert = SignedChosenCert::certify(&key(1), &number, identity.public(), wall_clock()).unwrap();
    store.put_chosen(&identity, NewNumber { cert, transfers: Vec::new() }).await.unwrap();
    assert_eq!(store.known_directory(NAME).await.unwrap(), None);
    assert_eq!(store.resolve("bob").await.unwrap().number.to_string(), "bob@example.org");
    store.pin_directory(NAME, &directory(1), None).await.unwrap();
    let own = store.resolve("ada").await.unwrap_err().to_api();
    assert_eq!((own.code, own.message.as_str()), (ErrorCode::BadInput, "That is your own number."));
    let listed = store.execute(&Command::Directories).await.unwrap().unwrap();
    let Reply::Directories { directories } = listed else { panic!("directories were asked for") };
    assert!(directories.len() == 1 && directories[0].home && directories[0].name == NAME);
}

#[tokio::test]
async fn a_directory_that_is_added_by_hand_is_checked() {
    let (_dir, _home, store) = ada().await;
    let add = |name: &str, key: &str| Command::DirectoryAdd { name: name.into(), key: key.into() };
    let key = directory(1).to_string();
    for (name, key) in [("no name", key.as_str()), ("", &key), (NAME, "abc"), (NAME, "")] {
        let refused = store.execute(&add(name, key)).await.unwrap().unwrap_err();
        assert_eq!(refused.code, ErrorCode::BadInput, "{name} {key}: {refused}");
    }
    store.execute(&add("Example.ORG", &key)).await.unwrap().unwrap();
    assert_eq!(store.known_directory(NAME).await.unwrap().unwrap().directory, directory(1));
    let other = store.execute(&add(NAME, &directory(2).to_string())).await.unwrap().unwrap_err();
    assert_eq!(other.code, ErrorCode::KeyChanged);
}
