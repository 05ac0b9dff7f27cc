//! Where accuracies cross a level: critical samples, dimension and length, and capacity, at
//! finite size and as asymptotic laws; noise ratios and their slopes. Derivation:
//! `thresholds.md`.

use serde::{Deserialize, Serialize};

use crate::accuracy::{attention_accuracy, end_to_end_accuracy};
use crate::gauss;
use crate::labels::LabelMoments;
use crate::mlp::thresholds as mlp_thresholds;
use crate::noise::Noise;
use crate::quadrature::HERMITE_7;
use crate::recall::{recall_accuracy, recall_given};
use crate::setting::{Embedding, Labels, Model, Samples, Setting};

/// Largest sample size searched, `2^40`.
pub const MAX_SAMPLES: u64 = 1 << 40;
/// Largest dimension searched, `2^20`.
pub const MAX_DIM: u64 = 1 << 20;
/// Largest hidden width that searches try.
pub const MAX_WIDTH: u64 = 1 << 20;
/// Largest length searched, `2^20`.
pub const MAX_LEN: u64 = 1 << 20;
/// Largest vocabulary searched, `2^24`.
pub const MAX_VOCAB: u64 = 1 << 24;
/// Most samples per token at which the end-to-end formula is evaluated in a search; beyond, the
/// product of attention and recall stands in where attention fails less than once in a hundred.
pub const MAX_PER_CLASS: u64 = 1 << 8;

/// Which accuracy a threshold is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// The informative position is attended.
    Attention,
    /// The label is recalled, given attention.
    Recall,
    /// Both.
    EndToEnd,
}

impl Quantity {
    /// All three.
    pub const ALL: [Quantity; 3] = [Quantity::Attention, Quantity::Recall, Quantity::EndToEnd];
}

/// The size that is varied; the others are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variable {
    /// Sample size `N`: the least that reaches the level.
    Samples,
    /// Common dimension `d` of the tables that are not orthonormal: the least.
    Dim,
    /// Sequence length `L`: the largest that keeps the level.
    Len,
    /// Vocabulary `V`: the largest that keeps the level; orthonormal tables grow along.
    Vocab,
    /// Hidden width `m` of a setting with an MLP: the least.
    Width,
}

impl Variable {
    /// Those that every setting has.
    pub const ALL: [Variable; 4] = [
        Variable::Samples,
        Variable::Dim,
        Variable::Len,
        Variable::Vocab,
    ];

    /// Whether accuracies grow with the variable (apart from the dips that the note names).
    #[must_use]
    pub fn helps(self) -> bool {
        matches!(self, Variable::Samples | Variable::Dim | Variable::Width)
    }

    /// Range searched.
    #[must_use]
    pub fn range(self) -> (u64, u64) {
        match self {
            Variable::Samples => (1, MAX_SAMPLES),
            Variable::Dim => (1, MAX_DIM),
            Variable::Len => (2, MAX_LEN),
            Variable::Vocab => (2, MAX_VOCAB),
            Variable::Width => (1, MAX_WIDTH),
        }
    }

    /// The setting with this size replaced.
    #[must_use]
    pub fn set(self, s: &Setting, value: u64) -> Setting {
        let mut t = *s;
        match self {
            Variable::Samples => t.samples = Samples::Finite(value),
            Variable::Len => t.len = value as usize,
            Variable::Width => {
                if let Model::Mlp(mlp) = &mut t.model {
                    mlp.width = value as usize;
                }
            }
            Variable::Dim => {
                if t.input != Embedding::Orthonormal {
                    t.dim_in = value as usize;
                }
                if t.output != Embedding::Orthonormal {
                    t.dim_out = value as usize;
                }
            }
            Variable::Vocab => {
                t.vocab = value as usize;
                t = t.with_embeddings(t.input, t.output);
            }
        }
        t
    }
}

/// A threshold, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Threshold {
    /// The level is crossed here.
    At {
        /// A real number: interpolated between integers.
        value: f64,
        /// Id of the formula in [`crate::registry`].
        formula: String,
    },
    /// There is no crossing, or no law.
    Unreachable {
        /// Why, in words.
        reason: String,
    },
}

impl Threshold {
    /// The value where there is one.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        match self {
            Threshold::At { value, .. } => Some(*value),
            Threshold::Unreachable { .. } => None,
        }
    }

    fn at(value: f64, formula: &str) -> Self {
        Threshold::At {
            value,
            formula: formula.to_owned(),
        }
    }

    fn none(reason: impl Into<String>) -> Self {
        Threshold::Unreachable {
            reason: reason.into(),
        }
    }
}

