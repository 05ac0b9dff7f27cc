//! The small-step limit of three-step descent with a hidden layer.
//!
//! The derivation is in `mlp.md`. Samples are walked in chunks, grouped by label, so that neither
//! an `N x m` nor an `N x d` array is ever held; class sums of features are kept for a block of
//! labels at a time. Every sum runs in a fixed order that depends on the shapes alone.

use std::ops::Range;

use recall_theory::Setting;

use super::early::{Attended, Count, Outcome, Scores, variance};
use super::hidden::{Buffers, Hidden};
use super::samples::{Data, Grouped};
use crate::embedding::{Embeddings, Table};
use crate::linalg::{Matrix, Real, View, argmax, dot, gemm};
use crate::task::{Batch, Permutation, by_label};

/// Samples per chunk.
const CHUNK: usize = 128;
/// Labels, or tokens, per block.
const BLOCK: usize = 64;

/// The inputs of one trial.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a, R> {
    /// Sizes and laws.
    pub setting: &'a Setting,
    /// Fixed vectors; the input table is dense.
    pub embeddings: &'a Embeddings<R>,
    /// The hidden layer.
    pub hidden: &'a Hidden<R>,
    /// Informative token to label.
    pub permutation: &'a Permutation,
    /// Training data.
    pub train: Data<'a>,
    /// Fresh sequences for the accuracies.
    pub test: &'a Batch,
}

/// What a trial has learned, per unit of step size.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpState<R> {
    /// First value matrix over `eta`, `d_out x m`.
    pub value_1: Matrix<R>,
    /// `w . z_in(v)` for every token, over `eta`.
    pub token_scores: Vec<f64>,
    /// `w . z_trig`, over `eta`.
    pub trigger_score: f64,
    /// Third-step gradient of the value matrix, sign changed, `d_out x m`.
    pub value_2: Matrix<R>,
}

/// Runs a trial. `None` if the input table or the trigger is not dense, which a checked setting
/// rules out.
#[must_use]
pub fn run<R: Real>(trial: &Trial<'_, R>) -> Option<(Outcome, MlpState<R>)> {
    let tables = Tables::new(trial.embeddings)?;
    let (vocab, width) = (trial.setting.vocab, trial.hidden.width());
    let groups = Grouped::new(trial.train, trial.setting.len, vocab);
    let unit = (trial.setting.len as f64).powi(2) * vocab as f64 / width as f64;

    let value_1 = first_step(trial, &tables, &groups);
    let flow = second_step(trial, &tables, &groups, &value_1);
    let one_step = correct(&tables.labels(trial.hidden, &value_1), trial.permutation);

    // w = Z_in^T A + T z_trig
    let (one, zero) = (R::from_f64(1.0), R::default());
    let coefficients: Vec<R> = flow.tokens.iter().map(|x| R::from_f64(*x)).collect();
    let mut rest = vec![zero; tables.input.cols()];
    gemm(
        one,
        tables.input.view().t(),
        View::new(&coefficients, vocab, 1),
        zero,
        &mut rest,
    );
    let interference: Vec<f64> = (0..vocab)
        .map(|v| dot(tables.input.row(v), &rest).to_f64())
        .collect();
    let crosstalk = |z: &[R]| dot(z, tables.trigger).to_f64();
    let token_scores: Vec<f64> = (0..vocab)
        .map(|v| interference[v] + flow.signal * crosstalk(tables.input.row(v)))
        .collect();
    let trigger_score = crosstalk(&rest) + flow.signal * crosstalk(tables.trigger);

    let scores = Scores::new(trial.setting, &token_scores, trigger_score);
    let mut train = Count {
        hits: 0,
        total: groups.count() as u64,
    };
    let mut attended = Vec::with_capacity(groups.count());
    groups.visit_places(0..groups.count(), |tokens, position| {
        let i = scores.argmax(tokens, position);
        train.hits += u64::from(i == position);
        attended.push(tokens[i]);
    });
    let start = groups.into_start();
    let value_2 = third_step(trial, &tables, &ByToken::attended(attended, &start));
    let answers = tables.labels(trial.hidden, &value_2);
    let recall = if train.hits == train.total {
        correct(&answers, trial.permutation)
    } else {
        let pairs = ByToken::informative(trial.permutation, &start);
        let saturated = third_step(trial, &tables, &pairs);
        correct(&tables.labels(trial.hidden, &saturated), trial.permutation)
    };
    let test: Vec<Attended> = (0..trial.test.samples())
        .map(|n| {
            let (tokens, position) = (trial.test.sequence(n), trial.test.position[n] as usize);
            let i = scores.argmax(tokens, position);
            Attended::new(tokens[i], i == position)
        })
        .collect();
    let right = test
        .iter()
        .zip(&trial.test.label)
        .filter(|(a, y)| answers[a.token()] == **y)
        .count();

    let outcome = Outcome {
        train_attention: Some(train),
        attention: Count {
            hits: test.iter().filter(|a| a.hit()).count() as u64,
            total: test.len() as u64,
        },
        accuracy: Count {
            hits: right as u64,
            total: test.len() as u64,
        },
        recall,
        one_step,
        attention_weight: None,
        signal: flow.signal * unit,
        spread_squared: variance(&token_scores) * unit * unit,
        interference_squared: variance(&interference) * unit * unit,
        noise: None,
        decoders: Vec::new(),
        query: None,
    };
    Some((
        outcome,
        MlpState {
            value_1,
            token_scores,
            trigger_score,
            value_2,
        },
    ))
}

