//! Legends: samples and texts, laid out by hand outside the axes.

use super::canvas::{Align, Canvas, Pen, TextLook};
use super::colour::Rgb;
use super::error::FigureError;
use super::font::{CAP_HEIGHT, LINE_HEIGHT, Weight, widest, wrap};
use super::model::{Dash, Marker};

/// Font size of legends.
const SIZE: f64 = 12.0;
/// Width of a sample.
const SAMPLE: f64 = 36.0;
/// Between a sample and its text.
const GAP: f64 = 8.0;
/// Between two columns.
const COLUMN_GAP: f64 = 26.0;
/// Between two rows, beyond their lines.
const ROW_GAP: f64 = 5.0;

/// What a sample shows, from the lowest layer to the highest.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Glyph {
    Band(Rgb),
    Hatch,
    HaloLine(Dash),
    Line(Rgb, Dash, f64),
    VerticalLine(Rgb, Dash),
    ErrorBar(Rgb),
    Marker(Rgb, Marker, bool),
    Arrow(Rgb),
}

impl Glyph {
    fn layer(&self) -> usize {
        match self {
            Glyph::Band(_) | Glyph::Hatch => 0,
            Glyph::HaloLine(_) | Glyph::Line(..) | Glyph::VerticalLine(..) => 1,
            Glyph::ErrorBar(_) => 2,
            Glyph::Marker(..) | Glyph::Arrow(_) => 3,
        }
    }
}

/// One entry: all that shares a label and a slot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    label: String,
    slot: Option<usize>,
    glyphs: Vec<Glyph>,
}

/// Entries in the order of their first appearance.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Entries(Vec<Entry>);

impl Entries {
    /// Adds samples to the entry of this label and slot; a new one if there is
    /// none yet, nothing if the label is empty.
    pub(super) fn add(&mut self, label: &str, slot: Option<usize>, glyphs: Vec<Glyph>) {
        if label.is_empty() {
            return;
        }
        let index = match self
            .0
            .iter()
            .position(|e| e.label == label && e.slot == slot)
        {
            Some(index) => index,
            None => {
                self.0.push(Entry {
                    label: label.to_owned(),
                    slot,
                    glyphs: Vec::new(),
                });
                self.0.len() - 1
            }
        };
        let entry = &mut self.0[index];
        for glyph in glyphs {
            if !entry.glyphs.contains(&glyph) {
                entry.glyphs.push(glyph);
            }
        }
        entry.glyphs.sort_by_key(Glyph::layer);
    }
}

struct Item {
    x: f64,
    y: f64,
    lines: Vec<String>,
    glyphs: Vec<Glyph>,
}

/// A legend with its places worked out, relative to its upper left corner.
pub(super) struct Legend {
    items: Vec<Item>,
    /// Width taken.
    pub(super) width: f64,
    /// Height taken; zero if there are no entries.
    pub(super) height: f64,
}

impl Legend {
    /// Lays entries out row by row, in as many columns (at most `columns`) as fit
    /// a width.
    pub(super) fn layout(
        entries: Entries,
        width: f64,
        columns: usize,
    ) -> Result<Legend, FigureError> {
        let room = (width - SAMPLE - GAP).max(40.0);
        let mut items = Vec::new();
        for entry in entries.0 {
            let lines = wrap(&entry.label, SIZE, Weight::Regular, room)?;
            let text = widest(&lines, SIZE, Weight::Regular)?;
            items.push((entry.glyphs, lines, SAMPLE + GAP + text));
        }
        // As many columns as fit, filled downwards so that neighbours stay together.
        let count = items.len();
        let (mut rows, mut widths) = (count, Vec::new());
        for n in (1..=count.min(columns)).rev() {
            rows = count.div_ceil(n);
            widths = vec![0.0_f64; count.div_ceil(rows)];
            for (i, (_, _, w)) in items.iter().enumerate() {
                widths[i / rows] = widths[i / rows].max(*w);
            }
            if total(&widths) <= width {
                break;
            }
        }
        let mut heights = vec![0.0_f64; rows];
        for (i, (_, lines, _)) in items.iter().enumerate() {
            heights[i % rows] = heights[i % rows].max(lines.len() as f64 * SIZE * LINE_HEIGHT);
        }
        let mut placed = Vec::new();
        for (i, (glyphs, lines, _)) in items.into_iter().enumerate() {
            let (row, column) = (i % rows, i / rows);
            placed.push(Item {
                x: widths[..column].iter().map(|w| w + COLUMN_GAP).sum(),
                y: heights[..row].iter().map(|h| h + ROW_GAP).sum(),
                lines,
                glyphs,
            });
        }
        let height = heights.iter().map(|h| h + ROW_GAP).sum::<f64>() - ROW_GAP;
        Ok(Legend {
            items: placed,
            width: total(&widths),
            height: height.max(0.0),
        })
    }

