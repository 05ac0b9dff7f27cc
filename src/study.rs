//! A study of the formulas on random configurations: how far is what they say from what is
//! simulated, over a wide range of sizes, and by how much could sampling alone explain it?
//!
//! Plain data in and out: a [`Plan`] is a set of ranges and a seed, [`Plan::draw`] turns it into
//! settings, [`run`] measures each with trials enough for a stated standard error, [`Study`] holds
//! the rows, and [`Study::markdown`] states them. Another model joins by its own settings and its
//! own [`Predictions`]; nothing else here knows what is simulated.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;
use recall_theory::accuracy::{attention_accuracy, end_to_end_accuracy};
use recall_theory::activation::HERMITE_DEGREE;
use recall_theory::attention::NOISE_NAMES;
use recall_theory::mlp::attention::MLP_NOISE_NAMES;
use recall_theory::mlp::hermite::Profile;
use recall_theory::recall::recall_accuracy;
use recall_theory::{
    Activation, Attention, Embedding, Labels, Mlp, MlpInput, MlpRows, Model, Setting,
};
use serde::{Deserialize, Serialize};

use crate::descent::early::Outcome;
use crate::job::{Configuration, Job, JobError, Precision};
use crate::rng::{Purpose, StreamKey};

/// A closed range of sizes, drawn log-uniformly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Smallest.
    pub low: u64,
    /// Largest.
    pub high: u64,
}

impl std::str::FromStr for Range {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (low, high) = s.split_once("..").unwrap_or((s, s));
        let read = |x: &str| x.trim().parse::<u64>().ok().filter(|x| *x > 0);
        match (read(low), read(high)) {
            (Some(low), Some(high)) if low <= high => Ok(Range { low, high }),
            _ => Err("LOW..HIGH, two positive integers in order".to_owned()),
        }
    }
}

/// What configurations are drawn, and how exactly each is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Seed of the configurations: stream `configuration` of the key `{"study":SEED}`.
    pub seed: u64,
    /// How many.
    pub configurations: usize,
    /// `V`.
    pub vocab: Range,
    /// `d`, at most `V`; not used where both sides are orthonormal.
    pub dim: Range,
    /// `L`.
    pub len: Range,
    /// `N`; the upper end is also bounded by the next two.
    pub samples: Range,
    /// Most samples per token of the vocabulary.
    pub samples_per_token: u64,
    /// Most tokens `N L` of a batch.
    pub tokens: u64,
    /// The hidden layer; without one the model is attention-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<HiddenPlan>,
    /// Law of the inputs; drawn for each configuration if it is not given.
    pub input: Option<Embedding>,
    /// Law of the outputs, likewise.
    pub output: Option<Embedding>,
    /// Label law, likewise.
    pub labels: Option<Labels>,
    /// Whether values carry the trigger.
    pub trigger_in_values: bool,
    /// Attention of step 3 and of the test.
    pub attention: Attention,
    /// Keep only configurations whose predicted attention accuracy lies between these.
    pub attention_between: Option<(f64, f64)>,
    /// Aim for this relative standard error of the spread.
    pub standard_error: f64,
    /// Fewest trials.
    pub min_trials: u64,
    /// Most trials.
    pub max_trials: u64,
    /// Most seconds of simulation per configuration by [`Job::cost`] (an estimate, so that the
    /// number of trials does not depend on the machine).
    pub max_seconds: f64,
    /// Fresh sequences per trial.
    pub test_sequences: usize,
    /// Whether the noise terms are isolated.
    pub decompose: bool,
}

/// Which hidden layers are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HiddenPlan {
    /// `m`.
    pub width: Range,
    /// Activation; drawn for each configuration if it is not given.
    pub activation: Option<Activation>,
    /// What the layer sees, likewise.
    pub input: Option<MlpInput>,
    /// Law of the weights, likewise.
    pub rows: Option<MlpRows>,
}

/// Why a study cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StudyError {
    /// No configuration in the ranges meets the conditions.
    #[error(
        "{found} of {wanted} configurations found in {tried} draws: widen the ranges or the window of the attention accuracy"
    )]
    Empty {
        /// Found.
        found: usize,
        /// Asked for.
        wanted: usize,
        /// Draws made.
        tried: usize,
    },
    /// A trial failed.
    #[error("configuration {0}: {1}")]
    Job(usize, JobError),
    /// A worker stopped without an answer.
    #[error("configuration {0} was not measured: a worker thread ended early; run the study again")]
    Unfinished(usize),
}

