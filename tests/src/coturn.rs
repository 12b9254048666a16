//! coturn, a TURN server that is not ours, as an operator would run it.

use std::net::{IpAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::lab::Host;
use crate::phone::READY;
use crate::program::{Process, ProgramError};

/// Ports of TURN (RFC 8656 section 3), and that of the web, which networks let out that let nothing else out.
const PORT: u16 = 3478;
const TLS_PORT: u16 = 443;
/// Who may use it.
const USER: &str = "ada:secret";

/// A running `turnserver` with one user. It ends with this.
#[derive(Debug)]
pub struct Coturn {
    /// The program.
    pub process: Process,
    ip: IpAddr,
    _folder: TempDir,
}

impl Coturn {
    /// Starts it on a host: UDP and TCP on port 3478, TLS on 443 if there is a certificate, given as PEM with its key.
    ///
    /// # Errors
    /// When it can't be started or does not listen.
    pub fn start(host: &Host, tls: Option<(&str, &str)>) -> Result<Self, ProgramError> {
        let ip = host.address();
        // It reads what lies there when it starts.
        let folder = tempfile::tempdir()?;
        let mut command = Command::new("turnserver");
        command.args(["-n", "--no-cli", "--log-file=stdout", "--simple-log", "--no-dtls", "--lt-cred-mech"]);
        command.args(["--realm=lab", &format!("--user={USER}")]);
        command.args([format!("--listening-ip={ip}"), format!("--relay-ip={ip}")]);
        command.args([format!("--listening-port={PORT}"), format!("--tls-listening-port={TLS_PORT}")]);
        for (name, text) in [("pidfile", ""), ("db", "")] {
            let path = folder.path().join(name);
            std::fs::write(&path, text)?;
            command.arg(format!("--{name}={}", path.display()));
        }
        match tls {
            None => drop(command.arg("--no-tls")),
            Some((cert, key)) => {
                for (name, text) in [("cert", cert), ("pkey", key)] {
                    let path = folder.path().join(name);
                    std::fs::write(&path, text)?;
                    command.arg(format!("--{name}={}", path.display()));
                }
            }
        }
        let process = Process::start("coturn", command, Some(host))?;
        let port = if tls.is_some() { TLS_PORT } else { PORT };
        let deadline = Instant::now() + READY;
        while host.run(|| TcpStream::connect((ip, port)))?.is_err() {
            if Instant::now() > deadline {
                let message = format!("does not listen\n{}", process.transcript());
                return Err(ProgramError::Failed { program: process.name().to_owned(), message });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Self { process, ip, _folder: folder })
    }

    /// The host, as events name it.
    pub fn name(&self) -> String {
        self.ip.to_string()
    }

    /// What a terminal's `--turn` says to use it; `query` follows.
    pub fn plain(&self, query: &str) -> String {
        format!("turn:{USER}@{}:{PORT}{query}", self.ip)
    }

    /// The same over TLS.
    pub fn tls(&self, query: &str) -> String {
        format!("turns:{USER}@{}:{TLS_PORT}{query}", self.ip)
    }
}
