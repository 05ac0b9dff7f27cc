//! Attention and end-to-end accuracy of the attention-MLP model. Derivation: `accuracy.md`.

use std::cell::OnceCell;

use crate::accuracy::{FEW_FOREIGN, StoredState, effective_competitors};
use crate::gauss;
use crate::labels::LabelMoments;
use crate::mlp::attention::Contexts;
use crate::mlp::recall::{Recall, Rivals};
use crate::moments::Moments;
use crate::quadrature::{HERMITE_3, HERMITE_5, HERMITE_7, factor_nodes, norm_nodes};
use crate::recall::{Foreign, binomial, class_weights, is_dense};
use crate::setting::{Labels, Mlp, Setting};

/// One state of a trial: weight, and score of the trigger over the spread of the token scores.
type State = (f64, f64);

/// Relative variance between trials of the variance of the token scores (note, eq. 1).
fn spread_fluctuation(zi: &Moments, single: [f64; 2]) -> f64 {
    let rest = (1.0 - single[0] - single[1]).max(0.0);
    let directions = single[0].powi(2) + single[1].powi(2);
    2.0 * (directions * zi.t6 / zi.t3.powi(2) + rest * rest * zi.t4 / zi.t2.powi(2))
}

fn states(s: &Setting, mlp: &Mlp) -> Vec<State> {
    let (zi, zo) = (Moments::input(s), Moments::output(s));
    let imbalance = if LabelMoments::of(s).imbalance > 0.0 {
        2.0 * zo.t2
    } else {
        0.0
    };
    let contexts = Contexts::of(s, mlp);
    let mut states = Vec::new();
    for &(h, wh) in &norm_nodes(&HERMITE_5, imbalance) {
        let b = contexts.trial(h);
        let fluctuation = spread_fluctuation(&zi, b.single);
        for &(z, wz) in &norm_nodes(&HERMITE_5, zi.norm_variance) {
            let crosstalk = b.crosstalk(z);
            for &(f, wf) in &factor_nodes(&HERMITE_5, fluctuation) {
                let sd = (f * b.quiet + crosstalk).sqrt();
                let (mean, variance) = b.score(z, f);
                for &(x, wx) in &HERMITE_7 {
                    let score = mean + variance.sqrt() * x;
                    let ratio = if sd > 0.0 {
                        score / sd
                    } else {
                        f64::INFINITY.copysign(score)
                    };
                    states.push((wh * wz * wf * wx, ratio));
                }
            }
        }
    }
    merge(states)
}

/// Number of states kept.
const STATES: usize = 60;

/// Neighbouring states gathered into groups of about equal weight.
fn merge(mut states: Vec<State>) -> Vec<State> {
    states.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut merged: Vec<State> = Vec::with_capacity(STATES + 1);
    let (mut weight, mut sum) = (0.0, 0.0);
    for (w, r) in states {
        if !r.is_finite() {
            merged.push((w, r));
            continue;
        }
        weight += w;
        sum += w * r;
        if weight >= 1.0 / STATES as f64 {
            merged.push((weight, sum / weight));
            (weight, sum) = (0.0, 0.0);
        }
    }
    if weight > 0.0 {
        merged.push((weight, sum / weight));
    }
    merged
}

/// Nodes for the token's own score.
fn token_nodes() -> Vec<(f64, f64)> {
    let total: f64 = (-24..=24).map(|i| gauss::pdf(f64::from(i) * 0.25)).sum();
    (-24..=24)
        .map(|i| {
            let g = f64::from(i) * 0.25;
            (g, gauss::pdf(g) / total)
        })
        .collect()
}

fn hit(ratio: f64, g: f64, competitors: f64) -> f64 {
    if ratio.is_infinite() {
        return if ratio > 0.0 { 1.0 } else { 0.0 };
    }
    gauss::cdf_power(ratio + g, competitors)
}

/// Accuracy of argmax attention on fresh sequences (note, eq. 1a).
#[must_use]
pub fn attention_accuracy(s: &Setting, mlp: &Mlp) -> f64 {
    let n = effective_competitors(s);
    let nodes = token_nodes();
    states(s, mlp)
        .iter()
        .map(|&(w, r)| w * nodes.iter().map(|&(g, p)| p * hit(r, g, n)).sum::<f64>())
        .sum::<f64>()
        .clamp(0.0, 1.0)
}

