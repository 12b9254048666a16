//! Letting go of a device while the call is on hold: another call may want it, and nobody is recorded who does not talk.

use super::{Device, Keeper, State};

impl<D: Device> Keeper<D> {
    /// Closes the device that the engine has given back, or the one that is being opened, and opens none until
    /// [`Keeper::start`].
    pub(in crate::media::voice) fn park(&mut self, device: Option<D>) {
        match std::mem::replace(&mut self.state, State::Idle) {
            // Whoever opens it finds that nobody takes it.
            State::Opening(_) => self.worker = None,
            State::Idle | State::Ready(_) | State::Retry(_) => {}
        }
        self.rest();
        if let Some(device) = device {
            self.close(device);
        }
        self.told = false;
    }
}
