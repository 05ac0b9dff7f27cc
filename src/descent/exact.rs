//! Empirical gradient descent at finite step sizes, gradient by gradient.
//!
//! Nothing is linearised. The derivation, with the same symbols, is in
//! `exact.md`. In short: the key-query matrix is only ever moved along
//! `z_EOS`, so the vector `q = W z_EOS` replaces it; a batch is walked in
//! chunks of samples whose logits come from one product; the sums that steer
//! the attention are compensated, since large step sizes amplify them.
//!
//! Coordinates: the input side has `table.dim()` coordinates, and one more for
//! a trigger that is orthonormal to the tokens (`Embeddings::trigger` is
//! `None`). Keys always see that coordinate, values only when the trigger is
//! in the values.
//!
//! Every sum runs in a fixed order that depends on the shapes alone, so a
//! result does not depend on threads or on the caller.

use crate::embedding::{Embeddings, Table};
use crate::linalg::{Matrix, Real, View, gemm};
use crate::simd::{Kernel, joined, lanes, widest};
use crate::task::Batch;

use super::hidden::{Buffers, Hidden};
use super::{Evaluation, Rates};

/// Why a problem cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemError {
    /// The tables disagree about the vocabulary.
    #[error("the input table has {input} tokens, the output table {output}")]
    Vocabulary {
        /// Rows of the input table.
        input: usize,
        /// Rows of the output table.
        output: usize,
    },
    /// A vector of the wrong length.
    #[error("{what} has {found} entries, expected {expected}")]
    Length {
        /// Which vector.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length it must have.
        expected: usize,
    },
    /// Something that must not be empty.
    #[error("{0} must be at least 1")]
    Empty(&'static str),
    /// A token, position or label out of its range.
    #[error("{what} {found} of sample {sample} is not below {bound}")]
    Range {
        /// `token`, `position` or `label`.
        what: &'static str,
        /// Its value.
        found: u32,
        /// In which sample.
        sample: usize,
        /// The bound it exceeds.
        bound: usize,
    },
}

/// A network's fixed part together with the batch that it sees.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a, R> {
    hidden: Option<&'a Hidden<R>>,
    embeddings: &'a Embeddings<R>,
    batch: &'a Batch,
    trigger_in_values: bool,
    query_norm2: f64,
}

impl<'a, R: Real> Problem<'a, R> {
    /// Checks shapes and ranges. Only the norm of the query `z_EOS` enters.
    ///
    /// # Errors
    /// Names the first quantity that does not fit.
    pub fn new(
        embeddings: &'a Embeddings<R>,
        query: &[R],
        batch: &'a Batch,
        trigger_in_values: bool,
    ) -> Result<Self, ProblemError> {
        let (vocab, dim) = (embeddings.input.vocab(), embeddings.input.dim());
        if embeddings.output.vocab() != vocab {
            return Err(ProblemError::Vocabulary {
                input: vocab,
                output: embeddings.output.vocab(),
            });
        }
        let samples = batch.samples();
        for (size, what) in [
            (vocab, "the vocabulary"),
            (dim, "the input dimension"),
            (embeddings.output.dim(), "the output dimension"),
            (batch.len, "the sequence length"),
            (samples, "the number of samples"),
        ] {
            if size == 0 {
                return Err(ProblemError::Empty(what));
            }
        }
        let length = |what, found, expected| {
            if found == expected {
                Ok(())
            } else {
                Err(ProblemError::Length {
                    what,
                    found,
                    expected,
                })
            }
        };
        if let Some(trigger) = &embeddings.trigger {
            length("the trigger", trigger.len(), dim)?;
            if matches!(embeddings.input, Table::Dense(_)) {
                length("the query", query.len(), dim)?;
            }
        }
        length("the position list", batch.position.len(), samples)?;
        let tokens = samples.saturating_mul(batch.len);
        length("the token list", batch.tokens.len(), tokens)?;
        for n in 0..samples {
            let ranges = [
                ("position", batch.position[n], batch.len),
                ("label", batch.label[n], vocab),
            ];
            let tokens = batch.sequence(n).iter().map(|&x| ("token", x, vocab));
            for (what, found, bound) in tokens.chain(ranges) {
                if found as usize >= bound {
                    return Err(ProblemError::Range {
                        what,
                        found,
                        sample: n,
                        bound,
                    });
                }
            }
        }
        Ok(Problem {
            hidden: None,
            embeddings,
            batch,
            trigger_in_values,
            query_norm2: accurate_dot(query, query).0,
        })
    }

    /// Puts a hidden layer between attention and the value matrix.
    ///
    /// # Errors
    /// If its weights do not fit the values.
    pub fn with_hidden(mut self, hidden: Option<&'a Hidden<R>>) -> Result<Self, ProblemError> {
        if let Some(hidden) = hidden {
            let (found, expected) = (hidden.weights.cols(), self.context_dim());
            if found != expected {
                return Err(ProblemError::Length {
                    what: "a row of the hidden weights",
                    found,
                    expected,
                });
            }
            if hidden.width() == 0 {
                return Err(ProblemError::Empty("the hidden width"));
            }
        }
        self.hidden = hidden;
        Ok(self)
    }

    /// The hidden layer, if there is one.
    #[must_use]
    pub fn hidden(&self) -> Option<&'a Hidden<R>> {
        self.hidden
    }

    /// `|z_EOS|^2`.
    #[must_use]
    pub fn query_norm2(&self) -> f64 {
        self.query_norm2
    }

    /// Vocabulary size `V`.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.embeddings.input.vocab()
    }

    /// Coordinates of keys, hence of `q`.
    #[must_use]
    pub fn key_dim(&self) -> usize {
        self.embeddings.input.dim() + usize::from(self.embeddings.trigger.is_none())
    }

    /// Coordinates of values, hence of the attention output `h`.
    #[must_use]
    pub fn context_dim(&self) -> usize {
        let extra = self.trigger_in_values && self.embeddings.trigger.is_none();
        self.embeddings.input.dim() + usize::from(extra)
    }

    /// Columns of the value matrix.
    #[must_use]
    pub fn feature_dim(&self) -> usize {
        self.hidden
            .map_or_else(|| self.context_dim(), Hidden::width)
    }

    /// Rows of the value matrix.
    #[must_use]
    pub fn output_dim(&self) -> usize {
        self.embeddings.output.dim()
    }

    /// Samples per chunk: large enough for efficient products, small enough that a chunk's
    /// logits stay in cache. Depends on the shapes alone.
    fn chunk(&self) -> usize {
        let widest = self
            .vocab()
            .max(self.context_dim())
            .max(self.feature_dim())
            .max(self.output_dim())
            .max(self.batch.len);
        ((1 << 18) / widest)
            .clamp(32, 256)
            .min(self.batch.samples())
    }

    /// `h += weight * z_trig`, in `key_dim` or `context_dim` coordinates.
    fn add_trigger(&self, weight: R, h: &mut [R]) {
        match &self.embeddings.trigger {
            Some(z) => axpy(weight, z, h),
            None => h[self.embeddings.input.dim()] += weight,
        }
    }

    /// Inner product of the trigger with `u`.
    fn trigger_dot(&self, u: &[R]) -> f64 {
        match &self.embeddings.trigger {
            Some(z) => accurate_dot(z, u).0,
            None => u[self.embeddings.input.dim()].to_f64(),
        }
    }
}

