//! Whether the microphone hears the loudspeaker.
//!
//! An echo canceller that has nothing to cancel does harm: it suppresses who speaks while the other one does. With headphones there is
//! nothing. So this watches both signals: where there is an echo, the phases of the two spectra differ by what a delay makes of them,
//! moment after moment, and otherwise by anything. That is the generalised cross-correlation with phase transform (Knapp and Carter,
//! "The generalized correlation method for estimation of time delay", 1976): every frequency counts alike, so that two voices are not
//! alike because both are voices. Its peak is looked for in a window, since a room answers with many reflections.

use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use crate::audio::{BLOCK_LEN, Block, mean_square};

/// 48 kHz to 8 kHz, which has all of a voice that rooms give back.
const DECIMATION: usize = 6;
const PIECE: usize = BLOCK_LEN / DECIMATION;
/// Samples of 8 kHz of the loudspeaker that are compared, 512 ms, and of the microphone, the last 128 ms of them. So an echo is found
/// that comes up to 384 ms after it was given to the loudspeaker.
const FAR: usize = 4_096;
const NEAR: usize = 1_024;
/// Frequencies that are compared, Hz.
const BAND: std::ops::Range<usize> = 300..3_400;
/// Reflections of 4 ms are taken together.
const WINDOW: usize = 32;
/// Delays that they are compared with: 192 ms.
const AROUND: usize = 1_536;
/// How long what was seen counts: each comparison this much of the one after it.
const MEMORY: f32 = 0.92;
/// Mean squares below which nothing is played (-60 dBFS) or recorded (-90 dBFS).
const PLAYED: f32 = 1e-6;
const RECORDED: f32 = 1e-9;

/// The energy of the window with most of it, against what it is around there: so much is an echo. Of two people who talk all the time
/// without one it was 4.8 at most; with one 10 dB below what is played it is 6 and more, mostly 5 while the other one talks, too.
const PRESENT: f32 = 5.0;
/// Of the last three comparisons so many have to see it: a single one is seen by chance where a voice was lost in part and made up.
const SEEN: u32 = 2;
/// Fewer comparisons say nothing: where sound has just begun, some delays seem likelier than others.
const ENOUGH: u32 = 5;
/// So many comparisons without one, in which something was played and recorded, and there is none: one second in the beginning, and
/// ten after there has been one.
const ABSENT_FIRST: u32 = 8;
const ABSENT_LATER: u32 = 80;

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Echo {
    /// Too little has been heard yet.
    Unknown,
    Present,
    Absent,
}

/// See the module's documentation.
pub(super) struct EchoPath {
    fft: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    /// The latest samples, at 8 kHz. Both begin when the first block is heard.
    far: Vec<f32>,
    near: Vec<f32>,
    /// Sum of the cross-spectra.
    sum: Vec<Complex32>,
    spectra: [Vec<Complex32>; 2],
    scratch: Vec<Complex32>,
    /// Comparisons so far, and since an echo was last seen.
    compared: u32,
    without: u32,
    /// Whether each of the last comparisons saw an echo, the latest in the lowest bit.
    sights: u8,
    /// Whether anything was played yet.
    played: bool,
    echo: Echo,
}

impl EchoPath {
    pub(super) fn new() -> EchoPath {
        let mut planner = FftPlanner::new();
        let (fft, inverse) = (planner.plan_fft_forward(FAR), planner.plan_fft_inverse(FAR));
        let zero = Complex32::new(0.0, 0.0);
        let scratch = fft.get_inplace_scratch_len().max(inverse.get_inplace_scratch_len());
        EchoPath {
            fft,
            inverse,
            far: vec![0.0; FAR],
            near: Vec::with_capacity(NEAR + PIECE),
            sum: vec![zero; FAR],
            spectra: [vec![zero; FAR], vec![zero; FAR]],
            scratch: vec![zero; scratch],
            compared: 0,
            without: 0,
            sights: 0,
            played: false,
            echo: Echo::Unknown,
        }
    }

    /// As in the beginning. To plan the transforms again would take long.
    pub(super) fn forget(&mut self) {
        self.far.fill(0.0);
        self.near.clear();
        self.sum.fill(Complex32::new(0.0, 0.0));
        (self.compared, self.without, self.sights) = (0, 0, 0);
        (self.played, self.echo) = (false, Echo::Unknown);
    }

