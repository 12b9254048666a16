//! Sound devices through cpal: PulseAudio (or PipeWire's stand-in for it) if it runs, else ALSA.

#[doc(hidden)]
pub mod callbacks;
mod changes;
mod ring;
mod stream;
mod timing;

use cpal::traits::{DeviceTrait, HostTrait};
use cpal::{Device, DeviceId, Host, HostId};

use super::{AudioError, AudioSink, AudioSource};
pub(crate) use changes::Changes;
use stream::{DeviceSink, DeviceSource};

/// Devices that are listed at most; ALSA makes up dozens.
const MAX_DEVICES: usize = 64;

/// What a device is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A microphone.
    Mic,
    /// A loudspeaker.
    Speaker,
}

/// A device that works.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeviceInfo {
    /// What [`DeviceSpec::Id`](super::DeviceSpec::Id) takes. Stays the same while the device does.
    pub id: String,
    /// For people. Two devices may have the same.
    pub name: String,
    /// What it is good for.
    pub kind: DeviceKind,
    /// Whether it is the one that is used when none is named.
    pub default: bool,
}

/// Lists the devices that can be used now. May take some hundred milliseconds; empty if there is no sound.
pub fn devices() -> Vec<DeviceInfo> {
    let _quiet = quiet();
    let Some(host) = host(None) else { return Vec::new() };
    let default_mic = host.default_input_device().and_then(|device| device.id().ok());
    let default_speaker = host.default_output_device().and_then(|device| device.id().ok());
    let mut found = Vec::new();
    for device in host.devices().into_iter().flatten() {
        let Ok(id) = device.id() else { continue };
        if is_pseudo(&id) {
            continue;
        }
        let mut add = |kind, default: &Option<DeviceId>| {
            let info = DeviceInfo {
                id: id.to_string(),
                name: name(&device),
                kind,
                default: default.as_ref() == Some(&id),
            };
            if found.len() < MAX_DEVICES && !found.contains(&info) {
                found.push(info);
            }
        };
        // ALSA lists many that cannot be opened; a device that works has a default configuration.
        if device.default_input_config().is_ok() {
            add(DeviceKind::Mic, &default_mic);
        }
        if device.default_output_config().is_ok() {
            add(DeviceKind::Speaker, &default_speaker);
        }
    }
    found
}

pub(super) fn open_source(id: Option<&str>) -> Result<Box<dyn AudioSource>, AudioError> {
    let _quiet = quiet();
    let device = find(id, |host| host.default_input_device(), "for recording")?;
    let config = device.default_input_config().map_err(|error| broken(&device, &error))?;
    Ok(Box::new(DeviceSource::open(&device, &config).map_err(|error| broken(&device, &error))?))
}

pub(super) fn open_sink(id: Option<&str>) -> Result<Box<dyn AudioSink>, AudioError> {
    let _quiet = quiet();
    let device = find(id, |host| host.default_output_device(), "for playing")?;
    let config = device.default_output_config().map_err(|error| broken(&device, &error))?;
    Ok(Box::new(DeviceSink::open(&device, &config).map_err(|error| broken(&device, &error))?))
}

/// The loudspeaker, if it is a sound server's: a sound card itself is for one program at a time, and may be needed for
/// the bell.
pub(super) fn open_shared_sink(id: Option<&str>) -> Option<Box<dyn AudioSink>> {
    let parsed = id.map(str::parse).transpose().ok()?;
    let shared = host(parsed.as_ref()).is_some_and(|host| is_server(host.id()));
    shared.then(|| open_sink(id).ok()).flatten()
}

/// Whether the device is there and is one of this kind, without opening it.
pub(super) fn check(id: &str, kind: DeviceKind) -> Result<(), AudioError> {
    let _quiet = quiet();
    let device = find(Some(id), |_| None, "")?;
    let config = match kind {
        DeviceKind::Mic => device.default_input_config(),
        DeviceKind::Speaker => device.default_output_config(),
    };
    config.map(drop).map_err(|error| broken(&device, &error))
}

