//! Everything that the theory says about one setting, as one serialisable record.

use serde::{Deserialize, Serialize};

use crate::accuracy::{attention_accuracy, attention_weight, end_to_end_accuracy};
use crate::attention::{NOISE_NAMES, budget};
use crate::one_step;
use crate::recall::recall_accuracy;
use crate::setting::{Attention, Embedding, Samples, Setting};
use crate::thresholds::{self, Regime};

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
    /// Name, one of [`NOISE_NAMES`].
    pub name: String,
    /// Standard deviation over tokens, in units of `S0 = eta/(L^2 V)`.
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
    /// Accuracy of the matched filter on the first gradient.
    pub one_step_accuracy: f64,
    /// Mean signal `T`, in units of `S0`.
    pub signal: f64,
    /// Standard deviation of the scores over tokens: root of the sum of squares of `noise`.
    pub spread: f64,
    /// Noise terms in the order of [`NOISE_NAMES`].
    pub noise: Vec<NoiseTerm>,
    /// Largest of them.
    pub dominant_term: String,
    /// Constraint that binds.
    pub regime: Regime,
    /// Whether simulation has checked the formulas here.
    pub verified_window: VerifiedWindow,
    /// Ids of the formulas used, in [`crate::registry`].
    pub formulas: Vec<String>,
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
    VerifiedWindow {
        inside: reasons.is_empty(),
        reasons,
    }
}

/// The full prediction; thresholds are at accuracy `level`. The setting must be valid.
#[must_use]
pub fn predict(s: &Setting, level: f64) -> Prediction {
    predict_in(s, level, PredictionScope::Full)
}

/// The prediction in a scope. The setting must be valid; a level outside `(0, 1)` makes every
/// threshold unreachable and changes nothing else.
#[must_use]
pub fn predict_in(s: &Setting, level: f64, _scope: PredictionScope) -> Prediction {
    let b = budget(s);
    let hit = attention_accuracy(s);
    let attention = match s.attention {
        Attention::Argmax => AttentionKind::Argmax,
        Attention::Strength(strength) => AttentionKind::Strength {
            strength,
            weight: attention_weight(s, strength),
        },
    };
    Prediction {
        setting: *s,
        level,
        attention,
        attention_accuracy: hit,
        train_attention_accuracy: hit,
        recall_accuracy: recall_accuracy(s),
        accuracy: end_to_end_accuracy(s),
        one_step_accuracy: one_step::expected_accuracy(s),
        signal: b.signal,
        spread: b.spread(),
        noise: NOISE_NAMES
            .iter()
            .zip(b.variance)
            .map(|(name, variance)| NoiseTerm {
                name: (*name).to_owned(),
                relative_sd: variance.sqrt(),
            })
            .collect(),
        dominant_term: NOISE_NAMES[b.dominant()].to_owned(),
        regime: thresholds::regime(s),
        verified_window: verified_window(s),
        formulas: Vec::new(),
    }
}
