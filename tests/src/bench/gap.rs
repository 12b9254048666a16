//! For how long nothing is heard when the network changes under a call.

mod melody;
mod scene;

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::{BenchError, Report, numbers, progress};
use crate::phone::Account;
use crate::score::percentile;
use scene::{Change, IN_A_CALL, Kind, Scene};

/// Kinds that are measured at a time, each in an internet of its own.
const AT_A_TIME: usize = 2;
/// A call that does not come about is tried again so often: what is measured here comes after that.
const TRIES: u32 = 3;
/// The longest gap that is meant to be, in milliseconds.
const LIMIT_MS: f64 = 1_000.0;

/// All changes of a kind.
#[derive(Debug, Serialize)]
struct Changes {
    kind: &'static str,
    changes: Vec<Change>,
}

/// Changes the network under calls `count` times in each way, or in those whose names hold `filter`.
///
/// A gap is counted from when there is a usable path again; a change after which the two do not hear each other within 20 s, or
/// the call ends, has not survived and counts as a gap of 20 s.
///
/// # Errors
/// When the laboratory fails or a call does not come about.
pub fn gap(count: u32, filter: Option<&str>) -> Result<Report, BenchError> {
    let fits = |kind: &Kind| filter.is_none_or(|filter| kind.name().contains(filter));
    let queue = Mutex::new(Kind::ALL.into_iter().filter(fits).rev().collect::<Vec<_>>());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || std::iter::from_fn(next).map(|kind| measure(kind, count)).collect();
    let done = std::thread::scope(|scope| {
        let workers = [(); AT_A_TIME].map(|()| scope.spawn(work));
        let each = workers.into_iter().map(|worker| match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        each.collect::<Result<Vec<Vec<Changes>>, BenchError>>()
    })?;
    report(done.into_iter().flatten().collect())
}

/// As many changes of a kind, under as many calls as it takes.
fn measure(kind: Kind, count: u32) -> Result<Changes, BenchError> {
    let accounts = Account::create_all(["ada", "bob"])?;
    let mut changes = Vec::new();
    while changes.len() < count as usize {
        let mut scene = start(kind, &accounts)?;
        for _ in 0..IN_A_CALL {
            let change = scene.change(kind)?;
            progress(&line(kind, changes.len() + 1, count, &change));
            let survived = change.survived;
            changes.push(change);
            if !survived || changes.len() == count as usize {
                break;
            }
        }
    }
    Ok(Changes { kind: kind.name(), changes })
}

fn start(kind: Kind, accounts: &[Account; 2]) -> Result<Scene, BenchError> {
    let mut tries = 1;
    loop {
        match Scene::start(kind, accounts) {
            Err(error) if tries < TRIES => progress(&format!("{}: no call: {error}", kind.name())),
            result => return result,
        }
        tries += 1;
    }
}

fn line(kind: Kind, number: usize, count: u32, change: &Change) -> String {
    let [caller, callee] = change.gap_ms;
    let outcome = match (&change.ended, change.survived) {
        (Some(said), _) => format!(", the call has ended: {said}"),
        (None, false) => ", not heard again".to_owned(),
        (None, true) => String::new(),
    };
    let kind = kind.name();
    format!("{kind} {number} of {count}: {caller:.0} ms at the caller, {callee:.0} ms at the callee{outcome}")
}

fn report(mut all: Vec<Changes>) -> Result<Report, BenchError> {
    let place = |changes: &Changes| Kind::ALL.iter().position(|kind| kind.name() == changes.kind);
    all.sort_by_key(place);
    let every = || all.iter().flat_map(|of_a_kind| &of_a_kind.changes);
    let gaps: Vec<f64> = every().flat_map(|change| change.gap_ms).collect();
    Ok(Report {
        name: "gap",
        figures: numbers(vec![
            ("changes", every().count() as f64),
            ("survived", every().filter(|change| change.survived).count() as f64),
            ("gap_p50_ms", percentile(&gaps, 50.0)),
            ("gap_p95_ms", percentile(&gaps, 95.0)),
            ("gap_max_ms", percentile(&gaps, 100.0)),
        ]),
        table: table(&all),
        samples: serde_json::to_value(&all).map_err(|error| BenchError::Other(error.to_string()))?,
    })
}

/// A row for each kind; `!` behind what is over the limit.
fn table(all: &[Changes]) -> String {
    let mut lines = vec![format!(
        "{:16}{:>10}{:>34}{:>34}",
        "change", "survived", "at the caller: p50 / p95 / max ms", "at the callee: p50 / p95 / max ms"
    )];
    for Changes { kind, changes } in all {
        let survived = changes.iter().filter(|change| change.survived).count();
        let survived = format!("{survived} of {}", changes.len());
        let [caller, callee] = [0, 1].map(|end| {
            let gaps: Vec<f64> = changes.iter().map(|change| change.gap_ms[end]).collect();
            let [p50, p95, max] = [50.0, 95.0, 100.0].map(|percent| percentile(&gaps, percent));
            format!("{p50:.0} / {p95:.0} / {max:.0}{}", if p95 > LIMIT_MS { " !" } else { "  " })
        });
        lines.push(format!("{kind:16}{survived:>10}{caller:>34}{callee:>34}").trim_end().to_owned());
    }
    lines.push(format!("limit: p95 {LIMIT_MS:.0} ms in each direction"));
    lines.join("\n")
}