    /// Draws the legend with its upper left corner at a point.
    pub(super) fn draw(
        &self,
        canvas: &mut Canvas<'_>,
        (x, y): (f64, f64),
    ) -> Result<(), FigureError> {
        for item in &self.items {
            let (left, top) = (x + item.x, y + item.y);
            let middle = top + SIZE * LINE_HEIGHT / 2.0;
            for glyph in &item.glyphs {
                sample(canvas, glyph, (left, middle))?;
            }
            for (i, line) in item.lines.iter().enumerate() {
                let baseline = middle + SIZE * CAP_HEIGHT / 2.0 + i as f64 * SIZE * LINE_HEIGHT;
                canvas.text(
                    line,
                    (left + SAMPLE + GAP, baseline),
                    Align::Left,
                    TextLook::new(SIZE, Weight::Regular),
                )?;
            }
        }
        Ok(())
    }
}

/// Width of columns with the gaps between them.
fn total(widths: &[f64]) -> f64 {
    widths.iter().map(|w| w + COLUMN_GAP).sum::<f64>() - COLUMN_GAP
}

fn sample(
    canvas: &mut Canvas<'_>,
    glyph: &Glyph,
    (left, y): (f64, f64),
) -> Result<(), FigureError> {
    let (right, centre) = (left + SAMPLE, left + SAMPLE / 2.0);
    let ends = [(left, y), (right, y)];
    match *glyph {
        Glyph::Band(colour) => canvas.rect((left, y - 6.0), (right, y + 6.0), colour, BAND_OPACITY),
        Glyph::Hatch => {
            let (a, b) = ((left, y - 6.0), (right, y + 6.0));
            canvas.hatch(a, b, Rgb::MISSING, Rgb::HATCH)?;
            canvas.frame(a, b, Pen::new(Rgb::HATCH, 0.8))
        }
        Glyph::HaloLine(dash) => canvas.dashed(&ends, Pen::new(Rgb(0, 0, 0), LINE_WIDTH), dash),
        Glyph::Line(colour, dash, width) => canvas.dashed(&ends, Pen::new(colour, width), dash),
        Glyph::VerticalLine(colour, dash) => canvas.dashed(
            &[(centre, y - 8.0), (centre, y + 8.0)],
            Pen::new(colour, REFERENCE_WIDTH),
            dash,
        ),
        Glyph::ErrorBar(colour) => canvas.polyline(
            &[(centre, y - 7.5), (centre, y + 7.5)],
            Pen::new(colour, 1.4),
        ),
        Glyph::Marker(colour, marker, open) => {
            canvas.marker((centre, y), marker, open, MARKER_RADIUS, colour)
        }
        Glyph::Arrow(colour) => canvas.arrow((centre, y + 7.0), (centre, y - 8.0), colour),
    }
}

/// Width of the lines of series.
pub(super) const LINE_WIDTH: f64 = 2.0;
/// Width of reference lines.
pub(super) const REFERENCE_WIDTH: f64 = 1.3;
/// Half-width of symbols.
pub(super) const MARKER_RADIUS: f64 = 4.3;
/// Opacity of bands.
pub(super) const BAND_OPACITY: f64 = 0.22;

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(labels: &[&str]) -> Entries {
        let mut out = Entries::default();
        for (i, label) in labels.iter().enumerate() {
            out.add(label, Some(i), vec![Glyph::Band(Rgb::INK)]);
        }
        out
    }

    #[test]
    fn the_same_label_and_slot_is_one_entry() {
        let mut e = Entries::default();
        e.add(
            "theory",
            Some(0),
            vec![Glyph::Line(Rgb::INK, Dash::Solid, 2.0)],
        );
        e.add("theory", Some(0), vec![Glyph::Band(Rgb::INK)]);
        e.add("theory", Some(0), vec![Glyph::Band(Rgb::INK)]);
        e.add("theory", Some(1), vec![Glyph::Band(Rgb::INK)]);
        e.add("", Some(1), vec![Glyph::Band(Rgb::INK)]);
        assert_eq!(e.0.len(), 2);
        assert_eq!(e.0[0].glyphs.len(), 2);
        assert_eq!(e.0[0].glyphs[0], Glyph::Band(Rgb::INK));
    }

    #[test]
    fn layouts_fit_their_width() {
        let labels = [
            "measured",
            "theory: N* = d²/(2 ln d)",
            "a",
            "b",
            "chance level",
        ];
        for width in [120.0, 300.0, 500.0, 900.0] {
            let legend = Legend::layout(entries(&labels), width, 8).unwrap();
            assert!(legend.width <= width, "{} of {width}", legend.width);
            assert_eq!(legend.items.len(), labels.len());
            assert!(legend.height > 0.0);
        }
        let empty = Legend::layout(Entries::default(), 300.0, 8).unwrap();
        assert_eq!(empty.height, 0.0);
    }
}
