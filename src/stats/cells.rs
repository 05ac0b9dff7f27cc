//! Signed errors of a formula over the cells of a design: mean, trends and scatter.
//!
//! The cells are the design, not a sample: their number is fixed and each has its own error of
//! the formula. So all noise here comes from the trials within the cells, and what the cells
//! differ by beyond it is something to test, not an error bar. See `cells.md`.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Gamma};

use super::equivalence::EquivalenceTest;
use super::error::{StatsError, require, require_open_unit, require_positive};
use super::interval::{Estimate, stable_sum};
use super::power::{TestPower, bisect, require_power, upper};

/// One cell: its signed error, and the standard error of that from its trials.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CellError {
    /// Measured minus formula.
    pub error: f64,
    /// Standard error over the trials of the cell.
    pub standard_error: f64,
    /// Degrees of freedom of the standard error; `None` if it is known.
    pub df: Option<f64>,
}

/// Sum of the errors with fixed coefficients, with its standard error from the trials and
/// Satterthwaite's degrees of freedom.
///
/// Reference: Satterthwaite, Biometrics Bulletin 2 (1946) 110.
///
/// # Errors
/// [`StatsError::InvalidParameter`] for numbers that are not finite or a confidence outside
/// (0, 1); [`StatsError::LengthMismatch`] unless there is one coefficient for each cell.
///
/// # Examples
/// ```
/// use recall_capacity::stats::cells::{CellError, contrast};
/// let cell = |error| CellError { error, standard_error: 0.02, df: Some(7.0) };
/// let mean = contrast(&[cell(0.01), cell(0.03)], &[0.5, 0.5], 0.95)?;
/// assert!((mean.value - 0.02).abs() < 1e-12);
/// assert!((mean.standard_error - 0.02 / 2f64.sqrt()).abs() < 1e-12);
/// assert!((mean.df.unwrap() - 14.0).abs() < 1e-9);
/// # Ok::<(), recall_capacity::stats::StatsError>(())
/// ```
pub fn contrast(
    cells: &[CellError],
    coefficients: &[f64],
    confidence: f64,
) -> Result<Estimate, StatsError> {
    if cells.len() != coefficients.len() {
        return Err(StatsError::LengthMismatch {
            name: "coefficients",
            have: coefficients.len(),
            expected: cells.len(),
        });
    }
    let terms = || cells.iter().zip(coefficients);
    let value = stable_sum(terms().map(|(cell, c)| c * cell.error));
    let variance = stable_sum(terms().map(|(cell, c)| (c * cell.standard_error).powi(2)));
    let uncertainty = stable_sum(terms().map(|(cell, c)| {
        cell.df
            .map_or(0.0, |df| (c * cell.standard_error).powi(4) / df)
    }));
    let df = (uncertainty > 0.0).then(|| variance * variance / uncertainty);
    Estimate::new(value, variance.sqrt(), df, confidence)
}

/// Mean error over the cells.
///
/// # Errors
/// As [`contrast`]; [`StatsError::TooFewObservations`] without cells.
pub fn mean_error(cells: &[CellError], confidence: f64) -> Result<Estimate, StatsError> {
    if cells.is_empty() {
        return Err(StatsError::TooFewObservations { have: 0, need: 1 });
    }
    contrast(
        cells,
        &vec![1.0 / cells.len() as f64; cells.len()],
        confidence,
    )
}

/// Change of the error over the range of `x`: the least-squares slope along `x`, every cell
/// counted alike, times the range. `None` if `x` does not vary.
///
/// # Errors
/// As [`contrast`]; [`StatsError::InvalidParameter`] if an `x` is not finite.
pub fn change_along(
    cells: &[CellError],
    x: &[f64],
    confidence: f64,
) -> Result<Option<Estimate>, StatsError> {
    for value in x {
        require(value.is_finite(), "regressor", *value, "finite")?;
    }
    let mean = stable_sum(x.iter().copied()) / x.len().max(1) as f64;
    let squares = stable_sum(x.iter().map(|v| (v - mean).powi(2)));
    let (low, high) = x
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(*v), high.max(*v))
        });
    if !(squares > 0.0 && high > low) {
        return Ok(None);
    }
    let coefficients: Vec<f64> = x
        .iter()
        .map(|v| (high - low) * (v - mean) / squares)
        .collect();
    contrast(cells, &coefficients, confidence).map(Some)
}

/// Standard deviation of the formula's errors over the cells, beyond the noise of the trials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scatter {
    /// Number of cells n.
    pub cells: usize,
    /// Sum of squares of the errors about their mean.
    pub sum_of_squares: f64,
    /// Its expectation from noise alone.
    pub noise: f64,
    /// Its variance from noise alone, the uncertainty of `noise` included.
    pub noise_variance: f64,
    /// Squared standard error of a cell, averaged with itself as the weight: what the formula's
    /// errors are multiplied by in the variance.
    pub cell_variance: f64,
}

