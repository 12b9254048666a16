//! A WAV file as a microphone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::audio;

fuzz_target!(|data: &[u8]| audio::fuzz::wav(data));
