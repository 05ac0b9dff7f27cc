//! Weighted linear least squares, the numerical core of [`super::regression`].
//!
//! Solved by Householder QR of the column-scaled design, never by the normal
//! equations, which would square the condition number.

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use super::error::{StatsError, require};
use super::interval::stable_sum;

/// A column whose part outside the span of the columns before it is smaller than
/// this fraction of its norm counts as dependent on them.
const DEPENDENCE_TOLERANCE: f64 = 1e-8;

/// Leverage above which a point determines its own fitted value.
const FULL_LEVERAGE: f64 = 1.0 - 1e-9;

/// A named column of the design matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Name for messages and reports.
    pub name: String,
    /// One value per observation.
    pub values: Vec<f64>,
}

impl Column {
    /// A column called `name`.
    #[must_use]
    pub fn new(name: impl Into<String>, values: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            values,
        }
    }
}

/// Result of [`least_squares`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeastSquares {
    /// One coefficient per column.
    pub coefficients: Vec<f64>,
    /// (X'WX)^-1, `k` x `k`, row by row; multiply by the residual variance if
    /// the weights are only relative.
    pub unscaled_covariance: Vec<Vec<f64>>,
    /// Observed minus fitted, one per observation, unweighted.
    pub residuals: Vec<f64>,
    /// Diagonal of the (weighted) hat matrix; sums to the number of columns.
    pub leverage: Vec<f64>,
    /// Weights, all 1 without weights.
    pub weights: Vec<f64>,
    /// Sum of w r^2.
    pub weighted_rss: f64,
    /// Sum of w (y - mean)^2 about the weighted mean.
    pub weighted_tss: f64,
    /// Ratio of the extreme singular values of the design after its columns are
    /// scaled to unit (weighted) length.
    pub condition_number: f64,
}

impl LeastSquares {
    /// Observations minus columns.
    #[must_use]
    pub fn degrees_of_freedom(&self) -> usize {
        self.residuals.len() - self.coefficients.len()
    }

    /// Share of the (weighted) variance explained, for a model with intercept.
    /// 1 if the response does not vary.
    #[must_use]
    pub fn r_squared(&self) -> f64 {
        if self.weighted_tss > 0.0 {
            1.0 - self.weighted_rss / self.weighted_tss
        } else {
            1.0
        }
    }

    /// Residual standard deviation sqrt(sum w r^2 / (n - k)); NaN if n = k.
    #[must_use]
    pub fn residual_sd(&self) -> f64 {
        (self.weighted_rss / self.degrees_of_freedom() as f64).sqrt()
    }

    /// HC3 covariance C [sum w^2 r^2 x x' / (1 - h)^2] C with C = (X'WX)^-1,
    /// valid without knowledge of the residual variances; `None` if a point has
    /// full leverage, where the correction is 0/0.
    ///
    /// Reference: MacKinnon & White, J. Econometrics 29 (1985) 305.
    #[must_use]
    pub fn hc3_covariance(&self, columns: &[Column]) -> Option<Vec<Vec<f64>>> {
        if self.leverage.iter().any(|&h| h > FULL_LEVERAGE) {
            return None;
        }
        let k = self.coefficients.len();
        let n = self.residuals.len();
        // Influence of each observation on each coefficient: C x w r / (1 - h).
        let influence = |observation: usize, coefficient: usize| {
            let row: f64 = (0..k)
                .map(|c| self.unscaled_covariance[coefficient][c] * columns[c].values[observation])
                .sum();
            row * self.weights[observation] * self.residuals[observation]
                / (1.0 - self.leverage[observation])
        };
        let influences: Vec<Vec<f64>> = (0..n)
            .map(|i| (0..k).map(|c| influence(i, c)).collect())
            .collect();
        Some(
            (0..k)
                .map(|a| {
                    (0..k)
                        .map(|b| stable_sum(influences.iter().map(|u| u[a] * u[b])))
                        .collect()
                })
                .collect(),
        )
    }
}

