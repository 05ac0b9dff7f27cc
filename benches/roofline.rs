//! How far whole trials are from what their work must cost on this machine.
//!
//! ```sh
//! cargo bench --bench roofline            # sizes A, B and C
//! cargo bench --bench roofline -- C       # one of them
//! ```
//!
//! The floor of a trial is the sum of: its products at the largest rate that the library in use
//! reaches on any of several shapes, its passes over tokens at the measured cost of drawing,
//! counting and looking up, its exponentials at their measured rate, and its scans over score rows.
//! Each cost is measured here, in a loop that does nothing else, on the widest vectors. Efficiency is
//! floor over achieved.
//!
//! What is counted is the work of the algorithm as the engines run it, at step sizes where attention
//! does not saturate (mean score advantage about 1): no rows of step 3 are shared then. An engine
//! that finds a way around part of the work comes out above 1 until this file says so too.
//!
//! Seconds are of the processor, the least of several trials: others on the machine only add.
#![allow(missing_docs)]

mod shared;

use std::error::Error;
use std::hint::black_box;

use recall_capacity::descent::exact::{self, Problem};
use recall_capacity::embedding::Embeddings;
use recall_capacity::job::{Engine, Precision};
use recall_capacity::linalg::{Real, gemm};
use recall_capacity::rng::Purpose;
use recall_capacity::simd::{Kernel, widest};
use recall_capacity::task::{Batch, Stream};
use recall_theory::{Labels, Setting};
use shared::{Data, RATES, filled, job, key, processor_name, thread_seconds};

/// Fresh sequences of a trial.
const FRESH: usize = 2048;

const SIZES: [(&str, [usize; 4]); 3] = [
    ("A", [512, 64, 32, 8192]),
    ("B", [1024, 128, 64, 16384]),
    ("C", [2048, 128, 128, 32768]),
];

fn main() -> Result<(), Box<dyn Error>> {
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    for (name, [v, d, l, n]) in SIZES {
        if !asked.is_empty() && !asked.iter().any(|a| a == name) {
            continue;
        }
        let data = Data::<f32>::draw(Setting::new(v, d, l, n as u64), FRESH);
        let rates = Rates::measure(&data);
        println!(
            "## {name}: V = {v}, d = {d}, L = {l}, N = {n}, f32; {}\n\n{}",
            processor_name(),
            rates.text()
        );
        early(&data, &rates)?;
        exact(&data, &rates)?;
    }
    Ok(())
}

/// Least processor seconds of a few runs, once to warm up.
fn least(mut work: impl FnMut()) -> f64 {
    work();
    let mut best = f64::INFINITY;
    let begin = thread_seconds();
    for round in 0..1000 {
        let before = thread_seconds();
        work();
        let now = thread_seconds();
        best = best.min(now - before);
        if round >= 2 && now - begin > 0.4 {
            break;
        }
    }
    best
}

/// Seconds of one unit of each kind of work.
struct Rates {
    flop: f64,
    shape: (usize, usize, usize),
    word: f64,
    count: f64,
    look_up: f64,
    exponential: f64,
    scan: f64,
    normal: f64,
    row_entry: f64,
}

/// `e^x` in place.
struct Exponentials<'a>(&'a mut [f32]);

impl Kernel for Exponentials<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for x in self.0 {
            *x = (*x - 1.0).exp_of_nonpositive();
        }
    }
}

/// Running argmax over rows.
struct Scan<'a> {
    scores: &'a [f32],
    best: &'a mut [f32],
    label: &'a mut [u32],
}

impl Kernel for Scan<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for (j, row) in (0u32..).zip(self.scores.chunks_exact(self.best.len())) {
            for ((best, label), x) in self.best.iter_mut().zip(&mut *self.label).zip(row) {
                let more = *x > *best;
                *best = if more { *x } else { *best };
                *label = if more { j } else { *label };
            }
        }
    }
}

/// Sum of the rows of a table that a sequence names.
struct SumRows<'a> {
    table: &'a [f32],
    tokens: &'a [u32],
    sum: &'a mut [f32],
}

impl Kernel for SumRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let d = self.sum.len();
        for &x in self.tokens {
            let row = &self.table[x as usize * d..(x as usize + 1) * d];
            for (sum, x) in self.sum.iter_mut().zip(row) {
                *sum += 0.5 * *x;
            }
        }
    }
}

