//! The error type of all statistics.

/// Why a statistic could not be computed from the data it was given.
///
/// These are errors of the caller. Data that are valid but carry no answer (no
/// bracket, wrong slope) are a result, [`super::threshold::Threshold::Censored`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// A parameter lies outside its domain.
    #[error("{name} = {value} is invalid: it must be {requirement}")]
    InvalidParameter {
        /// Name of the parameter or field.
        name: &'static str,
        /// The value given.
        value: f64,
        /// The domain, in words.
        requirement: &'static str,
    },
    /// One row of the data lies outside its domain.
    #[error("row {row}: {field} = {value} is invalid: it must be {requirement}")]
    InvalidRow {
        /// Index of the row, from zero.
        row: usize,
        /// Name of the field.
        field: &'static str,
        /// The value given.
        value: f64,
        /// The domain, in words.
        requirement: &'static str,
    },
    /// Fewer observations than the method needs.
    #[error("{have} observations, but this needs at least {need}: add configurations or seeds")]
    TooFewObservations {
        /// Observations given.
        have: usize,
        /// Observations needed.
        need: usize,
    },
    /// Two inputs that must agree in length do not.
    #[error("{name} has length {have}, expected {expected}")]
    LengthMismatch {
        /// Name of the input.
        name: &'static str,
        /// Its length.
        have: usize,
        /// The length that was expected.
        expected: usize,
    },
    /// A column of the design is a linear combination of the columns before it.
    #[error(
        "column `{column}` is constant or a combination of the columns before it: \
         vary it independently or leave it out"
    )]
    RankDeficient {
        /// Name of the column.
        column: String,
    },
}

/// `Ok` if `condition` holds, else an [`StatsError::InvalidParameter`].
pub(crate) fn require(
    condition: bool,
    name: &'static str,
    value: f64,
    requirement: &'static str,
) -> Result<(), StatsError> {
    if condition {
        Ok(())
    } else {
        Err(StatsError::InvalidParameter {
            name,
            value,
            requirement,
        })
    }
}

/// A scale, such as a margin or a standard error.
pub(crate) fn require_positive(name: &'static str, value: f64) -> Result<(), StatsError> {
    require(
        value > 0.0 && value.is_finite(),
        name,
        value,
        "positive and finite",
    )
}

/// A probability strictly between zero and one, such as a level or a power.
pub(crate) fn require_open_unit(name: &'static str, value: f64) -> Result<(), StatsError> {
    require(
        value > 0.0 && value < 1.0,
        name,
        value,
        "strictly between 0 and 1",
    )
}