/// Trainable parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct State<R> {
    /// Value matrix, `output_dim x feature_dim`.
    pub value: Matrix<R>,
    /// `q = W z_EOS`. Descent from zero keeps `W = q z_EOS^T / |z_EOS|^2`.
    pub query_key: Vec<R>,
}

impl<R: Real> State<R> {
    /// The starting point: all zero.
    #[must_use]
    pub fn zero(problem: &Problem<'_, R>) -> Self {
        State {
            value: Matrix::zeros(problem.output_dim(), problem.feature_dim()),
            query_key: vec![R::default(); problem.key_dim()],
        }
    }
}

/// Gradient of the mean loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient<R> {
    /// With respect to the value matrix.
    pub value: Matrix<R>,
    /// The vector `g` of `dL/dW = g z_EOS^T`.
    pub key: Vec<f64>,
}

/// Consecutive samples at one state.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'c, R> {
    /// Index of the first sample.
    pub first: usize,
    /// Attention weights, `n x L`.
    pub alpha: View2<'c, f64>,
    /// Attention outputs, `n x context_dim`.
    pub context: View2<'c, R>,
    /// Logits, `n x V`.
    pub logits: View2<'c, R>,
}

/// Row-major rows of one width.
#[derive(Debug, Clone, Copy)]
pub struct View2<'c, T> {
    /// All entries.
    pub data: &'c [T],
    /// Entries per row.
    pub width: usize,
}

impl<'c, T> View2<'c, T> {
    /// The rows in order.
    pub fn rows(&self) -> std::slice::ChunksExact<'c, T> {
        self.data.chunks_exact(self.width)
    }
}

/// First step: `V1 = -eta dL/dV` at zero. Logits vanish there, so without a hidden layer the
/// gradient is exact from the counts of (token, label) pairs at any `eta`.
#[must_use]
pub fn step_one<R: Real>(problem: &Problem<'_, R>, eta: f64) -> State<R> {
    if problem.hidden.is_some() {
        let mut state = State::zero(problem);
        let pass = Pass::run(problem, &state, Wanted::VALUE);
        move_value(problem, &mut state, &pass.value, eta);
        return state;
    }
    let batch = problem.batch;
    let (vocab, width) = (problem.vocab(), problem.context_dim());
    let (order, start) = batch.by_label(vocab);
    let mut occurrences = vec![0u64; vocab];
    for &x in &batch.tokens {
        occurrences[x as usize] += 1;
    }
    let expected: Vec<f64> = occurrences
        .iter()
        .map(|&c| c as f64 / vocab as f64)
        .collect();
    let per_label = batch.samples() as f64 / vocab as f64;

    // Row y: sum over tokens of (count(x, y) - count(x)/V) times the value of x.
    let mut pulled = Matrix::<R>::zeros(vocab, width);
    let rows = problem.chunk().max(32).min(vocab);
    let mut counts = vec![0u32; vocab];
    let mut centred = vec![R::default(); rows * vocab];
    let dim = problem.embeddings.input.dim();
    let mut product = vec![R::default(); rows * dim];
    let mut first = 0;
    while first < vocab {
        let last = (first + rows).min(vocab);
        for (y, line) in (first..last).zip(centred.chunks_exact_mut(vocab)) {
            counts.fill(0);
            for &n in &order[start[y] as usize..start[y + 1] as usize] {
                for &x in batch.sequence(n as usize) {
                    counts[x as usize] += 1;
                }
            }
            for ((c, count), e) in line.iter_mut().zip(&counts).zip(&expected) {
                *c = R::from_f64(f64::from(*count) - e);
            }
        }
        let n = last - first;
        let lines = match &problem.embeddings.input {
            Table::Dense(z) => {
                let out = &mut product[..n * dim];
                let c = View::new(&centred[..n * vocab], n, vocab);
                gemm(one(), c, z.view(), R::default(), out);
                &*out
            }
            Table::Orthonormal { .. } => &centred[..n * vocab],
        };
        for (y, line) in (first..last).zip(lines.chunks_exact(dim)) {
            let row = pulled.row_mut(y);
            row[..dim].copy_from_slice(line);
            if problem.trigger_in_values {
                let excess = f64::from(start[y + 1] - start[y]) - per_label;
                problem.add_trigger(R::from_f64(excess), row);
            }
        }
        first = last;
    }

    let scale = eta / (batch.samples() as f64 * batch.len as f64);
    let mut state = State::zero(problem);
    match &problem.embeddings.output {
        Table::Dense(z) => gemm(
            one(),
            z.view().t(),
            pulled.view(),
            R::default(),
            state.value.data_mut(),
        ),
        Table::Orthonormal { .. } => state.value.data_mut().copy_from_slice(pulled.data()),
    }
    for x in state.value.data_mut() {
        *x = R::from_f64(scale * x.to_f64());
    }
    state
}

/// Second step: `W1 = W - gamma_w dL/dW`. Also returns what the old state achieves.
#[must_use]
pub fn step_two<R: Real>(
    problem: &Problem<'_, R>,
    state: &State<R>,
    gamma_w: f64,
) -> (State<R>, Evaluation) {
    let (next, pass) = step_two_parts(problem, state, gamma_w, Wanted::KEY);
    (next, pass.evaluation)
}

/// [`step_two`], and the pass behind it.
fn step_two_parts<R: Real>(
    problem: &Problem<'_, R>,
    state: &State<R>,
    gamma_w: f64,
    wanted: Wanted,
) -> (State<R>, Pass<R>) {
    let mut next = state.clone();
    let pass = Pass::run(problem, state, wanted);
    move_query(problem, &mut next, &pass.key, gamma_w);
    (next, pass)
}

/// Third step: `V2 = V - gamma_v dL/dV`. Also returns what the old state achieves.
#[must_use]
pub fn step_three<R: Real>(
    problem: &Problem<'_, R>,
    state: &State<R>,
    gamma_v: f64,
) -> (State<R>, Evaluation) {
    let mut next = state.clone();
    let pass = Pass::run(problem, state, Wanted::VALUE);
    move_value(problem, &mut next, &pass.value, gamma_v);
    (next, pass.evaluation)
}

/// One joint step on both matrices, both gradients at the old state, whose evaluation it
/// returns.
pub fn joint_step<R: Real>(
    problem: &Problem<'_, R>,
    state: &mut State<R>,
    lr_v: f64,
    lr_w: f64,
) -> Evaluation {
    let pass = Pass::run(problem, state, Wanted::BOTH);
    move_value(problem, state, &pass.value, lr_v);
    move_query(problem, state, &pass.key, lr_w);
    pass.evaluation
}

