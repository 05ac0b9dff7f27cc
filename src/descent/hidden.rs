//! The fixed random hidden layer `phi(W h)` between attention and the value matrix.

use rand_distr::{Distribution, StandardNormal};
use recall_theory::{Activation, Mlp, MlpInput, MlpRows};

use crate::linalg::{Matrix, Real, View, gemm};
use crate::rng::{Purpose, StreamKey};

/// Activation, input form and weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Hidden<R> {
    /// `phi`.
    pub activation: Activation,
    /// What the layer sees.
    pub input: MlpInput,
    /// `W`, `m x d`.
    pub weights: Matrix<R>,
}

impl<R: Real> Hidden<R> {
    /// Draws the weights row by row, so that a narrower layer is a prefix of a wider one (unless
    /// its rows are balanced).
    #[must_use]
    pub fn draw(mlp: &Mlp, dim: usize, key: &StreamKey) -> Self {
        let mut rng = key.stream(Purpose::Hidden);
        // In f64 for every precision, so that f32 and f64 see the same weights.
        let mut rows: Vec<f64> = (0..mlp.width * dim)
            .map(|_| StandardNormal.sample(&mut rng))
            .collect();
        if mlp.rows == MlpRows::Balanced {
            let mut mean = vec![0.0; dim];
            for row in rows.chunks_exact(dim) {
                mean.iter_mut().zip(row).for_each(|(m, x)| *m += x);
            }
            for row in rows.chunks_exact_mut(dim) {
                row.iter_mut()
                    .zip(&mean)
                    .for_each(|(x, m)| *x -= m / mlp.width as f64);
            }
        }
        let rows = rows.into_iter().map(R::from_f64).collect();
        Hidden {
            activation: mlp.activation,
            input: mlp.input,
            weights: Matrix::from_vec(mlp.width, dim, rows),
        }
    }

    /// Width `m`.
    #[must_use]
    pub fn width(&self) -> usize {
        self.weights.rows()
    }

    /// Replaces each of the `n` rows of `contexts` (`n x d`) by what the layer sees of it, and
    /// writes the norms of the rows (ones for raw input) into `norms`.
    pub fn normalise(&self, contexts: &mut [R], norms: &mut [R]) {
        let dim = self.weights.cols();
        for (row, norm) in contexts.chunks_exact_mut(dim).zip(norms) {
            *norm = R::from_f64(1.0);
            if self.input == MlpInput::Raw {
                continue;
            }
            let length = row
                .iter()
                .map(|x| x.to_f64() * x.to_f64())
                .sum::<f64>()
                .sqrt();
            // The zero vector has no direction; it stays as it is.
            if length > 0.0 {
                *norm = R::from_f64(length);
                let scale = R::from_f64(1.0 / length);
                row.iter_mut().for_each(|x| *x *= scale);
            }
        }
    }

    /// `W x` for each of `n` rows (`n x d` to `n x m`).
    pub fn project(&self, seen: &[R], out: &mut [R]) {
        let (m, dim) = (self.weights.rows(), self.weights.cols());
        let n = out.len() / m;
        gemm(
            R::from_f64(1.0),
            View::new(&seen[..n * dim], n, dim),
            self.weights.view().t(),
            R::default(),
            out,
        );
    }

    /// `phi` in place.
    pub fn activate(&self, x: &mut [R]) {
        activate(self.activation, x);
    }

    /// Multiplies `out` by `phi'(x)`.
    pub fn times_derivative(&self, x: &[R], out: &mut [R]) {
        times_derivative(self.activation, x, out);
    }

    /// The gradient with respect to `h` from that with respect to what the layer sees: the
    /// Jacobian `(I - s s^T)/|h|` of the normalisation, row by row in place.
    pub fn through_normalisation(&self, seen: &[R], norms: &[R], gradient: &mut [R]) {
        if self.input == MlpInput::Raw {
            return;
        }
        let dim = self.weights.cols();
        for ((g, s), norm) in gradient
            .chunks_exact_mut(dim)
            .zip(seen.chunks_exact(dim))
            .zip(norms)
        {
            let along: f64 = g.iter().zip(s).map(|(g, s)| g.to_f64() * s.to_f64()).sum();
            let along = R::from_f64(along);
            for (g, s) in g.iter_mut().zip(s) {
                *g = (*g - along * *s) / *norm;
            }
        }
    }
}

/// What the layer makes of one chunk of contexts.
#[derive(Debug, Default)]
pub(super) struct Buffers<R> {
    /// What the layer sees, `n x d`.
    pub(super) seen: Vec<R>,
    /// Norms of the contexts.
    pub(super) norms: Vec<R>,
    /// Before the activation, `n x m`.
    pub(super) before: Vec<R>,
    /// Features, `n x m`.
    pub(super) active: Vec<R>,
}

impl<R: Real> Buffers<R> {
    /// For up to `rows` contexts.
    pub(super) fn new(hidden: &Hidden<R>, rows: usize) -> Self {
        let (m, d) = (hidden.width(), hidden.weights.cols());
        let zero = R::default();
        Buffers {
            seen: vec![zero; rows * d],
            norms: vec![zero; rows],
            before: vec![zero; rows * m],
            active: vec![zero; rows * m],
        }
    }

