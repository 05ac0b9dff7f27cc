use super::*;
use crate::attention::budget;

fn outputs_orthonormal(v: usize, d: usize, len: usize, n: u64) -> Setting {
    Setting::new(v, d, len, n).with_embeddings(Embedding::Gaussian, Embedding::Orthonormal)
}

#[test]
fn attention_laws_are_the_leading_noise_at_large_sizes() {
    // Each law says: the noise of its term at N = requirement is 1/r of the signal.
    let law = |s: &Setting, regime: Regime, term: usize| {
        let n = required_samples(s, regime, 0.5).unwrap();
        let at = Variable::Samples.set(s, n.round() as u64);
        let r = (2.0 * (s.len as f64).ln()).sqrt();
        budget(&at).variance[term].sqrt() * r
    };
    for (s, regime, term) in [
        (
            Setting::new(1 << 22, 1 << 9, 1 << 17, 1),
            Regime::GradientNoise,
            3,
        ),
        (
            Setting::new(1 << 14, 1 << 7, 1 << 17, 1),
            Regime::MeanBias,
            0,
        ),
        (Setting::new(1 << 22, 1 << 9, 1 << 18, 1), Regime::Cross, 2),
        (
            outputs_orthonormal(1 << 14, 1 << 6, 1 << 19, 1),
            Regime::GradientNoise,
            3,
        ),
        (
            outputs_orthonormal(1 << 16, 1 << 9, 1 << 16, 1),
            Regime::MeanBias,
            0,
        ),
        (
            outputs_orthonormal(1 << 17, 1 << 9, 1 << 17, 1),
            Regime::Cross,
            2,
        ),
    ] {
        let ratio = law(&s, regime, term);
        assert!((ratio - 1.0).abs() < 0.04, "{regime:?} {s:?} {ratio}");
    }
    let mut balanced = Setting::new(1 << 22, 1 << 9, 1 << 12, 1);
    balanced.labels = Labels::Balanced;
    let n = required_samples(&balanced, Regime::GradientNoise, 0.5).unwrap();
    let n = (n / balanced.vocab as f64).round() as u64 * balanced.vocab as u64;
    let at = budget(&Variable::Samples.set(&balanced, n));
    assert!(at.variance[0] == 0.0 && at.variance[2] == 0.0);
    assert_eq!(
        required_samples(&balanced, Regime::MeanBias, 0.5),
        Some(0.0)
    );
}

#[test]
fn unequal_dimensions_enter_where_the_budget_says() {
    for (regime, term) in [
        (Regime::GradientNoise, 3),
        (Regime::Cross, 2),
        (Regime::MeanBias, 0),
    ] {
        let mut s = Setting::new(1 << 22, 1 << 9, 1 << 14, 1 << 36);
        let before = (required_samples(&s, regime, 0.5).unwrap(), budget(&s));
        s.dim_out *= 4;
        let after = (required_samples(&s, regime, 0.5).unwrap(), budget(&s));
        let law = after.0 / before.0;
        let measured = (after.1.variance[term] / before.1.variance[term]).sqrt();
        assert!(
            (law / measured - 1.0).abs() < 0.02,
            "{regime:?} {law} {measured}"
        );
    }
}

#[test]
fn asymptotic_thresholds_invert_the_closed_forms() {
    let s = Setting::new(4096, 64, 1024, 1 << 20);
    let (v, d, len, n) = (4096f64, 64f64, 1024f64, f64::from(1 << 20));
    let r = (2.0 * len.ln()).sqrt();
    let value = |q, x| asymptotic(&s, q, x, 0.5).value().unwrap();
    let samples = r
        * (len * v)
            .max(len * len * v.sqrt())
            .max(len.powf(1.5) * v / d.sqrt());
    assert!(
        (value(Quantity::Attention, Variable::Samples) / (samples / d.powf(1.5)) - 1.0).abs()
            < 1e-12
    );
    let vocab = (n * d.powf(1.5) / (len * r))
        .min((n * d.powf(1.5) / (len * len * r)).powi(2))
        .min(n * d * d / (len.powf(1.5) * r));
    assert!((value(Quantity::Attention, Variable::Vocab) / vocab - 1.0).abs() < 1e-9);
    let dim = (r * len * v / n)
        .max(r * len * len * v.sqrt() / n)
        .powf(2.0 / 3.0)
        .max((r * len.powf(1.5) * v / n).sqrt())
        .max(2.0 * len.ln());
    assert!((value(Quantity::Attention, Variable::Dim) / dim - 1.0).abs() < 1e-9);
    let longest = value(Quantity::Attention, Variable::Len);
    let again = Setting {
        len: longest as usize,
        ..s
    };
    let back = asymptotic(&again, Quantity::Attention, Variable::Samples, 0.5)
        .value()
        .unwrap();
    assert!((back / n - 1.0).abs() < 0.01);
    let dim = (2.0 * v * v.ln() * (1.0 + v / n)).sqrt();
    assert!((value(Quantity::Recall, Variable::Dim) / dim - 1.0).abs() < 1e-9);
    let tokens = value(Quantity::Recall, Variable::Vocab);
    assert!((2.0 * tokens * tokens.ln() * (1.0 + tokens / n) / (d * d) - 1.0).abs() < 1e-6);
    let wide = Setting::new(1024, 512, 64, 100);
    let samples = asymptotic(&wide, Quantity::Recall, Variable::Samples, 0.5)
        .value()
        .unwrap();
    assert!((samples - 1024.0 * 2f64.ln()).abs() < 1e-9);
}

