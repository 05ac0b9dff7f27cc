//! Finite steps against the limits of small and of strong ones, at fixed seeds.
#![allow(clippy::unwrap_used)] // helpers outside test functions unwrap too

#[path = "common/trials.rs"]
mod trials;

use recall_capacity::descent::Rates;
use recall_capacity::descent::early::{self, Training, Trial};
use recall_capacity::descent::exact::{self, Problem};
use recall_capacity::embedding::Embeddings;
use recall_capacity::rng::{Purpose, StreamKey};
use recall_capacity::task::{Batch, Permutation};
use recall_theory::accuracy::attention_accuracy;
use recall_theory::attention::nominal_signal;
use recall_theory::finite_steps::{
    query_rate, saturating_strength, small_step, step_deviation, training_attention_accuracy,
};
use recall_theory::{Attention, Labels, Samples, Setting};
use trials::{mean, simulate};

/// What one trial of the exact engine shows at a small rate against the limit engine, per unit of
/// the relative rate `eta/(L^2 V)`.
struct Measured {
    signal: f64,
    scores_squared: f64,
    change_squared: f64,
    query_squared: f64,
    value: f64,
    logit_squared: f64,
}

/// Gain per unit of score in place of saturation.
const GAIN: f64 = 1e9;

fn square(x: &[f64]) -> f64 {
    x.iter().map(|a| a * a).sum()
}

fn centred(x: &[f64]) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter().map(|a| a - mean).collect()
}

/// What a trial draws.
struct World {
    embeddings: Embeddings<f64>,
    query: Vec<f64>,
    permutation: Permutation,
    train: Batch,
    test: Batch,
}

fn draw(setting: &Setting, seed: u64) -> World {
    let key = StreamKey::from_text(&format!("finite steps {seed}"));
    let embeddings = Embeddings::draw(setting, &key);
    let query = embeddings.draw_query(setting.input, &key);
    let permutation = Permutation::random(setting.vocab, &mut key.stream(Purpose::Permutation));
    let Samples::Finite(n) = setting.samples else {
        panic!("a finite batch is needed")
    };
    let batch = |purpose, n, labels| {
        let mut stream = key.stream(purpose);
        Batch::draw(&mut stream, &permutation, setting.len, n, labels)
    };
    let train = batch(Purpose::Train, n as usize, setting.labels);
    let test = batch(Purpose::Test, 10, Labels::Iid);
    World {
        embeddings,
        query,
        permutation,
        train,
        test,
    }
}

fn measure(setting: &Setting, seed: u64, rate: f64) -> Measured {
    let World {
        embeddings,
        query,
        permutation,
        train,
        test,
    } = draw(setting, seed);
    let (_, want) = early::run(&Trial {
        setting,
        embeddings: &embeddings,
        permutation: &permutation,
        training: Training::Batch(&train),
        test: &test,
        decompose: false,
    });
    let norm2 = square(&query);
    let rates = Rates {
        eta: rate * (setting.len as f64).powi(2) * setting.vocab as f64,
        gamma_w: GAIN / (norm2 * rate),
        gamma_v: 1.0,
    };
    let trial = exact::run(&embeddings, &query, &train, &test, rates, false).unwrap();
    let problem = Problem::new(&embeddings, &query, &train, false).unwrap();
    let state = exact::State {
        value: trial.value_1.clone(),
        query_key: trial.query_key_1.clone(),
    };
    let (tokens, trigger) = exact::attention_scores(&problem, &state);
    let change: Vec<f64> = tokens
        .iter()
        .zip(&want.token_scores)
        .map(|(a, b)| a / GAIN - b)
        .collect();
    let change = square(&centred(&change));
    let trigger = trigger / GAIN - want.trigger_score;
    let before = square(&centred(&want.token_scores)) + want.trigger_score.powi(2);
    let mut value = (0.0, 0.0);
    let stored = want.value.as_ref().unwrap();
    for i in 0..stored.rows() {
        let (two, one) = (trial.value_2.row(i), trial.value_1.row(i));
        for (j, x) in stored.row(i).iter().enumerate() {
            value.0 += (two[j] - one[j] - x).powi(2);
            value.1 += x * x;
        }
    }
    let uniform = exact::State {
        value: trial.value_1.clone(),
        query_key: vec![0.0; trial.query_key_1.len()],
    };
    let mut logit = (0.0, 0.0);
    exact::forward(&problem, &uniform, |chunk| {
        for row in chunk.logits.rows() {
            logit.0 += square(&centred(row));
            logit.1 += row.len() as f64;
        }
    });
    Measured {
        signal: trigger / rate,
        scores_squared: change / setting.vocab as f64 / rate.powi(2),
        change_squared: (change + trigger * trigger) / rate.powi(2),
        query_squared: before,
        value: (value.0 / value.1).sqrt() / rate,
        logit_squared: logit.0 / logit.1 / rate.powi(2),
    }
}

/// Measured over predicted is one within three standard errors and `systematic`.
fn check(what: &str, (measured, error): (f64, f64), predicted: f64, systematic: f64) {
    let allowed = 3.0 * error + systematic * predicted.abs();
    println!("{what}: {measured:.4e} +- {error:.1e}, predicted {predicted:.4e}");
    assert!(
        (measured - predicted).abs() < allowed,
        "{what}: {measured:.4e} +- {error:.1e}, predicted {predicted:.4e}"
    );
}

