//! What any estimator that sees only the first gradient must pay: entropy needs,
//! the channel bound, coverage and parameter counting.
//!
//! Setting: a uniform random permutation `pi` of `V` tokens is to be recovered from
//! `G = Z_in^T M Z_out` (shape `d_in x d_out`), the first gradient at zero up to its
//! step size, with the embeddings known. All information is in nats. Derivations,
//! and for each result whether it is rigorous, stand in `lower_bound.md`; equation
//! numbers below are those of that note.
//!
//! **Scope.** The channel bound binds estimators that see the first gradient and the
//! embeddings, and nothing else of the batch. Gradient descent of three steps reads
//! the same batch again through a trained attention and may need fewer samples than
//! the channel bound says; only coverage and parameter counting bind it. For the
//! exact real gradient the channel bound is a statement about the Gaussian surrogate
//! or a noisy oracle (see [`Assumption`]): infinite precision alone would reveal the
//! centred count matrix whatever the dimension.

use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

use crate::setting::{Embedding, Labels, Samples, Setting};

const LN_2: f64 = std::f64::consts::LN_2;
const MAX_SAMPLES: f64 = 1_099_511_627_776.0;
const MAX_VOCAB: usize = 1 << 24;

/// What the validity of a bound rests on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Assumption {
    /// A theorem about the model, at finite size.
    Rigorous,
    /// A theorem about an oracle that returns the gradient plus Gaussian noise of
    /// `kappa` times the covariance of the gradient's own sampling noise.
    NoisyOracle {
        /// Noise level; one is the sampling error itself.
        kappa: f64,
    },
    /// A theorem once the sampling noise of the counts is replaced by a Gaussian of
    /// the same covariance.
    GaussianSurrogate,
    /// The Gaussian surrogate, and in addition leverage scores replaced by their
    /// large-`V` limits: heuristic at finite size.
    DeterministicEquivalent,
}

/// How far a result is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rigour {
    /// A theorem about the model or about an oracle that can be built, at finite size.
    Rigorous,
    /// A theorem once the sampling noise is replaced by a Gaussian of the same covariance.
    Surrogate,
    /// Rests on steps that are not proved at finite size.
    Heuristic,
}

impl Rigour {
    /// The word for tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Rigour::Rigorous => "rigorous",
            Rigour::Surrogate => "surrogate",
            Rigour::Heuristic => "heuristic",
        }
    }
}

impl Assumption {
    /// How far a result that rests on this is proved.
    #[must_use]
    pub fn rigour(self) -> Rigour {
        match self {
            Assumption::Rigorous | Assumption::NoisyOracle { .. } => Rigour::Rigorous,
            Assumption::GaussianSurrogate => Rigour::Surrogate,
            Assumption::DeterministicEquivalent => Rigour::Heuristic,
        }
    }
}

/// Which argument gives the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// Mutual information between the permutation and the first gradient.
    Channel,
    /// Tokens never seen as the informative one.
    Coverage,
    /// Bits stored in the gradient.
    Parameters,
    /// Nothing binds: the bound is trivial.
    Nothing,
}

/// Which estimators a bound is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimators {
    /// Measurable functions of the first gradient, the embeddings, the label counts and
    /// private randomness.
    FirstGradient,
    /// Measurable functions of the raw batch, the embeddings and private randomness;
    /// this includes every training procedure.
    RawData,
    /// Functions of the first gradient rounded to a fixed number of bits per entry.
    QuantisedGradient,
    /// Functions of the first gradient with independent Gaussian noise, the embeddings, the
    /// label counts and private randomness.
    NoisyGradient,
}

/// What is asked of an estimator. Probabilities are over the uniform permutation,
/// the embeddings, the batch and the estimator's randomness.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Target {
    /// Expected fraction of correct tokens at least `accuracy`.
    ExpectedAccuracy {
        /// In `(0, 1]`.
        accuracy: f64,
    },
    /// At least `fraction` of the tokens correct, with the given probability.
    Fraction {
        /// In `(0, 1]`.
        fraction: f64,
        /// In `(0, 1]`.
        probability: f64,
    },
    /// Every token correct, with the given probability.
    Exact {
        /// In `(0, 1]`.
        probability: f64,
    },
}

impl Target {
    fn valid(self) -> bool {
        let unit = |x: f64| x > 0.0 && x <= 1.0;
        match self {
            Target::ExpectedAccuracy { accuracy } => unit(accuracy),
            Target::Fraction {
                fraction,
                probability,
            } => unit(fraction) && unit(probability),
            Target::Exact { probability } => unit(probability),
        }
    }
}

/// A lower bound on a resource (or, for vocabularies, an upper bound).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// The bound, a real number of samples, dimensions or tokens.
    pub value: f64,
    /// The argument that gives it.
    pub binding: Binding,
    /// What its validity rests on.
    pub assumption: Assumption,
    /// For which estimators it holds.
    pub estimators: Estimators,
}

impl Bound {
    /// How far it is proved.
    #[must_use]
    pub fn rigour(&self) -> Rigour {
        self.assumption.rigour()
    }
}

/// Why there is no threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Absence {
    /// A probability, accuracy or precision outside its range.
    BadTarget,
    /// No dimension helps: too many tokens are unseen.
    Coverage,
    /// No dimension helps: even full rank, `V - 1` on each free side, carries too little.
    Channel,
    /// The bound exceeds `2^40` samples.
    SamplesBeyondRange,
    /// The bound exceeds `2^24` tokens.
    VocabBeyondRange,
    /// Every vocabulary of two tokens or more is excluded.
    NoVocab,
    /// Neither table has a free dimension: both are orthonormal.
    NoFreeDimension,
}

/// A bound, or the reason why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Threshold {
    /// A bound that excludes something.
    At(Bound),
    /// The bound excludes nothing: chance, or unlimited data, suffices for it.
    Trivial,
    /// There is no finite value.
    Absent {
        /// Why.
        reason: Absence,
    },
}

impl Threshold {
    /// The bound where there is one.
    #[must_use]
    pub fn bound(&self) -> Option<Bound> {
        match self {
            Threshold::At(bound) => Some(*bound),
            _ => None,
        }
    }
}

// ---------------------------------------------------------------- entropy needs

/// `log V!` in nats.
#[must_use]
pub fn ln_factorial(vocab: usize) -> f64 {
    ln_gamma(vocab as f64 + 1.0)
}

/// Information needed for a target; equations (L1) to (L4). Rigorous for every
/// estimator, of any form. `None` for a target outside its range.
#[must_use]
pub fn entropy_need(vocab: usize, target: Target) -> Option<f64> {
    if !target.valid() || vocab == 0 {
        return None;
    }
    Some(match target {
        Target::ExpectedAccuracy { accuracy } => expected_accuracy_need(vocab, accuracy),
        Target::Fraction {
            fraction,
            probability,
        } => {
            // Guard against a product such as 0.1 * 30 that rounds up past an integer.
            let places = (fraction * vocab as f64 - 1e-9).ceil().max(0.0);
            divergence(probability, -ln_gamma(places + 1.0))
        }
        Target::Exact { probability } => divergence(probability, -ln_factorial(vocab)),
    })
}

/// Binary divergence `p log(p/q) + (1-p) log((1-p)/(1-q))` for `q = exp(log_q) <= p`,
/// zero for `q >= p`.
fn divergence(p: f64, log_q: f64) -> f64 {
    if p.ln() <= log_q {
        return 0.0;
    }
    let rest = if p < 1.0 {
        (1.0 - p) * ((-p).ln_1p() - (-log_q.exp()).ln_1p())
    } else {
        0.0
    };
    (p * (p.ln() - log_q) + rest).max(0.0)
}

/// Least information with which any estimator reaches expected accuracy `a`:
/// `sup_x [a V log(1+x) - log sum_{k<=V} x^k/k!]`, equation (L3).
///
/// This is the rate-distortion function of a uniform permutation under the fraction of
/// errors, so no converse from entropy alone is sharper. Away from `a = 1` it equals
/// `m log m - m + 1` with `m = a V`. Zero for `a <= 1/V`; `a` is cut to `[0, 1]`.
#[must_use]
pub fn expected_accuracy_need(vocab: usize, accuracy: f64) -> f64 {
    let v = vocab as f64;
    let m = accuracy.clamp(0.0, 1.0) * v;
    if m <= 1.0 {
        return 0.0;
    }
    if m - 1.0 + 9.0 * m.sqrt() + 40.0 < v {
        return m * m.ln() - m + 1.0;
    }
    // Concave in t = log(1 + x): golden section.
    let value = |t: f64| m * t - ln_truncated_exponential(t.exp_m1(), vocab);
    let ratio = 0.5 * (5f64.sqrt() - 1.0);
    let (mut low, mut high) = (0.0, v.ln() + 36.0);
    let (mut a, mut b) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut fa, mut fb) = (value(a), value(b));
    for _ in 0..64 {
        if fa < fb {
            low = a;
            a = b;
            fa = fb;
            b = low + ratio * (high - low);
            fb = value(b);
        } else {
            high = b;
            b = a;
            fb = fa;
            a = high - ratio * (high - low);
            fa = value(a);
        }
    }
    fa.max(fb).clamp(0.0, ln_factorial(vocab))
}

