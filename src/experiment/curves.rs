//! Accuracies over cells: curves, and the test of the formula.

use recall_theory::Setting;

use super::Records;
use super::cells::{Cell, measure, samples_text};
use super::findings::{Findings, NamedFigure, Table};
use super::law::{Factors, place};
use super::predicted::{accuracy_of, at};
use super::predictor::{Predictor, Theory};
use crate::figure::{Axis, Figure, Line, PanelGrid, Point, Points, Style, XyFigure};
use crate::spec::{
    AccuracyTest, Block, Design, Experiment, OneOrMany, Quantity, SearchAxis, SweepAxis,
};
use crate::stats::StatsError;
use crate::stats::cells::CellError;
use crate::stats::coverage::{Interval, note};
use crate::stats::verdict::{AccuracyEvidence, Claim, Evidence};

/// Whether a cell lies in the window of the test, which was fixed before the run and looks at
/// predictions only.
pub(super) fn in_window(test: &AccuracyTest, cell: &Cell, predictor: &dyn Predictor) -> bool {
    let [lo, hi] = test.predicted_between;
    (lo..=hi).contains(&cell.predicted)
        && (test.min_attention <= 0.0
            || predictor.accuracy(Quantity::Attention, &cell.setting) >= test.min_attention)
}

/// Signed errors over the cells of the window, block by block, as evidence: cells of one block
/// share the error of the formula, so blocks are not pooled.
pub(super) fn judge(
    experiment: &Experiment,
    test: &AccuracyTest,
    cells: &[Cell],
    window: &[bool],
    blocks: &[Block],
    findings: &mut Findings,
) -> Result<(), StatsError> {
    for (k, block) in blocks.iter().enumerate() {
        let of_block = || cells.iter().zip(window).filter(|(c, _)| c.block == k);
        let inside: Vec<&Cell> = of_block().filter(|(_, w)| **w).map(|(c, _)| c).collect();
        let outside = of_block().filter(|(_, w)| !**w).count();
        let name = if blocks.len() == 1 {
            "all cells".to_owned()
        } else {
            block_name(block, SweepAxis::Samples)
        };
        if inside.len() < 3 {
            findings.notes.push(format!(
                "{name}: {} cells in the window, too few to judge.",
                inside.len()
            ));
            continue;
        }
        let errors: Vec<CellError> = inside
            .iter()
            .map(|c| CellError {
                error: c.error(),
                standard_error: c.measured.standard_error,
                df: c.measured.df,
            })
            .collect();
        let settings: Vec<Setting> = inside.iter().map(|c| c.setting).collect();
        let factors = Factors::of(&settings, None);
        let sizes: Vec<(&str, Vec<f64>)> = factors
            .names
            .iter()
            .zip(&factors.value)
            .map(|(name, size)| (*name, settings.iter().map(|s| size(s).ln()).collect()))
            .filter(|(_, logs): &(&str, Vec<f64>)| logs.iter().all(|x| x.is_finite()))
            .collect();
        let evidence = AccuracyEvidence::of(&errors, &sizes, test.margin, test.max_sd, 0.95)?;
        let largest = errors.iter().fold(
            0.0f64,
            |a, c| if c.error.abs() > a.abs() { c.error } else { a },
        );
        let changes: String = evidence
            .trends
            .iter()
            .map(|t| {
                format!(
                    "; change along log {} {:+.4} ± {:.4}",
                    t.name, t.change.value, t.change.standard_error
                )
            })
            .collect();
        findings.notes.push(format!(
            "{name}: {} cells in the window, {outside} outside (shown, not judged); mean signed error measured − formula {:+.4} (95 % interval {:+.4} to {:+.4}, from the trials){changes}; scatter over cells beyond the noise {:.4}, largest error {largest:+.3}; root mean square standard error of one cell {:.4}.",
            inside.len(),
            evidence.mean.value,
            evidence.mean.lower,
            evidence.mean.upper,
            evidence.scatter.estimate(),
            (errors.iter().map(|c| c.standard_error.powi(2)).sum::<f64>() / errors.len() as f64)
                .sqrt(),
        ));
        let id = if blocks.len() == 1 {
            experiment.id.clone()
        } else {
            format!("{}/{}", experiment.id, slug(&name))
        };
        findings.claims.push(Claim {
            id,
            evidence: Evidence::Accuracy(evidence),
        });
    }
    note_deviating(test, cells, window, blocks, findings);
    Ok(())
}

