//! Experiment files: one TOML file per figure or claim, read strictly.
//!
//! A file states what is swept, how a threshold is found, which claim it tests and with which
//! margin, all of it before the run. Keys that are not known are refused with the nearest valid
//! one.

use std::path::{Path, PathBuf};

use recall_theory::{
    Activation, Attention, Embedding, Labels, Mlp, MlpInput, MlpRows, Model, Samples, Setting,
    SettingError,
};
use serde::{Deserialize, Serialize};

use crate::decode::DecoderSet;
use crate::descent::early::NoiseParts;
use crate::job::{Axis, Configuration, Job, Precision};

/// One value or a list of values to sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// A single value.
    One(T),
    /// A swept list.
    Many(Vec<T>),
}

/// Most settings of one design; every one is held in memory.
pub const MAX_SETTINGS: u64 = 100_000;

/// Most trials of one design: settings times seeds, times the readings behind a noisy oracle.
pub const MAX_TRIALS: u64 = 10_000_000;

/// Largest seed, so that every seed can be written in TOML, whose integers are signed.
pub const MAX_SEED: u64 = i64::MAX as u64;

impl<T> OneOrMany<T> {
    /// How many values there are.
    fn count(&self) -> usize {
        match self {
            OneOrMany::One(_) => 1,
            OneOrMany::Many(x) => x.len(),
        }
    }
}

impl<T: Clone> OneOrMany<T> {
    /// The values in the order given.
    #[must_use]
    pub fn values(&self) -> Vec<T> {
        match self {
            OneOrMany::One(x) => vec![x.clone()],
            OneOrMany::Many(x) => x.clone(),
        }
    }
}

/// A block of settings: the Cartesian product of its lists, in the order V, d, L, N, m (m
/// fastest).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Name in figures and tables.
    #[serde(default)]
    pub label: String,
    /// Vocabulary sizes.
    pub vocab: OneOrMany<usize>,
    /// Embedding dimensions (both sides; ignored on an orthonormal side).
    #[serde(default)]
    pub dim: Option<OneOrMany<usize>>,
    /// Sequence lengths.
    pub len: OneOrMany<usize>,
    /// Sample sizes, or `"infinite"`.
    #[serde(default)]
    pub samples: Option<OneOrMany<Samples>>,
    /// Law of both embeddings.
    #[serde(default)]
    pub embedding: Embedding,
    /// Law of the output embedding, where it differs.
    #[serde(default)]
    pub output_embedding: Option<Embedding>,
    /// Label distribution.
    #[serde(default)]
    pub labels: Labels,
    /// Whether values carry the trigger.
    #[serde(default)]
    pub trigger_in_values: bool,
    /// Finite attention strength `G`; argmax attention if absent.
    #[serde(default)]
    pub strength: Option<f64>,
    /// Activation of a hidden layer; attention-only if absent.
    #[serde(default)]
    pub activation: Option<Activation>,
    /// Widths of the hidden layer.
    #[serde(default)]
    pub width: Option<OneOrMany<usize>>,
    /// What the hidden layer sees.
    #[serde(default)]
    pub mlp_input: MlpInput,
    /// Law of the hidden layer's weights.
    #[serde(default)]
    pub mlp_rows: MlpRows,
}

impl Block {
    /// Keys of the swept lists with their lengths, in the order of the product.
    fn lists(&self) -> Vec<(&'static str, usize)> {
        let optional = |list: &Option<OneOrMany<usize>>| list.as_ref().map_or(1, OneOrMany::count);
        let mut lists = vec![
            ("vocab", self.vocab.count()),
            ("dim", optional(&self.dim)),
            ("len", self.len.count()),
            ("samples", self.samples.as_ref().map_or(1, OneOrMany::count)),
        ];
        if self.activation.is_some() {
            lists.push(("width", optional(&self.width)));
        }
        lists
    }

