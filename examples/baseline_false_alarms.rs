//! How often does `recall verify --baseline` call chance a drift, and what drift does it find?
//!
//! ```sh
//! cargo run --release --example baseline_false_alarms -- full 1000
//! ```
//!
//! Splits the trials of a stored report at random into two runs of half as many seeds, which
//! differ by chance alone, and compares them; then shifts every accuracy of the second run's first
//! block of cells and compares again. The committed answer is in `docs/baseline.md`.

use std::path::PathBuf;
use std::process::ExitCode;

use recall_capacity::baseline::drift::{ALPHA, compare};
use recall_capacity::baseline::resample::deal;
use recall_capacity::baseline::{Baseline, Measured};
use recall_capacity::report::judge;
use recall_capacity::reproduce::{Places, load};
use recall_capacity::spec::Profile;
use recall_capacity::store::{MEASUREMENTS, Store};

const SHIFTS: [f64; 3] = [0.005, 0.01, 0.02];

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let profile = match args.first().map(String::as_str) {
        Some("quick") => Profile::Quick,
        Some("full") | None => Profile::Full,
        Some(other) => return Err(format!("profile {other}: quick or full").into()),
    };
    let repetitions: u64 = args.get(1).map_or(Ok(1000), |n| n.parse())?;
    let places = Places {
        experiments: PathBuf::from("experiments"),
        runs: PathBuf::new(),
        reports: args.get(2).map_or("reports", |s| s).into(),
    };
    let experiments = load(&places, profile)?;
    let store = Store::read_only(places.report(profile).join(MEASUREMENTS))?;
    let (mut alarms, mut smallest) = (0, Vec::new());
    let mut found = [0; SHIFTS.len()];
    let mut comparisons = 0;
    for seed in 0..repetitions {
        let hands = deal(profile, &experiments, &store, seed);
        let mut runs = Vec::new();
        for hand in &hands {
            let judged = judge(profile, &experiments, hand)?;
            runs.push(Baseline::of(&judged, hand));
        }
        let drift = compare(&runs[0], &runs[1])?;
        comparisons = drift.tests.len();
        let least = drift.tests.iter().map(|t| t.p_adjusted).fold(1.0, f64::min);
        smallest.push(least);
        if drift.found() {
            alarms += 1;
            for t in drift.drifted() {
                println!(
                    "repetition {seed}: {} {} {:+.5} ± {:.5}, {:?} df, adjusted p {:.2e}",
                    t.experiment, t.name, t.difference, t.standard_error, t.df, t.p_adjusted
                );
            }
        }
        for (shift, found) in SHIFTS.iter().zip(&mut found) {
            let mut shifted = runs[1].clone();
            let cells = shifted.experiments.iter_mut().flat_map(|e| &mut e.cells);
            for c in cells.filter(|c| c.block == Some(0) && c.quantity == Measured::Accuracy) {
                for x in &mut c.trials.values {
                    *x = (*x + shift).min(1.0);
                }
            }
            *found += usize::from(compare(&runs[0], &shifted)?.found());
        }
    }
    let n = repetitions as f64;
    smallest.sort_by(f64::total_cmp);
    println!("{repetitions} pairs of runs without a change, {comparisons} comparisons each");
    println!(
        "false alarms: {alarms}, that is {:.4} (standard error {:.4}) of the runs; level {ALPHA}",
        f64::from(alarms) / n,
        (ALPHA * (1.0 - ALPHA) / n).sqrt()
    );
    for (shift, found) in SHIFTS.iter().zip(found) {
        println!(
            "end-to-end accuracy of the first blocks shifted by {shift}: found in {:.3} of the runs",
            found as f64 / n
        );
    }
    Ok(())
}
