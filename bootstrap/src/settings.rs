//! Settings: one type for flags, environment, file and defaults; the first of them that says something counts.

mod mail;
mod values;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use offhook::net::{Limits, NetConfig, Role};
use offhook::relay::{self, PeerPolicy, RELAYED_PORTS, RelayConfig, RelayQuotas};
use offhook_proto::number::NodeAddr;
use offhook_proto::relay::TicketIssuer;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::store::{BlobPlace, DatabasePlace, MailLimits};
use crate::web::ACCOUNTS;
pub use values::{AddrOrNone, LogFormat, PortRange, PortRangeError};

/// The libp2p port where nothing else is said, UDP and TCP.
const PORT: u16 = 4001;
/// The port of `/metrics` and `/health`.
const HTTP_PORT: u16 = 9464;

/// A larger file than this has no settings in it, bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Why the settings can't be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file named can't be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The file is far too large.
    #[error("{0} is larger than 64 KiB: these are no settings")]
    TooLarge(PathBuf),
    /// The file is not what it should be; the message says where.
    #[error("{path}: {error}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        error: Box<toml::de::Error>,
    },
}

/// Everything that can be set. What is `None` is left to the next source, in the end to [`Settings::defaults`].
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Folder of the key and the records [default: $STATE_DIRECTORY, which systemd sets, or
    /// ~/.local/share/offhook-directory]
    #[arg(long, env = "OFFHOOK_DIRECTORY_DATA", value_name = "DIR", hide_env_values = true)]
    pub data: Option<PathBuf>,

    /// Multiaddr to listen on; repeat, or separate by commas [default: port 4001, UDP and TCP, IPv4 and IPv6]
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_LISTEN",
        value_name = "MULTIADDR",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub listen: Option<Vec<NodeAddr>>,

    /// Multiaddr under which others reach this node, where that is not what it listens on
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_EXTERNAL",
        value_name = "MULTIADDR",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub external: Option<Vec<NodeAddr>>,

    /// Another directory to enter the network through: a multiaddr ending in /p2p/ID, or /dnsaddr/NAME
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_ENTRY",
        value_name = "MULTIADDR",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub entry: Option<Vec<NodeAddr>>,

    /// Address on which STUN and TURN are served.
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_STUN",
        value_name = "IP:PORT",
        hide_env_values = true,
        help = "Address on which STUN is answered, and the media relay (TURN) is served over UDP and TCP [default: [::]:3478, \
                which is IPv6 and IPv4]"
    )]
    pub stun: Option<SocketAddr>,

    /// Address of /metrics and /health, or "none" [default: 127.0.0.1:9464]
    #[arg(long, env = "OFFHOOK_DIRECTORY_HTTP", value_name = "IP:PORT", hide_env_values = true)]
    pub http: Option<AddrOrNone>,

    /// Address of the front, which serves libp2p, TURN and the web on one TCP port for networks that let nothing else
    /// through; or "none"
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_FRONT",
        value_name = "IP:PORT",
        hide_env_values = true,
        help = "Address of the front, which serves libp2p, TURN and the web on one TCP port for networks that let nothing \
                else through; or \"none\" [default: [::]:443, IPv6 and IPv4, if it may be had]"
    )]
    pub front: Option<AddrOrNone>,

    /// PEM file of the certificate that the front shows, and of those that vouch for it [default: one that is made at
    /// the first start; terminals need no other]
    #[arg(long, env = "OFFHOOK_DIRECTORY_FRONT_CERT", value_name = "FILE", hide_env_values = true)]
    pub front_cert: Option<PathBuf>,

    /// PEM file of its private key
    #[arg(long, env = "OFFHOOK_DIRECTORY_FRONT_KEY", value_name = "FILE", hide_env_values = true)]
    pub front_key: Option<PathBuf>,

    /// DNS name of the directory, which is part of the numbers that it issues: ada@NAME [default: none, and no such numbers]
    #[arg(long, env = "OFFHOOK_DIRECTORY_NAME", value_name = "NAME", hide_env_values = true)]
    pub name: Option<String>,

    /// Address of the site, where people sign up; or "none"
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_SITE",
        value_name = "IP:PORT",
        hide_env_values = true,
        help = "Address of the site, where people sign up; or \"none\" [default: 127.0.0.1:8080, if it may be had]"
    )]
    pub site: Option<AddrOrNone>,

    /// Address by which browsers reach the site [default: http:// and where it is served]
    #[arg(long, env = "OFFHOOK_DIRECTORY_SITE_URL", value_name = "URL", hide_env_values = true)]
    pub site_url: Option<String>,

    /// IP address of a reverse proxy before the site, whose X-Forwarded-For is believed; repeat, or separate by commas
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_SITE_PROXY",
        value_name = "IP",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub site_proxy: Option<Vec<IpAddr>>,

    /// Folder of files that visitors of the site may download, say the client's packages [default: none]
    #[arg(long, env = "OFFHOOK_DIRECTORY_DOWNLOADS", value_name = "DIR", hide_env_values = true)]
    pub downloads: Option<PathBuf>,

    /// Take new accounts [default: true]
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_SIGNUP",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        hide_env_values = true
    )]
    pub signup: Option<bool>,

    /// Most accounts that it takes [default: 100000]
    #[arg(long, env = "OFFHOOK_DIRECTORY_ACCOUNTS", value_name = "N", hide_env_values = true)]
    pub accounts: Option<u64>,

    /// Where accounts are kept: a file for SQLite, or postgres://USER:PASSWORD@HOST/DATABASE [default: directory.sqlite in
    /// the data folder]
    #[arg(long, env = "OFFHOOK_DIRECTORY_DATABASE", value_name = "FILE|URL", hide_env_values = true)]
    pub database: Option<DatabasePlace>,

    /// Where backups are kept: a folder, or s3://BUCKET/PREFIX [default: blobs in the data folder]
    #[arg(long, env = "OFFHOOK_DIRECTORY_BLOBS", value_name = "DIR|URL", hide_env_values = true)]
    pub blobs: Option<BlobPlace>,

    /// Keep what is left for those who are not on line [default: true]
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_MAILBOX",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        hide_env_values = true
    )]
    pub mailbox: Option<bool>,

    /// Most mailboxes [default: 10000]
    #[arg(long, env = "OFFHOOK_DIRECTORY_MAILBOXES", value_name = "N", hide_env_values = true)]
    pub mailboxes: Option<usize>,

    /// Most mailboxes of those who have no account here [default: 1000]
    #[arg(long, env = "OFFHOOK_DIRECTORY_MAILBOX_GUESTS", value_name = "N", hide_env_values = true)]
    pub mailbox_guests: Option<usize>,

    /// Most megabytes in one mailbox; of it a fifth is for strangers [default: 64]
    #[arg(long, env = "OFFHOOK_DIRECTORY_MAILBOX_MB", value_name = "MB", hide_env_values = true)]
    pub mailbox_mb: Option<u64>,

    /// Most megabytes in all mailboxes [default: 20480]
    #[arg(long, env = "OFFHOOK_DIRECTORY_MAILBOX_TOTAL_MB", value_name = "MB", hide_env_values = true)]
    pub mailbox_total_mb: Option<u64>,

    /// Use and tell private and loopback addresses, as on a LAN of its own [default: only while no public
    /// one is known]
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_ALLOW_PRIVATE",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        hide_env_values = true
    )]
    pub allow_private: Option<bool>,

    /// Relay the media of calls that find no way of their own, for terminals of this directory and, less of it, for those
    /// who call them [default: true]
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_RELAY",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        hide_env_values = true
    )]
    pub relay: Option<bool>,

    /// Address on which ports for relayed media are opened; repeat, or separate by commas [default: those of --external,
    /// those listened on, or the host's]
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_RELAY_IPS",
        value_name = "IP",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub relay_ips: Option<Vec<IpAddr>>,

    /// Ports for relayed media [default: 49152-65535]
    #[arg(long, env = "OFFHOOK_DIRECTORY_RELAY_PORTS", value_name = "FIRST-LAST", hide_env_values = true)]
    pub relay_ports: Option<PortRange>,

    /// Most allocations of the media relay at a time, two for each call that needs it [default: 2000]
    #[arg(long, env = "OFFHOOK_DIRECTORY_RELAY_ALLOCATIONS", value_name = "N", hide_env_values = true)]
    pub relay_allocations: Option<usize>,

    /// Kilobits per second of relayed media in each direction for a terminal of this directory [default: 3000]
    #[arg(long, env = "OFFHOOK_DIRECTORY_RELAY_KBIT", value_name = "KBIT", hide_env_values = true)]
    pub relay_kbit: Option<u64>,

    /// The same for anybody else who calls one [default: 256]
    #[arg(long, env = "OFFHOOK_DIRECTORY_RELAY_GUEST_KBIT", value_name = "KBIT", hide_env_values = true)]
    pub relay_guest_kbit: Option<u64>,

    /// Kilobits per second of all relayed media together, in both directions [default: 200000]
    #[arg(long, env = "OFFHOOK_DIRECTORY_RELAY_TOTAL_KBIT", value_name = "KBIT", hide_env_values = true)]
    pub relay_total_kbit: Option<u64>,

    /// Be found by terminals on the local network, by multicast DNS [default: false]
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_MDNS",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        hide_env_values = true
    )]
    pub mdns: Option<bool>,

    /// What to log: error, warn, info, debug or trace, or a filter such as "info,offhook=debug" [default: own messages
    /// from info, others from warn]
    #[arg(long, env = "OFFHOOK_LOG", value_name = "FILTER", hide_env_values = true)]
    pub log: Option<String>,

    /// How to log, on standard error [default: text]
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_LOG_FORMAT",
        value_enum,
        value_name = "text|json",
        hide_possible_values = true,
        hide_env_values = true
    )]
    pub log_format: Option<LogFormat>,

    /// Most connections at a time [default: 20000]
    #[arg(long, env = "OFFHOOK_DIRECTORY_CONNECTIONS", value_name = "N", hide_env_values = true)]
    pub connections: Option<u32>,

    /// Most terminals registered at a time [default: 10000]
    #[arg(long, env = "OFFHOOK_DIRECTORY_REGISTERED", value_name = "N", hide_env_values = true)]
    pub registered: Option<usize>,

    /// Most numbers whose records are held [default: 200000]
    #[arg(long, env = "OFFHOOK_DIRECTORY_RECORDS", value_name = "N", hide_env_values = true)]
    pub records: Option<usize>,

    /// Most megabytes of records held [default: 512]
    #[arg(long, env = "OFFHOOK_DIRECTORY_RECORD_MB", value_name = "MB", hide_env_values = true)]
    pub record_mb: Option<usize>,
}

