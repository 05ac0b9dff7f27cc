//! Trials of a setting on two threads, for tests that hold formulas to them.

use recall_capacity::descent::early::Outcome;
use recall_capacity::job::{Configuration, Job, Precision};
use recall_theory::Setting;

/// Runs `trials` seeds on two threads.
pub(crate) fn simulate(s: &Setting, trials: u64, decompose: bool) -> Vec<Outcome> {
    assert_eq!(s.validate(), Ok(()));
    let mut config = Configuration::of(s);
    config.decompose = decompose;
    config.precision = Precision::F32;
    let run = |seed| {
        let job = Job {
            config,
            seed,
            paired: vec![],
        };
        job.run().unwrap().outcome
    };
    let run = &run;
    std::thread::scope(|scope| {
        let halves: Vec<_> = (0..2)
            .map(|half| scope.spawn(move || (half..trials).step_by(2).map(run).collect::<Vec<_>>()))
            .collect();
        halves.into_iter().flat_map(|h| h.join().unwrap()).collect()
    })
}

/// Mean and its standard error.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let x: Vec<f64> = values.collect();
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}
