//! `recall mutate`: what the stored records say of wrong formulas.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::reproduce::{PlaceArgs, ProfileArg};
use super::{Answer, Failure, exit, output};
use crate::mutate::{Bench, Fate, Outcome, Row, TermRow};
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
    let code = if outcome.summary.defects + outcome.terms.summary.defects > 0 {
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
    terms_table(&mut out, outcome);
    out
}

/// Noise terms over the whole report: what is not refuted, and from where on a term's constant
/// would be.
fn terms_table(out: &mut String, outcome: &Outcome) {
    let terms = &outcome.terms;
    if terms.reach.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\nterms, over the whole report (each changed in all experiments at once):"
    );
    let factor = |f: Option<f64>, none: &str| {
        f.map_or_else(
            || none.to_owned(),
            |f| match f {
                0.0 => "dropping it".into(),
                f => format!("x {f}"),
            },
        )
    };
    for reach in &terms.reach {
        let own = || terms.mutants.iter().filter(|r| r.formula == reach.formula);
        let refuted = own().filter(|r| r.verdict == Fate::Refuted).count();
        let _ = writeln!(
            out,
            "{}: {refuted} of {} refuted; seen by {} experiments; a constant is detectable from {} up, {} down",
            reach.formula,
            own().count(),
            reach.experiments.len(),
            factor(reach.above, "no factor"),
            factor(reach.below, "no factor"),
        );
        let plain = |r: &&TermRow| r.verdict == Fate::Supported && !r.defect;
        for row in own().filter(|r| r.verdict != Fate::Refuted && !plain(r)) {
            term_line(out, row);
        }
        let small: Vec<&str> = own().filter(plain).map(|r| r.mutation.as_str()).collect();
        if !small.is_empty() {
            let _ = writeln!(out, "  supported     below detection: {}", small.join("; "));
        }
    }
    let s = &terms.summary;
    let _ = writeln!(
        out,
        "{} changes of terms: {} refuted, {} inconclusive, {} supported, {} unseen; {} supported though they must not be",
        s.mutants, s.refuted, s.inconclusive, s.supported, s.unseen, s.defects
    );
}

/// What is said of a change that is not refuted.
fn fate(verdict: Fate, defect: bool) -> &'static str {
    match (verdict, defect) {
        (_, true) => "DEFECT",
        (Fate::Inconclusive, _) => "inconclusive",
        (Fate::Unseen, _) => "unseen",
        _ => "supported",
    }
}

fn term_line(out: &mut String, row: &TermRow) {
    let fate = fate(row.verdict, row.defect);
    let _ = writeln!(out, "  {fate:<13} {:<22} {}", row.mutation, row.reason);
}

fn line(out: &mut String, row: &Row) {
    let fate = fate(row.verdict, row.defect);
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
