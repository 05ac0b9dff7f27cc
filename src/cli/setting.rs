//! Options that describe a setting, shared by the sub-commands.

use clap::ValueEnum;
use recall_theory::{
    Activation, Attention, Embedding, Labels, Mlp, MlpInput, MlpRows, Model, Samples, Setting,
};

use super::Failure;

/// Law of an embedding table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EmbeddingName {
    /// Rows iid N(0, I/d).
    Gaussian,
    /// Rows uniform on the unit sphere.
    Sphere,
    /// Gram matrix exactly the identity; the dimension is V.
    Orthonormal,
}

impl From<EmbeddingName> for Embedding {
    fn from(name: EmbeddingName) -> Self {
        match name {
            EmbeddingName::Gaussian => Embedding::Gaussian,
            EmbeddingName::Sphere => Embedding::Sphere,
            EmbeddingName::Orthonormal => Embedding::Orthonormal,
        }
    }
}

/// Label distribution of the training batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LabelsName {
    /// The informative token is uniform.
    Iid,
    /// Class counts differ by at most one.
    Balanced,
}

impl From<LabelsName> for Labels {
    fn from(name: LabelsName) -> Self {
        match name {
            LabelsName::Iid => Labels::Iid,
            LabelsName::Balanced => Labels::Balanced,
        }
    }
}

/// What the hidden layer sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MlpInputName {
    /// The attention output h.
    Raw,
    /// h / |h|.
    Rms,
}

impl From<MlpInputName> for MlpInput {
    fn from(name: MlpInputName) -> Self {
        match name {
            MlpInputName::Raw => MlpInput::Raw,
            MlpInputName::Rms => MlpInput::Rms,
        }
    }
}

/// Law of the hidden layer's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MlpRowsName {
    /// Rows iid N(0, I).
    Gaussian,
    /// The same, less their mean.
    Balanced,
}

impl From<MlpRowsName> for MlpRows {
    fn from(name: MlpRowsName) -> Self {
        match name {
            MlpRowsName::Gaussian => MlpRows::Gaussian,
            MlpRowsName::Balanced => MlpRows::Balanced,
        }
    }
}

pub(super) fn activation(text: &str) -> Result<Activation, String> {
    text.parse()
        .map_err(|_| format!("one of {}", Activation::FORMS))
}

fn samples(text: &str) -> Result<Samples, String> {
    text.parse()
        .map_err(|_| "a positive integer or \"inf\" (the population gradient)".to_owned())
}

/// A setting, by options.
#[derive(Debug, Clone, clap::Args)]
pub struct SettingArgs {
    /// Vocabulary size V, at least 2
    #[arg(long, value_name = "V", allow_negative_numbers = true)]
    pub vocab: usize,
    /// Embedding dimension d of both sides; not needed where both are orthonormal
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    pub dim: Option<usize>,
    /// Dimension of the output embedding, where it differs
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    pub output_dim: Option<usize>,
    /// Sequence length L, at least 2
    #[arg(long, value_name = "L", allow_negative_numbers = true)]
    pub len: usize,
    /// Training samples N, or "inf" for the population gradient
    #[arg(long, value_name = "N", value_parser = samples, allow_negative_numbers = true)]
    pub samples: Samples,
    /// Law of both embeddings
    #[arg(long, value_enum, value_name = "LAW", default_value = "gaussian")]
    pub embedding: EmbeddingName,
    /// Law of the output embedding, where it differs
    #[arg(long, value_enum, value_name = "LAW")]
    pub output_embedding: Option<EmbeddingName>,
    /// Labels of the training batch
    #[arg(long, value_enum, value_name = "LAW", default_value = "iid")]
    pub labels: LabelsName,
    /// Add the trigger to the values as well as to the keys
    #[arg(long)]
    pub trigger_in_values: bool,
    /// Finite attention strength G (mean score advantage of the informative position); without
    /// it attention is saturated
    #[arg(long, value_name = "G", allow_negative_numbers = true)]
    pub strength: Option<f64>,
    /// Put a fixed random hidden layer with this activation between attention and output: relu,
    /// abs:0.3,1, hermite-2, ...
    #[arg(long, value_name = "PHI", value_parser = activation, requires = "width")]
    pub activation: Option<Activation>,
    /// Width m of the hidden layer
    #[arg(
        long,
        value_name = "M",
        requires = "activation",
        allow_negative_numbers = true
    )]
    pub width: Option<usize>,
    /// What the hidden layer sees: the attention output, or that over its norm
    #[arg(
        long,
        value_enum,
        value_name = "FORM",
        default_value = "rms",
        requires = "activation"
    )]
    pub mlp_input: MlpInputName,
    /// Weights of the hidden layer
    #[arg(
        long,
        value_enum,
        value_name = "LAW",
        default_value = "gaussian",
        requires = "activation"
    )]
    pub mlp_rows: MlpRowsName,
}

impl SettingArgs {
    /// The setting, checked.
    ///
    /// # Errors
    /// Names the first quantity that is out of range and what is allowed.
    pub fn setting(&self) -> Result<Setting, Failure> {
        let input = Embedding::from(self.embedding);
        let output = self.output_embedding.map_or(input, Embedding::from);
        let side = |law: Embedding, given: Option<usize>| match (law, given) {
            (_, Some(dim)) => Ok(dim),
            (Embedding::Orthonormal, None) => Ok(self.vocab),
            (_, None) => Err(Failure::Usage(
                "--dim is missing: the dimension of an embedding that is not orthonormal"
                    .to_owned(),
            )),
        };
        // With one side orthonormal, --dim speaks of the other.
        let shared = |law: Embedding, other: Embedding| match law {
            Embedding::Orthonormal if other != law => None,
            _ => self.dim,
        };
        let model = match (self.activation, self.width) {
            (Some(activation), Some(width)) => Model::Mlp(Mlp {
                activation,
                width,
                input: self.mlp_input.into(),
                rows: self.mlp_rows.into(),
            }),
            _ => Model::AttentionOnly,
        };
        let setting = Setting {
            model,
            vocab: self.vocab,
            len: self.len,
            samples: self.samples,
            dim_in: side(input, shared(input, output))?,
            dim_out: side(output, self.output_dim.or(shared(output, input)))?,
            input,
            output,
            labels: self.labels.into(),
            trigger_in_values: self.trigger_in_values,
            attention: self.strength.map_or(Attention::Argmax, Attention::Strength),
        };
        setting
            .validate()
            .map_err(|e| Failure::Usage(e.to_string()))?;
        Ok(setting)
    }
}
