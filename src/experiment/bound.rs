//! The lower bound against decoders of the first gradient, with three-step descent beside them; and
//! the bound of the noisy oracle against the same decoders behind it.

use recall_theory::{Samples, Setting, whitened};

use super::Records;
use super::cells::{Cell, Extra, jobs_with, measure_with, samples_text};
use super::evidence::{Limit, Limited};
use super::findings::{CellRow, Findings, NamedFigure, Table};
use super::predictor::{Predictor, Theory};
use crate::decode::{Decoder, DecoderSet};
use crate::figure::{Axis, Dash, Line, Marker, PanelGrid, Point, Points, Style, XyFigure};
use crate::job::{Job, Record};
use crate::spec::{BoundTask, Design, Experiment, Quantity};
use crate::stats::StatsError;
use crate::stats::coverage::{Interval, note};
use crate::stats::equivalence::{BoundTest, bound_test};
use crate::stats::interval::Estimate;
use crate::stats::verdict::{BoundEvidence, Claim, Evidence, PointCount};

impl BoundTask {
    fn plain(&self) -> Extra {
        Extra::of(self.decoders)
    }

    /// Without the matched filter, which the engine reports itself.
    fn others(&self) -> DecoderSet {
        let decoders = self.decoders.iter();
        decoders.filter(|d| *d != Decoder::MatchedFilter).collect()
    }

    fn noisy(&self, kappa: f64) -> Extra {
        Extra {
            oracle_noise: kappa,
            ..self.plain()
        }
    }
}

/// All jobs: the cells, and again behind each oracle.
pub(super) fn jobs(design: &Design, task: &BoundTask) -> Vec<Job> {
    let mut jobs = jobs_with(design, task.plain());
    for kappa in &task.oracle {
        jobs.extend(jobs_with(design, task.noisy(*kappa)));
    }
    jobs
}

/// Share of tokens that a decoder had right in one trial.
pub(super) fn rate(record: &Record, decoder: Decoder) -> Option<f64> {
    let decoded = &record.outcome.decoders;
    let found = decoded.iter().find(|d| d.decoder == decoder)?;
    Some(found.correct.rate())
}

/// Style of a decoder: a colour for each kind of score, open points where it is read as an
/// assignment.
pub(super) fn style(decoder: Decoder) -> Style {
    match decoder {
        Decoder::MatchedFilter => Style::slot(0),
        Decoder::MatchedFilterAssigned => Style::slot(0).marker(Marker::Square).open(),
        Decoder::Whitened => Style::slot(3),
        Decoder::WhitenedAssigned => Style::slot(3).marker(Marker::Square).open(),
        Decoder::Amp => Style::slot(2),
        Decoder::AmpAssigned => Style::slot(2).marker(Marker::Square).open(),
    }
}

fn bound_at(s: &Setting) -> f64 {
    Theory.accuracy_bound(s)
}

fn oracle_bound_at(s: &Setting, kappa: f64) -> f64 {
    Theory.oracle_bound(s, kappa)
}

/// A curve on a fine grid of sample sizes between the first and the last cell of a block.
fn curve<'a>(
    cells: impl Iterator<Item = &'a Cell>,
    value: impl Fn(&Setting) -> f64,
) -> Vec<(f64, f64)> {
    const STEPS: usize = 48;
    let finite: Vec<&Cell> = cells
        .filter(|c| c.setting.samples != Samples::Infinite)
        .collect();
    let (Some(first), Some(last)) = (finite.first(), finite.last()) else {
        return Vec::new();
    };
    let (lo, hi) = (
        first.setting.samples.as_f64(),
        last.setting.samples.as_f64(),
    );
    (0..=STEPS)
        .map(|i| {
            let n = (lo.ln() + (hi / lo).ln() * i as f64 / STEPS as f64)
                .exp()
                .round();
            let setting = Setting {
                samples: Samples::Finite(n as u64),
                ..first.setting
            };
            (n, value(&setting).min(1.0))
        })
        .collect()
}

/// A decoder's mean accuracy at every cell.
struct Measured {
    decoder: Decoder,
    accuracy: Vec<Estimate>,
}

fn decoded(
    design: &Design,
    cells: &[Cell],
    decoders: DecoderSet,
    extra: Extra,
    records: &dyn Records,
) -> Result<Vec<Measured>, StatsError> {
    decoders
        .iter()
        .map(|decoder| {
            let accuracy = cells
                .iter()
                .map(|c| extra.mean(design, &c.setting, records, |r| rate(r, decoder)))
                .collect::<Result<_, _>>()?;
            Ok(Measured { decoder, accuracy })
        })
        .collect()
}

