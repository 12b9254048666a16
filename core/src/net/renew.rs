//! A link whose connection may be dead gets another one beside it, before it is known to be dead: a terminal whose
//! address has changed (libp2p's QUIC does not migrate) is reachable again a second after it noticed, and those who ask
//! meanwhile are not told that it is gone.
//!
//! ```text
//!   probe late -> dial beside -> connected -> close the older ones -> they are closed -> register
//!                                                 identified -> reserve
//! ```

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use tracing::debug;

use super::addr;
use super::driver::Driver;
use super::links::Link;

/// How far a link has got with that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Renewal {
    #[default]
    None,
    /// The other connection is being made.
    Dialing(ConnectionId),
    /// It stands; the older ones have been told to close.
    Closing(ConnectionId),
}

impl Renewal {
    /// All connections are gone. What is still being dialled may yet be the next.
    pub(super) fn broken_off(&mut self) {
        *self = match *self {
            Self::Dialing(connection) => Self::Dialing(connection),
            Self::Closing(_) | Self::None => Self::None,
        };
    }
}

impl Driver {
    /// A probe of a connection to the peer is late.
    pub(super) fn on_late(&mut self, peer: PeerId) {
        if self.renewable(peer).is_none() {
            return;
        }
        // What has become of one may have become of all: this host's address may be another.
        let others: Vec<PeerId> = self.links.home().filter(|home| *home != peer).collect();
        others.into_iter().for_each(|home| self.probe(home));
        self.renew(peer);
    }

    fn renewable(&self, peer: PeerId) -> Option<usize> {
        let wanted = |link: &Link| link.is_up() && link.peer == Some(peer) && link.renewal == Renewal::None;
        self.links.all.iter().position(wanted)
    }

    /// Makes a connection to a link's node beside the one that there is, and that takes its place.
    pub(super) fn renew(&mut self, peer: PeerId) {
        let Some(index) = self.renewable(peer) else { return };
        let addrs = self.links.known.to_dial(peer, &self.links.configured(peer, index));
        let options = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addrs).build();
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => self.links.all[index].renewal = Renewal::Dialing(connection),
            // What there is will be found dead or not.
            Err(error) => debug!(error = addr::dial_error(&error), "cannot dial beside a connection"),
        }
    }

    /// `true` if that connection was made beside others, which are closed now.
    pub(super) fn on_link_renewed(&mut self, peer: PeerId, connection: ConnectionId) -> bool {
        let Some(link) = self.renewing(connection) else { return false };
        if !link.is_up() {
            // It takes the place of one that is gone already, as any first one.
            link.renewal = Renewal::None;
            return false;
        }
        link.renewal = Renewal::Closing(connection);
        // It was granted to the older connection, and goes with it.
        link.reservation = None;
        self.leave_older_connections(peer, connection, false);
        self.on_link_thinned(peer);
        true
    }

    /// One of several connections to a peer has closed: once the older ones have, requests go over the newer one only.
    pub(super) fn on_link_thinned(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get(&peer) else { return };
        let index = self.links.all.iter().position(|link| match link.renewal {
            Renewal::Closing(newer) if link.peer == Some(peer) => !state.has_dialled_before(newer),
            Renewal::Closing(_) | Renewal::Dialing(_) | Renewal::None => false,
        });
        let Some(index) = index else { return };
        let link = &mut self.links.all[index];
        link.renewal = Renewal::None;
        if link.is_home() {
            self.register(index);
        }
    }

    /// `true` if that attempt was to be beside a connection.
    pub(super) fn on_link_not_renewed(&mut self, connection: ConnectionId) -> bool {
        self.renewing(connection).is_some_and(|link| {
            link.renewal = Renewal::None;
            link.is_up()
        })
    }

    fn renewing(&mut self, connection: ConnectionId) -> Option<&mut Link> {
        self.links.all.iter_mut().find(|link| link.renewal == Renewal::Dialing(connection))
    }
}
