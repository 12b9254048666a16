//! The jitter buffer: turns packets that arrive when they like into one frame whenever playout needs one.
//!
//! Contract. Packets go in by [`JitterBuffer::insert`]; each time playout needs the next frame it calls
//! [`JitterBuffer::next`] and does what the answer says. Times of arrivals must not go backwards, nor those of
//! playouts; playouts may trail, as those of a late thread do. No codec, clock or thread is touched here, so the same
//! buffer runs in real time, in virtual time and in a simulation.
//!
//! How the delay is chosen. For each packet the *transit* is its arrival minus its RTP time; only differences
//! mean anything. The fastest transit of the last seconds is the zero of all delays; the *target* is what the
//! 97th percentile needs on top, plus what repair takes while packets are being lost: a frame, because in-band FEC (RFC
//! 6716 section 2.1.7) repairs a frame from the packet after it, or as many as there are between a frame and its last
//! [copy](JitterBuffer::insert_copy), which must have arrived by then. The delay
//! grows by itself when a packet is late (a frame is concealed and the packet is still played when it comes). Otherwise it follows
//! the target by what playout does with the sound: [`JitterBuffer::tempo`] says whether it should be played a little faster or
//! slower, which is also how a difference between the two ends' clocks is made up for. Where that does not suffice, or is not
//! done, whole frames are left out or put in.

mod arrivals;
mod stats;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::rtp::SequenceUnwrap;
use arrivals::{Arrivals, LossRate};
pub use stats::JitterStats;

/// Largest payload that is kept, in bytes; Opus never needs more for one frame (RFC 6716 section 3.4).
pub const MAX_PAYLOAD: usize = 1_275;

/// Frames that are concealed in a row before the buffer gives up and asks for silence: 200 ms of 20 ms frames,
/// after which Opus' concealment has faded out anyway.
const MAX_WAIT: u32 = 10;
/// After so many microseconds without a packet a pause is no pause any more but the end. Its sender says every tenth of a second that it
/// goes on.
const MAX_PAUSE: i64 = 500_000;
/// What the delay keeps above the target when a frame is left out, microseconds.
const MARGIN: i64 = 1_000;
/// Copies are waited for as long as they have come in the last so many packets.
const COPIES_MEMORY: u32 = 100;
/// RTP times are kept within this, microseconds: a hundred years.
const MAX_TIME: i64 = 3_155_760_000_000_000;
/// How long the delay has to be off before it is corrected, in frames. Each correction is heard, and what made the delay
/// long often comes again within seconds (a busy machine, Wi-Fi): so one frame too much is endured for 1.6 s, two for half
/// as long, and more than four for a moment only.
const PATIENCE_DEEP: u32 = 80;
const PATIENCE_VERY_DEEP: u32 = 5;
const VERY_DEEP: i64 = 4;
const PATIENCE_SHALLOW: u32 = 15;
/// After how many frames that are off playout is told to change its pace, and how many frames it keeps after a change. Who is too
/// short of delay loses packets meanwhile.
const PATIENCE_FASTER: i32 = 10;
const PATIENCE_SLOWER: i32 = 3;
const FASTER_EVERY: i32 = 3;
const SLOWER_EVERY: i32 = 2;

/// How a buffer works. The defaults are those of a voice call.
#[derive(Debug, Clone, Copy)]
pub struct JitterConfig {
    /// RTP clock in Hz.
    pub clock_hz: u32,
    /// Samples per frame on that clock.
    pub frame: u32,
    /// Delay on a perfect network. Costs this much on every call; less leaves no room for a late thread.
    pub min_delay: Duration,
    /// Longest delay that is aimed at; packets later than that are given up.
    pub max_delay: Duration,
    /// Most packets that are held. When it is full the oldest goes.
    pub capacity: usize,
}

impl Default for JitterConfig {
    fn default() -> JitterConfig {
        JitterConfig {
            clock_hz: crate::rtp::OPUS_CLOCK_HZ,
            frame: crate::rtp::OPUS_CLOCK_HZ / 50,
            min_delay: Duration::from_millis(4),
            max_delay: Duration::from_millis(400),
            capacity: 64,
        }
    }
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It waits to be played.
    Held,
    /// It is already there.
    Duplicate,
    /// Its turn is over.
    Late,
    /// Its payload is empty or longer than [`MAX_PAYLOAD`].
    Refused,
}

