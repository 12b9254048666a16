//! Directories of chosen numbers: met at their sites, remembered by their keys, followed through the network.
//!
//! A number `ada@NAME` lies under a key that follows from the directory's, so nothing can be dialled before that is known. It is asked
//! of the site once, because the user dials; from then on the remembered key counts, and neither site nor DNS is needed.

use super::{Engine, Internal};
use crate::api::{ApiError, Command, ErrorCode, Event, Reply};
use crate::clock::wall_clock;
use crate::net::Net;
use crate::sites::{SiteError, Sites};
use crate::storage::{AccountStore, DirectoryPin, PinnedDirectory, StorageError};
use offhook_proto::descriptor::{Descriptor, DescriptorError, SignedDescriptor};
use offhook_proto::identity::DirectoryId;
use offhook_proto::number::{NodeAddr, Number};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long what is known of a directory is good before it is asked for again, when one of its numbers is dialled.
const REFRESH: Duration = Duration::from_secs(86_400);

/// Nodes of a directory that are asked for its numbers, or by which the network is entered if there is no other way.
const MAX_NODES: usize = 4;

/// What came of asking about a directory.
pub(super) enum News {
    /// It was met, or was not; a command waits for that.
    Met {
        command: Command,
        reply: oneshot::Sender<Result<Reply, ApiError>>,
        /// Another key than the remembered one, if the site names one.
        result: Result<Option<Changed>, ApiError>,
    },
    /// Its site names another key than the remembered one.
    Changed(Changed),
}

/// Another key of a directory than the remembered one.
pub(super) struct Changed {
    name: String,
    pinned: DirectoryId,
    offered: DirectoryId,
}

impl Engine {
    /// The directory that has to be met before the command can be carried out.
    pub(super) async fn unmet(&self, command: &Command) -> Option<String> {
        let (Command::Dial { number: typed }
        | Command::Text { number: typed, .. }
        | Command::VoicemailLeave { number: typed, .. }
        | Command::Lookup { number: typed }
        | Command::Transfer { to: Some(typed), .. }) = command
        else {
            return None;
        };
        let Ok(link) = self.account.resolve(typed).await else { return None };
        let name = directory_of(&link.number)?;
        // An error shows again when the command is carried out.
        self.account.known_directory(name).await.is_ok_and(|known| known.is_none()).then(|| name.to_owned())
    }

    /// Asks the directory's site who it is, and then carries the command out.
    pub(super) fn meet(
        &self,
        name: String,
        command: Command,
        reply: oneshot::Sender<Result<Reply, ApiError>>,
    ) {
        let (sites, account, internal) = (self.sites.clone(), self.account.clone(), self.internal.clone());
        self.jobs.spawn(async move {
            let result = meet(&*sites, &account, &name).await;
            // An error means that the engine has ended.
            let _ = internal.send(Internal::Directory(News::Met { command, reply, result })).await;
        });
    }

    pub(super) async fn on_directory(&mut self, news: News) {
        match news {
            News::Met { command, reply, result: Ok(changed) } => {
                if let Some(changed) = changed {
                    self.tell_changed(&changed);
                }
                self.execute_met(command, reply).await;
            }
            News::Met { reply, result: Err(error), .. } => {
                // An error means that the asker went away.
                let _ = reply.send(Err(error));
            }
            News::Changed(changed) => self.tell_changed(&changed),
        }
    }

    fn tell_changed(&mut self, Changed { name, pinned, offered }: &Changed) {
        let (name, pinned, offered) = (name.clone(), pinned.to_string(), offered.to_string());
        self.emit(Event::DirectoryChanged { name, pinned, offered });
    }

    /// Is at home with the directories that the account is with, beside the configured entry points: whoever has logged in needs no
    /// other, and where several processes are behind one name, one of them may go.
    pub(super) fn move_in(&mut self) {
        self.moved_in = Instant::now();
        let (sites, account, net) = (self.sites.clone(), self.account.clone(), self.net.clone());
        let internal = self.internal.clone();
        self.jobs.spawn(async move {
            match own_directories(&account).await {
                Ok(names) => {
                    for name in names {
                        if let Some(news) = move_in(&sites, &account, &net, &name).await {
                            // An error means that the engine has ended.
                            let _ = internal.send(Internal::Directory(news)).await;
                        }
                    }
                }
                Err(error) => tracing::error!(%error, "the account's directories could not be read"),
            }
        });
    }

    /// Looks once in a while where the account's directories are by now.
    pub(super) fn move_if_due(&mut self) {
        if self.moved_in.elapsed() >= REFRESH {
            self.move_in();
        }
    }

