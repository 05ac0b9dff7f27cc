//! Recall through the hidden layer with saturated attention. Derivation: `recall.md`.

use crate::activation::Activation;
use crate::gauss;
use crate::labels::LabelMoments;
use crate::mlp::hermite::normal_nodes;
use crate::mlp::kernel::{KernelRow, Lengths, kernel_rows};
use crate::moments::Moments;
use crate::quadrature::{HERMITE_3, HERMITE_5, norm_nodes};
use crate::recall::{Weights, class_weights, is_dense};
use crate::setting::{Embedding, Labels, Mlp, Setting};

/// Widths above which `K_uu` is Gamma distributed to the accuracy of the formulas.
const WIDE: usize = 512;
/// Cells of the law of a sum, and bins that are kept of it.
const CELLS: usize = 640;
const BINS: usize = 8;

/// Law of the mean of `width` copies of `phi(x)^2` over their expectation, in bins of equal
/// probability: `(value, probability)` (note, section 3).
fn own_kernel_law(phi: Activation, length: f64, width: usize) -> Lengths {
    let nodes = normal_nodes();
    let values: Vec<(f64, f64)> = nodes
        .iter()
        .map(|&(x, w)| (phi.value(length * x).powi(2), w))
        .collect();
    let mean: f64 = values.iter().map(|v| v.0 * v.1).sum();
    if mean <= 0.0 {
        return vec![(1.0, 1.0)];
    }
    let variance = values
        .iter()
        .map(|v| (v.0 / mean - 1.0).powi(2) * v.1)
        .sum::<f64>()
        / width as f64;
    if variance < 1e-12 {
        return vec![(1.0, 1.0)];
    }
    let law: Vec<(f64, f64)> = if width > WIDE {
        norm_nodes(&HERMITE_5, variance)
    } else {
        let step = (1.0 + 9.0 * variance.sqrt()) / CELLS as f64 * width as f64;
        let mut one = vec![0.0; CELLS];
        for &(v, w) in &values {
            spread(&mut one, v / mean / step, w);
        }
        let sum = power(&one, width);
        sum.into_iter()
            .enumerate()
            .map(|(i, p)| (i as f64 * step / width as f64, p))
            .collect()
    };
    if width > WIDE {
        return law;
    }
    equal_bins(&law)
}

/// Adds `w` at real cell `x`, shared between its neighbours so that the mean is kept.
fn spread(cells: &mut [f64], x: f64, w: f64) {
    let last = cells.len() - 1;
    let i = (x as usize).min(last);
    let t = if i == last { 0.0 } else { x - i as f64 };
    cells[i] += w * (1.0 - t);
    if i < last {
        cells[i + 1] += w * t;
    }
}

/// Law of a sum of `n` copies, by repeated squaring; what leaves the grid stays in its last cell.
fn power(one: &[f64], n: usize) -> Vec<f64> {
    let convolve = |a: &[f64], b: &[f64]| {
        let mut out = vec![0.0; a.len()];
        let last = a.len() - 1;
        let end = |x: &[f64]| x.iter().rposition(|v| *v > 1e-15).unwrap_or(0);
        let (ea, eb) = (end(a), end(b));
        for (i, x) in a[..=ea].iter().enumerate() {
            if *x < 1e-15 {
                continue;
            }
            for (j, y) in b[..=eb].iter().enumerate() {
                out[(i + j).min(last)] += x * y;
            }
        }
        out
    };
    let mut base = one.to_vec();
    let mut total: Option<Vec<f64>> = None;
    let mut n = n;
    loop {
        if n & 1 == 1 {
            total = Some(match total {
                Some(t) => convolve(&t, &base),
                None => base.clone(),
            });
        }
        n >>= 1;
        if n == 0 {
            return total.unwrap_or(base);
        }
        base = convolve(&base, &base);
    }
}

fn equal_bins(law: &[(f64, f64)]) -> Lengths {
    let mass: f64 = law.iter().map(|l| l.1).sum();
    let share = mass / BINS as f64;
    let mut bins: Lengths = Vec::with_capacity(BINS);
    let (mut sum, mut have) = (0.0, 0.0);
    for &(x, p) in law {
        let mut left = p;
        while have + left >= share && bins.len() + 1 < BINS {
            let take = share - have;
            sum += take * x;
            bins.push((sum / share, 1.0 / BINS as f64));
            (sum, have) = (0.0, 0.0);
            left -= take;
        }
        sum += left * x;
        have += left;
    }
    if have > 0.0 {
        bins.push((sum / have, have / mass));
    }
    bins
}

