//! Attention accuracy and end-to-end accuracy. Derivation: `accuracy.md`.

use crate::attention::{Budget, budget};
use crate::gauss;
use crate::moments::Moments;
use crate::quadrature::{HERMITE_5, HERMITE_7, factor_nodes, norm_nodes};
use crate::recall::{class_weights, recall_given};
use crate::setting::{Attention, Samples, Setting};

/// One state of a trial: the score advantage of the informative position over the noise.
#[derive(Debug, Clone, Copy, PartialEq)]
struct TrialState {
    weight: f64,
    /// `w . z_trig` over the spread of the token scores.
    ratio: f64,
    /// `w . z_trig` over its mean.
    relative_signal: f64,
}

/// Number of distinct competitors of the informative token (note, eq. 2):
/// `(V - 1)(1 - (1 - 1/V)^{L-1})`.
#[must_use]
pub fn effective_competitors(s: &Setting) -> f64 {
    let v = s.vocab as f64;
    (v - 1.0) * -((s.len as f64 - 1.0) * (-1.0 / v).ln_1p()).exp_m1()
}

/// Relative variance between trials of the variance of the token scores (note, eq. 6): a query
/// noise of `d` independent directions has `2/d`; the mean bias is a single direction whose
/// length is the square of a quadratic form of the label imbalance.
fn spread_fluctuation(s: &Setting, b: &Budget) -> f64 {
    let (zi, zo) = (Moments::input(s), Moments::output(s));
    let total: f64 = b.variance[..8].iter().sum();
    if total <= 0.0 {
        return 0.0;
    }
    let gram = 2.0 * zo.t2;
    let imbalance = ((1.0 + 6.0 * gram + 3.0 * gram * gram) / (1.0 + gram).powi(2) - 1.0).max(0.0);
    let directions = 2.0 * zi.overlap;
    let share = b.variance[0] / total;
    let rest = 1.0 - share;
    share * share * (imbalance + directions) + rest * rest * directions
}

fn trial_states(s: &Setting) -> Vec<TrialState> {
    let b = budget(s);
    let zi = Moments::input(s);
    let quiet: f64 = b.variance[..8].iter().sum();
    let mut states = Vec::new();
    for &(z, wz) in &norm_nodes(&HERMITE_5, zi.norm_variance) {
        for &(f, wf) in &factor_nodes(&HERMITE_5, spread_fluctuation(s, &b)) {
            let sd = (f * quiet + b.variance[8] * z).sqrt();
            let noise = (b.signal_variance * z * z + b.trigger_score_variance * f * z).sqrt();
            for &(x, wx) in &HERMITE_7 {
                let score = b.signal * z + noise * x;
                states.push(TrialState {
                    weight: wz * wf * wx,
                    ratio: if sd > 0.0 {
                        score / sd
                    } else {
                        f64::INFINITY.copysign(score)
                    },
                    relative_signal: if b.signal > 0.0 {
                        score / b.signal
                    } else {
                        0.0
                    },
                });
            }
        }
    }
    states
}

/// Nodes for the token's own score.
fn token_nodes() -> impl Iterator<Item = (f64, f64)> {
    let total: f64 = (-24..=24).map(|i| gauss::pdf(f64::from(i) * 0.25)).sum();
    (-24..=24).map(move |i| {
        let g = f64::from(i) * 0.25;
        (g, gauss::pdf(g) / total)
    })
}

/// Chance that a token of own score `g` is attended: `Phi(r + g)^n`.
fn hit(ratio: f64, g: f64, competitors: f64) -> f64 {
    if ratio.is_infinite() {
        return if ratio > 0.0 { 1.0 } else { 0.0 };
    }
    gauss::cdf_power(ratio + g, competitors)
}

