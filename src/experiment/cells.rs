//! Cells: settings measured by a fixed number of trials.

use recall_theory::{Samples, Setting};

use super::Records;
use super::findings::CellRow;
use super::predicted::{accuracy_of, measured};
use crate::decode::DecoderSet;
use crate::figure::Point;
use crate::job::{Job, Record};
use crate::spec::{Block, Design, Experiment, Quantity};
use crate::stats::StatsError;
use crate::stats::interval::{Estimate, mean_of_seeds};

/// What the trials of an experiment measure beyond what every trial does.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extra {
    pub(super) decoders: DecoderSet,
    pub(super) oracle_noise: f64,
    pub(super) read_query: bool,
}

impl Extra {
    /// Decoders of the first gradient alone.
    pub(super) fn of(decoders: DecoderSet) -> Self {
        Extra {
            decoders,
            ..Extra::default()
        }
    }

    /// The job of a trial that measures this as well.
    pub(super) fn job(self, design: &Design, s: &Setting, seed: u64) -> Job {
        let mut job = design.job(s, seed);
        job.config.decoders = self.decoders;
        job.config.oracle_noise = self.oracle_noise;
        job.config.read_query = self.read_query;
        job
    }

    /// Mean over trials of a number of their records at a setting.
    pub(super) fn mean(
        self,
        design: &Design,
        s: &Setting,
        records: &dyn Records,
        value: impl Fn(&Record) -> Option<f64>,
    ) -> Result<Estimate, StatsError> {
        let values: Vec<f64> = (0..design.seeds)
            .filter_map(|seed| value(records.measured(&self.job(design, s, seed))?))
            .collect();
        mean_of_seeds(&values, 0.95)
    }
}

/// All jobs of the design.
pub(super) fn jobs(design: &Design) -> Vec<Job> {
    jobs_with(design, Extra::default())
}

/// All jobs of the design, each measuring more.
pub(super) fn jobs_with(design: &Design, extra: Extra) -> Vec<Job> {
    design
        .settings()
        .flat_map(|s| (0..design.seeds).map(move |seed| (s, seed)))
        .map(|(s, seed)| extra.job(design, &s, seed))
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

/// Every cell of the design for one quantity.
pub(super) fn measure(
    design: &Design,
    quantity: Quantity,
    records: &dyn Records,
) -> Result<Vec<Cell>, StatsError> {
    measure_with(design, quantity, Extra::default(), records)
}

/// Every cell of the design for one quantity, from trials that measured more.
pub(super) fn measure_with(
    design: &Design,
    quantity: Quantity,
    extra: Extra,
    records: &dyn Records,
) -> Result<Vec<Cell>, StatsError> {
    let mut cells = Vec::new();
    for (block, b) in design.blocks.iter().enumerate() {
        for setting in b.settings().unwrap_or_default() {
            cells.push(Cell {
                block,
                setting,
                quantity,
                measured: extra.mean(design, &setting, records, |r| measured(quantity, r))?,
                predicted: accuracy_of(quantity, &setting),
            });
        }
    }
    Ok(cells)
}
