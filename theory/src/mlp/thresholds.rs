//! Laws of the attention-MLP model: what limits recall, critical width and its pole, capacity at
//! infinite width, and the constraint that binds. Derivation: `thresholds.md`.

use serde::{Deserialize, Serialize};

use crate::gauss;
use crate::labels::LabelMoments;
use crate::mlp::attention::budget;
use crate::mlp::kernel::kernel_rows;
use crate::moments::Moments;
use crate::setting::{Labels, Mlp, Model, Setting};
use crate::thresholds::{Quantity, Regime, Threshold, Variable};

/// Names of the terms of [`recall_noise`], in order.
pub const RECALL_NOISE_NAMES: [&str; 6] = [
    "output_gram",
    "linear_interference",
    "quadratic_interference",
    "higher_interference",
    "mlp_noise",
    "mean_bias",
];

/// What limits recall: variance of a competing logit over the square of the signal, by term
/// (note, eq. 1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RecallNoise {
    /// In the order of [`RECALL_NOISE_NAMES`].
    pub variance: [f64; 6],
}

impl RecallNoise {
    /// Sum of the terms.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.variance.iter().sum()
    }

    /// Index into [`RECALL_NOISE_NAMES`] of the largest term.
    #[must_use]
    pub fn dominant(&self) -> usize {
        (0..6).fold(0, |best, i| {
            if self.variance[i] > self.variance[best] {
                i
            } else {
                best
            }
        })
    }
}

/// Mean noise of recall at a setting (note, eq. 1): slow variables are averaged, which the
/// accuracy does not do.
#[must_use]
pub fn recall_noise(s: &Setting, mlp: &Mlp) -> RecallNoise {
    let rows = kernel_rows(s, mlp);
    let outputs = Moments::output(s);
    let labels = LabelMoments::of(s);
    let v = s.vocab as f64;
    // A stored association reaches a competitor through the common vector and on its own.
    let reach = v * outputs.overlap + 1.0;
    let mean = |f: &dyn Fn(&crate::mlp::kernel::KernelRow) -> f64| {
        rows.iter().map(|r| r.weight * f(r)).sum::<f64>()
    };
    let signal = mean(&|r| r.own - r.mean);
    let unit = reach * labels.square / (signal * signal).max(f64::MIN_POSITIVE);
    let part = |i: usize| unit * mean(&|r| r.interference[i]);
    RecallNoise {
        variance: [
            outputs.overlap,
            part(0),
            part(1),
            part(2),
            unit * mean(&|r| r.width_noise),
            reach * (labels.square - 1.0) * mean(&|r| r.mean * r.mean)
                / (signal * signal).max(f64::MIN_POSITIVE),
        ],
    }
}

/// Width that recall needs, and why (note, eq. 3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WidthLaw {
    /// Critical width; `None` at a pole, where no width suffices.
    pub width: Option<f64>,
    /// The product law `m d ~ V log V`: width if only the noise of the finite width acted.
    pub product_law: f64,
    /// Share of the tolerated noise that does not fall with the width, by term: the output Gram
    /// matrix, linear, quadratic and higher interference, mean bias. The product law holds where
    /// their sum is far below one; at one stands the pole.
    pub floor: [f64; 5],
}

impl WidthLaw {
    /// Sum of the floors.
    #[must_use]
    pub fn floor_total(&self) -> f64 {
        self.floor.iter().sum()
    }

    /// Whether `m d ~ V log V` describes the critical width to within a third.
    #[must_use]
    pub fn is_product_law(&self) -> bool {
        self.floor_total() < 0.25
    }

    /// What makes the pole, or would.
    #[must_use]
    pub fn largest_floor(&self) -> &'static str {
        const NAMES: [&str; 5] = [
            "output_gram",
            "linear_interference",
            "quadratic_interference",
            "higher_interference",
            "mean_bias",
        ];
        let best = (0..5).fold(0, |b, i| if self.floor[i] > self.floor[b] { i } else { b });
        NAMES[best]
    }
}

