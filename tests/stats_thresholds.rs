//! Thresholds: what must be censored, what must not move, what must be flagged.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use recall_capacity::stats::StatsError;
use recall_capacity::stats::crossing::{CrossingOptions, CrossingShape, RatioRow, ratio_crossing};
use recall_capacity::stats::link::{Link, Shape};
use recall_capacity::stats::probit::{ProbitOptions, Trial, probit_threshold};
use recall_capacity::stats::threshold::{
    CensorSide, Curve, Direction, IntervalMethod, SeedDesign, Threshold, ThresholdEstimate,
};
use statrs::distribution::{ContinuousCDF, Normal};

fn rows(levels: &[(f64, &[f64])], trials: f64) -> Vec<Trial> {
    levels
        .iter()
        .flat_map(|&(x, successes)| {
            successes.iter().enumerate().map(move |(seed, &k)| Trial {
                seed: seed as u64,
                x,
                successes: k,
                trials,
            })
        })
        .collect()
}

fn side(trials: &[Trial], options: &ProbitOptions) -> CensorSide {
    let threshold = probit_threshold(trials, options).expect("valid rows");
    threshold.censored().expect("a censored point").side
}

#[test]
fn data_without_an_answer_are_censored() {
    let options = ProbitOptions::default();
    let falling = ProbitOptions {
        direction: Direction::Decreasing,
        ..ProbitOptions::default()
    };
    let zero: &[f64] = &[0.0; 4];
    let full: &[f64] = &[50.0; 4];
    let half: &[f64] = &[24.0, 25.0, 26.0, 25.0];

    assert_eq!(side(&[], &options), CensorSide::InsufficientData);
    let all_zero = rows(&[(5.0, zero), (6.0, zero)], 50.0);
    let all_one = rows(&[(5.0, full), (6.0, full)], 50.0);
    assert_eq!(side(&all_zero, &options), CensorSide::Above);
    assert_eq!(side(&all_one, &options), CensorSide::Below);
    // An accuracy that falls with N turns the sides around.
    assert_eq!(side(&all_zero, &falling), CensorSide::Below);
    assert_eq!(side(&all_one, &falling), CensorSide::Above);
    let bound = |t: &[Trial], o| probit_threshold(t, o).unwrap().censored().unwrap().bound;
    assert_eq!(bound(&all_zero, &options), Some(6.0));
    assert_eq!(bound(&all_one, &options), Some(5.0));
    assert_eq!(bound(&all_zero, &falling), Some(5.0));
    assert_eq!(bound(&all_one, &falling), Some(6.0));

    assert_eq!(
        side(&rows(&[(5.0, half)], 50.0), &options),
        CensorSide::Below
    );
    let wrong_way = rows(&[(5.0, full), (6.0, half), (7.0, zero)], 50.0);
    assert_eq!(side(&wrong_way, &options), CensorSide::NotMonotone);
    // Only one size shows anything but 0 and 1: the slope has no estimate.
    assert_eq!(side(&wrong_way, &falling), CensorSide::Unresolved);
    let right_way = rows(&[(5.0, &[49.0; 4]), (6.0, half), (7.0, &[1.0; 4])], 50.0);
    let found = probit_threshold(&right_way, &falling).unwrap();
    assert!(found.estimate().is_some());

    // A step says between which sizes, and no more.
    let step = rows(&[(5.0, zero), (6.0, zero), (7.0, full), (8.0, full)], 50.0);
    let censored = probit_threshold(&step, &options).unwrap();
    let censored = censored.censored().unwrap();
    assert_eq!(censored.side, CensorSide::Unresolved);
    assert_eq!(censored.bracket, Some([6.0, 7.0]));
    let step_down = rows(&[(5.0, full), (6.0, full), (7.0, zero)], 50.0);
    let censored = probit_threshold(&step_down, &falling).unwrap();
    assert_eq!(censored.censored().unwrap().bracket, Some([6.0, 7.0]));

    let one_each = rows(&[(5.0, &[20.0]), (6.0, &[30.0])], 50.0);
    assert_eq!(side(&one_each, &options), CensorSide::InsufficientData);
    let shared = ProbitOptions {
        seed_design: SeedDesign::SharedAcrossLevels,
        ..ProbitOptions::default()
    };
    let one_seed = rows(&[(5.0, &[15.0]), (6.0, &[24.0]), (7.0, &[38.0])], 50.0);
    assert_eq!(side(&one_seed, &shared), CensorSide::InsufficientData);

    // A slope lost in noise bounds nothing.
    let noise = rows(
        &[(5.0, &[10.0, 38.0, 20.0]), (6.0, &[40.0, 12.0, 26.0])],
        50.0,
    );
    assert_eq!(side(&noise, &options), CensorSide::NotMonotone);
}

