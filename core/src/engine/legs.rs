//! The legs of calls: for each (call, terminal) its media and the way its packets came last.

use super::devices::device_event;
use super::{Engine, now};
use crate::api::{Event, PathKind, RelayUse};
use crate::media::{MediaEvent, MediaLeg, MediaStats, Path};
use crate::net::Reach;
use offhook_proto::call::{CallError, LegId};
use offhook_proto::identity::TerminalId;
use offhook_proto::signalling::{Message, Packet};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{StreamExt, StreamMap};

/// Media events of one leg that may wait for the engine; the leg waits beyond that.
pub(super) const MEDIA_QUEUE: usize = 64;

/// Legs remembered. The call machine has far fewer at a time; older ones only lose the hint of their last way.
const MAX_LEGS: usize = 1024;

/// What comes twice within this is taken for a copy by another way, later for a repetition: those come after a quarter of a second
/// mostly.
const COPIES: Duration = Duration::from_millis(240);

/// One leg.
#[derive(Debug, Default)]
struct Leg {
    media: Option<MediaLeg>,
    /// The node through which the last packet came.
    via: Option<TerminalId>,
    /// Whether connecting to the other side's nodes gives nothing away: this user dialled, or it is a contact.
    open: bool,
    /// Whether the media connection is up.
    connected: bool,
    /// Its path, once one that can carry sound was found.
    path: Option<(PathKind, Option<RelayUse>)>,
    /// TLS exporter of its media connection, for the verification words.
    exporter: Option<[u8; 32]>,
    /// Highest message number sent on the media connection, and sent at all: what is not higher is a repetition.
    sent_on_connection: u32,
    sent: u32,
    /// The last message heard, and when it came first.
    heard: Option<(u32, Instant)>,
    /// The other end has repeated it: what was said since may not have come.
    asks_again: bool,
    /// A courier has brought something: the other end has to repeat itself, and hears of us in the same way.
    couriered: bool,
    /// When the leg was last used, to forget the oldest.
    used: u64,
}

/// How a leg's own connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// There is none on a path of its own, or not yet for packets.
    None,
    /// It is up, but nothing is heard of the other end.
    Silent,
    Up,
}

/// The ways a packet of a leg goes, all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ways {
    connection: bool,
    couriers: bool,
    signalling: bool,
}

/// The ways for a packet. Repetitions, what is urgent, and all while nothing is heard of the other end go by signalling
/// although the connection has them. After a move, and while nothing is heard, the couriers get it too; and what has to be repeated
/// while there is no connection, since where packets get lost the directories' connections carry little, and each waits for all
/// before it.
fn ways(line: Line, leg: &Leg, packet: &Packet, again: bool) -> Ways {
    if line == Line::None {
        // Of somebody who was never heard there is nothing to be hoped by courier either.
        let couriers = leg.couriered || again && leg.via.is_some();
        return Ways { connection: false, couriers, signalling: true };
    }
    let silent = line == Line::Silent;
    let repeated = packet.seq != 0 && packet.seq <= leg.sent_on_connection;
    let urgent = packet.message.as_ref().is_some_and(Message::is_urgent);
    let moved = packet.message.as_ref().is_some_and(Message::tells_of_move);
    Ways { connection: true, couriers: silent || moved, signalling: repeated || urgent || silent }
}

/// All legs.
#[derive(Debug)]
pub(super) struct Legs {
    legs: BTreeMap<LegId, Leg>,
    events: StreamMap<LegId, ReceiverStream<MediaEvent>>,
    uses: u64,
}

impl Legs {
    pub fn new() -> Self {
        Self { legs: BTreeMap::new(), events: StreamMap::new(), uses: 0 }
    }

    /// The next media event of any leg; `None` at once while there is no media.
    pub async fn next_event(&mut self) -> Option<(LegId, MediaEvent)> {
        self.events.next().await
    }

    fn entry(&mut self, leg: LegId) -> &mut Leg {
        if self.legs.len() >= MAX_LEGS && !self.legs.contains_key(&leg) {
            let idle = self.legs.iter().filter(|(_, l)| l.media.is_none());
            if let Some(oldest) = idle.min_by_key(|(_, l)| l.used).map(|(id, _)| *id) {
                self.legs.remove(&oldest);
            }
        }
        self.uses += 1;
        let entry = self.legs.entry(leg).or_default();
        entry.used = self.uses;
        entry
    }

