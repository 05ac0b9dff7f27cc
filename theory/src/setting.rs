//! The setting of a prediction: task, embeddings, sample size, attention.

use serde::{Deserialize, Serialize};

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

/// A point at which theory and simulation are compared. Symbols as in the notes:
/// vocabulary `V`, dimensions `d_in`, `d_out`, length `L`, samples `N`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Setting {
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

#[cfg(test)]
mod tests {
    use super::*;

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
