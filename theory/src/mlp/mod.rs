//! The attention-MLP model: a fixed random hidden layer between attention and the value matrix.

pub mod accuracy;
pub mod attention;
pub mod hermite;
pub mod kernel;
pub(crate) mod narrow;
pub(crate) mod overlap;
pub mod recall;
pub mod thresholds;
