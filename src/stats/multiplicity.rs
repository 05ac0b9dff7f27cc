//! Correction for testing several claims at once.

use super::error::StatsError;

/// Holm's adjusted p-values, in the order given.
///
/// Rejecting every hypothesis with adjusted p <= alpha keeps the probability of
/// any false rejection at most alpha, whatever the dependence of the tests.
/// With p sorted upwards, p~_(j) = max over i <= j of min(1, (m - i + 1) p_(i)).
///
/// Reference: Holm, Scand. J. Statist. 6 (1979) 65.
///
/// # Errors
/// [`StatsError::InvalidRow`] if a p-value is NaN or outside [0, 1].
///
/// # Examples
/// ```
/// use recall_capacity::stats::multiplicity::holm;
/// let adjusted = holm(&[0.01, 0.04, 0.03])?;
/// assert_eq!(adjusted, [0.03, 0.06, 0.06]);
/// # Ok::<(), recall_capacity::stats::StatsError>(())
/// ```
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>, StatsError> {
    for (row, p) in p_values.iter().enumerate() {
        if !(0.0..=1.0).contains(p) {
            return Err(StatsError::InvalidRow {
                row,
                field: "p-value",
                value: *p,
                requirement: "between 0 and 1",
            });
        }
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut running_max = 0.0_f64;
    for (rank, &index) in order.iter().enumerate() {
        let hypotheses_left = (p_values.len() - rank) as f64;
        running_max = running_max.max((hypotheses_left * p_values[index]).min(1.0));
        adjusted[index] = running_max;
    }
    Ok(adjusted)
}
