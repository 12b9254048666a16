//! Two people in any two networks, and the call between them: what the benchmark `reach` measures and tests assert.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::call::{Call, CallError, hang_up, ring};
use crate::lab::{Access, Host, Impairment, Lab, LabError, Nat, Network};
use crate::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use crate::program::{Event, ProgramError};
use crate::speech;

/// A packet passes two access links: 100 ms from one end to the other and back, and as long to a directory and back.
const ACCESS: Duration = Duration::from_millis(25);
/// A terminal that is not on line by then never will be.
const ONLINE: Duration = Duration::from_secs(20);
/// It rings for so long before somebody answers.
const RINGS: Duration = Duration::from_millis(700);
/// What is not direct by then stays as it is.
const DIRECT: Duration = Duration::from_secs(5);
/// Long enough that the score, a median over seconds, does not hang on the first one.
const TALK: Duration = Duration::from_secs(6);
/// What counts as having been heard: other voices and silence stay below 0.3. How good it sounds is asserted where one call is
/// looked at; here a jitter buffer may still be catching up.
const HEARD: f64 = 0.5;

/// Where the two are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// The caller in one network, the callee in another.
    Apart(Network, Network),
    /// On the LAN of one port-restricted NAT.
    OneLan,
    /// In two homes behind one carrier's port-restricted NAT, which leads from one to the other or does not.
    OneCarrier {
        /// Whether it does (RFC 4787 section 6).
        hairpin: bool,
    },
    /// On a LAN without internet, directory or any other node.
    Island,
}

impl Meeting {
    /// Those in which the two are near each other.
    pub const NEAR: [Self; 4] =
        [Self::OneLan, Self::OneCarrier { hairpin: true }, Self::OneCarrier { hairpin: false }, Self::Island];

    /// Every pair of networks, callers in the order of [`Network::ALL`], then [`Meeting::NEAR`].
    pub fn all() -> Vec<Self> {
        let pairs =
            Network::ALL.into_iter().flat_map(|a| Network::ALL.into_iter().map(move |b| Self::Apart(a, b)));
        pairs.chain(Self::NEAR).collect()
    }

    /// Caller and callee, or how they are together.
    pub fn name(self) -> String {
        match self {
            Self::Apart(caller, callee) => format!("{} {}", caller.name(), callee.name()),
            Self::OneLan => "one-lan".to_owned(),
            Self::OneCarrier { hairpin: true } => "one-carrier-hairpin".to_owned(),
            Self::OneCarrier { hairpin: false } => "one-carrier".to_owned(),
            Self::Island => "island".to_owned(),
        }
    }

    /// Whether UDP can pass straight between the two.
    pub fn can_be_direct(self) -> bool {
        match self {
            Self::Apart(caller, callee) => caller.can_meet(callee),
            Self::OneLan | Self::Island => true,
            Self::OneCarrier { hairpin } => hairpin,
        }
    }

    fn hosts(self, lab: &Lab, link: &Impairment) -> Result<[Host; 2], LabError> {
        match self {
            Self::Apart(caller, callee) => {
                Ok([caller.host(lab, "a", link.clone())?, callee.host(lab, "b", link.clone())?])
            }
            Self::OneLan => on_one_lan(lab, link.clone()),
            Self::Island => on_one_lan(lab, Impairment::cut()),
            Self::OneCarrier { hairpin } => {
                let carrier = lab.carrier("carrier", Nat::PortRestricted, link.clone())?;
                carrier.set_hairpin(hairpin)?;
                let home = |router, host| carrier.router(router, Nat::PortRestricted)?.host(host);
                Ok([home("home-a", "a")?, home("home-b", "b")?])
            }
        }
    }
}

fn on_one_lan(lab: &Lab, link: Impairment) -> Result<[Host; 2], LabError> {
    let router = lab.router("home", Nat::PortRestricted, link)?;
    Ok([router.host("a")?, router.host("b")?])
}

/// How a call went.
#[derive(Clone, Debug, Serialize)]
pub struct Met {
    /// Who called from where.
    pub meeting: String,
    /// Whether it could be direct.
    pub direct_possible: bool,
    /// How packets travelled in the end: `direct`, `relayed`, or nothing.
    pub path: Option<String>,
    /// From the command to answer until the caller's terminal knew, which discloses its addresses then.
    pub accepted_ms: Option<f64>,
    /// From the command to answer to the first sound at the caller.
    pub audio_ms: Option<f64>,
    /// From the command to answer until the call was direct at both ends.
    pub direct_ms: Option<f64>,
    /// How well the caller heard the callee, and the callee the caller.
    pub heard: Option<[f64; 2]>,
    /// What went wrong, in a line; what both ends said then.
    pub failure: Option<[String; 2]>,
}

impl Met {
    /// Whether each heard the other.
    pub fn is_ok(&self) -> bool {
        self.failure.is_none() && self.heard.is_some_and(|heard| heard.iter().all(|heard| *heard >= HEARD))
    }

