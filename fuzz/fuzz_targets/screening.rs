//! Policies against unwanted calls, as files and other terminals hold them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_proto::screening::{LocalTime, MAX_BLOCKED, MAX_POLICY_BYTES, MAX_WINDOWS, Policy};
use offhook_proto::wire::UnixMillis;

fuzz_target!(|data: &[u8]| {
    let Ok(policy) = Policy::from_bytes(data) else { return };
    assert!(policy.blocked().len() <= MAX_BLOCKED && policy.quiet.windows.len() <= MAX_WINDOWS);
    let Ok(again) = policy.to_bytes() else { return };
    assert!(again.len() <= MAX_POLICY_BYTES && Policy::from_bytes(&again).as_ref() == Ok(&policy));
    for weekday in 0..7 {
        for minute in (0..1440).step_by(120) {
            let local = LocalTime { weekday, minute, at: UnixMillis(1_800_000_000_000) };
            let _ = (policy.quiet(local, true), policy.quiet(local, false));
        }
    }
    let mut open = policy.clone();
    for who in policy.blocked() {
        assert!(open.unblock(who));
    }
    assert!(open.blocked().is_empty());
    let nothing = Policy::default();
    let _ = (policy.merged(&nothing, &nothing), policy.merged(&policy, &nothing));
});
