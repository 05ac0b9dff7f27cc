//! Monotone regression, the cross-check that assumes no curve shape.

/// Weighted least-squares fit that never decreases (pool adjacent violators).
///
/// `values` and `weights` are in the order of x; the weights must be positive.
/// Returns one fitted value per input. Inputs of unequal length are cut to the
/// shorter one.
///
/// Reference: Barlow, Bartholomew, Bremner & Brunk, *Statistical Inference under
/// Order Restrictions* (1972), ch. 1.
///
/// # Examples
/// ```
/// use recall_capacity::stats::isotonic::pool_adjacent_violators;
/// let fit = pool_adjacent_violators(&[0.1, 0.5, 0.3, 0.9], &[1.0, 1.0, 1.0, 1.0]);
/// assert_eq!(fit, [0.1, 0.4, 0.4, 0.9]);
/// ```
#[must_use]
pub fn pool_adjacent_violators(values: &[f64], weights: &[f64]) -> Vec<f64> {
    // Each block: (mean, weight, number of inputs).
    let mut blocks: Vec<(f64, f64, usize)> = Vec::with_capacity(values.len());
    for (&value, &weight) in values.iter().zip(weights) {
        blocks.push((value, weight, 1));
        while let [.., (m0, w0, n0), (m1, w1, n1)] = blocks[..]
            && m0 > m1
        {
            blocks.truncate(blocks.len() - 2);
            let weight = w0 + w1;
            blocks.push(((w0 * m0 + w1 * m1) / weight, weight, n0 + n1));
        }
    }
    blocks
        .iter()
        .flat_map(|&(mean, _, count)| std::iter::repeat_n(mean, count))
        .collect()
}

/// The x at which a non-decreasing broken line through `(x, fitted)` meets
/// `target`; `None` if it does not reach it.
///
/// A flat piece at the target gives its middle.
#[must_use]
pub fn crossing_of_monotone(x: &[f64], fitted: &[f64], target: f64) -> Option<f64> {
    let reached = fitted.iter().position(|&f| f >= target)?;
    if fitted[reached] == target {
        let last = fitted.iter().rposition(|&f| f == target)?;
        return Some(0.5 * (x[reached] + x[last]));
    }
    let before = reached.checked_sub(1)?;
    let fraction = (target - fitted[before]) / (fitted[reached] - fitted[before]);
    Some(x[before] + fraction * (x[reached] - x[before]))
}
