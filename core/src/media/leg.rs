//! One end of a call's media: the public handle. The work is done by the task behind it, see [`super::driver`].

use std::fmt;
use std::sync::Arc;

use offhook_proto::signalling::MediaOffer;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::driver::{Command, Driver, Started};
use super::socket::MediaSocket;
use super::types::{MediaConfig, MediaError, MediaEvent, MediaStats};

/// Commands that may wait for the task; only the owner of the leg sends them.
const COMMANDS: usize = 256;

/// One end of a call's media. All methods return at once; what happens is told by [`MediaEvent`]s. Dropping it
/// ends everything; [`MediaLeg::close`] does so politely.
pub struct MediaLeg {
    offer: MediaOffer,
    commands: mpsc::Sender<Command>,
    socket: Arc<MediaSocket>,
    stats: watch::Receiver<MediaStats>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl MediaLeg {
    /// Binds the socket, makes the keys and begins to gather candidates. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// No socket, no keys, or the microphone's file cannot be played.
    pub fn start(config: MediaConfig, events: mpsc::Sender<MediaEvent>) -> Result<MediaLeg, MediaError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(MediaError::NoRuntime);
        }
        let (commands_tx, commands) = mpsc::channel(COMMANDS);
        let (stats_tx, stats) = watch::channel(MediaStats::default());
        let cancel = CancellationToken::new();
        let started = Driver::start(config, commands, events, stats_tx, cancel.clone())?;
        let Started { offer, socket, task } = started;
        Ok(MediaLeg { offer, commands: commands_tx, socket, stats, cancel, task })
    }

    /// What the other end has to know.
    pub fn offer(&self) -> MediaOffer {
        self.offer.clone()
    }

    /// Tells what the other end offers, from signed signalling. The keys are agreed from now on. Only the first
    /// offer counts.
    pub fn set_remote(&self, offer: MediaOffer) {
        self.command(Command::SetRemote(offer));
    }

    /// Our addresses may be shown to the other end from now on.
    pub fn disclose(&self) {
        self.command(Command::Disclose);
    }

    /// Tells candidates of the other end, from signed signalling. Useless ones and those beyond 32 are ignored.
    pub fn add_remote_candidates(&self, candidates: Vec<String>) {
        self.command(Command::Candidates(candidates));
    }

    /// Takes a packet that the other end's leg gave out as [`MediaEvent::Tunnel`], from signed signalling.
    pub fn tunnel(&self, packet: Vec<u8>) {
        self.socket.tunnel_in(packet);
    }

    /// Opens the devices; from now on both sides are heard.
    pub fn start_audio(&self) {
        self.command(Command::StartAudio);
    }

    /// Closes the devices.
    pub fn stop_audio(&self) {
        self.command(Command::StopAudio);
    }

    /// Sends silence instead of the microphone, or not any more.
    pub fn set_mute(&self, on: bool) {
        self.command(Command::Mute(on));
    }

    /// Passes on neither side's voice, or both again.
    pub fn set_hold(&self, on: bool) {
        self.command(Command::Hold(on));
    }

    /// Sends a frame of at most 8 KiB on the control stream: reliable and in order while the connection lives.
    /// Lost without a connection, so what matters goes through signalling too.
    pub fn send_control(&self, frame: Vec<u8>) {
        self.command(Command::Control(frame));
    }

    /// How the media do, renewed four times a second.
    pub fn stats(&self) -> watch::Receiver<MediaStats> {
        self.stats.clone()
    }

    /// Delivers what was given to [`MediaLeg::send_control`], says good-bye to the other end and waits until everything
    /// of the leg has ended.
    pub async fn close(mut self) {
        // Behind the commands given before. If there is no room, the end can't wait for them.
        if self.commands.try_send(Command::Close).is_err() {
            self.cancel.cancel();
        }
        // A panic in the task has been reported by the runtime already.
        let _ = (&mut self.task).await;
    }

    fn command(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            tracing::debug!("media leg is over or takes no more commands");
        }
    }
}

/// Without keys and addresses.
impl fmt::Debug for MediaLeg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaLeg").field("path", &self.socket.path()).finish_non_exhaustive()
    }
}

impl Drop for MediaLeg {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
