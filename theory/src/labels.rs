//! Moments of the class counts `n_j` of the training batch. Derivation: `labels.md`.

use crate::setting::{Labels, Samples, Setting};

/// What the formulas need of the label distribution; `p_j = n_j / N`, `kappa_j = V p_j`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelMoments {
    /// `1/N` (0 for the population).
    pub inverse_n: f64,
    /// `E |delta|^2`, `delta_j = p_j - 1/V`; `(1 - 1/V)/N` for iid labels.
    pub imbalance: f64,
    /// `E sum_j delta_j^3` over `E sum_j delta_j^2`: `1/N` for iid labels.
    pub skew: f64,
    /// `E kappa^2`; `1 + (V - 1)/N` for iid labels.
    pub square: f64,
    /// `E kappa^3`.
    pub cube: f64,
    /// `E V sum_j n_j (n_j - 1) / N^2`: the share of the signal that comes from other samples.
    pub pairs: f64,
    /// Variance over classes of `kappa (kappa - V/N)`.
    pub pair_variance: f64,
    /// Variance between trials of `V sum_j n_j (n_j - 1) / N^2`.
    pub pair_sum_variance: f64,
    /// Variance over classes of `kappa (kappa - 1)`.
    pub twist: f64,
    /// Covariance over classes of `kappa (kappa - 1)` and `kappa (kappa - V/N)`.
    pub twist_pair: f64,
    /// Variance over classes of `kappa^2`.
    pub square_variance: f64,
}

impl LabelMoments {
    /// Moments of the class counts: Poisson limit of the multinomial for iid labels (exact for
    /// the second moments), exact for balanced ones.
    #[must_use]
    pub fn of(s: &Setting) -> Self {
        let v = s.vocab as f64;
        let Samples::Finite(samples) = s.samples else {
            return LabelMoments {
                inverse_n: 0.0,
                imbalance: 0.0,
                skew: 0.0,
                square: 1.0,
                cube: 1.0,
                pairs: 1.0,
                pair_variance: 0.0,
                pair_sum_variance: 0.0,
                twist: 0.0,
                twist_pair: 0.0,
                square_variance: 0.0,
            };
        };
        let n = samples as f64;
        let r = v / n;
        match s.labels {
            Labels::Iid => LabelMoments {
                inverse_n: 1.0 / n,
                imbalance: (1.0 - 1.0 / v) / n,
                skew: 1.0 / n,
                square: 1.0 + (v - 1.0) / n,
                cube: 1.0 + 3.0 * r + r * r,
                pairs: 1.0 - 1.0 / n,
                pair_variance: 4.0 * r + 2.0 * r * r,
                pair_sum_variance: 2.0 * v / (n * n),
                twist: r + 4.0 * r * r + r.powi(3),
                twist_pair: 2.0 * r + 4.0 * r * r,
                square_variance: 4.0 * r + 6.0 * r * r + r.powi(3),
            },
            Labels::Balanced => {
                let vocab = s.vocab as u64;
                let (k, extra) = ((samples / vocab) as f64, (samples % vocab) as f64);
                let mean = |f: &dyn Fn(f64) -> f64| {
                    (extra * f((k + 1.0) * r) + (v - extra) * f(k * r)) / v
                };
                let covariance = |f: &dyn Fn(f64) -> f64, g: &dyn Fn(f64) -> f64| {
                    let (a, b) = (mean(f), mean(g));
                    mean(&|x| (f(x) - a) * (g(x) - b))
                };
                let variance = |f: &dyn Fn(f64) -> f64| covariance(f, f);
                let (twist, pair) = (|x: f64| x * (x - 1.0), |x: f64| x * (x - r));
                LabelMoments {
                    inverse_n: 1.0 / n,
                    imbalance: extra * (1.0 - extra / v) / (n * n),
                    // A share `extra / V` of the classes has one sample more than the others.
                    skew: (1.0 - 2.0 * extra / v) / n,
                    square: mean(&|x| x * x),
                    cube: mean(&|x| x * x * x),
                    pairs: mean(&pair),
                    pair_variance: variance(&pair),
                    pair_sum_variance: 0.0,
                    twist: variance(&twist),
                    twist_pair: covariance(&twist, &pair),
                    square_variance: variance(&|x| x * x),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{Discrete, Poisson};

    #[test]
    fn iid_moments_are_those_of_poisson_counts() {
        let (v, n) = (500usize, 800u64);
        let m = LabelMoments::of(&Setting::new(v, 10, 10, n));
        let lambda = n as f64 / v as f64;
        let law = Poisson::new(lambda).unwrap();
        let mean = |f: &dyn Fn(f64) -> f64| {
            (0..80u64)
                .map(|k| law.pmf(k) * f(k as f64 / lambda))
                .sum::<f64>()
        };
        let variance = |f: &dyn Fn(f64) -> f64| mean(&|x| f(x).powi(2)) - mean(f).powi(2);
        assert!((m.square - mean(&|x| x * x)).abs() < 2.0 / n as f64);
        assert!((m.cube - mean(&|x| x.powi(3))).abs() < 1e-10);
        assert!((m.pair_variance - variance(&|x| x * (x - 1.0 / lambda))).abs() < 1e-9);
        assert!((m.twist - variance(&|x| x * (x - 1.0))).abs() < 1e-9);
        assert!((m.square_variance - variance(&|x| x * x)).abs() < 1e-9);
        let (twist, pair) = (|x: f64| x * (x - 1.0), |x: f64| x * (x - 1.0 / lambda));
        let covariance = mean(&|x| twist(x) * pair(x)) - mean(&twist) * mean(&pair);
        assert!((m.twist_pair - covariance).abs() < 1e-9);
        let third = mean(&|x| (x - 1.0).powi(3)) / mean(&|x| (x - 1.0).powi(2)) / v as f64;
        assert!((m.skew - third).abs() < 1e-9);
    }

    #[test]
    fn balanced_counts_are_exact_and_kill_the_imbalance() {
        let balanced = |n| {
            let mut s = Setting::new(100, 10, 10, n);
            s.labels = Labels::Balanced;
            LabelMoments::of(&s)
        };
        let even = balanced(400);
        assert_eq!(
            (even.imbalance, even.pair_variance, even.twist),
            (0.0, 0.0, 0.0)
        );
        assert!((even.pairs - 0.75).abs() < 1e-12);
        assert_eq!(balanced(60).pairs, 0.0);
        // 450 = 4.5 per class: half the classes have 5, half 4; |delta|^2 = V (0.5/450)^2.
        let odd = balanced(450);
        assert!((odd.imbalance - 100.0 * (0.5f64 / 450.0).powi(2)).abs() < 1e-15);
        // Half above the mean and half below are symmetric; at 420, 20 of 100 classes have one more.
        assert!(odd.skew.abs() < 1e-15);
        let (up, down) = (0.8f64 / 420.0, -0.2f64 / 420.0);
        let power = |k: i32| 20.0 * up.powi(k) + 80.0 * down.powi(k);
        assert!((balanced(420).skew - power(3) / power(2)).abs() < 1e-15);
    }
}
