//! The whole pipeline: experiments to jobs, jobs to records, records to a judged report.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::experiment::{Records, expected_jobs, for_each, jobs, pending};
use crate::job::{Job, Record};
use crate::report::{self, Judged, ReportError};
use crate::rng::{RNG_SCHEME, sha256_hex};
use crate::runner::{Observer, RunError, RunOptions, run_jobs};
use crate::spec::{Experiment, Profile, SpecError, load_directory};
use crate::store::{MEASUREMENTS, Store, StoreError};

/// Name of the file that says who made a report.
pub const PROVENANCE: &str = "provenance.json";

impl Records for Store {
    fn get(&self, job: &Job) -> Option<&Record> {
        self.get_job(job)
    }
}

/// Where a run reads and writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Places {
    /// Directory of the experiment files.
    pub experiments: PathBuf,
    /// Directory of stores; a run uses `<runs>/<profile>`.
    pub runs: PathBuf,
    /// Directory of reports; a run writes `<reports>/<profile>`.
    pub reports: PathBuf,
}

impl Places {
    /// Report directory of a profile.
    #[must_use]
    pub fn report(&self, profile: Profile) -> PathBuf {
        self.reports.join(profile.name())
    }
}

/// Why a run did not end in a report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReproduceError {
    /// An experiment file is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A job failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The report cannot be made.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The records were changed after their run.
    #[error(
        "{}: not the file that its run wrote (its SHA-256 is not the one in {PROVENANCE} beside it): \
         restore it, or make both anew with `recall reproduce`",
        path.display()
    )]
    Checksum {
        /// The records.
        path: PathBuf,
    },
    /// A signal asked the run to end.
    #[error(
        "interrupted: {simulated} trials of this run are kept; the same command goes on from there"
    )]
    Interrupted {
        /// Trials that this run has added.
        simulated: usize,
    },
    /// No experiment takes part in the profile.
    #[error("{}: none of the experiments has a [profile.{profile}] section", dir.display())]
    NothingToDo {
        /// Directory of experiments.
        dir: PathBuf,
        /// Profile asked for.
        profile: &'static str,
    },
}

/// What a finished run reports about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Reproduced {
    /// The judged report.
    pub judged: Judged,
    /// Where it is.
    pub directory: PathBuf,
    /// Jobs simulated now.
    pub simulated: usize,
    /// Jobs used in all.
    pub used: usize,
    /// Warnings of the figures and notes of the store.
    pub warnings: Vec<String>,
}

/// Loads the experiments of a profile.
///
/// # Errors
/// If a file is wrong, or none takes part.
pub fn load(places: &Places, profile: Profile) -> Result<Vec<Experiment>, ReproduceError> {
    let experiments: Vec<Experiment> = load_directory(&places.experiments)?
        .into_iter()
        .filter(|e| e.design(profile).is_some())
        .collect();
    if experiments.is_empty() {
        return Err(ReproduceError::NothingToDo {
            dir: places.experiments.clone(),
            profile: profile.name(),
        });
    }
    Ok(experiments)
}

/// Jobs missing from the store, over all experiments.
fn missing(experiments: &[Experiment], profile: Profile, records: &dyn Records) -> Vec<Job> {
    let designs: Vec<_> = experiments
        .iter()
        .filter_map(|e| Some((e, e.design(profile)?)))
        .collect();
    for_each(&designs, |(e, design)| pending(e, design, records))
        .into_iter()
        .flatten()
        .collect()
}

/// Estimated work of one experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Experiment id.
    pub experiment: String,
    /// Number of trials; for a search, if it ends where the theory puts it.
    pub trials: usize,
    /// Seconds on one core.
    pub core_seconds: f64,
    /// Bytes of the largest trial.
    pub bytes: f64,
}

/// What a run would do, without doing it.
#[must_use]
pub fn dry_run(experiments: &[Experiment], profile: Profile) -> Vec<Estimate> {
    let designs: Vec<_> = experiments
        .iter()
        .filter_map(|e| Some((e, e.design(profile)?)))
        .collect();
    for_each(&designs, |(e, design)| {
        let jobs = expected_jobs(e, design);
        let costs = || jobs.iter().map(Job::cost);
        Estimate {
            experiment: e.id.clone(),
            trials: jobs.len(),
            core_seconds: costs().map(|c| c.seconds).sum(),
            bytes: costs().map(|c| c.bytes).fold(0.0, f64::max),
        }
    })
}

