//! Noise terms, each changed in all experiments at once.
//!
//! A term is one function that every experiment asks, so that a wrong one is wrong everywhere. The
//! question is whether any claim of the report would have noticed.

use serde::Serialize;

use super::mutant::{Change, Mutant, Site};
use super::plan::PlannedTerm;
use super::{Bench, Changed, Fate, Part, Seen, Whole};
use crate::experiment::for_each;
use crate::spec::{Kind, SearchAxis};
use crate::stats::StatsError;
use crate::stats::verdict::Policy;

/// Factors above and below one that a term's constant is multiplied by to find the smallest that is
/// detectable. The last one below leaves the term out.
const ABOVE: [f64; 10] = [1.05, 1.1, 1.2, 1.4, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];
const BELOW: [f64; 9] = [0.95, 0.9, 0.8, 0.7, 0.5, 0.3, 0.2, 0.1, 0.0];

/// One change of one term over the whole report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TermRow {
    /// Formula of the term.
    pub formula: String,
    /// The change.
    pub mutation: String,
    /// Refuted if any claim is; supported if all claims that see it are.
    pub verdict: Fate,
    /// A claim that is refuted. Experiments that look at single terms are asked first, and none
    /// is asked after the first refutation.
    pub refuted_by: Option<String>,
    /// Whether it moves a claim by at least the deviation that the report prints as refutable;
    /// absent where it is refuted, since not all claims have been asked.
    pub detectable: Option<bool>,
    /// Supported though detectable.
    pub defect: bool,
    /// Why it is not refuted, empty where it is: the claim that comes nearest to it.
    pub reason: String,
}

/// From where on a wrong constant of a term would be noticed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reach {
    /// Formula of the term.
    pub formula: String,
    /// Experiments that see the term.
    pub experiments: Vec<String>,
    /// Smallest factor above one, of those tried, that moves a claim by what is refutable; absent
    /// if even the largest does not.
    pub above: Option<f64>,
    /// Largest factor below one that does; 0 is the term left out.
    pub below: Option<f64>,
}

/// Counts over all changes of terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TermSummary {
    /// All changes.
    pub mutants: usize,
    /// Refuted ones.
    pub refuted: usize,
    /// Inconclusive ones.
    pub inconclusive: usize,
    /// Supported ones: below what any claim detects.
    pub supported: usize,
    /// Those that no claim sees.
    pub unseen: usize,
    /// Supported though detectable.
    pub defects: usize,
}

/// Noise terms over the whole report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Terms {
    /// One row for each change of each term.
    pub mutants: Vec<TermRow>,
    /// One entry for each term.
    pub reach: Vec<Reach>,
    /// Counts.
    pub summary: TermSummary,
}

impl Bench {
    pub(super) fn run_terms(
        &self,
        planned: &[PlannedTerm],
        whole: &Whole,
        policy: &Policy,
    ) -> Terms {
        let planned: Vec<PlannedTerm> = planned.iter().map(|p| self.ordered(p)).collect();
        let tasks: Vec<(&PlannedTerm, Change)> = planned
            .iter()
            .flat_map(|p| p.changes.iter().map(move |c| (p, *c)))
            .collect();
        let mutants: Vec<TermRow> = for_each(&tasks, |(term, change)| {
            self.judge_term(term, *change, whole, policy)
        });
        let reach = for_each(&planned, |term| self.reach(term, whole, policy));
        let of = |fate: Fate| mutants.iter().filter(|r| r.verdict == fate).count();
        Terms {
            summary: TermSummary {
                mutants: mutants.len(),
                refuted: of(Fate::Refuted),
                inconclusive: of(Fate::Inconclusive),
                supported: of(Fate::Supported),
                unseen: of(Fate::Unseen),
                defects: mutants.iter().filter(|r| r.defect).count(),
            },
            mutants,
            reach,
        }
    }

    /// The same with the experiments in the order of asking: those that look at scores first.
    fn ordered(&self, term: &PlannedTerm) -> PlannedTerm {
        let mut own = term.clone();
        let late = |i: &usize| !matches!(self.experiments[*i].0.kind, Kind::Scores { .. });
        own.experiments.sort_by_key(late);
        own
    }

    /// Asks experiment after experiment until `enough`, with all of them in the family that have
    /// been asked.
    fn ask(
        &self,
        term: &PlannedTerm,
        change: Change,
        whole: &Whole,
        policy: &Policy,
        enough: impl Fn(&Seen) -> bool,
    ) -> Result<Seen, StatsError> {
        let mutant = Mutant {
            site: Site::Term(term.term),
            change,
            // Searches over sizes ask for the term itself; no accuracy is moved.
            axis: SearchAxis::Samples,
        };
        let mut changed: Vec<Changed> = Vec::new();
        let mut seen = Seen::default();
        for &index in &term.experiments {
            changed.push(self.weighed(index, &mutant, whole.claims, policy)?);
            seen = whole.seen(&changed, policy)?;
            if enough(&seen) {
                break;
            }
        }
        Ok(seen)
    }

    fn judge_term(
        &self,
        term: &PlannedTerm,
        change: Change,
        whole: &Whole,
        policy: &Policy,
    ) -> TermRow {
        let mut row = TermRow {
            formula: term.formula.clone(),
            mutation: change.describe(),
            verdict: Fate::Inconclusive,
            refuted_by: None,
            detectable: Some(false),
            defect: false,
            reason: String::new(),
        };
        let seen = match self.ask(term, change, whole, policy, |s| s.refuted.is_some()) {
            Ok(seen) => seen,
            Err(e) => {
                row.reason = format!("no verdict: {e}");
                return row;
            }
        };
        row.verdict = seen.fate();
        row.detectable = seen.refuted.is_none().then(|| seen.detectable());
        row.reason = match row.verdict {
            Fate::Refuted => String::new(),
            Fate::Inconclusive => seen.open.unwrap_or_default(),
            Fate::Unseen => "no number that a claim rests on changes".into(),
            Fate::Supported => nearest(&seen.parts),
        };
        row.refuted_by = seen.refuted;
        row.defect = row.verdict == Fate::Supported && row.detectable == Some(true);
        row
    }

    fn reach(&self, term: &PlannedTerm, whole: &Whole, policy: &Policy) -> Reach {
        let detected = |factor: f64| {
            let change = if factor > 0.0 {
                Change::Constant(factor)
            } else {
                Change::Dropped
            };
            let seen = self.ask(term, change, whole, policy, Seen::detectable);
            seen.is_ok_and(|s| s.detectable())
        };
        // A larger change of a constant moves every comparison farther.
        let first = |factors: &[f64]| {
            let at = factors.partition_point(|f| !detected(*f));
            factors.get(at).copied()
        };
        Reach {
            formula: term.formula.clone(),
            experiments: term
                .experiments
                .iter()
                .map(|i| self.experiments[*i].0.id.clone())
                .collect(),
            above: first(&ABOVE),
            below: first(&BELOW),
        }
    }
}

/// The claim that a change moves farthest in units of what is refutable.
fn nearest(parts: &[Part]) -> String {
    let share = |p: &Part| p.deviation.zip(p.refutable).map(|(d, r)| (d / r, d, r));
    let most = parts
        .iter()
        .filter_map(|p| Some((share(p)?, &p.id)))
        .max_by(|a, b| a.0.0.total_cmp(&b.0.0));
    most.map_or_else(
        || "no claim that sees it could refute it".into(),
        |((_, d, r), id)| {
            format!("below detection: at most {id} moves by {d:.3}, refutable from {r:.3}")
        },
    )
}