/// One state of the token that is recalled.
struct State {
    weight: f64,
    /// `K_uu - Kbar`.
    signal: f64,
    /// `Kbar`.
    mean: f64,
    /// Variance of `K(u, .)` over the other tokens.
    variance: f64,
    /// Skewness and excess kurtosis of the same.
    skew: f64,
    excess: f64,
}

fn states(s: &Setting, mlp: &Mlp) -> Vec<State> {
    let rows = kernel_rows(s, mlp);
    let typical = rows
        .iter()
        .max_by(|a, b| a.weight.total_cmp(&b.weight))
        .map_or(1.0, |r| r.length);
    let law = own_kernel_law(mlp.activation, typical, mlp.width);
    let lean = [1.5, 2.0].map(|e| law.iter().map(|(x, p)| p * x.powf(e)).sum::<f64>());
    let mut out = Vec::new();
    for row in &rows {
        for &(x, p) in &law {
            push_states(&mut out, row, x, lean, row.weight * p);
        }
    }
    out
}

/// States of a token at `K_uu = x E K_uu`; `lean` is `E x^{3/2}, E x^2`.
fn push_states(out: &mut Vec<State>, row: &KernelRow, x: f64, lean: [f64; 2], weight: f64) {
    let relative = if row.own > 0.0 {
        row.own_variance / (row.own * row.own)
    } else {
        0.0
    };
    let inf: f64 = row
        .interference
        .iter()
        .zip(row.follow)
        .map(|(v, f)| {
            let amplitude = 1.0 + f * (x - 1.0);
            v * amplitude * amplitude / (1.0 + f * f * relative)
        })
        .sum();
    let variance = inf + row.width_noise * x;
    let infinite: f64 = row.interference.iter().sum();
    let (skew, excess) = if variance > 0.0 {
        let grown = if infinite > 0.0 { inf / infinite } else { 0.0 };
        let third = row.third[0] * grown.powf(1.5) + row.third[1] * x.powf(1.5) / lean[0];
        let fourth = row.fourth[0] * grown * grown + row.fourth[1] * x * x / lean[1];
        (third / variance.powf(1.5), fourth / (variance * variance))
    } else {
        (0.0, 0.0)
    };
    let beta = if row.own_variance > 0.0 {
        row.mean_covariance / row.own_variance
    } else {
        0.0
    };
    let residual = (row.mean_variance - beta * row.mean_covariance).max(0.0);
    let mean = row.mean + beta * row.own * (x - 1.0);
    let signal = row.own * x - mean;
    let matters = residual.sqrt() > 0.02 * (row.own - row.mean).abs();
    let nodes: &[(f64, f64)] = if matters { &HERMITE_3 } else { &[(0.0, 1.0)] };
    for &(g, w) in nodes {
        let shift = residual.sqrt() * g;
        out.push(State {
            weight: weight * w,
            signal: signal - shift,
            mean: mean + shift,
            variance,
            skew,
            excess,
        });
    }
}

/// Normal score of a deviation of `x` standard deviations under a law of the given skewness and
/// excess kurtosis: Wilson and Hilferty's cube of a Pearson III law, and what kurtosis is left as
/// that of a Student variable or of a coordinate of a unit vector (note, section 4).
fn normal_score(x: f64, skew: f64, excess: f64) -> f64 {
    let left = if excess < 0.0 {
        (excess - 1.5 * skew * skew).max(-1.0)
    } else {
        0.0
    };
    let x = if skew.abs() < 1e-3 {
        x
    } else {
        let (x, sign) = if skew > 0.0 { (x, 1.0) } else { (-x, -1.0) };
        let g = skew.abs();
        let k = 4.0 / (g * g);
        let base = (1.0 + x / k.sqrt()).max(0.0);
        sign * 3.0 * k.sqrt() * (base.cbrt() - 1.0 + 1.0 / (9.0 * k))
    };
    if left > 1e-3 {
        let nu = 4.0 + 6.0 / left;
        let square = x * x / (nu - 2.0);
        return (x.signum()) * (8.0 * nu + 1.0) / (8.0 * nu + 3.0) * (nu * square.ln_1p()).sqrt();
    }
    if left < -1e-3 {
        let d = (-6.0 / left - 2.0).max(2.0);
        return unit_coordinate_score(x, x * x / d, d);
    }
    x
}

