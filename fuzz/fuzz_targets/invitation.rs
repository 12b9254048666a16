//! Invitation links.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_proto::number::{Invitation, MAX_LINK_BYTES, MAX_VIA};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(invitation) = text.parse::<Invitation>() else { return };
    assert!(invitation.via.len() <= MAX_VIA);
    let link = invitation.to_string();
    assert!(link.len() <= MAX_LINK_BYTES);
    assert_eq!(link.parse(), Ok(invitation));
});
