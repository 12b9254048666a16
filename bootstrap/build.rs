//! Puts the built site, `site/dist`, into the program; a table of nothing where it has not been built (`cargo xtask site`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, fs, io};

/// How the compressed forms of a file end, which the site's build makes beside it.
const COMPRESSED: [&str; 2] = ["br", "gz"];

fn main() -> io::Result<()> {
    let folder = |name| env::var_os(name).map(PathBuf::from).ok_or(io::ErrorKind::NotFound);
    let (root, out) = (folder("CARGO_MANIFEST_DIR")?, folder("OUT_DIR")?);
    let dist = root.join("site").join("dist");
    // cargo watches what there is. Where the folder cannot be made it runs this at every build, which is slow and right.
    if !dist.exists() {
        let _ = make_empty(&dist);
    }
    println!("cargo:rerun-if-changed={}", dist.display());
    let mut files = Vec::new();
    // A build that has not come to its end has no page.
    if dist.join("index.html").is_file() {
        list(&dist, &mut files)?;
        files.sort();
    }
    fs::write(out.join("built.rs"), table(&dist, &files))
}

/// Makes a folder that looks old: nothing has been put into it since this build began.
fn make_empty(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::File::open(folder)?.set_modified(SystemTime::UNIX_EPOCH)
}

/// All files beneath a folder.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// The Rust source of the table: an expression of type `&[File]`.
fn table(dist: &Path, files: &[PathBuf]) -> String {
    let is_compressed = |file: &Path| {
        let end = file.extension().and_then(|end| end.to_str());
        end.is_some_and(|end| COMPRESSED.contains(&end)) && files.contains(&file.with_extension(""))
    };
    let bytes = |file: &Path| format!("include_bytes!({:?})", file.display().to_string());
    let mut text = String::from("&[\n");
    for file in files.iter().filter(|file| !is_compressed(file)) {
        let Ok(path) = file.strip_prefix(dist) else { continue };
        let path =
            path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        let [br, gzip] = COMPRESSED.map(|end| {
            let form = PathBuf::from(format!("{}.{end}", file.display()));
            if files.contains(&form) { format!("Some({})", bytes(&form)) } else { "None".to_owned() }
        });
        let plain = bytes(file);
        // A String takes whatever is written.
        let _ = writeln!(text, "File {{ path: {path:?}, plain: {plain}, br: {br}, gzip: {gzip} }},");
    }
    text + "]\n"
}
