//! What goes into a leg and what comes out of it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use offhook_proto::emodel::Rating;
use offhook_proto::identity::TerminalId;
use offhook_proto::rate::Plan;
use offhook_proto::relay::{RelayServer, RelayTransport};
use offhook_proto::rtp::LossBursts;
use offhook_proto::signalling::{CallId, LastWord};

use super::mapping::PortMapper;
use crate::audio::{AudioError, DeviceKind, DeviceSpec, HoldMusic, Level, Processing, Volume};

/// Default of [`MediaConfig::direct_patience`].
const DIRECT_PATIENCE: Duration = Duration::from_millis(300);
/// Default of [`MediaConfig::relay_patience`].
const RELAY_PATIENCE: Duration = Duration::from_millis(500);
/// Default of [`MediaConfig::idle_timeout`].
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Which end of the call this is. The caller is the controlling ICE agent and the QUIC client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// This end dialled.
    Caller,
    /// This end was rung.
    Callee,
}

/// Where voice comes from and goes to.
#[derive(Debug, Clone, Default)]
pub struct AudioConfig {
    /// Microphone.
    pub mic: DeviceSpec,
    /// Loudspeaker.
    pub speaker: DeviceSpec,
    /// What is done to the microphone's sound.
    pub processing: Processing,
    /// What the other end hears while the call is on hold.
    pub music: HoldMusic,
    /// How loud the loudspeaker is.
    pub volume: Volume,
    /// Only the other end is heard: neither one's own keys nor a tone that tells of a waiting call.
    pub quiet: bool,
}

/// A TURN server (RFC 8656) that passes packets on between two ends that can't reach each other, and shows neither end's
/// address to the other.
#[derive(Clone, PartialEq, Eq)]
pub struct Relay {
    /// Whom to show as the relay: a directory's peer id, or a host name.
    pub label: String,
    /// Under which addresses and over what it can be reached; the first eight are tried.
    pub servers: Vec<RelayServer>,
    /// User name (RFC 8489 section 9.2).
    pub username: String,
    /// Password.
    pub password: String,
    /// A nonce that the servers take in the realm [`REALM`](offhook_proto::relay::REALM) without having challenged, if one is known.
    pub nonce: Option<String>,
    /// Whether the other end is expected to use it too: packets then take one detour instead of two, so it comes first.
    pub shared: bool,
    /// Whether it is a directory's, whose UDP port is a [courier](offhook_proto::courier) too.
    pub courier: bool,
    /// Over what directories are reached from here at present. Servers over anything better are tried, but not waited for.
    pub reached_over: RelayTransport,
}

/// Who is at the other end of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Party {
    /// The call, as its packets name it.
    pub call: CallId,
    /// The other terminal.
    pub terminal: TerminalId,
}

/// Without user name and password.
impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("label", &self.label)
            .field("servers", &self.servers)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

/// How a leg works.
#[derive(Debug, Clone)]
pub struct MediaConfig {
    /// Which end this is.
    pub role: Role,
    /// STUN servers (RFC 8489) that tell how others see our address; the first four are asked.
    pub stun_servers: Vec<SocketAddr>,
    /// Whether the other end may learn our addresses from the start. Otherwise nothing is sent to it but tunnel
    /// packets until [`MediaLeg::disclose`](super::MediaLeg::disclose), except through a relay.
    pub disclose: bool,
    /// Relays, the best first; the first two are used. Asked for an address at once, or with `disclose` only if
    /// [`direct_patience`](MediaConfig::direct_patience) has been in vain; what they give is told to the other
    /// end before disclosure, too.
    pub relays: Vec<Relay>,
    /// Who the couriers of those relays pass packets on to; without it none are used.
    pub party: Option<Party>,
    /// Whether the other end must never learn our addresses: media go through relays only, whatever
    /// [`MediaLeg::disclose`](super::MediaLeg::disclose) says.
    pub relay_only: bool,
    /// What asks the router for a port, at which the leg can then be reached. Never with `relay_only`.
    pub ports: Option<PortMapper>,
    /// Between ends that show their addresses from the start, the handshake waits for a direct path for this long, and addresses
    /// at relays twice as long, at most until the call is answered. 300 ms unless there is a reason: through two directories
    /// signalling takes 300 ms there and back, checks 200.
    pub direct_patience: Duration,
    /// Between other ends the handshake waits for a path through a relay, if there is one, for this long, at most until the call is answered.
    /// 500 ms unless there is a reason: the callee has its address there a round trip after it rings, telling it takes another, and checks
    /// a third.
    pub relay_patience: Duration,
    /// Address to bind instead of all.
    pub bind: Option<IpAddr>,
    /// Whether loopback addresses are candidates even if there are others. Without any other address, or when
    /// bound to a loopback address, they always are.
    pub allow_loopback: bool,
    /// The leg fails when a direct path has been without a packet of the other end for this long, or an answered
    /// call without a path. 15 s unless there is a reason.
    pub idle_timeout: Duration,
    /// Sound.
    pub audio: AudioConfig,
}