    /// All settings of the block. The swept quantity of a threshold search may be absent; it then
    /// takes a placeholder that the search overwrites.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn settings(&self) -> Result<Vec<Setting>, SettingError> {
        let dims = self
            .dim
            .as_ref()
            .map_or_else(|| vec![16], OneOrMany::values);
        let samples = self
            .samples
            .as_ref()
            .map_or_else(|| vec![Samples::Finite(1024)], OneOrMany::values);
        let widths = self
            .width
            .as_ref()
            .map_or_else(|| vec![256], OneOrMany::values);
        let models: Vec<Option<Mlp>> = match self.activation {
            None => vec![None],
            Some(activation) => widths
                .iter()
                .map(|&width| {
                    Some(Mlp {
                        activation,
                        width,
                        input: self.mlp_input,
                        rows: self.mlp_rows,
                    })
                })
                .collect(),
        };
        let mut settings = Vec::new();
        for &vocab in &self.vocab.values() {
            for &dim in &dims {
                for &len in &self.len.values() {
                    for (&samples, &mlp) in samples
                        .iter()
                        .flat_map(|n| models.iter().map(move |mlp| (n, mlp)))
                    {
                        let output = self.output_embedding.unwrap_or(self.embedding);
                        let mut s = Setting::new(vocab, dim, len, 1)
                            .with_embeddings(self.embedding, output);
                        s.model = mlp.map_or(Model::AttentionOnly, Model::Mlp);
                        s.samples = samples;
                        s.labels = self.labels;
                        s.trigger_in_values = self.trigger_in_values;
                        s.attention = self.strength.map_or(Attention::Argmax, Attention::Strength);
                        s.validate()?;
                        settings.push(s);
                    }
                }
            }
        }
        Ok(settings)
    }
}

/// A measured accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Argmax attention on fresh sequences.
    Attention,
    /// Recall with saturated attention.
    Recall,
    /// End to end on fresh sequences, three steps.
    Accuracy,
    /// Matched filter on the first gradient with the informative token given.
    OneStep,
}

impl Quantity {
    /// A short name for panel titles.
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Quantity::Attention => "attention",
            Quantity::Recall => "recall, attention saturated",
            Quantity::Accuracy => "end to end, three steps",
            Quantity::OneStep => "one step, matched filter",
        }
    }

    /// Words for axes and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Quantity::Attention => "attention accuracy",
            Quantity::Recall => "recall accuracy (attention saturated)",
            Quantity::Accuracy => "end-to-end accuracy (three steps)",
            Quantity::OneStep => "one-step accuracy (matched filter on the first gradient)",
        }
    }
}

/// The size of an attention score, as a root mean square over tokens and trials (the signal: a
/// mean over trials), in units of `S0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// Mean coefficient of the trigger, `T`.
    Signal,
    /// All noise: the spread over tokens.
    Spread,
    /// All noise but the trigger's crosstalk.
    Interference,
    /// Label imbalance times mean embedding.
    MeanBias,
    /// Mean embedding read by sequence noise.
    MeanBiasFlow,
    /// Label imbalance times sequence noise.
    Cross,
    /// Sequence noise in both steps.
    GradientNoise,
    /// Signal times sequence noise.
    SignalNoise,
    /// Signal times label imbalance.
    SignalBias,
    /// Residue of the population gradient.
    Population,
    /// Counts of the token's own label.
    LabelCount,
    /// Crosstalk of the trigger.
    Trigger,
}

impl Score {
    /// Position among the isolated noise terms, for those that are one.
    #[must_use]
    pub fn term(self) -> Option<usize> {
        let name = match self {
            Score::Signal | Score::Spread | Score::Interference => return None,
            Score::MeanBias => "mean_bias",
            Score::MeanBiasFlow => "mean_bias_flow",
            Score::Cross => "cross",
            Score::GradientNoise => "gradient_noise",
            Score::SignalNoise => "signal_noise",
            Score::SignalBias => "signal_bias",
            Score::Population => "population",
            Score::LabelCount => "label_count",
            Score::Trigger => "trigger",
        };
        NoiseParts::NAMES.iter().position(|n| *n == name)
    }

    /// Symbol and words for figures and tables.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Score::Signal => ("T", "signal"),
            Score::Spread => ("σ", "spread of the scores"),
            Score::Interference => ("σ without crosstalk", "interference"),
            Score::MeanBias => ("σ of mean bias", "mean bias"),
            Score::MeanBiasFlow => ("σ of mean-bias flow", "mean-bias flow"),
            Score::Cross => ("σ of cross", "cross term"),
            Score::GradientNoise => ("σ of gradient noise", "gradient noise"),
            Score::SignalNoise => ("σ of signal × noise", "signal × noise"),
            Score::SignalBias => ("σ of signal × bias", "signal × bias"),
            Score::Population => ("σ of population residue", "population residue"),
            Score::LabelCount => ("σ of label counts", "label counts"),
            Score::Trigger => ("σ of trigger crosstalk", "trigger crosstalk"),
        }
    }

    /// Name in a claim's id.
    #[must_use]
    pub fn id(self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

/// The quantity whose critical value is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SearchAxis {
    /// Critical sample size `N*`.
    Samples,
    /// Critical dimension `d*` (both sides).
    Dim,
    /// Critical hidden width `m*`.
    Width,
    /// Capacity `V*`: the largest vocabulary that keeps the level.
    Vocab,
}

