//! The whitened decoder of the first gradient: expected accuracy and sample thresholds.
//!
//! Both sides of the gradient are whitened against its own sampling noise, and each token takes the
//! label of largest likelihood, the other facts counted as white noise. It is the simplest decoder
//! that meets the channel bound of [`crate::lower_bound`] up to the gap between reading tokens one
//! by one and jointly, so its threshold shows how much of the bound is attained.
//!
//! Everything here is heuristic ([`crate::lower_bound::Rigour::Heuristic`]); `whitened.md` derives
//! it, equations (W1) to (W8).

use crate::gauss;
use crate::lower_bound::{Rigour, centred_rank, centred_signal};
use crate::one_step::{MAX_SAMPLES, OneStepThreshold, count_law, normal_nodes};
use crate::setting::{Embedding, Labels, Setting};

/// What the formulas of this module rest on.
pub const RIGOUR: Rigour = Rigour::Heuristic;

/// Signal-to-noise ratio that a token needs: `x^2` with `E Phi(x + g)^(V-1) = level`; (W4).
///
/// Its leading form at large `V` is `2 log V`, which at sizes one can simulate is half as much again.
#[must_use]
pub fn token_snr(vocab: usize, level: f64) -> f64 {
    let x = gauss::quantile_of_win(level, vocab as f64 - 1.0);
    x.max(0.0).powi(2)
}

/// Closed form `N_wh = (V-1)(L-1) x^2 / (r_in r_out (V-1)/V^2 - x^2)` for equal label counts, where
/// tokens meet only white noise; equation (W5), to leading order
/// `V (L-1) x^2 / (r_in r_out / V - x^2)`.
///
/// `None` where the denominator is not positive: then the other facts alone keep the decoder below
/// the level, however many samples it has.
#[must_use]
pub fn samples_closed_form(setting: &Setting, level: f64) -> Option<f64> {
    let v = setting.vocab as f64;
    let need = token_snr(setting.vocab, level);
    let rank = |law, dim| centred_rank(law, dim, setting.vocab) as f64;
    let modes = rank(setting.input, setting.dim_in) * rank(setting.output, setting.dim_out);
    let room = modes * (v - 1.0) / (v * v) - need;
    (room > 0.0).then(|| (v - 1.0) * (setting.len as f64 - 1.0) * need / room)
}

/// Least product `r_in r_out` at which the decoder can reach a level with infinite data,
/// `V^2 x^2 / (V - 1)`; equation (W6).
#[must_use]
pub fn capacity_product(vocab: usize, level: f64) -> f64 {
    let v = vocab as f64;
    v * v * token_snr(vocab, level) / (v - 1.0)
}

/// Leverages of one side: nodes of `y` with `h = n y / (1 + n y)` for a label (or token) of count `n`.
struct Side {
    rank: f64,
    /// Relative values and weights of `y` around its scale; empty at full rank, where `h = 1 - 1/V`.
    nodes: Vec<(f64, f64)>,
}

impl Side {
    fn new(law: Embedding, dim: usize, vocab: usize) -> Self {
        let rank = centred_rank(law, dim, vocab);
        if rank + 1 >= vocab {
            return Side {
                rank: rank as f64,
                nodes: Vec::new(),
            };
        }
        let (d, c) = (rank as f64, rank as f64 / vocab as f64);
        // Variance of z^T M z over its squared mean, M with the inverse spectrum of a sample
        // covariance of aspect c; (W3).
        let spread = match law {
            Embedding::Gaussian => 2.0 / (d * (1.0 - c)),
            Embedding::Sphere | Embedding::Orthonormal => 2.0 * c / (d * (1.0 - c)),
        };
        let sd = spread.ln_1p().sqrt();
        let nodes = normal_nodes(1.0, 3)
            .into_iter()
            .map(|(x, w)| ((sd * x - 0.5 * sd * sd).exp(), w))
            .collect();
        Side { rank: d, nodes }
    }

    /// Leverage at scale `g` for count `n`, with its weights.
    fn leverages(&self, g: f64, n: f64, v: f64) -> Vec<(f64, f64)> {
        if self.nodes.is_empty() {
            return vec![(if n > 0.0 { 1.0 - 1.0 / v } else { 0.0 }, 1.0)];
        }
        self.nodes
            .iter()
            .map(|(y, w)| {
                let x = n * g * y;
                (x / (1.0 + x), *w)
            })
            .collect()
    }

