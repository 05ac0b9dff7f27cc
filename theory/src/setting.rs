//! The setting of a prediction: task, embeddings, sample size, attention.

use serde::{Deserialize, Serialize};

use crate::activation::Activation;

/// Law of one embedding table (rows are tokens).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Embedding {
    /// Rows iid `N(0, I_d / d)`.
    #[default]
    Gaussian,
    /// Rows iid uniform on the unit sphere of `R^d`.
    Sphere,
    /// Gram matrix exactly the identity: one dimension per token.
    Orthonormal,
}

/// How the labels of the training batch are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    /// The informative token is uniform on the vocabulary.
    #[default]
    Iid,
    /// Sample `n` has class `n mod V`, so class counts differ by at most one.
    Balanced,
}

/// Number of training samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Samples {
    /// A finite batch.
    Finite(u64),
    /// The population gradient (the limit of infinite data).
    Infinite,
}

impl Samples {
    /// The sample size as a real number (`+inf` for the population).
    #[must_use]
    pub fn as_f64(self) -> f64 {
        match self {
            Samples::Finite(n) => n as f64,
            Samples::Infinite => f64::INFINITY,
        }
    }
}

impl Serialize for Samples {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Samples::Finite(n) => s.serialize_u64(*n),
            Samples::Infinite => s.serialize_str("infinite"),
        }
    }
}

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Samples;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a positive integer or \"infinite\"")
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Samples, E> {
                Ok(Samples::Finite(n))
            }
            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Samples, E> {
                u64::try_from(n)
                    .map(Samples::Finite)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(n), &self))
            }
            fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<Samples, E> {
                s.parse().map_err(E::custom)
            }
        }
        d.deserialize_any(Visitor)
    }
}

impl std::str::FromStr for Samples {
    type Err = SettingError;
    fn from_str(s: &str) -> Result<Self, SettingError> {
        if matches!(s, "inf" | "infinite") {
            return Ok(Samples::Infinite);
        }
        s.parse()
            .map(Samples::Finite)
            .map_err(|_| SettingError::Samples(s.to_owned()))
    }
}

/// How the trained query attends.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attention {
    /// All weight on the largest score (`gamma_w -> inf`), ties to the lowest position.
    #[default]
    Argmax,
    /// Softmax of `G w.k / T`: `G = gamma_w |z_EOS|^2 T` is the mean score advantage of the
    /// informative position, with `T` the mean signal of [`nominal_signal`](crate::attention::nominal_signal).
    Strength(f64),
}

/// What the hidden layer sees of the attention output `h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MlpInput {
    /// `h` itself.
    Raw,
    /// `h / |h|`, an RMS normalisation without gain (up to the factor `sqrt d`); gradients pass
    /// through it.
    #[default]
    Rms,
}

/// Law of the hidden layer's fixed weights `W`, `m x d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MlpRows {
    /// Rows iid `N(0, I_d)`.
    #[default]
    Gaussian,
    /// The same, less their mean: an intervention that removes the interaction of mean bias and
    /// hidden layer.
    Balanced,
}

/// The fixed random hidden layer of the attention-MLP model: `f_j = z_out(j)^T V phi(W h)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mlp {
    /// Activation `phi`.
    pub activation: Activation,
    /// Width `m`.
    pub width: usize,
    /// What the layer sees.
    #[serde(default, skip_serializing_if = "is_default")]
    pub input: MlpInput,
    /// Law of the weights.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rows: MlpRows,
}

fn is_default<T: Default + PartialEq>(x: &T) -> bool {
    *x == T::default()
}

/// Architecture between attention and the value matrix.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// `f_j = z_out(j)^T V h`.
    #[default]
    AttentionOnly,
    /// A fixed random hidden layer in between.
    Mlp(Mlp),
}

impl Model {
    /// The hidden layer, if there is one.
    #[must_use]
    pub fn mlp(&self) -> Option<&Mlp> {
        match self {
            Model::AttentionOnly => None,
            Model::Mlp(mlp) => Some(mlp),
        }
    }
}

/// A point at which theory and simulation are compared. Symbols as in the notes:
/// vocabulary `V`, dimensions `d_in`, `d_out`, length `L`, samples `N`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Architecture.
    #[serde(default, skip_serializing_if = "is_default")]
    pub model: Model,
    /// Vocabulary size `V`.
    pub vocab: usize,
    /// Sequence length `L`.
    pub len: usize,
    /// Sample size `N`.
    pub samples: Samples,
    /// Input embedding dimension; equals `vocab` when orthonormal.
    pub dim_in: usize,
    /// Output embedding dimension; equals `vocab` when orthonormal.
    pub dim_out: usize,
    /// Law of the input embedding.
    pub input: Embedding,
    /// Law of the output embedding.
    pub output: Embedding,
    /// Label distribution of the training batch.
    pub labels: Labels,
    /// Whether the trigger is added to the values as well as to the keys.
    pub trigger_in_values: bool,
    /// Attention used in step 3 and at test time.
    pub attention: Attention,
}

