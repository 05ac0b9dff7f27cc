//! From fitted numbers to verdicts on claims.
//!
//! A claim brings its evidence as plain data, with margins that were fixed before
//! the run. [`decide`] judges a whole family at once, because the correction for
//! the number of claims needs all p-values. It is a pure function of its
//! arguments, so the same data can be judged again under a changed theory or a
//! changed policy. See `verdict.md`.

use serde::{Deserialize, Serialize};

use super::cells::{CellError, Scatter, change_along, mean_error};
use super::curvature::CurvatureTest;
use super::distribution::t_upper_tail;
use super::equivalence::{BoundTest, EquivalenceTest, compare};
use super::error::{StatsError, require, require_open_unit};
use super::interval::{Estimate, mean_and_sd, mean_of_seeds};
use super::multiplicity::holm;
use super::power::{TestPower, refutable_excess, test_power};
use super::regression::{Coefficient, Observation, RegressionOptions, fit_loglog};
use super::threshold::Threshold;

/// Rules of judgement, fixed before the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Probability of any false support, and of any false refutation, allowed in
    /// a family of claims.
    pub alpha: f64,
    /// Power at which detectable deviations are stated.
    pub power: f64,
    /// Largest share of censored points at which a claim is judged.
    pub max_censored_fraction: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            power: 0.8,
            max_censored_fraction: 0.1,
        }
    }
}

/// Default margin of an exponent.
pub const EXPONENT_MARGIN: f64 = 0.15;

/// Default cap of the margin of an asymptotic exponent.
pub const ASYMPTOTIC_MARGIN_CAP: f64 = 0.20;

/// Default margin of a constant: 25 per cent, as a factor.
pub const CONSTANT_FACTOR: f64 = 1.25;

/// Default largest standard deviation of log(measured / predicted).
pub const MAX_LOG_RATIO_SD: f64 = 0.2;

/// The margin of an equivalence test, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Margin {
    /// The margin, positive.
    pub value: f64,
    /// Finite-size drift of the theory's own slope on the design.
    pub drift: f64,
    /// True if the drift asks for a wider margin than the cap allows.
    pub capped: bool,
}

impl Margin {
    /// A margin that the theory's drift has no part in.
    #[must_use]
    pub fn fixed(value: f64) -> Self {
        Self {
            value,
            drift: 0.0,
            capped: false,
        }
    }

    /// Margin of an asymptotic exponent: `base + |drift|`, at most `cap`. `drift`
    /// is the slope of the full formula on the design minus the exponent.
    #[must_use]
    pub fn asymptotic(base: f64, drift: f64, cap: f64) -> Self {
        let wanted = base + drift.abs();
        Self {
            value: wanted.min(cap),
            drift,
            capped: wanted > cap,
        }
    }
}

/// How many points a claim's design has, and how many carry no estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointCount {
    /// All points of the design.
    pub total: usize,
    /// Points whose threshold is censored.
    pub censored: usize,
}

impl PointCount {
    /// Counts the points of a design.
    #[must_use]
    pub fn of(thresholds: &[Threshold]) -> Self {
        Self {
            total: thresholds.len(),
            censored: thresholds.iter().filter(|t| t.censored().is_some()).count(),
        }
    }

    /// Share of censored points; 1 for an empty design.
    #[must_use]
    pub fn censored_fraction(&self) -> f64 {
        if self.total == 0 {
            1.0
        } else {
            self.censored as f64 / self.total as f64
        }
    }
}

/// Curvature along one regressor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvatureEvidence {
    /// p-value against a straight law.
    pub p_value: f64,
    /// Change of the local slope over the range of the design.
    pub slope_change: f64,
}

/// One exponent and its prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExponentEvidence {
    /// Name of the regressor.
    pub name: String,
    /// The fitted exponent.
    pub estimate: Estimate,
    /// The predicted exponent.
    pub target: f64,
    /// The margin.
    pub margin: Margin,
    /// Curvature along this regressor, if it was tested.
    pub curvature: Option<CurvatureEvidence>,
}

