//! The matched filter.

use super::gradient::FirstGradient;
use crate::linalg::{Matrix, gemm};

/// `z_in(v)^T G z~_out(j)`, `V x V`.
pub(super) fn scores(g: &FirstGradient) -> Matrix<f64> {
    let mut pulled = Matrix::zeros(g.input.rows(), g.gradient.cols());
    gemm(
        1.0,
        g.input.view(),
        g.gradient.view(),
        0.0,
        pulled.data_mut(),
    );
    let mut scores = Matrix::zeros(g.input.rows(), g.output.rows());
    gemm(
        1.0,
        pulled.view(),
        g.output.view().t(),
        0.0,
        scores.data_mut(),
    );
    scores
}
