//! Law of a competing kernel value by its overlap with the token. Derivation: `overlap.md`.
//!
//! With orthonormal outputs a competitor is its own association only, `K(u, j)`. What decides are
//! competitors that happen to overlap with the token, and these have more of everything: a larger
//! mean, and a larger width noise.

use crate::gauss;
use crate::mlp::hermite::{ORDER, Profile};
use crate::mlp::kernel::{DEGREES, Layer};
use crate::mlp::narrow::{FIRST, POINTS, STEP};
use crate::mlp::recall::{normal_score, unit_coordinate_score};
use crate::quadrature::{HERMITE_7, norm_nodes};
use crate::setting::MlpRows;

/// Step and reach of the sums over the components of a unit's weights.
const UNIT_STEP: f64 = 0.4;
const UNIT_REACH: i32 = 13;
/// Width of the cells into which overlaps of the same kernel value are gathered, in deviations.
const CELL: f64 = 0.15;

/// Other tokens by their overlap with one and their length.
struct Node {
    probability: f64,
    /// Kernel at infinite width less its mean, by the Hermite degree that carries it: 1, 2, others.
    mean: [f64; 3],
    /// Width noise relative to its mean over tokens.
    noise: f64,
}

/// Kernel values of a token of one length with the other tokens.
pub(crate) struct Overlaps {
    nodes: Vec<Node>,
    /// `E corr^2` of the width noise of two other tokens (note, eq. 3).
    pub(crate) common: f64,
}

/// What of the law belongs to a state of the token.
pub(crate) struct Shape {
    /// Amplitudes of the mean by degree.
    pub(crate) amplitude: [f64; 3],
    /// Variance of the width noise, its skewness and its excess kurtosis.
    pub(crate) noise: f64,
    pub(crate) skew: f64,
    pub(crate) excess: f64,
}

impl Overlaps {
    /// For a token whose row has the given length.
    pub(crate) fn of(layer: &Layer, length: f64) -> Self {
        let phi = layer.mlp.activation;
        let top = DEGREES.min(ORDER + 1);
        let own = Profile::of(phi, length);
        let balanced = layer.mlp.rows == MlpRows::Balanced;
        let lengths: Vec<(f64, f64)> = if layer.lengths.len() > 1 {
            norm_nodes(&HERMITE_7, 2.0 / layer.d)
                .into_iter()
                .map(|(square, w)| (layer.scale() * square.sqrt(), w))
                .collect()
        } else {
            layer.lengths.clone()
        };
        let units: Vec<(f64, f64)> = (-UNIT_REACH..=UNIT_REACH)
            .map(|i| {
                let g = f64::from(i) * UNIT_STEP;
                (g, UNIT_STEP * gauss::pdf(g))
            })
            .collect();
        let along: Vec<(f64, f64)> = units
            .iter()
            .map(|&(g, w)| (g, w * phi.value(length * g).powi(2)))
            .collect();
        let coordinates: Vec<(f64, f64)> = layer
            .coordinates(6.5, 4)
            .into_iter()
            .filter(|c| c.1 > 1e-12)
            .collect();
        let mut nodes = Vec::new();
        for &(l, p) in &lengths {
            let other = Profile::of(phi, l);
            let shared = if balanced {
                (own.c[0] * other.c[1]).powi(2)
            } else {
                0.0
            };
            for &(x, w) in &coordinates {
                let rho = x / layer.d.sqrt();
                let all = (0..top)
                    .rev()
                    .fold(0.0, |sum, k| sum * rho + own.c[k] * other.c[k]);
                let linear = own.c[1] * other.c[1] * rho;
                let square = own.c[2] * other.c[2] * rho * rho;
                // Variance over the components across the token, given those along it.
                let rest = (1.0 - rho * rho).max(0.0).sqrt();
                let noise: f64 = along
                    .iter()
                    .map(|&(g, weight)| {
                        let (mut first, mut second) = (0.0, 0.0);
                        for &(xi, q) in &units {
                            let f = phi.value(l * (rho * g + rest * xi));
                            first += q * f;
                            second += q * f * f;
                        }
                        weight * (second - first * first)
                    })
                    .sum();
                nodes.push(Node {
                    probability: p * w,
                    mean: [linear, square, all - linear - square],
                    noise: (noise - shared * rest * rest).max(0.0),
                });
            }
        }
        let mass: f64 = nodes.iter().map(|n| n.probability).sum();
        let mut centre = [0.0; 3];
        let mut noise = 0.0;
        for n in &mut nodes {
            n.probability /= mass;
            noise += n.probability * n.noise;
            for (c, m) in centre.iter_mut().zip(n.mean) {
                *c += n.probability * m;
            }
        }
        for n in &mut nodes {
            for (m, c) in n.mean.iter_mut().zip(centre) {
                *m -= c;
            }
            n.noise = if noise > 0.0 { n.noise / noise } else { 1.0 };
        }
        let common = common_part(layer, &own);
        Overlaps { nodes, common }
    }

