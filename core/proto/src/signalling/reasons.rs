//! Reasons and states, which travel as numbers; a later version can add some.

/// Why a callee's terminal does not take a call (or a text message).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// Its user is in another call (SIP 486).
    Busy,
    /// Its user declined (SIP 603). Ends the call on all of the callee's terminals.
    Declined,
    /// The caller is on the callee's block list. Ends the call on all of the callee's terminals.
    Blocked,
    /// The callee knows the caller's number under another identity key.
    KeyChanged,
    /// It rang there as long as the callee wished (SIP 480).
    NoAnswer,
    /// The invite was made too long ago or in the future: a clock is wrong, or somebody repeated an old invite.
    Expired,
    /// The terminal cannot make the call: no audio device, no socket.
    Failed,
    /// It does not ring now, and the caller may leave a message.
    Voicemail,
    /// A stranger who calls is to work first: to solve the puzzle that comes along, and to call again.
    Work,
    /// A reason that this version does not know.
    Other(u8),
}

/// Why a caller's terminal takes an invite back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CancelReason {
    /// The caller hung up before the answer.
    Cancelled,
    /// Another terminal of the callee answered.
    AnsweredElsewhere,
    /// Another terminal of the callee declined.
    DeclinedElsewhere,
    /// It rang as long as the caller was willing to wait.
    NoAnswer,
    /// Both ends called each other; the other call goes on.
    Glare,
    /// The caller cannot make the call, or gave this terminal up as unreachable.
    Failed,
    /// A reason that this version does not know.
    Other(u8),
}

/// What failed in an answered call, told to the other end, which would otherwise take it for a hang-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByeReason {
    /// No media connection within the time allowed after the answer.
    NoMediaPath,
    /// The media connection was up and broke.
    MediaLost,
    /// Media could not be prepared: no socket, no audio device.
    Media,
    /// The caller's confirmation never came.
    NotConfirmed,
    /// The other terminal stopped answering.
    SignallingLost,
    /// Something else.
    Failed,
    /// A reason that this version does not know.
    Other(u8),
}

/// What one end of a call says to the other about recording it. See [`crate::recording`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordingState {
    /// The sender does not record the call, or no longer.
    Off,
    /// The sender asks whether it may record the call.
    Wanted,
    /// The sender may be recorded, and knows of it.
    Allowed,
    /// The sender does not want to be recorded, or no longer.
    Refused,
    /// Something that this version does not know.
    Other(u8),
}
