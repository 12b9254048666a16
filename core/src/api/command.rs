//! What a program asks of the telephone, and what it is answered.

use serde::{Deserialize, Serialize};

use super::{
    BlockedCaller, CallRef, Contact, DevicesResult, DirectoryInfo, LookupResult, PastCall, PastMessage,
    PresenceSettings, PresenceState, Recording, RefusedCall, Screening, ScreeningChange, Status,
    TerminalInfo, VerifyResult, Visibility, Voicemail, Volumes,
};

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
        /// Have its caller leave a message instead.
        #[serde(default)]
        voicemail: bool,
        /// Hear of its caller no more.
        #[serde(default)]
        block: bool,
    },
    /// Hear of somebody no more: calls do not ring, messages are not kept.
    BlockAdd {
        /// Number or name.
        number: String,
    },
    /// Hear of somebody again.
    BlockRemove {
        /// Number, name, or the fingerprint of a blocked key.
        number: String,
    },
    /// List who is blocked.
    BlockList,
    /// Tell or change when nothing is to ring, and what strangers may. Nothing is changed of what is not named.
    Screening(ScreeningChange),
    /// The calls that did not ring, and why.
    Refused,
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
    /// The sound devices that work, and which of them are chosen. May take some hundred milliseconds.
    Devices,
    /// Use other sound devices from now on, in the calls that last as well. What is not named stays; what is not there is refused
    /// with [`ErrorCode::BadInput`](super::ErrorCode::BadInput), and nothing changes. Each is written as [`DeviceSpec`](crate::audio::DeviceSpec) reads it.
    UseDevices {
        /// Microphone.
        #[serde(default)]
        mic: Option<String>,
        /// Loudspeaker.
        #[serde(default)]
        speaker: Option<String>,
        /// What rings; no file.
        #[serde(default)]
        ringer: Option<String>,
    },
    /// Tell [`Event::DevicesChanged`](super::Event::DevicesChanged) from now on, or no longer. Without a sound server that tells of them devices are looked for
    /// every three seconds meanwhile.
    WatchDevices {
        /// Watch?
        on: bool,
    },
    /// Tell [`Event::Levels`](super::Event::Levels) of a call from now on, or no longer.
    Levels {
        /// The call.
        call: Option<CallRef>,
        /// Tell?
        on: bool,
    },
    /// Record a call, if the other end allows it, or no longer. [`Event::Recording`](super::Event::Recording) of the call that
    /// [`Reply::Call`] names tells what comes of it.
    Record {
        /// The call.
        call: Option<CallRef>,
        /// Record it?
        on: bool,
    },
    /// Be willing to be recorded by the other end in this call, or refuse.
    Recordable {
        /// The call.
        call: Option<CallRef>,
        /// Willing?
        on: bool,
    },
    /// List the directories whose keys are remembered.
    Directories,
    /// Remember the key of a directory without asking its site: somebody trusted has told it.
    DirectoryAdd {
        /// Its DNS name.
        name: String,
        /// Its key, 64 hexadecimal digits.
        key: String,
    },
    /// Accept the other key that a directory's site names.
    DirectoryConfirm {
        /// Its DNS name.
        name: String,
    },
    /// Choose the directory of numbers that are dialled without one.
    DirectoryHome {
        /// Its DNS name; without it the account's own.
        #[serde(default)]
        name: Option<String>,
    },
    /// List the recordings, the newest [`MAX_LISTED`](crate::recording::MAX_LISTED).
    Recordings,
    /// Delete a recording.
    RecordingDelete {
        /// Its name.
        recording: String,
    },
    /// From the call in which one talks to the one on hold.
    Swap,
    /// Have the other end call somebody else instead; when the two talk, the call ends here. [`Event::Transfer`](super::Event::Transfer) tells how it goes.
    Transfer {
        /// The call.
        #[serde(default)]
        call: Option<CallRef>,
        /// What was typed: whom to call. Without it the other end of the other answered call, with which one has talked.
        #[serde(default)]
        to: Option<String>,
    },
    /// Do what the other end asks for by [`Event::TransferAsked`](super::Event::TransferAsked), or don't.
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
    /// The calls that are over, the last one first.
    History {
        /// How many at most: [`HISTORY_REPLY`](super::HISTORY_REPLY) if it is not said, and never more than [`MAX_HISTORY_REPLY`](super::MAX_HISTORY_REPLY).
        #[serde(default)]
        limit: Option<u32>,
    },
    /// Forget all calls that are over.
    HistoryClear,
    /// List the terminals of this account, as the network knows them. Takes up to three seconds.
    Terminals,
    /// The text messages that are kept, the last one first.
    Messages {
        /// Only those with this number or contact.
        #[serde(default)]
        with: Option<String>,
        /// How many at most: [`MESSAGES_REPLY`](super::MESSAGES_REPLY) if it is not said, and never more than [`MAX_MESSAGES_REPLY`](super::MAX_MESSAGES_REPLY).
        #[serde(default)]
        limit: Option<u32>,
    },
    /// Let a contact know that its last messages have been read.
    MessagesRead {
        /// Number or name.
        with: String,
    },
    /// The voice messages of the mailbox, the newest first.
    Voicemails,
    /// Write a voice message to a new file, Opus in Ogg. It counts as heard then.
    VoicemailSave {
        /// Its number in the list.
        voicemail: i64,
        /// The new file, as the telephone's program reaches it.
        file: std::path::PathBuf,
    },
    /// Delete a voice message.
    VoicemailDelete {
        /// Its number in the list.
        voicemail: i64,
    },
    /// Leave a voice message. [`Event::TextWaits`](super::Event::TextWaits) of the message that [`Reply::Message`] names tells when a directory has it.
    VoicemailLeave {
        /// What was typed: for whom.
        number: String,
        /// A file of Ogg Opus or WAV, as the telephone's program reaches it. It is not needed any more when this is answered.
        file: std::path::PathBuf,
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
    /// The call that was begun, or about which events will tell what was asked for.
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
    /// The directories whose keys are remembered, by name.
    Directories {
        /// The directories.
        directories: Vec<DirectoryInfo>,
    },
    /// The contacts.
    Contacts {
        /// By name.
        contacts: Vec<Contact>,
    },
    /// The calls that are over.
    History {
        /// The last one first.
        calls: Vec<PastCall>,
    },
    /// Text messages.
    Messages {
        /// The last one first.
        messages: Vec<PastMessage>,
    },
    /// Voice messages.
    Voicemails {
        /// The newest first.
        voicemails: Vec<Voicemail>,
    },
    /// The sound devices.
    Devices(DevicesResult),
    /// The recordings.
    Recordings {
        /// The newest first.
        recordings: Vec<Recording>,
    },
    /// How loud it is.
    Volumes(Volumes),
    /// What contacts are told.
    Presence(PresenceSettings),
    /// Who is blocked.
    Blocked {
        /// In the order of their numbers.
        blocked: Vec<BlockedCaller>,
    },
    /// When nothing is to ring, and what strangers may.
    Screening(Screening),
    /// The calls that did not ring.
    Refused {
        /// Contacts' and strangers', the latest first.
        calls: Vec<RefusedCall>,
    },
    /// The terminals of this account.
    Terminals {
        /// This one first, those that were put out last.
        terminals: Vec<TerminalInfo>,
    },
    /// An invitation link.
    Link {
        /// The link.
        link: String,
    },
}
