//! Statistics that no crate provides: thresholds, robust regression, equivalence tests.