/// Cells of the weights at which recall is tabulated for each weight of a sample, where the mean of
/// the kernel makes a label's count differ from what is stored of it.
const GRID: f64 = 1.0 / 16.0;
const DENSE_TOP: f64 = 1.5;
/// Shares of the labels that have their samples at their own token, at which recall is tabulated.
const SHARES: [f64; 3] = [0.25, 0.6, 1.0];
/// Mean numbers of foreign samples at which their effect is tabulated.
const FOREIGN: [f64; 3] = [0.5, 4.0, 24.0];

/// What a class holds: samples at its own token and elsewhere, as the weight at saturated attention
/// that has the same signal (note, eq. 4); with its probability.
struct Holdings<'a> {
    s: &'a Setting,
    /// Mean of the kernel over the signal of a unit weight.
    mean: f64,
}

impl Holdings<'_> {
    fn weight(&self, stored: f64, count: f64) -> f64 {
        (stored + self.mean * count) / (1.0 + self.mean)
    }

    /// For a token attended with chance `a` in training.
    fn law(&self, a: f64) -> Vec<(f64, f64)> {
        let s = self.s;
        let unit = s.vocab as f64 / s.samples.as_f64();
        let single = self.mean.abs() < 1e-3;
        if is_dense(s) || s.labels == Labels::Iid {
            // Poisson counts: what misses is independent of what is stored.
            let missed = match s.labels {
                Labels::Iid => (unit * (1.0 - a)).max(0.0).sqrt(),
                Labels::Balanced => 0.0,
            };
            let nodes: &[(f64, f64)] = if single || missed == 0.0 {
                &[(0.0, 1.0)]
            } else {
                &HERMITE_3
            };
            return class_weights(s, a)
                .into_iter()
                .filter(|w| w.1 > 1e-7)
                .flat_map(|(stored, p)| {
                    nodes.iter().map(move |&(x, w)| {
                        let elsewhere = (1.0 - a + x * missed).max(0.0);
                        let count = if s.labels == Labels::Iid {
                            stored + elsewhere
                        } else {
                            1.0
                        };
                        (self.weight(stored, count), p * w)
                    })
                })
                .collect();
        }
        class_weights(s, 1.0)
            .into_iter()
            .enumerate()
            .filter(|(_, w)| w.1 > 1e-7)
            .flat_map(|(n, (count, p))| {
                binomial(n, a)
                    .into_iter()
                    .enumerate()
                    .map(move |(k, q)| (self.weight(k as f64 * unit, count), p * q))
            })
            .collect()
    }
}

/// Most cells of the weights between which recall is interpolated, and of those between which the
/// loss to foreign samples is.
const POINTS: usize = 16;
const FOREIGN_POINTS: usize = 7;

/// Values between the entries of a table: the entries that count and their weights.
fn between(x: f64, last: usize) -> [(usize, f64); 2] {
    let i = (x.max(0.0) as usize).min(last);
    let t = (x - i as f64).clamp(0.0, 1.0);
    [(i, 1.0 - t), ((i + 1).min(last), t)]
}

/// Probability that may be left out of a sum over the entries of a table.
const SMALL: f64 = 1e-6;

/// Chance to meet a foreign sample below which its effect is left out.
const RARE: f64 = 1e-7;

/// Recall of what has been attended, gathered on a grid of a few loads and stored weights, between
/// which it is interpolated. Where attention is good few of these get any probability, and only those
/// are worked out.
struct Table<'a> {
    recall: &'a Recall,
    loads: [f64; 3],
    rivals: [Rivals; 3],
    /// Probability by load and weight, in units.
    mass: [Vec<f64>; 3],
    unit: f64,
    foreign: Option<ForeignTable>,
}

/// `-log` of the share of right answers kept per foreign sample: `lost[number][k]` at weight `k unit`,
/// by [`FOREIGN`], each worked out when it is first asked for.
struct ForeignTable {
    lost: [Vec<OnceCell<f64>>; 3],
    clean: Vec<OnceCell<f64>>,
    unit: f64,
    sample: f64,
}

