//! Sample thresholds of decoders of the first gradient beside the lower bound.

use recall_theory::lower_bound::{Target, samples_lower_bound};
use recall_theory::{Setting, lower_bound, whitened};

use super::Records;
use super::bound::{aside, rate, style};
use super::cells::{Extra, jobs_with};
use super::evidence::{Limit, Limited, MeasuredLaw, Question};
use super::findings::{Findings, NamedFigure, Table, ThresholdRow};
use super::law::{self, LawPoint, LawWords};
use super::predictor::Theory;
use crate::decode::{Decoder, DecoderSet};
use crate::figure::{Axis, Dash, Line, PanelGrid, Point, Points, Reference, Style, XyFigure};
use crate::job::Job;
use crate::spec::{DecodersTask, Design, Experiment, SearchAxis};
use crate::stats::StatsError;
use crate::stats::coverage::{Interval, note};
use crate::stats::equivalence::bound_test;
use crate::stats::interval::Estimate;
use crate::stats::probit::{ProbitOptions, Trial, probit_threshold};
use crate::stats::regression::{Observation, RegressionOptions, fit_loglog};
use crate::stats::threshold::Threshold;
use crate::stats::verdict::{BoundEvidence, Claim, Evidence, PointCount};

/// All jobs.
pub(super) fn jobs(design: &Design, decoders: DecoderSet) -> Vec<Job> {
    jobs_with(design, Extra::of(decoders))
}

/// One configuration: its settings differ in the sample size alone.
struct Config {
    sizes: Vec<Setting>,
    bound: f64,
    closed: Option<f64>,
    formula: Option<f64>,
    /// By decoder, in the order of the set.
    thresholds: Vec<Threshold>,
}

impl Config {
    fn setting(&self) -> &Setting {
        &self.sizes[0]
    }

    fn log_n(&self, index: usize) -> Option<&Estimate> {
        self.thresholds[index].estimate().map(|e| &e.log_n)
    }

    /// Smallest measured threshold, and the decoder that has it.
    fn best(&self) -> Option<(usize, &Estimate)> {
        (0..self.thresholds.len())
            .filter_map(|i| Some((i, self.log_n(i)?)))
            .min_by(|a, b| a.1.value.total_cmp(&b.1.value))
    }
}

/// Settings grouped by configuration, in the order of the blocks.
fn grouped(design: &Design) -> Vec<Vec<Setting>> {
    let mut groups: Vec<Vec<Setting>> = Vec::new();
    for s in design.settings() {
        let same = |group: &&mut Vec<Setting>| {
            let first = group[0];
            let samples = first.samples;
            Setting { samples, ..s } == first
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(s),
            None => groups.push(vec![s]),
        }
    }
    groups
}

fn threshold(
    design: &Design,
    task: &DecodersTask,
    sizes: &[Setting],
    decoder: Decoder,
    records: &dyn Records,
) -> Result<Threshold, StatsError> {
    let extra = Extra::of(task.decoders);
    let mut rows = Vec::new();
    for s in sizes {
        for seed in 0..design.seeds {
            let Some(record) = records.measured(&extra.job(design, s, seed)) else {
                continue;
            };
            let decoded = &record.outcome.decoders;
            if let Some(d) = decoded.iter().find(|d| d.decoder == decoder) {
                rows.push(Trial {
                    seed,
                    x: s.samples.as_f64().ln(),
                    successes: d.correct.hits as f64,
                    trials: d.correct.total as f64,
                });
            }
        }
    }
    let options = ProbitOptions {
        chance: 1.0 / sizes[0].vocab as f64,
        target: task.level,
        ..ProbitOptions::default()
    };
    probit_threshold(&rows, &options)
}

