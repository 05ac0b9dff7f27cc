//! Descriptions of figures: plain data.

use serde::{Deserialize, Serialize};

use super::colour::{ColourMap, PALETTE, Rgb};

/// How values are placed along an axis or a colour bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// In proportion.
    #[default]
    Linear,
    /// By logarithm, with decimal ticks.
    Log10,
    /// By logarithm, with ticks at powers of two.
    Log2,
}

/// An axis or a colour bar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// Label, in Unicode: `"N* (facts)"`.
    pub label: String,
    /// Placement of values.
    pub scale: Scale,
    /// Lowest and highest value shown; taken from the data when `None`.
    #[serde(default)]
    pub range: Option<(f64, f64)>,
}

impl Axis {
    fn new(label: impl Into<String>, scale: Scale) -> Self {
        Axis {
            label: label.into(),
            scale,
            range: None,
        }
    }

    /// A linear axis.
    pub fn linear(label: impl Into<String>) -> Self {
        Axis::new(label, Scale::Linear)
    }

    /// A logarithmic axis with decimal ticks.
    pub fn log10(label: impl Into<String>) -> Self {
        Axis::new(label, Scale::Log10)
    }

    /// A logarithmic axis with ticks at powers of two.
    pub fn log2(label: impl Into<String>) -> Self {
        Axis::new(label, Scale::Log2)
    }

    /// With a given range.
    #[must_use]
    pub fn range(mut self, low: f64, high: f64) -> Self {
        self.range = Some((low, high));
        self
    }
}

/// Shape of the symbol at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Marker {
    /// ●
    Circle,
    /// ■
    Square,
    /// ▲
    Triangle,
    /// ◆
    Diamond,
    /// ×
    Cross,
    /// +
    Plus,
}

/// Whether a symbol is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// In the colour of the series.
    Filled,
    /// White inside.
    Open,
}

/// Pattern of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dash {
    /// Unbroken.
    Solid,
    /// Long dashes.
    Dashed,
    /// Dots.
    Dotted,
    /// Dashes and dots in turn.
    DashDot,
}

impl Dash {
    /// Drawn and empty lengths in turn, in pixels.
    pub(super) fn pattern(self) -> &'static [f64] {
        match self {
            Dash::Solid => &[],
            Dash::Dashed => &[7.0, 4.0],
            Dash::Dotted => &[2.0, 3.0],
            Dash::DashDot => &[8.0, 3.0, 2.0, 3.0],
        }
    }
}

/// How a series looks. Everything follows from the slot unless it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Style {
    /// Which colour and, by default, which marker and dash; series that belong
    /// together share a slot. `None` is dark grey.
    pub slot: Option<usize>,
    /// Shape of the points.
    pub marker: Option<Marker>,
    /// Filled or open points.
    pub fill: Option<Fill>,
    /// Pattern of the line.
    pub dash: Option<Dash>,
}

impl Style {
    /// The style of a slot, counted from zero.
    #[must_use]
    pub fn slot(slot: usize) -> Self {
        Style {
            slot: Some(slot),
            ..Style::default()
        }
    }

    /// Dark grey: for references that belong to no series.
    #[must_use]
    pub fn neutral() -> Self {
        Style::default()
    }

    /// With a given marker.
    #[must_use]
    pub fn marker(mut self, marker: Marker) -> Self {
        self.marker = Some(marker);
        self
    }

    /// With open points.
    #[must_use]
    pub fn open(mut self) -> Self {
        self.fill = Some(Fill::Open);
        self
    }

    /// With a given dash.
    #[must_use]
    pub fn dash(mut self, dash: Dash) -> Self {
        self.dash = Some(dash);
        self
    }

    pub(super) fn colour(&self) -> Rgb {
        self.slot
            .map_or(Rgb::NEUTRAL, |s| PALETTE[s % PALETTE.len()])
    }

    pub(super) fn resolved_marker(&self) -> Marker {
        const MARKERS: [Marker; 6] = [
            Marker::Circle,
            Marker::Square,
            Marker::Triangle,
            Marker::Diamond,
            Marker::Cross,
            Marker::Plus,
        ];
        self.marker
            .unwrap_or(MARKERS[self.slot.unwrap_or(0) % MARKERS.len()])
    }

    pub(super) fn is_open(&self) -> bool {
        match self.fill {
            Some(fill) => fill == Fill::Open,
            None => self.slot.is_some_and(|s| (s / PALETTE.len()) % 2 == 1),
        }
    }

