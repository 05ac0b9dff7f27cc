//! A job is (configuration, seed) and nothing else.

pub use recall_theory::Model;
use recall_theory::{Attention, Embedding, Labels, Samples, Setting, SettingError};
use serde::{Deserialize, Serialize};

use crate::decode::{self, DecoderSet, FirstGradient};
use crate::descent::early::{self, Count, Outcome, Training, Trial};
use crate::descent::exact::{self, Learned, Problem, ProblemError};
use crate::descent::hidden::Hidden;
use crate::descent::samples::Data;
use crate::descent::{Rates, mlp};
use crate::embedding::{Embeddings, Table};
use crate::linalg::{Matrix, Real, View, argmax, gemm, kernel_name};
use crate::rng::{Purpose, RNG_SCHEME, StreamKey, sha256_hex};
use crate::task::{Batch, Permutation, Stream};

/// Version of the record layout.
pub const SCHEMA: u32 = 1;

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
    /// The literal algorithm at finite step sizes. Attention is the softmax that `gamma_w`
    /// makes, so [`Configuration::attention`] stays at its default and is not read.
    Exact {
        /// First step on the value matrix.
        eta: f64,
        /// Step on the key-query matrix.
        gamma_w: f64,
        /// Second step on the value matrix.
        gamma_v: f64,
    },
}

impl Engine {
    /// Step sizes of the exact engine.
    #[must_use]
    pub fn rates(self) -> Option<Rates> {
        match self {
            Engine::Early => None,
            Engine::Exact {
                eta,
                gamma_w,
                gamma_v,
            } => Some(Rates {
                eta,
                gamma_w,
                gamma_v,
            }),
        }
    }
}

