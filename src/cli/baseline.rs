//! A run beside a baseline, in words.

use std::fmt::Write as _;

use crate::baseline::drift::{ALPHA, Basis, Drift, Test, VerdictChange};
use crate::report::describe_verdict;
use crate::stats::verdict::Verdict;

/// Comparisons without drift that are shown all the same, the most conspicuous ones.
const SHOWN: usize = 3;

/// A comparison in one sentence.
pub(super) fn describe(t: &Test) -> String {
    format!(
        "{}: {:.6} in the baseline, {:.6} now, difference {:+.6} ± {:.6} ({}), adjusted p {}",
        t.name,
        t.before,
        t.now,
        t.difference,
        t.standard_error,
        basis(t.basis),
        p(t.p_adjusted)
    )
}

/// A changed verdict in one sentence.
pub(super) fn describe_change(c: &VerdictChange) -> String {
    let words = |v: &Option<Verdict>| {
        v.as_ref().map_or_else(
            || "absent".to_owned(),
            |v| describe_verdict(v).replace("**", ""),
        )
    };
    format!(
        "was {}, is {}{}",
        words(&c.before),
        words(&c.now),
        if c.same_records {
            " (on the same records: the program or the experiment file has changed)"
        } else {
            ""
        }
    )
}

fn basis(basis: Basis) -> &'static str {
    match basis {
        Basis::Paired => "seed by seed",
        Basis::PartlyPaired => "some seeds in common",
        Basis::Independent => "independent",
        Basis::SameRecords => "same records",
    }
}

fn p(p: f64) -> String {
    if p < 1e-4 {
        "< 1e-4".into()
    } else {
        format!("{p:.4}")
    }
}

/// The comparison as a table and lists.
pub(super) fn table(drift: &Drift, name: &str) -> String {
    let drifted: Vec<&Test> = drift.drifted().collect();
    let mut rest: Vec<&Test> = drift
        .tests
        .iter()
        .filter(|t| !t.drifted() && t.difference != 0.0)
        .collect();
    rest.sort_by(|a, b| a.p.total_cmp(&b.p));
    let mut out = format!(
        "\nagainst the baseline {name}: {} comparisons, {} drifted (false alarms in at most {} of 100 runs), {} verdicts changed\n",
        drift.tests.len(),
        drifted.len(),
        100.0 * ALPHA,
        drift.verdicts.len()
    );
    if drift.shared_trials > 0 {
        let _ = writeln!(
            out,
            "{} trials are in both runs, {} of them with another outcome",
            drift.shared_trials, drift.changed_trials
        );
    }
    if drifted.is_empty() && rest.is_empty() {
        out.push_str("no number differs\n");
    } else {
        let _ = writeln!(
            out,
            "{:<8} {:>12} {:>12} {:>12} {:>10} {:>8}  what",
            "", "baseline", "now", "difference", "± error", "adj. p"
        );
        for t in drifted.iter().chain(rest.iter().take(SHOWN)) {
            let _ = writeln!(
                out,
                "{:<8} {:>12.6} {:>12.6} {:>+12.6} {:>10.6} {:>8}  {}: {} ({})",
                if t.drifted() { "DRIFT" } else { "" },
                t.before,
                t.now,
                t.difference,
                t.standard_error,
                p(t.p_adjusted),
                t.experiment,
                t.name,
                basis(t.basis)
            );
        }
        if rest.len() > SHOWN {
            let _ = writeln!(
                out,
                "{:<8} {} smaller differences, none of them a drift",
                "",
                rest.len() - SHOWN
            );
        }
    }
    for c in &drift.verdicts {
        let mark = if c.certain() { "DRIFT" } else { "verdict" };
        let _ = writeln!(out, "{mark:<8} {}: {}", c.claim, describe_change(c));
    }
    for text in &drift.not_compared {
        let _ = writeln!(out, "{:<8} not compared: {text}", "");
    }
    out
}
