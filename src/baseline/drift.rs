//! Whether a run differs from a baseline by more than chance. Derivation in `drift.md`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Baseline, Cell, Number, Summary, Trials};
use crate::stats::StatsError;
use crate::stats::distribution::t_upper_tail;
use crate::stats::multiplicity::holm;
use crate::stats::verdict::Verdict;

/// Probability of calling anything a drift when nothing has changed.
pub const ALPHA: f64 = 0.01;

/// Numbers closer than this, relatively, count as the same: kernels of different CPU types agree
/// to 1e-10.
const SAME: f64 = 1e-9;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// Mean of one cell over seeds.
    Cell,
    /// Mean over the cells of a block.
    Block,
    /// Critical value.
    Threshold,
    /// Exponent or constant.
    Exponent,
}

/// How chance enters a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Seed by seed: both runs did the same jobs.
    Paired,
    /// Some jobs are common.
    PartlyPaired,
    /// No job in common, or not known trial by trial.
    Independent,
    /// The records are the same: no chance at all, any difference is a change of the program.
    SameRecords,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Test {
    /// Experiment id.
    pub experiment: String,
    /// Kind of number.
    pub subject: Subject,
    /// The number.
    pub name: String,
    /// In the baseline.
    pub before: f64,
    /// Now.
    pub now: f64,
    /// Now less before.
    pub difference: f64,
    /// Its standard error, from both runs.
    pub standard_error: f64,
    /// Degrees of freedom; absent for the normal law.
    pub df: Option<f64>,
    /// How chance enters.
    pub basis: Basis,
    /// Two-sided p-value of no difference.
    pub p: f64,
    /// The same after Holm's correction over all comparisons.
    pub p_adjusted: f64,
}

impl Test {
    /// Whether it is a drift at [`ALPHA`] over all comparisons.
    #[must_use]
    pub fn drifted(&self) -> bool {
        self.p_adjusted <= ALPHA
    }
}

/// A verdict that is not what it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictChange {
    /// Claim.
    pub claim: String,
    /// Before; absent for a new claim.
    pub before: Option<Verdict>,
    /// Now; absent for a claim that is gone.
    pub now: Option<Verdict>,
    /// Whether the records behind it are the same, so that the program or the experiment file has
    /// changed the verdict, and not chance.
    pub same_records: bool,
}

/// A run beside a baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// All comparisons, in the order of the baseline.
    pub tests: Vec<Test>,
    /// Verdicts that changed, claims that came and went.
    pub verdicts: Vec<VerdictChange>,
    /// What stands on one side only, or is censored on one side.
    pub not_compared: Vec<String>,
    /// Trials (per quantity) that both runs have.
    pub shared_trials: usize,
    /// How many of them have another outcome.
    pub changed_trials: usize,
}

impl Drift {
    /// Comparisons that show a drift.
    pub fn drifted(&self) -> impl Iterator<Item = &Test> {
        self.tests.iter().filter(|t| t.drifted())
    }

    /// Whether anything differs by more than chance: a drifted number, or a verdict that changed
    /// on the same records.
    #[must_use]
    pub fn found(&self) -> bool {
        self.drifted().next().is_some() || self.verdicts.iter().any(VerdictChange::certain)
    }
}

impl VerdictChange {
    /// Whether chance is ruled out as the cause.
    #[must_use]
    pub fn certain(&self) -> bool {
        self.same_records && self.before.is_some() && self.now.is_some()
    }
}

/// Difference of two means with its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Difference {
    value: f64,
    standard_error: f64,
    df: Option<f64>,
    basis: Basis,
}

impl Difference {
    /// Two-sided p-value of zero; 1 for no difference at all.
    fn p(&self) -> f64 {
        if self.value == 0.0 {
            return 1.0;
        }
        let t = self.value.abs() / self.standard_error;
        (2.0 * t_upper_tail(t, self.df)).min(1.0)
    }
}