/// What playout has to do for the next frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Playout {
    /// Decode this payload.
    Decode(Vec<u8>),
    /// The frame is lost: decode its copy out of this payload, which is the next packet's.
    DecodeFec(Vec<u8>),
    /// The frame is lost or late: let the codec conceal it.
    Conceal,
    /// The sender [pauses](JitterBuffer::pause): let the codec make up the noise there was behind the voice, and ask again as soon as
    /// is convenient, at the latest after one frame.
    Comfort,
    /// Nothing to play. Ask again as soon as is convenient, at the latest after one frame.
    Silence,
}

/// How playout should go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tempo {
    /// As sound goes.
    Keep,
    /// A little faster: the delay may be shorter by so much.
    Faster(Duration),
    /// A little slower: the delay should be longer.
    Slower,
}

/// Whether frames are being played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No stream, or it has paused: waits for a packet and then for the target delay.
    Waiting,
    /// A frame leaves at each call of `next`.
    Playing,
    /// The sender says nothing. Since when nothing has come, microseconds.
    Paused(i64),
}

#[derive(Debug)]
struct Held {
    /// RTP time in microseconds, unwrapped.
    time: i64,
    payload: Vec<u8>,
    /// Whether it came in a later packet.
    copy: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct JitterBuffer {
    config: JitterConfig,
    state: State,
    start: Option<Instant>,
    sequences: SequenceUnwrap,
    /// Last RTP timestamp and its unwrapped value.
    timestamps: Option<(u32, i64)>,
    packets: BTreeMap<u64, Held>,
    /// Sequence number of the next frame; nothing below it is ever played.
    next: u64,
    /// Frames concealed for `next` while nothing was there to play.
    waited: u32,
    arrivals: Arrivals,
    loss: LossRate,
    /// By how many frames copies trail, and packets since one trailed by as many.
    trailing: (u16, u32),
    deep: u32,
    shallow: u32,
    /// For how many frames in a row playout has been too slow, or too fast if negative.
    off: i32,
    /// Delay of the last frame beyond the target, microseconds.
    excess: i64,
    /// Whether the last frame was concealed.
    concealing: bool,
    /// When playout asked last, microseconds.
    asked: i64,
    stats: JitterStats,
}

impl JitterBuffer {
    /// An empty buffer.
    pub fn new(config: JitterConfig) -> JitterBuffer {
        JitterBuffer {
            config: JitterConfig {
                clock_hz: config.clock_hz.max(1),
                frame: config.frame.max(1),
                capacity: config.capacity.max(2),
                ..config
            },
            state: State::Waiting,
            start: None,
            sequences: SequenceUnwrap::default(),
            timestamps: None,
            packets: BTreeMap::new(),
            next: 0,
            waited: 0,
            arrivals: Arrivals::default(),
            loss: LossRate::default(),
            trailing: (0, 0),
            deep: 0,
            shallow: 0,
            off: 0,
            excess: 0,
            asked: 0,
            concealing: false,
            stats: JitterStats { target: config.min_delay, ..JitterStats::default() },
        }
    }

    /// Takes the packet that arrived at `now`.
    pub fn insert(&mut self, now: Instant, sequence: u16, timestamp: u32, payload: &[u8]) -> Inserted {
        if payload.is_empty() || payload.len() > MAX_PAYLOAD {
            return Inserted::Refused;
        }
        let arrived = self.micros(now);
        let sequence = self.sequences.unwrap(sequence);
        let time = self.unwrap_time(timestamp);
        self.trailing.1 += 1;
        if self.trailing.1 > COPIES_MEMORY {
            self.trailing = (0, 0);
        }
        if let Some(held) = self.packets.get_mut(&sequence) {
            if std::mem::take(&mut held.copy) {
                // It was only late.
                self.arrivals.record(arrived - time);
                return Inserted::Held;
            }
            self.stats.duplicates += 1;
            return Inserted::Duplicate;
        }
        self.arrivals.record(arrived - time);
        if sequence < self.next {
            self.stats.late += 1;
            return Inserted::Late;
        }
        self.make_room(sequence);
        self.packets.insert(sequence, Held { time, payload: payload.to_vec(), copy: false });
        Inserted::Held
    }

