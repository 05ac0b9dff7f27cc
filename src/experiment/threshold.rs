//! Critical values over a design: search, fit, regression, evidence.

use recall_theory::{Samples, Setting};

use super::Records;
use super::findings::{Findings, NamedFigure, Table, ThresholdRow};
use super::predicted::critical;
use super::search::{Progress, SearchPoint};
use crate::figure::{
    Axis, Dash, Direction as Arrow, Line, PanelGrid, Placement, Point, Points, Style, XyFigure,
};
use crate::job::{Axis as Pairing, Job};
use crate::spec::{Criterion, Design, Experiment, Exponents, Search, SearchAxis, ThresholdTest};
use crate::stats::StatsError;
use crate::stats::crossing::{CrossingOptions, RatioRow, ratio_crossing};
use crate::stats::curvature::curvature_test;
use crate::stats::interval::Estimate;
use crate::stats::probit::{ProbitOptions, Trial, probit_threshold};
use crate::stats::regression::{
    Coefficient, Observation, RegressionFit, RegressionOptions, fit_loglog, project_prediction,
};
use crate::stats::threshold::{CensorSide, Censored, SeedDesign, Threshold};
use crate::stats::verdict::{
    ASYMPTOTIC_MARGIN_CAP, Claim, Evidence, ExponentEvidence, FormulaEvidence, LawEvidence, Margin,
    PointCount, Trend,
};

/// Points of the design, in the order of its blocks.
fn points(design: &Design, search: &Search) -> Vec<SearchPoint> {
    design
        .blocks
        .iter()
        .flat_map(|b| b.settings().unwrap_or_default())
        .map(|setting| SearchPoint {
            setting,
            axis: search.axis,
            criterion: search.criterion,
        })
        .collect()
}

/// Jobs that the searches need next.
pub(super) fn pending(design: &Design, search: &Search, records: &dyn Records) -> Vec<Job> {
    points(design, search)
        .iter()
        .flat_map(|p| match p.progress(design, records) {
            Progress::Need(levels) => expand(p, design, &levels),
            Progress::Done(_) | Progress::Unbracketed { .. } => Vec::new(),
        })
        .collect()
}

/// All jobs of finished searches, pilots included.
pub(super) fn used_jobs(design: &Design, search: &Search, records: &dyn Records) -> Vec<Job> {
    points(design, search)
        .iter()
        .flat_map(|p| match p.progress(design, records) {
            Progress::Done(plan) => expand(p, design, &plan.tried),
            Progress::Unbracketed { tried, .. } => expand(p, design, &tried),
            Progress::Need(_) => Vec::new(),
        })
        .collect()
}

/// Jobs of searches that end where the theory puts them.
pub(super) fn expected_jobs(design: &Design, search: &Search) -> Vec<Job> {
    points(design, search)
        .iter()
        .flat_map(|p| expand(p, design, &p.expected_levels(design)))
        .collect()
}

fn expand(point: &SearchPoint, design: &Design, levels: &[(u64, u64)]) -> Vec<Job> {
    levels
        .iter()
        .flat_map(|&(value, seeds)| (0..seeds).map(move |seed| (value, seed)))
        .map(|(value, seed)| point.job(design, value, seed))
        .collect()
}

/// Number of trials behind levels: a level that a pilot and a grid share has its seeds in common.
fn distinct(levels: &[(u64, u64)]) -> usize {
    let mut most = std::collections::BTreeMap::new();
    for &(value, seeds) in levels {
        let known = most.entry(value).or_insert(0);
        *known = seeds.max(*known);
    }
    most.into_values().sum::<u64>() as usize
}

/// A point with its measured and predicted critical value.
struct Measured {
    setting: Setting,
    threshold: Threshold,
    /// Log of the formula's critical value.
    predicted: Option<f64>,
    trials: usize,
    /// Mean attention accuracy over the trials that were fitted.
    attention: Option<f64>,
}

