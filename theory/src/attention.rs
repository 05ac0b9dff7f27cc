//! The attention step: signal and noise budget. Derivation: `attention.md`.
//!
//! After two steps the query is `w = Z_in^T A + T z_trig`. The budget states, term by term, the
//! expected variance over tokens of `w . z_in(v)` in units of `S0^2`, `S0 = eta/(L^2 V)`.

use serde::{Deserialize, Serialize};

use crate::labels::LabelMoments;
use crate::moments::Moments;
use crate::setting::{Model, Setting};

/// Names of the noise terms, in the order used everywhere.
pub const NOISE_NAMES: [&str; 9] = [
    "mean_bias",
    "mean_bias_flow",
    "cross",
    "gradient_noise",
    "signal_noise",
    "signal_bias",
    "population",
    "label_count",
    "trigger",
];

/// Mean coefficient `T` of `z_trig` in `w`, in units of `S0 = eta/(L^2 V)` (note, eq. 5).
///
/// Tends to `1 - 1/L`. A sample's own tokens give it no signal, hence the share of pairs of
/// distinct samples; with the trigger in the values, the label imbalance `delta` alone writes a
/// copy of `z_trig` into `V1`, which adds `V |delta|^2`. With a hidden layer see
/// [`crate::mlp::attention::nominal_signal`].
#[must_use]
pub fn nominal_signal(s: &Setting) -> f64 {
    if let Model::Mlp(mlp) = &s.model {
        return crate::mlp::attention::nominal_signal(s, mlp);
    }
    let v = s.vocab as f64;
    let l = 1.0 - 1.0 / s.len as f64;
    let labels = LabelMoments::of(s);
    let trigger = if s.trigger_in_values {
        v * labels.imbalance
    } else {
        0.0
    };
    l * ((1.0 - 1.0 / v) * labels.pairs + trigger)
}

/// Noise budget of the attention step, in units of `S0 = eta/(L^2 V)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Mean signal `T`.
    pub signal: f64,
    /// Variance of `T` between trials.
    pub signal_variance: f64,
    /// Expected variance over tokens by term, in the order of [`NOISE_NAMES`].
    pub variance: [f64; 9],
    /// Twice the covariances between different terms (note, section 4).
    pub covariance: f64,
    /// Expected variance over tokens of `(w - T z_trig) . z_in(v)`: all terms, less the crosstalk
    /// of `T z_trig` itself.
    pub interference: f64,
    /// Variance between trials of `(w - T z_trig) . z_trig` at `|z_trig| = 1`: the noise that the
    /// informative position itself meets.
    pub trigger_score_variance: f64,
}

impl Budget {
    /// `sqrt` of the sum of all terms and of their covariances.
    #[must_use]
    pub fn spread(&self) -> f64 {
        (self.variance.iter().sum::<f64>() + self.covariance).sqrt()
    }

    /// Index into [`NOISE_NAMES`] of the largest term.
    #[must_use]
    pub fn dominant(&self) -> usize {
        (0..9).fold(0, |best, i| {
            if self.variance[i] > self.variance[best] {
                i
            } else {
                best
            }
        })
    }
}

/// Quadratic form in which the size of `w' = Z_in^T A` is measured: traces against powers of the
/// token covariance `Sigma` (note, eq. 7).
struct Metric {
    /// `tr X Sigma`, `tr X Sigma^2`, `tr X Sigma^3`.
    powers: [f64; 3],
    /// Mean over tokens of `z_v^T X z_v`.
    token: f64,
    /// Mean over tokens of `(z_v^T X z_v)(z_v^T Sigma z_v)`.
    token_pair: f64,
    /// Mean over tokens of `|z_v|^2 z_v^T X z_v`.
    token_norm: f64,
    /// The same with `|z_v|^4`, less the share that is `1 + Var |z_v|^2` times `token`.
    token_norm_twice: f64,
}

impl Metric {
    /// `X = Sigma`: variance over tokens of `w' . z_v`.
    fn tokens(z: &Moments) -> Self {
        Metric {
            powers: [z.t2, z.t3, z.t4],
            token: z.t2,
            token_pair: z.k2,
            token_norm: z.t2 + z.norm_variance * z.norm_slope,
            token_norm_twice: 2.0 * z.norm_variance * z.norm_slope,
        }
    }

