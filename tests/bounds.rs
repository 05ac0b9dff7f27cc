//! Experiments on lower bounds, from the file's text to findings, at tiny sizes.

use std::collections::HashMap;
use std::path::Path;

use recall_capacity::experiment::{Findings, Records, analyse, jobs, pending};
use recall_capacity::job::{Job, Record};
use recall_capacity::spec::{Experiment, Profile};
use recall_capacity::stats::verdict::Evidence;

#[derive(Default)]
struct Memory(HashMap<String, Record>);

impl Records for Memory {
    fn get(&self, job: &Job) -> Option<&Record> {
        self.0.get(&job.key())
    }
}

fn run(text: &str) -> (Findings, Vec<Job>) {
    let experiment = Experiment::parse(Path::new("dir/x.toml"), text).expect("a valid file");
    let design = experiment.design(Profile::Quick).expect("a quick design");
    let mut memory = Memory::default();
    let todo = pending(&experiment, design, &memory);
    for job in &todo {
        memory.0.insert(job.key(), job.run().expect("a valid job"));
    }
    assert!(pending(&experiment, design, &memory).is_empty());
    assert_eq!(jobs(&experiment, design, &memory).len(), todo.len());
    let findings = analyse(&experiment, design, &memory).expect("complete");
    assert_eq!(
        findings,
        analyse(&experiment, design, &memory).expect("complete")
    );
    (findings, todo)
}

fn with(claim: &str, task: &str, blocks: &str) -> String {
    format!(
        "id = \"x\"\ntitle = \"T\"\nclaim = \"{claim}\"\nrationale = \"R\"\n[task]\n{task}\n[profile.quick]\nseeds = 4\ntest_sequences = 64\n{blocks}"
    )
}

const BLOCK: &str = "[[profile.quick.blocks]]\nlabel = \"a\"\nvocab = 32\ndim = 20\nlen = 4\nsamples = [32, 64, 128, 256, 512, 1024]\n";

/// Claim ids with the number of bound tests of each (zero for other evidence).
fn claims(findings: &Findings) -> Vec<(&str, usize)> {
    findings
        .claims
        .iter()
        .map(|c| match &c.evidence {
            Evidence::Bound(b) => (c.id.as_str(), b.tests.len()),
            _ => (c.id.as_str(), 0),
        })
        .collect()
}

#[test]
fn every_decoder_and_oracle_is_judged_at_every_cell() {
    let task = "kind = \"bound\"\nmargin = 0.05\ndecoders = [\"matched-filter\", \"whitened\", \"amp-assigned\"]\noracle = [0.5, 2.0]";
    let (findings, todo) = run(&with("first-gradient-bound", task, BLOCK));
    assert_eq!(todo.len(), 3 * 6 * 4);
    // The engine's own matched filter stands for the decoder of that name; behind an oracle all
    // three are decoded.
    let expected = [("x", 18), ("x/oracle-0.5", 18), ("x/oracle-2", 18)];
    assert_eq!(claims(&findings), expected);
    for c in &findings.claims {
        let Evidence::Bound(b) = &c.evidence else {
            panic!("{}", c.id)
        };
        for t in &b.tests {
            assert!(t.excess <= 3.0 * t.standard_error + 1e-12, "{} {t:?}", c.id);
        }
    }
    // Behind an oracle a decoder knows less: mean accuracy over cells falls with kappa.
    let mean = |quantity: &str| {
        let cells = findings.cells.iter().filter(|c| c.quantity == quantity);
        let values: Vec<f64> = cells.map(|c| c.measured).collect();
        assert_eq!(values.len(), 6, "{quantity}");
        values.iter().sum::<f64>() / 6.0
    };
    let clean = mean("whitened against bound");
    let some = mean("whitened, oracle noise 0.5, against bound");
    let more = mean("whitened, oracle noise 2, against bound");
    assert!(
        clean > some + 0.02 && some > more + 0.02,
        "{clean} {some} {more}"
    );
    let stems: Vec<&str> = findings.figures.iter().map(|f| f.stem.as_str()).collect();
    assert_eq!(stems, ["x", "x-oracle-0p5", "x-oracle-2"]);
}

#[test]
fn without_decoders_the_jobs_are_the_plain_cells() {
    let (findings, todo) = run(&with(
        "first-gradient-bound",
        "kind = \"bound\"\nmargin = 0.05",
        BLOCK,
    ));
    assert_eq!(claims(&findings), [("x", 6)]);
    assert!(todo.iter().all(|j| j.config.decoders.is_empty()));
    assert!(!todo[0].canonical().contains("decoders"));
}

