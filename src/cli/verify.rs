//! `recall verify`: verdicts from stored records, as an exit code.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::reproduce::{PlaceArgs, ProfileArg};
use super::{Answer, Failure, exit, output};
use crate::experiment::AnalysisError;
use crate::report::{Judged, ReportError, describe_verdict, verdict_rows};
use crate::reproduce::{Places, ReproduceError, verify};
use crate::spec::Profile;

/// Arguments of `recall verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which report to judge.
    #[arg(long, value_enum, default_value_t = ProfileArg::Quick)]
    pub profile: ProfileArg,
    /// Fail on inconclusive claims, too.
    #[arg(long)]
    pub strict: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    /// Directories.
    pub places: PlaceArgs,
}

/// Runs the sub-command.
///
/// # Errors
/// If the records cannot be read; a run that is not complete answers with [`exit::INCOMPLETE`].
pub fn run(args: &Args) -> Answer {
    let places = Places {
        experiments: args.places.experiments.clone(),
        runs: PathBuf::new(),
        reports: args.places.reports.clone(),
    };
    let judged = match verify(&places, Profile::from(args.profile)) {
        Ok(judged) => judged,
        Err(
            e @ ReproduceError::Report(ReportError::Analysis(AnalysisError::Incomplete { .. })),
        ) => {
            output::note(&format!("error: {e}"));
            return Ok(exit::INCOMPLETE);
        }
        Err(e) => return Err(Failure::Error(e.to_string())),
    };
    let tally = judged.tally();
    let code = if tally.refuted > 0 {
        exit::REFUTED
    } else if args.strict && tally.inconclusive > 0 {
        exit::INCONCLUSIVE
    } else {
        exit::OK
    };
    if args.json {
        let object = serde_json::json!({
            "profile": judged.profile,
            "tally": tally,
            "exit_code": code,
            "claims": judged.verdicts,
        });
        output::print(&format!("{object}\n"))?;
    } else {
        output::print(&format!(
            "{}{} supported, {} refuted, {} inconclusive\n",
            verdict_text(&judged),
            tally.supported,
            tally.refuted,
            tally.inconclusive
        ))?;
    }
    Ok(code)
}

/// The verdicts as lines of text.
pub(super) fn verdict_text(judged: &Judged) -> String {
    let mut out = String::new();
    for (v, c) in judged.pairs() {
        let _ = writeln!(
            out,
            "{:<48} {}",
            v.id,
            describe_verdict(&v.verdict).replace("**", "")
        );
        for row in verdict_rows(v, &c.evidence) {
            let [_, _, measured, target, margin, _, detectable] = row;
            let _ = writeln!(
                out,
                "    {measured}, target {target}, margin {margin}, detectable {detectable}"
            );
        }
    }
    out
}
