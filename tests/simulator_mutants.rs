//! The patches of `tests/mutants/` still fit the tree, and name tests that exist. Whether each test
//! catches its bug is what `cargo run --release --example simulator_mutants` finds out.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

mod mutants;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mutants::{Mutant, TestName};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files in which a test may stand.
fn homes(test: &TestName) -> Vec<PathBuf> {
    if test.target != "lib" {
        return vec![format!("tests/{}.rs", test.target).into()];
    }
    let modules: Vec<&str> = test.path.split("::").collect();
    let outer = modules[..modules.len() - 2].join("/");
    ["{}.rs", "{}/mod.rs", "{}/tests.rs"]
        .map(|form| Path::new("src").join(form.replace("{}", &outer)))
        .to_vec()
}

/// Whether a text has `#[test]`, perhaps further attributes, and `fn name(`.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let head = format!("fn {name}(");
    lines.iter().enumerate().any(|(i, line)| {
        line.starts_with(&head)
            && lines[..i]
                .iter()
                .rev()
                .take_while(|line| line.starts_with('#'))
                .any(|line| *line == "#[test]")
    })
}

#[test]
fn every_patch_fits_the_tree_and_names_a_test() {
    let all = Mutant::all(root()).unwrap();
    assert!(all.len() >= 20);
    for m in &all {
        let text = fs::read_to_string(root().join(&m.file)).unwrap();
        let changed = m.apply(&text).unwrap_or_else(|e| panic!("{e}"));
        assert_ne!(changed, text, "{}", m.name);
        assert!(
            m.bug.len() > 20 && m.bug.ends_with('.'),
            "{}: {}",
            m.name,
            m.bug
        );
        let name = m.test.path.rsplit("::").next().unwrap();
        let found = homes(&m.test).iter().any(|file| {
            fs::read_to_string(root().join(file)).is_ok_and(|text| has_test(&text, name))
        });
        assert!(found, "{}: no test {}", m.name, m.test);
    }
}

#[test]
fn a_patch_that_does_not_fit_is_refused() {
    let all = Mutant::all(root()).unwrap();
    let m = all
        .iter()
        .find(|m| m.file == Path::new("src/task.rs"))
        .unwrap();
    assert!(m.apply("fn other() {}\n").unwrap_err().contains("0 times"));
    let text = fs::read_to_string(root().join(&m.file)).unwrap();
    let twice = format!("{text}{text}");
    assert!(m.apply(&twice).unwrap_err().contains("2 times"));
    assert!(has_test("#[test]\n#[ignore]\nfn a() {}", "a"));
    assert!(!has_test("#[test]\nfn b() {}\nfn a() {}", "a"));
}

#[test]
fn the_table_lists_the_patches() {
    let doc = fs::read_to_string(root().join("docs/mutation-simulator.md")).unwrap();
    let rows: BTreeSet<&str> = doc.lines().filter(|l| l.starts_with("| `")).collect();
    let all = Mutant::all(root()).unwrap();
    for m in &all {
        let row = format!(
            "| `{}` | {} | `{}` | `{}` | killed |",
            m.name,
            m.bug,
            m.file.display(),
            m.test
        );
        assert!(
            rows.contains(row.as_str()),
            "docs/mutation-simulator.md: no row\n{row}"
        );
    }
    assert_eq!(rows.len(), all.len());
}
