//! Threshold of one configuration from success counts.
//!
//! The model is p(x) = chance + (1 - chance) F(b0 + b1 (x - centre)) with
//! x = log N and F the normal distribution function or a stated shape. It is fitted by Fisher scoring to one row per (seed, N). Tokens of
//! one seed share its embeddings and data, so a binomial standard error is too
//! small; the spread between rows (Pearson's dispersion) sets the scale instead.
//! See `threshold.md` for the derivation.

use nalgebra::{Matrix2, Vector2};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::bootstrap::resample_seeds;
use super::distribution::{f_upper_tail, normal_quantile, t_quantile};
use super::error::{StatsError, require, require_open_unit};
use super::interval::{Estimate, mean_and_sd, stable_sum};
use super::isotonic::{crossing_of_monotone, pool_adjacent_violators};
use super::link::Link;
use super::threshold::{
    CensorSide, Censored, CrossCheck, Curve, Direction, IntervalMethod, SeedDesign, Threshold,
    ThresholdEstimate,
};

/// Successes of one seed at one sample size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The seed, the unit of replication.
    pub seed: u64,
    /// Natural logarithm of the sample size, log N.
    pub x: f64,
    /// Number of successes, 0 to `trials`; fractions are allowed.
    pub successes: f64,
    /// Number of trials (tokens or facts), positive.
    pub trials: f64,
}

/// Options of [`probit_threshold`]. The defaults are the ones fixed in advance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbitOptions {
    /// Success probability by guessing, in [0, 1).
    pub chance: f64,
    /// Success probability that defines the threshold, in (chance, 1).
    pub target: f64,
    /// Whether the accuracy grows or falls with N.
    pub direction: Direction,
    /// Accuracies that enter the fit, after correction for guessing:
    /// q = (p - chance) / (1 - chance). Of all sizes, sorted, the fit takes the
    /// run from the first to the last one whose pooled q lies in the window,
    /// widened where needed to hold the two sizes next to the crossing, and by one
    /// size on each side if that leaves fewer than three. Whole sizes are kept or
    /// dropped, never single seeds.
    pub window: (f64, f64),
    /// The curve. A stated [`Link::Shape`] is in the coordinate along which the accuracy grows
    /// (minus log N for [`Direction::Decreasing`]), normalised at the target.
    #[serde(skip)]
    pub link: Link,
    /// Allowance in log N for a wrong curve shape, added in quadrature. With a stated shape the
    /// distance between its threshold and the probit's takes its place; where the shape cannot be
    /// fitted, the probit is used with this allowance.
    pub link_error: f64,
    /// Level of the lack-of-fit test below which a stated shape gives way to the monotone fit.
    pub shape_alpha: f64,
    /// Coverage of the interval.
    pub confidence: f64,
    /// Whether a seed's rows at different sizes are related.
    pub seed_design: SeedDesign,
    /// Bootstrap samples for the cross-check; 0 for none.
    pub bootstrap_samples: usize,
    /// Seed of the bootstrap.
    pub bootstrap_seed: u64,
    /// Largest difference in log N from the cross-check that raises no flag.
    pub cross_check_tolerance: f64,
    /// Below this slope / standard error the interval is Fieller's.
    pub fieller_below: f64,
}

impl Default for ProbitOptions {
    fn default() -> Self {
        Self {
            chance: 0.0,
            target: 0.5,
            direction: Direction::Increasing,
            window: (0.2, 0.8),
            link: Link::Probit,
            link_error: 0.03,
            shape_alpha: 0.05,
            confidence: 0.95,
            seed_design: SeedDesign::IndependentAcrossLevels,
            bootstrap_samples: 200,
            bootstrap_seed: 0,
            cross_check_tolerance: 0.1,
            fieller_below: 4.0,
        }
    }
}

impl ProbitOptions {
    /// Accuracy after correction for guessing.
    fn corrected(&self, accuracy: f64) -> f64 {
        (accuracy - self.chance) / (1.0 - self.chance)
    }