    /// Features of the contexts in the first `n` rows of `seen`.
    pub(super) fn forward(&mut self, hidden: &Hidden<R>, n: usize) {
        let (m, d) = (hidden.width(), hidden.weights.cols());
        hidden.normalise(&mut self.seen[..n * d], &mut self.norms[..n]);
        hidden.project(&self.seen[..n * d], &mut self.before[..n * m]);
        self.active[..n * m].copy_from_slice(&self.before[..n * m]);
        hidden.activate(&mut self.active[..n * m]);
    }

    /// From gradients with respect to the features of the last chunk (overwritten) to those with
    /// respect to its contexts.
    pub(super) fn back(&self, hidden: &Hidden<R>, features: &mut [R], contexts: &mut [R]) {
        let m = hidden.width();
        let n = features.len() / m;
        hidden.times_derivative(&self.before[..n * m], features);
        gemm(
            R::from_f64(1.0),
            View::new(features, n, m),
            hidden.weights.view(),
            R::default(),
            contexts,
        );
        hidden.through_normalisation(&self.seen, &self.norms, contexts);
    }
}

fn each<R: Real>(x: &mut [R], f: impl Fn(R) -> R) {
    x.iter_mut().for_each(|x| *x = f(*x));
}

fn positive<R: Real>(x: R) -> bool {
    x > R::default()
}

/// `phi` in place. Piecewise linear and polynomial forms are evaluated in the precision at hand,
/// the others in f64, or in f32 by forms that are accurate to its rounding.
fn activate<R: Real>(activation: Activation, x: &mut [R]) {
    let zero = R::default();
    let c = R::from_f64;
    match activation {
        Activation::Linear => {}
        Activation::Relu => each(x, |x| if positive(x) { x } else { zero }),
        Activation::CentredRelu => {
            let mean = c(-activation.value(0.0));
            each(x, |x| (if positive(x) { x } else { zero }) - mean);
        }
        Activation::LeakyRelu { slope } => {
            let slope = c(slope);
            each(x, |x| if positive(x) { x } else { slope * x });
        }
        Activation::Abs { slope, .. } => {
            let (slope, offset) = (c(slope), c(activation.value(0.0)));
            each(x, |x| {
                (if positive(x) { x } else { -x }) + slope * x + offset
            });
        }
        Activation::Hermite { coefficients } => {
            let p = powers(coefficients).map(c);
            each(x, |x| p.iter().rev().fold(zero, |sum, p| sum * x + *p));
        }
        Activation::Tanh if R::NAME == "f32" => each(x, |x| fast_tanh(x)),
        Activation::Gelu if R::NAME == "f32" => each(x, |x| x * fast_normal(x).0),
        other => each(x, |x| c(other.value(x.to_f64()))),
    }
}

/// `out *= phi'(x)`.
fn times_derivative<R: Real>(activation: Activation, x: &[R], out: &mut [R]) {
    let (zero, one) = (R::default(), R::from_f64(1.0));
    let c = R::from_f64;
    let each = |out: &mut [R], f: &dyn Fn(R) -> R| {
        out.iter_mut().zip(x).for_each(|(o, x)| *o *= f(*x));
    };
    match activation {
        Activation::Linear => {}
        Activation::Relu | Activation::CentredRelu => {
            for (o, x) in out.iter_mut().zip(x) {
                *o = if positive(*x) { *o } else { zero };
            }
        }
        Activation::LeakyRelu { slope } => {
            let slope = c(slope);
            for (o, x) in out.iter_mut().zip(x) {
                *o *= if positive(*x) { one } else { slope };
            }
        }
        Activation::Abs { slope, .. } => {
            let (up, down, kink) = (c(slope + 1.0), c(slope - 1.0), c(slope));
            for (o, x) in out.iter_mut().zip(x) {
                *o *= if positive(*x) {
                    up
                } else if *x < zero {
                    down
                } else {
                    kink
                };
            }
        }
        Activation::Hermite { coefficients } => {
            let p = powers(coefficients);
            let derivative = [p[1], 2.0 * p[2], 3.0 * p[3], 4.0 * p[4]].map(c);
            for (o, x) in out.iter_mut().zip(x) {
                *o *= derivative.iter().rev().fold(zero, |sum, p| sum * *x + *p);
            }
        }
        Activation::Tanh if R::NAME == "f32" => each(out, &|x| {
            let t = fast_tanh(x);
            one - t * t
        }),
        Activation::Gelu if R::NAME == "f32" => each(out, &|x| {
            let (cdf, pdf) = fast_normal(x);
            cdf + x * pdf
        }),
        other => each(out, &|x| c(other.derivative(x.to_f64()))),
    }
}

/// Coefficients of `1, x, ..., x^4` from normalised Hermite ones.
fn powers(c: [f64; 5]) -> [f64; 5] {
    let [a, b, d, e, f] = [
        c[0],
        c[1],
        c[2] / 2f64.sqrt(),
        c[3] / 6f64.sqrt(),
        c[4] / 24f64.sqrt(),
    ];
    [a - d + 3.0 * f, b - 3.0 * e, d - 6.0 * f, e, f]
}

