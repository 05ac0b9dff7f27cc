//! The pipeline through the program: experiment files in, a judged report out, whatever happens
//! in between.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use common::{PROVENANCE, Place, RECORDS, files_under, same_files};

const THRESHOLD: &str = r#"
id = "tiny-threshold"
title = "Tiny threshold"
claim = "attention-samples-natural"
rationale = "Small enough for a test."
[task]
kind = "threshold"
search = { axis = "samples", criterion = { kind = "noise-ratio", level = 0.5 } }
test = { margin = 0.5, constant = 3.0 }
[profile.quick]
seeds = 2
test_sequences = 16
[[profile.quick.blocks]]
vocab = [32, 48, 64]
dim = [8, 12]
len = [8, 16]
"#;
const CURVES: &str = r#"
id = "tiny-curves"
title = "Tiny curves"
claim = "accuracy-curves"
rationale = "Small enough for a test."
[task]
kind = "curves"
axis = "samples"
quantities = ["accuracy", "recall"]
test = { margin = 0.11, max_sd = 0.2, predicted_between = [0.02, 0.65] }
[profile.quick]
seeds = 4
test_sequences = 512
[[profile.quick.blocks]]
vocab = 64
dim = [16, 20, 24]
len = 8
samples = [64, 128, 256, 512]
"#;
const PHASE: &str = r#"
id = "tiny-phase"
title = "Tiny phase diagram"
claim = "phase-diagram"
rationale = "Small enough for a test."
[task]
kind = "phase"
quantity = "accuracy"
level = 0.5
test = { margin = 0.3, max_sd = 0.3, predicted_between = [0.02, 0.98] }
[profile.quick]
seeds = 3
test_sequences = 256
[[profile.quick.blocks]]
vocab = 64
dim = [14, 28]
len = 12
samples = [64, 256, 1024]
"#;
const BOUND: &str = r#"
id = "tiny-bound"
title = "Tiny bound"
claim = "first-gradient-bound"
rationale = "Small enough for a test."
[task]
kind = "bound"
margin = 0.2
[profile.quick]
seeds = 3
test_sequences = 256
[[profile.quick.blocks]]
vocab = 64
dim = 16
len = 10
samples = [64, 256, 1024]
"#;
const ALL: [(&str, &str); 4] = [
    ("tiny-threshold", THRESHOLD),
    ("tiny-curves", CURVES),
    ("tiny-phase", PHASE),
    ("tiny-bound", BOUND),
];

impl Place {
    fn measurements(&self) -> Vec<Value> {
        lines_of_json(&self.read(RECORDS))
    }

    /// Records as if a run had measured them.
    fn put_measurements(&self, records: &[Value]) {
        self.put_records(&records.iter().map(|r| format!("{r}\n")).collect::<String>());
    }
}

fn lines_of_json(text: &str) -> Vec<Value> {
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

/// Rows of a CSV file without quoted fields, by column name.
fn csv(text: &str) -> Vec<BTreeMap<&str, &str>> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(fields.len(), header.len(), "{line}");
            header.iter().copied().zip(fields).collect()
        })
        .collect()
}

fn size(config: &Value, name: &str) -> String {
    match name {
        "dim" | "dim_in" => config["input"]["dim"].to_string(),
        "dim_out" => config["output"]["dim"].to_string(),
        _ => config[name].to_string(),
    }
}

