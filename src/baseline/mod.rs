//! A stored run to compare later runs with.
//!
//! A [`Baseline`] keeps what a run measured, seed by seed, and what was concluded from it: enough
//! to tell chance from change ([`drift`]), far less than the records. It is written by
//! `recall verify --write-baseline` and outlives changes of formulas, margins and statistics; a
//! plain `measurements.jsonl` serves as well, judged by the present program. See `drift.md`.

pub mod drift;
pub mod resample;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::decode::Decoder;
use crate::decode::query::Reading;
use crate::experiment::{Records, ThresholdRow, contribution, count, jobs};
use crate::job::{Axis, Configuration, Job, Record};
use crate::report::{Judged, ReportError, conclude, write_file};
use crate::rng::{RNG_SCHEME, sha256_hex};
use crate::spec::{Criterion, Design, Experiment, Kind, Profile, Quantity, Score};
use crate::stats::verdict::{Evidence, Verdict};
use crate::store::{Store, StoreError};

/// Version of the file's layout.
pub const LAYOUT: u32 = 1;

/// What a run measured and concluded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Layout version, [`LAYOUT`].
    pub baseline: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// Profile of the run.
    pub profile: Profile,
    /// Version of the random-number scheme.
    pub rng_scheme: u32,
    /// Kernels that made the numbers.
    pub kernels: Vec<String>,
    /// Experiments, in the order of the report.
    pub experiments: Vec<Summary>,
}

/// What one experiment measured and concluded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Experiment id.
    pub id: String,
    /// Hash of all outcomes with their jobs: equal for equal records only.
    pub outcomes: String,
    /// Measured cells, trial by trial.
    pub cells: Vec<Cell>,
    /// Critical values, in natural logarithm.
    pub thresholds: Vec<Number>,
    /// Fitted exponents and constants behind the claims.
    pub exponents: Vec<Number>,
    /// Verdicts by claim.
    pub verdicts: BTreeMap<String, Verdict>,
}

/// Trials of one configuration and quantity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Number of the block in the design; absent for a level of a search.
    pub block: Option<usize>,
    /// The configuration.
    pub config: Configuration,
    /// Axes across which trials of one seed share their draws.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paired: Vec<Axis>,
    /// What was measured.
    pub quantity: Measured,
    /// The trials.
    pub trials: Trials,
}

/// A measured number of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measured {
    /// Attention accuracy.
    Attention,
    /// Recall accuracy.
    Recall,
    /// End-to-end accuracy.
    Accuracy,
    /// One-step accuracy.
    OneStep,
    /// Query noise without trigger crosstalk over the population signal.
    NoiseRatio,
    /// Size of attention scores: the signal, or a variance over tokens.
    Score(Score),
    /// Accuracy of a decoder of the first gradient.
    Decoded(Decoder),
    /// Squared cosine of a reading of the query with the trigger.
    Aligned(Reading),
}

impl From<Quantity> for Measured {
    fn from(q: Quantity) -> Self {
        match q {
            Quantity::Attention => Measured::Attention,
            Quantity::Recall => Measured::Recall,
            Quantity::Accuracy => Measured::Accuracy,
            Quantity::OneStep => Measured::OneStep,
        }
    }
}

impl Measured {
    /// Words for tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Measured::Attention => "attention accuracy",
            Measured::Recall => "recall accuracy",
            Measured::Accuracy => "end-to-end accuracy",
            Measured::OneStep => "one-step accuracy",
            Measured::NoiseRatio => "noise ratio",
            Measured::Score(score) => score.words().1,
            Measured::Decoded(decoder) => decoder.name(),
            Measured::Aligned(reading) => reading.name(),
        }
    }
}

/// One number per seed, seeds ascending.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trials {
    /// Seeds, ascending.
    pub seeds: Vec<u64>,
    /// The number measured with each.
    pub values: Vec<f64>,
    /// For an accuracy, the answers counted in each trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<u64>,
}

/// A number estimated from many trials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Number {
    /// What it is.
    pub name: String,
    /// Estimate; absent where censored.
    pub value: Option<f64>,
    /// Its standard error.
    pub standard_error: f64,
    /// Degrees of freedom; absent for the normal law.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub df: Option<f64>,
}

