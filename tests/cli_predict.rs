//! `recall predict` beside `recall simulate`: the same options, the same keys, and values that agree.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

const COMMON: [&str; 10] = [
    "attention_accuracy",
    "train_attention_accuracy",
    "recall_accuracy",
    "accuracy",
    "one_step_accuracy",
    "signal",
    "spread",
    "noise",
    "attention",
    "setting",
];
const OWN: [&str; 8] = [
    "level",
    "dominant_term",
    "regime",
    "verified_window",
    "thresholds",
    "lower_bound",
    "decoders",
    "formulas",
];

fn recall(command: &str, options: &str) -> Output {
    Command::cargo_bin("recall")
        .unwrap()
        .arg(command)
        .args(options.split_whitespace())
        .output()
        .unwrap()
}

fn json(command: &str, options: &str) -> Value {
    let output = recall(command, &format!("{options} --json"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{command} {options}: {error}"
    );
    assert!(error.is_empty(), "{command} {options}: {error}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1);
    for word in ["null", "NaN", "inf,", "Infinity"] {
        assert!(!text.contains(word), "{command} {options}: {word}");
    }
    serde_json::from_str(&text).unwrap()
}

fn names(answer: &Value) -> Vec<&str> {
    let noise = answer["noise"].as_array().unwrap();
    noise.iter().map(|n| n["name"].as_str().unwrap()).collect()
}

fn keys(answer: &Value) -> Vec<&str> {
    let object = answer.as_object().unwrap();
    object.keys().map(String::as_str).collect()
}

#[test]
fn both_sides_take_the_same_options_and_give_the_same_keys() {
    for (options, extra, missing) in [
        ("--vocab 48 --dim 12 --len 6 --samples 150", None, None),
        (
            "--vocab 48 --dim 12 --len 6 --samples 150 --strength 3",
            Some("attention_weight"),
            None,
        ),
        (
            "--vocab 48 --dim 12 --len 6 --samples inf",
            None,
            Some("train_attention_accuracy"),
        ),
    ] {
        let options =
            format!("{options} --trials 2 --seed 5 --threads 1 --engine early --precision f64");
        let (predicted, measured) = (json("predict", &options), json("simulate", &options));
        for key in COMMON.into_iter().chain(extra) {
            if Some(key) == missing {
                assert!(predicted.get(key).is_none() && measured.get(key).is_none());
                continue;
            }
            assert!(predicted.get(key).is_some(), "predict: {key}");
            assert!(measured.get(key).is_some(), "simulate: {key}");
        }
        for key in keys(&predicted) {
            assert!(
                measured.get(key).is_some() || OWN.contains(&key) || key == "notes",
                "{key} is neither common nor predict's own"
            );
        }
        for key in OWN {
            assert!(predicted.get(key).is_some(), "predict: {key}");
        }
        assert_eq!(names(&predicted), names(&measured));
        assert_eq!(predicted["setting"], measured["setting"]);
        assert_eq!(predicted["attention"], measured["attention"]);
        let squares: f64 = predicted["noise"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n["relative_sd"].as_f64().unwrap().powi(2))
            .sum();
        let spread = predicted["spread"].as_f64().unwrap();
        assert!((spread * spread / squares - 1.0).abs() < 1e-12);
        assert!(names(&predicted).contains(&predicted["dominant_term"].as_str().unwrap()));
    }
}

#[test]
fn values_agree_at_an_easy_setting() {
    let options = "--vocab 128 --dim 64 --len 8 --samples 2048 --trials 20";
    let (predicted, measured) = (json("predict", options), json("simulate", options));
    for key in [
        "attention_accuracy",
        "train_attention_accuracy",
        "recall_accuracy",
        "accuracy",
        "one_step_accuracy",
        "signal",
    ] {
        let (p, m) = (
            predicted[key].as_f64().unwrap(),
            measured[key].as_f64().unwrap(),
        );
        assert!((p - m).abs() < 0.06, "{key}: predicted {p}, measured {m}");
    }
    let (p, m) = (
        predicted["spread"].as_f64().unwrap(),
        measured["spread"].as_f64().unwrap(),
    );
    assert!(
        (p / m - 1.0).abs() < 0.25,
        "spread: predicted {p}, measured {m}"
    );
}

#[test]
fn thresholds_come_as_numbers_or_with_a_reason() {
    let answer = json(
        "predict",
        "--vocab 256 --dim 64 --len 32 --samples 2048 --level 0.4",
    );
    assert_eq!(answer["level"], 0.4);
    let at = &answer["thresholds"]["samples"]["accuracy"]["finite_size"];
    assert_eq!(at["kind"], "at");
    assert!(at["value"].as_f64().unwrap() > 0.0);
    assert!(at["formula"].is_string());
    for side in ["finite_size", "asymptotic"] {
        let none = &answer["thresholds"]["len"]["recall"][side];
        assert_eq!(none["kind"], "unreachable");
        assert!(!none["reason"].as_str().unwrap().is_empty());
    }
    for size in ["samples", "dim", "len", "vocab"] {
        for quantity in ["attention", "recall", "accuracy"] {
            for side in ["finite_size", "asymptotic"] {
                let t = &answer["thresholds"][size][quantity][side];
                let (kind, key) = if t["kind"] == "at" {
                    ("at", "value")
                } else {
                    ("unreachable", "reason")
                };
                assert_eq!(t["kind"], kind, "{size} {quantity} {side}");
                assert!(t.get(key).is_some(), "{size} {quantity} {side}");
            }
        }
    }
    for size in ["samples", "dim", "vocab"] {
        let bound = &answer["lower_bound"][size];
        assert_eq!(bound["kind"], "at");
        assert!(bound["assumption"].is_object() || bound["assumption"].is_string());
    }
    // A decoder at its threshold has the level, and no decoder needs less than the bound.
    let least = answer["lower_bound"]["samples"]["value"].as_f64().unwrap();
    for name in ["matched_filter", "whitened"] {
        let found = &answer["decoders"][name]["samples"];
        assert_eq!(found["kind"], "at", "{name}");
        let samples = found["samples"].as_f64().unwrap();
        assert!(samples > least, "{name}: {samples} below the bound {least}");
        let there = format!(
            "--vocab 256 --dim 64 --len 32 --samples {}",
            samples.round()
        );
        let at = json("predict", &there)["decoders"][name]["accuracy"]
            .as_f64()
            .unwrap();
        assert!((at - 0.4).abs() < 0.002, "{name}: {at}");
    }
    let both = "--vocab 64 --len 8 --samples 100 --embedding orthonormal";
    let bound = &json("predict", both)["lower_bound"]["dim"];
    assert_eq!(bound["kind"], "unreachable");
    assert!(bound["reason"].as_str().unwrap().contains("orthonormal"));
}

#[test]
fn extreme_settings_are_finite() {
    for options in [
        "--vocab 2 --dim 1 --len 2 --samples 1",
        "--vocab 256 --dim 64 --len 32 --samples inf",
        "--vocab 100000 --dim 8 --len 32 --samples 1000",
        "--vocab 1000000 --dim 1 --len 100000 --samples 1",
        "--vocab 256 --len 64 --samples inf --embedding orthonormal",
        "--vocab 256 --dim 64 --len 64 --samples 1000 --output-embedding orthonormal",
        "--vocab 256 --dim 64 --len 64 --samples 50 --labels balanced",
        "--vocab 256 --dim 64 --len 64 --samples 500 --strength 1e-9",
        "--vocab 256 --dim 64 --len 64 --samples 500 --strength 1e12",
        "--vocab 256 --dim 64 --len 64 --samples 500 --level 0.999999",
        "--vocab 256 --dim 64 --len 64 --samples 500 --trigger-in-values --embedding sphere",
    ] {
        let answer = json("predict", options);
        for key in ["accuracy", "recall_accuracy", "attention_accuracy"] {
            let p = answer[key].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&p), "{options}: {key} = {p}");
        }
    }
}