#[test]
fn thresholds_of_decoders_are_set_beside_bound_and_formula() {
    let task = "kind = \"decoders\"\ndecoders = [\"whitened\", \"amp-assigned\"]\nlevel = 0.5\nmargin = 0.05\ntest = { slopes = false, constant = 1.5 }";
    let blocks: String = [(32, 20, 4), (32, 24, 8), (48, 26, 4), (48, 30, 8), (24, 16, 4), (24, 18, 8)]
        .map(|(v, d, l)| {
            let sizes: Vec<String> = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
                .map(|m: usize| (m * v).to_string())
                .to_vec();
            format!(
                "[[profile.quick.blocks]]\nlabel = \"{v}\"\nvocab = {v}\ndim = {d}\nlen = {l}\nlabels = \"balanced\"\nsamples = [{}]\n",
                sizes.join(", ")
            )
        })
        .concat();
    let (findings, todo) = run(&with("decoder-thresholds", task, &blocks));
    assert_eq!(todo.len(), 6 * 10 * 4);
    assert_eq!(
        claims(&findings),
        [("x/bound", 6 * 10 * 2), ("x/whitened/constant", 0)]
    );
    assert_eq!(findings.thresholds.len(), 12);
    for pair in findings.thresholds.chunks(2) {
        let (white, message) = (&pair[0], &pair[1]);
        let n = white.measured.expect("the grid spans the threshold");
        // Tiny sizes: the formula within a third, message passing no worse than a quarter above.
        let formula = white.predicted.expect("above the wall");
        assert!((n / formula).ln().abs() < 0.3, "{white:?}");
        assert!(message.measured.unwrap() < 1.25 * n, "{message:?}");
    }
    assert!(
        findings
            .tables
            .iter()
            .any(|t| t.header.contains(&"best / bound".to_owned()))
    );
}

#[test]
fn subtraction_brings_the_query_nearer_to_its_bound() {
    let blocks = "[[profile.quick.blocks]]\nlabel = \"a\"\nvocab = 64\ndim = 24\nlen = 32\nsamples = [128, 256, 512]\n";
    let task = "kind = \"query\"\nmargin = 0.2\ntest = { slopes = false }";
    let (findings, todo) =
        run(&with("query-bound", task, blocks).replace("seeds = 4", "seeds = 12"));
    assert_eq!(todo.len(), 36);
    assert_eq!(
        claims(&findings),
        [("x/bound", 12), ("x/noise/constant", 0)]
    );
    let cosine = |reading: &str| -> f64 {
        let quantity = format!("squared cosine against bound, {reading}");
        let cells = findings.cells.iter().filter(|c| c.quantity == quantity);
        cells.map(|c| c.measured).sum::<f64>() / 3.0
    };
    let plain = cosine("as descent has it");
    let debiased = cosine("mean bias subtracted");
    let bayes = cosine("Bayes query");
    assert!(debiased > plain + 0.05, "{plain} {debiased}");
    assert!(bayes > debiased, "{debiased} {bayes}");
    // Descent's own reading has the engine's attention, sequence by sequence.
    for job in todo.iter().take(6) {
        let outcome = job.run().unwrap().outcome;
        let query = outcome.query.unwrap();
        assert_eq!(query.readings[0].attention, outcome.attention);
        assert!((query.signal - outcome.signal).abs() < 1e-9);
        assert!(query.noise_squared > 0.0 && query.bound <= 1.0);
    }
}

#[test]
fn designs_that_cannot_be_decoded_are_refused_with_the_place() {
    let decoders =
        "kind = \"decoders\"\ndecoders = [\"whitened\"]\nlevel = 0.5\nmargin = 0.05\ntest = {}";
    let refused = |claim: &str, task: &str, from: &str, to: &str, expected: &str| {
        let text = with(claim, task, BLOCK).replace(from, to);
        let message = Experiment::parse(Path::new("dir/x.toml"), &text)
            .unwrap_err()
            .to_string();
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("dir/x.toml"), "{message}");
    };
    refused(
        "decoder-thresholds",
        decoders,
        "32, 64",
        "\"infinite\", 64",
        "finite batch",
    );
    refused(
        "decoder-thresholds",
        decoders,
        "vocab = 32",
        "vocab = 4096",
        "blocks[0]: vocab = 4096",
    );
    refused(
        "decoder-thresholds",
        decoders,
        "[\"whitened\"]",
        "[]",
        "task.decoders is empty",
    );
    refused(
        "decoder-thresholds",
        decoders,
        "\"whitened\"",
        "\"whitend\"",
        "Did you mean `whitened`?",
    );
    let bound = "kind = \"bound\"\nmargin = 0.05\noracle = [1.0]";
    refused(
        "first-gradient-bound",
        bound,
        "",
        "",
        "task.oracle needs task.decoders",
    );
    let query = "kind = \"query\"\nmargin = 0.1\ntest = {}";
    refused(
        "query-bound",
        query,
        "len = 4",
        "len = 4\ntrigger_in_values = true",
        "read_query",
    );
}