fn tests_of<'a>(
    measured: impl Iterator<Item = &'a Estimate>,
    bounds: &[f64],
    margin: f64,
) -> Result<Vec<BoundTest>, StatsError> {
    measured
        .zip(bounds)
        .map(|(e, b)| bound_test(e.value, e.standard_error, e.df, *b, margin))
        .collect()
}

fn closest(tests: &[BoundTest]) -> f64 {
    tests
        .iter()
        .map(|t| t.excess)
        .fold(f64::NEG_INFINITY, f64::max)
}

fn claim(id: String, tests: Vec<BoundTest>) -> Claim {
    let total = tests.len();
    Claim {
        id,
        evidence: Evidence::Bound(BoundEvidence {
            tests,
            points: PointCount { total, censored: 0 },
        }),
    }
}

/// Findings of a bound experiment. The one-step matched filter and the decoders are functions of the
/// first gradient and are judged; three-step descent reads the batch again, is not bound, and is
/// reported.
pub(super) fn analyse(
    experiment: &Experiment,
    design: &Design,
    task: &BoundTask,
    records: &dyn Records,
) -> Result<Findings, StatsError> {
    let margin = task.margin;
    let one = measure_with(design, Quantity::OneStep, task.plain(), records)?;
    let three = measure_with(design, Quantity::Accuracy, task.plain(), records)?;
    let bounds: Vec<f64> = one.iter().map(|c| bound_at(&c.setting)).collect();
    let more = decoded(design, &one, task.others(), task.plain(), records)?;
    let mut findings = Findings {
        trials: one.len() * design.seeds as usize * (1 + task.oracle.len()),
        looks: 2,
        ..Findings::default()
    };

    let mut tests = tests_of(one.iter().map(|c| &c.measured), &bounds, margin)?;
    findings.notes.push(format!(
        "One-step matched filter against the bound: {} cells, closest approach {:+.4} (accuracy minus bound); margin {margin}.",
        tests.len(),
        closest(&tests)
    ));
    for m in &more {
        let own = tests_of(m.accuracy.iter(), &bounds, margin)?;
        findings.notes.push(format!(
            "Decoder \"{}\" against the bound: closest approach {:+.4} over {} cells; {} cells above it by more than two standard errors.",
            m.decoder.name(),
            closest(&own),
            own.len(),
            own.iter().filter(|t| t.excess > 2.0 * t.standard_error.max(1e-9)).count(),
        ));
        tests.extend(own);
    }
    findings.claims.push(claim(experiment.id.clone(), tests));
    exceeding(&mut findings, &three, &bounds);
    table(&mut findings, &one, &three, &bounds, &more);
    for (i, ((a, c), b)) in one.iter().zip(&three).zip(&bounds).enumerate() {
        let block = &design.blocks[a.block];
        let trials = design.seeds as usize;
        let mut row = a.row(experiment, block, true, trials);
        row.quantity = format!("{} against bound", Quantity::OneStep.name());
        row.predicted = *b;
        let template = row.clone();
        findings.cells.push(row);
        for m in &more {
            findings.cells.push(CellRow {
                quantity: format!("{} against bound", m.decoder.name()),
                measured: m.accuracy[i].value,
                standard_error: m.accuracy[i].standard_error,
                ..template.clone()
            });
        }
        findings.cells.push(a.row(experiment, block, false, trials));
        findings.cells.push(c.row(experiment, block, false, trials));
    }
    findings
        .figures
        .push(figure(experiment, design, &one, &three, &more));
    for kappa in &task.oracle {
        oracle(
            experiment,
            design,
            task,
            *kappa,
            &one,
            records,
            &mut findings,
        )?;
    }
    Ok(findings)
}

