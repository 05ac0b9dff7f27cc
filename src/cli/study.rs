//! `recall study`: the formulas beside simulation on random configurations.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ValueEnum;
use recall_theory::{Activation, Attention, Embedding, Labels};

use super::setting::{EmbeddingName, LabelsName, MlpInputName, MlpRowsName, activation};
use super::{Answer, Failure, exit, output};
use crate::study::{self, HiddenPlan, Plan, Range, StudyError};

/// Most configurations of one study; their results are held in memory until the end.
const MAX_CONFIGURATIONS: usize = 1_000_000;

/// Architecture whose formulas are studied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModelName {
    /// Attention, then the value matrix.
    AttentionOnly,
    /// A fixed random hidden layer in between.
    Mlp,
}

impl ModelName {
    /// Ranges that are used where none is given: `V`, `d`, `L`.
    fn ranges(self) -> [Range; 3] {
        let range = |low, high| Range { low, high };
        match self {
            ModelName::AttentionOnly => [range(128, 4096), range(16, 256), range(4, 512)],
            ModelName::Mlp => [range(128, 1024), range(16, 192), range(4, 96)],
        }
    }
}

/// Arguments of `study`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Sizes are log-uniform. The same options give the same configurations, trials and numbers on any number of threads."
)]
pub struct Args {
    /// How many configurations
    #[arg(long, value_name = "K", default_value = "100")]
    pub configurations: NonZeroUsize,
    /// Seed of the configurations
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,
    /// Architecture
    #[arg(
        long,
        value_enum,
        value_name = "MODEL",
        default_value = "attention-only"
    )]
    pub model: ModelName,
    /// Vocabulary size V [default: 128..4096; mlp: 128..1024]
    #[arg(long, value_name = "LOW..HIGH")]
    pub vocab: Option<Range>,
    /// Embedding dimension d, never above V [default: 16..256; mlp: 16..192]
    #[arg(long, value_name = "LOW..HIGH")]
    pub dim: Option<Range>,
    /// Sequence length L [default: 4..512; mlp: 4..96]
    #[arg(long, value_name = "LOW..HIGH")]
    pub len: Option<Range>,
    /// Width m of the hidden layer [default: 16..2048]
    #[arg(long, value_name = "LOW..HIGH")]
    pub width: Option<Range>,
    /// Activation of the hidden layer; drawn if it is not given
    #[arg(long, value_name = "PHI", value_parser = activation)]
    pub activation: Option<Activation>,
    /// What the hidden layer sees; drawn if it is not given
    #[arg(long, value_enum, value_name = "FORM")]
    pub mlp_input: Option<MlpInputName>,
    /// Weights of the hidden layer; drawn if they are not given
    #[arg(long, value_enum, value_name = "LAW")]
    pub mlp_rows: Option<MlpRowsName>,
    /// Training samples N
    #[arg(long, value_name = "LOW..HIGH", default_value = "64..1000000")]
    pub samples: Range,
    /// Most training samples per token of the vocabulary [default: 64; mlp: 16]
    #[arg(long, value_name = "X")]
    pub samples_per_token: Option<u64>,
    /// Most tokens N L of a batch
    #[arg(long, value_name = "X", default_value_t = 1 << 21)]
    pub max_tokens: u64,
    /// Law of both embeddings [default: gaussian; mlp: drawn]
    #[arg(long, value_enum, value_name = "LAW")]
    pub embedding: Option<EmbeddingName>,
    /// Law of the output embedding, where it differs
    #[arg(long, value_enum, value_name = "LAW")]
    pub output_embedding: Option<EmbeddingName>,
    /// Labels of the training batch [default: iid; mlp: drawn]
    #[arg(long, value_enum, value_name = "LAW")]
    pub labels: Option<LabelsName>,
    /// Add the trigger to the values as well as to the keys
    #[arg(long)]
    pub trigger_in_values: bool,
    /// Finite attention strength G; without it attention is saturated
    #[arg(long, value_name = "G")]
    pub strength: Option<f64>,
    /// Keep configurations whose predicted attention accuracy is at least this
    #[arg(long, value_name = "A", requires = "attention_below")]
    pub attention_above: Option<f64>,
    /// ... and at most this
    #[arg(long, value_name = "A", requires = "attention_above")]
    pub attention_below: Option<f64>,
    /// Relative standard error of the spread to aim at
    #[arg(long, value_name = "X", default_value_t = 0.02)]
    pub standard_error: f64,
    /// Fewest trials of a configuration
    #[arg(long, value_name = "R", default_value_t = 12)]
    pub min_trials: u64,
    /// Most trials of a configuration
    #[arg(long, value_name = "R", default_value_t = 1000)]
    pub max_trials: u64,
    /// Most estimated seconds of simulation of a configuration, on one core
    #[arg(long, value_name = "X", default_value_t = 10.0)]
    pub max_seconds: f64,
    /// Fresh sequences per trial
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub test_sequences: usize,
    /// Isolate the noise terms too (about four times the time)
    #[arg(long)]
    pub decompose: bool,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "T")]
    pub threads: Option<NonZeroUsize>,
    /// Title of the section
    #[arg(long, value_name = "TEXT", default_value = "Random configurations")]
    pub title: String,
    /// Write the tables to this Markdown file instead of printing them
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write all rows to this JSON file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Args {
    /// The hidden layers that are asked for.
    fn hidden(&self) -> Result<Option<HiddenPlan>, Failure> {
        let given = [
            (self.width.is_some(), "--width"),
            (self.activation.is_some(), "--activation"),
            (self.mlp_input.is_some(), "--mlp-input"),
            (self.mlp_rows.is_some(), "--mlp-rows"),
        ];
        let refused = match self.model {
            ModelName::AttentionOnly => given
                .into_iter()
                .find(|g| g.0)
                .map(|g| format!("{}: there is no hidden layer; add --model mlp", g.1)),
            ModelName::Mlp => [
                (self.decompose, "--decompose"),
                (self.trigger_in_values, "--trigger-in-values"),
                (self.strength.is_some(), "--strength"),
            ]
            .into_iter()
            .find(|g| g.0)
            .map(|g| format!("{}: not available with --model mlp", g.1)),
        };
        if let Some(message) = refused {
            return Err(Failure::Usage(message));
        }
        Ok((self.model == ModelName::Mlp).then(|| HiddenPlan {
            width: self.width.unwrap_or(Range {
                low: 16,
                high: 2048,
            }),
            activation: self.activation,
            input: self.mlp_input.map(Into::into),
            rows: self.mlp_rows.map(Into::into),
        }))
    }

    fn plan(&self) -> Result<Plan, Failure> {
        for (name, x) in [
            ("--standard-error", self.standard_error),
            ("--max-seconds", self.max_seconds),
        ] {
            if !(x.is_finite() && x > 0.0) {
                return Err(Failure::Usage(format!("{name} {x}: must be positive")));
            }
        }
        if self.min_trials < 2 || self.max_trials < self.min_trials {
            return Err(Failure::Usage(format!(
                "--min-trials {} and --max-trials {}: at least 2, in this order",
                self.min_trials, self.max_trials
            )));
        }
        if self.configurations.get() > MAX_CONFIGURATIONS {
            return Err(Failure::Usage(format!(
                "--configurations {}: at most {MAX_CONFIGURATIONS}",
                self.configurations
            )));
        }
        let [vocab, dim, len] = self.model.ranges();
        let len = self.len.unwrap_or(len);
        if self.max_tokens / len.high < self.samples.low {
            return Err(Failure::Usage(format!(
                "--max-tokens {}: too few for {} samples of length {}",
                self.max_tokens, self.samples.low, len.high
            )));
        }
        let hidden = self.hidden()?;
        // What is not given is drawn with a hidden layer and plain without one.
        let plain = |law| hidden.is_none().then_some(law);
        let input = self
            .embedding
            .map_or(plain(Embedding::Gaussian), |e| Some(e.into()));
        Ok(Plan {
            seed: self.seed,
            configurations: self.configurations.get(),
            vocab: self.vocab.unwrap_or(vocab),
            dim: self.dim.unwrap_or(dim),
            len,
            samples: self.samples,
            samples_per_token: self.samples_per_token.unwrap_or(if hidden.is_some() {
                16
            } else {
                64
            }),
            tokens: self.max_tokens,
            input,
            output: self.output_embedding.map_or(input, |e| Some(e.into())),
            labels: self
                .labels
                .map_or(hidden.is_none().then_some(Labels::Iid), |l| Some(l.into())),
            hidden,
            trigger_in_values: self.trigger_in_values,
            attention: self.strength.map_or(Attention::Argmax, Attention::Strength),
            attention_between: self.attention_above.zip(self.attention_below),
            standard_error: self.standard_error,
            min_trials: self.min_trials,
            max_trials: self.max_trials,
            max_seconds: self.max_seconds,
            test_sequences: self.test_sequences,
            decompose: self.decompose,
        })
    }
}

