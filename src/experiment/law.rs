//! A law over a design: measured logarithms beside the formula's, fitted, tested and drawn.
//!
//! What is measured may be a critical value or the size of a score; here it is a number with a
//! standard error at each setting.

use recall_theory::Setting;

use super::cells::samples_text;
use super::findings::{ExponentRow, Findings, FittedExponent, NamedFigure, Table};
use super::predictor::{Predictor, Theory};
use crate::figure::{
    Axis, Dash, Direction as Arrow, Line, PanelGrid, Placement, Point, Points, Reference, Style,
    XyFigure,
};
use crate::spec::{Design, Experiment, Exponents, SearchAxis, SweepAxis, ThresholdTest};
use crate::stats::StatsError;
use crate::stats::coverage::{Interval, note};
use crate::stats::curvature::{CurvatureTest, curvature_test};
use crate::stats::interval::Estimate;
use crate::stats::regression::{
    Coefficient, Observation, RegressionFit, RegressionOptions, fit_loglog, project_prediction,
};
use crate::stats::verdict::{
    ASYMPTOTIC_MARGIN_CAP, Claim, Evidence, ExponentEvidence, FormulaEvidence, LawEvidence, Margin,
    PointCount, Trend,
};

/// One setting of the design.
#[derive(Debug, Clone)]
pub(super) struct LawPoint {
    pub(super) setting: Setting,
    /// Logarithm of what was measured; `None` where it is censored.
    pub(super) measured: Option<Estimate>,
    /// Logarithm of the formula's value, where it has one.
    pub(super) predicted: Option<f64>,
}

/// How many points there are, and how many of them are censored.
pub(super) fn count(points: &[LawPoint]) -> PointCount {
    PointCount {
        total: points.len(),
        censored: points.iter().filter(|p| p.measured.is_none()).count(),
    }
}

/// How the measured quantity is spoken of.
pub(super) struct LawWords {
    /// Symbol.
    pub(super) symbol: String,
    /// Symbol with words and unit, for an axis.
    pub(super) axis: String,
    /// Axis of the formula's value.
    pub(super) predicted_axis: Axis,
    /// The size that is searched and so is no factor of the law.
    pub(super) searched: Option<SearchAxis>,
    /// How the interval of one point was made.
    pub(super) interval: Interval,
    /// What an interval includes beside sampling, in brackets; may be empty.
    pub(super) allowance: String,
    /// Name among several laws of one experiment, in ids and file names.
    pub(super) part: Option<String>,
}

impl LawWords {
    /// An id or file stem: experiment, part and what it is of.
    fn name(&self, experiment: &Experiment, separator: char, what: &str) -> String {
        let mut name = experiment.id.clone();
        for piece in self.part.as_deref().into_iter().chain([what]) {
            name.push(separator);
            name.push_str(piece);
        }
        name
    }
}

/// The settings that have both a measured and a predicted value, as observations.
pub(super) fn fitted(factors: &Factors, points: &[LawPoint]) -> Vec<(Observation, f64)> {
    points
        .iter()
        .filter_map(|p| {
            let e = p.measured.as_ref()?;
            let observation = Observation {
                regressors: factors.logs(&p.setting),
                response: e.value,
                standard_error: Some(e.standard_error),
            };
            Some((observation, p.predicted?))
        })
        .collect()
}

/// What a law's points say of its formula.
pub(super) struct Judged {
    pub(super) claims: Vec<Claim>,
    misfits: Vec<String>,
    factors: Factors,
    observations: Vec<Observation>,
    constant: FormulaEvidence,
    fit: RegressionFit,
    ratio_fit: RegressionFit,
    /// Slopes of the formula on the same design, the intercept first.
    slopes: Vec<f64>,
    curvature: Option<CurvatureTest>,
    bend: Option<CurvatureTest>,
}

