//! Attention accuracy and end-to-end accuracy. Derivation: `accuracy.md`.

use crate::attention::{TrialBudget, imbalance_fluctuation, nominal_signal};
use crate::gauss;
use crate::moments::Moments;
use crate::quadrature::{HERMITE_5, HERMITE_7, factor_nodes, norm_nodes};
use crate::recall::{Foreign, Weights, class_weights, is_dense, recall_beside, recall_given};
use crate::setting::{Attention, Embedding, Labels, Model, Samples, Setting};

mod lattice;

use lattice::{CountedState, Lattice};

/// One state of a trial: the score advantage of the informative position over the noise.
#[derive(Debug, Clone, Copy, PartialEq)]
struct TrialState {
    weight: f64,
    /// `w . z_trig` over the spread of the token scores.
    ratio: f64,
    /// `w . z_trig` over its mean.
    relative_signal: f64,
    /// Coincidences that move the score of a token; none unless they are counted.
    counts: Counts,
    /// Law of the token scores over the vocabulary.
    shape: Shape,
}

/// Coincidences of a token, each kind of Poisson number, by mean number and what one adds to its
/// score in units of the spread.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Counts {
    /// Those that the token takes part in, which lift it: two occurrences, and three.
    own: (f64, f64),
    triple: (f64, f64),
    /// Those of other tokens in its sequences, which lower it.
    others: (f64, f64),
}

impl Counts {
    const NONE: Counts = Counts {
        own: (0.0, 0.0),
        triple: (0.0, 0.0),
        others: (0.0, 0.0),
    };

    /// Scores and their probabilities.
    fn scores(self) -> Vec<(f64, f64)> {
        let mut scores = vec![(0.0, 1.0)];
        for (mean, step) in [self.own, self.triple, self.others] {
            let law = crate::recall::poisson(mean);
            let law = || law.iter().enumerate().filter(|x| *x.1 > RARE);
            scores = scores
                .iter()
                .flat_map(|&(x, p)| law().map(move |(k, q)| (x + k as f64 * step, p * q)))
                .filter(|x| x.1 > RARE)
                .collect();
        }
        scores
    }
}

/// Law of the token scores of one query, in units of their spread.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    /// Normal.
    Normal,
    /// Coordinates of unit vectors in `dim` dimensions, which the query holds itself: `own` is the
    /// excess of their variance over that of vectors it does not. `skew` is that of their law
    /// against the mean embedding, over -6 (note, eq. 13).
    UnitVectors { dim: f64, own: f64, skew: f64 },
    /// Sums of many coincidences of positive skewness: a gamma law of this shape (note, eq. 15).
    Gamma { shape: f64 },
}

impl Shape {
    /// At a query with token scores of variance `spread2`, of which `bias2` is the mean bias, and of
    /// third cumulant `cube`; of variance `common` for vectors that are not in the table.
    fn of(s: &Setting, spread2: f64, bias2: f64, common: f64, cube: f64) -> Self {
        if s.input == Embedding::Gaussian {
            return Shape::skewed(spread2, cube);
        }
        // In few dimensions no coordinate has a density that falls towards one.
        if s.dim_in < 4 || common <= 0.0 || spread2 <= 0.0 {
            return Shape::Normal;
        }
        let dim = s.dim_in as f64;
        Shape::UnitVectors {
            dim,
            own: (spread2 / common - 1.0).max(0.0),
            skew: (bias2 / (spread2 * s.vocab as f64 * dim)).sqrt()
                - cube / (6.0 * spread2.powf(1.5)),
        }
    }

    /// With a third cumulant of the scores.
    fn skewed(spread2: f64, cube: f64) -> Self {
        if cube <= 0.0 || spread2 <= 0.0 {
            return Shape::Normal;
        }
        // The skewness of a gamma law is 2/sqrt(shape).
        let shape = 4.0 * spread2.powi(3) / (cube * cube);
        if shape > NORMAL {
            return Shape::Normal;
        }
        Shape::Gamma { shape }
    }

    /// Normal score of a token score.
    fn normal(self, score: f64) -> f64 {
        match self {
            Shape::Normal => score,
            Shape::Gamma { shape } => {
                let root = shape.sqrt();
                // No score is below the end of the law, where the cube root still is finite.
                if score <= -root {
                    return f64::NEG_INFINITY;
                }
                let cube = (1.0 + score / root).cbrt();
                3.0 * root * (cube - 1.0 + 1.0 / (9.0 * shape))
            }
            Shape::UnitVectors { dim, own, skew } => {
                let u2 = score * score * (1.0 + own) / dim;
                if u2 >= 1.0 {
                    return f64::INFINITY.copysign(score);
                }
                let x2 = (dim - 1.5) * (-(-u2).ln_1p() - u2 * own / (1.0 + own)).max(0.0);
                x2.sqrt().copysign(score) + skew * (x2 - 1.0)
            }
        }
    }

    /// Token score of a normal score: the inverse of [`Shape::normal`].
    fn score(self, normal: f64) -> f64 {
        match self {
            Shape::Normal => normal,
            Shape::Gamma { shape } => {
                let root = shape.sqrt();
                let cube = (1.0 - 1.0 / (9.0 * shape) + normal / (3.0 * root)).max(0.0);
                root * (cube.powi(3) - 1.0)
            }
            Shape::UnitVectors { dim, own, .. } => {
                let bound = (dim / (1.0 + own)).sqrt();
                let (mut low, mut high) = (-bound, bound);
                for _ in 0..30 {
                    let middle = 0.5 * (low + high);
                    if self.normal(middle) < normal {
                        low = middle;
                    } else {
                        high = middle;
                    }
                }
                low
            }
        }
    }
}

/// Most coincidences per token that are counted.
const COUNTED_COINCIDENCES: f64 = 3.0;

/// Shapes of the gamma law from which on it replaces the counts: half a coincidence a token, and
/// with dense outputs a law with a mode.
const SMOOTH: f64 = 2.0;
const SMOOTH_DENSE: f64 = 1.0;

/// Shape from which on a gamma law is normal: its normal score differs by less than rounding.
const NORMAL: f64 = 1e12;

/// Probability below which a count is left out.
const RARE: f64 = 1e-5;

/// The same for the token itself, of which there is one.
const RARE_OWN: f64 = 3e-4;

/// Smallest spread, in steps, beside counts: it only breaks their ties.
const TIE: f64 = 1e-3;

/// Third cumulant of a token's score from the coincidences in a batch of tokens that do not
/// interfere, in units of `S0^3` (note, eq. 15), by the sizes of the classes and their numbers.
fn coincidence_cube(s: &Setting, classes: &[(f64, f64)]) -> f64 {
    let Samples::Finite(samples) = s.samples else {
        return 0.0;
    };
    let (v, n) = (s.vocab as f64, samples as f64);
    let rate = (s.len as f64 - 1.0) / v;
    let mean: f64 = classes.iter().map(|(k, c)| c * k * (k - 1.0)).sum::<f64>() / v;
    let cube: f64 = classes
        .iter()
        .map(|&(k, number)| {
            // Occurrences are Poisson of mean m; of their deviation x the class reads x^2 + b x.
            let m = k * rate;
            let b = m - 1.0 - rate * n / v;
            let repeats = m
                + 22.0 * m * m
                + 8.0 * m.powi(3)
                + 3.0 * b * (m + 8.0 * m * m)
                + 3.0 * b * b * (m + 2.0 * m * m)
                + b.powi(3) * m;
            number * (repeats + (k * (k - 1.0) - mean).powi(3) / v)
        })
        .sum();
    // The centring over labels takes x^2/V of all occurrences of the token.
    let joint: f64 = classes
        .iter()
        .map(|&(k, number)| number * k * rate * (k * rate - rate * n / v))
        .sum();
    (0.5 * coincidence_step(s, n)).powi(3) * (cube - 6.0 * joint * joint / v)
}

