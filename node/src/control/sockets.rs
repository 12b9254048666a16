//! Where the terminals of a home listen: the first one at `HOME/control.sock`, others that run beside it, each with an account of its
//! own, at `HOME/control-FINGERPRINT.sock`.

use super::{ControlSocket, Remote};
use crate::config::Context;
use crate::exit::Failure;
use crate::telephone::{Telephone as _, unexpected};
use offhook::api::{Command, ErrorCode, Reply};
use offhook::storage::AccountId;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

/// Most terminals of one home that are looked for.
const MAX_TERMINALS: usize = 32;
/// How long one may take to say whose it is: it may be starting.
const TO_SAY: Duration = Duration::from_secs(10);

/// A terminal that runs here, and whose it is.
pub struct Running {
    /// The way to it.
    pub remote: Remote,
    /// The account's ID.
    pub account: String,
}

/// The sockets that there are; a killed terminal may have left one behind.
fn sockets(context: &Context) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(context.home.dir()).into_iter().flatten().flatten();
    let is_one = |name: &str| name.starts_with("control-") && name.ends_with(".sock");
    let others = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_one));
    let mut others: Vec<PathBuf> = others.map(|entry| entry.path()).collect();
    others.sort();
    std::iter::once(context.socket()).chain(others).take(MAX_TERMINALS).collect()
}

/// The terminals that run here.
///
/// # Errors
/// A socket cannot be opened.
pub async fn remotes(context: &Context) -> Result<Vec<Remote>, Failure> {
    let mut remotes = Vec::new();
    for socket in sockets(context) {
        remotes.extend(Remote::connect(&socket).await?);
    }
    Ok(remotes)
}

/// Whose a terminal is.
///
/// # Errors
/// It does not say.
pub async fn whose(remote: Remote) -> Result<Running, Failure> {
    let reply = remote.execute(Command::Status).await?;
    let Reply::Status(status) = reply else { return Err(unexpected(&reply).into()) };
    Ok(Running { remote, account: status.account })
}

/// Binds the socket of a terminal that is to run `account`.
///
/// # Errors
/// [`ErrorCode::InUse`] if one runs that account here already.
pub async fn bind(context: &Context, account: &AccountId) -> Result<ControlSocket, Failure> {
    let _alone = lock(context).await?;
    let first = context.socket();
    let mut is_first_taken = false;
    for socket in sockets(context) {
        let asked = async {
            match Remote::connect(&socket).await? {
                Some(remote) => whose(remote).await.map(Some),
                None => Ok(None),
            }
        };
        // One that does not say it is on its way, up or down; the lock of its account then decides.
        match timeout(TO_SAY, asked).await {
            Ok(Ok(Some(running))) if running.account == account.as_str() => {
                return Err(Failure::new(
                    ErrorCode::InUse,
                    "A terminal is running here already. `offhook status` shows it.",
                ));
            }
            Ok(Ok(None)) => {}
            Ok(Ok(Some(_)) | Err(_)) | Err(_) => is_first_taken |= socket == first,
        }
    }
    if !is_first_taken {
        return ControlSocket::bind(&first).await;
    }
    let accounts = context.home.accounts().await?;
    let own = accounts.iter().find(|known| known.id == *account);
    let own = own.ok_or_else(|| offhook::storage::StorageError::NoAccount(account.to_string()))?;
    ControlSocket::bind(&first.with_file_name(format!("control-{}.sock", own.fingerprint))).await
}

/// Two terminals that start at the same time do not take the same socket.
async fn lock(context: &Context) -> Result<std::fs::File, Failure> {
    let path = context.home.dir().join(".control.lock");
    let taken = tokio::task::spawn_blocking(move || {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        file.lock().map(|()| file)
    });
    let taken = taken.await.map_err(|_| Failure::system("A thread could not be started."))?;
    taken.map_err(|error| Failure::system(format!("The control socket's lock can't be had: {error}.")))
}
