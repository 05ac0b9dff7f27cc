//! Regression invariances, and every verdict with every reason.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use recall_capacity::stats::StatsError;
use recall_capacity::stats::curvature::curvature_test;
use recall_capacity::stats::equivalence::bound_test;
use recall_capacity::stats::interval::Estimate;
use recall_capacity::stats::multiplicity::holm;
use recall_capacity::stats::power::test_power;
use recall_capacity::stats::regression::{
    Observation, RegressionOptions, fit_loglog, project_prediction,
};
use recall_capacity::stats::verdict::{
    ASYMPTOTIC_MARGIN_CAP, BoundEvidence, Claim, ClaimVerdict, CurvatureEvidence, EXPONENT_MARGIN,
    Evidence, ExponentEvidence, FormulaEvidence, InconclusiveReason, LawEvidence, Margin,
    PointCount, Policy, Verdict, decide,
};

const FULL: PointCount = PointCount {
    total: 30,
    censored: 0,
};

fn exponent(value: f64, se: f64, margin: Margin) -> ExponentEvidence {
    ExponentEvidence {
        name: "d".into(),
        estimate: Estimate::new(value, se, Some(25.0), 0.95).expect("a valid estimate"),
        target: 1.0,
        margin,
        curvature: None,
    }
}

fn law(exponents: Vec<ExponentEvidence>, points: PointCount) -> Claim {
    Claim {
        id: "law".into(),
        evidence: Evidence::Law(LawEvidence { exponents, points }),
    }
}

fn one(value: f64, se: f64) -> Claim {
    law(
        vec![exponent(value, se, Margin::fixed(EXPONENT_MARGIN))],
        FULL,
    )
}

fn judge(claim: Claim) -> ClaimVerdict {
    decide(&[claim], &Policy::default())
        .expect("valid evidence")
        .remove(0)
}

