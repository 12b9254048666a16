//! Words and digits that two people compare by voice.
