//! The directory's web site: built by Node, so that `cargo build` then puts it into `offhook-directory`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::run::{Outcome, install_listed, root, run};
use crate::setup;

/// The lock file of the packages that are installed, as it was when they were.
const INSTALLED: &str = "node_modules/.offhook-lock.json";
/// The lock file.
const LOCK: &str = "package-lock.json";
/// What the built site is made of, beside the packages.
const SOURCES: [&str; 6] =
    ["src", "public", "index.html", "package.json", "svelte.config.js", "vite.config.ts"];
/// What the build writes first, and last.
const BUILT: [&str; 2] = ["dist/index.html", "dist/index.html.gz"];

/// Builds the site if it has changed since it was built.
pub fn build() -> Outcome {
    setup::for_site()?;
    install()?;
    if is_built(&folder()) {
        return Ok(());
    }
    run(&mut npm(&["run", "build"]))
}

/// Types and tests.
pub fn check() -> Outcome {
    run(&mut npm(&["run", "check"]))?;
    run(&mut npm(&["test"]))
}

fn folder() -> PathBuf {
    root().join("bootstrap/site")
}

fn npm(arguments: &[&str]) -> Command {
    let mut command = Command::new("npm");
    command.args(arguments).current_dir(folder());
    command
}

/// Installs the packages of the lock file, and runs nothing of theirs, unless they are those that are there.
fn install() -> Outcome {
    install_listed(&folder().join(LOCK), &folder().join(INSTALLED), || {
        run(&mut npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund"]))
    })
}

/// Whether the build is later than everything that it is made of.
fn is_built(site: &Path) -> bool {
    let built = BUILT.iter().map(|name| changed(&site.join(name))).min().flatten();
    let sources = SOURCES.iter().chain([&INSTALLED]).map(|name| latest(&site.join(name)));
    // One that is missing is no reason to believe in the build.
    built.is_some_and(|built| {
        sources.map(|source| source.filter(|source| *source <= built)).all(|old| old.is_some())
    })
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

/// When a file, or anything within a folder, was changed last.
fn latest(path: &Path) -> Option<SystemTime> {
    let own = changed(path)?;
    let Ok(entries) = std::fs::read_dir(path) else { return Some(own) };
    entries.map(|entry| latest(&entry.ok()?.path())).try_fold(own, |last, one| Some(last.max(one?)))
}

#[cfg(test)]
mod tests {
    use std::fs::{File, create_dir_all};
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_site_is_built_again_when_something_in_it_has_changed_and_only_then() {
        let site = std::env::temp_dir().join(format!("offhook-site-{}", std::process::id()));
        let start = SystemTime::now();
        let write = |name: &str, seconds| {
            let path = site.join(name);
            create_dir_all(path.parent().unwrap()).unwrap();
            File::create(&path).unwrap().set_modified(start + Duration::from_secs(seconds)).unwrap();
        };
        for name in ["src/lib/deep.ts", "public/logo.svg", INSTALLED].iter().chain(&SOURCES[2..]) {
            write(name, 10);
        }
        assert!(!is_built(&site), "never built");
        BUILT.iter().for_each(|name| write(name, 20));
        assert!(is_built(&site));
        write("src/lib/deep.ts", 30);
        assert!(!is_built(&site), "a source is later");
        BUILT.iter().for_each(|name| write(name, 40));
        assert!(is_built(&site));
        write(INSTALLED, 50);
        assert!(!is_built(&site), "other packages");
        BUILT.iter().for_each(|name| write(name, 60));
        std::fs::remove_file(site.join(BUILT[1])).unwrap();
        assert!(!is_built(&site), "the build was broken off");
        std::fs::remove_dir_all(&site).unwrap();
    }
}
