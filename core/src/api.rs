//! Commands, events and error codes: one typed vocabulary for the library, the control socket, the
//! command line and the desktop app.
//!
//! Everything here is serde-serialisable JSON. Errors cross as [`ErrorCode`]s; the sentence beside a code
//! is for people and may change. Names are in `snake_case` on the wire.

mod answers;
mod ends;
mod errors;
mod keys;
mod presence;
mod serving;

use offhook_proto::number::Number;
use serde::{Deserialize, Serialize};

pub use answers::{Contact, LookupResult, VerifyResult};
pub use ends::{EndReason, FailureCode};
pub use errors::{ApiError, ErrorCode};
pub use keys::{CallKeys, TransferFailure, TransferState, Volumes};
pub use presence::{ContactPresence, PresenceInfo, PresenceSettings, PresenceState, Visibility};
pub use serving::{Serving, Unproved};

/// A call's identifier in the API: 32 hex digits of its [`offhook_proto::signalling::CallId`].
pub type CallRef = String;

/// Days before the end of a terminal's certificate from which the user is reminded.
pub const CERTIFICATE_WARNING_DAYS: i64 = 60;

/// Who ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// This terminal.
    Local,
    /// The other end.
    Remote,
    /// Another terminal of the called account.
    Elsewhere,
    /// Nobody: a time-out, a failure, a failed look-up.
    Network,
}

/// Where a call's packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// Through signalling only: keys are agreed, no sound flows yet.
    Signalling,
    /// Straight between the two terminals.
    Direct,
    /// Through a relay, encrypted end to end.
    Relayed,
}

/// The relay that carries a call's packets on their way from and to this terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayUse {
    /// Whose it is: the PeerId of a directory, or the host of a TURN server of the user's own.
    pub through: String,
    /// What carries the packets between this terminal and the relay: `udp`, `tcp` or `tls`.
    pub over: String,
}

/// How the telephone stands with the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineState {
    /// Looking for a way into the network.
    Starting,
    /// A directory knows this terminal; the number is being published. It can dial.
    Publishing,
    /// The number is published and was read back, or, on a network without any directory, others are near who
    /// ask this terminal itself: it can be called.
    Online,
    /// No entry point is known, and nobody is near.
    Alone,
    /// No entry point is reachable, or nobody there holds the number.
    Offline,
}