const BAD_LEVEL: &str = "the level must lie strictly between 0 and 1";
const NO_WIDTH: &str = "there is no hidden layer whose width could vary";
const NO_FREE_DIM: &str = "both tables are orthonormal: no dimension is free";
const NOT_STATED: &str = "the asymptotic law is stated for random embeddings only";
const NOT_STATED_TRIGGER: &str = "the asymptotic law is stated without the trigger in the values";

fn bad_level(level: f64) -> bool {
    !(level > 0.0 && level < 1.0)
}

// ---------------------------------------------------------------- asymptotic laws

/// What limits accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Regime {
    /// Tokens that no sample has as its informative one: `N > V log(1/(1-p))`.
    Coverage,
    /// Crosstalk of the stored facts: `d^2 > 2 V log V (1 + V/N)`.
    Memory,
    /// Sequence noise of the gradient in both steps: `N d^{3/2} > L V sqrt(2 log L)`.
    GradientNoise,
    /// Label imbalance times sequence noise: `N d^2 > L^{3/2} V sqrt(2 log L)`.
    Cross,
    /// Label imbalance times the mean embedding: `N d^{3/2} > L^2 sqrt(V) sqrt(2 log L)`.
    MeanBias,
    /// Tokens that resemble the trigger: `d > 2 log L`.
    Trigger,
}

impl Regime {
    /// All six.
    pub const ALL: [Regime; 6] = [
        Regime::Coverage,
        Regime::Memory,
        Regime::GradientNoise,
        Regime::Cross,
        Regime::MeanBias,
        Regime::Trigger,
    ];

    /// Formula id of the law that binds here.
    #[must_use]
    pub fn formula(self) -> &'static str {
        match self {
            Regime::Coverage => "thresholds.coverage",
            Regime::Memory => "thresholds.memory",
            Regime::GradientNoise => "thresholds.gradient_noise",
            Regime::Cross => "thresholds.cross",
            Regime::MeanBias => "thresholds.mean_bias",
            Regime::Trigger => "thresholds.trigger",
        }
    }

    fn is_recall(self) -> bool {
        matches!(self, Regime::Coverage | Regime::Memory)
    }
}

/// Real sizes, so that laws can be inverted.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    v: f64,
    len: f64,
    d_in: f64,
    d_out: f64,
}

impl Sizes {
    fn of(s: &Setting) -> Self {
        Sizes {
            v: s.vocab as f64,
            len: s.len as f64,
            d_in: s.dim_in as f64,
            d_out: s.dim_out as f64,
        }
    }

    fn with(mut self, s: &Setting, variable: Variable, x: f64) -> Self {
        match variable {
            Variable::Samples | Variable::Width => {}
            Variable::Len => self.len = x,
            Variable::Vocab => {
                self.v = x;
                if s.input == Embedding::Orthonormal {
                    self.d_in = x;
                }
                if s.output == Embedding::Orthonormal {
                    self.d_out = x;
                }
            }
            Variable::Dim => {
                if s.input != Embedding::Orthonormal {
                    self.d_in = x;
                }
                if s.output != Embedding::Orthonormal {
                    self.d_out = x;
                }
            }
        }
        self
    }
}

/// Samples that a constraint asks for; `+inf` where no number suffices, zero where it does not
/// bind (note, eqs. 4 to 9).
fn requirement(regime: Regime, s: &Setting, z: Sizes, level: f64) -> f64 {
    let Sizes {
        v,
        len,
        d_in,
        d_out,
    } = z;
    let r = (2.0 * len.ln()).sqrt();
    let balanced = s.labels == Labels::Balanced;
    // E tr of the squared output covariance: 1/d for random rows, 1/V for orthonormal ones.
    let s2 = 1.0
        / if s.output == Embedding::Orthonormal {
            v
        } else {
            d_out
        };
    match regime {
        Regime::Coverage if balanced => level * v,
        Regime::Coverage => -v * (-level).ln_1p(),
        Regime::Memory => {
            let room = d_in * d_out / (2.0 * v * v.ln());
            if room <= 1.0 {
                f64::INFINITY
            } else if balanced {
                v / room
            } else {
                v / (room - 1.0)
            }
        }
        Regime::GradientNoise => {
            // A sample's own sequence noise meets itself through the norms of the input rows,
            // which is as large as the rest where the outputs are orthonormal.
            let own = match (s.output, s.input) {
                (Embedding::Orthonormal, Embedding::Gaussian) => 3f64.sqrt(),
                _ => 1.0,
            };
            own * r * len * v * s2.sqrt() / d_in
        }
        Regime::Cross if balanced => 0.0,
        Regime::Cross => r * len.powf(1.5) * v * s2.sqrt() / d_in.powf(1.5),
        Regime::MeanBias if balanced => 0.0,
        Regime::MeanBias => r * len * len * v.sqrt() / d_in.powf(1.5),
        Regime::Trigger => {
            if d_in < 2.0 * len.ln() {
                f64::INFINITY
            } else {
                0.0
            }
        }
    }
}

