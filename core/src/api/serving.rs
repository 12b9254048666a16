//! Whether a telephone serves the network, and why, or why not.

use serde::{Deserialize, Serialize};

/// Whether the telephone serves the network: holds records, passes signalling on, answers STUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Serving {
    /// No, its user does not want it, or hides its address.
    Off,
    /// Not before it is proved that strangers reach it.
    Unproved {
        /// Why it is not.
        reason: Unproved,
    },
    /// Yes: strangers reach it.
    Proved,
    /// Yes: its user says so.
    Always,
}

impl Serving {
    /// Whether it does.
    pub fn serves(self) -> bool {
        match self {
            Self::Off | Self::Unproved { .. } => false,
            Self::Proved | Self::Always => true,
        }
    }
}

/// Why it is not proved that strangers reach a telephone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unproved {
    /// It is being looked into.
    New,
    /// No directory is connected that could have somebody try.
    NoDirectory,
    /// The directories know nobody whom this telephone does not know, too.
    NoStranger,
    /// No directory sees it at a UDP port.
    NoUdp,
    /// Strangers do not get in: a NAT or a firewall is in between.
    Unreachable,
}
