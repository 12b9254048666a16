//! `offhook text` and `offhook lookup`.

use super::{phone_to, running};
use crate::cli::{LookupArgs, SoundArgs, TextArgs};
use crate::config::Context;
use crate::console::{joined, split_number};
use crate::exit::{Exit, Failure, Outcome, text_outcome};
use crate::output::{Printer, Teller};
use crate::telephone::{Telephone, unexpected};
use futures::StreamExt as _;
use offhook::api::{Command, ErrorCode, Reply};
use std::time::Duration;
use tokio::time::timeout;

/// How long to wait for a message's delivery before the user is told that it is still on its way.
const DELIVERY: Duration = Duration::from_secs(60);

/// `offhook text`
pub async fn text(context: &Context, printer: Printer, args: &TextArgs) -> Outcome {
    let words = joined(&args.words);
    let (number, body) = split_number(&words);
    if body.is_empty() {
        return Err(Failure::bad_input("What shall the message say? `offhook text NUMBER MESSAGE`."));
    }
    if let Some(remote) = running(context).await? {
        return send(&remote, printer, number, body).await;
    }
    let settings = context.settings(&args.network, &SoundArgs::none(), None)?;
    let phone = phone_to(context, number, settings).await?;
    let outcome = send(&phone, printer, number, body).await;
    phone.shutdown().await;
    outcome
}

async fn send(telephone: &impl Telephone, printer: Printer, number: &str, body: &str) -> Outcome {
    let mut events = telephone.events();
    let reply = telephone.execute(Command::Text { number: number.into(), body: body.into() }).await?;
    let Reply::Message { id } = reply else { return Err(unexpected(&reply).into()) };
    let outcome = async {
        while let Some(event) = events.next().await {
            if let Some(outcome) = text_outcome(&event.event, &id) {
                Teller::new(printer).event(&event);
                return outcome;
            }
        }
        Err(Failure::new(ErrorCode::ShuttingDown, "The terminal ended before the message was delivered."))
    };
    match timeout(DELIVERY, outcome).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new(ErrorCode::Network, "The message has not been delivered yet.")),
    }
}

/// `offhook lookup`
pub async fn lookup(context: &Context, printer: Printer, args: &LookupArgs) -> Outcome {
    let number = args.number.join(" ");
    if let Some(remote) = running(context).await? {
        return look_up(&remote, printer, number).await;
    }
    let settings = context.settings(&args.network, &SoundArgs::none(), None)?;
    let phone = phone_to(context, &number, settings).await?;
    let outcome = look_up(&phone, printer, number).await;
    phone.shutdown().await;
    outcome
}

async fn look_up(telephone: &impl Telephone, printer: Printer, number: String) -> Outcome {
    let reply = telephone.execute(Command::Lookup { number }).await?;
    let Reply::Lookup(found) = &reply else { return Err(unexpected(&reply).into()) };
    printer.reply(&reply);
    // Scripts ask in order to know whether a call would ring.
    if found.terminals == 0 { Err(Failure::silent(Exit::Unreachable)) } else { Ok(()) }
}
