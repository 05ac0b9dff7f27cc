//! What a threshold search yields: an estimate of log N*, or a censored point.

use serde::{Deserialize, Serialize};

use super::interval::Estimate;

/// Direction in which the measured quantity moves as x = log N grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The quantity grows with x.
    Increasing,
    /// The quantity falls with x.
    Decreasing,
}

impl Direction {
    /// +1 for increasing, -1 for decreasing.
    pub(crate) fn sign(self) -> f64 {
        match self {
            Self::Increasing => 1.0,
            Self::Decreasing => -1.0,
        }
    }
}

/// Whether rows at different sample sizes that carry the same seed are related.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeedDesign {
    /// Every (seed, N) row draws everything anew; equal seed numbers at two
    /// sizes mean nothing.
    IndependentAcrossLevels,
    /// A seed keeps something (embeddings, facts) at all sizes: its rows move
    /// together, and only the seeds are independent replicates.
    SharedAcrossLevels,
}

/// Where the threshold lies as far as the data can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CensorSide {
    /// Below the smallest x: the target is already passed there.
    Below,
    /// Above the largest x: the target is not reached there.
    Above,
    /// The quantity does not move in the stated direction across the target.
    NotMonotone,
    /// It crosses between two neighbouring sizes, but too steeply for a curve:
    /// no size between them was tried, or all there are at 0 or 1.
    Unresolved,
    /// Too few rows or sizes for any statement.
    InsufficientData,
}

/// A threshold that the data do not determine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Censored {
    /// Where the threshold lies.
    pub side: CensorSide,
    /// The reason, for the report.
    pub reason: String,
    /// For `Below` an upper bound on log N*, for `Above` a lower bound.
    pub bound: Option<f64>,
    /// Interval of log N that holds the threshold, for `Unresolved`.
    pub bracket: Option<[f64; 2]>,
}

impl Censored {
    pub(crate) fn new(side: CensorSide, reason: impl Into<String>) -> Self {
        Self {
            side,
            reason: reason.into(),
            bound: None,
            bracket: None,
        }
    }

    pub(crate) fn at(side: CensorSide, bound: f64, reason: impl Into<String>) -> Self {
        Self {
            bound: Some(bound),
            ..Self::new(side, reason)
        }
    }

    pub(crate) fn between(bracket: [f64; 2], reason: impl Into<String>) -> Self {
        Self {
            bracket: Some(bracket),
            ..Self::new(CensorSide::Unresolved, reason)
        }
    }
}

/// How the interval of a threshold was formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalMethod {
    /// First-order error propagation, symmetric.
    Delta,
    /// Fieller's interval for a ratio; used when the slope is uncertain.
    Fieller,
    /// Standard deviation over bootstrap samples of seeds, symmetric.
    Bootstrap,
}

/// The curve from which a threshold was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum Curve {
    /// p(x) = chance + (1 - chance) Phi(intercept + slope (x - centre)).
    Probit {
        /// Success probability far below the threshold.
        chance: f64,
        /// Value of the linear predictor at `centre`.
        intercept: f64,
        /// Change of the linear predictor per unit of log N.
        slope: f64,
        /// Standard error of `slope`, dispersion included.
        slope_standard_error: f64,
        /// Point at which x is centred.
        centre: f64,
        /// Pearson dispersion before it is raised to 1.
        dispersion: f64,
        /// Iterations of Fisher scoring.
        iterations: usize,
    },
    /// p(x) = chance + (1 - chance) F(intercept + slope (x - centre)), F a stated shape that is
    /// tangent to the normal distribution function at the target.
    Stated {
        /// Success probability far below the threshold.
        chance: f64,
        /// Value of the linear predictor at `centre`.
        intercept: f64,
        /// Change of the linear predictor per unit of log N: at the target that of a probit.
        slope: f64,
        /// Standard error of `slope`, dispersion included.
        slope_standard_error: f64,
        /// Point at which x is centred.
        centre: f64,
        /// Pearson dispersion before it is raised to 1.
        dispersion: f64,
        /// Iterations of Fisher scoring.
        iterations: usize,
        /// p-value of the lack-of-fit test; `None` with fewer than three sizes or a seed to each.
        lack_of_fit: Option<f64>,
    },
    /// A non-decreasing broken line through the pooled accuracies: the stated shape did not fit.
    Monotone {
        /// p-value of the lack-of-fit test that rejected the stated shape.
        lack_of_fit: f64,
    },
    /// log ratio(x) = intercept + slope (x - centre) + quadratic (x - centre)^2.
    LogRatio {
        /// Log ratio at `centre`.
        intercept: f64,
        /// Slope of the log ratio at `centre`.
        slope: f64,
        /// Coefficient of the square; zero for a linear fit.
        quadratic: f64,
        /// Point at which x is centred.
        centre: f64,
        /// Root mean square of the residuals of the pooled log ratios.
        residual_rms: f64,
    },
}

/// A second estimate of the same threshold that relies on less.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrossCheck {
    /// The second estimate of log N*, if it exists.
    pub value: Option<f64>,
    /// Its standard error from the bootstrap, if one was run.
    pub standard_error: Option<f64>,
    /// Share of bootstrap samples in which the second estimate exists.
    pub bootstrap_success: f64,
    /// True if the two differ by more than the stated tolerance, or if the
    /// second one does not exist.
    pub disagrees: bool,
}

/// A threshold that was estimated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdEstimate {
    /// log N* with its total standard error.
    pub log_n: Estimate,
    /// Standard error from sampling alone.
    pub statistical_error: f64,
    /// Allowance for a wrong curve shape, added in quadrature; with a stated shape at least the
    /// distance from the threshold that a probit gives.
    pub model_error: f64,
    /// How the interval was formed.
    pub method: IntervalMethod,
    /// True if log N* lies outside the range of x that entered the fit.
    pub extrapolated: bool,
    /// Rows that entered the fit.
    pub rows_used: usize,
    /// Distinct x that entered the fit.
    pub levels_used: usize,
    /// The curve.
    pub curve: Curve,
    /// Comparison with a method of weaker assumptions, where there is one.
    pub cross_check: Option<CrossCheck>,
}

/// The outcome of a threshold search in one configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// log N* was found.
    Estimated(Box<ThresholdEstimate>),
    /// log N* is only bounded, or unknown. Keep it in the report; never drop it.
    Censored(Censored),
}

impl Threshold {
    /// The estimate, unless the point is censored.
    #[must_use]
    pub fn estimate(&self) -> Option<&ThresholdEstimate> {
        match self {
            Self::Estimated(estimate) => Some(estimate),
            Self::Censored(_) => None,
        }
    }

    /// The censored record, unless the threshold was estimated.
    #[must_use]
    pub fn censored(&self) -> Option<&Censored> {
        match self {
            Self::Estimated(_) => None,
            Self::Censored(censored) => Some(censored),
        }
    }
}
