//! What the commands do.

mod account;
mod calls;
mod contact;
mod devices;
mod dial;
mod directories;
mod history;
mod letters;
mod link;
mod number;
pub mod recording;
mod run;
mod screening;
mod service;
mod sign_up;
mod stats;
mod terminals;

use crate::cli::{Cli, Cmd, Presence, RejectArgs, VisibleTo};
use crate::config::{Context, Settings};
use crate::control::Remote;
use crate::control::sockets::{self, Running};
use crate::exit::{Failure, Outcome};
use crate::output::Printer;
use crate::own;
use crate::telephone::{Telephone as _, unexpected};
use clap::CommandFactory as _;
use futures::StreamExt as _;
use offhook::api::{ApiError, Command, ErrorCode, PresenceState, Reply, Visibility};
use offhook::phone::Phone;
use std::time::Duration;
use tokio::time::timeout;

/// How long a terminal may take to say farewell and close its files.
const TO_SHUT_DOWN: Duration = Duration::from_secs(15);

/// Does what the command line says.
pub async fn execute(cli: Cli, printer: Printer) -> Outcome {
    if let Cmd::Completions { shell } = cli.command {
        clap_complete::generate(shell, &mut Cli::command(), "offhook", &mut std::io::stdout());
        return Ok(());
    }
    let context = Context::new(&cli.global)?;
    if let Err(error) = context.home.sweep_left().await {
        tracing::warn!(%error, "something of an account that was wiped is still there");
    }
    match cli.command {
        Cmd::Account(command) => account::execute(&context, printer, command).await,
        Cmd::Run(args) => run::run(&context, printer, &args).await,
        Cmd::Dial(args) => dial::dial(&context, printer, &args).await,
        Cmd::Answer(args) => ask(&context, printer, Command::Answer { call: args.call }).await,
        Cmd::Reject(RejectArgs { call, voicemail, block }) => {
            ask(&context, printer, Command::Reject { call, voicemail, block }).await
        }
        Cmd::Block(command) => screening::block(&context, printer, command).await,
        Cmd::Dnd { command } => screening::dnd(&context, printer, command).await,
        Cmd::Strangers { may } => screening::strangers(&context, printer, may).await,
        Cmd::Hangup(args) => ask(&context, printer, Command::Hangup { call: args.call }).await,
        Cmd::Mute(args) => {
            ask(&context, printer, Command::Mute { call: args.call, on: args.state.is_on() }).await
        }
        Cmd::Hold(args) => {
            ask(&context, printer, Command::Hold { call: args.call, on: args.state.is_on() }).await
        }
        Cmd::Record(args) => recording::record(&context, printer, args).await,
        Cmd::Recording(command) => recording::execute(&context, printer, command).await,
        Cmd::Swap => ask(&context, printer, Command::Swap).await,
        Cmd::Transfer { number, call } => {
            let to = (!number.is_empty()).then(|| number.join(" "));
            ask(&context, printer, Command::Transfer { call, to }).await
        }
        Cmd::Follow { call, no } => ask(&context, printer, Command::Follow { call, yes: !no }).await,
        Cmd::Presence { state, text, visible_to } => {
            ask(&context, printer, presence(state, &text, visible_to)).await
        }
        Cmd::Volume { percent, call, ringer } => {
            ask(&context, printer, Command::Volume { call, percent, ringer }).await
        }
        Cmd::Dtmf { keys, call } => ask(&context, printer, Command::Dtmf { call, digits: keys }).await,
        Cmd::Shutdown => shut_down(&context, printer).await,
        Cmd::Verify { confirm } => ask(&context, printer, Command::Verify { call: None, confirm }).await,
        Cmd::Status => ask(&context, printer, Command::Status).await,
        Cmd::Stats(args) => stats::follow(&context, printer, args.call).await,
        Cmd::History(args) => history::execute(&context, printer, &args).await,
        Cmd::Messages(args) => letters::messages(&context, printer, args).await,
        Cmd::Voicemail(command) => letters::voicemail(&context, printer, command).await,
        Cmd::Text(args) => calls::text(&context, printer, &args).await,
        Cmd::Lookup(args) => calls::lookup(&context, printer, &args).await,
        Cmd::Devices { command } => devices::execute(&context, printer, command).await,
        Cmd::Contact(command) => contact::execute(&context, printer, command).await,
        Cmd::Directory(command) => directories::execute(&context, printer, command).await,
        Cmd::Terminals { command } => terminals::execute(&context, printer, command).await,
        Cmd::Number(command) => number::execute(&context, printer, command).await,
        Cmd::Link { no_qr } => link::print(&context, printer, no_qr).await,
        Cmd::Service { install } => service::execute(&context, printer, install),
        // Answered above, before a home is needed.
        Cmd::Completions { .. } => Ok(()),
    }
}