/// The decoders behind the noisy oracle against its theorem.
fn oracle(
    experiment: &Experiment,
    design: &Design,
    task: &BoundTask,
    kappa: f64,
    cells: &[Cell],
    records: &dyn Records,
    findings: &mut Findings,
) -> Result<(), StatsError> {
    let measured = decoded(design, cells, task.decoders, task.noisy(kappa), records)?;
    let bounds: Vec<f64> = cells
        .iter()
        .map(|c| oracle_bound_at(&c.setting, kappa))
        .collect();
    let mut tests = Vec::new();
    for m in &measured {
        tests.extend(tests_of(m.accuracy.iter(), &bounds, task.margin)?);
    }
    findings.notes.push(format!(
        "Noisy oracle, kappa = {kappa}: {} decoders at {} cells, closest approach {:+.4} to the rigorous bound; margin {}.",
        measured.len(),
        cells.len(),
        closest(&tests),
        task.margin
    ));
    for (i, c) in cells.iter().enumerate() {
        let block = &design.blocks[c.block];
        let template = c.row(experiment, block, true, design.seeds as usize);
        for m in &measured {
            findings.cells.push(CellRow {
                quantity: format!("{}, oracle noise {kappa}, against bound", m.decoder.name()),
                measured: m.accuracy[i].value,
                standard_error: m.accuracy[i].standard_error,
                predicted: bounds[i],
                ..template.clone()
            });
        }
    }
    findings
        .claims
        .push(claim(oracle_id(experiment, kappa), tests));
    let panels = panels(design, |k, figure| {
        let of_block = || cells.iter().filter(|c| c.block == k);
        let line = |name: &str, style, f: &dyn Fn(&Setting) -> f64| {
            Line::new(name.to_owned(), style, curve(of_block(), f))
        };
        let mut figure = figure.with(line(
            "theorem, gradient with added noise",
            Style::neutral().dash(Dash::Solid),
            &|s| oracle_bound_at(s, kappa),
        ));
        // At kappa = 1 both bounds are one curve.
        if kappa != 1.0 {
            figure = figure.with(line(
                "bound without added noise (surrogate)",
                Style::neutral().dash(Dash::Dotted),
                &bound_at,
            ));
        }
        with_decoders(figure, k, cells, &measured)
    });
    findings.figures.push(NamedFigure {
        stem: format!("{}-oracle-{}", experiment.id, kappa.to_string().replace('.', "p")),
        caption: format!(
            "Decoders that see the first gradient with Gaussian noise of {kappa} times its sampling covariance. Solid: the bound for such readers, a theorem without surrogate. Means over {} trials with 95 % intervals; decoders at one N are set side by side.",
            design.seeds
        ),
        figure: PanelGrid::new(
            format!("{}: noisy oracle, kappa = {kappa}", experiment.title),
            panels.len().clamp(1, 2),
            panels,
        )
        .into(),
    });
    Ok(())
}

/// The readings behind the claims, in the order of the claims.
pub(super) fn limited(
    experiment: &Experiment,
    design: &Design,
    task: &BoundTask,
    records: &dyn Records,
) -> Result<Vec<Limited>, StatsError> {
    let one = measure_with(design, Quantity::OneStep, task.plain(), records)?;
    let readings = |measured: &[Measured]| -> Vec<(Setting, Estimate)> {
        let settings = one.iter().map(|c| c.setting);
        let of = |m: &Measured| -> Vec<_> { settings.clone().zip(m.accuracy.clone()).collect() };
        measured.iter().flat_map(of).collect()
    };
    let more = decoded(design, &one, task.others(), task.plain(), records)?;
    let mut plain: Vec<_> = one
        .iter()
        .map(|c| (c.setting, c.measured.clone()))
        .collect();
    plain.extend(readings(&more));
    let mut all = vec![Limited {
        id: experiment.id.clone(),
        margin: task.margin,
        limit: Limit::Accuracy,
        readings: plain,
    }];
    for kappa in &task.oracle {
        let measured = decoded(design, &one, task.decoders, task.noisy(*kappa), records)?;
        all.push(Limited {
            id: oracle_id(experiment, *kappa),
            margin: task.margin,
            limit: Limit::Oracle(*kappa),
            readings: readings(&measured),
        });
    }
    Ok(all)
}

fn oracle_id(experiment: &Experiment, kappa: f64) -> String {
    format!("{}/oracle-{kappa}", experiment.id)
}

fn exceeding(findings: &mut Findings, three: &[Cell], bounds: &[f64]) {
    let list: Vec<String> = three
        .iter()
        .zip(bounds)
        .filter(|(c, b)| c.measured.value - 3.0 * c.measured.standard_error > **b)
        .map(|(c, b)| {
            format!(
                "V = {}, d = {}, L = {}, N = {}: {:.3} ± {:.3} above {:.3}",
                c.setting.vocab,
                c.setting.dim_in,
                c.setting.len,
                samples_text(&c.setting),
                c.measured.value,
                c.measured.standard_error,
                b
            )
        })
        .collect();
    findings.notes.push(if list.is_empty() {
        "Three-step descent exceeds the bound at none of these cells.".into()
    } else {
        format!(
            "Three-step descent exceeds the bound on estimators of the first gradient, by more than three standard errors, at {} of {} cells ({}). This is no contradiction: it reads the batch again in steps 2 and 3, and the bound does not bind it.",
            list.len(),
            three.len(),
            list.join("; ")
        )
    });
}

