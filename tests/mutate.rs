//! The mutation harness on small runs of every kind of experiment.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use assert_cmd::Command;
use recall_capacity::experiment::{Records, Theory, analyse, pending};
use recall_capacity::job::{Job, Record};
use recall_capacity::mutate::{Bench, Change, Fate, Mutant, Outcome, Row, Site, Table};
use recall_capacity::spec::{Experiment, Profile, SearchAxis};
use recall_capacity::stats::verdict::{Policy, decide};
use serde_json::Value;

#[derive(Default)]
struct Memory(HashMap<String, Record>);

impl Records for Memory {
    fn get(&self, job: &Job) -> Option<&Record> {
        self.0.get(&job.key())
    }
}

fn file(id: &str, claim: &str, task: &str, profile: &str) -> String {
    format!(
        "id = \"{id}\"\ntitle = \"T\"\nclaim = \"{claim}\"\nrationale = \"R\"\n[task]\n{task}\n[profile.quick]\n{profile}"
    )
}

fn threshold() -> String {
    file(
        "threshold",
        "attention-samples-balanced",
        "kind = \"threshold\"\nsearch = { axis = \"samples\", criterion = { kind = \"noise-ratio\", level = 0.4 } }\ntest = { margin = 0.15, constant = 1.25 }",
        "seeds = 3\ntest_sequences = 8\n[[profile.quick.blocks]]\nvocab = [64, 128]\ndim = [8, 12, 16]\nlen = [16, 32]\nlabels = \"balanced\"\n",
    )
}

fn all() -> Vec<String> {
    let cells = "seeds = 3\ntest_sequences = 128\n[[profile.quick.blocks]]\nvocab = 64\ndim = [16, 24]\nlen = 8\nsamples = [64, 128, 256, 512]\n";
    vec![
        threshold(),
        file(
            "curves",
            "accuracy-curves",
            "kind = \"curves\"\naxis = \"samples\"\nquantities = [\"accuracy\"]\ntest = { margin = 0.05, max_sd = 0.1, predicted_between = [0.02, 0.98] }",
            cells,
        ),
        file(
            "phase",
            "phase-diagram",
            "kind = \"phase\"\nquantity = \"accuracy\"\nlevel = 0.5\ntest = { margin = 0.05, max_sd = 0.1, predicted_between = [0.02, 0.98] }",
            cells,
        ),
        file(
            "scores",
            "noise-terms",
            "kind = \"scores\"\nquantities = [\"spread\", \"cross\"]\ntest = { margin = 0.5, constant = 1.5 }",
            "decompose = true\nseeds = 3\ntest_sequences = 8\n[[profile.quick.blocks]]\nvocab = [64, 128]\ndim = [12, 16, 24]\nlen = 8\nsamples = [256, 512]\n",
        ),
        file(
            "bound",
            "first-gradient-bound",
            "kind = \"bound\"\nmargin = 0.2\ndecoders = [\"whitened\"]\noracle = [1.0]",
            "seeds = 3\ntest_sequences = 64\n[[profile.quick.blocks]]\nvocab = 64\ndim = 16\nlen = 8\nsamples = [64, 256, 1024]\n",
        ),
        file(
            "decoders",
            "decoder-thresholds",
            "kind = \"decoders\"\ndecoders = [\"matched-filter\", \"whitened\"]\nlevel = 0.5\nmargin = 0.2\ntest = { slopes = false, constant = 2.0 }",
            "seeds = 3\ntest_sequences = 8\n[[profile.quick.blocks]]\nvocab = 64\ndim = [24, 28, 32]\nlen = [4, 6, 8]\nlabels = \"balanced\"\nsamples = [64, 128, 256, 512, 1024, 2048, 4096]\n",
        ),
        file(
            "query",
            "query-bound",
            "kind = \"query\"\nmargin = 0.3\ntest = { slopes = false, constant = 2.0 }",
            "seeds = 3\ntest_sequences = 64\n[[profile.quick.blocks]]\nvocab = 128\ndim = 32\nlen = 16\nsamples = [256, 512, 1024]\n",
        ),
    ]
}