impl SearchAxis {
    /// The same size as an axis of figures.
    #[must_use]
    pub fn sweep(self) -> SweepAxis {
        match self {
            SearchAxis::Samples => SweepAxis::Samples,
            SearchAxis::Dim => SweepAxis::Dim,
            SearchAxis::Width => SweepAxis::Width,
            SearchAxis::Vocab => SweepAxis::Vocab,
        }
    }

    /// Whether accuracies grow along the axis.
    #[must_use]
    pub fn helps(self) -> bool {
        self != SearchAxis::Vocab
    }
}

/// What defines a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Criterion {
    /// The query noise without trigger crosstalk, pooled over seeds, equals `level` times the
    /// population signal `1 - 1/L`.
    NoiseRatio {
        /// The critical ratio.
        level: f64,
    },
    /// An accuracy equals `level`.
    Accuracy {
        /// Which accuracy.
        quantity: Quantity,
        /// The critical accuracy.
        level: f64,
    },
}

/// How critical values are searched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// What is varied.
    pub axis: SearchAxis,
    /// What defines the threshold.
    pub criterion: Criterion,
    /// The window: points whose critical value by the formula lies outside, or that have none,
    /// are not searched; their number is reported.
    #[serde(default)]
    pub predicted_between: Option<[f64; 2]>,
    /// The curve that an accuracy is fitted by.
    #[serde(default)]
    pub link: AccuracyLink,
}

/// The curve by which the threshold of an accuracy is read from its trials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccuracyLink {
    /// The shape of the formula's own curve, its place and steepness fitted: of the theory only
    /// the asymmetry enters. Where the data reject the shape, a monotone fit; where the formula
    /// has no curve, the probit.
    Theory,
    /// A probit, with a fixed allowance for its shape.
    #[default]
    Probit,
}

impl Search {
    /// Whether a critical value of the formula, by its logarithm, lies in the window.
    #[must_use]
    pub fn admits(&self, log_predicted: Option<f64>) -> bool {
        match (self.predicted_between, log_predicted) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some([lo, hi]), Some(log)) => (lo..=hi).contains(&log.exp()),
        }
    }
}

/// Exponents of a law by symbol; a symbol that is not listed is not part of the law.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exponents {
    /// Exponent of `V`.
    #[serde(default)]
    pub vocab: Option<f64>,
    /// Exponent of `d`.
    #[serde(default)]
    pub dim: Option<f64>,
    /// Exponent of `L`.
    #[serde(default)]
    pub len: Option<f64>,
    /// Exponent of `N`.
    #[serde(default)]
    pub samples: Option<f64>,
    /// Exponent of `m`.
    #[serde(default)]
    pub width: Option<f64>,
}

/// Margins of the tests of a threshold experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThresholdTest {
    /// Margin of each exponent against the finite-size formula on the same design.
    #[serde(default = "default_margin")]
    pub margin: f64,
    /// Margin of the constant, as a factor.
    #[serde(default = "default_constant")]
    pub constant: f64,
    /// Whether the slopes are judged; not where the law is far from a power.
    #[serde(default = "yes")]
    pub slopes: bool,
}

fn yes() -> bool {
    true
}

fn default_margin() -> f64 {
    crate::stats::verdict::EXPONENT_MARGIN
}

fn default_constant() -> f64 {
    crate::stats::verdict::CONSTANT_FACTOR
}

/// Test of measured against predicted accuracies over the cells of a design.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccuracyTest {
    /// Margin of the mean signed error, and of its change along each size over the design.
    pub margin: f64,
    /// Margin of the standard deviation of the formula's error over cells.
    pub max_sd: f64,
    /// The window: cells whose predicted attention accuracy is at least this.
    #[serde(default)]
    pub min_attention: f64,
    /// The window: cells whose predicted accuracy lies within these bounds, so that cells where
    /// everything is 0 or 1 cannot dilute an error.
    #[serde(default = "whole_range")]
    pub predicted_between: [f64; 2],
}

fn whole_range() -> [f64; 2] {
    [0.0, 1.0]
}

/// Axis of a curve figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SweepAxis {
    /// `N`.
    Samples,
    /// `d`.
    Dim,
    /// `L`.
    Len,
    /// `V`.
    Vocab,
    /// `m`.
    Width,
}

