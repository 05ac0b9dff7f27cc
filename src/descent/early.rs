//! The first three steps of gradient descent in the small-step limit, by counting.
//!
//! As `eta -> 0` every logit vanishes, so each gradient is a polynomial in counts of (label,
//! token) pairs (derivation: `early.md` beside this file). One trial costs `O(N L + V^2 d)` and
//! holds no `N x L x d` and no `V x V` array: samples are grouped by label and one block of label
//! rows stays in cache.
//!
//! Units: `V1 / eta` for the first value gradient; attention quantities in units of
//! `S0 = eta / (L^2 V)`.

use recall_theory::{Attention, Setting};
use serde::{Deserialize, Serialize};

use super::label_rows::{LabelRows, Sides, ValueMap};
use super::samples::{Data, Grouped};
use crate::decode::Decoded;
use crate::decode::query::QueryOutcome;
use crate::embedding::Embeddings;
use crate::linalg::Real;
use crate::simd::{Kernel, lanes, widest};
use crate::task::{Batch, Permutation, Stream};

/// What the gradients are averaged over.
#[derive(Debug, Clone, Copy)]
pub enum Training<'a> {
    /// The empirical gradient on a batch.
    Batch(&'a Batch),
    /// The same on samples that are drawn when they are read. A large batch is drawn again at
    /// each pass and takes 8 bytes a sample; the outcome is that of the batch to the last bit.
    Stream(&'a Stream<'a>),
    /// The population gradient (`N = inf`).
    Population,
}

/// The inputs of one trial.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a, R> {
    /// Sizes, laws and attention; sample size and labels are those of `training`.
    pub setting: &'a Setting,
    /// Fixed vectors.
    pub embeddings: &'a Embeddings<R>,
    /// Informative token to label.
    pub permutation: &'a Permutation,
    /// Training data.
    pub training: Training<'a>,
    /// Fresh sequences for the accuracies.
    pub test: &'a Batch,
    /// Whether to isolate the noise terms (about five times the work of the first two steps).
    pub decompose: bool,
}

/// Hits out of a total, kept raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Successes.
    pub hits: u64,
    /// Trials.
    pub total: u64,
}

impl Count {
    /// `hits / total`.
    #[must_use]
    pub fn rate(self) -> f64 {
        self.hits as f64 / self.total as f64
    }
}

/// `Var_v` of each isolated part of `w . z_in(v)`, in units of `S0^2`.
///
/// The parts follow the split `M = D + C + U + R` of the first gradient (population signal,
/// label-count part of the signal, mean bias `(1 - 1/L) u delta^T`, sequence noise) and the split
/// of step 2 into its class mean (bulk and own-token part) and the within-sequence flow.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NoiseParts {
    /// `U` read by the label imbalance: (delta, delta).
    pub mean_bias: f64,
    /// `U` read by the within-sequence flow.
    pub mean_bias_flow: f64,
    /// `R` read by the label imbalance: (E, delta).
    pub cross: f64,
    /// `R` read by the within-sequence flow: (E, E).
    pub gradient_noise: f64,
    /// `D + C` read by the flow, and `R` read by the informative tokens: signal x E.
    pub signal_noise: f64,
    /// `D + C` read by the label imbalance.
    pub signal_bias: f64,
    /// The `N = inf` residue.
    pub population: f64,
    /// Fluctuation of the label counts inside the signal.
    pub label_count: f64,
    /// What points along `z_trig`: `T z_trig`, and what the trigger's own value adds to it.
    pub trigger: f64,
}

