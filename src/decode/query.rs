//! Readings of the attention query of step 2 by someone who also knows the first gradient.
//!
//! Step 2 gives `w = T z_trig + Z_in^T A`. Part of `A` is a function of the first gradient, the
//! label counts and the embeddings; it can be subtracted, and what is left is a Gaussian channel for
//! `z_trig` (to dominant order). `theory/src/query_bound.md` derives the channel, its bound and the
//! four readings below.

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use super::gradient::FirstGradient;
use super::matched;
use super::whitened::Channel;
use crate::descent::early::Count;
use crate::linalg::{Matrix, dot, gemm, gemv};
use crate::task::Batch;

/// How the query is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reading {
    /// `w` as gradient descent has it.
    Gradient,
    /// Less the class mean of the flow, which holds the mean bias: a function of the first gradient
    /// and the label counts.
    Debiased,
    /// Less everything that the first gradient predicts: the class mean and the flow of the sequence
    /// noise as far as the gradient shows it.
    Residual,
    /// The posterior mean of `z_trig` given the residual, in the Gaussian channel.
    Bayes,
}

impl Reading {
    /// All readings in the order of records.
    pub const ALL: [Reading; 4] = [
        Reading::Gradient,
        Reading::Debiased,
        Reading::Residual,
        Reading::Bayes,
    ];

    /// Words for tables and legends.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reading::Gradient => "as descent has it",
            Reading::Debiased => "mean bias subtracted",
            Reading::Residual => "all that step 1 predicts subtracted",
            Reading::Bayes => "Bayes query",
        }
    }
}

/// One reading of one trial.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadQuery {
    /// Which.
    pub reading: Reading,
    /// `(q . z_trig)^2 / |q|^2`, one for a perfect query and a trigger of unit length.
    pub alignment: f64,
    /// Argmax attention with this query on fresh sequences.
    pub attention: Count,
}

/// The query of one trial, read in every way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryOutcome {
    /// `T`, coefficient of `z_trig`, units of `S0`.
    pub signal: f64,
    /// Trace of the covariance of the residual noise given the first gradient, units of `S0^2`.
    pub noise_squared: f64,
    /// Bound on the expected alignment of any query in the Gaussian channel of this trial.
    pub bound: f64,
    /// `|z_trig|^2`, one in expectation and independent of the bound.
    pub trigger_squared: f64,
    /// The readings, in the order of [`Reading::ALL`].
    pub readings: Vec<ReadQuery>,
}