impl ExponentEvidence {
    /// Evidence from a fitted coefficient. `regressor` is its position among the
    /// regressors (the intercept not counted), for the curvature test.
    #[must_use]
    pub fn new(
        coefficient: &Coefficient,
        target: f64,
        margin: Margin,
        curvature: Option<(&CurvatureTest, usize)>,
    ) -> Self {
        Self {
            name: coefficient.name.clone(),
            estimate: coefficient.estimate.clone(),
            target,
            margin,
            curvature: curvature.map(|(test, regressor)| CurvatureEvidence {
                p_value: test.p_value(),
                slope_change: test.slope_change_of(regressor),
            }),
        }
    }
}

/// A scaling law: all its exponents must agree for support.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LawEvidence {
    /// The exponents, at least one.
    pub exponents: Vec<ExponentEvidence>,
    /// Points of the design.
    pub points: PointCount,
}

/// Trend of log(measured / predicted) along one regressor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Name of the regressor.
    pub name: String,
    /// Slope of the log ratio.
    pub slope: Estimate,
    /// Two-sided p-value against no slope.
    pub p_value: f64,
}

impl Trend {
    /// The trend that a fitted coefficient states.
    #[must_use]
    pub fn of(coefficient: &Coefficient) -> Self {
        Self {
            name: coefficient.name.clone(),
            slope: coefficient.estimate.clone(),
            p_value: two_sided_p(&coefficient.estimate),
        }
    }
}

/// A formula with its constant: e = log(measured / predicted) should be near 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FormulaEvidence {
    /// Mean of e.
    pub mean: Estimate,
    /// Sample standard deviation of e.
    pub sd: f64,
    /// Margin for the mean, such as log 1.25.
    pub margin: f64,
    /// Largest standard deviation at which the formula counts as supported.
    pub max_sd: f64,
    /// Trends of e along the regressors; a mean near zero can hide them.
    pub trends: Vec<Trend>,
    /// Points of the design.
    pub points: PointCount,
}

impl FormulaEvidence {
    /// Evidence from log ratios, with default margins. `log_ratios` carries e in
    /// `response`, on the regressors called `names` (may be none).
    ///
    /// # Errors
    /// [`StatsError::TooFewObservations`] if the mean or the trends cannot be
    /// estimated; [`StatsError::RankDeficient`] for a regressor that does not
    /// vary independently; other variants for invalid input.
    pub fn from_log_ratios<S: AsRef<str>>(
        names: &[S],
        log_ratios: &[Observation],
        points: PointCount,
        confidence: f64,
    ) -> Result<Self, StatsError> {
        let e: Vec<f64> = log_ratios.iter().map(|o| o.response).collect();
        let mean = mean_of_seeds(&e, confidence)?;
        let sd = mean_and_sd(&e).map_or(f64::NAN, |(_, sd)| sd);
        let trends = if names.is_empty() {
            Vec::new()
        } else {
            let options = RegressionOptions {
                confidence,
                ..RegressionOptions::default()
            };
            let fit = fit_loglog(names, log_ratios, &options)?;
            fit.coefficients[1..].iter().map(Trend::of).collect()
        };
        Ok(Self {
            mean,
            sd,
            margin: CONSTANT_FACTOR.ln(),
            max_sd: MAX_LOG_RATIO_SD,
            trends,
            points,
        })
    }
}

/// Two-sided p-value of zero; 1 for an estimate of exactly zero without error.
fn two_sided_p(estimate: &Estimate) -> f64 {
    let t = estimate.value.abs() / estimate.standard_error;
    if t.is_nan() {
        1.0
    } else {
        (2.0 * t_upper_tail(t, estimate.df)).min(1.0)
    }
}

/// An upper bound that no measurement may exceed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoundEvidence {
    /// One test per configuration, size and decoder; at least one.
    pub tests: Vec<BoundTest>,
    /// Points of the design.
    pub points: PointCount,
}

