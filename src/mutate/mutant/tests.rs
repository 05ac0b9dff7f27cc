use super::*;
use crate::stats::interval::mean_of_seeds;

fn len(s: &Setting) -> f64 {
    s.len as f64
}

const LEN: DesignSize = DesignSize {
    name: "L",
    value: len,
    centre: 32.0,
};

fn mutant(site: Site, change: Change) -> Mutant {
    Mutant {
        site,
        change,
        axis: SearchAxis::Samples,
    }
}

fn setting() -> Setting {
    Setting::new(256, 32, 64, 2048)
}

const NOISE: Criterion = Criterion::NoiseRatio { level: 0.3 };

#[test]
fn a_change_has_its_size_and_is_centred() {
    let (s, centre) = (setting(), Setting::new(256, 32, 32, 2048));
    let up = Change::Exponent {
        size: LEN,
        by: 0.25,
    };
    assert_eq!(up.factor(&s), 2f64.powf(0.25));
    assert_eq!(up.factor(&centre), 1.0);
    let times = Change::Log {
        size: LEN,
        times: true,
    };
    let over = Change::Log {
        size: LEN,
        times: false,
    };
    assert!((times.factor(&s) - 1.2).abs() < 1e-12 && (over.factor(&s) - 1.0 / 1.2).abs() < 1e-12);
    assert_eq!(times.factor(&centre), 1.0);
    assert!(Change::Constant(1.4).is_gross() && Change::Constant(0.7).is_gross());
    assert!(up.is_gross() && !Change::Constant(1.2).is_gross() && !times.is_gross());
    assert!(!Change::Dropped.is_gross());
}

#[test]
fn the_unchanged_mutant_is_the_theory_at_every_site() {
    let s = setting();
    for site in [
        Site::NoiseRatio,
        Site::Accuracy(Quantity::Accuracy),
        Site::Accuracy(Quantity::Attention),
        Site::Term("gradient_noise"),
        Site::Budget,
        Site::Asymptotic,
        Site::AccuracyBound,
        Site::OracleBound,
        Site::Whitened,
        Site::QueryNoise,
        Site::Alignment,
    ] {
        let m = mutant(site, Change::Identity);
        let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-12 * b.abs(), "{site:?} {a} {b}");
        for q in [Quantity::Attention, Quantity::Recall, Quantity::Accuracy] {
            close(m.accuracy(q, &s), Theory.accuracy(q, &s));
        }
        for score in [Score::Spread, Score::Interference, Score::GradientNoise] {
            close(m.score(score, &s), Theory.score(score, &s));
        }
        let critical = |p: &dyn Predictor| p.critical(&s, SearchAxis::Samples, NOISE).unwrap();
        close(critical(&m), critical(&Theory));
        let half = Criterion::Accuracy {
            quantity: Quantity::Accuracy,
            level: 0.5,
        };
        let reached = |p: &dyn Predictor| {
            let answered = Setting::new(128, 64, 16, 1024);
            p.critical(&answered, SearchAxis::Samples, half).unwrap()
        };
        close(reached(&m), reached(&Theory));
        close(m.accuracy_bound(&s), Theory.accuracy_bound(&s));
        close(m.oracle_bound(&s, 1.0), Theory.oracle_bound(&s, 1.0));
        close(m.asymptotic("L", 2.0), 2.0);
        close(m.alignment_bound(&s, 0.3), 0.3);
    }
}

#[test]
fn each_site_changes_its_own_number_and_no_other() {
    let s = setting();
    let c = Change::Constant(1.4);
    let critical = |p: &dyn Predictor| p.critical(&s, SearchAxis::Samples, NOISE).unwrap();
    let m = mutant(Site::NoiseRatio, c);
    assert!((critical(&m) - critical(&Theory) - 1.4f64.ln()).abs() < 1e-12);
    assert_eq!(m.score(Score::Spread, &s), Theory.score(Score::Spread, &s));

    // Noise that is larger everywhere asks for more samples.
    let m = mutant(Site::Budget, c);
    for sum in [Score::Spread, Score::Interference] {
        assert!((m.score(sum, &s) / Theory.score(sum, &s) - 1.4).abs() < 1e-12);
    }
    let own = Score::GradientNoise;
    assert_eq!(m.score(own, &s), Theory.score(own, &s));
    let level = 0.3 / 1.4;
    let stricter = Criterion::NoiseRatio { level };
    let expected = Theory.critical(&s, SearchAxis::Samples, stricter).unwrap();
    assert!((critical(&m) - expected).abs() < 1e-9);

    let m = mutant(Site::QueryNoise, c);
    let noise = |p: &dyn Predictor| p.query_noise(&s).unwrap();
    assert!((noise(&m) - noise(&Theory) - 1.4f64.ln()).abs() < 1e-12);

    let m = mutant(Site::Alignment, Change::Constant(0.7));
    assert!((m.alignment_bound(&s, 0.5) - 0.35).abs() < 1e-12);

    let m = mutant(
        Site::Asymptotic,
        Change::Exponent {
            size: LEN,
            by: -0.5,
        },
    );
    assert_eq!(m.asymptotic("L", 2.0), 1.5);
    assert_eq!(m.asymptotic("V", 0.5), 0.5);
    assert_eq!(critical(&m), critical(&Theory));

    let m = mutant(Site::AccuracyBound, Change::Constant(2.0));
    let half = Setting {
        samples: Samples::Finite(1024),
        ..s
    };
    assert_eq!(m.accuracy_bound(&s), Theory.accuracy_bound(&half));
    assert_eq!(m.oracle_bound(&s, 1.0), Theory.oracle_bound(&s, 1.0));
    let m = mutant(Site::OracleBound, Change::Constant(2.0));
    assert_eq!(m.oracle_bound(&s, 1.0), Theory.oracle_bound(&half, 1.0));
    assert_eq!(m.accuracy_bound(&s), Theory.accuracy_bound(&s));

    let balanced = Setting {
        labels: recall_theory::Labels::Balanced,
        ..Setting::new(128, 64, 8, 2048)
    };
    let m = mutant(Site::Whitened, c);
    let ratio = m.whitened_samples(&balanced, 0.5).unwrap()
        / Theory.whitened_samples(&balanced, 0.5).unwrap();
    assert!((ratio - 1.4).abs() < 1e-12);
}

