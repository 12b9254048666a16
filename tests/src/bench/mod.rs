//! The benchmarks. Each runs the built programs in the network lab and answers with named figures and all samples.

mod dht;
mod directory;
mod flood;
mod gap;
mod hardship;
mod idle;
mod load;
mod mailbox;
mod nodes;
mod reach;
mod setup;
mod terminal;
mod traces;

pub use dht::dht;
pub use directory::directory;
pub use flood::{Flooded, flood, measure as measure_flood};
pub use gap::gap;
pub use hardship::hardship;
pub use idle::idle;
pub use load::load;
pub use mailbox::mailbox;
pub use reach::reach;
pub use setup::setup;
pub use traces::traces;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::call::CallError;
use crate::lab::LabError;
use crate::program::ProgramError;
use crate::score::ScoreError;

/// Why a benchmark did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A call or program failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The network lab failed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Something else, in words.
    #[error("{0}")]
    Other(String),
}

impl From<ProgramError> for BenchError {
    fn from(error: ProgramError) -> Self {
        Self::Call(error.into())
    }
}

impl From<ScoreError> for BenchError {
    fn from(error: ScoreError) -> Self {
        Self::Call(error.into())
    }
}

impl From<std::io::Error> for BenchError {
    fn from(error: std::io::Error) -> Self {
        Self::Lab(error.into())
    }
}

/// A figure of a benchmark.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Figure {
    /// A number.
    One(f64),
    /// A number for each of several cases, in their order.
    Each(Vec<f64>),
    /// Whether limits were kept.
    Holds(bool),
}

impl fmt::Display for Figure {
    /// As in the closing line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(number) => f.write_str(&rounded(*number)),
            Self::Each(numbers) => {
                f.write_str(&numbers.iter().map(|number| rounded(*number)).collect::<Vec<_>>().join(","))
            }
            Self::Holds(holds) => write!(f, "{holds}"),
        }
    }
}

/// Figures that are all single numbers.
fn numbers(figures: Vec<(&'static str, f64)>) -> Vec<(&'static str, Figure)> {
    figures.into_iter().map(|(key, value)| (key, Figure::One(value))).collect()
}

/// What a benchmark found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its name, the first word of its line.
    pub name: &'static str,
    /// Figures in the order in which they are printed; units are in their names.
    pub figures: Vec<(&'static str, Figure)>,
    /// Lines that are printed before the last one, if there are any.
    pub table: String,
    /// Every sample.
    pub samples: Value,
}

impl Report {
    /// The closing line: `NAME: key=value key=value ...`.
    pub fn line(&self) -> String {
        let figures = self.figures.iter().map(|(key, value)| format!("{key}={value}"));
        format!("{}: {}", self.name, figures.collect::<Vec<_>>().join(" "))
    }

    /// Figures and samples.
    pub fn json(&self) -> Value {
        let figures: BTreeMap<&str, &Figure> =
            self.figures.iter().map(|(key, value)| (*key, value)).collect();
        serde_json::json!({ "bench": self.name, "figures": figures, "samples": self.samples })
    }
}

/// Three significant digits at least, none after the point from 100 on and for whole numbers.
fn rounded(value: f64) -> String {
    let digits = match value.abs() {
        _ if value.fract() == 0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

/// Tells on standard error how far a benchmark is.
fn progress(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_has_the_documented_form() {
        let report = Report {
            name: "setup",
            figures: numbers(vec![("cold_ms", 412.7), ("warm_ms", 98.25), ("m2e_ms", 9.5), ("pairs", 7.0)]),
            table: String::new(),
            samples: Value::Null,
        };
        assert_eq!(report.line(), "setup: cold_ms=413 warm_ms=98.2 m2e_ms=9.50 pairs=7");
    }

    #[test]
    fn a_figure_may_be_several_or_a_verdict() {
        let report = Report {
            name: "load",
            figures: vec![("setup_kb", Figure::Each(vec![18.26, 20.0])), ("ok", Figure::Holds(true))],
            table: String::new(),
            samples: Value::Null,
        };
        assert_eq!(report.line(), "load: setup_kb=18.3,20 ok=true");
        let figures = serde_json::json!({ "setup_kb": [18.26, 20.0], "ok": true });
        assert_eq!(report.json()["figures"], figures);
    }
}
