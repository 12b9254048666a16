//! The telephone that a command talks to: one of its own, or the running terminal behind the control
//! socket. Commands are written once for both.

use futures::stream::BoxStream;
use offhook::api::{ApiError, Command, ErrorCode, Reply, TimedEvent};
use std::future::Future;

/// Something that takes commands and tells events.
pub trait Telephone: Clone + Send + Sync + 'static {
    /// Does what `command` says.
    fn execute(&self, command: Command) -> impl Future<Output = Result<Reply, ApiError>> + Send;

    /// Everything that happens from now on; ends with the telephone.
    fn events(&self) -> BoxStream<'static, TimedEvent>;

    /// How connected calls go, now and once a second from then on ([`Event::Stats`](offhook::api::Event::Stats)).
    fn stats(&self) -> impl Future<Output = Result<BoxStream<'static, TimedEvent>, ApiError>> + Send;
}

/// For a reply of another kind than the command has.
pub fn unexpected(reply: &Reply) -> ApiError {
    ApiError::new(
        ErrorCode::Internal,
        format!("The telephone gave an answer to another question: {reply:?}."),
    )
}
