//! Figures as files: bytes, sizes, texts that keep clear of each other.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../examples/figure_gallery.rs"]
mod gallery;

use std::sync::Arc;

use proptest::prelude::*;
use recall_capacity::figure::{
    Annotation, Axis, Band, BandPoint, CellMarks, Direction, FONT_FAMILY, FONT_LICENSE, Figure,
    FigureError, Fill, HeatMap, LegendPlace, Line, Marker, PanelGrid, Placement, Point, Points,
    Reference, Scale, Style, Weight, XyFigure, draw, render_png, render_svg, text_width,
    write_figure,
};
use resvg::{tiny_skia, usvg};

fn parse(svg: &str) -> usvg::Tree {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.load_font_data(dejavu::sans::bold().to_vec());
    let options = usvg::Options {
        fontdb: Arc::new(fonts),
        ..usvg::Options::default()
    };
    usvg::Tree::from_str(svg, &options).unwrap()
}

#[derive(Debug, Clone)]
struct Box {
    text: String,
    x0: f32,
    y0: f32,
    x1: f32,
    y1: f32,
}

impl Box {
    fn new(text: &str, r: tiny_skia::Rect) -> Self {
        Box {
            text: text.to_owned(),
            x0: r.left(),
            y0: r.top(),
            x1: r.right(),
            y1: r.bottom(),
        }
    }

    fn overlaps(&self, other: &Box) -> bool {
        self.x0 < other.x1 && other.x0 < self.x1 && self.y0 < other.y1 && other.y0 < self.y1
    }

    fn inside(&self, width: f32, height: f32) -> bool {
        self.x0 >= 0.0 && self.y0 >= 0.0 && self.x1 <= width && self.y1 <= height
    }
}

/// Boxes of all texts and of all shapes, in pixels.
fn boxes(tree: &usvg::Tree) -> (Vec<Box>, Vec<Box>) {
    fn visit(group: &usvg::Group, texts: &mut Vec<Box>, shapes: &mut Vec<Box>) {
        for node in group.children() {
            match node {
                usvg::Node::Group(inner) => visit(inner, texts, shapes),
                usvg::Node::Text(text) => {
                    let words: String = text.chunks().iter().map(|c| c.text()).collect();
                    texts.push(Box::new(&words, text.abs_bounding_box()));
                }
                usvg::Node::Path(path) => {
                    shapes.push(Box::new("shape", path.abs_stroke_bounding_box()));
                }
                usvg::Node::Image(_) => {}
            }
        }
    }
    let (mut texts, mut shapes) = (Vec::new(), Vec::new());
    visit(tree.root(), &mut texts, &mut shapes);
    (texts, shapes)
}

fn check_layout(name: &str, svg: &str) {
    let tree = parse(svg);
    let (width, height) = (tree.size().width(), tree.size().height());
    let (texts, shapes) = boxes(&tree);
    for (i, a) in texts.iter().enumerate() {
        assert!(
            a.inside(width, height),
            "{name}: {a:?} leaves {width} × {height}"
        );
        for b in &texts[i + 1..] {
            assert!(!a.overlaps(b), "{name}: {a:?} and {b:?}");
        }
    }
    for shape in &shapes {
        assert!(shape.inside(width, height), "{name}: {shape:?}");
    }
}

fn pixels(png: &[u8]) -> tiny_skia::Pixmap {
    tiny_skia::Pixmap::decode_png(png).unwrap()
}

#[test]
fn texts_of_the_gallery_keep_clear_and_nothing_is_cut() {
    for (name, figure) in gallery::gallery() {
        let drawing = draw(&figure).unwrap();
        assert!(drawing.report.missing_glyphs.is_empty(), "{name}");
        check_layout(name, &drawing.svg);
    }
}

#[test]
fn the_overlap_check_can_fail() {
    let text = |x: i32| format!("<text x='{x}' y='20' font-family='DejaVu Sans'>abc</text>");
    let page = |second: i32| {
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='100' height='40'>{}{}</svg>",
            text(5),
            text(second)
        )
    };
    let (texts, _) = boxes(&parse(&page(10)));
    assert_eq!(texts.len(), 2);
    assert!(texts[0].overlaps(&texts[1]));
    let (texts, _) = boxes(&parse(&page(60)));
    assert!(!texts[0].overlaps(&texts[1]));
    assert!(!boxes(&parse(&page(90))).0[1].inside(100.0, 40.0));
}

