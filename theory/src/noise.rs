//! The noise of the attention step for either model, term by term and by name.

use crate::attention::{self, NOISE_NAMES};
use crate::mlp::attention::{self as mlp_attention, MLP_NOISE_NAMES};
use crate::setting::{Model, Setting};

/// Noise of the scores over tokens, in units of `S0` (`eta/(L^2 V)`, times `m` with a hidden
/// layer).
#[derive(Debug, Clone, PartialEq)]
pub struct Noise {
    /// Mean signal `T`.
    pub signal: f64,
    /// The same for infinite data.
    pub population_signal: f64,
    /// Variance of `T` between trials.
    pub signal_variance: f64,
    /// Terms by name, with their variance over tokens.
    pub terms: Vec<(&'static str, f64)>,
    /// Twice the covariances between the terms.
    pub covariance: f64,
    /// Variance over tokens without the crosstalk of the trigger itself.
    pub interference: f64,
}

impl Noise {
    /// At a setting.
    #[must_use]
    pub fn of(s: &Setting) -> Self {
        match &s.model {
            Model::AttentionOnly => {
                let b = attention::budget(s);
                Noise {
                    signal: b.signal,
                    population_signal: 1.0 - 1.0 / s.len as f64,
                    signal_variance: b.signal_variance,
                    terms: NOISE_NAMES.iter().copied().zip(b.variance).collect(),
                    covariance: b.covariance,
                    interference: b.interference,
                }
            }
            Model::Mlp(mlp) => {
                let b = mlp_attention::budget(s, mlp);
                Noise {
                    signal: b.signal,
                    population_signal: mlp_attention::population_signal(s, mlp),
                    signal_variance: b.signal_variance,
                    terms: MLP_NOISE_NAMES.iter().copied().zip(b.variance).collect(),
                    covariance: b.covariance,
                    interference: b.interference,
                }
            }
        }
    }

    /// Root of the sum of all terms and of their covariances.
    #[must_use]
    pub fn spread(&self) -> f64 {
        let sum: f64 = self.terms.iter().map(|t| t.1).sum();
        (sum + self.covariance).max(0.0).sqrt()
    }

    /// Name of the largest term.
    #[must_use]
    pub fn dominant(&self) -> &'static str {
        let mut best = ("", f64::NEG_INFINITY);
        for &(name, variance) in &self.terms {
            if variance > best.1 {
                best = (name, variance);
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::setting::{Mlp, MlpInput, MlpRows};

    #[test]
    fn a_wide_raw_linear_layer_is_no_layer() {
        // W^T W -> m I: every shared term, the signal and the interference are those of the
        // attention-only budget.
        for (labels, output) in [
            (crate::Labels::Iid, crate::Embedding::Gaussian),
            (crate::Labels::Balanced, crate::Embedding::Gaussian),
            (crate::Labels::Iid, crate::Embedding::Orthonormal),
        ] {
            let mut plain =
                Setting::new(512, 64, 32, 2048).with_embeddings(crate::Embedding::Gaussian, output);
            plain.labels = labels;
            let wide = plain.with_mlp(Mlp {
                activation: Activation::Linear,
                width: 1 << 20,
                input: MlpInput::Raw,
                rows: MlpRows::Gaussian,
            });
            let (a, b) = (Noise::of(&plain), Noise::of(&wide));
            assert!((b.signal / a.signal - 1.0).abs() < 1e-6);
            assert!((b.spread() / a.spread() - 1.0).abs() < 1e-3);
            assert!((b.interference / a.interference - 1.0).abs() < 0.02);
            for &(name, variance) in &a.terms {
                let other = b.terms.iter().find(|t| t.0 == name).unwrap().1;
                // `along_mean` stands in the covariance there, in the term here.
                let allowed = if name == "mean_bias" { 0.25 } else { 0.02 };
                assert!(
                    (other - variance).abs() <= allowed * variance + 1e-9,
                    "{name} {variance} {other}"
                );
            }
        }
    }

    #[test]
    fn names_and_largest_term() {
        let s = Setting::new(512, 64, 32, 2048);
        let n = Noise::of(&s);
        let b = attention::budget(&s);
        assert_eq!(n.dominant(), NOISE_NAMES[b.dominant()]);
        assert_eq!(n.spread(), b.spread());
    }
}
