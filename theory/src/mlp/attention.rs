//! The attention step through the hidden layer: signal and noise. Derivation: `attention.md`.
//!
//! Units are those of the attention-only budget with the layer's gain taken out,
//! `S0 = eta m / (L^2 V)`: a linear layer that sees the raw input and has `W^T W = m I` gives the
//! numbers of the attention-only model.

use serde::{Deserialize, Serialize};

use crate::labels::LabelMoments;
use crate::mlp::hermite::{ORDER, Profile, legendre, normal_nodes};
use crate::mlp::kernel::row_scale;
use crate::moments::Moments;
use crate::setting::{Mlp, MlpInput, MlpRows, Setting};

/// Names of the noise terms, in the order used everywhere: those of the attention-only model,
/// then those that the hidden layer adds.
pub const MLP_NOISE_NAMES: [&str; 12] = [
    "mean_bias",
    "mean_bias_flow",
    "cross",
    "gradient_noise",
    "signal_noise",
    "signal_bias",
    "population",
    "label_count",
    "mlp_noise",
    "mean_bias_mlp",
    "linear_mean_bias_mlp",
    "trigger",
];

/// Number of terms.
pub const TERMS: usize = MLP_NOISE_NAMES.len();

/// Noise budget of the attention step through the layer, in units of `S0 = eta m/(L^2 V)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MlpBudget {
    /// Mean signal `T`.
    pub signal: f64,
    /// Variance of `T` between trials.
    pub signal_variance: f64,
    /// Expected variance over tokens by term, in the order of [`MLP_NOISE_NAMES`].
    pub variance: [f64; TERMS],
    /// Twice the covariances between different terms.
    pub covariance: f64,
    /// Expected variance over tokens of `(w - T z_trig) . z_in(v)`.
    pub interference: f64,
    /// Variance between trials of `(w - T z_trig) . z_trig` at `|z_trig| = 1`.
    pub trigger_score_variance: f64,
}

impl MlpBudget {
    /// Root of the sum of all terms and of their covariances.
    #[must_use]
    pub fn spread(&self) -> f64 {
        (self.variance.iter().sum::<f64>() + self.covariance)
            .max(0.0)
            .sqrt()
    }

    /// Index into [`MLP_NOISE_NAMES`] of the largest term.
    #[must_use]
    pub fn dominant(&self) -> usize {
        (0..TERMS).fold(0, |best, i| {
            if self.variance[i] > self.variance[best] {
                i
            } else {
                best
            }
        })
    }
}

/// What the layer does to pairs of samples (note, section 2). All slopes are in units of the raw
/// linear layer, that is over `|h|^2`.
#[derive(Debug, Clone, Copy)]
struct Response {
    /// `1/E|h|^2`.
    gain: f64,
    /// Kernel slope between samples of different labels, `kappa'(rho_b)`.
    slope: f64,
    /// The same of the linear part alone, `c_1^2`.
    linear: f64,
    /// What a sample's gradient holds along its own input, read with its label's imbalance.
    reader: f64,
    /// A sample that meets itself: the slope along its own input beyond what label imbalance reads.
    own_slope: f64,
    /// What the finite width adds where a sample meets itself, `d/m` times, read within sequences
    /// and in the class means: `E (phi' psi)^2`, `psi` the centred activation and `phi'` less its
    /// mean in the class means; and its covariance with what label imbalance reads of the sample.
    own_width: [[f64; 2]; 2],
    /// 1 where a sample meets itself along its own input, 0 where the projection removes that.
    meets_itself: f64,
    /// Kernel slope between samples of one label.
    signal: f64,
    /// `E kappa'^2 (1 - rho^2)` less `slope^2`: the slope fluctuates with the overlap.
    rough: f64,
    /// What the finite width adds to the vector of a pair of samples, `d/m` times:
    /// `E phi'^2 Var phi`, of which `c_1^2 Var phi`; `E phi'^2 c_0^2`, of which `c_1^2 c_0^2`.
    width: [[f64; 2]; 2],
    /// Weights of the mean row of `W`: a sample with itself, two samples, and what two samples of
    /// one label have more.
    row: [f64; 3],
    /// Weights of the mean embedding, likewise.
    mean: [f64; 3],
    /// The same for the part that the finite width adds.
    mean_width: [f64; 3],
    /// Covariance of the vectors of a pair of samples and of the swapped pair, times `d/m`:
    /// without and with the constant of the activation.
    swap: [f64; 2],
    /// `E phi'^2`.
    slope_square: f64,
    /// `1/m`.
    inverse_m: f64,
    /// `1` unless the rows of `W` are balanced.
    row_mean: f64,
}

