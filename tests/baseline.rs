//! `recall verify --baseline` and its companions through the program, and how often the comparison
//! raises a false alarm.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

mod common;

use std::path::PathBuf;

use recall_capacity::baseline::drift::{ALPHA, Subject, compare};
use recall_capacity::baseline::resample::deal;
use recall_capacity::baseline::{Baseline, Measured};
use recall_capacity::report::judge;
use recall_capacity::reproduce::{Places, load};
use recall_capacity::spec::Profile;
use recall_capacity::store::Store;
use serde_json::Value;

use common::{PROVENANCE, Place, RECORDS};

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
seeds = 8
test_sequences = 512
[[profile.quick.blocks]]
vocab = 64
dim = [16, 24]
len = 8
samples = [64, 128, 256, 512]
"#;
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
seeds = 4
test_sequences = 16
[[profile.quick.blocks]]
vocab = [32, 48, 64]
dim = [8, 12]
len = [8, 16]
"#;

/// A directory with both.
fn prepared() -> Place {
    Place::new(&[("tiny-curves", CURVES), ("tiny-threshold", THRESHOLD)])
}

impl Place {
    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{from} not in {name}");
        self.put(name, &text.replace(from, to));
    }

    fn drift(&self, code: i32) -> Value {
        let (out, _) = self.expect("verify --json --baseline before.json", code);
        let answer: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(answer["exit_code"], code);
        assert_eq!(answer["baseline"]["drift"], code == 13);
        answer["baseline"].clone()
    }

    /// Changes outcomes, with or without the checksum that their run would have stored.
    fn change(&self, with_checksum: bool, f: impl Fn(usize, &mut Value)) {
        let mut text = String::new();
        for (i, line) in self.read(RECORDS).lines().enumerate() {
            let mut record: Value = serde_json::from_str(line).unwrap();
            f(i, &mut record);
            text.push_str(&format!("{record}\n"));
        }
        if with_checksum {
            self.put_records(&text);
        } else {
            self.put(RECORDS, &text);
        }
    }
}

fn add_hits(record: &mut Value, name: &str, hits: i64) {
    let count = &mut record["outcome"][name];
    let (h, t) = (
        count["hits"].as_i64().unwrap(),
        count["total"].as_i64().unwrap(),
    );
    count["hits"] = (h + hits).clamp(0, t).into();
}

#[test]
fn the_same_records_do_not_drift() {
    let place = prepared();
    place.expect("reproduce", 0);
    place.expect("verify --write-baseline before.json", 0);
    let stored = place.read("before.json");
    place.expect("verify --write-baseline before.json", 0);
    assert_eq!(
        place.read("before.json"),
        stored,
        "same records, same bytes"
    );
    for file in ["before.json", RECORDS] {
        let (out, err) = place.expect(&format!("verify --baseline {file}"), 0);
        assert!(err.is_empty(), "{err}");
        for part in [
            " 0 drifted",
            " 0 verdicts changed",
            "no number differs",
            " 0 of them with another",
        ] {
            assert!(out.contains(part), "{part}: {out}");
        }
        assert!(!out.contains("not compared"), "{out}");
    }
    let tests = place.drift(0)["comparison"]["tests"]
        .as_array()
        .unwrap()
        .clone();
    for subject in ["cell", "block", "threshold", "exponent"] {
        assert!(tests.iter().any(|t| t["subject"] == subject), "{subject}");
    }
    assert!(
        tests
            .iter()
            .all(|t| t["difference"] == 0.0 && t["p"] == 1.0)
    );
}

