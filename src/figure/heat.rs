//! Drawing of heat maps.

use super::canvas::{Align, Canvas, Pen, TextLook};
use super::clip::{Rect, clip_polyline};
use super::colour::Rgb;
use super::error::FigureError;
use super::font::{CAP_HEIGHT, DESCENT, LINE_HEIGHT, Weight, text_width, widest, wrap};
use super::legend::{Entries, Glyph, LINE_WIDTH, Legend, MARKER_RADIUS};
use super::model::{Axis, Fill, HeatMap, Scale};
use super::output::DrawReport;
use super::scale::{AxisMap, resolve_range};
use super::ticks::{TickSet, ticks, ticks_at};
use super::xy::{
    LABEL, LABEL_GAP, LEGEND_GAP, MARGIN, Page, Surround, TICK, TICK_DROP, TICK_GAP, TICK_LENGTH,
    TITLE, across, check_size, draw_note, draw_title, label_depth, note_depth, note_lines,
    title_depth, upright,
};

/// Between the axes and the colour bar.
const BAR_GAP: f64 = 18.0;
/// Width of the colour bar.
const BAR_WIDTH: f64 = 16.0;
/// Height of the point that ends a bar with values beyond it.
const BAR_POINT: f64 = 11.0;
/// Font sizes of cell texts, largest first.
const CELL_SIZES: [f64; 6] = [12.0, 11.0, 10.0, 9.0, 8.0, 7.0];

/// Borders of cells around their centres: half-way in the coordinate of the axis.
fn borders(axis: &Axis, centres: &[f64]) -> Result<Vec<f64>, FigureError> {
    let bad = |reason| FigureError::BadCentres {
        axis: axis.label.clone(),
        reason,
    };
    if centres.is_empty() {
        return Err(bad("are missing"));
    }
    let c: Vec<f64> = centres.iter().map(|&v| axis.scale.forward(v)).collect();
    if c.iter().any(|v| !v.is_finite()) {
        return Err(bad(match axis.scale {
            Scale::Linear => "must be finite",
            _ => "must be finite and positive on a logarithmic axis",
        }));
    }
    if c.windows(2).any(|w| w[0] >= w[1]) {
        return Err(bad("must increase"));
    }
    let n = c.len();
    let mut out = Vec::with_capacity(n + 1);
    if n == 1 {
        let half = match axis.scale {
            Scale::Linear if c[0] == 0.0 => 0.5,
            Scale::Linear => 0.5 * c[0].abs(),
            _ => 0.5 * axis.scale.forward(2.0),
        };
        out.extend([c[0] - half, c[0] + half]);
    } else {
        out.push(c[0] - (c[1] - c[0]) / 2.0);
        out.extend(c.windows(2).map(|w| w[0] / 2.0 + w[1] / 2.0));
        out.push(c[n - 1] + (c[n - 1] - c[n - 2]) / 2.0);
    }
    let out: Vec<f64> = out.into_iter().map(|v| axis.scale.inverse(v)).collect();
    if out.iter().any(|&v| !axis.scale.forward(v).is_finite()) {
        return Err(bad("are too large or too small to draw"));
    }
    Ok(out)
}

fn check_shape<T>(map: &HeatMap, what: &'static str, table: &[Vec<T>]) -> Result<(), FigureError> {
    let (rows, columns) = (map.y_centres.len(), map.x_centres.len());
    let odd = table.iter().map(Vec::len).find(|&n| n != columns);
    if table.len() == rows && odd.is_none() {
        return Ok(());
    }
    Err(FigureError::Shape {
        title: map.title.clone(),
        what,
        found: format!("{} × {}", table.len(), odd.unwrap_or(columns)),
        expected: format!("{rows} × {columns}"),
    })
}

/// Ticks at the centres where these are sizes that were chosen, else round ones.
fn cell_ticks(
    axis: &Axis,
    centres: &[f64],
    range: (f64, f64),
    length: f64,
    extent: &dyn Fn(&str) -> f64,
) -> TickSet {
    let whole = centres.iter().all(|v| v.fract() == 0.0 && v.abs() < 1e5);
    let powers = centres.iter().all(|&v| v > 0.0 && v.log2().fract() == 0.0);
    if whole || powers || centres.len() <= 6 {
        ticks_at(axis.scale, centres, range, length, extent)
    } else {
        ticks(axis.scale, range.0, range.1, length, extent)
    }
}