/// The entries of [`Response::own_width`], without `d/m` (note, section 3).
fn own_power(mlp: &Mlp, p: &Profile, scale: f64) -> [[f64; 2]; 2] {
    let (c0, c1) = (p.c[0], p.c[1]);
    let mut e = [[0.0; 2]; 2];
    for (x, w) in normal_nodes() {
        let f = mlp.activation.value(scale * x) - c0;
        let slope = scale * mlp.activation.derivative(scale * x);
        let rest = slope - c1;
        e[0][0] += w * (slope * f).powi(2);
        e[0][1] += w * c0 * slope * slope * f;
        e[1][0] += w * (rest * f).powi(2);
        e[1][1] += w * rest * f * (c1 * f + c0 * rest);
    }
    // The mean row of the weights has a term of its own in the class means, and is none if the rows
    // are balanced.
    let row = (p.product - c0 * c1).powi(2);
    e[1][0] -= row;
    if mlp.rows == MlpRows::Balanced {
        e[0][0] -= row;
        e[0][1] -= c0 * c1 * (p.product - c0 * c1);
    }
    e
}

/// `E f(rho)` for an overlap of mean `centre` and variance `(1 - centre^2)/d`.
fn over_overlaps(centre: f64, d: f64, f: impl Fn(f64) -> f64) -> f64 {
    let sd = ((1.0 - centre * centre).max(0.0) / d).sqrt();
    let (mut sum, mut mass) = (0.0, 0.0);
    for (x, w) in legendre(-4.5, 4.5, 4) {
        let rho = centre + sd * x;
        if rho.abs() < 1.0 {
            let w = w * crate::gauss::pdf(x);
            sum += w * f(rho);
            mass += w;
        }
    }
    sum / mass.max(1e-300)
}

/// `E |J w|^2 phi'(g)^2 (phi(g') - c_0)^2` over the weights `w` of one hidden unit, `g` and `g'`
/// their components along the inputs of two samples, averaged over the overlap of these
/// (note, eq. 4); and `E x^2 phi phi'`.
fn width_power(
    mlp: &Mlp,
    p: &Profile,
    scale: f64,
    background: f64,
    d: f64,
    rms: bool,
) -> (f64, f64) {
    let nodes: Vec<(f64, f64)> = legendre(-7.0, 0.0, 6)
        .chain(legendre(0.0, 7.0, 6))
        .map(|(x, w)| (x, w * crate::gauss::pdf(x)))
        .collect();
    let phi = mlp.activation;
    let slope = |x: f64| scale * phi.derivative(scale * x);
    let mut second = 0.0;
    for &(x, w) in &nodes {
        second += w * x * x * phi.value(scale * x) * slope(x);
    }
    let mut power = 0.0;
    for (y, wy) in crate::quadrature::HERMITE_3 {
        let sd = ((1.0 - background * background).max(0.0) / d).sqrt();
        let rho = (background + sd * y).clamp(-0.99, 0.99);
        let across = (1.0 - rho * rho).sqrt();
        for &(x, wx) in &nodes {
            let f2 = slope(x).powi(2);
            let along = if rms { 0.0 } else { x * x };
            let mut sum = 0.0;
            for &(z, wz) in &nodes {
                let f = phi.value(scale * (rho * x + across * z)) - p.c[0];
                sum += wz * f * f * ((d - 2.0).max(0.0) + z * z + along);
            }
            power += wy * wx * f2 * sum;
        }
    }
    (power, second)
}