    /// Nodes of the number's directory, which hold what its terminals publish; none of a plain number. Looks whether it has moved, if
    /// that was not done for long.
    pub(super) async fn directory_nodes(&self, number: &Number) -> Vec<NodeAddr> {
        let Some(name) = directory_of(number) else { return Vec::new() };
        let known = match self.account.known_directory(name).await {
            Ok(Some(known)) => known,
            Ok(None) => return Vec::new(),
            Err(error) => {
                tracing::error!(%error, "the directories could not be read");
                return Vec::new();
            }
        };
        self.refresh(&known);
        nodes_of(&known)
    }

    /// Asks the site and the network what has become of a directory, unless that was done lately.
    pub(super) fn refresh(&self, known: &PinnedDirectory) {
        if wall_clock().since(known.asked) < REFRESH {
            return;
        }
        let (sites, account, net) = (self.sites.clone(), self.account.clone(), self.net.clone());
        let (known, internal) = (known.clone(), self.internal.clone());
        self.jobs.spawn(async move {
            match refresh(sites, &account, &net, &known).await {
                Ok(Some(offered)) => {
                    let (name, pinned) = (known.name, known.directory);
                    let news = Internal::Directory(News::Changed(Changed { name, pinned, offered }));
                    // An error means that the engine has ended.
                    let _ = internal.send(news).await;
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "a directory's descriptor could not be kept"),
            }
        });
    }
}

/// The directory in the full form of a number.
pub(super) fn directory_of(number: &Number) -> Option<&str> {
    match number {
        Number::Plain(_) => None,
        Number::Chosen(chosen) => chosen.directory(),
    }
}

/// Directories that keep the account, and the one that the user has chosen as home.
async fn own_directories(account: &AccountStore) -> Result<BTreeSet<String>, StorageError> {
    let known = account.directories().await?.into_iter().map(|known| known.name);
    // One that is known by host and port only says nothing of itself.
    let mut names: BTreeSet<_> = known.filter(|name| !name.contains(':')).collect();
    names.extend(account.home_directory().await?);
    Ok(names)
}

/// Makes the nodes of a directory homes: those that are remembered at once, and those that it has now.
async fn move_in(sites: &Arc<dyn Sites>, account: &AccountStore, net: &Net, name: &str) -> Option<News> {
    let is_fresh = |known: &PinnedDirectory| wall_clock().since(known.asked) < REFRESH;
    let known = account.known_directory(name).await.ok().flatten();
    let mut news = None;
    match known.filter(|known| known.descriptor.is_some()) {
        Some(known) => {
            settle(net, &known).await;
            if is_fresh(&known) {
                return None;
            }
            if let Ok(Some(offered)) = refresh(sites.clone(), account, net, &known).await {
                let (name, pinned) = (known.name, known.directory);
                news = Some(News::Changed(Changed { name, pinned, offered }));
            }
        }
        None => match meet(&**sites, account, name).await {
            Ok(changed) => news = changed.map(News::Changed),
            Err(error) => tracing::info!(%error, "the account's directory could not be met"),
        },
    }
    if let Ok(Some(known)) = account.known_directory(name).await {
        settle(net, &known).await;
    }
    news
}

/// Is at home with the nodes that a directory has said last; without any, where it was.
async fn settle(net: &Net, known: &PinnedDirectory) {
    let nodes = nodes_of(known);
    if !nodes.is_empty() {
        net.set_homes(known.directory, nodes).await;
    }
}

/// Nodes of a directory, by what it has said last: one address of each before a second one of any.
pub(super) fn nodes_of(known: &PinnedDirectory) -> Vec<NodeAddr> {
    let descriptor = known.descriptor.as_ref();
    let verified =
        descriptor.and_then(|signed| signed.verify_pinned(&known.name, &known.directory, wall_clock()).ok());
    let nodes = verified.map(|descriptor| descriptor.nodes).unwrap_or_default();
    one_of_each_first(nodes).into_iter().take(MAX_NODES).collect()
}

fn one_of_each_first(nodes: Vec<NodeAddr>) -> Vec<NodeAddr> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, NodeAddr)> = nodes
        .into_iter()
        .map(|node| {
            let rank = seen.entry(node.peer_id().unwrap_or_default().to_owned()).or_default();
            *rank += 1;
            (*rank, node)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, node)| node).collect()
}

/// Who the site of `name` says it is; another key than the remembered one, if it is one. Only here TLS has a say; what the network holds under some key is no proof of any name.
async fn meet(sites: &dyn Sites, account: &AccountStore, name: &str) -> Result<Option<Changed>, ApiError> {
    let (descriptor, signed) = ask_site(sites, name).await.map_err(|error| unmet(name, error))?;
    match account.pin_directory(name, &descriptor.directory, Some(&signed)).await {
        Ok(DirectoryPin::New | DirectoryPin::Matches) => Ok(None),
        // The account's own, which was known, or met meanwhile by another command: the key that was there counts.
        Ok(DirectoryPin::Differs { pinned }) => {
            Ok(Some(Changed { name: name.to_owned(), pinned, offered: descriptor.directory }))
        }
        Err(error) => Err(error.to_api()),
    }
}