impl NoiseParts {
    /// Names of the parts, in the order of [`NoiseParts::values`]; shared with the theory.
    pub const NAMES: [&'static str; 9] = recall_theory::attention::NOISE_NAMES;

    /// The variances in the order of [`NoiseParts::NAMES`].
    #[must_use]
    pub fn values(&self) -> [f64; 9] {
        [
            self.mean_bias,
            self.mean_bias_flow,
            self.cross,
            self.gradient_noise,
            self.signal_noise,
            self.signal_bias,
            self.population,
            self.label_count,
            self.trigger,
        ]
    }
}

/// What one trial measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Attention argmax on the informative position, training batch; absent for the population.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_attention: Option<Count>,
    /// The same on fresh sequences.
    pub attention: Count,
    /// Fresh sequences whose label is predicted end to end.
    pub accuracy: Count,
    /// Tokens recalled when attention is saturated on the informative token, in training and test
    /// (exact engine: in the test alone, since its value matrix is the one it has trained).
    pub recall: Count,
    /// Tokens whose label is `argmax_j z_in(v)^T V1^T z_out(j)`: matched filter on the first gradient.
    pub one_step: Count,
    /// Mean softmax weight on the informative position of fresh sequences (not with argmax).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_weight: Option<f64>,
    /// `T`, coefficient of `z_trig` in `w`, units of `S0 = eta/(L^2 V)`, times `m` with a hidden layer.
    pub signal: f64,
    /// `Var_v(w . z_in(v))`, units of `S0^2`.
    pub spread_squared: f64,
    /// The same without the trigger's part `T z_trig`.
    pub interference_squared: f64,
    /// Isolated parts, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseParts>,
    /// Tokens that decoders of the first gradient have right, when asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decoders: Vec<Decoded>,
    /// The query of step 2 read beside the first gradient, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<QueryOutcome>,
}

/// The trained state behind an [`Outcome`], for comparison with other engines.
#[derive(Debug, Clone, PartialEq)]
pub struct EarlyState<R> {
    /// `w . z_in(v)` for every token, units of `S0`.
    pub token_scores: Vec<f64>,
    /// `w . z_trig`, units of `S0`.
    pub trigger_score: f64,
    /// `V2` as the step-3 gradient alone, per unit of `gamma_v` (absent if both sides are orthonormal).
    pub value: Option<crate::linalg::Matrix<R>>,
}

/// Runs a trial.
#[must_use]
pub fn run<R: Real>(trial: &Trial<'_, R>) -> (Outcome, EarlyState<R>) {
    let s = trial.setting;
    let sides = Sides::new(trial.embeddings);
    let groups = Groups::new(trial);
    let unit = (s.len as f64).powi(2) * s.vocab as f64;

    // Step 1 and 2: the first value gradient, read by the attention gradient.
    let first = |j: usize, row: &mut [R]| groups.first_row(j, row);
    let step_one = ValueMap::accumulate(&sides, &first);
    let mut best = Best::new(s.vocab, false);
    let flow = read_out(trial, &groups, &sides, &step_one, &first, &mut best);
    let one_step = best.correct(trial.permutation);

    let (trigger_gram, trigger_norm) = sides.trigger_gram();
    let interference = sides.token_scores(&flow.total);
    let crosstalk: Vec<f64> = trigger_gram.iter().map(|g| flow.signal * g).collect();
    let token_scores: Vec<f64> = interference
        .iter()
        .zip(&crosstalk)
        .map(|(a, c)| (a + c) * unit)
        .collect();
    let own: f64 = flow
        .total
        .iter()
        .zip(&trigger_gram)
        .map(|(a, g)| a * g)
        .sum();
    let trigger_score = (flow.signal * trigger_norm + own) * unit;
    let noise = trial
        .decompose
        .then(|| decompose(trial, &groups, &sides, &crosstalk));

    // Step 3 with the attention just learned.
    let scores = Scores::new(s, &token_scores, trigger_score);
    let third = groups.third_rows(trial, &scores);
    let third_row = |j: usize, row: &mut [R]| third.row(&groups, &scores, j, row);
    let step_three = ValueMap::accumulate(&sides, &third_row);
    let evaluation = evaluate(trial, &sides, &step_three, &third_row, &scores);

    let recall = match evaluation.recall {
        Some(recall) if third.saturated(&groups) => recall,
        _ => {
            let saturated = |j: usize, row: &mut [R]| groups.saturated_row(j, row);
            let map = ValueMap::accumulate(&sides, &saturated);
            let carried = s.trigger_in_values;
            recalled(trial, &sides, &map, &saturated, carried)
        }
    };

    let outcome = Outcome {
        train_attention: third.train_hits(),
        attention: evaluation.attention,
        accuracy: evaluation.accuracy,
        recall,
        one_step,
        attention_weight: evaluation.weight,
        signal: flow.signal * unit,
        spread_squared: variance(&token_scores),
        interference_squared: variance(&interference) * unit * unit,
        noise,
        decoders: Vec::new(),
        query: None,
    };
    let value = match step_three {
        ValueMap::Stored { matrix, .. } => Some(matrix),
        ValueMap::OneHot { .. } => None,
    };
    (
        outcome,
        EarlyState {
            token_scores,
            trigger_score,
            value,
        },
    )
}

