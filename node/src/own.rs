//! A telephone of the command's own, when none is running.

use crate::cli::{Answer, Serve, Transfers, TurnUri};
use crate::config::{Context, Settings};
use crate::exit::Failure;
use crate::telephone::Telephone;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use offhook::TurnServer;
use offhook::api::{ApiError, Command, ErrorCode, LineState, Reply, TimedEvent};
use offhook::audio::{AudioError, DeviceKind, DeviceSpec};
use offhook::phone::{self, AnswerMode, Phone, PhoneError, TransferPolicy};
use offhook::sites::Web;
use std::convert::Infallible;
use std::io::IsTerminal as _;
use std::time::Duration;
use tokio::time::timeout;

/// How long a telephone that lives for one command may take to find the network.
const TO_GET_ON_LINE: Duration = Duration::from_secs(10);

/// How long a person waits without asking what for.
const PATIENCE: Duration = Duration::from_secs(1);

impl Telephone for Phone {
    async fn execute(&self, command: Command) -> Result<Reply, ApiError> {
        Self::execute(self, command).await
    }

    fn events(&self) -> BoxStream<'static, TimedEvent> {
        Self::events(self).boxed()
    }

    async fn stats(&self) -> Result<BoxStream<'static, TimedEvent>, ApiError> {
        Ok(Self::stats(self).await?.boxed())
    }
}

/// Starts a telephone. It may not be on line yet.
pub async fn start(context: &Context, settings: &Settings) -> Result<Phone, Failure> {
    let account = context.account_id().await?;
    let mut builder = Phone::builder(context.home.dir())
        .account(account.as_str())
        .listen(settings.listen.clone())
        .entry(settings.entry.clone())
        .external(settings.external.clone())
        .serve(match settings.serve {
            Serve::Auto => phone::Serve::Auto,
            Serve::Always => phone::Serve::Always,
            Serve::Off => phone::Serve::Off,
        })
        .mdns(settings.mdns)
        .publish_address(settings.publish_address)
        .relay_only(settings.relay_only)
        .port_mapping(settings.port_mapping)
        .turn(turn_servers(&settings.turn)?)
        .mic(device(&settings.mic)?)
        .speaker(device(&settings.speaker)?)
        .processing(settings.processing)
        .answer(match settings.answer {
            Answer::Manual => AnswerMode::Manual,
            Answer::Auto => AnswerMode::Auto,
            Answer::Machine => AnswerMode::Machine,
        })
        .machine(settings.machine.clone())
        .recordable(settings.recordable)
        .call_waiting(settings.call_waiting)
        .transfers(match settings.transfers {
            Transfers::Contacts => TransferPolicy::Contacts,
            Transfers::Everybody => TransferPolicy::Everybody,
            Transfers::Nobody => TransferPolicy::Nobody,
        })
        .ring_timeout(settings.ring_timeout)
        .sites(sites(&settings.directory_site)?);
    if let Some(ringer) = &settings.ringer {
        builder = builder.ringer(device(ringer)?);
    }
    if let Some(on) = settings.allow_private {
        builder = builder.allow_private(on);
    }
    builder.build().await.map_err(failure)
}

/// Starts a telephone for one command and waits until it can call: that is when a directory knows it, well before
/// its own number is published.
pub async fn start_on_line(context: &Context, settings: &Settings) -> Result<Phone, Failure> {
    let phone = start(context, settings).await?;
    let decided = phone.until_line(|line| match line {
        LineState::Publishing | LineState::Online | LineState::Alone => true,
        LineState::Starting | LineState::Offline => false,
    });
    let decided = tokio::select! {
        decided = timeout(TO_GET_ON_LINE, decided) => decided,
        never = tell_who_waits() => match never {},
    };
    let sentence = match decided {
        Ok(Ok(LineState::Publishing | LineState::Online)) => return Ok(phone),
        Ok(Ok(LineState::Alone)) => "No entry point into the network is known. Name one with --entry.",
        Ok(Ok(LineState::Starting | LineState::Offline)) | Err(_) => {
            "The network can't be reached. Is this computer on line, and is --entry right?"
        }
        Ok(Err(error)) => return Err(error.into()),
    };
    phone.shutdown().await;
    Err(Failure::new(ErrorCode::Offline, sentence))
}

/// Tells a person who waits what for; nothing to a script, whose standard error is for what went wrong.
async fn tell_who_waits() -> Infallible {
    tokio::time::sleep(PATIENCE).await;
    if std::io::stderr().is_terminal() {
        eprintln!("Going on line …");
    }
    std::future::pending().await
}

/// Sentences for a user who relies on the default devices where there are none. Takes some hundred milliseconds.
pub fn missing_devices(settings: &Settings) -> Vec<&'static str> {
    let wanted = |name: &str| name == DeviceSpec::Default.to_string();
    if !wanted(&settings.mic) && !wanted(&settings.speaker) {
        return Vec::new();
    }
    let devices = offhook::audio::devices();
    let missing = |kind| !devices.iter().any(|device| device.kind == kind);
    let mut sentences = Vec::new();
    if wanted(&settings.mic) && missing(DeviceKind::Mic) {
        sentences
            .push("No microphone was found: others will not hear you. If that is meant, say --mic none.");
    }
    if wanted(&settings.speaker) && missing(DeviceKind::Speaker) {
        sentences
            .push("No loudspeaker was found: you will hear nobody. If that is meant, say --speaker none.");
    }
    sentences
}

/// The device that a setting names.
pub fn device(text: &str) -> Result<DeviceSpec, Failure> {
    text.parse().map_err(|error| Failure::bad_input(format!("{error}.")))
}

fn failure(error: PhoneError) -> Failure {
    if let PhoneError::Audio(AudioError::NoDevice(name)) = &error {
        let known = "`offhook devices` lists those there are.";
        return Failure::bad_input(format!("There is no sound device {name}. {known}"));
    }
    error.to_api().into()
}

/// Where directories' sites are that are not at `https://NAME`.
fn sites(texts: &[String]) -> Result<Web, Failure> {
    let mut web = Web::default();
    for text in texts {
        let is_web = |url: &&str| url.starts_with("http://") || url.starts_with("https://");
        let parts = text.split_once('=').filter(|(name, url)| !name.is_empty() && is_web(url));
        let sentence = || format!("--directory-site: \"{text}\" is not NAME=URL.");
        let (name, url) = parts.ok_or_else(|| Failure::bad_input(sentence()))?;
        web = web.with_site(name.trim().to_ascii_lowercase(), url.trim_end_matches('/'));
    }
    Ok(web)
}

/// The TURN servers that the settings name. The mistaken text is not repeated: there may be a password in it.
fn turn_servers(texts: &[TurnUri]) -> Result<Vec<TurnServer>, Failure> {
    let read =
        |text: &TurnUri| text.0.parse().map_err(|error| Failure::bad_input(format!("--turn: {error}.")));
    texts.iter().map(read).collect()
}