/// The colour scale: where a value lies between the ends.
struct Colours {
    map: AxisMap,
    range: (f64, f64),
    below: usize,
    above: usize,
}

impl Colours {
    fn plan(map: &HeatMap) -> Result<Self, FigureError> {
        let values: Vec<f64> = map.values.iter().flatten().flatten().copied().collect();
        let range = resolve_range(&map.value, values.iter().copied(), 0.0)?;
        let usable = |v: &&f64| !v.is_nan();
        Ok(Colours {
            map: AxisMap::new(map.value.scale, range, 0.0, 1.0),
            range,
            below: values
                .iter()
                .filter(usable)
                .filter(|&&v| v < range.0)
                .count(),
            above: values
                .iter()
                .filter(usable)
                .filter(|&&v| v > range.1)
                .count(),
        })
    }

    fn colour(&self, map: &HeatMap, value: f64) -> Rgb {
        let fraction = self.map.at_limit(value).unwrap_or(0.0);
        map.colours.at(fraction)
    }
}

fn legend_entries(map: &HeatMap, any_missing: bool) -> Entries {
    let mut entries = Entries::default();
    for line in &map.lines {
        entries.add(
            &line.label,
            line.style.slot,
            vec![Glyph::HaloLine(line.style.resolved_dash())],
        );
    }
    for marks in &map.marks {
        entries.add(
            &marks.label,
            None,
            vec![Glyph::Marker(
                Rgb(0, 0, 0),
                marks.marker,
                marks.fill == Fill::Open,
            )],
        );
    }
    if any_missing {
        entries.add(&map.missing_label, None, vec![Glyph::Hatch]);
    }
    entries
}

/// The largest font size at which every text fits its cell.
fn cell_text_size(
    map: &HeatMap,
    widths: &[f64],
    heights: &[f64],
) -> Result<Option<f64>, FigureError> {
    'sizes: for size in CELL_SIZES {
        for (row, height) in map.cell_texts.iter().zip(heights) {
            for (text, width) in row.iter().zip(widths) {
                if !text.is_empty()
                    && (text_width(text, size, Weight::Regular)? > width - 4.0
                        || size > height - 3.0)
                {
                    continue 'sizes;
                }
            }
        }
        return Ok(Some(size));
    }
    Ok(None)
}

fn extents(edges: &[f64]) -> Vec<f64> {
    edges.windows(2).map(|w| (w[1] - w[0]).abs()).collect()
}

fn draw_bar(
    canvas: &mut Canvas<'_>,
    map: &HeatMap,
    colours: &Colours,
    bar: Rect,
    ticks: &TickSet,
    tick_width: f64,
    label: &[String],
) -> Result<(), FigureError> {
    const STEPS: usize = 128;
    let pen = Pen::new(Rgb::FRAME, 1.0);
    for i in 0..STEPS {
        let y1 = bar.y1 - bar.height() * i as f64 / STEPS as f64;
        // Each step reaches up behind the next, so that no seam shows.
        let y0 = (y1 - bar.height() * 2.0 / STEPS as f64).max(bar.y0);
        let colour = map.colours.at((i as f64 + 0.5) / STEPS as f64);
        canvas.rect((bar.x0, y0), (bar.x1, y1), colour, 1.0)?;
    }
    let centre = (bar.x0 + bar.x1) / 2.0;
    let mut outline = vec![(bar.x0, bar.y1), (bar.x0, bar.y0)];
    if colours.above > 0 {
        let tip = (centre, bar.y0 - BAR_POINT);
        canvas.polygon(
            &[(bar.x0, bar.y0), tip, (bar.x1, bar.y0)],
            map.colours.at(1.0),
            1.0,
        )?;
        outline.push(tip);
    }
    outline.extend([(bar.x1, bar.y0), (bar.x1, bar.y1)]);
    if colours.below > 0 {
        let tip = (centre, bar.y1 + BAR_POINT);
        canvas.polygon(
            &[(bar.x0, bar.y1), tip, (bar.x1, bar.y1)],
            map.colours.at(0.0),
            1.0,
        )?;
        outline.push(tip);
    }
    outline.extend([(bar.x0, bar.y1), (bar.x0, bar.y0)]);
    canvas.polyline(&outline, pen)?;
    let axis = AxisMap::new(map.value.scale, colours.range, bar.y1, bar.y0);
    for y in ticks.minor.iter().filter_map(|&v| axis.at(v)) {
        canvas.polyline(&[(bar.x1, y), (bar.x1 + TICK_LENGTH * 0.55, y)], pen)?;
    }
    for tick in &ticks.major {
        let Some(y) = axis.at(tick.value) else {
            continue;
        };
        canvas.polyline(&[(bar.x1, y), (bar.x1 + TICK_LENGTH, y)], pen)?;
        canvas.text(
            &tick.label,
            (bar.x1 + TICK_LENGTH + TICK_GAP, y + TICK * CAP_HEIGHT / 2.0),
            Align::Left,
            TextLook::new(TICK, Weight::Regular),
        )?;
    }
    let first = bar.x1 + TICK_LENGTH + TICK_GAP + tick_width + LABEL_GAP + LABEL * CAP_HEIGHT;
    for (i, line) in label.iter().enumerate() {
        canvas.text_upwards(
            line,
            (
                first + i as f64 * LABEL * LINE_HEIGHT,
                (bar.y0 + bar.y1) / 2.0,
            ),
            TextLook::new(LABEL, Weight::Regular),
        )?;
    }
    Ok(())
}

