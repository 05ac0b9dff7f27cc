//! Drawing of axes with points, lines and bands, alone and in panels.

use super::canvas::{Align, Canvas, Pen, TextLook};
use super::clip::{Rect, clip_polygon, clip_polyline, clip_segment};
use super::colour::Rgb;
use super::error::FigureError;
use super::font::{CAP_HEIGHT, DESCENT, LINE_HEIGHT, Weight, text_width, widest, wrap};
use super::legend::{
    BAND_OPACITY, Entries, Glyph, LINE_WIDTH, Legend, MARKER_RADIUS, REFERENCE_WIDTH,
};
use super::model::{
    Band, Direction, LegendPlace, Line, Orientation, PanelGrid, Placement, Point, Points,
    Reference, Scale, Series, XyFigure,
};
use super::output::DrawReport;
use super::scale::{AxisMap, resolve_range};
use super::ticks::{TickSet, ticks};

pub(super) const TITLE: f64 = 15.0;
const PANEL_TITLE: f64 = 12.5;
pub(super) const LABEL: f64 = 13.0;
pub(super) const TICK: f64 = 12.0;
const NOTE: f64 = 11.0;
/// Free space around everything.
pub(super) const MARGIN: f64 = 14.0;
/// Length of a tick.
pub(super) const TICK_LENGTH: f64 = 5.0;
/// Between a tick and its label beside an axis.
pub(super) const TICK_GAP: f64 = 4.0;
/// Between a tick and its label below an axis: more, so that the labels nearest to
/// the corner keep clear of each other.
pub(super) const TICK_DROP: f64 = 5.5;
/// Between tick labels and the label of the axis.
pub(super) const LABEL_GAP: f64 = 8.0;
/// Between the axes and a legend.
pub(super) const LEGEND_GAP: f64 = 16.0;
/// Least side of the axes.
const LEAST_PLOT: f64 = 60.0;
/// Length of the arrow of a censored point.
const ARROW: f64 = 20.0;

/// Least distance of a tick label from the edge of the page.
const EDGE: f64 = 4.0;
/// How often margins and ticks are fitted to each other.
const TRIES: usize = 4;

/// A page laid out, ready to be drawn.
pub(super) struct Page {
    pub(super) size: (f64, f64),
    pub(super) title: String,
    pub(super) description: String,
    pub(super) report: DrawReport,
    pub(super) svg: String,
}

/// Room for a label below an axis, in which labels keep their distance.
pub(super) fn across(label: &str) -> f64 {
    text_width(label, TICK, Weight::Regular).unwrap_or(0.0) + TICK
}

/// Room for a label beside an axis.
pub(super) fn upright(_: &str) -> f64 {
    TICK * 1.5
}

pub(super) fn check_size(what: &'static str, value: f64, least: f64) -> Result<(), FigureError> {
    let reason = if !value.is_finite() {
        "must be a number"
    } else if value < least {
        "leaves no room to draw"
    } else if value > 20_000.0 {
        "more than 20000 pixels"
    } else {
        return Ok(());
    };
    Err(FigureError::Size {
        what,
        value,
        reason,
    })
}

/// Everything about the vertical direction that does not depend on the width.
struct Upright {
    range: (f64, f64),
    ticks: TickSet,
    label: Vec<String>,
    tick_width: f64,
    /// Room to the left of the axes.
    left: f64,
    /// Room to the right of the axes.
    right: f64,
}

/// Everything that depends on the width of the axes.
struct Across {
    range: (f64, f64),
    ticks: TickSet,
    label: Vec<String>,
    title: Vec<String>,
    title_look: TextLook,
    /// Room above the axes.
    top: f64,
    /// Room below the axes.
    bottom: f64,
}

fn x_values(figure: &XyFigure) -> Vec<f64> {
    let mut out = Vec::new();
    for series in &figure.series {
        match series {
            Series::Points(s) => {
                for p in &s.points {
                    out.push(p.x);
                    out.extend(p.x_interval.iter().flat_map(|i| [i.low, i.high]));
                }
            }
            Series::Line(s) => out.extend(s.points.iter().map(|p| p.0)),
            Series::Band(s) => out.extend(s.points.iter().map(|p| p.x)),
            Series::Reference(s) if s.orientation == Orientation::Vertical => out.push(s.value),
            Series::Reference(_) => {}
        }
    }
    out
}

fn y_values(figure: &XyFigure) -> Vec<f64> {
    let mut out = Vec::new();
    for series in &figure.series {
        match series {
            Series::Points(s) => {
                for p in &s.points {
                    out.push(p.y);
                    out.extend(p.y_interval.iter().flat_map(|i| [i.low, i.high]));
                }
            }
            Series::Line(s) => out.extend(s.points.iter().map(|p| p.1)),
            Series::Band(s) => out.extend(s.points.iter().flat_map(|p| [p.low, p.high])),
            Series::Reference(s) if s.orientation == Orientation::Horizontal => out.push(s.value),
            Series::Reference(_) => {}
        }
    }
    out
}

fn has_censored(figure: &XyFigure, wanted: &[Direction]) -> bool {
    figure.series.iter().any(|series| match series {
        Series::Points(s) => s
            .points
            .iter()
            .any(|p| p.censored.is_some_and(|d| wanted.contains(&d))),
        _ => false,
    })
}