/// Cells that deviate by more than three standard errors: by name where the deviation exceeds the
/// margin, too, and by number otherwise.
fn note_deviating(
    test: &AccuracyTest,
    cells: &[Cell],
    window: &[bool],
    blocks: &[Block],
    findings: &mut Findings,
) {
    let mut small = 0;
    for (c, w) in cells.iter().zip(window).filter(|(c, _)| c.z().abs() > 3.0) {
        if c.error().abs() <= test.margin {
            small += 1;
            continue;
        }
        let s = &c.setting;
        findings.misfits.push(format!(
            "{}V = {}, d = {}, L = {}, N = {}: {} measured {:.3} ± {:.3}, formula {:.3} ({:.1} standard errors; {} the window).",
            label(&blocks[c.block]),
            s.vocab,
            s.dim_in.min(s.dim_out),
            s.len,
            samples_text(s),
            c.quantity.name(),
            c.measured.value,
            c.measured.standard_error,
            c.predicted,
            c.z().abs(),
            if *w { "inside" } else { "outside" },
        ));
    }
    if small > 0 {
        findings.misfits.push(format!(
            "{small} of {} cells deviate by more than three standard errors, though by less than the margin of {} (about {:.1} expected by chance): the formula is close, not exact.",
            cells.len(),
            test.margin,
            0.0027 * cells.len() as f64
        ));
    }
}

/// A name as part of a claim's id.
fn slug(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_alphanumeric() {
            out.extend(c.to_lowercase());
        } else if !out.ends_with('-') && !matches!(c, '=' | ' ') || c == ',' {
            out.push('-');
        }
    }
    out.trim_matches('-').replace("--", "-")
}

/// The label of a block as a prefix.
fn label(block: &Block) -> String {
    if block.label.is_empty() {
        String::new()
    } else {
        format!("{} — ", block.label)
    }
}

/// Name of a block with what is common to it.
fn block_name(block: &Block, axis: SweepAxis) -> String {
    if !block.label.is_empty() {
        return block.label.clone();
    }
    let list = |x: &OneOrMany<usize>| {
        x.values()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("/")
    };
    let mut parts = Vec::new();
    if axis != SweepAxis::Vocab {
        parts.push(format!("V = {}", list(&block.vocab)));
    }
    if let (true, Some(dim)) = (axis != SweepAxis::Dim, &block.dim) {
        parts.push(format!("d = {}", list(dim)));
    }
    if axis != SweepAxis::Len {
        parts.push(format!("L = {}", list(&block.len)));
    }
    parts.join(", ")
}

/// The setting moved along a sweep axis, for drawing the formula between the cells.
fn moved(s: &Setting, axis: SweepAxis, x: f64) -> Setting {
    let value = x.round().max(2.0) as u64;
    match axis {
        SweepAxis::Samples => at(s, SearchAxis::Samples, value),
        SweepAxis::Dim => at(s, SearchAxis::Dim, value),
        SweepAxis::Width => at(s, SearchAxis::Width, value),
        SweepAxis::Len => Setting {
            len: value as usize,
            ..*s
        },
        SweepAxis::Vocab => at(s, SearchAxis::Vocab, value),
    }
}

/// Formula along the axis through the cells of one block.
fn formula_line(cells: &[&Cell], axis: SweepAxis, quantity: Quantity) -> Vec<(f64, f64)> {
    let finite: Vec<&&Cell> = cells
        .iter()
        .filter(|c| axis.of(&c.setting).is_finite())
        .collect();
    let (Some(first), Some(last)) = (finite.first(), finite.last()) else {
        return Vec::new();
    };
    let (lo, hi) = (axis.of(&first.setting), axis.of(&last.setting));
    if lo == hi {
        return vec![(lo, first.predicted)];
    }
    if quantity == Quantity::OneStep {
        // One prediction takes a large part of a second: through the cells only.
        return finite
            .iter()
            .map(|c| (axis.of(&c.setting), c.predicted))
            .collect();
    }
    const STEPS: usize = 16;
    (0..=STEPS)
        .map(|i| {
            let x = (lo.ln() + (hi / lo).ln() * i as f64 / STEPS as f64).exp();
            let x = moved(&first.setting, axis, x);
            (axis.of(&x), accuracy_of(quantity, &x))
        })
        .collect()
}

/// Measured cells of a block as points, with 95 % intervals.
fn cell_points(cells: &[&Cell], axis: SweepAxis) -> Vec<Point> {
    cells
        .iter()
        .filter(|c| axis.of(&c.setting).is_finite())
        .map(|c| c.point(axis.of(&c.setting)))
        .collect()
}

