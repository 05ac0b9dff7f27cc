//! Random numbers for the Monte Carlo checks of this crate's own tests.

use crate::activation::Activation;

/// Variates from a linear congruential generator: enough for averages over small tables.
pub(crate) struct Lcg(pub(crate) u64);

impl Lcg {
    /// Uniform on `(0, 1)`.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Uniform on `0..n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.uniform() * n as f64) as usize).min(n - 1)
    }

    /// Standard normal.
    pub(crate) fn normal(&mut self) -> f64 {
        let r = (-2.0 * self.uniform().ln()).sqrt();
        r * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Rows iid `N(0, I/d)`, or of unit length.
    pub(crate) fn table(&mut self, rows: usize, d: usize, unit: bool) -> Vec<Vec<f64>> {
        (0..rows)
            .map(|_| {
                let row: Vec<f64> = (0..d).map(|_| self.normal()).collect();
                let scale = if unit {
                    row.iter().map(|x| x * x).sum::<f64>().sqrt()
                } else {
                    (d as f64).sqrt()
                };
                row.into_iter().map(|x| x / scale).collect()
            })
            .collect()
    }

    /// Hidden features of `rows` unit inputs of dimension `d` through a drawn layer of `width` units.
    pub(crate) fn features(
        &mut self,
        activation: Activation,
        rows: usize,
        d: usize,
        width: usize,
    ) -> Vec<Vec<f64>> {
        let w: Vec<Vec<f64>> = (0..width)
            .map(|_| (0..d).map(|_| self.normal()).collect())
            .collect();
        self.table(rows, d, true)
            .iter()
            .map(|x| w.iter().map(|u| activation.value(dot(u, x))).collect())
            .collect()
    }
}

/// `x . y`.
pub(crate) fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(a, b)| a * b).sum()
}

/// Mean row and covariance `(1/V) Z^T P Z` of a table.
pub(crate) fn mean_and_covariance(z: &[Vec<f64>]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let (v, d) = (z.len() as f64, z[0].len());
    let mean: Vec<f64> = (0..d)
        .map(|a| z.iter().map(|r| r[a]).sum::<f64>() / v)
        .collect();
    let mut sigma = vec![vec![0.0; d]; d];
    for row in z {
        for a in 0..d {
            for b in 0..d {
                sigma[a][b] += (row[a] - mean[a]) * (row[b] - mean[b]) / v;
            }
        }
    }
    (mean, sigma)
}

/// `S x`.
pub(crate) fn apply(s: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
    s.iter().map(|row| dot(row, x)).collect()
}
