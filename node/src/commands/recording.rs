//! `offhook record` and `offhook recording ...`. What is on the disk needs no running terminal.

use super::{ask, running};
use crate::cli::{NetworkArgs, Record, RecordArgs, RecordingCmd, SoundArgs};
use crate::config::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Printer, Teller};
use crate::own::device;
use crate::signals::Interrupts;
use crate::telephone::{Telephone, unexpected};
use crate::text;
use futures::StreamExt as _;
use offhook::api::{Command, ErrorCode, Event, RecordingEvent, Reply};
use offhook::audio::DeviceSpec;
use offhook::recording::{RecordingError, Recordings, Track};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::timeout;

/// How long it may take until a recording has begun: the other end has 8 s to allow it.
const TO_BEGIN: Duration = Duration::from_secs(10);

/// `offhook record`
pub async fn record(context: &Context, printer: Printer, args: RecordArgs) -> Outcome {
    let command = command(args.what, args.call);
    if !matches!(command, Command::Record { on: true, .. }) {
        return ask(context, printer, command).await;
    }
    let remote = running(context).await?.ok_or_else(Failure::not_running)?;
    begin(&remote, printer, command).await
}

/// Waits until the recording has begun, or it is known why not.
async fn begin(telephone: &impl Telephone, printer: Printer, command: Command) -> Outcome {
    let mut events = telephone.events();
    let before = telephone.execute(Command::Status).await?;
    let Reply::Status(before) = before else { return Err(unexpected(&before).into()) };
    let reply = telephone.execute(command).await?;
    let Reply::Call { call } = &reply else { return Err(unexpected(&reply).into()) };
    if before.calls.iter().any(|one| one.recording && one.call == *call) {
        printer.reply(&reply);
        printer.remark("The call is being recorded already.");
        return Ok(());
    }
    let outcome = async {
        while let Some(event) = events.next().await {
            if let Some(outcome) = begun(&event.event, call) {
                Teller::new(printer).event(&event);
                return outcome;
            }
        }
        Err(Failure::new(ErrorCode::ShuttingDown, "The terminal ended before the recording began."))
    };
    match timeout(TO_BEGIN, outcome).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new(ErrorCode::Network, "Nothing is known of the recording yet.")),
    }
}

/// Whether an event ends the wait for a recording of the call, and how. The event itself tells it in words.
fn begun(event: &Event, call: &str) -> Option<Outcome> {
    if let Event::Recording(told @ RecordingEvent::Started { .. }) = event {
        return (told.call() == call).then_some(Ok(()));
    }
    let failed = matches!(event, Event::Recording(_) | Event::Ended { .. }) && event.call() == Some(call);
    failed.then(|| Err(Failure::silent(Exit::Failed)))
}

/// What is meant by the word.
pub fn command(what: Record, call: Option<String>) -> Command {
    match what {
        Record::On => Command::Record { call, on: true },
        Record::Off => Command::Record { call, on: false },
        Record::Allow => Command::Recordable { call, on: true },
        Record::Refuse => Command::Recordable { call, on: false },
    }
}

/// `offhook recording`
pub async fn execute(context: &Context, printer: Printer, command: RecordingCmd) -> Outcome {
    let folder = context.home.recordings(&context.account_id().await?).await?;
    match command {
        RecordingCmd::List { kind } => {
            let mut recordings = of_disk(move || folder.list()).await?;
            recordings.retain(|one| kind.is_none_or(|kind| one.kind == kind.into()));
            printer.reply(&Reply::Recordings { recordings });
            Ok(())
        }
        RecordingCmd::Play { name, track, speaker } => {
            let sound = SoundArgs { speaker, ..SoundArgs::default() };
            let settings = context.settings(&NetworkArgs::default(), &sound, None)?;
            play(printer, folder, name, track, device(&settings.speaker)?).await
        }
        RecordingCmd::Export { name, file, track } => export(printer, folder, name, track, file).await,
        RecordingCmd::Delete { names } => delete(printer, folder, names).await,
    }
}

async fn play(
    printer: Printer,
    folder: Recordings,
    name: String,
    track: Track,
    speaker: DeviceSpec,
) -> Outcome {
    if matches!(speaker, DeviceSpec::File(_)) {
        let sentence =
            "A recording is played through a loudspeaker (--speaker); `recording export` writes files.";
        return Err(Failure::bad_input(sentence));
    }
    let mut interrupts = Interrupts::new()?;
    let stop = Arc::new(AtomicBool::new(false));
    let played = of_disk({
        let stop = stop.clone();
        move || folder.play(&name, track, &speaker, &stop)
    });
    tokio::pin!(played);
    let played = tokio::select! {
        played = &mut played => played?,
        () = interrupts.next() => {
            stop.store(true, Relaxed);
            played.await?
        }
    };
    told(printer, "played", played, &format!("Played {}.", text::duration_of(played)));
    Ok(())
}

async fn export(printer: Printer, folder: Recordings, name: String, track: Track, file: PathBuf) -> Outcome {
    let shown = file.display().to_string();
    let length = of_disk(move || folder.export(&name, track, &file)).await?;
    told(printer, "exported", length, &format!("{shown} has {} of it.", text::duration_of(length)));
    Ok(())
}

async fn delete(printer: Printer, folder: Recordings, names: Vec<String>) -> Outcome {
    for name in names {
        let folder = folder.clone();
        let deleted = of_disk(move || folder.delete(&name)).await?;
        if printer.json() {
            printer.value(&json!({ "reply": "deleted", "recording": deleted }));
        } else {
            printer.line(&format!("{deleted} is deleted."));
        }
    }
    Ok(())
}

fn told(printer: Printer, reply: &str, length: Duration, sentence: &str) {
    if printer.json() {
        printer.value(&json!({ "reply": reply, "duration_ms": length.as_millis() as u64 }));
    } else {
        printer.line(sentence);
    }
}

/// Disks and loudspeakers take their time.
async fn of_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RecordingError> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| Failure::system("A worker thread stopped."))?;
    done.map_err(|error| error.to_api().into())
}