/// Margin of an automatic range: wider if an arrow needs the room.
fn range_margin(figure: &XyFigure, directions: &[Direction], length: f64) -> f64 {
    let least: f64 = 0.05;
    if has_censored(figure, directions) {
        least.max((ARROW + 4.0) / length)
    } else {
        least
    }
}

fn border_labels(figure: &XyFigure, orientation: Orientation) -> Vec<&Reference> {
    figure
        .series
        .iter()
        .filter_map(|s| match s {
            Series::Reference(r)
                if r.at_border && r.orientation == orientation && !r.label.is_empty() =>
            {
                Some(r)
            }
            _ => None,
        })
        .collect()
}

fn plan_upright(figure: &XyFigure, height: f64) -> Result<Upright, FigureError> {
    let margin = range_margin(figure, &[Direction::Up, Direction::Down], height);
    let range = resolve_range(&figure.y, y_values(figure), margin)?;
    let ticks = ticks(figure.y.scale, range.0, range.1, height, &upright);
    let names: Vec<&str> = ticks.major.iter().map(|t| t.label.as_str()).collect();
    let tick_width = widest(&names, TICK, Weight::Regular)?;
    let label = wrap(&figure.y.label, LABEL, Weight::Regular, height)?;
    let label_width = label_depth(&label);
    let left = label_width + tick_width + TICK_GAP + TICK_LENGTH;
    let mut right = MARGIN + 6.0;
    for reference in border_labels(figure, Orientation::Horizontal) {
        right = right.max(text_width(&reference.label, TICK, Weight::Regular)? + 6.0 + MARGIN);
    }
    Ok(Upright {
        range,
        ticks,
        label,
        tick_width,
        left,
        right,
    })
}

/// Room of the lines of an axis label, with the gap to the tick labels.
pub(super) fn label_depth(label: &[String]) -> f64 {
    if label.is_empty() {
        0.0
    } else {
        ((label.len() - 1) as f64 * LINE_HEIGHT + CAP_HEIGHT + DESCENT) * LABEL + LABEL_GAP
    }
}

fn plan_across(
    figure: &XyFigure,
    title: &str,
    title_look: TextLook,
    width: f64,
    right: f64,
) -> Result<Across, FigureError> {
    let margin = range_margin(figure, &[Direction::Left, Direction::Right], width);
    let range = resolve_range(&figure.x, x_values(figure), margin)?;
    let ticks = ticks(figure.x.scale, range.0, range.1, width, &across);
    let label = wrap(&figure.x.label, LABEL, Weight::Regular, width + right)?;
    let title = wrap(
        title,
        title_look.size,
        title_look.weight,
        width + right - MARGIN,
    )?;
    let mut top = title_depth(&title, title_look.size);
    if !border_labels(figure, Orientation::Vertical).is_empty() {
        top += TICK * LINE_HEIGHT + 5.0;
    }
    let bottom = TICK_LENGTH + TICK_DROP + TICK * CAP_HEIGHT + label_depth(&label).max(4.0);
    Ok(Across {
        range,
        ticks,
        label,
        title,
        title_look,
        top,
        bottom,
    })
}

impl Across {
    /// How far the tick labels reach beyond either end of axes of a given width.
    fn overhang(&self, scale: Scale, width: f64) -> Result<(f64, f64), FigureError> {
        let map = AxisMap::new(scale, self.range, 0.0, width);
        let (mut before, mut after) = (0.0_f64, 0.0_f64);
        for tick in &self.ticks.major {
            if let Some(x) = map.at(tick.value) {
                let half = text_width(&tick.label, TICK, Weight::Regular)? / 2.0;
                before = before.max(half - x);
                after = after.max(x + half - width);
            }
        }
        Ok((before, after))
    }
}

/// Room of the lines of a title, with the gap below.
pub(super) fn title_depth(title: &[String], size: f64) -> f64 {
    if title.is_empty() {
        0.0
    } else {
        ((title.len() - 1) as f64 * LINE_HEIGHT + CAP_HEIGHT) * size + 11.0
    }
}

/// Draws lines of a title from a top edge down.
pub(super) fn draw_title(
    canvas: &mut Canvas<'_>,
    title: &[String],
    look: TextLook,
    (x, top): (f64, f64),
) -> Result<(), FigureError> {
    for (i, line) in title.iter().enumerate() {
        let baseline = top + look.size * (CAP_HEIGHT + i as f64 * LINE_HEIGHT);
        canvas.text(line, (x, baseline), Align::Left, look)?;
    }
    Ok(())
}

/// Ticks, tick labels and axis labels around a rectangle.
pub(super) struct Surround<'a> {
    pub(super) x: AxisMap,
    pub(super) y: AxisMap,
    pub(super) x_ticks: &'a TickSet,
    pub(super) y_ticks: &'a TickSet,
    pub(super) x_label: &'a [String],
    pub(super) y_label: &'a [String],
    pub(super) y_tick_width: f64,
}