/// Population variance of a table over tokens.
pub(super) fn variance(x: &[f64]) -> f64 {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64
}

/// The training data grouped by label.
struct Groups<'a> {
    data: Option<Grouped<'a>>,
    permutation: &'a Permutation,
    /// Label frequencies `n_j / N`.
    frequency: Vec<f64>,
    len: f64,
    trigger_in_values: bool,
}

impl<'a> Groups<'a> {
    fn new<R>(trial: &Trial<'a, R>) -> Self {
        let vocab = trial.setting.vocab;
        let len = trial.setting.len;
        let data = match trial.training {
            Training::Population => None,
            Training::Batch(batch) => Some(Data::Batch(batch)),
            Training::Stream(stream) => Some(Data::Stream(stream)),
        };
        let data = data.map(|data| Grouped::new(data, len, vocab));
        let frequency = match &data {
            None => vec![1.0 / vocab as f64; vocab],
            Some(data) => (0..vocab)
                .map(|j| data.places(j).len() as f64 / data.count() as f64)
                .collect(),
        };
        Groups {
            data,
            permutation: trial.permutation,
            frequency,
            len: trial.setting.len as f64,
            trigger_in_values: trial.setting.trigger_in_values,
        }
    }

    fn informative(&self, j: usize) -> usize {
        self.permutation.token(j as u32) as usize
    }

    fn trigger_weight<R: Real>(&self, weight: f64) -> R {
        if self.trigger_in_values {
            R::from_f64(weight)
        } else {
            R::default()
        }
    }

    /// Row `j` of the counts `(1/(N L)) #(token v in samples of label j)`.
    fn first_row<R: Real>(&self, j: usize, row: &mut [R]) -> R {
        if let Some(data) = &self.data {
            let weight = R::from_f64(1.0 / (data.count() as f64 * self.len));
            data.visit(j, |tokens, _| {
                for &x in tokens {
                    row[x as usize] += weight;
                }
            });
        } else {
            self.signal_row(j, row, self.frequency[j]);
            self.bias_row(j, row, 1.0);
        }
        self.trigger_weight(self.frequency[j] / self.len)
    }

    /// `weight / L` on the informative token of `j`.
    fn signal_row<R: Real>(&self, j: usize, row: &mut [R], weight: f64) {
        row[self.informative(j)] += R::from_f64(weight / self.len);
    }

    /// `(1 - 1/L) (n_j / N) / V` on every token, times `sign`.
    fn bias_row<R: Real>(&self, j: usize, row: &mut [R], sign: f64) {
        let l = 1.0 - 1.0 / self.len;
        let share = R::from_f64(sign * l * self.frequency[j] / row.len() as f64);
        row.iter_mut().for_each(|x| *x += share);
    }

    /// Weights of the third step when every sample attends to its informative token.
    fn saturated_row<R: Real>(&self, j: usize, row: &mut [R]) -> R {
        row[self.informative(j)] += R::from_f64(self.frequency[j]);
        self.trigger_weight(self.frequency[j])
    }

    /// Attends over the training batch once, so that argmax positions are not searched twice.
    fn third_rows<R: Real>(&self, trial: &Trial<'a, R>, scores: &Scores<'_>) -> Third {
        let Some(data) = &self.data else {
            return Third::Population(Population::new(scores, trial.setting.len));
        };
        let keep = trial.setting.attention == Attention::Argmax;
        let mut attended = Vec::with_capacity(if keep { data.count() } else { 0 });
        let mut hits = 0;
        for j in 0..self.frequency.len() {
            data.visit(j, |tokens, position| {
                let i = scores.argmax(tokens, position);
                let hit = i == position;
                hits += u64::from(hit);
                if keep {
                    attended.push(Attended::new(tokens[i], hit));
                }
            });
        }
        let train = Count {
            hits,
            total: data.count() as u64,
        };
        match trial.setting.attention {
            Attention::Argmax => Third::Argmax { attended, train },
            Attention::Strength(_) => Third::Softmax { train },
        }
    }
}

/// The token that a sample attends to, and whether at its informative position, in 32 bits.
#[derive(Clone, Copy)]
pub(super) struct Attended(u32);

impl Attended {
    const HIT: u32 = 1 << 31;