    /// `X = I/d`: variance of `w' . z` for an independent vector `z` (the trigger).
    fn independent(z: &Moments) -> Self {
        let o = z.overlap;
        Metric {
            powers: [o, o * z.t2, o * z.t3],
            token: o,
            token_pair: o * z.t2,
            token_norm: o * (1.0 + z.norm_variance),
            token_norm_twice: 2.0 * z.norm_variance * o,
        }
    }
}

/// First and second moment of the common factor `g = delta^T G delta` of a trial, the squared
/// label imbalance seen through the outputs (note, eq. 8).
#[derive(Clone, Copy)]
struct Imbalance {
    mean: f64,
    square: f64,
}

impl Imbalance {
    /// Over trials, for Gaussian `delta`.
    fn random(zo: &Moments, labels: &LabelMoments) -> Self {
        let mean = labels.imbalance;
        Imbalance {
            mean,
            square: mean * mean * (1.0 + imbalance_fluctuation(zo)),
        }
    }

    fn fixed(g: f64) -> Self {
        Imbalance {
            mean: g,
            square: g * g,
        }
    }

    fn variance(self) -> f64 {
        self.square - self.mean * self.mean
    }
}

/// Relative variance between trials of `g = delta^T G delta`.
pub(crate) fn imbalance_fluctuation(zo: &Moments) -> f64 {
    2.0 * zo.t2
}

/// A setting with what the terms need of it.
struct Context {
    zi: Moments,
    zo: Moments,
    labels: LabelMoments,
    /// 1 where the values carry the trigger.
    carries: f64,
    v: f64,
    len: f64,
    /// `1 - 1/L`.
    l: f64,
    /// `(eta/S0)^2 = L^4 V^2`.
    unit: f64,
}

/// The first eight terms in a metric.
struct Terms {
    variance: [f64; 8],
    /// Twice the covariances between them.
    covariance: f64,
}

impl Context {
    fn new(s: &Setting) -> Self {
        let (v, len) = (s.vocab as f64, s.len as f64);
        let labels = LabelMoments::of(s);
        Context {
            zi: Moments::input(s),
            zo: Moments::output(s),
            labels,
            carries: f64::from(u8::from(s.trigger_in_values)),
            v,
            len,
            l: 1.0 - 1.0 / len,
            unit: len.powi(4) * v * v,
        }
    }

    /// `E sum_j p_j (G delta)_j^2`: how strongly the label imbalance is read through the outputs.
    fn pull(&self) -> f64 {
        self.labels.imbalance * (self.zo.t2 + self.labels.skew)
    }

    /// Variance of `kappa (G delta)` over labels, diagonal of the output Gram matrix apart; its
    /// mean is `g`.
    fn entry(&self) -> f64 {
        let d = self.zo.diagonal_squared;
        self.labels.square * self.labels.imbalance * (self.zo.t2 - d / self.v)
            + d * self.labels.twist / (self.v * self.v)
    }

    /// `V sum_j p_j^2 G^2` over label pairs, split into off-diagonal and diagonal entries of the
    /// output Gram matrix: the weight with which sequence noise reaches a label's own token.
    fn weighted_gram(&self) -> f64 {
        self.labels.square * self.zo.t2
            + self.zo.diagonal_squared / self.v * (self.labels.cube - self.labels.square)
    }

    /// Mean over pairs of samples of the squared output Gram entry: labels agree with the share
    /// `1/V + |delta|^2`, of which `1/N` is a sample with itself; of that `1 - 1/L` moves.
    fn pair_gram(&self) -> f64 {
        let d = self.zo.diagonal_squared;
        let agree = (d - self.zo.t2).max(0.0) * self.labels.imbalance;
        (self.zo.t2 + agree - (1.0 - self.l) * d * self.labels.inverse_n).max(0.0)
    }

