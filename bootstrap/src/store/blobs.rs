//! Backups and letters, each a blob: a file, or an object of an S3-compatible store.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use futures::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig};
use offhook_proto::identity::IdentityId;
use offhook_proto::wire::UnixMillis;

use super::StoreError;
use super::place::BlobPlace;

/// The folders of all blobs in their place: those of backups, and of letters. In each, every account has one.
const FOLDER: &str = "backups";
pub(super) const MAIL_FOLDER: &str = "mail";
const FOLDERS: [&str; 2] = [FOLDER, MAIL_FOLDER];

/// How long S3 may take for a request, and for all tries of one.
const S3_REQUEST_TIME: Duration = Duration::from_secs(10);
const S3_TIME: Duration = Duration::from_secs(30);

/// What stands between the name of a file that is being written and its number.
const STAGED: char = '#';

/// Where blobs are. Clones are handles of one.
#[derive(Clone, Debug)]
pub(super) struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// Their folder, if it is one.
    folder: Option<PathBuf>,
}

impl Blobs {
    pub(super) fn open(place: &BlobPlace) -> Result<Self, StoreError> {
        match place {
            BlobPlace::Folder(folder) => {
                private_folder(folder)?;
                // What is acknowledged is on disk, and folders go with the last blob in them.
                let store = LocalFileSystem::new_with_prefix(folder)?;
                let store = Arc::new(store.with_fsync(true).with_automatic_cleanup(true));
                Ok(Self { store, folder: Some(folder.clone()) })
            }
            BlobPlace::S3(url) => s3(url.as_str()),
        }
    }

    /// A name that no blob had before.
    pub(super) fn new_name(identity: &IdentityId, version: u64) -> String {
        let random = HEXLOWER.encode(&rand::random::<[u8; 16]>());
        format!("{FOLDER}/{}/{version}-{random}", HEXLOWER.encode(identity.as_bytes()))
    }