/// Findings: every (configuration, size, decoder) against the bound; the whitened decoder's
/// thresholds against their formula; slopes of all thresholds beside those of the bound.
pub(super) fn analyse(
    experiment: &Experiment,
    design: &Design,
    task: &DecodersTask,
    records: &dyn Records,
) -> Result<Findings, StatsError> {
    let decoders: Vec<Decoder> = task.decoders.iter().collect();
    let target = Target::ExpectedAccuracy {
        accuracy: task.level,
    };
    let mut configs = Vec::new();
    for sizes in grouped(design) {
        let s = sizes[0];
        configs.push(Config {
            bound: samples_lower_bound(&s, target)
                .bound()
                .map_or(f64::NAN, |b| b.value),
            closed: whitened::samples_closed_form(&s, task.level),
            formula: whitened::samples_for_accuracy(&s, task.level).samples(),
            thresholds: decoders
                .iter()
                .map(|d| threshold(design, task, &sizes, *d, records))
                .collect::<Result<_, _>>()?,
            sizes,
        });
    }
    let mut findings = Findings {
        trials: configs.iter().map(|c| c.sizes.len()).sum::<usize>() * design.seeds as usize,
        looks: 3,
        ..Findings::default()
    };
    keep_bound(experiment, design, task, &configs, records, &mut findings)?;
    threshold_table(&decoders, &configs, &mut findings);
    for (c, i) in configs
        .iter()
        .flat_map(|c| (0..decoders.len()).map(move |i| (c, i)))
    {
        findings
            .thresholds
            .push(row(experiment, design, decoders[i], c, i));
    }
    if let Some(index) = decoders.iter().position(|d| *d == Decoder::Whitened) {
        let measured = configs
            .iter()
            .map(|c| (*c.setting(), c.thresholds[index].clone()))
            .collect();
        let MeasuredLaw {
            points,
            count,
            words,
            ..
        } = whitened_law(task, measured);
        law::analyse(
            experiment,
            design,
            &task.test,
            &points,
            count,
            &words,
            &mut findings,
        )?;
    }
    slope_table(&decoders, &configs, &mut findings)?;
    findings
        .figures
        .push(figure(experiment, &decoders, &configs));
    Ok(findings)
}

/// The whitened decoder's thresholds, if it was asked for.
pub(super) fn measured_law(
    design: &Design,
    task: &DecodersTask,
    records: &dyn Records,
) -> Result<Option<MeasuredLaw>, StatsError> {
    if !task.decoders.iter().any(|d| d == Decoder::Whitened) {
        return Ok(None);
    }
    let measured = grouped(design)
        .iter()
        .map(|sizes| {
            let found = threshold(design, task, sizes, Decoder::Whitened, records)?;
            Ok((sizes[0], found))
        })
        .collect::<Result<_, StatsError>>()?;
    Ok(Some(whitened_law(task, measured)))
}

fn whitened_law(task: &DecodersTask, measured: Vec<(Setting, Threshold)>) -> MeasuredLaw {
    let question = Question::Whitened { level: task.level };
    let thresholds: Vec<Threshold> = measured.iter().map(|m| m.1.clone()).collect();
    MeasuredLaw {
        question,
        test: task.test.clone(),
        points: measured
            .into_iter()
            .map(|(setting, threshold)| LawPoint {
                setting,
                measured: threshold.estimate().map(|e| e.log_n.clone()),
                predicted: question.log_value(&Theory, &setting),
            })
            .collect(),
        count: PointCount::of(&thresholds),
        words: LawWords {
            symbol: "N*".into(),
            axis: "N* (samples, whitened decoder)".into(),
            predicted_axis: Axis::log10("N* of the formula"),
            searched: Some(SearchAxis::Samples),
            interval: Interval::ProbitThreshold,
            allowance: String::new(),
            part: Some("whitened".into()),
        },
    }
}

