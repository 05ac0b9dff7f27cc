//! Law of a competing logit at a given narrow layer. Derivation: `narrow.md`.
//!
//! With orthonormal outputs a competitor is its own association only, `K(u, j)`, and in a narrow
//! layer that is far from Gaussian. Here its law is computed layer by layer.

use crate::mlp::hermite::{Profile, normalised_hermite};
use crate::mlp::kernel::{Coordinates, KernelRow, Layer, UnitTable};
use crate::setting::{Mlp, MlpRows};

/// Widest layer that is treated so; beyond, cumulants do.
pub(crate) const NARROW: usize = 128;
/// Step and number of frequencies of the transforms, in units of the inverse deviation.
const FREQUENCY: f64 = 0.1;
const FREQUENCIES: usize = 600;
/// Deviation of the normal variable that is added to make the transforms end.
const BLUR: f64 = 0.07;
/// Deviations at which the tail is tabulated.
const FIRST: f64 = -8.0;
const STEP: f64 = 0.1;
const POINTS: usize = 361;
/// Table of the transform of one unit: step in its argument and number of arguments.
const ARGUMENT: f64 = 0.05;
const ARGUMENTS: usize = 1300;
/// Lengths of the weights of a unit, in units of `sqrt d`.
const SHORTEST: f64 = 0.4;
const LONGEST: f64 = 2.0;
const LENGTHS: usize = 41;

/// What a token meets at one layer.
#[derive(Debug, Clone)]
pub(crate) struct LayerLaw {
    /// Length of the token's row: its index among the kernel's rows.
    pub(crate) row: usize,
    /// `K_uu`.
    pub(crate) own: f64,
    /// Mean of `K(u, .)` over the other rows.
    pub(crate) mean: f64,
    /// Variance of the same.
    pub(crate) variance: f64,
    /// Chance of a deviation above `FIRST + i STEP` standard deviations.
    tail: Vec<f64>,
}

impl LayerLaw {
    /// Chance that another kernel value is more than `x` standard deviations above the mean.
    pub(crate) fn above(&self, x: f64) -> f64 {
        tabulated(&self.tail, x)
    }
}

fn tabulated(tail: &[f64], x: f64) -> f64 {
    let at = ((x - FIRST) / STEP).max(0.0);
    let i = at as usize;
    let Some(next) = tail.get(i + 1) else {
        return 0.0;
    };
    let t = at - i as f64;
    tail[i] * (1.0 - t) + next * t
}

#[derive(Clone, Copy)]
struct Complex {
    re: f64,
    im: f64,
}

impl Complex {
    fn unit(angle: f64) -> Self {
        let (im, re) = angle.sin_cos();
        Complex { re, im }
    }

    fn times(self, o: Complex) -> Self {
        Complex {
            re: self.re * o.re - self.im * o.im,
            im: self.re * o.im + self.im * o.re,
        }
    }
}

/// `E exp(i u f)` of a variable of mean zero and variance one at multiples of [`ARGUMENT`]: real and
/// imaginary part, and their slopes per step.
struct Spectrum(Vec<[f64; 4]>);

impl Spectrum {
    /// At a non-negative multiple of the step, by cubic interpolation; its last value beyond.
    fn at(&self, u: f64) -> Complex {
        let i = (u as usize).min(self.0.len() - 2);
        let t = (u - i as f64).min(1.0);
        let (a, b) = (&self.0[i], &self.0[i + 1]);
        let part = |k: usize| {
            let c = b[k] - a[k];
            let (e, f) = (a[k + 2] - c, b[k + 2] - c);
            a[k] + t * c + t * (1.0 - t) * ((1.0 - t) * e - t * f)
        };
        Complex {
            re: part(0),
            im: part(1),
        }
    }

    /// Of the variable with the given values and probabilities, brought to that form.
    fn of(nodes: &[(f64, f64)]) -> Self {
        let mean: f64 = nodes.iter().map(|n| n.0 * n.1).sum();
        let variance: f64 = nodes.iter().map(|n| n.1 * (n.0 - mean).powi(2)).sum();
        let unit = variance.sqrt().max(1e-12);
        let mut values = vec![[0.0; 4]; ARGUMENTS];
        for &(f, w) in nodes {
            let phase = (f - mean) / unit * ARGUMENT;
            let turn = Complex::unit(phase);
            let mut z = Complex { re: w, im: 0.0 };
            for v in &mut values {
                v[0] += z.re;
                v[1] += z.im;
                v[2] -= phase * z.im;
                v[3] += phase * z.re;
                z = z.times(turn);
            }
        }
        Spectrum(values)
    }
}

/// One unit's activation over the other rows, by the length of its weights: mean, variance, and
/// the spectrum of its shape.
struct Units {
    moments: UnitTable,
    shapes: Vec<Spectrum>,
}