/// Accuracy of argmax attention on fresh sequences (note, eq. 7).
#[must_use]
pub fn attention_accuracy(s: &Setting) -> f64 {
    let n = effective_competitors(s);
    trial_states(s)
        .iter()
        .map(|t| {
            t.weight
                * token_nodes()
                    .map(|(g, w)| w * hit(t.ratio, g, n))
                    .sum::<f64>()
        })
        .sum()
}

/// Recall probabilities by number of hits, tabulated once for a few loads.
struct RecallTable {
    loads: Vec<f64>,
    /// `recall[load][k]` for `kappa = k V/N` (or `kappa = k/8` for the population).
    recall: Vec<Vec<f64>>,
    /// Noise scale of a competing logit at unit load, in the same units.
    noise: f64,
    unit: f64,
}

impl RecallTable {
    fn new(s: &Setting, clutter: f64) -> Self {
        let weights = class_weights(s, 1.0);
        let unit = match s.samples {
            Samples::Finite(n) => s.vocab as f64 / n as f64,
            Samples::Infinite => 0.125,
        };
        let top = match s.samples {
            Samples::Finite(_) => weights.iter().rposition(|w| w.1 > 1e-7).unwrap_or(0),
            Samples::Infinite => 8,
        };
        let excess = crate::labels::LabelMoments::of(s).square - 1.0;
        let loads: Vec<f64> = [0.25, 0.6, 1.0].iter().map(|a| a + excess).collect();
        let recall = loads
            .iter()
            .map(|&load| {
                (0..=top)
                    .map(|k| recall_given(s, k as f64 * unit, load, &weights, clutter))
                    .collect()
            })
            .collect();
        let (zi, zo) = (Moments::input(s), Moments::output(s));
        let v = s.vocab as f64;
        let noise = ((1.0 + excess) * zi.overlap * (v * zo.overlap + 1.0) + zo.overlap)
            .sqrt()
            .max(1e-12);
        RecallTable {
            loads,
            recall,
            noise,
            unit,
        }
    }

    /// Interpolated in the load, linearly.
    fn at(&self, k: usize, load: f64) -> f64 {
        let row = |i: usize| {
            self.recall[i]
                .get(k)
                .or(self.recall[i].last())
                .copied()
                .unwrap_or(0.0)
        };
        let i = usize::from(load > self.loads[1]);
        let t = ((load - self.loads[i]) / (self.loads[i + 1] - self.loads[i])).clamp(0.0, 1.0);
        row(i) * (1.0 - t) + row(i + 1) * t
    }

    /// Mean over the hits of a token attended with probability `attention` in training, when a
    /// mean number `wrong` of foreign samples attended to it.
    fn mean(&self, s: &Setting, attention: f64, load: f64, wrong: f64) -> f64 {
        if s.samples == Samples::Infinite {
            let x = attention / self.unit;
            let k = x.floor().min(7.0);
            let t = x - k;
            return self.at(k as usize, load) * (1.0 - t) + self.at(k as usize + 1, load) * t;
        }
        class_weights(s, attention)
            .iter()
            .enumerate()
            .filter(|(_, w)| w.1 > 1e-7)
            .map(|(k, &(kappa, p))| {
                // A foreign sample writes a competing label of weight one sample.
                let gap = kappa - self.unit;
                let lose = gauss::cdf(-gap / (std::f64::consts::SQRT_2 * self.noise));
                p * self.at(k, load) * (-wrong * lose).exp()
            })
            .sum()
    }
}

/// End-to-end accuracy on fresh sequences: the informative token is attended, and its label
/// recalled from a value matrix learned with the same attention (note, eq. 9).
#[must_use]
pub fn end_to_end_accuracy(s: &Setting) -> f64 {
    let accuracy = match s.attention {
        Attention::Argmax => argmax_accuracy(s),
        Attention::Strength(g) => softmax_accuracy(s, g),
    };
    accuracy.clamp(0.0, 1.0) // quadrature weights sum to one up to rounding
}

