//! What comes to the media relay's ports: datagrams of clients and peers, and streams.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::relay;

fuzz_target!(|data: &[u8]| {
    relay::fuzz::client(data);
    relay::fuzz::stream(data);
});
