//! Where ticks stand and what they say.

use std::cmp::Reverse;

use super::model::Scale;

/// A labelled tick.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Value on the axis.
    pub value: f64,
    /// Text.
    pub label: String,
}

/// The ticks of an axis.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TickSet {
    /// Labelled ticks, increasing.
    pub major: Vec<Tick>,
    /// Values of ticks without label.
    pub minor: Vec<f64>,
}

/// Most labels on one axis.
const MOST: usize = 10;

/// Ticks for a range drawn over `length` pixels. `extent` is the room that a label
/// takes along the axis, including the gap to the next; labels never come nearer
/// than that. There are at least three labels wherever they fit.
///
/// Decimal logarithmic axes are labelled at decades, then at 1-2-5 subdivisions,
/// then at every digit, then at evenly spaced round numbers, whichever first
/// gives three labels; binary ones at powers of two, then at multiples of one.
pub fn ticks(
    scale: Scale,
    low: f64,
    high: f64,
    length: f64,
    extent: &dyn Fn(&str) -> f64,
) -> TickSet {
    let (a, b) = (scale.forward(low), scale.forward(high));
    if !(a.is_finite() && b.is_finite() && a < b && length > 0.0) {
        return TickSet::default();
    }
    let axis = Room {
        scale,
        low,
        high,
        length,
        extent,
    };
    match scale {
        Scale::Linear => axis.choose(linear_candidates(low, high, length)),
        Scale::Log10 => axis.choose(log10_candidates(low, high)),
        Scale::Log2 => axis.choose(log2_candidates(low, high)),
    }
}

/// Ticks at given increasing values, such as the cell centres of a heat map: all
/// of them if the labels fit, else every second, every third and so on.
pub fn ticks_at(
    scale: Scale,
    values: &[f64],
    (low, high): (f64, f64),
    length: f64,
    extent: &dyn Fn(&str) -> f64,
) -> TickSet {
    let axis = Room {
        scale,
        low,
        high,
        length,
        extent,
    };
    let labels = value_labels(values);
    let all: Vec<Tick> = values
        .iter()
        .zip(labels)
        .map(|(&value, label)| Tick { value, label })
        .collect();
    for stride in 1..=all.len() {
        let major: Vec<Tick> = all.iter().step_by(stride).cloned().collect();
        if axis.fits(&major) {
            return TickSet {
                minor: minor_of(values.to_vec(), &major),
                major,
            };
        }
    }
    TickSet {
        major: Vec::new(),
        minor: values.to_vec(),
    }
}

struct Room<'a> {
    scale: Scale,
    low: f64,
    high: f64,
    length: f64,
    extent: &'a dyn Fn(&str) -> f64,
}

impl Room<'_> {
    fn position(&self, value: f64) -> f64 {
        let (a, b) = (self.scale.forward(self.low), self.scale.forward(self.high));
        (self.scale.forward(value) / 2.0 - a / 2.0) / (b / 2.0 - a / 2.0) * self.length
    }

    fn clear(&self, a: &Tick, b: &Tick) -> bool {
        let need = ((self.extent)(&a.label) + (self.extent)(&b.label)) / 2.0;
        self.position(b.value) - self.position(a.value) >= need
    }

    fn fits(&self, ticks: &[Tick]) -> bool {
        ticks.windows(2).all(|w| self.clear(&w[0], &w[1]))
    }

    /// The first candidate with at least three labels that all fit; failing that,
    /// the one with the most labels that fit after thinning.
    fn choose(&self, candidates: Vec<TickSet>) -> TickSet {
        let mut best = TickSet::default();
        for candidate in candidates {
            if candidate.major.len() > 3 * MOST {
                continue;
            }
            let whole = self.fits(&candidate.major);
            if whole && (3..=MOST).contains(&candidate.major.len()) {
                return candidate;
            }
            let mut kept: Vec<Tick> = Vec::new();
            let mut dropped = Vec::new();
            for tick in candidate.major {
                if kept.len() < MOST && kept.last().is_none_or(|k| self.clear(k, &tick)) {
                    kept.push(tick);
                } else {
                    dropped.push(tick.value);
                }
            }
            if kept.len() > best.major.len() {
                let mut minor = candidate.minor;
                minor.extend(dropped);
                minor.sort_by(f64::total_cmp);
                best = TickSet { major: kept, minor };
            }
        }
        best
    }
}