impl Settings {
    /// What counts where nobody says anything else.
    pub fn defaults() -> Self {
        let (limits, quotas) = (Limits::for_role(Role::Directory), RelayQuotas::default());
        let mail = MailLimits::default();
        let wildcard = |template: [&str; 2]| template.map(|addr| addr.replace("PORT", &PORT.to_string()));
        let listen = [
            wildcard(["/ip4/0.0.0.0/udp/PORT/quic-v1", "/ip4/0.0.0.0/tcp/PORT"]),
            wildcard(["/ip6/::/udp/PORT/quic-v1", "/ip6/::/tcp/PORT"]),
        ];
        Self {
            data: Some(default_data()),
            listen: Some(listen.iter().flatten().filter_map(|addr| addr.parse().ok()).collect()),
            external: Some(Vec::new()),
            entry: Some(Vec::new()),
            // Both families.
            stun: Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, relay::PORT))),
            http: Some(AddrOrNone(Some(SocketAddr::from(([127, 0, 0, 1], HTTP_PORT))))),
            front: None,
            front_cert: None,
            front_key: None,
            name: None,
            site: None,
            site_url: None,
            site_proxy: Some(Vec::new()),
            downloads: None,
            signup: Some(true),
            accounts: Some(ACCOUNTS),
            database: None,
            blobs: None,
            mailbox: Some(true),
            mailboxes: Some(mail.books.mailboxes),
            mailbox_guests: Some(mail.guests),
            mailbox_mb: Some(mail.books.mailbox.bytes >> 20),
            mailbox_total_mb: Some(mail.books.total.bytes >> 20),
            allow_private: None,
            relay: Some(true),
            relay_ips: Some(Vec::new()),
            relay_ports: Some(PortRange(RELAYED_PORTS.0, RELAYED_PORTS.1)),
            relay_allocations: Some(quotas.allocations),
            relay_kbit: Some(quotas.full_bits / 1_000),
            relay_guest_kbit: Some(quotas.guest_bits / 1_000),
            relay_total_kbit: Some(quotas.total_bits / 1_000),
            mdns: Some(false),
            log: Some("offhook=info,offhook_bootstrap=info,libp2p_kad=error,warn".to_owned()),
            log_format: Some(LogFormat::Text),
            connections: Some(limits.connections),
            registered: Some(limits.registered),
            records: Some(limits.records),
            record_mb: Some(limits.record_bytes >> 20),
        }
    }

    /// Reads a TOML file. Unknown keys are errors, because a mistyped one would be a silent default.
    ///
    /// # Errors
    /// A [`SettingsError`].
    pub fn from_file(path: &Path) -> Result<Self, SettingsError> {
        let failed = |error| SettingsError::Read { path: path.to_owned(), error };
        if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
            return Err(SettingsError::TooLarge(path.to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        toml::from_str(&text)
            .map_err(|error| SettingsError::Syntax { path: path.to_owned(), error: Box::new(error) })
    }

    /// These settings, and `other`'s where these say nothing.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            data: self.data.or(other.data),
            listen: self.listen.or(other.listen),
            external: self.external.or(other.external),
            entry: self.entry.or(other.entry),
            stun: self.stun.or(other.stun),
            http: self.http.or(other.http),
            front: self.front.or(other.front),
            front_cert: self.front_cert.or(other.front_cert),
            front_key: self.front_key.or(other.front_key),
            name: self.name.or(other.name),
            site: self.site.or(other.site),
            site_url: self.site_url.or(other.site_url),
            site_proxy: self.site_proxy.or(other.site_proxy),
            downloads: self.downloads.or(other.downloads),
            signup: self.signup.or(other.signup),
            accounts: self.accounts.or(other.accounts),
            database: self.database.or(other.database),
            blobs: self.blobs.or(other.blobs),
            mailbox: self.mailbox.or(other.mailbox),
            mailboxes: self.mailboxes.or(other.mailboxes),
            mailbox_guests: self.mailbox_guests.or(other.mailbox_guests),
            mailbox_mb: self.mailbox_mb.or(other.mailbox_mb),
            mailbox_total_mb: self.mailbox_total_mb.or(other.mailbox_total_mb),
            allow_private: self.allow_private.or(other.allow_private),
            relay: self.relay.or(other.relay),
            relay_ips: self.relay_ips.or(other.relay_ips),
            relay_ports: self.relay_ports.or(other.relay_ports),
            relay_allocations: self.relay_allocations.or(other.relay_allocations),
            relay_kbit: self.relay_kbit.or(other.relay_kbit),
            relay_guest_kbit: self.relay_guest_kbit.or(other.relay_guest_kbit),
            relay_total_kbit: self.relay_total_kbit.or(other.relay_total_kbit),
            mdns: self.mdns.or(other.mdns),
            log: self.log.or(other.log),
            log_format: self.log_format.or(other.log_format),
            connections: self.connections.or(other.connections),
            registered: self.registered.or(other.registered),
            records: self.records.or(other.records),
            record_mb: self.record_mb.or(other.record_mb),
        }
    }

    /// The folder of the key and the records.
    pub fn data_dir(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(default_data)
    }

    /// Where accounts are kept.
    pub fn database(&self) -> DatabasePlace {
        let default = || DatabasePlace::Sqlite(self.data_dir().join("directory.sqlite"));
        self.database.clone().unwrap_or_else(default)
    }

    /// Where backups are kept.
    pub fn blobs(&self) -> BlobPlace {
        self.blobs.clone().unwrap_or_else(|| BlobPlace::Folder(self.data_dir().join("blobs")))
    }

    /// The media relay's configuration; `None` if there is to be none. `self` need not be complete.
    pub fn relay_config(&self, issuer: TicketIssuer) -> Option<RelayConfig> {
        let settings = self.clone().or(Self::defaults());
        if settings.relay == Some(false) {
            return None;
        }
        let ips_of = |addrs: &Option<Vec<NodeAddr>>| -> Vec<_> {
            addrs.iter().flatten().filter_map(ip_of).filter(|ip| !ip.is_unspecified()).collect()
        };
        let (external, listened) = (ips_of(&settings.external), ips_of(&settings.listen));
        let mut config = RelayConfig::new(issuer);
        config.listen = settings.stun;
        let named = settings.relay_ips.into_iter().find(|ips| !ips.is_empty());
        let mut ips = named.unwrap_or(if external.is_empty() { listened.clone() } else { external.clone() });
        ips.sort_unstable();
        ips.dedup();
        config.relayed_ips = ips;
        config.own_ips = [external, listened].concat();
        config.policy = settings.allow_private.map(|private| PeerPolicy { private, loopback: false });
        if let Some(PortRange(first, last)) = settings.relay_ports {
            config.ports = (first, last);
        }
        let quotas = &mut config.quotas;
        quotas.allocations = settings.relay_allocations.unwrap_or(quotas.allocations);
        let bits =
            |kbit: Option<u64>, otherwise: u64| kbit.map_or(otherwise, |kbit| kbit.saturating_mul(1_000));
        quotas.full_bits = bits(settings.relay_kbit, quotas.full_bits);
        quotas.guest_bits = bits(settings.relay_guest_kbit, quotas.guest_bits);
        quotas.total_bits = bits(settings.relay_total_kbit, quotas.total_bits);
        Some(config)
    }

    /// The network's configuration. `self` need not be complete.
    pub fn net_config(&self, seed: [u8; 32]) -> NetConfig {
        let settings = self.clone().or(Self::defaults());
        let mut config = NetConfig::new(seed, Role::Directory);
        config.listen = settings.listen.unwrap_or_default();
        config.external = settings.external.unwrap_or_default();
        config.entry = settings.entry.unwrap_or_default();
        config.stun = settings.stun;
        config.allow_private = settings.allow_private;
        config.mdns = settings.mdns.unwrap_or_default();
        let limits = config.limits.clone();
        let connections = settings.connections.unwrap_or(limits.connections);
        config.limits =
            limits.clone().with_connections(connections, settings.registered.unwrap_or(limits.registered));
        let limits = &mut config.limits;
        limits.records = settings.records.unwrap_or(limits.records);
        limits.record_bytes = settings.record_mb.map_or(limits.record_bytes, |mb| mb.saturating_mul(1 << 20));
        config.data = settings.data;
        config
    }
}

