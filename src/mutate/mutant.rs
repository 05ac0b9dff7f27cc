//! Wrong theories: the honest one with a single change, made from outside.

use recall_theory::noise::Noise;
use recall_theory::{Samples, Setting};

use crate::descent::early::NoiseParts;
use crate::experiment::{Predictor, Size, Theory, at, noise_critical, noise_of};
use crate::spec::{Criterion, Quantity, Score, SearchAxis};

/// A size of the design with its symbol and geometric mean over the design.
#[derive(Debug, Clone, Copy)]
pub struct DesignSize {
    /// Symbol.
    pub name: &'static str,
    /// Value at a setting.
    pub value: Size,
    /// Geometric mean over the finite values of the design.
    pub centre: f64,
}

impl DesignSize {
    /// Size over its centre; 1 where it is infinite, since no power of infinity is another size.
    fn relative(&self, s: &Setting) -> f64 {
        let x = (self.value)(s);
        if x.is_finite() { x / self.centre } else { 1.0 }
    }

    /// The same of its logarithm.
    fn relative_log(&self, s: &Setting) -> f64 {
        let x = (self.value)(s);
        if x.is_finite() && x > 1.0 && self.centre > 1.0 {
            x.ln() / self.centre.ln()
        } else {
            1.0
        }
    }
}

/// A change to one formula.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// None: for tests of the harness itself.
    Identity,
    /// Another constant.
    Constant(f64),
    /// Another exponent of a size; nothing changes at the centre of the design.
    Exponent {
        /// Which size.
        size: DesignSize,
        /// Added to its exponent.
        by: f64,
    },
    /// A logarithm of a size too many or too few; nothing changes at the centre of the design.
    Log {
        /// Which size.
        size: DesignSize,
        /// Whether the logarithm multiplies; it divides otherwise.
        times: bool,
    },
    /// The term is left out.
    Dropped,
}

impl Change {
    /// What the formula is multiplied by at a setting.
    #[must_use]
    pub fn factor(&self, s: &Setting) -> f64 {
        match self {
            Change::Identity => 1.0,
            Change::Constant(c) => *c,
            Change::Exponent { size, by } => size.relative(s).powf(*by),
            Change::Log { size, times: true } => size.relative_log(s),
            Change::Log { size, times: false } => 1.0 / size.relative_log(s),
            Change::Dropped => 0.0,
        }
    }

    /// Whether no such change of a formula may ever be supported.
    #[must_use]
    pub fn is_gross(&self) -> bool {
        match self {
            // A factor of 0.7 is one of 1.43 the other way.
            Change::Constant(c) => c.ln().abs() >= 1.4f64.ln() - 1e-9,
            Change::Exponent { by, .. } => by.abs() >= 0.25,
            Change::Identity | Change::Log { .. } | Change::Dropped => false,
        }
    }

    /// In words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Change::Identity => "unchanged".into(),
            Change::Constant(c) => format!("constant x {c}"),
            Change::Exponent { size, by } => format!("exponent of {} {by:+}", size.name),
            Change::Log { size, times: true } => format!("times log {}", size.name),
            Change::Log { size, times: false } => format!("over log {}", size.name),
            Change::Dropped => "dropped".into(),
        }
    }
}

/// Where a change is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Site {
    /// The critical value at a ratio of noise to signal.
    NoiseRatio,
    /// The size at which an accuracy is reached. The end-to-end accuracy changes in proportion to
    /// its parts, attention and recall.
    Accuracy(Quantity),
    /// The standard deviation of one term of the noise budget.
    Term(&'static str),
    /// The noise budget as a whole.
    Budget,
    /// An exponent of the asymptotic law that the design states.
    Asymptotic,
    /// The samples at which the bound on readers of the first gradient lets an accuracy through.
    AccuracyBound,
    /// The same for the bound behind the noisy oracle.
    OracleBound,
    /// Samples of the whitened decoder.
    Whitened,
    /// Noise over signal of the channel of step 2.
    QueryNoise,
    /// The bound on the alignment of a query.
    Alignment,
}

impl Site {
    /// Whether the claim is one-sided: a formula that errs on the safe side is not wrong.
    #[must_use]
    pub fn is_bound(self) -> bool {
        matches!(
            self,
            Site::AccuracyBound | Site::OracleBound | Site::Alignment
        )
    }
}

/// Whether an accuracy is a factor of the end-to-end accuracy.
pub(super) fn is_part(quantity: Quantity) -> bool {
    matches!(quantity, Quantity::Attention | Quantity::Recall)
}

/// The theory with one change.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// Where.
    pub site: Site,
    /// What.
    pub change: Change,
    /// The size along which an accuracy is moved.
    pub axis: SearchAxis,
}

/// Searched size of a setting; `None` where it is infinite.
fn size(s: &Setting, axis: SearchAxis) -> Option<f64> {
    Some(match axis {
        SearchAxis::Samples => match s.samples {
            Samples::Finite(n) => n as f64,
            Samples::Infinite => return None,
        },
        SearchAxis::Dim => s.dim_in.min(s.dim_out) as f64,
        SearchAxis::Width => s.model.mlp()?.width as f64,
        SearchAxis::Vocab => s.vocab as f64,
    })
}

