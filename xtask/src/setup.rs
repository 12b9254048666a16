//! What a fresh Debian machine with Rust needs.

use std::process::Command;

use crate::run::{Outcome, cargo, is_root, output_of, run};

/// Debian packages, each with its reason.
const PACKAGES: &[(&str, &str)] = &[
    ("build-essential", "links Rust programs, builds the C code of libopus, SQLite and the TLS libraries"),
    ("cmake", "builds libopus"),
    ("pkg-config", "finds ALSA"),
    ("libasound2-dev", "ALSA: microphones and loudspeakers"),
    ("iproute2", "network namespaces of the tests"),
    ("nftables", "NATs of the tests"),
    ("conntrack", "lets the NATs of the tests forget"),
];

/// Packages, then the test runner.
pub fn setup() -> Outcome {
    packages()?;
    test_runner()
}

/// Installs the packages that are missing, after saying which.
pub fn packages() -> Outcome {
    let missing: Vec<_> = PACKAGES.iter().filter(|(name, _)| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("These Debian packages are missing and will be installed:");
    for (name, reason) in &missing {
        println!("  {name:16} {reason}");
    }
    let names = missing.iter().map(|(name, _)| *name);
    run(apt(&["update", "--quiet"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
    run(apt(&["install", "--yes", "--quiet", "--no-install-recommends"]).args(names))
        .map_err(|error| format!("{error}\nOn other systems than Debian install these by hand."))
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new(if is_root() { "apt-get" } else { "sudo" });
    if !is_root() {
        command.args(["--", "apt-get"]);
    }
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_installed(package: &str) -> bool {
    let status = output_of("dpkg-query", &["--show", "--showformat=${db:Status-Status}", package]);
    status.is_some_and(|status| status == "installed")
}

/// cargo-nextest, from crates.io unless it is there.
fn test_runner() -> Outcome {
    if output_of("cargo", &["nextest", "--version"]).is_some() {
        return Ok(());
    }
    println!("cargo-nextest, the test runner, is missing and will be installed from crates.io");
    run(&mut cargo(&["install", "--locked", "cargo-nextest"]))
}