    pub(super) fn resolved_dash(&self) -> Dash {
        const DASHES: [Dash; 4] = [Dash::Solid, Dash::Dashed, Dash::DashDot, Dash::Dotted];
        self.dash
            .unwrap_or(self.slot.map_or(Dash::Dashed, |s| DASHES[s % DASHES.len()]))
    }
}

/// Ends of an error bar, as values on the axis (not distances from the point). An
/// infinite end, or an end at or below zero on a logarithmic axis, is drawn to
/// the border of the axes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// On which side of a censored point the truth lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Above: the value is a lower bound.
    Up,
    /// Below: the value is an upper bound.
    Down,
    /// To the left.
    Left,
    /// To the right.
    Right,
}

/// A measured point.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Abscissa.
    pub x: f64,
    /// Ordinate; for a censored point, the bound.
    pub y: f64,
    /// Vertical error bar.
    #[serde(default)]
    pub y_interval: Option<Interval>,
    /// Horizontal error bar.
    #[serde(default)]
    pub x_interval: Option<Interval>,
    /// Set if only a bound is known: drawn open, with an arrow. An automatic range
    /// leaves room for the arrow; a given one should, too.
    #[serde(default)]
    pub censored: Option<Direction>,
}

impl Point {
    /// A point without error bars.
    #[must_use]
    pub fn new(x: f64, y: f64) -> Self {
        Point {
            x,
            y,
            y_interval: None,
            x_interval: None,
            censored: None,
        }
    }

    /// With a vertical error bar from `low` to `high`.
    #[must_use]
    pub fn y_interval(mut self, low: f64, high: f64) -> Self {
        self.y_interval = Some(Interval { low, high });
        self
    }

    /// With a horizontal error bar from `low` to `high`.
    #[must_use]
    pub fn x_interval(mut self, low: f64, high: f64) -> Self {
        self.x_interval = Some(Interval { low, high });
        self
    }

    /// As a bound: the truth lies in this direction.
    #[must_use]
    pub fn censored(mut self, direction: Direction) -> Self {
        self.censored = Some(direction);
        self
    }
}

/// Measured points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Points {
    /// Text in the legend; none if empty.
    pub label: String,
    /// Look.
    pub style: Style,
    /// The points.
    pub points: Vec<Point>,
}

impl Points {
    /// Points with a legend text.
    pub fn new(label: impl Into<String>, style: Style, points: Vec<Point>) -> Self {
        Points {
            label: label.into(),
            style,
            points,
        }
    }
}

/// A line through given points, straight between them on the page. A point that
/// is undefined on its axes breaks the line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Text in the legend, naming the formula; none if empty.
    pub label: String,
    /// Look.
    pub style: Style,
    /// The points.
    pub points: Vec<(f64, f64)>,
}

impl Line {
    /// A line with a legend text.
    pub fn new(label: impl Into<String>, style: Style, points: Vec<(f64, f64)>) -> Self {
        Line {
            label: label.into(),
            style,
            points,
        }
    }
}

/// Lower and upper limit at one abscissa.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BandPoint {
    /// Abscissa.
    pub x: f64,
    /// Lower limit.
    pub low: f64,
    /// Upper limit.
    pub high: f64,
}

impl BandPoint {
    /// Limits at one abscissa.
    #[must_use]
    pub fn new(x: f64, low: f64, high: f64) -> Self {
        BandPoint { x, low, high }
    }
}

/// A shaded region between two lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// Text in the legend; none if empty. A line with the same label and slot
    /// shares the entry.
    pub label: String,
    /// Look: only the colour matters.
    pub style: Style,
    /// The limits, by increasing abscissa.
    pub points: Vec<BandPoint>,
}

impl Band {
    /// A band with a legend text.
    pub fn new(label: impl Into<String>, style: Style, points: Vec<BandPoint>) -> Self {
        Band {
            label: label.into(),
            style,
            points,
        }
    }
}

/// Direction of a reference line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Orientation {
    /// At one ordinate.
    Horizontal,
    /// At one abscissa.
    Vertical,
}

/// A straight line across the axes at one value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Text at the border or in the legend; none if empty.
    pub label: String,
    /// Look.
    pub style: Style,
    /// Direction.
    pub orientation: Orientation,
    /// Value on the axis that it crosses.
    pub value: f64,
    /// Whether the label stands at the border of the axes (short labels) or in
    /// the legend.
    #[serde(default)]
    pub at_border: bool,
}

