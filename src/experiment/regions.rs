//! Which law binds where: the points of a threshold experiment sorted by the law that the theory
//! says binds there, with a map over `(L, d)` and the exponents region by region.

use recall_theory::Setting;
use recall_theory::thresholds::{self, Regime, Variable};

use super::cells::samples_text;
use super::findings::{Findings, NamedFigure, Table};
use super::law::{Factors, LawPoint, LawWords, dim, fitted};
use super::predicted::at;
use crate::figure::{
    Axis, CellMarks, Dash, Fill, HeatMap, Line, Marker, PanelGrid, Point, Points, Style, XyFigure,
};
use crate::spec::{Criterion, Experiment, Quantity, Search, SearchAxis};
use crate::stats::StatsError;
use crate::stats::coverage::{Interval, note};
use crate::stats::interval::Estimate;
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
    let mut regions = Vec::new();
    for &regime in &present {
        let here: Vec<LawPoint> = points
            .iter()
            .zip(&laws)
            .filter(|(_, law)| **law == regime)
            .map(|(p, _)| p.clone())
            .collect();
        regions.push(region(search, regime, &here)?);
    }
    findings.tables.push(Table {
        caption: format!(
            "The law that binds, by the theory, and the exponents of {} region by region: measured ± standard error (slope of the finite-size formula on the same points). A region is multiplicative where the measured exponents are those of one monomial; a law's own exponents are asymptotic. {}",
            words.symbol,
            note(&[Interval::Slope])
        ),
        header: ["law that binds", "points", "exponents measured (formula)", "the law's own", "capacity law implied"]
            .map(String::from)
            .to_vec(),
        rows: regions.iter().map(|r| r.row(search.axis)).collect(),
    });
    findings
        .figures
        .extend(exponents_figure(experiment, &regions, words));
    findings
        .figures
        .extend(maps(experiment, search, points, &laws, words));
    Ok(())
}

