//! From values to pixels.

use super::error::FigureError;
use super::model::{Axis, Scale};

impl Scale {
    /// The coordinate in which the axis is uniform; NaN or infinite where the
    /// value has no place on it.
    pub(super) fn forward(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log10 if value > 0.0 => value.log10(),
            Scale::Log2 if value > 0.0 => value.log2(),
            _ => f64::NAN,
        }
    }

    /// The inverse of [`Scale::forward`].
    pub(super) fn inverse(self, coordinate: f64) -> f64 {
        match self {
            Scale::Linear => coordinate,
            Scale::Log10 => 10f64.powf(coordinate),
            Scale::Log2 => coordinate.exp2(),
        }
    }
}

/// Range that shows all the values with a margin on either side. Values without
/// a place on the axis are passed over; a single value is padded, and no value
/// gives 0 to 1 or 1 to 10.
#[must_use]
pub fn auto_range(scale: Scale, values: impl IntoIterator<Item = f64>, margin: f64) -> (f64, f64) {
    let mut least = f64::INFINITY;
    let mut most = f64::NEG_INFINITY;
    for value in values {
        if value.is_finite() && scale.forward(value).is_finite() {
            least = least.min(value);
            most = most.max(value);
        }
    }
    if least > most {
        return match scale {
            Scale::Linear => (0.0, 1.0),
            Scale::Log10 | Scale::Log2 => (1.0, 10.0),
        };
    }
    let (low, high) = (scale.forward(least), scale.forward(most));
    let mut pad = (high / 2.0 - low / 2.0) * 2.0 * margin;
    if high - low <= 1e-9 * low.abs().max(high.abs()) {
        pad = match scale {
            Scale::Linear if low == 0.0 => 1.0,
            Scale::Linear => 0.1 * low.abs(),
            Scale::Log10 => 2f64.log10(),
            Scale::Log2 => 1.0,
        };
    }
    // Where the padding leaves the range of numbers, the data are the limit.
    let usable = |v: &f64| v.is_finite() && scale.forward(*v).is_finite();
    (
        Some(scale.inverse(low - pad))
            .filter(usable)
            .unwrap_or(least),
        Some(scale.inverse(high + pad))
            .filter(usable)
            .unwrap_or(most),
    )
}

/// Farthest pixel: values beyond lie there, so that clipping stays exact.
const FARTHEST: f64 = 1e9;

/// Maps values of one axis to pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AxisMap {
    scale: Scale,
    low: f64,
    high: f64,
    at_low: f64,
    at_high: f64,
}

impl AxisMap {
    /// Puts `low` at pixel `at_low` and `high` at pixel `at_high`.
    #[must_use]
    pub fn new(scale: Scale, (low, high): (f64, f64), at_low: f64, at_high: f64) -> Self {
        AxisMap {
            scale,
            low,
            high,
            at_low,
            at_high,
        }
    }

    /// Pixel of a value; `None` if it has no place on the axis.
    #[must_use]
    pub fn at(&self, value: f64) -> Option<f64> {
        let (a, b) = (self.scale.forward(self.low), self.scale.forward(self.high));
        // Halved, so that the widest range does not overflow.
        let fraction = (self.scale.forward(value) / 2.0 - a / 2.0) / (b / 2.0 - a / 2.0);
        let pixel = self.at_low + fraction * (self.at_high - self.at_low);
        (!pixel.is_nan() && value.is_finite()).then_some(pixel.clamp(-FARTHEST, FARTHEST))
    }

    /// Pixel of the end of an interval: like [`AxisMap::at`], but an infinite
    /// value, and on a logarithmic axis one at or below zero, lies far beyond
    /// the border.
    #[must_use]
    pub fn at_limit(&self, value: f64) -> Option<f64> {
        const FAR: f64 = 10.0;
        let length = self.at_high - self.at_low;
        if value.is_nan() {
            None
        } else if value == f64::INFINITY {
            Some(self.at_high + FAR * length)
        } else if value == f64::NEG_INFINITY || (self.scale != Scale::Linear && value <= 0.0) {
            Some(self.at_low - FAR * length)
        } else {
            self.at(value)
        }
    }
}

/// The range of an axis: the one given, if it can be drawn, or one from the data.
pub(super) fn resolve_range(
    axis: &Axis,
    values: impl IntoIterator<Item = f64>,
    margin: f64,
) -> Result<(f64, f64), FigureError> {
    let Some((low, high)) = axis.range else {
        return Ok(auto_range(axis.scale, values, margin));
    };
    let reason = if !low.is_finite() || !high.is_finite() {
        "is not finite"
    } else if low >= high {
        "is empty: the lower end must be below the upper"
    } else if !axis.scale.forward(low).is_finite() {
        "reaches zero or below on a logarithmic axis"
    } else {
        return Ok((low, high));
    };
    Err(FigureError::BadRange {
        axis: axis.label.clone(),
        low,
        high,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_data() {
        let (a, b) = auto_range(Scale::Log10, [10.0, 1000.0, f64::NAN, -5.0, 0.0], 0.05);
        assert!((a - 10f64.powf(0.9)).abs() < 1e-9 && (b - 10f64.powf(3.1)).abs() < 1e-6);
        assert_eq!(auto_range(Scale::Linear, [0.0, 10.0], 0.1), (-1.0, 11.0));
    }

    #[test]
    fn degenerate_ranges_are_padded() {
        assert_eq!(auto_range(Scale::Linear, [], 0.1), (0.0, 1.0));
        assert_eq!(auto_range(Scale::Log10, [0.0, -1.0], 0.1), (1.0, 10.0));
        assert_eq!(auto_range(Scale::Linear, [0.0], 0.1), (-1.0, 1.0));
        assert_eq!(auto_range(Scale::Linear, [50.0], 0.1), (45.0, 55.0));
        assert_eq!(auto_range(Scale::Log2, [64.0], 0.1), (32.0, 128.0));
        let (a, b) = auto_range(Scale::Log10, [100.0], 0.1);
        assert!((a - 50.0).abs() < 1e-9 && (b - 200.0).abs() < 1e-9);
        for scale in [Scale::Linear, Scale::Log10, Scale::Log2] {
            for v in [f64::MAX, f64::MIN_POSITIVE, 1.0, -3.0, f64::MIN] {
                let (a, b) = auto_range(scale, [v], 0.1);
                assert!(
                    a < b && a.is_finite() && b.is_finite(),
                    "{scale:?} {v} {a} {b}"
                );
            }
        }
    }

    #[test]
    fn impossible_ranges_are_refused() {
        for (low, high) in [(0.0, 10.0), (5.0, 5.0), (7.0, 2.0), (1.0, f64::INFINITY)] {
            let axis = Axis::log10("N").range(low, high);
            let error = resolve_range(&axis, [], 0.0).unwrap_err();
            assert!(error.to_string().contains("'N'"), "{error}");
        }
    }

    #[test]
    fn limits_reach_beyond_the_border() {
        let map = AxisMap::new(Scale::Log10, (1.0, 100.0), 300.0, 100.0);
        assert_eq!(map.at(10.0), Some(200.0));
        assert_eq!(map.at(0.0), None);
        assert!(map.at_limit(0.0).unwrap() > 300.0);
        assert!(map.at_limit(f64::INFINITY).unwrap() < 100.0);
        assert_eq!(map.at_limit(f64::NAN), None);
        assert_eq!(map.at(f64::INFINITY), None);
        let tiny = AxisMap::new(Scale::Linear, (0.0, 1e-300), 0.0, 100.0);
        assert_eq!(tiny.at(1e300), Some(FARTHEST));
    }
}
