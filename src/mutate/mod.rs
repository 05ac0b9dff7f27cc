//! What the suite would have said of a wrong formula.
//!
//! Every formula that a claim rests on is changed, one change at a time, from outside: the wrong
//! theory answers in place of the right one ([`crate::experiment::Predictor`]), stored
//! measurements are set beside it, and the whole family of claims is judged again. Searches stay
//! where the right theory has placed them. Nothing is simulated. See `docs/mutation-formulas.md`.

mod mutant;
mod plan;
mod terms;

use recall_theory::Setting;
use serde::Serialize;

pub use mutant::{Change, DesignSize, Mutant, Site};
pub use plan::{CONSTANTS, EXPONENTS, Planned, PlannedTerm, Untouched, plan, plan_terms};
pub use terms::{Reach, TermRow, TermSummary, Terms};

use crate::experiment::{AnalysisError, Measured, Predictor, Records, Theory, for_each, measure};
use crate::report::describe_verdict;
use crate::spec::{Design, Experiment, Kind, Profile};
use crate::stats::StatsError;
use crate::stats::verdict::{
    Claim, ClaimVerdict, Comparison, Evidence, Policy, Verdict, Weighed, decide, decide_weighed,
    weigh,
};

/// What became of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// At least one of the claims that it touches is refuted.
    Refuted,
    /// None is refuted, but not all are supported.
    Inconclusive,
    /// All claims that it touches are supported.
    Supported,
    /// No claim of the experiment sees it.
    Unseen,
}

/// One claim under a mutant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// Id of the claim in the report.
    pub id: String,
    /// Verdict with its reason, in words.
    pub verdict: String,
    /// Largest change of a deviation that is compared with a margin.
    pub deviation: Option<f64>,
    /// Deviation that the report prints as refutable for that comparison.
    pub refutable: Option<f64>,
}

/// One mutant and its verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Formula changed.
    pub formula: String,
    /// The change.
    pub mutation: String,
    /// Claim of the registry.
    pub claim: String,
    /// Experiment whose records judge.
    pub experiment: String,
    /// What became of it.
    pub verdict: Fate,
    /// Whether the change exceeds the smallest deviation that the report prints as refutable;
    /// absent for a bound, for which it prints none.
    pub detectable: Option<bool>,
    /// Whether the claim is one-sided.
    pub bound: bool,
    /// Supported though it must not be: the change is to a whole formula and gross, or detectable.
    pub defect: bool,
    /// Why it is not refuted, empty where it is.
    pub reason: String,
    /// The claims that see it.
    pub parts: Vec<Part>,
}

/// Counts over all mutants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Summary {
    /// All mutants.
    pub mutants: usize,
    /// Refuted ones.
    pub refuted: usize,
    /// Inconclusive ones.
    pub inconclusive: usize,
    /// Supported ones.
    pub supported: usize,
    /// Those that no claim sees.
    pub unseen: usize,
    /// Those that exceed the smallest refutable deviation.
    pub detectable: usize,
    /// How many of these are refuted.
    pub detectable_refuted: usize,
    /// Supported ones of bounds: a bound says that nothing exceeds it, not that it is reached.
    pub bounds_kept: usize,
    /// Supported ones that must not be.
    pub defects: usize,
}

/// An experiment that could not take part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Skipped {
    /// Experiment.
    pub experiment: String,
    /// Why.
    pub reason: String,
}

/// All that a run of the harness found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Profile of the records.
    pub profile: Profile,
    /// One row for each mutant, in the order of the experiments.
    pub mutants: Vec<Row>,
    /// Counts.
    pub summary: Summary,
    /// Noise terms, each changed in all experiments at once.
    pub terms: Terms,
    /// Formulas named by claims that an experiment offers no place to change.
    pub untouched: Vec<Untouched>,
    /// Experiments without records.
    pub skipped: Vec<Skipped>,
}

/// The records of a report, measured once.
pub struct Bench {
    profile: Profile,
    experiments: Vec<(Experiment, Design, Measured)>,
    skipped: Vec<Skipped>,
}