/// systemd's state directory, the user's data folder, or the current folder.
fn default_data() -> PathBuf {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    env("STATE_DIRECTORY")
        .or_else(|| env("XDG_DATA_HOME").map(|home| home.join("offhook-directory")))
        .or_else(|| env("HOME").map(|home| home.join(".local/share/offhook-directory")))
        .unwrap_or_else(|| PathBuf::from("offhook-directory"))
}

/// The IP address that a multiaddr begins with.
fn ip_of(addr: &NodeAddr) -> Option<IpAddr> {
    let mut parts = addr.as_str().split('/').skip(1);
    match parts.next() {
        Some("ip4" | "ip6") => parts.next().and_then(|ip| ip.parse().ok()),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_source_that_speaks_counts() {
        let flags = Settings { records: Some(1), ..Settings::default() };
        let file: Settings = toml::from_str("records = 2\nconnections = 3\nhttp = \"none\"").unwrap();
        let effective = flags.or(file).or(Settings::defaults());
        assert_eq!((effective.records, effective.connections), (Some(1), Some(3)));
        assert_eq!(effective.http, Some(AddrOrNone(None)));
        assert_eq!(effective.registered, Settings::defaults().registered);
        assert_eq!(effective.net_config([1; 32]).limits.records, 1);
    }

    #[test]
    fn the_relay_opens_its_ports_where_the_directory_is_known() {
        let config = |toml: &str| {
            toml::from_str::<Settings>(toml)
                .unwrap()
                .relay_config(TicketIssuer::new([1; 32]))
                .expect("a relay")
        };
        let ips = |toml: &str| config(toml).relayed_ips.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(ips("").is_empty(), "the host's");
        assert_eq!(ips(r#"listen = ["/ip4/192.0.2.7/tcp/1"]"#), ["192.0.2.7"]);
        let external = r#"external = ["/ip4/192.0.2.9/udp/1/quic-v1", "/ip4/192.0.2.9/tcp/1"]"#;
        assert_eq!(ips(external), ["192.0.2.9"]);
        assert_eq!(ips(&format!("{external}\nrelay-ips = [\"192.0.2.1\"]")), ["192.0.2.1"]);
        let all = config("relay-ports = \"5000-5001\"\nrelay-kbit = 5\nallow-private = false");
        assert_eq!((all.ports, all.quotas.full_bits), ((5_000, 5_001), 5_000));
        assert_eq!(all.policy, Some(PeerPolicy::default()));
        let off: Settings = toml::from_str("relay = false").unwrap();
        assert!(off.relay_config(TicketIssuer::new([1; 32])).is_none());
        for bad in ["5001-5000", "0-7", "7", "a-b", "1-65536"] {
            assert_eq!(bad.parse::<PortRange>(), Err(PortRangeError), "{bad}");
        }
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let settings = Settings::defaults();
        let text = toml::to_string(&settings).unwrap();
        assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings);
    }

    #[test]
    fn accounts_are_in_the_data_folder_unless_something_else_is_said() {
        let settings = |toml: &str| toml::from_str::<Settings>(toml).unwrap();
        let plain = settings("data = \"/d\"");
        assert_eq!(plain.database(), DatabasePlace::Sqlite("/d/directory.sqlite".into()));
        assert_eq!(plain.blobs(), BlobPlace::Folder("/d/blobs".into()));
        let named = settings("database = \"postgres://u:p@h/d\"\nblobs = \"s3://b/p\"");
        assert_eq!(named.database().to_string(), "postgres://u:p@h/d");
        assert_eq!(named.blobs().to_string(), "s3://b/p");
        assert!(!format!("{named:?}").contains("u:p"), "logs do not tell the password");
    }

    #[test]
    fn a_mistyped_key_is_an_error() {
        assert!(toml::from_str::<Settings>("conections = 3").is_err());
        assert!(toml::from_str::<Settings>("listen = [\"nonsense\"]").is_err());
    }

    #[test]
    fn defaults_are_complete_but_for_the_automatic_ones() {
        let defaults = Settings::defaults();
        assert_eq!(defaults.listen.as_ref().map(Vec::len), Some(4));
        assert_eq!((defaults.allow_private, defaults.front), (None, None));
        assert!(defaults.data.is_some() && defaults.record_mb.is_some());
    }
}
