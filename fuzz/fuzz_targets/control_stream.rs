//! The stream beside the voice, which carries signalling during a call.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::media;

fuzz_target!(|data: &[u8]| media::fuzz::control_stream(data));