impl SweepAxis {
    /// Value of a setting on this axis.
    #[must_use]
    pub fn of(self, s: &Setting) -> f64 {
        match self {
            SweepAxis::Samples => s.samples.as_f64(),
            SweepAxis::Dim => s.dim_in.min(s.dim_out) as f64,
            SweepAxis::Len => s.len as f64,
            SweepAxis::Vocab => s.vocab as f64,
            SweepAxis::Width => s.model.mlp().map_or(f64::NAN, |mlp| mlp.width as f64),
        }
    }

    /// Symbol and words for an axis label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            SweepAxis::Samples => "N (training samples)",
            SweepAxis::Dim => "d (embedding dimension)",
            SweepAxis::Len => "L (sequence length)",
            SweepAxis::Vocab => "V (vocabulary size)",
            SweepAxis::Width => "m (hidden width)",
        }
    }

    /// Symbol.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            SweepAxis::Samples => "N",
            SweepAxis::Dim => "d",
            SweepAxis::Len => "L",
            SweepAxis::Vocab => "V",
            SweepAxis::Width => "m",
        }
    }
}

/// What an experiment does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Kind {
    /// Critical values over a design, fitted by a log-log regression.
    Threshold {
        /// The search.
        search: Search,
        /// The tests.
        test: ThresholdTest,
        /// Whether the points are sorted by the law that binds, with a map over `(L, d)` and the
        /// exponents region by region.
        #[serde(default)]
        regions: bool,
    },
    /// Sizes of attention scores over a design, fitted by log-log regressions.
    Scores {
        /// Which sizes; each is a law of its own.
        quantities: Vec<Score>,
        /// The tests.
        test: ThresholdTest,
    },
    /// Accuracy curves beside the formula.
    Curves {
        /// Abscissa.
        axis: SweepAxis,
        /// Accuracies drawn; the first is tested.
        quantities: Vec<Quantity>,
        /// The test.
        test: AccuracyTest,
    },
    /// Heat map over two sizes, `(N, d)` unless said otherwise, with the theory boundary.
    Phase {
        /// The accuracy shown and tested.
        quantity: Quantity,
        /// Level of the boundary.
        level: f64,
        /// Horizontal axis.
        #[serde(default = "horizontal")]
        x: SearchAxis,
        /// Vertical axis.
        #[serde(default = "vertical")]
        y: SearchAxis,
        /// Whether the cells name the noise term that dominates by the formula, with the
        /// boundaries between them.
        #[serde(default)]
        dominant: bool,
        /// The test.
        test: AccuracyTest,
    },
    /// Decoders of the first gradient against the lower bound, three-step descent beside them.
    Bound(BoundTask),
    /// Sample thresholds of decoders of the first gradient, on the grid of `N` of each
    /// configuration, beside the lower bound.
    Decoders(DecodersTask),
    /// The query of step 2 read beside the first gradient, against the bound on every reader.
    Query {
        /// Margin by which an alignment may exceed the bound and still count as keeping it.
        margin: f64,
        /// The channel's noise over signal against its formula.
        test: ThresholdTest,
    },
}

/// What an experiment on the lower bound reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BoundTask {
    /// Margin by which an accuracy may exceed the bound and still count as keeping it.
    pub margin: f64,
    /// Decoders judged beside the matched filter that every trial measures.
    #[serde(default)]
    pub decoders: DecoderSet,
    /// Noise levels `kappa` at which the decoders also read the noisy oracle.
    #[serde(default)]
    pub oracle: Vec<f64>,
}

/// What an experiment on thresholds of decoders reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DecodersTask {
    /// The decoders.
    pub decoders: DecoderSet,
    /// Accuracy that defines the threshold.
    pub level: f64,
    /// Margin by which an accuracy may exceed the bound and still count as keeping it.
    pub margin: f64,
    /// Tests of the whitened decoder's thresholds against their formula.
    pub test: ThresholdTest,
}

impl Kind {
    /// Which decoders the trials measure, and whether they read the query.
    #[must_use]
    pub fn measured(&self) -> (DecoderSet, bool) {
        match self {
            Kind::Bound(task) => (task.decoders, false),
            Kind::Decoders(task) => (task.decoders, false),
            Kind::Query { .. } => (DecoderSet::NONE, true),
            _ => (DecoderSet::NONE, false),
        }
    }
}

impl Kind {
    /// How often a setting is read with each seed: once, and once behind each noisy oracle.
    fn readings(&self) -> u64 {
        match self {
            Kind::Bound(task) => 1 + task.oracle.len() as u64,
            _ => 1,
        }
    }
}

fn horizontal() -> SearchAxis {
    SearchAxis::Samples
}

fn vertical() -> SearchAxis {
    SearchAxis::Dim
}

