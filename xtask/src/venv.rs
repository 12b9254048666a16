//! Schemathesis, in Python, which makes up requests to the API: installed beside the description of the API that it reads.

use std::path::Path;
use std::process::Command;

use crate::run::{Outcome, install_listed, root, run};

/// The list of packages, as it was when they were installed.
const INSTALLED: &str = ".venv/.offhook-requirements.txt";
const REQUIREMENTS: &str = "requirements.txt";

/// Installs the packages of the list, unless they are those that are there.
pub fn install() -> Outcome {
    let folder = root().join("bootstrap/api");
    let in_folder = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&folder);
        run(&mut command)
    };
    install_listed(&folder.join(REQUIREMENTS), &folder.join(INSTALLED), || {
        println!(
            "The packages of bootstrap/api/{REQUIREMENTS} will be installed from PyPI, for this project alone."
        );
        in_folder(Path::new("python3"), &["-m", "venv", "--clear", ".venv"])?;
        let how = ["install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "-r"];
        in_folder(&folder.join(".venv/bin/pip"), &[&how[..], &[REQUIREMENTS]].concat())
    })
}
