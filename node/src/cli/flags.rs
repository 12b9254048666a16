//! Flags that several commands share: the network, and sound.

use clap::Args;
use offhook::audio::Processing;

use super::Serve;

/// How to get into the network.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// A node to enter the network through (multiaddr with /p2p/, or /dnsaddr/NAME); may be repeated [default: those
    /// remembered]
    #[arg(
        long,
        env = "OFFHOOK_ENTRY",
        value_name = "MULTIADDR",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub entry: Option<Vec<String>>,
    /// Address to listen on; may be repeated [default: any port, UDP and TCP]
    #[arg(
        long,
        env = "OFFHOOK_LISTEN",
        value_name = "MULTIADDR",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub listen: Option<Vec<String>>,
    /// Address under which others reach this terminal from outside; may be repeated
    #[arg(
        long,
        env = "OFFHOOK_EXTERNAL",
        value_name = "MULTIADDR",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub external: Option<Vec<String>>,
    /// Serve the network too (store records, pass signalling on, answer STUN): while strangers are proved to reach this
    /// terminal, always, or never. Whoever serves is known to the network with its address [default: off]
    #[arg(long, env = "OFFHOOK_SERVE", value_name = "WHEN", hide_env_values = true)]
    pub serve: Option<Serve>,
    /// Don't look for terminals on the local network
    #[arg(long, env = "OFFHOOK_NO_MDNS", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true, hide_env_values = true)]
    pub no_mdns: Option<bool>,
    /// Put this terminal's own addresses into its public record
    #[arg(long, env = "OFFHOOK_PUBLISH_ADDRESS", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true, hide_env_values = true)]
    pub publish_address: Option<bool>,
    /// Send sound through relays only, so that nobody learns this terminal's address
    #[arg(long, env = "OFFHOOK_RELAY_ONLY", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true, hide_env_values = true)]
    pub relay_only: Option<bool>,
    /// Don't ask the router to open ports for calls (UPnP, NAT-PMP, PCP)
    #[arg(long, env = "OFFHOOK_NO_PORT_MAPPING", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true, hide_env_values = true)]
    pub no_port_mapping: Option<bool>,
    /// TURN server of your own, turn:USER:PASSWORD@HOST:PORT?transport=udp or turns:...; may be repeated. Others on this
    /// computer see what is written on a command line: better put it into config.toml
    #[arg(long, env = "OFFHOOK_TURN", value_name = "URI", value_delimiter = ',', hide_env_values = true)]
    pub turn: Option<Vec<TurnUri>>,
    /// Take private and loopback addresses of others seriously [default: only while no public one is known]
    #[arg(long, env = "OFFHOOK_ALLOW_PRIVATE", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true, hide_env_values = true)]
    pub allow_private: Option<bool>,
    /// Where a directory's site is instead of at https://NAME, NAME=URL: in laboratories; may be repeated
    #[arg(
        long,
        env = "OFFHOOK_DIRECTORY_SITE",
        value_name = "NAME=URL",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub directory_site: Option<Vec<String>>,
}

/// A TURN server as it was written down, not checked yet: there may be a password in it, so that it is not shown.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct TurnUri(pub String);

impl std::str::FromStr for TurnUri {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for TurnUri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TurnUri")
    }
}

/// What to speak into and listen with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Sound")]
pub struct SoundArgs {
    /// Microphone: default, none, file:PATH.wav or an id from `offhook devices`
    #[arg(long, env = "OFFHOOK_MIC", value_name = "DEVICE", hide_env_values = true)]
    pub mic: Option<String>,
    /// Loudspeaker: default, none, file:PATH.wav ({time} and {number} give each call a file) or an id from
    /// `offhook devices`
    #[arg(long, env = "OFFHOOK_SPEAKER", value_name = "DEVICE", hide_env_values = true)]
    pub speaker: Option<String>,
    /// What rings: default, none or an id from `offhook devices` [default: the loudspeaker]
    #[arg(long, env = "OFFHOOK_RINGER", value_name = "DEVICE", hide_env_values = true)]
    pub ringer: Option<String>,
    /// What is done to the microphone's sound: all, none, or some of echo,noise,gain (echo cancellation, noise
    /// suppression, gain control) [default: all]
    #[arg(long, env = "OFFHOOK_PROCESSING", value_name = "PARTS")]
    pub processing: Option<Processing>,
}

impl SoundArgs {
    /// For what needs no sound.
    pub fn none() -> Self {
        let none = || Some("none".to_owned());
        Self { mic: none(), speaker: none(), ringer: none(), processing: None }
    }
}
