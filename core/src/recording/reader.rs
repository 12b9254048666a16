//! Files of Ogg Opus, ours and foreign ones, cut or damaged: their sound as far as it goes.

use std::collections::VecDeque;
use std::io::{Read, Seek};

use ogg::{Packet, PacketReader, PageParsingOptions};
use opus::{Channels, Decoder};

use super::head::{Head, Tags};
use crate::audio::{BLOCK_LEN, Block, SAMPLE_RATE};

/// Streams of a file that are looked at.
const MAX_STREAMS: usize = 8;
/// Longest packet of Opus, samples: 120 ms (RFC 6716 section 2.1.4).
const MAX_SAMPLES: usize = 5_760;
/// Sound of one stream that waits for another's: what is more is heard without it.
const MAX_AHEAD: usize = 10 * SAMPLE_RATE as usize;

/// A logical stream of Opus.
pub(super) struct Stream {
    serial: u32,
    pub(super) head: Head,
    /// `None` before they come.
    pub(super) tags: Option<Tags>,
    decoder: Decoder,
    /// Samples that are not to be heard.
    skip: usize,
    /// Samples that came out of the decoder.
    decoded: u64,
    ready: VecDeque<f32>,
}

impl Stream {
    fn begin(packet: &Packet) -> Option<Stream> {
        let head = Head::decode(&packet.data)?;
        let channels = if head.channels == 1 { Channels::Mono } else { Channels::Stereo };
        Some(Stream {
            serial: packet.stream_serial(),
            head,
            tags: None,
            decoder: Decoder::new(SAMPLE_RATE, channels).ok()?,
            skip: usize::from(head.pre_skip),
            decoded: 0,
            ready: VecDeque::new(),
        })
    }

    pub(super) fn serial(&self) -> u32 {
        self.serial
    }

    fn take(&mut self, packet: &Packet) {
        if self.tags.is_none() {
            self.tags = Some(Tags::decode(&packet.data).unwrap_or_default());
            return;
        }
        let channels = usize::from(self.head.channels);
        let mut sound = vec![0.0; MAX_SAMPLES * channels];
        // What is no Opus is not heard.
        let Ok(samples) = self.decoder.decode_float(&packet.data, &mut sound, false) else { return };
        let factor = self.head.factor();
        let mix = |frame: &[f32]| {
            let sample = factor * frame.iter().sum::<f32>() / channels as f32;
            if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 }
        };
        let skipped = self.skip.min(samples);
        self.skip -= skipped;
        self.decoded += samples as u64;
        self.ready.extend(sound[..samples * channels].chunks(channels).skip(skipped).map(mix));
        if packet.last_in_stream() && packet.last_in_page() {
            // The end may lie within the last packet (RFC 7845 section 4.4).
            let over = self.decoded.saturating_sub(packet.absgp_page());
            let left =
                self.ready.len().saturating_sub(usize::try_from(over).unwrap_or(usize::MAX).min(samples));
            self.ready.truncate(left);
        }
    }
}

/// The streams of a file.
pub(super) struct Reader<R: Read + Seek> {
    packets: PacketReader<R>,
    pub(super) streams: Vec<Stream>,
    over: bool,
}

impl<R: Read + Seek> Reader<R> {
    pub(super) fn new(file: R) -> Reader<R> {
        Reader { packets: PacketReader::new(file), streams: Vec::new(), over: false }
    }

    /// One that does not mind wrong checksums: a fuzzer finds no right ones.
    pub(super) fn unchecked(file: R) -> Reader<R> {
        let mut options = PageParsingOptions::default();
        options.verify_checksum = false;
        let packets = PacketReader::new_with_page_parse_opts(file, options);
        Reader { packets, streams: Vec::new(), over: false }
    }

    /// Reads on until the headers of all streams are known, or the file ends before.
    pub(super) fn read_headers(&mut self) {
        let known =
            |streams: &[Stream]| !streams.is_empty() && streams.iter().all(|stream| stream.tags.is_some());
        while !self.over && !known(&self.streams) {
            self.step();
        }
    }

    /// Reads a packet. What is cut or damaged is the end.
    fn step(&mut self) {
        let Ok(Some(packet)) = self.packets.read_packet() else {
            self.over = true;
            return;
        };
        let known = self.streams.iter().position(|stream| stream.serial == packet.stream_serial());
        match known {
            Some(at) => self.streams[at].take(&packet),
            None if self.streams.len() < MAX_STREAMS => self.streams.extend(Stream::begin(&packet)),
            None => {}
        }
    }

    /// The next 10 ms of those streams whose comments are `wanted`, mixed. False when there is nothing more.
    pub(super) fn next(&mut self, wanted: impl Fn(&Tags) -> bool, block: &mut Block) -> bool {
        let short = |streams: &[Stream]| {
            let ahead = streams.iter().any(|stream| stream.ready.len() >= MAX_AHEAD);
            streams.is_empty() || !ahead && streams.iter().any(|stream| stream.ready.len() < BLOCK_LEN)
        };
        while !self.over && short(&self.streams) {
            self.step();
        }
        block.fill(0.0);
        let mut any = false;
        for stream in &mut self.streams {
            let count = stream.ready.len().min(BLOCK_LEN);
            any |= count > 0;
            let heard = stream.tags.as_ref().is_none_or(&wanted);
            let sound = stream.ready.drain(..count);
            if heard {
                block.iter_mut().zip(sound).for_each(|(out, sample)| *out += sample);
            }
        }
        block.iter_mut().for_each(|sample| *sample = sample.clamp(-1.0, 1.0));
        any
    }
}