    fn validate(&self) -> Result<(), StatsError> {
        require(
            (0.0..1.0).contains(&self.chance),
            "chance",
            self.chance,
            "at least 0 and below 1",
        )?;
        require(
            self.target > self.chance && self.target < 1.0,
            "target",
            self.target,
            "strictly between the chance level and 1",
        )?;
        let (low, high) = self.window;
        require(low >= 0.0, "window.0", low, "not negative")?;
        require(high <= 1.0, "window.1", high, "at most 1")?;
        let target = self.corrected(self.target);
        require(
            low < target && target < high,
            "window",
            target,
            "around the target corrected for guessing (the value shown)",
        )?;
        require(
            self.link_error >= 0.0 && self.link_error.is_finite(),
            "link_error",
            self.link_error,
            "finite and not negative",
        )?;
        require(
            (0.0..1.0).contains(&self.shape_alpha),
            "shape_alpha",
            self.shape_alpha,
            "at least 0 and below 1",
        )?;
        require(
            self.cross_check_tolerance >= 0.0,
            "cross_check_tolerance",
            self.cross_check_tolerance,
            "not negative",
        )?;
        require(
            self.fieller_below >= 0.0,
            "fieller_below",
            self.fieller_below,
            "not negative",
        )?;
        require_open_unit("confidence", self.confidence)
    }
}

/// All rows of one sample size, with x turned so that accuracy should grow.
struct Level {
    x: f64,
    rows: Vec<Trial>,
}

impl Level {
    fn trials(&self) -> f64 {
        self.rows.iter().map(|r| r.trials).sum()
    }

    fn accuracy(&self) -> f64 {
        self.rows.iter().map(|r| r.successes).sum::<f64>() / self.trials()
    }
}

/// Estimates log N* at which the accuracy passes `options.target`.
///
/// The order of `trials` does not matter, except that bootstrap samples are drawn
/// from the rows sorted by (x, seed, successes). The standard error combines the
/// dispersion of the rows (at least binomial; for shared seeds also the spread
/// between seeds) and `options.link_error`; the degrees of freedom are rows - 2,
/// or seeds - 1 for shared seeds.
///
/// Data without an answer give [`Threshold::Censored`]: no bracket, wrong slope,
/// a step between neighbouring sizes, too few rows, an unbounded interval.
///
/// # Errors
/// [`StatsError`] if an option or a row lies outside its domain.
///
/// # Examples
/// ```
/// use recall_capacity::stats::probit::{ProbitOptions, Trial, probit_threshold};
/// let trials: Vec<Trial> = [(6.0, 20.0), (6.5, 35.0), (7.0, 62.0), (7.5, 80.0)]
///     .iter()
///     .flat_map(|&(x, k)| (0..4).map(move |seed| {
///         Trial { seed, x, successes: k + seed as f64, trials: 100.0 }
///     }))
///     .collect();
/// let threshold = probit_threshold(&trials, &ProbitOptions::default())?;
/// let log_n = &threshold.estimate().ok_or("censored")?.log_n;
/// assert!((log_n.value - 6.74).abs() < 0.05);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn probit_threshold(
    trials: &[Trial],
    options: &ProbitOptions,
) -> Result<Threshold, StatsError> {
    options.validate()?;
    validate_rows(trials)?;
    let levels = group_by_level(trials, options.direction);
    Ok(match estimate(&levels, options) {
        Ok(found) => Threshold::Estimated(Box::new(found)),
        Err(censored) => Threshold::Censored(censored),
    })
}

fn validate_rows(trials: &[Trial]) -> Result<(), StatsError> {
    for (row, trial) in trials.iter().enumerate() {
        let invalid = |field, value, requirement| StatsError::InvalidRow {
            row,
            field,
            value,
            requirement,
        };
        if !trial.x.is_finite() {
            return Err(invalid("x", trial.x, "finite"));
        }
        if !(trial.trials > 0.0 && trial.trials.is_finite()) {
            return Err(invalid("trials", trial.trials, "positive and finite"));
        }
        if !(0.0..=trial.trials).contains(&trial.successes) {
            return Err(invalid(
                "successes",
                trial.successes,
                "between 0 and the number of trials",
            ));
        }
    }
    Ok(())
}

/// Sorts the rows and groups them by x; a falling accuracy is turned by x -> -x.
fn group_by_level(trials: &[Trial], direction: Direction) -> Vec<Level> {
    let mut rows: Vec<Trial> = trials
        .iter()
        .map(|t| Trial {
            x: direction.sign() * t.x,
            ..*t
        })
        .collect();
    rows.sort_by(|a, b| {
        a.x.total_cmp(&b.x)
            .then(a.seed.cmp(&b.seed))
            .then(a.successes.total_cmp(&b.successes))
            .then(a.trials.total_cmp(&b.trials))
    });
    rows.chunk_by(|a, b| a.x == b.x)
        .map(|chunk| Level {
            x: chunk[0].x,
            rows: chunk.to_vec(),
        })
        .collect()
}

