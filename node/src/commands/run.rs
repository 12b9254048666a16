//! `offhook run`: on line until it is told to end.

use crate::cli::RunArgs;
use crate::config::Context;
use crate::console::{self, HELP, Input};
use crate::control::{ControlSocket, Limits};
use crate::exit::{Failure, Outcome};
use crate::output::{Printer, Teller};
use crate::signals::Interrupts;
use crate::telephone::{Telephone, resolved, unexpected};
use crate::{metrics, own};
use futures::StreamExt as _;
use offhook::api::{CERTIFICATE_WARNING_DAYS, Command, Event, Reply, Status, TimedEvent, monotonic_ns};
use offhook::phone::Phone;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::sync::CancellationToken;

/// Longest line on standard input, bytes; as on the control socket.
pub const MAX_LINE: usize = 64 * 1024;

/// Runs a terminal.
pub async fn run(context: &Context, printer: Printer, args: &RunArgs) -> Outcome {
    let settings = context.run_settings(args)?;
    let mut interrupts = Interrupts::new()?;
    // Before the telephone: a second terminal in one home is refused without touching the first one's account.
    let socket = ControlSocket::bind(&context.socket()).await?;
    let phone = own::start(context, &settings).await?;
    let quit = CancellationToken::new();
    let events = Telephone::events(&phone);
    tokio::spawn(socket.serve(phone.clone(), quit.clone(), Limits::default()));
    let outcome = async {
        if let Some(addr) = settings.metrics {
            let bound = metrics::serve(addr, phone.clone(), quit.clone()).await?;
            tracing::info!(%bound, "metrics");
            printer.remark(&format!("Metrics at http://{bound}/metrics"));
        }
        let already = greet(&phone, printer).await?;
        tokio::spawn(console(phone.clone(), printer, quit.clone()));
        tokio::select! {
            outcome = show(events, already, printer) => outcome,
            () = interrupts.next() => Ok(()),
            () = quit.cancelled() => Ok(()),
        }
    };
    let outcome = outcome.await;
    quit.cancel();
    tokio::select! {
        () = phone.shutdown() => outcome,
        // Who asks twice does not want to wait for a clean end.
        () = interrupts.next() => outcome,
    }
}

/// Says who this is. Gives the time of the state that was told, if that was on line: the event of the same
/// news need not be shown again.
async fn greet(phone: &Phone, printer: Printer) -> Result<u64, Failure> {
    let reply = phone.execute(Command::Status).await?;
    let Reply::Status(status) = reply else { return Err(unexpected(&reply).into()) };
    if !printer.json() {
        let version = env!("CARGO_PKG_VERSION");
        printer.line(&format!("Offhook {version}: {}, number {}.", status.account, status.number));
        if !status.online {
            printer.line("Going on line … (`help` lists the commands)");
        }
    }
    remind(&status, printer);
    if !status.online {
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

/// Prints events until the telephone ends by itself.
async fn show(
    mut events: impl futures::Stream<Item = TimedEvent> + Unpin,
    told_on_line: u64,
    printer: Printer,
) -> Outcome {
    let mut teller = Teller::new(printer);
    while let Some(event) = events.next().await {
        let told = matches!(event.event, Event::Online { .. }) && event.t_ns <= told_on_line;
        if !told {
            teller.event(&event);
        }
    }
    Err(Failure::failed("The telephone ended by itself."))
}

/// Carries out the lines of standard input. Its end is not the telephone's: services have none.
async fn console(phone: Phone, printer: Printer, quit: CancellationToken) {
    let mut lines = FramedRead::new(tokio::io::stdin(), LinesCodec::new_with_max_length(MAX_LINE));
    while let Some(line) = lines.next().await {
        let Ok(line) = line else {
            printer.complaint("This line is too long, or no UTF-8 text.");
            continue;
        };
        match console::parse(&line) {
            Ok(Input::Empty) => {}
            Ok(Input::Help) => printer.line(HELP),
            Ok(Input::Quit | Input::Command(Command::Shutdown)) => return quit.cancel(),
            Ok(Input::Command(command)) => carry_out(&phone, command, printer).await,
            Err(sentence) => printer.complaint(&sentence),
        }
    }
}

/// Carries one command out and prints the reply.
pub async fn carry_out(telephone: &impl Telephone, command: Command, printer: Printer) {
    let done = async { telephone.execute(resolved(telephone, command).await?).await };
    match done.await {
        Ok(reply) => printer.reply(&reply),
        Err(error) => printer.refusal(&error),
    }
}
