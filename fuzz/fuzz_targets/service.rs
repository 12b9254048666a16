//! What nodes ask of one another, and the answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_proto::service::{MAX_MESSAGE, Request, Response};
use offhook_proto::wire;

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = wire::decode::<Request>(data, MAX_MESSAGE) {
        let again = wire::encode(&request);
        assert!(wire::decode::<Request>(&again, usize::MAX).is_ok_and(|again| again == request));
        let _ = format!("{request:?}");
    }
    if let Ok(response) = wire::decode::<Response>(data, MAX_MESSAGE) {
        let again = wire::encode(&response);
        assert!(wire::decode::<Response>(&again, usize::MAX).is_ok_and(|again| again == response));
        let _ = format!("{response:?}");
    }
});
