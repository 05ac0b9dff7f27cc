//! Clipping to the axes, in pixels. The drawing library clamps, which bends lines.

/// An axis-aligned rectangle, in pixels; `y` grows downwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x0: f64,
    /// Upper edge.
    pub y0: f64,
    /// Right edge.
    pub x1: f64,
    /// Lower edge.
    pub y1: f64,
}

impl Rect {
    /// Width.
    #[must_use]
    pub fn width(&self) -> f64 {
        self.x1 - self.x0
    }

    /// Height.
    #[must_use]
    pub fn height(&self) -> f64 {
        self.y1 - self.y0
    }

    /// Whether a point lies inside or within a hundredth of a pixel of the border.
    #[must_use]
    pub fn contains(&self, (x, y): (f64, f64)) -> bool {
        const SLACK: f64 = 0.01;
        x >= self.x0 - SLACK && x <= self.x1 + SLACK && y >= self.y0 - SLACK && y <= self.y1 + SLACK
    }

    /// Grown by the same length on every side.
    pub(super) fn grown(&self, by: f64) -> Rect {
        Rect {
            x0: self.x0 - by,
            y0: self.y0 - by,
            x1: self.x1 + by,
            y1: self.y1 + by,
        }
    }
}

/// The part of a segment inside a rectangle (Liang and Barsky), if any.
#[must_use]
pub fn clip_segment(a: (f64, f64), b: (f64, f64), rect: &Rect) -> Option<((f64, f64), (f64, f64))> {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    if ![a.0, a.1, dx, dy].iter().all(|v| v.is_finite()) {
        return None;
    }
    let (mut t0, mut t1) = (0.0_f64, 1.0_f64);
    for (p, q) in [
        (-dx, a.0 - rect.x0),
        (dx, rect.x1 - a.0),
        (-dy, a.1 - rect.y0),
        (dy, rect.y1 - a.1),
    ] {
        if p == 0.0 {
            if q < 0.0 {
                return None;
            }
        } else {
            let t = q / p;
            if p < 0.0 {
                t0 = t0.max(t);
            } else {
                t1 = t1.min(t);
            }
        }
    }
    if t0 > t1 {
        return None;
    }
    let at = |t: f64| {
        (
            (a.0 + t * dx).clamp(rect.x0, rect.x1),
            (a.1 + t * dy).clamp(rect.y0, rect.y1),
        )
    };
    Some((at(t0), at(t1)))
}

/// The pieces of a line inside a rectangle. `None` entries break the line, as do
/// points that are not finite.
#[must_use]
pub fn clip_polyline(points: &[Option<(f64, f64)>], rect: &Rect) -> Vec<Vec<(f64, f64)>> {
    let mut pieces: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut joined = false;
    for pair in points.windows(2) {
        let clipped = match (pair[0], pair[1]) {
            (Some(a), Some(b)) => clip_segment(a, b, rect).map(|c| (c, a, b)),
            _ => None,
        };
        let Some(((p, q), a, b)) = clipped else {
            joined = false;
            continue;
        };
        match pieces.last_mut() {
            Some(piece) if joined && p == a => piece.push(q),
            _ => pieces.push(vec![p, q]),
        }
        joined = q == b;
    }
    pieces.retain(|piece| {
        piece
            .windows(2)
            .any(|w| (w[0].0 - w[1].0).abs() + (w[0].1 - w[1].1).abs() > 0.0)
    });
    pieces
}

/// The part of a polygon inside a rectangle (Sutherland and Hodgman); empty if
/// nothing is, or if a corner is not finite.
#[must_use]
pub fn clip_polygon(points: &[(f64, f64)], rect: &Rect) -> Vec<(f64, f64)> {
    type Inside = fn(&(f64, f64), &Rect) -> bool;
    type Cut = fn((f64, f64), (f64, f64), &Rect) -> (f64, f64);
    fn at_x(a: (f64, f64), b: (f64, f64), x: f64) -> (f64, f64) {
        (x, a.1 + (b.1 - a.1) * (x - a.0) / (b.0 - a.0))
    }
    fn at_y(a: (f64, f64), b: (f64, f64), y: f64) -> (f64, f64) {
        (a.0 + (b.0 - a.0) * (y - a.1) / (b.1 - a.1), y)
    }
    let sides: [(Inside, Cut); 4] = [
        (|p, r| p.0 >= r.x0, |a, b, r| at_x(a, b, r.x0)),
        (|p, r| p.0 <= r.x1, |a, b, r| at_x(a, b, r.x1)),
        (|p, r| p.1 >= r.y0, |a, b, r| at_y(a, b, r.y0)),
        (|p, r| p.1 <= r.y1, |a, b, r| at_y(a, b, r.y1)),
    ];
    if points.iter().any(|p| !p.0.is_finite() || !p.1.is_finite()) {
        return Vec::new();
    }
    let mut polygon = points.to_vec();
    for (inside, cut) in sides {
        let mut kept = Vec::with_capacity(polygon.len() + 4);
        for (i, &b) in polygon.iter().enumerate() {
            let a = polygon[(i + polygon.len() - 1) % polygon.len()];
            match (inside(&a, rect), inside(&b, rect)) {
                (true, true) => kept.push(b),
                (true, false) => kept.push(cut(a, b, rect)),
                (false, true) => {
                    kept.push(cut(a, b, rect));
                    kept.push(b);
                }
                (false, false) => {}
            }
        }
        polygon = kept;
    }
    if polygon.len() < 3 {
        polygon.clear();
    }
    polygon
}