/// The readings behind the claim on the bound.
pub(super) fn limited(
    experiment: &Experiment,
    design: &Design,
    task: &DecodersTask,
    records: &dyn Records,
) -> Result<Limited, StatsError> {
    let extra = Extra::of(task.decoders);
    let mut readings = Vec::new();
    for s in grouped(design).into_iter().flatten() {
        for decoder in task.decoders.iter() {
            let e = extra.mean(design, &s, records, |r| rate(r, decoder))?;
            readings.push((s, e));
        }
    }
    Ok(Limited {
        id: format!("{}/bound", experiment.id),
        margin: task.margin,
        limit: Limit::Accuracy,
        readings,
    })
}

/// Every cell and decoder against the accuracy bound.
fn keep_bound(
    experiment: &Experiment,
    design: &Design,
    task: &DecodersTask,
    configs: &[Config],
    records: &dyn Records,
    findings: &mut Findings,
) -> Result<(), StatsError> {
    let extra = Extra::of(task.decoders);
    let mut tests = Vec::new();
    let mut closest = (f64::NEG_INFINITY, String::new());
    for s in configs.iter().flat_map(|c| &c.sizes) {
        let bound = lower_bound::accuracy_upper_bound(s, s.samples).accuracy;
        for decoder in task.decoders.iter() {
            let e = extra.mean(design, s, records, |r| rate(r, decoder))?;
            let test = bound_test(e.value, e.standard_error, e.df, bound, task.margin)?;
            if test.excess > closest.0 && bound < 1.0 {
                let place = format!(
                    "{}, V = {}, d = {}, L = {}, N = {}: {:.3} ± {:.3} against {bound:.3}",
                    decoder.name(),
                    s.vocab,
                    s.dim_in,
                    s.len,
                    s.samples.as_f64(),
                    e.value,
                    e.standard_error
                );
                closest = (test.excess, place);
            }
            tests.push(test);
        }
    }
    findings.notes.push(format!(
        "{} comparisons of a decoder's accuracy with the bound; closest where the bound is below one: {}.",
        tests.len(),
        closest.1
    ));
    let total = tests.len();
    findings.claims.push(Claim {
        id: format!("{}/bound", experiment.id),
        evidence: Evidence::Bound(BoundEvidence {
            tests,
            points: PointCount { total, censored: 0 },
        }),
    });
    Ok(())
}

fn threshold_table(decoders: &[Decoder], configs: &[Config], findings: &mut Findings) {
    let mut header: Vec<String> = [
        "V",
        "d",
        "L",
        "bound",
        "whitened, closed form",
        "whitened, formula",
    ]
    .map(String::from)
    .to_vec();
    header.extend(decoders.iter().map(|d| d.name().to_owned()));
    header.extend(["best", "best / bound"].map(String::from));
    let size = |n: Option<f64>| n.map_or_else(|| "—".into(), |n| format!("{n:.0}"));
    let mut ratios = Vec::new();
    let rows = configs
        .iter()
        .map(|c| {
            let s = c.setting();
            let mut row = vec![
                s.vocab.to_string(),
                s.dim_in.to_string(),
                s.len.to_string(),
                size(Some(c.bound)),
                size(c.closed),
                size(c.formula),
            ];
            row.extend((0..decoders.len()).map(|i| match c.log_n(i) {
                Some(e) => {
                    let n = e.value.exp();
                    format!("{n:.0} ± {:.0}", n * e.standard_error)
                }
                None => "—".into(),
            }));
            match c.best() {
                Some((i, e)) => {
                    let ratio = e.value.exp() / c.bound;
                    ratios.push(ratio.ln());
                    row.push(decoders[i].name().to_owned());
                    row.push(format!("{ratio:.2} ± {:.2}", ratio * e.standard_error));
                }
                None => row.extend(["—".into(), "—".into()]),
            }
            row
        })
        .collect();
    let n = ratios.len() as f64;
    let extreme = |f: fn(f64, f64) -> f64, start: f64| ratios.iter().copied().fold(start, f).exp();
    findings.notes.push(format!(
        "Best decoder over bound: geometric mean {:.2}, from {:.2} to {:.2}, {} configurations.",
        (ratios.iter().sum::<f64>() / n).exp(),
        extreme(f64::min, f64::INFINITY),
        extreme(f64::max, f64::NEG_INFINITY),
        ratios.len(),
    ));
    findings.tables.push(Table {
        caption: format!("Samples at which half of the facts are decoded: probit fit on the grid of N ± standard error (a dash: the grid holds no crossing), the bound on all readers of the first gradient (surrogate or coverage, the greater) and the heuristic formulas of the whitened decoder. {}", note(&[Interval::ProbitThreshold])),
        header,
        rows,
    });
}