impl Response {
    fn of(s: &Setting, mlp: &Mlp) -> Self {
        let (v, len, d) = (s.vocab as f64, s.len as f64, s.dim_in as f64);
        // E |h|^2, and the overlaps of the inputs of two samples of different and of one label.
        let power = (1.0 + (len - 1.0) / v) / len;
        let background = (len / v) / (1.0 + (len - 1.0) / v);
        let same = ((1.0 + (len * len - 1.0) / v) / (len * (1.0 + (len - 1.0) / v))).min(1.0);
        let scale = row_scale(mlp);
        let rms = mlp.input == MlpInput::Rms;
        let p = Profile::of(mlp.activation, scale * if rms { 1.0 } else { power.sqrt() });
        let curvature = |rho: f64| {
            (2..=ORDER).rev().fold(0.0, |sum, k| {
                sum * rho + (k * (k - 1)) as f64 * p.c[k] * p.c[k]
            })
        };
        let slope = p.kernel_slope(background);
        let tangent = |rho: f64| if rms { 1.0 - rho * rho } else { 1.0 };
        let rough = over_overlaps(background, d, |rho| {
            p.kernel_slope(rho).powi(2) * tangent(rho)
        }) - slope * slope;
        // The scores of the informative position move with the overlap (note, eq. 4); of a raw layer
        // those of all positions do, by as much.
        let signal = over_overlaps(same, d, |rho| {
            let k = p.kernel_slope(rho);
            if rms {
                k * (1.0 - rho) / (1.0 - same).max(1e-9) + curvature(rho) * (1.0 - rho) / d
            } else {
                k
            }
        }) - if rms { p.kernel_slope(same) / d } else { 0.0 };
        let m = mlp.width as f64;
        let (width, second) = width_power(
            mlp,
            &p,
            scale * if rms { 1.0 } else { power.sqrt() },
            background,
            d,
            rms,
        );
        let cross = |rho: f64| {
            (0..ORDER).rev().fold(0.0, |sum, k| {
                sum * rho + (k as f64 + 1.0).sqrt() * p.c[k] * p.c[k + 1]
            })
        };
        let linear = p.c[1] * p.c[1];
        // `E phi'' phi` between the inputs of two samples.
        let radial = (0..ORDER - 1).rev().fold(0.0, |sum, k| {
            let k1 = k as f64 + 1.0;
            sum * background + (k1 * (k1 + 1.0)).sqrt() * p.c[k] * p.c[k + 2]
        });
        // The projection J takes from a sample's own gradient what lies along its input.
        let (one, two) = if rms {
            (1.0 - 1.0 / d, 1.0 - 2.0 / d)
        } else {
            (1.0, 1.0)
        };
        let own_row = p.product - if rms { second / d } else { 0.0 };
        let apart = cross(background);
        let steeper = p.kernel_slope(same) - slope;
        Response {
            gain: 1.0 / power,
            slope,
            linear,
            reader: if rms { -slope * background } else { radial },
            own_slope: if rms { 0.0 } else { p.radial - radial },
            own_width: own_power(mlp, &p, scale * if rms { 1.0 } else { power.sqrt() })
                .map(|parts| parts.map(|x| d * one / m * x)),
            meets_itself: f64::from(u8::from(!rms)),
            signal,
            rough,
            width: [
                [width / m, d * one / m * linear * p.variance()],
                [p.slope_square, linear].map(|x| d * one / m * x * p.c[0] * p.c[0]),
            ],
            row: [own_row, apart * one, cross(same) - apart],
            mean: if rms {
                [0.0, slope * (one - background), steeper]
            } else {
                [p.radial, slope + radial, steeper]
            },
            mean_width: [p.radial * two, (slope + radial) * one, steeper],
            swap: {
                let constant = p.c[0] * p.c[1];
                let rest = p.product - constant;
                [d / m * rest * rest, d / m * 2.0 * constant * rest]
            },
            slope_square: p.slope_square,
            inverse_m: 1.0 / m,
            row_mean: f64::from(u8::from(mlp.rows == MlpRows::Gaussian)),
        }
    }
}

/// Quadratic form in which the size of `w'` is measured, as in the attention-only budget.
struct Metric {
    powers: [f64; 3],
    token: f64,
    token_pair: f64,
    /// Slope of `z^T X z` in `|z|^2`.
    token_slope: f64,
}

/// First and second moment of `g = delta^T G delta`.
#[derive(Clone, Copy)]
struct Imbalance {
    mean: f64,
    square: f64,
}

struct Context {
    zi: Moments,
    zo: Moments,
    labels: LabelMoments,
    response: Response,
    v: f64,
    d: f64,
    len: f64,
    l: f64,
    unit: f64,
}

struct Terms {
    variance: [f64; TERMS - 1],
    covariance: f64,
}

impl Terms {
    fn sum(&self) -> f64 {
        self.variance.iter().sum::<f64>() + self.covariance
    }
}

