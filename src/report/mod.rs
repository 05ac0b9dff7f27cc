//! Reports: findings and verdicts in, files out. Nothing is measured or fitted here.
//!
//! A report directory holds `report.md`, `figures/*.svg` and `*.png`, `thresholds.csv`,
//! `cells.csv`, `fits.json`, `verdicts.json`, the records behind them and `provenance.json`. All
//! but the last are the same bytes for the same records.

mod junit;
mod markdown;
mod text;

use std::path::{Path, PathBuf};

use recall_theory::registry;
use serde::{Deserialize, Serialize};

pub use junit::junit;
pub use text::{describe_verdict, verdict_rows};

use crate::experiment::{self, AnalysisError, Findings, Records, analyse, for_each, jobs};
use crate::figure::{FigureError, write_figure};
use crate::job::Job;
use crate::spec::{Design, Experiment, Profile};
use crate::stats::StatsError;
use crate::stats::verdict::{Claim, ClaimVerdict, Policy, Verdict, decide};

/// A judged run.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Profile of the run.
    pub profile: Profile,
    /// Experiments that take part in it, with their findings.
    pub experiments: Vec<(Experiment, Findings)>,
    /// All claims with their evidence, in the order of the experiments.
    pub claims: Vec<Claim>,
    /// Their verdicts, in the same order.
    pub verdicts: Vec<ClaimVerdict>,
    /// Rules of judgement.
    pub policy: Policy,
    /// Distinct trials behind the report; experiments may share some.
    pub trials: usize,
}

/// Verdicts by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Supported claims.
    pub supported: usize,
    /// Refuted claims.
    pub refuted: usize,
    /// Inconclusive claims.
    pub inconclusive: usize,
}

impl Judged {
    /// Counts the verdicts.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for v in &self.verdicts {
            match v.verdict {
                Verdict::Supported => tally.supported += 1,
                Verdict::Refuted => tally.refuted += 1,
                Verdict::Inconclusive { .. } => tally.inconclusive += 1,
            }
        }
        tally
    }

    /// Verdicts with the claims they judge.
    pub fn pairs(&self) -> impl Iterator<Item = (&ClaimVerdict, &Claim)> {
        self.verdicts.iter().zip(&self.claims)
    }

    /// Verdicts of one experiment.
    pub fn pairs_of<'a>(
        &'a self,
        findings: &'a Findings,
    ) -> impl Iterator<Item = (&'a ClaimVerdict, &'a Claim)> {
        self.pairs()
            .filter(|(v, _)| findings.claims.iter().any(|c| c.id == v.id))
    }
}