    pub(super) fn new(token: u32, hit: bool) -> Self {
        Attended(token | if hit { Self::HIT } else { 0 })
    }

    pub(super) fn token(self) -> usize {
        (self.0 & !Self::HIT) as usize
    }

    pub(super) fn hit(self) -> bool {
        self.0 & Self::HIT != 0
    }
}

/// Scores `w . k` of the learned query, in units of `S0`.
pub(super) struct Scores<'a> {
    token: &'a [f64],
    trigger: f64,
    /// Softmax gain per unit of score; unused by argmax.
    gain: f64,
}

impl<'a> Scores<'a> {
    pub(super) fn new(setting: &Setting, token: &'a [f64], trigger: f64) -> Self {
        let gain = match setting.attention {
            Attention::Argmax => f64::INFINITY,
            Attention::Strength(g) => g / recall_theory::attention::nominal_signal(setting),
        };
        Scores {
            token,
            trigger,
            gain,
        }
    }

    fn at(&self, sequence: &[u32], position: usize, i: usize) -> f64 {
        let own = if i == position { self.trigger } else { 0.0 };
        self.token[sequence[i] as usize] + own
    }

    /// Attended position, the lowest among equals.
    pub(super) fn argmax(&self, sequence: &[u32], position: usize) -> usize {
        // Where the informative position beats every token score it is the only largest one: a
        // maximum without its place, in independent lanes, settles most samples.
        let mut lanes = [f64::NEG_INFINITY; 4];
        let blocks = sequence.chunks_exact(4);
        for &x in blocks.remainder() {
            lanes[0] = larger(lanes[0], self.token[x as usize]);
        }
        for block in blocks {
            for (top, &x) in lanes.iter_mut().zip(block) {
                *top = larger(*top, self.token[x as usize]);
            }
        }
        let own = self.at(sequence, position, position);
        if lanes.iter().all(|top| own > *top) {
            return position;
        }
        let mut best = 0;
        let mut top = f64::NEG_INFINITY;
        for i in 0..sequence.len() {
            let score = self.at(sequence, position, i);
            if score > top {
                (best, top) = (i, score);
            }
        }
        best
    }

    /// Softmax weights into `out`.
    fn softmax(&self, sequence: &[u32], position: usize, out: &mut Vec<f64>) {
        out.clear();
        out.extend((0..sequence.len()).map(|i| self.gain * self.at(sequence, position, i)));
        let top = out.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        for x in out.iter_mut() {
            *x = (*x - top).exp();
            sum += *x;
        }
        out.iter_mut().for_each(|x| *x /= sum);
    }
}

