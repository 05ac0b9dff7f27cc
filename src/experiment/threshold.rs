//! Critical values over a design: search, fit, regression, evidence.

use recall_theory::Setting;

use super::Records;
use super::cells::samples_text;
use super::evidence::{MeasuredLaw, Question};
use super::findings::{Findings, ThresholdRow};
use super::law::{self, LawPoint, LawWords, dim};
use super::predicted::{critical, population_signal, shape};
use super::predictor::Theory;
use super::regions;
use super::search::{Progress, SearchPoint};
use crate::figure::Axis;
use crate::job::{Axis as Pairing, Job};
use crate::spec::{AccuracyLink, Criterion, Design, Experiment, Search, SearchAxis, ThresholdTest};
use crate::stats::StatsError;
use crate::stats::coverage::Interval;
use crate::stats::crossing::{CrossingOptions, RatioRow, ratio_crossing};
use crate::stats::link::Link;
use crate::stats::probit::{ProbitOptions, Trial, probit_threshold};
use crate::stats::threshold::{CensorSide, Censored, Curve, SeedDesign, Threshold};
use crate::stats::verdict::PointCount;

/// Points of the design that lie in its window, in the order of its blocks.
fn points(design: &Design, search: &Search) -> Vec<SearchPoint> {
    all_points(design, search)
        .filter(|p| {
            search.predicted_between.is_none()
                || search.admits(critical(&p.setting, p.axis, p.criterion))
        })
        .collect()
}

