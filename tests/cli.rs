//! The program from outside: answers, errors and exit codes.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

use std::path::PathBuf;
use std::process::Output;

use assert_cmd::Command;
use serde_json::{Value, json};

const SMALL: [&str; 9] = [
    "simulate",
    "--vocab",
    "48",
    "--dim",
    "12",
    "--len",
    "6",
    "--samples",
    "150",
];
const NOISE: [&str; 9] = [
    "mean_bias",
    "mean_bias_flow",
    "cross",
    "gradient_noise",
    "signal_noise",
    "signal_bias",
    "population",
    "label_count",
    "trigger",
];

fn recall<'a>(args: impl IntoIterator<Item = &'a str>) -> Output {
    Command::cargo_bin("recall")
        .unwrap()
        .args(args)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn simulate_json(more: &[&str]) -> Value {
    let output = recall(SMALL.iter().chain(more).chain(&["--json"]).copied());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(output.stderr.is_empty());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Expects an exit code, nothing on standard output, and every text in the error.
fn refused(args: &[&str], code: i32, texts: &[&str]) {
    let output = recall(args.iter().copied());
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    assert!(output.stdout.is_empty(), "{args:?}");
    for text in texts {
        assert!(error.contains(text), "{args:?}: {text} not in {error}");
    }
}

/// A later option wins, so the small setting with one option more is a changed setting.
fn refused_small(more: &[&str], texts: &[&str]) {
    let replaced: Vec<&str> = SMALL[1..]
        .chunks(2)
        .filter(|pair| !more.contains(&pair[0]))
        .flatten()
        .copied()
        .collect();
    let args: Vec<&str> = ["simulate"]
        .into_iter()
        .chain(replaced)
        .chain(more.iter().copied())
        .collect();
    refused(&args, 2, texts);
}

fn case(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/oracle")
        .join(name)
}

#[test]
fn simulate_answers_with_one_object() {
    let answer = simulate_json(&["--trials", "3"]);
    let means = [
        "attention_accuracy",
        "recall_accuracy",
        "accuracy",
        "train_attention_accuracy",
        "one_step_accuracy",
        "signal",
        "spread",
        "noise_covariance",
    ];
    for key in means {
        assert!(answer[key].is_f64(), "{key}");
        assert!(
            answer["standard_error"][key].as_f64().unwrap() >= 0.0,
            "{key}"
        );
    }
    let mut squares = 0.0;
    for noise in [&answer["noise"], &answer["standard_error"]["noise"]] {
        let names: Vec<&str> = noise
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, NOISE);
    }
    for part in answer["noise"].as_array().unwrap() {
        squares += part["relative_sd"].as_f64().unwrap().powi(2);
    }
    let spread = answer["spread"].as_f64().unwrap();
    let rest = answer["noise_covariance"].as_f64().unwrap();
    assert!((spread * spread - squares - rest).abs() < 1e-12);
    assert_eq!(answer["attention"], json!({"kind": "argmax"}));
    assert_eq!(answer["engine"], "early");
    assert_eq!(answer["trials"], 3);
    assert_eq!(answer["seed"], 0);
    assert_eq!(answer["rng_scheme"], 1);
    assert_eq!(answer["setting"]["vocab"], 48);
    assert!(answer["kernel"].as_str().unwrap().contains("f64"));
    assert!(answer.get("attention_weight").is_none());
    assert!(answer.get("standard_error_note").is_none());
}

#[test]
fn what_is_not_measured_is_absent_and_said() {
    let one = simulate_json(&["--trials", "1", "--no-decompose", "--seed", "7"]);
    assert!(one.get("standard_error").is_none());
    assert!(
        one["standard_error_note"]
            .as_str()
            .unwrap()
            .contains("at least two")
    );
    assert!(one.get("noise").is_none() && one.get("noise_covariance").is_none());
    assert_eq!(one["seed"], 7);

    let soft = simulate_json(&["--trials", "2", "--strength", "3"]);
    assert_eq!(
        soft["attention"],
        json!({"kind": "strength", "strength": 3.0})
    );
    assert!(soft["attention_weight"].is_f64());

    let args = [
        "simulate",
        "--vocab",
        "32",
        "--len",
        "4",
        "--samples",
        "inf",
        "--embedding",
        "orthonormal",
        "--json",
    ];
    let output = recall(args);
    let infinite: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(infinite.get("train_attention_accuracy").is_none());
    assert_eq!(infinite["setting"]["dim_in"], 32);
    assert_eq!(infinite["setting"]["samples"], "infinite");
    assert_eq!(infinite["accuracy"], 1.0);
}

#[test]
fn thread_count_and_engine_do_not_change_the_draws() {
    let args = |threads| ["--trials", "7", "--threads", threads];
    let one = simulate_json(&args("1"));
    assert_eq!(one, simulate_json(&args("3")));
    assert_eq!(one, simulate_json(&args("32")));
    let f32 = simulate_json(&["--trials", "7", "--precision", "f32"]);
    assert!((f32["signal"].as_f64().unwrap() - one["signal"].as_f64().unwrap()).abs() < 1e-4);

    let exact = simulate_json(&[
        "--trials",
        "7",
        "--engine",
        "exact",
        "--eta",
        "1e-3",
        "--gamma-w",
        "1e12",
        "--gamma-v",
        "1e6",
    ]);
    for key in [
        "signal",
        "spread",
        "attention_accuracy",
        "train_attention_accuracy",
        "accuracy",
    ] {
        let (a, b) = (exact[key].as_f64().unwrap(), one[key].as_f64().unwrap());
        assert!((a - b).abs() < 1e-3, "{key}: {a} {b}");
    }
    assert_eq!(exact["attention"]["kind"], "strength");
    assert_eq!(exact["engine"]["exact"]["eta"], 1e-3);
    assert!(exact.get("noise").is_none());
}

#[test]
fn the_table_is_readable() {
    let output = recall(
        SMALL
            .into_iter()
            .chain(["--trials", "2", "--output-dim", "20"]),
    );
    let text = stdout(&output);
    for part in [
        "V = 48, d = 12 (in), 20 (out), L = 6, N = 150",
        "recall",
        "+-",
        "noise: gradient noise",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains('_'), "{text}");
}

#[test]
fn a_wrong_setting_is_refused_by_name_with_what_is_allowed() {
    refused_small(&["--vocab", "1"], &["vocab = 1", "2 to 16777216"]);
    refused_small(&["--vocab", "-3"], &["--vocab", "-3"]);
    refused_small(&["--dim", "0"], &["dim = 0", "1 to 1048576"]);
    refused_small(&["--output-dim", "0"], &["dim = 0"]);
    refused_small(&["--len", "1"], &["len = 1", "2 to 1048576"]);
    refused_small(&["--samples", "0"], &["samples = 0", "infinite"]);
    refused_small(
        &["--samples", "many"],
        &["--samples", "positive integer or \"inf\""],
    );
    refused_small(&["--samples", "1e4"], &["--samples", "positive integer"]);
    refused_small(
        &["--samples", "99999999999"],
        &["samples = 99999999999", "4294967295"],
    );
    refused_small(
        &["--strength", "nan"],
        &["strength = NaN", "positive finite"],
    );
    refused_small(&["--strength", "-2"], &["strength = -2"]);
    refused_small(
        &["--strength", "2", "--samples", "inf"],
        &["strength", "infinite"],
    );
    refused_small(
        &["--embedding", "normal"],
        &["--embedding", "gaussian, sphere, orthonormal"],
    );
    refused_small(
        &["--embedding", "orthonormal", "--dim", "12"],
        &["dim = 12", "dimension 48"],
    );
    refused_small(&["--labels", "random"], &["iid, balanced"]);
    refused_small(&["--precision", "f16"], &["f64, f32"]);
    refused_small(&["--trials", "0"], &["--trials"]);
    refused_small(&["--threads", "0"], &["--threads"]);
    refused_small(&["--test-sequences", "0"], &["test_sequences = 0"]);
    refused_small(
        &["--seed", "18446744073709551615"],
        &["--seed 18446744073709551615", "8 trials"],
    );
    for trials in ["16777217", "18446744073709551615"] {
        refused_small(
            &["--trials", trials],
            &["--trials", trials, "at most 16777216"],
        );
    }
    refused(
        &["study", "--configurations", "18446744073709551615"],
        2,
        &["--configurations 18446744073709551615", "at most 1000000"],
    );
    refused_small(&["--eta", "1"], &["--eta", "--engine exact"]);
    refused_small(
        &["--engine", "exact", "--eta", "1"],
        &["--gamma-w is missing"],
    );
    let exact = |eta, samples| {
        [
            "--engine",
            "exact",
            "--eta",
            eta,
            "--gamma-w",
            "1",
            "--gamma-v",
            "1",
            "--samples",
            samples,
        ]
    };
    refused_small(&exact("nan", "150"), &["eta = NaN", "positive finite"]);
    refused_small(&exact("-1", "150"), &["eta = -1"]);
    refused_small(&exact("1", "inf"), &["samples = infinite", "finite batch"]);
    let with_strength: Vec<&str> = exact("1", "150")
        .into_iter()
        .chain(["--strength", "2"])
        .collect();
    refused_small(&with_strength, &["strength", "gamma_w"]);
    refused(
        &["simulate", "--vocab", "9", "--len", "3", "--samples", "9"],
        2,
        &["--dim is missing"],
    );
    refused(&["simulate"], 2, &["--vocab"]);
    refused(&["stimulate"], 2, &["simulate"]);
    refused(&[], 2, &["Usage"]);
}

#[test]
fn a_study_refuses_what_its_model_lacks() {
    let study = |more: &[&str], texts: &[&str]| {
        let args: Vec<&str> = ["study"].iter().chain(more).copied().collect();
        refused(&args, 2, texts);
    };
    study(&["--model", "mamba"], &["--model", "attention-only, mlp"]);
    for (option, value) in [
        ("--width", "16..32"),
        ("--activation", "relu"),
        ("--mlp-input", "raw"),
        ("--mlp-rows", "balanced"),
    ] {
        study(&[option, value], &[option, "add --model mlp"]);
    }
    let mlp = |more: &[&str], texts: &[&str]| {
        let args: Vec<&str> = ["--model", "mlp"].iter().chain(more).copied().collect();
        study(&args, texts);
    };
    for option in [
        ["--decompose"].as_slice(),
        &["--trigger-in-values"],
        &["--strength", "2"],
    ] {
        mlp(option, &[option[0], "not available with --model mlp"]);
    }
    mlp(&["--activation", "mish"], &["--activation", "relu", "tanh"]);
    mlp(&["--width", "32..16"], &["--width", "LOW..HIGH"]);
    mlp(&["--mlp-input", "layernorm"], &["--mlp-input", "raw, rms"]);
}

#[test]
fn a_study_of_hidden_layers_is_the_same_on_any_number_of_threads() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("study.json");
    let study = |seed: &str, threads: &str| {
        let sizes = "study --model mlp --configurations 5 --vocab 48..96 --dim 8..32 --len 4..8 \
                     --width 8..32 --samples 64..256 --min-trials 3 --max-trials 4 --seed";
        let json = file.to_str().unwrap();
        let args = sizes
            .split_whitespace()
            .chain([seed, "--threads", threads, "--json", json]);
        let output = recall(args);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        (stdout(&output), std::fs::read(&file).unwrap())
    };
    let (text, rows) = study("7", "1");
    assert_eq!((text.clone(), rows.clone()), study("7", "3"));
    let (other, _) = study("8", "1");
    assert_ne!(text, other);
    for part in ["5 configurations", "| c1", "Largest deviations of recall"] {
        assert!(text.contains(part), "{text}");
    }
    let rows: Value = serde_json::from_slice(&rows).unwrap();
    let rows = rows["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    for row in rows {
        let width = &row["setting"]["model"]["mlp"]["width"];
        assert!((8..=32).contains(&width.as_u64().unwrap()), "{row}");
        assert!(row["predicted"]["recall"].as_f64().unwrap() > 0.0, "{row}");
    }
}

