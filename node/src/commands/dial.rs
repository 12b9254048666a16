//! `offhook dial`: one call from the shell, through the running terminal or with a telephone of its own.

use super::run::{MAX_LINE, carry_out};
use super::{phone_to, running};
use crate::cli::{DialArgs, SoundArgs};
use crate::config::Context;
use crate::console::{self, HELP, Input};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Printer, Teller};
use crate::signals::Interrupts;
use crate::telephone::{Telephone, unexpected};
use futures::StreamExt as _;
use offhook::api::{CallRef, Command, EndReason, ErrorCode, Event, Reply, TimedEvent};
use std::time::Duration;
use tokio::io::Stdin;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LinesCodec};

/// How long the end of a call that was hung up may take to come about.
const TO_END: Duration = Duration::from_secs(5);

/// Dials and stays until the call is over.
pub async fn dial(context: &Context, printer: Printer, args: &DialArgs) -> Outcome {
    let number = args.number.join(" ");
    let mut interrupts = Interrupts::new()?;
    if let Some(remote) = running(context).await? {
        if args.sound != SoundArgs::default() {
            printer.remark("The running terminal makes the call, with its own microphone and loudspeaker.");
        }
        return call(&remote, printer, number, interrupts).await;
    }
    let settings = context.settings(&args.network, &args.sound, args.ring_timeout)?;
    let phone = tokio::select! {
        phone = phone_to(context, &number, settings) => phone?,
        () = interrupts.next() => return Err(Failure::silent(Exit::Interrupted)),
    };
    let outcome = call(&phone, printer, number, interrupts).await;
    phone.shutdown().await;
    outcome
}

async fn call(
    telephone: &impl Telephone,
    printer: Printer,
    number: String,
    mut interrupts: Interrupts,
) -> Outcome {
    let mut events = telephone.events();
    let reply = telephone.execute(Command::Dial { number }).await?;
    let Reply::Call { call } = reply else { return Err(unexpected(&reply).into()) };
    let mut progress = Progress::new(call, printer);
    let mut lines = Some(FramedRead::new(tokio::io::stdin(), LinesCodec::new_with_max_length(MAX_LINE)));
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => if let Some(outcome) = progress.event(&event) { return outcome },
                None => return Err(Failure::new(ErrorCode::ShuttingDown, "The terminal ended during the call.")),
            },
            () = interrupts.next() => break,
            line = next_line(&mut lines) => match line.as_deref().map(console::parse) {
                Some(Ok(Input::Quit)) => break,
                Some(Ok(Input::Command(command @ Command::Follow { .. }))) => {
                    progress.follow(telephone, command, printer).await;
                }
                Some(Ok(Input::Command(command))) => {
                    carry_out(telephone, command, printer).await;
                }
                Some(Ok(Input::Help)) => printer.remark(HELP),
                Some(Ok(Input::Empty)) => {}
                Some(Err(error)) => printer.refusal(&error),
                // A script without input goes on listening.
                None => lines = None,
            },
        }
    }
    for call in progress.interrupt() {
        match telephone.execute(Command::Hangup { call: Some(call) }).await {
            Ok(_) => {}
            // It was over already; its end is among the events.
            Err(error) => tracing::debug!(%error, "hanging up"),
        }
    }
    let end = async {
        while let Some(event) = events.next().await {
            if let Some(outcome) = progress.event(&event) {
                return outcome;
            }
        }
        Err(Failure::silent(Exit::Interrupted))
    };
    tokio::select! {
        end = timeout(TO_END, end) => end.unwrap_or(Err(Failure::silent(Exit::Interrupted))),
        () = interrupts.next() => Err(Failure::silent(Exit::Interrupted)),
    }
}

/// How the call goes.
struct Progress {
    call: CallRef,
    /// The call that was begun because its other end asked for it: it goes on with that one.
    followed: Option<CallRef>,
    /// The user has hung up: no other call is gone on with.
    interrupted: bool,
    /// How the call has ended, while the one that was followed has not yet.
    over: Option<EndReason>,
    teller: Teller,
}

impl Progress {
    fn new(call: CallRef, printer: Printer) -> Self {
        Self { call, followed: None, interrupted: false, over: None, teller: Teller::new(printer) }
    }

