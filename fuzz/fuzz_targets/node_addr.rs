//! Addresses of nodes in text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::net;
use offhook_proto::number::{MAX_NODE_ADDR_BYTES, NodeAddr};
use offhook_proto::wire;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(addr) = text.parse::<NodeAddr>() else { return };
    assert!(addr.as_str().len() <= MAX_NODE_ADDR_BYTES && addr.as_str().is_ascii());
    if let Some(ip) = addr.ip() {
        assert!(!format!("{addr:?}").contains(&format!("/{ip}/")), "an address in Debug");
    }
    let _ = (addr.peer_id(), addr.is_relayed());
    net::fuzz::address(text);
    let bytes = wire::encode(&addr);
    assert_eq!(wire::decode::<NodeAddr>(&bytes, bytes.len()), Ok(addr));
});