#[test]
fn invalid_input_is_an_error_that_names_the_field() {
    let options = ProbitOptions::default();
    let good = rows(&[(5.0, &[10.0, 12.0]), (6.0, &[40.0, 38.0])], 50.0);
    type Break = fn(&mut Trial);
    let cases: [(Break, &str); 4] = [
        (|t| t.x = f64::NAN, "x"),
        (|t| t.trials = 0.0, "trials"),
        (|t| t.successes = 51.0, "successes"),
        (|t| t.successes = f64::NAN, "successes"),
    ];
    for (change, name) in cases {
        let mut bad = good.clone();
        change(&mut bad[2]);
        let error = probit_threshold(&bad, &options).unwrap_err();
        assert!(matches!(error, StatsError::InvalidRow { row: 2, field, .. } if field == name));
    }
    let above = ProbitOptions {
        target: 0.9,
        ..ProbitOptions::default()
    };
    let error = probit_threshold(&good, &above).unwrap_err();
    assert!(error.to_string().contains("window"), "{error}");
}

#[test]
fn exact_curves_are_recovered_with_and_without_chance() {
    let phi = Normal::standard();
    for (chance, target, direction) in [
        (0.0, 0.5, Direction::Increasing),
        (0.2, 0.6, Direction::Increasing),
        (0.1, 0.4, Direction::Decreasing),
    ] {
        let sign = if direction == Direction::Increasing {
            1.0
        } else {
            -1.0
        };
        let z = phi.inverse_cdf((target - chance) / (1.0 - chance));
        let trials: Vec<Trial> = (0..7)
            .flat_map(|i| (0..3).map(move |seed| (6.4 + 0.2 * f64::from(i), seed)))
            .map(|(x, seed)| {
                let p = chance + (1.0 - chance) * phi.cdf(z + sign * 1.3 * (x - 7.0));
                Trial {
                    seed,
                    x,
                    successes: 1000.0 * p,
                    trials: 1000.0,
                }
            })
            .collect();
        let options = ProbitOptions {
            chance,
            target,
            direction,
            ..ProbitOptions::default()
        };
        let threshold = probit_threshold(&trials, &options).unwrap();
        let found = threshold.estimate().expect("an estimate");
        assert!((found.log_n.value - 7.0).abs() < 1e-8);
        assert!(!found.cross_check.as_ref().unwrap().disagrees);
    }
}

#[test]
fn a_wrong_curve_shape_costs_little_in_the_window() {
    // Complementary log-log: as asymmetric as usual links get. The counts are
    // exact, so all of the error is bias.
    let truth = 7.0;
    let curve = |x: f64| 1.0 - (-std::f64::consts::LN_2 * (1.5 * (x - truth)).exp()).exp();
    let trials: Vec<Trial> = (-8..=8)
        .flat_map(|i| (0..4).map(move |seed| (7.05 + 0.35 * f64::from(i), seed)))
        .map(|(x, seed)| Trial {
            seed,
            x,
            successes: 256.0 * curve(x),
            trials: 256.0,
        })
        .collect();
    let bias = |window| {
        let options = ProbitOptions {
            window,
            ..ProbitOptions::default()
        };
        let threshold = probit_threshold(&trials, &options).unwrap();
        threshold.estimate().unwrap().log_n.value - truth
    };
    let (narrow, wide) = (bias((0.2, 0.8)), bias((0.0, 1.0)));
    println!("bias: window .2-.8 {narrow:.4}, all sizes {wide:.4}");
    // As large as the allowance: it is no upper limit for such a curve.
    assert!(narrow.abs() < 0.035);
    assert!(
        wide.abs() > 2.0 * narrow.abs(),
        "the window must earn its place"
    );
}