impl Surround<'_> {
    pub(super) fn draw(&self, canvas: &mut Canvas<'_>, plot: &Rect) -> Result<(), FigureError> {
        let pen = Pen::new(Rgb::FRAME, 1.0);
        let tick_look = TextLook::new(TICK, Weight::Regular);
        let label_look = TextLook::new(LABEL, Weight::Regular);
        canvas.frame((plot.x0, plot.y0), (plot.x1, plot.y1), pen)?;
        let tick_at = |v: f64, map: &AxisMap| map.at(v);
        for (values, length) in [
            (major_values(self.x_ticks), TICK_LENGTH),
            (self.x_ticks.minor.clone(), TICK_LENGTH * 0.55),
        ] {
            for x in values.into_iter().filter_map(|v| tick_at(v, &self.x)) {
                canvas.polyline(&[(x, plot.y1), (x, plot.y1 + length)], pen)?;
            }
        }
        for (values, length) in [
            (major_values(self.y_ticks), TICK_LENGTH),
            (self.y_ticks.minor.clone(), TICK_LENGTH * 0.55),
        ] {
            for y in values.into_iter().filter_map(|v| tick_at(v, &self.y)) {
                canvas.polyline(&[(plot.x0 - length, y), (plot.x0, y)], pen)?;
            }
        }
        let tick_baseline = plot.y1 + TICK_LENGTH + TICK_DROP + TICK * CAP_HEIGHT;
        for tick in &self.x_ticks.major {
            if let Some(x) = self.x.at(tick.value) {
                canvas.text(&tick.label, (x, tick_baseline), Align::Centre, tick_look)?;
            }
        }
        for tick in &self.y_ticks.major {
            if let Some(y) = self.y.at(tick.value) {
                let at = (
                    plot.x0 - TICK_LENGTH - TICK_GAP,
                    y + TICK * CAP_HEIGHT / 2.0,
                );
                canvas.text(&tick.label, at, Align::Right, tick_look)?;
            }
        }
        let centre = ((plot.x0 + plot.x1) / 2.0, (plot.y0 + plot.y1) / 2.0);
        for (i, line) in self.x_label.iter().enumerate() {
            let baseline =
                tick_baseline + LABEL_GAP + LABEL * (CAP_HEIGHT + i as f64 * LINE_HEIGHT);
            canvas.text(line, (centre.0, baseline), Align::Centre, label_look)?;
        }
        let right_baseline =
            plot.x0 - TICK_LENGTH - TICK_GAP - self.y_tick_width - LABEL_GAP - LABEL * DESCENT;
        for (i, line) in self.y_label.iter().enumerate() {
            let behind = (self.y_label.len() - 1 - i) as f64 * LABEL * LINE_HEIGHT;
            canvas.text_upwards(line, (right_baseline - behind, centre.1), label_look)?;
        }
        Ok(())
    }
}

fn major_values(ticks: &TickSet) -> Vec<f64> {
    ticks.major.iter().map(|t| t.value).collect()
}

/// One pair of axes being drawn.
struct Painter<'a, 'b, 'c> {
    canvas: &'a mut Canvas<'b>,
    figure: &'c XyFigure,
    plot: Rect,
    x: AxisMap,
    y: AxisMap,
    report: &'a mut DrawReport,
    /// Places that carry ink, for texts that look for room.
    ink: Vec<(f64, f64)>,
}