impl Context {
    fn new(s: &Setting, mlp: &Mlp) -> Self {
        let (v, len) = (s.vocab as f64, s.len as f64);
        let labels = LabelMoments::of(s);
        Context {
            zi: Moments::input(s),
            zo: Moments::output(s),
            labels,
            response: Response::of(s, mlp),
            v,
            d: s.dim_in as f64,
            len,
            l: 1.0 - 1.0 / len,
            unit: len.powi(4) * v * v,
        }
    }

    fn tokens(&self) -> Metric {
        let z = &self.zi;
        Metric {
            powers: [z.t2, z.t3, z.t4],
            token: z.t2,
            token_pair: z.k2,
            token_slope: z.norm_slope,
        }
    }

    fn independent(&self) -> Metric {
        let z = &self.zi;
        let o = z.overlap;
        Metric {
            powers: [o, o * z.t2, o * z.t3],
            token: o,
            token_pair: o * z.t2,
            token_slope: o,
        }
    }

    fn random(&self) -> Imbalance {
        let mean = self.labels.imbalance;
        Imbalance {
            mean,
            square: mean * mean * (1.0 + 2.0 * self.zo.t2),
        }
    }

    /// `E sum_j p_j ((G delta)_j - own/N)^2`: how strongly label imbalance reads a sample, without
    /// the sample itself where it does not meet itself.
    fn pull(&self) -> f64 {
        self.pull_weighted(self.response.meets_itself, 1.0)
    }

    /// The same with the sample itself in it.
    fn pull_whole(&self) -> f64 {
        self.labels.imbalance * (self.zo.t2 + self.labels.skew)
    }

    /// `E sum_j p_j (pair ((G delta)_j - 1/N) + own/N)^2`: a sample is read by others with one
    /// weight and by itself with another.
    fn pull_weighted(&self, own: f64, pair: f64) -> f64 {
        let (inv, more) = (self.labels.inverse_n, own - pair);
        pair * pair * self.pull_whole()
            + 2.0 * pair * more * inv * self.labels.imbalance
            + more * more * self.zo.diagonal_squared * inv * inv
    }

    /// `E kappa (pair (kappa - V/N) + own V/N)^2`: how strongly the samples of one label read their
    /// common token, where each reads itself with another weight.
    fn own_cube(&self, own: f64, pair: f64) -> f64 {
        let r = self.v * self.labels.inverse_n;
        let more = r * (own - pair);
        pair * pair * self.labels.cube + 2.0 * pair * more * self.labels.square + more * more
    }

    /// Mean over pairs of distinct samples of the squared output Gram entry.
    fn distinct_gram(&self) -> f64 {
        let z = &self.zo;
        (z.t2 + z.diagonal_squared * (self.labels.imbalance - self.labels.inverse_n)).max(0.0)
    }

    fn entry(&self) -> f64 {
        let d = self.zo.diagonal_squared;
        self.labels.square * self.labels.imbalance * (self.zo.t2 - d / self.v)
            + d * self.labels.twist / (self.v * self.v)
    }

    /// `V sum_j p_j^2 G^2` over label pairs; a sample that does not meet itself is missing from its
    /// own class, `kappa (kappa - V/N)^2` in place of `kappa^3`.
    fn weighted_gram(&self) -> f64 {
        let r = self.v * self.labels.inverse_n * (1.0 - self.response.meets_itself);
        let own = self.labels.cube - 2.0 * r * self.labels.square + r * r - self.labels.square;
        self.labels.square * self.zo.t2 + self.zo.diagonal_squared / self.v * own
    }

    /// `E (own/N + pair (g - 1/N) + label/V)^2`: a sample meets itself, others, and others of its
    /// label with different weights (note, eq. 8).
    fn meeting(&self, [own, pair, label]: [f64; 3], g: Imbalance) -> f64 {
        let rest = (own - pair) * self.labels.inverse_n + label * self.labels.pairs / self.v;
        rest * rest + 2.0 * rest * pair * g.mean + pair * pair * g.square
    }

    /// Relative loss of `mu^T Sigma^3 mu` where rows have unit length, as in the attention-only model.
    fn mean_tilt(&self) -> f64 {
        let z = &self.zi;
        if z.norm_variance > 0.0 {
            return 0.0;
        }
        let loss = 2.0 / (self.v * (1.0 + 2.0 * z.overlap));
        loss * (1.0 + 2.0 * z.overlap * z.t2 / z.t3)
    }