#[test]
fn the_link_allowance_widens_error_and_interval_in_quadrature() {
    // The second curve is shallow enough for Fieller's interval.
    let steep = rows(
        &[(6.0, &[12.0, 15.0, 9.0]), (7.0, &[40.0, 34.0, 37.0])],
        50.0,
    );
    let shallow = rows(
        &[(6.0, &[20.0, 23.0, 16.0]), (7.0, &[30.0, 26.0, 33.0])],
        50.0,
    );
    for (trials, method) in [
        (steep, IntervalMethod::Delta),
        (shallow, IntervalMethod::Fieller),
    ] {
        let with = |link_error| {
            let options = ProbitOptions {
                link_error,
                ..ProbitOptions::default()
            };
            let threshold = probit_threshold(&trials, &options).unwrap();
            threshold.estimate().unwrap().clone()
        };
        let (bare, wide) = (with(0.0), with(0.2));
        assert_eq!(bare.method, method);
        assert_eq!(wide.statistical_error, bare.statistical_error);
        assert_eq!(wide.model_error, 0.2);
        // t(.975) on 4 degrees of freedom.
        let allowance = 2.776_445_105 * 0.2;
        for (a, b) in [
            (
                bare.log_n.upper - bare.log_n.value,
                wide.log_n.upper - wide.log_n.value,
            ),
            (
                bare.log_n.value - bare.log_n.lower,
                wide.log_n.value - wide.log_n.lower,
            ),
        ] {
            assert!((a.hypot(allowance) - b).abs() < 1e-8);
        }
        if method == IntervalMethod::Delta {
            let total = bare.statistical_error.hypot(0.2);
            assert!((wide.log_n.standard_error - total).abs() < 1e-12);
        }
    }
}

#[test]
fn a_disagreeing_cross_check_is_flagged() {
    // A plateau at the target: where the curve crosses is a matter of shape.
    let trials = rows(
        &[
            (5.0, &[15.0, 16.0, 14.0]),
            (6.0, &[24.0, 25.0, 24.5]),
            (7.0, &[24.0, 24.9, 25.5]),
            (8.0, &[25.0, 25.2, 25.1]),
            (9.0, &[40.0, 39.0, 41.0]),
        ],
        50.0,
    );
    let threshold = probit_threshold(&trials, &ProbitOptions::default()).unwrap();
    let check = threshold.estimate().unwrap().cross_check.clone().unwrap();
    assert!(check.disagrees);
    assert!(check.standard_error.unwrap() > 0.1);
}

fn ratio_rows(levels: &[(f64, &[f64])]) -> Vec<RatioRow> {
    levels
        .iter()
        .flat_map(|&(x, ratios)| {
            ratios
                .iter()
                .enumerate()
                .map(move |(seed, &ratio)| RatioRow {
                    seed: seed as u64,
                    x,
                    ratio,
                })
        })
        .collect()
}

/// Ratios exp(f(x)) with a small, balanced spread over three seeds.
fn ratios_of(f: impl Fn(f64) -> f64, xs: &[f64]) -> Vec<RatioRow> {
    xs.iter()
        .flat_map(|&x| {
            let y = f(x);
            [0.98, 1.0, 1.02]
                .into_iter()
                .enumerate()
                .map(move |(seed, factor)| RatioRow {
                    seed: seed as u64,
                    x,
                    ratio: factor * y.exp(),
                })
        })
        .collect()
}

