//! Gaussian moments of an activation at an input scale. Derivation: `hermite.md`.

use crate::activation::Activation;

/// Highest Hermite degree kept.
pub const ORDER: usize = 24;

/// Gauss-Legendre nodes and weights of order 8 on `[-1, 1]`, the positive half.
const LEGENDRE_8: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_48),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
];

/// Composite Gauss-Legendre nodes on `[lo, hi]` in `panels` equal panels: `(node, weight)`.
pub(crate) fn legendre(lo: f64, hi: f64, panels: usize) -> impl Iterator<Item = (f64, f64)> {
    let half = 0.5 * (hi - lo) / panels as f64;
    (0..panels).flat_map(move |p| {
        let mid = lo + half * (2 * p + 1) as f64;
        LEGENDRE_8
            .iter()
            .flat_map(move |&(x, w)| [(mid - half * x, half * w), (mid + half * x, half * w)])
    })
}

/// Nodes of a standard normal, split at the origin where activations may have a kink. The error
/// on functions analytic on either side, of polynomial growth, is at rounding level.
pub(crate) fn normal_nodes() -> Vec<(f64, f64)> {
    normal_nodes_to(12.0, 24)
}

/// The same up to `reach` with `panels` panels on either side.
pub(crate) fn normal_nodes_to(reach: f64, panels: usize) -> Vec<(f64, f64)> {
    legendre(-reach, 0.0, panels)
        .chain(legendre(0.0, reach, panels))
        .map(|(x, w)| (x, w * crate::gauss::pdf(x)))
        .collect()
}

/// Nodes of one coordinate of a random direction in `d` dimensions, `sqrt(d)` times, up to at most
/// `reach`, with `panels` panels on either side.
pub(crate) fn coordinate_nodes(d: f64, reach: f64, panels: usize) -> Vec<(f64, f64)> {
    let power = 0.5 * (d.max(3.0) - 3.0);
    let top = d.sqrt().min(reach);
    let mut nodes: Vec<(f64, f64)> = legendre(-top, 0.0, panels)
        .chain(legendre(0.0, top, panels))
        .map(|(x, w)| (x, w * (power * (-(x * x / d)).ln_1p()).exp()))
        .collect();
    let mass: f64 = nodes.iter().map(|n| n.1).sum();
    for n in &mut nodes {
        n.1 /= mass;
    }
    nodes
}

/// `He_k(x) / sqrt(k!)` for `k = 0..=ORDER`.
pub(crate) fn normalised_hermite(x: f64) -> [f64; ORDER + 1] {
    let mut he = [1.0; ORDER + 1];
    he[1] = x;
    for k in 1..ORDER {
        let kf = k as f64;
        he[k + 1] = (x * he[k] - kf.sqrt() * he[k - 1]) / (kf + 1.0).sqrt();
    }
    he
}

/// Moments of `phi_s(x) = phi(s x)` under a standard normal `x` (note, section 1).
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Normalised Hermite coefficients `c_k = E phi_s(x) He_k(x) / sqrt(k!)`.
    pub c: [f64; ORDER + 1],
    /// `k0 = E phi_s^2`.
    pub square: f64,
    /// `E phi_s^3`.
    pub cube: f64,
    /// `E phi_s^4`.
    pub fourth: f64,
    /// `E phi_s'^2`, the derivative taken with respect to `x`.
    pub slope_square: f64,
    /// `b = E phi_s phi_s'`.
    pub product: f64,
    /// `om = E x phi_s phi_s'`.
    pub radial: f64,
}

impl Profile {
    /// Of an activation at input scale `s`.
    #[must_use]
    pub fn of(activation: Activation, scale: f64) -> Self {
        let mut p = Profile {
            c: [0.0; ORDER + 1],
            square: 0.0,
            cube: 0.0,
            fourth: 0.0,
            slope_square: 0.0,
            product: 0.0,
            radial: 0.0,
        };
        for (x, w) in normal_nodes() {
            let f = activation.value(scale * x);
            let g = scale * activation.derivative(scale * x);
            for (c, h) in p.c.iter_mut().zip(normalised_hermite(x)) {
                *c += w * f * h;
            }
            p.square += w * f * f;
            p.cube += w * f.powi(3);
            p.fourth += w * f.powi(4);
            p.slope_square += w * g * g;
            p.product += w * f * g;
            p.radial += w * x * f * g;
        }
        p
    }

    /// `kt = k0 - c0^2`: variance of the activation, the signal of recall at infinite width.
    #[must_use]
    pub fn variance(&self) -> f64 {
        self.square - self.c[0] * self.c[0]
    }

    /// `lam = k0 E phi'^2 / c1^4`: by how much hidden units add to the gradient noise.
    #[must_use]
    pub fn width_factor(&self) -> f64 {
        self.square * self.slope_square / self.c[1].powi(4)
    }

    /// `E phi^(k) / sqrt(k!)` over the directions of an input of squared length `1 + excess` in `d`
    /// dimensions, to second order (note, eq. 4). Averaged over Gaussian inputs it is `c_k`.
    pub(crate) fn at_length(&self, k: usize, excess: f64, d: f64) -> f64 {
        let c = |k: usize| self.c.get(k).copied().unwrap_or(0.0);
        let [a, b, e, f] = [1, 2, 3, 4].map(|i| (k + i) as f64);
        let second = excess * excess - 2.0 / d * (1.0 + 2.0 * excess);
        c(k) + 0.5 * excess * (a * b).sqrt() * c(k + 2)
            + 0.125 * second * (a * b * e * f).sqrt() * c(k + 4)
    }