/// Sizes of the classes and how many there are of each.
fn class_sizes(s: &Setting) -> Vec<(f64, f64)> {
    let Samples::Finite(samples) = s.samples else {
        return Vec::new();
    };
    let v = s.vocab as f64;
    match s.labels {
        Labels::Balanced => {
            let extra = (samples % s.vocab as u64) as f64;
            let k = (samples / s.vocab as u64) as f64;
            vec![(k, v - extra), (k + 1.0, extra)]
        }
        Labels::Iid => crate::recall::poisson(samples as f64 / v)
            .into_iter()
            .enumerate()
            .map(|(k, p)| (k as f64, v * p))
            .collect(),
    }
}

/// Third cumulant of a token's score, in units of `S0^3`, from its repeats within a sequence together
/// with what it meets in other sequences, and with the `imbalance` that reads it, per unit of which
/// it counts as a repeat rate (note, eq. 15). 0 for tokens that interfere.
fn repeats_cube(s: &Setting, zo: &Moments, imbalance: f64) -> f64 {
    let Samples::Finite(samples) = s.samples else {
        return 0.0;
    };
    if s.input != Embedding::Orthonormal {
        return 0.0;
    }
    let n = samples as f64;
    let rate = (s.len as f64 - 1.0) / s.vocab as f64;
    let unit = 0.5 * coincidence_step(s, n);
    // Class mates are counted by themselves.
    let others = (zo.t2 - zo.diagonal_squared / s.vocab as f64).max(0.0);
    unit.powi(3) * n * n * others * rate.powi(3) * (36.0 + 21.0 * imbalance)
}

/// Score that one coincidence gives to its token: `2 l V/N^2`.
fn coincidence_step(s: &Setting, samples: f64) -> f64 {
    2.0 * (1.0 - 1.0 / s.len as f64) * s.vocab as f64 / (samples * samples)
}

/// Number of distinct competitors of the informative token (note, eq. 2):
/// `(V - 1)(1 - (1 - 1/V)^{L-1})`.
#[must_use]
pub fn effective_competitors(s: &Setting) -> f64 {
    let v = s.vocab as f64;
    (v - 1.0) * -((s.len as f64 - 1.0) * (-1.0 / v).ln_1p()).exp_m1()
}

/// Relative variance between trials of the variance of the token scores at a given label
/// imbalance (note, eq. 6): `w'^T Sigma w'` of a Gaussian `w'` of covariance `C` has
/// `2 tr (C Sigma)^2 / (tr C Sigma)^2`; the mean bias has `C ~ Sigma^2`, the rest `C ~ Sigma`.
fn spread_fluctuation(zi: &Moments, bias_share: f64) -> f64 {
    if zi.overlap == 0.0 {
        return 0.0;
    }
    let rest = 1.0 - bias_share;
    2.0 * (bias_share * bias_share * zi.t6 / zi.t3.powi(2) + rest * rest * zi.t4 / zi.t2.powi(2))
}

fn trial_states(s: &Setting) -> Vec<TrialState> {
    let (zi, zo) = (Moments::input(s), Moments::output(s));
    let nominal = nominal_signal(s);
    let mut states = Vec::new();
    let samples = s.samples.as_f64();
    let cube = if s.input == Embedding::Orthonormal && samples.is_finite() {
        coincidence_cube(s, &class_sizes(s))
    } else {
        0.0
    };
    let imbalance = if crate::labels::LabelMoments::of(s).imbalance > 0.0 {
        imbalance_fluctuation(&zo)
    } else {
        0.0
    };
    // With iid labels the batch's own imbalance reads along.
    let counted = match s.labels {
        Labels::Iid => (s.len as f64 - 1.0) / s.vocab as f64,
        Labels::Balanced => 0.0,
    };
    // Skewness of a squared length in the output space (note, eq. 15).
    let squared = if zo.overlap > 0.0 {
        8f64.sqrt() * zo.t3 / zo.t2.powf(1.5)
    } else {
        0.0
    };
    for &(h, wh) in &norm_nodes(&HERMITE_5, imbalance) {
        let b = TrialBudget::new(s, h);
        let lengths = squared * b.gradient_noise.max(0.0).powf(1.5) * (1.0 + 0.75 * counted)
            + repeats_cube(s, &zo, counted);
        let fluctuation = spread_fluctuation(&zi, b.bias_share);
        for &(z, wz) in &norm_nodes(&HERMITE_5, zi.norm_variance) {
            for &(f, wf) in &factor_nodes(&HERMITE_5, fluctuation) {
                let quiet = f * b.quiet;
                if let Some(lattice) = Lattice::of(s, quiet) {
                    for c in lattice.states() {
                        let t = counted_state(s, &lattice, &c, quiet, lengths);
                        states.push(TrialState {
                            weight: wh * wz * wf * t.weight,
                            ..t
                        });
                    }
                    continue;
                }
                let bias = f * b.bias_share * b.quiet;
                let (mean, variance) = b.score(z, f);
                let steps = score_nodes(|x| {
                    let spread2 = quiet + b.crosstalk(z, variance, x);
                    ratio(mean + variance.sqrt() * x, spread2.sqrt())
                });
                for (x, wx) in steps {
                    let crosstalk = b.crosstalk(z, variance, x);
                    let sd = (quiet + crosstalk).sqrt();
                    let shape = if s.input == Embedding::Orthonormal {
                        Shape::skewed(sd * sd, cube + lengths)
                    } else {
                        let common = f * b.trigger_score_variance + crosstalk;
                        Shape::of(s, sd * sd, bias, common, f.powf(1.5) * b.cube)
                    };
                    let score = mean + variance.sqrt() * x;
                    states.push(TrialState {
                        weight: wh * wz * wf * wx,
                        ratio: ratio(score, sd),
                        relative_signal: if nominal > 0.0 { score / nominal } else { 0.0 },
                        counts: Counts::NONE,
                        shape,
                    });
                }
            }
        }
    }
    states
}

/// State of a trial with a counted signal: token scores of variance `spread2` on average, of which
/// what different sequences write has the third cumulant `lengths`.
fn counted_state(
    s: &Setting,
    lattice: &Lattice,
    c: &CountedState,
    spread2: f64,
    lengths: f64,
) -> TrialState {
    let (v, nominal) = (s.vocab as f64, nominal_signal(s));
    let [lift, thrice, fall] = lattice.steps(c.events);
    let all = spread2 + lift * lift * (c.events - lattice.mean_events()) / v;
    let cube = coincidence_cube(s, &lattice.classes(c.pairs)) + lengths;
    let skewed = Shape::skewed(all, cube);
    let smooth = if lattice.dense.is_some() {
        SMOOTH_DENSE
    } else {
        SMOOTH
    };
    let many = c.events > COUNTED_COINCIDENCES * v
        || matches!(skewed, Shape::Gamma { shape } if shape >= smooth);
    let (spread, counts, shape) = if many {
        (all.max(0.0).sqrt(), Counts::NONE, skewed)
    } else {
        let (others, rest) = lattice.background(c.events);
        let spread = rest.max(TIE * lift);
        let triple = lattice.triples(c.pairs).min(c.events / (3.0 * v));
        let counts = Counts {
            own: (c.events / v - 3.0 * triple, lift / spread),
            triple: (triple, thrice / spread),
            others: (others, fall / spread),
        };
        (spread, counts, Shape::Normal)
    };
    TrialState {
        weight: c.weight,
        ratio: ratio(c.signal, spread),
        relative_signal: if nominal > 0.0 {
            c.signal / nominal
        } else {
            0.0
        },
        counts,
        shape,
    }
}

