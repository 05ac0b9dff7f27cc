//! Workflow commands that a CI service shows beside the files of a change.

use std::fmt::Write as _;
use std::path::Path;

use crate::baseline::drift::Drift;
use crate::report::{Judged, describe_verdict, verdict_rows};
use crate::stats::verdict::Verdict;

/// Which service reads the annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Service {
    /// Lines such as `::error file=…,title=…::message`.
    Github,
}

/// Text after the second `::`.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Value of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

fn line(out: &mut String, level: &str, file: &Path, title: &str, message: &str) {
    let file = property(&file.to_string_lossy());
    let (title, message) = (property(title), data(message));
    let _ = writeln!(out, "::{level} file={file},title={title}::{message}");
}

/// One line for each refuted or open claim and each drift; `strict` makes open claims errors. The
/// file named is that of the experiment, in the directory given.
#[must_use]
pub(super) fn github(
    judged: &Judged,
    drift: Option<&Drift>,
    strict: bool,
    experiments: &Path,
) -> String {
    let mut out = String::new();
    let file = |id: &str| {
        let stem = id.split('/').next().unwrap_or(id);
        experiments.join(format!("{stem}.toml"))
    };
    for (v, c) in judged.pairs() {
        let level = match (&v.verdict, strict) {
            (Verdict::Supported, _) => continue,
            (Verdict::Refuted, _) | (Verdict::Inconclusive { .. }, true) => "error",
            (Verdict::Inconclusive { .. }, false) => "warning",
        };
        let mut message = describe_verdict(&v.verdict).replace("**", "");
        for [_, _, measured, target, margin, ..] in verdict_rows(v, &c.evidence) {
            let _ = write!(message, "\n{measured}, target {target}, margin {margin}");
        }
        line(
            &mut out,
            level,
            &file(&v.id),
            &format!("claim {}", v.id),
            &message,
        );
    }
    let Some(drift) = drift else { return out };
    for t in drift.drifted() {
        let title = format!("{} drifted from the baseline", t.experiment);
        let message = super::baseline::describe(t);
        line(&mut out, "error", &file(&t.experiment), &title, &message);
    }
    for c in &drift.verdicts {
        let level = if c.certain() { "error" } else { "warning" };
        let title = format!("claim {}", c.claim);
        let message = super::baseline::describe_change(c);
        line(&mut out, level, &file(&c.claim), &title, &message);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_can_end_its_field() {
        let mut out = String::new();
        line(
            &mut out,
            "error",
            Path::new("a,b:c.toml"),
            "50 %, x::y",
            "one\r\ntwo: 3 %0A",
        );
        assert_eq!(
            out,
            "::error file=a%2Cb%3Ac.toml,title=50 %25%2C x%3A%3Ay::one%0D%0Atwo: 3 %250A\n"
        );
    }
}
