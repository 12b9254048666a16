//! Which devices a telephone uses.

use serde::{Deserialize, Serialize};

use crate::audio::DeviceInfo;

/// The devices that are chosen. Each is written as [`DeviceSpec`](crate::audio::DeviceSpec) reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenDevices {
    /// Microphone.
    pub mic: String,
    /// Loudspeaker.
    pub speaker: String,
    /// What rings.
    pub ringer: String,
}

/// An answer to [`Command::Devices`](super::Command::Devices).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicesResult {
    /// Those that work now.
    pub devices: Vec<DeviceInfo>,
    /// Those that are chosen, which need not be there.
    #[serde(flatten)]
    pub chosen: ChosenDevices,
}