    /// Derivative of the kernel `sum_k c_k^2 rho^k` with respect to the overlap.
    #[must_use]
    pub fn kernel_slope(&self, rho: f64) -> f64 {
        (1..=ORDER)
            .rev()
            .fold(0.0, |sum, k| sum * rho + k as f64 * self.c[k] * self.c[k])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    fn close(a: f64, b: f64, what: &str) {
        assert!((a - b).abs() < 1e-10 * (1.0 + b.abs()), "{what}: {a} {b}");
    }

    #[test]
    fn relu_and_absolute_value_have_closed_forms() {
        let p = Profile::of(Activation::Relu, 1.0);
        let r = 1.0 / (2.0 * PI).sqrt();
        close(p.c[0], r, "c0");
        close(p.c[1], 0.5, "c1");
        close(p.c[2], r / 2f64.sqrt(), "c2");
        close(p.c[3], 0.0, "c3");
        close(p.c[4], -r / 24f64.sqrt(), "c4");
        close(p.square, 0.5, "k0");
        close(p.fourth, 1.5, "fourth");
        close(p.slope_square, 0.5, "slope");
        close(p.product, r, "b");
        close(p.radial, 0.5, "om");
        close(p.width_factor(), 4.0, "lam");
        let (a, s) = (0.3, 0.4);
        let p = Profile::of(Activation::Abs { slope: a, shift: s }, 1.0);
        let mean = (2.0 / PI).sqrt();
        close(p.c[0], (1.0 - s) * mean, "c0");
        close(p.c[1], a, "c1");
        close(p.c[2], 1.0 / PI.sqrt(), "c2");
        close(p.product, a * mean * (2.0 - s), "b");
        close(p.variance(), a * a + 1.0 - 2.0 / PI, "kt");
    }

    #[test]
    fn error_function_and_gelu_have_closed_forms() {
        // E erf(s x) x = 2 s / sqrt(pi (1 + 2 s^2)); E erf(s x)^2 = (2/pi) asin(2s^2/(1+2s^2)).
        for s in [0.3, 1.0, 1.7] {
            let p = Profile::of(Activation::Erf, s);
            let q = 1.0 + 2.0 * s * s;
            close(p.c[1], 2.0 * s / (PI * q).sqrt(), "c1");
            close(p.square, 2.0 / PI * (2.0 * s * s / q).asin(), "k0");
            close(p.c[0] + p.c[2], 0.0, "parity");
        }
        let p = Profile::of(Activation::Gelu, 1.0);
        close(p.c[0], 0.5 / PI.sqrt(), "c0");
        close(p.c[1], 0.5, "c1");
    }

    #[test]
    fn polynomials_return_their_coefficients_at_unit_scale() {
        let coefficients = [0.1, 0.5, -0.3, 0.2, 0.7];
        let p = Profile::of(Activation::Hermite { coefficients }, 1.0);
        for k in 0..=ORDER {
            close(p.c[k], coefficients.get(k).copied().unwrap_or(0.0), "c");
        }
        let he2 = Profile::of(Activation::HERMITE_2, 1.0);
        close(he2.fourth, 15.0, "fourth");
        close(he2.radial, 2.0, "om");
        close(he2.kernel_slope(0.25), 0.5, "slope of the kernel");
    }

    /// On a sphere of another length a quartic polynomial has a mean, a quadratic part of another size, and
    /// so on (eq. 4).
    #[test]
    fn coefficients_follow_the_length() {
        let quartic = Activation::Hermite {
            coefficients: [0.0, 0.0, 0.0, 0.0, 1.0],
        };
        let p = Profile::of(quartic, 1.0);
        let d = 24.0;
        for excess in [-0.3f64, 0.0, 0.4] {
            let q = 1.0 + excess;
            // Second and fourth moment of the component.
            let fourth = 3.0 * d / (d + 2.0) * q * q;
            let mean = (fourth - 6.0 * q + 3.0) / 24f64.sqrt();
            let second = (12.0 * q - 12.0) / 24f64.sqrt() / 2f64.sqrt();
            let allowed = 6.0 / (d * 24f64.sqrt()) * (excess * excess + 2.0 / d);
            let stated = p.at_length(0, excess, d);
            assert!((stated - mean).abs() < allowed, "{excess} {stated} {mean}");
            close(p.at_length(2, excess, d), second, "quadratic part");
        }
    }

    #[test]
    fn coefficients_obey_parseval_and_stein() {
        let sum = |f: &dyn Fn(usize) -> f64| (0..=ORDER).map(f).sum::<f64>();
        for a in [
            Activation::Tanh,
            Activation::Silu,
            Activation::Gelu,
            Activation::Softplus,
            Activation::HERMITE_2,
        ] {
            for s in [0.4, 1.0] {
                let p = Profile::of(a, s);
                let missing = p.square - sum(&|k| p.c[k] * p.c[k]);
                assert!((0.0..1e-4).contains(&(missing + 1e-12)), "{a} {missing}");
                // (c_k)' : E phi' He_k / sqrt(k!) = sqrt(k+1) c_{k+1}.
                let b = (0..ORDER)
                    .map(|k| (k as f64 + 1.0).sqrt() * p.c[k] * p.c[k + 1])
                    .sum::<f64>();
                assert!((p.product - b).abs() < 1e-3, "{a} {} {b}", p.product);
                let slope = sum(&|k| k as f64 * p.c[k] * p.c[k]);
                assert!((p.slope_square - slope).abs() < 2e-3, "{a}");
            }
        }
        // Kinks: what is left of Parseval's sum falls like ORDER^{-3/2}.
        let p = Profile::of(Activation::Relu, 1.0);
        let missing = p.square - sum(&|k| p.c[k] * p.c[k]);
        assert!(missing > 0.0 && missing < 2e-3, "{missing}");
    }
}