/// Critical width of recall at accuracy `level` by the mean noise (note, eq. 3).
#[must_use]
pub fn width_law(s: &Setting, mlp: &Mlp, level: f64) -> WidthLaw {
    // Terms at a width so large that its noise is gone; the noise is A/m exactly.
    const WIDE: usize = 1 << 20;
    let wide = Mlp {
        width: WIDE,
        ..*mlp
    };
    let noise = recall_noise(s, &wide).variance;
    let x = gauss::quantile_of_win(level, s.vocab as f64 - 1.0);
    let square = x * x;
    let amplitude = noise[4] * WIDE as f64;
    let floor = [noise[0], noise[1], noise[2], noise[3], noise[5]].map(|n| n * square);
    let rest = 1.0 - floor.iter().sum::<f64>();
    let product_law = amplitude * square;
    WidthLaw {
        width: (rest > 0.0).then(|| product_law / rest),
        product_law,
        floor,
    }
}

/// Largest vocabulary that any width can hold at accuracy `level`, at the other sizes of the
/// setting with `N/V` kept: the cap of the activation (note, eq. 4). `None` where even two tokens
/// are too many, or none up to `2^24` is.
#[must_use]
pub fn capacity_at_infinite_width(s: &Setting, mlp: &Mlp, level: f64) -> Option<f64> {
    let per_class = s.samples.as_f64() / s.vocab as f64;
    let excess = |log_v: f64| {
        let v = log_v.exp().round().max(2.0);
        let t = Setting {
            vocab: v as usize,
            samples: crate::Samples::Finite((per_class * v).round().max(1.0) as u64),
            ..*s
        };
        width_law(&t, mlp, level).floor_total() - 1.0
    };
    let (lo, hi) = (2f64.ln(), 16_777_216f64.ln());
    if excess(lo) > 0.0 || excess(hi) < 0.0 {
        return None;
    }
    let (mut a, mut b) = (lo, hi);
    for _ in 0..30 {
        let mid = 0.5 * (a + b);
        if excess(mid) > 0.0 {
            b = mid;
        } else {
            a = mid;
        }
    }
    Some((0.5 * (a + b)).exp())
}

/// By how much each constraint is missed: one where it is just met (note, eq. 5).
fn demands(s: &Setting, mlp: &Mlp, quantity: Quantity, level: f64) -> (Regime, f64) {
    let mut worst = (Regime::Coverage, 0.0);
    let mut take = |regime, demand: f64| {
        if demand > worst.1 {
            worst = (regime, demand);
        }
    };
    if quantity != Quantity::Attention {
        let v = s.vocab as f64;
        let need = match s.labels {
            Labels::Balanced => level * v,
            Labels::Iid => -v * (-level).ln_1p(),
        };
        take(Regime::Coverage, need / s.samples.as_f64());
        let x = gauss::quantile_of_win(level, s.vocab as f64 - 1.0);
        take(Regime::Memory, x * x * recall_noise(s, mlp).total());
    }
    if quantity != Quantity::Recall {
        let b = budget(s, mlp);
        let demand = if b.signal > 0.0 {
            2.0 * (s.len as f64).ln() * b.spread().powi(2) / (b.signal * b.signal)
        } else {
            f64::INFINITY
        };
        let regime = match b.dominant() {
            0 | 1 | 5 | 9 | 10 => Regime::MeanBias,
            2 => Regime::Cross,
            11 => Regime::Trigger,
            _ => Regime::GradientNoise,
        };
        take(regime, demand);
    }
    worst
}

/// The constraint that binds at the setting (level 1/2). Noise of the finite width counts as
/// gradient noise in attention and as memory in recall; the mean row of `W` as mean bias.
#[must_use]
pub fn regime(s: &Setting, mlp: &Mlp, quantity: Quantity) -> Regime {
    demands(s, mlp, quantity, 0.5).0
}

