//! Second-order statistics of one embedding side: traces of the empirical covariance and what
//! the noise budget needs of it. Derivation: `moments.md`.

use crate::setting::{Embedding, Setting};

/// Moments of one table of `V` tokens in `d` dimensions, `Sigma = (1/V) Z^T P Z` with `P` centring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// `E tr Sigma^2`, about `(1 + q)/d` with `q = d/V`.
    pub t2: f64,
    /// `E tr Sigma^3`, about `(1 + 3q + q^2)/d^2`.
    pub t3: f64,
    /// `E tr Sigma^4`, about `(1 + 6q + 6q^2 + q^3)/d^3`.
    pub t4: f64,
    /// `tr Sigma^6` in the limit of large `d` at fixed `q`:
    /// `(1 + 15q + 50q^2 + 50q^3 + 15q^4 + q^5)/d^5`.
    pub t6: f64,
    /// `E (1/V) sum_v (z_v^T Sigma z_v)^2`.
    pub k2: f64,
    /// `V E mu mu^T = mean_factor I`: `1/d` for random rows, 0 where the mean embedding is
    /// invisible (orthonormal). `E mu^T X mu = mean_factor tr X / V`.
    pub mean_factor: f64,
    /// `E mu^T Sigma mu`: variance over tokens of `z_v . mu`.
    pub mean_squared: f64,
    /// Relative variance of `|z_v|^2`.
    pub norm_variance: f64,
    /// `E G_jj^2` of the centred Gram matrix.
    pub diagonal_squared: f64,
    /// `1/d`, the variance of one inner product of two tokens; 0 when orthonormal.
    pub overlap: f64,
}

impl Moments {
    /// Moments of the input side.
    #[must_use]
    pub fn input(s: &Setting) -> Self {
        Moments::of(s.input, s.vocab, s.dim_in)
    }

    /// Moments of the output side.
    #[must_use]
    pub fn output(s: &Setting) -> Self {
        Moments::of(s.output, s.vocab, s.dim_out)
    }

    /// Moments of a table of `vocab` rows.
    #[must_use]
    pub fn of(law: Embedding, vocab: usize, dim: usize) -> Self {
        let v = vocab as f64;
        let n = v - 1.0;
        let centred = n / v;
        if law == Embedding::Orthonormal {
            return Moments {
                t2: n / v.powi(2),
                t3: n / v.powi(3),
                t4: n / v.powi(4),
                t6: n / v.powi(6),
                k2: (centred / v).powi(2),
                mean_factor: 0.0,
                mean_squared: 0.0,
                norm_variance: 0.0,
                diagonal_squared: centred.powi(2),
                overlap: 0.0,
            };
        }
        let d = dim as f64;
        let norm_variance = if law == Embedding::Gaussian {
            2.0 / d
        } else {
            0.0
        };
        // Exact Wishart moments with n = V - 1 degrees of freedom (Gaussian rows; on the sphere
        // they differ by a relative O(1/V)).
        let t2 = n * (n + d + 1.0) / (d * v.powi(2));
        let t3 =
            n * (n * n + d * d + 3.0 * n * d + 3.0 * n + 3.0 * d + 4.0) / (v.powi(3) * d.powi(2));
        let t4 = n
            * (n.powi(3)
                + d.powi(3)
                + 6.0 * n * n * d
                + 6.0 * n * d * d
                + 6.0 * n * n
                + 6.0 * d * d
                + 17.0 * n * d
                + 21.0 * n
                + 21.0 * d
                + 20.0)
            / (v.powi(4) * d.powi(3));
        let q = d / v;
        let narayana = [1.0, 15.0, 50.0, 50.0, 15.0, 1.0];
        let t6 = narayana.iter().rev().fold(0.0, |sum, c| sum * q + c) / d.powi(5);
        let mu = 1.0 / (d * v);
        let radial = norm_variance * (1.0 + 2.0 * q).powi(2);
        let k2 = t2 * t2 + (radial + 2.0 * q / d) / (d * d);
        Moments {
            t2,
            t3,
            t4,
            t6,
            k2,
            mean_factor: 1.0 / d,
            mean_squared: mu * centred,
            norm_variance,
            diagonal_squared: centred.powi(2) * (1.0 + norm_variance),
            overlap: 1.0 / d,
        }
    }

    /// Mean of `K_vv'^2` over coinciding tokens that a swapped pair of samples shares.
    #[must_use]
    pub fn t2_or_one(&self) -> f64 {
        if self.overlap == 0.0 {
            1.0
        } else {
            self.diagonal_squared
        }
    }
}
