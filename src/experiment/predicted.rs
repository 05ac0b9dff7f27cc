//! Predictions at the points of a design.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use recall_theory::mlp::thresholds::RECALL_NOISE_NAMES;
use recall_theory::noise::Noise;
use recall_theory::thresholds::Regime;
use recall_theory::{
    Model, Samples, Setting, accuracy, lower_bound, mlp, one_step, recall, thresholds, whitened,
};

use super::regions::law_name;
use crate::descent::early::{Count, NoiseParts};
use crate::job::Record;
use crate::spec::{Criterion, Quantity, Score, SearchAxis};
use crate::stats::distribution::normal_quantile;
use crate::stats::link::Shape;

/// Predictions already made, by what was asked.
type Known<T> = LazyLock<Mutex<HashMap<String, T>>>;

static ACCURACIES: Known<f64> = LazyLock::new(Mutex::default);
static CRITICAL: Known<Option<f64>> = LazyLock::new(Mutex::default);
static NOISE: Known<Arc<Noise>> = LazyLock::new(Mutex::default);
static BOUNDS: Known<f64> = LazyLock::new(Mutex::default);
static WHITENED: Known<Option<f64>> = LazyLock::new(Mutex::default);
static CURVES: Known<Vec<(f64, f64)>> = LazyLock::new(Mutex::default);

/// A prediction, computed once: searches ask for the same value in every round, and experiments
/// share cells. Two threads that ask at the same time compute the same value twice.
fn remembered<T: Clone>(known: &Known<T>, key: String, compute: impl FnOnce() -> T) -> T {
    let table = || known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(value) = table().get(&key).cloned() {
        return value;
    }
    let value = compute();
    table().insert(key, value.clone());
    value
}

/// Formula for an accuracy.
pub(super) fn accuracy_of(quantity: Quantity, s: &Setting) -> f64 {
    remembered(
        &ACCURACIES,
        format!("{s:?} {quantity:?}"),
        || match quantity {
            Quantity::Attention => accuracy::attention_accuracy(s),
            Quantity::Recall => recall::recall_accuracy(s),
            Quantity::Accuracy => accuracy::end_to_end_accuracy(s),
            Quantity::OneStep => one_step::expected_accuracy(s),
        },
    )
}

/// Upper bound on the accuracy of readers of the first gradient.
pub(super) fn accuracy_bound(s: &Setting) -> f64 {
    remembered(&BOUNDS, format!("{s:?}"), || {
        lower_bound::accuracy_upper_bound(s, s.samples).accuracy
    })
}

/// The same behind an oracle that adds `kappa` times the sampling noise.
pub(super) fn oracle_bound(s: &Setting, kappa: f64) -> f64 {
    remembered(&BOUNDS, format!("{s:?} {kappa}"), || {
        lower_bound::accuracy_upper_bound_noisy(s, s.samples, kappa).map_or(1.0, |b| b.accuracy)
    })
}

/// Samples at which the whitened decoder has a share `level` of the labels right.
pub(super) fn whitened_samples(s: &Setting, level: f64) -> Option<f64> {
    remembered(&WHITENED, format!("{s:?} {level}"), || {
        whitened::samples_for_accuracy(s, level).samples()
    })
}

/// Noise budget at a setting. Through a hidden layer it takes long enough to be remembered: wrong
/// theories by the hundred change one term of the same sums.
pub(crate) fn noise_of(s: &Setting) -> Arc<Noise> {
    match s.model {
        Model::AttentionOnly => Arc::new(Noise::of(s)),
        Model::Mlp(_) => remembered(&NOISE, format!("{s:?}"), || Arc::new(Noise::of(s))),
    }
}

/// Formula for the size of a score, in units of `S0`; zero where the term does not exist.
pub(super) fn score_of(score: Score, s: &Setting) -> f64 {
    let noise = noise_of(s);
    match score {
        Score::Signal => noise.signal,
        Score::Spread => noise.spread(),
        Score::Interference => noise.interference.max(0.0).sqrt(),
        term => {
            let name = term.term().map(|i| NoiseParts::NAMES[i]);
            let found = noise.terms.iter().find(|t| Some(t.0) == name);
            found.map_or(0.0, |t| t.1.max(0.0).sqrt())
        }
    }
}

