//! Gaussian integrals shared by the formulas.
//!
//! Expectations over a standard normal use the trapezoid rule on `[-9, 9]`
//! with step 1/16: for smooth integrands of width `>= 0.15` its error is below
//! `1e-12` (the rule converges faster than any power of the step on analytic
//! functions that decay at both ends).

use statrs::function::erf::erfc;

const STEP: f64 = 1.0 / 16.0;
const NODES: i32 = 144;

/// Standard normal density.
#[must_use]
pub fn pdf(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// Standard normal distribution function `Phi`.
#[must_use]
pub fn cdf(x: f64) -> f64 {
    0.5 * erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// `Phi(x)^n` for real `n >= 0`, accurate where `Phi(x)` is near one.
#[must_use]
pub fn cdf_power(x: f64, n: f64) -> f64 {
    if n == 0.0 {
        return 1.0;
    }
    let upper = 0.5 * erfc(x * std::f64::consts::FRAC_1_SQRT_2);
    (n * (-upper).ln_1p()).exp()
}

/// Standard deviations beyond which the tail, below `1e-17`, is nothing.
pub(crate) const FAR: f64 = 8.5;

/// Mean number of competitors ahead at which the chance that there is none, `e^-37`, is nothing.
pub(crate) const HOPELESS: f64 = 37.0;

/// `(1 - p)^n`: the chance that none of `n` competitors is ahead if each is with probability `p`.
pub(crate) fn none_of(p: f64, n: f64) -> f64 {
    if n * p > HOPELESS {
        return 0.0;
    }
    (n * (-p.min(1.0)).ln_1p()).exp()
}

/// `E f(g)` for `g` standard normal.
pub fn expect(mut f: impl FnMut(f64) -> f64) -> f64 {
    let (mut sum, mut weight) = (0.0, 0.0);
    for i in -NODES..=NODES {
        let g = f64::from(i) * STEP;
        let w = pdf(g);
        sum += w * f(g);
        weight += w;
    }
    sum / weight
}

/// `E Phi(x + g)^n`: the chance that a signal of `x` noise units beats `n`
/// independent competitors when its own noise has the same variance.
#[must_use]
pub fn win(x: f64, n: f64) -> f64 {
    expect(|g| cdf_power(x + g, n))
}

/// `E Phi((signal + own g) / spread)^n`, exact in the limits `own -> 0` and
/// `spread -> 0`.
///
/// The integrand varies on the scale `spread / own`; below the step of the
/// quadrature the roles are exchanged: the maximum of the competitors is
/// integrated and the own noise enters through `Phi`.
#[must_use]
pub fn win_scaled(signal: f64, own: f64, spread: f64, n: f64) -> f64 {
    if n <= 0.0 {
        return 1.0;
    }
    if spread <= 0.0 && own <= 0.0 {
        return if signal > 0.0 { 1.0 } else { 0.0 };
    }
    if own <= 2.0 * spread {
        return expect(|g| cdf_power((signal + own * g) / spread, n));
    }
    // P(signal + own g > spread M), M the maximum of n normals; integrate over M
    // by its distribution function on a grid fine enough for any n.
    let (mut total, mut previous) = (0.0, 0.0);
    let h = 1.0 / 64.0;
    let mut m = -9.0;
    while m < 9.0 {
        let next = cdf_power(m + h, n);
        total += (next - previous) * cdf((signal - spread * (m + 0.5 * h)) / own);
        previous = next;
        m += h;
    }
    total + (1.0 - previous) * cdf((signal - spread * 9.0) / own)
}

/// The `x` at which [`win`] equals `p`; grows like `sqrt(2 log n)`.
///
/// Called `x_p` in the notes. `n` is the (effective) number of competitors.
/// Returns `-inf` when chance alone, `1/(n+1)`, reaches `p`, and `+inf` for `p >= 1`.
#[must_use]
pub fn quantile_of_win(p: f64, n: f64) -> f64 {
    if p <= 0.0 || n <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if p >= 1.0 {
        return f64::INFINITY;
    }
    bisect(-12.0, 16.0, |x| win(x, n) - p)
}

/// Root of an increasing function on `[lo, hi]` by bisection to `1e-12` of the width.
pub fn bisect(mut lo: f64, mut hi: f64, mut f: impl FnMut(f64) -> f64) -> f64 {
    for _ in 0..80 {
        let mid = 0.5 * (lo + hi);
        if mid <= lo || mid >= hi {
            break;
        }
        if f(mid) < 0.0 {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    0.5 * (lo + hi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn win_against_one_competitor_is_closed_form() {
        // x + g > g' has probability Phi(x / sqrt 2).
        for x in [-3.0, -0.4, 0.0, 1.3, 4.0] {
            let exact = cdf(x / 2f64.sqrt());
            let error = (win(x, 1.0) - exact).abs();
            assert!(error < 1e-10, "{x} {error}");
            for own in [1e-6, 0.3, 1.0, 5.0, 1e4] {
                let exact = cdf(x / (1.0f64 + own * own).sqrt());
                let error = (win_scaled(x, own, 1.0, 1.0) - exact).abs();
                assert!(error < 1e-5, "{x} {own} {error}");
            }
        }
    }

    #[test]
    fn chance_is_the_zero_signal_limit() {
        for n in [1.0, 7.0, 1023.0, 65535.0] {
            assert!((win(0.0, n) - 1.0 / (n + 1.0)).abs() < 1e-10);
        }
    }

    #[test]
    fn quantile_inverts_and_matches_published_squares() {
        // E max-type constants: squares for n + 1 = 64, 256, 1024, 4096 classes.
        for (v, square) in [
            (64.0, 5.43),
            (256.0, 7.95),
            (1024.0, 10.52),
            (4096.0, 13.12),
        ] {
            let x = quantile_of_win(0.5, v - 1.0);
            assert!((x * x - square).abs() < 0.006, "{v} {}", x * x);
            assert!((win(x, v - 1.0) - 0.5).abs() < 1e-12);
        }
    }
}
