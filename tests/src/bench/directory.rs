//! What one directory carries on one core, and what a kill at a random moment costs those whom it has told that their change is kept.
//!
//! ```text
//! terminals   connections from a hundred networks: registrations, memory, look-ups, invites
//! accounts    ID and password over HTTP, as a program does it
//! log_ins     OPAQUE, begun and ended
//! kills       changes under load, the program killed, everything asked again; on SQLite and on PostgreSQL
//! cores       who runs where
//! ```

mod accounts;
pub(super) mod cores;
mod kills;
mod log_ins;
mod terminals;

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{BenchError, Figure, Report, numbers};
use crate::score::{median, percentile};

/// Parts of the benchmark, by the names that `--filter` takes.
const PARTS: [&str; 3] = ["terminals", "logins", "lost"];

/// How much of something was done, and how long each took.
#[derive(Clone, Debug, Default)]
struct Work {
    done: usize,
    took: Duration,
    each_ms: Vec<f64>,
    /// Which part of its core the directory was at work.
    busy: f64,
}

impl Work {
    fn per_second(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Its line of the table: limit and what was found.
    fn row(&self, what: &str, limit: &str) -> String {
        let (half, most) = (median(&self.each_ms), percentile(&self.each_ms, 99.0));
        let share = 100.0 * self.busy;
        format!("{what:<15} {:>9.0} {limit:>9} {half:>9.2} {most:>9.2} {share:>10.0} %", self.per_second())
    }

    fn json(&self) -> Value {
        json!({
            "done": self.done, "seconds": self.took.as_secs_f64(), "busy": self.busy,
            "p50_ms": median(&self.each_ms), "p99_ms": percentile(&self.each_ms, 99.0),
        })
    }
}

/// Measures a directory that has one core, with `connections` terminals; what asks it has the other one.
///
/// `lookups_s` are requests for a record that it holds, `registrations_s` connections (QUIC) with a terminal's certificate,
/// `logins_s` whole log-ins, `invites_s` packets passed on from one terminal to another and acknowledged, `kb_per_terminal` by how
/// much its memory grew for each terminal, and `lost` how many changes were acknowledged and not there any more after one of
/// [`kills::KILLS`] kills on either database.
///
/// # Errors
/// When programs don't come up or answer something else than they should.
pub fn directory(connections: u32, filter: Option<&str>) -> Result<Report, BenchError> {
    let is_wanted = |part: &str| filter.is_none_or(|filter| part.contains(filter));
    if !PARTS.iter().any(|part| is_wanted(part)) {
        return Err(BenchError::Other(format!("there are these parts: {}", PARTS.join(", "))));
    }
    cores::take_second()?;
    let mut figures: Vec<(&'static str, Figure)> = Vec::new();
    let mut rows = vec![format!(
        "{:<15} {:>9} {:>9} {:>9} {:>9} {:>12}",
        "", "a second", "at least", "p50 ms", "p99 ms", "of its core"
    )];
    let mut samples = Map::new();
    let mut tell = |name: &'static str, what: &str, limit: &str, work: &Work| {
        rows.push(work.row(what, limit));
        samples.insert(name.to_owned(), work.json());
        (name, Figure::One(work.per_second()))
    };
    if is_wanted("terminals") {
        let found = terminals::measure(connections)?;
        figures.push(tell("lookups_s", "look-ups", "2,000", &found.lookups));
        figures.push(tell("registrations_s", "registrations", "", &found.registrations));
        figures.push(tell("invites_s", "invites", "2,000", &found.invites));
        figures.extend(numbers(vec![("kb_per_terminal", found.kb_per_terminal)]));
    }
    if is_wanted("logins") {
        figures.push(tell("logins_s", "log-ins", "500", &log_ins::measure()?));
    }
    if is_wanted("lost") {
        let found = kills::measure()?;
        let kept = found.acknowledged - found.lost;
        rows.push(format!("{} kills, {kept} of {} changes kept", found.kills, found.acknowledged));
        samples.insert("kills".to_owned(), json!(found));
        figures.extend(numbers(vec![("lost", found.lost as f64)]));
    }
    Ok(Report { name: "directory", figures, table: rows.join("\n"), samples: samples.into() })
}

fn other(error: impl std::fmt::Display) -> BenchError {
    BenchError::Other(error.to_string())
}
