//! Chosen numbers: what people wish, and transfers, as received and with a good signature over any payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_proto::identity::IdentityKey;
use offhook_proto::number::WishRules;
use offhook_proto::proof::{MAX_TRANSFER_BYTES, SignedTransfer, TRANSFER_LIFETIME, verify_chain};
use offhook_proto::wire::{self, MAX_CLOCK_AHEAD, UnixMillis, domain};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn wish(typed: &str) {
    let rules = WishRules::new("directory.example").expect("a DNS name");
    match rules.judge(typed) {
        Ok(wish) => {
            assert_eq!(wish.skeleton, wish.number.skeleton());
            assert_eq!(rules.judge(&wish.number.to_string()), Ok(wish), "the full form is judged alike");
        }
        Err(error) => assert!(!error.code().is_empty()),
    }
}

fn transfer(envelope: &[u8]) {
    let Ok(signed) = wire::decode::<SignedTransfer>(envelope, 4096) else { return };
    let Ok(transfer) = signed.verify() else { return };
    assert!(wire::encode(&signed).len() <= MAX_TRANSFER_BYTES && transfer.from != transfer.to);
    if signed.verify_fresh(NOW).is_ok() {
        assert!(transfer.at <= NOW.plus(MAX_CLOCK_AHEAD) && NOW.since(transfer.at) <= TRANSFER_LIFETIME);
    }
    let chain = verify_chain(std::slice::from_ref(&signed), &transfer.number, &transfer.to, transfer.at);
    assert_eq!(chain, Ok(vec![transfer]));
    let twice = [signed.clone(), signed];
    assert!(verify_chain(&twice, &transfer.number, &transfer.to, transfer.at).is_err());
}

fuzz_target!(|data: &[u8]| {
    if let Ok(typed) = std::str::from_utf8(data) {
        wish(typed);
    }
    transfer(data);
    transfer(&wire::encode(&IdentityKey::from_seed([7; 32]).sign(domain::NUMBER_TRANSFER, data)));
});