/// Gradient of the loss at any state, and what the state achieves.
#[must_use]
pub fn gradient<R: Real>(problem: &Problem<'_, R>, state: &State<R>) -> (Gradient<R>, Evaluation) {
    let pass = Pass::run(problem, state, Wanted::BOTH);
    let mut value = Matrix::from_vec(problem.output_dim(), problem.feature_dim(), pass.value);
    let scale = 1.0 / problem.batch.samples() as f64;
    for x in value.data_mut() {
        *x = R::from_f64(x.to_f64() * scale);
    }
    let key = pass.key;
    (Gradient { value, key }, pass.evaluation)
}

/// What a state achieves on the problem's batch.
#[must_use]
pub fn evaluate<R: Real>(problem: &Problem<'_, R>, state: &State<R>) -> Evaluation {
    Pass::run(problem, state, Wanted::EVALUATION).evaluation
}

/// [`evaluate`] at zero, in closed form: all logits and all attention scores tie.
#[must_use]
pub fn evaluate_zero<R: Real>(problem: &Problem<'_, R>) -> Evaluation {
    let zeros = |x: &[u32]| x.iter().filter(|&&i| i == 0).count();
    Evaluation {
        samples: problem.batch.samples(),
        loss: (problem.vocab() as f64).ln(),
        loss_drop: 0.0,
        correct: zeros(&problem.batch.label),
        min_margin: if problem.vocab() == 1 {
            f64::INFINITY
        } else {
            0.0
        },
        attention_mean: 1.0 / problem.batch.len as f64,
        attention_hits: zeros(&problem.batch.position),
    }
}

/// Shows attention weights, attention outputs and logits to `visit`, chunk by chunk in sample
/// order.
pub fn forward<R: Real>(
    problem: &Problem<'_, R>,
    state: &State<R>,
    mut visit: impl FnMut(Chunk<'_, R>),
) {
    let mut walk = Walk::new(problem, state, false);
    while walk.advance() {
        walk.logits();
        visit(Chunk {
            first: walk.members[0].sample,
            alpha: View2 {
                data: &walk.alpha[..walk.n * problem.batch.len],
                width: problem.batch.len,
            },
            context: View2 {
                data: &walk.context[..walk.n * problem.context_dim()],
                width: problem.context_dim(),
            },
            logits: View2 {
                data: &walk.logits[..walk.n * problem.vocab()],
                width: problem.vocab(),
            },
        });
    }
}

/// Inner products of `q` with every token embedding, and with the trigger.
#[must_use]
pub fn attention_scores<R: Real>(problem: &Problem<'_, R>, state: &State<R>) -> (Vec<f64>, f64) {
    let scores = Scores::new(problem, state);
    let round = |x: &Double| x.0 + x.1;
    (
        scores.token.iter().map(round).collect(),
        round(&scores.trigger),
    )
}

/// A trial of the three-step algorithm.
#[derive(Debug, Clone, PartialEq)]
pub struct ExactTrial<R> {
    /// Value matrix after the first step.
    pub value_1: Matrix<R>,
    /// `q = W1 z_EOS` after the second step.
    pub query_key_1: Vec<R>,
    /// Coefficient of `z_trig` in `q = Z_in^T a + t z_trig`, as the samples accumulate it (the
    /// embeddings alone do not determine it where they outnumber the dimensions).
    pub query_trigger_1: f64,
    /// `q . z_in(v)` for every token.
    pub token_scores_1: Vec<f64>,
    /// Value matrix after the third step.
    pub value_2: Matrix<R>,
    /// The training batch at `(0, 0)`, `(V1, 0)`, `(V1, W1)` and `(V2, W1)`.
    pub train: [Evaluation; 4],
    /// The test batch at `(V2, W1)`.
    pub test: Evaluation,
}

impl<R> ExactTrial<R> {
    /// Training samples whose trained attention peaks on the informative position.
    #[must_use]
    pub fn train_attention_hits(&self) -> usize {
        self.train[3].attention_hits
    }

    /// Test samples whose trained attention peaks on the informative position.
    #[must_use]
    pub fn test_attention_hits(&self) -> usize {
        self.test.attention_hits
    }

    /// Test samples answered correctly, end to end under the softmax attention.
    #[must_use]
    pub fn test_correct(&self) -> usize {
        self.test.correct
    }
}

/// Trains on `train` with the three steps and evaluates on both batches.
///
/// # Errors
/// If a shape or an index does not fit; see [`Problem::new`].
pub fn run<R: Real>(
    embeddings: &Embeddings<R>,
    query: &[R],
    train: &Batch,
    test: &Batch,
    rates: Rates,
    trigger_in_values: bool,
) -> Result<ExactTrial<R>, ProblemError> {
    let seen = |batch| Problem::new(embeddings, query, batch, trigger_in_values);
    Ok(self::train(&seen(train)?, &seen(test)?, rates))
}

/// Trains on one problem with the three steps and evaluates on both; they differ in their batch
/// alone.
#[must_use]
pub fn train<R: Real>(
    problem: &Problem<'_, R>,
    fresh: &Problem<'_, R>,
    rates: Rates,
) -> ExactTrial<R> {
    let at_zero = evaluate_zero(problem);
    let (learned, after_one) = three_steps(problem, fresh, rates, Wanted::KEY);
    let three = State {
        value: learned.value_2,
        query_key: learned.query_key_1,
    };
    let after_three = evaluate(problem, &three);
    ExactTrial {
        value_1: learned.value_1,
        query_key_1: three.query_key,
        query_trigger_1: learned.query_trigger_1,
        token_scores_1: learned.token_scores_1,
        value_2: three.value,
        train: [at_zero, after_one, learned.before_step_three, after_three],
        test: learned.test,
    }
}

/// What the three steps leave behind, and no evaluation that they do not make on their way.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned<R> {
    /// Value matrix after the first step.
    pub value_1: Matrix<R>,
    /// `q = W1 z_EOS` after the second step.
    pub query_key_1: Vec<R>,
    /// See [`ExactTrial::query_trigger_1`].
    pub query_trigger_1: f64,
    /// `q . z_in(v)` for every token.
    pub token_scores_1: Vec<f64>,
    /// Value matrix after the third step.
    pub value_2: Matrix<R>,
    /// The training batch at `(V1, W1)`. The third step leaves attention as it is, so the
    /// attention here is that of the trained network.
    pub before_step_three: Evaluation,
    /// The test batch at `(V2, W1)`.
    pub test: Evaluation,
}

