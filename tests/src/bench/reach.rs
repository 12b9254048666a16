//! Who reaches whom, and how: every kind of network calls every other.

mod upkeep;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::{BenchError, Report, numbers, progress};
use crate::lab::Network;
use crate::meeting::{Meeting, Met, Stage};
use crate::score::median;
use upkeep::Upkeep;

/// Of a column of the table.
const WIDTH: usize = 20;

/// Pairs that meet at a time, each in an internet of its own.
const AT_A_TIME: usize = 2;

/// Lets every network call every other, or those whose names (`CALLER CALLEE`) hold `filter`, or `count` of those spread
/// over all.
///
/// `ok` are calls in which each heard the other, `direct` those that ended up direct. `accept_to_audio_ms` is from the command
/// to answer to the first sound at the caller, `quic_up_ms` until the call was direct at both ends: medians. Without a filter
/// it is measured, too, how soon a terminal is on line and reachable again, and what a direct call costs its directory.
///
/// # Errors
/// When the laboratory or a directory fails; a call that fails is counted.
pub fn reach(count: Option<u32>, filter: Option<&str>) -> Result<Report, BenchError> {
    let meetings = chosen(count, filter);
    let (total, queue) = (meetings.len(), Mutex::new(meetings.into_iter().rev().collect::<Vec<_>>()));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let met = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME.min(total))
            .map(|n| scope.spawn(move || work(&format!("reach{n}"), next)))
            .collect();
        let each = workers.into_iter().map(|worker| match worker.join() {
            Ok(met) => met,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        each.collect::<Result<Vec<Vec<Met>>, BenchError>>()
    })?;
    // Of all pairs or a share of them; a choice by name is for looking into something.
    let upkeep = filter.is_none().then(Upkeep::measure).transpose()?;
    report(&met.concat(), upkeep.as_ref())
}

/// Which meetings take place.
fn chosen(count: Option<u32>, filter: Option<&str>) -> Vec<Meeting> {
    let fits = |meeting: &Meeting| filter.is_none_or(|filter| meeting.name().contains(filter));
    let all: Vec<Meeting> = Meeting::all().into_iter().filter(fits).collect();
    let count = count.map_or(all.len(), |count| (count as usize).min(all.len()));
    (0..count).map(|n| all[n * all.len() / count]).collect()
}

/// One after the other, as long as there are any.
fn work(name: &str, next: impl Fn() -> Option<Meeting>) -> Result<Vec<Met>, BenchError> {
    let stage = Stage::new(name)?;
    let mut all = Vec::new();
    while let Some(meeting) = next() {
        let met = stage.call(meeting)?;
        progress(&line(&met));
        all.push(met);
    }
    Ok(all)
}

fn line(met: &Met) -> String {
    let ms = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |time| format!("{time:.0}"));
    let heard = met.heard.map_or_else(String::new, |[a, b]| format!(", heard {a:.2} and {b:.2}"));
    let failure = met.failure.as_ref().map_or_else(String::new, |[what, _]| format!(", failed: {what}"));
    let [accepted, audio, direct] = [met.accepted_ms, met.audio_ms, met.direct_ms].map(ms);
    let path = met.path.as_deref().unwrap_or("none");
    format!(
        "{}: path {path}, accepted {accepted} ms, audio {audio} ms, direct {direct} ms{heard}{failure}",
        met.meeting
    )
}

fn report(met: &[Met], upkeep: Option<&Upkeep>) -> Result<Report, BenchError> {
    let count = |fits: &dyn Fn(&Met) -> bool| met.iter().filter(|met| fits(met)).count() as f64;
    let audio: Vec<f64> = met.iter().filter_map(|met| met.audio_ms).collect();
    let direct: Vec<f64> = met.iter().filter_map(|met| met.direct_ms).collect();
    let mut figures = vec![
        ("pairs", met.len() as f64),
        ("ok", count(&Met::is_ok)),
        ("direct_possible", count(&|met| met.direct_possible)),
        ("direct", count(&Met::is_direct)),
    ];
    // What nobody has reached was not measured.
    let times = [("accept_to_audio_ms", audio), ("quic_up_ms", direct)];
    figures.extend(times.iter().filter(|(_, all)| !all.is_empty()).map(|(name, all)| (*name, median(all))));
    figures.extend(upkeep.into_iter().flat_map(Upkeep::figures));
    Ok(Report {
        name: "reach",
        figures: numbers(figures),
        table: table(met),
        samples: serde_json::to_value((met, upkeep)).map_err(|error| BenchError::Other(error.to_string()))?,
    })
}

/// A row for each caller's network and a column for each callee's: `D` direct, `R` relayed, `-` no call, each with the times from
/// the answer to the first sound and to the direct path; `!` where it should have been direct.
fn table(met: &[Met]) -> String {
    let cells: BTreeMap<&str, String> = met.iter().map(|met| (met.meeting.as_str(), cell(met))).collect();
    let cell = |meeting: Meeting| cells.get(meeting.name().as_str()).map_or("", String::as_str);
    let mut lines = Vec::new();
    let mut row = |name: &str, cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<&str> = cells.collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            let cells: String = cells.iter().map(|cell| format!("{cell:>WIDTH$}")).collect();
            lines.push(format!("{name:WIDTH$}{cells}").trim_end().to_owned());
        }
    };
    row("caller \\ callee", &mut Network::ALL.into_iter().map(Network::name));
    for caller in Network::ALL {
        row(caller.name(), &mut Network::ALL.into_iter().map(|callee| cell(Meeting::Apart(caller, callee))));
    }
    for near in Meeting::NEAR {
        row(&near.name(), &mut std::iter::once(cell(near)));
    }
    lines.join("\n")
}

fn cell(met: &Met) -> String {
    let how = match met.path.as_deref() {
        Some("direct") if met.is_ok() => "D",
        Some(_) if met.is_ok() => "R",
        Some(_) | None => "-",
    };
    let missed = if met.direct_possible && !(met.is_direct() && met.is_ok()) { "!" } else { "" };
    let times =
        [met.audio_ms, met.direct_ms].map(|time| time.map_or("-".to_owned(), |time| format!("{time:.0}")));
    if met.audio_ms.is_some() {
        format!("{missed}{how} {}", times.join("/"))
    } else {
        format!("{missed}{how}")
    }
}