    /// The last packet of the leg, with message `seq`, came through `via`: replies try that first.
    pub fn heard_through(&mut self, leg: LegId, via: TerminalId, seq: u32, now: Instant) {
        let known = self.entry(leg);
        known.via = Some(via);
        match known.heard {
            Some((last, first)) if seq != 0 && seq == last => known.asks_again |= now >= first + COPIES,
            Some((last, _)) if seq <= last => {}
            Some(_) | None => known.heard = Some((seq, now)),
        }
    }

    /// The node through which the last packet of the leg came.
    pub fn via(&self, leg: &LegId) -> Option<TerminalId> {
        self.legs.get(leg).and_then(|l| l.via)
    }

    /// This user dialled the terminal, or it is a contact's: nodes that it names may be connected to.
    pub fn set_open(&mut self, leg: LegId) {
        self.entry(leg).open = true;
    }

    /// Whom packets of the leg may be brought to.
    pub fn reach(&self, leg: &LegId) -> Reach {
        if self.legs.get(leg).is_some_and(|l| l.open) { Reach::Open } else { Reach::Discreet }
    }

    pub fn set_media(&mut self, leg: LegId, media: MediaLeg, events: ReceiverStream<MediaEvent>) {
        self.entry(leg).media = Some(media);
        self.events.insert(leg, events);
    }

    /// The leg's media, if it is there.
    pub fn media(&self, leg: &LegId) -> Option<&MediaLeg> {
        self.legs.get(leg).and_then(|l| l.media.as_ref())
    }

    /// The legs that have media.
    pub fn with_media(&self) -> Vec<LegId> {
        self.legs.iter().filter(|(_, leg)| leg.media.is_some()).map(|(id, _)| *id).collect()
    }

    /// What is measured on the leg.
    pub fn stats(&self, leg: &LegId) -> Option<MediaStats> {
        self.media(leg).map(|m| m.stats().borrow().clone())
    }

    /// Whether the leg's media connection is up.
    pub fn is_connected(&self, leg: &LegId) -> bool {
        self.legs.get(leg).is_some_and(|l| l.connected)
    }

    /// The path of the leg's sound, once there is one.
    pub fn path(&self, leg: &LegId) -> Option<(PathKind, Option<RelayUse>)> {
        self.legs.get(leg).and_then(|l| l.path.clone())
    }

    /// TLS exporter of the leg's media connection, once it is up.
    pub fn exporter(&self, leg: &LegId) -> Option<[u8; 32]> {
        self.legs.get(leg).and_then(|l| l.exporter)
    }

    /// Whether the packet, which is sent now, says something that was sent before: its message, or in answer to a message that
    /// was repeated.
    pub fn is_repetition(&mut self, leg: LegId, packet: &Packet) -> bool {
        let known = self.entry(leg);
        let again = packet.seq != 0 && packet.seq <= known.sent;
        known.sent = known.sent.max(packet.seq);
        std::mem::take(&mut known.asks_again) || again
    }

    /// Send a sealed packet on the leg's own connection and by the couriers, where it is to go there. Answers whether that
    /// suffices, or it is to go by signalling as well.
    pub fn send_on_connection(&mut self, leg: &LegId, packet: &Packet, blob: &[u8], again: bool) -> bool {
        let Some(known) = self.legs.get_mut(leg) else { return false };
        let Some(media) = &known.media else { return false };
        let line = match known.connected && known.path.is_some() && media.has_control() {
            true if media.is_silent() => Line::Silent,
            true => Line::Up,
            false => Line::None,
        };
        let ways = ways(line, known, packet, again);
        if ways.connection {
            media.send_control(blob.to_vec());
            known.sent_on_connection = known.sent_on_connection.max(packet.seq);
        }
        if ways.couriers {
            media.pass(blob.to_vec());
        }
        !ways.signalling
    }

    /// The leg's media connection is gone. Says whether it carried sound.
    fn disconnect(&mut self, leg: &LegId) -> bool {
        let Some(known) = self.legs.get_mut(leg) else { return false };
        known.connected = false;
        known.path.take().is_some()
    }

    /// Take the media of a leg away, to close it.
    pub fn take_media(&mut self, leg: &LegId) -> Option<MediaLeg> {
        self.events.remove(leg);
        let known = self.legs.get_mut(leg)?;
        known.connected = false;
        known.path = None;
        known.media.take()
    }