fn estimate(levels: &[Level], options: &ProbitOptions) -> Result<ThresholdEstimate, Censored> {
    let bracket = find_bracket(levels, options)?;
    let used = &levels[window_of_levels(levels, bracket, options)];
    let rows: Vec<Trial> = used.iter().flat_map(|l| l.rows.iter().copied()).collect();
    let sign = options.direction.sign();
    // The interval of log N between the sizes next to the crossing.
    let step = {
        let (a, b) = (sign * levels[bracket].x, sign * levels[bracket + 1].x);
        [a.min(b), a.max(b)]
    };

    if rows.len() < 3 {
        return Err(Censored {
            bracket: Some(step),
            ..Censored::new(
                CensorSide::InsufficientData,
                "two rows near the threshold leave no degrees of freedom: add seeds",
            )
        });
    }
    let jump = || {
        Censored::between(
            step,
            "the accuracy jumps between two neighbouring sizes: try sizes between them",
        )
    };
    let probit = fit_curve(&rows, &Link::Probit, options);
    let stated = match &options.link {
        Link::Probit => None,
        // Without an ascending fit the shape says nothing of these data.
        link => fit_curve(&rows, link, options).filter(|f| f.slope > 0.0),
    };
    let (fit, link, shape) = match (stated, probit) {
        (Some(stated), probit) => {
            // A shape's threshold stands by itself only as far as a symmetric curve agrees.
            let theta = stated.threshold(options);
            let distance = match probit.filter(|p| p.slope > 0.0) {
                Some(p) => (p.threshold(options) - theta).abs(),
                None => options.link_error,
            };
            (stated, &options.link, Some(distance))
        }
        (None, Some(probit)) => (probit, &Link::Probit, None),
        (None, None) => return Err(jump()),
    };
    if fit.slope <= 0.0 {
        return Err(Censored::new(
            CensorSide::NotMonotone,
            "the fitted accuracy moves against the stated direction",
        ));
    }
    let model_error = shape.unwrap_or(options.link_error);
    let uncertainty = fit.uncertainty(&rows, link, options)?;
    let theta = fit.threshold(options);
    let (first, last) = (used[0].x, used[used.len() - 1].x);
    // A curve that crosses outside the sizes that bracket the target contradicts
    // the data it was fitted to.
    if theta < levels[0].x || theta > levels[levels.len() - 1].x {
        return Err(Censored::new(
            CensorSide::NotMonotone,
            "the curve crosses the target outside the sizes tried",
        ));
    }
    let lack_of_fit = shape.and_then(|_| fit.lack_of_fit(used, link, options));
    let check = cross_check(levels, theta, options);
    let found =
        |interval: TurnedInterval, statistical_error, model_error, curve| ThresholdEstimate {
            log_n: interval.turned(sign),
            statistical_error,
            model_error,
            method: interval.method,
            extrapolated: theta < first || theta > last,
            rows_used: rows.len(),
            levels_used: used.len(),
            curve,
            cross_check: Some(check.clone()),
        };
    if let Some(p) = lack_of_fit.filter(|p| *p < options.shape_alpha)
        && let (Some(value), Some(error)) = (check.value, check.standard_error)
    {
        // No curve is left to rely on: the monotone fit stands, and what the choice of a curve
        // would have changed is its allowance.
        let value = sign * value;
        let allowance = (value - theta).abs();
        let error = error.max(uncertainty.threshold);
        let interval = TurnedInterval {
            estimate: symmetric(value, error.hypot(allowance), uncertainty.df, options),
            method: IntervalMethod::Bootstrap,
        };
        let curve = Curve::Monotone { lack_of_fit: p };
        return Ok(found(interval, error, allowance, curve));
    }
    let interval = fit.interval(theta, &uncertainty, model_error, options)?;
    let (intercept, slope, centre) = (fit.intercept, sign * fit.slope, sign * fit.centre);
    let (dispersion, iterations) = (fit.dispersion, fit.iterations);
    let curve = match link {
        Link::Probit => Curve::Probit {
            chance: options.chance,
            intercept,
            slope,
            slope_standard_error: uncertainty.slope,
            centre,
            dispersion,
            iterations,
        },
        Link::Shape(_) => Curve::Stated {
            chance: options.chance,
            intercept,
            slope,
            slope_standard_error: uncertainty.slope,
            centre,
            dispersion,
            iterations,
            lack_of_fit,
        },
    };
    Ok(found(interval, uncertainty.threshold, model_error, curve))
}