/// Whether the law of a constraint is stated for these tables.
fn stated(regime: Regime, s: &Setting) -> bool {
    let input = s.input != Embedding::Orthonormal;
    match regime {
        Regime::Coverage => true,
        Regime::Memory => input && s.output != Embedding::Orthonormal,
        _ => input,
    }
}

fn constraints(quantity: Quantity) -> impl Iterator<Item = Regime> {
    Regime::ALL.into_iter().filter(move |r| match quantity {
        Quantity::Attention => !r.is_recall(),
        Quantity::Recall => r.is_recall(),
        Quantity::EndToEnd => true,
    })
}

/// The constraint that asks for the most samples, and how many.
fn strictest(
    quantity: Quantity,
    s: &Setting,
    z: Sizes,
    level: f64,
    only_stated: bool,
) -> (Regime, f64) {
    let mut best = (Regime::Coverage, -1.0);
    for regime in constraints(quantity) {
        if only_stated && !stated(regime, s) {
            continue;
        }
        let n = requirement(regime, s, z, level);
        if n > best.1 {
            best = (regime, n);
        }
    }
    best
}

/// The constraint that binds at the sizes of the setting (level 1/2): of the asymptotic laws, the
/// one that asks for the most samples; unreachable ones come first, memory before trigger. Laws
/// that are not stated for the tables of the setting are left out; the trigger in the values is
/// ignored. It does not depend on `samples`.
///
/// Boundaries are those of leading-order laws: at finite size they are crossovers. Where the
/// memory law is met, iid labels leave no room for `GradientNoise` or `Cross` (note, section 2):
/// see [`regime_of`] for attention alone.
#[must_use]
pub fn regime(s: &Setting) -> Regime {
    regime_of(s, Quantity::EndToEnd)
}

/// As [`regime`], among the constraints of one accuracy.
#[must_use]
pub fn regime_of(s: &Setting, quantity: Quantity) -> Regime {
    if let Model::Mlp(mlp) = &s.model {
        return mlp_thresholds::regime(s, mlp, quantity);
    }
    strictest(quantity, s, Sizes::of(s), 0.5, true).0
}

/// Samples that the asymptotic law of one constraint asks for; `None` where no number suffices
/// or the law is not stated for the tables of the setting.
#[must_use]
pub fn required_samples(s: &Setting, regime: Regime, level: f64) -> Option<f64> {
    if s.model.mlp().is_some() {
        return None; // stated for the attention-only model
    }
    let n = requirement(regime, s, Sizes::of(s), level);
    (stated(regime, s) && n.is_finite()).then_some(n)
}

fn why_not(regime: Regime) -> &'static str {
    match regime {
        Regime::Trigger => "d < 2 log L: tokens that resemble the trigger outscore it at any N",
        Regime::Memory => "d_in d_out < 2 V log V: the stored facts drown each other at any N",
        _ => "the law asks for more than the range searched",
    }
}

/// Asymptotic threshold (note, section 2): inverse of the largest of the laws of the constraints
/// of `quantity`. For random input embeddings; [`Quantity::Recall`] and [`Quantity::EndToEnd`]
/// need random outputs too.
#[must_use]
pub fn asymptotic(s: &Setting, quantity: Quantity, variable: Variable, level: f64) -> Threshold {
    if bad_level(level) {
        return Threshold::none(BAD_LEVEL);
    }
    if let Model::Mlp(mlp) = &s.model {
        return mlp_thresholds::law(s, mlp, quantity, variable, level);
    }
    if s.trigger_in_values {
        return Threshold::none(NOT_STATED_TRIGGER);
    }
    if variable == Variable::Width {
        return Threshold::none(NO_WIDTH);
    }
    if !constraints(quantity).all(|r| stated(r, s)) {
        return Threshold::none(NOT_STATED);
    }
    invert(s, quantity, variable, level)
}

