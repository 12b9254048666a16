//! Commands of the API, each in its own function.

use super::{Engine, now};
use crate::api::{ApiError, CallRef, Command, ErrorCode, Reply, VerifyResult};
use crate::audio::DeviceChoice;
use crate::clock::wall_clock;
use crate::storage::{MessageEntry, MessageState};
use offhook_proto::call::CallError;
use offhook_proto::number::{Invitation, NodeAddr, Number, RecordKey};
use offhook_proto::signalling::{CallId, MAX_TEXT_BYTES, RejectReason, TextId};
use offhook_proto::verify::verification;
use std::time::Instant;
use tokio::sync::oneshot;

impl Engine {
    pub(super) async fn execute(
        &mut self,
        command: Command,
        reply: oneshot::Sender<Result<Reply, ApiError>>,
    ) {
        if let Some(directory) = self.unmet(&command).await {
            return self.meet(directory, command, reply);
        }
        self.execute_met(command, reply).await;
    }

    /// Carries out a command whose directory is known, if it needs one.
    pub(super) async fn execute_met(
        &mut self,
        command: Command,
        reply: oneshot::Sender<Result<Reply, ApiError>>,
    ) {
        // Some take their time in a task that answers by itself.
        if let Command::Lookup { number } = &command {
            return self.look_up(number, reply).await;
        }
        if command == Command::Terminals {
            return self.list_terminals(reply);
        }
        if command == Command::Devices {
            return self.list_devices(reply);
        }
        if let Command::UseDevices { mic, speaker, ringer } = &command {
            let choice = DeviceChoice::parse(mic.as_deref(), speaker.as_deref(), ringer.as_deref());
            return self.use_devices(choice, reply);
        }
        if matches!(command, Command::History { .. } | Command::HistoryClear) {
            return self.in_history(command, reply);
        }
        if matches!(command, Command::Recordings | Command::RecordingDelete { .. }) {
            return self.ask_recordings(command, reply);
        }
        let result = self.execute_now(command).await;
        // An error means that the asker went away.
        let _ = reply.send(result);
    }

    async fn execute_now(&mut self, command: Command) -> Result<Reply, ApiError> {
        match command {
            Command::Dial { number } => self.dial(&number).await,
            Command::Answer { call } => self.answer(call.as_ref()),
            Command::Reject { call, voicemail, block } => self.reject(call.as_ref(), voicemail, block).await,
            Command::Hangup { call } => self.hang_up(call.as_ref()),
            Command::Text { number, body } => self.text(&number, body).await,
            Command::Dtmf { call, digits } => self.dtmf(call.as_ref(), &digits),
            Command::Hold { call, on } => self.hold(call.as_ref(), on),
            Command::Mute { call, on } => self.mute(call.as_ref(), on),
            Command::Record { call, on } => self.record(call.as_ref(), on),
            Command::Recordable { call, on } => self.recordable(call.as_ref(), on),
            Command::Swap => self.swap(),
            Command::Presence { state, note, visible } => self.set_presence(state, note, visible).await,
            Command::Transfer { call, to } => self.transfer(call.as_ref(), to.as_deref()).await,
            Command::Follow { call, yes } => self.follow(call.as_ref(), yes).await,
            Command::Volume { call, percent, ringer } => self.volume(call.as_ref(), percent, ringer).await,
            Command::Status => Ok(Reply::Status(self.status())),
            Command::Verify { call, confirm } => self.verify(call.as_ref(), confirm).await,
            command @ (Command::Contacts
            | Command::ContactAdd { .. }
            | Command::ContactRemove { .. }
            | Command::ContactConfirm { .. }
            | Command::Messages { .. }
            | Command::Voicemails
            | Command::VoicemailSave { .. }
            | Command::VoicemailDelete { .. }
            | Command::Directories
            | Command::DirectoryAdd { .. }
            | Command::DirectoryConfirm { .. }
            | Command::DirectoryHome { .. }
            | Command::BlockAdd { .. }
            | Command::BlockRemove { .. }
            | Command::BlockList
            | Command::Screening(_)) => self.in_file(&command).await,
            Command::Refused => self.refused().await,
            Command::MessagesRead { with } => self.messages_read(&with).await,
            Command::VoicemailLeave { number, file } => self.leave_voicemail(&number, file).await,
            Command::Link => Ok(Reply::Link { link: self.link() }),
            Command::Renewed => self.renewed().await,
            Command::Shutdown => {
                self.stopping = true;
                Ok(Reply::Done)
            }
            Command::WatchDevices { on } => Ok(self.watch_devices(on)),
            Command::Levels { call, on } => self.levels(call.as_ref(), on),
            // Answered by tasks, above.
            Command::Lookup { .. }
            | Command::Terminals
            | Command::Devices
            | Command::UseDevices { .. }
            | Command::History { .. }
            | Command::HistoryClear
            | Command::Recordings
            | Command::RecordingDelete { .. } => {
                Err(ApiError::new(ErrorCode::Internal, "a command went the wrong way"))
            }
        }
    }

