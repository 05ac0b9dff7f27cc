//! Everything that the theory says about one setting, as one serialisable record.

use serde::{Deserialize, Serialize};

use crate::accuracy::{attention_accuracy, attention_weight, end_to_end_accuracy};
use crate::lower_bound::{self, AccuracyBound, Target};
use crate::mlp::thresholds::{
    RECALL_NOISE_NAMES, capacity_at_infinite_width, recall_noise, width_law,
};
use crate::noise::Noise;
use crate::one_step::{self, OneStepThreshold};
use crate::recall::recall_accuracy;
use crate::setting::{Attention, Embedding, Mlp, MlpInput, Model, Samples, Setting};
use crate::thresholds::{self, Quantity, Regime, Threshold, Variable};
use crate::whitened;

/// How much is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PredictionScope {
    /// Accuracies and noise at the setting itself.
    Accuracies,
    /// In addition thresholds and lower bounds, which are searches.
    #[default]
    Full,
}

/// The attention of the prediction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum AttentionKind {
    /// All weight on the largest score.
    Argmax,
    /// Softmax.
    Strength {
        /// Mean score advantage `G` of the informative position.
        strength: f64,
        /// Mean weight on the informative position.
        weight: f64,
    },
}

/// One noise term of the attention step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoiseTerm {
    /// Name, one of [`NOISE_NAMES`](crate::attention::NOISE_NAMES) or, with a hidden layer, of
    /// [`MLP_NOISE_NAMES`](crate::mlp::attention::MLP_NOISE_NAMES).
    pub name: String,
    /// Standard deviation over tokens, in units of `S0 = eta/(L^2 V)`, its proportional share of
    /// the covariances between terms included: the squares add up to that of the spread.
    pub relative_sd: f64,
}

/// Whether the setting lies where simulation has checked the formulas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifiedWindow {
    /// No reason against it.
    pub inside: bool,
    /// What is outside, in words.
    pub reasons: Vec<String>,
}

/// What the theory says about a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The setting.
    pub setting: Setting,
    /// Level of the thresholds.
    pub level: f64,
    /// Attention in step 3 and at test.
    pub attention: AttentionKind,
    /// Chance that the largest score of a fresh sequence is the informative one.
    pub attention_accuracy: f64,
    /// The same on training sequences: the theory gives them the same law as fresh ones, so this
    /// is equal to `attention_accuracy`.
    pub train_attention_accuracy: f64,
    /// Recall, given that attention is right in training and at test.
    pub recall_accuracy: f64,
    /// End-to-end accuracy on fresh sequences.
    pub accuracy: f64,
    /// Accuracy of the matched filter on the first gradient, where it is predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_step_accuracy: Option<f64>,
    /// Mean signal `T`, in units of `S0`.
    pub signal: f64,
    /// Standard deviation of the scores over tokens: root of the sum of squares of `noise`.
    pub spread: f64,
    /// Noise terms in a fixed order.
    pub noise: Vec<NoiseTerm>,
    /// Twice the covariances between the terms, already shared among them.
    pub noise_covariance: f64,
    /// Largest of them.
    pub dominant_term: String,
    /// Constraint that binds.
    pub regime: Regime,
    /// Whether simulation has checked the formulas here.
    pub verified_window: VerifiedWindow,
    /// Where the accuracies cross the level; only in [`PredictionScope::Full`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Thresholds>,
    /// What readers of the first gradient must pay; only in [`PredictionScope::Full`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_bound: Option<LowerBounds>,
    /// What decoders of the first gradient reach, to be read beside the bound; only in
    /// [`PredictionScope::Full`], without a hidden layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoders: Option<Decoders>,
    /// Critical width and what limits recall; only with a hidden layer, in
    /// [`PredictionScope::Full`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_layer: Option<HiddenLayer>,
    /// Keys that are left out, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_predicted: Vec<NotPredicted>,
    /// Ids of the formulas used, in [`crate::registry`].
    pub formulas: Vec<String>,
}