/// As [`asymptotic`], also where the law is not stated: a starting point of searches.
fn invert(s: &Setting, quantity: Quantity, variable: Variable, level: f64) -> Threshold {
    let sizes = Sizes::of(s);
    let worst = |x: f64| strictest(quantity, s, sizes.with(s, variable, x), level, false);
    if variable == Variable::Samples {
        let (regime, n) = worst(0.0);
        return if n.is_finite() {
            Threshold::at(n.max(1.0), regime.formula())
        } else {
            Threshold::none(why_not(regime))
        };
    }
    if quantity == Quantity::Recall && variable == Variable::Len {
        return Threshold::none("recall does not depend on the length");
    }
    if variable == Variable::Width && s.model.mlp().is_none() {
        return Threshold::none(NO_WIDTH);
    }
    if variable == Variable::Dim
        && s.input == Embedding::Orthonormal
        && s.output == Embedding::Orthonormal
    {
        return Threshold::none(NO_FREE_DIM);
    }
    let n = s.samples.as_f64();
    let (lo, hi) = variable.range();
    let (lo, hi) = ((lo as f64).ln(), (hi as f64).ln());
    // Slack, so that an unreachable constraint has a definite sign.
    let slack = |log_x: f64| {
        let need = worst(log_x.exp()).1;
        if need <= n && need.is_finite() {
            1.0
        } else {
            -1.0
        }
    };
    let helps = variable.helps();
    let (easy, hard) = if helps { (hi, lo) } else { (lo, hi) };
    if slack(easy) < 0.0 {
        return Threshold::none(format!(
            "{} (at any value of the variable)",
            match worst(easy.exp()).0 {
                Regime::Coverage => "too few samples to cover the vocabulary",
                r if worst(easy.exp()).1.is_infinite() => why_not(r),
                _ => "too few samples",
            }
        ));
    }
    if slack(hard) > 0.0 {
        return Threshold::none("the law is met in the whole range searched");
    }
    let root = if helps {
        gauss::bisect(lo, hi, slack)
    } else {
        gauss::bisect(lo, hi, |x| -slack(x))
    };
    let beyond = if helps { root - 1e-9 } else { root + 1e-9 };
    Threshold::at(root.exp(), worst(beyond.exp()).0.formula())
}

// ---------------------------------------------------------------- finite size

/// Samples per token above which the Poisson sum of the recall accuracy is a Gaussian quadrature.
const DENSE: u64 = 2048;

/// [`recall_accuracy`] at any sample size: where a class has thousands of samples its relative
/// weight is one plus Gaussian noise, integrated by a few nodes.
fn recall_at(s: &Setting) -> f64 {
    if s.model.mlp().is_some() {
        return recall_accuracy(s);
    }
    let Samples::Finite(n) = s.samples else {
        return recall_accuracy(s);
    };
    let v = s.vocab as f64;
    if n / s.vocab as u64 <= DENSE {
        return recall_accuracy(s);
    }
    let sd = match s.labels {
        Labels::Iid => (v / n as f64).sqrt(),
        Labels::Balanced => 0.0,
    };
    let weights: Vec<(f64, f64)> = HERMITE_7.iter().map(|(x, w)| (1.0 + sd * x, *w)).collect();
    let load = LabelMoments::of(s).square;
    weights
        .iter()
        .map(|&(kappa, p)| p * recall_given(s, kappa, load, &weights, 0.0))
        .sum()
}

/// Attention so sure that it changes the end-to-end accuracy by less than a millionth.
const SURE: f64 = 1.0 - 1e-7;
/// Attention so sure that, with many samples per token, accuracies multiply.
const NEARLY_SURE: f64 = 0.99;

/// The accuracy, or `None` beyond [`MAX_PER_CLASS`] where it would take too long.
fn accuracy_at(s: &Setting, quantity: Quantity) -> Option<f64> {
    match quantity {
        Quantity::Attention => Some(attention_accuracy(s)),
        Quantity::Recall => Some(recall_at(s)),
        Quantity::EndToEnd => {
            let dense =
                matches!(s.samples, Samples::Finite(n) if n / s.vocab as u64 > MAX_PER_CLASS);
            if s.attention == crate::setting::Attention::Argmax {
                let hit = attention_accuracy(s);
                if hit > SURE || (dense && hit > NEARLY_SURE) {
                    return Some(hit * recall_at(s));
                }
            }
            (!dense).then(|| end_to_end_accuracy(s))
        }
    }
}

