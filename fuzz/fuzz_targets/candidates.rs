//! Lines that the other end of a call names as its ICE candidates.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::media;

fuzz_target!(|data: &[u8]| {
    if let Ok(lines) = str::from_utf8(data) {
        media::fuzz::candidates(lines);
    }
});