/// One random word as a number of `[0, 1)`.
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// An integer, log-uniform.
fn between(rng: &mut ChaCha8Rng, low: u64, high: u64) -> u64 {
    let (a, b) = ((low as f64).ln(), (high.max(low) as f64).ln());
    let x = (a + (b - a) * uniform(rng)).exp().round();
    (x as u64).clamp(low, high.max(low))
}

/// One of some values, all alike.
fn pick<T: Copy>(rng: &mut ChaCha8Rng, values: &[T]) -> T {
    let i = (uniform(rng) * values.len() as f64) as usize;
    values[i.min(values.len() - 1)]
}

impl HiddenPlan {
    fn draw(&self, rng: &mut ChaCha8Rng) -> Mlp {
        Mlp {
            width: between(rng, self.width.low, self.width.high) as usize,
            activation: self.activation.unwrap_or_else(|| draw_activation(rng)),
            input: self
                .input
                .unwrap_or_else(|| pick(rng, &[MlpInput::Raw, MlpInput::Rms])),
            rows: self
                .rows
                .unwrap_or_else(|| pick(rng, &[MlpRows::Gaussian, MlpRows::Balanced])),
        }
    }
}

/// An activation: one of eight with a name, a leaky one, one of the family of `|x|`, or a random
/// direction in the space of normalised Hermite coefficients. Parameters have two decimals, so
/// that the name in a table is the activation.
fn draw_activation(rng: &mut ChaCha8Rng) -> Activation {
    let mut short = |low: f64, high: f64| {
        let x = low + (high - low) * uniform(rng);
        (100.0 * x).round() / 100.0
    };
    match short(0.0, 11.99) as usize {
        0 => Activation::Linear,
        1 => Activation::Relu,
        2 => Activation::CentredRelu,
        3 => Activation::Gelu,
        4 => Activation::Silu,
        5 => Activation::Softplus,
        6 => Activation::Tanh,
        7 => Activation::Erf,
        8 => Activation::LeakyRelu {
            slope: short(0.0, 0.6),
        },
        // Even and centred, or anything.
        9 => Activation::Abs {
            slope: 0.0,
            shift: 1.0,
        },
        10 => Activation::Abs {
            slope: short(0.0, 1.0),
            shift: short(0.0, 1.2),
        },
        _ => {
            let degree = short(2.0, 4.99) as usize;
            let mut coefficients = [0.0; HERMITE_DEGREE + 1];
            for c in &mut coefficients[..=degree.min(HERMITE_DEGREE)] {
                *c = short(-1.0, 1.0);
            }
            Activation::Hermite { coefficients }
        }
    }
}

/// The family of an activation, without its parameters.
fn family(activation: Activation) -> String {
    let name = activation.to_string();
    match name.split_once(':') {
        Some((family, _)) => format!("{family}:…"),
        None => name,
    }
}

/// Whether the layer has a linear part: `c_1^2` above a hundredth of the variance of the
/// activation at unit scale.
fn has_linear_part(activation: Activation) -> bool {
    let p = Profile::of(activation, 1.0);
    p.c[1] * p.c[1] > 0.01 * p.variance()
}

impl Plan {
    /// The settings, in the order of their draws: four numbers each (`V`, `d`, `L`, `N`, each
    /// log-uniform given those before), then the laws that are not given, rejected draws included
    /// in the stream.
    ///
    /// # Errors
    /// If too few draws meet the conditions.
    pub fn draw(&self) -> Result<Vec<Setting>, StudyError> {
        let key = StreamKey::from_text(&format!("{{\"study\":{}}}", self.seed));
        let rng = &mut key.stream(Purpose::Configuration);
        let mut settings = Vec::new();
        let most = 200 * self.configurations.max(10);
        for _ in 0..most {
            if settings.len() == self.configurations {
                break;
            }
            let vocab = between(rng, self.vocab.low, self.vocab.high);
            let dim = between(rng, self.dim.low.min(vocab), self.dim.high.min(vocab));
            let len = between(rng, self.len.low, self.len.high);
            let high = self
                .samples
                .high
                .min(self.samples_per_token.saturating_mul(vocab))
                .min(self.tokens / len);
            let samples = between(rng, self.samples.low, high);
            let hidden = self.hidden.as_ref().map(|h| h.draw(rng));
            let dense = || [Embedding::Gaussian, Embedding::Sphere];
            let input = self.input.unwrap_or_else(|| pick(rng, &dense()));
            let output = self.output.unwrap_or_else(|| {
                let [gaussian, sphere] = dense();
                pick(rng, &[gaussian, sphere, Embedding::Orthonormal])
            });
            let mut s = Setting::new(vocab as usize, dim as usize, len as usize, samples)
                .with_embeddings(input, output);
            s.labels = self
                .labels
                .unwrap_or_else(|| pick(rng, &[Labels::Iid, Labels::Balanced]));
            if let Some(mlp) = hidden {
                s = s.with_mlp(mlp);
            }
            s.trigger_in_values = self.trigger_in_values;
            s.attention = self.attention;
            let wanted = self
                .attention_between
                .is_none_or(|(a, b)| (a..=b).contains(&attention_accuracy(&s)));
            if wanted && s.validate().is_ok() {
                settings.push(s);
            }
        }
        if settings.len() < self.configurations {
            return Err(StudyError::Empty {
                found: settings.len(),
                wanted: self.configurations,
                tried: most,
            });
        }
        Ok(settings)
    }
}