fn measure(
    point: &SearchPoint,
    design: &Design,
    records: &dyn Records,
) -> Result<Measured, StatsError> {
    let predicted = critical(&point.setting, point.axis, point.criterion);
    let mut attention = None;
    let (threshold, trials) = match point.progress(design, records) {
        Progress::Need(_) => (censored("records are missing".into()), 0),
        Progress::Unbracketed { tried, above } => {
            let values: Vec<u64> = tried.iter().map(|t| t.0).collect();
            let side = if above { "above" } else { "below" };
            let reason = format!("no bracket: the target lies {side} all pilots tried, {values:?}");
            (censored(reason), distinct(&tried))
        }
        Progress::Done(plan) => {
            let rows = plan.levels.iter().flat_map(|&value| {
                (0..design.seeds).filter_map(move |seed| {
                    let record = records.get(&point.job(design, value, seed))?;
                    Some(((value as f64).ln(), seed, record))
                })
            });
            let trials = distinct(&plan.tried);
            let searched = match point.axis {
                SearchAxis::Samples => Pairing::Samples,
                SearchAxis::Dim => Pairing::Dim,
                SearchAxis::Width => Pairing::Width,
            };
            let seed_design = if design.paired.contains(&searched) {
                SeedDesign::SharedAcrossLevels
            } else {
                SeedDesign::IndependentAcrossLevels
            };
            let hits: Vec<f64> = rows
                .clone()
                .map(|(_, _, r)| r.outcome.attention.rate())
                .collect();
            attention = Some(hits.iter().sum::<f64>() / hits.len() as f64);
            let threshold = match point.criterion {
                Criterion::NoiseRatio { level } => {
                    let l = 1.0 - 1.0 / point.setting.len as f64;
                    let rows: Vec<RatioRow> = rows
                        .map(|(x, seed, r)| RatioRow {
                            seed,
                            x,
                            ratio: r.outcome.interference_squared.sqrt() / l,
                        })
                        .collect();
                    let options = CrossingOptions {
                        critical_ratio: level,
                        seed_design,
                        ..CrossingOptions::default()
                    };
                    ratio_crossing(&rows, &options)?
                }
                Criterion::Accuracy { quantity, level } => {
                    let rows: Vec<Trial> = rows
                        .filter_map(|(x, seed, r)| {
                            let count = super::predicted::count(quantity, r)?;
                            Some(Trial {
                                seed,
                                x,
                                successes: count.hits as f64,
                                trials: count.total as f64,
                            })
                        })
                        .collect();
                    let options = ProbitOptions {
                        chance: 1.0 / point.setting.vocab as f64,
                        target: level,
                        link_error: link_error(point.axis),
                        seed_design,
                        ..ProbitOptions::default()
                    };
                    probit_threshold(&rows, &options)?
                }
            };
            (threshold, trials)
        }
    };
    Ok(Measured {
        setting: point.setting,
        threshold,
        predicted,
        trials,
        attention,
    })
}

/// Allowance for a wrong shape of the accuracy curve, in the logarithm of what is searched. The
/// default belongs to curves in `log N`; the rise in `log d` is about three times as steep.
fn link_error(axis: SearchAxis) -> f64 {
    let default = ProbitOptions::default().link_error;
    match axis {
        SearchAxis::Samples | SearchAxis::Width => default,
        SearchAxis::Dim => default / 3.0,
    }
}

fn censored(reason: String) -> Threshold {
    Threshold::Censored(Censored {
        side: CensorSide::Unresolved,
        reason,
        bound: None,
        bracket: None,
    })
}

/// A size of a setting.
type Size = fn(&Setting) -> f64;

/// Regressors of the design: those symbols that vary, with their log values.
struct Factors {
    names: Vec<&'static str>,
    value: Vec<Size>,
}

fn dim(s: &Setting) -> f64 {
    match (s.input, s.output) {
        (recall_theory::Embedding::Orthonormal, _) => s.dim_out as f64,
        _ => s.dim_in as f64,
    }
}

fn width(s: &Setting) -> f64 {
    s.model.mlp().map_or(1.0, |mlp| mlp.width as f64)
}

