//! Routers that open ports for the hosts of their LAN: a real `miniupnpd` in the router's namespace.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::router::{Router, RouterCore};
use super::{LabError, sys};

/// How long it may take to listen, on a busy machine.
const READY: Duration = Duration::from_secs(20);

/// How hosts of the LAN ask for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opening {
    /// UPnP-IGD, found by SSDP.
    Upnp,
    /// PCP (RFC 6887) only.
    Pcp,
    /// NAT-PMP (RFC 6886) only.
    NatPmp,
}

impl Opening {
    /// The UDP port on which it listens.
    fn port(self) -> u16 {
        match self {
            Self::Upnp => 1900,
            Self::Pcp | Self::NatPmp => 5351,
        }
    }

    /// A rule against what the router is not to hear: `miniupnpd` speaks PCP and NAT-PMP on one port, told apart by the
    /// version in the first byte.
    pub(super) fn deafness(self) -> &'static str {
        match self {
            Self::Upnp => "",
            Self::Pcp => "iifname lan0 udp dport 5351 @th,64,8 0 drop",
            Self::NatPmp => "iifname lan0 udp dport 5351 @th,64,8 2 drop",
        }
    }
}

/// The program on the router that opens ports. It ends with this.
#[derive(Debug)]
pub struct Opener {
    child: Child,
    core: Arc<RouterCore>,
    opening: Opening,
    folder: tempfile::TempDir,
}

impl Router {
    /// From now on hosts of the LAN can have UDP and TCP ports opened, which lead to them from anywhere, through any NAT that
    /// lets their kind of packets pass. Forgets every connection; what changes the NAT later forgets the ports, too.
    ///
    /// # Errors
    /// When `miniupnpd` can't be started or does not listen.
    pub fn open_ports(&self, opening: Opening) -> Result<Opener, LabError> {
        let core = Arc::clone(self.core());
        core.change_rules(|rules| rules.opens = Some(opening))?;
        let folder = tempfile::tempdir()?;
        let child = launch(&core, opening, folder.path())?;
        let mut opener = Opener { child, core, opening, folder };
        opener.wait_ready()?;
        Ok(opener)
    }
}

fn launch(core: &RouterCore, opening: Opening, folder: &Path) -> Result<Child, LabError> {
    let config = folder.join("miniupnpd.conf");
    std::fs::write(&config, settings(opening))?;
    let mut command = Command::new("miniupnpd");
    command.arg("-d").arg("-4").arg("-f").arg(&config).arg("-P").arg(folder.join("pid"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    core.namespace().enter(&mut command);
    command.spawn().map_err(|error| sys::spawn_error(&command, error))
}

impl Opener {
    /// Starts it again. UPnP is at another port afterwards, which is for terminals to find out.
    ///
    /// # Errors
    /// As [`Router::open_ports`].
    pub fn restart(&mut self) -> Result<(), LabError> {
        self.stop();
        self.child = launch(&self.core, self.opening, self.folder.path())?;
        self.wait_ready()
    }

    /// How many ports are open at the moment.
    ///
    /// # Errors
    /// When the rules can't be read.
    pub fn ports(&self) -> Result<usize, LabError> {
        let rules = self.nft(&["list", "chain", "inet", "lab", "prerouting_miniupnpd"])?;
        Ok(rules.lines().filter(|line| line.contains("dnat")).count())
    }

    /// Packets so far that hosts of the LAN have sent to ask or look for it.
    ///
    /// # Errors
    /// When the counter can't be read.
    pub fn asked(&self) -> Result<u64, LabError> {
        let counter = self.nft(&["list", "counter", "inet", "lab", "asked"])?;
        let mut words = counter.split_whitespace().skip_while(|word| *word != "packets");
        Ok(words.nth(1).and_then(|packets| packets.parse().ok()).unwrap_or(0))
    }

    fn stop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn wait_ready(&mut self) -> Result<(), LabError> {
        let deadline = Instant::now() + READY;
        let port = format!(":{:04X} ", self.opening.port());
        let failed = |message: String| LabError::Command { command: "miniupnpd".to_owned(), message };
        loop {
            let table = || std::fs::read_to_string("/proc/thread-self/net/udp");
            if self.core.namespace().inside(table)??.contains(&port) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(failed(format!("ended: {status}")));
            }
            if Instant::now() > deadline {
                return Err(failed("does not listen".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn nft(&self, arguments: &[&str]) -> Result<String, LabError> {
        let mut command = Command::new("nft");
        command.args(arguments);
        self.core.namespace().enter(&mut command);
        let output = command.output().map_err(|error| sys::spawn_error(&command, error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(LabError::Command { command: format!("{command:?}"), message })
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Between the devices of a lab's router, in the chains that its rules have for it.
fn settings(opening: Opening) -> String {
    let (upnp, pcp) = match opening {
        Opening::Upnp => ("yes", "no"),
        Opening::Pcp | Opening::NatPmp => ("no", "yes"),
    };
    format!(
        "ext_ifname=wan0
listening_ip=lan0
enable_upnp={upnp}
enable_natpmp={pcp}
secure_mode=yes
upnp_table_name=lab
upnp_nat_table_name=lab
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
allow 1024-65535 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"
    )
}
