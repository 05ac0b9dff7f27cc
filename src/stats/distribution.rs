//! Distribution functions, with the normal law as Student's t with no finite df.

use statrs::distribution::{ContinuousCDF, FisherSnedecor, Normal, StudentsT};

/// Density of the standard normal law.
pub(crate) fn normal_pdf(z: f64) -> f64 {
    (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// Distribution function of the standard normal law.
pub(crate) fn normal_cdf(z: f64) -> f64 {
    Normal::standard().cdf(z)
}

/// Quantile of the standard normal law, for 0 < p < 1.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

/// Student's law for a finite df; `None` for the normal law.
fn student(df: Option<f64>) -> Option<StudentsT> {
    // Beyond 1e8 degrees of freedom the two laws agree to 1e-8.
    let df = df.filter(|d| *d < 1e8)?;
    StudentsT::new(0.0, 1.0, df).ok()
}

/// Upper tail P(T > t) with `df` degrees of freedom (`None`: normal law).
pub(crate) fn t_upper_tail(t: f64, df: Option<f64>) -> f64 {
    if t == f64::INFINITY {
        return 0.0;
    }
    if t == f64::NEG_INFINITY {
        return 1.0;
    }
    match student(df) {
        Some(law) => law.sf(t),
        None => Normal::standard().sf(t),
    }
}

/// Quantile of Student's law with `df` degrees of freedom (`None`: normal law).
pub(crate) fn t_quantile(p: f64, df: Option<f64>) -> f64 {
    match student(df) {
        Some(law) => law.inverse_cdf(p),
        None => normal_quantile(p),
    }
}

/// Upper tail P(F > f) with `(numerator, denominator)` degrees of freedom.
pub(crate) fn f_upper_tail(f: f64, numerator: f64, denominator: f64) -> f64 {
    if !f.is_finite() {
        return if f == f64::INFINITY { 0.0 } else { f64::NAN };
    }
    FisherSnedecor::new(numerator, denominator).map_or(f64::NAN, |law| law.sf(f.max(0.0)))
}
