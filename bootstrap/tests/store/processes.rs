//! Processes of one directory, and where their nodes are.

use std::time::Duration;

use offhook_proto::number::NodeAddr;

use crate::bench::{Bench, NOW, minutes};

fn node(text: &str) -> NodeAddr {
    text.parse().unwrap()
}

pub async fn processes_tell_where_they_are_until_they_end_or_are_silent(bench: &Bench) {
    let (one, two) = (bench.open().await, bench.open().await);
    let [a1, a2] = ["/ip4/192.0.2.1/udp/1/quic-v1", "/ip4/192.0.2.1/tcp/1"].map(node);
    let b1 = node("/ip4/192.0.2.2/tcp/1");
    let lately = Duration::from_secs(60);
    one.tell_process("a", &[a1.clone(), a2.clone()], NOW).await.unwrap();
    two.tell_process("b", std::slice::from_ref(&b1), NOW).await.unwrap();
    let all = [a1.clone(), b1.clone(), a2.clone()];
    assert_eq!(one.process_nodes(lately, NOW).await.unwrap(), all, "one of each first");
    assert_eq!(two.process_nodes(lately, minutes(1)).await.unwrap(), all);
    // One that has moved, and one that says nothing.
    one.tell_process("a", std::slice::from_ref(&a2), minutes(1)).await.unwrap();
    assert_eq!(two.process_nodes(lately, minutes(2)).await.unwrap(), [a2]);
    one.forget_processes("a", Duration::from_secs(3_600), minutes(2)).await.unwrap();
    assert_eq!(two.process_nodes(10 * lately, minutes(2)).await.unwrap(), [b1], "it is not forgotten yet");
    one.forget_processes("a", lately, minutes(2)).await.unwrap();
    assert_eq!(two.process_nodes(10 * lately, minutes(2)).await.unwrap(), []);
}
