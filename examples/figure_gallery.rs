//! Draws one figure of each kind with made-up numbers, to be looked at.
//!
//! `cargo run --release --example figure_gallery -- DIRECTORY`

use std::path::PathBuf;

use recall_capacity::figure::{
    Axis, Band, BandPoint, CellMarks, Dash, Direction, Figure, Fill, HeatMap, LegendPlace, Line,
    Marker, PanelGrid, Placement, Point, Points, Reference, Style, XyFigure, write_figure,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "figures".into()));
    for (stem, figure) in gallery() {
        let written = write_figure(&dir, stem, &figure)?;
        println!("{} {:?}", written.png.display(), written.report);
    }
    Ok(())
}

/// Figures with the names of their files.
pub(crate) fn gallery() -> Vec<(&'static str, Figure)> {
    vec![
        ("scaling", scaling().into()),
        ("accuracy", accuracy().into()),
        (
            "accuracy_right",
            accuracy().legend(LegendPlace::Right).into(),
        ),
        ("slopes", slopes().into()),
        ("six_panels", six_panels().into()),
        ("heat", heat().into()),
        ("heat_text", heat_text().into()),
        ("slots", slots().into()),
        ("hostile", hostile().into()),
    ]
}

/// Noise without a generator.
fn wobble(i: usize) -> f64 {
    let x = (i as f64 * 12.9898).sin() * 43_758.547;
    x - x.floor() - 0.5
}

fn powers(from: i32, to: i32) -> Vec<f64> {
    (from..=to).map(|e| f64::from(e).exp2()).collect()
}

fn scaling() -> XyFigure {
    let law = |d: f64| d * d / (2.0 * d.ln());
    let dims = powers(4, 10);
    let measured = |factor: f64, seed: usize, last: f64| -> Vec<Point> {
        dims.iter()
            .enumerate()
            .map(|(i, &d)| {
                let n = factor * law(d) * (1.0 + 0.12 * wobble(seed + i));
                let p = Point::new(d, n.min(last));
                if n > last {
                    p.censored(Direction::Up)
                } else {
                    p.y_interval(n * 0.88, n * 1.17)
                }
            })
            .collect()
    };
    XyFigure::new(
        "Facts stored at half accuracy, against the embedding dimension",
        Axis::log2("d (embedding dimension)"),
        Axis::log10("N* (facts)"),
    )
    .with(Band::new(
        "theory, 95 % of draws",
        Style::slot(0),
        dims.iter()
            .map(|&d| BandPoint::new(d, 0.85 * law(d), 1.15 * law(d)))
            .collect(),
    ))
    .with(Line::new(
        "theory, random embeddings: N* = d² / (2 ln d)",
        Style::slot(0),
        (0..=60)
            .map(|k| 16.0 * 64f64.powf(f64::from(k) / 60.0))
            .map(|d| (d, law(d)))
            .collect(),
    ))
    .with(Line::new(
        "theory, orthogonal embeddings: N* = d",
        Style::slot(1),
        vec![(16.0, 16.0), (1024.0, 1024.0)],
    ))
    .with(Points::new(
        "measured, random",
        Style::slot(0),
        measured(1.0, 1, 5e4),
    ))
    .with(Points::new(
        "measured, orthogonal",
        Style::slot(1),
        dims.iter()
            .enumerate()
            .map(|(i, &d)| {
                let n = d * (1.0 + 0.15 * wobble(40 + i));
                Point::new(d, n).y_interval(n * 0.85, n * 1.2)
            })
            .collect(),
    ))
    .annotate(
        "fitted slope 1.83 ± 0.03\n(theory: 1.82, orthogonal: 1)",
        Placement::Auto,
    )
}