    /// Variance over the other tokens, and the chance of a deviation above `FIRST + i STEP` standard
    /// deviations (note, eq. 2).
    pub(crate) fn law(&self, shape: &Shape) -> (f64, Vec<f64>) {
        let mean =
            |n: &Node| -> f64 { n.mean.iter().zip(shape.amplitude).map(|(m, a)| m * a).sum() };
        let variance: f64 = self
            .nodes
            .iter()
            .map(|n| n.probability * (mean(n).powi(2) + shape.noise * n.noise))
            .sum();
        if variance <= 0.0 {
            return (0.0, Vec::new());
        }
        let unit = variance.sqrt();
        // Cells of equal kernel value: probability and width noise.
        let least = self
            .nodes
            .iter()
            .map(|n| mean(n) / unit)
            .fold(0.0, f64::min);
        let most = self
            .nodes
            .iter()
            .map(|n| mean(n) / unit)
            .fold(0.0, f64::max);
        let count = ((most - least) / CELL) as usize + 2;
        let mut cells = vec![[0.0; 2]; count];
        for n in &self.nodes {
            let at = (mean(n) / unit - least) / CELL;
            let i = (at as usize).min(count - 2);
            let t = at - i as f64;
            // Sharing between two cells adds to the variance.
            let noise = (shape.noise * n.noise / variance - CELL * CELL * t * (1.0 - t)).max(0.0);
            for (cell, part) in [(i, 1.0 - t), (i + 1, t)] {
                cells[cell][0] += n.probability * part;
                cells[cell][1] += n.probability * part * noise;
            }
        }
        let cells: Vec<Cell> = cells
            .iter()
            .enumerate()
            .filter(|(_, c)| c[0] > 1e-13)
            .map(|(i, c)| {
                let floor = (0.3 * CELL).powi(2);
                Cell {
                    at: least + i as f64 * CELL,
                    weight: c[0],
                    sd: (c[1] / c[0]).max(floor).sqrt(),
                    skew: shape.skew,
                }
            })
            .collect();
        let shape = |x, _| {
            let x = bounded(x, self.common);
            if x > 9.0 {
                return 0.0;
            }
            gauss::cdf(-normal_score(x, shape.skew, shape.excess))
        };
        (variance, tail_of(&cells, shape))
    }
}

/// Tokens of one overlap: where their kernel values lie and how they scatter, in deviations of the
/// whole.
pub(crate) struct Cell {
    pub(crate) at: f64,
    pub(crate) weight: f64,
    pub(crate) sd: f64,
    /// Skewness of the scatter.
    pub(crate) skew: f64,
}

/// Score of a coordinate of a unit vector that is correlated as the width noise is: its square has
/// the mean `common` (note, eq. 3).
pub(crate) fn bounded(x: f64, common: f64) -> f64 {
    if common < 1e-4 {
        return x;
    }
    let d = 1.0 / common;
    unit_coordinate_score(x, x * x / d, d)
}

/// Tail of a mixture over overlaps, `shape` being the tail of the scatter in its deviations.
pub(crate) fn tail_of(cells: &[Cell], shape: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let mut tail = vec![0.0; POINTS];
    for (i, p) in tail.iter_mut().enumerate() {
        let y = FIRST + i as f64 * STEP;
        if y < -3.0 {
            *p = 1.0;
            continue;
        }
        *p = cells
            .iter()
            .map(|c| {
                let x = (y - c.at) / c.sd;
                if x < -6.0 {
                    return c.weight;
                }
                c.weight * shape(x, c.skew)
            })
            .sum();
        if *p < 1e-10 {
            break;
        }
    }
    tail
}

