//! Running other programs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Success, or a sentence that says what failed.
pub type Outcome = Result<(), String>;

/// Where Debian keeps the programs of its administrators; the search path of other users leaves them out.
pub const ADMIN_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// `cargo` in the root of the workspace.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    // Set for xtask by the cargo that runs it; another cargo must find its own.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(name);
    }
    command
}

/// Says what is run, runs it, and fails if it does.
pub fn run(command: &mut Command) -> Outcome {
    let line = describe(command);
    eprintln!("+ {line}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` failed: {status}")),
        Err(error) => Err(format!("`{line}` could not be started: {error}")),
    }
}

/// What a program prints on standard output, if it succeeds.
pub fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// How programs are built.
#[derive(Clone, Copy, Debug)]
pub enum Profile {
    /// Soon: for the demo, as for tests.
    Dev,
    /// Optimised: for benchmarks.
    Measured,
}

impl Profile {
    /// Its name, and that of its folder in the target directory.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Dev => ("dev", "debug"),
            Self::Measured => ("measured", "measured"),
        }
    }
}

/// Builds the programs that demo and benchmarks start.
pub fn build_programs(profile: Profile) -> Outcome {
    let packages = ["offhook-node", "offhook-bootstrap", "offhook-tests"];
    let mut command = cargo(&["build", "--locked", "--bins", "--profile", profile.names().0]);
    run(command.args(packages.iter().flat_map(|package| ["-p", package])))
}

/// Where the built programs are.
pub fn folder(profile: Profile) -> PathBuf {
    target().join(profile.names().1)
}

/// A built program of the `tests` package.
pub fn own_program(profile: Profile, name: &str, arguments: &[String]) -> Command {
    let mut command = Command::new(folder(profile).join(name));
    command.args(arguments).current_dir(root());
    command
}

/// The same command for one who may make network namespaces: root as is, others root in a user namespace.
pub fn as_root(command: Command) -> Command {
    if is_root() { command } else { in_user_namespace(&command) }
}

/// The same command as root of a user namespace, with a network of its own.
fn in_user_namespace(command: &Command) -> Command {
    let mut result = Command::new(root().join("tests/rootless.sh"));
    result.arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        result.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => result.env(name, value),
            None => result.env_remove(name),
        };
    }
    result.env("PATH", search_path());
    result
}

/// The folders that programs are looked for in, those of administrators among them.
pub fn search_path() -> OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&own).collect();
    for folder in ADMIN_FOLDERS.map(PathBuf::from) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    // Fails only for names with a colon, which cannot come out of `split_paths`.
    std::env::join_paths(folders).unwrap_or(own)
}

/// Whether this process is root.
pub fn is_root() -> bool {
    output_of("id", &["-u"]).is_some_and(|id| id.trim() == "0")
}

/// Installs what a file lists, unless `mark` says that just that is installed.
pub fn install_listed(list: &Path, mark: &Path, install: impl FnOnce() -> Outcome) -> Outcome {
    let failed = |path: &Path, error| format!("{}: {error}", path.display());
    let listed = std::fs::read(list).map_err(|error| failed(list, error))?;
    if std::fs::read(mark).is_ok_and(|installed| installed == listed) {
        return Ok(());
    }
    install()?;
    std::fs::write(mark, listed).map_err(|error| failed(mark, error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use super::*;

    /// The user `nobody` of Debian.
    const NOBODY: u32 = 65_534;

    /// Whether there are other users than root here: in a user namespace there may be none.
    fn has_other_users() -> bool {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
        let ranges = map.lines().filter_map(|line| {
            let mut fields = line.split_whitespace().map(|field| field.parse::<u64>().unwrap());
            Some(fields.next()?..fields.next_back()?)
        });
        ranges.map(|range| range.start..range.start + range.end).any(|ids| ids.contains(&NOBODY.into()))
    }

    #[test]
    fn who_is_not_root_gets_a_network_with_loopback_and_namespaces() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "id -u; ip -brief address show dev lo up; ip netns add x; ip netns list; echo $GIVEN",
        ]);
        command.env("GIVEN", "kept").current_dir("/");
        let mut command = in_user_namespace(&command);
        if is_root() && has_other_users() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = said.lines().collect();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(matches!(lines[..], ["0", lo, "x", "kept"] if lo.contains("127.0.0.1/8")), "{said}");
    }

    #[test]
    fn programs_of_administrators_are_found() {
        let path = search_path();
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        for folder in ADMIN_FOLDERS {
            assert_eq!(folders.iter().filter(|known| *known == Path::new(folder)).count(), 1, "{path:?}");
        }
    }
}
