//! Theory of factual recall in one-layer transformers with random,
//! non-orthogonal embeddings: early-phase capacity formulas, lower bounds and
//! the claims that rest on them, as pure functions of the setting.
//!
//! This crate knows nothing of simulation, files or random numbers. Every
//! formula is our own derivation (the paper that posed the problem, arXiv
//! 2603.15923, is known to us by its abstract only); beside each source file
//! stands the note that derives it.

pub mod accuracy;
pub mod activation;
pub mod attention;
pub mod finite_steps;
pub mod gauss;
pub mod labels;
pub mod lower_bound;
pub mod mlp;
pub mod moments;
pub mod noise;
pub mod one_step;
pub mod predict;
mod quadrature;
pub mod query_bound;
pub mod recall;
pub mod registry;
pub mod setting;
#[cfg(test)]
mod test_random;
pub mod thresholds;
pub mod whitened;

pub use activation::Activation;
pub use setting::{
    Attention, Embedding, Labels, Mlp, MlpInput, MlpRows, Model, Samples, Setting, SettingError,
};