impl<'a> Table<'a> {
    fn new(s: &Setting, recall: &'a Recall, mean: f64, crowd: f64, foreign: bool) -> Self {
        let sample = s.vocab as f64 / s.samples.as_f64();
        let dense = is_dense(s);
        let fine = if dense {
            GRID
        } else if mean.abs() < 1e-3 {
            sample
        } else {
            sample / (sample / 0.2).ceil()
        };
        let last = if dense {
            DENSE_TOP
        } else {
            let weights = class_weights(s, 1.0);
            let top = weights.iter().rposition(|w| w.1 > 1e-5).unwrap_or(0);
            weights[top].0
        };
        let top = (last / fine).round() as usize;
        let knots = |most: usize| {
            let stride = top.div_ceil(most).max(1);
            (fine * stride as f64, top.div_ceil(stride) + 1)
        };
        let (pairs, own) = recall.pairs_and_own();
        let (unit, n) = knots(POINTS);
        Table {
            recall,
            loads: SHARES.map(|share| own + pairs * share),
            rivals: SHARES.map(|share| recall.rivals(share, crowd)),
            mass: std::array::from_fn(|_| vec![0.0; n]),
            unit,
            foreign: (foreign && !dense).then(|| {
                let (unit, n) = knots(FOREIGN_POINTS);
                let empty = || vec![OnceCell::new(); n];
                ForeignTable {
                    lost: std::array::from_fn(|_| empty()),
                    clean: empty(),
                    unit,
                    sample,
                }
            }),
        }
    }

    /// Adds a probability at a stored weight, a load, and a mean number of foreign samples.
    fn add(&mut self, probability: f64, weight: f64, load: f64, foreign: f64) {
        let kept = match &self.foreign {
            Some(table) if foreign * probability > RARE => {
                (-foreign * table.loss(self.recall, &self.rivals[1], weight, foreign)).exp()
            }
            _ => 1.0,
        };
        let i = usize::from(load > self.loads[1]);
        let t = ((load - self.loads[i]) / (self.loads[i + 1] - self.loads[i])).clamp(0.0, 1.0);
        for (row, along) in [(i, 1.0 - t), (i + 1, t)] {
            let mass = &mut self.mass[row];
            let last = mass.len() - 1;
            for (k, across) in between(weight / self.unit, last) {
                mass[k] += probability * kept * along * across;
            }
        }
    }

    /// Probability of a right answer. What entries of little probability hold is taken as the mean
    /// of the others.
    fn right(&self) -> f64 {
        let (mut right, mut kept, mut total) = (0.0, 0.0, 0.0);
        for (mass, rivals) in self.mass.iter().zip(&self.rivals) {
            for (k, &p) in mass.iter().enumerate() {
                total += p;
                if p > SMALL {
                    let weight = k as f64 * self.unit;
                    right += p * self.recall.given(weight, rivals, Foreign::NONE);
                    kept += p;
                }
            }
        }
        if kept > 0.0 {
            right * total / kept
        } else {
            0.0
        }
    }
}

impl ForeignTable {
    /// Loss per foreign sample, at a stored `weight` and a mean number of foreign samples.
    fn loss(&self, recall: &Recall, rivals: &Rivals, weight: f64, number: f64) -> f64 {
        let i = FOREIGN
            .partition_point(|n| *n <= number)
            .clamp(1, FOREIGN.len() - 1);
        let (low, high) = (FOREIGN[i - 1], FOREIGN[i]);
        let t = ((number / low).ln() / (high / low).ln()).clamp(0.0, 1.0);
        let mut loss = 0.0;
        for (row, along) in [(i - 1, 1.0 - t), (i, t)] {
            for (k, across) in between(weight / self.unit, self.clean.len() - 1) {
                let share = along * across;
                if share > 0.0 {
                    loss += share * self.entry(recall, rivals, row, k);
                }
            }
        }
        loss
    }

    fn entry(&self, recall: &Recall, rivals: &Rivals, row: usize, k: usize) -> f64 {
        *self.lost[row][k].get_or_init(|| {
            let at = |number: f64| {
                let weight = self.sample;
                let foreign = Foreign { number, weight };
                let stored = k as f64 * self.unit;
                recall.given(stored, rivals, foreign).max(1e-300)
            };
            let clean = *self.clean[k].get_or_init(|| at(0.0));
            -(at(FOREIGN[row]) / clean).min(1.0).ln() / FOREIGN[row]
        })
    }
}

/// End-to-end accuracy on fresh sequences (note, eq. 5).
#[must_use]
pub fn end_to_end_accuracy(s: &Setting, mlp: &Mlp) -> f64 {
    accuracy_in(s, mlp, states(s, mlp))
}

