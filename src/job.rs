//! A job is (configuration, seed) and nothing else.

use recall_theory::{Attention, Embedding, Labels, Samples, Setting, SettingError};
use serde::{Deserialize, Serialize};

use crate::descent::early::{self, Outcome, Training, Trial};
use crate::embedding::Embeddings;
use crate::linalg::{Real, kernel_name};
use crate::rng::{Purpose, RNG_SCHEME, StreamKey, sha256_hex};
use crate::task::{Batch, Permutation};

/// Version of the record layout.
pub const SCHEMA: u32 = 1;

/// Architecture between attention and output. Part of every key from the first version on, so
/// that models added later cannot collide with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// `f_j = z_out(j)^T V h`; neither activation nor width.
    #[default]
    AttentionOnly,
}

/// Where an embedding table comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Drawn from its law, afresh for every seed.
    #[default]
    Random,
}

/// One embedding table of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableChoice {
    /// Law of the rows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub law: Embedding,
    /// Dimension.
    pub dim: usize,
    /// Where the rows come from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source: Source,
}

/// Gradient-descent engine.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Engine {
    /// The small-step limit, by counting.
    #[default]
    Early,
}

/// Floating-point precision of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 64-bit.
    #[default]
    F64,
    /// 32-bit.
    F32,
}

/// All that determines a measurement but its seed. Defaults are omitted from the canonical text,
/// so a field added later leaves the keys of older records as they are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Architecture; always written.
    pub model: Model,
    /// Vocabulary size `V`.
    pub vocab: usize,
    /// Sequence length `L`.
    pub len: usize,
    /// Sample size `N`.
    pub samples: Samples,
    /// Input embedding.
    pub input: TableChoice,
    /// Output embedding.
    pub output: TableChoice,
    /// Label distribution of the training batch.
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: Labels,
    /// Whether values carry the trigger.
    #[serde(default, skip_serializing_if = "is_default")]
    pub trigger_in_values: bool,
    /// Attention of step 3 and of the test.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attention: Attention,
    /// Engine.
    #[serde(default, skip_serializing_if = "is_default")]
    pub engine: Engine,
    /// Precision of the engine.
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: Precision,
    /// Number of fresh sequences.
    #[serde(default = "default_test", skip_serializing_if = "is_default_test")]
    pub test_sequences: usize,
    /// Whether the noise terms are isolated.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decompose: bool,
}

/// Default number of fresh test sequences of a trial.
pub const TEST_SEQUENCES: usize = 2048;

fn default_test() -> usize {
    TEST_SEQUENCES
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands a reference
fn is_default_test(n: &usize) -> bool {
    *n == TEST_SEQUENCES
}

fn is_default<T: Default + PartialEq>(x: &T) -> bool {
    *x == T::default()
}

impl Configuration {
    /// The configuration that simulates a setting, everything else at its default.
    #[must_use]
    pub fn of(s: &Setting) -> Self {
        Configuration {
            model: Model::AttentionOnly,
            vocab: s.vocab,
            len: s.len,
            samples: s.samples,
            input: TableChoice {
                law: s.input,
                dim: s.dim_in,
                source: Source::Random,
            },
            output: TableChoice {
                law: s.output,
                dim: s.dim_out,
                source: Source::Random,
            },
            labels: s.labels,
            trigger_in_values: s.trigger_in_values,
            attention: s.attention,
            engine: Engine::Early,
            precision: Precision::F64,
            test_sequences: TEST_SEQUENCES,
            decompose: false,
        }
    }

    /// What the theory sees of it.
    #[must_use]
    pub fn setting(&self) -> Setting {
        Setting {
            vocab: self.vocab,
            len: self.len,
            samples: self.samples,
            dim_in: self.input.dim,
            dim_out: self.output.dim,
            input: self.input.law,
            output: self.output.law,
            labels: self.labels,
            trigger_in_values: self.trigger_in_values,
            attention: self.attention,
        }
    }
}

/// Axes that paired jobs share their random draws across.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// `V`.
    Vocab,
    /// `d`, both sides.
    Dim,
    /// `L`.
    Len,
    /// `N`: a smaller batch is then a prefix of a larger one.
    Samples,
}

/// One unit of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// What is simulated.
    pub config: Configuration,
    /// Replicate number; the unit of replication.
    pub seed: u64,
    /// Axes across which draws are common (sorted); empty unless an experiment asks for pairing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paired: Vec<Axis>,
}

