//! Arguments, logs and signals of `offhook-directory`.

use crate::config::{Config, ConfigError, Partial};
use crate::node::{Directory, DirectoryError};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The Offhook directory: a first contact, a relay for signalling, a keeper of records. It owns nobody.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

const EXAMPLES: &str = "Examples:
  offhook-directory run --data /var/lib/offhook-directory --external /ip4/192.0.2.7/udp/4001/quic-v1
  offhook-directory run --config /etc/offhook-directory.toml
  offhook-directory config --config /etc/offhook-directory.toml

Every setting is a flag, an environment variable OFFHOOK_DIRECTORY_… or a key of the TOML file, in this order of
precedence.";

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Run until SIGINT or SIGTERM. Prints its multiaddrs, one a line, QUIC and TCP.
    Run {
        #[command(flatten)]
        settings: Settings,
        /// How to write the log on standard error.
        #[arg(long, env = "OFFHOOK_DIRECTORY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
        /// Print what happens as JSON lines.
        #[arg(long)]
        json: bool,
    },
    /// Print the settings in force, as TOML.
    Config {
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Debug, Args)]
struct Settings {
    /// TOML file with settings.
    #[arg(long, env = "OFFHOOK_DIRECTORY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Partial,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the program ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

impl CliError {
    /// 2 for what the user typed, 1 for the rest.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Directory(DirectoryError::Address(_)) => ExitCode::from(2),
            Self::Directory(_) | Self::Signals(_) => ExitCode::FAILURE,
        }
    }
}

/// Do what the arguments say.
///
/// # Errors
/// [`CliError`], with a sentence for people.
pub async fn run(arguments: Arguments) -> Result<(), CliError> {
    match arguments.command {
        Subcommands::Run { settings, log_format, json } => {
            start_log(log_format);
            run_node(&settings.resolve()?, json).await
        }
        Subcommands::Config { settings } => {
            let config = settings.resolve()?;
            // The settings are strings, numbers and lists: always TOML.
            print!("{}", toml::to_string_pretty(&config).unwrap_or_default());
            Ok(())
        }
    }
}

impl Settings {
    fn resolve(self) -> Result<Config, ConfigError> {
        let file = self.config.as_deref().map(Partial::read).transpose()?.unwrap_or_default();
        Ok(self.flags.over(file))
    }
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("OFFHOOK_LOG")
        .unwrap_or_else(|_| EnvFilter::new("offhook=info,offhook_bootstrap=info,libp2p_kad=error,warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

async fn run_node(config: &Config, json: bool) -> Result<(), CliError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Signals)?;
    let mut directory = Directory::bind(config).await?;
    say(json, "http", &format!("http://{}", directory.http_addr()));
    loop {
        tokio::select! {
            Some(address) = directory.next_address() => say(json, "listening", &address),
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    tracing::info!("shutting down");
    directory.shutdown().await;
    Ok(())
}

fn say(json: bool, event: &str, address: &str) {
    if json {
        println!("{}", serde_json::json!({ "event": event, "address": address }));
    } else {
        println!("{event} {address}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn lists_repeat_and_a_bare_switch_is_true() {
        let line = ["x", "config", "--entry", "/dnsaddr/a", "--entry", "/dnsaddr/b", "--allow-private"];
        let Subcommands::Config { settings } = Arguments::try_parse_from(line).expect("parsed").command
        else {
            unreachable!("`config` was typed")
        };
        let config = settings.resolve().expect("settings");
        assert_eq!(config.entry, ["/dnsaddr/a", "/dnsaddr/b"]);
        assert_eq!(config.allow_private, Some(true));
    }
}
