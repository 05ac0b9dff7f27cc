//! Moments of the hidden-layer kernel `K(u, u') = <phi(W x_u), phi(W x_u')> / m` at finite
//! dimension and width. Derivation: `kernel.md`.

use crate::mlp::hermite::{ORDER, Profile, legendre, normal_nodes, normalised_hermite};
use crate::quadrature::{HERMITE_3, HERMITE_5, norm_nodes};
use crate::setting::{Embedding, Mlp, MlpInput, MlpRows, Setting};

/// Degrees kept in averages over overlaps.
const DEGREES: usize = 21;

/// Length of an input row as the layer sees it: `(length, probability)`.
pub(crate) type Lengths = Vec<(f64, f64)>;

/// Nodes of `chi_k / sqrt(d)` by its density: `k` degrees of freedom in units of `d`.
pub(crate) fn chi_nodes(k: f64, d: f64, panels: usize) -> Lengths {
    if k <= 0.0 {
        return vec![(0.0, 1.0)];
    }
    // In r = chi: density r^{k-1} exp(-r^2/2), mode sqrt(k-1), width about 1/sqrt 2.
    let mode = (k - 1.0).max(0.0).sqrt();
    let (lo, hi) = ((mode - 4.5).max(0.0), mode + 5.0);
    let log = |r: f64| (k - 1.0) * r.max(1e-300).ln() - 0.5 * r * r;
    let top = if mode > 0.0 { log(mode) } else { 0.0 };
    let mut nodes: Lengths = legendre(lo, hi, panels)
        .map(|(r, w)| (r / d.sqrt(), w * (log(r) - top).exp()))
        .collect();
    let mass: f64 = nodes.iter().map(|n| n.1).sum();
    for n in &mut nodes {
        n.1 /= mass;
    }
    nodes
}

/// Moments given the length of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelRow {
    /// Length of the row as the layer sees it.
    pub length: f64,
    /// Probability of the length.
    pub weight: f64,
    /// `E K_uu = E phi^2`.
    pub own: f64,
    /// `Var K_uu` over the hidden layer.
    pub own_variance: f64,
    /// `E Kbar`, the mean of `K(u, .)` over the other rows.
    pub mean: f64,
    /// `Var Kbar` over the hidden layer.
    pub mean_variance: f64,
    /// `Cov(K_uu, Kbar)`.
    pub mean_covariance: f64,
    /// Variance over the other rows at infinite width, by the Hermite degree that carries it: 1,
    /// 2, all others.
    pub interference: [f64; 3],
    /// How these amplitudes follow `K_uu`: `d log amplitude / d log K_uu` by regression.
    pub follow: [f64; 3],
    /// Variance over the other rows that the finite width adds.
    pub width_noise: f64,
    /// Third central moment over the other rows at infinite width, and what the width adds.
    pub third: [f64; 2],
    /// Fourth cumulant over the other rows, likewise.
    pub fourth: [f64; 2],
}

impl KernelRow {
    /// Expected variance of `K(u, .)` over the other rows.
    #[must_use]
    pub fn variance(&self) -> f64 {
        self.interference.iter().sum::<f64>() + self.width_noise
    }
}

/// What the layer sees of the table, and at which scale.
pub(crate) struct Layer {
    pub(crate) mlp: Mlp,
    /// Dimension of the input rows.
    pub(crate) d: f64,
    /// Length of the input rows: one for unit vectors.
    pub(crate) lengths: Lengths,
    /// The same in few nodes.
    pub(crate) typical: Lengths,
}

impl Layer {
    pub(crate) fn of(s: &Setting, mlp: &Mlp) -> Self {
        let d = s.dim_in as f64;
        let unit = mlp.input == MlpInput::Rms || s.input == Embedding::Sphere;
        // Rows less their mean have variance 1 - 1/m.
        let scale = row_scale(mlp);
        let mut lengths = if unit {
            vec![(1.0, 1.0)]
        } else {
            chi_nodes(d, d, 2)
        };
        let mut typical: Lengths = if unit {
            vec![(1.0, 1.0)]
        } else {
            norm_nodes(&HERMITE_3, 2.0 / d)
                .into_iter()
                .map(|(square, w)| (square.sqrt(), w))
                .collect()
        };
        for l in lengths.iter_mut().chain(&mut typical) {
            l.0 *= scale;
        }
        Layer {
            mlp: *mlp,
            d,
            lengths,
            typical,
        }
    }