/// Draws a heat map on its page.
pub(super) fn page(map: &HeatMap) -> Result<Page, FigureError> {
    check_size("figure width", map.width, 120.0)?;
    check_size("plot height", map.plot_height, 60.0)?;
    let x_borders = borders(&map.x, &map.x_centres)?;
    let y_borders = borders(&map.y, &map.y_centres)?;
    check_shape(map, "table of values", &map.values)?;
    if !map.cell_texts.is_empty() {
        check_shape(map, "table of cell texts", &map.cell_texts)?;
    }
    let outer = |b: &[f64]| (b[0], b[b.len() - 1]);
    let (x_range, y_range) = (outer(&x_borders), outer(&y_borders));
    let colours = Colours::plan(map)?;

    let y_ticks = cell_ticks(&map.y, &map.y_centres, y_range, map.plot_height, &upright);
    let names: Vec<&str> = y_ticks.major.iter().map(|t| t.label.as_str()).collect();
    let y_tick_width = widest(&names, TICK, Weight::Regular)?;
    let y_label = wrap(&map.y.label, LABEL, Weight::Regular, map.plot_height)?;
    let left = MARGIN + label_depth(&y_label) + y_tick_width + TICK_GAP + TICK_LENGTH;

    let bar_inset = |n: usize| if n > 0 { BAR_POINT } else { 0.0 };
    let bar_height = map.plot_height - bar_inset(colours.above) - bar_inset(colours.below);
    let bar_ticks = ticks(
        map.value.scale,
        colours.range.0,
        colours.range.1,
        bar_height,
        &upright,
    );
    let names: Vec<&str> = bar_ticks.major.iter().map(|t| t.label.as_str()).collect();
    let bar_tick_width = widest(&names, TICK, Weight::Regular)?;
    let bar_label = wrap(&map.value.label, LABEL, Weight::Regular, map.plot_height)?;
    let right = BAR_GAP
        + BAR_WIDTH
        + TICK_LENGTH
        + TICK_GAP
        + bar_tick_width
        + label_depth(&bar_label)
        + MARGIN;

    let plot_width = (map.width - left - right).floor();
    check_size("width of the axes", plot_width, 60.0)?;
    let x_ticks = cell_ticks(&map.x, &map.x_centres, x_range, plot_width, &across);
    let x_label = wrap(&map.x.label, LABEL, Weight::Regular, plot_width)?;
    let title = wrap(&map.title, TITLE, Weight::Bold, map.width - left - MARGIN)?;

    let any_missing = map.values.iter().enumerate().any(|(row, values)| {
        values
            .iter()
            .enumerate()
            .any(|(column, v)| v.is_none_or(f64::is_nan) && !map.blank.contains(&(row, column)))
    });
    let most = map.width - left - MARGIN;
    let legend = Legend::layout(legend_entries(map, any_missing), most, usize::MAX)?;

    // Whole pixels, so that cells meet without seams.
    let x0 = left.round();
    let y0 = (MARGIN + title_depth(&title, TITLE)).round();
    let plot = Rect {
        x0,
        y0,
        x1: x0 + plot_width,
        y1: y0 + map.plot_height.round(),
    };
    let x = AxisMap::new(map.x.scale, x_range, plot.x0, plot.x1);
    let y = AxisMap::new(map.y.scale, y_range, plot.y1, plot.y0);
    let snap = |axis: &AxisMap, b: &[f64]| -> Vec<f64> {
        b.iter()
            .map(|&v| axis.at(v).unwrap_or(0.0).round())
            .collect()
    };
    let (x_edges, y_edges) = (snap(&x, &x_borders), snap(&y, &y_borders));

    let mut report = DrawReport {
        cells_beyond_colours: colours.below + colours.above,
        ..DrawReport::default()
    };
    let text_size = cell_text_size(map, &extents(&x_edges), &extents(&y_edges))?;
    if text_size.is_none() {
        report.texts_left_out = map
            .cell_texts
            .iter()
            .flatten()
            .filter(|t| !t.is_empty())
            .count();
    }
    let note = note_lines(&report, most)?;

    let axes_end =
        plot.y1 + TICK_LENGTH + TICK_DROP + TICK * CAP_HEIGHT + label_depth(&x_label).max(4.0);
    let content_end = if legend.height > 0.0 {
        axes_end + LEGEND_GAP + legend.height
    } else {
        axes_end
    };
    let height = (content_end + note_depth(&note) + MARGIN).ceil();
    let lines: Vec<&str> = map.lines.iter().map(|l| l.label.as_str()).collect();
    let description = format!(
        "Colours: {}. Vertical axis: {}. Horizontal axis: {}. {}",
        map.value.label,
        map.y.label,
        map.x.label,
        lines.join("; "),
    );
    let svg = Canvas::page((map.width, height), &map.title, &description, |canvas| {
        draw_title(
            canvas,
            &title,
            TextLook::new(TITLE, Weight::Bold),
            (plot.x0, MARGIN),
        )?;
        for (row, values) in map.values.iter().enumerate() {
            for (column, value) in values.iter().enumerate() {
                let a = (x_edges[column], y_edges[row + 1]);
                let b = (x_edges[column + 1], y_edges[row]);
                match value.filter(|v| !v.is_nan()) {
                    // Half a pixel beyond, hidden by the next cell or the frame.
                    Some(v) => canvas.rect(
                        (a.0, (a.1 - 0.5).max(plot.y0)),
                        ((b.0 + 0.5).min(plot.x1), b.1),
                        colours.colour(map, v),
                        1.0,
                    )?,
                    None if map.blank.contains(&(row, column)) => {}
                    None => canvas.hatch(a, b, Rgb::MISSING, Rgb::HATCH)?,
                }
            }
        }
        draw_marks(canvas, map, (&x, &x_edges), (&y, &y_edges))?;
        if let Some(size) = text_size {
            draw_texts(canvas, map, &colours, (&x_edges, &y_edges), size)?;
        }
        for line in &map.lines {
            let path: Vec<Option<(f64, f64)>> = line
                .points
                .iter()
                .map(|&(px, py)| Some((x.at(px)?, y.at(py)?)))
                .collect();
            let pieces = clip_polyline(&path, &plot);
            let mut halo = Pen::new(Rgb::WHITE, LINE_WIDTH + 3.0);
            halo.opacity = 0.9;
            for piece in &pieces {
                canvas.polyline(piece, halo)?;
            }
            for piece in &pieces {
                let pen = Pen::new(Rgb(0, 0, 0), LINE_WIDTH);
                canvas.dashed(piece, pen, line.style.resolved_dash())?;
            }
        }
        Surround {
            x,
            y,
            x_ticks: &x_ticks,
            y_ticks: &y_ticks,
            x_label: &x_label,
            y_label: &y_label,
            y_tick_width,
        }
        .draw(canvas, &plot)?;
        let bar = Rect {
            x0: plot.x1 + BAR_GAP,
            y0: plot.y0 + bar_inset(colours.above),
            x1: plot.x1 + BAR_GAP + BAR_WIDTH,
            y1: plot.y1 - bar_inset(colours.below),
        };
        draw_bar(
            canvas,
            map,
            &colours,
            bar,
            &bar_ticks,
            bar_tick_width,
            &bar_label,
        )?;
        legend.draw(canvas, (plot.x0, axes_end + LEGEND_GAP))?;
        draw_note(canvas, &note, (plot.x0, content_end))
    })?;
    Ok(Page {
        size: (map.width, height),
        title: map.title.clone(),
        description,
        report,
        svg,
    })
}

