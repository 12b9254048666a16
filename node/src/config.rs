//! Settings: flag before environment variable before `HOME/config.toml` before default.
//!
//! clap has already put flags and environment together; here the file and the defaults join.

mod remember;

use crate::cli::{Answer, Global, NetworkArgs, RunArgs, Serve, SoundArgs, Transfers, TurnUri};
use crate::exit::Failure;
use offhook::audio::Processing;
use offhook::phone::Machine;
use offhook::storage::{AccountId, Home};
use serde::Deserialize;
use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A configuration file larger than this is not one.
const MAX_FILE: u64 = 64 * 1024;

/// `HOME/config.toml`. Every key is optional; a key that is not known is an error, because it is most
/// likely a mistyped one.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    account: Option<String>,
    entry: Option<Vec<String>>,
    listen: Option<Vec<String>>,
    external: Option<Vec<String>>,
    serve: Option<Serve>,
    mdns: Option<bool>,
    publish_address: Option<bool>,
    relay_only: Option<bool>,
    port_mapping: Option<bool>,
    turn: Option<Vec<TurnUri>>,
    allow_private: Option<bool>,
    directory_site: Option<Vec<String>>,
    mic: Option<String>,
    speaker: Option<String>,
    ringer: Option<String>,
    processing: Option<String>,
    answer: Option<Answer>,
    machine_after: Option<u64>,
    machine_limit: Option<u64>,
    refuse_recording: Option<bool>,
    call_waiting: Option<bool>,
    transfers: Option<Transfers>,
    ring_timeout: Option<u64>,
    metrics: Option<SocketAddr>,
}

/// What a telephone is built with.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Multiaddrs of entry points.
    pub entry: Vec<String>,
    /// Multiaddrs to listen on; empty for the library's default.
    pub listen: Vec<String>,
    /// Multiaddrs under which this terminal is reached from outside.
    pub external: Vec<String>,
    /// Serve the network too.
    pub serve: Serve,
    /// Look for terminals on the local network.
    pub mdns: bool,
    /// Publish own addresses.
    pub publish_address: bool,
    /// Sound goes through relays only.
    pub relay_only: bool,
    /// Ask the router for ports.
    pub port_mapping: bool,
    /// TURN servers of the user's own, with their passwords.
    pub turn: Vec<TurnUri>,
    /// Take private addresses of others seriously; `None`: where nothing public is configured.
    pub allow_private: Option<bool>,
    /// Sites of directories that are not at `https://NAME`: `NAME=URL`.
    pub directory_site: Vec<String>,
    /// Microphone.
    pub mic: String,
    /// Loudspeaker.
    pub speaker: String,
    /// What rings; `None` is the loudspeaker.
    pub ringer: Option<String>,
    /// What is done to the microphone's sound.
    pub processing: Processing,
    /// Who answers.
    pub answer: Answer,
    /// How the answering machine does its work.
    pub machine: Machine,
    /// Others may record calls.
    pub recordable: bool,
    /// A second call waits instead of hearing busy.
    pub call_waiting: bool,
    /// Whose transfers are shown.
    pub transfers: Transfers,
    /// How long it rings.
    pub ring_timeout: Duration,
    /// Where to serve metrics.
    pub metrics: Option<SocketAddr>,
}

/// Home directory, account and configuration file of one invocation.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where the accounts are.
    pub home: Home,
    /// The account that was named, not looked up yet.
    pub account: Option<String>,
    /// Print JSON.
    pub json: bool,
    file: File,
}