/// The larger number; `b` only if it compares larger.
fn larger(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

/// How the third step attends on the training data.
enum Third {
    /// `attended` is in the order of the labels.
    Argmax {
        attended: Vec<Attended>,
        train: Count,
    },
    Softmax {
        train: Count,
    },
    Population(Population),
}

impl Third {
    fn train_hits(&self) -> Option<Count> {
        match self {
            Third::Argmax { train, .. } | Third::Softmax { train } => Some(*train),
            Third::Population(_) => None,
        }
    }

    /// Whether every training sample puts all its weight on its informative token.
    fn saturated(&self, groups: &Groups<'_>) -> bool {
        match self {
            Third::Argmax { train, .. } => train.hits == train.total,
            Third::Softmax { .. } => false,
            Third::Population(p) => {
                (0..groups.frequency.len()).all(|j| p.hit(groups.informative(j)) == 1.0)
            }
        }
    }

    fn row<R: Real>(&self, groups: &Groups<'_>, scores: &Scores<'_>, j: usize, row: &mut [R]) -> R {
        let mut trigger = 0.0;
        let mut alpha = Vec::new();
        match self {
            Third::Population(p) => {
                let weight = groups.frequency[j];
                let token = groups.informative(j);
                trigger = weight * p.add_row(token, weight, row);
            }
            Third::Argmax { attended, train } => {
                let share = 1.0 / train.total as f64;
                let weight = R::from_f64(share);
                if let Some(data) = &groups.data {
                    for a in &attended[data.places(j)] {
                        row[a.token()] += weight;
                        if a.hit() {
                            trigger += share;
                        }
                    }
                }
            }
            Third::Softmax { train } => {
                let share = 1.0 / train.total as f64;
                if let Some(data) = &groups.data {
                    data.visit(j, |tokens, position| {
                        scores.softmax(tokens, position, &mut alpha);
                        for (a, &x) in alpha.iter().zip(tokens) {
                            row[x as usize] += R::from_f64(a * share);
                        }
                        trigger += alpha[position] * share;
                    });
                }
            }
        }
        groups.trigger_weight(trigger)
    }
}

/// Argmax attention averaged over all sequences: with competitors iid uniform, token `u` is the
/// largest of the `L - 1` others with probability `F(u)^{L-1} - F(u-)^{L-1}`.
struct Population {
    /// `(score, token, probability of being the largest competitor)`, ascending.
    ranked: Vec<(f64, usize, f64)>,
    score: Vec<f64>,
    trigger: f64,
}

impl Population {
    fn new(scores: &Scores<'_>, len: usize) -> Self {
        let mut order: Vec<usize> = (0..scores.token.len()).collect();
        order.sort_by(|&a, &b| scores.token[a].total_cmp(&scores.token[b]).then(a.cmp(&b)));
        let n = order.len() as f64;
        let power = |k: usize| (k as f64 / n).powf(len as f64 - 1.0);
        let ranked = order
            .iter()
            .enumerate()
            .map(|(k, &u)| (scores.token[u], u, power(k + 1) - power(k)))
            .collect();
        Population {
            ranked,
            score: scores.token.to_vec(),
            trigger: scores.trigger,
        }
    }

    /// Probability that the informative token `v` is attended.
    fn hit(&self, v: usize) -> f64 {
        let own = self.score[v] + self.trigger;
        let above = self.ranked.partition_point(|r| r.0 <= own);
        1.0 - self.ranked[above..].iter().map(|r| r.2).sum::<f64>()
    }

    /// Adds the attended-token weights of informative token `v`; returns its hit probability.
    fn add_row<R: Real>(&self, v: usize, weight: f64, row: &mut [R]) -> f64 {
        let own = self.score[v] + self.trigger;
        let above = self.ranked.partition_point(|r| r.0 <= own);
        let mut hit = 1.0;
        for &(_, u, p) in &self.ranked[above..] {
            row[u] += R::from_f64(weight * p);
            hit -= p;
        }
        row[v] += R::from_f64(weight * hit);
        hit
    }
}

/// Coefficients `A` of `w = Z_in^T A + T z_trig` read out of one value map, split by origin.
struct Flow {
    total: Vec<f64>,
    /// Class mean, uninformative positions: `(1 - 1/L)^2 / V` times `B delta`.
    bulk: Vec<f64>,
    /// Class mean, informative position, at label frequency `1/V`.
    own_mean: Vec<f64>,
    /// The part of `own_mean` that the trigger's own value contributes, kept apart from it.
    own_trigger: Vec<f64>,
    /// Class mean, informative position, deviation of the label frequency from `1/V`.
    own_count: Vec<f64>,
    /// `T`.
    signal: f64,
}

/// Step 2 on the value map: `A = (1/(N L)) sum_{n,i} e_{x_{n,i}} (s_{n,i} - mean_i s_{n,i})` with
/// `s_{n,i} = B[x_{n,i}, y_n]` (plus the trigger's own score where the value carries it).
fn read_out<R: Real>(
    trial: &Trial<'_, R>,
    groups: &Groups<'_>,
    sides: &Sides<'_, R>,
    map: &ValueMap<R>,
    rows: &LabelRows<'_, R>,
    best: &mut Best<R>,
) -> Flow {
    let vocab = trial.setting.vocab;
    let (v, len) = (vocab as f64, groups.len);
    let l = 1.0 - 1.0 / len;
    let mut flow = Flow {
        total: vec![0.0; vocab],
        bulk: vec![0.0; vocab],
        own_mean: vec![0.0; vocab],
        own_trigger: vec![0.0; vocab],
        own_count: vec![0.0; vocab],
        signal: 0.0,
    };
    let (mut shift_mean, mut shift_trigger, mut shift_count) = (0.0, 0.0, 0.0);
    map.for_each_label(sides, rows, |j, row, tau| {
        best.visit(j, row, R::default());
        let tau = if groups.trigger_in_values {
            tau.to_f64()
        } else {
            0.0
        };
        let informative = groups.informative(j);
        let frequency = groups.frequency[j];
        let mean = widest(RowSum(row)) / v;
        let own = row[informative].to_f64();
        if trial.decompose {
            for (b, x) in flow.bulk.iter_mut().zip(row) {
                *b += frequency * l * l / v * (x.to_f64() - mean);
            }
        }
        let (kick, kick_trigger) = (l / len * (own - mean), l / len * tau);
        let kicks = kick + kick_trigger;
        flow.own_mean[informative] += kick / v;
        flow.own_trigger[informative] += kick_trigger / v;
        flow.own_count[informative] += (frequency - 1.0 / v) * kicks;
        shift_mean -= kick / (v * v);
        shift_trigger -= kick_trigger / (v * v);
        shift_count -= (frequency - 1.0 / v) * kicks / v;
        match &groups.data {
            None => flow.signal += kicks / v,
            Some(data) => {
                let share = 1.0 / (data.count() as f64 * len);
                data.visit(j, |sequence, position| {
                    let mean = (tau + gathered_sum(row, sequence)) / len;
                    for &x in sequence {
                        flow.total[x as usize] += share * (row[x as usize].to_f64() - mean);
                    }
                    let token = sequence[position] as usize;
                    flow.total[token] += share * tau;
                    flow.signal += share * (row[token].to_f64() + tau - mean);
                });
            }
        }
    });
    flow.own_mean.iter_mut().for_each(|x| *x += shift_mean);
    flow.own_trigger
        .iter_mut()
        .for_each(|x| *x += shift_trigger);
    flow.own_count.iter_mut().for_each(|x| *x += shift_count);
    if groups.data.is_none() {
        for (total, (a, b)) in flow
            .total
            .iter_mut()
            .zip(flow.own_mean.iter().zip(&flow.own_trigger))
        {
            *total = a + b;
        }
    }
    flow
}

/// Sum of a row, in double precision.
struct RowSum<'k, R>(&'k [R]);