impl MediaConfig {
    /// A leg that shows its addresses, without STUN servers, on the default devices.
    pub fn new(role: Role) -> MediaConfig {
        MediaConfig {
            role,
            stun_servers: Vec::new(),
            disclose: true,
            relays: Vec::new(),
            party: None,
            relay_only: false,
            ports: None,
            direct_patience: DIRECT_PATIENCE,
            relay_patience: RELAY_PATIENCE,
            bind: None,
            allow_loopback: false,
            idle_timeout: IDLE_TIMEOUT,
            audio: AudioConfig::default(),
        }
    }
}

/// The way that QUIC packets take at present.
#[derive(Clone, PartialEq, Eq)]
pub enum Path {
    /// Handed to the owner of the leg, who carries them through signalling. Keys only, never voice.
    Tunnel,
    /// Through a relay of ours, and perhaps one of the other end.
    Relayed {
        /// Label of our relay.
        relay: Arc<str>,
        /// What carries the packets between us and the relay.
        transport: RelayTransport,
        /// Our address at the relay.
        local: SocketAddr,
        /// Where the relay sends them to.
        remote: SocketAddr,
    },
    /// From a local address straight to the other end.
    Direct {
        /// Our address.
        local: SocketAddr,
        /// Its address.
        remote: SocketAddr,
    },
}

impl Path {
    /// Whether voice may take it.
    pub fn carries_voice(&self) -> bool {
        match self {
            Path::Tunnel => false,
            Path::Relayed { .. } | Path::Direct { .. } => true,
        }
    }

    /// The name that events use.
    pub fn name(&self) -> &'static str {
        match self {
            Path::Tunnel => "tunnel",
            Path::Relayed { .. } => "relayed",
            Path::Direct { .. } => "direct",
        }
    }
}

/// Without addresses: those are for the two parties only, not for logs.
impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What has happened to a device, with its id or what went wrong in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceNews {
    /// It went away; the leg goes on with the default one, or without.
    Lost(String),
    /// The chosen one is there again, and used again.
    Back(String),
    /// The one that was chosen while the leg ran is used from now on.
    Used(String),
    /// That one cannot be used; the leg goes on with the one before.
    Refused(String),
}

/// What a leg reports to its owner.
#[derive(Clone)]
pub enum MediaEvent {
    /// Our candidates in SDP form (RFC 8839 section 5.1), to be told to the other end. Before disclosure only relayed
    /// ones, in which no address of ours stands.
    Candidates(Vec<String>),
    /// Our own candidates, all of them, which the other end must not be told before disclosure: to be kept until then in the place of
    /// those that were told so before, and told with the answer. [`MediaEvent::Candidates`] does not repeat them.
    Withheld(Vec<String>),
    /// Our addresses have changed. These candidates replace all that were told before, at the other end by
    /// [`replace_remote_candidates`](super::MediaLeg::replace_remote_candidates); further ones may follow as
    /// [`MediaEvent::Candidates`]. At most four times a second.
    Moved(Vec<String>),
    /// QUIC packets, at most three of at most 1500 bytes each, to be carried to the other end's
    /// [`tunnel`](super::MediaLeg::tunnel) in one message. At most 64 packets come, and one
    /// more every 2 s.
    Tunnel(Vec<Vec<u8>>),
    /// The keys are agreed and both certificates are the ones that signalling told.
    Connected {
        /// TLS exporter with label `offhook verification`, the same at both ends.
        exporter: [u8; 32],
        /// The way in use.
        path: Path,
    },
    /// The way changed.
    PathChanged(Path),
    /// A frame of the control stream.
    Control(Vec<u8>),
    /// A signalling packet that a courier has brought, and nobody has looked at.
    Passed(Vec<u8>),
    /// The voice runs. Sample `i` of the microphone is spoken at `mic_epoch_ns + i / 48 kHz`, sample `i` of
    /// the loudspeaker is heard at `speaker_epoch_ns + i / 48 kHz`, in nanoseconds of CLOCK_MONOTONIC.
    AudioStarted {
        /// When the first sample was spoken.
        mic_epoch_ns: u64,
        /// When the first sample is heard.
        speaker_epoch_ns: u64,
    },
    /// The first sound of the other end is heard at this time.
    FirstAudio {
        /// Nanoseconds of CLOCK_MONOTONIC.
        at_ns: u64,
    },
    /// Something happened to the microphone or the loudspeaker.
    Device(DeviceKind, DeviceNews),
    /// How loud microphone and loudspeaker are, while [wanted](super::MediaLeg::set_measured).
    Levels {
        /// The microphone, before anything is done to its sound.
        mic: Level,
        /// The loudspeaker.
        speaker: Level,
    },
    /// The leg has failed and is over.
    Failed(MediaError),
    /// The other end closed the media; what it repeats of the call's last message.
    Closed(Option<LastWord>),
}

