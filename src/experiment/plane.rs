//! Phase diagrams: an accuracy over two sizes, with the theory's boundaries.

use recall_theory::Setting;

use super::Records;
use super::boundaries::between_regions;
use super::cells::{Cell, measure, samples_text};
use super::curves::{in_window, judge};
use super::findings::{Findings, NamedFigure};
use super::predicted::{at, critical, dominant};
use super::predictor::Theory;
use crate::figure::{
    Axis, CellMarks, Dash, Fill, HeatMap, Line, Marker, Points, Series, Style, XyFigure,
};
use crate::spec::{AccuracyTest, Criterion, Design, Experiment, Quantity, SearchAxis, SweepAxis};
use crate::stats::StatsError;

/// Findings of a phase diagram.
pub(super) fn analyse(
    experiment: &Experiment,
    design: &Design,
    quantity: Quantity,
    level: f64,
    plane: Plane,
    test: &AccuracyTest,
    records: &dyn Records,
) -> Result<Findings, StatsError> {
    let cells = measure(design, quantity, records)?;
    let window: Vec<bool> = cells.iter().map(|c| in_window(test, c, &Theory)).collect();
    let mut findings = Findings {
        trials: cells.len() * design.seeds as usize,
        looks: 1,
        ..Findings::default()
    };
    judge(
        experiment,
        test,
        &cells,
        &window,
        &design.blocks,
        &mut findings,
    )?;
    for (c, w) in cells.iter().zip(&window) {
        findings.cells.push(c.row(
            experiment,
            &design.blocks[c.block],
            *w,
            design.seeds as usize,
        ));
    }
    let agree = cells
        .iter()
        .filter(|c| (c.measured.value >= level) == (c.predicted >= level))
        .count();
    findings.notes.push(format!(
        "Side of the boundary: {agree} of {} cells lie on the side of level {level} that the formula gives them.",
        cells.len()
    ));
    for k in 0..design.blocks.len() {
        let of_block: Vec<&Cell> = cells.iter().filter(|c| c.block == k).collect();
        if of_block.is_empty() {
            continue;
        }
        let suffix = if design.blocks.len() > 1 {
            format!("-{}", k + 1)
        } else {
            String::new()
        };
        let (map, names) = plane.map(experiment, quantity, level, &of_block);
        let dominance = if plane.dominant {
            format!(
                " Symbols: the term that dominates by the formula ({}); thin lines: where one hands over to the next.",
                names.join(", ")
            )
        } else {
            String::new()
        };
        findings.figures.push(NamedFigure {
            stem: format!("{}{suffix}", experiment.id),
            caption: format!(
                "Colour: mean over {} trials. Thick lines: where the finite-size formulas reach {level}; no fitted constant.{dominance}",
                design.seeds
            ),
            figure: map.into(),
        });
        findings
            .figures
            .push(against_formula(experiment, design, &of_block, &suffix));
    }
    Ok(findings)
}

/// The two sizes of a phase diagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plane {
    pub(super) x: SearchAxis,
    pub(super) y: SearchAxis,
    /// Whether cells name the term that dominates.
    pub(super) dominant: bool,
}