    /// The scale at which leverages add up to the rank; (W2). Infinite if too few labels are seen.
    fn scale(&self, counts: &[(f64, f64)], v: f64) -> f64 {
        if self.nodes.is_empty() {
            return 1.0;
        }
        let total = |g: f64| -> f64 {
            counts
                .iter()
                .map(|(n, w)| {
                    let h = self.leverages(g, *n, v);
                    w * h.iter().map(|(h, wh)| h * wh).sum::<f64>()
                })
                .sum::<f64>()
                * v
        };
        gauss::bisect(-40.0, 40.0, |t| total(t.exp()) - self.rank).exp()
    }
}

fn accuracy(setting: &Setting, n: f64) -> f64 {
    let v = setting.vocab as f64;
    let lambda = n / v;
    let counts: Vec<(f64, f64)> = match setting.labels {
        Labels::Balanced => {
            let low = lambda.floor();
            let high = lambda - low;
            [(low, 1.0 - high), (low + 1.0, high)]
                .into_iter()
                .filter(|c| c.1 > 0.0)
                .collect()
        }
        Labels::Iid => count_law(lambda, n.max(1.0), 25.0),
    };
    let input = Side::new(setting.input, setting.dim_in, setting.vocab);
    let output = Side::new(setting.output, setting.dim_out, setting.vocab);
    let (g_in, g_out) = (input.scale(&[(1.0, 1.0)], v), output.scale(&counts, v));
    // Output templates: count n and leverage h, so that |n_j b_j|^2 = n h.
    let templates = merged(
        counts
            .iter()
            .flat_map(|(n, w)| {
                let h = output.leverages(g_out, *n, v);
                h.into_iter().map(move |(h, wh)| (*n, h, w * wh))
            })
            .filter(|(.., w)| *w > DUST)
            .collect(),
    );
    let mean: f64 = templates.iter().map(|(n, h, w)| n * h * w).sum();
    let per_count = (setting.len as f64 - 1.0) / v;
    let stored = centred_signal(v, mean * v / output.rank);
    let own_share = (1.0 - output.rank / v) / output.rank;
    let bend = if output.nodes.is_empty() {
        0.0
    } else {
        1.0 / output.rank
    };
    let draws = normal_nodes(0.5, 8);
    let mut total = 0.0;
    for (a, wa) in input.leverages(g_in, 1.0, v) {
        let wrong = stored * (1.0 - a);
        let rivals: Vec<Rival> = templates
            .iter()
            .flat_map(|(n, h, w)| Rival::all(a, *n, *h, *w, per_count))
            .collect();
        for own in &rivals {
            let sd = (own.gaussian + wrong * (1.0 - own.leverage)).sqrt();
            let root = own.energy.sqrt();
            for (x, wx) in &draws {
                let score = 0.5 * own.energy + own.hits + root * sd * x;
                let amplitude = root + if root > 0.0 { own.hits / root } else { 0.0 } + sd * x;
                let mut below = 0.0;
                for rival in &rivals {
                    below += rival.weight
                        * if rival.energy > 0.0 {
                            // The wrong templates see the own fact as well; (W7).
                            let rest = rival.gaussian + wrong;
                            let seen = rest + (amplitude * amplitude - rest) * own_share;
                            let sd = (rival.energy * seen.max(0.5 * rest)).sqrt();
                            sphere_cdf((score + 0.5 * rival.energy - rival.hits) / sd, bend)
                        } else if score > 0.0 {
                            1.0
                        } else {
                            0.0
                        };
                }
                let won = ((v - 1.0) * (below.min(1.0) - 1.0).ln_1p()).exp();
                total += wa * own.weight * wx * won;
            }
        }
    }
    total.clamp(0.0, 1.0)
}

/// Distribution function of `sqrt(r)` times a coordinate of a uniform point of the sphere in
/// `r = 1 / bend` dimensions, by its leading tail `(1 - x^2/r)^(r/2)`; normal for `bend = 0`.
fn sphere_cdf(x: f64, bend: f64) -> f64 {
    let e = x * x * bend;
    if e >= 1.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    if e > 1e-12 {
        gauss::cdf(x * (-(-e).ln_1p() / e).sqrt())
    } else {
        gauss::cdf(x)
    }
}

/// Mixture components lighter than this are dropped.
const DUST: f64 = 1e-6;

