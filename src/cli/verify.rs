//! `recall verify`: verdicts from stored records, as an exit code.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::annotations::{self, Service};
use super::reproduce::{PlaceArgs, ProfileArg};
use super::{Answer, Failure, baseline, exit, output};
use crate::baseline::drift::{Drift, compare};
use crate::baseline::{Baseline, BaselineError};
use crate::experiment::AnalysisError;
use crate::report::{Judged, ReportError, describe_verdict, junit, verdict_rows};
use crate::reproduce::{Checksum, Places, ReproduceError, verify};
use crate::rerun::{Agreement, rerun, sample};
use crate::spec::Profile;
use crate::store::Store;

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
    /// Compare with a stored run: a file of --write-baseline, or a measurements.jsonl.
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write what this run measured and concluded, for a later --baseline.
    #[arg(long, value_name = "FILE")]
    pub write_baseline: Option<PathBuf>,
    /// Simulate this many stored records again, chosen by a hash of all records, and compare.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub rerun: usize,
    /// Write the verdicts and the comparison as JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Print what fails as annotations of a CI service, after the table.
    #[arg(long, value_enum, value_name = "SERVICE", conflicts_with = "json")]
    pub annotations: Option<Service>,
    #[command(flatten)]
    /// Directories.
    pub places: PlaceArgs,
}

/// Runs the sub-command.
///
/// # Errors
/// If the records or the baseline cannot be read, a file cannot be written, or a record that is
/// simulated again comes out otherwise; a run that is not complete answers with
/// [`exit::INCOMPLETE`].
pub fn run(args: &Args) -> Answer {
    let places = Places {
        experiments: args.places.experiments.clone(),
        runs: PathBuf::new(),
        reports: args.places.reports.clone(),
    };
    let profile = Profile::from(args.profile);
    let stored = match verify(&places, profile) {
        Ok(stored) => stored,
        Err(
            e @ ReproduceError::Report(ReportError::Analysis(AnalysisError::Incomplete { .. })),
        ) => {
            output::note(&format!("error: {e}"));
            return Ok(exit::INCOMPLETE);
        }
        Err(e) => return Err(Failure::Error(e.to_string())),
    };
    if stored.checksum == Checksum::Unknown {
        output::note("note: no checksum is stored beside these records");
    }
    let judged = &stored.judged;
    let error = |e: BaselineError| Failure::Error(e.to_string());
    let drift = match &args.baseline {
        None => None,
        Some(path) => {
            let before = Baseline::read(path, profile, &stored.experiments).map_err(error)?;
            let now = Baseline::of(judged, &stored.store);
            let drift = compare(&before, &now).map_err(|e| Failure::Error(e.to_string()))?;
            Some((path, drift))
        }
    };
    if let Some(path) = &args.write_baseline {
        Baseline::of(judged, &stored.store)
            .write(path)
            .map_err(error)?;
    }
    let repeated = simulate_again(&stored.store, args.rerun)?;

    let tally = judged.tally();
    let found = drift.as_ref().map(|d| &d.1);
    let code = if tally.refuted > 0 {
        exit::REFUTED
    } else if found.is_some_and(Drift::found) {
        exit::DRIFT
    } else if args.strict && tally.inconclusive > 0 {
        exit::INCONCLUSIVE
    } else {
        exit::OK
    };
    if let Some(path) = &args.junit {
        let document = junit(judged, found, args.strict)
            .map_err(|e| Failure::Error(format!("--junit {}: {e}", path.display())))?;
        output::write("--junit", path, &document)?;
    }
    if args.json {
        let mut object = serde_json::json!({
            "profile": judged.profile,
            "tally": tally,
            "exit_code": code,
            "claims": judged.verdicts,
        });
        if let Some((path, drift)) = &drift {
            object["baseline"] = serde_json::json!({
                "file": path,
                "drift": drift.found(),
                "drifted": drift.drifted().count(),
                "comparison": drift,
            });
        }
        if let Some([exact, rounding]) = repeated {
            object["rerun"] = serde_json::json!({ "exact": exact, "rounding": rounding });
        }
        output::print(&format!("{object}\n"))?;
        return Ok(code);
    }
    let mut text = verdict_text(judged);
    let _ = writeln!(
        text,
        "{} supported, {} refuted, {} inconclusive",
        tally.supported, tally.refuted, tally.inconclusive
    );
    if let Some((path, drift)) = &drift {
        text.push_str(&baseline::table(drift, &path.display().to_string()));
    }
    if let Some([exact, rounding]) = repeated {
        let _ = write!(text, "\nsimulated again: {exact} records to the last bit");
        if rounding > 0 {
            let _ = write!(
                text,
                ", {rounding} within rounding (made by another kernel)"
            );
        }
        text.push('\n');
    }
    if let Some(Service::Github) = args.annotations {
        text.push_str(&annotations::github(
            judged,
            found,
            args.strict,
            &args.places.experiments,
        ));
    }
    output::print(&text)?;
    Ok(code)
}

/// Simulates a sample of records again: how many came out the same bit for bit, and how many within
/// rounding. `None` if none was asked for.
fn simulate_again(store: &Store, count: usize) -> Result<Option<[usize; 2]>, Failure> {
    if count == 0 {
        return Ok(None);
    }
    let (mut exact, mut rounding) = (0, 0);
    for record in sample(store, count) {
        let place = || {
            format!(
                "{}: the record of {}",
                store.path().display(),
                record.job.canonical()
            )
        };
        let memory = super::reproduce::available_memory();
        if memory.is_some_and(|limit| record.job.cost().bytes > limit) {
            return Err(Failure::Error(format!(
                "{} needs more memory to simulate again than this machine has free",
                place()
            )));
        }
        match rerun(record) {
            Ok(Agreement::Exact) => exact += 1,
            Ok(Agreement::Rounding) => rounding += 1,
            Ok(Agreement::Differs) => {
                return Err(Failure::Error(format!(
                    "{}: simulated again it has another outcome, so the file was changed or another program made it; make it anew with `recall reproduce`",
                    place()
                )));
            }
            Err(e) => return Err(Failure::Error(format!("{}: {e}", place()))),
        }
    }
    Ok(Some([exact, rounding]))
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