impl Painter<'_, '_, '_> {
    fn note_ink(&mut self, line: &[(f64, f64)]) {
        const STEP: f64 = 4.0;
        for pair in line.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            let n = ((b.0 - a.0).hypot(b.1 - a.1) / STEP).ceil().max(1.0) as usize;
            for k in 0..=n {
                let t = k as f64 / n as f64;
                self.ink
                    .push((a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1)));
            }
        }
    }

    fn grid(&mut self, x_ticks: &TickSet, y_ticks: &TickSet) -> Result<(), FigureError> {
        let pen = Pen::new(Rgb::GRID, 0.8);
        for x in x_ticks.major.iter().filter_map(|t| self.x.at(t.value)) {
            self.canvas
                .polyline(&[(x, self.plot.y0), (x, self.plot.y1)], pen)?;
        }
        for y in y_ticks.major.iter().filter_map(|t| self.y.at(t.value)) {
            self.canvas
                .polyline(&[(self.plot.x0, y), (self.plot.x1, y)], pen)?;
        }
        Ok(())
    }

    fn band(&mut self, band: &Band) -> Result<(), FigureError> {
        let limits: Vec<Option<(f64, f64, f64)>> = band
            .points
            .iter()
            .map(|p| {
                Some((
                    self.x.at(p.x)?,
                    self.y.at_limit(p.low)?,
                    self.y.at_limit(p.high)?,
                ))
            })
            .collect();
        for run in limits.split(Option::is_none) {
            let run: Vec<(f64, f64, f64)> = run.iter().flatten().copied().collect();
            let outline: Vec<(f64, f64)> = run
                .iter()
                .map(|&(x, low, _)| (x, low))
                .chain(run.iter().rev().map(|&(x, _, high)| (x, high)))
                .collect();
            let inside = clip_polygon(&outline, &self.plot);
            if !inside.is_empty() {
                self.canvas
                    .polygon(&inside, band.style.colour(), BAND_OPACITY)?;
                self.note_ink(&inside);
            }
        }
        Ok(())
    }

    fn reference(&mut self, reference: &Reference) -> Result<(), FigureError> {
        let plot = self.plot;
        let ends = match reference.orientation {
            Orientation::Horizontal => self
                .y
                .at(reference.value)
                .map(|y| [(plot.x0, y), (plot.x1, y)]),
            Orientation::Vertical => self
                .x
                .at(reference.value)
                .map(|x| [(x, plot.y0), (x, plot.y1)]),
        };
        let Some((a, b)) = ends.and_then(|[a, b]| clip_segment(a, b, &plot)) else {
            return Ok(());
        };
        self.note_ink(&[a, b]);
        let pen = Pen::new(reference.style.colour(), REFERENCE_WIDTH);
        self.canvas
            .dashed(&[a, b], pen, reference.style.resolved_dash())
    }

    fn line(&mut self, line: &Line) -> Result<(), FigureError> {
        let path: Vec<Option<(f64, f64)>> = line
            .points
            .iter()
            .map(|&(x, y)| Some((self.x.at(x)?, self.y.at(y)?)))
            .collect();
        let pen = Pen::new(line.style.colour(), LINE_WIDTH);
        for piece in clip_polyline(&path, &self.plot) {
            self.canvas
                .dashed(&piece, pen, line.style.resolved_dash())?;
            self.note_ink(&piece);
        }
        Ok(())
    }

    /// Pixel of a point; none if it has no place on the axes.
    fn place(&self, point: &Point) -> Option<(f64, f64)> {
        Some((self.x.at(point.x)?, self.y.at(point.y)?))
    }

    fn error_bars(
        &mut self,
        point: &Point,
        (x, y): (f64, f64),
        colour: Rgb,
    ) -> Result<(), FigureError> {
        const CAP: f64 = 3.6;
        let pen = Pen::new(colour, 1.4);
        let upright = point
            .y_interval
            .and_then(|i| Some((self.y.at_limit(i.low)?, self.y.at_limit(i.high)?)))
            .map(|(low, high)| ((x, low), (x, high), (CAP, 0.0)));
        let across = point
            .x_interval
            .and_then(|i| Some((self.x.at_limit(i.low)?, self.x.at_limit(i.high)?)))
            .map(|(low, high)| ((low, y), (high, y), (0.0, CAP)));
        for (a, b, (cx, cy)) in [upright, across].into_iter().flatten() {
            let Some((p, q)) = clip_segment(a, b, &self.plot) else {
                continue;
            };
            self.canvas.polyline(&[p, q], pen)?;
            self.note_ink(&[p, q]);
            // An end beyond the axes has no cap.
            for end in [a, b] {
                if self.plot.contains(end) {
                    self.canvas
                        .polyline(&[(end.0 - cx, end.1 - cy), (end.0 + cx, end.1 + cy)], pen)?;
                }
            }
        }
        Ok(())
    }

    fn points(&mut self, points: &Points) -> Result<(), FigureError> {
        let style = &points.style;
        for point in &points.points {
            let Some(at) = self.place(point) else {
                self.report.undefined_points += 1;
                continue;
            };
            if !self.plot.contains(at) {
                self.report.points_outside += 1;
                continue;
            }
            let marker = style.resolved_marker();
            self.canvas.marker_halo(at, marker, MARKER_RADIUS)?;
            self.error_bars(point, at, style.colour())?;
            if let Some(direction) = point.censored {
                let (ux, uy) = match direction {
                    Direction::Up => (0.0, -1.0),
                    Direction::Down => (0.0, 1.0),
                    Direction::Left => (-1.0, 0.0),
                    Direction::Right => (1.0, 0.0),
                };
                let tip = (at.0 + ARROW * ux, at.1 + ARROW * uy);
                self.canvas.arrow(at, tip, style.colour())?;
                self.note_ink(&[at, tip]);
            }
            self.canvas.marker(
                at,
                marker,
                style.is_open() || point.censored.is_some(),
                MARKER_RADIUS,
                style.colour(),
            )?;
            for dx in [-1.0, 0.0, 1.0] {
                for dy in [-1.0, 0.0, 1.0] {
                    self.ink
                        .push((at.0 + dx * MARKER_RADIUS, at.1 + dy * MARKER_RADIUS));
                }
            }
        }
        Ok(())
    }

    /// Texts at the border, pushed apart where they would touch.
    fn border_labels(&mut self) -> Result<(), FigureError> {
        let mut beside = Vec::new();
        for reference in border_labels(self.figure, Orientation::Horizontal) {
            if let Some(y) = self.y.at(reference.value)
                && y >= self.plot.y0
                && y <= self.plot.y1
            {
                beside.push((y, TICK * LINE_HEIGHT, reference));
            }
        }
        spread(&mut beside, self.plot.y0, self.plot.y1);
        for (y, _, reference) in beside {
            self.canvas.text(
                &reference.label,
                (self.plot.x1 + 6.0, y + TICK * CAP_HEIGHT / 2.0),
                Align::Left,
                TextLook::new(TICK, Weight::Regular).colour(reference.style.colour()),
            )?;
        }
        let mut above = Vec::new();
        for reference in border_labels(self.figure, Orientation::Vertical) {
            if let Some(x) = self.x.at(reference.value)
                && x >= self.plot.x0
                && x <= self.plot.x1
            {
                let width = text_width(&reference.label, TICK, Weight::Regular)?;
                above.push((x, width + TICK, reference));
            }
        }
        spread(&mut above, self.plot.x0, self.plot.x1);
        for (x, _, reference) in above {
            self.canvas.text(
                &reference.label,
                (x, self.plot.y0 - 8.0),
                Align::Centre,
                TextLook::new(TICK, Weight::Regular).colour(reference.style.colour()),
            )?;
        }
        Ok(())
    }

    fn annotations(&mut self) -> Result<(), FigureError> {
        const PAD: f64 = 5.0;
        const INSET: f64 = 8.0;
        let look = TextLook::new(TICK, Weight::Regular);
        for annotation in &self.figure.annotations {
            let room = self.plot.width() - 2.0 * (PAD + INSET);
            let lines = wrap(&annotation.text, TICK, Weight::Regular, room)?;
            if lines.is_empty() {
                continue;
            }
            let width = widest(&lines, TICK, Weight::Regular)? + 2.0 * PAD;
            let height =
                ((lines.len() - 1) as f64 * LINE_HEIGHT + CAP_HEIGHT + DESCENT) * TICK + 2.0 * PAD;
            let free = Rect {
                x0: self.plot.x0 + INSET,
                y0: self.plot.y0 + INSET,
                x1: (self.plot.x1 - INSET - width).max(self.plot.x0 + INSET),
                y1: (self.plot.y1 - INSET - height).max(self.plot.y0 + INSET),
            };
            let at = |fx: f64, fy: f64| (free.x0 + fx * free.width(), free.y0 + fy * free.height());
            let (x, y) = match annotation.placement {
                Placement::TopLeft => at(0.0, 0.0),
                Placement::TopRight => at(1.0, 0.0),
                Placement::BottomLeft => at(0.0, 1.0),
                Placement::BottomRight => at(1.0, 1.0),
                Placement::At { x, y } => match (self.x.at(x), self.y.at(y)) {
                    (Some(x), Some(y)) => (
                        (x - width / 2.0).clamp(free.x0, free.x1),
                        (y - height / 2.0).clamp(free.y0, free.y1),
                    ),
                    _ => at(0.0, 0.0),
                },
                Placement::Auto => self.emptiest(&at, (width, height)),
            };
            self.canvas
                .rect((x, y), (x + width, y + height), Rgb::WHITE, 0.85)?;
            for (i, line) in lines.iter().enumerate() {
                let baseline = y + PAD + TICK * (CAP_HEIGHT + i as f64 * LINE_HEIGHT);
                self.canvas
                    .text(line, (x + PAD, baseline), Align::Left, look)?;
            }
            let mut row = y;
            while row < y + height {
                for _ in 0..4 {
                    self.note_ink(&[(x, row), (x + width, row)]);
                }
                row += 4.0;
            }
        }
        Ok(())
    }

    /// The place with the least ink: corners first, then borders, then anywhere.
    fn emptiest(
        &self,
        at: &dyn Fn(f64, f64) -> (f64, f64),
        (width, height): (f64, f64),
    ) -> (f64, f64) {
        const N: usize = 6;
        let mut candidates = Vec::new();
        for i in 0..=N {
            for j in 0..=N {
                let edges = usize::from(i % N != 0) + usize::from(j % N != 0);
                candidates.push((edges, i, j));
            }
        }
        candidates.sort();
        let mut best = (usize::MAX, at(0.0, 0.0));
        for (_, i, j) in candidates {
            let place = at(i as f64 / N as f64, j as f64 / N as f64);
            let around = Rect {
                x0: place.0,
                y0: place.1,
                x1: place.0 + width,
                y1: place.1 + height,
            }
            .grown(4.0);
            let ink = self.ink.iter().filter(|&&p| around.contains(p)).count();
            if ink < best.0 {
                best = (ink, place);
            }
        }
        best.1
    }
}

