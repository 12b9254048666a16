//! `offhook run`: on line until it is told to end.

mod all;

use super::devices;
use crate::cli::RunArgs;
use crate::config::{Context, Settings};
use crate::console::{self, HELP, Input};
use crate::control::{Limits, sockets};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Printer, Teller};
use crate::own;
use crate::signals::Interrupts;
use crate::telephone::{Telephone, unexpected};
use futures::StreamExt as _;
use offhook::api::{
    ApiError, CERTIFICATE_WARNING_DAYS, Command, ErrorCode, Event, LineState, Reply, Status, TimedEvent,
    monotonic_ns,
};
use offhook::http::Http;
use offhook::phone::Phone;
use std::net::SocketAddr;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::sync::CancellationToken;

/// Longest line on standard input, bytes; as on the control socket.
pub const MAX_LINE: usize = 64 * 1024;

/// Runs a terminal.
pub async fn run(context: &Context, printer: Printer, args: &RunArgs) -> Outcome {
    let settings = context.run_settings(args)?;
    if args.all {
        return all::run(context, printer, settings).await;
    }
    run_one(context, printer, settings, CancellationToken::new(), Stdin::Commands).await
}

/// What lines on standard input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stdin {
    /// Commands for this account.
    Commands,
    /// Not this account's alone.
    NotHere,
}

/// Runs the terminal of one account until it is told to end.
async fn run_one(
    context: &Context,
    printer: Printer,
    settings: Settings,
    quit: CancellationToken,
    stdin: Stdin,
) -> Outcome {
    let mut interrupts = Interrupts::new()?;
    // Before the telephone: a second terminal of one account is refused without touching the first.
    let socket = sockets::bind(context, &context.account_id().await?).await?;
    let phone = tokio::select! {
        phone = own::start(context, &settings) => phone?,
        () = interrupts.next() => return Err(Failure::silent(Exit::Interrupted)),
    };
    let mut events = Telephone::events(&phone).fuse();
    let mut teller = Teller::new(printer);
    tokio::spawn(socket.serve(phone.clone(), quit.clone(), Limits::default()));
    let outcome = async {
        // Ends when it is dropped.
        let _http = match settings.metrics {
            Some(addr) => Some(serve_metrics(addr, &phone, printer).await?),
            None => None,
        };
        let already = greet(&phone, printer, stdin).await?;
        if stdin == Stdin::Commands {
            warn_of_missing_devices(settings, printer);
            tokio::spawn(console(context.clone(), phone.clone(), printer, quit.clone()));
        }
        tokio::select! {
            () = show(&mut events, already, &mut teller) => {
                Err(Failure::new(ErrorCode::ShuttingDown, "The telephone ended by itself."))
            }
            () = interrupts.next() => Ok(()),
            () = quit.cancelled() => Ok(()),
        }
    };
    let outcome = outcome.await;
    quit.cancel();
    // What happens while it ends is told too: calls end, texts are delivered.
    let ended = async { tokio::join!(phone.shutdown(), show(&mut events, 0, &mut teller)) };
    tokio::select! {
        _ = ended => outcome,
        // Who asks twice does not want to wait for a clean end.
        () = interrupts.next() => outcome,
    }
}

async fn serve_metrics(addr: SocketAddr, phone: &Phone, printer: Printer) -> Result<Http, Failure> {
    let http = Http::bind(addr, phone.clone()).await;
    let http =
        http.map_err(|error| Failure::system(format!("{}; choose another address with --metrics.", error)))?;
    printer.remark(&format!("Metrics at http://{}/metrics", http.addr()));
    Ok(http)
}

/// In the background: sound systems take their time to answer.
fn warn_of_missing_devices(settings: Settings, printer: Printer) {
    tokio::task::spawn_blocking(move || {
        for sentence in own::missing_devices(&settings) {
            printer.complaint(sentence);
        }
    });
}

/// Says who this is. Gives the time of the state that was told, if that was on line: the event of the same
/// news need not be shown again.
async fn greet(phone: &Phone, printer: Printer, stdin: Stdin) -> Result<u64, Failure> {
    let reply = phone.execute(Command::Status).await?;
    let Reply::Status(status) = reply else { return Err(unexpected(&reply).into()) };
    let online = status.line == LineState::Online;
    if !printer.json() {
        let version = env!("CARGO_PKG_VERSION");
        printer.line(&format!("Offhook {version}: {}, number {}.", status.account, status.number));
        if !online {
            printer.line(match stdin {
                Stdin::Commands => "Going on line … (`help` lists the commands)",
                Stdin::NotHere => "Going on line …",
            });
        }
    }
    remind(&status, printer);
    if !online {
        return Ok(0);
    }
    let event = TimedEvent { t_ns: monotonic_ns(), event: Event::Online { number: status.number } };
    Teller::new(printer).event(&event);
    Ok(event.t_ns)
}

fn remind(status: &Status, printer: Printer) {
    if status.certificate_days <= CERTIFICATE_WARNING_DAYS {
        let event = Event::CertificateExpires { days: status.certificate_days };
        Teller::new(printer).event(&TimedEvent { t_ns: monotonic_ns(), event });
    }
}

/// Prints events until the telephone has ended.
async fn show(
    events: &mut (impl futures::Stream<Item = TimedEvent> + Unpin),
    told_on_line: u64,
    teller: &mut Teller,
) {
    while let Some(event) = events.next().await {
        let told = matches!(event.event, Event::Online { .. }) && event.t_ns <= told_on_line;
        if !told {
            teller.event(&event);
        }
    }
}

/// Carries out the lines of standard input. Its end is not the telephone's: services have none.
async fn console(context: Context, phone: Phone, printer: Printer, quit: CancellationToken) {
    let mut lines = FramedRead::new(tokio::io::stdin(), LinesCodec::new_with_max_length(MAX_LINE));
    while let Some(line) = lines.next().await {
        let Ok(line) = line else {
            printer.refusal(&ApiError::new(ErrorCode::BadInput, "This line is too long, or no UTF-8 text."));
            continue;
        };
        match console::parse(&line) {
            Ok(Input::Empty) => {}
            Ok(Input::Help) => printer.remark(HELP),
            Ok(Input::Quit | Input::Command(Command::Shutdown)) => return quit.cancel(),
            Ok(Input::Command(command)) => {
                if carry_out(&phone, command.clone(), printer).await
                    && let Err(failure) = devices::remember(&context, &command)
                {
                    failure.told.iter().for_each(|error| printer.complaint(&error.message));
                }
            }
            Err(error) => printer.refusal(&error),
        }
    }
}

/// Carries one command out and prints the reply. Answers whether it was done.
pub async fn carry_out(telephone: &impl Telephone, command: Command, printer: Printer) -> bool {
    let reply = telephone.execute(command.clone()).await;
    match &reply {
        // That one is told by its event, here where events are told.
        Ok(reply) if matches!(command, Command::Hold { .. }) => printer.reply(reply),
        Ok(reply) => printer.result(&command, reply),
        Err(error) => printer.refusal(error),
    }
    reply.is_ok()
}
