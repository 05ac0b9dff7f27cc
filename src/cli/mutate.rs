//! `recall mutate`: what the stored records say of wrong formulas.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::reproduce::{PlaceArgs, ProfileArg};
use super::{Answer, Failure, exit, output};
use crate::mutate::{Bench, Fate, Outcome, Row, Summary};
use crate::reproduce::{Places, load};
use crate::spec::Profile;
use crate::store::{MEASUREMENTS, Store};

/// Arguments of `recall mutate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which report's records to use.
    #[arg(long, value_enum, default_value_t = ProfileArg::Quick)]
    pub profile: ProfileArg,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Judge the experiments of this id alone; may be given several times.
    #[arg(long, value_name = "ID")]
    pub only: Vec<String>,
    #[command(flatten)]
    /// Directories.
    pub places: PlaceArgs,
}

/// Runs the sub-command.
///
/// # Errors
/// If the experiments or records cannot be read, or the unchanged theory cannot be judged.
pub fn run(args: &Args) -> Answer {
    let places = Places {
        experiments: args.places.experiments.clone(),
        runs: PathBuf::new(),
        reports: args.places.reports.clone(),
    };
    let error = |e: &dyn std::fmt::Display| Failure::Error(e.to_string());
    let profile = Profile::from(args.profile);
    let mut experiments = load(&places, profile).map_err(|e| error(&e))?;
    for id in &args.only {
        if !experiments.iter().any(|e| e.id == *id) {
            return Err(Failure::Usage(format!(
                "--only {id}: no experiment of this id takes part in the profile"
            )));
        }
    }
    if !args.only.is_empty() {
        experiments.retain(|e| args.only.contains(&e.id));
    }
    let path = places.report(profile).join(MEASUREMENTS);
    let store = Store::read_only(&path).map_err(|e| error(&e))?;
    let bench = Bench::new(profile, &experiments, &store).map_err(|e| error(&e))?;
    let outcome = bench.run().map_err(|e| error(&e))?;
    let code = if outcome.defects() > 0 {
        exit::MUTANT
    } else {
        exit::OK
    };
    for skipped in &outcome.skipped {
        output::note(&format!("note: left out: {}", skipped.reason));
    }
    if args.json {
        let mut object =
            serde_json::to_value(&outcome).map_err(|e| Failure::Error(e.to_string()))?;
        object["exit_code"] = code.into();
        output::print(&format!("{object}\n"))?;
    } else {
        output::print(&table(&outcome))?;
    }
    Ok(code)
}

/// Mutants that are not refuted, by formula, and the counts.
fn table(outcome: &Outcome) -> String {
    let mut out = String::new();
    let rows = &outcome.report.mutants;
    for group in rows.chunk_by(|a, b| a.formula == b.formula && a.along == b.along) {
        heading(&mut out, group);
        if let Some(reach) = outcome.reach.iter().find(|r| r.formula == group[0].formula) {
            let _ = writeln!(
                out,
                "  a constant is detectable from {} up, {} down",
                factor(reach.above),
                factor(reach.below)
            );
        }
        lines(&mut out, group);
    }
    counts(&mut out, "mutants", &outcome.report.summary);
    let _ = writeln!(out, "\nwhole formulas, each experiment alone:");
    for group in outcome
        .alone
        .mutants
        .chunk_by(|a, b| a.formula == b.formula && a.experiments == b.experiments)
    {
        heading(&mut out, group);
        lines(&mut out, group);
    }
    counts(
        &mut out,
        "mutants of one experiment",
        &outcome.alone.summary,
    );
    out
}

/// The formula, who judges it, and what became of its mutants.
fn heading(out: &mut String, group: &[Row]) {
    let row = &group[0];
    let of = |fate| group.iter().filter(|r| r.verdict == fate).count();
    let by = match row.experiments.as_slice() {
        [one] => one.clone(),
        all => format!("{} experiments", all.len()),
    };
    let along = row
        .along
        .map_or_else(String::new, |a| format!(" along {a}"));
    let _ = writeln!(
        out,
        "{}{along} ({by}): {} refuted, {} inconclusive, {} supported, {} unseen",
        row.formula,
        of(Fate::Refuted),
        of(Fate::Inconclusive),
        of(Fate::Supported),
        of(Fate::Unseen)
    );
}

/// Mutants that are not refuted: open ones and defects one by one, the others by their changes.
fn lines(out: &mut String, group: &[Row]) {
    let plain = |r: &&Row| match r.verdict {
        Fate::Supported => !r.defect && !r.bound,
        Fate::Unseen => true,
        Fate::Refuted | Fate::Inconclusive => false,
    };
    for row in group {
        if row.verdict != Fate::Refuted && !plain(&row) {
            line(out, row);
        }
    }
    for (fate, word) in [
        (Fate::Supported, "supported     below detection"),
        (Fate::Unseen, "unseen        no number changes"),
    ] {
        let small: Vec<&str> = group
            .iter()
            .filter(|r| r.verdict == fate && plain(r))
            .map(|r| r.mutation.as_str())
            .collect();
        if !small.is_empty() {
            let _ = writeln!(out, "  {word}: {}", small.join("; "));
        }
    }
}

fn factor(f: Option<f64>) -> String {
    match f {
        None => "no factor".to_owned(),
        Some(0.0) => "dropping it".to_owned(),
        Some(f) => format!("x {f}"),
    }
}

fn counts(out: &mut String, what: &str, s: &Summary) {
    let _ = writeln!(
        out,
        "{} {what}: {} refuted, {} inconclusive, {} supported ({} of them of bounds), {} unseen; {} of {} above the smallest refutable deviation refuted, {:.1} expected; {} supported though they must not be",
        s.mutants,
        s.refuted,
        s.inconclusive,
        s.supported,
        s.bounds_kept,
        s.unseen,
        s.detectable_refuted,
        s.detectable,
        s.detectable_expected,
        s.defects
    );
}

fn line(out: &mut String, row: &Row) {
    let fate = match (row.verdict, row.defect) {
        (_, true) => "DEFECT",
        (Fate::Inconclusive, _) => "inconclusive",
        _ => "supported",
    };
    let detectable = match row.detectable {
        Some(true) => "detectable",
        Some(false) => "below detection",
        None => "bound",
    };
    let _ = writeln!(
        out,
        "  {fate:<13} {:<22} {detectable:<15} {}",
        row.mutation, row.reason
    );
}