impl Factors {
    fn of(settings: &[Setting], axis: SearchAxis) -> Self {
        let all: [(&'static str, Size, Option<SearchAxis>); 5] = [
            ("d", dim, Some(SearchAxis::Dim)),
            ("L", |s| s.len as f64, None),
            ("V", |s| s.vocab as f64, None),
            ("N", |s| s.samples.as_f64(), Some(SearchAxis::Samples)),
            ("m", width, Some(SearchAxis::Width)),
        ];
        let mut factors = Factors {
            names: Vec::new(),
            value: Vec::new(),
        };
        for (name, value, searched) in all {
            let varies = settings.iter().any(|s| value(s) != value(&settings[0]));
            if searched != Some(axis) && varies {
                factors.names.push(name);
                factors.value.push(value);
            }
        }
        factors
    }

    fn logs(&self, s: &Setting) -> Vec<f64> {
        self.value.iter().map(|f| f(s).ln()).collect()
    }
}

fn exponent(law: &Exponents, name: &str) -> Option<f64> {
    match name {
        "d" => law.dim,
        "L" => law.len,
        "V" => law.vocab,
        "m" => law.width,
        _ => law.samples,
    }
}

/// Findings of a threshold experiment.
pub(super) fn analyse(
    experiment: &Experiment,
    design: &Design,
    search: &Search,
    test: &ThresholdTest,
    records: &dyn Records,
) -> Result<Findings, StatsError> {
    let measured: Vec<Measured> = points(design, search)
        .iter()
        .map(|p| measure(p, design, records))
        .collect::<Result<_, _>>()?;
    let symbol = match search.axis {
        SearchAxis::Samples => "N*",
        SearchAxis::Dim => "d*",
        SearchAxis::Width => "m*",
    };
    let settings: Vec<Setting> = measured.iter().map(|m| m.setting).collect();
    let factors = Factors::of(&settings, search.axis);
    let thresholds: Vec<Threshold> = measured.iter().map(|m| m.threshold.clone()).collect();
    let count = PointCount::of(&thresholds);

    // Points that enter the fits: estimated, with a prediction to compare with.
    let fitted: Vec<(&Measured, Observation, f64)> = measured
        .iter()
        .filter_map(|m| {
            let e = m.threshold.estimate()?;
            let observation = Observation {
                regressors: factors.logs(&m.setting),
                response: e.log_n.value,
                standard_error: Some(e.log_n.standard_error),
            };
            Some((m, observation, m.predicted?))
        })
        .collect();
    let observations: Vec<Observation> = fitted.iter().map(|f| f.1.clone()).collect();
    let predicted: Vec<f64> = fitted.iter().map(|f| f.2).collect();

    let mut findings = Findings {
        thresholds: measured
            .iter()
            .map(|m| row(experiment, search, m))
            .collect(),
        trials: measured.iter().map(|m| m.trials).sum(),
        looks: 1,
        ..Findings::default()
    };
    note_misfits(&mut findings, &measured, symbol, test.constant);

    // The constant: log(measured / predicted), with trends along the factors.
    let ratios: Vec<Observation> = fitted
        .iter()
        .map(|(_, o, p)| Observation {
            response: o.response - p,
            ..o.clone()
        })
        .collect();
    let confidence = 0.95;
    let mut constant =
        FormulaEvidence::from_log_ratios(&factors.names, &ratios, count, confidence)?;
    constant.margin = test.constant.ln();
    // No floor on the scatter where deviations from the formula are tested: it would hide a drift.
    let exact = RegressionOptions {
        confidence,
        tau_floor: 0.0,
    };
    let ratio_fit = fit_loglog(&factors.names, &ratios, &exact)?;
    // A drift that is significant but changes the ratio by less than the margin over the design
    // does not hold back the claim; it is listed among what does not fit.
    constant.trends.clear();
    for (i, c) in ratio_fit.coefficients.iter().enumerate().skip(1) {
        let trend = Trend::of(c);
        let logs: Vec<f64> = ratios.iter().map(|r| r.regressors[i - 1]).collect();
        let (lo, hi) = logs
            .iter()
            .fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(*x), b.max(*x)));
        let change = c.estimate.value * (hi - lo);
        if trend.p_value < 0.01 {
            findings.misfits.push(format!(
                "measured/formula drifts with log {}: slope {:+.4} ± {:.4}, a factor {:.3} over the design ({} its margin of {}).",
                c.name, c.estimate.value, c.estimate.standard_error, change.exp(),
                if change.abs() > constant.margin { "more than" } else { "within" },
                test.constant,
            ));
        }
        if change.abs() > constant.margin {
            constant.trends.push(trend);
        }
    }
    findings.claims.push(Claim {
        id: format!("{}/constant", experiment.id),
        evidence: Evidence::Formula(constant.clone()),
    });

    // The exponents, against the formula's slopes on the same design, and against the asymptotic law.
    let options = RegressionOptions {
        confidence,
        ..RegressionOptions::default()
    };
    let fit = fit_loglog(&factors.names, &observations, &options)?;
    let slopes = project_prediction(&factors.names, &observations, &predicted, &fit)?;

    // Against the formula the slopes of the log ratio are what is tested: the formula bends, and
    // its own bend, common to both, must not count as scatter.
    let own_slopes = project_prediction(&factors.names, &ratios, &predicted, &ratio_fit)?;
    let curvature = curvature_test(&factors.names, &ratios, &exact)?;
    let mut exponents = Vec::new();
    for (i, c) in ratio_fit.coefficients.iter().enumerate().skip(1) {
        let e = &c.estimate;
        let measured = Coefficient {
            estimate: Estimate::new(
                own_slopes[i] + e.value,
                e.standard_error,
                e.df,
                e.confidence,
            )?,
            ..c.clone()
        };
        exponents.push(ExponentEvidence::new(
            &measured,
            own_slopes[i],
            Margin::fixed(test.margin),
            curvature.as_ref().map(|test| (test, i - 1)),
        ));
    }
    if test.slopes && !exponents.is_empty() {
        findings.claims.push(Claim {
            id: format!("{}/slopes", experiment.id),
            evidence: Evidence::Law(LawEvidence {
                exponents,
                points: count,
            }),
        });
    }
    let bend = curvature_test(&factors.names, &observations, &options)?;
    if let Some(law) = &design.asymptotic {
        let exponents: Vec<ExponentEvidence> = (0..factors.names.len())
            .filter_map(|i| {
                let target = exponent(law, factors.names[i])?;
                let drift = slopes[i + 1] - target;
                Some(ExponentEvidence::new(
                    &fit.coefficients[i + 1],
                    target,
                    Margin::asymptotic(test.margin, drift, ASYMPTOTIC_MARGIN_CAP),
                    bend.as_ref().map(|test| (test, i)),
                ))
            })
            .collect();
        if !exponents.is_empty() {
            findings.claims.push(Claim {
                id: format!("{}/asymptotic", experiment.id),
                evidence: Evidence::Law(LawEvidence {
                    exponents,
                    points: count,
                }),
            });
        }
    }

    findings.tables.push(slope_table(
        &factors,
        (&fit, &ratio_fit),
        &slopes,
        design.asymptotic.as_ref(),
        symbol,
    ));
    let rates: Vec<f64> = measured.iter().filter_map(|m| m.attention).collect();
    let attention = (
        rates.iter().sum::<f64>() / rates.len() as f64,
        rates.iter().copied().fold(f64::INFINITY, f64::min),
        rates.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    );
    findings.notes.push(format!(
        "{} of {} points estimated, {} censored; geometric mean of measured/predicted {symbol}: {:.3} (95 % interval {:.3} to {:.3}, {} points), standard deviation of its logarithm {:.3}; median standard error of one log {symbol}: {:.3}; scatter beyond it (tau): {:.3}; attention accuracy in the trials fitted: {:.2} on average over points ({:.2} to {:.2}).",
        count.total - count.censored,
        count.total,
        count.censored,
        constant.mean.value.exp(),
        constant.mean.lower.exp(),
        constant.mean.upper.exp(),
        ratios.len(),
        constant.sd,
        median_error(&fitted),
        ratio_fit.tau_squared.unwrap_or(0.0).sqrt(),
        attention.0,
        attention.1,
        attention.2,
    ));
    findings.figures = figures(
        experiment,
        search,
        &factors,
        &measured,
        &fit,
        symbol,
        (test.constant, test.slopes),
    );
    findings.fits = serde_json::json!({
        "regression": fit,
        "regression_of_log_ratio": ratio_fit,
        "formula_slopes": slopes,
        "curvature_of_log_ratio": curvature,
        "curvature": bend,
        "log_ratio": constant,
    });
    Ok(findings)
}