fn run(texts: &[String]) -> (Vec<Experiment>, Memory) {
    let mut memory = Memory::default();
    let experiments: Vec<Experiment> = texts
        .iter()
        .map(|text| {
            let path = format!("dir/{}.toml", id(text));
            Experiment::parse(Path::new(&path), text).unwrap()
        })
        .collect();
    for e in &experiments {
        let design = e.design(Profile::Quick).unwrap();
        loop {
            let todo = pending(e, design, &memory);
            if todo.is_empty() {
                break;
            }
            for job in todo {
                memory.0.insert(job.key(), job.run().unwrap());
            }
        }
    }
    (experiments, memory)
}

fn id(text: &str) -> String {
    text.split('"').nth(1).unwrap().to_owned()
}

#[test]
fn an_unchanged_theory_gets_the_verdicts_of_the_report_byte_for_byte() {
    let (experiments, memory) = run(&all());
    let bench = Bench::new(Profile::Quick, &experiments, &memory).unwrap();
    let honest: Vec<_> = experiments
        .iter()
        .map(|e| analyse(e, e.design(Profile::Quick).unwrap(), &memory).unwrap())
        .flat_map(|f| f.claims)
        .collect();
    assert!(honest.len() >= 10, "{}", honest.len());
    let text = |claims: &[_]| {
        let verdicts = decide(claims, &Policy::default()).unwrap();
        serde_json::to_string(&(claims, verdicts)).unwrap()
    };
    let expected = text(&honest);
    assert_eq!(text(&bench.all_claims(&Theory).unwrap().concat()), expected);
    for site in [Site::NoiseRatio, Site::Budget, Site::AccuracyBound] {
        let identity = Mutant {
            site,
            change: Change::Identity,
            axis: SearchAxis::Samples,
        };
        let claims = bench.all_claims(&identity).unwrap().concat();
        assert_eq!(text(&claims), expected, "{site:?}");
    }
}

fn outcome(experiments: &[Experiment], memory: &Memory) -> Outcome {
    let bench = Bench::new(Profile::Quick, experiments, memory).unwrap();
    bench.run().unwrap()
}

fn rows<'a>(table: &'a Table, formula: &str) -> Vec<&'a Row> {
    let of_formula = table.mutants.iter().filter(|r| r.formula == formula);
    of_formula.collect()
}

fn row<'a>(table: &'a Table, formula: &str, mutation: &str) -> &'a Row {
    let found = rows(table, formula);
    found.into_iter().find(|r| r.mutation == mutation).unwrap()
}

/// Counts and rows say the same, and each row names a claim and a reason.
fn consistent(table: &Table) {
    let s = table.summary;
    assert_eq!(s.mutants, table.mutants.len());
    assert_eq!(
        s.mutants,
        s.refuted + s.inconclusive + s.supported + s.unseen
    );
    for r in &table.mutants {
        assert_eq!(r.verdict == Fate::Refuted, r.reason.is_empty(), "{r:?}");
        let own = |e: &String| r.claim == *e || r.claim.starts_with(&format!("{e}/"));
        assert!(r.experiments.iter().any(own), "{r:?}");
        assert!(!(r.bound && r.defect), "{r:?}");
        assert_eq!(r.detectable.is_none(), r.bound);
    }
}