    /// What a finite length leaves beyond the terms and covariances where tokens do not interfere:
    /// coincidences within a class counted one by one (note, eq. 31), per unit of `token`. 0 for
    /// inputs that interfere.
    fn finite_length(&self) -> f64 {
        let Context {
            labels, v, len, l, ..
        } = self;
        if self.zi.overlap > 0.0 || labels.inverse_n == 0.0 {
            return 0.0;
        }
        let (q, per_class) = (1.0 / len, 1.0 / (v * labels.inverse_n));
        let cube = -2.0 * q * q * (3.0 - 2.0 * q);
        let square = 2.0 * q + q * q - q.powi(3) + 2.0 * per_class * q * q * l;
        let count =
            3.0 * q - 2.0 * q * q - 2.0 * q.powi(3) + 2.0 * q.powi(4) + 2.0 * per_class * q * l;
        let mean = cube * per_class.powi(3) * labels.cube
            + square * per_class.powi(2) * labels.square
            - count * per_class;
        (v * len).powi(2) * labels.inverse_n.powi(4) * self.zo.diagonal_squared * l * mean
    }

    /// What a sample that reads itself leaves beyond the terms and covariances at finite length, where
    /// tokens interfere (note, eq. 34). 0 for inputs that do not.
    fn own_reading(&self, x: &Metric) -> f64 {
        let Context {
            zi,
            zo,
            labels,
            v,
            len,
            l,
            ..
        } = self;
        if zi.overlap == 0.0 || labels.inverse_n == 0.0 {
            return 0.0;
        }
        // The centring over labels takes part of the last covariance of (25), while classes are single.
        let single = (1.0 - 1.0 / (v * labels.inverse_n)).max(0.0);
        let pair = x.token_pair - x.powers[2];
        let flow = l * l * pair + zi.t2 * x.token / len;
        let swap = zi.t2_or_one() * x.token / v;
        let norms = (zi.norm_variance + zo.norm_variance) * x.token;
        let stated = l.powi(3) * flow
            + (l * flow + l.powi(3) * (pair - 2.0 * single * x.powers[1])) / len
            + (l / len).powi(2) * norms
            + (l.powi(5) + 2.0 * l.powi(3) / len) * swap;
        let others = 1.0 - 2.0 / len;
        let exact = l * others * (pair + others * swap) + l / len * zi.norm_variance * x.token;
        (v * len).powi(2) * labels.inverse_n.powi(3) * zo.diagonal_squared * (exact - stated)
    }

    /// Coefficient of `-Sigma mu` that unit-length inputs leave (note, eq. 28): the third cumulant
    /// of tokens on a sphere, `E x |x|^2 = -2 Sigma mu`, met by a sample that reads itself and by
    /// class mates through their common token. 0 for other inputs.
    fn unit_length(&self) -> f64 {
        if self.zi.overlap == 0.0 || self.zi.norm_variance > 0.0 {
            return 0.0;
        }
        let pairs = self.labels.pairs / (self.v * self.len);
        2.0 * self.l / self.len * (self.labels.inverse_n + pairs)
    }

    /// Relative loss of `mu^T Sigma^3 mu` where rows have unit length: the spread of tokens along
    /// their own mean is smaller by `2/(V (1 + 2/d))` (note, eq. 29). 0 for other inputs.
    fn mean_tilt(&self) -> f64 {
        let z = &self.zi;
        if z.overlap == 0.0 || z.norm_variance > 0.0 {
            return 0.0;
        }
        let loss = 2.0 / (self.v * (1.0 + 2.0 * z.overlap));
        loss * (1.0 + 2.0 * z.overlap * z.t2 / z.t3)
    }

