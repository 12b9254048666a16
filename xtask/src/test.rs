//! Everything that CI runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::run::{Outcome, as_root, build_programs, cargo, output_of, root, run};

/// Runs every check; the cheap ones first.
pub fn test(fuzz_seconds: u32) -> Outcome {
    let start = Instant::now();
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    licences()?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    build_programs()?;
    let profile = if std::env::var_os("CI").is_some() { "ci" } else { "default" };
    run(&mut as_root(&cargo(&["nextest", "run", "--workspace", "--locked", "--profile", profile])))?;
    run(&mut cargo(&["test", "--doc", "--workspace", "--locked"]))?;
    run(cargo(&["doc", "--workspace", "--no-deps", "--locked"])
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links"))?;
    fuzz(fuzz_seconds, None)?;
    eprintln!("everything passed in {} s", start.elapsed().as_secs());
    Ok(())
}

/// Licences, sources and duplicates of all dependencies, if cargo-deny is there (CI does not need the advisory
/// database, which lies on a host of its own).
fn licences() -> Outcome {
    if output_of("cargo", &["deny", "--version"]).is_none() {
        eprintln!("cargo-deny is not installed: licences and sources of dependencies are not checked");
        return Ok(());
    }
    run(&mut cargo(&["deny", "--offline", "check", "bans", "licenses", "sources"]))
}

/// Builds the fuzz targets with coverage instrumentation and runs each for some seconds.
///
/// This is what `cargo fuzz --sanitizer none` does, on the stable compiler: safe Rust has little to gain from the address
/// sanitizer, and a panic is found without it. `fuzz/seeds` is where each target begins, its corpus grows in
/// `fuzz/corpus`, and what made it panic is kept in `fuzz/artifacts`.
pub fn fuzz(seconds: u32, only: Option<&str>) -> Outcome {
    let folder = root().join("fuzz");
    let targets = fuzz_targets(&folder)?;
    let chosen: Vec<_> = targets.iter().filter(|name| only.is_none_or(|only| name.contains(only))).collect();
    if chosen.is_empty() {
        return Err("no such fuzz target".to_owned());
    }
    let host = host_triple()?;
    let flags = [
        "--cfg",
        "fuzzing",
        "-Cpasses=sancov-module",
        "-Cllvm-args=-sanitizer-coverage-level=4",
        "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
        "-Cllvm-args=-sanitizer-coverage-pc-table",
        "-Cllvm-args=-sanitizer-coverage-trace-compares",
        "-Cdebug-assertions",
        "-Ccodegen-units=1",
    ];
    // An explicit target keeps the flags away from build scripts and macros.
    run(cargo(&["build", "--manifest-path", "fuzz/Cargo.toml", "--release", "--bins", "--target", &host])
        .env("RUSTFLAGS", flags.join(" "))
        .env("CARGO_TARGET_DIR", folder.join("target")))?;
    for name in chosen {
        let corpus = folder.join("corpus").join(name);
        let artifacts = folder.join("artifacts").join(name);
        for path in [&corpus, &artifacts] {
            std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let binary: PathBuf =
            [folder.join("target"), host.clone().into(), "release".into(), name.into()].iter().collect();
        let prefix = format!("-artifact_prefix={}/", artifacts.display());
        run(Command::new(binary)
            .args([&prefix, &format!("-max_total_time={seconds}"), "-print_final_stats=0", "-verbosity=0"])
            .args(["-timeout=10", "-rss_limit_mb=1024"])
            .arg(&corpus)
            .args(Some(folder.join("seeds").join(name)).filter(|seeds| seeds.is_dir())))
        .map_err(|error| format!("{error}\nThe input is in {}", artifacts.display()))?;
    }
    Ok(())
}

fn fuzz_targets(folder: &Path) -> Result<Vec<String>, String> {
    let targets = folder.join("fuzz_targets");
    let entries = std::fs::read_dir(&targets).map_err(|error| format!("{}: {error}", targets.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

fn host_triple() -> Result<String, String> {
    let version = output_of("rustc", &["--version", "--verbose"]).ok_or("rustc is not there")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not tell its host".to_owned())
}
