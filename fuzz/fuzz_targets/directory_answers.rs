//! What a directory answers over HTTP to the client of an account.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::directory;

fuzz_target!(|data: &[u8]| directory::fuzz::answer(data));
