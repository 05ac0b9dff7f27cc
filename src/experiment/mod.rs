//! From experiment files to findings.
//!
//! Each experiment is a pure function of its design and of the records at hand: it names the jobs
//! it still needs ([`pending`]), and once none is missing it turns the records into findings
//! ([`analyse`]). Resuming a run is therefore nothing special, and judging a stored run needs no
//! simulation.

mod bound;
mod boundaries;
mod cells;
mod curves;
mod decoders;
mod evidence;
mod findings;
mod law;
mod plane;
mod predicted;
mod predictor;
mod query;
mod regions;
mod scores;
mod search;
mod threshold;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use evidence::{Measured, measure};
pub use findings::{
    CellRow, ExponentRow, Findings, FittedExponent, NamedFigure, Table, ThresholdRow,
};
pub(crate) use law::{Factors, Size};
use plane::Plane;
pub(crate) use predicted::{at, count, noise_critical, noise_of};
pub use predictor::{Predictor, Theory};
pub(crate) use scores::contribution;
pub use search::{Progress, SearchPlan, SearchPoint};

use crate::job::{Job, Record};
use crate::spec::{Design, Experiment, Kind};
use crate::stats::StatsError;

/// Read access to finished records, from several threads.
pub trait Records: Sync {
    /// The record of a job, if it is finished. Searches are placed by these.
    fn get(&self, job: &Job) -> Option<&Record>;

    /// The record that estimates are made from. Another one than [`Records::get`] only in a
    /// resampled run, whose searches must stay where the stored run has placed them.
    fn measured(&self, job: &Job) -> Option<&Record> {
        self.get(job)
    }
}

/// Why records cannot be analysed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnalysisError {
    /// A record is missing.
    #[error(
        "experiment {experiment}: {missing} of its jobs are not in the store; run `recall reproduce` to finish the run"
    )]
    Incomplete {
        /// Experiment id.
        experiment: String,
        /// Number of missing jobs known so far.
        missing: usize,
    },
    /// A statistic could not be computed.
    #[error("experiment {experiment}: {source}")]
    Statistics {
        /// Experiment id.
        experiment: String,
        /// The cause.
        source: StatsError,
    },
}

/// `f` of every item, in the order of the items, on all cores: predictions take seconds.
pub fn for_each<T: Sync, U: Send>(items: &[T], f: impl Fn(&T) -> U + Sync) -> Vec<U> {
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(items.len());
    let next = AtomicUsize::new(0);
    let mut slots: Vec<(usize, U)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = Vec::new();
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        let Some(item) = items.get(i) else {
                            return done;
                        };
                        done.push((i, f(item)));
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|w| match w.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    slots.sort_by_key(|(i, _)| *i);
    slots.into_iter().map(|(_, value)| value).collect()
}

/// All jobs of an experiment whose settings are fixed; none for a search.
fn cells_of(experiment: &Experiment, design: &Design) -> Vec<Job> {
    match &experiment.kind {
        Kind::Threshold { .. } => Vec::new(),
        Kind::Scores { .. } | Kind::Curves { .. } | Kind::Phase { .. } => cells::jobs(design),
        Kind::Bound(task) => bound::jobs(design, task),
        Kind::Decoders(task) => decoders::jobs(design, task.decoders),
        Kind::Query { .. } => query::jobs(design),
    }
}

/// Jobs that an experiment needs next and that are not finished; empty when it is complete.
///
/// A search needs several rounds: call again when these are done.
#[must_use]
pub fn pending(experiment: &Experiment, design: &Design, records: &dyn Records) -> Vec<Job> {
    let jobs = match &experiment.kind {
        Kind::Threshold { search, .. } => threshold::pending(design, search, records),
        _ => cells_of(experiment, design),
    };
    let mut seen = HashSet::new();
    jobs.into_iter()
        .filter(|job| records.get(job).is_none() && seen.insert(job.key()))
        .collect()
}

/// All jobs that the findings rest on, in a canonical order. Complete only when
/// [`pending`] is empty.
#[must_use]
pub fn jobs(experiment: &Experiment, design: &Design, records: &dyn Records) -> Vec<Job> {
    match &experiment.kind {
        Kind::Threshold { search, .. } => threshold::used_jobs(design, search, records),
        _ => cells_of(experiment, design),
    }
}

/// Jobs that an experiment is expected to take: all cells, or a search that ends where the theory
/// puts its threshold.
#[must_use]
pub fn expected_jobs(experiment: &Experiment, design: &Design) -> Vec<Job> {
    match &experiment.kind {
        Kind::Threshold { search, .. } => threshold::expected_jobs(design, search),
        _ => cells_of(experiment, design),
    }
}

/// That no record is missing.
fn complete(
    experiment: &Experiment,
    design: &Design,
    records: &dyn Records,
) -> Result<(), AnalysisError> {
    match pending(experiment, design, records).len() {
        0 => Ok(()),
        missing => Err(AnalysisError::Incomplete {
            experiment: experiment.id.clone(),
            missing,
        }),
    }
}

/// Of the findings of a complete experiment the claims and the critical values alone: all that
/// verdicts and the comparison of two runs rest on, without the tables and figures around them and
/// the predictions that these take.
///
/// # Errors
/// As [`analyse`].
pub fn conclude(
    experiment: &Experiment,
    design: &Design,
    records: &dyn Records,
) -> Result<Findings, AnalysisError> {
    let statistics = |source| AnalysisError::Statistics {
        experiment: experiment.id.clone(),
        source,
    };
    match &experiment.kind {
        Kind::Threshold { search, test, .. } => {
            complete(experiment, design, records)?;
            threshold::conclude(experiment, design, search, test, records).map_err(statistics)
        }
        // Its critical values take most of its time.
        Kind::Decoders(_) => analyse(experiment, design, records),
        _ => {
            let measured = measure(experiment, design, records)?;
            Ok(Findings {
                claims: measured
                    .claims(experiment, design, &Theory)
                    .map_err(statistics)?,
                ..Findings::default()
            })
        }
    }
}

/// The findings of a complete experiment.
///
/// # Errors
/// [`AnalysisError::Incomplete`] if records are missing; [`AnalysisError::Statistics`] if the
/// design cannot carry the statistics asked for.
pub fn analyse(
    experiment: &Experiment,
    design: &Design,
    records: &dyn Records,
) -> Result<Findings, AnalysisError> {
    complete(experiment, design, records)?;
    let result = match &experiment.kind {
        Kind::Threshold {
            search,
            test,
            regions,
        } => threshold::analyse(experiment, design, search, test, *regions, records),
        Kind::Scores { quantities, test } => {
            scores::analyse(experiment, design, quantities, test, records)
        }
        Kind::Curves {
            axis,
            quantities,
            test,
        } => curves::analyse_curves(experiment, design, *axis, quantities, test, records),
        Kind::Phase {
            quantity,
            level,
            x,
            y,
            dominant,
            test,
        } => {
            let plane = Plane {
                x: *x,
                y: *y,
                dominant: *dominant,
            };
            plane::analyse(experiment, design, *quantity, *level, plane, test, records)
        }
        Kind::Bound(task) => bound::analyse(experiment, design, task, records),
        Kind::Decoders(task) => decoders::analyse(experiment, design, task, records),
        Kind::Query { margin, test } => query::analyse(experiment, design, *margin, test, records),
    };
    result.map_err(|source| AnalysisError::Statistics {
        experiment: experiment.id.clone(),
        source,
    })
}