#[test]
fn ratio_crossings_are_found_extrapolated_or_censored() {
    let options = CrossingOptions::default();
    let line = |offset: f64| move |x: f64| -0.5 * (x - offset);
    let xs = [6.0, 6.5, 7.0];
    let find = |offset| ratio_crossing(&ratios_of(line(offset), &xs), &options).unwrap();
    let inside = find(6.4);
    let inside = inside.estimate().unwrap();
    assert!((inside.log_n.value - 6.4).abs() < 1e-3 && !inside.extrapolated);
    assert!(find(7.2).estimate().unwrap().extrapolated);
    let censored = |t: Threshold| t.censored().map(|c| (c.side, c.bound)).unwrap();
    assert_eq!(censored(find(7.6)), (CensorSide::Above, Some(7.0)));
    assert_eq!(censored(find(5.5)), (CensorSide::Below, Some(6.0)));

    let rising = ratios_of(|x| x - 6.4, &xs);
    let wrong = ratio_crossing(&rising, &options).unwrap();
    assert_eq!(wrong.censored().unwrap().side, CensorSide::NotMonotone);
    let one_size = ratio_rows(&[(6.0, &[0.9, 1.1])]);
    let few = ratio_crossing(&one_size, &options).unwrap();
    assert_eq!(few.censored().unwrap().side, CensorSide::InsufficientData);
    let one_seed = ratio_rows(&[(6.0, &[1.5]), (7.0, &[0.7])]);
    let few = ratio_crossing(&one_seed, &options).unwrap();
    assert_eq!(few.censored().unwrap().side, CensorSide::InsufficientData);
    let zero = ratio_rows(&[(6.0, &[0.0, 1.1])]);
    assert!(ratio_crossing(&zero, &options).is_err());
}

#[test]
fn a_parabola_takes_the_branch_of_the_stated_direction() {
    // Falls to its minimum at x = 8 and rises again; two crossings.
    let f = |x: f64| 0.5 * (x - 8.0).powi(2) - 0.5;
    let rows = ratios_of(f, &[6.4, 6.8, 7.2, 7.6, 8.0]);
    let options = CrossingOptions {
        shape: CrossingShape::Quadratic,
        ..CrossingOptions::default()
    };
    let threshold = ratio_crossing(&rows, &options).unwrap();
    let found = threshold.estimate().unwrap();
    assert!((found.log_n.value - 7.0).abs() < 1e-3);
    // The straight line through the same points is off, and says so.
    let straight = ratio_crossing(&rows, &CrossingOptions::default()).unwrap();
    assert!(
        straight
            .estimate()
            .unwrap()
            .cross_check
            .as_ref()
            .unwrap()
            .disagrees
    );
    // With three sizes a parabola falls back to the line.
    let few = ratio_crossing(&rows[..9], &options).unwrap();
    assert!(few.estimate().is_some() || few.censored().is_some());
}