/// Cuts a line into dashes. The pattern alternates drawn and empty lengths.
pub(super) fn dashes(points: &[(f64, f64)], pattern: &[f64]) -> Vec<Vec<(f64, f64)>> {
    if pattern.is_empty() || points.len() < 2 {
        return vec![points.to_vec()];
    }
    let mut out = Vec::new();
    let mut index = 0;
    let mut left = pattern[0];
    let mut dash = vec![points[0]];
    for pair in points.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let length = (b.0 - a.0).hypot(b.1 - a.1);
        let mut done = 0.0;
        while length - done > left {
            done += left;
            let t = done / length;
            let p = (a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1));
            if index % 2 == 0 {
                dash.push(p);
                out.push(std::mem::take(&mut dash));
            } else {
                dash = vec![p];
            }
            index = (index + 1) % pattern.len();
            left = pattern[index];
        }
        left -= length - done;
        if index % 2 == 0 {
            dash.push(b);
        }
    }
    if index % 2 == 0 && dash.len() > 1 {
        out.push(dash);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOX: Rect = Rect {
        x0: 0.0,
        y0: 0.0,
        x1: 10.0,
        y1: 10.0,
    };

    #[test]
    fn a_segment_is_cut_at_the_border_on_its_own_slope() {
        let (p, q) = clip_segment((-5.0, 0.0), (15.0, 10.0), &BOX).unwrap();
        assert_eq!(p, (0.0, 2.5));
        assert_eq!(q, (10.0, 7.5));
    }

    #[test]
    fn segments_outside_vanish() {
        assert!(clip_segment((-5.0, 2.0), (-1.0, 8.0), &BOX).is_none());
        assert!(clip_segment((-5.0, 6.0), (6.0, 17.0), &BOX).is_none());
        assert!(clip_segment((f64::NAN, 6.0), (6.0, 7.0), &BOX).is_none());
        assert!(clip_segment((f64::INFINITY, 6.0), (6.0, 7.0), &BOX).is_none());
    }

    #[test]
    fn a_line_that_leaves_and_returns_is_two_pieces() {
        let line = [(1.0, 5.0), (5.0, 5.0), (5.0, 15.0), (7.0, 15.0), (7.0, 5.0)].map(Some);
        let pieces = clip_polyline(&line, &BOX);
        assert_eq!(
            pieces,
            vec![
                vec![(1.0, 5.0), (5.0, 5.0), (5.0, 10.0)],
                vec![(7.0, 10.0), (7.0, 5.0)]
            ]
        );
    }

    #[test]
    fn a_gap_breaks_the_line() {
        let line = [
            Some((1.0, 1.0)),
            Some((2.0, 2.0)),
            None,
            Some((3.0, 3.0)),
            Some((4.0, 4.0)),
        ];
        assert_eq!(clip_polyline(&line, &BOX).len(), 2);
        assert!(clip_polyline(&[], &BOX).is_empty());
        assert!(clip_polyline(&[Some((1.0, 1.0))], &BOX).is_empty());
    }

    #[test]
    fn polygons_are_cut_to_the_box() {
        let cut = clip_polygon(
            &[(-5.0, 2.0), (15.0, 2.0), (15.0, 20.0), (-5.0, 20.0)],
            &BOX,
        );
        let area: f64 = (0..cut.len())
            .map(|i| {
                let (a, b) = (cut[i], cut[(i + 1) % cut.len()]);
                (a.0 * b.1 - b.0 * a.1) / 2.0
            })
            .sum();
        assert!((area.abs() - 80.0).abs() < 1e-9);
        assert!(clip_polygon(&[(20.0, 20.0), (30.0, 20.0), (30.0, 30.0)], &BOX).is_empty());
        assert!(clip_polygon(&[], &BOX).is_empty());
        assert!(clip_polygon(&[(0.0, 0.0), (f64::INFINITY, 0.0), (5.0, 5.0)], &BOX).is_empty());
    }

    #[test]
    fn dashes_carry_over_corners() {
        let line = [(0.0, 0.0), (3.0, 0.0), (3.0, 7.0)];
        let cut = dashes(&line, &[4.0, 2.0]);
        assert_eq!(
            cut,
            vec![
                vec![(0.0, 0.0), (3.0, 0.0), (3.0, 1.0)],
                vec![(3.0, 3.0), (3.0, 7.0)]
            ]
        );
        assert_eq!(dashes(&line, &[]), vec![line.to_vec()]);
    }
}