    /// Third cumulant over tokens of `w' . z_v` at a given `g`, for inputs that interfere (note,
    /// eq. 32), where `quiet` is the variance and `bias` what of it lies along the mean embedding.
    /// 0 for inputs that do not.
    fn third_cumulant(&self, g: f64, quiet: f64, bias: f64) -> f64 {
        let Context {
            zi,
            zo,
            labels,
            v,
            len,
            l,
            ..
        } = self;
        let (v, len, l) = (*v, *len, *l);
        if zi.overlap == 0.0 || labels.inverse_n == 0.0 {
            return 0.0;
        }
        let q = 1.0 / (zi.overlap * v);
        // How the square of a token's score grows with its squared length.
        let along = 1.0 + 2.0 * q * (1.0 + q) / (1.0 + 3.0 * q + q * q);
        let flow = 1.0 + q * (2.0 + q / (1.0 + q)) / (1.0 + q);
        let own = l * len * labels.inverse_n;
        let lengths = 3.0 * own * zi.norm_variance * (along * bias + flow * (quiet - bias));
        // Variance of one class's count of a token, per unit of `p_j`, and of all counts of a token
        // as the imbalance weights them.
        let count = l / (len * v) * labels.inverse_n;
        let imbalance = if labels.imbalance > 0.0 {
            g / labels.imbalance
        } else {
            0.0
        };
        let weighted = count * self.pull() * imbalance;
        let o = zo.overlap;
        let loop_of_three =
            o * o + 3.0 * o * labels.square / v + labels.cube * zo.diagonal_squared / (v * v);
        let occurrences = l.powi(5) * g * weighted * zi.mean_factor / v * zi.k2
            + l.powi(5) * count * count * g * loop_of_three * v * zi.t2 * zi.t3
            + l.powi(3) * count.powi(3) * loop_of_three * (v * zi.t2 + 1.0 / 3.0);
        lengths + 6.0 * self.unit.powf(1.5) * occurrences
    }