/// Change of an accuracy formula's error along one size of the design.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorTrend {
    /// Name of the size.
    pub name: String,
    /// Slope of the error along the logarithm of the size, times the range of that.
    pub change: Estimate,
}

/// A formula for accuracies: measured minus formula should be near 0 in every cell of the design.
///
/// The mean alone would let errors of both signs cancel, so the change of the error along each
/// size and the scatter over cells beyond the noise of the trials are judged with it. All three
/// must agree for support, and each may refute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccuracyEvidence {
    /// Mean error over the cells, its standard error from the trials.
    pub mean: Estimate,
    /// Change of the error along each size that varies.
    pub trends: Vec<ErrorTrend>,
    /// Scatter of the formula's errors over the cells.
    pub scatter: Scatter,
    /// Margin of the mean and of each change.
    pub margin: f64,
    /// Margin of the scatter.
    pub max_sd: f64,
    /// Cells of the design.
    pub points: PointCount,
}

impl AccuracyEvidence {
    /// Evidence from the cells of a design. `sizes` are the logarithms of the sizes, one for each
    /// cell; those that do not vary are left out.
    ///
    /// # Errors
    /// [`StatsError::TooFewObservations`] below three cells; other variants for invalid input.
    pub fn of<S: AsRef<str>>(
        cells: &[CellError],
        sizes: &[(S, Vec<f64>)],
        margin: f64,
        max_sd: f64,
        confidence: f64,
    ) -> Result<Self, StatsError> {
        let mut trends = Vec::new();
        for (name, logs) in sizes {
            if let Some(change) = change_along(cells, logs, confidence)? {
                trends.push(ErrorTrend {
                    name: name.as_ref().to_owned(),
                    change,
                });
            }
        }
        Ok(Self {
            mean: mean_error(cells, confidence)?,
            trends,
            scatter: Scatter::of(cells)?,
            margin,
            max_sd,
            points: PointCount {
                total: cells.len(),
                censored: 0,
            },
        })
    }
}

/// What a claim is judged by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum Evidence {
    /// Exponents of a scaling law.
    Law(LawEvidence),
    /// A formula with its constant.
    Formula(FormulaEvidence),
    /// A formula for accuracies.
    Accuracy(AccuracyEvidence),
    /// An upper bound.
    Bound(BoundEvidence),
}

/// One claim with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Identifier in the report.
    pub id: String,
    /// The evidence.
    pub evidence: Evidence,
}

/// The verdict on a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// Shown to agree within the margin. For a bound: shown not to be exceeded
    /// by more than the margin on the points tried.
    Supported,
    /// Shown to deviate by more than the margin. For a bound: exceeded.
    Refuted,
    /// Neither was shown.
    Inconclusive {
        /// Why.
        reason: InconclusiveReason,
    },
}

/// Why a claim stays open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum InconclusiveReason {
    /// Even a perfect agreement would not have been supported with the power
    /// asked for: enlarge the design.
    LowPower {
        /// Smallest power of support at zero deviation among the comparisons.
        support_power: f64,
    },
    /// The design has power, but the deviation is near the margin.
    NearMargin,
    /// A bound is neither exceeded nor shown to be kept within its margin.
    BoundUndecided,
    /// Too many points of the design carry no estimate.
    TooManyCensored {
        /// Share of censored points.
        fraction: f64,
    },
    /// The theory's own finite-size drift exceeds what the margin may absorb.
    PreAsymptotic {
        /// Name of the exponent.
        exponent: String,
        /// Slope of the formula on the design minus the exponent.
        drift: f64,
    },
    /// The mean slope agrees, but the law is bent by more than the margin.
    Curved {
        /// Name of the exponent.
        exponent: String,
        /// Change of the local slope over the design.
        slope_change: f64,
        /// p-value against a straight law.
        p_value: f64,
    },
    /// The mean agrees, but the single points scatter too widely.
    Scattered {
        /// Standard deviation of log(measured / predicted).
        sd: f64,
    },
    /// The mean agrees, but the ratio drifts along a regressor.
    Drifting {
        /// Name of the regressor.
        regressor: String,
        /// Slope of the log ratio.
        slope: f64,
        /// Holm-adjusted p-value.
        p_value: f64,
    },
}