    /// Whether the call was direct in the end.
    pub fn is_direct(&self) -> bool {
        self.path.as_deref() == Some("direct")
    }
}

/// An internet with two directories, and two people with an account each, who meet again and again as strangers.
#[derive(Debug)]
pub struct Stage {
    lab: Lab,
    link: Impairment,
    directories: [(Host, Directory); 2],
    accounts: [Account; 2],
    folder: tempfile::TempDir,
}

impl Stage {
    /// Directories that speak IPv4 and IPv6; the second one has entered the network through the first one.
    ///
    /// # Errors
    /// When a program does not start.
    pub fn new(name: &str) -> Result<Self, ProgramError> {
        let lab = Lab::new(name)?;
        let link = Impairment { delay: ACCESS, ..Impairment::default() };
        let directory = |name, entry| -> Result<(Host, Directory), ProgramError> {
            let host = lab.host(name, Access::dual(link.clone()))?;
            let directory =
                Directory::start(Some(&host), DirectoryPlan { entry, ..DirectoryPlan::default() })?;
            Ok((host, directory))
        };
        let first = directory("d1", Vec::new())?;
        let second = directory("d2", vec![first.1.address()])?;
        let accounts = Account::create_all(["ada", "bob"])?;
        let folder = tempfile::tempdir()?;
        Ok(Self { directories: [first, second], lab, link, accounts, folder })
    }

    /// A call: the caller knows the one directory, the callee the other, neither remembers anything.
    ///
    /// # Errors
    /// When the lab fails; a call that fails is an answer.
    pub fn call(&self, meeting: Meeting) -> Result<Met, CallError> {
        let mut met = Met {
            meeting: meeting.name(),
            direct_possible: meeting.can_be_direct(),
            path: None,
            accepted_ms: None,
            audio_ms: None,
            direct_ms: None,
            heard: None,
            failure: None,
        };
        let hosts = meeting.hosts(&self.lab, &self.link).map_err(ProgramError::from)?;
        let [mut ada, mut bob] = self.terminals(meeting, &hosts)?;
        let outcome = converse(&mut ada, &mut bob, &mut met);
        match outcome {
            Ok(()) => {}
            Err(CallError::Program(error)) => {
                let text = error.to_string();
                let (headline, story) = text.split_once('\n').unwrap_or((&text, ""));
                met.failure = Some([headline.to_owned(), story.to_owned()]);
            }
            Err(error @ CallError::Score(_)) => return Err(error),
        }
        Ok(met)
    }

    fn terminals(&self, meeting: Meeting, hosts: &[Host; 2]) -> Result<[Terminal; 2], ProgramError> {
        let start = |at: usize, mic: &Path| {
            let (account, host) = (&self.accounts[at], &hosts[at]);
            let speaker = self.folder.path().join(format!("{}.wav", account.id));
            // What an earlier call has left would be judged.
            let _ = std::fs::remove_file(&speaker);
            let plan = match meeting {
                Meeting::Island => TerminalPlan {
                    mdns: true,
                    extra: vec!["--allow-private".to_owned()],
                    ..TerminalPlan::speaking(&[], mic, &speaker)
                },
                Meeting::Apart(..) | Meeting::OneLan | Meeting::OneCarrier { .. } => {
                    let directory = &self.directories[at].1;
                    let ways = [directory.addresses.clone(), directory.front()].concat();
                    TerminalPlan::speaking(&ways, mic, &speaker)
                }
            };
            Terminal::start(account.fresh_copy()?, Some(host), plan)
        };
        Ok([start(0, &speech::a())?, start(1, &speech::b())?])
    }
}

/// Dials, answers, waits for a direct path, speaks and hangs up; fills in what happened.
fn converse(ada: &mut Terminal, bob: &mut Terminal, met: &mut Met) -> Result<(), CallError> {
    for terminal in [&*ada, &*bob] {
        terminal.process.wait("online", ONLINE)?;
    }
    let (dialled_ns, rang_ns) = ring(ada, bob)?;
    bob.process.never("that it stopped ringing", RINGS, |event| event.name() == "ended")?;
    let mut call = Call::begin(ada, bob, dialled_ns, rang_ns)?;
    met.accepted_ms = Some(call.answer_to_accepted_ms());
    met.audio_ms = Some(call.answer_to_audio_ms());
    // A call that never becomes direct goes on as it is.
    let _ = call.wait_direct(ada, bob, DIRECT);
    met.direct_ms = call.answer_to_direct_ms();
    met.path = Some(call.path.clone());
    let until = call.talk(ada, bob, TALK)?;
    hang_up(ada, bob)?;
    let (by_ada, by_bob) = call.judge(ada, bob, until)?;
    met.heard = Some([by_ada.heard, by_bob.heard]);
    let is_path = |event: &Event| event.name() == "path";
    if let Ok(later) = ada.process.wait_for("another path", Duration::ZERO, is_path) {
        met.path = Some(later.text("path").to_owned());
    }
    Ok(())
}
