//! Copies that are damaged, and copies of a directory on PostgreSQL.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use offhook_bootstrap::store::Store;
use offhook_tests::postgres::Postgres;
use serde_json::json;

use crate::{Scene, identity, run};

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