    /// Takes a copy of an earlier packet's payload that came in the packet inserted last (`sequence`, `timestamp`): of the one
    /// `distance` packets and frames before it. Says nothing of how fast the network is.
    pub fn insert_copy(&mut self, sequence: u16, timestamp: u32, distance: u16, payload: &[u8]) -> Inserted {
        if payload.is_empty() || payload.len() > MAX_PAYLOAD || distance == 0 {
            return Inserted::Refused;
        }
        if distance >= self.trailing.0 {
            self.trailing = (distance, 0);
        }
        let Some(sequence) = self.sequences.unwrap(sequence).checked_sub(u64::from(distance)) else {
            return Inserted::Late;
        };
        if self.packets.contains_key(&sequence) {
            return Inserted::Duplicate;
        }
        // Without room nobody else gives way to a copy.
        if sequence < self.next || self.packets.len() >= self.config.capacity {
            return Inserted::Late;
        }
        let time = self.time_of(timestamp.wrapping_sub(u32::from(distance).wrapping_mul(self.config.frame)));
        self.packets.insert(sequence, Held { time, payload: payload.to_vec(), copy: true });
        Inserted::Held
    }

    /// What made packets late is over for good: a queue on the way of which the sender has been told. They are waited for as long as the
    /// last ones need.
    pub fn forget_lateness(&mut self) {
        self.arrivals.forget();
    }

    /// Playout was interrupted: it begins anew, with the frame that is due then. What has waited longer is left
    /// out.
    pub fn restart(&mut self) {
        self.state = State::Waiting;
    }

    /// The frame that [`JitterBuffer::next`] has answered last was the sender's last one for now (DTX, RFC 7587 section 3.1.3): what
    /// follows it in sequence is played when its time has come, and nothing is missing until then.
    pub fn pause(&mut self) {
        if self.state == State::Playing {
            self.state = State::Paused(self.asked);
            self.off = 0;
        }
    }

    /// What to play for the frame that starts now.
    pub fn next(&mut self, now: Instant) -> Playout {
        let playout = self.choose(now);
        let conceals = playout == Playout::Conceal;
        self.stats.gaps += u64::from(conceals && !self.concealing);
        self.concealing = conceals;
        playout
    }

    fn choose(&mut self, now: Instant) -> Playout {
        let now = self.micros(now);
        self.asked = now;
        let target = self.target();
        self.stats.target = Duration::from_micros(target as u64);
        let instead = match self.state {
            State::Playing => None,
            State::Waiting => (!self.start_playing(now, target)).then_some(Playout::Silence),
            State::Paused(since) => self.go_on(now, target, since),
        };
        if let Some(instead) = instead {
            return instead;
        }
        if let Some(held) = self.packets.get(&self.next) {
            let delay = self.delay(now, held.time);
            return self.play_next(delay, target);
        }
        match self.packets.first_key_value() {
            Some((&following, _)) => self.cross_gap(now, following),
            None => self.wait(),
        }
    }

    /// How the frame that [`JitterBuffer::next`] has answered last should be played, when `ahead` of earlier frames is still to be
    /// heard before it. To be asked once for each frame that is decoded.
    pub fn tempo(&mut self, ahead: Duration) -> Tempo {
        let frame = self.frame_micros().max(1);
        let excess = self.excess + ahead.as_micros().min(i64::MAX as u128 / 2) as i64;
        // Playout asks at steps of its own, so that up to half a frame more cannot be helped.
        self.off = match () {
            // The longer, the sooner.
            () if excess > frame / 2 + MARGIN => {
                let frames = (excess / frame).min(i64::from(PATIENCE_FASTER)) as i32;
                (self.off.max(0) + 1 + frames).min(PATIENCE_FASTER + FASTER_EVERY)
            }
            () if self.excess < -MARGIN => (self.off.min(0) - 1).max(-PATIENCE_SLOWER - SLOWER_EVERY),
            () => 0,
        };
        if self.off >= PATIENCE_FASTER {
            Tempo::Faster(Duration::from_micros((self.excess - MARGIN).max(0) as u64))
        } else if self.off <= -PATIENCE_SLOWER {
            Tempo::Slower
        } else {
            Tempo::Keep
        }
    }