/// What a program is told while the telephone runs. Serialised with the tag `event`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// This terminal can be called: see [`LineState::Online`].
    Online {
        /// The account's number.
        number: Number,
    },
    /// No entry point into the network is known, and nobody is near: this terminal cannot be called until
    /// somebody comes near or it is started with an entry point.
    Alone,
    /// No entry point is reachable, or nobody there holds the number: calls from the internet will not arrive
    /// until `Online` comes again.
    Offline,
    /// From now on this terminal serves the network, or no longer.
    Serving {
        /// Whether, and why.
        #[serde(flatten)]
        serving: Serving,
    },
    /// The callee's records are being looked up.
    Searching {
        /// The call.
        call: CallRef,
        /// The number dialled.
        number: Number,
    },
    /// Live terminals were found and are being invited.
    Found {
        /// The call.
        call: CallRef,
        /// How many terminals so far.
        terminals: usize,
    },
    /// A terminal of the callee really rings.
    Ringing {
        /// The call.
        call: CallRef,
    },
    /// Somebody calls this terminal: ring.
    Incoming {
        /// The call.
        call: CallRef,
        /// The caller's number, proven.
        number: Number,
        /// The caller's name in the contact list, if it is there.
        name: Option<String>,
        /// Whether the caller is a contact.
        contact: bool,
        /// The call whose place it takes when it stands, since that one's other end has transferred it; answered at once where
        /// both are with contacts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<CallRef>,
    },
    /// The call was answered.
    Accepted {
        /// The call.
        call: CallRef,
    },
    /// The media connection between the two ends is up and authenticated.
    Connected {
        /// The call.
        call: CallRef,
        /// How packets travel at this moment.
        path: PathKind,
        /// Through which relay, if through one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        relay: Option<RelayUse>,
    },
    /// Packets now travel another way.
    Path {
        /// The call.
        call: CallRef,
        /// The new way.
        path: PathKind,
        /// Through which relay, if through one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        relay: Option<RelayUse>,
    },
    /// Microphone and loudspeaker run. Sample `i` of the microphone is spoken at `mic_epoch_ns + i/rate`,
    /// sample `i` of the loudspeaker is heard at `speaker_epoch_ns + i/rate` (CLOCK_MONOTONIC).
    AudioStarted {
        /// The call.
        call: CallRef,
        /// Time of the microphone's first sample, nanoseconds.
        mic_epoch_ns: u64,
        /// Time of the loudspeaker's first sample, nanoseconds.
        speaker_epoch_ns: u64,
    },
    /// The first sound of the other end was played.
    FirstAudio {
        /// The call.
        call: CallRef,
    },
    /// A text message arrived.
    Text {
        /// The sender's number.
        from: Number,
        /// The sender's name in the contact list, if it is there.
        name: Option<String>,
        /// The message.
        body: String,
        /// The call it belongs to, if any.
        call: Option<CallRef>,
        /// The message's identifier, 32 hex digits.
        id: String,
    },
    /// A text message of ours is on the other terminal.
    TextDelivered {
        /// The message's identifier.
        id: String,
    },
    /// A text message of ours could not be delivered.
    TextFailed {
        /// The message's identifier.
        id: String,
        /// Why.
        #[serde(flatten)]
        reason: EndReason,
    },
    /// The other end pressed a key (RFC 4733).
    Dtmf {
        /// The call.
        call: CallRef,
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
    },
    /// The other end put the call on hold or took it back.
    RemoteHold {
        /// The call.
        call: CallRef,
        /// On hold?
        on: bool,
    },
    /// The other end muted or opened its microphone.
    RemoteMute {
        /// The call.
        call: CallRef,
        /// Muted?
        on: bool,
    },
    /// This end put the call on hold or took it back: by a command, or since another call is talked in.
    Hold {
        /// The call.
        call: CallRef,
        /// On hold?
        on: bool,
    },
    /// This end muted or opened its microphone.
    Mute {
        /// The call.
        call: CallRef,
        /// Muted?
        on: bool,
    },
    /// The other end asks this user to call somebody else instead: [`Command::Follow`] within half a minute.
    TransferAsked {
        /// The call.
        call: CallRef,
        /// Whom to call.
        number: Number,
        /// The name in the contact list, if it is there.
        name: Option<String>,
        /// The other end is talking with whom to call.
        attended: bool,
    },
    /// How the transfer of a call goes that was asked for here.
    Transfer {
        /// The call.
        call: CallRef,
        /// How it stands.
        state: TransferState,
        /// Why it has failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<TransferFailure>,
    },
    /// A contact has told how it is.
    Presence {
        /// The contact's number.
        number: Number,
        /// Its name in the contact list.
        name: String,
        /// How it is.
        state: PresenceState,
        /// In its own words; may be empty.
        note: String,
    },
    /// The key behind a known number is not the pinned one. Calls are refused until it is confirmed.
    KeyChanged {
        /// The number.
        number: Number,
        /// Fingerprint of the pinned key.
        pinned: String,
        /// Fingerprint of the key that was met.
        offered: String,
    },
    /// The terminal's certificate expires soon; told once a day from 60 days before. Entering the password renews it. When
    /// it has expired the terminal can't be called. Of the time of the start tells [`Status::certificate_days`].
    CertificateExpires {
        /// Days that are left, 0 when it has expired.
        days: i64,
    },
    /// A sound device was lost; the call goes on with another.
    DeviceLost {
        /// The call.
        call: CallRef,
        /// What happened to which device, in words.
        device: String,
    },
    /// The call is over.
    Ended {
        /// The call.
        call: CallRef,
        /// The other end's number.
        number: Number,
        /// Why.
        #[serde(flatten)]
        reason: EndReason,
        /// Who ended it.
        by: Side,
        /// Talking time, milliseconds; 0 if it was not answered.
        duration_ms: u64,
    },
    /// Something went wrong that no command waits for.
    Error {
        /// The code.
        code: ErrorCode,
        /// A sentence for people.
        message: String,
    },
}

