//! Is a power law straight? A test for curvature of log N* in the logs.
//!
//! A slope test alone cannot see curvature: a bent curve has a well-determined
//! mean slope. See `regression.md`.

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use super::distribution::{f_upper_tail, t_upper_tail};
use super::error::StatsError;
use super::linear::{Column, weighted_mean};
use super::multiplicity::holm;
use super::regression::{
    Coefficient, Observation, RegressionFit, RegressionOptions, centred_columns, fit_columns,
};

/// Degrees of freedom that must remain before products enter.
const SPARE_DF_FOR_PRODUCTS: usize = 5;

/// One second-order term.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvatureTerm {
    /// The coefficient; its name is `a^2` or `a*b`.
    pub coefficient: Coefficient,
    /// Two-sided t test of zero, with the larger standard error.
    pub p_value: f64,
    /// Holm's adjustment of `p_value` over the terms of this test.
    pub p_adjusted: f64,
    /// Regressors in the term, as indices (equal for a square).
    pub factors: (usize, usize),
    /// Largest change of a local slope over the range of the design that this
    /// term causes: 2 |b| range for a square, |b| times the larger range else.
    pub slope_change: f64,
}

/// Result of [`curvature_test`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvatureTest {
    /// Wald F statistic of all second-order terms together.
    pub f_statistic: f64,
    /// Its degrees of freedom (terms, n - k of the larger model).
    pub f_df: (f64, f64),
    /// p-value of the F test.
    pub f_p_value: f64,
    /// The single terms.
    pub terms: Vec<CurvatureTerm>,
    /// Regressors with two levels, whose square cannot be seen.
    pub untestable: Vec<String>,
    /// The fit with the second-order terms.
    pub fit: RegressionFit,
}

impl CurvatureTest {
    /// Smallest p-value that speaks against a straight law: the F test and the
    /// adjusted t tests, doubled because there are two of them.
    #[must_use]
    pub fn p_value(&self) -> f64 {
        let terms = self.terms.iter().map(|t| t.p_adjusted);
        (2.0 * terms.fold(self.f_p_value, f64::min)).min(1.0)
    }

    /// Largest change of a local slope among the terms.
    #[must_use]
    pub fn largest_slope_change(&self) -> f64 {
        self.terms
            .iter()
            .map(|t| t.slope_change)
            .fold(0.0, f64::max)
    }

    /// Largest change of the local slope along regressor `index`.
    #[must_use]
    pub fn slope_change_of(&self, index: usize) -> f64 {
        self.terms
            .iter()
            .filter(|t| t.factors.0 == index || t.factors.1 == index)
            .map(|t| t.slope_change)
            .fold(0.0, f64::max)
    }
}

/// Adds centred squares of all regressors with three or more levels (and their
/// pairwise products if five degrees of freedom remain) and tests them together
/// and one by one. `None` if no term can be tested.
///
/// The scatter tau is estimated anew with the terms in the model; at the null fit
/// it would absorb the curvature that is to be found.
///
/// # Errors
/// As [`super::regression::fit_loglog`].
pub fn curvature_test<S: AsRef<str>>(
    names: &[S],
    observations: &[Observation],
    options: &RegressionOptions,
) -> Result<Option<CurvatureTest>, StatsError> {
    let (mut columns, centres) = centred_columns(names, observations)?;
    let linear = columns.len();
    let n = observations.len();
    let mut factors = Vec::new();
    let mut untestable = Vec::new();
    for j in 0..names.len() {
        if distinct_levels(&columns[j + 1].values) >= 3 {
            factors.push((j, j));
        } else {
            untestable.push(names[j].as_ref().to_owned());
        }
    }
    let products: Vec<(usize, usize)> = (0..names.len())
        .flat_map(|a| (a + 1..names.len()).map(move |b| (a, b)))
        .collect();
    if n >= linear + factors.len() + products.len() + SPARE_DF_FOR_PRODUCTS {
        factors.extend(products);
    }
    // Products that the design cannot tell apart are left out, in order.
    let mut kept = Vec::new();
    for (a, b) in factors {
        let column = product_column(&columns[a + 1], &columns[b + 1]);
        columns.push(column);
        let flat = vec![0.0; n];
        match super::linear::least_squares(&columns, &flat, None) {
            Ok(_) => kept.push((a, b)),
            Err(StatsError::RankDeficient { .. } | StatsError::TooFewObservations { .. }) => {
                columns.pop();
            }
            Err(other) => return Err(other),
        }
    }
    if kept.is_empty() || n <= columns.len() {
        return Ok(None);
    }

    let fit = fit_columns(&columns, centres, observations, options)?;
    let df = fit.degrees_of_freedom as f64;
    let ranges: Vec<f64> = columns[1..linear]
        .iter()
        .map(|c| range(&c.values))
        .collect();
    let raw: Vec<f64> = fit.coefficients[linear..]
        .iter()
        .map(|c| {
            let t = c.estimate.value.abs() / c.estimate.standard_error;
            // 0/0 at an exactly straight law: no evidence against it.
            if t.is_nan() {
                1.0
            } else {
                (2.0 * t_upper_tail(t, Some(df))).min(1.0)
            }
        })
        .collect();
    let adjusted = holm(&raw)?;
    let terms: Vec<CurvatureTerm> = kept
        .iter()
        .zip(&fit.coefficients[linear..])
        .enumerate()
        .map(|(i, (&(a, b), coefficient))| {
            let reach = if a == b {
                2.0 * ranges[a]
            } else {
                ranges[a].max(ranges[b])
            };
            CurvatureTerm {
                slope_change: coefficient.estimate.value.abs() * reach,
                coefficient: coefficient.clone(),
                p_value: raw[i],
                p_adjusted: adjusted[i],
                factors: (a, b),
            }
        })
        .collect();
    let f_statistic = wald_f(&fit, linear);
    let f_df = (terms.len() as f64, df);
    Ok(Some(CurvatureTest {
        f_p_value: f_upper_tail(f_statistic, f_df.0, f_df.1),
        f_statistic,
        f_df,
        terms,
        untestable,
        fit,
    }))
}

/// b' V^-1 b / q for the coefficients from `first` on, with the model-based V.
/// For ordinary least squares this is the usual F ratio of residual sums. Zero,
/// no evidence, if V vanishes because the data are exactly straight.
fn wald_f(fit: &RegressionFit, first: usize) -> f64 {
    let q = fit.coefficients.len() - first;
    let b = DVector::from_fn(q, |i, _| fit.coefficients[first + i].estimate.value);
    let v = DMatrix::from_fn(q, q, |i, j| fit.covariance[first + i][first + j]);
    v.cholesky().map_or(0.0, |c| b.dot(&c.solve(&b)) / q as f64)
}

fn product_column(a: &Column, b: &Column) -> Column {
    let name = if a.name == b.name {
        format!("{}^2", a.name)
    } else {
        format!("{}*{}", a.name, b.name)
    };
    let values: Vec<f64> = a.values.iter().zip(&b.values).map(|(a, b)| a * b).collect();
    let mean = weighted_mean(&values, &vec![1.0; values.len()]);
    Column::new(name, values.iter().map(|v| v - mean).collect())
}

fn range(values: &[f64]) -> f64 {
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &v| {
            (a.min(v), b.max(v))
        });
    high - low
}

/// Number of distinct values, up to rounding.
fn distinct_levels(values: &[f64]) -> usize {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let resolution = 1e-9 * range(values);
    1 + sorted
        .windows(2)
        .filter(|w| w[1] - w[0] > resolution)
        .count()
}
