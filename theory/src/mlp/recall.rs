//! Recall through the hidden layer with saturated attention. Derivation: `recall.md`.

use crate::gauss;
use crate::labels::LabelMoments;
use crate::mlp::kernel::{KernelRow, Layer, UnitNode, kernel_rows, unit_nodes};
use crate::mlp::narrow::{NARROW, layer_laws, tabulated};
use crate::mlp::overlap::{Overlaps, Shape};
use crate::moments::Moments;
use crate::quadrature::{HERMITE_3, HERMITE_5, norm_nodes};
use crate::recall::{Foreign, Weights, bounded_score, class_weights, is_dense, own_noise};
use crate::setting::{Embedding, Labels, Mlp, Setting};

/// Widths above which `K_uu` is Gamma distributed to the accuracy of the formulas, and the relative
/// variance above which it is not at any width: a few of the units make it.
const WIDE: usize = 512;
const FEW: f64 = 0.05;
/// Cells of the law of a sum, and bins that are kept of it.
const CELLS: usize = 640;
const BINS: usize = 8;

/// `K_uu` of a token in a bin of its law, and what the finite width makes of the other kernel
/// values there (note, section 3).
#[derive(Debug, Clone, Copy)]
struct Own {
    /// `K_uu / E K_uu`.
    value: f64,
    probability: f64,
    /// Width noise over its mean.
    noise: f64,
    /// Skewness and excess kurtosis of the width noise.
    skew: f64,
    excess: f64,
}

/// Sums over the hidden units on a grid of `K_uu`: probability, and its product with `K_uu` and
/// with the expected second, third and fourth cumulants.
type Sums = [f64; 5];

/// Law of `K_uu` over its expectation (note, section 3), the cumulants of the other kernel values
/// being their expectations given `K_uu`.
fn own_kernel_law(units: &[UnitNode], width: usize) -> Vec<Own> {
    let m = width as f64;
    let expect =
        |get: &dyn Fn(&UnitNode) -> f64| -> f64 { units.iter().map(|u| u.weight * get(u)).sum() };
    let mean = expect(&|u| u.own);
    if mean <= 0.0 {
        return vec![Own {
            value: 1.0,
            probability: 1.0,
            noise: 1.0,
            skew: 0.0,
            excess: 0.0,
        }];
    }
    let noise = expect(&|u| u.cumulants[0]);
    let shape = |[p, x, second, third, fourth]: Sums| {
        let second = second / p;
        Own {
            value: x / p,
            probability: p,
            noise: if noise > 0.0 {
                second / (m * noise)
            } else {
                1.0
            },
            skew: if second > 0.0 {
                third / p / second.powf(1.5)
            } else {
                0.0
            },
            excess: if second > 0.0 {
                fourth / p / (second * second)
            } else {
                0.0
            },
        }
    };
    let variance = expect(&|u| (u.own / mean - 1.0).powi(2)) / m;
    if variance < 1e-12 || (width > WIDE && variance < FEW) {
        let whole = [0, 1, 2].map(|i| m * expect(&|u| u.cumulants[i]));
        return norm_nodes(&HERMITE_5, variance)
            .into_iter()
            .map(|(x, p)| {
                let [second, third, fourth] = whole.map(|c| c * x * p);
                shape([p, x * p, second, third, fourth])
            })
            .collect();
    }
    // Balanced rows make the summand negative in places; the lift is taken off the sum again.
    let lift = units.iter().map(|u| -u.own).fold(0.0, f64::max);
    let step = (m * (1.0 + lift / mean) + 9.0 * variance.sqrt() * m) / CELLS as f64;
    let grid = |get: &dyn Fn(&UnitNode) -> f64| {
        let mut cells = vec![0.0; CELLS];
        for u in units {
            spread(&mut cells, (u.own + lift) / mean / step, u.weight * get(u));
        }
        cells
    };
    let one = grid(&|_| 1.0);
    let others = power(&one, width - 1);
    let sum = convolve(&others, &one);
    let given = [0, 1, 2].map(|i| convolve(&others, &grid(&|u| u.cumulants[i])));
    let cells: Vec<Sums> = sum
        .iter()
        .enumerate()
        .map(|(i, &p)| {
            let x = (i as f64 * step - m * lift / mean).max(0.0) / m;
            let [a, b, c] = [0, 1, 2].map(|k| m * given[k][i]);
            [p, p * x, a, b, c]
        })
        .collect();
    equal_bins(&cells).into_iter().map(shape).collect()
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

/// Law of a sum of two; what leaves the grid stays in its last cell.
fn convolve(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; a.len()];
    let last = a.len() - 1;
    let end = |x: &[f64]| x.iter().rposition(|v| v.abs() > 1e-15).unwrap_or(0);
    let (ea, eb) = (end(a), end(b));
    for (i, x) in a[..=ea].iter().enumerate() {
        if x.abs() < 1e-15 {
            continue;
        }
        for (j, y) in b[..=eb].iter().enumerate() {
            out[(i + j).min(last)] += x * y;
        }
    }
    out
}