fn draw_marks(
    canvas: &mut Canvas<'_>,
    map: &HeatMap,
    (x, x_edges): (&AxisMap, &[f64]),
    (y, y_edges): (&AxisMap, &[f64]),
) -> Result<(), FigureError> {
    for marks in &map.marks {
        for &(row, column) in &marks.cells {
            if row + 1 >= y_edges.len() || column + 1 >= x_edges.len() {
                return Err(FigureError::Shape {
                    title: map.title.clone(),
                    what: "cell of a mark",
                    found: format!("{row} × {column}"),
                    expected: format!("less than {} × {}", y_edges.len() - 1, x_edges.len() - 1),
                });
            }
            let width = x_edges[column + 1] - x_edges[column];
            let height = y_edges[row] - y_edges[row + 1];
            // A text shares the cell: the symbol moves up.
            let shared = map
                .cell_texts
                .get(row)
                .and_then(|r| r.get(column))
                .is_some_and(|t| !t.is_empty());
            // Alone it stands at the sizes of the cell, where the ticks are: cells are not
            // symmetric about them if the sizes are uneven.
            let middle = (
                x_edges[column] + width / 2.0,
                y_edges[row + 1] + height * if shared { 0.3 } else { 0.5 },
            );
            let centre = if shared {
                middle
            } else {
                (
                    x.at(map.x_centres[column]).unwrap_or(middle.0),
                    y.at(map.y_centres[row]).unwrap_or(middle.1),
                )
            };
            let room = if shared {
                width.min(height / 2.0) / 2.0
            } else {
                (centre.0 - x_edges[column])
                    .min(x_edges[column + 1] - centre.0)
                    .min(centre.1 - y_edges[row + 1])
                    .min(y_edges[row] - centre.1)
            };
            let room = (room - 2.0).max(1.5);
            let radius = MARKER_RADIUS.min(room);
            canvas.marker_halo(centre, marks.marker, radius)?;
            canvas.marker(
                centre,
                marks.marker,
                marks.fill == Fill::Open,
                radius,
                Rgb(0, 0, 0),
            )?;
        }
    }
    Ok(())
}

