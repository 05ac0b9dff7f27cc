//! Designs too large to expand are refused by arithmetic, with file, key and what is allowed.

use std::path::Path;

use recall_capacity::spec::{Experiment, MAX_SEED, MAX_SETTINGS, MAX_TRIALS, Profile};

/// A bound experiment, whose oracle multiplies the trials.
fn file(seeds: &str, oracle: &str, blocks: &str) -> String {
    format!(
        "id = \"x\"\ntitle = \"T\"\nclaim = \"first-gradient-bound\"\nrationale = \"R\"\n[task]\nkind = \"bound\"\nmargin = 0.05\ndecoders = [\"whitened\"]\noracle = {oracle}\n[profile.full]\n{seeds}\n{blocks}"
    )
}

fn block(vocab: &str, dim: &str, len: &str, samples: &str) -> String {
    format!(
        "[[profile.full.blocks]]\nvocab = {vocab}\ndim = {dim}\nlen = {len}\nsamples = {samples}\n"
    )
}

/// `[from, from + 1, ...]`, `count` values.
fn list(from: usize, count: usize) -> String {
    format!("{:?}", (from..from + count).collect::<Vec<_>>())
}

fn parse(text: &str) -> Result<Experiment, String> {
    Experiment::parse(Path::new("dir/x.toml"), text).map_err(|e| e.to_string())
}

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let message = parse(text).expect_err("too large");
    for part in expected {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    assert!(
        message.starts_with("dir/x.toml: profile.full."),
        "{message}"
    );
}

#[test]
fn a_huge_number_of_seeds_is_refused() {
    let one = block("32", "16", "4", "64");
    for seeds in [MAX_TRIALS + 1, MAX_SEED] {
        refused(
            &file(&format!("seeds = {seeds}"), "[]", &one),
            &[&format!(
                "profile.full.seeds = {seeds}: allowed are 2 to 10000000"
            )],
        );
    }
    let most = parse(&file(&format!("seeds = {MAX_TRIALS}"), "[]", &one)).expect("allowed");
    let design = most.design(Profile::Full).expect("a full design");
    assert_eq!(design.seeds, MAX_TRIALS);
}

#[test]
fn the_last_seed_must_exist() {
    let one = block("32", "16", "4", "64");
    let first = |first: u64| file(&format!("seeds = 4\nfirst_seed = {first}"), "[]", &one);
    for too_large in [MAX_SEED - 3, MAX_SEED] {
        refused(
            &first(too_large),
            &[
                &format!("first_seed = {too_large}: with seeds = 4"),
                &format!("at most {}", MAX_SEED - 4),
            ],
        );
    }
    let last = parse(&first(MAX_SEED - 4)).expect("allowed");
    let design = last.design(Profile::Full).expect("a full design");
    let setting = design.blocks[0].settings().expect("valid")[0];
    assert_eq!(design.job(&setting, 3).seed, MAX_SEED - 1);
}

#[test]
fn products_of_lists_are_counted_before_they_are_expanded() {
    // 400^4 settings of 100 bytes are more than two terabytes: expanding them would not end in an
    // error but in a kill.
    let wide = block(
        &list(32, 400),
        &list(16, 400),
        &list(2, 400),
        &list(64, 400),
    );
    refused(
        &file("seeds = 2", "[]", &wide),
        &[
            "profile.full.blocks[0]: 400 values of vocab x 400 values of dim x 400 values of len x 400 values of samples, 25600000000 settings",
            "at most 100000 settings",
        ],
    );
    // Four lists of 2^16 multiply to 2^64, one too many for 64 bits.
    let overflow = list(2, 1 << 16);
    refused(
        &file(
            "seeds = 2",
            "[]",
            &block(&overflow, &overflow, &overflow, &overflow),
        ),
        &["profile.full.blocks[0]: 65536 values of vocab", "2^64"],
    );
}

#[test]
fn blocks_share_the_limits() {
    let half = block("32", &list(16, 250), &list(2, 200), "64");
    let allowed = format!("{half}{half}");
    assert_eq!(2 * 250 * 200, MAX_SETTINGS);
    parse(&file("seeds = 2", "[]", &allowed)).expect("exactly the limit");
    refused(
        &file(
            "seeds = 2",
            "[]",
            &format!("{allowed}{}", block("32", "16", "4", "64")),
        ),
        &[
            "profile.full.blocks[2]: one setting, after 100000 of earlier blocks",
            "at most 100000",
        ],
    );
}

#[test]
fn trials_are_settings_times_seeds_times_readings() {
    let thousand = block("32", &list(16, 50), &list(2, 20), "64");
    parse(&file("seeds = 10000", "[]", &thousand)).expect("exactly the limit");
    refused(
        &file("seeds = 10001", "[]", &thousand),
        &[
            "profile.full.seeds = 10001: with 1000 settings a profile allows at most 10000 seeds",
            "10000000 trials",
        ],
    );
    refused(
        &file("seeds = 10000", "[1.0]", &thousand),
        &[
            "seeds = 10000: with 1000 settings and 2 readings (task.oracle)",
            "at most 5000 seeds",
        ],
    );
}

#[test]
fn the_program_names_the_file_and_exits_with_an_error() {
    let place = tempfile::tempdir().expect("a directory");
    let wide = block(
        &list(32, 400),
        &list(16, 400),
        &list(2, 400),
        &list(64, 400),
    );
    let path = place.path().join("x.toml");
    std::fs::write(&path, file("seeds = 2", "[]", &wide)).expect("written");
    let output = assert_cmd::Command::cargo_bin("recall")
        .expect("built")
        .args([
            "reproduce",
            "--profile",
            "full",
            "--dry-run",
            "--experiments",
        ])
        .arg(place.path())
        .output()
        .expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("x.toml: profile.full.blocks[0]"),
        "{errors}"
    );
    assert!(errors.contains("at most 100000 settings"), "{errors}");
}
