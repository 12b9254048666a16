//! Before every request, whatever it asks for: how fast one network may ask, so that it spends little of the pace that all have together,
//! and what the operator should know of proxies.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use offhook_proto::wire::UnixMillis;

use super::App;
use super::error::ApiError;
use super::limits::{Bucket, NEIGHBOURS, Network, ONE_NETWORK, Pace};
use super::visitor::{self, FORWARDED};

/// Requests from one network. A page of the site asks for some twenty files.
const ONE: Pace = Pace { at_once: 800, per_second: 100 };
/// Requests from a network and its neighbours: an IPv6 /48, which costs nothing, is 65,536 networks.
const WIDE: Pace = Pace { at_once: 2_000, per_second: 300 };

/// Networks that are told apart, some 50 bytes each, and as many neighbourhoods.
const MAX_NETWORKS: usize = 65_536;

/// Who has asked lately. A network that has not asked for as long as its place takes to run empty is forgotten.
#[derive(Debug, Default)]
pub(super) struct Gate {
    places: Mutex<(Places, Places)>,
    /// Whether the operator was told that a proxy is missing in the settings.
    is_told: AtomicBool,
}

#[derive(Debug, Default)]
struct Places {
    of: HashMap<Network, Bucket>,
    /// Of all for whom there was no place of their own.
    others: Bucket,
    /// When those that have run empty were last looked for.
    swept: UnixMillis,
}

impl Places {
    /// The place of a network, or one that it shares with others if there is none left.
    fn of(&mut self, network: Network, pace: Pace, now: UnixMillis) -> &mut Bucket {
        let is_full = self.of.len() >= MAX_NETWORKS && !self.of.contains_key(&network);
        // At most once a second: it looks at all of them.
        if is_full && now.since(self.swept) >= Duration::from_secs(1) {
            self.swept = now;
            self.of.retain(|_, place| !place.is_empty(pace, now));
        }
        if self.of.len() >= MAX_NETWORKS && !self.of.contains_key(&network) {
            return &mut self.others;
        }
        self.of.entry(network).or_default()
    }
}

impl Gate {
    /// Lets one request through, or says which pace does not.
    fn attempt(&self, network: Network, now: UnixMillis) -> Result<(), (&'static str, ApiError)> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let (narrow, wide) = &mut *places;
        // What one of them asks for beyond its own pace takes nothing from its neighbours.
        narrow.of(network, ONE, now).take(ONE, now).map_err(|error| (ONE_NETWORK, error))?;
        wide.of(network.wide(), WIDE, now).take(WIDE, now).map_err(|error| (NEIGHBOURS, error))
    }

    /// Once: who sends this header is mostly a proxy, and without its word all visitors are one network, with the limits of one. Whether
    /// it is that time.
    fn tell(&self, request: &Request, is_proxy: bool) -> bool {
        let is_odd = !is_proxy && request.headers().contains_key(FORWARDED);
        let is_first = is_odd && !self.is_told.swap(true, Ordering::Relaxed);
        if is_first {
            tracing::warn!(
                "a request came with X-Forwarded-For from an address that is not in site-proxy: if that is your reverse proxy, \
                 name it there, otherwise all visitors share the limits of one"
            );
        }
        is_first
    }
}

/// Lets requests through at the pace of their network.
pub(super) async fn pass(State(app): State<App>, request: Request, next: Next) -> Response {
    let proxies = &app.0.config.proxies;
    let peer = visitor::peer(request.extensions());
    app.0.gate.tell(&request, visitor::is_proxy(proxies, peer));
    let network = Network::of(visitor::behind(proxies, peer, request.headers()));
    match app.0.gate.attempt(network, app.now()) {
        Ok(()) => next.run(request).await,
        Err((pace, error)) => {
            app.0.meters.out_of_pace(pace);
            error.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// Each in a neighbourhood of its own.
    fn network(n: usize) -> Network {
        Network::of(Ipv4Addr::from_bits(u32::try_from(n).expect("few") << 8).into())
    }

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    #[test]
    fn one_network_takes_nothing_from_another() {
        let gate = Gate::default();
        let tries = |n, at| (0..1_000).filter(|_| gate.attempt(network(n), at).is_ok()).count();
        assert_eq!(tries(1, NOW), 800);
        assert_eq!(tries(2, NOW), 800);
        assert_eq!(tries(1, UnixMillis(NOW.0 + 1_000)), 100);
        assert_eq!(tries(1, UnixMillis(NOW.0 - 5_000)), 0, "a clock that is put back gives nothing");
        assert_eq!(tries(1, UnixMillis(NOW.0 + 60_000)), 800);
    }

    #[test]
    fn the_operator_is_told_once_of_a_proxy_that_is_not_in_the_settings() {
        let gate = Gate::default();
        let plain = Request::new(axum::body::Body::empty());
        let mut forwarded = Request::new(axum::body::Body::empty());
        forwarded.headers_mut().insert(FORWARDED, axum::http::HeaderValue::from_static("192.0.2.1"));
        assert!(!gate.tell(&plain, false), "no proxy");
        assert!(!gate.tell(&forwarded, true), "one that is known");
        assert!(gate.tell(&forwarded, false));
        assert!(!gate.tell(&forwarded, false), "once");
    }

    #[test]
    fn neighbours_take_little_of_what_all_have_together() {
        let gate = Gate::default();
        let subnet = |n: u16| Network::of(std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, n, 0, 0, 0, 1).into());
        let tries = |at| (0..u16::MAX).filter(|n| gate.attempt(subnet(*n), at).is_ok()).count();
        assert_eq!(tries(NOW), 2_000, "of one /48");
        assert_eq!(tries(UnixMillis(NOW.0 + 1_000)), 300);
        let refused = gate.attempt(subnet(0), UnixMillis(NOW.0 + 1_000)).expect_err("they are many");
        assert_eq!(refused.0, NEIGHBOURS);
        assert!(gate.attempt(network(1), NOW).is_ok(), "somebody else");
        let places = &gate.places.lock().expect("no panic").0;
        assert!(places.of.len() <= MAX_NETWORKS);
    }

    #[test]
    fn networks_without_end_take_no_memory_without_end() {
        let gate = Gate::default();
        let counts = || {
            let places = gate.places.lock().expect("no panic");
            (places.0.of.len(), places.1.of.len())
        };
        for n in 0..MAX_NETWORKS + 800 {
            gate.attempt(network(n), NOW).expect("the first of its network");
        }
        assert_eq!(counts(), (MAX_NETWORKS, MAX_NETWORKS));
        assert!(gate.attempt(network(MAX_NETWORKS + 900), NOW).is_err(), "they share one place");
        assert!(gate.attempt(network(7), NOW).is_ok(), "who had one before keeps it");
        let later = UnixMillis(NOW.0 + 1_000);
        gate.attempt(network(MAX_NETWORKS + 900), later).expect("there is room again");
        assert_eq!(counts(), (1, 1));
    }
}