/// Trains on one problem with the three steps and evaluates on the other: [`train`] without the
/// evaluations of the training batch that no gradient needs.
///
/// Where all logits of the second step are so small that the softmax is linear to the rounding of
/// `R`, that step takes no product over samples and vocabulary (`exact.md`, "A linear softmax").
#[must_use]
pub fn learn<R: Real>(
    problem: &Problem<'_, R>,
    fresh: &Problem<'_, R>,
    rates: Rates,
) -> Learned<R> {
    three_steps(problem, fresh, rates, Wanted::KEY_ALONE).0
}

/// The learned state, and the evaluation that the second step made if it was `wanted`.
fn three_steps<R: Real>(
    problem: &Problem<'_, R>,
    fresh: &Problem<'_, R>,
    rates: Rates,
    wanted: Wanted,
) -> (Learned<R>, Evaluation) {
    let one = step_one(problem, rates.eta);
    let (two, second) = step_two_parts(problem, &one, rates.gamma_w, wanted);
    let query_trigger_1 = -rates.gamma_w * problem.query_norm2 * second.key_trigger;
    let (token_scores_1, _) = attention_scores(problem, &two);
    let (three, before_step_three) = step_three(problem, &two, rates.gamma_v);
    let test = evaluate(fresh, &three);
    let learned = Learned {
        value_1: one.value,
        query_key_1: two.query_key,
        query_trigger_1,
        token_scores_1,
        value_2: three.value,
        before_step_three,
        test,
    };
    (learned, second.evaluation)
}

/// `value -= rate * sum / N`.
fn move_value<R: Real>(problem: &Problem<'_, R>, state: &mut State<R>, sum: &[R], rate: f64) {
    let scale = rate / problem.batch.samples() as f64;
    for (v, g) in state.value.data_mut().iter_mut().zip(sum) {
        *v = R::from_f64(v.to_f64() - scale * g.to_f64());
    }
}

/// `q -= rate |z_EOS|^2 g`, since `W -= rate g z_EOS^T` and `q = W z_EOS`.
fn move_query<R: Real>(problem: &Problem<'_, R>, state: &mut State<R>, g: &[f64], rate: f64) {
    let scale = rate * problem.query_norm2;
    for (q, g) in state.query_key.iter_mut().zip(g) {
        *q = R::from_f64(q.to_f64() - scale * g);
    }
}

/// What a pass over the batch is for.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    value: bool,
    key: bool,
    /// Loss and accuracy; without them a pass may linearise a softmax whose logits are tiny.
    evaluation: bool,
}

impl Wanted {
    const EVALUATION: Self = Wanted {
        value: false,
        key: false,
        evaluation: true,
    };
    const VALUE: Self = Wanted {
        value: true,
        ..Self::EVALUATION
    };
    const KEY: Self = Wanted {
        key: true,
        ..Self::EVALUATION
    };
    const BOTH: Self = Wanted {
        value: true,
        ..Self::KEY
    };
    const KEY_ALONE: Self = Wanted {
        evaluation: false,
        ..Self::KEY
    };
}

/// One walk over the batch: the evaluation and the sums that the gradients need.
struct Pass<R> {
    /// Losses and accuracies are those of no sample where a pass was asked for the key alone.
    evaluation: Evaluation,
    /// `sum_n g_n b_n^T` (empty unless asked for), to be divided by `N`.
    value: Vec<R>,
    /// The vector `g` of `dL/dW = g z_EOS^T` (empty unless asked for).
    key: Vec<f64>,
    /// Coefficient of `z_trig` in `key`.
    key_trigger: f64,
}

impl<R: Real> Pass<R> {
    fn run(problem: &Problem<'_, R>, state: &State<R>, wanted: Wanted) -> Pass<R> {
        let batch = problem.batch;
        let (vocab, out, features) = (problem.vocab(), problem.output_dim(), problem.feature_dim());
        // Each sample has a key gradient of its own; samples of one attended token share the rest.
        let mut walk = Walk::new(problem, state, !wanted.key);
        let linear = (!wanted.evaluation && !wanted.value)
            .then(|| Linear::new(&walk))
            .flatten();
        let rows = walk.rows;
        let dense_output = match &problem.embeddings.output {
            Table::Dense(z) => Some(z),
            Table::Orthonormal { .. } => None,
        };
        let mut residual = match dense_output {
            Some(_) if wanted.value || (wanted.key && walk.folded.is_none()) => {
                vec![R::default(); rows * out]
            }
            _ => Vec::new(),
        };
        let contexts = problem.context_dim();
        let mut back = vec![R::default(); if wanted.key { rows * features } else { 0 }];
        let behind_hidden = wanted.key && problem.hidden.is_some();
        let mut behind = vec![R::default(); if behind_hidden { rows * contexts } else { 0 }];
        let mut value = vec![R::default(); if wanted.value { out * features } else { 0 }];
        let mut key = KeySums::new(if wanted.key { vocab } else { 0 });
        let mut slope = vec![0.0; batch.len];
        let (mut loss, mut drop) = (Sum::default(), Sum::default());
        let mut correct = 0;
        let mut min_margin = f64::INFINITY;

        while walk.advance() {
            let n = walk.n;
            let back = &mut back[..if wanted.key { n * features } else { 0 }];
            let small = linear.as_ref().filter(|linear| linear.fits(&walk));
            if let Some(linear) = small {
                linear.pull(&walk, back);
            } else {
                walk.logits();
                let lines = walk.logits[..n * vocab].chunks_exact_mut(vocab);
                for (line, member) in lines.zip(&walk.members) {
                    let label = batch.label[member.sample] as usize;
                    let seen = widest(CrossEntropy {
                        logits: line,
                        label,
                    });
                    let count = member.count as f64;
                    loss.add(count * seen.loss);
                    drop.add(count * seen.drop);
                    correct += usize::from(seen.correct) * member.count;
                    if seen.margin < min_margin || seen.margin.is_nan() {
                        min_margin = seen.margin;
                    }
                    if wanted.value && member.count > 1 {
                        let count = R::from_f64(count);
                        line.iter_mut().for_each(|x| *x *= count);
                    }
                }
                if !(wanted.value || wanted.key) {
                    continue;
                }
                let errors = View::new(&walk.logits[..n * vocab], n, vocab);
                let pulled = match dense_output {
                    Some(z) if !residual.is_empty() => {
                        let to = &mut residual[..n * out];
                        gemm(one(), errors, z.view(), R::default(), to);
                        View::new(to, n, out)
                    }
                    _ => errors,
                };
                if wanted.value {
                    let seen = View::new(walk.features(), n, features);
                    gemm(one(), pulled.t(), seen, one(), &mut value);
                }
                if wanted.key {
                    let (from, through) = match &walk.folded {
                        Some(folded) => (errors, folded.view()),
                        None => (pulled, state.value.view()),
                    };
                    gemm(one(), from, through, R::default(), back);
                }
            }
            if wanted.key {
                let to = match problem.hidden {
                    None => back, // the features are h: nothing to go back through
                    Some(hidden) => {
                        let behind = &mut behind[..n * contexts];
                        walk.hidden.back(hidden, back, behind);
                        behind
                    }
                };
                for (i, u) in to.chunks_exact(contexts).enumerate() {
                    let alpha = &walk.alpha[i * batch.len..(i + 1) * batch.len];
                    let member = &walk.members[i];
                    key.add(problem, member.sample, alpha, member.peak, u, &mut slope);
                }
            }
        }

        let samples = batch.samples();
        Pass {
            evaluation: Evaluation {
                samples,
                loss: loss.total() / samples as f64,
                loss_drop: drop.total() / samples as f64,
                correct,
                min_margin,
                attention_mean: walk.weight.total() / samples as f64,
                attention_hits: walk.hits,
            },
            value,
            key_trigger: key.trigger.total() / samples as f64,
            key: if wanted.key {
                key.gradient(problem)
            } else {
                Vec::new()
            },
        }
    }
}

