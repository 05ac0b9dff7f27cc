//! What the suite would have said of a wrong formula.
//!
//! Every formula that a claim rests on is changed, one change at a time, from outside: the wrong
//! theory answers in place of the right one ([`crate::experiment::Predictor`]) in every experiment
//! that asks for the formula, stored measurements are set beside it, and the whole family of claims
//! is judged again. Searches stay where the right theory has placed them. Nothing is simulated. See
//! `docs/mutation-formulas.md`.

mod mutant;
mod plan;
mod reach;

use recall_theory::Setting;
use serde::Serialize;

pub use mutant::{Change, DesignSize, Mutant, Site};
pub use plan::{CONSTANTS, EXPONENTS, Planned, Untouched, Used, plan, plan_alone};
pub use reach::Reach;

use crate::experiment::{AnalysisError, Measured, Predictor, Records, Theory, for_each, measure};
use crate::report::describe_verdict;
use crate::spec::{Design, Experiment, Kind, Profile};
use crate::stats::StatsError;
use crate::stats::power::refutation_power;
use crate::stats::verdict::{
    Claim, ClaimVerdict, Comparison, Evidence, Policy, Verdict, Weighed, decide, decide_weighed,
    weigh,
};

/// What became of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// At least one of the claims that see it is refuted.
    Refuted,
    /// None is refuted, but not all are supported.
    Inconclusive,
    /// All claims that see it are supported.
    Supported,
    /// No claim sees it.
    Unseen,
}

/// One claim that sees a mutant.
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
    /// Probability that this comparison refutes a formula that is off by that change, with the
    /// standard error that it has beside the wrong formula.
    pub power: Option<f64>,
}

impl Part {
    /// Change in units of what is refutable.
    fn relative(&self) -> Option<f64> {
        Some(self.deviation? / self.refutable?)
    }
}

/// One mutant and its verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Formula changed.
    pub formula: String,
    /// The change.
    pub mutation: String,
    /// For an accuracy: the size that the change multiplies, at which the accuracy is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub along: Option<&'static str>,
    /// Claim of the report that decided: the refuted one with the smallest p-value; if none is, the
    /// open one that comes nearest to it; if all are supported, the one that moves farthest.
    pub claim: String,
    /// Experiments whose claims rest on the formula.
    pub experiments: Vec<String>,
    /// What became of it.
    pub verdict: Fate,
    /// Whether the change exceeds the smallest deviation that the report prints as refutable;
    /// absent for a bound, for which it prints none.
    pub detectable: Option<bool>,
    /// Largest probability, over the claims that see it, with which one refutes such a change.
    pub power: Option<f64>,
    /// Whether the formula is a bound.
    pub bound: bool,
    /// Supported though it must not be: the change is gross and to no mere term of a sum, or it is
    /// detectable.
    pub defect: bool,
    /// Why it is not refuted, empty where it is.
    pub reason: String,
    /// The claims that see it.
    pub parts: Vec<Part>,
}

/// Counts over mutants.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
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
    /// How many of them are expected to be, by the power of the claim that sees each best.
    pub detectable_expected: f64,
    /// Supported ones of bounds: a bound says that nothing exceeds it, not that it is reached.
    pub bounds_kept: usize,
    /// Supported ones that must not be.
    pub defects: usize,
}

/// Mutants with their counts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// One row for each mutant.
    pub mutants: Vec<Row>,
    /// Counts.
    pub summary: Summary,
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
    /// One row for each change of each formula, term of a budget or part of an accuracy, judged by
    /// all claims of the report.
    #[serde(flatten)]
    pub report: Table,
    /// Whole formulas once more, each experiment left to itself: whether the claims of this
    /// experiment alone would have supported a wrong formula.
    pub alone: Table,
    /// From where on a wrong constant of a noise term is detectable.
    pub reach: Vec<Reach>,
    /// Formulas named by claims that an experiment offers no place to change.
    pub untouched: Vec<Untouched>,
    /// Experiments without records.
    pub skipped: Vec<Skipped>,
}

