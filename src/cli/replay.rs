//! `recall replay CASE.json`: exact gradient descent on literal inputs.

use std::fmt::Write;
use std::path::PathBuf;

use super::{Answer, Failure, exit, output};
use crate::replay::{Case, Deviation, Measure, Report, compare, replay};

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The case is one JSON object: the scalars name, V, d, L, N, eta, gamma_w, gamma_v, value_trigger (T, lr_v, lr_w optional) and the literal arrays under inputs. The report has the same scalars and every quantity under outputs. If the case brings outputs of its own, each is compared: the deviations go to standard error, and the exit code is 1 if one exceeds the tolerance."
)]
pub struct Args {
    /// Case file (JSON)
    #[arg(value_name = "CASE.json")]
    pub case: PathBuf,
    /// Write the report to FILE instead of standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Largest deviation from the case's own outputs that passes
    #[arg(long, value_name = "X", default_value_t = 1e-12, value_parser = tolerance, allow_negative_numbers = true)]
    pub tolerance: f64,
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && x >= 0.0 => Ok(x),
        _ => Err("a finite number, zero or more".to_owned()),
    }
}

/// Runs `replay`.
///
/// # Errors
/// If the case cannot be read or run, or the report cannot be written.
pub fn run(args: &Args) -> Answer {
    let name = args.case.display();
    let place = |e: &dyn std::fmt::Display| Failure::Error(format!("{name}: {e}"));
    let text = std::fs::read_to_string(&args.case).map_err(|e| place(&e))?;
    let case = Case::from_json(&text).map_err(|e| place(&e))?;
    drop(text);
    let outputs = replay(&case).map_err(|e| place(&e))?;
    let deviations = match &case.reference {
        Some(reference) => compare(&outputs, reference).map_err(|e| place(&e))?,
        None => Vec::new(),
    };
    let mut report = serde_json::to_string(&Report::new(&case, &outputs)).map_err(|e| place(&e))?;
    report.push('\n');
    match &args.out {
        Some(path) => output::write_file(path, &report)?,
        None => output::print(&report)?,
    }
    if deviations.is_empty() {
        return Ok(exit::OK);
    }
    output::note(table(&deviations, args.tolerance).trim_end());
    let beyond = deviations.iter().filter(|d| !d.within(args.tolerance));
    match beyond.count() {
        0 => Ok(exit::OK),
        n => Err(Failure::Error(format!(
            "{name}: {n} of {} outputs deviate from the case's own by more than {:e}",
            deviations.len(),
            args.tolerance
        ))),
    }
}

fn table(deviations: &[Deviation], tolerance: f64) -> String {
    let width = deviations.iter().map(|d| d.name.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}  {:>9}  measure\n", "output", "deviation");
    for d in deviations {
        let measure = match d.measure {
            Measure::Relative => "relative",
            Measure::Absolute => "absolute",
            Measure::Margin => "margin",
            Measure::Count => "entries that differ",
            Measure::Unknown => "not an output of this program",
        };
        let mark = if d.within(tolerance) { "" } else { "  BEYOND" };
        let _ = writeln!(
            text,
            "{:width$}  {:>9.1e}  {measure}{mark}",
            d.name, d.value
        );
    }
    text
}
