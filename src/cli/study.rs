//! `recall study`: the formulas beside simulation on random configurations.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use recall_theory::{Attention, Embedding};

use super::setting::{EmbeddingName, LabelsName};
use super::{Answer, Failure, exit, output};
use crate::study::{self, Plan, Range, StudyError};

/// Most configurations of one study; their results are held in memory until the end.
const MAX_CONFIGURATIONS: usize = 1_000_000;

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
    /// Vocabulary size V
    #[arg(long, value_name = "LOW..HIGH", default_value = "128..4096")]
    pub vocab: Range,
    /// Embedding dimension d (never above V)
    #[arg(long, value_name = "LOW..HIGH", default_value = "16..256")]
    pub dim: Range,
    /// Sequence length L
    #[arg(long, value_name = "LOW..HIGH", default_value = "4..512")]
    pub len: Range,
    /// Training samples N
    #[arg(long, value_name = "LOW..HIGH", default_value = "64..1000000")]
    pub samples: Range,
    /// Most training samples per token of the vocabulary
    #[arg(long, value_name = "X", default_value_t = 64)]
    pub samples_per_token: u64,
    /// Most tokens N L of a batch
    #[arg(long, value_name = "X", default_value_t = 1 << 21)]
    pub max_tokens: u64,
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
        if self.max_tokens / self.len.high < self.samples.low {
            return Err(Failure::Usage(format!(
                "--max-tokens {}: too few for {} samples of length {}",
                self.max_tokens, self.samples.low, self.len.high
            )));
        }
        let input = Embedding::from(self.embedding);
        Ok(Plan {
            seed: self.seed,
            configurations: self.configurations.get(),
            vocab: self.vocab,
            dim: self.dim,
            len: self.len,
            samples: self.samples,
            samples_per_token: self.samples_per_token,
            tokens: self.max_tokens,
            input,
            output: self.output_embedding.map_or(input, Embedding::from),
            labels: self.labels.into(),
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
