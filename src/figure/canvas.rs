//! Drawing in fractional pixels: the backend knows whole ones only, so everything
//! is drawn ten times as large and the view box shrinks it.

use plotters::prelude::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontTransform, IntoFont, RGBAColor, ShapeStyle};

use super::clip::dashes;
use super::colour::Rgb;
use super::error::FigureError;
use super::font::{FONT_FAMILY, Weight, register_fonts};
use super::model::{Dash, Marker};

/// Units of the drawing per pixel of the figure.
const UNIT: f64 = 10.0;

/// Distance of the baseline from the anchor that the backend writes.
const DROP: f64 = 0.76;

/// Where a text stands with respect to its anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Centre,
    Right,
}

/// Font of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextLook {
    pub(super) size: f64,
    pub(super) weight: Weight,
    pub(super) colour: Rgb,
}

impl TextLook {
    pub(super) fn new(size: f64, weight: Weight) -> Self {
        TextLook {
            size,
            weight,
            colour: Rgb::INK,
        }
    }

    pub(super) fn colour(mut self, colour: Rgb) -> Self {
        self.colour = colour;
        self
    }
}

/// Pen of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pen {
    pub(super) colour: Rgb,
    pub(super) width: f64,
    pub(super) opacity: f64,
}

impl Pen {
    pub(super) fn new(colour: Rgb, width: f64) -> Self {
        Pen {
            colour,
            width,
            opacity: 1.0,
        }
    }

    fn style(self) -> ShapeStyle {
        ShapeStyle {
            color: rgba(self.colour, self.opacity),
            filled: false,
            stroke_width: units(self.width).max(1) as u32,
        }
    }
}

fn rgba(colour: Rgb, opacity: f64) -> RGBAColor {
    RGBAColor(colour.0, colour.1, colour.2, opacity)
}

fn fill_style(colour: Rgb, opacity: f64) -> ShapeStyle {
    ShapeStyle {
        color: rgba(colour, opacity),
        filled: true,
        stroke_width: 0,
    }
}

fn units(pixels: f64) -> i32 {
    // A float cast saturates, and a clipped coordinate is far from that.
    (pixels * UNIT).round() as i32
}

fn unit_point((x, y): (f64, f64)) -> (i32, i32) {
    (units(x), units(y))
}

fn refused(error: impl std::fmt::Display) -> FigureError {
    FigureError::Backend(error.to_string())
}

/// A page to draw on.
pub(super) struct Canvas<'a> {
    backend: SVGBackend<'a>,
}

