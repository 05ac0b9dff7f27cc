//! Empirical gradient descent on the token-retrieval task.

pub mod early;
mod label_rows;
