//! What a terminal keeps: accounts, contacts, history, messages.
