//! The courier's packets, as it and its users read them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::relay;
use offhook_proto::courier::{FromCourier, MAX_BLOB, Post};

fuzz_target!(|data: &[u8]| {
    relay::fuzz::courier(data);
    assert!(FromCourier::read(data, "password").is_err(), "nobody guesses a password");
    if let Ok(read) = Post::read(data) {
        let post = read.claimed().clone();
        assert!(post.blob.as_ref().is_none_or(|blob| blob.len() <= MAX_BLOB));
        let again = post.write("password");
        let again = Post::read(&again).and_then(|again| again.prove("password"));
        assert!(again == Ok(post));
    }
});
