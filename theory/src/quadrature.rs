//! Few-point rules for the slow variables of a trial: norms, output overlaps, noise levels.

/// Seven-point Gauss-Hermite rule for a standard normal: `(node, weight)`.
pub(crate) const HERMITE_7: [(f64, f64); 7] = [
    (-3.750_439_717_725_742, 5.482_688_559_722_179e-4),
    (-2.366_759_410_734_541, 3.075_712_396_758_65e-2),
    (-1.154_405_394_739_968_2, 2.401_231_786_050_127e-1),
    (0.0, 4.571_428_571_428_571e-1),
    (1.154_405_394_739_968_2, 2.401_231_786_050_127e-1),
    (2.366_759_410_734_541, 3.075_712_396_758_65e-2),
    (3.750_439_717_725_742, 5.482_688_559_722_179e-4),
];

/// Three-point rule.
pub(crate) const HERMITE_3: [(f64, f64); 3] = [
    (-1.732_050_807_568_877_2, 1.0 / 6.0),
    (0.0, 2.0 / 3.0),
    (1.732_050_807_568_877_2, 1.0 / 6.0),
];

/// Five-point rule.
pub(crate) const HERMITE_5: [(f64, f64); 5] = [
    (-2.856_970_013_872_806, 1.125_741_132_772_069e-2),
    (-1.355_626_179_974_266, 2.220_759_220_056_126e-1),
    (0.0, 5.333_333_333_333_333e-1),
    (1.355_626_179_974_266, 2.220_759_220_056_126e-1),
    (2.856_970_013_872_806, 1.125_741_132_772_069e-2),
];

/// Nodes for `chi^2_k / k` with relative variance `2/k` (a point mass at one when it is zero), by
/// the Wilson-Hilferty cube.
pub(crate) fn norm_nodes<const N: usize>(
    rule: &[(f64, f64); N],
    relative_variance: f64,
) -> Vec<(f64, f64)> {
    if relative_variance <= 0.0 {
        return vec![(1.0, 1.0)];
    }
    let c = relative_variance / 9.0;
    rule.iter()
        .map(|&(x, w)| ((1.0 - c + x * c.sqrt()).max(0.0).powi(3), w))
        .collect()
}

/// Nodes for a log-normal factor of mean one and the given relative variance.
pub(crate) fn factor_nodes<const N: usize>(
    rule: &[(f64, f64); N],
    relative_variance: f64,
) -> Vec<(f64, f64)> {
    if relative_variance <= 0.0 {
        return vec![(1.0, 1.0)];
    }
    let s2 = relative_variance.ln_1p();
    rule.iter()
        .map(|&(x, w)| ((x * s2.sqrt() - 0.5 * s2).exp(), w))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(nodes: &[(f64, f64)]) -> (f64, f64, f64) {
        let mass: f64 = nodes.iter().map(|n| n.1).sum();
        let mean: f64 = nodes.iter().map(|n| n.0 * n.1).sum();
        let square: f64 = nodes.iter().map(|n| n.0 * n.0 * n.1).sum();
        (mass, mean, square - mean * mean)
    }

    #[test]
    fn hermite_rules_integrate_polynomials() {
        let even =
            |rule: &[(f64, f64)], k: i32| -> f64 { rule.iter().map(|(x, w)| w * x.powi(k)).sum() };
        for (rule, top) in [(&HERMITE_3[..], 4), (&HERMITE_5, 8), (&HERMITE_7, 12)] {
            let mut double_factorial = 1.0;
            for k in (0..=top).step_by(2) {
                if k > 0 {
                    double_factorial *= f64::from(k - 1);
                }
                let error = (even(rule, k) / double_factorial - 1.0).abs();
                assert!(error < 1e-9, "{k} {error}");
            }
        }
    }

    #[test]
    fn slow_variables_have_mean_one_and_the_stated_variance() {
        for rv in [0.01, 0.1] {
            let (mass, mean, var) = moments(&norm_nodes(&HERMITE_7, rv));
            assert!((mass - 1.0).abs() < 1e-9 && (mean - 1.0).abs() < 2e-4);
            assert!((var / rv - 1.0).abs() < 0.02, "{var}");
            let (_, mean, var) = moments(&factor_nodes(&HERMITE_7, rv));
            assert!((mean - 1.0).abs() < 1e-6 && (var / rv - 1.0).abs() < 0.01);
        }
        assert_eq!(norm_nodes(&HERMITE_3, 0.0), vec![(1.0, 1.0)]);
    }
}
