//! The files with settings of the terminal and of the directory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_bootstrap::Settings;
use offhook_node::config::File as TerminalFile;

/// What nobody has made a setting: a mistyped one must never be a silent default.
const MISTYPED: &str = "\nconections = 1\n";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    match toml::from_str::<TerminalFile>(text) {
        Ok(_) => assert!(toml::from_str::<TerminalFile>(&format!("{text}{MISTYPED}")).is_err()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(settings) = toml::from_str::<Settings>(text) {
        assert!(toml::from_str::<Settings>(&format!("{text}{MISTYPED}")).is_err());
        let printed = toml::to_string(&settings).expect("what was read can be written");
        assert_eq!(toml::from_str(&printed), Ok(settings), "{printed}");
    }
});