/// The design of one profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    /// Trials per point (per level of a search).
    pub seeds: u64,
    /// First seed; a design that was changed after a look takes seeds that were not looked at.
    #[serde(default)]
    pub first_seed: u64,
    /// The settings.
    pub blocks: Vec<Block>,
    /// Exponents of the asymptotic law, tested with the margin widened by the formula's own drift
    /// on this design (capped at .20). Absent: the asymptotic law is not tested here.
    #[serde(default)]
    pub asymptotic: Option<Exponents>,
    /// Fresh sequences per trial.
    #[serde(default)]
    pub test_sequences: Option<usize>,
    /// Precision of the engine.
    #[serde(default)]
    pub precision: Precision,
    /// Whether trials isolate the noise terms, which takes about three times as long.
    #[serde(default)]
    pub decompose: bool,
    /// Axes across which trials of one seed share their random draws (common random numbers): the
    /// settings may then differ in nothing else. Empty unless a design gains from pairing; errors
    /// of paired cells are correlated.
    #[serde(default)]
    pub paired: Vec<Axis>,
}

impl Design {
    /// Settings of all blocks, in their order. Checking the file has refused blocks that cannot be
    /// expanded; such a one would have none.
    pub fn settings(&self) -> impl Iterator<Item = Setting> + '_ {
        self.blocks
            .iter()
            .flat_map(|b| b.settings().unwrap_or_default())
    }

    /// Refuses a design that is too large to expand, by arithmetic on the lengths of its lists.
    /// The message starts with the key, relative to the profile.
    fn check_size(&self, readings: u64) -> Result<(), String> {
        let range = format!("allowed are 2 to {MAX_TRIALS}");
        if self.seeds > MAX_TRIALS {
            return Err(format!("seeds = {}: {range}", self.seeds));
        }
        if self.first_seed > MAX_SEED - self.seeds {
            return Err(format!(
                "first_seed = {}: with seeds = {} it must be at most {}",
                self.first_seed,
                self.seeds,
                MAX_SEED - self.seeds
            ));
        }
        let mut settings: u64 = 0;
        for (i, block) in self.blocks.iter().enumerate() {
            let lists = block.lists();
            let here = lists
                .iter()
                .try_fold(1u64, |product, &(_, n)| product.checked_mul(n as u64));
            let total = here.and_then(|n| settings.checked_add(n));
            let Some(total) = total.filter(|n| *n <= MAX_SETTINGS) else {
                let lists: Vec<String> = lists
                    .iter()
                    .filter(|(_, n)| *n > 1)
                    .map(|(key, n)| format!("{n} values of {key}"))
                    .collect();
                let product = match (&lists[..], here) {
                    ([], _) => "one setting".to_owned(),
                    (lists, Some(n)) => format!("{}, {n} settings", lists.join(" x ")),
                    (lists, None) => format!("{}, above 2^64 settings", lists.join(" x ")),
                };
                return Err(format!(
                    "blocks[{i}]: {product}, after {settings} of earlier blocks: allowed are at most {MAX_SETTINGS} settings in the blocks of a profile"
                ));
            };
            settings = total;
        }
        let trials = settings
            .checked_mul(self.seeds)
            .and_then(|n| n.checked_mul(readings))
            .filter(|n| *n <= MAX_TRIALS);
        if trials.is_none() {
            let oracle = match readings {
                1 => String::new(),
                n => format!(" and {n} readings (task.oracle)"),
            };
            return Err(format!(
                "seeds = {}: with {settings} settings{oracle} a profile allows at most {} seeds, since {MAX_TRIALS} trials are the limit",
                self.seeds,
                MAX_TRIALS / settings.max(1).saturating_mul(readings.max(1))
            ));
        }
        Ok(())
    }

    /// The job that measures a setting with the `seed`-th seed of the design.
    #[must_use]
    pub fn job(&self, s: &Setting, seed: u64) -> Job {
        let mut paired = self.paired.clone();
        paired.sort_unstable();
        paired.dedup();
        Job {
            config: self.configuration(s),
            seed: self.first_seed + seed,
            paired,
        }
    }

    /// Configuration that measures a setting in this design.
    #[must_use]
    pub fn configuration(&self, s: &Setting) -> Configuration {
        let mut c = Configuration::of(s);
        c.precision = self.precision;
        c.decompose = self.decompose;
        if let Some(n) = self.test_sequences {
            c.test_sequences = n;
        }
        c
    }
}