    /// Close everything.
    pub async fn close_all(&mut self) {
        self.events.clear();
        let legs = std::mem::take(&mut self.legs).into_values();
        futures::future::join_all(legs.filter_map(|leg| leg.media).map(MediaLeg::close)).await;
    }
}

impl Engine {
    /// An event of a leg's media.
    pub(super) fn on_media(&mut self, leg: LegId, event: MediaEvent) {
        let call = self.calls.call_of(&leg).unwrap_or(leg.call).to_string();
        match event {
            MediaEvent::Candidates(list) => ignore_late(self.calls.local_candidates(now(), leg, list)),
            MediaEvent::Withheld(list) => ignore_late(self.calls.withheld_candidates(now(), leg, list)),
            MediaEvent::Moved(list) => {
                let renewed = self.calls.renew_candidates(leg);
                ignore_late(renewed.and_then(|()| self.calls.local_candidates(now(), leg, list)));
            }
            MediaEvent::Tunnel(packets) => ignore_late(self.calls.tunnel(now(), leg, packets)),
            MediaEvent::Connected { exporter, path } => self.on_media_connected(leg, exporter, path),
            MediaEvent::PathChanged(path) => self.on_path(leg, path),
            MediaEvent::Control(blob) => self.on_control(leg, &blob),
            MediaEvent::Passed(blob) => {
                if let Some(known) = self.legs.legs.get_mut(&leg) {
                    known.couriered = true;
                }
                self.on_control(leg, &blob);
            }
            MediaEvent::AudioStarted { mic_epoch_ns, speaker_epoch_ns } => {
                self.emit(Event::AudioStarted { call, mic_epoch_ns, speaker_epoch_ns });
            }
            MediaEvent::FirstAudio { .. } => self.emit(Event::FirstAudio { call }),
            MediaEvent::Device(kind, news) => self.emit(device_event(call, kind, news)),
            MediaEvent::Levels { mic, speaker } => self.emit(Event::Levels { call, mic, speaker }),
            MediaEvent::Failed(error) => {
                tracing::info!(%error, "media failed");
                self.media_gone(leg);
            }
            MediaEvent::Closed(last) => {
                self.legs.disconnect(&leg);
                self.calls.media_closed(now(), leg, last);
            }
        }
    }

    /// The media connection of a leg ended by itself.
    fn media_gone(&mut self, leg: LegId) {
        if self.legs.disconnect(&leg) {
            self.calls.media_lost(now(), leg);
        } else {
            self.calls.media_failed(now(), leg);
        }
    }

    fn on_media_connected(&mut self, leg: LegId, exporter: [u8; 32], path: Path) {
        let Some(known) = self.legs.legs.get_mut(&leg) else { return };
        known.connected = true;
        known.exporter = Some(exporter);
        self.on_path(leg, path);
    }

    /// The path of a leg changed. Its media are ready when the connection is up on a path that carries sound.
    fn on_path(&mut self, leg: LegId, path: Path) {
        let told = path_told(&path);
        let Some(known) = self.legs.legs.get_mut(&leg) else { return };
        if !known.connected || !path.carries_voice() {
            return;
        }
        if known.path.replace(told.clone()).is_none() {
            self.calls.media_ready(now(), leg);
        } else if let Some(call) = self.calls.call_of(&leg) {
            let (path, relay) = told;
            self.emit(Event::Path { call: call.to_string(), path, relay });
        }
    }
}

/// Media of a leg that is over may still report things.
fn ignore_late(result: Result<(), CallError>) {
    if let Err(error) = result {
        tracing::debug!(%error, "media of a leg that is over");
    }
}