/// Where the mean noise meets the constraints of a quantity (note, eq. 5): the law without the
/// fluctuations between tokens and trials.
#[must_use]
pub fn law(
    s: &Setting,
    mlp: &Mlp,
    quantity: Quantity,
    variable: Variable,
    level: f64,
) -> Threshold {
    let none = |reason: &str| Threshold::Unreachable {
        reason: reason.to_owned(),
    };
    if quantity == Quantity::Recall && variable == Variable::Len {
        return none("recall does not depend on the length");
    }
    if quantity == Quantity::Recall && variable == Variable::Width {
        let w = width_law(s, mlp, level);
        return match w.width {
            Some(value) => Threshold::At {
                value: value.max(1.0),
                formula: "mlp.width".to_owned(),
            },
            None => none(&format!(
                "no width suffices: {} alone is too large",
                w.largest_floor()
            )),
        };
    }
    let (least, most) = variable.range();
    // The law is evaluated at integers of at most 2^24; tables beyond are not of interest.
    let (least, most) = (least.max(2) as f64, (most as f64).min(16_777_216.0));
    let met = |x: f64| {
        let t = variable.set(s, x.round() as u64);
        let layer = match &t.model {
            Model::Mlp(layer) => *layer,
            Model::AttentionOnly => *mlp,
        };
        demands(&t, &layer, quantity, level).1 <= 1.0
    };
    let (easy, hard) = if variable.helps() {
        (most, least)
    } else {
        (least, most)
    };
    if !met(easy) {
        return none("the law asks for more than the range searched");
    }
    if met(hard) {
        return none("the law is met in the whole range searched");
    }
    let (mut good, mut bad) = (easy.ln(), hard.ln());
    for _ in 0..22 {
        let mid = 0.5 * (good + bad);
        if met(mid.exp()) {
            good = mid;
        } else {
            bad = mid;
        }
    }
    Threshold::At {
        value: (0.5 * (good + bad)).exp(),
        formula: "mlp.constraints".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::setting::{MlpInput, MlpRows};

    fn layer(activation: Activation, width: usize) -> Mlp {
        Mlp {
            activation,
            width,
            input: MlpInput::Rms,
            rows: MlpRows::Gaussian,
        }
    }

    fn balanced(v: usize, d: usize, mlp: Mlp) -> Setting {
        let mut s = Setting::new(v, d, 16, 8 * v as u64).with_mlp(mlp);
        s.labels = Labels::Balanced;
        s
    }

    const ABS: Activation = Activation::Abs {
        slope: 0.0,
        shift: 1.0,
    };

    #[test]
    fn the_product_law_holds_without_a_linear_part_and_has_its_constant() {
        // m d = (k0/kt) x^2 (V + d) up to the floors; kt = k0 for a centred activation.
        let mlp = layer(ABS, 64);
        let s = balanced(1024, 256, mlp);
        let w = width_law(&s, &mlp, 0.5);
        let x = gauss::quantile_of_win(0.5, 1023.0);
        let ratio = w.product_law * 256.0 / (x * x * (1024.0 + 256.0));
        assert!((ratio - 1.0).abs() < 0.06, "{ratio}");
        assert!(w.is_product_law(), "{w:?}");
    }

    #[test]
    fn linear_interference_makes_a_pole() {
        let relu = layer(Activation::CentredRelu, 64);
        let near = width_law(&balanced(256, 64, relu), &relu, 0.5);
        assert!(near.width.is_some() && !near.is_product_law(), "{near:?}");
        let far = width_law(&balanced(2048, 64, relu), &relu, 0.5);
        assert!(far.width.is_none() && far.largest_floor() == "linear_interference");
        // The constant of ReLU with random labels: mean bias.
        let plain = layer(Activation::Relu, 64);
        let mut s = Setting::new(2048, 512, 16, 2 * 2048).with_mlp(plain);
        assert_eq!(width_law(&s, &plain, 0.5).largest_floor(), "mean_bias");
        s.labels = Labels::Balanced;
        assert!(width_law(&s, &plain, 0.5).floor[4] < 1e-12);
    }

    #[test]
    fn caps_have_the_powers_of_the_leading_interference() {
        let cap = |activation, d| {
            let mlp = layer(activation, 64);
            capacity_at_infinite_width(&balanced(1024, d, mlp), &mlp, 0.5).unwrap()
        };
        let slope = |a| (cap(a, 128) / cap(a, 64)).log2();
        let (linear, quadratic) = (slope(Activation::CentredRelu), slope(Activation::HERMITE_2));
        // d^2/log V and d^3/log V.
        assert!((1.6..2.2).contains(&linear), "{linear}");
        assert!((2.5..3.4).contains(&quadratic), "{quadratic}");
    }

    #[test]
    fn laws_answer_for_every_variable() {
        let mlp = layer(ABS, 128);
        let s = balanced(512, 64, mlp);
        for variable in [
            Variable::Samples,
            Variable::Dim,
            Variable::Width,
            Variable::Vocab,
        ] {
            for quantity in Quantity::ALL {
                match law(&s, &mlp, quantity, variable, 0.5) {
                    Threshold::At { value, .. } => assert!(value >= 1.0),
                    Threshold::Unreachable { reason } => assert!(!reason.is_empty()),
                }
            }
        }
    }
}