/// `E corr^2` of the width noise of two other tokens (note, eq. 3).
pub(crate) fn common_part(layer: &Layer, own: &Profile) -> f64 {
    let variance = own.variance();
    if variance <= 0.0 {
        return 0.0;
    }
    let coordinates = layer.coordinates(6.5, 4);
    let top = DEGREES.min(ORDER + 1);
    let mass: f64 = coordinates.iter().map(|c| c.1).sum();
    let square: f64 = coordinates
        .iter()
        .map(|&(x, w)| {
            let rho = x / layer.d.sqrt();
            let k = (1..top)
                .rev()
                .fold(0.0, |sum, k| (sum + own.c[k].powi(2)) * rho);
            w * k * k
        })
        .sum();
    square / mass / (variance * variance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::setting::{Mlp, MlpInput, Setting};
    use crate::test_random::{Lcg, dot};

    fn layer(activation: Activation, d: usize, m: usize) -> Layer {
        let mlp = Mlp {
            activation,
            width: m,
            input: MlpInput::Rms,
            rows: MlpRows::Gaussian,
        };
        Layer::of(&Setting::new(100, d, 8, 64).with_mlp(mlp), &mlp)
    }

    fn feature(w: &[Vec<f64>], x: &[f64], phi: Activation) -> Vec<f64> {
        w.iter().map(|row| phi.value(dot(row, x))).collect()
    }

    /// The width noise grows with the overlap (eq. 1): its variance at two overlaps, over that at none,
    /// from drawn layers. At the larger one it is 1.4 (GELU) to 2.6 times as large.
    #[test]
    fn width_noise_grows_with_the_overlap() {
        let (d, m, layers) = (40usize, 20usize, 1500);
        for phi in [Activation::HERMITE_2, Activation::Gelu] {
            let overlaps = Overlaps::of(&layer(phi, d, m), 1.0);
            let stated = |rho: f64| {
                // The node nearest to the overlap: nodes are in the order of the overlap.
                let nodes = layer(phi, d, m).coordinates(6.5, 4);
                let at = |rho: f64| {
                    nodes
                        .iter()
                        .filter(|c| c.1 > 1e-12)
                        .enumerate()
                        .min_by(|a, b| {
                            let far = |x: f64| (x / (d as f64).sqrt() - rho).abs();
                            far(a.1.0).total_cmp(&far(b.1.0))
                        })
                        .map(|(i, c)| (overlaps.nodes[i].noise, c.0 / (d as f64).sqrt()))
                };
                at(rho)
            };
            let (none, _) = stated(0.0).expect("nodes");
            for wanted in [0.3, 0.55] {
                let (noise, rho) = stated(wanted).expect("nodes");
                let mut rng = Lcg(23);
                let mut sums = [0.0; 2];
                for _ in 0..layers {
                    let w: Vec<Vec<f64>> = (0..m)
                        .map(|_| (0..d).map(|_| rng.normal()).collect())
                        .collect();
                    let along: Vec<f64> = w.iter().map(|row| phi.value(row[0])).collect();
                    for (sum, rho) in sums.iter_mut().zip([0.0, rho]) {
                        let mut values = Vec::new();
                        for _ in 0..12 {
                            let mut x = rng.table(1, d - 1, true).remove(0);
                            for v in &mut x {
                                *v *= (1.0 - rho * rho).sqrt();
                            }
                            x.insert(0, rho);
                            values.push(dot(&feature(&w, &x, phi), &along) / m as f64);
                        }
                        let mean = values.iter().sum::<f64>() / 12.0;
                        *sum += values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 11.0;
                    }
                }
                let ratio = sums[1] / sums[0] / (noise / none);
                assert!(
                    (ratio - 1.0).abs() < 0.12,
                    "{phi} {rho} {ratio} {noise} {none}"
                );
            }
        }
    }

    /// Between layers the variance of the width noise has the relative variance `2 E corr^2` (eq. 3) on
    /// top of what the units carry: a linear layer read by weights that are fixed.
    #[test]
    fn width_noise_differs_between_layers() {
        let (d, m, layers) = (14usize, 40usize, 6000);
        let phi = Activation::Linear;
        let stated = 2.0 * Overlaps::of(&layer(phi, d, m), 1.0).common;
        let mut rng = Lcg(31);
        let a: Vec<f64> = (0..m).map(|_| rng.normal()).collect();
        let (mut mean, mut square) = (0.0, 0.0);
        for _ in 0..layers {
            // sum_k a_k w_k across the token; its squared length is the variance over directions.
            let mut b = vec![0.0; d - 1];
            for &f in &a {
                for x in &mut b {
                    *x += f * rng.normal();
                }
            }
            let v = dot(&b, &b);
            mean += v / f64::from(layers);
            square += v * v / f64::from(layers);
        }
        let ratio = (square / (mean * mean) - 1.0) / stated;
        // To 1/d: the formula counts all directions, of which one is the token's own.
        assert!((ratio - 1.0).abs() < 0.15, "{ratio}");
    }
}