#[test]
fn no_gross_change_of_a_critical_value_is_supported() {
    let (experiments, memory) = run(&[threshold()]);
    let outcome = outcome(&experiments, &memory);
    assert!(outcome.skipped.is_empty());
    let whole = rows(&outcome.report, "thresholds.noise_ratio");
    // Three constants, four exponents and two logarithms for each of d, L and V.
    assert_eq!(whole.len(), 3 + 3 * 6);
    for row in &whole {
        let gross = row.mutation.starts_with("constant") || row.mutation.starts_with("exponent");
        assert!(!gross || row.verdict != Fate::Supported, "{row:?}");
        assert_eq!(row.experiments, ["threshold"]);
    }
    let twice = row(&outcome.report, "thresholds.noise_ratio", "constant x 2");
    assert_eq!(twice.verdict, Fate::Refuted, "{twice:?}");
    assert_eq!(twice.detectable, Some(true));
    assert_eq!(twice.claim, "threshold/constant");
    assert!(twice.power.unwrap() > 0.8, "{twice:?}");
    let constant = twice.parts.iter().find(|p| p.id == twice.claim).unwrap();
    assert!((constant.deviation.unwrap() - 2f64.ln()).abs() < 1e-9);
    // What limits attention here cannot be left out; what is next to nothing can.
    let leading = row(&outcome.report, "attention.gradient_noise", "dropped");
    assert_eq!(leading.verdict, Fate::Refuted, "{leading:?}");
    let slight = row(&outcome.report, "attention.mean_bias", "dropped");
    assert_eq!(slight.detectable, Some(false), "{slight:?}");
    assert!(slight.verdict != Fate::Refuted && !slight.defect);
    consistent(&outcome.report);
    consistent(&outcome.alone);
    // With one experiment the report and the experiment alone are the same for a whole formula.
    let alone = rows(&outcome.alone, "thresholds.noise_ratio");
    assert_eq!(whole, alone);
    assert!(rows(&outcome.alone, "attention.mean_bias").is_empty());
}

/// A search sees the sum of all terms only, an experiment on scores each term by itself: a term is
/// one function, so one of them is enough to notice that it is wrong. Each change is one mutant,
/// however many experiments ask for the term.
#[test]
fn a_term_is_judged_over_the_whole_report() {
    let (experiments, memory) = run(&[threshold(), all()[3].clone()]);
    let (alone, both) = (
        outcome(&experiments[..1], &memory),
        outcome(&experiments, &memory),
    );
    // The search does not see that the cross term is too small.
    let before = row(&alone.report, "attention.cross", "constant x 0.7");
    assert_ne!(before.verdict, Fate::Refuted, "{before:?}");
    assert_eq!(before.detectable, Some(false), "{before:?}");
    let reach = |outcome: &Outcome| {
        let mut all = outcome.reach.iter();
        let found = all.find(|r| r.formula == "attention.cross").unwrap();
        (
            found.above.unwrap_or(f64::INFINITY),
            found.experiments.len(),
        )
    };
    let ((far, one), (near, two)) = (reach(&alone), reach(&both));
    assert!(near < far, "{near} {far}");
    assert_eq!((one, two), (1, 2));
    // What is refuted is said to be detectable from a factor no larger than that.
    assert!(near <= 3.0, "{near}");
    let twice = row(&both.report, "attention.cross", "constant x 2");
    assert_eq!(twice.verdict, Fate::Refuted, "{twice:?}");
    assert_eq!(twice.claim, "scores/cross/constant");
    assert_eq!(twice.experiments, ["threshold", "scores"]);
    for outcome in [&alone, &both] {
        consistent(&outcome.report);
        let mut seen = std::collections::HashSet::new();
        for r in &outcome.report.mutants {
            assert!(seen.insert((&r.formula, &r.mutation, r.along)), "{r:?}");
        }
    }
}