/// Reads the query of a trial. `trigger` is `z_trig`, in the keys only.
#[must_use]
pub fn read(
    gradient: &FirstGradient,
    trigger: &[f64],
    batch: &Batch,
    test: &Batch,
) -> QueryOutcome {
    let vocab = gradient.input.rows();
    let (v, len, samples) = (vocab as f64, gradient.len, batch.samples() as f64);
    let tokens = samples * len;
    let unit = len * len * v;
    let l = 1.0 - 1.0 / len;
    let width = gradient.input.cols();

    // B[v, j], the scores of the first value matrix, centred over labels by the output table.
    let mut scores = matched::scores(gradient);
    scores.data_mut().iter_mut().for_each(|x| *x /= tokens);
    let flow = Flow::of(&scores, batch, tokens);

    // What the first gradient predicts of A: the counts by their best linear guess (Q3).
    let channel = Channel::new(gradient);
    let mut counts = Matrix::zeros(vocab, vocab);
    channel.correlate(&channel.observed, &mut counts);
    let (mut mean, mut seen) = (vec![0.0; vocab], vec![0.0; vocab]);
    for x in 0..vocab {
        for (j, (b, s)) in scores.row(x).iter().zip(counts.row(x)).enumerate() {
            mean[j] += b / v;
            seen[j] += (len / v * gradient.counts[j] + s) * b;
        }
    }
    for (s, n) in seen.iter_mut().zip(&gradient.counts) {
        *s = if *n > 0.0 { *s / (len * n) } else { 0.0 };
    }
    let (mut bulk, mut predicted) = (vec![0.0; vocab], vec![0.0; vocab]);
    for x in 0..vocab {
        for (j, (b, s)) in scores.row(x).iter().zip(counts.row(x)).enumerate() {
            let n = gradient.counts[j];
            bulk[x] += l * l / v * n / samples * (b - mean[j]);
            predicted[x] += l / tokens * (len / v * n + s) * (b - seen[j]);
        }
    }
    let embed = |coefficients: &[f64]| {
        let mut query = vec![0.0; width];
        gemv(gradient.input.view().t(), coefficients, &mut query);
        query
    };
    let minus = |known: &[f64]| -> Vec<f64> {
        let a: Vec<f64> = flow
            .coefficients
            .iter()
            .zip(known)
            .map(|(a, k)| a - k)
            .collect();
        let mut query = embed(&a);
        for (q, t) in query.iter_mut().zip(trigger) {
            *q = (*q + flow.signal * t) * unit;
        }
        query
    };
    let residual = minus(&predicted);

    let noise = noise_covariance(gradient, &channel, &scores, tokens, unit);
    let signal = flow.signal * unit;
    let posterior = Posterior::new(&noise, signal, &residual);
    let readings = [
        (Reading::Gradient, minus(&vec![0.0; vocab])),
        (Reading::Debiased, minus(&bulk)),
        (Reading::Residual, residual),
        (Reading::Bayes, posterior.mean),
    ]
    .map(|(reading, query)| ReadQuery {
        reading,
        alignment: dot(&query, trigger).powi(2) / dot(&query, &query).max(f64::MIN_POSITIVE),
        attention: attention(gradient, &query, trigger, test),
    });
    QueryOutcome {
        signal,
        noise_squared: noise.trace(),
        bound: posterior.bound,
        trigger_squared: dot(trigger, trigger),
        readings: readings.to_vec(),
    }
}

/// `A` and `T` of step 2.
struct Flow {
    coefficients: Vec<f64>,
    signal: f64,
}

impl Flow {
    fn of(scores: &Matrix<f64>, batch: &Batch, tokens: f64) -> Self {
        let mut coefficients = vec![0.0; scores.rows()];
        let mut signal = 0.0;
        for (n, &label) in batch.label.iter().enumerate() {
            let sequence = batch.sequence(n);
            let score = |x: u32| scores.row(x as usize)[label as usize];
            let mean = sequence.iter().map(|x| score(*x)).sum::<f64>() / sequence.len() as f64;
            for &x in sequence {
                coefficients[x as usize] += (score(x) - mean) / tokens;
            }
            signal += (score(sequence[batch.position[n] as usize]) - mean) / tokens;
        }
        Flow {
            coefficients,
            signal,
        }
    }
}

/// `Z_in^T [ (L-1)/(V N^2 L^2) (C - P_in) o (B D_n B^T) ] Z_in`, the covariance of the residual noise
/// given the first gradient; equation (Q4).
fn noise_covariance(
    gradient: &FirstGradient,
    channel: &Channel,
    scores: &Matrix<f64>,
    tokens: f64,
    unit: f64,
) -> DMatrix<f64> {
    let vocab = scores.rows();
    let v = vocab as f64;
    let mut weighted = scores.clone();
    for x in 0..vocab {
        let row = weighted.row_mut(x);
        row.iter_mut()
            .zip(&gradient.counts)
            .for_each(|(b, n)| *b *= n);
    }
    let mut gram = Matrix::zeros(vocab, vocab);
    gemm(
        1.0,
        weighted.view(),
        scores.view().t(),
        0.0,
        gram.data_mut(),
    );
    let mut projector = Matrix::zeros(vocab, vocab);
    let side = channel.input.view();
    gemm(1.0, side, side.t(), 0.0, projector.data_mut());
    let scale = (gradient.len - 1.0) / (v * tokens * tokens) * unit * unit;
    for x in 0..vocab {
        for (u, (g, p)) in gram.row_mut(x).iter_mut().zip(projector.row(x)).enumerate() {
            let centring = f64::from(u8::from(u == x)) - 1.0 / v;
            *g *= scale * (centring - p);
        }
    }
    let width = gradient.input.cols();
    let mut half = Matrix::zeros(vocab, width);
    gemm(
        1.0,
        gram.view(),
        gradient.input.view(),
        0.0,
        half.data_mut(),
    );
    let mut out = Matrix::zeros(width, width);
    gemm(
        1.0,
        gradient.input.view().t(),
        half.view(),
        0.0,
        out.data_mut(),
    );
    DMatrix::from_fn(width, width, |i, k| 0.5 * (out.row(i)[k] + out.row(k)[i]))
}

