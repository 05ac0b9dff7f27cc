//! Simulating stored records again: the one check that also finds an edit which keeps every
//! checksum in order.

use serde_json::{Map, Value};

use crate::job::{JobError, Precision, Record};
use crate::rng::sha256_hex;
use crate::store::Store;

/// Largest relative difference between kernels of different CPU types.
const F64_TOLERANCE: f64 = 1e-9;
const F32_TOLERANCE: f64 = 1e-3;
/// Largest share of answers that rounding may turn on another kernel; at least one may.
const TURNED: f64 = 1e-3;

/// What came of simulating one record again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// Every bit of the outcome.
    Exact,
    /// Within rounding, on a kernel other than the one that made the record.
    Rounding,
    /// Another outcome.
    Differs,
}

/// A sample of `count` records, chosen by a hash of their keys and of all records together: the
/// same for the same file, another one as soon as any record is changed.
#[must_use]
pub fn sample(store: &Store, count: usize) -> Vec<&Record> {
    let all: String = store
        .records()
        .map(|r| serde_json::to_string(&r.outcome).unwrap_or_default())
        .collect();
    let salt = sha256_hex(&all);
    let mut ranked: Vec<(String, &Record)> = store
        .records()
        .map(|r| (sha256_hex(&format!("{salt}{}", r.key)), r))
        .collect();
    ranked.sort_by(|a, b| a.0.cmp(&b.0));
    ranked.into_iter().take(count).map(|r| r.1).collect()
}

/// Simulates a record's job and compares the outcomes.
///
/// # Errors
/// If the job cannot run.
pub fn rerun(record: &Record) -> Result<Agreement, JobError> {
    let again = record.job.run()?;
    if again.outcome == record.outcome {
        return Ok(Agreement::Exact);
    }
    let same_kernel = again.kernel == record.kernel;
    let tolerance = match record.job.config.precision {
        Precision::F64 => F64_TOLERANCE,
        Precision::F32 => F32_TOLERANCE,
    };
    let as_json = |r: &Record| serde_json::to_value(&r.outcome).unwrap_or_default();
    if !same_kernel && within(&as_json(record), &as_json(&again), tolerance) {
        return Ok(Agreement::Rounding);
    }
    Ok(Agreement::Differs)
}

/// Whether two outcomes, as JSON, differ by no more than rounding can make.
fn within(a: &Value, b: &Value, tolerance: f64) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            if let (Some(h), Some(t)) = (hits(x), hits(y)) {
                let turned = (TURNED * h.1 as f64).max(1.0);
                return h.1 == t.1 && h.0.abs_diff(t.0) as f64 <= turned;
            }
            x.len() == y.len()
                && x.iter()
                    .all(|(k, x)| y.get(k).is_some_and(|y| within(x, y, tolerance)))
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| within(x, y, tolerance))
        }
        (Value::Number(x), Value::Number(y)) => match (x.as_f64(), y.as_f64()) {
            (Some(x), Some(y)) => (x - y).abs() <= tolerance * x.abs().max(y.abs()).max(1e-12),
            _ => x == y,
        },
        _ => a == b,
    }
}

/// `(hits, total)` of a count.
fn hits(x: &Map<String, Value>) -> Option<(u64, u64)> {
    Some((x.get("hits")?.as_u64()?, x.get("total")?.as_u64()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rounding_moves_floats_and_few_answers_but_no_more() {
        let a = json!({"accuracy": {"hits": 500, "total": 2048}, "signal": 0.5, "noise": {"parts": [1.0, 2.0]}});
        let with = |f: fn(&mut Value)| {
            let mut b = a.clone();
            f(&mut b);
            within(&a, &b, F64_TOLERANCE)
        };
        assert!(with(|_| {}));
        assert!(with(|b| b["accuracy"]["hits"] = 502.into()));
        assert!(!with(|b| b["accuracy"]["hits"] = 503.into()));
        assert!(!with(|b| b["accuracy"]["total"] = 2047.into()));
        assert!(with(|b| b["signal"] = (0.5 + 4e-10).into()));
        assert!(!with(|b| b["signal"] = (0.5 + 6e-10).into()));
        assert!(!with(|b| b["noise"]["parts"][1] = 2.1.into()));
        assert!(!with(|b| b["noise"] = Value::Null));
    }
}