/// A score in units of the spread.
fn ratio(score: f64, sd: f64) -> f64 {
    if sd > 0.0 {
        score / sd
    } else {
        f64::INFINITY.copysign(score)
    }
}

/// Rise of the ratio from one node of the Gaussian rule to the next, where attention is neither
/// certain nor hopeless, from which on the rule is too coarse, and that of equal steps instead.
const COARSE: f64 = 1.8;
const STEP: f64 = 1.5;
const UNDECIDED: std::ops::Range<f64> = -2.0..7.0;

/// Nodes of the noise at the trigger, in standard deviations, for a state's `ratio` as a function of
/// it (note, section 3, *Quadrature*).
fn score_nodes(ratio: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    let mut known: Vec<(f64, f64)> = HERMITE_7.iter().map(|x| (x.0, ratio(x.0))).collect();
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let slope = known
        .windows(2)
        .filter(|p| p[1].1 > UNDECIDED.start && p[0].1 < UNDECIDED.end)
        .map(|p| (p[1].1 - p[0].1) / (p[1].0 - p[0].0))
        .fold(0.0, f64::max);
    let gap = known[4].0 - known[3].0;
    if !slope.is_finite() || slope * gap <= COARSE {
        return HERMITE_7.to_vec();
    }
    let step = (STEP / slope).max(0.05);
    let reach = (5.0 / step).ceil() as i32;
    let total: f64 = (-reach..=reach)
        .map(|i| gauss::pdf(f64::from(i) * step))
        .sum();
    (-reach..=reach)
        .map(|i| f64::from(i) * step)
        .map(|x| (x, gauss::pdf(x) / total))
        .collect()
}

/// Nodes for the token's own score.
fn token_nodes() -> impl Iterator<Item = (f64, f64)> {
    let total: f64 = (-24..=24).map(|i| gauss::pdf(f64::from(i) * 0.25)).sum();
    (-24..=24).map(move |i| {
        let g = f64::from(i) * 0.25;
        (g, gauss::pdf(g) / total)
    })
}

/// Chance that a token is attended in a state, by its own score.
struct Hit {
    state: TrialState,
    competitors: f64,
    /// Scores of the coincidences and their probabilities; none where they are not counted.
    counts: Vec<(f64, f64)>,
    /// The highest of them.
    top: f64,
}

/// Standard deviations beyond which no competitor gets.
const SURE: f64 = 7.0;

impl Hit {
    fn new(state: TrialState, competitors: f64) -> Self {
        let counts = if state.counts == Counts::NONE {
            Vec::new()
        } else {
            state.counts.scores()
        };
        let top = counts.iter().fold(0.0, |a: f64, x| a.max(x.0));
        Hit {
            state,
            competitors,
            counts,
            top,
        }
    }

    /// At a score of normal score `g` beside the coincidences: `Phi(r + g)^n` with scores of the
    /// state's shape, or where coincidences are counted its mean over those of the token and of each
    /// competitor.
    fn at(&self, g: f64) -> f64 {
        let (t, n) = (&self.state, self.competitors);
        if t.ratio.is_infinite() {
            return if t.ratio > 0.0 { 1.0 } else { 0.0 };
        }
        if self.counts.is_empty() {
            let score = t.ratio + t.shape.score(g);
            return gauss::cdf_power(t.shape.normal(score), n);
        }
        self.counts
            .iter()
            .filter(|own| own.1 > RARE_OWN)
            .map(|&(own, weight)| {
                let ahead = t.ratio + g + own;
                if ahead > self.top + SURE {
                    return weight;
                }
                let lose: f64 = self
                    .counts
                    .iter()
                    .map(|&(score, p)| p * gauss::cdf(score - ahead))
                    .sum();
                weight * gauss::none_of(lose, n)
            })
            .sum()
    }

    /// Mean over the token's own score.
    fn mean(&self) -> f64 {
        token_nodes().map(|(g, w)| w * self.at(g)).sum()
    }
}

/// Accuracy of argmax attention on fresh sequences (note, eq. 7).
#[must_use]
pub fn attention_accuracy(s: &Setting) -> f64 {
    if let Model::Mlp(mlp) = &s.model {
        return crate::mlp::accuracy::attention_accuracy(s, mlp);
    }
    let n = effective_competitors(s);
    trial_states(s)
        .iter()
        .map(|t| t.weight * Hit::new(*t, n).mean())
        .sum()
}

/// Accuracy of argmax attention where the informative position is ahead by `advantage` more, in
/// units of `S0`.
pub(crate) fn advanced_attention_accuracy(s: &Setting, advantage: f64) -> f64 {
    let (n, nominal) = (effective_competitors(s), nominal_signal(s));
    trial_states(s)
        .iter()
        .map(|t| {
            let score = t.relative_signal * nominal;
            let ratio = if score != 0.0 && t.ratio.is_finite() {
                t.ratio * (1.0 + advantage / score)
            } else {
                t.ratio
            };
            let ahead = TrialState { ratio, ..*t };
            t.weight * Hit::new(ahead, n).mean()
        })
        .sum()
}

/// Step of the weight where classes have too many samples to count, and the cells kept.
const GRID: f64 = 1.0 / 16.0;
const DENSE_CELLS: usize = 24;

/// Mean square of the class weights, split into pairs of different samples and samples with
/// themselves. Without pairs (balanced labels, `N <= V`) the first is kept positive.
fn pairs_and_own(s: &Setting) -> (f64, f64) {
    let labels = crate::labels::LabelMoments::of(s);
    (labels.pairs.max(1e-9), labels.square - labels.pairs)
}

/// Weights of competing labels where wrong attention leaves the mean square `load`. Attention is a
/// step of the token's score, so that a share of the labels has all its samples at its own token, and
/// the others have theirs at the tokens that attract wrong attention, of inverse number `crowd`; there
/// the root of the sum of squares counts (note, section 4).
fn stored_weights(s: &Setting, weights: &Weights, load: f64, crowd: f64) -> Weights {
    let (pairs, own) = pairs_and_own(s);
    let share = ((load - own) / pairs).clamp(0.0, 1.0);
    if s.trigger_in_values || share > 1.0 - 1e-9 {
        // With the trigger in the values the weight is that of its association as well.
        return weights.clone();
    }
    let apart = own + pairs * share * share * crowd;
    let mut mixed: Weights = weights.iter().map(|&(k, p)| (k, p * share)).collect();
    mixed.push((apart.sqrt(), 1.0 - share));
    mixed
}

/// Recall probabilities by number of hits, tabulated once for a few loads.
struct RecallTable {
    loads: Vec<f64>,
    /// `recall[load][k]` for `kappa = k V/N`, or `kappa = k GRID` where classes are dense.
    recall: Vec<Vec<f64>>,
    unit: f64,
    /// What foreign samples leave of it; not needed where classes are dense.
    foreign: Option<ForeignTable>,
}

/// Loss to labels that wrong attention has stored at the token (note, eq. 16).
struct ForeignTable {
    /// Numbers of own hits that are tabulated.
    hits: Vec<usize>,
    /// `rate[number][hits]`: `-log` of the share of right answers kept, per foreign sample, numbers
    /// in the order of [`FOREIGN`].
    rate: Vec<Vec<f64>>,
}

/// Mean numbers of foreign samples at which their effect is tabulated.
const FOREIGN: [f64; 5] = [0.2, 1.0, 4.0, 12.0, 36.0];