impl Reference {
    /// A horizontal line, labelled in the legend.
    pub fn horizontal(label: impl Into<String>, style: Style, value: f64) -> Self {
        Reference {
            label: label.into(),
            style,
            orientation: Orientation::Horizontal,
            value,
            at_border: false,
        }
    }

    /// A vertical line, labelled in the legend.
    pub fn vertical(label: impl Into<String>, style: Style, value: f64) -> Self {
        Reference {
            orientation: Orientation::Vertical,
            ..Reference::horizontal(label, style, value)
        }
    }

    /// With the label at the border of the axes.
    #[must_use]
    pub fn at_border(mut self) -> Self {
        self.at_border = true;
        self
    }
}

/// One layer of a figure. Bands lie below lines, lines below points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Series {
    /// Measured points.
    Points(Points),
    /// A line.
    Line(Line),
    /// A shaded region.
    Band(Band),
    /// A reference line.
    Reference(Reference),
}

impl From<Points> for Series {
    fn from(s: Points) -> Self {
        Series::Points(s)
    }
}

impl From<Line> for Series {
    fn from(s: Line) -> Self {
        Series::Line(s)
    }
}

impl From<Band> for Series {
    fn from(s: Band) -> Self {
        Series::Band(s)
    }
}

impl From<Reference> for Series {
    fn from(s: Reference) -> Self {
        Series::Reference(s)
    }
}

/// Where a text stands inside the axes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Where the fewest data are; corners first.
    #[default]
    Auto,
    /// Upper left corner.
    TopLeft,
    /// Upper right corner.
    TopRight,
    /// Lower left corner.
    BottomLeft,
    /// Lower right corner.
    BottomRight,
    /// Centred on a point given in data coordinates, kept inside the axes.
    At {
        /// Abscissa.
        x: f64,
        /// Ordinate.
        y: f64,
    },
}

/// A text inside the axes, such as a fitted slope; `\n` starts a new line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// The text.
    pub text: String,
    /// Its place.
    #[serde(default)]
    pub placement: Placement,
}

/// Where the legend stands, always outside the axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegendPlace {
    /// Below the axes, in columns.
    #[default]
    Below,
    /// To the right, in one column.
    Right,
    /// Nowhere.
    None,
}

const fn default_width() -> f64 {
    800.0
}

const fn default_plot_height() -> f64 {
    360.0
}

fn default_censored_label() -> String {
    "arrow: only a bound is known".to_owned()
}

fn default_missing_label() -> String {
    "not measured".to_owned()
}

/// Points, lines and bands over two axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct XyFigure {
    /// Title.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Layers.
    #[serde(default)]
    pub series: Vec<Series>,
    /// Texts inside the axes.
    #[serde(default)]
    pub annotations: Vec<Annotation>,
    /// Place of the legend (a panel grid has its own).
    #[serde(default)]
    pub legend: LegendPlace,
    /// Legend text for the arrows of censored points.
    #[serde(default = "default_censored_label")]
    pub censored_label: String,
    /// Width of the file in pixels (a panel grid has its own).
    #[serde(default = "default_width")]
    pub width: f64,
    /// Height of the axes in pixels; the height of the file follows.
    #[serde(default = "default_plot_height")]
    pub plot_height: f64,
}

impl XyFigure {
    /// An empty figure.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        XyFigure {
            title: title.into(),
            x,
            y,
            series: Vec::new(),
            annotations: Vec::new(),
            legend: LegendPlace::default(),
            censored_label: default_censored_label(),
            width: default_width(),
            plot_height: default_plot_height(),
        }
    }

    /// With one more layer.
    #[must_use]
    pub fn with(mut self, series: impl Into<Series>) -> Self {
        self.series.push(series.into());
        self
    }

    /// With a text inside the axes.
    #[must_use]
    pub fn annotate(mut self, text: impl Into<String>, placement: Placement) -> Self {
        self.annotations.push(Annotation {
            text: text.into(),
            placement,
        });
        self
    }

    /// With the legend elsewhere.
    #[must_use]
    pub fn legend(mut self, legend: LegendPlace) -> Self {
        self.legend = legend;
        self
    }

    /// With a given width of the file and height of the axes, in pixels.
    #[must_use]
    pub fn size(mut self, width: f64, plot_height: f64) -> Self {
        self.width = width;
        self.plot_height = plot_height;
        self
    }
}

