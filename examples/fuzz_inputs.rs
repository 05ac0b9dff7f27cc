//! Feeds mutated inputs to everything that the program reads, and reports what made it panic.
//!
//! ```sh
//! cargo run --release --example fuzz_inputs -- 10000000 1
//! ```
//!
//! The arguments are the number of executions and the seed. The committed answer is in
//! `docs/robustness.md`; a short run is the test `fuzz_inputs`.

#[path = "../tests/fuzz/mod.rs"]
mod fuzz;

use std::process::ExitCode;
use std::time::Instant;

use fuzz::{TARGETS, fuzz};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing panicked.
fn run() -> Result<bool, Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let executions: u64 = args.first().map_or(Ok(1_000_000), |n| n.parse())?;
    let seed: u64 = args.get(1).map_or(Ok(1), |n| n.parse())?;
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    std::panic::set_hook(Box::new(|_| {}));
    println!("| input | executions | accepted | distinct answers | panics | per second |");
    println!("|---|---:|---:|---:|---:|---:|");
    let mut sound = true;
    for (target, tenths) in TARGETS {
        let begin = Instant::now();
        let found = fuzz(target, executions / 10 * tenths, seed, scratch.path())?;
        println!(
            "| {} | {} | {} | {} | {} | {:.0} |",
            target.name(),
            found.executions,
            found.accepted,
            found.answers,
            found.panics.len(),
            found.executions as f64 / begin.elapsed().as_secs_f64()
        );
        for (message, input) in &found.panics {
            sound = false;
            eprintln!("{}: {message}\n{input:?}", target.name());
        }
    }
    Ok(sound)
}
