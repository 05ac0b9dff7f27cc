//! Threshold of one configuration from a continuous criterion.
//!
//! Each seed gives one positive ratio of noise to signal at each sample size.
//! The squares are averaged over seeds (noise powers add), and log N* is where
//! the logarithm of the pooled ratio crosses log c. See `threshold.md`.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::bootstrap::resample_seeds;
use super::distribution::t_quantile;
use super::error::{StatsError, require, require_open_unit, require_positive};
use super::interval::{Estimate, mean_and_sd, stable_sum};
use super::linear::{Column, least_squares};
use super::threshold::{
    CensorSide, Censored, CrossCheck, Curve, Direction, IntervalMethod, SeedDesign, Threshold,
    ThresholdEstimate,
};

/// Noise ratio of one seed at one sample size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RatioRow {
    /// The seed, the unit of replication.
    pub seed: u64,
    /// Natural logarithm of the sample size, log N.
    pub x: f64,
    /// The ratio of noise to signal, positive and finite.
    pub ratio: f64,
}

/// Shape of the curve log ratio against log N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrossingShape {
    /// A straight line.
    Linear,
    /// A parabola if there are at least four sizes, else a straight line.
    Quadratic,
}

/// Options of [`ratio_crossing`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CrossingOptions {
    /// The critical ratio c, positive.
    pub critical_ratio: f64,
    /// Whether the ratio grows or falls with N.
    pub direction: Direction,
    /// Shape of the fitted curve.
    pub shape: CrossingShape,
    /// Whether a seed's ratios at different sizes are related.
    pub seed_design: SeedDesign,
    /// Coverage of the interval.
    pub confidence: f64,
    /// Distance in log N outside the sizes tried up to which a crossing is
    /// reported (and flagged); beyond it the point is censored.
    pub max_extrapolation: f64,
    /// Allowance in log N for a wrong curve shape, added in quadrature.
    pub model_error: f64,
    /// Largest difference in log N between line and parabola that raises no flag.
    pub cross_check_tolerance: f64,
    /// Bootstrap samples, at least 50.
    pub bootstrap_samples: usize,
    /// Seed of the bootstrap.
    pub bootstrap_seed: u64,
}

impl Default for CrossingOptions {
    fn default() -> Self {
        Self {
            critical_ratio: 1.0,
            direction: Direction::Decreasing,
            shape: CrossingShape::Linear,
            seed_design: SeedDesign::IndependentAcrossLevels,
            confidence: 0.95,
            max_extrapolation: 0.25,
            model_error: 0.0,
            cross_check_tolerance: 0.1,
            bootstrap_samples: 500,
            bootstrap_seed: 0,
        }
    }
}

impl CrossingOptions {
    fn validate(&self) -> Result<(), StatsError> {
        let finite_not_negative = |name, value: f64| {
            require(
                value >= 0.0 && value.is_finite(),
                name,
                value,
                "finite and not negative",
            )
        };
        require_positive("critical_ratio", self.critical_ratio)?;
        finite_not_negative("max_extrapolation", self.max_extrapolation)?;
        finite_not_negative("model_error", self.model_error)?;
        finite_not_negative("cross_check_tolerance", self.cross_check_tolerance)?;
        require(
            self.bootstrap_samples >= 50,
            "bootstrap_samples",
            self.bootstrap_samples as f64,
            "at least 50",
        )?;
        require_open_unit("confidence", self.confidence)
    }
}

/// The squared ratios at one sample size, as (seed, square).
#[derive(Clone)]
struct Level {
    x: f64,
    squares: Vec<(u64, f64)>,
}

impl Level {
    /// Logarithm of the root mean square over seeds.
    fn log_pooled(&self) -> f64 {
        let n = self.squares.len() as f64;
        0.5 * (self.squares.iter().map(|s| s.1).sum::<f64>() / n).ln()
    }
}

/// Estimates log N* at which the pooled ratio crosses `options.critical_ratio`.
///
/// Each size weighs in by its number of seeds. The standard error comes from a
/// bootstrap over seeds, enlarged by sqrt(s / (s - 1)) for `s` seeds per size
/// because resampling n values has variance (n - 1)/n of the true one. Degrees of
/// freedom: rows - sizes, or seeds - 1 for shared seeds. The cross-check is the
/// other shape (parabola for line and back) where there are at least four sizes.
///
/// # Errors
/// [`StatsError`] if an option or a row lies outside its domain.
pub fn ratio_crossing(
    rows: &[RatioRow],
    options: &CrossingOptions,
) -> Result<Threshold, StatsError> {
    options.validate()?;
    for (row, r) in rows.iter().enumerate() {
        let invalid = |field, value, requirement| StatsError::InvalidRow {
            row,
            field,
            value,
            requirement,
        };
        if !r.x.is_finite() {
            return Err(invalid("x", r.x, "finite"));
        }
        // The square must be a normal number too.
        if !(r.ratio > 1e-150 && r.ratio < 1e150) {
            return Err(invalid(
                "ratio",
                r.ratio,
                "positive, within 1e-150 to 1e150",
            ));
        }
    }
    let levels = group_by_level(rows);
    Ok(match estimate(&levels, options) {
        Ok(found) => Threshold::Estimated(Box::new(found)),
        Err(censored) => Threshold::Censored(censored),
    })
}