/// Pushes labels of given centres and extents apart, within two limits.
fn spread(labels: &mut [(f64, f64, &Reference)], low: f64, high: f64) {
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut edge = low - labels.first().map_or(0.0, |l| l.1 / 2.0);
    for label in labels.iter_mut() {
        label.0 = label.0.max(edge + label.1 / 2.0);
        edge = label.0 + label.1 / 2.0;
    }
    let mut edge = high + labels.last().map_or(0.0, |l| l.1 / 2.0);
    for label in labels.iter_mut().rev() {
        label.0 = label.0.min(edge - label.1 / 2.0);
        edge = label.0 - label.1 / 2.0;
    }
}

fn collect_legend(figure: &XyFigure, entries: &mut Entries) {
    let named = |label: &str, empty: bool| match (label, empty) {
        ("", _) | (_, false) => label.to_owned(),
        _ => format!("{label} (no data)"),
    };
    for series in &figure.series {
        match series {
            Series::Points(s) => {
                let colour = s.style.colour();
                let mut glyphs = Vec::new();
                if s.points.iter().any(|p| p.y_interval.is_some()) {
                    glyphs.push(Glyph::ErrorBar(colour));
                }
                let (marker, open) = (s.style.resolved_marker(), s.style.is_open());
                glyphs.push(Glyph::Marker(colour, marker, open));
                entries.add(&named(&s.label, s.points.is_empty()), s.style.slot, glyphs);
            }
            Series::Line(s) => {
                let dash = s.style.resolved_dash();
                let glyph = Glyph::Line(s.style.colour(), dash, LINE_WIDTH);
                let label = named(&s.label, s.points.is_empty());
                entries.add(&label, s.style.slot, vec![glyph]);
            }
            Series::Band(s) => {
                let label = named(&s.label, s.points.is_empty());
                entries.add(&label, s.style.slot, vec![Glyph::Band(s.style.colour())]);
            }
            Series::Reference(s) if !s.at_border => {
                let (colour, dash) = (s.style.colour(), s.style.resolved_dash());
                let glyph = match s.orientation {
                    Orientation::Horizontal => Glyph::Line(colour, dash, REFERENCE_WIDTH),
                    Orientation::Vertical => Glyph::VerticalLine(colour, dash),
                };
                entries.add(&s.label, s.style.slot, vec![glyph]);
            }
            Series::Reference(_) => {}
        }
    }
}

