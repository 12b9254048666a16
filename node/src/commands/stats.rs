//! `offhook stats`: how a call goes, until it is over.

use super::running;
use crate::config::Context;
use crate::exit::{Failure, Outcome};
use crate::output::{Printer, Teller};
use crate::signals::Interrupts;
use crate::telephone::{Telephone, unexpected};
use crate::text;
use futures::StreamExt as _;
use offhook::api::{ApiError, CallRef, Command, ErrorCode, Event, Reply, TimedEvent};

/// Prints a line a second about a call of the running terminal.
pub async fn follow(context: &Context, printer: Printer, call: Option<CallRef>) -> Outcome {
    let mut interrupts = Interrupts::new()?;
    let remote = running(context).await?.ok_or_else(Failure::not_running)?;
    // Before the call is looked for: its end is not to be missed.
    let mut events = remote.events();
    let mut stats = remote.stats().await?;
    let call = which(&remote, call).await?;
    loop {
        tokio::select! {
            Some(event) = stats.next() => show(printer, &event, &call),
            event = events.next() => match event {
                Some(event) if ends(&event, &call) => {
                    Teller::new(printer).event(&event);
                    return Ok(());
                }
                Some(_) => {}
                None => return Err(Failure::new(ErrorCode::ShuttingDown, "The terminal ended during the call.")),
            },
            () = interrupts.next() => return Ok(()),
        }
    }
}

/// The call that is meant: the one that is named, or else the one in which people talk, or any.
async fn which(telephone: &impl Telephone, named: Option<CallRef>) -> Result<CallRef, Failure> {
    let reply = telephone.execute(Command::Status).await?;
    let Reply::Status(status) = reply else { return Err(unexpected(&reply).into()) };
    let mut calls = status.calls;
    // Stable: the oldest first among equals.
    calls.sort_by_key(|call| call.stats.path.is_none());
    let meant = calls.into_iter().find(|call| named.as_ref().is_none_or(|named| call.call == *named));
    let none = if named.is_some() { "There is no such call." } else { "There is no call." };
    meant.map(|call| call.call).ok_or_else(|| ApiError::new(ErrorCode::NoCall, none).into())
}

fn show(printer: Printer, event: &TimedEvent, followed: &CallRef) {
    if let Event::Stats { call, stats } = &event.event
        && call == followed
    {
        if printer.json() { printer.value(event) } else { printer.line(&text::stats(stats)) }
    }
}

fn ends(event: &TimedEvent, followed: &CallRef) -> bool {
    matches!(&event.event, Event::Ended { call, .. } if call == followed)
}
