//! The first gradient in coordinates in which its sampling noise is white.

use nalgebra::DMatrix;

use super::gradient::FirstGradient;
use crate::linalg::{Matrix, dot, gemm};

/// Eigenvalues below this share of the largest one count as zero.
const RANK_TOLERANCE: f64 = 1e-10;

/// `Y = A^T Pi B + noise` with independent noise entries of one variance, `(L-1)/V` (times
/// `1 + kappa` for a noisy oracle).
#[derive(Debug)]
pub(super) struct Channel {
    /// `Y`, `r_in x r_out`.
    pub(super) observed: Matrix<f64>,
    /// Rows `a_v = K^{-1/2} z~_in(v)`, `V x r_in`; `A^T A = I` and `sum_v a_v = 0`.
    pub(super) input: Matrix<f64>,
    /// Rows `n_j b_j`, `b_j = B^{-1/2} z~_out(j)`, `V x r_out`.
    pub(super) output: Matrix<f64>,
    /// `|a_v|^2`.
    pub(super) input_norm: Vec<f64>,
    /// `|n_j b_j|^2`.
    pub(super) output_norm: Vec<f64>,
}

impl Channel {
    /// Whitens by the pseudo-inverse square roots of `K = Z~_in^T Z~_in` and
    /// `B = Z~_out^T D_n Z~_out`, restricted to their ranges (a table of rank `V - 1`, labels that
    /// were not seen).
    pub(super) fn new(g: &FirstGradient) -> Self {
        let (gradient, table) = g.centred();
        let (input, map_in) = whiten(&table, &vec![1.0; table.rows()]);
        let (mut output, map_out) = whiten(&g.output, &g.counts);
        for (j, n) in g.counts.iter().enumerate() {
            output.row_mut(j).iter_mut().for_each(|x| *x *= n);
        }
        let mut half = Matrix::zeros(map_in.cols(), gradient.cols());
        gemm(
            1.0,
            map_in.view().t(),
            gradient.view(),
            0.0,
            half.data_mut(),
        );
        let mut observed = Matrix::zeros(map_in.cols(), map_out.cols());
        gemm(1.0, half.view(), map_out.view(), 0.0, observed.data_mut());
        let norms = |z: &Matrix<f64>| (0..z.rows()).map(|v| dot(z.row(v), z.row(v))).collect();
        Channel {
            input_norm: norms(&input),
            output_norm: norms(&output),
            observed,
            input,
            output,
        }
    }

    /// `a_v^T M (n_j b_j)` for all `v, j`.
    pub(super) fn correlate(&self, m: &Matrix<f64>, out: &mut Matrix<f64>) {
        let mut half = Matrix::zeros(self.input.rows(), m.cols());
        gemm(1.0, self.input.view(), m.view(), 0.0, half.data_mut());
        gemm(
            1.0,
            half.view(),
            self.output.view().t(),
            0.0,
            out.data_mut(),
        );
    }

    /// `A^T P B` for a `V x V` table `P`.
    pub(super) fn project(&self, p: &Matrix<f64>) -> Matrix<f64> {
        let mut half = Matrix::zeros(self.input.cols(), p.cols());
        gemm(1.0, self.input.view().t(), p.view(), 0.0, half.data_mut());
        let mut out = Matrix::zeros(half.rows(), self.output.cols());
        gemm(1.0, half.view(), self.output.view(), 0.0, out.data_mut());
        out
    }

    /// Energy `|a_v|^2 |n_j b_j|^2` of the template of a pair.
    pub(super) fn energy(&self, v: usize, j: usize) -> f64 {
        self.input_norm[v] * self.output_norm[j]
    }

    /// `<template, Y> - energy/2`: the log likelihood of the pair times the noise variance, the
    /// other stored pairs counted as white noise. Any level of that noise gives the same order.
    pub(super) fn log_likelihood(&self) -> Matrix<f64> {
        let mut scores = Matrix::zeros(self.input.rows(), self.output.rows());
        self.correlate(&self.observed, &mut scores);
        for v in 0..scores.rows() {
            for (j, s) in scores.row_mut(v).iter_mut().enumerate() {
                *s -= 0.5 * self.energy(v, j);
            }
        }
        scores
    }
}

/// `Z U Lambda^{-1/2}` and `U Lambda^{-1/2}` for `Z^T diag(w) Z = U Lambda U^T`, kept to the
/// eigenvalues that are not zero.
fn whiten(table: &Matrix<f64>, weights: &[f64]) -> (Matrix<f64>, Matrix<f64>) {
    let (rows, dim) = (table.rows(), table.cols());
    let mut weighted = table.clone();
    for (v, w) in weights.iter().enumerate() {
        weighted.row_mut(v).iter_mut().for_each(|x| *x *= w);
    }
    let mut gram = Matrix::zeros(dim, dim);
    gemm(1.0, table.view().t(), weighted.view(), 0.0, gram.data_mut());
    let symmetric = DMatrix::from_fn(dim, dim, |i, j| 0.5 * (gram.row(i)[j] + gram.row(j)[i]));
    let eigen = symmetric.symmetric_eigen();
    let top = eigen.eigenvalues.iter().copied().fold(0.0, f64::max);
    let kept: Vec<usize> = (0..dim)
        .filter(|&k| eigen.eigenvalues[k] > RANK_TOLERANCE * top)
        .collect();
    let mut map = Matrix::zeros(dim, kept.len());
    for i in 0..dim {
        for (x, &k) in map.row_mut(i).iter_mut().zip(&kept) {
            *x = eigen.eigenvectors[(i, k)] / eigen.eigenvalues[k].sqrt();
        }
    }
    let mut white = Matrix::zeros(rows, kept.len());
    gemm(1.0, table.view(), map.view(), 0.0, white.data_mut());
    (white, map)
}
