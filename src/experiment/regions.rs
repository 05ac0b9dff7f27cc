//! Which law binds where: the points of a threshold experiment sorted by the law that the theory
//! says binds there, with a map over `(L, d)` and the exponents region by region.

use recall_theory::registry;
use recall_theory::thresholds::{self, Regime};
use recall_theory::Setting;

use super::cells::samples_text;
use super::findings::{Findings, NamedFigure, Table};
use super::law::{Factors, LawPoint, LawWords, dim, fitted};
use super::predicted::at;
use crate::figure::{Axis, CellMarks, Fill, HeatMap, Marker};
use crate::spec::{Criterion, Experiment, Quantity, Search, SearchAxis};
use crate::stats::StatsError;
use crate::stats::regression::{RegressionOptions, fit_loglog, project_prediction};

/// Name of a law in tables and legends.
pub(super) fn law_name(regime: Regime) -> &'static str {
    match regime {
        Regime::Coverage => "coverage",
        Regime::Memory => "memory",
        Regime::GradientNoise => "gradient noise",
        Regime::Cross => "cross term",
        Regime::MeanBias => "mean bias",
        Regime::Trigger => "trigger crosstalk",
    }
}

/// The symbol of a law on maps.
fn marker(regime: Regime) -> (Marker, Fill) {
    match regime {
        Regime::Coverage => (Marker::Plus, Fill::Filled),
        Regime::Memory => (Marker::Square, Fill::Open),
        Regime::GradientNoise => (Marker::Circle, Fill::Filled),
        Regime::Cross => (Marker::Cross, Fill::Filled),
        Regime::MeanBias => (Marker::Triangle, Fill::Open),
        Regime::Trigger => (Marker::Diamond, Fill::Open),
    }
}

/// The law that binds at the predicted critical value of a point (at the setting itself where
/// there is none).
fn binding(search: &Search, point: &LawPoint) -> Regime {
    let s = match point.predicted {
        Some(log) => at(&point.setting, search.axis, log.exp().round() as u64),
        None => point.setting,
    };
    let quantity = match search.criterion {
        // Noise without the trigger's crosstalk.
        Criterion::NoiseRatio { .. } => thresholds::Quantity::Attention,
        Criterion::Accuracy { quantity, .. } => match quantity {
            Quantity::Attention => thresholds::Quantity::Attention,
            Quantity::Recall => thresholds::Quantity::Recall,
            Quantity::Accuracy | Quantity::OneStep => thresholds::Quantity::EndToEnd,
        },
    };
    thresholds::regime_of(&s, quantity)
}

/// Adds the map and the table to the findings of a threshold experiment.
///
/// # Errors
/// If a regression of one region fails for another reason than too few points.
pub(super) fn add(
    experiment: &Experiment,
    search: &Search,
    points: &[LawPoint],
    words: &LawWords,
    findings: &mut Findings,
) -> Result<(), StatsError> {
    let laws: Vec<Regime> = points.iter().map(|p| binding(search, p)).collect();
    let present: Vec<Regime> = Regime::ALL
        .into_iter()
        .filter(|r| laws.contains(r))
        .collect();
    findings.looks += present.len();
    let mut rows = Vec::new();
    for &regime in &present {
        let here: Vec<LawPoint> = points
            .iter()
            .zip(&laws)
            .filter(|(_, law)| **law == regime)
            .map(|(p, _)| p.clone())
            .collect();
        rows.push(region_row(search, regime, &here)?);
    }
    findings.tables.push(Table {
        caption: format!(
            "The law that binds, by the theory, and the exponents of {} region by region: measured ± standard error (slope of the finite-size formula on the same points). A region is multiplicative where the measured exponents are those of one monomial; a law's own exponents are asymptotic.",
            words.symbol
        ),
        header: ["law that binds", "points", "exponents measured (formula)", "the law's own", "capacity law implied"]
            .map(String::from)
            .to_vec(),
        rows,
    });
    findings
        .figures
        .extend(maps(experiment, search, points, &laws, words));
    Ok(())
}

/// One region's row.
fn region_row(
    search: &Search,
    regime: Regime,
    points: &[LawPoint],
) -> Result<Vec<String>, StatsError> {
    let settings: Vec<Setting> = points.iter().map(|p| p.setting).collect();
    let factors = Factors::of(&settings, Some(search.axis));
    let (observations, predicted): (Vec<_>, Vec<_>) =
        fitted(&factors, points).into_iter().unzip();
    let mut measured = "too few points".to_owned();
    let mut implied = "—".to_owned();
    if !factors.names.is_empty() && observations.len() > factors.names.len() + 2 {
        match fit_loglog(&factors.names, &observations, &RegressionOptions::default()) {
            Ok(fit) => {
                let slopes = project_prediction(&factors.names, &observations, &predicted, &fit)?;
                let text = |i: usize| {
                    let e = &fit.coefficients[i + 1].estimate;
                    format!(
                        "{} {:+.2} ± {:.2} ({:+.2})",
                        factors.names[i],
                        e.value,
                        e.standard_error,
                        slopes[i + 1]
                    )
                };
                measured = (0..factors.names.len())
                    .map(text)
                    .collect::<Vec<_>>()
                    .join(", ");
                implied = capacity(search.axis, &factors.names, &|i| {
                    fit.coefficients[i + 1].estimate.value
                });
            }
            Err(StatsError::RankDeficient { .. } | StatsError::TooFewObservations { .. }) => {
                measured = "sizes do not vary independently here".to_owned();
            }
            Err(other) => return Err(other),
        }
    }
    let own = registry::formula(regime.formula())
        .and_then(|f| f.exponents)
        .map_or_else(
            || "no power law".to_owned(),
            |e| match search.axis {
                SearchAxis::Samples => {
                    format!("V {:+.1}, d {:+.1}, L {:+.1}", e.vocab, e.dim, e.len)
                }
                _ => format!(
                    "N* law: V {:+.1}, d {:+.1}, L {:+.1}",
                    e.vocab, e.dim, e.len
                ),
            },
        );
    Ok(vec![
        law_name(regime).to_owned(),
        points.len().to_string(),
        measured,
        own,
        implied,
    ])
}