/// One number set beside its prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Name of the exponent, `mean log ratio`, `mean error`, `change along log ...` or `scatter`.
    pub name: String,
    /// The measured number.
    pub estimate: f64,
    /// Its prediction.
    pub target: f64,
    /// Both tests.
    pub test: EquivalenceTest,
    /// What the tests could have found, at level alpha / (number of claims), the
    /// strictest one of the Holm procedure, divided for refutation by the number of comparisons
    /// of the claim. `None` for a standard error of zero.
    pub power: Option<TestPower>,
}

/// Verdict on one claim with all that led to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimVerdict {
    /// Identifier of the claim.
    pub id: String,
    /// The verdict.
    pub verdict: Verdict,
    /// p-value of support of the whole claim.
    pub p_support: f64,
    /// p-value of refutation of the whole claim.
    pub p_refute: f64,
    /// `p_support` after Holm's correction over the family.
    pub p_support_adjusted: f64,
    /// `p_refute` after Holm's correction over the family.
    pub p_refute_adjusted: f64,
    /// The single comparisons; empty for a bound.
    pub comparisons: Vec<Comparison>,
    /// For a bound: in the comparison that comes closest to it, the smallest true excess that is
    /// refuted with the power asked for, at level alpha / (number of claims) / (number of
    /// comparisons).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refutable_excess: Option<f64>,
}

/// A claim's own p-values and powers, before the family is looked at.
#[derive(Debug, Clone)]
pub struct Weighed(RawResult);

/// Weighs one claim of a family of `family` claims.
///
/// # Errors
/// As [`decide`].
pub fn weigh(claim: &Claim, family: usize, policy: &Policy) -> Result<Weighed, StatsError> {
    check(policy)?;
    let strictest_alpha = policy.alpha / family.max(1) as f64;
    RawResult::new(&claim.evidence, strictest_alpha, policy.power).map(Weighed)
}

/// Judges a family of claims.
///
/// Within a claim, support needs every part (intersection-union, no correction);
/// refutation needs one part, at the price of a factor of the number of parts.
/// Over the family Holm's correction runs once for support and once for
/// refutation. Claims that are then held back as inconclusive stay in the count.
///
/// Too many censored points or a capped margin hold back both verdicts.
/// Curvature, scatter and drift hold back support only.
///
/// # Errors
/// [`StatsError::InvalidParameter`] for a policy or evidence outside its domain,
/// such as a claim without any comparison.
pub fn decide(claims: &[Claim], policy: &Policy) -> Result<Vec<ClaimVerdict>, StatsError> {
    check(policy)?;
    let weighed: Vec<(&Claim, Weighed)> = claims
        .iter()
        .map(|claim| Ok((claim, weigh(claim, claims.len(), policy)?)))
        .collect::<Result<_, StatsError>>()?;
    decide_weighed(&weighed, policy)
}

/// [`decide`] with claims that were weighed before: when one claim of a family changes, the others
/// need no second look.
///
/// # Errors
/// As [`decide`].
pub fn decide_weighed<W: std::borrow::Borrow<Weighed>>(
    claims: &[(&Claim, W)],
    policy: &Policy,
) -> Result<Vec<ClaimVerdict>, StatsError> {
    check(policy)?;
    let raw: Vec<&RawResult> = claims.iter().map(|(_, w)| &w.borrow().0).collect();
    let support = holm(&raw.iter().map(|r| r.p_support).collect::<Vec<_>>())?;
    let refute = holm(&raw.iter().map(|r| r.p_refute).collect::<Vec<_>>())?;
    claims
        .iter()
        .zip(raw)
        .enumerate()
        .map(|(i, ((claim, _), raw))| {
            let verdict = judge(&claim.evidence, raw, support[i], refute[i], policy)?;
            Ok(ClaimVerdict {
                id: claim.id.clone(),
                verdict,
                p_support: raw.p_support,
                p_refute: raw.p_refute,
                p_support_adjusted: support[i],
                p_refute_adjusted: refute[i],
                comparisons: raw.comparisons.clone(),
                refutable_excess: raw.refutable_excess,
            })
        })
        .collect()
}

