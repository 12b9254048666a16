//! Which devices a telephone uses, and a change of that.

use super::{AudioError, DeviceKind, DeviceSpec};

/// Devices to be used from now on; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceChoice {
    /// Microphone.
    pub mic: Option<DeviceSpec>,
    /// Loudspeaker.
    pub speaker: Option<DeviceSpec>,
    /// What rings; no file.
    pub ringer: Option<DeviceSpec>,
}

impl DeviceChoice {
    /// Reads each as [`DeviceSpec`] is written.
    ///
    /// # Errors
    /// [`AudioError::NoName`] if one is empty.
    pub fn parse(
        mic: Option<&str>,
        speaker: Option<&str>,
        ringer: Option<&str>,
    ) -> Result<DeviceChoice, AudioError> {
        let read = |text: Option<&str>| text.map(str::parse).transpose();
        Ok(DeviceChoice { mic: read(mic)?, speaker: read(speaker)?, ringer: read(ringer)? })
    }

    /// Looks whether all of them can be used now, as [`DeviceSpec::check`] does. May take some hundred milliseconds.
    ///
    /// # Errors
    /// [`AudioError`] of the first that cannot, or of a ringer that is a file.
    pub fn check(&self) -> Result<(), AudioError> {
        if let Some(DeviceSpec::File(path)) = &self.ringer {
            let reason = "nothing rings into a file".into();
            return Err(AudioError::File { path: path.clone(), reason });
        }
        let kinds = [DeviceKind::Mic, DeviceKind::Speaker, DeviceKind::Speaker];
        let chosen = [&self.mic, &self.speaker, &self.ringer];
        chosen.into_iter().zip(kinds).try_for_each(|(spec, kind)| spec.iter().try_for_each(|s| s.check(kind)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays_and_what_is_not_there_is_refused() {
        let choice = DeviceChoice::parse(Some("none"), None, Some("default")).unwrap();
        assert_eq!(choice.mic, Some(DeviceSpec::None));
        assert_eq!((choice.speaker.clone(), choice.check()), (None, Ok(())));
        assert_eq!(DeviceChoice::parse(None, Some(""), None), Err(AudioError::NoName));
        let gone = DeviceChoice::parse(None, Some("nonsense"), None).unwrap();
        assert_eq!(gone.check(), Err(AudioError::NoDevice("nonsense".into())));
        let file = DeviceChoice::parse(None, None, Some("file:bell.wav")).unwrap();
        assert!(matches!(file.check(), Err(AudioError::File { .. })));
    }
}