impl Bench {
    /// Measures all experiments of a profile whose records are complete.
    ///
    /// # Errors
    /// If a statistic cannot be computed.
    pub fn new(
        profile: Profile,
        experiments: &[Experiment],
        records: &dyn Records,
    ) -> Result<Self, AnalysisError> {
        let designs: Vec<_> = experiments
            .iter()
            .filter_map(|e| Some((e, e.design(profile)?)))
            .collect();
        prepare(&designs);
        let measured = for_each(&designs, |(e, design)| measure(e, design, records));
        let mut bench = Bench {
            profile,
            experiments: Vec::new(),
            skipped: Vec::new(),
        };
        for ((experiment, design), measured) in designs.into_iter().zip(measured) {
            match measured {
                Ok(m) => bench
                    .experiments
                    .push((experiment.clone(), design.clone(), m)),
                Err(e @ AnalysisError::Incomplete { .. }) => bench.skipped.push(Skipped {
                    experiment: experiment.id.clone(),
                    reason: e.to_string(),
                }),
                Err(e) => return Err(e),
            }
        }
        Ok(bench)
    }

    /// Claims of one experiment under a theory.
    fn claims(&self, index: usize, predictor: &dyn Predictor) -> Result<Vec<Claim>, StatsError> {
        let (experiment, design, measured) = &self.experiments[index];
        measured.claims(experiment, design, predictor)
    }

    /// Claims of all experiments under a theory, by experiment.
    ///
    /// # Errors
    /// If a statistic cannot be computed.
    pub fn all_claims(&self, predictor: &dyn Predictor) -> Result<Vec<Vec<Claim>>, StatsError> {
        let indices: Vec<usize> = (0..self.experiments.len()).collect();
        for_each(&indices, |i| self.claims(*i, predictor))
            .into_iter()
            .collect()
    }

    /// Judges every mutant.
    ///
    /// # Errors
    /// If the unchanged theory cannot be judged.
    pub fn run(&self) -> Result<Outcome, StatsError> {
        let honest = self.all_claims(&Theory)?;
        let policy = Policy::default();
        let family = honest.concat();
        let verdicts = decide(&family, &policy)?;
        let weighed: Vec<Vec<Weighed>> = honest
            .iter()
            .map(|own| {
                own.iter()
                    .map(|c| weigh(c, family.len(), &policy))
                    .collect()
            })
            .collect::<Result<_, _>>()?;
        let whole = Whole {
            honest: &honest,
            weighed: &weighed,
            verdicts: &verdicts,
            claims: family.len(),
        };
        let settings: Vec<Vec<Setting>> =
            for_each(&self.experiments, |(_, _, measured)| measured.settings());
        let mut tasks = Vec::new();
        let mut untouched = Vec::new();
        for (i, (experiment, design, _)) in self.experiments.iter().enumerate() {
            let (planned, left) = plan(experiment, design, &settings[i]);
            tasks.extend(planned.into_iter().map(|p| (i, p)));
            untouched.extend(left);
        }
        let mutants: Vec<Row> = for_each(&tasks, |(i, planned)| {
            self.judge(*i, planned, &whole, &policy)
        });
        let designs: Vec<(&Experiment, Vec<Setting>)> = self
            .experiments
            .iter()
            .map(|(experiment, ..)| experiment)
            .zip(settings)
            .collect();
        let terms = self.run_terms(&plan_terms(&designs), &whole, &policy);
        Ok(Outcome {
            profile: self.profile,
            summary: summary(&mutants),
            mutants,
            terms,
            untouched,
            skipped: self.skipped.clone(),
        })
    }

    /// The claims of one experiment under a mutant, weighed.
    fn weighed(
        &self,
        index: usize,
        mutant: &Mutant,
        family: usize,
        policy: &Policy,
    ) -> Result<Changed, StatsError> {
        let claims = self.claims(index, mutant)?;
        let weighed = claims
            .iter()
            .map(|c| weigh(c, family, policy))
            .collect::<Result<_, _>>()?;
        Ok(Changed {
            index,
            claims,
            weighed,
        })
    }

