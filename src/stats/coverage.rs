//! What share of the intervals of each kind hold the truth, as measured on synthetic data.
//!
//! The numbers are those of the table in `docs/calibration.md`, which `examples/calibration.rs`
//! prints; `tests/calibration_table.rs` holds them to it. Reports print them beside the intervals.

/// A kind of 95 % interval that reports print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// A threshold of an accuracy by a probit with its allowance.
    ProbitThreshold,
    /// A threshold of an accuracy by the shape of the formula's curve.
    ShapeThreshold,
    /// A critical value by a noise ratio.
    NoiseRatio,
    /// A slope of a log-log regression.
    Slope,
    /// A further response at the centre of a log-log regression.
    Prediction,
    /// The logarithm of a mean square over trials.
    ScoreSize,
    /// A mean over a few trials.
    Trials,
}

/// Coverage over some rows of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coverage {
    /// Which synthetic data, as the reports say it; may be empty.
    pub data: &'static str,
    /// The rows are those that begin with the first and hold the second.
    pub rows: (&'static str, &'static str),
    /// Lowest and highest measured share.
    pub range: (f64, f64),
}

impl Interval {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::ProbitThreshold,
        Self::ShapeThreshold,
        Self::NoiseRatio,
        Self::Slope,
        Self::Prediction,
        Self::ScoreSize,
        Self::Trials,
    ];

    /// Measured coverages; the nominal one is .95.
    #[must_use]
    pub fn coverage(self) -> &'static [Coverage] {
        match self {
            Self::ProbitThreshold => &[Coverage {
                data: "curves of either asymmetry or none",
                rows: ("threshold by probit, allowance .03:", ""),
                range: (0.946, 1.0),
            }],
            Self::ShapeThreshold => &[
                Coverage {
                    data: "the shape is right",
                    rows: ("threshold by its own shape:", ""),
                    range: (0.954, 1.0),
                },
                Coverage {
                    data: "the asymmetry is mirrored",
                    rows: ("threshold by the mirrored shape:", ""),
                    range: (0.891, 0.975),
                },
            ],
            Self::NoiseRatio => &[Coverage {
                data: "",
                rows: ("critical value by noise ratio,", ""),
                range: (0.943, 0.971),
            }],
            Self::Slope => &[
                Coverage {
                    data: "48 points of uneven errors or scatter, censored or not",
                    rows: ("slope,", ""),
                    range: (0.951, 0.962),
                },
                Coverage {
                    data: "seven points and three factors",
                    rows: ("slope of a region,", ""),
                    range: (0.998, 0.998),
                },
            ],
            Self::Prediction => &[Coverage {
                data: "points of uneven errors or scatter",
                rows: ("prediction at the centre,", ""),
                range: (0.960, 0.970),
            }],
            Self::ScoreSize => &[
                Coverage {
                    data: "skewed squares",
                    rows: ("logarithm of a score's size,", " trials, skewed"),
                    range: (0.946, 0.953),
                },
                Coverage {
                    data: "mildly skewed squares",
                    rows: ("logarithm of a score's size,", " mildly"),
                    range: (0.954, 0.956),
                },
            ],
            Self::Trials => &[
                Coverage {
                    data: "normal trials",
                    rows: ("mean of ", " normal trials"),
                    range: (0.949, 0.953),
                },
                Coverage {
                    data: "exponential trials, an extreme case",
                    rows: ("mean of ", " exponential trials"),
                    range: (0.879, 0.890),
                },
            ],
        }
    }

    /// What the reports call the interval.
    fn words(self) -> &'static str {
        match self {
            Self::ProbitThreshold => "one threshold by a probit with its allowance",
            Self::ShapeThreshold => "one threshold by the shape of the formula's curve",
            Self::NoiseRatio => "one critical value by a noise ratio",
            Self::Slope => "a slope",
            Self::Prediction => "a further value at the centre of the design",
            Self::ScoreSize => "the logarithm of one size of a score",
            Self::Trials => "a mean over 3 to 8 trials",
        }
    }
}

/// A sentence on the coverage of the intervals of a table or figure.
///
/// # Examples
/// ```
/// use recall_capacity::stats::coverage::{Interval, note};
/// let note = note(&[Interval::NoiseRatio]);
/// assert!(note.contains("one critical value by a noise ratio .943 to .971"));
/// ```
#[must_use]
pub fn note(intervals: &[Interval]) -> String {
    let share = |x: f64| format!("{x:.3}").trim_start_matches('0').to_owned();
    let of = |c: &Coverage| {
        let (low, high) = (share(c.range.0), share(c.range.1));
        let range = if low == high {
            low
        } else {
            format!("{low} to {high}")
        };
        if c.data.is_empty() {
            range
        } else {
            format!("{range} ({})", c.data)
        }
    };
    let parts: Vec<String> = intervals
        .iter()
        .map(|i| {
            let ranges: Vec<String> = i.coverage().iter().map(of).collect();
            format!("{} {}", i.words(), ranges.join(", "))
        })
        .collect();
    format!(
        "Coverage of 95 % intervals, measured on synthetic data ([docs/calibration.md](../../docs/calibration.md)): {}.",
        parts.join("; ")
    )
}