/// Distinct values of a size over the cells, ascending.
fn values(cells: &[&Cell], axis: SweepAxis) -> Vec<f64> {
    let mut values: Vec<f64> = cells
        .iter()
        .map(|c| axis.of(&c.setting))
        .filter(|x| x.is_finite())
        .collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

/// Points between two values, even in the logarithm.
fn between(lo: f64, hi: f64, steps: usize) -> impl Iterator<Item = f64> {
    (0..=steps).map(move |i| (lo.ln() + (hi / lo).ln() * i as f64 / steps as f64).exp())
}

impl Plane {
    /// The heat map of one block with the theory's lines, and the names of the dominating terms.
    fn map(
        self,
        experiment: &Experiment,
        quantity: Quantity,
        level: f64,
        cells: &[&Cell],
    ) -> (HeatMap, Vec<&'static str>) {
        let (x, y) = (self.x.sweep(), self.y.sweep());
        let (xs, ys) = (values(cells, x), values(cells, y));
        let cell = |i: usize, j: usize| {
            cells
                .iter()
                .find(|c| x.of(&c.setting) == xs[i] && y.of(&c.setting) == ys[j])
        };
        let grid: Vec<Vec<Option<f64>>> = (0..ys.len())
            .map(|j| {
                (0..xs.len())
                    .map(|i| cell(i, j).map(|c| c.measured.value))
                    .collect()
            })
            .collect();
        let first = &cells[0].setting;
        let mut map = HeatMap::new(
            format!("{} ({})", experiment.title, fixed(first, self.x, self.y)),
            (Axis::log2(x.label()), xs.clone()),
            (Axis::log2(y.label()), ys.clone()),
            Axis::linear(quantity.name()).range(0.0, 1.0),
            grid,
        );
        let lines: &[(Quantity, Dash, &str)] = match quantity {
            Quantity::Accuracy => &[
                (Quantity::Accuracy, Dash::Solid, "formula, this accuracy"),
                (
                    Quantity::Attention,
                    Dash::Dashed,
                    "formula, attention alone",
                ),
                (Quantity::Recall, Dash::Dotted, "formula, recall alone"),
            ],
            _ => &[(quantity, Dash::Solid, "formula, this accuracy")],
        };
        for (quantity, dash, name) in lines {
            let line = self.boundary(first, *quantity, level, (&xs, &ys));
            // A level that is not reached on the map has no line to explain.
            if !line.is_empty() {
                map = map.with_line(Line::new(
                    format!("{name} = {level}"),
                    Style::neutral().dash(*dash),
                    line,
                ));
            }
        }
        let mut names = Vec::new();
        if self.dominant {
            names = self.mark_dominance(&mut map, quantity, first, (&xs, &ys), &cell);
        }
        (map, names)
    }

    /// Critical `y` along `x`: the boundary is then one value for each `x`, flat parts included.
    fn boundary(
        self,
        first: &Setting,
        quantity: Quantity,
        level: f64,
        (xs, ys): (&[f64], &[f64]),
    ) -> Vec<(f64, f64)> {
        let criterion = Criterion::Accuracy { quantity, level };
        // Beyond the map by half a step, so that lines reach its frame.
        let inside = ys[0] / 1.5..=ys[ys.len() - 1] * 1.5;
        between(xs[0], xs[xs.len() - 1], 32)
            .filter_map(|x| {
                let x = x.round();
                let s = at(first, self.x, x as u64);
                let y = critical(&s, self.y, criterion)?.exp();
                inside.contains(&y).then_some((x, y))
            })
            .collect()
    }

    /// Marks each cell with the term that dominates there by the formula and draws the boundaries
    /// between them; returns the terms' names.
    fn mark_dominance<'a>(
        self,
        map: &mut HeatMap,
        quantity: Quantity,
        first: &Setting,
        (xs, ys): (&[f64], &[f64]),
        cell: &dyn Fn(usize, usize) -> Option<&'a &'a Cell>,
    ) -> Vec<&'static str> {
        const STEPS: usize = 48;
        let mut names: Vec<&'static str> = Vec::new();
        let mut of_name: Vec<Vec<(usize, usize)>> = Vec::new();
        for j in 0..ys.len() {
            for i in 0..xs.len() {
                let Some(c) = cell(i, j) else { continue };
                let name = dominant(quantity, &c.setting);
                let k = names.iter().position(|n| *n == name).unwrap_or_else(|| {
                    names.push(name);
                    of_name.push(Vec::new());
                    names.len() - 1
                });
                of_name[k].push((j, i));
            }
        }
        const MARKERS: [Marker; 6] = [
            Marker::Circle,
            Marker::Square,
            Marker::Triangle,
            Marker::Diamond,
            Marker::Cross,
            Marker::Plus,
        ];
        for (k, (name, cells)) in names.iter().zip(of_name).enumerate() {
            map.marks.push(CellMarks {
                label: (*name).to_owned(),
                marker: MARKERS[k % MARKERS.len()],
                fill: if k < MARKERS.len() {
                    Fill::Filled
                } else {
                    Fill::Open
                },
                cells,
            });
        }
        let name = |x: u64, y: u64| dominant(quantity, &at(&at(first, self.x, x), self.y, y));
        let whole = |v: &[f64]| {
            let mut sizes: Vec<u64> = between(v[0], v[v.len() - 1], STEPS)
                .map(|size| size.round() as u64)
                .collect();
            sizes.dedup();
            sizes
        };
        for points in between_regions(&whole(xs), &whole(ys), &name) {
            map.lines.push(Line::new(
                "another term dominates",
                Style::neutral().dash(Dash::DashDot),
                points,
            ));
        }
        names
    }
}

/// Sizes that a map holds fixed.
fn fixed(s: &Setting, x: SearchAxis, y: SearchAxis) -> String {
    let mut parts = Vec::new();
    if ![x, y].contains(&SearchAxis::Vocab) {
        parts.push(format!("V = {}", s.vocab));
    }
    if ![x, y].contains(&SearchAxis::Dim) {
        parts.push(format!("d = {}", s.dim_in));
    }
    parts.push(format!("L = {}", s.len));
    if ![x, y].contains(&SearchAxis::Samples) {
        parts.push(format!("N = {}", samples_text(s)));
    }
    // Titles may be broken between sizes, not inside one.
    parts.join(", ").replace(" = ", "\u{a0}=\u{a0}")
}

/// Measured against predicted, cell by cell.
fn against_formula(
    experiment: &Experiment,
    design: &Design,
    cells: &[&Cell],
    suffix: &str,
) -> NamedFigure {
    let points = cells.iter().map(|c| c.point(c.predicted)).collect();
    let diagonal: Series = Line::new(
        "measured = formula",
        Style::neutral().dash(Dash::Solid),
        vec![(0.0, 0.0), (1.0, 1.0)],
    )
    .into();
    NamedFigure {
        stem: format!("{}{suffix}-cells", experiment.id),
        caption: format!(
            "The same cells, measured against formula, with 95 % intervals over {} trials.",
            design.seeds
        ),
        figure: XyFigure::new(
            format!("{}: cell by cell", experiment.title),
            Axis::linear("formula").range(0.0, 1.0),
            Axis::linear("measured").range(0.0, 1.0),
        )
        .with(diagonal)
        .with(Points::new("cells, 95 % interval", Style::slot(0), points))
        .into(),
    }
}