/// `log sum_{k=0}^{n} x^k / k!`.
fn ln_truncated_exponential(x: f64, n: usize) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    let n = n as f64;
    let top = x.floor().min(n);
    let (mut sum, mut term, mut k) = (1.0, 1.0, top);
    while k > 0.0 && term > 1e-18 {
        term *= k / x;
        sum += term;
        k -= 1.0;
    }
    (term, k) = (1.0, top);
    while k < n && term > 1e-18 {
        k += 1.0;
        term *= x / k;
        sum += term;
    }
    top * x.ln() - ln_gamma(top + 1.0) + f64::ln(sum)
}

/// The simpler and weaker need `log Gamma(a V + 1) - log(V + 1)`, equation (L4):
/// rigorous, below [`expected_accuracy_need`] by less than `log(V + 1)`.
#[must_use]
pub fn expected_accuracy_need_simple(vocab: usize, accuracy: f64) -> f64 {
    let v = vocab as f64;
    (ln_gamma(accuracy.clamp(0.0, 1.0) * v + 1.0) - (v + 1.0).ln()).max(0.0)
}

/// Largest expected accuracy compatible with `nats` of information: the inverse of
/// [`expected_accuracy_need`], at least `1/V` and at most one. Rigorous.
#[must_use]
pub fn accuracy_at_information(vocab: usize, nats: f64) -> f64 {
    if nats >= ln_factorial(vocab) {
        return 1.0;
    }
    let (mut low, mut high) = (1.0 / vocab as f64, 1.0);
    while high - low > 1e-10 {
        let mid = 0.5 * (low + high);
        if expected_accuracy_need(vocab, mid) <= nats {
            low = mid;
        } else {
            high = mid;
        }
    }
    high
}

// ---------------------------------------------------------------- the channel

/// The channel bound `I(pi; G | Z) <= (r_in r_out / 2) log(1 + s)`; equation (L9).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// Signal-to-noise ratio `s` per mode (mean over modes).
    pub snr: f64,
    /// Rank of the centred input table.
    pub rank_in: f64,
    /// Rank of the centred output table.
    pub rank_out: f64,
    /// Bound on the mutual information, nats.
    pub nats: f64,
    /// What it rests on.
    pub assumption: Assumption,
}

/// Rank of the centred table, `min(d, V - 1)`, almost surely.
#[must_use]
pub fn centred_rank(law: Embedding, dim: usize, vocab: usize) -> usize {
    match law {
        Embedding::Orthonormal => vocab.saturating_sub(1),
        Embedding::Gaussian | Embedding::Sphere => dim.min(vocab.saturating_sub(1)),
    }
}

/// Excess `t` of the leverage-weighted label count over `N / V`, for real `N`; (L8).
/// Zero at full output rank; `1 - 1/V` for iid labels; `f (1-f) V / N` for balanced
/// ones, `f` the fractional part of `N / V`.
fn excess(setting: &Setting, rank_out: usize, n: f64) -> f64 {
    let v = setting.vocab as f64;
    if rank_out + 1 >= setting.vocab {
        return 0.0;
    }
    match setting.labels {
        Labels::Iid => 1.0 - 1.0 / v,
        Labels::Balanced => {
            let f = (n / v).fract();
            f * (1.0 - f) * v / n
        }
    }
}

/// Variance of the stored facts per white mode, `lambda_bar / (V - 1)` for a mean `lambda_bar` of
/// `B^-1 A`; equation (L6) in the coordinates of (L7), whose noise has variance `(L-1)/V`.
pub(crate) fn centred_signal(v: f64, lambda_bar: f64) -> f64 {
    lambda_bar / (v - 1.0)
}

fn information(rank_in: f64, rank_out: f64, snr: f64) -> f64 {
    0.5 * rank_in * rank_out * snr.ln_1p()
}

fn channel_at(setting: &Setting, n: f64) -> Channel {
    let v = setting.vocab as f64;
    let rank_in = centred_rank(setting.input, setting.dim_in, setting.vocab);
    let rank_out = centred_rank(setting.output, setting.dim_out, setting.vocab);
    let counts = n / v + excess(setting, rank_out, n);
    let snr = v / ((v - 1.0) * (setting.len as f64 - 1.0)) * counts;
    let (rank_in, rank_out) = (rank_in as f64, rank_out as f64);
    Channel {
        snr,
        rank_in,
        rank_out,
        nats: information(rank_in, rank_out, snr),
        assumption: Assumption::GaussianSurrogate,
    }
}

/// Bound on the mutual information of the first gradient about the permutation in
/// closed form, equation (L9): a theorem under the Gaussian surrogate, for output
/// tables whose rows are exchangeable or whose centred rank is `V - 1`.
///
/// `s = (N/(V-1) + 1)/(L-1)` for iid labels, `N/((V-1)(L-1))` for balanced labels with
/// `V | N`, and the latter for any labels at full output rank. A balanced batch has
/// label counts `floor(N/V)` and `ceil(N/V)`, placed independently of `pi`. The trigger
/// in the values changes nothing. `None` for infinite data, where it is unbounded.
#[must_use]
pub fn channel(setting: &Setting, samples: Samples) -> Option<Channel> {
    match samples {
        Samples::Finite(n) => Some(channel_at(setting, n as f64)),
        Samples::Infinite => None,
    }
}

/// The same bound for an oracle that adds independent Gaussian noise of covariance
/// `kappa` times the sampling noise, equation (L10): rigorous without surrogate.
/// `None` for infinite data or `kappa` not positive and finite.
#[must_use]
pub fn channel_noisy_oracle(setting: &Setting, samples: Samples, kappa: f64) -> Option<Channel> {
    if !(kappa > 0.0 && kappa.is_finite()) {
        return None;
    }
    let mut channel = channel(setting, samples)?;
    channel.snr /= kappa;
    channel.nats = information(channel.rank_in, channel.rank_out, channel.snr);
    channel.assumption = Assumption::NoisyOracle { kappa };
    Some(channel)
}

/// A sharper value for iid labels, equation (L11): `s = V lambda_bar / ((V-1)(L-1))`
/// with `lambda_bar = N/r - 1/g` and `g` the root of `V E[n g/(1 + n g)] = r`, `n`
/// Poisson of mean `N/V`. When fewer labels are seen than `r = r_out`, the rank is cut
/// to their expected number. Heuristic at finite `V` (an estimate of the bound, not a
/// bound). For balanced labels and at full rank it is [`channel`].
#[must_use]
pub fn channel_fixed_point(setting: &Setting, samples: Samples) -> Option<Channel> {
    let mut result = channel(setting, samples)?;
    let v = setting.vocab as f64;
    if setting.labels == Labels::Balanced || result.rank_out >= v - 1.0 {
        return Some(result);
    }
    let n = samples.as_f64();
    let mean = n / v;
    let rank = result.rank_out;
    let seen = -v * (-mean).exp_m1();
    let counts = if mean > 200.0 {
        // Second order in the spread of the counts.
        mean + 1.0 - rank / v
    } else if rank >= 0.999 * seen {
        result.rank_out = seen.min(rank);
        n / result.rank_out
    } else {
        let occupied = |g: f64| {
            let (mut weight, mut sum) = ((-mean).exp(), 0.0);
            let top = (mean + 12.0 * mean.sqrt() + 30.0) as usize;
            for k in 0..=top {
                let x = k as f64 * g;
                sum += weight * x / (1.0 + x);
                weight *= mean / (k as f64 + 1.0);
            }
            v * sum
        };
        let g = crate::gauss::bisect(-30.0, 30.0, |t| occupied(t.exp()) - rank).exp();
        n / rank - 1.0 / g
    };
    result.snr = v / ((v - 1.0) * (setting.len as f64 - 1.0)) * counts;
    result.nats = information(result.rank_in, result.rank_out, result.snr);
    result.assumption = Assumption::DeterministicEquivalent;
    Some(result)
}

/// `N_ch = (V-1)(L-1)(exp(2R/(r_in r_out)) - 1) - t (V-1)`, equation (L12), for a need of
/// `nats`; `t = 0` balanced or full output rank, `t = 1` iid. May be negative (then the
/// channel excludes nothing); `None` where it exceeds `2^40`.
#[must_use]
pub fn channel_samples(
    vocab: usize,
    len: usize,
    rank_in: usize,
    rank_out: usize,
    t: f64,
    nats: f64,
) -> Option<f64> {
    let modes = (vocab as f64 - 1.0) * (len as f64 - 1.0);
    let exponent = 2.0 * nats / (rank_in as f64 * rank_out as f64);
    let n = modes * exponent.exp_m1() - t * (vocab as f64 - 1.0);
    (n <= MAX_SAMPLES).then_some(n)
}