/// Several figures in one file, with one legend. Entries of the same label and
/// slot appear once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PanelGrid {
    /// Title above all panels; none if empty.
    pub title: String,
    /// Panels, row by row. Their own width and legend place are not used; the
    /// tallest of a row sets its height.
    pub panels: Vec<XyFigure>,
    /// Panels in a row.
    pub columns: usize,
    /// Whether panel titles begin with (a), (b), …
    pub lettered: bool,
    /// Width of the file in pixels.
    pub width: f64,
}

impl PanelGrid {
    /// A grid with lettered panels, 800 pixels wide for up to two columns and
    /// 960 beyond.
    pub fn new(title: impl Into<String>, columns: usize, panels: Vec<XyFigure>) -> Self {
        PanelGrid {
            title: title.into(),
            panels,
            columns,
            lettered: true,
            width: if columns > 2 { 960.0 } else { default_width() },
        }
    }
}

/// Cells of a heat map that share a category, shown by a symbol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellMarks {
    /// Text in the legend.
    pub label: String,
    /// Symbol.
    pub marker: Marker,
    /// Filled or open.
    pub fill: Fill,
    /// Row (along y) and column (along x) of each cell.
    pub cells: Vec<(usize, usize)>,
}

/// Values on a grid, as colours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeatMap {
    /// Title.
    pub title: String,
    /// Horizontal axis; a range is ignored, the cells set it.
    pub x: Axis,
    /// Vertical axis; a range is ignored, the cells set it.
    pub y: Axis,
    /// Colour bar. Values beyond a given range take the end colours and the bar
    /// ends in a point.
    pub value: Axis,
    /// Centres of the columns, increasing.
    pub x_centres: Vec<f64>,
    /// Centres of the rows, increasing (upwards).
    pub y_centres: Vec<f64>,
    /// Values by row (along y), then column (along x); `None` is missing.
    pub values: Vec<Vec<Option<f64>>>,
    /// Cells (row, column) left white: nothing was to be there, so that nothing is missing.
    #[serde(default)]
    pub blank: Vec<(usize, usize)>,
    /// Colour map.
    #[serde(default)]
    pub colours: ColourMap,
    /// Lines over the cells, such as a theoretical boundary. They are drawn
    /// black on a white halo, told apart by dash.
    #[serde(default)]
    pub lines: Vec<Line>,
    /// A text in each cell, of the shape of `values`; none if empty. Texts that
    /// do not fit their cells are left out, all together.
    #[serde(default)]
    pub cell_texts: Vec<Vec<String>>,
    /// Symbols on cells.
    #[serde(default)]
    pub marks: Vec<CellMarks>,
    /// Legend text for missing cells.
    #[serde(default = "default_missing_label")]
    pub missing_label: String,
    /// Width of the file in pixels.
    #[serde(default = "default_width")]
    pub width: f64,
    /// Height of the axes in pixels; the height of the file follows.
    #[serde(default = "default_plot_height")]
    pub plot_height: f64,
}

impl HeatMap {
    /// A heat map of values by row (along y), then column (along x).
    pub fn new(
        title: impl Into<String>,
        (x, x_centres): (Axis, Vec<f64>),
        (y, y_centres): (Axis, Vec<f64>),
        value: Axis,
        values: Vec<Vec<Option<f64>>>,
    ) -> Self {
        HeatMap {
            title: title.into(),
            x,
            y,
            value,
            x_centres,
            y_centres,
            values,
            blank: Vec::new(),
            colours: ColourMap::default(),
            lines: Vec::new(),
            cell_texts: Vec::new(),
            marks: Vec::new(),
            missing_label: default_missing_label(),
            width: default_width(),
            plot_height: default_plot_height(),
        }
    }

    /// With a line over the cells.
    #[must_use]
    pub fn with_line(mut self, line: Line) -> Self {
        self.lines.push(line);
        self
    }

    /// With symbols on some cells.
    #[must_use]
    pub fn with_marks(mut self, marks: CellMarks) -> Self {
        self.marks.push(marks);
        self
    }
}

/// Anything that can be drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "figure", rename_all = "snake_case")]
pub enum Figure {
    /// One pair of axes.
    Xy(XyFigure),
    /// Several.
    Grid(PanelGrid),
    /// A heat map.
    Heat(HeatMap),
}

impl From<XyFigure> for Figure {
    fn from(f: XyFigure) -> Self {
        Figure::Xy(f)
    }
}

impl From<PanelGrid> for Figure {
    fn from(f: PanelGrid) -> Self {
        Figure::Grid(f)
    }
}

impl From<HeatMap> for Figure {
    fn from(f: HeatMap) -> Self {
        Figure::Heat(f)
    }
}