/// Minimises sum w (y - X b)^2.
///
/// `columns` are the `k` columns of X (an intercept must be among them if
/// wanted), each as long as `y`; `weights` are positive, all 1 if `None`.
///
/// # Errors
/// [`StatsError::TooFewObservations`] if there are fewer observations than
/// columns; [`StatsError::LengthMismatch`], [`StatsError::InvalidRow`] for bad
/// input; [`StatsError::RankDeficient`] names the first column that depends on
/// those before it.
pub fn least_squares(
    columns: &[Column],
    y: &[f64],
    weights: Option<&[f64]>,
) -> Result<LeastSquares, StatsError> {
    let (n, k) = (y.len(), columns.len());
    require(k > 0, "columns", 0.0, "at least one")?;
    let weights = weights.map_or_else(|| vec![1.0; n], <[f64]>::to_vec);
    validate(columns, y, &weights)?;

    let root_weights: Vec<f64> = weights.iter().map(|w| w.sqrt()).collect();
    let design = DMatrix::from_fn(n, k, |i, j| root_weights[i] * columns[j].values[i]);
    let response = DVector::from_fn(n, |i, _| root_weights[i] * y[i]);
    let norms: Vec<f64> = (0..k).map(|j| design.column(j).norm()).collect();
    if let Some(j) = norms.iter().position(|&norm| norm == 0.0) {
        return Err(rank_deficient(&columns[j]));
    }
    let scaled = DMatrix::from_fn(n, k, |i, j| design[(i, j)] / norms[j]);
    let qr = scaled.clone().qr();
    let (q, r) = (qr.q(), qr.r());
    let independent = |j: usize| r[(j, j)].abs() > DEPENDENCE_TOLERANCE;
    if let Some(j) = (0..k).find(|&j| !independent(j)) {
        return Err(rank_deficient(&columns[j]));
    }
    let unstable = || rank_deficient(&columns[k - 1]);
    let solve = |rhs: &DVector<f64>| r.solve_upper_triangular(&(q.transpose() * rhs));

    let mut beta = solve(&response).ok_or_else(unstable)?;
    // One step of iterative refinement removes most of the rounding error that
    // an ill-conditioned design leaves.
    beta += solve(&(&response - &scaled * &beta)).ok_or_else(unstable)?;

    let inverse = r
        .solve_upper_triangular(&DMatrix::identity(k, k))
        .ok_or_else(unstable)?;
    let covariance = &inverse * inverse.transpose();
    let singular = r.svd(false, false).singular_values;
    let coefficients: Vec<f64> = (0..k).map(|j| beta[j] / norms[j]).collect();
    let residuals: Vec<f64> = (0..n)
        .map(|i| y[i] - stable_sum((0..k).map(|j| coefficients[j] * columns[j].values[i])))
        .collect();
    let mean = weighted_mean(y, &weights);
    Ok(LeastSquares {
        unscaled_covariance: (0..k)
            .map(|a| {
                (0..k)
                    .map(|b| covariance[(a, b)] / (norms[a] * norms[b]))
                    .collect()
            })
            .collect(),
        leverage: (0..n).map(|i| q.row(i).norm_squared()).collect(),
        weighted_rss: stable_sum(residuals.iter().zip(&weights).map(|(r, w)| w * r * r)),
        weighted_tss: stable_sum(y.iter().zip(&weights).map(|(y, w)| w * (y - mean).powi(2))),
        condition_number: singular.max() / singular.min(),
        coefficients,
        residuals,
        weights,
    })
}

fn rank_deficient(column: &Column) -> StatsError {
    StatsError::RankDeficient {
        column: column.name.clone(),
    }
}

/// Weighted mean; the weights must not sum to zero.
pub(crate) fn weighted_mean(values: &[f64], weights: &[f64]) -> f64 {
    stable_sum(values.iter().zip(weights).map(|(v, w)| v * w)) / stable_sum(weights.iter().copied())
}

fn validate(columns: &[Column], y: &[f64], weights: &[f64]) -> Result<(), StatsError> {
    let n = y.len();
    if n < columns.len() {
        return Err(StatsError::TooFewObservations {
            have: n,
            need: columns.len(),
        });
    }
    if weights.len() != n {
        return Err(StatsError::LengthMismatch {
            name: "weights",
            have: weights.len(),
            expected: n,
        });
    }
    let check = |values: &[f64], field, requirement, valid: fn(f64) -> bool| {
        values
            .iter()
            .position(|&v| !valid(v))
            .map_or(Ok(()), |row| {
                Err(StatsError::InvalidRow {
                    row,
                    field,
                    value: values[row],
                    requirement,
                })
            })
    };
    check(y, "response", "finite", f64::is_finite)?;
    check(weights, "weight", "positive and finite", |w| {
        w > 0.0 && w.is_finite()
    })?;
    for column in columns {
        if column.values.len() != n {
            return Err(StatsError::LengthMismatch {
                name: "column",
                have: column.values.len(),
                expected: n,
            });
        }
        check(&column.values, "regressor", "finite", f64::is_finite)?;
    }
    Ok(())
}
