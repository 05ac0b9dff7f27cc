//! Work that several benchmarks share, and the clocks they read.
#![allow(dead_code)] // each benchmark takes what it needs

use std::fs;

use recall_capacity::embedding::Embeddings;
use recall_capacity::figure::{Axis, Line, Point, Points, Style, XyFigure};
use recall_capacity::job::{Configuration, Engine, Job, Precision};
use recall_capacity::linalg::{Matrix, Real};
use recall_capacity::rng::{Purpose, StreamKey};
use recall_capacity::stats::probit::Trial;
use recall_capacity::stats::regression::Observation;
use recall_capacity::task::{Batch, Permutation};
use recall_theory::{Labels, Samples, Setting};
use rustix::time::{ClockId, clock_gettime};

/// Step sizes at which attention is sharp and nothing overflows.
pub(crate) const RATES: recall_capacity::descent::Rates = recall_capacity::descent::Rates {
    eta: 1.0,
    gamma_w: 1e6,
    gamma_v: 10.0,
};

/// One stream of random numbers for all benchmarks.
pub(crate) fn key() -> StreamKey {
    StreamKey::from_text("bench")
}

/// A matrix without structure that a kernel could use.
pub(crate) fn filled<R: Real>(rows: usize, cols: usize) -> Matrix<R> {
    let entry = |i: usize| R::from_f64((i as f64 * 0.7).sin());
    Matrix::from_vec(rows, cols, (0..rows * cols).map(entry).collect())
}

/// What both engines train on.
pub(crate) struct Data<R> {
    pub(crate) setting: Setting,
    pub(crate) embeddings: Embeddings<R>,
    pub(crate) query: Vec<R>,
    pub(crate) permutation: Permutation,
    pub(crate) train: Batch,
    pub(crate) test: Batch,
}

impl<R: Real> Data<R> {
    /// Drawn for a setting with a finite batch, and `fresh` sequences besides.
    pub(crate) fn draw(setting: Setting, fresh: usize) -> Self {
        let key = key();
        let permutation = Permutation::random(setting.vocab, &mut key.stream(Purpose::Permutation));
        let samples = match setting.samples {
            Samples::Finite(n) => n as usize,
            Samples::Infinite => panic!("benchmarks train on a finite batch"),
        };
        let draw = |purpose, samples| {
            let mut rng = key.stream(purpose);
            Batch::draw(&mut rng, &permutation, setting.len, samples, Labels::Iid)
        };
        let embeddings = Embeddings::draw(&setting, &key);
        let query = embeddings.draw_query(setting.input, &key);
        Data {
            setting,
            embeddings,
            query,
            train: draw(Purpose::Train, samples),
            test: draw(Purpose::Test, fresh),
            permutation,
        }
    }
}

/// The job of a setting with one of the two engines.
pub(crate) fn job(setting: &Setting, exact: bool, precision: Precision) -> Job {
    let mut config = Configuration {
        precision,
        ..Configuration::of(setting)
    };
    if exact {
        config.engine = Engine::Exact {
            eta: RATES.eta,
            gamma_w: RATES.gamma_w,
            gamma_v: RATES.gamma_v,
        };
    }
    Job {
        config,
        seed: 0,
        paired: Vec::new(),
    }
}

/// A psychometric curve measured at 9 sizes by 20 seeds of 64 trials each.
pub(crate) fn curve() -> Vec<Trial> {
    let mut trials = Vec::new();
    for level in 0..9 {
        let x = 100.0 * f64::from(level).exp2();
        for seed in 0..20u64 {
            let wobble = ((seed * 9 + level as u64) as f64 * 12.9898).sin();
            let rate = 1.0 / (1.0 + (-(f64::from(level) - 4.0) - 0.3 * wobble).exp());
            trials.push(Trial {
                seed,
                x,
                successes: (64.0 * rate).round(),
                trials: 64.0,
            });
        }
    }
    trials
}

/// A power law in three factors at 60 configurations.
pub(crate) fn law() -> Vec<Observation> {
    (0..60)
        .map(|i| {
            let (d, l, v) = (f64::from(i % 4), f64::from(i / 4 % 4), f64::from(i / 16));
            Observation {
                regressors: vec![d, l, v],
                response: 5.0 - 1.5 * d + l + 0.5 * v + 0.05 * (f64::from(i) * 12.9898).sin(),
                standard_error: Some(0.03 + 0.001 * f64::from(i)),
            }
        })
        .collect()
}

/// Names of the factors of [`law`].
pub(crate) const FACTORS: [&str; 3] = ["d", "L", "V"];

/// A log-log figure with 40 points in error bars and two lines.
pub(crate) fn figure() -> XyFigure {
    let point = |i: u32| {
        let x = f64::from(i % 20 + 2).exp2().sqrt();
        let y = x.powf(1.5) * (1.0 + 0.1 * (f64::from(i) * 12.9898).sin());
        Point::new(x, y).y_interval(y * 0.9, y * 1.1)
    };
    let law = |factor: f64| {
        (2..22)
            .map(|i| f64::from(i).exp2().sqrt())
            .map(move |x| (x, factor * x.powf(1.5)))
    };
    XyFigure::new(
        "Samples against the dimension",
        Axis::log2("d (embedding dimension)"),
        Axis::log10("N* (samples)"),
    )
    .with(Points::new(
        "measured",
        Style::slot(0),
        (0..40).map(point).collect(),
    ))
    .with(Line::new("formula", Style::slot(1), law(1.0).collect()))
    .with(Line::new("bound", Style::neutral(), law(0.5).collect()))
}

/// Seconds that this process has had of processors.
pub(crate) fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Seconds that this thread has had of a processor.
pub(crate) fn thread_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Model and family of the processor, where Linux tells.
pub(crate) fn processor_name() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text
            .lines()
            .find(|l| l.split(':').next().map(str::trim) == Some(name))?;
        line.split_once(':')
            .map(|(_, value)| value.trim().to_owned())
    };
    match (field("model name"), field("cpu family")) {
        (Some(model), Some(family)) => format!("{model}, family {family}"),
        _ => std::env::consts::ARCH.to_owned(),
    }
}
