//! Kernels: draws, products, and whole trials of both engines.
//!
//! `cargo bench --bench kernels`, on one thread.
#![allow(missing_docs)] // criterion's macros make undocumented items

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use recall_capacity::embedding::Embeddings;
use recall_capacity::job::{Configuration, Engine, Job, Precision};
use recall_capacity::linalg::{Matrix, Real, gemm};
use recall_capacity::rng::{Purpose, StreamKey};
use recall_capacity::task::{Batch, Permutation};
use recall_theory::{Embedding, Labels, Setting};

fn key() -> StreamKey {
    StreamKey::from_text("bench")
}

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
    group.finish();
}

fn filled<R: Real>(rows: usize, cols: usize) -> Matrix<R> {
    let entry = |i: usize| R::from_f64((i as f64 * 0.7).sin());
    Matrix::from_vec(rows, cols, (0..rows * cols).map(entry).collect())
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

criterion_group!(benches, draws, products::<f64>, products::<f32>, trials);
criterion_main!(benches);
