//! `recall claims`: the registry of claims as a table.

use std::path::PathBuf;

use super::{Answer, Failure, exit, output};
use crate::spec::load_directory;

/// Arguments of `claims`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of the experiment files (*.toml)
    #[arg(long, value_name = "DIR", default_value = "experiments")]
    pub experiments: PathBuf,
    /// Path from where the table is read to the derivation notes
    #[arg(long, value_name = "PATH", default_value = "theory/src")]
    pub notes: String,
}

/// Runs `claims`.
///
/// # Errors
/// If an experiment file cannot be read.
pub fn run(args: &Args) -> Answer {
    let experiments =
        load_directory(&args.experiments).map_err(|e| Failure::Error(e.to_string()))?;
    output::print(&crate::claims::table(&experiments, &args.notes))?;
    Ok(exit::OK)
}