    /// Stores a blob; it is on disk when this returns.
    pub(super) async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.store.put(&Path::from(name), PutPayload::from(bytes)).await?;
        Ok(())
    }

    /// `None` if there is no such blob.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.store.get(&Path::from(name)).await {
            Ok(found) => Ok(Some(found.bytes().await?.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Erases a blob; there may be none.
    pub(super) async fn erase(&self, name: &str) -> Result<(), StoreError> {
        match self.store.delete(&Path::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Names of the blobs that were written before.
    pub(super) async fn older_than(&self, time: UnixMillis) -> Result<Vec<String>, StoreError> {
        let is_older = |written: i64| u64::try_from(written).is_ok_and(|written| written < time.0);
        let mut names: Vec<String> = Vec::new();
        for folder in FOLDERS {
            let blobs = self.store.list(Some(&Path::from(folder)));
            let older = blobs.try_filter_map(|blob| async move {
                Ok(is_older(blob.last_modified.timestamp_millis()).then(|| blob.location.to_string()))
            });
            names.extend(older.try_collect::<Vec<_>>().await?);
        }
        Ok(names)
    }
}

impl Blobs {
    /// Removes files whose writing was begun before, and was ended by a kill, and folders without files. S3 leaves none.
    pub(super) async fn sweep_staged(&self, before: UnixMillis) -> Result<(), StoreError> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let roots = FOLDERS.map(|part| folder.join(part));
        let sweep = move || roots.iter().try_for_each(|root| sweep_folder(root, before));
        let swept = tokio::task::spawn_blocking(sweep);
        swept.await.map_err(|_| StoreError::Closed)?.map_err(StoreError::io(&folder))
    }
}

/// Goes through the folders of identities, one after the other.
fn sweep_folder(root: &FilePath, before: UnixMillis) -> std::io::Result<()> {
    let before = UNIX_EPOCH + Duration::from_millis(before.0);
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for identity in entries {
        let identity = identity?.path();
        if !identity.is_dir() {
            continue;
        }
        let files = match std::fs::read_dir(&identity) {
            Ok(files) => files,
            // The last blob in it was erased just now.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for file in files {
            let file = file?;
            if is_staged(&file, before) {
                gone(std::fs::remove_file(file.path()))?;
            }
        }
        // Only if there is nothing in it. Whoever is about to write there makes it again.
        let _ = std::fs::remove_dir(&identity);
    }
    Ok(())
}

/// Whether it is a file that is not written to its end, `NAME#NUMBER`, and was last written to before.
fn is_staged(file: &std::fs::DirEntry, before: SystemTime) -> bool {
    let name = file.file_name();
    let number = name.to_str().and_then(|name| name.rsplit_once(STAGED));
    let is_draft = number.is_some_and(|(_, number)| number.parse::<u32>().is_ok());
    let written = file.metadata().and_then(|metadata| metadata.modified());
    is_draft && written.is_ok_and(|written| written < before)
}

fn gone(outcome: std::io::Result<()>) -> std::io::Result<()> {
    match outcome {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn private_folder(folder: &FilePath) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(StoreError::io(folder))
}

/// `s3://BUCKET/PREFIX?endpoint=URL&region=NAME&key=ID&secret=SECRET`; what is not said is taken from the environment, as AWS's own
/// tools do.
fn s3(url: &str) -> Result<Blobs, StoreError> {
    let refused = || StoreError::NoBlobPlace("s3://…".to_owned());
    // The web client asks for one; a program that has chosen one already keeps it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let parsed = reqwest::Url::parse(url).map_err(|_| refused())?;
    let bucket = parsed.host_str().filter(|bucket| !bucket.is_empty()).ok_or_else(refused)?;
    let client = ClientOptions::new().with_timeout(S3_REQUEST_TIME);
    let retry = RetryConfig { retry_timeout: S3_TIME, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
    let mut is_plain = false;
    for (key, value) in parsed.query_pairs() {
        builder = match &*key {
            "endpoint" => {
                is_plain = value.starts_with("http://");
                builder.with_endpoint(value)
            }
            "region" => builder.with_region(value),
            "key" => builder.with_access_key_id(value),
            "secret" => builder.with_secret_access_key(value),
            _ => return Err(refused()),
        };
    }
    let store = builder.with_client_options(client.with_allow_http(is_plain)).build()?;
    let prefix = parsed.path().trim_matches('/');
    let store: Arc<dyn ObjectStore> =
        if prefix.is_empty() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, prefix)) };
    Ok(Blobs { store, folder: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_kill_left_half_written_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().expect("folder");
        let blobs = Blobs::open(&BlobPlace::Folder(folder.path().to_owned())).expect("opened");
        let old = SystemTime::now() - Duration::from_secs(7_200);
        for (name, is_old) in [("aa/1-x#1", true), ("aa/2-x#1", false), ("bb/1-x#7", true), ("cc/1-x", true)]
        {
            let path = folder.path().join(FOLDER).join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            let file = std::fs::File::create(path).expect("written");
            if is_old {
                file.set_modified(old).expect("dated");
            }
        }
        let hour_ago = SystemTime::now().duration_since(UNIX_EPOCH).expect("later").as_millis() - 3_600_000;
        let before = UnixMillis(u64::try_from(hour_ago).expect("a time"));
        blobs.sweep_staged(before).await.expect("swept");
        let is_there = |name: &str| folder.path().join(FOLDER).join(name).exists();
        assert!(!is_there("aa/1-x#1") && is_there("aa/2-x#1"), "one that may still be written stays");
        assert!(!is_there("bb"), "its folder was empty then");
        assert!(is_there("cc/1-x"), "a blob is not half-written");
    }

    #[test]
    fn folders_that_go_while_they_are_looked_through_are_no_failure() {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path().to_owned();
        let (going, swept) = (root.clone(), std::sync::atomic::AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let names: Vec<_> = (0..50).map(|n| going.join(n.to_string())).collect();
                while !swept.load(std::sync::atomic::Ordering::Relaxed) {
                    for name in &names {
                        // The other thread removes them, too.
                        let _ = std::fs::create_dir(name);
                        let _ = std::fs::remove_dir(name);
                    }
                }
            });
            let outcomes: Vec<_> = (0..2_000).map(|_| sweep_folder(&root, UnixMillis(0))).collect();
            swept.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(outcomes.iter().all(Result::is_ok), "{:?}", outcomes.iter().find(|one| one.is_err()));
        });
    }
}