fn draw_texts(
    canvas: &mut Canvas<'_>,
    map: &HeatMap,
    colours: &Colours,
    (x_edges, y_edges): (&[f64], &[f64]),
    size: f64,
) -> Result<(), FigureError> {
    for (row, texts) in map.cell_texts.iter().enumerate() {
        for (column, text) in texts.iter().enumerate() {
            if text.is_empty() {
                continue;
            }
            let value = map.values[row][column].filter(|v| !v.is_nan());
            let ground = value.map_or(Rgb::MISSING, |v| colours.colour(map, v));
            let shared = map.marks.iter().any(|m| m.cells.contains(&(row, column)));
            let (top, bottom) = (y_edges[row + 1], y_edges[row]);
            let middle = top + (bottom - top) * if shared { 0.72 } else { 0.5 };
            let baseline = (middle + size * CAP_HEIGHT / 2.0).min(bottom - size * DESCENT / 2.0);
            let centre = (x_edges[column] + x_edges[column + 1]) / 2.0;
            if value.is_none() {
                // Off the hatching.
                let half = text_width(text, size, Weight::Regular)? / 2.0 + 3.0;
                canvas.rect(
                    (centre - half, middle - size * 0.65),
                    (centre + half, middle + size * 0.65),
                    Rgb::MISSING,
                    1.0,
                )?;
            }
            canvas.text(
                text,
                (centre, baseline),
                Align::Centre,
                TextLook::new(size, Weight::Regular).colour(ground.contrasting()),
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_lie_half_way_on_the_scale() {
        let b = borders(&Axis::log2("d"), &[16.0, 64.0, 256.0]).unwrap();
        let expected = [8.0, 32.0, 128.0, 512.0];
        for (b, e) in b.iter().zip(expected) {
            assert!((b / e - 1.0).abs() < 1e-12);
        }
        assert_eq!(
            borders(&Axis::linear("k"), &[1.0, 2.0]).unwrap(),
            [0.5, 1.5, 2.5]
        );
        assert_eq!(borders(&Axis::linear("k"), &[4.0]).unwrap(), [2.0, 6.0]);
    }

    #[test]
    fn bad_centres_are_refused() {
        for centres in [&[][..], &[2.0, 1.0], &[0.0, 1.0], &[1.0, f64::NAN]] {
            let error = borders(&Axis::log10("N"), centres).unwrap_err();
            assert!(error.to_string().contains("'N'"), "{error}");
        }
    }
}