fn argmax_accuracy(s: &Setting) -> f64 {
    let n = effective_competitors(s);
    let excess = crate::labels::LabelMoments::of(s).square - 1.0;
    let per_class = match s.samples {
        Samples::Finite(n) => n as f64 / s.vocab as f64,
        Samples::Infinite => 0.0,
    };
    let rivals = s.len as f64 - 1.0;
    let table = RecallTable::new(s, 0.0);
    let mut total = 0.0;
    for t in trial_states(s) {
        let hits: Vec<(f64, f64, f64)> = token_nodes()
            .map(|(g, w)| (g, w, hit(t.ratio, g, n)))
            .collect();
        let load = hits.iter().map(|(_, w, a)| w * a * a).sum::<f64>() + excess;
        for (g, w, a) in hits {
            if w * a < 1e-9 {
                continue;
            }
            // Foreign samples that attend to this token: it must top L - 2 others and the
            // informative position.
            let wrong = if t.ratio.is_finite() {
                per_class * rivals * gauss::cdf_power(g, rivals - 1.0) * gauss::cdf(g - t.ratio)
            } else {
                0.0
            };
            total += t.weight * w * a * table.mean(s, a, load, wrong);
        }
    }
    total
}

/// Mean softmax weight on the informative position at strength `G` (note, eq. 11).
#[must_use]
pub fn attention_weight(s: &Setting, strength: f64) -> f64 {
    trial_states(s)
        .iter()
        .map(|t| {
            t.weight
                * token_nodes()
                    .map(|(g, w)| w * softmax_weight(s, t, strength, g).0)
                    .sum::<f64>()
        })
        .sum()
}

/// Softmax weight on a token of own score `g`, and the squared weight on all others, from the
/// random-energy form of the partition sum.
fn softmax_weight(s: &Setting, t: &TrialState, strength: f64, g: f64) -> (f64, f64) {
    let rivals = s.len as f64 - 1.0;
    let advantage = strength * t.relative_signal;
    let temperature = if t.ratio.is_finite() && t.ratio != 0.0 {
        advantage / t.ratio
    } else {
        0.0
    };
    let free = |x: f64| {
        let freeze = (2.0 * rivals.ln()).max(0.0).sqrt();
        if x < freeze {
            rivals.ln() + 0.5 * x * x
        } else {
            x * freeze
        }
    };
    let log_rivals = free(temperature);
    let alpha = 1.0 / (1.0 + (log_rivals - advantage - temperature * g).exp());
    let log_square = (free(2.0 * temperature) - 2.0 * log_rivals).min(0.0);
    (alpha, (1.0 - alpha).powi(2) * log_square.exp())
}

/// As [`argmax_accuracy`] with softmax weights: the class weight is `kappa alpha`, the clutter of
/// the other positions enters the load in training and the length of the read-out at test.
fn softmax_accuracy(s: &Setting, strength: f64) -> f64 {
    let labels = crate::labels::LabelMoments::of(s);
    let excess = labels.square - 1.0;
    let states = trial_states(s);
    let mut mean_square = 0.0;
    let mut clutter = 0.0;
    let mut mean = 0.0;
    for t in &states {
        for (g, w) in token_nodes() {
            let (a, rest) = softmax_weight(s, t, strength, g);
            mean += t.weight * w * a;
            mean_square += t.weight * w * a * a;
            clutter += t.weight * w * rest;
        }
    }
    if mean_square <= 0.0 {
        return 1.0 / s.vocab as f64;
    }
    let relative = clutter / mean_square;
    let weights = class_weights(s, 1.0);
    // In units of the mean weight: load of the informative tokens, plus what leaks to others.
    let spread = mean_square / (mean * mean);
    let load = spread * (1.0 + excess * (1.0 + relative));
    let hit_rate = attention_accuracy(s);
    let recall: f64 = weights
        .iter()
        .filter(|w| w.1 > 1e-7)
        .map(|&(kappa, p)| p * recall_given(s, kappa, load, &weights, relative))
        .sum();
    hit_rate.max(mean * hit_rate) * recall
}