/// What is wrong with a setting, and where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// Vocabulary outside `2..=2^24`.
    #[error("vocab = {0}: the vocabulary must have 2 to 16777216 tokens")]
    Vocab(usize),
    /// Dimension outside `1..=2^20`.
    #[error("dim = {0}: an embedding dimension must be 1 to 1048576")]
    Dim(usize),
    /// An orthonormal table whose dimension is not `V`.
    #[error("dim = {dim}: an orthonormal embedding of {vocab} tokens has dimension {vocab}")]
    OrthonormalDim {
        /// What was asked for.
        dim: usize,
        /// What it must equal.
        vocab: usize,
    },
    /// Length outside `2..=2^20`.
    #[error(
        "len = {0}: a sequence must have 2 to 1048576 tokens (at len = 1 there is nothing to attend to)"
    )]
    Len(usize),
    /// Sample size zero or beyond `2^40`, or not a number.
    #[error("samples = {0}: must be 1 to 1099511627776, or \"infinite\"")]
    Samples(String),
    /// A strength that is not a positive finite number.
    #[error("strength = {0}: the attention strength G must be a positive finite number")]
    Strength(f64),
    /// A finite strength with the population gradient.
    #[error(
        "strength with samples = infinite: the population softmax has no closed form; use argmax attention or a finite sample size"
    )]
    StrengthOfPopulation,
    /// Hidden width outside `1..=2^20`.
    #[error("width = {0}: the hidden layer must have 1 to 1048576 units")]
    Width(usize),
    /// An activation with a parameter that is not finite.
    #[error("activation = {0}: every parameter must be a finite number")]
    Activation(Activation),
    /// A variant that the attention-MLP model does not have.
    #[error("{key} with an MLP: {problem}")]
    NotWithMlp {
        /// The key that asks for it.
        key: &'static str,
        /// Why it is not available, and what is.
        problem: &'static str,
    },
    /// A strength relative to a signal that is zero.
    #[error(
        "strength: the mean attention signal is zero here (balanced labels with samples <= vocab), so a strength relative to it has no meaning"
    )]
    NoSignal,
}

impl Setting {
    /// Gaussian embeddings of one dimension, iid labels, argmax attention.
    #[must_use]
    pub fn new(vocab: usize, dim: usize, len: usize, samples: u64) -> Self {
        Setting {
            model: Model::AttentionOnly,
            vocab,
            len,
            samples: Samples::Finite(samples),
            dim_in: dim,
            dim_out: dim,
            input: Embedding::Gaussian,
            output: Embedding::Gaussian,
            labels: Labels::Iid,
            trigger_in_values: false,
            attention: Attention::Argmax,
        }
    }

    /// Replaces both embedding laws; an orthonormal side takes dimension `V`.
    #[must_use]
    pub fn with_embeddings(mut self, input: Embedding, output: Embedding) -> Self {
        self.input = input;
        self.output = output;
        if input == Embedding::Orthonormal {
            self.dim_in = self.vocab;
        }
        if output == Embedding::Orthonormal {
            self.dim_out = self.vocab;
        }
        self
    }

