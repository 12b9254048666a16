//! The recordings of real speech that the tests play; `data/PROVENANCE.md` says where they come from.

use std::path::{Path, PathBuf};

/// One passage, 20.6 s.
pub fn a() -> PathBuf {
    data("speech-a.wav")
}

/// Another passage of the same reader, 19.8 s.
pub fn b() -> PathBuf {
    data("speech-b.wav")
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}
