//! Cells: settings measured by a fixed number of trials.

use recall_theory::{Samples, Setting};

use super::Records;
use super::findings::CellRow;
use super::predicted::{accuracy_of, measured};
use crate::figure::Point;
use crate::job::Job;
use crate::spec::{Block, Design, Experiment, Quantity};
use crate::stats::StatsError;
use crate::stats::interval::{Estimate, mean_of_seeds};

/// All jobs of the design.
pub(super) fn jobs(design: &Design) -> Vec<Job> {
    design
        .blocks
        .iter()
        .flat_map(|b| b.settings().unwrap_or_default())
        .flat_map(|s| (0..design.seeds).map(move |seed| (s, seed)))
        .map(|(s, seed)| design.job(&s, seed))
        .collect()
}

/// One measured cell beside its prediction.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) block: usize,
    pub(super) setting: Setting,
    pub(super) quantity: Quantity,
    pub(super) measured: Estimate,
    pub(super) predicted: f64,
}

impl Cell {
    pub(super) fn error(&self) -> f64 {
        self.measured.value - self.predicted
    }

    /// Error over its standard error.
    pub(super) fn z(&self) -> f64 {
        self.error() / self.measured.standard_error.max(1e-12)
    }

    /// The cell as a point with its 95 % interval.
    pub(super) fn point(&self, x: f64) -> Point {
        Point::new(x, self.measured.value)
            .y_interval(self.measured.lower.max(0.0), self.measured.upper.min(1.0))
    }

    pub(super) fn row(
        &self,
        experiment: &Experiment,
        block: &Block,
        in_window: bool,
        trials: usize,
    ) -> CellRow {
        let s = &self.setting;
        CellRow {
            experiment: experiment.id.clone(),
            block: block.label.clone(),
            vocab: s.vocab,
            dim_in: s.dim_in,
            dim_out: s.dim_out,
            len: s.len,
            samples: samples_text(s),
            quantity: self.quantity.name().into(),
            measured: self.measured.value,
            standard_error: self.measured.standard_error,
            predicted: self.predicted,
            in_window,
            trials,
        }
    }
}

pub(super) fn samples_text(s: &Setting) -> String {
    match s.samples {
        Samples::Finite(n) => n.to_string(),
        Samples::Infinite => "infinite".into(),
    }
}

/// The per-trial values of a quantity at a setting, in seed order.
pub(super) fn trials(
    design: &Design,
    s: &Setting,
    quantity: Quantity,
    records: &dyn Records,
) -> Vec<f64> {
    (0..design.seeds)
        .filter_map(|seed| measured(quantity, records.measured(&design.job(s, seed))?))
        .collect()
}

/// Every cell of the design for one quantity.
pub(super) fn measure(
    design: &Design,
    quantity: Quantity,
    records: &dyn Records,
) -> Result<Vec<Cell>, StatsError> {
    let mut cells = Vec::new();
    for (block, b) in design.blocks.iter().enumerate() {
        for setting in b.settings().unwrap_or_default() {
            let values = trials(design, &setting, quantity, records);
            cells.push(Cell {
                block,
                setting,
                quantity,
                measured: mean_of_seeds(&values, 0.95)?,
                predicted: accuracy_of(quantity, &setting),
            });
        }
    }
    Ok(cells)
}
