//! The few system calls and commands under the lab: namespaces, TUN devices, waiting.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::LabError;

/// A device that is not up by then never will be.
const CABLES: Duration = Duration::from_secs(10);

/// A network namespace that this process made; it and whatever still runs in it go when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
}

impl Namespace {
    /// Makes a namespace with its loopback up, forwarding off and IPv6 off; see [`Namespace::enable_ipv6`].
    pub fn create(name: String) -> Result<Self, LabError> {
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let handle = File::open(path_of(&name)).map_err(LabError::Io)?;
        let namespace = Self { name, handle };
        namespace.write_sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        namespace.write_sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Lets devices that are made from now on speak IPv6, with the addresses that they are given and no others but
    /// link-local ones.
    pub fn enable_ipv6(&self) -> Result<(), LabError> {
        self.write_sysctl("net/ipv6/conf/all/disable_ipv6", "0")?;
        for (parameter, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")] {
            self.write_sysctl(&format!("net/ipv6/conf/default/{parameter}"), value)?;
        }
        Ok(())
    }

    /// Its name, as `ip netns exec` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs lines of `ip` commands inside, in one process.
    pub fn ip(&self, lines: &str) -> Result<(), LabError> {
        run_with_input(Command::new("ip").args(["-n", &self.name, "-batch", "-"]), lines)
    }

    /// Waits until these devices carry packets: the kernel notices cables in its own time, up to a second where there are
    /// many.
    pub fn wait_up(&self, devices: &[&str]) -> Result<(), LabError> {
        let end = Instant::now() + CABLES;
        let shows = |device: &&str| {
            let mut command = Command::new("ip");
            command.args(["-n", &self.name, "-o", "link", "show", "dev", device]);
            let output = command.output().map_err(|error| spawn_error(&command, error))?;
            Ok(String::from_utf8_lossy(&output.stdout).contains("state UP"))
        };
        loop {
            let all: Vec<bool> = devices.iter().map(shows).collect::<Result<_, LabError>>()?;
            if all.iter().all(|up| *up) {
                return Ok(());
            }
            if Instant::now() > end {
                let message = format!("{devices:?} did not come up within {CABLES:?}");
                return Err(LabError::Command { command: "ip link show".to_owned(), message });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Loads an nftables script inside.
    pub fn nft(&self, script: &str) -> Result<(), LabError> {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]);
        self.enter(&mut command);
        run_with_input(&mut command, script)
    }

    /// Forgets every connection that passes through it.
    pub fn forget_connections(&self) -> Result<(), LabError> {
        let mut command = Command::new("conntrack");
        command.arg("-F");
        self.enter(&mut command);
        run(&mut command)
    }

    /// Sets a kernel parameter, by its path under `/proc/sys`.
    pub fn write_sysctl(&self, path: &str, value: &str) -> Result<(), LabError> {
        let path = format!("/proc/sys/{path}");
        self.inside(|| std::fs::write(&path, value))?.map_err(LabError::Io)
    }

    /// Makes `command` start inside the namespace, and die with the thread that spawned it.
    pub fn enter(&self, command: &mut Command) {
        let fd = self.handle.as_raw_fd();
        // SAFETY: the closure runs between fork and exec and makes two system calls, both async-signal-safe;
        // `fd` stays open because the caller spawns while it still has the namespace (the child inherits it up to exec).
        unsafe {
            command.pre_exec(move || {
                if libc::setns(fd, libc::CLONE_NEWNET) != 0 {
                    return Err(io::Error::last_os_error());
                }
                die_with_parent()
            });
        }
    }

    /// Runs a closure inside the namespace, on a thread of its own; sockets made there stay in the namespace.
    pub fn inside<T: Send>(&self, task: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let fd = self.handle.as_raw_fd();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                // SAFETY: `fd` is a network namespace, open for as long as `self` is borrowed; only this thread moves.
                if unsafe { libc::setns(fd, libc::CLONE_NEWNET) } != 0 {
                    return Err(LabError::Io(io::Error::last_os_error()));
                }
                Ok(task())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A TUN device (packets without a header, non-blocking) inside the namespace.
    pub fn tun(&self, device: &str) -> Result<OwnedFd, LabError> {
        self.inside(|| open_tun(device))?.map_err(LabError::Io)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove_namespace(&self.name);
    }
}

fn path_of(name: &str) -> String {
    format!("/run/netns/{name}")
}

/// Ends what still runs in a namespace of the lab and removes it. Errors are of no use to anybody here.
pub fn remove_namespace(name: &str) {
    if let Ok(output) = Command::new("ip").args(["netns", "pids", name]).output() {
        for pid in String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.trim().parse().ok())
        {
            // SAFETY: a plain system call; the process lives in a namespace that only the lab knows.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
}

/// Names of all namespaces of this machine.
pub fn namespaces() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// To be called in a child before exec: a crashed or killed test leaves no program behind.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: prctl with these arguments touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn open_tun(device: &str) -> io::Result<OwnedFd> {
    // _IOW('T', 202, int), linux/if_tun.h
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    // SAFETY: the path is a C string; the result is checked before it becomes an OwnedFd; `request` is a valid,
    // zeroed ifreq whose name is shorter than its field and so ends in NUL.
    unsafe {
        let fd = libc::open(c"/dev/net/tun".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC | libc::O_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = OwnedFd::from_raw_fd(fd);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (field, byte) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(device.bytes()) {
            *field = byte as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        if libc::ioctl(fd.as_raw_fd(), TUNSETIFF, &mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(fd)
    }
}

/// Reads one packet; `None` when there is none.
pub fn read_packet(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Option<usize> {
    // SAFETY: the buffer is valid for its length.
    let read = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(read).ok().filter(|read| *read > 0)
}

/// Writes one packet; a device that is down or full loses it, as a real one would.
pub fn write_packet(fd: BorrowedFd<'_>, packet: &[u8]) -> bool {
    // SAFETY: the buffer is valid for its length.
    let written = unsafe { libc::write(fd.as_raw_fd(), packet.as_ptr().cast(), packet.len()) };
    usize::try_from(written).is_ok()
}

/// A counter that wakes [`wait_readable`] from another thread.
pub fn event_fd() -> io::Result<OwnedFd> {
    // SAFETY: no memory involved; the result is checked.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Waits until one of the descriptors is readable or the time is over; nanosecond resolution.
pub fn wait_readable(fds: &mut [libc::pollfd], timeout: Option<Duration>) {
    let spec = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
    });
    let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `fds` is a valid slice, `spec` is null or points to a timespec that outlives the call.
    unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, spec, std::ptr::null()) };
}

/// A pollfd that waits for input.
pub fn poll_input(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// Gives the calling thread real-time priority if the system allows it, so that a busy machine does not add
/// delay of its own to the emulated one.
pub fn prefer_this_thread() {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: `priority` is a valid sched_param; failure (no privilege) leaves the thread as it was.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &priority) };
}

/// Nanoseconds of CLOCK_MONOTONIC, the clock of every event that the programs print.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn run(command: &mut Command) -> Result<(), LabError> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| spawn_error(command, error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError::Command {
        command: format!("{command:?}"),
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn run_with_input(command: &mut Command, input: &str) -> Result<(), LabError> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| spawn_error(command, error))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(LabError::Io)?;
    }
    let output = child.wait_with_output().map_err(LabError::Io)?;
    if output.status.success() {
        return Ok(());
    }
    let message = format!("{}\n{input}", String::from_utf8_lossy(&output.stderr).trim());
    Err(LabError::Command { command: format!("{command:?}"), message })
}

pub fn spawn_error(command: &Command, error: io::Error) -> LabError {
    let message = if error.kind() == io::ErrorKind::NotFound {
        "it is not there: `cargo xtask setup` installs what tests need".to_owned()
    } else {
        error.to_string()
    };
    LabError::Command { command: format!("{command:?}"), message }
}
