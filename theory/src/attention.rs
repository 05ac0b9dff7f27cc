//! The attention step: signal and noise budget. Derivation: `attention.md`.
//!
//! After two steps the query is `w = Z_in^T A + T z_trig`. The budget states, term by term, the
//! expected variance over tokens of `w . z_in(v)` in units of `S0^2`, `S0 = eta/(L^2 V)`.

use serde::{Deserialize, Serialize};

use crate::labels::LabelMoments;
use crate::moments::Moments;
use crate::setting::{Labels, Setting};

/// Names of the noise terms, in the order used everywhere.
pub const NOISE_NAMES: [&str; 9] = [
    "mean_bias",
    "mean_bias_flow",
    "cross",
    "gradient_noise",
    "signal_noise",
    "signal_bias",
    "population",
    "label_count",
    "trigger",
];

/// Mean coefficient `T` of `z_trig` in `w`, in units of `S0 = eta/(L^2 V)` (note, eq. 5).
///
/// Tends to `1 - 1/L`. A sample's own tokens give it no signal, hence the share of pairs of
/// distinct samples; with the trigger in the values, the label imbalance `delta` alone writes a
/// copy of `z_trig` into `V1`, which adds `V |delta|^2`.
#[must_use]
pub fn nominal_signal(s: &Setting) -> f64 {
    let v = s.vocab as f64;
    let l = 1.0 - 1.0 / s.len as f64;
    let labels = LabelMoments::of(s);
    let trigger = if s.trigger_in_values {
        v * labels.imbalance
    } else {
        0.0
    };
    l * ((1.0 - 1.0 / v) * labels.pairs + trigger)
}

/// Noise budget of the attention step, in units of `S0 = eta/(L^2 V)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Mean signal `T`.
    pub signal: f64,
    /// Variance of `T` between trials.
    pub signal_variance: f64,
    /// Expected variance over tokens by term, in the order of [`NOISE_NAMES`].
    pub variance: [f64; 9],
    /// Expected variance over tokens of `(w - T z_trig) . z_in(v)`: all terms, less the crosstalk
    /// of `T z_trig` itself.
    pub interference: f64,
    /// Variance between trials of `(w - T z_trig) . z_trig` at `|z_trig| = 1`: the noise that the
    /// informative position itself meets.
    pub trigger_score_variance: f64,
}

impl Budget {
    /// `sqrt` of the sum of all terms.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.variance.iter().sum::<f64>().sqrt()
    }

    /// Index into [`NOISE_NAMES`] of the largest term.
    #[must_use]
    pub fn dominant(&self) -> usize {
        (0..9).fold(0, |best, i| {
            if self.variance[i] > self.variance[best] {
                i
            } else {
                best
            }
        })
    }
}

/// Quadratic form in which the size of `w' = Z_in^T A` is measured: traces against powers of the
/// token covariance `Sigma`.
struct Metric {
    /// `tr X Sigma`, `tr X Sigma^2`, `tr X Sigma^3`.
    powers: [f64; 3],
    /// Mean over tokens of `z_v^T X z_v`.
    token: f64,
    /// Mean over tokens of `(z_v^T X z_v)(z_v^T Sigma z_v)`.
    token_pair: f64,
}

impl Metric {
    /// `X = Sigma`: variance over tokens of `w' . z_v`.
    fn tokens(z: &Moments) -> Self {
        Metric {
            powers: [z.t2, z.t3, z.t4],
            token: z.t2,
            token_pair: z.k2,
        }
    }

    /// `X = I/d`: variance of `w' . z` for an independent vector `z` (the trigger).
    fn independent(z: &Moments) -> Self {
        let o = z.overlap;
        Metric {
            powers: [o, o * z.t2, o * z.t3],
            token: o,
            token_pair: o * z.t2,
        }
    }
}

