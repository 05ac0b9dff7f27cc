//! Figures: data in, files out; nothing is computed here.
//!
//! A figure is plain data ([`XyFigure`], [`PanelGrid`] or [`HeatMap`], all
//! serialisable) and is drawn once, as SVG; the PNG is a picture of that SVG.
//! Both are the same bytes on every machine, because the only font that is ever
//! consulted is the one embedded in the program.
//!
//! Series are told apart three times over: by a palette whose entries differ in
//! luminance, by marker shape, and by dash. Legends lie outside the axes. What
//! could not be drawn (points outside the axes, undefined values) is counted,
//! returned in a [`DrawReport`] and said in a footnote of the figure.
//!
//! ```
//! use recall_capacity::figure::{Axis, Line, Point, Points, Style, XyFigure, render_svg};
//!
//! let figure = XyFigure::new("Capacity", Axis::log2("d"), Axis::log10("N*"))
//!     .with(Points::new(
//!         "measured",
//!         Style::slot(0),
//!         vec![
//!             Point::new(64.0, 900.0).y_interval(800.0, 1020.0),
//!             Point::new(128.0, 3500.0).y_interval(3300.0, 3800.0),
//!         ],
//!     ))
//!     .with(Line::new("theory: N* = d²/4", Style::slot(1), vec![(64.0, 1024.0), (128.0, 4096.0)]));
//! let svg = render_svg(&figure.into())?;
//! assert!(svg.starts_with("<svg"));
//! # Ok::<(), recall_capacity::figure::FigureError>(())
//! ```

mod canvas;
mod clip;
mod colour;
mod error;
mod font;
mod heat;
mod legend;
mod model;
mod output;
mod scale;
mod ticks;
mod xy;

pub use clip::{Rect, clip_polygon, clip_polyline, clip_segment};
pub use colour::{ColourMap, PALETTE, Rgb};
pub use error::FigureError;
pub use font::{FONT_FAMILY, FONT_LICENSE, Weight, register_fonts, text_width};
pub use model::{
    Annotation, Axis, Band, BandPoint, CellMarks, Dash, Direction, Figure, Fill, HeatMap, Interval,
    LegendPlace, Line, Marker, Orientation, PanelGrid, Placement, Point, Points, Reference, Scale,
    Series, Style, XyFigure,
};
pub use output::{DrawReport, Drawing, Written, draw, render_png, render_svg, write_figure};
pub use scale::{AxisMap, auto_range};
pub use ticks::{Tick, TickSet, ticks, ticks_at};