impl Rates {
    fn measure(data: &Data<f32>) -> Self {
        let s = data.setting;
        let (v, d, l) = (s.vocab, s.dim_in, s.len);
        let (flop, shape) = [
            (256, v, d),
            (256, d, v),
            (d, 256, d),
            (512, 512, 512),
            (1024, 256, 1024),
        ]
        .into_iter()
        .map(|shape| (flop_seconds::<f32>(shape), shape))
        .fold(
            (f64::INFINITY, (0, 0, 0)),
            |a, b| if b.0 < a.0 { b } else { a },
        );

        // Tokens in the order of labels, as the engine reads them.
        let train = key().stream(Purpose::Train);
        let samples = data.train.samples().min(8192);
        let stream = Stream::new(train, &data.permutation, l, samples, Labels::Iid);
        let order: Vec<u32> = (0..samples as u32).rev().collect();
        let words = samples * (l + 1);
        let word = least(|| {
            black_box(stream.reader().collect(black_box(&order)));
        }) / words as f64;

        let tokens = &data.train.tokens[..samples * l];
        let mut row = vec![0.0f32; v];
        let count = least(|| {
            for &x in tokens {
                row[x as usize] += 1.0;
            }
            black_box(&mut row);
        }) / tokens.len() as f64;
        let look_up = least(|| {
            let mut sums = [0.0f32; 8];
            for block in tokens.chunks_exact(8) {
                for (sum, &x) in sums.iter_mut().zip(block) {
                    *sum += row[x as usize];
                }
            }
            black_box(sums);
        }) / tokens.len() as f64;

        // What the softmax over logits takes of an entry; in place on a chunk that is in cache.
        let source = filled::<f32>(64, 1024);
        let mut line = source.data().to_vec();
        let exponential = least(|| {
            line.copy_from_slice(source.data());
            widest(Exponentials(&mut line));
            black_box(&mut line);
        }) / line.len() as f64;

        let scores = filled::<f32>(64, v);
        let (mut best, mut label) = (vec![f32::NEG_INFINITY; v], vec![0u32; v]);
        let scan = least(|| {
            widest(Scan {
                scores: scores.data(),
                best: &mut best,
                label: &mut label,
            });
            black_box((&mut best, &mut label));
        }) / (64 * v) as f64;

        let normal = least(|| {
            black_box(Embeddings::<f32>::draw(&s, &key()));
        }) / (2 * v * d) as f64;

        let table = filled::<f32>(v, d);
        let mut sum = vec![0.0f32; d];
        let few = &tokens[..tokens.len().min(1 << 16)];
        let row_entry = least(|| {
            for tokens in few.chunks_exact(l) {
                widest(SumRows {
                    table: table.data(),
                    tokens,
                    sum: &mut sum,
                });
            }
            black_box(&mut sum);
        }) / (few.len() * d) as f64;
        Rates {
            flop,
            shape,
            word,
            count,
            look_up,
            exponential,
            scan,
            normal,
            row_entry,
        }
    }

    fn text(&self) -> String {
        let (m, k, n) = self.shape;
        format!(
            "Measured: products {:.1} Gflop/s (best at {m} x {k} x {n}); nanoseconds to draw a word \
             {:.2}, count a token {:.2}, look one up {:.2}, exponentiate {:.2}, scan a score {:.2}, \
             draw a normal {:.2}, add an entry of a token's row {:.3}.\n",
            1e-9 / self.flop,
            1e9 * self.word,
            1e9 * self.count,
            1e9 * self.look_up,
            1e9 * self.exponential,
            1e9 * self.scan,
            1e9 * self.normal,
            1e9 * self.row_entry,
        )
    }
}

fn flop_seconds<R: Real>((m, k, n): (usize, usize, usize)) -> f64 {
    let (a, b) = (filled::<R>(m, k), filled::<R>(k, n));
    let mut c = vec![R::default(); m * n];
    let seconds = least(|| {
        gemm(R::from_f64(1.0), a.view(), b.view(), R::default(), &mut c);
        black_box(&mut c);
    });
    seconds / (2 * m * k * n) as f64
}

/// Prints the parts of a floor beside what was achieved.
fn print(engine: &str, parts: &[(&str, f64)], achieved: f64) {
    let floor: f64 = parts.iter().map(|p| p.1).sum();
    println!(
        "`{engine}`: achieved {achieved:.4} s, floor {floor:.4} s, efficiency {:.2}\n",
        floor / achieved
    );
    println!("| part of the floor | seconds | share of the floor | share of the trial |");
    println!("|---|---|---|---|");
    for (name, seconds) in parts {
        println!(
            "| {name} | {seconds:.5} | {:.0} % | {:.0} % |",
            100.0 * seconds / floor,
            100.0 * seconds / achieved
        );
    }
    println!();
}

