//! Which changes are made for which experiment.

use recall_theory::{Setting, registry};

use super::mutant::{Change, DesignSize, Mutant, Site};
use crate::experiment::{Factors, Predictor, Theory, at, noise_of};
use crate::spec::{
    Criterion, Design, Experiment, Exponents, Kind, Quantity, Score, SearchAxis, SweepAxis,
};

/// Changes of a constant.
pub const CONSTANTS: [f64; 3] = [0.7, 1.4, 2.0];
/// Changes of an exponent.
pub const EXPONENTS: [f64; 4] = [-0.5, -0.25, 0.25, 0.5];

/// A mutant with the formula that it changes.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Id of the formula.
    pub formula: String,
    /// The wrong theory.
    pub mutant: Mutant,
}

/// A formula that a claim names and that this experiment offers no place to change.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Untouched {
    /// Id of the formula.
    pub formula: String,
    /// Claim that names it.
    pub claim: String,
    /// Experiment.
    pub experiment: String,
    /// Why.
    pub reason: &'static str,
}

/// The size along which an experiment's accuracies are moved.
fn axis_of(kind: &Kind) -> SearchAxis {
    match kind {
        Kind::Threshold { search, .. } => search.axis,
        Kind::Curves { axis, .. } => match axis {
            SweepAxis::Dim => SearchAxis::Dim,
            SweepAxis::Vocab => SearchAxis::Vocab,
            SweepAxis::Width => SearchAxis::Width,
            SweepAxis::Samples | SweepAxis::Len => SearchAxis::Samples,
        },
        Kind::Phase { x, .. } => *x,
        _ => SearchAxis::Samples,
    }
}

/// Sizes that vary over the design, with their centres.
fn sizes(kind: &Kind, settings: &[Setting]) -> Vec<DesignSize> {
    // A size that is searched is what is predicted, not a factor of the prediction.
    let searched = match kind {
        Kind::Threshold { search, .. } => Some(search.axis),
        Kind::Decoders { .. } => Some(SearchAxis::Samples),
        _ => None,
    };
    sizes_of(settings, searched)
}

/// Sizes that vary over settings, but for one.
fn sizes_of(settings: &[Setting], but: Option<SearchAxis>) -> Vec<DesignSize> {
    if settings.is_empty() {
        return Vec::new();
    }
    let factors = Factors::of(settings, but);
    let all = factors.names.into_iter().zip(factors.value);
    all.map(|(name, value)| {
        let logs: Vec<f64> = settings
            .iter()
            .map(|s| value(s).ln())
            .filter(|x| x.is_finite())
            .collect();
        DesignSize {
            name,
            value,
            centre: (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp(),
        }
    })
    .collect()
}

/// Formula of an accuracy.
fn accuracy_formula(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Attention => "attention.accuracy",
        Quantity::Recall => "recall.accuracy",
        Quantity::Accuracy => "accuracy.end_to_end",
        Quantity::OneStep => "one_step.accuracy",
    }
}

/// Id of a noise term's formula: the models have budgets of their own.
fn term_formula(term: &str, settings: &[Setting]) -> String {
    let budget = match settings.iter().any(|s| s.model.mlp().is_some()) {
        true => "mlp.budget",
        false => "attention",
    };
    format!("{budget}.{term}")
}

/// Settings at which an experiment asks for the noise budget term by term; none if it does not.
fn budget_settings(kind: &Kind, settings: &[Setting]) -> Vec<Setting> {
    match kind {
        // The settings of a search say nothing of the size searched.
        Kind::Threshold { search, .. }
            if matches!(search.criterion, Criterion::NoiseRatio { .. }) =>
        {
            let critical = |s: &Setting| Theory.critical(s, search.axis, search.criterion);
            settings
                .iter()
                .filter_map(|s| {
                    let log = critical(s)?;
                    Some(at(s, search.axis, log.exp().round() as u64))
                })
                .collect()
        }
        Kind::Scores { .. } => settings.to_vec(),
        _ => Vec::new(),
    }
}

