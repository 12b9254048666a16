//! Running other programs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Success, or a sentence that says what failed.
pub type Outcome = Result<(), String>;

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
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

/// Builds the programs that tests, demo and benchmarks start.
pub fn build_programs() -> Outcome {
    run(&mut cargo(&[
        "build",
        "--locked",
        "--bins",
        "-p",
        "offhook-node",
        "-p",
        "offhook-bootstrap",
        "-p",
        "offhook-tests",
    ]))
}

/// Runs a built program of the `tests` package, with the right to make network namespaces.
pub fn own_program(name: &str, arguments: &[String]) -> Outcome {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    run(as_root(Command::new(target.join("debug").join(name)).args(arguments)).current_dir(root()))
}

/// The same command for one who may make network namespaces: root as is, others root in a user namespace.
pub fn as_root(command: &Command) -> Command {
    let mut words: Vec<_> = vec![command.get_program().to_owned()];
    words.extend(command.get_args().map(ToOwned::to_owned));
    let mut result = if is_root() {
        Command::new(&words[0])
    } else {
        // `ip netns` keeps its names below /run, which is not ours outside.
        let mut unshare = Command::new("unshare");
        let script = "mount -t tmpfs tmpfs /run && mkdir /run/netns && exec \"$@\"";
        unshare.args(["--map-root-user", "--net", "--mount", "sh", "-c", script, "sh"]).arg(&words[0]);
        unshare
    };
    result.args(&words[1..]);
    if let Some(folder) = command.get_current_dir() {
        result.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => result.env(name, value),
            None => result.env_remove(name),
        };
    }
    result
}

/// Whether this process is root.
pub fn is_root() -> bool {
    output_of("id", &["-u"]).is_some_and(|id| id.trim() == "0")
}