    /// The first eight terms in a metric (note, section 3) and their covariances (section 4).
    fn interference(&self, x: &Metric, g: Imbalance) -> Terms {
        let Context {
            zi,
            zo,
            labels,
            carries,
            v,
            len,
            l,
            unit,
            ..
        } = self;
        let (carries, v, len, l, unit) = (*carries, *v, *len, *l, *unit);
        let inv = labels.inverse_n;
        let s2 = zo.t2;
        let overlap = zi.overlap;
        // A within-sequence read-out of scores b: (l/L) E[l^2 b_v^2 + mean(b^2)/L].
        let flow = |direct: f64, mean: f64| l / len * (l * l * direct + mean / len);
        let (pull, entry, weighted) = (self.pull(), self.entry(), self.weighted_gram());
        // Sequence noise of one label column has covariance (l/L)(1/V) P / N.
        let noise = l / len * inv;

        let along = 1.0 - self.mean_tilt();
        let coherent = along * unit * g.square * zi.mean_factor / v * x.powers[1];
        let mean_bias = l.powi(6) * coherent;
        let read = l * l * zi.mean_squared + carries * overlap / len.powi(2);
        let own_value = carries * (1.0 / len.powi(2) + l * l * zi.mean_factor / v);
        // Sums over tokens of b_v z_v are read less their mean, which is in the class mean.
        let moving = read * (x.token_norm - x.powers[1]);
        let pair = x.token_pair - x.powers[2];
        let mean_bias_flow = unit * inv * flow(moving, read * x.token) * pull
            + unit * (l / len).powi(2) * entry * (moving + own_value * x.token) / v
            + (l * l / len).powi(2) * coherent
            + carries * l * l * v * g.square * zi.mean_factor * x.powers[0];
        let cross = unit * inv * l.powi(5) / len * pull * x.powers[2];
        let swap = zi.t2_or_one() * x.token / v;
        let gradient_noise = unit
            * (inv
                * noise
                * self.pair_gram()
                * (flow(pair, zi.t2 * x.token) + l.powi(3) / len * swap)
                + (l / len * inv).powi(2) * zi.norm_variance * x.token / v)
            // Its own writing lifts every uninformative position alike, by what `s - mean s` leaves.
            + l * v * v * inv.powi(3) * zo.diagonal_squared * x.token / len;
        let signal_noise = unit / (len * len * v)
            * (inv * weighted * flow(pair, zi.t2 * x.token)
                + l * l * noise * weighted * (pair + 2.0 * swap + carries * overlap * x.token))
            + l * inv * labels.cube * x.token / len;
        let signal_bias = unit * l.powi(4) / (len * len * v) * entry * x.powers[2]
            + (l * l / len).powi(2) * coherent;
        // Own-token part of the signal: c_v = kappa_v sum_v' kappa_v' K_vv' G_vv', off-diagonal
        // and diagonal contributions.
        let off_gram = (s2 - zo.diagonal_squared / v).max(0.0);
        let norms = zi.norm_variance + zo.norm_variance + zi.norm_variance * zo.norm_variance;
        let own = l * l * x.token / v;
        let off_diagonal = |size: f64, mean: f64| {
            l * l * off_gram * (size * overlap * x.token_norm - mean * x.powers[2]).max(0.0)
        };
        let population = off_diagonal(1.0, 1.0) + own * norms;
        let excess = labels.square - 1.0;
        // E (kappa_v kappa_v' - 1)^2 off and on the diagonal.
        let off_counts = labels.square.powi(2) - 1.0;
        let on_counts = labels.square_variance + excess * excess;
        let carried =
            carries * overlap * (v * off_gram * off_counts + zo.diagonal_squared * on_counts);
        let label_count = off_diagonal(off_counts, excess)
            + own * (labels.pair_variance + carried + norms * on_counts)
            + l * l / v * labels.pair_variance * x.token_norm_twice;

        // Everything that points along g Sigma mu adds up to l g Sigma mu in place of
        // l^3 g Sigma mu; its other parts are already inside their own terms.
        let along_mean = coherent
            * (l * l - l.powi(6) - 2.0 * (l * l / len).powi(2) - (l / (len * len)).powi(2))
            + carries * 2.0 * len.powi(2) * v * l * l * g.square * zi.mean_factor * x.powers[0];
        let third = self.unit_length();
        let along_length =
            unit * zi.mean_factor / v * x.powers[1] * third * (third - 2.0 * l * g.mean);
        // The own-label part of signal_bias rises with n_j as label_count does; so does the own
        // value of the trigger.
        let twist = labels.twist_pair * (1.0 - 1.0 / v) / v;
        let along_counts = 2.0 * len * l.powi(3) * twist * x.powers[1]
            + carries
                * (2.0 * l * l * twist * x.token + 2.0 * len * l.powi(3) * v * entry * x.powers[1]);
        // What depends on |z_in(v)|^2 and |z_out(j)|^2 in population, label_count and
        // gradient_noise (self pairs).
        let r = v * inv;
        let pairs = |parts: [f64; 3]| {
            parts.iter().sum::<f64>().powi(2) - parts.iter().map(|a| a * a).sum::<f64>()
        };
        let along_norms = own
            * (zi.norm_variance * pairs([1.0, excess, r * len])
                + zo.norm_variance * pairs([1.0, excess, -r]));
        // Sequence noise: the informative positions complete the class mean (l^2 + l/L = l), and
        // an attended informative token lowers its sequence (-own/L), which reads R backwards.
        let along_noise = 2.0 * cross / (l * len)
            - 2.0 * len * l.powi(3) * inv * (labels.cube - labels.square) * x.powers[1]
            - 2.0 * v * l * inv * inv * labels.square * x.token / len;
        let finite = self.finite_length() * x.token + self.own_reading(x);
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
            ],
            covariance: along_mean
                + along_length
                + along_counts
                + along_norms
                + along_noise
                + finite,
        }
    }

    /// Mean signal without the label imbalance, and what a unit of `g` adds to it where the
    /// values carry the trigger.
    fn signal(&self) -> (f64, f64) {
        (
            self.l * (1.0 - 1.0 / self.v) * self.labels.pairs,
            self.carries * self.l * self.v,
        )
    }

    /// Crosstalk along the trigger in units of `|z_trig|^2`, for `w = (T + alpha Sigma) z_trig`
    /// with `alpha = (at_rest, gain) . (1, g)` the trigger's own value read back: `E d^-1 tr (T +
    /// alpha Sigma) Sigma (T + alpha Sigma)`, and its part without `T` (note, eq. 21).
    fn trigger(
        &self,
        signal: (f64, f64),
        variance: f64,
        alpha: (f64, f64),
        g: Imbalance,
    ) -> (f64, f64) {
        let (zi, zo) = (&self.zi, &self.zo);
        let t = signal.0 + signal.1 * g.mean;
        let plain = zi.overlap * (t * t + variance) * (1.0 - 1.0 / self.v);
        if self.carries == 0.0 {
            return (plain, 0.0);
        }
        let a = alpha.0 + alpha.1 * g.mean;
        let gain =
            signal.1 + self.pairs_by_imbalance() / self.labels.imbalance.max(f64::MIN_POSITIVE);
        let cross = t * a + gain * alpha.1 * g.variance();
        let square = a * a + alpha.1 * alpha.1 * g.variance();
        let white = self.l * self.l * zi.t2 * (zo.t2 - zo.diagonal_squared / self.v);
        let carried = zi.overlap * (square * zi.t3 + white);
        (plain + 2.0 * zi.overlap * cross * zi.t2 + carried, carried)
    }

    /// `alpha` of the class mean alone, and with the trigger's own value read at the informative
    /// position.
    fn value_trigger(&self) -> [(f64, f64); 2] {
        let gain = self.l * self.len * self.v;
        [(self.l, self.l * gain), (self.l * self.labels.square, gain)]
    }

    /// Rise of the signal from pairs of samples of one class with the imbalance `g` over its mean: both
    /// count such pairs (note, eq. 33).
    fn pairs_by_imbalance(&self) -> f64 {
        let spread = imbalance_fluctuation(&self.zo);
        if self.labels.pair_sum_variance == 0.0 || spread == 0.0 {
            return 0.0;
        }
        2.0 * self.l * self.labels.inverse_n / spread
    }

    /// Variance of `T` between trials, units of `S0^2` (note, section 5).
    fn signal_variance(&self, g: Imbalance) -> f64 {
        let Context {
            zi,
            zo,
            labels,
            v,
            len,
            l,
            ..
        } = self;
        let (v, len, l) = (*v, *len, *l);
        let inv = labels.inverse_n;
        let population = 2.0 * zi.overlap * zo.overlap + (zi.norm_variance + zo.norm_variance) / v;
        let sequence = len * l * inv * v * zi.t2 * self.weighted_gram();
        let bias = len
            * len
            * l
            * l
            * labels.square
            * labels.imbalance
            * (zo.t2 + labels.skew)
            * zi.overlap;
        let flow = inv * v * v * zi.mean_squared * len * l * self.pull()
            + 2.0 * (v * inv).powi(2) * zi.t2 * self.pair_gram();
        let carried = self.carries
            * (v * v * (g.variance() + g.square * zi.norm_variance)
                + 2.0 * v * self.pairs_by_imbalance() / l * g.variance()
                    / g.mean.max(f64::MIN_POSITIVE)
                + (len * v * l).powi(2) * g.square * zi.mean_factor / v
                + len * l * v * v * inv * self.pull() * zi.overlap
                + 4.0 * v * self.entry() * zi.overlap);
        l * l * (labels.pair_sum_variance + population + sequence + bias + flow + carried)
    }
}