#[test]
fn a_changed_program_drifts_on_the_same_seeds() {
    let place = prepared();
    place.expect("reproduce", 0);
    place.expect("verify --write-baseline before.json", 0);
    // Twelve answers of 512 more in every trial: far less than the scatter between seeds.
    place.change(true, |_, r| {
        if r["job"]["config"]["test_sequences"] == 512 {
            add_hits(r, "accuracy", 12);
        }
    });
    let answer = place.drift(13);
    let tests = answer["comparison"]["tests"].as_array().unwrap();
    let drifted: Vec<&Value> = tests
        .iter()
        .filter(|t| t["p_adjusted"].as_f64().unwrap() <= ALPHA)
        .collect();
    assert_eq!(drifted.len() as u64, answer["drifted"].as_u64().unwrap());
    for t in &drifted {
        assert_eq!(t["experiment"], "tiny-curves");
        assert!(t["name"].as_str().unwrap().contains("end-to-end"), "{t}");
        assert_eq!(t["basis"], "paired");
    }
    assert!(drifted.iter().any(|t| t["subject"] == "block"));
    assert_eq!(answer["comparison"]["changed_trials"], 64);

    let (out, _) = place.expect(
        "verify --baseline before.json --junit junit.xml --annotations github",
        13,
    );
    assert!(out.lines().any(|l| l.starts_with("DRIFT ")), "{out}");
    let errors: Vec<&str> = out.lines().filter(|l| l.starts_with("::error ")).collect();
    assert_eq!(errors.len(), drifted.len(), "{out}");
    assert!(errors[0].starts_with(
        "::error file=experiments/tiny-curves.toml,title=tiny-curves drifted from the baseline::"
    ));
    let junit = place.read("junit.xml");
    for part in [
        "<testsuite name=\"claims\"",
        "<testsuite name=\"baseline\"",
        "<testcase classname=\"baseline.tiny-curves\" name=\"cells\">",
        "<failure type=\"drift\"",
        "<testcase classname=\"baseline.tiny-threshold\" name=\"thresholds\"/>",
    ] {
        assert!(junit.contains(part), "{part}: {junit}");
    }
    place.expect(
        "verify --baseline before.json --annotations github --json",
        2,
    );
}

#[test]
fn other_seeds_are_no_drift_and_another_physics_is() {
    let place = prepared();
    place.expect("reproduce", 0);
    place.expect("verify --write-baseline before.json", 0);
    for name in ["tiny-curves", "tiny-threshold"] {
        let file = format!("experiments/{name}.toml");
        place.edit(
            &file,
            "[profile.quick]",
            "[profile.quick]\nfirst_seed = 5000",
        );
    }
    place.expect("reproduce", 0);
    let answer = place.drift(0);
    assert_eq!(answer["comparison"]["shared_trials"], 0);
    let tests = answer["comparison"]["tests"].as_array().unwrap();
    assert!(
        tests
            .iter()
            .all(|t| t["basis"] == "independent" && t["difference"] != 0.0)
    );
    assert!(tests.iter().any(|t| t["subject"] == "threshold"));

    // Fifty answers of 512 fewer in every trial, on seeds of its own.
    place.change(true, |_, r| {
        if r["job"]["config"]["test_sequences"] == 512 {
            add_hits(r, "accuracy", -50);
        }
    });
    let answer = place.drift(13);
    let tests = answer["comparison"]["tests"].as_array().unwrap();
    let drifted = tests
        .iter()
        .filter(|t| t["p_adjusted"].as_f64().unwrap() <= ALPHA);
    let subjects: Vec<&str> = drifted.map(|t| t["subject"].as_str().unwrap()).collect();
    assert!(subjects.contains(&"block"), "{subjects:?}");
}

#[test]
fn a_verdict_that_changes_on_the_same_records_is_a_drift() {
    let place = prepared();
    place.expect("reproduce", 0);
    place.expect("verify --write-baseline before.json", 0);
    place.edit(
        "experiments/tiny-curves.toml",
        "margin = 0.11",
        "margin = 0.03",
    );
    let (out, _) = place.expect("verify --baseline before.json", 13);
    assert!(
        out.contains("DRIFT    tiny-curves: was supported, is inconclusive"),
        "{out}"
    );
    assert!(out.contains("on the same records"), "{out}");
}

#[test]
fn what_is_no_baseline_is_refused() {
    let place = prepared();
    place.expect("reproduce", 0);
    place.expect("verify --write-baseline before.json", 0);
    let good = place.read("before.json");
    for (text, why) in [
        (String::new(), "EOF"),
        ("[1, 2]".to_owned(), "expected a file of"),
        (good[..good.len() / 2].to_owned(), "EOF"),
        (
            good.replacen("\"baseline\":1", "\"baseline\":2", 1),
            "layout is version 2",
        ),
        (
            good.replacen("\"profile\":\"quick\"", "\"profile\":\"full\"", 1),
            "has profile full",
        ),
        (
            good.replacen("\"rng_scheme\":1", "\"rng_scheme\":9", 1),
            "scheme 9",
        ),
        (
            good.replacen("\"seeds\":[0,1", "\"seeds\":[1,0", 1),
            "seeds must ascend",
        ),
        (
            good.replace("\"standard_error\":", "\"standard_error\":-"),
            "no finite number",
        ),
    ] {
        assert_ne!(text, good, "{why}");
        place.put("bad.json", &text);
        let error = Baseline::read(&place.path("bad.json"), Profile::Quick, &[]).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("bad.json") && error.contains(why),
            "{why}: {error}"
        );
    }
    let (out, err) = place.expect("verify --baseline bad.json", 1);
    assert!(out.is_empty() && err.contains("bad.json"), "{err}");
    for path in ["nowhere.json", ".", "/dev/null"] {
        let (_, err) = place.expect(&format!("verify --baseline {path}"), 1);
        assert!(err.contains(path) && err.contains("baseline"), "{err}");
    }
    place.expect("verify --write-baseline no/such/place.json", 1);
    place.expect("verify --junit no/such/place.xml", 1);
}

