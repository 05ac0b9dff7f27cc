//! `recall simulate`: independent trials of one setting, averaged.

use std::fmt::Write;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use clap::ValueEnum;
use recall_theory::attention::{NOISE_NAMES, nominal_signal};
use recall_theory::{Attention, Samples, Setting};
use serde_json::{Map, Value, json};

use super::setting::SettingArgs;
use super::{Answer, Failure, exit, output};
use crate::job::{Configuration, Engine, Job, JobError, Precision, Record, TEST_SEQUENCES};

/// Engine, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    /// The small-step limit, by counting.
    Early,
    /// The literal algorithm; needs --eta, --gamma-w and --gamma-v.
    Exact,
}

/// Floating-point precision, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionName {
    /// 64-bit.
    F64,
    /// 32-bit.
    F32,
}

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Signal, spread and noise are in units of S0 = eta/(L^2 V). Results do not depend on --threads."
)]
pub struct Args {
    /// The setting.
    #[command(flatten)]
    pub setting: SettingArgs,
    /// Independent trials
    #[arg(
        long,
        value_name = "R",
        default_value = "8",
        allow_negative_numbers = true
    )]
    pub trials: NonZeroUsize,
    /// Seed of the first trial; the others follow
    #[arg(
        long,
        value_name = "SEED",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub seed: u64,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub threads: Option<NonZeroUsize>,
    /// Gradient-descent engine
    #[arg(long, value_enum, value_name = "ENGINE", default_value = "early")]
    pub engine: EngineName,
    /// First step on the value matrix (exact engine)
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub eta: Option<f64>,
    /// Step on the key-query matrix (exact engine)
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub gamma_w: Option<f64>,
    /// Second step on the value matrix (exact engine)
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub gamma_v: Option<f64>,
    /// Floating-point precision
    #[arg(long, value_enum, value_name = "PRECISION", default_value = "f64")]
    pub precision: PrecisionName,
    /// Fresh sequences per trial
    #[arg(long, value_name = "N", default_value_t = TEST_SEQUENCES, allow_negative_numbers = true)]
    pub test_sequences: usize,
    /// Do not isolate the parts of the noise, which takes two thirds of the time
    #[arg(long)]
    pub no_decompose: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// The engine with its rates, checked for which of them are given.
    pub(super) fn engine(&self) -> Result<Engine, Failure> {
        let rates = [
            ("--eta", self.eta),
            ("--gamma-w", self.gamma_w),
            ("--gamma-v", self.gamma_v),
        ];
        match self.engine {
            EngineName::Early => match rates.iter().find(|r| r.1.is_some()) {
                None => Ok(Engine::Early),
                Some((name, _)) => Err(Failure::Usage(format!(
                    "{name}: the early engine is the limit of small steps and has no step sizes; add --engine exact"
                ))),
            },
            EngineName::Exact => {
                let get = |(name, value): (&str, Option<f64>)| {
                    value.ok_or_else(|| {
                        Failure::Usage(format!("{name} is missing: --engine exact needs it"))
                    })
                };
                Ok(Engine::Exact {
                    eta: get(rates[0])?,
                    gamma_w: get(rates[1])?,
                    gamma_v: get(rates[2])?,
                })
            }
        }
    }

    /// One trial, checked.
    ///
    /// # Errors
    /// Names the first option that is out of range and what is allowed.
    pub fn job(&self, seed: u64) -> Result<Job, Failure> {
        let engine = self.engine()?;
        let setting = self.setting.setting()?;
        // The parts are those of the small-step limit without a hidden layer.
        let has_parts = engine == Engine::Early && setting.model.mlp().is_none();
        let config = Configuration {
            engine,
            precision: match self.precision {
                PrecisionName::F64 => Precision::F64,
                PrecisionName::F32 => Precision::F32,
            },
            test_sequences: self.test_sequences,
            decompose: !self.no_decompose && has_parts,
            ..Configuration::of(&setting)
        };
        let job = Job {
            config,
            seed,
            paired: Vec::new(),
        };
        job.validate().map_err(usage)?;
        Ok(job)
    }

    /// The jobs of all trials, checked.
    fn jobs(&self) -> Result<Vec<Job>, Failure> {
        let first = self.job(self.seed)?;
        let trials = self.trials.get() as u64;
        let end = self.seed.checked_add(trials).ok_or_else(|| {
            let last = u64::MAX - trials;
            Failure::Usage(format!(
                "--seed {}: with {trials} trials it must be at most {last}",
                self.seed
            ))
        })?;
        if trials > 1 << 24 {
            return Err(Failure::Usage(format!(
                "--trials {trials}: at most {}",
                1 << 24
            )));
        }
        let job = |seed| Job {
            seed,
            ..first.clone()
        };
        Ok((self.seed..end).map(job).collect())
    }
}

fn usage(error: JobError) -> Failure {
    Failure::Usage(error.to_string())
}

