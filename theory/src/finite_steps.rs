//! Finite steps: how small the first step and how strong the second must be. Derivation:
//! `finite_steps.md`.

use crate::accuracy::{advanced_attention_accuracy, end_to_end_accuracy};
use crate::attention::{NOISE_NAMES, budget, nominal_signal};
use crate::labels::LabelMoments;
use crate::moments::Moments;
use crate::setting::{Attention, Embedding, Model, Setting};

/// First-order deviations from the limit of small first steps, per unit of the relative rate
/// `eta/(L^2 V)`; the deviation at a small rate `r` is `r` times the number here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepDeviation {
    /// Relative change of the signal `T` (it shrinks: negative).
    pub signal: f64,
    /// Root mean square change of the token scores of the query, in units of `S0`.
    pub scores: f64,
    /// Root mean square norm of the change of the centred token scores and of the trigger's score,
    /// over that of the scores.
    pub query: f64,
    /// Frobenius norm of the change of `V2 - V1` over its norm, where attention is right in
    /// training.
    pub value: f64,
    /// Root mean square over labels and samples of the centred logits at the second step.
    pub logit: f64,
}

/// `E tr Sigma^5` in the limit of large `d` at fixed `q = d/V`.
fn fifth(law: Embedding, vocab: usize, dim: usize) -> f64 {
    let v = vocab as f64;
    if law == Embedding::Orthonormal {
        return (v - 1.0) / v.powi(5);
    }
    let (d, q) = (dim as f64, dim as f64 / v);
    (1.0 + q * (10.0 + q * (20.0 + q * (10.0 + q)))) / d.powi(4)
}