impl<R: Real> Kernel for RowSum<'_, R> {
    type Output = f64;
    #[inline(always)]
    fn run(self) -> f64 {
        lanes(self.0, 0.0, |sum, x| sum + x.to_f64(), |a, b| a + b)
    }
}

/// Sum of `row` over the tokens of a sequence, in four lanes.
fn gathered_sum<R: Real>(row: &[R], sequence: &[u32]) -> f64 {
    let mut lanes = [0.0; 4];
    let blocks = sequence.chunks_exact(4);
    for &x in blocks.remainder() {
        lanes[0] += row[x as usize].to_f64();
    }
    for block in blocks {
        for (sum, &x) in lanes.iter_mut().zip(block) {
            *sum += row[x as usize].to_f64();
        }
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
}

/// Isolates the noise parts by reading one value map per part of `M`.
///
/// `crosstalk` is `T z_trig . z_in(v)`.
fn decompose<R: Real>(
    trial: &Trial<'_, R>,
    groups: &Groups<'_>,
    sides: &Sides<'_, R>,
    crosstalk: &[f64],
) -> NoiseParts {
    let vocab = trial.setting.vocab;
    let v = vocab as f64;
    let l = 1.0 - 1.0 / groups.len;
    let unit = groups.len.powi(2) * v;
    let read = |rows: &LabelRows<'_, R>| {
        let map = ValueMap::accumulate(sides, rows);
        read_out(
            trial,
            groups,
            sides,
            &map,
            rows,
            &mut Best::new(vocab, false),
        )
    };
    let count = |j: usize| groups.frequency[j] - 1.0 / v;
    let signal = read(&|j, row| {
        groups.signal_row(j, row, 1.0 / v);
        R::default()
    });
    let label = read(&|j, row| {
        groups.signal_row(j, row, count(j));
        R::default()
    });
    let bias = read(&|j, row| {
        groups.bias_row(j, row, 1.0);
        R::default()
    });
    let value_trigger = read(&|j, _| groups.trigger_weight::<R>(groups.frequency[j] / groups.len));
    let noise = read(&|j, row| {
        groups.first_row(j, row);
        groups.signal_row(j, row, -groups.frequency[j]);
        groups.bias_row(j, row, -1.0);
        R::default()
    });
    // A sample's own tokens raise the scores of all its positions but the informative one, so the
    // self pair takes n_j from the signal of n_j^2: what counts is n_j (n_j - 1).
    let mut pair = vec![0.0; vocab];
    if let Some(data) = &groups.data {
        let share = l / (data.count() as f64 * groups.len.powi(2));
        for j in 0..vocab {
            pair[groups.informative(j)] = -share * count(j);
        }
    }
    let total: fn(&Flow, usize) -> f64 = |f, i| f.total[i];
    let bulk: fn(&Flow, usize) -> f64 = |f, i| f.bulk[i];
    let own: fn(&Flow, usize) -> f64 = |f, i| f.own_mean[i] + f.own_trigger[i] + f.own_count[i];
    let flow = |f: &Flow, i: usize| total(f, i) - bulk(f, i) - own(f, i);
    let scores = |part: &dyn Fn(usize) -> f64| {
        let coefficients: Vec<f64> = (0..vocab).map(part).collect();
        sides.token_scores(&coefficients)
    };
    let part = |f: &dyn Fn(usize) -> f64| variance(&scores(f)) * unit * unit;
    let along_trigger: Vec<f64> = scores(&|i| signal.own_trigger[i] + value_trigger.bulk[i])
        .iter()
        .zip(crosstalk)
        .map(|(a, c)| a + c)
        .collect();
    NoiseParts {
        mean_bias: part(&|i| bulk(&bias, i)),
        mean_bias_flow: part(&|i| {
            flow(&bias, i) + own(&bias, i) + flow(&value_trigger, i) + own(&value_trigger, i)
        }),
        cross: part(&|i| bulk(&noise, i)),
        gradient_noise: part(&|i| flow(&noise, i) - pair[i]),
        signal_noise: part(&|i| flow(&signal, i) + flow(&label, i) + own(&noise, i)),
        signal_bias: part(&|i| bulk(&signal, i) + bulk(&label, i)),
        population: part(&|i| signal.own_mean[i]),
        label_count: part(&|i| signal.own_count[i] + own(&label, i) + pair[i]),
        trigger: variance(&along_trigger) * unit * unit,
    }
}

