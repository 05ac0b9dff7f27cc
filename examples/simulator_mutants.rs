//! Puts each bug of `tests/mutants/` into a copy of the tree and demands that the test it names
//! fails.
//!
//! ```sh
//! cargo run --release --example simulator_mutants            # all of them
//! cargo run --release --example simulator_mutants -- task    # those whose names contain a word
//! ```
//!
//! The files that git tracks are copied to `target/mutants/tree` and built there with the profile
//! `mutant`; the tree itself is not touched. The copy is cut down to the modules of the simulator,
//! since it is compiled again for every mutant. First all named tests must pass on the copy as it is.
//! Then one patch at a time is applied, built and tested. A test that does not fail, a patch that
//! does not apply or does not compile, and a name that no test has, are failures of this program.
//! The committed table is in `docs/mutation-simulator.md`.

#[path = "../tests/mutants/mod.rs"]
mod mutants;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use mutants::{Mutant, TestName};

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Modules that the copy keeps: the simulator, which uses no other.
const KEPT: [&str; 10] = [
    "decode",
    "descent",
    "embedding",
    "job",
    "keystream",
    "linalg",
    "replay",
    "rng",
    "simd",
    "task",
];

/// What became of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Killed,
    Survived,
    /// The patch is wrong, or the name of the test.
    Error,
}

/// Whether every mutant was killed.
fn run() -> Result<bool, Error> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut mutants = Mutant::all(root)?;
    mutants.retain(|m| words.is_empty() || words.iter().any(|w| m.name.contains(w.as_str())));
    if mutants.is_empty() {
        return Err("no patch in tests/mutants/ has such a name".into());
    }
    // Neighbours in a target are built from what the last one left.
    mutants.sort_by(|a, b| a.test.target.cmp(&b.test.target).then(a.name.cmp(&b.name)));
    let copy = Copy::make(root)?;

    let mut named: BTreeMap<&str, BTreeSet<&TestName>> = BTreeMap::new();
    for m in &mutants {
        named.entry(&m.test.target).or_default().insert(&m.test);
    }
    for tests in named.values() {
        for test in tests {
            if copy.passes(test)? {
                continue;
            }
            return Err(format!("{test} fails without any mutant").into());
        }
    }
    let mut fates = Vec::new();
    for m in mutants {
        let path = copy.tree.join(&m.file);
        let text = fs::read_to_string(&path)?;
        let outcome = m.apply(&text).map_err(Error::from).and_then(|mutated| {
            fs::write(&path, mutated)?;
            copy.passes(&m.test)
        });
        fs::write(&path, text)?;
        let fate = match outcome {
            Ok(true) => Fate::Survived,
            Ok(false) => Fate::Killed,
            Err(e) => {
                eprintln!("{}.patch: {e}", m.name);
                Fate::Error
            }
        };
        eprintln!("{}: {fate:?}", m.name);
        fates.push((m, fate));
    }
    fates.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    println!("| mutant | bug | file | named test | fate |");
    println!("|---|---|---|---|---|");
    for (m, fate) in &fates {
        let fate = match fate {
            Fate::Killed => "killed",
            Fate::Survived => "**survived**",
            Fate::Error => "**error**",
        };
        println!(
            "| `{}` | {} | `{}` | `{}` | {fate} |",
            m.name,
            m.bug,
            m.file.display(),
            m.test
        );
    }
    Ok(fates.iter().all(|(_, fate)| *fate == Fate::Killed))
}

/// A copy of the tracked files that may be changed.
struct Copy {
    tree: PathBuf,
    build: PathBuf,
}

impl Copy {
    /// Brings the copy up to date, leaving files that have not changed, so that the build of an
    /// earlier run is of use.
    fn make(root: &Path) -> Result<Copy, Error> {
        let home = root.join("target/mutants");
        let copy = Copy {
            tree: home.join("tree"),
            build: home.join("build"),
        };
        let listed = Command::new("git")
            .args(["ls-files", "-z"])
            .current_dir(root)
            .output()?;
        if !listed.status.success() {
            return Err("git ls-files failed: the files to copy are those that git tracks".into());
        }
        let listed = String::from_utf8(listed.stdout)?;
        for name in listed.split_terminator('\0') {
            // A file that is deleted in the tree but still tracked has no text.
            let Ok(mut new) = fs::read(root.join(name)) else {
                continue;
            };
            match name {
                "src/main.rs" => continue,
                "src/lib.rs" | "Cargo.toml" => {
                    new = cut_down(&String::from_utf8(new)?).into_bytes();
                }
                _ => {}
            }
            let to = copy.tree.join(name);
            if fs::read(&to).is_ok_and(|old| old == new) {
                continue;
            }
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(to, new)?;
        }
        Ok(copy)
    }

    fn cargo(&self, test: &TestName) -> Command {
        let mut command = Command::new(env!("CARGO"));
        command
            .args([
                "test",
                "--locked",
                "--quiet",
                "--profile",
                "mutant",
                "--target-dir",
            ])
            .arg(&self.build)
            .current_dir(&self.tree)
            .env_remove("RUSTFLAGS");
        match test.target.as_str() {
            "lib" => command.arg("--lib"),
            name => command.args(["--test", name]),
        };
        command
    }

    /// Whether the test passes on the copy. An error if it cannot be built or does not exist.
    fn passes(&self, test: &TestName) -> Result<bool, Error> {
        let ran = self
            .cargo(test)
            .args(["--", "--exact", &test.path])
            .output()?;
        let said = String::from_utf8_lossy(&ran.stdout);
        if !said.contains("running 1 test\n") {
            let why = String::from_utf8_lossy(&ran.stderr);
            return Err(format!("{test} does not compile or does not exist:\n{said}{why}").into());
        }
        let failed = said.contains("test result: FAILED. 0 passed; 1 failed");
        match (ran.status.success(), failed) {
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            _ => Err(format!("{test} neither passed nor failed:\n{said}").into()),
        }
    }
}

/// The library's root without the modules that the simulator does not use, or the manifest without
/// the binary, which needs them.
fn cut_down(text: &str) -> String {
    let mut binary = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.starts_with('[') {
            binary = line == "[[bin]]";
        }
        let module = line
            .strip_prefix("pub mod ")
            .or(line.strip_prefix("mod "))
            .and_then(|rest| rest.strip_suffix(';'));
        let other = module.is_some_and(|m| !KEPT.contains(&m));
        if !(binary || other || line.starts_with("default-run")) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}