/// The same in given states of the trial.
fn accuracy_in(s: &Setting, mlp: &Mlp, states: Vec<State>) -> f64 {
    let recall = Recall::new(s, mlp);
    let (pairs, own) = recall.pairs_and_own();
    let linear = recall.linear_share();
    let mean = recall.mean_over_signal();
    let states: Vec<StoredState> = states
        .into_iter()
        .map(|(weight, ratio)| StoredState::of_ratio(s, weight, ratio, linear))
        .collect();
    let spread: f64 = states.iter().map(|t| t.weight * t.variance).sum();
    let crowd = if spread > 0.0 {
        let shared = states
            .iter()
            .map(|t| t.weight * t.variance * t.mean_crowding());
        shared.sum::<f64>() / spread
    } else {
        0.0
    };
    let met: f64 = states.iter().map(StoredState::foreign).sum();
    let mut table = Table::new(s, &recall, mean, crowd, met > FEW_FOREIGN);
    let holdings = Holdings { s, mean };
    let mut attended = 0.0;
    for t in &states {
        for token in &t.tokens {
            let p = t.weight * token.weight * token.attended;
            attended += p;
            if p < 1e-9 {
                continue;
            }
            let load = pairs * (t.square + t.variance * t.crowding(token.score)) + own;
            for (weight, q) in holdings.law(token.attended) {
                table.add(p * q, weight, load, token.foreign);
            }
        }
    }
    let total = table.right();
    // A wrong position answers with any other label as likely as with the right one.
    let by_chance = if attended > 0.0 {
        (1.0 - attended) * (1.0 - total / attended) / (s.vocab as f64 - 1.0)
    } else {
        1.0 / s.vocab as f64
    };
    (total + by_chance).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::setting::{MlpInput, MlpRows};
    use crate::test_random::{Lcg, dot, mean_and_covariance};

    /// Step 3 by its definition with argmax attention of known ratio of signal to spread and normal
    /// scores: attended tokens, stored labels, and recall through a drawn layer whose kernel has a large
    /// mean, all of it against (5).
    #[test]
    fn stored_labels_are_recalled_at_imperfect_attention() {
        let (v, d, m, len, trials) = (100usize, 40usize, 200usize, 14usize, 70);
        for (labels, ratio, n) in [
            (Labels::Balanced, 1.6, 800usize),
            (Labels::Iid, 1.6, 800),
            (Labels::Iid, 2.6, 400),
        ] {
            let mlp = Mlp {
                activation: Activation::Relu,
                width: m,
                input: MlpInput::Rms,
                rows: MlpRows::Gaussian,
            };
            let mut s = Setting::new(v, d, len, n as u64).with_mlp(mlp);
            s.labels = labels;
            let stated = accuracy_in(&s, &mlp, vec![(1.0, ratio)]);
            let mut rng = Lcg(61);
            let mut rates = Vec::new();
            for _ in 0..trials {
                let output = rng.table(v, d, false);
                let (centre, _) = mean_and_covariance(&output);
                let features = rng.features(mlp.activation, v, d, m);
                let scores: Vec<f64> = (0..v).map(|_| rng.normal()).collect();
                let batch: Vec<usize> = (0..n)
                    .map(|sample| match labels {
                        Labels::Balanced => sample % v,
                        Labels::Iid => rng.below(v),
                    })
                    .collect();
                let mut attend = |label: usize| {
                    let (mut best, mut at) = (scores[label] + ratio, label);
                    for _ in 1..len {
                        let token = rng.below(v);
                        if scores[token] > best {
                            (best, at) = (scores[token], token);
                        }
                    }
                    at
                };
                // V2 phi = sum over tokens of what is stored there times the kernel.
                let mut stored = vec![vec![0.0; d]; v];
                for &label in &batch {
                    let at = attend(label);
                    for ((x, a), c) in stored[at].iter_mut().zip(&output[label]).zip(&centre) {
                        *x += a - c;
                    }
                }
                let answers: Vec<usize> = (0..v)
                    .map(|u| {
                        let mut read = vec![0.0; d];
                        for (of_token, f) in stored.iter().zip(&features) {
                            let k = dot(f, &features[u]);
                            for (x, y) in read.iter_mut().zip(of_token) {
                                *x += k * y;
                            }
                        }
                        (0..v)
                            .max_by(|&i, &j| {
                                dot(&output[i], &read).total_cmp(&dot(&output[j], &read))
                            })
                            .unwrap_or(0)
                    })
                    .collect();
                let right = (0..6 * v)
                    .filter(|i| answers[attend(i % v)] == i % v)
                    .count();
                rates.push(right as f64 / (6 * v) as f64);
            }
            let count = rates.len() as f64;
            let measured = rates.iter().sum::<f64>() / count;
            let error = rates
                .iter()
                .map(|x| (x - measured).powi(2))
                .sum::<f64>()
                .sqrt()
                / count;
            assert!(
                (measured - stated).abs() < 2.0 * error + 0.015,
                "{labels:?} {ratio}: {measured} +- {error}, stated {stated}"
            );
        }
    }
}