#[test]
fn a_run_writes_the_whole_report_whose_numbers_follow_from_its_records() {
    let place = Place::new(&ALL);
    let (out, _) = place.expect("reproduce --threads 2", 0);
    assert!(out.contains("report: reports/quick/report.md"), "{out}");
    let files = files_under(&place.path("reports/quick"));
    let named = |name: &str| files.contains_key(Path::new(name));
    for name in [
        "report.md",
        "thresholds.csv",
        "cells.csv",
        "fits.json",
        "verdicts.json",
        "measurements.jsonl",
        "provenance.json",
    ] {
        assert!(named(name), "{name} not in {:?}", files.keys());
    }
    for (id, _) in ALL {
        for ending in ["svg", "png"] {
            assert!(
                files.keys().any(|f| f.starts_with("figures")
                    && f.to_string_lossy().contains(id)
                    && f.extension().is_some_and(|e| e == ending)),
                "no {ending} of {id} in {:?}",
                files.keys()
            );
        }
    }
    // Links lead to files of the report; those to notes and docs leave it and are not its business.
    let report = place.read("reports/quick/report.md");
    for link in report.split("](").skip(1) {
        let target = link.split([')', '#']).next().unwrap();
        if !["../../theory/", "../../docs/"]
            .iter()
            .any(|p| target.starts_with(p))
        {
            let target = place.path("reports/quick").join(target);
            assert!(target.exists(), "{}", target.display());
        }
    }
    let provenance: Value = serde_json::from_str(&place.read(PROVENANCE)).unwrap();
    let records = place.measurements();
    assert_eq!(provenance["trials"], records.len());
    assert_eq!(provenance["invocations"][0]["threads"], 2);

    // Each cell is the mean over its records; powers of two in the totals make it exact.
    let cells = place.read("reports/quick/cells.csv");
    let cells = csv(&cells);
    assert!(cells.len() > 30, "{}", cells.len());
    for cell in &cells {
        let outcome = match cell["quantity"].split(' ').next().unwrap() {
            "end-to-end" => "accuracy",
            "recall" => "recall",
            "one-step" => "one_step",
            other => panic!("{other}"),
        };
        let rates: Vec<f64> = records
            .iter()
            .filter(|r| {
                let config = &r["job"]["config"];
                ["vocab", "dim_in", "dim_out", "len", "samples"]
                    .iter()
                    .all(|name| size(config, name) == cell[name])
            })
            .map(|r| {
                let count = &r["outcome"][outcome];
                count["hits"].as_f64().unwrap() / count["total"].as_f64().unwrap()
            })
            .collect();
        assert_eq!(rates.len().to_string(), cell["trials"], "{cell:?}");
        let n = rates.len() as f64;
        let mean = rates.iter().sum::<f64>() / n;
        assert_eq!(mean, cell["measured"].parse::<f64>().unwrap(), "{cell:?}");
        let square: f64 = rates.iter().map(|r| (r - mean).powi(2)).sum();
        let error = (square / (n - 1.0) / n).sqrt();
        let stated: f64 = cell["standard_error"].parse().unwrap();
        assert!((error - stated).abs() <= 1e-12, "{cell:?}: {error}");
    }
    let thresholds = place.read("reports/quick/thresholds.csv");
    let thresholds = csv(&thresholds);
    assert_eq!(thresholds.len(), 12);
    let mut used = 0;
    for row in &thresholds {
        let trials = records
            .iter()
            .filter(|r| {
                let config = &r["job"]["config"];
                ["vocab", "dim", "len"]
                    .iter()
                    .all(|name| size(config, name) == row[name])
            })
            .count();
        assert_eq!(trials.to_string(), row["trials"], "{row:?}");
        used += trials;
    }
    let in_cells = 12 * 4 + 6 * 3 + 3 * 3;
    assert_eq!(used + in_cells, records.len(), "a record belongs to no row");

    // Judging again, from the report alone.
    fs::remove_dir_all(place.path("runs")).unwrap();
    let (out, _) = place.expect("verify --json", 0);
    let again: Value = serde_json::from_str(&out).unwrap();
    let stored: Value = serde_json::from_str(&place.read("reports/quick/verdicts.json")).unwrap();
    assert_eq!(again["tally"], stored["tally"]);
    let results: Vec<&Value> = stored["claims"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["result"])
        .collect();
    assert!(
        results
            .iter()
            .copied()
            .eq(again["claims"].as_array().unwrap())
    );
    assert!(!place.path("runs").exists(), "verify writes nothing");
}

#[test]
fn neither_threads_nor_a_kill_change_a_byte() {
    let experiments = [("tiny-curves", CURVES), ("tiny-threshold", THRESHOLD)];
    let one = Place::new(&experiments);
    one.expect("reproduce --threads 1", 0);
    let two = Place::new(&experiments);
    two.expect("reproduce --threads 2", 0);
    same_files(&one.report(), &two.report());

    let killed = Place::new(&experiments);
    let journal = killed.path("runs/quick/journal.jsonl");
    let lines = || {
        let bytes = fs::read(&journal).unwrap_or_default();
        bytes.iter().filter(|b| **b == b'\n').count()
    };
    let mut kills = 0;
    for stop_at in [5, 40] {
        let mut child = killed
            .command("reproduce --threads 2")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while lines() < stop_at && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_micros(200));
        }
        let _ = child.kill(); // SIGKILL
        kills += u32::from(!child.wait().unwrap().success());
        assert!(!killed.path("reports").exists());
    }
    assert_eq!(kills, 2, "the run ended before it was killed");
    let kept = lines();
    assert!(kept >= 40, "{kept}");
    // As if the kill had come in the middle of a line.
    let mut bytes = fs::read(&journal).unwrap();
    let end = bytes.iter().rposition(|b| *b == b'\n').unwrap() + 1;
    bytes.truncate(end);
    bytes.extend_from_within(..100);
    fs::write(&journal, bytes).unwrap();

    let (out, err) = killed.expect("reproduce --threads 2", 0);
    assert!(err.contains("unfinished last line"), "{err}");
    let total = killed.measurements().len();
    let now = format!("{} simulated now", total - kept);
    assert!(out.contains(&now), "{now}: {out}");
    same_files(&one.report(), &killed.report());

    // A finished run has nothing to do.
    let (out, _) = killed.expect("reproduce", 0);
    assert!(out.contains(" 0 simulated now"), "{out}");
    same_files(&one.report(), &killed.report());
}

