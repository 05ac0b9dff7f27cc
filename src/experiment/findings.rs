//! What an experiment hands to the report: plain data.

use serde::{Deserialize, Serialize};

use crate::figure::Figure;
use crate::stats::interval::Estimate;
use crate::stats::verdict::Claim;

/// A table of the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Caption.
    pub caption: String,
    /// Column heads.
    pub header: Vec<String>,
    /// Rows, as wide as the header.
    pub rows: Vec<Vec<String>>,
}

/// A figure with its file stem and caption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedFigure {
    /// File name without its ending.
    pub stem: String,
    /// Caption in the report.
    pub caption: String,
    /// The figure.
    pub figure: Figure,
}

/// One critical value, for the CSV.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdRow {
    /// Experiment id.
    pub experiment: String,
    /// `V`.
    pub vocab: usize,
    /// `d` of the input side (of the output side where the input is orthonormal).
    pub dim: usize,
    /// `L`.
    pub len: usize,
    /// `N`, where it is not what is searched; `infinite` for the population.
    pub samples: String,
    /// What is searched: `samples` or `dim`.
    pub axis: String,
    /// Measured critical value, absent where censored.
    pub measured: Option<f64>,
    /// Standard error of its natural logarithm, link or model error included.
    pub log_standard_error: Option<f64>,
    /// Degrees of freedom of that error; absent for the normal law or where censored.
    #[serde(default)]
    pub degrees_of_freedom: Option<f64>,
    /// Critical value of the finite-size formula, absent where there is none.
    pub predicted: Option<f64>,
    /// `estimated` or why it is censored.
    pub status: String,
    /// Trials spent on this point.
    pub trials: usize,
}

/// One measured cell, for the CSV.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellRow {
    /// Experiment id.
    pub experiment: String,
    /// Name of the block.
    pub block: String,
    /// `V`.
    pub vocab: usize,
    /// `d` of the input side.
    pub dim_in: usize,
    /// `d` of the output side.
    pub dim_out: usize,
    /// `L`.
    pub len: usize,
    /// `N`, or `infinite`.
    pub samples: String,
    /// What was measured.
    pub quantity: String,
    /// Mean over trials.
    pub measured: f64,
    /// Standard error of the mean over trials.
    pub standard_error: f64,
    /// Formula, or the bound where the quantity is tested against one.
    pub predicted: f64,
    /// Whether the cell lies in the window of the test.
    pub in_window: bool,
    /// Trials.
    pub trials: usize,
}

/// One fitted exponent beside the formula's on the same design.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedExponent {
    /// Symbol of the size.
    pub name: String,
    /// Measured exponent.
    pub measured: Estimate,
    /// Slope of the formula, regressed on the same design.
    pub formula: f64,
    /// Exponent of the asymptotic law, where the design names one.
    pub asymptotic: Option<f64>,
}

/// The exponents of one fitted law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExponentRow {
    /// Symbol of what was measured.
    pub what: String,
    /// Exponents by size.
    pub exponents: Vec<FittedExponent>,
    /// Mean of log(measured/formula).
    pub ratio: Estimate,
    /// Points that were fitted.
    pub points: usize,
}

/// All that an experiment found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Findings {
    /// Evidence for the claims of this experiment.
    pub claims: Vec<Claim>,
    /// Figures.
    pub figures: Vec<NamedFigure>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Critical values.
    pub thresholds: Vec<ThresholdRow>,
    /// Cells.
    pub cells: Vec<CellRow>,
    /// Fitted laws, for the tables of exponents and contrasts.
    pub exponents: Vec<ExponentRow>,
    /// Fits in full, for the JSON.
    pub fits: serde_json::Value,
    /// Sentences for the report, each with its numbers.
    pub notes: Vec<String>,
    /// What does not fit: cells or points whose deviation is both significant and larger than the
    /// margin, censored points, disagreeing cross-checks.
    pub misfits: Vec<String>,
    /// Number of trials used.
    pub trials: usize,
    /// Number of ways in which the data of this experiment were looked at (windows, subsets,
    /// quantities), for the reader's own correction.
    pub looks: usize,
}