#[test]
fn records_edited_by_hand_are_found_by_checksum_or_by_simulation() {
    let place = prepared();
    place.expect("reproduce", 0);
    let count = place.read(RECORDS).lines().count();
    let (out, _) = place.expect("verify --rerun 5", 0);
    assert!(
        out.contains("simulated again: 5 records to the last bit"),
        "{out}"
    );
    // One answer in one record.
    let edit = |checksum| {
        place.change(checksum, |i, r| {
            if i == 7 {
                add_hits(
                    r,
                    "recall",
                    if r["outcome"]["recall"]["hits"] == 0 {
                        1
                    } else {
                        -1
                    },
                );
            }
        })
    };
    edit(false);
    let (_, err) = place.expect("verify", 1);
    assert!(err.contains(RECORDS) && err.contains("SHA-256"), "{err}");
    edit(false); // undone, or another edit of the same record
    edit(true);
    place.expect("verify", 0);
    let (_, err) = place.expect(&format!("verify --rerun {count}"), 1);
    assert!(
        err.contains("another outcome") && err.contains("\"seed\":"),
        "{err}"
    );
    // A report of a version that stored no checksum is judged all the same.
    let mut stated: Value = serde_json::from_str(&place.read(PROVENANCE)).unwrap();
    stated
        .as_object_mut()
        .unwrap()
        .remove("measurements_sha256")
        .unwrap();
    place.put(PROVENANCE, &stated.to_string());
    let (_, err) = place.expect("verify", 0);
    assert!(err.contains("no checksum"), "{err}");
}

/// Many seeds of small designs, dealt again and again into two runs that differ by chance alone.
/// The one-off measurement on the committed report is in docs/baseline.md.
#[test]
fn chance_raises_an_alarm_no_more_often_than_stated() {
    const REPETITIONS: u64 = 150;
    let place = prepared();
    place.edit("experiments/tiny-curves.toml", "seeds = 8", "seeds = 24");
    place.edit("experiments/tiny-threshold.toml", "seeds = 4", "seeds = 12");
    place.expect("reproduce", 0);
    let places = Places {
        experiments: place.path("experiments"),
        runs: PathBuf::new(),
        reports: place.path("reports"),
    };
    let experiments = load(&places, Profile::Quick).unwrap();
    let store = Store::read_only(place.path(RECORDS)).unwrap();
    let (mut alarms, mut missed) = (0, 0);
    let mut p_values = Vec::new();
    for seed in 0..REPETITIONS {
        let [before, mut now] = deal(Profile::Quick, &experiments, &store, seed)
            .map(|hand| Baseline::of(&judge(Profile::Quick, &experiments, &hand).unwrap(), &hand));
        let drift = compare(&before, &now).unwrap();
        alarms += u64::from(drift.found());
        let of_cells = drift.tests.iter().filter(|t| t.name.contains("end-to-end"));
        p_values.extend(of_cells.filter(|t| t.subject == Subject::Cell).map(|t| t.p));
        // The same comparison finds a shift of .05 in all cells.
        for c in now.experiments.iter_mut().flat_map(|e| &mut e.cells) {
            if c.quantity == Measured::Accuracy {
                c.trials.values.iter_mut().for_each(|x| *x += 0.05);
            }
        }
        let drift = compare(&before, &now).unwrap();
        missed += u64::from(!drift.found());
    }
    // At one in a hundred, more than five of 150 would come in one of two hundred such tests.
    assert!(alarms <= 5, "{alarms} false alarms in {REPETITIONS} runs");
    assert!(
        missed <= REPETITIONS / 20,
        "{missed} of {REPETITIONS} shifts missed"
    );
    let share = |level: f64| {
        p_values.iter().filter(|p| **p <= level).count() as f64 / p_values.len() as f64
    };
    assert!((0.03..0.07).contains(&share(0.05)), "{}", share(0.05));
    assert!((0.4..0.6).contains(&share(0.5)), "{}", share(0.5));
}