/// Why a report cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Records are missing or cannot be analysed.
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
    /// Verdicts cannot be computed.
    #[error("verdicts: {0}")]
    Verdicts(#[from] StatsError),
    /// A figure cannot be drawn or written.
    #[error(transparent)]
    Figure(#[from] FigureError),
    /// A file cannot be written.
    #[error("{}: cannot write it: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// How an experiment's records become findings.
type Analysis = fn(&Experiment, &Design, &dyn Records) -> Result<Findings, AnalysisError>;

/// Analyses all experiments of a profile and judges their claims as one family.
///
/// # Errors
/// If records are missing, or a statistic cannot be computed.
pub fn judge(
    profile: Profile,
    experiments: &[Experiment],
    records: &dyn Records,
) -> Result<Judged, ReportError> {
    judge_by(analyse, profile, experiments, records)
}

/// [`judge`] with the claims and critical values alone: the same verdicts, and nothing to write a
/// report from.
///
/// # Errors
/// As [`judge`].
pub fn conclude(
    profile: Profile,
    experiments: &[Experiment],
    records: &dyn Records,
) -> Result<Judged, ReportError> {
    judge_by(experiment::conclude, profile, experiments, records)
}

fn judge_by(
    analysis: Analysis,
    profile: Profile,
    experiments: &[Experiment],
    records: &dyn Records,
) -> Result<Judged, ReportError> {
    let designs: Vec<_> = experiments
        .iter()
        .filter_map(|e| Some((e, e.design(profile)?)))
        .collect();
    let results = for_each(&designs, |(e, design)| analysis(e, design, records));
    let mut analysed = Vec::new();
    let mut claims = Vec::new();
    let mut keys = std::collections::HashSet::new();
    for ((experiment, design), findings) in designs.into_iter().zip(results) {
        let findings = findings?;
        claims.extend(findings.claims.iter().cloned());
        keys.extend(jobs(experiment, design, records).iter().map(Job::key));
        analysed.push((experiment.clone(), findings));
    }
    let policy = Policy::default();
    let verdicts = decide(&claims, &policy)?;
    Ok(Judged {
        profile,
        experiments: analysed,
        claims,
        verdicts,
        policy,
        trials: keys.len(),
    })
}

/// Writes the report into `dir`, each file atomically, figures first and `report.md` last.
///
/// # Errors
/// If a figure or file cannot be written; what was there before stays readable.
pub fn write(judged: &Judged, dir: &Path) -> Result<Vec<String>, ReportError> {
    let mut warnings = Vec::new();
    let figures = dir.join("figures");
    create_dir(&figures)?;
    crate::files::sweep(dir);
    crate::files::sweep(&figures);
    for (_, findings) in &judged.experiments {
        for f in &findings.figures {
            let written = write_figure(&figures, &f.stem, &f.figure)?;
            if !written.report.missing_glyphs.is_empty() {
                warnings.push(format!(
                    "figure {}: no glyph for {:?}",
                    f.stem, written.report.missing_glyphs
                ));
            }
        }
    }
    let thresholds: Vec<_> = judged
        .experiments
        .iter()
        .flat_map(|e| &e.1.thresholds)
        .collect();
    write_file(
        &dir.join("thresholds.csv"),
        &text::thresholds_csv(&thresholds),
    )?;
    let cells: Vec<_> = judged.experiments.iter().flat_map(|e| &e.1.cells).collect();
    write_file(&dir.join("cells.csv"), &text::cells_csv(&cells))?;
    let fits: serde_json::Map<String, serde_json::Value> = judged
        .experiments
        .iter()
        .filter(|(_, f)| !f.fits.is_null())
        .map(|(e, f)| (e.id.clone(), f.fits.clone()))
        .collect();
    write_json(&dir.join("fits.json"), &serde_json::Value::Object(fits))?;
    let verdicts: Vec<serde_json::Value> = judged
        .verdicts
        .iter()
        .zip(&judged.claims)
        .map(|(v, c)| {
            serde_json::json!({
                "id": v.id,
                "statement": statement(judged, &v.id),
                "result": v,
                "evidence": c.evidence,
            })
        })
        .collect();
    write_json(
        &dir.join("verdicts.json"),
        &serde_json::json!({
            "profile": judged.profile,
            "policy": judged.policy,
            "tally": judged.tally(),
            "claims": verdicts,
        }),
    )?;
    write_file(&dir.join("report.md"), &markdown::report(judged))?;
    Ok(warnings)
}

/// What a claim id such as `recall-dimension/slopes` (experiment and part) says.
fn statement(judged: &Judged, id: &str) -> String {
    let mut pieces = id.split('/');
    let experiment = pieces.next().unwrap_or_default();
    let words = judged
        .experiments
        .iter()
        .find(|(e, _)| e.id == experiment)
        .and_then(|(e, _)| registry::claim(&e.claim))
        .map_or("", |c| c.statement);
    let mut text = words.to_owned();
    for piece in pieces {
        text += &match piece {
            "constant" => " Here: its constant, against the finite-size formula.".to_owned(),
            "slopes" => {
                " Here: its slopes, against those of the finite-size formula on the same design."
                    .to_owned()
            }
            "asymptotic" => " Here: the asymptotic exponents themselves.".to_owned(),
            part => format!(" Part `{part}`."),
        };
    }
    text
}

fn create_dir(dir: &Path) -> Result<(), ReportError> {
    crate::files::create_dir_all(dir).map_err(|source| ReportError::Write {
        path: dir.to_owned(),
        source,
    })
}

fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), ReportError> {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    write_file(path, &text)
}

/// Replaces a file in one step.
///
/// # Errors
/// Names the file.
pub fn write_file(path: &Path, text: &str) -> Result<(), ReportError> {
    crate::files::write(path, text.as_bytes()).map_err(|source| ReportError::Write {
        path: path.to_owned(),
        source,
    })
}