fn group_by_level(rows: &[RatioRow]) -> Vec<Level> {
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| {
        a.x.total_cmp(&b.x)
            .then(a.seed.cmp(&b.seed))
            .then(a.ratio.total_cmp(&b.ratio))
    });
    rows.chunk_by(|a, b| a.x == b.x)
        .map(|chunk| Level {
            x: chunk[0].x,
            squares: chunk.iter().map(|r| (r.seed, r.ratio * r.ratio)).collect(),
        })
        .collect()
}

/// The curve a + b u + q u^2 with u = x - centre.
struct Fit {
    centre: f64,
    coefficients: [f64; 3],
    residual_rms: f64,
}

impl Fit {
    fn new(levels: &[Level], shape: CrossingShape) -> Option<Self> {
        let weights: Vec<f64> = levels.iter().map(|l| l.squares.len() as f64).collect();
        let total: f64 = weights.iter().sum();
        let centre = stable_sum(levels.iter().zip(&weights).map(|(l, w)| w * l.x)) / total;
        let u: Vec<f64> = levels.iter().map(|l| l.x - centre).collect();
        let y: Vec<f64> = levels.iter().map(Level::log_pooled).collect();
        let mut columns = vec![
            Column::new("intercept", vec![1.0; u.len()]),
            Column::new("slope", u.clone()),
        ];
        if shape == CrossingShape::Quadratic && levels.len() >= 4 {
            columns.push(Column::new("square", u.iter().map(|u| u * u).collect()));
        }
        let fit = least_squares(&columns, &y, Some(&weights)).ok()?;
        let b = &fit.coefficients;
        let residual =
            |(&u, &y): (&f64, &f64)| y - b[0] - b[1] * u - b.get(2).map_or(0.0, |q| q * u * u);
        let squares: f64 = u.iter().zip(&y).map(|pair| residual(pair).powi(2)).sum();
        Some(Self {
            centre,
            coefficients: [b[0], b[1], b.get(2).copied().unwrap_or(0.0)],
            residual_rms: (squares / u.len() as f64).sqrt(),
        })
    }

    /// Crossing with `level` on the branch that moves in the stated direction.
    fn crossing(&self, level: f64, direction: Direction) -> Option<f64> {
        let [a, b, q] = self.coefficients;
        // Of the two roots of q u^2 + b u + (a - level) the one with
        // b + 2 q u = +sqrt(disc) moves upwards, the other downwards.
        let discriminant = b * b - 4.0 * q * (a - level);
        if discriminant <= 0.0 {
            return None;
        }
        let root = direction.sign() * discriminant.sqrt();
        // Written so that nothing cancels as q -> 0; b + root = 0 only if the
        // line slopes the wrong way.
        let denominator = b + root;
        let u = if denominator.abs() > root.abs() {
            -2.0 * (a - level) / denominator
        } else if q != 0.0 {
            (root - b) / (2.0 * q)
        } else {
            return None;
        };
        u.is_finite().then_some(self.centre + u)
    }
}