fn median_error(fitted: &[(&Measured, Observation, f64)]) -> f64 {
    let mut errors: Vec<f64> = fitted.iter().filter_map(|f| f.1.standard_error).collect();
    errors.sort_by(f64::total_cmp);
    errors.get(errors.len() / 2).copied().unwrap_or(f64::NAN)
}

fn samples_text(s: &Setting) -> String {
    match s.samples {
        Samples::Finite(n) => n.to_string(),
        Samples::Infinite => "infinite".into(),
    }
}

fn row(experiment: &Experiment, search: &Search, m: &Measured) -> ThresholdRow {
    let estimate = m.threshold.estimate();
    let (axis, samples) = match search.axis {
        SearchAxis::Samples => ("samples", String::new()),
        SearchAxis::Dim => ("dim", samples_text(&m.setting)),
        SearchAxis::Width => ("width", samples_text(&m.setting)),
    };
    ThresholdRow {
        experiment: experiment.id.clone(),
        vocab: m.setting.vocab,
        dim: if search.axis == SearchAxis::Dim {
            0
        } else {
            dim(&m.setting) as usize
        },
        len: m.setting.len,
        samples,
        axis: axis.into(),
        measured: estimate.map(|e| e.log_n.value.exp()),
        log_standard_error: estimate.map(|e| e.log_n.standard_error),
        predicted: m.predicted.map(f64::exp),
        status: match m.threshold.censored() {
            None => "estimated".into(),
            Some(c) => format!("censored: {}", c.reason),
        },
        trials: m.trials,
    }
}

