//! Everything that CI runs.

use std::time::Instant;

use crate::fuzz::{Length, fuzz};
use crate::run::{Outcome, as_root, cargo, run};
use crate::{setup, site};

/// Runs every check; the cheap ones first.
pub fn test(fuzz_inputs: u32) -> Outcome {
    let start = Instant::now();
    setup::setup()?;
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    // Not the advisories: their database lies on a host of its own, and they are no fault of the change that is tested.
    run(&mut cargo(&["deny", "--locked", "check", "bans", "licenses", "sources"]))?;
    // Before anything is compiled that it is put into.
    site::build()?;
    site::check()?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    // Programs, tests and examples in one build: another choice of packages would turn on other features of dependencies
    // and build those twice. The fuzz targets are built below, with counters.
    run(&mut cargo(&["build", "--workspace", "--exclude", "offhook-fuzz", "--all-targets", "--locked"]))?;
    let profile = if std::env::var_os("CI").is_some() { "ci" } else { "default" };
    run(&mut as_root(cargo(&["nextest", "run", "--workspace", "--locked", "--profile", profile])))?;
    run(&mut cargo(&["test", "--doc", "--workspace", "--locked"]))?;
    run(cargo(&["doc", "--workspace", "--no-deps", "--locked"])
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links"))?;
    fuzz(Length::Inputs(fuzz_inputs), None)?;
    eprintln!("everything passed in {} s", start.elapsed().as_secs());
    Ok(())
}