impl Canvas<'_> {
    /// Draws a page and returns it as a complete SVG document.
    pub(super) fn page(
        (width, height): (f64, f64),
        title: &str,
        description: &str,
        draw: impl FnOnce(&mut Canvas<'_>) -> Result<(), FigureError>,
    ) -> Result<String, FigureError> {
        register_fonts()?;
        let size = (units(width) as u32, units(height) as u32);
        let mut text = String::new();
        {
            let mut canvas = Canvas {
                backend: SVGBackend::with_string(&mut text, size),
            };
            canvas.rect((0.0, 0.0), (width, height), Rgb::WHITE, 1.0)?;
            draw(&mut canvas)?;
            canvas.backend.present().map_err(refused)?;
        }
        // The backend's own root element, one line, gives way to ours.
        let body = text
            .split_once('\n')
            .map(|(_, body)| body)
            .ok_or_else(|| FigureError::Backend("the document has no body".into()))?;
        Ok(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" \
             viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"figure-title figure-desc\" \
             stroke-linejoin=\"round\">\n\
             <title id=\"figure-title\">{}</title>\n<desc id=\"figure-desc\">{}</desc>\n{body}",
            f64::from(size.0) / UNIT,
            f64::from(size.1) / UNIT,
            size.0,
            size.1,
            escape(title),
            escape(description),
        ))
    }

    /// A line through points.
    pub(super) fn polyline(&mut self, points: &[(f64, f64)], pen: Pen) -> Result<(), FigureError> {
        self.backend
            .draw_path(points.iter().copied().map(unit_point), &pen.style())
            .map_err(refused)
    }

    /// A line through points, in dashes.
    pub(super) fn dashed(
        &mut self,
        points: &[(f64, f64)],
        pen: Pen,
        dash: Dash,
    ) -> Result<(), FigureError> {
        for piece in dashes(points, dash.pattern()) {
            self.polyline(&piece, pen)?;
        }
        Ok(())
    }

    /// A filled polygon.
    pub(super) fn polygon(
        &mut self,
        points: &[(f64, f64)],
        colour: Rgb,
        opacity: f64,
    ) -> Result<(), FigureError> {
        self.backend
            .fill_polygon(
                points.iter().copied().map(unit_point),
                &fill_style(colour, opacity),
            )
            .map_err(refused)
    }

    /// A filled rectangle.
    pub(super) fn rect(
        &mut self,
        a: (f64, f64),
        b: (f64, f64),
        colour: Rgb,
        opacity: f64,
    ) -> Result<(), FigureError> {
        self.backend
            .draw_rect(
                unit_point(a),
                unit_point(b),
                &fill_style(colour, opacity),
                true,
            )
            .map_err(refused)
    }

    /// The outline of a rectangle.
    pub(super) fn frame(
        &mut self,
        a: (f64, f64),
        b: (f64, f64),
        pen: Pen,
    ) -> Result<(), FigureError> {
        // Closed beyond the first corner, so that the corner is joined.
        self.polyline(&[a, (b.0, a.1), b, (a.0, b.1), a, (b.0, a.1)], pen)
    }

    /// A filled disc.
    fn disc(&mut self, centre: (f64, f64), radius: f64, colour: Rgb) -> Result<(), FigureError> {
        self.backend
            .draw_circle(
                unit_point(centre),
                units(radius) as u32,
                &fill_style(colour, 1.0),
                true,
            )
            .map_err(refused)
    }

    /// A symbol of a given half-width, with a white halo so that symbols that
    /// touch stay apart.
    pub(super) fn marker(
        &mut self,
        (x, y): (f64, f64),
        marker: Marker,
        open: bool,
        radius: f64,
        colour: Rgb,
    ) -> Result<(), FigureError> {
        const HALO: f64 = 1.0;
        const STROKE: f64 = 1.7;
        if let Some(r) = equivalent_radius(marker, radius) {
            if marker == Marker::Circle {
                self.disc((x, y), r + HALO, Rgb::WHITE)?;
                self.disc((x, y), r, colour)?;
                if open {
                    self.disc((x, y), r - STROKE, Rgb::WHITE)?;
                }
                return Ok(());
            }
            let corners = |r: f64| -> Vec<(f64, f64)> {
                let turn = |k: f64, n: f64, start: f64| {
                    let angle = (start + 360.0 * k / n).to_radians();
                    (x + r * angle.cos(), y + r * angle.sin())
                };
                match marker {
                    Marker::Triangle => (0..3).map(|k| turn(f64::from(k), 3.0, -90.0)).collect(),
                    Marker::Diamond => (0..4).map(|k| turn(f64::from(k), 4.0, 0.0)).collect(),
                    _ => (0..4).map(|k| turn(f64::from(k), 4.0, 45.0)).collect(),
                }
            };
            // A margin along the normals is a larger one at the corners.
            let corner = match marker {
                Marker::Triangle => 2.0,
                _ => std::f64::consts::SQRT_2,
            };
            self.polygon(&corners(r + HALO * corner), Rgb::WHITE, 1.0)?;
            self.polygon(&corners(r), colour, 1.0)?;
            if open {
                self.polygon(&corners(r - STROKE * corner), Rgb::WHITE, 1.0)?;
            }
            return Ok(());
        }
        let arms: [[(f64, f64); 2]; 2] = match marker {
            Marker::Plus => {
                let r = radius * 1.15;
                [[(x - r, y), (x + r, y)], [(x, y - r), (x, y + r)]]
            }
            _ => {
                let r = radius * 0.9;
                [
                    [(x - r, y - r), (x + r, y + r)],
                    [(x - r, y + r), (x + r, y - r)],
                ]
            }
        };
        for pen in [Pen::new(Rgb::WHITE, 4.2), Pen::new(colour, 2.2)] {
            for arm in &arms {
                self.polyline(arm, pen)?;
            }
        }
        Ok(())
    }

    /// An arrow from `from` to `to`, with its head at `to`.
    pub(super) fn arrow(
        &mut self,
        from: (f64, f64),
        to: (f64, f64),
        colour: Rgb,
    ) -> Result<(), FigureError> {
        const HEAD: f64 = 7.0;
        const HALF: f64 = 3.6;
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        if length <= 0.0 {
            return Ok(());
        }
        let (ux, uy) = ((to.0 - from.0) / length, (to.1 - from.1) / length);
        let neck = (to.0 - HEAD * ux, to.1 - HEAD * uy);
        if length > HEAD {
            self.polyline(&[from, neck], Pen::new(colour, 1.6))?;
        }
        self.polygon(
            &[
                to,
                (neck.0 - HALF * uy, neck.1 + HALF * ux),
                (neck.0 + HALF * uy, neck.1 - HALF * ux),
            ],
            colour,
            1.0,
        )
    }

    /// Diagonal hatching of a rectangle on its own ground.
    pub(super) fn hatch(
        &mut self,
        a: (f64, f64),
        b: (f64, f64),
        ground: Rgb,
        colour: Rgb,
    ) -> Result<(), FigureError> {
        const STEP: f64 = 6.0;
        self.rect(a, b, ground, 1.0)?;
        // Lines of constant x + y, so that neighbouring cells continue each other.
        let mut k = ((a.0 + a.1) / STEP).ceil();
        while k * STEP < b.0 + b.1 {
            let sum = k * STEP;
            let x0 = a.0.max(sum - b.1);
            let x1 = b.0.min(sum - a.1);
            if x1 > x0 {
                self.polyline(&[(x0, sum - x0), (x1, sum - x1)], Pen::new(colour, 0.9))?;
            }
            k += 1.0;
        }
        Ok(())
    }

    /// One line of text with its baseline at `y`.
    pub(super) fn text(
        &mut self,
        text: &str,
        (x, y): (f64, f64),
        align: Align,
        look: TextLook,
    ) -> Result<(), FigureError> {
        self.write(text, (x, y - DROP * look.size), align, look, false)
    }

    /// One line of text that reads upwards, centred on `y`, with its baseline at
    /// `x`.
    pub(super) fn text_upwards(
        &mut self,
        text: &str,
        (x, y): (f64, f64),
        look: TextLook,
    ) -> Result<(), FigureError> {
        self.write(text, (x - DROP * look.size, y), Align::Centre, look, true)
    }

    fn write(
        &mut self,
        text: &str,
        anchor: (f64, f64),
        align: Align,
        look: TextLook,
        upwards: bool,
    ) -> Result<(), FigureError> {
        let mut style = (FONT_FAMILY, backend_font_size(look.size))
            .into_font()
            .style(look.weight.style())
            .color(&rgba(look.colour, 1.0))
            .pos(Pos::new(
                match align {
                    Align::Left => HPos::Left,
                    Align::Centre => HPos::Center,
                    Align::Right => HPos::Right,
                },
                VPos::Top,
            ));
        if upwards {
            style = style.transform(FontTransform::Rotate270);
        }
        // Control characters have no place in XML.
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        self.backend
            .draw_text(&text, &style, unit_point(anchor))
            .map_err(refused)
    }
}

