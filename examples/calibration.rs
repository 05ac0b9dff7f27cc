//! Coverage and error rates of the statistics on synthetic data with known truth, as a table in
//! Markdown: what `docs/calibration.md` holds. Fixed seeds; prints repetitions and the
//! Monte-Carlo error of each rate. `cargo run --release --example calibration`.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, Exp1, StandardNormal};
use recall_capacity::stats::StatsError;
use recall_capacity::stats::equivalence::bound_test;
use recall_capacity::stats::interval::{Estimate, mean_of_seeds};
use recall_capacity::stats::probit::{ProbitOptions, Trial, probit_threshold};
use recall_capacity::stats::regression::{Observation, RegressionOptions, fit_loglog};
use recall_capacity::stats::verdict::{
    BoundEvidence, Claim, Evidence, FormulaEvidence, PointCount, Policy, Verdict, decide,
};

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

fn row(what: &str, hits: usize, of: usize, nominal: &str) {
    let rate = hits as f64 / of as f64;
    let error = (rate * (1.0 - rate) / of as f64).sqrt();
    println!("| {what} | {nominal} | {rate:.3} ± {error:.3} | {of} |");
}

fn holds(e: &Estimate, truth: f64) -> bool {
    (e.lower..=e.upper).contains(&truth)
}

/// Asymmetric accuracy curves of the log samples, one half at `x = 7`.
#[derive(Clone, Copy)]
enum Curve {
    /// Steep above, with a long foot.
    LongFoot,
    /// Steep below, with a long shoulder.
    LongShoulder,
}

impl Curve {
    fn at(self, x: f64) -> f64 {
        let rise = |t: f64| 1.0 - (-std::f64::consts::LN_2 * (1.5 * t).exp()).exp();
        match self {
            Curve::LongFoot => rise(x - 7.0),
            Curve::LongShoulder => 1.0 - rise(7.0 - x),
        }
    }
}

/// Intervals that hold the threshold, and thresholds estimated.
fn threshold(
    curve: Curve,
    half: f64,
    link_error: f64,
    seed_sd: f64,
    repeats: usize,
) -> Result<(usize, usize), StatsError> {
    let mut rng = ChaCha8Rng::seed_from_u64(101);
    let options = ProbitOptions {
        link_error,
        bootstrap_samples: 0,
        ..ProbitOptions::default()
    };
    let (mut hits, mut found) = (0, 0);
    for _ in 0..repeats {
        let centre = 7.0 + 0.3 * (rng.random::<f64>() - 0.5);
        let mut trials = Vec::new();
        for step in [-1.0, -0.5, 0.0, 0.5, 1.0] {
            let x = centre + step * half;
            for seed in 0..6 {
                let p = curve.at(x + seed_sd * normal(&mut rng));
                let Ok(law) = Binomial::new(256, p) else {
                    continue;
                };
                trials.push(Trial {
                    seed,
                    x,
                    successes: law.sample(&mut rng) as f64,
                    trials: 256.0,
                });
            }
        }
        if let Some(e) = probit_threshold(&trials, &options)?.estimate() {
            found += 1;
            hits += usize::from(holds(&e.log_n, 7.0));
        }
    }
    Ok((hits, found))
}

/// Coverage of a slope when standard errors differ by ten and the largest responses are censored.
fn slope(censored: bool, repeats: usize) -> Result<(usize, usize), StatsError> {
    let mut rng = ChaCha8Rng::seed_from_u64(102);
    let mut hits = 0;
    for _ in 0..repeats {
        let mut rows = Vec::new();
        for i in 0..6 {
            for j in 0..4 {
                let (a, b) = (0.5 * f64::from(i), 0.7 * f64::from(j));
                let error = 0.02 + 0.18 * f64::from(i) / 5.0;
                let response = 1.5 * a - b + error * normal(&mut rng) + 0.05 * normal(&mut rng);
                // What lies beyond the range searched carries no estimate.
                if censored && response > 3.2 {
                    continue;
                }
                rows.push(Observation {
                    regressors: vec![a, b],
                    response,
                    standard_error: Some(error),
                });
            }
        }
        let fit = fit_loglog(&["a", "b"], &rows, &RegressionOptions::default())?;
        hits += usize::from(holds(&fit.coefficients[1].estimate, 1.5));
    }
    Ok((hits, repeats))
}