#[test]
fn the_same_figure_gives_the_same_bytes() {
    for (name, figure) in gallery::gallery() {
        assert_eq!(
            render_svg(&figure).unwrap(),
            render_svg(&figure.clone()).unwrap(),
            "{name}"
        );
    }
    let (_, figure) = &gallery::gallery()[0];
    assert_eq!(
        render_png(figure, 1.0).unwrap(),
        render_png(figure, 1.0).unwrap()
    );
}

#[test]
fn descriptions_survive_json() {
    for (name, figure) in gallery::gallery() {
        if name == "hostile" {
            continue; // JSON has no NaN.
        }
        let json = serde_json::to_string(&figure).unwrap();
        let back: Figure = serde_json::from_str(&json).unwrap();
        assert_eq!(back, figure, "{name}");
    }
    let short = r#"{"figure": "xy", "title": "t",
        "x": {"label": "d", "scale": "log2"}, "y": {"label": "N", "scale": "linear"},
        "series": [{"kind": "line", "label": "l", "style": {"slot": 1}, "points": [[1.0, 2.0]]}]}"#;
    let figure: Figure = serde_json::from_str(short).unwrap();
    assert!(render_svg(&figure).is_ok());
}

#[test]
fn png_has_the_size_of_the_svg_and_is_not_blank() {
    for (name, figure) in gallery::gallery() {
        let drawing = draw(&figure).unwrap();
        let image = pixels(&render_png(&figure, 1.0).unwrap());
        assert_eq!(f64::from(image.width()), drawing.size.0, "{name}");
        assert_eq!(f64::from(image.height()), drawing.size.1, "{name}");
        let dark = image.pixels().iter().filter(|p| p.green() < 100).count();
        let total = image.pixels().len();
        assert!(
            dark > total / 400,
            "{name}: {dark} of {total} pixels are dark"
        );
        assert_eq!(image.pixels()[0].red(), 255, "{name}: the ground is white");
    }
    let (_, figure) = &gallery::gallery()[0];
    let (one, three) = (
        render_png(figure, 1.0).unwrap(),
        render_png(figure, 3.0).unwrap(),
    );
    assert_eq!(pixels(&three).width(), 3 * pixels(&one).width());
}

#[test]
fn the_svg_says_what_it_is() {
    let figure = XyFigure::new("a < b & \"c\"", Axis::linear("x"), Axis::linear("y")).into();
    let svg = render_svg(&figure).unwrap();
    assert!(svg.contains("<title id=\"figure-title\">a &lt; b &amp; &quot;c&quot;</title>"));
    assert!(svg.contains("<desc id=\"figure-desc\">Vertical axis (linear): y."));
    assert!(svg.contains(&format!("font-family=\"{FONT_FAMILY}\"")));
    assert!(FONT_FAMILY.starts_with("DejaVu Sans,") && FONT_FAMILY.ends_with("sans-serif"));
    assert!(!svg.contains("href"), "self-contained");
    let (texts, _) = boxes(&parse(&svg));
    assert!(texts.iter().any(|t| t.text == "a < b & \"c\""));
    assert!(FONT_LICENSE.contains("Bitstream"));
}

#[test]
fn text_widths_agree_with_the_renderer() {
    for (text, weight, attribute) in [
        ("N* = d² / (2 ln d)", Weight::Regular, "normal"),
        (
            "accuracy (fraction of facts recalled)",
            Weight::Regular,
            "normal",
        ),
        ("2×10⁻⁴", Weight::Regular, "normal"),
        ("Facts stored at half accuracy", Weight::Bold, "bold"),
    ] {
        let svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='900' height='40'>\
             <text x='5' y='20' font-size='20' font-family='DejaVu Sans' \
             font-weight='{attribute}'>{text}</text></svg>"
        );
        let (texts, _) = boxes(&parse(&svg));
        let drawn = f64::from(texts[0].x1 - texts[0].x0);
        let measured = text_width(text, 20.0, weight).unwrap();
        assert!(
            (measured - drawn).abs() < 1.0,
            "{text}: {measured} against {drawn}"
        );
    }
}