impl Context {
    /// Finds home and reads the file.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let dir = match &global.home {
            Some(dir) => dir.clone(),
            None => default_home()?,
        };
        let file = File::read(&dir.join("config.toml"))?;
        let account = global.account.clone().or_else(|| file.account.clone());
        Ok(Self { home: Home::open(dir)?, account, json: global.json, file })
    }

    /// The same for an account.
    #[must_use]
    pub fn of(&self, id: &AccountId) -> Self {
        Self { account: Some(id.to_string()), ..self.clone() }
    }

    /// The account to use.
    pub async fn account_id(&self) -> Result<AccountId, Failure> {
        match &self.account {
            Some(id) => Ok(id.parse()?),
            None => Ok(self.home.current().await?),
        }
    }

    /// The control socket of this home.
    pub fn socket(&self) -> PathBuf {
        self.home.dir().join("control.sock")
    }

    /// Settings for `run`.
    pub fn run_settings(&self, args: &RunArgs) -> Result<Settings, Failure> {
        let mut settings = self.settings(&args.network, &args.sound, args.ring_timeout)?;
        settings.answer = args.answer.or(self.file.answer).unwrap_or(Answer::Manual);
        settings.machine = self.machine(args)?;
        if settings.answer == Answer::Machine && settings.machine.after >= settings.ring_timeout {
            return Err(Failure::bad_input(format!(
                "The answering machine would never answer: it rings for {} s (--ring-timeout), and the machine waits for {} s \
                 (--machine-after).",
                settings.ring_timeout.as_secs(),
                settings.machine.after.as_secs()
            )));
        }
        settings.recordable = !args.refuse_recording.or(self.file.refuse_recording).unwrap_or(false);
        settings.transfers = args.transfers.or(self.file.transfers).unwrap_or(Transfers::Contacts);
        settings.call_waiting = args.no_call_waiting.map(|no| !no).or(self.file.call_waiting).unwrap_or(true);
        settings.metrics = args.metrics.or(self.file.metrics);
        settings.serve = args.network.serve.or(self.file.serve).unwrap_or(Serve::Off);
        Ok(settings)
    }

    fn machine(&self, args: &RunArgs) -> Result<Machine, Failure> {
        let Machine { after, limit } = Machine::default();
        let seconds = |flag: Option<u64>, file: Option<u64>, default: Duration| {
            Duration::from_secs(flag.or(file).unwrap_or(default.as_secs()))
        };
        let machine = Machine {
            after: seconds(args.machine_after, self.file.machine_after, after),
            limit: seconds(args.machine_limit, self.file.machine_limit, limit),
        };
        // Flags are checked where they are read.
        match (machine.after.as_secs(), machine.limit.as_secs()) {
            (1..=600, 10..=600) => Ok(machine),
            _ => Err(Failure::bad_input(
                "config.toml: machine_after is 1 to 600 seconds, machine_limit 10 to 600.",
            )),
        }
    }

    /// Settings for a telephone that lives for one command: too short to serve anybody.
    pub fn settings(
        &self,
        network: &NetworkArgs,
        sound: &SoundArgs,
        ring_timeout: Option<u64>,
    ) -> Result<Settings, Failure> {
        let file = &self.file;
        let list = |flag: &Option<Vec<String>>, file: &Option<Vec<String>>| {
            flag.clone().or_else(|| file.clone()).unwrap_or_default()
        };
        let device = |flag: &Option<String>, file: &Option<String>| {
            flag.clone().or_else(|| file.clone()).unwrap_or_else(|| "default".into())
        };
        let seconds = ring_timeout.or(file.ring_timeout).unwrap_or(45);
        if !(1..=600).contains(&seconds) {
            return Err(Failure::bad_input("config.toml: ring_timeout is 1 to 600 seconds."));
        }
        let processing = file.processing.as_deref().map(str::parse).transpose();
        let processing: Option<Processing> =
            processing.map_err(|error| Failure::bad_input(format!("config.toml: processing: {error}.")))?;
        Ok(Settings {
            entry: list(&network.entry, &file.entry),
            listen: list(&network.listen, &file.listen),
            external: list(&network.external, &file.external),
            serve: Serve::Off,
            mdns: network.no_mdns.map(|no| !no).or(file.mdns).unwrap_or(true),
            publish_address: network.publish_address.or(file.publish_address).unwrap_or(false),
            relay_only: network.relay_only.or(file.relay_only).unwrap_or(false),
            port_mapping: network.no_port_mapping.map(|no| !no).or(file.port_mapping).unwrap_or(true),
            turn: network.turn.clone().or_else(|| file.turn.clone()).unwrap_or_default(),
            allow_private: network.allow_private.or(file.allow_private),
            directory_site: list(&network.directory_site, &file.directory_site),
            mic: device(&sound.mic, &file.mic),
            speaker: device(&sound.speaker, &file.speaker),
            ringer: sound.ringer.clone().or_else(|| file.ringer.clone()),
            processing: sound.processing.or(processing).unwrap_or_default(),
            answer: Answer::Manual,
            machine: Machine::default(),
            recordable: !file.refuse_recording.unwrap_or(false),
            call_waiting: true,
            transfers: Transfers::Contacts,
            ring_timeout: Duration::from_secs(seconds),
            metrics: None,
        })
    }
}

