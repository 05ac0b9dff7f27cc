//! Approximate message passing for a permutation behind a linear Gaussian channel.

use super::whitened::Channel;
use crate::linalg::Matrix;

/// Most iterations.
const ITERATIONS: usize = 40;
/// Share of the previous estimate and residual that is kept in every iteration.
const DAMPING: f64 = 0.3;
/// Rounds of column and row normalisation of the denoiser.
const SINKHORN: usize = 4;
/// Mean change of a row of the estimate (total variation) at which it stops.
const SETTLED: f64 = 1e-3;
/// Smallest noise variance, as a share of the first: an exact channel leaves no residual.
const FLOOR: f64 = 1e-12;

/// Scores of the last iteration: the log of the denoised estimate up to a constant per token,
/// `V x V`. (Its normalisation by columns moves a best label, and no best assignment.)
///
/// The noise level and the Onsager correction are computed from the residual and the estimate;
/// nothing is told about the channel's true noise. See `decode.md`.
pub(super) fn scores(channel: &Channel) -> Matrix<f64> {
    let (rows, cols) = (channel.input.rows(), channel.output.rows());
    let measurements = (channel.observed.rows() * channel.observed.cols()) as f64;
    let power = |m: &Matrix<f64>| m.data().iter().map(|x| x * x).sum::<f64>() / measurements;
    let mut estimate = Matrix::zeros(rows, cols);
    estimate.data_mut().fill(1.0 / cols as f64);
    // The uniform estimate projects to zero, since the input rows are centred.
    let mut residual = channel.observed.clone();
    let floor = FLOOR * power(&residual).max(f64::MIN_POSITIVE);
    let mut scores = Matrix::zeros(rows, cols);
    let mut columns = vec![0.0; cols];
    for _ in 0..ITERATIONS {
        let noise = power(&residual).max(floor);
        channel.correlate(&residual, &mut scores);
        for v in 0..rows {
            let row = scores.row_mut(v);
            for (j, (s, p)) in row.iter_mut().zip(estimate.row(v)).enumerate() {
                *s = (*s + channel.energy(v, j) * (p - 0.5)) / noise;
            }
        }
        let posterior = denoise(&scores, &mut columns);
        let (mut change, mut onsager) = (0.0, 0.0);
        for v in 0..rows {
            let row = estimate.row_mut(v);
            for (j, (x, p)) in row.iter_mut().zip(posterior.row(v)).enumerate() {
                onsager += channel.energy(v, j) * p * (1.0 - p);
                change += (p - *x).abs();
                *x = DAMPING * *x + (1.0 - DAMPING) * p;
            }
        }
        onsager /= noise * measurements;
        let explained = channel.project(&estimate);
        for (r, (y, e)) in residual
            .data_mut()
            .iter_mut()
            .zip(channel.observed.data().iter().zip(explained.data()))
        {
            *r = DAMPING * *r + (1.0 - DAMPING) * (y - e + onsager * *r);
        }
        if change < 2.0 * SETTLED * rows as f64 {
            break;
        }
    }
    for v in 0..rows {
        scores
            .row_mut(v)
            .iter_mut()
            .zip(&columns)
            .for_each(|(s, c)| *s += c);
    }
    scores
}

/// Row softmax, then alternating normalisation of columns and rows: a doubly stochastic table is
/// the mean of some law on permutations, a row-stochastic one need not be. `potentials` takes the
/// logs of the column factors.
fn denoise(scores: &Matrix<f64>, potentials: &mut [f64]) -> Matrix<f64> {
    let (rows, cols) = (scores.rows(), scores.cols());
    let mut p = Matrix::zeros(rows, cols);
    for v in 0..rows {
        let top = scores.row(v).iter().copied().fold(f64::MIN, f64::max);
        for (x, s) in p.row_mut(v).iter_mut().zip(scores.row(v)) {
            *x = (s - top).exp();
        }
        normalise(p.row_mut(v));
    }
    let mut columns = vec![0.0; cols];
    potentials.fill(0.0);
    for _ in 0..SINKHORN {
        columns.fill(0.0);
        for v in 0..rows {
            columns.iter_mut().zip(p.row(v)).for_each(|(c, x)| *c += x);
        }
        columns
            .iter_mut()
            .for_each(|c| *c = c.max(f64::MIN_POSITIVE).recip());
        potentials
            .iter_mut()
            .zip(&columns)
            .for_each(|(p, c)| *p += c.ln());
        for v in 0..rows {
            let row = p.row_mut(v);
            row.iter_mut().zip(&columns).for_each(|(x, c)| *x *= c);
            normalise(row);
        }
    }
    p
}

fn normalise(row: &mut [f64]) {
    let sum: f64 = row.iter().sum();
    if sum > 0.0 && sum.is_finite() {
        row.iter_mut().for_each(|x| *x /= sum);
    }
}