/// The command line that was given, output options left out.
fn command() -> String {
    let mut words = vec!["recall".to_owned()];
    let mut skip = false;
    for word in std::env::args().skip(1) {
        let output = ["--out", "--json", "--title", "--threads"];
        if skip {
            skip = false;
        } else if output.contains(&word.as_str()) {
            skip = true;
        } else if !output.iter().any(|o| word.starts_with(&format!("{o}="))) {
            words.push(word);
        }
    }
    words.join(" ")
}

/// Runs `study`.
///
/// # Errors
/// If the options are out of range, no configuration fits them, or a file cannot be written.
pub fn run(args: &Args) -> Answer {
    let plan = args.plan()?;
    let threads = args
        .threads
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get);
    let total = plan.configurations;
    let report = |done: usize| {
        if done.is_multiple_of(10) || done == total {
            output::note(&format!("{done} of {total} configurations"));
        }
    };
    let study = study::run(&plan, threads, &report).map_err(|e| match e {
        StudyError::Empty { .. } => Failure::Usage(e.to_string()),
        other => Failure::Error(other.to_string()),
    })?;
    if let Some(path) = &args.json {
        let mut text = serde_json::to_string(&study)
            .map_err(|e| Failure::Error(format!("--json {}: {e}", path.display())))?;
        text.push('\n');
        output::write_file(path, &text)?;
    }
    let text = study.markdown(&args.title, &command());
    match &args.out {
        Some(path) => output::write_file(path, &text)?,
        None => output::print(&text)?,
    }
    Ok(exit::OK)
}