#[test]
fn missing_characters_are_reported() {
    let figure = XyFigure::new("漢", Axis::linear("x"), Axis::linear("y")).into();
    assert_eq!(draw(&figure).unwrap().report.missing_glyphs, ['漢']);
}

#[test]
fn what_is_not_drawn_is_counted_and_said() {
    let figure: Figure = XyFigure::new(
        "t",
        Axis::log10("x").range(1.0, 100.0),
        Axis::log10("y").range(1.0, 100.0),
    )
    .with(Points::new(
        "p",
        Style::slot(0),
        vec![
            Point::new(10.0, 10.0),
            Point::new(1.0, 100.0),
            Point::new(1000.0, 10.0),
            Point::new(10.0, 0.0),
            Point::new(10.0, f64::NAN),
            Point::new(f64::INFINITY, 10.0),
        ],
    ))
    .into();
    let drawing = draw(&figure).unwrap();
    assert_eq!(drawing.report.points_outside, 1);
    assert_eq!(drawing.report.undefined_points, 3);
    assert!(
        drawing
            .svg
            .contains("1 point outside the axes is not drawn; 3 points")
    );
}

/// The frame of the only axes in a figure: the first closed polyline of five points.
fn frame(svg: &str) -> (f64, f64, f64, f64) {
    for line in svg.lines().filter(|l| l.contains("stroke=\"#555555\"")) {
        let points = points_of(line);
        if points.len() == 6 && points[0] == points[4] {
            return (points[0].0, points[0].1, points[2].0, points[2].1);
        }
    }
    panic!("no frame");
}

fn points_of(line: &str) -> Vec<(f64, f64)> {
    let list = line
        .split("points=\"")
        .nth(1)
        .unwrap_or("")
        .split('"')
        .next()
        .unwrap();
    list.split_whitespace()
        .map(|pair| {
            let (x, y) = pair.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        })
        .collect()
}