/// `value +- t error`.
fn symmetric(value: f64, error: f64, df: f64, options: &ProbitOptions) -> Estimate {
    let half_width = t_quantile(0.5 + 0.5 * options.confidence, Some(df)) * error;
    Estimate {
        value,
        standard_error: error,
        df: Some(df),
        confidence: options.confidence,
        lower: value - half_width,
        upper: value + half_width,
    }
}

/// Index of the last level whose monotone fit is below the target.
fn find_bracket(levels: &[Level], options: &ProbitOptions) -> Result<usize, Censored> {
    let rows: usize = levels.iter().map(|l| l.rows.len()).sum();
    if rows == 0 {
        return Err(Censored::new(CensorSide::InsufficientData, "no rows"));
    }
    let accuracies: Vec<f64> = levels.iter().map(Level::accuracy).collect();
    let weights: Vec<f64> = levels.iter().map(Level::trials).collect();
    let monotone = pool_adjacent_violators(&accuracies, &weights);
    let passed = |p: f64| p >= options.target;
    let some_below = accuracies.iter().any(|&p| !passed(p));
    let some_above = accuracies.iter().any(|&p| passed(p));
    let sign = options.direction.sign();
    if passed(monotone[0]) || !passed(monotone[monotone.len() - 1]) {
        let flat = monotone[0] == monotone[monotone.len() - 1];
        if some_below && some_above && flat {
            return Err(Censored::new(
                CensorSide::NotMonotone,
                "the accuracy passes the target against the stated direction",
            ));
        }
        // In turned coordinates: passed everywhere means the threshold lies
        // before the first level, passed nowhere after the last one.
        let (edge, side_of_edge) = if passed(monotone[0]) {
            (0, -1.0)
        } else {
            (levels.len() - 1, 1.0)
        };
        let bound = sign * levels[edge].x;
        return Err(if sign * side_of_edge < 0.0 {
            Censored::at(
                CensorSide::Below,
                bound,
                "the target is passed at the smallest size tried: try smaller ones",
            )
        } else {
            Censored::at(
                CensorSide::Above,
                bound,
                "the target is not passed at the largest size tried: try larger ones",
            )
        });
    }
    // Some level is below the target, since monotone[0] is.
    Ok(monotone.iter().rposition(|&p| !passed(p)).unwrap_or(0))
}

/// Levels that enter the fit; see [`ProbitOptions::window`].
fn window_of_levels(
    levels: &[Level],
    bracket: usize,
    options: &ProbitOptions,
) -> std::ops::RangeInclusive<usize> {
    let (low, high) = options.window;
    let inside = |l: &Level| (low..=high).contains(&options.corrected(l.accuracy()));
    let first = levels.iter().position(inside).unwrap_or(bracket);
    let last = levels.iter().rposition(inside).unwrap_or(bracket + 1);
    let (first, last) = (first.min(bracket), last.max(bracket + 1));
    if last - first >= 2 {
        first..=last
    } else {
        first.saturating_sub(1)..=(last + 1).min(levels.len() - 1)
    }
}

/// A converged fit, in turned coordinates.
struct CurveFit {
    intercept: f64,
    slope: f64,
    centre: f64,
    /// Inverse Fisher information at dispersion 1.
    covariance: Matrix2<f64>,
    dispersion: f64,
    iterations: usize,
}

/// Standard errors in turned coordinates, dispersion included.
struct Uncertainty {
    covariance: Matrix2<f64>,
    threshold: f64,
    slope: f64,
    df: f64,
}

/// An interval in turned coordinates.
struct TurnedInterval {
    estimate: Estimate,
    method: IntervalMethod,
}

impl TurnedInterval {
    fn turned(&self, sign: f64) -> Estimate {
        let Estimate { lower, upper, .. } = self.estimate;
        let (a, b) = (sign * lower, sign * upper);
        Estimate {
            value: sign * self.estimate.value,
            lower: a.min(b),
            upper: a.max(b),
            ..self.estimate
        }
    }
}

