//! Which core somebody runs on, and how much of it he uses.

use std::io;
use std::mem;
use std::path::PathBuf;

use super::BenchError;

/// The core of the directory.
const FIRST: usize = 0;
/// The core of those who ask it.
const SECOND: usize = 1;

/// This program, and all its threads to come, run on the second core.
///
/// # Errors
/// When there is no second one.
pub(in crate::bench) fn take_second() -> Result<(), BenchError> {
    pin(0, SECOND).map_err(|error| BenchError::Other(format!("two cores are needed: {error}")))
}

/// A program and all its threads run on the first core, and those that they start.
///
/// # Errors
/// When it does not run any more.
pub(in crate::bench) fn give_first(pid: u32) -> Result<(), BenchError> {
    for task in std::fs::read_dir(PathBuf::from(format!("/proc/{pid}/task")))? {
        if let Some(task) = task?.file_name().to_str().and_then(|name| name.parse().ok()) {
            pin(task, FIRST)?;
        }
    }
    Ok(())
}

fn pin(task: libc::pid_t, core: usize) -> io::Result<()> {
    // SAFETY: zeros are an empty set, which lasts for the call.
    let done = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(task, mem::size_of_val(&set), &raw const set)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Processor time that a program has taken so far, seconds.
///
/// # Errors
/// When it does not run any more.
pub(super) fn seconds_of(pid: u32) -> Result<f64, BenchError> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc(5): after the name, which may hold spaces, in parentheses.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    // SAFETY: it only answers a number.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok((ticks(11) + ticks(12)) / per_second as f64)
}