#[test]
fn lines_and_bands_end_at_the_frame() {
    let steep: Vec<(f64, f64)> = (-50..=50)
        .map(|k| (f64::from(k), 3.0 * f64::from(k)))
        .collect();
    let figure: Figure = XyFigure::new(
        "",
        Axis::linear("x").range(-10.0, 10.0),
        Axis::linear("y").range(-6.0, 6.0),
    )
    .with(Line::new("", Style::slot(0), steep))
    .with(Band::new(
        "",
        Style::slot(1),
        vec![
            BandPoint::new(-100.0, f64::NEG_INFINITY, 1.0),
            BandPoint::new(100.0, -2.0, f64::INFINITY),
        ],
    ))
    .into();
    let svg = render_svg(&figure).unwrap();
    let (x0, y0, x1, y1) = frame(&svg);
    let mut seen = 0;
    for line in svg
        .lines()
        .filter(|l| l.contains("#004488") || l.contains("#E08214"))
    {
        let points = points_of(line);
        for &(x, y) in &points {
            assert!(x >= x0 && x <= x1 && y >= y0 && y <= y1, "({x}, {y})");
        }
        if line.contains("#004488") {
            // y = 3 x leaves the axes at x = ±2, a fifth of the half-width from the centre.
            let (first, last) = (points[0], points[points.len() - 1]);
            let centre = (x0 + x1) / 2.0;
            let fifth = (x1 - x0) / 10.0;
            assert_eq!((first.1, last.1), (y1, y0));
            assert!((first.0 - (centre - fifth)).abs() <= 1.0);
            assert!((last.0 - (centre + fifth)).abs() <= 1.0);
        }
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn empty_figures_are_drawn() {
    let empty = || XyFigure::new("", Axis::log10(""), Axis::linear(""));
    let figures: Vec<Figure> = vec![
        empty().into(),
        empty().legend(LegendPlace::Right).into(),
        empty().legend(LegendPlace::None).into(),
        empty()
            .with(Points::new("p", Style::slot(0), vec![]))
            .with(Line::new("l", Style::slot(1), vec![]))
            .with(Band::new("b", Style::slot(2), vec![]))
            .with(Reference::vertical("r", Style::neutral(), f64::NAN).at_border())
            .annotate("", Placement::Auto)
            .into(),
        PanelGrid::new("", 2, vec![empty(), empty(), empty()]).into(),
        HeatMap::new(
            "",
            (Axis::linear(""), vec![3.0]),
            (Axis::log10(""), vec![3.0]),
            Axis::linear(""),
            vec![vec![None]],
        )
        .into(),
    ];
    for figure in figures {
        let svg = render_svg(&figure).unwrap();
        check_layout("empty", &svg);
        render_png(&figure, 1.0).unwrap();
    }
}

#[test]
fn blank_cells_are_not_missing() {
    let svg = |blank: Vec<(usize, usize)>| {
        let mut map = HeatMap::new(
            "map",
            (Axis::log2("N"), vec![1.0, 2.0]),
            (Axis::log2("d"), vec![1.0, 2.0]),
            Axis::linear("v"),
            vec![vec![Some(1.0), None], vec![None, Some(2.0)]],
        );
        map.missing_label = "censored".into();
        map.blank = blank;
        render_svg(&map.into()).unwrap()
    };
    let (both, one, none) = (svg(vec![]), svg(vec![(0, 1)]), svg(vec![(0, 1), (1, 0)]));
    assert!(both.len() > one.len() && one.len() > none.len());
    assert!(both.contains("censored") && one.contains("censored"));
    assert!(
        !none.contains("censored"),
        "a legend for cells that are not there"
    );
}

#[test]
fn impossible_figures_are_refused_by_name() {
    let xy = XyFigure::new("t", Axis::log10("N"), Axis::linear("y"));
    let mut bad_range = xy.clone();
    bad_range.x.range = Some((0.0, 1.0));
    let heat = |values: Vec<Vec<Option<f64>>>| {
        HeatMap::new(
            "map",
            (Axis::log2("N"), vec![1.0, 2.0, 4.0]),
            (Axis::log2("d"), vec![1.0, 2.0]),
            Axis::linear("v"),
            values,
        )
    };
    let row = vec![Some(1.0); 3];
    let marked = heat(vec![row.clone(), row.clone()]).with_marks(CellMarks {
        label: "m".into(),
        marker: Marker::Plus,
        fill: Fill::Filled,
        cells: vec![(2, 0)],
    });
    let mut cases: Vec<(Figure, &str)> = vec![
        (
            bad_range.into(),
            "axis 'N': range 0 to 1 reaches zero or below",
        ),
        (xy.clone().size(80.0, 300.0).into(), "figure width is 80"),
        (
            xy.clone().size(f64::NAN, 300.0).into(),
            "figure width is NaN",
        ),
        (xy.clone().size(800.0, 5.0).into(), "plot height is 5"),
        (
            PanelGrid::new("g", 2, vec![]).into(),
            "panel grid 'g' has 0 panels",
        ),
        (
            PanelGrid::new("g", 8, vec![xy; 8]).into(),
            "width of a panel",
        ),
        (
            heat(vec![row.clone()]).into(),
            "is 1 × 3, but the cell centres ask for 2 × 3",
        ),
        (heat(vec![row.clone(), vec![None]]).into(), "is 2 × 1, but"),
        (marked.into(), "cell of a mark is 2 × 0"),
    ];
    let mut falling = heat(vec![row.clone(), row]);
    falling.y_centres = vec![2.0, 1.0];
    cases.push((falling.into(), "axis 'd': cell centres must increase"));
    for (figure, message) in cases {
        let error = render_svg(&figure).unwrap_err().to_string();
        assert!(error.contains(message), "{error:?} lacks {message:?}");
    }
}

#[test]
fn files_are_written_whole_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a").join("b");
    let figure: Figure = XyFigure::new("t", Axis::linear("x"), Axis::linear("y")).into();
    for _ in 0..2 {
        let written = write_figure(&deep, "one", &figure).unwrap();
        assert_eq!(
            std::fs::read_to_string(&written.svg).unwrap(),
            render_svg(&figure).unwrap()
        );
        assert_eq!(
            std::fs::read(&written.png).unwrap(),
            render_png(&figure, 2.0).unwrap()
        );
    }
    let mut names: Vec<_> = std::fs::read_dir(&deep)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["one.png", "one.svg"], "no leftovers");
}

