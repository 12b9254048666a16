//! Taking an account off this terminal, so that nothing of its keys stays.

use super::account::take_lock;
use super::create::{run_blocking, sync_dir};
use super::{AccountId, Home, StorageError};
use std::fs::{self, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// Directories with this prefix were accounts. A program that was killed while it wiped one leaves it to the next.
pub(super) const GONE: &str = ".gone-";

/// Zeros that are written at a time, bytes.
const BLOCK: usize = 64 * 1024;
/// Folders within folders that are looked at: an account has recordings in one, and nobody else writes there.
const MAX_DEPTH: u32 = 8;

impl Home {
    /// Removes an account with everything that this terminal keeps of it. Its files are overwritten before they are unlinked: on a disk that
    /// writes in place nothing of them stays. No running program may have it open.
    ///
    /// # Errors
    /// [`StorageError::InUse`] while a terminal runs it; [`StorageError::Io`] if files stay: they are tried again when the next
    /// account is made.
    pub async fn remove_account(&self, id: &AccountId) -> Result<(), StorageError> {
        let _lock = self.lock().await?;
        let folder = self.folder_of(id).await?;
        let held = take_lock(&folder.join(super::account::LOCK), id)?;
        let (accounts, name) = (
            self.accounts_dir().to_owned(),
            folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        );
        let gone = accounts.join(format!("{GONE}{name}"));
        fs::rename(&folder, &gone).map_err(StorageError::io(&folder))?;
        sync_dir(&accounts)?;
        drop(held);
        self.forget_current(&name)?;
        run_blocking(move || wipe(&gone).map_err(StorageError::io(&gone))).await
    }
}

/// Overwrites and removes a folder with all that is in it.
pub(super) fn wipe(folder: &Path) -> io::Result<()> {
    wipe_within(folder, MAX_DEPTH)
}

fn wipe_within(folder: &Path, depth: u32) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Not through a link: what it leads to is somebody else's.
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 0 {
            wipe_within(&entry.path(), depth - 1)?;
        } else if kind.is_file() {
            overwrite(&entry.path())?;
            fs::remove_file(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

fn overwrite(path: &PathBuf) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut left = file.metadata()?.len();
    file.rewind()?;
    let zeros = vec![0; BLOCK];
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        file.write_all(&zeros[..now])?;
        left -= now as u64;
    }
    file.sync_all()
}
