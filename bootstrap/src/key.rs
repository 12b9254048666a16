//! The directory's secrets, made at the first start: its key, the key that it issues numbers with, and the secret of its media relay's tickets. Each is kept in a
//! file of its own that only its owner reads.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A secret of the directory's, by the name of its file in the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {
    /// The key, which is the directory's name to the world.
    Key,
    /// What tickets for its media relay are made with. Tickets of another secret are no good any more.
    Relay,
    /// What numbers are issued with. Its public half is in every certificate: all processes of one directory have it in common.
    Signing,
}

impl Secret {
    const fn file(self) -> &'static str {
        match self {
            Self::Key => "directory.key",
            Self::Relay => "relay.secret",
            Self::Signing => "signing.key",
        }
    }
}

/// A larger file than this is no secret of ours, bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Why the key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("{path} may be read by others, who could pose as this directory or use its relay; run: chmod 600 {path}", path = path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
    },
    /// The file is not a key.
    #[error("{path} is damaged: it must hold 32 bytes; restore it from a backup, or remove it to have a new one (a new directory.key or signing.key makes a new directory)", path = path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
}

/// A secret, of the key its seed; made and flushed to disk if there is none.
///
/// # Errors
/// [`KeyError`]. A damaged key is never replaced: whoever knows the directory knows it by its key.
pub fn load_or_make(folder: &Path, secret: Secret) -> Result<[u8; 32], KeyError> {
    let bytes = load_or_make_file(folder, secret.file(), || rand::random::<[u8; 32]>().to_vec())?;
    bytes.try_into().map_err(|_| KeyError::Damaged { path: folder.join(secret.file()) })
}

/// What is in a secret file; made by `make` and flushed to disk if there is none.
pub(crate) fn load_or_make_file(
    folder: &Path,
    file: &str,
    make: impl FnOnce() -> Vec<u8>,
) -> Result<Vec<u8>, KeyError> {
    let path = folder.join(file);
    let failed = |source| KeyError::Io { path: path.clone(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    match File::open(&path) {
        Ok(file) => read(file, &path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            write(folder, &path, &make()).map_err(failed)?;
            read(File::open(&path).map_err(failed)?, &path)
        }
        Err(error) => Err(failed(error)),
    }
}

fn read(file: File, path: &Path) -> Result<Vec<u8>, KeyError> {
    let failed = |source| KeyError::Io { path: path.to_owned(), source };
    if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Written beside and linked into place, so that a kill at any moment leaves no key or a whole one, and two
/// processes that start at once agree on one.
fn write(folder: &Path, path: &Path, secret: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension(std::process::id().to_string());
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(secret)?;
    file.sync_all()?;
    let linked = match std::fs::hard_link(&draft, path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    std::fs::remove_file(&draft)?;
    File::open(folder)?.sync_all()?;
    linked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().expect("folder");
        let data = folder.path().join("data");
        let first = load_or_make(&data, Secret::Key).expect("key");
        assert_eq!(load_or_make(&data, Secret::Key).expect("key"), first);
        let mode = std::fs::metadata(data.join(Secret::Key.file())).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&data).expect("folder").count(), 1);
        let relay = load_or_make(&data, Secret::Relay).expect("secret");
        assert_eq!(load_or_make(&data, Secret::Relay).expect("secret"), relay);
        assert_ne!(relay, first);
    }

    #[test]
    fn a_damaged_key_is_never_replaced() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(Secret::Key.file());
        std::fs::write(&path, [1; 31]).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("changed");
        assert!(matches!(load_or_make(folder.path(), Secret::Key), Err(KeyError::Damaged { .. })));
        assert_eq!(std::fs::read(folder.path().join(Secret::Key.file())).expect("file").len(), 31);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        load_or_make(folder.path(), Secret::Key).expect("key");
        let path = folder.path().join(Secret::Key.file());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("changed");
        assert!(matches!(load_or_make(folder.path(), Secret::Key), Err(KeyError::Exposed { .. })));
    }
}
