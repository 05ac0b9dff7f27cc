//! Tests of accuracy formulas over cells against synthetic cells with known errors.

use rand::distr::Distribution;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::Normal;
use recall_capacity::stats::cells::{CellError, Scatter, change_along, mean_error};
use recall_capacity::stats::equivalence::compare;
use recall_capacity::stats::power::test_power;
use recall_capacity::stats::verdict::{AccuracyEvidence, Claim, Evidence, Policy, Verdict, decide};

const CELLS: usize = 12;
const TRIALS: usize = 8;
const MARGIN: f64 = 0.03;
const MAX_SD: f64 = 0.04;
const REPETITIONS: usize = 4000;

/// Standard deviation of one trial, largest at the transition.
fn noise(i: usize) -> f64 {
    0.02 + 0.04 * (-((i as f64 - 5.5) / 3.0).powi(2)).exp()
}

fn logs() -> Vec<f64> {
    (0..CELLS).map(|i| 0.7 * i as f64).collect()
}

/// Cells whose formula errs by `delta`, each measured by a few trials.
fn cells(delta: &dyn Fn(usize) -> f64, rng: &mut ChaCha8Rng) -> Vec<CellError> {
    (0..CELLS)
        .map(|i| {
            let law = Normal::new(delta(i), noise(i)).expect("a valid law");
            let trials: Vec<f64> = (0..TRIALS).map(|_| law.sample(rng)).collect();
            let n = TRIALS as f64;
            let mean = trials.iter().sum::<f64>() / n;
            let squares: f64 = trials.iter().map(|x| (x - mean).powi(2)).sum();
            CellError {
                error: mean,
                standard_error: (squares / (n - 1.0) / n).sqrt(),
                df: Some(n - 1.0),
            }
        })
        .collect()
}

/// Shares of repetitions in which a test of level `alpha` supports and refutes.
fn shares(
    delta: &dyn Fn(usize) -> f64,
    seed: u64,
    p_values: &dyn Fn(&[CellError]) -> (f64, f64),
    alpha: f64,
) -> (f64, f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut supported, mut refuted) = (0, 0);
    for _ in 0..REPETITIONS {
        let (support, refute) = p_values(&cells(delta, &mut rng));
        supported += usize::from(support <= alpha);
        refuted += usize::from(refute <= alpha);
    }
    let share = |n: usize| n as f64 / REPETITIONS as f64;
    (share(supported), share(refuted))
}

fn of_mean(cells: &[CellError]) -> (f64, f64) {
    let test = compare(&mean_error(cells, 0.95).expect("cells"), 0.0, MARGIN).expect("a test");
    (test.p_equivalent, test.p_outside)
}

fn of_change(cells: &[CellError]) -> (f64, f64) {
    let change = change_along(cells, &logs(), 0.95)
        .expect("cells")
        .expect("it varies");
    let test = compare(&change, 0.0, MARGIN).expect("a test");
    (test.p_equivalent, test.p_outside)
}

fn of_scatter(cells: &[CellError]) -> (f64, f64) {
    let test = Scatter::of(cells)
        .expect("cells")
        .test(MAX_SD)
        .expect("a test");
    (test.p_equivalent, test.p_outside)
}

/// Errors that change by `change` over the design.
fn line(change: f64) -> impl Fn(usize) -> f64 {
    move |i| change * (i as f64 / (CELLS - 1) as f64 - 0.5)
}

/// Errors of standard deviation `sd` and no trend, spread evenly or at the transition.
fn even(sd: f64) -> impl Fn(usize) -> f64 {
    move |i| if i / 2 % 2 == 0 { sd } else { -sd }
}

fn peaked(sd: f64) -> impl Fn(usize) -> f64 {
    let raw = |i: usize| (-((i as f64 - 5.5) / 2.0).powi(2)).exp();
    let mean = (0..CELLS).map(raw).sum::<f64>() / CELLS as f64;
    let variance = (0..CELLS).map(|i| (raw(i) - mean).powi(2)).sum::<f64>() / CELLS as f64;
    move |i| sd * (raw(i) - mean) / variance.sqrt()
}

/// Three Monte-Carlo standard errors of a share.
fn allowance(p: f64) -> f64 {
    3.0 * (p * (1.0 - p) / REPETITIONS as f64).sqrt()
}

#[test]
fn at_the_margin_each_test_has_its_size() {
    type P<'a> = &'a dyn Fn(&[CellError]) -> (f64, f64);
    for alpha in [0.05, 0.01] {
        let near = |share: f64, low: f64, high: f64, what: &str| {
            assert!(
                (low * alpha - allowance(alpha)..=high * alpha + allowance(alpha)).contains(&share),
                "{what} at level {alpha}: {share}"
            );
        };
        for (k, (delta, p)) in [
            (&(|_: usize| MARGIN) as &dyn Fn(usize) -> f64, &of_mean as P),
            (&line(-MARGIN), &of_change),
        ]
        .into_iter()
        .enumerate()
        {
            let (support, refute) = shares(delta, 11 + k as u64, p, alpha);
            near(support, 1.0, 1.0, "support of a sum");
            near(refute, 1.0, 1.0, "refutation of a sum");
        }
        // The scatter's law is an approximation: its size is nominal within a factor.
        for (k, delta) in [&even(MAX_SD) as &dyn Fn(usize) -> f64, &peaked(MAX_SD)]
            .into_iter()
            .enumerate()
        {
            let (support, refute) = shares(delta, 21 + k as u64, &of_scatter, alpha);
            println!("scatter {k} alpha {alpha} support {support} refute {refute}");
            near(support, 0.2, 1.5, "support of the scatter");
            near(refute, 0.2, 1.5, "refutation of the scatter");
        }
    }
}