/// Success probability and its derivative with respect to the linear predictor.
fn curve_at(eta: f64, chance: f64, link: &Link) -> (f64, f64) {
    let (q, slope) = link.at(eta);
    // The clip keeps weights finite; it acts only beyond seven standard deviations.
    let p = chance + (1.0 - chance) * q;
    (
        p.clamp(1e-12, 1.0 - 1e-12),
        ((1.0 - chance) * slope).max(1e-300),
    )
}

fn log_likelihood(
    rows: &[Trial],
    beta: &Vector2<f64>,
    centre: f64,
    chance: f64,
    link: &Link,
) -> f64 {
    stable_sum(rows.iter().map(|r| {
        let (p, _) = curve_at(beta[0] + beta[1] * (r.x - centre), chance, link);
        r.successes * p.ln() + (r.trials - r.successes) * (-p).ln_1p()
    }))
}

/// Score and Fisher information.
fn score_and_information(
    rows: &[Trial],
    beta: &Vector2<f64>,
    centre: f64,
    chance: f64,
    link: &Link,
) -> (Vector2<f64>, Matrix2<f64>) {
    let mut score = Vector2::zeros();
    let mut information = Matrix2::zeros();
    for r in rows {
        let design = Vector2::new(1.0, r.x - centre);
        let (p, g) = curve_at(beta.dot(&design), chance, link);
        let variance = p * (1.0 - p);
        score += design * ((r.successes - r.trials * p) * g / variance);
        information += design * design.transpose() * (r.trials * g * g / variance);
    }
    (score, information)
}

/// Start: least squares on the empirical probit, half a success pulled inwards.
fn starting_point(rows: &[Trial], centre: f64, chance: f64) -> Vector2<f64> {
    let (mut sw, mut su, mut sz, mut suu, mut suz) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for r in rows {
        let accuracy = (r.successes + 0.5) / (r.trials + 1.0);
        let q = ((accuracy - chance) / (1.0 - chance)).clamp(0.01, 0.99);
        let (u, z, w) = (r.x - centre, normal_quantile(q), r.trials);
        sw += w;
        su += w * u;
        sz += w * z;
        suu += w * u * u;
        suz += w * u * z;
    }
    let spread = suu - su * su / sw;
    let slope = if spread > 0.0 {
        (suz - su * sz / sw) / spread
    } else {
        0.0
    };
    Vector2::new((sz - slope * su) / sw, slope)
}

/// Fisher scoring with step halving; `None` if the likelihood has no maximum
/// (separated data) or the information is singular.
fn fit_curve(rows: &[Trial], link: &Link, options: &ProbitOptions) -> Option<CurveFit> {
    const MAX_ITERATIONS: usize = 100;
    // A linear predictor this steep over the range of x means 0 and 1 only.
    const LARGEST_RISE: f64 = 30.0;
    let total = stable_sum(rows.iter().map(|r| r.trials));
    let centre = stable_sum(rows.iter().map(|r| r.trials * r.x)) / total;
    let (low, high) = rows
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), r| {
            (a.min(r.x), b.max(r.x))
        });
    let mut beta = starting_point(rows, centre, options.chance);
    let mut likelihood = log_likelihood(rows, &beta, centre, options.chance, link);
    for iteration in 1..=MAX_ITERATIONS {
        let (score, information) = score_and_information(rows, &beta, centre, options.chance, link);
        // The ridge only damps the step: the maximum does not move.
        let ridge = Matrix2::from_diagonal(&information.diagonal()) * 1e-9;
        let step = (information + ridge).try_inverse()? * score;
        let mut fraction = 1.0;
        let mut next = beta + step;
        let mut next_likelihood = log_likelihood(rows, &next, centre, options.chance, link);
        let no_worse = |value: f64| value >= likelihood - 1e-12 * likelihood.abs();
        while !no_worse(next_likelihood) && fraction > 1e-6 {
            fraction *= 0.5;
            next = beta + step * fraction;
            next_likelihood = log_likelihood(rows, &next, centre, options.chance, link);
        }
        beta = next;
        likelihood = next_likelihood;
        let bounded = beta[1].abs() * (high - low) <= LARGEST_RISE && beta[0].is_finite();
        if !bounded {
            return None;
        }
        let scale = 1.0 + beta[0].abs().max(beta[1].abs() * (high - low));
        let moved = (step[0].abs() + step[1].abs() * (high - low)) * fraction;
        if moved < 1e-10 * scale {
            let (_, information) = score_and_information(rows, &beta, centre, options.chance, link);
            let chi_squared = stable_sum(rows.iter().map(|r| {
                let (p, _) = curve_at(beta[0] + beta[1] * (r.x - centre), options.chance, link);
                (r.successes - r.trials * p).powi(2) / (r.trials * p * (1.0 - p))
            }));
            return Some(CurveFit {
                intercept: beta[0],
                slope: beta[1],
                centre,
                covariance: information.try_inverse()?,
                dispersion: chi_squared / (rows.len() as f64 - 2.0),
                iterations: iteration,
            });
        }
    }
    None
}

