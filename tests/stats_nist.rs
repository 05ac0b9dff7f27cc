//! Least squares against the certified values of the NIST Statistical Reference
//! Datasets; `generators/stats_nist.py` re-derives those values exactly.

use recall_capacity::stats::StatsError;
use recall_capacity::stats::linear::{Column, least_squares};
use serde::Deserialize;

#[derive(Deserialize)]
struct DataSet {
    name: String,
    intercept: bool,
    columns: Vec<Vec<f64>>,
    y: Vec<f64>,
    coefficients: Vec<f64>,
    sd: Vec<f64>,
    residual_sd: f64,
    r_squared: f64,
}

fn data_sets() -> Vec<DataSet> {
    serde_json::from_str(include_str!("data/stats/nist.json")).expect("nist.json parses")
}

fn columns(set: &DataSet) -> Vec<Column> {
    set.columns
        .iter()
        .enumerate()
        .map(|(j, values)| Column::new(format!("x{j}"), values.clone()))
        .collect()
}

/// Correct decimal digits, as NIST defines them, up to 15.
fn digits(found: f64, certified: f64) -> f64 {
    let error = if certified == 0.0 {
        found.abs()
    } else {
        ((found - certified) / certified).abs()
    };
    -error.max(1e-15).log10()
}

fn fewest(found: impl Iterator<Item = f64>, certified: &[f64]) -> f64 {
    found
        .zip(certified)
        .map(|(f, &c)| digits(f, c))
        .fold(15.0, f64::min)
}

#[test]
fn certified_values_are_met_to_the_stated_digits() {
    // (set, digits of coefficients, of standard deviations). The exact fits
    // Wampler1 and 2 certify standard deviations of zero.
    let stated = [
        ("Norris", 12.0, 13.0),
        ("Pontius", 11.0, 12.0),
        ("NoInt1", 13.0, 13.0),
        ("NoInt2", 13.0, 13.0),
        ("Longley", 10.0, 11.0),
        ("Wampler1", 8.0, 6.0),
        ("Wampler2", 11.0, 10.0),
        ("Wampler3", 8.0, 10.0),
        ("Wampler4", 7.0, 10.0),
        ("Wampler5", 5.0, 10.0),
    ];
    let sets = data_sets();
    assert_eq!(sets.len(), stated.len());
    for (set, (name, want_coefficients, want_sd)) in sets.iter().zip(stated) {
        assert_eq!(set.name, name);
        let fit = least_squares(&columns(set), &set.y, None).unwrap();
        let sd = (0..fit.coefficients.len())
            .map(|j| fit.residual_sd() * fit.unscaled_covariance[j][j].sqrt());
        let coefficients = fewest(fit.coefficients.iter().copied(), &set.coefficients);
        let sd = fewest(sd, &set.sd);
        let residual_sd = digits(fit.residual_sd(), set.residual_sd);
        println!("{name}: coefficients {coefficients:.1}, sd {sd:.1}, residual {residual_sd:.1}");
        assert!(coefficients >= want_coefficients, "{name}: coefficients");
        assert!(sd >= want_sd, "{name}: sd");
        assert!(residual_sd >= want_sd, "{name}: residual sd");
        let r_squared = if set.intercept {
            fit.r_squared()
        } else {
            1.0 - fit.weighted_rss / set.y.iter().map(|y| y * y).sum::<f64>()
        };
        // R^2 near 0 loses digits to the cancellation 1 - RSS/TSS.
        assert!((r_squared - set.r_squared).abs() < 1e-13, "{name}: R^2");
    }
}

#[test]
fn leverages_sum_to_the_number_of_columns() {
    for set in data_sets() {
        let fit = least_squares(&columns(&set), &set.y, None).unwrap();
        let sum: f64 = fit.leverage.iter().sum();
        assert!(
            (sum - set.columns.len() as f64).abs() < 1e-10,
            "{}",
            set.name
        );
    }
}

#[test]
fn a_dependent_column_is_named() {
    let mut set = data_sets().swap_remove(4);
    let combination = set.columns[1]
        .iter()
        .zip(&set.columns[3])
        .map(|(a, b)| 2.0 * a - 0.25 * b + 7.0)
        .collect();
    set.columns.insert(4, combination);
    let error = least_squares(&columns(&set), &set.y, None).unwrap_err();
    assert_eq!(
        error,
        StatsError::RankDeficient {
            column: "x4".into()
        }
    );
}
