//! Copies that are damaged, and copies of a directory on PostgreSQL.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use offhook::clock::wall_clock;
use offhook_bootstrap::store::Store;
use offhook_tests::postgres::Postgres;
use serde_json::json;

use crate::{Scene, identity, run, s3};

/// The names of what is in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).map(|entries| entries.map(|e| e.unwrap().file_name()));
    entries.map(|names| names.map(|name| name.into_string().unwrap()).collect()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_is_refused_and_nothing_of_it_is_put_back() {
    let scene = Scene::new().await;
    let (copy, other) = (scene.folder.path().join("copy"), scene.folder.path().join("other"));
    let to = copy.to_str().unwrap();
    assert_eq!(scene.run(&["backup", to]).code, Some(0));
    let refused = |code, why: &str| {
        run(&other, &["restore", to]).refused(code, why);
        assert_eq!(names(&other), [""; 0], "{why}: nothing is left of it");
    };
    let bent = |path: &Path, bytes: &[u8]| {
        let kept = std::fs::read(path).unwrap();
        std::fs::write(path, bytes).unwrap();
        kept
    };

    // A user's backup: the others need not be lost over it, but that is for the operator to say.
    let hex = data_encoding::HEXLOWER.encode(identity(2).as_bytes());
    let blob = copy.join("blobs/backups").join(hex);
    let blob = std::fs::read_dir(blob).unwrap().next().unwrap().unwrap().path();
    let kept = bent(&blob, b"bent");
    refused(1, "damaged: eve; nothing was put back");
    run(&other, &["restore", to, "--accept-damaged"]).refused(1, "damaged: eve");
    assert_eq!(run(&other, &["users", "list"]).out.lines().count(), 2, "all others are back");
    std::fs::remove_dir_all(&other).unwrap();
    std::fs::write(&blob, kept).unwrap();

    // The database: a page of it, and all of it.
    let database = copy.join("directory.sqlite");
    let mut bytes = std::fs::read(&database).unwrap();
    let middle = bytes.len() / 2 / 4_096 * 4_096;
    bytes[middle..middle + 4_096].fill(0xff);
    let kept = bent(&database, &bytes);
    refused(1, "is not a good copy");
    bent(&database, b"this is no database, but a text that somebody has saved under its name");
    refused(1, "is not a good copy");
    bent(&database, &kept);

    // Keys of another directory.
    for key in ["signing.key", "opaque.key"] {
        let kept = bent(&copy.join(key), &[1; 32]);
        let said = run(&other, &["restore", to]);
        said.refused(1, "is not a good copy");
        assert_eq!(names(&other), [""; 0]);
        std::fs::write(copy.join(key), kept).unwrap();
    }
    let said = run(&other, &["restore", to, "--json"]).json();
    assert_eq!((&said[0]["accounts"], &said[0]["damaged"]), (&json!(2), &json!([])));

    // A key that is there already is not replaced.
    std::fs::remove_file(other.join("directory.sqlite")).unwrap();
    std::fs::write(other.join("signing.key"), [1; 32]).unwrap();
    run(&other, &["restore", to]).refused(2, "signing.key is of another directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_not_put_back_beside_what_is_left_of_a_database() {
    let scene = Scene::new().await;
    let (copy, other) = (scene.folder.path().join("copy"), scene.folder.path().join("other"));
    let to = copy.to_str().unwrap();
    assert_eq!(scene.run(&["backup", to]).code, Some(0));
    std::fs::create_dir(&other).unwrap();
    for left in ["directory.sqlite-wal", "directory.sqlite-shm", "directory.sqlite-journal"] {
        // The log of a directory whose host has crashed.
        std::fs::write(other.join(left), [7; 4_096]).unwrap();
        run(&other, &["restore", to]).refused(2, &format!("{left} already"));
        assert_eq!(names(&other), [left], "nothing was put back");
        std::fs::remove_file(other.join(left)).unwrap();
    }
    // What an earlier one left that was cut off is no hindrance.
    std::fs::write(other.join("directory.sqlite.part"), [7; 4_096]).unwrap();
    std::fs::create_dir(other.join("restore.part")).unwrap();
    assert_eq!(run(&other, &["restore", to]).code, Some(0));
    let mut found = names(&other);
    found.sort();
    assert_eq!(found, ["blobs", "directory.sqlite", "opaque.key", "signing.key"]);
    let mode = std::fs::metadata(other.join("directory.sqlite")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "password files are in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_copy_left_is_removed_and_nothing_else() {
    let scene = Scene::new().await;
    let copies = scene.folder.path().join("copies");
    let digits = "0123456789abcdef".repeat(2);
    let [old, new, other] =
        [format!("a.part-{digits}"), format!("b.part-{digits}"), "c.part-time".to_owned()];
    for name in [&old, &new, &other] {
        std::fs::create_dir_all(copies.join(name).join("blobs")).unwrap();
    }
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 3_600);
    for name in [&old, &other] {
        std::fs::File::open(copies.join(name)).unwrap().set_modified(long_ago).unwrap();
    }
    assert_eq!(scene.run(&["backup", copies.join("d").to_str().unwrap()]).code, Some(0));
    let mut found = names(&copies);
    found.sort();
    assert_eq!(found, [new, other, "d".to_owned()]);
    let mode = std::fs::metadata(copies.join("d")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_leaves_no_session_of_then() {
    let scene = Scene::new().await;
    let (copy, other) = (scene.folder.path().join("copy"), scene.folder.path().join("other"));
    assert_eq!(scene.run(&["backup", copy.to_str().unwrap()]).code, Some(0));
    let mut command = Command::new(env!("CARGO_BIN_EXE_offhook-directory"));
    let mut restore = command.arg("restore").arg(&copy).arg("--data").arg(&other).spawn().unwrap();
    let database = other.join("directory.sqlite");
    while !database.exists() && restore.try_wait().unwrap().is_none() {
        std::hint::spin_loop();
    }
    restore.kill().unwrap();
    restore.wait().unwrap();
    let blobs = other.join("blobs").display().to_string().parse().unwrap();
    let store = Store::open(&database.display().to_string().parse().unwrap(), &blobs).await.unwrap();
    assert_eq!(store.count_sessions(None, wall_clock()).await.unwrap(), 0);
    let log = store.audit(None, 1).await.unwrap();
    assert_eq!(log[0].1.action, "restore");
    assert_eq!(store.backup(&identity(2)).await.unwrap().unwrap().bytes, vec![2; 1_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_not_put_back_into_another_users_folder() {
    let scene = Scene::new().await;
    let copy = scene.folder.path().join("copy");
    assert_eq!(scene.run(&["backup", copy.to_str().unwrap()]).code, Some(0));
    let other = scene.folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    // Root gives one away. The root of all folders is not that of anybody else, nor of who is root in a user namespace only.
    let other = if std::os::unix::fs::chown(&other, Some(65_534), None).is_ok() { other } else { "/".into() };
    run(&other, &["restore", copy.to_str().unwrap()]).refused(2, "restore as that user");
    assert!(!other.join("directory.sqlite").exists() && !other.join("signing.key").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_put_back_with_the_users_backups_in_an_s3_store() {
    let scene = Scene::new().await;
    let (copy, other) = (scene.folder.path().join("copy"), scene.folder.path().join("other"));
    assert_eq!(scene.run(&["backup", copy.to_str().unwrap()]).code, Some(0));
    let server = s3::Server::start().await;
    let said = run(&other, &["restore", copy.to_str().unwrap(), "--blobs", &server.url()]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!((server.names().len(), server.unsigned()), (2, 0));
    assert!(!other.join("blobs").exists());
    let database = other.join("directory.sqlite").display().to_string().parse().unwrap();
    let store = Store::open(&database, &server.url().parse().unwrap()).await.unwrap();
    assert_eq!(store.backup(&identity(2)).await.unwrap().unwrap().bytes, vec![2; 1_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_can_only_be_read_is_put_back() {
    let scene = Scene::new().await;
    let (copy, other) = (scene.folder.path().join("copy"), scene.folder.path().join("other"));
    assert_eq!(scene.run(&["backup", copy.to_str().unwrap()]).code, Some(0));
    let mode = |mode| std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o500);
    let before = names(&copy);
    assert_eq!(run(&other, &["restore", copy.to_str().unwrap()]).code, Some(0));
    assert_eq!(names(&copy), before, "nothing is written into it");
    mode(0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_directory_on_postgresql_has_the_keys_the_backups_and_a_dump() {
    let server = Postgres::start().unwrap();
    let [url, again] = [server.database().unwrap(), server.database().unwrap()];
    let scene = Scene::on(Some(&url)).await;
    let at = |name: &str| scene.folder.path().join(name);
    let backup = |to: &Path, more: &[&str], path: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offhook-directory"));
        command.arg("backup").arg(to).args(more).args(["--database", &url, "--data"]).arg(scene.data());
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, said) = backup(&at("copy"), &["--json"], None);
    assert!(code == Some(0) && said.contains("\"database\":true"), "{said}");
    let mut found = names(&at("copy"));
    found.sort();
    assert_eq!(found, ["blobs", "directory.dump", "opaque.key", "signing.key"]);
    let mode = std::fs::metadata(at("copy/directory.dump")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "password files are in it");

    // Put back as the handbook says it.
    let mut restore = Command::new("pg_restore");
    let restored = restore.args(["--no-owner", "--dbname", &again]).arg(at("copy/directory.dump")).output();
    let restored = restored.unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let blobs = at("copy/blobs").display().to_string().parse().unwrap();
    let store = Store::open(&again.parse().unwrap(), &blobs).await.unwrap();
    assert_eq!(store.count_accounts().await.unwrap(), 2);
    assert_eq!(store.backup(&identity(2)).await.unwrap().unwrap().bytes, vec![2; 1_000]);

    // Without PostgreSQL's programs nothing pretends to be a copy, unless the operator sees to the database himself.
    let (code, said) = backup(&at("half"), &[], Some("/nowhere"));
    assert!(code == Some(1) && said.contains("pg_dump") && said.contains("--without-database"), "{said}");
    assert!(!at("half").exists());
    let (code, said) = backup(&at("half"), &["--without-database"], Some("/nowhere"));
    assert!(code == Some(0) && said.contains("the database is not: dump it with pg_dump"), "{said}");
    let mut found = names(&at("half"));
    found.sort();
    assert_eq!(found, ["blobs", "opaque.key", "signing.key"]);
    let sqlite = Scene::new().await;
    sqlite.run(&["backup", at("x").to_str().unwrap(), "--without-database"]).refused(2, "for PostgreSQL");
}