/// `tanh`, absolute error a few roundings of f32.
fn fast_tanh<R: Real>(x: R) -> R {
    let one = R::from_f64(1.0);
    let negative = x < R::default();
    let size = if negative { -x } else { x };
    let e = (R::from_f64(-2.0) * size).exp();
    let t = (one - e) / (one + e);
    if negative { -t } else { t }
}

/// Standard normal distribution function and density, the former by the rational form of
/// Hastings (Abramowitz and Stegun 7.1.26, absolute error 1.5e-7).
fn fast_normal<R: Real>(x: R) -> (R, R) {
    let c = R::from_f64;
    let one = c(1.0);
    let negative = x < R::default();
    let size = (if negative { -x } else { x }) * c(std::f64::consts::FRAC_1_SQRT_2);
    let bell = (-(size * size)).exp();
    let t = one / (one + c(0.327_591_1) * size);
    let poly = t
        * (c(0.254_829_592)
            + t * (c(-0.284_496_736)
                + t * (c(1.421_413_741) + t * (c(-1.453_152_027) + t * c(1.061_405_429)))));
    let tail = c(0.5) * poly * bell;
    let cdf = if negative { tail } else { one - tail };
    (cdf, bell * c(0.398_942_280_401_432_7))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Activation; 12] = [
        Activation::Linear,
        Activation::Relu,
        Activation::CentredRelu,
        Activation::LeakyRelu { slope: 0.1 },
        Activation::Gelu,
        Activation::Silu,
        Activation::Softplus,
        Activation::Tanh,
        Activation::Erf,
        Activation::Abs {
            slope: 0.3,
            shift: 1.0,
        },
        Activation::HERMITE_2,
        Activation::Hermite {
            coefficients: [0.1, 0.5, -0.3, 0.2, 0.7],
        },
    ];

    fn agrees<R: Real>(tolerance: f64) {
        let grid: Vec<f64> = (-60..=60).map(|i| f64::from(i) * 0.0731).collect();
        for a in ALL {
            let x: Vec<R> = grid.iter().map(|x| R::from_f64(*x)).collect();
            let mut value = x.clone();
            activate(a, &mut value);
            let mut slope = vec![R::from_f64(1.0); x.len()];
            times_derivative(a, &x, &mut slope);
            for ((x, v), s) in x.iter().zip(&value).zip(&slope) {
                let x = x.to_f64();
                let scale = 1.0 + x.powi(4);
                assert!(
                    (v.to_f64() - a.value(x)).abs() < tolerance * scale,
                    "{a} at {x}: {v:?}"
                );
                assert!(
                    (s.to_f64() - a.derivative(x)).abs() < tolerance * scale,
                    "{a}' at {x}: {s:?}"
                );
            }
        }
    }

    #[test]
    fn both_precisions_follow_the_definition() {
        agrees::<f64>(1e-14);
        agrees::<f32>(1e-6);
    }

    #[test]
    fn rows_may_be_balanced_and_a_narrow_layer_is_a_prefix() {
        let mlp = |width, rows| Mlp {
            activation: Activation::Relu,
            width,
            input: MlpInput::Raw,
            rows,
        };
        let key = StreamKey::from_text("hidden");
        let wide = Hidden::<f64>::draw(&mlp(20, MlpRows::Gaussian), 5, &key);
        let narrow = Hidden::<f64>::draw(&mlp(8, MlpRows::Gaussian), 5, &key);
        assert_eq!(wide.weights.data()[..40], narrow.weights.data()[..]);
        let balanced = Hidden::<f64>::draw(&mlp(20, MlpRows::Balanced), 5, &key);
        for k in 0..5 {
            let sum: f64 = (0..20).map(|i| balanced.weights.row(i)[k]).sum();
            assert!(sum.abs() < 1e-12);
        }
    }

    #[test]
    fn the_normalisation_has_the_jacobian_of_finite_differences() {
        let mlp = Mlp {
            activation: Activation::Linear,
            width: 2,
            input: MlpInput::Rms,
            rows: MlpRows::Gaussian,
        };
        let hidden = Hidden::<f64>::draw(&mlp, 3, &StreamKey::from_text("jacobian"));
        let (h, g) = ([0.3, -1.2, 0.7], [0.5, 0.1, -0.4]);
        let seen = |h: [f64; 3]| {
            let (mut s, mut norm) = (h, [0.0]);
            hidden.normalise(&mut s, &mut norm);
            (s, norm)
        };
        let (s, norm) = seen(h);
        let mut back = g;
        hidden.through_normalisation(&s, &norm, &mut back);
        for i in 0..3 {
            let step = |e: f64| {
                let mut h = h;
                h[i] += e;
                seen(h).0.iter().zip(&g).map(|(s, g)| s * g).sum::<f64>()
            };
            let slope = (step(1e-6) - step(-1e-6)) / 2e-6;
            assert!((slope - back[i]).abs() < 1e-8, "{i}");
        }
    }
}
