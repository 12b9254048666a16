//! Where a directory is reached: at this process's node, and at those of others that share its database.

use std::time::Duration;

use offhook::clock::wall_clock;
use offhook::net::Net;
use offhook_proto::number::NodeAddr;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use crate::store::{Store, StoreError};
use crate::web::Reach;

/// How often a process says that it runs, and looks who else does.
const EVERY: Duration = Duration::from_secs(20);
/// For how long one is told of that says nothing any more.
const LATELY: Duration = Duration::from_secs(60);
/// After that it is forgotten.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Keeps `reach` up with where the nodes are; `ports` are the same at all of them.
pub(crate) async fn follow(store: Store, net: Net, ports: Reach, reach: watch::Sender<Reach>) {
    let mut node = net.watch();
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let own = node.borrow_and_update().addresses.clone();
        let nodes = match shared(&store, &net, &own).await {
            Ok(nodes) => nodes,
            Err(error) => {
                warn!(%error, "the directory's other processes are not known now");
                own
            }
        };
        let now = Reach { nodes, ..ports.clone() };
        reach.send_if_modified(|before| {
            let is_new = *before != now;
            *before = now;
            is_new
        });
        tokio::select! {
            changed = node.changed() => if changed.is_err() { return },
            _ = rounds.tick() => {}
        }
    }
}

/// Says where this process's node is; the nodes of all.
async fn shared(store: &Store, net: &Net, own: &[NodeAddr]) -> Result<Vec<NodeAddr>, StoreError> {
    if !store.is_shared() || own.is_empty() {
        return Ok(own.to_vec());
    }
    let now = wall_clock();
    store.tell_process(&net.id().to_peer_id(), own, now).await?;
    store.process_nodes(LATELY, now).await
}

/// Says that this process ends. Others that have ended without a word go, too.
pub(crate) async fn leave(store: &Store, net: &Net) {
    if store.is_shared()
        && let Err(error) = store.forget_processes(&net.id().to_peer_id(), LONGEST, wall_clock()).await
    {
        warn!(%error, "the directory's other processes will hear of this one for a minute");
    }
}