#[test]
fn at_the_printed_deviation_each_test_has_its_power() {
    let (alpha, power) = (0.01, 0.8);
    // What a report prints on average over repetitions, as a design would state it.
    let mut rng = ChaCha8Rng::seed_from_u64(31);
    let (mut printed, mut at_zero) = ([0.0; 3], 0.0);
    const DESIGNS: usize = 40;
    for _ in 0..DESIGNS {
        let cells = cells(&|_| 0.0, &mut rng);
        let sum = |e: &recall_capacity::stats::interval::Estimate| {
            test_power(MARGIN, e.standard_error, e.df, alpha, 1, power)
                .expect("a power")
                .refutable_deviation
        };
        let change = change_along(&cells, &logs(), 0.95).expect("cells");
        printed[0] += sum(&mean_error(&cells, 0.95).expect("cells"));
        printed[1] += sum(&change.expect("it varies"));
        let scatter = Scatter::of(&cells).expect("cells");
        let of_scatter = scatter.power(MAX_SD, alpha, 1, power).expect("a power");
        let enough = of_scatter.support_at_zero >= power;
        assert_eq!(of_scatter.supportable_deviation.is_some(), enough);
        assert_eq!(of_scatter.smallest_margin <= MAX_SD, enough);
        at_zero += of_scatter.support_at_zero / DESIGNS as f64;
        printed[2] += of_scatter.refutable_deviation;
    }
    let [mean, change, scatter] = printed.map(|x| x / DESIGNS as f64);
    let refuted = |delta: &dyn Fn(usize) -> f64, p: &dyn Fn(&[CellError]) -> (f64, f64)| {
        shares(delta, 41, p, alpha).1
    };
    let supported = shares(&|_| 0.0, 42, &of_scatter, alpha).0;
    assert!((supported - at_zero).abs() < 0.06, "{supported} {at_zero}");
    for (what, share) in [
        ("mean", refuted(&|_| mean, &of_mean)),
        ("change", refuted(&line(change), &of_change)),
        ("scatter, even", refuted(&even(scatter), &of_scatter)),
        ("scatter, peaked", refuted(&peaked(scatter), &of_scatter)),
    ] {
        println!("{what}: {share}");
        assert!((share - power).abs() < 0.06, "{what}: {share}");
    }
}

#[test]
fn errors_that_cancel_in_the_mean_are_found() {
    let verdict = |delta: &dyn Fn(usize) -> f64| {
        let mut rng = ChaCha8Rng::seed_from_u64(51);
        let mut cells = cells(delta, &mut rng);
        cells.iter_mut().for_each(|c| c.standard_error *= 0.3);
        for (i, c) in cells.iter_mut().enumerate() {
            c.error = delta(i) + 0.3 * (c.error - delta(i));
        }
        let sizes = [("N", logs())];
        let evidence = AccuracyEvidence::of(&cells, &sizes, MARGIN, MAX_SD, 0.95).expect("cells");
        assert!(evidence.mean.value.abs() < 0.01);
        let claim = Claim {
            id: "accuracy".into(),
            evidence: Evidence::Accuracy(evidence),
        };
        decide(&[claim], &Policy::default())
            .expect("a family")
            .remove(0)
    };
    let right = verdict(&|_| 0.0);
    assert_eq!(right.verdict, Verdict::Supported);
    let names: Vec<&str> = right.comparisons.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["mean error", "change along log N", "scatter"]);
    // Odd about the centre: the trend finds it. Even: the scatter does.
    for (delta, finder) in [
        (&line(0.08) as &dyn Fn(usize) -> f64, 1),
        (&even(0.08), 2),
        (&peaked(0.08), 2),
    ] {
        let wrong = verdict(delta);
        assert_eq!(wrong.verdict, Verdict::Refuted, "{wrong:?}");
        let test = &wrong.comparisons[finder].test;
        assert!(test.p_outside < 1e-3, "{wrong:?}");
        assert!(wrong.comparisons[0].test.p_outside > 0.5);
    }
}

#[test]
fn cells_that_differ_do_not_widen_the_interval_of_the_mean() {
    let mut rng = ChaCha8Rng::seed_from_u64(61);
    let equal = mean_error(&cells(&|_| 0.0, &mut rng), 0.95).expect("cells");
    let mut rng = ChaCha8Rng::seed_from_u64(61);
    let unequal = mean_error(&cells(&even(0.3), &mut rng), 0.95).expect("cells");
    assert!((equal.standard_error - unequal.standard_error).abs() < 1e-12);
    // Between the smallest of the cells' and their sum.
    let df = equal.df.expect("estimated errors");
    assert!(df > 7.0 && df <= 7.0 * CELLS as f64, "{df}");
    assert!(mean_error(&[], 0.95).is_err() && Scatter::of(&[]).is_err());
    let flat = change_along(&cells(&|_| 0.0, &mut rng), &[1.0; CELLS], 0.95).expect("cells");
    assert!(flat.is_none());
}