    /// Mean of what [`Context::meeting`] squares, `g` being the label imbalance.
    fn along(&self, [own, pair, label]: [f64; 3], g: Imbalance) -> f64 {
        self.response.gain
            * ((own - pair) * self.labels.inverse_n
                + label * self.labels.pairs / self.v
                + pair * g.mean)
    }

    /// Coefficient of `-Sigma mu` that unit-length inputs leave (note, eq. 5c). 0 for other inputs.
    fn unit_length(&self, g: Imbalance) -> f64 {
        if self.zi.norm_variance > 0.0 {
            return 0.0;
        }
        let r = &self.response;
        let inv = self.labels.inverse_n;
        let own =
            r.meets_itself * r.own_slope * inv + r.reader * (g.mean - (1.0 - r.meets_itself) * inv);
        let mates = r.signal * self.labels.pairs / (self.v * self.len);
        2.0 * self.l / self.len * r.gain * (own + mates)
    }

    fn interference(&self, x: &Metric, g: Imbalance) -> Terms {
        let Context {
            zi,
            zo,
            labels,
            response: r,
            v,
            d,
            len,
            l,
            unit,
            ..
        } = self;
        let (v, d, len, l, unit) = (*v, *d, *len, *l, *unit);
        let inv = labels.inverse_n;
        let s2 = zo.t2;
        let overlap = zi.overlap;
        let flow = |direct: f64, mean: f64| l / len * (l * l * direct + mean / len);
        let (pull, entry, weighted) = (self.pull(), self.entry(), self.weighted_gram());
        let noise = l / len * inv;
        let g2 = r.gain * r.gain;
        // Squared slopes: two samples of different labels, one label, and their product.
        let (slope2, signal2, mixed) = (
            g2 * r.slope * r.slope,
            g2 * r.signal * r.signal,
            g2 * r.slope * r.signal,
        );
        // A Wishart matrix between: E Q A Q = A + (A + tr A)/m.
        let linear2 = g2 * r.linear * r.linear;
        let wishart = linear2 * r.inverse_m;
        let widen = |a: f64, trace: f64| slope2 * a + wishart * (a + trace);
        // Where one sample is fixed, its slopes phi' enter with their square.
        let fixed = g2 * r.linear * r.inverse_m * r.slope_square;
        let iso = x.token * (1.0 + zi.norm_variance);

        let shared = unit / (d * v);
        let mean_bias = shared * l * l * x.powers[1] * g2 * self.meeting(r.mean, g);
        let linear_mean_bias_mlp = shared
            * l
            * l
            * g2
            * self.meeting(r.mean_width, g)
            * r.inverse_m
            * (1.0 + d)
            * x.powers[1];
        let mean_bias_mlp =
            unit * l * l * r.gain * r.row_mean * self.meeting(r.row, g) * r.inverse_m * x.powers[1];
        let upright = 1.0 - self.mean_tilt();
        let mean_bias = mean_bias * upright;
        let coherent = upright * shared * g.square * x.powers[1] * slope2;
        let read = l * l * zi.mean_squared;
        let own_read = read;
        let mean_bias_flow = slope2
            * (unit * inv * flow(read, read) * pull * x.token
                + unit * (l / len).powi(2) * entry * own_read * x.token / v)
            + (l * l / len).powi(2) * coherent
            + unit * inv * pull * g2 * r.reader * r.reader / r.gain
                * flow(x.token_pair, zi.t2 * x.token);
        // In the class means a sample's noise is read by others and reads itself.
        let bulk2 = g2 * (r.slope + r.reader).powi(2);
        let read_by_all = g2
            * self.pull_weighted(
                r.meets_itself * (r.own_slope + r.reader),
                r.slope + r.reader,
            );
        let cross = unit * inv * l.powi(5) / len * read_by_all * x.powers[2];
        let swap = zi.t2_or_one() * x.token / v;
        // The slope fluctuates from pair to pair: a vector along the other sample's input, of
        // squared length `rough gain`, for every pair.
        let rough = r.rough.max(-0.5 * r.slope * r.slope) * r.gain;
        let distinct = self.distinct_gram();
        // Sums over the tokens of a sequence are read less their mean, and a position does not read
        // its own writing (attention-only note, *Means and norms*).
        let pair = x.token_pair - x.powers[2];
        let apart = (distinct - s2 * labels.imbalance).max(0.0);
        // Less what label imbalance reads of the same vector, in mean_bias_flow.
        let own_slope = r.meets_itself * r.own_slope;
        let own_slope2 = g2 * own_slope * own_slope;
        let gradient_noise = unit
            * (inv
                * noise
                * (slope2 * apart
                    + l * own_slope2 * zo.diagonal_squared * inv
                    + 2.0 * l * g2 * own_slope * r.reader * labels.imbalance)
                * (flow(pair, zi.t2 * x.token) + l.powi(3) / len * swap)
                + own_slope2 * (l / len * inv).powi(2) * zi.norm_variance * x.token / v
                // Every uninformative position reads what it has itself put into the input (eq. 5b).
                + own_slope2 * zo.diagonal_squared * inv.powi(3) * l / len.powi(5) * x.token
                // A sample reads its own tokens with z_v^T Q z_v, which scatters with the width; what
                // its gradient holds along its own input for any partner reads label imbalance.
                + g2 * (r.mean_width[0] - r.mean_width[1] + r.slope).powi(2)
                    * 2.0
                    * r.inverse_m
                    * (l / len * inv).powi(2)
                    * x.token
                    / v
                + inv
                    * inv
                    * distinct
                    * rough
                    * (flow(x.token_pair, zi.t2 * x.token) + l * l * x.powers[2]));
        // An isotropic vector for every pair: read within sequences, and in the class means. There
        // the mean slope c_1 is common to all readers, so that only label imbalance reads it.
        let [[pairs, common], [constant, row]] = r.width;
        let within = flow(iso / d, x.token / d);
        let means = l * l * x.powers[1] / d;
        let whole = self.pull_whole();
        // A sample with itself; its constants are read with label imbalance, itself included.
        let own = r.own_width.map(|[square, along]| {
            inv * inv * (inv * zo.diagonal_squared * square + 2.0 * labels.imbalance * along)
        });
        let mlp_noise = unit
            * r.gain
            * (within
                * (inv * inv * distinct * pairs
                    + own[0]
                    + inv * whole * (constant - (1.0 - r.row_mean) * row))
                + means
                    * (inv * inv * distinct * (pairs - common)
                        + own[1]
                        + inv * whole * (common + constant - row)
                        + inv * (inv * distinct * r.swap[0] + whole * r.swap[1])));
        // The slope's square times `weighted`, and what a Wishart matrix adds to it.
        let weighted2 = slope2 * labels.square * s2
            + zo.diagonal_squared / v
                * (g2 * self.own_cube(own_slope, r.slope) - slope2 * labels.square);
        let signal_noise = unit / (len * len * v)
            * (inv
                * flow(
                    weighted2 * pair + weighted * (wishart * x.token_pair + fixed * iso),
                    (weighted2 * zi.t2 + weighted * (wishart * zi.t2 + fixed)) * x.token,
                )
                + l * l
                    * noise
                    * (weighted2 * (pair + 2.0 * swap)
                        + weighted * wishart * (x.token_pair + iso)))
            + g2 * self.own_cube(own_slope, r.signal) * l * inv * x.token / len;
        let signal_bias = unit * l.powi(4) / (len * len * v)
            * entry
            * (bulk2 * x.powers[2] + wishart * (x.powers[2] + x.powers[1]))
            + (l * l / len).powi(2) * coherent;
        let off_gram = (s2 - zo.diagonal_squared / v).max(0.0);
        // Mean norms and means over tokens as in the attention-only budget.
        let lifted = zi.norm_variance * x.token_slope;
        let off_diagonal = |size: f64, mean: f64| {
            let plain = size * widen(overlap, 1.0) * x.token;
            let change = slope2 * (size * overlap * lifted - mean * x.powers[2]);
            l * l * off_gram * (plain + change).max(0.0)
        };
        // |z_v|^2 becomes z_v^T Q z_v.
        let input_norms = zi.norm_variance
            + 2.0 * r.inverse_m * r.linear.powi(2) / (r.signal * r.signal).max(f64::MIN_POSITIVE);
        let norms = signal2 * (input_norms + zo.norm_variance + input_norms * zo.norm_variance);
        let own = l * l * x.token / v;
        let population = off_diagonal(1.0, 1.0) + own * norms;
        let excess = labels.square - 1.0;
        let off_counts = labels.square.powi(2) - 1.0;
        let on_counts = labels.square_variance + excess * excess;
        let label_count = off_diagonal(off_counts, excess)
            + own * (signal2 * labels.pair_variance + norms * on_counts)
            + l * l / v * signal2 * labels.pair_variance * 2.0 * lifted;

        let along_mean = coherent
            * (l * l - l.powi(6) - 2.0 * (l * l / len).powi(2) - (l / (len * len)).powi(2))
            - (l * l - l.powi(6)) * coherent;
        let twist = labels.twist_pair * (1.0 - 1.0 / v) / v;
        let third = self.unit_length(g);
        let along_length = shared * x.powers[1] * third * (third - 2.0 * l * self.along(r.mean, g));
        let along_counts = mixed * 2.0 * len * l.powi(3) * twist * x.powers[1];
        let rn = v * inv * r.meets_itself;
        let pairs = |parts: [f64; 3]| {
            parts.iter().sum::<f64>().powi(2) - parts.iter().map(|a| a * a).sum::<f64>()
        };
        let along_norms = own
            * (mixed * zi.norm_variance * pairs([1.0, excess, rn * len])
                + signal2 * zo.norm_variance * pairs([1.0, excess, -rn]));
        let along_noise = 2.0 * cross / (l * len)
            - g2 * r.signal
                * (r.slope * (labels.cube - labels.square)
                    + v * inv * (own_slope - r.slope) * (labels.square - 1.0))
                * 2.0
                * len
                * l.powi(3)
                * inv
                * x.powers[1]
            - g2 * own_slope * r.signal * 2.0 * v * l * inv * inv * labels.square * x.token / len;
        Terms {
            variance: [
                mean_bias,
                mean_bias_flow,
                cross,
                gradient_noise,
                signal_noise,
                signal_bias,
                population,
                label_count,
                mlp_noise,
                mean_bias_mlp,
                linear_mean_bias_mlp,
            ],
            covariance: along_mean + along_length + along_counts + along_norms + along_noise,
        }
    }

