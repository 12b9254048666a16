//! One end of a call's media: the public handle. The work is done by the task behind it, see [`super::driver`], on
//! a thread with a runtime of its own: voice packets must not wait for whatever else the program does, nor one leg of
//! a fork for another, and with the runtime all of the leg's tasks and sockets end.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, mpsc as setup};

use offhook_proto::signalling::{LastWord, MediaOffer};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::driver::{Command, Driver, Ends};
use super::socket::MediaSocket;
use super::types::{MediaConfig, MediaError, MediaEvent, MediaStats, Relay};
use super::urgency;
use crate::audio::{DeviceSpec, Volume};
use crate::recording::Tap;

/// Commands that may wait for the task; only the owner of the leg sends them.
const COMMANDS: usize = 256;

/// One end of a call's media. All methods return at once; what happens is told by [`MediaEvent`]s. Dropping it
/// ends everything; [`MediaLeg::close`] does so politely.
pub struct MediaLeg {
    offer: MediaOffer,
    candidates: Vec<String>,
    commands: mpsc::Sender<Command>,
    socket: Arc<MediaSocket>,
    stats: watch::Receiver<MediaStats>,
    cancel: CancellationToken,
    done: oneshot::Receiver<Infallible>,
}

impl MediaLeg {
    /// Binds the socket, makes the keys and begins to gather candidates.
    ///
    /// # Errors
    /// No socket, no keys, no thread, or the microphone's file cannot be played.
    pub fn start(config: MediaConfig, events: mpsc::Sender<MediaEvent>) -> Result<MediaLeg, MediaError> {
        let (commands_tx, commands) = mpsc::channel(COMMANDS);
        let (stats_tx, stats) = watch::channel(MediaStats::default());
        let cancel = CancellationToken::new();
        let ends = Ends { commands, events, stats: stats_tx, cancel: cancel.clone() };
        let (done_tx, done) = oneshot::channel();
        let (ready, set_up) = setup::sync_channel(1);
        std::thread::Builder::new()
            .name("offhook-media".into())
            .spawn(move || {
                run(&config, ends, &ready);
                drop::<oneshot::Sender<Infallible>>(done_tx);
            })
            .map_err(|error| MediaError::Thread(error.kind()))?;
        // A thread that ends without a word has panicked, and the runtime has reported it.
        let SetUp { offer, candidates, socket } =
            set_up.recv().map_err(|_| MediaError::Thread(std::io::ErrorKind::Other))??;
        Ok(MediaLeg { offer, candidates, commands: commands_tx, socket, stats, cancel, done })
    }

    /// What the other end has to know.
    pub fn offer(&self) -> MediaOffer {
        self.offer.clone()
    }