/// An experiment file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Identifier, equal to the file's stem.
    pub id: String,
    /// Title in the report.
    pub title: String,
    /// Identifier of the claim in the registry.
    pub claim: String,
    /// Why this design: what it isolates, how it was chosen.
    pub rationale: String,
    /// Why the margins of the test are what they are.
    #[serde(default)]
    pub margin_reason: String,
    /// What this experiment is set against others by, for the report's table of contrasts.
    #[serde(default)]
    pub contrast: Option<String>,
    /// What is done.
    #[serde(rename = "task")]
    pub kind: Kind,
    /// Designs by profile; a profile that is absent skips the experiment.
    pub profile: Profiles,
}

/// Designs by profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// Minutes on two cores.
    #[serde(default)]
    pub quick: Option<Design>,
    /// The committed report.
    #[serde(default)]
    pub full: Option<Design>,
}

/// Which designs are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Within 3 minutes on 2 cores.
    Quick,
    /// Within 30 minutes on 2 cores.
    Full,
}

impl Profile {
    /// Directory name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Profile::Quick => "quick",
            Profile::Full => "full",
        }
    }
}

impl Kind {
    /// What is compared, and within which margin, in words.
    #[must_use]
    pub fn statistic(&self) -> String {
        let law = |test: &ThresholdTest| {
            let slopes = if test.slopes {
                format!("exponents within {}, ", test.margin)
            } else {
                String::new()
            };
            format!("{slopes}mean ratio within a factor {}", test.constant)
        };
        match self {
            Kind::Threshold { test, .. } => {
                format!("critical values against the formula: {}", law(test))
            }
            Kind::Scores { test, .. } => {
                format!("sizes of scores against the formula: {}", law(test))
            }
            Kind::Curves { test, .. } | Kind::Phase { test, .. } => format!(
                "signed errors of an accuracy over cells: mean, and change along each size over the design, within {}, standard deviation within {}",
                test.margin, test.max_sd
            ),
            Kind::Bound(BoundTask { margin, .. }) => {
                format!("no accuracy above the bound by more than {margin}, one-sided")
            }
            Kind::Decoders(DecodersTask { margin, test, .. }) => format!(
                "no accuracy above the bound by more than {margin}; thresholds of the whitened decoder against its formula: {}",
                law(test)
            ),
            Kind::Query { margin, test } => format!(
                "no alignment above the bound by more than {margin}; noise over signal against its formula: {}",
                law(test)
            ),
        }
    }
}

impl Experiment {
    /// The design of a profile, if the experiment takes part in it.
    #[must_use]
    pub fn design(&self, profile: Profile) -> Option<&Design> {
        match profile {
            Profile::Quick => self.profile.quick.as_ref(),
            Profile::Full => self.profile.full.as_ref(),
        }
    }

    /// Parses and checks one file's text; `path` is for messages.
    ///
    /// # Errors
    /// Names the file, the key and what is allowed.
    pub fn parse(path: &Path, text: &str) -> Result<Self, SpecError> {
        let fail = |problem: String| SpecError::Invalid {
            path: path.to_owned(),
            problem,
        };
        let experiment: Experiment =
            toml::from_str(text).map_err(|e| fail(with_nearest_key(&e.to_string())))?;
        let stem = path
            .file_stem()
            .and_then(|s| s.to_str())
            .unwrap_or_default();
        if experiment.id != stem {
            return Err(fail(format!(
                "id = \"{}\" must equal the file's name without its ending, \"{stem}\"",
                experiment.id
            )));
        }
        if recall_theory::registry::claim(&experiment.claim).is_none() {
            let ids: Vec<&str> = recall_theory::registry::CLAIMS
                .iter()
                .map(|c| c.id)
                .collect();
            return Err(fail(format!(
                "claim = \"{}\" is not in the registry; known claims: {}",
                experiment.claim,
                ids.join(", ")
            )));
        }
        experiment.check().map_err(fail)?;
        Ok(experiment)
    }