#[test]
fn a_term_moves_its_own_size_and_its_share_of_the_whole() {
    let s = setting();
    let noise = Noise::of(&s);
    let own = noise
        .terms
        .iter()
        .find(|t| t.0 == "gradient_noise")
        .unwrap()
        .1;
    let m = mutant(Site::Term("gradient_noise"), Change::Constant(2.0));
    let ratio = |score| m.score(score, &s) / Theory.score(score, &s);
    assert!((ratio(Score::GradientNoise) - 2.0).abs() < 1e-12);
    assert_eq!(ratio(Score::MeanBias), 1.0);
    let expected = (noise.spread().powi(2) + 3.0 * own).sqrt();
    assert!((m.score(Score::Spread, &s) - expected).abs() < 1e-12);

    let dropped = mutant(Site::Term("gradient_noise"), Change::Dropped);
    let expected = (noise.spread().powi(2) - own).sqrt();
    assert!((dropped.score(Score::Spread, &s) - expected).abs() < 1e-12);
    assert_eq!(
        dropped.score(Score::GradientNoise, &s),
        Theory.score(Score::GradientNoise, &s)
    );
    // More noise asks for more samples, less noise for fewer.
    let critical = |p: &dyn Predictor| p.critical(&s, SearchAxis::Samples, NOISE).unwrap();
    assert!(critical(&dropped) < critical(&Theory) && critical(&Theory) < critical(&m));
}

#[test]
fn an_accuracy_moves_along_its_axis() {
    let s = setting();
    let half = Setting {
        samples: Samples::Finite(1024),
        ..s
    };
    for q in [Quantity::Attention, Quantity::Recall, Quantity::Accuracy] {
        let m = mutant(Site::Accuracy(q), Change::Constant(2.0));
        let (moved, direct) = (m.accuracy(q, &s), Theory.accuracy(q, &half));
        assert!((moved - direct).abs() < 1e-6, "{q:?} {moved} {direct}");
    }
    // A part moves the whole in proportion.
    let m = mutant(Site::Accuracy(Quantity::Recall), Change::Constant(2.0));
    let expected = Theory.accuracy(Quantity::Accuracy, &s)
        * Theory.accuracy(Quantity::Recall, &half)
        / Theory.accuracy(Quantity::Recall, &s);
    assert!((m.accuracy(Quantity::Accuracy, &s) - expected).abs() < 1e-6);
    // The population knows no sample size.
    let population = Setting {
        samples: Samples::Infinite,
        ..s
    };
    let m = mutant(Site::Accuracy(Quantity::Attention), Change::Constant(2.0));
    assert_eq!(
        m.accuracy(Quantity::Attention, &population),
        Theory.accuracy(Quantity::Attention, &population)
    );
}

#[test]
fn a_critical_value_is_where_the_changed_accuracy_has_the_level() {
    let s = Setting::new(128, 64, 16, 1024);
    let (quantity, level) = (Quantity::Accuracy, 0.5);
    let half = Criterion::Accuracy { quantity, level };
    let critical = |p: &dyn Predictor| p.critical(&s, SearchAxis::Samples, half).unwrap();
    let grown = Change::Exponent {
        size: DesignSize {
            name: "N",
            value: |s| s.samples.as_f64(),
            centre: 4096.0,
        },
        by: 0.25,
    };
    for change in [Change::Constant(2.0), Change::Constant(0.7), grown] {
        for q in [Quantity::Accuracy, Quantity::Attention, Quantity::Recall] {
            let m = mutant(Site::Accuracy(q), change);
            let log = critical(&m);
            let there = at(&s, SearchAxis::Samples, log.exp().round() as u64);
            let accuracy = m.accuracy(quantity, &there);
            assert!(
                (accuracy - level).abs() < 5e-3,
                "{q:?} {change:?} {accuracy}"
            );
        }
    }
    // The whole moves by the factor, a part by less, a factor that is no part not at all.
    let shift = |q| critical(&mutant(Site::Accuracy(q), Change::Constant(2.0))) - critical(&Theory);
    assert!((shift(Quantity::Accuracy) - 2f64.ln()).abs() < 1e-12);
    for part in [Quantity::Attention, Quantity::Recall] {
        assert!((0.01..2f64.ln()).contains(&shift(part)), "{part:?}");
    }
    assert_eq!(shift(Quantity::OneStep), 0.0);
}

#[test]
fn interpolation_between_sample_sizes_is_close() {
    let mut errors = Vec::new();
    for n in [90, 333, 1111, 3000, 7777] {
        let s = Setting {
            samples: Samples::Finite(n),
            ..Setting::new(256, 64, 16, 1)
        };
        for q in [Quantity::Attention, Quantity::Recall, Quantity::Accuracy] {
            let direct = Theory.accuracy(q, &s);
            let between = accuracy_at(q, &s, SearchAxis::Samples, n as f64);
            errors.push((between - direct).abs());
            assert!(
                (between - direct).abs() < 3e-3,
                "{q:?} {n} {between} {direct}"
            );
        }
    }
    assert!(mean_of_seeds(&errors, 0.95).unwrap().value < 1e-3);
}