/// Runs a profile from wherever its store stands to the report.
///
/// # Errors
/// See [`ReproduceError`]; finished jobs stay in the store in any case.
pub fn reproduce(
    places: &Places,
    profile: Profile,
    options: RunOptions<'_>,
    observer: &mut dyn Observer,
) -> Result<Reproduced, ReproduceError> {
    let begun = Moment::now();
    // Now, since the tree may move on while a long run goes on.
    let commit = commit();
    let experiments = load(places, profile)?;
    let mut store = Store::open(places.runs.join(profile.name()))?;
    let mut warnings = store.aside().notes();
    let (mut simulated, mut busy, mut threads) = (0, 0.0, options.threads);
    let asked_to_stop = || options.stop.is_some_and(|s| s.load(Ordering::Relaxed));
    loop {
        let jobs = missing(&experiments, profile, &store);
        if jobs.is_empty() {
            break;
        }
        let round = RunOptions {
            threads: options.threads,
            memory_limit_bytes: options.memory_limit_bytes,
            stop: options.stop,
        };
        let summary = run_jobs(jobs, &mut store, round, observer)?;
        simulated += summary.finished;
        busy += summary.busy_seconds;
        if asked_to_stop() {
            return Err(ReproduceError::Interrupted { simulated });
        }
    }
    if threads == 0 {
        threads = std::thread::available_parallelism().map_or(1, usize::from);
    }
    // The order of the files, the blocks and the seeds, whatever the order of the work.
    let mut order: Vec<Job> = Vec::new();
    for e in &experiments {
        if let Some(design) = e.design(profile) {
            order.extend(jobs(e, design, &store));
        }
    }
    let judged = report::judge(profile, &experiments, &store)?;
    // All trials are stored; what follows takes seconds, and the same command does it again.
    if asked_to_stop() {
        return Err(ReproduceError::Interrupted { simulated });
    }
    let finalised = store.finalise(&order)?;
    let directory = places.report(profile);
    warnings.extend(report::write(&judged, &directory)?);
    copy(
        &places.runs.join(profile.name()).join(MEASUREMENTS),
        &directory.join(MEASUREMENTS),
    )?;
    let file = directory.join(PROVENANCE);
    let mut invocations = provenance(&file).map_or_else(Vec::new, |p| p.invocations);
    invocations.push(Invocation {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit,
        cpu: cpu(),
        threads,
        trials_simulated: simulated,
        wall_seconds: begun.elapsed().as_secs_f64(),
        simulation_core_seconds: busy,
    });
    let provenance = Provenance {
        program: env!("CARGO_PKG_NAME").to_owned(),
        profile: profile.name().to_owned(),
        rng_scheme: RNG_SCHEME,
        kernels: store.kernels().into_keys().map(str::to_owned).collect(),
        trials: finalised.records,
        seeds: experiments
            .iter()
            .filter_map(|e| Some((e.id.clone(), seed_range(e.design(profile)?))))
            .collect(),
        measurements_sha256: Some(sha256_of(&directory.join(MEASUREMENTS))?),
        invocations,
    };
    let text = serde_json::to_string_pretty(&provenance).unwrap_or_default() + "\n";
    report::write_file(&file, &text)?;
    Ok(Reproduced {
        judged,
        directory,
        simulated,
        used: finalised.records,
        warnings,
    })
}

/// A stored report, read back.
#[derive(Debug)]
pub struct Stored {
    /// Experiments of the profile, as their files say now.
    pub experiments: Vec<Experiment>,
    /// The records.
    pub store: Store,
    /// The records, judged: claims and critical values, no tables or figures.
    pub judged: Judged,
    /// What the checksum of the records says.
    pub checksum: Checksum,
}

/// Whether the records are those that their run wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// As in `provenance.json`.
    Holds,
    /// None is stored.
    Unknown,
}

/// Judges a stored report's records again; simulates nothing and writes nothing.
///
/// # Errors
/// If the records cannot be read, are incomplete, or do not have the checksum that their run
/// stored beside them.
pub fn verify(places: &Places, profile: Profile) -> Result<Stored, ReproduceError> {
    let experiments = load(places, profile)?;
    let directory = places.report(profile);
    let path = directory.join(MEASUREMENTS);
    let store = Store::read_only(&path)?;
    let judged = report::conclude(profile, &experiments, &store)?;
    let stated = provenance(&directory.join(PROVENANCE)).and_then(|p| p.measurements_sha256);
    let checksum = match stated {
        None => Checksum::Unknown,
        Some(stated) if stated == sha256_of(&path)? => Checksum::Holds,
        Some(_) => return Err(ReproduceError::Checksum { path }),
    };
    Ok(Stored {
        experiments,
        store,
        judged,
        checksum,
    })
}

fn sha256_of(path: &Path) -> Result<String, ReproduceError> {
    let text = std::fs::read_to_string(path).map_err(|source| StoreError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok(sha256_hex(&text))
}

fn copy(from: &Path, to: &Path) -> Result<(), ReportError> {
    let text = std::fs::read_to_string(from).map_err(|source| ReportError::Write {
        path: from.to_owned(),
        source,
    })?;
    report::write_file(to, &text)
}

/// Who made a report, on what, and how long it took. The only file of a report that differs
/// between two runs of the same build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Provenance {
    program: String,
    profile: String,
    rng_scheme: u32,
    kernels: Vec<String>,
    trials: usize,
    seeds: std::collections::BTreeMap<String, String>,
    /// SHA-256 of `measurements.jsonl`; absent in reports of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    measurements_sha256: Option<String>,
    /// All invocations that wrote into this report, the last one last.
    invocations: Vec<Invocation>,
}

/// One run of the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Invocation {
    version: String,
    commit: String,
    cpu: String,
    threads: usize,
    trials_simulated: usize,
    wall_seconds: f64,
    simulation_core_seconds: f64,
}

/// What a provenance file says, if there is one.
fn provenance(file: &Path) -> Option<Provenance> {
    let text = std::fs::read_to_string(file).ok()?;
    serde_json::from_str(&text).ok()
}

/// The seeds of a design, `first..end`.
fn seed_range(design: &crate::spec::Design) -> String {
    format!(
        "{}..{}",
        design.first_seed,
        design.first_seed + design.seeds
    )
}

/// Commit of the working tree, where git knows one.
fn commit() -> String {
    let git = |args: &[&str]| {
        std::process::Command::new("git")
            .args(args)
            .output()
            .ok()
            .filter(|o| o.status.success())
            .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
    };
    match git(&["rev-parse", "HEAD"]) {
        None => "unknown".into(),
        Some(head) => {
            let changed = git(&[
                "status",
                "--porcelain",
                "--",
                "src",
                "theory",
                "experiments",
                "Cargo.lock",
            ]);
            if changed.is_some_and(|c| !c.is_empty()) {
                format!("{head} with local changes")
            } else {
                head
            }
        }
    }
}

/// Model name of the processor, where the system tells.
fn cpu() -> String {
    std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}