    /// Checks ranges that types cannot express.
    fn check(&self) -> Result<(), String> {
        let positive = |name: &str, x: f64| {
            if x.is_finite() && x > 0.0 {
                Ok(())
            } else {
                Err(format!("{name} = {x}: must be a positive finite number"))
            }
        };
        let level = |x: f64| {
            if x > 0.0 && x < 1.0 {
                Ok(())
            } else {
                Err(format!(
                    "level = {x}: an accuracy level lies strictly between 0 and 1"
                ))
            }
        };
        let accuracy_test = |t: &AccuracyTest| {
            positive("task.test.margin", t.margin)?;
            positive("task.test.max_sd", t.max_sd)?;
            let [lo, hi] = t.predicted_between;
            if (0.0..1.0).contains(&lo) && lo < hi && hi <= 1.0 {
                Ok(())
            } else {
                Err(format!(
                    "task.test.predicted_between = [{lo}, {hi}]: must be two increasing numbers in [0, 1]"
                ))
            }
        };
        let law_test = |test: &ThresholdTest| {
            positive("task.test.margin", test.margin)?;
            if test.constant.is_nan() || test.constant <= 1.0 {
                return Err(format!(
                    "task.test.constant = {}: a factor above 1",
                    test.constant
                ));
            }
            Ok(())
        };
        match &self.kind {
            Kind::Threshold { search, test, .. } => {
                law_test(test)?;
                if let Some([lo, hi]) = search.predicted_between
                    && !(lo > 0.0 && lo < hi && hi.is_finite())
                {
                    return Err(format!(
                        "task.search.predicted_between = [{lo}, {hi}]: must be two increasing positive numbers"
                    ));
                }
                match search.criterion {
                    Criterion::NoiseRatio { level } => {
                        positive("task.search.criterion.level", level)?;
                        if search.axis != SearchAxis::Samples {
                            return Err("task.search.axis needs an accuracy criterion; the noise ratio is searched in \"samples\"".into());
                        }
                    }
                    Criterion::Accuracy { level: p, .. } => level(p)?,
                }
            }
            Kind::Curves {
                quantities, test, ..
            } => {
                if quantities.is_empty() {
                    return Err("task.quantities is empty: name at least one of \"attention\", \"recall\", \"accuracy\", \"one-step\"".into());
                }
                accuracy_test(test)?;
            }
            Kind::Scores { quantities, test } => {
                law_test(test)?;
                if quantities.is_empty() {
                    return Err("task.quantities is empty: name at least one of \"signal\", \"spread\", \"interference\" or a noise term such as \"gradient-noise\"".into());
                }
                let designs = [&self.profile.quick, &self.profile.full];
                if let Some(term) = quantities.iter().find(|q| q.term().is_some())
                    && designs
                        .iter()
                        .filter_map(|d| d.as_ref())
                        .any(|d| !d.decompose)
                {
                    return Err(format!(
                        "task.quantities names the noise term \"{}\", which trials isolate only with decompose = true in every profile",
                        term.id()
                    ));
                }
            }
            Kind::Phase {
                level: p,
                test,
                x,
                y,
                ..
            } => {
                if x == y {
                    return Err("task.x and task.y are the same axis".into());
                }
                level(*p)?;
                accuracy_test(test)?;
            }
            Kind::Bound(BoundTask {
                margin,
                decoders,
                oracle,
            }) => {
                positive("task.margin", *margin)?;
                for kappa in oracle {
                    positive("task.oracle", *kappa)?;
                }
                if decoders.is_empty() && !oracle.is_empty() {
                    return Err(
                        "task.oracle needs task.decoders: name those that read the noisy gradient"
                            .into(),
                    );
                }
            }
            Kind::Decoders(DecodersTask {
                decoders,
                level: p,
                margin,
                test,
            }) => {
                positive("task.margin", *margin)?;
                level(*p)?;
                law_test(test)?;
                if decoders.is_empty() {
                    return Err("task.decoders is empty: name at least one".into());
                }
            }
            Kind::Query { margin, test } => {
                positive("task.margin", *margin)?;
                law_test(test)?;
            }
        }
        for (name, design) in [("quick", &self.profile.quick), ("full", &self.profile.full)] {
            let Some(design) = design else { continue };
            if design.seeds < 2 {
                return Err(format!(
                    "profile.{name}.seeds = {}: at least 2 trials are needed for a standard error",
                    design.seeds
                ));
            }
            if design.test_sequences == Some(0) {
                return Err(format!(
                    "profile.{name}.test_sequences = 0: must be at least 1"
                ));
            }
            if design.blocks.is_empty() {
                return Err(format!(
                    "profile.{name}.blocks is empty: name at least one block"
                ));
            }
            // Before the products are expanded: a few short lists can ask for more than memory.
            design
                .check_size(self.kind.readings())
                .map_err(|e| format!("profile.{name}.{e}"))?;
            for (i, block) in design.blocks.iter().enumerate() {
                if block.width.is_some() && block.activation.is_none() {
                    return Err(format!(
                        "profile.{name}.blocks[{i}].width is the width of a hidden layer: name its activation too"
                    ));
                }
                let settings = block
                    .settings()
                    .map_err(|e| format!("profile.{name}.blocks[{i}]: {e}"))?;
                if settings.is_empty() {
                    return Err(format!("profile.{name}.blocks[{i}]: a list is empty"));
                }
                let (decoders, read_query) = self.kind.measured();
                if decoders.is_empty() && !read_query {
                    continue;
                }
                for s in &settings {
                    let mut job = design.job(s, 0);
                    job.config.decoders = decoders;
                    job.config.read_query = read_query;
                    job.validate()
                        .map_err(|e| format!("profile.{name}.blocks[{i}]: {e}"))?;
                }
            }
        }
        Ok(())
    }
}