fn row(
    experiment: &Experiment,
    design: &Design,
    decoder: Decoder,
    config: &Config,
    index: usize,
) -> ThresholdRow {
    let s = config.setting();
    let estimate = config.log_n(index);
    ThresholdRow {
        experiment: format!("{} ({})", experiment.id, decoder.name()),
        vocab: s.vocab,
        dim: s.dim_in,
        len: s.len,
        samples: String::new(),
        axis: "samples".into(),
        measured: estimate.map(|e| e.value.exp()),
        log_standard_error: estimate.map(|e| e.standard_error),
        degrees_of_freedom: estimate.and_then(|e| e.df),
        predicted: (decoder == Decoder::Whitened)
            .then_some(config.formula)
            .flatten(),
        status: match config.thresholds[index].censored() {
            None => "estimated".into(),
            Some(c) => format!("censored: {}", c.reason),
        },
        trials: config.sizes.len() * design.seeds as usize,
    }
}

/// Slopes on `log V`, `log d`, `log(L - 1)` of the bound, of the formulas and of each decoder, over
/// the configurations that have the threshold in question.
fn slope_table(
    decoders: &[Decoder],
    configs: &[Config],
    findings: &mut Findings,
) -> Result<(), StatsError> {
    let names = ["V", "d", "L - 1"];
    let logs = |s: &Setting| {
        vec![
            (s.vocab as f64).ln(),
            (s.dim_in as f64).ln(),
            (s.len as f64 - 1.0).ln(),
        ]
    };
    type Value<'a> = Box<dyn Fn(&Config) -> Option<(f64, Option<f64>)> + 'a>;
    let mut series: Vec<(String, Value<'_>)> = vec![
        ("bound".into(), Box::new(|c| Some((c.bound.ln(), None)))),
        (
            "whitened, closed form".into(),
            Box::new(|c| Some((c.closed?.ln(), None))),
        ),
        (
            "whitened, formula".into(),
            Box::new(|c| Some((c.formula?.ln(), None))),
        ),
    ];
    for (i, d) in decoders.iter().enumerate() {
        series.push((
            format!("{}, measured", d.name()),
            Box::new(move |c| {
                let e = c.log_n(i)?;
                Some((e.value, Some(e.standard_error)))
            }),
        ));
    }
    series.push((
        "best measured / bound".into(),
        Box::new(|c| {
            let e = c.best()?.1;
            Some((e.value - c.bound.ln(), Some(e.standard_error)))
        }),
    ));
    let mut rows = Vec::new();
    for (name, value) in &series {
        let observations: Vec<Observation> = configs
            .iter()
            .filter_map(|c| {
                let (response, standard_error) = value(c)?;
                Some(Observation {
                    regressors: logs(c.setting()),
                    response,
                    standard_error,
                })
            })
            .collect();
        // Four coefficients: a decoder that crosses in few configurations has no slopes.
        let fit = (observations.len() > 5)
            .then(|| fit_loglog(&names, &observations, &RegressionOptions::default()));
        let mut row = vec![name.clone(), observations.len().to_string()];
        match fit {
            Some(Ok(fit)) => row.extend(fit.coefficients[1..].iter().map(|c| {
                let e = &c.estimate;
                if observations[0].standard_error.is_some() {
                    format!("{:+.2} ± {:.2}", e.value, e.standard_error)
                } else {
                    format!("{:+.2}", e.value)
                }
            })),
            Some(Err(StatsError::RankDeficient { .. })) | None => {
                row.extend(["—", "—", "—"].map(String::from));
            }
            Some(Err(e)) => return Err(e),
        }
        rows.push(row);
    }
    findings.tables.push(Table {
        caption: format!("Slopes of the logarithm of the samples at half accuracy on the logarithms of V, d and L - 1, each over the configurations that have it. The asymptotic slopes of bound and decoders, (2, -2, 1), are not reached at these sizes. {}", note(&[Interval::Slope])),
        header: ["samples of", "configurations", "log V", "log d", "log(L - 1)"]
            .map(String::from)
            .to_vec(),
        rows,
    });
    Ok(())
}