#[test]
fn quick_leaves_the_searches_out() {
    for flag in ["--quick", "--no-thresholds"] {
        let options = format!("--vocab 256 --dim 64 --len 32 --samples 2048 {flag}");
        let answer = json("predict", &options);
        assert!(answer.get("thresholds").is_none() && answer.get("lower_bound").is_none());
        assert!(answer["accuracy"].is_f64());
        let text = String::from_utf8(recall("predict", &options).stdout).unwrap();
        assert!(!text.contains("thresholds at"), "{text}");
    }
}

#[test]
fn the_exact_engine_is_predicted_at_its_strength_and_says_so() {
    let rates = "--engine exact --eta 1e-3 --gamma-w 1e8 --gamma-v 1e6 --trials 1";
    let options = format!("--vocab 48 --dim 12 --len 6 --samples 150 {rates}");
    let (predicted, measured) = (json("predict", &options), json("simulate", &options));
    assert_eq!(predicted["attention"], measured["attention"]);
    assert!(
        predicted["notes"][0]
            .as_str()
            .unwrap()
            .contains("small-step limit")
    );
}

#[test]
fn the_table_is_readable() {
    let output = recall("predict", "--vocab 256 --dim 64 --len 32 --samples 2048");
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "V = 256, d = 64, L = 32, N = 2048",
        "argmax",
        "inside the box of sizes",
        "noise: trigger",
        "<- dominant",
        "finite size   asymptotic",
        "samples N*, end to end",
        "(1) recall does not depend on the length",
        "lower bounds, expected accuracy 0.5",
        "formulas: attention.signal",
    ] {
        assert!(text.contains(part), "{part} not in\n{text}");
    }
    let noise: Vec<f64> = text
        .lines()
        .filter(|l| l.starts_with("  noise: "))
        .map(|l| {
            let line = l.trim_end_matches("<- dominant").trim_end();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        })
        .collect();
    assert_eq!(noise.len(), 9);
    assert!(noise.is_sorted_by(|a, b| a >= b), "{noise:?}");
}

#[test]
fn bad_options_are_refused() {
    let good = "--vocab 48 --dim 12 --len 6 --samples 150";
    for (options, part) in [
        (format!("{good} --level 1"), "between 0 and 1"),
        (format!("{good} --level nan"), "between 0 and 1"),
        (format!("{good} --eta 1"), "--engine exact"),
        (format!("{good} --engine exact"), "--eta is missing"),
        (format!("{good} --strength -1"), "strength"),
        ("--vocab 1 --dim 12 --len 6 --samples 9".to_owned(), "vocab"),
        ("--vocab 48 --len 6 --samples 9".to_owned(), "--dim"),
    ] {
        let output = recall("predict", &options);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options}: {error}");
        assert!(output.stdout.is_empty());
        assert!(error.contains(part), "{options}: {error}");
    }
}