/// Compares a run with a baseline.
///
/// # Errors
/// If a p-value is not a number, which checked baselines cannot give.
pub fn compare(before: &Baseline, now: &Baseline) -> Result<Drift, StatsError> {
    let mut drift = Drift {
        tests: Vec::new(),
        verdicts: Vec::new(),
        not_compared: Vec::new(),
        shared_trials: 0,
        changed_trials: 0,
    };
    for b in &before.experiments {
        match now.experiments.iter().find(|n| n.id == b.id) {
            Some(n) => drift.experiment(b, n),
            None => {
                drift
                    .not_compared
                    .push(format!("{}: the experiment is gone", b.id));
                drift.claims(Some(b), None, false);
            }
        }
    }
    for n in &now.experiments {
        if !before.experiments.iter().any(|b| b.id == n.id) {
            drift
                .not_compared
                .push(format!("{}: the experiment is new", n.id));
            drift.claims(None, Some(n), false);
        }
    }
    let p: Vec<f64> = drift.tests.iter().map(|t| t.p).collect();
    for (test, adjusted) in drift.tests.iter_mut().zip(holm(&p)?) {
        test.p_adjusted = adjusted;
    }
    Ok(drift)
}

impl Drift {
    fn experiment(&mut self, before: &Summary, now: &Summary) {
        let same = before.outcomes == now.outcomes;
        self.cells(before, now);
        self.numbers(
            &before.id,
            Subject::Threshold,
            (&before.thresholds, &now.thresholds),
            same,
        );
        self.numbers(
            &before.id,
            Subject::Exponent,
            (&before.exponents, &now.exponents),
            same,
        );
        self.claims(Some(before), Some(now), same);
    }

    fn push(
        &mut self,
        experiment: &str,
        subject: Subject,
        name: String,
        (before, now): (f64, f64),
        d: Difference,
    ) {
        let p = d.p();
        self.tests.push(Test {
            experiment: experiment.to_owned(),
            subject,
            name,
            before,
            now,
            difference: d.value,
            standard_error: d.standard_error,
            df: d.df,
            basis: d.basis,
            p,
            p_adjusted: p,
        });
    }

    fn cells(&mut self, before: &Summary, now: &Summary) {
        let known: BTreeMap<String, &Cell> = now.cells.iter().map(|c| (place(c), c)).collect();
        let (mut missing, mut levels) = (0, 0);
        let mut blocks: BTreeMap<String, Vec<(&Cell, &Cell)>> = BTreeMap::new();
        for b in &before.cells {
            let Some(&n) = known.get(&place(b)) else {
                if b.block.is_some() {
                    missing += 1;
                } else {
                    levels += 1;
                }
                continue;
            };
            if b.block.is_none() && b.trials.seeds != n.trials.seeds {
                // The trials themselves placed the level: on other seeds it says nothing by itself.
                levels += 1;
                continue;
            }
            let (shared, changed) = common(&b.trials, &n.trials);
            self.shared_trials += shared;
            self.changed_trials += changed;
            let means = (mean(&b.trials.values), mean(&n.trials.values));
            if let Some(d) = difference(&b.trials, &n.trials) {
                self.push(&before.id, Subject::Cell, b.label(), means, d);
            }
            // Accuracies share a scale; sizes of scores do not, and their mean would be the largest.
            if let (Some(block), Some(_)) = (b.block, b.trials.answers) {
                blocks
                    .entry(format!("{block} {}", b.quantity.name()))
                    .or_default()
                    .push((b, n));
            }
        }
        for cells in blocks.values() {
            let [(first, _), _, ..] = cells[..] else {
                continue; // one cell speaks for itself
            };
            let (old, new): (Vec<_>, Vec<_>) =
                cells.iter().map(|(b, n)| (&b.trials, &n.trials)).unzip();
            if let (Some(old), Some(new)) = (block_mean(&old), block_mean(&new))
                && let Some(d) = difference(&old, &new)
            {
                let name = format!(
                    "block {} ({} cells from V = {}, L = {}): mean {}",
                    first.block.map_or(0, |b| b + 1),
                    cells.len(),
                    first.config.vocab,
                    first.config.len,
                    first.quantity.name()
                );
                let means = (mean(&old.values), mean(&new.values));
                self.push(&before.id, Subject::Block, name, means, d);
            }
        }
        if missing > 0 {
            self.not_compared
                .push(format!("{}: {missing} cells are gone", before.id));
        }
        if levels > 0 {
            self.not_compared.push(format!(
                "{}: {levels} levels of searches, placed or seeded otherwise (their critical values are compared)",
                before.id
            ));
        }
        let fresh = now.cells.iter().filter(|c| c.block.is_some()).count() as i64
            - before.cells.iter().filter(|c| c.block.is_some()).count() as i64
            + missing;
        if fresh > 0 {
            self.not_compared
                .push(format!("{}: {fresh} cells are new", before.id));
        }
    }

