//! Keys of accounts and terminals, and the certificates that bind them.
