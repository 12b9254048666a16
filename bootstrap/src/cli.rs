//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::operate::{
    self, AuditCommand, BackupPlan, Desk, HealthPlan, NumbersCommand, Place, QuotasCommand, RestorePlan,
    UsersCommand,
};
use crate::run;
use crate::settings::{Settings, SettingsError};

/// The directory node of the Offhook telephone network: a first contact for terminals, a keeper of the records that
/// say where numbers are, a relay for call set-up and, where there is no other way, for media, and a STUN server. It owns nobody: any terminal may use any directory.
#[derive(Parser, Debug)]
#[command(name = "offhook-directory", version, max_term_width = 110, after_help = EXAMPLES)]
struct Cli {
    /// TOML file with settings; flags and environment go before it
    #[arg(
        long,
        short,
        global = true,
        env = "OFFHOOK_DIRECTORY_CONFIG",
        value_name = "FILE",
        hide_env_values = true
    )]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  offhook-directory run --external /ip4/203.0.113.7/udp/4001/quic-v1
  offhook-directory run --config /etc/offhook/directory.toml
  offhook-directory config --config /etc/offhook/directory.toml
  offhook-directory users list --data /var/lib/offhook-directory
  offhook-directory backup /srv/copies/offhook-today

Every setting is a flag, an environment variable or a key of the TOML file, and the first
of them counts: see `offhook-directory run --help` and docs/directory.md.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the directory until SIGINT or SIGTERM; prints its multiaddrs, one a line
    Run {
        /// Print JSON objects, one a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Print the settings in effect, as a TOML file
    Config {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Ask a directory on this host whether it is well; ends with 1 if it is not
    Health(HealthPlan),
    /// Look at accounts, close and delete them
    #[command(after_help = USERS_EXAMPLES)]
    Users {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: UsersCommand,
    },
    /// Look at chosen numbers, keep words back
    #[command(after_help = NUMBERS_EXAMPLES)]
    Numbers {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: NumbersCommand,
    },
    /// Let an account have more or fewer chosen numbers than others, or another mailbox
    #[command(after_help = QUOTAS_EXAMPLES)]
    Quotas {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: QuotasCommand,
    },
    /// Check a list of numbers, one's own or another directory's; print what operators did
    #[command(after_help = AUDIT_EXAMPLES)]
    Audit {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Copy accounts, their backups and the directory's keys into a new folder, while the directory runs
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        plan: BackupPlan,
    },
    /// Put such a copy back where no directory is; all users have to log in again
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        plan: RestorePlan,
    },
}

const USERS_EXAMPLES: &str = "Examples:
  offhook-directory users list
  offhook-directory users show ada --json
  offhook-directory users end-sessions ada
  offhook-directory users close ada
  offhook-directory users delete ada --yes";

const NUMBERS_EXAMPLES: &str = "Examples:
  offhook-directory numbers list
  offhook-directory numbers show ada@example.org
  offhook-directory numbers reserve mayor police
  offhook-directory numbers reserved";

const QUOTAS_EXAMPLES: &str = "Examples:
  offhook-directory quotas show ada
  offhook-directory quotas set ada --numbers 20
  offhook-directory quotas set ada --mailbox-mb 256
  offhook-directory quotas reset ada";

const AUDIT_EXAMPLES: &str = "Examples:
  offhook-directory audit list
  offhook-directory audit list --url https://example.org --head example.org.head
  offhook-directory audit log --most 20";

const BACKUP_EXAMPLES: &str = "Examples:
  offhook-directory backup /srv/copies/offhook-2027-01-31 --data /var/lib/offhook-directory";

const RESTORE_EXAMPLES: &str = "Examples:
  offhook-directory restore /srv/copies/offhook-2027-01-31 --data /var/lib/offhook-directory";

/// Reads the arguments and does what they say. The whole program.
pub fn main() -> ExitCode {
    let Cli { config, command } = Cli::parse();
    let result = perform(config, command);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("offhook-directory: {}", failure.sentence);
            ExitCode::from(failure.code)
        }
    }
}