// ---------------------------------------------------------------- coverage

/// Largest expected accuracy of any estimator, even from the raw batch, given that
/// unseen tokens can only be guessed; equation (L13). Rigorous.
///
/// `min(1, 1 - (1-1/V)^N + 1/V)` for iid labels, `min(1, (N+1)/V)` for balanced ones.
#[must_use]
pub fn coverage_accuracy(vocab: usize, labels: Labels, samples: Samples) -> f64 {
    match samples {
        Samples::Finite(n) => coverage_accuracy_real(vocab, labels, n as f64),
        Samples::Infinite => 1.0,
    }
}

fn coverage_accuracy_real(vocab: usize, labels: Labels, n: f64) -> f64 {
    let v = vocab as f64;
    match labels {
        Labels::Iid => (-(n * (-1.0 / v).ln_1p()).exp_m1() + 1.0 / v).min(1.0),
        Labels::Balanced => ((n + 1.0) / v).min(1.0),
    }
}

/// Samples below which coverage excludes expected accuracy `accuracy`: the inverse of
/// [`coverage_accuracy`]; zero at or below chance. Rigorous.
#[must_use]
pub fn coverage_samples(vocab: usize, labels: Labels, accuracy: f64) -> f64 {
    let v = vocab as f64;
    let a = accuracy.clamp(0.0, 1.0);
    match labels {
        Labels::Iid => ((1.0 - a + 1.0 / v).ln() / (-1.0 / v).ln_1p()).max(0.0),
        Labels::Balanced => (a * v - 1.0).max(0.0),
    }
}

/// Probability of exact recovery given the number of unseen tokens, and how far it is
/// known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ExactCoverage {
    /// `exp(-mu) I_0(2 sqrt mu)`, `mu = V (1-1/V)^N`, for iid labels; `1/U!` balanced.
    pub value: f64,
    /// Rigorous bound on the error of `value` against `E[1/U!]`.
    pub error: f64,
    /// Rigorous upper bound on `E[1/U!]`: the least of one, `value + error` and
    /// `value + exp(-mu) / 2`.
    pub upper: f64,
}

/// Largest probability of exact recovery by any estimator, even from the raw batch:
/// `E[1/U!]` with `U` unseen tokens; equations (L14), (L15). `value` takes `U` Poisson,
/// `error` is the total variation bound of that step, `upper` is rigorous.
#[must_use]
pub fn coverage_exact(vocab: usize, labels: Labels, samples: Samples) -> ExactCoverage {
    match samples {
        Samples::Finite(n) => coverage_exact_real(vocab, labels, n as f64),
        Samples::Infinite => ExactCoverage {
            value: 1.0,
            error: 0.0,
            upper: 1.0,
        },
    }
}

fn coverage_exact_real(vocab: usize, labels: Labels, n: f64) -> ExactCoverage {
    let v = vocab as f64;
    if labels == Labels::Balanced {
        let value = (-ln_gamma((v - n).max(0.0) + 1.0)).exp();
        return ExactCoverage {
            value,
            error: 0.0,
            upper: value,
        };
    }
    let mu = v * (n * (-1.0 / v).ln_1p()).exp();
    // Var U / mu = 1 - mu + (V-1) (1-2/V)^N / (1-1/V)^N.
    let pair = if vocab > 2 {
        (v - 1.0) * (n * ((-2.0 / v).ln_1p() - (-1.0 / v).ln_1p())).exp()
    } else {
        0.0
    };
    let error = (-(-mu).exp_m1() * (mu - pair)).clamp(0.0, 1.0);
    let value = inverse_factorial_mean(mu);
    ExactCoverage {
        value,
        error,
        upper: (value + error.min(0.5 * (-mu).exp())).min(1.0),
    }
}

/// `E[1/U!]` for `U` Poisson of mean `mu`, which is `exp(-mu) I_0(2 sqrt mu)`; (L14).
#[must_use]
pub fn inverse_factorial_mean(mu: f64) -> f64 {
    if mu <= 0.0 {
        return 1.0;
    }
    // Terms e^-mu mu^u / u!^2, summed outward from the largest, u ~ sqrt mu.
    let top = mu.sqrt().floor();
    let peak = top * mu.ln() - 2.0 * ln_gamma(top + 1.0) - mu;
    let (mut sum, mut term, mut k) = (1.0, 1.0, top);
    while k > 0.0 && term > 1e-18 {
        term *= k * k / mu;
        sum += term;
        k -= 1.0;
    }
    (term, k) = (1.0, top);
    while term > 1e-18 {
        k += 1.0;
        term *= mu / (k * k);
        sum += term;
    }
    (peak + f64::ln(sum)).exp()
}

/// Samples below which coverage excludes a target. Rigorous; equation (L16). `None` for
/// a target outside its range.
#[must_use]
pub fn coverage_samples_for(vocab: usize, labels: Labels, target: Target) -> Option<f64> {
    if !target.valid() {
        return None;
    }
    let v = vocab as f64;
    Some(match target {
        Target::ExpectedAccuracy { accuracy } => coverage_samples(vocab, labels, accuracy),
        // Expected accuracy is then at least fraction * probability.
        Target::Fraction {
            fraction,
            probability,
        } => coverage_samples(vocab, labels, fraction * probability),
        Target::Exact { probability } => {
            let floor = coverage_samples(vocab, labels, probability);
            match labels {
                Labels::Balanced => {
                    let mut unseen = 1.0;
                    while unseen < v && -ln_gamma(unseen + 2.0) >= probability.ln() - 1e-12 {
                        unseen += 1.0;
                    }
                    floor.max(v - unseen)
                }
                Labels::Iid => {
                    // The chance of exact recovery grows with N, so any N at which the
                    // bound is below p excludes every smaller N: take the largest.
                    let samples = |mu: f64| (mu / v).ln() / (-1.0 / v).ln_1p();
                    let short = |log_mu: f64| {
                        let at = samples(log_mu.exp()).max(0.0);
                        probability - coverage_exact_real(vocab, labels, at).upper
                    };
                    let mut log_mu = -30.0;
                    while log_mu < v.ln() && short(log_mu) <= 0.0 {
                        log_mu += 0.05;
                    }
                    if log_mu >= v.ln() {
                        floor
                    } else {
                        let root = crate::gauss::bisect(log_mu - 0.05, log_mu, short);
                        floor.max(samples(root.exp()))
                    }
                }
            }
        }
    })
}

// ---------------------------------------------------------------- combined bounds

/// Upper bound on the expected accuracy of any estimator of the first gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AccuracyBound {
    /// The bound, in `[1/V, 1]`.
    pub accuracy: f64,
    /// Which argument gives it.
    pub binding: Binding,
    /// What its validity rests on.
    pub assumption: Assumption,
    /// For which estimators it holds.
    pub estimators: Estimators,
}

/// The largest expected accuracy that any function of the first gradient and the
/// embeddings could have; equation (L17). The inverse of [`samples_lower_bound`].
///
/// `setting.samples` is ignored in favour of `samples`. Rigorous where coverage binds,
/// under the Gaussian surrogate where the channel does. It does not bind training that
/// reads the batch more than once.
#[must_use]
pub fn accuracy_upper_bound(setting: &Setting, samples: Samples) -> AccuracyBound {
    bounded(
        setting,
        samples,
        channel(setting, samples),
        Estimators::FirstGradient,
    )
}

/// The largest expected accuracy of any function of the first gradient seen through the noisy
/// oracle: (L10) inverted, or coverage where that is less. **Rigorous**, at every `kappa > 0` and
/// finite size, for the tables of [`channel`]. `None` for infinite data or `kappa` not positive and
/// finite.
#[must_use]
pub fn accuracy_upper_bound_noisy(
    setting: &Setting,
    samples: Samples,
    kappa: f64,
) -> Option<AccuracyBound> {
    let channel = channel_noisy_oracle(setting, samples, kappa)?;
    Some(bounded(
        setting,
        samples,
        Some(channel),
        Estimators::NoisyGradient,
    ))
}

/// The largest expected accuracy of any function of `entries` numbers of `bits` bits each, such as
/// a first gradient kept to finite precision; equation (L20). Rigorous, whatever `N` is.
#[must_use]
pub fn quantised_accuracy_upper_bound(vocab: usize, entries: f64, bits: f64) -> f64 {
    accuracy_at_information(vocab, (entries * bits * LN_2).max(0.0))
}

fn bounded(
    setting: &Setting,
    samples: Samples,
    channel: Option<Channel>,
    estimators: Estimators,
) -> AccuracyBound {
    let coverage = coverage_accuracy(setting.vocab, setting.labels, samples);
    if let Some(channel) = channel {
        let accuracy = accuracy_at_information(setting.vocab, channel.nats);
        if accuracy < coverage {
            return AccuracyBound {
                accuracy,
                binding: Binding::Channel,
                assumption: channel.assumption,
                estimators,
            };
        }
    }
    AccuracyBound {
        accuracy: coverage,
        binding: if coverage < 1.0 {
            Binding::Coverage
        } else {
            Binding::Nothing
        },
        assumption: Assumption::Rigorous,
        estimators: Estimators::RawData,
    }
}