/// Tells when it is time to look whether the device is still there: if it is a sound server's, which moves what plays on one that is
/// gone to another. All others end their streams.
pub(super) fn changes_of(id: &str) -> Option<Changes> {
    let parsed: DeviceId = id.parse().ok()?;
    is_server(parsed.host()).then(Changes::new)
}

fn find(
    id: Option<&str>,
    default: impl Fn(&Host) -> Option<Device>,
    purpose: &str,
) -> Result<Device, AudioError> {
    let Some(id) = id else {
        let device = host(None).and_then(|host| default(&host));
        return device.ok_or_else(|| AudioError::NoDevice(purpose.to_owned()));
    };
    let unknown = || AudioError::NoDevice(id.to_owned());
    let parsed: DeviceId = id.parse().map_err(|_| unknown())?;
    host(Some(&parsed)).and_then(|host| host.device_by_id(&parsed)).ok_or_else(unknown)
}

/// The sound system that `id` belongs to, or the best one.
fn host(id: Option<&DeviceId>) -> Option<Host> {
    let mut ids = cpal::available_hosts();
    // The sound server's own list is short and clean, and it shares its devices with other programs.
    ids.sort_by_key(|id| if is_server(*id) { 0 } else { 1 });
    let wanted = id.map(|id| id.host());
    ids.into_iter()
        .filter(|id| wanted.is_none_or(|wanted| wanted == *id))
        .find_map(|id| cpal::host_from_id(id).ok())
}

fn is_server(id: HostId) -> bool {
    id.name().eq_ignore_ascii_case("pulseaudio")
}

/// ALSA's plug-ins that convert or lead elsewhere. Opening them to see whether they work makes some complain on
/// standard error by themselves, as JACK's does.
fn is_pseudo(id: &DeviceId) -> bool {
    const PLUGINS: [&str; 10] = [
        "jack",
        "oss",
        "null",
        "speex",
        "speexrate",
        "samplerate",
        "lavrate",
        "upmix",
        "vdownmix",
        "usbstream",
    ];
    let text = id.to_string();
    let plugin = text.strip_prefix("alsa:").map(|pcm| pcm.split(':').next().unwrap_or(pcm));
    plugin.is_some_and(|plugin| PLUGINS.contains(&plugin))
}

fn name(device: &Device) -> String {
    device.description().map_or_else(|_| "unnamed".to_owned(), |description| description.name().to_owned())
}

fn broken(device: &Device, error: &cpal::Error) -> AudioError {
    AudioError::Device { name: name(device), reason: error.to_string() }
}

/// Keeps libasound from writing a page of complaints about its pseudo devices to standard error. Lasts for
/// this thread; what it collects is freed with the value.
#[cfg(target_os = "linux")]
fn quiet() -> Option<std::rc::Rc<std::cell::RefCell<alsa::Output>>> {
    alsa::Output::local_error_handler().ok()
}

#[cfg(not(target_os = "linux"))]
fn quiet() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_devices_are_named_in_the_error() {
        for id in ["no-such-host:x", "alsa:no such device", "nonsense"] {
            for error in [open_source(Some(id)).err(), open_sink(Some(id)).err()] {
                assert_eq!(error, Some(AudioError::NoDevice(id.to_owned())));
            }
        }
    }

    #[test]
    fn plug_ins_are_not_devices() {
        let pseudo = |id: &str| is_pseudo(&id.parse().unwrap());
        assert!(pseudo("alsa:jack") && pseudo("alsa:usbstream:CARD=x") && pseudo("alsa:null"));
        assert!(!pseudo("alsa:default") && !pseudo("alsa:hw:CARD=0,DEV=0") && !pseudo("pulseaudio:null"));
    }

    #[test]
    fn every_listed_device_has_an_id_that_can_be_found_again() {
        // Machines without sound list nothing, which is a valid answer too.
        for device in devices() {
            let found = find(Some(&device.id), |_| None, "").map(|found| name(&found));
            assert_eq!(found, Ok(device.name));
        }
    }
}
