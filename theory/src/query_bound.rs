//! What any reader of step 2 can know of the trigger: the query as a Gaussian channel.
//!
//! At zero parameters the gradients do not depend on the trigger at all (rigorous, `query_bound.md`
//! section 1), so the query is learned in step 2 or not at all. There `w = T z_trig + Z_in^T A`, and
//! what the first gradient does not predict of `A` is noise for every reader. With Gaussian sequence
//! noise and to dominant order that is a channel with the signal-to-noise ratio below; equations (Q1)
//! to (Q8) are those of the note.

use crate::accuracy::effective_competitors;
use crate::attention::{NOISE_NAMES, budget, nominal_signal};
use crate::gauss;
use crate::labels::LabelMoments;
use crate::lower_bound::{Rigour, centred_rank};
use crate::setting::{Embedding, Samples, Setting};

/// What the formulas of this module rest on: the Gaussian surrogate, the dominant term of the noise
/// and a known `T`; expectations of the channel's noise at finite size are leading-order.
pub const RIGOUR: Rigour = Rigour::Heuristic;

/// The channel of the query in expectation, in units of `S0 = eta / (L^2 V)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryChannel {
    /// `T`, the coefficient of `z_trig`.
    pub signal: f64,
    /// Expected squared length of the noise that the first gradient leaves open, all of it an
    /// isotropic vector of `R^d_in`; (Q6).
    pub noise_squared: f64,
    /// `T^2 / noise_squared`; infinite where the first gradient shows the counts.
    pub snr: f64,
}

/// `E |z|^4` and `E |z|^6` of a row, and the mean square of the inner product of two rows.
fn row_moments(law: Embedding, dim: usize) -> (f64, f64, f64) {
    let d = dim as f64;
    match law {
        Embedding::Orthonormal => (1.0, 1.0, 0.0),
        Embedding::Sphere => (1.0, 1.0, 1.0 / d),
        Embedding::Gaussian => (1.0 + 2.0 / d, (1.0 + 2.0 / d) * (1.0 + 4.0 / d), 1.0 / d),
    }
}

/// The channel of a setting at finite size; equation (Q6). `None` for infinite data, where there is
/// no noise, and for a trigger in the values or orthonormal inputs, for which it is not derived.
#[must_use]
pub fn channel(setting: &Setting) -> Option<QueryChannel> {
    let Samples::Finite(n) = setting.samples else {
        return None;
    };
    if setting.trigger_in_values || setting.input == Embedding::Orthonormal {
        return None;
    }
    let (v, len, n) = (setting.vocab as f64, setting.len as f64, n as f64);
    let rank = centred_rank(setting.input, setting.dim_in, setting.vocab) as f64;
    let open = (1.0 - (rank + 1.0) / v).max(0.0);
    // Sums over tokens of squared Gram entries, weighted by |z_v|^2 on the input side and by label
    // counts on the output side (own entry and others).
    let (fourth, sixth, square) = row_moments(setting.input, setting.dim_in);
    let input = v * (sixth + (v - 1.0) * square * fourth);
    let (fourth, _, square) = row_moments(setting.output, setting.dim_out);
    let labels = LabelMoments::of(setting);
    let output = |own: f64, other: f64| v * (own * fourth + other * (v - 1.0) * square);
    // Sequence noise, stored facts and mean bias in the scores; (Q6).
    let entry = (len - 1.0) / (n * len * len * v * v);
    let stored = 1.0 / (len * len * v * v * v);
    let mean_bias =
        (1.0 - 1.0 / len).powi(2) * labels.imbalance / v * (1.0 / setting.dim_in as f64 + 1.0 / v);
    let unit = len * len * v;
    let scores = input
        * (entry * output(labels.square, 1.0) + stored * output(labels.cube, labels.square))
        + mean_bias * output(1.0, 1.0);
    let noise_squared = unit * unit * entry * open * scores;
    let signal = nominal_signal(setting);
    Some(QueryChannel {
        signal,
        noise_squared,
        snr: signal * signal / noise_squared,
    })
}