/// Deviations of query and value matrix to first order in `eta` (note, section 1); `None` with a
/// hidden layer or with the trigger in the values, where they are not derived.
#[must_use]
pub fn step_deviation(s: &Setting) -> Option<StepDeviation> {
    if s.model != Model::AttentionOnly || s.trigger_in_values {
        return None;
    }
    let (zi, zo) = (Moments::input(s), Moments::output(s));
    let labels = LabelMoments::of(s);
    let (v, len) = (s.vocab as f64, s.len as f64);
    let (l, inv) = (1.0 - 1.0 / len, labels.inverse_n);
    let unit = len * len * v;
    let own = inv / len; // weight of a sample in its own logits
    let table = labels.square / (len * len * v) + l * inv / len;
    let noise = budget(s);
    let term = |name: &str| {
        let at = NOISE_NAMES.iter().position(|n| *n == name);
        at.map_or(0.0, |i| noise.variance[i])
    };

    // What the samples share: along Sigma mu, along Sigma^2 mu, and in directions of their own.
    // The informative tokens of a label met by those of its own samples (1/L^2), and by themselves
    // within a sequence (2/L^2).
    let excess = labels.square - 1.0;
    let informative = if excess > 0.0 {
        (labels.cube - 2.0 * labels.square + 1.0) / (excess * len * len * v)
    } else {
        0.0
    };
    let doubled = 2.0 / (len * len * v);
    // The mean of the batch's tokens scatters about mu.
    let batch = 1.0 + v * inv / len;
    // E |mu|^4 = (1 + 2/d) (E |mu|^2)^2, and one more factor 1 + 4/d with mu itself.
    let length = 1.0 + 2.0 * zi.overlap;
    let longer = length * (1.0 + 4.0 * zi.overlap);
    let along = 1.0 / v + own + informative;
    let m1 = zo.t2 * labels.imbalance * (along + doubled);
    let m2 = zo.t2 * table;
    let t5 = fifth(s.input, s.vocab, s.dim_in);
    let imbalanced = zo.t4 * labels.imbalance * labels.imbalance * along * along;
    let coherent = l * l * zi.mean_factor / v
        * ((m1 * m1 + 2.0 * imbalanced) * longer * zi.t3
            + 2.0 * m1 * m2 * length * zi.t4
            + m2 * m2 * batch * t5
            + zo.t4 * labels.imbalance * table * zi.mean_squared * length * zi.t3);
    // Off-diagonal labels, read by what all samples share.
    let shared = labels.imbalance * along.powi(2) * length + table * zi.mean_squared * batch;
    let random = l * l * zo.t4 * shared * table * zi.t4;
    // Tokens of the own sequence.
    let pair =
        zo.t2 * zo.t2 * table * table * zi.t4 + zo.t4 * table * table * (zi.t2 * zi.t2 + zi.t4);
    // A long token meets others with a larger score, too.
    let long = if zi.overlap > 0.0 {
        table * table * (zo.t2 * zo.t2 * zi.t6 + zo.t4 * zi.t2 * zi.t4)
    } else {
        0.0
    };
    let mean_read = m1 * m1 * zi.mean_squared
        + zi.mean_factor / v * (2.0 * m1 * m2 * zi.t2 + m2 * m2 * zi.t3)
        + zo.t4 * shared * table * zi.t2;
    let flow =
        inv * ((pair * zi.t2 + 2.0 * long) / (len * len) + l.powi(3) / len * mean_read * zi.t2);
    // Lengths of the tokens as `H` sees them; pairs of a token with itself are no pairs.
    let itself = (zo.t2 * table * zi.t2).powi(2) / v;
    let lengths = (l / len).powi(2) * (2.0 * (pair - itself) * zi.t2 + 8.0 * long) / v;
    // A sample meets what it wrote itself, in its own tokens and in those of its label, along the
    // lengths again.
    let stored = 1.0 / (len * v);
    let slope = zi.norm_slope * zi.norm_variance;
    let written = slope * (zo.t2 * table).powi(2) * inv * l * l / (len * len)
        + l * l * inv / len.powi(3)
            * (2.0 * stored * labels.square * zo.t4 * table * zi.t2
                + slope * zo.t2 * zo.t2 * table * labels.square * stored
                + stored.powi(3)
                    * (zo.k2 * labels.square_variance
                        + (zo.k2 - zo.t2 * zo.t2) * labels.square.powi(2)));
    let met = if zi.overlap > 0.0 {
        2.0 * written * zi.t2 / v
    } else {
        0.0
    };
    // A sample's own value.
    let incoherent =
        (term("mean_bias_flow") + term("gradient_noise") + term("signal_noise")) * zo.t4 / zo.t2
            + (term("population") + term("label_count") + term("trigger")) * zo.t2 * zo.t2;
    let tokens = unit.powi(4) * (coherent + random + flow + lengths + met)
        + (unit * own).powi(2) * incoherent;

    let signal = -unit * own * zo.t2;
    let signal_spread =
        unit.powi(4) * (l / len).powi(2) * inv * (mean_read + pair * (1.0 + 2.0 / len) / len);

    let score2 = v * noise.spread().powi(2)
        + noise.signal.powi(2)
        + noise.signal_variance
        + noise.trigger_score_variance;
    let change2 = v * tokens + (signal * noise.signal).powi(2) + signal_spread;

    let read = table * (zi.t3 + (labels.square - 1.0) * zi.t2 / v)
        + labels.imbalance * zi.mean_factor * zi.t2 / v;
    let value = unit * (zo.t3 * read * v / labels.square).sqrt();
    let logit2 = zo.t2
        * (table * (zi.t2 / len + zi.mean_squared)
            + own * (own + 2.0 * (1.0 / (len * len * v) + labels.imbalance / v))
            + labels.imbalance * (zi.mean_squared / len + 1.0 / (v * v)));
    Some(StepDeviation {
        signal,
        scores: tokens.sqrt(),
        query: (change2 / score2).sqrt(),
        value,
        logit: unit * logit2.sqrt(),
    })
}

/// Largest first step `eta` at which no relative deviation of query or value matrix exceeds
/// `tolerance` to first order: `tolerance L^2 V` over the larger of the two. `None` where
/// [`step_deviation`] is.
#[must_use]
pub fn small_step(s: &Setting, tolerance: f64) -> Option<f64> {
    let deviation = step_deviation(s)?;
    let unit = (s.len as f64).powi(2) * s.vocab as f64;
    Some(tolerance * unit / deviation.query.max(deviation.value))
}

