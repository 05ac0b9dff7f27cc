//! Point estimates with their standard error and confidence interval.

use serde::{Deserialize, Serialize};

use super::distribution::{normal_quantile, t_quantile};
use super::error::{StatsError, require, require_open_unit};

/// A number that was estimated, with its uncertainty.
///
/// The interval need not be symmetric about the value (Fieller and Wilson
/// intervals are not), hence both ends are stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Point estimate.
    pub value: f64,
    /// Standard error, in the units of `value`.
    pub standard_error: f64,
    /// Degrees of freedom of Student's law; `None` stands for the normal law.
    pub df: Option<f64>,
    /// Coverage of the interval, such as 0.95.
    pub confidence: f64,
    /// Lower end of the interval.
    pub lower: f64,
    /// Upper end of the interval.
    pub upper: f64,
}

impl Estimate {
    /// Symmetric interval `value +- t se`, `t` the two-sided quantile of
    /// Student's law (`df: None`: the normal law).
    ///
    /// # Errors
    /// [`StatsError::InvalidParameter`] if the value is not finite, the standard
    /// error is negative or not finite, `df` is not positive, or `confidence` is
    /// not strictly between 0 and 1.
    ///
    /// # Examples
    /// ```
    /// use recall_capacity::stats::interval::Estimate;
    /// let slope = Estimate::new(1.02, 0.05, Some(10.0), 0.95)?;
    /// assert!((slope.upper - 1.1314).abs() < 1e-4); // t = 2.2281
    /// # Ok::<(), recall_capacity::stats::StatsError>(())
    /// ```
    pub fn new(
        value: f64,
        standard_error: f64,
        df: Option<f64>,
        confidence: f64,
    ) -> Result<Self, StatsError> {
        require(value.is_finite(), "value", value, "finite")?;
        require(
            standard_error >= 0.0 && standard_error.is_finite(),
            "standard_error",
            standard_error,
            "finite and not negative",
        )?;
        require_df(df)?;
        require_open_unit("confidence", confidence)?;
        let half_width = t_quantile(0.5 + 0.5 * confidence, df) * standard_error;
        Ok(Self {
            value,
            standard_error,
            df,
            confidence,
            lower: value - half_width,
            upper: value + half_width,
        })
    }
}

/// Degrees of freedom, if given, must be positive.
pub(crate) fn require_df(df: Option<f64>) -> Result<(), StatsError> {
    df.map_or(Ok(()), |d| require(d > 0.0, "df", d, "positive"))
}

/// Sum that does not depend on the order of its terms beyond the last bit or two
/// (Neumaier's compensated summation).
pub(crate) fn stable_sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut compensation) = (0.0_f64, 0.0_f64);
    for value in values {
        let next = sum + value;
        compensation += if sum.abs() >= value.abs() {
            (sum - next) + value
        } else {
            (value - next) + sum
        };
        sum = next;
    }
    sum + compensation
}

/// Sample mean and standard deviation (divisor n - 1); `None` below two values.
pub(crate) fn mean_and_sd(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let mean = stable_sum(values.iter().copied()) / n;
    let squares = stable_sum(values.iter().map(|v| (v - mean).powi(2)));
    Some((mean, (squares / (n - 1.0)).sqrt()))
}

/// Mean of one number per seed, with Student's t interval on n - 1 degrees of
/// freedom: the seed is the unit of replication.
///
/// # Errors
/// [`StatsError::TooFewObservations`] below two values;
/// [`StatsError::InvalidRow`] if a value is not finite.
pub fn mean_of_seeds(values: &[f64], confidence: f64) -> Result<Estimate, StatsError> {
    for (row, value) in values.iter().enumerate() {
        if !value.is_finite() {
            return Err(StatsError::InvalidRow {
                row,
                field: "value",
                value: *value,
                requirement: "finite",
            });
        }
    }
    let (mean, sd) = mean_and_sd(values).ok_or(StatsError::TooFewObservations {
        have: values.len(),
        need: 2,
    })?;
    let n = values.len() as f64;
    Estimate::new(mean, sd / n.sqrt(), Some(n - 1.0), confidence)
}

