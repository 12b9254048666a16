//! What a program is told while the telephone runs.

use offhook_proto::number::Number;
use serde::{Deserialize, Serialize};

use super::{
    CallRef, CallStats, CallSummary, ChosenDevices, EndReason, ErrorCode, PathKind, PresenceState, Recording,
    RecordingEvent, RefusedCall, RelayUse, Serving, Side, TransferFailure, TransferState,
};
use crate::audio::{DeviceInfo, DeviceKind, Level};

/// What a program is told while the telephone runs. Serialised with the tag `event`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// This terminal can be called: see [`LineState::Online`](super::LineState::Online).
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
    /// The callee has strangers work before it rings: this terminal solves a puzzle now, and calls again by itself.
    Working {
        /// The call.
        call: CallRef,
        /// How much, in bits: each doubles it, 6 are about half a second.
        bits: u8,
    },
    /// Somebody's call did not ring. Not told of each in a flood of strangers; [`Command::Refused`](super::Command::Refused) lists all.
    Refused(RefusedCall),
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
        /// both are with contacts, and this user talks in that one: neither on hold nor muted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<CallRef>,
        /// Nobody has to answer it: that is done, in the place of another call or because the telephone answers every call.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        answered: bool,
        /// Nothing is to ring: the user does not want to be disturbed, and the answering machine takes it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        silent: bool,
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
        /// No sound is to tell of it: quiet is wanted, or it is a stranger's and only contacts may call.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        silent: bool,
    },
    /// A text message of ours is on the other terminal.
    TextDelivered {
        /// The message's identifier.
        id: String,
    },
    /// Nobody is there to take a text message of ours. It is not lost: it is delivered when somebody is.
    TextWaits {
        /// The message's identifier.
        id: String,
        /// A directory of the receiver's keeps it; otherwise it waits here, and this program has to run when the receiver is back.
        left: bool,
    },
    /// The receiver has read a text message of ours, and lets it be known.
    TextRead {
        /// The message's identifier.
        id: String,
    },
    /// Somebody has left a voice message in the mailbox.
    Voicemail {
        /// Its number in the list.
        voicemail: i64,
        /// The sender's number.
        from: Number,
        /// The sender's name in the contact list, if it is there.
        name: Option<String>,
        /// When it was left, Unix milliseconds.
        at: u64,
        /// How long it is.
        duration_ms: u32,
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
    /// This terminal records a call, or no longer.
    Recording(RecordingEvent),
    /// The other end records the call, or no longer. [`Command::Recordable`](super::Command::Recordable) refuses it.
    RemoteRecording {
        /// The call.
        call: CallRef,
        /// Does it?
        on: bool,
    },
    /// A caller has left a message on the answering machine.
    VoiceMessage(Recording),
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
    /// The other end asks this user to call somebody else instead: [`Command::Follow`](super::Command::Follow) within half a minute.
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
    /// Half a minute has gone by, and what the other end has asked for is declined.
    TransferLapsed {
        /// The call.
        call: CallRef,
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
        /// The owner of the pinned key has given the number to the owner of the other one, as a signature proves.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        moved: bool,
    },
    /// The site of a directory names another key than the one remembered for it. Its numbers are looked for under the remembered one
    /// until the other is confirmed.
    DirectoryChanged {
        /// The directory's DNS name.
        name: String,
        /// The remembered key, 64 hexadecimal digits.
        pinned: String,
        /// The other one.
        offered: String,
    },
    /// The terminal's certificate expires soon; told once a day from 60 days before. Entering the password renews it. When
    /// it has expired the terminal can't be called. Of the time of the start tells [`Status::certificate_days`](super::Status::certificate_days).
    CertificateExpires {
        /// Days that are left, 0 when it has expired.
        days: i64,
    },
    /// How a call goes, once a second. Only for who [follows](crate::phone::Phone::stats); no other stream of events has these.
    Stats {
        /// The call.
        call: CallRef,
        /// How it goes.
        #[serde(flatten)]
        stats: Box<CallStats>,
    },
    /// A sound device was lost; the call goes on with the default one, or without, until it is back.
    DeviceLost {
        /// The call.
        call: CallRef,
        /// Of which kind it is.
        kind: DeviceKind,
        /// What happened to which device, in words.
        device: String,
    },
    /// The device that was chosen is there again, and is used again.
    DeviceBack {
        /// The call.
        call: CallRef,
        /// Of which kind it is.
        kind: DeviceKind,
        /// Its id.
        device: String,
    },
    /// The call goes on with a device that was chosen while it lasted ([`Command::UseDevices`](super::Command::UseDevices)).
    DeviceUsed {
        /// The call.
        call: CallRef,
        /// Of which kind it is.
        kind: DeviceKind,
        /// Its id, or `default`, `none`, `file:…`.
        device: String,
    },
    /// A device that was chosen while the call lasted cannot be opened; the call goes on with the one before. Later calls try it.
    DeviceRefused {
        /// The call.
        call: CallRef,
        /// Of which kind it is.
        kind: DeviceKind,
        /// Why, in words.
        device: String,
    },
    /// Other devices are chosen from now on.
    DevicesChosen(ChosenDevices),
    /// A device was plugged in or pulled out, or another one is the default. Only while [watched](super::Command::WatchDevices).
    DevicesChanged {
        /// All that work now.
        devices: Vec<DeviceInfo>,
    },
    /// How loud a call is, ten times a second while [asked for](super::Command::Levels).
    Levels {
        /// The call.
        call: CallRef,
        /// What the microphone gave, before anything is done to it; muted or not.
        mic: Level,
        /// What the loudspeaker was given.
        speaker: Level,
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
        /// How it went, if people talked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        summary: Option<Box<CallSummary>>,
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
            | Self::Working { call, .. }
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
            | Self::Stats { call, .. }
            | Self::RemoteRecording { call, .. }
            | Self::Hold { call, .. }
            | Self::Mute { call, .. }
            | Self::TransferAsked { call, .. }
            | Self::TransferLapsed { call }
            | Self::Transfer { call, .. }
            | Self::DeviceLost { call, .. }
            | Self::DeviceBack { call, .. }
            | Self::DeviceUsed { call, .. }
            | Self::DeviceRefused { call, .. }
            | Self::Levels { call, .. }
            | Self::Ended { call, .. } => Some(call),
            Self::Recording(event) => Some(event.call()),
            Self::Text { call, .. } => call.as_deref(),
            Self::Online { .. }
            | Self::Alone
            | Self::Offline
            | Self::Serving { .. }
            | Self::TextDelivered { .. }
            | Self::TextFailed { .. }
            | Self::TextWaits { .. }
            | Self::TextRead { .. }
            | Self::Voicemail { .. }
            | Self::VoiceMessage(_)
            | Self::Refused(_)
            | Self::Presence { .. }
            | Self::KeyChanged { .. }
            | Self::DirectoryChanged { .. }
            | Self::CertificateExpires { .. }
            | Self::DevicesChosen(_)
            | Self::DevicesChanged { .. }
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