/// Running argmax over labels for every token, the lowest label among equals.
struct Best<R> {
    trigger: bool,
    score: Vec<R>,
    label: Vec<u32>,
}

impl<R: Real> Best<R> {
    /// `trigger`: whether the value scored is `z_in(v) + z_trig`.
    fn new(vocab: usize, trigger: bool) -> Self {
        Best {
            trigger,
            score: vec![R::from_f64(f64::NEG_INFINITY); vocab],
            label: vec![0; vocab],
        }
    }

    fn visit(&mut self, j: usize, row: &[R], tau: R) {
        widest(Visit {
            row,
            shift: if self.trigger { tau } else { R::default() },
            label: j as u32,
            scores: &mut self.score,
            labels: &mut self.label,
        });
    }

    /// Tokens whose best label is their own.
    fn correct(&self, permutation: &Permutation) -> Count {
        let hits = self
            .label
            .iter()
            .zip(permutation.labels())
            .filter(|(a, b)| a == b)
            .count();
        Count {
            hits: hits as u64,
            total: self.label.len() as u64,
        }
    }
}

/// One label of [`Best`].
struct Visit<'k, R> {
    row: &'k [R],
    shift: R,
    label: u32,
    scores: &'k mut [R],
    labels: &'k mut [u32],
}

impl<R: Real> Kernel for Visit<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for ((best, label), x) in self.scores.iter_mut().zip(self.labels).zip(self.row) {
            // Both stores without a branch, so that the loop becomes vector selects.
            let x = *x + self.shift;
            let more = x > *best;
            *best = if more { x } else { *best };
            *label = if more { self.label } else { *label };
        }
    }
}

struct Evaluation {
    attention: Count,
    accuracy: Count,
    weight: Option<f64>,
    /// Tokens answered with their label when attended at the informative position (argmax only).
    recall: Option<Count>,
}

/// Tokens whose best label is their own; `carried`: with the trigger in the values.
fn recalled<R: Real>(
    trial: &Trial<'_, R>,
    sides: &Sides<'_, R>,
    map: &ValueMap<R>,
    rows: &LabelRows<'_, R>,
    carried: bool,
) -> Count {
    let wins = (!carried)
        .then(|| map.wins(sides, &informative_pairs(trial.permutation)))
        .flatten();
    if let Some(wins) = wins {
        return count(&wins);
    }
    let mut best = Best::new(trial.setting.vocab, carried);
    map.for_each_label(sides, rows, |j, row, tau| best.visit(j, row, tau));
    best.correct(trial.permutation)
}

