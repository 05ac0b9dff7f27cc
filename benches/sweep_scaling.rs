//! Two threads against one on a sweep of 120 jobs of mixed size, and how well `Job::cost` orders them.
//!
//! ```sh
//! cargo bench --bench sweep_scaling                # 3 rounds, one and two threads in turns
//! cargo bench --bench sweep_scaling -- --rounds 5
//! cargo bench --bench sweep_scaling -- --cost      # estimated against measured, 60 random jobs an engine
//! ```
//!
//! The ratio of wall times means something on a quiet machine only. What is printed besides does
//! under load too: processor seconds, the share of the workers' time that is spent in jobs, and the
//! makespan that the runner's order (longest estimated first, next job to the idle worker) gives with
//! the processor seconds of each job, which says what two undisturbed processors would reach.
#![allow(missing_docs)]

mod shared;

use std::error::Error;

use recall_capacity::job::{Job, Precision};
use recall_capacity::progress::Silent;
use recall_capacity::runner::{RunOptions, run_jobs};
use recall_capacity::store::Store;
use recall_theory::Setting;
use shared::{job, processor_name, processor_seconds, thread_seconds};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    println!("{}", processor_name());
    match words.as_slice() {
        [] => sweep(3),
        ["--rounds", n] => sweep(n.parse()?),
        ["--cost"] => cost(),
        _ => Err("usage: sweep_scaling [--rounds N | --cost]".into()),
    }
}

/// Numbers in `[0, 1)` without a generator: multiples of the golden ratio and its kin.
fn spread(i: usize, axis: usize) -> f64 {
    const STEPS: [f64; 5] = [0.618_034, 0.414_214, 0.732_051, 0.236_068, 0.645_751];
    ((i + 1) as f64 * STEPS[axis]).fract()
}

/// A job between the smallest and the largest that an experiment asks for, log-uniform in each size.
fn random_job(i: usize, exact: bool) -> Job {
    let between =
        |axis, low: f64, high: f64| (low * (high / low).powf(spread(i, axis))).round() as usize;
    let (largest_v, largest_n) = if exact {
        (1024.0, 8192.0)
    } else {
        (4096.0, 65536.0)
    };
    let setting = Setting::new(
        between(0, 64.0, largest_v),
        between(1, 16.0, 256.0),
        between(2, 4.0, 256.0),
        between(3, 128.0, largest_n) as u64,
    );
    let precision = if spread(i, 4) < 0.5 {
        Precision::F32
    } else {
        Precision::F64
    };
    Job {
        seed: i as u64,
        ..job(&setting, exact, precision)
    }
}

fn seconds_of(job: &Job) -> Result<f64, Box<dyn Error>> {
    let before = thread_seconds();
    job.run()?;
    Ok(thread_seconds() - before)
}

/// Time until the last of two workers is done, jobs handed out in the order given.
fn makespan(seconds: &[f64]) -> f64 {
    let mut busy = [0.0f64; 2];
    for s in seconds {
        busy[usize::from(busy[1] < busy[0])] += s;
    }
    busy[0].max(busy[1])
}

fn sweep(rounds: usize) -> Result<(), Box<dyn Error>> {
    let mut jobs: Vec<Job> = (0..112).map(|i| random_job(i, false)).collect();
    jobs.extend((0..8).map(|i| random_job(i, true)));
    let mut order = jobs.clone();
    order.sort_by(|a, b| b.cost().seconds.total_cmp(&a.cost().seconds));
    let seconds = order
        .iter()
        .map(seconds_of)
        .collect::<Result<Vec<f64>, _>>()?;
    let total: f64 = seconds.iter().sum();
    println!(
        "{} jobs, {total:.2} processor s, the longest {:.2} s; in the runner's order two undisturbed \
         workers take {:.3} times less than one",
        jobs.len(),
        seconds.iter().fold(0.0, |a: f64, b| a.max(*b)),
        total / makespan(&seconds)
    );
    println!("round threads   wall s  processor s  in jobs  idle s");
    let mut best = [f64::INFINITY; 2];
    for round in 0..rounds {
        for threads in [1, 2] {
            let dir = tempfile::tempdir()?;
            let mut store = Store::open(dir.path())?;
            let before = processor_seconds();
            let options = RunOptions {
                threads,
                ..RunOptions::default()
            };
            let done = run_jobs(jobs.clone(), &mut store, options, &mut Silent)?;
            let available = done.seconds * threads as f64;
            println!(
                "{round:>5} {threads:>7} {:>8.3} {:>12.3} {:>7.1}% {:>7.3}",
                done.seconds,
                processor_seconds() - before,
                100.0 * done.busy_seconds / available,
                available - done.busy_seconds
            );
            best[threads - 1] = best[threads - 1].min(done.seconds);
        }
    }
    println!(
        "least wall time of one thread over that of two: {:.3}",
        best[0] / best[1]
    );
    Ok(())
}

fn cost() -> Result<(), Box<dyn Error>> {
    for exact in [false, true] {
        let mut logs = Vec::new();
        for i in 0..60 {
            let job = random_job(i, exact);
            let seconds = seconds_of(&job)?.min(seconds_of(&job)?);
            let estimate = job.cost().seconds;
            let c = &job.config;
            println!(
                "{} {} {:?} {} {:?} {seconds:.6} {estimate:.6}",
                if exact { "exact" } else { "early" },
                c.vocab,
                c.input.dim,
                c.len,
                (c.samples.as_f64(), c.precision)
            );
            logs.push((estimate / seconds).ln());
        }
        logs.sort_by(f64::total_cmp);
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        let deviation = (logs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 59.0).sqrt();
        println!(
            "# {}: estimated/measured {:.2} (geometric mean), spread a factor {:.2} (one standard \
             deviation), from {:.2} to {:.2}",
            if exact { "exact" } else { "early" },
            mean.exp(),
            deviation.exp(),
            logs.first().map_or(0.0, |x| x.exp()),
            logs.last().map_or(0.0, |x| x.exp())
        );
    }
    Ok(())
}