/// A panel for each (V, L): thresholds against d beside the bound and the whitened formula; and all
/// ratios to the bound against the bound.
fn figure(experiment: &Experiment, decoders: &[Decoder], configs: &[Config]) -> NamedFigure {
    let mut keys: Vec<(usize, usize)> = configs
        .iter()
        .map(|c| (c.setting().vocab, c.setting().len))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let mut panels = Vec::new();
    for (vocab, len) in keys {
        let of_panel: Vec<&Config> = configs
            .iter()
            .filter(|c| (c.setting().vocab, c.setting().len) == (vocab, len))
            .collect();
        let line = |value: &dyn Fn(&Config) -> Option<f64>| {
            of_panel
                .iter()
                .filter_map(|c| Some((c.setting().dim_in as f64, value(c)?)))
                .collect::<Vec<_>>()
        };
        let mut panel = XyFigure::new(
            format!("V = {vocab}, L = {len}"),
            Axis::log2("d (embedding dimension)"),
            Axis::log10("N* (samples at one half)"),
        )
        .with(Line::new(
            "lower bound, readers of the first gradient",
            Style::neutral().dash(Dash::Solid),
            line(&|c| Some(c.bound)),
        ))
        .with(Line::new(
            "whitened, formula",
            style(Decoder::Whitened),
            line(&|c| c.formula),
        ));
        for (i, d) in decoders.iter().enumerate() {
            let points: Vec<Point> = of_panel
                .iter()
                .filter_map(|c| {
                    let e = c.log_n(i)?;
                    let x = aside(c.setting().dim_in as f64, i, decoders.len(), 0.012);
                    Some(Point::new(x, e.value.exp()).y_interval(e.lower.exp(), e.upper.exp()))
                })
                .collect();
            if !points.is_empty() {
                panel = panel.with(Points::new(d.name(), style(*d), points));
            }
        }
        panels.push(panel);
    }
    let mut ratio = XyFigure::new(
        "all configurations",
        Axis::log10("lower bound on N"),
        Axis::log10("N* / lower bound"),
    )
    .with(Reference::horizontal(
        "lower bound, readers of the first gradient",
        Style::neutral().dash(Dash::Solid),
        1.0,
    ));
    for (i, d) in decoders.iter().enumerate() {
        let points: Vec<Point> = configs
            .iter()
            .filter_map(|c| {
                let e = c.log_n(i)?;
                let over = |x: f64| x.exp() / c.bound;
                let x = aside(c.bound, i, decoders.len(), 0.025);
                Some(Point::new(x, over(e.value)).y_interval(over(e.lower), over(e.upper)))
            })
            .collect();
        if !points.is_empty() {
            ratio = ratio.with(Points::new(d.name(), style(*d), points));
        }
    }
    panels.push(ratio);
    NamedFigure {
        stem: format!("{}-thresholds", experiment.id),
        caption: "Samples at which decoders of the first gradient have half of the facts, with 95 % intervals, beside the lower bound on all such readers. Points of one configuration are set side by side; a decoder that does not cross on its grid has no point.".into(),
        figure: PanelGrid::new(experiment.title.clone(), 2, panels).into(),
    }
}