/// What the formulas say of a setting. Spread and signal in units of `S0`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predictions {
    /// Standard deviation over tokens of the score.
    pub spread: f64,
    /// The same without the trigger's own part.
    pub interference: f64,
    /// Mean signal.
    pub signal: f64,
    /// Standard deviation of the signal between trials.
    pub signal_sd: f64,
    /// Attention accuracy on fresh sequences.
    pub attention: f64,
    /// Recall with saturated attention.
    pub recall: f64,
    /// End-to-end accuracy.
    pub accuracy: f64,
    /// Term of the budget that leads, trigger crosstalk apart.
    pub leading: String,
    /// Whether trigger crosstalk exceeds the rest.
    pub crosstalk_leads: bool,
}

impl Predictions {
    /// At a setting.
    #[must_use]
    pub fn of(s: &Setting) -> Self {
        let (variance, names, spread, interference, signal, signal_variance) = match &s.model {
            Model::AttentionOnly => {
                let b = recall_theory::attention::budget(s);
                (
                    b.variance.to_vec(),
                    NOISE_NAMES.as_slice(),
                    b.spread(),
                    b.interference,
                    b.signal,
                    b.signal_variance,
                )
            }
            Model::Mlp(mlp) => {
                let b = recall_theory::mlp::attention::budget(s, mlp);
                (
                    b.variance.to_vec(),
                    MLP_NOISE_NAMES.as_slice(),
                    b.spread(),
                    b.interference,
                    b.signal,
                    b.signal_variance,
                )
            }
        };
        // Trigger crosstalk is the last term of either budget.
        let crosstalk = variance.len() - 1;
        let leading = (0..crosstalk).fold(0, |best, i| {
            if variance[i] > variance[best] {
                i
            } else {
                best
            }
        });
        Predictions {
            spread,
            interference: interference.max(0.0).sqrt(),
            signal,
            signal_sd: signal_variance.sqrt(),
            attention: attention_accuracy(s),
            recall: recall_accuracy(s),
            accuracy: end_to_end_accuracy(s),
            leading: names[leading].to_owned(),
            crosstalk_leads: 2.0 * variance[crosstalk] > spread.powi(2),
        }
    }
}

/// A mean over trials and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// Mean.
    pub value: f64,
    /// Standard error, from the variation between seeds.
    pub error: f64,
}

impl Mean {
    fn of(x: &[f64]) -> Self {
        let n = x.len() as f64;
        let value = x.iter().sum::<f64>() / n;
        let square: f64 = x.iter().map(|x| (x - value).powi(2)).sum();
        Mean {
            value,
            error: (square / (n - 1.0).max(1.0) / n).sqrt(),
        }
    }

    /// Root of a mean square.
    fn root(self) -> Self {
        let value = self.value.sqrt();
        Mean {
            value,
            error: if value > 0.0 {
                self.error / (2.0 * value)
            } else {
                0.0
            },
        }
    }
}

/// What the trials of a setting measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Number of trials.
    pub trials: u64,
    /// Root of the mean variance over tokens, pooled over trials.
    pub spread: Mean,
    /// The same without the trigger's own part.
    pub interference: Mean,
    /// Signal.
    pub signal: Mean,
    /// Standard deviation of the signal between trials.
    pub signal_sd: f64,
    /// Attention accuracy on fresh sequences.
    pub attention: Mean,
    /// Attention accuracy on the training batch, less that on fresh sequences, trial by trial.
    pub train_excess: Mean,
    /// Attention accuracy on the training batch.
    pub train_attention: Mean,
    /// Recall with saturated attention.
    pub recall: Mean,
    /// End-to-end accuracy.
    pub accuracy: Mean,
    /// Root mean square of each isolated term, in the order of the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<Vec<Mean>>,
}

