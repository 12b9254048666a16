//! Taking an account off this terminal, so that nothing of its keys stays.

use super::account::take_lock;
use super::create::{UNFINISHED, run_blocking, sync_dir};
use super::{AccountId, Home, StorageError};
use std::fs::{self, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// Directories with this prefix were accounts. A program that was killed while it wiped one leaves it to the next.
const GONE: &str = ".gone-";

/// Zeros that are written at a time, bytes.
const BLOCK: usize = 64 * 1024;
/// Folders within folders that are looked at: an account has recordings in one, and nobody else writes there.
const MAX_DEPTH: u32 = 8;

impl Home {
    /// Removes an account with everything that this terminal keeps of it. Its files are overwritten before they are unlinked: on a disk that
    /// writes in place nothing of them stays. No running program may have it open.
    ///
    /// # Errors
    /// [`StorageError::InUse`] while a terminal runs it; [`StorageError::Io`] if files stay: they are tried again by
    /// [`Self::sweep_left`].
    pub async fn remove_account(&self, id: &AccountId) -> Result<(), StorageError> {
        let _lock = self.lock().await?;
        // An earlier one of the same account, say.
        self.sweep()?;
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

impl Home {
    /// Finishes what a program that was killed has not: of accounts that are wiped, or were never whole, nothing stays. Programs do so
    /// when they start. While another one makes or wipes an account, that one does it.
    ///
    /// # Errors
    /// [`StorageError::Io`] if something stays.
    pub async fn sweep_left(&self) -> Result<(), StorageError> {
        if self.left()?.is_empty() {
            return Ok(());
        }
        let Some(lock) = self.try_lock()? else { return Ok(()) };
        let home = self.clone();
        run_blocking(move || {
            let _lock = lock;
            home.sweep()
        })
        .await
    }

    /// Folders of accounts that were never finished, or are being wiped.
    fn left(&self) -> Result<Vec<PathBuf>, StorageError> {
        let accounts = self.accounts_dir();
        let mut left = Vec::new();
        for entry in fs::read_dir(accounts).map_err(StorageError::io(accounts))? {
            let path = entry.map_err(StorageError::io(accounts))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy());
            if name.as_deref().is_some_and(|name| name.starts_with(UNFINISHED) || name.starts_with(GONE)) {
                left.push(path);
            }
        }
        Ok(left)
    }

    /// Wipes what programs left behind that died while they made or wiped an account. Under the lock, so nobody is making one now.
    pub(super) fn sweep(&self) -> Result<(), StorageError> {
        for path in self.left()? {
            // What was never finished has keys in it, too.
            wipe(&path).map_err(StorageError::io(&path))?;
        }
        Ok(())
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