/// A noise term's name in words.
fn words(term: &'static str) -> &'static str {
    match term {
        "mean_bias" => "mean bias",
        "mean_bias_flow" => "mean-bias flow",
        "cross" => "cross term",
        "gradient_noise" => "gradient noise",
        "signal_noise" => "signal × noise",
        "signal_bias" => "signal × bias",
        "label_count" => "label counts",
        "trigger" => "trigger crosstalk",
        "mlp_noise" => "MLP noise",
        "mean_bias_mlp" => "mean bias × MLP",
        "linear_mean_bias_mlp" => "linear mean bias × MLP",
        "output_gram" => "output Gram",
        "linear_interference" => "linear interference",
        "quadratic_interference" => "quadratic interference",
        "higher_interference" => "higher interference",
        other => other,
    }
}

/// The term that limits an accuracy most by the formula: the largest noise of the attention
/// scores or of recall, or the law that binds the whole.
pub(super) fn dominant(quantity: Quantity, s: &Setting) -> &'static str {
    let quantity = match quantity {
        Quantity::Attention => return words(Noise::of(s).dominant()),
        Quantity::Recall => thresholds::Quantity::Recall,
        Quantity::Accuracy | Quantity::OneStep => thresholds::Quantity::EndToEnd,
    };
    let regime = thresholds::regime_of(s, quantity);
    match (&s.model, regime) {
        // The noise that drowns the stored facts has terms of its own.
        (Model::Mlp(mlp), Regime::Memory) => {
            words(RECALL_NOISE_NAMES[mlp::thresholds::recall_noise(s, mlp).dominant()])
        }
        (Model::AttentionOnly, _) | (_, Regime::Coverage) => law_name(regime),
        (Model::Mlp(_), _) => words(Noise::of(s).dominant()),
    }
}

/// Raw count behind an accuracy of one trial.
pub(crate) fn count(quantity: Quantity, record: &Record) -> Option<Count> {
    let o = &record.outcome;
    Some(match quantity {
        Quantity::Attention => o.attention,
        Quantity::Recall => o.recall,
        Quantity::Accuracy => o.accuracy,
        Quantity::OneStep => o.one_step,
    })
}

/// Measured accuracy of one trial.
pub(super) fn measured(quantity: Quantity, record: &Record) -> Option<f64> {
    count(quantity, record).map(Count::rate)
}

/// A setting with the searched quantity set.
pub(crate) fn at(s: &Setting, axis: SearchAxis, value: u64) -> Setting {
    let mut s = *s;
    match axis {
        SearchAxis::Samples => s.samples = Samples::Finite(value),
        SearchAxis::Dim => {
            let (input, output) = (s.input, s.output);
            s.dim_in = value as usize;
            s.dim_out = value as usize;
            s = s.with_embeddings(input, output);
        }
        SearchAxis::Width => {
            if let Model::Mlp(mlp) = &mut s.model {
                mlp.width = value as usize;
            }
        }
        SearchAxis::Vocab => {
            let (input, output) = (s.input, s.output);
            s.vocab = value as usize;
            s = s.with_embeddings(input, output);
        }
    }
    s
}

/// Mean signal of the population gradient, in units of `S0`: `1 - 1/L` without a hidden layer.
pub(super) fn population_signal(s: &Setting) -> f64 {
    match &s.model {
        Model::AttentionOnly => 1.0 - 1.0 / s.len as f64,
        Model::Mlp(mlp) => mlp::attention::population_signal(s, mlp),
    }
}

/// Log of the query noise without trigger crosstalk over the population signal.
pub(super) fn log_noise_ratio(s: &Setting) -> f64 {
    let noise = Noise::of(s);
    0.5 * noise.interference.ln() - noise.population_signal.ln()
}

/// Range searched along an axis.
pub(super) fn search_range(s: &Setting, axis: SearchAxis) -> (u64, u64) {
    match axis {
        SearchAxis::Samples => (2, 1 << 30),
        SearchAxis::Dim => (2, (4 * s.vocab as u64).min(1 << 14)),
        SearchAxis::Width => (2, 1 << 14),
        SearchAxis::Vocab => (8, 1 << 14),
    }
}

/// The shape of the formula's accuracy curve around its critical value, in the coordinate along
/// which the accuracy grows. `None` where the formula has no critical value, or too little of a
/// curve around it.
pub(super) fn shape(
    s: &Setting,
    axis: SearchAxis,
    quantity: Quantity,
    level: f64,
    chance: f64,
) -> Option<Shape> {
    let key = format!("{s:?} {axis:?} {quantity:?} {level} {chance}");
    let points = {
        let table = CURVES.lock().unwrap_or_else(PoisonError::into_inner);
        table.get(&key).cloned()
    };
    let points = points.unwrap_or_else(|| {
        let found = curve_points(s, axis, quantity, level, chance);
        let mut table = CURVES.lock().unwrap_or_else(PoisonError::into_inner);
        table.entry(key).or_insert(found).clone()
    });
    Shape::new(&points, (level - chance) / (1.0 - chance))
}

