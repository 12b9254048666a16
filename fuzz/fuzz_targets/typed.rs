//! What people type: commands, account IDs, passwords, names of sound devices.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::audio::DeviceSpec;
use offhook::storage::{AccountId, Password};
use offhook_node::console::{Input, parse, split_number};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    match parse(text) {
        Ok(Input::Command(_) | Input::Help | Input::Quit | Input::Empty) => {}
        Err(error) => assert!(!error.message.is_empty()),
    }
    let (number, rest) = split_number(text);
    // A name may stand in quotation marks.
    let front = text.trim_start();
    let name = front.strip_prefix('"').map_or(front, str::trim_start);
    assert!(number.len() + rest.len() <= text.len());
    assert!(front.starts_with(number) || name.starts_with(number));
    if let Ok(id) = text.parse::<AccountId>() {
        assert_eq!(id.as_str().parse().ok(), Some(id), "an ID is what it is normalised to");
    }
    if let Ok(device) = text.parse::<DeviceSpec>() {
        assert_eq!(device.to_string().parse(), Ok(device));
    }
    let _ = Password::new(text);
});