    fn numbers(
        &mut self,
        experiment: &str,
        subject: Subject,
        (before, now): (&[Number], &[Number]),
        same: bool,
    ) {
        for b in before {
            let Some(n) = now.iter().find(|n| n.name == b.name) else {
                self.not_compared
                    .push(format!("{experiment}: {} is gone", b.name));
                continue;
            };
            let (Some(x), Some(y)) = (b.value, n.value) else {
                if b.value.is_some() != n.value.is_some() {
                    let (was, is) = if b.value.is_some() {
                        ("estimated", "censored")
                    } else {
                        ("censored", "estimated")
                    };
                    self.not_compared
                        .push(format!("{experiment}: {} was {was}, is {is}", b.name));
                }
                continue;
            };
            let value = if close(x, y) { 0.0 } else { y - x };
            let parts =
                [(b.standard_error, b.df), (n.standard_error, n.df)].map(|(se, df)| (se * se, df));
            let d = if same {
                Difference {
                    value,
                    standard_error: 0.0,
                    df: None,
                    basis: Basis::SameRecords,
                }
            } else {
                Difference {
                    value,
                    standard_error: parts.iter().map(|p| p.0).sum::<f64>().sqrt(),
                    df: satterthwaite(&parts),
                    basis: Basis::Independent,
                }
            };
            self.push(experiment, subject, b.name.clone(), (x, y), d);
        }
        for n in now {
            if !before.iter().any(|b| b.name == n.name) {
                self.not_compared
                    .push(format!("{experiment}: {} is new", n.name));
            }
        }
    }

    fn claims(&mut self, before: Option<&Summary>, now: Option<&Summary>, same_records: bool) {
        let none = BTreeMap::new();
        let before = before.map_or(&none, |s| &s.verdicts);
        let now = now.map_or(&none, |s| &s.verdicts);
        let ids: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        for id in ids {
            let (b, n) = (before.get(id), now.get(id));
            // The numbers inside a reason always move a little.
            let kind = |v: &Verdict| std::mem::discriminant(v);
            if b.map(kind) != n.map(kind) {
                self.verdicts.push(VerdictChange {
                    claim: id.clone(),
                    before: b.cloned(),
                    now: n.cloned(),
                    same_records,
                });
            }
        }
    }
}

fn place(c: &Cell) -> String {
    format!("{:?} {}", c.block, c.key())
}