impl ForeignTable {
    fn new(s: &Setting, weights: &Weights, load: f64, clean: &[f64], clutter: f64) -> Self {
        let unit = sample_weight(s);
        let mut hits = Vec::new();
        let mut k = 0;
        while k < clean.len() {
            hits.push(k);
            k += 1 + k / 4;
        }
        let rate = FOREIGN
            .iter()
            .map(|&number| {
                let foreign = Foreign {
                    number,
                    weight: unit,
                };
                hits.iter()
                    .map(|&k| {
                        let kappa = k as f64 * unit;
                        let kept = recall_beside(s, kappa, load, weights, clutter, foreign);
                        let share = kept.max(1e-300) / clean[k].max(1e-300);
                        -share.min(1.0).ln() / number
                    })
                    .collect()
            })
            .collect();
        ForeignTable { hits, rate }
    }

    /// Share of right answers kept, interpolated in the logarithm of the number and in the hits.
    fn kept(&self, k: usize, number: f64) -> f64 {
        if number <= 0.0 {
            return 1.0;
        }
        let along = |row: &[f64]| {
            let i = self.hits.partition_point(|h| *h <= k).max(1) - 1;
            let Some(next) = self.hits.get(i + 1) else {
                return row[i];
            };
            let t = (k - self.hits[i]) as f64 / (next - self.hits[i]) as f64;
            row[i] * (1.0 - t) + row[i + 1] * t
        };
        let i = FOREIGN
            .partition_point(|x| *x <= number)
            .clamp(1, FOREIGN.len() - 1);
        let (low, high) = (FOREIGN[i - 1], FOREIGN[i]);
        let t = ((number / low).ln() / (high / low).ln()).clamp(0.0, 1.0);
        let rate = along(&self.rate[i - 1]) * (1.0 - t) + along(&self.rate[i]) * t;
        (-number * rate).exp()
    }
}

impl RecallTable {
    fn new(s: &Setting, clutter: f64, crowd: f64) -> Self {
        let weights = class_weights(s, 1.0);
        let (unit, top) = if is_dense(s) {
            (GRID, DENSE_CELLS)
        } else {
            let top = weights.iter().rposition(|w| w.1 > 1e-7).unwrap_or(0);
            (sample_weight(s), top)
        };
        let (pairs, own) = pairs_and_own(s);
        let loads: Vec<f64> = [0.25, 0.6, 1.0].iter().map(|a| a * pairs + own).collect();
        let recall = loads
            .iter()
            .map(|&load| {
                let competitors = stored_weights(s, &weights, load, crowd);
                let mut row = Vec::with_capacity(top + 1);
                for k in 0..=top {
                    // Once sure, more hits change nothing.
                    let sure = row.last().is_some_and(|p| *p > 1.0 - 1e-12);
                    row.push(if sure {
                        1.0
                    } else {
                        recall_given(s, k as f64 * unit, load, &competitors, clutter)
                    });
                }
                row
            })
            .collect();
        RecallTable {
            loads,
            recall,
            unit,
            foreign: None,
        }
    }

    /// Tabulates the loss to foreign samples too.
    fn with_foreign(mut self, s: &Setting, clutter: f64, crowd: f64) -> Self {
        if !is_dense(s) {
            let (load, clean) = (self.loads[1], &self.recall[1]);
            let weights = stored_weights(s, &class_weights(s, 1.0), load, crowd);
            self.foreign = Some(ForeignTable::new(s, &weights, load, clean, clutter));
        }
        self
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
        if is_dense(s) {
            // One foreign sample weighs nothing here.
            return class_weights(s, attention)
                .iter()
                .map(|&(kappa, p)| {
                    let x = (kappa / self.unit).min(DENSE_CELLS as f64);
                    let k = (x as usize).min(DENSE_CELLS - 1);
                    let t = x - k as f64;
                    p * (self.at(k, load) * (1.0 - t) + self.at(k + 1, load) * t)
                })
                .sum();
        }
        class_weights(s, attention)
            .iter()
            .enumerate()
            .filter(|(_, w)| w.1 > 1e-7)
            .map(|(k, &(_, p))| {
                let kept = self.foreign.as_ref().map_or(1.0, |f| f.kept(k, wrong));
                p * self.at(k, load) * kept
            })
            .sum()
    }
}

/// End-to-end accuracy on fresh sequences: the informative token is attended, and its label
/// recalled from a value matrix learned with the same attention (note, eq. 9).
#[must_use]
pub fn end_to_end_accuracy(s: &Setting) -> f64 {
    if let Model::Mlp(mlp) = &s.model {
        return crate::mlp::accuracy::end_to_end_accuracy(s, mlp);
    }
    let accuracy = match s.attention {
        Attention::Argmax => argmax_accuracy(s),
        Attention::Strength(g) => softmax_accuracy(s, g),
    };
    accuracy.clamp(0.0, 1.0) // quadrature weights sum to one up to rounding
}

/// A token in a state of the trial, as the third step stores it.
pub(crate) struct StoredToken {
    pub(crate) weight: f64,
    pub(crate) score: f64,
    /// Chance that it is attended where it is informative.
    pub(crate) attended: f64,
    /// Mean number of samples of other labels that attend to it.
    pub(crate) foreign: f64,
}

/// What the third step stores in a state of the trial.
pub(crate) struct StoredState {
    pub(crate) weight: f64,
    pub(crate) tokens: Vec<StoredToken>,
    /// Mean square and variance over tokens of the chance to be attended.
    pub(crate) square: f64,
    pub(crate) variance: f64,
    /// Inverse number of the tokens that attract wrong attention.
    crowd: f64,
    /// What they share along the query, in the same measure, for a token of score 1.
    lean: f64,
}

impl StoredState {
    /// At a `ratio` of the signal to the spread of normal scores. `linear` is the share of the
    /// interference between tokens that is linear in their overlap.
    pub(crate) fn of_ratio(s: &Setting, weight: f64, ratio: f64, linear: f64) -> Self {
        let state = TrialState {
            weight,
            ratio,
            relative_signal: 0.0,
            counts: Counts::NONE,
            shape: Shape::Normal,
        };
        let per_class = s.samples.as_f64() / s.vocab as f64;
        let mut stored = Self::new(s, state, effective_competitors(s), per_class);
        stored.lean *= linear;
        stored
    }

    fn new(s: &Setting, t: TrialState, competitors: f64, per_class: f64) -> Self {
        let rivals = s.len as f64 - 1.0;
        // To attract, a token of score g must top L - 2 others and the informative position.
        let attracted = |g: f64| {
            if t.ratio.is_infinite() {
                return 0.0;
            }
            let behind = gauss::cdf(t.shape.normal(t.shape.score(g) - t.ratio));
            rivals * gauss::cdf_power(g, (rivals - 1.0).max(0.0)) * behind
        };
        let hit = Hit::new(t, competitors);
        let tokens: Vec<StoredToken> = token_nodes()
            .map(|(g, weight)| StoredToken {
                weight,
                score: g,
                attended: hit.at(g),
                foreign: per_class * attracted(g),
            })
            .collect();
        let mean = |f: &dyn Fn(&StoredToken) -> f64| tokens.iter().map(|x| x.weight * f(x)).sum();
        let (share, square): (f64, f64) = (mean(&|x| x.attended), mean(&|x| x.attended.powi(2)));
        let (met, met2): (f64, f64) = (mean(&|x| x.foreign), mean(&|x| x.foreign.powi(2)));
        let zi = Moments::input(s);
        let (crowd, lean) = if met > 0.0 {
            let crowd = (met2 / (met * met * s.vocab as f64)).min(1.0);
            let score = mean(&|x| x.foreign * x.score) / met;
            // Variance of the scores over that of w . z for an independent z.
            let metric = if zi.overlap > 0.0 {
                zi.t2 / zi.overlap
            } else {
                0.0
            };
            (crowd, score * score * zi.overlap * metric * metric)
        } else {
            (0.0, 0.0)
        };
        StoredState {
            weight: t.weight,
            square,
            variance: (square - share * share).max(0.0),
            crowd,
            lean,
            tokens,
        }
    }