/// Templates whose energies differ by less than a tenth, as one with their mean count and energy:
/// the race is smooth on a far wider scale.
fn merged(mut templates: Vec<(f64, f64, f64)>) -> Vec<(f64, f64, f64)> {
    templates.sort_by(|a, b| (a.0 * a.1).total_cmp(&(b.0 * b.1)));
    let mut groups: Vec<(f64, f64, f64, f64)> = Vec::new();
    for (n, h, w) in templates {
        let energy = n * h;
        match groups.last_mut() {
            Some((start, count, sum, weight)) if energy <= 1.1 * *start => {
                *count += w * n;
                *sum += w * energy;
                *weight += w;
            }
            _ => groups.push((energy, w * n, w * energy, w)),
        }
    }
    groups
        .into_iter()
        .map(|(_, count, sum, w)| {
            let h = if count > 0.0 { sum / count } else { 0.0 };
            (count / w, h, w)
        })
        .collect()
}

/// A label that may win a token, with one value of its chance hits.
struct Rival {
    /// Template energy `|a_v|^2 |n_j b_j|^2`.
    energy: f64,
    /// `h_j`.
    leverage: f64,
    /// What chance hits of the token itself add to the score, less their mean.
    hits: f64,
    /// Variance per energy of the rest of the sampling noise.
    gaussian: f64,
    weight: f64,
}

impl Rival {
    /// A token that falls into sequences of a label by chance adds `|a_v|^2 h_j` to that score each
    /// time, which carries a share `|a_v|^2 h_j` of the noise variance: kept discrete where it is
    /// large and the hits are few; (W7).
    fn all(a: f64, n: f64, h: f64, weight: f64, per_count: f64) -> Vec<Rival> {
        let (share, mean) = (a * h, n * per_count);
        let energy = a * n * h;
        let rival = |hits, gaussian, weight| Rival {
            energy,
            leverage: h,
            hits,
            gaussian,
            weight,
        };
        if share < 0.2 || mean > 8.0 || energy <= 0.0 {
            return vec![rival(0.0, per_count, weight)];
        }
        count_law(mean, f64::INFINITY, 8.0)
            .into_iter()
            .filter(|(_, w)| w * weight > DUST)
            .map(|(k, w)| rival(share * (k - mean), per_count * (1.0 - share), w * weight))
            .collect()
    }
}

/// Expected accuracy of the whitened decoder, token by token, over tokens, embeddings and batches;
/// equation (W8). Heuristic.
///
/// Valid while the noise in a mode is Gaussian: `N L / V^2` not far below one where the rank is near
/// `V`. Takes milliseconds.
#[must_use]
pub fn expected_accuracy(setting: &Setting) -> f64 {
    accuracy(setting, setting.samples.as_f64().min(MAX_SAMPLES))
}

