//! Kernels: draws, counting, products, look-ups, steps and trials of both engines, statistics, figures.
//!
//! `cargo bench --bench kernels`, on one thread; `docs/speed.md` says what moves each.
#![allow(missing_docs)] // criterion's macros make undocumented items

mod shared;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use recall_capacity::descent::exact::{self, Problem};
use recall_capacity::embedding::Embeddings;
use recall_capacity::figure::{Figure, render_png, render_svg};
use recall_capacity::job::{Configuration, Engine, Job, Precision};
use recall_capacity::linalg::{Real, argmax, gemm};
use recall_capacity::rng::Purpose;
use recall_capacity::stats::probit::{ProbitOptions, probit_threshold};
use recall_capacity::stats::regression::{RegressionOptions, fit_loglog};
use recall_capacity::task::{Batch, Permutation, Stream};
use recall_theory::{Embedding, Labels, Setting};
use shared::{Data, FACTORS, RATES, curve, figure, filled, key, law};

fn draws(c: &mut Criterion) {
    let mut group = c.benchmark_group("draw");
    let setting = Setting::new(1024, 128, 64, 16384);
    for law in [Embedding::Gaussian, Embedding::Sphere] {
        let setting = setting.with_embeddings(law, law);
        group.throughput(Throughput::Elements(2 * 1024 * 128));
        group.bench_function(format!("embeddings/{law:?}"), |b| {
            b.iter(|| Embeddings::<f64>::draw(black_box(&setting), &key()));
        });
    }
    let pi = Permutation::random(1024, &mut key().stream(Purpose::Permutation));
    for labels in [Labels::Iid, Labels::Balanced] {
        group.throughput(Throughput::Elements(16384 * 64));
        group.bench_function(format!("batch/{labels:?}"), |b| {
            b.iter(|| Batch::draw(&mut key().stream(Purpose::Train), &pi, 64, 16384, labels));
        });
    }
    // In the order of labels, at places that jump: what `early` reads.
    let stream = Stream::new(key().stream(Purpose::Train), &pi, 64, 16384, Labels::Iid);
    let mut order: Vec<u32> = (0..16384).collect();
    order.sort_by_key(|n| n.wrapping_mul(2_654_435_761) >> 22);
    group.throughput(Throughput::Elements(16384 * 64));
    group.bench_function("stream", |b| {
        b.iter(|| stream.reader().collect(black_box(&order)));
    });
    group.bench_function("stream/labels", |b| b.iter(|| stream.labels()));
    group.finish();
}

/// Grouping and counting by label, and looking tokens up in a row of scores.
fn tokens(c: &mut Criterion) {
    let data = Data::<f32>::draw(Setting::new(1024, 16, 64, 16384), 1);
    let mut group = c.benchmark_group("tokens");
    group.throughput(Throughput::Elements(16384 * 64));
    group.bench_function("by_label", |b| {
        b.iter(|| data.train.by_label(black_box(1024)))
    });
    let mut row = vec![0.0f32; 1024];
    group.bench_function("histogram", |b| {
        b.iter(|| {
            for &x in black_box(&data.train.tokens) {
                row[x as usize] += 1.0;
            }
        });
    });
    group.bench_function("lookup", |b| {
        b.iter(|| {
            let sum = |n| {
                data.train
                    .sequence(n)
                    .iter()
                    .map(|&x| row[x as usize])
                    .sum::<f32>()
            };
            (0..data.train.samples()).map(sum).fold(0.0, f32::max)
        });
    });
    group.bench_function("argmax", |b| b.iter(|| argmax(black_box(&row))));
    group.finish();
}