/// Noise terms that an experiment can see: those that exist somewhere on its design, the crosstalk
/// of the trigger only where it is part of what is measured.
fn visible_terms(kind: &Kind, settings: &[Setting]) -> Vec<&'static str> {
    let searched = matches!(kind, Kind::Threshold { .. });
    let mut names = terms(&budget_settings(kind, settings));
    names.retain(|term| !searched || *term != "trigger");
    names
}

/// Noise terms that exist somewhere on the design.
fn terms(settings: &[Setting]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for s in settings {
        for &(name, variance) in &noise_of(s).terms {
            if variance > 0.0 && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

const THROUGH_TERMS: &str = "changed term by term";
const ORDER_ONLY: &str = "sorts points and cells on maps; no verdict rests on it";
const FINITE_ONLY: &str =
    "leading form of the finite-size formula, which is what this experiment tests";
const THROUGH: &str = "enters through a formula that is changed as a whole";

/// A formula's id and where it can be changed.
type Place = (String, Site);

/// A formula's id and why it is not changed.
type Reasoned = (&'static str, &'static str);

/// Places at which formulas can be changed, and why the others cannot.
fn places(
    experiment: &Experiment,
    design: &Design,
    settings: &[Setting],
) -> (Vec<Place>, Vec<Reasoned>) {
    let named = registry::claim(&experiment.claim).map_or(&[][..], |c| c.formula_ids);
    let mut places: Vec<Place> = Vec::new();
    match &experiment.kind {
        Kind::Threshold { search, .. } => match search.criterion {
            Criterion::NoiseRatio { .. } => {
                places.push(("thresholds.noise_ratio".into(), Site::Prediction));
            }
            Criterion::Accuracy { quantity, .. } => {
                places.push((accuracy_formula(quantity).into(), Site::Prediction));
            }
        },
        Kind::Scores { quantities, .. } => {
            if quantities.contains(&Score::Spread) {
                places.push(("attention.budget".into(), Site::Spread));
            }
        }
        Kind::Curves { quantities, .. } => {
            if let Some(&quantity) = quantities.first() {
                places.extend(accuracy_places(quantity));
            }
        }
        Kind::Phase { quantity, .. } => places.extend(accuracy_places(*quantity)),
        Kind::Bound { oracle, .. } => {
            places.push(("lower_bound.accuracy".into(), Site::AccuracyBound));
            if !oracle.is_empty() {
                places.push(("lower_bound.noisy_oracle".into(), Site::OracleBound));
            }
        }
        Kind::Decoders { .. } => {
            places.push(("lower_bound.accuracy".into(), Site::AccuracyBound));
            places.push(("whitened.samples".into(), Site::Whitened));
        }
        Kind::Query { .. } => {
            places.push(("query_bound.snr".into(), Site::QueryNoise));
            places.push(("query_bound.alignment".into(), Site::Alignment));
        }
    }
    for term in visible_terms(&experiment.kind, settings) {
        places.push((term_formula(term, settings), Site::Term(term)));
    }
    let asymptotic = named.iter().find(|id| {
        id.starts_with("thresholds.")
            && !["thresholds.noise_ratio", "thresholds.regime"].contains(id)
    });
    if let (Some(id), Some(_)) = (asymptotic, &design.asymptotic) {
        places.push(((*id).to_owned(), Site::Asymptotic));
    }
    let untouched = named
        .iter()
        .filter(|id| !places.iter().any(|(formula, _)| formula == *id))
        .map(|id| {
            let reason = match *id {
                "attention.budget" | "mlp.budget"
                    if places.iter().any(|p| matches!(p.1, Site::Term(_))) =>
                {
                    THROUGH_TERMS
                }
                "thresholds.regime" => ORDER_ONLY,
                id if id.starts_with("thresholds.") => FINITE_ONLY,
                _ => THROUGH,
            };
            (*id, reason)
        })
        .collect();
    (places, untouched)
}

fn accuracy_places(quantity: Quantity) -> Vec<Place> {
    let mut places = vec![(accuracy_formula(quantity).to_owned(), Site::Prediction)];
    if quantity == Quantity::Accuracy {
        for part in [Quantity::Attention, Quantity::Recall] {
            places.push((accuracy_formula(part).to_owned(), Site::Component(part)));
        }
    }
    places
}

fn stated(law: &Exponents, name: &str) -> Option<f64> {
    match name {
        "d" => law.dim,
        "L" => law.len,
        "V" => law.vocab,
        "m" => law.width,
        _ => law.samples,
    }
}

/// All mutants of an experiment, and the formulas that it leaves alone.
#[must_use]
pub fn plan(
    experiment: &Experiment,
    design: &Design,
    settings: &[Setting],
) -> (Vec<Planned>, Vec<Untouched>) {
    let axis = axis_of(&experiment.kind);
    let sizes = sizes(&experiment.kind, settings);
    let (places, left) = places(experiment, design, settings);
    let mut mutants = Vec::new();
    for (formula, site) in places {
        let mut changes: Vec<Change> = Vec::new();
        if site != Site::Asymptotic {
            changes.extend(CONSTANTS.map(Change::Constant));
        }
        for &size in &sizes {
            let law = design.asymptotic.as_ref();
            if site == Site::Asymptotic && law.and_then(|l| stated(l, size.name)).is_none() {
                continue;
            }
            changes.extend(EXPONENTS.map(|by| Change::Exponent { size, by }));
            if site != Site::Asymptotic {
                changes.extend([true, false].map(|times| Change::Log { size, times }));
            }
        }
        if matches!(site, Site::Term(_)) {
            changes.push(Change::Dropped);
        }
        mutants.extend(changes.into_iter().map(|change| Planned {
            formula: formula.clone(),
            mutant: Mutant { site, change, axis },
        }));
    }
    let untouched = left
        .into_iter()
        .map(|(formula, reason)| Untouched {
            formula: formula.to_owned(),
            claim: experiment.claim.clone(),
            experiment: experiment.id.clone(),
            reason,
        })
        .collect();
    (mutants, untouched)
}

/// A change to one noise term, made in all experiments that see the term at once.
#[derive(Debug, Clone)]
pub struct PlannedTerm {
    /// Id of the formula.
    pub formula: String,
    /// Name of the term.
    pub term: &'static str,
    /// The changes; exponents and logarithms leave the formula as it is at one place, the geometric
    /// mean of all settings at which an experiment asks for the term.
    pub changes: Vec<Change>,
    /// Which experiments see it.
    pub experiments: Vec<usize>,
}

/// Every noise term with its changes over a whole report.
#[must_use]
pub fn plan_terms(experiments: &[(&Experiment, Vec<Setting>)]) -> Vec<PlannedTerm> {
    let mut found: Vec<(PlannedTerm, Vec<Setting>)> = Vec::new();
    for (index, (experiment, settings)) in experiments.iter().enumerate() {
        let asked = budget_settings(&experiment.kind, settings);
        for term in visible_terms(&experiment.kind, settings) {
            let formula = term_formula(term, settings);
            let known = found.iter().position(|(p, _)| p.formula == formula);
            let slot = known.unwrap_or_else(|| {
                let planned = PlannedTerm {
                    formula,
                    term,
                    changes: Vec::new(),
                    experiments: Vec::new(),
                };
                found.push((planned, Vec::new()));
                found.len() - 1
            });
            found[slot].0.experiments.push(index);
            found[slot].1.extend(asked.iter().filter(|s| {
                let noise = noise_of(s);
                noise
                    .terms
                    .iter()
                    .any(|(name, v)| *name == term && *v > 0.0)
            }));
        }
    }
    found
        .into_iter()
        .map(|(planned, settings)| {
            let mut changes = CONSTANTS.map(Change::Constant).to_vec();
            changes.push(Change::Dropped);
            for size in sizes_of(&settings, None) {
                changes.extend(EXPONENTS.map(|by| Change::Exponent { size, by }));
                changes.extend([true, false].map(|times| Change::Log { size, times }));
            }
            PlannedTerm { changes, ..planned }
        })
        .collect()
}
