//! Every way in which records are refused, and the laws of merging.

mod checking;
mod laws;
mod merging;
mod sample;
mod transfers;