fn collect_censored(figure: &XyFigure, entries: &mut Entries) {
    let all = [
        Direction::Up,
        Direction::Down,
        Direction::Left,
        Direction::Right,
    ];
    if has_censored(figure, &all) {
        entries.add(
            &figure.censored_label,
            None,
            vec![Glyph::Arrow(Rgb::NEUTRAL)],
        );
    }
}

fn draw_axes(
    canvas: &mut Canvas<'_>,
    figure: &XyFigure,
    plot: Rect,
    upright: &Upright,
    across: &Across,
    report: &mut DrawReport,
) -> Result<(), FigureError> {
    let x = AxisMap::new(figure.x.scale, across.range, plot.x0, plot.x1);
    let y = AxisMap::new(figure.y.scale, upright.range, plot.y1, plot.y0);
    draw_title(
        canvas,
        &across.title,
        across.title_look,
        (plot.x0, plot.y0 - across.top),
    )?;
    let mut painter = Painter {
        canvas,
        figure,
        plot,
        x,
        y,
        report,
        ink: Vec::new(),
    };
    painter.grid(&across.ticks, &upright.ticks)?;
    for series in &figure.series {
        if let Series::Band(s) = series {
            painter.band(s)?;
        }
    }
    for series in &figure.series {
        if let Series::Reference(s) = series {
            painter.reference(s)?;
        }
    }
    for series in &figure.series {
        if let Series::Line(s) = series {
            painter.line(s)?;
        }
    }
    Surround {
        x,
        y,
        x_ticks: &across.ticks,
        y_ticks: &upright.ticks,
        x_label: &across.label,
        y_label: &upright.label,
        y_tick_width: upright.tick_width,
    }
    .draw(painter.canvas, &plot)?;
    // Above the frame, so that a point on the border is whole.
    for series in &figure.series {
        if let Series::Points(s) = series {
            painter.points(s)?;
        }
    }
    painter.border_labels()?;
    painter.annotations()
}

fn describe(figure: &XyFigure) -> String {
    let scale = |s: Scale| match s {
        Scale::Linear => "linear",
        Scale::Log10 | Scale::Log2 => "logarithmic",
    };
    let names: Vec<String> = figure
        .series
        .iter()
        .filter_map(|s| {
            let (kind, label) = match s {
                Series::Points(s) => ("points", &s.label),
                Series::Line(s) => ("line", &s.label),
                Series::Band(s) => ("band", &s.label),
                Series::Reference(s) => ("reference line", &s.label),
            };
            (!label.is_empty()).then(|| format!("{kind}: {label}"))
        })
        .chain(figure.annotations.iter().map(|a| a.text.clone()))
        .collect();
    format!(
        "Vertical axis ({}): {}. Horizontal axis ({}): {}. {}",
        scale(figure.y.scale),
        figure.y.label,
        scale(figure.x.scale),
        figure.x.label,
        names.join("; "),
    )
}

/// Counts the points that will not be drawn, before the page is laid out.
fn count_points(figure: &XyFigure, x: (f64, f64), y: (f64, f64), report: &mut DrawReport) {
    const UNIT: Rect = Rect {
        x0: 0.0,
        y0: 0.0,
        x1: 1000.0,
        y1: 1000.0,
    };
    let x = AxisMap::new(figure.x.scale, x, UNIT.x0, UNIT.x1);
    let y = AxisMap::new(figure.y.scale, y, UNIT.y0, UNIT.y1);
    for series in &figure.series {
        if let Series::Points(s) = series {
            for p in &s.points {
                match (x.at(p.x), y.at(p.y)) {
                    (Some(x), Some(y)) if UNIT.contains((x, y)) => {}
                    (Some(_), Some(_)) => report.points_outside += 1,
                    _ => report.undefined_points += 1,
                }
            }
        }
    }
}

/// Room of the footnote, with the gap above; zero if there is none.
pub(super) fn note_depth(note: &[String]) -> f64 {
    if note.is_empty() {
        0.0
    } else {
        12.0 + note.len() as f64 * NOTE * LINE_HEIGHT
    }
}

