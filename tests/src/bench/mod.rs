//! The benchmarks. Each runs the built programs in the network lab and answers with named figures and all samples.

mod dht;
mod idle;
mod nodes;
mod reach;
mod setup;
mod terminal;

pub use dht::dht;
pub use idle::idle;
pub use reach::reach;
pub use setup::setup;

use serde_json::Value;

use crate::call::CallError;
use crate::lab::LabError;
use crate::program::ProgramError;

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

impl From<std::io::Error> for BenchError {
    fn from(error: std::io::Error) -> Self {
        Self::Lab(error.into())
    }
}

/// What a benchmark found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its name, the first word of its line.
    pub name: &'static str,
    /// Figures in the order in which they are printed; units are in their names.
    pub figures: Vec<(&'static str, f64)>,
    /// Lines that are printed before the last one, if there are any.
    pub table: String,
    /// Every sample.
    pub samples: Value,
}

impl Report {
    /// The closing line: `NAME: key=value key=value ...`.
    pub fn line(&self) -> String {
        let figures = self.figures.iter().map(|(key, value)| format!("{key}={}", rounded(*value)));
        format!("{}: {}", self.name, figures.collect::<Vec<_>>().join(" "))
    }

    /// Figures and samples.
    pub fn json(&self) -> Value {
        let figures: serde_json::Map<String, Value> =
            self.figures.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
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
            figures: vec![("cold_ms", 412.7), ("warm_ms", 98.25), ("m2e_ms", 9.5), ("pairs", 7.0)],
            table: String::new(),
            samples: Value::Null,
        };
        assert_eq!(report.line(), "setup: cold_ms=413 warm_ms=98.2 m2e_ms=9.50 pairs=7");
    }
}