    fn signal(&self) -> f64 {
        self.l
            * (1.0 - 1.0 / self.v)
            * self.labels.pairs
            * self.response.gain
            * self.response.signal
    }

    fn signal_variance(&self) -> f64 {
        let Context {
            zi,
            zo,
            labels,
            response: r,
            v,
            d,
            len,
            l,
            unit,
            ..
        } = self;
        let (v, d, len, l, unit) = (*v, *d, *len, *l, *unit);
        let inv = labels.inverse_n;
        let g2 = r.gain * r.gain;
        let slope2 = g2 * r.slope * r.slope;
        let signal2 = g2 * r.signal * r.signal;
        let wishart = g2 * r.linear * r.linear * r.inverse_m;
        let widen = |a: f64, trace: f64| slope2 * a + wishart * (a + trace);
        let population = 2.0 * widen(zi.overlap, 1.0) * zo.overlap
            + signal2 * (zi.norm_variance + zo.norm_variance) / v;
        let sequence = len * l * inv * v * widen(zi.t2, 1.0) * self.weighted_gram();
        let bias = len
            * len
            * l
            * l
            * labels.square
            * labels.imbalance
            * (zo.t2 + self.labels.skew)
            * widen(zi.overlap, 1.0);
        // A sample with itself, of the Gram matrix's mean square.
        let own = inv * self.zo.diagonal_squared;
        let own_slope2 = r.meets_itself * g2 * r.own_slope * r.own_slope;
        let flow = inv * v * v * zi.mean_squared * len * l * self.pull() * slope2
            + 2.0 * (v * inv).powi(2) * zi.t2 * (self.distinct_gram() * slope2 + own * own_slope2);
        let pairs = unit * r.gain * inv / (d * len * len)
            * (inv * self.distinct_gram() * (r.width[0][0] + r.rough.max(0.0))
                + inv * own * r.own_width[0][0]
                + self.pull_whole() * r.width[1][0]);
        l * l * (signal2 * labels.pair_sum_variance + population + sequence + bias + flow + pairs)
    }
}