impl Event {
    /// The call that the event belongs to, if it belongs to one.
    pub fn call(&self) -> Option<&str> {
        match self {
            Self::Searching { call, .. }
            | Self::Found { call, .. }
            | Self::Ringing { call }
            | Self::Incoming { call, .. }
            | Self::Accepted { call }
            | Self::Connected { call, .. }
            | Self::Path { call, .. }
            | Self::AudioStarted { call, .. }
            | Self::FirstAudio { call }
            | Self::Dtmf { call, .. }
            | Self::RemoteHold { call, .. }
            | Self::RemoteMute { call, .. }
            | Self::Hold { call, .. }
            | Self::Mute { call, .. }
            | Self::TransferAsked { call, .. }
            | Self::Transfer { call, .. }
            | Self::DeviceLost { call, .. }
            | Self::Ended { call, .. } => Some(call),
            Self::Text { call, .. } => call.as_deref(),
            Self::Online { .. }
            | Self::Alone
            | Self::Offline
            | Self::Serving { .. }
            | Self::TextDelivered { .. }
            | Self::TextFailed { .. }
            | Self::Presence { .. }
            | Self::KeyChanged { .. }
            | Self::CertificateExpires { .. }
            | Self::Error { .. } => None,
        }
    }
}

/// An [`Event`] with the time it happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimedEvent {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub t_ns: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// State of one call in [`Status`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallStatus {
    /// The call.
    pub call: CallRef,
    /// The other end's number.
    pub number: Number,
    /// Whether this end dialled.
    pub outgoing: bool,
    /// `searching`, `inviting`, `ringing`, `connecting`, `active`, `ended`.
    pub state: String,
    /// Hold, mute, volume.
    #[serde(flatten)]
    pub keys: CallKeys,
    /// How media travel, once connected.
    pub path: Option<PathKind>,
    /// Through which relay, if through one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayUse>,
    /// Round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// RTP packets received.
    pub packets_received: u64,
    /// RTP packets lost on the way here; negative when some came twice.
    pub packets_lost: i64,
    /// Interarrival jitter (RFC 3550, section 6.4.1), milliseconds.
    pub jitter_ms: f64,
    /// Delay of the jitter buffer, milliseconds.
    pub buffer_ms: f64,
    /// Share of played frames that were concealed, 0 to 1.
    pub concealed: f64,
    /// Frames that were played from a copy in a later packet, because their own was lost.
    #[serde(default)]
    pub restored: u64,
}

/// An answer to [`Command::Status`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The account's ID.
    pub account: String,
    /// Its number.
    pub number: Number,
    /// Fingerprint of its identity key.
    pub fingerprint: String,
    /// How it stands with the network.
    pub line: LineState,
    /// Directories this terminal is registered with.
    pub directories: usize,
    /// Peers connected.
    pub peers: usize,
    /// Unix milliseconds of the last successful publication.
    pub published: Option<u64>,
    /// Whether it serves the network.
    pub serving: Serving,
    /// Days until the terminal's certificate expires; enter the password before.
    pub certificate_days: i64,
    /// Current calls.
    pub calls: Vec<CallStatus>,
}