/// Slack at the ends of a range, as a fraction of its length.
const SLACK: f64 = 1e-9;

/// Multiples of `step` in a range, or nothing if there are too many.
fn multiples(low: f64, high: f64, step: f64) -> Vec<f64> {
    let slack = (high / step - low / step).abs() * SLACK;
    let first = (low / step - slack).ceil();
    let last = (high / step + slack).floor();
    if !(first.is_finite() && last.is_finite())
        || last - first > 200.0
        || first.abs().max(last.abs()) > 1e15
    {
        return Vec::new();
    }
    let mut out = Vec::new();
    let mut k = first;
    while k <= last {
        // Adding zero turns a negative zero into zero.
        out.push(k * step + 0.0);
        k += 1.0;
    }
    out
}

/// Round steps for a range, from coarse to fine: mantissa and decimal exponent.
fn round_steps(span: f64) -> Vec<(f64, i32)> {
    let top = span.log10().ceil() as i32;
    let mut steps = Vec::new();
    for exponent in (top - 3..=top).rev() {
        for mantissa in [5.0, 2.5, 2.0, 1.0] {
            steps.push((mantissa, exponent));
        }
    }
    steps
}

fn power_of_ten(exponent: i32) -> f64 {
    // Parsed, because powi is off by an ulp for some exponents.
    format!("1e{exponent}").parse().unwrap_or(f64::NAN)
}

fn linear_candidates(low: f64, high: f64, length: f64) -> Vec<TickSet> {
    // About one label every 65 pixels; the steps nearest to that come first.
    let target = (length / 65.0).round().clamp(3.0, 7.0) as usize;
    let mut sets: Vec<(usize, TickSet)> = Vec::new();
    for (mantissa, exponent) in round_steps(high - low) {
        let step = mantissa * power_of_ten(exponent);
        let values = if step.is_normal() {
            multiples(low, high, step)
        } else {
            Vec::new()
        };
        if values.len() < 2 || values.len() > MOST {
            continue;
        }
        let decimals = if mantissa == 2.5 {
            1 - exponent
        } else {
            -exponent
        };
        let labels = linear_labels(&values, exponent, decimals);
        let major: Vec<Tick> = values
            .iter()
            .zip(labels)
            .map(|(&value, label)| Tick { value, label })
            .collect();
        // A step of 2.5 is less usual: only if it is much nearer to the target.
        let odd = if mantissa == 2.5 { 3 } else { 0 };
        let distance = 2 * major.len().abs_diff(target) + odd;
        sets.push((
            distance,
            TickSet {
                major,
                minor: Vec::new(),
            },
        ));
    }
    sets.sort_by_key(|(distance, set)| (*distance, Reverse(set.major.len())));
    sets.into_iter().map(|(_, set)| set).collect()
}

/// Labels of evenly spaced values: plain, or with one common power of ten.
fn linear_labels(values: &[f64], exponent: i32, decimals: i32) -> Vec<String> {
    let largest = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let plain = largest < 99_999.5 && exponent >= -5;
    if plain {
        return values
            .iter()
            .map(|&v| minus(&format!("{v:.*}", decimals.max(0) as usize)))
            .collect();
    }
    let common = largest.log10().floor() as i32;
    let digits = (decimals + common).clamp(0, 15) as usize;
    values
        .iter()
        .map(|&v| {
            if v == 0.0 {
                return "0".to_owned();
            }
            let mantissa = v / power_of_ten(common);
            if digits == 0 && mantissa == 1.0 {
                return format!("10{}", superscript(common));
            }
            minus(&format!("{mantissa:.digits$}×10{}", superscript(common)))
        })
        .collect()
}

