//! `offhook devices ...`

use clap::{Args, Subcommand};

/// `offhook devices ...`
#[derive(Debug, Subcommand)]
pub enum DevicesCmd {
    /// Use other devices from now on, in a call that lasts as well, and remember them in config.toml
    #[command(after_help = "\
Examples:
  offhook devices use --mic pulseaudio:alsa_input.usb-headset --speaker pulseaudio:alsa_output.usb-headset
  offhook devices use --ringer default

What is not named stays as it is. A device that is not there is refused, and nothing changes.")]
    Use(DevicesUseArgs),
    /// Play tones, listen for three seconds, play that back, and say what was found
    #[command(after_help = "\
It takes about nine seconds. The exit code is 1 if calls cannot be made like this: the microphone hears nothing at
all, or a device does not work.")]
    Test(DevicesTestArgs),
}

/// `offhook devices use`
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct DevicesUseArgs {
    /// Microphone: default, none, file:PATH.wav or an id from `offhook devices`
    #[arg(long, value_name = "DEVICE")]
    pub mic: Option<String>,
    /// Loudspeaker: default, none, file:PATH.wav or an id from `offhook devices`
    #[arg(long, value_name = "DEVICE")]
    pub speaker: Option<String>,
    /// What rings: default, none or an id from `offhook devices`
    #[arg(long, value_name = "DEVICE")]
    pub ringer: Option<String>,
}

/// `offhook devices test`
#[derive(Debug, Args)]
pub struct DevicesTestArgs {
    /// Microphone [default: the one that calls use]
    #[arg(long, env = "OFFHOOK_MIC", value_name = "DEVICE", hide_env_values = true)]
    pub mic: Option<String>,
    /// Loudspeaker [default: the one that calls use]
    #[arg(long, env = "OFFHOOK_SPEAKER", value_name = "DEVICE", hide_env_values = true)]
    pub speaker: Option<String>,
}