/// Sets the accuracy of each record to what `rate` makes of its prediction and its number.
fn set_accuracies(place: &Place, rate: impl Fn(f64, usize) -> f64) {
    let cells = place.read("reports/quick/cells.csv");
    let cells = csv(&cells);
    let mut records = place.measurements();
    for (i, r) in records.iter_mut().enumerate() {
        let config = &r["job"]["config"];
        let cell = cells
            .iter()
            .find(|c| {
                c["quantity"].starts_with("end-to-end")
                    && ["vocab", "dim_in", "len", "samples"]
                        .iter()
                        .all(|name| size(config, name) == c[name])
            })
            .unwrap();
        let count = &mut r["outcome"]["accuracy"];
        let total = count["total"].as_f64().unwrap();
        let hits = (total * rate(cell["predicted"].parse().unwrap(), i)).round();
        count["hits"] = (hits.clamp(0.0, total) as u64).into();
    }
    place.put_measurements(&records);
}

#[test]
fn verify_tells_by_its_exit_code() {
    let place = Place::new(&[("tiny-curves", CURVES)]);
    place.expect("reproduce", 0);
    let stored = place.read(RECORDS);
    let tally = |args: &str, code: i32| -> [u64; 3] {
        let (out, _) = place.expect(&format!("verify --json {args}"), code);
        let answer: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(answer["exit_code"], code);
        ["supported", "refuted", "inconclusive"].map(|k| answer["tally"][k].as_u64().unwrap())
    };

    set_accuracies(&place, |p, i| p + if i % 2 == 0 { 0.004 } else { -0.004 });
    assert_eq!(tally("", 0), [1, 0, 0]);
    assert_eq!(tally("--strict", 0), [1, 0, 0]);

    set_accuracies(&place, |p, i| p + 0.3 + if i % 2 == 0 { 0.01 } else { 0.0 });
    assert_eq!(tally("", 10), [0, 1, 0]);
    assert_eq!(tally("--strict", 10), [0, 1, 0]);
    let (out, _) = place.expect("verify", 10);
    assert!(
        out.contains("0 supported, 1 refuted, 0 inconclusive"),
        "{out}"
    );

    // Cells (of four records each) that miss by turns on both sides: no error on average, but a
    // scatter beyond its margin.
    set_accuracies(&place, |p, i| {
        let away = if i / 4 % 2 == 0 { 0.3 } else { -0.3 };
        p + away
    });
    assert_eq!(tally("", 10), [0, 1, 0]);

    // Trials of a cell that miss by turns: too noisy to tell.
    set_accuracies(&place, |p, i| p + if i % 2 == 0 { 0.3 } else { -0.3 });
    assert_eq!(tally("", 0), [0, 0, 1]);
    assert_eq!(tally("--strict", 11), [0, 0, 1]);

    // Records missing at the end.
    let lines: Vec<&str> = stored.lines().collect();
    let most: String = lines[..lines.len() - 3]
        .iter()
        .map(|l| format!("{l}\n"))
        .collect();
    fs::write(place.path(RECORDS), most).unwrap();
    for args in ["verify", "verify --strict --json"] {
        let (out, err) = place.expect(args, 12);
        assert!(out.is_empty());
        for part in ["tiny-curves", "3 of its jobs", "recall reproduce"] {
            assert!(err.contains(part), "{err}");
        }
    }

    // Lines that are damaged, cut off, or not what their key says.
    let cut = &stored[..stored.len() - 20];
    let garbled = stored.replacen("{\"schema\"", "{\"schem", 1);
    let other = stored.replacen("\"samples\":64", "\"samples\":65", 1);
    let twice = format!("{stored}{}\n", lines[0]);
    for (text, number, why) in [
        (cut.to_owned(), lines.len(), "ends inside this line"),
        (garbled, 1, "not a record"),
        (other, 1, "the key is not that of the job"),
        (twice, lines.len() + 1, "stands further up"),
    ] {
        fs::write(place.path(RECORDS), text).unwrap();
        let (_, err) = place.expect("verify", 1);
        let line = format!("{RECORDS}, line {number}: ");
        assert!(err.contains(&line) && err.contains(why), "{why}: {err}");
    }

    fs::remove_file(place.path(RECORDS)).unwrap();
    let (_, err) = place.expect("verify", 1);
    assert!(err.contains(RECORDS), "{err}");
    let (_, err) = place.expect("verify --reports nowhere", 1);
    assert!(err.contains("nowhere/quick/measurements.jsonl"), "{err}");
}