#[test]
fn overflow_and_lack_of_memory_are_operational_errors() {
    let overflow: Vec<&str> = SMALL
        .into_iter()
        .chain([
            "--engine",
            "exact",
            "--eta",
            "1e300",
            "--gamma-w",
            "1e300",
            "--gamma-v",
            "1",
        ])
        .collect();
    refused(&overflow, 1, &["seed 0", "is not finite", "too large"]);
    let huge = [
        "simulate",
        "--vocab",
        "16777216",
        "--dim",
        "1048576",
        "--len",
        "1000",
        "--samples",
        "4000000000",
    ];
    refused(&huge, 1, &["GiB", "--precision f32"]);
}

#[test]
fn help_and_version_are_no_errors() {
    for args in [
        ["--help"].as_slice(),
        &["--version"],
        &["simulate", "--help"],
        &["replay", "--help"],
    ] {
        let output = recall(args.iter().copied());
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
    }
    assert!(stdout(&recall(["--help"])).contains("10 claim refuted"));
}

#[test]
fn replay_reports_and_compares() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("report.json");
    std::fs::write(&out, "old").unwrap();
    for name in ["c2_attn_vt_mid.full.json", "c6_tiny_order_one.full.json"] {
        let file = case(name);
        let output = recall(["replay", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stderr(&output).contains("gd_test_min_margin"));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let reference: Value =
            serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(report["name"], reference["name"]);
        let q = |v: &Value| v["outputs"]["q1"][0].as_f64().unwrap();
        assert!((q(&report) / q(&reference) - 1.0).abs() < 1e-12);

        let written = recall([
            "replay",
            file.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ]);
        assert_eq!(written.status.code(), Some(0));
        assert!(written.stdout.is_empty());
        assert_eq!(std::fs::read(&out).unwrap(), output.stdout);
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "no temporary file stays"
    );
}

