//! Does an estimate agree with a prediction? Two tests, one in each direction.
//!
//! "Not significantly different" is no support: a noisy estimate differs from
//! nothing. Support needs the deviation to be shown *smaller* than a margin, and
//! refutation needs it to be shown *larger*. See `verdict.md`.

use serde::{Deserialize, Serialize};

use super::distribution::t_upper_tail;
use super::error::{StatsError, require, require_positive};
use super::interval::{Estimate, require_df};

/// Both tests of an estimate against a prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EquivalenceTest {
    /// Estimate minus prediction.
    pub deviation: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Degrees of freedom; `None` for the normal law.
    pub df: Option<f64>,
    /// The margin m.
    pub margin: f64,
    /// p-value against |deviation| >= m; small means support.
    pub p_equivalent: f64,
    /// p-value against |deviation| <= m; small means refutation.
    pub p_outside: f64,
}

/// Tests `estimate` against `target` with a symmetric `margin`.
///
/// `p_equivalent` is the larger p-value of two one-sided tests; it is at most
/// alpha exactly if the (1 - 2 alpha) interval lies within target +- margin.
/// `p_outside` is the probability, at the boundary |deviation| = m, of a distance
/// at least as large as the one observed. With a standard error of zero both are
/// 0 or 1.
///
/// Reference: Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987) 657.
///
/// # Errors
/// [`StatsError::InvalidParameter`] for non-finite numbers, a negative standard
/// error, a margin that is not positive, or df that are not positive.
///
/// # Examples
/// ```
/// use recall_capacity::stats::equivalence::equivalence_test;
/// let test = equivalence_test(1.04, 0.03, Some(20.0), 1.0, 0.15)?;
/// assert!(test.p_equivalent < 0.001 && test.p_outside > 0.99);
/// # Ok::<(), recall_capacity::stats::StatsError>(())
/// ```
pub fn equivalence_test(
    estimate: f64,
    standard_error: f64,
    df: Option<f64>,
    target: f64,
    margin: f64,
) -> Result<EquivalenceTest, StatsError> {
    require(estimate.is_finite(), "estimate", estimate, "finite")?;
    require(target.is_finite(), "target", target, "finite")?;
    require_scale(standard_error, df)?;
    require_positive("margin", margin)?;
    let deviation = estimate - target;
    let distance = deviation.abs();
    let tail = |excess: f64| tail_beyond(excess, standard_error, df);
    Ok(EquivalenceTest {
        deviation,
        standard_error,
        df,
        margin,
        // The nearer bound gives the larger p-value.
        p_equivalent: tail(margin - distance),
        p_outside: (tail(distance - margin) + tail(distance + margin)).min(1.0),
    })
}

/// [`equivalence_test`] of an [`Estimate`].
///
/// # Errors
/// As [`equivalence_test`].
pub fn compare(
    estimate: &Estimate,
    target: f64,
    margin: f64,
) -> Result<EquivalenceTest, StatsError> {
    equivalence_test(
        estimate.value,
        estimate.standard_error,
        estimate.df,
        target,
        margin,
    )
}

/// Both one-sided tests of an estimate against an upper bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoundTest {
    /// Estimate minus bound; negative if the bound holds.
    pub excess: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Degrees of freedom; `None` for the normal law.
    pub df: Option<f64>,
    /// Excess up to which the bound still counts as kept.
    pub margin: f64,
    /// p-value against excess <= 0; small means the bound is violated.
    pub p_violated: f64,
    /// p-value against excess >= margin; small means the bound is kept.
    pub p_kept: f64,
}

/// Tests whether `estimate` stays below `bound`.
///
/// A violation that is merely not significant would "keep" any bound with few
/// enough data; `p_kept` asks instead for evidence that the excess stays below
/// `margin` (a non-inferiority test). With `margin = 0` it asks for the bound
/// itself.
///
/// # Errors
/// As [`equivalence_test`]; the margin may be zero.
pub fn bound_test(
    estimate: f64,
    standard_error: f64,
    df: Option<f64>,
    bound: f64,
    margin: f64,
) -> Result<BoundTest, StatsError> {
    require(estimate.is_finite(), "estimate", estimate, "finite")?;
    require(bound.is_finite(), "bound", bound, "finite")?;
    require_scale(standard_error, df)?;
    require(
        margin >= 0.0 && margin.is_finite(),
        "margin",
        margin,
        "finite and not negative",
    )?;
    let excess = estimate - bound;
    Ok(BoundTest {
        excess,
        standard_error,
        df,
        margin,
        p_violated: tail_beyond(excess, standard_error, df),
        p_kept: tail_beyond(margin - excess, standard_error, df),
    })
}

fn require_scale(standard_error: f64, df: Option<f64>) -> Result<(), StatsError> {
    require(
        standard_error >= 0.0 && standard_error.is_finite(),
        "standard_error",
        standard_error,
        "finite and not negative",
    )?;
    require_df(df)
}

/// P(T > excess / se); for se = 0 the limit, with 1 at the boundary itself.
fn tail_beyond(excess: f64, standard_error: f64, df: Option<f64>) -> f64 {
    if standard_error > 0.0 {
        t_upper_tail(excess / standard_error, df)
    } else if excess > 0.0 {
        0.0
    } else {
        1.0
    }
}