/// The four transpose variants of a product of the shape that label blocks have.
fn products<R: Real>(c: &mut Criterion) {
    let (m, k, n) = (128, 1024, 128);
    let mut group = c.benchmark_group(format!("gemm/{}", R::NAME));
    group.throughput(Throughput::Elements((2 * m * k * n) as u64)); // floating-point operations
    let (a, at) = (filled::<R>(m, k), filled::<R>(k, m));
    let (b, bt) = (filled::<R>(k, n), filled::<R>(n, k));
    let mut out = vec![R::default(); m * n];
    for (name, a, b) in [
        ("a_b", a.view(), b.view()),
        ("at_b", at.view().t(), b.view()),
        ("a_bt", a.view(), bt.view().t()),
        ("at_bt", at.view().t(), bt.view().t()),
    ] {
        group.bench_function(name, |bench| {
            bench.iter(|| {
                gemm(
                    R::from_f64(1.0),
                    black_box(a),
                    black_box(b),
                    R::default(),
                    &mut out,
                )
            });
        });
    }
    group.finish();
}

/// The stages of the exact engine, one by one.
fn steps(c: &mut Criterion) {
    let data = Data::<f32>::draw(Setting::new(512, 64, 32, 2048), 1);
    let Ok(problem) = Problem::new(&data.embeddings, &data.query, &data.train, false) else {
        panic!("a drawn batch fits its embeddings");
    };
    let one = exact::step_one(&problem, RATES.eta);
    let (two, _) = exact::step_two(&problem, &one, RATES.gamma_w);
    let mut group = c.benchmark_group("exact");
    group.sample_size(20);
    group.throughput(Throughput::Elements(2048));
    group.bench_function("step_one", |b| {
        b.iter(|| exact::step_one(&problem, RATES.eta))
    });
    group.bench_function("step_two", |b| {
        b.iter(|| exact::step_two(&problem, &one, RATES.gamma_w));
    });
    group.bench_function("step_three", |b| {
        b.iter(|| exact::step_three(&problem, &two, RATES.gamma_v));
    });
    group.bench_function("evaluate", |b| b.iter(|| exact::evaluate(&problem, &two)));
    group.finish();
}

/// From records to a report: a threshold, a law, a picture.
fn analysis(c: &mut Criterion) {
    let mut group = c.benchmark_group("analysis");
    let (trials, options) = (curve(), ProbitOptions::default());
    group.bench_function("probit", |b| b.iter(|| probit_threshold(&trials, &options)));
    let (points, options) = (law(), RegressionOptions::default());
    group.bench_function("regression", |b| {
        b.iter(|| fit_loglog(&FACTORS, &points, &options))
    });
    let figure: Figure = figure().into();
    group.sample_size(20);
    group.bench_function("figure/svg", |b| b.iter(|| render_svg(&figure)));
    group.bench_function("figure/png", |b| b.iter(|| render_png(&figure, 1.0)));
    group.finish();
}

fn trials(c: &mut Criterion) {
    let mut group = c.benchmark_group("trial");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    let mut run = |name: &str, setting: Setting, change: &dyn Fn(&mut Configuration)| {
        let mut config = Configuration::of(&setting);
        change(&mut config);
        let job = Job {
            config,
            seed: 0,
            paired: Vec::new(),
        };
        let s = setting;
        let size = format!(
            "V{} d{} L{} N{}",
            s.vocab,
            s.dim_in,
            s.len,
            s.samples.as_f64()
        );
        println!(
            "trial/{name}/{size}: estimated at {:.3} s",
            job.cost().seconds
        );
        group.bench_function(BenchmarkId::new(name, size), |b| b.iter(|| job.run()));
    };
    for setting in [
        Setting::new(512, 64, 32, 8192),
        Setting::new(1024, 128, 64, 16384),
    ] {
        run("early/f64", setting, &|_| {});
        run("early/f32", setting, &|c| c.precision = Precision::F32);
        run("early/parts", setting, &|c| c.decompose = true);
    }
    let exact = |c: &mut Configuration| {
        c.engine = Engine::Exact {
            eta: 1.0,
            gamma_w: 1e6,
            gamma_v: 10.0,
        };
    };
    run("exact/f64", Setting::new(256, 32, 16, 2048), &exact);
    run("exact/f32", Setting::new(256, 32, 16, 2048), &|c| {
        exact(c);
        c.precision = Precision::F32;
    });
    group.finish();
}

criterion_group!(
    benches,
    draws,
    tokens,
    products::<f64>,
    products::<f32>,
    steps,
    trials,
    analysis
);
criterion_main!(benches);
