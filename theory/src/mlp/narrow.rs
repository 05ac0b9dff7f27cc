//! Law of a competing logit at a given narrow layer. Derivation: `narrow.md`.
//!
//! With orthonormal outputs a competitor is its own association only, `K(u, j)`, and in a narrow
//! layer that is far from Gaussian. Here its law is computed layer by layer.

use crate::gauss;
use crate::mlp::hermite::Profile;
use crate::mlp::kernel::{Coordinates, KernelRow, Layer};
use crate::mlp::overlap::{Cell, bounded, common_part, tail_of};
use crate::mlp::recall::{normal_score, reshaped};
use crate::quadrature::{HERMITE_5, norm_nodes};
use crate::setting::MlpRows;

/// Widest layer that is treated so; beyond, cumulants do.
pub(crate) const NARROW: usize = 128;
/// Step and number of frequencies of the transforms, in units of the inverse deviation.
const FREQUENCY: f64 = 0.1;
const FREQUENCIES: usize = 600;
/// Deviation of the normal variable that is added to make the transforms end.
const BLUR: f64 = 0.07;
/// Deviations at which the tail is tabulated.
pub(crate) const FIRST: f64 = -8.0;
pub(crate) const STEP: f64 = 0.1;
pub(crate) const POINTS: usize = 361;
/// Table of the transform of one unit: step in its argument and number of arguments.
const ARGUMENT: f64 = 0.05;
const ARGUMENTS: usize = 1300;
/// Lengths of the weights of a unit, in units of `sqrt d`.
const SHORTEST: f64 = 0.4;
const LONGEST: f64 = 1.6;
const LENGTHS: usize = 25;

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
    pub(crate) tail: Vec<f64>,
}

/// Chance of a deviation above `x`, from its table.
pub(crate) fn tabulated(tail: &[f64], x: f64) -> f64 {
    let at = ((x - FIRST) / STEP).clamp(0.0, POINTS as f64);
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

/// Shapes of one unit's activation over the other rows, by the length of its weights.
struct Shapes(Vec<Spectrum>);

impl Shapes {
    fn new(layer: &Layer) -> Self {
        let phi = layer.mlp.activation;
        let coordinates = layer.projections();
        Shapes(
            (0..LENGTHS)
                .map(|i| {
                    let share = i as f64 / (LENGTHS - 1) as f64;
                    let r = SHORTEST + share * (LONGEST - SHORTEST);
                    let values: Coordinates = coordinates
                        .iter()
                        .map(|&(x, w)| (phi.value(r * x), w))
                        .collect();
                    Spectrum::of(&values)
                })
                .collect(),
        )
    }

    fn at(&self, length: f64) -> &Spectrum {
        let top = (LENGTHS - 1) as f64;
        let x = (length - SHORTEST) / (LONGEST - SHORTEST) * top;
        &self.0[x.round().clamp(0.0, top) as usize]
    }
}

/// Number of layers, about, and of those in whose place each stands.
const LAYERS: usize = 256;
const STRATUM: usize = 16;
/// Quantiles of the normal law, a power of two.
const QUANTILES: usize = 4096;

/// Standard normal quantile.
fn normal(p: f64) -> f64 {
    gauss::bisect(-8.0, 8.0, |x| gauss::cdf(x) - p)
}

/// A layer as a token sees it.
struct Drawn {
    /// Components of the units' weights along the token's row.
    along: Vec<f64>,
    /// Their lengths across it, in units of `sqrt d`.
    rest: Vec<f64>,
    /// A normal score independent of these.
    score: f64,
}

/// A pool of layers, each made of its number by a hash.
struct Pool<'a> {
    layer: &'a Layer,
    quantile: Vec<f64>,
}

impl<'a> Pool<'a> {
    fn new(layer: &'a Layer) -> Self {
        let quantile = (0..QUANTILES)
            .map(|i| normal((i as f64 + 0.5) / QUANTILES as f64))
            .collect();
        Pool { layer, quantile }
    }

