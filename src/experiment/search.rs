//! Placement of trials around a critical value, as a pure function of the records at hand.
//!
//! The search starts at the theory's value, so that few trials are spent far away, but does not
//! trust it: pilot trials move the centre (by doubling for an accuracy, along the local slope for
//! a noise ratio) until it is bracketed, and only then are the final levels placed, symmetric in
//! the logarithm. The final levels alone are fitted; the pilots only place them.

use recall_theory::Setting;

use super::Records;
use super::predicted::{
    accuracy_of, at, critical, log_noise_ratio, measured, population_signal, search_range,
};
use crate::job::{Job, Record};
use crate::spec::{Criterion, Design, Quantity, SearchAxis};

/// Seeds of a pilot level.
const PILOT_SEEDS: u64 = 2;
/// Largest number of pilot levels: a factor 2^8 for doublings.
const MAX_PILOTS: usize = 8;
/// Final levels around the centre, in log units; those of an accuracy are spread further where its
/// curve is flat.
const ACCURACY_LEVELS: [f64; 5] = [-0.3, -0.15, 0.0, 0.15, 0.3];
/// Largest factor by which they are spread.
const MAX_SPREAD: f64 = 3.0;
/// Change of accuracy from the centre to the outermost level that is aimed at.
const AIM: f64 = 0.2;
const NOISE_LEVELS: [f64; 4] = [-0.45, -0.15, 0.15, 0.45];
/// A centre that lies farther than this from the last pilot is piloted again.
const TRUST: f64 = 0.5;
/// Times the final levels may be moved when they turn out not to bracket.
const MAX_MOVES: usize = 2;

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

    /// Mean criterion of a level over its seeds, or `None` if a record is missing.
    fn level_mean(
        &self,
        design: &Design,
        records: &dyn Records,
        value: u64,
        seeds: u64,
    ) -> Option<f64> {
        let mut sum = 0.0;
        for seed in 0..seeds {
            sum += self.value(records.get(&self.job(design, value, seed))?)?;
        }
        Some(sum / seeds as f64)
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
        let mut centre = match self.pilot(design, records, start, &mut tried) {
            Ok(centre) => centre,
            Err(stop) => return stop,
        };
        for moved in 0.. {
            let levels = self.final_levels(centre);
            let mut excess = Vec::new();
            let mut need = Vec::new();
            for &value in &levels {
                match self.level_mean(design, records, value, design.seeds) {
                    Some(mean) => excess.push(self.excess(mean)),
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
            let half = 0.8
                * (levels[levels.len() - 1] as f64 / levels[0] as f64)
                    .ln()
                    .abs()
                    .max(0.3);
            centre = self.clamp(if below { centre + half } else { centre - half });
        }
        Progress::Need(Vec::new())
    }

    /// Levels of a search that ends where the theory puts its threshold.
    pub(super) fn expected_levels(&self, design: &Design) -> Vec<(u64, u64)> {
        let start = self.start();
        let mut levels: Vec<(u64, u64)> = self
            .final_levels(self.clamp(start))
            .iter()
            .map(|&v| (v, design.seeds))
            .collect();
        levels.push((self.size(start), PILOT_SEEDS));
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

    /// Moves from the theory's value to a trusted centre.
    fn pilot(
        &self,
        design: &Design,
        records: &dyn Records,
        start: f64,
        tried: &mut Vec<(u64, u64)>,
    ) -> Result<f64, Progress> {
        let mut x = self.clamp(start);
        // (log value, excess) of pilots, to bracket by.
        let mut seen: Vec<(f64, f64)> = Vec::new();
        loop {
            let value = self.size(x);
            x = self.coordinate((value as f64).ln());
            let Some(mean) = self.level_mean(design, records, value, PILOT_SEEDS) else {
                return Err(Progress::Need(vec![(value, PILOT_SEEDS)]));
            };
            tried.push((value, PILOT_SEEDS));
            seen.push((x, self.excess(mean)));
            let below = seen
                .iter()
                .filter(|p| p.1 < 0.0)
                .map(|p| p.0)
                .fold(f64::NAN, f64::max);
            let above = seen
                .iter()
                .filter(|p| p.1 >= 0.0)
                .map(|p| p.0)
                .fold(f64::NAN, f64::min);
            let next = match self.criterion {
                Criterion::NoiseRatio { .. } => self.newton(x, seen[seen.len() - 1].1),
                Criterion::Accuracy { .. } => {
                    if below.is_nan() {
                        above - std::f64::consts::LN_2
                    } else if above.is_nan() {
                        below + std::f64::consts::LN_2
                    } else if (above - below).abs() <= 2.0 * std::f64::consts::LN_2 {
                        return Ok(interpolate(&seen, below, above));
                    } else {
                        0.5 * (above + below)
                    }
                }
            };
            let next = self.clamp(next);
            let trusted =
                matches!(self.criterion, Criterion::NoiseRatio { .. }) && (next - x).abs() <= TRUST;
            if trusted {
                return Ok(next);
            }
            if seen.len() == MAX_PILOTS || self.size(next) == value {
                return Err(Progress::Unbracketed {
                    tried: tried.clone(),
                    above: above.is_nan(),
                });
            }
            x = next;
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

    /// How far the levels of an accuracy are spread: so far that by the formula's slope at the
    /// centre they see a change that trials can resolve.
    fn spread(&self, quantity: Quantity, centre: f64) -> f64 {
        let half = ACCURACY_LEVELS[ACCURACY_LEVELS.len() - 1];
        let accuracy = |x: f64| {
            let size = self.size(self.clamp(x));
            accuracy_of(quantity, &at(&self.setting, self.axis, size))
        };
        let change = 0.5 * (accuracy(centre + half) - accuracy(centre - half));
        (AIM / change.max(1e-3)).clamp(1.0, MAX_SPREAD)
    }

    fn final_levels(&self, centre: f64) -> Vec<u64> {
        let (offsets, spread): (&[f64], f64) = match self.criterion {
            Criterion::Accuracy { quantity, .. } => {
                (&ACCURACY_LEVELS, self.spread(quantity, centre))
            }
            Criterion::NoiseRatio { .. } => (&NOISE_LEVELS, 1.0),
        };
        let mut levels: Vec<u64> = offsets
            .iter()
            .map(|o| self.size(self.clamp(centre + o * spread)))
            .collect();
        levels.dedup();
        levels
    }
}

/// Linear interpolation of the excess between the bracketing pilots.
fn interpolate(seen: &[(f64, f64)], below: f64, above: f64) -> f64 {
    let at = |x: f64| seen.iter().rfind(|p| p.0 == x).map_or(0.0, |p| p.1);
    let (a, b) = (at(below), at(above));
    let t = if b > a { -a / (b - a) } else { 0.5 };
    below + t.clamp(0.0, 1.0) * (above - below)
}

#[cfg(test)]
mod tests;