    async fn dial(&mut self, typed: &str) -> Result<Reply, ApiError> {
        let (link, key) = self.dialled(typed).await?;
        let pin = self.expected_key(&link).await?;
        let contact = self.is_contact(&link.number).await?;
        let (call, number) = (new_call_id(), link.number.clone());
        self.calls.dial(now(), call, number.clone(), contact).map_err(dial_error)?;
        self.begin_view(call, number, true);
        self.hold_others(call);
        self.search(call, link, key, pin).await;
        Ok(Reply::Call { call: call.to_string() })
    }

    fn answer(&mut self, call: Option<&CallRef>) -> Result<Reply, ApiError> {
        let call = self.views.pick(call, "No call rings here.", |v| v.rings_here())?;
        self.calls.accept(now(), call).map_err(call_error)?;
        Ok(Reply::Done)
    }

    async fn reject(
        &mut self,
        call: Option<&CallRef>,
        voicemail: bool,
        block: bool,
    ) -> Result<Reply, ApiError> {
        let call = self.views.pick(call, "No call rings here.", |v| v.rings_here())?;
        let caller = self.calls.caller(call);
        let reason = match (block, voicemail) {
            (true, _) => RejectReason::Blocked,
            (false, true) => RejectReason::Voicemail,
            (false, false) => RejectReason::Declined,
        };
        self.calls.reject(now(), call, reason).map_err(call_error)?;
        if let Some((number, identity)) = caller.filter(|_| block) {
            // Its key is met here, so that the two can be shown together.
            self.account.pin(&number, &identity).await.map_err(|e| e.to_api())?;
            self.account.block(&number, Some(identity)).await?;
            self.reload_policy().await;
        }
        Ok(Reply::Done)
    }

    fn hang_up(&mut self, call: Option<&CallRef>) -> Result<Reply, ApiError> {
        let call = self.views.pick(call, "There is no call.", |_| true)?;
        self.calls.hang_up(now(), call).map_err(call_error)?;
        Ok(Reply::Done)
    }

    async fn text(&mut self, typed: &str, body: String) -> Result<Reply, ApiError> {
        let (link, key) = self.dialled(typed).await?;
        if body.is_empty() || body.len() > MAX_TEXT_BYTES {
            let sentence = format!("A message has 1 to {MAX_TEXT_BYTES} bytes; this one has {}.", body.len());
            return Err(ApiError::new(ErrorCode::BadInput, sentence));
        }
        let pin = self.expected_key(&link).await?;
        let id = TextId::from_bytes(rand::random());
        let entry = MessageEntry {
            id: id.to_string(),
            number: link.number.clone(),
            body: body.clone(),
            sent: wall_clock(),
            state: MessageState::Sending,
        };
        // Kept before it is sent: what the user wrote is not lost by a crash.
        self.account.message_add(&entry).await.map_err(|e| e.to_api())?;
        if self.text_in_call(&link.number, id, body.clone()) {
            return Ok(Reply::Message { id: id.to_string() });
        }
        let dialog = new_call_id();
        if let Err(error) = self.calls.text_to(now(), dialog, link.number.clone(), id, body) {
            self.mark_message(id, MessageState::Failed);
            return Err(call_error(error));
        }
        self.search(dialog, link, key, pin).await;
        Ok(Reply::Message { id: id.to_string() })
    }

    /// Sends a text within the call with `number`, if there is one and it takes more.
    fn text_in_call(&mut self, number: &Number, id: TextId, body: String) -> bool {
        let call = self.views.live().find(|(_, view)| view.is_active() && view.number == *number);
        let Some((call, _)) = call else { return false };
        let call = *call;
        self.calls.text(now(), call, id, body).is_ok()
    }