/// Points `(coordinate, accuracy corrected for guessing)` of the formula's curve: outwards from
/// the critical value, in steps of about half a standard deviation of the probit.
fn curve_points(
    s: &Setting,
    axis: SearchAxis,
    quantity: Quantity,
    level: f64,
    chance: f64,
) -> Vec<(f64, f64)> {
    /// Corrected accuracies that a fit sees, with room for levels off the threshold.
    const SEEN: std::ops::RangeInclusive<f64> = 0.04..=0.96;
    const STEPS: usize = 6;
    const LARGEST_STEP: f64 = 0.6;
    let Some(centre) = critical(s, axis, Criterion::Accuracy { quantity, level }) else {
        return Vec::new();
    };
    let (lo, hi) = search_range(s, axis);
    let sign = if axis.helps() { 1.0 } else { -1.0 };
    let mut known = BTreeMap::new();
    let mut at_log = |log: f64| {
        let size = (log.exp().round() as u64).clamp(lo, hi);
        let corrected = *known.entry(size).or_insert_with(|| {
            (accuracy_of(quantity, &at(s, axis, size)) - chance) / (1.0 - chance)
        });
        ((size as f64).ln(), corrected)
    };
    // The step in the logarithm: from the slope over a quarter, or the next integer if farther.
    let quarter = 0.25_f64.max(2.0 * (-centre).exp());
    let (below, above) = (
        at_log(centre - 0.5 * quarter),
        at_log(centre + 0.5 * quarter),
    );
    let quantile = |q: f64| normal_quantile(q.clamp(1e-3, 1.0 - 1e-3));
    let slope = (quantile(above.1) - quantile(below.1)).abs() / (above.0 - below.0);
    if !(slope > 0.0 && slope.is_finite()) {
        return Vec::new();
    }
    let step = (0.5 / slope).clamp((-centre).exp(), LARGEST_STEP);
    for direction in [-1.0, 1.0] {
        for i in 1..=STEPS {
            let (_, q) = at_log(centre + direction * step * i as f64);
            if !SEEN.contains(&q) {
                break;
            }
        }
    }
    known
        .into_iter()
        .map(|(size, q)| (sign * (size as f64).ln(), q))
        .collect()
}

/// Log of the critical value of the finite-size formula, interpolated between integers; `None` if
/// the range holds no crossing.
pub(super) fn critical(s: &Setting, axis: SearchAxis, criterion: Criterion) -> Option<f64> {
    let key = format!("{s:?} {axis:?} {criterion:?}");
    remembered(&CRITICAL, key, || find_critical(s, axis, criterion))
}

fn find_critical(s: &Setting, axis: SearchAxis, criterion: Criterion) -> Option<f64> {
    let (lo, hi) = search_range(s, axis);
    let critical = match criterion {
        Criterion::NoiseRatio { level } => return noise_critical(s, axis, level, &log_noise_ratio),
        Criterion::Accuracy {
            quantity: Quantity::OneStep,
            level,
        } => match axis {
            SearchAxis::Dim | SearchAxis::Width | SearchAxis::Vocab => return None,
            SearchAxis::Samples => match one_step::samples_for_accuracy(s, level) {
                one_step::OneStepThreshold::At { samples } => samples,
                _ => return None,
            },
        },
        Criterion::Accuracy { quantity, level } => {
            let quantity = match quantity {
                Quantity::Attention => thresholds::Quantity::Attention,
                Quantity::Recall => thresholds::Quantity::Recall,
                Quantity::Accuracy | Quantity::OneStep => thresholds::Quantity::EndToEnd,
            };
            let variable = match axis {
                SearchAxis::Samples => thresholds::Variable::Samples,
                SearchAxis::Dim => thresholds::Variable::Dim,
                SearchAxis::Width => thresholds::Variable::Width,
                SearchAxis::Vocab => thresholds::Variable::Vocab,
            };
            thresholds::finite_size(s, quantity, variable, level).value()?
        }
    };
    ((lo as f64)..=(hi as f64))
        .contains(&critical)
        .then(|| critical.ln())
}

/// Bisection in the logarithm, then in the integers, then between two of them.
pub(crate) fn noise_critical(
    s: &Setting,
    axis: SearchAxis,
    level: f64,
    log_ratio: &dyn Fn(&Setting) -> f64,
) -> Option<f64> {
    let (mut lo, mut hi) = search_range(s, axis);
    let f = |value: u64| level.ln() - log_ratio(&at(s, axis, value));
    if f(hi) < 0.0 || f(lo) >= 0.0 {
        return None;
    }
    while hi - lo > 1 && (hi as f64) > lo as f64 * 1.0005 {
        let mid = (((lo as f64) * (hi as f64)).sqrt() as u64).clamp(lo + 1, hi - 1);
        if f(mid) < 0.0 {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    let (a, b) = (f(lo), f(hi));
    let t = if b > a {
        (-a / (b - a)).clamp(0.0, 1.0)
    } else {
        0.5
    };
    Some((lo as f64).ln() * (1.0 - t) + (hi as f64).ln() * t)
}