/// Tokens that a value matrix answers with their own label when they are attended alone. `None`
/// if the input table is not dense.
#[must_use]
pub fn recalled<R: Real>(
    embeddings: &Embeddings<R>,
    hidden: &Hidden<R>,
    permutation: &Permutation,
    value: &Matrix<R>,
) -> Option<Count> {
    let tables = Tables::new(embeddings)?;
    Some(correct(&tables.labels(hidden, value), permutation))
}

fn correct(answers: &[u32], permutation: &Permutation) -> Count {
    let hits = answers
        .iter()
        .zip(permutation.labels())
        .filter(|(a, b)| a == b)
        .count();
    Count {
        hits: hits as u64,
        total: answers.len() as u64,
    }
}

/// Labels of the training samples by the token that each attends to: token `v` has
/// `labels[start[v]..start[v + 1]]`, ascending.
struct ByToken {
    labels: Vec<u32>,
    start: Vec<u32>,
}

impl ByToken {
    /// From the tokens attended to, in the order of the labels, of which `j` has the places
    /// `of_label[j]..of_label[j + 1]`.
    fn attended(tokens: Vec<u32>, of_label: &[u32]) -> Self {
        let vocab = of_label.len() - 1;
        let (mut places, start) = by_label(&tokens, vocab);
        drop(tokens);
        for v in 0..vocab {
            let mut j = 0;
            for place in &mut places[start[v] as usize..start[v + 1] as usize] {
                j += of_label[j + 1..].partition_point(|s| s <= place);
                *place = j as u32;
            }
        }
        ByToken {
            labels: places,
            start,
        }
    }

    /// If every sample attends to its informative token.
    fn informative(permutation: &Permutation, of_label: &[u32]) -> Self {
        let mut labels = Vec::with_capacity(of_label[of_label.len() - 1] as usize);
        let mut start = vec![0];
        for &j in permutation.labels() {
            let samples = of_label[j as usize + 1] - of_label[j as usize];
            labels.extend(std::iter::repeat_n(j, samples as usize));
            start.push(labels.len() as u32);
        }
        ByToken { labels, start }
    }

    /// Labels of one token.
    fn of(&self, token: usize) -> &[u32] {
        &self.labels[self.start[token] as usize..self.start[token + 1] as usize]
    }
}