/// Formula id of the finite-size accuracy.
#[must_use]
pub fn accuracy_formula(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Attention => "attention.accuracy",
        Quantity::Recall => "recall.accuracy",
        Quantity::EndToEnd => "accuracy.end_to_end",
    }
}

/// Where the finite-size accuracy crosses `level` (note, section 1), at the setting's other sizes.
///
/// The crossing next to the asymptotic law is returned: the search walks from there by factors
/// to the side on which the level is crossed and closes in on neighbouring integers, between
/// which it interpolates. Accuracies that are not monotone (balanced labels below `N = V`, tables
/// of fewer tokens than dimensions) may cross the level elsewhere too.
#[must_use]
pub fn finite_size(s: &Setting, quantity: Quantity, variable: Variable, level: f64) -> Threshold {
    if let Some(none) = excluded(s, quantity, variable, level) {
        return none;
    }
    if quantity == Quantity::EndToEnd {
        let [_, _, accuracy] = finite_sizes(s, variable, level);
        return accuracy;
    }
    let (lo, hi) = variable.range();
    let seed = match &s.model {
        Model::Mlp(mlp) => mlp_thresholds::law(s, mlp, quantity, variable, level),
        Model::AttentionOnly => invert(s, quantity, variable, level),
    };
    let seed = seed
        .value()
        .unwrap_or(match variable {
            Variable::Samples | Variable::Dim | Variable::Width => s.vocab as f64,
            Variable::Len => 16.0,
            Variable::Vocab => 1024.0,
        })
        .clamp(lo as f64, hi as f64);
    let f = |x: u64| accuracy_at(&variable.set(s, x), quantity);
    search(variable, level, seed, 2.0, accuracy_formula(quantity), f)
}

/// Why a threshold is not to be searched for, if it is not.
fn excluded(s: &Setting, quantity: Quantity, variable: Variable, level: f64) -> Option<Threshold> {
    let free = s.input != Embedding::Orthonormal || s.output != Embedding::Orthonormal;
    let why = if bad_level(level) {
        BAD_LEVEL
    } else if quantity == Quantity::Recall && variable == Variable::Len {
        "recall does not depend on the length"
    } else if variable == Variable::Width && s.model.mlp().is_none() {
        NO_WIDTH
    } else if variable == Variable::Dim && !free {
        NO_FREE_DIM
    } else {
        return None;
    };
    Some(Threshold::none(why))
}

/// [`finite_size`] of attention, recall and the end-to-end accuracy, whose search starts from the
/// other two: for less than the three one by one.
#[must_use]
pub fn finite_sizes(s: &Setting, variable: Variable, level: f64) -> [Threshold; 3] {
    let [attention, recall] =
        [Quantity::Attention, Quantity::Recall].map(|part| finite_size(s, part, variable, level));
    let accuracy = match excluded(s, Quantity::EndToEnd, variable, level) {
        Some(none) => none,
        None => end_to_end(s, variable, level, &[attention.clone(), recall.clone()]),
    };
    [attention, recall, accuracy]
}

/// End-to-end accuracy is below those of attention and recall, so the search starts from the
/// stricter of their thresholds.
fn end_to_end(s: &Setting, variable: Variable, level: f64, parts: &[Threshold; 2]) -> Threshold {
    let seeds: Vec<f64> = parts.iter().filter_map(Threshold::value).collect();
    // A part that is met everywhere, or does not depend on the variable, has no seed.
    let seed = if variable.helps() {
        seeds.iter().copied().fold(f64::NAN, f64::max)
    } else {
        seeds.iter().copied().fold(f64::NAN, f64::min)
    };
    if seed.is_nan() {
        for part in parts {
            if let Threshold::Unreachable { reason } = part
                && !reason.contains("does not depend")
            {
                return part.clone();
            }
        }
        return Threshold::none("neither attention nor recall crosses the level");
    }
    if variable == Variable::Len && recall_at(s) < level {
        return Threshold::none("recall is below the level at any length");
    }
    if variable == Variable::Samples
        && s.attention == crate::setting::Attention::Argmax
        && s.model.mlp().is_none()
    {
        let top = end_to_end_accuracy(&Setting {
            samples: Samples::Infinite,
            ..*s
        });
        if top < level {
            return Threshold::none(format!("the population limit reaches {top:.4} only"));
        }
    }
    let f = |x: u64| accuracy_at(&variable.set(s, x), Quantity::EndToEnd);
    search(
        variable,
        level,
        seed,
        1.3,
        accuracy_formula(Quantity::EndToEnd),
        f,
    )
}

