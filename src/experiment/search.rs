//! Placement of trials around a critical value, as a pure function of the records at hand.
//!
//! The search starts at the theory's value, so that few trials are spent far away, but does not
//! trust it: pilot trials move the centre (by doubling, then bisection for an accuracy, along the
//! local slope for a noise ratio) until it is bracketed, and only then are the final levels placed,
//! symmetric in the logarithm. The pilots of an accuracy also say how steep its curve is, and with
//! that how far apart the levels lie. The final levels alone are fitted; the pilots only place
//! them. Why so, and what it spends: `search.md`.

use recall_theory::Setting;

use super::Records;
use super::predicted::{
    accuracy_of, at, critical, log_noise_ratio, measured, population_signal, search_range,
};
use crate::job::{Job, Record};
use crate::spec::{Criterion, Design, SearchAxis};
use crate::stats::distribution::normal_quantile;

/// Seeds of a pilot level: a quarter of those of a final level, and at least this many.
const PILOT_SEEDS: u64 = 2;
/// Largest number of pilot levels: a factor 2^8 for doublings.
const MAX_PILOTS: usize = 8;
/// Final levels of an accuracy around the centre, as shares of their half-width.
const ACCURACY_LEVELS: [f64; 5] = [-1.0, -0.5, 0.0, 0.5, 1.0];
/// Smallest and largest half-width, in log units.
const HALF_WIDTHS: (f64, f64) = (0.05, 0.9);
/// Change of accuracy from the centre to the outermost level: least, as aimed at where trials are
/// quiet, and most, to the edge of the window of the fit.
const CHANGES: (f64, f64) = (0.15, 0.3);
/// Slope of the final levels over its standard error that is aimed at.
const SLOPE_T: f64 = 7.0;
/// Scatter of trials, in normal quantiles, that stands for one more degree of freedom beside what
/// the few seeds of the pilots show.
const PRIOR_NOISE: f64 = 0.25;
/// Standard deviation of the logarithm of (true slope / the formula's) that a noisy measurement of
/// the slope is weighed against: a factor of two.
const STATED_LOG_SD: f64 = std::f64::consts::LN_2;
/// Accuracies of pilots are read as if they were no nearer than this to 0 and 1.
const SATURATED: f64 = 0.02;
/// Two pilots that differ by more normal quantiles than this (accuracies .2 and .8, the window of
/// the fit) say too little of what lies between them.
const LARGEST_RISE: f64 = 1.7;
/// Final levels of a noise ratio around the centre, in log units.
const NOISE_LEVELS: [f64; 4] = [-0.45, -0.15, 0.15, 0.45];
/// A centre that lies farther than this from the last pilot is piloted again.
const TRUST: f64 = 0.5;
/// Smallest span of levels that a move goes by.
const SHORTEST_MOVE: f64 = 0.3;
/// Times the final levels may be moved when they turn out not to bracket.
const MAX_MOVES: usize = 2;

/// Where the pilots put the final levels.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    centre: f64,
    /// Rise of the normal quantile of the accuracy along the coordinate; `None` for a noise ratio.
    slope: Option<f64>,
    /// Scatter of the trials of an accuracy, in normal quantiles.
    noise: f64,
}

/// One point of a design with its search settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchPoint {
    /// The setting; what it says of the searched quantity is overwritten.
    pub setting: Setting,
    /// What is searched.
    pub axis: SearchAxis,
    /// What defines the threshold.
    pub criterion: Criterion,
}

/// Levels at which a finished search is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchPlan {
    /// The final levels, in the order in which the criterion grows, distinct.
    pub levels: Vec<u64>,
    /// All levels tried, pilots included, in the order of trying, with their seeds.
    pub tried: Vec<(u64, u64)>,
    /// Whether the final levels bracket the target.
    pub bracketed: bool,
}

/// State of a search.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// These levels need `(value, seeds)` before the search can go on.
    Need(Vec<(u64, u64)>),
    /// Nothing more to do.
    Done(SearchPlan),
    /// No level brackets the target within the range.
    Unbracketed {
        /// All levels tried, with their seeds.
        tried: Vec<(u64, u64)>,
        /// Whether the target lies above all of them (below otherwise).
        above: bool,
    },
}

impl SearchPoint {
    /// The job of a level and seed.
    #[must_use]
    pub fn job(&self, design: &Design, value: u64, seed: u64) -> Job {
        design.job(&at(&self.setting, self.axis, value), seed)
    }

