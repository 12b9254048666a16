//! Terminals made of the library: what of them uses the network, and nothing else.

use std::time::Duration;

use offhook::net::{Net, NetConfig, NetStatus, Role};
use offhook_proto::number::NodeAddr;
use tokio::runtime::Runtime;

use super::BenchError;
use crate::lab::Host;
use crate::people::{Person, now};

/// How long a terminal may take until it is registered.
const PATIENCE: Duration = Duration::from_secs(30);

/// The network of a terminal, on a host of the lab. Ends when dropped.
pub(super) struct Telephone {
    pub net: Net,
    runtime: Option<Runtime>,
}

impl Telephone {
    /// Starts it and waits until it is registered with its one directory.
    pub(super) fn register(host: &Host, entry: &str, person: &Person) -> Result<Self, BenchError> {
        let entry: NodeAddr = entry.parse().map_err(other)?;
        let mut config = NetConfig::new(*person.terminal.seed(), Role::Terminal);
        config.cert = Some(person.cert(now()));
        config.entry = vec![entry];
        // Its threads are made on the host, and so are all its sockets.
        let runtime =
            host.run(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build())??;
        let started = runtime.block_on(runtime.spawn(start(config)));
        let net = started.map_err(other)??;
        Ok(Self { net, runtime: Some(runtime) })
    }

    /// Runs a task on the host.
    pub(super) fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, BenchError> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(runtime.spawn(task)).map_err(other),
            None => Err(BenchError::Other("the terminal has ended".to_owned())),
        }
    }
}

impl Drop for Telephone {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn start(config: NetConfig) -> Result<Net, BenchError> {
    let (net, mut events) = Net::start(config).await.map_err(other)?;
    // Somebody has to read them.
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let mut watch = net.watch();
    let registered = watch.wait_for(|status: &NetStatus| !status.routes.is_empty());
    match tokio::time::timeout(PATIENCE, registered).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => return Err(other("a terminal is not registered in time")),
    }
    Ok(net)
}

fn other(error: impl std::fmt::Display) -> BenchError {
    BenchError::Other(error.to_string())
}