fn presence(state: Option<Presence>, text: &[String], visible_to: Option<VisibleTo>) -> Command {
    let state = state.map(|state| match state {
        Presence::Available => PresenceState::Available,
        Presence::Away => PresenceState::Away,
        Presence::Dnd => PresenceState::DoNotDisturb,
        Presence::Offline => PresenceState::Offline,
    });
    let visible = visible_to.map(|who| match who {
        VisibleTo::Contacts => Visibility::Contacts,
        VisibleTo::Verified => Visibility::Verified,
        VisibleTo::Nobody => Visibility::Nobody,
    });
    let note = (!text.is_empty()).then(|| text.join(" "));
    Command::Presence { state, note, visible }
}

/// A command that only a running terminal can carry out.
async fn ask(context: &Context, printer: Printer, command: Command) -> Outcome {
    let remote = running(context).await?.ok_or_else(Failure::not_running)?;
    let reply = remote.execute(command.clone()).await?;
    printer.result(&command, &reply);
    Ok(())
}

/// Ends the running terminal, and returns when it has ended.
async fn shut_down(context: &Context, printer: Printer) -> Outcome {
    let remote = running(context).await?.ok_or_else(Failure::not_running)?;
    let mut events = remote.events();
    let reply = remote.execute(Command::Shutdown).await?;
    let ended = async { while events.next().await.is_some() {} };
    if timeout(TO_SHUT_DOWN, ended).await.is_err() {
        return Err(Failure::new(ErrorCode::ShuttingDown, "The terminal takes long to end; it was told to."));
    }
    printer.reply(&reply);
    Ok(())
}

/// A command that needs nothing but the account's file: through the running terminal, or in the file if none runs.
async fn in_account(context: &Context, printer: Printer, command: Command) -> Outcome {
    let reply = match running(context).await? {
        Some(remote) => remote.execute(command.clone()).await,
        None => in_file(context, &command).await?,
    }?;
    printer.result(&command, &reply);
    Ok(())
}

/// Without a running terminal.
async fn in_file(context: &Context, command: &Command) -> Result<Result<Reply, ApiError>, Failure> {
    let store = context.home.open_account(&context.account_id().await?).await?;
    let reply = store.execute(command).await;
    store.close().await;
    Ok(reply.unwrap_or_else(|| Err(unexpected(&Reply::Done))))
}

/// The running terminal of the account that the user named, or of this home, if there is one.
async fn running(context: &Context) -> Result<Option<Remote>, Failure> {
    let mut remotes = sockets::remotes(context).await?;
    if remotes.is_empty() || (context.account.is_none() && remotes.len() == 1) {
        return Ok(remotes.pop());
    }
    let mut found = Vec::new();
    for remote in remotes {
        found.push(sockets::whose(remote).await?);
    }
    let is_named = context.account.is_some();
    let wanted = if is_named { Some(context.account_id().await?) } else { context.home.current().await.ok() };
    let ids: Vec<String> = found.iter().map(|running| running.account.clone()).collect();
    let is_it = |running: &Running| wanted.as_ref().is_some_and(|id| running.account == id.as_str());
    if let Some(running) = found.into_iter().find(is_it) {
        return Ok(Some(running.remote));
    }
    let is_here = context.home.accounts().await?.iter().any(|account| wanted.as_ref() == Some(&account.id));
    if is_named && is_here {
        return Ok(None);
    }
    let ids = ids.join(", ");
    Err(Failure::bad_input(match (is_named, wanted) {
        (true, Some(wanted)) => format!("The terminal that runs here is {ids}'s, not {wanted}'s."),
        (_, _) => format!("Several terminals run here: {ids}. Say whose is meant with --account."),
    }))
}

/// A telephone for one command, on line. What was typed is understood before it is started, and told if it names
/// nobody; where no entry point is configured, those of an invitation link serve.
async fn phone_to(context: &Context, typed: &str, mut settings: Settings) -> Result<Phone, Failure> {
    let store = context.home.open_account(&context.account_id().await?).await?;
    // The directory of a number in its full form is met once the terminal runs, if it is not known yet.
    let resolved = store.resolve_in_full(typed).await;
    store.close().await;
    drop(store);
    let link = resolved?;
    if settings.entry.is_empty() {
        settings.entry = link.via.iter().map(|addr| addr.as_str().to_owned()).collect();
    }
    own::start_on_line(context, &settings).await
}
