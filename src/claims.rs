//! The registry of claims as a table: what is claimed, by what it is tested, within which margin
//! and where it is derived.

use std::fmt::Write as _;

use recall_theory::registry;

use crate::spec::Experiment;

/// Markdown table of all claims that some experiment tests, in the order of the registry.
/// `notes` is the path from the reader to `theory/src`.
#[must_use]
pub fn table(experiments: &[Experiment], notes: &str) -> String {
    let mut out = String::from(
        "| claim | in words and in formula | assumes; window | tested by: statistic and margin | derived in |\n|---|---|---|---|---|\n",
    );
    for claim in registry::CLAIMS {
        // Experiments that share statistic and reason share a line.
        let mut tests: Vec<(Vec<&str>, String)> = Vec::new();
        for e in experiments.iter().filter(|e| e.claim == claim.id) {
            let reason = e.margin_reason.trim().trim_end_matches('.');
            let mut words = e.kind.statistic();
            if !reason.is_empty() {
                let _ = write!(words, " ({reason})");
            }
            match tests.iter_mut().find(|(_, known)| *known == words) {
                Some((ids, _)) => ids.push(&e.id),
                None => tests.push((vec![&e.id], words)),
            }
        }
        let tests: Vec<String> = tests
            .into_iter()
            .map(|(ids, words)| {
                let ids: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
                format!("{}: {words}", ids.join(", "))
            })
            .collect();
        if tests.is_empty() {
            continue;
        }
        let _ = writeln!(
            out,
            "| `{}` | {} | {}; {} | {} | [`{}`]({notes}/{}) |",
            claim.id,
            cell(claim.statement),
            cell(claim.assumptions),
            cell(claim.window),
            cell(&tests.join("<br>")),
            claim.note,
            claim.note,
        );
    }
    out
}

/// A text that ends no cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