    /// `E rho^k` of the overlap of two independent directions.
    fn overlap_moments(&self) -> [f64; 2 * DEGREES] {
        let mut mu = [0.0; 2 * DEGREES];
        mu[0] = 1.0;
        for j in 1..DEGREES {
            let j2 = 2.0 * (j as f64 - 1.0);
            mu[2 * j] = mu[2 * (j - 1)] * (j2 + 1.0) / (self.d + j2);
        }
        mu
    }

    /// Nodes of one coordinate of a random direction, `sqrt(d)` times.
    fn coordinate_nodes(&self) -> Vec<(f64, f64)> {
        let power = 0.5 * (self.d.max(3.0) - 3.0);
        let top = self.d.sqrt().min(9.0);
        let mut nodes: Vec<(f64, f64)> = legendre(-top, 0.0, 12)
            .chain(legendre(0.0, top, 12))
            .map(|(x, w)| (x, w * (power * (-(x * x / self.d)).ln_1p()).exp()))
            .collect();
        let mass: f64 = nodes.iter().map(|n| n.1).sum();
        for n in &mut nodes {
            n.1 /= mass;
        }
        nodes
    }
}

pub(crate) fn row_scale(mlp: &Mlp) -> f64 {
    match mlp.rows {
        MlpRows::Gaussian => 1.0,
        MlpRows::Balanced => (1.0 - 1.0 / mlp.width as f64).max(0.0).sqrt(),
    }
}

/// Mean, variance, third and fourth cumulant over inputs of one hidden unit, tabulated against the
/// length of its weight vector in units of `sqrt d`.
struct UnitTable {
    step: f64,
    rows: Vec<[f64; 4]>,
}

impl UnitTable {
    fn new(layer: &Layer) -> Self {
        const SIZE: usize = 64;
        let top = 1.0 + 7.0 / layer.d.sqrt();
        let step = top / (SIZE - 1) as f64;
        let coordinates = layer.coordinate_nodes();
        let phi = layer.mlp.activation;
        let rows = (0..SIZE)
            .map(|i| {
                let r = i as f64 * step;
                let mut m = [0.0; 4];
                for &(length, p) in &layer.lengths {
                    for &(x, w) in &coordinates {
                        let f = phi.value(r * length * x);
                        m[0] += p * w * f;
                        m[1] += p * w * f * f;
                        m[2] += p * w * f * f * f;
                        m[3] += p * w * f.powi(4);
                    }
                }
                let variance = (m[1] - m[0] * m[0]).max(0.0);
                let third = m[2] - 3.0 * m[0] * variance - m[0].powi(3);
                let fourth = m[3]
                    - 4.0 * m[0] * third
                    - 6.0 * m[0] * m[0] * variance
                    - m[0].powi(4)
                    - 3.0 * variance * variance;
                [m[0], variance, third, fourth]
            })
            .collect();
        UnitTable { step, rows }
    }

    fn at(&self, r: f64) -> [f64; 4] {
        let x = (r / self.step).min((self.rows.len() - 1) as f64 - 1e-9);
        let i = x as usize;
        let t = x - i as f64;
        let (a, b) = (&self.rows[i], &self.rows[i + 1]);
        std::array::from_fn(|k| a[k] * (1.0 - t) + b[k] * t)
    }
}