/// Most samples of a training batch or test set: engines index samples by 32 bits.
const MAX_SAMPLES: u64 = u32::MAX as u64;

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
    /// Architecture; always written, from the first version on, so that the keys of models added
    /// later cannot collide with older ones.
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
    /// Decoders of the first gradient that are measured as well.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decoders: DecoderSet,
    /// Noise `kappa` added to the gradient before it is decoded, in units of the covariance of its
    /// own sampling noise; the engines never see it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub oracle_noise: f64,
    /// Whether the attention query of step 2 is also read beside the first gradient.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_query: bool,
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
            model: s.model,
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
            decoders: DecoderSet::default(),
            oracle_noise: 0.0,
            read_query: false,
        }
    }

    /// What the theory sees of it.
    #[must_use]
    pub fn setting(&self) -> Setting {
        Setting {
            model: self.model,
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
    /// `m`: a narrower hidden layer is then a prefix of a wider one.
    Width,
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
    /// `decoders`, `oracle_noise`, `read_query`, `test_sequences`), less how it is computed (`engine`, `precision`: both engines see the
    /// same vectors and sequences) and less the paired axes.
    #[must_use]
    pub fn stream_key(&self) -> StreamKey {
        let mut value = self.canonical_value();
        if let Some(config) = value["config"].as_object_mut() {
            for name in [
                "decompose",
                "decoders",
                "oracle_noise",
                "read_query",
                "test_sequences",
                "engine",
                "precision",
            ] {
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
                    Axis::Width => {
                        if let Some(mlp) = config
                            .get_mut("model")
                            .and_then(|m| m.get_mut("mlp"))
                            .and_then(serde_json::Value::as_object_mut)
                        {
                            mlp.remove("width");
                        }
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

    /// Checks everything that [`Job::run`] would refuse, without running it.
    ///
    /// # Errors
    /// If the configuration is out of range or asks for what the engine cannot do.
    pub fn validate(&self) -> Result<(), JobError> {
        let c = &self.config;
        c.setting().validate()?;
        if c.model.mlp().is_some() {
            for (asked, name) in [
                (c.decompose, "decompose"),
                (!c.decoders.is_empty(), "decoders"),
                (c.read_query, "read_query"),
            ] {
                if asked {
                    return Err(JobError::NotWithMlp(name));
                }
            }
        }
        if c.test_sequences == 0 {
            return Err(JobError::NoTestSequences);
        }
        let mut sizes = vec![("test_sequences", c.test_sequences as u64)];
        if let Samples::Finite(n) = c.samples {
            sizes.push(("samples", n));
        }
        for (name, found) in sizes {
            if found > MAX_SAMPLES {
                return Err(JobError::TooManySamples { name, found });
            }
        }
        if c.read_query && (c.trigger_in_values || c.input.law == Embedding::Orthonormal) {
            return Err(JobError::QueryOfOther);
        }
        if !c.decoders.is_empty() || c.read_query {
            if c.vocab > decode::MAX_VOCAB {
                return Err(JobError::VocabOfDecoders(c.vocab));
            }
            if c.samples == Samples::Infinite || c.engine != Engine::Early {
                return Err(JobError::DecodersOfOther);
            }
        }
        let kappa = c.oracle_noise;
        if !(kappa.is_finite() && kappa >= 0.0) || (kappa > 0.0 && c.decoders.is_empty()) {
            return Err(JobError::OracleNoise(kappa));
        }
        let Some(rates) = c.engine.rates() else {
            return Ok(());
        };
        for (name, found) in [
            ("eta", rates.eta),
            ("gamma_w", rates.gamma_w),
            ("gamma_v", rates.gamma_v),
        ] {
            if !(found.is_finite() && found > 0.0) {
                return Err(JobError::Rate { name, found });
            }
        }
        if c.samples == Samples::Infinite {
            return Err(JobError::PopulationOfExact);
        }
        if c.attention != Attention::Argmax {
            return Err(JobError::StrengthOfExact);
        }
        if c.decompose {
            return Err(JobError::PartsOfExact);
        }
        Ok(())
    }

    /// Runs the job.
    ///
    /// # Errors
    /// If the configuration is out of range or asks for what the engine cannot do, or if the
    /// step sizes overflow.
    pub fn run(&self) -> Result<Record, JobError> {
        self.validate()?;
        let setting = self.config.setting();
        let (outcome, kernel) = match self.config.precision {
            Precision::F64 => (self.simulate::<f64>(&setting)?, kernel_name::<f64>()),
            Precision::F32 => (self.simulate::<f32>(&setting)?, kernel_name::<f32>()),
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

    fn simulate<R: Real>(&self, setting: &Setting) -> Result<Outcome, JobError> {
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
        // Sequences are stored only for what walks them more than once in the order of samples.
        let stored = self.config.engine != Engine::Early
            || self.config.read_query
            || !self.config.decoders.is_empty();
        let batch = match setting.samples {
            Samples::Finite(n) if stored => Some(draw(Purpose::Train, n as usize, setting.labels)),
            _ => None,
        };
        let hidden = setting
            .model
            .mlp()
            .map(|mlp| Hidden::draw(mlp, setting.dim_in, &key));
        if let Some(rates) = self.config.engine.rates() {
            let train = batch.as_ref().ok_or(JobError::PopulationOfExact)?;
            let query = embeddings.draw_query(setting.input, &key);
            let seen = |batch| {
                Problem::new(&embeddings, &query, batch, setting.trigger_in_values)?
                    .with_hidden(hidden.as_ref())
            };
            let trial = exact::learn(&seen(train)?, &seen(&test)?, rates);
            let norm2: f64 = query.iter().map(|x| x.to_f64().powi(2)).sum();
            let network = (&embeddings, hidden.as_ref(), &permutation);
            return measure(setting, network, &trial, rates, norm2);
        }
        let stream = match setting.samples {
            Samples::Infinite => None,
            Samples::Finite(n) => Some(Stream::new(
                key.stream(Purpose::Train),
                &permutation,
                setting.len,
                n as usize,
                setting.labels,
            )),
        };
        if let (Some(hidden), Some(stream)) = (&hidden, &stream) {
            let trial = mlp::Trial {
                setting,
                embeddings: &embeddings,
                hidden,
                permutation: &permutation,
                train: Data::Stream(stream),
                test: &test,
            };
            let (outcome, _) = mlp::run(&trial).ok_or(JobError::NotWithMlp("this input table"))?;
            return Ok(outcome);
        }
        let trial = Trial {
            setting,
            embeddings: &embeddings,
            permutation: &permutation,
            training: stream
                .as_ref()
                .map_or(Training::Population, Training::Stream),
            test: &test,
            decompose: self.config.decompose,
        };
        let mut outcome = early::run(&trial).0;
        if let (Some(batch), Some(trigger), true) =
            (&batch, &embeddings.trigger, self.config.read_query)
        {
            let trigger: Vec<f64> = trigger.iter().map(|x| x.to_f64()).collect();
            let gradient = FirstGradient::new(&embeddings, batch);
            outcome.query = Some(decode::query::read(&gradient, &trigger, batch, &test));
        }
        if let (Some(batch), false) = (&batch, self.config.decoders.is_empty()) {
            let kappa = self.config.oracle_noise;
            let gradient = if kappa > 0.0 {
                let mut rng = key.stream(Purpose::Oracle);
                FirstGradient::noisy(&embeddings, batch, kappa, &mut rng)
            } else {
                FirstGradient::new(&embeddings, batch)
            };
            outcome.decoders = decode::decode(&gradient, self.config.decoders, &permutation);
        }
        Ok(outcome)
    }

    /// Seconds of the decoders and of the reading of the query, and the number of `V x V` tables of
    /// doubles that they hold.
    fn decoding_cost(&self) -> (f64, f64) {
        let c = &self.config;
        let (v, d) = (c.vocab as f64, c.input.dim.max(c.output.dim) as f64);
        let product = 2.0 * v * v * d * 48e-12;
        let whitening = 2e-9 * d.powi(3) + 6.0 * product;
        let mut seconds = 0.0;
        let mut tables: f64 = 0.0;
        for decoder in c.decoders.iter() {
            use decode::Decoder::{Amp, AmpAssigned, MatchedFilter, Whitened};
            seconds += whitening
                + match decoder {
                    Amp | AmpAssigned => 30.0 * (4.0 * product + 2e-8 * v * v),
                    _ => 0.0,
                };
            // Assignment by augmenting paths.
            if !matches!(decoder, MatchedFilter | Whitened | Amp) {
                seconds += 1e-10 * v.powi(3);
            }
            tables = 6.0;
        }
        if c.read_query {
            seconds += whitening + 4.0 * v.powi(3) * 48e-12;
            tables = tables.max(5.0);
        }
        (seconds, tables)
    }

    /// Rough cost of the job, for scheduling (longest first), `--dry-run` and the memory check.
    ///
    /// Seconds without a hidden layer are fitted to 60 random configurations of each engine
    /// (`docs/speed.md`, "Sweeps": within a factor of 2 there); those with one, and of the decoders,
    /// are coarser and rather too large.
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
        let gemm = 6.0e-12 * width;
        if let (Some(mlp), Engine::Early) = (c.model.mlp(), c.engine) {
            let (m, d, out) = (mlp.width as f64, c.input.dim as f64, c.output.dim as f64);
            let features = n * m * (3.0 * 2.0 * d * gemm + 1.5e-9 * width / 4.0);
            let tables = 3.0 * v * m * 2.0 * (d + 2.0 * out) * gemm + 3.0 * v * v * out * gemm;
            let seconds = 2e-3
                + features
                + tables
                + n * l * d * (1.2e-9 + 2.0 * gemm)
                + v * (d + out) * 8e-9
                + m * d * 8e-9;
            let bytes = width * (v * (d + 2.0 * out) + 3.0 * out * m + m * d + 512.0 * (m + v))
                + (4.0 * n * (l + 1.0)).min(f64::from(32 << 20))
                + 8.0 * n
                + 4.0 * c.test_sequences as f64 * (l + 6.0)
                + 4.0 * f64::from(1 << 20);
            return Cost { seconds, bytes };
        }
        if c.engine != Engine::Early {
            let (di, d_out) = (c.input.dim as f64, c.output.dim as f64);
            // The value matrix acts on the features of a hidden layer, which are made and undone.
            let features = c.model.mlp().map_or(di, |mlp| mlp.width as f64);
            let fresh = n + c.test_sequences as f64;
            let tables = 2.0 * v * v * di + 4.0 * v * di * d_out;
            let seconds = if c.model.mlp().is_some() {
                let per_sample = 2.0 * v * d_out + 2.0 * features * d_out + 2.0 * features * di;
                (4.0 * n + fresh) * (per_sample * gemm + v * 1.5e-9 + l * di * 1e-9) + tables * gemm
            } else {
                // Products are at less than their rate, since saturated samples share rows; double
                // exponentials take their own time.
                let words = width / 4.0;
                let products = fresh * (4.0 * v * d_out + 4.0 * di * d_out) + 3.0 * tables;
                let doubled = if words > 1.0 { 1.8e-9 } else { 0.0 };
                words * products * 1e-12
                    + fresh * v * (1.9e-9 * words + doubled)
                    + fresh * l * 15e-9
                    + n * l * di * 0.57e-9
                    + v * (di + d_out) * 6e-9
            };
            let stored = width
                * (v * (di + d_out) + 6.0 * features * d_out + v * di + 256.0 * 3.0 * features);
            let bytes = stored + 4.0 * (n + c.test_sequences as f64) * (l + 6.0) + 64.0 * (v + di);
            return Cost {
                seconds,
                bytes: bytes + 4.0 * f64::from(1 << 20),
            };
        }
        // Label tables turned into value matrices, and those read out; five more of each to isolate
        // the noise terms.
        let parts = if c.decompose { 5.0 } else { 0.0 };
        let (made, read) = (1.0 + parts, 2.5 + parts);
        let tokens = (n + c.test_sequences as f64) * (l + 1.0);
        let words = width / 4.0;
        let products = (made + read) * (2.0 * v * v * di + 2.0 * v * di * d_out);
        let seconds = words * products * 3.4e-12
            + words * (made + read) * v * v * 0.45e-9
            + v * (di + d_out) * 7.5e-9
            + tokens * (2.4e-9 + parts * 0.8e-9)
            + n * (1.6e-8 + words * di * 0.17e-9);
        let stored = match (di > 0.0, d_out > 0.0) {
            (true, true) => di * d_out,
            (true, false) => v * di,
            (false, true) => v * d_out,
            (false, false) => 0.0,
        };
        let (extra_seconds, tables) = self.decoding_cost();
        let seconds = seconds + extra_seconds;
        let bytes = width * (v * (di + 2.0 * d_out) + 2.0 * stored)
            + 8.0 * tables * v * v
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
    /// More samples than can be indexed.
    #[error("{name} = {found}: an engine takes at most {MAX_SAMPLES} sequences")]
    TooManySamples {
        /// `samples` or `test_sequences`.
        name: &'static str,
        /// Its value.
        found: u64,
    },
    /// A step size that is not a positive finite number.
    #[error("{name} = {found}: a step size of the exact engine must be a positive finite number")]
    Rate {
        /// Which step size.
        name: &'static str,
        /// Its value.
        found: f64,
    },
    /// The exact engine needs a batch.
    #[error(
        "samples = infinite: the exact engine trains on a finite batch; the population gradient is known to the early engine only"
    )]
    PopulationOfExact,
    /// The exact engine's attention follows from `gamma_w`.
    #[error(
        "strength: the exact engine attends as gamma_w makes it (G = gamma_w |z_EOS|^2 T eta/(L^2 V)); choose gamma_w, or the early engine"
    )]
    StrengthOfExact,
    /// Noise parts are defined in the small-step limit.
    #[error(
        "decompose = true: the noise parts are defined in the small-step limit, which is the early engine"
    )]
    PartsOfExact,
    /// What is defined for the attention-only model alone.
    #[error("{0} with an MLP: it is defined for the attention-only model alone")]
    NotWithMlp(&'static str),
    /// The decoders' tables are dense in the vocabulary.
    #[error(
        "vocab = {0} with decoders or read_query: they hold V x V tables and take at most {max} tokens",
        max = decode::MAX_VOCAB
    )]
    VocabOfDecoders(usize),
    /// Decoders read the gradient of a batch as the early engine counts it.
    #[error(
        "decoders, read_query: they read the first gradient of a finite batch, with the early engine; give samples a number and leave the engine at its default"
    )]
    DecodersOfOther,
    /// The channel of the query is derived for a trigger in the keys alone.
    #[error(
        "read_query: derived for random input embeddings with the trigger in the keys only; leave trigger_in_values out and give the input a dimension"
    )]
    QueryOfOther,
    /// A noise level that has no meaning.
    #[error(
        "oracle_noise = {0}: must be a finite number, not negative, and needs decoders to read the noisy gradient"
    )]
    OracleNoise(f64),
    /// Overflow during training.
    #[error("{0} is not finite: eta, gamma_w or gamma_v is too large for this precision")]
    NotFinite(&'static str),
    /// Inconsistent problem (not reachable from a checked configuration).
    #[error(transparent)]
    Problem(#[from] ProblemError),
}

/// The outcome of an exact trial, in the units of the early engine: `q` over
/// `gamma_w |z_EOS|^2 S0`, `S0 = eta/(L^2 V)`, times `m` with a hidden layer.
fn measure<R: Real>(
    setting: &Setting,
    (embeddings, hidden, permutation): (&Embeddings<R>, Option<&Hidden<R>>, &Permutation),
    trial: &Learned<R>,
    rates: Rates,
    norm2: f64,
) -> Result<Outcome, JobError> {
    let finite = |x: &Matrix<R>| x.data().iter().all(|x| x.to_f64().is_finite());
    let width = hidden.map_or(1.0, |hidden| hidden.width() as f64);
    let unit = rates.gamma_w * norm2 * rates.eta * width
        / ((setting.len as f64).powi(2) * setting.vocab as f64);
    let signal = trial.query_trigger_1 / unit;
    let scores: Vec<f64> = trial.token_scores_1.iter().map(|x| x / unit).collect();
    let crosstalk = trigger_scores(embeddings);
    let interference: Vec<f64> = scores
        .iter()
        .zip(&crosstalk)
        .map(|(s, c)| s - signal * c)
        .collect();
    let (spread_squared, interference_squared) = (variance(&scores), variance(&interference));
    for (name, fine) in [
        ("V1", finite(&trial.value_1)),
        (
            "the attention score",
            (signal + spread_squared + interference_squared).is_finite(),
        ),
        ("V2", finite(&trial.value_2)),
        (
            "the training loss",
            trial.before_step_three.loss.is_finite(),
        ),
        ("the test loss", trial.test.loss.is_finite()),
    ] {
        if !fine {
            return Err(JobError::NotFinite(name));
        }
    }
    let count = |hits: usize, total: usize| Count {
        hits: hits as u64,
        total: total as u64,
    };
    let (train, test) = (&trial.before_step_three, &trial.test);
    let recalled = |value: &Matrix<R>, with_trigger| match hidden {
        None => Ok(recall(embeddings, permutation, value, with_trigger)),
        Some(hidden) => mlp::recalled(embeddings, hidden, permutation, value)
            .ok_or(JobError::NotWithMlp("this input table")),
    };
    Ok(Outcome {
        train_attention: Some(count(train.attention_hits, train.samples)),
        attention: count(test.attention_hits, test.samples),
        accuracy: count(test.correct, test.samples),
        recall: recalled(&trial.value_2, setting.trigger_in_values)?,
        one_step: recalled(&trial.value_1, false)?,
        attention_weight: Some(test.attention_mean),
        signal,
        spread_squared,
        interference_squared,
        noise: None,
        decoders: Vec::new(),
        query: None,
    })
}

fn variance(x: &[f64]) -> f64 {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n
}

/// `z_trig . z_in(v)` for every token.
fn trigger_scores<R: Real>(embeddings: &Embeddings<R>) -> Vec<f64> {
    match (&embeddings.input, &embeddings.trigger) {
        (Table::Dense(z), Some(t)) => (0..z.rows())
            .map(|v| {
                let pairs = z.row(v).iter().zip(t);
                pairs.map(|(a, b)| a.to_f64() * b.to_f64()).sum()
            })
            .collect(),
        (table, _) => vec![0.0; table.vocab()],
    }
}

/// Tokens `v` with `argmax_j z_out(j)^T V u_v` equal to their label (the lowest label among
/// equals), where `u_v` is `z_in(v)`, plus `z_trig` if asked for.
fn recall<R: Real>(
    embeddings: &Embeddings<R>,
    permutation: &Permutation,
    value: &Matrix<R>,
    with_trigger: bool,
) -> Count {
    let (one, zero) = (R::from_f64(1.0), R::default());
    let (vocab, width) = (embeddings.input.vocab(), value.cols());
    let block = 64.min(vocab);
    let mut input = vec![zero; block * width];
    let mut pulled = vec![zero; block * value.rows()];
    let mut logits = vec![zero; block * vocab];
    let mut hits = 0;
    for from in (0..vocab).step_by(block) {
        let n = block.min(vocab - from);
        let input = &mut input[..n * width];
        input.fill(zero);
        for (v, row) in (from..).zip(input.chunks_exact_mut(width)) {
            match &embeddings.input {
                Table::Dense(z) => row[..z.cols()].copy_from_slice(z.row(v)),
                Table::Orthonormal { .. } => row[v] = one,
            }
            match &embeddings.trigger {
                _ if !with_trigger => {}
                Some(t) => row.iter_mut().zip(t).for_each(|(x, t)| *x += *t),
                None => row[width - 1] += one,
            }
        }
        let pulled = &mut pulled[..n * value.rows()];
        gemm(
            one,
            View::new(input, n, width),
            value.view().t(),
            zero,
            pulled,
        );
        let logits: &[R] = match &embeddings.output {
            Table::Orthonormal { .. } => pulled,
            Table::Dense(z) => {
                let logits = &mut logits[..n * vocab];
                let pulled = View::new(pulled, n, value.rows());
                gemm(one, pulled, z.view().t(), zero, logits);
                logits
            }
        };
        for (v, row) in (from..).zip(logits.chunks_exact(vocab)) {
            hits += u64::from(argmax(row) == permutation.label(v as u32) as usize);
        }
    }
    Count {
        hits,
        total: vocab as u64,
    }
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

    /// Seconds of the cost, of the job with one thing changed.
    fn cost_with(engine: Engine, change: impl FnOnce(&mut Configuration)) -> f64 {
        let mut config = job().config;
        config.engine = engine;
        change(&mut config);
        let job = Job { config, ..job() };
        job.cost().seconds
    }

    #[test]
    fn cost_orders_jobs_by_size() {
        let rates = exact(0.5, 2e9).config.engine;
        for engine in [Engine::Early, rates] {
            let small = cost_with(engine, |_| {});
            for (what, larger) in [
                ("V", cost_with(engine, |c| c.vocab *= 2)),
                ("d", cost_with(engine, |c| c.input.dim *= 2)),
                ("L", cost_with(engine, |c| c.len *= 2)),
                ("N", cost_with(engine, |c| c.samples = Samples::Finite(400))),
                ("fresh", cost_with(engine, |c| c.test_sequences *= 2)),
            ] {
                assert!(larger > small, "{engine:?}: {what}");
            }
            let single = cost_with(engine, |c| c.precision = Precision::F32);
            assert!(single < small, "{engine:?}");
        }
        assert!(
            cost_with(Engine::Early, |c| c.decompose = true) > cost_with(Engine::Early, |_| {})
        );
        // Literal descent makes N x V logits, the small-step limit none.
        let large = |c: &mut Configuration| c.samples = Samples::Finite(100_000);
        assert!(cost_with(rates, large) > 5.0 * cost_with(Engine::Early, large));
    }

    #[test]
    fn cost_grows_linearly_in_samples_in_the_end() {
        let at = |n| cost_with(Engine::Early, |c| c.samples = Samples::Finite(n));
        let (one, two) = (at(4_000_000), at(8_000_000));
        assert!((two / one - 2.0).abs() < 0.02, "{}", two / one);
    }

    fn exact(eta: f64, gamma_w: f64) -> Job {
        let mut job = job();
        job.config.engine = Engine::Exact {
            eta,
            gamma_w,
            gamma_v: 1e9,
        };
        job
    }

    #[test]
    fn the_engine_changes_the_key_but_not_the_draws() {
        let job = exact(0.5, 2e9);
        assert_ne!(job.key(), self::job().key());
        assert_eq!(job.stream_key(), self::job().stream_key());
        let text =
            r#""engine":{"exact":{"eta":0.5,"gamma_v":1000000000.0,"gamma_w":2000000000.0}}"#;
        assert!(job.canonical().contains(text), "{}", job.canonical());
        assert_eq!(
            serde_json::from_str::<Job>(&serde_json::to_string(&job).unwrap()).unwrap(),
            job
        );
    }

    #[test]
    fn at_small_steps_both_engines_measure_the_same() {
        let laws = [Embedding::Gaussian, Embedding::Orthonormal];
        for (input, output, carried) in laws.iter().flat_map(|i| {
            laws.iter()
                .flat_map(move |o| [(*i, *o, false), (*i, *o, true)])
        }) {
            let mut setting = Setting::new(64, 16, 8, 200).with_embeddings(input, output);
            setting.trigger_in_values = carried;
            let with = |engine| {
                let mut job = job();
                job.config = Configuration {
                    engine,
                    ..Configuration::of(&setting)
                };
                job.run().unwrap().outcome
            };
            let a = with(Engine::Early);
            let b = with(Engine::Exact {
                eta: 1e-6,
                gamma_w: 1e15,
                gamma_v: 1e9,
            });
            let close =
                |a: f64, b: f64| assert!((a - b).abs() < 1e-6 * a.abs(), "{setting:?}: {a} {b}");
            close(a.signal, b.signal);
            close(a.spread_squared, b.spread_squared);
            close(a.interference_squared, b.interference_squared);
            assert_eq!(a.attention, b.attention, "{setting:?}");
            assert_eq!(a.train_attention, b.train_attention, "{setting:?}");
            assert_eq!(a.accuracy, b.accuracy, "{setting:?}");
            if (input, output) != (Embedding::Orthonormal, Embedding::Orthonormal) {
                assert_eq!(a.one_step, b.one_step, "{setting:?}");
            }
        }
    }

    #[test]
    fn what_the_exact_engine_cannot_do_is_refused() {
        let refused = |change: fn(&mut Configuration), text: &str| {
            let mut job = exact(0.5, 2e9);
            change(&mut job.config);
            let error = job.run().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        };
        let rates = |eta, gamma_w| Engine::Exact {
            eta,
            gamma_w,
            gamma_v: 1.0,
        };
        for eta in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut job = exact(0.5, 2e9);
            job.config.engine = rates(eta, 1.0);
            assert!(matches!(job.run(), Err(JobError::Rate { name: "eta", .. })));
            job.config.engine = rates(1.0, eta);
            assert!(matches!(
                job.run(),
                Err(JobError::Rate {
                    name: "gamma_w",
                    ..
                })
            ));
        }
        refused(|c| c.samples = Samples::Infinite, "samples = infinite");
        refused(|c| c.attention = Attention::Strength(2.0), "choose gamma_w");
        refused(|c| c.decompose = true, "decompose = true");
        refused(
            |c| c.samples = Samples::Finite(1 << 33),
            "at most 4294967295",
        );
        let mut job = exact(1e300, 1e300);
        assert!(matches!(job.run(), Err(JobError::NotFinite(_))));
        job.config.precision = Precision::F32;
        assert!(matches!(job.run(), Err(JobError::NotFinite(_))));
    }

    #[test]
    fn fresh_sequences_are_not_training_sequences() {
        // 64 facts and 20 samples: most fresh sequences ask for a fact that was never shown, while
        // the training sequences themselves are learned by heart.
        let (mut hits, mut total) = (0, 0);
        for engine in [
            Engine::Early,
            Engine::Exact {
                eta: 1.0,
                gamma_w: 1e9,
                gamma_v: 1e6,
            },
        ] {
            for seed in 0..10 {
                let setting = Setting::new(64, 64, 4, 20)
                    .with_embeddings(Embedding::Orthonormal, Embedding::Orthonormal);
                let mut job = Job {
                    config: Configuration::of(&setting),
                    seed,
                    paired: vec![],
                };
                job.config.test_sequences = 20;
                job.config.engine = engine;
                let accuracy = job.run().unwrap().outcome.accuracy;
                hits += accuracy.hits;
                total += accuracy.total;
            }
        }
        // Shown: 1 - (1 - 1/64)^20 = .27 of the facts.
        let rate = hits as f64 / total as f64;
        assert!(rate > 0.1 && rate < 0.5, "{rate}");
    }

    #[test]
    fn every_seed_has_draws_of_its_own() {
        let other = Job { seed: 99, ..job() };
        assert_ne!(job().key(), other.key());
        assert_ne!(job().stream_key(), other.stream_key());
        assert_ne!(job().run().unwrap().outcome, other.run().unwrap().outcome);
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