/// The pull-back `u = K^T (softmax(K h) - e_y)` where the softmax is linear to rounding.
///
/// With `Kc = K` less its mean row and `c = Kc h`, `softmax(f)_j = (1 + c_j + O(max c^2))/V`, so
/// `u = G h - Kc_y` with `G = Kc^T Kc / V`; the relative error of the probabilities is at most
/// `max c^2`, to leading order (`exact.md`, "A linear softmax").
struct Linear<R> {
    /// `Kc`, `V x d`.
    centred: Matrix<R>,
    /// `G`, `d x d`.
    gram: Matrix<R>,
    /// Largest norm of a row of `Kc`.
    longest: f64,
}

impl<R: Real> Linear<R> {
    /// None where `K` is not at hand, or there is something between `h` and `u`.
    fn new(walk: &Walk<'_, '_, R>) -> Option<Self> {
        if walk.problem.hidden.is_some() {
            return None;
        }
        let mut centred = walk.folded.clone()?;
        centred.centre_rows();
        let (vocab, dim) = (centred.rows(), centred.cols());
        let longest = (0..vocab)
            .map(|j| norm2(centred.row(j)))
            .fold(0.0, f64::max)
            .sqrt();
        let mut gram = Matrix::zeros(dim, dim);
        let share = R::from_f64(1.0 / vocab as f64);
        gemm(
            share,
            centred.view().t(),
            centred.view(),
            R::default(),
            gram.data_mut(),
        );
        Some(Linear {
            centred,
            gram,
            longest,
        })
    }

    /// Whether the square of every centred logit of the chunk is below a rounding, by the
    /// inequality of Cauchy and Schwarz. False if a number is not finite.
    fn fits(&self, walk: &Walk<'_, '_, R>) -> bool {
        let contexts = walk.features().chunks_exact(self.centred.cols());
        let length2 = contexts.map(norm2).fold(0.0, f64::max);
        length2 * self.longest.powi(2) <= R::EPSILON
    }

    fn pull(&self, walk: &Walk<'_, '_, R>, back: &mut [R]) {
        let dim = self.centred.cols();
        let contexts = View::new(walk.features(), walk.n, dim);
        gemm(one(), contexts, self.gram.view(), R::default(), back);
        for (u, member) in back.chunks_exact_mut(dim).zip(&walk.members) {
            let label = walk.problem.batch.label[member.sample] as usize;
            for (u, k) in u.iter_mut().zip(self.centred.row(label)) {
                *u -= *k;
            }
        }
    }
}

fn norm2<R: Real>(x: &[R]) -> f64 {
    x.iter().map(|x| x.to_f64() * x.to_f64()).sum()
}

/// Sums of the loss derivatives with respect to attention scores, by token.
struct KeySums {
    token: Vec<Sum>,
    trigger: Sum,
}

impl KeySums {
    fn new(vocab: usize) -> Self {
        KeySums {
            token: vec![Sum::default(); vocab],
            trigger: Sum::default(),
        }
    }

    /// Adds one sample; `u = dl_n/dh`.
    fn add<R: Real>(
        &mut self,
        problem: &Problem<'_, R>,
        sample: usize,
        alpha: &[f64],
        peak: usize,
        u: &[R],
        slope: &mut [f64],
    ) {
        let batch = problem.batch;
        let tokens = batch.sequence(sample);
        let position = batch.position[sample] as usize;
        let dim = problem.embeddings.input.dim();
        match &problem.embeddings.input {
            Table::Dense(z) => widest(Slopes {
                table: z,
                tokens,
                direction: &u[..dim],
                slope,
            }),
            Table::Orthonormal { .. } => {
                for (s, &x) in slope.iter_mut().zip(tokens) {
                    *s = u[x as usize].to_f64();
                }
            }
        }
        if problem.trigger_in_values {
            slope[position] += problem.trigger_dot(u);
        }
        // Measured from the peak, so that a saturated softmax loses no digits: the terms of
        // the mean are then as small as the weights off the peak.
        let origin = slope[peak];
        let mut mean = 0.0;
        for (s, a) in slope.iter_mut().zip(alpha) {
            *s -= origin;
            mean += a * *s;
        }
        for ((s, a), &x) in slope.iter().zip(alpha).zip(tokens) {
            self.token[x as usize].add(a * (s - mean));
        }
        self.trigger.add(alpha[position] * (slope[position] - mean));
    }

    /// `g = (1/N) (Z_in^T a + t z_trig)`.
    fn gradient<R: Real>(&self, problem: &Problem<'_, R>) -> Vec<f64> {
        let mut g = vec![Sum::default(); problem.key_dim()];
        match &problem.embeddings.input {
            Table::Dense(z) => {
                for (v, weight) in self.token.iter().enumerate() {
                    weight.add_times(z.row(v), &mut g);
                }
            }
            Table::Orthonormal { .. } => g[..self.token.len()].copy_from_slice(&self.token),
        }
        match &problem.embeddings.trigger {
            Some(z) => self.trigger.add_times(z, &mut g),
            None => g[problem.embeddings.input.dim()] = self.trigger,
        }
        let samples = problem.batch.samples() as f64;
        g.iter().map(|x| x.total() / samples).collect()
    }
}

/// An unevaluated sum of two doubles.
type Double = (f64, f64);

/// Attention scores before the softmax: `q . z_in(x)` and `q . z_trig`, to twice the working
/// precision, since a softmax turns their absolute error into a relative one.
struct Scores {
    token: Vec<Double>,
    trigger: Double,
    /// Whether all scores tie at zero, as they do before the second step.
    zero: bool,
}

impl Scores {
    fn new<R: Real>(problem: &Problem<'_, R>, state: &State<R>) -> Self {
        let dim = problem.embeddings.input.dim();
        let q = &state.query_key;
        let token = match &problem.embeddings.input {
            Table::Dense(z) => (0..z.rows())
                .map(|v| accurate_dot(z.row(v), &q[..dim]))
                .collect(),
            Table::Orthonormal { vocab } => q[..*vocab].iter().map(|x| (x.to_f64(), 0.0)).collect(),
        };
        let trigger = match &problem.embeddings.trigger {
            Some(z) => accurate_dot(z, &q[..dim]),
            None => (q[dim].to_f64(), 0.0),
        };
        let zero = q.iter().all(|x| *x == R::default());
        Scores {
            token,
            trigger,
            zero,
        }
    }