/// Runs `simulate`.
///
/// # Errors
/// If the options are out of range, memory is too small, or training overflows.
pub fn run(args: &Args) -> Answer {
    let jobs = args.jobs()?;
    let threads = args
        .threads
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get)
        .min(jobs.len());
    check_memory(&jobs[0], threads)?;
    let records = in_order(&jobs, threads)?;
    let summary = Summary::new(&records);
    if args.json {
        let mut text = summary.json().to_string();
        text.push('\n');
        output::print(&text)?;
    } else {
        output::print(&summary.text())?;
    }
    Ok(exit::OK)
}

/// Refuses what would not fit: an allocation failure would abort without a word.
fn check_memory(job: &Job, threads: usize) -> Result<(), Failure> {
    let need = job.cost().bytes * threads as f64;
    let have = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        })
        .map_or(f64::from(1u32 << 31) * 32.0, |kib| kib * 1024.0);
    if need <= have {
        return Ok(());
    }
    let gib = f64::from(1 << 30);
    Err(Failure::Error(format!(
        "this setting takes about {:.1} GiB on {threads} threads, and {:.1} GiB are free: use fewer --threads, a smaller --vocab, --dim, --samples or --test-sequences, or --precision f32",
        need / gib,
        have / gib
    )))
}

/// Runs all jobs on `threads` workers; results come back in the order of the jobs.
fn in_order(jobs: &[Job], threads: usize) -> Result<Vec<Record>, Failure> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let done: Vec<Mutex<Option<Result<Record, JobError>>>> =
        jobs.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let (Some(job), Some(slot)) = (jobs.get(i), done.get(i)) else {
                break;
            };
            let result = job.run();
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            if let Ok(mut slot) = slot.lock() {
                *slot = Some(result);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system has no more threads to give, those that run do all the work.
            let spawned = std::thread::Builder::new().spawn_scoped(scope, work);
            if spawned.is_err() {
                break;
            }
        }
        work();
    });
    let mut records = Vec::with_capacity(jobs.len());
    // The first failure in seed order ends the list; later slots may be empty then.
    for (job, slot) in jobs.iter().zip(done) {
        match slot.into_inner().ok().flatten() {
            Some(Ok(record)) => records.push(record),
            Some(Err(error)) => {
                return Err(Failure::Error(format!("seed {}: {error}", job.seed)));
            }
            None => {
                return Err(Failure::Error(format!(
                    "seed {}: the trial did not finish",
                    job.seed
                )));
            }
        }
    }
    Ok(records)
}

/// Mean over trials, and its standard error where there is more than one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mean {
    value: f64,
    error: Option<f64>,
}

impl Mean {
    fn of(x: &[f64]) -> Self {
        let n = x.len() as f64;
        let value = x.iter().sum::<f64>() / n;
        let error = (x.len() > 1).then(|| {
            let square: f64 = x.iter().map(|x| (x - value).powi(2)).sum();
            (square / (n - 1.0) / n).sqrt()
        });
        Mean { value, error }
    }

    /// Root of a mean square, its error by the delta method.
    fn root(self) -> Self {
        let value = self.value.sqrt();
        let slope = |e: f64| if value > 0.0 { e / (2.0 * value) } else { 0.0 };
        Mean {
            value,
            error: self.error.map(slope),
        }
    }
}

/// The sizes of a setting in one line.
pub(super) fn sizes(s: &Setting) -> String {
    let samples = match s.samples {
        Samples::Finite(n) => n.to_string(),
        Samples::Infinite => "infinite".to_owned(),
    };
    let dims = if s.dim_in == s.dim_out {
        s.dim_in.to_string()
    } else {
        format!("{} (in), {} (out)", s.dim_in, s.dim_out)
    };
    format!("V = {}, d = {dims}, L = {}, N = {samples}", s.vocab, s.len)
}

/// How attention works: saturated, or at which strength.
pub(super) fn attention(setting: &Setting) -> Value {
    match setting.attention {
        Attention::Argmax => json!({"kind": "argmax"}),
        Attention::Strength(g) => json!({"kind": "strength", "strength": g}),
    }
}

/// The setting of a configuration; for the exact engine with what gamma_w amounts to, at
/// `E|z_EOS|^2 = 1`.
pub(super) fn effective_setting(config: &Configuration) -> Setting {
    let mut setting = config.setting();
    if let Engine::Exact { eta, gamma_w, .. } = config.engine {
        let unit = eta / ((setting.len as f64).powi(2) * setting.vocab as f64);
        setting.attention = Attention::Strength(gamma_w * unit * nominal_signal(&setting));
    }
    setting
}

/// Trials of one setting, averaged.
struct Summary<'a> {
    setting: Setting,
    records: &'a [Record],
    /// Key, description, mean; only what was measured.
    means: Vec<(&'static str, &'static str, Mean)>,
    /// In the order of the names; empty unless the parts were isolated.
    noise: Vec<(&'static str, Mean)>,
    covariance: Option<Mean>,
}

