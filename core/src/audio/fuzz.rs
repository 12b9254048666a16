//! What the fuzzer reaches of this module.
#![allow(clippy::panic, reason = "a panic is what the fuzzer reports")]

use std::path::Path;
use std::time::Instant;

use super::wav::WavSource;
use super::{AudioSource, BLOCK_LEN, BLOCK_TIME, Block};

/// Blocks that are played of a file: enough for what a short one holds, and a little silence.
const BLOCKS: u32 = 50;

/// Plays a file as a microphone.
pub fn wav(file: &[u8]) {
    let Ok(mut source) = WavSource::from_reader(Path::new("fuzz.wav"), file) else { return };
    let now = Instant::now();
    let Ok(start) = source.start(now) else { panic!("a file begins at once") };
    let mut block: Block = [0.0; BLOCK_LEN];
    for played in 1..=BLOCKS {
        match source.read(start + BLOCK_TIME * played, &mut block) {
            Ok(true) => assert!(block.iter().all(|sample| (-1.0..=1.0).contains(sample)), "{block:?}"),
            Ok(false) => panic!("block {played} is due"),
            Err(_) => return,
        }
    }
}