fn perform(config: Option<PathBuf>, command: Command) -> Result<(), Failure> {
    let at = |place: Place| -> Result<(Settings, bool), SettingsError> {
        let (flags, is_json) = place.split();
        Ok((effective(config.clone(), flags)?, is_json))
    };
    match command {
        Command::Run { json, settings } => run::run(&effective(config, *settings)?, json),
        Command::Config { settings } => run::print_config(&effective(config, *settings)?),
        Command::Health(plan) => operate::health(&effective(config, plan.settings())?, &plan),
        Command::Users { place, command } => {
            let (settings, is_json) = at(place)?;
            Desk::run(&settings, is_json, async |desk| operate::users(desk, command).await)
        }
        Command::Numbers { place, command } => {
            let (settings, is_json) = at(place)?;
            Desk::run(&settings, is_json, async |desk| operate::numbers(desk, command).await)
        }
        Command::Quotas { place, command } => {
            let (settings, is_json) = at(place)?;
            Desk::run(&settings, is_json, async |desk| operate::quotas(desk, command).await)
        }
        // Of the store here nothing is needed.
        Command::Audit { place, command: AuditCommand::List(which) } if which.is_elsewhere() => {
            operate::elsewhere(&which, place.split().1)
        }
        Command::Audit { place, command } => {
            let (settings, is_json) = at(place)?;
            Desk::run(&settings, is_json, async |desk| operate::audit(desk, command).await)
        }
        Command::Backup { place, plan } => {
            let (settings, is_json) = at(place)?;
            Desk::run(&settings, is_json, async |desk| operate::backup(desk, &settings, &plan).await)
        }
        Command::Restore { place, plan } => {
            let (settings, is_json) = at(place)?;
            operate::restore(&settings, &plan, is_json)
        }
    }
}

/// Flag before environment (clap sees to that), before file, before default.
fn effective(config: Option<PathBuf>, flags: Settings) -> Result<Settings, SettingsError> {
    let file = config.as_deref().map(Settings::from_file).transpose()?.unwrap_or_default();
    Ok(flags.or(file).or(Settings::defaults()))
}

/// A failure as the shell sees it: 1 when the directory can't run, 2 when it was told something wrong.
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) sentence: String,
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self { code: 2, sentence: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_tells_the_defaults() {
        let mut command = Cli::command();
        let help = command.find_subcommand_mut("run").expect("a command").render_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let defaults = Settings::defaults();
        let said = [
            defaults.stun.map(|addr| addr.to_string()),
            defaults.http.map(|addr| addr.to_string()),
            defaults.connections.map(|n| n.to_string()),
            defaults.relay.map(|on| on.to_string()),
            defaults.signup.map(|on| on.to_string()),
            defaults.accounts.map(|n| n.to_string()),
            defaults.relay_ports.map(|ports| ports.to_string()),
            defaults.relay_allocations.map(|n| n.to_string()),
            defaults.relay_kbit.map(|n| n.to_string()),
            defaults.relay_guest_kbit.map(|n| n.to_string()),
            defaults.relay_total_kbit.map(|n| n.to_string()),
            defaults.registered.map(|n| n.to_string()),
            defaults.records.map(|n| n.to_string()),
            defaults.record_mb.map(|n| n.to_string()),
            defaults.mailboxes.map(|n| n.to_string()),
            defaults.mailbox_guests.map(|n| n.to_string()),
            defaults.mailbox_mb.map(|n| n.to_string()),
            defaults.mailbox_total_mb.map(|n| n.to_string()),
        ];
        for value in said {
            let value = value.expect("has a default");
            assert!(help.contains(&format!("[default: {value}")), "{value} is not in {help}");
        }
    }

    #[test]
    fn lists_repeat_and_a_bare_switch_is_true() {
        let line = [
            "x",
            "config",
            "--entry",
            "/dnsaddr/a",
            "--entry",
            "/dnsaddr/b",
            "--allow-private",
            "--http",
            "none",
        ];
        let Command::Config { settings } = Cli::try_parse_from(line).unwrap().command else {
            panic!("`config` was typed")
        };
        assert_eq!(settings.entry.unwrap().len(), 2);
        assert_eq!((settings.allow_private, settings.mdns), (Some(true), None));
        assert!(Cli::try_parse_from(["x", "run", "--listen", "nonsense"]).is_err());
    }
}
