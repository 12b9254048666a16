//! The directories as users work with them.

use super::{AccountStore, DirectoryPin, StorageError};
use crate::api::{ApiError, DirectoryInfo, ErrorCode, Reply};
use offhook_proto::identity::DirectoryId;
use offhook_proto::number::ChosenNumber;

impl AccountStore {
    pub(super) async fn list_directories(&self) -> Result<Reply, ApiError> {
        let home = self.home_directory().await.map_err(|error| error.to_api())?;
        let known = self.known_directories().await.map_err(|error| error.to_api())?;
        let info = |known: super::PinnedDirectory| DirectoryInfo {
            home: home.as_ref() == Some(&known.name),
            key: known.directory.to_string(),
            offered: known.offered.map(|offered| offered.to_string()),
            name: known.name,
        };
        Ok(Reply::Directories { directories: known.into_iter().map(info).collect() })
    }

    pub(super) async fn add_directory(&self, typed: &str, key: &str) -> Result<Reply, ApiError> {
        let name = name(typed)?;
        let bad =
            |error: offhook_proto::identity::IdError| ApiError::new(ErrorCode::BadInput, format!("{error}."));
        let key: DirectoryId = key.parse().map_err(bad)?;
        match self.pin_directory(&name, &key, None).await.map_err(|error| error.to_api())? {
            DirectoryPin::New | DirectoryPin::Matches => Ok(Reply::Done),
            DirectoryPin::Differs { pinned } => Err(ApiError::new(
                ErrorCode::KeyChanged,
                format!(
                    "Another key is known for \"{name}\" ({pinned}). If it is no longer the right one: \
                     `offhook directory confirm {name}`."
                ),
            )),
        }
    }

    pub(super) async fn confirm_other_key(&self, typed: &str) -> Result<Reply, ApiError> {
        self.confirm_directory(&name(typed)?).await.map(|_| Reply::Done).map_err(|error| error.to_api())
    }

    pub(super) async fn choose_home(&self, typed: Option<&str>) -> Result<Reply, ApiError> {
        let name = typed.map(name).transpose()?;
        let set: Result<(), StorageError> = self.set_home_directory(name.as_deref()).await;
        set.map(|()| Reply::Done).map_err(|error| error.to_api())
    }
}

/// A directory's name in its normal form.
fn name(typed: &str) -> Result<String, ApiError> {
    let number = ChosenNumber::new("a", Some(typed.trim()));
    let name = number.ok().and_then(|number| number.directory().map(str::to_owned));
    name.ok_or_else(|| ApiError::new(ErrorCode::BadInput, "That is not the name of a directory."))
}