#[test]
fn laws_say_where_they_are_not_stated() {
    let orth = Setting::new(256, 64, 16, 1000)
        .with_embeddings(Embedding::Orthonormal, Embedding::Orthonormal);
    for q in Quantity::ALL {
        assert_eq!(asymptotic(&orth, q, Variable::Samples, 0.5).value(), None);
    }
    assert_eq!(
        finite_size(&orth, Quantity::Attention, Variable::Dim, 0.5),
        Threshold::none(NO_FREE_DIM)
    );
    let narrow = Setting::new(8, 8, 1024, 1);
    assert_eq!(regime(&narrow), Regime::Trigger);
    assert_eq!(
        asymptotic(&narrow, Quantity::Attention, Variable::Samples, 0.5),
        Threshold::none(why_not(Regime::Trigger))
    );
    for level in [0.0, 1.0, f64::NAN, -0.5] {
        assert_eq!(
            finite_size(&narrow, Quantity::Recall, Variable::Dim, level),
            Threshold::none(BAD_LEVEL)
        );
    }
    let text = serde_json::to_value(Threshold::at(2.0, "x")).unwrap();
    assert_eq!(
        text,
        serde_json::json!({"kind": "at", "value": 2.0, "formula": "x"})
    );
}

#[test]
fn regimes_are_found_on_their_grounds() {
    for (s, expected) in [
        (Setting::new(1024, 512, 8, 1), Regime::Coverage),
        (Setting::new(4096, 64, 8, 1), Regime::Memory),
        (Setting::new(4096, 512, 1 << 16, 1), Regime::MeanBias),
    ] {
        assert_eq!(regime(&s), expected, "{s:?}");
    }
    let mut balanced = Setting::new(1 << 14, 1 << 10, 1 << 18, 1);
    balanced.labels = Labels::Balanced;
    assert_eq!(regime(&balanced), Regime::GradientNoise);
    let attention = |d, len| regime_of(&Setting::new(4096, d, len, 1), Quantity::Attention);
    assert_eq!(attention(64, 16), Regime::GradientNoise);
    assert_eq!(attention(16, 64), Regime::Cross);
    assert_eq!(attention(64, 1024), Regime::MeanBias);
    assert_eq!(attention(4, 64), Regime::Trigger);
}

/// The level is met on the right side of the threshold only.
fn crosses(s: &Setting, q: Quantity, x: Variable, level: f64) -> f64 {
    let found = finite_size(s, q, x, level);
    let value = found
        .value()
        .unwrap_or_else(|| panic!("{q:?} {x:?} {found:?}"));
    let at = |t: f64| accuracy_at(&x.set(s, t as u64), q).unwrap();
    let (below, above) = (
        at((value * 0.999).floor().max(1.0)),
        at((value * 1.001).ceil()),
    );
    assert!(
        (below < level) == x.helps() && (above < level) != x.helps(),
        "{q:?} {x:?} {value} {below} {above}"
    );
    value
}

#[test]
fn finite_size_thresholds_bracket_the_level() {
    let s = Setting::new(512, 96, 128, 4096);
    for q in Quantity::ALL {
        for x in Variable::ALL {
            if (q, x) != (Quantity::Recall, Variable::Len) {
                crosses(&s, q, x, 0.5);
            }
        }
    }
    let mut balanced = s;
    balanced.labels = Labels::Balanced;
    for q in Quantity::ALL {
        crosses(&balanced, q, Variable::Samples, 0.4);
        crosses(&balanced, q, Variable::Dim, 0.4);
    }
    let o = outputs_orthonormal(512, 48, 64, 8192);
    for x in [Variable::Samples, Variable::Dim, Variable::Vocab] {
        crosses(&o, Quantity::EndToEnd, x, 0.5);
    }
}

