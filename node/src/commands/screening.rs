//! `offhook block ...`, `offhook dnd ...` and `offhook strangers`.

use super::in_account;
use crate::cli::{BlockCmd, DndCmd, StrangersMay};
use crate::config::Context;
use crate::exit::{Failure, Outcome};
use crate::output::Printer;
use crate::times;
use offhook::api::{Command, ScreeningChange, Strangers};

/// Does what `block` says.
pub async fn block(context: &Context, printer: Printer, command: BlockCmd) -> Outcome {
    let command = match command {
        BlockCmd::Add { number } => Command::BlockAdd { number: number.join(" ") },
        BlockCmd::Remove { number } => Command::BlockRemove { number: number.join(" ") },
        BlockCmd::List => Command::BlockList,
    };
    in_account(context, printer, command).await
}

/// Does what `dnd` says.
pub async fn dnd(context: &Context, printer: Printer, command: Option<DndCmd>) -> Outcome {
    let change = match command.unwrap_or(DndCmd::Show) {
        DndCmd::On { minutes } => {
            ScreeningChange { quiet: Some(true), minutes, ..ScreeningChange::default() }
        }
        DndCmd::Off => ScreeningChange { quiet: Some(false), ..ScreeningChange::default() },
        DndCmd::Schedule { words } => {
            let times = times::parse(&words.join(" ")).map_err(Failure::bad_input)?;
            ScreeningChange { times: Some(times), ..ScreeningChange::default() }
        }
        DndCmd::Except(args) => ScreeningChange {
            always: args.always,
            not_always: args.not_always,
            contacts_ring: args.contacts.map(|on| on.is_on()),
            again_rings: args.again.map(|on| on.is_on()),
            ..ScreeningChange::default()
        },
        DndCmd::Show => ScreeningChange::default(),
    };
    in_account(context, printer, Command::Screening(change)).await
}

/// Does what `strangers` says.
pub async fn strangers(context: &Context, printer: Printer, may: Option<StrangersMay>) -> Outcome {
    let strangers = may.map(|may| match may {
        StrangersMay::Ring => Strangers::Ring,
        StrangersMay::Work => Strangers::Work,
        StrangersMay::Voicemail => Strangers::Voicemail,
        StrangersMay::Refuse => Strangers::Refuse,
    });
    let change = ScreeningChange { strangers, ..ScreeningChange::default() };
    in_account(context, printer, Command::Screening(change)).await
}
