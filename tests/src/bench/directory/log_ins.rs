//! Log-ins by OPAQUE, begun and ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::accounts::{Account, Api};
use super::{BenchError, Work, cores, other};
use crate::bench::progress;
use crate::people::KNOWN;
use crate::phone::{Directory, DirectoryPlan};

/// Log-ins in all.
const LOG_INS: usize = 6_000;
/// Clients that log in at the same time, one log-in after the other.
const CLIENTS: u8 = 24;

/// Has everybody log in, again and again.
pub(super) fn measure() -> Result<Work, BenchError> {
    let extra = vec!["--site-proxy".to_owned(), "127.0.0.1".to_owned()];
    let directory = Directory::start(None, DirectoryPlan { site: true, extra, ..DirectoryPlan::default() })?;
    let pid = directory.process.pid();
    cores::give_first(pid)?;
    let site = directory.site().ok_or_else(|| other("no site"))?.to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let api = Api::new(&site).await?;
        let accounts = (1..=KNOWN).map(Account::new).collect::<Result<Vec<_>, _>>()?;
        for account in &accounts {
            api.sign_up(account).await?;
        }
        progress(&format!("{} accounts have signed up", accounts.len()));
        let left = Arc::new(AtomicUsize::new(LOG_INS));
        let (start, before) = (Instant::now(), cores::seconds_of(pid)?);
        let clients = (0..CLIENTS)
            .zip(accounts.iter().cycle())
            .map(|(_, account)| tokio::spawn(client(api.clone(), account.clone(), Arc::clone(&left))));
        let clients: Vec<_> = clients.collect();
        let mut each_ms = Vec::new();
        for client in clients {
            each_ms.extend(client.await.map_err(other)??);
        }
        let took = start.elapsed();
        let busy = (cores::seconds_of(pid)? - before) / took.as_secs_f64();
        Ok(Work { done: each_ms.len(), took, each_ms, busy })
    })
}

/// Logs in as long as any are left to do.
async fn client(api: Api, account: Account, left: Arc<AtomicUsize>) -> Result<Vec<f64>, BenchError> {
    let mut each_ms = Vec::new();
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let start = Instant::now();
        api.log_in(&account).await?;
        each_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(each_ms)
}
