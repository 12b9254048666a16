//! What the commands do.

mod account;
mod calls;
mod contact;
mod devices;
mod dial;
mod link;
mod run;
mod service;

use crate::cli::{Cli, Cmd, NetworkArgs, SoundArgs};
use crate::config::Context;
use crate::control::Remote;
use crate::exit::{Failure, Outcome};
use crate::output::Printer;
use crate::own;
use clap::CommandFactory as _;
use offhook::api::{Command, Reply};
use offhook::phone::Phone;

/// Does what the command line says.
pub async fn execute(cli: Cli, printer: Printer) -> Outcome {
    if let Cmd::Completions { shell } = cli.command {
        clap_complete::generate(shell, &mut Cli::command(), "offhook", &mut std::io::stdout());
        return Ok(());
    }
    let context = Context::new(&cli.global)?;
    match cli.command {
        Cmd::Account(command) => account::execute(&context, printer, command).await,
        Cmd::Run(args) => run::run(&context, printer, &args).await,
        Cmd::Dial(args) => dial::dial(&context, printer, &args).await,
        Cmd::Answer(args) => ask(&context, printer, Command::Answer { call: args.call }).await,
        Cmd::Reject(args) => ask(&context, printer, Command::Reject { call: args.call }).await,
        Cmd::Hangup(args) => ask(&context, printer, Command::Hangup { call: args.call }).await,
        Cmd::Verify { confirm } => ask(&context, printer, Command::Verify { call: None, confirm }).await,
        Cmd::Status => ask(&context, printer, Command::Status).await,
        Cmd::Text(args) => calls::text(&context, printer, &args).await,
        Cmd::Lookup(args) => calls::lookup(&context, printer, &args).await,
        Cmd::Devices => devices::list(printer).await,
        Cmd::Contact(command) => contact::execute(&context, printer, command).await,
        Cmd::Link { no_qr } => link::print(&context, printer, no_qr).await,
        Cmd::Service { install } => service::execute(&context, printer, install),
        // Answered above, before a home is needed.
        Cmd::Completions { .. } => Ok(()),
    }
}

/// A command that only a running terminal can carry out.
async fn ask(context: &Context, printer: Printer, command: Command) -> Outcome {
    let remote = running(context).await?.ok_or_else(Failure::not_running)?;
    let reply = crate::telephone::Telephone::execute(&remote, command).await?;
    printer.reply(&reply);
    Ok(())
}

/// The running terminal of this home, if there is one. If the user named an account, it must be that one's.
async fn running(context: &Context) -> Result<Option<Remote>, Failure> {
    let Some(remote) = Remote::connect(&context.socket()).await? else { return Ok(None) };
    if context.account.is_some() {
        let wanted = context.account_id().await?;
        let status = crate::telephone::Telephone::execute(&remote, Command::Status).await?;
        let Reply::Status(status) = status else { return Err(crate::telephone::unexpected(&status).into()) };
        if status.account != wanted.as_str() {
            return Err(Failure::bad_input(format!(
                "The terminal that runs here is {}'s, not {wanted}'s.",
                status.account
            )));
        }
    }
    Ok(Some(remote))
}

/// A telephone for one command, on line, without sound.
async fn silent_phone(context: &Context, network: &NetworkArgs) -> Result<Phone, Failure> {
    let none = || Some("none".to_owned());
    let settings = context.settings(network, &SoundArgs { mic: none(), speaker: none() }, None)?;
    own::start_on_line(context, &settings).await
}
