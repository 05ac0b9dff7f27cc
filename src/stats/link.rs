//! The shape of an accuracy curve, as the link of a threshold fit.
//!
//! A probit says that accuracies rise along the normal distribution function. A stated curve, such
//! as a formula's, may be asymmetric; [`Shape`] takes its form and leaves its place and its
//! steepness to the data. See `threshold.md`.

use super::distribution::{normal_cdf, normal_pdf, normal_quantile};

/// How the accuracy depends on the linear predictor.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Link {
    /// The normal distribution function.
    #[default]
    Probit,
    /// A stated shape.
    Shape(Shape),
}

impl Link {
    /// Normal quantile of the accuracy, and its derivative, at a linear predictor.
    fn quantile(&self, eta: f64) -> (f64, f64) {
        match self {
            Self::Probit => (eta, 1.0),
            Self::Shape(shape) => shape.at(eta),
        }
    }

    /// Accuracy corrected for guessing, and its derivative.
    pub(crate) fn at(&self, eta: f64) -> (f64, f64) {
        let (z, slope) = self.quantile(eta);
        (normal_cdf(z), normal_pdf(z) * slope)
    }
}

/// A monotone curve of normal quantiles over a linear predictor, normalised so that at the target
/// accuracy it has the value and the slope of a probit: neither the place of the stated curve nor
/// its steepness is left in it.
///
/// Between the points it is the monotone cubic of Fritsch and Carlson (SIAM J. Numer. Anal. 17
/// (1980) 238) with harmonic means as slopes; beyond them it goes on straight.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    eta: Vec<f64>,
    z: Vec<f64>,
    slope: Vec<f64>,
}

