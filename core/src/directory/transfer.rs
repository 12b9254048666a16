//! What somebody claims a number with that was given to him, as text to be sent along.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use offhook_proto::proof::{MAX_TRANSFERS, SignedTransfer};
use offhook_proto::wire;
use thiserror::Error;

/// Most characters of a code: each transfer has about 200 bytes, and a third is added.
const MAX_CODE: usize = 512 * MAX_TRANSFERS;

/// How a number has come to its new owner, the last transfer being to him. Everybody may read it; only he can use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferCode(Vec<SignedTransfer>);

/// A text that is no such code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("That is not a code of `offhook number transfer`, or not all of it.")]
pub struct BadTransferCode;

impl TransferCode {
    /// The code of these transfers, oldest first.
    #[must_use]
    pub const fn new(transfers: Vec<SignedTransfer>) -> Self {
        Self(transfers)
    }

    /// The transfers, oldest first.
    #[must_use]
    pub fn into_transfers(self) -> Vec<SignedTransfer> {
        self.0
    }
}

impl fmt::Display for TransferCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&wire::encode(&self.0)))
    }
}

impl FromStr for TransferCode {
    type Err = BadTransferCode;

    fn from_str(text: &str) -> Result<Self, BadTransferCode> {
        let text = text.trim();
        if text.len() > MAX_CODE {
            return Err(BadTransferCode);
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| BadTransferCode)?;
        let transfers: Vec<SignedTransfer> = wire::decode(&bytes, MAX_CODE).map_err(|_| BadTransferCode)?;
        let fits = (1..=MAX_TRANSFERS).contains(&transfers.len());
        fits.then_some(Self(transfers)).ok_or(BadTransferCode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::wall_clock;
    use offhook_proto::identity::{DirectoryId, IdentityKey};
    use offhook_proto::number::ChosenNumber;

    #[test]
    fn a_code_is_read_back_and_nothing_else_is() {
        let number = ChosenNumber::new("ada", Some("example.org")).unwrap();
        let key = number.key(&DirectoryId::from_bytes([9; 32]));
        let owner = |seed| IdentityKey::from_seed([seed; 32]);
        let transfer = SignedTransfer::sign(&owner(1), key, owner(2).public(), wall_clock());
        let longest = TransferCode::new(vec![transfer; MAX_TRANSFERS]);
        assert_eq!(format!(" {longest}\n").parse(), Ok(longest.clone()));
        let text = longest.to_string();
        for wrong in
            ["", "ada", &text[1..], &"A".repeat(MAX_CODE + 1), &TransferCode::new(vec![]).to_string()]
        {
            assert_eq!(wrong.parse::<TransferCode>(), Err(BadTransferCode), "{wrong}");
        }
    }
}