pub(super) fn note_lines(report: &DrawReport, width: f64) -> Result<Vec<String>, FigureError> {
    wrap(&report.footnote(), NOTE, Weight::Regular, width)
}

pub(super) fn draw_note(
    canvas: &mut Canvas<'_>,
    note: &[String],
    (x, top): (f64, f64),
) -> Result<(), FigureError> {
    for (i, line) in note.iter().enumerate() {
        canvas.text(
            line,
            (x, top + 12.0 + NOTE * (CAP_HEIGHT + i as f64 * LINE_HEIGHT)),
            Align::Left,
            TextLook::new(NOTE, Weight::Regular).colour(Rgb::FRAME),
        )?;
    }
    Ok(())
}

/// Draws one figure on its page.
pub(super) fn page(figure: &XyFigure) -> Result<Page, FigureError> {
    check_size("figure width", figure.width, 2.0 * LEAST_PLOT)?;
    check_size("plot height", figure.plot_height, LEAST_PLOT)?;
    let mut upright = plan_upright(figure, figure.plot_height)?;
    let look = TextLook::new(TITLE, Weight::Bold);
    let mut tries = 0;
    let (legend, beside, left, plot_width, across) = loop {
        let left = MARGIN + upright.left;
        let most = figure.width - left - MARGIN;
        let mut entries = Entries::default();
        collect_legend(figure, &mut entries);
        collect_censored(figure, &mut entries);
        let legend = match figure.legend {
            LegendPlace::Below => Legend::layout(entries, most, usize::MAX)?,
            LegendPlace::Right => Legend::layout(entries, (0.38 * figure.width).max(60.0), 1)?,
            LegendPlace::None => Legend::layout(Entries::default(), most, 1)?,
        };
        let beside = figure.legend == LegendPlace::Right && legend.height > 0.0;
        let right = if beside {
            upright.right + legend.width + MARGIN
        } else {
            upright.right
        };
        let plot_width = figure.width - left - right;
        check_size("width of the axes", plot_width, LEAST_PLOT)?;
        let across = plan_across(figure, &figure.title, look, plot_width, right)?;
        // Wide tick labels at the ends ask for wider margins, which may move ticks.
        let (before, after) = across.overhang(figure.x.scale, plot_width)?;
        tries += 1;
        if tries == TRIES || (before <= upright.left && after + EDGE <= upright.right) {
            break (legend, beside, left, plot_width, across);
        }
        upright.left = upright.left.max(before);
        upright.right = upright.right.max(after + EDGE);
    };
    let most = figure.width - left - MARGIN;
    let mut counted = DrawReport::default();
    count_points(figure, across.range, upright.range, &mut counted);
    let note = note_lines(&counted, most)?;

    let plot = Rect {
        x0: left,
        y0: MARGIN + across.top,
        x1: left + plot_width,
        y1: MARGIN + across.top + figure.plot_height,
    };
    let axes_end = plot.y1 + across.bottom;
    let content_end = if beside {
        axes_end.max(plot.y0 + legend.height)
    } else if legend.height > 0.0 {
        axes_end + LEGEND_GAP + legend.height
    } else {
        axes_end
    };
    let height = (content_end + note_depth(&note) + MARGIN).ceil();
    let description = describe(figure);
    let mut report = DrawReport::default();
    let svg = Canvas::page(
        (figure.width, height),
        &figure.title,
        &description,
        |canvas| {
            draw_axes(canvas, figure, plot, &upright, &across, &mut report)?;
            if beside {
                legend.draw(canvas, (plot.x1 + upright.right, plot.y0))?;
            } else {
                legend.draw(canvas, (plot.x0, axes_end + LEGEND_GAP))?;
            }
            draw_note(canvas, &note, (plot.x0, content_end))
        },
    )?;
    Ok(Page {
        size: (figure.width, height),
        title: figure.title.clone(),
        description,
        report,
        svg,
    })
}