/// Why a baseline cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// The file cannot be read.
    #[error("{}: cannot read the baseline: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is neither a baseline nor records.
    #[error(
        "{}: {problem}; expected a file of `recall verify --write-baseline` or a measurements.jsonl",
        path.display()
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The baseline is of another profile or scheme.
    #[error("{}: the baseline has {what} {found}, this run has {expected}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// In the baseline.
        found: String,
        /// In this run.
        expected: String,
    },
    /// Records given as a baseline cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Records given as a baseline do not belong to the present experiments.
    #[error(
        "{}: as a baseline: {source} (records are judged by the present experiment files; where those have changed, compare with a file of --write-baseline made before the change)",
        path.display()
    )]
    Judge {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: ReportError,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(ReportError),
}

impl Baseline {
    /// Summary of a judged run.
    #[must_use]
    pub fn of(judged: &Judged, records: &dyn Records) -> Self {
        let mut kernels = std::collections::BTreeSet::new();
        let experiments = judged
            .experiments
            .iter()
            .filter_map(|(e, findings)| {
                let design = e.design(judged.profile)?;
                let used: Vec<&Record> = jobs(e, design, records)
                    .iter()
                    .filter_map(|job| records.measured(job))
                    .collect();
                kernels.extend(used.iter().map(|r| r.kernel.clone()));
                let pairs = || judged.pairs_of(findings);
                let exponents = pairs().flat_map(|(v, c)| {
                    let fitted = matches!(c.evidence, Evidence::Law(_))
                        || matches!(e.kind, Kind::Threshold { .. } | Kind::Scores { .. });
                    let shown = v.comparisons.iter().filter(move |_| fitted);
                    shown.map(|x| Number {
                        name: match c.evidence {
                            Evidence::Law(_) => format!("{}: exponent of {}", v.id, x.name),
                            _ => format!("{}: log of the constant", v.id),
                        },
                        value: Some(x.estimate),
                        standard_error: x.test.standard_error,
                        df: x.test.df,
                    })
                });
                Some(Summary {
                    id: e.id.clone(),
                    outcomes: hash_outcomes(&used),
                    cells: cells(e, design, records),
                    thresholds: thresholds(&findings.thresholds),
                    exponents: exponents.collect(),
                    verdicts: pairs()
                        .map(|(v, _)| (v.id.clone(), v.verdict.clone()))
                        .collect(),
                })
            })
            .collect();
        Baseline {
            baseline: LAYOUT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            profile: judged.profile,
            rng_scheme: RNG_SCHEME,
            kernels: kernels.into_iter().collect(),
            experiments,
        }
    }

