//! Processes of one directory, of which each tells where the nodes of all are.

use std::time::Duration;

use offhook_proto::number::NodeAddr;
use offhook_proto::wire::UnixMillis;

use super::{Store, StoreError, db};

/// Processes of one directory that are told of at most, the ones heard of last.
pub const MAX_PROCESSES: u32 = 16;
/// Addresses of one process that are kept at most.
pub const MAX_PROCESS_NODES: usize = 16;

impl Store {
    /// Whether other processes may use the same database.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.db.path().is_none()
    }

    /// Says that the process with this peer id runs, and where its node is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tell_process(
        &self,
        peer: &str,
        nodes: &[NodeAddr],
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let nodes: Vec<&str> = nodes.iter().take(MAX_PROCESS_NODES).map(NodeAddr::as_str).collect();
        let (peer, nodes) = (peer.to_owned(), nodes.join("\n"));
        let change = self.db.write_lightly(move |connection| {
            Box::pin(async move {
                let told = sqlx::query(
                    "INSERT INTO processes (peer, nodes, seen) VALUES ($1, $2, $3) \
                     ON CONFLICT (peer) DO UPDATE SET nodes = excluded.nodes, seen = excluded.seen",
                );
                told.bind(peer).bind(nodes).bind(db::time(now)).execute(connection).await?;
                Ok(())
            })
        });
        change.await
    }

    /// Forgets a process that ends, and those that were not heard of for `longest`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_processes(
        &self,
        peer: &str,
        longest: Duration,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let (peer, before) = (peer.to_owned(), db::time(now).saturating_sub(db::span(longest)));
        let change = self.db.write_lightly(move |connection| {
            Box::pin(async move {
                let gone = sqlx::query("DELETE FROM processes WHERE peer = $1 OR seen < $2");
                gone.bind(peer).bind(before).execute(connection).await?;
                Ok(())
            })
        });
        change.await
    }

    /// Nodes of all processes that were heard of within `lately`, in one order for all of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn process_nodes(
        &self,
        lately: Duration,
        now: UnixMillis,
    ) -> Result<Vec<NodeAddr>, StoreError> {
        let since = db::time(now).saturating_sub(db::span(lately));
        let mut rows: Vec<(String, String)> =
            sqlx::query_as("SELECT peer, nodes FROM processes WHERE seen >= $1 ORDER BY seen DESC LIMIT $2")
                .bind(since)
                .bind(i64::from(MAX_PROCESSES))
                .fetch_all(self.db.pool())
                .await?;
        rows.sort();
        // One address of each before a second one of any: of too many the last are left out.
        let nodes = rows.iter().flat_map(|(_, nodes)| nodes.lines().enumerate());
        let mut ranked: Vec<(usize, &str)> = nodes.collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        // What another version has written and this one cannot read is no address.
        Ok(ranked.into_iter().filter_map(|(_, node)| node.parse().ok()).collect())
    }
}