fn close(x: f64, y: f64) -> bool {
    (x - y).abs() <= SAME * x.abs().max(y.abs())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample variance; `None` for fewer than two values.
fn variance(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    Some(squares / (values.len() - 1) as f64)
}

/// Values of the seeds that both have, as pairs.
fn pairs(before: &Trials, now: &Trials) -> Vec<(f64, f64)> {
    let known = before.seeds.iter().zip(&before.values);
    known
        .filter_map(|(seed, &x)| {
            let at = now.seeds.binary_search(seed).ok()?;
            let y = now.values[at];
            Some((x, if close(x, y) { x } else { y }))
        })
        .collect()
}

/// Number of common seeds, and of those with another outcome.
fn common(before: &Trials, now: &Trials) -> (usize, usize) {
    let pairs = pairs(before, now);
    (pairs.len(), pairs.iter().filter(|(x, y)| x != y).count())
}

/// Mean over cells, seed by seed, over the seeds that all cells have: it is the seeds that are
/// replicated, and paired designs share draws across cells.
fn block_mean(cells: &[&Trials]) -> Option<Trials> {
    let (first, rest) = cells.split_first()?;
    let mut out = Trials {
        answers: cells
            .iter()
            .map(|c| c.answers)
            .try_fold(0u64, |sum, answers| Some(sum.saturating_add(answers?))),
        ..Trials::default()
    };
    for (seed, &x) in first.seeds.iter().zip(&first.values) {
        let others: Option<f64> = rest
            .iter()
            .map(|c| Some(c.values[c.seeds.binary_search(seed).ok()?]))
            .sum();
        if let Some(others) = others {
            out.seeds.push(*seed);
            out.values.push((x + others) / cells.len() as f64);
        }
    }
    (!out.seeds.is_empty()).then_some(out)
}

/// Satterthwaite's degrees of freedom of a sum of independent variance estimates.
fn satterthwaite(parts: &[(f64, Option<f64>)]) -> Option<f64> {
    let total: f64 = parts.iter().map(|p| p.0).sum();
    let spread: f64 = parts
        .iter()
        .filter_map(|(v, df)| Some(v * v / (*df)?))
        .sum();
    (spread > 0.0).then(|| total * total / spread)
}

/// Difference of two means over seeds, of which any number may be common. `None` if a side has
/// fewer than two trials, so that its scatter is not known.
fn difference(before: &Trials, now: &Trials) -> Option<Difference> {
    let (n, m) = (before.values.len() as f64, now.values.len() as f64);
    let (v, w) = (variance(&before.values)?, variance(&now.values)?);
    // The answers of a trial are at least as random as coins of the same bias.
    let floor = before.answers.map_or(0.0, |answers| {
        let a = answers as f64;
        let all = a * (n + m);
        let hits = a * (before.values.iter().sum::<f64>() + now.values.iter().sum::<f64>());
        let rate = ((hits + 1.0) / (all + 2.0)).clamp(0.0, 1.0);
        rate * (1.0 - rate) / a
    });
    let (v, w) = (v.max(floor), w.max(floor));

    let pairs = pairs(before, now);
    let shared = pairs.len() as f64;
    let shares: Vec<f64> = pairs.iter().map(|(x, y)| y / m - x / n).collect();
    let only = |a: &Trials, b: &Trials| -> f64 {
        let alone = a.seeds.iter().zip(&a.values);
        alone
            .filter(|(seed, _)| b.seeds.binary_search(seed).is_err())
            .map(|(_, x)| x)
            .sum()
    };
    let value = shares.iter().sum::<f64>() + only(now, before) / m - only(before, now) / n;

    let mut parts = vec![
        ((n - shared) * v / (n * n), Some(n - 1.0)),
        ((m - shared) * w / (m * m), Some(m - 1.0)),
    ];
    match variance(&shares) {
        Some(s) => {
            // Answers that differ are at least as scattered as rare events.
            let apart = mean(&pairs.iter().map(|(x, y)| (x - y).abs()).collect::<Vec<_>>());
            let rare = before.answers.map_or(0.0, |a| apart / a as f64 / (n * m));
            parts.push((shared * s.max(rare), Some(shared - 1.0)));
        }
        None if shared > 0.0 => {
            // One common seed shows no scatter: bounded by perfect anticorrelation.
            let most = (v.sqrt() / n + w.sqrt() / m).powi(2);
            parts.push((most, Some(n.min(m) - 1.0)));
        }
        None => {}
    }
    let basis = if shared == n && shared == m {
        Basis::Paired
    } else if shared > 0.0 {
        Basis::PartlyPaired
    } else {
        Basis::Independent
    };
    Some(Difference {
        value,
        standard_error: parts.iter().map(|p| p.0).sum::<f64>().sqrt(),
        df: satterthwaite(&parts),
        basis,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trials(first_seed: u64, values: &[f64], answers: Option<u64>) -> Trials {
        Trials {
            seeds: (first_seed..).take(values.len()).collect(),
            values: values.to_vec(),
            answers,
        }
    }

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} {b}");
    }

    #[test]
    fn without_common_seeds_it_is_welchs_test() {
        // Means 2 and 5; variances 1 and 4; 3 and 5 values.
        let a = trials(0, &[1.0, 2.0, 3.0], None);
        let b = trials(10, &[3.0, 4.0, 4.0, 6.0, 8.0], None);
        let d = difference(&a, &b).unwrap();
        near(d.value, 3.0);
        near(d.standard_error.powi(2), 1.0 / 3.0 + 4.0 / 5.0);
        let welch = (1.0f64 / 3.0 + 4.0 / 5.0).powi(2)
            / ((1.0f64 / 3.0).powi(2) / 2.0 + (4.0f64 / 5.0).powi(2) / 4.0);
        near(d.df.unwrap(), welch);
        assert_eq!(d.basis, Basis::Independent);
    }

    #[test]
    fn with_all_seeds_in_common_it_is_the_paired_test() {
        let a = trials(0, &[1.0, 2.0, 3.0, 5.0], None);
        let b = trials(0, &[1.5, 2.4, 3.8, 5.1], None);
        // Differences .5, .4, .8, .1: mean .45, variance .25/3.
        let d = difference(&a, &b).unwrap();
        near(d.value, 0.45);
        near(d.standard_error.powi(2), 0.25 / 3.0 / 4.0);
        near(d.df.unwrap(), 3.0);
        assert_eq!(d.basis, Basis::Paired);
    }

    #[test]
    fn the_same_trials_differ_by_nothing_however_many_are_added() {
        let a = trials(0, &[0.5, 0.25, 0.75], Some(16));
        let d = difference(&a, &a).unwrap();
        assert_eq!((d.value, d.p()), (0.0, 1.0));
        // Three of six seeds in common: only half of the baseline's scatter enters.
        let more = trials(0, &[0.5, 0.25, 0.75, 0.5, 0.25, 0.75], Some(16));
        let d = difference(&a, &more).unwrap();
        near(d.value, 0.0);
        assert_eq!(d.basis, Basis::PartlyPaired);
        let apart = trials(10, &more.values, Some(16));
        assert!(d.standard_error < 0.8 * difference(&a, &apart).unwrap().standard_error);
    }

    #[test]
    fn equal_counts_by_chance_are_no_proof() {
        // 63 of 64 twice against 64 of 64 twice: no scatter seen, but coins would scatter.
        let a = trials(0, &[63.0 / 64.0; 2], Some(64));
        let b = trials(10, &[1.0; 2], Some(64));
        assert!(difference(&a, &b).unwrap().p() > 0.05);
        // On the same seeds one turned answer each is no proof either, twenty are.
        let c = trials(0, &[1.0; 2], Some(64));
        assert!(difference(&a, &c).unwrap().p() > 0.05);
        let far = trials(0, &[20.0 / 64.0; 2], Some(64));
        assert!(difference(&c, &far).unwrap().p() < 0.1);
    }

    #[test]
    fn rounding_is_no_difference() {
        let a = trials(0, &[0.1, 0.2, 0.3], None);
        let b = trials(
            0,
            &a.values
                .iter()
                .map(|x| x * (1.0 + 1e-10))
                .collect::<Vec<_>>(),
            None,
        );
        assert_eq!(difference(&a, &b).unwrap().p(), 1.0);
        assert_eq!(common(&a, &b), (3, 0));
    }

    #[test]
    fn a_block_is_averaged_seed_by_seed() {
        let a = trials(3, &[1.0, 2.0, 3.0], Some(10));
        let b = trials(4, &[4.0, 6.0, 8.0], Some(20));
        let mean = block_mean(&[&a, &b]).unwrap();
        assert_eq!(
            mean,
            Trials {
                seeds: vec![4, 5],
                values: vec![3.0, 4.5],
                answers: Some(30)
            }
        );
    }

    #[test]
    fn one_trial_has_no_scatter_and_is_not_judged() {
        let one = trials(0, &[0.5], Some(10));
        assert!(difference(&one, &trials(5, &[0.1, 0.2], Some(10))).is_none());
    }
}