/// A key of the record that is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotPredicted {
    /// The key.
    pub key: String,
    /// Why there is no number.
    pub reason: String,
}

/// What a hidden layer does to recall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HiddenLayer {
    /// Noise of recall by term, standard deviation over the signal, in the order of
    /// [`RECALL_NOISE_NAMES`](crate::mlp::thresholds::RECALL_NOISE_NAMES).
    pub recall_noise: Vec<NoiseTerm>,
    /// Largest of them.
    pub dominant_recall_term: String,
    /// Width `m` that the product law `m d ~ V log V` asks for.
    pub product_law_width: f64,
    /// Share of the tolerated noise that no width removes; at one there is a pole.
    pub floor: f64,
    /// Whether the product law describes the critical width.
    pub is_product_law: bool,
    /// Largest vocabulary that any width holds at this `N/V`, if there is one in the range searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_at_infinite_width: Option<f64>,
}

/// A threshold twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdPair {
    /// Root of the finite-size formula.
    pub finite_size: Threshold,
    /// Asymptotic law.
    pub asymptotic: Threshold,
}

/// Thresholds in one size, by accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ByQuantity {
    /// Attention accuracy.
    pub attention: ThresholdPair,
    /// Recall accuracy.
    pub recall: ThresholdPair,
    /// End-to-end accuracy.
    pub accuracy: ThresholdPair,
}

/// Thresholds in each size, the others kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Critical sample size `N*`.
    pub samples: ByQuantity,
    /// Critical common dimension `d*`.
    pub dim: ByQuantity,
    /// Largest length `L*`.
    pub len: ByQuantity,
    /// Capacity `V*`.
    pub vocab: ByQuantity,
    /// Critical width `m*`; only with a hidden layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<ByQuantity>,
}

/// Lower bounds for estimators of the first gradient, at expected accuracy `level`. Each states
/// its assumption; they do not bind training that reads the batch more than once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LowerBounds {
    /// Samples needed.
    pub samples: lower_bound::Threshold,
    /// Common dimension needed at the setting's samples.
    pub dim: lower_bound::Threshold,
    /// Largest vocabulary allowed at the setting's samples and dimensions.
    pub vocab: lower_bound::Threshold,
    /// Largest expected accuracy at the setting.
    pub accuracy_upper_bound: AccuracyBound,
}

/// One decoder of the first gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Decoder {
    /// Expected accuracy at the setting.
    pub accuracy: f64,
    /// Samples at which the expected accuracy crosses the level, the other sizes kept.
    pub samples: OneStepThreshold,
}

/// Decoders of the first gradient for which there is a formula.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Decoders {
    /// The query `z_in(v)` to the gradient itself ([`one_step`]).
    pub matched_filter: Decoder,
    /// Both sides whitened against the sampling noise ([`whitened`]); heuristic.
    pub whitened: Decoder,
}

/// What the decoders reach, and the samples they need for expected accuracy `level`.
#[must_use]
pub fn predict_decoders(s: &Setting, level: f64) -> Decoders {
    Decoders {
        matched_filter: Decoder {
            accuracy: one_step::expected_accuracy(s),
            samples: one_step::samples_for_accuracy(s, level),
        },
        whitened: Decoder {
            accuracy: whitened::expected_accuracy(s),
            samples: whitened::samples_for_accuracy(s, level),
        },
    }
}

fn by_quantity(s: &Setting, variable: Variable, level: f64) -> ByQuantity {
    let [attention, recall, accuracy] = thresholds::finite_sizes(s, variable, level);
    let pair = |quantity, finite_size| ThresholdPair {
        finite_size,
        asymptotic: thresholds::asymptotic(s, quantity, variable, level),
    };
    ByQuantity {
        attention: pair(Quantity::Attention, attention),
        recall: pair(Quantity::Recall, recall),
        accuracy: pair(Quantity::EndToEnd, accuracy),
    }
}