fn check(policy: &Policy) -> Result<(), StatsError> {
    require_open_unit("alpha", policy.alpha)?;
    require(policy.alpha < 0.5, "alpha", policy.alpha, "below 1/2")?;
    require_open_unit("power", policy.power)?;
    require(
        (0.0..=1.0).contains(&policy.max_censored_fraction),
        "max_censored_fraction",
        policy.max_censored_fraction,
        "between 0 and 1",
    )?;
    Ok(())
}

/// The p-values of one claim before correction over the family.
#[derive(Debug, Clone)]
struct RawResult {
    p_support: f64,
    p_refute: f64,
    comparisons: Vec<Comparison>,
    refutable_excess: Option<f64>,
}

impl RawResult {
    fn new(evidence: &Evidence, alpha: f64, power: f64) -> Result<Self, StatsError> {
        let count = match evidence {
            Evidence::Law(law) => law.exponents.len(),
            Evidence::Formula(_) => 1,
            // Mean and scatter.
            Evidence::Accuracy(accuracy) => accuracy.trends.len() + 2,
            Evidence::Bound(bound) => bound.tests.len(),
        };
        let comparison = |name: &str, estimate: &Estimate, target, margin| {
            let test = compare(estimate, target, margin)?;
            let power = if estimate.standard_error > 0.0 {
                Some(test_power(
                    margin,
                    estimate.standard_error,
                    estimate.df,
                    alpha,
                    count,
                    power,
                )?)
            } else {
                None
            };
            Ok(Comparison {
                name: name.to_owned(),
                estimate: estimate.value,
                target,
                test,
                power,
            })
        };
        let comparisons = match evidence {
            Evidence::Law(law) => law
                .exponents
                .iter()
                .map(|e| {
                    let mut one = comparison(&e.name, &e.estimate, e.target, e.margin.value)?;
                    // Held back both ways: nothing could have been found.
                    one.power = one.power.filter(|_| !e.margin.capped);
                    Ok(one)
                })
                .collect::<Result<Vec<_>, StatsError>>()?,
            Evidence::Formula(formula) => {
                vec![comparison(
                    "mean log ratio",
                    &formula.mean,
                    0.0,
                    formula.margin,
                )?]
            }
            Evidence::Accuracy(accuracy) => {
                let mut all = vec![comparison(
                    "mean error",
                    &accuracy.mean,
                    0.0,
                    accuracy.margin,
                )?];
                for t in &accuracy.trends {
                    let name = format!("change along log {}", t.name);
                    all.push(comparison(&name, &t.change, 0.0, accuracy.margin)?);
                }
                let scatter = &accuracy.scatter;
                all.push(Comparison {
                    name: "scatter".to_owned(),
                    estimate: scatter.estimate(),
                    target: 0.0,
                    test: scatter.test(accuracy.max_sd)?,
                    power: if scatter.noise > 0.0 {
                        Some(scatter.power(accuracy.max_sd, alpha, count, power)?)
                    } else {
                        None
                    },
                });
                all
            }
            Evidence::Bound(bound) => {
                let parts = bound.tests.iter().map(|t| (t.p_kept, t.p_violated));
                let (p_support, p_refute) = combine(parts)?;
                let closest = bound
                    .tests
                    .iter()
                    .filter(|t| t.standard_error > 0.0)
                    .max_by(|a, b| a.excess.total_cmp(&b.excess));
                let level = alpha / count as f64;
                let refutable_excess = closest
                    .map(|t| refutable_excess(t.standard_error, t.df, level, power))
                    .transpose()?;
                return Ok(Self {
                    p_support,
                    p_refute,
                    comparisons: Vec::new(),
                    refutable_excess,
                });
            }
        };
        let parts = comparisons
            .iter()
            .map(|c| (c.test.p_equivalent, c.test.p_outside));
        let (p_support, p_refute) = combine(parts)?;
        Ok(Self {
            p_support,
            p_refute,
            comparisons,
            refutable_excess: None,
        })
    }

