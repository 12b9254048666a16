//! The built programs, as processes, on loopback and in network namespaces.
//!
//! They are found in the target folder (`cargo xtask test` builds them first). A failing wait prints
//! what the program said last.
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm)]

mod account_changes;
mod accounts;
mod calls;
mod chosen;
mod crash;
mod demo;
mod handbook;
mod keys;
mod mailbox;
mod moving;
mod nat;
mod network;
mod ports;
mod processes;
mod reach;
mod reachable;
mod refusals;
mod serving;
mod terminals;
mod turn;

use std::time::Duration;

use offhook_tests::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use offhook_tests::program::ProgramError;

/// What every test answers; an error prints its whole story.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Within this time a wrong or unreachable number is known.
pub const KNOWN: Duration = Duration::from_secs(5);

/// Within this time it is known that the other end of an idle connection has died, on a busy machine too. Transports
/// alone need a minute and more.
pub const NOTICED: Duration = Duration::from_secs(30);

/// A directory on loopback and two terminals that are on line through it.
pub struct Trio {
    /// Keeps running as long as this is held.
    pub directory: Directory,
    /// The one who calls.
    pub ada: Terminal,
    /// The one who is called.
    pub bob: Terminal,
}

impl Trio {
    /// Silent terminals that ring.
    pub fn start() -> Result<Self, ProgramError> {
        Self::with(TerminalPlan::default(), TerminalPlan::default())
    }

    /// With these plans; entry points are added.
    pub fn with(ada_plan: TerminalPlan, bob_plan: TerminalPlan) -> Result<Self, ProgramError> {
        let directory = Directory::start(None, DirectoryPlan::default())?;
        let [ada, bob] = Account::create_all(["ada", "bob"])?;
        let entry = directory.addresses.clone();
        let ada = Terminal::start(ada, None, TerminalPlan { entry: entry.clone(), ..ada_plan })?;
        let bob = Terminal::start(bob, None, TerminalPlan { entry, ..bob_plan })?;
        for terminal in [&ada, &bob] {
            terminal.process.wait("online", offhook_tests::phone::READY)?;
        }
        Ok(Self { directory, ada, bob })
    }
}

/// The exit code of a program that ran to its end, and what it said.
pub fn exit(output: &std::process::Output) -> (i32, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}