/// `V*` as a monomial, from the exponents of what was searched.
fn capacity(searched: SearchAxis, names: &[&'static str], slope: &dyn Fn(usize) -> f64) -> String {
    let of = |name: &str| names.iter().position(|n| *n == name).map(slope);
    match searched {
        SearchAxis::Vocab => {
            let parts: Vec<String> = names
                .iter()
                .enumerate()
                .map(|(i, name)| format!("{name}^{:.2}", slope(i)))
                .collect();
            format!("V* ∝ {}", parts.join(" "))
        }
        SearchAxis::Samples => match of("V") {
            // N = V^b d^c L^e, solved for V.
            Some(b) if b > 0.05 => {
                let mut parts = vec![format!("N^{:.2}", 1.0 / b)];
                for name in ["d", "L"] {
                    if let Some(x) = of(name) {
                        parts.push(format!("{name}^{:.2}", -x / b));
                    }
                }
                format!("V* ∝ {}", parts.join(" "))
            }
            _ => "—".to_owned(),
        },
        _ => "—".to_owned(),
    }
}

/// One map over `(L, d)` for each value of the remaining size.
fn maps(
    experiment: &Experiment,
    search: &Search,
    points: &[LawPoint],
    laws: &[Regime],
    words: &LawWords,
) -> Vec<NamedFigure> {
    let layer = |s: &Setting| match search.axis {
        SearchAxis::Vocab => format!("N = {}", samples_text(s)),
        _ => format!("V = {}", s.vocab),
    };
    let mut layers: Vec<String> = points.iter().map(|p| layer(&p.setting)).collect();
    let mut seen = Vec::new();
    layers.retain(|l| {
        let fresh = !seen.contains(l);
        if fresh {
            seen.push(l.clone());
        }
        fresh
    });
    let sorted = |f: &dyn Fn(&Setting) -> f64, here: &[(&LawPoint, Regime)]| {
        let mut x: Vec<f64> = here.iter().map(|(p, _)| f(&p.setting)).collect();
        x.sort_by(f64::total_cmp);
        x.dedup();
        x
    };
    let mut figures = Vec::new();
    for (k, name) in layers.iter().enumerate() {
        let here: Vec<(&LawPoint, Regime)> = points
            .iter()
            .zip(laws.iter().copied())
            .filter(|(p, _)| layer(&p.setting) == *name)
            .collect();
        let len = |s: &Setting| s.len as f64;
        let (xs, ys) = (sorted(&len, &here), sorted(&dim, &here));
        if xs.len() < 2 || ys.len() < 2 {
            continue;
        }
        let find = |i: usize, j: usize| {
            here.iter()
                .find(|(p, _)| len(&p.setting) == xs[i] && dim(&p.setting) == ys[j])
        };
        let grid: Vec<Vec<Option<f64>>> = (0..ys.len())
            .map(|j| {
                (0..xs.len())
                    .map(|i| Some(find(i, j)?.0.measured.as_ref()?.value.exp()))
                    .collect()
            })
            .collect();
        let mut map = HeatMap::new(
            format!("{} ({name})", experiment.title),
            (Axis::log2("L (sequence length)"), xs.clone()),
            (Axis::log2("d (embedding dimension)"), ys.clone()),
            Axis::log10(words.axis.clone()),
            grid,
        );
        map.missing_label = "not reached".to_owned();
        for regime in Regime::ALL {
            let mut cells = Vec::new();
            for j in 0..ys.len() {
                for i in 0..xs.len() {
                    if find(i, j).is_some_and(|(_, law)| *law == regime) {
                        cells.push((j, i));
                    }
                }
            }
            if !cells.is_empty() {
                let (marker, fill) = marker(regime);
                map.marks.push(CellMarks {
                    label: format!("{} binds", law_name(regime)),
                    marker,
                    fill,
                    cells,
                });
            }
        }
        let suffix = if layers.len() > 1 {
            format!("-{}", k + 1)
        } else {
            String::new()
        };
        figures.push(NamedFigure {
            stem: format!("{}-map{suffix}", experiment.id),
            caption: format!(
                "Colour: measured {}. Symbols: the law that binds there by the theory (asymptotic laws; their boundaries are crossovers).",
                words.symbol
            ),
            figure: map.into(),
        });
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_inverts_the_law_of_the_samples() {
        // N = V d^-1.5 L: V = N d^1.5 / L.
        let slopes = [-1.5, 1.0, 1.0];
        let text = capacity(SearchAxis::Samples, &["d", "L", "V"], &|i| slopes[i]);
        assert_eq!(text, "V* ∝ N^1.00 d^1.50 L^-1.00");
        let text = capacity(SearchAxis::Samples, &["d", "L"], &|i| slopes[i]);
        assert_eq!(text, "—");
    }
}