/// The path in the API's words.
pub(super) fn path_told(path: &Path) -> (PathKind, Option<RelayUse>) {
    match path {
        Path::Tunnel => (PathKind::Signalling, None),
        Path::Direct { .. } => (PathKind::Direct, None),
        Path::Relayed { relay, transport, .. } => {
            let relay = RelayUse { through: relay.to_string(), over: transport.name().to_owned() };
            (PathKind::Relayed, Some(relay))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_proto::signalling::CallId;
    use offhook_proto::wire::UnixMillis;

    const VIA: TerminalId = TerminalId::from_bytes([7; 32]);

    fn leg(n: u8) -> LegId {
        LegId { call: CallId::from_bytes([n; 16]), terminal: TerminalId::from_bytes([n; 32]) }
    }

    fn packet(seq: u32) -> Packet {
        let (call, id) = (CallId::from_bytes([1; 16]), TerminalId::from_bytes([1; 32]));
        Packet { call, from: id, to: id, seq, ack: 0, time: UnixMillis(0), intro: None, message: None }
    }

    #[test]
    fn a_message_is_a_repetition_when_it_was_sent_before_and_acknowledgements_are_none() {
        let mut legs = Legs::new();
        let repeats: Vec<bool> =
            [1, 0, 2, 2, 1, 0, 3].map(|seq| legs.is_repetition(leg(1), &packet(seq))).into();
        assert_eq!(repeats, [false, false, false, true, true, false, false]);
        assert!(!legs.is_repetition(leg(2), &packet(1)), "each leg for itself");
    }

    #[test]
    fn what_answers_a_repetition_counts_as_one_once_and_a_copy_asks_for_nothing() {
        let mut legs = Legs::new();
        let start = Instant::now();
        let mut heard = |seq: u32, later: Duration| {
            legs.heard_through(leg(1), VIA, seq, start + later);
            legs.is_repetition(leg(1), &packet(0))
        };
        assert!(!heard(1, Duration::ZERO));
        assert!(!heard(1, COPIES / 2), "by another way");
        assert!(heard(1, COPIES), "it was said again");
        assert!(!heard(2, COPIES * 2), "that was answered");
        assert!(!heard(1, COPIES * 3), "an old one is late");
        assert!(!heard(0, COPIES * 4) && !heard(0, COPIES * 9), "acknowledgements are not answered");
        assert!(heard(2, COPIES * 9));
        assert_eq!(legs.via(&leg(1)), Some(VIA));
    }

    fn saying(seq: u32, message: Message) -> Packet {
        Packet { message: Some(message), ..packet(seq) }
    }

    /// The ways of a packet as letters: connection, couriers, signalling.
    fn ways_of(line: Line, leg: &Leg, packet: &Packet, again: bool) -> String {
        let Ways { connection, couriers, signalling } = ways(line, leg, packet, again);
        [(connection, 'q'), (couriers, 'c'), (signalling, 's')].iter().filter(|w| w.0).map(|w| w.1).collect()
    }

    #[test]
    fn without_a_connection_packets_go_by_signalling_and_by_courier_when_that_fails() {
        let (unheard, heard) = (Leg::default(), Leg { via: Some(VIA), ..Leg::default() });
        let couriered = Leg { couriered: true, ..Leg::default() };
        assert_eq!(ways_of(Line::None, &heard, &packet(1), false), "s");
        assert_eq!(ways_of(Line::None, &heard, &packet(1), true), "cs", "where packets get lost");
        assert_eq!(ways_of(Line::None, &unheard, &packet(1), true), "s", "nobody is there to be found");
        assert_eq!(ways_of(Line::None, &couriered, &packet(0), false), "cs", "as it came");
    }

    #[test]
    fn with_a_connection_signalling_is_left_alone_but_for_what_must_not_wait() {
        let leg = Leg { sent_on_connection: 3, via: Some(VIA), ..Leg::default() };
        let hold = |seq| saying(seq, Message::Hold { on: true });
        assert_eq!(ways_of(Line::Up, &leg, &hold(4), false), "q");
        assert_eq!(ways_of(Line::Up, &leg, &packet(0), true), "q", "an acknowledgement");
        assert_eq!(ways_of(Line::Up, &leg, &hold(3), true), "qs", "the connection did not bring it");
        let urgent = saying(4, Message::Confirm { candidates: vec!["candidate".into()] });
        assert_eq!(ways_of(Line::Up, &leg, &urgent, false), "qs");
        let moved = saying(4, Message::Candidates { list: vec!["candidate".into()], generation: 1 });
        assert_eq!(ways_of(Line::Up, &leg, &moved, false), "qcs");
        assert_eq!(ways_of(Line::Silent, &leg, &hold(4), false), "qcs");
    }

    #[test]
    fn legs_are_bounded() {
        let mut legs = Legs::new();
        for n in 0..2 * MAX_LEGS as u32 {
            let mut call = [0; 16];
            call[..4].copy_from_slice(&n.to_be_bytes());
            legs.heard_through(
                LegId { call: CallId::from_bytes(call), terminal: VIA },
                VIA,
                1,
                Instant::now(),
            );
        }
        assert_eq!(legs.legs.len(), MAX_LEGS);
    }
}
