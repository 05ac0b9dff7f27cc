//! Gradient descent on the token-retrieval loss: plain data shared by its engines.
//!
//! [`exact`] follows the literal algorithm at any step sizes; [`early`] is the small-step limit
//! of its first three steps, by counting, and [`mlp`] the same limit with a hidden layer. Each has its derivation next to the source.

pub mod early;
pub mod exact;
pub mod hidden;
mod label_rows;
pub mod mlp;
pub mod samples;

/// Step sizes of the three-step algorithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// First step on the value matrix, from zero.
    pub eta: f64,
    /// Step on the key-query matrix.
    pub gamma_w: f64,
    /// Second step on the value matrix.
    pub gamma_v: f64,
}

/// A network seen on a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Number of samples.
    pub samples: usize,
    /// Mean cross entropy, natural logarithm.
    pub loss: f64,
    /// `log V - loss`. Keeps its relative accuracy where all logits are tiny, which the
    /// difference of the two numbers would lose.
    pub loss_drop: f64,
    /// Samples whose largest logit is the label's; ties go to the lowest index.
    pub correct: usize,
    /// Smallest `|f_y - max_{j != y} f_j|`; infinite when there is only one class.
    pub min_margin: f64,
    /// Mean attention weight on the informative position.
    pub attention_mean: f64,
    /// Samples whose largest attention score is the informative position's; ties go to the
    /// lowest position.
    pub attention_hits: usize,
}

impl Evaluation {
    /// Share of samples answered correctly.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples as f64
    }

    /// Share of samples whose attention peaks on the informative position.
    #[must_use]
    pub fn attention_hit_rate(&self) -> f64 {
        self.attention_hits as f64 / self.samples as f64
    }
}