    /// [`Self::crowd`] as a token of a score meets it.
    pub(crate) fn crowding(&self, score: f64) -> f64 {
        (self.crowd + score * score * self.lean).min(1.0)
    }

    /// Mean crowding at an attended token.
    pub(crate) fn mean_crowding(&self) -> f64 {
        let tokens = || self.tokens.iter();
        let all: f64 = tokens().map(|x| x.weight * x.attended).sum();
        let met = tokens().map(|x| x.weight * x.attended * self.crowding(x.score));
        if all > 0.0 {
            met.sum::<f64>() / all
        } else {
            0.0
        }
    }

    /// Mean number of foreign samples at an attended token, over all.
    pub(crate) fn foreign(&self) -> f64 {
        let met = self
            .tokens
            .iter()
            .map(|x| x.weight * x.attended * x.foreign);
        self.weight * met.sum::<f64>()
    }
}

/// Least mean number of foreign samples at an attended token that is worth a table.
pub(crate) const FEW_FOREIGN: f64 = 1e-4;

fn argmax_accuracy(s: &Setting) -> f64 {
    let n = effective_competitors(s);
    let (pairs, own) = pairs_and_own(s);
    let per_class = match s.samples {
        Samples::Finite(n) => n as f64 / s.vocab as f64,
        Samples::Infinite => 0.0,
    };
    let states: Vec<StoredState> = trial_states(s)
        .into_iter()
        .map(|t| StoredState::new(s, t, n, per_class))
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
    let mut table = RecallTable::new(s, 0.0, crowd);
    if met > FEW_FOREIGN {
        table = table.with_foreign(s, 0.0, crowd);
    }
    let (mut total, mut attended) = (0.0, 0.0);
    for t in &states {
        for token in &t.tokens {
            let p = t.weight * token.weight * token.attended;
            attended += p;
            if token.weight * token.attended >= 1e-9 {
                let crowded = t.variance * t.crowding(token.score);
                let load = pairs * (t.square + crowded) + own;
                total += p * table.mean(s, token.attended, load, token.foreign);
            }
        }
    }
    // A wrong position answers with any other label as likely as with the right one.
    let by_chance = if attended > 0.0 {
        (1.0 - attended) * (1.0 - total / attended) / (s.vocab as f64 - 1.0)
    } else {
        1.0 / s.vocab as f64
    };
    total + by_chance
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

/// Recall probability on a grid of relative weight (steps of half a sample) and test clutter.
struct SoftTable {
    step: f64,
    /// `recall[clutter][weight]`, clutter in the order of [`CLUTTER`].
    recall: [Vec<f64>; 7],
}

/// Grid of the squared weight on other positions, relative to that of the informative one.
const CLUTTER: [f64; 7] = [0.0, 0.15, 0.35, 0.7, 1.2, 2.0, 3.5];

impl SoftTable {
    fn new(s: &Setting, load: f64) -> Self {
        let weights = class_weights(s, 1.0);
        let top = weights.iter().rfind(|w| w.1 > 1e-7).map_or(1.0, |w| w.0);
        let step = (top / 24.0).max(0.5 * sample_weight(s)).min(0.5);
        let cells = (1.5 * top / step).ceil() as usize;
        let row = |clutter: f64| {
            (0..=cells)
                .map(|k| recall_given(s, k as f64 * step, load, &weights, clutter))
                .collect()
        };
        SoftTable {
            step,
            recall: CLUTTER.map(row),
        }
    }

    fn at(&self, weight: f64, clutter: f64) -> f64 {
        let i = CLUTTER
            .iter()
            .rposition(|c| *c <= clutter)
            .unwrap_or(0)
            .min(CLUTTER.len() - 2);
        let t = ((clutter - CLUTTER[i]) / (CLUTTER[i + 1] - CLUTTER[i])).min(1.0);
        let along = |row: &[f64]| {
            let x = (weight / self.step).min(row.len() as f64 - 1.0);
            let k = (x as usize).min(row.len() - 2);
            row[k] + (row[k + 1] - row[k]) * (x - k as f64)
        };
        along(&self.recall[i]) * (1.0 - t) + along(&self.recall[i + 1]) * t
    }
}

/// `V/N`, the weight of one sample in its class.
fn sample_weight(s: &Setting) -> f64 {
    match s.samples {
        Samples::Finite(n) => s.vocab as f64 / n as f64,
        Samples::Infinite => 0.0,
    }
}

/// States of like ratio are merged into so many where rivals are counted.
const RIVAL_STATES: usize = 6;

/// Nodes of the normal scores of own token and rivals, and of the own logit's noise.
fn coarse_nodes() -> impl Iterator<Item = (f64, f64)> + Clone {
    let total: f64 = (-8..=8).map(|i| gauss::pdf(f64::from(i) * 0.5)).sum();
    (-8..=8).map(move |i| {
        let g = f64::from(i) * 0.5;
        (g, gauss::pdf(g) / total)
    })
}

/// Loss to rivals: the labels of the other positions, which a softmax reads with less weight than
/// the own one (note, eq. 14).
struct Rivals {
    /// Upper ends of the bins of `TrialState::ratio`.
    edges: Vec<f64>,
    /// Step of the own signal on the grid.
    step: f64,
    /// `kept[bin][own score][signal]`: the share of right answers that is kept.
    kept: Vec<Vec<Vec<f64>>>,
}

/// Points of the own signal on the grid of [`Rivals`].
const SIGNALS: usize = 12;

impl Rivals {
    /// With `a_mean` the mean weight, at the load of the stored associations.
    fn new(s: &Setting, states: &[TrialState], strength: f64, load: f64, a_mean: f64) -> Self {
        let (zi, zo) = (Moments::input(s), Moments::output(s));
        let others = s.vocab as f64 - 1.0;
        let rivals = effective_competitors(s);
        let mut order: Vec<&TrialState> = states.iter().filter(|t| t.ratio.is_finite()).collect();
        order.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
        let total: f64 = order.iter().map(|t| t.weight).sum();
        let variance = (crate::labels::LabelMoments::of(s).square - 1.0).max(0.0);
        let classes: Vec<(f64, f64)> = HERMITE_5
            .iter()
            .map(|&(x, p)| ((1.0 + x * variance.sqrt()).max(0.0), p))
            .collect();
        let top = 3.0 * (1.0 + 3.0 * variance.sqrt());
        let step = top / (SIGNALS - 1) as f64;
        let (mut edges, mut kept) = (Vec::new(), Vec::new());
        let (mut mass, mut ratio, mut signal) = (0.0, 0.0, 0.0);
        let mut passed = 0.0;
        for (i, t) in order.iter().enumerate() {
            mass += t.weight;
            ratio += t.weight * t.ratio;
            signal += t.weight * t.relative_signal;
            passed += t.weight;
            let full = passed * RIVAL_STATES as f64 >= total * (edges.len() + 1) as f64;
            if !full && i + 1 < order.len() {
                continue;
            }
            let state = TrialState {
                weight: mass,
                ratio: ratio / mass,
                relative_signal: signal / mass,
                counts: Counts::NONE,
                shape: Shape::Normal,
            };
            edges.push(t.ratio);
            (mass, ratio, signal) = (0.0, 0.0, 0.0);
            let weights: Vec<(f64, f64, f64)> = coarse_nodes()
                .map(|(g, w)| (g, w, softmax_weight(s, &state, strength, g).0))
                .collect();
            let advantage = strength * state.relative_signal;
            let temperature = if state.ratio == 0.0 {
                0.0
            } else {
                advantage / state.ratio
            };
            let rows = coarse_nodes().map(|(own, _)| {
                let (a, rest) = softmax_weight(s, &state, strength, own);
                let length = 1.0
                    + if a > 0.0 {
                        (rest / (a * a)).min(1e6)
                    } else {
                        1e6
                    };
                // Mean logit of a rival that does not outscore the own token, with its probability.
                let mut logits = Vec::new();
                let mut behind = 0.0;
                for &(g, w, stored) in &weights {
                    if g >= own + state.ratio {
                        continue;
                    }
                    behind += w;
                    let read = (temperature * (g - own) - advantage).exp();
                    for &(kappa, p) in &classes {
                        logits.push((read * kappa * stored / a_mean, w * p));
                    }
                }
                // The labels that are read along lengthen the common vector themselves.
                let noise2 = load * (others * length * zi.overlap + length - 1.0) * zo.overlap;
                (0..SIGNALS)
                    .map(|k| {
                        let signal = k as f64 * step;
                        let field =
                            noise2 + load * length * zi.overlap + signal * signal * zo.overlap;
                        if field <= 0.0 || behind <= 0.0 {
                            return 1.0;
                        }
                        let sd = field.sqrt();
                        let (mut with, mut without) = (0.0, 0.0);
                        for (g, w) in coarse_nodes() {
                            let logit = signal + noise2.sqrt() * g;
                            let plain = gauss::cdf(-logit / sd);
                            let rival: f64 = logits
                                .iter()
                                .map(|&(m, p)| p * gauss::cdf((m - logit) / sd))
                                .sum::<f64>()
                                / behind;
                            let all = w * gauss::none_of(plain, others);
                            let lost =
                                ((1.0 - rival).max(0.0) / (1.0 - plain).max(1e-300)).min(1.0);
                            with += all * lost.powf(rivals);
                            without += all;
                        }
                        if without > 0.0 { with / without } else { 1.0 }
                    })
                    .collect()
            });
            kept.push(rows.collect());
        }
        Rivals { edges, step, kept }
    }

    /// Share kept at a state's ratio, an own score and an own signal.
    fn at(&self, ratio: f64, own: f64, signal: f64) -> f64 {
        if !ratio.is_finite() || self.edges.is_empty() {
            return 1.0;
        }
        let bin = self
            .edges
            .iter()
            .position(|e| ratio <= *e)
            .unwrap_or(self.edges.len() - 1);
        let along = |row: &[f64]| {
            let x = (signal / self.step).clamp(0.0, (SIGNALS - 1) as f64);
            let k = (x as usize).min(SIGNALS - 2);
            row[k] + (row[k + 1] - row[k]) * (x - k as f64)
        };
        let x = ((own + 4.0) / 0.5).clamp(0.0, 16.0);
        let k = (x as usize).min(15);
        let (low, high) = (along(&self.kept[bin][k]), along(&self.kept[bin][k + 1]));
        low + (high - low) * (x - k as f64)
    }
}

/// As the accuracy with argmax attention, with softmax weights (note, eq. 12): a token of own
/// score `g` is stored with weight `kappa a(g)`, read with `a(g)`, and the other positions add
/// squared length to what is stored and to what is read.
fn softmax_accuracy(s: &Setting, strength: f64) -> f64 {
    let n = effective_competitors(s);
    let states = trial_states(s);
    // Per state and score: probability, weight, squared weight elsewhere, hit rate.
    let mut cells = Vec::new();
    let (mut mean, mut square, mut elsewhere) = (0.0, 0.0, 0.0);
    for t in &states {
        let hit = Hit::new(*t, n);
        for (g, w) in token_nodes() {
            let p = t.weight * w;
            let (a, rest) = softmax_weight(s, t, strength, g);
            mean += p * a;
            square += p * a * a;
            elsewhere += p * rest;
            if p > 1e-9 {
                cells.push((p, a, rest, hit.at(g), t.ratio, g));
            }
        }
    }
    if mean <= 0.0 {
        return 1.0 / s.vocab as f64;
    }
    let labels = crate::labels::LabelMoments::of(s);
    let load = (labels.square * square + sample_weight(s) * elsewhere) / (mean * mean);
    let table = SoftTable::new(s, load);
    let rivals = Rivals::new(s, &states, strength, load, mean);
    let weights: Vec<(f64, f64)> = class_weights(s, 1.0)
        .into_iter()
        .filter(|w| w.1 > 1e-5)
        .collect();
    cells
        .iter()
        .map(|&(p, a, rest, hit, ratio, g)| {
            let clutter = if a > 0.0 {
                rest / (a * a)
            } else {
                f64::INFINITY
            };
            let recall: f64 = weights
                .iter()
                .map(|&(kappa, q)| {
                    let signal = kappa * a / mean;
                    q * table.at(signal, clutter) * rivals.at(ratio, g, signal)
                })
                .sum();
            p * hit * recall
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::Embedding;
    use crate::test_random::{Lcg, apply, dot, mean_and_covariance};

    #[test]
    fn competitors_are_the_expected_number_of_distinct_tokens() {
        // Enumerate all sequences of two other positions over three tokens, own token 0.
        let mut distinct = 0;
        for a in 0..3 {
            for b in 0..3 {
                distinct += [1, 2].iter().filter(|t| **t == a || **t == b).count();
            }
        }
        let n = effective_competitors(&Setting::new(3, 2, 3, 10));
        assert!((n - distinct as f64 / 9.0).abs() < 1e-12);
        let many = effective_competitors(&Setting::new(1 << 20, 2, 100, 10));
        assert!((many / 99.0 - 1.0).abs() < 1e-4);
    }

    #[test]
    fn states_are_a_probability_and_keep_the_mean_signal() {
        for carried in [false, true] {
            let mut s = Setting::new(400, 40, 30, 800);
            s.trigger_in_values = carried;
            let states = trial_states(&s);
            let mass: f64 = states.iter().map(|t| t.weight).sum();
            let signal: f64 = states.iter().map(|t| t.weight * t.relative_signal).sum();
            assert!((mass - 1.0).abs() < 1e-9);
            if !carried {
                assert!((signal - 1.0).abs() < 1e-3, "{signal}");
            } else {
                assert!(signal > 1.0);
            }
        }
    }

    #[test]
    fn limits_of_attention() {
        let orthonormal = Setting {
            samples: Samples::Infinite,
            ..Setting::new(200, 50, 20, 1)
        }
        .with_embeddings(Embedding::Orthonormal, Embedding::Orthonormal);
        assert!((attention_accuracy(&orthonormal) - 1.0).abs() < 1e-9);
        // Too few samples for the length: chance.
        let hopeless = attention_accuracy(&Setting::new(1000, 20, 500, 100));
        assert!(hopeless < 0.05);
        let mut last = 0.0;
        for n in [200, 600, 2000, 8000] {
            let a = attention_accuracy(&Setting::new(300, 60, 80, n));
            assert!(a > last);
            last = a;
        }
    }

    #[test]
    fn great_strength_is_argmax() {
        let s = Setting::new(300, 80, 12, 3000);
        let hard = end_to_end_accuracy(&s);
        let soft = |g| {
            end_to_end_accuracy(&Setting {
                attention: Attention::Strength(g),
                ..s
            })
        };
        assert!((soft(60.0) - hard).abs() < 0.01, "{} {hard}", soft(60.0));
        assert!(soft(4.0) < soft(8.0));
        assert!(attention_weight(&s, 60.0) > 0.999);
        // Without noise, G = 0 is uniform attention.
        assert!((attention_weight(&s, 1e-6) - 1.0 / 12.0).abs() < 1e-3);
    }

    #[test]
    fn misses_crowd_at_few_tokens() {
        // Eq. (8) by its definition: normal scores, argmax attention over whole batches, and the mean
        // over labels of the squared weights stored for each, less what all labels have alike. Fails
        // without the crowding (a tenth of the load) and, with balanced labels, without the misses'
        // own squares.
        let (v, len, ratio, trials) = (60usize, 60usize, 2.2, 300);
        for (labels, n) in [(Labels::Iid, 480usize), (Labels::Balanced, 240)] {
            let mut s = Setting::new(v, 20, len, n as u64);
            s.labels = labels;
            let state = TrialState {
                weight: 1.0,
                ratio,
                relative_signal: 1.0,
                counts: Counts::NONE,
                shape: Shape::Normal,
            };
            let stored =
                StoredState::new(&s, state, effective_competitors(&s), n as f64 / v as f64);
            let (pairs, own) = pairs_and_own(&s);
            let crowded = pairs * stored.variance * stored.crowd;
            let stated = pairs * stored.square + crowded + own;
            let mut rng = Lcg(83);
            let mut load = 0.0;
            for _ in 0..trials {
                let scores: Vec<f64> = (0..v).map(|_| rng.normal()).collect();
                let mut weights = vec![vec![0.0; v]; v];
                for sample in 0..n {
                    let label = match labels {
                        Labels::Iid => rng.below(v),
                        Labels::Balanced => sample % v,
                    };
                    let (mut best, mut at) = (scores[label] + ratio, label);
                    for _ in 1..len {
                        let token = rng.below(v);
                        if scores[token] > best {
                            (best, at) = (scores[token], token);
                        }
                    }
                    weights[at][label] += v as f64 / n as f64;
                }
                for of_token in &weights {
                    let mean = of_token.iter().sum::<f64>() / v as f64;
                    load += of_token.iter().map(|w| (w - mean).powi(2)).sum::<f64>();
                }
            }
            let ratio = load / (v * trials) as f64 / stated;
            assert!(crowded > 0.06 * stated);
            assert!((ratio - 1.0).abs() < 0.04, "{labels:?} {ratio}");
        }
    }

    /// Signal, in units of `V/N^2`, and number of coincidences of one batch of one-hot tokens and
    /// outputs, by the definitions.
    struct OneHotBatch {
        signal: f64,
        events: f64,
    }

    fn one_hot_batch(s: &Setting, rng: &mut Lcg) -> OneHotBatch {
        let (v, len, n) = (s.vocab, s.len, s.samples.as_f64() as usize);
        let mut classes = vec![Vec::new(); v];
        for sample in 0..n {
            let y = match s.labels {
                Labels::Iid => rng.below(v),
                Labels::Balanced => sample % v,
            };
            let tokens: Vec<usize> = (0..len)
                .map(|i| if i == 0 { y } else { rng.below(v) })
                .collect();
            classes[y].push(tokens);
        }
        let mut all = vec![0.0; v];
        for t in classes.iter().flatten().flatten() {
            all[*t] += 1.0 / v as f64;
        }
        let (mut signal, mut events) = (0.0, 0.0);
        for class in &classes {
            let mut met = vec![0.0; v];
            for t in class.iter().flatten() {
                met[*t] += 1.0;
            }
            for (t, m) in met.iter().enumerate() {
                let own = class.first().is_some_and(|c| c[0] == t);
                // The informative token counts as one, but a pair of samples as a coincidence.
                let size = class.len() as f64;
                let m = if own { m - size + 1.0 } else { *m };
                events += 0.5 * m * (m - 1.0) + if own { 0.5 * size * (size - 1.0) } else { 0.0 };
            }
            for tokens in class {
                let read: Vec<f64> = tokens.iter().map(|&t| met[t] - all[t]).collect();
                let mean = read.iter().sum::<f64>() / len as f64;
                signal += read[0] - mean;
            }
        }
        OneHotBatch { signal, events }
    }

    #[test]
    fn counted_signals_are_those_of_batches() {
        // The law of the signal by the definitions, for one-hot embeddings of both sides: its mean, second
        // and third moment, how often it is positive, and the number of coincidences. Fails if a step or a
        // rate is off by 1.1, and for a normal signal: the share of positive ones is .4 to .5 with few
        // coincidences, and .23 with a sample in ten classes.
        let settings = [
            (Labels::Balanced, 200usize, 6usize, 80u64),
            (Labels::Balanced, 100, 7, 104),
            (Labels::Iid, 300, 20, 40),
        ];
        for (labels, v, len, n) in settings {
            let mut s = Setting::new(v, v, len, n)
                .with_embeddings(Embedding::Orthonormal, Embedding::Orthonormal);
            s.labels = labels;
            let lattice = Lattice::of(&s, 1.0).expect("counted");
            let states = lattice.states();
            let stated = |f: &dyn Fn(&CountedState) -> f64| -> f64 {
                states.iter().map(|c| c.weight * f(c)).sum()
            };
            let x = |c: &CountedState| c.signal / lattice.unit;
            let trials = 4000;
            let mut rng = Lcg(71);
            let batches: Vec<OneHotBatch> =
                (0..trials).map(|_| one_hot_batch(&s, &mut rng)).collect();
            let drawn = |f: &dyn Fn(&OneHotBatch) -> f64| {
                let mean = batches.iter().map(f).sum::<f64>() / f64::from(trials);
                let square = batches.iter().map(|b| f(b).powi(2)).sum::<f64>() / f64::from(trials);
                (mean, ((square - mean * mean) / f64::from(trials)).sqrt())
            };
            let close = |name: &str, theory: f64, (mean, error): (f64, f64), margin: f64| {
                let gap = (mean - theory).abs();
                let room = 3.0 * error + margin * theory.abs();
                assert!(
                    gap < room,
                    "{labels:?} {name}: {theory}, drawn {mean} +- {error}"
                );
            };
            let mean = stated(&|c| x(c));
            close("mean", mean, drawn(&|b| b.signal), 0.0);
            close(
                "square",
                stated(&|c| (x(c) - mean).powi(2)),
                drawn(&|b| (b.signal - mean).powi(2)),
                0.03,
            );
            // Classes of three, which are left out, hold a third of it with iid labels.
            if labels == Labels::Balanced {
                close(
                    "cube",
                    stated(&|c| (x(c) - mean).powi(3)),
                    drawn(&|b| (b.signal - mean).powi(3)),
                    0.05,
                );
            }
            let positive = |x: f64| f64::from(u8::from(x > 0.0));
            close(
                "positive",
                stated(&|c| positive(c.signal)),
                drawn(&|b| positive(b.signal)),
                0.02,
            );
            close("events", lattice.mean_events(), drawn(&|b| b.events), 0.02);
        }
    }

    #[test]
    fn steep_states_have_nodes_enough() {
        // Mean of an error function of the ratio over its law, against its closed form. The Gaussian
        // rule alone is off by .05 at slopes of 4 and more.
        for slope in [0.5, 1.4, 1.7, 4.0, 12.0] {
            for centre in [-0.5, 0.0, 1.0, 3.0] {
                let ratio = |x: f64| centre + slope * x;
                let mean: f64 = score_nodes(ratio)
                    .iter()
                    .map(|&(x, w)| w * gauss::cdf(ratio(x)))
                    .sum();
                let exact = gauss::cdf(centre / (1.0 + slope * slope).sqrt());
                assert!(
                    (mean - exact).abs() < 0.002,
                    "{slope} {centre}: {mean} {exact}"
                );
            }
        }
        assert_eq!(score_nodes(|x| 3.0 + x), HERMITE_7.to_vec());
        assert_eq!(
            score_nodes(|x| f64::INFINITY.copysign(x)),
            HERMITE_7.to_vec()
        );
    }

    #[test]
    fn scores_of_unit_tokens_have_the_stated_tails() {
        // Tokens read by w = Sigma mu, the query of the mean bias: share of tokens beyond a normal
        // score of 2.4 on either side. Fails without the bound and without the skew (they move the
        // shares by .15 and more).
        let (v, d, trials) = (400usize, 24usize, 1000);
        let s = Setting::new(v, d, 50, 1000).with_embeddings(Embedding::Sphere, Embedding::Sphere);
        let mut rng = Lcg(13);
        let (mut above, mut below) = (0.0, 0.0);
        for _ in 0..trials {
            let z = rng.table(v, d, true);
            let (mu, sigma) = mean_and_covariance(&z);
            let w = apply(&sigma, &mu);
            let spread2 = dot(&w, &apply(&sigma, &w));
            let shape = Shape::of(&s, spread2, spread2, dot(&w, &w) / d as f64, 0.0);
            let centre = dot(&w, &mu);
            for token in &z {
                let x = shape.normal((dot(&w, token) - centre) / spread2.sqrt());
                above += f64::from(u8::from(x > 2.4));
                below += f64::from(u8::from(x < -2.4));
                let back = shape.score(x);
                assert!((shape.normal(back) - x).abs() < 1e-6);
            }
        }
        let expected = (trials * v) as f64 * gauss::cdf(-2.4);
        for count in [above, below] {
            assert!((count / expected - 1.0).abs() < 0.1, "{}", count / expected);
        }
    }

    #[test]
    fn spread_fluctuates_as_stated() {
        // Eq. (6) for either part alone: w = Sigma mu, and w = sum_v a_v z_v with independent a. Fails
        // if the constant or a trace is off by 1.25. Large V/d: t_6 is its leading form.
        let (v, d, trials) = (160usize, 12usize, 6000);
        let s = Setting::new(v, d, 50, 1000);
        let zi = Moments::input(&s);
        let mut rng = Lcg(17);
        let mut sums = [[0.0; 2]; 2];
        for _ in 0..trials {
            let z = rng.table(v, d, false);
            let (mu, sigma) = mean_and_covariance(&z);
            let mut random = vec![0.0; d];
            for row in &z {
                let a = rng.normal();
                for (r, (x, m)) in random.iter_mut().zip(row.iter().zip(&mu)) {
                    *r += a * (x - m);
                }
            }
            for (sum, w) in sums.iter_mut().zip([apply(&sigma, &mu), random]) {
                let spread2 = dot(&w, &apply(&sigma, &w));
                sum[0] += spread2 / f64::from(trials);
                sum[1] += spread2 * spread2 / f64::from(trials);
            }
        }
        for (sum, share) in sums.iter().zip([1.0, 0.0]) {
            let measured = sum[1] / (sum[0] * sum[0]) - 1.0;
            let ratio = measured / spread_fluctuation(&zi, share);
            assert!((ratio - 1.0).abs() < 0.2, "share {share}: {ratio}");
        }
    }

    #[test]
    fn repeats_join_what_other_sequences_write() {
        // Eq. (15) as a whole: one-hot tokens, dense outputs, few samples, iid labels. Third cumulant of a
        // token's score over tokens and batches. Fails without the joint part (half of it).
        let (v, d, len, n, trials) = (140usize, 20usize, 42usize, 22usize, 1200);
        let s = Setting::new(v, d, len, n as u64)
            .with_embeddings(Embedding::Orthonormal, Embedding::Gaussian);
        let zo = Moments::output(&s);
        let rate = (len as f64 - 1.0) / v as f64;
        let joint = repeats_cube(&s, &zo, rate);
        let unit = 0.5 * coincidence_step(&s, n as f64);
        let triangles =
            unit.powi(3) * (n as f64).powi(3) * zo.t3 * rate.powi(3) * (8.0 + 6.0 * rate);
        let stated = coincidence_cube(&s, &class_sizes(&s)) + triangles + joint;
        let mut rng = Lcg(59);
        let (mut cube, mut count) = (0.0, 0.0);
        let scale = v as f64 / (n * n) as f64;
        for _ in 0..trials {
            let table = rng.table(v, d, false);
            let (mean, _) = mean_and_covariance(&table);
            let mut met = vec![vec![0.0; d]; v];
            let batch: Vec<(Vec<f64>, Vec<usize>)> = (0..n)
                .map(|_| {
                    let y = rng.below(v);
                    let z: Vec<f64> = table[y].iter().zip(&mean).map(|(a, b)| a - b).collect();
                    let tokens: Vec<usize> = (0..len)
                        .map(|i| if i == 0 { y } else { rng.below(v) })
                        .collect();
                    (z, tokens)
                })
                .collect();
            for (z, tokens) in &batch {
                for &t in tokens {
                    for (a, x) in met[t].iter_mut().zip(z) {
                        *a += x;
                    }
                }
            }
            let mut score = vec![0.0; v];
            for (z, tokens) in &batch {
                let read: Vec<f64> = tokens.iter().map(|&t| dot(&met[t], z)).collect();
                let mean = read.iter().sum::<f64>() / len as f64;
                for (&t, r) in tokens.iter().zip(&read) {
                    score[t] += scale * (r - mean);
                }
            }
            let mean = score.iter().sum::<f64>() / v as f64;
            cube += score.iter().map(|x| (x - mean).powi(3)).sum::<f64>();
            count += v as f64;
        }
        let ratio = cube / count / stated;
        assert!(joint > 0.35 * stated, "{joint} {stated}");
        assert!((ratio - 1.0).abs() < 0.25, "{ratio}");
    }

    #[test]
    fn third_cumulants_of_coincidences_and_of_squared_lengths() {
        // Eq. (15). One-hot tables, one sample a class, L of the order of V: the third central moment of a
        // token's score over tokens and batches. Fails if repeats are counted as if they were rare (half
        // of it) or if the sequence's mean is not taken away.
        let (v, len, n, trials) = (240usize, 161usize, 12usize, 1500);
        let mut s = Setting::new(v, v, len, n as u64)
            .with_embeddings(Embedding::Orthonormal, Embedding::Orthonormal);
        s.labels = Labels::Balanced;
        let mut rng = Lcg(41);
        let unit = (len * len * v) as f64 / (n * n * len * len) as f64;
        let mut scores = Vec::new();
        for _ in 0..trials {
            let mut score = vec![0.0; v];
            for y in 0..n {
                let mut met = vec![0.0; v];
                met[y] += 1.0;
                for _ in 1..len {
                    met[rng.below(v)] += 1.0;
                }
                let mean = met.iter().map(|m| m * m).sum::<f64>() / len as f64;
                for (x, m) in score.iter_mut().zip(&met) {
                    *x += unit * m * (m - mean);
                }
            }
            scores.extend(score);
        }
        let cube = |x: &[f64]| {
            let count = x.len() as f64;
            let mean = x.iter().sum::<f64>() / count;
            x.iter().map(|a| (a - mean).powi(3)).sum::<f64>() / count
        };
        let ratio = cube(&scores) / coincidence_cube(&s, &class_sizes(&s));
        assert!((ratio - 1.0).abs() < 0.2, "{ratio}");
        // A token read by many samples: the squared length of a normal sum of output vectors.
        let zo = Moments::of(Embedding::Gaussian, 150, 20);
        let mut lengths = Vec::new();
        for _ in 0..1000 {
            let z = rng.table(150, 20, false);
            for _ in 0..40 {
                let weights: Vec<f64> = (0..150).map(|_| rng.normal()).collect();
                let mut sum = vec![0.0; 20];
                for (row, w) in z.iter().zip(&weights) {
                    for (a, x) in sum.iter_mut().zip(row) {
                        *a += w * x;
                    }
                }
                lengths.push(dot(&sum, &sum));
            }
        }
        let count = lengths.len() as f64;
        let mean = lengths.iter().sum::<f64>() / count;
        let variance = lengths.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let skew = cube(&lengths) / variance.powf(1.5);
        let ratio = skew / (8f64.sqrt() * zo.t3 / zo.t2.powf(1.5));
        assert!((ratio - 1.0).abs() < 0.15, "{ratio}");
    }
}