    /// Playout has been made shorter by so much. That is heard less when a few frames are left as they are before the next time.
    pub fn squeezed(&mut self, by: Duration) {
        self.stats.faster += by;
        self.off -= FASTER_EVERY;
        self.deep = 0;
    }

    /// Playout has been made longer by so much.
    pub fn stretched(&mut self, by: Duration) {
        self.stats.slower += by;
        self.off += SLOWER_EVERY;
        self.shallow = 0;
    }

    /// Packets held; never more than the configured capacity.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// What it has done so far.
    pub fn stats(&self) -> JitterStats {
        self.stats
    }

    /// Whether the frame at `next` is there: leaves one out, puts one in, or plays it.
    fn play_next(&mut self, delay: i64, target: i64) -> Playout {
        self.stats.delay = Duration::from_micros(delay.max(0) as u64);
        let frame = self.frame_micros();
        self.excess = delay - target;
        self.judge(delay, target);
        let patience = match (delay - target - MARGIN) / frame {
            ..=1 => PATIENCE_DEEP,
            frames @ ..=VERY_DEEP => PATIENCE_DEEP / frames as u32,
            _ => PATIENCE_VERY_DEEP,
        };
        if self.deep >= patience && self.packets.contains_key(&(self.next + 1)) {
            self.deep = 0;
            self.packets.remove(&self.next);
            self.next += 1;
            self.stats.dropped += 1;
        } else if self.shallow >= PATIENCE_SHALLOW {
            self.shallow = 0;
            self.stats.inserted += 1;
            self.stats.concealed += 1;
            return Playout::Conceal;
        }
        self.decode_next()
    }

    fn decode_next(&mut self) -> Playout {
        match self.packets.remove(&self.next) {
            Some(held) => {
                self.advance(1, held.copy);
                self.stats.played += 1;
                self.stats.restored += u64::from(held.copy);
                Playout::Decode(held.payload)
            }
            None => self.wait(),
        }
    }

    /// Frames before `following` are missing. Those for which a concealed frame has been played while waiting
    /// are done with; the last one is repaired from the packet after it. Where the delay is to become longer by about a frame, that one is
    /// heard after what was played instead: it grows without a word made up.
    fn cross_gap(&mut self, now: i64, following: u64) -> Playout {
        let missing = following - self.next;
        let waited = u64::from(self.waited);
        let held = self.packets.get(&following);
        let delay = held.map_or(0, |held| self.delay(now, held.time));
        let short = delay + self.frame_micros() / 2 < self.target();
        let concealed = if short && waited >= missing { missing - 1 } else { waited.min(missing) };
        self.advance(concealed, true);
        match following - self.next {
            0 => self.play_next(delay, self.target()),
            1 => {
                let payload =
                    self.packets.get(&following).map(|held| held.payload.clone()).unwrap_or_default();
                self.advance(1, true);
                self.stats.repaired += 1;
                Playout::DecodeFec(payload)
            }
            2.. => {
                self.advance(1, true);
                self.stats.concealed += 1;
                Playout::Conceal
            }
        }
    }

    /// Nothing is there: conceal without giving the frame up, since it may only be late.
    fn wait(&mut self) -> Playout {
        if self.waited >= MAX_WAIT {
            self.state = State::Waiting;
            self.waited = 0;
            return Playout::Silence;
        }
        self.waited += 1;
        self.stats.concealed += 1;
        Playout::Conceal
    }

    /// Ends a pause if what follows it is due, or has not come for too long. Answers what is played otherwise.
    fn go_on(&mut self, now: i64, target: i64, since: i64) -> Option<Playout> {
        let Some((&sequence, held)) = self.packets.first_key_value() else {
            if now - since < MAX_PAUSE {
                self.stats.comfort += 1;
                return Some(Playout::Comfort);
            }
            self.state = State::Waiting;
            return Some(Playout::Silence);
        };
        if self.delay(now, held.time) < target {
            self.state = State::Paused(now);
            self.stats.comfort += 1;
            return Some(Playout::Comfort);
        }
        self.state = State::Playing;
        // Whatever is missing before it was at the end of the pause, and when exactly nobody knows.
        let missing = sequence.saturating_sub(self.next);
        self.advance(missing, true);
        None
    }