fn accuracy() -> XyFigure {
    let curve = |n: f64, c: f64| 1.0 / (1.0 + (n / c).powf(2.2));
    let grid: Vec<f64> = (0..=80)
        .map(|k| 100.0 * 1000f64.powf(f64::from(k) / 80.0))
        .collect();
    let mut figure = XyFigure::new(
        "Accuracy falls at the capacity",
        Axis::log10("N (facts)"),
        Axis::linear("accuracy (fraction of facts recalled)").range(0.0, 1.0),
    );
    for (slot, (d, c)) in [(64, 800.0), (128, 2900.0), (256, 11_000.0)]
        .iter()
        .enumerate()
    {
        figure = figure
            .with(Band::new(
                format!("theory, d = {d}"),
                Style::slot(slot),
                grid.iter()
                    .map(|&n| BandPoint::new(n, curve(n, c * 0.9), curve(n, c * 1.1)))
                    .collect(),
            ))
            .with(Line::new(
                format!("theory, d = {d}"),
                Style::slot(slot),
                grid.iter().map(|&n| (n, curve(n, *c))).collect(),
            ))
            .with(Points::new(
                format!("measured, d = {d}"),
                Style::slot(slot),
                (0..14)
                    .map(|k| {
                        let n = 120.0 * 1.62f64.powi(k);
                        let y =
                            (curve(n, *c) + 0.04 * wobble(100 * slot + k as usize)).clamp(0.0, 1.0);
                        let half = 0.015 + 0.06 * y * (1.0 - y);
                        Point::new(n, y).y_interval((y - half).max(0.0), (y + half).min(1.0))
                    })
                    .collect(),
            ));
    }
    figure
        .with(Reference::horizontal("½", Style::neutral(), 0.5).at_border())
        .with(Reference::vertical("N* (64)", Style::slot(0).dash(Dash::Dotted), 800.0).at_border())
        .with(
            Reference::vertical("N* (128)", Style::slot(1).dash(Dash::Dotted), 2900.0).at_border(),
        )
        .with(Reference::horizontal(
            "chance level",
            Style::neutral().dash(Dash::Dotted),
            0.01,
        ))
}

fn panel(title: &str, slope: f64, seed: usize, x: Axis) -> XyFigure {
    let sizes = powers(5, 9);
    XyFigure::new(title, x, Axis::log10("N* (facts)"))
        .with(Line::new(
            "theory",
            Style::neutral(),
            sizes.iter().map(|&d| (d, 0.5 * d.powf(slope))).collect(),
        ))
        .with(Points::new(
            "gradient descent",
            Style::slot(0),
            sizes
                .iter()
                .enumerate()
                .map(|(i, &d)| {
                    let n = 0.5 * d.powf(slope) * (1.0 + 0.3 * wobble(seed + i));
                    Point::new(d, n).y_interval(n * 0.8, n * 1.25)
                })
                .collect(),
        ))
        .with(Points::new(
            "Hebbian rule",
            Style::slot(1),
            sizes
                .iter()
                .enumerate()
                .map(|(i, &d)| {
                    Point::new(d, 0.2 * d.powf(slope) * (1.0 + 0.3 * wobble(seed + 50 + i)))
                })
                .collect(),
        ))
        .annotate(format!("slope {slope:.2} ± 0.04"), Placement::Auto)
        .size(800.0, 230.0)
}

fn slopes() -> PanelGrid {
    PanelGrid::new(
        "Exponents of three laws",
        3,
        vec![
            panel("Linear memory", 1.0, 1, Axis::log2("d")),
            panel("Random embeddings", 1.8, 11, Axis::log2("d")),
            panel("Hidden layer of width m", 2.0, 21, Axis::log2("m")),
        ],
    )
}

fn six_panels() -> PanelGrid {
    let mut panels: Vec<XyFigure> = (0..6)
        .map(|k| {
            panel(
                &format!("Noise σ² = {}", 0.5f64.powi(k)),
                1.0 + 0.2 * f64::from(k),
                7 * k as usize,
                Axis::log10("d (embedding dimension)"),
            )
        })
        .collect();
    panels[4].title = "A title that is rather longer than its panel is wide".into();
    PanelGrid::new("", 3, panels)
}

fn heat_data() -> (Vec<f64>, Vec<f64>, Vec<Vec<Option<f64>>>) {
    let (ns, ds) = (powers(6, 16), powers(4, 10));
    let values = ds
        .iter()
        .map(|&d| {
            ns.iter()
                .map(|&n| {
                    let c = d * d / (2.0 * d.ln());
                    (n * d < 3e7).then(|| 1.0 / (1.0 + (n / c).powf(1.6)))
                })
                .collect()
        })
        .collect();
    (ns, ds, values)
}

fn boundary(factor: f64) -> Vec<(f64, f64)> {
    (0..=100)
        .map(|k| 8.0 * 200f64.powf(f64::from(k) / 100.0))
        .map(|d| (factor * d * d / (2.0 * d.ln()), d))
        .collect()
}

fn heat() -> HeatMap {
    let (ns, ds, values) = heat_data();
    HeatMap::new(
        "Accuracy over facts and dimension",
        (Axis::log2("N (facts)"), ns),
        (Axis::log2("d (embedding dimension)"), ds),
        Axis::linear("accuracy").range(0.0, 1.0),
        values,
    )
    .with_line(Line::new(
        "theory: N* = d² / (2 ln d)",
        Style::neutral().dash(Dash::Solid),
        boundary(1.0),
    ))
    .with_line(Line::new(
        "union bound: N = d² / (8 ln d)",
        Style::neutral().dash(Dash::Dashed),
        boundary(0.25),
    ))
}