    fn judge(&self, index: usize, planned: &Planned, whole: &Whole, policy: &Policy) -> Row {
        let experiment = &self.experiments[index].0;
        let Mutant { site, change, .. } = planned.mutant;
        let mut row = Row {
            formula: planned.formula.clone(),
            mutation: change.describe(),
            claim: experiment.claim.clone(),
            experiment: experiment.id.clone(),
            verdict: Fate::Inconclusive,
            detectable: (!site.is_bound()).then_some(false),
            bound: site.is_bound(),
            defect: false,
            reason: String::new(),
            parts: Vec::new(),
        };
        let seen = self
            .weighed(index, &planned.mutant, whole.claims, policy)
            .and_then(|changed| whole.seen(&[changed], policy));
        let seen = match seen {
            Ok(seen) => seen,
            Err(e) => {
                row.reason = format!("no verdict: {e}");
                return row;
            }
        };
        row.detectable = row.detectable.map(|_| seen.detectable());
        row.verdict = seen.fate();
        row.reason = match row.verdict {
            Fate::Refuted => String::new(),
            Fate::Inconclusive => seen.open.unwrap_or_default(),
            Fate::Unseen => "no number that a claim rests on changes".into(),
            Fate::Supported if row.bound => "nothing measured exceeds this bound either".into(),
            Fate::Supported => why_supported(&seen.parts),
        };
        row.parts = seen.parts;
        let formula = !matches!(site, Site::Term(_) | Site::Component(_));
        row.defect = row.verdict == Fate::Supported
            && !row.bound
            && ((formula && change.is_gross()) || row.detectable == Some(true));
        row
    }
}

/// Asks the theory for all that the experiments will ask it for, setting by setting, so that a
/// single large experiment does not keep one thread alone busy. The answers are remembered.
fn prepare(designs: &[(&Experiment, &Design)]) {
    let mut asked = Vec::new();
    for (experiment, design) in designs {
        for s in design.settings() {
            asked.push((s, &experiment.kind));
        }
    }
    for_each(&asked, |(s, kind)| match kind {
        Kind::Threshold { search, .. } => {
            let _ = Theory.critical(s, search.axis, search.criterion);
        }
        Kind::Curves { quantities, .. } => {
            // The first is the one that is judged.
            if let Some(quantity) = quantities.first() {
                let _ = Theory.accuracy(*quantity, s);
            }
        }
        Kind::Phase { quantity, .. } => {
            let _ = Theory.accuracy(*quantity, s);
        }
        _ => {}
    });
}

/// The claims under the unchanged theory, weighed once.
#[derive(Clone, Copy)]
struct Whole<'a> {
    honest: &'a [Vec<Claim>],
    weighed: &'a [Vec<Weighed>],
    verdicts: &'a [ClaimVerdict],
    claims: usize,
}

/// The claims of one experiment under a mutant.
struct Changed {
    index: usize,
    claims: Vec<Claim>,
    weighed: Vec<Weighed>,
}

/// What the claims that a mutant changes say of it.
#[derive(Default)]
struct Seen {
    /// The first claim refuted.
    refuted: Option<String>,
    /// The first that is not supported, with its reason.
    open: Option<String>,
    parts: Vec<Part>,
}

impl Seen {
    fn fate(&self) -> Fate {
        if self.refuted.is_some() {
            Fate::Refuted
        } else if self.open.is_some() {
            Fate::Inconclusive
        } else if self.parts.is_empty() {
            Fate::Unseen
        } else {
            Fate::Supported
        }
    }

    /// Whether a comparison moves by at least what the report prints as refutable.
    fn detectable(&self) -> bool {
        let exceeds = |p: &Part| p.deviation.zip(p.refutable).is_some_and(|(d, r)| d >= r);
        self.parts.iter().any(exceeds)
    }
}

impl Whole<'_> {
    /// Judges the family with the claims of some experiments changed.
    fn seen(&self, changed: &[Changed], policy: &Policy) -> Result<Seen, StatsError> {
        let mut family: Vec<(&Claim, &Weighed)> = Vec::new();
        for (i, unchanged) in self.honest.iter().zip(self.weighed).enumerate() {
            let (claims, weighed) = changed
                .iter()
                .find(|c| c.index == i)
                .map_or(unchanged, |c| (&c.claims, &c.weighed));
            family.extend(claims.iter().zip(weighed));
        }
        let judged = decide_weighed(&family, policy)?;
        let find = |list: &[ClaimVerdict], id: &str| list.iter().find(|v| v.id == id).cloned();
        let mut seen = Seen::default();
        for (own, before) in changed
            .iter()
            .flat_map(|c| self.honest[c.index].iter().map(move |before| (c, before)))
        {
            let Some(after) = own.claims.iter().find(|c| c.id == before.id) else {
                let words = || format!("{}: too few cells left to judge", before.id);
                seen.open.get_or_insert_with(words);
                continue;
            };
            if !differs(&before.evidence, &after.evidence) {
                continue;
            }
            let (Some(old), Some(new)) =
                (find(self.verdicts, &before.id), find(&judged, &before.id))
            else {
                continue;
            };
            let largest = shift(&old, &new);
            let verdict = describe_verdict(&new.verdict).replace("**", "");
            match new.verdict {
                Verdict::Refuted => {
                    seen.refuted.get_or_insert_with(|| before.id.clone());
                }
                Verdict::Supported => {}
                Verdict::Inconclusive { .. } => {
                    let of = farthest(&new).map_or_else(String::new, |c| {
                        format!(
                            ", {} {:+.3} ± {:.3}",
                            c.name, c.test.deviation, c.test.standard_error
                        )
                    });
                    let words = || format!("{}: {verdict}{of}", before.id);
                    seen.open.get_or_insert_with(words);
                }
            }
            seen.parts.push(Part {
                id: before.id.clone(),
                verdict,
                deviation: largest.map(|l| l.0),
                refutable: largest.map(|l| l.1),
            });
        }
        Ok(seen)
    }
}