/// One that is refuted by one experiment is not saved by another that supports it, nor one that is
/// left open by one; and what an experiment by itself supports is listed apart.
#[test]
fn an_accuracy_and_its_parts_are_one_mutant_each() {
    let (experiments, memory) = run(&all()[1..3]);
    let outcome = outcome(&experiments, &memory);
    consistent(&outcome.report);
    for formula in [
        "accuracy.end_to_end",
        "attention.accuracy",
        "recall.accuracy",
    ] {
        let own = rows(&outcome.report, formula);
        assert!(own.iter().all(|r| r.experiments == ["curves", "phase"]));
        assert!(own.iter().all(|r| r.along == Some("N")));
        for r in own {
            let verdicts = || r.parts.iter().map(|p| p.verdict.as_str());
            let any = |word: &str| verdicts().any(|v| v.starts_with(word));
            let expected = match (any("refuted"), any("inconclusive"), any("supported")) {
                (true, ..) => Fate::Refuted,
                (_, true, _) => Fate::Inconclusive,
                (.., true) => Fate::Supported,
                _ => Fate::Unseen,
            };
            assert_eq!(r.verdict, expected, "{r:?}");
        }
    }
    // A part is no formula of one experiment by itself.
    assert!(rows(&outcome.alone, "attention.accuracy").is_empty());
    let alone = rows(&outcome.alone, "accuracy.end_to_end");
    let of = |id: &str| alone.iter().filter(|r| r.experiments == [id]).count();
    assert_eq!(
        (of("curves"), of("phase")),
        (alone.len() / 2, alone.len() / 2)
    );
}

#[test]
fn every_formula_of_a_claim_is_changed_or_said_not_to_be() {
    let (experiments, memory) = run(&all());
    let outcome = outcome(&experiments, &memory);
    for e in &experiments {
        let claim = recall_theory::registry::claim(&e.claim).unwrap();
        for formula in claim.formula_ids {
            let changed = rows(&outcome.report, formula)
                .iter()
                .any(|r| r.experiments.contains(&e.id));
            let said = outcome
                .untouched
                .iter()
                .any(|u| u.experiment == e.id && u.formula == *formula);
            assert!(changed != said, "{} {formula}", e.id);
        }
    }
    consistent(&outcome.report);
    consistent(&outcome.alone);
}

#[test]
fn the_program_judges_wrong_formulas_and_leaves_out_what_is_not_stored() {
    let place = tempfile::tempdir().unwrap();
    let experiments = place.path().join("experiments");
    fs::create_dir(&experiments).unwrap();
    fs::write(experiments.join("threshold.toml"), threshold()).unwrap();
    let recall = |args: &str| {
        let output = Command::cargo_bin("recall")
            .unwrap()
            .current_dir(place.path())
            .args(args.split_whitespace())
            .output()
            .unwrap();
        let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    assert_eq!(recall("reproduce").0, Some(0));
    fs::write(experiments.join("query.toml"), &all()[6]).unwrap();
    let (code, out, err) = recall("mutate --json");
    assert!(
        err.contains("left out: experiment query: 9 of its jobs"),
        "{err}"
    );
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["exit_code"], code.unwrap());
    let count = |of: &Value| of["summary"]["defects"].as_u64().unwrap();
    let defects = count(&answer) + count(&answer["alone"]);
    assert_eq!(code, Some(if defects > 0 { 14 } else { 0 }));
    let rows = answer["mutants"].as_array().unwrap();
    for row in rows {
        for key in ["formula", "mutation", "claim", "verdict"] {
            assert!(row[key].is_string(), "{key} {row}");
        }
        assert!(row["detectable"].is_boolean());
    }
    assert_eq!(answer["skipped"][0]["experiment"], "query");
    let alone = answer["alone"]["mutants"].as_array().unwrap();
    assert_eq!(answer["alone"]["summary"]["mutants"], alone.len());
    assert_eq!(answer["summary"]["mutants"], rows.len());
    let (again, text, _) = recall("mutate --only threshold");
    assert!(
        text.contains(&format!("{} mutants of one experiment: ", alone.len())),
        "{text}"
    );
    assert_eq!(again, code);
    assert!(
        text.contains(&format!("{} mutants: ", rows.len())),
        "{text}"
    );
    let (code, _, err) = recall("mutate --only nothing");
    assert_eq!(code, Some(2));
    assert!(err.contains("--only nothing"), "{err}");
    let (code, _, err) = recall("mutate --profile full");
    assert_eq!(code, Some(1));
    assert!(err.contains("[profile.full]"), "{err}");
}
