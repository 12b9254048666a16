//! Sound to pages of Ogg: several streams of Opus in one file, which can be played whenever a page has been written.

use std::io::{self, Write};

use ogg::{PacketWriteEndInfo, PacketWriter};
use opus::{Application, Bitrate, Channels, Encoder, Signal};

use super::head::{Head, Tags};
use crate::audio::{FRAME, SAMPLE_RATE};

/// Bits per second of a stream: speech at this rate is told from the original by nobody, and silence takes less.
const BITRATE: i32 = 32_000;
/// Share of a core against quality, 0 to 10. Nobody waits for it.
const COMPLEXITY: i32 = 5;
/// Packets on a page: half a second is what a cut costs.
const PACKETS_A_PAGE: u32 = 25;
/// Longest packet of Opus, bytes (RFC 6716 section 3.4).
const MAX_PACKET: usize = 1_275;

/// Why nothing more can be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum MuxError {
    /// The file does not take it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The codec refused its settings.
    #[error("the voice codec does not work")]
    Codec(#[from] opus::Error),
}

/// A stream.
struct Stream {
    serial: u32,
    encoder: Encoder,
    pre_skip: u16,
    /// Samples of a frame that is not full.
    frame: Vec<i16>,
    /// Samples that were given.
    samples: u64,
    /// Frames that were encoded.
    frames: u64,
    on_page: u32,
}

impl Stream {
    fn new(serial: u32) -> Result<Stream, opus::Error> {
        let mut encoder = Encoder::new(SAMPLE_RATE, Channels::Mono, Application::Audio)?;
        encoder.set_signal(Signal::Voice)?;
        encoder.set_bitrate(Bitrate::Bits(BITRATE))?;
        encoder.set_vbr(true)?;
        encoder.set_complexity(COMPLEXITY)?;
        let pre_skip = encoder.get_lookahead()?.clamp(0, i32::from(u16::MAX)) as u16;
        let frame = Vec::with_capacity(FRAME);
        Ok(Stream { serial, encoder, pre_skip, frame, samples: 0, frames: 0, on_page: 0 })
    }

    /// The end of what has been encoded (RFC 7845 section 4: samples at 48 kHz, those of the pre-skip included).
    fn granule(&self) -> u64 {
        self.frames * FRAME as u64
    }
}

/// Streams on their way into `out`. Each page is given to it by one [`Write::write_all`].
pub(super) struct Mux<W> {
    out: W,
    pages: PacketWriter<'static, Vec<u8>>,
    streams: Vec<Stream>,
}

impl<W: Write> Mux<W> {
    /// Begins a file with one stream of one channel for each of `tags`. Serials must be hard to meet again.
    pub(super) fn new(out: W, tags: &[Tags], serial: u32) -> Result<Mux<W>, MuxError> {
        let streams: Result<Vec<Stream>, opus::Error> =
            (0..tags.len() as u32).map(|n| Stream::new(serial.wrapping_add(n))).collect();
        let mut mux = Mux { out, pages: PacketWriter::new(Vec::new()), streams: streams? };
        // All first pages come before all others (RFC 3533 section 4).
        for n in 0..tags.len() {
            let head = Head { channels: 1, pre_skip: mux.streams[n].pre_skip, gain: 0 };
            mux.packet(n, head.encode(), PacketWriteEndInfo::EndPage, 0)?;
        }
        for (n, tags) in tags.iter().enumerate() {
            mux.packet(n, tags.encode(), PacketWriteEndInfo::EndPage, 0)?;
        }
        Ok(mux)
    }

    /// Samples that the stream was given.
    pub(super) fn samples(&self, stream: usize) -> u64 {
        self.streams[stream].samples
    }

    /// Adds samples to a stream.
    pub(super) fn push(&mut self, stream: usize, samples: &[i16]) -> Result<(), MuxError> {
        let mut rest = samples;
        while !rest.is_empty() {
            let known = &mut self.streams[stream];
            let (now, later) = rest.split_at(rest.len().min(FRAME - known.frame.len()));
            known.frame.extend_from_slice(now);
            known.samples += now.len() as u64;
            rest = later;
            if known.frame.len() == FRAME {
                self.encode(stream, None)?;
            }
        }
        Ok(())
    }

    /// Ends all streams: what they were given is heard to its last sample.
    pub(super) fn finish(mut self) -> Result<W, MuxError> {
        for n in 0..self.streams.len() {
            let end = self.streams[n].samples + u64::from(self.streams[n].pre_skip);
            let mut over = false;
            while !over {
                self.streams[n].frame.resize(FRAME, 0);
                over = self.streams[n].granule() + FRAME as u64 >= end;
                self.encode(n, over.then_some(end))?;
            }
        }
        Ok(self.out)
    }

    /// Encodes the full frame of a stream, its last one if `end` says where it ends.
    fn encode(&mut self, stream: usize, end: Option<u64>) -> Result<(), MuxError> {
        let known = &mut self.streams[stream];
        let packet = known.encoder.encode_vec(&known.frame, MAX_PACKET)?;
        known.frame.clear();
        known.frames += 1;
        known.on_page += 1;
        let info = match end {
            Some(_) => PacketWriteEndInfo::EndStream,
            None if known.on_page == PACKETS_A_PAGE => PacketWriteEndInfo::EndPage,
            None => PacketWriteEndInfo::NormalPacket,
        };
        let granule = end.unwrap_or_else(|| known.granule());
        self.packet(stream, packet, info, granule)
    }

    fn packet(
        &mut self,
        n: usize,
        packet: Vec<u8>,
        info: PacketWriteEndInfo,
        granule: u64,
    ) -> Result<(), MuxError> {
        self.pages.write_packet(packet, self.streams[n].serial, info, granule)?;
        // A page may have become full before.
        if !self.pages.inner().is_empty() {
            self.streams[n].on_page = 0;
            self.out.write_all(self.pages.inner())?;
            self.pages.inner_mut().clear();
        }
        Ok(())
    }
}