/// Cells that differ along the axis alone, with a name. A block is one curve as a rule; one that
/// varies other sizes too is several.
fn series<'a>(cells: &'a [Cell], design: &Design, axis: SweepAxis) -> Vec<(String, Vec<&'a Cell>)> {
    let mut all = Vec::new();
    for (k, block) in design.blocks.iter().enumerate() {
        let mut of_block: Vec<(Setting, Vec<&Cell>)> = Vec::new();
        for cell in cells.iter().filter(|c| c.block == k) {
            let others = moved(&cell.setting, axis, 2.0);
            match of_block.iter_mut().find(|(o, _)| *o == others) {
                Some((_, curve)) => curve.push(cell),
                None => of_block.push((others, vec![cell])),
            }
        }
        let name = block_name(block, axis);
        if let [(_, curve)] = &mut of_block[..] {
            all.push((name, std::mem::take(curve)));
            continue;
        }
        for (setting, curve) in of_block {
            let sizes = place(&setting, Some(axis));
            all.push((format!("{}{sizes}", label(block)), curve));
        }
    }
    all
}

/// Findings of an accuracy-curve experiment: one panel per quantity, one series per block and
/// setting of the sizes that are not the axis.
pub(super) fn analyse_curves(
    experiment: &Experiment,
    design: &Design,
    axis: SweepAxis,
    quantities: &[Quantity],
    test: &AccuracyTest,
    records: &dyn Records,
) -> Result<Findings, StatsError> {
    let mut findings = Findings {
        looks: quantities.len(),
        ..Findings::default()
    };
    let mut panels = Vec::new();
    let layered = design.blocks.iter().any(|b| b.activation.is_some());
    let mut table = Table {
        caption: format!(
            "Cells: mean over trials ± standard error, beside the formula. {}",
            note(&[Interval::Trials])
        ),
        header: [
            "block",
            "V",
            "d",
            "L",
            "N",
            "m",
            "quantity",
            "measured",
            "formula",
            "in window",
        ]
        .into_iter()
        .filter(|name| layered || *name != "m")
        .map(String::from)
        .collect(),
        rows: Vec::new(),
    };
    for (i, &quantity) in quantities.iter().enumerate() {
        let cells = measure(design, quantity, records)?;
        let window: Vec<bool> = cells.iter().map(|c| in_window(test, c, &Theory)).collect();
        if i == 0 {
            judge(
                experiment,
                test,
                &cells,
                &window,
                &design.blocks,
                &mut findings,
            )?;
            findings.trials = cells.len() * design.seeds as usize;
        }
        let mut panel = XyFigure::new(
            quantity.short(),
            Axis::log10(axis.label()),
            Axis::linear("accuracy").range(0.0, 1.0),
        );
        for (k, (name, of_series)) in series(&cells, design, axis).into_iter().enumerate() {
            panel = panel
                .with(Line::new(
                    name.clone(),
                    Style::slot(k),
                    formula_line(&of_series, axis, quantity),
                ))
                .with(Points::new(
                    name,
                    Style::slot(k),
                    cell_points(&of_series, axis),
                ));
        }
        panels.push(panel);
        for (c, w) in cells.iter().zip(&window) {
            let block = &design.blocks[c.block];
            findings
                .cells
                .push(c.row(experiment, block, *w && i == 0, design.seeds as usize));
            let mut row = vec![
                block_name(block, axis),
                c.setting.vocab.to_string(),
                c.setting.dim_in.min(c.setting.dim_out).to_string(),
                c.setting.len.to_string(),
                samples_text(&c.setting),
            ];
            if layered {
                let width = c.setting.model.mlp().map(|mlp| mlp.width.to_string());
                row.push(width.unwrap_or_else(|| "–".to_owned()));
            }
            row.extend([
                quantity.name().to_owned(),
                format!("{:.3} ± {:.3}", c.measured.value, c.measured.standard_error),
                format!("{:.3}", c.predicted),
                if i > 0 {
                    "not judged"
                } else if *w {
                    "yes"
                } else {
                    "no"
                }
                .to_owned(),
            ]);
            table.rows.push(row);
        }
    }
    let columns = panels.len().min(3);
    findings.figures.push(NamedFigure {
        stem: experiment.id.clone(),
        caption: format!(
            "Points: mean over {} trials with 95 % intervals. Lines: finite-size formula, no fitted constant.",
            design.seeds
        ),
        figure: single_or_grid(&experiment.title, columns, panels),
    });
    findings.tables.push(table);
    Ok(findings)
}

fn single_or_grid(title: &str, columns: usize, mut panels: Vec<XyFigure>) -> Figure {
    if panels.len() == 1 {
        let mut only = panels.remove(0);
        only.title = format!("{title}: {}", only.title);
        return only.into();
    }
    PanelGrid::new(title.to_owned(), columns, panels).into()
}
