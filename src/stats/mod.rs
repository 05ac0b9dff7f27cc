//! Statistics that no crate provides: thresholds, robust regression, equivalence tests.
//!
//! Everything here is a pure function of plain data. Random numbers appear only
//! in bootstraps, which take an explicit seed. The chain is
//!
//! 1. success counts or noise ratios of one configuration
//!    -> [`threshold::Threshold`] ([`probit`], [`crossing`]);
//! 2. thresholds of many configurations -> exponents ([`regression`]), with a
//!    test for curvature ([`curvature`]);
//! 3. exponents and constants against theory -> p-values ([`equivalence`]),
//!    their power ([`power`]) and a [`verdict::Verdict`] after correction for
//!    the number of claims ([`multiplicity`]).
//!
//! Derivations stand beside the code in `threshold.md`, `regression.md` and
//! `verdict.md`.

pub mod crossing;
pub mod curvature;
pub(crate) mod distribution;
pub mod equivalence;
pub mod error;
pub mod interval;
pub mod isotonic;
pub mod linear;
pub mod multiplicity;
pub mod power;
pub mod probit;
pub mod regression;
pub mod threshold;
pub mod verdict;

pub use error::StatsError;