/// Draws several panels on one page.
pub(super) fn grid_page(grid: &PanelGrid) -> Result<Page, FigureError> {
    if grid.panels.is_empty() || grid.columns == 0 {
        return Err(FigureError::EmptyGrid {
            title: grid.title.clone(),
            panels: grid.panels.len(),
            columns: grid.columns,
        });
    }
    check_size("figure width", grid.width, 2.0 * LEAST_PLOT)?;
    let columns = grid.columns.min(grid.panels.len());
    let rows: Vec<&[XyFigure]> = grid.panels.chunks(columns).collect();
    let mut heights = Vec::new();
    for row in &rows {
        let mut height = 0.0_f64;
        for panel in *row {
            check_size("plot height", panel.plot_height, LEAST_PLOT)?;
            height = height.max(panel.plot_height);
        }
        heights.push(height);
    }
    let mut uprights = Vec::new();
    let (mut left, mut right) = (vec![0.0_f64; columns], vec![0.0_f64; columns]);
    for (row, &height) in rows.iter().zip(&heights) {
        let mut plans = Vec::new();
        for (column, panel) in row.iter().enumerate() {
            let plan = plan_upright(panel, height)?;
            left[column] = left[column].max(plan.left);
            right[column] = right[column].max(plan.right);
            plans.push(plan);
        }
        uprights.push(plans);
    }
    let look = TextLook::new(TITLE, Weight::Bold);
    let title = wrap(&grid.title, TITLE, Weight::Bold, grid.width - 2.0 * MARGIN)?;
    let panel_look = TextLook::new(PANEL_TITLE, Weight::Bold);
    let mut tries = 0;
    let (plot_width, plans) = loop {
        let taken: f64 = left.iter().sum::<f64>() + right.iter().sum::<f64>();
        let plot_width = (grid.width - MARGIN - taken) / columns as f64;
        check_size("width of a panel", plot_width, LEAST_PLOT)?;
        let mut fits = true;
        let mut plans = Vec::new();
        for (r, row) in rows.iter().enumerate() {
            let mut line = Vec::new();
            for (column, panel) in row.iter().enumerate() {
                let name = if grid.lettered {
                    let letter = char::from(b'a' + ((r * columns + column) % 26) as u8);
                    format!("({letter}) {}", panel.title).trim_end().to_owned()
                } else {
                    panel.title.clone()
                };
                let plan = plan_across(panel, &name, panel_look, plot_width, right[column])?;
                let (before, after) = plan.overhang(panel.x.scale, plot_width)?;
                if before > left[column] || after + EDGE > right[column] {
                    fits = false;
                    left[column] = left[column].max(before);
                    right[column] = right[column].max(after + EDGE);
                }
                line.push(plan);
            }
            plans.push(line);
        }
        tries += 1;
        if fits {
            break (plot_width, plans);
        }
        if tries == TRIES {
            // The margins have grown since these plans: what is left of the axes.
            let taken: f64 = left.iter().sum::<f64>() + right.iter().sum::<f64>();
            let plot_width = (grid.width - MARGIN - taken) / columns as f64;
            check_size("width of a panel", plot_width, LEAST_PLOT)?;
            break (plot_width, plans);
        }
    };
    let mut counted = DrawReport::default();
    let mut entries = Entries::default();
    for (r, row) in rows.iter().enumerate() {
        for (column, panel) in row.iter().enumerate() {
            let (x, y) = (plans[r][column].range, uprights[r][column].range);
            count_points(panel, x, y, &mut counted);
            collect_legend(panel, &mut entries);
        }
    }
    for panel in &grid.panels {
        collect_censored(panel, &mut entries);
    }
    let legend = Legend::layout(entries, grid.width - 2.0 * MARGIN - left[0], usize::MAX)?;
    let note = note_lines(&counted, grid.width - 2.0 * MARGIN)?;

    let mut y = MARGIN + title_depth(&title, TITLE) + if title.is_empty() { 0.0 } else { 5.0 };
    let mut plots = Vec::new();
    for (r, line) in plans.iter().enumerate() {
        let top = line.iter().map(|p| p.top).fold(0.0, f64::max);
        let bottom = line.iter().map(|p| p.bottom).fold(0.0, f64::max);
        let mut x = MARGIN;
        let mut places = Vec::new();
        for column in 0..line.len() {
            x += left[column];
            places.push(Rect {
                x0: x,
                y0: y + top,
                x1: x + plot_width,
                y1: y + top + heights[r],
            });
            x += plot_width + right[column];
        }
        plots.push(places);
        y += top + heights[r] + bottom + if r + 1 < plans.len() { 22.0 } else { 0.0 };
    }
    let legend_top = y + LEGEND_GAP;
    if legend.height > 0.0 {
        y = legend_top + legend.height;
    }
    let height = (y + note_depth(&note) + MARGIN).ceil();
    let description = grid
        .panels
        .iter()
        .map(|p| format!("Panel {}. {}", p.title, describe(p)))
        .collect::<Vec<_>>()
        .join(" ");
    let mut report = DrawReport::default();
    let svg = Canvas::page((grid.width, height), &grid.title, &description, |canvas| {
        draw_title(canvas, &title, look, (MARGIN, MARGIN))?;
        for (r, row) in rows.iter().enumerate() {
            for (column, panel) in row.iter().enumerate() {
                draw_axes(
                    canvas,
                    panel,
                    plots[r][column],
                    &uprights[r][column],
                    &plans[r][column],
                    &mut report,
                )?;
            }
        }
        legend.draw(canvas, (MARGIN + left[0], legend_top))?;
        draw_note(canvas, &note, (MARGIN + left[0], y))
    })?;
    Ok(Page {
        size: (grid.width, height),
        title: grid.title.clone(),
        description,
        report,
        svg,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::model::Style;

    #[test]
    fn labels_at_the_border_do_not_touch() {
        let r = Reference::horizontal("a", Style::neutral(), 1.0);
        let mut labels = vec![
            (50.0, 15.0, &r),
            (52.0, 15.0, &r),
            (99.0, 15.0, &r),
            (98.0, 15.0, &r),
        ];
        spread(&mut labels, 0.0, 100.0);
        for w in labels.windows(2) {
            assert!(w[1].0 - w[0].0 >= 15.0 - 1e-9, "{} {}", w[0].0, w[1].0);
        }
        assert!(labels[3].0 <= 100.0);
    }
}
