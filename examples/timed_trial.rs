//! Times whole trials, drawing of the data included, and prints one JSON line.
//!
//! ```sh
//! cargo run --release --example timed_trial -- early f32 2048 128 128 32768 --seeds 0..3
//! ```
//!
//! `early` or `exact`, `f32` or `f64`, then `V d L N`; a line holds the seconds of each seed (wall
//! clock, and time on the processor, which other programs on the machine disturb less), the
//! accuracies, and the peak memory of the process. `--rates ETA GAMMA_W GAMMA_V` are the step sizes
//! of `exact`, `--test M` the number of fresh sequences.

use std::error::Error;
use std::fs;
use std::time::Instant;

use recall_capacity::descent::early::Count;
use recall_capacity::job::{Configuration, Engine, Job, Precision};
use recall_theory::Setting;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

const USAGE: &str = "usage: timed_trial early|exact f32|f64 V d L N [--seeds A..B] [--test M] \
                     [--rates ETA GAMMA_W GAMMA_V]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, precision, sizes @ ..] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let [vocab, dim, len, samples, options @ ..] = sizes else {
        return Err(USAGE.into());
    };
    let setting = Setting::new(vocab.parse()?, dim.parse()?, len.parse()?, samples.parse()?);
    let mut config = Configuration {
        precision: match precision.as_str() {
            "f32" => Precision::F32,
            "f64" => Precision::F64,
            _ => return Err(USAGE.into()),
        },
        ..Configuration::of(&setting)
    };
    let mut seeds = 0..1;
    let mut rates = [1.0, 1e6, 10.0];
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        let mut value = || rest.next().ok_or(USAGE);
        match option.as_str() {
            "--seeds" => {
                let (from, to) = value()?.split_once("..").ok_or(USAGE)?;
                seeds = from.parse()?..to.parse()?;
            }
            "--test" => config.test_sequences = value()?.parse()?,
            "--rates" => {
                for rate in &mut rates {
                    *rate = value()?.parse()?;
                }
            }
            _ => return Err(USAGE.into()),
        }
    }
    let [eta, gamma_w, gamma_v] = rates;
    match engine.as_str() {
        "early" => {}
        "exact" => {
            config.engine = Engine::Exact {
                eta,
                gamma_w,
                gamma_v,
            };
        }
        _ => return Err(USAGE.into()),
    }

    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    let (mut attention, mut accuracy, mut recall) = (Vec::new(), Vec::new(), Vec::new());
    let mut kernel = String::new();
    for seed in seeds {
        let job = Job {
            config,
            seed,
            paired: Vec::new(),
        };
        let (begin, before) = (Instant::now(), processor_seconds());
        let record = job.run()?;
        wall.push(begin.elapsed().as_secs_f64());
        cpu.push(processor_seconds() - before);
        let rate = |c: Count| c.rate();
        attention.push(rate(record.outcome.attention));
        accuracy.push(rate(record.outcome.accuracy));
        recall.push(rate(record.outcome.recall));
        kernel = record.kernel;
    }
    println!(
        "{}",
        json!({
            "wall_s": wall, "cpu_s": cpu, "peak_kib": peak_kib(), "kernel": kernel,
            "attention": attention, "accuracy": accuracy, "recall": recall,
        })
    );
    Ok(())
}

/// Processor time of this process.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Largest resident size of this process so far, where Linux tells.
fn peak_kib() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
