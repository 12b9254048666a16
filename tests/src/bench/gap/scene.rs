//! What changes under a call, and the call under which it does.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::melody::{self, Heard};
use crate::bench::BenchError;
use crate::call::{Call, STEP, ring};
use crate::lab::{Impairment, LabError, Nat, Pair, Ports, monotonic_ns};
use crate::phone::{Account, Directory, DirectoryPlan, Terminal, TerminalPlan};
use crate::program::ProgramError;

/// Milliseconds from a terminal to the middle of the internet: a round trip of 100 between the two.
const ACCESS_MS: u64 = 25;
/// From when the network is usable again until the next change, at least.
const APART: Duration = Duration::from_secs(8);
/// What is not heard again by then is lost; such a change counts as a gap of this length.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// An outage lasts for so long.
const OUTAGE: Duration = Duration::from_secs(5);
/// A call is left alone for so long before the first change.
const SETTLING: Duration = Duration::from_secs(3);
/// Seconds of sound that each end has to say: more than a call lasts.
const SOUND: u32 = 240;
/// Changes under one call.
pub(super) const IN_A_CALL: u32 = 5;

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The callee's NAT has forgotten its mappings and gives others.
    NewPorts,
    /// The caller's NAT has forgotten its mappings and gives the same ones.
    Forgotten,
    /// The caller's host has another private address.
    LocalAddress,
    /// The callee's home has another public address.
    PublicAddress,
    /// Homes and hosts of both have other addresses.
    BothEnds,
    /// The caller's link is cut and whole again.
    Outage,
    /// The caller's device loses its network, another one has been plugged into another home's.
    Interface,
    /// The directory through which the call is relayed starts again.
    Directory,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::NewPorts,
        Self::Forgotten,
        Self::LocalAddress,
        Self::PublicAddress,
        Self::BothEnds,
        Self::Outage,
        Self::Interface,
        Self::Directory,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NewPorts => "nat-new-ports",
            Self::Forgotten => "nat-forgets",
            Self::LocalAddress => "local-address",
            Self::PublicAddress => "public-address",
            Self::BothEnds => "both-ends",
            Self::Outage => "outage",
            Self::Interface => "interface",
            Self::Directory => "directory",
        }
    }

    /// Two symmetric NATs leave only the relay.
    fn nat(self) -> Nat {
        match self {
            Self::Directory => Nat::Symmetric,
            Self::NewPorts
            | Self::Forgotten
            | Self::LocalAddress
            | Self::PublicAddress
            | Self::BothEnds
            | Self::Outage
            | Self::Interface => Nat::PortRestricted,
        }
    }
}

/// How a call went on after a change.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Change {
    /// Longest time without sound at the caller and at the callee, in milliseconds.
    pub gap_ms: [f64; 2],
    /// Whether both heard each other in the end.
    pub survived: bool,
    /// What was said if the call ended.
    pub ended: Option<String>,
}