/// Logarithm of the mean of one number per seed, with Student's t interval on n - 1 degrees of
/// freedom; `None` where the mean is not positive.
///
/// The standard error is the larger of the jackknife's and that of a lognormal law with the
/// scatter of the logarithms, which sees a skewed law's tail before a sample holds it; the
/// jackknife alone where a value is not positive. See `interval.md`.
///
/// # Errors
/// As [`mean_of_seeds`].
///
/// # Examples
/// ```
/// use recall_capacity::stats::interval::log_mean_of_seeds;
/// let e = log_mean_of_seeds(&[1.0, 2.0, 3.0], 0.95)?.expect("positive");
/// assert!((e.value - 2f64.ln()).abs() < 1e-12);
/// assert!(log_mean_of_seeds(&[-1.0, 0.5], 0.95)?.is_none());
/// # Ok::<(), recall_capacity::stats::StatsError>(())
/// ```
pub fn log_mean_of_seeds(values: &[f64], confidence: f64) -> Result<Option<Estimate>, StatsError> {
    let mean = mean_of_seeds(values, confidence)?;
    if mean.value <= 0.0 {
        return Ok(None);
    }
    let n = values.len() as f64;
    // Means without one seed, relative to the mean.
    let without: Vec<f64> = values
        .iter()
        .map(|v| (n - v / mean.value) / (n - 1.0))
        .collect();
    let jackknife = if without.iter().all(|m| *m > 0.0) {
        let logs: Vec<f64> = without.iter().map(|m| m.ln()).collect();
        mean_and_sd(&logs).map_or(0.0, |(_, sd)| sd * (n - 1.0) / n.sqrt())
    } else {
        mean.standard_error / mean.value
    };
    let lognormal = if values.iter().all(|v| *v > 0.0) {
        let logs: Vec<f64> = values.iter().map(|v| v.ln()).collect();
        mean_and_sd(&logs).map_or(0.0, |(_, sd)| {
            let variance = sd * sd;
            (variance / n + variance * variance / (2.0 * (n - 1.0))).sqrt()
        })
    } else {
        0.0
    };
    let error = jackknife.max(lognormal);
    Estimate::new(mean.value.ln(), error, mean.df, confidence).map(Some)
}

/// Wilson's score interval for `successes` out of `trials` *independent* trials.
///
/// Tokens that share a seed are not independent: use [`mean_of_seeds`] on one
/// accuracy per seed instead. `standard_error` is the binomial one at the point
/// estimate (zero at 0 or all successes, where the interval still has width).
///
/// Reference: Wilson, JASA 22 (1927) 209.
///
/// # Errors
/// [`StatsError::InvalidParameter`] if `trials` is zero, `successes > trials`, or
/// the confidence is not strictly between 0 and 1.
pub fn wilson(successes: u64, trials: u64, confidence: f64) -> Result<Estimate, StatsError> {
    require_open_unit("confidence", confidence)?;
    require(trials > 0, "trials", 0.0, "positive")?;
    require(
        successes <= trials,
        "successes",
        successes as f64,
        "at most the number of trials",
    )?;
    let n = trials as f64;
    let p = successes as f64 / n;
    let z2 = normal_quantile(0.5 + 0.5 * confidence).powi(2);
    let centre = (p + 0.5 * z2 / n) / (1.0 + z2 / n);
    let half_width = (z2 * (p * (1.0 - p) / n + 0.25 * z2 / (n * n))).sqrt() / (1.0 + z2 / n);
    Ok(Estimate {
        value: p,
        standard_error: (p * (1.0 - p) / n).sqrt(),
        df: None,
        confidence,
        // At the ends the formula gives 0 and 1 up to rounding.
        lower: if successes == 0 {
            0.0
        } else {
            centre - half_width
        },
        upper: if successes == trials {
            1.0
        } else {
            centre + half_width
        },
    })
}