    /// Measured criterion of a trial, increasing along the axis: an accuracy, or minus the squared
    /// noise ratio.
    pub(super) fn value(&self, record: &Record) -> Option<f64> {
        match self.criterion {
            Criterion::Accuracy { quantity, .. } => measured(quantity, record),
            Criterion::NoiseRatio { .. } => {
                let l = population_signal(&self.setting);
                Some(record.outcome.interference_squared / (l * l))
            }
        }
    }

    /// Criterion of the trials of a level, or `None` if a record is missing.
    fn level(
        &self,
        design: &Design,
        records: &dyn Records,
        value: u64,
        seeds: u64,
    ) -> Option<Vec<f64>> {
        (0..seeds)
            .map(|seed| self.value(records.get(&self.job(design, value, seed))?))
            .collect()
    }

    /// How far a level's mean is past the target, increasing along the axis.
    fn excess(&self, mean: f64) -> f64 {
        match self.criterion {
            Criterion::Accuracy { level, .. } => mean - level,
            Criterion::NoiseRatio { level } => level.ln() - 0.5 * mean.ln(),
        }
    }

    /// The coordinate of the search, along which the criterion increases: the logarithm of the
    /// searched size, or minus that for a size that makes the task harder.
    pub(super) fn coordinate(&self, log_value: f64) -> f64 {
        if self.axis.helps() {
            log_value
        } else {
            -log_value
        }
    }

    /// The size at a coordinate.
    fn size(&self, x: f64) -> u64 {
        // The change of sign is its own inverse.
        self.coordinate(x).exp().round().max(1.0) as u64
    }

    fn clamp(&self, x: f64) -> f64 {
        let (lo, hi) = search_range(&self.setting, self.axis);
        let log = self.coordinate(x);
        self.coordinate(log.clamp((lo as f64).ln(), (hi as f64).ln()))
    }

    /// The formula's critical value as a coordinate, or a fallback where it has none.
    fn start(&self) -> f64 {
        critical(&self.setting, self.axis, self.criterion)
            .map_or_else(|| self.fallback_start(), |log| self.coordinate(log))
    }

    /// The state of the search given the records.
    #[must_use]
    pub fn progress(&self, design: &Design, records: &dyn Records) -> Progress {
        let start = self.start();
        let mut tried: Vec<(u64, u64)> = Vec::new();
        let mut place = match self.pilot(design, records, start, &mut tried) {
            Ok(place) => place,
            Err(stop) => return stop,
        };
        for moved in 0.. {
            let levels = self.final_levels(place, design.seeds);
            let mut excess = Vec::new();
            let mut need = Vec::new();
            for &value in &levels {
                match self.level(design, records, value, design.seeds) {
                    Some(values) => {
                        let mean = values.iter().sum::<f64>() / values.len() as f64;
                        excess.push(self.excess(mean));
                    }
                    None => need.push((value, design.seeds)),
                }
            }
            if !need.is_empty() {
                return Progress::Need(need);
            }
            tried.extend(levels.iter().map(|&v| (v, design.seeds)));
            let below = excess.iter().all(|e| *e < 0.0);
            let above = excess.iter().all(|e| *e > 0.0);
            if (!below && !above) || moved == MAX_MOVES {
                return Progress::Done(SearchPlan {
                    levels,
                    tried,
                    bracketed: !below && !above,
                });
            }
            let span = (levels[levels.len() - 1] as f64 / levels[0] as f64).ln();
            let step = 0.8 * span.abs().max(SHORTEST_MOVE);
            // Levels that missed lay too close together, too.
            place.slope = place.slope.map(|s| 0.5 * s);
            place.centre = self.clamp(if below {
                place.centre + step
            } else {
                place.centre - step
            });
        }
        Progress::Need(Vec::new())
    }

    /// Levels of a search that ends where the theory puts its threshold.
    pub(super) fn expected_levels(&self, design: &Design) -> Vec<(u64, u64)> {
        let start = self.start();
        let mut levels: Vec<(u64, u64)> = self
            .final_levels(
                Place {
                    centre: self.clamp(start),
                    slope: self.stated_slope(start),
                    noise: PRIOR_NOISE,
                },
                design.seeds,
            )
            .iter()
            .map(|&v| (v, design.seeds))
            .collect();
        levels.push((self.size(start), pilot_seeds(design)));
        levels
    }

