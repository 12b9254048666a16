//! From the other end's offer to a session.

use std::time::Instant;

use offhook_proto::signalling::MediaOffer;

use super::report::KEEP_ALIVE;
use super::{Driver, Flow};
use crate::media::session::{self, Attempt, CODE_BYE, Established, MAX_HANDSHAKES, Session};
use crate::media::types::{MediaError, MediaEvent, Role};

impl Driver {
    pub(super) async fn set_remote(&mut self, offer: MediaOffer) -> Flow {
        if self.pinned.is_some() {
            return Flow::Go;
        }
        self.pinned = Some(offer.fingerprint);
        self.ice.set_remote(offer.ice_ufrag, offer.ice_pwd, Instant::now());
        let waits = self.wait_for_path();
        match self.config.role {
            // That it can be begun at all is found out now.
            Role::Caller if waits => match self.identity.client(offer.fingerprint) {
                Ok(_) => Flow::Go,
                Err(error) => self.fail(error).await,
            },
            Role::Caller => self.connect().await,
            Role::Callee => match self.identity.server(offer.fingerprint) {
                Ok(config) => {
                    self.endpoint.set_server_config(Some(config));
                    Flow::Go
                }
                Err(error) => self.fail(error).await,
            },
        }
    }

    async fn connect(&mut self) -> Flow {
        if self.begin_handshake() { Flow::Go } else { self.fail(MediaError::Keys).await }
    }

    pub(super) fn begin_handshake(&mut self) -> bool {
        let Some(config) = self.pinned.and_then(|pinned| self.identity.client(pinned).ok()) else {
            return false;
        };
        if self.handshakes.len() < MAX_HANDSHAKES {
            self.handshakes.spawn(session::connect(self.endpoint.clone(), config, self.config.idle_timeout));
        }
        true
    }

    pub(super) fn on_incoming(&mut self, incoming: quinn::Incoming) {
        if self.handshakes.len() < MAX_HANDSHAKES {
            self.handshakes.spawn(session::accept(incoming, self.config.idle_timeout));
        } else {
            incoming.ignore();
        }
    }

    pub(super) async fn on_handshake(&mut self, result: Result<Established, Attempt>) -> Flow {
        match result {
            Ok(established) if self.session.is_none() => self.open_session(established).await,
            Ok(spare) => spare.connection.close(CODE_BYE, b"spare"),
            Err(_) if self.session.is_some() => {}
            Err(Attempt::Refused(MediaError::PeerKey)) => return self.fail(MediaError::PeerKey).await,
            // The caller gives up one of several handshakes, so a callee can't tell refusal from tidying up.
            Err(Attempt::Refused(error))
                if self.config.role == Role::Caller && self.handshakes.is_empty() =>
            {
                return self.fail(error).await;
            }
            Err(Attempt::Refused(_)) => {}
            Err(Attempt::Unheard) => match self.config.role {
                Role::Caller if self.handshakes.is_empty() => return self.connect().await,
                Role::Caller | Role::Callee => {}
            },
        }
        Flow::Go
    }

    /// Sends what may be lost of the handshake again, until both ends have the keys: the callee by the caller's choice of
    /// the connection, the caller when it is told so (RFC 9001 section 4.1.2).
    pub(super) fn repeat_handshake(&self) {
        let is_over = |session: &Session| match self.config.role {
            Role::Caller => session.connection.stats().frame_rx.handshake_done > 0,
            Role::Callee => true,
        };
        if self.socket.handshake_due().is_some() && self.session.as_ref().is_some_and(is_over) {
            self.socket.end_handshake();
        }
        self.socket.repeat_handshake(Instant::now());
    }

    async fn open_session(&mut self, established: Established) {
        let Established { connection, choice } = established;
        let choice = match choice {
            Some(choice) => Some(choice),
            None => {
                self.socket.choose_handshake(true);
                session::choose(&connection).await
            }
        };
        let Some(choice) = choice else {
            // It broke in the moment it stood; the caller tries again.
            self.socket.choose_handshake(false);
            self.begin_handshake();
            return;
        };
        self.link.set_connection(connection.clone());
        let (session, exporter) =
            Session::start(connection, choice, self.session_tx.clone(), self.voice.inbox());
        self.session = Some(session);
        self.handshakes.abort_all();
        self.endpoint.set_server_config(None);
        self.keep_alive_due = Instant::now() + KEEP_ALIVE;
        self.voice.prepare();
        self.try_out();
        let path = self.socket.path();
        tracing::debug!(role = ?self.config.role, ?path, "keys are agreed");
        self.emit(MediaEvent::Connected { exporter, path }).await;
    }
}
