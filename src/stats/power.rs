//! What a test could have found: power and smallest detectable deviations.
//!
//! All powers here are exact for a normal estimate whose squared standard error
//! is an independent multiple of chi-squared with `df` degrees of freedom: the
//! normal probability of the rejection region is integrated over that law. The
//! standard error reported is taken as the true one.

use serde::{Deserialize, Serialize};

use super::distribution::{normal_cdf, t_quantile, t_upper_tail};
use super::error::{StatsError, require, require_open_unit, require_positive};
use super::interval::require_df;

/// Nodes of the integral over the estimated standard error.
const NODES: usize = 160;

/// Power of an equivalence test and of its counterpart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestPower {
    /// Level of support, and of refutation before it is divided among the comparisons of a claim.
    pub alpha: f64,
    /// Power asked for, such as 0.8.
    pub power: f64,
    /// Probability of support if the deviation is exactly zero.
    pub support_at_zero: f64,
    /// Largest true |deviation| still supported with the power asked for; `None`
    /// if not even zero is.
    pub supportable_deviation: Option<f64>,
    /// Smallest true |deviation| at which this comparison alone has its claim refuted with the
    /// power asked for (the smallest detectable deviation).
    pub refutable_deviation: f64,
    /// Smallest margin at which a zero deviation is supported with the power.
    pub smallest_margin: f64,
    /// Largest standard error at which a zero deviation is supported with the
    /// power, at the margin given. Plan the design to stay below it.
    pub largest_standard_error: f64,
}

/// Power of both tests for a margin, a standard error and its df, for one of `parts` comparisons
/// of a claim: support needs all of them at level `alpha`, refutation one at `alpha / parts`.
///
/// # Errors
/// [`StatsError::InvalidParameter`] unless margin and standard error are
/// positive and finite, df >= 1, there is a part, and alpha, power lie strictly between 0 and 1
/// with power > alpha.
pub fn test_power(
    margin: f64,
    standard_error: f64,
    df: Option<f64>,
    alpha: f64,
    parts: usize,
    power: f64,
) -> Result<TestPower, StatsError> {
    require(parts > 0, "parts", parts as f64, "positive")?;
    let law = ErrorLaw::new(df, alpha)?;
    require_positive("margin", margin)?;
    require_positive("standard_error", standard_error)?;
    require_power(power, alpha)?;

    // In units of the standard error.
    let m = margin / standard_error;
    let support_at_zero = law.support(0.0, m);
    let supportable_deviation = (support_at_zero >= power).then(|| {
        // At the margin the power is at most alpha, below the power asked for.
        standard_error * bisect(0.0, m, |d| law.support(d, m) >= power)
    });
    let of_part = law.at(alpha / parts as f64);
    let refutation = of_part.refutation(m);
    let high = upper(m + 1.0, |d| refutation(d) >= power);
    let refutable = bisect(m, high, |d| refutation(d) < power);
    let high = upper(1.0, |m| law.support(0.0, m) >= power);
    let margin_needed = bisect(0.0, high, |m| law.support(0.0, m) < power);
    Ok(TestPower {
        alpha,
        power,
        support_at_zero,
        supportable_deviation,
        refutable_deviation: standard_error * refutable,
        smallest_margin: standard_error * margin_needed,
        largest_standard_error: margin / margin_needed,
    })
}

/// Probability that [`super::equivalence::equivalence_test`] supports
/// (`p_equivalent` <= alpha) at a given true deviation.
///
/// # Errors
/// As [`test_power`].
pub fn support_power(
    deviation: f64,
    margin: f64,
    standard_error: f64,
    df: Option<f64>,
    alpha: f64,
) -> Result<f64, StatsError> {
    let law = ErrorLaw::new(df, alpha)?;
    require(deviation.is_finite(), "deviation", deviation, "finite")?;
    require_positive("margin", margin)?;
    require_positive("standard_error", standard_error)?;
    Ok(law.support(deviation.abs() / standard_error, margin / standard_error))
}

/// Probability that [`super::equivalence::equivalence_test`] refutes
/// (`p_outside` <= alpha) at a given true deviation.
///
/// # Errors
/// As [`test_power`].
pub fn refutation_power(
    deviation: f64,
    margin: f64,
    standard_error: f64,
    df: Option<f64>,
    alpha: f64,
) -> Result<f64, StatsError> {
    let law = ErrorLaw::new(df, alpha)?;
    require(deviation.is_finite(), "deviation", deviation, "finite")?;
    require_positive("margin", margin)?;
    require_positive("standard_error", standard_error)?;
    Ok(law.refutation(margin / standard_error)(
        deviation.abs() / standard_error,
    ))
}

/// Smallest true excess over a bound that [`super::equivalence::bound_test`] refutes
/// (`p_violated` <= alpha) with the power asked for.
///
/// # Errors
/// As [`test_power`].
pub fn refutable_excess(
    standard_error: f64,
    df: Option<f64>,
    alpha: f64,
    power: f64,
) -> Result<f64, StatsError> {
    let law = ErrorLaw::new(df, alpha)?;
    require_positive("standard_error", standard_error)?;
    require_power(power, alpha)?;
    let t = t_quantile(1.0 - alpha, df);
    let caught = |d: f64| -> f64 {
        let nodes = law.nodes.iter();
        nodes.map(|&(s, w)| w * normal_cdf(d - t * s)).sum()
    };
    let high = upper(1.0, |d| caught(d) >= power);
    Ok(standard_error * bisect(0.0, high, |d| caught(d) < power))
}