/// Dense input side, and the output side as it acts on label-centred sums.
struct Tables<'a, R> {
    input: &'a Matrix<R>,
    trigger: &'a [R],
    output: Output<R>,
    vocab: usize,
}

enum Output<R> {
    /// `z_out(j)` less the mean row.
    Centred { centred: Matrix<R> },
    /// One coordinate for each label.
    Orthonormal,
}

impl<'a, R: Real> Tables<'a, R> {
    fn new(embeddings: &'a Embeddings<R>) -> Option<Self> {
        let (Table::Dense(input), Some(trigger)) = (&embeddings.input, &embeddings.trigger) else {
            return None;
        };
        let output = match &embeddings.output {
            Table::Dense(z) => {
                let mut centred = z.clone();
                centred.centre_rows();
                Output::Centred { centred }
            }
            Table::Orthonormal { .. } => Output::Orthonormal,
        };
        Some(Tables {
            input,
            trigger,
            output,
            vocab: input.rows(),
        })
    }

    fn out_dim(&self) -> usize {
        match &self.output {
            Output::Centred { centred } => centred.cols(),
            Output::Orthonormal => self.vocab,
        }
    }

    /// `value += Z_out^T C S` for the rows `S` (`labels x m`) of a block of labels; for
    /// orthonormal outputs the centring `C` is left to [`Tables::finish`].
    fn absorb(&self, value: &mut Matrix<R>, labels: std::ops::Range<usize>, sums: &[R]) {
        let (n, width) = (labels.len(), value.cols());
        match &self.output {
            Output::Centred { centred } => gemm(
                R::from_f64(1.0),
                centred.rows_view(labels.start, labels.end).t(),
                View::new(sums, n, width),
                R::from_f64(1.0),
                value.data_mut(),
            ),
            Output::Orthonormal => {
                for (j, sum) in labels.zip(sums.chunks_exact(width)) {
                    let row = value.row_mut(j);
                    row.iter_mut().zip(sum).for_each(|(v, s)| *v += *s);
                }
            }
        }
    }

    /// Centres over labels what [`Tables::absorb`] has summed.
    fn finish(&self, value: &mut Matrix<R>) {
        if matches!(self.output, Output::Orthonormal) {
            value.centre_rows();
        }
    }

    /// `V^T Z_out^T c_j` for a block of labels, `labels x m`.
    fn pull(&self, value: &Matrix<R>, labels: std::ops::Range<usize>, out: &mut [R]) {
        match &self.output {
            Output::Centred { centred } => gemm(
                R::from_f64(1.0),
                centred.rows_view(labels.start, labels.end),
                value.view(),
                R::default(),
                out,
            ),
            // The rows are centred already.
            Output::Orthonormal => value.rows_view(labels.start, labels.end).copy_rows_to(out),
        }
    }

    /// The label that each token is answered with when it is attended alone.
    fn labels(&self, hidden: &Hidden<R>, value: &Matrix<R>) -> Vec<u32> {
        let (width, out) = (value.cols(), self.out_dim());
        let block = BLOCK.min(self.vocab);
        let mut features = Buffers::new(hidden, block);
        let mut pulled = vec![R::default(); block * out];
        let mut logits = vec![R::default(); block * self.vocab];
        let mut answers = Vec::with_capacity(self.vocab);
        for from in (0..self.vocab).step_by(block) {
            let n = block.min(self.vocab - from);
            features.of_tokens(hidden, self.input, from..from + n);
            let pulled = &mut pulled[..n * out];
            gemm(
                R::from_f64(1.0),
                View::new(&features.active[..n * width], n, width),
                value.view().t(),
                R::default(),
                pulled,
            );
            let rows: &[R] = match &self.output {
                Output::Orthonormal => pulled,
                // A constant over labels moves no argmax, so the centred table serves.
                Output::Centred { centred } => {
                    let logits = &mut logits[..n * self.vocab];
                    gemm(
                        R::from_f64(1.0),
                        View::new(pulled, n, out),
                        centred.view().t(),
                        R::default(),
                        logits,
                    );
                    logits
                }
            };
            answers.extend(rows.chunks_exact(self.vocab).map(|row| argmax(row) as u32));
        }
        answers
    }
}