/// `z_trig` given the residual `T z_trig + noise`, prior `N(0, I/d)`.
struct Posterior {
    mean: Vec<f64>,
    /// `1 - tr Cov + lambda_max(Cov)` of the posterior covariance; equation (Q5).
    bound: f64,
}

impl Posterior {
    fn new(noise: &DMatrix<f64>, signal: f64, residual: &[f64]) -> Self {
        let d = residual.len() as f64;
        let eigen = noise.clone().symmetric_eigen();
        let rotated = eigen.eigenvectors.transpose() * DVector::from_column_slice(residual);
        let (mut trace, mut most) = (0.0, 0.0f64);
        let mut mean = DVector::zeros(residual.len());
        for (k, xi) in eigen.eigenvalues.iter().enumerate() {
            let xi = xi.max(0.0);
            let variance = xi / (d * xi + signal * signal);
            trace += variance;
            most = most.max(variance);
            mean[k] = rotated[k] * signal / (d * xi + signal * signal);
        }
        Posterior {
            mean: (&eigen.eigenvectors * mean).iter().copied().collect(),
            bound: 1.0 - trace + most,
        }
    }
}

/// Argmax attention of a query on fresh sequences, the lowest position among equals.
fn attention(gradient: &FirstGradient, query: &[f64], trigger: &[f64], test: &Batch) -> Count {
    let mut token = vec![0.0; gradient.input.rows()];
    gemv(gradient.input.view(), query, &mut token);
    let advantage = dot(query, trigger);
    let hits = (0..test.samples())
        .filter(|&n| {
            let position = test.position[n] as usize;
            let mut best = (f64::NEG_INFINITY, 0);
            for (i, &x) in test.sequence(n).iter().enumerate() {
                let own = if i == position { advantage } else { 0.0 };
                let score = token[x as usize] + own;
                if score > best.0 {
                    best = (score, i);
                }
            }
            best.1 == position
        })
        .count();
    Count {
        hits: hits as u64,
        total: test.samples() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, StreamKey};
    use crate::task::Permutation;
    use recall_theory::Labels;

    #[test]
    fn the_flow_of_a_sequence_sums_to_zero() {
        let (vocab, len, samples) = (9, 4, 50);
        let key = StreamKey::from_text("flow");
        let pi = Permutation::random(vocab, &mut key.stream(Purpose::Permutation));
        let mut rng = key.stream(Purpose::Train);
        let batch = Batch::draw(&mut rng, &pi, len, samples, Labels::Iid);
        let scores = (0..vocab * vocab).map(|i| (i as f64).sin() + 0.3).collect();
        let scores = Matrix::from_vec(vocab, vocab, scores);
        let flow = Flow::of(&scores, &batch, (samples * len) as f64);
        let size: f64 = flow.coefficients.iter().map(|x| x.abs()).sum();
        let sum: f64 = flow.coefficients.iter().sum();
        assert!(size > 0.1 && sum.abs() < 1e-14 * size, "{sum} of {size}");
    }
}