    /// Our candidates that are known from the start, none before [disclosure](MediaConfig::disclose). The other end is to be
    /// told of them with the offer; further ones come as [`MediaEvent::Candidates`].
    pub fn candidates(&self) -> Vec<String> {
        self.candidates.clone()
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

    /// Another relay may be used from now on. Those beyond two are ignored.
    pub fn add_relay(&self, relay: Relay) {
        self.command(Command::AddRelay(relay));
    }

    /// Tells candidates of the other end, from signed signalling. Useless ones and those beyond 32 are ignored.
    pub fn add_remote_candidates(&self, candidates: Vec<String>) {
        self.command(Command::Candidates(candidates));
    }

    /// Tells that the other end has moved, as its leg has reported by [`MediaEvent::Moved`]: these candidates replace all that
    /// were told before. From signed signalling, like those.
    pub fn replace_remote_candidates(&self, candidates: Vec<String>) {
        self.command(Command::ReplaceCandidates(candidates));
    }

    /// Takes one of the packets that the other end's leg gave out as [`MediaEvent::Tunnel`], from signed signalling.
    pub fn tunnel(&self, packet: Vec<u8>) {
        self.socket.tunnel_in(packet);
    }

    /// The call is answered: opens the devices. From now on both sides are heard, as soon as there is a way.
    pub fn start_audio(&self) {
        self.command(Command::StartAudio);
    }

    /// Sends silence instead of the microphone, or not any more.
    pub fn set_mute(&self, on: bool) {
        self.command(Command::Mute(on));
    }

    /// Holds the call: the other end hears music instead of the microphone, nothing is heard of it, and both devices are
    /// let go of. Or goes on with it.
    pub fn set_hold(&self, on: bool) {
        self.command(Command::Hold(on));
    }

    /// Goes on with another microphone, loudspeaker or both: each is opened beside the one that runs, which goes on until the other
    /// one works. [`MediaEvent::Device`] tells whether it does.
    pub fn use_devices(&self, mic: Option<DeviceSpec>, speaker: Option<DeviceSpec>) {
        self.command(Command::UseDevices(mic, speaker));
    }

    /// Tells [`MediaEvent::Levels`] ten times a second, or not any more.
    pub fn set_measured(&self, on: bool) {
        self.command(Command::Measure(on));
    }

    /// Records both voices from now on, or no longer.
    pub(crate) fn record(&self, tap: Option<Tap>) {
        self.command(Command::Record(tap));
    }

    /// Uses these devices instead of the configured ones, and works on no sound of theirs. Before [`MediaLeg::start_audio`] only.
    pub(crate) fn use_instead(&self, mic: DeviceSpec, speaker: DeviceSpec) {
        self.command(Command::UseInstead(mic, speaker));
    }

    /// How loud the other end is heard.
    pub fn set_volume(&self, volume: Volume) {
        self.command(Command::Volume(volume));
    }

    /// Mixes in the tone that tells of a call that waits, or not any more.
    pub fn set_waiting(&self, on: bool) {
        self.command(Command::Waiting(on));
    }

    /// Sounds a key of the dial pad (ITU-T Q.23) to both ends, after those pressed before.
    pub fn press(&self, key: char) {
        self.command(Command::Press(key));
    }

    /// Sends a frame of at most 8 KiB on the control stream: reliable and in order while the connection lives.
    /// Lost without a connection, so what matters goes through signalling too.
    pub fn send_control(&self, frame: Vec<u8>) {
        self.command(Command::Control(frame));
    }

    /// Whether nothing has been heard of the other end for too long, while voice should come.
    pub fn is_silent(&self) -> bool {
        self.socket.is_silent()
    }

    /// Whether control frames find the other end, and do not wait for it to open their stream.
    pub fn has_control(&self) -> bool {
        self.socket.has_control()
    }

    /// Sends a sealed signalling packet of at most 1 KiB by the relays' [couriers](offhook_proto::courier), for when nothing
    /// else finds the other end, or not in time. It comes out there as [`MediaEvent::Passed`], perhaps several times or never.
    pub fn pass(&self, packet: Vec<u8>) {
        self.command(Command::Pass(packet));
    }

    /// What [`MediaLeg::close`] repeats of the call's last message. A plain bye unless told.
    pub fn last_word(&self, last: LastWord) {
        self.command(Command::LastWord(last));
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
        // Nothing is ever sent: this waits for the thread to let go of its end.
        let _ = (&mut self.done).await;
    }

    #[cfg(test)]
    pub(super) fn socket(&self) -> &MediaSocket {
        &self.socket
    }

    fn command(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            tracing::debug!("media leg is over or takes no more commands");
        }
    }
}

/// What a leg's thread has made before anything can be done with it.
struct SetUp {
    offer: MediaOffer,
    candidates: Vec<String>,
    socket: Arc<MediaSocket>,
}

/// The thread of a leg, from its set-up to its end.
fn run(config: &MediaConfig, ends: Ends, ready: &setup::SyncSender<Result<SetUp, MediaError>>) {
    urgency::raise();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let started = runtime.map_err(|error| MediaError::Thread(error.kind())).and_then(|runtime| {
        let context = runtime.enter();
        let (driver, inputs) = Driver::new(config, ends)?;
        drop(context);
        Ok((runtime, driver, inputs))
    });
    match started {
        Ok((runtime, mut driver, inputs)) => {
            let candidates = driver.first_candidates();
            let set_up = SetUp { offer: driver.offer(), candidates, socket: driver.socket() };
            // If nobody takes the result any more, nobody wants the leg.
            if ready.send(Ok(set_up)).is_ok() {
                runtime.block_on(driver.run(inputs));
            }
        }
        Err(error) => {
            let _ = ready.send(Err(error));
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