/// The budget at a setting (note, section 3).
#[must_use]
pub fn budget(s: &Setting) -> Budget {
    let (zi, zo) = (Moments::input(s), Moments::output(s));
    let labels = LabelMoments::of(s);
    let signal = nominal_signal(s);
    let signal_variance = signal_variance(s, &zi, &zo, &labels);
    let terms = interference(s, &zi, &zo, &labels, &Metric::tokens(&zi));
    let own = interference(s, &zi, &zo, &labels, &Metric::independent(&zi));
    let mut variance = [0.0; 9];
    variance[..8].copy_from_slice(&terms);
    let (crosstalk, carried) = trigger(s, &zi, &zo, &labels, signal, signal_variance);
    variance[8] = crosstalk;
    Budget {
        signal,
        signal_variance,
        variance,
        interference: terms.iter().sum::<f64>() + carried,
        trigger_score_variance: own.iter().sum(),
    }
}

/// `E (delta^T G delta)^2` in units of its leading form `|delta|^4`, for Gaussian `delta`.
fn gram_square(zo: &Moments, labels: &LabelMoments) -> f64 {
    labels.imbalance.powi(2) * (1.0 + 2.0 * zo.t2)
}

/// `sum_j p_j (G_o delta)_j^2`: how strongly the label imbalance is read through the outputs.
fn pull(s: &Setting, zo: &Moments, labels: &LabelMoments) -> f64 {
    let skew = if s.labels == Labels::Iid {
        labels.inverse_n
    } else {
        0.0
    };
    labels.imbalance * (zo.t2 + skew)
}

/// `V sum_j p_j^2 G^2` over label pairs, split into off-diagonal and diagonal entries of the
/// output Gram matrix: the weight with which sequence noise reaches a label's own token.
fn weighted_gram(zo: &Moments, labels: &LabelMoments, v: f64) -> f64 {
    labels.square * zo.t2 + zo.diagonal_squared / v * (labels.cube - labels.square)
}

/// The first eight terms in a metric.
fn interference(
    s: &Setting,
    zi: &Moments,
    zo: &Moments,
    labels: &LabelMoments,
    x: &Metric,
) -> [f64; 8] {
    let (v, len) = (s.vocab as f64, s.len as f64);
    let l = 1.0 - 1.0 / len;
    let inv = labels.inverse_n;
    let s2 = zo.t2;
    let carries = f64::from(u8::from(s.trigger_in_values));
    let overlap = zi.overlap;
    let unit = len.powi(4) * v * v;

    // A within-sequence read-out of scores b: (l/L) E[l^2 b_v^2 + mean(b^2)/L].
    let flow = |direct: f64, mean: f64| l / len * (l * l * direct + mean / len);
    let pull = pull(s, zo, labels);
    // Mean over pairs of samples of the squared output Gram entry.
    let pair = s2 + zo.diagonal_squared * labels.imbalance;
    let weighted = weighted_gram(zo, labels, v);
    // Sequence noise of one label column has covariance (l/L)(1/V) P / N.
    let noise = l / len * inv;

    let mean_bias = unit * gram_square(zo, labels) * l.powi(6) * zi.mean_factor / v * x.powers[1];
    let read = l * l * zi.mean_squared + carries * overlap / len.powi(2);
    let own_read = read + carries / len.powi(2);
    let mean_bias_flow = unit * inv * flow(read, read) * pull * x.token
        + unit * (l / len).powi(2) * labels.square * labels.imbalance * s2 * own_read * x.token / v;
    let cross = unit * inv * l.powi(5) / len * pull * x.powers[2];
    let swap = zi.t2_or_one() * x.token / v;
    let gradient_noise = unit
        * (inv * noise * pair * (flow(x.token_pair, zi.t2 * x.token) + l.powi(3) / len * swap)
            + (l / len * inv).powi(2) * zi.norm_variance * x.token / v);
    let signal_noise = unit / (len * len * v)
        * (inv * weighted * flow(x.token_pair, zi.t2 * x.token)
            + l * l * noise * weighted * (x.token_pair + 2.0 * swap + carries * overlap * x.token));
    let bias_entry = labels.square * labels.imbalance * (s2 - zo.diagonal_squared / v)
        + zo.diagonal_squared * labels.twist / (v * v);
    let signal_bias = unit * l.powi(4) / (len * len * v) * bias_entry * x.powers[2];
    // Own-token part of the signal: c_v = kappa_v sum_v' kappa_v' K_vv' G_vv', off-diagonal and
    // diagonal contributions.
    let off_diagonal = v * overlap * (zo.t2 * v - zo.diagonal_squared).max(0.0) / v;
    let norms = zi.norm_variance + zo.norm_variance + zi.norm_variance * zo.norm_variance;
    let own = l * l * x.token / v;
    let population = own * (off_diagonal + norms);
    let second = labels.pair_variance + labels.pairs.powi(2);
    let carried = carries * overlap * v * s2 * (labels.square.powi(2) - 1.0);
    let label_count = own
        * (labels.pair_variance
            + off_diagonal * (labels.square.powi(2) - 1.0)
            + carried
            + norms * (second - 1.0).max(0.0));
    [
        mean_bias,
        mean_bias_flow,
        cross,
        gradient_noise,
        signal_noise,
        signal_bias,
        population,
        label_count,
    ]
}