    /// Begins with the last frame that is due by now. Those before it have waited for playout to begin, when a
    /// loudspeaker came late, and would only make the delay longer.
    fn start_playing(&mut self, now: i64, target: i64) -> bool {
        let due = |(_, held): &(&u64, &Held)| self.delay(now, held.time) >= target;
        let Some(first) = self.packets.iter().take_while(due).last().map(|(&sequence, _)| sequence) else {
            return false;
        };
        let waiting = self.packets.split_off(&first);
        self.stats.dropped += std::mem::replace(&mut self.packets, waiting).len() as u64;
        self.state = State::Playing;
        self.next = first;
        (self.waited, self.deep, self.shallow, self.off) = (0, 0, 0, 0);
        true
    }

    /// Counts for how many frames in a row the delay has been off.
    fn judge(&mut self, delay: i64, target: i64) {
        let frame = self.frame_micros();
        // Without one frame the delay must still be the target and a little.
        self.deep = if delay > target + frame + MARGIN { self.deep + 1 } else { 0 };
        self.shallow = if delay + frame / 2 < target { self.shallow + 1 } else { 0 };
    }

    fn advance(&mut self, frames: u64, lost: bool) {
        self.next += frames;
        self.waited = 0;
        for _ in 0..frames.min(64) {
            self.loss.record(lost);
        }
    }

    fn make_room(&mut self, sequence: u64) {
        // The stream has jumped further than the buffer could ever bridge: start anew from there.
        if self.state != State::Waiting && sequence - self.next >= self.config.capacity as u64 {
            self.stats.dropped += self.packets.len() as u64;
            self.packets.clear();
            self.state = State::Waiting;
            self.next = sequence;
        }
        if self.packets.len() >= self.config.capacity {
            self.packets.pop_first();
            self.stats.dropped += 1;
            self.next = self
                .packets
                .first_key_value()
                .map_or(sequence, |(&first, _)| first.min(sequence))
                .max(self.next);
        }
    }

    /// Delay of a frame with RTP time `time` if played now, beyond that of the fastest packet.
    fn delay(&self, now: i64, time: i64) -> i64 {
        now - time - self.arrivals.fastest()
    }

    fn target(&self) -> i64 {
        let trailing = i64::from(self.trailing.0).clamp(1, self.config.capacity as i64);
        let repair = if self.loss.is_high() { self.frame_micros() * trailing } else { 0 };
        let min = self.config.min_delay.as_micros() as i64;
        let max = self.config.max_delay.as_micros() as i64;
        self.arrivals.spread().max(min).saturating_add(repair).min(max.max(min))
    }

    fn frame_micros(&self) -> i64 {
        i64::from(self.config.frame) * 1_000_000 / i64::from(self.config.clock_hz)
    }

    fn micros(&mut self, now: Instant) -> i64 {
        let start = *self.start.get_or_insert(now);
        now.saturating_duration_since(start).as_micros() as i64
    }

    fn unwrap_time(&mut self, timestamp: u32) -> i64 {
        let units = self.units_of(timestamp);
        self.timestamps = Some((timestamp, units));
        self.micros_of(units)
    }

    /// The time of a timestamp near the last one.
    fn time_of(&self, timestamp: u32) -> i64 {
        self.micros_of(self.units_of(timestamp))
    }

    fn units_of(&self, timestamp: u32) -> i64 {
        match self.timestamps {
            Some((last, units)) => units.saturating_add(i64::from(timestamp.wrapping_sub(last) as i32)),
            None => 0,
        }
    }

    fn micros_of(&self, units: i64) -> i64 {
        let micros = i128::from(units) * 1_000_000 / i128::from(self.config.clock_hz);
        // Far from the ends, so that differences of times cannot overflow whatever a sender makes up.
        i64::try_from(micros).unwrap_or(i64::MAX).clamp(-MAX_TIME, MAX_TIME)
    }
}

#[cfg(test)]
mod tests;