/// Mean coefficient `T` of `z_trig` in `w`, in units of `S0` (note, eq. 5).
#[must_use]
pub fn nominal_signal(s: &Setting, mlp: &Mlp) -> f64 {
    Context::new(s, mlp).signal()
}

/// The same for infinite data.
#[must_use]
pub fn population_signal(s: &Setting, mlp: &Mlp) -> f64 {
    let c = Context::new(s, mlp);
    c.l * (1.0 - 1.0 / c.v) * c.response.gain * c.response.signal
}

/// The budget at a setting (note, section 3).
#[must_use]
pub fn budget(s: &Setting, mlp: &Mlp) -> MlpBudget {
    let c = Context::new(s, mlp);
    let g = c.random();
    let signal = c.signal();
    let signal_variance = c.signal_variance();
    let terms = c.interference(&c.tokens(), g);
    let own = c.interference(&c.independent(), g);
    let mut variance = [0.0; TERMS];
    variance[..TERMS - 1].copy_from_slice(&terms.variance);
    variance[TERMS - 1] = c.zi.overlap * (signal * signal + signal_variance) * (1.0 - 1.0 / c.v);
    MlpBudget {
        signal,
        signal_variance,
        variance,
        covariance: terms.covariance,
        interference: terms.sum(),
        trigger_score_variance: own.sum().max(0.0),
    }
}