impl Measured {
    fn of(outcomes: &[Outcome]) -> Self {
        let mean = |get: &dyn Fn(&Outcome) -> f64| {
            Mean::of(&outcomes.iter().map(get).collect::<Vec<f64>>())
        };
        let signal = mean(&|o| o.signal);
        let train = |o: &Outcome| o.train_attention.map_or(0.0, |c| c.rate());
        let noise = outcomes.iter().all(|o| o.noise.is_some()).then(|| {
            (0..NOISE_NAMES.len())
                .map(|i| mean(&|o| o.noise.map_or(0.0, |p| p.values()[i])).root())
                .collect()
        });
        Measured {
            trials: outcomes.len() as u64,
            spread: mean(&|o| o.spread_squared).root(),
            interference: mean(&|o| o.interference_squared).root(),
            signal,
            signal_sd: signal.error * (outcomes.len() as f64).sqrt(),
            attention: mean(&|o| o.attention.rate()),
            train_excess: mean(&|o| train(o) - o.attention.rate()),
            train_attention: mean(&train),
            recall: mean(&|o| o.recall.rate()),
            accuracy: mean(&|o| o.accuracy.rate()),
            noise,
        }
    }
}

/// One configuration, measured and predicted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The setting.
    pub setting: Setting,
    /// Simulation.
    pub measured: Measured,
    /// Theory.
    pub predicted: Predictions,
}

impl Row {
    /// Measured over predicted spread, with its standard error.
    #[must_use]
    pub fn spread_ratio(&self) -> Mean {
        ratio(self.measured.spread, self.predicted.spread)
    }
}

fn ratio(measured: Mean, predicted: f64) -> Mean {
    Mean {
        value: measured.value / predicted,
        error: measured.error / predicted,
    }
}

/// Measures one setting.
fn measure(plan: &Plan, setting: &Setting) -> Result<Row, JobError> {
    let mut config = Configuration::of(setting);
    config.precision = Precision::F32;
    config.test_sequences = plan.test_sequences;
    config.decompose = plan.decompose;
    let job = |seed| Job {
        config,
        seed,
        paired: Vec::new(),
    };
    let affordable = (plan.max_seconds / job(0).cost().seconds) as u64;
    let cap = plan.max_trials.min(affordable).max(plan.min_trials).max(2);
    let mut outcomes = Vec::new();
    let mut wanted = plan.min_trials.max(2);
    loop {
        for seed in outcomes.len() as u64..wanted {
            outcomes.push(job(seed).run()?.outcome);
        }
        let spread = Measured::of(&outcomes).spread;
        let excess = (spread.error / spread.value / plan.standard_error).powi(2);
        if wanted >= cap || excess <= 1.0 || !excess.is_finite() {
            break;
        }
        // At most threefold: the standard error is itself uncertain.
        let next = wanted as f64 * (1.1 * excess).clamp(1.2, 3.0);
        wanted = (next.ceil() as u64).min(cap);
    }
    Ok(Row {
        setting: *setting,
        measured: Measured::of(&outcomes),
        predicted: Predictions::of(setting),
    })
}

/// A finished study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// What was asked for.
    pub plan: Plan,
    /// The configurations, in the order of their draws.
    pub rows: Vec<Row>,
}

/// Runs a study on some threads; `report` hears how many configurations are done. The result does
/// not depend on the number of threads.
///
/// # Errors
/// If too few configurations are found, or a trial fails.
pub fn run(
    plan: &Plan,
    threads: usize,
    report: &(dyn Fn(usize) + Sync),
) -> Result<Study, StudyError> {
    let settings = plan.draw()?;
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let slots: Vec<Mutex<Option<Result<Row, JobError>>>> =
        settings.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, settings.len().max(1)) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(setting), Some(slot)) = (settings.get(i), slots.get(i)) else {
                        break;
                    };
                    let row = measure(plan, setting);
                    failed.fetch_or(row.is_err(), Ordering::Relaxed);
                    if let Ok(mut slot) = slot.lock() {
                        *slot = Some(row);
                    }
                    report(done.fetch_add(1, Ordering::Relaxed) + 1);
                }
            });
        }
    });
    let mut rows = Vec::with_capacity(slots.len());
    for (i, slot) in slots.into_iter().enumerate() {
        match slot.into_inner().ok().flatten() {
            Some(Ok(row)) => rows.push(row),
            Some(Err(error)) => return Err(StudyError::Job(i, error)),
            None => return Err(StudyError::Unfinished(i)),
        }
    }
    Ok(Study {
        plan: plan.clone(),
        rows,
    })
}

