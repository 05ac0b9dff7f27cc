//! Attention and end-to-end accuracy of the attention-MLP model. Derivation: `accuracy.md`.

use crate::accuracy::effective_competitors;
use crate::gauss;
use crate::labels::LabelMoments;
use crate::mlp::attention::TrialBudget;
use crate::mlp::recall::Recall;
use crate::moments::Moments;
use crate::quadrature::{HERMITE_5, HERMITE_7, factor_nodes, norm_nodes};
use crate::recall::{class_weights, is_dense};
use crate::setting::{Mlp, Setting};

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
    let mut states = Vec::new();
    for &(h, wh) in &norm_nodes(&HERMITE_5, imbalance) {
        let b = TrialBudget::new(s, mlp, h);
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

/// Accuracy of argmax attention on fresh sequences (note, eq. 2).
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

/// Step of the weight where classes have too many samples to count, and the cells kept.
const GRID: f64 = 1.0 / 16.0;
const DENSE_CELLS: usize = 24;
/// Training attention at which recall is tabulated.
const ATTENTION: [f64; 3] = [0.5, 0.78, 1.0];

/// End-to-end accuracy on fresh sequences (note, eq. 3).
#[must_use]
pub fn end_to_end_accuracy(s: &Setting, mlp: &Mlp) -> f64 {
    let recall = Recall::new(s, mlp);
    let dense = is_dense(s);
    let sample = s.vocab as f64 / s.samples.as_f64();
    let (unit, top) = if dense {
        (GRID, DENSE_CELLS)
    } else {
        let top = class_weights(s, 1.0)
            .iter()
            .rposition(|w| w.1 > 1e-5)
            .unwrap_or(0);
        (sample, top)
    };
    let table = ATTENTION.map(|a| recall.curve(unit, top, a));
    let noise = recall.noise();
    let n = effective_competitors(s);
    let nodes = token_nodes();
    let rivals = s.len as f64 - 1.0;
    // Mean over a class of which a share `a` is stored, at training attention `level`, when a
    // mean number `wrong` of foreign samples sits on the token.
    let mean = |a: f64, level: f64, wrong: f64| -> f64 {
        let i = usize::from(level > ATTENTION[1]);
        let t = ((level - ATTENTION[i]) / (ATTENTION[i + 1] - ATTENTION[i])).clamp(0.0, 1.0);
        let at = |k: usize| {
            let k = k.min(top);
            table[i][k] * (1.0 - t) + table[i + 1][k] * t
        };
        class_weights(s, a)
            .iter()
            .enumerate()
            .filter(|(_, w)| w.1 > 1e-6)
            .map(|(k, &(kappa, p))| {
                if dense {
                    let x = (kappa / unit).min(DENSE_CELLS as f64 - 1e-9);
                    let k = x as usize;
                    let t = x - k as f64;
                    return p * (at(k) * (1.0 - t) + at(k + 1) * t);
                }
                let gap = kappa - unit;
                let lose = gauss::cdf(-gap / (std::f64::consts::SQRT_2 * noise));
                p * at(k) * (-wrong * lose).exp()
            })
            .sum()
    };
    let mut total = 0.0;
    for (weight, ratio) in states(s, mlp) {
        let chances: Vec<f64> = nodes.iter().map(|&(g, _)| hit(ratio, g, n)).collect();
        let square: f64 = nodes.iter().zip(&chances).map(|(q, a)| q.1 * a * a).sum();
        let level = square.sqrt();
        if level < 1e-3 {
            continue;
        }
        // Recall depends on the stored share slowly: tabulated on a few shares.
        const SHARES: usize = 8;
        let sure = mean(1.0, level, 0.0);
        let by_share: Vec<f64> = (0..=SHARES)
            .map(|i| {
                if i == SHARES {
                    sure
                } else {
                    mean(i as f64 / SHARES as f64, level, 0.0)
                }
            })
            .collect();
        for (&(g, w), &a) in nodes.iter().zip(&chances) {
            if w * a < 1e-9 {
                continue;
            }
            let wrong = if ratio.is_finite() {
                s.samples.as_f64() / s.vocab as f64
                    * rivals
                    * gauss::cdf_power(g, (rivals - 1.0).max(0.0))
                    * gauss::cdf(g - ratio)
            } else {
                0.0
            };
            let p = if wrong > 1e-3 && !dense {
                mean(a, level, wrong)
            } else {
                let x = (a * SHARES as f64).min(SHARES as f64 - 1e-9);
                let i = x as usize;
                let t = x - i as f64;
                by_share[i] * (1.0 - t) + by_share[i + 1] * t
            };
            total += weight * w * a * p;
        }
    }
    total.clamp(0.0, 1.0)
}
