//! `offhook devices`

use crate::exit::{Failure, Outcome};
use crate::output::Printer;
use offhook::audio::{DeviceInfo, DeviceKind};

/// Lists the sound devices.
pub async fn list(printer: Printer) -> Outcome {
    let devices = tokio::task::spawn_blocking(offhook::audio::devices)
        .await
        .map_err(|_| Failure::system("The sound devices can't be listed."))?;
    if printer.json() {
        printer.value(&serde_json::json!({ "reply": "devices", "devices": devices }));
        return Ok(());
    }
    printer.line(&table("Microphones (--mic)", DeviceKind::Mic, &devices));
    printer.line(&table("Loudspeakers (--speaker)", DeviceKind::Speaker, &devices));
    Ok(())
}

fn table(title: &str, kind: DeviceKind, devices: &[DeviceInfo]) -> String {
    let mut lines = vec![title.to_owned()];
    for device in devices.iter().filter(|device| device.kind == kind) {
        let mark = if device.default { '*' } else { ' ' };
        lines.push(format!("{mark} {}\n      {}", device.name, device.id));
    }
    if lines.len() == 1 {
        lines.push("  none".into());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_device_is_marked() {
        let device =
            |id: &str, kind, default| DeviceInfo { id: id.into(), name: format!("the {id}"), kind, default };
        let devices = [device("a", DeviceKind::Mic, false), device("b", DeviceKind::Mic, true)];
        let text = table("Mics", DeviceKind::Mic, &devices);
        assert_eq!(text, "Mics\n  the a\n      a\n* the b\n      b");
        assert_eq!(table("Speakers", DeviceKind::Speaker, &devices), "Speakers\n  none");
    }
}