impl AccuracyBound {
    /// How far it is proved.
    #[must_use]
    pub fn rigour(&self) -> Rigour {
        self.assumption.rigour()
    }
}

fn at(value: f64, binding: Binding) -> Threshold {
    let (assumption, estimators) = match binding {
        Binding::Channel => (Assumption::GaussianSurrogate, Estimators::FirstGradient),
        Binding::Parameters => (Assumption::Rigorous, Estimators::QuantisedGradient),
        Binding::Coverage | Binding::Nothing => (Assumption::Rigorous, Estimators::RawData),
    };
    Threshold::At(Bound {
        value,
        binding,
        assumption,
        estimators,
    })
}

fn absent(reason: Absence) -> Threshold {
    Threshold::Absent { reason }
}

/// `N_ch` for the labels of the setting. For balanced labels the excess of counts that
/// `V` does not divide is inverted exactly: (L12').
fn channel_samples_for(setting: &Setting, nats: f64) -> Option<f64> {
    channel_samples_at(setting, nats, 1.0)
}

/// The same at noise `kappa` times that of the gradient: `kappa (L-1)` takes the place of `L-1`.
fn channel_samples_at(setting: &Setting, nats: f64, kappa: f64) -> Option<f64> {
    let rank_in = centred_rank(setting.input, setting.dim_in, setting.vocab);
    let rank_out = centred_rank(setting.output, setting.dim_out, setting.vocab);
    let full = rank_out + 1 >= setting.vocab;
    let t = match setting.labels {
        Labels::Iid if !full => 1.0,
        _ => 0.0,
    };
    let offset = t * (setting.vocab as f64 - 1.0);
    let n = channel_samples(setting.vocab, setting.len, rank_in, rank_out, 0.0, nats)?;
    let n = kappa * n - offset;
    if full || setting.labels == Labels::Iid {
        return Some(n);
    }
    let v = setting.vocab as f64;
    let whole = (n / v).floor();
    let rest = n / v - whole;
    Some(v * (whole + rest * whole / (whole + 1.0 - rest)))
}

/// Samples that any estimator of the first gradient needs, `max(N_cov, N_ch)`;
/// equations (L12), (L16). `setting.samples` is ignored.
#[must_use]
pub fn samples_lower_bound(setting: &Setting, target: Target) -> Threshold {
    let (Some(nats), Some(coverage)) = (
        entropy_need(setting.vocab, target),
        coverage_samples_for(setting.vocab, setting.labels, target),
    ) else {
        return absent(Absence::BadTarget);
    };
    let Some(channel) = channel_samples_for(setting, nats) else {
        return absent(Absence::SamplesBeyondRange);
    };
    if channel <= 0.0 && coverage <= 0.0 {
        Threshold::Trivial
    } else if channel > coverage {
        at(channel, Binding::Channel)
    } else if coverage > MAX_SAMPLES {
        absent(Absence::SamplesBeyondRange)
    } else {
        at(coverage, Binding::Coverage)
    }
}

/// Samples that any estimator needs that sees the first gradient through the noisy oracle:
/// (L12) with `kappa (L-1)` in the place of `L-1`, or coverage. **Rigorous**. A smaller `kappa`
/// asks for less, down to coverage alone; `kappa = 1` asks for what the surrogate asks of the
/// gradient itself. [`Absence::BadTarget`] also for `kappa` not positive and finite.
#[must_use]
pub fn samples_lower_bound_noisy(setting: &Setting, kappa: f64, target: Target) -> Threshold {
    let (Some(nats), Some(coverage), true) = (
        entropy_need(setting.vocab, target),
        coverage_samples_for(setting.vocab, setting.labels, target),
        kappa > 0.0 && kappa.is_finite(),
    ) else {
        return absent(Absence::BadTarget);
    };
    match channel_samples_at(setting, nats, kappa) {
        None => absent(Absence::SamplesBeyondRange),
        Some(n) if n > MAX_SAMPLES || coverage > MAX_SAMPLES => absent(Absence::SamplesBeyondRange),
        Some(n) if n <= 0.0 && coverage <= 0.0 => Threshold::Trivial,
        Some(n) if n > coverage => Threshold::At(Bound {
            value: n,
            binding: Binding::Channel,
            assumption: Assumption::NoisyOracle { kappa },
            estimators: Estimators::NoisyGradient,
        }),
        Some(_) => at(coverage, Binding::Coverage),
    }
}

/// Dimension that any estimator of the first gradient needs at the setting's `N`;
/// equation (L18). The dimensions of the tables that are not orthonormal are taken equal
/// and the given ones ignored; the result is a real number.
#[must_use]
pub fn dimension_lower_bound(setting: &Setting, target: Target) -> Threshold {
    let (Some(nats), Some(coverage)) = (
        entropy_need(setting.vocab, target),
        coverage_samples_for(setting.vocab, setting.labels, target),
    ) else {
        return absent(Absence::BadTarget);
    };
    let n = setting.samples.as_f64();
    if n < coverage {
        return absent(Absence::Coverage);
    }
    if nats <= 0.0 || n.is_infinite() {
        return Threshold::Trivial;
    }
    let free = |law: Embedding| law != Embedding::Orthonormal;
    let full = setting.vocab as f64 - 1.0;
    // Below full output rank, where the excess of iid counts is counted.
    let below = Setting {
        dim_out: 1,
        ..*setting
    };
    let snr = channel_at(&below, n).snr;
    let product = 2.0 * nats / snr.ln_1p();
    let dim = match (free(setting.input), free(setting.output)) {
        (true, true) => product.sqrt(),
        (false, false) => return absent(Absence::NoFreeDimension),
        _ => product / full,
    };
    if dim > full {
        absent(Absence::Channel)
    } else {
        at(dim, Binding::Channel)
    }
}

fn with_vocab(setting: &Setting, vocab: usize) -> Setting {
    Setting { vocab, ..*setting }.with_embeddings(setting.input, setting.output)
}

/// Largest vocabulary at which the bounds still allow the target, at the setting's `N`,
/// `L` and dimensions; equation (L19). Orthonormal tables grow with the vocabulary. The
/// value is the largest integer `V` that is not excluded, and the binding is what
/// excludes `V + 1`.
#[must_use]
pub fn vocab_upper_bound(setting: &Setting, target: Target) -> Threshold {
    if !target.valid() {
        return absent(Absence::BadTarget);
    }
    let n = setting.samples.as_f64();
    // What excludes a vocabulary, if anything.
    let excluded = |vocab: usize| -> Option<Binding> {
        let s = with_vocab(setting, vocab);
        let need = entropy_need(vocab, target)?;
        let coverage = coverage_samples_for(vocab, s.labels, target)?;
        if n < coverage {
            return Some(Binding::Coverage);
        }
        (n.is_finite() && need > channel_at(&s, n).nats).then_some(Binding::Channel)
    };
    if excluded(MAX_VOCAB).is_none() {
        return absent(Absence::VocabBeyondRange);
    }
    // Above the dimensions information falls and need grows, so there is one crossing;
    // below them step down until a vocabulary is allowed.
    let mut low = 2 + [
        (setting.input, setting.dim_in),
        (setting.output, setting.dim_out),
    ]
    .into_iter()
    .filter(|(law, _)| *law != Embedding::Orthonormal)
    .map(|(_, d)| d)
    .max()
    .unwrap_or(0);
    let mut high = MAX_VOCAB;
    while excluded(low).is_some() {
        if low <= 2 {
            return absent(Absence::NoVocab);
        }
        high = low;
        low = (low - 1).min((low as f64 * 0.98) as usize).max(2);
    }
    while high - low > 1 {
        let mid = low + (high - low) / 2;
        if excluded(mid).is_some() {
            high = mid;
        } else {
            low = mid;
        }
    }
    at(low as f64, excluded(high).unwrap_or(Binding::Nothing))
}

/// Product `d_in d_out` needed when every entry of the gradient is kept to `bits` bits:
/// `R / (b log 2)`, equation (L20). Rigorous for estimators of that record.
#[must_use]
pub fn parameter_lower_bound(vocab: usize, bits: f64, target: Target) -> Threshold {
    match entropy_need(vocab, target) {
        Some(nats) if bits > 0.0 && bits.is_finite() => {
            if nats > 0.0 {
                at(nats / (bits * LN_2), Binding::Parameters)
            } else {
                Threshold::Trivial
            }
        }
        _ => absent(Absence::BadTarget),
    }
}