    /// Softmax weights of one sequence; returns the position of the largest score, and the sum of
    /// all other exponentials over the largest.
    fn softmax(
        &self,
        tokens: &[u32],
        position: usize,
        line: &mut [Double],
        alpha: &mut [f64],
    ) -> (usize, f64) {
        if self.zero {
            alpha.fill(1.0 / tokens.len() as f64);
            return (0, (tokens.len() - 1) as f64);
        }
        for (s, &x) in line.iter_mut().zip(tokens) {
            *s = self.token[x as usize];
        }
        let (hi, lo) = two_sum(line[position].0, self.trigger.0);
        line[position] = two_sum(hi, lo + line[position].1 + self.trigger.1);
        let mut peak = 0;
        for (i, s) in line.iter().enumerate().skip(1) {
            if *s > line[peak] {
                peak = i;
            }
        }
        let top = line[peak];
        let (mut total, mut rest) = (0.0, 0.0);
        for (i, (a, s)) in alpha.iter_mut().zip(&*line).enumerate() {
            let below = (s.0 - top.0) + (s.1 - top.1);
            // The exponential is zero here; its own way to find out is slow.
            *a = if below < -746.0 { 0.0 } else { below.exp() };
            total += *a;
            rest += if i == peak { 0.0 } else { *a };
        }
        for a in alpha {
            *a /= total;
        }
        (peak, rest)
    }
}

/// A row of a chunk.
#[derive(Debug, Clone, Copy)]
struct Member {
    /// The sample, or the first of those that the row stands for.
    sample: usize,
    /// Position of its largest attention score.
    peak: usize,
    /// Samples that the row stands for.
    count: usize,
}

/// A sample whose attention is saturated: `(attended token, label, informative, sample)`.
type Saturated = (u32, u32, bool, u32);

/// Forward evaluation in chunks; the buffers hold the current one.
struct Walk<'p, 'a, R> {
    problem: &'p Problem<'a, R>,
    state: &'p State<R>,
    scores: Scores,
    /// Whether samples of one attended token and one label share a row, at the end.
    share: bool,
    /// `K = Z_out V`, `V x feature_dim`, where that is no wider than `V` has rows.
    folded: Option<Matrix<R>>,
    /// Next sample.
    next: usize,
    /// Samples put off, sorted after the last sample.
    saturated: Vec<Saturated>,
    /// How many of them are done; none as long as samples are left.
    done: Option<usize>,
    n: usize,
    rows: usize,
    line: Vec<Double>,
    alpha: Vec<f64>,
    members: Vec<Member>,
    context: Vec<R>,
    /// Empty without a hidden layer.
    hidden: Buffers<R>,
    output: Vec<R>,
    logits: Vec<R>,
    /// Sum of the weights on the informative positions so far.
    weight: Sum,
    /// Samples so far whose attention peaks on the informative position.
    hits: usize,
}

impl<'p, 'a, R: Real> Walk<'p, 'a, R> {
    fn new(problem: &'p Problem<'a, R>, state: &'p State<R>, share: bool) -> Self {
        let rows = problem.chunk();
        let (vocab, features) = (problem.vocab(), problem.feature_dim());
        let (folded, output) = match &problem.embeddings.output {
            Table::Dense(z) if features <= problem.output_dim() => {
                let mut folded = Matrix::zeros(vocab, features);
                let (z, value) = (z.view(), state.value.view());
                gemm(one(), z, value, R::default(), folded.data_mut());
                (Some(folded), 0)
            }
            Table::Dense(_) => (None, rows * problem.output_dim()),
            Table::Orthonormal { .. } => (None, 0),
        };
        Walk {
            problem,
            state,
            scores: Scores::new(problem, state),
            share,
            folded,
            next: 0,
            saturated: Vec::with_capacity(if share { problem.batch.samples() } else { 0 }),
            done: None,
            n: 0,
            rows,
            line: vec![(0.0, 0.0); problem.batch.len],
            alpha: vec![0.0; rows * problem.batch.len],
            members: Vec::with_capacity(rows),
            context: vec![R::default(); rows * problem.context_dim()],
            hidden: problem
                .hidden
                .map_or_else(Buffers::default, |hidden| Buffers::new(hidden, rows)),
            output: vec![R::default(); output],
            logits: vec![R::default(); rows * vocab],
            weight: Sum::default(),
            hits: 0,
        }
    }

    /// What the value matrix acts on, `n x feature_dim`.
    fn features(&self) -> &[R] {
        match self.problem.hidden {
            None => &self.context[..self.n * self.problem.context_dim()],
            Some(hidden) => &self.hidden.active[..self.n * hidden.width()],
        }
    }

    /// Attends over the samples of the next chunk; false at the end.
    fn advance(&mut self) -> bool {
        self.members.clear();
        if self.done.is_none() {
            self.attend();
        }
        if self.members.is_empty() {
            self.gather();
        }
        self.n = self.members.len();
        if self.n == 0 {
            return false;
        }
        if let Some(hidden) = self.problem.hidden {
            let seen = self.n * self.problem.context_dim();
            self.hidden.seen[..seen].copy_from_slice(&self.context[..seen]);
            self.hidden.forward(hidden, self.n);
        }
        true
    }

    /// Fills rows with the next samples, and puts off those whose attention is saturated.
    fn attend(&mut self) {
        let problem = self.problem;
        let batch = problem.batch;
        let width = problem.context_dim();
        while self.members.len() < self.rows && self.next < batch.samples() {
            let sample = self.next;
            self.next += 1;
            let i = self.members.len();
            let (tokens, position) = (batch.sequence(sample), batch.position[sample] as usize);
            let alpha = &mut self.alpha[i * batch.len..(i + 1) * batch.len];
            let (peak, rest) = self.scores.softmax(tokens, position, &mut self.line, alpha);
            self.weight.add(alpha[position]);
            self.hits += usize::from(peak == position);
            if self.share && rest <= R::EPSILON / 4.0 {
                let key = (tokens[peak], batch.label[sample], peak == position);
                self.saturated.push((key.0, key.1, key.2, sample as u32));
                continue;
            }
            self.members.push(Member {
                sample,
                peak,
                count: 1,
            });
            let h = &mut self.context[i * width..(i + 1) * width];
            match &problem.embeddings.input {
                Table::Dense(z) => {
                    h[z.cols()..].fill(R::default());
                    widest(Mean {
                        table: z,
                        tokens,
                        weights: alpha,
                        out: &mut h[..z.cols()],
                    });
                }
                Table::Orthonormal { .. } => {
                    h.fill(R::default());
                    for (&x, &a) in tokens.iter().zip(&*alpha) {
                        h[x as usize] += R::from_f64(a);
                    }
                }
            }
            if problem.trigger_in_values {
                problem.add_trigger(R::from_f64(alpha[position]), h);
            }
        }
    }