/// What the law alone asks for at a setting: its samples, or the vocabulary at which it asks for
/// the samples there are.
fn law_value(search: &Search, s: &Setting, law: Regime) -> Option<f64> {
    let need = |s: &Setting| {
        let n = thresholds::required_samples(s, law, 0.5)?;
        Some(match search.criterion {
            // A fixed ratio of noise to signal is not the one that L competitors ask for.
            Criterion::NoiseRatio { .. } => n / (2.0 * (s.len as f64).ln()).sqrt(),
            Criterion::Accuracy { .. } => n,
        })
    };
    if search.axis != SearchAxis::Vocab {
        return need(s);
    }
    let n = s.samples.as_f64();
    let met = |v: f64| need(&at(s, SearchAxis::Vocab, v.round() as u64)).is_some_and(|x| x <= n);
    let (mut lo, mut hi) = (4f64, 2f64.powi(24));
    if !met(lo) || met(hi) {
        return None;
    }
    while hi - lo > 1.0 && hi / lo > 1.0 + 1e-6 {
        let mid = (lo * hi).sqrt();
        if met(mid) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    Some((lo * hi).sqrt())
}

/// The exponents of the law itself in the factors of the region: mean over its points of the
/// local slopes, from half a size to twice it.
fn own_exponents(
    search: &Search,
    law: Regime,
    factors: &Factors,
    points: &[LawPoint],
) -> Option<Vec<f64>> {
    let variable = |name: &str| match name {
        "V" => Some(Variable::Vocab),
        "d" => Some(Variable::Dim),
        "L" => Some(Variable::Len),
        "N" => Some(Variable::Samples),
        _ => None,
    };
    let mut means = Vec::new();
    for (name, size) in factors.names.iter().zip(&factors.value) {
        let variable = variable(name)?;
        let mut slopes = Vec::new();
        for p in points {
            let x = size(&p.setting).round() as u64;
            let (lo, hi) = ((x / 2).max(2), 2 * x);
            let value = |x| law_value(search, &variable.set(&p.setting, x), law);
            // A law that is out of reach at half or twice the size has no slope there.
            if let (Some(a), Some(b)) = (value(lo), value(hi)) {
                slopes.push((b / a).ln() / (hi as f64 / lo as f64).ln());
            }
        }
        if slopes.is_empty() {
            return None;
        }
        means.push(slopes.iter().sum::<f64>() / slopes.len() as f64);
    }
    Some(means)
}

/// Exponents of one region.
struct Region {
    law: Regime,
    points: usize,
    names: Vec<&'static str>,
    /// Measured exponents and the formula's slopes, where they could be fitted.
    fit: Option<(Vec<Estimate>, Vec<f64>)>,
    /// The law's own exponents.
    own: Option<Vec<f64>>,
}

/// Fits one region.
fn region(search: &Search, law: Regime, points: &[LawPoint]) -> Result<Region, StatsError> {
    let settings: Vec<Setting> = points.iter().map(|p| p.setting).collect();
    let factors = Factors::of(&settings, Some(search.axis));
    let (observations, predicted): (Vec<_>, Vec<_>) = fitted(&factors, points).into_iter().unzip();
    let enough = !factors.names.is_empty() && observations.len() > factors.names.len() + 2;
    let fit = if enough {
        match fit_loglog(&factors.names, &observations, &RegressionOptions::default()) {
            Ok(fit) => {
                let slopes = project_prediction(&factors.names, &observations, &predicted, &fit)?;
                let measured = fit.coefficients[1..]
                    .iter()
                    .map(|c| c.estimate.clone())
                    .collect();
                Some((measured, slopes[1..].to_vec()))
            }
            // Sizes that do not vary independently inside the region.
            Err(StatsError::RankDeficient { .. } | StatsError::TooFewObservations { .. }) => None,
            Err(other) => return Err(other),
        }
    } else {
        None
    };
    Ok(Region {
        law,
        points: points.len(),
        own: own_exponents(search, law, &factors, points),
        names: factors.names,
        fit,
    })
}

impl Region {
    fn row(&self, searched: SearchAxis) -> Vec<String> {
        let list = |text: &dyn Fn(usize) -> String| {
            (0..self.names.len())
                .map(|i| format!("{} {}", self.names[i], text(i)))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let (measured, implied) = self.fit.as_ref().map_or_else(
            || ("too few points".to_owned(), "—".to_owned()),
            |(e, slopes)| {
                (
                    list(&|i| {
                        format!(
                            "{:+.2} ± {:.2} ({:+.2})",
                            e[i].value, e[i].standard_error, slopes[i]
                        )
                    }),
                    capacity(searched, &self.names, &|i| e[i].value),
                )
            },
        );
        let own = self.own.as_ref().map_or_else(
            || "no power law".to_owned(),
            |own| list(&|i| format!("{:+.2}", own[i])),
        );
        vec![
            law_name(self.law).to_owned(),
            self.points.to_string(),
            measured,
            own,
            implied,
        ]
    }
}

/// Half-width of the widest interval that the figure of exponents shows.
const WIDEST: f64 = 1.0;

/// Measured exponents against the law's own, one panel for each size, one point for each region.
fn exponents_figure(
    experiment: &Experiment,
    regions: &[Region],
    words: &LawWords,
) -> Option<NamedFigure> {
    let mut names: Vec<&'static str> = Vec::new();
    for r in regions {
        for name in &r.names {
            if !names.contains(name) {
                names.push(name);
            }
        }
    }
    let mut panels = Vec::new();
    for name in names {
        let mut panel = XyFigure::new(
            format!("exponent of {name}"),
            Axis::linear("exponent of the law that binds"),
            Axis::linear("measured exponent"),
        );
        let mut span = (f64::INFINITY, f64::NEG_INFINITY);
        let mut placed = Vec::new();
        for (k, r) in regions.iter().enumerate() {
            let Some(i) = r.names.iter().position(|n| *n == name) else {
                continue;
            };
            let (Some((e, slopes)), Some(own)) = (&r.fit, &r.own) else {
                continue;
            };
            if e[i].upper - e[i].lower > 2.0 * WIDEST {
                continue;
            }
            for x in [own[i], e[i].lower, e[i].upper] {
                span = (span.0.min(x), span.1.max(x));
            }
            placed.push((k, r, own[i], &e[i], slopes[i]));
        }
        // The formula's symbol stands a little to the side, so that neither covers the other.
        let aside = 0.05 * (span.1 - span.0).max(0.5);
        for (k, r, own, e, slope) in placed {
            panel = panel
                .with(Points::new(
                    format!("{} binds, measured (95 % interval)", law_name(r.law)),
                    Style::slot(k),
                    vec![Point::new(own, e.value).y_interval(e.lower, e.upper)],
                ))
                .with(Points::new(
                    "finite-size formula, same points (moved aside)",
                    Style::neutral().open(),
                    vec![Point::new(own + aside, slope)],
                ));
        }
        if span.0 > span.1 {
            continue;
        }
        let pad = 0.1 * (span.1 - span.0).max(0.5);
        panels.push(panel.with(Line::new(
            "measured = law",
            Style::neutral().dash(Dash::Dashed),
            vec![(span.0 - pad, span.0 - pad), (span.1 + pad, span.1 + pad)],
        )));
    }
    if panels.is_empty() {
        return None;
    }
    let columns = panels.len().min(3);
    Some(NamedFigure {
        stem: format!("{}-exponents", experiment.id),
        caption: format!(
            "Exponents of {} region by region against those of the law that binds there by the theory. On the dashed line a region is the monomial of its law; open symbols are what the finite-size formula gives on the same points. Exponents known to no better than ± {WIDEST} are left to the table.",
            words.symbol
        ),
        figure: PanelGrid::new(
            format!("{}: exponents by region", experiment.title),
            columns,
            panels,
        )
        .into(),
    })
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
        // Scattered points are no map, nor are a handful.
        if xs.len() < 3 || ys.len() < 3 || 2 * here.len() < xs.len() * ys.len() {
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
        map.missing_label = "censored".to_owned();
        for j in 0..ys.len() {
            for i in 0..xs.len() {
                if find(i, j).is_none() {
                    map.blank.push((j, i));
                }
            }
        }
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
                "Colour: measured {}. Symbols: the law that binds there by the theory (asymptotic laws; their boundaries are crossovers). White: not searched.",
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