/// Log odds, cut off.
fn logit(p: f64) -> f64 {
    let p = p.clamp(1e-15, 1.0 - 1e-15);
    (p / (1.0 - p)).ln()
}

/// A crossing of `level` near `seed`: walk by growing factors, then false position safeguarded by
/// bisection, in the log of the variable and the log odds of the accuracy.
fn search(
    variable: Variable,
    level: f64,
    seed: f64,
    step: f64,
    formula: &str,
    f: impl Fn(u64) -> Option<f64>,
) -> Threshold {
    let (least, most) = variable.range();
    let sign = if variable.helps() { 1.0 } else { -1.0 };
    let dense = || {
        Threshold::none(format!(
            "the search would need more than {MAX_PER_CLASS} samples per token, where the \
             end-to-end formula takes too long"
        ))
    };
    // Increasing in x where the accuracy behaves as the variable says.
    let g = |x: u64| f(x).map(|p| sign * (logit(p) - logit(level)));
    let mut x = (seed.round() as u64).clamp(least, most);
    let Some(mut gx) = g(x) else {
        return dense();
    };
    let upward = gx < 0.0;
    let mut factor = step;
    let (mut a, mut ga, mut b, mut gb) = loop {
        let next = if upward {
            ((x as f64 * factor).ceil() as u64).min(most)
        } else {
            ((x as f64 / factor).floor() as u64).max(least)
        };
        if next == x {
            return Threshold::none(match (upward, variable.helps()) {
                (true, true) => format!("the level is not reached up to {most}"),
                (false, false) => format!("the level is not reached down to {least}"),
                (true, false) => format!("the level is kept up to {most}"),
                (false, true) => format!("the level is reached at {least} already"),
            });
        }
        let Some(gn) = g(next) else {
            return dense();
        };
        if (gn < 0.0) != upward {
            break if upward {
                (x, gx, next, gn)
            } else {
                (next, gn, x, gx)
            };
        }
        (x, gx) = (next, gn);
        factor = (factor * factor).min(2.0);
    };
    let mut halve = false;
    while b - a > 1 && (b as f64 / a as f64).ln() > 2e-3 {
        let (la, lb) = ((a as f64).ln(), (b as f64).ln());
        let t = if halve {
            0.5
        } else {
            (ga / (ga - gb)).clamp(0.02, 0.98)
        };
        let mid = ((la + t * (lb - la)).exp().round() as u64).clamp(a + 1, b - 1);
        let Some(gm) = g(mid) else {
            return dense();
        };
        if gm.abs() < 3e-5 {
            return Threshold::at(mid as f64, formula);
        }
        let width = lb - la;
        if gm < 0.0 {
            (a, ga) = (mid, gm);
        } else {
            (b, gb) = (mid, gm);
        }
        halve = (b as f64 / a as f64).ln() > 0.5 * width;
    }
    let (la, lb) = ((a as f64).ln(), (b as f64).ln());
    Threshold::at((la + ga / (ga - gb) * (lb - la)).exp(), formula)
}

// ---------------------------------------------------------------- noise ratios

/// What the noise of the attention step is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseCriterion {
    /// [`noise_ratio`].
    Signal,
    /// [`nominal_noise_ratio`].
    Nominal,
}

/// Noise of the scores over tokens, without the crosstalk of the trigger, over the mean signal at
/// the same sample size. `+inf` where there is no signal.
#[must_use]
pub fn noise_ratio(s: &Setting) -> f64 {
    let noise = Noise::of(s);
    if noise.signal <= 0.0 {
        return f64::INFINITY;
    }
    noise.interference.sqrt() / noise.signal
}

/// The same noise over the signal of the population (`1 - 1/L` without a hidden layer).
#[must_use]
pub fn nominal_noise_ratio(s: &Setting) -> f64 {
    let noise = Noise::of(s);
    noise.interference.sqrt() / noise.population_signal
}