    async fn verify(&mut self, call: Option<&CallRef>, confirm: bool) -> Result<Reply, ApiError> {
        // The call in which the two people talk, before one that only rings or is being dialled.
        let talking = self.views.pick(call, "There is no call.", |v| v.is_active());
        let call = talking.or_else(|_| self.views.pick(call, "There is no call.", |_| true))?;
        let not_yet = || ApiError::new(ErrorCode::NotConnected, "The call is not connected yet.");
        let number = self.views.get(&call).ok_or_else(not_yet)?.number.clone();
        let leg = self.calls.leg_of(call).ok_or_else(not_yet)?;
        let exporter = self.legs.exporter(&leg).ok_or_else(not_yet)?;
        let peer = self.calls.peer_of(&leg).ok_or_else(not_yet)?.identity;
        if confirm {
            self.account.set_verified(&number, true).await.map_err(|e| e.to_api())?;
            self.contacts_changed = true;
        }
        let shown = verification(&exporter, &self.account.identity(), &peer);
        let words = shown.words.iter().map(|w| (*w).to_owned()).collect();
        let verified =
            self.account.pin_of(&number).await.map_err(|e| e.to_api())?.is_some_and(|pin| pin.verified);
        Ok(Reply::Verify(VerifyResult { words, digits: shown.digits, verified }))
    }

    /// Commands that the account's file answers.
    async fn in_file(&mut self, command: &Command) -> Result<Reply, ApiError> {
        let unanswered = || ApiError::new(ErrorCode::Internal, "a command went the wrong way");
        let mut reply = self.account.execute(command).await.ok_or_else(unanswered)?;
        self.reload_policy().await;
        self.contacts_changed = true;
        if let Ok(Reply::Contacts { contacts }) = &mut reply {
            self.with_presence(contacts);
        }
        // Whose directories connections are kept to may have changed, even by a command that failed in part.
        self.keep_routes().await;
        reply
    }

    /// Answers a command about past calls when those that have ended are written down.
    fn in_history(&self, command: Command, reply: oneshot::Sender<Result<Reply, ApiError>>) {
        let (account, histories) = (self.account.clone(), self.histories.clone());
        self.jobs.spawn(async move {
            // One that is closed takes more, but can be waited for.
            histories.close();
            histories.wait().await;
            let answer = account.execute(&command).await;
            let unanswered = || Err(ApiError::new(ErrorCode::Internal, "a command went the wrong way"));
            // An error means that the asker went away.
            let _ = reply.send(answer.unwrap_or_else(unanswered));
        });
    }

    /// The command line has renewed the account's papers: present and publish them from now on.
    async fn renewed(&mut self) -> Result<Reply, ApiError> {
        if self.account.reload().await.map_err(|e| e.to_api())? {
            self.net.set_cert(self.account.cert()).await;
        }
        // A chosen number may have come or gone beside the papers, and contacts of another terminal's.
        self.contacts_changed = true;
        self.reload_visibility().await;
        self.reload_policy().await;
        self.move_in();
        self.load_shown().await;
        self.publisher.now(Instant::now());
        self.publish_if_due(Instant::now());
        Ok(Reply::Done)
    }

    /// The account's invitation link, with its first directories as entry points.
    fn link(&self) -> String {
        // The directories that know us; else ourselves, if we are an entry point to others.
        let own = self.net.addresses().into_iter().filter(|addr| !addr.is_relayed());
        let via: Vec<NodeAddr> = self.net.routes().into_iter().chain(own).take(2).collect();
        let key = Some(self.account.identity().fingerprint());
        Invitation { number: self.account.number().clone(), key, via }.to_string()
    }

    /// Whom the user means, and under which key it is found.
    pub(super) async fn dialled(&self, typed: &str) -> Result<(Invitation, RecordKey), ApiError> {
        self.account.resolve_to_dial(typed).await.map_err(|error| error.to_api())
    }

    pub(super) async fn is_contact(&self, number: &Number) -> Result<bool, ApiError> {
        Ok(self.account.contact(number).await.map_err(|e| e.to_api())?.is_some())
    }
}

pub(super) fn dial_error(error: CallError) -> ApiError {
    if error == CallError::TooMany {
        let sentence = "You are in two calls already. Hang up one first, or decline what rings.";
        return ApiError::new(ErrorCode::Busy, sentence);
    }
    call_error(error)
}

/// The machine's refusal in words for the user.
pub(super) fn call_error(error: CallError) -> ApiError {
    let (code, sentence) = match error {
        CallError::UnknownCall | CallError::UnknownLeg => (ErrorCode::NoCall, "There is no such call."),
        CallError::WrongState => (ErrorCode::NoCall, "That is not possible in the call's present state."),
        CallError::TooMany => (ErrorCode::Busy, "There are as many calls or messages under way as can be."),
        CallError::QueueFull => (ErrorCode::Busy, "The other end does not keep up."),
        CallError::Duplicate | CallError::OtherIdentity => (ErrorCode::Internal, ""),
        CallError::Limit(_) => (ErrorCode::BadInput, ""),
    };
    let sentence = if sentence.is_empty() { error.to_string() } else { sentence.to_owned() };
    ApiError::new(code, sentence)
}

pub(super) fn new_call_id() -> CallId {
    CallId::from_bytes(rand::random())
}
