//! What the fuzzer reaches of this module.
#![allow(clippy::panic, reason = "a panic is what the fuzzer reports")]

use std::io::Cursor;

use super::folder::describe;
use super::reader::Reader;
use crate::audio::{BLOCK_LEN, Block};

/// Blocks that are played of a file: what a short one holds.
const BLOCKS: usize = 500;

/// Lists and plays a file.
pub fn recording(file: &[u8]) {
    let said = describe(&mut Cursor::new(file));
    assert!(said.duration_ms <= u64::from(u32::MAX), "{said:?}");
    play(Reader::new(Cursor::new(file)));
    play(Reader::unchecked(Cursor::new(file)));
}

fn play(mut reader: Reader<Cursor<&[u8]>>) {
    let mut block: Block = [0.0; BLOCK_LEN];
    for _ in 0..BLOCKS {
        if !reader.next(|_| true, &mut block) {
            return;
        }
        assert!(block.iter().all(|sample| (-1.0..=1.0).contains(sample)), "{block:?}");
    }
}
