//! `recall reproduce`: experiments in, a judged report out.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::interrupt::Interrupt;
use super::{Answer, Failure, exit, output};
use crate::progress;
use crate::reproduce::{Places, ReproduceError, dry_run, load, reproduce};
use crate::runner::RunOptions;
use crate::spec::Profile;

/// Which designs to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProfileArg {
    /// Small designs, at most 3 minutes on 2 cores.
    Quick,
    /// The designs of the committed report, at most 30 minutes on 2 cores.
    Full,
}

impl From<ProfileArg> for Profile {
    fn from(p: ProfileArg) -> Self {
        match p {
            ProfileArg::Quick => Profile::Quick,
            ProfileArg::Full => Profile::Full,
        }
    }
}

/// Directories shared by `reproduce` and `verify`.
#[derive(Debug, clap::Args)]
pub struct PlaceArgs {
    /// Directory of the experiment files (*.toml).
    #[arg(long, default_value = "experiments", value_name = "DIR")]
    pub experiments: PathBuf,
    /// Directory of the reports; the report of a profile is in a directory of its name.
    #[arg(long, default_value = "reports", value_name = "DIR")]
    pub reports: PathBuf,
}

/// Arguments of `recall reproduce`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which designs to run.
    #[arg(long, value_enum, default_value_t = ProfileArg::Quick)]
    pub profile: ProfileArg,
    /// Worker threads; 0 for all cores.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub threads: usize,
    /// Memory that all running jobs may take together, in GiB; default: what the machine has free.
    #[arg(long, value_name = "GIB")]
    pub memory: Option<f64>,
    /// Print the jobs and an estimate of their time and memory, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    /// Directories.
    pub places: PlaceArgs,
    /// Directory of the stores, from which a killed run resumes.
    #[arg(long, default_value = "runs", value_name = "DIR")]
    pub runs: PathBuf,
}

/// Runs the sub-command.
///
/// # Errors
/// See [`crate::reproduce::ReproduceError`].
pub fn run(args: &Args) -> Answer {
    let profile = Profile::from(args.profile);
    let places = Places {
        experiments: args.places.experiments.clone(),
        runs: args.runs.clone(),
        reports: args.places.reports.clone(),
    };
    let limit = match args.memory {
        Some(gib) if gib.is_finite() && gib > 0.0 => Some(gib * f64::from(1u32 << 30)),
        Some(gib) => {
            return Err(Failure::Usage(format!(
                "--memory {gib}: must be a positive number of GiB"
            )));
        }
        None => available_memory(),
    };
    let error = |e: ReproduceError| Failure::Error(e.to_string());
    if args.dry_run {
        let experiments = load(&places, profile).map_err(error)?;
        let estimates = dry_run(&experiments, profile);
        let threads = if args.threads == 0 {
            std::thread::available_parallelism().map_or(1, usize::from)
        } else {
            args.threads
        };
        let mut text = format!(
            "{:<40} {:>8} {:>10} {:>10}\n",
            "experiment", "trials", "core s", "MiB"
        );
        let (mut trials, mut seconds) = (0, 0.0);
        for e in &estimates {
            let _ = writeln!(
                text,
                "{:<40} {:>8} {:>10.1} {:>10.0}",
                e.experiment,
                e.trials,
                e.core_seconds,
                e.bytes / f64::from(1 << 20)
            );
            trials += e.trials;
            seconds += e.core_seconds;
        }
        let _ = writeln!(
            text,
            "{:<40} {trials:>8} {seconds:>10.1}\nabout {:.0} s on {threads} threads, if every search ends where the theory puts it",
            "all",
            seconds / threads as f64
        );
        if let Some(limit) = limit
            && let Some(e) = estimates.iter().find(|e| e.bytes > limit)
        {
            return Err(Failure::Error(format!(
                "experiment {}: a trial needs about {:.1} GiB, more than the limit of {:.1} GiB; make it smaller or raise --memory",
                e.experiment,
                e.bytes / f64::from(1u32 << 30),
                limit / f64::from(1u32 << 30)
            )));
        }
        output::print(&text)?;
        return Ok(exit::OK);
    }
    let interrupt = Interrupt::listen()
        .map_err(|e| Failure::Error(format!("cannot listen to signals: {e}")))?;
    let options = RunOptions {
        threads: args.threads,
        memory_limit_bytes: limit,
        stop: Some(interrupt.flag()),
    };
    let mut observer = progress::on_stderr();
    let done = match reproduce(&places, profile, options, observer.as_mut()) {
        Ok(done) => done,
        Err(e @ ReproduceError::Interrupted { .. }) => {
            output::note(&e.to_string());
            return Ok(interrupt.code());
        }
        Err(e) => return Err(error(e)),
    };
    for w in &done.warnings {
        output::note(&format!("note: {w}"));
    }
    let tally = done.judged.tally();
    output::print(&format!(
        "{}{} trials used, {} simulated now\nreport: {}\n{} supported, {} refuted, {} inconclusive\n",
        super::verify::verdict_text(&done.judged),
        done.used,
        done.simulated,
        done.directory.join("report.md").display(),
        tally.supported,
        tally.refuted,
        tally.inconclusive
    ))?;
    Ok(exit::OK)
}

/// Memory that the system can still give, where it says so.
pub(super) fn available_memory() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0)
}
