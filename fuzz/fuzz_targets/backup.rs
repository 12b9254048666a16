//! Backups, sealed ones as received and contents as if the right key had sealed them, and recovery words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_proto::backup::{MAX_BACKUP_BYTES, RecoveryWords, SealedBackup, fuzz};
use offhook_proto::identity::IdentityKey;

fuzz_target!(|data: &[u8]| {
    if let Ok(sealed) = SealedBackup::from_bytes(data) {
        assert!(sealed.to_bytes().len() <= MAX_BACKUP_BYTES);
        assert!(sealed.check_version(sealed.version()).is_ok());
        let _ = sealed.open_as_owner(&IdentityKey::from_seed([7; 32]));
    }
    if let Some(again) = fuzz::rewritten(data) {
        assert_eq!(fuzz::rewritten(&again).as_ref(), Some(&again), "what was read is written alike");
    }
    if let Ok(words) = std::str::from_utf8(data).unwrap_or_default().parse::<RecoveryWords>() {
        assert!(words.to_string().parse() == Ok(words));
    }
});
