//! What a comparison asks of the theory.
//!
//! The searches are placed and the figures drawn by the theory itself; only the numbers that
//! measurements are compared with pass through here, so that a wrong theory can take its place
//! ([`crate::mutate`]) and be judged by the same records.

use recall_theory::{Setting, query_bound};

use super::predicted;
use crate::spec::{Criterion, Quantity, Score, SearchAxis};

/// Predictions that claims rest on.
pub trait Predictor: Sync {
    /// An accuracy, from 0 to 1.
    fn accuracy(&self, quantity: Quantity, s: &Setting) -> f64;

    /// Size of a score in units of `S0`; zero where the term does not exist.
    fn score(&self, score: Score, s: &Setting) -> f64;

    /// Natural logarithm of a critical value; `None` if the range searched holds none.
    fn critical(&self, s: &Setting, axis: SearchAxis, criterion: Criterion) -> Option<f64>;

    /// Exponent of a size, by its symbol, in an asymptotic law that the design states.
    fn asymptotic(&self, size: &str, stated: f64) -> f64;

    /// Upper bound on the accuracy of any reader of the first gradient.
    fn accuracy_bound(&self, s: &Setting) -> f64;

    /// The same behind an oracle that adds `kappa` times the sampling noise.
    fn oracle_bound(&self, s: &Setting, kappa: f64) -> f64;

    /// Samples at which the whitened decoder has a share `level` of the labels right.
    fn whitened_samples(&self, s: &Setting, level: f64) -> Option<f64>;

    /// Logarithm of noise over signal in the channel of step 2.
    fn query_noise(&self, s: &Setting) -> Option<f64>;

    /// Bound on the alignment of any query with the trigger, from that of one trial's channel.
    fn alignment_bound(&self, s: &Setting, of_trial: f64) -> f64;
}

/// The formulas of `recall_theory`.
#[derive(Debug, Clone, Copy)]
pub struct Theory;

impl Predictor for Theory {
    fn accuracy(&self, quantity: Quantity, s: &Setting) -> f64 {
        predicted::accuracy_of(quantity, s)
    }

    fn score(&self, score: Score, s: &Setting) -> f64 {
        predicted::score_of(score, s)
    }

    fn critical(&self, s: &Setting, axis: SearchAxis, criterion: Criterion) -> Option<f64> {
        predicted::critical(s, axis, criterion)
    }

    fn asymptotic(&self, _size: &str, stated: f64) -> f64 {
        stated
    }

    fn accuracy_bound(&self, s: &Setting) -> f64 {
        predicted::accuracy_bound(s)
    }

    fn oracle_bound(&self, s: &Setting, kappa: f64) -> f64 {
        predicted::oracle_bound(s, kappa)
    }

    fn whitened_samples(&self, s: &Setting, level: f64) -> Option<f64> {
        predicted::whitened_samples(s, level)
    }

    fn query_noise(&self, s: &Setting) -> Option<f64> {
        Some(-0.5 * query_bound::channel(s)?.snr.ln())
    }

    fn alignment_bound(&self, _s: &Setting, of_trial: f64) -> f64 {
        of_trial
    }
}
