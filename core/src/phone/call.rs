//! A telephone's calls.

use super::Phone;
use crate::api::{ApiError, CallRef, Command, EndReason, FailureCode, TimedEvent};
use futures::{Stream, StreamExt};
use tokio::sync::watch;

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallState {
    /// Looking the number up.
    Searching,
    /// Terminals were found and are being invited.
    Inviting,
    /// It really rings: there, or here for an incoming call.
    Ringing,
    /// Answered; the media connection is being made.
    Connecting,
    /// The two ends talk.
    Active,
    /// Over.
    Ended(EndReason),
}

impl CallState {
    /// The word used in [`crate::api::CallStatus`].
    pub fn name(&self) -> &'static str {
        match self {
            Self::Searching => "searching",
            Self::Inviting => "inviting",
            Self::Ringing => "ringing",
            Self::Connecting => "connecting",
            Self::Active => "active",
            Self::Ended(_) => "ended",
        }
    }
}

/// A call. Dropping the handle does not end it.
#[derive(Debug, Clone)]
pub struct Call {
    pub(super) id: CallRef,
    pub(super) phone: Phone,
    pub(super) state: watch::Receiver<CallState>,
}

impl Call {
    /// The call's reference in commands and events.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the call stands now.
    pub fn state(&self) -> CallState {
        *self.state.borrow()
    }

    /// Wait until the call's state is one for which `wanted` is true, or the call is over.
    pub async fn until(&mut self, wanted: impl Fn(&CallState) -> bool) -> CallState {
        let done = |s: &CallState| wanted(s) || matches!(s, CallState::Ended(_));
        let reached = self.state.wait_for(done).await.map(|state| *state);
        // The sender goes when the call is forgotten, after its end.
        reached.unwrap_or_else(|_| self.state())
    }

    /// Wait for the end.
    pub async fn ended(&self) -> EndReason {
        match self.clone().until(|_| false).await {
            CallState::Ended(reason) => reason,
            CallState::Searching
            | CallState::Inviting
            | CallState::Ringing
            | CallState::Connecting
            | CallState::Active => EndReason::Failed(FailureCode::ShutDown),
        }
    }

    /// What happens in this call from now on.
    pub fn events(&self) -> impl Stream<Item = TimedEvent> + Send + Unpin + use<> {
        let id = self.id.clone();
        self.phone.events().filter(move |e| std::future::ready(e.event.call() == Some(id.as_str())))
    }

    /// Answer it.
    ///
    /// # Errors
    /// [`ErrorCode::NoCall`](crate::api::ErrorCode::NoCall) if it does not ring here.
    pub async fn accept(&self) -> Result<(), ApiError> {
        self.command(Command::Answer { call: Some(self.id.clone()) }).await
    }

    /// Decline it.
    ///
    /// # Errors
    /// [`ErrorCode::NoCall`](crate::api::ErrorCode::NoCall) if it does not ring here.
    pub async fn reject(&self) -> Result<(), ApiError> {
        self.command(Command::Reject { call: Some(self.id.clone()), voicemail: false, block: false }).await
    }

    /// End it, whatever its state.
    ///
    /// # Errors
    /// [`ErrorCode::NoCall`](crate::api::ErrorCode::NoCall) if it is over.
    pub async fn hang_up(&self) -> Result<(), ApiError> {
        self.command(Command::Hangup { call: Some(self.id.clone()) }).await
    }

    /// Mute or open the microphone.
    ///
    /// # Errors
    /// [`ErrorCode::NoCall`](crate::api::ErrorCode::NoCall) if it is over.
    pub async fn mute(&self, on: bool) -> Result<(), ApiError> {
        self.command(Command::Mute { call: Some(self.id.clone()), on }).await
    }

    /// Hold or resume; resuming puts a call in which one talks on hold.
    ///
    /// # Errors
    /// [`ErrorCode::NoCall`](crate::api::ErrorCode::NoCall) if it is over.
    pub async fn hold(&self, on: bool) -> Result<(), ApiError> {
        self.command(Command::Hold { call: Some(self.id.clone()), on }).await
    }

    /// Record it, if the other end allows it, or no longer. What becomes of it comes as [`Event::Recording`](crate::api::Event::Recording).
    ///
    /// # Errors
    /// [`ErrorCode::NoCall`](crate::api::ErrorCode::NoCall) if it is over.
    pub async fn record(&self, on: bool) -> Result<(), ApiError> {
        self.command(Command::Record { call: Some(self.id.clone()), on }).await
    }

    /// Press keys: `0`-`9`, `*`, `#`, `A`-`D`.
    ///
    /// # Errors
    /// [`ErrorCode::BadInput`](crate::api::ErrorCode::BadInput) for another key, [`ErrorCode::NoCall`](crate::api::ErrorCode::NoCall) if the call is over.
    pub async fn dtmf(&self, digits: impl Into<String>) -> Result<(), ApiError> {
        self.command(Command::Dtmf { call: Some(self.id.clone()), digits: digits.into() }).await
    }

    async fn command(&self, command: Command) -> Result<(), ApiError> {
        self.phone.execute(command).await.map(|_| ())
    }
}