impl File {
    fn read(path: &Path) -> Result<Self, Failure> {
        let unreadable =
            |error: std::io::Error| Failure::system(format!("{} can't be read: {error}.", path.display()));
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(unreadable(error)),
            Ok(meta) if meta.len() > MAX_FILE => {
                return Err(Failure::bad_input(format!(
                    "{} is too large for a configuration.",
                    path.display()
                )));
            }
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text).map_err(|error| Failure::bad_input(format!("{}: {error}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }
}

fn default_home() -> Result<PathBuf, Failure> {
    let data = env::var_os("XDG_DATA_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    data.or_else(home)
        .map(|data| data.join("offhook"))
        .ok_or_else(|| Failure::bad_input("Where is your home directory? Set HOME, or use --home DIR."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(file: &str) -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.toml"), file).unwrap();
        let global = Global { home: Some(dir.path().into()), account: None, json: false };
        let context = Context::new(&global).unwrap();
        (dir, context)
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let (_dir, context) = context(
            "mic = 'file:a.wav'\nprocessing = 'noise,gain'\nringer = 'alsa:hw'\nentry = ['/x']\nmdns = false\nserve = 'always'\nport_mapping = false\nanswer = 'auto'\ncall_waiting = false\ntransfers = 'nobody'\nrefuse_recording = true\nmachine_after = 7\nring_timeout = 20\n",
        );
        let plain = context.run_settings(&RunArgs::default()).unwrap();
        assert_eq!((plain.mic.as_str(), plain.speaker.as_str()), ("file:a.wav", "default"));
        assert_eq!(plain.ringer.as_deref(), Some("alsa:hw"));
        assert_eq!(plain.processing, Processing { echo: false, noise: true, gain: true });
        assert!(!plain.port_mapping && !plain.recordable && !plain.call_waiting);
        assert_eq!(plain.machine, Machine { after: Duration::from_secs(7), ..Machine::default() });
        assert_eq!(plain.transfers, Transfers::Nobody);
        assert_eq!(plain.serve, Serve::Always);
        assert_eq!((plain.entry, plain.mdns, plain.answer), (vec!["/x".to_owned()], false, Answer::Auto));
        assert_eq!(plain.ring_timeout, Duration::from_secs(20));

        let mut args = RunArgs { answer: Some(Answer::Manual), ring_timeout: Some(5), ..RunArgs::default() };
        args.sound.mic = Some("none".into());
        args.no_call_waiting = Some(false);
        args.sound.processing = Some(Processing::NONE);
        args.refuse_recording = Some(false);
        args.machine_limit = Some(30);
        args.network.no_mdns = Some(false);
        args.network.serve = Some(Serve::Off);
        args.network.no_port_mapping = Some(false);
        args.network.entry = Some(vec!["/y".into()]);
        let flagged = context.run_settings(&args).unwrap();
        assert_eq!(flagged.processing, Processing::NONE);
        assert!(flagged.port_mapping && flagged.recordable && flagged.call_waiting);
        assert_eq!(flagged.machine.limit, Duration::from_secs(30));
        assert_eq!(flagged.serve, Serve::Off);
        assert_eq!((flagged.mic.as_str(), flagged.mdns, flagged.answer), ("none", true, Answer::Manual));
        assert_eq!((flagged.entry, flagged.ring_timeout), (vec!["/y".to_owned()], Duration::from_secs(5)));
    }

    #[test]
    fn mistakes_in_the_file_are_told() {
        assert!(File::parse("micc = 'none'").unwrap_err().contains("micc"));
        assert!(File::parse("answer = 'perhaps'").is_err());
        assert!(File::parse("server = true").is_err() && File::parse("serve = true").is_err());
        assert!(File::parse("= = =").is_err());
        let never = "answer = 'machine'\nring_timeout = 20";
        for mistake in ["ring_timeout = 0", "machine_limit = 9", "processing = 'echos'", never] {
            let (_dir, context) = context(mistake);
            assert!(context.run_settings(&RunArgs::default()).is_err(), "{mistake}");
        }
    }
}
