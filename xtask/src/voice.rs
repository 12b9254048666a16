//! The bench of telephones, `tests/phonebench`, which is in Python and makes what it needs by itself.

use std::process::Command;

use crate::run::{Outcome, Profile, as_root, build_programs, folder, root, run, target};
use crate::setup;

/// Runs one of its benchmarks: Offhook and the other phones that are installed side by side, or the voice engine alone.
pub fn voice(name: &str, json: bool, count: Option<u32>, filter: Option<&str>) -> Outcome {
    setup::for_phonebench()?;
    build_programs(Profile::Measured)?;
    // Downloads are done outside of the namespace that `as_root` may make, which has no internet.
    run(phonebench().arg("prepare"))?;
    let mut command = phonebench();
    command.arg(name);
    if json {
        command.arg("--json");
    }
    if let Some(count) = count {
        command.args(["--count", &count.to_string()]);
    }
    if let Some(filter) = filter {
        command.args(["--filter", filter]);
    }
    run(&mut as_root(command))
}

fn phonebench() -> Command {
    let cache = target().join("phonebench");
    let mut command = Command::new("python3");
    command.args(["-m", "phonebench"]).current_dir(root());
    command.env("PYTHONPATH", root().join("tests")).env("PYTHONPYCACHEPREFIX", cache.join("pycache"));
    command.env("PHONEBENCH_CACHE", cache).env("PHONEBENCH_PROGRAMS", folder(Profile::Measured));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_helpers_of_phonebench_compile_without_a_warning() {
        // Not `toxphone.c`, whose library is for that bench alone.
        for (source, kind) in
            [("linkem.c", "-c"), ("card.c", "-shared"), ("fakecard.c", "-shared"), ("loopback.c", "-c")]
        {
            let mut compile = Command::new("cc");
            compile.args(["-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-DPIC", kind, "-o", "/dev/null"]);
            let output = compile.arg(root().join("tests/phonebench/native").join(source)).output().unwrap();
            assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