fn mean(n: usize, draw: impl Fn(&mut ChaCha8Rng) -> f64) -> Result<(usize, usize), StatsError> {
    let mut rng = ChaCha8Rng::seed_from_u64(103);
    let (mut hits, repeats) = (0, 20_000);
    for _ in 0..repeats {
        let values: Vec<f64> = (0..n).map(|_| draw(&mut rng)).collect();
        hits += usize::from(holds(&mean_of_seeds(&values, 0.95)?, 0.0));
    }
    Ok((hits, repeats))
}

/// Reports of 34 claims, each exactly at its margin: how many hold a false refutation, and how many
/// a false support.
fn family(repeats: usize) -> Result<[usize; 2], StatsError> {
    let mut rng = ChaCha8Rng::seed_from_u64(104);
    let (margin, sd, n) = (0.1, 0.05, 12);
    let mut wrong = [0; 2];
    for _ in 0..repeats {
        let mut claims = Vec::new();
        for i in 0..34 {
            let values: Vec<f64> = (0..n).map(|_| margin + sd * normal(&mut rng)).collect();
            claims.push(Claim {
                id: i.to_string(),
                evidence: Evidence::Formula(FormulaEvidence {
                    mean: mean_of_seeds(&values, 0.95)?,
                    sd,
                    margin,
                    max_sd: 1.0,
                    trends: Vec::new(),
                    points: PointCount {
                        total: n,
                        censored: 0,
                    },
                }),
            });
        }
        let verdicts = decide(&claims, &Policy::default())?;
        let any = |v: &Verdict| usize::from(verdicts.iter().any(|c| c.verdict == *v));
        wrong[0] += any(&Verdict::Refuted);
        wrong[1] += any(&Verdict::Supported);
    }
    Ok(wrong)
}

/// False refutations of a bound that 40 readings reach exactly.
fn bound(repeats: usize) -> Result<usize, StatsError> {
    let mut rng = ChaCha8Rng::seed_from_u64(105);
    let mut wrong = 0;
    for _ in 0..repeats {
        let mut tests = Vec::new();
        for _ in 0..40 {
            let values: Vec<f64> = (0..8).map(|_| 0.02 * normal(&mut rng)).collect();
            let e = mean_of_seeds(&values, 0.95)?;
            tests.push(bound_test(e.value, e.standard_error, e.df, 0.0, 0.05)?);
        }
        let claim = Claim {
            id: "bound".into(),
            evidence: Evidence::Bound(BoundEvidence {
                tests,
                points: PointCount {
                    total: 40,
                    censored: 0,
                },
            }),
        };
        let verdicts = decide(&[claim], &Policy::default())?;
        wrong += usize::from(verdicts[0].verdict == Verdict::Refuted);
    }
    Ok(wrong)
}

fn main() -> Result<(), StatsError> {
    println!("| what | nominal | measured | repetitions |\n|---|---:|---:|---:|");
    let default = ProbitOptions::default().link_error;
    for (curve, name) in [
        (Curve::LongFoot, "long foot"),
        (Curve::LongShoulder, "long shoulder"),
    ] {
        for half in [0.3, 0.9] {
            for link in [0.0, default] {
                for sd in [0.0, 0.1] {
                    let (hits, of) = threshold(curve, half, link, sd, 1500)?;
                    let what = format!(
                        "threshold by probit, {name}, levels to ±{half}, link allowance {link}, seed scatter {sd}"
                    );
                    row(&what, hits, of, "0.95");
                }
            }
        }
    }
    for (censored, name) in [(false, "none censored"), (true, "largest censored")] {
        let (hits, of) = slope(censored, 4000)?;
        let what = format!("slope, standard errors from .02 to .2, {name}");
        row(&what, hits, of, "0.95");
    }
    for n in [3, 4, 8] {
        let (hits, of) = mean(n, normal)?;
        row(&format!("mean of {n} normal trials"), hits, of, "0.95");
        let (hits, of) = mean(n, |rng| Distribution::<f64>::sample(&Exp1, rng) - 1.0)?;
        row(&format!("mean of {n} exponential trials"), hits, of, "0.95");
    }
    let repeats = 500;
    let [refuted, supported] = family(repeats)?;
    row(
        "any false refutation, 34 claims at their margin",
        refuted,
        repeats,
        "at most 0.05",
    );
    row(
        "any false support, 34 claims at their margin",
        supported,
        repeats,
        "at most 0.05",
    );
    row(
        "false refutation of a bound reached by 40 readings",
        bound(4000)?,
        4000,
        "at most 0.05",
    );
    Ok(())
}