    /// Fills rows with the samples put off, one for each attended token, label and whether it is
    /// the informative position.
    fn gather(&mut self) {
        let problem = self.problem;
        let width = problem.context_dim();
        if self.done.is_none() {
            self.saturated.sort_unstable();
        }
        let mut done = self.done.unwrap_or(0);
        while self.members.len() < self.rows && done < self.saturated.len() {
            let (token, label, informative, sample) = self.saturated[done];
            let count = self.saturated[done..]
                .iter()
                .take_while(|s| (s.0, s.1, s.2) == (token, label, informative))
                .count();
            done += count;
            let i = self.members.len();
            self.members.push(Member {
                sample: sample as usize,
                peak: 0,
                count,
            });
            let h = &mut self.context[i * width..(i + 1) * width];
            h.fill(R::default());
            match &problem.embeddings.input {
                Table::Dense(z) => h[..z.cols()].copy_from_slice(z.row(token as usize)),
                Table::Orthonormal { .. } => h[token as usize] = one(),
            }
            if problem.trigger_in_values && informative {
                problem.add_trigger(one(), h);
            }
        }
        self.done = Some(done);
    }

    /// Logits of the chunk.
    fn logits(&mut self) {
        let problem = self.problem;
        let (n, vocab, out) = (self.n, problem.vocab(), problem.output_dim());
        // Borrowed field by field, since the logits are written beside it.
        let features = match problem.hidden {
            None => {
                let width = problem.context_dim();
                View::new(&self.context[..n * width], n, width)
            }
            Some(hidden) => {
                let m = hidden.width();
                View::new(&self.hidden.active[..n * m], n, m)
            }
        };
        let value = self.state.value.view().t();
        let logits = &mut self.logits[..n * vocab];
        match (&self.folded, &problem.embeddings.output) {
            (Some(folded), _) => gemm(one(), features, folded.view().t(), R::default(), logits),
            (None, Table::Dense(z)) => {
                let output = &mut self.output[..n * out];
                gemm(one(), features, value, R::default(), output);
                let output = View::new(output, n, out);
                gemm(one(), output, z.view().t(), R::default(), logits);
            }
            (None, Table::Orthonormal { .. }) => {
                gemm(one(), features, value, R::default(), logits);
            }
        }
    }
}

/// `sum_i weight_i z(x_i)`.
struct Mean<'k, R> {
    table: &'k Matrix<R>,
    tokens: &'k [u32],
    weights: &'k [f64],
    out: &'k mut [R],
}

impl<R: Real> Kernel for Mean<'_, R> {
    type Output = ();
    /// Some columns at a time, so that their sums stay in registers.
    #[inline(always)]
    fn run(mut self) {
        let mut from = 0;
        while self.out.len() - from >= 128 {
            columns::<R, 128>(&mut self, &mut from);
        }
        while self.out.len() - from >= 16 {
            columns::<R, 16>(&mut self, &mut from);
        }
        while from < self.out.len() {
            columns::<R, 1>(&mut self, &mut from);
        }
    }
}

/// Entries `from..from + W` of the mean; moves `from` behind them.
#[inline(always)]
fn columns<R: Real, const W: usize>(mean: &mut Mean<'_, R>, from: &mut usize) {
    let mut sum = [R::default(); W];
    for (&x, &weight) in mean.tokens.iter().zip(mean.weights) {
        let weight = R::from_f64(weight);
        // Most weights of a sharp softmax have underflowed.
        if weight == R::default() {
            continue;
        }
        let row = &mean.table.row(x as usize)[*from..*from + W];
        for (s, z) in sum.iter_mut().zip(row) {
            *s += weight * *z;
        }
    }
    mean.out[*from..*from + W].copy_from_slice(&sum);
    *from += W;
}

/// Inner products of the tokens of a sample with one direction.
struct Slopes<'k, R> {
    table: &'k Matrix<R>,
    tokens: &'k [u32],
    direction: &'k [R],
    slope: &'k mut [f64],
}

impl<R: Real> Kernel for Slopes<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for (s, &x) in self.slope.iter_mut().zip(self.tokens) {
            *s = fast_dot(self.table.row(x as usize), self.direction).to_f64();
        }
    }
}

/// One sample under the cross entropy.
struct Seen {
    loss: f64,
    drop: f64,
    correct: bool,
    margin: f64,
}

/// [`cross_entropy_in_place`] of one sample.
struct CrossEntropy<'k, R> {
    logits: &'k mut [R],
    label: usize,
}

impl<R: Real> Kernel for CrossEntropy<'_, R> {
    type Output = Seen;
    #[inline(always)]
    fn run(self) -> Seen {
        cross_entropy_in_place(self.logits, self.label)
    }
}

/// Replaces logits by `softmax - e_y`, and reports the loss, whether the label wins and by
/// what margin.
///
/// The label's entry is minus the probability of all other classes, summed as such: `p_y - 1`
/// would cancel for a confident network.
#[inline(always)]
fn cross_entropy_in_place<R: Real>(f: &mut [R], y: usize) -> Seen {
    let target = f[y];
    let (min_left, max_left) = range(&f[..y], target);
    let (min_right, max_right) = range(&f[y + 1..], target);
    let alone = f.len() == 1;
    let rival = match (y == 0, y + 1 == f.len()) {
        (true, _) => max_right,
        (_, true) => max_left,
        _ => larger(max_left, max_right),
    };
    let correct = (y == 0 || target > max_left) && (y + 1 == f.len() || target >= max_right);
    let margin = if alone {
        f64::INFINITY
    } else {
        (target.to_f64() - rival.to_f64()).abs()
    };
    let top = larger(target, rival);
    let bottom = smaller(target, smaller(min_left, min_right));
    let log_vocab = (f.len() as f64).ln();
    // No closure: it would be compiled without the caller's vector instructions.
    let tiny = if top.to_f64() - bottom.to_f64() < 1.0 / 64.0 {
        Some(tiny_drop(f, target))
    } else {
        None
    };

    for x in f.iter_mut() {
        *x = (*x - top).exp_of_nonpositive();
    }
    let own = f[y];
    f[y] = R::default();
    let others = lane_sum(f);
    let total = own + others;
    let scale = one::<R>() / total;
    for x in f.iter_mut() {
        *x *= scale;
    }
    f[y] = -(others * scale);

    let (loss, drop) = match tiny {
        Some(drop) => (log_vocab - drop, drop),
        None => {
            let loss = if target == top {
                others.to_f64().ln_1p()
            } else {
                (top.to_f64() - target.to_f64()) + total.to_f64().ln()
            };
            (loss, log_vocab - loss)
        }
    };
    Seen {
        loss,
        drop,
        correct,
        margin,
    }
}

