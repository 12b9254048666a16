//! The terminals of this account, as the network knows them.

use super::Engine;
use crate::api::{ApiError, ErrorCode, Reply, TerminalInfo};
use crate::clock::wall_clock;
use crate::net::{LookupEvent, Net};
use offhook_proto::identity::{IdentityId, TerminalId};
use offhook_proto::number::RecordKey;
use offhook_proto::record::CheckedSet;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the records of the account's own number are looked for.
const LOOK_UP_TIME: Duration = Duration::from_secs(3);

impl Engine {
    /// Tells which terminals the account has. Answers by itself.
    pub(super) fn list_terminals(&self, reply: oneshot::Sender<Result<Reply, ApiError>>) {
        let (net, account) = (self.net.clone(), self.account.clone());
        self.jobs.spawn(async move {
            let listed = async {
                let key = account.number().record_key(None);
                let key =
                    key.ok_or_else(|| ApiError::new(ErrorCode::Internal, "an account without a number"))?;
                let (revoked, _) = account.of_record().await.map_err(|error| error.to_api())?;
                let found = look_up(&net, key, account.identity()).await;
                let this = account.terminal_key().public();
                let terminals = terminals_of(found.as_ref(), this, &revoked);
                Ok(Reply::Terminals { terminals })
            };
            // An error means that the asker went away.
            let _ = reply.send(listed.await);
        });
    }
}

/// The newest that is known of the account.
async fn look_up(net: &Net, key: RecordKey, identity: IdentityId) -> Option<CheckedSet> {
    let mut lookup = net.lookup(key, &[]);
    let mut newest = None;
    let search = async {
        while let Some(LookupEvent::Found { set, .. }) = lookup.next().await {
            if set.account.as_ref().is_some_and(|account| account.identity == identity) {
                newest = Some(set);
            }
        }
    };
    // What has been found by then is good all the same.
    let _ = tokio::time::timeout(LOOK_UP_TIME, search).await;
    newest
}

fn terminals_of(found: Option<&CheckedSet>, this: TerminalId, revoked: &[TerminalId]) -> Vec<TerminalInfo> {
    let now = wall_clock();
    let info = |terminal: TerminalId, online: bool, since: Option<u64>| TerminalInfo {
        terminal: data_encoding::HEXLOWER.encode(terminal.as_bytes()),
        this: terminal == this,
        online,
        revoked: revoked.contains(&terminal),
        certified: since,
    };
    let mut all: BTreeMap<TerminalId, TerminalInfo> = BTreeMap::new();
    all.insert(this, info(this, false, None));
    for terminal in revoked {
        all.insert(*terminal, info(*terminal, false, None));
    }
    for record in found.into_iter().flat_map(|set| &set.terminals) {
        let online = record.is_live(now) && !record.addrs.is_empty();
        let since = Some(record.certificate().not_before.0);
        all.insert(record.terminal(), info(record.terminal(), online, since));
    }
    let mut list: Vec<TerminalInfo> = all.into_values().collect();
    list.sort_by_key(|terminal| (terminal.revoked, !terminal.this));
    list
}
