//! The lower bound against decoders of the first gradient, with three-step descent beside them.

use recall_theory::{Samples, lower_bound};

use super::Records;
use super::cells::{Cell, measure, samples_text};
use super::findings::{Findings, NamedFigure, Table};
use crate::figure::{Axis, Dash, Line, PanelGrid, Point, Points, Style, XyFigure};
use crate::spec::{Design, Experiment, Quantity};
use crate::stats::StatsError;
use crate::stats::equivalence::bound_test;
use crate::stats::verdict::{BoundEvidence, Claim, Evidence, PointCount};

fn bound_at(cell: &Cell) -> f64 {
    lower_bound::accuracy_upper_bound(&cell.setting, cell.setting.samples).accuracy
}

/// The bound on a fine grid of sample sizes between the first and the last cell of a block.
fn bound_line<'a>(cells: impl Iterator<Item = &'a Cell>) -> Vec<(f64, f64)> {
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
            let samples = Samples::Finite(n as u64);
            (
                n,
                lower_bound::accuracy_upper_bound(&first.setting, samples)
                    .accuracy
                    .min(1.0),
            )
        })
        .collect()
}

/// Findings of a bound experiment. The one-step matched filter is a function of the first gradient
/// and is judged; three-step descent reads the batch again, is not bound, and is reported.
pub(super) fn analyse(
    experiment: &Experiment,
    design: &Design,
    margin: f64,
    records: &dyn Records,
) -> Result<Findings, StatsError> {
    let one = measure(design, Quantity::OneStep, records)?;
    let three = measure(design, Quantity::Accuracy, records)?;
    let bounds: Vec<f64> = one.iter().map(bound_at).collect();
    let mut findings = Findings {
        trials: one.len() * design.seeds as usize,
        looks: 2,
        ..Findings::default()
    };

    let tests = one
        .iter()
        .zip(&bounds)
        .map(|(c, &b)| {
            bound_test(
                c.measured.value,
                c.measured.standard_error,
                c.measured.df,
                b,
                margin,
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    let closest = tests
        .iter()
        .map(|t| t.excess)
        .fold(f64::NEG_INFINITY, f64::max);
    findings.notes.push(format!(
        "One-step matched filter against the bound: {} cells, closest approach {:+.4} (accuracy minus bound); margin {margin}.",
        tests.len(),
        closest
    ));
    findings.claims.push(Claim {
        id: experiment.id.clone(),
        evidence: Evidence::Bound(BoundEvidence {
            tests,
            points: PointCount {
                total: one.len(),
                censored: 0,
            },
        }),
    });

    let exceeding: Vec<String> = three
        .iter()
        .zip(&bounds)
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
    findings.notes.push(if exceeding.is_empty() {
        "Three-step descent exceeds the bound at none of these cells.".into()
    } else {
        format!(
            "Three-step descent exceeds the bound on estimators of the first gradient, by more than three standard errors, at {} of {} cells ({}). This is no contradiction: it reads the batch again in steps 2 and 3, and the bound does not bind it.",
            exceeding.len(),
            three.len(),
            exceeding.join("; ")
        )
    });

    let mut table = Table {
        caption: "Accuracy of decoders beside the bound; mean over trials ± standard error.".into(),
        header: [
            "V",
            "d",
            "L",
            "N",
            "one step",
            "formula, one step",
            "bound, first gradient",
            "three steps",
            "formula, three steps",
        ]
        .map(String::from)
        .to_vec(),
        rows: Vec::new(),
    };
    for ((a, c), b) in one.iter().zip(&three).zip(&bounds) {
        let text = |c: &Cell| format!("{:.3} ± {:.3}", c.measured.value, c.measured.standard_error);
        table.rows.push(vec![
            a.setting.vocab.to_string(),
            a.setting.dim_in.to_string(),
            a.setting.len.to_string(),
            samples_text(&a.setting),
            text(a),
            format!("{:.3}", a.predicted),
            format!("{b:.3}"),
            text(c),
            format!("{:.3}", c.predicted),
        ]);
        let block = &design.blocks[a.block];
        let mut row = a.row(experiment, block, true, design.seeds as usize);
        row.quantity = format!("{} against bound", Quantity::OneStep.name());
        row.predicted = *b;
        findings.cells.push(row);
        findings
            .cells
            .push(a.row(experiment, block, false, design.seeds as usize));
        findings
            .cells
            .push(c.row(experiment, block, false, design.seeds as usize));
    }
    findings.tables.push(table);

    let mut panels = Vec::new();
    for (k, block) in design.blocks.iter().enumerate() {
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
        let bound = bound_line(one.iter().filter(|c| c.block == k));
        let (one_points, one_line) = series(&one);
        let (three_points, three_line) = series(&three);
        panels.push(
            XyFigure::new(
                block.label.clone(),
                Axis::log10("N (training samples)"),
                Axis::linear("accuracy").range(0.0, 1.0),
            )
            .with(Line::new(
                "upper bound, estimators of the first gradient",
                Style::neutral().dash(Dash::Solid),
                bound,
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
            ))
            .with(Line::new(
                "three steps, formula",
                Style::slot(1),
                three_line,
            ))
            .with(Points::new(
                "three steps, measured",
                Style::slot(1),
                three_points,
            )),
        );
    }
    let columns = panels.len().min(2);
    findings.figures.push(NamedFigure {
        stem: experiment.id.clone(),
        caption: format!(
            "Points: mean over {} trials with 95 % intervals. The bound binds the one-step decoder only.",
            design.seeds
        ),
        figure: PanelGrid::new(experiment.title.clone(), columns.max(1), panels).into(),
    });
    Ok(findings)
}