fn log10_candidates(low: f64, high: f64) -> Vec<TickSet> {
    let (a, b) = (low.log10(), high.log10());
    let slack = (b - a) * SLACK;
    let exponents: Vec<i32> = ((a - slack).ceil() as i32..=(b + slack).floor() as i32).collect();
    let inside = |v: f64| {
        let c = v.log10();
        c >= a - slack && c <= b + slack
    };
    let digits = |mantissas: &[u32]| -> Vec<(u32, i32)> {
        ((a - slack).floor() as i32..=(b + slack).floor() as i32)
            .flat_map(|e| mantissas.iter().map(move |&m| (m, e)))
            .filter(|&(m, e)| inside(f64::from(m) * power_of_ten(e)))
            .collect()
    };
    let value = |(m, e): (u32, i32)| {
        // Parsed as a whole: the nearest number to m × 10^e.
        format!("{m}e{e}").parse::<f64>().unwrap_or(f64::NAN)
    };
    let mut sets = Vec::new();
    for stride in [1, 2, 3, 4, 5, 10, 20, 25, 50, 100] {
        let picked: Vec<(u32, i32)> = exponents
            .iter()
            .filter(|&&e| e.rem_euclid(stride) == 0)
            .map(|&e| (1, e))
            .collect();
        let major: Vec<Tick> = picked
            .iter()
            .map(|&(m, e)| Tick {
                value: value((m, e)),
                label: decimal_label(m, e),
            })
            .collect();
        let minor = if stride == 1 && exponents.len() <= 8 {
            digits(&[1, 2, 3, 4, 5, 6, 7, 8, 9])
                .into_iter()
                .map(value)
                .collect()
        } else if exponents.len() <= 40 {
            exponents.iter().map(|&e| power_of_ten(e)).collect()
        } else {
            Vec::new()
        };
        sets.push(TickSet {
            minor: minor_of(minor, &major),
            major,
        });
    }
    if b - a < 3.5 {
        for mantissas in [&[1, 2, 5][..], &[1, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9]] {
            let major: Vec<Tick> = digits(mantissas)
                .into_iter()
                .map(|(m, e)| Tick {
                    value: value((m, e)),
                    label: decimal_label(m, e),
                })
                .collect();
            let minor = digits(&[1, 2, 3, 4, 5, 6, 7, 8, 9])
                .into_iter()
                .map(value)
                .collect();
            sets.push(TickSet {
                minor: minor_of(minor, &major),
                major,
            });
        }
    }
    if b - a < 1.0 {
        sets.extend(linear_candidates(low, high, 450.0));
    }
    sets
}

fn log2_candidates(low: f64, high: f64) -> Vec<TickSet> {
    let (a, b) = (low.log2(), high.log2());
    let slack = (b - a) * SLACK;
    let exponents: Vec<i32> = ((a - slack).ceil() as i32..=(b + slack).floor() as i32).collect();
    let mut sets = Vec::new();
    for stride in [1, 2, 3, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100, 128, 256] {
        let picked: Vec<i32> = exponents
            .iter()
            .copied()
            .filter(|e| e.rem_euclid(stride) == 0)
            .collect();
        let labels = binary_labels(&picked);
        let major: Vec<Tick> = picked
            .iter()
            .zip(labels)
            .map(|(&e, label)| Tick {
                value: f64::from(e).exp2(),
                label,
            })
            .collect();
        let minor = if exponents.len() <= 60 {
            exponents.iter().map(|&e| f64::from(e).exp2()).collect()
        } else {
            Vec::new()
        };
        sets.push(TickSet {
            minor: minor_of(minor, &major),
            major,
        });
    }
    if b - a < 3.0 {
        // Multiples of a power of two, coarse to fine.
        let top = (high - low).log2().ceil() as i32;
        let mut multiples_of = Vec::new();
        for exponent in (top - 4..=top).rev() {
            let step = f64::from(exponent).exp2();
            if !step.is_normal() {
                continue;
            }
            let values = multiples(low, high, step);
            let labels = if high < 99_999.5 && exponent >= -4 {
                let decimals = (-exponent).max(0) as usize;
                values.iter().map(|v| format!("{v:.decimals$}")).collect()
            } else {
                value_labels(&values)
            };
            multiples_of.push(TickSet {
                major: values
                    .into_iter()
                    .zip(labels)
                    .map(|(value, label)| Tick { value, label })
                    .collect(),
                minor: Vec::new(),
            });
        }
        multiples_of.sort_by_key(|set: &TickSet| set.major.len().abs_diff(5));
        sets.extend(multiples_of);
    }
    sets
}

/// The values that carry no label.
fn minor_of(mut values: Vec<f64>, major: &[Tick]) -> Vec<f64> {
    values.retain(|v| {
        major
            .iter()
            .all(|t| (t.value - v).abs() > 1e-9 * v.abs().max(t.value.abs()))
    });
    values
}

/// `m × 10^e`: in full from 0.001 to 9000, else with a power of ten.
fn decimal_label(m: u32, e: i32) -> String {
    match (m, e) {
        (_, 0..=3) => format!("{}", m * 10u32.pow(e as u32)),
        (_, -3..=-1) => format!("{:.*}", (-e) as usize, f64::from(m) * power_of_ten(e)),
        (1, _) => format!("10{}", superscript(e)),
        _ => format!("{m}×10{}", superscript(e)),
    }
}