impl<R: Real> Buffers<R> {
    /// Of single tokens.
    fn of_tokens(&mut self, hidden: &Hidden<R>, input: &Matrix<R>, tokens: std::ops::Range<usize>) {
        let n = tokens.len();
        input
            .rows_view(tokens.start, tokens.end)
            .copy_rows_to(&mut self.seen[..n * input.cols()]);
        self.forward(hidden, n);
    }

    /// Of sequences under uniform attention.
    fn of_samples(
        &mut self,
        hidden: &Hidden<R>,
        input: &Matrix<R>,
        groups: &Grouped<'_>,
        places: Range<usize>,
    ) {
        let n = places.len();
        let mut contexts = self.seen.chunks_exact_mut(input.cols());
        groups.visit_places(places, |tokens, _| {
            let Some(context) = contexts.next() else {
                return;
            };
            let share = R::from_f64(1.0 / tokens.len() as f64);
            context.fill(R::default());
            for &x in tokens {
                let z = input.row(x as usize);
                context.iter_mut().zip(z).for_each(|(h, z)| *h += *z);
            }
            context.iter_mut().for_each(|h| *h *= share);
        });
        self.forward(hidden, n);
    }
}

/// Ranges of at most [`CHUNK`] places.
fn chunks(places: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = places.end;
    places
        .step_by(CHUNK)
        .map(move |from| from..(from + CHUNK).min(end))
}

/// First value matrix over `eta`: `(1/N) sum_n Z_out^T c_n phi_n^T` at uniform attention.
fn first_step<R: Real>(
    trial: &Trial<'_, R>,
    tables: &Tables<'_, R>,
    groups: &Grouped<'_>,
) -> Matrix<R> {
    let width = trial.hidden.width();
    let mut value = Matrix::zeros(tables.out_dim(), width);
    let mut features = Buffers::new(trial.hidden, CHUNK);
    let mut sums = vec![R::default(); BLOCK * width];
    let share = R::from_f64(1.0 / groups.count() as f64);
    for from in (0..tables.vocab).step_by(BLOCK) {
        let labels = from..(from + BLOCK).min(tables.vocab);
        let sums = &mut sums[..labels.len() * width];
        sums.fill(R::default());
        for chunk in chunks(groups.places_of(labels.clone())) {
            features.of_samples(trial.hidden, tables.input, groups, chunk.clone());
            let labels = groups.labels(chunk, from);
            for (j, phi) in labels.zip(features.active.chunks_exact(width)) {
                let j = j - from;
                let sum = &mut sums[j * width..(j + 1) * width];
                sum.iter_mut().zip(phi).for_each(|(s, p)| *s += *p);
            }
        }
        sums.iter_mut().for_each(|s| *s *= share);
        tables.absorb(&mut value, labels, sums);
    }
    tables.finish(&mut value);
    value
}

/// What the second step learns, over `eta`: `w = Z_in^T A + T z_trig`.
struct Flow {
    tokens: Vec<f64>,
    signal: f64,
}