/// The budget of a trial whose label imbalance `g` is known (note, section 6).
pub(crate) struct TrialBudget {
    context: Context,
    signal: f64,
    signal_variance: f64,
    /// Spread of the token scores without the crosstalk of the trigger, squared.
    pub(crate) quiet: f64,
    /// The share of `quiet` in single random directions: mean embedding and mean row of `W`.
    pub(crate) single: [f64; 2],
    trigger_score_variance: f64,
}

impl TrialBudget {
    /// At `g = factor E g`.
    pub(crate) fn new(s: &Setting, mlp: &Mlp, factor: f64) -> Self {
        let context = Context::new(s, mlp);
        let g = factor * context.labels.imbalance;
        let g = Imbalance {
            mean: g,
            square: g * g,
        };
        let terms = context.interference(&context.tokens(), g);
        let own = context.interference(&context.independent(), g);
        let quiet = terms.sum().max(0.0);
        let share = |x: f64| {
            if quiet > 0.0 {
                (x / quiet).clamp(0.0, 1.0)
            } else {
                0.0
            }
        };
        TrialBudget {
            signal: context.signal(),
            signal_variance: context.signal_variance(),
            quiet,
            single: [share(terms.variance[0]), share(terms.variance[9])],
            trigger_score_variance: own.sum().max(0.0),
            context,
        }
    }

    /// Squared spread of the trigger's crosstalk at `|z_trig|^2 = z`.
    pub(crate) fn crosstalk(&self, z: f64) -> f64 {
        z * self.context.zi.overlap
            * (self.signal * self.signal + self.signal_variance)
            * (1.0 - 1.0 / self.context.v)
    }

    /// Mean and variance of `w . z_trig` at `|z_trig|^2 = z`, the noise's own part times `f`.
    pub(crate) fn score(&self, z: f64, f: f64) -> (f64, f64) {
        (
            self.signal * z,
            self.signal_variance * z * z + self.trigger_score_variance * f * z,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::attention;
    use crate::setting::{Embedding, Labels};

    /// A wide linear layer that sees the raw input is the attention-only model.
    #[test]
    fn a_wide_linear_layer_has_the_attention_only_budget() {
        for (v, d, len, n) in [
            (512, 64, 16, 4096),
            (512, 64, 16, 300),
            (3608, 117, 4, 182),
            (256, 32, 40, 1000),
        ] {
            for input in [Embedding::Gaussian, Embedding::Sphere] {
                for labels in [Labels::Iid, Labels::Balanced] {
                    let mut s = Setting::new(v, d, len, n);
                    (s.input, s.output, s.labels) = (input, input, labels);
                    let mlp = Mlp {
                        activation: Activation::Linear,
                        width: 1 << 40,
                        input: MlpInput::Raw,
                        rows: MlpRows::Gaussian,
                    };
                    let plain = attention::budget(&s);
                    let layered = budget(&s.with_mlp(mlp), &mlp);
                    let ratio = layered.interference / plain.interference;
                    // With balanced labels the attention-only budget lets distinct samples of a label,
                    // too, miss their own writing: 1/(V L) of the squared Gram entries.
                    let allowed = if labels == Labels::Iid { 1e-3 } else { 6e-3 };
                    assert!(
                        (ratio - 1.0).abs() < allowed,
                        "{v} {d} {len} {n} {input:?} {labels:?} {ratio}"
                    );
                    assert!((layered.signal - plain.signal).abs() < 1e-6);
                }
            }
        }
    }
}