/// Smallest size of an axis that a formula is asked at.
const SMALLEST: f64 = 2.0;

/// Size from which accuracies are tabulated; they are asked for directly below it.
fn tabulated_from(axis: SearchAxis) -> f64 {
    match axis {
        SearchAxis::Samples => 64.0,
        SearchAxis::Dim | SearchAxis::Width | SearchAxis::Vocab => 24.0,
    }
}

/// Points of the lattice on which accuracies are tabulated, each a factor `sqrt(2)` from the next:
/// mutants by the hundred ask between the same few values.
fn lattice(k: i64) -> f64 {
    (0.5 * k as f64 * std::f64::consts::LN_2).exp().round()
}

/// An accuracy at a size that need not be an integer.
///
/// Cubic interpolation of the log odds on a lattice of factor `sqrt(2)`; linear interpolation
/// between integers at small sizes.
fn accuracy_at(quantity: Quantity, s: &Setting, axis: SearchAxis, x: f64) -> f64 {
    let x = x.max(SMALLEST);
    let exact = |x: f64| Theory.accuracy(quantity, &at(s, axis, x as u64));
    if x < tabulated_from(axis) {
        let (lo, hi) = (x.floor(), x.ceil());
        if lo == hi {
            return exact(lo);
        }
        let t = (x / lo).ln() / (hi / lo).ln();
        return (1.0 - t) * exact(lo) + t * exact(hi);
    }
    let odds = |p: f64| {
        let p = p.clamp(1e-6, 1.0 - 1e-6);
        (p / (1.0 - p)).ln()
    };
    let first = (2.0 * x.log2()).floor() as i64 - 1;
    let nodes: Vec<(f64, f64)> = (first..first + 4)
        .map(|k| (lattice(k).ln(), odds(exact(lattice(k)))))
        .collect();
    let mut value = 0.0;
    for (i, (xi, yi)) in nodes.iter().enumerate() {
        let others = nodes.iter().enumerate().filter(|(j, _)| *j != i);
        let weight: f64 = others
            .map(|(_, (xj, _))| (x.ln() - xj) / (xi - xj))
            .product();
        value += weight * yi;
    }
    1.0 / (1.0 + (-value).exp())
}

impl Mutant {
    /// Accuracy when the size at which it is reached is multiplied by the change.
    fn moved(&self, quantity: Quantity, s: &Setting) -> f64 {
        let factor = self.change.factor(s);
        match size(s, self.axis) {
            Some(x) if factor != 1.0 => accuracy_at(quantity, s, self.axis, x / factor),
            _ => Theory.accuracy(quantity, s),
        }
    }

    /// Logarithm of the size at which an accuracy is reached when it is `honest` for the right
    /// formula: that of x with x = x0 f(x).
    fn moved_critical(&self, s: &Setting, honest: f64) -> f64 {
        let mut log = honest;
        for _ in 0..CONVERGED {
            log = honest + self.factor_at(s, log).ln();
        }
        log
    }

    /// The change at another size of the axis, given by its logarithm.
    fn factor_at(&self, s: &Setting, log: f64) -> f64 {
        let x = log.exp().round().clamp(SMALLEST, 1e15);
        self.change.factor(&at(s, self.axis, x as u64))
    }

    /// Logarithm of the size at which the end-to-end accuracy is reached with one of its parts
    /// changed: `honest` moved by what the change moves the crossing of the tabulated accuracies.
    fn critical_with_part(
        &self,
        part: Quantity,
        s: &Setting,
        level: f64,
        honest: f64,
    ) -> Option<f64> {
        let tabulated = |quantity, log: f64| accuracy_at(quantity, s, self.axis, log.exp());
        let whole = |log: f64| tabulated(Quantity::Accuracy, log);
        let changed = |log: f64| {
            let before = tabulated(part, log);
            let after = tabulated(part, log - self.factor_at(s, log).ln());
            (whole(log) * after / before.max(f64::MIN_POSITIVE)).min(1.0)
        };
        let sign = if self.axis.helps() { 1.0 } else { -1.0 };
        let crossing = |f: &dyn Fn(f64) -> f64| crossing(&|log| sign * (f(log) - level), honest);
        Some(honest + crossing(&changed)? - crossing(&whole)?)
    }

    /// A setting at which a bound counts the samples that the changed bound counts at `s`.
    fn counted(&self, s: &Setting) -> Setting {
        match s.samples {
            Samples::Finite(n) => {
                let n = (n as f64 / self.change.factor(s)).round().max(1.0);
                Setting {
                    samples: Samples::Finite(n as u64),
                    ..*s
                }
            }
            Samples::Infinite => *s,
        }
    }

    /// By how much the change of one term changes the variance of the noise.
    fn excess(&self, noise: &Noise, term: &str, s: &Setting) -> f64 {
        let found = noise.terms.iter().find(|t| t.0 == term);
        found.map_or(0.0, |t| (self.change.factor(s).powi(2) - 1.0) * t.1)
    }
}

