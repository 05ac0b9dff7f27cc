//! Deliberate bugs in the simulator, each a patch with the test that must catch it.
//!
//! A file `tests/mutants/NAME.patch` is a unified diff below a head of three fields:
//!
//! ```text
//! bug: what is wrong, in words
//! test: lib descent::hidden::tests::NAME     (or: engines NAME, for tests/engines.rs)
//! --- a/src/descent/hidden.rs
//! +++ b/src/descent/hidden.rs
//! ```
//!
//! A hunk is found by its text and not by its line numbers: what it takes away, with its context,
//! must stand in the file exactly once. So a patch survives changes elsewhere in the file, and
//! cannot be applied in the wrong place.

use std::path::{Path, PathBuf};

/// A deliberate bug.
#[derive(Debug, Clone)]
pub(crate) struct Mutant {
    /// Name of the patch file.
    pub(crate) name: String,
    /// What is wrong, in words.
    pub(crate) bug: String,
    /// The test that must catch it.
    pub(crate) test: TestName,
    /// The file it is in, relative to the root.
    pub(crate) file: PathBuf,
    hunks: Vec<Hunk>,
}

/// A test by its target and its path in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TestName {
    /// `lib`, or the name of an integration test.
    pub(crate) target: String,
    /// Path inside the target, as the test harness prints it.
    pub(crate) path: String,
}

impl std::fmt::Display for TestName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.target.as_str() {
            "lib" => write!(f, "{}", self.path),
            target => write!(f, "{target}::{}", self.path),
        }
    }
}

/// Lines of one place before and after.
#[derive(Debug, Clone, Default)]
struct Hunk {
    before: String,
    after: String,
}

impl Mutant {
    /// Reads all patches of a tree, in the order of their names.
    ///
    /// # Errors
    /// Names the patch that is not well-formed.
    pub(crate) fn all(root: &Path) -> Result<Vec<Mutant>, String> {
        let dir = root.join("tests/mutants");
        let entries = std::fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let mut mutants = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| e.to_string())?.path();
            if path.extension().is_some_and(|e| e == "patch") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let text = std::fs::read_to_string(&path);
                let text = text.map_err(|e| format!("{}: {e}", path.display()))?;
                let mutant = Self::parse(&name, &text);
                mutants.push(mutant.map_err(|e| format!("{}: {e}", path.display()))?);
            }
        }
        mutants.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(mutants)
    }

    fn parse(name: &str, text: &str) -> Result<Mutant, String> {
        let (head, diff) = text
            .split_once("\n--- a/")
            .ok_or("no line that begins with `--- a/`")?;
        let field = |key: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(key))
                .map(|value| value.trim().to_string())
                .ok_or(format!("no line that begins with `{key}`"))
        };
        let test = field("test:")?;
        let (target, path) = test
            .split_once(' ')
            .ok_or("`test:` needs a target and a path, such as `lib task::tests::NAME`")?;
        let mut lines = diff.lines();
        let file = lines.next().unwrap_or_default().to_string();
        if lines.next() != Some(&format!("+++ b/{file}")) {
            return Err("a patch changes one file, named after `--- a/` and `+++ b/`".into());
        }
        let mut hunks: Vec<Hunk> = Vec::new();
        for line in lines {
            if line.starts_with("@@") {
                hunks.push(Hunk::default());
                continue;
            }
            let hunk = hunks.last_mut().ok_or("no hunk begins with `@@`")?;
            let (mark, rest) = line.split_at(line.len().min(1));
            if !matches!(mark, "" | " " | "-" | "+") {
                return Err(format!("a line of a hunk begins with `{mark}`"));
            }
            for (text, not) in [(&mut hunk.before, "+"), (&mut hunk.after, "-")] {
                if mark != not {
                    text.push_str(rest);
                    text.push('\n');
                }
            }
        }
        if hunks.iter().all(|h| h.before == h.after) {
            return Err("the patch changes nothing".into());
        }
        Ok(Mutant {
            name: name.to_string(),
            bug: field("bug:")?,
            test: TestName {
                target: target.to_string(),
                path: path.trim().to_string(),
            },
            file: file.into(),
            hunks,
        })
    }

    /// The text of [`Mutant::file`] with the bug in it.
    ///
    /// # Errors
    /// If the lines around the bug do not stand in the text exactly once.
    pub(crate) fn apply(&self, text: &str) -> Result<String, String> {
        let mut text = text.to_string();
        for hunk in &self.hunks {
            let count = text.matches(&hunk.before).count();
            if count != 1 {
                return Err(format!(
                    "{}.patch: these lines stand {count} times in {}, expected once; bring the patch up to date:\n{}",
                    self.name,
                    self.file.display(),
                    hunk.before
                ));
            }
            text = text.replacen(&hunk.before, &hunk.after, 1);
        }
        Ok(text)
    }
}