/// The bound for orthonormal tables on both sides, where the dimension is `V`: the
/// greater of coverage and `N_ch` with both ranks `V - 1`; equation (L21).
#[must_use]
pub fn orthonormal_samples_lower_bound(
    vocab: usize,
    len: usize,
    labels: Labels,
    target: Target,
) -> Threshold {
    let mut setting = Setting::new(vocab, vocab, len, 1)
        .with_embeddings(Embedding::Orthonormal, Embedding::Orthonormal);
    setting.labels = labels;
    samples_lower_bound(&setting, target)
}

/// Leading form of the orthonormal bound for exact recovery, `max(V log V, 2 L log V)`;
/// equation (L22): a maximum, not a product.
#[must_use]
pub fn orthonormal_samples_asymptotic(vocab: usize, len: usize) -> f64 {
    (vocab as f64).ln() * (vocab as f64).max(2.0 * len as f64)
}

/// Range of common dimensions `d = d_in = d_out` in which the bound on `N` is a product.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MultiplicativeWindow {
    /// Below it `s > 1` at threshold: more samples help only through a logarithm.
    pub lower: f64,
    /// Above it coverage exceeds the channel bound and the dimension is irrelevant; at
    /// most `V - 1`.
    pub upper: f64,
    /// Leading form of the upper end: `sqrt(2 L V R / N_cov)`; for exact recovery with
    /// `R = V log V = N_cov` this is `sqrt(2 L V)`.
    pub upper_leading: f64,
}

impl MultiplicativeWindow {
    /// Whether the bound is a product at dimension `d`.
    #[must_use]
    pub fn contains(&self, dim: f64) -> bool {
        self.lower < dim && dim < self.upper
    }

    /// How far the window is proved: it compares two bounds, one of them under the surrogate.
    #[must_use]
    pub fn rigour(&self) -> Rigour {
        Assumption::GaussianSurrogate.rigour()
    }

    /// Whether no dimension qualifies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lower >= self.upper
    }
}

/// Leading dimension below which samples, dimension and length trade off as a product for exact
/// recovery, `sqrt(2 L V)`; above it coverage binds and the dimension is irrelevant; (L23).
#[must_use]
pub fn multiplicative_dimension(vocab: usize, len: usize) -> f64 {
    (2.0 * len as f64 * vocab as f64).sqrt()
}