#[test]
fn replay_notices_a_deviation() {
    let mut changed: Value = serde_json::from_str(
        &std::fs::read_to_string(case("c6_tiny_order_one.full.json")).unwrap(),
    )
    .unwrap();
    let trig = changed["outputs"]["trig_score"].as_f64().unwrap();
    changed["outputs"]["trig_score"] = json!(trig * (1.0 + 1e-9));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("changed.json");
    std::fs::write(&file, changed.to_string()).unwrap();
    let output = recall(["replay", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(
        error.contains("BEYOND") && error.contains("1 of 30 outputs deviate"),
        "{error}"
    );
    let loose = recall(["replay", file.to_str().unwrap(), "--tolerance", "1e-8"]);
    assert_eq!(loose.status.code(), Some(0));
    let output = recall(["replay", file.to_str().unwrap(), "--tolerance", "nan"]);
    assert_eq!(output.status.code(), Some(2));

    // Without outputs of its own there is nothing to compare.
    changed.as_object_mut().unwrap().remove("outputs");
    std::fs::write(&file, changed.to_string()).unwrap();
    let output = recall(["replay", file.to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[test]
fn bad_case_files_are_named_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let out = path("out.json");
    let text = std::fs::read_to_string(case("c6_tiny_order_one.full.json")).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        std::fs::write(path(name), bytes).unwrap();
        path(name)
    };
    let mlp = std::fs::read_to_string(case("c4_mlp_relu.full.json")).unwrap();
    for (file, texts) in [
        (path("missing.json"), vec!["missing.json", "No such file"]),
        (
            put("cut.json", &text.as_bytes()[..text.len() / 2]),
            vec!["cut.json", "not valid JSON", "EOF"],
        ),
        (put("empty.json", b""), vec!["empty.json", "not valid JSON"]),
        (
            put("binary.json", &[0xff, 0xfe, 0x00]),
            vec!["binary.json", "UTF-8"],
        ),
        (
            put("list.json", b"[]"),
            vec!["list.json", "must be a JSON object"],
        ),
        (
            put(
                "key.json",
                text.replacen("\"gamma_w\"", "\"gamma\"", 1).as_bytes(),
            ),
            vec!["the key gamma_w is missing"],
        ),
        (
            put(
                "half.json",
                mlp.replacen("\"activation\"", "\"activated\"", 1)
                    .as_bytes(),
            ),
            vec!["half.json", "activation is missing"],
        ),
        (dir.path().to_str().unwrap().to_owned(), vec!["directory"]),
    ] {
        refused(&["replay", &file, "--out", &out], 1, &texts);
        assert!(!std::path::Path::new(&out).exists());
    }
    let good = case("c6_tiny_order_one.full.json")
        .to_str()
        .unwrap()
        .to_owned();
    let nowhere = path("no/such/place.json");
    refused(
        &["replay", &good, "--out", &nowhere],
        1,
        &["--out", "place.json", "does not exist"],
    );
    refused(
        &["replay", &good, "--out", dir.path().to_str().unwrap()],
        1,
        &["is a directory"],
    );
    refused(&["replay"], 2, &["CASE.json"]);
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_failure() {
    use std::process::{Command, Stdio};
    // The report of the larger case exceeds any pipe buffer.
    let file = case("c2_attn_vt_mid.full.json");
    for args in [
        vec!["replay", file.to_str().unwrap()],
        SMALL.to_vec(),
        vec!["--help"],
    ] {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("recall"))
            .args(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let error = stderr(&output);
        assert!(!error.contains("panicked"), "{error}");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {error}");
    }
}