#[test]
fn write_errors_name_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let figure: Figure = XyFigure::new("t", Axis::linear("x"), Axis::linear("y")).into();
    let blocked = dir.path().join("file");
    std::fs::write(&blocked, "x").unwrap();
    let error = write_figure(&blocked, "one", &figure).unwrap_err();
    assert!(matches!(error, FigureError::Write { .. }));
    assert!(
        error.to_string().contains(&blocked.display().to_string()),
        "{error}"
    );
    // A directory in the way of the file.
    std::fs::create_dir(dir.path().join("two.svg")).unwrap();
    std::fs::write(dir.path().join("two.svg").join("x"), "x").unwrap();
    let error = write_figure(dir.path(), "two", &figure).unwrap_err();
    assert!(error.to_string().contains("two.svg"), "{error}");
    assert!(!dir.path().join("two.png").exists());
    for stem in ["", "a/b", "..", "a\\b"] {
        let error = write_figure(dir.path(), stem, &figure).unwrap_err();
        assert!(matches!(error, FigureError::BadStem { .. }), "{stem}");
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -100.0..1e4,
        1 => prop::sample::select(vec![
            0.0, -0.0, 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY,
            f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, 1e-9, 1e300,
        ]),
    ]
}

fn scale() -> impl Strategy<Value = Scale> {
    prop::sample::select(vec![Scale::Linear, Scale::Log10, Scale::Log2])
}

fn axis() -> impl Strategy<Value = Axis> {
    (scale(), prop::option::weighted(0.3, (value(), value()))).prop_map(|(scale, range)| Axis {
        label: "axis".into(),
        scale,
        range,
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_numbers_bring_the_drawing_down(
        x in axis(),
        y in axis(),
        data in prop::collection::vec((value(), value(), value(), value()), 0..12),
        right in any::<bool>(),
    ) {
        let mut figure = XyFigure::new("title", x, y)
            .with(Points::new(
                "points",
                Style::slot(0),
                data.iter()
                    .map(|&(x, y, a, b)| {
                        let p = Point::new(x, y).y_interval(a, b).x_interval(b, a);
                        if a > b { p.censored(Direction::Up) } else { p }
                    })
                    .collect(),
            ))
            .with(Line::new("line", Style::slot(1), data.iter().map(|d| (d.0, d.1)).collect()))
            .with(Band::new(
                "band",
                Style::slot(2),
                data.iter().map(|d| BandPoint::new(d.0, d.1, d.2)).collect(),
            ));
        if right {
            figure = figure.legend(LegendPlace::Right);
        }
        figure.annotations.push(Annotation { text: "note".into(), placement: Placement::Auto });
        match render_svg(&figure.into()) {
            Ok(svg) => check_layout("random", &svg),
            Err(FigureError::BadRange { .. }) => {}
            Err(e) => prop_assert!(false, "{e}"),
        }
    }

    #[test]
    fn no_values_bring_a_heat_map_down(
        bar in axis(),
        values in prop::collection::vec(prop::option::of(value()), 6),
        x_scale in scale(),
    ) {
        let x = Axis { label: "N".into(), scale: x_scale, range: None };
        let mut map = HeatMap::new(
            "map",
            (x, vec![1.0, 10.0, 1000.0]),
            (Axis::linear("d"), vec![1.0, 2.5]),
            bar,
            values.chunks(3).map(<[_]>::to_vec).collect(),
        );
        map.cell_texts = vec![vec!["0.5".into(); 3]; 2];
        match render_svg(&map.into()) {
            Ok(svg) => check_layout("random", &svg),
            Err(FigureError::BadRange { .. }) => {}
            Err(e) => prop_assert!(false, "{e}"),
        }
    }
}
