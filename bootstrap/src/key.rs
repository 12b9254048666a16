//! The directory's key: 32 bytes in hex, readable by its owner only. It is the node's PeerId; whoever has it can
//! pose as this directory.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file or its folder.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// Others may read it.
    #[error("{0} may be read by others; run: chmod 600 {0}")]
    Exposed(PathBuf),
    /// Something else is in it.
    #[error("{0} is not a key: 64 hex digits expected")]
    Malformed(PathBuf),
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
}

/// Reads the key in `dir`, or makes one, and the folder too.
///
/// # Errors
/// A [`KeyError`].
pub fn load_or_create(dir: &Path) -> Result<[u8; 32], KeyError> {
    let path = dir.join("key");
    let io = |error| KeyError::Io { path: path.clone(), error };
    std::fs::create_dir_all(dir).map_err(io)?;
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let mode = std::fs::metadata(&path).map_err(io)?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(KeyError::Exposed(path));
            }
            parse(text.trim()).ok_or(KeyError::Malformed(path))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(dir, &path),
        Err(error) => Err(io(error)),
    }
}

/// Writes a new key beside its place and moves it there, so that a kill leaves a whole one or none.
fn create(dir: &Path, path: &Path) -> Result<[u8; 32], KeyError> {
    let io = |error| KeyError::Io { path: path.to_owned(), error };
    let mut seed = [0; 32];
    rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut seed)
        .map_err(|error| KeyError::Random(error.to_string()))?;
    let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    let draft = dir.join("key.new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .map_err(io)?;
    writeln!(file, "{hex}").and_then(|()| file.sync_all()).map_err(io)?;
    std::fs::rename(&draft, path).map_err(io)?;
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
    Ok(seed)
}

fn parse(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut seed = [0; 32];
    for (byte, at) in seed.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        let first = load_or_create(&inner).unwrap();
        assert_eq!(load_or_create(&inner).unwrap(), first);
        let mode = std::fs::metadata(inner.join("key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(load_or_create(&dir.path().join("c")).unwrap(), first);
    }

    #[test]
    fn an_exposed_or_damaged_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        let path = dir.path().join("key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_create(dir.path()), Err(KeyError::Exposed(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for damaged in ["", "abc", &"z".repeat(64), &"é".repeat(32)] {
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(load_or_create(dir.path()), Err(KeyError::Malformed(_))), "{damaged}");
        }
    }
}