    /// Layer `i`.
    fn layer(&self, i: usize) -> Drawn {
        let width = self.layer.mlp.width;
        let d = self.layer.d;
        let c = 2.0 / (9.0 * (d - 1.0));
        let (mut along, mut rest) = (Vec::with_capacity(width), Vec::with_capacity(width));
        for k in 0..width {
            let z = hash(i, k);
            along.push(self.quantile[(z >> 52) as usize]);
            let g = self.quantile[(z >> 40) as usize & (QUANTILES - 1)];
            let cube = (1.0 - c + g * c.sqrt()).max(0.0);
            rest.push(((d - 1.0) / d * cube.powi(3)).sqrt());
        }
        if self.layer.mlp.rows == MlpRows::Balanced {
            centre(&mut along);
        }
        Drawn {
            along,
            rest,
            score: self.quantile[(hash(i, width) >> 52) as usize],
        }
    }

    /// `count` layers of equal probability for a token whose row has the given length: the middle of
    /// strata of the chance to be beaten by one competitor, by cumulants (note, section 3).
    fn strata(&self, count: usize, length: f64, table: &GivenOverlap) -> Vec<Drawn> {
        let phi = self.layer.mlp.activation;
        let mut scores: Vec<(f64, usize)> = (0..count * STRATUM)
            .map(|i| {
                let drawn = self.layer(i);
                let mut sums = [0.0; 3];
                for (&g, &r) in drawn.along.iter().zip(&drawn.rest) {
                    let f = phi.value(length * g);
                    let [_, variance, _, third] = table.at(0.0, r);
                    let square = f * f;
                    sums[0] += square;
                    sums[1] += square * variance;
                    sums[2] += square * f * third;
                }
                let sd = sums[1].max(1e-300).sqrt();
                (normal_score(sums[0] / sd, sums[2] / sd.powi(3), 0.0), i)
            })
            .collect();
        scores.sort_by(|a, b| a.0.total_cmp(&b.0));
        scores
            .chunks(STRATUM)
            .map(|stratum| self.layer(stratum[stratum.len() / 2].1))
            .collect()
    }
}