/// Leading signal-to-noise ratio `(N d / (L V))^2`, for `1 << d << V`, `N << L V`; equation (Q7).
#[must_use]
pub fn leading_snr(vocab: usize, dim: usize, len: usize, samples: f64) -> f64 {
    (samples * dim as f64 / (len as f64 * vocab as f64)).powi(2)
}

/// Bound on `E (q . z_trig)^2 / |q|^2` over all queries `q` in the isotropic channel,
/// `snr/(1 + snr) + 1/(d (1 + snr))`; equation (Q5). A theorem about that channel.
#[must_use]
pub fn alignment_bound(snr: f64, dim: usize) -> f64 {
    let share = if snr.is_infinite() {
        1.0
    } else {
        snr / (1.0 + snr)
    };
    share + (1.0 - share) / dim as f64
}

/// Alignment at which argmax attention among `L` tokens works, `2 log L / d`; equation (Q8).
/// Heuristic.
#[must_use]
pub fn alignment_need(len: usize, dim: usize) -> f64 {
    2.0 * (len as f64).ln() / dim as f64
}

/// Samples below which no reader of step 2 localises the trigger, leading form
/// `L V sqrt(2 log L) / d^(3/2)`; equation (Q8). Heuristic.
#[must_use]
pub fn leading_samples(vocab: usize, dim: usize, len: usize) -> f64 {
    len as f64 * vocab as f64 * alignment_need(len, dim).sqrt() / dim as f64
}

/// Terms of the noise budget that the class mean of the flow holds: what subtracting it removes.
const CLASS_MEAN: [&str; 3] = ["mean_bias", "cross", "signal_bias"];

/// Argmax attention accuracy of descent's query less the class mean of the flow; equation (Q9).
/// Heuristic: Gaussian scores, covariances between terms left out.
#[must_use]
pub fn debiased_attention_accuracy(setting: &Setting) -> f64 {
    let b = budget(setting);
    let of = |keep: &dyn Fn(&str) -> bool| -> f64 {
        let terms = NOISE_NAMES.iter().zip(&b.variance);
        terms.filter(|(name, _)| keep(name)).map(|(_, v)| v).sum()
    };
    let noise = of(&|name| name != "trigger" && !CLASS_MEAN.contains(&name));
    let spread = (noise + of(&|name| name == "trigger")).sqrt();
    if spread <= 0.0 {
        return 1.0;
    }
    // The advantage varies between trials: T does, and the trigger meets the noise as a token does.
    let own = (noise + b.signal_variance).sqrt() / spread;
    let n = effective_competitors(setting);
    gauss::expect(|x| gauss::win(b.signal / spread + own * x, n))
}

