//! What can go wrong between a description and a file.

use std::path::PathBuf;

/// Why a figure could not be drawn or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FigureError {
    /// An axis range that cannot be drawn.
    #[error("axis '{axis}': range {low} to {high} {reason}")]
    BadRange {
        /// Label of the axis.
        axis: String,
        /// Lower end given.
        low: f64,
        /// Upper end given.
        high: f64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Cell centres of a heat map that are not increasing, finite and, on a
    /// logarithmic axis, positive.
    #[error("axis '{axis}': cell centres {reason}")]
    BadCentres {
        /// Label of the axis.
        axis: String,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// A table whose shape does not match the cell centres.
    #[error(
        "heat map '{title}': {what} is {found}, but the cell centres ask for {expected} (rows × columns)"
    )]
    Shape {
        /// Title of the heat map.
        title: String,
        /// Which table.
        what: &'static str,
        /// Shape found.
        found: String,
        /// Shape expected.
        expected: String,
    },
    /// A width, height or scale that leaves no room to draw or is out of bounds.
    #[error("{what} is {value}: {reason}")]
    Size {
        /// Which quantity.
        what: &'static str,
        /// Its value.
        value: f64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A panel grid without panels or without columns.
    #[error("panel grid '{title}' has {panels} panels in {columns} columns; both must be positive")]
    EmptyGrid {
        /// Title of the grid.
        title: String,
        /// Number of panels.
        panels: usize,
        /// Number of columns.
        columns: usize,
    },
    /// A file stem that is empty or holds a path separator.
    #[error("file stem '{stem}': give a bare file name without a directory")]
    BadStem {
        /// The stem given.
        stem: String,
    },
    /// The embedded font could not be used.
    #[error("embedded font: {0}")]
    Font(String),
    /// The drawing library refused an element.
    #[error("drawing: {0}")]
    Backend(String),
    /// The SVG could not be turned into a PNG.
    #[error("PNG: {0}")]
    Raster(String),
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
