//! STUN: requests at a directory, answers and checks at a terminal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::{media, net};

fuzz_target!(|data: &[u8]| {
    net::fuzz::stun_request(data);
    media::fuzz::stun(data);
});