/// Powers of two: in full from 1/8 to 65536, else all as powers.
fn binary_labels(exponents: &[i32]) -> Vec<String> {
    let plain = exponents.iter().all(|e| (-3..=16).contains(e));
    exponents
        .iter()
        .map(|&e| {
            if plain {
                format!("{}", f64::from(e).exp2())
            } else {
                format!("2{}", superscript(e))
            }
        })
        .collect()
}

/// Labels of arbitrary values: powers of two as such, whole numbers in full,
/// anything else to three digits.
fn value_labels(values: &[f64]) -> Vec<String> {
    let powers: Option<Vec<i32>> = values
        .iter()
        .map(|&v| {
            let e = v.log2().round();
            (v > 0.0 && e.exp2() == v).then_some(e as i32)
        })
        .collect();
    if let Some(exponents) = powers {
        return binary_labels(&exponents);
    }
    values.iter().map(|&v| short(v)).collect()
}

/// A number in few characters: three significant digits unless it is whole.
pub(super) fn short(v: f64) -> String {
    let size = v.abs();
    if v == 0.0 {
        return "0".to_owned();
    }
    if size < 99_999.5 && v.fract() == 0.0 {
        return minus(&format!("{v}"));
    }
    let digits = format!("{v:.2e}");
    let Some((mantissa, exponent)) = digits.split_once('e') else {
        return digits;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-3..5).contains(&exponent) {
        let text = format!("{v:.*}", (2 - exponent).max(0) as usize);
        return minus(trim_zeros(&text));
    }
    let mantissa = trim_zeros(mantissa);
    if mantissa == "1" {
        format!("10{}", superscript(exponent))
    } else {
        minus(&format!("{mantissa}×10{}", superscript(exponent)))
    }
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

fn minus(text: &str) -> String {
    text.replace('-', "−")
}

/// An integer in superscript characters.
fn superscript(e: i32) -> String {
    e.to_string()
        .chars()
        .map(|c| match c {
            '-' => '⁻',
            '0' => '⁰',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            '4' => '⁴',
            '5' => '⁵',
            '6' => '⁶',
            '7' => '⁷',
            '8' => '⁸',
            _ => '⁹',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(label: &str) -> f64 {
        label.chars().count() as f64 * 8.0 + 10.0
    }

    fn labels(scale: Scale, low: f64, high: f64, length: f64) -> Vec<String> {
        let set = ticks(scale, low, high, length, &extent);
        check(scale, low, high, length, &set);
        set.major.into_iter().map(|t| t.label).collect()
    }

    fn check(scale: Scale, low: f64, high: f64, length: f64, set: &TickSet) {
        let at = |v: f64| {
            let (a, b) = (scale.forward(low), scale.forward(high));
            (scale.forward(v) / 2.0 - a / 2.0) / (b / 2.0 - a / 2.0) * length
        };
        for pair in set.major.windows(2) {
            let gap = at(pair[1].value) - at(pair[0].value);
            let need = (extent(&pair[0].label) + extent(&pair[1].label)) / 2.0;
            assert!(gap >= need, "{pair:?} on {low}..{high} over {length}");
            assert_ne!(pair[0].label, pair[1].label, "{low}..{high}");
        }
        for v in set
            .major
            .iter()
            .map(|t| t.value)
            .chain(set.minor.iter().copied())
        {
            assert!(
                (-0.01..=length + 0.01).contains(&at(v)),
                "{v} on {low}..{high}"
            );
        }
    }

    #[test]
    fn decades() {
        assert_eq!(
            labels(Scale::Log10, 1.0, 1e5, 500.0),
            ["1", "10", "100", "1000", "10⁴", "10⁵"]
        );
        assert_eq!(
            labels(Scale::Log10, 1e-5, 0.5, 500.0),
            ["10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1"]
        );
    }

    #[test]
    fn subdivisions_where_decades_are_few() {
        assert_eq!(
            labels(Scale::Log10, 40.0, 3000.0, 500.0),
            ["50", "100", "200", "500", "1000", "2000"]
        );
        assert_eq!(
            labels(Scale::Log10, 4000.0, 60_000.0, 500.0),
            ["5000", "10⁴", "2×10⁴", "5×10⁴"]
        );
    }

    #[test]
    fn narrow_ranges_have_three_labels() {
        assert_eq!(labels(Scale::Log10, 100.0, 150.0, 500.0).len(), 6);
        assert_eq!(
            labels(Scale::Log2, 64.0, 96.0, 500.0),
            ["64", "72", "80", "88", "96"]
        );
        for low in [0.013, 1.0, 1.7, 64.0, 99.0, 950.0, 12_345.0, 3e7] {
            for scale in [Scale::Log10, Scale::Log2, Scale::Linear] {
                for factor in [1.1, 1.5, 2.0, 5.0, 20.0] {
                    let found = labels(scale, low, low * factor, 500.0);
                    assert!(found.len() >= 3, "{scale:?} {low} × {factor}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn huge_ranges_stay_sparse() {
        for (low, high) in [(1e-12, 1e12), (1e-300, 1e300), (1.0, 1e40)] {
            for scale in [Scale::Log10, Scale::Log2] {
                let found = labels(scale, low, high, 400.0);
                assert!(
                    (3..=MOST).contains(&found.len()),
                    "{low}..{high}: {found:?}"
                );
            }
        }
        let found = labels(Scale::Linear, f64::MIN, f64::MAX, 400.0);
        assert!(found.len() <= MOST);
    }

    #[test]
    fn powers_of_two() {
        assert_eq!(
            labels(Scale::Log2, 60.0, 1100.0, 400.0),
            ["64", "128", "256", "512", "1024"]
        );
        assert_eq!(
            labels(Scale::Log2, 0.2, 3.0, 400.0),
            ["0.25", "0.5", "1", "2"]
        );
        let found = labels(Scale::Log2, 1024.0, 2f64.powi(24), 400.0);
        assert!(found.contains(&"2¹²".to_owned()), "{found:?}");
    }

    #[test]
    fn linear_ticks_are_round() {
        assert_eq!(
            labels(Scale::Linear, 0.0, 1.0, 400.0),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(
            labels(Scale::Linear, -1.0, 1.0, 300.0),
            ["−1.0", "−0.5", "0.0", "0.5", "1.0"]
        );
        assert_eq!(
            labels(Scale::Linear, 0.0, 4e6, 500.0),
            ["0", "10⁶", "2×10⁶", "3×10⁶", "4×10⁶"]
        );
    }

    #[test]
    fn little_room_still_never_overlaps() {
        for length in [20.0, 45.0, 80.0, 120.0] {
            for (low, high) in [(1.0, 1.5), (3.0, 4000.0), (0.001, 1e9)] {
                for scale in [Scale::Linear, Scale::Log10, Scale::Log2] {
                    labels(scale, low, high, length);
                }
            }
        }
    }

    #[test]
    fn degenerate_ranges_have_no_ticks_or_are_padded_first() {
        assert!(labels(Scale::Log10, 5.0, 5.0, 400.0).is_empty());
        assert!(
            ticks(Scale::Log10, 0.0, 5.0, 400.0, &extent)
                .major
                .is_empty()
        );
        assert!(
            ticks(Scale::Linear, f64::NAN, 5.0, 400.0, &extent)
                .major
                .is_empty()
        );
        for scale in [Scale::Linear, Scale::Log10, Scale::Log2] {
            let (low, high) = super::super::scale::auto_range(scale, [128.0], 0.05);
            assert!(labels(scale, low, high, 400.0).len() >= 3);
        }
    }

    #[test]
    fn given_values_are_thinned() {
        let centres: Vec<f64> = (4..14).map(|e| f64::from(e).exp2()).collect();
        let set = ticks_at(Scale::Log2, &centres, (12.0, 12_000.0), 800.0, &extent);
        assert_eq!(set.major.len(), 10);
        let set = ticks_at(Scale::Log2, &centres, (12.0, 12_000.0), 250.0, &extent);
        check(Scale::Log2, 12.0, 12_000.0, 250.0, &set);
        assert_eq!(set.major.len() + set.minor.len(), 10);
        assert!(set.major.len() >= 3);
    }

    #[test]
    fn short_numbers() {
        for (v, text) in [
            (0.0, "0"),
            (1500.0, "1500"),
            (0.125, "0.125"),
            (1.5, "1.5"),
            (1234.56, "1235"),
            (-2.0, "−2"),
            (1.5e7, "1.5×10⁷"),
            (1e-7, "10⁻⁷"),
        ] {
            assert_eq!(short(v), text);
        }
    }
}
