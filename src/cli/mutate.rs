//! `recall mutate`: what the stored records say of wrong formulas.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::reproduce::{PlaceArgs, ProfileArg};
use super::{Answer, Failure, exit, output};
use crate::mutate::{Bench, Fate, Outcome, Row};
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
    let code = if outcome.summary.defects > 0 {
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

/// Mutants that matter one by one, the others by number, and the counts.
fn table(outcome: &Outcome) -> String {
    let mut out = String::new();
    for group in outcome
        .mutants
        .chunk_by(|a, b| a.experiment == b.experiment)
    {
        let of = |fate| group.iter().filter(|r| r.verdict == fate).count();
        let _ = writeln!(
            out,
            "{}: {} refuted, {} inconclusive, {} supported, {} unseen",
            group[0].experiment,
            of(Fate::Refuted),
            of(Fate::Inconclusive),
            of(Fate::Supported),
            of(Fate::Unseen)
        );
        for formula in group.chunk_by(|a, b| a.formula == b.formula) {
            let plain = |r: &&Row| r.verdict == Fate::Supported && !r.defect && !r.bound;
            let mut small: Vec<&str> = Vec::new();
            for row in formula {
                if plain(&row) {
                    small.push(&row.mutation);
                } else if row.verdict != Fate::Refuted {
                    line(&mut out, row);
                }
            }
            if !small.is_empty() {
                let _ = writeln!(
                    out,
                    "  supported     {:<28} below detection: {}",
                    formula[0].formula,
                    small.join("; ")
                );
            }
        }
    }
    let s = &outcome.summary;
    let _ = writeln!(
        out,
        "{} mutants: {} refuted, {} inconclusive, {} supported ({} of them of bounds), {} unseen; {} of {} above the smallest refutable deviation refuted; {} supported though they must not be",
        s.mutants,
        s.refuted,
        s.inconclusive,
        s.supported,
        s.bounds_kept,
        s.unseen,
        s.detectable_refuted,
        s.detectable,
        s.defects
    );
    out
}

fn line(out: &mut String, row: &Row) {
    let fate = match (row.verdict, row.defect) {
        (_, true) => "DEFECT",
        (Fate::Inconclusive, _) => "inconclusive",
        (Fate::Unseen, _) => "unseen",
        _ => "supported",
    };
    let detectable = match row.detectable {
        Some(true) => "detectable",
        Some(false) => "below detection",
        None => "bound",
    };
    let _ = writeln!(
        out,
        "  {fate:<13} {:<28} {:<22} {detectable:<15} {}",
        row.formula, row.mutation, row.reason
    );
}