    /// Puts a hidden layer between attention and the value matrix.
    #[must_use]
    pub fn with_mlp(mut self, mlp: Mlp) -> Self {
        self.model = Model::Mlp(mlp);
        self
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the first quantity that is out of range and what is allowed.
    pub fn validate(&self) -> Result<(), SettingError> {
        if !(2..=1 << 24).contains(&self.vocab) {
            return Err(SettingError::Vocab(self.vocab));
        }
        for (dim, law) in [(self.dim_in, self.input), (self.dim_out, self.output)] {
            if law == Embedding::Orthonormal {
                if dim != self.vocab {
                    return Err(SettingError::OrthonormalDim {
                        dim,
                        vocab: self.vocab,
                    });
                }
            } else if !(1..=1 << 20).contains(&dim) {
                return Err(SettingError::Dim(dim));
            }
        }
        if !(2..=1 << 20).contains(&self.len) {
            return Err(SettingError::Len(self.len));
        }
        if let Samples::Finite(n) = self.samples
            && !(1..=1 << 40).contains(&n)
        {
            return Err(SettingError::Samples(n.to_string()));
        }
        if let Model::Mlp(mlp) = &self.model {
            self.validate_mlp(mlp)?;
        }
        if let Attention::Strength(g) = self.attention {
            if !(g.is_finite() && g > 0.0) {
                return Err(SettingError::Strength(g));
            }
            if self.samples == Samples::Infinite {
                return Err(SettingError::StrengthOfPopulation);
            }
            if crate::attention::nominal_signal(self) <= 0.0 {
                return Err(SettingError::NoSignal);
            }
        }
        Ok(())
    }
}

impl Setting {
    fn validate_mlp(&self, mlp: &Mlp) -> Result<(), SettingError> {
        if !(1..=1 << 20).contains(&mlp.width) {
            return Err(SettingError::Width(mlp.width));
        }
        let parameters: &[f64] = match &mlp.activation {
            Activation::LeakyRelu { slope } => &[*slope],
            Activation::Abs { slope, shift } => &[*slope, *shift],
            Activation::Hermite { coefficients } => coefficients,
            _ => &[],
        };
        if parameters.iter().any(|x| !x.is_finite()) {
            return Err(SettingError::Activation(mlp.activation));
        }
        let refuse = |key, problem| Err(SettingError::NotWithMlp { key, problem });
        if self.input == Embedding::Orthonormal {
            return refuse(
                "embedding = orthonormal",
                "the hidden layer needs random inputs (gaussian or sphere); outputs may be orthonormal",
            );
        }
        if self.trigger_in_values {
            return refuse(
                "trigger_in_values",
                "values carry the token alone in the attention-MLP model",
            );
        }
        if self.samples == Samples::Infinite {
            return refuse(
                "samples = infinite",
                "the population gradient has no closed form here; use a finite sample size",
            );
        }
        if self.attention != Attention::Argmax {
            return refuse(
                "strength",
                "attention is saturated in the small-step limit; use the exact engine for finite step sizes",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_mlp_does_not_allow_is_named() {
        let mlp = Mlp {
            activation: Activation::Relu,
            width: 32,
            input: MlpInput::Rms,
            rows: MlpRows::Gaussian,
        };
        let good = Setting::new(64, 16, 8, 100).with_mlp(mlp);
        assert_eq!(good.validate(), Ok(()));
        let none = good.with_mlp(Mlp { width: 0, ..mlp });
        assert_eq!(none.validate(), Err(SettingError::Width(0)));
        let nan = Activation::LeakyRelu { slope: f64::NAN };
        let nan = good.with_mlp(Mlp {
            activation: nan,
            ..mlp
        });
        assert!(matches!(nan.validate(), Err(SettingError::Activation(_))));
        for (bad, name) in [
            (
                Setting {
                    trigger_in_values: true,
                    ..good
                },
                "trigger_in_values",
            ),
            (
                Setting {
                    samples: Samples::Infinite,
                    ..good
                },
                "samples = infinite",
            ),
            (
                Setting {
                    attention: Attention::Strength(2.0),
                    ..good
                },
                "strength",
            ),
            (
                good.with_embeddings(Embedding::Orthonormal, Embedding::Gaussian),
                "embedding = orthonormal",
            ),
        ] {
            let Err(SettingError::NotWithMlp { key, .. }) = bad.validate() else {
                panic!("{name}");
            };
            assert_eq!(key, name);
        }
        let outputs = good.with_embeddings(Embedding::Sphere, Embedding::Orthonormal);
        assert_eq!(outputs.validate(), Ok(()));
    }

    #[test]
    fn each_bad_value_is_named() {
        let good = Setting::new(64, 16, 8, 100);
        assert_eq!(good.validate(), Ok(()));
        assert_eq!(
            Setting { vocab: 1, ..good }.validate(),
            Err(SettingError::Vocab(1))
        );
        assert_eq!(
            Setting { dim_in: 0, ..good }.validate(),
            Err(SettingError::Dim(0))
        );
        assert_eq!(
            Setting { len: 1, ..good }.validate(),
            Err(SettingError::Len(1))
        );
        let none = Setting {
            samples: Samples::Finite(0),
            ..good
        };
        assert!(matches!(none.validate(), Err(SettingError::Samples(_))));
        let weak = Setting {
            attention: Attention::Strength(-1.0),
            ..good
        };
        assert_eq!(weak.validate(), Err(SettingError::Strength(-1.0)));
        let ortho = Setting {
            output: Embedding::Orthonormal,
            ..good
        };
        assert!(matches!(
            ortho.validate(),
            Err(SettingError::OrthonormalDim { .. })
        ));
    }

    #[test]
    fn samples_read_back() {
        for s in [Samples::Finite(12), Samples::Infinite] {
            let text = serde_json::to_string(&s).unwrap();
            assert_eq!(serde_json::from_str::<Samples>(&text).unwrap(), s);
        }
        assert!(serde_json::from_str::<Samples>("-3").is_err());
    }
}
