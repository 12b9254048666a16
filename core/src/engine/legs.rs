//! The legs of calls: for each (call, terminal) the way its packets go, and its media.

use super::{Engine, wall};
use crate::api::{Event, PathKind};
use crate::media::{MediaEvent, MediaLeg, Path};
use crate::net::SignalTarget;
use offhook_proto::call::LegId;
use offhook_proto::identity::{SealPublic, TerminalId};
use offhook_proto::signalling::CallId;
use std::collections::BTreeMap;
use std::time::Instant;
use tokio_stream::StreamExt;
use tokio_stream::StreamMap;
use tokio_stream::wrappers::ReceiverStream;

/// Media events of one leg that may wait for the engine; the leg waits beyond that.
pub(super) const MEDIA_QUEUE: usize = 64;

/// How packets reach the terminal of a leg.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// The key that packets are sealed to.
    pub seal: SealPublic,
    /// The terminal, and addresses and directories through which it is reached.
    pub target: SignalTarget,
}

/// One leg.
#[derive(Debug)]
pub(super) struct Leg {
    pub route: Route,
    pub media: Option<MediaLeg>,
    /// Whether the media connection is up.
    pub connected: bool,
    /// Whether it is up on a path that carries sound.
    pub ready: bool,
}

/// All legs. The call machine bounds how many there are.
#[derive(Debug)]
pub(super) struct Legs {
    legs: BTreeMap<LegId, Leg>,
    events: StreamMap<LegId, ReceiverStream<MediaEvent>>,
}

impl Legs {
    pub fn new() -> Self {
        Self { legs: BTreeMap::new(), events: StreamMap::new() }
    }

    /// The next media event of any leg; `None` at once while there is no media.
    pub async fn next_event(&mut self) -> Option<(LegId, MediaEvent)> {
        self.events.next().await
    }

    pub fn get(&self, leg: &LegId) -> Option<&Leg> {
        self.legs.get(leg)
    }

    pub fn get_mut(&mut self, leg: &LegId) -> Option<&mut Leg> {
        self.legs.get_mut(leg)
    }

    /// Set or refresh the way to a terminal.
    pub fn set_route(&mut self, leg: LegId, route: Route) {
        match self.legs.get_mut(&leg) {
            Some(known) => known.route = route,
            None => {
                self.legs.insert(leg, Leg { route, media: None, connected: false, ready: false });
            }
        }
    }

    /// The last packet of the leg came through `via`: try that first for replies.
    pub fn heard_through(&mut self, leg: &LegId, via: TerminalId) {
        if let Some(leg) = self.legs.get_mut(leg) {
            leg.route.target.via = Some(via);
        }
    }

    pub fn set_media(&mut self, leg: LegId, media: MediaLeg, events: ReceiverStream<MediaEvent>) {
        if let Some(known) = self.legs.get_mut(&leg) {
            known.media = Some(media);
            self.events.insert(leg, events);
        }
    }

    /// The leg's media, if it is there.
    pub fn media(&self, leg: &LegId) -> Option<&MediaLeg> {
        self.legs.get(leg).and_then(|l| l.media.as_ref())
    }

    /// Media of every leg of a call.
    pub fn of_call<'a>(&'a self, call: &'a CallId) -> impl Iterator<Item = &'a MediaLeg> + 'a {
        self.legs.iter().filter(move |(id, _)| id.call == *call).filter_map(|(_, l)| l.media.as_ref())
    }

    /// Take the media of a leg away, to close it.
    pub fn take_media(&mut self, leg: &LegId) -> Option<MediaLeg> {
        self.events.remove(leg);
        let leg = self.legs.get_mut(leg)?;
        leg.connected = false;
        leg.ready = false;
        leg.media.take()
    }

    /// Forget a leg whose dialog is finished.
    pub fn forget(&mut self, leg: &LegId) {
        self.events.remove(leg);
        self.legs.remove(leg);
    }

    /// Close everything.
    pub async fn close_all(&mut self) {
        self.events.clear();
        for (_, leg) in std::mem::take(&mut self.legs) {
            if let Some(media) = leg.media {
                media.close().await;
            }
        }
    }
}

impl Engine {
    /// An event of a leg's media.
    pub(super) async fn on_media(&mut self, leg: LegId, event: MediaEvent) {
        let now = Instant::now();
        let call = leg.call.to_string();
        match event {
            MediaEvent::Candidates(list) => self.calls.local_candidates(now, wall(), leg, list),
            MediaEvent::Tunnel(data) => self.calls.send_tunnel(now, wall(), leg, data),
            MediaEvent::Connected { exporter, path } => self.on_connected(leg, exporter, path),
            MediaEvent::PathChanged(path) => self.on_path(leg, path),
            MediaEvent::Control(blob) => self.on_blob(blob, None).await,
            MediaEvent::AudioStarted { mic_epoch_ns, speaker_epoch_ns } => {
                self.emit(Event::AudioStarted { call, mic_epoch_ns, speaker_epoch_ns });
            }
            MediaEvent::FirstAudio { .. } => self.emit(Event::FirstAudio { call }),
            MediaEvent::DeviceLost(device) => self.emit(Event::DeviceLost { call, device }),
            MediaEvent::Failed(error) => {
                tracing::info!(%error, "media failed");
                self.calls.media_failed(now, wall(), leg, error.to_string());
            }
            MediaEvent::Closed => self.calls.media_failed(now, wall(), leg, "the connection was lost".into()),
        }
    }

    fn on_connected(&mut self, leg: LegId, exporter: [u8; 32], path: Path) {
        let Some(known) = self.legs.get_mut(&leg) else { return };
        known.connected = true;
        if let Some(view) = self.views.get_mut(&leg.call) {
            view.exporter = Some(exporter);
        }
        self.on_path(leg, path);
    }

    /// The path of a leg changed. A call is connected when its path can carry sound.
    fn on_path(&mut self, leg: LegId, path: Path) {
        let kind = path_kind(&path);
        let Some(known) = self.legs.get_mut(&leg) else { return };
        if !known.connected || kind == PathKind::Signalling {
            return;
        }
        let first = !std::mem::replace(&mut known.ready, true);
        let call = leg.call.to_string();
        if let Some(view) = self.views.get_mut(&leg.call) {
            view.path = Some(kind);
        }
        if first {
            self.emit(Event::Connected { call, path: kind });
            self.calls.media_ready(Instant::now(), wall(), leg);
        } else {
            self.emit(Event::Path { call, path: kind });
        }
    }
}

/// The path in the API's words.
pub(super) fn path_kind(path: &Path) -> PathKind {
    match path {
        Path::Tunnel => PathKind::Signalling,
        Path::Direct { .. } => PathKind::Direct,
    }
}