    /// Where to start when the formula has no critical value in range.
    fn fallback_start(&self) -> f64 {
        let (lo, hi) = search_range(&self.setting, self.axis);
        let v = self.setting.vocab as f64;
        match self.axis {
            SearchAxis::Samples => self.clamp((4.0 * v).ln()),
            SearchAxis::Dim | SearchAxis::Width | SearchAxis::Vocab => {
                self.coordinate(0.5 * ((lo as f64).ln() + (hi as f64).ln()))
            }
        }
    }

    /// Moves from the theory's value to a trusted place.
    fn pilot(
        &self,
        design: &Design,
        records: &dyn Records,
        start: f64,
        tried: &mut Vec<(u64, u64)>,
    ) -> Result<Place, Progress> {
        let seeds = pilot_seeds(design);
        let mut x = self.clamp(start);
        let mut seen: Vec<Pilot> = Vec::new();
        loop {
            let value = self.size(x);
            x = self.coordinate((value as f64).ln());
            let Some(values) = self.level(design, records, value, seeds) else {
                return Err(Progress::Need(vec![(value, seeds)]));
            };
            tried.push((value, seeds));
            let pilot = Pilot::of(x, &values);
            let mean = pilot.mean;
            seen.push(pilot);
            let next = match self.criterion {
                Criterion::NoiseRatio { .. } => {
                    let excess = self.excess(mean);
                    let next = self.clamp(self.newton(x, excess));
                    if (next - x).abs() <= TRUST {
                        return Ok(Place {
                            centre: next,
                            slope: None,
                            noise: 0.0,
                        });
                    }
                    next
                }
                Criterion::Accuracy { level, .. } => {
                    let edge = |past: bool, better: fn(f64, f64) -> bool| {
                        seen.iter()
                            .filter(|p| (p.mean >= level) == past)
                            .reduce(|a, b| if better(b.x, a.x) { b } else { a })
                    };
                    match (edge(false, |a, b| a > b), edge(true, |a, b| a < b)) {
                        (Some(below), Some(above)) => {
                            let rise = above.quantile() - below.quantile();
                            let next = 0.5 * (below.x + above.x);
                            let between = self.size(next);
                            let new = seen.iter().all(|p| self.size(p.x) != between);
                            if rise <= LARGEST_RISE || !new || seen.len() == MAX_PILOTS {
                                return Ok(self.between(*below, *above, &seen, level, start));
                            }
                            next
                        }
                        (Some(below), None) => self.clamp(below.x + std::f64::consts::LN_2),
                        (None, Some(above)) => self.clamp(above.x - std::f64::consts::LN_2),
                        (None, None) => x,
                    }
                }
            };
            if seen.len() == MAX_PILOTS || self.size(next) == value {
                return Err(Progress::Unbracketed {
                    tried: tried.clone(),
                    above: seen.iter().all(|p| self.excess(p.mean) < 0.0),
                });
            }
            x = next;
        }
    }

    /// Centre and slope by two pilots, one on each side of the target.
    fn between(&self, below: Pilot, above: Pilot, seen: &[Pilot], level: f64, start: f64) -> Place {
        let stated = self.stated_slope(start);
        let noise = scatter(seen);
        let (distance, rise) = (above.x - below.x, above.quantile() - below.quantile());
        // Noise can put the pilot that is past the target first; then it measures no slope.
        if distance <= 0.0 || rise <= 0.0 {
            return Place {
                centre: 0.5 * (below.x + above.x),
                slope: stated,
                noise,
            };
        }
        let share = (quantile(level) - below.quantile()) / rise;
        let measured = rise / distance;
        let slope = match stated {
            None => measured,
            // Saturated pilots bound the slope from below only.
            Some(stated) if below.saturated() || above.saturated() => stated.max(measured),
            Some(stated) => {
                // Logarithms weighed by their precision.
                let error = noise * (1.0 / below.seeds + 1.0 / above.seeds).sqrt() / rise;
                let weight = STATED_LOG_SD.powi(2) / (STATED_LOG_SD.powi(2) + error.powi(2));
                (weight * measured.ln() + (1.0 - weight) * stated.ln()).exp()
            }
        };
        Place {
            centre: below.x + share.clamp(0.0, 1.0) * distance,
            slope: Some(slope),
            noise,
        }
    }

