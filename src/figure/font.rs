//! The embedded font: registration with the drawing library, widths, line breaks.

use std::sync::OnceLock;

use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};

use super::error::FigureError;

/// The font-family list written into every SVG file. The embedded face comes
/// first; the ones after it share its metrics, or nearly, for viewers without it.
pub const FONT_FAMILY: &str = "DejaVu Sans, Bitstream Vera Sans, Verdana, sans-serif";

/// The licence of the embedded fonts, to be shipped with the program.
pub const FONT_LICENSE: &str = include_str!("FONT_LICENSE.md");

/// Distance between the baselines of two lines, in units of the font size.
pub(super) const LINE_HEIGHT: f64 = 1.25;

/// Height of a capital letter, in units of the font size.
pub(super) const CAP_HEIGHT: f64 = 0.73;

/// Depth of a descender, in units of the font size.
pub(super) const DESCENT: f64 = 0.24;

/// Ascent minus descent of the face, in units of its em: what the drawing
/// library takes a font size to mean.
const FACE_HEIGHT: f64 = 2384.0 / 2048.0;

/// Weight of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Labels.
    Regular,
    /// Titles.
    Bold,
}

impl Weight {
    pub(super) fn style(self) -> FontStyle {
        match self {
            Weight::Regular => FontStyle::Normal,
            Weight::Bold => FontStyle::Bold,
        }
    }
}

/// Registers the embedded faces with the drawing library, once per process.
///
/// # Errors
///
/// [`FigureError::Font`] if the faces are not valid fonts.
pub fn register_fonts() -> Result<(), FigureError> {
    static DONE: OnceLock<bool> = OnceLock::new();
    let done = *DONE.get_or_init(|| {
        let regular = register_font(FONT_FAMILY, FontStyle::Normal, dejavu::sans::regular());
        let bold = register_font(FONT_FAMILY, FontStyle::Bold, dejavu::sans::bold());
        regular.is_ok() && bold.is_ok()
    });
    if done {
        Ok(())
    } else {
        Err(FigureError::Font("the faces could not be read".into()))
    }
}

/// Width of one line of text at a font size (both in pixels).
///
/// # Errors
///
/// [`FigureError::Font`] if the embedded faces cannot be used.
pub fn text_width(text: &str, size: f64, weight: Weight) -> Result<f64, FigureError> {
    const EM: f64 = 1000.0;
    register_fonts()?;
    let font = FontDesc::new(
        FontFamily::Name(FONT_FAMILY),
        EM * FACE_HEIGHT,
        weight.style(),
    );
    let ((x0, _), (x1, _)) = font
        .layout_box(text)
        .map_err(|e| FigureError::Font(e.to_string()))?;
    Ok(f64::from(x1 - x0) * size / EM)
}

/// Breaks a text into lines no wider than `width`, at spaces where it can and
/// between characters where a single word is too wide. Line feeds are kept.
pub(super) fn wrap(
    text: &str,
    size: f64,
    weight: Weight,
    width: f64,
) -> Result<Vec<String>, FigureError> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let longer = if line.is_empty() {
                word.to_owned()
            } else {
                format!("{line} {word}")
            };
            if text_width(&longer, size, weight)? <= width {
                line = longer;
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            for c in word.chars() {
                line.push(c);
                if line.chars().count() > 1 && text_width(&line, size, weight)? > width {
                    line.pop();
                    lines.push(std::mem::replace(&mut line, c.to_string()));
                }
            }
        }
        lines.push(line);
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    Ok(lines)
}

/// Width of the widest of several lines.
pub(super) fn widest<S: AsRef<str>>(
    lines: &[S],
    size: f64,
    weight: Weight,
) -> Result<f64, FigureError> {
    let mut width = 0.0_f64;
    for line in lines {
        width = width.max(text_width(line.as_ref(), size, weight)?);
    }
    Ok(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_is_the_sum_of_the_advances() {
        // DejaVu Sans: the digit is 1303 units of 2048 wide, the space 651.
        let w = text_width("0 0", 2048.0, Weight::Regular).unwrap();
        assert!((w - (2.0 * 1303.0 + 651.0)).abs() < 5.0, "{w}");
        assert!(
            text_width("capacity", 12.0, Weight::Bold).unwrap()
                > text_width("capacity", 12.0, Weight::Regular).unwrap()
        );
    }

    #[test]
    fn wrapping_respects_the_width_and_keeps_every_word() {
        let text = "theory: N* = d² / (2 ln d), all facts recalled with probability one half";
        let lines = wrap(text, 12.0, Weight::Regular, 150.0).unwrap();
        assert!(lines.len() > 2);
        assert_eq!(lines.join(" "), text);
        for line in &lines {
            assert!(text_width(line, 12.0, Weight::Regular).unwrap() <= 150.0);
        }
    }

    #[test]
    fn a_word_wider_than_the_line_is_broken() {
        let lines = wrap("abcdefghijklmnopqrstuvwxyz", 12.0, Weight::Regular, 40.0).unwrap();
        assert!(lines.len() > 3);
        assert_eq!(lines.concat(), "abcdefghijklmnopqrstuvwxyz");
    }

    #[test]
    fn empty_text_has_no_lines() {
        assert!(wrap("", 12.0, Weight::Regular, 40.0).unwrap().is_empty());
    }
}