impl Units {
    fn new(layer: &Layer) -> Self {
        let phi = layer.mlp.activation;
        let coordinates = layer.projections();
        let shapes = (0..LENGTHS)
            .map(|i| {
                let share = i as f64 / (LENGTHS - 1) as f64;
                let r = SHORTEST + share * (LONGEST - SHORTEST);
                let values: Coordinates = coordinates
                    .iter()
                    .map(|&(x, w)| (phi.value(r * x), w))
                    .collect();
                Spectrum::of(&values)
            })
            .collect();
        Units {
            moments: UnitTable::new(layer),
            shapes,
        }
    }

    fn shape(&self, length: f64) -> &Spectrum {
        let top = (LENGTHS - 1) as f64;
        let x = (length - SHORTEST) / (LONGEST - SHORTEST) * top;
        &self.shapes[x.round().clamp(0.0, top) as usize]
    }
}

/// Number of layers: a prime above twice [`NARROW`].
const LAYERS: usize = 257;

/// Inverse modulo a prime by Fermat's theorem; 0 is its own.
fn inverse(x: usize, prime: usize) -> usize {
    let (mut out, mut base, mut e) = (1, x % prime, prime - 2);
    while e > 0 {
        if e & 1 == 1 {
            out = out * base % prime;
        }
        base = base * base % prime;
        e >>= 1;
    }
    if x.is_multiple_of(prime) { 0 } else { out }
}

/// Index, in `0..prime`, of coordinate `k` of point `i`: the explicit inversive rule. Every
/// coordinate takes each value once over the points (note, section 3).
fn index(i: usize, k: usize, inverses: &[usize]) -> usize {
    inverses[((k + 2) * i + k) % inverses.len()]
}

/// Standard normal quantile.
fn normal(p: f64) -> f64 {
    crate::gauss::bisect(-8.0, 8.0, |x| crate::gauss::cdf(x) - p)
}

/// Laws of `K(u, .)` at a set of layers of equal probability (note, section 2). `rows` are the
/// kernel's moments by the length of the token's row.
pub(crate) fn layer_laws(layer: &Layer, rows: &[KernelRow]) -> Vec<LayerLaw> {
    let mlp = &layer.mlp;
    let units = Units::new(layer);
    let infinite: Vec<Spectrum> = rows
        .iter()
        .map(|r| Spectrum::of(&layer.infinite_values(r.length)))
        .collect();
    let profiles: Vec<Profile> = rows
        .iter()
        .map(|r| Profile::of(mlp.activation, r.length))
        .collect();
    let slope = layer
        .lengths
        .iter()
        .map(|&(l, w)| w * Profile::of(mlp.activation, l).c[1].powi(2))
        .sum();
    let prime = LAYERS;
    let inverses: Vec<usize> = (0..prime).map(|x| inverse(x, prime)).collect();
    let quantile: Vec<f64> = (0..prime)
        .map(|i| normal((i as f64 + 0.5) / prime as f64))
        .collect();
    (0..prime)
        .map(|i| {
            let row = row_at(rows, (i as f64 + 0.5) / prime as f64);
            let mut along: Vec<f64> = (0..mlp.width)
                .map(|k| quantile[index(i, k, &inverses)])
                .collect();
            if mlp.rows == MlpRows::Balanced {
                centre(&mut along);
            }
            // Across the row the lengths differ little: a lattice spreads them over the units.
            let c = 2.0 / (9.0 * (layer.d - 1.0));
            let lengths: Vec<f64> = along
                .iter()
                .enumerate()
                .map(|(k, g)| {
                    let cube = 1.0 - c + quantile[(7 * i + 47 * k) % prime] * c.sqrt();
                    let rest = (layer.d - 1.0) * cube.max(0.0).powi(3);
                    ((g * g + rest) / layer.d).sqrt()
                })
                .collect();
            let part = Part {
                mlp,
                row: &rows[row],
                profile: &profiles[row],
                infinite: &infinite[row],
                slope,
            };
            let mut law = part.law(&units, &along, &lengths);
            law.row = row;
            law
        })
        .collect()
}

/// Rows that add up to zero, of unit variance.
fn centre(along: &mut [f64]) {
    let m = along.len() as f64;
    let mean = along.iter().sum::<f64>() / m;
    let scale = (1.0 - 1.0 / m).max(1e-9).sqrt();
    for g in along {
        *g = (*g - mean) / scale;
    }
}

/// The row whose share of probability holds `p`.
fn row_at(rows: &[KernelRow], p: f64) -> usize {
    let mut seen = 0.0;
    for (i, row) in rows.iter().enumerate() {
        seen += row.weight;
        if p < seen {
            return i;
        }
    }
    rows.len() - 1
}

