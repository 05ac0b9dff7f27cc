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
        let tests: Vec<String> = experiments
            .iter()
            .filter(|e| e.claim == claim.id)
            .map(|e| {
                let reason = e.margin_reason.trim();
                format!(
                    "`{}`: {}{}",
                    e.id,
                    e.kind.statistic(),
                    if reason.is_empty() {
                        String::new()
                    } else {
                        format!(" ({})", reason.trim_end_matches('.'))
                    }
                )
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
