//! Where the voice thread hands over what is heard: it never waits, and allocates nothing.

use std::fmt;
use std::time::Instant;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::audio::{BLOCK_LEN, Block, Overlay};

/// Blocks that may wait for the disk: two seconds and a half of both voices, 500 kB. What is more becomes silence.
const RING: usize = 500;

/// Whose voice it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// What is sent.
    Own,
    /// What is heard.
    Other,
}

/// 10 ms.
pub(super) struct Piece {
    pub(super) at: Instant,
    pub(super) side: Side,
    pub(super) samples: [i16; BLOCK_LEN],
}

/// The end at the voice thread. When it is dropped the recording is over.
pub(crate) struct Tap {
    ring: Producer<Piece>,
    /// Tells the other end that it is recorded. Without it only the other end's voice is recorded.
    warning: Option<Overlay>,
}

impl Tap {
    /// Takes both voices, and has the other end told by a tone.
    pub(super) fn of_both() -> (Tap, Consumer<Piece>) {
        let (ring, pieces) = RingBuffer::new(RING);
        (Tap { ring, warning: Some(Overlay::recorded()) }, pieces)
    }

    /// Takes the other end's voice, which has been told by words.
    pub(super) fn of_other() -> (Tap, Consumer<Piece>) {
        let (ring, pieces) = RingBuffer::new(RING);
        (Tap { ring, warning: None }, pieces)
    }

    /// Takes a block that is sent, and puts the warning tone into it.
    pub(crate) fn own(&mut self, at: Instant, block: &mut Block) {
        if self.warning.is_some() {
            self.push(at, Side::Own, block);
        }
        if let Some(warning) = &mut self.warning {
            warning.add_to(block);
        }
    }

    /// Takes a block that is heard.
    pub(crate) fn other(&mut self, at: Instant, block: &Block) {
        self.push(at, Side::Other, block);
    }

    /// Blocks that fit into the ring at present.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.ring.slots()
    }

    fn push(&mut self, at: Instant, side: Side, block: &Block) {
        let samples = block.map(|sample| (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)) as i16);
        // No room: the disk hangs, or is full. The writer sees by the time that something is missing.
        let _ = self.ring.push(Piece { at, side, samples });
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("warns", &self.warning.is_some()).finish_non_exhaustive()
    }
}
