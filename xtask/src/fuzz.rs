//! Fuzzing, on the stable compiler.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::run::{Outcome, cargo, root, run, target};
use crate::setup;

/// Targets that run at a time: each keeps a core busy, and CI's machine has two.
const AT_A_TIME: usize = 2;

/// How long a target runs.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// As many seconds, with a seed of chance: what looks for new faults.
    Seconds(u32),
    /// As many inputs, always the same ones: what a test may be made of.
    Inputs(u32),
}

/// Builds the fuzz targets with coverage counters and runs each.
///
/// Much as `cargo fuzz --sanitizer none` would: safe Rust has little to gain from the address sanitizer, and a panic is
/// found without it. Profile and dependencies are those of every other build, so that nothing is compiled anew but the packages of
/// this workspace. `fuzz/seeds` is where each target begins, its corpus grows in `fuzz/corpus`, and what made it panic
/// is kept in `fuzz/artifacts`.
pub fn fuzz(length: Length, only: Option<&str>) -> Outcome {
    let folder = root().join("fuzz");
    let targets = targets(&folder)?;
    let chosen: Vec<_> = targets.iter().filter(|name| only.is_none_or(|only| name.contains(only))).collect();
    if chosen.is_empty() {
        return Err("no such fuzz target".to_owned());
    }
    setup::for_building()?;
    let build = ["build", "--locked", "--package", "offhook-fuzz", "--bins"];
    run(cargo(&build).env("RUSTC_WORKSPACE_WRAPPER", folder.join("rustc-with-coverage")))?;
    let left = Mutex::new(chosen.into_iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let one_after_the_other =
        || std::iter::from_fn(next).try_for_each(|name| run_target(&folder, name, length));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(one_after_the_other)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a panic".to_owned())?)
    })
}

fn run_target(folder: &Path, name: &str, length: Length) -> Outcome {
    let (corpus, artifacts) = (folder.join("corpus").join(name), folder.join("artifacts").join(name));
    for path in [&corpus, &artifacts] {
        std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let seeds = Some(folder.join("seeds").join(name)).filter(|seeds| seeds.is_dir());
    let mut command = Command::new(target().join("debug").join(name));
    command
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(match length {
            Length::Seconds(seconds) => vec![format!("-max_total_time={seconds}")],
            Length::Inputs(inputs) => vec!["-seed=1".to_owned(), format!("-runs={inputs}")],
        })
        .args(["-print_final_stats=1", "-verbosity=0", "-timeout=10", "-rss_limit_mb=1024"])
        .arg(&corpus)
        .args(seeds);
    run(&mut command).map_err(|error| format!("{error}\nThe input is in {}", artifacts.display()))
}

fn targets(folder: &Path) -> Result<Vec<String>, String> {
    let targets: PathBuf = folder.join("fuzz_targets");
    let entries = std::fs::read_dir(&targets).map_err(|error| format!("{}: {error}", targets.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}
