//! Changing the configuration file without losing what the user wrote into it.

use super::{Context, File};
use crate::exit::Failure;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Whoever changes the file holds a lock on this one meanwhile.
const LOCK: &str = "config.lock";
const UNFINISHED: &str = ".config.toml.new";

impl Context {
    /// Writes settings into `HOME/config.toml` that are texts, and leaves the rest of it as it is, comments too.
    pub fn remember(&self, changes: &[(&str, &str)]) -> Result<(), Failure> {
        let dir = self.home.dir();
        let path = dir.join("config.toml");
        let failed =
            |error: io::Error| Failure::system(format!("{} can't be written: {error}.", path.display()));
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join(LOCK));
        let lock = lock.map_err(failed)?;
        lock.lock().map_err(failed)?;
        let before = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(error)),
        };
        let Some(text) = edited(&before, changes) else {
            let lines: Vec<String> = changes.iter().map(|(key, value)| line(key, value)).collect();
            return Err(Failure::system(format!(
                "{} is written in a way that can't be changed here. Write into it: {}",
                path.display(),
                lines.join(", ")
            )));
        };
        replace(&path, &text).map_err(failed)
    }
}

/// The file with other values, if they can be put in so that nothing else changes.
fn edited(before: &str, changes: &[(&str, &str)]) -> Option<String> {
    let mut lines: Vec<String> = before.lines().map(str::to_owned).collect();
    for (key, value) in changes {
        let is_key = |line: &String| {
            line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        let line = line(key, value);
        match lines.iter_mut().find(|line| is_key(line)) {
            Some(found) => *found = line,
            None => lines.push(line),
        }
    }
    let text = lines.join("\n") + "\n";
    // What was found may have been a part of something else.
    let (old, new) = (File::parse(before).ok()?, File::parse(&text).ok()?);
    (new == old.with(changes)?).then_some(text)
}

fn line(key: &str, value: &str) -> String {
    format!("{key} = {}", toml::Value::String(value.to_owned()))
}

impl File {
    /// `None` if one of these is no text that can be changed.
    fn with(mut self, changes: &[(&str, &str)]) -> Option<File> {
        for (key, value) in changes {
            let field = match *key {
                "mic" => &mut self.mic,
                "speaker" => &mut self.speaker,
                "ringer" => &mut self.ringer,
                _ => return None,
            };
            *field = Some((*value).to_owned());
        }
        Some(self)
    }
}

/// Either the old file is there afterwards or the new one, whatever happens meanwhile.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // The file itself, if it is kept elsewhere and linked to.
    let path = match fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
        found => found?,
    };
    let dir = path.parent().unwrap_or(Path::new("."));
    let new = dir.join(UNFINISHED);
    // There may be passwords in it.
    let mode = fs::metadata(&path).map_or(0o600, |found| found.permissions().mode() & 0o7777);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        fs::File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        // Nobody misses what is left of it.
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Global;

    #[test]
    fn values_are_changed_and_everything_else_stays() {
        let before = "# mine\nmic = 'none' # for now\nentry = [\n  '/x',\n]\n  speaker=\"a\"\n";
        let after = edited(before, &[("mic", "pulse x"), ("speaker", "b\"\\"), ("ringer", "c")]).unwrap();
        let lines: Vec<_> = after.lines().collect();
        assert_eq!(lines[..5], ["# mine", "mic = \"pulse x\"", "entry = [", "  '/x',", "]"]);
        assert!(lines.len() == 7 && lines[6] == "ringer = \"c\"", "{after}");
        assert_eq!(File::parse(&after).unwrap().speaker.as_deref(), Some("b\"\\"));
        assert_eq!(edited("", &[("mic", "default")]).unwrap(), "mic = \"default\"\n");
        assert_eq!(edited("mics = 1", &[("mic", "x")]), None, "a broken file is left alone");
        assert_eq!(
            edited("entry = [\"\"\"\nmic = 1\n\"\"\"]\n", &[("mic", "x")]),
            None,
            "a part of something else"
        );
        assert_eq!(edited("", &[("answer", "auto")]), None);
    }

    #[test]
    fn what_is_remembered_is_read_again_and_stays_private() {
        let dir = tempfile::tempdir().unwrap();
        let global = Global { home: Some(dir.path().into()), account: None, json: false };
        let context = || Context::new(&global).unwrap();
        let file = dir.path().join("config.toml");
        context().remember(&[("mic", "none")]).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let elsewhere = dir.path().join("elsewhere.toml");
        fs::rename(&file, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        context().remember(&[("speaker", "alsa:hw")]).unwrap();
        assert!(fs::symlink_metadata(&file).unwrap().is_symlink(), "the link stays");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        let file = context().file;
        assert_eq!((file.mic.as_deref(), file.speaker.as_deref()), (Some("none"), Some("alsa:hw")));
        assert!(!dir.path().join(UNFINISHED).exists());
    }
}