    /// Smallest power of support at zero deviation.
    fn support_power(&self) -> f64 {
        self.comparisons
            .iter()
            .filter_map(|c| c.power.as_ref())
            .map(|p| p.support_at_zero)
            .fold(1.0, f64::min)
    }
}

/// (largest support p-value, smallest refutation p-value times their number).
fn combine(parts: impl ExactSizeIterator<Item = (f64, f64)>) -> Result<(f64, f64), StatsError> {
    let count = parts.len() as f64;
    require(
        count > 0.0,
        "number of comparisons in a claim",
        count,
        "positive",
    )?;
    let (largest, smallest) = parts.fold((0.0_f64, 1.0_f64), |(s, r), (support, refute)| {
        (s.max(support), r.min(refute))
    });
    Ok((largest, (count * smallest).min(1.0)))
}

fn judge(
    evidence: &Evidence,
    raw: &RawResult,
    p_support: f64,
    p_refute: f64,
    policy: &Policy,
) -> Result<Verdict, StatsError> {
    let open = |reason| Ok(Verdict::Inconclusive { reason });
    let points = match evidence {
        Evidence::Law(law) => law.points,
        Evidence::Formula(formula) => formula.points,
        Evidence::Accuracy(accuracy) => accuracy.points,
        Evidence::Bound(bound) => bound.points,
    };
    let fraction = points.censored_fraction();
    if fraction > policy.max_censored_fraction {
        return open(InconclusiveReason::TooManyCensored { fraction });
    }
    if let Evidence::Law(law) = evidence
        && let Some(e) = law.exponents.iter().find(|e| e.margin.capped)
    {
        return open(InconclusiveReason::PreAsymptotic {
            exponent: e.name.clone(),
            drift: e.margin.drift,
        });
    }
    if p_refute <= policy.alpha {
        return Ok(Verdict::Refuted);
    }
    if p_support <= policy.alpha {
        return match objection(evidence, policy)? {
            None => Ok(Verdict::Supported),
            Some(reason) => open(reason),
        };
    }
    if matches!(evidence, Evidence::Bound(_)) {
        return open(InconclusiveReason::BoundUndecided);
    }
    let support_power = raw.support_power();
    open(if support_power < policy.power {
        InconclusiveReason::LowPower { support_power }
    } else {
        InconclusiveReason::NearMargin
    })
}

/// What speaks against support although the number itself agrees.
fn objection(
    evidence: &Evidence,
    policy: &Policy,
) -> Result<Option<InconclusiveReason>, StatsError> {
    Ok(match evidence {
        Evidence::Law(law) => law.exponents.iter().find_map(|e| {
            let bent = e
                .curvature
                .filter(|c| c.p_value <= policy.alpha && c.slope_change > e.margin.value)?;
            Some(InconclusiveReason::Curved {
                exponent: e.name.clone(),
                slope_change: bent.slope_change,
                p_value: bent.p_value,
            })
        }),
        Evidence::Formula(formula) => {
            // A standard deviation that is not a number supports nothing.
            let narrow = formula.sd <= formula.max_sd;
            if !narrow {
                return Ok(Some(InconclusiveReason::Scattered { sd: formula.sd }));
            }
            let p: Vec<f64> = formula.trends.iter().map(|t| t.p_value).collect();
            holm(&p)?
                .iter()
                .zip(&formula.trends)
                .find(|(p, _)| **p <= policy.alpha)
                .map(|(&p_value, trend)| InconclusiveReason::Drifting {
                    regressor: trend.name.clone(),
                    slope: trend.slope.value,
                    p_value,
                })
        }
        // All that is asked of an accuracy is compared with a margin of its own.
        Evidence::Accuracy(_) | Evidence::Bound(_) => None,
    })
}