/// A power that tests at level `alpha` can be asked for.
pub(super) fn require_power(power: f64, alpha: f64) -> Result<(), StatsError> {
    require_open_unit("power", power)?;
    require(power > alpha, "power", power, "larger than alpha")
}

/// Law of the ratio s of estimated to true standard error, as (s, weight).
struct ErrorLaw {
    nodes: Vec<(f64, f64)>,
    df: Option<f64>,
    alpha: f64,
}

impl ErrorLaw {
    fn new(df: Option<f64>, alpha: f64) -> Result<Self, StatsError> {
        require_open_unit("alpha", alpha)?;
        require(alpha < 0.5, "alpha", alpha, "below 1/2")?;
        require_df(df)?;
        if let Some(df) = df {
            require(df >= 1.0, "df", df, "at least 1")?;
        }
        let nodes = match df {
            Some(df) if df < 1e6 => {
                // Density of s proportional to s^(df-1) exp(-df s^2 / 2), with
                // its mode near 1 and standard deviation 1/sqrt(2 df).
                let spread = 1.0 / (2.0 * df).sqrt();
                let (low, high) = ((1.0 - 8.0 * spread).max(0.0), 1.0 + 8.0 * spread);
                let width = (high - low) / NODES as f64;
                let log_density = |s: f64| (df - 1.0) * s.ln() - 0.5 * df * (s * s - 1.0);
                let raw: Vec<(f64, f64)> = (0..NODES)
                    .map(|i| low + (i as f64 + 0.5) * width)
                    .map(|s| (s, log_density(s).exp()))
                    .collect();
                let total: f64 = raw.iter().map(|n| n.1).sum();
                raw.into_iter().map(|(s, w)| (s, w / total)).collect()
            }
            _ => vec![(1.0, 1.0)],
        };
        Ok(Self { nodes, df, alpha })
    }

    /// The same at another level.
    fn at(&self, alpha: f64) -> Self {
        Self {
            nodes: self.nodes.clone(),
            alpha,
            ..*self
        }
    }

    /// Power of support at true deviation d and margin m, in standard errors.
    fn support(&self, d: f64, m: f64) -> f64 {
        let t = t_quantile(1.0 - self.alpha, self.df);
        self.nodes
            .iter()
            .map(|&(s, weight)| {
                let reach = m - t * s;
                if reach > 0.0 {
                    weight * (normal_cdf(reach - d) - normal_cdf(-reach - d))
                } else {
                    0.0
                }
            })
            .sum()
    }

    /// Power of refutation as a function of the true deviation, in standard
    /// errors. The critical values are solved for once.
    fn refutation(&self, m: f64) -> impl Fn(f64) -> f64 {
        let one_sided = t_quantile(1.0 - self.alpha, self.df);
        let two_sided = t_quantile(1.0 - 0.5 * self.alpha, self.df);
        let critical = |m: f64| self.critical_value(m, one_sided, two_sided);
        let reaches: Vec<(f64, f64)> = self
            .nodes
            .iter()
            .map(|&(s, weight)| (m + s * critical(m / s), weight))
            .collect();
        move |d| {
            reaches
                .iter()
                .map(|&(reach, weight)| weight * (normal_cdf(d - reach) + normal_cdf(-d - reach)))
                .sum()
        }
    }

    /// c with P(T > c) + P(T > c + 2 m) = alpha, m in estimated standard errors;
    /// it lies between the one-sided and the two-sided quantile.
    fn critical_value(&self, m: f64, one_sided: f64, two_sided: f64) -> f64 {
        // Where the far tail is nothing, the near one decides alone.
        if t_upper_tail(one_sided + 2.0 * m, self.df) < 1e-9 * self.alpha {
            return one_sided;
        }
        let excess =
            |c: f64| t_upper_tail(c, self.df) + t_upper_tail(c + 2.0 * m, self.df) - self.alpha;
        // Regula falsi, the end that stays halved (Illinois): the tails are asked thousands of
        // times, once for every node.
        let (mut a, mut b) = (one_sided, two_sided);
        let (mut at_a, mut at_b) = (excess(a), excess(b));
        for _ in 0..50 {
            if at_b.abs() <= 1e-12 * self.alpha || at_a == at_b {
                break;
            }
            let c = (a * at_b - b * at_a) / (at_b - at_a);
            let at_c = excess(c);
            if at_c * at_b < 0.0 {
                (a, at_a) = (b, at_b);
            } else {
                at_a *= 0.5;
            }
            (b, at_b) = (c, at_c);
        }
        b
    }
}

/// The first of `start`, 2 `start`, 4 `start`, ... at which something holds.
pub(super) fn upper(start: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let mut x = start;
    for _ in 0..200 {
        if holds(x) {
            break;
        }
        x *= 2.0;
    }
    x
}

/// The end of the range on which `holds` is true, which starts at `low`.
pub(super) fn bisect(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}