/// What the layer of a setting does to recall, with thresholds at accuracy `level`.
#[must_use]
pub fn predict_hidden_layer(s: &Setting, mlp: &Mlp, level: f64) -> HiddenLayer {
    let noise = recall_noise(s, mlp);
    let law = width_law(s, mlp, level);
    HiddenLayer {
        recall_noise: RECALL_NOISE_NAMES
            .iter()
            .zip(noise.variance)
            .map(|(name, variance)| NoiseTerm {
                name: (*name).to_owned(),
                relative_sd: variance.max(0.0).sqrt(),
            })
            .collect(),
        dominant_recall_term: RECALL_NOISE_NAMES[noise.dominant()].to_owned(),
        product_law_width: law.product_law,
        floor: law.floor_total(),
        is_product_law: law.is_product_law(),
        capacity_at_infinite_width: capacity_at_infinite_width(s, mlp, level),
    }
}

/// All thresholds of a setting at accuracy `level`. Takes up to seconds.
#[must_use]
pub fn predict_thresholds(s: &Setting, level: f64) -> Thresholds {
    let by = |variable| by_quantity(s, variable, level);
    Thresholds {
        samples: by(Variable::Samples),
        dim: by(Variable::Dim),
        len: by(Variable::Len),
        vocab: by(Variable::Vocab),
        width: s.model.mlp().map(|_| by(Variable::Width)),
    }
}

/// All lower bounds of a setting at expected accuracy `level`.
#[must_use]
pub fn predict_lower_bounds(s: &Setting, level: f64) -> LowerBounds {
    let target = Target::ExpectedAccuracy { accuracy: level };
    LowerBounds {
        samples: lower_bound::samples_lower_bound(s, target),
        dim: lower_bound::dimension_lower_bound(s, target),
        vocab: lower_bound::vocab_upper_bound(s, target),
        accuracy_upper_bound: lower_bound::accuracy_upper_bound(s, s.samples),
    }
}

impl Thresholds {
    fn formulas(&self) -> impl Iterator<Item = &str> {
        [&self.samples, &self.dim, &self.len, &self.vocab]
            .into_iter()
            .chain(&self.width)
            .flat_map(|by| [&by.attention, &by.recall, &by.accuracy])
            .flat_map(|pair| [&pair.finite_size, &pair.asymptotic])
            .filter_map(|threshold| match threshold {
                Threshold::At { formula, .. } => Some(formula.as_str()),
                Threshold::Unreachable { .. } => None,
            })
    }
}

/// Ids of the formulas behind the accuracies.
fn formulas(s: &Setting) -> Vec<String> {
    if s.model.mlp().is_some() {
        return [
            "mlp.hermite",
            "mlp.kernel",
            "mlp.signal",
            "mlp.budget",
            "mlp.attention_accuracy",
            "mlp.recall_accuracy",
            "mlp.end_to_end",
            "mlp.constraints",
        ]
        .map(str::to_owned)
        .to_vec();
    }
    let mut ids = vec![
        "attention.signal",
        "attention.budget",
        "attention.accuracy",
        "recall.accuracy",
        match s.attention {
            Attention::Argmax => "accuracy.end_to_end",
            Attention::Strength(_) => "accuracy.softmax",
        },
        "one_step.accuracy",
        "thresholds.regime",
    ];
    if let Attention::Strength(_) = s.attention {
        ids.push("attention.weight");
    }
    ids.into_iter().map(str::to_owned).collect()
}