#[test]
fn small_steps_deviate_as_predicted() {
    for (v, d, l, n) in [
        (64, 32, 4, 1024),
        (128, 32, 8, 1024),
        (256, 48, 6, 1024),
        (128, 32, 16, 2048),
        (96, 40, 10, 768),
        // Drawn after the terms of what all samples share had been found.
        (160, 24, 12, 800),
        (200, 40, 24, 1200),
        (120, 30, 7, 1500),
    ] {
        let s = Setting::new(v, d, l, n);
        let predicted = step_deviation(&s).unwrap();
        let trials: Vec<Measured> = (0..96).map(|i| measure(&s, i, 1e-5)).collect();
        let of = |f: &dyn Fn(&Measured) -> f64| mean(trials.iter().map(f));
        println!("{s:?}");
        check(
            "signal",
            of(&|m| m.signal),
            predicted.signal * nominal_signal(&s),
            0.0,
        );
        let scores = of(&|m| m.scores_squared);
        // What is left is of the relative order d/N.
        let left = 0.06 + d as f64 / n as f64;
        check("scores^2", scores, predicted.scores.powi(2), left);
        let (change, error) = of(&|m| m.change_squared);
        let before = of(&|m| m.query_squared).0;
        let query = (change / before, error / before);
        check("query^2", query, predicted.query.powi(2), left);
        check("value", of(&|m| m.value), predicted.value, 0.06);
        let logit = of(&|m| m.logit_squared);
        check("logit^2", logit, predicted.logit.powi(2), 0.1);
    }
}

#[test]
fn a_small_step_keeps_its_tolerance() {
    // A finite rate: the first order must still be the deviation, with the second beside it.
    let s = Setting::new(128, 32, 8, 2048);
    let tolerance = 0.05;
    let rate = small_step(&s, tolerance).unwrap() / (64.0 * 128.0);
    let trials: Vec<Measured> = (100..112).map(|i| measure(&s, i, rate)).collect();
    let (value, _) = mean(trials.iter().map(|m| m.value * rate));
    let before = mean(trials.iter().map(|m| m.query_squared)).0;
    let change = mean(trials.iter().map(|m| m.change_squared)).0;
    let query = (change / before).sqrt() * rate;
    println!("rate {rate}: query {query}, value {value}");
    let larger = query.max(value);
    assert!(
        (0.8..1.2).contains(&(larger / tolerance)),
        "{query} {value}"
    );
}

#[test]
fn saturating_strength_leaves_its_tolerance() {
    let tolerance = 0.05;
    for (v, d, l, n) in [
        (300, 80, 12, 3000),
        (256, 64, 16, 2048),
        (256, 96, 48, 4096),
    ] {
        let s = Setting::new(v, d, l, n);
        let strength = saturating_strength(&s, tolerance).unwrap();
        let hard = simulate(&s, 12, false);
        let shortfall = |g: f64| {
            let soft = Setting {
                attention: Attention::Strength(g),
                ..s
            };
            let soft = simulate(&soft, 12, false);
            let pairs = hard.iter().zip(&soft);
            mean(pairs.map(|(h, s)| h.accuracy.rate() - s.accuracy.rate()))
        };
        let (at, error) = shortfall(strength);
        let (half, half_error) = shortfall(0.5 * strength);
        println!("{v} {d} {l} {n}: G {strength:.2}, short {at:.3} +- {error:.3}, half {half:.3}");
        assert!((at - tolerance).abs() < 0.03 + 3.0 * error, "{at} {error}");
        assert!(half - 3.0 * half_error > tolerance, "{half} {half_error}");
    }
}

#[test]
fn training_attention_is_ahead_of_fresh_attention() {
    for (v, d, l, n) in [(32, 32, 12, 100), (48, 24, 16, 250), (64, 32, 32, 400)] {
        for labels in [Labels::Iid, Labels::Balanced] {
            let mut s = Setting::new(v, d, l, n);
            s.labels = labels;
            let outcomes = simulate(&s, 800, false);
            let gaps = outcomes
                .iter()
                .map(|o| o.train_attention.unwrap().rate() - o.attention.rate());
            let predicted = training_attention_accuracy(&s).unwrap() - attention_accuracy(&s);
            let fresh = mean(outcomes.iter().map(|o| o.attention.rate()));
            println!(
                "{labels:?} fresh {:.3}, theory {:.3}",
                fresh.0,
                attention_accuracy(&s)
            );
            check("training minus fresh", mean(gaps), predicted, 0.35);
        }
    }
}

#[test]
fn query_rate_gives_the_strength() {
    let s = Setting::new(64, 32, 6, 512);
    let (strength, eta) = (5.0, 1e-3);
    let strengths = (0..60).map(|seed| {
        let w = draw(&s, seed);
        let rates = Rates {
            eta,
            gamma_w: query_rate(&s, strength, eta, square(&w.query)),
            gamma_v: 1.0,
        };
        let (train, test) = (&w.train, &w.test);
        let trial = exact::run(&w.embeddings, &w.query, train, test, rates, false).unwrap();
        trial.query_trigger_1
    });
    check("strength", mean(strengths), strength, 0.0);
}
