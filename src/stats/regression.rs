//! Exponents from log-log regression.
//!
//! y = log N* on [1, centred logs]. Each point has a known sampling error se_i,
//! and on top of it the law itself may hold only up to a scatter tau; weights are
//! 1 / (tau^2 + se_i^2) with tau^2 by the method of Paule and Mandel. See
//! `regression.md` for why the scale needs no further factor and why the larger
//! of two standard errors is used.

use serde::{Deserialize, Serialize};

use super::error::{StatsError, require, require_open_unit};
use super::interval::{Estimate, stable_sum};
use super::linear::{Column, LeastSquares, least_squares};

/// One configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Natural logarithms of the factors, in the order of the names.
    pub regressors: Vec<f64>,
    /// log N*.
    pub response: f64,
    /// Standard error of `response`, if known.
    pub standard_error: Option<f64>,
}

/// Options of [`fit_loglog`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegressionOptions {
    /// Smallest scatter tau assumed of a law, in log N. Few points often show
    /// none by luck, which would make the errors too small.
    pub tau_floor: f64,
    /// Coverage of the intervals.
    pub confidence: f64,
}

impl Default for RegressionOptions {
    fn default() -> Self {
        Self {
            tau_floor: 0.03,
            confidence: 0.95,
        }
    }
}

/// One fitted coefficient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coefficient {
    /// Name of the regressor, or `intercept`.
    pub name: String,
    /// Value with the larger of the two standard errors, on n - k df.
    pub estimate: Estimate,
    /// Standard error if the weights are right.
    pub model_error: f64,
    /// HC3 standard error; `None` if a point has full leverage.
    pub hc3_error: Option<f64>,
}

/// A fitted power law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegressionFit {
    /// Intercept first, then one per regressor. The intercept is the response at
    /// the centre of the design.
    pub coefficients: Vec<Coefficient>,
    /// Mean of each regressor, subtracted before the fit.
    pub centres: Vec<f64>,
    /// Model-based covariance of the coefficients, `k` x `k`.
    pub covariance: Vec<Vec<f64>>,
    /// n - k.
    pub degrees_of_freedom: usize,
    /// Scatter variance beyond the known errors; `None` without known errors.
    pub tau_squared: Option<f64>,
    /// Cochran's Q of the residuals at tau = 0; about n - k if the known errors
    /// explain all scatter. `None` without known errors.
    pub q_statistic: Option<f64>,
    /// Share of the (weighted) variance of the response explained.
    pub r_squared: f64,
    /// Unweighted root of sum r^2 / (n - k), in log N.
    pub residual_sd: f64,
    /// The weighted solution with residuals, leverages and weights.
    pub solution: LeastSquares,
}

impl RegressionFit {
    /// The coefficient called `name`.
    #[must_use]
    pub fn coefficient(&self, name: &str) -> Option<&Coefficient> {
        self.coefficients.iter().find(|c| c.name == name)
    }

    /// A further response at the centre of the design, with its prediction interval: the error of
    /// the fit there and the scatter of the responses about it.
    ///
    /// # Errors
    /// [`StatsError::InvalidParameter`] if `confidence` is not strictly between 0 and 1.
    pub fn prediction(&self, confidence: f64) -> Result<Estimate, StatsError> {
        let at_centre = &self.coefficients[0].estimate;
        Estimate::new(
            at_centre.value,
            at_centre.standard_error.hypot(self.residual_sd),
            Some(self.degrees_of_freedom as f64),
            confidence,
        )
    }