impl Outcome {
    /// Mutants supported though they must not be, by the report or by an experiment alone.
    #[must_use]
    pub fn defects(&self) -> usize {
        self.report.summary.defects + self.alone.summary.defects
    }
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
        let used: Vec<Used> = self
            .experiments
            .iter()
            .zip(settings)
            .map(|((experiment, design, _), settings)| (experiment, design, settings))
            .collect();
        let (planned, untouched) = plan(&used);
        let alone: Vec<Planned> = used
            .iter()
            .enumerate()
            .flat_map(|(i, used)| plan_alone(i, used))
            .collect();
        Ok(Outcome {
            profile: self.profile,
            report: self.table(&planned, &whole, &policy),
            alone: self.table(&alone, &whole, &policy),
            reach: self.reach(&planned, &whole, &policy),
            untouched,
            skipped: self.skipped.clone(),
        })
    }

    fn table(&self, planned: &[Planned], whole: &Whole, policy: &Policy) -> Table {
        let tasks: Vec<(&Planned, Change)> = planned
            .iter()
            .flat_map(|p| p.changes.iter().map(move |c| (p, *c)))
            .collect();
        let mutants: Vec<Row> = for_each(&tasks, |(planned, change)| {
            self.judge(planned, *change, whole, policy)
        });
        Table {
            summary: summary(&mutants),
            mutants,
        }
    }

    /// The claims of one experiment under a mutant, weighed.
    fn changed(
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

    fn judge(&self, planned: &Planned, change: Change, whole: &Whole, policy: &Policy) -> Row {
        let mutant = planned.mutant(change);
        let id = |i: &usize| self.experiments[*i].0.id.clone();
        let bound = planned.site.is_bound();
        let mut row = Row {
            formula: planned.formula.clone(),
            mutation: change.describe(),
            along: planned.along(),
            claim: planned.experiments.first().map(id).unwrap_or_default(),
            experiments: planned.experiments.iter().map(id).collect(),
            verdict: Fate::Inconclusive,
            detectable: (!bound).then_some(false),
            power: None,
            bound,
            defect: false,
            reason: String::new(),
            parts: Vec::new(),
        };
        // A wrong theory that has no predictions for an experiment is not supported by it; the
        // claims stay in the family as they are.
        let mut without = None;
        let mut changed = Vec::new();
        for &index in &planned.experiments {
            match self.changed(index, &mutant, whole.claims, policy) {
                Ok(one) => changed.push(one),
                Err(e) => {
                    let words = || (id(&index), format!("{}: no verdict: {e}", id(&index)));
                    without.get_or_insert_with(words);
                }
            }
        }
        let seen = match whole.seen(&changed, policy) {
            Ok(seen) => seen,
            Err(e) => {
                row.reason = format!("no verdict: {e}");
                return row;
            }
        };
        row.detectable = row.detectable.map(|_| seen.detectable());
        row.power = seen.parts.iter().filter_map(|p| p.power).reduce(f64::max);
        (row.verdict, row.claim, row.reason) = match (seen.refuted, seen.open.or(without)) {
            (Some((claim, _)), _) => (Fate::Refuted, claim, String::new()),
            (None, Some((claim, reason))) => (Fate::Inconclusive, claim, reason),
            (None, None) => match farthest(&seen.parts) {
                None => (
                    Fate::Unseen,
                    row.claim,
                    "no number that a claim rests on changes".to_owned(),
                ),
                Some(part) => (Fate::Supported, part.id.clone(), why_supported(part, bound)),
            },
        };
        row.parts = seen.parts;
        // A term of a sum may be too small for any claim to notice.
        let formula = !matches!(planned.site, Site::Term(_));
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
    /// The refuted claim with the smallest p-value, with that.
    refuted: Option<(String, f64)>,
    /// Of the others that are not supported, the nearest to refutation, with its reason.
    open: Option<(String, String)>,
    parts: Vec<Part>,
}

impl Seen {
    /// Whether a comparison moves by at least what the report prints as refutable.
    fn detectable(&self) -> bool {
        let exceeds = |p: &Part| p.relative().is_some_and(|r| r >= 1.0);
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
        let mut nearest = f64::INFINITY;
        for (own, before) in changed
            .iter()
            .flat_map(|c| self.honest[c.index].iter().map(move |before| (c, before)))
        {
            let Some(after) = own.claims.iter().find(|c| c.id == before.id) else {
                let words = || format!("{}: too few cells left to judge", before.id);
                seen.open
                    .get_or_insert_with(|| (before.id.clone(), words()));
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
            let verdict = describe_verdict(&new.verdict).replace("**", "");
            match new.verdict {
                Verdict::Refuted => {
                    if seen.refuted.as_ref().is_none_or(|r| new.p_refute < r.1) {
                        seen.refuted = Some((before.id.clone(), new.p_refute));
                    }
                }
                Verdict::Supported => {}
                Verdict::Inconclusive { .. } => {
                    if new.p_refute < nearest || seen.open.is_none() {
                        nearest = new.p_refute;
                        let of = against_support(&new).map_or_else(String::new, |c| {
                            format!(
                                ", {} {:+.3} ± {:.3}",
                                c.name, c.test.deviation, c.test.standard_error
                            )
                        });
                        let words = format!("{}: {verdict}{of}", before.id);
                        seen.open = Some((before.id.clone(), words));
                    }
                }
            }
            let largest = shift(&old, &new, policy.alpha / self.claims as f64);
            seen.parts.push(Part {
                id: before.id.clone(),
                verdict,
                deviation: largest.map(|l| l.moved),
                refutable: largest.map(|l| l.refutable),
                power: largest.and_then(|l| l.power),
            });
        }
        Ok(seen)
    }
}

/// The comparison that speaks most against support.
fn against_support(v: &ClaimVerdict) -> Option<&Comparison> {
    v.comparisons
        .iter()
        .max_by(|a, b| a.test.p_equivalent.total_cmp(&b.test.p_equivalent))
}

/// The claim that a change moves farthest in units of what is refutable.
fn farthest(parts: &[Part]) -> Option<&Part> {
    let of = |p: &Part| p.relative().unwrap_or(0.0);
    parts.iter().max_by(|a, b| of(a).total_cmp(&of(b)))
}

/// Why a change is supported, from the claim that it moves farthest.
fn why_supported(part: &Part, bound: bool) -> String {
    match (bound, part.deviation.zip(part.refutable)) {
        (true, _) => "nothing measured exceeds this bound either".into(),
        (false, None) => "no claim that sees it could refute it".into(),
        (false, Some((d, r))) => format!(
            "below detection: at most {} moves by {d:.3}, refutable from {r:.3}",
            part.id
        ),
    }
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

/// By how much a mutant moves a comparison.
#[derive(Debug, Clone, Copy)]
struct Shift {
    moved: f64,
    /// From where on the report prints it as refutable.
    refutable: f64,
    /// Probability of refutation at that deviation.
    power: Option<f64>,
}

/// The comparison that a mutant moves farthest in units of what is refutable, at the level `alpha`
/// of the claim. Comparisons that the mutant's own margin holds back both ways (pre-asymptotic
/// exponents) could refute nothing and do not take part.
fn shift(old: &ClaimVerdict, new: &ClaimVerdict, alpha: f64) -> Option<Shift> {
    let (moved, refutable, test) = old
        .comparisons
        .iter()
        .filter_map(|a| {
            let b = new.comparisons.iter().find(|b| b.name == a.name)?;
            b.power.as_ref()?;
            let moved = ((b.estimate - b.target) - (a.estimate - a.target)).abs();
            Some((moved, a.power.as_ref()?.refutable_deviation, &b.test))
        })
        .max_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)))?;
    let level = alpha / new.comparisons.len() as f64;
    let power = refutation_power(moved, test.margin, test.standard_error, test.df, level);
    Some(Shift {
        moved,
        refutable,
        power: power.ok(),
    })
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
        detectable_expected: rows
            .iter()
            .filter(|r| r.detectable == Some(true))
            .filter_map(|r| r.power)
            .sum(),
        bounds_kept: count(&|r| r.bound && r.verdict == Fate::Supported),
        defects: count(&|r| r.defect),
    }
}