impl<'a> Summary<'a> {
    fn new(records: &'a [Record]) -> Self {
        let config = &records[0].job.config;
        let setting = effective_setting(config);
        // A quantity is averaged if every trial has measured it.
        let mean = |get: &dyn Fn(&Record) -> Option<f64>| {
            let x: Option<Vec<f64>> = records.iter().map(get).collect();
            x.map(|x| Mean::of(&x))
        };
        let spread = mean(&|r| Some(r.outcome.spread_squared)).map(Mean::root);
        let means = [
            (
                "attention_accuracy",
                "attention, fresh sequences",
                mean(&|r| Some(r.outcome.attention.rate())),
            ),
            (
                "train_attention_accuracy",
                "attention, training batch",
                mean(&|r| r.outcome.train_attention.map(|c| c.rate())),
            ),
            (
                "attention_weight",
                "attention weight, fresh sequences",
                mean(&|r| r.outcome.attention_weight),
            ),
            (
                "recall_accuracy",
                "recall",
                mean(&|r| Some(r.outcome.recall.rate())),
            ),
            (
                "accuracy",
                "end to end",
                mean(&|r| Some(r.outcome.accuracy.rate())),
            ),
            (
                "one_step_accuracy",
                "one step",
                mean(&|r| Some(r.outcome.one_step.rate())),
            ),
            ("signal", "signal T / S0", mean(&|r| Some(r.outcome.signal))),
            ("spread", "spread / S0", spread),
        ]
        .into_iter()
        .filter_map(|(key, name, mean)| Some((key, name, mean?)))
        .collect();
        let noise = NOISE_NAMES
            .iter()
            .enumerate()
            .filter_map(|(i, name)| {
                let part = mean(&|r| r.outcome.noise.map(|n| n.values()[i]))?;
                Some((*name, part.root()))
            })
            .collect();
        let covariance = mean(&|r| {
            let parts: f64 = r.outcome.noise?.values().iter().sum();
            Some(r.outcome.spread_squared - parts)
        });
        Summary {
            setting,
            records,
            means,
            noise,
            covariance,
        }
    }

    fn json(&self) -> Value {
        let first = &self.records[0];
        let config = &first.job.config;
        let mut all = Map::new();
        let mut errors = Map::new();
        let mut put = |key: &str, mean: &Mean| {
            all.insert(key.to_owned(), json!(mean.value));
            if let Some(error) = mean.error {
                errors.insert(key.to_owned(), json!(error));
            }
        };
        for (key, _, mean) in &self.means {
            put(key, mean);
        }
        if let Some(covariance) = &self.covariance {
            put("noise_covariance", covariance);
        }
        if !self.noise.is_empty() {
            let part = |name: &str, x: f64| json!({"name": name, "relative_sd": x});
            let noise: Vec<Value> = self.noise.iter().map(|(n, m)| part(n, m.value)).collect();
            all.insert("noise".to_owned(), noise.into());
            let noise = self.noise.iter().map(|(n, m)| m.error.map(|e| part(n, e)));
            if let Some(noise) = noise.collect::<Option<Vec<Value>>>() {
                errors.insert("noise".to_owned(), noise.into());
            }
        }
        if errors.is_empty() {
            let note = "one trial: a standard error needs at least two";
            all.insert("standard_error_note".to_owned(), note.into());
        } else {
            all.insert("standard_error".to_owned(), errors.into());
        }
        let rest = json!({
            "trials": self.records.len(),
            "seed": first.job.seed,
            "attention": attention(&self.setting),
            "engine": config.engine,
            "precision": config.precision,
            "kernel": first.kernel,
            "test_sequences": config.test_sequences,
            "setting": self.setting,
            "rng_scheme": first.rng_scheme,
        });
        if let Value::Object(rest) = rest {
            all.extend(rest);
        }
        all.into()
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{}; trials {}, first seed {}\n\n",
            sizes(&self.setting),
            self.records.len(),
            self.records[0].job.seed
        );
        let mut line = |name: &str, mean: &Mean| {
            let _ = match mean.error {
                Some(error) => writeln!(text, "{name:36} {:>10.4} +- {error:.4}", mean.value),
                None => writeln!(text, "{name:36} {:>10.4}", mean.value),
            };
        };
        for (_, name, mean) in &self.means {
            line(name, mean);
        }
        for (name, mean) in &self.noise {
            line(&format!("  noise: {}", name.replace('_', " ")), mean);
        }
        if let Some(covariance) = &self.covariance {
            line("  noise: covariance (/ S0^2)", covariance);
        }
        text.push('\n');
        if self.records.len() == 1 {
            text.push_str("One trial: no standard errors (they need at least two).\n");
        } else {
            text.push_str("+- is the standard error of the mean over trials.\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_carry_their_error_by_the_delta_method() {
        let mean = Mean::of(&[1.0, 3.0]);
        assert_eq!(mean.value, 2.0);
        assert_eq!(mean.error, Some(1.0));
        let root = mean.root();
        assert_eq!(root.error, Some(1.0 / (2.0 * 2f64.sqrt())));
        assert_eq!(Mean::of(&[4.0]).root().error, None);
        assert_eq!(Mean::of(&[0.0, 0.0]).root().error, Some(0.0));
    }
}