#[test]
fn end_to_end_is_the_strictest() {
    let s = Setting::new(512, 96, 128, 4096);
    for x in [Variable::Samples, Variable::Dim, Variable::Vocab] {
        let v = Quantity::ALL.map(|q| finite_size(&s, q, x, 0.5).value().unwrap());
        let parts = if x.helps() {
            v[0].max(v[1])
        } else {
            v[0].min(v[1])
        };
        assert!((v[2] >= parts * 0.999) == x.helps() || (v[2] / parts - 1.0).abs() < 1e-3);
    }
}

#[test]
fn recall_threshold_of_the_derivation() {
    // Root of the recall accuracy at one half for V = 1024, infinite data.
    let s = Setting {
        samples: Samples::Infinite,
        ..Setting::new(1024, 64, 4, 1)
    };
    let d = crosses(&s, Quantity::Recall, Variable::Dim, 0.5);
    assert!((d - 115.9).abs() < 2.0, "{d}");
}

#[test]
fn dense_recall_continues_the_poisson_sum() {
    for labels in [Labels::Iid, Labels::Balanced] {
        let mut s = Setting::new(256, 60, 8, 256 * DENSE);
        s.labels = labels;
        let next = Variable::Samples.set(&s, 256 * (DENSE + 1));
        let step = (recall_at(&next) - recall_at(&s)).abs();
        assert!(step < 2e-5, "{labels:?} {step}");
    }
}

#[test]
fn sure_attention_is_recall() {
    let s = Setting::new(512, 128, 8, 20_000);
    assert!(attention_accuracy(&s) > SURE);
    let difference = end_to_end_accuracy(&s) - recall_at(&s);
    assert!(difference.abs() < 1e-6, "{difference}");
}

#[test]
fn unreachable_levels_are_named() {
    let s = Setting::new(4096, 32, 8, 1000);
    for q in [Quantity::Recall, Quantity::EndToEnd] {
        assert_eq!(finite_size(&s, q, Variable::Samples, 0.5).value(), None);
    }
}

#[test]
fn noise_ratio_thresholds_and_their_slopes() {
    let mut s = Setting::new(1 << 18, 512, 1 << 15, 1);
    s.labels = Labels::Balanced;
    let c = 0.3;
    let n = noise_samples(&s, NoiseCriterion::Nominal, c)
        .value()
        .unwrap();
    let v = s.vocab as f64;
    let at = |k: f64| nominal_noise_ratio(&Variable::Samples.set(&s, (k * v) as u64));
    assert!(at((n / v).floor()) >= c && at((n / v).ceil()) < c);
    // The balanced law, leading order.
    let law = s.len as f64 * s.vocab as f64 / 512f64.powf(1.5) / c;
    assert!((n / law - 1.0).abs() < 0.1, "{n} {law}");
    let slopes = noise_slopes(&s, NoiseCriterion::Nominal, c).unwrap();
    for (measured, exponent) in [(slopes.vocab, 1.0), (slopes.dim, -1.5), (slopes.len, 1.0)] {
        assert!((measured - exponent).abs() < 0.06, "{slopes:?}");
    }
    let o = outputs_orthonormal(1 << 14, 64, 1 << 13, 1);
    let slopes = noise_slopes(&o, NoiseCriterion::Signal, 1.0).unwrap();
    for (measured, exponent) in [(slopes.vocab, 0.5), (slopes.dim, -1.5), (slopes.len, 2.0)] {
        assert!((measured - exponent).abs() < 0.06, "{slopes:?}");
    }
    assert_eq!(
        noise_samples(&o, NoiseCriterion::Signal, 1e-9).value(),
        None
    );
    assert!(
        noise_ratio(&Setting {
            labels: Labels::Balanced,
            ..Setting::new(64, 16, 8, 64)
        })
        .is_infinite()
    );
}

#[test]
fn nearly_sure_attention_multiplies_recall() {
    // The stand-in for many samples per token, where the formula can still be evaluated.
    for (v, d) in [(256, 56), (512, 80), (128, 36), (256, 128)] {
        let at = |len| Setting::new(v, d, len, v as u64 * MAX_PER_CLASS);
        // The longest sequence at which attention is sure enough: the worst case.
        let mut len = 16;
        while attention_accuracy(&at(len + 1 + len / 20)) > NEARLY_SURE {
            len += 1 + len / 20;
        }
        let s = at(len);
        let hit = attention_accuracy(&s);
        let difference = end_to_end_accuracy(&s) - hit * recall_at(&s);
        assert!(difference.abs() < 0.003, "{s:?} {hit} {difference}");
    }
}