/// Each token with its label.
fn informative_pairs(permutation: &Permutation) -> Vec<(u32, u32)> {
    (0..).zip(permutation.labels().iter().copied()).collect()
}

fn count(wins: &[bool]) -> Count {
    Count {
        hits: wins.iter().filter(|w| **w).count() as u64,
        total: wins.len() as u64,
    }
}

/// Accuracies on fresh sequences with the learned attention and the step-3 value map.
fn evaluate<R: Real>(
    trial: &Trial<'_, R>,
    sides: &Sides<'_, R>,
    map: &ValueMap<R>,
    rows: &LabelRows<'_, R>,
    scores: &Scores<'_>,
) -> Evaluation {
    let (setting, test) = (trial.setting, trial.test);
    let of_samples = |hits: usize| Count {
        hits: hits as u64,
        total: test.samples() as u64,
    };
    let attended: Vec<usize> = (0..test.samples())
        .map(|n| scores.argmax(test.sequence(n), test.position[n] as usize))
        .collect();
    let hits = (0..test.samples())
        .filter(|&n| attended[n] == test.position[n] as usize)
        .count();
    let attention = of_samples(hits);
    if setting.attention == Attention::Argmax && !setting.trigger_in_values {
        // The answer to a token is the same wherever it is attended: one pair for each token with
        // its own label, and one for each sample that attends to a token of another label.
        let mut pairs = informative_pairs(trial.permutation);
        let places: Vec<usize> = (0..test.samples())
            .map(|n| {
                let (token, label) = (test.sequence(n)[attended[n]], test.label[n]);
                if trial.permutation.label(token) == label {
                    return token as usize;
                }
                pairs.push((token, label));
                pairs.len() - 1
            })
            .collect();
        if let Some(wins) = map.wins(sides, &pairs) {
            let correct = places.iter().filter(|&&place| wins[place]).count();
            return Evaluation {
                attention,
                accuracy: of_samples(correct),
                weight: None,
                recall: Some(count(&wins[..setting.vocab])),
            };
        }
    }
    if setting.attention == Attention::Argmax {
        let mut informative = Best::new(setting.vocab, setting.trigger_in_values);
        let mut plain = Best::new(setting.vocab, false);
        map.for_each_label(sides, rows, |j, row, tau| {
            informative.visit(j, row, tau);
            if setting.trigger_in_values {
                plain.visit(j, row, tau);
            }
        });
        let other = if setting.trigger_in_values {
            &plain
        } else {
            &informative
        };
        let correct = (0..test.samples())
            .filter(|&n| {
                let i = attended[n];
                let token = test.sequence(n)[i] as usize;
                let hit = i == test.position[n] as usize;
                let best = if hit { &informative } else { other };
                best.label[token] == test.label[n]
            })
            .count();
        return Evaluation {
            attention,
            accuracy: of_samples(correct),
            weight: None,
            recall: Some(informative.correct(trial.permutation)),
        };
    }
    let mut alphas = Vec::with_capacity(test.tokens.len());
    let mut alpha = Vec::new();
    let mut weight = 0.0;
    for n in 0..test.samples() {
        let position = test.position[n] as usize;
        scores.softmax(test.sequence(n), position, &mut alpha);
        weight += alpha[position];
        alphas.extend_from_slice(&alpha);
    }
    let mut best = vec![(f64::NEG_INFINITY, 0u32); test.samples()];
    map.for_each_label(sides, rows, |j, row, tau| {
        let tau = if setting.trigger_in_values {
            tau.to_f64()
        } else {
            0.0
        };
        for (n, best) in best.iter_mut().enumerate() {
            let alpha = &alphas[n * test.len..(n + 1) * test.len];
            let mut logit = alpha[test.position[n] as usize] * tau;
            for (a, &x) in alpha.iter().zip(test.sequence(n)) {
                logit += a * row[x as usize].to_f64();
            }
            if logit > best.0 {
                *best = (logit, j as u32);
            }
        }
    });
    let correct = best
        .iter()
        .zip(&test.label)
        .filter(|(b, y)| b.1 == **y)
        .count();
    Evaluation {
        attention,
        accuracy: of_samples(correct),
        weight: Some(weight / test.samples() as f64),
        recall: None,
    }
}