    /// Reads a baseline: a file of [`Baseline::write`], or the records of a run, which are then
    /// judged by the present experiments.
    ///
    /// # Errors
    /// If the file is neither, or of another profile, layout or random-number scheme.
    pub fn read(
        path: &Path,
        profile: Profile,
        experiments: &[Experiment],
    ) -> Result<Self, BaselineError> {
        let read = |source| BaselineError::Read {
            path: path.to_owned(),
            source,
        };
        if !path.metadata().map_err(read)?.is_file() {
            return Err(read(std::io::Error::other("not a regular file")));
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        if text.starts_with("{\"schema\"") {
            let store = Store::read_only(path)?;
            let judged =
                conclude(profile, experiments, &store).map_err(|source| BaselineError::Judge {
                    path: path.to_owned(),
                    source,
                })?;
            return Ok(Baseline::of(&judged, &store));
        }
        let baseline = Baseline::parse(&text).map_err(|problem| BaselineError::Invalid {
            path: path.to_owned(),
            problem,
        })?;
        let other = |what, found: String, expected: String| {
            if found == expected {
                return Ok(());
            }
            Err(BaselineError::Other {
                path: path.to_owned(),
                what,
                found,
                expected,
            })
        };
        other(
            "profile",
            baseline.profile.name().to_owned(),
            profile.name().to_owned(),
        )?;
        other(
            "random-number scheme",
            baseline.rng_scheme.to_string(),
            RNG_SCHEME.to_string(),
        )?;
        Ok(baseline)
    }

    /// Parses and checks the text of a baseline.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            baseline: u32,
        }
        let version: Version = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if version.baseline != LAYOUT {
            return Err(format!(
                "its layout is version {}, this program reads version {LAYOUT}",
                version.baseline
            ));
        }
        let baseline: Baseline = serde_json::from_str(text).map_err(|e| e.to_string())?;
        for e in &baseline.experiments {
            for c in &e.cells {
                let t = &c.trials;
                let ascending = t.seeds.windows(2).all(|w| w[0] < w[1]);
                let fine = t.seeds.len() == t.values.len()
                    && ascending
                    && t.values.iter().all(|x| x.is_finite())
                    && t.answers != Some(0);
                if !fine {
                    return Err(format!(
                        "experiment {}, {}: seeds must ascend, one finite value each",
                        e.id,
                        c.label()
                    ));
                }
            }
            for n in e.thresholds.iter().chain(&e.exponents) {
                let fine = n.value.is_none_or(f64::is_finite)
                    && n.standard_error >= 0.0
                    && n.standard_error.is_finite()
                    && n.df.is_none_or(|df| df > 0.0);
                if !fine {
                    return Err(format!(
                        "experiment {}, {}: no finite number with a standard error",
                        e.id, n.name
                    ));
                }
            }
        }
        Ok(baseline)
    }

    /// Writes the file, whole or not at all. Its bytes depend on the records and the program only.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, path: &Path) -> Result<(), BaselineError> {
        // Plain data always serialises.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        write_file(path, &text).map_err(BaselineError::Write)
    }
}

impl Cell {
    /// The setting in words.
    #[must_use]
    pub fn label(&self) -> String {
        let s = self.config.setting();
        let dim = if s.dim_in == s.dim_out {
            s.dim_in.to_string()
        } else {
            format!("{}/{}", s.dim_in, s.dim_out)
        };
        let samples = match s.samples {
            recall_theory::Samples::Finite(n) => n.to_string(),
            recall_theory::Samples::Infinite => "infinite".into(),
        };
        let width = s
            .model
            .mlp()
            .map_or_else(String::new, |mlp| format!(", m = {}", mlp.width));
        format!(
            "V = {}, d = {dim}, L = {}, N = {samples}{width}: {}",
            s.vocab,
            s.len,
            self.quantity.name()
        )
    }

    /// What two cells must share to be compared.
    fn key(&self) -> String {
        serde_json::to_string(&(&self.config, &self.paired, self.quantity)).unwrap_or_default()
    }
}

fn hash_outcomes(records: &[&Record]) -> String {
    let mut lines: Vec<String> = records
        .iter()
        .map(|r| {
            let outcome = serde_json::to_string(&r.outcome).unwrap_or_default();
            format!("{} {outcome}\n", r.key)
        })
        .collect();
    lines.sort_unstable();
    sha256_hex(&lines.concat())
}

/// A number measured in one trial, and the answers it counts.
fn trial(measured: Measured, record: &Record) -> Option<(f64, Option<u64>)> {
    let quantity = match measured {
        Measured::Attention => Quantity::Attention,
        Measured::Recall => Quantity::Recall,
        Measured::Accuracy => Quantity::Accuracy,
        Measured::OneStep => Quantity::OneStep,
        Measured::NoiseRatio => {
            let signal = 1.0 - 1.0 / record.job.config.len as f64;
            let ratio = record.outcome.interference_squared.max(0.0).sqrt() / signal;
            return ratio.is_finite().then_some((ratio, None));
        }
        Measured::Score(score) => {
            let value = contribution(score, record)?;
            return value.is_finite().then_some((value, None));
        }
        Measured::Decoded(decoder) => {
            let decoded = &record.outcome.decoders;
            let c = decoded.iter().find(|d| d.decoder == decoder)?.correct;
            return (c.total > 0).then(|| (c.rate(), Some(c.total)));
        }
        Measured::Aligned(reading) => {
            let query = record.outcome.query.as_ref()?;
            let read = query.readings.iter().find(|r| r.reading == reading)?;
            let value = read.alignment / query.trigger_squared;
            return value.is_finite().then_some((value, None));
        }
    };
    let c = count(quantity, record)?;
    (c.total > 0).then(|| (c.rate(), Some(c.total)))
}

