//! Agreement with SciPy and statsmodels; `generators/stats_golden.py` wrote the
//! reference numbers.

use recall_capacity::stats::curvature::curvature_test;
use recall_capacity::stats::equivalence::equivalence_test;
use recall_capacity::stats::interval::{mean_of_seeds, wilson};
use recall_capacity::stats::isotonic::pool_adjacent_violators;
use recall_capacity::stats::linear::Column;
use recall_capacity::stats::multiplicity::holm;
use recall_capacity::stats::power::{refutation_power, support_power};
use recall_capacity::stats::probit::{ProbitOptions, Trial, probit_threshold};
use recall_capacity::stats::regression::{
    Observation, RegressionOptions, fit_loglog, paule_mandel,
};
use recall_capacity::stats::threshold::{Curve, IntervalMethod};
use serde_json::Value;

fn golden(section: &str) -> Value {
    let all: Value =
        serde_json::from_str(include_str!("data/stats/golden.json")).expect("golden.json parses");
    all[section].clone()
}

fn cases(section: &str) -> Vec<Value> {
    golden(section).as_array().expect("an array").clone()
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("an array")
        .iter()
        .map(number)
        .collect()
}

/// Relative agreement, absolute below one in size.
#[track_caller]
fn close(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance * expected.abs().max(1.0),
        "found {found}, expected {expected}"
    );
}

#[track_caller]
fn all_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (&f, &e) in found.iter().zip(expected) {
        close(f, e, tolerance);
    }
}

#[test]
fn holm_agrees_with_multipletests() {
    for case in cases("holm") {
        let adjusted = holm(&numbers(&case["p"])).unwrap();
        all_close(&adjusted, &numbers(&case["adjusted"]), 1e-14);
    }
}

#[test]
fn wilson_agrees_with_proportion_confint() {
    for case in cases("wilson") {
        let (k, n) = (
            number(&case["successes"]) as u64,
            number(&case["trials"]) as u64,
        );
        let found = wilson(k, n, number(&case["confidence"])).unwrap();
        close(found.lower, number(&case["lower"]), 1e-12);
        close(found.upper, number(&case["upper"]), 1e-12);
    }
}

#[test]
fn mean_agrees_with_t_interval() {
    for case in cases("means") {
        let found = mean_of_seeds(&numbers(&case["values"]), 0.95).unwrap();
        close(found.value, number(&case["mean"]), 1e-13);
        close(found.standard_error, number(&case["se"]), 1e-13);
        close(found.lower, number(&case["lower"]), 1e-11);
        close(found.upper, number(&case["upper"]), 1e-11);
    }
}

#[test]
fn equivalence_agrees_with_ttost() {
    for case in cases("tost") {
        let test = equivalence_test(
            number(&case["estimate"]),
            number(&case["se"]),
            case["df"].as_f64(),
            number(&case["target"]),
            number(&case["margin"]),
        )
        .unwrap();
        close(test.p_equivalent, number(&case["p_equivalent"]), 1e-11);
        close(test.p_outside, number(&case["p_outside"]).min(1.0), 1e-11);
    }
}

#[test]
fn regression_agrees_with_statsmodels() {
    for case in cases("regressions") {
        let y = numbers(&case["y"]);
        let errors = case["se"].as_array().map(|_| numbers(&case["se"]));
        let x: Vec<Vec<f64>> = case["x"].as_array().unwrap().iter().map(numbers).collect();
        let observations: Vec<Observation> = x
            .iter()
            .enumerate()
            .map(|(i, regressors)| Observation {
                regressors: regressors.clone(),
                response: y[i],
                standard_error: errors.as_ref().map(|e| e[i]),
            })
            .collect();
        let names = &["a", "b", "c"][..x[0].len()];
        let options = RegressionOptions {
            tau_floor: 0.0,
            ..RegressionOptions::default()
        };
        let fit = fit_loglog(names, &observations, &options).unwrap();
        let column =
            |f: &dyn Fn(usize) -> f64| (0..fit.coefficients.len()).map(f).collect::<Vec<_>>();
        all_close(
            &column(&|j| fit.coefficients[j].estimate.value),
            &numbers(&case["coefficients"]),
            1e-9,
        );
        all_close(
            &column(&|j| fit.coefficients[j].model_error),
            &numbers(&case["model_error"]),
            1e-9,
        );
        all_close(
            &column(&|j| fit.coefficients[j].hc3_error.unwrap()),
            &numbers(&case["hc3_error"]),
            1e-9,
        );
        all_close(&fit.solution.leverage, &numbers(&case["leverage"]), 1e-9);
        close(fit.r_squared, number(&case["r_squared"]), 1e-9);
        assert_eq!(fit.tau_squared.is_some(), errors.is_some());
        if let Some(tau_squared) = fit.tau_squared {
            close(tau_squared, number(&case["tau2"]), 1e-12);
            close(fit.q_statistic.unwrap(), number(&case["q"]), 1e-10);
        }
        if case["curvature"].is_object() {
            let test = curvature_test(names, &observations, &options)
                .unwrap()
                .unwrap();
            // Squares of the two factors with three levels, and three products.
            assert_eq!(test.terms.len(), 5);
            assert_eq!(test.untestable, ["c"]);
            close(test.f_statistic, number(&case["curvature"]["f"]), 1e-9);
            close(test.f_p_value, number(&case["curvature"]["p"]), 1e-9);
        }
    }
}