    /// Shows an event if it belongs to the call; gives the outcome when the call is over.
    fn event(&mut self, event: &TimedEvent) -> Option<Outcome> {
        let key_changed = matches!(event.event, Event::KeyChanged { .. });
        let call = event.event.call();
        let ours = call == Some(self.call.as_str());
        let followed = call.is_some() && call == self.followed.as_deref();
        if !ours && !followed && !key_changed {
            return None;
        }
        self.teller.event(event);
        let Event::Ended { reason, .. } = &event.event else { return None };
        if followed {
            self.followed = None;
            return self.over.map(outcome);
        }
        if self.interrupted && self.followed.is_some() {
            self.over = Some(*reason);
            return None;
        }
        if let Some(next) = self.followed.take() {
            self.call = next;
            return None;
        }
        Some(outcome(*reason))
    }

    /// The user hangs up: which calls are to end.
    fn interrupt(&mut self) -> Vec<CallRef> {
        self.interrupted = true;
        [Some(self.call.clone()), self.followed.clone()].into_iter().flatten().collect()
    }

    /// Does what the other end asks for.
    async fn follow(&mut self, telephone: &impl Telephone, command: Command, printer: Printer) {
        match telephone.execute(command.clone()).await {
            Ok(reply) => {
                printer.result(&command, &reply);
                if let Reply::Call { call } = reply {
                    self.followed = Some(call);
                }
            }
            Err(error) => printer.refusal(&error),
        }
    }
}

fn outcome(reason: EndReason) -> Outcome {
    let exit = Exit::of_end(reason);
    // The event has said it in words.
    if exit == Exit::Ok { Ok(()) } else { Err(Failure::silent(exit)) }
}

/// The next line of standard input; `None` at its end or when it is no text.
async fn next_line(lines: &mut Option<FramedRead<Stdin, LinesCodec>>) -> Option<String> {
    match lines {
        Some(lines) => lines.next().await.and_then(Result::ok),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook::api::{FailureCode, Side};
    use offhook::proto::number::{Number, PlainNumber};

    fn feed(progress: &mut Progress, event: Event) -> Option<Outcome> {
        progress.event(&TimedEvent { t_ns: 0, event })
    }

    fn ended(call: &str, reason: EndReason) -> Event {
        let number = Number::Plain(PlainNumber::from_index(1));
        Event::Ended { call: call.into(), number, reason, by: Side::Remote, duration_ms: 0, summary: None }
    }

    #[test]
    fn the_outcome_is_that_of_ones_own_call() {
        let new = || Progress::new("mine".into(), Printer::new(true));
        let mut progress = new();
        assert_eq!(feed(&mut progress, ended("other", EndReason::Busy)), None);
        assert_eq!(feed(&mut progress, Event::Ringing { call: "mine".into() }), None);
        let busy = feed(&mut progress, ended("mine", EndReason::Busy)).unwrap();
        assert_eq!(busy.unwrap_err().exit, Exit::Busy);

        let mut progress = new();
        assert_eq!(feed(&mut progress, Event::Accepted { call: "mine".into() }), None);
        let failed = feed(&mut progress, ended("mine", EndReason::Failed(FailureCode::NoMediaPath))).unwrap();
        assert_eq!(failed.unwrap_err().exit, Exit::MediaFailed);
        assert_eq!(feed(&mut progress, ended("mine", EndReason::HungUp)), Some(Ok(())));

        // A call that is followed to somebody else is over when that one is.
        let mut progress = new();
        progress.followed = Some("next".into());
        assert_eq!(feed(&mut progress, ended("mine", EndReason::Transferred)), None);
        assert_eq!(feed(&mut progress, ended("next", EndReason::HungUp)), Some(Ok(())));
        let mut progress = new();
        progress.followed = Some("next".into());
        assert_eq!(feed(&mut progress, ended("next", EndReason::Busy)), None, "the first one goes on");
        assert_eq!(feed(&mut progress, ended("mine", EndReason::HungUp)), Some(Ok(())));

        // Who hangs up ends both, in whatever order that is told.
        for order in [["mine", "next"], ["next", "mine"]] {
            let mut progress = new();
            progress.followed = Some("next".into());
            assert_eq!(progress.interrupt(), ["mine", "next"]);
            assert_eq!(feed(&mut progress, ended(order[0], EndReason::HungUp)), None);
            assert_eq!(feed(&mut progress, ended(order[1], EndReason::HungUp)), Some(Ok(())));
        }
    }
}