/// What is common to the layers that a row of one length sees.
struct Part<'a> {
    mlp: &'a Mlp,
    row: &'a KernelRow,
    profile: &'a Profile,
    /// Shape of the interference.
    infinite: &'a Spectrum,
    /// `E c_1^2` over the lengths of the other rows.
    slope: f64,
}

impl Part<'_> {
    /// At the layer whose units have the components `along` the token's row and the `lengths`.
    fn law(&self, units: &Units, along: &[f64], lengths: &[f64]) -> LayerLaw {
        let m = along.len() as f64;
        let f: Vec<f64> = along
            .iter()
            .map(|g| self.mlp.activation.value(self.row.length * g))
            .collect();
        let own = f.iter().map(|x| x * x).sum::<f64>() / m;
        let (mut mean, mut whole) = (0.0, 0.0);
        let mut deviations = Vec::with_capacity(f.len());
        for (a, &l) in f.iter().zip(lengths) {
            let [unit_mean, unit_variance, ..] = units.moments.at(l);
            mean += a / m * unit_mean;
            whole += (a / m).powi(2) * unit_variance;
            deviations.push(a / m * unit_variance.sqrt());
        }
        // Rows that add up to zero take the common linear part away (`kernel.md`, section 4).
        let width = if self.mlp.rows == MlpRows::Balanced {
            let sum = f.iter().sum::<f64>() / m;
            (whole - sum * sum * self.slope / m).max(0.0)
        } else {
            whole
        };
        let wide = self.interference(along, &f);
        let variance = width + wide;
        let tail = if variance > 0.0 {
            let scale = (width / variance / whole.max(1e-300)).sqrt() / ARGUMENT;
            let shapes: Vec<(f64, f64, &Spectrum)> = deviations
                .iter()
                .zip(lengths)
                .map(|(a, &l)| (a.abs() * scale, a.signum(), units.shape(l)))
                .collect();
            let part = (wide / variance).sqrt() / ARGUMENT;
            tail(|omega| product(self.infinite.at(omega * part), omega, &shapes))
        } else {
            Vec::new()
        };
        LayerLaw {
            row: 0,
            own,
            mean,
            variance,
            tail,
        }
    }

    /// Variance of the interference at this layer: pairs of distinct units (note, eq. 3).
    fn interference(&self, along: &[f64], f: &[f64]) -> f64 {
        let m = along.len() as f64;
        if along.len() < 2 {
            return 0.0;
        }
        let pairs = |amplitude: &dyn Fn(f64, f64) -> f64, mean: f64| {
            if mean.abs() < 1e-9 {
                return 1.0;
            }
            let (mut sum, mut square) = (0.0, 0.0);
            for (&g, &f) in along.iter().zip(f) {
                let a = amplitude(g, f) / mean;
                sum += a;
                square += a * a;
            }
            ((sum * sum - square) / (m * (m - 1.0))).max(0.0)
        };
        let degree = |k: usize| pairs(&|g, f| f * normalised_hermite(g)[k], self.profile.c[k]);
        let [one, two, rest] = self.row.interference;
        one * degree(1) + two * degree(2) + rest * pairs(&|_, f| f * f, self.profile.square)
    }
}

/// `start` times the spectra of independent units, each given by its deviation over [`ARGUMENT`],
/// its sign and its shape.
fn product(start: Complex, omega: f64, units: &[(f64, f64, &Spectrum)]) -> Complex {
    let mut z = start;
    for &(deviation, sign, shape) in units {
        let p = shape.at(omega * deviation);
        z = z.times(Complex {
            re: p.re,
            im: sign * p.im,
        });
        if z.re * z.re + z.im * z.im < 1e-14 {
            break;
        }
    }
    z
}

