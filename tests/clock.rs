//! A run under a clock that jumps ends with the bytes of a run under the system's clock. The clock
//! is replaced for the whole process, so this file has one test.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use recall_capacity::clock::{self, Moment};
use recall_capacity::progress::Lines;
use recall_capacity::reproduce::{Places, reproduce};
use recall_capacity::runner::RunOptions;
use recall_capacity::spec::Profile;

/// Fixed cells, and a search in rounds, whose next jobs depend on the records before.
const EXPERIMENTS: [(&str, &str); 2] = [
    (
        "cells",
        r#"
id = "cells"
title = "Cells"
claim = "accuracy-curves"
rationale = "Small."
[task]
kind = "curves"
axis = "samples"
quantities = ["attention"]
test = { margin = 0.2, max_sd = 0.3 }
[profile.quick]
seeds = 8
test_sequences = 128
[[profile.quick.blocks]]
vocab = 64
dim = [16, 24]
len = 8
samples = [64, 128, 256]
"#,
    ),
    (
        "search",
        r#"
id = "search"
title = "Search"
claim = "attention-samples-natural"
rationale = "Small."
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
len = 8
"#,
    ),
];

static READINGS: AtomicU64 = AtomicU64::new(0);

/// Jumps at every reading, back as well as forth, to anywhere within 2^32 seconds (136 years).
fn jumping() -> Duration {
    let n = READINGS.fetch_add(1, Ordering::Relaxed);
    // The top 32 bits of a Weyl sequence, which spreads evenly: steps of .618 forth or .382 back.
    Duration::from_secs(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32)
}

/// Everything that a run leaves behind, by name, and its trials.
fn run(dir: &Path) -> (BTreeMap<String, Vec<u8>>, usize) {
    let places = Places {
        experiments: dir.join("experiments"),
        runs: dir.join("runs"),
        reports: dir.join("reports"),
    };
    fs::create_dir(&places.experiments).unwrap();
    for (name, text) in EXPERIMENTS {
        fs::write(places.experiments.join(format!("{name}.toml")), text).unwrap();
    }
    let options = RunOptions {
        threads: 2,
        memory_limit_bytes: None,
        stop: None,
    };
    let mut lines = Lines::new(Vec::new(), Duration::from_secs(1));
    let done = reproduce(&places, Profile::Quick, options, &mut lines).unwrap();
    let mut files = BTreeMap::new();
    collect(&done.directory, &done.directory, &mut files);
    (files, done.simulated)
}

fn collect(root: &Path, dir: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_string_lossy();
            files.insert(name.into_owned(), fs::read(path).unwrap());
        }
    }
}

/// A provenance file without what a clock says, and whether it had it.
fn timeless(text: &[u8]) -> (serde_json::Value, bool) {
    let mut value: serde_json::Value = serde_json::from_slice(text).unwrap();
    let mut had = true;
    for run in value["invocations"].as_array_mut().unwrap() {
        let run = run.as_object_mut().unwrap();
        for name in ["wall_seconds", "simulation_core_seconds"] {
            had &= run.remove(name).is_some();
        }
    }
    (value, had)
}

#[test]
fn a_clock_that_jumps_changes_nothing_but_the_times_in_the_provenance() {
    let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (mut steady, trials) = run(places[0].path());

    clock::replace(jumping);
    // The clock does go back: time since a reading is then zero, never negative.
    let moments: Vec<Moment> = (0..100).map(|_| Moment::now()).collect();
    assert!(moments.windows(2).any(|pair| pair[1] < pair[0]));
    assert!(moments.iter().any(|m| m.elapsed() == Duration::ZERO));
    let before = READINGS.load(Ordering::Relaxed);
    let (mut jumped, again) = run(places[1].path());
    let readings = READINGS.load(Ordering::Relaxed) - before;

    assert!(trials > 40 && trials == again, "{trials} {again}");
    // Each trial is timed by two readings; the writer of progress and the store read besides.
    assert!(readings > 2 * trials as u64, "{readings} of {trials}");
    let name = "provenance.json";
    let (a, had_a) = timeless(&steady.remove(name).unwrap());
    let (b, had_b) = timeless(&jumped.remove(name).unwrap());
    assert!(had_a && had_b);
    assert_eq!(a, b);
    assert!(steady.contains_key("measurements.jsonl") && steady.contains_key("report.md"));
    assert_eq!(
        steady.keys().collect::<Vec<_>>(),
        jumped.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in &steady {
        assert!(jumped[name] == *bytes, "{name} differs");
    }
}