impl CurveFit {
    /// Linear predictor at the target accuracy.
    fn target_probit(options: &ProbitOptions) -> f64 {
        normal_quantile(options.corrected(options.target))
    }

    /// p-value of the F test that the pooled accuracies of the sizes lie on the curve, against
    /// the spread of the rows about their size's own accuracy (at least binomial). `None` if no
    /// degree of freedom is left for one of the two.
    fn lack_of_fit(&self, levels: &[Level], link: &Link, options: &ProbitOptions) -> Option<f64> {
        let rows: usize = levels.iter().map(|l| l.rows.len()).sum();
        let lack_df = levels.len().checked_sub(2).filter(|d| *d > 0)? as f64;
        let pure_df = rows.checked_sub(levels.len()).filter(|d| *d > 0)? as f64;
        let (mut lack, mut pure) = (0.0, 0.0);
        for level in levels {
            let (p, _) = curve_at(
                self.intercept + self.slope * (level.x - self.centre),
                options.chance,
                link,
            );
            let own = level.accuracy();
            let variance = p * (1.0 - p);
            lack += level.trials() * (own - p).powi(2) / variance;
            pure += level
                .rows
                .iter()
                .map(|r| r.trials * (r.successes / r.trials - own).powi(2))
                .sum::<f64>()
                / variance;
        }
        let scale = (pure / pure_df).max(1.0);
        Some(f_upper_tail(lack / lack_df / scale, lack_df, pure_df))
    }

    fn threshold(&self, options: &ProbitOptions) -> f64 {
        self.centre + (Self::target_probit(options) - self.intercept) / self.slope
    }

    /// Standard errors: between rows, and for shared seeds also between seeds.
    fn uncertainty(
        &self,
        rows: &[Trial],
        link: &Link,
        options: &ProbitOptions,
    ) -> Result<Uncertainty, Censored> {
        let distance = (Self::target_probit(options) - self.intercept) / self.slope;
        let gradient = Vector2::new(-1.0, -distance) / self.slope;
        let mut covariance = self.covariance * self.dispersion.max(1.0);
        let mut df = rows.len() as f64 - 2.0;
        if options.seed_design == SeedDesign::SharedAcrossLevels {
            let (clustered, seeds) = self.cluster_covariance(rows, options.chance, link);
            if seeds < 2 {
                return Err(Censored::new(
                    CensorSide::InsufficientData,
                    "one shared seed has no spread between seeds: add seeds",
                ));
            }
            df = df.min(seeds as f64 - 1.0);
            // Whichever is larger for the threshold, the quantity reported.
            if gradient.dot(&(clustered * gradient)) > gradient.dot(&(covariance * gradient)) {
                covariance = clustered;
            }
        }
        Ok(Uncertainty {
            covariance,
            threshold: gradient.dot(&(covariance * gradient)).max(0.0).sqrt(),
            slope: covariance[(1, 1)].max(0.0).sqrt(),
            df,
        })
    }

    /// Sandwich with one score per seed, and the number of seeds.
    fn cluster_covariance(
        &self,
        rows: &[Trial],
        chance: f64,
        link: &Link,
    ) -> (Matrix2<f64>, usize) {
        let beta = Vector2::new(self.intercept, self.slope);
        let mut sorted = rows.to_vec();
        sorted.sort_by_key(|r| r.seed);
        let mut meat = Matrix2::zeros();
        let mut seeds = 0_usize;
        for cluster in sorted.chunk_by(|a, b| a.seed == b.seed) {
            let (score, _) = score_and_information(cluster, &beta, self.centre, chance, link);
            meat += score * score.transpose();
            seeds += 1;
        }
        let g = seeds as f64;
        let small_sample = g / (g - 1.0).max(1.0);
        (
            self.covariance * meat * self.covariance * small_sample,
            seeds,
        )
    }