    /// Where the noise ratio should reach its target, along the formula's local slope.
    fn newton(&self, x: f64, excess: f64) -> f64 {
        let step = 0.1;
        let ratio = |x: f64| log_noise_ratio(&at(&self.setting, self.axis, self.size(x)));
        let slope = ((ratio(x + step) - ratio(x - step)) / (2.0 * step)).clamp(-2.0, -0.25);
        if slope.is_nan() {
            x
        } else {
            x - excess / -slope
        }
    }

    /// Slope of the formula's accuracy, as a normal quantile, about its own critical value.
    fn stated_slope(&self, start: f64) -> Option<f64> {
        let Criterion::Accuracy { quantity, .. } = self.criterion else {
            return None;
        };
        let at = |x: f64| {
            let size = self.size(self.clamp(x));
            let accuracy = accuracy_of(quantity, &at(&self.setting, self.axis, size));
            (self.coordinate((size as f64).ln()), quantile(accuracy))
        };
        let (a, b) = (at(start - 0.15), at(start + 0.15));
        let slope = (b.1 - a.1) / (b.0 - a.0);
        (slope.is_finite() && slope > 0.0).then_some(slope)
    }

    /// Half-width of the final levels of an accuracy: farther apart where trials scatter, but with
    /// a whole number between any two levels.
    fn half_width(&self, level: f64, place: Place, seeds: u64) -> f64 {
        let rise = |change: f64| 0.5 * (quantile(level + change) - quantile(level - change));
        // The squared offsets of the levels add up to 2.5 squared half-widths.
        let resolved = SLOPE_T * place.noise / (2.5 * seeds as f64).sqrt();
        let rise = rise(CHANGES.0)
            .max(place.noise)
            .max(resolved)
            .min(rise(CHANGES.1));
        let (lo, hi) = HALF_WIDTHS;
        let half = place.slope.map_or(hi, |s| rise / s);
        let step = 1.0 / self.size(place.centre) as f64;
        half.clamp(lo, hi).max(2.0 * step)
    }

    fn final_levels(&self, place: Place, seeds: u64) -> Vec<u64> {
        let (offsets, unit): (&[f64], f64) = match self.criterion {
            Criterion::Accuracy { level, .. } => {
                (&ACCURACY_LEVELS, self.half_width(level, place, seeds))
            }
            Criterion::NoiseRatio { .. } => (&NOISE_LEVELS, 1.0),
        };
        let mut levels: Vec<u64> = offsets
            .iter()
            .map(|o| self.size(self.clamp(place.centre + o * unit)))
            .collect();
        levels.dedup();
        levels
    }
}

/// A pilot level.
#[derive(Debug, Clone, Copy)]
struct Pilot {
    /// Coordinate.
    x: f64,
    /// Mean of the criterion.
    mean: f64,
    /// Sum of the squared deviations of the seeds' normal quantiles from their mean.
    squares: f64,
    seeds: f64,
}

impl Pilot {
    fn of(x: f64, values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = |f: fn(f64) -> f64| values.iter().map(|v| f(*v)).sum::<f64>() / n;
        let centre = mean(quantile);
        Self {
            x,
            mean: mean(|v| v),
            squares: values.iter().map(|v| (quantile(*v) - centre).powi(2)).sum(),
            seeds: n,
        }
    }

    fn quantile(&self) -> f64 {
        quantile(self.mean)
    }

    fn saturated(&self) -> bool {
        !(SATURATED..=1.0 - SATURATED).contains(&self.mean)
    }
}

fn pilot_seeds(design: &Design) -> u64 {
    PILOT_SEEDS.max(design.seeds / 4)
}

/// Scatter of trials in normal quantiles, by pilots of two or more seeds each.
fn scatter(seen: &[Pilot]) -> f64 {
    let df: f64 = seen.iter().map(|p| p.seeds - 1.0).sum();
    let squares: f64 = seen.iter().map(|p| p.squares).sum();
    ((squares + PRIOR_NOISE.powi(2)) / (df + 1.0)).sqrt()
}

/// Normal quantile of an accuracy, kept finite.
fn quantile(accuracy: f64) -> f64 {
    normal_quantile(accuracy.clamp(SATURATED, 1.0 - SATURATED))
}

#[cfg(test)]
mod tests;
