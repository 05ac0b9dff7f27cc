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

/// What the backend divides a font size by.
const BACKEND_SIZE: f64 = 1.24;

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
            .map(|(_, body)| tidy_font_sizes(body))
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

    /// A symbol of a given half-width.
    pub(super) fn marker(
        &mut self,
        at: (f64, f64),
        marker: Marker,
        open: bool,
        radius: f64,
        colour: Rgb,
    ) -> Result<(), FigureError> {
        const STROKE: f64 = 1.7;
        self.shape(at, marker, radius, 0.0, colour)?;
        if open {
            self.shape(at, marker, radius, -STROKE, Rgb::WHITE)?;
        }
        Ok(())
    }

    /// The white rim of a symbol, which keeps symbols that touch apart.
    pub(super) fn marker_halo(
        &mut self,
        at: (f64, f64),
        marker: Marker,
        radius: f64,
    ) -> Result<(), FigureError> {
        const HALO: f64 = 1.0;
        self.shape(at, marker, radius, HALO, Rgb::WHITE)
    }

    /// The outline of a symbol moved outwards by a distance, filled.
    fn shape(
        &mut self,
        (x, y): (f64, f64),
        marker: Marker,
        radius: f64,
        outwards: f64,
        colour: Rgb,
    ) -> Result<(), FigureError> {
        let polygon = |n: u32, start: f64, r: f64| -> Vec<(f64, f64)> {
            (0..n)
                .map(|k| {
                    let angle = (start + 360.0 * f64::from(k) / f64::from(n)).to_radians();
                    (x + r * angle.cos(), y + r * angle.sin())
                })
                .collect()
        };
        // Radii of the corners, such that the shapes look equally large. A distance
        // along the sides' normals is a larger one at the corners.
        let square = std::f64::consts::SQRT_2 * outwards;
        let arm = radius + outwards / 2.0;
        let arms = match marker {
            Marker::Circle => return self.disc((x, y), radius + outwards, colour),
            Marker::Square => {
                return self.polygon(&polygon(4, 45.0, radius * 1.27 + square), colour, 1.0);
            }
            Marker::Diamond => {
                return self.polygon(&polygon(4, 0.0, radius * 1.32 + square), colour, 1.0);
            }
            Marker::Triangle => {
                let r = radius * 1.45 + 2.0 * outwards;
                return self.polygon(&polygon(3, -90.0, r), colour, 1.0);
            }
            // Strokes have no inside.
            Marker::Cross | Marker::Plus if outwards < 0.0 => return Ok(()),
            Marker::Plus => {
                let r = arm * 1.15;
                [[(x - r, y), (x + r, y)], [(x, y - r), (x, y + r)]]
            }
            Marker::Cross => {
                let r = arm * 0.9;
                [
                    [(x - r, y - r), (x + r, y + r)],
                    [(x - r, y + r), (x + r, y - r)],
                ]
            }
        };
        for arm in &arms {
            self.polyline(arm, Pen::new(colour, 2.2 + 2.0 * outwards))?;
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
        let mut style = (FONT_FAMILY, look.size * UNIT * BACKEND_SIZE)
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

/// Rounds the font sizes, which the backend writes as a quotient.
fn tidy_font_sizes(body: &str) -> String {
    const KEY: &str = "font-size=\"";
    let mut out = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(start) = rest.find(KEY) {
        let (head, tail) = rest.split_at(start + KEY.len());
        let end = tail.find('"').unwrap_or(0);
        out.push_str(head);
        match tail[..end].parse::<f64>() {
            Ok(size) => out.push_str(&size.round().to_string()),
            Err(_) => out.push_str(&tail[..end]),
        }
        rest = &tail[end..];
    }
    out.push_str(rest);
    out
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
    fn font_sizes_are_round() {
        let body = "<text font-size=\"119.99999999999999\" x=\"1\">font-size=</text>";
        assert_eq!(
            tidy_font_sizes(body),
            "<text font-size=\"120\" x=\"1\">font-size=</text>"
        );
    }

    #[test]
    fn the_page_is_ours() {
        let svg = Canvas::page((80.0, 40.5), "a < b", "x & y", |_| Ok(())).unwrap();
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"80\" height=\"40.5\" viewBox=\"0 0 800 405\""));
        assert!(svg.contains(">a &lt; b</title>") && svg.contains(">x &amp; y</desc>"));
        assert!(svg.trim_end().ends_with("</svg>"));
    }
}