fn place(s: &Setting, search_dim: bool) -> String {
    if search_dim {
        format!("V = {}, L = {}, N = {}", s.vocab, s.len, samples_text(s))
    } else {
        format!("V = {}, d = {}, L = {}", s.vocab, dim(s), s.len)
    }
}

/// Points that are censored, disagree with the formula, or whose two estimators disagree.
fn note_misfits(findings: &mut Findings, measured: &[Measured], symbol: &str, constant: f64) {
    for m in measured {
        let place = place(&m.setting, symbol == "d*");
        match (&m.threshold, m.predicted) {
            (Threshold::Censored(c), _) => {
                findings
                    .misfits
                    .push(format!("{place}: {symbol} censored ({}).", c.reason));
            }
            (Threshold::Estimated(_), None) => findings.misfits.push(format!(
                "{place}: measured a {symbol}, the formula has none in range."
            )),
            (Threshold::Estimated(e), Some(p)) => {
                let deviation = e.log_n.value - p;
                if deviation.abs() > 3.0 * e.log_n.standard_error && deviation.abs() > constant.ln()
                {
                    findings.misfits.push(format!(
                        "{place}: measured {symbol} = {:.0}, formula {:.0}: a factor {:.2}, {:.1} standard errors.",
                        e.log_n.value.exp(),
                        p.exp(),
                        deviation.exp(),
                        deviation.abs() / e.log_n.standard_error,
                    ));
                }
                if e.cross_check.as_ref().is_some_and(|c| c.disagrees) {
                    findings.misfits.push(format!(
                        "{place}: the two estimators of {symbol} differ by more than .1 in its logarithm."
                    ));
                }
            }
        }
    }
}

fn slope_table(
    factors: &Factors,
    (fit, ratio): (&RegressionFit, &RegressionFit),
    slopes: &[f64],
    asymptotic: Option<&Exponents>,
    symbol: &str,
) -> Table {
    let rows = factors
        .names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let e = &fit.coefficients[i + 1].estimate;
            let d = &ratio.coefficients[i + 1].estimate;
            let law = asymptotic.and_then(|law| exponent(law, name));
            vec![
                format!("log {name}"),
                format!("{:+.3} ± {:.3}", e.value, e.standard_error),
                format!("[{:+.3}, {:+.3}]", e.lower, e.upper),
                format!("{:+.3}", slopes[i + 1]),
                format!("{:+.3} ± {:.3}", d.value, d.standard_error),
                law.map_or_else(|| "—".into(), |x| format!("{x:+.2}")),
            ]
        })
        .collect();
    Table {
        caption: format!(
            "Slopes of log {symbol}: weighted regression, standard error the larger of model-based and HC3, t interval with {} degrees of freedom; R² = {:.4}. The formula is no pure power and bends on the design; the slope of measured over formula is free of that bend, and is what the claim on the slopes rests on.",
            fit.degrees_of_freedom, fit.r_squared
        ),
        header: [
            "factor",
            "measured",
            "95 % interval",
            "formula, same design",
            "slope of measured / formula (judged)",
            "asymptotic law",
        ]
        .map(String::from)
        .to_vec(),
        rows,
    }
}