    /// Largest leverage and the index of its observation.
    #[must_use]
    pub fn largest_leverage(&self) -> Option<(usize, f64)> {
        self.solution
            .leverage
            .iter()
            .copied()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// Fits log N* = b0 + sum_j b_j (x_j - mean x_j).
///
/// If every observation carries a standard error the weights are
/// 1 / (tau^2 + se^2); if any lacks one the fit is ordinary least squares.
/// Each coefficient's standard error is the larger of model-based and HC3.
///
/// # Errors
/// [`StatsError::TooFewObservations`] unless n > k; [`StatsError::RankDeficient`]
/// names a regressor that does not vary independently; the other variants report
/// invalid input.
///
/// # Examples
/// ```
/// use recall_capacity::stats::regression::{Observation, RegressionOptions, fit_loglog};
/// let observations: Vec<Observation> = [(4.0, 2.1), (5.0, 3.9), (6.0, 6.05), (7.0, 7.95)]
///     .map(|(x, y)| Observation { regressors: vec![x], response: y, standard_error: None })
///     .to_vec();
/// let fit = fit_loglog(&["d"], &observations, &RegressionOptions::default())?;
/// assert!((fit.coefficients[1].estimate.value - 1.97).abs() < 1e-12);
/// # Ok::<(), recall_capacity::stats::StatsError>(())
/// ```
pub fn fit_loglog<S: AsRef<str>>(
    names: &[S],
    observations: &[Observation],
    options: &RegressionOptions,
) -> Result<RegressionFit, StatsError> {
    let (columns, centres) = centred_columns(names, observations)?;
    fit_columns(&columns, centres, observations, options)
}

/// Coefficients that a formula would show if it were fitted like the data.
///
/// A formula that is no pure power law has a slope that depends on the design and
/// the weights, so measured slopes are to be compared with the formula's values
/// at the same points under the same weights. `predicted` is the formula's log N*,
/// one per observation; the result has the order of `fit.coefficients`.
///
/// # Errors
/// As [`fit_loglog`]; [`StatsError::LengthMismatch`] if `predicted` has another
/// length than `observations` or the fit was made from other data.
pub fn project_prediction<S: AsRef<str>>(
    names: &[S],
    observations: &[Observation],
    predicted: &[f64],
    fit: &RegressionFit,
) -> Result<Vec<f64>, StatsError> {
    let (columns, _) = centred_columns(names, observations)?;
    Ok(least_squares(&columns, predicted, Some(&fit.solution.weights))?.coefficients)
}

/// Intercept and centred regressors, and the centres.
pub(crate) fn centred_columns<S: AsRef<str>>(
    names: &[S],
    observations: &[Observation],
) -> Result<(Vec<Column>, Vec<f64>), StatsError> {
    let n = observations.len();
    if n == 0 {
        return Err(StatsError::TooFewObservations {
            have: 0,
            need: names.len() + 2,
        });
    }
    for o in observations {
        if o.regressors.len() != names.len() {
            return Err(StatsError::LengthMismatch {
                name: "regressors",
                have: o.regressors.len(),
                expected: names.len(),
            });
        }
    }
    let mut columns = vec![Column::new("intercept", vec![1.0; n])];
    let mut centres = Vec::with_capacity(names.len());
    for (j, name) in names.iter().enumerate() {
        let raw = observations.iter().map(|o| o.regressors[j]);
        let centre = stable_sum(raw.clone()) / n as f64;
        let values: Vec<f64> = raw.clone().map(|x| x - centre).collect();
        // A constant column may leave rounding noise after centring.
        let size = raw.map(f64::abs).fold(0.0, f64::max);
        if values.iter().all(|v| v.abs() <= 1e-12 * size) {
            return Err(StatsError::RankDeficient {
                column: name.as_ref().to_owned(),
            });
        }
        columns.push(Column::new(name.as_ref(), values));
        centres.push(centre);
    }
    Ok((columns, centres))
}

/// The fit of [`fit_loglog`] for columns that are already built.
pub(crate) fn fit_columns(
    columns: &[Column],
    centres: Vec<f64>,
    observations: &[Observation],
    options: &RegressionOptions,
) -> Result<RegressionFit, StatsError> {
    require(
        options.tau_floor >= 0.0 && options.tau_floor.is_finite(),
        "tau_floor",
        options.tau_floor,
        "finite and not negative",
    )?;
    require_open_unit("confidence", options.confidence)?;
    let (n, k) = (observations.len(), columns.len());
    if n <= k {
        return Err(StatsError::TooFewObservations {
            have: n,
            need: k + 1,
        });
    }
    let y: Vec<f64> = observations.iter().map(|o| o.response).collect();
    let errors: Option<Vec<f64>> = observations.iter().map(|o| o.standard_error).collect();

    let (solution, tau_squared, q_statistic, scale) = match errors {
        None => {
            let solution = least_squares(columns, &y, None)?;
            let scale = solution.residual_sd().powi(2);
            (solution, None, None, scale)
        }
        Some(errors) => {
            let scatter = paule_mandel(columns, &y, &errors)?;
            let tau_squared = scatter.tau_squared.max(options.tau_floor.powi(2));
            let solution = solve_at(columns, &y, &errors, tau_squared)?;
            (solution, Some(tau_squared), scatter.q_statistic, 1.0)
        }
    };
    let df = (n - k) as f64;
    let hc3 = solution.hc3_covariance(columns);
    let covariance: Vec<Vec<f64>> = solution
        .unscaled_covariance
        .iter()
        .map(|row| row.iter().map(|v| scale * v).collect())
        .collect();
    let coefficients = (0..k)
        .map(|j| {
            let model_error = covariance[j][j].sqrt();
            let hc3_error = hc3.as_ref().map(|v| v[j][j].sqrt());
            Ok(Coefficient {
                name: columns[j].name.clone(),
                estimate: Estimate::new(
                    solution.coefficients[j],
                    hc3_error.map_or(model_error, |e| e.max(model_error)),
                    Some(df),
                    options.confidence,
                )?,
                model_error,
                hc3_error,
            })
        })
        .collect::<Result<Vec<_>, StatsError>>()?;
    let rss = stable_sum(solution.residuals.iter().map(|r| r * r));
    Ok(RegressionFit {
        coefficients,
        centres,
        covariance,
        degrees_of_freedom: n - k,
        tau_squared,
        q_statistic,
        r_squared: solution.r_squared(),
        residual_sd: (rss / df).sqrt(),
        solution,
    })
}

/// Scatter beyond known errors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scatter {
    /// Scatter variance, not negative.
    pub tau_squared: f64,
    /// Cochran's Q at tau = 0; `None` if a standard error is zero.
    pub q_statistic: Option<f64>,
}

/// tau^2 for which sum r^2 / (tau^2 + se^2) = n - k at the weighted fit; zero if
/// the residuals are already no larger than the known errors.
///
/// Reference: Paule & Mandel, J. Res. NBS 87 (1982) 377; DerSimonian & Kacker,
/// Contemp. Clin. Trials 28 (2007) 105 for regressions.
///
/// # Errors
/// As [`least_squares`], and [`StatsError::InvalidRow`] for a negative or
/// non-finite standard error.
pub fn paule_mandel(
    columns: &[Column],
    y: &[f64],
    standard_errors: &[f64],
) -> Result<Scatter, StatsError> {
    if standard_errors.len() != y.len() {
        return Err(StatsError::LengthMismatch {
            name: "standard_errors",
            have: standard_errors.len(),
            expected: y.len(),
        });
    }
    if let Some(row) = standard_errors
        .iter()
        .position(|&e| !(e >= 0.0 && e.is_finite()))
    {
        return Err(StatsError::InvalidRow {
            row,
            field: "standard_error",
            value: standard_errors[row],
            requirement: "finite and not negative",
        });
    }
    let excess = |tau_squared: f64| -> Result<f64, StatsError> {
        let fit = solve_at(columns, y, standard_errors, tau_squared)?;
        Ok(fit.weighted_rss - fit.degrees_of_freedom() as f64)
    };
    let unweighted = least_squares(columns, y, None)?;
    let df = unweighted.degrees_of_freedom() as f64;
    let all_positive = standard_errors.iter().all(|&e| e > 0.0);
    let at_zero = if all_positive {
        Some(excess(0.0)?)
    } else {
        None
    };
    let q_statistic = at_zero.map(|e| e + df);
    let none = Scatter {
        tau_squared: 0.0,
        q_statistic,
    };
    // At tau^2 = RSS / df the unweighted fit has sum r^2 / (tau^2 + se^2) <= df,
    // and the weighted one minimises that sum: the root lies below.
    let mut high = unweighted.weighted_rss / df;
    if at_zero.is_some_and(|e| e <= 0.0) || df == 0.0 || high == 0.0 {
        return Ok(none);
    }
    let mut low = 0.0;
    // The function falls in tau^2, so bisection cannot fail; 200 halvings reach
    // the last bit, and the loop stops as soon as it has.
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if excess(middle)? > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
        if high - low <= 1e-14 * high {
            break;
        }
    }
    Ok(Scatter {
        tau_squared: 0.5 * (low + high),
        q_statistic,
    })
}

fn solve_at(
    columns: &[Column],
    y: &[f64],
    errors: &[f64],
    tau_squared: f64,
) -> Result<LeastSquares, StatsError> {
    let weights: Vec<f64> = errors.iter().map(|e| 1.0 / (tau_squared + e * e)).collect();
    least_squares(columns, y, Some(&weights))
}