/// Without addresses, packets and keys.
impl fmt::Debug for MediaEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MediaEvent::Candidates(lines) => write!(f, "Candidates({})", lines.len()),
            MediaEvent::Withheld(lines) => write!(f, "Withheld({})", lines.len()),
            MediaEvent::Moved(lines) => write!(f, "Moved({})", lines.len()),
            MediaEvent::Tunnel(packets) => write!(f, "Tunnel({} packets)", packets.len()),
            MediaEvent::Connected { exporter: _, path } => write!(f, "Connected({path:?})"),
            MediaEvent::PathChanged(path) => write!(f, "PathChanged({path:?})"),
            MediaEvent::Control(frame) => write!(f, "Control({} bytes)", frame.len()),
            MediaEvent::Passed(packet) => write!(f, "Passed({} bytes)", packet.len()),
            MediaEvent::AudioStarted { .. } => f.write_str("AudioStarted"),
            MediaEvent::FirstAudio { .. } => f.write_str("FirstAudio"),
            MediaEvent::Device(kind, news) => write!(f, "Device({kind:?}, {news:?})"),
            MediaEvent::Levels { mic, speaker } => write!(f, "Levels({}, {})", mic.rms, speaker.rms),
            MediaEvent::Failed(error) => write!(f, "Failed({error:?})"),
            MediaEvent::Closed(last) => write!(f, "Closed({last:?})"),
        }
    }
}

/// Why a leg could not start, or ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MediaError {
    /// No UDP socket.
    #[error("cannot open a UDP socket: {0}")]
    Bind(std::io::ErrorKind),
    /// No thread, or no runtime on it.
    #[error("cannot start a thread for the media: {0}")]
    Thread(std::io::ErrorKind),
    /// No certificate or TLS configuration could be made.
    #[error("cannot prepare the keys of the call")]
    Keys,
    /// The other end has another certificate than signalling told: somebody is in between.
    #[error("the other end's key is not the one it announced")]
    PeerKey,
    /// The handshake failed for another reason.
    #[error("the other end does not speak the media protocol")]
    Handshake,
    /// The call is answered, but no way to the other end was found that can carry voice.
    #[error("no way to the other end was found")]
    NoPath,
    /// Nothing was heard for the idle time-out.
    #[error("the connection to the other end was lost")]
    Lost,
    /// Microphone or loudspeaker.
    #[error(transparent)]
    Audio(#[from] AudioError),
}

/// How the media do. Times are those of the last report, counts are since the start.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaStats {
    /// The way in use.
    pub path: Path,
    /// Round-trip time as QUIC measures it; zero until connected.
    pub rtt: Duration,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// RTP packets received.
    pub packets_received: u64,
    /// RTP packets that never came; negative when some came twice.
    pub packets_lost: i64,
    /// Rows of packets that never came, as far as it is known that none of them is only late.
    pub bursts: LossBursts,
    /// Share of our packets that the other end missed since its last report, 0 to 1.
    pub remote_loss: f32,
    /// How many of our packets the other end has missed in all, as it reported last; negative when some came twice.
    pub remote_lost: i64,
    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub jitter: Duration,
    /// Delay that the jitter buffer adds.
    pub buffer_delay: Duration,
    /// Share of frames that had to be concealed, 0 to 1.
    pub concealed: f64,
    /// Frames that were played from a copy in a later packet, because their own was lost.
    pub restored: u64,
    /// What is done with our frames: the codec's rate, and where their copies travel.
    pub plan: Plan,
    /// Bits per second that the other end's codec seems to have, copies not counted; none until somebody was heard.
    pub remote_bitrate: Option<u32>,
    /// Bits per second on the wire in the last second, sent: whole IP packets as over IPv4, everything included.
    pub sending: u64,
    /// The same of what was received.
    pub receiving: u64,
    /// How good the last ten seconds were to talk in; none until something was heard.
    pub rating: Option<Rating>,
    /// How good all of it was.
    pub overall: Option<Rating>,
    /// Mean round-trip time of all seconds in which something was heard.
    pub mean_rtt: Duration,
    /// Mean delay of the jitter buffer in them.
    pub mean_buffer: Duration,
    /// UDP payload bytes sent, everything included.
    pub bytes_sent: u64,
    /// UDP payload bytes received.
    pub bytes_received: u64,
    /// Packets that were dropped: from an address that never proved itself, of no known kind, or too many
    /// through the tunnel.
    pub refused: u64,
}

impl Default for MediaStats {
    fn default() -> MediaStats {
        MediaStats {
            path: Path::Tunnel,
            rtt: Duration::ZERO,
            packets_sent: 0,
            packets_received: 0,
            packets_lost: 0,
            bursts: LossBursts::default(),
            remote_loss: 0.0,
            remote_lost: 0,
            jitter: Duration::ZERO,
            buffer_delay: Duration::ZERO,
            concealed: 0.0,
            restored: 0,
            plan: Plan::default(),
            remote_bitrate: None,
            sending: 0,
            receiving: 0,
            rating: None,
            overall: None,
            mean_rtt: Duration::ZERO,
            mean_buffer: Duration::ZERO,
            bytes_sent: 0,
            bytes_received: 0,
            refused: 0,
        }
    }
}