fn all_points(design: &Design, search: &Search) -> impl Iterator<Item = SearchPoint> {
    design.settings().map(|setting| SearchPoint {
        setting,
        axis: search.axis,
        criterion: search.criterion,
    })
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

impl Measured {
    fn point(&self) -> LawPoint {
        LawPoint {
            setting: self.setting,
            measured: self.threshold.estimate().map(|e| e.log_n.clone()),
            predicted: self.predicted,
        }
    }
}

/// The critical values of all points of the design.
fn measure_all(
    design: &Design,
    search: &Search,
    records: &dyn Records,
) -> Result<Vec<Measured>, StatsError> {
    points(design, search)
        .iter()
        .map(|p| measure(p, search.link, design, records))
        .collect()
}

fn thresholds(measured: &[Measured]) -> Vec<Threshold> {
    measured.iter().map(|m| m.threshold.clone()).collect()
}

/// The law as measured. Its searches stand where the theory has placed them.
pub(super) fn measured_law(
    design: &Design,
    search: &Search,
    test: &ThresholdTest,
    records: &dyn Records,
) -> Result<MeasuredLaw, StatsError> {
    let measured = measure_all(design, search, records)?;
    let thresholds = thresholds(&measured);
    Ok(MeasuredLaw {
        question: Question::Critical {
            axis: search.axis,
            criterion: search.criterion,
        },
        test: test.clone(),
        points: measured.iter().map(Measured::point).collect(),
        count: PointCount::of(&thresholds),
        words: words(search),
    })
}

fn measure(
    point: &SearchPoint,
    link: AccuracyLink,
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
                    let record = records.measured(&point.job(design, value, seed))?;
                    Some((point.coordinate((value as f64).ln()), seed, record))
                })
            });
            let trials = distinct(&plan.tried);
            let searched = match point.axis {
                SearchAxis::Samples => Pairing::Samples,
                SearchAxis::Dim => Pairing::Dim,
                SearchAxis::Width => Pairing::Width,
                SearchAxis::Vocab => Pairing::Vocab,
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
                    let l = population_signal(&point.setting);
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
                    // Where the vocabulary is searched, its size near the threshold.
                    let vocab = match (point.axis, predicted) {
                        (SearchAxis::Vocab, Some(log)) => log.exp(),
                        _ => point.setting.vocab as f64,
                    };
                    let chance = 1.0 / vocab;
                    let shape = match link {
                        AccuracyLink::Probit => None,
                        AccuracyLink::Theory => {
                            shape(&point.setting, point.axis, quantity, level, chance)
                        }
                    };
                    let options = ProbitOptions {
                        chance,
                        target: level,
                        link: shape.map_or(Link::Probit, Link::Shape),
                        link_error: link_error(point.axis),
                        seed_design,
                        ..ProbitOptions::default()
                    };
                    let found = probit_threshold(&rows, &options)?;
                    if point.axis.helps() {
                        found
                    } else {
                        mirrored(found)
                    }
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

/// Allowance for the shape of the accuracy curve where it is fitted by a probit, in the logarithm
/// of what is searched. The default belongs to curves in `log N`; the rise in `log d` is about three
/// times as steep.
fn link_error(axis: SearchAxis) -> f64 {
    let default = ProbitOptions::default().link_error;
    match axis {
        SearchAxis::Samples | SearchAxis::Width | SearchAxis::Vocab => default,
        SearchAxis::Dim => default / 3.0,
    }
}

/// A threshold found along minus the logarithm, in the logarithm itself.
fn mirrored(found: Threshold) -> Threshold {
    match found {
        Threshold::Estimated(mut e) => {
            let log = &mut e.log_n;
            log.value = -log.value;
            (log.lower, log.upper) = (-log.upper, -log.lower);
            Threshold::Estimated(e)
        }
        // A censored search has no estimate to turn round; its reason speaks of sizes.
        censored @ Threshold::Censored(_) => censored,
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

/// Claims and critical values of a threshold experiment, without what a report shows around them.
pub(super) fn conclude(
    experiment: &Experiment,
    design: &Design,
    search: &Search,
    test: &ThresholdTest,
    records: &dyn Records,
) -> Result<Findings, StatsError> {
    let measured = measure_all(design, search, records)?;
    let thresholds = thresholds(&measured);
    let points: Vec<LawPoint> = measured.iter().map(Measured::point).collect();
    let (count, words) = (PointCount::of(&thresholds), words(search));
    Ok(Findings {
        claims: law::judge(experiment, design, test, &points, count, &words, &Theory)?.claims,
        thresholds: measured
            .iter()
            .map(|m| row(experiment, search, m))
            .collect(),
        ..Findings::default()
    })
}

/// Findings of a threshold experiment.
pub(super) fn analyse(
    experiment: &Experiment,
    design: &Design,
    search: &Search,
    test: &ThresholdTest,
    regions: bool,
    records: &dyn Records,
) -> Result<Findings, StatsError> {
    let measured = measure_all(design, search, records)?;
    let words = words(search);
    let thresholds = thresholds(&measured);
    let mut findings = Findings {
        thresholds: measured
            .iter()
            .map(|m| row(experiment, search, m))
            .collect(),
        trials: measured.iter().map(|m| m.trials).sum(),
        looks: 1,
        ..Findings::default()
    };
    if let Some([lo, hi]) = search.predicted_between {
        findings.notes.push(format!(
            "{} of {} points of the design were not searched: by the formula their {} lies outside [{lo}, {hi}], the window fixed beforehand, or does not exist.",
            all_points(design, search).count() - measured.len(),
            all_points(design, search).count(),
            words.symbol,
        ));
    }
    note_misfits(
        &mut findings,
        &measured,
        search.axis,
        &words.symbol,
        test.constant,
    );
    let points: Vec<LawPoint> = measured.iter().map(Measured::point).collect();
    law::analyse(
        experiment,
        design,
        test,
        &points,
        PointCount::of(&thresholds),
        &words,
        &mut findings,
    )?;
    if regions {
        regions::add(experiment, search, &points, &words, &mut findings)?;
    }
    if matches!(search.criterion, Criterion::Accuracy { .. }) && search.link == AccuracyLink::Theory
    {
        findings.notes.push(curves_note(&measured));
    }
    let rates: Vec<f64> = measured.iter().filter_map(|m| m.attention).collect();
    findings.notes.push(format!(
        "Attention accuracy in the trials fitted: {:.2} on average over points ({:.2} to {:.2}).",
        rates.iter().sum::<f64>() / rates.len() as f64,
        rates.iter().copied().fold(f64::INFINITY, f64::min),
        rates.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    ));
    Ok(findings)
}

/// By which curves the thresholds of an accuracy were read.
fn curves_note(measured: &[Measured]) -> String {
    let (mut stated, mut probit, mut monotone) = (Vec::new(), 0, 0);
    for e in measured.iter().filter_map(|m| m.threshold.estimate()) {
        match e.curve {
            Curve::Stated { .. } => stated.push(e.model_error),
            Curve::Monotone { .. } => monotone += 1,
            _ => probit += 1,
        }
    }
    stated.sort_by(f64::total_cmp);
    let median = match stated.get(stated.len() / 2) {
        None => String::new(),
        Some(m) => format!(" (median allowance for the shape {m:.4} in the logarithm)"),
    };
    format!(
        "Thresholds read by the shape of the formula's curve, its place and steepness fitted: {}{median}; by a monotone fit, since the data reject that shape at level .05: {monotone}; by a probit with a fixed allowance: {probit}.",
        stated.len()
    )
}

fn words(search: &Search) -> LawWords {
    let (symbol, axis, predicted_axis) = match search.axis {
        SearchAxis::Samples => (
            "N*",
            "N* (critical samples)",
            Axis::log10("predicted N* (samples)"),
        ),
        SearchAxis::Dim => (
            "d*",
            "d* (critical dimension)",
            Axis::log2("predicted d* (dimension)"),
        ),
        SearchAxis::Width => (
            "m*",
            "m* (critical width)",
            Axis::log2("predicted m* (width)"),
        ),
        SearchAxis::Vocab => (
            "V*",
            "V* (capacity, tokens)",
            Axis::log2("predicted V* (tokens)"),
        ),
    };
    let allowance = match search.criterion {
        Criterion::NoiseRatio { .. } => String::new(),
        Criterion::Accuracy { .. } if search.link == AccuracyLink::Theory => {
            " (with the distance between fits by the formula's shape and by a probit as an allowance for the shape)".into()
        }
        Criterion::Accuracy { .. } => format!(
            " (an allowance of {} in the logarithm for the shape of the accuracy curve included)",
            link_error(search.axis)
        ),
    };
    LawWords {
        symbol: symbol.into(),
        axis: axis.into(),
        predicted_axis,
        searched: Some(search.axis),
        interval: interval(search),
        allowance,
        part: None,
    }
}

/// How the interval of one critical value is made.
fn interval(search: &Search) -> Interval {
    match (search.criterion, search.link) {
        (Criterion::NoiseRatio { .. }, _) => Interval::NoiseRatio,
        (Criterion::Accuracy { .. }, AccuracyLink::Probit) => Interval::ProbitThreshold,
        (Criterion::Accuracy { .. }, AccuracyLink::Theory) => Interval::ShapeThreshold,
    }
}

fn row(experiment: &Experiment, search: &Search, m: &Measured) -> ThresholdRow {
    let estimate = m.threshold.estimate();
    let (axis, samples) = match search.axis {
        SearchAxis::Samples => ("samples", String::new()),
        SearchAxis::Dim => ("dim", samples_text(&m.setting)),
        SearchAxis::Width => ("width", samples_text(&m.setting)),
        SearchAxis::Vocab => ("vocab", samples_text(&m.setting)),
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
        degrees_of_freedom: estimate.and_then(|e| e.log_n.df),
        predicted: m.predicted.map(f64::exp),
        status: match m.threshold.censored() {
            None => "estimated".into(),
            Some(c) => format!("censored: {}", c.reason),
        },
        trials: m.trials,
    }
}

/// Points that are censored, disagree with the formula, or whose two estimators disagree.
fn note_misfits(
    findings: &mut Findings,
    measured: &[Measured],
    searched: SearchAxis,
    symbol: &str,
    constant: f64,
) {
    for m in measured {
        let place = law::place(&m.setting, Some(searched.sweep()));
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