    /// Whether the microphone may hear the loudspeaker: it does, or has not been listened to for long enough since something was played.
    pub(super) fn may_be(&self) -> bool {
        match self.echo {
            Echo::Unknown => self.played,
            Echo::Present => true,
            Echo::Absent => false,
        }
    }

    /// Takes a block that the loudspeaker is given.
    pub(super) fn heard(&mut self, block: &Block) {
        self.far.drain(..PIECE);
        self.far.extend(decimated(block));
        self.played |= mean_square(&self.far[FAR - PIECE..]) > PLAYED;
    }

    /// Takes a block that the microphone gives.
    pub(super) fn spoken(&mut self, block: &Block) {
        self.near.extend(decimated(block));
        if self.near.len() < NEAR {
            return;
        }
        // Where sound begins or ends, some delays would seem likelier than others.
        let playing = self.far.chunks(NEAR).all(|part| mean_square(part) > PLAYED);
        if playing && mean_square(&self.near[..NEAR]) > RECORDED {
            self.compare();
            self.compared = self.compared.saturating_add(1);
            let sight = self.compared >= ENOUGH && self.concentration() > PRESENT;
            self.sights = (self.sights << 1 | u8::from(sight)) & 0b111;
            let seen = self.sights.count_ones() >= SEEN;
            self.without = if seen { 0 } else { self.without.saturating_add(1) };
            let enough = match self.echo {
                Echo::Unknown => ABSENT_FIRST,
                Echo::Present | Echo::Absent => ABSENT_LATER,
            };
            if seen {
                self.echo = Echo::Present;
            } else if self.without >= enough {
                self.echo = Echo::Absent;
            }
        } else if playing && self.echo == Echo::Unknown {
            // A microphone that gives nothing while something is played hears nothing of it.
            self.without += 1;
            if self.without >= ABSENT_FIRST {
                self.echo = Echo::Absent;
            }
        }
        self.near.drain(..NEAR);
    }

    /// Adds the phases of the last pieces' cross-spectrum to the sum.
    fn compare(&mut self) {
        let [far, near] = &mut self.spectra;
        far.iter_mut().zip(&self.far).for_each(|(to, from)| *to = Complex32::new(*from, 0.0));
        near.fill(Complex32::new(0.0, 0.0));
        let latest = near[FAR - NEAR..].iter_mut().zip(&self.near);
        latest.for_each(|(to, from)| *to = Complex32::new(*from, 0.0));
        self.fft.process_with_scratch(far, &mut self.scratch);
        self.fft.process_with_scratch(near, &mut self.scratch);
        for bin in bins() {
            let cross = near[bin] * far[bin].conj();
            let phase = cross / cross.norm().max(f32::MIN_POSITIVE);
            self.sum[bin] = self.sum[bin] * MEMORY + phase;
        }
    }

    /// How much more energy the delays of a window have than those around it on average, at most.
    fn concentration(&mut self) -> f32 {
        let [delays, _] = &mut self.spectra;
        delays.copy_from_slice(&self.sum);
        self.inverse.process_with_scratch(delays, &mut self.scratch);
        // Only the positive frequencies are there, so that the magnitude is the correlation's envelope.
        let mut total = 0.0;
        let totals: Vec<f32> = std::iter::once(0.0)
            .chain(delays[..FAR - NEAR].iter().map(|c| {
                total += c.norm_sqr();
                total
            }))
            .collect();
        let of = |from: usize, len: usize| (totals[from + len] - totals[from]) / len as f32;
        let ratio = |from: usize| {
            let around = (from + WINDOW / 2).saturating_sub(AROUND / 2).min(FAR - NEAR - AROUND);
            of(from, WINDOW) / of(around, AROUND).max(f32::MIN_POSITIVE)
        };
        (0..FAR - NEAR - WINDOW).step_by(WINDOW / 8).map(ratio).fold(0.0, f32::max)
    }
}

fn bins() -> std::ops::Range<usize> {
    let of = |hz: usize| hz * FAR / 8_000;
    of(BAND.start)..of(BAND.end)
}

/// At 8 kHz. What is above 4 kHz comes out weaker only, which does not matter to what is looked for.
fn decimated(block: &Block) -> impl Iterator<Item = f32> + '_ {
    block.as_chunks::<DECIMATION>().0.iter().map(|chunk| chunk.iter().sum::<f32>() / DECIMATION as f32)
}