fn estimate(levels: &[Level], options: &CrossingOptions) -> Result<ThresholdEstimate, Censored> {
    let rows: usize = levels.iter().map(|l| l.squares.len()).sum();
    if levels.len() < 2 {
        return Err(Censored::new(
            CensorSide::InsufficientData,
            "a crossing needs at least two sizes",
        ));
    }
    let mut seeds: Vec<u64> = levels
        .iter()
        .flat_map(|l| l.squares.iter().map(|s| s.0))
        .collect();
    seeds.sort_unstable();
    seeds.dedup();
    let (df, inflation) = match options.seed_design {
        SeedDesign::IndependentAcrossLevels => {
            let df = rows - levels.len();
            (df, rows as f64 / df.max(1) as f64)
        }
        SeedDesign::SharedAcrossLevels => {
            let df = seeds.len() - 1;
            (df, seeds.len() as f64 / df.max(1) as f64)
        }
    };
    if df == 0 {
        return Err(Censored::new(
            CensorSide::InsufficientData,
            "one seed has no spread between seeds: add seeds",
        ));
    }
    let level = options.critical_ratio.ln();
    let wrong_way = || {
        Censored::new(
            CensorSide::NotMonotone,
            "the fitted ratio does not cross the critical one in the stated direction",
        )
    };
    let fit = Fit::new(levels, options.shape).ok_or_else(wrong_way)?;
    let theta = fit.crossing(level, options.direction).ok_or_else(|| {
        censored_without_crossing(levels, level, options.direction).unwrap_or_else(wrong_way)
    })?;
    let (first, last) = (levels[0].x, levels[levels.len() - 1].x);
    if theta < first - options.max_extrapolation {
        return Err(Censored::at(
            CensorSide::Below,
            first,
            "the crossing lies below the smallest size tried: try smaller ones",
        ));
    }
    if theta > last + options.max_extrapolation {
        return Err(Censored::at(
            CensorSide::Above,
            last,
            "the crossing lies above the largest size tried: try larger ones",
        ));
    }

    let mut rng = ChaCha8Rng::seed_from_u64(options.bootstrap_seed);
    let crossings: Vec<f64> = (0..options.bootstrap_samples)
        .filter_map(|_| {
            let sample = resample(levels, options.seed_design, &mut rng);
            Fit::new(&sample, options.shape)?.crossing(level, options.direction)
        })
        .collect();
    let success = crossings.len() as f64 / options.bootstrap_samples as f64;
    // A slope whose sign the data leave open bounds nothing.
    let Some((_, spread)) = mean_and_sd(&crossings).filter(|_| success >= 0.975) else {
        return Err(Censored::new(
            CensorSide::NotMonotone,
            "the slope is too uncertain to bound the threshold: add seeds or sizes",
        ));
    };
    let statistical_error = spread * inflation.sqrt();
    let standard_error = statistical_error.hypot(options.model_error);
    let half_width = t_quantile(0.5 + 0.5 * options.confidence, Some(df as f64)) * standard_error;
    Ok(ThresholdEstimate {
        log_n: Estimate {
            value: theta,
            standard_error,
            df: Some(df as f64),
            confidence: options.confidence,
            lower: theta - half_width,
            upper: theta + half_width,
        },
        statistical_error,
        model_error: options.model_error,
        method: IntervalMethod::Bootstrap,
        extrapolated: theta < first || theta > last,
        rows_used: rows,
        levels_used: levels.len(),
        curve: Curve::LogRatio {
            intercept: fit.coefficients[0],
            slope: fit.coefficients[1],
            quadratic: fit.coefficients[2],
            centre: fit.centre,
            residual_rms: fit.residual_rms,
        },
        cross_check: other_shape(levels, theta, level, success, options),
    })
}

/// All sizes on one side of the critical ratio and no crossing of the curve: the
/// threshold lies beyond the end towards which the ratio approaches it.
fn censored_without_crossing(
    levels: &[Level],
    level: f64,
    direction: Direction,
) -> Option<Censored> {
    let signed: Vec<f64> = levels
        .iter()
        .map(|l| direction.sign() * (l.log_pooled() - level))
        .collect();
    let (first, last) = (levels[0].x, levels[levels.len() - 1].x);
    // In turned coordinates the criterion grows through zero with x.
    if signed[0] >= signed[signed.len() - 1] {
        return None;
    }
    if signed.iter().all(|&s| s > 0.0) {
        Some(Censored::at(
            CensorSide::Below,
            first,
            "all sizes tried are past the critical ratio: try smaller ones",
        ))
    } else if signed.iter().all(|&s| s < 0.0) {
        Some(Censored::at(
            CensorSide::Above,
            last,
            "no size tried reaches the critical ratio: try larger ones",
        ))
    } else {
        None
    }
}

fn other_shape(
    levels: &[Level],
    theta: f64,
    level: f64,
    bootstrap_success: f64,
    options: &CrossingOptions,
) -> Option<CrossCheck> {
    if levels.len() < 4 {
        return None;
    }
    let shape = match options.shape {
        CrossingShape::Linear => CrossingShape::Quadratic,
        CrossingShape::Quadratic => CrossingShape::Linear,
    };
    let value = Fit::new(levels, shape).and_then(|f| f.crossing(level, options.direction));
    Some(CrossCheck {
        value,
        standard_error: None,
        bootstrap_success,
        disagrees: value.is_none_or(|v| (v - theta).abs() > options.cross_check_tolerance),
    })
}

/// One bootstrap sample of seeds. Levels that lose all their rows drop out.
fn resample(levels: &[Level], design: SeedDesign, rng: &mut ChaCha8Rng) -> Vec<Level> {
    resample_seeds(
        levels,
        |level| &level.squares,
        |row| row.0,
        |level, squares| Level {
            x: level.x,
            squares,
        },
        design,
        rng,
    )
}