fn quantities(kind: &Kind) -> Vec<Measured> {
    match kind {
        Kind::Threshold { search, .. } => vec![match search.criterion {
            Criterion::NoiseRatio { .. } => Measured::NoiseRatio,
            Criterion::Accuracy { quantity, .. } => quantity.into(),
        }],
        Kind::Scores { quantities, .. } => {
            quantities.iter().copied().map(Measured::Score).collect()
        }
        Kind::Curves { quantities, .. } => quantities.iter().map(|&q| q.into()).collect(),
        Kind::Phase { quantity, .. } => vec![(*quantity).into()],
        Kind::Bound(task) => [Measured::OneStep, Measured::Accuracy]
            .into_iter()
            .chain(task.decoders.iter().map(Measured::Decoded))
            .collect(),
        Kind::Decoders(task) => task.decoders.iter().map(Measured::Decoded).collect(),
        Kind::Query { .. } => Reading::ALL.map(Measured::Aligned).to_vec(),
    }
}

/// Every configuration that the experiment measured, with all its trials; not those behind a noisy
/// oracle, whose batches are the same.
fn cells(experiment: &Experiment, design: &Design, records: &dyn Records) -> Vec<Cell> {
    let of_block = |(i, b): (usize, &crate::spec::Block)| -> Vec<(Option<usize>, Job)> {
        let settings = b.settings().unwrap_or_default();
        let (decoders, read_query) = experiment.kind.measured();
        let per_seed = |s| {
            (0..design.seeds).map(move |seed| {
                let mut job = design.job(s, seed);
                job.config.decoders = decoders;
                job.config.read_query = read_query;
                (Some(i), job)
            })
        };
        settings.iter().flat_map(per_seed).collect()
    };
    let wanted: Vec<(Option<usize>, Job)> = match &experiment.kind {
        Kind::Threshold { .. } => jobs(experiment, design, records)
            .into_iter()
            .map(|job| (None, job))
            .collect(),
        _ => design
            .blocks
            .iter()
            .enumerate()
            .flat_map(of_block)
            .collect(),
    };
    let mut cells: Vec<Cell> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for quantity in quantities(&experiment.kind) {
        for (block, job) in &wanted {
            let Some((value, answers)) = records.measured(job).and_then(|r| trial(quantity, r))
            else {
                continue;
            };
            let cell = Cell {
                block: *block,
                config: job.config,
                paired: job.paired.clone(),
                quantity,
                trials: Trials::default(),
            };
            let at = *places
                .entry(format!("{block:?} {}", cell.key()))
                .or_insert_with(|| {
                    cells.push(cell);
                    cells.len() - 1
                });
            let trials = &mut cells[at].trials;
            // A level that a pilot and a grid share names its first seeds twice.
            if let Err(place) = trials.seeds.binary_search(&job.seed) {
                trials.seeds.insert(place, job.seed);
                trials.values.insert(place, value);
                trials.answers = answers;
            }
        }
    }
    cells
}

/// Critical values by the place they stand for.
fn thresholds(rows: &[ThresholdRow]) -> Vec<Number> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    rows.iter()
        .map(|r| {
            let (symbol, other) = match r.axis.as_str() {
                "samples" => ("N*", format!(", d = {}", r.dim)),
                "dim" => ("d*", String::new()),
                axis => (axis, format!(", d = {}", r.dim)),
            };
            let samples = if r.samples.is_empty() {
                String::new()
            } else {
                format!(", N = {}", r.samples)
            };
            let mut name = format!(
                "V = {}{other}, L = {}{samples}: log {symbol}",
                r.vocab, r.len
            );
            let times = seen.entry(name.clone()).or_default();
            *times += 1;
            if *times > 1 {
                name.push_str(&format!(" (point {times} of this place)"));
            }
            let value = r.measured.map(f64::ln).filter(|x| x.is_finite());
            Number {
                name,
                value,
                standard_error: r.log_standard_error.unwrap_or(0.0),
                df: r.degrees_of_freedom,
            }
        })
        .collect()
}