/// Quantiles and shares of measured/predicted ratios.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RatioSummary {
    /// Number of configurations.
    pub configurations: usize,
    /// 0, 5, 16, 50, 84, 95 and 100 % quantiles.
    pub quantiles: [f64; 7],
    /// Geometric mean.
    pub geometric_mean: f64,
    /// Share with a ratio within 5 % of one.
    pub within_5: f64,
    /// Share within 10 %.
    pub within_10: f64,
    /// Share whose 95 % interval lies wholly outside +-5 %: what sampling does not explain.
    pub excluded: f64,
    /// Largest and median standard error of a ratio.
    pub errors: (f64, f64),
}

/// The share of levels, linear between order statistics.
fn quantile(sorted: &[f64], level: f64) -> f64 {
    let x = level * (sorted.len() - 1) as f64;
    let i = (x as usize).min(sorted.len().saturating_sub(2));
    let next = sorted[(i + 1).min(sorted.len() - 1)];
    sorted[i] + (next - sorted[i]) * (x - i as f64)
}

/// Summarises ratios; `None` of none.
#[must_use]
pub fn summarise_ratios(ratios: &[Mean]) -> Option<RatioSummary> {
    let ratios: Vec<Mean> = ratios
        .iter()
        .copied()
        .filter(|r| r.value.is_finite() && r.value > 0.0)
        .collect();
    if ratios.is_empty() {
        return None;
    }
    let sorted = |get: &dyn Fn(&Mean) -> f64| {
        let mut x: Vec<f64> = ratios.iter().map(get).collect();
        x.sort_by(f64::total_cmp);
        x
    };
    let values = sorted(&|r| r.value);
    let errors = sorted(&|r| r.error);
    let n = ratios.len() as f64;
    let share =
        |inside: &dyn Fn(&Mean) -> bool| ratios.iter().filter(|r| inside(r)).count() as f64 / n;
    Some(RatioSummary {
        configurations: ratios.len(),
        quantiles: [0.0, 0.05, 0.16, 0.5, 0.84, 0.95, 1.0].map(|q| quantile(&values, q)),
        geometric_mean: (values.iter().map(|x| x.ln()).sum::<f64>() / n).exp(),
        within_5: share(&|r| (r.value - 1.0).abs() <= 0.05),
        within_10: share(&|r| (r.value - 1.0).abs() <= 0.10),
        excluded: share(&|r| (r.value - 1.0).abs() - 1.96 * r.error > 0.05),
        errors: (quantile(&errors, 1.0), quantile(&errors, 0.5)),
    })
}

/// Deviations of an accuracy, measured less predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviationSummary {
    /// Number of configurations.
    pub configurations: usize,
    /// Mean signed deviation, its standard error from the variation between configurations.
    pub mean: Mean,
    /// Root mean square.
    pub rms: f64,
    /// The same less what the standard errors of the measurements account for.
    pub rms_beyond_sampling: f64,
    /// Largest absolute value.
    pub largest: f64,
    /// Number of positive deviations.
    pub positive: usize,
}

/// Summarises `(measured, predicted)` accuracies; `None` of none.
#[must_use]
pub fn summarise_deviations(cells: &[(Mean, f64)]) -> Option<DeviationSummary> {
    if cells.is_empty() {
        return None;
    }
    let n = cells.len() as f64;
    let d: Vec<f64> = cells.iter().map(|(m, p)| m.value - p).collect();
    let square = d.iter().map(|d| d * d).sum::<f64>() / n;
    let sampling = cells.iter().map(|(m, _)| m.error * m.error).sum::<f64>() / n;
    Some(DeviationSummary {
        configurations: cells.len(),
        mean: Mean::of(&d),
        rms: square.sqrt(),
        rms_beyond_sampling: (square - sampling).max(0.0).sqrt(),
        largest: d.iter().fold(0.0, |a, d| d.abs().max(a)),
        positive: d.iter().filter(|d| **d > 0.0).count(),
    })
}

