use std::collections::HashMap;

use super::*;
use crate::descent::early::{Count, Outcome};
use crate::spec::{Block, OneOrMany, Quantity};

/// Records with a planted threshold: accuracy is a step of width .3 in log N around `centre`, the
/// noise ratio falls as `(N / centre)^slope`.
struct Planted {
    centre: f64,
    slope: f64,
    records: HashMap<String, Record>,
}

impl Records for Planted {
    fn get(&self, job: &Job) -> Option<&Record> {
        self.records.get(&job.key())
    }
}

impl Planted {
    fn run(&mut self, job: &Job) {
        let x = job.config.samples.as_f64().ln() - self.centre.ln();
        let p = 1.0 / (1.0 + (-x / 0.3).exp());
        let l = 1.0 - 1.0 / job.config.len as f64;
        let ratio = (self.slope * x).exp() * l;
        let count = Count {
            hits: (1000.0 * p) as u64,
            total: 1000,
        };
        let json = serde_json::json!({
            "attention": count, "accuracy": count, "recall": count, "one_step": count,
            "signal": 1.0, "spread_squared": 1.0, "interference_squared": ratio * ratio,
        });
        let outcome: Outcome = serde_json::from_value(json).unwrap();
        let record = Record {
            schema: 1,
            rng_scheme: 1,
            key: job.key(),
            kernel: String::new(),
            job: job.clone(),
            outcome,
        };
        self.records.insert(job.key(), record);
    }
}

fn search(criterion: Criterion, centre: f64, slope: f64) -> (Progress, usize) {
    let setting = Setting::new(256, 64, 32, 1);
    let point = SearchPoint {
        setting,
        axis: SearchAxis::Samples,
        criterion,
    };
    let block: Block = toml::from_str("vocab = 256\nlen = 32").unwrap();
    assert_eq!(block.vocab, OneOrMany::One(256));
    let design = Design {
        seeds: 4,
        first_seed: 0,
        blocks: vec![block],
        asymptotic: None,
        paired: Vec::new(),
        test_sequences: None,
        precision: crate::job::Precision::F64,
        decompose: false,
    };
    let mut planted = Planted {
        centre,
        slope,
        records: HashMap::new(),
    };
    for _ in 0..40 {
        match point.progress(&design, &planted) {
            Progress::Need(levels) => {
                assert!(!levels.is_empty());
                for (value, seeds) in levels {
                    for seed in 0..seeds {
                        planted.run(&point.job(&design, value, seed));
                    }
                }
            }
            done => return (done, planted.records.len()),
        }
    }
    panic!("the search does not end");
}

#[test]
fn a_planted_threshold_is_bracketed_wherever_it_lies() {
    let accuracy = Criterion::Accuracy {
        quantity: Quantity::Accuracy,
        level: 0.5,
    };
    let noise = Criterion::NoiseRatio { level: 1.0 };
    for centre in [40.0, 300.0, 2000.0, 15_000.0] {
        for (criterion, slope) in [(accuracy, -1.0), (noise, -1.0), (noise, -0.6)] {
            let (end, trials) = search(criterion, centre, slope);
            let Progress::Done(plan) = end else {
                panic!("{criterion:?} {centre}: {end:?}")
            };
            assert!(plan.bracketed, "{criterion:?} {centre} {plan:?}");
            assert!(plan.levels[0] as f64 <= centre);
            assert!(plan.levels[plan.levels.len() - 1] as f64 >= centre);
            assert!(trials <= 60, "{trials} trials");
        }
    }
}

#[test]
fn a_threshold_out_of_reach_is_reported_not_invented() {
    let accuracy = Criterion::Accuracy {
        quantity: Quantity::Accuracy,
        level: 0.5,
    };
    let (end, _) = search(accuracy, 1e9, -1.0);
    assert!(
        matches!(end, Progress::Unbracketed { above: true, .. }),
        "{end:?}"
    );
}
