//! From a description to SVG text, PNG bytes and files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use resvg::{tiny_skia, usvg};
use serde::Serialize;

use super::error::FigureError;
use super::model::Figure;
use super::{heat, xy};

/// What a drawing leaves out. Everything but missing glyphs is also said in a
/// footnote of the figure.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DrawReport {
    /// Points outside a given range.
    pub points_outside: usize,
    /// Points that are not finite, or not positive on a logarithmic axis.
    pub undefined_points: usize,
    /// Cells of a heat map whose value lies beyond the colour bar.
    pub cells_beyond_colours: usize,
    /// Cell texts left out because they do not fit.
    pub texts_left_out: usize,
    /// Characters that the embedded font lacks; blank in the PNG.
    pub missing_glyphs: Vec<char>,
}

impl DrawReport {
    /// The footnote: empty if everything is drawn as it is.
    pub(super) fn footnote(&self) -> String {
        let count = |n: usize, one: &str, many: &str| match n {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{n} {many}")),
        };
        let parts: Vec<String> = [
            count(
                self.points_outside,
                "point outside the axes is not drawn",
                "points outside the axes are not drawn",
            ),
            count(
                self.undefined_points,
                "point without a place on the axes is not drawn",
                "points without a place on the axes are not drawn",
            ),
            count(
                self.cells_beyond_colours,
                "cell lies beyond the colour bar",
                "cells lie beyond the colour bar",
            ),
            count(
                self.texts_left_out,
                "cell text does not fit and is left out",
                "cell texts do not fit and are left out",
            ),
        ]
        .into_iter()
        .flatten()
        .collect();
        if parts.is_empty() {
            String::new()
        } else {
            format!("{}.", parts.join("; "))
        }
    }
}

/// A figure drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    /// The SVG document.
    pub svg: String,
    /// Its size in pixels.
    pub size: (f64, f64),
    /// Title of the figure, for an `alt` text.
    pub title: String,
    /// Axes and series in words, for readers who do not see the figure.
    pub description: String,
    /// What is not in it.
    pub report: DrawReport,
}

/// The files of a figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The SVG file.
    pub svg: PathBuf,
    /// The PNG file, at twice the size.
    pub png: PathBuf,
    /// What is not in them.
    pub report: DrawReport,
}

/// Pixels of a written PNG per pixel of the SVG.
const PNG_SCALE: f32 = 2.0;

/// Largest side of a PNG.
const LARGEST: f32 = 16_384.0;

/// Draws a figure and reports what could not be drawn.
///
/// # Errors
///
/// Any [`FigureError`] but [`FigureError::Write`]: ranges, shapes and sizes that
/// cannot be drawn.
pub fn draw(figure: &Figure) -> Result<Drawing, FigureError> {
    let page = match figure {
        Figure::Xy(f) => xy::page(f)?,
        Figure::Grid(f) => xy::grid_page(f)?,
        Figure::Heat(f) => heat::page(f)?,
    };
    let mut report = page.report;
    report.missing_glyphs = missing_glyphs(&parse(&page.svg)?);
    Ok(Drawing {
        svg: page.svg,
        size: page.size,
        title: page.title,
        description: page.description,
        report,
    })
}

/// Draws a figure as an SVG document: the same bytes for the same figure.
///
/// # Errors
///
/// As [`draw`].
pub fn render_svg(figure: &Figure) -> Result<String, FigureError> {
    Ok(draw(figure)?.svg)
}

/// Draws a figure as a PNG picture of its SVG, with `scale` pixels for each of
/// its own: the same bytes on every machine with the same arithmetic, whatever
/// fonts it has.
///
/// # Errors
///
/// As [`draw`], and [`FigureError::Size`] if the scale or the picture is out of
/// bounds.
pub fn render_png(figure: &Figure, scale: f32) -> Result<Vec<u8>, FigureError> {
    rasterise(&draw(figure)?.svg, scale)
}

fn rasterise(svg: &str, scale: f32) -> Result<Vec<u8>, FigureError> {
    let too = |reason| FigureError::Size {
        what: "PNG scale",
        value: f64::from(scale),
        reason,
    };
    if !(scale.is_finite() && scale > 0.0) {
        return Err(too("must be a positive number"));
    }
    let tree = parse(svg)?;
    let width = (tree.size().width() * scale).ceil();
    let height = (tree.size().height() * scale).ceil();
    if width.max(height) > LARGEST {
        return Err(too(
            "the picture would be wider or higher than 16384 pixels",
        ));
    }
    let mut pixels = tiny_skia::Pixmap::new(width as u32, height as u32)
        .ok_or_else(|| FigureError::Raster("the picture has no pixels".into()))?;
    pixels.fill(tiny_skia::Color::WHITE);
    resvg::render(
        &tree,
        tiny_skia::Transform::from_scale(scale, scale),
        &mut pixels.as_mut(),
    );
    pixels
        .encode_png()
        .map_err(|e| FigureError::Raster(e.to_string()))
}