/// Crosstalk of the trigger, `(1/d) E tr (T + alpha Sigma) Sigma (T + alpha Sigma)` with `alpha`
/// the trigger's own value read back (zero unless the values carry the trigger), and its part
/// without `T`.
fn trigger(
    s: &Setting,
    zi: &Moments,
    zo: &Moments,
    labels: &LabelMoments,
    signal: f64,
    signal_variance: f64,
) -> (f64, f64) {
    let (v, len) = (s.vocab as f64, s.len as f64);
    let l = 1.0 - 1.0 / len;
    let plain = zi.overlap * (signal * signal + signal_variance) * (1.0 - 1.0 / v);
    if !s.trigger_in_values {
        return (plain, 0.0);
    }
    let gain = l * l * len * v;
    let alpha = l + gain * labels.imbalance;
    let fluctuation = gram_square(zo, labels) - labels.imbalance.powi(2);
    let cross = signal * alpha + l * v * gain * fluctuation;
    let square = alpha * alpha + gain * gain * fluctuation;
    let white = l * l * zi.t2 * (zo.t2 - zo.diagonal_squared / v);
    let carried = zi.overlap * (square * zi.t3 + white);
    (plain + 2.0 * zi.overlap * cross * zi.t2 + carried, carried)
}

/// Variance of `T` between trials, units of `S0^2` (note, section 4).
fn signal_variance(s: &Setting, zi: &Moments, zo: &Moments, labels: &LabelMoments) -> f64 {
    let (v, len) = (s.vocab as f64, s.len as f64);
    let l = 1.0 - 1.0 / len;
    let inv = labels.inverse_n;
    let weighted = weighted_gram(zo, labels, v);
    let population = 2.0 * zi.overlap * zo.overlap + (zi.norm_variance + zo.norm_variance) / v;
    let sequence = len * l * inv * v * zi.t2 * weighted;
    let skew = if s.labels == Labels::Iid { inv } else { 0.0 };
    let bias = len * len * l * l * labels.square * labels.imbalance * (zo.t2 + skew) * zi.overlap;
    let flow = 2.0 * (v * inv).powi(2) * zi.t2 * zo.t2;
    let carried = if s.trigger_in_values {
        let fluctuation = gram_square(zo, labels) - labels.imbalance.powi(2);
        v * v * fluctuation * (1.0 + zi.norm_variance) + population_trigger(zi, zo, v)
    } else {
        0.0
    };
    l * l * (labels.pair_sum_variance + population + sequence + bias + flow + carried)
}

/// Variance that `z_trig` adds to the signal where the values carry it: mean of `x_v G_vv'`.
fn population_trigger(zi: &Moments, zo: &Moments, v: f64) -> f64 {
    zi.overlap * (zo.t2 + zo.diagonal_squared / v) / v
}

#[cfg(test)]
mod tests;
