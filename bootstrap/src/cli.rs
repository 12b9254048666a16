//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::run;
use crate::settings::{Settings, SettingsError};

/// The directory node of the Offhook telephone network: a first contact for terminals, a keeper of the records that
/// say where numbers are, a relay for call set-up and a STUN server. It owns nobody: any terminal may use any directory.
#[derive(Parser, Debug)]
#[command(name = "offhook-directory", version, max_term_width = 110)]
struct Cli {
    /// TOML file with settings; flags and environment go before it
    #[arg(long, short, global = true, env = "OFFHOOK_DIRECTORY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

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
}

/// Reads the arguments and does what they say. The whole program.
pub fn main() -> ExitCode {
    let Cli { config, command } = Cli::parse();
    let result = match command {
        Command::Run { json, settings } => {
            effective(config, *settings).map_err(Failure::from).and_then(|settings| run::run(&settings, json))
        }
        Command::Config { settings } => {
            effective(config, *settings).map_err(Failure::from).and_then(|settings| run::print_config(&settings))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("offhook-directory: {}", failure.sentence);
            ExitCode::from(failure.code)
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
