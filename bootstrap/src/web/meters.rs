//! What is counted for Prometheus. Every label has few values: routes as they are written here, not as somebody asks for them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::App;
use super::limits::PACES;
use crate::store::{Store, StoreError, Subject};
use offhook_proto::wire::UnixMillis;

/// Upper bounds of the classes of times, seconds.
const TIMES: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 20.0];

/// What no route is for.
const NO_ROUTE: &str = "other";

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    step: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limited {
    subject: &'static str,
}

/// In what the store has failed, in the place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StoreFailure {
    part: &'static str,
}

impl StoreFailure {
    pub(super) const fn of(error: &StoreError) -> Self {
        let part = match error {
            StoreError::Blobs(_) => "blobs",
            StoreError::Damaged(_) => "damaged",
            StoreError::Io { .. } => "files",
            StoreError::Refused(_)
            | StoreError::NoDatabase(_)
            | StoreError::NoBlobPlace(_)
            | StoreError::Database(_)
            | StoreError::Migration(_)
            | StoreError::NewerVersion
            | StoreError::Foreign(_)
            | StoreError::OtherTools
            | StoreError::Closed => "database",
        };
        Self { part }
    }
}

/// The counters and gauges. Clones are handles of one.
#[derive(Clone)]
pub(crate) struct Meters(Arc<All>);

struct All {
    registry: Mutex<Registry>,
    requests: Family<Answered, Counter>,
    seconds: Family<Route, Histogram>,
    evaluations: Family<Step, Counter>,
    logins: Family<Outcome, Counter>,
    sign_ups: Family<Outcome, Counter>,
    limits: Family<Limited, Counter>,
    failures: Family<StoreFailure, Counter>,
    accounts: Gauge,
    sessions: Gauge,
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meters")
    }
}

impl Default for Meters {
    fn default() -> Self {
        let all = All {
            registry: Mutex::default(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(TIMES)),
            evaluations: Family::default(),
            logins: Family::default(),
            sign_ups: Family::default(),
            limits: Family::default(),
            failures: Family::default(),
            accounts: Gauge::default(),
            sessions: Gauge::default(),
        };
        all.register(&mut all.registry.lock().unwrap_or_else(PoisonError::into_inner));
        for subject in Subject::ALL {
            drop(all.limits.get_or_create(&limited(subject)));
        }
        for pace in PACES {
            drop(all.limits.get_or_create(&Limited { subject: pace }));
        }
        Self(Arc::new(all))
    }
}

fn limited(subject: Subject) -> Limited {
    Limited { subject: subject.name() }
}

impl All {
    fn register(&self, registry: &mut Registry) {
        let name = |name: &str| format!("offhook_{name}");
        registry.register(name("site_requests"), "Requests by route and status", self.requests.clone());
        registry.register(name("site_request_seconds"), "Time of requests", self.seconds.clone());
        let help = "Evaluations of OPAQUE's function, which are tries of passwords";
        registry.register(name("opaque_evaluations"), help, self.evaluations.clone());
        registry.register(name("logins"), "Log-ins by result", self.logins.clone());
        registry.register(name("signups"), "Sign-ups by result", self.sign_ups.clone());
        registry.register(name("limits_hit"), "Attempts refused, by what is limited", self.limits.clone());
        let help = "Requests that the store could not serve, by the part that has failed";
        registry.register(name("store_failures"), help, self.failures.clone());
        registry.register(name("accounts"), "Accounts", self.accounts.clone());
        registry.register(name("sessions"), "Sessions", self.sessions.clone());
    }
}

impl Meters {
    /// Counts a try of a password: `register` or `login`.
    pub(super) fn evaluated(&self, step: &'static str) {
        self.0.evaluations.get_or_create(&Step { step }).inc();
    }

    /// Looks how much there is in the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn measure(&self, store: &Store, now: UnixMillis) -> Result<(), StoreError> {
        let (accounts, sessions) = (store.count_accounts().await?, store.count_sessions(None, now).await?);
        self.0.accounts.set(i64::try_from(accounts).unwrap_or(i64::MAX));
        self.0.sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
        Ok(())
    }

    /// A pace that is kept in memory has refused somebody.
    pub(super) fn out_of_pace(&self, pace: &'static str) {
        self.0.limits.get_or_create(&Limited { subject: pace }).inc();
    }

    /// Counts limits that have been hit, which only the store knows.
    pub(crate) fn note_limits(&self, store: &Store) {
        for (subject, hits) in store.limits_hit() {
            let counter = self.0.limits.get_or_create_owned(&limited(subject));
            counter.inner().store(hits, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// Everything in the OpenMetrics text format.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let registry = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String cannot fail.
        let _ = text::encode(&mut out, &registry);
        out
    }

    fn ended(&self, route: &str, status: StatusCode, started: Instant) {
        let all = &self.0;
        let answered = Answered { route: route.to_owned(), status: status.as_u16() };
        all.requests.get_or_create(&answered).inc();
        let seconds = started.elapsed().as_secs_f64();
        all.seconds.get_or_create(&Route { route: route.to_owned() }).observe(seconds);
        let result = Outcome { result: result(status) };
        match route {
            "/api/v1/login/finish" => all.logins.get_or_create(&result).inc(),
            "/api/v1/signup/finish" => all.sign_ups.get_or_create(&result).inc(),
            _ => 0,
        };
    }
}

/// What a status says of a log-in or a sign-up.
fn result(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "wrong",
        StatusCode::TOO_MANY_REQUESTS => "limited",
        status if status.is_success() => "ok",
        status if status.is_server_error() => "failed",
        _ => "refused",
    }
}

/// Counts every request once it has been answered.
pub(super) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let started = Instant::now();
    let response = next.run(request).await;
    let route = matched.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    app.0.meters.ended(route, response.status(), started);
    if let Some(failure) = response.extensions().get::<StoreFailure>() {
        app.0.meters.0.failures.get_or_create(failure).inc();
    }
    response
}