/// Moments of the kernel for each length of a row (note, sections 2 and 3).
#[must_use]
pub fn kernel_rows(s: &Setting, mlp: &Mlp) -> Vec<KernelRow> {
    let layer = Layer::of(s, mlp);
    let m = mlp.width as f64;
    let d = layer.d;
    let profiles: Vec<Profile> = layer
        .lengths
        .iter()
        .map(|&(l, _)| Profile::of(mlp.activation, l))
        .collect();
    let mu = layer.overlap_moments();
    let top = DEGREES.min(ORDER + 1);
    // E c_k c_l and E c_k over the length of the other row.
    let mut pair = vec![[0.0; DEGREES]; DEGREES];
    let mut single = [0.0; DEGREES];
    for (p, &(_, w)) in profiles.iter().zip(&layer.lengths) {
        for ((row, sum), &a) in pair.iter_mut().zip(&mut single).zip(&p.c[..top]) {
            *sum += w * a;
            for (entry, &b) in row.iter_mut().zip(&p.c[..top]) {
                *entry += w * a * b;
            }
        }
    }
    let table = UnitTable::new(&layer);
    let coordinates = layer.coordinate_nodes();
    // Squared length of a weight vector across one direction, over d.
    let rest: Lengths = norm_nodes(&HERMITE_5, 2.0 / (d - 1.0).max(1.0))
        .into_iter()
        .map(|(square, w)| (square * (d - 1.0) / d, w))
        .collect();
    let normals = normal_nodes();
    layer
        .typical
        .iter()
        .map(|&(length, weight)| {
            let p = &Profile::of(mlp.activation, length);
            let mean_inf: f64 = (0..top).map(|k| p.c[k] * single[k] * mu[k]).sum();
            let mut interference = [0.0; 3];
            for k in 0..top {
                for l in 0..top {
                    let part = p.c[k] * p.c[l] * pair[k][l] * mu[k + l];
                    let slot = match (k, l) {
                        (1, 1) => 0,
                        (2, 2) => 1,
                        _ => 2,
                    };
                    interference[slot] += part;
                }
            }
            // The square of the mean is that of the even degrees; most of it sits in degree 0.
            interference[1] -= (p.c[2] * single[2] * mu[2]).powi(2);
            interference[2] -= mean_inf * mean_inf - (p.c[2] * single[2] * mu[2]).powi(2);
            let narrow = (1.0 - 1.0 / m).max(1e-9);
            for part in &mut interference {
                *part = part.max(0.0) * narrow;
            }
            // Averages over the weights of one hidden unit: component along the row, and length.
            let mut e = [0.0; 6];
            let mut follow = [0.0; 2];
            for &(g, w) in &normals {
                let f = mlp.activation.value(length * g);
                let f2 = f * f;
                if w < 1e-14 {
                    continue;
                }
                let he = normalised_hermite(g);
                follow[0] += w * (f2 - p.square) * f * he[1];
                follow[1] += w * (f2 - p.square) * f * he[2];
                for &(c, wc) in &rest {
                    let [mean, variance, third, fourth] = table.at((g * g / d + c).sqrt());
                    let w = w * wc;
                    e[0] += w * f * mean;
                    e[1] += w * f2 * mean * mean;
                    e[2] += w * f2 * f * mean;
                    e[3] += w * f2 * variance;
                    e[4] += w * f2 * f * third;
                    e[5] += w * f2 * f2 * fourth;
                }
            }
            let own_variance = (p.fourth - p.square * p.square).max(0.0);
            let slope = |cov: f64, c: f64| {
                if own_variance > 0.0 && c.abs() > 1e-9 {
                    cov / own_variance * p.square / c
                } else {
                    1.0
                }
            };
            // Central moments at infinite width.
            let variance: f64 = interference.iter().sum::<f64>() / narrow;
            let (mut third, mut fourth) = (0.0, 0.0);
            for (q, &(_, wl)) in profiles.iter().zip(&layer.lengths) {
                for &(x, wx) in &coordinates {
                    let rho = x / d.sqrt();
                    let k = (0..top)
                        .rev()
                        .fold(0.0, |sum, k| sum * rho + p.c[k] * q.c[k])
                        - mean_inf;
                    third += wl * wx * k.powi(3);
                    fourth += wl * wx * k.powi(4);
                }
            }
            KernelRow {
                length,
                weight,
                own: p.square,
                own_variance: own_variance / m,
                mean: e[0],
                mean_variance: ((e[1] - e[0] * e[0]) / m).max(0.0),
                mean_covariance: (e[2] - p.square * e[0]) / m,
                interference,
                follow: [slope(follow[0], p.c[1]), slope(follow[1], p.c[2]), 1.0],
                width_noise: e[3] / m,
                third: [third, e[4] / (m * m)],
                fourth: [fourth - 3.0 * variance * variance, e[5] / m.powi(3)],
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;

    fn setting(d: usize, mlp: Mlp) -> Setting {
        Setting::new(64, d, 8, 64).with_mlp(mlp)
    }

    fn layer(activation: Activation, input: MlpInput, width: usize) -> Mlp {
        Mlp {
            activation,
            width,
            input,
            rows: MlpRows::Gaussian,
        }
    }

    #[test]
    fn linear_kernels_have_wishart_moments() {
        // E |W^T W x / m|^2 = 1 + (d + 1)/m for a unit vector; over directions, divided by d.
        let (d, m) = (20usize, 30usize);
        let mlp = layer(Activation::Linear, MlpInput::Rms, m);
        let rows = kernel_rows(&setting(d, mlp), &mlp);
        assert_eq!(rows.len(), 1);
        let exact = (1.0 + (d as f64 + 1.0) / m as f64) / d as f64;
        let error = (rows[0].variance() / exact - 1.0).abs();
        // Five nodes for the length of a weight vector.
        assert!(error < 2e-3, "{} {exact}", rows[0].variance());
        assert!((rows[0].own_variance - 2.0 / m as f64).abs() < 1e-9);
        assert!(rows[0].mean.abs() < 1e-9);
    }

    #[test]
    fn quadratic_kernel_has_exact_overlap_moments() {
        // K = rho^2 at infinite width: Var = 3/(d(d+2)) - 1/d^2, mean 1/d, third moment of rho^2.
        let d = 14.0f64;
        let mlp = layer(Activation::HERMITE_2, MlpInput::Rms, 1 << 20);
        let row = kernel_rows(&setting(14, mlp), &mlp)[0];
        let (m1, m2) = (1.0 / d, 3.0 / (d * (d + 2.0)));
        let m3 = 15.0 / (d * (d + 2.0) * (d + 4.0));
        assert!((row.variance() / (m2 - m1 * m1) - 1.0).abs() < 2e-3);
        assert!((row.mean - m1).abs() < 1e-4, "{}", row.mean);
        let third = m3 - 3.0 * m1 * m2 + 2.0 * m1.powi(3);
        assert!((row.third[0] / third - 1.0).abs() < 1e-3);
        assert_eq!(row.follow[1], row.follow[1].clamp(0.99, 1.01));
    }

    /// Gaussian variates from a linear congruential generator.
    struct Lcg(u64);

    impl Lcg {
        fn uniform(&mut self) -> f64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        }

        fn normal(&mut self) -> f64 {
            let r = (-2.0 * self.uniform().ln()).sqrt();
            r * (std::f64::consts::TAU * self.uniform()).cos()
        }
    }

    #[test]
    fn monte_carlo_of_mean_and_variance_over_rows() {
        let (d, m, rows, trials) = (12usize, 24usize, 60usize, 120);
        for (activation, input) in [
            (Activation::Relu, MlpInput::Rms),
            (Activation::Tanh, MlpInput::Raw),
            (Activation::HERMITE_2, MlpInput::Rms),
            (Activation::HERMITE_2, MlpInput::Raw),
        ] {
            let mut rng = Lcg(11);
            let (mut own, mut mean, mut variance) = (0.0, 0.0, 0.0);
            for _ in 0..trials {
                let w: Vec<Vec<f64>> = (0..m)
                    .map(|_| (0..d).map(|_| rng.normal()).collect())
                    .collect();
                let hidden: Vec<Vec<f64>> = (0..rows)
                    .map(|_| {
                        let z: Vec<f64> =
                            (0..d).map(|_| rng.normal() / (d as f64).sqrt()).collect();
                        let length = match input {
                            MlpInput::Rms => z.iter().map(|x| x * x).sum::<f64>().sqrt(),
                            MlpInput::Raw => 1.0,
                        };
                        w.iter()
                            .map(|row| {
                                let x: f64 = row.iter().zip(&z).map(|(a, b)| a * b).sum();
                                activation.value(x / length)
                            })
                            .collect()
                    })
                    .collect();
                let kernel = |a: usize, b: usize| -> f64 {
                    let sum: f64 = hidden[a].iter().zip(&hidden[b]).map(|(x, y)| x * y).sum();
                    sum / m as f64
                };
                for u in 0..rows {
                    let others: Vec<f64> = (0..rows)
                        .filter(|v| *v != u)
                        .map(|v| kernel(u, v))
                        .collect();
                    let n = others.len() as f64;
                    let average = others.iter().sum::<f64>() / n;
                    let unit = (rows * trials) as f64;
                    own += kernel(u, u) / unit;
                    mean += average / unit;
                    variance += others.iter().map(|k| (k - average).powi(2)).sum::<f64>()
                        / (n - 1.0)
                        / unit;
                }
            }
            let mlp = layer(activation, input, m);
            let stated = kernel_rows(&setting(d, mlp), &mlp);
            let over =
                |f: &dyn Fn(&KernelRow) -> f64| stated.iter().map(|r| r.weight * f(r)).sum::<f64>();
            let (k0, v) = (over(&|r| r.own), over(&|r| r.variance()));
            assert!((own / k0 - 1.0).abs() < 0.05, "{activation} own {own} {k0}");
            assert!(
                (mean - over(&|r| r.mean)).abs() < 0.03 * k0,
                "{activation} mean {mean}"
            );
            let allowed = if input == MlpInput::Raw { 0.12 } else { 0.08 };
            assert!(
                (variance / v - 1.0).abs() < allowed,
                "{activation} {input:?} variance {variance} {v}"
            );
        }
    }
}
