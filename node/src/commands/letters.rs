//! `offhook messages` and `offhook voicemail ...`

use super::{ask, in_account, phone_to, running};
use crate::cli::{MessagesArgs, MessagesCmd, NetworkArgs, SoundArgs, VoicemailCmd};
use crate::config::Context;
use crate::exit::{Failure, Outcome, text_outcome};
use crate::output::{Printer, Teller};
use crate::own::device;
use crate::signals::Interrupts;
use crate::telephone::{Telephone, unexpected};
use crate::text::duration_of;
use futures::StreamExt as _;
use offhook::api::{Command, ErrorCode, Reply};
use offhook::audio::DeviceSpec;
use offhook::recording::{RecordingError, Voice};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::timeout;

/// How long it may take until a directory has a voice message: two megabytes over a slow line.
const TO_LEAVE: Duration = Duration::from_secs(180);

/// `offhook messages`
pub async fn messages(context: &Context, printer: Printer, args: MessagesArgs) -> Outcome {
    match args.command {
        Some(MessagesCmd::Read { contact }) => {
            ask(context, printer, Command::MessagesRead { with: contact }).await
        }
        None => {
            let command = Command::Messages { with: args.with, limit: Some(args.limit) };
            in_account(context, printer, command).await
        }
    }
}

/// `offhook voicemail`
pub async fn voicemail(context: &Context, printer: Printer, command: VoicemailCmd) -> Outcome {
    match command {
        VoicemailCmd::List => in_account(context, printer, Command::Voicemails).await,
        VoicemailCmd::Save { voicemail, file } => {
            let file = std::path::absolute(&file).map_err(|error| Failure::bad_input(error.to_string()))?;
            in_account(context, printer, Command::VoicemailSave { voicemail, file }).await
        }
        VoicemailCmd::Delete { voicemails } => {
            for voicemail in voicemails {
                in_account(context, printer, Command::VoicemailDelete { voicemail }).await?;
            }
            Ok(())
        }
        VoicemailCmd::Play { voicemail, speaker } => play(context, printer, voicemail, speaker).await,
        VoicemailCmd::Leave { number, file, listen, mic, speaker } => {
            let sound = SoundArgs { mic, speaker, ..SoundArgs::default() };
            leave(context, printer, &number.join(" "), file, listen, &sound).await
        }
    }
}

async fn play(context: &Context, printer: Printer, voicemail: i64, speaker: Option<String>) -> Outcome {
    let sound = SoundArgs { speaker, ..SoundArgs::default() };
    let speaker = device(&context.settings(&NetworkArgs::default(), &sound, None)?.speaker)?;
    let folder = tempfile::tempdir().map_err(|error| Failure::system(error.to_string()))?;
    let file = folder.path().join("voicemail.opus");
    let command = Command::VoicemailSave { voicemail, file: file.clone() };
    match running(context).await? {
        Some(remote) => remote.execute(command).await,
        None => super::in_file(context, &command).await?,
    }?;
    let audio = std::fs::read(&file).map_err(|error| Failure::system(error.to_string()))?;
    let (played, _) = listen_to(audio, speaker).await?;
    if printer.json() {
        printer.value(&json!({ "reply": "played", "duration_ms": played.as_millis() as u64 }));
    } else {
        printer.line(&format!("Played {}.", duration_of(played)));
    }
    Ok(())
}

/// Plays until it is over or the user interrupts it; whether he did.
async fn listen_to(audio: Vec<u8>, speaker: DeviceSpec) -> Result<(Duration, bool), Failure> {
    until_interrupted(move |stop| Voice::play(audio, &speaker, &stop)).await
}

/// Does what takes its time, until it is over or the user interrupts it.
async fn until_interrupted<T: Send + 'static>(
    work: impl FnOnce(Arc<AtomicBool>) -> Result<T, RecordingError> + Send + 'static,
) -> Result<(T, bool), Failure> {
    let mut interrupts = Interrupts::new()?;
    let stop = Arc::new(AtomicBool::new(false));
    let done = tokio::task::spawn_blocking({
        let stop = stop.clone();
        move || work(stop)
    });
    tokio::pin!(done);
    let done = tokio::select! {
        done = &mut done => done,
        () = interrupts.next() => {
            stop.store(true, Relaxed);
            done.await
        }
    };
    let done = done.map_err(|_| Failure::system("A worker thread stopped."))?;
    Ok((done.map_err(|error| Failure::from(error.to_api()))?, stop.load(Relaxed)))
}

async fn leave(
    context: &Context,
    printer: Printer,
    number: &str,
    file: Option<PathBuf>,
    listen: bool,
    sound: &SoundArgs,
) -> Outcome {
    let settings = context.settings(&NetworkArgs::default(), sound, None)?;
    let speaker = device(&settings.speaker)?;
    let voice = match file {
        Some(file) => until_interrupted(move |_| Voice::read(&file)).await?.0,
        None => {
            let mic = device(&settings.mic)?;
            printer.remark("Speak after the tone; Ctrl-C ends the message.");
            let speaker = speaker.clone();
            until_interrupted(move |stop| Voice::record(&mic, &speaker, &stop)).await?.0
        }
    };
    printer.remark(&format!("The message is {} long.", duration_of(voice.duration)));
    if listen && listen_to(voice.audio.clone(), speaker).await?.1 {
        return Err(Failure::bad_input("The message was not sent."));
    }
    let folder = tempfile::tempdir().map_err(|error| Failure::system(error.to_string()))?;
    let file = folder.path().join("message.opus");
    std::fs::write(&file, &voice.audio).map_err(|error| Failure::system(error.to_string()))?;
    if let Some(remote) = running(context).await? {
        return send(&remote, printer, number, file).await;
    }
    let phone = phone_to(context, number, settings).await?;
    let outcome = send(&phone, printer, number, file).await;
    phone.shutdown().await;
    outcome
}

async fn send(telephone: &impl Telephone, printer: Printer, number: &str, file: PathBuf) -> Outcome {
    let mut events = telephone.events();
    let reply = telephone.execute(Command::VoicemailLeave { number: number.to_owned(), file }).await?;
    let Reply::Message { id } = reply else { return Err(unexpected(&reply).into()) };
    let outcome = async {
        while let Some(event) = events.next().await {
            if let Some(outcome) = text_outcome(&event.event, &id) {
                Teller::new(printer).event(&event);
                return outcome;
            }
        }
        Err(Failure::new(ErrorCode::ShuttingDown, "The terminal ended before the message was left."))
    };
    match timeout(TO_LEAVE, outcome).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new(ErrorCode::Network, "The message is not at a directory yet.")),
    }
}
