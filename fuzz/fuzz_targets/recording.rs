//! A file of Ogg Opus in the directory of recordings: listed and played.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::recording;

fuzz_target!(|data: &[u8]| recording::fuzz::recording(data));
