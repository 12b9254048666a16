//! The terminals of an account.

use serde::{Deserialize, Serialize};

/// A terminal of this account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalInfo {
    /// Its key, 64 hexadecimal digits.
    pub terminal: String,
    /// Whether it is this one.
    pub this: bool,
    /// Whether it can be called now, as the network knows.
    pub online: bool,
    /// Whether it has been put out of the account.
    pub revoked: bool,
    /// When its certificate was issued, Unix milliseconds; nothing if its record was not found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified: Option<u64>,
}