impl Scatter {
    /// Sums over the cells.
    ///
    /// # Errors
    /// [`StatsError::TooFewObservations`] below three cells; [`StatsError::InvalidParameter`]
    /// for numbers that are not finite.
    pub fn of(cells: &[CellError]) -> Result<Self, StatsError> {
        if cells.len() < 3 {
            return Err(StatsError::TooFewObservations {
                have: cells.len(),
                need: 3,
            });
        }
        for cell in cells {
            require(cell.error.is_finite(), "error", cell.error, "finite")?;
            let s = cell.standard_error;
            require(
                s >= 0.0 && s.is_finite(),
                "standard_error",
                s,
                "finite and not negative",
            )?;
        }
        let n = cells.len() as f64;
        let mean = stable_sum(cells.iter().map(|c| c.error)) / n;
        let second = stable_sum(cells.iter().map(|c| c.standard_error.powi(2)));
        let fourth = stable_sum(cells.iter().map(|c| c.standard_error.powi(4)));
        let uncertainty = stable_sum(
            cells
                .iter()
                .map(|c| c.df.map_or(0.0, |df| c.standard_error.powi(4) / df)),
        );
        Ok(Self {
            cells: cells.len(),
            sum_of_squares: stable_sum(cells.iter().map(|c| (c.error - mean).powi(2))),
            noise: (1.0 - 1.0 / n) * second,
            noise_variance: 2.0 * (fourth * (1.0 - 2.0 / n) + (second / n).powi(2))
                + 2.0 * (1.0 - 1.0 / n).powi(2) * uncertainty,
            cell_variance: if second > 0.0 { fourth / second } else { 0.0 },
        })
    }

    /// The standard deviation, zero where the errors scatter less than the noise.
    #[must_use]
    pub fn estimate(&self) -> f64 {
        ((self.sum_of_squares - self.noise) / self.cells as f64)
            .max(0.0)
            .sqrt()
    }

    /// Variance of the sum of squares at a true standard deviation.
    fn variance(&self, sd: f64) -> f64 {
        self.noise_variance + 4.0 * self.cells as f64 * sd * sd * self.cell_variance
    }

    /// Standard error of the estimated standard deviation at a true one.
    fn standard_error(&self, sd: f64) -> f64 {
        self.variance(sd).sqrt() / (2.0 * self.cells as f64 * sd)
    }

    /// P(sum of squares <= x) at a true standard deviation.
    fn below(&self, x: f64, sd: f64) -> f64 {
        let mean = self.noise + self.cells as f64 * sd * sd;
        let variance = self.variance(sd);
        let step = |yes: bool| if yes { 1.0 } else { 0.0 };
        if x <= 0.0 || mean <= 0.0 || variance <= 0.0 {
            return step(x >= mean);
        }
        // Gamma law with this mean and variance.
        Gamma::new(mean * mean / variance, mean / variance)
            .map_or_else(|_| step(x >= mean), |law| law.cdf(x).clamp(0.0, 1.0))
    }

    /// Both tests of the standard deviation against a margin.
    ///
    /// # Errors
    /// [`StatsError::InvalidParameter`] unless the margin is positive and finite.
    pub fn test(&self, margin: f64) -> Result<EquivalenceTest, StatsError> {
        require_positive("margin", margin)?;
        let below = self.below(self.sum_of_squares, margin);
        Ok(EquivalenceTest {
            deviation: self.estimate(),
            standard_error: self.standard_error(margin),
            df: None,
            margin,
            p_equivalent: below,
            p_outside: 1.0 - below,
        })
    }

    /// Power of both tests, for one of `parts` comparisons of a claim: support at level `alpha`,
    /// refutation at `alpha / parts`.
    ///
    /// # Errors
    /// [`StatsError::InvalidParameter`] unless the margin is positive and finite, there is a part,
    /// and `alpha < power` lie strictly between 0 and 1.
    pub fn power(
        &self,
        margin: f64,
        alpha: f64,
        parts: usize,
        power: f64,
    ) -> Result<TestPower, StatsError> {
        require(parts > 0, "parts", parts as f64, "positive")?;
        require_open_unit("alpha", alpha)?;
        require_power(power, alpha)?;
        require_positive("margin", margin)?;
        let kept_below = self.quantile(alpha, margin);
        let broken_above = self.quantile(1.0 - alpha / parts as f64, margin);
        let support_at_zero = self.below(kept_below, 0.0);
        let supportable_deviation = (support_at_zero >= power)
            .then(|| bisect(0.0, margin, |sd| self.below(kept_below, sd) >= power));
        let caught = |sd: f64| 1.0 - self.below(broken_above, sd) >= power;
        let refutable_deviation = bisect(margin, upper(margin, caught), |sd| !caught(sd));
        let supported = |m: f64| self.below(self.quantile(alpha, m), 0.0) >= power;
        let smallest_margin = bisect(0.0, upper(1e-3 * margin, supported), |m| !supported(m));
        // A design whose noise is larger by a factor needs a margin larger by that factor.
        let scale = if smallest_margin > 0.0 {
            margin / smallest_margin
        } else {
            f64::INFINITY
        };
        Ok(TestPower {
            alpha,
            power,
            support_at_zero,
            supportable_deviation,
            refutable_deviation,
            smallest_margin,
            largest_standard_error: self.standard_error(margin) * scale,
        })
    }

    /// x with P(sum of squares <= x) = p at a true standard deviation.
    fn quantile(&self, p: f64, sd: f64) -> f64 {
        let mean = self.noise + self.cells as f64 * sd * sd;
        let high = upper(mean.max(f64::MIN_POSITIVE), |x| self.below(x, sd) >= p);
        bisect(0.0, high, |x| self.below(x, sd) < p)
    }
}