/// Law of a sum of `n` copies, by repeated squaring.
fn power(one: &[f64], n: usize) -> Vec<f64> {
    let mut total = vec![0.0; one.len()];
    total[0] = 1.0;
    let mut base = one.to_vec();
    let mut n = n;
    while n > 0 {
        if n & 1 == 1 {
            total = convolve(&total, &base);
        }
        n >>= 1;
        if n > 0 {
            base = convolve(&base, &base);
        }
    }
    total
}

/// Cells gathered into bins of equal probability, which add up to one.
fn equal_bins(cells: &[Sums]) -> Vec<Sums> {
    let mass: f64 = cells.iter().map(|c| c[0]).sum();
    let share = mass / BINS as f64;
    let mut bins: Vec<Sums> = Vec::with_capacity(BINS);
    let mut bin: Sums = [0.0; 5];
    for cell in cells {
        let mut left = *cell;
        while bin[0] + left[0] >= share && bins.len() + 1 < BINS {
            let part = (share - bin[0]) / left[0];
            bins.push(std::array::from_fn(|i| (bin[i] + part * left[i]) / mass));
            bin = [0.0; 5];
            left = left.map(|x| x * (1.0 - part));
        }
        bin = std::array::from_fn(|i| bin[i] + left[i]);
    }
    if bin[0] > 0.0 {
        bins.push(bin.map(|x| x / mass));
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
    /// Variance of `K(u, .)` over the other tokens, and the linear interference in it.
    variance: f64,
    linear: f64,
    /// Skewness and excess kurtosis of the same.
    skew: f64,
    excess: f64,
    /// Chance of a deviation above `FIRST + i STEP` standard deviations, where the law itself decides
    /// (`narrow.md`, `overlap.md`).
    law: Option<Vec<f64>>,
}

fn states(s: &Setting, mlp: &Mlp) -> Vec<State> {
    let rows = kernel_rows(s, mlp);
    if s.output == Embedding::Orthonormal && mlp.width <= NARROW {
        let layer = Layer::of(s, mlp);
        let laws = layer_laws(&layer, &rows);
        let count: Vec<f64> = (0..rows.len())
            .map(|i| laws.iter().filter(|l| l.row == i).count() as f64)
            .collect();
        return laws
            .into_iter()
            .map(|law| State {
                weight: rows[law.row].weight / count[law.row],
                signal: law.own - law.mean,
                mean: law.mean,
                variance: law.variance,
                linear: rows[law.row].interference[0],
                skew: 0.0,
                excess: 0.0,
                law: Some(law.tail),
            })
            .collect();
    }
    let typical = rows
        .iter()
        .max_by(|a, b| a.weight.total_cmp(&b.weight))
        .map_or(1.0, |r| r.length);
    let law = own_kernel_law(&unit_nodes(s, mlp, typical), mlp.width);
    let layer = Layer::of(s, mlp);
    let mut out = Vec::new();
    for row in &rows {
        let overlaps =
            (s.output == Embedding::Orthonormal).then(|| Overlaps::of(&layer, row.length));
        for own in &law {
            push_states(&mut out, row, own, overlaps.as_ref());
        }
    }
    out
}

/// Number of groups of states without a law of their own.
const STATES: usize = 16;

/// States of about the same signal over noise gathered into groups: recall bends little within one.
fn gathered(mut states: Vec<State>) -> Vec<State> {
    if states.len() <= STATES || states.iter().any(|t| t.law.is_some()) {
        return states;
    }
    let ratio = |t: &State| t.signal / t.variance.max(f64::MIN_POSITIVE).sqrt();
    states.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let mut groups: Vec<State> = Vec::with_capacity(STATES + 1);
    let mut open = false;
    for t in states {
        match groups.last_mut() {
            Some(group) if open => group.absorb(&t),
            _ => groups.push(t),
        }
        open = groups
            .last()
            .is_some_and(|g| g.weight < 1.0 / STATES as f64);
    }
    groups
}

impl State {
    /// Weighted mean with another state, neither of which has a law of its own.
    fn absorb(&mut self, other: &State) {
        let share = other.weight / (self.weight + other.weight);
        for (mine, theirs) in [
            (&mut self.signal, other.signal),
            (&mut self.mean, other.mean),
            (&mut self.variance, other.variance),
            (&mut self.linear, other.linear),
            (&mut self.skew, other.skew),
            (&mut self.excess, other.excess),
        ] {
            *mine += share * (theirs - *mine);
        }
        self.weight += other.weight;
    }
}

/// Least relative variance of the width noise between layers that is followed.
const STEADY: f64 = 0.01;

/// States of a token at a given `K_uu`. The law of the other kernel values is worked out where they
/// are all that competes (`overlaps`), else described by cumulants.
fn push_states(out: &mut Vec<State>, row: &KernelRow, own: &Own, overlaps: Option<&Overlaps>) {
    let (x, weight) = (own.value, row.weight * own.probability);
    let relative = if row.own > 0.0 {
        row.own_variance / (row.own * row.own)
    } else {
        0.0
    };
    let amplitude = row
        .follow
        .map(|f| (1.0 + f * (x - 1.0)) / (1.0 + f * f * relative).sqrt());
    let inf: f64 = row
        .interference
        .iter()
        .zip(amplitude)
        .map(|(v, a)| v * a * a)
        .sum();
    let noise = row.width_noise * own.noise;
    let variance = inf + noise;
    let infinite: f64 = row.interference.iter().sum();
    let (skew, excess) = if variance > 0.0 {
        let grown = if infinite > 0.0 { inf / infinite } else { 0.0 };
        let third = row.third * grown.powf(1.5) + own.skew * noise.powf(1.5);
        let fourth = row.fourth * grown * grown + own.excess * noise * noise;
        (third / variance.powf(1.5), fourth / (variance * variance))
    } else {
        (0.0, 0.0)
    };
    let laws: Vec<(f64, f64, Option<Vec<f64>>)> = match overlaps {
        None => vec![(1.0, variance, None)],
        Some(overlaps) => {
            let spread = 2.0 * overlaps.common;
            let nodes = norm_nodes(&HERMITE_3, if spread > STEADY { spread } else { 0.0 });
            nodes
                .into_iter()
                .map(|(factor, w)| {
                    let (variance, tail) = overlaps.law(&Shape {
                        amplitude: amplitude.map(|a| a * row.narrow.sqrt()),
                        noise: noise * factor,
                        skew: own.skew,
                        excess: own.excess,
                    });
                    (w, variance, Some(tail))
                })
                .collect()
        }
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
    for (share, variance, law) in laws {
        for &(g, w) in nodes {
            let shift = residual.sqrt() * g;
            out.push(State {
                weight: weight * share * w,
                signal: signal - shift,
                mean: mean + shift,
                variance,
                linear: row.interference[0],
                skew,
                excess,
                law: law.clone(),
            });
        }
    }
}

/// Normal score of a deviation of `x` standard deviations under a law of the given skewness and
/// excess kurtosis: Wilson and Hilferty's cube of a Pearson III law, and what kurtosis is left as
/// that of a Student variable or of a coordinate of a unit vector (note, section 4).
pub(crate) fn normal_score(x: f64, skew: f64, excess: f64) -> f64 {
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

/// The deviation under a Pearson III law of skewness `to` that has the normal score of `x` under one of
/// skewness `from`: the inverse of (4) after (4). A negative skewness, which bounds a Pearson III law,
/// counts as none.
pub(crate) fn reshaped(x: f64, from: f64, to: f64) -> f64 {
    let (from, to) = (from.max(0.0), to.max(0.0));
    if (from - to).abs() < 1e-3 {
        return x;
    }
    let z = normal_score(x, from, 0.0);
    if to < 1e-3 {
        return z;
    }
    let k = 4.0 / (to * to);
    let cube = (1.0 + z / (3.0 * k.sqrt()) - 1.0 / (9.0 * k)).max(0.0);
    k.sqrt() * (cube.powi(3) - 1.0)
}

/// Normal score of a coordinate of a unit vector in `d` dimensions whose square is `u2`.
pub(crate) fn unit_coordinate_score(x: f64, u2: f64, d: f64) -> f64 {
    if u2 >= 1.0 {
        return f64::INFINITY.copysign(x);
    }
    if u2 <= 0.0 {
        return x;
    }
    x * (-(-u2).ln_1p() / u2 * (1.0 - 1.5 / d)).max(0.0).sqrt()
}

/// What a competing logit sees, given the token's own logit (note, section 2).
struct Field<'a> {
    state: &'a State,
    /// Variance of the part that its output vector picks up from the common vector.
    common: f64,
    /// How far its vector is known to lie along the common one, relative to the mean: the factor
    /// of its own association.
    pull: f64,
    /// Squared coefficients of the associations relative to their mean.
    coefficients: f64,
    /// Output dimension on the sphere.
    sphere: Option<f64>,
}

impl Field<'_> {
    /// Chance that a competitor of squared weight `square`, shifted by `shift`, exceeds `score`.
    fn tail(&self, score: f64, shift: f64, square: f64) -> f64 {
        let own = square * self.state.variance * self.coefficients * self.pull * self.pull;
        let variance = self.common + own;
        let gap = score - shift;
        if variance <= 0.0 {
            return match gap.partial_cmp(&0.0) {
                Some(std::cmp::Ordering::Greater) => 0.0,
                Some(std::cmp::Ordering::Equal) => 0.5,
                _ => 1.0,
            };
        }
        let x = gap / variance.sqrt();
        if let Some(law) = &self.state.law {
            return tabulated(law, x);
        }
        let x = match self.sphere {
            Some(d) if self.common > 0.0 => {
                match bounded_score(d, score, self.common, gap, variance) {
                    Some(x) => x,
                    None => return f64::from(score < 0.0),
                }
            }
            _ => x,
        };
        if x > 9.0 {
            return 0.0;
        }
        let share = own / variance;
        gauss::cdf(-normal_score(
            x,
            self.state.skew * share * share.sqrt(),
            self.state.excess * share * share,
        ))
    }

    /// Chance that none of `n` competitors of the given classes exceeds `score`, beside a Poisson
    /// number of samples of other labels at the token, each of which lifts its label by `beside`.
    fn beat_all(&self, score: f64, rivals: &Rivals, n: f64, number: f64, beside: f64) -> f64 {
        let lose = |score: f64| -> f64 {
            rivals
                .classes
                .iter()
                .map(|c| {
                    let shift = self.state.mean * c.shift * self.pull;
                    c.share * self.tail(score, shift, c.square)
                })
                .sum::<f64>()
                .min(1.0)
        };
        let plain = lose(score);
        let lead = gauss::none_of(plain, n);
        if number == 0.0 || lead == 0.0 {
            return lead;
        }
        let lifted = lose(score - beside * self.pull);
        let worse = (lifted - plain).max(0.0) / (1.0 - plain).max(1e-300);
        lead * (-number * worse.min(1.0)).exp()
    }
}

/// Boundaries, in probability, of the groups into which competitors' weights are gathered.
const GROUPS: [f64; 8] = [0.2, 0.5, 0.8, 0.95, 0.99, 0.999, 0.9999, 1.0];

/// A group of competitors: probability, mean label count less one, mean squared weight of what is
/// stored.
struct Class {
    share: f64,
    shift: f64,
    square: f64,
}

fn gather(weights: &Weights) -> Vec<Class> {
    let kept: Vec<Class> = weights
        .iter()
        .filter(|(_, p)| *p > 1e-7)
        .map(|&(k, p)| Class {
            share: p,
            shift: k - 1.0,
            square: k * k,
        })
        .collect();
    // Balanced counts have two values, whose mean is nobody's weight.
    if kept.len() <= GROUPS.len() {
        return kept;
    }
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

/// What the other labels have stored.
pub(crate) struct Rivals {
    /// Mean squared weight of what is stored of a label.
    load: f64,
    classes: Vec<Class>,
}

/// Recall through the hidden layer at one setting, for any number of stored samples.
pub(crate) struct Recall {
    states: Vec<State>,
    classes: Vec<Class>,
    /// Variance of the relative class counts, `E kappa^2 - 1`.
    excess: f64,
    /// Mean square of the class weights from pairs of different samples of a label.
    pairs: f64,
    /// Weight of one sample, `V/N`.
    sample: f64,
    /// Output dimension on the sphere.
    sphere: Option<f64>,
    competitors: f64,
    outputs: Moments,
}

impl Recall {
    pub(crate) fn new(s: &Setting, mlp: &Mlp) -> Self {
        let states = gathered(states(s, mlp));
        let labels = LabelMoments::of(s);
        let excess = labels.square - 1.0;
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
        Recall {
            states,
            classes,
            excess,
            pairs: labels.pairs.max(1e-9),
            sample: s.vocab as f64 / s.samples.as_f64(),
            sphere: (s.output == Embedding::Sphere).then_some(s.dim_out as f64),
            competitors: s.vocab as f64 - 1.0,
            outputs: Moments::output(s),
        }
    }

    /// Competitors of saturated attention.
    pub(crate) fn saturated(&self) -> Rivals {
        self.rivals(1.0, 0.0)
    }

    /// Competitors where wrong attention leaves a `share` of the labels their samples at their own
    /// token. Those of the others lie at the tokens that attract wrong attention, of inverse number
    /// `crowd` (`accuracy.md`, eq. 3).
    pub(crate) fn rivals(&self, share: f64, crowd: f64) -> Rivals {
        let own = 1.0 + self.excess - self.pairs;
        let mut classes = Vec::new();
        for c in &self.classes {
            // The samples of the label with themselves; at most all of its square.
            let alone = (self.sample * (c.shift + 1.0)).min(c.square);
            let apart = alone + (c.square - alone) * share * share * crowd;
            for (part, square) in [(share, c.square), (1.0 - share, apart)] {
                if part > 1e-9 {
                    classes.push(Class {
                        share: c.share * part,
                        square,
                        ..*c
                    });
                }
            }
        }
        Rivals {
            load: own + self.pairs * share,
            classes,
        }
    }

    /// Chance of recall at the stored weight `kappa`, its label count being the same, against the
    /// given competitors and beside samples of other labels (note, section 4).
    pub(crate) fn given(&self, kappa: f64, rivals: &Rivals, foreign: Foreign) -> f64 {
        let n = self.competitors;
        let overlap = self.outputs.overlap;
        let mut total = 0.0;
        for state in &self.states {
            let beside = foreign.weight * state.signal;
            let stored = n * (rivals.load * state.variance + self.excess * state.mean * state.mean)
                + foreign.number * beside * beside;
            let (chi, scatter) = if overlap > 0.0 {
                (2.0 * overlap, rivals.scatter(state) / n)
            } else {
                (0.0, 0.0)
            };
            let direction = (1.0 + chi) * (1.0 + scatter) - 1.0;
            // Share of the scatter that is due to the coefficients, in the logarithm.
            let coefficients = scatter.ln_1p() / direction.ln_1p().max(f64::MIN_POSITIVE);
            // Unit vectors follow a pull less than in proportion, so that it must be stronger.
            let bound = if self.sphere.is_some() {
                scatter + 1.0 / n
            } else {
                0.0
            };
            let signal = kappa * state.signal + state.mean * (kappa - 1.0);
            for &(zz, wz) in &norm_nodes(&HERMITE_3, self.outputs.norm_variance) {
                for &(x, wx) in &norm_nodes(&HERMITE_3, direction) {
                    let eta = if overlap > 0.0 { x * stored } else { 0.0 };
                    let scaled = x.powf(coefficients);
                    let reach = if eta * zz > 0.0 { 9 } else { 0 };
                    let (mut sum, mut mass) = (0.0, 0.0);
                    for i in -reach..=reach {
                        let g = f64::from(i) * 0.45;
                        let w = gauss::pdf(g);
                        let o = if reach > 0 {
                            own_noise(g, eta * zz, overlap, self.sphere)
                        } else {
                            0.0
                        };
                        let along = eta + signal * o;
                        let pull = if eta > 0.0 {
                            let pull = along / (stored * scaled);
                            pull * (1.0 + bound * pull)
                        } else {
                            1.0
                        };
                        let field = Field {
                            state,
                            common: overlap * (along + signal * o + signal * signal * zz).max(0.0),
                            pull,
                            coefficients: scaled,
                            sphere: self.sphere,
                        };
                        let score = signal * zz + o;
                        sum += w * field.beat_all(score, rivals, n, foreign.number, beside);
                        mass += w;
                    }
                    total += state.weight * wz * wx * sum / mass;
                }
            }
        }
        total.min(1.0)
    }

    /// [`Recall::given`] at `kappa = k unit` for `k = 0..=top`, by interpolation between at most
    /// [`POINTS`] of them.
    pub(crate) fn curve(&self, unit: f64, top: usize, rivals: &Rivals) -> Vec<f64> {
        let stride = top.div_ceil(POINTS).max(1);
        let knots: Vec<f64> = (0..=top.div_ceil(stride))
            .map(|i| self.given((i * stride) as f64 * unit, rivals, Foreign::NONE))
            .collect();
        (0..=top)
            .map(|k| {
                let (i, t) = (k / stride, (k % stride) as f64 / stride as f64);
                let next = knots.get(i + 1).or(knots.last()).copied().unwrap_or(0.0);
                knots[i] * (1.0 - t) + next * t
            })
            .collect()
    }

    /// Ratio of two means over the states; 0 where the second is not positive.
    fn ratio_of_means(&self, above: fn(&State) -> f64, below: fn(&State) -> f64) -> f64 {
        let mean =
            |f: fn(&State) -> f64| -> f64 { self.states.iter().map(|t| t.weight * f(t)).sum() };
        let under = mean(below);
        if under > 0.0 {
            mean(above) / under
        } else {
            0.0
        }
    }

    /// Mean `Kbar` over mean `K_uu - Kbar`.
    pub(crate) fn mean_over_signal(&self) -> f64 {
        self.ratio_of_means(|t| t.mean, |t| t.signal)
    }

    /// Share of the linear interference in the variance of the kernel over the other tokens.
    pub(crate) fn linear_share(&self) -> f64 {
        self.ratio_of_means(|t| t.linear, |t| t.variance)
    }

    /// Mean square of the class weights, split into pairs of different samples and samples with
    /// themselves.
    pub(crate) fn pairs_and_own(&self) -> (f64, f64) {
        (self.pairs, 1.0 + self.excess - self.pairs)
    }
}

impl Rivals {
    /// Relative variance of a squared coefficient `(kappa Delta + Kbar (count - 1))^2` over
    /// competitors, from the law of the weights and the third and fourth cumulant of the kernel.
    fn scatter(&self, state: &State) -> f64 {
        let (mut second, mut fourth) = (0.0, 0.0);
        // A positive excess is due to rare units and dropped, as in (4).
        let kurtosis = 3.0 + state.excess.min(0.0);
        for c in &self.classes {
            let own = c.square * state.variance;
            let shift = state.mean * c.shift;
            let shift2 = shift * shift;
            second += c.share * (own + shift2);
            fourth += c.share
                * (kurtosis * own * own
                    + 4.0 * state.skew * own.powf(1.5) * shift
                    + 6.0 * own * shift2
                    + shift2 * shift2);
        }
        if second > 0.0 {
            (fourth / (second * second) - 1.0).max(0.0)
        } else {
            0.0
        }
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
    let rivals = recall.saturated();
    if is_dense(s) {
        return weights
            .iter()
            .map(|&(kappa, p)| p * recall.given(kappa, &rivals, Foreign::NONE))
            .sum::<f64>()
            .clamp(0.0, 1.0);
    }
    let top = weights.iter().rposition(|w| w.1 > 1e-5).unwrap_or(0);
    let unit = s.vocab as f64 / s.samples.as_f64();
    recall
        .curve(unit, top, &rivals)
        .iter()
        .zip(&weights)
        .map(|(r, w)| r * w.1)
        .sum::<f64>()
        .clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units of `phi = He_2/sqrt 2` whose other rows have the cumulants 1, 2 and 3.
    fn units() -> Vec<UnitNode> {
        crate::mlp::hermite::normal_nodes()
            .iter()
            .map(|&(g, weight)| {
                let f = (g * g - 1.0) / 2f64.sqrt();
                UnitNode {
                    weight,
                    own: f * f,
                    cumulants: [f * f, 2.0 * f.powi(3), 3.0 * f.powi(4)],
                }
            })
            .collect()
    }

    #[test]
    fn cumulants_given_the_own_value_are_those_of_drawn_units() {
        let width = 16;
        let law = own_kernel_law(&units(), width);
        let total: f64 = law.iter().map(|b| b.probability).sum();
        let mean: f64 = law.iter().map(|b| b.probability * b.value).sum();
        assert!((total - 1.0).abs() < 1e-9);
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        // Sums over drawn units, sorted by K_uu.
        let mut state = 3u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        let mut drawn: Vec<[f64; 3]> = (0..40_000)
            .map(|_| {
                let mut sums = [0.0; 3];
                for _ in 0..width {
                    let r = (-2.0 * uniform().ln()).sqrt();
                    let g = r * (std::f64::consts::TAU * uniform()).cos();
                    let f = (g * g - 1.0) / 2f64.sqrt();
                    sums[0] += f * f;
                    sums[1] += 2.0 * f.powi(3);
                    sums[2] += 3.0 * f.powi(4);
                }
                sums
            })
            .collect();
        drawn.sort_by(|a, b| a[0].total_cmp(&b[0]));
        for (bin, part) in law.iter().zip(drawn.chunks(drawn.len() / BINS)) {
            let mean = |i: usize| part.iter().map(|s| s[i]).sum::<f64>() / part.len() as f64;
            let (x, skew, excess) = (
                mean(0) / width as f64,
                mean(1) / mean(0).powf(1.5),
                mean(2) / mean(0).powi(2),
            );
            assert!((bin.value / x - 1.0).abs() < 0.05, "{bin:?} {x}");
            assert!((bin.noise / x - 1.0).abs() < 0.05, "{bin:?} {x}");
            assert!((bin.skew - skew).abs() < 0.05, "{bin:?} {skew}");
            assert!((bin.excess - excess).abs() < 0.1, "{bin:?} {excess}");
        }
    }

    /// Degree 4 at width 1024: the own kernel value has a relative variance of .6, made by few units. The
    /// lowest eighth of the tokens has .47 of the mean, where a Gamma law of that variance has .14.
    /// The grid, of 13 mean terms a cell, widens the lower end by 6 %.
    #[test]
    fn few_units_make_the_own_value_of_wide_layers() {
        use crate::test_random::Lcg;
        let phi = |g: f64| (g.powi(4) - 6.0 * g * g + 3.0) / 24f64.sqrt();
        let units: Vec<UnitNode> = crate::mlp::hermite::normal_nodes()
            .iter()
            .map(|&(g, weight)| UnitNode {
                weight,
                own: phi(g).powi(2),
                cumulants: [phi(g).powi(2), 0.0, 0.0],
            })
            .collect();
        let width = 1024;
        let law = own_kernel_law(&units, width);
        let mut rng = Lcg(7);
        let mut drawn: Vec<f64> = (0..8000)
            .map(|_| {
                let sum: f64 = (0..width).map(|_| phi(rng.normal()).powi(2)).sum();
                sum / width as f64
            })
            .collect();
        drawn.sort_by(f64::total_cmp);
        assert_eq!(law.len(), BINS);
        // The mean of the last bin is made by too few of the drawn.
        for (bin, part) in law
            .iter()
            .zip(drawn.chunks(drawn.len() / BINS))
            .take(BINS - 1)
        {
            let x = part.iter().sum::<f64>() / part.len() as f64;
            assert!((bin.value / x - 1.0).abs() < 0.08, "{bin:?} {x}");
        }
    }

    /// Equation (4) against laws it is exact for, up to the cube's and the root's own error.
    #[test]
    fn scores_give_the_tails_of_known_laws() {
        for x in [0.5, 1.0, 2.0, 3.0, 4.0] {
            // The exponential law: skewness 2.
            let exact = (-1.0f64 - x).exp();
            let stated = gauss::cdf(-normal_score(x, 2.0, 6.0));
            assert!((stated / exact - 1.0).abs() < 0.1, "{x} {stated} {exact}");
        }
        for u in [0.2f64, 0.5, 0.8, 0.9] {
            // A coordinate of a unit vector in five dimensions: density 3/4 (1 - u^2).
            let exact = 0.5 - 0.75 * (u - u.powi(3) / 3.0);
            let stated = gauss::cdf(-normal_score(u * 5f64.sqrt(), 0.0, -6.0 / 7.0));
            assert!(
                (stated - exact).abs() < 0.02 * exact + 0.002,
                "{u} {stated} {exact}"
            );
        }
    }

    /// Recall by (1) with drawn layers, inputs and outputs, of an even activation in a wide layer: unit
    /// outputs, where it fails without the bound of the whole score (.07 too low), and normal ones.
    #[test]
    fn recall_of_drawn_layers_with_dense_outputs() {
        use crate::test_random::{Lcg, dot, mean_and_covariance};
        let (v, d, m, trials) = (150usize, 20usize, 240usize, 60);
        for (unit, samples) in [(true, 300u64), (true, 1200), (false, 1200)] {
            let mlp = Mlp {
                activation: "abs:0,1".parse().expect("known"),
                width: m,
                input: crate::setting::MlpInput::Rms,
                rows: crate::setting::MlpRows::Gaussian,
            };
            let law = if unit {
                Embedding::Sphere
            } else {
                Embedding::Gaussian
            };
            let s = Setting::new(v, d, 5, samples)
                .with_embeddings(law, law)
                .with_mlp(mlp);
            let mut rng = Lcg(19);
            let mut rates = Vec::new();
            for _ in 0..trials {
                let output = rng.table(v, d, unit);
                let (centre, _) = mean_and_covariance(&output);
                let features = rng.features(mlp.activation, v, d, m);
                let mut kappa = vec![0.0; v];
                for _ in 0..samples {
                    kappa[rng.below(v)] += v as f64 / samples as f64;
                }
                let right = (0..v).filter(|&u| {
                    let mut read = vec![0.0; d];
                    for ((k, z), f) in kappa.iter().zip(&output).zip(&features) {
                        let weight = k * dot(f, &features[u]);
                        for ((x, a), c) in read.iter_mut().zip(z).zip(&centre) {
                            *x += weight * (a - c);
                        }
                    }
                    let own = dot(&output[u], &read);
                    (0..v).all(|j| j == u || dot(&output[j], &read) < own)
                });
                rates.push(right.count() as f64 / v as f64);
            }
            let n = rates.len() as f64;
            let measured = rates.iter().sum::<f64>() / n;
            let error = rates
                .iter()
                .map(|x| (x - measured).powi(2))
                .sum::<f64>()
                .sqrt()
                / n;
            let stated = recall_accuracy(&s, &mlp);
            assert!(
                (measured - stated).abs() < 2.0 * error + 0.01,
                "{unit} {samples}: {measured} +- {error}, stated {stated}"
            );
        }
    }
}