/// Words for the axis of a factor.
fn factor_axis(name: &str) -> Axis {
    Axis::log2(match name {
        "d" => "d (embedding dimension)",
        "L" => "L (sequence length)",
        "V" => "V (vocabulary size)",
        _ => "N (training samples)",
    })
}

/// Critical value against the first factor, one series for each setting of the others: for laws
/// that are no power, where moving points along fitted slopes would mislead.
fn levels_figure(
    experiment: &Experiment,
    factors: &Factors,
    measured: &[Measured],
    words: &str,
) -> Option<NamedFigure> {
    let first = factors.names.first()?;
    let others = |s: &Setting| -> String {
        let rest = factors.names.iter().zip(&factors.value).skip(1);
        rest.map(|(name, value)| format!("{name} = {}", value(s)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut groups: Vec<String> = measured.iter().map(|m| others(&m.setting)).collect();
    groups.dedup();
    let mut figure = XyFigure::new(
        experiment.title.clone(),
        factor_axis(first),
        Axis::log10(words),
    );
    for (k, group) in groups.iter().enumerate() {
        let of_group = || measured.iter().filter(|m| others(&m.setting) == *group);
        let x = |m: &Measured| factors.value[0](&m.setting);
        let line = of_group()
            .filter_map(|m| Some((x(m), m.predicted?.exp())))
            .collect();
        let points = of_group()
            .filter_map(|m| {
                let e = &m.threshold.estimate()?.log_n;
                let point = Point::new(x(m), e.value.exp());
                Some(point.y_interval(e.lower.exp(), e.upper.exp()))
            })
            .collect();
        figure = figure
            .with(Line::new(format!("{group}, formula"), Style::slot(k), line))
            .with(Points::new(
                format!("{group}, measured"),
                Style::slot(k),
                points,
            ));
    }
    Some(NamedFigure {
        stem: format!("{}-levels", experiment.id),
        caption: "Measured critical values with 95 % intervals beside the finite-size formula at the same points; no fitted constant.".into(),
        figure: figure.into(),
    })
}

/// One panel per factor: the critical value, corrected along the fit to the centre of the other
/// factors, against the factor; and measured over predicted.
fn figures(
    experiment: &Experiment,
    search: &Search,
    factors: &Factors,
    measured: &[Measured],
    fit: &RegressionFit,
    symbol: &str,
    (constant, slopes): (f64, bool),
) -> Vec<NamedFigure> {
    let words = match search.axis {
        SearchAxis::Samples => "N* (critical samples)",
        SearchAxis::Dim => "d* (critical dimension)",
        SearchAxis::Width => "m* (critical width)",
    };
    let slope = |i: usize| fit.coefficients[i + 1].estimate.value;
    let mut panels = Vec::new();
    for (i, name) in factors.names.iter().enumerate() {
        let shift = |s: &Setting| -> f64 {
            let logs = factors.logs(s);
            (0..logs.len())
                .filter(|&k| k != i)
                .map(|k| slope(k) * (logs[k] - fit.centres[k]))
                .sum()
        };
        let mut points = Vec::new();
        let mut formula: Vec<(f64, f64)> = Vec::new();
        for m in measured {
            let x = factors.value[i](&m.setting);
            let shift = shift(&m.setting);
            if let Some(e) = m.threshold.estimate() {
                let at = |y: f64| (y - shift).exp();
                points.push(
                    Point::new(x, at(e.log_n.value))
                        .y_interval(at(e.log_n.lower), at(e.log_n.upper)),
                );
            } else if let Some(p) = m.predicted {
                points.push(Point::new(x, (p - shift).exp()).censored(Arrow::Up));
            }
            if let Some(p) = m.predicted {
                formula.push((x, p - shift));
            }
        }
        // Formula: geometric mean over the other factors, at each value of this one.
        formula.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut line: Vec<(f64, f64)> = Vec::new();
        for group in formula.chunk_by(|a, b| a.0 == b.0) {
            let mean = group.iter().map(|g| g.1).sum::<f64>() / group.len() as f64;
            line.push((group[0].0, mean.exp()));
        }
        let centre = fit.coefficients[0].estimate.value;
        let (lo, hi) = (
            line.first().map_or(1.0, |p| p.0),
            line.last().map_or(1.0, |p| p.0),
        );
        let fitted = |x: f64| (centre + slope(i) * (x.ln() - fit.centres[i])).exp();
        let e = &fit.coefficients[i + 1].estimate;
        panels.push(
            XyFigure::new(
                format!("against {name}"),
                factor_axis(name),
                Axis::log10(words),
            )
            .with(Points::new(
                "measured, 95 % interval",
                Style::slot(0),
                points,
            ))
            .with(Line::new(
                "finite-size formula",
                Style::neutral().dash(Dash::Solid),
                line,
            ))
            .with(Line::new(
                "log-log fit",
                Style::slot(1).dash(Dash::Dashed),
                vec![(lo, fitted(lo)), (hi, fitted(hi))],
            ))
            .annotate(
                format!("slope {:+.3} ± {:.3}", e.value, e.standard_error),
                Placement::Auto,
            ),
        );
    }
    let mut figures = Vec::new();
    if !slopes {
        figures.extend(levels_figure(experiment, factors, measured, words));
    } else if !panels.is_empty() {
        let columns = panels.len().min(3);
        let grid = PanelGrid::new(experiment.title.clone(), columns, panels);
        figures.push(NamedFigure {
            stem: format!("{}-slopes", experiment.id),
            caption: format!(
                "Measured {symbol} beside the finite-size formula. In each panel the other factors are moved to their geometric mean along the fitted slopes."
            ),
            figure: grid.into(),
        });
    }
    let mut points = Vec::new();
    for m in measured {
        if let (Some(e), Some(p)) = (m.threshold.estimate(), m.predicted) {
            points.push(
                Point::new(p.exp(), e.log_n.value.exp() / p.exp())
                    .y_interval((e.log_n.lower - p).exp(), (e.log_n.upper - p).exp()),
            );
        }
    }
    let margin = |value: f64| {
        crate::figure::Reference::horizontal(
            "margin of the mean",
            Style::neutral().dash(Dash::Dotted),
            value,
        )
    };
    let allowance = match search.criterion {
        Criterion::NoiseRatio { .. } => String::new(),
        Criterion::Accuracy { .. } => format!(
            " (an allowance of {} in the logarithm for the shape of the accuracy curve included)",
            link_error(search.axis)
        ),
    };
    let predicted_axis = match search.axis {
        SearchAxis::Samples => Axis::log10("predicted N* (samples)"),
        SearchAxis::Dim => Axis::log2("predicted d* (dimension)"),
        SearchAxis::Width => Axis::log2("predicted m* (width)"),
    };
    let xs: Vec<f64> = points.iter().map(|p| p.x).collect();
    let (lo, hi) = (
        xs.iter().copied().fold(f64::INFINITY, f64::min),
        xs.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    );
    if lo.is_finite() && hi.is_finite() {
        figures.push(NamedFigure {
            stem: format!("{}-ratio", experiment.id),
            caption: format!(
                "Measured over predicted {symbol}, point by point, with 95 % intervals{allowance}. Dotted: the margin of the constant, a factor {constant} either way; it is the mean that is judged."
            ),
            figure: XyFigure::new(
                experiment.title.clone(),
                predicted_axis,
                Axis::linear(format!("measured / predicted {symbol}")),
            )
            .with(Points::new("measured / predicted, 95 % interval", Style::slot(0), points))
            .with(crate::figure::Reference::horizontal(
                "finite-size formula",
                Style::neutral().dash(Dash::Solid),
                1.0,
            ))
            .with(margin(constant))
            .with(margin(1.0 / constant))
            .into(),
        });
    }
    figures
}