impl NoiseCriterion {
    /// The ratio.
    #[must_use]
    pub fn ratio(self, s: &Setting) -> f64 {
        match self {
            NoiseCriterion::Signal => noise_ratio(s),
            NoiseCriterion::Nominal => nominal_noise_ratio(s),
        }
    }
}

/// Sample size above which the noise ratio stays below `c` (note, section 3).
///
/// With balanced labels `N` runs over multiples of `V`, so that remainders play no part. The
/// result is interpolated between neighbouring sizes in the logarithms.
#[must_use]
pub fn noise_samples(s: &Setting, criterion: NoiseCriterion, c: f64) -> Threshold {
    if !(c > 0.0 && c.is_finite()) {
        return Threshold::none("the noise ratio must be a positive finite number");
    }
    let unit = match s.labels {
        Labels::Iid => 1,
        Labels::Balanced => s.vocab as u64,
    };
    let ratio = |k: u64| criterion.ratio(&Variable::Samples.set(s, k * unit));
    let most = MAX_SAMPLES / unit;
    if ratio(most) >= c {
        return Threshold::none(format!(
            "the noise ratio is {:.4} at N = {MAX_SAMPLES} still: what is left does not fall with N",
            ratio(most)
        ));
    }
    let mut high = most;
    let mut low = most;
    while ratio(low) < c {
        high = low;
        if low == 1 {
            return Threshold::none(format!(
                "the noise ratio is below {c} at N = {unit} already"
            ));
        }
        low = (low as f64 / 1.2).floor().max(1.0) as u64;
    }
    while high - low > 1 && (high as f64 / low as f64).ln() > 1e-6 {
        let mid = ((low as f64 * high as f64).sqrt().round() as u64).clamp(low + 1, high - 1);
        if ratio(mid) < c {
            high = mid;
        } else {
            low = mid;
        }
    }
    let (rl, rh) = (ratio(low), ratio(high));
    let t = if rl.is_finite() && rl > rh {
        (rl / c).ln() / (rl / rh).ln()
    } else {
        // No signal at the lower size: linear in the inverse ratio.
        (1.0 / c) / (1.0 / rh)
    };
    let (la, lb) = ((low as f64).ln(), (high as f64).ln());
    let value = (la + t.clamp(0.0, 1.0) * (lb - la)).exp() * unit as f64;
    Threshold::at(value, "thresholds.noise_ratio")
}

/// Local exponents of a critical sample size: `d log N* / d log` of each size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slopes {
    /// In `V`.
    pub vocab: f64,
    /// In the common dimension of the tables that are not orthonormal.
    pub dim: f64,
    /// In `L`.
    pub len: f64,
}

/// Central differences over a factor `1.2` to either side, rounded to integers. `None` where a
/// threshold is missing or no dimension is free.
fn slopes(s: &Setting, samples: impl Fn(&Setting) -> Threshold) -> Option<Slopes> {
    let free_dim = match (s.input, s.output) {
        (Embedding::Orthonormal, Embedding::Orthonormal) => return None,
        (Embedding::Orthonormal, _) => s.dim_out,
        _ => s.dim_in,
    };
    let slope = |variable: Variable, x: usize| {
        let (least, most) = variable.range();
        let low = ((x as f64 / 1.2).round() as u64)
            .min(x as u64 - 1)
            .max(least);
        let high = ((x as f64 * 1.2).round() as u64)
            .max(x as u64 + 1)
            .min(most);
        let (a, b) = (
            samples(&variable.set(s, low)).value()?,
            samples(&variable.set(s, high)).value()?,
        );
        Some((b / a).ln() / (high as f64 / low as f64).ln())
    };
    Some(Slopes {
        vocab: slope(Variable::Vocab, s.vocab)?,
        dim: slope(Variable::Dim, free_dim)?,
        len: slope(Variable::Len, s.len)?,
    })
}

/// Local exponents of [`noise_samples`] at the sizes of the setting.
#[must_use]
pub fn noise_slopes(s: &Setting, criterion: NoiseCriterion, c: f64) -> Option<Slopes> {
    slopes(s, |t| noise_samples(t, criterion, c))
}

/// Local exponents of the critical samples of [`Quantity::Attention`] at an accuracy level. Other
/// quantities do not depend on every size or are slow; use [`finite_size`].
#[must_use]
pub fn attention_slopes(s: &Setting, level: f64) -> Option<Slopes> {
    slopes(s, |t| {
        finite_size(t, Quantity::Attention, Variable::Samples, level)
    })
}

#[cfg(test)]
mod tests;