#[test]
fn results_survive_json() {
    let trials = rows(
        &[
            (5.0, &[10.0, 12.0]),
            (6.0, &[30.0, 28.0]),
            (7.0, &[40.0, 45.0]),
        ],
        50.0,
    );
    let mut thresholds = vec![probit_threshold(&trials, &ProbitOptions::default()).unwrap()];
    thresholds.push(probit_threshold(&trials[..2], &ProbitOptions::default()).unwrap());
    let text = serde_json::to_string(&thresholds).unwrap();
    let back: Vec<Threshold> = serde_json::from_str(&text).unwrap();
    assert_eq!(back, thresholds);
    assert!(serde_json::from_str::<ProbitOptions>(r#"{"targte": 0.5}"#).is_err());
}

fn value(trials: &[Trial], options: &ProbitOptions) -> Option<(f64, f64, f64)> {
    let threshold = probit_threshold(trials, options).expect("valid rows");
    threshold
        .estimate()
        .map(|e| (e.log_n.value, e.log_n.lower, e.log_n.upper))
}

fn any_trials() -> impl Strategy<Value = Vec<Trial>> {
    proptest::collection::vec((0_u64..5, 0_u32..6, 0_u32..=20), 0..30).prop_map(|rows| {
        rows.into_iter()
            .map(|(seed, level, successes)| Trial {
                seed,
                x: 5.0 + 0.5 * f64::from(level),
                successes: f64::from(successes),
                trials: 20.0,
            })
            .collect()
    })
}

fn quick() -> ProbitOptions {
    ProbitOptions {
        bootstrap_samples: 10,
        ..ProbitOptions::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// Whatever the counts: finite numbers in order, or a censored point.
    #[test]
    fn any_counts_give_finite_numbers(
        trials in any_trials(),
        shared in any::<bool>(),
        falling in any::<bool>(),
    ) {
        let options = ProbitOptions {
            seed_design: if shared {
                SeedDesign::SharedAcrossLevels
            } else {
                SeedDesign::IndependentAcrossLevels
            },
            direction: if falling { Direction::Decreasing } else { Direction::Increasing },
            ..quick()
        };
        if let Some((value, lower, upper)) = value(&trials, &options) {
            prop_assert!(value.is_finite() && lower.is_finite() && upper.is_finite());
            prop_assert!(lower <= value && value <= upper);
            prop_assert!((5.0..=7.5).contains(&value));
        }
    }

    #[test]
    fn a_shift_of_x_shifts_the_threshold(trials in any_trials(), shift in -3.0..3.0_f64) {
        // Multiples of 1/8 keep the shifted x exact, so that levels stay levels.
        let shift = (shift * 8.0).round() / 8.0;
        let moved: Vec<Trial> = trials.iter().map(|t| Trial { x: t.x + shift, ..*t }).collect();
        match (value(&trials, &quick()), value(&moved, &quick())) {
            (None, None) => {}
            (Some(a), Some(b)) => {
                prop_assert!((a.0 + shift - b.0).abs() < 1e-7);
                prop_assert!((a.2 - a.1 - (b.2 - b.1)).abs() < 1e-6 * (1.0 + a.2 - a.1));
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn the_order_of_rows_does_not_matter(trials in any_trials(), cut in 0_usize..30) {
        let mut turned = trials.clone();
        turned.reverse();
        turned.rotate_left(cut.min(trials.len()));
        prop_assert_eq!(
            probit_threshold(&trials, &quick()).unwrap(),
            probit_threshold(&turned, &quick()).unwrap()
        );
    }

    #[test]
    fn mirroring_x_mirrors_the_threshold(trials in any_trials()) {
        let falling = ProbitOptions { direction: Direction::Decreasing, ..quick() };
        let mirrored: Vec<Trial> = trials.iter().map(|t| Trial { x: -t.x, ..*t }).collect();
        let (a, b) = (value(&trials, &quick()), value(&mirrored, &falling));
        prop_assert_eq!(a, b.map(|(v, l, u)| (-v, -u, -l)));
    }

    #[test]
    fn scaling_ratio_and_criterion_together_changes_nothing(
        noise in proptest::collection::vec(-0.1..0.1_f64, 12),
        factor in 0.1..10.0_f64,
    ) {
        let rows: Vec<RatioRow> = noise
            .iter()
            .enumerate()
            .map(|(i, e)| {
                let x = 6.0 + 0.5 * (i / 3) as f64;
                RatioRow { seed: (i % 3) as u64, x, ratio: (e - (x - 6.7)).exp() }
            })
            .collect();
        let scaled: Vec<RatioRow> = rows
            .iter()
            .map(|r| RatioRow { ratio: factor * r.ratio, ..*r })
            .collect();
        let options = |c| CrossingOptions {
            critical_ratio: c,
            bootstrap_samples: 50,
            ..CrossingOptions::default()
        };
        let a = ratio_crossing(&rows, &options(1.0)).unwrap();
        let b = ratio_crossing(&scaled, &options(factor)).unwrap();
        let (a, b) = (&a.estimate().unwrap().log_n, &b.estimate().unwrap().log_n);
        prop_assert!((a.value - b.value).abs() < 1e-9);
        prop_assert!((a.standard_error - b.standard_error).abs() < 1e-9);
    }
}

/// A complementary log-log curve of log N with one half at 7, and its mirror image.
fn long_foot(x: f64) -> f64 {
    1.0 - (-std::f64::consts::LN_2 * (1.5 * (x - 7.0)).exp()).exp()
}

fn long_shoulder(x: f64) -> f64 {
    1.0 - long_foot(14.0 - x)
}

/// The shape of a curve, stated in another place and twice as steep.
fn shape_of(curve: fn(f64) -> f64) -> Link {
    let points: Vec<(f64, f64)> = (-9..=9)
        .map(|i| f64::from(i) * 0.25)
        .map(|u| (5.0 + 0.5 * u, curve(7.0 + u)))
        .collect();
    Link::Shape(Shape::new(&points, 0.5).expect("a curve"))
}

/// Rows that lie on the curve, at levels that are not symmetric about the threshold.
fn rows_on(curve: fn(f64) -> f64, tokens: f64) -> Vec<Trial> {
    let mut rows = Vec::new();
    for x in [6.2, 6.6, 7.0, 7.4] {
        for seed in 0..4 {
            // A little scatter that averages out.
            let shift = 0.002 * (seed as f64 - 1.5);
            rows.push(Trial {
                seed,
                x,
                successes: (tokens * (curve(x) + shift)).round(),
                trials: tokens,
            });
        }
    }
    rows
}

fn read_by(link: Link, rows: &[Trial]) -> ThresholdEstimate {
    let options = ProbitOptions {
        link,
        window: (0.0, 1.0),
        link_error: 0.0,
        ..ProbitOptions::default()
    };
    let found = probit_threshold(rows, &options).expect("valid rows");
    found.estimate().expect("a threshold").clone()
}

#[test]
fn a_stated_shape_finds_the_threshold_that_a_probit_misses() {
    for curve in [long_foot as fn(f64) -> f64, long_shoulder] {
        let rows = rows_on(curve, 1e5);
        let probit = read_by(Link::Probit, &rows).log_n.value;
        let stated = read_by(shape_of(curve), &rows);
        assert!(matches!(stated.curve, Curve::Stated { .. }), "{stated:?}");
        let error = stated.log_n.value - 7.0;
        assert!(error.abs() < 1e-3, "{error}");
        assert!((probit - 7.0).abs() > 0.01, "{probit}");
        // What rests on the shape alone is its allowance.
        assert!((stated.model_error - (probit - stated.log_n.value).abs()).abs() < 1e-9);
    }
}

#[test]
fn a_shape_that_the_data_reject_gives_way_to_the_monotone_fit() {
    let rows = rows_on(long_foot, 1e5);
    let wrong = read_by(shape_of(long_shoulder), &rows);
    let Curve::Monotone { lack_of_fit } = wrong.curve else {
        panic!("{wrong:?}")
    };
    assert!(lack_of_fit < 0.05);
    // A level lies on the threshold, so the monotone fit is right.
    assert!((wrong.log_n.value - 7.0).abs() < 0.01, "{wrong:?}");
    assert!(wrong.model_error > 0.01);
    assert!((wrong.log_n.lower..=wrong.log_n.upper).contains(&7.0));
    // With few tokens the same shape cannot be told from the right one.
    let few = read_by(shape_of(long_shoulder), &rows_on(long_foot, 100.0));
    assert!(matches!(few.curve, Curve::Stated { .. }), "{few:?}");
}
