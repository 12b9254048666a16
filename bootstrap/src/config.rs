//! Settings: flag before environment variable before file before default.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A larger file than this is no configuration.
const MAX_FILE: u64 = 64 * 1024;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is far too large.
    #[error("{path} is larger than 64 KiB: not a configuration", path = path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// The file is not TOML of the right shape.
    #[error("{path}: {source}", path = path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Line, column and reason.
        source: Box<toml::de::Error>,
    },
}

/// What a file or the command line says; everything may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct Partial {
    /// Folder for the key and the records.
    #[arg(long, env = "OFFHOOK_DIRECTORY_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Multiaddr to listen on (repeatable). Default: UDP (QUIC) and TCP port 4001 of IPv4 and IPv6.
    #[arg(long, env = "OFFHOOK_DIRECTORY_LISTEN", value_name = "MULTIADDR", value_delimiter = ',')]
    pub listen: Option<Vec<String>>,
    /// Multiaddr under which the internet reaches this node (repeatable). Default: what it listens on.
    #[arg(long, env = "OFFHOOK_DIRECTORY_EXTERNAL", value_name = "MULTIADDR", value_delimiter = ',')]
    pub external: Option<Vec<String>>,
    /// Other directories to join the network through: multiaddr with /p2p, or /dnsaddr/NAME (repeatable).
    #[arg(long, env = "OFFHOOK_DIRECTORY_ENTRY", value_name = "MULTIADDR", value_delimiter = ',')]
    pub entry: Option<Vec<String>>,
    /// UDP address that answers STUN (RFC 8489). Default: 0.0.0.0:3478.
    #[arg(long, env = "OFFHOOK_DIRECTORY_STUN", value_name = "ADDR:PORT")]
    pub stun: Option<SocketAddr>,
    /// HTTP address of /health and /metrics. Default: 127.0.0.1:4080.
    #[arg(long, env = "OFFHOOK_DIRECTORY_HTTP", value_name = "ADDR:PORT")]
    pub http: Option<SocketAddr>,
    /// Treat private and loopback addresses as public: laboratories and closed networks.
    #[arg(long, env = "OFFHOOK_DIRECTORY_ALLOW_PRIVATE", num_args = 0..=1, default_missing_value = "true")]
    pub allow_private: Option<bool>,
}

/// The settings in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Folder for the key and the records.
    pub data: PathBuf,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Multiaddrs under which others reach this node; empty: those it listens on.
    pub external: Vec<String>,
    /// Other directories.
    pub entry: Vec<String>,
    /// STUN.
    pub stun: SocketAddr,
    /// HTTP.
    pub http: SocketAddr,
    /// Private addresses count as public; absent: only while no public address is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_private: Option<bool>,
}

impl Partial {
    /// Read a TOML file.
    ///
    /// # Errors
    /// [`ConfigError`]; an unknown key is one, because it is most likely mistyped.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    /// These settings, `file` where they are silent, and defaults where both are.
    pub fn over(self, file: Self) -> Config {
        let list = |ours: Option<Vec<String>>, theirs: Option<Vec<String>>| ours.or(theirs);
        let listen = list(self.listen, file.listen).unwrap_or_else(default_listen);
        Config {
            data: self.data.or(file.data).unwrap_or_else(|| PathBuf::from("/var/lib/offhook-directory")),
            listen,
            external: list(self.external, file.external).unwrap_or_default(),
            entry: list(self.entry, file.entry).unwrap_or_default(),
            stun: self.stun.or(file.stun).unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 3478))),
            http: self.http.or(file.http).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 4080))),
            allow_private: self.allow_private.or(file.allow_private),
        }
    }
}

fn default_listen() -> Vec<String> {
    ["/ip4/0.0.0.0/udp/4001/quic-v1", "/ip4/0.0.0.0/tcp/4001", "/ip6/::/udp/4001/quic-v1", "/ip6/::/tcp/4001"]
        .map(str::to_owned)
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file: Partial =
            toml::from_str("data = '/srv/a'\nstun = '192.0.2.1:1'\nentry = ['/dnsaddr/x']").expect("toml");
        let flags = Partial { data: Some("/srv/b".into()), ..Partial::default() };
        let config = flags.over(file);
        assert_eq!(config.data, PathBuf::from("/srv/b"));
        assert_eq!(config.stun.port(), 1);
        assert_eq!(config.entry, ["/dnsaddr/x"]);
        assert_eq!(config.http.port(), 4080);
        assert_eq!(config.listen.len(), 4);
    }

    #[test]
    fn a_mistyped_key_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("c.toml");
        std::fs::write(&path, "lissten = []").expect("written");
        assert!(matches!(Partial::read(&path), Err(ConfigError::Parse { .. })));
        std::fs::write(&path, vec![b'#'; 70_000]).expect("written");
        assert!(matches!(Partial::read(&path), Err(ConfigError::TooLarge { .. })));
    }
}
