//! A telephone of the command's own, when none is running.

use crate::cli::Answer;
use crate::config::{Context, Settings};
use crate::exit::{Exit, Failure};
use crate::telephone::Telephone;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use offhook::api::{ApiError, Command, Reply, TimedEvent};
use offhook::audio::DeviceSpec;
use offhook::phone::{AnswerMode, Phone, PhoneError};
use std::time::Duration;
use tokio::time::timeout;

/// How long a telephone that lives for one command may take to find the network.
const TO_GET_ON_LINE: Duration = Duration::from_secs(20);

/// How often a telephone that is getting on line is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Telephone for Phone {
    async fn execute(&self, command: Command) -> Result<Reply, ApiError> {
        Self::execute(self, command).await
    }

    fn events(&self) -> BoxStream<'static, TimedEvent> {
        Self::events(self).boxed()
    }
}

/// Starts a telephone. It may not be on line yet.
pub async fn start(context: &Context, settings: &Settings) -> Result<Phone, Failure> {
    let account = context.account_id().await?;
    Phone::builder(context.home.dir())
        .account(account.as_str())
        .listen(settings.listen.clone())
        .entry(settings.entry.clone())
        .external(settings.external.clone())
        .server(settings.server)
        .mdns(settings.mdns)
        .publish_address(settings.publish_address)
        .allow_private(settings.allow_private)
        .mic(device(&settings.mic)?)
        .speaker(device(&settings.speaker)?)
        .answer(match settings.answer {
            Answer::Manual => AnswerMode::Manual,
            Answer::Auto => AnswerMode::Auto,
        })
        .ring_timeout(settings.ring_timeout)
        .build()
        .await
        .map_err(failure)
}

/// Starts a telephone for one command and waits until it can call: that is when a directory knows it, well before
/// its own number is published.
pub async fn start_on_line(context: &Context, settings: &Settings) -> Result<Phone, Failure> {
    let phone = start(context, settings).await?;
    match timeout(TO_GET_ON_LINE, able_to_call(&phone)).await {
        Ok(Ok(())) => Ok(phone),
        Ok(Err(failure)) => {
            phone.shutdown().await;
            Err(failure)
        }
        Err(_) => {
            phone.shutdown().await;
            Err(Failure::new(
                Exit::Offline,
                "The network can't be reached. Is this computer on line, and is --entry right?",
            ))
        }
    }
}

async fn able_to_call(phone: &Phone) -> Result<(), Failure> {
    let mut look = tokio::time::interval(LOOK_AGAIN);
    loop {
        look.tick().await;
        let reply = phone.execute(Command::Status).await?;
        let Reply::Status(status) = reply else { return Err(crate::telephone::unexpected(&reply).into()) };
        if status.online || status.directories > 0 {
            return Ok(());
        }
    }
}

fn device(text: &str) -> Result<DeviceSpec, Failure> {
    text.parse().map_err(|error| Failure::bad_input(format!("{error}.")))
}

fn failure(error: PhoneError) -> Failure {
    if let PhoneError::Storage(error) = error { error.into() } else { error.to_api().into() }
}
