//! What a media relay sends to a terminal: answers, data, and the stream of a connection.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::media;

fuzz_target!(|data: &[u8]| media::fuzz::relay(data));