/// Normal score of a coordinate of a unit vector in `d` dimensions whose square is `u2`.
fn unit_coordinate_score(x: f64, u2: f64, d: f64) -> f64 {
    if u2 >= 1.0 {
        return f64::INFINITY.copysign(x);
    }
    if u2 <= 0.0 {
        return x;
    }
    x * (-(-u2).ln_1p() / u2 * (1.0 - 1.5 / d)).max(0.0).sqrt()
}

/// The outputs as competitors see them.
struct Field {
    /// Output dimension on the sphere.
    sphere: Option<f64>,
    /// `E |z_out|^4`.
    own_norm: f64,
}

impl Field {
    /// Chance that a competitor of squared weight `kappa2` bridges the gap.
    fn tail(&self, gap: f64, common: f64, kappa2: f64, state: &State) -> f64 {
        let own = kappa2 * state.variance * self.own_norm;
        let variance = common + own;
        if variance <= 0.0 {
            return if gap > 0.0 {
                0.0
            } else if gap < 0.0 {
                1.0
            } else {
                0.5
            };
        }
        let mut x = gap / variance.sqrt();
        if x > 9.0 {
            return 0.0;
        }
        if let Some(d) = self.sphere {
            x = unit_coordinate_score(x, x * x / d * common / variance, d);
        }
        let share = own / variance;
        gauss::cdf(-normal_score(
            x,
            state.skew * share.powf(1.5),
            state.excess * share * share,
        ))
    }
}

/// Boundaries, in probability, of the groups into which competitors' weights are gathered.
const GROUPS: [f64; 8] = [0.2, 0.5, 0.8, 0.95, 0.99, 0.999, 0.9999, 1.0];

/// A group of competitors: probability, mean weight less one, mean squared weight.
struct Class {
    share: f64,
    shift: f64,
    square: f64,
}

fn gather(weights: &Weights) -> Vec<Class> {
    let mut classes: Vec<Class> = Vec::new();
    let (mut seen, mut group) = (0.0, [0.0; 3]);
    let mut bound = GROUPS.iter();
    let mut limit = *bound.next().unwrap_or(&1.0);
    for &(k, p) in weights {
        group = [group[0] + p, group[1] + p * k, group[2] + p * k * k];
        seen += p;
        if seen >= limit - 1e-12 && group[0] > 1e-7 {
            classes.push(Class {
                share: group[0],
                shift: group[1] / group[0] - 1.0,
                square: group[2] / group[0],
            });
            group = [0.0; 3];
            while seen >= limit - 1e-12 {
                let Some(next) = bound.next() else { break };
                limit = *next;
            }
        }
    }
    if group[0] > 1e-7 {
        classes.push(Class {
            share: group[0],
            shift: group[1] / group[0] - 1.0,
            square: group[2] / group[0],
        });
    }
    classes
}

/// Recall through the hidden layer at one setting, for any number of stored samples.
pub(crate) struct Recall {
    states: Vec<State>,
    classes: Vec<Class>,
    /// Variance of the relative class counts, `E kappa^2 - 1`.
    excess: f64,
    field: Field,
    competitors: f64,
    outputs: Moments,
}

impl Recall {
    pub(crate) fn new(s: &Setting, mlp: &Mlp) -> Self {
        let states = states(s, mlp);
        let outputs = Moments::output(s);
        let excess = LabelMoments::of(s).square - 1.0;
        let bias = states
            .iter()
            .any(|t| t.mean * t.mean * excess > 1e-3 * t.variance);
        let sparse = s.labels == Labels::Iid && 16.0 * s.vocab as f64 > s.samples.as_f64();
        let dense = s.output != Embedding::Orthonormal;
        let classes = if sparse || bias || !dense {
            gather(&class_weights(s, 1.0))
        } else {
            vec![Class {
                share: 1.0,
                shift: 0.0,
                square: 1.0 + excess,
            }]
        };
        let field = Field {
            sphere: (s.output == Embedding::Sphere).then_some(s.dim_out as f64),
            own_norm: 1.0 + outputs.norm_variance,
        };
        Recall {
            states,
            classes,
            excess,
            field,
            competitors: s.vocab as f64 - 1.0,
            outputs,
        }
    }

