//! Backups, each a blob: a file, or an object of an S3-compatible store.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

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

/// The folder of all blobs in their place.
const FOLDER: &str = "backups";

/// How long S3 may take for a request, and for all tries of one.
const S3_REQUEST_TIME: Duration = Duration::from_secs(10);
const S3_TIME: Duration = Duration::from_secs(30);

/// Where blobs are. Clones are handles of one.
#[derive(Clone, Debug)]
pub(super) struct Blobs(Arc<dyn ObjectStore>);

impl Blobs {
    pub(super) fn open(place: &BlobPlace) -> Result<Self, StoreError> {
        match place {
            BlobPlace::Folder(folder) => {
                private_folder(folder)?;
                // What is acknowledged is on disk.
                Ok(Self(Arc::new(LocalFileSystem::new_with_prefix(folder)?.with_fsync(true))))
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
        self.0.put(&Path::from(name), PutPayload::from(bytes)).await?;
        Ok(())
    }

    /// `None` if there is no such blob.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.0.get(&Path::from(name)).await {
            Ok(found) => Ok(Some(found.bytes().await?.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Erases a blob; there may be none.
    pub(super) async fn erase(&self, name: &str) -> Result<(), StoreError> {
        match self.0.delete(&Path::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Names of the blobs that were written before.
    pub(super) async fn older_than(&self, time: UnixMillis) -> Result<Vec<String>, StoreError> {
        let is_older = |written: i64| u64::try_from(written).is_ok_and(|written| written < time.0);
        let blobs = self.0.list(Some(&Path::from(FOLDER)));
        let names = blobs.try_filter_map(|blob| async move {
            Ok(is_older(blob.last_modified.timestamp_millis()).then(|| blob.location.to_string()))
        });
        Ok(names.try_collect().await?)
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
    Ok(Blobs(if prefix.is_empty() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, prefix)) }))
}