fn early(data: &Data<f32>, rates: &Rates) -> Result<(), Box<dyn Error>> {
    let s = data.setting;
    let job = job(&s, false, Precision::F32);
    let hits = job.run()?.outcome.train_attention;
    let saturated = hits.is_some_and(|c| c.hits == c.total);
    let achieved = least(|| {
        let _ = black_box(job.run());
    });
    let (v, d, l) = (s.vocab as f64, s.dim_in as f64, s.len as f64);
    let (n, fresh) = (data.train.samples() as f64, FRESH as f64);
    // Score rows are made for the read-out, the evaluation and, unless attention saturates in
    // training, for the recall of a saturated network.
    let reads = if saturated { 2.0 } else { 3.0 };
    let table = 2.0 * v * v * d + 2.0 * v * d * d;
    // Step 3 adds one row a sample, and the saturated network one a label.
    let sparse = 2.0 * d * (n.min(v * v) + if saturated { 0.0 } else { v })
        + (reads - 1.0) * 2.0 * v * d * d;
    let parts = [
        ("products", (table * (1.0 + reads) + sparse) * rates.flop),
        ("draw sequences", (n + fresh) * (l + 1.0) * rates.word),
        ("draw embeddings", 2.0 * v * d * rates.normal),
        // Once into the first gradient, once into the query.
        ("count tokens", 2.0 * n * l * rates.count),
        // Scores of step 2, attention in training, attention on fresh sequences.
        ("look tokens up", (2.0 * n + fresh) * l * rates.look_up),
        ("scan scores", reads * v * v * rates.scan),
    ];
    print("early", &parts, achieved);
    Ok(())
}

fn exact(data: &Data<f32>, rates: &Rates) -> Result<(), Box<dyn Error>> {
    let s = data.setting;
    let (v, d, l) = (s.vocab as f64, s.dim_in as f64, s.len as f64);
    let (n, fresh) = (data.train.samples() as f64, FRESH as f64);
    let steps = recall_capacity::descent::Rates {
        gamma_w: l * l * v,
        ..RATES
    };
    let mut job = job(&s, true, Precision::F32);
    job.config.engine = Engine::Exact {
        eta: steps.eta,
        gamma_w: steps.gamma_w,
        gamma_v: steps.gamma_v,
    };
    job.run()?;
    let achieved = least(|| {
        let _ = black_box(job.run());
    });
    let (table, fold) = (2.0 * v * v * d, 2.0 * v * d * d);
    // Step 1 and the recall of two matrices by counts; step 2 linearised, with the Gram matrix of
    // the folded table; step 3 forward, backward to the outputs and into the value matrix; fresh
    // sequences forward. `Z_out V` is folded once a pass.
    let products = 3.0 * (table + fold)
        + (2.0 * fold + n * 2.0 * d * d)
        + (fold + n * (2.0 * 2.0 * v * d + 2.0 * d * d))
        + (fold + fresh * 2.0 * v * d);
    let parts = [
        ("products", products * rates.flop),
        ("draw sequences", (n + fresh) * (l + 1.0) * rates.word),
        ("draw embeddings", 2.0 * v * d * rates.normal),
        ("count tokens", n * l * rates.count),
        (
            "exponentials over labels",
            (n + fresh) * v * rates.exponential,
        ),
        // Averages in steps 2 and 3 and on fresh sequences, and the scores of step 2.
        (
            "average and score positions",
            (3.0 * n + fresh) * l * d * rates.row_entry,
        ),
    ];
    print("exact", &parts, achieved);

    // The stages, called one by one; step 2 as it runs in a trial has no function of its own.
    let problem = Problem::new(&data.embeddings, &data.query, &data.train, false)?;
    let test = Problem::new(&data.embeddings, &data.query, &data.test, false)?;
    let one = exact::step_one(&problem, steps.eta);
    let (two, _) = exact::step_two(&problem, &one, steps.gamma_w);
    let (three, _) = exact::step_three(&problem, &two, steps.gamma_v);
    let draw = |purpose, samples| {
        let mut rng = key().stream(purpose);
        black_box(Batch::draw(
            &mut rng,
            &data.permutation,
            s.len,
            samples,
            Labels::Iid,
        ));
    };
    let drawn = least(|| {
        draw(Purpose::Train, data.train.samples());
        draw(Purpose::Test, FRESH);
    });
    let first = least(|| {
        black_box(exact::step_one(&problem, steps.eta));
    });
    let third = least(|| {
        black_box(exact::step_three(&problem, &two, steps.gamma_v));
    });
    let fresh = least(|| {
        black_box(exact::evaluate(&test, &three));
    });
    let learn = least(|| {
        black_box(exact::learn(&problem, &test, steps));
    });
    let stages = [
        ("draw sequences, in the order of samples", drawn),
        ("draw embeddings", 2.0 * v * d * rates.normal),
        ("step 1", first),
        (
            "step 2 (the three steps less the others)",
            learn - first - third - fresh,
        ),
        ("step 3", third),
        ("fresh sequences", fresh),
    ];
    // Timed alone, and compiled into this program: their sum may differ from the trial.
    let sum: f64 = stages.iter().map(|s| s.1).sum();
    println!("| stage of `exact`, timed alone | seconds | share of their sum |\n|---|---|---|");
    for (name, seconds) in stages {
        println!("| {name} | {seconds:.4} | {:.0} % |", 100.0 * seconds / sum);
    }
    println!();
    Ok(())
}
