//! A telephone of the command's own, when none is running.

use crate::cli::Answer;
use crate::config::{Context, Settings};
use crate::exit::{Exit, Failure};
use crate::telephone::Telephone;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use offhook::api::{ApiError, Command, Event, Reply, TimedEvent};
use offhook::audio::DeviceSpec;
use offhook::phone::{AnswerMode, Phone, PhoneError};
use std::time::Duration;
use tokio::time::timeout;

/// How long a telephone that lives for one command may take to find the network.
const TO_GET_ON_LINE: Duration = Duration::from_secs(20);

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

/// Starts a telephone for one command and waits until it is on line.
pub async fn start_on_line(context: &Context, settings: &Settings) -> Result<Phone, Failure> {
    let phone = start(context, settings).await?;
    let mut events = Telephone::events(&phone);
    let on_line = async {
        if is_on_line(&phone).await? {
            return Ok(());
        }
        while let Some(event) = events.next().await {
            if let Event::Online { .. } = event.event {
                return Ok(());
            }
        }
        Err(Failure::failed("The telephone ended by itself."))
    };
    match timeout(TO_GET_ON_LINE, on_line).await {
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

async fn is_on_line(phone: &Phone) -> Result<bool, Failure> {
    let reply = phone.execute(Command::Status).await?;
    let Reply::Status(status) = reply else { return Err(crate::telephone::unexpected(&reply).into()) };
    Ok(status.online)
}

fn device(text: &str) -> Result<DeviceSpec, Failure> {
    text.parse().map_err(|error| Failure::bad_input(format!("{error}.")))
}

fn failure(error: PhoneError) -> Failure {
    if let PhoneError::Storage(error) = error { error.into() } else { error.to_api().into() }
}