/// SplitMix64 of two numbers.
fn hash(i: usize, k: usize) -> u64 {
    let mut z = ((i as u64) << 32 | k as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
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

/// Moments of one unit's activation over the other tokens at a given overlap, by the part of its
/// argument that the overlap fixes and the scale of the rest.
struct GivenOverlap {
    /// Mean, variance, slope in the rest, and third cumulant.
    values: Vec<[f64; 4]>,
}

const SHIFT_REACH: f64 = 6.0;
const SHIFTS: usize = 81;
const SCALES: usize = 15;
const SCALE_REACH: f64 = 1.75;

impl GivenOverlap {
    fn new(layer: &Layer, length: f64) -> Self {
        let phi = layer.mlp.activation;
        let nodes: Vec<(f64, f64)> = layer.coordinates(6.5, 4);
        let mass: f64 = nodes.iter().map(|n| n.1).sum();
        let mut values = Vec::with_capacity(SHIFTS * SCALES);
        for i in 0..SHIFTS {
            let shift = SHIFT_REACH * (2.0 * i as f64 / (SHIFTS - 1) as f64 - 1.0);
            for j in 0..SCALES {
                let scale = SCALE_REACH * j as f64 / (SCALES - 1) as f64;
                let mut m = [0.0; 4];
                for &(x, w) in &nodes {
                    let f = phi.value(length * (shift + scale * x));
                    let w = w / mass;
                    m[0] += w * f;
                    m[1] += w * f * f;
                    m[2] += w * f * x;
                    m[3] += w * f * f * f;
                }
                let variance = (m[1] - m[0] * m[0]).max(0.0);
                let third = m[3] - 3.0 * m[0] * variance - m[0].powi(3);
                values.push([m[0], variance, m[2], third]);
            }
        }
        GivenOverlap { values }
    }

    fn at(&self, shift: f64, scale: f64) -> [f64; 4] {
        let x = ((shift / SHIFT_REACH + 1.0) * 0.5 * (SHIFTS - 1) as f64)
            .clamp(0.0, (SHIFTS - 1) as f64 - 1e-9);
        let y = (scale / SCALE_REACH * (SCALES - 1) as f64).clamp(0.0, (SCALES - 1) as f64 - 1e-9);
        let (i, j) = (x as usize, y as usize);
        let (s, t) = (x - i as f64, y - j as f64);
        let v = |i: usize, j: usize| &self.values[i * SCALES + j];
        let (a, b, c, d) = (v(i, j), v(i, j + 1), v(i + 1, j), v(i + 1, j + 1));
        std::array::from_fn(|k| {
            (1.0 - s) * ((1.0 - t) * a[k] + t * b[k]) + s * ((1.0 - t) * c[k] + t * d[k])
        })
    }
}

/// Laws of `K(u, .)` at a set of layers of equal probability (note, section 2). `rows` are the
/// kernel's moments by the length of the token's row.
pub(crate) fn layer_laws(layer: &Layer, rows: &[KernelRow]) -> Vec<LayerLaw> {
    let phi = layer.mlp.activation;
    let lengths: Vec<(f64, f64)> = if layer.lengths.len() > 1 {
        norm_nodes(&HERMITE_5, 2.0 / layer.d)
            .into_iter()
            .map(|(square, w)| (layer.scale() * square.sqrt(), w))
            .collect()
    } else {
        layer.lengths.clone()
    };
    let coordinates: Vec<(f64, f64)> = layer
        .coordinates(6.5, 2)
        .into_iter()
        .filter(|c| c.1 > 1e-10)
        .collect();
    let mass: f64 = coordinates.iter().map(|c| c.1).sum();
    let tables: Vec<GivenOverlap> = lengths
        .iter()
        .map(|&(l, _)| GivenOverlap::new(layer, l))
        .collect();
    let common: Vec<f64> = rows
        .iter()
        .map(|r| common_part(layer, &Profile::of(phi, r.length)))
        .collect();
    let shapes = Shapes::new(layer);
    let m = layer.mlp.width as f64;
    let pool = Pool::new(layer);
    let drawn = rows.iter().enumerate().flat_map(|(i, row)| {
        let count = ((LAYERS as f64 * row.weight).round() as usize).max(1);
        let table = &tables[tables.len() / 2];
        let layers = pool.strata(count, row.length, table);
        layers.into_iter().map(move |drawn| (i, drawn))
    });
    drawn
        .map(|(row, drawn)| {
            let a: Vec<f64> = drawn
                .along
                .iter()
                .map(|g| phi.value(rows[row].length * g) / m)
                .collect();
            let common = common[row];
            let spread = 2.0 * common / 9.0;
            let factor = (1.0 - spread + drawn.score * spread.sqrt())
                .max(0.0)
                .powi(3);
            let mut parts = Vec::with_capacity(coordinates.len() * lengths.len());
            for (table, &(_, p)) in tables.iter().zip(&lengths) {
                for &(x, w) in &coordinates {
                    let rho = x / layer.d.sqrt();
                    let across = (1.0 - rho * rho).max(0.0).sqrt();
                    let (mut at, mut variance, mut third) = (0.0, 0.0, 0.0);
                    let (mut slope, mut square) = (0.0, 0.0);
                    for ((&a, &g), &r) in a.iter().zip(&drawn.along).zip(&drawn.rest) {
                        let k = table.at(rho * g, across * r);
                        at += a * k[0];
                        variance += a * a * k[1];
                        third += a.powi(3) * k[3];
                        slope += a * k[2];
                        square += (a * k[2]).powi(2);
                    }
                    let skew = third / variance.max(1e-300).powf(1.5);
                    // Rows that add up to zero are correlated.
                    if layer.mlp.rows == MlpRows::Balanced && m > 1.0 {
                        variance -= (slope * slope - square) / (m - 1.0);
                    }
                    parts.push((p * w / mass, at, (variance * factor).max(0.0), skew));
                }
            }
            let mean: f64 = parts.iter().map(|(p, at, ..)| p * at).sum();
            let variance: f64 = parts
                .iter()
                .map(|(p, at, v, _)| p * ((at - mean).powi(2) + v))
                .sum();
            let plain = {
                let (mut second, mut third) = (0.0, 0.0);
                for (a, &r) in a.iter().zip(&drawn.rest) {
                    let k = tables[tables.len() / 2].at(0.0, r);
                    second += a * a * k[1];
                    third += a.powi(3) * k[3];
                }
                third / second.max(1e-300).powf(1.5)
            };
            let shape = rest_of(&a, &drawn.rest, &shapes, &tables[tables.len() / 2]);
            let unit = variance.sqrt().max(1e-300);
            let cells: Vec<Cell> = parts
                .iter()
                .map(|&(p, at, v, skew)| Cell {
                    at: (at - mean) / unit,
                    weight: p,
                    sd: (v.sqrt() / unit).max(0.03),
                    skew,
                })
                .collect();
            LayerLaw {
                row,
                own: a.iter().map(|a| a * a).sum::<f64>() * m,
                mean,
                variance,
                tail: tail_of(&cells, |x, skew| {
                    tabulated(&shape, reshaped(bounded(x, common), skew, plain))
                }),
            }
        })
        .collect()
}

/// Tail of the units' sum over the components across the token, brought to unit variance.
fn rest_of(a: &[f64], rest: &[f64], shapes: &Shapes, table: &GivenOverlap) -> Vec<f64> {
    let deviations: Vec<f64> = a
        .iter()
        .zip(rest)
        .map(|(a, &r)| a * table.at(0.0, r)[1].sqrt())
        .collect();
    let whole = deviations.iter().map(|x| x * x).sum::<f64>().sqrt();
    let units: Vec<(f64, f64, &Spectrum)> = deviations
        .iter()
        .zip(rest)
        .map(|(x, &r)| {
            (
                x.abs() / (whole.max(1e-300) * ARGUMENT),
                x.signum(),
                shapes.at(r),
            )
        })
        .collect();
    tail(|omega| product(omega, &units))
}

/// Product of the spectra of independent units, each given by its deviation over [`ARGUMENT`],
/// its sign and its shape.
fn product(omega: f64, units: &[(f64, f64, &Spectrum)]) -> Complex {
    let mut z = Complex { re: 1.0, im: 0.0 };
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
/// midpoints (note, eq. 3).
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
    use crate::setting::{Mlp, MlpInput, Setting};
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
    fn strata_have_the_moments_of_drawn_layers() {
        // Mean and variance of K_uu over the layers that stand for all. Fails if the middle of a
        // stratum leaves out a third of the variance between layers.
        let mlp = Mlp {
            activation: Activation::Relu,
            width: 40,
            input: MlpInput::Rms,
            rows: MlpRows::Gaussian,
        };
        let s = Setting::new(100, 30, 8, 64).with_mlp(mlp);
        let layer = Layer::of(&s, &mlp);
        let pool = Pool::new(&layer);
        let table = GivenOverlap::new(&layer, 1.0);
        let own: Vec<f64> = pool
            .strata(LAYERS, 1.0, &table)
            .iter()
            .map(|drawn| drawn.along.iter().map(|g| g.max(0.0).powi(2)).sum::<f64>() / 40.0)
            .collect();
        let n = own.len() as f64;
        let mean = own.iter().sum::<f64>() / n;
        let variance = own.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        // E relu^2 = 1/2, E relu^4 = 3/2.
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        assert!((variance * 40.0 / 1.25 - 1.0).abs() < 0.15, "{variance}");
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
                let p = tabulated(&l.tail, (l.own - l.mean) / l.variance.sqrt());
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
            (Activation::Gelu, MlpRows::Gaussian, 20),
            (Activation::Silu, MlpRows::Balanced, 20),
        ] {
            let (drawn, stated) = recall_of(phi, rows, d, 24, 120);
            // Standard errors: .01 of the drawing, .01 of the strata.
            assert!(
                (drawn - stated).abs() < 0.05,
                "{phi} {rows:?} {d} {drawn} {stated}"
            );
        }
    }
}
