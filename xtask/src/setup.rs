//! What a fresh machine with Rust needs. Every task sees to what it uses; nothing is said or done where all is there.

use std::path::Path;
use std::process::Command;

use crate::run::{Outcome, cargo, is_root, output_of, run, search_path};
use crate::venv;

/// Something that has to be there.
struct Need {
    /// The Debian package that brings it.
    package: &'static str,
    /// How to see that it is there, on any system.
    sign: Sign,
    /// What for.
    reason: &'static str,
}

enum Sign {
    /// A program in the search path.
    Program(&'static str),
    /// A library that pkg-config knows.
    Library(&'static str),
    /// A module of Python's.
    Module(&'static str),
    /// A file or folder.
    File(&'static str),
    /// A file in some version's folder of a folder.
    Versioned(&'static str, &'static str),
}

const fn need(package: &'static str, sign: Sign, reason: &'static str) -> Need {
    Need { package, sign, reason }
}

/// To build the programs.
const BUILD: &[Need] = &[
    need("build-essential", Sign::Program("c++"), "links Rust, builds libopus, SQLite, TLS and the fuzzer"),
    need("cmake", Sign::Program("cmake"), "builds libopus"),
    need("pkg-config", Sign::Program("pkg-config"), "finds ALSA"),
    need("libasound2-dev", Sign::Library("alsa"), "ALSA: microphones and loudspeakers"),
];

/// To build the directory's web site.
const SITE: &[Need] = &[
    need("nodejs", Sign::Program("node"), "builds the directory's web site"),
    need("npm", Sign::Program("npm"), "fetches what the site is built with"),
];

/// To make Debian packages.
const PACKAGE: &[Need] = &[
    need("dpkg-dev", Sign::Program("dpkg-shlibdeps"), "finds which libraries a package needs"),
    need("binutils", Sign::Program("strip"), "takes what only debuggers read out of programs"),
];

/// To run what tests the site.
const BROWSER: &[Need] =
    &[need("chromium", Sign::Program("chromium"), "a browser for the tests of the site")];

/// To run what tests the API by its description.
const API: &[Need] = &[
    need("python3", Sign::Program("python3"), "runs Schemathesis, which tests the API"),
    need("python3-venv", Sign::Module("ensurepip"), "fetches Schemathesis"),
];

/// To run tests and benchmarks.
const TEST: &[Need] = &[
    need("iproute2", Sign::Program("ip"), "network namespaces of the tests"),
    need("nftables", Sign::Program("nft"), "NATs of the tests"),
    need("conntrack", Sign::Program("conntrack"), "lets the NATs of the tests forget"),
    need("coturn", Sign::Program("turnserver"), "a TURN server that is not ours"),
    need("miniupnpd-nftables", Sign::Program("miniupnpd"), "routers of the tests that open ports on demand"),
    need("pulseaudio", Sign::Program("pulseaudio"), "sound devices for the tests"),
    need("openssl", Sign::Program("openssl"), "certificates on the hosts on which the handbook is followed"),
    need("curl", Sign::Program("curl"), "what the handbook asks the site with"),
    need(
        "ca-certificates",
        Sign::File("/etc/ssl/certs/ca-certificates.crt"),
        "authorities that those hosts trust",
    ),
    need("systemd", Sign::Program("systemd-sysusers"), "makes the user of the directory's package"),
    need(
        "postgresql",
        Sign::Versioned("/usr/lib/postgresql", "bin/postgres"),
        "a PostgreSQL server for the tests of the directory",
    ),
];

/// To run the bench of telephones. Other phones are measured if they are there, and are nobody's need.
const PHONEBENCH: &[Need] = &[
    need("iproute2", Sign::Program("ip"), "network namespaces of the bench"),
    need("ethtool", Sign::Program("ethtool"), "one frame is one packet"),
    need("python3", Sign::Program("python3"), "runs the bench"),
    need("python3-venv", Sign::Module("ensurepip"), "Python packages that score speech"),
    need("python3-dev", Sign::Program("python3-config"), "builds PESQ"),
    need("sox", Sign::Program("sox"), "the speech at the rates of sound cards"),
    need(
        "pocketsphinx-testdata",
        Sign::File("/usr/share/pocketsphinx/test/data/librivox"),
        "the speech, from LibriVox",
    ),
];

/// Those of them that start a service, named like the package.
const SERVICES: &[&str] = &["coturn"];

/// PostgreSQL's package makes a cluster of databases and starts it, unless a file in this folder says otherwise. The tests make
/// their own.
const NO_CLUSTER: [&str; 2] =
    ["/etc/postgresql-common/createcluster.d", "/etc/postgresql-common/createcluster.d/offhook-setup.conf"];

/// Packages from crates.io that test: name and the subcommand of cargo that each brings.
const TOOLS: &[(&str, &str)] = &[("cargo-nextest", "nextest"), ("cargo-deny", "deny")];

impl Need {
    fn is_met(&self) -> bool {
        match self.sign {
            Sign::Program(name) => is_program(name),
            Sign::Library(name) => output_of("pkg-config", &["--exists", name]).is_some(),
            Sign::Module(name) => output_of("python3", &["-c", &format!("import {name}")]).is_some(),
            Sign::File(path) => Path::new(path).exists(),
            Sign::Versioned(folder, file) => std::fs::read_dir(folder)
                .is_ok_and(|mut versions| versions.any(|v| v.is_ok_and(|v| v.path().join(file).exists()))),
        }
    }
}

/// Everything: what `cargo xtask test` uses.
pub fn setup() -> Outcome {
    let needs = [BUILD, TEST, SITE, BROWSER, API, PACKAGE];
    install_needs(needs.into_iter().flatten())?;
    venv::install()?;
    TOOLS.iter().try_for_each(|(package, subcommand)| install_tool(package, subcommand))
}

/// What building needs.
pub fn for_building() -> Outcome {
    install_needs(BUILD.iter())
}

/// What building the web site needs.
pub fn for_site() -> Outcome {
    install_needs(SITE.iter())
}

/// What making packages needs.
pub fn for_packaging() -> Outcome {
    install_needs(BUILD.iter().chain(PACKAGE))
}

/// What building and the network laboratory need.
pub fn for_laboratory() -> Outcome {
    install_needs(BUILD.iter().chain(TEST))
}

/// What building and the bench of telephones need.
pub fn for_phonebench() -> Outcome {
    install_needs(BUILD.iter().chain(PHONEBENCH))
}

/// Installs the packages that are missing, after saying which.
fn install_needs(needs: impl Iterator<Item = &'static Need>) -> Outcome {
    let missing: Vec<&Need> = needs.filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("These are missing:");
    for need in &missing {
        println!("  {:16} {}", need.package, need.reason);
    }
    if !is_program("apt-get") {
        return Err("this is no Debian: install them by hand, here are Debian's names".to_owned());
    }
    println!("They will be installed by apt-get.");
    run(&mut apt(&["update", "--quiet"]))?;
    let install = ["install", "--yes", "--quiet", "--no-install-recommends"];
    let mut install = apt(&install);
    install.args(missing.iter().map(|need| need.package));
    if missing.iter().any(|need| need.package == "postgresql") {
        without_cluster(&mut install)?;
    } else {
        run(&mut install)?;
    }
    let has_systemd = Path::new("/run/systemd/system").is_dir();
    let services = missing.iter().map(|need| need.package).filter(|package| SERVICES.contains(package));
    services.filter(|_| has_systemd).try_for_each(|service| {
        println!("{service} has been started by its package and is stopped: the tests start their own.");
        run(as_administrator().args(["systemctl", "disable", "--now", service]))
    })
}

/// Installs PostgreSQL's programs only. What is put into its settings for that is taken out again.
fn without_cluster(install: &mut Command) -> Outcome {
    let [folder, file] = NO_CLUSTER;
    let switch_off = format!("mkdir -p {folder} && echo 'create_main_cluster = false' > {file}");
    run(as_administrator().args(["sh", "-c", &switch_off]))?;
    let installed = run(install);
    run(as_administrator().args(["rm", "-f", file]))?;
    installed
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = as_administrator();
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments);
    command
}

/// A command to be followed by variables, a program and its arguments. sudo does not hand its caller's environment on.
fn as_administrator() -> Command {
    let mut command = Command::new(if is_root() { "env" } else { "sudo" });
    if !is_root() {
        command.arg("env");
    }
    command
}

fn is_program(name: &str) -> bool {
    std::env::split_paths(&search_path()).any(|folder| folder.join(name).is_file())
}

fn has_tool(subcommand: &str) -> bool {
    output_of("cargo", &[subcommand, "--version"]).is_some()
}

/// A subcommand of cargo, from crates.io unless it is there.
fn install_tool(package: &str, subcommand: &str) -> Outcome {
    if has_tool(subcommand) {
        return Ok(());
    }
    println!("{package} is missing and will be installed from crates.io");
    // Built without optimisation, which takes half as long: they mostly wait for others.
    run(&mut cargo(&["install", "--debug", "--locked", package]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_here_is_found_and_what_does_not_exist_is_missing() {
        assert!(need("coreutils", Sign::Program("ls"), "").is_met());
        assert!(!need("none", Sign::Program("no such program"), "").is_met());
        assert!(!need("none", Sign::Library("no-such-library"), "").is_met());
        assert!(!need("none", Sign::Module("no_such_module"), "").is_met());
        assert!(need("base-files", Sign::File("/etc"), "").is_met());
        assert!(!need("none", Sign::File("/no/such/file"), "").is_met());
        assert!(need("base-files", Sign::Versioned("/", "passwd"), "").is_met(), "/etc/passwd");
        assert!(!need("none", Sign::Versioned("/", "no-such-file"), "").is_met());
        assert!(!need("none", Sign::Versioned("/no/such/folder", "passwd"), "").is_met());
    }
}
