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
}

/// What the user means by a number: a contact's name stands for the contact's number, everything else for
/// itself.
pub async fn resolve(telephone: &impl Telephone, typed: &str) -> Result<String, ApiError> {
    let typed = typed.trim();
    // Numbers and links begin otherwise than most names: don't ask for the contacts to dial one.
    if typed.starts_with(|c: char| c.is_numeric() || matches!(c, '+' | '(')) || typed.contains(':') {
        return Ok(typed.to_owned());
    }
    let reply = telephone.execute(Command::Contacts).await?;
    let Reply::Contacts { contacts } = &reply else { return Err(unexpected(&reply)) };
    let wanted = typed.to_lowercase();
    let found = contacts.iter().find(|contact| contact.name.to_lowercase() == wanted);
    Ok(found.map_or_else(|| typed.to_owned(), |contact| contact.number.canonical()))
}

/// Replaces a contact's name in a command by the contact's number.
pub async fn resolved(telephone: &impl Telephone, mut command: Command) -> Result<Command, ApiError> {
    match &mut command {
        Command::Dial { number } | Command::Lookup { number } | Command::Text { number, .. } => {
            *number = resolve(telephone, number).await?;
        }
        Command::Answer { .. }
        | Command::Reject { .. }
        | Command::Hangup { .. }
        | Command::Dtmf { .. }
        | Command::Hold { .. }
        | Command::Mute { .. }
        | Command::Status
        | Command::Verify { .. }
        | Command::Contacts
        | Command::ContactAdd { .. }
        | Command::ContactRemove { .. }
        | Command::ContactConfirm { .. }
        | Command::Link
        | Command::Renewed
        | Command::Shutdown => {}
    }
    Ok(command)
}

/// For a reply of another kind than the command has.
pub fn unexpected(reply: &Reply) -> ApiError {
    ApiError::new(
        ErrorCode::Internal,
        format!("The telephone gave an answer to another question: {reply:?}."),
    )
}
