//! Rows, CSV and short texts shared by the report and the command line.

use std::fmt::Write as _;

use crate::experiment::{CellRow, ThresholdRow};
use crate::stats::verdict::{ClaimVerdict, Evidence, InconclusiveReason, Verdict};

/// A verdict in words.
#[must_use]
pub fn describe_verdict(v: &Verdict) -> String {
    let reason = match v {
        Verdict::Supported => return "supported".into(),
        Verdict::Refuted => return "**refuted**".into(),
        Verdict::Inconclusive { reason } => reason,
    };
    let why = match reason {
        InconclusiveReason::LowPower { support_power } => format!(
            "the design is too small: support at zero deviation had probability {support_power:.2}"
        ),
        InconclusiveReason::NearMargin => "the deviation is near the margin".into(),
        InconclusiveReason::BoundUndecided => {
            "neither exceeded nor shown to be kept within the margin".into()
        }
        InconclusiveReason::TooManyCensored { fraction } => {
            format!("{:.0} % of the points are censored", 100.0 * fraction)
        }
        InconclusiveReason::PreAsymptotic { exponent, drift } => format!(
            "pre-asymptotic: on this design the formula's own slope in {exponent} is {drift:+.3} from the exponent"
        ),
        InconclusiveReason::Curved {
            exponent,
            slope_change,
            p_value,
        } => format!(
            "curved in {exponent}: the local slope changes by {slope_change:.3} over the design, p = {}",
            p_text(*p_value)
        ),
        InconclusiveReason::Scattered { sd } => {
            format!("the points scatter too widely, standard deviation {sd:.3}")
        }
        InconclusiveReason::Drifting {
            regressor,
            slope,
            p_value,
        } => format!(
            "the ratio drifts with log {regressor}, slope {slope:+.3}, p = {}",
            p_text(*p_value)
        ),
    };
    format!("inconclusive ({why})")
}

/// A p-value without false precision.
pub(super) fn p_text(p: f64) -> String {
    if p < 1e-4 {
        "< 1e-4".into()
    } else if p < 0.01 {
        format!("{p:.4}")
    } else {
        format!("{p:.2}")
    }
}

/// One row per comparison: claim, verdict, what was compared, estimate, target, margin, adjusted
/// p-values, detectable deviation.
#[must_use]
pub fn verdict_rows(v: &ClaimVerdict, evidence: &Evidence) -> Vec<[String; 7]> {
    let p = format!(
        "{} / {}",
        p_text(v.p_support_adjusted),
        p_text(v.p_refute_adjusted)
    );
    if let Evidence::Bound(bound) = evidence {
        let closest = bound
            .tests
            .iter()
            .max_by(|a, b| a.excess.total_cmp(&b.excess));
        let (measured, margin) = closest.map_or_else(Default::default, |t| {
            let text = format!(
                "largest excess over the bound in {} cells: {:+.3} ± {:.3}",
                bound.tests.len(),
                t.excess,
                t.standard_error
            );
            (text, format!("{:.3}", t.margin))
        });
        let target = "≤ 0".to_owned();
        let verdict = describe_verdict(&v.verdict);
        return vec![[
            v.id.clone(),
            verdict,
            measured,
            target,
            margin,
            p,
            v.refutable_excess
                .map_or_else(|| "—".into(), |x| format!("— / {x:.3}")),
        ]];
    }
    let name = |name: &str| match (evidence, v.id.ends_with("/constant")) {
        (Evidence::Formula(_), true) => "mean log(measured/formula)".to_owned(),
        (Evidence::Formula(_), false) => "mean error (measured − formula)".to_owned(),
        (Evidence::Accuracy(_), _) => match name {
            "mean error" => "mean error (measured − formula)".to_owned(),
            "scatter" => "scatter of the error over cells, beyond noise".to_owned(),
            change => format!("{change} of the error, over the design"),
        },
        _ => format!("exponent of {name}"),
    };
    v.comparisons
        .iter()
        .enumerate()
        .map(|(i, c)| {
            let t = &c.test;
            let first = |s: String| if i == 0 { s } else { String::new() };
            let detectable = c.power.as_ref().map_or_else(
                || "—".into(),
                |p| {
                    let inside = p
                        .supportable_deviation
                        .map_or_else(|| "none".into(), |d| format!("{d:.3}"));
                    format!("{inside} / {:.3}", p.refutable_deviation)
                },
            );
            [
                first(v.id.clone()),
                first(describe_verdict(&v.verdict)),
                format!(
                    "{}: {:+.3} ± {:.3}",
                    name(&c.name),
                    c.estimate,
                    t.standard_error
                ),
                format!("{:+.3}", c.target),
                format!("{:.3}", t.margin),
                first(p.clone()),
                detectable,
            ]
        })
        .collect()
}

/// Quotes a CSV field where needed.
fn csv(field: &str) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

fn optional(x: Option<f64>) -> String {
    x.map_or_else(String::new, |x| format!("{x}"))
}

pub(super) fn thresholds_csv(rows: &[&ThresholdRow]) -> String {
    let mut out = String::from(
        "experiment,vocab,dim,len,samples,axis,measured,log_standard_error,predicted,status,trials\n",
    );
    for r in rows {
        let dim = if r.axis == "dim" {
            String::new()
        } else {
            r.dim.to_string()
        };
        let _ = writeln!(
            out,
            "{},{},{dim},{},{},{},{},{},{},{},{}",
            csv(&r.experiment),
            r.vocab,
            r.len,
            r.samples,
            r.axis,
            optional(r.measured),
            optional(r.log_standard_error),
            optional(r.predicted),
            csv(&r.status),
            r.trials
        );
    }
    out
}

pub(super) fn cells_csv(rows: &[&CellRow]) -> String {
    let mut out = String::from(
        "experiment,block,vocab,dim_in,dim_out,len,samples,quantity,measured,standard_error,predicted,in_window,trials\n",
    );
    for r in rows {
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{},{},{},{},{},{}",
            csv(&r.experiment),
            csv(&r.block),
            r.vocab,
            r.dim_in,
            r.dim_out,
            r.len,
            r.samples,
            csv(&r.quantity),
            r.measured,
            r.standard_error,
            r.predicted,
            r.in_window,
            r.trials
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_separators_are_quoted() {
        assert_eq!(csv("plain"), "plain");
        assert_eq!(csv("a, \"b\""), "\"a, \"\"b\"\"\"");
    }
}
