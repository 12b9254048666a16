//! The sounds of an account: the user's own WAV files, kept beside the account, in the place of the old telephone's bell and of the
//! answering machine's greeting.

use super::create::{run_blocking, sync_dir};
use super::{AccountId, AccountStore, Home, StorageError};
use crate::audio::{AudioError, Ringtone};
use std::fs::{self, OpenOptions};
use std::io::{self, Cursor, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Largest WAV file that is kept, bytes: half a minute of all that people ring with.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// What rings.
const RINGTONE: &str = "ringtone.wav";
/// What the answering machine says.
const GREETING: &str = "greeting.wav";

impl Home {
    /// Rings an account's calls with a copy of this WAV file (its first [`MAX_RINGTONE`](crate::audio::MAX_RINGTONE) seconds), or
    /// with the old telephone's bell again. A terminal that runs takes it up when it is started the next time.
    ///
    /// # Errors
    /// There is no such account, the file is no WAV file that can be played or is larger than 16 MiB, or it cannot be copied.
    pub async fn set_ringtone(&self, id: &AccountId, file: Option<&Path>) -> Result<(), StorageError> {
        self.set_sound(id, RINGTONE, file).await
    }

    /// Answers an account's calls, where the machine does, with a copy of this WAV file (its first
    /// [`MAX_RINGTONE`](crate::audio::MAX_RINGTONE) seconds), or with the greeting that is there from the beginning. The next call hears it.
    ///
    /// # Errors
    /// As [`set_ringtone`](Self::set_ringtone).
    pub async fn set_greeting(&self, id: &AccountId, file: Option<&Path>) -> Result<(), StorageError> {
        self.set_sound(id, GREETING, file).await
    }

    async fn set_sound(
        &self,
        id: &AccountId,
        name: &'static str,
        file: Option<&Path>,
    ) -> Result<(), StorageError> {
        let _lock = self.lock().await?;
        let dir = self.folder_of(id).await?;
        let file = file.map(Path::to_owned);
        run_blocking(move || match file {
            Some(file) => keep(&dir, name, &file),
            None => forget(&dir, name),
        })
        .await
    }
}

impl AccountStore {
    /// The file that rings its calls, if they do not ring like an old telephone.
    pub(crate) fn ringtone(&self) -> Option<PathBuf> {
        Some(self.data_dir().join(RINGTONE)).filter(|path| path.exists())
    }

    /// The file that greets callers, if the user has one.
    pub(crate) fn greeting(&self) -> Option<PathBuf> {
        Some(self.data_dir().join(GREETING)).filter(|path| path.exists())
    }
}

fn keep(dir: &Path, name: &str, file: &Path) -> Result<(), StorageError> {
    let wav = read(file)?;
    Ringtone::read(file, Cursor::new(&wav))?;
    let new = dir.join(format!(".{name}.new"));
    let written = write(&new, &wav).and_then(|()| fs::rename(&new, dir.join(name)));
    if written.is_err() {
        // Nobody misses what is left of it.
        let _ = fs::remove_file(&new);
    }
    written.map_err(StorageError::io(&new))?;
    sync_dir(dir)
}

/// The whole file, which is opened once: what is checked is what is kept.
fn read(file: &Path) -> Result<Vec<u8>, StorageError> {
    let refused = |reason: String| AudioError::File { path: file.to_owned(), reason };
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file);
    let opened = opened.map_err(|error| refused(error.to_string()))?;
    let metadata = opened.metadata().map_err(|error| refused(error.to_string()))?;
    if !metadata.is_file() {
        return Err(refused("it is not a file".into()).into());
    }
    let mut wav = Vec::new();
    opened.take(MAX_FILE + 1).read_to_end(&mut wav).map_err(|error| refused(error.to_string()))?;
    match wav.len() as u64 > MAX_FILE {
        true => Err(refused("it is larger than 16 MiB".into()).into()),
        false => Ok(wav),
    }
}

fn write(path: &Path, wav: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(wav)?;
    file.sync_all()
}

fn forget(dir: &Path, name: &str) -> Result<(), StorageError> {
    let path = dir.join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StorageError::io(&path)(error)),
        Ok(()) => sync_dir(dir),
    }
}
