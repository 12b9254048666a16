//! What the settings say of mailboxes.

use super::Settings;
use crate::store::MailLimits;

impl Settings {
    /// What is kept in mailboxes at most; `None` if none are to be kept. `self` need not be complete.
    pub fn mail_limits(&self) -> Option<MailLimits> {
        if self.mailbox == Some(false) {
            return None;
        }
        let mut limits = MailLimits::default();
        let books = &mut limits.books;
        books.mailboxes = self.mailboxes.unwrap_or(books.mailboxes);
        let bytes = |mb: Option<u64>, otherwise: u64| mb.map_or(otherwise, |mb| mb.saturating_mul(1 << 20));
        books.mailbox.bytes = bytes(self.mailbox_mb, books.mailbox.bytes);
        books.total.bytes = bytes(self.mailbox_total_mb, books.total.bytes);
        limits.guests = self.mailbox_guests.unwrap_or(limits.guests);
        Some(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_are_kept_within_what_is_said() {
        let settings = |toml: &str| toml::from_str::<Settings>(toml).expect("settings");
        assert_eq!(settings("mailbox = false").mail_limits(), None);
        let limits = settings("mailbox-mb = 3\nmailbox-guests = 2").mail_limits().expect("limits");
        assert_eq!((limits.books.mailbox.bytes, limits.guests), (3 << 20, 2));
        assert_eq!(Settings::defaults().mail_limits(), Some(MailLimits::default()));
    }
}