/// Why an experiment file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The file or directory cannot be read.
    #[error("{}: cannot read it: {source}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The content is wrong.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The path.
        path: PathBuf,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// No experiment at all.
    #[error("{}: no experiment files (*.toml) here", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
}

/// Reads all `*.toml` of a directory, in the order of their names.
///
/// # Errors
/// The first file that cannot be read or is invalid.
pub fn load_directory(dir: &Path) -> Result<Vec<Experiment>, SpecError> {
    let read = |source| SpecError::Read {
        path: dir.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(SpecError::Empty {
            path: dir.to_owned(),
        });
    }
    paths
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).map_err(|source| SpecError::Read {
                path: path.clone(),
                source,
            })?;
            Experiment::parse(path, &text)
        })
        .collect()
}

/// Appends the nearest valid key to a message of the form "unknown field `x`, expected ...".
fn with_nearest_key(message: &str) -> String {
    let quoted: Vec<&str> = message
        .find("unknown field")
        .or_else(|| message.find("unknown variant"))
        .map(|at| message[at..].split('`').skip(1).step_by(2).collect())
        .unwrap_or_default();
    let Some((unknown, known)) = quoted.split_first() else {
        return message.to_owned();
    };
    let nearest = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(unknown, k), *k))
        .min()
        .filter(|(distance, _)| *distance <= unknown.len().max(3) / 2 + 1);
    match nearest {
        Some((_, key)) => format!("{}\nDid you mean `{key}`?", message.trim_end()),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
id = "x"
title = "T"
claim = "accuracy-curves"
rationale = "R"
[task]
kind = "curves"
axis = "samples"
quantities = ["accuracy"]
test = { margin = 0.02, max_sd = 0.04 }
[profile.quick]
seeds = 4
[[profile.quick.blocks]]
label = "a"
vocab = 128
dim = [16, 32]
len = 8
samples = [100, "infinite"]
"#;

    fn parse(text: &str) -> Result<Experiment, String> {
        Experiment::parse(Path::new("dir/x.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_good_file_expands_in_a_fixed_order() {
        let e = parse(GOOD).unwrap();
        let settings = e.profile.quick.unwrap().blocks[0].settings().unwrap();
        let shape: Vec<_> = settings.iter().map(|s| (s.dim_in, s.samples)).collect();
        assert_eq!(
            shape,
            [
                (16, Samples::Finite(100)),
                (16, Samples::Infinite),
                (32, Samples::Finite(100)),
                (32, Samples::Infinite)
            ]
        );
    }

    #[test]
    fn trials_share_their_draws_only_where_the_file_asks_for_it() {
        let keys = |text: &str| {
            let design = parse(text).unwrap().profile.quick.unwrap();
            let settings = design.blocks[0].settings().unwrap();
            settings
                .iter()
                .map(|s| design.job(s, 3).stream_key())
                .collect::<Vec<_>>()
        };
        let alone = keys(GOOD);
        let paired = keys(&GOOD.replace("seeds = 4", "seeds = 4\npaired = [\"samples\"]"));
        assert_ne!(alone[0], alone[1]);
        assert_eq!(paired[0], paired[1]); // N = 100 and the population
        assert_ne!(paired[0], paired[2]); // another dimension
    }

    #[test]
    fn errors_name_file_key_and_remedy() {
        for (from, to, expected) in [
            ("margin = 0.02", "margn = 0.02", "Did you mean `margin`?"),
            ("vocab = 128", "vocb = 128", "Did you mean `vocab`?"),
            ("\"accuracy\"", "\"acuracy\"", "Did you mean `accuracy`?"),
            ("seeds = 4", "seeds = 1", "seeds = 1: at least 2"),
            ("vocab = 128", "vocab = 1", "blocks[0]: vocab = 1"),
            ("id = \"x\"", "id = \"y\"", "must equal the file's name"),
            (
                "claim = \"accuracy-curves\"",
                "claim = \"nope\"",
                "known claims",
            ),
            ("margin = 0.02", "margin = -1", "must be a positive"),
        ] {
            assert!(GOOD.contains(from));
            let message = parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(message.contains(expected), "{to}: {message}");
            assert!(message.contains("dir/x.toml"), "{message}");
        }
    }
}
