//! What people read of sound devices.

use super::{printable, sentence};
use offhook::api::{DevicesResult, Event};
use offhook::audio::{DeviceInfo, DeviceKind, Finding, Level, SoundTest};
use std::fmt::Write as _;

/// Characters of a meter, and the level of an empty one, dBFS.
const METER: (usize, f32) = (40, -60.0);

/// An event of a sound device as one line; `None` for those that only programs need.
pub fn event(event: &Event) -> Option<String> {
    if let Event::DeviceLost { kind, device, .. } = event {
        let what = sentence(&printable(device));
        return Some(format!("{what} The call goes on with another {}, or without.", noun(*kind)));
    }
    if let Event::DeviceBack { kind, device, .. } = event {
        return Some(format!("The {} is back: {}.", noun(*kind), printable(device)));
    }
    if let Event::DeviceUsed { kind, device, .. } = event {
        return Some(format!("The call goes on with the {} {}.", noun(*kind), printable(device)));
    }
    let Event::DeviceRefused { kind, device, .. } = event else { return None };
    Some(format!("{} The call goes on with the {} as it was.", sentence(&printable(device)), noun(*kind)))
}

fn noun(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Mic => "microphone",
        DeviceKind::Speaker => "loudspeaker",
    }
}

/// The devices that there are, and which are chosen.
pub fn devices(found: &DevicesResult) -> String {
    let chosen = &found.chosen;
    let heard = [("used", chosen.speaker.as_str()), ("rings", &chosen.ringer)];
    [
        table("Microphones (--mic)", DeviceKind::Mic, &found.devices, &[("used", &chosen.mic)]),
        table("Loudspeakers (--speaker, --ringer)", DeviceKind::Speaker, &found.devices, &heard),
    ]
    .join("\n")
}

fn table(title: &str, kind: DeviceKind, devices: &[DeviceInfo], uses: &[(&str, &str)]) -> String {
    let mut lines = vec![title.to_owned()];
    for device in devices.iter().filter(|device| device.kind == kind) {
        let mark = if device.default { '*' } else { ' ' };
        let is = |chosen: &str| chosen == device.id || chosen == "default" && device.default;
        let used: Vec<_> = uses.iter().filter(|(_, chosen)| is(chosen)).map(|(how, _)| *how).collect();
        let used = if used.is_empty() { String::new() } else { format!(" ({})", used.join(", ")) };
        lines.push(format!("{mark} {}{used}\n      {}", printable(&device.name), printable(&device.id)));
    }
    if lines.len() == 1 {
        lines.push("  none".into());
    }
    for (how, chosen) in uses {
        let known = devices.iter().any(|device| device.kind == kind && device.id == *chosen);
        if !known && *chosen != "default" {
            lines.push(format!("  {how}: {}", printable(chosen)));
        }
    }
    lines.join("\n")
}

/// A level as a bar, as wide for every level.
pub fn meter(level: Level) -> String {
    let filled = |dbfs: f32| (((dbfs - METER.1) / -METER.1).clamp(0.0, 1.0) * METER.0 as f32) as usize;
    let (rms, peak) = (filled(level.rms), filled(level.peak));
    let bar: String = (0..METER.0)
        .map(|n| {
            if n < rms {
                '#'
            } else if n < peak {
                '-'
            } else {
                ' '
            }
        })
        .collect();
    format!("[{bar}] {:>6.1} dB", level.peak)
}

/// What a test of the devices has found, in a sentence each.
pub fn sound_test(found: &SoundTest) -> String {
    let mut text = String::new();
    if found.findings.is_empty() {
        text.push_str("All is well. If you heard the tones and yourself, so will others.\n");
    }
    for finding in &found.findings {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}", sentence_of(finding, found));
    }
    let _ = write!(
        text,
        "Your voice reached {:.0} dB (0 is the loudest there is), the room without it {:.0} dB.",
        found.speech.peak, found.noise.rms
    );
    text
}

fn sentence_of(finding: &Finding, found: &SoundTest) -> String {
    match finding {
        Finding::MicFailed { reason } => {
            format!("The microphone does not work: {}", sentence(&printable(reason)))
        }
        Finding::SpeakerFailed { reason } => {
            format!("The loudspeaker does not work: {}", sentence(&printable(reason)))
        }
        Finding::MicSilent => {
            "The microphone hears nothing at all. It is muted, or it is not the one that you \
                               speak into: `offhook devices` lists those there are."
                .into()
        }
        Finding::MicFaint => {
            "The microphone hardly hears you, if you have said something: go nearer, or turn it up.".into()
        }
        Finding::MicLoud => {
            "The microphone is too loud, so that your voice is distorted: turn it down.".into()
        }
        Finding::Noisy => "There is much noise where you are, or the microphone makes it.".into(),
        Finding::Echo => format!(
            "The microphone hears the loudspeaker, {:.0} dB fainter than it plays: keep echo cancellation on \
             (--processing), or use a headset.",
            found.echo_loss.unwrap_or_default()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook::api::ChosenDevices;

    fn device(id: &str, kind: DeviceKind, default: bool) -> DeviceInfo {
        DeviceInfo { id: id.into(), name: format!("the {id}"), kind, default }
    }

    #[test]
    fn the_default_device_and_those_in_use_are_marked() {
        let found = DevicesResult {
            devices: vec![
                device("a", DeviceKind::Mic, false),
                device("b", DeviceKind::Mic, true),
                device("c", DeviceKind::Speaker, true),
            ],
            chosen: ChosenDevices { mic: "a".into(), speaker: "default".into(), ringer: "gone".into() },
        };
        assert_eq!(
            devices(&found),
            "Microphones (--mic)\n  the a (used)\n      a\n* the b\n      b\n\
             Loudspeakers (--speaker, --ringer)\n* the c (used)\n      c\n  rings: gone"
        );
        let none = DevicesResult { devices: Vec::new(), ..found };
        assert!(devices(&none).contains("Microphones (--mic)\n  none\n  used: a"));
    }

    #[test]
    fn what_happens_to_devices_is_told() {
        let (call, kind) = ("c".to_owned(), DeviceKind::Mic);
        let lost =
            event(&Event::DeviceLost { call: call.clone(), kind, device: "it went\u{1b} away".into() });
        assert_eq!(
            lost.unwrap(),
            "It went\u{fffd} away. The call goes on with another microphone, or without."
        );
        let back = event(&Event::DeviceBack { call: call.clone(), kind, device: "pulse:x".into() });
        assert_eq!(back.unwrap(), "The microphone is back: pulse:x.");
        assert_eq!(event(&Event::Levels { call, mic: Level::SILENCE, speaker: Level::SILENCE }), None);
    }

    #[test]
    fn a_meter_is_as_wide_for_every_level() {
        let bar = |peak, rms| meter(Level { peak, rms });
        assert_eq!(bar(0.0, -30.0), format!("[{}{}]    0.0 dB", "#".repeat(20), "-".repeat(20)));
        assert_eq!(bar(-100.0, -100.0).len(), bar(0.0, 0.0).len());
    }

    #[test]
    fn p10_findings_are_told_in_plain_words() {
        let level = Level { peak: -12.0, rms: -20.0 };
        let of = |findings| {
            sound_test(&SoundTest { noise: level, speech: level, echo_loss: Some(23.0), findings })
        };
        assert!(of(vec![]).starts_with("All is well."));
        let text = of(vec![Finding::MicSilent, Finding::Echo]);
        assert!(text.contains("hears nothing at all") && text.contains("23 dB fainter"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }
}
