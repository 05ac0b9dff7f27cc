//! Moments of the hidden-layer kernel `K(u, u') = <phi(W x_u), phi(W x_u')> / m` at finite
//! dimension and width. Derivation: `kernel.md`.

use crate::activation::Activation;
use crate::mlp::hermite::{
    ORDER, Profile, coordinate_nodes, legendre, normal_nodes, normalised_hermite,
};
use crate::quadrature::{HERMITE_3, HERMITE_5, norm_nodes};
use crate::setting::{Embedding, Mlp, MlpInput, MlpRows, Setting};

/// Degrees kept in averages over overlaps.
pub(crate) const DEGREES: usize = 21;

/// Length of an input row as the layer sees it: `(length, probability)`.
pub(crate) type Lengths = Vec<(f64, f64)>;

/// Values of a random variable with their probabilities.
pub(crate) type Coordinates = Vec<(f64, f64)>;

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
    /// The factor `1 - 1/m` in it.
    pub narrow: f64,
    /// How these amplitudes follow `K_uu`: `d log amplitude / d log K_uu` by regression.
    pub follow: [f64; 3],
    /// Variance over the other rows that the finite width adds.
    pub width_noise: f64,
    /// Third central moment over the other rows at infinite width.
    pub third: f64,
    /// Fourth cumulant over the other rows at infinite width.
    pub fourth: f64,
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

    /// Projections of the other rows on a weight vector of length `sqrt d`.
    pub(crate) fn projections(&self) -> Coordinates {
        let scale = row_scale(&self.mlp);
        let nodes = if self.lengths.len() > 1 {
            // Raw Gaussian rows.
            normal_nodes()
        } else {
            self.coordinate_nodes()
        };
        nodes
            .into_iter()
            .filter(|n| n.1 > 1e-12)
            .map(|(x, w)| (scale * x, w))
            .collect()
    }

    /// Length of a unit row as the layer sees it.
    pub(crate) fn scale(&self) -> f64 {
        row_scale(&self.mlp)
    }

    /// Nodes of one coordinate of a random direction, `sqrt(d)` times.
    fn coordinate_nodes(&self) -> Coordinates {
        self.coordinates(9.0, 12)
    }

    /// The same with nodes of `panels` panels on either side, up to at most `reach`.
    pub(crate) fn coordinates(&self, reach: f64, panels: usize) -> Coordinates {
        coordinate_nodes(self.d, reach, panels)
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
pub(crate) struct UnitTable {
    step: f64,
    rows: Vec<[f64; 4]>,
}

impl UnitTable {
    pub(crate) fn new(layer: &Layer) -> Self {
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

    pub(crate) fn at(&self, r: f64) -> [f64; 4] {
        let x = (r / self.step).min((self.rows.len() - 1) as f64 - 1e-9);
        let i = x as usize;
        let t = x - i as f64;
        let (a, b) = (&self.rows[i], &self.rows[i + 1]);
        std::array::from_fn(|k| a[k] * (1.0 - t) + b[k] * t)
    }
}

/// 1 if the rows of the weights add up to zero.
fn is_balanced(mlp: &Mlp) -> f64 {
    f64::from(u8::from(mlp.rows == MlpRows::Balanced))
}

/// `E x phi^2`: the part of `K_uu` that is linear in the mean row of the weights.
fn tilt(phi: Activation, length: f64) -> f64 {
    normal_nodes()
        .iter()
        .map(|&(x, w)| w * x * phi.value(length * x).powi(2))
        .sum()
}

/// One hidden unit as the kernel of a row sees it, at a component of its weights along the row.
pub(crate) struct UnitNode {
    /// Probability.
    pub(crate) weight: f64,
    /// What the unit adds to `m K_uu`.
    pub(crate) own: f64,
    /// What it adds to the second, third and fourth cumulant of `m K(u, .)` over the other rows.
    pub(crate) cumulants: [f64; 3],
}

/// A hidden unit of the layer for a row of a given length (note, section 3).
pub(crate) fn unit_nodes(s: &Setting, mlp: &Mlp, length: f64) -> Vec<UnitNode> {
    let layer = Layer::of(s, mlp);
    let d = layer.d;
    let table = UnitTable::new(&layer);
    let rest = across(d);
    let tilt = is_balanced(mlp) * tilt(mlp.activation, length);
    normal_nodes()
        .iter()
        .filter(|n| n.1 > 1e-14)
        .map(|&(g, weight)| {
            let f = mlp.activation.value(length * g);
            let mut cumulants = [0.0; 3];
            for &(c, wc) in &rest {
                let [_, variance, third, fourth] = table.at((g * g / d + c).sqrt());
                cumulants[0] += wc * f * f * variance;
                cumulants[1] += wc * f.powi(3) * third;
                cumulants[2] += wc * f.powi(4) * fourth;
            }
            UnitNode {
                weight,
                own: f * f - tilt * g,
                cumulants,
            }
        })
        .collect()
}

/// Squared length of a weight vector across one direction, over `d`.
fn across(d: f64) -> Lengths {
    norm_nodes(&HERMITE_5, 2.0 / (d - 1.0).max(1.0))
        .into_iter()
        .map(|(square, w)| (square * (d - 1.0) / d, w))
        .collect()
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
    let rest = across(d);
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
            let mut e = [0.0; 5];
            let mut follow = [0.0; 2];
            // Their covariance with the component along the row, which rows that add up to zero
            // take away (note, section 4).
            let balanced = is_balanced(mlp);
            let tilt = balanced * tilt(mlp.activation, length);
            let mut curve = 0.0;
            for &(g, w) in &normals {
                let f = mlp.activation.value(length * g);
                let f2 = f * f;
                curve += w * f2 * (g * g - 1.0) / 2f64.sqrt();
                if w < 1e-14 {
                    continue;
                }
                let he = normalised_hermite(g);
                follow[0] += w * (f2 - p.square) * f * he[1];
                follow[1] += w * (f2 - p.square) * f * he[2];
                for &(c, wc) in &rest {
                    let [mean, variance, ..] = table.at((g * g / d + c).sqrt());
                    let w = w * wc;
                    e[0] += w * f * mean;
                    e[1] += w * f2 * mean * mean;
                    e[2] += w * f2 * f * mean;
                    e[3] += w * f2 * variance;
                    e[4] += balanced * w * f * mean * g;
                }
            }
            // Their second order comes back (note, eq. 2).
            let pairs = balanced / (m - 1.0).max(1.0);
            let own_variance =
                (p.fourth - p.square * p.square - tilt * tilt + pairs * curve * curve).max(0.0);
            follow[0] -= tilt * (p.c[0] + 2f64.sqrt() * p.c[2]);
            follow[1] -= tilt * (2f64.sqrt() * p.c[1] + 3f64.sqrt() * p.c[3]);
            let shared = (p.c[0] * p.c[0] + 2.0 * 2f64.sqrt() * p.c[0] * p.c[2] / d) * pair[1][1];
            let second = p.c[1] * p.c[1] * pair[1][1] + p.c[0] * p.c[0] * pair[2][2];
            let width_noise = (e[3] - balanced * shared + pairs * second).max(0.0);
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
                mean_variance: ((e[1] - e[0] * e[0] - e[4] * e[4]) / m).max(0.0),
                mean_covariance: (e[2] - p.square * e[0] - tilt * e[4]) / m,
                interference,
                narrow,
                follow: [slope(follow[0], p.c[1]), slope(follow[1], p.c[2]), 1.0],
                width_noise: width_noise / m,
                third,
                fourth: fourth - 3.0 * variance * variance,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!((row.third / third - 1.0).abs() < 1e-3);
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

    /// Rows that add up to zero are one fewer: `W^T W` is Wishart with `m - 1` degrees of freedom. Fails
    /// without the second order (a tenth of the own variance, a twentieth of the width noise).
    #[test]
    fn balanced_rows_of_a_linear_layer_are_one_fewer() {
        let (d, m) = (20usize, 12usize);
        let mut mlp = layer(Activation::Linear, MlpInput::Rms, m);
        mlp.rows = MlpRows::Balanced;
        let row = kernel_rows(&setting(d, mlp), &mlp)[0];
        let free = m as f64 - 1.0;
        let own = row.own_variance / (row.own * row.own);
        assert!((own * free / 2.0 - 1.0).abs() < 0.01, "{own}");
        let exact = (1.0 + (d as f64 + 1.0) / free) / d as f64;
        let variance = row.variance() / (row.own * row.own);
        assert!((variance / exact - 1.0).abs() < 0.015, "{variance} {exact}");
    }

    /// Rows that add up to zero: with a large mean and slope they take away a third of the variance
    /// over the other rows and most of that of the mean.
    #[test]
    fn monte_carlo_of_balanced_rows() {
        let (d, m, rows, trials) = (16usize, 24usize, 80usize, 160);
        let phi = Activation::Softplus;
        let mut rng = Lcg(5);
        let (mut variance, mut means, mut owns) = (0.0, Vec::new(), Vec::new());
        for _ in 0..trials {
            let mut w: Vec<Vec<f64>> = (0..m)
                .map(|_| (0..d).map(|_| rng.normal()).collect())
                .collect();
            for a in 0..d {
                let average = w.iter().map(|row| row[a]).sum::<f64>() / m as f64;
                for row in &mut w {
                    row[a] -= average;
                }
            }
            let hidden: Vec<Vec<f64>> = (0..rows)
                .map(|_| {
                    let z: Vec<f64> = (0..d).map(|_| rng.normal()).collect();
                    let length = z.iter().map(|x| x * x).sum::<f64>().sqrt();
                    w.iter()
                        .map(|row| {
                            let x: f64 = row.iter().zip(&z).map(|(a, b)| a * b).sum();
                            phi.value(x / length)
                        })
                        .collect()
                })
                .collect();
            for u in 0..rows {
                let kernel = |v: usize| -> f64 {
                    let sum: f64 = hidden[u].iter().zip(&hidden[v]).map(|(x, y)| x * y).sum();
                    sum / m as f64
                };
                let others: Vec<f64> = (0..rows).filter(|v| *v != u).map(kernel).collect();
                let n = others.len() as f64;
                let average = others.iter().sum::<f64>() / n;
                variance += others.iter().map(|k| (k - average).powi(2)).sum::<f64>()
                    / ((n - 1.0) * (rows * trials) as f64);
                if u == 0 {
                    means.push(average);
                    owns.push(kernel(0));
                }
            }
        }
        let spread = |x: &[f64]| {
            let n = x.len() as f64;
            let mean = x.iter().sum::<f64>() / n;
            x.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / (n - 1.0)
        };
        let mut mlp = layer(phi, MlpInput::Rms, m);
        let free = kernel_rows(&setting(d, mlp), &mlp)[0];
        mlp.rows = MlpRows::Balanced;
        let row = kernel_rows(&setting(d, mlp), &mlp)[0];
        assert!(row.width_noise < 0.6 * free.width_noise);
        assert!(row.own_variance < 0.5 * free.own_variance);
        let stated = row.variance();
        assert!(
            (variance / stated - 1.0).abs() < 0.08,
            "{variance} {stated} {}",
            free.variance()
        );
        // 160 independent layers: a standard error of 11 %.
        let own = spread(&owns) / row.own_variance;
        assert!((own - 1.0).abs() < 0.33, "{own}");
    }
}
