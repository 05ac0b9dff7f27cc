//! The small-step limit of three-step descent with a hidden layer.
//!
//! The derivation is in `mlp.md`. Samples are walked in chunks, grouped by label, so that neither
//! an `N x m` nor an `N x d` array is ever held; class sums of features are kept for a block of
//! labels at a time. Every sum runs in a fixed order that depends on the shapes alone.

use recall_theory::Setting;

use super::early::{Attended, Count, Outcome, Scores, variance};
use super::hidden::{Buffers, Hidden};
use crate::embedding::{Embeddings, Table};
use crate::linalg::{Matrix, Real, View, argmax, dot, gemm};
use crate::task::{Batch, Permutation};

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
    pub train: &'a Batch,
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
    let groups = Groups::new(trial);
    let (vocab, width) = (trial.setting.vocab, trial.hidden.width());
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
    let attend = |batch: &Batch| -> Vec<Attended> {
        (0..batch.samples())
            .map(|n| {
                let (tokens, position) = (batch.sequence(n), batch.position[n] as usize);
                let i = scores.argmax(tokens, position);
                Attended::new(tokens[i], i == position)
            })
            .collect()
    };
    let (train, test) = (attend(trial.train), attend(trial.test));
    let hits = |attended: &[Attended]| Count {
        hits: attended.iter().filter(|a| a.hit()).count() as u64,
        total: attended.len() as u64,
    };
    let pairs = |attended: &dyn Fn(usize) -> usize| -> Vec<(u32, u32)> {
        let mut pairs: Vec<(u32, u32)> = (0..trial.train.samples())
            .map(|n| (attended(n) as u32, trial.train.label[n]))
            .collect();
        pairs.sort_unstable();
        pairs
    };
    let value_2 = third_step(trial, &tables, &pairs(&|n| train[n].token()));
    let answers = tables.labels(trial.hidden, &value_2);
    let recall = if hits(&train).hits == hits(&train).total {
        correct(&answers, trial.permutation)
    } else {
        let informative = |n: usize| trial.permutation.token(trial.train.label[n]) as usize;
        let saturated = third_step(trial, &tables, &pairs(&informative));
        correct(&tables.labels(trial.hidden, &saturated), trial.permutation)
    };
    let right = test
        .iter()
        .zip(&trial.test.label)
        .filter(|(a, y)| answers[a.token()] == **y)
        .count();

    let outcome = Outcome {
        train_attention: Some(hits(&train)),
        attention: hits(&test),
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

/// Training samples in the order of their labels.
struct Groups {
    order: Vec<u32>,
    start: Vec<u32>,
}

impl Groups {
    fn new<R>(trial: &Trial<'_, R>) -> Self {
        let (order, start) = trial.train.by_label(trial.setting.vocab);
        Groups { order, start }
    }

    /// Samples whose labels lie in a range.
    fn of(&self, labels: std::ops::Range<usize>) -> &[u32] {
        &self.order[self.start[labels.start] as usize..self.start[labels.end] as usize]
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
        batch: &Batch,
        samples: &[u32],
    ) {
        let d = input.cols();
        let share = R::from_f64(1.0 / batch.len as f64);
        for (&n, context) in samples.iter().zip(self.seen.chunks_exact_mut(d)) {
            context.fill(R::default());
            for &x in batch.sequence(n as usize) {
                let z = input.row(x as usize);
                context.iter_mut().zip(z).for_each(|(h, z)| *h += *z);
            }
            context.iter_mut().for_each(|h| *h *= share);
        }
        self.forward(hidden, samples.len());
    }
}

/// First value matrix over `eta`: `(1/N) sum_n Z_out^T c_n phi_n^T` at uniform attention.
fn first_step<R: Real>(trial: &Trial<'_, R>, tables: &Tables<'_, R>, groups: &Groups) -> Matrix<R> {
    let width = trial.hidden.width();
    let mut value = Matrix::zeros(tables.out_dim(), width);
    let mut features = Buffers::new(trial.hidden, CHUNK);
    let mut sums = vec![R::default(); BLOCK * width];
    let share = R::from_f64(1.0 / trial.train.samples() as f64);
    for from in (0..tables.vocab).step_by(BLOCK) {
        let labels = from..(from + BLOCK).min(tables.vocab);
        let sums = &mut sums[..labels.len() * width];
        sums.fill(R::default());
        for chunk in groups.of(labels.clone()).chunks(CHUNK) {
            features.of_samples(trial.hidden, tables.input, trial.train, chunk);
            for (&n, phi) in chunk.iter().zip(features.active.chunks_exact(width)) {
                let j = trial.train.label[n as usize] as usize - from;
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
    groups: &Groups,
    value: &Matrix<R>,
) -> Flow {
    let hidden = trial.hidden;
    let (width, d) = (hidden.width(), hidden.weights.cols());
    let len = trial.train.len as f64;
    let share = 1.0 / (trial.train.samples() as f64 * len);
    let mut features = Buffers::new(trial.hidden, CHUNK);
    let mut pulled = vec![R::default(); BLOCK * width];
    let mut back = vec![R::default(); CHUNK * width];
    let mut gradient = vec![R::default(); CHUNK * d];
    let mut scores = vec![0.0; trial.train.len];
    let mut flow = Flow {
        tokens: vec![0.0; tables.vocab],
        signal: 0.0,
    };
    for from in (0..tables.vocab).step_by(BLOCK) {
        let labels = from..(from + BLOCK).min(tables.vocab);
        let pulled = &mut pulled[..labels.len() * width];
        tables.pull(value, labels.clone(), pulled);
        for chunk in groups.of(labels.clone()).chunks(CHUNK) {
            let n = chunk.len();
            features.of_samples(hidden, tables.input, trial.train, chunk);
            for (&sample, row) in chunk.iter().zip(back.chunks_exact_mut(width)) {
                let j = trial.train.label[sample as usize] as usize - from;
                row.copy_from_slice(&pulled[j * width..(j + 1) * width]);
            }
            let back = &mut back[..n * width];
            let gradient = &mut gradient[..n * d];
            features.back(hidden, back, gradient);
            for (&sample, g) in chunk.iter().zip(gradient.chunks_exact(d)) {
                let sample = sample as usize;
                let tokens = trial.train.sequence(sample);
                for (s, &x) in scores.iter_mut().zip(tokens) {
                    *s = dot(tables.input.row(x as usize), g).to_f64();
                }
                let mean = scores.iter().sum::<f64>() / len;
                for (s, &x) in scores.iter().zip(tokens) {
                    flow.tokens[x as usize] += share * (s - mean);
                }
                let position = trial.train.position[sample] as usize;
                flow.signal += share * (scores[position] - mean);
            }
        }
    }
    flow
}

/// `(1/N) sum_n Z_out^T c_n phi(z_in(a_n))^T` for the attended tokens `a_n`, from the sorted pairs
/// `(a_n, y_n)`.
fn third_step<R: Real>(
    trial: &Trial<'_, R>,
    tables: &Tables<'_, R>,
    pairs: &[(u32, u32)],
) -> Matrix<R> {
    let width = trial.hidden.width();
    let out = tables.out_dim();
    let share = R::from_f64(1.0 / trial.train.samples() as f64);
    let mut value = Matrix::zeros(out, width);
    let block = BLOCK.min(tables.vocab);
    let mut features = Buffers::new(trial.hidden, block);
    let mut weights = vec![R::default(); block * out];
    let mut rest = pairs;
    for from in (0..tables.vocab).step_by(block) {
        let tokens = from..(from + block).min(tables.vocab);
        let n = tokens.len();
        let here = rest.partition_point(|p| (p.0 as usize) < tokens.end);
        let (now, later) = rest.split_at(here);
        rest = later;
        if now.is_empty() {
            continue;
        }
        features.of_tokens(trial.hidden, tables.input, tokens);
        let active = View::new(&features.active[..n * width], n, width);
        match &tables.output {
            Output::Centred { centred } => {
                let weights = &mut weights[..n * out];
                weights.fill(R::default());
                for &(token, label) in now {
                    let k = token as usize - from;
                    let row = &mut weights[k * out..(k + 1) * out];
                    let z = centred.row(label as usize);
                    row.iter_mut().zip(z).for_each(|(w, z)| *w += share * *z);
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
                for &(token, label) in now {
                    let k = token as usize - from;
                    let phi = &features.active[k * width..(k + 1) * width];
                    let row = value.row_mut(label as usize);
                    row.iter_mut().zip(phi).for_each(|(v, p)| *v += share * *p);
                }
            }
        }
    }
    tables.finish(&mut value);
    value
}