#[test]
fn wrong_experiments_are_refused_before_anything_runs() {
    for (from, to, parts) in [
        (
            "seeds = 4",
            "seds = 4",
            vec!["`seds`", "Did you mean `seeds`?"],
        ),
        (
            "margin = 0.11",
            "margn = 0.02",
            vec!["`margn`", "Did you mean `margin`?"],
        ),
        (
            "seeds = 4",
            "seeds = \"four\"",
            vec!["seeds", "invalid type"],
        ),
        ("vocab = 64", "vocab = \"many\"", vec!["vocab"]),
        (
            "claim = \"accuracy-curves\"",
            "claim = \"accuracy-curve\"",
            vec!["claim = \"accuracy-curve\"", "accuracy-curves"],
        ),
        ("seeds = 4", "seeds = 1", vec!["profile.quick.seeds = 1"]),
        (
            "vocab = 64",
            "vocab = 1",
            vec!["profile.quick.blocks[0]", "vocab = 1"],
        ),
        ("margin = 0.11", "margin = nan", vec!["task.test.margin"]),
        (
            "id = \"tiny-curves\"",
            "id = \"other\"",
            vec!["\"tiny-curves\""],
        ),
        ("[task]", "[task", vec!["[task"]),
    ] {
        assert!(CURVES.contains(from));
        let wrong = CURVES.replacen(from, to, 1);
        let place = Place::new(&[
            ("a-good-one", &BOUND.replace("tiny-bound", "a-good-one")),
            ("tiny-curves", &wrong),
        ]);
        for command in ["reproduce", "reproduce --dry-run", "verify"] {
            let (out, err) = place.expect(command, 1);
            assert!(out.is_empty(), "{out}");
            assert!(err.contains("experiments/tiny-curves.toml"), "{to}: {err}");
            for part in &parts {
                assert!(err.contains(part), "{to}: {part} not in {err}");
            }
        }
        assert!(!place.path("reports").exists() && !place.path("runs").exists());
    }
    let empty = Place::new(&[]);
    let (_, err) = empty.expect("reproduce", 1);
    assert!(err.contains("experiments"), "{err}");
    let (_, err) = empty.expect("reproduce --experiments nowhere", 1);
    assert!(err.contains("nowhere"), "{err}");
    let quick_only = Place::new(&[("tiny-bound", BOUND)]);
    let (_, err) = quick_only.expect("reproduce --profile full", 1);
    assert!(err.contains("[profile.full]"), "{err}");
    quick_only.expect("reproduce --profile none", 2);
    quick_only.expect("reproduce --memory 0", 2);
    assert!(!quick_only.path("runs").exists());
}

#[test]
fn a_report_that_cannot_be_written_costs_no_result() {
    let place = Place::new(&[("tiny-bound", BOUND)]);
    // A file where the directory should be: no permission bit stops an administrator.
    fs::write(place.path("taken"), "kept").unwrap();
    let (_, err) = place.expect("reproduce --reports taken", 1);
    assert!(err.contains("taken"), "{err}");
    assert_eq!(place.read("taken"), "kept");
    let journal = place.read("runs/quick/journal.jsonl");
    assert_eq!(journal.lines().count(), 9);

    // The last file is in the way of nothing but itself.
    fs::create_dir_all(place.path("reports/quick/report.md")).unwrap();
    let (out, err) = place.expect("reproduce", 1);
    assert!(out.is_empty() && err.contains("report.md"), "{err}");
    for name in files_under(&place.path("reports")).keys() {
        let name = name.to_string_lossy().into_owned();
        assert!(
            !name.contains(".writing-") && !name.ends_with(".tmp"),
            "{name}"
        );
    }
    assert_eq!(place.read("runs/quick/journal.jsonl"), journal);

    fs::remove_dir(place.path("reports/quick/report.md")).unwrap();
    let (out, _) = place.expect("reproduce", 0);
    assert!(out.contains("9 trials used, 0 simulated now"), "{out}");

    // A store that cannot be made.
    let (_, err) = place.expect("reproduce --runs taken", 1);
    assert!(err.contains("taken"), "{err}");
}

#[test]
fn a_dry_run_writes_nothing() {
    let place = Place::new(&ALL);
    let before = files_under(place.root());
    let (out, _) = place.expect("reproduce --dry-run --threads 2", 0);
    for (id, _) in ALL {
        assert!(out.contains(id), "{out}");
    }
    assert!(out.contains("on 2 threads"), "{out}");
    assert_eq!(files_under(place.root()), before);
    assert!(!place.path("runs").exists() && !place.path("reports").exists());
    let (_, err) = place.expect("reproduce --dry-run --memory 1e-9", 1);
    assert!(err.contains("--memory"), "{err}");
}
