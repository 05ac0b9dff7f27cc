//! The mutation harness on small runs of every kind of experiment.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use assert_cmd::Command;
use recall_capacity::experiment::{Records, Theory, analyse, pending};
use recall_capacity::job::{Job, Record};
use recall_capacity::mutate::{Bench, Change, Fate, Mutant, Site, Terms};
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
    for site in [Site::Prediction, Site::Spread, Site::AccuracyBound] {
        let identity = Mutant {
            site,
            change: Change::Identity,
            axis: SearchAxis::Samples,
        };
        let claims = bench.all_claims(&identity).unwrap().concat();
        assert_eq!(text(&claims), expected, "{site:?}");
    }
}

#[test]
fn no_gross_change_of_a_critical_value_is_supported() {
    let (experiments, memory) = run(&[threshold()]);
    let bench = Bench::new(Profile::Quick, &experiments, &memory).unwrap();
    let outcome = bench.run().unwrap();
    assert!(outcome.skipped.is_empty());
    let whole: Vec<_> = outcome
        .mutants
        .iter()
        .filter(|r| r.formula == "thresholds.noise_ratio")
        .collect();
    // Three constants, four exponents and two logarithms for each of d, L and V.
    assert_eq!(whole.len(), 3 + 3 * 6);
    for row in &whole {
        let gross = row.mutation.starts_with("constant") || row.mutation.starts_with("exponent");
        assert!(!gross || row.verdict != Fate::Supported, "{row:?}");
        assert_eq!(row.claim, "attention-samples-balanced");
        assert!(row.verdict == Fate::Refuted || !row.reason.is_empty());
    }
    let twice = whole.iter().find(|r| r.mutation == "constant x 2").unwrap();
    assert_eq!(twice.verdict, Fate::Refuted, "{twice:?}");
    assert_eq!(twice.detectable, Some(true));
    let constant = twice
        .parts
        .iter()
        .find(|p| p.id.ends_with("constant"))
        .unwrap();
    assert!((constant.deviation.unwrap() - 2f64.ln()).abs() < 1e-9);
    // What limits attention here cannot be left out; what is next to nothing can.
    let dropped = |term: &str| {
        let mut of_term = outcome.mutants.iter().filter(|r| r.formula == term);
        of_term.find(|r| r.mutation == "dropped")
    };
    let leading = dropped("attention.gradient_noise").unwrap();
    assert_eq!(leading.verdict, Fate::Refuted, "{leading:?}");
    let slight = dropped("attention.mean_bias").unwrap();
    assert_eq!(slight.detectable, Some(false), "{slight:?}");
    assert!(slight.verdict != Fate::Refuted && !slight.defect);
    let s = outcome.summary;
    assert_eq!(s.mutants, outcome.mutants.len());
    assert_eq!(
        s.mutants,
        s.refuted + s.inconclusive + s.supported + s.unseen
    );
}

/// A search sees the sum of all terms only, an experiment on scores each term by itself: a term is
/// one function, so one of them is enough to notice that it is wrong.
#[test]
fn a_term_is_judged_over_the_whole_report() {
    let (experiments, memory) = run(&[threshold(), all()[3].clone()]);
    let outcome = |experiments: &[Experiment]| {
        let bench = Bench::new(Profile::Quick, experiments, &memory).unwrap();
        bench.run().unwrap().terms
    };
    let (alone, both) = (outcome(&experiments[..1]), outcome(&experiments));
    let fate = |terms: &Terms, mutation: &str| {
        let mut rows = terms.mutants.iter();
        let row = rows.find(|r| r.formula == "attention.cross" && r.mutation == mutation);
        row.unwrap().clone()
    };
    // The search does not see that the cross term is too small.
    let before = fate(&alone, "constant x 0.7");
    assert_ne!(before.verdict, Fate::Refuted, "{before:?}");
    assert_eq!(before.detectable, Some(false), "{before:?}");
    let reach = |terms: &Terms| {
        let mut all = terms.reach.iter();
        let found = all.find(|r| r.formula == "attention.cross").unwrap();
        (
            found.above.unwrap_or(f64::INFINITY),
            found.experiments.len(),
        )
    };
    let ((far, one), (near, two)) = (reach(&alone), reach(&both));
    assert!(near < far, "{near} {far}");
    assert_eq!((one, two), (1, 2));
    let twice = fate(&both, "constant x 2");
    assert_eq!(twice.verdict, Fate::Refuted, "{twice:?}");
    assert_eq!(twice.refuted_by.as_deref(), Some("scores/cross/constant"));
    assert_eq!(twice.detectable, None);
    // What is refuted is said to be detectable from a factor no larger than that.
    assert!(near <= 3.0, "{near}");
    for terms in [&alone, &both] {
        let s = terms.summary;
        assert_eq!(s.mutants, terms.mutants.len());
        assert_eq!(
            s.mutants,
            s.refuted + s.inconclusive + s.supported + s.unseen
        );
        assert_eq!(s.defects, 0);
        for r in &terms.mutants {
            assert_eq!(r.verdict == Fate::Refuted, r.reason.is_empty(), "{r:?}");
            assert_eq!(r.verdict == Fate::Refuted, r.refuted_by.is_some(), "{r:?}");
        }
    }
}

#[test]
fn every_formula_of_a_claim_is_changed_or_said_not_to_be() {
    let (experiments, memory) = run(&all());
    let bench = Bench::new(Profile::Quick, &experiments, &memory).unwrap();
    let outcome = bench.run().unwrap();
    for e in &experiments {
        let claim = recall_theory::registry::claim(&e.claim).unwrap();
        for formula in claim.formula_ids {
            let changed = outcome
                .mutants
                .iter()
                .any(|r| r.experiment == e.id && r.formula == *formula);
            let said = outcome
                .untouched
                .iter()
                .any(|u| u.experiment == e.id && u.formula == *formula);
            assert!(changed != said, "{} {formula}", e.id);
        }
    }
    for r in &outcome.mutants {
        assert!(!(r.bound && r.defect), "{r:?}");
        assert_eq!(r.detectable.is_none(), r.bound);
    }
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
    let defects = count(&answer) + count(&answer["terms"]);
    assert_eq!(code, Some(if defects > 0 { 14 } else { 0 }));
    let rows = answer["mutants"].as_array().unwrap();
    for row in rows {
        for key in ["formula", "mutation", "claim", "verdict"] {
            assert!(row[key].is_string(), "{key} {row}");
        }
        assert!(row["detectable"].is_boolean());
    }
    assert_eq!(answer["skipped"][0]["experiment"], "query");
    let terms = answer["terms"]["mutants"].as_array().unwrap();
    assert_eq!(answer["terms"]["summary"]["mutants"], terms.len());
    assert!(terms.iter().all(|r| r["verdict"].is_string()));
    let (again, text, _) = recall("mutate --only threshold");
    assert!(
        text.contains(&format!("{} changes of terms: ", terms.len())),
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
