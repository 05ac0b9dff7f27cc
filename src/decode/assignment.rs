//! Linear assignment by the Kuhn-Munkres algorithm of the `pathfinding` crate.

use pathfinding::kuhn_munkres::{Weights, kuhn_munkres};

use crate::linalg::Matrix;

/// The range of the scores in integer steps: the algorithm needs a total order. Sums of `V` rounded
/// scores are off by at most `V / 2^40` of the range.
const STEPS: f64 = (1u64 << 40) as f64;

struct Scores<'a> {
    scores: &'a Matrix<f64>,
    least: f64,
    scale: f64,
}

impl Weights<i64> for Scores<'_> {
    fn rows(&self) -> usize {
        self.scores.rows()
    }

    fn columns(&self) -> usize {
        self.scores.cols()
    }

    fn at(&self, row: usize, col: usize) -> i64 {
        ((self.scores.row(row)[col] - self.least) * self.scale).round() as i64
    }

    fn neg(&self) -> Self {
        Scores {
            scale: -self.scale,
            ..*self
        }
    }
}

/// The permutation `p` that maximises `sum_v scores[v, p(v)]` for a square table; `O(V^3)`.
pub(super) fn largest(scores: &Matrix<f64>) -> Vec<usize> {
    let bounds = scores
        .data()
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| {
            (a.min(*x), b.max(*x))
        });
    let range = bounds.1 - bounds.0;
    let scale = if range > 0.0 && range.is_finite() {
        STEPS / range
    } else {
        0.0
    };
    let weights = Scores {
        scores,
        least: bounds.0,
        scale,
    };
    kuhn_munkres(&weights).1
}