/// Why a site does not say who the directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unmet {
    Site(SiteError),
    Descriptor(DescriptorError),
}

async fn ask_site(sites: &dyn Sites, name: &str) -> Result<(Descriptor, SignedDescriptor), Unmet> {
    let bytes = sites.descriptor(name).await.map_err(Unmet::Site)?;
    let signed = SignedDescriptor::from_bytes(&bytes).map_err(Unmet::Descriptor)?;
    let descriptor = signed.verify_named(name, wall_clock()).map_err(Unmet::Descriptor)?;
    Ok((descriptor, signed))
}

fn unmet(name: &str, error: Unmet) -> ApiError {
    let (code, why) = match error {
        Unmet::Site(SiteError::Unreachable) => (
            ErrorCode::DirectoryUnreachable,
            format!(
                "The directory \"{name}\" cannot be reached, and its key is not known here yet. Try again later, or have its key told \
                 by somebody you trust and add it: `offhook directory add {name} KEY`."
            ),
        ),
        Unmet::Site(SiteError::NoDirectory)
        | Unmet::Descriptor(DescriptorError::Malformed | DescriptorError::TooLarge(_)) => {
            (ErrorCode::UnknownDirectory, format!("There is no directory at \"{name}\"."))
        }
        Unmet::Descriptor(error @ (DescriptorError::NotYetValid | DescriptorError::Expired)) => (
            ErrorCode::UnknownDirectory,
            format!(
                "What the directory \"{name}\" says of itself is not valid by this computer's clock: {error}."
            ),
        ),
        Unmet::Descriptor(error) => (
            ErrorCode::UnknownDirectory,
            format!("The site of \"{name}\" does not prove to be that directory's: {error}."),
        ),
    };
    ApiError::new(code, why)
}

/// Asks the site and the network at once; the later descriptor of the remembered key is kept. Another key that the site names
/// is told.
async fn refresh(
    sites: Arc<dyn Sites>,
    account: &AccountStore,
    net: &Net,
    known: &PinnedDirectory,
) -> Result<Option<DirectoryId>, StorageError> {
    let name = known.name.as_str();
    let (site, network) = tokio::join!(ask_site(&*sites, name), net.descriptor(&known.directory));
    let mut latest = known.descriptor.clone().and_then(|signed| of_pinned(known, signed));
    let (offered, told) = match site {
        Ok((descriptor, signed)) if descriptor.directory == known.directory => (None, Some(signed)),
        Ok((descriptor, _)) => (Some(descriptor.directory), None),
        Err(error) => {
            tracing::debug!(?error, "a directory's site tells nothing");
            (None, None)
        }
    };
    for (descriptor, signed) in [told, network].into_iter().flatten().filter_map(|s| of_pinned(known, s)) {
        if latest.as_ref().is_none_or(|(held, _)| descriptor.is_newer_than(held)) {
            latest = Some((descriptor, signed));
        }
    }
    let latest = latest.map(|(_, signed)| signed);
    account.pin_directory(name, &known.directory, latest.as_ref()).await?;
    if let Some(offered) = offered.filter(|offered| known.offered != Some(*offered)) {
        account.pin_directory(name, &offered, None).await?;
        return Ok(Some(offered));
    }
    Ok(None)
}

fn of_pinned(known: &PinnedDirectory, signed: SignedDescriptor) -> Option<(Descriptor, SignedDescriptor)> {
    let verified = signed.verify_pinned(&known.name, &known.directory, wall_clock());
    verified.ok().map(|descriptor| (descriptor, signed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_is_tried_before_another_address_of_one() {
        let [a, b] = [1, 2].map(|seed| offhook_proto::identity::TerminalKey::from_seed([seed; 32]).public());
        let of = |id, at: &str| -> NodeAddr {
            format!("{at}{}", NodeAddr::of_peer(id)).parse().expect("an address")
        };
        let [a1, a2, a3] = ["/ip4/192.0.2.1/udp/1/quic-v1", "/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/tcp/443"]
            .map(|at| of(&a, at));
        let b1 = of(&b, "/ip4/192.0.2.2/udp/1/quic-v1");
        let ordered = one_of_each_first(vec![a1.clone(), a2.clone(), a3.clone(), b1.clone()]);
        assert_eq!(ordered, [a1, b1, a2, a3]);
    }
}