    fn interval(
        &self,
        theta: f64,
        uncertainty: &Uncertainty,
        model_error: f64,
        options: &ProbitOptions,
    ) -> Result<TurnedInterval, Censored> {
        let t = t_quantile(0.5 + 0.5 * options.confidence, Some(uncertainty.df));
        let with_link = |half_width: f64| half_width.hypot(t * model_error);
        let (below, above, method) = if self.slope < options.fieller_below * uncertainty.slope {
            let Some((below, above)) = self.fieller(theta, t, &uncertainty.covariance) else {
                return Err(Censored::new(
                    CensorSide::NotMonotone,
                    "the slope is too uncertain to bound the threshold: add seeds or sizes",
                ));
            };
            (below, above, IntervalMethod::Fieller)
        } else {
            let half_width = t * uncertainty.threshold;
            (half_width, half_width, IntervalMethod::Delta)
        };
        let (below, above) = (with_link(below), with_link(above));
        let standard_error = match method {
            // The standard error whose symmetric interval is as wide.
            IntervalMethod::Fieller => 0.5 * (below + above) / t,
            _ => uncertainty.threshold.hypot(model_error),
        };
        Ok(TurnedInterval {
            estimate: Estimate {
                value: theta,
                standard_error,
                df: Some(uncertainty.df),
                confidence: options.confidence,
                lower: theta - below,
                upper: theta + above,
            },
            method,
        })
    }

    /// Distances from the threshold down and up to the ends of Fieller's
    /// interval; `None` if it is unbounded.
    fn fieller(&self, theta: f64, t: f64, covariance: &Matrix2<f64>) -> Option<(f64, f64)> {
        // All u with (b0 + b1 u - z)^2 <= t^2 (v00 + 2 u v01 + u^2 v11), written
        // in d = u - u^, where b0 + b1 u^ = z.
        let u = theta - self.centre;
        let (v00, v01, v11) = (covariance[(0, 0)], covariance[(0, 1)], covariance[(1, 1)]);
        let a = self.slope.powi(2) - t * t * v11;
        if a <= 0.0 {
            return None;
        }
        let b = -t * t * (v01 + u * v11);
        let c = -t * t * (v00 + 2.0 * u * v01 + u * u * v11);
        let root = (b * b - a * c).max(0.0).sqrt();
        Some(((root + b) / a, (root - b) / a))
    }
}

/// Threshold from the monotone fit alone, with a bootstrap over seeds.
fn cross_check(levels: &[Level], theta: f64, options: &ProbitOptions) -> CrossCheck {
    let sign = options.direction.sign();
    let value = monotone_crossing(levels, options.target);
    let mut rng = ChaCha8Rng::seed_from_u64(options.bootstrap_seed);
    let crossings: Vec<f64> = (0..options.bootstrap_samples)
        .filter_map(|_| {
            monotone_crossing(
                &resample(levels, options.seed_design, &mut rng),
                options.target,
            )
        })
        .collect();
    CrossCheck {
        value: value.map(|v| sign * v),
        standard_error: mean_and_sd(&crossings).map(|(_, sd)| sd),
        bootstrap_success: crossings.len() as f64 / options.bootstrap_samples.max(1) as f64,
        disagrees: value.is_none_or(|v| (v - theta).abs() > options.cross_check_tolerance),
    }
}

fn monotone_crossing(levels: &[Level], target: f64) -> Option<f64> {
    let x: Vec<f64> = levels.iter().map(|l| l.x).collect();
    let accuracies: Vec<f64> = levels.iter().map(Level::accuracy).collect();
    let weights: Vec<f64> = levels.iter().map(Level::trials).collect();
    crossing_of_monotone(&x, &pool_adjacent_violators(&accuracies, &weights), target)
}

/// One bootstrap sample of seeds. Levels that lose all their rows drop out.
fn resample(levels: &[Level], design: SeedDesign, rng: &mut ChaCha8Rng) -> Vec<Level> {
    resample_seeds(
        levels,
        |level| &level.rows,
        |row| row.seed,
        |level, rows| Level { x: level.x, rows },
        design,
        rng,
    )
}