#[test]
fn paule_mandel_agrees_with_combine_effects() {
    let case = golden("paule_mandel_mean");
    let y = numbers(&case["y"]);
    let errors: Vec<f64> = numbers(&case["variance"])
        .iter()
        .map(|v| v.sqrt())
        .collect();
    let columns = [Column::new("mean", vec![1.0; y.len()])];
    let scatter = paule_mandel(&columns, &y, &errors).unwrap();
    assert!(scatter.tau_squared > 0.01);
    close(scatter.tau_squared, number(&case["tau2"]), 1e-10);
}

#[test]
fn probit_agrees_with_glm() {
    let mut methods = Vec::new();
    for case in cases("probits") {
        let (x, k) = (numbers(&case["x"]), numbers(&case["successes"]));
        let seeds = numbers(&case["seed"]);
        let trials: Vec<Trial> = (0..x.len())
            .map(|i| Trial {
                seed: seeds[i] as u64,
                x: x[i],
                successes: k[i],
                trials: number(&case["trials"]),
            })
            .collect();
        let options = ProbitOptions {
            chance: number(&case["chance"]),
            target: number(&case["target"]),
            window: (0.0, 1.0),
            link_error: 0.0,
            bootstrap_samples: 0,
            ..ProbitOptions::default()
        };
        let threshold = probit_threshold(&trials, &options).unwrap();
        let found = threshold.estimate().expect("an estimate");
        assert_eq!(found.rows_used, x.len());
        close(found.log_n.value, number(&case["threshold"]), 1e-9);
        close(found.statistical_error, number(&case["error"]), 1e-8);
        let Curve::Probit {
            intercept,
            slope,
            slope_standard_error,
            dispersion,
            ..
        } = found.curve
        else {
            panic!("a probit curve");
        };
        close(intercept, number(&case["intercept"]), 1e-8);
        close(slope, number(&case["slope"]), 1e-8);
        close(slope_standard_error, number(&case["slope_error"]), 1e-8);
        close(dispersion, number(&case["dispersion"]), 1e-8);
        if found.method == IntervalMethod::Fieller {
            let ends = numbers(&case["fieller"]);
            all_close(&[found.log_n.lower, found.log_n.upper], &ends, 1e-8);
        }
        methods.push(found.method);
    }
    assert!(methods.contains(&IntervalMethod::Fieller));
    assert!(methods.contains(&IntervalMethod::Delta));
}

#[test]
fn monotone_fit_agrees_with_scipy() {
    for case in cases("isotonic") {
        let fit = pool_adjacent_violators(&numbers(&case["y"]), &numbers(&case["w"]));
        all_close(&fit, &numbers(&case["fit"]), 1e-13);
    }
}

#[test]
fn power_agrees_with_adaptive_quadrature() {
    for case in cases("powers") {
        let [deviation, margin, se, df, alpha] =
            ["deviation", "margin", "se", "df", "alpha"].map(|k| number(&case[k]));
        let support = support_power(deviation, margin, se, Some(df), alpha).unwrap();
        let refutation = refutation_power(deviation, margin, se, Some(df), alpha).unwrap();
        close(support, number(&case["support"]), 2e-4);
        close(refutation, number(&case["refutation"]), 2e-4);
    }
}
