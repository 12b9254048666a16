//! `offhook devices ...`

use super::running;
use crate::cli::{DevicesCmd, DevicesTestArgs, DevicesUseArgs, NetworkArgs, SoundArgs};
use crate::config::{Context, Settings};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Printer;
use crate::telephone::Telephone as _;
use crate::text;
use offhook::api::{ChosenDevices, Command, DevicesResult, ErrorCode, Reply};
use offhook::audio::{self, AudioError, DeviceChoice, DeviceSpec, SoundTest, TrialStep};
use std::io::{IsTerminal as _, Write as _};

/// Does what the command says.
pub async fn execute(context: &Context, printer: Printer, command: Option<DevicesCmd>) -> Outcome {
    match command {
        None => list(context, printer).await,
        Some(DevicesCmd::Use(args)) => choose(context, printer, args).await,
        Some(DevicesCmd::Test(args)) => test(context, printer, args).await,
    }
}

/// Lists the sound devices, and which of them are chosen.
async fn list(context: &Context, printer: Printer) -> Outcome {
    let reply = match running(context).await? {
        Some(remote) => remote.execute(Command::Devices).await?,
        None => {
            let chosen = chosen(&settings(context, &SoundArgs::default())?);
            Reply::Devices(DevicesResult { devices: asked(audio::devices).await?, chosen })
        }
    };
    printer.reply(&reply);
    Ok(())
}

/// Chooses devices: in the running terminal if there is one, and for later.
async fn choose(context: &Context, printer: Printer, args: DevicesUseArgs) -> Outcome {
    let [mic, speaker, ringer] =
        [args.mic, args.speaker, args.ringer].map(|name| name.map(absolute).transpose());
    let (mic, speaker, ringer) = (mic?, speaker?, ringer?);
    let command = Command::UseDevices { mic: mic.clone(), speaker: speaker.clone(), ringer: ringer.clone() };
    match running(context).await? {
        Some(remote) => drop(remote.execute(command.clone()).await?),
        None => {
            let choice = DeviceChoice::parse(mic.as_deref(), speaker.as_deref(), ringer.as_deref());
            let choice = choice.map_err(|error| unusable(&error))?;
            asked(move || choice.check()).await?.map_err(|error| unusable(&error))?;
        }
    }
    remember(context, &command)?;
    printer.result(&command, &Reply::Done);
    Ok(())
}

/// Writes the devices that a command has chosen into the configuration.
pub fn remember(context: &Context, command: &Command) -> Outcome {
    let Command::UseDevices { mic, speaker, ringer } = command else { return Ok(()) };
    let named = [("mic", mic), ("speaker", speaker), ("ringer", ringer)];
    let changes: Vec<_> =
        named.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?))).collect();
    context.remember(&changes)
}

/// Another program may run in another directory.
fn absolute(device: String) -> Result<String, Failure> {
    let Some(path) = device.strip_prefix("file:").filter(|path| !path.is_empty()) else { return Ok(device) };
    let path = std::path::absolute(path).map_err(|error| Failure::system(format!("{path}: {error}.")))?;
    Ok(DeviceSpec::File(path).to_string())
}

/// Tests microphone and loudspeaker.
async fn test(context: &Context, printer: Printer, args: DevicesTestArgs) -> Outcome {
    let sound = SoundArgs { mic: args.mic, speaker: args.speaker, ringer: None, processing: None };
    let settings = settings(context, &sound)?;
    let read = |name: &str| name.parse::<DeviceSpec>().map_err(|error| unusable(&error));
    let (mic, speaker) = (read(&settings.mic)?, read(&settings.speaker)?);
    let told = move |step: TrialStep| tell(printer, step);
    let found = asked(move || audio::sound_test(&mic, &speaker, told)).await?;
    print(printer, &found);
    if found.passed() { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
}

/// What is going on, for people.
fn tell(printer: Printer, step: TrialStep) {
    if printer.json() {
        return;
    }
    let terminal = std::io::stdout().is_terminal();
    match step {
        TrialStep::Listening => printer.line("Listening to the room …"),
        TrialStep::Playing => printer.line("You should hear three tones …"),
        TrialStep::Speak => printer.line("Say something, for three seconds …"),
        TrialStep::Level(level) if terminal => {
            let mut out = std::io::stdout().lock();
            // Whoever closed the pipe does not want to know more.
            let _ = write!(out, "\r{}", text::meter(level)).and_then(|()| out.flush());
        }
        TrialStep::Level(_) => {}
        TrialStep::Replaying => {
            let after_the_meter = if terminal { "\n" } else { "" };
            printer.line(&format!("{after_the_meter}You should hear yourself …"));
        }
    }
}

fn print(printer: Printer, found: &SoundTest) {
    if !printer.json() {
        return printer.line(&text::sound_test(found));
    }
    let mut value = serde_json::json!({ "reply": "sound_test", "passed": found.passed() });
    if let (Some(to), Ok(serde_json::Value::Object(from))) =
        (value.as_object_mut(), serde_json::to_value(found))
    {
        to.extend(from);
    }
    printer.value(&value);
}

fn settings(context: &Context, sound: &SoundArgs) -> Result<Settings, Failure> {
    context.settings(&NetworkArgs::default(), sound, None)
}

fn chosen(settings: &Settings) -> ChosenDevices {
    let (mic, speaker) = (settings.mic.clone(), settings.speaker.clone());
    let ringer = settings.ringer.clone().unwrap_or_else(|| speaker.clone());
    ChosenDevices { mic, speaker, ringer }
}

/// Sound systems take their time to answer.
async fn asked<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let answer = tokio::task::spawn_blocking(ask).await;
    answer.map_err(|_| Failure::system("The sound system can't be asked."))
}

fn unusable(error: &AudioError) -> Failure {
    let known = match error {
        AudioError::NoDevice(_) => " `offhook devices` lists those there are.",
        AudioError::NoName
        | AudioError::Device { .. }
        | AudioError::Stalled
        | AudioError::File { .. }
        | AudioError::Codec => "",
    };
    Failure::new(ErrorCode::BadInput, format!("{}{known}", text::sentence(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_the_same_in_every_directory() {
        let here = std::env::current_dir().unwrap();
        let expected = format!("file:{}", here.join("a b.wav").display());
        assert_eq!(absolute("file:a b.wav".into()).unwrap(), expected);
        for same in ["default", "none", "file:", "file:/x.wav", "alsa:hw:CARD=0"] {
            assert_eq!(absolute(same.into()).unwrap(), same);
        }
    }
}