/// The evidence: constant, slopes and asymptotic exponents. The points carry the formula's values;
/// of the predictor only the asymptotic exponents are asked.
///
/// # Errors
/// If the design cannot carry the regression.
pub(super) fn judge(
    experiment: &Experiment,
    design: &Design,
    test: &ThresholdTest,
    points: &[LawPoint],
    count: PointCount,
    words: &LawWords,
    predictor: &dyn Predictor,
) -> Result<Judged, StatsError> {
    let settings: Vec<Setting> = points.iter().map(|p| p.setting).collect();
    let factors = Factors::of(&settings, words.searched);
    let (observations, predicted): (Vec<Observation>, Vec<f64>) =
        fitted(&factors, points).into_iter().unzip();
    let (mut claims, mut misfits) = (Vec::new(), Vec::new());

    // The constant: log(measured / predicted), with trends along the factors.
    let ratios: Vec<Observation> = observations
        .iter()
        .zip(&predicted)
        .map(|(o, p)| Observation {
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
            misfits.push(format!(
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
    claims.push(Claim {
        id: words.name(experiment, '/', "constant"),
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
        claims.push(Claim {
            id: words.name(experiment, '/', "slopes"),
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
                let name = factors.names[i];
                let target = predictor.asymptotic(name, exponent(law, name)?);
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
            claims.push(Claim {
                id: words.name(experiment, '/', "asymptotic"),
                evidence: Evidence::Law(LawEvidence {
                    exponents,
                    points: count,
                }),
            });
        }
    }
    Ok(Judged {
        claims,
        misfits,
        factors,
        observations,
        constant,
        fit,
        ratio_fit,
        slopes,
        curvature,
        bend,
    })
}

/// Adds evidence, tables, figures, fits and the summary sentence of a law to the findings.
///
/// # Errors
/// If the design cannot carry the regression.
pub(super) fn analyse(
    experiment: &Experiment,
    design: &Design,
    test: &ThresholdTest,
    points: &[LawPoint],
    count: PointCount,
    words: &LawWords,
    findings: &mut Findings,
) -> Result<(), StatsError> {
    let symbol = words.symbol.as_str();
    let Judged {
        claims,
        misfits,
        factors,
        observations,
        constant,
        fit,
        ratio_fit,
        slopes,
        curvature,
        bend,
    } = judge(experiment, design, test, points, count, words, &Theory)?;
    findings.claims.extend(claims);
    findings.misfits.extend(misfits);

    findings.tables.push(slope_table(
        &factors,
        (&fit, &ratio_fit),
        &slopes,
        design.asymptotic.as_ref(),
        test.slopes,
        words,
    ));
    findings.notes.push(format!(
        "{} of {} points estimated, {} censored; geometric mean of measured/predicted {symbol}: {:.3} (95 % interval {:.3} to {:.3}, {} points), standard deviation of its logarithm {:.3}; median standard error of one log {symbol}: {:.3}; scatter beyond it (tau): {:.3}.",
        count.total - count.censored,
        count.total,
        count.censored,
        constant.mean.value.exp(),
        constant.mean.lower.exp(),
        constant.mean.upper.exp(),
        observations.len(),
        constant.sd,
        median_error(&observations),
        ratio_fit.tau_squared.unwrap_or(0.0).sqrt(),
    ));
    findings.notes.push(prediction(&factors, &fit, symbol)?);
    findings
        .figures
        .extend(figures(experiment, words, &factors, points, &fit, test));
    let fits = serde_json::json!({
        "regression": fit,
        "regression_of_log_ratio": ratio_fit,
        "formula_slopes": slopes,
        "curvature_of_log_ratio": curvature,
        "curvature": bend,
        "log_ratio": constant,
    });
    match &words.part {
        None => findings.fits = fits,
        Some(part) => findings.fits[part] = fits,
    }
    findings.exponents.push(ExponentRow {
        what: words.symbol.clone(),
        exponents: factors
            .names
            .iter()
            .enumerate()
            .map(|(i, name)| FittedExponent {
                name: (*name).to_owned(),
                measured: fit.coefficients[i + 1].estimate.clone(),
                formula: slopes[i + 1],
                asymptotic: design
                    .asymptotic
                    .as_ref()
                    .and_then(|law| exponent(law, name)),
            })
            .collect(),
        ratio: constant.mean,
        points: observations.len(),
    });
    Ok(())
}

/// A size of a setting.
pub(crate) type Size = fn(&Setting) -> f64;

/// Regressors of the design: those symbols that vary, with their log values.
pub(crate) struct Factors {
    pub(crate) names: Vec<&'static str>,
    pub(crate) value: Vec<Size>,
}

/// `d` of the input side, of the output side where the input is orthonormal.
pub(super) fn dim(s: &Setting) -> f64 {
    match (s.input, s.output) {
        (recall_theory::Embedding::Orthonormal, _) => s.dim_out as f64,
        _ => s.dim_in as f64,
    }
}

fn width(s: &Setting) -> f64 {
    s.model.mlp().map_or(1.0, |mlp| mlp.width as f64)
}

/// Sizes of a setting in words, that along an axis left out.
pub(super) fn place(s: &Setting, but: Option<SweepAxis>) -> String {
    let width = s.model.mlp().map(|mlp| format!("m = {}", mlp.width));
    let sizes = [
        (SweepAxis::Vocab, Some(format!("V = {}", s.vocab))),
        (SweepAxis::Dim, Some(format!("d = {}", dim(s)))),
        (SweepAxis::Len, Some(format!("L = {}", s.len))),
        (SweepAxis::Samples, Some(format!("N = {}", samples_text(s)))),
        (SweepAxis::Width, width),
    ];
    let words: Vec<String> = sizes
        .into_iter()
        .filter(|(axis, _)| Some(*axis) != but)
        .filter_map(|(_, text)| text)
        .collect();
    words.join(", ")
}

impl Factors {
    pub(crate) fn of(settings: &[Setting], searched: Option<SearchAxis>) -> Self {
        let all: [(&'static str, Size, Option<SearchAxis>); 5] = [
            ("d", dim, Some(SearchAxis::Dim)),
            ("L", |s| s.len as f64, None),
            ("V", |s| s.vocab as f64, Some(SearchAxis::Vocab)),
            ("N", |s| s.samples.as_f64(), Some(SearchAxis::Samples)),
            ("m", width, Some(SearchAxis::Width)),
        ];
        let mut factors = Factors {
            names: Vec::new(),
            value: Vec::new(),
        };
        for (name, value, axis) in all {
            let varies = settings.iter().any(|s| value(s) != value(&settings[0]));
            // Orthonormal tables have the dimension of the vocabulary: no size of its own.
            if name == "d" && settings.iter().all(|s| dim(s) == s.vocab as f64) {
                continue;
            }
            if (axis.is_none() || axis != searched) && varies {
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

fn median_error(observations: &[Observation]) -> f64 {
    let mut errors: Vec<f64> = observations
        .iter()
        .filter_map(|o| o.standard_error)
        .collect();
    errors.sort_by(f64::total_cmp);
    errors.get(errors.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What one more setting at the centre of the design would measure, in words.
fn prediction(factors: &Factors, fit: &RegressionFit, symbol: &str) -> Result<String, StatsError> {
    let e = fit.prediction(0.95)?;
    let place: Vec<String> = factors
        .names
        .iter()
        .zip(&fit.centres)
        .map(|(name, centre)| format!("{name} = {:.0}", centre.exp()))
        .collect();
    Ok(format!(
        "One more setting at the centre of the design ({}) would measure {symbol} = {}, 95 % prediction interval {} to {}: from the log-log fit, whose own error and the scatter of the points about it are both in it. {}",
        place.join(", "),
        three_digits(e.value.exp()),
        three_digits(e.lower.exp()),
        three_digits(e.upper.exp()),
        note(&[Interval::Prediction])
    ))
}

/// At least three significant digits, no exponent.
fn three_digits(x: f64) -> String {
    let places = (2.0 - x.abs().log10().floor()).clamp(0.0, 9.0);
    format!("{x:.*}", places as usize)
}

fn slope_table(
    factors: &Factors,
    (fit, ratio): (&RegressionFit, &RegressionFit),
    slopes: &[f64],
    asymptotic: Option<&Exponents>,
    judged: bool,
    words: &LawWords,
) -> Table {
    let symbol = &words.symbol;
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
            "Slopes of log {symbol}: weighted regression, standard error the larger of model-based and HC3, t interval with {} degrees of freedom; R² = {:.4}. The formula is no pure power and bends on the design; the slope of measured over formula is free of that bend, and {}. {}",
            fit.degrees_of_freedom,
            fit.r_squared,
            if judged {
                "is what the claim on the slopes rests on"
            } else {
                "is not judged here"
            },
            note(&[Interval::Slope, words.interval])
        ),
        header: [
            "factor",
            "measured",
            "95 % interval",
            "formula, same design",
            if judged {
                "slope of measured / formula (judged)"
            } else {
                "slope of measured / formula (not judged)"
            },
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
        "m" => "m (hidden width)",
        _ => "N (training samples)",
    })
}

/// Critical value against the first factor, one series for each setting of the others: for laws
/// that are no power, where moving points along fitted slopes would mislead.
fn levels_figure(
    experiment: &Experiment,
    factors: &Factors,
    points: &[LawPoint],
    words: &LawWords,
) -> Option<NamedFigure> {
    let first = factors.names.first()?;
    let others = |s: &Setting| -> String {
        let rest = factors.names.iter().zip(&factors.value).skip(1);
        rest.map(|(name, value)| format!("{name} = {}", value(s)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut groups: Vec<String> = points.iter().map(|m| others(&m.setting)).collect();
    groups.dedup();
    let mut figure = XyFigure::new(
        experiment.title.clone(),
        factor_axis(first),
        Axis::log10(words.axis.clone()),
    );
    for (k, group) in groups.iter().enumerate() {
        let of_group = || points.iter().filter(|m| others(&m.setting) == *group);
        let x = |m: &LawPoint| factors.value[0](&m.setting);
        let line = of_group()
            .filter_map(|m| Some((x(m), m.predicted?.exp())))
            .collect();
        let points = of_group()
            .filter_map(|m| {
                let e = m.measured.as_ref()?;
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
        stem: words.name(experiment, '-', "levels"),
        caption: "Measured values with 95 % intervals beside the finite-size formula at the same points; no fitted constant.".into(),
        figure: figure.into(),
    })
}

/// One panel per factor: the critical value, corrected along the fit to the centre of the other
/// factors, against the factor; and measured over predicted.
fn figures(
    experiment: &Experiment,
    words: &LawWords,
    factors: &Factors,
    measured: &[LawPoint],
    fit: &RegressionFit,
    test: &ThresholdTest,
) -> Vec<NamedFigure> {
    let (symbol, constant) = (words.symbol.as_str(), test.constant);
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
            if let Some(e) = &m.measured {
                let at = |y: f64| (y - shift).exp();
                points.push(Point::new(x, at(e.value)).y_interval(at(e.lower), at(e.upper)));
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
                Axis::log10(words.axis.clone()),
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
    if !test.slopes {
        figures.extend(levels_figure(experiment, factors, measured, words));
    } else if !panels.is_empty() {
        let columns = panels.len().min(3);
        let grid = PanelGrid::new(experiment.title.clone(), columns, panels);
        figures.push(NamedFigure {
            stem: words.name(experiment, '-', "slopes"),
            caption: format!(
                "Measured {symbol} beside the finite-size formula. In each panel the other factors are moved to their geometric mean along the fitted slopes."
            ),
            figure: grid.into(),
        });
    }
    let mut points = Vec::new();
    for m in measured {
        if let (Some(e), Some(p)) = (&m.measured, m.predicted) {
            points.push(
                Point::new(p.exp(), (e.value - p).exp())
                    .y_interval((e.lower - p).exp(), (e.upper - p).exp()),
            );
        }
    }
    let margin = |value: f64| {
        Reference::horizontal(
            "margin of the mean",
            Style::neutral().dash(Dash::Dotted),
            value,
        )
    };
    let xs: Vec<f64> = points.iter().map(|p| p.x).collect();
    let (lo, hi) = (
        xs.iter().copied().fold(f64::INFINITY, f64::min),
        xs.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    );
    if lo.is_finite() && hi.is_finite() {
        figures.push(NamedFigure {
            stem: words.name(experiment, '-', "ratio"),
            caption: format!(
                "Measured over predicted {symbol}, point by point, with 95 % intervals{}. Dotted: the margin of the constant, a factor {constant} either way; it is the mean that is judged.",
                words.allowance,
            ),
            figure: XyFigure::new(
                experiment.title.clone(),
                words.predicted_axis.clone(),
                Axis::linear(format!("measured / predicted {symbol}")),
            )
            .with(Points::new("measured / predicted, 95 % interval", Style::slot(0), points))
            .with(Reference::horizontal(
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

#[cfg(test)]
mod tests {
    use super::three_digits;

    #[test]
    fn numbers_keep_three_digits() {
        let shown = [42298.3, 751.85, 94.598, 2.4399, 0.0327, 0.00981].map(three_digits);
        assert_eq!(shown, ["42298", "752", "94.6", "2.44", "0.0327", "0.00981"]);
    }
}
