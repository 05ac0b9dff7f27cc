//! From where on a wrong constant of a noise term would be noticed.

use serde::Serialize;

use super::mutant::{Change, Site};
use super::plan::Planned;
use super::{Bench, Changed, Whole};
use crate::experiment::for_each;
use crate::spec::Kind;
use crate::stats::StatsError;
use crate::stats::verdict::Policy;

/// Factors above and below one that a term's constant is multiplied by to find the smallest that is
/// detectable. The last one below leaves the term out.
const ABOVE: [f64; 10] = [1.05, 1.1, 1.2, 1.4, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];
const BELOW: [f64; 9] = [0.95, 0.9, 0.8, 0.7, 0.5, 0.3, 0.2, 0.1, 0.0];

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

impl Bench {
    /// The reach of every term among the formulas planned.
    pub(super) fn reach(&self, planned: &[Planned], whole: &Whole, policy: &Policy) -> Vec<Reach> {
        let terms: Vec<Planned> = planned
            .iter()
            .filter(|p| matches!(p.site, Site::Term(_)))
            .map(|p| self.ordered(p))
            .collect();
        for_each(&terms, |term| self.reach_of(term, whole, policy))
    }

    /// The same with the experiments in the order of asking: those that look at scores first.
    fn ordered(&self, term: &Planned) -> Planned {
        let mut own = term.clone();
        let late = |i: &usize| !matches!(self.experiments[*i].0.kind, Kind::Scores { .. });
        own.experiments.sort_by_key(late);
        own
    }

    /// Whether any claim is moved by what is refutable; asks experiment after experiment until one
    /// is.
    fn detects(
        &self,
        term: &Planned,
        change: Change,
        whole: &Whole,
        policy: &Policy,
    ) -> Result<bool, StatsError> {
        let mutant = term.mutant(change);
        for &index in &term.experiments {
            let changed: Changed = self.changed(index, &mutant, whole.claims, policy)?;
            if whole.seen(&[changed], policy)?.detectable() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn reach_of(&self, term: &Planned, whole: &Whole, policy: &Policy) -> Reach {
        let detected = |factor: f64| {
            let change = if factor > 0.0 {
                Change::Constant(factor)
            } else {
                Change::Dropped
            };
            self.detects(term, change, whole, policy).unwrap_or(false)
        };
        // A larger change of a constant moves every comparison farther.
        let first = |factors: &[f64]| {
            let at = factors.partition_point(|f| !detected(*f));
            factors.get(at).copied()
        };
        let id = |i: &usize| self.experiments[*i].0.id.clone();
        Reach {
            formula: term.formula.clone(),
            experiments: term.experiments.iter().map(id).collect(),
            above: first(&ABOVE),
            below: first(&BELOW),
        }
    }
}
