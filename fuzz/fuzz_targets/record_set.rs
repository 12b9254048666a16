//! Record sets, as received and with good signatures over any payloads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_proto::identity::{IdentityKey, TerminalKey};
use offhook_proto::number::{Number, RecordKey};
use offhook_proto::record::{
    CheckedSet, MAX_SET_BYTES, MAX_TERMINALS, Merged, RecordSet, SignedAccount, SignedTerminal, check,
    check_stored, merge,
};
use offhook_proto::wire::{self, Signed, UnixMillis, domain};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// Where the number of the seeds' identity lies.
fn key() -> RecordKey {
    let number: Number = "387245519274".parse().expect("a known number");
    number.record_key(None).expect("plain numbers have a key")
}

fn examine(bytes: &[u8]) -> Option<CheckedSet> {
    if let Ok(stored) = check_stored(&key(), bytes) {
        assert!(stored.terminals.len() <= MAX_TERMINALS);
    }
    let set = check(&key(), bytes, NOW).ok()?;
    assert!(set.terminals.len() <= MAX_TERMINALS);
    let again = set.to_set().encode();
    assert_eq!(check(&key(), &again, NOW).as_ref(), Ok(&set));
    if let Ok(merged) = merge(None, &set, NOW) {
        assert!(merged.set.to_set().encode().len() <= MAX_SET_BYTES);
        let unchanged = Merged { set: merged.set.clone(), changed: false };
        assert_eq!(merge(Some(&merged.set), &merged.set, NOW), Ok(unchanged));
    }
    Some(set)
}

fn account(signed: &Signed) -> Option<SignedAccount> {
    wire::decode(&wire::encode(signed), usize::MAX).ok()
}

fn terminal(signed: &Signed) -> Option<SignedTerminal> {
    wire::decode(&wire::encode(signed), usize::MAX).ok()
}

fuzz_target!(|data: &[u8]| {
    let raw = examine(data);
    let identity = IdentityKey::from_seed([7; 32]).sign(domain::ACCOUNT_RECORD, data);
    let owned = examine(&RecordSet { account: account(&identity), terminals: Vec::new() }.encode());
    let from_terminal = TerminalKey::from_seed([101; 32]).sign(domain::TERMINAL_RECORD, data);
    let terminals = terminal(&from_terminal).into_iter().collect();
    let lone = examine(&RecordSet { account: None, terminals }.encode());
    for (held, offered) in [(&raw, &owned), (&owned, &raw), (&raw, &lone), (&owned, &lone)] {
        if let (Some(held), Some(offered)) = (held, offered) {
            let _ = merge(Some(held), offered, NOW);
        }
    }
});
