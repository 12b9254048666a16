//! What directories say of themselves, in the network: held for them, and nobody else's word taken for theirs.

use std::time::Duration;

use offhook::net::{NetConfig, PublishError, Role};
use offhook::proto::descriptor::{DescriptorError, SignedDescriptor};
use offhook::proto::identity::DirectoryKey;
use offhook::proto::number::NodeAddr;
use offhook::proto::wire::UnixMillis;

use crate::common::{Node, PATIENCE, directory, loopback};
use crate::fixture::{Party, descriptor, now};

fn key(seed: u8) -> DirectoryKey {
    DirectoryKey::from_seed([seed; 32])
}

async fn node(seed: u8, role: Role, entry: &[NodeAddr]) -> Node {
    let mut config: NetConfig = loopback(seed, role);
    config.entry = entry.to_vec();
    Node::start(config).await
}

/// Waits until a node finds this descriptor.
async fn found(node: &Node, key: &DirectoryKey, wanted: &SignedDescriptor) {
    let there = async {
        while node.net.descriptor(&key.public()).await.as_ref() != Some(wanted) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.expect("the descriptor is found");
}

#[tokio::test]
async fn q3_a_descriptor_is_found_after_its_directory_has_gone_and_the_latest_one_counts() {
    let first = directory(31).await;
    let entry = [first.addr().await];
    let second = node(32, Role::Directory, &entry).await;
    let third = node(33, Role::Directory, &entry).await;
    let gone = node(34, Role::Directory, &entry).await;
    for node in [&second, &third, &gone] {
        node.until("the others", |status| status.peers >= 2).await;
    }
    let key = key(1);
    let (old, new) = (descriptor(&key, UnixMillis(now().0 - 60_000)), descriptor(&key, now()));
    let published = gone.net.publish_descriptor(&old).await.expect("held by others");
    assert!(published.holders >= 1, "{published:?}");
    gone.net.publish_descriptor(&new).await.expect("held by others");
    gone.net.shutdown().await;

    let party = Party::new(0);
    let terminal = crate::common::terminal(&party, &entry).await;
    terminal.registered(1).await;
    found(&terminal, &key, &new).await;
    found(&second, &key, &new).await;
    found(&third, &key, &new).await;
    // Whoever repeats the older one changes nothing.
    assert!(second.net.publish_descriptor(&old).await.is_err(), "it holds the later one itself");
    found(&terminal, &key, &new).await;
    assert_eq!(terminal.net.descriptor(&DirectoryKey::from_seed([9; 32]).public()).await, None);
    for node in [first, second, third, terminal] {
        node.net.shutdown().await;
    }
}

#[tokio::test]
async fn q3_a_descriptor_that_is_over_or_from_the_future_is_published_by_nobody() {
    let node = directory(35).await;
    let key = key(2);
    let over = descriptor(&key, UnixMillis(now().0 - 91 * 86_400_000));
    let early = descriptor(&key, now().plus(Duration::from_secs(3_600)));
    let refused = node.net.publish_descriptor(&over).await;
    assert_eq!(refused, Err(PublishError::Descriptor(DescriptorError::Expired)));
    let refused = node.net.publish_descriptor(&early).await;
    assert_eq!(refused, Err(PublishError::Descriptor(DescriptorError::NotYetValid)));
    assert_eq!(node.net.descriptor(&key.public()).await, None);
    node.net.shutdown().await;
}