    /// Chance of recall for a class of stored weight `kappa`, when a share `attention` of all
    /// samples was stored under its own token (note, eq. 6). The mean squared weight of the
    /// stored samples is then `attention^2 + E kappa^2 - 1`.
    pub(crate) fn given(&self, kappa: f64, attention: f64) -> f64 {
        let load = attention * attention + self.excess;
        let scale = load / (1.0 + self.excess);
        let n = self.competitors;
        let overlap = self.outputs.overlap;
        let mut total = 0.0;
        for state in &self.states {
            let power = n * (load * state.variance + self.excess * state.mean * state.mean);
            let direction = if overlap > 0.0 {
                2.0 * overlap + state.excess.max(0.0) / n
            } else {
                0.0
            };
            // Label counts enter with Kbar whether or not the sample attended to its token.
            let signal = kappa * state.signal + state.mean * (kappa - attention);
            for &(zz, wz) in &norm_nodes(&HERMITE_3, self.outputs.norm_variance) {
                for &(x, wx) in &norm_nodes(&HERMITE_3, direction) {
                    let eta = if overlap > 0.0 { x * power } else { 0.0 };
                    let own = (eta * zz * overlap).sqrt();
                    let reach = if own > 0.0 { 9 } else { 0 };
                    let (mut sum, mut mass) = (0.0, 0.0);
                    for i in -reach..=reach {
                        let g = f64::from(i) * 0.45;
                        let w = gauss::pdf(g);
                        let o = own * g;
                        let common = overlap
                            * (eta + 2.0 * signal * o + signal * signal * zz).max(0.0);
                        sum += w * self.beat_all(signal * zz + o, common, zz, scale, state);
                        mass += w;
                    }
                    total += state.weight * wz * wx * sum / mass;
                }
            }
        }
        total.min(1.0)
    }

    fn beat_all(&self, score: f64, common: f64, norm: f64, scale: f64, state: &State) -> f64 {
        let lose: f64 = self
            .classes
            .iter()
            .map(|c| {
                let gap = score - state.mean * c.shift * norm;
                c.share * self.field.tail(gap, common, scale * c.square, state)
            })
            .sum();
        (self.competitors * (-lose.min(1.0)).ln_1p()).exp()
    }

    /// [`Recall::given`] at `kappa = k unit` for `k = 0..=top`, by interpolation between at most
    /// [`POINTS`] of them.
    pub(crate) fn curve(&self, unit: f64, top: usize, attention: f64) -> Vec<f64> {
        let stride = top.div_ceil(POINTS).max(1);
        let knots: Vec<f64> = (0..=top.div_ceil(stride))
            .map(|i| self.given((i * stride) as f64 * unit, attention))
            .collect();
        (0..=top)
            .map(|k| {
                let (i, t) = (k / stride, (k % stride) as f64 / stride as f64);
                let next = knots.get(i + 1).or(knots.last()).copied().unwrap_or(0.0);
                knots[i] * (1.0 - t) + next * t
            })
            .collect()
    }

    /// Standard deviation of a competing logit over the signal of a class of unit weight.
    pub(crate) fn noise(&self) -> f64 {
        let mean: f64 = self
            .states
            .iter()
            .map(|t| {
                let load = 1.0 + self.excess;
                let power = self.competitors
                    * (load * t.variance + self.excess * t.mean * t.mean)
                    + t.signal * t.signal;
                t.weight * (self.outputs.overlap * power + load * t.variance)
                    / (t.signal * t.signal).max(1e-12)
            })
            .sum();
        mean.sqrt().max(1e-12)
    }
}

/// Most weights at which the chance of recall is evaluated; others are interpolated.
const POINTS: usize = 16;

/// Recall accuracy with attention saturated on the informative token (note, eq. 7). For a setting
/// with a hidden layer `mlp`.
#[must_use]
pub fn recall_accuracy(s: &Setting, mlp: &Mlp) -> f64 {
    let recall = Recall::new(s, mlp);
    let weights = class_weights(s, 1.0);
    if is_dense(s) {
        return weights
            .iter()
            .map(|&(kappa, p)| p * recall.given(kappa, 1.0))
            .sum::<f64>()
            .clamp(0.0, 1.0);
    }
    let top = weights.iter().rposition(|w| w.1 > 1e-5).unwrap_or(0);
    let unit = s.vocab as f64 / s.samples.as_f64();
    recall
        .curve(unit, top, 1.0)
        .iter()
        .zip(&weights)
        .map(|(r, w)| r * w.1)
        .sum::<f64>()
        .clamp(0.0, 1.0)
}