fn reason(claim: Claim) -> InconclusiveReason {
    match judge(claim).verdict {
        Verdict::Inconclusive { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn agreement_deviation_and_noise_are_told_apart() {
    assert_eq!(judge(one(1.03, 0.03)).verdict, Verdict::Supported);
    assert_eq!(judge(one(1.40, 0.03)).verdict, Verdict::Refuted);
    assert_eq!(judge(one(0.60, 0.03)).verdict, Verdict::Refuted);
    // A wide interval around the right value supports nothing.
    assert!(matches!(
        reason(one(1.0, 0.2)),
        InconclusiveReason::LowPower { support_power } if support_power < 0.1
    ));
    assert_eq!(reason(one(1.13, 0.03)), InconclusiveReason::NearMargin);
    // No error at all: the comparison itself decides.
    assert_eq!(judge(one(1.1, 0.0)).verdict, Verdict::Supported);
    assert_eq!(judge(one(1.2, 0.0)).verdict, Verdict::Refuted);
}

#[test]
fn a_law_needs_all_exponents_and_falls_with_one() {
    let fixed = Margin::fixed(EXPONENT_MARGIN);
    let three = |last: f64| {
        law(
            vec![
                exponent(1.0, 0.03, fixed),
                exponent(0.98, 0.03, fixed),
                exponent(last, 0.03, fixed),
            ],
            FULL,
        )
    };
    assert_eq!(judge(three(1.02)).verdict, Verdict::Supported);
    assert_eq!(
        judge(three(1.15)).verdict,
        Verdict::Inconclusive {
            reason: InconclusiveReason::NearMargin
        }
    );
    assert_eq!(judge(three(1.4)).verdict, Verdict::Refuted);
    // One of three at p = .03 is no refutation: three were tried.
    let near = judge(three(1.21));
    let single = judge(one(1.21, 0.03));
    assert_eq!(single.verdict, Verdict::Refuted);
    assert!((near.p_refute - 3.0 * single.p_refute).abs() < 1e-12);
    // So three have to deviate by more, one of them, for the power that is printed.
    let refutable = |v: &ClaimVerdict| v.comparisons[0].power.clone().unwrap();
    let [of_three, of_one] = [&near, &single].map(|v| refutable(v).refutable_deviation);
    let expected = test_power(0.15, 0.03, Some(25.0), 0.05, 3, 0.8).unwrap();
    assert!((of_three - expected.refutable_deviation).abs() < 1e-12);
    let strict = test_power(0.15, 0.03, Some(25.0), 0.05 / 3.0, 1, 0.8).unwrap();
    assert!((of_three - strict.refutable_deviation).abs() < 1e-9);
    assert!(of_three > of_one);
    // Support needs all three at the full level.
    assert_eq!(
        refutable(&near).support_at_zero,
        refutable(&single).support_at_zero
    );
    assert!(matches!(near.verdict, Verdict::Inconclusive { .. }));
}

#[test]
fn more_claims_make_each_harder() {
    let alone = judge(one(1.09, 0.03));
    assert_eq!(alone.verdict, Verdict::Supported);
    let family: Vec<Claim> = (0..10).map(|_| one(1.09, 0.03)).collect();
    let verdicts = decide(&family, &Policy::default()).unwrap();
    assert!(verdicts.iter().all(|v| v.verdict != Verdict::Supported));
    assert!((verdicts[0].p_support_adjusted - 10.0 * alone.p_support).abs() < 1e-12);
    let power = |v: &ClaimVerdict| v.comparisons[0].power.clone().unwrap();
    assert!(power(&verdicts[0]).support_at_zero < power(&alone).support_at_zero);
    assert!(power(&verdicts[0]).refutable_deviation > power(&alone).refutable_deviation);
}

#[test]
fn gates_hold_back_what_the_p_value_would_allow() {
    let fixed = Margin::fixed(EXPONENT_MARGIN);
    let points = |censored| PointCount {
        total: 30,
        censored,
    };
    // 10 per cent is allowed, more is not; it blocks refutation too.
    assert_eq!(
        judge(law(vec![exponent(1.0, 0.03, fixed)], points(3))).verdict,
        Verdict::Supported
    );
    for value in [1.0, 1.5] {
        let claim = law(vec![exponent(value, 0.03, fixed)], points(4));
        assert!(matches!(
            reason(claim),
            InconclusiveReason::TooManyCensored { .. }
        ));
    }
    for (drift, capped) in [(0.04, false), (-0.04, false), (0.06, true), (-0.3, true)] {
        let margin = Margin::asymptotic(EXPONENT_MARGIN, drift, ASYMPTOTIC_MARGIN_CAP);
        assert_eq!(margin.capped, capped);
        assert!(margin.value <= ASYMPTOTIC_MARGIN_CAP);
        for value in [1.0, 1.5] {
            let claim = law(vec![exponent(value, 0.03, margin)], FULL);
            let open = matches!(
                judge(claim).verdict,
                Verdict::Inconclusive {
                    reason: InconclusiveReason::PreAsymptotic { .. }
                }
            );
            assert_eq!(open, capped);
        }
    }
    let bent = |p_value, slope_change| {
        let mut e = exponent(1.0, 0.03, fixed);
        e.curvature = Some(CurvatureEvidence {
            p_value,
            slope_change,
        });
        law(vec![e], FULL)
    };
    assert!(matches!(
        reason(bent(0.01, 0.3)),
        InconclusiveReason::Curved { .. }
    ));
    // Neither a bend without evidence nor one that is too small matters.
    assert_eq!(judge(bent(0.2, 0.3)).verdict, Verdict::Supported);
    assert_eq!(judge(bent(0.01, 0.1)).verdict, Verdict::Supported);
}

/// e on a 3 x 3 design, `value(a, b, k)` with levels a, b and running index k.
fn log_ratios(value: impl Fn(f64, f64, usize) -> f64) -> Vec<Observation> {
    (0..18)
        .map(|k| {
            let (a, b) = ((k % 3) as f64, (k / 3 % 3) as f64);
            Observation {
                regressors: vec![a, b],
                response: value(a, b, k),
                standard_error: None,
            }
        })
        .collect()
}

#[test]
fn formula_claims_look_at_mean_scatter_and_drift() {
    // A fixed pattern without trend: sums to zero along both factors.
    let jitter = |k: usize| if k < 9 { 1.0 } else { -1.0 };
    let claim = |value: &dyn Fn(f64, f64, usize) -> f64| Claim {
        id: "formula".into(),
        evidence: Evidence::Formula(
            FormulaEvidence::from_log_ratios(&["a", "b"], &log_ratios(value), FULL, 0.95)
                .expect("valid ratios"),
        ),
    };
    assert_eq!(
        judge(claim(&|_, _, k| 0.05 + 0.1 * jitter(k))).verdict,
        Verdict::Supported
    );
    assert_eq!(
        judge(claim(&|_, _, k| 0.4 + 0.1 * jitter(k))).verdict,
        Verdict::Refuted
    );
    assert!(matches!(
        reason(claim(&|_, _, k| 0.3 * jitter(k))),
        InconclusiveReason::Scattered { .. }
    ));
    let drifting = reason(claim(&|a, _, k| 0.1 * (a - 1.0) + 0.05 * jitter(k)));
    assert!(matches!(
        drifting,
        InconclusiveReason::Drifting { regressor, slope, .. }
            if regressor == "a" && (slope - 0.1).abs() < 1e-12
    ));
}

#[test]
fn a_bound_is_kept_exceeded_or_open() {
    let claim = |estimates: &[(f64, f64)], margin: f64| Claim {
        id: "bound".into(),
        evidence: Evidence::Bound(BoundEvidence {
            tests: estimates
                .iter()
                .map(|&(e, se)| bound_test(e, se, Some(7.0), 0.5, margin).expect("valid"))
                .collect(),
            points: FULL,
        }),
    };
    assert_eq!(
        judge(claim(&[(0.3, 0.02), (0.45, 0.01)], 0.02)).verdict,
        Verdict::Supported
    );
    assert_eq!(
        judge(claim(&[(0.3, 0.02), (0.6, 0.01)], 0.02)).verdict,
        Verdict::Refuted
    );
    // Noise hides no violation: not significant is not kept.
    let open = claim(&[(0.3, 0.02), (0.45, 0.3)], 0.02);
    assert_eq!(reason(open), InconclusiveReason::BoundUndecided);
    // One excess at p = .03 among twenty is no violation.
    let mut many = vec![(0.3, 0.02); 19];
    many.push((0.5 + 0.0223, 0.01));
    assert!(matches!(
        judge(claim(&many, 0.02)).verdict,
        Verdict::Inconclusive { .. }
    ));
    assert_eq!(judge(claim(&many[19..], 0.02)).verdict, Verdict::Refuted);
}

#[test]
fn bad_evidence_is_an_error() {
    let policy = Policy::default();
    assert!(decide(&[], &policy).unwrap().is_empty());
    assert!(decide(&[law(vec![], FULL)], &policy).is_err());
    let no_margin = law(vec![exponent(1.0, 0.1, Margin::fixed(0.0))], FULL);
    assert!(decide(&[no_margin], &policy).is_err());
    let odd = Policy {
        alpha: 0.0,
        ..Policy::default()
    };
    assert!(decide(&[one(1.0, 0.1)], &odd).is_err());
    assert!(holm(&[0.1, f64::NAN]).is_err());
}

#[test]
fn verdicts_survive_json() {
    let claims = [one(1.03, 0.03), one(1.0, 0.2)];
    let text = serde_json::to_string(&claims).unwrap();
    let back: Vec<Claim> = serde_json::from_str(&text).unwrap();
    assert_eq!(back, claims);
    let verdicts = decide(&claims, &Policy::default()).unwrap();
    let text = serde_json::to_string(&verdicts).unwrap();
    let back: Vec<ClaimVerdict> = serde_json::from_str(&text).unwrap();
    assert_eq!(back, verdicts);
}

#[test]
fn large_sample_power_has_its_closed_form() {
    // z(.95) + z(.9) and z(.95) + z(.8), up to the far tails.
    let power = test_power(0.15, 0.05, None, 0.05, 1, 0.8).unwrap();
    assert!((power.smallest_margin / 0.05 - 2.9264).abs() < 1e-3);
    assert!((power.largest_standard_error - 0.15 / 2.9264).abs() < 1e-4);
    assert!((power.refutable_deviation - 0.15 - 2.4865 * 0.05).abs() < 1e-3);
    assert!(
        test_power(0.15, 0.06, None, 0.05, 1, 0.8)
            .unwrap()
            .supportable_deviation
            .is_none()
    );
}

fn grid(value: impl Fn(&[f64]) -> f64) -> Vec<Observation> {
    let mut rows = Vec::new();
    for a in 0..4 {
        for b in 0..3 {
            let regressors = vec![f64::from(a) * 0.7, f64::from(b) * 0.9];
            rows.push(Observation {
                response: value(&regressors),
                regressors,
                standard_error: Some(0.05),
            });
        }
    }
    rows
}

#[test]
fn designs_that_cannot_answer_are_refused_by_name() {
    let options = RegressionOptions::default();
    let mut rows = grid(|x| x[0]);
    for r in &mut rows {
        r.regressors[1] = 2.0;
    }
    let constant = fit_loglog(&["d", "V"], &rows, &options).unwrap_err();
    assert_eq!(constant, StatsError::RankDeficient { column: "V".into() });
    for r in &mut rows {
        r.regressors[1] = 3.0 * r.regressors[0] - 1.0;
    }
    let collinear = fit_loglog(&["d", "V"], &rows, &options).unwrap_err();
    assert_eq!(collinear, StatsError::RankDeficient { column: "V".into() });
    let corner = [0, 4, 6].map(|i| grid(|x| x[0])[i].clone());
    let few = fit_loglog(&["d", "V"], &corner, &options).unwrap_err();
    assert_eq!(few, StatsError::TooFewObservations { have: 3, need: 4 });
}

#[test]
fn a_point_of_full_leverage_leaves_the_model_error() {
    // The last point alone carries the second regressor.
    let rows: Vec<Observation> = (0..6)
        .map(|i| Observation {
            regressors: vec![f64::from(i % 5), if i == 5 { 1.0 } else { 0.0 }],
            response: f64::from(i % 5) + 0.1 * f64::from(i % 2),
            standard_error: None,
        })
        .collect();
    let fit = fit_loglog(&["d", "flag"], &rows, &RegressionOptions::default()).unwrap();
    assert_eq!(
        fit.largest_leverage().map(|(i, h)| (i, h > 0.999)),
        Some((5, true))
    );
    for c in &fit.coefficients {
        assert_eq!(c.hc3_error, None);
        assert_eq!(c.estimate.standard_error, c.model_error);
    }
}

#[test]
fn scatter_is_never_taken_below_its_floor() {
    // Exactly straight data show no scatter; a law is not trusted that far.
    let rows = grid(|x| 1.0 + x[0]);
    let with = |tau_floor| {
        let options = RegressionOptions {
            tau_floor,
            ..RegressionOptions::default()
        };
        fit_loglog(&["d", "V"], &rows, &options).unwrap()
    };
    let (bare, floored) = (with(0.0), with(0.12));
    assert_eq!(bare.tau_squared, Some(0.0));
    assert!((floored.tau_squared.unwrap() - 0.0144).abs() < 1e-15);
    // All errors are .05: sqrt(.05^2 + .12^2) = .13.
    for (a, b) in bare.coefficients.iter().zip(&floored.coefficients) {
        let ratio = b.estimate.standard_error / a.estimate.standard_error;
        assert!((ratio - 2.6).abs() < 1e-9);
    }
}

#[test]
fn a_bent_formula_projects_onto_the_slopes_its_own_data_would_show() {
    let formula = |x: &[f64]| 1.0 + x[0] + 0.2 * x[0] * x[0] - 0.5 * x[1];
    let rows = grid(formula);
    let options = RegressionOptions::default();
    let fit = fit_loglog(&["d", "V"], &rows, &options).unwrap();
    let predicted: Vec<f64> = rows.iter().map(|r| formula(&r.regressors)).collect();
    let slopes = project_prediction(&["d", "V"], &rows, &predicted, &fit).unwrap();
    for (slope, c) in slopes.iter().zip(&fit.coefficients) {
        assert!((slope - c.estimate.value).abs() < 1e-12);
    }
    // d(formula)/d x0 averaged over the design: 1 + 0.4 * mean.
    assert!((slopes[1] - (1.0 + 0.4 * 1.05)).abs() < 1e-9);

    let test = curvature_test(&["d", "V"], &rows, &options)
        .unwrap()
        .unwrap();
    let square = test
        .terms
        .iter()
        .find(|t| t.coefficient.name == "d^2")
        .unwrap();
    assert!((square.coefficient.estimate.value - 0.2).abs() < 1e-9);
    assert!((test.slope_change_of(0) - 2.0 * 0.2 * 2.1).abs() < 1e-6);
    assert!(test.slope_change_of(1) < 1e-6);
}

#[test]
fn straight_data_without_noise_show_no_curvature() {
    for value in [1.0, 0.0] {
        let mut rows = grid(|x| value * x[0]);
        for r in &mut rows {
            r.standard_error = None;
        }
        if let Some(test) =
            curvature_test(&["d", "V"], &rows, &RegressionOptions::default()).unwrap()
        {
            assert!(test.f_statistic.is_finite());
            assert!(test.largest_slope_change() < 1e-9);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn regression_is_equivariant(
        noise in proptest::collection::vec(-0.3..0.3_f64, 12),
        errors in proptest::collection::vec(0.01..0.3_f64, 12),
        scale in 0.1..10.0_f64,
        shift in -5.0..5.0_f64,
        cut in 0_usize..12,
    ) {
        let mut rows = grid(|x| 2.0 + x[0] - 0.5 * x[1]);
        for ((r, e), se) in rows.iter_mut().zip(&noise).zip(&errors) {
            r.response += e;
            r.standard_error = Some(*se);
        }
        let options = RegressionOptions { tau_floor: 0.0, ..RegressionOptions::default() };
        let fit = fit_loglog(&["d", "V"], &rows, &options).unwrap();
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-7 * (1.0 + a.abs());

        // Scaling y and its errors scales coefficients, errors and tau alike.
        let scaled: Vec<Observation> = rows.iter().map(|r| Observation {
            response: scale * r.response,
            standard_error: r.standard_error.map(|e| scale * e),
            ..r.clone()
        }).collect();
        let other = fit_loglog(&["d", "V"], &scaled, &options).unwrap();
        for (a, b) in fit.coefficients.iter().zip(&other.coefficients) {
            prop_assert!(close(scale * a.estimate.value, b.estimate.value));
            prop_assert!(close(scale * a.estimate.standard_error, b.estimate.standard_error));
        }
        prop_assert!(close(fit.r_squared, other.r_squared));

        // Shifting a regressor (other units) moves nothing; nor does the order.
        let mut moved = rows.clone();
        for r in &mut moved {
            r.regressors[0] += shift;
        }
        moved.rotate_left(cut);
        let other = fit_loglog(&["d", "V"], &moved, &options).unwrap();
        for (a, b) in fit.coefficients.iter().zip(&other.coefficients) {
            prop_assert!(close(a.estimate.value, b.estimate.value));
            prop_assert!(close(a.estimate.standard_error, b.estimate.standard_error));
        }
        // The reported error is never the smaller one.
        for c in &fit.coefficients {
            prop_assert!(c.estimate.standard_error >= c.model_error);
            prop_assert!(c.estimate.standard_error >= c.hc3_error.unwrap_or(0.0));
        }
    }

    #[test]
    fn adjusted_p_values_keep_order_and_never_shrink(
        p in proptest::collection::vec(0.0..=1.0_f64, 1..20),
    ) {
        let adjusted = holm(&p).unwrap();
        for i in 0..p.len() {
            prop_assert!(adjusted[i] >= p[i] && adjusted[i] <= 1.0);
            for j in 0..p.len() {
                prop_assert!(p[i] > p[j] || adjusted[i] <= adjusted[j]);
            }
        }
    }

    #[test]
    fn no_claim_is_both_supported_and_refuted(
        value in -1.0..3.0_f64,
        se in 0.001..0.5_f64,
    ) {
        let verdict = judge(one(value, se));
        prop_assert!(verdict.p_support > 0.05 || verdict.p_refute > 0.05);
        // Support implies an estimate within the margin, refutation one outside.
        let inside = (value - 1.0).abs() < EXPONENT_MARGIN;
        prop_assert!(verdict.verdict != Verdict::Supported || inside);
        prop_assert!(verdict.verdict != Verdict::Refuted || !inside);
    }
}
