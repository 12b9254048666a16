use std::io;
use std::path::{Path, PathBuf};

use crate::api::{ApiError, ErrorCode};
use crate::audio::AudioError;

/// Why something could not be recorded, found or played. The text is for the user.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// No recording has this name.
    #[error("There is no recording \"{0}\". `offhook recording list` shows which there are.")]
    None(String),
    /// The beginnings of several names are the same.
    #[error("Several recordings are called \"{0}…\".")]
    Several(String),
    /// As many are kept as there may be.
    #[error("There are as many recordings as there may be. Delete some: `offhook recording delete`.")]
    Full,
    /// It is still being recorded.
    #[error("This is still being recorded.")]
    Recording,
    /// It is exported into a file whose name says nothing of its kind.
    #[error("A recording is exported into a file called .opus, .ogg or .wav.")]
    Kind,
    /// Nothing in it can be played.
    #[error("There is no sound of Opus in {}.", .0.display())]
    NoSound(PathBuf),
    /// A voice message is empty, or longer than one may be.
    #[error("A voice message has some sound, at most ten minutes and 2 MiB of it.")]
    VoiceLength,
    /// The loudspeaker cannot be used.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// A file or directory can't be read or written.
    #[error("{} can't be used: {source}.", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

impl RecordingError {
    /// For `map_err` on file operations.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// Code and sentence.
    pub fn to_api(&self) -> ApiError {
        let code = match self {
            Self::None(_) | Self::Several(_) => ErrorCode::NoRecording,
            Self::Full => ErrorCode::Full,
            Self::Recording => ErrorCode::InUse,
            Self::Kind | Self::VoiceLength => ErrorCode::BadInput,
            Self::NoSound(_) | Self::Io { .. } => ErrorCode::Storage,
            Self::Audio(_) => ErrorCode::Audio,
        };
        ApiError::new(code, self.to_string())
    }
}