/// A call in a network of its own.
pub(super) struct Scene {
    pair: Pair,
    directory: Directory,
    ada: Terminal,
    bob: Terminal,
    call: Call,
    /// The caller's devices, the one in use first.
    devices: [&'static str; 2],
    _folder: tempfile::TempDir,
}

impl Scene {
    /// Starts everything and waits until the call runs on the way that it will keep.
    pub(super) fn start(kind: Kind, accounts: &[Account; 2]) -> Result<Self, BenchError> {
        let pair = Pair::new(kind.name(), kind.nat(), kind.nat(), ACCESS_MS)?;
        let devices = ["eth0", "wlan0"];
        if kind == Kind::Interface {
            let access = Impairment::delay_ms(ACCESS_MS);
            let other = pair.lab.router("natc", kind.nat(), access)?;
            pair.a.join(&other, devices[1])?;
            pair.a.disconnect(devices[1])?;
        }
        let folder = tempfile::tempdir()?;
        let mic = folder.path().join("melody.wav");
        melody::write(&mic, SOUND).map_err(|error| BenchError::Other(error.to_string()))?;
        let directory = Directory::start(Some(&pair.directory), DirectoryPlan::default())?;
        let online = |account: &Account, host| -> Result<Terminal, BenchError> {
            let speaker = folder.path().join(format!("{}.wav", account.id));
            let plan = TerminalPlan::speaking(&directory.addresses, &mic, &speaker);
            Ok(Terminal::online(account.fresh_copy()?, Some(host), plan)?)
        };
        let (mut ada, mut bob) = (online(&accounts[0], &pair.a)?, online(&accounts[1], &pair.b)?);
        let (dialled, rang) = ring(&mut ada, &mut bob)?;
        let mut call = Call::begin(&mut ada, &mut bob, dialled, rang)?;
        match kind.nat() {
            Nat::Symmetric => {
                let connected = ada.process.wait("connected", STEP)?;
                if connected.text("path") != "relayed" {
                    return Err(BenchError::Other(format!("the call is not relayed: {}", connected.value)));
                }
            }
            Nat::None
            | Nat::Firewall
            | Nat::FullCone
            | Nat::AddressRestricted
            | Nat::PortRestricted
            | Nat::PortRestrictedReject
            | Nat::UdpBlocked
            | Nat::OnlyTcp443 => call.wait_direct(&ada, &bob, STEP)?,
        }
        call.talk(&ada, &bob, SETTLING)?;
        Ok(Self { pair, directory, ada, bob, call, devices, _folder: folder })
    }

    /// Changes something and listens until both hear each other again and some time has passed.
    pub(super) fn change(&mut self, kind: Kind) -> Result<Change, BenchError> {
        let changed_ns = monotonic_ns();
        self.apply(kind)?;
        let (usable, usable_ns) = (Instant::now(), monotonic_ns());
        let mut ended = self.ended(APART)?;
        loop {
            let heard = self.listen(changed_ns, usable_ns)?;
            let survived = ended.is_none() && heard.iter().all(|heard| heard.is_back);
            if survived || ended.is_some() || usable.elapsed() >= PATIENCE {
                let lost = PATIENCE.as_secs_f64() * 1e3;
                let gap_ms = heard.map(|heard| if survived { heard.gap_ms } else { lost });
                return Ok(Change { gap_ms, survived, ended });
            }
            ended = self.ended(Duration::from_millis(500))?;
        }
    }

    /// Does it; when this returns, there is a usable path again.
    fn apply(&mut self, kind: Kind) -> Result<(), ProgramError> {
        let pair = &self.pair;
        match kind {
            Kind::NewPorts => pair.router_b.forget(Ports::New)?,
            Kind::Forgotten => pair.router_a.forget(Ports::Same)?,
            Kind::LocalAddress => pair.a.readdress()?,
            Kind::PublicAddress => pair.router_b.readdress()?,
            Kind::BothEnds => all_move(pair)?,
            Kind::Outage => {
                let cut = pair.router_a.link().cut();
                std::thread::sleep(OUTAGE);
                drop(cut);
            }
            Kind::Interface => {
                let [lost, other] = self.devices;
                pair.a.connect(other)?;
                pair.a.prefer(other)?;
                pair.a.disconnect(lost)?;
                self.devices = [other, lost];
            }
            Kind::Directory => self.directory.restart(Some(&pair.directory))?,
        }
        Ok(())
    }

    /// Watches for so long whether the call ends; answers what was said then.
    fn ended(&self, within: Duration) -> Result<Option<String>, ProgramError> {
        let deadline = Instant::now() + within;
        for end in [&self.ada, &self.bob] {
            let left = deadline.saturating_duration_since(Instant::now());
            match end.process.wait("ended", left) {
                Ok(event) => return Ok(Some(event.value.to_string())),
                Err(ProgramError::Missing { ended: false, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// What the caller and the callee have heard since a change.
    fn listen(&self, changed_ns: u64, usable_ns: u64) -> Result<[Heard; 2], BenchError> {
        let recordings = self.call.recordings(&self.ada, &self.bob)?;
        Ok(recordings.map(|recording| melody::listen(&recording, changed_ns, usable_ns)))
    }
}

fn all_move(pair: &Pair) -> Result<(), LabError> {
    pair.router_a.readdress()?;
    pair.router_b.readdress()?;
    pair.a.readdress()?;
    pair.b.readdress()
}