impl Shape {
    /// The shape of the curve through `(x, accuracy)`, accuracies corrected for guessing and
    /// rising with `x`, normalised at the accuracy `target` (corrected, too).
    ///
    /// Points outside (0, 1), and those that do not rise above the one before, are left out.
    /// `None` if fewer than four remain or the target is not between them.
    ///
    /// # Examples
    /// ```
    /// use recall_capacity::stats::link::Shape;
    /// // 1 - exp(-n / 100) at n = 20 to 320: where the curve lies does not matter ...
    /// let coverage = |scale: f64, shift: f64| -> Option<Shape> {
    ///     let points: Vec<(f64, f64)> = (0..9)
    ///         .map(|i| 20.0 * 2f64.powf(0.5 * f64::from(i)))
    ///         .map(|n| (scale * n.ln() + shift, 1.0 - (-n / 100.0).exp()))
    ///         .collect();
    ///     Shape::new(&points, 0.5)
    /// };
    /// let (a, b) = (coverage(1.0, 0.0).ok_or("none")?, coverage(0.5, 3.0).ok_or("none")?);
    /// // ... nor how steep it is.
    /// assert!((a.accuracy(1.0) - b.accuracy(1.0)).abs() < 1e-9);
    /// // It is asymmetric: its shoulder is nearer than a probit's.
    /// assert!(a.accuracy(1.0) + a.accuracy(-1.0) > 1.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn new(points: &[(f64, f64)], target: f64) -> Option<Self> {
        let mut points: Vec<(f64, f64)> = points
            .iter()
            .filter(|(x, q)| x.is_finite() && *q > 1e-6 && *q < 1.0 - 1e-6)
            .map(|&(x, q)| (x, normal_quantile(q)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut rising: Vec<(f64, f64)> = Vec::with_capacity(points.len());
        for (x, z) in points {
            if rising.last().is_none_or(|l| x > l.0 && z > l.1 + 1e-4) {
                rising.push((x, z));
            }
        }
        if rising.len() < 4 || target <= 0.0 || target >= 1.0 {
            return None;
        }
        let (x, z): (Vec<f64>, Vec<f64>) = rising.into_iter().unzip();
        let goal = normal_quantile(target);
        if goal < z[0] || goal > z[z.len() - 1] {
            return None;
        }
        let raw = Self {
            slope: slopes(&x, &z),
            eta: x,
            z,
        };
        let place = raw.inverse(goal);
        let steepness = raw.at(place).1;
        if !(steepness > 0.0 && steepness.is_finite()) {
            return None;
        }
        Some(Self {
            eta: raw
                .eta
                .iter()
                .map(|x| goal + steepness * (x - place))
                .collect(),
            slope: raw.slope.iter().map(|s| s / steepness).collect(),
            z: raw.z,
        })
    }

    /// Accuracy corrected for guessing at a linear predictor.
    #[must_use]
    pub fn accuracy(&self, eta: f64) -> f64 {
        normal_cdf(self.at(eta).0)
    }

    /// Value and slope.
    fn at(&self, eta: f64) -> (f64, f64) {
        let last = self.eta.len() - 1;
        if eta <= self.eta[0] {
            return (
                self.z[0] + self.slope[0] * (eta - self.eta[0]),
                self.slope[0],
            );
        }
        if eta >= self.eta[last] {
            let slope = self.slope[last];
            return (self.z[last] + slope * (eta - self.eta[last]), slope);
        }
        let i = self.eta.partition_point(|e| *e <= eta).clamp(1, last) - 1;
        let h = self.eta[i + 1] - self.eta[i];
        let t = (eta - self.eta[i]) / h;
        let (z0, z1) = (self.z[i], self.z[i + 1]);
        let (s0, s1) = (h * self.slope[i], h * self.slope[i + 1]);
        // z0 + s0 t + c t^2 + d t^3 with the values and slopes of both ends.
        let c = 3.0 * (z1 - z0) - 2.0 * s0 - s1;
        let d = s0 + s1 - 2.0 * (z1 - z0);
        (
            z0 + t * (s0 + t * (c + t * d)),
            (s0 + t * (2.0 * c + 3.0 * t * d)) / h,
        )
    }

    /// Where the curve has a value between those of its ends.
    fn inverse(&self, z: f64) -> f64 {
        let (mut lo, mut hi) = (self.eta[0], self.eta[self.eta.len() - 1]);
        for _ in 0..100 {
            let middle = 0.5 * (lo + hi);
            if self.at(middle).0 < z {
                lo = middle;
            } else {
                hi = middle;
            }
        }
        0.5 * (lo + hi)
    }
}

/// Slopes at the points: harmonic means of the neighbouring chords, weighted by their lengths, and
/// the chord itself at the ends.
fn slopes(x: &[f64], z: &[f64]) -> Vec<f64> {
    let chords: Vec<(f64, f64)> = x
        .windows(2)
        .zip(z.windows(2))
        .map(|(x, z)| (x[1] - x[0], (z[1] - z[0]) / (x[1] - x[0])))
        .collect();
    let mut slopes = vec![chords[0].1];
    slopes.extend(chords.windows(2).map(|c| {
        let ((h0, s0), (h1, s1)) = (c[0], c[1]);
        let (w0, w1) = (2.0 * h1 + h0, h1 + 2.0 * h0);
        (w0 + w1) / (w0 / s0 + w1 / s1)
    }));
    slopes.push(chords[chords.len() - 1].1);
    slopes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(from: f64) -> Vec<(f64, f64)> {
        (0..14)
            .map(|i| from + 0.4 * f64::from(i))
            .map(|x| (x, 1.0 - (-(x.exp())).exp()))
            .collect()
    }

    #[test]
    fn a_probit_is_its_own_shape() {
        let points: Vec<(f64, f64)> = (-6..=6)
            .map(|i| f64::from(i) * 0.5)
            .map(|x| (7.0 + x / 3.0, normal_cdf(x)))
            .collect();
        for target in [0.3, 0.5, 0.8] {
            let shape = Shape::new(&points, target).unwrap();
            for eta in [-4.0, -1.3, 0.0, 0.2, 2.0, 4.0] {
                let (z, slope) = shape.at(eta);
                assert!((z - eta).abs() < 1e-7 && (slope - 1.0).abs() < 1e-7);
            }
        }
    }

    #[test]
    fn tangent_to_the_probit_at_the_target_and_near_the_curve_between_its_points() {
        let shape = Shape::new(&coverage(-3.0), 0.4).unwrap();
        let goal = normal_quantile(0.4);
        let (z, slope) = shape.at(goal);
        assert!((z - goal).abs() < 1e-9 && (slope - 1.0).abs() < 1e-9);
        // The curve itself at a step of .1 in x from the target's place, half off the points.
        let place = (-(0.6f64.ln())).ln();
        let h = 1e-5;
        let exact = |x: f64| normal_quantile(1.0 - (-(x.exp())).exp());
        let steepness = (exact(place + h) - exact(place - h)) / (2.0 * h);
        for i in -15..=15 {
            let x = place + 0.1 * f64::from(i);
            let eta = goal + steepness * (x - place);
            let (z, _) = shape.at(eta);
            assert!((z - exact(x)).abs() < 0.01, "{x}: {z} {}", exact(x));
        }
    }

    #[test]
    fn slopes_are_derivatives_and_positive() {
        let shape = Shape::new(&coverage(-3.0), 0.5).unwrap();
        for i in -40..=40 {
            let eta = 0.1 * f64::from(i) + 0.013;
            let h = 1e-6;
            let numeric = (shape.at(eta + h).0 - shape.at(eta - h).0) / (2.0 * h);
            let (_, slope) = shape.at(eta);
            assert!(slope > 0.0 && (slope - numeric).abs() < 1e-5, "{eta}");
        }
    }

    #[test]
    fn too_little_of_a_curve_has_no_shape() {
        assert_eq!(Shape::new(&coverage(-3.0)[..3], 0.1), None);
        assert_eq!(Shape::new(&coverage(-3.0)[..6], 0.9), None);
        let flat: Vec<(f64, f64)> = (0..9).map(|i| (f64::from(i), 0.5)).collect();
        assert_eq!(Shape::new(&flat, 0.5), None);
    }
}
