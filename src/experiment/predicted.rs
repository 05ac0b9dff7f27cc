//! Predictions at the points of a design.

use recall_theory::{Samples, Setting, accuracy, attention, one_step, recall};

use crate::descent::early::Count;
use crate::job::Record;
use crate::spec::{Criterion, Quantity, SearchAxis};

/// Formula for an accuracy.
pub(super) fn accuracy_of(quantity: Quantity, s: &Setting) -> f64 {
    match quantity {
        Quantity::Attention => accuracy::attention_accuracy(s),
        Quantity::Recall => recall::recall_accuracy(s),
        Quantity::Accuracy => accuracy::end_to_end_accuracy(s),
        Quantity::OneStep => one_step::expected_accuracy(s),
    }
}

/// Raw count behind an accuracy of one trial.
pub(super) fn count(quantity: Quantity, record: &Record) -> Option<Count> {
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
pub(super) fn at(s: &Setting, axis: SearchAxis, value: u64) -> Setting {
    let mut s = *s;
    match axis {
        SearchAxis::Samples => s.samples = Samples::Finite(value),
        SearchAxis::Dim => {
            let (input, output) = (s.input, s.output);
            s.dim_in = value as usize;
            s.dim_out = value as usize;
            s = s.with_embeddings(input, output);
        }
    }
    s
}

/// How far a setting is past its threshold: negative below, positive above, for quantities that
/// improve along the axis.
fn progress(s: &Setting, criterion: Criterion) -> f64 {
    match criterion {
        Criterion::NoiseRatio { level } => level.ln() - log_noise_ratio(s),
        Criterion::Accuracy { quantity, level } => accuracy_of(quantity, s) - level,
    }
}

/// Log of the query noise without trigger crosstalk over the population signal `1 - 1/L`.
pub(super) fn log_noise_ratio(s: &Setting) -> f64 {
    let b = attention::budget(s);
    0.5 * b.interference.ln() - (1.0 - 1.0 / s.len as f64).ln()
}

/// Range searched along an axis.
pub(super) fn search_range(s: &Setting, axis: SearchAxis) -> (u64, u64) {
    match axis {
        SearchAxis::Samples => (2, 1 << 30),
        SearchAxis::Dim => (2, (4 * s.vocab as u64).min(1 << 14)),
    }
}

/// Log of the critical value of the finite-size formula, interpolated between integers; `None` if
/// the range holds no crossing.
pub(super) fn critical(s: &Setting, axis: SearchAxis, criterion: Criterion) -> Option<f64> {
    let (lo, hi) = search_range(s, axis);
    let f = |value: u64| progress(&at(s, axis, value), criterion);
    let (mut lo, mut hi) = (lo, hi);
    if f(hi) < 0.0 || f(lo) >= 0.0 {
        return None;
    }
    while hi - lo > 1 {
        // Bisection in the logarithm, then in the integers.
        let mid = (((lo as f64) * (hi as f64)).sqrt() as u64).clamp(lo + 1, hi - 1);
        if f(mid) < 0.0 {
            lo = mid
        } else {
            hi = mid
        }
        if (hi as f64) < lo as f64 * 1.0005 {
            break;
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