impl Job {
    /// Canonical JSON: keys sorted, defaults omitted, random-number scheme included.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.canonical_value().to_string()
    }

    fn canonical_value(&self) -> serde_json::Value {
        // Plain data without maps or non-string keys always serialises.
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["rng_scheme"] = RNG_SCHEME.into();
        value
    }

    /// Key of the record: SHA-256 of the canonical text.
    #[must_use]
    pub fn key(&self) -> String {
        sha256_hex(&self.canonical())
    }

    /// Key of the random streams: that of the record, less what is only measured (`decompose`,
    /// `test_sequences`, `precision`) and less the paired axes.
    #[must_use]
    pub fn stream_key(&self) -> StreamKey {
        let mut value = self.canonical_value();
        if let Some(config) = value["config"].as_object_mut() {
            for name in ["decompose", "test_sequences", "precision"] {
                config.remove(name);
            }
            for axis in &self.paired {
                match axis {
                    Axis::Vocab => {
                        config.remove("vocab");
                    }
                    Axis::Len => {
                        config.remove("len");
                    }
                    Axis::Samples => {
                        config.remove("samples");
                    }
                    Axis::Dim => {
                        for side in ["input", "output"] {
                            if let Some(table) = config
                                .get_mut(side)
                                .and_then(serde_json::Value::as_object_mut)
                            {
                                table.remove("dim");
                            }
                        }
                    }
                }
            }
        }
        StreamKey::from_text(&value.to_string())
    }

    /// Runs the job.
    ///
    /// # Errors
    /// If the configuration is out of range or asks for what the engine cannot do.
    pub fn run(&self) -> Result<Record, JobError> {
        let setting = self.config.setting();
        setting.validate()?;
        if self.config.test_sequences == 0 {
            return Err(JobError::NoTestSequences);
        }
        let (outcome, kernel) = match self.config.precision {
            Precision::F64 => (self.simulate::<f64>(&setting), kernel_name::<f64>()),
            Precision::F32 => (self.simulate::<f32>(&setting), kernel_name::<f32>()),
        };
        Ok(Record {
            schema: SCHEMA,
            rng_scheme: RNG_SCHEME,
            key: self.key(),
            kernel,
            job: self.clone(),
            outcome,
        })
    }

    fn simulate<R: Real>(&self, setting: &Setting) -> Outcome {
        let key = self.stream_key();
        let embeddings = Embeddings::<R>::draw(setting, &key);
        let permutation = Permutation::random(setting.vocab, &mut key.stream(Purpose::Permutation));
        let draw = |purpose, samples, labels| {
            Batch::draw(
                &mut key.stream(purpose),
                &permutation,
                setting.len,
                samples,
                labels,
            )
        };
        let test = draw(Purpose::Test, self.config.test_sequences, Labels::Iid);
        let batch = match setting.samples {
            Samples::Infinite => None,
            Samples::Finite(n) => Some(draw(Purpose::Train, n as usize, setting.labels)),
        };
        let trial = Trial {
            setting,
            embeddings: &embeddings,
            permutation: &permutation,
            training: batch.as_ref().map_or(Training::Population, Training::Batch),
            test: &test,
            decompose: self.config.decompose,
        };
        early::run(&trial).0
    }

    /// Rough cost of the job, for scheduling (longest first), `--dry-run` and the memory check.
    #[must_use]
    pub fn cost(&self) -> Cost {
        let c = &self.config;
        let (v, l) = (c.vocab as f64, c.len as f64);
        let n = match c.samples {
            Samples::Finite(n) => n as f64,
            Samples::Infinite => 0.0,
        };
        let side = |t: &TableChoice| {
            if t.law == Embedding::Orthonormal {
                0.0
            } else {
                t.dim as f64
            }
        };
        let (di, d_out) = (side(&c.input), side(&c.output));
        let width = match c.precision {
            Precision::F32 => 4.0,
            Precision::F64 => 8.0,
        };
        let (gemm, scan) = (6.0e-12 * width, 0.6e-9);
        let maps = if c.decompose { 7.0 } else { 2.5 };
        let tokens = (n + c.test_sequences as f64) * (l + 1.0);
        let seconds = 2e-3
            + maps * (2.0 * v * v * (di + 1.0) + 2.0 * v * di * d_out) * gemm
            + maps * v * v * scan
            + v * (di + d_out) * 8e-9
            + tokens * (6e-9 + maps * 2.5e-9);
        let stored = match (di > 0.0, d_out > 0.0) {
            (true, true) => di * d_out,
            (true, false) => v * di,
            (false, true) => v * d_out,
            (false, false) => 0.0,
        };
        let bytes = width * (v * (di + 2.0 * d_out) + 2.0 * stored)
            + 4.0 * tokens
            + 80.0 * v
            + 16.0 * n
            + 4.0 * f64::from(1 << 20);
        Cost { seconds, bytes }
    }
}

/// Estimate of what a job takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Seconds on one core.
    pub seconds: f64,
    /// Peak bytes.
    pub bytes: f64,
}

/// Why a job cannot run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// A size or parameter is out of range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Accuracies need fresh sequences.
    #[error("test_sequences = 0: accuracies need at least one fresh sequence")]
    NoTestSequences,
}

/// What a finished job leaves behind: raw counts and second moments of one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Layout version, [`SCHEMA`].
    pub schema: u32,
    /// Version of the random-number scheme, [`RNG_SCHEME`].
    pub rng_scheme: u32,
    /// Key of the job.
    pub key: String,
    /// Kernel that made the numbers.
    pub kernel: String,
    /// The job.
    pub job: Job,
    /// The measurement.
    pub outcome: Outcome,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            config: Configuration::of(&Setting::new(64, 16, 8, 200)),
            seed: 3,
            paired: vec![],
        }
    }

    #[test]
    fn canonical_text_omits_defaults_and_reads_back() {
        let job = job();
        assert_eq!(
            job.canonical(),
            r#"{"config":{"input":{"dim":16},"len":8,"model":"attention-only","output":{"dim":16},"samples":200,"vocab":64},"rng_scheme":1,"seed":3}"#
        );
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
    }

    #[test]
    fn measuring_more_changes_the_key_but_not_the_draws() {
        let plain = job();
        let mut more = job();
        more.config.decompose = true;
        assert_ne!(plain.key(), more.key());
        assert_eq!(plain.stream_key(), more.stream_key());
        let (a, b) = (plain.run().unwrap().outcome, more.run().unwrap().outcome);
        assert_eq!(a, Outcome { noise: None, ..b });
    }

    #[test]
    fn draws_are_common_only_where_pairing_is_asked_for() {
        let mut other = job();
        other.config.samples = Samples::Finite(400);
        assert_ne!(job().stream_key(), other.stream_key());
        let pair = |j: &Job| {
            Job {
                paired: vec![Axis::Samples],
                ..j.clone()
            }
            .stream_key()
        };
        assert_eq!(pair(&job()), pair(&other));
        assert_ne!(pair(&job()), job().stream_key());
    }
}