/// The window in which simulation has checked the formulas: `V` 128 to 4096, `d` 16 to 512 and at
/// most `V`, `L` 4 to 512, `N` 64 to 10^6, and `N >= 4 sqrt(V)` for orthonormal inputs.
#[must_use]
pub fn verified_window(s: &Setting) -> VerifiedWindow {
    let mut reasons = Vec::new();
    let mut check = |inside: bool, reason: String| {
        if !inside {
            reasons.push(reason);
        }
    };
    check(
        (128..=4096).contains(&s.vocab),
        format!("vocab = {} is outside 128 to 4096", s.vocab),
    );
    for (side, dim, law) in [
        ("dim_in", s.dim_in, s.input),
        ("dim_out", s.dim_out, s.output),
    ] {
        if law == Embedding::Orthonormal {
            continue;
        }
        check(
            (16..=512).contains(&dim),
            format!("{side} = {dim} is outside 16 to 512"),
        );
        check(
            dim <= s.vocab,
            format!("{side} = {dim} exceeds vocab = {}", s.vocab),
        );
    }
    check(
        (4..=512).contains(&s.len),
        format!("len = {} is outside 4 to 512", s.len),
    );
    match s.samples {
        Samples::Finite(n) => {
            check(
                (64..=1_000_000).contains(&n),
                format!("samples = {n} is outside 64 to 1000000"),
            );
            let least = 4.0 * (s.vocab as f64).sqrt();
            check(
                s.input != Embedding::Orthonormal || n as f64 >= least,
                format!(
                    "samples = {n} is below 4 sqrt(vocab) = {least:.0} with orthonormal inputs: \
                     pair counts are not Gaussian"
                ),
            );
        }
        Samples::Infinite => check(
            false,
            "samples = infinite is outside 64 to 1000000".to_owned(),
        ),
    }
    check(
        s.attention == Attention::Argmax,
        "finite attention strength: checked at few points".to_owned(),
    );
    if let Model::Mlp(mlp) = &s.model {
        reasons.extend(layer_reasons(s, mlp));
    }
    VerifiedWindow {
        inside: reasons.is_empty(),
        reasons,
    }
}

/// Keys that a setting has no formula for.
fn not_predicted(s: &Setting, full: bool) -> Vec<NotPredicted> {
    let absent = |key: &str, reason: &str| NotPredicted {
        key: key.to_owned(),
        reason: reason.to_owned(),
    };
    if s.model.mlp().is_none() {
        return Vec::new();
    }
    let mut list = vec![absent(
        "one_step_accuracy",
        "the formula for the first gradient is stated for the attention-only model",
    )];
    if full {
        list.push(absent(
            "lower_bound",
            "the bounds are on readers of the attention-only first gradient; that of the \
             attention-MLP model has V m instead of V d entries",
        ));
        list.push(absent(
            "decoders",
            "the formulas are for readers of the attention-only first gradient",
        ));
    }
    list
}

/// What of a hidden layer simulation has not checked.
fn layer_reasons(s: &Setting, mlp: &Mlp) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut check = |inside: bool, reason: String| {
        if !inside {
            reasons.push(reason);
        }
    };
    check(
        (16..=4096).contains(&mlp.width),
        format!("width = {} is outside 16 to 4096", mlp.width),
    );
    check(
        s.vocab <= 2048,
        format!("vocab = {} is above 2048 with a hidden layer", s.vocab),
    );
    check(
        s.len <= 128,
        format!("len = {} is above 128 with a hidden layer", s.len),
    );
    check(
        s.samples.as_f64() >= s.vocab as f64,
        "samples below vocab with a hidden layer: not checked".to_owned(),
    );
    let polynomial = matches!(mlp.activation, crate::Activation::Hermite { .. });
    check(
        !(polynomial && mlp.input == MlpInput::Raw),
        "a polynomial that sees raw inputs: checked at few points".to_owned(),
    );
    check(
        !(s.output == Embedding::Orthonormal && mlp.width.min(s.dim_in) < 32),
        "orthonormal outputs with width or dim_in below 32: the tail of the kernel decides"
            .to_owned(),
    );
    reasons
}

/// The full prediction; thresholds are at accuracy `level`. The setting must be valid.
#[must_use]
pub fn predict(s: &Setting, level: f64) -> Prediction {
    predict_in(s, level, PredictionScope::Full)
}