/// What (34) of the note adds to the interference: the budget through a hidden layer has no such part.
#[cfg(test)]
pub(crate) fn own_reading(s: &Setting) -> f64 {
    let c = Context::new(s);
    c.own_reading(&Metric::tokens(&c.zi))
}

/// The budget at a setting (note, section 3).
#[must_use]
pub fn budget(s: &Setting) -> Budget {
    let c = Context::new(s);
    let g = Imbalance::random(&c.zo, &c.labels);
    let signal = nominal_signal(s);
    let signal_variance = c.signal_variance(g);
    let terms = c.interference(&Metric::tokens(&c.zi), g);
    let own = c.interference(&Metric::independent(&c.zi), g);
    let mut variance = [0.0; 9];
    variance[..8].copy_from_slice(&terms.variance);
    let [mean, all] = c
        .value_trigger()
        .map(|alpha| c.trigger(c.signal(), signal_variance, alpha, g));
    variance[8] = mean.0;
    Budget {
        signal,
        signal_variance,
        variance,
        covariance: terms.covariance + all.0 - mean.0,
        interference: terms.variance.iter().sum::<f64>() + terms.covariance + all.1,
        trigger_score_variance: own.variance.iter().sum::<f64>() + own.covariance,
    }
}

/// The budget of a trial whose label imbalance `g` is known (note, section 7).
pub(crate) struct TrialBudget {
    context: Context,
    g: Imbalance,
    signal_variance: f64,
    /// Spread of the token scores without the crosstalk of the trigger, squared.
    pub(crate) quiet: f64,
    /// The share of `quiet` that is the mean bias: one random direction.
    pub(crate) bias_share: f64,
    /// Part of `quiet` that is the gradient noise.
    pub(crate) gradient_noise: f64,
    /// Third cumulant of the token scores without the crosstalk; 0 for inputs that do not interfere.
    pub(crate) cube: f64,
    /// `|w'|^2/d`: the same for a vector that is not one of the table.
    pub(crate) trigger_score_variance: f64,
    /// What the known imbalance adds to the mean of `T`: both count pairs of samples of one class.
    shift: f64,
}