/// Where the sample bound has the multiplicative form `N d^2 ~ 2 L V R`; equation (L23).
/// `None` for a target out of range or one that needs no information or no sample.
#[must_use]
pub fn multiplicative_window(
    vocab: usize,
    len: usize,
    labels: Labels,
    target: Target,
) -> Option<MultiplicativeWindow> {
    let nats = entropy_need(vocab, target)?;
    let coverage = coverage_samples_for(vocab, labels, target)?;
    if nats <= 0.0 || coverage <= 0.0 {
        return None;
    }
    let v = vocab as f64;
    let t = match labels {
        Labels::Iid => 1.0,
        Labels::Balanced => 0.0,
    };
    let snr = (coverage / (v - 1.0) + t) / (len as f64 - 1.0);
    Some(MultiplicativeWindow {
        lower: (2.0 * nats / LN_2).sqrt(),
        upper: (2.0 * nats / snr.ln_1p()).sqrt().min(v - 1.0),
        upper_leading: (2.0 * len as f64 * v * nats / coverage).sqrt(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permutations(n: usize) -> Vec<Vec<usize>> {
        if n == 0 {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for shorter in permutations(n - 1) {
            for place in 0..n {
                let mut longer = shorter.clone();
                longer.insert(place, n - 1);
                all.push(longer);
            }
        }
        all
    }

    fn agreements(guess: &[usize], truth: &[usize]) -> usize {
        guess.iter().zip(truth).filter(|(a, b)| a == b).count()
    }

    const HALF: Target = Target::ExpectedAccuracy { accuracy: 0.5 };

    #[test]
    fn needs_follow_from_counting_permutations() {
        for v in 2..=7usize {
            let all = permutations(v);
            let identity: Vec<usize> = (0..v).collect();
            let mut lazy = identity.clone();
            lazy[v - 1] = 0; // a guess that is no permutation
            for x in [0.1, 1.0, 5.0, 40.0f64] {
                let moment = |guess: &[usize]| {
                    let sum: f64 = all
                        .iter()
                        .map(|p| (1.0 + x).powi(agreements(guess, p) as i32))
                        .sum();
                    (sum / all.len() as f64).ln()
                };
                let formula = ln_truncated_exponential(x, v);
                assert!((moment(&identity) - formula).abs() < 1e-12, "{v} {x}");
                assert!(moment(&lazy) < formula, "{v} {x}");
            }
            assert!((ln_factorial(v) - (all.len() as f64).ln()).abs() < 1e-12);
            for k in 1..=v {
                let hit = all.iter().filter(|p| agreements(&identity, p) >= k);
                let log_q = (hit.count() as f64 / all.len() as f64).ln();
                let target = Target::Fraction {
                    fraction: k as f64 / v as f64,
                    probability: 0.9,
                };
                let need = entropy_need(v, target).unwrap();
                // Never above the need from the exact count, and equal at k = V.
                assert!(need <= divergence(0.9, log_q) + 1e-12, "{v} {k}");
                if k == v {
                    let exact = Target::Exact { probability: 0.9 };
                    assert!((need - entropy_need(v, exact).unwrap()).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn accuracy_need_is_the_legendre_transform() {
        for v in [2usize, 5, 8, 40, 200] {
            for a in [0.3, 0.5, 0.8, 0.95, 1.0] {
                let m = a * v as f64;
                let mut best = 0.0f64;
                for i in 0..40_000 {
                    let t = f64::from(i) * 1e-3;
                    best = best.max(m * t - ln_truncated_exponential(t.exp_m1(), v));
                }
                let need = expected_accuracy_need(v, a);
                assert!((need - best).abs() < 1e-4, "{v} {a} {need} {best}");
                let simple = expected_accuracy_need_simple(v, a);
                assert!(simple <= need + 1e-9);
                assert!(need <= simple + (v as f64 + 1.0).ln() + 1e-9);
            }
            assert!((expected_accuracy_need(v, 1.0) - ln_factorial(v)).abs() < 1e-6);
            assert_eq!(expected_accuracy_need(v, 1.0 / v as f64), 0.0);
        }
        // Both branches agree where they meet, and the inverse inverts.
        for v in [300usize, 4096] {
            for a in [0.01, 0.2, 0.5, 0.9, 0.99] {
                let nats = expected_accuracy_need(v, a);
                assert!(
                    (accuracy_at_information(v, nats) - a).abs() < 1e-8,
                    "{v} {a}"
                );
            }
            assert_eq!(accuracy_at_information(v, ln_factorial(v)), 1.0);
            assert!((accuracy_at_information(v, 0.0) * v as f64 - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn exact_need_beats_the_textbook_form() {
        for p in [0.1, 0.5, 0.9, 1.0] {
            let need = entropy_need(64, Target::Exact { probability: p }).unwrap();
            assert!(need >= p * ln_factorial(64) - LN_2);
            assert!(need <= ln_factorial(64) + 1e-9);
        }
        assert_eq!(entropy_need(64, Target::Exact { probability: 0.0 }), None);
        let nan = Target::ExpectedAccuracy { accuracy: f64::NAN };
        assert_eq!(entropy_need(64, nan), None);
    }

    /// `log det` of a positive definite matrix by elimination.
    fn ln_det(mut a: Vec<Vec<f64>>) -> f64 {
        let mut log = 0.0;
        for i in 0..a.len() {
            let pivot = a[i].clone();
            assert!(pivot[i] > 1e-12);
            log += pivot[i].ln();
            for row in a.iter_mut().skip(i + 1) {
                let f = row[i] / pivot[i];
                for (x, p) in row.iter_mut().zip(&pivot).skip(i) {
                    *x -= f * p;
                }
            }
        }
        log
    }

    /// A fixed table with no structure.
    fn table(v: usize, d: usize, salt: f64) -> Vec<Vec<f64>> {
        (0..v)
            .map(|i| {
                (0..d)
                    .map(|k| (salt + 1.7 * i as f64 + 2.9 * k as f64 + (i * k) as f64).sin())
                    .collect()
            })
            .collect()
    }

    /// `(1/2) log det(I + noise^-1 signal)` with both covariances by enumeration.
    fn information_by_enumeration(
        counts: &[f64],
        len: usize,
        z_in: &[Vec<f64>],
        z_out: &[Vec<f64>],
    ) -> f64 {
        let v = counts.len();
        let (d_in, d_out) = (z_in[0].len(), z_out[0].len());
        let mean: Vec<f64> = (0..d_out)
            .map(|k| z_out.iter().map(|z| z[k]).sum::<f64>() / v as f64)
            .collect();
        // Contribution of token x with label y to the gradient, vectorised.
        let unit = |x: usize, y: usize| -> Vec<f64> {
            let mut g = Vec::new();
            for a in z_in[x].iter().take(d_in) {
                for k in 0..d_out {
                    g.push(a * (z_out[y][k] - mean[k]));
                }
            }
            g
        };
        let size = d_in * d_out;
        let covariance = |points: &[Vec<f64>], into: &mut Vec<Vec<f64>>, scale: f64| {
            let n = points.len() as f64;
            let centre: Vec<f64> = (0..size)
                .map(|i| points.iter().map(|p| p[i]).sum::<f64>() / n)
                .collect();
            for p in points {
                for i in 0..size {
                    for j in 0..size {
                        into[i][j] += scale / n * (p[i] - centre[i]) * (p[j] - centre[j]);
                    }
                }
            }
        };
        let mut noise = vec![vec![0.0; size]; size];
        for (y, count) in counts.iter().enumerate() {
            let draws: Vec<Vec<f64>> = (0..v).map(|x| unit(x, y)).collect();
            covariance(&draws, &mut noise, count * (len as f64 - 1.0));
        }
        let signals: Vec<Vec<f64>> = permutations(v)
            .iter()
            .map(|p| {
                let mut g = vec![0.0; size];
                for (x, y) in p.iter().enumerate() {
                    for (s, u) in g.iter_mut().zip(unit(x, *y)) {
                        *s += counts[*y] * u;
                    }
                }
                g
            })
            .collect();
        let mut both = noise.clone();
        covariance(&signals, &mut both, 1.0);
        0.5 * (ln_det(both) - ln_det(noise))
    }

    #[test]
    fn balanced_channel_is_the_log_det() {
        for (v, d_in, d_out, len, per_class) in [
            (4, 2, 3, 5, 3),
            (5, 3, 2, 9, 7),
            (4, 1, 2, 3, 1),
            (5, 4, 4, 6, 2),
        ] {
            let direct = information_by_enumeration(
                &vec![per_class as f64; v],
                len,
                &table(v, d_in, 0.3),
                &table(v, d_out, 1.1),
            );
            let mut s = Setting::new(v, d_in, len, (v * per_class) as u64);
            s.dim_out = d_out;
            s.labels = Labels::Balanced;
            let formula = channel(&s, s.samples).unwrap();
            assert!((formula.nats - direct).abs() < 1e-9, "{v} {d_in} {d_out}");
            assert_eq!(formula.rank_in * formula.rank_out, (d_in * d_out) as f64);
        }
    }

    #[test]
    fn unequal_counts_stay_below_the_closed_form() {
        // Exchangeable rows: average over all orders of a fixed output table.
        let (v, len) = (4, 4);
        for counts in [
            [5.0, 1.0, 2.0, 4.0],
            [9.0, 1.0, 1.0, 1.0],
            [2.0, 2.0, 3.0, 2.0],
        ] {
            let n: f64 = counts.iter().sum();
            let square: f64 = counts.iter().map(|c| c * c).sum::<f64>() / n;
            for d in [1usize, 2, 3] {
                let (z_in, z_out) = (table(v, 2, 0.4), table(v, d, 2.2));
                let orders = permutations(v);
                let mut mean = 0.0;
                for p in &orders {
                    let rows: Vec<Vec<f64>> = p.iter().map(|i| z_out[*i].clone()).collect();
                    mean += information_by_enumeration(&counts, len, &z_in, &rows);
                }
                mean /= orders.len() as f64;
                let scale = v as f64 / ((v as f64 - 1.0) * (len as f64 - 1.0));
                // At full rank the mean count itself, whatever the spread.
                let t = if d == 3 { n / v as f64 } else { square };
                let bound = information(2.0, d as f64, scale * t);
                assert!(mean <= bound + 1e-9, "{counts:?} {d} {mean} {bound}");
                assert!(mean >= 0.6 * bound, "{counts:?} {d} {mean} {bound}");
            }
        }
    }

    #[test]
    fn fixed_point_matches_log_dets_of_larger_tables() {
        // Mean nats per r^2/2 at V = 256, L = 16, N = 512, from log-determinants of
        // prototype draws: .168, .156, .148 at d = 64, 128, 192.
        for (d, drawn) in [(64, 0.168), (128, 0.156), (192, 0.148)] {
            let s = Setting::new(256, d, 16, 512);
            let sharp = channel_fixed_point(&s, s.samples).unwrap();
            let plain = channel(&s, s.samples).unwrap();
            let per_mode = 2.0 * sharp.nats / (d * d) as f64;
            assert!((per_mode - drawn).abs() < 0.004, "{d} {per_mode}");
            assert!(sharp.nats < plain.nats);
            assert!((2.0 * plain.nats / (d * d) as f64 - 0.1825).abs() < 0.001);
        }
        let wide = Setting::new(256, 64, 16, 256 * 5000);
        let (a, b) = (
            channel_fixed_point(&wide, wide.samples).unwrap(),
            channel(&wide, wide.samples).unwrap(),
        );
        assert!(a.nats < b.nats && a.nats > 0.999 * b.nats);
    }

    #[test]
    fn closed_form_reference_values() {
        for (v, d, len, reference) in [
            (256, 64, 16, 1036.0),
            (256, 64, 64, 4351.0),
            (512, 128, 32, 2412.0),
            (4096, 512, 64, 28127.0),
        ] {
            let simple = expected_accuracy_need_simple(v, 0.5);
            let n = channel_samples(v, len, d, d, 0.0, simple).unwrap();
            assert!((n - reference).abs() < 0.6, "{v} {d} {len} {n}");
            // The sharper need asks for up to one percent more.
            let sharp = expected_accuracy_need(v, 0.5);
            let m = channel_samples(v, len, d, d, 0.0, sharp).unwrap();
            assert!(m > n && m < 1.01 * n, "{m} {n}");
        }
    }

    #[test]
    fn coverage_is_the_enumerated_expectation() {
        for (v, n) in [(2usize, 3u32), (3, 4), (4, 6), (5, 5)] {
            let total = (v as u32).pow(n);
            let (mut accuracy, mut exact, mut all_seen) = (0.0, 0.0, 0.0);
            for code in 0..total {
                let (mut rest, mut seen) = (code, vec![false; v]);
                for _ in 0..n {
                    seen[(rest % v as u32) as usize] = true;
                    rest /= v as u32;
                }
                let unseen = seen.iter().filter(|s| !**s).count();
                let guess = if unseen > 0 { 1.0 } else { 0.0 };
                accuracy += (v as f64 - unseen as f64 + guess) / v as f64;
                exact += (-ln_factorial(unseen)).exp();
                all_seen += 1.0 - guess;
            }
            let total = f64::from(total);
            let samples = Samples::Finite(u64::from(n));
            let raw = 1.0 - (1.0 - 1.0 / v as f64).powi(n as i32) + 1.0 / v as f64;
            // The formula adds a guess even when nothing is unseen, and no more.
            assert!((accuracy / total + all_seen / total / v as f64 - raw).abs() < 1e-12);
            let bound = coverage_accuracy(v, Labels::Iid, samples);
            assert!((bound - raw.min(1.0)).abs() < 1e-12 && accuracy / total <= bound);
            let c = coverage_exact(v, Labels::Iid, samples);
            assert!((exact / total - c.value).abs() <= c.error, "{v} {n} {c:?}");
            assert!(exact / total <= c.upper + 1e-12, "{v} {n} {c:?}");
        }
        for a in [0.1, 0.5, 0.9, 1.0] {
            let n = coverage_samples(100, Labels::Iid, a);
            assert!((coverage_accuracy_real(100, Labels::Iid, n) - a).abs() < 1e-12);
        }
        assert_eq!(
            coverage_accuracy(8, Labels::Balanced, Samples::Finite(3)),
            0.5
        );
    }

    #[test]
    fn exact_coverage_matches_the_occupancy_law() {
        let v = 64usize;
        let mut law = vec![0.0; v + 1]; // law of the number of distinct tokens seen
        law[0] = 1.0;
        for n in 1..=400u64 {
            for k in (0..=v).rev() {
                let from = if k > 0 {
                    law[k - 1] * (v - k + 1) as f64 / v as f64
                } else {
                    0.0
                };
                law[k] = law[k] * k as f64 / v as f64 + from;
            }
            let exact: f64 = law
                .iter()
                .enumerate()
                .map(|(k, p)| p * (-ln_factorial(v - k)).exp())
                .sum();
            let c = coverage_exact(v, Labels::Iid, Samples::Finite(n));
            assert!(
                (exact - c.value).abs() <= c.error + 1e-12,
                "{n} {exact} {c:?}"
            );
            assert!(exact <= c.upper + 1e-12, "{n} {exact} {c:?}");
            for p in [0.1, 0.5, 0.9] {
                let target = Target::Exact { probability: p };
                let need = coverage_samples_for(v, Labels::Iid, target).unwrap();
                if exact >= p {
                    assert!(n as f64 >= need, "{p} {n} {need}");
                } else {
                    // Not far below the truth: the bound loses at most 30%.
                    assert!((n as f64) < 1.3 * need + 1.0, "{p} {n} {need}");
                }
            }
        }
        let half = Target::Exact { probability: 0.5 };
        assert_eq!(coverage_samples_for(64, Labels::Balanced, half), Some(62.0));
    }

    #[test]
    fn bessel_form_is_the_sum() {
        // I_0(2 sqrt mu) = (1/pi) int_0^pi exp(2 sqrt(mu) cos t) dt.
        for mu in [0.0f64, 0.3, 1.0, 2.31, 10.0, 500.0] {
            let steps = 4000;
            let integral: f64 = (0..steps)
                .map(|i| {
                    let t = std::f64::consts::PI * (f64::from(i) + 0.5) / f64::from(steps);
                    (2.0 * mu.sqrt() * t.cos() - mu).exp() / f64::from(steps)
                })
                .sum();
            let sum = inverse_factorial_mean(mu);
            assert!(
                (sum / integral - 1.0).abs() < 1e-10,
                "{mu} {sum} {integral}"
            );
        }
        assert!((inverse_factorial_mean(2.31) - 0.5).abs() < 0.002);
    }

    #[test]
    fn bounds_move_the_right_way() {
        let value = |s: &Setting| samples_lower_bound(s, HALF).bound().unwrap().value;
        let base = Setting::new(512, 64, 32, 1);
        assert!(value(&Setting { dim_in: 80, ..base }) < value(&base));
        assert!(
            value(&Setting {
                dim_out: 80,
                ..base
            }) < value(&base)
        );
        assert!(value(&Setting { len: 40, ..base }) > value(&base));
        assert!(value(&Setting { vocab: 600, ..base }) > value(&base));
        let mut last = 0.0;
        for k in 0..24 {
            let now = accuracy_upper_bound(&base, Samples::Finite(1 << k));
            assert!(now.accuracy >= last - 1e-9 && now.accuracy <= 1.0);
            last = now.accuracy;
        }
        let all = accuracy_upper_bound(&base, Samples::Infinite);
        assert_eq!((all.accuracy, all.binding), (1.0, Binding::Nothing));
        // For large dimensions only coverage is left.
        let wide = Setting::new(512, 511, 32, 1);
        let bound = samples_lower_bound(&wide, HALF).bound().unwrap();
        assert_eq!(bound.binding, Binding::Coverage);
        assert_eq!(bound.assumption, Assumption::Rigorous);
        assert!((bound.value / 512.0 - 0.69).abs() < 0.01);
    }

    #[test]
    fn sample_bound_and_accuracy_bound_are_inverse() {
        for labels in [Labels::Iid, Labels::Balanced] {
            for (v, d, len) in [
                (256, 64, 16),
                (512, 128, 32),
                (128, 120, 8),
                (4096, 256, 64),
            ] {
                let mut s = Setting::new(v, d, len, 1);
                s.labels = labels;
                for a in [0.2, 0.5, 0.9] {
                    let target = Target::ExpectedAccuracy { accuracy: a };
                    let n = samples_lower_bound(&s, target).bound().unwrap().value;
                    let below = Samples::Finite((0.999 * n).floor() as u64);
                    let above = Samples::Finite((1.001 * n).ceil() as u64);
                    assert!(accuracy_upper_bound(&s, below).accuracy < a, "{s:?} {a}");
                    assert!(accuracy_upper_bound(&s, above).accuracy >= a, "{s:?} {a}");
                }
            }
        }
    }

    #[test]
    fn dimension_and_vocabulary_bounds_invert_the_channel() {
        let mut s = Setting::new(1024, 64, 32, 60_000);
        s.labels = Labels::Balanced;
        let d = dimension_lower_bound(&s, HALF).bound().unwrap().value;
        let need = entropy_need(1024, HALF).unwrap();
        let snr = channel(&s, s.samples).unwrap().snr;
        assert!((information(d, d, snr) / need - 1.0).abs() < 1e-12);
        let v = vocab_upper_bound(&s, HALF).bound().unwrap();
        let allowed = |v: f64| {
            let at = with_vocab(&s, v as usize);
            accuracy_upper_bound(&at, s.samples).accuracy >= 0.5 - 1e-9
        };
        assert!(allowed(v.value) && !allowed(v.value + 1.0), "{v:?}");
        assert_eq!(v.binding, Binding::Channel);
        // Coverage and impossible demands are named.
        let few = Setting::new(1024, 64, 32, 100);
        let none = Threshold::Absent {
            reason: Absence::Coverage,
        };
        assert_eq!(dimension_lower_bound(&few, HALF), none);
        let bad = Target::ExpectedAccuracy { accuracy: 1.5 };
        assert_eq!(samples_lower_bound(&few, bad), absent(Absence::BadTarget));
        let tiny = Setting::new(1 << 20, 4, 64, 1);
        assert_eq!(
            samples_lower_bound(&tiny, HALF),
            absent(Absence::SamplesBeyondRange)
        );
        let text = serde_json::to_string(&v).unwrap();
        assert_eq!(serde_json::from_str::<Bound>(&text).unwrap(), v);
    }

    #[test]
    fn orthonormal_tables_pay_a_maximum_and_narrow_ones_a_product() {
        let exact = Target::Exact { probability: 0.5 };
        let one_hot = |len| {
            orthonormal_samples_lower_bound(1024, len, Labels::Balanced, exact)
                .bound()
                .unwrap()
        };
        assert_eq!(one_hot(16).binding, Binding::Coverage);
        assert_eq!(one_hot(16).value, one_hot(128).value);
        let long = one_hot(4096);
        assert_eq!(long.binding, Binding::Channel);
        // p log V! at p = 1/2 is half of the leading form.
        let leading = 0.5 * orthonormal_samples_asymptotic(1024, 4096);
        assert!(
            (long.value / leading - 0.86).abs() < 0.03,
            "{}",
            long.value / leading
        );

        let (v, len) = (1 << 16, 1 << 12);
        let window = multiplicative_window(v, len, Labels::Iid, HALF).unwrap();
        assert!(!window.is_empty() && window.upper < window.upper_leading * 1.01);
        let lead = (len as f64 * v as f64 * (v as f64).ln() / LN_2).sqrt();
        assert!((window.upper_leading / lead - 0.92).abs() < 0.05);
        // Inside: doubling d divides N (and its offset, V - 1) by four; above: N stays.
        let n = |d: usize| {
            let s = Setting::new(v, d, len, 1);
            samples_lower_bound(&s, HALF).bound().unwrap().value
        };
        let d = 4000;
        assert!(window.contains(d as f64) && window.contains(2.0 * d as f64));
        let ratio = (n(d) + v as f64) / (n(2 * d) + v as f64);
        assert!((ratio - 4.0).abs() < 0.1, "{ratio}");
        let top = (window.upper * 1.01) as usize;
        assert!(n((window.upper * 0.99) as usize) > n(top));
        assert_eq!(n(top), n(top + 1000));
    }

    /// Numbers of a scalar world, `V = 3`, `d = 1`, `L = 2`, one sample of each label: all 6
    /// permutations, all 27 draws of the uninformative tokens, densities on a grid.
    struct Scalar {
        /// Signal of each permutation.
        signal: Vec<f64>,
        /// Noise of each draw.
        noise: Vec<f64>,
        permutations: Vec<Vec<usize>>,
        /// Variance of the sampling noise of the counts, (L7).
        variance: f64,
    }

    impl Scalar {
        fn new() -> Self {
            let (z, w) = ([0.9, -0.4, 0.2f64], [0.5, -1.1, 0.3f64]);
            let centre = |x: [f64; 3]| {
                let mean = x.iter().sum::<f64>() / 3.0;
                x.map(|x| x - mean)
            };
            let (zc, wc) = (centre(z), centre(w));
            let permutations = permutations(3);
            let signal = permutations
                .iter()
                .map(|p| (0..3).map(|v| z[v] * wc[p[v]]).sum())
                .collect();
            let noise = (0..27)
                .map(|code| {
                    let tokens = [code % 3, code / 3 % 3, code / 9];
                    (0..3).map(|j| z[tokens[j]] * wc[j]).sum()
                })
                .collect();
            let square = |x: [f64; 3]| x.iter().map(|x| x * x).sum::<f64>();
            Scalar {
                signal,
                noise,
                permutations,
                variance: square(zc) * square(wc) / 3.0,
            }
        }

        /// Mutual information of the permutation and what is seen, and the best expected accuracy,
        /// with the sampling noise in (`true`) or given away.
        fn seen(&self, kappa: f64, sampled: bool) -> (f64, f64) {
            let sd = (kappa * self.variance).sqrt();
            let shifts: &[f64] = if sampled { &self.noise } else { &[0.0] };
            let step = sd / 40.0;
            let steps = (8.0 / step) as i32;
            let (mut information, mut accuracy) = (0.0, 0.0);
            for k in -steps..=steps {
                let g = f64::from(k) * step;
                let density: Vec<f64> = self
                    .signal
                    .iter()
                    .map(|m| {
                        let sum: f64 = shifts
                            .iter()
                            .map(|r| crate::gauss::pdf((g - m - r) / sd) / sd)
                            .sum();
                        sum / shifts.len() as f64
                    })
                    .collect();
                let mean = density.iter().sum::<f64>() / 6.0;
                for p in density.iter().filter(|p| **p > 0.0) {
                    information += p / 6.0 * (p / mean).ln() * step;
                }
                for v in 0..3 {
                    let of_label = |j: usize| -> f64 {
                        let hits = self.permutations.iter().zip(&density);
                        hits.filter(|(p, _)| p[v] == j).map(|(_, d)| d / 6.0).sum()
                    };
                    accuracy += (0..3).map(of_label).fold(0.0, f64::max) / 3.0 * step;
                }
            }
            (information, accuracy)
        }
    }

    #[test]
    fn the_noisy_oracle_theorem_holds_step_by_step() {
        let world = Scalar::new();
        // (L6), (L7): the covariances of signal and noise, by enumeration.
        let variance = |x: &[f64]| {
            let n = x.len() as f64;
            let mean = x.iter().sum::<f64>() / n;
            x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n
        };
        assert!((variance(&world.noise) - world.variance).abs() < 1e-12);
        let snr = 3.0 / 2.0; // V / ((V - 1)(L - 1)) times N / V = 1
        assert!((variance(&world.signal) - snr * world.variance).abs() < 1e-12);
        let mut s = Setting::new(3, 1, 2, 3);
        s.labels = Labels::Balanced;
        for kappa in [0.2, 1.0, 5.0] {
            let (with_noise, accuracy) = world.seen(kappa, true);
            let (given_away, more) = world.seen(kappa, false);
            let gaussian = 0.5 * (snr / kappa).ln_1p();
            let formula = channel_noisy_oracle(&s, s.samples, kappa).unwrap();
            assert!((formula.nats - gaussian).abs() < 1e-12, "{kappa}");
            let text = format!("{kappa}: {with_noise} {given_away} {gaussian}");
            // Giving R away adds information; a Gaussian of the same variance has the most entropy.
            assert!(with_noise < given_away && given_away < gaussian, "{text}");
            assert!(given_away > 0.8 * gaussian, "{text}");
            // Fano in the form (L3), and the combined bound.
            assert!(
                expected_accuracy_need(3, accuracy) <= with_noise + 1e-9,
                "{text}"
            );
            let bound = accuracy_upper_bound_noisy(&s, s.samples, kappa).unwrap();
            assert!(
                accuracy < more && more <= bound.accuracy,
                "{kappa} {more} {bound:?}"
            );
            assert_eq!(bound.rigour(), Rigour::Rigorous);
        }
        assert!(accuracy_upper_bound_noisy(&s, s.samples, 0.0).is_none());
        assert!(accuracy_upper_bound_noisy(&s, Samples::Infinite, 1.0).is_none());
    }

    #[test]
    fn noisy_samples_and_accuracy_are_inverse() {
        for labels in [Labels::Iid, Labels::Balanced] {
            let mut s = Setting::new(256, 64, 32, 1);
            s.labels = labels;
            let plain = samples_lower_bound(&s, HALF).bound().unwrap();
            for kappa in [0.5, 1.0, 3.0] {
                let n = samples_lower_bound_noisy(&s, kappa, HALF).bound().unwrap();
                assert_eq!(n.binding, Binding::Channel);
                assert_eq!(n.estimators, Estimators::NoisyGradient);
                assert_eq!(n.rigour(), Rigour::Rigorous);
                let at = |n: f64| {
                    let samples = Samples::Finite(n as u64);
                    accuracy_upper_bound_noisy(&s, samples, kappa)
                        .unwrap()
                        .accuracy
                };
                assert!(at(0.999 * n.value) < 0.5 && at((1.001 * n.value).ceil()) >= 0.5);
                if kappa == 1.0 {
                    assert!((n.value / plain.value - 1.0).abs() < 1e-12);
                    assert_eq!(plain.rigour(), Rigour::Surrogate);
                }
            }
            // A vanishing tolerance leaves coverage alone: rigour costs the dimension.
            let fine = samples_lower_bound_noisy(&s, 1e-6, HALF).bound().unwrap();
            assert_eq!(fine.binding, Binding::Coverage);
            let bad = samples_lower_bound_noisy(&s, -1.0, HALF);
            assert_eq!(bad, absent(Absence::BadTarget));
        }
    }

    #[test]
    fn the_product_ends_at_the_stated_dimension() {
        // For exact recovery with probability p, R -> p V log V and N_cov -> V log V, both with
        // corrections of relative size 1 / log V.
        let exact = Target::Exact { probability: 0.9 };
        let mut last = 0.0;
        for k in [10, 16, 22] {
            let (v, len) = (1usize << k, 1usize << (k / 2));
            let window = multiplicative_window(v, len, Labels::Iid, exact).unwrap();
            let ratio = window.upper_leading / multiplicative_dimension(v, len);
            assert!(ratio > last && ratio < 0.9f64.sqrt(), "{k} {ratio}");
            assert!(0.9f64.sqrt() - ratio < 1.0 / (v as f64).ln(), "{k} {ratio}");
            assert_eq!(window.rigour(), Rigour::Surrogate);
            last = ratio;
        }
        // Below the end the dimension matters as 1/d^2, above it not at all.
        let (v, len) = (1 << 16, 1 << 10);
        let window = multiplicative_window(v, len, Labels::Iid, HALF).unwrap();
        let bound = |d: f64| {
            let s = Setting::new(v, d as usize, len, 1);
            samples_lower_bound(&s, HALF).bound().unwrap()
        };
        assert_eq!(bound(window.upper * 0.95).binding, Binding::Channel);
        assert_eq!(bound(window.upper * 1.05).binding, Binding::Coverage);
    }

    /// The step before Chebyshev's inequality: over all orders of the rows, the mean of
    /// `q_j = z_j^T B^-1 z_j` falls as the count of the label grows.
    #[test]
    fn frequent_labels_have_small_leverages_per_count() {
        let counts = [1.0, 2.0, 4.0, 9.0];
        for d in [1usize, 2] {
            let rows = table(4, d, 0.7);
            let mean: Vec<f64> = (0..d)
                .map(|k| rows.iter().map(|z| z[k]).sum::<f64>() / 4.0)
                .collect();
            let mut q = [0.0; 4];
            for p in permutations(4) {
                let z: Vec<Vec<f64>> = p
                    .iter()
                    .map(|i| (0..d).map(|k| rows[*i][k] - mean[k]).collect())
                    .collect();
                let mut b = [[0.0; 2]; 2];
                for (n, z) in counts.iter().zip(&z) {
                    for i in 0..d {
                        for k in 0..d {
                            b[i][k] += n * z[i] * z[k];
                        }
                    }
                }
                let det = if d == 1 {
                    b[0][0]
                } else {
                    b[0][0] * b[1][1] - b[0][1] * b[1][0]
                };
                for (q, z) in q.iter_mut().zip(&z) {
                    *q += if d == 1 {
                        z[0] * z[0] / det
                    } else {
                        (b[1][1] * z[0] * z[0] - 2.0 * b[0][1] * z[0] * z[1]
                            + b[0][0] * z[1] * z[1])
                            / det
                    } / 24.0;
                }
            }
            assert!(q.windows(2).all(|w| w[0] > w[1]), "{d} {q:?}");
            let total: f64 = counts.iter().zip(q).map(|(n, q)| n * q).sum();
            assert!((total - d as f64).abs() < 1e-9, "{d} {total}");
        }
    }

    #[test]
    fn other_forms() {
        let b = parameter_lower_bound(256, 8.0, HALF).bound().unwrap();
        assert!((b.value * 8.0 * LN_2 - expected_accuracy_need(256, 0.5)).abs() < 1e-9);
        assert_eq!(
            parameter_lower_bound(256, 0.0, HALF),
            absent(Absence::BadTarget)
        );
        // Finite precision: the bound on accuracy inverts the bound on entries.
        let a = quantised_accuracy_upper_bound(256, b.value, 8.0);
        assert!((a - 0.5).abs() < 1e-6, "{a}");
        assert_eq!(quantised_accuracy_upper_bound(256, 1e6, 32.0), 1.0);
        assert!(quantised_accuracy_upper_bound(256, 0.0, 32.0) < 1.1 / 256.0);
        assert_eq!(b.rigour(), Rigour::Rigorous);
        let s = Setting::new(256, 64, 16, 1000);
        let noisy = channel_noisy_oracle(&s, s.samples, 2.0).unwrap();
        let plain = channel(&s, s.samples).unwrap();
        assert_eq!(noisy.snr * 2.0, plain.snr);
        assert!(noisy.nats < plain.nats && noisy.nats > 0.5 * plain.nats);
        assert!(channel_noisy_oracle(&s, s.samples, 0.0).is_none());
        assert!(channel(&s, Samples::Infinite).is_none());
    }
}
