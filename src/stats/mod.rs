//! Statistics that no crate provides: thresholds, robust regression, equivalence tests.
//!
//! Everything here is a pure function of plain data. Random numbers appear only
//! in bootstraps, which take an explicit seed. The chain is
//!
//! 1. success counts or noise ratios of one configuration
//!    -> [`threshold::Threshold`] ([`probit`] with a [`link`], [`crossing`]);
//! 2. thresholds of many configurations -> exponents ([`regression`]), with a
//!    test for curvature ([`curvature`]);
//! 3. exponents and constants against theory -> p-values ([`equivalence`]),
//!    their power ([`power`]) and a [`verdict::Verdict`] after correction for
//!    the number of claims ([`multiplicity`]);
//! 4. accuracies of the cells of a design against a formula -> mean error, trends
//!    and scatter ([`cells`]), judged in the same family.
//!
//! Derivations stand beside the code in `interval.md`, `threshold.md`, `regression.md`,
//! `cells.md` and `verdict.md`.

mod bootstrap;
pub mod cells;
pub mod coverage;
pub mod crossing;
pub mod curvature;
pub(crate) mod distribution;
pub mod equivalence;
pub mod error;
pub mod interval;
pub mod isotonic;
pub mod linear;
pub mod link;
pub mod multiplicity;
pub mod power;
pub mod probit;
pub mod regression;
pub mod threshold;
pub mod verdict;

pub use error::StatsError;