/// A quantity that is compared as a ratio: name, measured, predicted.
type RatioOf = (&'static str, fn(&Row) -> Mean);
/// A quantity that is compared as a difference.
type RateOf = (&'static str, fn(&Row) -> (Mean, f64));

const RATIOS: [RatioOf; 3] = [
    ("spread", Row::spread_ratio),
    ("interference", |r| {
        ratio(r.measured.interference, r.predicted.interference)
    }),
    ("signal", |r| ratio(r.measured.signal, r.predicted.signal)),
];

const RATES: [RateOf; 4] = [
    ("attention accuracy", |r| {
        (r.measured.attention, r.predicted.attention)
    }),
    ("training attention", |r| {
        // The same formula: what the batch adds is what the difference shows.
        (r.measured.train_attention, r.predicted.attention)
    }),
    ("recall", |r| (r.measured.recall, r.predicted.recall)),
    ("end-to-end accuracy", |r| {
        (r.measured.accuracy, r.predicted.accuracy)
    }),
];

impl Study {
    /// Summary of the spread ratios of a part of the rows.
    #[must_use]
    pub fn spread(&self, part: impl Fn(&Row) -> bool) -> Option<RatioSummary> {
        let ratios: Vec<Mean> = self
            .rows
            .iter()
            .filter(|r| part(r))
            .map(Row::spread_ratio)
            .collect();
        summarise_ratios(&ratios)
    }

    /// The tables, as a section of a Markdown document.
    #[must_use]
    pub fn markdown(&self, title: &str, command: &str) -> String {
        let mut text = format!("## {title}\n\n`{command}`\n\n");
        let trials: u64 = self.rows.iter().map(|r| r.measured.trials).sum();
        let _ = writeln!(
            text,
            "{} configurations, {trials} trials.\n",
            self.rows.len()
        );
        text.push_str(RATIO_HEAD);
        for (name, get) in RATIOS {
            let ratios: Vec<Mean> = self.rows.iter().map(get).collect();
            ratio_line(&mut text, name, summarise_ratios(&ratios).as_ref());
        }
        let part = |crosstalk: bool| self.spread(|r| r.predicted.crosstalk_leads == crosstalk);
        ratio_line(
            &mut text,
            "spread, trigger crosstalk leads",
            part(true).as_ref(),
        );
        // The names of the attention-only budget are among those of the layer's.
        for name in MLP_NOISE_NAMES {
            let part = self.spread(|r| !r.predicted.crosstalk_leads && r.predicted.leading == name);
            ratio_line(&mut text, &format!("spread, {name} leads"), part.as_ref());
        }
        text.push_str(
            "\n| measured less predicted | configurations | mean | rms | beyond sampling | largest | positive |\n|---|---|---|---|---|---|---|\n",
        );
        for (name, get) in RATES {
            let all: Vec<(Mean, f64)> = self.rows.iter().map(get).collect();
            let middle: Vec<(Mean, f64)> = all
                .iter()
                .copied()
                .filter(|(_, p)| (0.1..=0.9).contains(p))
                .collect();
            rate_line(&mut text, name, summarise_deviations(&all).as_ref());
            let name = format!("{name}, predicted .1 to .9");
            rate_line(&mut text, &name, summarise_deviations(&middle).as_ref());
        }
        if self.plan.hidden.is_some() {
            self.parts(&mut text);
        }
        text.push_str("\nLargest deviations of the spread:\n\n| V | d | L | N | leads | trials | measured / predicted |\n|---|---|---|---|---|---|---|\n");
        let mut worst: Vec<&Row> = self.rows.iter().collect();
        let distance = |r: &Row| r.spread_ratio().value.ln().abs();
        worst.sort_by(|a, b| distance(b).total_cmp(&distance(a)));
        for r in worst.iter().take(8) {
            let (s, q) = (&r.setting, r.spread_ratio());
            let leads = if r.predicted.crosstalk_leads {
                "trigger"
            } else {
                &r.predicted.leading
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {leads} | {} | {:.3} ± {:.3} |",
                s.vocab,
                s.dim_in,
                s.len,
                s.samples.as_f64(),
                r.measured.trials,
                q.value,
                q.error
            );
        }
        text.push('\n');
        text
    }
}

impl Study {
    /// Spread and accuracies by what the layer is and what it is embedded in, and the largest
    /// deviations of recall.
    fn parts(&self, text: &mut String) {
        text.push_str("\n| part | configurations | spread: geometric mean, range | recall: mean, rms, largest | end to end: mean, rms, largest |\n|---|---|---|---|---|\n");
        // Labels of a row, by kind, in the order in which kinds are printed.
        let labels: Vec<Vec<String>> = self.rows.iter().map(Row::parts).collect();
        let kinds = labels.first().map_or(0, Vec::len);
        for kind in 0..kinds {
            let mut names: Vec<&str> = labels.iter().map(|l| l[kind].as_str()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let part: Vec<&Row> = self
                    .rows
                    .iter()
                    .zip(&labels)
                    .filter(|(_, l)| l[kind] == name)
                    .map(|(r, _)| r)
                    .collect();
                part_line(text, name, &part);
            }
        }
        text.push_str("\nLargest deviations of recall:\n\n| V | d | L | N | m | activation | layer | embeddings | labels | measured | predicted |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
        let mut worst: Vec<(&Row, &Vec<String>)> = self.rows.iter().zip(&labels).collect();
        let distance = |r: &Row| (r.measured.recall.value - r.predicted.recall).abs();
        worst.sort_by(|a, b| distance(b.0).total_cmp(&distance(a.0)));
        for (r, l) in worst.iter().take(10) {
            let (s, m) = (&r.setting, r.measured.recall);
            let Some(mlp) = s.model.mlp() else { continue };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {}, {} | {}, {} | {} | {:.3} ± {:.3} | {:.3} |",
                s.vocab,
                s.dim_in,
                s.len,
                s.samples.as_f64(),
                mlp.width,
                mlp.activation,
                l[2],
                l[3],
                l[4],
                l[5],
                l[6],
                m.value,
                m.error,
                r.predicted.recall
            );
        }
    }
}

impl Row {
    /// What a row with a hidden layer belongs to, one label for each kind of part.
    fn parts(&self) -> Vec<String> {
        let s = &self.setting;
        let Some(mlp) = s.model.mlp() else {
            return Vec::new();
        };
        let words = |text: &dyn std::fmt::Debug| format!("{text:?}").to_lowercase();
        vec![
            if has_linear_part(mlp.activation) {
                "c1 ≠ 0".to_owned()
            } else {
                "c1 = 0".to_owned()
            },
            family(mlp.activation),
            format!("{} input", words(&mlp.input)),
            format!("{} rows", words(&mlp.rows)),
            format!("{} inputs", words(&s.input)),
            format!("{} outputs", words(&s.output)),
            format!("{} labels", words(&s.labels)),
        ]
    }
}

fn part_line(text: &mut String, name: &str, rows: &[&Row]) {
    let ratios: Vec<Mean> = rows.iter().map(|r| r.spread_ratio()).collect();
    let spread = summarise_ratios(&ratios).map_or_else(String::new, |s| {
        format!(
            "{:.3}, {:.2} to {:.2}",
            s.geometric_mean, s.quantiles[0], s.quantiles[6]
        )
    });
    let rate = |get: fn(&Row) -> (Mean, f64)| {
        let cells: Vec<(Mean, f64)> = rows.iter().map(|r| get(r)).collect();
        summarise_deviations(&cells).map_or_else(String::new, |d| {
            format!("{:+.3}, {:.3}, {:.3}", d.mean.value, d.rms, d.largest)
        })
    };
    let _ = writeln!(
        text,
        "| {name} | {} | {spread} | {} | {} |",
        rows.len(),
        rate(|r| (r.measured.recall, r.predicted.recall)),
        rate(|r| (r.measured.accuracy, r.predicted.accuracy)),
    );
}

const RATIO_HEAD: &str = "| measured / predicted | configurations | geometric mean | 5 % | 16 % | median | 84 % | 95 % | range | within 5 % | within 10 % | beyond 5 % by its 95 % interval | standard error (median, largest) |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";

fn ratio_line(text: &mut String, name: &str, summary: Option<&RatioSummary>) {
    let Some(s) = summary else { return };
    let q = s.quantiles;
    let _ = writeln!(
        text,
        "| {name} | {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} to {:.3} | {:.0} % | {:.0} % | {:.0} % | {:.3}, {:.3} |",
        s.configurations,
        s.geometric_mean,
        q[1],
        q[2],
        q[3],
        q[4],
        q[5],
        q[0],
        q[6],
        100.0 * s.within_5,
        100.0 * s.within_10,
        100.0 * s.excluded,
        s.errors.1,
        s.errors.0
    );
}

fn rate_line(text: &mut String, name: &str, summary: Option<&DeviationSummary>) {
    let Some(s) = summary else { return };
    let _ = writeln!(
        text,
        "| {name} | {} | {:+.4} ± {:.4} | {:.4} | {:.4} | {:.3} | {} |",
        s.configurations,
        s.mean.value,
        s.mean.error,
        s.rms,
        s.rms_beyond_sampling,
        s.largest,
        s.positive
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            seed: 5,
            configurations: 4,
            vocab: Range { low: 64, high: 128 },
            dim: Range { low: 8, high: 100 },
            len: Range { low: 4, high: 16 },
            samples: Range {
                low: 64,
                high: 1 << 20,
            },
            samples_per_token: 16,
            tokens: 1 << 14,
            hidden: None,
            input: Some(Embedding::Gaussian),
            output: Some(Embedding::Gaussian),
            labels: Some(Labels::Iid),
            trigger_in_values: false,
            attention: Attention::Argmax,
            attention_between: None,
            standard_error: 0.1,
            min_trials: 4,
            max_trials: 12,
            max_seconds: 1.0,
            test_sequences: 32,
            decompose: false,
        }
    }

    #[test]
    fn draws_stay_in_their_ranges_and_follow_the_seed() {
        let plan = Plan {
            configurations: 300,
            ..plan()
        };
        let settings = plan.draw().unwrap();
        assert_eq!(settings, plan.draw().unwrap());
        for s in &settings {
            let n = s.samples.as_f64();
            assert!((64..=128).contains(&s.vocab) && (4..=16).contains(&s.len));
            assert!(s.dim_in >= 8 && s.dim_in <= s.vocab.min(100));
            assert!(n >= 64.0 && n <= 16.0 * s.vocab as f64 && n * s.len as f64 <= 16384.0);
        }
        // Log-uniform: the median is the geometric middle.
        let mut vocab: Vec<usize> = settings.iter().map(|s| s.vocab).collect();
        vocab.sort_unstable();
        assert!((vocab[150] as f64 / 90.5).ln().abs() < 0.1);
        let other = Plan { seed: 6, ..plan };
        assert_ne!(settings, other.draw().unwrap());
    }

    #[test]
    fn the_window_of_the_attention_accuracy_is_kept_or_refused() {
        let mut plan = plan();
        plan.attention_between = Some((0.2, 0.8));
        for s in plan.draw().unwrap() {
            assert!((0.2..=0.8).contains(&attention_accuracy(&s)));
        }
        plan.attention_between = Some((2.0, 3.0));
        assert!(matches!(
            plan.draw(),
            Err(StudyError::Empty { found: 0, .. })
        ));
    }

    #[test]
    fn the_result_does_not_depend_on_threads() {
        let plan = plan();
        let one = run(&plan, 1, &|_| ()).unwrap();
        assert_eq!(one, run(&plan, 2, &|_| ()).unwrap());
        assert!(
            one.rows
                .iter()
                .all(|r| (4..=12).contains(&r.measured.trials))
        );
        let text = one.markdown("Title", "command");
        assert!(text.contains("4 configurations") && text.contains("| spread | 4 |"));
    }

    #[test]
    fn hidden_layers_are_drawn_over_all_laws_and_told_apart() {
        let mut plan = Plan {
            configurations: 200,
            hidden: Some(HiddenPlan {
                width: Range { low: 8, high: 64 },
                activation: None,
                input: None,
                rows: None,
            }),
            input: None,
            output: None,
            labels: None,
            ..plan()
        };
        let settings = plan.draw().unwrap();
        assert_eq!(settings, plan.draw().unwrap());
        let mut names: Vec<String> = Vec::new();
        for s in &settings {
            assert_eq!(s.validate(), Ok(()));
            let mlp = s.model.mlp().unwrap();
            assert!((8..=64).contains(&mlp.width));
            assert_eq!(mlp.activation.to_string().parse(), Ok(mlp.activation));
            names.push(format!("{:?} {:?} {:?}", s.input, s.output, s.labels));
            names.push(format!("{:?} {:?}", mlp.input, mlp.rows));
            names.push(family(mlp.activation));
        }
        names.sort();
        names.dedup();
        // 2 x 3 x 2 embeddings and labels, 2 x 2 layers, 12 families of which hermite-2 is rare.
        assert!(names.len() >= 12 + 4 + 11, "{names:?}");
        plan.configurations = 3;
        plan.min_trials = 2;
        plan.max_trials = 2;
        let study = run(&plan, 1, &|_| ()).unwrap();
        let text = study.markdown("Title", "command");
        assert!(text.contains("c1 ≠ 0") && text.contains("Largest deviations of recall"));
        assert!(study.rows.iter().all(|r| r.spread_ratio().value > 0.3));
    }

    #[test]
    fn summaries_count_what_sampling_does_not_explain() {
        let m = |value, error| Mean { value, error };
        let s =
            summarise_ratios(&[m(1.0, 0.01), m(1.06, 0.02), m(1.2, 0.02), m(0.98, 0.01)]).unwrap();
        assert_eq!((s.within_5, s.within_10, s.excluded), (0.5, 0.75, 0.25));
        assert!((s.quantiles[3] - 1.03).abs() < 1e-12);
        assert!(summarise_ratios(&[]).is_none());
        let d = summarise_deviations(&[(m(0.5, 0.03), 0.4), (m(0.5, 0.03), 0.6)]).unwrap();
        assert_eq!((d.mean.value.abs() < 1e-12, d.positive), (true, 1));
        assert!((d.rms - 0.1).abs() < 1e-12);
        assert!((d.rms_beyond_sampling - (0.01f64 - 0.0009).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn ranges_read_from_text() {
        assert_eq!("3..8".parse(), Ok(Range { low: 3, high: 8 }));
        assert_eq!("5".parse(), Ok(Range { low: 5, high: 5 }));
        for bad in ["8..3", "0..2", "x", ""] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
    }
}