/// The prediction in a scope. The setting must be valid; a level outside `(0, 1)` makes every
/// threshold unreachable and changes nothing else.
#[must_use]
pub fn predict_in(s: &Setting, level: f64, scope: PredictionScope) -> Prediction {
    let full = scope == PredictionScope::Full;
    let limits = full.then(|| predict_thresholds(s, level));
    let layer = s.model.mlp();
    let bounds = (full && layer.is_none()).then(|| predict_lower_bounds(s, level));
    let mut ids = formulas(s);
    if let Some(limits) = &limits {
        for id in limits.formulas() {
            if !ids.iter().any(|known| known == id) {
                ids.push(id.to_owned());
            }
        }
    }
    if bounds.is_some() {
        for id in [
            "lower_bound.samples",
            "lower_bound.dimension",
            "lower_bound.vocab",
            "lower_bound.accuracy",
            "one_step.samples",
            "whitened.accuracy",
            "whitened.samples",
        ] {
            ids.push(id.to_owned());
        }
    }
    let hidden_layer = match layer {
        Some(mlp) if full => {
            ids.push("mlp.width".to_owned());
            ids.push("mlp.capacity".to_owned());
            Some(predict_hidden_layer(s, mlp, level))
        }
        _ => None,
    };
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    let b = Noise::of(s);
    let hit = attention_accuracy(s);
    let attention = match s.attention {
        Attention::Argmax => AttentionKind::Argmax,
        Attention::Strength(strength) => AttentionKind::Strength {
            strength,
            weight: attention_weight(s, strength),
        },
    };
    // Terms that point along the same vector have covariances; each term carries its share of
    // them in proportion, so that the squares add up to that of the spread.
    let sum: f64 = b.terms.iter().map(|t| t.1).sum();
    let share = 1.0 + b.covariance / sum.max(f64::MIN_POSITIVE);
    Prediction {
        setting: *s,
        level,
        attention,
        attention_accuracy: hit,
        train_attention_accuracy: hit,
        recall_accuracy: recall_accuracy(s),
        accuracy: end_to_end_accuracy(s),
        one_step_accuracy: layer.is_none().then(|| one_step::expected_accuracy(s)),
        signal: b.signal,
        spread: b.spread(),
        noise: b
            .terms
            .iter()
            .map(|&(name, variance)| NoiseTerm {
                name: name.to_owned(),
                relative_sd: (variance * share).max(0.0).sqrt(),
            })
            .collect(),
        noise_covariance: b.covariance,
        dominant_term: b.dominant().to_owned(),
        regime: thresholds::regime(s),
        verified_window: verified_window(s),
        thresholds: limits,
        lower_bound: bounds,
        decoders: (full && layer.is_none()).then(|| predict_decoders(s, level)),
        hidden_layer,
        not_predicted: not_predicted(s, full),
        formulas: ids,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_consistent_and_reads_back() {
        let s = Setting::new(256, 64, 32, 2048);
        let p = predict(&s, 0.5);
        let squares: f64 = p.noise.iter().map(|t| t.relative_sd.powi(2)).sum();
        assert!((squares.sqrt() / p.spread - 1.0).abs() < 1e-12);
        let largest = p
            .noise
            .iter()
            .max_by(|a, b| a.relative_sd.total_cmp(&b.relative_sd));
        assert_eq!(largest.unwrap().name, p.dominant_term);
        assert!(p.accuracy <= p.attention_accuracy && p.accuracy <= p.recall_accuracy + 1e-6);
        let limits = p.thresholds.clone().unwrap();
        let n = limits.samples.accuracy.finite_size.value().unwrap();
        assert_eq!(n < 2048.0, p.accuracy > 0.5);
        for id in &p.formulas {
            assert!(crate::registry::formula(id).is_some(), "{id}");
        }
        let text = serde_json::to_string(&p).unwrap();
        assert!(!text.contains("null"), "{text}");
        assert_eq!(serde_json::from_str::<Prediction>(&text).unwrap(), p);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["attention"]["kind"], "argmax");
        assert_eq!(
            json["thresholds"]["len"]["recall"]["finite_size"]["kind"],
            "unreachable"
        );
        assert_eq!(json["lower_bound"]["samples"]["kind"], "at");
    }

    #[test]
    fn a_hidden_layer_has_the_same_keys_and_says_what_is_missing() {
        let s = Setting::new(256, 48, 16, 2048).with_mlp(Mlp {
            activation: crate::Activation::Abs {
                slope: 0.3,
                shift: 1.0,
            },
            width: 128,
            input: MlpInput::Rms,
            rows: crate::MlpRows::Gaussian,
        });
        let p = predict(&s, 0.5);
        let squares: f64 = p.noise.iter().map(|t| t.relative_sd.powi(2)).sum();
        assert!((squares.sqrt() / p.spread - 1.0).abs() < 1e-12);
        assert!(p.noise.iter().any(|t| t.name == p.dominant_term));
        assert!(p.accuracy <= p.attention_accuracy + 1e-6);
        assert!(p.one_step_accuracy.is_none() && p.lower_bound.is_none());
        let keys: Vec<&str> = p.not_predicted.iter().map(|n| n.key.as_str()).collect();
        assert_eq!(keys, ["one_step_accuracy", "lower_bound", "decoders"]);
        for id in &p.formulas {
            assert!(crate::registry::formula(id).is_some(), "{id}");
        }
        let limits = p.thresholds.clone().unwrap();
        let width = limits.width.unwrap().recall.finite_size.value().unwrap();
        assert_eq!(width < 128.0, p.recall_accuracy > 0.5);
        assert!(p.verified_window.inside, "{:?}", p.verified_window);
        let text = serde_json::to_string(&p).unwrap();
        assert!(!text.contains("null"), "{text}");
        assert_eq!(serde_json::from_str::<Prediction>(&text).unwrap(), p);
    }

    #[test]
    fn accuracies_alone_skip_the_searches() {
        let mut s = Setting::new(256, 64, 32, 2048);
        s.attention = Attention::Strength(6.0);
        let p = predict_in(&s, 0.5, PredictionScope::Accuracies);
        assert!(p.thresholds.is_none() && p.lower_bound.is_none());
        let AttentionKind::Strength { strength, weight } = p.attention else {
            panic!("{:?}", p.attention);
        };
        assert!(strength == 6.0 && weight > 0.5 && weight < 1.0);
        assert!(!p.verified_window.inside);
    }

    #[test]
    fn no_record_holds_a_null() {
        let orthonormal = Setting::new(128, 32, 16, 500)
            .with_embeddings(Embedding::Orthonormal, Embedding::Orthonormal);
        let mut balanced = Setting::new(128, 32, 16, 64);
        balanced.labels = crate::setting::Labels::Balanced;
        let infinite = Setting {
            samples: Samples::Infinite,
            ..Setting::new(128, 32, 16, 1)
        };
        for s in [orthonormal, balanced, infinite, Setting::new(2, 1, 2, 1)] {
            let text = serde_json::to_string(&predict(&s, 0.5)).unwrap();
            assert!(!text.contains("null"), "{text}");
        }
    }

    #[test]
    fn window_names_each_limit() {
        assert!(verified_window(&Setting::new(1024, 128, 64, 16384)).inside);
        let outside = verified_window(&Setting::new(64, 600, 2, 10));
        assert_eq!(outside.reasons.len(), 7, "{:?}", outside.reasons);
        let sparse = Setting::new(1024, 64, 64, 100)
            .with_embeddings(Embedding::Orthonormal, Embedding::Gaussian);
        assert_eq!(verified_window(&sparse).reasons.len(), 1);
    }
}
