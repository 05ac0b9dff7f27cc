//! What tests that run the program share: a directory to run it in, and small experiments.
#![allow(dead_code)] // each test uses a part of it

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Fixed cells, in seconds.
pub(crate) const CELLS: &str = r#"
id = "cells"
title = "Cells"
claim = "accuracy-curves"
rationale = "Small enough to be killed often."
[task]
kind = "curves"
axis = "samples"
quantities = ["attention"]
test = { margin = 0.2, max_sd = 0.3 }
[profile.quick]
seeds = 12
test_sequences = 256
[[profile.quick.blocks]]
vocab = 64
dim = [16, 24]
len = 8
samples = [64, 128, 256]
"#;

/// A search in rounds, whose next jobs depend on the records before.
pub(crate) const SEARCH: &str = r#"
id = "search"
title = "Search"
claim = "attention-samples-natural"
rationale = "Small enough to be killed often."
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
len = 8
"#;

/// A directory with experiments, in memory where there is one.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    /// Writes each text to `experiments/NAME.toml`.
    pub(crate) fn new(experiments: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let place = Place(dir.unwrap());
        fs::create_dir(place.path("experiments")).unwrap();
        for (name, text) in experiments {
            place.put(&format!("experiments/{name}.toml"), text);
        }
        place
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The program, its arguments separated by spaces, with no input and its output kept.
    pub(crate) fn command(&self, args: &str) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("recall"));
        command
            .current_dir(self.root())
            .args(args.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs and expects an exit code; standard output and standard error.
    #[track_caller]
    pub(crate) fn expect(&self, args: &str, code: i32) -> (String, String) {
        told(self.command(args).output().unwrap(), code)
    }

    /// The whole report but its provenance, by name.
    pub(crate) fn report(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = files_under(&self.path("reports/quick"));
        files.remove(Path::new("provenance.json")).unwrap();
        files
    }

    /// Replaces the records, with the checksum that their run would have stored.
    pub(crate) fn put_records(&self, text: &str) {
        let mut stated: serde_json::Value = serde_json::from_str(&self.read(PROVENANCE)).unwrap();
        stated["measurements_sha256"] = recall_capacity::rng::sha256_hex(text).into();
        self.put(PROVENANCE, &stated.to_string());
        self.put(RECORDS, text);
    }
}

/// The records of a finished run.
pub(crate) const RECORDS: &str = "reports/quick/measurements.jsonl";
/// Where they come from.
pub(crate) const PROVENANCE: &str = "reports/quick/provenance.json";

/// Expects an exit code and no panic; standard output and standard error.
#[track_caller]
pub(crate) fn told(output: Output, code: i32) -> (String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let status = output.status;
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(status.code(), Some(code), "{status}\n{out}\n{err}");
    assert!(!err.contains("panicked"), "{err}");
    (out, err)
}

/// All files below a directory by their names in it; none if it does not exist.
pub(crate) fn files_under(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return files;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = PathBuf::from(path.file_name().unwrap());
        if path.is_dir() {
            let inner = files_under(&path);
            files.extend(inner.into_iter().map(|(k, v)| (name.join(k), v)));
        } else {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
}

/// The same names and the same bytes.
#[track_caller]
pub(crate) fn same_files(a: &BTreeMap<PathBuf, Vec<u8>>, b: &BTreeMap<PathBuf, Vec<u8>>) {
    assert!(a.keys().eq(b.keys()), "{:?} {:?}", a.keys(), b.keys());
    for (name, bytes) in a {
        assert!(*bytes == b[name], "{} differs", name.display());
    }
}