/// The comparison that speaks most against support.
fn farthest(v: &ClaimVerdict) -> Option<&Comparison> {
    v.comparisons
        .iter()
        .max_by(|a, b| a.test.p_equivalent.total_cmp(&b.test.p_equivalent))
}

fn why_supported(parts: &[Part]) -> String {
    let sizes: Vec<String> = parts
        .iter()
        .filter_map(|p| {
            let (deviation, refutable) = (p.deviation?, p.refutable?);
            Some(format!(
                "{} moves by {deviation:.3}, refutable from {refutable:.3}",
                p.id
            ))
        })
        .collect();
    sizes.join("; ")
}

/// Whether two evidences differ by more than rounding.
fn differs(a: &Evidence, b: &Evidence) -> bool {
    let far = |x: f64, y: f64| (x - y).abs() > 1e-9 * x.abs().max(1.0);
    match (a, b) {
        (Evidence::Law(a), Evidence::Law(b)) => {
            a.exponents.len() != b.exponents.len()
                || a.exponents.iter().zip(&b.exponents).any(|(a, b)| {
                    far(a.estimate.value - a.target, b.estimate.value - b.target)
                        || far(a.margin.value, b.margin.value)
                })
        }
        (Evidence::Formula(a), Evidence::Formula(b)) => {
            far(a.mean.value, b.mean.value) || far(a.sd, b.sd) || a.trends.len() != b.trends.len()
        }
        (Evidence::Accuracy(a), Evidence::Accuracy(b)) => {
            far(a.mean.value, b.mean.value)
                || far(a.scatter.sum_of_squares, b.scatter.sum_of_squares)
                || a.trends.len() != b.trends.len()
                || a.trends
                    .iter()
                    .zip(&b.trends)
                    .any(|(a, b)| far(a.change.value, b.change.value))
        }
        (Evidence::Bound(a), Evidence::Bound(b)) => a
            .tests
            .iter()
            .zip(&b.tests)
            .any(|(a, b)| far(a.excess, b.excess)),
        _ => true,
    }
}

/// The comparison that a mutant moves farthest in units of what is refutable: by how much, and
/// from where it is refutable. Comparisons that the mutant's own margin holds back both ways
/// (pre-asymptotic exponents) could refute nothing and do not take part.
fn shift(old: &ClaimVerdict, new: &ClaimVerdict) -> Option<(f64, f64)> {
    old.comparisons
        .iter()
        .filter_map(|a| {
            let b = new.comparisons.iter().find(|b| b.name == a.name)?;
            b.power.as_ref()?;
            let moved = ((b.estimate - b.target) - (a.estimate - a.target)).abs();
            Some((moved, a.power.as_ref()?.refutable_deviation))
        })
        .max_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)))
}

fn summary(rows: &[Row]) -> Summary {
    let count = |f: &dyn Fn(&Row) -> bool| rows.iter().filter(|r| f(r)).count();
    let of = |fate: Fate| count(&|r| r.verdict == fate);
    Summary {
        mutants: rows.len(),
        refuted: of(Fate::Refuted),
        inconclusive: of(Fate::Inconclusive),
        supported: of(Fate::Supported),
        unseen: of(Fate::Unseen),
        detectable: count(&|r| r.detectable == Some(true)),
        detectable_refuted: count(&|r| r.detectable == Some(true) && r.verdict == Fate::Refuted),
        bounds_kept: count(&|r| r.bound && r.verdict == Fate::Supported),
        defects: count(&|r| r.defect),
    }
}
