//! What any reader of step 2 can know of the trigger: the query as a Gaussian channel.
//!
//! At zero parameters the gradients do not depend on the trigger at all (rigorous, `query_bound.md`
//! section 1), so the query is learned in step 2 or not at all. There `w = T z_trig + Z_in^T A`, and
//! what the first gradient does not predict of `A` is noise for every reader. With Gaussian sequence
//! noise and to dominant order that is a channel with the signal-to-noise ratio below; equations (Q1)
//! to (Q8) are those of the note.

use crate::attention::nominal_signal;
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