fn table(findings: &mut Findings, one: &[Cell], three: &[Cell], bounds: &[f64], more: &[Measured]) {
    let text = |e: &Estimate| format!("{:.3} ± {:.3}", e.value, e.standard_error);
    let whitened = more.iter().any(|m| m.decoder == Decoder::Whitened);
    let mut header: Vec<String> = ["V", "d", "L", "N", "one step", "formula, one step"]
        .map(String::from)
        .to_vec();
    header.extend(more.iter().map(|m| m.decoder.name().to_owned()));
    if whitened {
        header.push("formula, whitened".into());
    }
    header.extend(
        [
            "bound, first gradient",
            "three steps",
            "formula, three steps",
        ]
        .map(Into::into),
    );
    let mut rows = Vec::new();
    for (i, ((a, c), b)) in one.iter().zip(three).zip(bounds).enumerate() {
        let mut row = vec![
            a.setting.vocab.to_string(),
            a.setting.dim_in.to_string(),
            a.setting.len.to_string(),
            samples_text(&a.setting),
            text(&a.measured),
            format!("{:.3}", a.predicted),
        ];
        row.extend(more.iter().map(|m| text(&m.accuracy[i])));
        if whitened {
            row.push(format!("{:.3}", whitened::expected_accuracy(&a.setting)));
        }
        row.extend([
            format!("{b:.3}"),
            text(&c.measured),
            format!("{:.3}", c.predicted),
        ]);
        rows.push(row);
    }
    findings.tables.push(Table {
        caption: format!(
            "Accuracy of decoders beside the bound; mean over trials ± standard error. {}",
            note(&[Interval::Trials])
        ),
        header,
        rows,
    });
}

/// One panel for each block, filled by `fill`.
fn panels(design: &Design, fill: impl Fn(usize, XyFigure) -> XyFigure) -> Vec<XyFigure> {
    let blocks = design.blocks.iter().enumerate();
    blocks
        .map(|(k, block)| {
            let figure = XyFigure::new(
                block.label.clone(),
                Axis::log10("N (training samples)"),
                Axis::linear("accuracy").range(0.0, 1.0),
            );
            fill(k, figure)
        })
        .collect()
}

/// Sets the points of several series at one abscissa side by side, by `step` in its logarithm.
pub(super) fn aside(x: f64, index: usize, count: usize, step: f64) -> f64 {
    x * (step * (index as f64 - 0.5 * (count as f64 - 1.0))).exp()
}

/// Adds the decoders' points of a block.
fn with_decoders(
    mut figure: XyFigure,
    block: usize,
    cells: &[Cell],
    measured: &[Measured],
) -> XyFigure {
    for (i, m) in measured.iter().enumerate() {
        let points = cells.iter().zip(&m.accuracy).filter(|c| c.0.block == block);
        let points = points
            .map(|(c, e)| {
                let x = aside(c.setting.samples.as_f64(), i, measured.len(), 0.06);
                Point::new(x, e.value).y_interval(e.lower.max(0.0), e.upper.min(1.0))
            })
            .collect();
        figure = figure.with(Points::new(m.decoder.name(), style(m.decoder), points));
    }
    figure
}

fn figure(
    experiment: &Experiment,
    design: &Design,
    one: &[Cell],
    three: &[Cell],
    more: &[Measured],
) -> NamedFigure {
    let panels = panels(design, |k, figure| {
        let of_block = || one.iter().filter(|c| c.block == k);
        let series = |cells: &[Cell]| -> (Vec<Point>, Vec<(f64, f64)>) {
            let of_block = cells.iter().filter(|c| c.block == k);
            let points = of_block
                .clone()
                .map(|c| c.point(c.setting.samples.as_f64()))
                .collect();
            (
                points,
                of_block
                    .map(|c| (c.setting.samples.as_f64(), c.predicted))
                    .collect(),
            )
        };
        let (one_points, one_line) = series(one);
        let (three_points, three_line) = series(three);
        let mut figure = figure
            .with(Line::new(
                "upper bound, estimators of the first gradient",
                Style::neutral().dash(Dash::Solid),
                curve(of_block(), bound_at),
            ))
            .with(Line::new(
                "one step: matched filter, formula",
                Style::slot(0),
                one_line,
            ))
            .with(Points::new(
                "one step: matched filter, measured",
                Style::slot(0),
                one_points,
            ));
        if more.iter().any(|m| m.decoder == Decoder::Whitened) {
            figure = figure.with(Line::new(
                "whitened, formula",
                style(Decoder::Whitened),
                of_block()
                    .map(|c| {
                        let s = &c.setting;
                        (s.samples.as_f64(), whitened::expected_accuracy(s))
                    })
                    .collect(),
            ));
        }
        with_decoders(figure, k, one, more)
            .with(Line::new(
                "three steps, formula",
                Style::slot(1),
                three_line,
            ))
            .with(Points::new(
                "three steps, measured",
                Style::slot(1),
                three_points,
            ))
    });
    NamedFigure {
        stem: experiment.id.clone(),
        caption: format!(
            "Points: mean over {} trials with 95 % intervals. The bound binds decoders of the first gradient; three steps read the batch again and are not bound by it. Decoders at one N are set side by side.",
            design.seeds
        ),
        figure: PanelGrid::new(experiment.title.clone(), panels.len().clamp(1, 2), panels).into(),
    }
}