/// What a program asks of the telephone. Serialised with the tag `command`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Dial a number or an invitation link.
    Dial {
        /// What was typed.
        number: String,
    },
    /// Answer a ringing call (the oldest one without `call`).
    Answer {
        /// The call.
        call: Option<CallRef>,
    },
    /// Decline a ringing call.
    Reject {
        /// The call.
        call: Option<CallRef>,
    },
    /// End a call, whatever its state.
    Hangup {
        /// The call.
        call: Option<CallRef>,
    },
    /// Send a text message.
    Text {
        /// What was typed.
        number: String,
        /// The message, at most 4 KiB.
        body: String,
    },
    /// Press keys in a call.
    Dtmf {
        /// The call.
        call: Option<CallRef>,
        /// The keys.
        digits: String,
    },
    /// Hold or resume a call. Whoever is on hold hears music. Resuming one puts the others on hold.
    Hold {
        /// The call.
        call: Option<CallRef>,
        /// On hold?
        on: bool,
    },
    /// Mute or open the microphone.
    Mute {
        /// The call.
        call: Option<CallRef>,
        /// Muted?
        on: bool,
    },
    /// From the call in which one talks to the one on hold.
    Swap,
    /// Have the other end call somebody else instead; when the two talk, the call ends here. [`Event::Transfer`] tells how it goes.
    Transfer {
        /// The call.
        #[serde(default)]
        call: Option<CallRef>,
        /// What was typed: whom to call. Without it the other end of the other answered call, with which one has talked.
        #[serde(default)]
        to: Option<String>,
    },
    /// Do what the other end asks for by [`Event::TransferAsked`], or don't.
    Follow {
        /// The call.
        #[serde(default)]
        call: Option<CallRef>,
        /// Whether to.
        yes: bool,
    },
    /// Tell or set what contacts are told of this user.
    Presence {
        /// How the user is; busy is told by itself.
        #[serde(default)]
        state: Option<PresenceState>,
        /// In the user's own words, at most 256 bytes.
        #[serde(default)]
        note: Option<String>,
        /// Who is told.
        #[serde(default)]
        visible: Option<Visibility>,
    },
    /// Tell or set how loud it is.
    Volume {
        /// In this call alone; without it in all, and in later ones.
        #[serde(default)]
        call: Option<CallRef>,
        /// 0 to 200 percent; without it nothing is changed.
        #[serde(default)]
        percent: Option<u16>,
        /// The bell instead of the loudspeaker.
        #[serde(default)]
        ringer: bool,
    },
    /// Look a number up without ringing.
    Lookup {
        /// What was typed.
        number: String,
    },
    /// The telephone's state.
    Status,
    /// The words and digits of a call's keys.
    Verify {
        /// The call.
        call: Option<CallRef>,
        /// Remember that the people compared them and they were the same.
        confirm: bool,
    },
    /// List the contacts.
    Contacts,
    /// Add or rename a contact.
    ContactAdd {
        /// What was typed: a number or an invitation link.
        number: String,
        /// Its name.
        name: String,
    },
    /// Remove a contact.
    ContactRemove {
        /// Number or name.
        contact: String,
    },
    /// Accept a contact's changed key.
    ContactConfirm {
        /// Number or name.
        contact: String,
    },
    /// The invitation link of this account.
    Link,
    /// Another program has renewed the certificate, the account record or the ID in the account's file: take them up.
    Renewed,
    /// Take the telephone off line and end the program.
    Shutdown,
}

/// A positive answer to a [`Command`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Done,
    /// A call was begun.
    Call {
        /// The call.
        call: CallRef,
    },
    /// A message was taken; `text_delivered` or `text_failed` follows.
    Message {
        /// The message's identifier.
        id: String,
    },
    /// A look-up's result.
    Lookup(LookupResult),
    /// The state.
    Status(Status),
    /// Words and digits.
    Verify(VerifyResult),
    /// The contacts.
    Contacts {
        /// By name.
        contacts: Vec<Contact>,
    },
    /// How loud it is.
    Volumes(Volumes),
    /// What contacts are told.
    Presence(PresenceSettings),
    /// An invitation link.
    Link {
        /// The link.
        link: String,
    },
}

/// CLOCK_MONOTONIC in nanoseconds, the time base of every event.
pub fn monotonic_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // The monotonic clock starts at boot: neither part is negative.
    (t.tv_sec as u64) * 1_000_000_000 + t.tv_nsec as u64
}