/// Tail of a centred variable of unit variance from its transform, by the inversion formula on
/// midpoints (note, eq. 2).
fn tail(transform: impl Fn(f64) -> Complex) -> Vec<f64> {
    // The variable that is added widens the law; scale it back.
    let scale = (1.0 + BLUR * BLUR).sqrt();
    let mut out = vec![0.5; POINTS];
    let mut quiet = 0;
    for n in 0..FREQUENCIES {
        let omega = (n as f64 + 0.5) * FREQUENCY;
        let z = transform(omega);
        let damp = (-0.5 * (BLUR * omega).powi(2)).exp();
        let size = z.re.hypot(z.im) * damp;
        // A transform may have zeros before it has died out.
        quiet = if size < 1e-7 { quiet + 1 } else { 0 };
        if quiet > 8 {
            break;
        }
        let part = FREQUENCY / std::f64::consts::PI * damp / omega;
        let turn = Complex::unit(-omega * STEP * scale);
        let mut wave = Complex::unit(-omega * FIRST * scale);
        for p in &mut out {
            *p += part * (wave.re * z.im + wave.im * z.re);
            wave = wave.times(turn);
        }
    }
    // What is left of the period's ends may not make a chance negative or let it rise.
    let mut last = 1.0f64;
    for p in &mut out {
        *p = p.clamp(0.0, last);
        last = *p;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::mlp::kernel::kernel_rows;
    use crate::setting::{MlpInput, Setting};
    use crate::test_random::Lcg;

    #[test]
    fn tails_of_known_laws_come_back_from_their_transforms() {
        // Standard normal; and the exponential law less its mean, transform e^{-iw}/(1 - iw).
        let gaussian = tail(|w| Complex {
            re: (-0.5 * w * w).exp(),
            im: 0.0,
        });
        let exponential = tail(|w| {
            let size = 1.0 / (1.0 + w * w);
            Complex::unit(-w).times(Complex {
                re: size,
                im: w * size,
            })
        });
        for x in [-1.5, 0.0, 1.0, 2.0, 3.0, 4.0] {
            let g = crate::gauss::cdf(-x);
            assert!((tabulated(&gaussian, x) - g).abs() < 1e-5 + 0.01 * g, "{x}");
            if x > 0.5 {
                let e = (-1.0 - x).exp();
                let got = tabulated(&exponential, x);
                assert!((got / e - 1.0).abs() < 0.02, "{x} {got} {e}");
            }
        }
    }

    #[test]
    fn every_coordinate_of_the_rule_takes_every_value() {
        let inverses: Vec<usize> = (0..LAYERS).map(|x| inverse(x, LAYERS)).collect();
        for (x, y) in inverses.iter().enumerate().skip(1) {
            assert_eq!(x * y % LAYERS, 1);
        }
        for k in 0..NARROW {
            let mut seen = vec![false; LAYERS];
            for i in 0..LAYERS {
                seen[index(i, k, &inverses)] = true;
            }
            assert!(seen.iter().all(|&s| s), "{k}");
        }
    }

    /// Chance that none of `n` other rows of weight one has a larger kernel value than the token
    /// itself, by drawing layers and rows, and by the laws.
    fn recall_of(phi: Activation, rows: MlpRows, d: usize, m: usize, n: usize) -> (f64, f64) {
        let (layers, mut rng) = (1000, Lcg(17));
        let mut won = 0.0;
        for _ in 0..layers {
            let mut w: Vec<Vec<f64>> = (0..m)
                .map(|_| (0..d).map(|_| rng.normal()).collect())
                .collect();
            if rows == MlpRows::Balanced {
                for a in 0..d {
                    let mean = w.iter().map(|row| row[a]).sum::<f64>() / m as f64;
                    for row in &mut w {
                        row[a] -= mean;
                    }
                }
            }
            let hidden: Vec<Vec<f64>> = rng
                .table(n + 1, d, true)
                .iter()
                .map(|x| {
                    w.iter()
                        .map(|row| phi.value(row.iter().zip(x).map(|(a, b)| a * b).sum()))
                        .collect()
                })
                .collect();
            let kernel = |u: usize, j: usize| -> f64 {
                hidden[u].iter().zip(&hidden[j]).map(|(a, b)| a * b).sum()
            };
            // A few tokens of each layer.
            for u in 0..8 {
                let best = (0..=n)
                    .filter(|&j| j != u)
                    .map(|j| kernel(u, j))
                    .fold(f64::NEG_INFINITY, f64::max);
                won += f64::from(u8::from(kernel(u, u) > best)) / (8 * layers) as f64;
            }
        }
        let mlp = Mlp {
            activation: phi,
            width: m,
            input: MlpInput::Rms,
            rows,
        };
        let s = Setting::new(n + 1, d, 8, 64).with_mlp(mlp);
        let laws = layer_laws(&Layer::of(&s, &mlp), &kernel_rows(&s, &mlp));
        let stated = laws
            .iter()
            .map(|l| {
                let p = l.above((l.own - l.mean) / l.variance.sqrt());
                (n as f64 * (-p).ln_1p()).exp() / laws.len() as f64
            })
            .sum();
        (won, stated)
    }

    #[test]
    fn drawn_layers_recall_as_their_laws_say() {
        let steep = Activation::Hermite {
            coefficients: [0.2, 0.3, 0.4, 0.6, 0.6],
        };
        for (phi, rows, d) in [
            (steep, MlpRows::Gaussian, 20),
            (steep, MlpRows::Gaussian, 40),
            (Activation::HERMITE_2, MlpRows::Gaussian, 20),
            (Activation::HERMITE_2, MlpRows::Gaussian, 40),
            (Activation::HERMITE_2, MlpRows::Balanced, 30),
        ] {
            let (drawn, stated) = recall_of(phi, rows, d, 24, 120);
            // Standard errors: .006 of the drawing, .02 of the rule.
            assert!(
                (drawn - stated).abs() < 0.04,
                "{phi} {rows:?} {d} {drawn} {stated}"
            );
        }
    }
}
