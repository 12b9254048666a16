//! Lines of the control socket, in both directions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_node::control::protocol::{
    Answer, event_line, parse_answer, parse_request, reply_line, request_line,
};

fuzz_target!(|data: &[u8]| {
    let Ok(line) = str::from_utf8(data) else { return };
    if let Ok(request) = parse_request(line) {
        let again = request_line(&request);
        assert!(!again.contains('\n'));
        assert_eq!(parse_request(&again), Ok(request));
    }
    if let Ok(answer) = parse_answer(line) {
        let again = match &answer {
            Answer::Reply(reply) => reply_line(reply),
            Answer::Event(event) => event_line(event),
        };
        assert!(!again.contains('\n'));
        assert!(parse_answer(&again).is_ok_and(|same| same == answer), "{again}");
    }
});