/// Smallest strength `G` at which three-step accuracy is within `tolerance` of its value with
/// saturated attention (note, section 2): eq. (12) of `accuracy.md` solved for `G`. `None` with a
/// hidden layer, or where even the largest strength searched (1e4) is not within it.
#[must_use]
pub fn saturating_strength(s: &Setting, tolerance: f64) -> Option<f64> {
    if s.model != Model::AttentionOnly {
        return None;
    }
    let at = |attention| end_to_end_accuracy(&Setting { attention, ..*s });
    // The limit of the same form, so that only the strength differs.
    let largest = 1e4;
    let saturated = at(Attention::Strength(largest));
    let short = |g: f64| saturated - at(Attention::Strength(g)) > tolerance;
    let mut high = (s.len as f64).ln().max(1.0);
    let mut low = 0.0;
    while short(high) {
        low = high;
        high *= 2.0;
        if high > largest {
            return None;
        }
    }
    while high - low > 1e-2 {
        let middle = 0.5 * (low + high);
        if short(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(high)
}

/// The rate `gamma_w` of the second step that gives the strength `G`:
/// `G = gamma_w |z_EOS|^2 T eta/(L^2 V)` with the mean signal `T`.
#[must_use]
pub fn query_rate(s: &Setting, strength: f64, eta: f64, query_norm_squared: f64) -> f64 {
    let unit = (s.len as f64).powi(2) * s.vocab as f64;
    strength * unit / (query_norm_squared * nominal_signal(s) * eta)
}

/// What a training sample itself adds to the advantage of its informative position, in units of
/// `S0` (note, section 3): `(2 - 1/L)/N` for iid labels, `(1 - V/N)/(L N)` for balanced ones that fill all
/// classes alike. `None` with a hidden layer or with the trigger in the values.
#[must_use]
pub fn training_advantage(s: &Setting) -> Option<f64> {
    if s.model != Model::AttentionOnly || s.trigger_in_values {
        return None;
    }
    let (v, len) = (s.vocab as f64, s.len as f64);
    let labels = LabelMoments::of(s);
    let r = v * labels.inverse_n;
    // Cov(kappa, kappa (kappa - V/N)).
    let bias = labels.cube - (1.0 + r) * labels.square + r;
    Some((1.0 - 1.0 / len) * bias / v + labels.pairs * labels.inverse_n / len)
}

/// Accuracy of argmax attention on the training batch (note, section 3).
#[must_use]
pub fn training_attention_accuracy(s: &Setting) -> Option<f64> {
    training_advantage(s).map(|advantage| advanced_attention_accuracy(s, advantage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::{Labels, Samples};

    #[test]
    fn limits_of_the_deviation() {
        let mut s = Setting::new(128, 32, 8, 1024);
        let finite = step_deviation(&s).unwrap();
        // One sample's own value: -(1/(N L)) tr Sigma^2, times L^2 V.
        let own = -8.0 * 128.0 / 1024.0 * Moments::output(&s).t2;
        assert!((finite.signal / own - 1.0).abs() < 1e-12);
        let steps = [0.01, 0.02].map(|t| small_step(&s, t).unwrap());
        assert!((steps[1] / steps[0] - 2.0).abs() < 1e-12);
        s.samples = Samples::Infinite;
        let infinite = step_deviation(&s).unwrap();
        assert_eq!(infinite.signal, 0.0);
        assert!(infinite.scores < finite.scores && infinite.value < finite.value);
        s.trigger_in_values = true;
        assert!(step_deviation(&s).is_none() && training_advantage(&s).is_none());
    }

    #[test]
    fn closed_forms_of_the_training_advantage() {
        // Two samples in each of 50 classes: half of the pairs within a class are distinct.
        let mut s = Setting::new(50, 20, 5, 100);
        s.labels = Labels::Balanced;
        let balanced = training_advantage(&s).unwrap();
        assert!((balanced - 0.5 / 500.0).abs() < 1e-12, "{balanced}");
        s.labels = Labels::Iid;
        let iid = training_advantage(&s).unwrap();
        assert!((iid * 100.0 / (2.0 - 0.2) - 1.0).abs() < 0.02, "{iid}");
        assert!(training_attention_accuracy(&s).unwrap() > crate::accuracy::attention_accuracy(&s));
    }

    #[test]
    fn tighter_tolerance_needs_more_strength() {
        let s = Setting::new(120, 40, 8, 600);
        let [loose, tight] = [0.05, 0.01].map(|t| saturating_strength(&s, t).unwrap());
        assert!(
            loose < tight && loose > 1.0 && tight < 20.0,
            "{loose} {tight}"
        );
        let rate = query_rate(&s, loose, 0.5, 2.0);
        let signal = nominal_signal(&s) / (64.0 * 120.0);
        assert!((rate * 2.0 * signal * 0.5 / loose - 1.0).abs() < 1e-12);
    }
}