/// Sample size at which [`expected_accuracy`] crosses `level`, by bisection in `log N` to a relative
/// precision of `1e-4`; `N` is treated as real and `setting.samples` is ignored.
#[must_use]
pub fn samples_for_accuracy(setting: &Setting, level: f64) -> OneStepThreshold {
    if !(level > 0.0 && level < 1.0) {
        return OneStepThreshold::BadLevel;
    }
    if level * setting.vocab as f64 <= 1.0 {
        return OneStepThreshold::Trivial;
    }
    let ceiling = accuracy(setting, MAX_SAMPLES);
    if ceiling < level {
        return OneStepThreshold::CapacityExceeded { ceiling };
    }
    let mut high = setting.vocab as f64;
    while accuracy(setting, high) < level && high < MAX_SAMPLES {
        high *= 2.0;
    }
    let mut low = 0.5 * high;
    while accuracy(setting, low) >= level && low > 1.0 {
        high = low;
        low *= 0.5;
    }
    let (mut low, mut high) = (low.ln(), high.ln());
    while high - low > 1e-4 {
        let mid = 0.5 * (low + high);
        if accuracy(setting, mid.exp()) < level {
            low = mid;
        } else {
            high = mid;
        }
    }
    OneStepThreshold::At {
        samples: (0.5 * (low + high)).exp(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::Samples;

    fn balanced(v: usize, d: usize, len: usize, n: u64) -> Setting {
        let mut s = Setting::new(v, d, len, n);
        s.labels = Labels::Balanced;
        s
    }

    #[test]
    fn closed_form_is_the_white_noise_race() {
        for (v, d, len) in [(128, 48, 16), (256, 64, 64), (512, 128, 32)] {
            let s = balanced(v, d, len, 1);
            for level in [0.3, 0.5, 0.8] {
                let Some(n) = samples_closed_form(&s, level) else {
                    assert!((d * d) as f64 <= capacity_product(v, level));
                    continue;
                };
                // Energy over noise with every count N/V and leverage r/V, noise times 1 + s.
                let v = v as f64;
                let noise = (len as f64 - 1.0) / v;
                let energy = n / v * (d as f64 / v).powi(2);
                let snr = n / ((v - 1.0) * (len as f64 - 1.0));
                let x = (energy / noise / (1.0 + snr)).sqrt();
                assert!((gauss::win(x, v - 1.0) - level).abs() < 1e-9, "{v} {level}");
            }
        }
        // The wall: no samples help at d^2 = V x^2, and some do just above it.
        let wall = capacity_product(256, 0.5).sqrt();
        let at = |d: usize| samples_closed_form(&balanced(256, d, 16, 1), 0.5);
        assert!(at(wall.floor() as usize).is_none());
        assert!(at(wall.ceil() as usize + 1).is_some());
    }

    /// Means of ten trials on seeds that were drawn after the formula was frozen; standard errors
    /// .003 to .010 (`whitened.md`).
    #[test]
    fn simulated_accuracies_are_met() {
        for (v, d, len, n, measured) in [
            (256, 64, 16, 1024, 0.234),
            (256, 64, 16, 4096, 0.558),
            (256, 64, 64, 8192, 0.343),
            (256, 64, 64, 32768, 0.740),
            (256, 128, 64, 1024, 0.229),
            (512, 128, 32, 4096, 0.380),
            (512, 128, 32, 16384, 0.849),
        ] {
            let error = expected_accuracy(&Setting::new(v, d, len, n)) - measured;
            assert!(error.abs() < 0.03, "{v} {d} {len} {n} {error}");
        }
        let wide = expected_accuracy(&Setting::new(256, 128, 64, 4096)) - 0.768;
        assert!(wide.abs() < 0.06, "{wide}");
    }

    #[test]
    fn leverages_add_up_to_the_rank() {
        for (d, counts) in [
            (48, vec![(4.0, 1.0)]),
            (48, vec![(1.0, 0.5), (7.0, 0.5)]),
            (100, vec![(2.0, 0.3), (3.0, 0.7)]),
        ] {
            for law in [Embedding::Gaussian, Embedding::Sphere] {
                let side = Side::new(law, d, 128);
                let g = side.scale(&counts, 128.0);
                let sum: f64 = counts
                    .iter()
                    .map(|(n, w)| {
                        let h = side.leverages(g, *n, 128.0);
                        w * h.iter().map(|(h, wh)| h * wh).sum::<f64>()
                    })
                    .sum();
                assert!((sum * 128.0 - d as f64).abs() < 1e-6, "{law:?} {d} {sum}");
            }
        }
        // Gaussian rows: relative variance of a leverage is that of a Beta law, 2 (1 - c) / d.
        let side = Side::new(Embedding::Gaussian, 64, 256);
        let g = side.scale(&[(1.0, 1.0)], 256.0);
        let h = side.leverages(g, 1.0, 256.0);
        let mean: f64 = h.iter().map(|(h, w)| h * w).sum();
        let square: f64 = h.iter().map(|(h, w)| w * (h / mean - 1.0).powi(2)).sum();
        assert!((square / (2.0 * 0.75 / 64.0) - 1.0).abs() < 0.1, "{square}");
    }

    #[test]
    fn thresholds_invert_and_stay_above_the_bound() {
        use crate::lower_bound::{Target, accuracy_upper_bound, samples_lower_bound};
        for (v, d, len) in [(128, 54, 16), (256, 88, 32), (512, 200, 64)] {
            let mut s = balanced(v, d, len, 1);
            let n = samples_for_accuracy(&s, 0.5).samples().unwrap();
            s.samples = Samples::Finite(n.round() as u64);
            assert!((expected_accuracy(&s) - 0.5).abs() < 0.01);
            let half = Target::ExpectedAccuracy { accuracy: 0.5 };
            let bound = samples_lower_bound(&s, half).bound().unwrap().value;
            assert!(n > 1.5 * bound && n < 4.0 * bound, "{n} {bound}");
            for k in 6..16 {
                s.samples = Samples::Finite(1 << k);
                let bound = accuracy_upper_bound(&s, s.samples).accuracy;
                assert!(expected_accuracy(&s) <= bound + 1e-9, "{s:?}");
            }
        }
        let walled = samples_for_accuracy(&balanced(256, 24, 16, 1), 0.5);
        assert!(matches!(walled, OneStepThreshold::CapacityExceeded { ceiling } if ceiling < 0.5));
        let s = balanced(256, 88, 32, 1);
        assert_eq!(samples_for_accuracy(&s, 1.0), OneStepThreshold::BadLevel);
        assert_eq!(samples_for_accuracy(&s, 1e-3), OneStepThreshold::Trivial);
        assert_eq!(RIGOUR.name(), "heuristic");
    }
}
