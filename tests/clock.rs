//! A run under a clock that jumps ends with the bytes of a run under the system's clock. The clock
//! is replaced for the whole process, so this file has one test.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use recall_capacity::clock::{self, Moment};
use recall_capacity::progress::Lines;
use recall_capacity::reproduce::{Places, reproduce};
use recall_capacity::runner::RunOptions;
use recall_capacity::spec::Profile;

use common::{CELLS, Place, SEARCH, files_under, same_files};

static READINGS: AtomicU64 = AtomicU64::new(0);

/// Jumps at every reading, back as well as forth, to anywhere within 2^32 seconds (136 years).
fn jumping() -> Duration {
    let n = READINGS.fetch_add(1, Ordering::Relaxed);
    // The top 32 bits of a Weyl sequence, which spreads evenly: steps of .618 forth or .382 back.
    Duration::from_secs(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32)
}

/// Everything that a run leaves behind, by name, and its trials.
fn run(place: &Place) -> (BTreeMap<PathBuf, Vec<u8>>, usize) {
    let places = Places {
        experiments: place.path("experiments"),
        runs: place.path("runs"),
        reports: place.path("reports"),
    };
    let options = RunOptions {
        threads: 2,
        memory_limit_bytes: None,
        stop: None,
    };
    let mut lines = Lines::new(Vec::new(), Duration::from_secs(1));
    let done = reproduce(&places, Profile::Quick, options, &mut lines).unwrap();
    (files_under(&done.directory), done.simulated)
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
    // Fixed cells, and a search whose next jobs depend on the records before.
    let places = [(); 2].map(|()| Place::new(&[("cells", CELLS), ("search", SEARCH)]));
    let (mut steady, trials) = run(&places[0]);

    clock::replace(jumping);
    // The clock does go back: time since a reading is then zero, never negative.
    let moments: Vec<Moment> = (0..100).map(|_| Moment::now()).collect();
    assert!(moments.windows(2).any(|pair| pair[1] < pair[0]));
    assert!(moments.iter().any(|m| m.elapsed() == Duration::ZERO));
    let before = READINGS.load(Ordering::Relaxed);
    let (mut jumped, again) = run(&places[1]);
    let readings = READINGS.load(Ordering::Relaxed) - before;

    assert!(trials > 40 && trials == again, "{trials} {again}");
    // Each trial is timed by two readings; the writer of progress and the store read besides.
    assert!(readings > 2 * trials as u64, "{readings} of {trials}");
    let name = Path::new("provenance.json");
    let (a, had_a) = timeless(&steady.remove(name).unwrap());
    let (b, had_b) = timeless(&jumped.remove(name).unwrap());
    assert!(had_a && had_b);
    assert_eq!(a, b);
    for name in ["measurements.jsonl", "report.md"] {
        assert!(steady.contains_key(Path::new(name)));
    }
    same_files(&steady, &jumped);
}