/// `s_{n,i} = v_i^T J_n W^T (phi'_n o V1^T Z_out^T c_n)`, then
/// `A = (1/(N L)) sum_{n,i} e_{x_{n,i}} (s_{n,i} - mean_i s_{n,i})` and `T` likewise at the
/// informative positions.
fn second_step<R: Real>(
    trial: &Trial<'_, R>,
    tables: &Tables<'_, R>,
    groups: &Grouped<'_>,
    value: &Matrix<R>,
) -> Flow {
    let hidden = trial.hidden;
    let (width, d) = (hidden.width(), hidden.weights.cols());
    let len = trial.setting.len as f64;
    let share = 1.0 / (groups.count() as f64 * len);
    let mut features = Buffers::new(trial.hidden, CHUNK);
    let mut pulled = vec![R::default(); BLOCK * width];
    let mut back = vec![R::default(); CHUNK * width];
    let mut gradient = vec![R::default(); CHUNK * d];
    let mut scores = vec![0.0; trial.setting.len];
    let mut flow = Flow {
        tokens: vec![0.0; tables.vocab],
        signal: 0.0,
    };
    for from in (0..tables.vocab).step_by(BLOCK) {
        let labels = from..(from + BLOCK).min(tables.vocab);
        let pulled = &mut pulled[..labels.len() * width];
        tables.pull(value, labels.clone(), pulled);
        for chunk in chunks(groups.places_of(labels.clone())) {
            let n = chunk.len();
            features.of_samples(hidden, tables.input, groups, chunk.clone());
            let labels = groups.labels(chunk.clone(), from);
            for (j, row) in labels.zip(back.chunks_exact_mut(width)) {
                let j = j - from;
                row.copy_from_slice(&pulled[j * width..(j + 1) * width]);
            }
            let back = &mut back[..n * width];
            let gradient = &mut gradient[..n * d];
            features.back(hidden, back, gradient);
            let mut gradients = gradient.chunks_exact(d);
            groups.visit_places(chunk, |tokens, position| {
                let Some(g) = gradients.next() else {
                    return;
                };
                for (s, &x) in scores.iter_mut().zip(tokens) {
                    *s = dot(tables.input.row(x as usize), g).to_f64();
                }
                let mean = scores.iter().sum::<f64>() / len;
                for (s, &x) in scores.iter().zip(tokens) {
                    flow.tokens[x as usize] += share * (s - mean);
                }
                flow.signal += share * (scores[position] - mean);
            });
        }
    }
    flow
}

/// `(1/N) sum_n Z_out^T c_n phi(z_in(a_n))^T` for the attended tokens `a_n`.
fn third_step<R: Real>(trial: &Trial<'_, R>, tables: &Tables<'_, R>, pairs: &ByToken) -> Matrix<R> {
    let width = trial.hidden.width();
    let out = tables.out_dim();
    let share = R::from_f64(1.0 / pairs.labels.len() as f64);
    let mut value = Matrix::zeros(out, width);
    let block = BLOCK.min(tables.vocab);
    let mut features = Buffers::new(trial.hidden, block);
    let mut weights = vec![R::default(); block * out];
    for from in (0..tables.vocab).step_by(block) {
        let tokens = from..(from + block).min(tables.vocab);
        let n = tokens.len();
        if tokens.clone().all(|v| pairs.of(v).is_empty()) {
            continue;
        }
        features.of_tokens(trial.hidden, tables.input, tokens);
        let active = View::new(&features.active[..n * width], n, width);
        match &tables.output {
            Output::Centred { centred } => {
                let weights = &mut weights[..n * out];
                weights.fill(R::default());
                for (k, row) in weights.chunks_exact_mut(out).enumerate() {
                    for &label in pairs.of(from + k) {
                        let z = centred.row(label as usize);
                        row.iter_mut().zip(z).for_each(|(w, z)| *w += share * *z);
                    }
                }
                let weights = View::new(weights, n, out);
                gemm(
                    R::from_f64(1.0),
                    weights.t(),
                    active,
                    R::from_f64(1.0),
                    value.data_mut(),
                );
            }
            Output::Orthonormal => {
                for (k, phi) in features.active[..n * width].chunks_exact(width).enumerate() {
                    for &label in pairs.of(from + k) {
                        let row = value.row_mut(label as usize);
                        row.iter_mut().zip(phi).for_each(|(v, p)| *v += share * *p);
                    }
                }
            }
        }
    }
    tables.finish(&mut value);
    value
}