fn heat_text() -> HeatMap {
    let (ns, ds, values) = heat_data();
    let mut map = HeatMap::new(
        "Verdicts: measured over predicted capacity",
        (Axis::log2("N (facts)"), ns[..8].to_vec()),
        (Axis::log2("d"), ds[..5].to_vec()),
        Axis::log10("ratio of accuracies"),
        values[..5]
            .iter()
            .map(|r| r[..8].iter().map(|v| v.map(|v| v + 1e-3)).collect())
            .collect(),
    );
    map.value.range = Some((0.01, 0.9));
    map.values[2][3] = None;
    map.cell_texts = map
        .values
        .iter()
        .map(|r| {
            r.iter()
                .map(|v| v.map_or("–".into(), |v| format!("{v:.2}")))
                .collect()
        })
        .collect();
    map.with_marks(CellMarks {
        label: "rejected (p < 0.01)".into(),
        marker: Marker::Cross,
        fill: Fill::Filled,
        cells: vec![(0, 2), (1, 3), (4, 7)],
    })
    .with_marks(CellMarks {
        label: "inconclusive".into(),
        marker: Marker::Circle,
        fill: Fill::Open,
        cells: vec![(0, 3), (3, 6)],
    })
}

fn slots() -> XyFigure {
    let mut figure = XyFigure::new(
        "All slots: colour, marker and dash",
        Axis::linear("t"),
        Axis::linear("value × 10⁶"),
    )
    .legend(LegendPlace::Right);
    for slot in 0..9 {
        let f = |t: f64| slot as f64 * 1e6 + 4e5 * t.sin();
        figure = figure
            .with(Line::new(
                format!("slot {slot}"),
                Style::slot(slot),
                (0..=50)
                    .map(|k| f64::from(k) / 5.0)
                    .map(|t| (t, f(t)))
                    .collect(),
            ))
            .with(Points::new(
                format!("slot {slot}"),
                Style::slot(slot),
                (0..=10)
                    .map(f64::from)
                    .map(|t| Point::new(t, f(t)))
                    .collect(),
            ));
    }
    figure
}

fn hostile() -> XyFigure {
    XyFigure::new(
        "Hostile: <tags> & \"quotes\", a title so long that it cannot possibly stand on one line \
         of the figure, so it is broken",
        Axis::log10("x₁ ≤ ∑ᵢ αᵢ² · ∂L/∂θ → ∞").range(1.0, 1000.0),
        Axis::log10("a label of the vertical axis that is longer than the axis is high, ‖W‖₂ · √d")
            .range(1.0, 100.0),
    )
    .with(Points::new(
        "points outside, zero, NaN, and a label that is very long indeed: N* = (d² / 2 ln d) · \
         (1 − 2/π)⁻¹ · (1 + O(1/d)), for d → ∞ with σ fixed",
        Style::slot(0),
        vec![
            Point::new(0.5, 10.0),
            Point::new(10.0, 1e4),
            Point::new(10.0, 0.0),
            Point::new(f64::NAN, 3.0),
            Point::new(20.0, 30.0)
                .y_interval(0.0, f64::INFINITY)
                .x_interval(5.0, 1e9),
            Point::new(1000.0, 100.0).censored(Direction::Up),
            Point::new(1.0, 1.0).censored(Direction::Left),
            Point::new(300.0, 2.0)
                .censored(Direction::Down)
                .y_interval(2.0, 4.0),
        ],
    ))
    .with(Line::new(
        "leaves and returns",
        Style::slot(2),
        vec![
            (0.01, 5.0),
            (5.0, 1e3),
            (50.0, 0.01),
            (f64::NAN, 1.0),
            (100.0, 1.0),
            (1e5, 1e5),
        ],
    ))
    .with(Band::new(
        "open band",
        Style::slot(3),
        vec![
            BandPoint::new(2.0, 0.0, 3.0),
            BandPoint::new(2000.0, 20.0, f64::INFINITY),
        ],
    ))
    .with(Line::new("empty", Style::slot(4), vec![]))
    .with(Reference::horizontal("limit A", Style::slot(1), 50.0).at_border())
    .with(Reference::horizontal("limit B", Style::neutral(), 52.0).at_border())
    .annotate("auto placed", Placement::Auto)
    .annotate("at a point", Placement::At { x: 1000.0, y: 1.0 })
}
