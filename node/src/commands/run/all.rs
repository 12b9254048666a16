//! `offhook run --all`: every account of the home folder on line in one program.
//!
//! Each is a telephone of its own, with a control socket of its own, as if each had a program. What one of them suffers is told and
//! is no trouble of the others.

use super::{MAX_LINE, Stdin, run_one, warn_of_missing_devices};
use crate::config::{Context, Settings};
use crate::console::{self, Input};
use crate::exit::{Failure, Outcome};
use crate::output::Printer;
use futures::StreamExt as _;
use futures::future::join_all;
use offhook::api::{ApiError, Command, ErrorCode};
use offhook::storage::AccountId;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::sync::CancellationToken;

/// Most accounts that are run at the same time: each keeps connections, files and threads.
const MAX_ACCOUNTS: usize = 32;

/// What is said to who types a command.
const WHOSE: &str =
    "Several accounts are on line here: give commands with `offhook --account ID ...`. `quit` ends all.";

/// Runs all accounts until the program is told to end. The first failure is the program's, when all have ended.
pub async fn run(context: &Context, printer: Printer, settings: Settings) -> Outcome {
    let accounts: Vec<AccountId> =
        context.home.accounts().await?.into_iter().map(|account| account.id).collect();
    check(&accounts, &settings)?;
    warn_of_missing_devices(settings.clone(), printer);
    let quit = CancellationToken::new();
    tokio::spawn(until_quit(printer, quit.clone()));
    // Which sockets they take is settled one after the other.
    let running = accounts.iter().map(|id| {
        let (settings, quit) = (settings.clone(), quit.child_token());
        async move {
            // For as long as the program runs; there are few.
            let printer = printer.of(Box::leak(id.to_string().into_boxed_str()));
            let context = context.of(id);
            let outcome = run_one(&context, printer, settings, quit, Stdin::NotHere).await;
            if let Err(Failure { told: Some(error), .. }) = &outcome {
                printer.refusal(error);
            }
            outcome
        }
    });
    let outcomes = join_all(running).await;
    // Each was told.
    let failed = outcomes.into_iter().find_map(Result::err);
    failed.map_or(Ok(()), |failure| Err(Failure::silent(failure.exit)))
}

fn check(accounts: &[AccountId], settings: &Settings) -> Outcome {
    if accounts.is_empty() {
        let sentence = "There is no account yet. Make one with `offhook account new ID`.";
        return Err(Failure::new(ErrorCode::NoAccount, sentence));
    }
    if accounts.len() > MAX_ACCOUNTS {
        let sentence =
            format!("There are more than {MAX_ACCOUNTS} accounts: run some of them with --account each.");
        return Err(Failure::new(ErrorCode::Full, sentence));
    }
    if settings.metrics.is_some() {
        return Err(Failure::bad_input("Metrics are one account's: run it without --all."));
    }
    Ok(())
}

/// Standard input is nobody's here, but for the word that ends the program. Its end is not the program's: services have none.
async fn until_quit(printer: Printer, quit: CancellationToken) {
    let mut lines = FramedRead::new(tokio::io::stdin(), LinesCodec::new_with_max_length(MAX_LINE));
    while let Some(line) = lines.next().await {
        match line.map(|line| console::parse(&line)) {
            Ok(Ok(Input::Quit | Input::Command(Command::Shutdown))) => return quit.cancel(),
            Ok(Ok(Input::Empty)) => {}
            Ok(Ok(Input::Help | Input::Command(_)) | Err(_)) | Err(_) => {
                printer.refusal(&ApiError::new(ErrorCode::BadInput, WHOSE));
            }
        }
    }
}