/// Argmax attention accuracy of a query of squared cosine `alignment` with the trigger whose rest
/// points anywhere: `E Phi(sqrt(d alignment) + g)^n`; equation (Q9). Heuristic.
#[must_use]
pub fn isotropic_attention_accuracy(setting: &Setting, alignment: f64) -> f64 {
    let ratio = (setting.dim_in as f64 * alignment.max(0.0)).sqrt();
    gauss::win(ratio, effective_competitors(setting))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::Labels;

    #[test]
    fn alignment_bound_is_the_posterior() {
        for d in [1usize, 2, 16, 300] {
            for snr in [0.0, 0.3, 1.0, 40.0] {
                // Per coordinate: prior 1/d, T = 1, noise 1/(d snr).
                let dim = d as f64;
                let variance = 1.0 / (dim + dim * snr);
                let bound = 1.0 - dim * variance + variance;
                assert!((alignment_bound(snr, d) - bound).abs() < 1e-12, "{d} {snr}");
            }
            assert!((alignment_bound(0.0, d) - 1.0 / d as f64).abs() < 1e-12);
            assert_eq!(alignment_bound(f64::INFINITY, d), 1.0);
        }
    }

    /// Alignment of the posterior mean in two dimensions, from the moments of `w` and `z` given `w`.
    #[test]
    fn the_posterior_mean_attains_the_bound() {
        for snr in [0.2, 1.0, 5.0f64] {
            // z ~ N(0, I/2), w = z + xi with xi ~ N(0, I/(2 snr)): E (w.z)^2/|w|^2 is the second
            // moment of z along w. Along w, z has mean snr/(1+snr) |w| and variance 1/(2(1+snr)).
            let share = snr / (1.0 + snr);
            let length = 0.5 * (1.0 + 1.0 / snr) * 2.0;
            let alignment = share * share * length + 0.5 / (1.0 + snr);
            let bound = alignment_bound(snr, 2);
            assert!((alignment - bound).abs() < 1e-12, "{alignment} {bound}");
            // Any fixed direction has 1/2, which is less.
            assert!(bound > 0.5);
        }
    }

    #[test]
    fn leading_form_is_approached() {
        let ratio = |v: usize, d: usize, len: usize, n: u64| {
            let mut s = Setting::new(v, d, len, n);
            s.labels = Labels::Balanced;
            channel(&s).unwrap().snr / leading_snr(v, d, len, n as f64)
        };
        let near = ratio(1 << 12, 1 << 6, 1 << 8, 1 << 15);
        let far = ratio(1 << 22, 1 << 11, 1 << 14, 1 << 29);
        assert!((far - 1.0).abs() < 0.03, "{far}");
        assert!((near - 1.0).abs() > (far - 1.0).abs());
    }

    /// Root mean square of the noise over the mean signal of sixteen trials on seeds drawn after the
    /// formula was frozen; errors of the mean are a few per cent.
    #[test]
    fn simulated_noise_is_met() {
        for (v, d, len, n, measured) in [
            (256, 64, 16, 768, 0.108),
            (256, 64, 64, 1024, 0.312),
            (256, 64, 64, 4096, 0.081),
            (256, 32, 128, 4096, 0.338),
            (512, 64, 64, 1024, 0.588),
            (512, 64, 64, 4096, 0.148),
        ] {
            let ratio = channel(&Setting::new(v, d, len, n)).unwrap().snr.powf(-0.5) / measured;
            assert!((ratio - 1.0).abs() < 0.08, "{v} {d} {len} {n} {ratio}");
        }
    }

    #[test]
    fn attention_formulas_have_their_limits() {
        let s = Setting::new(256, 64, 64, 1024);
        // No alignment: the first among equals.
        let n = effective_competitors(&s);
        assert!((isotropic_attention_accuracy(&s, 0.0) - 1.0 / (n + 1.0)).abs() < 1e-9);
        assert!(isotropic_attention_accuracy(&s, 1.0) > 0.999);
        // Subtraction helps where the mean bias rules, and removes nothing from balanced labels.
        let long = Setting::new(256, 32, 128, 2048);
        let plain = crate::accuracy::attention_accuracy(&long);
        let without = debiased_attention_accuracy(&long);
        assert!(without > plain + 0.3, "{plain} {without}");
        let mut balanced = Setting::new(256, 64, 16, 256 * 8);
        balanced.labels = Labels::Balanced;
        let b = budget(&balanced);
        for (name, variance) in NOISE_NAMES.iter().zip(b.variance) {
            assert!(!CLASS_MEAN.contains(name) || variance == 0.0, "{name}");
        }
    }

    #[test]
    fn what_is_not_derived_is_absent() {
        let s = Setting::new(64, 16, 8, 200);
        assert!(channel(&s).is_some());
        let orthonormal = s.with_embeddings(Embedding::Orthonormal, Embedding::Gaussian);
        assert!(channel(&orthonormal).is_none());
        let mut carried = s;
        carried.trigger_in_values = true;
        assert!(channel(&carried).is_none());
        let mut all = s;
        all.samples = Samples::Infinite;
        assert!(channel(&all).is_none());
        // At full input rank the first gradient shows the counts.
        assert!(
            channel(&Setting::new(64, 63, 8, 200))
                .unwrap()
                .snr
                .is_infinite()
        );
        let n = leading_samples(256, 64, 64);
        let need = alignment_need(64, 64);
        assert!((leading_snr(256, 64, 64, n) - need).abs() < 1e-12);
    }
}