/// `log V - loss` from logits within 1/64 of each other, without the cancellation: with
/// `c = f - mean f` it is `c_y - log(1 + mean(e^c - 1))`.
#[inline(always)]
fn tiny_drop<R: Real>(f: &[R], target: R) -> f64 {
    let size = R::from_f64(f.len() as f64);
    let mean = lane_sum(f) / size;
    let [c2, c3, c4, c5, c6, c7] =
        [2.0, 6.0, 24.0, 120.0, 720.0, 5040.0].map(|n| R::from_f64(1.0 / n));
    let excess = lanes(
        f,
        R::default(),
        |s, x| {
            let c = x - mean;
            let tail = c2 + c * (c3 + c * (c4 + c * (c5 + c * (c6 + c * c7))));
            s + (c + c * c * tail)
        },
        |a, b| a + b,
    ) / size;
    (target - mean).to_f64() - excess.to_f64().ln_1p()
}

#[inline(always)]
fn larger<R: Real>(a: R, b: R) -> R {
    if a > b { a } else { b }
}

#[inline(always)]
fn smaller<R: Real>(a: R, b: R) -> R {
    if a < b { a } else { b }
}

/// Smallest and largest entry; `(other, other)` for an empty slice.
#[inline(always)]
fn range<R: Real>(x: &[R], other: R) -> (R, R) {
    let Some(&start) = x.first() else {
        return (other, other);
    };
    (
        lanes(x, start, |a, b| smaller(b, a), smaller),
        lanes(x, start, |a, b| larger(b, a), larger),
    )
}

#[inline(always)]
fn lane_sum<R: Real>(x: &[R]) -> R {
    lanes(x, R::default(), |a, b| a + b, |a, b| a + b)
}

/// Inner product in interleaved lanes.
#[inline(always)]
fn fast_dot<R: Real>(a: &[R], b: &[R]) -> R {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    let mut acc = [R::default(); 16];
    let (xs, ys) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest = xs.remainder().iter().zip(ys.remainder());
    for (x, y) in xs.zip(ys) {
        for ((s, x), y) in acc.iter_mut().zip(x).zip(y) {
            *s += *x * *y;
        }
    }
    // What is left does not touch the lanes, or they would leave their registers.
    let mut sum = joined(acc, |a, b| a + b);
    for (x, y) in rest {
        sum += *x * *y;
    }
    sum
}

fn axpy<R: Real>(a: R, x: &[R], y: &mut [R]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * *x;
    }
}

fn one<R: Real>() -> R {
    R::from_f64(1.0)
}

/// `a + b` and its rounding error.
fn two_sum(a: f64, b: f64) -> Double {
    let s = a + b;
    let t = s - a;
    (s, (a - (s - t)) + (b - t))
}

/// Compensated running sum.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    hi: f64,
    lo: f64,
}

impl Sum {
    fn add(&mut self, x: f64) {
        let (hi, e) = two_sum(self.hi, x);
        self.hi = hi;
        self.lo += e;
    }

    fn add_product(&mut self, x: f64, y: f64) {
        let p = x * y;
        self.add(p);
        self.lo += x.mul_add(y, -p);
    }

    /// `to += self * x`, entry by entry.
    fn add_times<R: Real>(&self, x: &[R], to: &mut [Sum]) {
        for (sum, x) in to.iter_mut().zip(x) {
            sum.add_product(self.hi, x.to_f64());
            sum.lo += self.lo * x.to_f64();
        }
    }

    fn total(&self) -> f64 {
        self.hi + self.lo
    }
}

/// Inner product to twice the working precision.
fn accurate_dot<R: Real>(a: &[R], b: &[R]) -> Double {
    let mut sum = Sum::default();
    for (x, y) in a.iter().zip(b) {
        sum.add_product(x.to_f64(), y.to_f64());
    }
    two_sum(sum.hi, sum.lo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compensated_sum_keeps_what_a_double_loses() {
        let mut sum = Sum::default();
        sum.add(1e16);
        (0..1000).for_each(|_| sum.add(1.0 / 16.0));
        sum.add(-1e16);
        assert_eq!(sum.total(), 62.5);
        // (1 + e)(1 - e) - 1 = -e^2, which a rounded product does not have.
        let e = 2f64.powi(-30);
        let mut sum = Sum::default();
        sum.add_product(1.0 + e, 1.0 - e);
        sum.add(-1.0);
        assert_eq!(sum.total(), -e * e);
    }

    #[test]
    fn attention_weights_keep_their_digits_until_they_underflow() {
        let scores = Scores {
            token: [0.0, 40.0, 700.0, 800.0]
                .map(|below| (-below, 0.0))
                .to_vec(),
            trigger: (-3.0, 0.0),
            zero: false,
        };
        let (mut line, mut alpha) = ([(0.0, 0.0); 4], [0.0; 4]);
        let (peak, rest) = scores.softmax(&[1, 0, 2, 3], 0, &mut line, &mut alpha);
        // The first position is the informative one.
        let want = [(-43f64).exp(), 1.0, (-700f64).exp(), 0.0];
        for (a, w) in alpha.iter().zip(want) {
            assert!((a - w).abs() <= 1e-14 * w, "{alpha:?}");
        }
        assert_eq!(peak, 1);
        assert!((rest / want[0] - 1.0).abs() < 1e-14);
    }

    #[test]
    fn ties_of_logits_go_to_the_lowest_label() {
        for (logits, label, correct, margin) in [
            ([2.0, 2.0, 1.0], 0, true, 0.0),
            ([2.0, 2.0, 1.0], 1, false, 0.0),
            ([1.0, 3.0, 3.0], 1, true, 0.0),
            ([1.0, 3.0, 3.0], 2, false, 0.0),
            ([1.0, 2.0, 4.0], 2, true, 2.0),
            ([1.0, 2.0, 4.0], 0, false, 3.0),
        ] {
            let mut f: [f64; 3] = logits;
            let seen = cross_entropy_in_place(&mut f, label);
            assert_eq!((seen.correct, seen.margin), (correct, margin), "{logits:?}");
            assert!(f.iter().sum::<f64>().abs() < 1e-15);
        }
    }

    #[test]
    fn the_loss_drop_of_small_logits_is_that_of_the_definition() {
        // Spreads on both sides of the place where the series takes over.
        for spread in [1e-3, 0.0155, 0.0157, 0.1, 0.9] {
            let f: Vec<f64> = (0..50)
                .map(|i| spread * (f64::from(i * i)).sin() / 2.0)
                .collect();
            for label in [0, 7, 49] {
                let sum: f64 = f.iter().map(|x| x.exp()).sum();
                let drop = 50f64.ln() - (sum.ln() - f[label]);
                let seen = cross_entropy_in_place(&mut f.clone(), label);
                assert!((seen.drop - drop).abs() < 1e-14, "{} {drop}", seen.drop);
                assert!((seen.loss + seen.drop - 50f64.ln()).abs() < 1e-14);
            }
        }
    }
}