/// Parses a document with the embedded fonts and no others.
fn parse(svg: &str) -> Result<usvg::Tree, FigureError> {
    static FONTS: OnceLock<Arc<usvg::fontdb::Database>> = OnceLock::new();
    let fonts = FONTS.get_or_init(|| {
        let mut fonts = usvg::fontdb::Database::new();
        fonts.load_font_data(dejavu::sans::regular().to_vec());
        fonts.load_font_data(dejavu::sans::bold().to_vec());
        fonts.set_sans_serif_family("DejaVu Sans");
        Arc::new(fonts)
    });
    let options = usvg::Options {
        font_family: "DejaVu Sans".to_owned(),
        fontdb: Arc::clone(fonts),
        ..usvg::Options::default()
    };
    usvg::Tree::from_str(svg, &options).map_err(|e| FigureError::Raster(e.to_string()))
}

/// Characters that were laid out as the empty box of the font.
fn missing_glyphs(tree: &usvg::Tree) -> Vec<char> {
    fn visit(group: &usvg::Group, out: &mut Vec<char>) {
        for node in group.children() {
            match node {
                usvg::Node::Group(inner) => visit(inner, out),
                usvg::Node::Text(text) => {
                    for glyph in text.layouted().iter().flat_map(|s| &s.positioned_glyphs) {
                        if glyph.id.0 == 0 {
                            out.extend(glyph.text.chars());
                        }
                    }
                }
                _ => {}
            }
        }
    }
    let mut out = Vec::new();
    visit(tree.root(), &mut out);
    out.sort_unstable();
    out.dedup();
    out
}

/// Writes `stem.svg` and `stem.png` (twice the size) into a directory, which is
/// made if need be. Each file appears whole or not at all, and neither appears
/// before both are complete.
///
/// # Errors
///
/// As [`draw`]; [`FigureError::BadStem`] for a stem that is no bare file name and
/// [`FigureError::Write`], naming the file, if one cannot be written.
pub fn write_figure(dir: &Path, stem: &str, figure: &Figure) -> Result<Written, FigureError> {
    if stem.is_empty() || stem.starts_with('.') || stem.contains(['/', '\\', '\0', ':']) {
        return Err(FigureError::BadStem {
            stem: stem.to_owned(),
        });
    }
    let drawing = draw(figure)?;
    let picture = rasterise(&drawing.svg, PNG_SCALE)?;
    let svg = dir.join(format!("{stem}.svg"));
    let png = dir.join(format!("{stem}.png"));
    crate::files::create_dir_all(dir).map_err(|source| FigureError::Write {
        path: dir.to_owned(),
        source,
    })?;
    let pending = [
        (stage(dir, &svg, drawing.svg.as_bytes())?, &svg),
        (stage(dir, &png, &picture)?, &png),
    ];
    for (file, path) in pending {
        file.persist(path).map_err(|e| FigureError::Write {
            path: path.clone(),
            source: e.error,
        })?;
    }
    Ok(Written {
        svg,
        png,
        report: drawing.report,
    })
}

fn stage(dir: &Path, path: &Path, bytes: &[u8]) -> Result<tempfile::NamedTempFile, FigureError> {
    crate::files::stage(dir, bytes).map_err(|source| FigureError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn footnotes_say_what_is_missing() {
        assert_eq!(DrawReport::default().footnote(), "");
        let report = DrawReport {
            points_outside: 2,
            undefined_points: 1,
            ..DrawReport::default()
        };
        assert_eq!(
            report.footnote(),
            "2 points outside the axes are not drawn; \
             1 point without a place on the axes is not drawn."
        );
    }

    #[test]
    fn scales_out_of_bounds_are_refused() {
        let svg = "<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'/>";
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e9] {
            assert!(matches!(
                rasterise(svg, scale),
                Err(FigureError::Size { .. })
            ));
        }
        assert!(rasterise(svg, 1.5).is_ok());
        assert!(matches!(
            rasterise("<svg", 1.0),
            Err(FigureError::Raster(_))
        ));
    }
}