/// Radius of the circle through the corners, such that shapes look equally large;
/// none for shapes made of strokes.
fn equivalent_radius(marker: Marker, radius: f64) -> Option<f64> {
    match marker {
        Marker::Circle => Some(radius),
        Marker::Square => Some(radius * 1.27),
        Marker::Triangle => Some(radius * 1.45),
        Marker::Diamond => Some(radius * 1.32),
        Marker::Cross | Marker::Plus => None,
    }
}

/// The size that the backend divides by 1.24 to get the one wanted, exactly.
fn backend_font_size(pixels: f64) -> f64 {
    const FACTOR: f64 = 1.24;
    let wanted = (pixels * UNIT).round();
    let guess = wanted * FACTOR;
    [guess, guess.next_up(), guess.next_down()]
        .into_iter()
        .find(|size| size / FACTOR == wanted)
        .unwrap_or(guess)
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn font_sizes_come_out_exact() {
        for size in [10.5, 11.5, 12.0, 12.5, 13.0, 15.0] {
            assert_eq!(backend_font_size(size) / 1.24, size * 10.0);
        }
    }

    #[test]
    fn the_page_is_ours() {
        let svg = Canvas::page((80.0, 40.5), "a < b", "x & y", |_| Ok(())).unwrap();
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"80\" height=\"40.5\" viewBox=\"0 0 800 405\""));
        assert!(svg.contains(">a &lt; b</title>") && svg.contains(">x &amp; y</desc>"));
        assert!(svg.trim_end().ends_with("</svg>"));
    }
}