impl TrialBudget {
    /// At `g = factor E g`.
    pub(crate) fn new(s: &Setting, factor: f64) -> Self {
        let context = Context::new(s);
        let g = Imbalance::fixed(factor * context.labels.imbalance);
        let terms = context.interference(&Metric::tokens(&context.zi), g);
        let own = context.interference(&Metric::independent(&context.zi), g);
        let quiet = terms.variance.iter().sum::<f64>() + terms.covariance;
        let bias = terms.variance[0] / context.l.powi(4);
        let slope = context.pairs_by_imbalance();
        let known = slope * slope * imbalance_fluctuation(&context.zo);
        TrialBudget {
            g,
            signal_variance: (context.signal_variance(g) - known).max(0.0),
            shift: slope * (factor - 1.0),
            cube: context.third_cumulant(g.mean, quiet, bias.min(quiet)),
            quiet,
            gradient_noise: terms.variance[3],
            bias_share: if quiet > 0.0 {
                (bias / quiet).min(1.0)
            } else {
                0.0
            },
            trigger_score_variance: own.variance.iter().sum::<f64>() + own.covariance,
            context,
        }
    }

    /// `(T, alpha)` at `|z_trig|^2 = z`.
    fn signal(&self, z: f64) -> ((f64, f64), (f64, f64)) {
        let (rest, gain) = self.context.signal();
        (
            (rest + self.shift, gain * z),
            self.context.value_trigger()[1],
        )
    }

    /// Squared spread of the trigger's crosstalk at `|z_trig|^2 = z` where `w . z_trig`, of variance
    /// `variance`, is `x` standard deviations above its mean: `T` then is what it is on average.
    pub(crate) fn crosstalk(&self, z: f64, variance: f64, x: f64) -> f64 {
        let (signal, alpha) = self.signal(z);
        let (mut shift, mut left) = (0.0, self.signal_variance);
        if variance > 0.0 {
            let slope = self.signal_variance * z / variance.sqrt();
            shift = slope * x;
            left = (left - slope * slope).max(0.0);
        }
        let signal = (signal.0 + shift, signal.1);
        z * self.context.trigger(signal, left, alpha, self.g).0
    }

    /// Mean and variance of `w . z_trig` at `|z_trig|^2 = z`, the noise's own part times `f`.
    pub(crate) fn score(&self, z: f64, f: f64) -> (f64, f64) {
        let c = &self.context;
        let (signal, alpha) = self.signal(z);
        let t = signal.0 + signal.1 * self.g.mean;
        let read_back = c.carries * (alpha.0 + alpha.1 * self.g.mean) * c.zi.overlap;
        // mu . z_trig enters both T and w'.
        let joint = c.carries
            * 2.0
            * (c.l * c.len).powi(3)
            * c.v.powi(2)
            * self.g.square
            * c.zi.overlap
            * c.zi.mean_squared;
        (
            (t + read_back) * z,
            (self.signal_variance + joint) * z * z + self.trigger_score_variance * f * z,
        )
    }
}

#[cfg(test)]
mod tests;
