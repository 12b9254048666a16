//! The call machine: every call of a terminal, from dialling to its end.
