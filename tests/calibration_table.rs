//! The coverages that reports print are those of the table in `docs/calibration.md`.

use std::path::Path;

use recall_capacity::stats::coverage::{Interval, note};

/// What and measured share, row by row.
fn table() -> Vec<(String, f64)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/calibration.md");
    let text = std::fs::read_to_string(path).expect("the table");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        // The summary below the table gives ranges, without an error.
        let share = cells.get(2)?.split_once(" ± ")?.0.parse().ok()?;
        Some((cells[0].to_owned(), share))
    });
    rows.collect()
}

#[test]
fn printed_coverages_are_those_of_the_table() {
    let table = table();
    assert!(table.len() > 100, "{} rows", table.len());
    for interval in Interval::ALL {
        for c in interval.coverage() {
            let shares: Vec<f64> = table
                .iter()
                .filter(|(what, _)| what.starts_with(c.rows.0) && what.contains(c.rows.1))
                .map(|r| r.1)
                .collect();
            assert!(!shares.is_empty(), "no row is of {:?}", c.rows);
            let low = shares.iter().copied().fold(f64::INFINITY, f64::min);
            let high = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_eq!((low, high), c.range, "{interval:?} {:?}", c.rows);
        }
        assert!(note(&[interval]).contains("docs/calibration.md"));
    }
}