/// Logarithm of noise over signal with some variance added to the noise.
fn log_ratio(noise: &Noise, added: f64) -> f64 {
    let interference = (noise.interference + added).max(f64::MIN_POSITIVE);
    0.5 * interference.ln() - noise.population_signal.ln()
}

/// Steps of a contraction by a factor of two or more.
const CONVERGED: usize = 40;

/// Where an increasing function crosses zero, within a factor of 64 of `start`; both in logarithms.
fn crossing(f: &dyn Fn(f64) -> f64, start: f64) -> Option<f64> {
    let octave = std::f64::consts::LN_2;
    let (mut low, mut high) = (start, start);
    for _ in 0..6 {
        if f(low) > 0.0 {
            low -= octave;
        }
        if f(high) < 0.0 {
            high += octave;
        }
    }
    if f(low) > 0.0 || f(high) < 0.0 {
        return None;
    }
    for _ in 0..CONVERGED {
        let middle = 0.5 * (low + high);
        if f(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(0.5 * (low + high))
}

impl Predictor for Mutant {
    fn accuracy(&self, quantity: Quantity, s: &Setting) -> f64 {
        match self.site {
            Site::Accuracy(own) if quantity == own => self.moved(quantity, s),
            Site::Accuracy(part) if quantity == Quantity::Accuracy && is_part(part) => {
                let (whole, before) = (Theory.accuracy(quantity, s), Theory.accuracy(part, s));
                if before > 0.0 {
                    (whole * self.moved(part, s) / before).min(1.0)
                } else {
                    whole
                }
            }
            _ => Theory.accuracy(quantity, s),
        }
    }

    fn score(&self, score: Score, s: &Setting) -> f64 {
        let honest = Theory.score(score, s);
        match (self.site, score) {
            (Site::Budget, Score::Spread | Score::Interference) => honest * self.change.factor(s),
            (Site::Term(term), Score::Spread | Score::Interference) => {
                if score == Score::Interference && term == "trigger" {
                    return honest;
                }
                let square = honest * honest + self.excess(&noise_of(s), term, s);
                square.max(0.0).sqrt()
            }
            // A term left out of the sum; what is said of the term itself stands.
            (Site::Term(term), own)
                if own.term().map(|i| NoiseParts::NAMES[i]) == Some(term)
                    && !matches!(self.change, Change::Dropped) =>
            {
                honest * self.change.factor(s)
            }
            _ => honest,
        }
    }

    fn critical(&self, s: &Setting, axis: SearchAxis, criterion: Criterion) -> Option<f64> {
        let honest = || Theory.critical(s, axis, criterion);
        match (self.site, criterion) {
            (Site::NoiseRatio, Criterion::NoiseRatio { .. }) => {
                Some(honest()? + self.change.factor(s).ln())
            }
            (Site::Budget, Criterion::NoiseRatio { level }) => {
                noise_critical(s, axis, level, &|s| {
                    log_ratio(&noise_of(s), 0.0) + self.change.factor(s).ln()
                })
            }
            (Site::Term(term), Criterion::NoiseRatio { level }) if term != "trigger" => {
                noise_critical(s, axis, level, &|s| {
                    let noise = noise_of(s);
                    log_ratio(&noise, self.excess(&noise, term, s))
                })
            }
            (Site::Accuracy(own), Criterion::Accuracy { quantity, .. })
                if quantity == own && axis == self.axis =>
            {
                Some(self.moved_critical(s, honest()?))
            }
            (Site::Accuracy(part), Criterion::Accuracy { quantity, level })
                if quantity == Quantity::Accuracy && is_part(part) && axis == self.axis =>
            {
                self.critical_with_part(part, s, level, honest()?)
            }
            _ => honest(),
        }
    }

    fn asymptotic(&self, name: &str, stated: f64) -> f64 {
        match (self.site, self.change) {
            (Site::Asymptotic, Change::Exponent { size, by }) if size.name == name => stated + by,
            _ => stated,
        }
    }

    fn accuracy_bound(&self, s: &Setting) -> f64 {
        match self.site {
            Site::AccuracyBound => Theory.accuracy_bound(&self.counted(s)),
            _ => Theory.accuracy_bound(s),
        }
    }

    fn oracle_bound(&self, s: &Setting, kappa: f64) -> f64 {
        match self.site {
            Site::OracleBound => Theory.oracle_bound(&self.counted(s), kappa),
            _ => Theory.oracle_bound(s, kappa),
        }
    }

    fn whitened_samples(&self, s: &Setting, level: f64) -> Option<f64> {
        let honest = Theory.whitened_samples(s, level)?;
        Some(match self.site {
            Site::Whitened => honest * self.change.factor(s),
            _ => honest,
        })
    }

    fn query_noise(&self, s: &Setting) -> Option<f64> {
        let honest = Theory.query_noise(s)?;
        Some(match self.site {
            Site::QueryNoise => honest + self.change.factor(s).ln(),
            _ => honest,
        })
    }

    fn alignment_bound(&self, s: &Setting, of_trial: f64) -> f64 {
        match self.site {
            Site::Alignment => of_trial * self.change.factor(s),
            _ => of_trial,
        }
    }
}

#[cfg(test)]
mod tests;
